//! Real traffic of Google's two front doors: decoded, told to each kind of client, and taken by its SDK.

use std::path::Path;

use serde_json::{Value, json};
use strait::protocol::chat::{Part, Request, Response, Tool};
use strait::protocol::tap::{Tap, whole};
use strait::protocol::usage::Usage;
use strait::protocol::{
    Facts, Protocol, StreamDecoder, decode_request, decode_response, encode_request,
    encode_response,
};

use super::{MODELS, Promises, able, frames, hold_against_sdks, kind, recode, shape};

const SURFACES: [&str; 4] = [
    "gemini-generateContent",
    "gemini-streamGenerateContent",
    "vertex-generateContent",
    "vertex-streamGenerateContent",
];

const CLIENTS: [Protocol; 3] = [Protocol::Gemini, Protocol::OpenaiChat, Protocol::Anthropic];

/// Returns the exchanges of one surface: name, exchange, and the stream, where it was one.
pub(super) fn recordings(surface: &str) -> Vec<(String, Value, Option<String>)> {
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
            let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let body = &record["response"]["body"];
            // Without `alt=sse` the stream is an array of the same chunks.
            let stream = std::fs::read_to_string(path.with_extension("sse"))
                .ok()
                .or_else(|| {
                    body.as_array().map(|chunks| {
                        chunks
                            .iter()
                            .map(|chunk| format!("data: {chunk}\r\n\r\n"))
                            .collect()
                    })
                });
            let name = format!("{surface}/{}", path.file_stem().unwrap().to_string_lossy());
            (name, record, stream)
        })
        .collect()
}

/// What an answer says, in words that all protocols share.
#[derive(Debug, PartialEq)]
struct Said {
    text: String,
    thoughts: String,
    calls: Vec<(String, Value)>,
    input: u64,
    output: u64,
    cached: u64,
}

fn said(response: &Response<'_>) -> Said {
    let (mut text, mut thoughts, mut calls) = (String::new(), String::new(), Vec::new());
    for part in &response.parts {
        match part {
            Part::Text { text: piece, .. } | Part::Refusal { text: piece } => text.push_str(piece),
            Part::Reasoning { text: piece, .. } => thoughts.push_str(piece),
            Part::ToolCall {
                name, arguments, ..
            } => calls.push((name.to_string(), serde_json::from_str(arguments).unwrap())),
            Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolResult { .. }
            | Part::RedactedReasoning { .. }
            | Part::Opaque { .. } => {}
        }
    }
    let usage = response.usage.clone().unwrap_or_default();
    Said {
        text,
        thoughts,
        calls,
        input: usage.input,
        output: usage.output,
        cached: usage.cache_read,
    }
}

/// What the answer says, as its JSON tells it.
fn plain(chunks: &[Value]) -> (String, Vec<(String, Value)>) {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for chunk in chunks {
        let parts = chunk["candidates"][0]["content"]["parts"].as_array();
        for part in parts.into_iter().flatten() {
            if part["thought"] != json!(true)
                && let Some(piece) = part["text"].as_str()
            {
                text.push_str(piece);
            }
            if let Some(name) = part["functionCall"]["name"].as_str() {
                let arguments = &part["functionCall"]["args"];
                let arguments = if arguments.is_null() {
                    json!({})
                } else {
                    arguments.clone()
                };
                calls.push((name.to_owned(), arguments));
            }
        }
    }
    (text, calls)
}

/// The provider's numbers: all input and all output.
fn numbers(usage: &Value) -> (u64, u64) {
    let of = |name: &str| usage[name].as_u64().unwrap_or(0);
    let input = of("promptTokenCount") + of("toolUsePromptTokenCount");
    let answer = of("candidatesTokenCount");
    let output = if usage["totalTokenCount"].as_u64() == Some(input + answer) {
        answer
    } else {
        answer + of("thoughtsTokenCount")
    };
    (input, output)
}

#[test]
fn recorded_answers_are_what_clients_take() {
    let mut lines = Vec::new();
    let mut count = 0;
    for (name, record, stream) in SURFACES.iter().flat_map(|surface| recordings(surface)) {
        let body = &record["response"]["body"];
        if stream.is_some() || !body.is_object() {
            continue;
        }
        count += 1;
        let text = body.to_string();
        let hub = decode_response(Protocol::Gemini, text.as_bytes(), &shape())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let before = said(&hub);
        let (text_told, calls_told) = plain(std::slice::from_ref(body));
        assert_eq!(before.text, text_told, "{name}");
        assert_eq!(before.calls, calls_told, "{name}");
        assert_eq!(
            (before.input, before.output),
            numbers(&body["usageMetadata"]),
            "{name}"
        );
        let tapped = whole(Protocol::Gemini, text.as_bytes());
        assert!(tapped.is_answer && !tapped.is_error, "{name}");
        assert_eq!(tapped.usage, hub.usage, "{name}");
        assert_eq!(tapped.finish, Some(hub.finish), "{name}");
        assert_eq!(tapped.model.as_deref(), Some(&*hub.model), "{name}");
        for to in CLIENTS {
            let written = encode_response(to, &hub, &shape());
            let back = decode_response(to, &written, &shape()).unwrap_or_else(|error| {
                panic!("{name}: {error}: {}", String::from_utf8_lossy(&written))
            });
            let mut after = said(&back);
            if to != Protocol::Gemini {
                after.thoughts.clone_from(&before.thoughts);
            }
            assert_eq!(after, before, "{name} to {}", to.name());
            let body: Value = serde_json::from_slice(&written).unwrap();
            lines.push(json!({"name": name, "kind": kind(to, false), "body": body}));
        }
    }
    eprintln!("{count} answers");
    hold_against_sdks("answers", &lines);
}

fn sum(from: Protocol, text: &str) -> Promises {
    let mut decoder = StreamDecoder::new(from, &shape());
    let mut promises = Promises::default();
    for (name, data) in frames(text) {
        decoder.feed(name.as_bytes(), data.as_bytes(), &mut |event| {
            promises.hear(&event);
        });
    }
    decoder.end(&mut |event| promises.hear(&event));
    promises
}

fn calls(promises: &Promises) -> Vec<(String, Value)> {
    promises
        .calls
        .iter()
        .map(|(name, arguments)| {
            let arguments = if arguments.is_empty() {
                "{}"
            } else {
                arguments
            };
            (name.clone(), serde_json::from_str(arguments).unwrap())
        })
        .collect()
}

#[test]
fn recorded_streams_are_what_clients_take() {
    let mut lines = Vec::new();
    let (mut count, mut cut) = (0, 0);
    for (name, _, stream) in SURFACES.iter().flat_map(|surface| recordings(surface)) {
        let Some(stream) = stream else { continue };
        count += 1;
        let before = sum(Protocol::Gemini, &stream);
        let chunks: Vec<Value> = frames(&stream)
            .iter()
            .map(|(_, data)| serde_json::from_str(data).unwrap())
            .collect();
        let ends = chunks
            .iter()
            .any(|chunk| !chunk["candidates"][0]["finishReason"].is_null());
        assert_eq!(before.ended, Some(ends), "{name}");
        let (text_told, calls_told) = plain(&chunks);
        assert_eq!(before.text, text_told, "{name}");
        assert_eq!(calls(&before), calls_told, "{name}");
        let usage = before.usage.clone().unwrap_or_default();
        let last = chunks
            .iter()
            .rev()
            .find(|chunk| chunk["usageMetadata"]["promptTokenCount"].is_u64());
        if let Some(last) = last {
            assert_eq!(
                (usage.input, usage.output),
                numbers(&last["usageMetadata"]),
                "{name}"
            );
        }
        let mut tap = Tap::new(Protocol::Gemini, false, 1 << 20);
        let mut passed = Vec::new();
        tap.feed(stream.clone().into(), &mut passed);
        tap.finish(&mut passed);
        assert_eq!(passed.concat(), stream.as_bytes(), "{name}");
        assert_eq!(tap.finished, ends, "{name}");
        assert!(tap.semantic && tap.failure.is_none(), "{name}");
        assert_eq!(tap.usage.unwrap_or_default(), usage, "{name}");
        if !ends {
            cut += 1;
            continue;
        }
        for to in CLIENTS {
            let written = recode(Protocol::Gemini, to, &stream, &shape());
            let after = sum(to, &written);
            assert_eq!(after.ended, Some(true), "{name}: {written}");
            assert_eq!(after.text, before.text, "{name} to {}", to.name());
            assert_eq!(after.thoughts, before.thoughts, "{name} to {}", to.name());
            assert_eq!(calls(&after), calls(&before), "{name} to {}", to.name());
            let told = after.usage.unwrap_or_default();
            assert_eq!(
                (told.input, told.output, told.cache_read),
                (usage.input, usage.output, usage.cache_read),
                "{name} to {}",
                to.name()
            );
            lines.push(json!({"name": name, "kind": kind(to, true), "body": written}));
        }
    }
    eprintln!("{count} streams, {cut} of them cut short");
    hold_against_sdks("streams", &lines);
}

/// What a request means, in words that all protocols share.
fn meaning(request: &Request<'_>) -> Value {
    let (mut text, mut calls, mut results) = (String::new(), Vec::new(), 0);
    for part in request.messages.iter().flat_map(|message| &message.parts) {
        match part {
            Part::Text { text: piece, .. } => {
                text.extend(piece.chars().filter(|letter| !letter.is_whitespace()));
            }
            Part::ToolCall {
                name, arguments, ..
            } => calls.push(json!([
                name,
                serde_json::from_str::<Value>(arguments).unwrap()
            ])),
            Part::ToolResult { .. } => results += 1,
            Part::Refusal { .. }
            | Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::Reasoning { .. }
            | Part::RedactedReasoning { .. }
            | Part::Opaque { .. } => {}
        }
    }
    let tools: Vec<_> = request
        .tools
        .iter()
        .map(|tool| match tool {
            Tool::Function { name, .. } | Tool::Opaque { name, .. } => name.to_string(),
        })
        .collect();
    json!({
        "text": text,
        "calls": calls,
        "results": results,
        "tools": tools,
        "stop": request.stop,
        "temperature": request.temperature,
        "max_output": request.max_output,
    })
}

#[test]
fn recorded_requests_keep_their_meaning() {
    let (mut count, mut refused) = (0, Vec::new());
    for (name, record, _) in SURFACES.iter().flat_map(|surface| recordings(surface)) {
        let body = &record["request"]["body"];
        if !body.is_object() {
            continue;
        }
        count += 1;
        let text = body.to_string();
        let hub = decode_request(Protocol::Gemini, text.as_bytes())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let said = encode_request(Protocol::Gemini, &hub, MODELS[0], &able()).unwrap();
        let again = decode_request(Protocol::Gemini, &said.body).unwrap();
        assert_eq!(meaning(&again), meaning(&hub), "{name}");
        for to in [Protocol::OpenaiChat, Protocol::Anthropic] {
            for facts in [able(), Facts::default()] {
                match encode_request(to, &hub, "m", &facts) {
                    Ok(said) => {
                        let text = String::from_utf8(said.body).unwrap();
                        let tools = &serde_json::from_str::<Value>(&text).unwrap()["tools"];
                        for word in ["\"STRING\"", "\"OBJECT\"", "\"nullable\""] {
                            assert!(!tools.to_string().contains(word), "{name}: {text}");
                        }
                        let back = decode_request(to, text.as_bytes())
                            .unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
                        let (after, before) = (meaning(&back), meaning(&hub));
                        assert_eq!(after["calls"], before["calls"], "{name}");
                        assert_eq!(after["results"], before["results"], "{name}");
                    }
                    Err(error) => {
                        assert!(error.param.is_some(), "{name}: {error}");
                        refused.push(format!("{name}: {}", error.message));
                    }
                }
            }
        }
    }
    eprintln!("{count} requests, refused somewhere: {}", refused.len());
    for why in &refused {
        eprintln!("{why}");
    }
}

/// Requests that real clients of other protocols sent, for models of Google's.
#[test]
fn recorded_requests_of_others_are_sayable() {
    let mut counts = (0, 0);
    for (surface, from) in [
        ("openai-chat", Protocol::OpenaiChat),
        ("groq-chat", Protocol::OpenaiChat),
        ("mistral-chat", Protocol::OpenaiChat),
        ("openrouter-chat", Protocol::OpenaiChat),
        ("anthropic-messages", Protocol::Anthropic),
    ] {
        for (name, record, _) in recordings(surface) {
            let text = record["request"]["body"].to_string();
            let Ok(hub) = decode_request(from, text.as_bytes()) else {
                continue;
            };
            for model in MODELS {
                match encode_request(Protocol::Gemini, &hub, model, &able()) {
                    Ok(said) => {
                        counts.0 += 1;
                        let back = decode_request(Protocol::Gemini, &said.body)
                            .unwrap_or_else(|error| panic!("{name}: {error}"));
                        let (after, before) = (meaning(&back), meaning(&hub));
                        for what in ["calls", "results", "temperature"] {
                            assert_eq!(after[what].is_null(), before[what].is_null(), "{name}");
                        }
                        assert_eq!(after["results"], before["results"], "{name}");
                    }
                    Err(error) => {
                        assert!(error.param.is_some(), "{name}: {error}");
                        counts.1 += 1;
                    }
                }
            }
        }
    }
    eprintln!("{} said, {} refused", counts.0, counts.1);
}

/// Answers of other providers, for Google's clients.
#[test]
fn recorded_answers_of_others_are_what_googles_clients_take() {
    let mut lines = Vec::new();
    for (surface, from) in [
        ("openai-chat", Protocol::OpenaiChat),
        ("groq-chat", Protocol::OpenaiChat),
        ("deepseek-chat", Protocol::OpenaiChat),
        ("perplexity-chat", Protocol::OpenaiChat),
        ("openrouter-chat", Protocol::OpenaiChat),
        ("anthropic-messages", Protocol::Anthropic),
    ] {
        for (name, record, stream) in recordings(surface) {
            match stream {
                Some(stream) => {
                    let before = sum(from, &stream);
                    if before.ended != Some(true) {
                        continue;
                    }
                    let written = recode(from, Protocol::Gemini, &stream, &shape());
                    let after = sum(Protocol::Gemini, &written);
                    assert_eq!(after.ended, Some(true), "{name}: {written}");
                    assert_eq!(after.text, before.text, "{name}");
                    assert_eq!(after.calls.len(), before.calls.len(), "{name}");
                    let total = |usage: Option<Usage>| usage.unwrap_or_default().total();
                    assert_eq!(total(after.usage), total(before.usage), "{name}");
                    lines.push(
                        json!({"name": name, "kind": kind(Protocol::Gemini, true), "body": written}),
                    );
                }
                None => {
                    let text = record["response"]["body"].to_string();
                    let Ok(hub) = decode_response(from, text.as_bytes(), &shape()) else {
                        continue;
                    };
                    let written = encode_response(Protocol::Gemini, &hub, &shape());
                    let body: Value = serde_json::from_slice(&written).unwrap();
                    lines.push(
                        json!({"name": name, "kind": kind(Protocol::Gemini, false), "body": body}),
                    );
                }
            }
        }
    }
    eprintln!("{} answers of others", lines.len());
    hold_against_sdks("others", &lines);
}
