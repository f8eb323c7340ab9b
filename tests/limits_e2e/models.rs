//! Limits of some models, of images and of audio.

use serde_json::json;

use super::*;

#[test]
fn a_limit_of_a_model_binds_the_one_asked_for_and_the_one_that_stands_in() {
    let provider = mock("");
    let strait = Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        base_url = "{}/v1"
        key = "the-provider-key"
        [models.dear]
        targets = ["lab/x"]
        [models.both]
        targets = ["lab/x", "lab/y"]
        [models.alone]
        targets = ["lab/x"]
        [[keys]]
        name = "team-a"
        key = "{KEY}"
        limits = [{{ rpm = 100 }}, {{ models = ["lab/x", "dear"], rpm = 2 }}]
        "#,
        provider.url()
    ));
    let chat = |model: &str| ask(&strait, &Dialect::OpenAi.body(model, "hi", false));
    let by = |answer: &Answer| answer.header("x-strait-model").map(str::to_owned);
    assert_eq!(chat("dear").status, 200, "counted by the name asked for");
    let first = chat("both");
    assert_eq!(by(&first).as_deref(), Some("x"), "there is room for one");
    let second = chat("both");
    assert_eq!(
        (second.status, by(&second).as_deref()),
        (200, Some("y")),
        "the full one is passed over"
    );
    for model in ["alone", "dear"] {
        let refused = chat(model);
        assert_eq!(refused.status, 429, "{model}: {}", refused.text());
        let text = refused.text();
        assert!(
            text.contains("key 'team-a for dear, lab/x' on requests per minute"),
            "{text}"
        );
        assert!(refused.header("retry-after").is_some());
    }
    let asked = provider.calls().len();
    assert_eq!(asked, 3, "who is full is not asked");
    assert_eq!(strait.metric("strait_rate_limited_total", &["rpm"]), 3.0);
}

#[test]
fn a_model_that_fails_gives_back_what_was_estimated_for_it() {
    let provider = mock("[default]\nstatus = 500\nbody = \"no\"");
    let strait = Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        base_url = "{}/v1"
        key = "the-provider-key"
        [models.fast]
        targets = ["lab/x"]
        retries = {{ max_attempts = 1 }}
        [[keys]]
        name = "team-a"
        key = "{KEY}"
        limits = [{{ models = ["lab/x"], tpm = 300, concurrent = 1 }}]
        "#,
        provider.url()
    ));
    let mut body = Dialect::OpenAi.body("fast", "hi", false);
    body["max_tokens"] = json!(200);
    for turn in 0..4 {
        let answer = ask(&strait, &body);
        assert!(
            answer.status >= 500,
            "{turn}: {} {}",
            answer.status,
            answer.text()
        );
    }
}

#[test]
fn images_and_seconds_of_audio_are_counted() {
    let provider = mock("");
    let strait = Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        base_url = "{}/v1"
        key = "the-provider-key"
        apis = ["chat", "images", "speech"]
        [[keys]]
        name = "team-a"
        key = "{KEY}"
        limits = {{ images_per_minute = 5, audio_seconds_per_day = 60 }}
        "#,
        provider.url()
    ));
    let authorization = format!("Bearer {KEY}");
    let post = |path: &str, body: serde_json::Value| {
        let headers = [
            ("authorization", &*authorization),
            ("content-type", "application/json"),
        ];
        strait
            .client()
            .post(path, &headers, body.to_string().as_bytes())
    };
    let images = |n: u64| {
        let body = json!({"model": "lab/paint", "prompt": "a cat", "n": n});
        post("/v1/images/generations", body)
    };
    assert_eq!(images(3).status, 200);
    let refused = images(3);
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(
        refused
            .text()
            .contains("on images per minute: limit 5, requested 3"),
        "{}",
        refused.text()
    );
    assert_eq!(images(2).status, 200, "two are left");
    assert_eq!(images(9).status, 413, "so many never fit");
    let speech = |characters: usize| {
        let body = json!({"model": "lab/voice", "input": "a".repeat(characters), "voice": "alloy"});
        post("/v1/audio/speech", body)
    };
    // Forty seconds at fifteen characters each.
    assert_eq!(speech(600).status, 200);
    let refused = speech(600);
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(
        refused.text().contains("on seconds of audio per day"),
        "{}",
        refused.text()
    );
    let chat = ask(&strait, &Dialect::OpenAi.body("lab/x", "hi", false));
    assert_eq!(chat.status, 200, "who takes none of it is not held up");
}
