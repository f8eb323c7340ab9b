//! Anthropic to the hub and back: golden files, real traffic, and streams that were tampered with.
//!
//! `UPDATE_GOLDEN=1` rewrites the expected files. What was dropped stands beside the body in them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use strait::protocol::anthropic::stream::{Decoder, Encoder};
use strait::protocol::anthropic::{request, response};
use strait::protocol::event::{Event, FailureClass};
use strait::protocol::{Facts, Protocol, Shape};

fn golden() -> PathBuf {
    let root = std::env::var("STRAIT_TESTS")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/tests").into());
    Path::new(&root).join("golden/anthropic")
}

/// Returns the folder of recordings, or says that there is none.
fn recordings() -> Option<PathBuf> {
    let shared = std::env::var("STRAIT_SHARED")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let folder = Path::new(&shared).join("recordings/anthropic-messages");
    if !folder.is_dir() {
        eprintln!("not run: {} is absent", folder.display());
        return None;
    }
    Some(folder)
}

fn files(folder: &Path, ending: &str) -> Vec<(String, PathBuf)> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                path,
            )
        })
        .filter(|(name, _)| name.ends_with(ending) && !name.contains(".hub-"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no {ending} in {}", folder.display());
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

fn shape() -> Shape {
    Shape {
        model: "asked/for".into(),
        created: 1,
        include_usage: true,
        schema_tool: false,
        ..Shape::default()
    }
}

#[test]
fn requests_come_back_as_the_golden_files_say() {
    for (name, path) in files(&golden(), ".json") {
        if name.starts_with("response-") {
            continue;
        }
        let body = std::fs::read(&path).unwrap();
        let hub = request::decode(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let said = request::encode(&hub, "claude-x", &able()).unwrap();
        let found = json!({
            "body": serde_json::from_slice::<Value>(&said.body).unwrap(),
            "dropped": said.dropped,
            "schema_tool": said.schema_tool,
        });
        check_json(&path.with_extension("hub-anthropic.json"), &found);
    }
}

#[test]
fn answers_come_back_as_the_golden_files_say() {
    for (name, path) in files(&golden(), ".json") {
        if !name.starts_with("response-") {
            continue;
        }
        let body = std::fs::read(&path).unwrap();
        let hub = response::decode(&body, &shape()).unwrap();
        let found: Value = serde_json::from_slice(&response::encode(&hub, &shape())).unwrap();
        check_json(&path.with_extension("hub-anthropic.json"), &found);
    }
}

#[test]
fn streams_come_back_as_the_golden_files_say() {
    for (_, path) in files(&golden(), ".sse") {
        let text = std::fs::read_to_string(&path).unwrap();
        let found = String::from_utf8(recode(&frames(&text), &shape())).unwrap();
        check(&path.with_extension("hub-anthropic.sse"), &found);
    }
}

#[test]
fn recorded_requests_say_the_same_after_the_hub() {
    let Some(folder) = recordings() else { return };
    for (name, path) in files(&folder, ".json") {
        let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let body = record["request"]["body"].to_string();
        let hub =
            request::decode(body.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let model = hub.model.clone().into_owned();
        let said = request::encode(&hub, &model, &able())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = plain_request(serde_json::from_slice(&said.body).unwrap());
        assert_eq!(
            found,
            plain_request(record["request"]["body"].clone()),
            "{name}"
        );
        assert_eq!(said.dropped, Vec::<String>::new(), "{name}");
    }
}

/// Spells one request in one way, whatever the client's taste.
fn plain_request(mut body: Value) -> Value {
    if let Some(system) = body.get_mut("system") {
        plain_content(system);
    }
    let leading = body["messages"][0]["role"] == "system" && body.get("system").is_none();
    for message in body["messages"].as_array_mut().unwrap() {
        plain_content(&mut message["content"]);
    }
    if leading {
        let first = body["messages"].as_array_mut().unwrap().remove(0);
        body["system"] = first["content"].clone();
    }
    if body["system"] == json!([]) {
        body.as_object_mut().unwrap().remove("system");
    }
    tidy(&mut body);
    body
}

fn plain_content(content: &mut Value) {
    if let Some(text) = content.as_str() {
        *content = json!([{"type": "text", "text": text}]);
    }
    for block in content.as_array_mut().into_iter().flatten() {
        if block["type"] == "tool_result"
            && let Some(inner) = block.get_mut("content")
        {
            plain_content(inner);
        }
    }
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                let default = match key.as_str() {
                    "stream" | "is_error" => *value == Value::Bool(false),
                    // Who called a tool: the model, in all of these.
                    "caller" => true,
                    _ => value.is_null(),
                };
                !default
            });
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => *value = json!(number.as_f64()),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
fn recorded_answers_say_the_same_after_the_hub() {
    let Some(folder) = recordings() else { return };
    let mut seen = 0;
    for (name, path) in files(&folder, ".json") {
        let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let answer = &record["response"]["body"];
        if !answer["content"].is_array() {
            continue;
        }
        seen += 1;
        let body = answer.to_string();
        let hub = response::decode(body.as_bytes(), &shape())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let found: Value = serde_json::from_slice(&response::encode(&hub, &shape())).unwrap();
        same_answer(&name, answer, &found);
        assert_eq!(found["id"], answer["id"], "{name}");
        assert_eq!(found["model"], "asked/for", "{name}");
    }
    assert!(seen > 20, "only {seen} answers were found");
}

fn same_answer(name: &str, expected: &Value, found: &Value) {
    for key in ["content", "stop_reason", "stop_sequence"] {
        let (mut expected, mut found) = (expected[key].clone(), found[key].clone());
        tidy(&mut expected);
        tidy(&mut found);
        assert_eq!(found, expected, "{name}: {key}");
    }
    for key in [
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
    ] {
        let number = |value: &Value| value["usage"][key].as_u64().unwrap_or(0);
        assert_eq!(number(found), number(expected), "{name}: usage.{key}");
    }
}

/// The server-sent events of a stream: name and data.
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

fn recode(frames: &[(String, String)], shape: &Shape) -> Vec<u8> {
    let (mut decoder, mut encoder) = (Decoder::new(shape), Encoder::new(shape));
    let mut out = Vec::new();
    for (name, data) in frames {
        decoder.feed(name.as_bytes(), data.as_bytes(), &mut |event| {
            encoder.write(&event, &mut out)
        });
    }
    decoder.end(&mut |event| encoder.write(&event, &mut out));
    out
}

/// Builds the message up as the SDKs do, and is as strict about the order as they are.
fn sum(frames: &[(String, String)]) -> Value {
    let mut message = Value::Null;
    let mut open: Option<usize> = None;
    let mut inputs: BTreeMap<usize, String> = BTreeMap::new();
    for (name, data) in frames {
        let event: Value =
            serde_json::from_str(data).unwrap_or_else(|_| panic!("not JSON: {data}"));
        let kind = event["type"].as_str().unwrap().to_owned();
        assert!(name.is_empty() || *name == kind, "{name} names a {kind}");
        let index = event["index"].as_u64().unwrap_or(0) as usize;
        match kind.as_str() {
            "message_start" => {
                assert!(message.is_null(), "a second start");
                message = event["message"].clone();
            }
            "content_block_start" => {
                assert_eq!(open, None, "two blocks are open");
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!(index, content.len(), "an index is left out");
                content.push(event["content_block"].clone());
                open = Some(index);
            }
            "content_block_delta" => {
                assert_eq!(open, Some(index), "a delta for a block that is not open");
                let block = &mut message["content"][index];
                let delta = &event["delta"];
                let mut append = |key: &str| {
                    let text =
                        block[key].as_str().unwrap_or("").to_owned() + delta[key].as_str().unwrap();
                    block[key] = text.into();
                };
                match delta["type"].as_str().unwrap() {
                    "text_delta" => append("text"),
                    "thinking_delta" => append("thinking"),
                    "signature_delta" => append("signature"),
                    "input_json_delta" => {
                        inputs
                            .entry(index)
                            .or_default()
                            .push_str(delta["partial_json"].as_str().unwrap());
                    }
                    "citations_delta" => {
                        if !block["citations"].is_array() {
                            block["citations"] = json!([]);
                        }
                        block["citations"]
                            .as_array_mut()
                            .unwrap()
                            .push(delta["citation"].clone());
                    }
                    _ => {}
                }
            }
            "content_block_stop" => {
                assert_eq!(
                    open.take(),
                    Some(index),
                    "a block is closed that is not open"
                );
                if let Some(input) = inputs.remove(&index).filter(|input| !input.is_empty()) {
                    message["content"][index]["input"] =
                        serde_json::from_str(&input).unwrap_or(Value::Null);
                }
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["stop_sequence"] = event["delta"]["stop_sequence"].clone();
                for (key, value) in event["usage"].as_object().unwrap() {
                    if !value.is_null() {
                        message["usage"][key] = value.clone();
                    }
                }
            }
            "message_stop" => assert_eq!(open, None, "a block is open at the end"),
            _ => {}
        }
    }
    // An empty list is what a block starts with, and says nothing.
    for block in message["content"].as_array_mut().into_iter().flatten() {
        if block["citations"] == json!([]) {
            block.as_object_mut().unwrap().remove("citations");
        }
    }
    message
}

#[test]
fn recorded_streams_say_the_same_after_the_hub_as_their_sum_does() {
    let Some(folder) = recordings() else { return };
    for (name, path) in files(&folder, ".sse") {
        let original = frames(&std::fs::read_to_string(&path).unwrap());
        let expected = sum(&original);
        let found = sum(&frames(
            std::str::from_utf8(&recode(&original, &shape())).unwrap(),
        ));
        same_answer(&name, &expected, &found);

        let whole = expected.to_string();
        let hub = response::decode(whole.as_bytes(), &shape()).unwrap();
        let whole: Value = serde_json::from_slice(&response::encode(&hub, &shape())).unwrap();
        same_answer(&name, &whole, &found);
    }
}

/// What a decoder said, in short.
#[derive(Debug, Default)]
struct Said {
    started: usize,
    open: Vec<u32>,
    next: u32,
    ended: Option<Option<FailureClass>>,
}

impl Said {
    /// Holds an event against the promises.
    fn hear(&mut self, event: &Event<'_>) {
        assert!(self.ended.is_none(), "{event:?} comes after the end");
        if self.started == 0 {
            assert!(
                matches!(event, Event::Start { .. }),
                "{event:?} comes before the start"
            );
        }
        match event {
            Event::Start { .. } => self.started += 1,
            Event::Open { index, .. } => {
                assert_eq!(
                    *index, self.next,
                    "blocks are counted in the order of opening"
                );
                self.next += 1;
                self.open.push(*index);
            }
            Event::Delta { index, .. } => {
                assert!(self.open.contains(index), "a delta outside its block")
            }
            Event::Close { index } => {
                assert!(self.open.contains(index), "a block is closed twice");
                self.open.retain(|open| open != index);
            }
            Event::Usage(_) | Event::Ping => {}
            Event::Finish { .. } => self.ended = Some(None),
            Event::Error(failure) => self.ended = Some(Some(failure.class)),
        }
        assert_eq!(self.started, 1, "a second start");
        if self.ended.is_some() {
            assert_eq!(self.open, Vec::<u32>::new(), "blocks are open at the end");
        }
    }
}

fn listen(frames: &[(String, String)], shape: &Shape) -> Said {
    let mut said = Said::default();
    let mut decoder = Decoder::new(shape);
    for (name, data) in frames {
        decoder.feed(name.as_bytes(), data.as_bytes(), &mut |event| {
            said.hear(&event)
        });
    }
    decoder.end(&mut |event| said.hear(&event));
    assert!(said.ended.is_some(), "no end");
    said
}

fn golden_streams() -> Vec<(String, Vec<(String, String)>)> {
    let texts = files(&golden(), ".sse");
    texts
        .into_iter()
        .map(|(name, path)| (name, frames(&std::fs::read_to_string(path).unwrap())))
        .collect()
}

#[test]
fn a_stream_cut_at_any_event_ends_as_cut() {
    for (name, frames) in golden_streams() {
        let whole = listen(&frames, &shape());
        let last = frames
            .iter()
            .position(|(_, data)| data.contains("\"message_stop\""));
        let Some(last) = last.filter(|_| whole.ended == Some(None)) else {
            continue;
        };
        for cut in 0..=last {
            let said = listen(&frames[..cut], &shape());
            assert_eq!(
                said.ended,
                Some(Some(FailureClass::Cut)),
                "{name} cut at {cut}"
            );
        }
        assert_eq!(
            listen(&frames[..=last], &shape()).ended,
            Some(None),
            "{name}"
        );
    }
}

#[test]
fn what_is_not_an_event_ends_the_stream_as_garbage() {
    for data in [
        "x",
        "{",
        "[]",
        "7",
        "{}",
        r#"{"type":"content_block_delta"}"#,
        "\"\\ud800\"",
    ] {
        let said = listen(&[(String::new(), data.into())], &shape());
        assert_eq!(said.ended, Some(Some(FailureClass::Garbage)), "{data}");
    }
    let mut said = Said::default();
    Decoder::new(&shape()).feed(b"", b"\xff\xfe", &mut |event| said.hear(&event));
    assert_eq!(said.ended, Some(Some(FailureClass::Garbage)));
}

#[test]
fn errors_in_a_stream_have_their_class() {
    for (kind, class) in [
        ("overloaded_error", FailureClass::Overloaded),
        ("rate_limit_error", FailureClass::RateLimited),
        ("invalid_request_error", FailureClass::InvalidRequest),
        ("api_error", FailureClass::Server),
        ("new_error", FailureClass::Server),
    ] {
        let data = json!({"type": "error", "error": {"type": kind, "message": "m"}}).to_string();
        let said = listen(&[("error".into(), data)], &shape());
        assert_eq!(said.ended, Some(Some(class)), "{kind}");
    }
}

mod tampered {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Edit {
        Drop(prop::sample::Index),
        Double(prop::sample::Index),
        Swap(prop::sample::Index, prop::sample::Index),
        /// Cuts the data of an event short.
        Cut(prop::sample::Index, prop::sample::Index),
        Byte(prop::sample::Index, prop::sample::Index, u8),
        /// Puts a fragment that means something in another place.
        Splice(prop::sample::Index, &'static str, &'static str),
    }

    fn edit() -> impl Strategy<Value = Edit> {
        use any as a;
        type I = prop::sample::Index;
        prop_oneof![
            a::<I>().prop_map(Edit::Drop),
            a::<I>().prop_map(Edit::Double),
            (a::<I>(), a::<I>()).prop_map(|(from, to)| Edit::Swap(from, to)),
            (a::<I>(), a::<I>()).prop_map(|(at, length)| Edit::Cut(at, length)),
            (a::<I>(), a::<I>(), 0x20u8..0x7f)
                .prop_map(|(at, place, byte)| Edit::Byte(at, place, byte)),
            (
                a::<I>(),
                prop::sample::select(vec![
                    ("\"index\":0", "\"index\":1"),
                    ("\"index\":1", "\"index\":0"),
                    ("text_delta", "input_json_delta"),
                    ("text_delta", "new_delta"),
                    ("tool_use", "server_tool_use"),
                    ("content_block_start", "content_block_stop"),
                    ("content_block_stop", "ping"),
                    ("message_stop", "message_start"),
                    ("message_delta", "error"),
                    ("\"name\":", "\"naam\":"),
                ])
            )
                .prop_map(|(at, (from, to))| Edit::Splice(at, from, to)),
        ]
    }

    fn apply(frames: &mut Vec<(String, Vec<u8>)>, edit: &Edit) {
        if frames.is_empty() {
            return;
        }
        let count = frames.len();
        match edit {
            Edit::Drop(at) => drop(frames.remove(at.index(count))),
            Edit::Double(at) => frames.insert(at.index(count), frames[at.index(count)].clone()),
            Edit::Swap(from, to) => frames.swap(from.index(count), to.index(count)),
            Edit::Cut(at, length) => {
                let data = &mut frames[at.index(count)].1;
                data.truncate(length.index(data.len() + 1));
            }
            Edit::Byte(at, place, byte) => {
                let data = &mut frames[at.index(count)].1;
                if !data.is_empty() {
                    let place = place.index(data.len());
                    data[place] = *byte;
                }
            }
            Edit::Splice(at, from, to) => {
                let data = &mut frames[at.index(count)].1;
                *data = String::from_utf8_lossy(data).replace(from, to).into_bytes();
            }
        }
    }

    /// Bodies that look like requests, to be tampered with.
    fn golden_requests() -> Vec<Vec<u8>> {
        files(&golden(), ".json")
            .into_iter()
            .map(|(_, path)| std::fs::read(path).unwrap())
            .collect()
    }

    fn tampered(mut body: Vec<u8>, cuts: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
        for (at, kind, byte) in cuts {
            if body.is_empty() {
                break;
            }
            let at = at.index(body.len());
            match kind % 5 {
                0 => body[at] = *byte,
                1 => drop(body.remove(at)),
                2 => body.truncate(at),
                3 => {
                    // Another type where one was expected.
                    let words: [&[u8]; 6] = [b"null", b"7", b"{}", b"[]", b"\"x\"", b"true"];
                    let end = body[at..]
                        .iter()
                        .position(|byte| matches!(byte, b',' | b'}' | b']'));
                    let end = at + end.unwrap_or(0);
                    body.splice(at..end, words[usize::from(*byte) % 6].iter().copied());
                }
                _ => {
                    let piece = body[at..(at + 40).min(body.len())].to_vec();
                    body.splice(at..at, piece);
                }
            }
        }
        body
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_decoded_is_json_and_what_is_encoded_too(
            which in any::<prop::sample::Index>(),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 0..4),
            schema_tool: bool,
        ) {
            let bodies = golden_requests();
            let body = tampered(bodies[which.index(bodies.len())].clone(), &cuts);
            if let Ok(mut hub) = request::decode(&body) {
                prop_assert!(serde_json::from_slice::<Value>(&body).is_ok(), "serde_json refuses it");
                for family in Protocol::ALL {
                    hub.family = family;
                    for facts in [able(), Facts::default()] {
                        if let Ok(said) = request::encode(&hub, "m", &facts) {
                            let said: Value = serde_json::from_slice(&said.body).unwrap();
                            prop_assert!(said["max_tokens"].is_u64());
                        }
                    }
                }
            }
            let shape = Shape { schema_tool, ..shape() };
            if let Ok(hub) = response::decode(&body, &shape) {
                prop_assert!(serde_json::from_slice::<Value>(&body).is_ok(), "serde_json refuses it");
                serde_json::from_slice::<Value>(&response::encode(&hub, &shape)).unwrap();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn streams_keep_the_promises(
            which in any::<prop::sample::Index>(),
            edits in prop::collection::vec(edit(), 1..6),
            schema_tool: bool,
        ) {
            let streams = golden_streams();
            let (_, frames) = &streams[which.index(streams.len())];
            let mut frames: Vec<(String, Vec<u8>)> =
                frames.iter().map(|(name, data)| (name.clone(), data.clone().into_bytes())).collect();
            for edit in &edits {
                apply(&mut frames, edit);
            }
            let shape = Shape { schema_tool, ..shape() };
            let mut said = Said::default();
            let (mut decoder, mut encoder) = (Decoder::new(&shape), Encoder::new(&shape));
            let mut out = Vec::new();
            let mut each = |event: Event<'_>| {
                said.hear(&event);
                encoder.write(&event, &mut out);
            };
            for (name, data) in &frames {
                decoder.feed(name.as_bytes(), data, &mut each);
            }
            decoder.end(&mut each);
            prop_assert!(said.ended.is_some(), "no end");
            // Strict about order and JSON.
            sum(&super::frames(std::str::from_utf8(&out).unwrap()));
        }
    }
}
