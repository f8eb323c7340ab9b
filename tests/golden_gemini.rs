//! Gemini to the hub and back, to OpenAI chat and Anthropic and from them: golden files, real traffic held against
//! Google's own types, streams cut everywhere, and bodies that were tampered with.
//!
//! `golden/gemini/gemini-*` go to all three, `openai-*` and `anthropic-*` to Gemini; `UPDATE_GOLDEN=1` rewrites the
//! expected files. Recordings are read from `../shared` where that folder is. Translated answers go to
//! `clients/validate_types.py`, run by the Python at `clients/.venv` or at `STRAIT_PYTHON` where there is one.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "golden_gemini/recorded.rs"]
mod recorded;
#[path = "golden_gemini/tampered.rs"]
mod tampered;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use strait::codec::sse::Splitter;
use strait::error::{Error, Kind};
use strait::protocol::event::{Block, Delta, Event};
use strait::protocol::gemini::stream::ArrayWriter;
use strait::protocol::{
    Facts, Protocol, Shape, StreamDecoder, StreamEncoder, decode_request, decode_response,
    encode_request, encode_response, error_body, error_frame,
};

const MODELS: [&str; 4] = [
    "gemini-2.5-flash",
    "gemini-2.5-pro",
    "gemini-3-pro-preview",
    "gemini-3.1-flash",
];

fn tests() -> PathBuf {
    std::env::var("STRAIT_TESTS")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/tests").into())
        .into()
}

fn shape() -> Shape {
    Shape {
        model: "asked/for".into(),
        created: 1_700_000_000,
        include_usage: true,
        id: "0123".into(),
        ..Shape::default()
    }
}

fn able() -> Facts {
    Facts {
        max_output: Some(64_000),
        json_schema: Some(true),
        reasoning: true,
        ..Facts::default()
    }
}

/// Returns the golden files whose names begin and end so, each with the protocol that it is in.
fn golden(what: &str, ending: &str) -> Vec<(Protocol, PathBuf)> {
    let folder = tests().join("golden/gemini");
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let (family, rest) = name.split_once('-').unwrap();
            let family = match family {
                "gemini" => Protocol::Gemini,
                "openai" => Protocol::OpenaiChat,
                _ => Protocol::Anthropic,
            };
            let fits = rest.starts_with(what) && rest.ends_with(ending) && !rest.contains(".to-");
            fits.then_some((family, path))
        })
        .collect();
    found.sort_by(|one, other| one.1.cmp(&other.1));
    assert!(!found.is_empty(), "no {what}*{ending}");
    found
}

fn targets(family: Protocol) -> Vec<Protocol> {
    if family == Protocol::Gemini {
        vec![Protocol::Gemini, Protocol::OpenaiChat, Protocol::Anthropic]
    } else {
        vec![Protocol::Gemini]
    }
}

fn expected(path: &Path, to: Protocol) -> PathBuf {
    let ending = path.extension().unwrap().to_string_lossy();
    path.with_extension(format!("to-{}.{ending}", to.name()))
}

fn check_json(path: &Path, found: &Value) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, serde_json::to_string_pretty(found).unwrap() + "\n").unwrap();
    }
    let expected: Value = std::fs::read(path)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or(Value::Null);
    assert_eq!(
        *found,
        expected,
        "{} differs; UPDATE_GOLDEN=1 rewrites it",
        path.display()
    );
}

fn schema_tool(path: &Path) -> Shape {
    Shape {
        schema_tool: path.to_string_lossy().contains("schema-tool"),
        ..shape()
    }
}

#[test]
fn requests_become_what_the_golden_files_say() {
    for (from, path) in golden("request-", ".json") {
        let body = std::fs::read(&path).unwrap();
        let hub = decode_request(from, &body).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        for to in targets(from) {
            let mut said = serde_json::Map::new();
            let mut last = Value::Null;
            let models: &[&str] = if to == Protocol::Gemini {
                &MODELS
            } else {
                &["target"]
            };
            for model in models {
                let found = match encode_request(to, &hub, model, &able()) {
                    Ok(said) => json!({
                        "body": serde_json::from_slice::<Value>(&said.body).unwrap(),
                        "dropped": said.dropped,
                        "schema_tool": said.schema_tool,
                    }),
                    Err(error) => json!({"refused": error.message, "param": error.param}),
                };
                // One entry where the model makes no difference.
                if last != found {
                    said.insert((*model).into(), found.clone());
                    last = found;
                }
            }
            check_json(&expected(&path, to), &Value::Object(said));
        }
    }
}

#[test]
fn answers_become_what_the_golden_files_say() {
    for (from, path) in golden("response-", ".json") {
        let shape = schema_tool(&path);
        let body = std::fs::read(&path).unwrap();
        let hub = decode_response(from, &body, &shape).unwrap();
        for to in targets(from) {
            let found = encode_response(to, &hub, &shape);
            let found = serde_json::from_slice(&found).unwrap();
            check_json(&expected(&path, to), &found);
        }
    }
}

#[test]
fn streams_become_what_the_golden_files_say() {
    for (from, path) in golden("stream-", ".sse") {
        let shape = schema_tool(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        for to in targets(from) {
            let found = recode(from, to, &text, &shape);
            let expected = expected(&path, to);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::write(&expected, &found).unwrap();
            }
            let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
            assert_eq!(
                found,
                wanted,
                "{} differs; UPDATE_GOLDEN=1 rewrites it",
                expected.display()
            );
        }
    }
}

#[test]
fn golden_answers_are_what_clients_take() {
    let mut lines = Vec::new();
    for (what, ending) in [("response-", ".json"), ("stream-", ".sse")] {
        for (from, path) in golden(what, ending) {
            if path.to_string_lossy().contains("error") {
                continue;
            }
            for to in targets(from) {
                let text = std::fs::read_to_string(expected(&path, to)).unwrap();
                let (kind, body) = if ending == ".sse" {
                    (kind(to, true), Value::String(text))
                } else {
                    (kind(to, false), serde_json::from_str(&text).unwrap())
                };
                let name = path.file_name().unwrap().to_string_lossy();
                lines.push(json!({"name": name, "kind": kind, "body": body}));
            }
        }
    }
    hold_against_sdks("golden", &lines);
}

#[test]
fn an_error_is_in_googles_words() {
    let error = Error::field("contents", "contents is required")
        .with_retry_after(Duration::from_millis(1500));
    let body: Value =
        serde_json::from_slice(&error_body(Protocol::Gemini, &error, "req-1")).unwrap();
    assert_eq!(
        body,
        json!({"error": {
            "code": 400,
            "message": "contents is required",
            "status": "INVALID_ARGUMENT",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "INVALID_REQUEST", "domain": "strait"},
                {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "contents", "description": "contents is required"}]},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"},
                {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "req-1"},
            ],
        }})
    );
    for (kind, status) in [
        (Kind::InvalidKey, "UNAUTHENTICATED"),
        (Kind::ModelNotAllowed, "PERMISSION_DENIED"),
        (Kind::ModelNotFound, "NOT_FOUND"),
        (Kind::RateLimited, "RESOURCE_EXHAUSTED"),
        (Kind::UpstreamUnavailable, "UNAVAILABLE"),
        (Kind::Timeout, "DEADLINE_EXCEEDED"),
        (Kind::Internal, "INTERNAL"),
    ] {
        let frame = error_frame(Protocol::Gemini, &Error::new(kind, "m"), "");
        let text = String::from_utf8(frame).unwrap();
        let data = text
            .strip_prefix("data: ")
            .and_then(|rest| rest.strip_suffix("\r\n\r\n"))
            .unwrap();
        let body: Value = serde_json::from_str(data).unwrap();
        assert_eq!(body["error"]["status"], status);
    }
}

#[test]
fn a_stream_is_the_same_however_its_bytes_are_cut() {
    for (from, path) in golden("stream-", ".sse") {
        if from != Protocol::Gemini {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = recode(from, Protocol::Gemini, &text, &shape());
        let mut array = Vec::new();
        let mut writer = ArrayWriter::new(1 << 20);
        writer.feed(&Bytes::from(text.clone()), &mut array).unwrap();
        writer.finish(&mut array);
        let elements: Vec<Value> = serde_json::from_slice(&array).unwrap();
        assert_eq!(elements.len(), frames(&text).len(), "{path:?}");
        for cut in 0..=text.len() {
            let pieces = [&text.as_bytes()[..cut], &text.as_bytes()[cut..]];
            let found = recode_bytes(from, Protocol::Gemini, &pieces, &shape());
            assert_eq!(found, whole, "{path:?} cut at {cut}");
            let mut found = Vec::new();
            let mut writer = ArrayWriter::new(1 << 20);
            for piece in pieces {
                writer
                    .feed(&Bytes::copy_from_slice(piece), &mut found)
                    .unwrap();
            }
            writer.finish(&mut found);
            assert_eq!(found, array, "{path:?} cut at {cut}");
        }
    }
}

#[test]
fn a_stream_cut_short_is_told_as_cut() {
    let text = std::fs::read_to_string(tests().join("golden/gemini/gemini-stream-plain.sse"));
    let text = text.unwrap();
    let events = frames(&text).len();
    for kept in 0..events {
        let cut: String = text.split_inclusive("\r\n\r\n").take(kept).collect();
        let found = recode(Protocol::Gemini, Protocol::Gemini, &cut, &shape());
        assert!(found.contains("\"error\""), "{kept}: {found}");
        assert!(!found.contains("finishReason"), "{kept}: {found}");
    }
}

#[test]
fn an_array_without_elements_is_an_array() {
    let mut out = Vec::new();
    let mut writer = ArrayWriter::new(100);
    writer
        .feed(&Bytes::from_static(b": ping\n\n\r\n"), &mut out)
        .unwrap();
    assert!(out.is_empty());
    writer.finish(&mut out);
    assert_eq!(out, b"[]\n");
    let mut writer = ArrayWriter::new(10);
    let long = Bytes::from_static(b"data: {\"much\":\"too long\"}\n\n");
    assert!(writer.feed(&long, &mut out).is_err());
}

#[test]
fn thought_signatures_come_back_from_every_client() {
    let body = std::fs::read(tests().join("golden/gemini/gemini-response-calls.json")).unwrap();
    let answer = decode_response(Protocol::Gemini, &body, &shape()).unwrap();
    for client in [Protocol::OpenaiChat, Protocol::Anthropic, Protocol::Gemini] {
        let told: Value =
            serde_json::from_slice(&encode_response(client, &answer, &shape())).unwrap();
        let again = match client {
            Protocol::OpenaiChat => {
                let mut messages = vec![
                    json!({"role": "user", "content": "q"}),
                    told["choices"][0]["message"].clone(),
                ];
                for call in told["choices"][0]["message"]["tool_calls"]
                    .as_array()
                    .unwrap()
                {
                    messages.push(
                        json!({"role": "tool", "tool_call_id": call["id"], "content": "done"}),
                    );
                }
                json!({"model": "m", "messages": messages})
            }
            Protocol::Anthropic => json!({"model": "m", "max_tokens": 9, "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": told["content"]},
            ]}),
            Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Gemini
            | Protocol::Bedrock
            | Protocol::Cohere
            | Protocol::Ollama => json!({"contents": [told["candidates"][0]["content"]]}),
        };
        let again = again.to_string();
        let hub = decode_request(client, again.as_bytes()).unwrap();
        let said = encode_request(Protocol::Gemini, &hub, "gemini-3-pro-preview", &able()).unwrap();
        let said: Value = serde_json::from_slice(&said.body).unwrap();
        let model = said["contents"]
            .as_array()
            .unwrap()
            .iter()
            .find(|turn| turn["role"] == "model")
            .unwrap();
        let parts = model["parts"].as_array().unwrap();
        let call = parts
            .iter()
            .find(|part| part["functionCall"]["name"] == "f")
            .unwrap();
        assert_eq!(call["thoughtSignature"], "QUJD", "{client:?}: {model}");
        let call = parts
            .iter()
            .find(|part| part["functionCall"]["name"] == "g")
            .unwrap();
        assert_eq!(call["thoughtSignature"], Value::Null, "{client:?}");
    }
}

#[test]
fn signed_thinking_of_another_maker_survives_a_gemini_client() {
    let body = std::fs::read(tests().join("golden/gemini/anthropic-response-full.json")).unwrap();
    let answer = decode_response(Protocol::Anthropic, &body, &shape()).unwrap();
    let told: Value =
        serde_json::from_slice(&encode_response(Protocol::Gemini, &answer, &shape())).unwrap();
    let again = json!({"contents": [
        {"role": "user", "parts": [{"text": "q"}]},
        told["candidates"][0]["content"],
        {"role": "user", "parts": [{"functionResponse": {"id": "t", "name": "f", "response": {"output": "x"}}}]},
    ], "generationConfig": {"maxOutputTokens": 100}});
    let again = again.to_string();
    let hub = decode_request(Protocol::Gemini, again.as_bytes()).unwrap();
    let said = encode_request(Protocol::Anthropic, &hub, "claude", &able()).unwrap();
    let said: Value = serde_json::from_slice(&said.body).unwrap();
    assert_eq!(
        said["messages"][1]["content"][0],
        json!({"type": "thinking", "thinking": "hm", "signature": "EqQB"})
    );
    assert_eq!(
        said["messages"][1]["content"][1],
        json!({"type": "redacted_thinking", "data": "xyz"})
    );
    // And it is never sent to Google.
    let google = encode_request(Protocol::Gemini, &hub, "gemini-2.5-pro", &able()).unwrap();
    let google = String::from_utf8(google.body).unwrap();
    assert!(!google.contains("c3RyYWl0"), "{google}");
}

/// The `data:` of every event.
fn frames(text: &str) -> Vec<(String, String)> {
    let (mut frames, mut name) = (Vec::new(), String::new());
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("event:") {
            name = value.trim().into();
        } else if let Some(data) = line.strip_prefix("data:") {
            frames.push((std::mem::take(&mut name), data.trim().to_owned()));
        }
    }
    frames
}

fn recode(from: Protocol, to: Protocol, text: &str, shape: &Shape) -> String {
    recode_bytes(from, to, &[text.as_bytes()], shape)
}

fn recode_bytes(from: Protocol, to: Protocol, pieces: &[&[u8]], shape: &Shape) -> String {
    let mut decoder = StreamDecoder::new(from, shape);
    let mut encoder = StreamEncoder::new(to, shape);
    let mut out = Vec::new();
    let mut splitter = Splitter::new(1 << 24);
    let mut read = |frame: strait::codec::sse::Frame<'_>| {
        decoder.feed(frame.event, &frame.data, &mut |event| {
            encoder.write(&event, &mut out);
        });
    };
    for piece in pieces {
        splitter
            .push(&Bytes::copy_from_slice(piece), &mut read)
            .unwrap();
    }
    splitter.finish(&mut read);
    decoder.end(&mut |event| encoder.write(&event, &mut out));
    String::from_utf8(out).unwrap()
}

fn kind(to: Protocol, stream: bool) -> &'static str {
    match (to, stream) {
        (Protocol::Gemini, false) => "gemini.response",
        (Protocol::Gemini, true) => "gemini.stream",
        (Protocol::Anthropic, false) => "anthropic.message",
        (Protocol::Anthropic, true) => "anthropic.stream",
        (_, false) => "openai.message",
        (_, true) => "openai.stream",
    }
}

/// Holds the lines against the official SDKs.
fn hold_against_sdks(name: &str, lines: &[Value]) {
    let venv = tests().join("clients/.venv/bin/python");
    let python = std::env::var_os("STRAIT_PYTHON").map_or(venv, PathBuf::from);
    assert!(
        python.exists(),
        "{} is absent: run `bash .ci/setup tests` first",
        python.display()
    );
    let file =
        std::env::temp_dir().join(format!("strait-gemini-{name}-{}.jsonl", std::process::id()));
    let mut text = String::new();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    std::fs::write(&file, text).unwrap();
    let run = Command::new(&python)
        .arg(tests().join("clients/validate_types.py"))
        .arg(&file)
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

/// Fails unless every promise of a stream's events is kept; returns how it ended.
#[derive(Debug, Default)]
struct Promises {
    started: bool,
    open: Vec<u32>,
    next: u32,
    ended: Option<bool>,
    text: String,
    thoughts: String,
    calls: Vec<(String, String)>,
    usage: Option<strait::protocol::usage::Usage>,
}

impl Promises {
    fn hear(&mut self, event: &Event<'_>) {
        assert!(self.ended.is_none(), "after the end: {event:?}");
        match event {
            Event::Start { .. } => {
                assert!(!self.started, "started twice");
                self.started = true;
            }
            Event::Open { index, block } => {
                assert!(self.started && *index == self.next, "{event:?}");
                self.next += 1;
                self.open.push(*index);
                if let Block::ToolCall { name, .. } = block {
                    self.calls.push((name.to_string(), String::new()));
                }
            }
            Event::Delta { index, delta } => {
                assert!(self.open.contains(index), "not open: {event:?}");
                match delta {
                    Delta::Text(piece) => self.text.push_str(piece),
                    Delta::Reasoning(piece) => self.thoughts.push_str(piece),
                    Delta::Arguments(piece) => self.calls.last_mut().unwrap().1.push_str(piece),
                    Delta::Refusal(_)
                    | Delta::Signature(_)
                    | Delta::Citation { .. }
                    | Delta::Logprobs(_)
                    | Delta::Opaque { .. } => {}
                }
            }
            Event::Close { index } => {
                let at = self.open.iter().position(|open| open == index);
                self.open.remove(at.expect("closed what is not open"));
            }
            Event::Usage(usage) => self.usage = Some(usage.clone()),
            Event::Finish { .. } | Event::Error(_) => {
                assert!(self.started && self.open.is_empty(), "{event:?}");
                self.ended = Some(matches!(event, Event::Finish { .. }));
            }
            Event::Ping => {}
        }
    }
}
