//! What is asked for in OpenAI's words.

use serde_json::{Value, json};

use super::super::request::{Asked, list, sample, text_of};
use super::responses;

/// Reads the body of a chat, apart from its messages.
pub(in crate::mock) fn chat(asked: &mut Asked, body: &Value) {
    asked.include_usage = body["stream_options"]["include_usage"] == true;
    asked.count_answers(&body["n"]);
    asked.hear_messages(body);
    let functions = list(&body["tools"]).iter().map(|tool| &tool["function"]);
    let choice = &body["tool_choice"];
    let wanted = choice["function"]["name"].as_str();
    if wanted.is_some() || choice == "required" {
        asked.force(functions, wanted, |tool| sample(&tool["parameters"]));
    }
    let format = &body["response_format"];
    if format["type"] == "json_schema" {
        asked.document = Some(sample(&format["json_schema"]["schema"]).to_string());
    } else if format["type"] == "json_object" {
        asked.document = Some(json!({ "echo": asked.last_text }).to_string());
    }
}

pub(in crate::mock) fn completions(asked: &mut Asked, body: &Value) {
    asked.include_usage = body["stream_options"]["include_usage"] == true;
    asked.count_answers(&body["n"]);
    let prompt = &body["prompt"];
    let first = list(prompt).first().and_then(Value::as_str);
    match prompt.as_str().or(first) {
        Some(text) => asked.hear([(true, text.into())].into_iter(), 0),
        // A prompt may be tokens too.
        None => asked.prompt_tokens = (list(prompt).len() as u64).max(1),
    }
}

pub(in crate::mock) fn responses(asked: &mut Asked, body: &Value) {
    asked.encrypted = list(&body["include"])
        .iter()
        .any(|name| name == "reasoning.encrypted_content");
    let before = text_of(&body["instructions"]).chars().count();
    let input = &body["input"];
    if let Some(text) = input.as_str() {
        asked.hear([(true, text.into())].into_iter(), before);
    } else {
        let items = list(input).iter().map(|item| {
            let text = text_of(item.get("output").unwrap_or(&item["content"]));
            (item["role"] == "user", text)
        });
        asked.hear(items, before);
    }
    let choice = &body["tool_choice"];
    let wanted = choice["name"].as_str();
    if wanted.is_some() || choice == "required" {
        let functions = list(&body["tools"])
            .iter()
            .filter(|tool| tool["type"] == "function");
        asked.force(functions, wanted, |tool| sample(&tool["parameters"]));
    }
    let format = &body["text"]["format"];
    if format["type"] == "json_schema" {
        asked.document = Some(sample(&format["schema"]).to_string());
    } else if format["type"] == "json_object" {
        asked.document = Some(json!({ "echo": asked.last_text }).to_string());
    }
    asked.echo = responses::echo(body);
}

/// Returns the list of the input's items, as it can be asked for later.
pub(in crate::mock) fn input_items(body: &Value) -> Value {
    let items = match body["input"].as_str() {
        Some(text) => json!([{"id": "msg_mock_in_0", "type": "message", "role": "user",
            "status": "completed", "content": [{"type": "input_text", "text": text}]}]),
        None => body["input"].clone(),
    };
    let id = |item: Option<&Value>| item.map(|item| item["id"].clone());
    let (first, last) = (id(list(&items).first()), id(list(&items).last()));
    json!({"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": false})
}
