//! The strict checks of a responses request, <https://platform.openai.com/docs/api-reference/responses/create>, and
//! of one for legacy completions.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::strict::{At, Problems, is_bool, is_count, is_list, is_object, is_text, listed};

const FIELDS: &[&str] = &[
    "background",
    "context_management",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

const INCLUDES: &[&str] = &[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
];

pub(in crate::mock) fn check(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let top = At::top(body, true);
    top.fields(FIELDS, &["model"], problems);
    top.typed(
        &[
            "model",
            "instructions",
            "previous_response_id",
            "prompt_cache_key",
            "safety_identifier",
            "service_tier",
            "user",
        ],
        is_text,
        "a text",
        problems,
    );
    top.typed(
        &["background", "parallel_tool_calls", "store", "stream"],
        is_bool,
        "true or false",
        problems,
    );
    top.typed(
        &["max_output_tokens", "max_tool_calls"],
        is_count,
        "a whole number from 1",
        problems,
    );
    top.typed(&["metadata", "prompt"], is_object, "an object", problems);
    top.range("temperature", 0.0, 2.0, problems);
    top.range("top_p", 0.0, 1.0, problems);
    top.range("top_logprobs", 0.0, 20.0, problems);
    top.one_of("truncation", &["auto", "disabled"], problems);
    for (at, name) in top
        .get("include")
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        if !name.as_str().is_some_and(|name| INCLUDES.contains(&name)) {
            problems.add(format_args!("include[{at}]: {name} is not known"));
        }
    }
    if let Some(options) = top.inner("stream_options", problems) {
        options.fields(&["include_obfuscation"], &[], problems);
    }
    if let Some(reasoning) = top.inner("reasoning", problems) {
        let known = &["effort", "summary", "generate_summary", "context", "mode"];
        reasoning.fields(known, &[], problems);
    }
    if let Some(text) = top.inner("text", problems) {
        text.fields(&["format", "verbosity"], &[], problems);
        text.one_of("verbosity", &["low", "medium", "high"], problems);
        if let Some(format) = text.inner("format", problems) {
            format.one_of("type", &["text", "json_object", "json_schema"], problems);
            let known: &[&str] = if format.text("type") == "json_schema" {
                &["type", "name", "schema", "strict", "description"]
            } else {
                &["type"]
            };
            let needed = if known.len() > 1 { &known[..3] } else { known };
            format.fields(known, needed, problems);
        }
    }
    check_tools(&top, problems);
    check_input(&top, problems);
}

fn check_tools(top: &At<'_>, problems: &mut Problems<'_>) {
    let mut names = BTreeSet::new();
    for tool in top.each("tools", problems) {
        match tool.text("type") {
            "function" => {
                let known = &[
                    "type",
                    "name",
                    "description",
                    "parameters",
                    "strict",
                    "defer_loading",
                ];
                tool.fields(known, &["type", "name", "parameters"], problems);
                tool.typed(&["description"], is_text, "a text", problems);
                tool.tool_name(64, problems);
            }
            "custom" => {
                let known = &["type", "name", "description", "format", "defer_loading"];
                tool.fields(known, &["type", "name"], problems);
            }
            "" => problems.add(format_args!("{}`type` is missing", tool.place)),
            // The provider's own tools are not looked into.
            _ => {}
        }
        names.insert(tool.text("name"));
    }
    let choice = top.get("tool_choice");
    if choice.is_string() {
        top.one_of("tool_choice", &["none", "auto", "required"], problems);
    } else if let Some(choice) = top.inner("tool_choice", problems) {
        if matches!(choice.text("type"), "function" | "custom") {
            choice.fields(&["type", "name"], &["type", "name"], problems);
            if !names.contains(choice.text("name")) {
                problems.add("`tool_choice` names a tool that is not among `tools`");
            }
        } else if choice.text("type").is_empty() {
            problems.add("tool_choice: `type` is missing");
        }
    }
}

fn check_input(top: &At<'_>, problems: &mut Problems<'_>) {
    let input = top.get("input");
    if input.is_string() {
        return;
    }
    if !is_list(input) {
        if !["conversation", "previous_response_id", "prompt"]
            .iter()
            .any(|name| top.object.contains_key(*name))
        {
            problems.add("`input` is not a text or a list of items");
        }
        return;
    }
    let goes_on = ["conversation", "previous_response_id"]
        .iter()
        .any(|name| !top.get(name).is_null());
    let mut open = BTreeSet::new();
    for item in top.each("input", problems) {
        match item.text("type") {
            "" | "message" => check_message(&item, problems),
            "function_call" => {
                let known = &[
                    "type",
                    "id",
                    "call_id",
                    "name",
                    "arguments",
                    "status",
                    "namespace",
                ];
                let needed = &["type", "call_id", "name", "arguments"];
                item.fields(known, needed, problems);
                item.typed(
                    &["arguments", "call_id", "name"],
                    is_text,
                    "a text",
                    problems,
                );
                open.insert(item.text("call_id"));
            }
            "function_call_output" => {
                item.fields(
                    &["type", "id", "call_id", "output", "status"],
                    &["type", "call_id", "output"],
                    problems,
                );
                item.typed(
                    &["output"],
                    |value| value.is_string() || value.is_array(),
                    "a text or a list of parts",
                    problems,
                );
                if !open.remove(item.text("call_id")) && !goes_on {
                    problems.add(format_args!(
                        "{}`call_id` {:?} answers no call before it",
                        item.place,
                        item.text("call_id")
                    ));
                }
            }
            "reasoning" => {
                let known = &[
                    "type",
                    "id",
                    "summary",
                    "content",
                    "encrypted_content",
                    "status",
                ];
                item.fields(known, &["type", "summary"], problems);
                for part in item.each("summary", problems) {
                    part.fields(&["type", "text"], &["type", "text"], problems);
                }
                let is_known =
                    !item.get("encrypted_content").is_null() || !item.get("id").is_null();
                if !is_known {
                    problems.add(format_args!(
                        "{}has neither `id` nor `encrypted_content`",
                        item.place
                    ));
                }
            }
            "item_reference" => item.fields(&["type", "id"], &["id"], problems),
            // Calls of the provider's own tools and their results are not looked into.
            _ => {}
        }
    }
    if !open.is_empty() {
        problems.add(format_args!(
            "`input` ends without an output for the calls {}",
            listed(&open)
        ));
    }
}

fn check_message(item: &At<'_>, problems: &mut Problems<'_>) {
    item.fields(
        &["type", "id", "role", "content", "status", "phase"],
        &["role", "content"],
        problems,
    );
    item.one_of(
        "role",
        &["user", "assistant", "system", "developer"],
        problems,
    );
    if item.get("content").is_string() {
        return;
    }
    for part in item.each("content", problems) {
        let kind = part.text("type");
        let (known, needed): (&[&str], &[&str]) = match kind {
            "input_text" => (&["type", "text", "prompt_cache_breakpoint"], &["text"]),
            "output_text" => (&["type", "text", "annotations", "logprobs"], &["text"]),
            "refusal" => (&["type", "refusal"], &["refusal"]),
            "input_image" => (
                &[
                    "type",
                    "image_url",
                    "file_id",
                    "detail",
                    "prompt_cache_breakpoint",
                ],
                &[],
            ),
            "input_file" => (
                &[
                    "type",
                    "file_id",
                    "file_data",
                    "file_url",
                    "filename",
                    "detail",
                    "prompt_cache_breakpoint",
                ],
                &[],
            ),
            "input_audio" => (&["type", "input_audio"], &["input_audio"]),
            other => {
                problems.add(format_args!(
                    "{}the type {other:?} is not known",
                    part.place
                ));
                continue;
            }
        };
        part.fields(known, needed, problems);
        let is_output = matches!(kind, "output_text" | "refusal");
        if is_output != (item.text("role") == "assistant") {
            problems.add(format_args!(
                "{}{kind:?} does not belong to the role {:?}",
                part.place,
                item.text("role")
            ));
        }
    }
}

const COMPLETION_FIELDS: &[&str] = &[
    "best_of",
    "echo",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "model",
    "n",
    "presence_penalty",
    "prompt",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "suffix",
    "temperature",
    "top_p",
    "user",
];

pub(in crate::mock) fn check_completion(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let top = At::top(body, true);
    top.fields(COMPLETION_FIELDS, &["model", "prompt"], problems);
    top.typed(&["model", "suffix", "user"], is_text, "a text", problems);
    top.typed(&["stream", "echo"], is_bool, "true or false", problems);
    top.typed(
        &["n", "best_of"],
        is_count,
        "a whole number from 1",
        problems,
    );
    top.typed(
        &["prompt"],
        |prompt| prompt.is_string() || prompt.is_array(),
        "a text or a list",
        problems,
    );
    top.range("temperature", 0.0, 2.0, problems);
    top.range("top_p", 0.0, 1.0, problems);
    top.range("logprobs", 0.0, 5.0, problems);
    if let Some(options) = top.inner("stream_options", problems) {
        let known = &["include_usage", "include_obfuscation"];
        options.fields(known, &[], problems);
    }
}
