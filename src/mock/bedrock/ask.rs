//! What is asked for in Converse's words.

use serde_json::{Value, json};

use super::super::request::{Asked, list, sample};

/// Reads the body of a Converse.
pub(in crate::mock) fn read(asked: &mut Asked, body: &Value) {
    asked.hear_messages(body);
    let config = &body["toolConfig"];
    let choice = &config["toolChoice"];
    let wanted = choice["tool"]["name"].as_str();
    if wanted.is_some() || choice.get("any").is_some() {
        let tools = list(&config["tools"]).iter().map(|tool| &tool["toolSpec"]);
        asked.force(tools, wanted, |tool| sample(&tool["inputSchema"]["json"]));
    }
    let format = &body["outputConfig"]["textFormat"];
    if format["type"] == "json_schema" {
        // The schema is JSON in a text.
        let schema = format["structure"]["jsonSchema"]["schema"].as_str();
        let schema = schema.and_then(|text| serde_json::from_str::<Value>(text).ok());
        asked.document = Some(match schema {
            Some(schema) => sample(&schema).to_string(),
            None => json!({ "echo": asked.last_text }).to_string(),
        });
    }
}
