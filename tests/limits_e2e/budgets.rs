//! Budgets of keys: reserved before the call, settled after it, kept over a kill.

use serde_json::json;
use strait::mock::Mock;

use crate::KEY;
use crate::common::dialect::Dialect;
use crate::common::{Answer, Strait, eventually, mock};

/// Every answer costs a cent: 100 tokens out at 100 USD a million.
const CENT: &str = "[default]\nusage = { prompt_tokens = 10, completion_tokens = 100 }";

fn config(provider: &Mock, budget: &str) -> String {
    format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat", "anthropic"]
        base_url = "{}/v1"
        key = "the-provider-key"
        price = {{ in = 0, out = 100 }}
        [models.fast]
        targets = ["lab/x"]
        retries = {{ max_attempts = 1 }}
        [[keys]]
        name = "team-a"
        key = "{KEY}"
        budget = {budget}
        [[keys]]
        name = "team-b"
        key = "another-key-of-the-tests-0123456789"
        "#,
        provider.url()
    )
}

fn ask(strait: &Strait, dialect: Dialect, key: &str, text: &str) -> Answer {
    let mut body = dialect.body("fast", text, false);
    body["max_tokens"] = json!(100);
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", &*authorization)];
    strait
        .client()
        .post(dialect.path(), &headers, body.to_string().as_bytes())
}

#[test]
fn a_thousand_requests_at_once_spend_no_more_than_the_budget() {
    let provider = mock(CENT);
    let strait = Strait::start(&config(&provider, "{ usd = 1.0, every = \"month\" }"));
    let (answered, refused) = (
        std::sync::atomic::AtomicUsize::new(0),
        std::sync::atomic::AtomicUsize::new(0),
    );
    std::thread::scope(|threads| {
        for thread in 0..50 {
            let (strait, answered, refused) = (&strait, &answered, &refused);
            threads.spawn(move || {
                for turn in 0..20 {
                    let text = format!("hi {thread} {turn}");
                    let answer = ask(strait, Dialect::OpenAi, KEY, &text);
                    let count = match answer.status {
                        200 => answered,
                        402 => refused,
                        other => panic!("{other}: {}", answer.text()),
                    };
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(answered.into_inner(), 100, "100 cents are there");
    assert_eq!(refused.into_inner(), 900);
    assert_eq!(
        provider.calls().len(),
        100,
        "who is refused is not asked for"
    );
    let other = ask(
        &strait,
        Dialect::OpenAi,
        "another-key-of-the-tests-0123456789",
        "hi",
    );
    assert_eq!(other.status, 200, "another key has its own money");
}

#[test]
fn a_spent_budget_is_a_402_that_says_which_and_until_when() {
    let provider = mock(CENT);
    let strait = Strait::start(&config(&provider, "{ usd = 0.01, every = \"day\" }"));
    assert_eq!(ask(&strait, Dialect::OpenAi, KEY, "one").status, 200);
    // The record, which settles, is made once the client has its answer.
    eventually("the cent to be spent", || strait.records(1).len() == 1);
    for dialect in Dialect::ALL {
        let answer = ask(&strait, dialect, KEY, "two");
        assert_eq!(answer.status, 402, "{}", answer.text());
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        let message = dialect
            .error(&answer.json())
            .expect("an error in the dialect");
        assert!(
            message.contains("`key:team-a`") && message.contains("0.01 USD are spent"),
            "{message}"
        );
        assert!(message.contains("There is room again from 20"), "{message}");
    }
    assert_eq!(provider.calls().len(), 1);
    // More money, the same key: what is spent stays spent.
    strait.write_config(&config(&provider, "{ usd = 0.02, every = \"day\" }"), "");
    strait.admin("POST", "/admin/v1/reload", "");
    assert_eq!(ask(&strait, Dialect::OpenAi, KEY, "two").status, 200);
    eventually("both to be spent", || strait.records(1).len() >= 4);
    assert_eq!(ask(&strait, Dialect::OpenAi, KEY, "three").status, 402);
}

#[test]
fn a_request_that_may_cost_too_much_is_told_so_and_one_that_fails_costs_nothing() {
    let provider = mock("[default]\nstatus = 500\nbody = \"no\"");
    let strait = Strait::start(&config(&provider, "{ usd = 0.01, every = \"ever\" }"));
    for turn in 0..3 {
        // A failure gives back what it held before it is answered.
        let answer = ask(&strait, Dialect::OpenAi, KEY, &format!("turn {turn}"));
        assert!(answer.status >= 500, "{}", answer.text());
    }
    let mut body = Dialect::OpenAi.body("fast", "hi", false);
    body["max_tokens"] = json!(101);
    let authorization = format!("Bearer {KEY}");
    let headers = [("authorization", &*authorization)];
    let path = Dialect::OpenAi.path();
    let answer = strait
        .client()
        .post(path, &headers, body.to_string().as_bytes());
    assert_eq!(answer.status, 402);
    assert!(
        answer.text().contains("may cost up to 0.0101 USD"),
        "{}",
        answer.text()
    );
}

#[test]
fn what_is_spent_is_known_after_a_kill() {
    let provider = mock(CENT);
    let text = config(
        &provider,
        "{ usd = 0.02, every = \"week\", rolling = true }",
    );
    let first = Strait::start(&text);
    assert_eq!(ask(&first, Dialect::OpenAi, KEY, "one").status, 200);
    assert_eq!(ask(&first, Dialect::OpenAi, KEY, "two").status, 200);
    let kept = first.dir.path().join("state/budgets.json");
    eventually("both cents to be kept", || {
        std::fs::read_to_string(&kept).is_ok_and(|kept| kept.contains("20000000000"))
    });
    first.signal("KILL");
    let second = Strait::start_prepared(&text, |state| {
        std::fs::create_dir_all(state).expect("a state directory");
        std::fs::copy(&kept, state.join("budgets.json")).expect("what was kept");
    });
    assert_eq!(ask(&second, Dialect::OpenAi, KEY, "three").status, 402);
}

#[test]
fn what_was_spent_right_before_a_kill_is_charged_once() {
    let provider = mock(CENT);
    let mut strait = Strait::start(&config(&provider, "{ usd = 1.0, every = \"day\" }"));
    let authorization = format!("Bearer {KEY}");
    let headers = [("authorization", &*authorization)];
    let spent = |strait: &Strait| {
        let told = strait.client().request("GET", "/v1/key", &headers, b"");
        let spent = told.json()["budgets"][0]["spent_usd"].to_string();
        spent.trim_matches('"').parse::<f64>().unwrap()
    };
    // The sums are kept once a second: of a few requests they seldom know when the kill comes.
    for round in 1..=4 {
        for turn in 0..5 {
            let text = format!("{round} {turn}");
            assert_eq!(ask(&strait, Dialect::OpenAi, KEY, &text).status, 200);
        }
        strait.signal("KILL");
        strait.restart();
        let known = f64::from(round) * 0.05;
        eventually("all of it is charged", || spent(&strait) > known - 1e-9);
    }
    // In the end once more, so that nothing is charged again that was charged before.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    strait.signal("KILL");
    strait.restart();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(
        (0.2 - 1e-9..0.2 + 1e-9).contains(&spent(&strait)),
        "{}",
        spent(&strait)
    );
}

#[test]
fn what_a_kill_interrupts_is_charged_to_its_budgets_once() {
    let script = CENT.replace("[default]", "[default]\ndelay_head = \"60s\"");
    let provider = mock(&script);
    let text = config(
        &provider,
        "[{ usd = 0.05, every = \"day\" }, { end_user = \"*\", usd = 0.02, every = \"month\" }]",
    );
    let mut strait = Strait::start(&text);
    let mut body = Dialect::OpenAi.body("fast", "hi", false);
    body["max_tokens"] = json!(100);
    body["user"] = json!("eve");
    let authorization = format!("Bearer {KEY}");
    let headers = [("authorization", &*authorization)];
    let path = Dialect::OpenAi.path();
    let text = body.to_string();
    let spent = |strait: &Strait| {
        let told = strait.client().request("GET", "/v1/key", &headers, b"");
        told.json()["budgets"][0]["spent_usd"].to_string()
    };
    let waiting = [(); 2].map(|()| strait.client().send_only(path, &headers, text.as_bytes()));
    eventually("both are asked for", || provider.calls().len() == 2);
    strait.signal("KILL");
    strait.restart();
    drop(waiting);
    eventually("both are charged", || spent(&strait).contains("0.02"));
    let refused = strait.client().post(path, &headers, text.as_bytes());
    assert_eq!(refused.status, 402, "{}", refused.text());
    assert!(
        refused.text().contains("end_user:eve"),
        "the end user's too: {}",
        refused.text()
    );
    let kept = strait.dir.path().join("state/budgets.json");
    eventually("it is kept", || {
        std::fs::read_to_string(&kept).is_ok_and(|kept| kept.contains("20000000000"))
    });
    strait.signal("KILL");
    strait.restart();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(spent(&strait).contains("0.02"), "once: {}", spent(&strait));
}
