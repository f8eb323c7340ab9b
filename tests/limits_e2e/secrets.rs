//! Secrets, planted everywhere and looked for in everything that is told.

use std::collections::HashMap;
use std::io::Write as _;

use serde_json::json;

use super::common::dialect::Dialect;
use super::common::provider::{Got, Provider, STREAM, chunk};
use super::common::{self, Answer, Strait, mock};
use super::post;

/// Everything that may be told to anyone, with where it was told.
struct Told(Vec<(String, String)>);

impl Told {
    fn add(&mut self, place: impl Into<String>, answer: &Answer) {
        let headers: Vec<String> = answer
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        self.0.push((
            place.into(),
            format!(
                "{}\n{}",
                headers.join("\n"),
                String::from_utf8_lossy(&answer.body)
            ),
        ));
    }
}

#[test]
fn no_secret_is_ever_told() {
    const PROVIDER: [&str; 3] = [
        "PLANTED-provider-key-one",
        "PLANTED-provider-key-two",
        "PLANTED-header-secret",
    ];
    const CLIENT: &str = "PLANTED-client-key-0123456789";
    const WRONG: &str = "PLANTED-wrong-key-0123456789";
    const ADMIN: &str = "admin-token-of-the-tests";
    let provider = mock(
        r#"
        [[rule]]
        body_contains = "echo the key"
        steps = [{ status = 401, body = { error = { message = "Incorrect API key provided: PLANTED-provider-key-one." } } }]
        [[rule]]
        model = "s401"
        steps = [{ status = 401 }]
        [[rule]]
        model = "s402"
        steps = [{ status = 402 }]
        [[rule]]
        model = "s403"
        steps = [{ status = 403 }]
        [[rule]]
        model = "s404"
        steps = [{ status = 404 }]
        [[rule]]
        model = "s400"
        steps = [{ status = 400 }]
        [[rule]]
        model = "s429"
        steps = [{ status = 429 }]
        [[rule]]
        model = "s500"
        steps = [{ status = 500 }]
        [[rule]]
        model = "silent"
        steps = [{ stall_head = true }]
        [[rule]]
        model = "closed"
        steps = [{ close_before_head = true }]
        [[rule]]
        model = "garbage"
        steps = [{ garbage = true }]
        [[rule]]
        model = "cut"
        steps = [{ chunks = 4, cut_after = 2 }]
        [[rule]]
        model = "event"
        steps = [{ chunks = 4, error_event = { at = 2 } }]
        [[rule]]
        model = "headers"
        steps = [{ headers = { set-cookie = "PLANTED-cookie", x-api-key = "PLANTED-provider-key-one", authorization = "Bearer PLANTED-provider-key-two", openai-organization = "PLANTED-organization" } }]
        "#,
    );
    let strait = Strait::start_with(
        &format!(
            r#"
            [log]
            level = "debug"
            [providers.lab]
            protocols = ["openai-chat", "anthropic"]
            base_url = "{url}/v1"
            keys = [{{ name = "a", key = "{}" }}, {{ name = "b", key = "env:SECOND_KEY" }}]
            headers = {{ x-team = "{}" }}
            timeouts = {{ first_byte = "300ms" }}
            [providers.nobody]
            protocols = ["openai-chat"]
            base_url = "http://{}/v1"
            key = "{}"
            [[keys]]
            name = "team-a"
            key = "{CLIENT}"
            limits = {{ rpm = 10000 }}
            "#,
            PROVIDER[0],
            PROVIDER[2],
            common::free(),
            PROVIDER[0],
            url = provider.url(),
        ),
        "",
        &[("SECOND_KEY", PROVIDER[1])],
    );
    let mut told = Told(Vec::new());
    let auth = format!("Bearer {CLIENT}");
    let models = [
        "lab/fine",
        "lab/s401",
        "lab/s402",
        "lab/s403",
        "lab/s404",
        "lab/s400",
        "lab/s429",
        "lab/s500",
        "lab/silent",
        "lab/closed",
        "lab/garbage",
        "lab/cut",
        "lab/event",
        "lab/headers",
        "nobody/x",
        "unknown",
        "nowhere/x",
    ];
    let mut asked = 0;
    for dialect in Dialect::ALL {
        for model in models {
            for stream in [false, true] {
                let headers = [
                    ("authorization", auth.as_str()),
                    ("x-api-key", WRONG),
                    ("cookie", "PLANTED-client-cookie"),
                ];
                let answer = post(
                    &strait,
                    dialect,
                    &headers,
                    &dialect.body(model, "hello there", stream),
                );
                told.add(format!("{dialect:?} {model} {stream}"), &answer);
                asked += 1;
                strait.admin("DELETE", "/admin/v1/cooldowns", "");
            }
        }
        let answer = post(
            &strait,
            dialect,
            &[("x-api-key", CLIENT)],
            &dialect.body("lab/fine", "echo the key", false),
        );
        told.add("a provider that repeats our key", &answer);
        assert_eq!(answer.status, 502, "{}", answer.text());
        told.add(
            "a wrong key",
            &post(
                &strait,
                dialect,
                &[("x-api-key", WRONG)],
                &dialect.body("lab/fine", "hi", false),
            ),
        );
        told.add(
            "no JSON",
            &strait.client().post(
                dialect.path(),
                &[("x-api-key", CLIENT)],
                b"{\"model\": \"lab/fine\"",
            ),
        );
        told.add(
            "a query",
            &strait.client().post(
                &format!("{}?key={WRONG}", dialect.path()),
                &[("x-api-key", CLIENT)],
                b"{}",
            ),
        );
        asked += 4;
    }
    let mut body = Dialect::OpenAi.body("lab/s401", "hi", false);
    body["fallbacks"] = json!(["lab/s500", "nobody/x"]);
    told.add(
        "a chain of failures",
        &post(&strait, Dialect::OpenAi, &[("api-key", CLIENT)], &body),
    );
    asked += 1;
    told.add(
        "models",
        &strait
            .client()
            .request("GET", "/v1/models", &[("api-key", CLIENT)], b""),
    );
    asked += 1;
    for (method, path) in [
        ("GET", "/admin/v1/status"),
        ("GET", "/admin/v1/cooldowns"),
        ("POST", "/admin/v1/reload"),
        ("GET", "/metrics"),
        ("GET", "/health/ready"),
        ("GET", "/admin/v1/nothing"),
    ] {
        told.add(path, &strait.admin(method, path, ""));
    }
    told.add(
        "explain",
        &strait.admin(
            "POST",
            "/admin/v1/explain",
            &Dialect::OpenAi.body("lab/fine", "hi", false).to_string(),
        ),
    );
    told.add(
        "no admin",
        &strait.client().request(
            "GET",
            "/admin/v1/status",
            &[("authorization", &format!("Bearer {ADMIN}x"))],
            b"",
        ),
    );
    asked += 1;
    // A configuration with a mistake right beside a secret, reloaded.
    strait.write_config(
        &format!(
            "[providers.lab]\nprotocols = [\"openai-chat\"]\nkey = \"{}\"\nkeyy = \"{}\"",
            PROVIDER[0], PROVIDER[1]
        ),
        "",
    );
    let refused = strait.admin("POST", "/admin/v1/reload", "");
    assert_eq!(refused.status, 422, "{}", refused.text());
    told.add("a refused reload", &refused);
    for record in strait.records(asked) {
        told.0.push(("records".to_owned(), record.to_string()));
    }
    told.0.push(("the log".to_owned(), strait.log()));
    told.0.push(("metrics".to_owned(), strait.metrics()));
    for (place, text) in &told.0 {
        for line in text.lines() {
            assert!(!line.contains("PLANTED"), "{place} tells a secret: {line}");
            assert!(
                !line.contains(ADMIN),
                "{place} tells the admin token: {line}"
            );
        }
    }
    // And providers learn only what is meant for them.
    let mut keys: HashMap<&str, u32> = HashMap::new();
    for call in provider.calls() {
        for (name, value) in &call.headers {
            assert!(
                !value.contains(CLIENT)
                    && !value.contains(WRONG)
                    && !value.contains("client-cookie"),
                "{name}: {value}"
            );
            if let Some(key) = PROVIDER.iter().find(|key| value.contains(**key)) {
                *keys.entry(key).or_default() += 1;
            }
        }
        assert!(
            !call
                .query
                .as_deref()
                .unwrap_or_default()
                .contains("PLANTED"),
            "{:?}",
            call.query
        );
    }
    assert!(
        PROVIDER.iter().all(|key| keys.contains_key(key)),
        "all were used: {keys:?}"
    );
}

/// What a provider that quotes whatever it was sent answers to each model.
fn quoting(got: &Got, socket: &mut std::net::TcpStream) -> std::io::Result<()> {
    let body: serde_json::Value = serde_json::from_slice(&got.body).unwrap_or_default();
    let said = format!("what is {}?", got.header("authorization"));
    if body["model"] == "stream" {
        socket.write_all(STREAM.as_bytes())?;
        let word = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"x","choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}"#;
        chunk(socket, format!("data: {word}\n\n").as_bytes())?;
        let error = json!({"error": {"message": said, "type": "server_error"}});
        chunk(socket, format!("data: {error}\n\n").as_bytes())?;
        return chunk(socket, b"");
    }
    let (status, body) = match body["model"].as_str() {
        Some("400") => (
            400,
            json!({"error": {"message": said, "type": "bad"}}).to_string(),
        ),
        Some("404") => (404, json!({"error": {"message": said}}).to_string()),
        Some("200") => (
            200,
            json!({"error": {"message": said, "type": "server_error"}}).to_string(),
        ),
        Some(_) | None => (500, said.clone()),
    };
    let key = said.split(' ').nth(3).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status} So\r\ncontent-type: application/json\r\nx-ratelimit-key: {key}\r\nx-api-key: {key}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), body.as_bytes()].concat())
}

#[test]
fn what_a_provider_repeats_of_our_key_goes_no_further() {
    const KEY: &str = "PLANTED-provider-key-0123456789";
    let provider = Provider::answering(quoting);
    let strait = Strait::start(&format!(
        "[providers.lab]\nprotocols = [\"openai-chat\"]\nbase_url = \"{}\"\nkey = \"{KEY}\"\n[log]\nlevel = \"trace\"\n",
        provider.url()
    ));
    let mut told = Told(Vec::new());
    for model in ["400", "404", "500", "200", "stream"] {
        for dialect in Dialect::ALL {
            let body = dialect.body(&format!("lab/{model}"), "hello", model == "stream");
            let answer = strait.post(dialect.path(), &body);
            told.add(format!("{model}, {dialect:?}"), &answer);
        }
        let body = common::chat(model, "hello");
        let answer = strait.post("/lab/v1/chat/completions", &body);
        assert!(
            model == "stream" || answer.complete,
            "{model}: as long as was told"
        );
        told.add(format!("{model}, natively"), &answer);
    }
    assert!(
        provider
            .take()
            .iter()
            .all(|got| got.header("authorization").ends_with(KEY))
    );
    let records = strait.records(told.0.len());
    told.0.push(("records".into(), format!("{records:?}")));
    told.0.push(("log".into(), strait.log()));
    told.0.push(("metrics".into(), strait.metrics()));
    let audited = strait.admin("GET", "/admin/v1/records", "");
    told.add("the ledger", &audited);
    for (place, text) in &told.0 {
        assert!(!text.contains(KEY), "{place}: {text}");
    }
    let (_, shown) = &told.0[0];
    assert!(shown.contains("what is Bearer ****"), "{shown}");
}
