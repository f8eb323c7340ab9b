//! What is spent of budgets over kills, full disks, long stops and hand-overs.

use std::path::Path;

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use strait::ledger::entry::{self, Id, Kind};
use strait::ledger::journal;
use strait::mock::Mock;

use crate::KEY;
use crate::common::dialect::Dialect;
use crate::common::{Answer, Strait, eventually, mock};

/// Every answer costs a cent: 100 tokens out at 100 USD a million.
pub const CENT: &str = "[default]\nusage = { prompt_tokens = 10, completion_tokens = 100 }";

/// A gateway of one key, with lines of its table.
pub fn config(provider: &Mock, key: &str) -> String {
    format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        base_url = "{}/v1"
        key = "the-provider-key"
        price = {{ in = 0, out = 100 }}
        [models.fast]
        targets = ["lab/x"]
        retries = {{ max_attempts = 1 }}
        [[keys]]
        name = "team-a"
        key = "{KEY}"
        {key}
        "#,
        provider.url()
    )
}

pub fn post(strait: &Strait, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let authorization = format!("Bearer {KEY}");
    let mut all = vec![
        ("authorization", &*authorization),
        ("x-strait-cache", "no-store"),
    ];
    all.extend_from_slice(headers);
    strait
        .client()
        .post(path, &all, body.to_string().as_bytes())
}

fn ask(strait: &Strait) -> u16 {
    let mut body = Dialect::OpenAi.body("fast", "hi", false);
    body["max_tokens"] = json!(100);
    post(strait, Dialect::OpenAi.path(), &[], &body).status
}

/// What `GET /v1/key` says, with further headers.
pub fn told(strait: &Strait, headers: &[(&str, &str)]) -> Value {
    let authorization = format!("Bearer {KEY}");
    let mut all = vec![("authorization", &*authorization)];
    all.extend_from_slice(headers);
    let told = strait.client().request("GET", "/v1/key", &all, b"");
    assert_eq!(told.status, 200, "{}", told.text());
    told.json()
}

/// In cents, of each budget.
pub fn spent(strait: &Strait) -> Vec<f64> {
    let told = told(strait, &[]);
    let cents = |budget: &Value| {
        let usd = budget["spent_usd"].as_str().unwrap();
        (usd.parse::<f64>().unwrap() * 1e8).round() / 1e6
    };
    told["budgets"]
        .as_array()
        .unwrap()
        .iter()
        .map(cents)
        .collect()
}

/// What is kept, once `holds` of it.
fn kept(strait: &Strait, what: &str, holds: impl Fn(&Value) -> bool) {
    let file = strait.dir.path().join("state/budgets.json");
    eventually(what, || {
        let text = std::fs::read(&file).unwrap_or_default();
        serde_json::from_slice(&text).is_ok_and(|kept: Value| holds(&kept))
    });
}

/// Whether so many cents are kept in all.
fn cents(kept: &Value, cents: u64) -> bool {
    let steps = kept["spent"].as_array().into_iter().flatten();
    let steps = steps.flat_map(|spent| spent["steps"].as_array().unwrap());
    let pico: u64 = steps.filter_map(|step| step[1].as_u64()).sum();
    pico == cents * 10_000_000_000
}

#[test]
fn what_could_not_be_kept_is_charged_from_the_journal_after_a_kill() {
    let provider = mock(CENT);
    let budget = "budget = { usd = 1.0, every = \"ever\" }";
    let mut strait = Strait::start(&config(&provider, budget));
    assert_eq!(ask(&strait), 200);
    kept(&strait, "the first", |kept| cents(kept, 1));
    // As on a full disk: the new file can't be written.
    let beside = strait.dir.path().join("state/budgets.json.new");
    std::fs::create_dir(&beside).unwrap();
    assert_eq!([(); 3].map(|()| ask(&strait)), [200; 3]);
    eventually("it can't be kept", || strait.log().contains("is not kept"));
    // Nothing is spent for a while, and the journal lets go of what is kept.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let erased = strait.admin("DELETE", "/admin/v1/records?user=nobody", "");
    assert_eq!(erased.status, 200, "{}", erased.text());
    strait.signal("KILL");
    strait.wait_exit(std::time::Duration::from_secs(10));
    std::fs::remove_dir(&beside).unwrap();
    strait.restart();
    eventually("all of it is charged", || spent(&strait) == [4.0]);
}

#[test]
fn a_budget_is_charged_with_nothing_that_was_spent_before_it_was_there() {
    let provider = mock(CENT);
    let mut strait = Strait::start(&config(&provider, ""));
    assert_eq!([(); 3].map(|()| ask(&strait)), [200; 3]);
    kept(&strait, "when it was", |kept| kept["as_of_us"].is_i64());
    strait.signal("KILL");
    strait.wait_exit(std::time::Duration::from_secs(10));
    let budgets = "budget = [{ usd = 1.0, every = \"ever\" }, { usd = 1.0, every = \"day\" }, \
                   { end_user = \"*\", usd = 1.0, every = \"ever\" }]";
    strait.write_config(&config(&provider, budgets), "");
    strait.restart();
    let journals = strait.dir.path().join("state/journal");
    eventually("the journal is taken up", || {
        std::fs::read_dir(&journals).unwrap().count() == 1
    });
    assert_eq!(spent(&strait), [0.0, 0.0]);
    assert_eq!(ask(&strait), 200);
    eventually("what is spent now counts", || spent(&strait) == [1.0, 1.0]);
    strait.signal("KILL");
    strait.restart();
    eventually("and is charged", || spent(&strait) == [1.0, 1.0]);
}

/// Leaves the journal of a process that was killed, with exchanges of these times, of a cent each.
fn leave(state: &Path, times: &[Timestamp]) {
    let dir = state.join("journal/run-0000000000000001-1");
    std::fs::create_dir_all(&dir).unwrap();
    let mut bytes = entry::MAGIC.to_vec();
    for (at, time) in times.iter().enumerate() {
        let id = Id(Id::first_at(time.as_microsecond()).0 | at as u128);
        let text = json!({"id": format!("req_{at}"), "time": time.to_string(), "endpoint": "chat", "key": "team-a",
            "provider": "lab", "model": "x", "status": 200, "cost_pico": 10_000_000_000u64});
        let mut frame = Vec::new();
        let text = text.to_string();
        assert!(entry::write(&mut frame, Kind::Done, id, |out| {
            out.extend_from_slice(text.as_bytes());
        }));
        bytes.extend(frame);
    }
    std::fs::write(journal::segment(&dir, 1), bytes).unwrap();
}

#[test]
fn what_was_spent_before_a_long_stop_falls_into_the_time_in_which_it_was_spent() {
    let provider = mock(CENT);
    let budgets = "budget = [{ usd = 1.0, every = \"ever\" }, { usd = 1.0, every = \"day\" }, \
                   { usd = 1.0, every = \"day\", rolling = true }, { usd = 1.0, every = \"week\", rolling = true }]";
    let strait = Strait::start_prepared(&config(&provider, budgets), |state| {
        let now = Timestamp::now();
        leave(
            state,
            &[now - 72.hours(), now - 48.hours(), now - (24 * 20).hours()],
        );
    });
    eventually("it is charged", || spent(&strait) == [3.0, 0.0, 0.0, 2.0]);
    assert_eq!(ask(&strait), 200);
    eventually("and goes on", || spent(&strait) == [4.0, 1.0, 1.0, 3.0]);
}

#[test]
fn who_is_killed_before_it_has_charged_what_another_left_leaves_it_to_the_next() {
    let provider = mock(CENT);
    let budget = "budget = { usd = 1.0, every = \"month\" }";
    let mut strait = Strait::start(&config(&provider, budget));
    let mut known = 0.0;
    for round in 0..3 {
        for _ in 0..4 {
            assert_eq!(ask(&strait), 200);
        }
        known += 4.0;
        // Again and again, each time a little later.
        for turn in 0..3 {
            strait.signal("KILL");
            strait.restart();
            std::thread::sleep(std::time::Duration::from_millis(200 * turn * round));
        }
        eventually("all of it is charged", || spent(&strait)[0] >= known);
        assert_eq!(spent(&strait), [known], "once");
    }
    kept(&strait, "all of it", |kept| {
        cents(kept, 12) && kept["runs"].as_object().unwrap().is_empty()
    });
    strait.signal("KILL");
    strait.restart();
    kept(&strait, "as it was", |kept| {
        cents(kept, 12) && kept["runs"].as_object().unwrap().is_empty()
    });
    assert_eq!(spent(&strait), [12.0]);
}

#[test]
fn what_a_process_spends_while_another_takes_over_is_charged_by_that_one() {
    let provider = mock(CENT);
    let text = config(&provider, "budget = { usd = 1.0, every = \"month\" }");
    let mut first = Strait::start(&text);
    assert_eq!(ask(&first), 200);
    kept(&first, "the first", |kept| cents(kept, 1));
    let state = first.dir.path().join("state");
    let second = Strait::start_prepared(&text, |own| {
        std::os::unix::fs::symlink(&state, own).unwrap();
    });
    assert_eq!(spent(&second), [1.0]);
    assert_eq!([(); 3].map(|()| ask(&first)), [200; 3]);
    assert_eq!([(); 2].map(|()| ask(&second)), [200; 2]);
    // Both could have kept what they know.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    first.signal("TERM");
    assert!(
        first
            .wait_exit(std::time::Duration::from_secs(20))
            .is_some()
    );
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while spent(&second) != [6.0] {
        assert!(std::time::Instant::now() < until, "{:?}", spent(&second));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    kept(&second, "all of it", |kept| cents(kept, 6));
}

#[test]
fn a_file_that_can_not_be_read_is_put_aside() {
    let provider = mock(CENT);
    let text = config(&provider, "budget = { usd = 1.0, every = \"month\" }");
    let strait = Strait::start_prepared(&text, |state| {
        std::fs::create_dir_all(state).unwrap();
        std::fs::write(state.join("budgets.json"), "{\"spent\": [{").unwrap();
    });
    let state = strait.dir.path().join("state");
    let aside = std::fs::read_to_string(state.join("budgets.json.unread"));
    assert_eq!(aside.unwrap(), "{\"spent\": [{");
    assert_eq!(ask(&strait), 200);
    eventually("it is counted", || spent(&strait) == [1.0]);
}

#[test]
fn whenever_it_is_killed_all_that_the_ledger_knows_of_is_spent() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;
    let provider = mock(&CENT.replace("[default]", "[default]\ndelay_head = \"5ms\""));
    let budget = "budget = { usd = 1000.0, every = \"ever\" }";
    let mut strait = Strait::start(&config(&provider, budget));
    let mut random = fastrand::Rng::with_seed(7);
    let mut body = Dialect::OpenAi.body("fast", "hi", false);
    body["max_tokens"] = json!(100);
    let text = body.to_string();
    let authorization = format!("Bearer {KEY}");
    let headers = [
        ("authorization", &*authorization),
        ("x-strait-cache", "no-store"),
    ];
    for _ in 0..4 {
        let stop = AtomicBool::new(false);
        let client = strait.client();
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        // It may be dead.
                        let path = Dialect::OpenAi.path();
                        if client
                            .send("POST", path, &headers, text.as_bytes())
                            .is_err()
                        {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(random.u64(200..1500)));
            strait.signal("KILL");
            stop.store(true, Ordering::Relaxed);
        });
        strait.wait_exit(Duration::from_secs(10));
        strait.restart();
    }
    // What others left goes when it is charged, and kept.
    let journals = strait.dir.path().join("state/journal");
    eventually("all is charged", || {
        std::fs::read_dir(&journals).unwrap().count() == 1
    });
    let rows = strait.admin("GET", "/admin/v1/records/export?limit=20000", "");
    assert_eq!(rows.status, 200, "{}", rows.text());
    let cost = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["cost_pico"].as_u64().unwrap()
    };
    let known: u64 = rows.text().lines().map(cost).sum();
    let known = known as f64 / 1e10;
    let spent = spent(&strait)[0];
    eprintln!("{spent} cents are spent, of {known} in the ledger");
    // What is settled while it is kept may be counted once more.
    assert!(
        spent >= known - 1e-6 && spent <= known + 24.0,
        "{spent} of {known}"
    );
}
