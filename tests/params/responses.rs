//! OpenAI responses: <https://platform.openai.com/docs/api-reference/responses/create>.

use serde_json::json;
use strait::protocol::Protocol;

use super::{Dialect, Param};

pub fn dialect() -> Dialect {
    Dialect {
        protocol: Protocol::OpenaiResponses,
        least: json!({
            "model": "m",
            "input": [
                {"role": "user", "content": [
                    {"type": "input_text", "text": "q"},
                    {"type": "input_image", "image_url": "data:image/png;base64,QUJD"},
                ]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "r"},
            ],
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": false}],
        }),
        plain: json!({"model": "m", "input": "q"}),
        params: params(),
        aliases: &[
            ("safety_identifier", "user"),
            ("include", "top_logprobs"),
            ("tools.1", "web_search"),
            ("tools.1", "image_generation"),
            ("instructions", "input"),
        ],
        silent: &[
            (
                "tool_choice",
                "allowed_tools",
                "all tools may be called, as without it",
            ),
            ("stream", "", "stands in the path of some; the hub knows it"),
            ("stream_options", "", "for the answer's encoder"),
            (
                "reasoning",
                "none",
                "is what a model does that does not think",
            ),
        ],
    }
}

fn params() -> Vec<Param> {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    vec![
        ("background", json!(true)),
        (
            "context_management",
            json!([{"type": "compaction", "compact_threshold": 1000}]),
        ),
        ("conversation", json!("conv_1")),
        ("include", json!(["reasoning.encrypted_content"])),
        ("include", json!(["message.output_text.logprobs"])),
        ("instructions", json!("s")),
        ("max_output_tokens", json!(77)),
        ("max_tool_calls", json!(3)),
        ("metadata", json!({"a": "b"})),
        ("parallel_tool_calls", json!(false)),
        ("previous_response_id", json!("resp_1")),
        ("prompt", json!({"id": "pmpt_1"})),
        ("prompt_cache_key", json!("k")),
        ("prompt_cache_retention", json!("24h")),
        ("reasoning", json!({"effort": "high"})),
        ("reasoning", json!({"effort": "none"})),
        ("reasoning.summary", json!("auto")),
        ("safety_identifier", json!("u")),
        ("service_tier", json!("priority")),
        ("store", json!(true)),
        ("stream", json!(true)),
        ("stream_options", json!({"include_obfuscation": false})),
        ("temperature", json!(0.5)),
        ("text", json!({"verbosity": "low"})),
        ("text", json!({"format": {"type": "json_object"}})),
        (
            "text",
            json!({"format": {"type": "json_schema", "name": "n", "strict": true, "schema": schema}}),
        ),
        ("tool_choice", json!("none")),
        ("tool_choice", json!("required")),
        ("tool_choice", json!({"type": "function", "name": "f"})),
        ("tool_choice", json!({"type": "web_search"})),
        (
            "tool_choice",
            json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}),
        ),
        ("tools.0.strict", json!(true)),
        ("tools.0.description", json!("what it does")),
        ("tools.1", json!({"type": "web_search"})),
        (
            "tools.1",
            json!({"type": "file_search", "vector_store_ids": ["vs_1"]}),
        ),
        (
            "tools.1",
            json!({"type": "code_interpreter", "container": {"type": "auto"}}),
        ),
        ("tools.1", json!({"type": "image_generation"})),
        (
            "tools.1",
            json!({"type": "mcp", "server_label": "x", "server_url": "https://x"}),
        ),
        ("tools.1", json!({"type": "custom", "name": "c"})),
        ("tools.1", json!({"type": "local_shell"})),
        (
            "tools.1",
            json!({"type": "function", "name": "g", "parameters": {"type": "object"}, "strict": false}),
        ),
        ("top_logprobs", json!(3)),
        ("top_p", json!(0.5)),
        ("truncation", json!("auto")),
        ("user", json!("u")),
        ("input.0.content.1.detail", json!("low")),
        (
            "input.0.content.2",
            json!({"type": "input_file", "file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"}),
        ),
        (
            "input.0.content.2",
            json!({"type": "input_file", "file_id": "file-1"}),
        ),
        (
            "input.3",
            json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "QUJD"}),
        ),
        ("input.3", json!({"type": "item_reference", "id": "msg_1"})),
        ("x_never_heard_of", json!(true)),
    ]
}
