//! What is asked for in Gemini's words.

use serde_json::{Value, json};

use super::super::request::{Asked, list, sample, text_of};

/// Reads the body of a `generateContent`.
pub(in crate::mock) fn read(asked: &mut Asked, body: &Value) {
    let config = either(body, "generationConfig", "generation_config");
    asked.count_answers(either(config, "candidateCount", "candidate_count"));
    let system = either(body, "systemInstruction", "system_instruction");
    let before = text_of(&system["parts"]).chars().count();
    match body["contents"].as_array() {
        Some(contents) => asked.hear(
            contents.iter().map(|content| {
                // A role that is not told is the user's.
                (content["role"] != "model", text_of(&content["parts"]))
            }),
            before,
        ),
        None => asked.hear(std::iter::empty(), before),
    }
    let choice = either(
        either(body, "toolConfig", "tool_config"),
        "functionCallingConfig",
        "function_calling_config",
    );
    if choice["mode"]
        .as_str()
        .is_some_and(|mode| mode.eq_ignore_ascii_case("any"))
    {
        let names = list(either(
            choice,
            "allowedFunctionNames",
            "allowed_function_names",
        ));
        let functions = list(&body["tools"]).iter().flat_map(|tool| {
            list(either(
                tool,
                "functionDeclarations",
                "function_declarations",
            ))
        });
        asked.force(functions, names.first().and_then(Value::as_str), |tool| {
            let schema = either(tool, "parametersJsonSchema", "parameters_json_schema");
            sample(if schema.is_null() {
                &tool["parameters"]
            } else {
                schema
            })
        });
    }
    let modalities = either(config, "responseModalities", "response_modalities");
    asked.image = list(modalities).iter().any(|modality| modality == "IMAGE");
    let media_type = either(config, "responseMimeType", "response_mime_type");
    if media_type != "application/json" {
        return;
    }
    let schema = either(config, "responseJsonSchema", "response_json_schema");
    let schema = if schema.is_null() {
        either(config, "responseSchema", "response_schema")
    } else {
        schema
    };
    asked.document = Some(if schema.is_null() {
        json!({ "echo": asked.last_text }).to_string()
    } else {
        sample(schema).to_string()
    });
}

/// Returns a field by either of its spellings: both are taken.
pub(in crate::mock) fn either<'v>(object: &'v Value, camel: &str, snake: &str) -> &'v Value {
    object.get(camel).unwrap_or(&object[snake])
}
