//! Answers that are odd and still answers, and what they cost: the provider writes them byte for byte.

use std::io::Write as _;

use serde_json::{Value, json};
use strait::mock::Script;

use super::common::dialect::Dialect;
use super::common::provider::Provider;
use super::common::{Answer, Strait};
use super::{Lab, streamed};

/// A provider that always says the same.
fn saying(head: &str, body: impl Into<Vec<u8>>) -> Provider {
    let body = body.into();
    let length = body.len();
    let head = format!("HTTP/1.1 {head}content-length: {length}\r\n\r\n").into_bytes();
    Provider::answering(move |_, socket| socket.write_all(&[&head[..], &body].concat()))
}

const JSON: &str = "200 OK\r\ncontent-type: application/json\r\n";

fn completion(more: &Value) -> Value {
    let mut body = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// The same as a stream's events.
fn chunks(tier: &str) -> String {
    let mut text = String::new();
    for choice in [
        json!({"index": 0, "delta": {"role": "assistant", "content": "hello"}, "finish_reason": null}),
        json!({"index": 0, "delta": {}, "finish_reason": "stop",
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}}),
    ] {
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1,
            "model": "gpt-4o-2024-08-06", "service_tier": tier, "choices": [choice]});
        text.push_str(&format!("data: {chunk}\n\n"));
    }
    text + "data: [DONE]\n\n"
}

fn gateway(provider: &Provider, more: &str) -> Strait {
    Strait::start(&format!(
        "[providers.lab]\nprotocols = [\"openai-chat\"]\nbase_url = \"{}\"\nkey = \"k\"\n{more}\n",
        provider.url()
    ))
}

/// Asks `lab/m` in each of two dialects, whole or streamed.
fn both(strait: &Strait, model: &str, stream: bool) -> [Answer; 2] {
    Dialect::ALL.map(|dialect| {
        let body = dialect.body(model, "hi", false);
        let body = if stream { streamed(&body) } else { body };
        strait.post(dialect.path(), &body)
    })
}

#[test]
fn a_byte_order_mark_is_no_part_of_an_answer() {
    let body = format!("\u{feff}{}", completion(&json!({})));
    let provider = saying(JSON, body);
    let strait = gateway(&provider, "");
    for answer in both(&strait, "lab/m", false) {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.json().is_object());
        assert!(answer.text().contains("hello"));
    }
}

#[test]
fn a_stream_is_known_by_its_first_bytes_too() {
    for kind in ["", "content-type: application/json\r\n"] {
        let provider = saying(&format!("200 OK\r\n{kind}"), chunks("default"));
        let strait = gateway(&provider, "");
        for answer in both(&strait, "lab/m", true) {
            assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
            let events = Some("text/event-stream; charset=utf-8");
            assert_eq!(answer.header("content-type"), events);
            assert!(answer.text().contains("hello"), "{}", answer.text());
        }
    }
}

#[test]
fn a_stream_that_nobody_asked_for_is_summed() {
    let events = "200 OK\r\ncontent-type: text/event-stream\r\n";
    let provider = saying(events, chunks("default"));
    let strait = gateway(&provider, "");
    let [chat, claude] = both(&strait, "lab/m", false);
    assert_eq!(chat.status, 200, "{}", chat.text());
    assert_eq!(chat.json()["choices"][0]["message"]["content"], "hello");
    assert_eq!(chat.json()["usage"]["prompt_tokens"], 1000);
    assert_eq!(claude.status, 200, "{}", claude.text());
    assert_eq!(claude.json()["content"][0]["text"], "hello");
    assert_eq!(claude.json()["usage"]["output_tokens"], 100);
}

#[test]
fn half_a_character_does_not_cost_the_answer() {
    let body = completion(&json!({})).to_string();
    let provider = saying(JSON, body.replace("hello", "hello \\ud83d"));
    let strait = gateway(&provider, "");
    let [_, claude] = both(&strait, "lab/m", false);
    assert_eq!(claude.status, 200, "{}", claude.text());
    assert_eq!(claude.json()["content"][0]["text"], "hello \u{fffd}");
}

#[test]
fn what_a_provider_says_of_its_error_reaches_the_client() {
    for (kind, body, wanted) in [
        (
            "text/plain",
            "The model is still being loaded.",
            "The model is still being loaded.",
        ),
        (
            "application/json",
            r#"[{"error":{"code":400,"message":"That is no image.","status":"INVALID_ARGUMENT"}}]"#,
            "That is no image.",
        ),
        (
            "text/html",
            "<html>Bad request</html>",
            "The provider answered with status 400.",
        ),
    ] {
        let provider = saying(&format!("400 X\r\ncontent-type: {kind}\r\n"), body);
        let strait = gateway(&provider, "");
        let [_, claude] = both(&strait, "lab/m", false);
        assert_eq!(claude.status, 400, "{}", claude.text());
        assert_eq!(claude.json()["error"]["message"], wanted, "{kind}");
    }
}

fn cost(answer: &Answer) -> Option<&str> {
    answer.header("x-strait-cost-usd")
}

#[test]
fn a_deployment_is_priced_by_the_model_that_answers() {
    // gpt-4o: 2.5 and 10 USD a million.
    let provider = saying(JSON, completion(&json!({})).to_string());
    let azure = format!(
        "[providers.az]\nlike = \"azure\"\napi_version = \"2024-10-21\"\nbase_url = \"http://{}\"\nkey = \"k\"\n",
        provider.addr
    );
    let strait = Strait::start(&azure);
    for answer in both(&strait, "az/our-deployment", false) {
        assert_eq!(cost(&answer), Some("0.0035"), "{}", answer.text());
    }
    // What the configuration says of it comes first.
    let strait = Strait::start(&format!("{azure}price = {{ in = 1, out = 1 }}\n"));
    for answer in both(&strait, "az/our-deployment", false) {
        assert_eq!(cost(&answer), Some("0.0011"), "{}", answer.text());
    }
}

#[test]
fn the_service_tier_that_served_is_priced_and_else_the_one_that_was_asked_for() {
    // gpt-5.5: 5 and 30 USD a million, by flex half of it.
    let like = "like = \"openai\"";
    let ask = |strait: &Strait, tier: Option<&str>, stream: bool| {
        let mut body = Dialect::OpenAi.body("lab/gpt-5.5", "hi", false);
        if let Some(tier) = tier {
            body["service_tier"] = json!(tier);
        }
        let body = if stream { streamed(&body) } else { body };
        let answer = strait.post(Dialect::OpenAi.path(), &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let records = strait.records(1);
        records.last().unwrap()["cost_usd"].to_string()
    };
    let silent = saying(JSON, completion(&json!({})).to_string());
    for (asked, wanted) in [
        (None, "\"0.008\""),
        (Some("flex"), "\"0.004\""),
        (Some("auto"), "\"0.008\""),
    ] {
        let strait = gateway(&silent, like);
        assert_eq!(ask(&strait, asked, false), wanted, "{asked:?}");
    }
    let told = saying(
        JSON,
        completion(&json!({"service_tier": "default"})).to_string(),
    );
    let strait = gateway(&told, like);
    assert_eq!(ask(&strait, Some("flex"), false), "\"0.008\"", "it was not");

    // Translated streams tell it, too, and some tell their usage in a choice.
    let events = "200 OK\r\ncontent-type: text/event-stream\r\n";
    let stream = saying(events, chunks("flex"));
    let strait = gateway(&stream, like);
    let body = streamed(&Dialect::Anthropic.body("lab/gpt-5.5", "hi", false));
    let answer = strait.post(Dialect::Anthropic.path(), &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let record = &strait.records(1)[0];
    assert_eq!(record["usage"]["input"], 1000, "{record}");
    assert_eq!(record["cost_usd"], "0.004", "{record}");
}

#[test]
fn speech_is_billed_by_the_second_where_it_is_sold_so() {
    // 24,000 samples a second of two bytes: a minute of it. gpt-4o-mini-tts: 0.00025 USD a second.
    let provider = saying(
        "200 OK\r\ncontent-type: audio/pcm\r\n",
        vec![0; 60 * 48_000],
    );
    let strait = gateway(&provider, "like = \"openai\"");
    let body = json!({"model": "lab/gpt-4o-mini-tts", "input": "q", "voice": "alloy", "response_format": "pcm"});
    let answer = strait.post("/v1/audio/speech", &body);
    assert_eq!(answer.status, 200);
    let record = &strait.records(1)[0];
    assert_eq!(record["cost_usd"], "0.015", "{record}");
}

#[test]
fn an_answer_without_usage_is_estimated_by_what_it_says() {
    let body = completion(&json!({"usage": null}));
    let provider = saying(JSON, body.to_string());
    let strait = gateway(&provider, "");
    both(&strait, "lab/m", false);
    let body = json!({"model": "lab/m", "input": "hi"});
    assert_eq!(strait.post("/v1/responses", &body).status, 200);
    for record in strait.records(3) {
        // Five letters, whatever the client's protocol puts around them.
        assert_eq!(record["usage"]["output"], 2, "{record}");
        assert_eq!(record["usage"]["estimated"], true, "{record}");
    }
}

#[test]
fn what_was_heard_is_billed_by_estimate_where_bare_text_is_all_that_comes() {
    // Ten seconds at 128 kbit/s. whisper-1: 0.0001 USD a second.
    let provider = saying("200 OK\r\ncontent-type: text/plain\r\n", "What was said.");
    let strait = gateway(&provider, "like = \"openai\"");
    let sound = "s".repeat(160_000 - 500);
    let form = format!(
        "--edge\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nlab/whisper-1\r\n--edge\r\n\
         content-disposition: form-data; name=\"response_format\"\r\n\r\ntext\r\n--edge\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n{sound}\r\n--edge--\r\n"
    );
    let kind = [("content-type", "multipart/form-data; boundary=edge")];
    let answer = strait
        .client()
        .post("/v1/audio/transcriptions", &kind, form.as_bytes());
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "What was said.")
    );
    let record = &strait.records(1)[0];
    assert_eq!(record["cost_usd"], "0.001", "{record}");
    assert_eq!(record["usage"]["estimated"], true, "{record}");
}

#[test]
fn a_conversation_may_begin_with_the_assistant() {
    let lab = Lab::new("");
    lab.anthropic.set_script(Script::from_toml("").unwrap());
    let mut body = Dialect::OpenAi.body("claude", "And yours?", false);
    let greeting = json!({"role": "assistant", "content": "Hello, I am Ada."});
    body["messages"].as_array_mut().unwrap().insert(0, greeting);
    // The fake provider refuses what begins otherwise.
    let (_, call) = lab.ask(Dialect::OpenAi, &body);
    let sent = call.json();
    let roles: Vec<_> = sent["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["user", "assistant", "user"], "{sent}");
    let dropped = lab.strait.records(1)[0]["dropped"].to_string();
    assert!(dropped.contains("begins with the assistant"), "{dropped}");
}
