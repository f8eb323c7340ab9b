//! What the golden tests of the smaller protocols share: their files, real traffic, streams cut anywhere, and the
//! promises of decoders.
//!
//! `golden/FOLDER/from-*` are the protocol's own and become the others'; `openai-*` and `anthropic-*` become its own.
//! `UPDATE_GOLDEN=1` rewrites the expected files. Recordings are read from `../shared` where that folder is; what is
//! written goes to `clients/validate_types.py`, run by the Python at `clients/.venv` or at `STRAIT_PYTHON` where
//! there is one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use strait::protocol::collect::Collector;
use strait::protocol::event::Event;
use strait::protocol::frames::Frames;
use strait::protocol::{
    Facts, Framing, Protocol, Shape, StreamDecoder, StreamEncoder, decode_request, decode_response,
    encode_request, encode_response,
};

/// A protocol under test.
#[derive(Debug, Clone, Copy)]
pub struct Tested {
    pub protocol: Protocol,
    /// Of its golden files.
    pub folder: &'static str,
    /// Of its recordings.
    pub recordings: &'static str,
    /// The models that requests are written for.
    pub models: &'static [&'static str],
}

pub fn tests() -> PathBuf {
    std::env::var("STRAIT_TESTS")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/tests").into())
        .into()
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

pub fn able() -> Facts {
    Facts {
        max_output: Some(64_000),
        json_schema: Some(true),
        reasoning: true,
        ..Facts::default()
    }
}

pub fn shape() -> Shape {
    Shape {
        model: "asked/for".into(),
        created: 1_700_000_000,
        include_usage: true,
        id: "x1".into(),
        ..Shape::default()
    }
}

/// The shape that a golden file's name asks for.
fn shape_of(path: &Path) -> Shape {
    Shape {
        schema_tool: name_of(path).contains("schema-tool"),
        ..shape()
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

const OTHERS: [Protocol; 2] = [Protocol::OpenaiChat, Protocol::Anthropic];

/// Reads a stream that comes in `pieces` and writes it for another client.
pub fn recode(from: Protocol, to: Protocol, pieces: &[&[u8]], shape: &Shape) -> Vec<u8> {
    let mut encoder = StreamEncoder::new(to, shape);
    let mut out = Vec::new();
    events(from, pieces, shape, &mut |event| {
        encoder.write(event, &mut out);
    });
    out
}

/// Reads a stream that comes in `pieces`, and checks what every decoder promises.
pub fn events(from: Protocol, pieces: &[&[u8]], shape: &Shape, each: &mut dyn FnMut(&Event<'_>)) {
    let mut decoder = StreamDecoder::new(from, shape);
    let mut frames = Frames::new(from.framing(), 1 << 24);
    let mut promises = Promises::default();
    let mut see = |event: Event<'_>| {
        promises.see(&event);
        each(&event);
    };
    for piece in pieces {
        frames
            .push(&Bytes::copy_from_slice(piece), |name, data| {
                decoder.feed(name, data, &mut see);
            })
            .unwrap();
    }
    frames.finish(|name, data| decoder.feed(name, data, &mut see));
    decoder.end(&mut see);
    promises.kept();
}

/// What every decoder promises.
#[derive(Debug, Default)]
struct Promises {
    started: bool,
    ended: bool,
    open: Vec<u32>,
    next: u32,
}

impl Promises {
    fn see(&mut self, event: &Event<'_>) {
        assert!(!self.ended, "something follows the end");
        match event {
            Event::Start { .. } => {
                assert!(!self.started, "a second start");
                self.started = true;
                return;
            }
            Event::Open { index, .. } => {
                assert_eq!(*index, self.next, "blocks count from 0 in order");
                self.next += 1;
                self.open.push(*index);
            }
            Event::Delta { index, .. } => {
                assert!(self.open.contains(index), "a delta without its block");
            }
            Event::Close { index } => {
                let at = self.open.iter().position(|open| open == index);
                self.open.remove(at.expect("only open blocks are closed"));
            }
            Event::Usage(_) | Event::Ping => {}
            Event::Finish { .. } | Event::Error(_) => {
                assert!(self.open.is_empty(), "all blocks are closed");
                self.ended = true;
            }
        }
        assert!(self.started, "something comes before the start");
    }

    fn kept(&self) {
        assert!(self.started && self.ended, "{self:?}");
    }
}

impl Tested {
    fn golden(&self, prefix: &str) -> Vec<PathBuf> {
        let folder = tests().join("golden").join(self.folder);
        let mut found: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let name = name_of(path);
                name.starts_with(prefix) && !name.contains(".to-")
            })
            .collect();
        found.sort();
        assert!(!found.is_empty(), "no {prefix}* in {}", folder.display());
        found
    }

    fn family(&self, path: &Path) -> Protocol {
        let name = name_of(path);
        if name.starts_with("openai-") {
            Protocol::OpenaiChat
        } else if name.starts_with("anthropic-") {
            Protocol::Anthropic
        } else {
            self.protocol
        }
    }

    fn suffix(&self, to: Protocol) -> &'static str {
        match to.framing() {
            Framing::Lines => "ndjson",
            Framing::Events | Framing::EventStream => "sse",
        }
    }

    fn kind(&self, protocol: Protocol, what: &str) -> Option<String> {
        let word = match protocol {
            Protocol::OpenaiChat => "openai",
            Protocol::Anthropic => "anthropic",
            Protocol::Cohere => "cohere",
            Protocol::Ollama => "ollama",
            Protocol::OpenaiCompletions => "completions",
            Protocol::OpenaiResponses | Protocol::Gemini | Protocol::Bedrock => return None,
        };
        Some(format!("{word}.{what}"))
    }

    /// A request in the words of another protocol, or how it is refused.
    fn translated(&self, from: Protocol, body: &[u8], to: Protocol, facts: &Facts) -> Value {
        let hub = match decode_request(from, body) {
            Ok(hub) => hub,
            Err(error) => {
                assert_eq!(error.kind.status(), 400, "{error}");
                return json!({"refused": error.message, "param": error.param});
            }
        };
        let mut found = json!({});
        for model in self.models {
            found[*model] = match encode_request(to, &hub, model, facts) {
                Ok(said) => json!({
                    "body": serde_json::from_slice::<Value>(&said.body).unwrap(),
                    "dropped": said.dropped,
                    "schema_tool": said.schema_tool,
                }),
                Err(error) => {
                    assert_eq!(error.kind.status(), 400, "{error}");
                    assert!(error.param.is_some(), "{error} names no field");
                    json!({"refused": error.message, "param": error.param})
                }
            };
        }
        found
    }

    pub fn requests_to_it(&self) {
        for prefix in ["openai-request", "anthropic-request"] {
            for path in self.golden(prefix) {
                let body = std::fs::read(&path).unwrap();
                let from = self.family(&path);
                let found = json!({
                    "known": self.translated(from, &body, self.protocol, &able()),
                    "unknown": self.translated(from, &body, self.protocol, &Facts::default()),
                });
                let name = self.protocol.name();
                check_json(&path.with_extension(format!("to-{name}.json")), &found);
            }
        }
    }

    pub fn requests_of_its_clients(&self) {
        for path in self.golden("from-request") {
            let body = std::fs::read(&path).unwrap();
            for to in [OTHERS[0], OTHERS[1], self.protocol] {
                let found = self.translated(self.protocol, &body, to, &able());
                check_json(
                    &path.with_extension(format!("to-{}.json", to.name())),
                    &found,
                );
            }
        }
    }

    pub fn answers(&self) {
        let mut lines = Vec::new();
        for prefix in ["from-response", "openai-response", "anthropic-response"] {
            for path in self.golden(prefix) {
                let body = std::fs::read(&path).unwrap();
                let shape = shape_of(&path);
                let from = self.family(&path);
                let hub = decode_response(from, &body, &shape).unwrap();
                let targets = if from == self.protocol {
                    vec![OTHERS[0], OTHERS[1], self.protocol]
                } else {
                    vec![self.protocol]
                };
                for to in targets {
                    let bytes = encode_response(to, &hub, &shape);
                    let found: Value = serde_json::from_slice(&bytes).unwrap();
                    lines.extend(self.line(&path, to, "message", found.clone()));
                    check_json(
                        &path.with_extension(format!("to-{}.json", to.name())),
                        &found,
                    );
                }
            }
        }
        hold_against(&format!("{}-answers", self.folder), &lines);
    }

    pub fn streams(&self) {
        let mut lines = Vec::new();
        for prefix in ["from-stream", "openai-stream", "anthropic-stream"] {
            for path in self.golden(prefix) {
                let wire = std::fs::read(&path).unwrap();
                let shape = shape_of(&path);
                let from = self.family(&path);
                let targets = if from == self.protocol {
                    vec![OTHERS[0], OTHERS[1], self.protocol]
                } else {
                    vec![self.protocol]
                };
                for to in targets {
                    let found = String::from_utf8(recode(from, to, &[&wire], &shape)).unwrap();
                    if !name_of(&path).contains("error") {
                        lines.extend(self.line(&path, to, "stream", json!(found)));
                    }
                    let suffix = self.suffix(to);
                    check(
                        &path.with_extension(format!("to-{}.{suffix}", to.name())),
                        &found,
                    );
                }
            }
        }
        hold_against(&format!("{}-streams", self.folder), &lines);
    }

    pub fn streams_cut_anywhere(&self) {
        for path in self.golden("from-stream") {
            let wire = std::fs::read(&path).unwrap();
            let shape = shape_of(&path);
            for to in [OTHERS[0], OTHERS[1], self.protocol] {
                let whole = recode(self.protocol, to, &[&wire], &shape);
                for cut in 0..=wire.len() {
                    let (head, tail) = wire.split_at(cut);
                    let found = recode(self.protocol, to, &[head, tail], &shape);
                    assert_eq!(found, whole, "{} cut at {cut}", path.display());
                }
            }
        }
    }

    pub fn streams_that_end_early(&self) {
        for path in self.golden("from-stream") {
            let wire = std::fs::read(&path).unwrap();
            for length in 0..=wire.len() {
                // The promises are looked at within.
                recode(
                    self.protocol,
                    Protocol::OpenaiChat,
                    &[&wire[..length]],
                    &shape_of(&path),
                );
            }
        }
    }

    /// All real traffic: read, written for its own and for other clients, streams against their sums.
    pub fn recorded(&self) {
        let mut lines = Vec::new();
        let mut count = 0;
        for recording in self.recorded_files() {
            count += 1;
            let asked = recording.request.to_string();
            if let Ok(hub) = decode_request(self.protocol, asked.as_bytes()) {
                for to in [OTHERS[0], OTHERS[1], self.protocol] {
                    match encode_request(to, &hub, self.models[0], &able()) {
                        Ok(said) => drop(serde_json::from_slice::<Value>(&said.body).unwrap()),
                        Err(error) => assert_eq!(error.kind.status(), 400, "{error}"),
                    }
                }
            }
            if recording.status != 200 {
                continue;
            }
            let name = PathBuf::from(&recording.name);
            if let Some(body) = &recording.body {
                let text = body.to_string();
                let hub = decode_response(self.protocol, text.as_bytes(), &shape()).unwrap();
                for to in [OTHERS[0], OTHERS[1], self.protocol] {
                    let bytes = encode_response(to, &hub, &shape());
                    let found: Value = serde_json::from_slice(&bytes).unwrap();
                    let known = vec![self.text_of(to, &found)];
                    assert_eq!(known, [self.text_of(self.protocol, body)], "{name:?}");
                    lines.extend(self.line(&name, to, "message", found));
                }
            }
            if let Some(wire) = &recording.stream {
                let mut collector = Collector::new(self.protocol);
                events(self.protocol, &[wire], &shape(), &mut |event| {
                    collector.push(event);
                });
                let whole = collector.finish().expect("recorded streams end well");
                for to in [OTHERS[0], OTHERS[1], self.protocol] {
                    let bytes = encode_response(to, &whole, &shape());
                    lines.extend(self.line(
                        &name,
                        to,
                        "message",
                        serde_json::from_slice(&bytes).unwrap(),
                    ));
                    let found = recode(self.protocol, to, &[wire], &shape());
                    // What is said comes out of the second translation too.
                    let mut again = Collector::new(to);
                    events(to, &[&found], &shape(), &mut |event| again.push(event));
                    let again = again.finish().expect("written streams end well");
                    assert_eq!(said(&again), said(&whole), "{name:?} by {to:?}");
                    let tokens = |response: &strait::protocol::chat::Response<'_>| {
                        response
                            .usage
                            .as_ref()
                            .map(|usage| (usage.input, usage.output))
                    };
                    if to == self.protocol || tokens(&whole).is_some() {
                        assert_eq!(tokens(&again), tokens(&whole), "{name:?} by {to:?}");
                    }
                    lines.extend(self.line(
                        &name,
                        to,
                        "stream",
                        json!(String::from_utf8(found).unwrap()),
                    ));
                }
            }
        }
        eprintln!("{}: {count} recordings", self.recordings);
        hold_against(&format!("{}-recorded", self.folder), &lines);
    }

    /// Returns what an answer says, by the words of its protocol.
    fn text_of(&self, protocol: Protocol, body: &Value) -> String {
        let text = body.to_string();
        let hub = decode_response(protocol, text.as_bytes(), &shape()).unwrap();
        hub.parts
            .iter()
            .filter_map(|part| match part {
                strait::protocol::chat::Part::Text { text, .. } => Some(text.to_string()),
                _ => None,
            })
            .collect()
    }

    pub fn recorded_files(&self) -> Vec<Recording> {
        let shared = std::env::var("STRAIT_SHARED")
            .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
        let folder = PathBuf::from(shared)
            .join("recordings")
            .join(self.recordings);
        let Ok(entries) = std::fs::read_dir(&folder) else {
            eprintln!("not run: no {}", folder.display());
            return Vec::new();
        };
        let mut paths: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
            .collect();
        paths.sort();
        paths.iter().map(|path| Recording::read(path)).collect()
    }

    fn line(&self, path: &Path, to: Protocol, what: &str, body: Value) -> Option<String> {
        let kind = self.kind(to, what)?;
        Some(json!({"name": name_of(path), "kind": kind, "body": body}).to_string())
    }

    /// Whatever comes, decoders keep their promises and no translation panics.
    pub fn takes_anything(&self, events: &[String]) {
        let wire = match self.protocol.framing() {
            Framing::Lines => events.join("\n"),
            Framing::Events | Framing::EventStream => events
                .iter()
                .map(|data| format!("data: {data}\n\n"))
                .collect(),
        };
        for schema_tool in [false, true] {
            let shape = Shape {
                schema_tool,
                ..shape()
            };
            for to in Protocol::ALL {
                recode(self.protocol, to, &[wire.as_bytes()], &shape);
            }
        }
        for text in events {
            if let Ok(hub) = decode_response(self.protocol, text.as_bytes(), &shape()) {
                for to in Protocol::ALL {
                    encode_response(to, &hub, &shape());
                }
            }
            if let Ok(hub) = decode_request(self.protocol, text.as_bytes()) {
                for to in Protocol::ALL {
                    if let Err(error) = encode_request(to, &hub, "m", &able()) {
                        assert_eq!(error.kind.status(), 400, "{error}");
                    }
                }
            }
        }
    }

    /// A golden request with one value replaced by another is said or refused, never worse.
    pub fn takes_changed_requests(&self, place: usize, value: &Value) {
        for path in self.golden("from-request") {
            let mut body: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let mut left = place % count(&body).max(1);
            replace(&mut body, &mut left, value);
            let body = body.to_string();
            match decode_request(self.protocol, body.as_bytes()) {
                Ok(hub) => {
                    for to in Protocol::ALL {
                        if let Err(error) = encode_request(to, &hub, self.models[0], &able()) {
                            assert_eq!(error.kind.status(), 400, "{error}");
                        }
                    }
                }
                Err(error) => assert_eq!(error.kind.status(), 400, "{error}"),
            }
        }
    }
}

/// Text and calls of an answer.
fn said(response: &strait::protocol::chat::Response<'_>) -> (String, Vec<(String, Value)>) {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for part in &response.parts {
        match part {
            strait::protocol::chat::Part::Text { text: piece, .. } => text.push_str(piece),
            strait::protocol::chat::Part::ToolCall {
                name, arguments, ..
            } => calls.push((
                name.to_string(),
                serde_json::from_str(arguments).unwrap_or(json!(arguments)),
            )),
            _ => {}
        }
    }
    (text, calls)
}

/// One exchange of real traffic.
#[derive(Debug)]
pub struct Recording {
    pub name: String,
    pub request: Value,
    pub status: u64,
    pub body: Option<Value>,
    pub stream: Option<Vec<u8>>,
}

impl Recording {
    fn read(path: &Path) -> Self {
        let whole: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let response = &whole["response"];
        let stream = response["body_file"]
            .as_str()
            .map(|file| std::fs::read(path.with_file_name(file)).unwrap());
        Self {
            name: name_of(path),
            request: whole["request"]["body"].clone(),
            status: response["status"].as_u64().unwrap(),
            body: response
                .get("body")
                .filter(|body| body.is_object())
                .cloned(),
            stream,
        }
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn replace(value: &mut Value, left: &mut usize, with: &Value) -> bool {
    if *left == 0 {
        *value = with.clone();
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| replace(item, left, with)),
        Value::Object(fields) => fields.values_mut().any(|item| replace(item, left, with)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Values that fit nowhere in particular.
pub fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(-1)),
        Just(json!(0.5)),
        Just(json!(1e300)),
        Just(json!(4_294_967_296_u64)),
        Just(json!("")),
        Just(json!("tool")),
        Just(json!("data:,")),
        Just(json!([])),
        Just(json!([[1, 2]])),
        Just(json!({})),
        Just(json!({"type": "text", "text": "t"})),
        Just(json!([{"type": "image_url"}])),
        "\\PC{0,8}".prop_map(|text| json!(text)),
    ]
}

fn hold_against(name: &str, lines: &[String]) {
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
    let file = std::env::temp_dir().join(format!("strait-{}-{name}", std::process::id()));
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
    eprintln!("{name}: {told}");
}
