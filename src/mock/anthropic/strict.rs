//! The strict check of an Anthropic messages request, <https://docs.anthropic.com/en/api/messages>.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use super::super::dialect::Dialect;
use super::super::strict::{At, Problems, is_bool, is_count, is_list, is_object, is_text, listed};

/// Checks a count, which takes the fields that add tokens.
pub(in crate::mock) fn check_count(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let top = At::top(body, false);
    let known = &[
        "cache_control",
        "context_management",
        "mcp_servers",
        "messages",
        "model",
        "output_config",
        "output_format",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    ];
    top.fields(known, &["model", "messages"], problems);
    check_tools(&top, problems);
    check_messages(top.get("messages"), problems);
}

const FIELDS: &[&str] = &[
    "billing_policy",
    "cache_control",
    "compaction",
    "container",
    "context_management",
    "diagnostics",
    "fallback_credit_token",
    "fallbacks",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "thread",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
    "user_profile_id",
    "workspace_id",
];

pub(in crate::mock) fn check(
    body: &Map<String, Value>,
    dialect: Dialect,
    problems: &mut Problems<'_>,
) {
    let top = At::top(body, false);
    check_envelope(&top, dialect, problems);
    top.typed(&["model"], is_text, "a text", problems);
    top.typed(&["stream"], is_bool, "true or false", problems);
    top.typed(&["max_tokens"], is_count, "a whole number from 1", problems);
    top.typed(&["top_k"], Value::is_u64, "a whole number", problems);
    top.typed(
        &["stop_sequences"],
        |list| {
            list.as_array().is_some_and(|list| {
                list.iter()
                    .all(|text| text.as_str().is_some_and(|text| !text.trim().is_empty()))
            })
        },
        "a list of texts that are not blank",
        problems,
    );
    top.range("temperature", 0.0, 1.0, problems);
    top.range("top_p", 0.0, 1.0, problems);
    top.one_of("service_tier", &["auto", "standard_only"], problems);
    if let Some(metadata) = top.inner("metadata", problems) {
        metadata.fields(&["user_id"], &[], problems);
        metadata.typed(
            &["user_id"],
            |id| id.is_string() || id.is_null(),
            "a text",
            problems,
        );
    }
    if let Some(config) = top.inner("output_config", problems) {
        config.fields(&["effort", "format", "task_budget"], &[], problems);
        config.one_of(
            "effort",
            &["low", "medium", "high", "xhigh", "max"],
            problems,
        );
        if let Some(format) = config.inner("format", problems) {
            format.fields(&["type", "schema"], &["type", "schema"], problems);
            format.one_of("type", &["json_schema"], problems);
            format.typed(&["schema"], is_object, "an object", problems);
        }
    }
    for name in ["billing_policy", "compaction", "diagnostics", "thread"] {
        top.typed(
            &[name],
            |value| value.is_object() || value.is_null(),
            "an object",
            problems,
        );
    }
    top.typed(
        &["fallbacks"],
        |value| match value {
            Value::Array(list) => list.iter().all(Value::is_object),
            Value::String(word) => word == "default",
            Value::Null => true,
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
        },
        "a list of objects (one of names is the gateway's own)",
        problems,
    );
    top.typed(
        &["user_profile_id", "workspace_id"],
        is_text,
        "a text",
        problems,
    );
    check_thinking(&top, problems);
    check_tools(&top, problems);
    match top.get("system") {
        Value::Null if !body.contains_key("system") => {}
        Value::String(_) => {}
        Value::Array(parts) => {
            for (at, part) in parts.iter().enumerate() {
                check_block(&format!("system[{at}]"), part, &["text"], problems);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            problems.add("`system` is not a text or a list of text blocks");
        }
    }
    check_messages(top.get("messages"), problems);
}

/// Checks which fields there are: two platforms name the model in the path, and the version in the body.
fn check_envelope(top: &At<'_>, dialect: Dialect, problems: &mut Problems<'_>) {
    let (version, in_path): (&str, &[&str]) = match dialect {
        Dialect::VertexAnthropic => ("vertex-2023-10-16", &["model"]),
        Dialect::BedrockInvoke => ("bedrock-2023-05-31", &["model", "stream"]),
        Dialect::OpenaiChat
        | Dialect::OpenaiCompletions
        | Dialect::OpenaiResponses
        | Dialect::Openai
        | Dialect::Anthropic
        | Dialect::Gemini
        | Dialect::VertexPredict
        | Dialect::Bedrock
        | Dialect::Cohere
        | Dialect::Ollama => {
            return top.fields(FIELDS, &["model", "messages", "max_tokens"], problems);
        }
    };
    let mut known: Vec<&str> = vec!["anthropic_version", "anthropic_beta"];
    known.extend(FIELDS.iter().filter(|name| !in_path.contains(name)));
    let needed = &["anthropic_version", "messages", "max_tokens"];
    top.fields(&known, needed, problems);
    top.one_of("anthropic_version", &[version], problems);
    top.typed(&["anthropic_beta"], is_list, "a list", problems);
}

fn check_thinking(top: &At<'_>, problems: &mut Problems<'_>) {
    let Some(thinking) = top.inner("thinking", problems) else {
        return;
    };
    thinking.one_of(
        "type",
        &["enabled", "disabled", "adaptive", "between_tools"],
        problems,
    );
    let kind = thinking.text("type");
    let (known, needed): (&[&str], &[&str]) = match kind {
        "enabled" => (&["type", "budget_tokens", "display"], &["budget_tokens"]),
        "adaptive" => (&["type", "display"], &[]),
        _ => (&["type"], &[]),
    };
    thinking.fields(known, needed, problems);
    if kind != "enabled" && kind != "adaptive" {
        return;
    }
    if let Some(budget) = thinking.object.get("budget_tokens") {
        if budget.as_u64().is_none_or(|budget| budget < 1024) {
            problems.add("thinking: `budget_tokens` is not a whole number from 1024");
        }
        if budget.as_u64() >= top.get("max_tokens").as_u64() {
            problems.add("`max_tokens` is not more than `thinking.budget_tokens`");
        }
    }
    if top
        .object
        .get("temperature")
        .is_some_and(|temperature| temperature.as_f64() != Some(1.0))
    {
        problems.add("`temperature` is not 1 although thinking is on");
    }
    if top.object.contains_key("top_k") {
        problems.add("`top_k` is given although thinking is on");
    }
    if kind == "enabled"
        && matches!(
            top.get("tool_choice")["type"].as_str(),
            Some("any" | "tool")
        )
    {
        problems.add("`tool_choice` forces a tool although thinking is on");
    }
}

fn check_tools(top: &At<'_>, problems: &mut Problems<'_>) {
    top.typed(&["tools"], is_list, "a list", problems);
    let tools = top.get("tools").as_array().map_or(&[][..], Vec::as_slice);
    let mut names = HashSet::new();
    for (at, tool) in tools.iter().enumerate() {
        let Some(tool) = At::new(format!("tools[{at}]"), tool, problems) else {
            continue;
        };
        if matches!(tool.get("type"), Value::Null) || tool.text("type") == "custom" {
            tool.fields(
                &[
                    "type",
                    "name",
                    "description",
                    "input_schema",
                    "cache_control",
                    "strict",
                    "input_examples",
                    "defer_loading",
                    "allowed_callers",
                    "eager_input_streaming",
                ],
                &["name", "input_schema"],
                problems,
            );
            if tool.object.contains_key("type") && tool.get("type").is_null() {
                problems.add(format_args!("{}`type` is null", tool.place));
            }
            tool.typed(&["description"], is_text, "a text", problems);
            tool.tool_name(128, problems);
            if tool.get("input_schema")["type"] != "object" {
                problems.add(format_args!(
                    "{}`input_schema.type` is not \"object\"",
                    tool.place
                ));
            }
        }
        if !names.insert(tool.text("name")) {
            problems.add(format_args!(
                "tools[{at}]: a tool of that name was given before"
            ));
        }
    }
    let Some(choice) = top.inner("tool_choice", problems) else {
        return;
    };
    choice.one_of("type", &["auto", "any", "tool", "none"], problems);
    let known: &[&str] = match choice.text("type") {
        "tool" => &["type", "name", "disable_parallel_tool_use"],
        "none" => &["type"],
        _ => &["type", "disable_parallel_tool_use"],
    };
    choice.fields(known, &["type"], problems);
    choice.typed(
        &["disable_parallel_tool_use"],
        is_bool,
        "true or false",
        problems,
    );
    if tools.is_empty() {
        problems.add("`tool_choice` is given without `tools`");
    } else if choice.text("type") == "tool" && !names.contains(choice.text("name")) {
        problems.add("`tool_choice` names a tool that is not among `tools`");
    }
}

fn check_messages(messages: &Value, problems: &mut Problems<'_>) {
    let Some(messages) = messages.as_array().filter(|messages| !messages.is_empty()) else {
        return problems.add("`messages` is not a list with at least one message");
    };
    if messages[0]["role"] != "user" {
        problems.add("messages[0]: the first role is not \"user\"");
    }
    // The calls of a turn, which the next one must answer. Messages of one role in a row are one turn.
    let mut open: BTreeSet<&str> = BTreeSet::new();
    let mut was_user = true;
    let mut is_past_results = false;
    for (at, message) in messages.iter().enumerate() {
        let Some(message) = At::new(format!("messages[{at}]"), message, problems) else {
            continue;
        };
        message.fields(&["role", "content"], &["role", "content"], problems);
        message.one_of("role", &["user", "assistant", "system"], problems);
        if message.text("role") == "system" {
            // A reminder amid the conversation: it neither ends a turn nor begins one.
            let blocks = content(&message, true, false, problems);
            for (number, block) in blocks.iter().enumerate() {
                let place = format!("{}[{number}]", message.name("content"));
                check_block(&place, block, &["text"], problems);
            }
            continue;
        }
        let is_user = message.text("role") == "user";
        if was_user && !is_user && !open.is_empty() {
            let calls = listed(&open);
            problems.add(format_args!(
                "{}there is no result before it for the calls {calls}",
                message.place
            ));
            open.clear();
        }
        is_past_results &= is_user == was_user;
        was_user = is_user;
        let blocks = content(&message, is_user, at + 1 == messages.len(), problems);
        for (number, block) in blocks.iter().enumerate() {
            let place = format!("{}[{number}]", message.name("content"));
            check_block(
                &place,
                block,
                if is_user {
                    USER_BLOCKS
                } else {
                    ASSISTANT_BLOCKS
                },
                problems,
            );
            match block["type"].as_str() {
                Some("tool_use") => {
                    let id = block["id"].as_str().unwrap_or("");
                    if !open.insert(id) {
                        problems.add(format_args!("{place}: the id {id:?} was used before"));
                    }
                }
                Some("tool_result") => {
                    let id = block["tool_use_id"].as_str().unwrap_or("");
                    if !open.remove(id) {
                        problems.add(format_args!(
                            "{place}: `tool_use_id` {id:?} answers no call of the turn before"
                        ));
                    }
                    if is_past_results {
                        problems.add(format_args!("{place}: a result comes after other blocks"));
                    }
                }
                Some(_) | None => is_past_results = true,
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

/// Returns the blocks of a message; a plain text has none.
fn content<'a>(
    message: &At<'a>,
    is_user: bool,
    is_last: bool,
    problems: &mut Problems<'_>,
) -> &'a [Value] {
    match message.get("content") {
        Value::String(text) => {
            // An empty last word of the assistant's is a start to go on from.
            if text.is_empty() && (is_user || !is_last) {
                problems.add(format_args!("{}`content` is empty", message.place));
            }
            &[]
        }
        Value::Array(blocks) => {
            if blocks.is_empty() {
                problems.add(format_args!("{}`content` is an empty list", message.place));
            }
            blocks
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            problems.add(format_args!(
                "{}`content` is not a text or a list of blocks",
                message.place
            ));
            &[]
        }
    }
}

const USER_BLOCKS: &[&str] = &[
    "text",
    "image",
    "document",
    "search_result",
    "tool_result",
    "container_upload",
    "tool_reference",
];
const ASSISTANT_BLOCKS: &[&str] = &["text", "thinking", "redacted_thinking", "tool_use"];
const RESULT_BLOCKS: &[&str] = &[
    "text",
    "image",
    "document",
    "search_result",
    "tool_reference",
];

fn check_block(place: &str, block: &Value, kinds: &[&str], problems: &mut Problems<'_>) {
    let Some(block) = At::new(place.to_owned(), block, problems) else {
        return;
    };
    let kind = block.text("type");
    if kind.starts_with("server_")
        || kind.starts_with("mcp_")
        || (kind != "tool_result" && kind.ends_with("_tool_result"))
    {
        return;
    }
    block.one_of("type", kinds, problems);
    if !kinds.contains(&kind) {
        if kind.is_empty() {
            problems.add(format_args!("{}`type` is missing", block.place));
        }
        return;
    }
    let (known, needed): (&[&str], &[&str]) = match kind {
        "text" => (&["type", "text", "cache_control", "citations"], &["text"]),
        "image" => (&["type", "source", "cache_control"], &["source"]),
        "document" => (
            &[
                "type",
                "source",
                "title",
                "context",
                "citations",
                "cache_control",
            ],
            &["source"],
        ),
        "search_result" => (
            &[
                "type",
                "source",
                "title",
                "content",
                "citations",
                "cache_control",
            ],
            &["source", "title", "content"],
        ),
        "thinking" => (
            &["type", "thinking", "signature"],
            &["thinking", "signature"],
        ),
        "redacted_thinking" => (&["type", "data"], &["data"]),
        "tool_use" => (
            &["type", "id", "name", "input", "cache_control", "caller"],
            &["id", "name", "input"],
        ),
        "tool_result" => (
            &[
                "type",
                "tool_use_id",
                "content",
                "is_error",
                "cache_control",
            ],
            &["tool_use_id"],
        ),
        "container_upload" => (&["type", "file_id", "cache_control"], &["file_id"]),
        _ => (&["type", "tool_name", "cache_control"], &["tool_name"]),
    };
    block.fields(known, needed, problems);
    block.typed(
        &[
            "text",
            "thinking",
            "signature",
            "data",
            "id",
            "name",
            "tool_use_id",
        ],
        is_text,
        "a text",
        problems,
    );
    block.typed(&["is_error"], is_bool, "true or false", problems);
    block.typed(&["input"], is_object, "an object", problems);
    if let Some(cache) = block
        .object
        .get("cache_control")
        .filter(|cache| !cache.is_null())
        && let Some(cache) = At::new(block.name("cache_control"), cache, problems)
    {
        cache.fields(&["type", "ttl"], &["type"], problems);
        cache.one_of("type", &["ephemeral"], problems);
        cache.one_of("ttl", &["5m", "1h"], problems);
    }
    if kind == "text" && block.get("text").as_str().is_some_and(str::is_empty) {
        problems.add(format_args!("{}`text` is empty", block.place));
    }
    if matches!(kind, "image" | "document") {
        check_source(&block, kind, problems);
    }
    if kind == "tool_result" {
        for (at, part) in block
            .get("content")
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            check_block(
                &format!("{}[{at}]", block.name("content")),
                part,
                RESULT_BLOCKS,
                problems,
            );
        }
        block.typed(
            &["content"],
            |content| content.is_string() || content.is_array(),
            "a text or a list",
            problems,
        );
    }
}

fn check_source(block: &At<'_>, kind: &str, problems: &mut Problems<'_>) {
    let Some(source) = block.inner("source", problems) else {
        return;
    };
    let kinds: &[&str] = if kind == "image" {
        &["base64", "url", "file"]
    } else {
        &["base64", "url", "file", "text", "content"]
    };
    source.one_of("type", kinds, problems);
    let (known, needed): (&[&str], &[&str]) = match source.text("type") {
        "base64" | "text" => (&["type", "media_type", "data"], &["media_type", "data"]),
        "url" => (&["type", "url"], &["url"]),
        "file" => (&["type", "file_id"], &["file_id"]),
        "content" => (&["type", "content"], &["content"]),
        _ => (&["type"], &["type"]),
    };
    source.fields(known, needed, problems);
    if source.text("type") == "base64" {
        let types: &[&str] = if kind == "image" {
            &["image/jpeg", "image/png", "image/gif", "image/webp"]
        } else {
            &["application/pdf"]
        };
        source.one_of("media_type", types, problems);
    }
}
