//! Anthropic messages: <https://docs.anthropic.com/en/api/messages>.

use serde_json::{Value, json};
use strait::protocol::Protocol;

use super::{Dialect, Param};

pub fn dialect() -> Dialect {
    Dialect {
        protocol: Protocol::Anthropic,
        least: json!({
            "model": "m",
            "max_tokens": 9000,
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "q"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                ]},
                {"role": "assistant", "content": [
                    {"type": "text", "text": "a"},
                    {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
                ]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "r"}]},
            ],
            "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
        }),
        plain: json!({"model": "m", "max_tokens": 9000, "messages": [{"role": "user", "content": "q"}]}),
        params: params(),
        aliases: &[("output_format", "output_config.format")],
        silent: &[
            ("stream", "", "stands in the path of some; the hub knows it"),
            (
                "service_tier",
                "standard_only",
                "is what happens without it",
            ),
            (
                "thinking",
                "adaptive",
                "is what other makers' models do without it",
            ),
        ],
    }
}

fn params() -> Vec<Param> {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let cache = json!({"type": "ephemeral"});
    let document = json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}});
    let with = |name: &str, value: Value| {
        let mut document = document.clone();
        document[name] = value;
        document
    };
    vec![
        ("max_tokens", json!(77)),
        ("cache_control", cache.clone()),
        ("container", json!("container_1")),
        (
            "context_management",
            json!({"edits": [{"type": "clear_tool_uses_20250919"}]}),
        ),
        ("inference_geo", json!("us")),
        (
            "mcp_servers",
            json!([{"type": "url", "url": "https://x", "name": "x"}]),
        ),
        ("metadata", json!({"user_id": "u"})),
        ("output_config", json!({"effort": "low"})),
        (
            "output_config",
            json!({"format": {"type": "json_schema", "schema": schema}}),
        ),
        (
            "output_format",
            json!({"type": "json_schema", "schema": schema}),
        ),
        ("service_tier", json!("standard_only")),
        ("speed", json!("fast")),
        ("stop_sequences", json!(["x"])),
        ("stream", json!(true)),
        ("system", json!("s")),
        (
            "system",
            json!([{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]),
        ),
        ("temperature", json!(0.5)),
        (
            "thinking",
            json!({"type": "enabled", "budget_tokens": 2000}),
        ),
        ("thinking", json!({"type": "adaptive"})),
        ("tool_choice", json!({"type": "any"})),
        ("tool_choice", json!({"type": "none"})),
        ("tool_choice", json!({"type": "tool", "name": "f"})),
        (
            "tool_choice",
            json!({"type": "auto", "disable_parallel_tool_use": true}),
        ),
        ("top_k", json!(5)),
        ("top_p", json!(0.5)),
        ("tools.0.description", json!("what it does")),
        ("tools.0.strict", json!(true)),
        ("tools.0.cache_control", cache.clone()),
        ("tools.0.defer_loading", json!(true)),
        ("tools.0.allowed_callers", json!(["direct"])),
        ("tools.0.eager_input_streaming", json!(true)),
        ("tools.0.input_examples", json!([{}])),
        (
            "tools.1",
            json!({"type": "web_search_20250305", "name": "web_search"}),
        ),
        ("tools.1", json!({"type": "bash_20250124", "name": "bash"})),
        (
            "tools.1",
            json!({"name": "g", "input_schema": {"type": "object"}}),
        ),
        ("messages.0.content.0.cache_control", cache.clone()),
        ("messages.0.content.1.cache_control", cache.clone()),
        ("messages.0.content.2", document.clone()),
        ("messages.0.content.2", with("title", json!("t"))),
        ("messages.0.content.2", with("context", json!("c"))),
        (
            "messages.0.content.2",
            with("citations", json!({"enabled": true})),
        ),
        (
            "messages.0.content.2",
            json!({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}),
        ),
        (
            "messages.0.content.2",
            json!({"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
        ),
        (
            "messages.0.content.2",
            json!({"type": "search_result", "source": "https://x", "title": "t", "content": [{"type": "text", "text": "x"}]}),
        ),
        ("messages.1.content.1.cache_control", cache.clone()),
        ("messages.2.content.0.cache_control", cache),
        ("messages.2.content.0.is_error", json!(true)),
        ("x_never_heard_of", json!(true)),
    ]
}
