//! The strict checks of Cohere's requests, <https://docs.cohere.com/reference/chat>.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::strict::{At, Problems, is_bool, is_count, is_list, is_object, is_text, listed};

const FIELDS: &[&str] = &[
    "citation_options",
    "documents",
    "frequency_penalty",
    "k",
    "logprobs",
    "max_tokens",
    "messages",
    "model",
    "p",
    "presence_penalty",
    "priority",
    "raw_prompting",
    "response_format",
    "safety_mode",
    "seed",
    "stop_sequences",
    "stream",
    "strict_tools",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
];

/// Checks a chat.
pub(in crate::mock) fn check(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let top = At::top(body, true);
    top.fields(FIELDS, &["model", "messages"], problems);
    top.typed(&["model"], is_text, "a text", problems);
    top.typed(
        &["stream", "strict_tools", "logprobs", "raw_prompting"],
        is_bool,
        "true or false",
        problems,
    );
    top.typed(&["max_tokens"], is_count, "a whole number from 1", problems);
    top.typed(&["seed"], Value::is_u64, "a whole number", problems);
    top.typed(&["stop_sequences"], is_list, "a list", problems);
    top.range("temperature", 0.0, 1.0, problems);
    top.range("p", 0.01, 0.99, problems);
    top.range("k", 0.0, 500.0, problems);
    top.range("frequency_penalty", 0.0, 1.0, problems);
    top.range("presence_penalty", 0.0, 1.0, problems);
    top.one_of("tool_choice", &["REQUIRED", "NONE"], problems);
    top.one_of("safety_mode", &["CONTEXTUAL", "STRICT", "OFF"], problems);
    if let Some(thinking) = top.inner("thinking", problems) {
        thinking.fields(&["type", "token_budget"], &["type"], problems);
        thinking.one_of("type", &["enabled", "disabled"], problems);
    }
    if let Some(options) = top.inner("citation_options", problems) {
        options.fields(&["mode"], &[], problems);
    }
    if let Some(format) = top.inner("response_format", problems) {
        format.one_of("type", &["text", "json_object"], problems);
        format.fields(&["type", "schema", "json_schema"], &["type"], problems);
    }
    let tools = top.each("tools", problems);
    for tool in &tools {
        tool.fields(&["type", "function"], &["type", "function"], problems);
        if let Some(function) = tool.inner("function", problems) {
            let known = &["name", "description", "parameters"];
            function.fields(known, &["name", "parameters"], problems);
            function.typed(&["parameters"], is_object, "an object", problems);
            function.tool_name(256, problems);
        }
    }
    if tools.is_empty() && !top.get("tool_choice").is_null() {
        problems.add("`tool_choice` is given without `tools`");
    }
    check_messages(&top, problems);
}

fn check_messages(top: &At<'_>, problems: &mut Problems<'_>) {
    let messages = top.each("messages", problems);
    if messages.is_empty() {
        problems.add("`messages` is not a list with at least one message");
    }
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for message in &messages {
        message.one_of("role", &["system", "user", "assistant", "tool"], problems);
        let (known, kinds): (&[&str], &[&str]) = match message.text("role") {
            "assistant" => (
                &["role", "content", "tool_calls", "tool_plan", "citations"],
                &["text", "thinking"],
            ),
            "tool" => (&["role", "content", "tool_call_id"], &["text", "document"]),
            "user" => (&["role", "content"], &["text", "image_url"]),
            _ => (&["role", "content"], &["text"]),
        };
        message.fields(known, &["role"], problems);
        if !message.get("content").is_string() {
            for part in message.each("content", problems) {
                part.one_of("type", kinds, problems);
                let kind = part.text("type");
                part.fields(&["type", kind], &["type", kind], problems);
            }
        }
        for call in message.each("tool_calls", problems) {
            call.fields(
                &["id", "type", "function"],
                &["id", "type", "function"],
                problems,
            );
            if let Some(function) = call.inner("function", problems) {
                function.fields(&["name", "arguments"], &["name", "arguments"], problems);
                function.typed(&["name", "arguments"], is_text, "a text", problems);
            }
            open.insert(call.text("id"));
        }
        if message.text("role") == "tool" && !open.remove(message.text("tool_call_id")) {
            problems.add(format_args!(
                "{}`tool_call_id` {:?} answers no call before it",
                message.place,
                message.text("tool_call_id")
            ));
        }
    }
    if !open.is_empty() {
        problems.add(format_args!(
            "`messages` ends without a result for the calls {}",
            listed(&open)
        ));
    }
}

/// Checks an embedding.
pub(in crate::mock) fn check_embedding(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let top = At::top(body, true);
    let known = &[
        "embedding_types",
        "images",
        "input_type",
        "inputs",
        "max_tokens",
        "model",
        "output_dimension",
        "priority",
        "texts",
        "truncate",
    ];
    top.fields(known, &["model", "input_type"], problems);
    top.typed(
        &["texts", "images", "embedding_types"],
        is_list,
        "a list",
        problems,
    );
    top.one_of("truncate", &["NONE", "START", "END"], problems);
    let sources = ["texts", "images", "inputs"];
    if sources
        .iter()
        .filter(|name| !top.get(name).is_null())
        .count()
        != 1
    {
        problems.add("not one of `texts`, `images` and `inputs` is given");
    }
}

/// Checks a reranking.
pub(in crate::mock) fn check_rerank(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let top = At::top(body, true);
    let known = &[
        "documents",
        "max_tokens_per_doc",
        "model",
        "priority",
        "query",
        "top_n",
    ];
    top.fields(known, &["model", "query", "documents"], problems);
    top.typed(&["query", "model"], is_text, "a text", problems);
    top.typed(
        &["documents"],
        |value| {
            value
                .as_array()
                .is_some_and(|list| list.iter().all(Value::is_string))
        },
        "a list of texts",
        problems,
    );
    top.typed(
        &["top_n", "max_tokens_per_doc"],
        is_count,
        "a whole number from 1",
        problems,
    );
}
