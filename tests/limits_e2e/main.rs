//! Keys, limits and secrets, through the whole program over real sockets.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod budgets;
#[path = "../common/mod.rs"]
mod common;
mod kept;
mod models;
mod named;
mod native;
mod secrets;
mod shared;

use common::dialect::Dialect;
use common::{Answer, Strait, eventually, mock};
use serde_json::{Value, json};
use strait::mock::Mock;

const KEY: &str = "client-key-of-team-a-0123456789";

/// A gateway with one provider that speaks both dialects, and one client key with `limits`.
fn lab(script: &str, limits: &str) -> (Strait, Mock) {
    let provider = mock(script);
    let strait = Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat", "anthropic"]
        base_url = "{}/v1"
        key = "the-provider-key"
        [models.fast]
        targets = ["lab/x"]
        retries = {{ max_attempts = 1 }}
        [models.careful]
        targets = ["lab/y"]
        [[keys]]
        name = "team-a"
        key = "{KEY}"
        {limits}
        "#,
        provider.url()
    ));
    (strait, provider)
}

fn post(strait: &Strait, dialect: Dialect, headers: &[(&str, &str)], body: &Value) -> Answer {
    strait
        .client()
        .post(dialect.path(), headers, body.to_string().as_bytes())
}

fn ask(strait: &Strait, body: &Value) -> Answer {
    post(
        strait,
        Dialect::OpenAi,
        &[("authorization", &format!("Bearer {KEY}"))],
        body,
    )
}

fn number(answer: &Answer, header: &str) -> u64 {
    let value = answer
        .header(header)
        .unwrap_or_else(|| panic!("no {header}: {:?}", answer.headers));
    value
        .parse()
        .unwrap_or_else(|_| panic!("{header} is no integer: {value}"))
}

/// Reads `6m0s`, `8.64s`, `12ms`.
fn seconds(answer: &Answer, header: &str) -> f64 {
    let text = answer
        .header(header)
        .unwrap_or_else(|| panic!("no {header}"));
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.parse::<f64>().unwrap() / 1000.0;
    }
    let rest = text.strip_suffix('s').unwrap();
    match rest.split_once('m') {
        Some((minutes, rest)) => {
            minutes.parse::<f64>().unwrap() * 60.0 + rest.parse::<f64>().unwrap()
        }
        None => rest.parse().unwrap(),
    }
}

#[test]
fn without_a_known_key_nothing_is_served() {
    let (strait, provider) = lab("", "");
    for dialect in Dialect::ALL {
        let body = dialect.body("fast", "hi", false);
        let long = "k".repeat(600);
        let almost = &KEY[..KEY.len() - 1];
        for headers in [
            vec![],
            vec![("authorization", "Bearer wrong-key-0123456789")],
            vec![("authorization", "Basic Zm9vOmJhcg==")],
            vec![("authorization", KEY)],
            vec![("x-api-key", "wrong-key-0123456789")],
            vec![("x-api-key", almost)],
            vec![("api-key", long.as_str())],
            vec![("cookie", KEY)],
        ] {
            let answer = post(&strait, dialect, &headers, &body);
            let case = format!("{dialect:?}, {headers:?}: {}", answer.text());
            assert_eq!(answer.status, 401, "{case}");
            assert!(dialect.error(&answer.json()).is_some(), "{case}");
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{case}");
            assert!(answer.header("x-request-id").is_some(), "{case}");
            match dialect {
                Dialect::OpenAi => {
                    assert_eq!(answer.json()["error"]["code"], "invalid_api_key", "{case}")
                }
                Dialect::Anthropic => assert_eq!(
                    answer.json()["error"]["type"],
                    "authentication_error",
                    "{case}"
                ),
            }
        }
        // Nor by a key in the query: only Gemini's dialect puts it there.
        let path = format!("{}?key={KEY}", dialect.path());
        assert_eq!(
            strait
                .client()
                .post(&path, &[], body.to_string().as_bytes())
                .status,
            401
        );
    }
    assert_eq!(strait.client().get("/v1/models").status, 401);
    assert_eq!(provider.counts().count, 0);
}

#[test]
fn a_key_is_taken_from_wherever_its_client_puts_it_and_goes_no_further() {
    let (strait, provider) = lab("", "");
    let bearer = format!("Bearer {KEY}");
    let mut served = 0;
    for dialect in Dialect::ALL {
        for (name, value) in [
            ("authorization", bearer.as_str()),
            ("x-api-key", KEY),
            ("api-key", KEY),
            ("x-goog-api-key", KEY),
        ] {
            let answer = post(
                &strait,
                dialect,
                &[(name, value)],
                &dialect.body("fast", "hi", false),
            );
            assert_eq!(answer.status, 200, "{dialect:?}, {name}: {}", answer.text());
            served += 1;
        }
    }
    let calls = provider.calls();
    assert_eq!(calls.len(), served);
    for call in calls {
        assert!(
            call.headers.iter().all(|(_, value)| !value.contains(KEY)),
            "{:?}",
            call.headers
        );
        assert!(
            call.headers
                .iter()
                .any(|(_, value)| value.contains("the-provider-key")),
            "{:?}",
            call.headers
        );
    }
}

#[test]
fn a_key_may_use_its_models_alone() {
    let (strait, provider) = lab("", "models = [\"fast\", \"lab/gpt-*\"]");
    for (model, status) in [
        ("fast", 200),
        ("lab/gpt-4", 200),
        ("careful", 403),
        ("lab/x", 403),
        ("lab/gp", 403),
        ("unheard-of", 403),
    ] {
        let answer = ask(&strait, &Dialect::OpenAi.body(model, "hi", false));
        assert_eq!(answer.status, status, "{model}: {}", answer.text());
        if status == 403 {
            assert_eq!(
                answer.json()["error"]["code"],
                "model_not_allowed",
                "{model}"
            );
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{model}");
        }
    }
    assert_eq!(provider.counts().count, 2);
    let mut body = Dialect::OpenAi.body("fast", "hi", false);
    body["fallbacks"] = json!(["careful"]);
    assert_eq!(ask(&strait, &body).status, 403, "a fallback is a model too");
    let answer = post(
        &strait,
        Dialect::Anthropic,
        &[("x-api-key", KEY)],
        &Dialect::Anthropic.body("careful", "hi", false),
    );
    assert_eq!(
        (answer.status, answer.json()["error"]["type"].as_str()),
        (403, Some("permission_error"))
    );
    assert_eq!(provider.counts().count, 2);
    let models = strait
        .client()
        .request("GET", "/v1/models", &[("x-api-key", KEY)], b"")
        .json();
    let ids: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["fast"]);
}

#[test]
fn requests_per_minute_are_counted_down_and_refused_with_a_time() {
    for dialect in Dialect::ALL {
        for stream in [false, true] {
            let (strait, provider) = lab("", "limits = { rpm = 3 }");
            let auth = [("x-api-key", KEY)];
            for left in [2, 1, 0] {
                let answer = post(&strait, dialect, &auth, &dialect.body("fast", "hi", stream));
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(number(&answer, "x-ratelimit-limit-requests"), 3);
                assert_eq!(number(&answer, "x-ratelimit-remaining-requests"), left);
                let reset = seconds(&answer, "x-ratelimit-reset-requests");
                let used = (3 - left) as f64;
                assert!(
                    reset <= used * 20.0 && reset > used * 20.0 - 15.0,
                    "after {used}: {reset}"
                );
                assert_eq!(
                    answer.header("x-ratelimit-limit-tokens"),
                    None,
                    "it has no limit of tokens"
                );
            }
            let answer = post(&strait, dialect, &auth, &dialect.body("fast", "hi", stream));
            let case = format!("{dialect:?}, stream {stream}: {}", answer.text());
            assert_eq!(answer.status, 429, "{case}");
            assert!((1..=20).contains(&number(&answer, "retry-after")), "{case}");
            assert_eq!(
                number(&answer, "x-ratelimit-remaining-requests"),
                0,
                "{case}"
            );
            assert!(
                dialect
                    .error(&answer.json())
                    .is_some_and(|message| message.contains("rpm")),
                "{case}"
            );
            assert_eq!(
                answer.header("x-should-retry"),
                None,
                "a retry cures it: {case}"
            );
            assert_eq!(provider.counts().count, 3, "{case}");
            assert_eq!(
                strait.metric("strait_rate_limited_total", &["limit=\"rpm\""]),
                1.0,
                "{case}"
            );
            let records = strait.records(4);
            assert_eq!(
                (&records[3]["status"], &records[3]["error"]),
                (&json!(429), &json!("rate_limit_exceeded"))
            );
            assert_eq!(
                (&records[3]["key"], &records[3]["attempts"]),
                (&json!("team-a"), &json!([]))
            );
        }
    }
}

#[test]
fn tokens_are_estimated_at_admission_and_settled_by_usage() {
    for stream in [false, true] {
        let (strait, provider) = lab(
            "[default]\nusage = { prompt_tokens = 10, completion_tokens = 5 }",
            "limits = { tpm = 1000 }",
        );
        let mut body = Dialect::OpenAi.body("fast", "hi", stream);
        body["max_tokens"] = json!(800);
        let mut left = Vec::new();
        for _ in 0..5 {
            // Each is estimated at more than half of the limit: without settlement the second is refused.
            let answer = ask(&strait, &body);
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(number(&answer, "x-ratelimit-limit-tokens"), 1000);
            left.push(number(&answer, "x-ratelimit-remaining-tokens"));
            // The settlement comes with the answer's end; the record is written after it.
            strait.records(left.len());
        }
        assert!(
            (150..200).contains(&left[0]),
            "1000 less 800 less the prompt: {left:?}"
        );
        for pair in left.windows(2) {
            assert!(
                pair[1] + 16 >= pair[0],
                "15 tokens were used, not the estimate: {left:?}"
            );
        }
        assert_eq!(provider.counts().count, 5);
    }
}

#[test]
fn tokens_beyond_the_estimate_are_owed() {
    for stream in [false, true] {
        let (strait, provider) = lab(
            "[default]\nusage = { prompt_tokens = 1500, completion_tokens = 500 }",
            "limits = { tpm = 1000 }",
        );
        let body = Dialect::OpenAi.body("fast", "hi", stream);
        assert_eq!(ask(&strait, &body).status, 200);
        strait.records(1);
        let answer = ask(&strait, &body);
        assert_eq!(answer.status, 429, "{}", answer.text());
        // 2000 tokens at 1000 a minute, less the minute that it may have at once.
        assert!(
            (40..=62).contains(&number(&answer, "retry-after")),
            "{:?}",
            answer.headers
        );
        assert_eq!(number(&answer, "x-ratelimit-remaining-tokens"), 0);
        assert!(
            (100.0..=120.0).contains(&seconds(&answer, "x-ratelimit-reset-tokens")),
            "{:?}",
            answer.headers
        );
        assert_eq!(
            strait.metric("strait_rate_limited_total", &["limit=\"tpm\""]),
            1.0
        );
        assert_eq!(provider.counts().count, 1);
    }
}

#[test]
fn a_request_that_alone_is_over_the_limit_is_told_to_shrink() {
    let (strait, provider) = lab("", "limits = { tpm = 1000 }");
    let mut body = Dialect::OpenAi.body("fast", "hi", false);
    body["max_tokens"] = json!(2000);
    let answer = ask(&strait, &body);
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (413, None),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(provider.counts().count, 0);
}

#[test]
fn failed_requests_give_their_tokens_back() {
    let (strait, _provider) = lab("[default]\nstatus = 500", "limits = { tpm = 1000 }");
    let mut body = Dialect::OpenAi.body("fast", "hi", false);
    body["max_tokens"] = json!(800);
    for at in 0..4 {
        let answer = ask(&strait, &body);
        assert_eq!(answer.status, 500, "number {at}: {}", answer.text());
    }
}

#[test]
fn no_more_requests_at_once_than_allowed_and_every_permit_comes_back() {
    let (strait, provider) = lab(
        "[[rule]]\nbody_contains = \"hold\"\nsteps = [{ stall_head = true }]\n[[rule]]\nbody_contains = \"pour\"\nsteps = [{ chunks = 4, stall_after = 2 }]",
        "limits = { concurrent = 2 }",
    );
    let auth = format!("Bearer {KEY}");
    let auth = [("authorization", auth.as_str())];
    for dialect in Dialect::ALL {
        for round in 0..10 {
            let held: Vec<_> = [("hold", false), ("pour the words", true)]
                .iter()
                .map(|(text, stream)| {
                    let body = dialect.body("fast", text, *stream).to_string();
                    strait
                        .client()
                        .send_only(dialect.path(), &auth, body.as_bytes())
                })
                .collect();
            eventually("two are running", || provider.counts().in_progress == 2);
            let calls = provider.counts().count;
            let answer = post(&strait, dialect, &auth, &dialect.body("fast", "hi", false));
            assert_eq!(answer.status, 429, "round {round}: {}", answer.text());
            assert_eq!(number(&answer, "retry-after"), 1);
            assert!(
                dialect
                    .error(&answer.json())
                    .is_some_and(|message| message.contains("concurrent"))
            );
            assert_eq!(
                provider.counts().count,
                calls,
                "a refused request calls nobody"
            );
            drop(held);
            eventually("they are gone", || {
                strait.metric("strait_inflight", &[]) == 0.0
            });
            let answer = post(&strait, dialect, &auth, &dialect.body("fast", "hi", false));
            assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
            // The client has its answer a moment before the permit is back.
            eventually("it is gone", || {
                strait.metric("strait_inflight", &[]) == 0.0
            });
        }
    }
    eventually("the provider was told", || {
        provider.counts().in_progress == 0
    });
    assert_eq!(strait.metric("strait_streams_open", &[]), 0.0);
}

#[test]
fn the_limits_of_one_key_are_not_anothers() {
    let provider = mock("");
    let strait = Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        base_url = "{}/v1"
        key = "the-provider-key"
        [[keys]]
        name = "one"
        key = "client-key-of-one-0123456789"
        limits = {{ rpm = 1 }}
        [[keys]]
        name = "two"
        key = "client-key-of-two-0123456789"
        limits = {{ rpm = 1 }}
        [[keys]]
        name = "free"
        key = "client-key-of-free-0123456789"
        "#,
        provider.url()
    ));
    let status = |key| {
        post(
            &strait,
            Dialect::OpenAi,
            &[("x-api-key", key)],
            &Dialect::OpenAi.body("lab/x", "hi", false),
        )
        .status
    };
    assert_eq!(
        [
            status("client-key-of-one-0123456789"),
            status("client-key-of-one-0123456789")
        ],
        [200, 429]
    );
    assert_eq!(
        [
            status("client-key-of-two-0123456789"),
            status("client-key-of-two-0123456789")
        ],
        [200, 429]
    );
    for _ in 0..5 {
        assert_eq!(status("client-key-of-free-0123456789"), 200);
    }
    // What was used stays used over a reload.
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    assert_eq!(status("client-key-of-one-0123456789"), 429);
}
