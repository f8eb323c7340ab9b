//! Whole answers: Converse's into the hub and out of it, and error bodies.

use std::borrow::Cow;

use super::request::input;
use super::{blob, content};
use crate::error::{Error, Kind, Result};
use crate::protocol::chat::{Finish, Part, Response};
use crate::protocol::text::{self, Object, Reader, comma};
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
        family: Protocol::Bedrock,
        // The provider gives none but in a header.
        id: Cow::Owned(format!("msg_{}", shape.id)),
        model: Cow::Owned(shape.model.clone()),
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
            "output" => r.object(|r, key| match &*key {
                "message" => r.object(|r, key| {
                    match &*key {
                        "content" => parts = Some(r.maybe(content::parts)?.unwrap_or_default()),
                        _ => r.raw().map(drop)?,
                    }
                    Ok(())
                }),
                _ => r.raw().map(drop),
            })?,
            "stopReason" => {
                let reason = r.maybe(Reader::string)?;
                response.finish = reason.as_deref().map_or(Finish::Other, finish);
            }
            "usage" => response.usage = r.maybe(Reader::raw_object)?.map(|raw| usage(raw.get())),
            "serviceTier" => {
                r.maybe(|r| {
                    r.object(|r, key| {
                        match &*key {
                            "type" => response.service_tier = r.maybe(Reader::string)?,
                            _ => r.raw().map(drop)?,
                        }
                        Ok(())
                    })
                })?;
            }
            "additionalModelResponseFields" if r.peek() == b'{' => r.object(|r, key| {
                match &*key {
                    "stop_sequence" if r.peek() == b'"' => {
                        response.stop_sequence = Some(r.string()?);
                    }
                    _ => r.raw().map(drop)?,
                }
                Ok(())
            })?,
            _ => r.raw().map(drop)?,
        }
        Ok(())
    })?;
    reader.finish()?;
    response.parts = parts.ok_or_else(|| reader.missing("output.message.content"))?;
    if let (Some(usage), Some(tier)) = (&mut response.usage, &response.service_tier) {
        usage.tier = Some(tier.as_ref().into());
    }
    if shape.schema_tool {
        answer_from_tool(&mut response);
    }
    Ok(response)
}

fn usage(json: &str) -> Usage {
    let mut usage = Usage::default();
    usage.read_bedrock(json.as_bytes());
    usage
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
        "guardrail_intervened" | "content_filtered" => Finish::ContentFilter,
        "model_context_window_exceeded" => Finish::ContextWindow,
        "refusal" => Finish::Refusal,
        "pause_turn" => Finish::Pause,
        _ => Finish::Other,
    }
}

/// Returns the stop reason of an answer that did or did not call tools.
///
/// OpenAI says `stop` after a call that `tool_choice` forced; AWS's examples run tools on `tool_use` alone.
pub(super) fn stop_reason(finish: Finish, calls: bool) -> &'static str {
    match finish {
        Finish::Stop | Finish::ToolCalls | Finish::Other if calls => "tool_use",
        Finish::Stop | Finish::ToolCalls | Finish::Other | Finish::Pause => "end_turn",
        Finish::StopSequence => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ContentFilter | Finish::Refusal => "content_filtered",
        Finish::ContextWindow => "model_context_window_exceeded",
    }
}

/// Encodes an answer for a client that spoke Converse. How long the model took is not known here; the field is
/// demanded by its type.
pub fn encode(response: &Response<'_>, _shape: &Shape) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut body = Object::open(&mut out);
    body.key("metrics").extend_from_slice(b"{\"latencyMs\":0}");
    let content = body.key("output");
    content.extend_from_slice(b"{\"message\":{\"role\":\"assistant\",\"content\":[");
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
    content.extend_from_slice(b"]}}");
    body.string("stopReason", stop_reason(response.finish, calls));
    let usage = body.key("usage");
    match &response.usage {
        Some(known) => known.write_bedrock(usage),
        None => Usage::default().write_bedrock(usage),
    }
    let tier = response.service_tier.as_deref().and_then(tier);
    if let Some(tier) = tier {
        let mut object = Object::open(body.key("serviceTier"));
        object.string("type", tier);
        object.close();
    }
    body.close();
    out
}

/// Returns the tier in one of the words that Bedrock's type knows.
pub(super) fn tier(word: &str) -> Option<&'static str> {
    Some(match word {
        "default" | "standard" => "default",
        "priority" => "priority",
        "flex" => "flex",
        "reserved" => "reserved",
        _ => return None,
    })
}

/// Appends one content block; nothing for a part that Bedrock has no word for.
fn write_part(part: &Part<'_>, family: Protocol, out: &mut Vec<u8>) {
    match part {
        Part::Text { text, .. } | Part::Refusal { text } if text.is_empty() => {}
        Part::Text {
            text,
            citations: Some(raw),
            ..
        } if family == Protocol::Bedrock => {
            out.extend_from_slice(b"{\"citationsContent\":{\"content\":[{\"text\":");
            text::string(text, out);
            out.extend_from_slice(b"}],\"citations\":");
            out.extend_from_slice(raw.get().as_bytes());
            out.extend_from_slice(b"}}");
        }
        Part::Text { text, .. } | Part::Refusal { text } => {
            out.extend_from_slice(b"{\"text\":");
            text::string(text, out);
            out.push(b'}');
        }
        Part::ToolCall {
            id,
            name,
            arguments,
            ..
        } => {
            out.extend_from_slice(b"{\"toolUse\":");
            let mut object = Object::open(out);
            object.string("toolUseId", id);
            object.string("name", name);
            input(arguments, object.key("input"));
            object.close();
            out.push(b'}');
        }
        Part::Reasoning { text, signature } => {
            out.extend_from_slice(b"{\"reasoningContent\":{\"reasoningText\":");
            let mut object = Object::open(out);
            object.string("text", text);
            let signature = signature.as_deref().map(blob::outward);
            object.maybe_string("signature", signature.as_deref());
            object.close();
            out.extend_from_slice(b"}}");
        }
        Part::RedactedReasoning { data } => {
            out.extend_from_slice(b"{\"reasoningContent\":{\"redactedContent\":");
            text::string(&blob::outward_bytes(data), out);
            out.extend_from_slice(b"}}");
        }
        Part::Opaque {
            family: Protocol::Bedrock,
            raw,
        } => out.extend_from_slice(raw.get().as_bytes()),
        Part::Opaque { .. }
        | Part::Image { .. }
        | Part::Audio { .. }
        | Part::File { .. }
        | Part::ToolResult { .. } => {}
    }
}

/// Returns the body of an error answer; its kind goes into the header `x-amzn-errortype`, see [`error_type`].
pub fn error_body(error: &Error, _request_id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + error.message.len());
    let mut body = Object::open(&mut out);
    body.string("message", &error.message);
    body.close();
    out
}

/// Returns the name of an error, by which AWS's SDKs choose the exception: what `x-amzn-errortype` says.
pub fn error_type(kind: Kind) -> &'static str {
    match kind.status() {
        401..=403 => "AccessDeniedException",
        404 | 405 => "ResourceNotFoundException",
        408 | 504 => "ModelTimeoutException",
        429 => "ThrottlingException",
        502 => "ModelErrorException",
        503 | 529 => "ServiceUnavailableException",
        400..=499 => "ValidationException",
        _ => "InternalServerException",
    }
}
