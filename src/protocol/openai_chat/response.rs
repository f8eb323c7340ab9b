//! Whole answers: a provider's into the hub, and the hub's for a client.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::detail::{self, Detail, Thoughts};
use super::place::{self, Place};
use super::{citation, message, turn};
use crate::error::{Error, Kind, Result};
use crate::protocol::chat::{Finish, Part, Response, Str};
use crate::protocol::text::{self, Object, Reader};
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, SCHEMA_TOOL, Shape};

/// Decodes a whole answer.
///
/// Errors: `UpstreamBroken` when it is none: no JSON, an error body, or without a choice.
pub fn decode<'b>(body: &'b [u8], shape: &Shape) -> Result<Response<'b>> {
    read(body, shape).map_err(|error| {
        if error.kind == Kind::UpstreamBroken {
            return error;
        }
        broken(format!(
            "the provider's answer can't be read: {}",
            error.message
        ))
    })
}

fn broken(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Kind::UpstreamBroken, message)
}

fn read<'b>(body: &'b [u8], shape: &Shape) -> Result<Response<'b>> {
    let mut reader = Reader::new(body)?;
    let (mut id, mut model, mut service_tier) = (None, None, None);
    let (mut usage, mut failure) = (None, None);
    let mut choices = Vec::new();
    reader.object(|r, key| {
        match &*key {
            "id" => id = loose_string(r)?,
            "model" => model = loose_string(r)?,
            "service_tier" => service_tier = loose_string(r)?,
            "usage" => usage = read_usage(r)?,
            "error" => failure = r.maybe_raw()?,
            "choices" if r.peek() == b'[' => choices = r.list(choice)?,
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    reader.finish()?;
    if choices.is_empty() {
        return Err(match failure {
            Some(raw) => broken(format!("the provider answered an error: {}", said(raw))),
            None => broken("the provider's answer has no choices"),
        });
    }
    let mut answers = choices.into_iter().map(|choice| choice.finish(shape));
    let (parts, finish, logprobs) = answers
        .next()
        .ok_or_else(|| broken("the provider's answer has no choices"))?;
    Ok(Response {
        family: Protocol::OpenaiChat,
        id: id.unwrap_or_default(),
        model: model.unwrap_or_default(),
        parts,
        finish,
        stop_sequence: None,
        usage,
        service_tier,
        logprobs,
        more: answers.map(|(parts, finish, _)| (parts, finish)).collect(),
    })
}

/// Returns the message of an error object, or a bounded piece of whatever else it is.
pub(super) fn said(raw: &RawValue) -> String {
    let mut reader = Reader::of(raw.get());
    let message = match reader.peek() {
        b'"' => reader.string().ok(),
        _ => reader.tag("message").filter(|text| !text.is_empty()),
    };
    let message = message.unwrap_or(Cow::Borrowed(raw.get()));
    message.chars().take(2_000).collect()
}

/// Reads a string; anything else counts as absent.
pub(super) fn loose_string<'b>(r: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    match r.peek() {
        b'"' => r.string().map(Some),
        _ => {
            r.raw()?;
            Ok(None)
        }
    }
}

pub(super) fn read_usage(r: &mut Reader<'_>) -> Result<Option<Usage>> {
    let raw = r.raw()?;
    let mut usage = Usage::default();
    Ok(usage
        .read_openai_chat(raw.get().as_bytes())
        .then_some(usage))
}

/// Returns why an answer ended, as the word says in its many spellings.
pub(super) fn finish_of(word: &str) -> Finish {
    const WORDS: [(&str, Finish); 13] = [
        ("stop", Finish::Stop),
        ("tool_calls", Finish::ToolCalls),
        ("length", Finish::Length),
        ("content_filter", Finish::ContentFilter),
        ("function_call", Finish::ToolCalls),
        ("end_turn", Finish::Stop),
        ("eos", Finish::Stop),
        ("eos_token", Finish::Stop),
        ("max_tokens", Finish::Length),
        ("model_length", Finish::Length),
        ("tool_use", Finish::ToolCalls),
        ("stop_sequence", Finish::StopSequence),
        ("refusal", Finish::Refusal),
    ];
    WORDS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))
        .map_or(Finish::Other, |(_, finish)| *finish)
}

/// Returns the reason that agrees with what the answer holds.
pub(super) fn agreed(finish: Finish, calls: bool, refused: bool) -> Finish {
    match finish {
        Finish::Stop | Finish::Other | Finish::ToolCalls if calls => Finish::ToolCalls,
        Finish::Stop | Finish::ToolCalls if refused => Finish::Refusal,
        Finish::ToolCalls => Finish::Stop,
        Finish::Stop
        | Finish::StopSequence
        | Finish::Length
        | Finish::ContentFilter
        | Finish::Refusal
        | Finish::Pause
        | Finish::ContextWindow
        | Finish::Other => finish,
    }
}

/// One choice as it stands.
#[derive(Default)]
struct Choice<'b> {
    thoughts: Thoughts<'b>,
    content: Vec<Part<'b>>,
    refusal: Option<Str<'b>>,
    audio: Option<&'b RawValue>,
    calls: Vec<Part<'b>>,
    annotations: Option<&'b RawValue>,
    finish: Option<Finish>,
    logprobs: Option<&'b RawValue>,
}

fn choice<'b>(reader: &mut Reader<'b>) -> Result<Choice<'b>> {
    let mut choice = Choice::default();
    if reader.peek() != b'{' {
        reader.raw()?;
        return Ok(choice);
    }
    reader.object(|r, key| {
        match &*key {
            "message" if r.peek() == b'{' => r.object(|r, key| choice.message(r, &key))?,
            "finish_reason" => choice.finish = loose_string(r)?.map(|word| finish_of(&word)),
            "logprobs" => choice.logprobs = r.maybe_raw()?,
            // The completions of old, as some servers still answer.
            "text" if r.peek() == b'"' => choice.content.push(message::plain(r.string()?)),
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    Ok(choice)
}

impl<'b> Choice<'b> {
    fn message(&mut self, r: &mut Reader<'b>, key: &str) -> Result<()> {
        match (key, r.peek()) {
            ("content", b'"') => self.content.push(message::plain(r.string()?)),
            ("content", b'[') => r.array(|r| self.piece(r))?,
            ("reasoning_content" | "reasoning", b'"') => {
                let text = r.string()?;
                if !text.is_empty() {
                    self.thoughts.plain = Some(text);
                }
            }
            ("reasoning_details", b'[') => r.array(|r| {
                let mark = r.mark();
                match detail::read(r) {
                    // The plain text says the same.
                    Ok(Detail::Summary(_)) => {}
                    Ok(detail) => self.thoughts.add(detail),
                    Err(_) => {
                        r.back(mark);
                        r.raw()?;
                    }
                }
                Ok(())
            })?,
            ("refusal", b'"') => self.refusal = Some(r.string()?).filter(|text| !text.is_empty()),
            ("annotations", b'[') => {
                self.annotations = Some(r.raw()?).filter(|raw| !message::is_empty(raw));
            }
            ("audio", b'{') => self.audio = Some(r.raw()?),
            ("tool_calls", b'[') => r.array(|r| {
                let call = tool_call(r, self.calls.len())?;
                self.calls.extend(call);
                Ok(())
            })?,
            ("function_call", b'{') => {
                let (name, arguments) = called(r)?;
                let id = made_up_id(self.calls.len());
                let cache = None;
                self.calls.push(Part::ToolCall {
                    id,
                    name,
                    arguments,
                    cache,
                });
            }
            _ => drop(r.raw()?),
        }
        Ok(())
    }

    /// Reads an element of a content that is an array, as Mistral's is when it thinks.
    fn piece(&mut self, r: &mut Reader<'b>) -> Result<()> {
        if r.peek() == b'"' {
            self.content.push(message::plain(r.string()?));
            return Ok(());
        }
        let (words, thinks) = piece(r)?;
        match words {
            Some(text) if thinks => {
                let signature = None;
                self.content.push(Part::Reasoning { text, signature });
            }
            Some(text) => self.content.push(message::plain(text)),
            None => {}
        }
        Ok(())
    }

    fn finish(mut self, shape: &Shape) -> (Vec<Part<'b>>, Finish, Option<&'b RawValue>) {
        let mut parts = self.thoughts.into_parts();
        self.content
            .retain(|part| !matches!(part, Part::Text { text, .. } if text.is_empty()));
        let first = self.content.iter_mut().find_map(|part| match part {
            Part::Text { citations, .. } => Some(citations),
            Part::Refusal { .. }
            | Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::Reasoning { .. }
            | Part::RedactedReasoning { .. }
            | Part::Opaque { .. } => None,
        });
        if let Some(citations) = first {
            *citations = self.annotations;
        }
        let schema = self.calls.iter_mut().find_map(|part| match part {
            Part::ToolCall {
                name, arguments, ..
            } if shape.schema_tool && name == SCHEMA_TOOL => Some(std::mem::take(arguments)),
            Part::ToolCall { .. }
            | Part::Text { .. }
            | Part::Refusal { .. }
            | Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolResult { .. }
            | Part::Reasoning { .. }
            | Part::RedactedReasoning { .. }
            | Part::Opaque { .. } => None,
        });
        let finish = self.finish.unwrap_or(Finish::Other);
        if let Some(answer) = schema {
            // What was said beside it would make the text no JSON.
            parts.push(message::plain(answer));
            let finish = if finish == Finish::ToolCalls {
                Finish::Stop
            } else {
                finish
            };
            return (parts, finish, self.logprobs);
        }
        parts.append(&mut self.content);
        let refused = self.refusal.is_some();
        parts.extend(self.refusal.map(|text| Part::Refusal { text }));
        parts.extend(self.audio.map(place::opaque));
        let calls = !self.calls.is_empty();
        parts.append(&mut self.calls);
        (parts, agreed(finish, calls, refused), self.logprobs)
    }
}

/// Reads a piece of content: its text, and whether it is thinking.
pub(super) fn piece<'b>(r: &mut Reader<'b>) -> Result<(Option<Str<'b>>, bool)> {
    let (mut words, mut thinks) = (None::<Str<'b>>, false);
    if r.peek() != b'{' {
        r.raw()?;
        return Ok((None, false));
    }
    r.object(|r, key| {
        match (&*key, r.peek()) {
            ("text", b'"') => words = Some(r.string()?),
            ("thinking", b'"') => {
                thinks = true;
                words = Some(r.string()?);
            }
            ("thinking", b'[') => {
                thinks = true;
                r.array(|r| {
                    // No deeper: thinking has no thinking.
                    let text = if r.peek() == b'{' {
                        text_of(r)?
                    } else {
                        loose_string(r)?
                    };
                    match (&mut words, text) {
                        (Some(words), Some(text)) => words.to_mut().push_str(&text),
                        (none, text) => *none = text,
                    }
                    Ok(())
                })?;
            }
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    Ok((words, thinks))
}

fn text_of<'b>(r: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    let mut text = None;
    r.object(|r, key| {
        match &*key {
            "text" => text = loose_string(r)?,
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    Ok(text)
}

/// Returns an id for a call that came without one; `index` counts from 0 in its answer.
pub(super) fn made_up_id<'b>(index: usize) -> Str<'b> {
    Cow::Owned(format!("call_{index}"))
}

fn tool_call<'b>(r: &mut Reader<'b>, index: usize) -> Result<Option<Part<'b>>> {
    if r.peek() != b'{' {
        r.raw()?;
        return Ok(None);
    }
    if r.tag("type").is_some_and(|kind| kind == "custom") {
        return Ok(Some(place::opaque(r.raw_object()?)));
    }
    let (mut id, mut function, cache) = (None, None, None);
    r.object(|r, key| {
        match (&*key, r.peek()) {
            ("id", _) => id = loose_string(r)?.filter(|id| !id.is_empty()),
            ("function", b'{') => function = Some(called(r)?),
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    Ok(function.map(|(name, arguments)| Part::ToolCall {
        id: id.unwrap_or_else(|| made_up_id(index)),
        name,
        arguments,
        cache,
    }))
}

fn called<'b>(r: &mut Reader<'b>) -> Result<(Str<'b>, Str<'b>)> {
    let (mut name, mut arguments) = (None, None);
    r.object(|r, key| {
        match &*key {
            "name" => name = loose_string(r)?,
            "arguments" => arguments = loose_arguments(r)?,
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    Ok((name.unwrap_or_default(), arguments.unwrap_or_default()))
}

/// Reads arguments: JSON in a string, or the object itself, as some servers answer.
pub(super) fn loose_arguments<'b>(r: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    match r.peek() {
        b'"' | b'{' => message::arguments(r).map(Some),
        _ => {
            r.raw()?;
            Ok(None)
        }
    }
}

/// Encodes an answer as a `chat.completion`.
pub fn encode(response: &Response<'_>, shape: &Shape) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut object = Object::open(&mut out);
    object.string("id", &response.id);
    object.string("object", "chat.completion");
    object.integer("created", shape.created);
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
    let mut object = Object::open(out);
    object.integer("index", index);
    let mut message = Object::open(object.key("message"));
    message.string("role", "assistant");
    let (mut said, mut refusal) = (None, None);
    let (mut calls, mut annotations) = (Vec::new(), Vec::new());
    let (mut images, mut audio) = (Vec::new(), None);
    let mut chars = 0;
    for part in parts {
        match part {
            Part::Text {
                text, citations, ..
            } => {
                let start = chars;
                // Positions are counted for those who cite alone.
                if response.family == Protocol::Anthropic {
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
                turn::write_call(id, name, arguments, None, &mut calls);
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
                turn::write_image(source, &mut images);
            }
            // The thinking follows below; the rest is no part of an answer here.
            Part::Reasoning { .. }
            | Part::RedactedReasoning { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolResult { .. }
            | Part::Opaque {
                family: Protocol::Anthropic,
                ..
            } => {}
        }
    }
    match &said {
        Some(text) => message.string("content", text),
        None => message.key("content").extend_from_slice(b"null"),
    }
    match &refusal {
        Some(text) => message.string("refusal", text),
        None => message.key("refusal").extend_from_slice(b"null"),
    }
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
    match logprobs {
        Some(logprobs) => object.raw("logprobs", logprobs),
        None => object.key("logprobs").extend_from_slice(b"null"),
    }
    object.string(
        "finish_reason",
        finish_word(finish, !calls.is_empty(), refusal.is_some()),
    );
    object.close();
}

fn append<'p>(all: &mut Option<Cow<'p, str>>, text: &'p str) {
    match all {
        Some(all) => all.to_mut().push_str(text),
        None => *all = Some(Cow::Borrowed(text)),
    }
}

/// Appends the annotations of a text that stands from `start` to `end` in its message.
fn cite(family: Protocol, list: &RawValue, start: u64, end: u64, out: &mut Vec<u8>) {
    citation::each(list, |raw| match family {
        Protocol::OpenaiChat => {
            text::comma(0, out);
            out.extend_from_slice(raw.get().as_bytes());
        }
        Protocol::Anthropic => {
            if let Some(page) = citation::page(raw) {
                text::comma(0, out);
                citation::write(&page, start, end, out);
            }
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
        | Kind::BodyTooLarge
        | Kind::MethodNotAllowed
        | Kind::ClientGone => "invalid_request_error",
        Kind::InvalidKey => "authentication_error",
        Kind::ModelNotAllowed => "permission_error",
        Kind::ModelNotFound | Kind::PathNotFound | Kind::NotCached => "not_found_error",
        Kind::RateLimited => "rate_limit_error",
        Kind::BodyTimeout | Kind::Timeout => "timeout",
        Kind::UpstreamUnavailable
        | Kind::UpstreamBroken
        | Kind::UpstreamAccount
        | Kind::Overloaded
        | Kind::Internal => "server_error",
    }
}
