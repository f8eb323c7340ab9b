//! The strict check of an OpenAI chat request, <https://platform.openai.com/docs/api-reference/chat/create>.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use super::super::strict::{At, Problems, is_bool, is_count, is_list, is_object, is_text, listed};

const FIELDS: &[&str] = &[
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "modalities",
    "model",
    "moderation",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];

pub(in crate::mock) fn check(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let top = At::top(body, true);
    top.fields(FIELDS, &["model", "messages"], problems);
    top.typed(
        &[
            "model",
            "user",
            "safety_identifier",
            "prompt_cache_key",
            "service_tier",
            "verbosity",
        ],
        is_text,
        "a text",
        problems,
    );
    top.typed(
        &["stream", "logprobs", "parallel_tool_calls", "store"],
        is_bool,
        "true or false",
        problems,
    );
    top.typed(
        &["max_tokens", "max_completion_tokens", "n"],
        is_count,
        "a whole number from 1",
        problems,
    );
    top.typed(
        &["seed"],
        |value| value.is_i64() || value.is_u64(),
        "a whole number",
        problems,
    );
    top.typed(
        &["metadata", "logit_bias"],
        is_object,
        "an object",
        problems,
    );
    top.typed(
        &["stop"],
        |stop| match stop.as_array() {
            Some(list) => list.len() <= 4 && list.iter().all(Value::is_string),
            None => stop.is_string() || stop.is_null(),
        },
        "a text or a list of at most 4 texts",
        problems,
    );
    top.range("temperature", 0.0, 2.0, problems);
    top.range("top_p", 0.0, 1.0, problems);
    top.range("frequency_penalty", -2.0, 2.0, problems);
    top.range("presence_penalty", -2.0, 2.0, problems);
    top.range("top_logprobs", 0.0, 20.0, problems);
    top.one_of(
        "reasoning_effort",
        &["none", "minimal", "low", "medium", "high", "xhigh", "max"],
        problems,
    );
    if body.contains_key("top_logprobs") && body.get("logprobs") != Some(&Value::Bool(true)) {
        problems.add("`top_logprobs` is given without `logprobs`");
    }
    if body.contains_key("max_tokens") && body.contains_key("max_completion_tokens") {
        problems.add("`max_tokens` and `max_completion_tokens` are both given");
    }
    if let Some(options) = top.inner("stream_options", problems) {
        options.fields(&["include_usage", "include_obfuscation"], &[], problems);
        options.typed(
            &["include_usage", "include_obfuscation"],
            is_bool,
            "true or false",
            problems,
        );
        if body.get("stream") != Some(&Value::Bool(true)) {
            problems.add("`stream_options` is given without `stream`");
        }
    }
    if let Some(format) = top.inner("response_format", problems) {
        check_format(&format, problems);
    }
    check_tools(&top, problems);
    check_messages(top.get("messages"), problems);
}

fn check_format(format: &At<'_>, problems: &mut Problems<'_>) {
    format.one_of("type", &["text", "json_object", "json_schema"], problems);
    let is_schema = format.text("type") == "json_schema";
    let known: &[&str] = if is_schema {
        &["type", "json_schema"]
    } else {
        &["type"]
    };
    format.fields(known, known, problems);
    if let Some(schema) = format.inner("json_schema", problems) {
        schema.fields(
            &["name", "description", "schema", "strict"],
            &["name"],
            problems,
        );
        schema.typed(&["schema"], is_object, "an object", problems);
        schema.tool_name(64, problems);
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
        tool.one_of("type", &["function", "custom"], problems);
        let kind = if tool.text("type") == "custom" {
            "custom"
        } else {
            "function"
        };
        tool.fields(&["type", kind], &["type", kind], problems);
        let Some(inner) = tool.inner(kind, problems) else {
            continue;
        };
        if kind == "function" {
            inner.fields(
                &["name", "description", "parameters", "strict"],
                &["name"],
                problems,
            );
            inner.typed(&["parameters"], is_object, "an object", problems);
            inner.typed(
                &["strict"],
                |strict| strict.is_boolean() || strict.is_null(),
                "true or false",
                problems,
            );
        } else {
            inner.fields(&["name", "description", "format"], &["name"], problems);
        }
        inner.typed(&["description"], is_text, "a text", problems);
        inner.tool_name(64, problems);
        if !names.insert(inner.text("name")) {
            problems.add(format_args!(
                "tools[{at}]: a tool of that name was given before"
            ));
        }
    }
    if tools.is_empty() {
        if top.object.contains_key("tools") {
            problems.add("`tools` is empty");
        }
        for name in ["tool_choice", "parallel_tool_calls"] {
            if top.object.contains_key(name) && top.get(name) != "none" {
                problems.add(format_args!("`{name}` is given without `tools`"));
            }
        }
    }
    let choice = top.get("tool_choice");
    if choice.is_string() {
        top.one_of("tool_choice", &["none", "auto", "required"], problems);
    } else if let Some(choice) = top.inner("tool_choice", problems) {
        choice.one_of("type", &["function", "custom", "allowed_tools"], problems);
        let kind = choice.text("type");
        choice.fields(&["type", kind], &["type", kind], problems);
        let wanted = choice.get(kind)["name"].as_str();
        if kind != "allowed_tools" && !wanted.is_some_and(|name| names.contains(name)) {
            problems.add("`tool_choice` names a tool that is not among `tools`");
        }
    }
}

fn check_messages(messages: &Value, problems: &mut Problems<'_>) {
    let Some(messages) = messages.as_array().filter(|messages| !messages.is_empty()) else {
        return problems.add("`messages` is not a list with at least one message");
    };
    // The calls that the results to come must answer.
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (at, message) in messages.iter().enumerate() {
        let Some(message) = At::new(format!("messages[{at}]"), message, problems) else {
            continue;
        };
        let role = message.text("role");
        if role != "tool" && !open.is_empty() {
            problems.add(format_args!(
                "messages[{at}]: there is no result yet for the calls {}",
                listed(&open)
            ));
            open.clear();
        }
        let (known, needed, parts): (&[&str], &[&str], &[&str]) = match role {
            "system" | "developer" => (&["role", "content", "name"], &["content"], &["text"]),
            "user" => (
                &["role", "content", "name"],
                &["content"],
                &["text", "image_url", "input_audio", "file"],
            ),
            "assistant" => (
                &[
                    "role",
                    "content",
                    "name",
                    "refusal",
                    "audio",
                    "tool_calls",
                    "function_call",
                    "annotations",
                ],
                &[],
                &["text", "refusal"],
            ),
            "tool" => (
                &["role", "content", "tool_call_id", "name"],
                &["content", "tool_call_id"],
                &["text", "image_url"],
            ),
            "function" => (&["role", "content", "name"], &["content", "name"], &[]),
            other => {
                problems.add(format_args!(
                    "messages[{at}]: the role {other:?} is not known"
                ));
                continue;
            }
        };
        message.fields(known, needed, problems);
        message.typed(&["name", "tool_call_id"], is_text, "a text", problems);
        check_content(&message, role, parts, problems);
        if role == "assistant" {
            open = check_calls(&message, problems);
        }
        if role == "tool" {
            let id = message.text("tool_call_id");
            if !open.remove(id) {
                problems.add(format_args!(
                    "messages[{at}]: `tool_call_id` {id:?} answers no call before it"
                ));
            }
        }
    }
    if !open.is_empty() {
        problems.add(format_args!(
            "`messages` ends without a result for the calls {}",
            listed(&open)
        ));
    }
}

fn check_content(message: &At<'_>, role: &str, kinds: &[&str], problems: &mut Problems<'_>) {
    let content = message.get("content");
    if content.is_string() {
        return;
    }
    let Some(parts) = content.as_array() else {
        let says_else = ["tool_calls", "function_call", "refusal", "audio"]
            .into_iter()
            .any(|name| !message.get(name).is_null());
        if !(content.is_null() && role == "assistant" && says_else) {
            problems.add(format_args!(
                "{}`content` is not a text or a list of parts",
                message.place
            ));
        }
        return;
    };
    if parts.is_empty() {
        problems.add(format_args!("{}`content` is an empty list", message.place));
    }
    for (at, part) in parts.iter().enumerate() {
        let Some(part) = At::new(format!("{}[{at}]", message.name("content")), part, problems)
        else {
            continue;
        };
        part.one_of("type", kinds, problems);
        let kind = part.text("type");
        if !kinds.contains(&kind) {
            continue;
        }
        part.fields(&["type", kind], &["type", kind], problems);
        if matches!(kind, "text" | "refusal") {
            part.typed(&[kind], is_text, "a text", problems);
            continue;
        }
        let Some(inner) = part.inner(kind, problems) else {
            continue;
        };
        match kind {
            "image_url" => {
                inner.fields(&["url", "detail"], &["url"], problems);
                inner.one_of("detail", &["auto", "low", "high", "original"], problems);
                let url = inner.text("url");
                if !["https://", "http://", "data:image/"]
                    .iter()
                    .any(|start| url.starts_with(start))
                {
                    problems.add(format_args!(
                        "{}`url` is neither a web address nor image data",
                        inner.place
                    ));
                }
            }
            "input_audio" => {
                inner.fields(&["data", "format"], &["data", "format"], problems);
                inner.one_of("format", &["wav", "mp3"], problems);
            }
            _ => {
                inner.fields(&["file_data", "file_id", "filename"], &[], problems);
                if inner.object.contains_key("file_data") == inner.object.contains_key("file_id") {
                    problems.add(format_args!(
                        "{}needs one of `file_data` and `file_id`",
                        inner.place
                    ));
                }
            }
        }
    }
}

/// Checks the calls of an assistant message and returns their ids.
fn check_calls<'a>(message: &At<'a>, problems: &mut Problems<'_>) -> BTreeSet<&'a str> {
    let mut ids = BTreeSet::new();
    message.typed(&["tool_calls"], is_list, "a list", problems);
    let calls = message.get("tool_calls").as_array();
    if calls.is_some_and(Vec::is_empty) {
        problems.add(format_args!("{}`tool_calls` is empty", message.place));
    }
    for (at, call) in calls.into_iter().flatten().enumerate() {
        let Some(call) = At::new(
            format!("{}[{at}]", message.name("tool_calls")),
            call,
            problems,
        ) else {
            continue;
        };
        call.one_of("type", &["function", "custom"], problems);
        let kind = if call.text("type") == "custom" {
            "custom"
        } else {
            "function"
        };
        call.fields(&["id", "type", kind], &["id", "type", kind], problems);
        call.typed(&["id"], is_text, "a text", problems);
        if call.text("id").is_empty() {
            problems.add(format_args!("{}`id` is empty", call.place));
        }
        if let Some(inner) = call.inner(kind, problems) {
            let text = if kind == "custom" {
                "input"
            } else {
                "arguments"
            };
            inner.fields(&["name", text], &["name", text], problems);
            inner.typed(&[text], is_text, "a text", problems);
        }
        ids.insert(call.text("id"));
    }
    ids
}
