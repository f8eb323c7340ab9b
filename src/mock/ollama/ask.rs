//! What is asked for in Ollama's words.

use serde_json::{Value, json};

use super::super::request::{Asked, sample};

/// Reads the body of a chat.
pub(in crate::mock) fn read(asked: &mut Asked, body: &Value) {
    asked.hear_messages(body);
    match &body["format"] {
        Value::String(format) if format == "json" => {
            asked.document = Some(json!({ "echo": asked.last_text }).to_string());
        }
        schema @ Value::Object(_) => asked.document = Some(sample(schema).to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {}
    }
}
