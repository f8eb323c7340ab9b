//! Answers in the words of Anthropic messages, <https://docs.anthropic.com/en/api/messages>.

pub(in crate::mock) mod ask;
pub(in crate::mock) mod strict;

use super::answers::{ErrorSaid, Finish, Piece, Said, Usage, pieces};
use super::json::{put, quote};

const ID: &str = "msg_mock";

/// Returns a whole message.
pub(super) fn whole(said: &Said<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + said.text.as_ref().map_or(0, |text| text.len()));
    put(
        &mut out,
        &[
            "{\"id\":\"",
            ID,
            "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":",
        ],
    );
    quote(&mut out, said.model);
    put(&mut out, &[",\"content\":["]);
    for (at, block) in blocks(said).into_iter().enumerate() {
        put(&mut out, &[if at > 0 { "," } else { "" }]);
        match block {
            Block::Thinking(text) => {
                put(&mut out, &["{\"type\":\"thinking\",\"thinking\":"]);
                quote(&mut out, text);
                put(&mut out, &[",\"signature\":"]);
                quote(&mut out, said.signature);
            }
            Block::RedactedThinking(data) => {
                put(&mut out, &["{\"type\":\"redacted_thinking\",\"data\":"]);
                quote(&mut out, data);
            }
            Block::Text(text) => {
                put(&mut out, &["{\"type\":\"text\",\"text\":"]);
                quote(&mut out, text);
            }
            Block::Tool {
                id,
                name,
                arguments,
            } => {
                put(&mut out, &["{\"type\":\"tool_use\",\"id\":"]);
                quote(&mut out, &id);
                put(&mut out, &[",\"name\":"]);
                quote(&mut out, name);
                put(
                    &mut out,
                    &[
                        ",\"input\":",
                        if arguments.is_empty() {
                            "{}"
                        } else {
                            arguments
                        },
                    ],
                );
            }
        }
        put(&mut out, &["}"]);
    }
    put(&mut out, &["],"]);
    write_stop(&mut out, said);
    if let Some(usage) = &said.usage {
        put(&mut out, &[",\"usage\":"]);
        write_usage(&mut out, usage, usage.completion);
    }
    put(&mut out, &["}"]);
    out
}

/// Returns the events of a streamed message.
pub(super) fn stream(said: &Said<'_>) -> Vec<Piece> {
    let mut frames = Vec::with_capacity(said.chunks + 8);
    frames.push(Piece::frame(event("message_start", |out| {
        put(
            out,
            &[
                ",\"message\":{\"id\":\"",
                ID,
                "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":",
            ],
        );
        quote(out, said.model);
        put(
            out,
            &[",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null"],
        );
        if let Some(usage) = &said.usage {
            put(out, &[",\"usage\":"]);
            // The provider counts the first token before it knows the others.
            write_usage(out, usage, usage.completion.min(1));
        }
        put(out, &["}"]);
    })));
    for (at, block) in blocks(said).into_iter().enumerate() {
        let index = at.to_string();
        frames.push(Piece::frame(event("content_block_start", |out| {
            put(out, &[",\"index\":", &index, ",\"content_block\":"]);
            match &block {
                Block::Thinking(_) => put(
                    out,
                    &["{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}"],
                ),
                Block::RedactedThinking(data) => {
                    put(out, &["{\"type\":\"redacted_thinking\",\"data\":"]);
                    quote(out, data);
                    put(out, &["}"]);
                }
                Block::Text(_) => put(out, &["{\"type\":\"text\",\"text\":\"\"}"]),
                Block::Tool { id, name, .. } => {
                    put(out, &["{\"type\":\"tool_use\",\"id\":"]);
                    quote(out, id);
                    put(out, &[",\"name\":"]);
                    quote(out, name);
                    put(out, &[",\"input\":{}}"]);
                }
            }
        })));
        if at == 0 {
            frames.push(Piece::frame(
                b"event: ping\ndata: {\"type\": \"ping\"}\n\n".to_vec(),
            ));
        }
        match &block {
            Block::Thinking(text) => {
                deltas(
                    &mut frames,
                    &index,
                    "thinking_delta",
                    "thinking",
                    text,
                    said.chunks,
                );
                deltas(
                    &mut frames,
                    &index,
                    "signature_delta",
                    "signature",
                    said.signature,
                    1,
                );
            }
            Block::RedactedThinking(_) => {}
            Block::Text(text) => {
                deltas(&mut frames, &index, "text_delta", "text", text, said.chunks)
            }
            Block::Tool { arguments, .. } => {
                deltas(
                    &mut frames,
                    &index,
                    "input_json_delta",
                    "partial_json",
                    "",
                    1,
                );
                if !arguments.is_empty() {
                    deltas(
                        &mut frames,
                        &index,
                        "input_json_delta",
                        "partial_json",
                        arguments,
                        said.chunks,
                    );
                }
            }
        }
        frames.push(Piece::frame(event("content_block_stop", |out| {
            put(out, &[",\"index\":", &index])
        })));
    }
    frames.push(Piece::frame(event("message_delta", |out| {
        put(out, &[",\"delta\":{"]);
        write_stop(out, said);
        put(out, &["}"]);
        if let Some(usage) = &said.usage {
            put(out, &[",\"usage\":"]);
            write_usage(out, usage, usage.completion);
        }
    })));
    if !said.omit_done {
        frames.push(Piece::frame(event("message_stop", |_| {})));
    }
    frames
}

enum Block<'a> {
    Thinking(&'a str),
    RedactedThinking(&'a str),
    Text(&'a str),
    Tool {
        id: String,
        name: &'a str,
        arguments: &'a str,
    },
}

fn blocks<'a>(said: &'a Said<'_>) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    blocks.extend(said.thinking.map(Block::Thinking));
    blocks.extend(said.redacted_thinking.map(Block::RedactedThinking));
    blocks.extend(said.text.as_deref().map(Block::Text));
    blocks.extend(said.refusal.map(Block::Text));
    blocks.extend(said.tools.iter().enumerate().map(|(at, tool)| Block::Tool {
        id: said.tool_id("toolu", at, tool),
        name: &tool.name,
        arguments: &tool.arguments.0,
    }));
    blocks
}

fn deltas(frames: &mut Vec<Piece>, index: &str, kind: &str, field: &str, text: &str, count: usize) {
    for piece in pieces(text, count) {
        frames.push(Piece::content(event("content_block_delta", |out| {
            put(
                out,
                &[
                    ",\"index\":",
                    index,
                    ",\"delta\":{\"type\":\"",
                    kind,
                    "\",\"",
                    field,
                    "\":",
                ],
            );
            quote(out, piece);
            put(out, &["}"]);
        })));
    }
}

fn event(name: &str, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    put(
        &mut out,
        &["event: ", name, "\ndata: {\"type\":\"", name, "\""],
    );
    write(&mut out);
    put(&mut out, &["}\n\n"]);
    out
}

fn write_stop(out: &mut Vec<u8>, said: &Said<'_>) {
    let reason = match said.finish {
        Finish::Stop => "end_turn",
        Finish::StopSequence => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::ContentFilter => "refusal",
        Finish::Verbatim(name) => name,
    };
    put(out, &["\"stop_reason\":"]);
    quote(out, reason);
    put(out, &[",\"stop_sequence\":"]);
    match said.stop_sequence {
        Some(sequence) => quote(out, sequence),
        None => put(out, &["null"]),
    }
}

fn write_usage(out: &mut Vec<u8>, usage: &Usage, completion: u64) {
    if let Some(raw) = &usage.raw {
        return put(out, &[raw]);
    }
    let written = usage.cache_write.unwrap_or(0).to_string();
    put(
        out,
        &[
            "{\"input_tokens\":",
            &usage.prompt.to_string(),
            ",\"cache_creation_input_tokens\":",
            &written,
            ",\"cache_read_input_tokens\":",
            &usage.cached.to_string(),
            ",\"cache_creation\":{\"ephemeral_5m_input_tokens\":",
            &written,
            ",\"ephemeral_1h_input_tokens\":0},\"output_tokens\":",
            &completion.to_string(),
            ",\"service_tier\":\"standard\"}",
        ],
    );
}

/// Returns an error object; what is not given goes by the status.
pub(super) fn error_body(error: &ErrorSaid<'_>) -> Vec<u8> {
    let (kind, message) = match error.status {
        401 => ("authentication_error", "invalid x-api-key"),
        403 => (
            "permission_error",
            "Your API key does not have permission to use the specified resource.",
        ),
        404 => (
            "not_found_error",
            "The requested resource could not be found.",
        ),
        413 => (
            "request_too_large",
            "Request exceeds the maximum allowed number of bytes.",
        ),
        429 => (
            "rate_limit_error",
            "This request would exceed your account's rate limit. Please try again later.",
        ),
        504 => ("timeout_error", "The request timed out."),
        200 | 529 => ("overloaded_error", "Overloaded"),
        500.. => ("api_error", "Internal server error"),
        _ => ("invalid_request_error", "The request is not valid."),
    };
    let mut out = Vec::with_capacity(160);
    put(&mut out, &["{\"type\":\"error\",\"error\":{\"type\":"]);
    quote(&mut out, error.kind.unwrap_or(kind));
    put(&mut out, &[",\"message\":"]);
    quote(&mut out, error.message.unwrap_or(message));
    put(&mut out, &["},\"request_id\":\"req_mock\"}"]);
    out
}
