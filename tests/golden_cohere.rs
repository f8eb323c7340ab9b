//! Cohere to and from OpenAI chat and Anthropic: golden files, real traffic held against the SDKs' own types, and
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
use strait::protocol::collect::Collector;
use strait::protocol::usage::Usage;
use strait::protocol::{
    Protocol, decode_request, decode_response, encode_request, encode_response, error_body,
    error_frame,
};

const COHERE: Tested = Tested {
    protocol: Protocol::Cohere,
    folder: "cohere",
    recordings: "cohere-v2-chat",
    models: &["command-a-03-2025", "command-a-reasoning-08-2025"],
};

#[test]
fn requests_for_cohere_are_as_the_golden_files_say() {
    COHERE.requests_to_it();
}

#[test]
fn requests_of_coheres_clients_are_as_the_golden_files_say() {
    COHERE.requests_of_its_clients();
}

#[test]
fn answers_are_as_the_golden_files_say() {
    COHERE.answers();
}

#[test]
fn streams_are_as_the_golden_files_say() {
    COHERE.streams();
}

#[test]
fn streams_cut_anywhere_say_the_same() {
    COHERE.streams_cut_anywhere();
}

#[test]
fn streams_that_end_early_end_well_formed() {
    COHERE.streams_that_end_early();
}

#[test]
fn recorded_traffic_is_read_and_written() {
    COHERE.recorded();
}

fn body(from: Protocol, request: &Value) -> Result<Value, Error> {
    let text = request.to_string();
    let hub = decode_request(from, text.as_bytes())?;
    let said = encode_request(Protocol::Cohere, &hub, "m", &able())?;
    Ok(serde_json::from_slice(&said.body).unwrap())
}

#[test]
fn what_cohere_cant_be_told_is_refused_by_its_name() {
    let json = json!({"type": "json_object"});
    for (field, value, param) in [
        ("n", json!(2), "n"),
        ("logit_bias", json!({"1": 2}), "logit_bias"),
        ("response_format", json, "response_format"),
        ("web_search_options", json!({}), "web_search_options"),
        (
            "tool_choice",
            json!({"type": "function", "function": {"name": "g"}}),
            "tool_choice",
        ),
    ] {
        let mut request = json!({
            "model": "m", "messages": [{"role": "user", "content": "q"}],
            "tools": [{"type": "function", "function": {"name": "f"}}],
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
            json!({"model": "m", "messages": [{"role": "tool", "content": "q"}]}),
            "messages[0].tool_call_id",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "text"}]}]}),
            "messages[0].content[0].text",
        ),
        (
            json!({"model": "m", "messages": [], "tool_choice": "f"}),
            "tool_choice",
        ),
        (
            json!({"model": "m", "messages": [], "response_format": {"type": "xml"}}),
            "response_format",
        ),
        (json!({"model": "m", "messages": [], "k": "x"}), "k"),
    ] {
        let error = body(Protocol::Cohere, &request).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{error}");
    }
}

#[test]
fn a_document_that_only_looks_like_an_object_is_text() {
    let request = json!({
        "model": "m", "messages": [{"role": "user", "content": "q"}], "documents": ["{not so"],
    });
    let said = body(Protocol::Cohere, &request).unwrap();
    assert_eq!(
        said["documents"],
        json!([{"data": {"text": "{not so"}}]),
        "{said}"
    );
}

#[test]
fn an_error_has_its_id_and_its_message() {
    let error = Error::new(Kind::RateLimited, "Too \"many\"");
    assert_eq!(
        String::from_utf8(error_body(Protocol::Cohere, &error, "r1")).unwrap(),
        r#"{"id":"r1","message":"Too \"many\""}"#
    );
    assert_eq!(
        String::from_utf8(error_frame(Protocol::Cohere, &error, "r1")).unwrap(),
        "event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"ERROR\",\
         \"error\":\"Too \\\"many\\\"\"}}\n\n"
    );
}

#[test]
fn an_answer_that_failed_is_the_upstreams_fault() {
    for body in [
        r#"{"id":"1","message":"invalid api token"}"#,
        r#"{"id":"1","message":{"role":"assistant"},"finish_reason":"ERROR"}"#,
        r#"{"id":"1","message":{"role":"assistant"},"finish_reason":"TIMEOUT"}"#,
        "{}",
        "[]",
    ] {
        let error = decode_response(Protocol::Cohere, body.as_bytes(), &shape()).unwrap_err();
        assert_eq!(error.kind, Kind::UpstreamBroken, "{body}");
    }
}

#[test]
fn citations_go_to_coheres_own_clients() {
    let folder = dialect::tests().join("golden/cohere");
    let whole = std::fs::read(folder.join("from-response-cited.json")).unwrap();
    let hub = decode_response(Protocol::Cohere, &whole, &shape()).unwrap();
    let found = encode_response(Protocol::Cohere, &hub, &shape());
    let found: Value = serde_json::from_slice(&found).unwrap();
    assert_eq!(found["message"]["citations"][0]["text"], "Matz");
    let stream = std::fs::read(folder.join("from-stream-cited.sse")).unwrap();
    let mut collector = Collector::new(Protocol::Cohere);
    dialect::events(Protocol::Cohere, &[&stream], &shape(), &mut |event| {
        collector.push(event);
    });
    let summed = collector.finish().unwrap();
    let summed = encode_response(Protocol::Cohere, &summed, &shape());
    let summed: Value = serde_json::from_slice(&summed).unwrap();
    assert_eq!(
        summed["message"]["citations"],
        found["message"]["citations"]
    );
}

#[test]
fn usage_is_what_is_billed() {
    let usage = Usage {
        input: 7,
        output: 5,
        cache_read: 3,
        ..Usage::default()
    };
    let mut out = Vec::new();
    usage.write_cohere(&mut out);
    let mut read = Usage::default();
    assert!(read.read_cohere(&out));
    assert_eq!((read.input, read.output), (7, 5));
}

fn event() -> impl Strategy<Value = String> {
    let content = |kind: &str, text: String| {
        json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {kind: text}}}})
            .to_string()
    };
    prop_oneof![
        "[a-z\"\\\\]{0,6}".prop_map(move |text| content("text", text)),
        Just(content("thinking", "t".into())),
        Just(json!({"type": "message-start", "id": "a"}).to_string()),
        Just(json!({"type": "content-start", "delta": {"message": {"content": {"type": "text", "text": ""}}}}).to_string()),
        Just(json!({"type": "content-end", "index": 0}).to_string()),
        Just(json!({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "p"}}}).to_string()),
        prop_oneof![Just("f"), Just("structured_output")].prop_map(|name| {
            json!({"type": "tool-call-start", "delta": {"message": {"tool_calls": {"id": "c", "function": {"name": name}}}}}).to_string()
        }),
        Just(json!({"type": "tool-call-delta", "delta": {"message": {"tool_calls": {"function": {"arguments": "{}"}}}}}).to_string()),
        Just(json!({"type": "tool-call-end"}).to_string()),
        Just(json!({"type": "citation-start", "delta": {"message": {"citations": {"start": 0}}}}).to_string()),
        Just(json!({"type": "content-delta", "delta": {"message": {"content": {"text": "a"}}}, "logprobs": {"text": "a", "logprobs": [-1, "x"]}}).to_string()),
        Just(json!({"type": "content-delta", "delta": {"message": {"content": {"text": "a"}}}, "logprobs": {"text": "a", "logprobs": [-1, -2]}}).to_string()),
        Just(json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"billed_units": {"input_tokens": 1}}}}).to_string()),
        Just(json!({"type": "message-end", "delta": {"finish_reason": "TIMEOUT"}}).to_string()),
        Just(json!({"id": "x", "message": "an error"}).to_string()),
        Just("[DONE]".to_owned()),
        "[^\r\n]{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_is_taken(events in prop::collection::vec(event(), 0..12)) {
        COHERE.takes_anything(&events);
    }

    #[test]
    fn changed_requests_are_said_or_refused(place in any::<usize>(), value in odd_value()) {
        COHERE.takes_changed_requests(place, &value);
    }
}
