//! The configuration is replaced while requests are served: how it is asked for, what a mistake does, and that nobody
//! notices.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::dialect::Dialect;
use common::wire::Wire;
use common::{Strait, chat, eventually, mock};
use strait::mock::Mock;

fn lab(mock: &Mock) -> String {
    format!(
        "[providers.lab]\nprotocols = [\"openai-chat\"]\nbase_url = \"{}/v1\"\nkey = \"lab-key\"\n",
        mock.url()
    )
}

fn model(name: &str) -> String {
    format!("[models.{name}]\ntargets = [\"lab/x\"]\n")
}

fn reloads(strait: &Strait, result: &str) -> f64 {
    strait.metric("strait_reloads_total", &[&format!("result=\"{result}\"")])
}

fn is_served(strait: &Strait, model: &str) -> bool {
    let answer = strait.post("/v1/chat/completions", &chat(model, "hi"));
    assert!([200, 404].contains(&answer.status), "{}", answer.text());
    answer.status == 200
}

#[test]
fn a_new_model_is_there_after_a_reload_however_it_was_asked_for() {
    let mock = mock("");
    let strait = Strait::start(&lab(&mock));
    assert!(!is_served(&strait, "one") && !is_served(&strait, "two"));

    strait.write_config(&(lab(&mock) + &model("one")), "");
    eventually("the file is seen to have changed", || {
        reloads(&strait, "ok") >= 1.0
    });
    eventually("the model is there", || is_served(&strait, "one"));
    let listed = strait.client().get("/v1/models").json();
    assert!(
        listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .any(|model| model["id"] == "one"),
        "{listed}"
    );

    // The file itself is written, not replaced.
    let path = strait.dir.path().join("strait.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + &model("two")).unwrap();
    eventually("the model is there", || is_served(&strait, "two"));

    let before = reloads(&strait, "ok");
    strait.signal("HUP");
    eventually("SIGHUP reloads", || reloads(&strait, "ok") > before);

    strait.write_config(&(lab(&mock) + &model("three")), "");
    let generation = strait.metric("strait_config_generation", &[]);
    let answer = strait.admin("POST", "/admin/v1/reload", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["config_generation"].as_f64().unwrap() > generation);
    assert!(
        is_served(&strait, "three"),
        "in force when the call has returned"
    );
    assert!(!is_served(&strait, "one"), "what is gone is gone");
}

#[test]
fn reload_is_for_whoever_has_the_token() {
    let strait = Strait::start("");
    let admin = common::Client::new(strait.admin);
    for headers in [
        vec![],
        vec![("authorization", "Bearer wrong")],
        vec![("authorization", "admin-token-of-the-tests")],
    ] {
        assert_eq!(
            admin.post("/admin/v1/reload", &headers, b"").status,
            401,
            "{headers:?}"
        );
    }
    assert_eq!(reloads(&strait, "ok"), 0.0);
    assert_eq!(strait.admin("GET", "/admin/v1/reload", "").status, 405);
}

#[test]
fn a_broken_file_changes_nothing_and_every_mistake_is_told() {
    let mock = mock("");
    let strait = Strait::start(&(lab(&mock) + &model("kept")));
    let broken = lab(&mock)
        + "[models.kept]\ntargets = [\"nobody/x\"]\n[models.other]\ntargets = [\"lab/x\"]\nstrategi = \"fallback\"\n";
    strait.write_config(&broken, "");
    eventually("the failure is counted", || {
        reloads(&strait, "failed") >= 1.0
    });
    assert!(is_served(&strait, "kept") && !is_served(&strait, "other"));
    eventually("the log tells it", || {
        strait.log().contains("nobody") && strait.log().contains("strategi")
    });

    let answer = strait.admin("POST", "/admin/v1/reload", "");
    assert_eq!(answer.status, 422, "{}", answer.text());
    let mistakes = answer.json()["error"]["mistakes"].to_string();
    assert!(
        mistakes.contains("nobody") && mistakes.contains("strategi"),
        "all of them: {mistakes}"
    );
    assert!(
        mistakes.contains("strait.toml:"),
        "with file and line: {mistakes}"
    );

    strait.write_config("this is no TOML [", "");
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 422);
    std::fs::remove_file(strait.dir.path().join("strait.toml")).unwrap();
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 422);
    assert!(is_served(&strait, "kept"));
    assert_eq!(reloads(&strait, "ok"), 0.0);

    strait.write_config(&(lab(&mock) + &model("other")), "");
    eventually("it is well again", || is_served(&strait, "other"));
}

#[test]
fn a_stream_in_flight_ends_on_the_configuration_that_it_began_with() {
    let mock = mock(
        "[[rule]]\nsteps = [{ text = \"all of this is said slowly\", chunks = 20, chunk_gap = \"50ms\" }]\n",
    );
    let strait = Strait::start(&(lab(&mock) + &model("slow")));
    let body = Dialect::OpenAi.body("slow", "hi", true).to_string();
    let mut stream = strait
        .client()
        .send("POST", "/v1/chat/completions", &[], body.as_bytes())
        .unwrap();
    let start = stream.until("\"a\"");
    // Neither the model nor its provider is there any more.
    strait.write_config("[models.else]\ntargets = [\"demo/echo\"]\n", "");
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    assert!(!is_served(&strait, "slow") && is_served(&strait, "else"));
    let rest = stream.whole().unwrap();
    let text = start + &rest.text();
    assert!(
        rest.complete && text.trim_end().ends_with("data: [DONE]"),
        "{text}"
    );
    assert_eq!(
        strait
            .records(3)
            .iter()
            .filter(|record| record["status"] == 200)
            .count(),
        2
    );
}

#[test]
fn limits_survive_a_reload() {
    let keys = |rpm| {
        format!(
            "[[keys]]\nname = \"a\"\nkey = \"key-of-the-test\"\nlimits = {{ rpm = {rpm}, concurrent = 2 }}\n"
        )
    };
    let mock = mock(
        "[[rule]]\nmodel = \"slow\"\nsteps = [{ chunks = 200, chunk_gap = \"300ms\", text_bytes = 1000 }]\n",
    );
    let strait = Strait::start(&(lab(&mock) + &keys(10)));
    let key = [("authorization", "Bearer key-of-the-test")];
    let ask = |model: &str, stream| {
        let body = Dialect::OpenAi.body(model, "hi", stream).to_string();
        strait
            .client()
            .send("POST", "/v1/chat/completions", &key, body.as_bytes())
            .unwrap()
    };
    let open: Vec<_> = (0..2).map(|_| ask("lab/slow", true)).collect();
    assert!(open.iter().all(|stream| stream.status == 200));
    assert_eq!(ask("lab/x", false).status, 429, "two at a time");
    strait.write_config(&(lab(&mock) + &keys(10) + &model("new")), "");
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    assert_eq!(ask("lab/x", false).status, 429, "two at a time, still");
    drop(open);
    eventually("the streams are over", || {
        strait.metric("strait_inflight", &[]) == 0.0
    });
    let mut served = 0;
    while ask("new", false).status == 200 {
        served += 1;
        assert!(served < 20, "the reload gave a new minute");
    }
    assert!(served <= 8, "two of ten were used before: {served}");
    assert!(served >= 4, "refused requests don't count: {served}");
}

#[test]
fn a_hundred_reloads_under_load_fail_no_request() {
    let mock = mock(
        "[[rule]]\nmodel = \"x\"\nsteps = [{ chunks = 5, chunk_gap = \"1ms\", text = \"a b c d e\" }]\n",
    );
    let config = |turn: usize| {
        let key = "[[keys]]\nname = \"a\"\nkey = \"key-of-the-test\"\nlimits = { concurrent = 50, rpm = 1000000 }\n";
        let more = format!("[models.turn-{turn}]\ntargets = [\"lab/x\"]\n");
        // The provider changes too, so that its pool is made anew.
        let health = if turn.is_multiple_of(3) {
            "health = { every = \"1s\" }\n"
        } else {
            ""
        };
        lab(&mock) + health + &model("steady") + key + &more
    };
    let strait = Strait::start(&config(0));
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (strait, done, asked) = (&strait, &done, &asked);
                scope.spawn(move || {
                    let mut failed = Vec::new();
                    let mut wire = Wire::open(strait.addr);
                    let mut turn = 0;
                    while !done.load(Ordering::Relaxed) {
                        turn += 1;
                        let dialect = Dialect::ALL[turn % 2];
                        let body = dialect.body("steady", "hi", turn % 3 == 0).to_string();
                        let headers = [("authorization", "Bearer key-of-the-test")];
                        // Half of them over a connection that is kept, half over a new one each.
                        let answer = if thread % 2 == 0 {
                            wire.request("POST", dialect.path(), &headers, body.as_bytes());
                            wire.answer()
                        } else {
                            Ok(strait
                                .client()
                                .post(dialect.path(), &headers, body.as_bytes()))
                        };
                        match answer {
                            Ok(answer)
                                if answer.status == 200
                                    && dialect.said(&answer).text == "a b c d e" => {}
                            other => failed.push(format!("{other:?}")),
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    failed
                })
            })
            .collect();
        for turn in 1..=100 {
            strait.write_config(&config(turn), "");
            match turn % 4 {
                0 => strait.signal("HUP"),
                _ => assert_eq!(
                    strait.admin("POST", "/admin/v1/reload", "").status,
                    200,
                    "{}",
                    strait.log()
                ),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        done.store(true, Ordering::Relaxed);
        let failed: Vec<String> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        assert!(
            failed.is_empty(),
            "{} of {} failed: {failed:?}",
            failed.len(),
            asked.load(Ordering::Relaxed)
        );
    });
    assert!(
        asked.load(Ordering::Relaxed) > 200,
        "no load: {}",
        asked.load(Ordering::Relaxed)
    );
    eventually("every reload is done", || reloads(&strait, "ok") >= 90.0);
    assert_eq!(reloads(&strait, "failed"), 0.0);
    let answer = strait.client().post(
        "/v1/chat/completions",
        &[("authorization", "Bearer key-of-the-test")],
        chat("turn-100", "hi").to_string().as_bytes(),
    );
    eventually("the last one is in force", || answer.status == 200);
}
