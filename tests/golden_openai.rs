//! OpenAI chat to the hub and back: golden files, real traffic, and streams that were tampered with.
//!
//! `UPDATE_GOLDEN=1` rewrites the expected files. What was dropped stands beside the body in them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use strait::error::Kind;
use strait::protocol::chat::{Effort, Reasoning};
use strait::protocol::collect::{Collector, replay};
use strait::protocol::event::{Block, Delta, Event, FailureClass};
use strait::protocol::openai_chat::stream::{Decoder, Encoder};
use strait::protocol::openai_chat::{request, response};
use strait::protocol::{Facts, Protocol, SCHEMA_TOOL, Shape, anthropic};

const FOLDERS: [&str; 13] = [
    "openai-chat",
    "groq-chat",
    "mistral-chat",
    "deepseek-chat",
    "xai-chat",
    "azure-chat",
    "openrouter-chat",
    "together-chat",
    "cerebras-chat",
    "perplexity-chat",
    "zai-chat",
    "huggingface-chat",
    "ollama-v1-chat-completions",
];

fn golden() -> PathBuf {
    let root = std::env::var("STRAIT_TESTS")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/tests").into());
    Path::new(&root).join("golden/openai-chat")
}

/// Returns the recordings of every compatible provider whose name ends so; says so when there are none.
fn recordings(ending: &str) -> Vec<(String, PathBuf)> {
    let shared = std::env::var("STRAIT_SHARED")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let root = Path::new(&shared).join("recordings");
    if !root.is_dir() {
        eprintln!("not run: {} is absent", root.display());
        return Vec::new();
    }
    let found: Vec<_> = FOLDERS
        .iter()
        .filter(|folder| root.join(folder).is_dir())
        .flat_map(|folder| files(&root.join(folder), ending))
        .collect();
    assert!(found.len() > 50, "only {} recordings", found.len());
    found
}

fn files(folder: &Path, ending: &str) -> Vec<(String, PathBuf)> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), path))
        .filter(|(name, _)| name.ends_with(ending) && !name.contains(".hub-"))
        .collect();
    found.sort();
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
        developer_role: true,
        max_completion_tokens: true,
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

fn schema_shape() -> Shape {
    Shape {
        schema_tool: true,
        ..shape()
    }
}

fn recode_request(body: &Value) -> (Value, Vec<String>) {
    let body = body.to_string();
    let hub = request::decode(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"));
    let said = request::encode(&hub, &hub.model, &able()).unwrap();
    let body = serde_json::from_slice(&said.body)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&said.body)));
    (body, said.dropped)
}

/// Encodes a request of an Anthropic client for a compatible provider.
fn from_anthropic(
    body: &Value,
    facts: &Facts,
) -> Result<(Value, Vec<String>), strait::error::Error> {
    let body = body.to_string();
    let hub = anthropic::request::decode(body.as_bytes()).unwrap();
    let said = request::encode(&hub, "gpt-5", facts)?;
    let body = serde_json::from_slice(&said.body)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&said.body)));
    Ok((body, said.dropped))
}

#[test]
fn requests_come_back_as_the_golden_files_say() {
    for (name, path) in files(&golden(), ".json") {
        if name.contains("/response-") {
            continue;
        }
        let body: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let (body, dropped) = recode_request(&body);
        let found = json!({"body": body, "dropped": dropped});
        check_json(&path.with_extension("hub-openai-chat.json"), &found);
    }
}

#[test]
fn answers_come_back_as_the_golden_files_say() {
    for (name, path) in files(&golden(), ".json") {
        if !name.contains("/response-") {
            continue;
        }
        let body = std::fs::read(&path).unwrap();
        let hub = response::decode(&body, &shape()).unwrap();
        let found: Value = serde_json::from_slice(&response::encode(&hub, &shape())).unwrap();
        check_json(&path.with_extension("hub-openai-chat.json"), &found);
    }
}

#[test]
fn streams_come_back_as_the_golden_files_say() {
    for (name, path) in files(&golden(), ".sse") {
        let text = std::fs::read_to_string(&path).unwrap();
        let shape = if name.contains("/structured") {
            schema_shape()
        } else {
            shape()
        };
        let found = String::from_utf8(recode(&frames(&text), &shape)).unwrap();
        check(&path.with_extension("hub-openai-chat.sse"), &found);
    }
}

#[test]
fn recorded_requests_say_the_same_after_the_hub() {
    for (name, path) in recordings(".json") {
        let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let mut original = record["request"]["body"].clone();
        if !original["messages"].is_array() {
            continue;
        }
        let text = original.to_string();
        let hub =
            request::decode(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (again, dropped) = recode_request(&original);
        let back = again.to_string();
        let hub_again = request::decode(back.as_bytes()).unwrap();
        // Adaptive is what happens without a word, or with the effort alone.
        let plain = |reasoning| match reasoning {
            Some(Reasoning::Adaptive(effort)) => effort.map(Reasoning::Effort),
            other => other,
        };
        assert_eq!(plain(hub_again.reasoning), plain(hub.reasoning), "{name}");
        for path in &dropped {
            remove(&mut original, path);
        }
        assert_eq!(plain_request(again), plain_request(original), "{name}");
    }
}

/// Removes what a path like `messages[0].prefix` names.
fn remove(value: &mut Value, path: &str) {
    let path = path.replace('[', ".").replace(']', "");
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", &path));
    let pointer = parent
        .split('.')
        .filter(|step| !step.is_empty())
        .fold(String::new(), |all, step| all + "/" + step);
    let parent = value
        .pointer_mut(&pointer)
        .unwrap_or_else(|| panic!("{path} is not there"));
    assert!(
        parent.as_object_mut().unwrap().remove(key).is_some(),
        "{path} is not there"
    );
}

/// Spells one request in one way, whatever the client's taste.
fn plain_request(mut body: Value) -> Value {
    tidy(&mut body);
    let map = body.as_object_mut().unwrap();
    // How much to think is compared in the hub's words.
    for key in [
        "reasoning",
        "reasoning_effort",
        "thinking",
        "stream_options",
    ] {
        map.remove(key);
    }
    map.retain(|_, value| *value != json!([]));
    if map.get("stream") == Some(&json!(false)) {
        map.remove("stream");
    }
    if let Some(most) = map.remove("max_tokens") {
        map.insert("max_completion_tokens".into(), most);
    }
    if map.get("stop").is_some_and(Value::is_string) {
        map["stop"] = json!([map["stop"]]);
    }
    if map.get("tool_choice") == Some(&json!("any")) {
        map["tool_choice"] = json!("required");
    }
    if let Some(functions) = map.remove("functions") {
        let tools: Vec<_> = functions
            .as_array()
            .unwrap()
            .iter()
            .map(|one| json!({"function": one}))
            .collect();
        map.insert("tools".into(), json!(tools));
    }
    if let Some(Value::Object(choice)) = map.get_mut("tool_choice") {
        choice.insert("type".into(), "function".into());
    }
    for tool in map
        .get_mut("tools")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if tool["function"].is_object() {
            tool["type"] = "function".into();
        }
    }
    for message in body["messages"].as_array_mut().unwrap() {
        plain_message(message.as_object_mut().unwrap());
    }
    body
}

fn plain_message(message: &mut serde_json::Map<String, Value>) {
    if message["role"] == "tool" {
        message.remove("name");
    }
    if let Some(text) = message
        .get("content")
        .and_then(Value::as_str)
        .map(str::to_owned)
    {
        message["content"] = json!([{"type": "text", "text": text}]);
    }
    for part in message
        .get_mut("content")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        // Mistral takes the bare address.
        if part["image_url"].is_string() {
            part["image_url"] = json!({"url": part["image_url"]});
        }
    }
    if let Some(cache) = message.remove("cache_control") {
        let last = message["content"]
            .as_array_mut()
            .unwrap()
            .last_mut()
            .unwrap();
        last["cache_control"] = cache;
    }
    let empty = json!([{"type": "text", "text": ""}]);
    if message.contains_key("tool_calls") && message.get("content") == Some(&empty) {
        message.remove("content");
    }
    if let Some(text) = message.remove("reasoning") {
        message.insert("reasoning_content".into(), text);
    }
    if let Some(details) = message
        .get_mut("reasoning_details")
        .and_then(Value::as_array_mut)
    {
        let said: String = details
            .iter()
            .filter_map(|one| one["text"].as_str())
            .collect();
        // Thinking that nobody signed is said once, as plain text.
        details.retain(|one| one["type"] != "reasoning.text" || one["signature"].is_string());
        if !said.is_empty() {
            message.insert("reasoning_content".into(), said.into());
        }
    }
    for call in message
        .get_mut("tool_calls")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        call.as_object_mut().unwrap().remove("index");
        call["type"] = "function".into();
    }
    if message.get("reasoning_content") == Some(&json!("")) {
        message.remove("reasoning_content");
    }
    message.retain(|_, value| *value != json!([]));
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => *value = json!(number.as_f64()),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
fn recorded_answers_say_the_same_after_the_hub() {
    let mut seen = 0;
    for (name, path) in recordings(".json") {
        let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let answer = &record["response"]["body"];
        if !answer["choices"].is_array() {
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
        assert_eq!(
            found["choices"].as_array().unwrap().len(),
            answer["choices"].as_array().unwrap().len()
        );

        let mut collector = Collector::new(Protocol::OpenaiChat);
        replay(&hub, &mut |event| collector.push(&event));
        let mut summed = collector.finish().unwrap();
        summed.more = hub.more.iter().map(|_| (Vec::new(), hub.finish)).collect();
        let summed: Value = serde_json::from_slice(&response::encode(&summed, &shape())).unwrap();
        let (mut one, mut other) = (summed["choices"][0].clone(), found["choices"][0].clone());
        tidy(&mut one);
        tidy(&mut other);
        assert_eq!(one, other, "{name}: a replay says the same");
    }
    assert!(seen == 0 || seen > 100, "only {seen} answers were found");
}

/// Returns text, thinking, refusal and calls of a message, as plainly as can be.
fn gist(message: &Value) -> Value {
    let inner = |part: &Value| -> String {
        let pieces = part.as_array().into_iter().flatten();
        let words = pieces.filter_map(|one| one["text"].as_str()).collect();
        part.as_str().map_or(words, str::to_owned)
    };
    let text = |value: &Value, wanted: &str| -> String {
        let parts = value.as_array().into_iter().flatten();
        let words = parts.map(|part| inner(&part[wanted])).collect();
        let plain = value.as_str().filter(|_| wanted == "text");
        plain.map_or(words, str::to_owned)
    };
    let details: String = message["reasoning_details"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["text"].as_str())
        .collect();
    let plain = message["reasoning_content"]
        .as_str()
        .or(message["reasoning"].as_str())
        .unwrap_or("");
    let thinking = if details.is_empty() {
        plain.to_owned()
    } else {
        details
    };
    let thinking = thinking + &text(&message["content"], "thinking");
    let mut calls: Vec<Value> = message["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|call| {
            // One that came without an id is given one.
            let id = call["id"]
                .as_str()
                .filter(|id| !id.contains("chatcmpl"))
                .unwrap_or("");
            json!([id, call["function"]["name"], call["function"]["arguments"]])
        })
        .collect();
    if message["function_call"].is_object() {
        let call = &message["function_call"];
        calls.push(json!(["", call["name"], call["arguments"]]));
    }
    json!({
        "text": text(&message["content"], "text"),
        "thinking": thinking,
        "refusal": message["refusal"].as_str().unwrap_or(""),
        "calls": calls,
    })
}

fn same_answer(name: &str, expected: &Value, found: &Value) {
    for (expected, found) in expected["choices"]
        .as_array()
        .unwrap()
        .iter()
        .zip(found["choices"].as_array().unwrap())
    {
        assert_eq!(
            gist(&found["message"]),
            gist(&expected["message"]),
            "{name}"
        );
        let called = !gist(&expected["message"])["calls"]
            .as_array()
            .unwrap()
            .is_empty();
        let reason = match expected["finish_reason"].as_str().unwrap_or("stop") {
            "length" => "length",
            _ if called => "tool_calls",
            "function_call" | "tool_calls" => "stop",
            other => other,
        };
        assert_eq!(found["finish_reason"], reason, "{name}");
        if !expected["logprobs"].is_null() {
            assert_eq!(
                found["logprobs"]["content"], expected["logprobs"]["content"],
                "{name}"
            );
        }
    }
    let tokens = |of: &Value| of["usage"]["prompt_tokens"].as_u64();
    assert_eq!(tokens(found), tokens(expected), "{name}");
    let (out, given) = (
        &found["usage"]["completion_tokens"],
        &expected["usage"]["completion_tokens"],
    );
    // xAI's reasoning stands outside of its completion and is added.
    assert!(out.as_u64() >= given.as_u64(), "{name}: {out} and {given}");
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

/// Builds the answer up as the SDKs do. `None` if it failed.
fn sum(frames: &[(String, String)]) -> Option<Value> {
    let mut message = json!({"content": "", "reasoning_content": "", "refusal": "", "tool_calls": [], "reasoning_details": []});
    let (mut finish, mut usage, mut logprobs) = (Value::Null, Value::Null, Vec::new());
    let mut any = false;
    for (_, data) in frames {
        if data == "[DONE]" {
            break;
        }
        let chunk: Value =
            serde_json::from_str(data).unwrap_or_else(|_| panic!("not JSON: {data}"));
        if chunk["error"].is_object() {
            return None;
        }
        for candidate in [&chunk["x_groq"]["usage"], &chunk["usage"]] {
            if candidate.is_object() {
                usage = candidate.clone();
            }
        }
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            if choice["index"].as_u64().unwrap_or(0) != 0 {
                continue;
            }
            any = true;
            if choice["finish_reason"].is_string() {
                finish = choice["finish_reason"].clone();
            }
            logprobs.extend(
                choice["logprobs"]["content"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
            add(&mut message, &choice["delta"]);
        }
    }
    assert!(any, "an answer without a choice");
    let logprobs = if logprobs.is_empty() {
        Value::Null
    } else {
        json!({"content": logprobs})
    };
    Some(
        json!({"usage": usage, "choices": [{"message": message, "finish_reason": finish, "logprobs": logprobs}]}),
    )
}

fn add(message: &mut Value, delta: &Value) {
    let thought = if delta["reasoning"].is_string() {
        "reasoning"
    } else {
        "reasoning_content"
    };
    for (from, to) in [
        ("content", "content"),
        (thought, "reasoning_content"),
        ("refusal", "refusal"),
    ] {
        if let Some(more) = delta[from].as_str() {
            message[to] = (message[to].as_str().unwrap().to_owned() + more).into();
        }
    }
    for call in delta["tool_calls"].as_array().into_iter().flatten() {
        let calls = message["tool_calls"].as_array_mut().unwrap();
        let index = call["index"]
            .as_u64()
            .map_or(calls.len(), |index| index as usize);
        if index == calls.len() {
            assert!(
                call["id"].is_string() && call["function"]["name"].is_string(),
                "a call begins with its id"
            );
            calls.push(call.clone());
            continue;
        }
        let known = &mut calls[index]["function"]["arguments"];
        *known = (known.as_str().unwrap().to_owned()
            + call["function"]["arguments"].as_str().unwrap_or(""))
        .into();
    }
}

#[test]
fn recorded_streams_say_the_same_after_the_hub_as_their_sum_does() {
    let mut seen = 0;
    for (name, path) in recordings(".sse") {
        let original = frames(&std::fs::read_to_string(&path).unwrap());
        let again = frames(std::str::from_utf8(&recode(&original, &shape())).unwrap());
        let found = sum(&again);
        let Some(expected) = sum(&original) else {
            assert!(found.is_none(), "{name}: an error stays one");
            assert!(again.iter().all(|(_, data)| data != "[DONE]"), "{name}");
            continue;
        };
        seen += 1;
        let found = found.unwrap_or_else(|| panic!("{name}: became an error"));
        assert_eq!(again.last().unwrap().1, "[DONE]", "{name}");
        // What cites, signs or is encrypted is not text.
        same_answer(&name, &expected, &found);

        let mut collector = Collector::new(Protocol::OpenaiChat);
        let mut decoder = Decoder::new(&shape());
        for (event, data) in &original {
            decoder.feed(event.as_bytes(), data.as_bytes(), &mut |event| {
                collector.push(&event)
            });
        }
        decoder.end(&mut |event| collector.push(&event));
        let summed = response::encode(&collector.finish().unwrap(), &shape());
        same_answer(&name, &expected, &serde_json::from_slice(&summed).unwrap());
    }
    assert!(seen == 0 || seen > 100, "only {seen} streams were found");
}

/// What a decoder said, in short.
#[derive(Debug, Default)]
struct Said {
    started: usize,
    open: Option<u32>,
    next: u32,
    ended: Option<Option<FailureClass>>,
}

impl Said {
    /// Holds an event against the promises.
    fn hear(&mut self, event: &Event<'_>) {
        assert!(self.ended.is_none(), "{event:?} comes after the end");
        assert_eq!(
            self.started == 0,
            matches!(event, Event::Start { .. }),
            "one start, first: {event:?}"
        );
        match event {
            Event::Start { .. } => self.started += 1,
            Event::Open { index, .. } => {
                assert_eq!(self.open, None, "two blocks are open");
                assert_eq!(*index, self.next, "an index is left out");
                self.open = Some(*index);
                self.next += 1;
            }
            Event::Delta { index, .. } => assert_eq!(self.open, Some(*index), "{event:?}"),
            Event::Close { index } => assert_eq!(self.open.take(), Some(*index), "{event:?}"),
            Event::Usage(_) | Event::Ping => {}
            Event::Finish { .. } => self.end(None),
            Event::Error(failure) => self.end(Some(failure.class)),
        }
    }

    fn end(&mut self, failure: Option<FailureClass>) {
        assert_eq!(self.open, None, "a block is open at the end");
        self.ended = Some(failure);
    }
}

fn listen<'f>(frames: impl IntoIterator<Item = &'f (String, String)>, shape: &Shape) -> Said {
    let mut said = Said::default();
    let mut decoder = Decoder::new(shape);
    for (name, data) in frames {
        decoder.feed(name.as_bytes(), data.as_bytes(), &mut |event| {
            said.hear(&event)
        });
    }
    decoder.end(&mut |event| said.hear(&event));
    decoder.end(&mut |event| said.hear(&event));
    assert!(said.ended.is_some(), "the stream has no end");
    said
}

fn every_stream() -> Vec<(String, PathBuf)> {
    let mut all = files(&golden(), ".sse");
    all.extend(recordings(".sse"));
    all
}

#[test]
fn a_stream_cut_after_any_event_ends_with_an_error_unless_it_was_finished() {
    for (name, path) in every_stream() {
        let frames = frames(&std::fs::read_to_string(&path).unwrap());
        let finished = |data: &str| {
            let chunk: Value = serde_json::from_str(data).unwrap_or_default();
            chunk["choices"][0]["finish_reason"].is_string()
        };
        let failed = |data: &str| data.contains("\"error\"");
        for cut in 0..frames.len() {
            let said = listen(&frames[..cut], &shape());
            let whole = frames[..cut].iter().any(|(_, data)| finished(data));
            if whole {
                assert_eq!(said.ended, Some(None), "{name} cut after {cut}");
            } else if !frames[..cut]
                .iter()
                .any(|(_, data)| failed(data) || data == "[DONE]")
            {
                assert_eq!(
                    said.ended,
                    Some(Some(FailureClass::Cut)),
                    "{name} cut after {cut}"
                );
            }
        }
    }
}

#[test]
fn a_stream_with_one_event_broken_ends_with_an_error() {
    for (name, path) in every_stream() {
        let frames = frames(&std::fs::read_to_string(&path).unwrap());
        for at in (0..frames.len()).step_by(7) {
            let mut broken = frames.clone();
            if broken[at].1 == "[DONE]" || broken[..at].iter().any(|(event, _)| event == "error") {
                continue;
            }
            let data = &mut broken[at].1;
            let half = (data.len() / 2..)
                .find(|at| data.is_char_boundary(*at))
                .unwrap();
            data.truncate(half);
            let said = listen(&broken, &shape());
            let ended = said.ended.unwrap();
            assert!(ended.is_some(), "{name} broken at {at}: {ended:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes are changed, events are doubled, dropped and swapped: the promises hold.
    #[test]
    fn tampered_streams_keep_the_promises(
        pick in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
        schema_tool in any::<bool>(),
    ) {
        let all = every_stream();
        let (_, path) = &all[pick.index(all.len())];
        let mut frames = frames(&std::fs::read_to_string(path).unwrap());
        for (which, place, byte) in edits {
            if frames.is_empty() {
                break;
            }
            let at = which.index(frames.len());
            match byte % 5 {
                0 => drop(frames.remove(at)),
                1 => frames.insert(at, frames[at].clone()),
                2 => {
                    let other = place.index(frames.len());
                    frames.swap(at, other);
                }
                _ => {
                    let mut bytes = frames[at].1.clone().into_bytes();
                    if !bytes.is_empty() {
                        let place = place.index(bytes.len());
                        bytes[place] = byte;
                        frames[at].1 = String::from_utf8_lossy(&bytes).into_owned();
                    }
                }
            }
        }
        let shape = Shape { schema_tool, ..shape() };
        listen(&frames, &shape);
        for (_, data) in self::frames(std::str::from_utf8(&recode(&frames, &shape)).unwrap()) {
            prop_assert!(data == "[DONE]" || serde_json::from_str::<Value>(&data).is_ok(), "{}", data);
        }
    }

    /// Whatever bytes come as a request or an answer, they are read or refused.
    #[test]
    fn tampered_bodies_are_read_or_refused(
        pick in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let all = files(&golden(), ".json");
        let mut body = std::fs::read(&all[pick.index(all.len())].1).unwrap();
        for (place, byte) in edits {
            let place = place.index(body.len());
            body[place] = byte;
        }
        if let Ok(hub) = request::decode(&body)
            && let Ok(said) = request::encode(&hub, "m", &able())
        {
            prop_assert!(serde_json::from_slice::<Value>(&said.body).is_ok());
        }
        if let Ok(hub) = response::decode(&body, &shape()) {
            prop_assert!(serde_json::from_slice::<Value>(&response::encode(&hub, &shape())).is_ok());
        }
    }
}

#[test]
fn a_wrong_field_is_named_where_it_stands() {
    let cases = [
        (json!({"model": "m"}), "messages"),
        (json!({"model": "m", "messages": []}), "messages"),
        (json!({"model": "m", "messages": "x"}), "messages"),
        (json!({"model": 7}), "model"),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": 7}]}),
            "messages[0].content",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "a"}, {"content": "b"}]}),
            "messages[1].role",
        ),
        (
            json!({"model": "m", "messages": [{"role": "robot", "content": "b"}]}),
            "messages[0].role",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 1}}]}]}),
            "messages[0].content[0].image_url.url",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]}]}),
            "messages[0].content[1].type",
        ),
        (
            json!({"model": "m", "messages": [{"role": "tool", "content": "b"}]}),
            "messages[0].tool_call_id",
        ),
        (
            json!({"model": "m", "messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {}}]}]}),
            "messages[0].tool_calls[0].function.name",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": -1}),
            "max_tokens",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "stop": [1]}),
            "stop[0]",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}),
            "stream",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "tool_choice": "some"}),
            "tool_choice",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]}),
            "tools[0].function",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "reasoning_effort": "much"}),
            "reasoning_effort",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema"}}),
            "response_format.json_schema",
        ),
    ];
    for (body, param) in cases {
        let text = body.to_string();
        let error = request::decode(text.as_bytes()).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{text}");
        assert_eq!(error.kind, Kind::InvalidRequest, "{text}");
    }
}

/// What every request of an Anthropic client here begins with.
fn claude(messages: Value) -> Value {
    json!({"model": "claude", "max_tokens": 1000, "messages": messages})
}

#[test]
fn images_in_a_tool_result_follow_in_a_user_message() {
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}});
    let body = claude(json!([
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "a", "name": "shot", "input": {}},
            {"type": "tool_use", "id": "b", "name": "shot", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "Done."}, image]},
            {"type": "tool_result", "tool_use_id": "b", "is_error": true, "content": [image]},
            {"type": "text", "text": "And?"},
        ]},
    ]));
    let (found, dropped) = from_anthropic(&body, &able()).unwrap();
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}});
    assert_eq!(
        found["messages"].as_array().unwrap()[2..],
        [
            json!({"role": "tool", "tool_call_id": "a", "content": "Done."}),
            json!({"role": "tool", "tool_call_id": "b", "content": "The result is shown in the next user message."}),
            json!({"role": "user", "content": [
                {"type": "text", "text": "Shown in the result of the tool call a:"}, image,
                {"type": "text", "text": "Shown in the result of the tool call b:"}, image,
                {"type": "text", "text": "And?"},
            ]}),
        ]
    );
    assert_eq!(dropped, ["is_error"]);
}

#[test]
fn what_only_anthropic_can_do_is_refused_by_name() {
    let plain = json!([{"role": "user", "content": "x"}]);
    let with = |key: &str, value: Value| {
        let mut body = claude(plain.clone());
        body[key] = value;
        body
    };
    let document =
        json!({"type": "document", "source": {"type": "url", "url": "https://e.com/a.pdf"}});
    let file = json!({"type": "image", "source": {"type": "file", "file_id": "file_1"}});
    let cases = [
        (
            with(
                "tools",
                json!([{"type": "web_search_20250305", "name": "web_search"}]),
            ),
            "tools.0",
        ),
        (
            with("stop_sequences", json!(["a", "b", "c", "d", "e"])),
            "stop_sequences",
        ),
        (
            claude(json!([{"role": "user", "content": [document]}])),
            "messages.0.content.0",
        ),
        (
            claude(json!([{"role": "user", "content": [{"type": "text", "text": "x"}, file]}])),
            "messages.0.content.1",
        ),
        (
            claude(
                json!([{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]),
            ),
            "messages.0.content.0",
        ),
    ];
    for (body, param) in cases {
        let error = from_anthropic(&body, &able()).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{body}");
        assert_eq!(error.kind, Kind::Unsupported, "{body}");
    }
}

#[test]
fn a_thinking_budget_becomes_the_nearest_effort() {
    for (budget, effort) in [
        (1024, "low"),
        (4095, "low"),
        (4096, "medium"),
        (16_383, "medium"),
        (16_384, "high"),
    ] {
        let mut body = claude(json!([{"role": "user", "content": "x"}]));
        body["max_tokens"] = json!(32_000);
        body["thinking"] = json!({"type": "enabled", "budget_tokens": budget});
        let (found, dropped) = from_anthropic(&body, &able()).unwrap();
        assert_eq!(found["reasoning_effort"], effort, "{budget}");
        assert!(dropped.is_empty(), "{dropped:?}");
        let plain = Facts {
            reasoning: false,
            ..able()
        };
        let (found, dropped) = from_anthropic(&body, &plain).unwrap();
        assert!(found["reasoning_effort"].is_null());
        assert_eq!(dropped, ["thinking"]);
    }
}

#[test]
fn signed_thinking_is_dropped_and_plain_thinking_goes_back() {
    let turn = |signature: &str| {
        claude(json!([
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": signature},
                {"type": "text", "text": "y"},
            ]},
            {"role": "user", "content": "z"},
        ]))
    };
    let (found, dropped) = from_anthropic(&turn("c2ln"), &able()).unwrap();
    assert_eq!(
        found["messages"][1],
        json!({"role": "assistant", "content": "y"})
    );
    assert_eq!(dropped, ["thinking of earlier turns"]);
    let (found, dropped) = from_anthropic(&turn(""), &able()).unwrap();
    assert_eq!(
        found["messages"][1],
        json!({"role": "assistant", "content": "y", "reasoning_content": "Hm."})
    );
    assert!(dropped.is_empty(), "{dropped:?}");
}

#[test]
fn a_thread_is_refused_so_that_the_sdk_sends_the_whole_conversation() {
    let mut body = claude(json!([{"role": "user", "content": "x"}]));
    body["thread"] = json!({"type": "create"});
    let error = from_anthropic(&body, &able()).unwrap_err();
    assert_eq!(error.kind.status(), 400);
    let told: Value =
        serde_json::from_slice(&anthropic::response::error_body(&error, "req_1")).unwrap();
    assert_eq!(told["error"]["type"], "invalid_request_error");
    assert_eq!(
        told["error"]["details"],
        json!({"error_code": "thread_unsupported_request", "unsupported": []})
    );
    body["thread"] = Value::Null;
    assert!(from_anthropic(&body, &able()).is_ok());
    let other = strait::error::Error::field("n", "No.");
    let told: Value =
        serde_json::from_slice(&anthropic::response::error_body(&other, "req_1")).unwrap();
    assert!(told["error"].get("details").is_none());
}

#[test]
fn schemas_go_natively_to_models_that_nobody_knows() {
    let mut body = claude(json!([{"role": "user", "content": "x"}]));
    body["output_config"] =
        json!({"format": {"type": "json_schema", "schema": {"type": "object"}}});
    let (found, _) = from_anthropic(&body, &Facts::default()).unwrap();
    assert_eq!(found["response_format"]["type"], "json_schema");
    assert!(found["tools"].is_null());
}

#[test]
fn not_to_think_is_said_by_the_least_effort_of_the_model() {
    let mut body = claude(json!([{"role": "user", "content": "x"}]));
    body["thinking"] = json!({"type": "disabled"});
    for (reasoning_off, word) in [
        (Some(Effort::Minimal), json!("minimal")),
        (Some(Effort::None), json!("none")),
        (None, Value::Null),
    ] {
        let facts = Facts {
            reasoning_off,
            ..able()
        };
        let (found, dropped) = from_anthropic(&body, &facts).unwrap();
        assert_eq!(found["reasoning_effort"], word);
        assert_eq!(dropped.is_empty(), reasoning_off.is_some());
    }
}

#[test]
fn thinking_that_is_too_long_to_keep_is_streamed_and_not_sent_again() {
    for (pieces, again) in [(4, 1), (5, 0)] {
        let mut encoder = Encoder::new(&shape());
        let mut out = Vec::new();
        let piece = "x".repeat(1 << 20);
        encoder.write(
            &Event::Open {
                index: 0,
                block: Block::Reasoning,
            },
            &mut out,
        );
        for _ in 0..pieces {
            let delta = Delta::Reasoning(piece.as_str().into());
            encoder.write(&Event::Delta { index: 0, delta }, &mut out);
        }
        let delta = Delta::Signature("s".into());
        encoder.write(&Event::Delta { index: 0, delta }, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.matches("reasoning_content").count(), pieces);
        assert_eq!(out.matches("reasoning_details").count(), again);
    }
}

#[test]
fn a_tool_stands_in_for_structured_output_where_there_is_none() {
    let mut body = claude(json!([{"role": "user", "content": "x"}]));
    body["output_config"] =
        json!({"format": {"type": "json_schema", "schema": {"type": "object"}}});
    let unable = Facts {
        json_schema: Some(false),
        ..able()
    };
    let text = body.to_string();
    let hub = anthropic::request::decode(text.as_bytes()).unwrap();
    let said = request::encode(&hub, "m", &unable).unwrap();
    let found: Value = serde_json::from_slice(&said.body).unwrap();
    assert!(said.schema_tool);
    assert_eq!(found["tools"][0]["function"]["name"], SCHEMA_TOOL);
    assert_eq!(found["tool_choice"]["function"]["name"], SCHEMA_TOOL);
    assert!(found["response_format"].is_null());

    let answer = json!({"id": "x", "choices": [{"finish_reason": "tool_calls", "message": {"content": "Sure:", "tool_calls": [
        {"id": "c", "function": {"name": SCHEMA_TOOL, "arguments": "{\"a\":1}"}},
    ]}}]});
    let answer = answer.to_string();
    let hub = response::decode(answer.as_bytes(), &schema_shape()).unwrap();
    let found: Value = serde_json::from_slice(&response::encode(&hub, &shape())).unwrap();
    assert_eq!(found["choices"][0]["message"]["content"], "{\"a\":1}");
    assert_eq!(found["choices"][0]["finish_reason"], "stop");
    assert!(found["choices"][0]["message"]["tool_calls"].is_null());
}

/// The whole way that lost signatures: Anthropic's answer, an OpenAI client's history, Anthropic's request.
#[test]
fn signatures_survive_an_openai_client() {
    let answer = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "ZW5j"},
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1}},
        ],
        "usage": {"input_tokens": 1, "output_tokens": 2},
    });
    let text = answer.to_string();
    let hub = anthropic::response::decode(text.as_bytes(), &shape()).unwrap();
    let whole: Value = serde_json::from_slice(&response::encode(&hub, &shape())).unwrap();
    let mut streamed = Vec::new();
    let mut encoder = Encoder::new(&shape());
    replay(&hub, &mut |event| encoder.write(&event, &mut streamed));
    let mut message = json!({"role": "assistant", "content": "", "reasoning_content": "", "refusal": "", "tool_calls": []});
    let mut details = Vec::new();
    for (_, data) in frames(std::str::from_utf8(&streamed).unwrap()) {
        let chunk: Value = serde_json::from_str(&data).unwrap_or_default();
        let delta = &chunk["choices"][0]["delta"];
        add(&mut message, delta);
        details.extend(
            delta["reasoning_details"]
                .as_array()
                .into_iter()
                .flatten()
                .cloned(),
        );
    }
    message["reasoning_details"] = json!(details);
    message["refusal"] = Value::Null;
    for message in [whole["choices"][0]["message"].clone(), message] {
        let body = json!({
            "model": "claude",
            "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
            "reasoning_effort": "high",
            "messages": [{"role": "user", "content": "x"}, message, {"role": "tool", "tool_call_id": "toolu_1", "content": "y"}],
        });
        let text = body.to_string();
        let hub = request::decode(text.as_bytes()).unwrap();
        let said = anthropic::request::encode(&hub, "claude", &able()).unwrap();
        let found: Value = serde_json::from_slice(&said.body).unwrap();
        assert_eq!(found["messages"][1]["content"], answer["content"]);
    }
}

#[test]
fn an_answer_that_is_an_error_says_what_the_provider_said() {
    for (body, words) in [
        ("{\"error\":{\"message\":\"No credit\"}}", "No credit"),
        ("{\"error\":\"busy\"}", "busy"),
        ("{\"choices\":[]}", "no choices"),
        ("<html>", "can't be read"),
    ] {
        let error = response::decode(body.as_bytes(), &shape()).unwrap_err();
        assert_eq!(error.kind, Kind::UpstreamBroken, "{body}");
        assert!(error.message.contains(words), "{body}: {}", error.message);
    }
}

#[test]
fn errors_have_openais_shape() {
    let error = strait::error::Error::field("messages[0].role", "no \"such\" role");
    let found: Value = serde_json::from_slice(&response::error_body(&error)).unwrap();
    let expected = json!({"error": {
        "message": "no \"such\" role", "type": "invalid_request_error", "param": "messages[0].role", "code": "invalid_request",
    }});
    assert_eq!(found, expected);
    let frame = strait::protocol::openai_chat::stream::error_frame(&error);
    let frames = frames(std::str::from_utf8(&frame).unwrap());
    assert_eq!(
        serde_json::from_str::<Value>(&frames[0].1).unwrap(),
        expected
    );
}

#[test]
fn in_stream_errors_are_sorted_by_what_they_ask_for() {
    for (error, class) in [
        (
            json!({"message": "x", "code": 429}),
            FailureClass::RateLimited,
        ),
        (
            json!({"message": "x", "type": "overloaded_error"}),
            FailureClass::Overloaded,
        ),
        (json!({"message": "x", "code": "503"}), FailureClass::Server),
        (
            json!({"message": "x", "type": "invalid_request_error", "status_code": 400}),
            FailureClass::InvalidRequest,
        ),
        (json!("x"), FailureClass::Server),
    ] {
        let frame = (String::new(), json!({"error": error}).to_string());
        assert_eq!(
            listen([&frame], &shape()).ended,
            Some(Some(class)),
            "{error}"
        );
    }
}

/// Reads a whole stream of `from` and writes it as `to`'s.
fn streamed(from: Protocol, to: Protocol, frames: &[String]) -> Vec<Value> {
    use strait::protocol::{StreamDecoder, StreamEncoder};
    let shape = Shape::default();
    let mut decoder = StreamDecoder::new(from, &shape);
    let mut encoder = StreamEncoder::new(to, &shape);
    let mut out = Vec::new();
    for frame in frames {
        decoder.feed(b"", frame.as_bytes(), &mut |event| {
            encoder.write(&event, &mut out)
        });
    }
    decoder.end(&mut |event| encoder.write(&event, &mut out));
    String::from_utf8(out)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str(data).ok())
        .collect()
}

#[test]
fn googles_signature_of_a_call_goes_with_it_and_comes_back() {
    use strait::protocol::{decode_request, decode_response, encode_request, encode_response};
    let google = json!({"responseId": "r", "modelVersion": "gemini-3-pro", "candidates": [{"finishReason": "STOP",
        "content": {"role": "model", "parts": [
            {"text": "Hm.", "thought": true},
            {"text": "Let me look.", "thoughtSignature": "c2lnVGV4dA=="},
            {"functionCall": {"name": "clock", "args": {}}, "thoughtSignature": "c2lnQ2FsbA=="},
            {"functionCall": {"name": "weather", "args": {"city": "Bern"}}}]}}]});
    let text = google.to_string();
    let shape = Shape::default();
    let hub = decode_response(Protocol::Gemini, text.as_bytes(), &shape).unwrap();
    let whole: Value =
        serde_json::from_slice(&encode_response(Protocol::OpenaiChat, &hub, &shape)).unwrap();
    let signed = json!({"google": {"thought_signature": "c2lnQ2FsbA=="}});
    let message = whole["choices"][0]["message"].clone();
    assert_eq!(message["tool_calls"][0]["extra_content"], signed, "{whole}");
    assert!(message["tool_calls"][1].get("extra_content").is_none());

    let chunks = streamed(Protocol::Gemini, Protocol::OpenaiChat, &[text]);
    let calls: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0))
        .filter(|call| call.get("id").is_some())
        .collect();
    assert_eq!(calls.len(), 2, "{chunks:?}");
    assert_eq!(calls[0]["extra_content"], signed);
    assert!(calls[1].get("extra_content").is_none());

    // Back, with all that was told, and with nothing but the calls.
    let mut bare = message.clone();
    let fields = bare.as_object_mut().unwrap();
    fields.retain(|name, _| matches!(name.as_str(), "role" | "content" | "tool_calls"));
    for (turn, text_signed) in [(&message, true), (&bare, false)] {
        let results: Vec<Value> = message["tool_calls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": "done"}))
            .collect();
        let mut messages = vec![json!({"role": "user", "content": "go"}), turn.clone()];
        messages.extend(results);
        let body = json!({"model": "m", "messages": messages}).to_string();
        let hub = decode_request(Protocol::OpenaiChat, body.as_bytes()).unwrap();
        let sent = encode_request(Protocol::Gemini, &hub, "gemini-3-pro", &Facts::default());
        let sent = sent.unwrap();
        let sent: Value = serde_json::from_slice(&sent.body).unwrap();
        let parts = sent["contents"][1]["parts"].as_array().unwrap();
        let signature = |of: &str| {
            let part = parts.iter().find(|part| match of {
                "text" => part.get("text") == Some(&json!("Let me look.")),
                name => part["functionCall"]["name"] == name,
            });
            part.unwrap_or_else(|| panic!("{of}: {sent}"))
                .get("thoughtSignature")
                .cloned()
        };
        assert_eq!(signature("clock"), Some(json!("c2lnQ2FsbA==")), "{sent}");
        assert_eq!(signature("weather"), None, "{sent}");
        let of_text = text_signed.then(|| json!("c2lnVGV4dA=="));
        assert_eq!(signature("text"), of_text, "{sent}");
        // To nobody else.
        let others = encode_request(Protocol::Anthropic, &hub, "claude", &Facts::default());
        let others = String::from_utf8(others.unwrap().body).unwrap();
        assert!(!others.contains("c2ln"), "{others}");
    }
}

#[test]
fn a_compatible_providers_signature_comes_back_to_it_through_another_protocol() {
    use strait::protocol::{decode_request, decode_response, encode_request, encode_response};
    let call = json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "c2ln"}, "other": [1]}});
    let answer = json!({"id": "a", "model": "gemini-3-pro", "choices": [{"index": 0, "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": null, "tool_calls": [call]}}]});
    let text = answer.to_string();
    let shape = Shape::default();
    let hub = decode_response(Protocol::OpenaiChat, text.as_bytes(), &shape).unwrap();
    let whole: Value =
        serde_json::from_slice(&encode_response(Protocol::Anthropic, &hub, &shape)).unwrap();
    let content = whole["content"].clone();
    assert_eq!(content[0]["signature"], "openai-chat#c2ln", "{whole}");

    let chunk = json!({"id": "a", "model": "m", "choices": [{"index": 0, "finish_reason": null,
        "delta": {"role": "assistant", "tool_calls": [call]}}]});
    let end =
        json!({"id": "a", "choices": [{"index": 0, "finish_reason": "tool_calls", "delta": {}}]});
    let frames = [chunk.to_string(), end.to_string(), "[DONE]".to_owned()];
    let events = streamed(Protocol::OpenaiChat, Protocol::Anthropic, &frames);
    let signed = events
        .iter()
        .any(|event| event["delta"]["signature"] == "openai-chat#c2ln");
    assert!(signed, "{events:?}");

    let body = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "go"}, {"role": "assistant", "content": content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "noon"}]}]});
    let text = body.to_string();
    let hub = decode_request(Protocol::Anthropic, text.as_bytes()).unwrap();
    let sent = encode_request(Protocol::OpenaiChat, &hub, "m", &Facts::default()).unwrap();
    let sent: Value = serde_json::from_slice(&sent.body).unwrap();
    let calls = &sent["messages"][1]["tool_calls"];
    assert_eq!(
        calls[0]["extra_content"],
        json!({"google": {"thought_signature": "c2ln"}}),
        "{sent}"
    );
    let google = encode_request(Protocol::Gemini, &hub, "gemini-2.5-pro", &Facts::default());
    let google = String::from_utf8(google.unwrap().body).unwrap();
    assert!(!google.contains("c2ln"), "{google}");
}

#[test]
fn each_piece_of_a_call_names_its_function_to_those_alone_who_want_it() {
    for wanted in [false, true] {
        let shape = Shape {
            names_calls: wanted,
            ..Shape::default()
        };
        let mut encoder = Encoder::new(&shape);
        let mut out = Vec::new();
        let open = |index, name: &'static str| Event::Open {
            index,
            block: Block::ToolCall {
                id: name.into(),
                name: name.into(),
            },
        };
        let piece = |index, text: &'static str| Event::Delta {
            index,
            delta: Delta::Arguments(text.into()),
        };
        for event in [
            Event::Start {
                id: "a".into(),
                model: "m".into(),
                usage: None,
                service_tier: None,
            },
            open(0, "clock"),
            open(1, "weather"),
            piece(0, "{"),
            piece(1, "{}"),
            piece(0, "}"),
            Event::Close { index: 0 },
            Event::Close { index: 1 },
        ] {
            encoder.write(&event, &mut out);
        }
        let told: Vec<(u64, Option<String>)> = String::from_utf8(out)
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter_map(|data| serde_json::from_str::<Value>(data).ok())
            .filter_map(|chunk| {
                let call = chunk["choices"][0]["delta"]["tool_calls"].get(0)?.clone();
                let name = call["function"]["name"].as_str().map(str::to_owned);
                Some((call["index"].as_u64()?, name))
            })
            .collect();
        let again = |name: &str| wanted.then(|| name.to_owned());
        assert_eq!(
            told,
            [
                (0, Some("clock".to_owned())),
                (1, Some("weather".to_owned())),
                (0, again("clock")),
                (1, again("weather")),
                (0, again("clock")),
            ]
        );
    }
}
