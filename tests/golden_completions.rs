//! Legacy completions to the hub and back: golden files, real traffic, and streams cut anywhere.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "completions/mod.rs"]
mod exchange;

use proptest::prelude::*;
use serde_json::{Value, json};
use strait::error::Kind;
use strait::protocol::tap::{Tap, whole};
use strait::protocol::usage::Usage;
use strait::protocol::{Facts, Protocol, decode_request, encode_request};

const OWN: Protocol = Protocol::OpenaiCompletions;

#[test]
fn requests_are_golden() {
    exchange::requests_are_golden(OWN);
}

#[test]
fn answers_are_golden() {
    exchange::answers_are_golden(OWN);
}

#[test]
fn streams_are_golden_cut_at_every_byte() {
    exchange::streams_are_golden(OWN);
}

fn numbers(value: &Value) -> Option<Usage> {
    let told = value.get("usage").filter(|usage| usage.is_object())?;
    Some(Usage {
        input: told["prompt_tokens"].as_u64().unwrap_or(0),
        output: told["completion_tokens"].as_u64().unwrap_or(0),
        ..Usage::default()
    })
}

#[test]
fn recordings_are_what_clients_take() {
    let mut lines = exchange::recordings_survive(OWN, "openai-completions", numbers);
    lines.extend(exchange::golden_lines(OWN));
    exchange::hold_against_sdks("completions", &lines);
}

#[test]
fn what_a_chat_has_no_word_for_is_refused_by_its_name() {
    for (field, value) in [
        ("prompt", json!([1, 2, 3])),
        ("prompt", json!([[1, 2], [3]])),
        ("prompt", json!(["a", "b"])),
        ("suffix", json!("end")),
        ("logprobs", json!(3)),
        ("logprobs", json!(0)),
        ("echo", json!(true)),
        ("best_of", json!(2)),
    ] {
        let mut body = json!({"model": "m", "prompt": "p"});
        body[field] = value.clone();
        let body = body.to_string();
        let error = decode_request(OWN, body.as_bytes()).unwrap_err();
        assert_eq!(error.kind, Kind::Unsupported, "{field}: {value}");
        assert_eq!(error.param.as_deref(), Some(field), "{value}");
    }
    let body = r#"{"model":"m","prompt":"p","n":2,"stream":true}"#;
    let error = decode_request(OWN, body.as_bytes()).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("n"));
}

#[test]
fn what_changes_nothing_is_taken() {
    let body = r#"{"model":"m","prompt":["p"],"suffix":"","echo":false,"best_of":1,"logprobs":null,"n":1}"#;
    let request = decode_request(OWN, body.as_bytes()).unwrap();
    for to in exchange::others(OWN) {
        encode_request(to, &request, "m", &Facts::default()).unwrap();
    }
}

#[test]
fn wrong_types_are_400s_that_name_their_fields() {
    for (field, value) in [
        ("prompt", json!(7)),
        ("prompt", json!([])),
        ("prompt", json!([null])),
        ("max_tokens", json!("7")),
        ("temperature", json!("warm")),
        ("stop", json!(3)),
        ("stream", json!("yes")),
        ("echo", json!("no")),
        ("logit_bias", json!([])),
    ] {
        let mut body = json!({"model": "m", "prompt": "p"});
        body[field] = value.clone();
        let error = decode_request(OWN, body.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.kind, Kind::InvalidRequest, "{field}: {value}");
        let param = error.param.unwrap_or_default();
        assert!(param.starts_with(field), "{field}: {param}");
    }
    let error = decode_request(OWN, br#"{"model":"m"}"#).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("prompt"));
}

#[test]
fn only_one_text_of_one_user_becomes_a_prompt() {
    let ask = |body: Value| {
        exchange::translated(
            Protocol::OpenaiChat,
            OWN,
            body.to_string().as_bytes(),
            &Facts::default(),
        )
    };
    let user = json!({"role": "user", "content": "hi"});
    let sent = ask(json!({"model": "m", "messages": [user]}));
    assert_eq!(
        sent["body"],
        json!({"model": "provider-model", "prompt": "hi"})
    );
    for (field, body) in [
        (
            "messages",
            json!({"messages": [{"role": "system", "content": "s"}, user]}),
        ),
        (
            "messages",
            json!({"messages": [user, {"role": "assistant", "content": "a"}, user]}),
        ),
        (
            "messages",
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b.png"}}]}]}),
        ),
        (
            "tools",
            json!({"messages": [user], "tools": [{"type": "function", "function": {"name": "f"}}]}),
        ),
        (
            "response_format",
            json!({"messages": [user], "response_format": {"type": "json_object"}}),
        ),
        ("logprobs", json!({"messages": [user], "logprobs": true})),
        (
            "stop",
            json!({"messages": [user], "stop": ["a", "b", "c", "d", "e"]}),
        ),
    ] {
        let mut body = body;
        body["model"] = json!("m");
        let refused = ask(body);
        assert_eq!(refused["error"], "unsupported_parameter", "{refused}");
        assert_eq!(refused["param"], field, "{refused}");
    }
}

#[test]
fn the_tap_reads_what_passes() {
    for (name, record, stream) in exchange::recordings("openai-completions") {
        if record["response"]["status"] != 200 {
            let body = serde_json::to_vec(&record["response"]["body"]).unwrap();
            let told = whole(OWN, &body);
            assert!(told.is_error && !told.is_answer, "{name}");
            continue;
        }
        if let Some(stream) = stream {
            let mut tap = Tap::new(OWN, false, 1 << 20);
            let mut out = Vec::new();
            for piece in stream.chunks(61) {
                tap.feed(bytes::Bytes::copy_from_slice(piece), &mut out);
            }
            tap.finish(&mut out);
            assert!(tap.finished && tap.semantic && tap.done_marker, "{name}");
            assert!(tap.failure.is_none(), "{name}");
            assert!(tap.output_chars > 0 && tap.model.is_some(), "{name}");
            assert_eq!(out.concat(), stream, "{name}");
            let text = String::from_utf8_lossy(&stream);
            let last = text.lines().filter_map(|line| {
                numbers(&serde_json::from_str(line.strip_prefix("data: ")?).ok()?)
            });
            assert_eq!(tap.usage, last.fold(None, |_, usage| Some(usage)), "{name}");
            continue;
        }
        let body = serde_json::to_vec(&record["response"]["body"]).unwrap();
        let told = whole(OWN, &body);
        assert!(told.is_answer && !told.is_error, "{name}");
        assert_eq!(told.usage, numbers(&record["response"]["body"]), "{name}");
        assert!(told.finish.is_some() && told.model.is_some(), "{name}");
    }
}

#[test]
fn the_tap_tells_failures_and_what_is_no_answer() {
    let mut tap = Tap::new(OWN, false, 1 << 20);
    let mut out = Vec::new();
    let good = "data: {\"choices\":[{\"text\":\"a\",\"index\":0}],\"model\":\"m\"}\n\n";
    let bad = "data: {\"error\":{\"message\":\"too fast\",\"code\":\"rate_limit_exceeded\"}}\n\n";
    tap.feed(format!("{good}{bad}").into(), &mut out);
    assert_eq!(out.concat(), good.as_bytes());
    let (class, message) = tap.failure.unwrap();
    assert_eq!(format!("{class:?}"), "RateLimited");
    assert_eq!(message, "too fast");
    assert!(!tap.finished);
    assert!(!whole(OWN, br#"{"choices":[{"message":{}}]}"#).is_answer);
    assert!(!whole(OWN, br#"{"choices":[]}"#).is_answer);
    assert!(!whole(OWN, b"nonsense").is_answer);
    let cut = whole(
        OWN,
        br#"{"choices":[{"text":"a","finish_reason":"length"}]}"#,
    );
    assert!(cut.is_answer && cut.truncated);
}

const KEYS: &[&str] = &[
    "model",
    "prompt",
    "suffix",
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "stream",
    "stream_options",
    "include_usage",
    "logprobs",
    "echo",
    "best_of",
    "stop",
    "seed",
    "user",
    "logit_bias",
    "id",
    "choices",
    "text",
    "index",
    "finish_reason",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "error",
    "message",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_is_an_answer_or_an_error(value in exchange::anything(KEYS), bytes in any::<Vec<u8>>()) {
        exchange::survives(OWN, value.to_string().as_bytes());
        exchange::survives(OWN, &bytes);
        let mut body = json!({"model": "m", "prompt": "p", "choices": [{"text": "a"}]});
        if let (Some(into), Some(from)) = (body.as_object_mut(), value.as_object()) {
            into.extend(from.clone());
        }
        exchange::survives(OWN, body.to_string().as_bytes());
        let _ = whole(OWN, body.to_string().as_bytes());
    }

    #[test]
    fn any_events_keep_the_promises(values in prop::collection::vec(exchange::anything(KEYS), 0..6), ends: bool) {
        let mut events: Vec<_> = values.iter().map(|value| {
            let mut chunk = json!({"choices": [{"index": 0, "text": "a"}]});
            if let (Some(into), Some(from)) = (chunk.as_object_mut(), value.as_object()) {
                into.extend(from.clone());
            }
            (String::new(), chunk.to_string().into_bytes())
        }).collect();
        if ends {
            events.push((String::new(), b"[DONE]".to_vec()));
        }
        exchange::stream_holds(OWN, &events, false);
    }
}
