//! OpenAI chat: <https://platform.openai.com/docs/api-reference/chat/create>.

use serde_json::{Value, json};
use strait::protocol::Protocol;

use super::{Dialect, Param};

pub fn dialect() -> Dialect {
    Dialect {
        protocol: Protocol::OpenaiChat,
        least: json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [
                    {"type": "text", "text": "q"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                ]},
                {"role": "assistant", "content": "a", "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": "c1", "content": "r"},
                {"role": "user", "content": "q"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        }),
        plain: json!({"model": "m", "messages": [{"role": "user", "content": "q"}]}),
        params: params(),
        aliases: &[
            ("safety_identifier", "user"),
            ("function_call", "tool_choice"),
            ("functions", "tools"),
        ],
        silent: &[
            ("stream", "", "stands in the path of some; the hub knows it"),
            (
                "stream_options",
                "include_usage",
                "for the answer's encoder; the hub knows it",
            ),
            (
                "reasoning_effort",
                "none",
                "is what a model does that does not think",
            ),
            ("modalities", "[\"text\"]", "is what every model does"),
        ],
    }
}

fn params() -> Vec<Param> {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    vec![
        ("audio", json!({"voice": "alloy", "format": "wav"})),
        ("frequency_penalty", json!(0.5)),
        ("function_call", json!({"name": "f"})),
        (
            "functions",
            json!([{"name": "g", "parameters": {"type": "object"}}]),
        ),
        ("logit_bias", json!({"50256": -100})),
        ("logprobs", json!(true)),
        ("max_completion_tokens", json!(77)),
        ("max_tokens", json!(77)),
        ("metadata", json!({"a": "b"})),
        ("modalities", json!(["text", "audio"])),
        ("n", json!(2)),
        ("parallel_tool_calls", json!(false)),
        ("prediction", json!({"type": "content", "content": "x"})),
        ("presence_penalty", json!(0.5)),
        ("prompt_cache_key", json!("k")),
        ("prompt_cache_retention", json!("24h")),
        ("reasoning_effort", json!("high")),
        ("reasoning_effort", json!("none")),
        ("response_format", json!({"type": "json_object"})),
        (
            "response_format",
            json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}}),
        ),
        ("safety_identifier", json!("u")),
        ("seed", json!(5)),
        ("service_tier", json!("priority")),
        ("stop", json!(["x"])),
        ("stop", json!("x")),
        ("store", json!(true)),
        ("stream", json!(true)),
        ("stream_options", json!({"include_usage": true})),
        ("stream_options", json!({"include_obfuscation": false})),
        ("temperature", json!(0.5)),
        ("tool_choice", json!("none")),
        ("tool_choice", json!("required")),
        (
            "tool_choice",
            json!({"type": "function", "function": {"name": "f"}}),
        ),
        (
            "tool_choice",
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}}),
        ),
        ("tools.0.function.strict", json!(true)),
        ("tools.0.function.description", json!("what it does")),
        (
            "tools.1",
            json!({"type": "custom", "custom": {"name": "c"}}),
        ),
        (
            "tools.1",
            json!({"type": "function", "function": {"name": "g"}}),
        ),
        ("top_logprobs", json!(3)),
        ("top_p", json!(0.5)),
        ("user", json!("u")),
        ("verbosity", json!("low")),
        ("web_search_options", json!({"search_context_size": "low"})),
        ("messages.0.name", json!("alice")),
        ("messages.1.name", json!("bob")),
        ("messages.1.content.1.image_url.detail", json!("low")),
        (
            "messages.1.content.2",
            json!({"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}),
        ),
        (
            "messages.1.content.2",
            json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"}}),
        ),
        (
            "messages.1.content.2",
            json!({"type": "file", "file": {"file_id": "file-1"}}),
        ),
        ("messages.2.refusal", json!("no")),
        ("messages.2.audio", json!({"id": "audio_1"})),
        ("messages.2.name", json!("eve")),
        // Of others who speak this dialect.
        ("top_k", json!(5)),
        ("min_p", json!(0.1)),
        ("repetition_penalty", json!(1.1)),
        ("reasoning", json!({"effort": "high"})),
        ("provider", json!({"order": ["x"]})),
        ("chat_template_kwargs", json!({"enable_thinking": false})),
        ("x_never_heard_of", Value::Bool(true)),
    ]
}
