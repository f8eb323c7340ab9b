//! Whole answers.

use serde_json::value::RawValue;

use super::words::{self, Call};
use crate::error::{Error, Kind, Result};
use crate::protocol::blocks::{agreed, answer_from_tool, call_id};
use crate::protocol::chat::{Part, Response, Str};
use crate::protocol::text::{Object, Reader, comma};
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape};

/// An answer as it came.
#[derive(Debug, Default)]
struct Answer<'b> {
    id: Str<'b>,
    finish: Str<'b>,
    usage: Option<&'b RawValue>,
    logprobs: Option<&'b RawValue>,
    has_message: bool,
    plan: Str<'b>,
    content: Vec<Part<'b>>,
    calls: Vec<Call<'b>>,
    citations: Option<&'b RawValue>,
}

impl<'b> Answer<'b> {
    fn read(body: &'b [u8]) -> Result<Self> {
        let mut r = Reader::new(body)?;
        let mut answer = Self::default();
        r.object(|r, key| {
            match (&*key, r.peek()) {
                ("id", b'"') => answer.id = r.string()?,
                ("finish_reason", b'"') => answer.finish = r.string()?,
                ("usage", b'{') => answer.usage = Some(r.raw()?),
                ("logprobs", b'[') => answer.logprobs = Some(r.raw()?),
                ("message", b'{') => {
                    answer.has_message = true;
                    answer.message(r)?;
                }
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        r.finish()?;
        Ok(answer)
    }

    fn message(&mut self, r: &mut Reader<'b>) -> Result<()> {
        r.object(|r, key| {
            match (&*key, r.peek()) {
                ("content", b'"') => self.content.push(plain(r.string()?)),
                ("content", b'[') => r.array(|r| {
                    self.content.extend(part(r)?);
                    Ok(())
                })?,
                ("tool_plan", b'"') => self.plan = r.string()?,
                ("tool_calls", b'[') => self.calls = r.list(Call::read)?,
                ("citations", b'[') => self.citations = Some(r.raw()?),
                _ => drop(r.raw()?),
            }
            Ok(())
        })
    }
}

fn plain(text: Str<'_>) -> Part<'_> {
    Part::Text {
        text: text.into(),
        cache: None,
        citations: None,
    }
}

fn part<'b>(r: &mut Reader<'b>) -> Result<Option<Part<'b>>> {
    let (mut text, mut thinking): (Str<'b>, Str<'b>) = Default::default();
    r.object(|r, key| {
        match (&*key, r.peek()) {
            ("text", b'"') => text = r.string()?,
            ("thinking", b'"') => thinking = r.string()?,
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    Ok(if !thinking.is_empty() {
        Some(Part::Reasoning {
            text: thinking.into(),
            signature: None,
        })
    } else if !text.is_empty() {
        Some(plain(text))
    } else {
        None
    })
}

/// Decodes a provider's answer. What can't be read as one is a fault of the upstream.
pub fn decode<'b>(body: &'b [u8], shape: &Shape) -> Result<Response<'b>> {
    let broken = |message: String| Error::new(Kind::UpstreamBroken, message);
    let answer = Answer::read(body).map_err(|error| {
        broken(format!(
            "The provider's answer can't be read: {}",
            error.message
        ))
        .with_cause(error)
    })?;
    if !answer.has_message {
        return Err(broken("The provider's answer has no message".to_owned()));
    }
    if words::is_failure(&answer.finish) {
        return Err(broken(format!(
            "The provider broke its answer off: {}",
            answer.finish
        )));
    }
    let mut parts = Vec::with_capacity(1 + answer.content.len() + answer.calls.len());
    if !answer.plan.is_empty() {
        parts.push(Part::Reasoning {
            text: answer.plan.into(),
            signature: None,
        });
    }
    parts.extend(answer.content);
    if let Some(list) = answer.citations.filter(|list| list.get() != "[]") {
        let last = parts
            .iter_mut()
            .rev()
            .find(|part| matches!(part, Part::Text { .. }));
        if let Some(Part::Text { citations, .. }) = last {
            *citations = Some(list);
        }
    }
    let calls = !answer.calls.is_empty();
    for (n, call) in (1..).zip(answer.calls) {
        parts.push(Part::ToolCall {
            id: if call.id.is_empty() {
                call_id(&shape.id, n).into()
            } else {
                call.id
            },
            name: call.name,
            arguments: if call.arguments.is_empty() {
                "{}".into()
            } else {
                call.arguments
            },
            cache: None,
        });
    }
    let mut usage = Usage::default();
    let told = answer
        .usage
        .is_some_and(|raw| usage.read_cohere(raw.get().as_bytes()));
    let mut response = Response {
        family: Protocol::Cohere,
        id: if answer.id.is_empty() {
            shape.id.clone().into()
        } else {
            answer.id
        },
        model: Str::default(),
        parts,
        finish: agreed(words::finish(&answer.finish), calls),
        stop_sequence: None,
        usage: told.then_some(usage),
        service_tier: None,
        logprobs: answer.logprobs,
        more: Vec::new(),
    };
    if shape.schema_tool {
        answer_from_tool(&mut response);
    }
    Ok(response)
}

/// Encodes an answer for a client of this protocol.
pub fn encode(response: &Response<'_>, _shape: &Shape) -> Vec<u8> {
    let ours = response.family == Protocol::Cohere;
    let (mut content, mut calls, mut citations) = (Vec::new(), Vec::new(), None);
    for part in &response.parts {
        match part {
            Part::Text {
                text,
                citations: cited,
                ..
            } => {
                citations = cited.or(citations);
                write_content("text", text, &mut content);
            }
            Part::Refusal { text } => write_content("text", text, &mut content),
            Part::Reasoning { text, .. } => {
                if !text.is_empty() {
                    write_content("thinking", text, &mut content);
                }
            }
            Part::ToolCall {
                id,
                name,
                arguments,
                ..
            } => {
                comma(0, &mut calls);
                words::write_call(id, name, arguments, &mut calls);
            }
            // Nothing of these can be said.
            Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolResult { .. }
            | Part::RedactedReasoning { .. }
            | Part::Opaque { .. } => {}
        }
    }
    let mut out = Vec::with_capacity(512 + content.len());
    let mut body = Object::open(&mut out);
    body.string("id", &response.id);
    let mut message = Object::open(body.key("message"));
    message.string("role", "assistant");
    for (name, list) in [("content", &content), ("tool_calls", &calls)] {
        if !list.is_empty() {
            let out = message.key(name);
            out.push(b'[');
            out.extend_from_slice(list);
            out.push(b']');
        }
    }
    message.maybe_raw("citations", citations.filter(|_| ours));
    message.close();
    body.string("finish_reason", words::finish_word(response.finish));
    if let Some(usage) = &response.usage {
        usage.write_cohere(body.key("usage"));
    }
    if let Some(raw) = response.logprobs {
        let list = body.key("logprobs");
        if ours {
            list.extend_from_slice(raw.get().as_bytes());
        } else {
            list.push(b'[');
            let start = list.len();
            words::logprobs_of_openai(raw, &mut |element| {
                comma(start, list);
                list.extend_from_slice(element);
            });
            list.push(b']');
        }
    }
    body.close();
    out
}

fn write_content(kind: &str, text: &str, out: &mut Vec<u8>) {
    comma(0, out);
    let mut part = Object::open(out);
    part.string("type", kind);
    part.string(kind, text);
    part.close();
}

/// Returns the log probabilities of an answer of this family in OpenAI's words, which every encoder knows.
pub fn openai_logprobs(response: &Response<'_>) -> Option<Box<RawValue>> {
    match response.family {
        Protocol::Cohere => response.logprobs.and_then(words::logprobs_to_openai),
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Gemini
        | Protocol::Bedrock
        | Protocol::Ollama => None,
    }
}

/// Returns the body of an error answer.
pub fn error_body(error: &Error, request_id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let mut body = Object::open(&mut out);
    body.string("id", request_id);
    body.string("message", &error.message);
    body.close();
    out
}
