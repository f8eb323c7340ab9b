//! The strict checks of Ollama's requests, <https://github.com/ollama/ollama/blob/main/docs/api.md>.

use serde_json::{Map, Value};

use super::super::strict::{At, Problems, is_bool, is_list, is_object, is_text};

const FIELDS: &[&str] = &[
    "format",
    "keep_alive",
    "logprobs",
    "messages",
    "model",
    "options",
    "shift",
    "stream",
    "think",
    "tools",
    "top_logprobs",
    "truncate",
];

/// Those of `api.Options`.
const OPTIONS: &[&str] = &[
    "draft_num_predict",
    "embedding_only",
    "f16_kv",
    "frequency_penalty",
    "logits_all",
    "low_vram",
    "main_gpu",
    "min_p",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "num_batch",
    "num_ctx",
    "num_gpu",
    "num_keep",
    "num_predict",
    "num_thread",
    "numa",
    "penalize_newline",
    "presence_penalty",
    "repeat_last_n",
    "repeat_penalty",
    "seed",
    "stop",
    "temperature",
    "tfs_z",
    "top_k",
    "top_p",
    "typical_p",
    "use_mlock",
    "use_mmap",
    "vocab_only",
];

/// Checks a chat.
pub(in crate::mock) fn check(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let top = At::top(body, true);
    top.fields(FIELDS, &["model", "messages"], problems);
    top.typed(&["model"], is_text, "a text", problems);
    top.typed(&["stream"], is_bool, "true or false", problems);
    top.typed(
        &["think"],
        |value| value.is_boolean() || value.is_string(),
        "true, false or a level",
        problems,
    );
    top.typed(
        &["format"],
        |value| value.is_object() || value == "json" || value == "",
        "\"json\" or a schema",
        problems,
    );
    if let Some(options) = top.inner("options", problems) {
        options.fields(OPTIONS, &[], problems);
        options.typed(&["stop"], is_list, "a list", problems);
    }
    for tool in top.each("tools", problems) {
        tool.fields(&["type", "function"], &["type", "function"], problems);
        if let Some(function) = tool.inner("function", problems) {
            let known = &["name", "description", "parameters"];
            function.fields(known, &["name"], problems);
            function.typed(&["parameters"], is_object, "an object", problems);
        }
    }
    for message in top.each("messages", problems) {
        let known = &[
            "role",
            "content",
            "thinking",
            "images",
            "tool_calls",
            "tool_name",
            "tool_call_id",
        ];
        message.fields(known, &["role"], problems);
        message.one_of("role", &["system", "user", "assistant", "tool"], problems);
        message.typed(
            &["content", "thinking", "tool_name"],
            is_text,
            "a text",
            problems,
        );
        message.typed(
            &["images"],
            |value| {
                let is_data = |image: &Value| {
                    let image = image.as_str().unwrap_or("");
                    !image.is_empty() && !image.starts_with("data:") && !image.starts_with("http")
                };
                value
                    .as_array()
                    .is_some_and(|list| list.iter().all(is_data))
            },
            "a list of images in base64",
            problems,
        );
        for call in message.each("tool_calls", problems) {
            call.fields(&["id", "type", "function"], &["function"], problems);
            if let Some(function) = call.inner("function", problems) {
                let known = &["index", "name", "description", "arguments"];
                function.fields(known, &["name", "arguments"], problems);
                function.typed(&["arguments"], is_object, "an object", problems);
            }
        }
    }
}

/// Checks an embedding.
pub(in crate::mock) fn check_embedding(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let top = At::top(body, true);
    let known = &[
        "dimensions",
        "input",
        "keep_alive",
        "model",
        "options",
        "truncate",
    ];
    top.fields(known, &["model", "input"], problems);
    top.typed(
        &["input"],
        |value| value.is_string() || value.is_array(),
        "a text or a list",
        problems,
    );
    if let Some(options) = top.inner("options", problems) {
        options.fields(OPTIONS, &[], problems);
    }
}
