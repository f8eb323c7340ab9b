//! Ollama to and from OpenAI chat and Anthropic: golden files, real traffic held against the SDKs' own types, and
//! streams that were tampered with.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks at a few parts"
)]

mod dialect;

use dialect::{Tested, able, odd_value, shape};
use proptest::prelude::*;
use serde_json::{Value, json};
use strait::error::{Error, Kind};
use strait::protocol::{
    Protocol, decode_request, decode_response, encode_request, encode_response, error_body,
    error_frame,
};

const OLLAMA: Tested = Tested {
    protocol: Protocol::Ollama,
    folder: "ollama",
    recordings: "ollama-api-chat",
    models: &["qwen3:8b", "gpt-oss:20b"],
};

#[test]
fn requests_for_ollama_are_as_the_golden_files_say() {
    OLLAMA.requests_to_it();
}

#[test]
fn requests_of_ollamas_clients_are_as_the_golden_files_say() {
    OLLAMA.requests_of_its_clients();
}

#[test]
fn answers_are_as_the_golden_files_say() {
    OLLAMA.answers();
}

#[test]
fn streams_are_as_the_golden_files_say() {
    OLLAMA.streams();
}

#[test]
fn streams_cut_anywhere_say_the_same() {
    OLLAMA.streams_cut_anywhere();
}

#[test]
fn streams_that_end_early_end_well_formed() {
    OLLAMA.streams_that_end_early();
}

#[test]
fn recorded_traffic_is_read_and_written() {
    OLLAMA.recorded();
}

fn body(from: Protocol, request: &Value) -> Result<Value, Error> {
    let text = request.to_string();
    let hub = decode_request(from, text.as_bytes())?;
    let said = encode_request(Protocol::Ollama, &hub, "m", &able())?;
    Ok(serde_json::from_slice(&said.body).unwrap())
}

#[test]
fn a_client_that_says_nothing_of_streaming_gets_a_stream() {
    let said = body(
        Protocol::Ollama,
        &json!({"model": "m", "messages": [{"role": "user", "content": "q"}]}),
    );
    assert_eq!(said.unwrap()["stream"], json!(true));
    let said = body(
        Protocol::OpenaiChat,
        &json!({"model": "m", "messages": [{"role": "user", "content": "q"}]}),
    );
    assert_eq!(said.unwrap()["stream"], json!(false), "said all the same");
}

#[test]
fn what_ollama_cant_be_told_is_refused_by_its_name() {
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let picture = json!([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]);
    for (field, value, param) in [
        ("n", json!(2), "n"),
        ("logit_bias", json!({"1": 2}), "logit_bias"),
        ("tool_choice", json!("required"), "tool_choice"),
        ("web_search_options", json!({}), "web_search_options"),
        (
            "response_format",
            json!({"type": "json_object"}),
            "response_format",
        ),
        (
            "messages",
            json!([{"role": "user", "content": picture}]),
            "messages[0]",
        ),
    ] {
        let mut request = json!({
            "model": "m", "messages": [{"role": "user", "content": "q"}], "tools": [tool],
        });
        request[field] = value;
        let error = body(Protocol::OpenaiChat, &request).unwrap_err();
        assert_eq!(error.kind, Kind::Unsupported, "{error}");
        assert_eq!(error.param.as_deref(), Some(param));
    }
}

#[test]
fn mistakes_are_named_where_they_stand() {
    for (request, param) in [
        (json!({"model": "m"}), "messages"),
        (json!({"messages": []}), "model"),
        (
            json!({"model": "m", "messages": [{"content": "q"}]}),
            "messages[0].role",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": []}]}),
            "messages[0].content",
        ),
        (
            json!({"model": "m", "messages": [], "format": "yaml"}),
            "format",
        ),
        (
            json!({"model": "m", "messages": [], "think": "much"}),
            "think",
        ),
        (
            json!({"model": "m", "messages": [], "options": {"seed": 0.5}}),
            "options.seed",
        ),
    ] {
        let error = body(Protocol::Ollama, &request).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{error}");
    }
}

#[test]
fn an_error_is_one_line() {
    let error = Error::new(Kind::RateLimited, "Too \"many\"");
    let whole = r#"{"error":"Too \"many\""}"#;
    assert_eq!(error_body(Protocol::Ollama, &error, "r"), whole.as_bytes());
    let line = format!("{whole}\n");
    assert_eq!(error_frame(Protocol::Ollama, &error, "r"), line.as_bytes());
}

#[test]
fn an_answer_that_is_an_error_is_the_upstreams_fault() {
    for body in [
        r#"{"error":"model not loaded"}"#,
        "{}",
        "[]",
        "{\"message\":1}",
    ] {
        let error = decode_response(Protocol::Ollama, body.as_bytes(), &shape()).unwrap_err();
        assert_eq!(error.kind, Kind::UpstreamBroken, "{body}");
    }
}

#[test]
fn log_probabilities_reach_clients_of_openai() {
    let answer = json!({
        "model": "m", "message": {"role": "assistant", "content": "a"}, "done": true,
        "logprobs": [{"token": "a", "logprob": -0.5}],
    })
    .to_string();
    let hub = decode_response(Protocol::Ollama, answer.as_bytes(), &shape()).unwrap();
    let found = encode_response(Protocol::OpenaiChat, &hub, &shape());
    let found: Value = serde_json::from_slice(&found).unwrap();
    assert_eq!(
        found["choices"][0]["logprobs"]["content"],
        json!([{"token": "a", "logprob": -0.5, "bytes": null, "top_logprobs": []}])
    );
    let found = encode_response(Protocol::Ollama, &hub, &shape());
    let found: Value = serde_json::from_slice(&found).unwrap();
    assert_eq!(found["logprobs"], json!([{"token": "a", "logprob": -0.5}]));
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z\"\\\\]{0,6}".prop_map(|text| {
            json!({"model": "m", "message": {"role": "assistant", "content": text}, "done": false})
                .to_string()
        }),
        Just(json!({"message": {"thinking": "t", "content": "c"}}).to_string()),
        prop_oneof![Just("f"), Just("structured_output")].prop_map(|name| {
            let call = json!({"function": {"name": name, "arguments": {"a": 1}}});
            json!({"message": {"content": "", "tool_calls": [call]}}).to_string()
        }),
        Just(json!({"message": {"content": "c"}, "logprobs": [{"token": 1}, {}]}).to_string()),
        Just(
            json!({"message": {"content": "c"}, "logprobs": [{"token": "c", "logprob": 0}]})
                .to_string()
        ),
        Just(
            json!({"message": {}, "done": true, "done_reason": "length", "eval_count": 1})
                .to_string()
        ),
        Just(json!({"done": true}).to_string()),
        Just(json!({"error": "e"}).to_string()),
        Just(json!({"status": "loading"}).to_string()),
        "\\PC{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_is_taken(events in prop::collection::vec(line(), 0..12)) {
        OLLAMA.takes_anything(&events);
    }

    #[test]
    fn changed_requests_are_said_or_refused(place in any::<usize>(), value in odd_value()) {
        OLLAMA.takes_changed_requests(place, &value);
    }
}
