//! The strict check of a Converse request,
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::strict::{At, Problems, is_count, is_list, is_object, is_text, listed};

const FIELDS: &[&str] = &[
    "additionalModelRequestFields",
    "additionalModelResponseFieldPaths",
    "guardrailConfig",
    "inferenceConfig",
    "messages",
    "outputConfig",
    "performanceConfig",
    "promptVariables",
    "requestMetadata",
    "serviceTier",
    "system",
    "toolConfig",
];

/// What a block of a message may hold, one of each.
const BLOCKS: &[&str] = &[
    "audio",
    "cachePoint",
    "citationsContent",
    "document",
    "guardContent",
    "image",
    "reasoningContent",
    "searchResult",
    "text",
    "toolResult",
    "toolUse",
    "video",
];

/// Checks a Converse.
pub(in crate::mock) fn check(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let top = At::top(body, false);
    top.fields(FIELDS, &["messages"], problems);
    if let Some(config) = top.inner("inferenceConfig", problems) {
        let known = &["maxTokens", "stopSequences", "temperature", "topP"];
        config.fields(known, &[], problems);
        config.typed(&["maxTokens"], is_count, "a whole number from 1", problems);
        config.typed(&["stopSequences"], is_list, "a list", problems);
        config.range("temperature", 0.0, 1.0, problems);
        config.range("topP", 0.0, 1.0, problems);
    }
    if let Some(config) = top.inner("outputConfig", problems) {
        config.fields(&["textFormat", "effort"], &[], problems);
        if let Some(format) = config.inner("textFormat", problems) {
            format.fields(&["type", "structure"], &["type", "structure"], problems);
            format.one_of("type", &["json_schema"], problems);
            let schema = &format.get("structure")["jsonSchema"]["schema"];
            if !schema.is_string() {
                problems.add(format_args!("{}the schema is not a text", format.place));
            }
        }
    }
    if let Some(config) = top.inner("performanceConfig", problems) {
        config.fields(&["latency"], &[], problems);
    }
    if let Some(tier) = top.inner("serviceTier", problems) {
        tier.fields(&["type"], &["type"], problems);
    }
    if let Some(guardrail) = top.inner("guardrailConfig", problems) {
        let known = &[
            "guardrailIdentifier",
            "guardrailVersion",
            "streamProcessingMode",
            "trace",
        ];
        guardrail.fields(known, &[], problems);
    }
    top.typed(
        &["requestMetadata", "promptVariables"],
        is_object,
        "an object",
        problems,
    );
    for block in top.each("system", problems) {
        one(&block, &["text", "cachePoint", "guardContent"], problems);
    }
    check_tools(&top, problems);
    check_messages(&top, problems);
}

fn check_tools(top: &At<'_>, problems: &mut Problems<'_>) {
    let Some(config) = top.inner("toolConfig", problems) else {
        return;
    };
    config.fields(&["tools", "toolChoice"], &["tools"], problems);
    let mut names = BTreeSet::new();
    let tools = config.each("tools", problems);
    if tools.is_empty() {
        problems.add("toolConfig: `tools` is empty");
    }
    for tool in tools {
        one(&tool, &["toolSpec", "cachePoint", "systemTool"], problems);
        if let Some(spec) = tool.inner("toolSpec", problems) {
            let known = &["name", "description", "inputSchema", "strict"];
            spec.fields(known, &["name", "inputSchema"], problems);
            spec.tool_name(64, problems);
            if spec.object.contains_key("description") && spec.text("description").is_empty() {
                problems.add(format_args!("{}`description` is empty", spec.place));
            }
            if let Some(schema) = spec.inner("inputSchema", problems) {
                schema.fields(&["json"], &["json"], problems);
                schema.typed(&["json"], is_object, "an object", problems);
            }
            names.insert(spec.text("name"));
        }
    }
    if let Some(choice) = config.inner("toolChoice", problems) {
        one(&choice, &["auto", "any", "tool"], problems);
        if let Some(tool) = choice.inner("tool", problems) {
            tool.fields(&["name"], &["name"], problems);
            if !names.contains(tool.text("name")) {
                problems.add("toolConfig: `toolChoice` names a tool that is not among `tools`");
            }
        }
    }
}

fn check_messages(top: &At<'_>, problems: &mut Problems<'_>) {
    let messages = top.each("messages", problems);
    if messages
        .first()
        .is_none_or(|first| first.text("role") != "user")
    {
        problems.add("messages[0]: the first role is not \"user\"");
    }
    let has_tools = top.object.contains_key("toolConfig");
    let mut open: BTreeSet<&str> = BTreeSet::new();
    let mut last = "";
    for message in &messages {
        message.fields(&["role", "content"], &["role", "content"], problems);
        message.one_of("role", &["user", "assistant"], problems);
        let role = message.text("role");
        if role == last {
            problems.add(format_args!("{}two turns of one role", message.place));
        }
        last = role;
        if role == "assistant" && !open.is_empty() {
            problems.add(format_args!(
                "{}there is no result before it for the calls {}",
                message.place,
                listed(&open)
            ));
            open.clear();
        }
        let blocks = message.each("content", problems);
        if blocks.is_empty() {
            problems.add(format_args!("{}`content` is empty", message.place));
        }
        for block in &blocks {
            check_block(block, &mut open, problems);
            let is_tool = ["toolUse", "toolResult"]
                .iter()
                .any(|name| block.object.contains_key(*name));
            if is_tool && !has_tools {
                problems.add(format_args!("{}there is no `toolConfig`", block.place));
            }
        }
    }
    if !open.is_empty() {
        problems.add(format_args!(
            "`messages` ends with no result for the calls {}",
            listed(&open)
        ));
    }
}

fn check_block<'v>(block: &At<'v>, open: &mut BTreeSet<&'v str>, problems: &mut Problems<'_>) {
    one(block, BLOCKS, problems);
    block.typed(&["text"], is_text, "a text", problems);
    if block.object.contains_key("text") && block.text("text").trim().is_empty() {
        problems.add(format_args!("{}`text` is blank", block.place));
    }
    if let Some(tool) = block.inner("toolUse", problems) {
        let known = &["toolUseId", "name", "input", "type"];
        tool.fields(known, &["toolUseId", "name", "input"], problems);
        tool.typed(&["input"], is_object, "an object", problems);
        open.insert(tool.text("toolUseId"));
    }
    if let Some(result) = block.inner("toolResult", problems) {
        let known = &["toolUseId", "content", "status", "type"];
        result.fields(known, &["toolUseId", "content"], problems);
        result.one_of("status", &["success", "error"], problems);
        for part in result.each("content", problems) {
            let kinds = &["text", "json", "image", "document", "video", "searchResult"];
            one(&part, kinds, problems);
        }
        if !open.remove(result.text("toolUseId")) {
            problems.add(format_args!(
                "{}`toolUseId` {:?} answers no call before it",
                result.place,
                result.text("toolUseId")
            ));
        }
    }
    if let Some(reasoning) = block.inner("reasoningContent", problems) {
        one(&reasoning, &["reasoningText", "redactedContent"], problems);
        if let Some(text) = reasoning.inner("reasoningText", problems) {
            text.fields(&["text", "signature"], &["text"], problems);
        }
    }
    for kind in ["image", "document", "video", "audio"] {
        if let Some(media) = block.inner(kind, problems) {
            let known = &["format", "source", "name", "context", "citations"];
            let known = if kind == "document" {
                &known[..]
            } else {
                &known[..2]
            };
            media.fields(known, &["format", "source"], problems);
            if let Some(source) = media.inner("source", problems) {
                one(
                    &source,
                    &["bytes", "s3Location", "text", "content"],
                    problems,
                );
            }
        }
    }
    if let Some(point) = block.inner("cachePoint", problems) {
        point.fields(&["type", "ttl"], &["type"], problems);
        point.one_of("type", &["default"], problems);
    }
}

/// Reports what doesn't hold exactly one of `kinds`.
fn one(at: &At<'_>, kinds: &[&str], problems: &mut Problems<'_>) {
    at.fields(kinds, &[], problems);
    if at.object.len() != 1 {
        problems.add(format_args!("{}does not hold one thing", at.place));
    }
}
