//! Who is passed over: for what it lacks, or because of what is demanded of it.

use serde_json::{Value, json};

use super::common::dialect::Dialect;
use super::common::{Answer, Strait, mock};
use super::{answered_by, provider};

/// A text model with a small window, and one that does everything.
const MODELS: &str = r#"
[[catalogue.models]]
provider = "small"
id = "x"
context = 2000
max_output = 500
capabilities = ["tools"]
[[catalogue.models]]
provider = "large"
id = "x"
context = 200000
max_output = 8000
capabilities = ["tools", "vision", "pdf", "json_schema", "reasoning"]
[models.m]
targets = ["small/x", "large/x"]
[models.tiny]
targets = ["small/x"]
"#;

const IMAGE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A request with an image, in a client's dialect: its path and its body.
fn with_image(dialect: &str, model: &str) -> (String, Value) {
    match dialect {
        "openai-chat" => (
            "/v1/chat/completions".into(),
            json!({"model": model, "messages": [{"role": "user", "content": [
                {"type": "text", "text": "what is it?"},
                {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{IMAGE}")}}]}]}),
        ),
        "anthropic" => (
            "/v1/messages".into(),
            json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": [
                {"type": "text", "text": "what is it?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}}]}]}),
        ),
        "openai-responses" => (
            "/v1/responses".into(),
            json!({"model": model, "store": false, "input": [{"role": "user", "content": [
                {"type": "input_text", "text": "what is it?"},
                {"type": "input_image", "image_url": format!("data:image/png;base64,{IMAGE}")}]}]}),
        ),
        _ => (
            format!("/v1beta/models/{model}:generateContent"),
            json!({"contents": [{"role": "user", "parts": [
                {"text": "what is it?"}, {"inlineData": {"mimeType": "image/png", "data": IMAGE}}]}]}),
        ),
    }
}

fn message(answer: &Answer) -> String {
    answer.json()["error"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn who_lacks_what_is_needed_is_passed_over_before_any_call() {
    let (small, large) = (mock(""), mock(""));
    let strait = Strait::start(&format!(
        "{}{}{MODELS}",
        provider("small", &small),
        provider("large", &large)
    ));
    let dialects = ["openai-chat", "anthropic", "openai-responses", "gemini"];
    for dialect in dialects {
        let (path, body) = with_image(dialect, "m");
        assert_eq!(
            answered_by(&strait.post(&path, &body)),
            "large",
            "{dialect}"
        );
        let (path, body) = with_image(dialect, "tiny");
        let answer = strait.post(&path, &body);
        assert_eq!(answer.status, 400, "{dialect}: {}", answer.text());
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{dialect}");
        let said = message(&answer);
        assert!(said.contains("small/x: no images"), "{dialect}: {said}");
    }
    assert_eq!(small.counts().count, 0, "nobody who can't is asked");
    let record = &strait.records(2 * dialects.len())[0];
    let candidates = record["candidates"].to_string();
    assert!(
        candidates.contains("small/x") && candidates.contains("no images"),
        "{record}"
    );
    // Words that look like a part of a message are none.
    let mut body =
        Dialect::OpenAi.body("m", "say {\"type\":\"image_url\",\"image_url\":{}}", false);
    assert_eq!(
        answered_by(&strait.post(Dialect::OpenAi.path(), &body)),
        "small"
    );
    body["tools"] = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"image_url": {"type": "string"}}}}}]);
    assert_eq!(
        answered_by(&strait.post(Dialect::OpenAi.path(), &body)),
        "small"
    );
}

#[test]
fn who_has_no_room_is_passed_over() {
    let (small, large) = (mock(""), mock(""));
    let strait = Strait::start(&format!(
        "{}{}{MODELS}",
        provider("small", &small),
        provider("large", &large)
    ));
    let long = "many words ".repeat(2000);
    for dialect in Dialect::ALL {
        let ask = |model| strait.post(dialect.path(), &dialect.body(model, &long, false));
        assert_eq!(answered_by(&ask("m")), "large");
        let answer = ask("tiny");
        assert_eq!(answer.status, 400, "{}", answer.text());
        let said = dialect.error(&answer.json()).unwrap();
        assert!(
            said.contains("prompt is too long") && said.contains("context 2000 <"),
            "{said}"
        );
        if dialect == Dialect::OpenAi {
            let error = &answer.json()["error"];
            assert_eq!(
                (&error["code"], &error["param"]),
                (&json!("context_length_exceeded"), &json!("messages"))
            );
        }
    }
    let mut body = Dialect::OpenAi.body("tiny", "hi", false);
    body["max_tokens"] = json!(800);
    let answer = strait.post(Dialect::OpenAi.path(), &body);
    assert_eq!(
        (answer.status, &answer.json()["error"]["param"]),
        (400, &json!("max_tokens"))
    );
    assert!(
        message(&answer).contains("output limit 500 < 800"),
        "{}",
        answer.text()
    );
    body["model"] = json!("m");
    assert_eq!(
        answered_by(&strait.post(Dialect::OpenAi.path(), &body)),
        "large"
    );
    assert_eq!(small.counts().count, 0);
    // What our own translation leaves out or keeps in bounds refuses nobody.
    let (path, mut body) = (
        "/v1/responses",
        json!({"model": "tiny", "input": "hi", "store": false}),
    );
    body["max_output_tokens"] = json!(800);
    body["reasoning"] = json!({"effort": "low"});
    assert_eq!(answered_by(&strait.post(path, &body)), "small");
    body["model"] = json!("m");
    assert_eq!(
        answered_by(&strait.post(path, &body)),
        "large",
        "but whoever can goes first"
    );
}

#[test]
fn demands_narrow_each_other_and_bind_fallbacks_and_nested_models() {
    let mocks = [mock(""), mock(""), mock("")];
    let config = format!(
        r#"
        {}data = {{ region = "eu-central-1", no_training = true }}
        {}data = {{ region = "us" }}
        {}
        [models.m]
        targets = ["us/x", "dark/x", "eu/x"]
        [models.eu-only]
        targets = ["inner"]
        fallbacks = ["dark/x", "us/x"]
        constraints = {{ region = "eu" }}
        [models.inner]
        targets = ["us/x", "eu/x"]
        constraints = {{ deny = "eu/y" }}
        [models.nobody]
        targets = ["us/x"]
        fallbacks = ["eu/x"]
        constraints = {{ deny = ["us", "eu/*"] }}
        [[keys]]
        name = "free"
        key = "sk-free-0001"
        [[keys]]
        name = "strict"
        key = "sk-strict-01"
        constraints = {{ no_training = true }}
        "#,
        provider("eu", &mocks[0]),
        provider("us", &mocks[1]),
        provider("dark", &mocks[2]),
    );
    let strait = Strait::start(&config);
    let ask = |dialect: Dialect, key: &str, model: &str, demand: Option<&str>| {
        let bearer = format!("Bearer {key}");
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(demand.map(|demand| ("x-strait-constraints", demand)));
        let body = dialect.body(model, "hi", false).to_string();
        strait
            .client()
            .post(dialect.path(), &headers, body.as_bytes())
    };
    let (free, strict) = ("sk-free-0001", "sk-strict-01");
    for dialect in Dialect::ALL {
        let by = |key, model, demand| answered_by(&ask(dialect, key, model, demand));
        assert_eq!(by(free, "m", None), "us");
        assert_eq!(by(free, "m", Some("region=eu")), "eu");
        assert_eq!(by(free, "m", Some("region=eu,us; allow=eu,dark")), "eu");
        assert_eq!(by(strict, "m", None), "eu");
        assert_eq!(by(free, "eu-only", None), "eu");
        let refused = |key, model, demand, named: &[&str]| {
            let answer = ask(dialect, key, model, demand);
            assert_eq!(answer.status, 403, "{}", answer.text());
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            let said = dialect.error(&answer.json()).unwrap();
            for name in named {
                assert!(said.contains(name), "{name}: {said}");
            }
        };
        refused(
            free,
            "eu-only",
            Some("deny=eu"),
            &[
                "eu/x: denied (deny, x-strait-constraints)",
                "us/x: region us, not eu (region, model eu-only)",
                "dark/x: region unknown",
            ],
        );
        refused(
            strict,
            "m",
            Some("region=us"),
            &["no_training, key strict", "region, x-strait-constraints"],
        );
        refused(
            free,
            "nobody",
            None,
            &[
                "us/x: denied (deny, model nobody)",
                "eu/x: denied (deny, model nobody)",
            ],
        );
        refused(
            free,
            "m",
            Some("max-price=100"),
            &["price unknown (max_price, x-strait-constraints)"],
        );
        for wrong in ["region", "regoin=eu", "max-price=cheap"] {
            let answer = ask(dialect, free, "m", Some(wrong));
            assert_eq!(answer.status, 400, "{wrong}: {}", answer.text());
            assert!(
                dialect
                    .error(&answer.json())
                    .unwrap()
                    .contains("x-strait-constraints")
            );
        }
    }
    assert_eq!(
        mocks[2].counts().count,
        0,
        "who isn't known to fit is never asked"
    );
}

#[test]
fn demands_bind_the_raw_lane() {
    let mocks = [mock(""), mock("")];
    let strait = Strait::start(&format!(
        r#"
        {}data = {{ region = "eu", no_training = true }}
        {}
        [[keys]]
        name = "free"
        key = "sk-free-0001"
        [[keys]]
        name = "strict"
        key = "sk-strict-01"
        constraints = {{ no_training = true, allow = ["eu/good*", "dark"] }}
        "#,
        provider("eu", &mocks[0]),
        provider("dark", &mocks[1]),
    ));
    let ask = |path: &str, key: &str, demand: &str, model: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-strait-constraints", demand),
        ];
        let body = Dialect::OpenAi.body(model, "hi", false).to_string();
        strait.client().post(path, &headers, body.as_bytes())
    };
    let (eu, dark) = ("/eu/v1/chat/completions", "/dark/v1/chat/completions");
    assert_eq!(ask(eu, "sk-free-0001", "region=eu", "good-1").status, 200);
    assert_eq!(ask(eu, "sk-strict-01", "", "good-1").status, 200);
    let calls = mocks[0].counts().count;
    for (path, key, demand, named) in [
        (dark, "sk-free-0001", "region=eu", "region unknown"),
        (dark, "sk-strict-01", "", "no_training, key strict"),
        (eu, "sk-free-0001", "deny=eu", "denied"),
        (eu, "sk-free-0001", "max-price=1000", "price unknown"),
    ] {
        let answer = ask(path, key, demand, "good-1");
        assert_eq!(answer.status, 403, "{path} {demand}: {}", answer.text());
        assert!(answer.text().contains(named), "{}", answer.text());
    }
    assert_eq!(mocks[0].counts().count, calls);
    let answer = ask(eu, "sk-strict-01", "", "bad-1");
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(mocks[1].counts().count, 0);
}

#[test]
fn a_kept_answer_is_given_to_nobody_who_demands_another() {
    let mocks = [mock(""), mock("")];
    let strait = Strait::start(&format!(
        "{}data = {{ region = \"us\" }}\n{}data = {{ region = \"eu\" }}\n[cache]\nenabled = true\n[models.m]\ntargets = [\"us/x\", \"eu/x\"]\n",
        provider("us", &mocks[0]),
        provider("eu", &mocks[1]),
    ));
    let body = Dialect::OpenAi.body("m", "hi", false).to_string();
    let ask = |headers: &[(&str, &str)]| {
        strait
            .client()
            .post(Dialect::OpenAi.path(), headers, body.as_bytes())
    };
    assert_eq!(answered_by(&ask(&[])), "us");
    assert_eq!(ask(&[("x-strait-constraints", "region=eu")]).status, 200);
    assert_eq!(
        mocks[1].counts().count,
        1,
        "the answer of another region is another answer"
    );
    assert_eq!(ask(&[("x-strait-constraints", "region=eu")]).status, 200);
    assert_eq!(mocks[1].counts().count, 1, "and is kept as well");
}

#[test]
fn explain_tells_who_is_passed_over_and_why() {
    let (small, large) = (mock(""), mock(""));
    let strait = Strait::start(&format!(
        "{}{}{MODELS}",
        provider("small", &small),
        provider("large", &large)
    ));
    let (_, body) = with_image("openai-chat", "m");
    let answer = strait.admin("POST", "/admin/v1/explain", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let explained = answer.json();
    assert_eq!(
        explained["candidates"][0]["provider"], "large",
        "{explained}"
    );
    assert_eq!(
        explained["passed"][0],
        json!({"provider": "small", "model": "x", "reason": "no images"}),
        "{explained}"
    );
    assert_eq!(small.counts().count + large.counts().count, 0);
}

#[test]
fn who_takes_longer_than_is_allowed_is_passed_over_once_that_is_known() {
    let (slow, fast) = (mock("[default]\ndelay_head = \"1500ms\""), mock(""));
    let strait = Strait::start(&format!(
        "{}{}[models.m]\ntargets = [\"slow/x\", \"fast/x\"]\nconstraints = {{ max_latency = \"1s\" }}\n",
        provider("slow", &slow),
        provider("fast", &fast)
    ));
    let body = Dialect::OpenAi.body("m", "hi", false);
    let answers: Vec<String> = (0..6)
        .map(|_| answered_by(&strait.post("/v1/chat/completions", &body)))
        .collect();
    assert_eq!(
        answers,
        ["slow", "slow", "fast", "fast", "fast", "fast"],
        "one alone proves nothing"
    );
}
