//! A provider's whole answer into the hub.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::detail::{self, Detail, Thoughts};
use super::{extra, message, place};
use crate::error::{Error, Kind, Result};
use crate::protocol::chat::{Finish, Part, Response, Str};
use crate::protocol::text::Reader;
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
    let id = id.unwrap_or_default();
    let answer = id.clone();
    let mut answers = choices
        .into_iter()
        .map(|choice| choice.finish(&answer, shape));
    let (parts, finish, logprobs) = answers
        .next()
        .ok_or_else(|| broken("the provider's answer has no choices"))?;
    Ok(Response {
        family: Protocol::OpenaiChat,
        id,
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
    let mut usage = Usage::default();
    Ok(usage.take_openai_chat(r)?.then_some(usage))
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
    /// Each with the signature that came with it.
    calls: Vec<(Option<Str<'b>>, Part<'b>)>,
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
            "text" if r.peek() == b'"' => choice.content.push(message::plain(r.prose()?)),
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    Ok(choice)
}

impl<'b> Choice<'b> {
    fn message(&mut self, r: &mut Reader<'b>, key: &str) -> Result<()> {
        match (key, r.peek()) {
            ("content", b'"') => self.content.push(message::plain(r.prose()?)),
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
                self.calls.extend(tool_call(r)?);
                Ok(())
            })?,
            ("function_call", b'{') => {
                let (name, arguments) = called(r)?;
                let (id, cache) = (Str::default(), None);
                let call = Part::ToolCall {
                    id,
                    name,
                    arguments,
                    cache,
                };
                self.calls.push((None, call));
            }
            _ => drop(r.raw()?),
        }
        Ok(())
    }

    /// Reads an element of a content that is an array, as Mistral's is when it thinks.
    fn piece(&mut self, r: &mut Reader<'b>) -> Result<()> {
        if r.peek() == b'"' {
            self.content.push(message::plain(r.prose()?));
            return Ok(());
        }
        let (words, thinks) = piece(r)?;
        match words {
            Some(text) if thinks => {
                let (text, signature) = (text.into(), None);
                self.content.push(Part::Reasoning { text, signature });
            }
            Some(text) => self.content.push(message::plain(text)),
            None => {}
        }
        Ok(())
    }

    fn finish(mut self, id: &str, shape: &Shape) -> (Vec<Part<'b>>, Finish, Option<&'b RawValue>) {
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
        let schema = self.calls.iter_mut().find_map(|(_, part)| match part {
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
        parts.extend(self.refusal.map(|text| Part::Refusal { text: text.into() }));
        parts.extend(self.audio.map(place::opaque));
        for (index, (_, part)) in self.calls.iter_mut().enumerate() {
            if let Part::ToolCall { id: own, .. } = part
                && own.is_empty()
            {
                *own = made_up_id(id, index).into();
            }
        }
        let calls = !self.calls.is_empty();
        extra::place(&mut parts, self.calls, Protocol::OpenaiChat);
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

/// Returns an id for the call number `index` of the answer `id`, when it came without one.
///
/// It is told apart from the calls of other turns by the answer's id, of which it takes what every provider
/// allows in an id.
pub(super) fn made_up_id(id: &str, index: usize) -> String {
    let mut made = String::from("call_");
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    made.extend(id.chars().filter(allowed).take(48));
    made.push('_');
    made.push_str(&index.to_string());
    made
}

fn tool_call<'b>(r: &mut Reader<'b>) -> Result<Option<(Option<Str<'b>>, Part<'b>)>> {
    if r.peek() != b'{' {
        r.raw()?;
        return Ok(None);
    }
    if r.tag("type").is_some_and(|kind| kind == "custom") {
        return Ok(Some((None, place::opaque(r.raw_object()?))));
    }
    let (mut id, mut function, cache) = (None, None, None);
    let mut signature = None;
    r.object(|r, key| {
        match (&*key, r.peek()) {
            ("id", _) => id = loose_string(r)?.filter(|id| !id.is_empty()),
            ("function", b'{') => function = Some(called(r)?),
            ("extra_content", _) => signature = extra::read(r)?,
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    Ok(function.map(|(name, arguments)| {
        let call = Part::ToolCall {
            id: id.unwrap_or_default(),
            name,
            arguments,
            cache,
        };
        (signature, call)
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
