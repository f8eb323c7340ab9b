//! Answers in the words of Bedrock's Converse,
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>, and Anthropic's answers
//! wrapped for InvokeModelWithResponseStream.

pub(in crate::mock) mod ask;
pub(in crate::mock) mod strict;

use super::answers::{ErrorSaid, Finish, Piece, Said, Usage, pieces};
use super::json::{Object, Raw, base64};
use crate::codec::event_stream;

/// Returns a whole answer.
pub(in crate::mock) fn whole(said: &Said<'_>) -> Vec<u8> {
    let content: Vec<Object> = blocks(said).iter().map(|block| block.whole(said)).collect();
    let message = Object::new()
        .set("role", "assistant")
        .set("content", content);
    Object::new()
        .set("output", Object::new().set("message", message))
        .set("stopReason", finish(said))
        .some("usage", said.usage.as_ref().map(|it| it.told(usage)))
        .set("metrics", Object::new().set("latencyMs", 1u32))
        .end()
}

/// Returns the messages of a stream.
pub(in crate::mock) fn stream(said: &Said<'_>) -> Vec<Piece> {
    let mut frames = Vec::with_capacity(said.chunks + 6);
    let start = Object::new().set("role", "assistant");
    frames.push(Piece::frame(message("messageStart", start)));
    for (index, block) in blocks(said).iter().enumerate() {
        block.stream(said, index, &mut frames);
    }
    let stop = Object::new().set("stopReason", finish(said));
    frames.push(Piece::frame(message("messageStop", stop)));
    if let Some(told) = said.usage.as_ref().filter(|_| !said.omit_done) {
        let metadata = Object::new()
            .set("usage", told.told(usage))
            .set("metrics", Object::new().set("latencyMs", 1u32));
        frames.push(Piece::frame(message("metadata", metadata)));
    }
    frames
}

/// Puts the events of a stream of Anthropic's into messages: each holds an event in base64, without its name.
pub(in crate::mock) fn wrapped(events: Vec<Piece>) -> Vec<Piece> {
    let wrap = |event: Piece| {
        let text = event.bytes.trim_ascii();
        let at = memchr::memmem::find(text, b"data: ").map_or(0, |at| at + b"data: ".len());
        let is_ping = text.starts_with(b"event: ping");
        // Bedrock sends no pings.
        (!is_ping).then(|| Piece {
            bytes: message("chunk", Object::new().set("bytes", base64(&text[at..]))).into(),
            is_content: event.is_content,
        })
    };
    events.into_iter().filter_map(wrap).collect()
}

fn message(name: &str, payload: Object) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    event_stream::write(name, &payload.end(), &mut out);
    out
}

enum Block<'a> {
    Reasoning(&'a str),
    Redacted(&'a str),
    Text(&'a str),
    Tool {
        id: String,
        name: &'a str,
        input: &'a str,
    },
}

fn blocks<'a>(said: &'a Said<'_>) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    blocks.extend(said.thinking.map(Block::Reasoning));
    blocks.extend(said.redacted_thinking.map(Block::Redacted));
    blocks.extend(said.text.as_deref().map(Block::Text));
    blocks.extend(said.refusal.map(Block::Text));
    blocks.extend(said.tools.iter().enumerate().map(|(at, tool)| Block::Tool {
        id: said.tool_id("tooluse", at, tool),
        name: &tool.name,
        input: &tool.arguments.0,
    }));
    blocks
}

impl Block<'_> {
    fn whole(&self, said: &Said<'_>) -> Object {
        let object = Object::new();
        match self {
            Self::Reasoning(text) => {
                let text = Object::new()
                    .set("text", *text)
                    .set("signature", said.signature);
                object.set("reasoningContent", Object::new().set("reasoningText", text))
            }
            Self::Redacted(data) => object.set(
                "reasoningContent",
                Object::new().set("redactedContent", *data),
            ),
            Self::Text(text) => object.set("text", *text),
            Self::Tool { id, name, input } => object.set(
                "toolUse",
                Object::new()
                    .set("toolUseId", id)
                    .set("name", *name)
                    .set("input", Raw(if input.is_empty() { "{}" } else { input })),
            ),
        }
    }

    fn stream(&self, said: &Said<'_>, index: usize, frames: &mut Vec<Piece>) {
        let delta = |delta: Object| {
            let change = Object::new()
                .set("contentBlockIndex", index)
                .set("delta", delta);
            Piece::content(message("contentBlockDelta", change))
        };
        let reasoning = |name: &str, text: &str| {
            Object::new().set("reasoningContent", Object::new().set(name, text))
        };
        match self {
            Self::Reasoning(text) => {
                frames.extend(pieces(text, said.chunks).map(|it| delta(reasoning("text", it))));
                frames.push(delta(reasoning("signature", said.signature)));
            }
            Self::Redacted(data) => frames.push(delta(reasoning("redactedContent", data))),
            Self::Text(text) => {
                frames.extend(
                    pieces(text, said.chunks).map(|it| delta(Object::new().set("text", it))),
                );
            }
            Self::Tool { id, name, input } => {
                // Only a tool's block is opened; the others begin with their first delta.
                let tool = Object::new().set("toolUseId", id).set("name", *name);
                let start = Object::new()
                    .set("contentBlockIndex", index)
                    .set("start", Object::new().set("toolUse", tool));
                frames.push(Piece::frame(message("contentBlockStart", start)));
                for piece in pieces(input, said.chunks) {
                    let input = Object::new().set("input", piece);
                    frames.push(delta(Object::new().set("toolUse", input)));
                }
            }
        }
        let stop = Object::new().set("contentBlockIndex", index);
        frames.push(Piece::frame(message("contentBlockStop", stop)));
    }
}

fn finish<'a>(said: &Said<'a>) -> &'a str {
    match said.finish {
        Finish::Stop => "end_turn",
        Finish::StopSequence => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::ContentFilter => "content_filtered",
        Finish::Verbatim(name) => name,
    }
}

fn usage(usage: &Usage) -> Object {
    Object::new()
        .set("inputTokens", usage.prompt)
        .set("outputTokens", usage.completion)
        .set(
            "totalTokens",
            usage
                .total()
                .saturating_add(usage.cached)
                .saturating_add(usage.cache_write.unwrap_or(0)),
        )
        .set("cacheReadInputTokens", usage.cached)
        .set("cacheWriteInputTokens", usage.cache_write.unwrap_or(0))
}

/// Returns the name of an exception, as `x-amzn-errortype` says it, and its message.
pub(in crate::mock) fn error_words<'a>(error: &ErrorSaid<'a>) -> (&'a str, &'a str) {
    let (kind, message) = match error.status {
        401 | 403 => (
            "AccessDeniedException",
            "You don't have access to the model with the specified model ID.",
        ),
        404 => (
            "ResourceNotFoundException",
            "Could not resolve the foundation model from the model identifier.",
        ),
        408 => (
            "ModelTimeoutException",
            "The request took too long to process.",
        ),
        424 => (
            "ModelErrorException",
            "The request failed due to an error while processing the model.",
        ),
        429 => (
            "ThrottlingException",
            "Too many requests, please wait before trying again.",
        ),
        503 => (
            "ServiceUnavailableException",
            "Bedrock is unable to process your request.",
        ),
        200 => (
            "ModelStreamErrorException",
            "An error occurred while streaming the response. Retry your request.",
        ),
        500.. => (
            "InternalServerException",
            "The system encountered an unexpected error during processing. Try your request again.",
        ),
        _ => ("ValidationException", "The request is not valid."),
    };
    (error.kind.unwrap_or(kind), error.message.unwrap_or(message))
}

/// Returns the body of an error; its kind is in a header.
pub(in crate::mock) fn error_body(error: &ErrorSaid<'_>) -> Vec<u8> {
    Object::new().set("message", error_words(error).1).end()
}

/// Returns an exception as a message of a stream. There, its name begins with a small letter.
pub(in crate::mock) fn error_event(error: &ErrorSaid<'_>) -> Vec<u8> {
    let (kind, message) = error_words(error);
    let mut name = kind.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let payload = Object::new().set("message", message).end();
    let mut out = Vec::with_capacity(256);
    event_stream::write_exception(&name, &payload, &mut out);
    out
}
