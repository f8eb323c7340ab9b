//! Bedrock to and from OpenAI chat and Anthropic: golden files, real traffic held against botocore and the SDKs' own
//! types, and streams that were tampered with.
//!
//! `golden/bedrock/from-*` are Converse's and become the others'; `golden/bedrock/openai-*` and `anthropic-*` become
//! Converse's. `UPDATE_GOLDEN=1` rewrites the expected files. Recordings are read from `../shared` where that folder
//! is; what is written goes to `clients/validate_bedrock.py` and `clients/validate_types.py`, run by the Python at
//! `clients/.venv` or at `STRAIT_PYTHON` where there is one.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "bedrock/invoke.rs"]
mod invoke;
#[path = "bedrock/recorded.rs"]
mod recorded;
#[path = "bedrock/tampered.rs"]
mod tampered;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use serde_json::{Value, json};
use strait::codec::{base64, event_stream, sse};
use strait::protocol::bedrock::request::unfold;
use strait::protocol::{
    Facts, Protocol, Shape, StreamDecoder, StreamEncoder, decode_request, decode_response,
    encode_request, encode_response,
};

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";

fn tests() -> PathBuf {
    std::env::var("STRAIT_TESTS")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/tests").into())
        .into()
}

fn golden(prefix: &str) -> Vec<PathBuf> {
    let folder = tests().join("golden/bedrock");
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(prefix) && !name.contains(".to-")
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no {prefix}* in {}", folder.display());
    found
}

fn check(path: &Path, found: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        found,
        expected,
        "{} differs; UPDATE_GOLDEN=1 rewrites it",
        path.display()
    );
}

/// Compares as values: the order of keys is a matter of how `serde_json` was built.
fn check_json(path: &Path, found: &Value) {
    let expected = std::fs::read(path)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    if std::env::var_os("UPDATE_GOLDEN").is_some() || expected.as_ref() != Some(found) {
        check(path, &(serde_json::to_string_pretty(found).unwrap() + "\n"));
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

/// The models that a request is written for: each has its own words for the same.
fn models() -> [(&'static str, &'static str, Facts); 5] {
    let adaptive = Facts {
        adaptive_thinking: true,
        ..able()
    };
    [
        ("claude", CLAUDE, able()),
        ("claude-adaptive", "anthropic.claude-sonnet-4-6", adaptive),
        ("nova-2", "us.amazon.nova-2-lite-v1:0", able()),
        ("gpt-oss", "openai.gpt-oss-120b-1:0", able()),
        ("unknown", "meta.llama3-70b-instruct-v1:0", Facts::default()),
    ]
}

fn shape() -> Shape {
    Shape {
        model: "asked/for".into(),
        created: 1_700_000_000,
        include_usage: true,
        id: "x1".into(),
        ..Shape::default()
    }
}

fn family(path: &Path) -> Protocol {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    if name.starts_with("openai-") {
        Protocol::OpenaiChat
    } else if name.starts_with("anthropic-") {
        Protocol::Anthropic
    } else {
        Protocol::Bedrock
    }
}

/// A request in the words of another protocol, or how it is refused.
fn translated(from: Protocol, body: &[u8], to: Protocol, model: &str, facts: &Facts) -> Value {
    let unfolded = unfold(body);
    let hub = match decode_request(from, unfolded.as_deref().unwrap_or(body)) {
        Ok(hub) => hub,
        Err(error) => return json!({"refused": error.message, "param": error.param}),
    };
    match encode_request(to, &hub, model, facts) {
        Ok(said) => json!({
            "body": serde_json::from_slice::<Value>(&said.body).unwrap(),
            "dropped": said.dropped,
            "schema_tool": said.schema_tool,
        }),
        Err(error) => {
            assert_eq!(error.kind.status(), 400, "{error}");
            json!({"refused": error.message, "param": error.param})
        }
    }
}

// === Golden files ===

#[test]
fn requests_for_bedrock_are_as_the_golden_files_say() {
    let mut lines = Vec::new();
    for prefix in ["openai-request", "anthropic-request"] {
        for path in golden(prefix) {
            let body = std::fs::read(&path).unwrap();
            let mut found = json!({});
            for (name, model, facts) in models() {
                let said = translated(family(&path), &body, Protocol::Bedrock, model, &facts);
                if let Some(body) = said.get("body") {
                    lines.push(line(
                        &path.display().to_string(),
                        "bedrock.request",
                        body.clone(),
                    ));
                }
                found[name] = said;
            }
            check_json(&path.with_extension("to-bedrock.json"), &found);
        }
    }
    hold_against("validate_bedrock.py", "golden-requests", &lines);
}

#[test]
fn requests_of_bedrocks_clients_are_as_the_golden_files_say() {
    let mut lines = Vec::new();
    for path in golden("from-request") {
        let body = std::fs::read(&path).unwrap();
        for to in [Protocol::OpenaiChat, Protocol::Anthropic, Protocol::Bedrock] {
            let said = translated(Protocol::Bedrock, &body, to, CLAUDE, &able());
            if to == Protocol::Bedrock
                && let Some(body) = said.get("body")
            {
                lines.push(line(
                    &path.display().to_string(),
                    "bedrock.request",
                    body.clone(),
                ));
            }
            check_json(
                &path.with_extension(format!("to-{}.json", to.name())),
                &said,
            );
        }
    }
    hold_against("validate_bedrock.py", "golden-own-requests", &lines);
}

#[test]
fn answers_are_as_the_golden_files_say() {
    let mut lines = Vec::new();
    for path in golden("from-response") {
        let body = std::fs::read(&path).unwrap();
        let shape = Shape {
            schema_tool: path.display().to_string().contains("schema"),
            ..shape()
        };
        let hub = decode_response(Protocol::Bedrock, &body, &shape).unwrap();
        for to in [Protocol::OpenaiChat, Protocol::Anthropic, Protocol::Bedrock] {
            let found: Value = serde_json::from_slice(&encode_response(to, &hub, &shape)).unwrap();
            let name = path.display().to_string();
            if to == Protocol::Bedrock {
                lines.push(line(&name, "bedrock.message", found.clone()));
            }
            check_json(
                &path.with_extension(format!("to-{}.json", to.name())),
                &found,
            );
        }
    }
    hold_against("validate_bedrock.py", "golden-answers", &lines);
}

#[test]
fn streams_are_as_the_golden_files_say() {
    for path in golden("from-stream") {
        let wire = bedrock_bytes(&std::fs::read(&path).unwrap());
        let shape = Shape {
            schema_tool: path.display().to_string().contains("schema"),
            ..shape()
        };
        for to in [Protocol::OpenaiChat, Protocol::Anthropic] {
            let found = recode(Protocol::Bedrock, to, &[&wire], &shape);
            let found = String::from_utf8(found).unwrap();
            check(
                &path.with_extension(format!("to-{}.sse", to.name())),
                &found,
            );
        }
        let found = recode(Protocol::Bedrock, Protocol::Bedrock, &[&wire], &shape);
        check_json(
            &path.with_extension("to-bedrock.json"),
            &bedrock_events(&found),
        );
    }
}

#[test]
fn other_streams_become_bedrocks_as_the_golden_files_say() {
    let mut lines = Vec::new();
    for prefix in ["openai-stream", "anthropic-stream"] {
        for path in golden(prefix) {
            let wire = std::fs::read(&path).unwrap();
            let found = recode(family(&path), Protocol::Bedrock, &[&wire], &shape());
            check_json(
                &path.with_extension("to-bedrock.json"),
                &bedrock_events(&found),
            );
            if !path.display().to_string().contains("error") {
                lines.push(line(
                    &path.display().to_string(),
                    "bedrock.stream",
                    coded(&found),
                ));
            }
        }
    }
    hold_against("validate_bedrock.py", "golden-streams", &lines);
}

// === Streams ===

/// The bytes of a stream that is written down as pairs of name and payload.
fn bedrock_bytes(events: &[u8]) -> Vec<u8> {
    let events: Vec<(String, Value)> = serde_json::from_slice(events).unwrap();
    let mut out = Vec::new();
    for (name, payload) in events {
        let payload = payload.to_string();
        if name.ends_with("Exception") {
            event_stream::write_exception(&name, payload.as_bytes(), &mut out);
        } else {
            event_stream::write(&name, payload.as_bytes(), &mut out);
        }
    }
    out
}

/// The other way round.
fn bedrock_events(wire: &[u8]) -> Value {
    let mut events = Vec::new();
    let mut splitter = event_stream::Splitter::new(1 << 24);
    splitter
        .push(&Bytes::copy_from_slice(wire), |message| {
            let payload: Value = serde_json::from_slice(message.payload).unwrap();
            events.push(json!([message.name(), payload]));
        })
        .unwrap();
    assert_eq!(splitter.pending(), 0);
    json!(events)
}

/// Reads a stream that comes in `pieces` and writes it for another client.
fn recode(from: Protocol, to: Protocol, pieces: &[&[u8]], shape: &Shape) -> Vec<u8> {
    let mut decoder = StreamDecoder::new(from, shape);
    let mut encoder = StreamEncoder::new(to, shape);
    let mut out = Vec::new();
    let mut binary = event_stream::Splitter::new(1 << 24);
    let mut text = sse::Splitter::new(1 << 24);
    for piece in pieces {
        let piece = Bytes::copy_from_slice(piece);
        if from == Protocol::Bedrock {
            let read = binary.push(&piece, |message| {
                decoder.feed(message.name().as_bytes(), &message.data(), &mut |event| {
                    encoder.write(&event, &mut out)
                });
            });
            read.unwrap();
        } else {
            text.push(&piece, |frame| {
                if !frame.is_comment {
                    decoder.feed(frame.event, &frame.data, &mut |event| {
                        encoder.write(&event, &mut out)
                    });
                }
            })
            .unwrap();
        }
    }
    decoder.end(&mut |event| encoder.write(&event, &mut out));
    out
}

fn coded(bytes: &[u8]) -> Value {
    let mut out = Vec::new();
    base64::encode(bytes, &mut out);
    json!(String::from_utf8(out).unwrap())
}

// === Other programs ===

fn line(name: &str, kind: &str, body: Value) -> String {
    json!({"name": name, "kind": kind, "body": body}).to_string()
}

fn hold_against(script: &str, name: &str, lines: &[String]) {
    let python = std::env::var("STRAIT_PYTHON")
        .map_or_else(|_| tests().join("clients/.venv/bin/python"), PathBuf::from);
    assert!(
        python.exists(),
        "{} is absent: run `bash .ci/setup tests` first",
        python.display()
    );
    if lines.is_empty() {
        return;
    }
    let file = std::env::temp_dir().join(format!("strait-bedrock-{}-{name}", std::process::id()));
    let mut text = String::new();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    std::fs::write(&file, text).unwrap();
    let run = Command::new(&python)
        .arg(tests().join("clients").join(script))
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
    eprintln!("{name}: {told}");
}
