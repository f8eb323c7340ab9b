//! Whole answers and errors, as a client is told them.

use serde_json::value::RawValue;

use super::place::{self, Place};
use super::{citation, detail, extra, media};
use crate::error::{Error, Kind};
use crate::protocol::chat::{Finish, Part, Prose, Response};
use crate::protocol::text::{self, Object};
use crate::protocol::{Protocol, Shape};

pub use super::answer::decode;

/// Encodes an answer as a `chat.completion`.
pub fn encode(response: &Response<'_>, shape: &Shape) -> Vec<u8> {
    let mut out = Vec::with_capacity(size(response));
    out.extend_from_slice(b"{\"id\":");
    text::string(&response.id, &mut out);
    out.extend_from_slice(b",\"object\":\"chat.completion\",\"created\":");
    text::integer(shape.created, &mut out);
    let mut object = Object::resume(&mut out);
    let model = if shape.model.is_empty() {
        &*response.model
    } else {
        &shape.model
    };
    object.string("model", model);
    let choices = object.key("choices");
    choices.push(b'[');
    write_choice(
        0,
        response,
        &response.parts,
        response.finish,
        response.logprobs,
        choices,
    );
    for (index, (parts, finish)) in (1..).zip(&response.more) {
        choices.push(b',');
        write_choice(index, response, parts, *finish, None, choices);
    }
    choices.push(b']');
    if let Some(usage) = &response.usage {
        usage.write_openai_chat(object.key("usage"));
    }
    if let Some(tier) = response.service_tier.as_deref().and_then(tier) {
        object.string("service_tier", tier);
    }
    object.close();
    out
}

/// Returns about how many bytes the body will take, so that it is allocated once.
fn size(response: &Response<'_>) -> usize {
    let more = response.more.iter().flat_map(|(parts, _)| parts);
    let parts = response.parts.iter().chain(more).map(|part| match part {
        Part::Text { text, .. } | Part::Refusal { text } | Part::Reasoning { text, .. } => {
            64 + text.size() + text.size() / 16
        }
        Part::ToolCall { arguments, .. } => 192 + arguments.len() + arguments.len() / 8,
        Part::Image { .. }
        | Part::Audio { .. }
        | Part::File { .. }
        | Part::ToolResult { .. }
        | Part::RedactedReasoning { .. }
        | Part::Opaque { .. } => 64,
    });
    768 + parts.sum::<usize>()
}

/// Returns a service tier in OpenAI's words; others' tiers have none.
pub(super) fn tier(name: &str) -> Option<&str> {
    match name {
        "auto" | "default" | "flex" | "scale" | "priority" => Some(name),
        "standard" => Some("default"),
        _ => None,
    }
}

fn write_choice(
    index: u64,
    response: &Response<'_>,
    parts: &[Part<'_>],
    finish: Finish,
    logprobs: Option<&RawValue>,
    out: &mut Vec<u8>,
) {
    let (mut said, mut refusal) = (None, None);
    let (mut calls, mut annotations) = (Vec::new(), Vec::new());
    let (mut images, mut audio) = (Vec::new(), None);
    // Positions are counted for those who cite alone.
    let cites = response.family == Protocol::Anthropic
        && parts.iter().any(|part| {
            matches!(
                part,
                Part::Text {
                    citations: Some(_),
                    ..
                }
            )
        });
    let mut chars = 0;
    let mut before = None;
    for part in parts {
        let signed = std::mem::replace(&mut before, extra::lone(part));
        match part {
            Part::Text {
                text, citations, ..
            } => {
                let start = chars;
                if cites {
                    chars += text.chars().count() as u64;
                }
                if let Some(citations) = citations {
                    cite(response.family, citations, start, chars, &mut annotations);
                }
                append(&mut said, text);
            }
            Part::Refusal { text } => append(&mut refusal, text),
            Part::ToolCall {
                id,
                name,
                arguments,
                ..
            } => {
                text::comma(0, &mut calls);
                let signature = signed.and_then(extra::shown);
                media::write_call(id, name, arguments, None, signature, &mut calls);
            }
            Part::Opaque {
                family: Protocol::OpenaiChat,
                raw,
            } => match place::of(raw) {
                Place::Call => {
                    text::comma(0, &mut calls);
                    calls.extend_from_slice(raw.get().as_bytes());
                }
                Place::Audio => audio = Some(*raw),
                Place::Detail | Place::Content => {}
            },
            Part::Image { source, .. } => {
                text::comma(0, &mut images);
                media::write_image(source, &mut images);
            }
            // The thinking follows below; the rest is no part of an answer here.
            Part::Reasoning { .. }
            | Part::RedactedReasoning { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolResult { .. }
            | Part::Opaque { .. } => {}
        }
    }
    out.extend_from_slice(b"{\"index\":");
    text::integer(index, out);
    out.extend_from_slice(b",\"message\":{\"role\":\"assistant\",\"content\":");
    write_or_null(said.as_ref(), out);
    out.extend_from_slice(b",\"refusal\":");
    write_or_null(refusal.as_ref(), out);
    let mut message = Object::resume(out);
    detail::write_fields(parts.iter(), &mut message);
    for (name, list) in [
        ("tool_calls", &calls),
        ("annotations", &annotations),
        ("images", &images),
    ] {
        if !list.is_empty() {
            let out = message.key(name);
            out.push(b'[');
            out.extend_from_slice(list);
            out.push(b']');
        }
    }
    message.maybe_raw("audio", audio);
    message.close();
    out.extend_from_slice(b",\"logprobs\":");
    out.extend_from_slice(logprobs.map_or("null", RawValue::get).as_bytes());
    out.extend_from_slice(b",\"finish_reason\":\"");
    let word = finish_word(finish, !calls.is_empty(), refusal.is_some());
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\"}");
}

fn write_or_null(text: Option<&Prose<'_>>, out: &mut Vec<u8>) {
    match text {
        Some(text) => text.write(out),
        None => out.extend_from_slice(b"null"),
    }
}

fn append<'p>(all: &mut Option<Prose<'p>>, text: &'p Prose<'_>) {
    match all {
        Some(all) => all.push_str(text),
        None => *all = Some(text.lend()),
    }
}

/// Appends the annotations of a text that stands from `start` to `end` in its message.
fn cite(family: Protocol, list: &RawValue, start: u64, end: u64, out: &mut Vec<u8>) {
    citation::each(list, |raw| {
        if family == Protocol::OpenaiChat {
            text::comma(0, out);
            out.extend_from_slice(raw.get().as_bytes());
        } else if family == Protocol::Anthropic
            && let Some(page) = citation::page(raw)
        {
            text::comma(0, out);
            citation::write(&page, start, end, None, out);
        }
    });
}

/// Returns OpenAI's word for why an answer ended that holds `calls` or was `refused` in words.
pub(super) fn finish_word(finish: Finish, calls: bool, refused: bool) -> &'static str {
    match finish {
        Finish::Length | Finish::ContextWindow => "length",
        Finish::ContentFilter => "content_filter",
        // OpenAI's own refusals end with `stop` and say why in `refusal`.
        Finish::Refusal if !refused => "content_filter",
        Finish::Stop
        | Finish::StopSequence
        | Finish::ToolCalls
        | Finish::Refusal
        | Finish::Pause
        | Finish::Other => {
            if calls {
                "tool_calls"
            } else {
                "stop"
            }
        }
    }
}

/// Returns the body of an error answer.
pub fn error_body(error: &Error) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_error(
        &error.message,
        error_type(error.kind),
        error.param.as_deref(),
        error.kind.code(),
        &mut out,
    );
    out
}

/// Appends `{"error":{…}}`.
pub(super) fn write_error(
    message: &str,
    kind: &str,
    param: Option<&str>,
    code: &str,
    out: &mut Vec<u8>,
) {
    let mut object = Object::open(out);
    let mut inner = Object::open(object.key("error"));
    inner.string("message", message);
    inner.string("type", kind);
    match param {
        Some(param) => inner.string("param", param),
        None => inner.key("param").extend_from_slice(b"null"),
    }
    inner.string("code", code);
    inner.close();
    object.close();
}

fn error_type(kind: Kind) -> &'static str {
    match kind {
        Kind::InvalidRequest
        | Kind::Unsupported
        | Kind::ContextExceeded
        | Kind::BodyTooLarge
        | Kind::MethodNotAllowed
        | Kind::PreviousResponseNotFound
        // As OpenAI: a response that is not there is the request's fault.
        | Kind::ResponseNotFound
        | Kind::ClientGone => "invalid_request_error",
        Kind::InvalidKey => "authentication_error",
        Kind::BudgetExceeded => "insufficient_quota",
        Kind::ModelNotAllowed | Kind::NotPermitted | Kind::Denied => "permission_error",
        Kind::ModelNotFound | Kind::PathNotFound | Kind::NotCached => "not_found_error",
        Kind::RateLimited => "rate_limit_error",
        Kind::BodyTimeout | Kind::Timeout => "timeout",
        Kind::UpstreamUnavailable
        | Kind::UpstreamBroken
        | Kind::UpstreamAccount
        | Kind::Overloaded
        | Kind::StateUnavailable
        | Kind::Internal => "server_error",
    }
}
