//! A provider's whole answer into the hub.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::error::{Error, Kind, Result};
use crate::protocol::chat::{Finish, Part, Response};
use crate::protocol::openai_responses::told::{Item, Searches, Told, made_up_id, said};
use crate::protocol::openai_responses::{citation, logprobs};
use crate::protocol::text::Reader;
use crate::protocol::{Protocol, Shape};

/// Decodes a whole answer.
///
/// Errors: `UpstreamBroken` when it is none: no JSON, an error, or without output.
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
    let mut told = Told::default();
    reader.object(|r, key| told.field(r, &key))?;
    reader.finish()?;
    if told.failed() {
        return Err(match told.error {
            Some(raw) => broken(format!("the provider answered an error: {}", said(raw))),
            None => broken("the provider says that it failed"),
        });
    }
    let Some(output) = told.output else {
        return Err(broken("the provider's answer has no output"));
    };
    let output = Output::read(output, &shape.id)?;
    let finish = output.finish(&told);
    Ok(Response {
        family: Protocol::OpenaiResponses,
        usage: told.usage(output.searches),
        service_tier: told.tier().cloned(),
        id: told.id.unwrap_or_default(),
        model: told.model.unwrap_or_default(),
        parts: output.parts,
        finish,
        stop_sequence: None,
        logprobs: output.logprobs,
        more: Vec::new(),
    })
}

/// The items of an answer.
#[derive(Debug, Default)]
pub(in crate::protocol::openai_responses) struct Output<'b> {
    pub parts: Vec<Part<'b>>,
    pub searches: Searches,
    pub logprobs: Option<&'b RawValue>,
    calls: bool,
}

impl<'b> Output<'b> {
    /// Reads a list of items. `id` is the exchange's, for calls that have none.
    pub fn read(list: &'b RawValue, id: &str) -> Result<Self> {
        let mut output = Self::default();
        let mut unnamed = 0;
        Reader::of(list.get()).array(|r| {
            let raw = r.raw()?;
            let item = Item::read(raw)?;
            output.searches.count(&item.kind);
            output.calls |= matches!(&*item.kind, "function_call" | "custom_tool_call");
            for said in &item.content {
                output.logprobs = output.logprobs.or(said.logprobs);
            }
            let parts = item.parts(raw, &mut || {
                unnamed += 1;
                made_up_id(id, unnamed - 1)
            });
            output.parts.extend(parts);
            Ok(())
        })?;
        Ok(output)
    }

    pub fn finish(&self, told: &Told<'_>) -> Finish {
        let refused = self
            .parts
            .iter()
            .any(|part| matches!(part, Part::Refusal { .. }));
        told.finish(self.calls, refused)
    }
}

/// What an answer of this family says in its own words alone, said in OpenAI chat's, which every encoder knows.
#[derive(Debug)]
pub struct Restated {
    /// By part.
    annotations: Vec<Option<Box<RawValue>>>,
    logprobs: Option<Box<RawValue>>,
}

/// Returns what has to change in an answer for a client of `to`; nothing where all can stay.
pub fn restate(response: &Response<'_>, to: Protocol) -> Option<Restated> {
    if response.family != Protocol::OpenaiResponses || to == Protocol::OpenaiResponses {
        return None;
    }
    let mut found = response.logprobs.is_some();
    let mut chars = 0;
    let mut annotations = Vec::with_capacity(response.parts.len());
    for part in &response.parts {
        annotations.push(match part {
            Part::Text {
                text, citations, ..
            } => {
                found |= citations.is_some();
                // Chat counts in the whole message, Anthropic in each piece of its text.
                let by = if to == Protocol::Anthropic { 0 } else { chars };
                chars += text.chars().count() as u64;
                citations.and_then(|list| citation::chat_list(list, by))
            }
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
    }
    found.then(|| Restated {
        annotations,
        logprobs: response.logprobs.and_then(logprobs::to_hub),
    })
}

impl Restated {
    /// Returns the answer in words that others know.
    pub fn of<'r>(&'r self, response: &Response<'r>) -> Response<'r> {
        let mut response = response.clone();
        response.family = Protocol::OpenaiChat;
        response.logprobs = self.logprobs.as_deref();
        for (part, own) in response.parts.iter_mut().zip(&self.annotations) {
            if let Part::Text { citations, .. } = part {
                *citations = own.as_deref();
            }
        }
        response
    }
}
