//! Whole answers: `text_completion` objects.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::error::{Error, Kind, Result};
use crate::protocol::chat::{Finish, Part, Response, Str};
use crate::protocol::text::{Object, Reader, comma};
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape, tap};

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
    let answer = Answer::read(body)?;
    let mut choices = answer.choices.unwrap_or_default();
    if choices.is_empty() {
        return Err(match answer.error {
            Some(raw) => broken(format!("the provider answered an error: {}", said(raw))),
            None => broken("the provider's answer has no choices"),
        });
    }
    choices.sort_by_key(|choice| choice.index);
    let mut told = choices.into_iter().map(|choice| {
        let text = choice.text.unwrap_or_default();
        let parts = if text.is_empty() {
            Vec::new()
        } else {
            vec![Part::Text {
                text: text.into(),
                cache: None,
                citations: None,
            }]
        };
        (parts, choice.finish.unwrap_or(Finish::Other))
    });
    let (parts, finish) = told.next().unwrap_or((Vec::new(), Finish::Other));
    Ok(Response {
        family: Protocol::OpenaiCompletions,
        id: match answer.id {
            Some(id) => id,
            None => id_of(shape).into(),
        },
        model: answer.model.unwrap_or_default(),
        parts,
        finish,
        stop_sequence: None,
        usage: answer.usage,
        service_tier: None,
        logprobs: None,
        more: told.collect(),
    })
}

/// Returns what an error says.
fn said(error: &RawValue) -> String {
    let text = error.get().as_bytes();
    tap::failure(text, 0..text.len()).1
}

/// Returns whether an `error` says that there is one.
fn is_told(error: &RawValue) -> bool {
    !matches!(error.get(), "null" | "false" | "\"\"" | "{}" | "[]")
}

/// Reads a string; anything else counts as absent.
fn string<'b>(r: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    if r.peek() == b'"' {
        return r.string().map(Some);
    }
    r.raw().map(|_| None)
}

/// Reads a string that says something.
fn words<'b>(r: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    Ok(string(r)?.filter(|text| !text.is_empty()))
}

/// Returns an id for an answer that came without one.
pub(super) fn id_of(shape: &Shape) -> String {
    format!("cmpl-{}", shape.id)
}

/// What an answer, or one chunk of a stream, tells.
#[derive(Debug, Default)]
pub(super) struct Answer<'b> {
    pub id: Option<Str<'b>>,
    pub model: Option<Str<'b>>,
    pub choices: Option<Vec<Choice<'b>>>,
    pub usage: Option<Usage>,
    pub error: Option<&'b RawValue>,
}

#[derive(Debug, Default)]
pub(super) struct Choice<'b> {
    pub index: u32,
    pub text: Option<Str<'b>>,
    pub finish: Option<Finish>,
}

impl<'b> Answer<'b> {
    pub fn read(body: &'b [u8]) -> Result<Self> {
        let mut answer = Self::default();
        let mut reader = Reader::new(body)?;
        reader.object(|r, key| {
            match (&*key, r.peek()) {
                ("id", _) => answer.id = words(r)?,
                ("model", _) => answer.model = words(r)?,
                ("choices", b'[') => answer.choices = Some(Choice::list(r)?),
                ("usage", b'{') => {
                    let mut usage = Usage::default();
                    if usage.take_openai_chat(r)? {
                        answer.usage = Some(usage);
                    }
                }
                ("error", _) => answer.error = Some(r.raw()?).filter(|raw| is_told(raw)),
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        reader.finish()?;
        Ok(answer)
    }
}

impl<'b> Choice<'b> {
    /// Reads the choices; what is no object is none.
    fn list(r: &mut Reader<'b>) -> Result<Vec<Self>> {
        let mut choices = Vec::new();
        r.array(|r| {
            if r.peek() != b'{' {
                return r.raw().map(drop);
            }
            choices.push(Self::read(r)?);
            Ok(())
        })?;
        Ok(choices)
    }

    fn read(r: &mut Reader<'b>) -> Result<Self> {
        let mut choice = Self::default();
        r.object(|r, key| {
            match (&*key, r.peek()) {
                ("index", b'0'..=b'9') => choice.index = r.integer()?,
                ("text", _) => choice.text = string(r)?,
                ("finish_reason", _) => choice.finish = words(r)?.map(|word| finish(&word)),
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        Ok(choice)
    }
}

/// Returns why an answer ended, in the words of everyone who speaks this.
fn finish(word: &str) -> Finish {
    match word {
        "stop" | "eos" | "eos_token" | "end_turn" => Finish::Stop,
        "stop_sequence" => Finish::StopSequence,
        "length" | "max_tokens" | "model_length" => Finish::Length,
        "content_filter" => Finish::ContentFilter,
        _ => Finish::Other,
    }
}

/// Returns OpenAI's word for why an answer ended.
pub(super) fn finish_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Length | Finish::ContextWindow => "length",
        Finish::ContentFilter | Finish::Refusal => "content_filter",
        Finish::Stop | Finish::StopSequence | Finish::ToolCalls | Finish::Pause | Finish::Other => {
            "stop"
        }
    }
}

/// Encodes an answer as a `text_completion`. What is no text has no place in it.
pub fn encode(response: &Response<'_>, shape: &Shape) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut object = Object::open(&mut out);
    if response.id.is_empty() {
        object.string("id", &id_of(shape));
    } else {
        object.string("id", &response.id);
    }
    object.string("object", "text_completion");
    object.integer("created", shape.created);
    let model = if shape.model.is_empty() {
        &*response.model
    } else {
        &shape.model
    };
    object.string("model", model);
    let choices = object.key("choices");
    choices.push(b'[');
    let start = choices.len();
    let first = (&response.parts, response.finish);
    let all = std::iter::once(first).chain(response.more.iter().map(|(parts, end)| (parts, *end)));
    for (index, (parts, end)) in (0..).zip(all) {
        comma(start, choices);
        let mut choice = Object::open(choices);
        choice.string("text", &text_of(parts));
        choice.integer("index", index);
        choice.key("logprobs").extend_from_slice(b"null");
        choice.string("finish_reason", finish_word(end));
        choice.close();
    }
    choices.push(b']');
    if let Some(usage) = &response.usage {
        usage.write_openai_chat(object.key("usage"));
    }
    object.close();
    out
}

fn text_of(parts: &[Part<'_>]) -> String {
    let mut all = String::new();
    for part in parts {
        match part {
            Part::Text { text, .. } | Part::Refusal { text } => all.push_str(text),
            Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::Reasoning { .. }
            | Part::RedactedReasoning { .. }
            | Part::Opaque { .. } => {}
        }
    }
    all
}

/// Returns the body of an error answer.
pub fn error_body(error: &Error, _request_id: &str) -> Vec<u8> {
    crate::protocol::openai_chat::response::error_body(error)
}
