//! The failure matrix: what goes wrong at a provider × protocol × streamed or not, over real sockets. What the
//! client saw, and which calls were made.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Answer, Strait, chat, message};
use serde_json::{Value, json};
use strait::mock::{Mock, Script};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dialect {
    OpenAi,
    Anthropic,
}

impl Dialect {
    const ALL: [Dialect; 2] = [Dialect::OpenAi, Dialect::Anthropic];

    fn protocol(self) -> &'static str {
        match self {
            Dialect::OpenAi => "openai-chat",
            Dialect::Anthropic => "anthropic",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Dialect::OpenAi => "/v1/chat/completions",
            Dialect::Anthropic => "/v1/messages",
        }
    }

    fn body(self, model: &str, stream: bool) -> Value {
        let mut body = match self {
            Dialect::OpenAi => chat(model, "hello there, gateway"),
            Dialect::Anthropic => message(model, "hello there, gateway"),
        };
        if stream {
            body["stream"] = json!(true);
        }
        body
    }

    /// The text of a whole answer or of a stream that ended well.
    fn text(self, answer: &Answer, stream: bool) -> Option<String> {
        if !stream {
            let json = answer.json();
            return match self {
                Dialect::OpenAi => json["choices"][0]["message"]["content"]
                    .as_str()
                    .map(str::to_owned),
                Dialect::Anthropic => json["content"][0]["text"].as_str().map(str::to_owned),
            };
        }
        if !answer.complete || !self.ended(answer) {
            return None;
        }
        Some(self.said(answer))
    }

    fn said(self, answer: &Answer) -> String {
        events(answer)
            .iter()
            .filter_map(|event| match self {
                Dialect::OpenAi => event["choices"][0]["delta"]["content"].as_str(),
                Dialect::Anthropic => event["delta"]["text"].as_str(),
            })
            .collect()
    }

    fn ended(self, answer: &Answer) -> bool {
        match self {
            Dialect::OpenAi => answer.text().trim_end().ends_with("data: [DONE]"),
            Dialect::Anthropic => events(answer)
                .last()
                .is_some_and(|event| event["type"] == "message_stop"),
        }
    }

    /// The error in the dialect's own shape: its message.
    fn error(self, json: &Value) -> Option<String> {
        if self == Dialect::Anthropic && json["type"] != "error" {
            return None;
        }
        json["error"]["message"].as_str().map(str::to_owned)
    }
}

fn events(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok())
        .collect()
}

fn script(step: &str) -> Script {
    Script::from_toml(&format!("[[rule]]\nmodel = \"x\"\nsteps = [{step}]\n")).unwrap()
}

/// Two providers that speak `protocol`, the first behaving as `step` says; a model for both and one for the first.
fn lab(dialect: Dialect, step: &str) -> (Strait, Mock, Mock) {
    let (bad, good) = (
        Mock::start(script(step)).unwrap(),
        Mock::start(script("{ text = \"from the good one\" }")).unwrap(),
    );
    let protocol = dialect.protocol();
    let strait = Strait::start(&format!(
        r#"
        [providers.bad]
        protocols = ["{protocol}"]
        base_url = "{}/v1"
        key = "bad-provider-key"
        timeouts = {{ connect = "2s", first_byte = "1500ms", idle = "1500ms", total = "20s" }}
        [providers.good]
        protocols = ["{protocol}"]
        base_url = "{}/v1"
        key = "good-provider-key"
        [models.both]
        targets = ["bad/x", "good/x"]
        [models.alone]
        targets = ["bad/x"]
        retries = {{ max_attempts = 1 }}
        "#,
        bad.url(),
        good.url(),
    ));
    (strait, bad, good)
}

/// What goes wrong before anything was said: the client must not notice.
const BEFORE: [(&str, &str); 15] = [
    (
        "429 with retry-after",
        "{ status = 429, headers = { retry-after = \"30\" } }",
    ),
    ("429", "{ status = 429 }"),
    ("401", "{ status = 401 }"),
    ("403", "{ status = 403 }"),
    ("404", "{ status = 404 }"),
    ("408", "{ status = 408 }"),
    ("500", "{ status = 500 }"),
    ("503", "{ status = 503 }"),
    ("529", "{ status = 529 }"),
    (
        "a redirect",
        "{ status = 302, headers = { location = \"http://127.0.0.1:1/\" } }",
    ),
    ("time-out before the head", "{ stall_head = true }"),
    ("closed before the head", "{ close_before_head = true }"),
    ("garbage", "{ garbage = true }"),
    ("an error in a 200", "{ error_event = { at = 0 } }"),
    ("an empty answer", "{ empty_stream = true }"),
];

/// The same, where only a stream or only a whole answer can go wrong so.
const BEFORE_STREAM: [(&str, &str); 5] = [
    ("cut before anything was said", "{ cut_after = 0 }"),
    (
        "reset before anything was said",
        "{ cut_after = 0, cut = \"reset\" }",
    ),
    ("ended before anything was said", "{ end_after = 0 }"),
    ("silent before anything was said", "{ stall_after = 0 }"),
    (
        "an error after the opening events",
        "{ error_event = { at = 0, after_start = true } }",
    ),
];

const BEFORE_WHOLE: [(&str, &str); 2] = [
    ("cut in the body", "{ cut_body = 40 }"),
    ("silent in the body", "{ stall_after = 1 }"),
];

#[test]
fn what_fails_before_the_commit_point_is_never_seen() {
    for dialect in Dialect::ALL {
        for stream in [false, true] {
            let more: &[(&str, &str)] = if stream {
                &BEFORE_STREAM
            } else {
                &BEFORE_WHOLE
            };
            let (strait, bad, good) = lab(dialect, "{}");
            for (name, step) in BEFORE.iter().chain(more) {
                bad.set_script(script(step));
                let calls = bad.calls().len();
                let answer = strait.post(dialect.path(), &dialect.body("both", stream));
                let case = format!("{dialect:?}, stream {stream}, {name}");
                assert_eq!(answer.status, 200, "{case}: {}", answer.text());
                let text = dialect.text(&answer, stream);
                assert_eq!(
                    text.as_deref(),
                    Some("from the good one"),
                    "{case}: {}",
                    answer.text()
                );
                assert_eq!(answer.header("x-strait-provider"), Some("good"), "{case}");
                assert_eq!(answer.header("x-strait-attempts"), Some("2"), "{case}");
                assert_eq!(
                    bad.calls().len(),
                    calls + 1,
                    "{case}: one call of the bad one"
                );
                // Begin the next case with nothing held against the provider.
                assert_eq!(
                    strait.admin("DELETE", "/admin/v1/cooldowns", "").status,
                    200
                );
            }
            assert!(
                good.calls().iter().all(|call| call.problems.is_empty()),
                "{:?}",
                good.calls().last()
            );
        }
    }
}

#[test]
fn a_refused_connection_and_a_broken_handshake_are_never_seen() {
    for dialect in Dialect::ALL {
        let good = Mock::start(script("{ text = \"from the good one\" }")).unwrap();
        let protocol = dialect.protocol();
        let strait = Strait::start(&format!(
            r#"
            [providers.refused]
            protocols = ["{protocol}"]
            base_url = "http://{}/v1"
            key = "a-provider-key"
            [providers.nottls]
            protocols = ["{protocol}"]
            base_url = "https://{}/v1"
            key = "a-provider-key"
            [providers.nowhere]
            protocols = ["{protocol}"]
            base_url = "http://does-not-exist.invalid/v1"
            key = "a-provider-key"
            [providers.good]
            protocols = ["{protocol}"]
            base_url = "{}/v1"
            key = "good-provider-key"
            [models.both]
            targets = ["refused/x", "nottls/x", "nowhere/x", "good/x"]
            retries = {{ max_attempts = 5 }}
            "#,
            common::free(),
            good.addr,
            good.url(),
        ));
        for stream in [false, true] {
            let answer = strait.post(dialect.path(), &dialect.body("both", stream));
            assert_eq!(answer.status, 200, "{dialect:?}: {}", answer.text());
            assert_eq!(
                dialect.text(&answer, stream).as_deref(),
                Some("from the good one"),
                "{dialect:?}"
            );
        }
        let record = &strait.records(2)[0];
        let outcomes: Vec<&str> = record["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["outcome"].as_str().unwrap())
            .collect();
        assert_eq!(outcomes, ["connect", "tls", "resolve", "ok"], "{record}");
    }
}

#[test]
fn what_fails_after_the_commit_point_ends_in_an_error_of_the_dialect() {
    let after = [
        ("cut", "{ chunks = 6, cut_after = 2 }"),
        ("reset", "{ chunks = 6, cut_after = 2, cut = \"reset\" }"),
        ("ended too early", "{ chunks = 6, end_after = 2 }"),
        ("silent", "{ chunks = 6, stall_after = 2 }"),
        ("garbage", "{ chunks = 6, garbage_at = 2 }"),
        (
            "error event",
            "{ chunks = 6, error_event = { at = 2, message = \"it broke\" } }",
        ),
    ];
    for dialect in Dialect::ALL {
        let (strait, bad, good) = lab(dialect, "{}");
        for (at, (name, step)) in after.iter().enumerate() {
            bad.set_script(script(step));
            let answer = strait.post(dialect.path(), &dialect.body("both", true));
            let case = format!("{dialect:?}, {name}: {}", answer.text());
            assert_eq!(answer.status, 200, "{case}");
            assert!(
                answer.complete,
                "the chunked body must end properly: {case}"
            );
            assert!(
                !dialect.said(&answer).is_empty(),
                "what was said stays: {case}"
            );
            assert!(
                !answer.text().contains("[DONE]") && !answer.text().contains("message_stop"),
                "no false end: {case}"
            );
            let last = events(&answer).pop().unwrap();
            assert!(
                dialect
                    .error(&last)
                    .is_some_and(|message| !message.is_empty()),
                "{case}"
            );
            let record = &strait.records(at + 1)[at];
            assert!(record["error"].is_string(), "{case}: {record}");
            assert_eq!(
                record["usage"]["estimated"],
                json!(true),
                "{case}: {record}"
            );
        }
        assert_eq!(
            good.calls().len(),
            0,
            "after the commit point nobody else is asked"
        );
    }
}

#[test]
fn alone_each_failure_has_its_status_and_the_dialects_shape() {
    let table: [(&str, &str, u16); 12] = [
        (
            "400",
            "{ status = 400, error = { message = \"the temperature is wrong\" } }",
            400,
        ),
        ("413", "{ status = 413 }", 413),
        ("422", "{ status = 422 }", 422),
        ("404", "{ status = 404 }", 404),
        (
            "429",
            "{ status = 429, headers = { retry-after = \"17\" } }",
            429,
        ),
        ("401 is ours, not the client's", "{ status = 401 }", 502),
        ("403 is ours, not the client's", "{ status = 403 }", 502),
        ("500", "{ status = 500 }", 500),
        ("529", "{ status = 529 }", 529),
        ("time-out", "{ stall_head = true }", 504),
        ("closed", "{ close_before_head = true }", 502),
        ("garbage", "{ garbage = true }", 502),
    ];
    for dialect in Dialect::ALL {
        for stream in [false, true] {
            for (name, step, status) in table {
                let (strait, bad, _good) = lab(dialect, step);
                let answer = strait.post(dialect.path(), &dialect.body("alone", stream));
                let case = format!("{dialect:?}, stream {stream}, {name}: {}", answer.text());
                assert_eq!(answer.status, status, "{case}");
                assert!(dialect.error(&answer.json()).is_some(), "{case}");
                assert_eq!(bad.calls().len(), 1, "{case}");
                assert!(answer.header("x-request-id").is_some(), "{case}");
                assert!(!answer.text().contains("bad-provider-key"), "{case}");
                if status == 429 {
                    assert_eq!(answer.header("retry-after"), Some("17"), "{case}");
                }
            }
        }
    }
}

#[test]
fn an_upstreams_own_error_keeps_its_body_byte_for_byte() {
    let body = r#"{"error":  {"message":"Too long.", "type":"invalid_request_error","param":"messages","code":"context_length_exceeded"} }"#;
    let step = format!("{{ status = 400, body = '{body}' }}");
    let (strait, _bad, _good) = lab(Dialect::OpenAi, &step);
    let answer = strait.post("/v1/chat/completions", &chat("both", "hi"));
    assert_eq!((answer.status, answer.text().as_str()), (400, body));
}

#[test]
fn a_429_that_names_a_short_wait_is_waited_for() {
    let (strait, bad, _good) = lab(
        Dialect::OpenAi,
        "{ status = 429, headers = { retry-after = \"1\" } }, { text = \"now\" }",
    );
    let started = std::time::Instant::now();
    let answer = strait.post("/v1/chat/completions", &chat("bad/x", "hi"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        started.elapsed() >= std::time::Duration::from_millis(950),
        "asked again before its time"
    );
    assert_eq!(bad.calls().len(), 2);
}

#[test]
fn no_fallback_asks_nobody_else() {
    let (strait, _bad, good) = lab(Dialect::OpenAi, "{ status = 500 }");
    let mut body = chat("bad/x", "hi");
    body["fallbacks"] = json!(["good/x"]);
    let answer = strait.post("/v1/chat/completions", &body);
    assert_eq!(
        answer.status,
        200,
        "the request's own fallback answers: {}",
        answer.text()
    );
    let sent = good.calls()[0].json();
    assert!(
        sent.get("fallbacks").is_none(),
        "what is ours is stripped: {sent}"
    );
    let calls = good.calls().len();
    let answer = strait.client().post(
        "/v1/chat/completions",
        &[("x-strait-no-fallback", "true")],
        body.to_string().as_bytes(),
    );
    assert_eq!(answer.status, 500);
    assert_eq!(good.calls().len(), calls);
}

#[test]
fn keys_of_a_provider_are_rotated_when_one_is_limited() {
    let mock = Mock::start(
        Script::from_toml(
            r#"
            [[rule]]
            header = { name = "authorization", value = "limited-key" }
            steps = [{ status = 429, headers = { retry-after = "60" } }]
            "#,
        )
        .unwrap(),
    )
    .unwrap();
    let strait = Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        base_url = "{}/v1"
        keys = [{{ name = "a", key = "limited-key", weight = 100 }}, {{ name = "b", key = "another-key" }}]
        "#,
        mock.url()
    ));
    for _ in 0..20 {
        let answer = strait.post("/v1/chat/completions", &chat("lab/x", "hi"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let limited = mock
        .calls()
        .iter()
        .filter(|call| call.status == 429)
        .count();
    assert_eq!(
        limited, 1,
        "a key that said `not before` is not asked before"
    );
}
