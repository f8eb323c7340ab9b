//! Rules, and why a request went where it went, through the whole program over real sockets.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;

use common::dialect::Dialect;
use common::{Answer, Strait, mock};
use serde_json::{Value, json};
use strait::mock::Mock;

/// Where a client speaks each of three protocols, and what its request is.
fn requests(model: &str, text: &str) -> [(&'static str, Value); 3] {
    [
        (
            Dialect::OpenAi.path(),
            Dialect::OpenAi.body(model, text, false),
        ),
        (
            Dialect::Anthropic.path(),
            Dialect::Anthropic.body(model, text, false),
        ),
        ("/v1/responses", json!({"model": model, "input": text})),
    ]
}

fn provider(name: &str, mock: &Mock) -> String {
    format!(
        "[providers.{name}]\nprotocols = [\"openai-chat\", \"anthropic\", \"openai-responses\"]\nbase_url = \"{}/v1\"\nkey = \"the-key-of-{name}\"\n",
        mock.url()
    )
}

fn post(strait: &Strait, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
    strait
        .client()
        .post(path, headers, body.to_string().as_bytes())
}

fn answered_by(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-strait-provider").unwrap()
}

const RULES: &str = r#"
[models.long]
targets = ["b/x"]
[[rules]]
name = "big prompts"
when = 'model == "a/x" && tokens > 1000'
use = "long"
[[rules]]
name = "gold"
when = 'headers["x-tier"] == "gold"'
use = "b/gold"
[[rules]]
name = "closed"
when = 'tags.exists(tag, tag == "batch") || metadata.kind == "batch"'
deny = "No batches here."
[[rules]]
name = "hurry"
when = 'user == "hurried"'
timeouts = { total = "200ms" }
"#;

#[test]
fn rules_decide_in_three_protocols() {
    let (a, b) = (mock(""), mock(""));
    let strait = Strait::start(&format!(
        "{}{}{RULES}",
        provider("a", &a),
        provider("b", &b)
    ));
    for (path, body) in requests("a/x", "hi") {
        assert_eq!(answered_by(&post(&strait, path, &body, &[])), "a", "{path}");
    }
    for (path, body) in requests("a/x", &"long ".repeat(2000)) {
        assert_eq!(answered_by(&post(&strait, path, &body, &[])), "b", "{path}");
    }
    for (path, body) in requests("a/x", "hi") {
        let answer = post(&strait, path, &body, &[("x-tier", "gold")]);
        assert_eq!(answered_by(&answer), "b", "{path}");
        assert_eq!(answer.header("x-strait-model"), Some("gold"), "{path}");
    }
    for (path, body) in requests("a/x", "hi") {
        let answer = post(&strait, path, &body, &[("x-strait-tags", "a,batch")]);
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        assert!(
            answer.text().contains("No batches here."),
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{path}");
    }
    let records = strait.records(12);
    let rules: Vec<&str> = records
        .iter()
        .map(|record| record["rule"].as_str().unwrap_or_default())
        .collect();
    for (rule, count) in [("", 3), ("big prompts", 3), ("gold", 3), ("closed", 3)] {
        assert_eq!(
            rules.iter().filter(|found| **found == rule).count(),
            count,
            "{rules:?}"
        );
    }
    let refused = records
        .iter()
        .find(|record| record["rule"] == "closed")
        .unwrap();
    assert_eq!(refused["error"], "request_denied");
    assert_eq!(
        strait.metric("strait_rules_met_total", &["rule=\"gold\""]),
        3.0
    );
    // Of the requests without the header the rule can't be asked: counted each time, told once.
    assert!(strait.metric("strait_rule_errors_total", &["rule=\"gold\""]) >= 6.0);
    let told = strait.log().matches("rule can't be asked").count();
    assert!((1..=4).contains(&told), "once for each rule: {told}");
}

#[test]
fn a_rule_sets_timeouts_that_the_request_may_only_shorten() {
    let slow = mock("[default]\nstall_head = true");
    let strait = Strait::start(&format!(
        "{}[[rules]]\nwhen = 'user == \"hurried\"'\ntimeouts = {{ total = \"200ms\" }}\n",
        provider("a", &slow)
    ));
    let mut body = Dialect::OpenAi.body("a/x", "hi", false);
    body["user"] = "hurried".into();
    let answer = post(
        &strait,
        Dialect::OpenAi.path(),
        &body,
        &[("x-strait-timeout", "10m")],
    );
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.text().contains("in time"), "{}", answer.text());
}

#[test]
fn the_asked_name_must_be_allowed_and_the_used_one_need_not_be() {
    let (a, b) = (mock(""), mock(""));
    let strait = Strait::start(&format!(
        "{}{}[[keys]]\nname = \"team\"\nkey = \"a-client-key\"\nmodels = [\"auto\"]\n\
         [[rules]]\nwhen = 'model == \"auto\"'\nuse = \"b/x\"\n[[rules]]\nwhen = 'model == \"b/x\"'\nuse = \"b/x\"\n",
        provider("a", &a),
        provider("b", &b)
    ));
    let headers = [("authorization", "Bearer a-client-key")];
    let mut body = Dialect::OpenAi.body("auto", "hi", false);
    // The rule has decided: what the request names to fall back to is not asked, and so need not be allowed.
    body["fallbacks"] = json!(["a/x"]);
    assert_eq!(
        answered_by(&post(&strait, Dialect::OpenAi.path(), &body, &headers)),
        "b"
    );
    assert_eq!(a.counts().count, 0);
    let body = Dialect::OpenAi.body("b/x", "hi", false);
    let answer = post(&strait, Dialect::OpenAi.path(), &body, &headers);
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(
        answer.text().contains("model_not_allowed"),
        "{}",
        answer.text()
    );
}

#[test]
fn what_passes_unread_is_denied_by_what_its_head_says() {
    let a = mock("");
    let strait = Strait::start(&format!(
        "{}[[rules]]\nwhen = 'tokens > 0 || !stream'\ndeny = \"body\"\n\
         [[rules]]\nwhen = 'endpoint == \"raw\" && \"x-no\" in headers'\ndeny = \"head\"\n",
        provider("a", &a)
    ));
    let denied = post(&strait, "/a/v1/files", &json!({}), &[("x-no", "1")]);
    assert_eq!(denied.status, 403, "{}", denied.text());
    assert!(denied.text().contains("head"), "{}", denied.text());
    assert_eq!(a.counts().count, 0, "nobody was asked");
    let passed = post(&strait, "/a/v1/files", &json!({}), &[]);
    assert_ne!(
        passed.status,
        403,
        "of the body nothing is known: {}",
        passed.text()
    );
}

#[test]
fn an_answer_says_why_it_came_from_where_it_did() {
    let (a, b) = (mock(""), mock(""));
    let strait = Strait::start(&format!(
        "{}{}[models.both]\ntargets = [\"a/x\", \"b/y\"]\n\
         [[keys]]\nname = \"may\"\nkey = \"a-key-that-may\"\nexplain = true\n[[keys]]\nname = \"not\"\nkey = \"a-key-that-may-not\"\n\
         [[rules]]\nname = \"für alle\"\nwhen = 'key == \"may\"'\nuse = \"both\"\n",
        provider("a", &a),
        provider("b", &b)
    ));
    for (path, body) in requests("a/x", "hi") {
        let may = [
            ("authorization", "Bearer a-key-that-may"),
            ("x-strait-explain", "true"),
        ];
        let answer = post(&strait, path, &body, &may);
        assert_eq!(answered_by(&answer), "a", "{path}");
        let header = answer.header("x-strait-decision").unwrap();
        assert!(header.is_ascii() && header.len() <= 4096);
        let decision: Value = serde_json::from_str(header).unwrap();
        assert_eq!(
            decision,
            json!({
                "asked": "a/x", "rule": "für alle", "model": "both", "strategy": "fallback",
                "candidates": [{"target": "a/x"}, {"target": "b/y"}],
            }),
            "{path}"
        );
        let silent = post(&strait, path, &body, &may[..1]);
        assert_eq!(
            silent.header("x-strait-decision"),
            None,
            "nobody asked: {path}"
        );
        let not = [
            ("authorization", "Bearer a-key-that-may-not"),
            ("x-strait-explain", "true"),
        ];
        let answer = post(&strait, path, &body, &not);
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert!(
            answer.text().contains("x-strait-explain"),
            "{}",
            answer.text()
        );
    }
    let calls = [a.calls(), b.calls()].concat();
    assert!(calls.iter().all(|call| call.problems.is_empty()));
}

#[test]
fn a_dry_run_takes_endpoint_headers_and_key() {
    let (a, b) = (mock(""), mock(""));
    let strait = Strait::start(&format!(
        "{}{}{RULES}[[keys]]\nname = \"team\"\nkey = \"a-client-key\"\nmodels = [\"a/*\"]\n",
        provider("a", &a),
        provider("b", &b)
    ));
    let explain = |body: Value| strait.admin("POST", "/admin/v1/explain", &body.to_string());
    let bare = Dialect::OpenAi.body("a/x", "hi", false);
    let answer = explain(bare.clone()).json();
    assert_eq!(
        (&answer["rule"], &answer["model"]),
        (&Value::Null, &json!("a/x")),
        "{answer}"
    );
    assert_eq!(answer["rules_not_asked"][0]["rule"], "gold", "{answer}");
    let whole = json!({
        "request": Dialect::Anthropic.body("a/x", "hi", false),
        "endpoint": "/v1/messages",
        "headers": {"X-Tier": "gold"},
        "key": "team",
    });
    let answer = explain(whole).json();
    assert_eq!(
        answer["rule"],
        json!({"name": "gold", "use": "b/gold"}),
        "{answer}"
    );
    assert_eq!(answer["endpoint"], "messages");
    assert_eq!(answer["candidates"][0]["model"], "gold");
    let denied = explain(json!({"request": bare, "headers": {"x-strait-tags": "batch"}})).json();
    assert_eq!(
        denied["rule"],
        json!({"name": "closed", "deny": "No batches here."}),
        "{denied}"
    );
    let other = Dialect::OpenAi.body("b/x", "hi", false);
    for (body, status) in [
        (json!({"request": other, "key": "team"}), 403),
        (json!({"request": bare, "key": "nobody"}), 400),
        (json!({"request": bare, "endpoint": "/v1/files"}), 400),
        (json!({"request": bare, "header": {}}), 400),
    ] {
        assert_eq!(explain(body.clone()).status, status, "{body}");
    }
    assert_eq!(a.counts().count + b.counts().count, 0, "nothing was sent");
}
