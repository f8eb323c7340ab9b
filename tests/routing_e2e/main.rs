//! Which provider, address and key answers, through the whole program over real sockets.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
mod health;
mod screen;

use std::collections::BTreeMap;

use common::dialect::Dialect;
use common::{Answer, Strait, at_once, eventually, mock};
use serde_json::{Value, json};
use strait::mock::Mock;

/// A provider's table.
fn provider(name: &str, mock: &Mock) -> String {
    format!(
        "[providers.{name}]\nprotocols = [\"openai-chat\", \"anthropic\"]\nbase_url = \"{}/v1\"\nkey = \"the-key-of-{name}\"\n",
        mock.url()
    )
}

fn ask(strait: &Strait, model: &str) -> Answer {
    strait.post(
        Dialect::OpenAi.path(),
        &Dialect::OpenAi.body(model, "hi", false),
    )
}

fn answered_by(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-strait-provider").unwrap().to_owned()
}

/// Asks `model` so many times from four threads at once; returns who answered how often.
fn tally(strait: &Strait, model: &str, count: usize) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    let asked = at_once(4, |_| {
        (0..count / 4)
            .map(|_| answered_by(&ask(strait, model)))
            .collect::<Vec<_>>()
    });
    for name in asked.into_iter().flatten() {
        *tally.entry(name).or_default() += 1;
    }
    tally
}

/// The attempts of a record: who was asked, and what came of it.
fn attempts(record: &Value) -> Vec<(String, String)> {
    let attempts = record["attempts"].as_array().unwrap().iter();
    attempts
        .map(|one| {
            (
                one["provider"].as_str().unwrap().to_owned(),
                one["outcome"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(provider, outcome)| ((*provider).to_owned(), (*outcome).to_owned()))
        .collect()
}

#[test]
fn weights_share_requests_in_their_proportion() {
    let mocks = [mock(""), mock(""), mock("")];
    let strait = Strait::start(&format!(
        r#"
        {}{}{}
        [models.m]
        strategy = "weighted"
        targets = [{{ model = "a/x", weight = 70 }}, {{ model = "b/x", weight = 20 }}, {{ model = "c/x", weight = 10 }}]
        "#,
        provider("a", &mocks[0]),
        provider("b", &mocks[1]),
        provider("c", &mocks[2]),
    ));
    let tally = tally(&strait, "m", 2000);
    for ((name, weight), mock) in [("a", 0.7), ("b", 0.2), ("c", 0.1)].into_iter().zip(&mocks) {
        let count = tally[name];
        let (mean, deviation) = (
            2000.0 * weight,
            (2000.0f64 * weight * (1.0 - weight)).sqrt(),
        );
        // Six deviations: once in five hundred million runs by chance.
        assert!(
            (count as f64 - mean).abs() < 6.0 * deviation,
            "{name}: {count} instead of about {mean}"
        );
        assert_eq!(mock.counts().count, count as u64);
    }
}

#[test]
fn round_robin_is_exact() {
    let mocks = [mock(""), mock(""), mock("")];
    let strait = Strait::start(&format!(
        "{}{}{}[models.m]\nstrategy = \"round-robin\"\ntargets = [\"a/x\", \"b/x\", \"c/x\"]\n",
        provider("a", &mocks[0]),
        provider("b", &mocks[1]),
        provider("c", &mocks[2]),
    ));
    let expected: BTreeMap<String, usize> =
        ["a", "b", "c"].map(|name| (name.to_owned(), 100)).into();
    assert_eq!(tally(&strait, "m", 300), expected, "at once");
    let first: Vec<String> = (0..6).map(|_| answered_by(&ask(&strait, "m"))).collect();
    assert_eq!(first, ["a", "b", "c", "a", "b", "c"], "in turn");
}

#[test]
fn least_busy_prefers_the_idle_one() {
    let holds = "[[rule]]\nbody_contains = \"hold\"\nsteps = [{ stall_head = true }]";
    let mocks = [mock(holds), mock(holds)];
    let strait = Strait::start(&format!(
        "{}{}[models.m]\nstrategy = \"least-busy\"\ntargets = [\"a/x\", \"b/x\"]\n",
        provider("a", &mocks[0]),
        provider("b", &mocks[1]),
    ));
    for _ in 0..3 {
        let body = Dialect::OpenAi.body("m", "hold", false).to_string();
        let held = strait
            .client()
            .send_only(Dialect::OpenAi.path(), &[], body.as_bytes());
        eventually("one is held", || {
            mocks.iter().any(|mock| mock.counts().in_progress == 1)
        });
        let idle = if mocks[0].counts().in_progress == 1 {
            "b"
        } else {
            "a"
        };
        for _ in 0..10 {
            // The client has an answer a moment before the gateway is done with it.
            eventually("only that one is in flight", || {
                strait.metric("strait_inflight", &[]) == 1.0
            });
            assert_eq!(answered_by(&ask(&strait, "m")), idle);
        }
        drop(held);
        eventually("nothing is held", || {
            mocks.iter().all(|mock| mock.counts().in_progress == 0)
        });
        eventually("nothing is in flight", || {
            strait.metric("strait_inflight", &[]) == 0.0
        });
    }
    let both = tally(&strait, "m", 40);
    assert_eq!(both.len(), 2, "an idle pair is used evenly: {both:?}");
}

#[test]
fn fallbacks_are_followed_in_order_then_those_of_the_request() {
    let (bad, good) = (mock("[default]\nstatus = 503"), mock(""));
    let strait = Strait::start(&format!(
        r#"
        {}{}{}{}{}
        [models.a]
        targets = ["p1/x"]
        fallbacks = ["b", "p3/z"]
        retries = {{ max_attempts = 8 }}
        [models.b]
        targets = ["p2/y"]
        "#,
        provider("p1", &bad),
        provider("p2", &bad),
        provider("p3", &bad),
        provider("p4", &bad),
        provider("p5", &good),
    ));
    let mut body = Dialect::OpenAi.body("a", "hi", false);
    body["fallbacks"] = json!(["p4/w", "b", "p5/meta-llama/v"]);
    let answer = strait.post(Dialect::OpenAi.path(), &body);
    assert_eq!(answered_by(&answer), "p5", "{}", answer.text());
    assert_eq!(answer.header("x-strait-attempts"), Some("5"));
    let expected = [
        ("p1", "status"),
        ("p2", "status"),
        ("p3", "status"),
        ("p4", "status"),
        ("p5", "ok"),
    ];
    let record = &strait.records(1)[0];
    assert_eq!(attempts(record), pairs(&expected), "{record}");
    let call = &good.calls()[0];
    assert_eq!(call.model, "meta-llama/v");
    assert!(call.problems.is_empty(), "{:?}", call.problems);
    assert!(strait.metric("strait_fallbacks_total", &[]) >= 4.0);
    // A client that wants none of it gets the first one's answer.
    let headers = [("x-strait-no-fallback", "true")];
    let answer = strait.client().post(
        Dialect::OpenAi.path(),
        &headers,
        body.to_string().as_bytes(),
    );
    assert_eq!(answer.status, 503);
    let record = &strait.records(2)[1];
    assert!(
        attempts(record)
            .iter()
            .all(|(provider, _)| provider == "p1"),
        "{record}"
    );
    // A fallback that doesn't exist is the client's mistake, told before anyone is asked.
    let calls = bad.counts().count;
    body["fallbacks"] = json!(["p5/x", "nobody"]);
    let answer = strait.post(Dialect::OpenAi.path(), &body);
    assert_eq!(
        (answer.status, &answer.json()["error"]["param"]),
        (404, &json!("fallbacks"))
    );
    assert_eq!(bad.counts().count, calls);
}

#[test]
fn names_are_resolved_in_their_order() {
    let (lab, openai, anthropic) = (mock(""), mock(""), mock(""));
    let strait = Strait::start(&format!(
        r#"
        {}
        [providers.openai]
        base_url = "{}/v1"
        key = "the-openai-key"
        [providers.anthropic]
        base_url = "{}"
        key = "the-anthropic-key"
        [models.fast]
        targets = ["lab/small"]
        [models.gpt-4o]
        targets = ["lab/an-alias"]
        [models."lab/special"]
        targets = ["lab/behind-a-slash"]
        "#,
        provider("lab", &lab),
        openai.url(),
        anthropic.url(),
    ));
    for (name, by, model) in [
        ("fast", "lab", "small"),
        (
            "lab/meta-llama/Llama-3.3-70B:free",
            "lab",
            "meta-llama/Llama-3.3-70B:free",
        ),
        ("gpt-4o", "lab", "an-alias"),
        ("lab/special", "lab", "behind-a-slash"),
        ("gpt-4o-mini", "openai", "gpt-4o-mini"),
        ("openai/gpt-4o", "openai", "gpt-4o"),
        (
            "openai/not-in-any-catalogue",
            "openai",
            "not-in-any-catalogue",
        ),
        ("claude-haiku-4-5", "anthropic", "claude-haiku-4-5"),
    ] {
        for dialect in Dialect::ALL {
            let answer = strait.post(dialect.path(), &dialect.body(name, "hi", false));
            assert_eq!(answered_by(&answer), by, "{name}");
            assert_eq!(answer.header("x-strait-model"), Some(model), "{name}");
        }
    }
    assert_eq!(
        lab.calls()
            .iter()
            .filter(|call| call.model == "an-alias")
            .count(),
        2
    );
    for mock in [&lab, &openai, &anthropic] {
        for call in mock.calls() {
            assert!(call.problems.is_empty(), "{:?}", call.problems);
        }
    }
    assert!(
        openai
            .calls()
            .iter()
            .all(|call| call.header("authorization") == Some("Bearer the-openai-key"))
    );
    assert!(
        anthropic
            .calls()
            .iter()
            .all(|call| call.header("x-api-key") == Some("the-anthropic-key"))
    );
    let calls = lab.counts().count + openai.counts().count + anthropic.counts().count;
    for dialect in Dialect::ALL {
        for (name, near) in [
            ("fats", "fast"),
            ("gpt-4o-mni", "gpt-4o-mini"),
            ("claude-haiku-4.5", "claude-haiku-4-5"),
            ("labb/x", ""),
            ("lab/", ""),
        ] {
            let answer = strait.post(dialect.path(), &dialect.body(name, "hi", false));
            assert_eq!(answer.status, 404, "{name}: {}", answer.text());
            let message = dialect.error(&answer.json()).unwrap();
            assert!(
                message.contains(name) && message.contains(near),
                "{name}: {message}"
            );
            match dialect {
                Dialect::OpenAi => assert_eq!(answer.json()["error"]["code"], "model_not_found"),
                Dialect::Anthropic => assert_eq!(answer.json()["error"]["type"], "not_found_error"),
            }
        }
    }
    assert_eq!(
        lab.counts().count + openai.counts().count + anthropic.counts().count,
        calls
    );
}

#[test]
fn explain_tells_who_would_be_asked_and_asks_nobody() {
    let (lab, openai) = (mock(""), mock(""));
    let strait = Strait::start(&format!(
        r#"
        {}
        [providers.openai]
        base_url = "{}/v1"
        key = "the-openai-key"
        [models.m]
        targets = ["openai/gpt-4o", "lab/x"]
        fallbacks = ["other"]
        [models.other]
        targets = ["lab/y"]
        "#,
        provider("lab", &lab),
        openai.url(),
    ));
    let mut body = Dialect::OpenAi.body("m", "hi", false);
    body["max_tokens"] = json!(1000);
    body["fallbacks"] = json!(["lab/z"]);
    let answer = strait.admin("POST", "/admin/v1/explain", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let explained = answer.json();
    let candidates = explained["candidates"].as_array().unwrap();
    let order: Vec<_> = candidates
        .iter()
        .map(|one| {
            format!(
                "{}/{}",
                one["provider"].as_str().unwrap(),
                one["model"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(order, ["openai/gpt-4o", "lab/x", "lab/y", "lab/z"]);
    assert!(
        candidates.iter().all(|one| one["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty())),
        "{explained}"
    );
    // 1000 tokens of output at 10 USD a million, and a few of input.
    let cost: f64 = candidates[0]["estimated_cost_usd"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((0.01..0.0102).contains(&cost), "{explained}");
    assert_eq!(candidates[1]["estimated_cost_usd"], Value::Null);
    assert_eq!(
        strait
            .admin(
                "POST",
                "/admin/v1/explain",
                &Dialect::OpenAi.body("nope", "hi", false).to_string()
            )
            .status,
        404
    );
    assert_eq!(strait.admin("POST", "/admin/v1/explain", "{").status, 400);
    let unsigned = common::Client::new(strait.admin).post(
        "/admin/v1/explain",
        &[],
        body.to_string().as_bytes(),
    );
    assert_eq!(unsigned.status, 401);
    assert_eq!(lab.counts().count + openai.counts().count, 0);
}

#[test]
fn addresses_and_keys_share_requests_by_their_weight() {
    let (first, second) = (mock(""), mock(""));
    let strait = Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        endpoints = [{{ url = "{}/v1", weight = 3 }}, {{ url = "{}/v1" }}]
        keys = [{{ name = "a", key = "key-a", weight = 4 }}, {{ name = "b", key = "key-b" }}]
        "#,
        first.url(),
        second.url(),
    ));
    at_once(4, |_| {
        (0..200).for_each(|_| assert_eq!(ask(&strait, "lab/x").status, 200))
    });
    let calls = [first.calls(), second.calls()].concat();
    assert_eq!(calls.len(), 800);
    let share = first.calls().len() as f64 / 800.0;
    assert!(
        (0.65..0.85).contains(&share),
        "the first address got {share}"
    );
    let by_a = calls
        .iter()
        .filter(|call| call.header("authorization") == Some("Bearer key-a"))
        .count();
    let share = by_a as f64 / 800.0;
    assert!((0.7..0.9).contains(&share), "the first key got {share}");
}
