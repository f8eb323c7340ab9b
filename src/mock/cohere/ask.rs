//! What is asked for in Cohere's words.

use serde_json::{Value, json};

use super::super::request::{Asked, list, sample};

/// Reads the body of a chat.
pub(in crate::mock) fn read(asked: &mut Asked, body: &Value) {
    asked.hear_messages(body);
    if body["tool_choice"] == "REQUIRED" {
        let functions = list(&body["tools"]).iter().map(|tool| &tool["function"]);
        asked.force(functions, None, |tool| sample(&tool["parameters"]));
    }
    let format = &body["response_format"];
    if format["type"] == "json_object" {
        let schema = format.get("schema").unwrap_or(&format["json_schema"]);
        asked.document = Some(if schema.is_null() {
            json!({ "echo": asked.last_text }).to_string()
        } else {
            sample(schema).to_string()
        });
    }
}
