//! What is asked for in Anthropic's words.

use serde_json::Value;

use super::super::request::{Asked, list, sample};

/// Reads the body of a message request.
pub(in crate::mock) fn read(asked: &mut Asked, body: &Value) {
    asked.hear_messages(body);
    let choice = &body["tool_choice"];
    if choice["type"] == "tool" || choice["type"] == "any" {
        let tools = list(&body["tools"]).iter();
        asked.force(tools, choice["name"].as_str(), |tool| {
            sample(&tool["input_schema"])
        });
    }
    for format in [&body["output_config"]["format"], &body["output_format"]] {
        if format["type"] == "json_schema" {
            asked.document = Some(sample(&format["schema"]).to_string());
        }
    }
}
