//! Whole answers. The lines of a stream are the same object in small, and read with the same reader.

use serde_json::value::RawValue;

use super::words::{self, Call};
use crate::error::{Error, Kind, Result};
use crate::protocol::blocks::{agreed, call_id};
use crate::protocol::chat::{Finish, Part, Response, Str};
use crate::protocol::text::{Object, Reader, comma};
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape};

/// An answer, or one line of a stream.
#[derive(Debug, Default)]
pub(super) struct Answer<'b> {
    pub model: Str<'b>,
    pub has_message: bool,
    pub content: Str<'b>,
    pub thinking: Str<'b>,
    pub calls: Vec<Call<'b>>,
    pub done: bool,
    pub done_reason: Str<'b>,
    pub logprobs: Option<&'b RawValue>,
    /// What went wrong instead.
    pub error: Option<Str<'b>>,
}

impl<'b> Answer<'b> {
    pub fn read(body: &'b [u8]) -> Result<Self> {
        let mut r = Reader::new(body)?;
        let mut answer = Self::default();
        r.object(|r, key| {
            match (&*key, r.peek()) {
                ("model", b'"') => answer.model = r.string()?,
                ("message", b'{') => {
                    answer.has_message = true;
                    answer.message(r)?;
                }
                ("done", b't' | b'f') => answer.done = r.boolean()?,
                ("done_reason", b'"') => answer.done_reason = r.string()?,
                ("logprobs", b'[') => answer.logprobs = Some(r.raw()?),
                ("error", b'"') => answer.error = Some(r.string()?),
                ("error", _) => {
                    answer.error = r.maybe_raw()?.map(|raw| raw.get().into());
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
                ("content", b'"') => self.content = r.string()?,
                ("thinking", b'"') => self.thinking = r.string()?,
                ("tool_calls", b'[') => self.calls = r.list(Call::read)?,
                _ => drop(r.raw()?),
            }
            Ok(())
        })
    }
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
    if let Some(error) = answer.error {
        return Err(broken(format!("The provider failed: {error}")));
    }
    if !answer.has_message {
        return Err(broken("The provider's answer has no message".to_owned()));
    }
    let mut parts = Vec::with_capacity(2 + answer.calls.len());
    if !answer.thinking.is_empty() {
        parts.push(Part::Reasoning {
            text: answer.thinking.into(),
            signature: None,
        });
    }
    if !answer.content.is_empty() {
        parts.push(Part::Text {
            text: answer.content.into(),
            cache: None,
            citations: None,
        });
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
            arguments: call.arguments,
            cache: None,
        });
    }
    let mut usage = Usage::default();
    Ok(Response {
        family: Protocol::Ollama,
        id: shape.id.clone().into(),
        model: answer.model,
        parts,
        finish: agreed(words::finish(&answer.done_reason), calls),
        stop_sequence: None,
        usage: usage.read_ollama(body).then_some(usage),
        service_tier: None,
        logprobs: answer.logprobs,
        more: Vec::new(),
    })
}

/// Encodes an answer for a client of this protocol.
pub fn encode(response: &Response<'_>, shape: &Shape) -> Vec<u8> {
    let mut said = Said::default();
    for part in &response.parts {
        match part {
            Part::Text { text, .. } | Part::Refusal { text } => said.content.push_str(text),
            Part::Reasoning { text, .. } => said.thinking.push_str(text),
            Part::ToolCall {
                id,
                name,
                arguments,
                ..
            } => said.call(id, name, arguments),
            // Nothing of these can be said.
            Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolResult { .. }
            | Part::RedactedReasoning { .. }
            | Part::Opaque { .. } => {}
        }
    }
    let model = if shape.model.is_empty() {
        &*response.model
    } else {
        &shape.model
    };
    let logprobs = match response.family {
        Protocol::Ollama => response.logprobs,
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Gemini
        | Protocol::Bedrock
        | Protocol::Cohere => response.logprobs.and_then(words::logprobs_of_openai),
    };
    let mut out = Vec::with_capacity(512);
    let mut body = said.open(model, shape.created, &mut out);
    write_end(response.finish, response.usage.as_ref(), &mut body);
    body.maybe_raw("logprobs", logprobs);
    body.close();
    out
}

/// What one message says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub content: String,
    pub thinking: String,
    /// The elements of the list, with commas between them.
    calls: Vec<u8>,
    /// How many were told already, here and in the lines before.
    pub count: u64,
}

impl Said {
    pub fn call(&mut self, id: &str, name: &str, arguments: &str) {
        comma(0, &mut self.calls);
        words::write_call(id, name, arguments, self.count, &mut self.calls);
        self.count += 1;
    }

    /// Opens an answer with this as its message; what ends it may follow.
    pub fn open<'o>(&self, model: &str, created: u64, out: &'o mut Vec<u8>) -> Object<'o> {
        let mut body = Object::open(out);
        body.string("model", model);
        words::write_time(created, body.key("created_at"));
        let mut message = Object::open(body.key("message"));
        message.string("role", "assistant");
        message.string("content", &self.content);
        if !self.thinking.is_empty() {
            message.string("thinking", &self.thinking);
        }
        if !self.calls.is_empty() {
            let list = message.key("tool_calls");
            list.push(b'[');
            list.extend_from_slice(&self.calls);
            list.push(b']');
        }
        message.close();
        body
    }
}

/// Appends what only the last line of an answer says.
pub(super) fn write_end(finish: Finish, usage: Option<&Usage>, body: &mut Object<'_>) {
    body.string("done_reason", words::finish_word(finish));
    body.boolean("done", true);
    // Clients divide by them, and know that nothing was measured when they are zero.
    body.integer("total_duration", 0);
    body.integer("load_duration", 0);
    if let Some(usage) = usage {
        usage.write_ollama(body);
    }
}

/// Returns the log probabilities of an answer of this family in OpenAI's words, which every encoder knows.
pub fn openai_logprobs(response: &Response<'_>) -> Option<Box<RawValue>> {
    match response.family {
        Protocol::Ollama => response.logprobs.and_then(words::logprobs_to_openai),
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Gemini
        | Protocol::Bedrock
        | Protocol::Cohere => None,
    }
}

/// Returns the body of an error answer.
pub fn error_body(error: &Error, _request_id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    write_error(&error.message, &mut out);
    out
}

pub(super) fn write_error(message: &str, out: &mut Vec<u8>) {
    let mut body = Object::open(out);
    body.string("error", message);
    body.close();
}
