//! What is told of the traffic, after the fact: records, metrics and headers, through the whole program.

#[path = "../common/mod.rs"]
mod common;
mod metrics;

use std::sync::OnceLock;

use common::dialect::Dialect;
use common::{Answer, Strait, eventually, mock};
use serde_json::{Value, json};
use strait::mock::Mock;

const KEY: &str = "client-key-of-team-a-0123456789";

/// `openai/gpt-4o` has a price, `lab` does as the model's name says, `both` falls back from a dead one to it.
fn lab(more: &str) -> (Strait, Mock) {
    // An address of its own: its health checks leave open connections behind.
    static BAD: OnceLock<Mock> = OnceLock::new();
    let bad = BAD.get_or_init(|| mock("[default]\nstatus = 503"));
    let provider = mock(
        r#"
        [[rule]]
        model = "cut"
        steps = [{ chunks = 6, cut_after = 2 }]
        [[rule]]
        model = "silent"
        steps = [{ stall_head = true }]
        [[rule]]
        model = "mute"
        steps = [{ text = "no usage is told of this", usage = false }]
        [[rule]]
        model = "slow"
        steps = [{ delay_head = "2s" }]
        [default]
        chunks = 5
        chunk_gap = "2ms"
        usage = { prompt_tokens = 1000, completion_tokens = 500, cached_tokens = 400 }
        "#,
    );
    let strait = Strait::start(&format!(
        r#"
        [providers.openai]
        base_url = "{url}/v1"
        key = "the-openai-key"
        [providers.lab]
        protocols = ["anthropic"]
        base_url = "{url}"
        keys = [{{ name = "first", key = "the-lab-key" }}]
        [providers.bad]
        protocols = ["openai-chat"]
        base_url = "{bad}/v1"
        key = "the-bad-key"
        health = {{ path = "/health", every = "200ms" }}
        [models.fast]
        targets = ["lab/x"]
        [models.both]
        targets = ["bad/dead", "openai/gpt-4o"]
        [[keys]]
        name = "team-a"
        key = "{KEY}"
        {more}
        "#,
        url = provider.url(),
        bad = bad.url(),
    ));
    (strait, provider)
}

fn post(strait: &Strait, dialect: Dialect, more: &[(&str, &str)], body: &Value) -> Answer {
    let mut headers = vec![("x-api-key", KEY)];
    headers.extend_from_slice(more);
    strait
        .client()
        .post(dialect.path(), &headers, body.to_string().as_bytes())
}

#[test]
fn a_record_says_everything_of_its_exchange() {
    let (strait, _provider) = lab("");
    let mut body = Dialect::OpenAi.body("fast", "hello there, gateway", true);
    body["user"] = json!("u-1");
    body["seed"] = json!(7);
    let more = [
        ("x-strait-session-id", "s-1"),
        ("x-strait-tags", "red, blue"),
        ("x-request-id", "my-own-request-id"),
    ];
    let answer = post(&strait, Dialect::OpenAi, &more, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let record = &strait.records(1)[0];
    for (field, expected) in [
        ("id", json!("my-own-request-id")),
        ("endpoint", json!("chat")),
        ("protocol", json!("openai-chat")),
        ("key", json!("team-a")),
        ("user", json!("u-1")),
        ("session", json!("s-1")),
        ("tags", json!(["red", "blue"])),
        ("model_requested", json!("fast")),
        ("model", json!("x")),
        ("provider", json!("lab")),
        ("upstream_protocol", json!("anthropic")),
        ("mode", json!("translate")),
        ("stream", json!(true)),
        ("status", json!(200)),
        ("cache", json!("bypass")),
        ("finish", json!("stop")),
        ("request_bytes", json!(body.to_string().len())),
        ("response_bytes", json!(answer.body.len())),
    ] {
        assert_eq!(record[field], expected, "{field} in {record}");
    }
    assert!(record["time"].as_str().unwrap().ends_with('Z'), "{record}");
    assert_eq!(
        (&record["usage"]["output"], &record["usage"]["cache_read"]),
        (&json!(500), &json!(400)),
        "{record}"
    );
    assert_eq!(record["unpriced"], json!(true));
    assert!(record["dropped"].to_string().contains("seed"), "{record}");
    assert!(record.get("error").is_none(), "{record}");
    let attempt = &record["attempts"][0];
    assert_eq!(record["attempts"].as_array().unwrap().len(), 1);
    for (field, expected) in [
        ("provider", "lab"),
        ("model", "x"),
        ("credential", "first"),
        ("outcome", "ok"),
    ] {
        assert_eq!(attempt[field], expected, "{record}");
    }
    assert_eq!(
        (&attempt["status"], &attempt["reused"]),
        (&json!(200), &json!(false))
    );
    for field in [
        "duration_us",
        "overhead_us",
        "ttft_us",
        "chunks",
        "inter_token_us",
    ] {
        assert!(
            record[field].as_u64().is_some_and(|number| number > 0),
            "{field} in {record}"
        );
    }
    let time = |field: &str| record[field].as_u64().unwrap();
    assert!(
        time("overhead_us") <= time("ttft_us") && time("ttft_us") <= time("duration_us"),
        "{record}"
    );
    let phases = record["phases_us"].as_object().unwrap();
    for phase in ["read", "access", "route", "prepare", "upstream"] {
        assert!(phases.contains_key(phase), "{phase} in {record}");
    }
}

#[test]
fn each_exchange_leaves_one_record_however_it_ends() {
    let (strait, provider) = lab("[cache]\nenabled = true");
    let openai = Dialect::OpenAi;
    let mut expected: Vec<(u16, Option<&str>, &str)> = Vec::new();
    let mut then =
        |answer: Answer, status: u16, error: Option<&'static str>, mode: &'static str| {
            assert_eq!(answer.status, status, "{}", answer.text());
            expected.push((status, error, mode));
            let records = strait.records(expected.len());
            assert_eq!(records.len(), expected.len(), "{:?}", records.last());
            let last = records.last().unwrap();
            assert_eq!(last["status"], status, "{last}");
            assert_eq!(last["error"].as_str(), error, "{last}");
            assert_eq!(last["error_message"].is_string(), error.is_some(), "{last}");
            assert_eq!(last["mode"], mode, "{last}");
            assert_eq!(
                Some(last["id"].as_str().unwrap()),
                answer.header("x-request-id"),
                "{last}"
            );
        };
    then(
        post(
            &strait,
            openai,
            &[],
            &openai.body("openai/gpt-4o", "hi", false),
        ),
        200,
        None,
        "pass",
    );
    then(
        post(
            &strait,
            openai,
            &[],
            &openai.body("openai/gpt-4o", "hi", true),
        ),
        200,
        None,
        "cache",
    );
    then(
        post(
            &strait,
            Dialect::Anthropic,
            &[],
            &Dialect::Anthropic.body("fast", "hi", true),
        ),
        200,
        None,
        "pass",
    );
    then(
        post(&strait, openai, &[], &openai.body("demo/echo", "hi", false)),
        200,
        None,
        "demo",
    );
    then(
        post(&strait, openai, &[], &openai.body("nowhere", "hi", false)),
        404,
        Some("model_not_found"),
        "none",
    );
    then(
        strait.client().post(openai.path(), &[], b"{}"),
        401,
        Some("invalid_api_key"),
        "none",
    );
    then(
        strait
            .client()
            .post(openai.path(), &[("x-api-key", KEY)], b"{\"model\""),
        400,
        Some("invalid_request"),
        "none",
    );
    then(
        strait
            .client()
            .post("/v1/nothing", &[("x-api-key", KEY)], b"{}"),
        404,
        Some("path_not_found"),
        "none",
    );
    then(
        strait.client().get("/v1/chat/completions"),
        405,
        Some("method_not_allowed"),
        "none",
    );
    then(
        strait
            .client()
            .request("GET", "/v1/models", &[("x-api-key", KEY)], b""),
        200,
        None,
        "none",
    );
    then(
        post(
            &strait,
            openai,
            &[("x-strait-cache", "only-if-cached")],
            &openai.body("fast", "new", false),
        ),
        504,
        Some("not_cached"),
        "none",
    );
    then(
        post(
            &strait,
            openai,
            &[("x-strait-timeout", "300ms")],
            &openai.body("lab/silent", "hi", false),
        ),
        504,
        Some("timeout"),
        "none",
    );
    then(
        post(
            &strait,
            openai,
            &[],
            &openai.body("openai/cut", "a few words", true),
        ),
        200,
        Some("upstream_broken"),
        "pass",
    );
    // Liveness leaves none.
    assert_eq!(strait.client().get("/health").status, 200);
    assert_eq!(strait.client().get("/").status, 200);
    // One that the client leaves, before and in the answer.
    let mut count = expected.len();
    for (model, stream) in [("lab/silent", false), ("lab/silent", true)] {
        let body = openai.body(model, "bye", stream).to_string();
        let calls = provider.counts().count;
        let socket =
            strait
                .client()
                .send_only(openai.path(), &[("x-api-key", KEY)], body.as_bytes());
        eventually("it is asked", || provider.counts().count == calls + 1);
        drop(socket);
        count += 1;
        let last = strait.records(count).pop().unwrap();
        assert_eq!(
            (&last["status"], &last["error"]),
            (&json!(499), &json!("client_closed_request")),
            "{last}"
        );
        assert_eq!(last["attempts"][0]["outcome"], "cancelled", "{last}");
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(strait.records(count).len(), count, "not one more");
}

#[test]
fn every_answer_has_a_request_id_and_a_fit_one_of_the_client_is_kept() {
    let (strait, _provider) = lab("");
    let body = Dialect::OpenAi.body("fast", "hi", false);
    let id = |answer: &Answer| answer.header("x-request-id").unwrap().to_owned();
    assert_eq!(
        id(&post(
            &strait,
            Dialect::OpenAi,
            &[("x-request-id", "abc-123/DEF:456")],
            &body
        )),
        "abc-123/DEF:456"
    );
    let long = "x".repeat(200);
    for unfit in ["short", "with a space", long.as_str()] {
        let own = id(&post(
            &strait,
            Dialect::OpenAi,
            &[("x-request-id", unfit)],
            &body,
        ));
        assert!(own.starts_with("req_") && own.len() > 20, "{own}");
    }
    let with = [("x-request-id", "kept-on-errors"), ("x-api-key", KEY)];
    for (path, body) in [
        ("/v1/chat/completions", "{"),
        ("/v1/messages", "{}"),
        ("/v1/nothing", ""),
        (
            "/v1/chat/completions",
            "{\"model\":\"nope\",\"messages\":[{}]}",
        ),
    ] {
        let answer = strait.client().post(path, &with, body.as_bytes());
        assert!(answer.status >= 400);
        assert_eq!(id(&answer), "kept-on-errors", "{path}");
    }
    let ids: std::collections::HashSet<String> = (0..50)
        .map(|_| id(&post(&strait, Dialect::OpenAi, &[], &body)))
        .collect();
    assert_eq!(ids.len(), 50, "each is another one");
}

#[test]
fn model_answers_name_who_answered_and_what_the_gateway_took() {
    let (strait, _provider) = lab("[cache]\nenabled = true");
    for dialect in Dialect::ALL {
        for stream in [false, true] {
            let mut seen = Vec::new();
            for text in ["one", "one"] {
                let answer = post(
                    &strait,
                    dialect,
                    &[],
                    &dialect.body("both", &format!("{text} {stream}"), stream),
                );
                assert_eq!(answer.status, 200, "{}", answer.text());
                let overhead = answer.header("x-strait-overhead-us").unwrap();
                assert!(
                    overhead.parse::<u64>().is_ok_and(|micros| micros > 0),
                    "{overhead}"
                );
                assert_eq!(answer.header("x-strait-provider"), Some("openai"));
                assert_eq!(answer.header("x-strait-model"), Some("gpt-4o"));
                seen.push((
                    answer.header("x-strait-cache").unwrap().to_owned(),
                    answer.header("x-strait-attempts").unwrap().to_owned(),
                ));
            }
            let expected = [("miss", "2"), ("hit", "0")]
                .map(|(cache, attempts)| (cache.to_owned(), attempts.to_owned()));
            assert_eq!(seen, expected, "{dialect:?}, stream {stream}");
            strait.admin("DELETE", "/admin/v1/cooldowns", "");
        }
    }
    // The provider's two seconds are not the gateway's.
    let answer = post(
        &strait,
        Dialect::OpenAi,
        &[],
        &Dialect::OpenAi.body("lab/slow", "hi", false),
    );
    let overhead: u64 = answer
        .header("x-strait-overhead-us")
        .unwrap()
        .parse()
        .unwrap();
    assert!(overhead < 1_500_000, "{overhead} µs of its own");
}
