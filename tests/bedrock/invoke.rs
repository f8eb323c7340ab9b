//! Models of Anthropic by InvokeModel: bodies and streams, there and back.

use bytes::Bytes;
use serde_json::{Value, json};
use strait::codec::event_stream::{self, Broken};
use strait::codec::json::members;
use strait::codec::splice::Edits;
use strait::protocol::bedrock::invoke::{Chunker, Reframer, edit, to_messages, write_chunk};
use strait::protocol::usage::Usage;
use strait::protocol::{Protocol, Shape, decode_request, decode_response, encode_response};

use super::recorded::recordings;
use super::{coded, hold_against, line, recode, shape};

fn edited(body: &Value, beta: Option<&str>) -> (Value, Vec<String>) {
    let body = Bytes::from(body.to_string());
    let mut found = Vec::new();
    members(&body, 64, &mut found).unwrap();
    let mut edits = Edits::new();
    let dropped = edit(&body, &found, beta, &mut edits);
    (
        serde_json::from_slice(&edits.apply(&body)).unwrap(),
        dropped,
    )
}

fn back(body: &Value, stream: bool) -> (Value, Option<String>) {
    let body = Bytes::from(body.to_string());
    let mut found = Vec::new();
    members(&body, 64, &mut found).unwrap();
    let mut edits = Edits::new();
    let beta = to_messages(&body, &found, "the \"model\"", stream, &mut edits);
    (serde_json::from_slice(&edits.apply(&body)).unwrap(), beta)
}

#[test]
fn a_messages_body_becomes_one_for_invoke_model() {
    let body = json!({"model": "m", "max_tokens": 5, "messages": [], "stream": true, "service_tier": "auto"});
    let betas = "claude-code-20250219, interleaved-thinking-2025-05-14,advanced-tool-use-2025-11-20,\
                 interleaved-thinking-2025-05-14";
    let (said, dropped) = edited(&body, Some(betas));
    assert_eq!(
        said,
        json!({"max_tokens": 5, "messages": [], "anthropic_version": "bedrock-2023-05-31",
            "anthropic_beta": ["interleaved-thinking-2025-05-14", "tool-search-tool-2025-10-19"]})
    );
    assert_eq!(
        dropped,
        ["service_tier", "anthropic-beta: claude-code-20250219"]
    );
}

#[test]
fn what_is_right_already_stays() {
    let body = json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5, "messages": []});
    assert_eq!(edited(&body, None), (body.clone(), vec![]));
    let (said, _) = edited(&json!({"anthropic_version": "2023-06-01"}), Some(""));
    assert_eq!(said, json!({"anthropic_version": "bedrock-2023-05-31"}));
    let (said, _) = edited(
        &json!({"anthropic_beta": ["nobody-knows"], "model": "m"}),
        None,
    );
    assert_eq!(said, json!({"anthropic_version": "bedrock-2023-05-31"}));
    let (said, _) = edited(&json!({}), Some("effort-2025-11-24"));
    assert_eq!(said["anthropic_beta"], json!(["effort-2025-11-24"]));
}

#[test]
fn a_body_for_invoke_model_becomes_one_of_messages() {
    let body = json!({"anthropic_version": "bedrock-2023-05-31", "anthropic_beta": ["a-1", "b\nc", 5, "d-2"],
        "max_tokens": 5, "messages": [{"role": "user", "content": "q"}]});
    let (said, beta) = back(&body, true);
    assert_eq!(
        said,
        json!({"max_tokens": 5, "messages": [{"role": "user", "content": "q"}],
            "model": "the \"model\"", "stream": true})
    );
    assert_eq!(beta.as_deref(), Some("a-1,d-2"));
    assert!(decode_request(Protocol::Anthropic, said.to_string().as_bytes()).is_ok());
    let (said, beta) = back(&json!({"anthropic_version": "x"}), false);
    assert_eq!((said, beta), (json!({"model": "the \"model\""}), None));
}

const EVENTS: [&str; 4] = [
    r#"{"type":"message_start","message":{"id":"msg_bdrk_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hé\n"}}"#,
    r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":3}}"#,
];

fn wrapped() -> Vec<u8> {
    let mut wire = Vec::new();
    for event in EVENTS {
        write_chunk(event.as_bytes(), &mut wire);
    }
    wire
}

fn reframed(pieces: &[&[u8]]) -> String {
    let mut reframer = Reframer::new(1 << 16);
    let mut out = Vec::new();
    for piece in pieces {
        reframer
            .push(&Bytes::copy_from_slice(piece), &mut out)
            .unwrap();
    }
    assert_eq!(reframer.pending(), 0);
    String::from_utf8(out).unwrap()
}

#[test]
fn chunks_become_anthropics_events_wherever_they_are_cut() {
    let wire = wrapped();
    let whole = reframed(&[&wire]);
    let expected: String = EVENTS[..3]
        .iter()
        .chain([&r#"{"type":"message_stop"}"#])
        .map(|event| {
            let kind = event.split('"').nth(3).unwrap();
            format!("event: {kind}\ndata: {event}\n\n")
        })
        .collect();
    assert_eq!(whole, expected);
    for cut in 0..=wire.len() {
        let (head, tail) = wire.split_at(cut);
        assert_eq!(reframed(&[head, tail]), whole, "cut at {cut}");
    }
}

#[test]
fn exceptions_become_an_error_event_and_end_it() {
    let mut wire = Vec::new();
    event_stream::write_exception(
        "throttlingException",
        br#"{"message":"Too many \"tokens\""}"#,
        &mut wire,
    );
    wire.extend(wrapped());
    assert_eq!(
        reframed(&[&wire]),
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\
         \"message\":\"Too many \\\"tokens\\\"\"}}\n\n"
    );
    let mut wire = Vec::new();
    event_stream::write("chunk", br#"{"bytes":"!!"}"#, &mut wire);
    assert!(reframed(&[&wire]).contains("api_error"));
    let mut wire = Vec::new();
    event_stream::write("somethingNew", b"{}", &mut wire);
    assert_eq!(reframed(&[&wire]), "");
    let mut reframer = Reframer::new(16);
    let wire = Bytes::from(wrapped());
    assert_eq!(reframer.push(&wire, &mut Vec::new()), Err(Broken::TooLarge));
}

fn chunked(pieces: &[&[u8]]) -> Vec<u8> {
    let mut chunker = Chunker::new(1 << 16);
    let mut out = Vec::new();
    for piece in pieces {
        chunker
            .push(&Bytes::copy_from_slice(piece), &mut out)
            .unwrap();
    }
    chunker.finish(&mut out);
    out
}

#[test]
fn anthropics_events_become_chunks_that_botocore_reads() {
    let text = reframed(&[&wrapped()]);
    let wire = chunked(&[text.as_bytes()]);
    assert_eq!(reframed(&[&wire]), text);
    for cut in 0..=text.len() {
        let (head, tail) = text.as_bytes().split_at(cut);
        assert_eq!(chunked(&[head, tail]), wire, "cut at {cut}");
    }
    let line = line("chunks", "bedrock.chunks", coded(&wire));
    hold_against("validate_bedrock.py", "chunks", &[line]);
}

#[test]
fn an_error_event_becomes_an_exception() {
    let text = ": comment\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\
                \"message\":\"busy\"}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n";
    let wire = chunked(&[text.as_bytes()]);
    let mut splitter = event_stream::Splitter::new(1 << 16);
    let mut seen = Vec::new();
    splitter
        .push(&Bytes::from(wire), |message| {
            seen.push((
                message.exception_type.map(str::to_owned),
                String::from_utf8_lossy(message.payload).into_owned(),
            ));
        })
        .unwrap();
    let exception = "serviceUnavailableException".to_owned();
    assert_eq!(
        seen,
        [(Some(exception), "{\"message\":\"busy\"}".to_owned())]
    );
}

#[test]
fn recorded_bodies_survive() {
    for surface in ["bedrock-invoke", "bedrock-invoke-with-response-stream"] {
        for (name, record, _) in recordings(surface) {
            let body = &record["request"]["body"];
            if body["anthropic_version"].is_null() {
                continue;
            }
            // There and back it is the same, but for the betas that Bedrock took all the same.
            let (there, beta) = back(body, false);
            assert!(
                decode_request(Protocol::Anthropic, there.to_string().as_bytes()).is_ok(),
                "{name}"
            );
            let (again, dropped) = edited(&there, beta.as_deref());
            assert_eq!((&again, dropped), (body, vec![]), "{name}");
        }
    }
}

#[test]
fn recorded_answers_of_invoke_model_reach_every_client() {
    let mut lines = Vec::new();
    for (name, record, _) in recordings("bedrock-invoke") {
        let answer = &record["response"]["body"];
        if answer["type"] != "message" {
            continue;
        }
        let body = answer.to_string();
        let hub = decode_response(Protocol::Anthropic, body.as_bytes(), &shape()).unwrap();
        let usage = hub.usage.clone().unwrap();
        assert_eq!(usage.output, answer["usage"]["output_tokens"], "{name}");
        assert_eq!(usage.fresh(), answer["usage"]["input_tokens"], "{name}");
        for (to, kind) in [
            (Protocol::OpenaiChat, "openai.message"),
            (Protocol::Anthropic, "anthropic.message"),
        ] {
            let said: Value = serde_json::from_slice(&encode_response(to, &hub, &shape())).unwrap();
            lines.push(line(&name, kind, said));
        }
    }
    hold_against("validate_types.py", "invoke-answers", &lines);
}

#[test]
fn recorded_streams_of_invoke_model_reach_every_client() {
    let mut lines = Vec::new();
    let mut seen = 0;
    for (name, record, stream) in recordings("bedrock-invoke-with-response-stream") {
        let asked_anthropic = !record["request"]["body"]["anthropic_version"].is_null();
        let Some(wire) = stream.filter(|_| asked_anthropic) else {
            continue;
        };
        let text = reframed(&[&wire]);
        // Some were not read to their end.
        if !text.contains("event: message_stop") {
            continue;
        }
        seen += 1;
        assert!(!text.contains("invocationMetrics"), "{name}");
        let shape = Shape { ..shape() };
        for (to, kind) in [
            (Protocol::OpenaiChat, "openai.stream"),
            (Protocol::Anthropic, "anthropic.stream"),
        ] {
            let said = recode(Protocol::Anthropic, to, &[text.as_bytes()], &shape);
            lines.push(line(&name, kind, json!(String::from_utf8(said).unwrap())));
        }
        let wire = chunked(&[text.as_bytes()]);
        assert_eq!(reframed(&[&wire]), text, "{name}");
        lines.push(line(&name, "anthropic.stream", json!(text)));
        let mut usage = Usage::default();
        for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let event: Value = serde_json::from_str(data).unwrap();
            for told in [&event["message"]["usage"], &event["usage"]] {
                usage.read_anthropic(told.to_string().as_bytes());
            }
        }
        assert!(usage.output > 0 && usage.input > 0, "{name}");
    }
    eprintln!("{seen} recorded streams of InvokeModel");
    hold_against("validate_types.py", "invoke-streams", &lines);
}
