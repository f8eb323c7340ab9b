//! Real traffic, through the hub and into each dialect.

use serde_json::{Value, json};
use strait::protocol::openai_responses::{request, response};
use strait::protocol::tap::{Tap, whole};
use strait::protocol::usage::Usage;
use strait::protocol::{
    Protocol, StreamDecoder, decode_request, decode_response, encode_request, encode_response,
};

use super::sdk::Lines;
use super::{OWN, able, collected, frames, gist, recode, recordings, shape, shape_of};

const SURFACES: [&str; 2] = ["openai-responses", "azure-responses"];
const DIALECTS: [Protocol; 3] = [OWN, Protocol::OpenaiChat, Protocol::Anthropic];

fn all() -> Vec<(String, Value, Option<String>)> {
    SURFACES.iter().flat_map(|one| recordings(one)).collect()
}

fn is_answer(body: &Value) -> bool {
    body["object"] == "response" && body["output"].is_array() && body["error"].is_null()
}

/// Returns what the provider counted, as its own object says.
fn counted(usage: &Value) -> (u64, u64, u64, u64) {
    let count = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    (
        count("/input_tokens"),
        count("/output_tokens"),
        count("/input_tokens_details/cached_tokens"),
        count("/output_tokens_details/reasoning_tokens"),
    )
}

fn of(usage: &Usage) -> (u64, u64, u64, u64) {
    (usage.input, usage.output, usage.cache_read, usage.reasoning)
}

#[test]
fn whole_answers_are_what_every_client_takes() {
    let mut lines = Lines::default();
    let mut seen = 0;
    for (name, record, _) in all() {
        let body = &record["response"]["body"];
        if !is_answer(body) {
            continue;
        }
        seen += 1;
        let text = body.to_string();
        let shape = shape_of(&record["request"]["body"]);
        let hub = response::decode(text.as_bytes(), &shape)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let usage = hub.usage.clone().unwrap_or_default();
        assert_eq!(of(&usage), counted(&body["usage"]), "{name}");
        let mut before = gist(&hub);
        for to in DIALECTS {
            let written = encode_response(to, &hub, &shape);
            lines.whole(&name, to, &written);
            let back = decode_response(to, &written, &shape)
                .unwrap_or_else(|error| panic!("{name}: {}: {error}", to.name()));
            let mut after = gist(&back);
            if to != OWN {
                // Arguments are written anew, and not everyone counts reasoning.
                for one in [&mut before, &mut after] {
                    for (_, arguments) in &mut one.calls {
                        let value: Value = serde_json::from_str(arguments).unwrap();
                        *arguments = value.to_string();
                    }
                }
            }
            assert_eq!(after, before, "{name}: {}", to.name());
        }
    }
    assert!(seen == 0 || seen > 40, "only {seen} answers were found");
    lines.hold("whole");
}

#[test]
fn whole_answers_keep_their_items() {
    for (name, record, _) in all() {
        let body = &record["response"]["body"];
        if !is_answer(body) {
            continue;
        }
        let text = body.to_string();
        let hub = response::decode(text.as_bytes(), &shape()).unwrap();
        let found: Value = serde_json::from_slice(&response::encode(
            &hub,
            &shape_of(&record["request"]["body"]),
        ))
        .unwrap();
        assert_eq!(found["id"], body["id"], "{name}");
        assert_eq!(found["status"], body["status"], "{name}");
        assert_eq!(plain(&found), plain(body), "{name}");
    }
}

/// Returns the items of an answer without what the hub has no word for.
fn plain(body: &Value) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    for item in body["output"].as_array().unwrap() {
        let mut item = item.clone();
        let map = item.as_object_mut().unwrap();
        let kind = map["type"].as_str().unwrap().to_owned();
        match kind.as_str() {
            "message" | "function_call" => {
                for key in ["id", "phase", "namespace"] {
                    map.remove(key);
                }
            }
            "reasoning" => {
                map.remove("content");
                map.remove("status");
                let summary = map["summary"].as_array().unwrap();
                let all: Vec<_> = summary
                    .iter()
                    .map(|one| one["text"].as_str().unwrap())
                    .collect();
                let all = all.join("\n\n");
                if all.is_empty() && !map.contains_key("encrypted_content") {
                    // It said nothing, to nobody.
                    continue;
                }
                if map.get("encrypted_content").is_none() {
                    map.remove("id");
                }
                map.insert("summary".into(), json!(all));
            }
            _ => {}
        }
        for part in map
            .get_mut("content")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let part = part.as_object_mut().unwrap();
            part.remove("logprobs");
        }
        items.push(item);
    }
    items
}

#[test]
fn streams_are_what_every_client_takes() {
    let mut lines = Lines::default();
    let mut seen = 0;
    for (name, record, stream) in all() {
        let Some(stream) = stream else { continue };
        seen += 1;
        let shape = shape_of(&record["request"]["body"]);
        let mut sum = collected(OWN, &stream);
        let sum = sum.finish().unwrap_or_else(|| panic!("{name}: no end"));
        let last = last_response(&stream);
        // What came in pieces is what the end repeats.
        let text = last.to_string();
        let end = response::decode(text.as_bytes(), &shape).unwrap();
        assert_eq!(gist(&sum), gist(&end), "{name}");
        assert_eq!(sum.finish, end.finish, "{name}");
        assert_eq!(
            of(&sum.usage.clone().unwrap()),
            counted(&last["usage"]),
            "{name}"
        );
        let before = gist(&sum);
        for to in DIALECTS {
            let written = recode(OWN, to, &stream, &shape);
            lines.stream(&name, to, &written);
            let mut after = collected(to, &written);
            let after = after
                .finish()
                .unwrap_or_else(|| panic!("{name}: no end: {written}"));
            assert_eq!(gist(&after), before, "{name}: {}: {written}", to.name());
            if to == OWN {
                let again = last_response(&written);
                // Each event encrypts reasoning anew.
                let bare = |whole: &Value| {
                    let mut items = plain(whole);
                    for item in &mut items {
                        let item = item.as_object_mut().unwrap();
                        if item.remove("encrypted_content").is_some() {
                            item.remove("id");
                        }
                    }
                    items
                };
                assert_eq!(bare(&again), bare(&last), "{name}");
            }
        }
    }
    assert!(seen == 0 || seen > 50, "only {seen} streams were found");
    lines.hold("streams");
}

/// Returns the response that the last event holds.
fn last_response(stream: &str) -> Value {
    let frames = frames(stream);
    let data = frames
        .iter()
        .rev()
        .map(|(_, data)| data)
        .find(|data| data.contains("\"response\""))
        .unwrap();
    serde_json::from_str::<Value>(data).unwrap()["response"].clone()
}

#[test]
fn the_tap_sees_what_the_decoder_sees() {
    for (name, record, stream) in all() {
        match stream {
            Some(stream) => {
                let mut tap = Tap::new(OWN, false, 16 << 20);
                let mut out = Vec::new();
                for piece in stream.as_bytes().chunks(613) {
                    tap.feed(bytes::Bytes::copy_from_slice(piece), &mut out);
                }
                tap.finish(&mut out);
                assert!(tap.finished && tap.semantic, "{name}");
                assert!(tap.failure.is_none(), "{name}: {:?}", tap.failure);
                let mut sum = collected(OWN, &stream);
                let sum = sum.finish().unwrap();
                assert_eq!(tap.finish, Some(sum.finish), "{name}");
                assert_eq!(tap.usage, sum.usage, "{name}");
                assert_eq!(tap.model.as_deref(), Some(&*sum.model), "{name}");
                let said: usize = out.iter().map(bytes::Bytes::len).sum();
                assert_eq!(said, stream.len(), "{name}");
            }
            None => {
                let text = record["response"]["body"].to_string();
                let found = whole(OWN, text.as_bytes());
                match response::decode(text.as_bytes(), &shape()) {
                    Ok(hub) if is_answer(&record["response"]["body"]) => {
                        assert!(found.is_answer && !found.is_error, "{name}");
                        assert_eq!(found.usage, hub.usage, "{name}");
                        assert_eq!(found.finish, Some(hub.finish), "{name}");
                    }
                    Ok(_) => assert!(!found.is_answer, "{name}"),
                    Err(_) => assert!(found.is_error, "{name}"),
                }
            }
        }
    }
}

#[test]
fn requests_can_be_said_to_everyone_or_are_refused_by_name() {
    let (mut said, mut refused) = (0, Vec::new());
    for (name, record, _) in all() {
        let body = &record["request"]["body"];
        if body["model"].is_null() {
            continue;
        }
        let text = body.to_string();
        let hub =
            decode_request(OWN, text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        for to in Protocol::ALL {
            match encode_request(to, &hub, "target", &able()) {
                Ok(translated) => {
                    said += 1;
                    assert!(
                        serde_json::from_slice::<Value>(&translated.body).is_ok(),
                        "{name}: {}",
                        to.name()
                    );
                }
                Err(error) => {
                    assert!(error.kind.status() == 400, "{name}: {}: {error}", to.name());
                    refused.push(format!("{name}: {}: {error} {:?}", to.name(), error.param));
                }
            }
        }
    }
    eprintln!(
        "{said} said, {} refused:\n{}",
        refused.len(),
        refused.join("\n")
    );
}

#[test]
fn requests_say_the_same_after_the_hub() {
    for (name, record, _) in all() {
        let mut body = record["request"]["body"].clone();
        if body["model"].is_null() || body["tools"].to_string().contains("additional_tools") {
            continue;
        }
        let text = body.to_string();
        let hub = request::decode(text.as_bytes()).unwrap();
        let model = hub.model.to_string();
        let said = request::encode(&hub, &model, &able()).unwrap();
        let found: Value = serde_json::from_slice(&said.body).unwrap();
        let mut again = found.clone();
        tidy(&mut again);
        tidy(&mut body);
        for (key, value) in body.as_object().unwrap() {
            assert_eq!(again[key], *value, "{name}: {key}: {:?}", said.dropped);
        }
        assert_eq!(again, body, "{name}: {:?}", said.dropped);
    }
}

/// Returns what a content says that is one text.
fn only_text(content: &Value) -> Option<Value> {
    match content {
        Value::String(_) => Some(content.clone()),
        Value::Array(parts) if parts.len() == 1 => parts[0].get("text").cloned(),
        _ => None,
    }
}

/// Spells one request in one way, whatever the client's taste.
fn tidy(body: &mut Value) {
    let map = body.as_object_mut().unwrap();
    map.retain(|_, value| !value.is_null());
    if let Some(value) = map.get_mut("temperature") {
        *value = json!(value.as_f64());
    }
    if map.get("stream") == Some(&json!(false)) {
        map.remove("stream");
    }
    if map.get("tools") == Some(&json!([])) {
        map.remove("tools");
    }
    for tool in map
        .get_mut("tools")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if tool["type"] == "function" {
            let tool = tool.as_object_mut().unwrap();
            tool.retain(|key, value| key != "defer_loading" && !value.is_null());
        }
    }
    let mut input = match map.remove("input").unwrap_or(json!([])) {
        Value::String(text) => vec![json!({"role": "user", "content": text})],
        Value::Array(items) => items,
        _ => panic!("no input"),
    };
    if let Some(first) = input.first()
        && (first["role"] == "system" || first["role"] == "developer")
        && !map.contains_key("instructions")
        && let Some(text) = only_text(&first["content"])
    {
        map.insert("instructions".into(), text);
        input.remove(0);
    }
    for item in &mut input {
        let item = item.as_object_mut().unwrap();
        let kind = item
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or("message")
            .to_owned();
        item.insert("type".into(), kind.clone().into());
        if matches!(
            kind.as_str(),
            "message" | "function_call" | "function_call_output"
        ) {
            for key in ["id", "status", "phase", "namespace"] {
                item.remove(key);
            }
        }
        if kind == "reasoning" {
            let summary = item["summary"].as_array().unwrap();
            let words: Vec<_> = summary
                .iter()
                .map(|one| one["text"].as_str().unwrap())
                .collect();
            let words = words.join("\n\n");
            item.insert("summary".into(), words.into());
            item.retain(|key, value| !value.is_null() && !matches!(&**key, "content" | "status"));
        }
        if kind == "function_call"
            && let Some(Value::String(arguments)) = item.get("arguments")
        {
            let said = if arguments.is_empty() {
                "{}"
            } else {
                arguments
            };
            let said = said.to_owned();
            item.insert("arguments".into(), said.into());
        }
        if kind == "message"
            && let Some(content) = item.get("content").cloned()
        {
            let parts = match content {
                Value::String(text) => vec![json!({"text": text})],
                Value::Array(parts) => parts,
                _ => panic!("no content"),
            };
            let parts: Vec<Value> = parts
                .into_iter()
                .map(|mut part| {
                    let map = part.as_object_mut().unwrap();
                    map.remove("annotations");
                    map.remove("logprobs");
                    if map.contains_key("text") {
                        map.remove("type");
                    }
                    part
                })
                .collect();
            item.insert("content".into(), json!(parts));
        }
    }
    map.insert("input".into(), json!(input));
}

#[test]
fn what_a_stream_says_does_not_hang_on_its_events_names() {
    for (name, _, stream) in all() {
        let Some(stream) = stream else { continue };
        let mut decoder = StreamDecoder::new(OWN, &shape());
        let mut sum = strait::protocol::collect::Collector::new(OWN);
        for (_, data) in frames(&stream) {
            decoder.feed(b"", data.as_bytes(), &mut |event| sum.push(&event));
        }
        let mut with_names = collected(OWN, &stream);
        let (a, b) = (sum.finish(), with_names.finish());
        assert_eq!(gist(&a.unwrap()), gist(&b.unwrap()), "{name}");
    }
}
