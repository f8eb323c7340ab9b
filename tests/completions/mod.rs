//! What the tests of legacy completions share: golden files, recordings, streams cut anywhere, and the SDKs.
//!
//! A request `golden/<protocol>/<client>-<case>.json` has an expected file for every protocol that it is encoded to
//! (`.to-<protocol>.json`: the body and what was dropped, or the error). An answer `answer-<case>.json` and a stream
//! `stream-<case>.sse` are the protocol's own. `UPDATE_GOLDEN=1` rewrites the expected files.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "only what the protocols can say is compared"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use strait::protocol::chat::{Part, Response};
use strait::protocol::collect::Collector;
use strait::protocol::event::Event;
use strait::protocol::frames::Frames;
use strait::protocol::usage::Usage;
use strait::protocol::{
    Facts, Framing, Protocol, Shape, StreamDecoder, StreamEncoder, decode_request, decode_response,
    encode_request, encode_response,
};

/// What every protocol here is translated to.
pub fn others(own: Protocol) -> [Protocol; 3] {
    [own, Protocol::OpenaiChat, Protocol::Anthropic]
}

fn tests() -> PathBuf {
    std::env::var("STRAIT_TESTS")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/tests").into())
        .into()
}

/// One exchange with a provider: its name, all that is known of it, and the stream where there was one.
pub type Recording = (String, Value, Option<Vec<u8>>);

/// Returns the recordings of one surface; says so when there are none.
pub fn recordings(surface: &str) -> Vec<Recording> {
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
    assert!(paths.len() > 5, "only {} recordings", paths.len());
    paths
        .into_iter()
        .map(|path| {
            let record = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let stream = ["sse", "ndjson"]
                .iter()
                .find_map(|ending| std::fs::read(path.with_extension(ending)).ok());
            let name = format!("{surface}/{}", path.file_stem().unwrap().to_string_lossy());
            (name, record, stream)
        })
        .collect()
}

pub fn able() -> Facts {
    Facts {
        max_output: Some(64_000),
        json_schema: Some(true),
        reasoning: true,
        developer_role: true,
        max_completion_tokens: true,
        ..Facts::default()
    }
}

pub fn shape() -> Shape {
    Shape {
        model: "asked/for".into(),
        created: 1_700_000_000,
        include_usage: true,
        id: "0af7651916cd43dd8448eb211c80319c".into(),
        ..Shape::default()
    }
}

// === Golden files ===

fn golden(own: Protocol) -> PathBuf {
    let folder = match own {
        Protocol::OpenaiCompletions => "completions",
        own => own.name(),
    };
    tests().join("golden").join(folder)
}

fn cases(own: Protocol, is_one: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let folder = golden(own);
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            !name.contains(".to-") && is_one(&name)
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no cases in {}", folder.display());
    found
}

fn check(path: &Path, found: &str) {
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if std::env::var_os("UPDATE_GOLDEN").is_some() && expected != found {
        return std::fs::write(path, found).unwrap();
    }
    assert_eq!(
        found,
        expected,
        "{} differs; UPDATE_GOLDEN=1 rewrites it",
        path.display()
    );
}

/// Compares as values: the order of keys is a matter of how `serde_json` was built.
fn check_json(path: &Path, found: &Value) {
    let expected: Option<Value> = std::fs::read(path)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    if expected.as_ref() != Some(found) {
        check(path, &(serde_json::to_string_pretty(found).unwrap() + "\n"));
    }
}

fn told(body: &[u8]) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)))
}

/// Translates a request; returns what is sent and dropped, or the error.
pub fn translated(from: Protocol, to: Protocol, body: &[u8], facts: &Facts) -> Value {
    let sent = decode_request(from, body)
        .and_then(|request| encode_request(to, &request, "provider-model", facts));
    match sent {
        Ok(sent) => json!({
            "body": told(&sent.body),
            "dropped": sent.dropped,
            "schema_tool": sent.schema_tool,
        }),
        Err(error) => json!({
            "error": error.kind.code(),
            "param": error.param,
            "message": error.message,
        }),
    }
}

/// Checks every request among the golden files.
pub fn requests_are_golden(own: Protocol) {
    let clients = [own, Protocol::OpenaiChat, Protocol::Anthropic];
    let mut count = 0;
    for client in clients {
        let head = format!("{}-", client.name());
        for path in cases(own, |name| {
            name.starts_with(&head) && name.ends_with(".json")
        }) {
            let body = std::fs::read(&path).unwrap();
            let to = if client == own {
                others(own).to_vec()
            } else {
                vec![own]
            };
            for to in to {
                let found = translated(client, to, &body, &able());
                check_json(
                    &path.with_extension(format!("to-{}.json", to.name())),
                    &found,
                );
                count += 1;
            }
        }
    }
    eprintln!("{count} requests");
}

/// Checks every whole answer among the golden files.
pub fn answers_are_golden(own: Protocol) {
    for path in cases(own, |name| name.starts_with("answer-")) {
        let body = std::fs::read(&path).unwrap();
        for to in others(own) {
            let schema = Shape {
                schema_tool: path.to_string_lossy().contains("schema-tool"),
                ..shape()
            };
            let found = match decode_response(own, &body, &schema) {
                Ok(response) => told(&encode_response(to, &response, &schema)),
                Err(error) => json!({"error": error.kind.code(), "message": error.message}),
            };
            check_json(
                &path.with_extension(format!("to-{}.json", to.name())),
                &found,
            );
        }
    }
}

/// Checks every stream among the golden files, cut at every byte.
pub fn streams_are_golden(own: Protocol) {
    for path in cases(own, |name| name.starts_with("stream-")) {
        let stream = std::fs::read(&path).unwrap();
        let schema = Shape {
            schema_tool: path.to_string_lossy().contains("schema-tool"),
            ..shape()
        };
        for to in others(own) {
            let whole = recoded(own, to, &[&stream], &schema);
            let ending = if to.framing() == Framing::Lines {
                "ndjson"
            } else {
                "sse"
            };
            let expected = path.with_extension(format!("to-{}.{ending}", to.name()));
            check(&expected, &whole);
            for at in 0..=stream.len() {
                let (head, tail) = stream.split_at(at);
                let again = recoded(own, to, &[head, tail], &schema);
                assert_eq!(again, whole, "{} cut at {at}", path.display());
            }
        }
        let mut each = Vec::new();
        each.extend(stream.chunks(1));
        assert_eq!(
            recoded(own, own, &each, &schema),
            recoded(own, own, &[&stream], &schema),
            "byte by byte"
        );
        // A stream that ends early says so.
        for at in 0..stream.len() {
            let events = Kept::of(own, &[&stream[..at]], &schema);
            events.hold();
        }
    }
}

// === Streams ===

/// What became of a stream.
pub struct Kept {
    pub collector: Collector,
    /// The kinds of events, in their order.
    pub kinds: Vec<String>,
    pub failure: Option<String>,
}

impl Kept {
    pub fn of(own: Protocol, pieces: &[&[u8]], shape: &Shape) -> Self {
        let mut kept = Self {
            collector: Collector::new(own),
            kinds: Vec::new(),
            failure: None,
        };
        decode(own, pieces, shape, &mut |event| {
            kept.kinds.push(kind(&event));
            if let Event::Error(failure) = &event {
                kept.failure = Some(failure.message.to_string());
            }
            kept.collector.push(&event);
        });
        kept
    }

    /// Holds the events to what a decoder promises.
    pub fn hold(&self) {
        let kinds = &self.kinds;
        let count = |what: &str| kinds.iter().filter(|kind| kind.starts_with(what)).count();
        assert_eq!(kinds[0], "start", "{kinds:?}");
        assert_eq!(count("start"), 1, "{kinds:?}");
        assert_eq!(count("finish") + count("error"), 1, "{kinds:?}");
        let last = kinds.last().unwrap();
        assert!(last == "finish" || last == "error", "{kinds:?}");
        let (mut open, mut next) = (None, 0);
        for kind in kinds {
            let (what, index) = kind.split_once(' ').unwrap_or((kind, ""));
            match what {
                "open" => {
                    assert_eq!(open.replace(index.to_owned()), None, "{kinds:?}");
                    assert_eq!(index, next.to_string(), "{kinds:?}");
                    next += 1;
                }
                "delta" => assert_eq!(open.as_deref(), Some(index), "{kinds:?}"),
                "close" => assert_eq!(open.take().as_deref(), Some(index), "{kinds:?}"),
                _ => {}
            }
        }
        assert_eq!(open, None, "{kinds:?}");
    }
}

fn kind(event: &Event<'_>) -> String {
    match event {
        Event::Start { .. } => "start".into(),
        Event::Open { index, .. } => format!("open {index}"),
        Event::Delta { index, .. } => format!("delta {index}"),
        Event::Close { index } => format!("close {index}"),
        Event::Usage(_) => "usage".into(),
        Event::Finish { .. } => "finish".into(),
        Event::Ping => "ping".into(),
        Event::Error(_) => "error".into(),
    }
}

fn decode(own: Protocol, pieces: &[&[u8]], shape: &Shape, each: &mut dyn FnMut(Event<'_>)) {
    let mut frames = Frames::new(own.framing(), 1 << 20);
    let mut decoder = StreamDecoder::new(own, shape);
    for piece in pieces {
        frames
            .push(&Bytes::copy_from_slice(piece), |name, data| {
                decoder.feed(name, data, each);
            })
            .unwrap();
    }
    frames.finish(|name, data| decoder.feed(name, data, each));
    decoder.end(each);
}

/// Translates a stream that comes in these pieces.
pub fn recoded(own: Protocol, to: Protocol, pieces: &[&[u8]], shape: &Shape) -> String {
    let mut encoder = StreamEncoder::new(to, shape);
    let mut out = Vec::new();
    decode(own, pieces, shape, &mut |event| {
        encoder.write(&event, &mut out)
    });
    String::from_utf8(out).unwrap()
}

// === Recordings ===

/// Returns what an answer says, in a form that streams and whole answers share.
pub fn summary(response: &Response<'_>) -> Value {
    let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for part in &response.parts {
        match part {
            Part::Text { text: said, .. } | Part::Refusal { text: said } => text.push_str(said),
            Part::Reasoning { text: said, .. } => thinking.push_str(said),
            Part::ToolCall {
                id,
                name,
                arguments,
                ..
            } => calls.push(json!({
                "id": id,
                "name": name,
                "arguments": serde_json::from_str::<Value>(arguments).unwrap(),
            })),
            _ => {}
        }
    }
    json!({"text": text, "thinking": thinking, "calls": calls})
}

/// Decodes every recorded answer and stream, and encodes it to each protocol; returns lines for the SDKs.
///
/// `usage` reads the provider's own numbers of an answer, or of an event of a stream.
pub fn recordings_survive(
    own: Protocol,
    surface: &str,
    usage: fn(&Value) -> Option<Usage>,
) -> Vec<Value> {
    let mut lines = Vec::new();
    let (mut answers, mut streams, mut errors) = (0, 0, 0);
    for (name, record, stream) in recordings(surface) {
        let response = &record["response"];
        let request = serde_json::to_vec(&record["request"]["body"]).unwrap();
        requests_survive(own, &name, &request);
        if response["status"] != 200 {
            errors += 1;
            let body = serde_json::to_vec(&response["body"]).unwrap();
            let error = decode_response(own, &body, &shape()).unwrap_err();
            assert_eq!(error.kind.code(), "upstream_broken", "{name}");
            continue;
        }
        if let Some(stream) = stream {
            streams += 1;
            lines.extend(stream_survives(own, &name, &stream, usage));
            continue;
        }
        answers += 1;
        let body = serde_json::to_vec(&response["body"]).unwrap();
        let decoded =
            decode_response(own, &body, &shape()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(decoded.usage, usage(&response["body"]), "{name}");
        for to in others(own) {
            let written = encode_response(to, &decoded, &shape());
            let back = decode_response(to, &written, &shape())
                .unwrap_or_else(|error| panic!("{name} to {}: {error}", to.name()));
            assert_eq!(summary(&back), summary(&decoded), "{name} to {}", to.name());
            let numbers = |usage: &Option<Usage>| usage.as_ref().map(|u| (u.input, u.output));
            if let told @ Some(_) = numbers(&decoded.usage) {
                assert_eq!(numbers(&back.usage), told, "{name} to {}", to.name());
            }
            lines.push(json!({
                "name": name,
                "kind": format!("{}.message", kind_of(to)),
                "body": told(&written),
            }));
        }
    }
    eprintln!("{surface}: {answers} answers, {streams} streams, {errors} errors");
    lines
}

fn requests_survive(own: Protocol, name: &str, body: &[u8]) {
    let Ok(request) = decode_request(own, body) else {
        // What this protocol alone can say is refused by name.
        let error = decode_request(own, body).unwrap_err();
        assert!(
            error.kind.status() == 400 && error.param.is_some(),
            "{name}: {error}"
        );
        return;
    };
    for to in others(own) {
        let sent = encode_request(to, &request, "m", &able())
            .unwrap_or_else(|error| panic!("{name} to {}: {error}", to.name()));
        decode_request(to, &sent.body)
            .unwrap_or_else(|error| panic!("{name} to {} and back: {error}", to.name()));
    }
}

fn stream_survives(
    own: Protocol,
    name: &str,
    stream: &[u8],
    usage: fn(&Value) -> Option<Usage>,
) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut kept = Kept::of(own, &[stream], &shape());
    kept.hold();
    let text = String::from_utf8_lossy(stream);
    let numbers = text
        .lines()
        .filter_map(|line| {
            let data = line.strip_prefix("data:").unwrap_or(line);
            usage(&serde_json::from_str(data).ok()?)
        })
        .next_back();
    let decoded = kept
        .collector
        .finish()
        .unwrap_or_else(|| panic!("{name} did not end well"));
    assert_eq!(decoded.usage, numbers, "{name}");
    let said = summary(&decoded);
    for to in others(own) {
        let written = recoded(own, to, &[stream], &shape());
        let mut again = Kept::of(to, &[written.as_bytes()], &shape());
        again.hold();
        let back = again
            .collector
            .finish()
            .unwrap_or_else(|| panic!("{name} to {}: {written}", to.name()));
        assert_eq!(summary(&back), said, "{name} to {}", to.name());
        // The same content as the whole answer that the stream comes to.
        let whole = encode_response(to, &decoded, &shape());
        let whole = decode_response(to, &whole, &shape()).unwrap();
        assert_eq!(summary(&whole), said, "{name} to {}, whole", to.name());
        assert_eq!(whole.finish, back.finish, "{name} to {}, whole", to.name());
        lines.push(json!({
            "name": name,
            "kind": format!("{}.stream", kind_of(to)),
            "body": written,
        }));
    }
    // Cut at some places, to which all bytes come over all recordings.
    for at in (0..stream.len()).step_by(97) {
        let (head, tail) = stream.split_at(at);
        let again = recoded(own, Protocol::OpenaiChat, &[head, tail], &shape());
        assert_eq!(
            again,
            recoded(own, Protocol::OpenaiChat, &[stream], &shape()),
            "{name} cut at {at}"
        );
    }
    lines
}

fn kind_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::OpenaiChat => "openai",
        Protocol::OpenaiCompletions => "completions",
        protocol => protocol.name(),
    }
}

/// Returns the golden answers and streams in their own protocol, for the SDKs.
pub fn golden_lines(own: Protocol) -> Vec<Value> {
    let mut lines = Vec::new();
    for path in cases(own, |name| name.starts_with("answer-")) {
        let body = std::fs::read(&path).unwrap();
        let Ok(response) = decode_response(own, &body, &shape()) else {
            continue;
        };
        for to in others(own) {
            lines.push(json!({
                "name": path.file_name().unwrap().to_string_lossy(),
                "kind": format!("{}.message", kind_of(to)),
                "body": told(&encode_response(to, &response, &shape())),
            }));
        }
    }
    for path in cases(own, |name| name.starts_with("stream-")) {
        let stream = std::fs::read(&path).unwrap();
        if Kept::of(own, &[&stream], &shape()).failure.is_some() {
            continue;
        }
        for to in others(own) {
            lines.push(json!({
                "name": path.file_name().unwrap().to_string_lossy(),
                "kind": format!("{}.stream", kind_of(to)),
                "body": recoded(own, to, &[&stream], &shape()),
            }));
        }
    }
    lines
}

/// Holds the lines against the official SDKs.
pub fn hold_against_sdks(name: &str, lines: &[Value]) {
    let venv = tests().join("clients/.venv/bin/python");
    let python = std::env::var_os("STRAIT_PYTHON").map_or(venv, PathBuf::from);
    assert!(
        python.exists(),
        "{} is absent: run `bash .ci/setup tests` first",
        python.display()
    );
    let file =
        std::env::temp_dir().join(format!("strait-small-{name}-{}.jsonl", std::process::id()));
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
    eprintln!("{told}");
}

// === Anything at all ===

/// JSON that looks like this protocol's, with anything in any place.
pub fn anything(keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(keys).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(Value::from("{\"a\":1}")),
        Just(Value::from("data:image/png;base64,iVBORw0KGgo=")),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(keys), inner), 0..6).prop_map(|pairs| {
                Value::Object(
                    pairs
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    })
}

/// Reads a body as a request and as an answer and translates it: whatever it is, there is an answer or a 400.
pub fn survives(own: Protocol, body: &[u8]) {
    if let Ok(request) = decode_request(own, body) {
        for to in others(own) {
            for facts in [able(), Facts::default()] {
                match encode_request(to, &request, "m", &facts) {
                    Ok(sent) => drop(told(&sent.body)),
                    Err(error) => {
                        assert_eq!(error.kind.status(), 400, "{}: {error}", to.name());
                        assert!(error.param.is_some(), "{}: {error}", to.name());
                    }
                }
            }
        }
    }
    for schema_tool in [false, true] {
        let shape = Shape {
            schema_tool,
            ..shape()
        };
        match decode_response(own, body, &shape) {
            Ok(response) => {
                for to in others(own) {
                    told(&encode_response(to, &response, &shape));
                }
            }
            Err(error) => assert_eq!(error.kind.code(), "upstream_broken"),
        }
    }
}

/// Reads events, in any order, as a stream: whatever they are, the promises are kept.
pub fn stream_holds(own: Protocol, events: &[(String, Vec<u8>)], schema_tool: bool) {
    let shape = Shape {
        schema_tool,
        ..shape()
    };
    let mut kinds = Vec::new();
    let mut encoders = others(own).map(|to| (to, StreamEncoder::new(to, &shape), Vec::new()));
    let mut decoder = StreamDecoder::new(own, &shape);
    let mut each = |event: Event<'_>| {
        kinds.push(kind(&event));
        for (_, encoder, out) in &mut encoders {
            encoder.write(&event, out);
        }
    };
    for (name, data) in events {
        decoder.feed(name.as_bytes(), data, &mut each);
    }
    decoder.end(&mut each);
    decoder.end(&mut each);
    for (to, _, out) in &encoders {
        let again = Kept::of(*to, &[out], &shape);
        again.hold();
        assert_eq!(
            again.failure.is_some(),
            kinds.last().is_some_and(|last| last == "error"),
            "{}: {}",
            to.name(),
            String::from_utf8_lossy(out)
        );
    }
    let kept = Kept {
        collector: Collector::new(own),
        kinds,
        failure: None,
    };
    kept.hold();
}
