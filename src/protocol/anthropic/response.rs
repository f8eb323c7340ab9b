//! Whole answers: `message` objects into the hub and out of it, and error bodies.

use super::citation;
use super::content;
use crate::error::{Error, Kind, Result};
use crate::protocol::chat::{Finish, Part, Response, Str};
use crate::protocol::text::Reader;
use crate::protocol::text::{self, Object, comma};
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, SCHEMA_TOOL, Shape};

/// Decodes a provider's answer. What can't be read as one is a fault of the upstream.
pub fn decode<'b>(body: &'b [u8], shape: &Shape) -> Result<Response<'b>> {
    read(body, shape).map_err(|error| {
        let message = format!("The provider's answer can't be read: {}", error.message);
        Error::new(Kind::UpstreamBroken, message).with_cause(error)
    })
}

fn read<'b>(body: &'b [u8], shape: &Shape) -> Result<Response<'b>> {
    let mut reader = Reader::new(body)?;
    let mut response = Response {
        family: Protocol::Anthropic,
        id: "".into(),
        model: "".into(),
        parts: Vec::new(),
        finish: Finish::Other,
        stop_sequence: None,
        usage: None,
        service_tier: None,
        logprobs: None,
        more: Vec::new(),
    };
    let mut parts = None;
    reader.object(|r, key| {
        match &*key {
            "type" => content::word(r, "'message'", |word| (word == "message").then_some(()))?,
            "id" => response.id = r.maybe(Reader::string)?.unwrap_or_default(),
            "model" => response.model = r.maybe(Reader::string)?.unwrap_or_default(),
            "content" => parts = Some(r.maybe(|r| r.list(content::part))?.unwrap_or_default()),
            "stop_reason" => {
                response.finish = r
                    .maybe(Reader::string)?
                    .as_deref()
                    .map_or(Finish::Other, finish)
            }
            "stop_sequence" => response.stop_sequence = r.maybe(Reader::string)?,
            "usage" => response.usage = r.maybe(usage)?,
            _ => r.raw().map(drop)?,
        }
        Ok(())
    })?;
    reader.finish()?;
    response.parts = parts.ok_or_else(|| reader.missing("content"))?;
    if shape.schema_tool {
        answer_from_tool(&mut response);
    }
    Ok(response)
}

fn usage(r: &mut Reader<'_>) -> Result<Usage> {
    if r.peek() != b'{' {
        return Err(r.wrong("an object"));
    }
    let mut usage = Usage::default();
    usage.take_anthropic(r)?;
    Ok(usage)
}

/// Turns the first call of the schema tool into the answer's text, and leaves out what was said around it.
fn answer_from_tool(response: &mut Response<'_>) {
    let is_answer =
        |part: &Part<'_>| matches!(part, Part::ToolCall { name, .. } if name == SCHEMA_TOOL);
    if !response.parts.iter().any(is_answer) {
        return;
    }
    response
        .parts
        .retain(|part| !matches!(part, Part::Text { .. }));
    for part in &mut response.parts {
        if is_answer(part)
            && let Part::ToolCall { arguments, .. } = part
        {
            *part = content::plain(std::mem::take(arguments));
            break;
        }
    }
    // A second one would break the first.
    response.parts.retain(|part| !is_answer(part));
    let calls = response
        .parts
        .iter()
        .any(|part| matches!(part, Part::ToolCall { .. }));
    if response.finish == Finish::ToolCalls && !calls {
        response.finish = Finish::Stop;
    }
}

pub(super) fn finish(reason: &str) -> Finish {
    match reason {
        "end_turn" => Finish::Stop,
        "stop_sequence" => Finish::StopSequence,
        "max_tokens" => Finish::Length,
        "tool_use" => Finish::ToolCalls,
        "refusal" => Finish::Refusal,
        "pause_turn" => Finish::Pause,
        "model_context_window_exceeded" => Finish::ContextWindow,
        _ => Finish::Other,
    }
}

/// Returns the stop reason of an answer that did or did not call tools.
///
/// OpenAI says `stop` after a call that `tool_choice` forced; Anthropic's SDKs run tools on `tool_use` alone.
pub(super) fn stop_reason(finish: Finish, calls: bool) -> &'static str {
    match finish {
        Finish::Stop | Finish::ToolCalls | Finish::Other if calls => "tool_use",
        Finish::Stop | Finish::ToolCalls | Finish::Other => "end_turn",
        Finish::StopSequence => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ContentFilter | Finish::Refusal => "refusal",
        Finish::Pause => "pause_turn",
        Finish::ContextWindow => "model_context_window_exceeded",
    }
}

/// Encodes an answer for a client that spoke Anthropic.
pub fn encode(response: &Response<'_>, shape: &Shape) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut body = Object::open(&mut out);
    body.string("id", &response.id);
    body.string("type", "message");
    body.string("role", "assistant");
    body.string("model", &shape.model);
    let content = body.key("content");
    content.push(b'[');
    let start = content.len();
    let mut calls = false;
    for part in &response.parts {
        let before = content.len();
        comma(start, content);
        let bare = content.len();
        write_part(part, response.family, content);
        if content.len() == bare {
            content.truncate(before);
        }
        calls |= matches!(part, Part::ToolCall { .. });
    }
    content.push(b']');
    body.string("stop_reason", stop_reason(response.finish, calls));
    write_stop_sequence(response.stop_sequence.as_ref(), &mut body);
    let usage = body.key("usage");
    match &response.usage {
        Some(known) => known.write_anthropic(usage),
        None => Usage::default().write_anthropic(usage),
    }
    body.close();
    out
}

pub(super) fn write_stop_sequence(sequence: Option<&Str<'_>>, object: &mut Object<'_>) {
    match sequence {
        Some(sequence) => object.string("stop_sequence", sequence),
        None => object.key("stop_sequence").extend_from_slice(b"null"),
    }
}

/// Appends one content block; nothing for a part that Anthropic has no word for.
fn write_part(part: &Part<'_>, family: Protocol, out: &mut Vec<u8>) {
    match part {
        Part::Text { text, .. } | Part::Refusal { text } if text.is_empty() => {}
        Part::Text {
            text, citations, ..
        } => match (citations, family) {
            (Some(raw), Protocol::OpenaiChat) => citation::write_text_from_openai(text, raw, out),
            (citations, family) => {
                let own = citations.filter(|_| family == Protocol::Anthropic);
                content::write_text(text, None, own, out);
            }
        },
        Part::Refusal { text } => content::write_text(text, None, None, out),
        Part::ToolCall {
            id,
            name,
            arguments,
            ..
        } => {
            out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":");
            text::string(id, out);
            out.extend_from_slice(b",\"name\":");
            text::string(name, out);
            out.extend_from_slice(b",\"input\":");
            content::input(arguments, out);
            out.push(b'}');
        }
        Part::Reasoning { text, signature } => {
            content::write_thinking(text, signature.as_deref(), out)
        }
        Part::RedactedReasoning { data } => content::write_redacted(data, out),
        Part::Opaque {
            family: Protocol::Anthropic,
            raw,
        } => out.extend_from_slice(raw.get().as_bytes()),
        Part::Opaque { .. }
        | Part::Image { .. }
        | Part::Audio { .. }
        | Part::File { .. }
        | Part::ToolResult { .. } => {}
    }
}

/// Returns the body of an error answer.
pub fn error_body(error: &Error, request_id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + error.message.len());
    let details = match error.param.as_deref() {
        Some("thread") => Some(NO_THREADS),
        Some(_) | None => None,
    };
    write_error(
        error_type(error.kind),
        &error.message,
        details,
        Some(request_id),
        &mut out,
    );
    out
}

/// By this the SDK's tool runner knows to send the whole conversation instead of what is new in a thread.
const NO_THREADS: &str = r#"{"error_code":"thread_unsupported_request","unsupported":[]}"#;

/// Appends an error; `details` is JSON text.
pub(super) fn write_error(
    kind: &str,
    message: &str,
    details: Option<&str>,
    request_id: Option<&str>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    text::string(message, out);
    if let Some(details) = details {
        out.extend_from_slice(b",\"details\":");
        out.extend_from_slice(details.as_bytes());
    }
    out.push(b'}');
    if let Some(id) = request_id {
        out.extend_from_slice(b",\"request_id\":");
        text::string(id, out);
    }
    out.push(b'}');
}

/// Returns `error.type`, by the status as in <https://docs.anthropic.com/en/api/errors>.
///
/// 503 is `overloaded_error`, which Anthropic itself sends with 529: clients that look at the type wait and ask
/// again, and that is what a 503 of ours wants of them.
pub(super) fn error_type(kind: Kind) -> &'static str {
    match kind.status() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        408 | 504 => "timeout_error",
        400..=498 => "invalid_request_error",
        _ => "api_error",
    }
}
