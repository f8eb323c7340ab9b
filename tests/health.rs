//! Health beyond cooldowns: what a check expects, an allowance that is nearly spent, a target that fails too often,
//! and what a client is told when nothing is left.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Answer, Strait, chat, eventually, message, mock};
use serde_json::{Value, json};
use strait::mock::Mock;

fn provider(name: &str, mock: &Mock) -> String {
    format!(
        "[providers.{name}]\nprotocols = [\"openai-chat\", \"anthropic\"]\nbase_url = \"{}/v1\"\nkey = \"{name}-key\"\n\
         timeouts = {{ first_byte = \"500ms\", idle = \"500ms\" }}\n",
        mock.url()
    )
}

fn ask(strait: &Strait, model: &str) -> Answer {
    strait.post("/v1/chat/completions", &chat(model, "hello"))
}

fn answered_by(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-strait-provider").unwrap().to_owned()
}

fn cooldowns(strait: &Strait) -> Vec<Value> {
    let answer = strait.admin("GET", "/admin/v1/cooldowns", "");
    answer.json()["cooldowns"].as_array().unwrap().clone()
}

#[test]
fn each_endpoint_has_its_own_path_and_answers_as_expected() {
    let rules = "[[rule]]\npath = \"/ready\"\nsteps = [{ status = 418 }]";
    let (first, second) = (mock(rules), mock(rules));
    for (expect, well) in [("[200]", "first"), ("[\"4xx\", 503]", "second")] {
        let strait = Strait::start(&format!(
            "[providers.lab]\nprotocols = \"openai-chat\"\nkey = \"k\"\n\
             endpoints = [\"{}/v1\", {{ url = \"{}/v1\", health_path = \"/ready\" }}]\n\
             health = {{ path = \"/health\", expect = {expect}, every = \"100ms\", timeout = \"5s\", unhealthy_after = 1 }}\n",
            first.url(),
            second.url(),
        ));
        let (good, bad) = match well {
            "first" => (&first, &second),
            _ => (&second, &first),
        };
        let label = format!("endpoint=\"{}\"", bad.addr);
        eventually("one is found unwell", || {
            let health = strait.metric("strait_endpoint_health", &[]);
            health == 1.0 && strait.metric("strait_endpoint_health", &[&label]) == 0.0
        });
        first.clear_calls();
        second.clear_calls();
        for _ in 0..10 {
            assert_eq!(ask(&strait, "lab/x").status, 200);
        }
        let chats = |mock: &Mock| {
            let calls = mock.calls();
            calls.iter().filter(|call| !call.model.is_empty()).count()
        };
        assert_eq!((chats(good), chats(bad)), (10, 0), "{expect}");
    }
}

#[test]
fn an_allowance_that_is_spent_sends_others_first_and_refuses_nobody() {
    for headers in [
        "x-ratelimit-remaining-requests = \"0\", x-ratelimit-reset-requests = \"40s\"",
        "x-ratelimit-remaining-tokens = \"1\", x-ratelimit-reset-tokens = \"40s\"",
        "anthropic-ratelimit-requests-remaining = \"0\", anthropic-ratelimit-requests-reset = \"2099-01-01T00:00:00Z\"",
        "ratelimit-remaining = \"0\", ratelimit-reset = \"40\"",
    ] {
        let (short, other) = (
            mock(&format!("[default]\nheaders = {{ {headers} }}\n")),
            mock(""),
        );
        let strait = Strait::start(&format!(
            "{}{}[models.both]\ntargets = [\"short/x\", \"other/x\"]\n",
            provider("short", &short),
            provider("other", &other),
        ));
        assert_eq!(answered_by(&ask(&strait, "both")), "short", "{headers}");
        for _ in 0..5 {
            assert_eq!(answered_by(&ask(&strait, "both")), "other", "{headers}");
        }
        let listed = cooldowns(&strait);
        assert_eq!(
            listed[0]["state"],
            json!("steered"),
            "{headers}: {listed:?}"
        );
        assert!(listed[0]["until"].is_string(), "{listed:?}");
        // Alone it is asked all the same, and no 429 is made up.
        for _ in 0..3 {
            assert_eq!(answered_by(&ask(&strait, "short/x")), "short", "{headers}");
        }
        assert_eq!(strait.metric("strait_cooldown", &[]), 0.0, "no cooldown");
    }
}

#[test]
fn another_credential_goes_first_where_one_has_nothing_left() {
    let lab = mock(
        "[[rule]]\nheader = { name = \"authorization\", value = \"spent-key\" }\n\
         steps = [{ headers = { x-ratelimit-remaining-requests = \"0\", x-ratelimit-reset-requests = \"1m\" } }]",
    );
    let strait = Strait::start(&format!(
        "[providers.lab]\nprotocols = \"openai-chat\"\nbase_url = \"{}/v1\"\n\
         keys = [{{ name = \"spent\", key = \"spent-key\", weight = 1000 }}, {{ name = \"fresh\", key = \"fresh-key\" }}]\n",
        lab.url()
    ));
    for _ in 0..20 {
        assert_eq!(ask(&strait, "lab/x").status, 200);
    }
    let spent = lab.calls().into_iter();
    let spent = spent.filter(|call| call.header("authorization") == Some("Bearer spent-key"));
    assert!(
        spent.count() <= 2,
        "it is left alone once it said that nothing is left"
    );
}

#[test]
fn what_fails_every_second_time_is_put_aside() {
    let flaky = mock("[[rule]]\nsteps = [{ status = 500 }, {}]\ncycle = true\n");
    let good = mock("");
    let strait = Strait::start(&format!(
        "{}{}[models.both]\ntargets = [\"flaky/x\", \"good/x\"]\n",
        provider("flaky", &flaky),
        provider("good", &good),
    ));
    for _ in 0..11 {
        assert_eq!(ask(&strait, "both").status, 200);
    }
    let listed = cooldowns(&strait);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["blame"], json!("serving"), "{listed:?}");
    assert_eq!(listed[0]["state"], json!("cooling"), "{listed:?}");
}

#[test]
fn nobody_left_is_told_with_the_trail_and_when_to_ask_again() {
    for (first, second, status) in [
        ("status = 500", "stall_head = true", 503),
        ("status = 500", "close_before_head = true", 502),
        ("status = 500", "garbage = true", 502),
        ("stall_head = true", "stall_head = true", 504),
        (
            "status = 429\nheaders = { retry-after = \"40\" }",
            "status = 429\nheaders = { retry-after = \"17\" }",
            429,
        ),
        (
            "status = 429\nheaders = { retry-after = \"40\" }",
            "status = 401",
            503,
        ),
    ] {
        let secret = "the key sk-secret of org-ours";
        let words = format!("error = {{ message = \"{secret}\" }}");
        let (one, other) = (
            mock(&format!("[default]\n{first}\n{words}\n")),
            mock(&format!("[default]\n{second}\n{words}\n")),
        );
        let strait = Strait::start(&format!(
            "{}{}[models.both]\ntargets = [\"one/x\", \"other/x\"]\nretries = {{ max_attempts = 2 }}\n",
            provider("one", &one),
            provider("other", &other),
        ));
        for anthropic in [false, true] {
            let answer = if anthropic {
                strait.post("/v1/messages", &message("both", "hello"))
            } else {
                ask(&strait, "both")
            };
            let text = answer.text();
            let case = format!("{first}, {second}: {} {text}", answer.status);
            assert_eq!(answer.status, status, "{case}");
            let json = answer.json();
            assert_eq!(json["type"] == "error", anthropic, "{case}");
            let told = json["error"]["message"].as_str().unwrap();
            assert!(told.contains("one/x") && told.contains("other/x"), "{case}");
            for hidden in ["sk-secret", "127.0.0.1", "one-key", "org-ours"] {
                assert!(!text.contains(hidden), "{hidden}: {case}");
            }
            let wait = answer
                .header("retry-after")
                .map(|wait| wait.parse::<u64>().unwrap());
            match status {
                429 => assert!(
                    (10..=17).contains(&wait.unwrap()),
                    "the soonest: {case} {wait:?}"
                ),
                503 => assert!(
                    wait.is_some_and(|wait| (1..=60).contains(&wait)),
                    "{case} {wait:?}"
                ),
                _ => {}
            }
            strait.admin("DELETE", "/admin/v1/cooldowns", "");
        }
    }
}

#[test]
fn all_waiting_is_told_with_each_of_them() {
    let limited = "status = 429\nheaders = { retry-after = \"50\" }";
    let (one, other) = (
        mock(&format!("[default]\n{limited}\n")),
        mock(&format!("[default]\n{limited}\n")),
    );
    let strait = Strait::start(&format!(
        "{}{}[models.both]\ntargets = [\"one/x\", \"other/x\"]\n",
        provider("one", &one),
        provider("other", &other),
    ));
    assert_eq!(ask(&strait, "both").status, 429);
    let calls = (one.calls().len(), other.calls().len());
    let answer = ask(&strait, "both");
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(
        calls,
        (one.calls().len(), other.calls().len()),
        "nobody is asked"
    );
    let text = answer.text();
    assert!(
        text.contains("one/x for") && text.contains("other/x for"),
        "{text}"
    );
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=50).contains(&wait), "{wait}");
}

#[test]
fn who_cools_is_asked_before_those_who_failed_a_moment_ago() {
    let (one, other) = (
        mock("[default]\nstatus = 500\n"),
        mock("[default]\nstatus = 500\n"),
    );
    let strait = Strait::start(&format!(
        "{}{}[models.both]\ntargets = [\"one/x\", \"other/x\"]\n[models.second]\ntargets = [\"other/x\"]\n",
        provider("one", &one),
        provider("other", &other),
    ));
    for _ in 0..3 {
        ask(&strait, "second");
    }
    assert!(!cooldowns(&strait).is_empty(), "it cools");
    other.set_script(strait::mock::Script::default());
    let before = one.calls().len();
    assert_eq!(answered_by(&ask(&strait, "both")), "other");
    assert_eq!(
        one.calls().len(),
        before + 1,
        "the one that failed is not asked again first"
    );
}
