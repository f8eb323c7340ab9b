//! OpenAI responses to the hub, back, and to the other dialects: golden files, real traffic held against the official
//! SDK's own types, and streams that were tampered with.
//!
//! `UPDATE_GOLDEN=1` rewrites the expected files. Recordings and captures are read from `../shared` where that folder
//! is.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "only what is compared is told apart"
)]

#[path = "golden_responses/golden.rs"]
mod golden;
#[path = "golden_responses/recorded.rs"]
mod recorded;
#[path = "golden_responses/requests.rs"]
mod requests;
#[path = "golden_responses/sdk.rs"]
mod sdk;
#[path = "golden_responses/streams.rs"]
mod streams;

use std::path::{Path, PathBuf};

use serde_json::Value;
use strait::protocol::chat::{Effort, Part, Response};
use strait::protocol::collect::Collector;
use strait::protocol::{Facts, Protocol, Shape, StreamDecoder, StreamEncoder, openai_responses};

const OWN: Protocol = Protocol::OpenaiResponses;

fn tests() -> PathBuf {
    std::env::var("STRAIT_TESTS")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/tests").into())
        .into()
}

/// Returns a folder of shared facts; says so when it is absent.
fn shared(folder: &str) -> Option<PathBuf> {
    let root = std::env::var("STRAIT_SHARED")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let found = Path::new(&root).join(folder);
    if !found.is_dir() {
        eprintln!("not run: {} is absent", found.display());
        return None;
    }
    Some(found)
}

/// Returns the recordings of a surface: name, exchange, and the stream where there was one.
fn recordings(surface: &str) -> Vec<(String, Value, Option<String>)> {
    let Some(folder) = shared("recordings").map(|root| root.join(surface)) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let record = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let stream = std::fs::read_to_string(path.with_extension("sse")).ok();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, record, stream)
        })
        .collect()
}

fn able() -> Facts {
    Facts {
        max_output: Some(64_000),
        json_schema: Some(true),
        reasoning: true,
        reasoning_off: Some(Effort::Minimal),
        developer_role: true,
        max_completion_tokens: true,
        ..Facts::default()
    }
}

fn shape() -> Shape {
    Shape {
        model: "asked/for".into(),
        created: 1_700_000_000,
        include_usage: true,
        id: "0b1c2d3e-0000-4000-8000-000000000001".into(),
        ..Shape::default()
    }
}

fn shape_of(request: &Value) -> Shape {
    Shape {
        echo: openai_responses::request::echo(request.to_string().as_bytes()),
        ..shape()
    }
}

/// Returns the events of a stream: name and data.
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

fn recode(from: Protocol, to: Protocol, text: &str, shape: &Shape) -> String {
    let mut decoder = StreamDecoder::new(from, shape);
    let mut encoder = StreamEncoder::new(to, shape);
    let mut out = Vec::new();
    for (name, data) in frames(text) {
        decoder.feed(name.as_bytes(), data.as_bytes(), &mut |event| {
            encoder.write(&event, &mut out);
        });
    }
    decoder.end(&mut |event| encoder.write(&event, &mut out));
    String::from_utf8(out).unwrap()
}

/// Sums a stream up; `None` unless it ended well.
fn collected(from: Protocol, text: &str) -> Collector {
    let mut decoder = StreamDecoder::new(from, &shape());
    let mut collector = Collector::new(from);
    for (name, data) in frames(text) {
        decoder.feed(name.as_bytes(), data.as_bytes(), &mut |event| {
            collector.push(&event);
        });
    }
    decoder.end(&mut |event| collector.push(&event));
    collector
}

/// What an answer says, as every protocol can say it.
#[derive(Debug, Default, PartialEq)]
struct Gist {
    text: String,
    thoughts: String,
    calls: Vec<(String, String)>,
    input: u64,
    output: u64,
    cached: u64,
    reasoning: u64,
}

fn gist(response: &Response<'_>) -> Gist {
    let usage = response.usage.clone().unwrap_or_default();
    let mut gist = Gist {
        input: usage.input,
        output: usage.output,
        cached: usage.cache_read,
        reasoning: usage.reasoning,
        ..Gist::default()
    };
    for part in &response.parts {
        match part {
            Part::Text { text, .. } | Part::Refusal { text } => gist.text.push_str(text),
            Part::Reasoning { text, .. } => gist.thoughts.push_str(text),
            Part::ToolCall {
                name, arguments, ..
            } => gist.calls.push((name.to_string(), arguments.to_string())),
            Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolResult { .. }
            | Part::RedactedReasoning { .. }
            | Part::Opaque { .. } => {}
        }
    }
    gist
}

/// Compares as values, and rewrites the file when asked to.
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
