//! Real traffic of Converse.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use strait::protocol::usage::Usage;
use strait::protocol::{Protocol, Shape, decode_request, decode_response, encode_response};

use super::{
    able, bedrock_events, coded, hold_against, line, models, recode, shape, tests, translated,
};

/// Returns the recordings of one surface: name, exchange, and the raw stream where there was one.
pub(super) fn recordings(surface: &str) -> Vec<(String, Value, Option<Vec<u8>>)> {
    let shared = std::env::var("STRAIT_SHARED")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let folder = std::path::Path::new(&shared)
        .join("recordings")
        .join(surface);
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
            let stream = record["response"]["body_file"]
                .as_str()
                .and_then(|file| std::fs::read(folder.join(file)).ok());
            let name = format!("{surface}/{}", path.file_stem().unwrap().to_string_lossy());
            (name, record, stream)
        })
        .collect()
}

/// Numbers as numbers, and nothing that says nothing.
fn tidy(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|key, value| {
                    !value.is_null()
                        && !((key == "inferenceConfig" || key == "additionalModelRequestFields")
                            && *value == json!({}))
                        && !(key == "system" && *value == json!([]))
                        && !(key == "status" && *value == json!("success"))
                });
                map.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::Number(number) => *value = json!(number.as_f64()),
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    walk(&mut value);
    value
}

/// What a tool returned as JSON is told as text, which says the same.
fn json_as_text(body: &mut Value) {
    for message in body["messages"].as_array_mut().into_iter().flatten() {
        for block in message["content"].as_array_mut().into_iter().flatten() {
            let Some(result) = block.get_mut("toolResult") else {
                continue;
            };
            for part in result["content"].as_array_mut().into_iter().flatten() {
                if let Some(json) = part.get("json") {
                    *part = json!({"text": json.to_string()});
                }
            }
        }
    }
}

/// The text of a document is told as its bytes, which every model takes.
fn text_as_bytes(body: &mut Value) {
    for message in body["messages"].as_array_mut().into_iter().flatten() {
        for block in message["content"].as_array_mut().into_iter().flatten() {
            if let Some(text) = block["document"]["source"]["text"].as_str() {
                let bytes = coded(text.as_bytes());
                block["document"]["source"] = json!({"bytes": bytes});
            }
        }
    }
}

#[test]
fn recorded_requests_say_the_same_after_the_hub() {
    let mut lines = Vec::new();
    for surface in ["bedrock-converse", "bedrock-converse-stream"] {
        for (name, record, _) in recordings(surface) {
            let asked = &record["request"]["body"];
            let uri = record["request"]["uri"].as_str().unwrap();
            let model = uri
                .split("/model/")
                .nth(1)
                .unwrap()
                .split('/')
                .next()
                .unwrap();
            let body = asked.to_string();
            let hub = decode_request(Protocol::Bedrock, body.as_bytes())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(
                hub.model.is_empty() && !hub.stream,
                "{name}: these stand in the path"
            );
            let said = translated(
                Protocol::Bedrock,
                body.as_bytes(),
                Protocol::Bedrock,
                model,
                &able(),
            );
            let mut expected = tidy(asked.clone());
            json_as_text(&mut expected);
            text_as_bytes(&mut expected);
            assert_eq!(tidy(said["body"].clone()), expected, "{name}");
            assert_eq!(said["dropped"], json!([]), "{name}");
            lines.push(line(&name, "bedrock.request", said["body"].clone()));
            for to in [Protocol::OpenaiChat, Protocol::Anthropic] {
                let said = translated(Protocol::Bedrock, body.as_bytes(), to, "m", &able());
                assert!(
                    said.get("body").is_some() || said["param"].is_string(),
                    "{name}: {said}"
                );
            }
        }
    }
    hold_against("validate_bedrock.py", "recorded-requests", &lines);
}

#[test]
fn recorded_requests_of_others_become_what_botocore_takes() {
    let mut lines = Vec::new();
    let sources = [
        (Protocol::OpenaiChat, "openai-chat"),
        (Protocol::OpenaiChat, "openrouter-chat"),
        (Protocol::Anthropic, "anthropic-messages"),
    ];
    for (from, surface) in sources {
        for (name, record, _) in recordings(surface) {
            let body = record["request"]["body"].to_string();
            for (kind, model, facts) in models() {
                let said = translated(from, body.as_bytes(), Protocol::Bedrock, model, &facts);
                match said.get("body") {
                    Some(body) => lines.push(line(
                        &format!("{name} for {kind}"),
                        "bedrock.request",
                        body.clone(),
                    )),
                    None => assert!(said["param"].is_string(), "{name}: {said}"),
                }
            }
        }
    }
    // The same for the requests of the golden files.
    for entry in std::fs::read_dir(tests().join("golden/cross")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains("-request-") || name.contains(".to-") {
            continue;
        }
        let body = std::fs::read(&path).unwrap();
        for (kind, model, facts) in models() {
            let said = translated(
                super::family(&path),
                &body,
                Protocol::Bedrock,
                model,
                &facts,
            );
            if let Some(body) = said.get("body") {
                let name = format!("{name} for {kind}");
                lines.push(line(&name, "bedrock.request", body.clone()));
            }
        }
    }
    hold_against("validate_bedrock.py", "others-requests", &lines);
}

#[test]
fn recorded_answers_reach_every_client() {
    let (mut types, mut own) = (Vec::new(), Vec::new());
    let mut seen = 0;
    for (name, record, _) in recordings("bedrock-converse") {
        let answer = &record["response"]["body"];
        let body = answer.to_string();
        let read = decode_response(Protocol::Bedrock, body.as_bytes(), &shape());
        if record["response"]["status"] != 200 {
            assert!(read.is_err(), "{name}: an error is no answer");
            continue;
        }
        seen += 1;
        let hub = read.unwrap_or_else(|error| panic!("{name}: {error}"));
        let usage = hub.usage.clone().unwrap();
        same_usage(&name, &answer["usage"], &usage);
        let write =
            |to| -> Value { serde_json::from_slice(&encode_response(to, &hub, &shape())).unwrap() };
        let mine = write(Protocol::Bedrock);
        for key in ["output", "stopReason"] {
            let mut expected = answer[key].clone();
            drop_types(&mut expected);
            let mut found = mine[key].clone();
            drop_types(&mut found);
            if answer[key] != "guardrail_intervened" {
                assert_eq!(found, expected, "{name}: {key}");
            }
        }
        own.push(line(&name, "bedrock.message", mine));
        types.push(line(&name, "openai.message", write(Protocol::OpenaiChat)));
        types.push(line(&name, "anthropic.message", write(Protocol::Anthropic)));
    }
    eprintln!("{seen} recorded answers");
    hold_against("validate_bedrock.py", "recorded-answers", &own);
    hold_against("validate_types.py", "recorded-answers-types", &types);
}

/// Claude's calls carry a `type` that its own API has and nobody needs.
fn drop_types(value: &mut Value) {
    let content = value.pointer_mut("/message/content");
    for block in content.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(call) = block.get_mut("toolUse").and_then(Value::as_object_mut)
            && call.get("type") == Some(&json!("tool_use"))
        {
            call.remove("type");
        }
    }
}

fn same_usage(name: &str, told: &Value, usage: &Usage) {
    let number = |key: &str| told[key].as_u64().unwrap_or(0);
    assert_eq!(usage.fresh(), number("inputTokens"), "{name}: fresh input");
    assert_eq!(usage.output, number("outputTokens"), "{name}: output");
    assert_eq!(
        usage.cache_read,
        number("cacheReadInputTokens"),
        "{name}: read"
    );
    assert_eq!(
        usage.written(),
        number("cacheWriteInputTokens"),
        "{name}: written"
    );
    assert_eq!(usage.total(), number("totalTokens"), "{name}: total");
    let mut out = Vec::new();
    usage.write_bedrock(&mut out);
    let mut again = Usage::default();
    assert!(again.read_bedrock(&out));
    assert_eq!(&again, usage, "{name}: written and read again");
}

#[test]
fn recorded_streams_reach_every_client() {
    let (mut types, mut own) = (Vec::new(), Vec::new());
    let mut seen = 0;
    for (name, record, stream) in recordings("bedrock-converse-stream") {
        let Some(wire) = stream else {
            if record["response"]["kind"] == "eventstream" {
                eprintln!("not run: the stream of {name} is absent");
            }
            continue;
        };
        seen += 1;
        let write = |to| recode(Protocol::Bedrock, to, &[&wire], &shape());
        let mine = write(Protocol::Bedrock);
        assert_eq!(
            summed(&bedrock_events(&mine)),
            summed(&bedrock_events(&wire)),
            "{name}"
        );
        own.push(line(&name, "bedrock.stream", coded(&mine)));
        for (to, kind) in [
            (Protocol::OpenaiChat, "openai.stream"),
            (Protocol::Anthropic, "anthropic.stream"),
        ] {
            let text = String::from_utf8(write(to)).unwrap();
            types.push(line(&name, kind, json!(text)));
        }
    }
    eprintln!("{seen} recorded streams");
    hold_against("validate_bedrock.py", "recorded-streams", &own);
    hold_against("validate_types.py", "recorded-streams-types", &types);
}

/// The whole answer that a stream makes: blocks in order, stop reason and usage.
pub(super) fn summed(events: &Value) -> Value {
    let mut blocks: BTreeMap<u64, Value> = BTreeMap::new();
    let (mut reason, mut usage) = (Value::Null, Value::Null);
    for event in events.as_array().unwrap() {
        let payload = &event[1];
        let index = payload["contentBlockIndex"].as_u64().unwrap_or(0);
        match event[0].as_str().unwrap() {
            "contentBlockStart" => {
                let block = blocks.entry(index).or_insert_with(|| json!({}));
                block["start"] = payload["start"].clone();
                block["start"].as_object_mut().unwrap().remove("type");
            }
            "contentBlockDelta" => {
                let block = blocks.entry(index).or_insert_with(|| json!({}));
                let delta = &payload["delta"];
                let mut append = |key: &str, text: &Value| {
                    let before = block[key].as_str().unwrap_or("").to_owned();
                    if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
                        block[key] = json!(before + text);
                    }
                };
                append("text", &delta["text"]);
                append("input", &delta["toolUse"]["input"]);
                append("thinking", &delta["reasoningContent"]["text"]);
                append("signature", &delta["reasoningContent"]["signature"]);
                append("redacted", &delta["reasoningContent"]["redactedContent"]);
            }
            "messageStop" => reason = payload["stopReason"].clone(),
            "metadata" => {
                usage = json!([
                    payload["usage"]["inputTokens"],
                    payload["usage"]["outputTokens"],
                    payload["usage"]["totalTokens"]
                ]);
            }
            _ => {}
        }
    }
    if reason == "guardrail_intervened" {
        reason = json!("content_filtered");
    }
    let blocks: Vec<Value> = blocks
        .into_values()
        .filter(|block| *block != json!({}))
        .collect();
    json!([blocks, reason, usage])
}

#[test]
fn the_schema_tool_becomes_the_answer() {
    let shape = Shape {
        schema_tool: true,
        ..shape()
    };
    let body = json!({
        "output": {"message": {"role": "assistant", "content": [
            {"text": "Here it is."},
            {"toolUse": {"toolUseId": "t", "name": "structured_output", "input": {"a": 1}}}]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
        "metrics": {"latencyMs": 1}})
    .to_string();
    let hub = decode_response(Protocol::Bedrock, body.as_bytes(), &shape).unwrap();
    let said: Value =
        serde_json::from_slice(&encode_response(Protocol::OpenaiChat, &hub, &shape)).unwrap();
    assert_eq!(said["choices"][0]["message"]["content"], "{\"a\":1}");
    assert_eq!(said["choices"][0]["finish_reason"], "stop");
}
