//! From each protocol to the other: golden files, and real traffic held against the official SDKs' own types.
//!
//! `golden/cross/openai-*` become Anthropic's, `golden/cross/anthropic-*` become OpenAI's; `UPDATE_GOLDEN=1`
//! rewrites the expected files. Recordings are read from `../shared` where that folder is. Translated answers go
//! to `clients/validate_types.py`, run by the Python at `clients/.venv` or at `STRAIT_PYTHON` where there is one.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "only what both protocols can say is compared"
)]

#[path = "cross/requests.rs"]
mod requests;
#[path = "cross/tampered.rs"]
mod tampered;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use strait::protocol::chat::{Effort, Finish, Part, Response};
use strait::protocol::usage::Usage;
use strait::protocol::{
    Facts, Protocol, Shape, StreamDecoder, StreamEncoder, decode_request, decode_response,
    encode_request, encode_response,
};

fn tests() -> PathBuf {
    std::env::var("STRAIT_TESTS")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/tests").into())
        .into()
}

/// Returns the recordings of one surface: name, exchange, and the stream where there was one.
fn recordings(surface: &str) -> Vec<(String, Value, Option<String>)> {
    let shared = std::env::var("STRAIT_SHARED")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let folder = Path::new(&shared).join("recordings").join(surface);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("not run: {} is absent", folder.display());
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths
        .into_iter()
        .map(|path| {
            let record = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let stream = std::fs::read_to_string(path.with_extension("sse")).ok();
            let name = format!("{surface}/{}", path.file_stem().unwrap().to_string_lossy());
            (name, record, stream)
        })
        .collect()
}

/// Those who speak OpenAI chat, each in its own way.
const OPENAI_SPEAKERS: [&str; 13] = [
    "openai-chat",
    "azure-chat",
    "cerebras-chat",
    "deepseek-chat",
    "groq-chat",
    "huggingface-chat",
    "mistral-chat",
    "ollama-v1-chat-completions",
    "openrouter-chat",
    "perplexity-chat",
    "together-chat",
    "xai-chat",
    "zai-chat",
];

fn other(protocol: Protocol) -> Protocol {
    if protocol == Protocol::Anthropic {
        Protocol::OpenaiChat
    } else {
        Protocol::Anthropic
    }
}

/// A model that can do everything, one that can do nothing, one that thinks as it likes.
fn models() -> [Facts; 3] {
    let able = Facts {
        max_output: Some(64_000),
        json_schema: Some(true),
        no_sampling: false,
        reasoning: true,
        reasoning_off: Some(Effort::Minimal),
        adaptive_thinking: false,
        developer_role: true,
        max_completion_tokens: true,
    };
    [
        Facts {
            adaptive_thinking: true,
            ..able.clone()
        },
        able,
        Facts::default(),
    ]
}

fn shape() -> Shape {
    Shape {
        model: "asked/for".into(),
        created: 1_700_000_000,
        include_usage: true,
        schema_tool: false,
        ..Shape::default()
    }
}

// === Golden files ===

fn golden(prefix: &str, ending: &str) -> Vec<PathBuf> {
    let folder = tests().join("golden/cross");
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(prefix) && name.ends_with(ending) && !name.contains(".to-")
        })
        .collect();
    found.sort();
    assert!(
        !found.is_empty(),
        "no {prefix}*{ending} in {}",
        folder.display()
    );
    found
}

fn expected_path(path: &Path, to: Protocol) -> PathBuf {
    let ending = path.extension().unwrap().to_string_lossy();
    path.with_extension(format!("to-{}.{ending}", to.name()))
}

/// Compares as values: the order of keys is a matter of how `serde_json` was built.
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

#[test]
fn requests_become_what_the_golden_files_say() {
    for (prefix, from) in [
        ("openai-request-", Protocol::OpenaiChat),
        ("anthropic-request-", Protocol::Anthropic),
    ] {
        for path in golden(prefix, ".json") {
            let body = std::fs::read(&path).unwrap();
            let hub = decode_request(from, &body)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut said = serde_json::Map::new();
            for (name, facts) in ["adaptive", "able", "plain"].into_iter().zip(models()) {
                let found = match encode_request(other(from), &hub, "target-model", &facts) {
                    Ok(said) => json!({
                        "body": serde_json::from_slice::<Value>(&said.body).unwrap(),
                        "dropped": said.dropped,
                        "schema_tool": said.schema_tool,
                    }),
                    Err(error) => json!({"refused": error.message, "param": error.param}),
                };
                // One entry where the models make no difference.
                if said.get("able").or(said.get("adaptive")) != Some(&found) {
                    said.insert(name.into(), found);
                }
            }
            check_json(&expected_path(&path, other(from)), &Value::Object(said));
        }
    }
}

#[test]
fn answers_become_what_the_golden_files_say() {
    for (prefix, from) in [
        ("openai-response-", Protocol::OpenaiChat),
        ("anthropic-response-", Protocol::Anthropic),
    ] {
        for path in golden(prefix, ".json") {
            let schema_tool = path.to_string_lossy().contains("schema-tool");
            let shape = Shape {
                schema_tool,
                ..shape()
            };
            let body = std::fs::read(&path).unwrap();
            let hub = decode_response(from, &body, &shape).unwrap();
            let found = encode_response(other(from), &hub, &shape);
            check_json(
                &expected_path(&path, other(from)),
                &serde_json::from_slice(&found).unwrap(),
            );
        }
    }
}

#[test]
fn streams_become_what_the_golden_files_say() {
    for (prefix, from) in [
        ("openai-stream-", Protocol::OpenaiChat),
        ("anthropic-stream-", Protocol::Anthropic),
    ] {
        for path in golden(prefix, ".sse") {
            let schema_tool = path.to_string_lossy().contains("schema-tool");
            let text = std::fs::read_to_string(&path).unwrap();
            let found = recode(
                from,
                &text,
                &Shape {
                    schema_tool,
                    ..shape()
                },
            );
            let expected = expected_path(&path, other(from));
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

// === Real answers ===

/// What an answer means, in words that both protocols share.
#[derive(Debug, PartialEq)]
struct Said {
    text: String,
    calls: Vec<(String, Value)>,
    finish: &'static str,
    input: u64,
    output: u64,
    cached: u64,
}

fn said(response: &Response<'_>) -> Said {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for part in &response.parts {
        match part {
            Part::Text { text: piece, .. } | Part::Refusal { text: piece } => {
                squeeze(piece, &mut text)
            }
            Part::ToolCall {
                name, arguments, ..
            } => calls.push((name.to_string(), value_of(arguments))),
            _ => {}
        }
    }
    let usage = response.usage.clone().unwrap_or_default();
    let finish = finish_of(response.finish, !calls.is_empty());
    Said {
        text,
        calls,
        finish,
        input: usage.input,
        output: usage.output,
        cached: usage.cache_read,
    }
}

/// The classes of ends that both protocols can tell apart.
fn finish_of(finish: Finish, calls: bool) -> &'static str {
    match finish {
        Finish::Length | Finish::ContextWindow => "length",
        Finish::ContentFilter | Finish::Refusal => "refusal",
        Finish::Stop | Finish::StopSequence | Finish::ToolCalls | Finish::Pause | Finish::Other
            if calls =>
        {
            "calls"
        }
        Finish::Stop | Finish::StopSequence | Finish::ToolCalls | Finish::Pause | Finish::Other => {
            "stop"
        }
    }
}

fn is_answer(body: &Value) -> bool {
    body["choices"]
        .as_array()
        .is_some_and(|choices| !choices.is_empty() && body["error"].is_null())
        || body["content"].is_array()
}

/// Translates every recorded answer and returns the lines for the SDKs.
fn answers_survive(from: Protocol, surfaces: &[&str]) -> Vec<Value> {
    let kind = kind(other(from), "message");
    let mut lines = Vec::new();
    for (name, record, stream) in surfaces.iter().flat_map(|surface| recordings(surface)) {
        let body = &record["response"]["body"];
        if stream.is_some() || !is_answer(body) {
            continue;
        }
        let text = body.to_string();
        let hub = decode_response(from, text.as_bytes(), &shape())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = encode_response(other(from), &hub, &shape());
        let back = decode_response(other(from), &written, &shape()).unwrap_or_else(|error| {
            panic!("{name}: {error}: {}", String::from_utf8_lossy(&written))
        });
        assert_eq!(said(&back), said(&hub), "{name}");
        let body: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(body["model"], "asked/for", "{name}");
        lines.push(json!({"name": name, "kind": kind, "body": body}));
    }
    lines
}

fn kind(to: Protocol, what: &str) -> String {
    let sdk = if to == Protocol::Anthropic {
        "anthropic"
    } else {
        "openai"
    };
    format!("{sdk}.{what}")
}

fn frames(text: &str) -> Vec<(String, String)> {
    let mut frames = Vec::new();
    let (mut name, mut data) = (String::new(), Vec::new());
    for line in text.lines().chain([""]) {
        if let Some(value) = line.strip_prefix("event:") {
            name = value.trim().into();
        } else if let Some(value) = line.strip_prefix("data:") {
            data.push(value.trim());
        } else if line.is_empty() && !data.is_empty() {
            frames.push((std::mem::take(&mut name), data.join("\n")));
            data.clear();
        }
    }
    frames
}

fn recode(from: Protocol, text: &str, shape: &Shape) -> String {
    let mut decoder = StreamDecoder::new(from, shape);
    let mut encoder = StreamEncoder::new(other(from), shape);
    let mut out = Vec::new();
    for (name, data) in frames(text) {
        decoder.feed(name.as_bytes(), data.as_bytes(), &mut |event| {
            encoder.write(&event, &mut out)
        });
    }
    decoder.end(&mut |event| encoder.write(&event, &mut out));
    String::from_utf8(out).unwrap()
}

/// Sums a stream up through its own decoder.
fn sum(from: Protocol, text: &str) -> Result<Said, String> {
    use strait::protocol::event::{Block, Delta, Event};
    let mut decoder = StreamDecoder::new(from, &shape());
    let (mut text_sum, mut calls) = (String::new(), Vec::<(u32, String, String)>::new());
    let mut usage = Usage::default();
    let mut end = None;
    let mut hear = |event: Event<'_>| match event {
        Event::Start {
            usage: Some(known), ..
        }
        | Event::Usage(known) => usage = known,
        Event::Open {
            index,
            block: Block::ToolCall { name, .. },
        } => {
            calls.push((index, name.into_owned(), String::new()));
        }
        Event::Delta {
            delta: Delta::Text(piece) | Delta::Refusal(piece),
            ..
        } => squeeze(&piece, &mut text_sum),
        Event::Delta {
            index,
            delta: Delta::Arguments(piece),
        } => {
            let call = calls
                .iter_mut()
                .find(|(known, ..)| *known == index)
                .unwrap();
            call.2.push_str(&piece);
        }
        Event::Finish { reason, .. } => end = Some(Ok(reason)),
        Event::Error(failure) => end = Some(Err(failure.message.into_owned())),
        _ => {}
    };
    for (name, data) in frames(text) {
        decoder.feed(name.as_bytes(), data.as_bytes(), &mut hear);
    }
    decoder.end(&mut hear);
    let finish = finish_of(end.unwrap()?, !calls.is_empty());
    let calls = calls
        .into_iter()
        .map(|(_, name, arguments)| (name, value_of(&arguments)))
        .collect();
    Ok(Said {
        text: text_sum,
        calls,
        finish,
        input: usage.input,
        output: usage.output,
        cached: usage.cache_read,
    })
}

fn streams_survive(from: Protocol, surfaces: &[&str]) -> Vec<Value> {
    let kind = kind(other(from), "stream");
    let mut lines = Vec::new();
    for (name, _, stream) in surfaces.iter().flat_map(|surface| recordings(surface)) {
        let Some(stream) = stream else { continue };
        let written = recode(from, &stream, &shape());
        match sum(from, &stream) {
            Ok(before) => {
                let after = sum(other(from), &written)
                    .unwrap_or_else(|error| panic!("{name}: {error}: {written}"));
                assert_eq!(after, before, "{name}: {written}");
                lines.push(json!({"name": name, "kind": kind, "body": written}));
            }
            // A stream that failed fails in the other dialect too, and has no false end.
            Err(error) => {
                assert!(
                    sum(other(from), &written).is_err(),
                    "{name}: {error}: {written}"
                );
                assert!(
                    !written.contains("[DONE]") && !written.contains("message_stop"),
                    "{name}: {written}"
                );
            }
        }
    }
    lines
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
        std::env::temp_dir().join(format!("strait-cross-{name}-{}.jsonl", std::process::id()));
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

#[test]
fn recorded_openai_answers_are_what_anthropic_clients_take() {
    hold_against_sdks(
        "openai-messages",
        &answers_survive(Protocol::OpenaiChat, &OPENAI_SPEAKERS),
    );
}

#[test]
fn recorded_openai_streams_are_what_anthropic_clients_take() {
    hold_against_sdks(
        "openai-streams",
        &streams_survive(Protocol::OpenaiChat, &OPENAI_SPEAKERS),
    );
}

#[test]
fn recorded_anthropic_answers_are_what_openai_clients_take() {
    hold_against_sdks(
        "anthropic-messages",
        &answers_survive(Protocol::Anthropic, &["anthropic-messages"]),
    );
}

#[test]
fn recorded_anthropic_streams_are_what_openai_clients_take() {
    hold_against_sdks(
        "anthropic-streams",
        &streams_survive(Protocol::Anthropic, &["anthropic-messages"]),
    );
}

#[test]
fn golden_answers_are_what_clients_take() {
    let mut lines = Vec::new();
    for (prefix, from) in [
        ("openai-", Protocol::OpenaiChat),
        ("anthropic-", Protocol::Anthropic),
    ] {
        for path in golden(&format!("{prefix}response-"), ".json") {
            let body: Value =
                serde_json::from_slice(&std::fs::read(expected_path(&path, other(from))).unwrap())
                    .unwrap();
            let name = path.file_name().unwrap().to_string_lossy();
            lines.push(json!({"name": name, "kind": kind(other(from), "message"), "body": body}));
        }
        for path in golden(&format!("{prefix}stream-"), ".sse") {
            let body = std::fs::read_to_string(expected_path(&path, other(from))).unwrap();
            let name = path.file_name().unwrap().to_string_lossy();
            if !name.contains("error") {
                lines
                    .push(json!({"name": name, "kind": kind(other(from), "stream"), "body": body}));
            }
        }
    }
    hold_against_sdks("golden", &lines);
}

/// Appends text without its white space: where paragraphs are joined or trimmed is a matter of protocol.
fn squeeze(text: &str, into: &mut String) {
    into.extend(text.chars().filter(|c| !c.is_whitespace()));
}

fn value_of(text: &str) -> Value {
    let mut value = serde_json::from_str(text).unwrap_or_else(|_| json!({"_raw": text}));
    if value == json!("") || value.is_null() {
        value = json!({});
    }
    value
}
