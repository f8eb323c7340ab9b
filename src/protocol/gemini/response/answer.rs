//! A provider's answer into the hub. Streams send the same object in pieces, and read it with the same reader.

use serde_json::value::RawValue;

use super::super::content::{self, Piece, What};
use super::super::grounding::Grounding;
use super::super::signature::Signature;
use super::super::words::{camel, finish, word};
use crate::error::{Error, Kind, Result};
use crate::protocol::chat::{Finish, Part, Response, Str};
use crate::protocol::text::Reader;
use crate::protocol::usage::{self, Usage};
use crate::protocol::{Protocol, SCHEMA_TOOL, Shape};

/// How many candidates are read.
const CANDIDATES_MAX: usize = 64;

/// A `GenerateContentResponse`, or a chunk of a stream.
#[derive(Debug, Default)]
pub(in super::super) struct Answer<'b> {
    pub candidates: Option<Vec<Candidate<'b>>>,
    /// Why the prompt was refused.
    pub blocked: Option<Str<'b>>,
    pub usage: Option<usage::Gemini>,
    pub model: Str<'b>,
    pub id: Str<'b>,
    pub error: Option<&'b RawValue>,
}

#[derive(Debug, Default)]
pub(in super::super) struct Candidate<'b> {
    pub index: u64,
    pub pieces: Vec<Piece<'b>>,
    pub finish: Option<Str<'b>>,
    pub grounding: Option<&'b RawValue>,
    pub logprobs: Option<&'b RawValue>,
}

impl<'b> Answer<'b> {
    pub fn read(r: &mut Reader<'b>) -> Result<Self> {
        let mut answer = Self::default();
        r.object(|r, key| {
            match (&*camel(&key), r.peek()) {
                ("candidates", b'[') => {
                    let list = answer.candidates.get_or_insert_default();
                    r.array(|r| {
                        let candidate = Candidate::read(r)?;
                        if list.len() < CANDIDATES_MAX {
                            list.push(candidate);
                        }
                        Ok(())
                    })?;
                }
                ("promptFeedback", b'{') => r.object(|r, key| {
                    match (&*camel(&key), r.peek()) {
                        ("blockReason", b'"' | b'0'..=b'9') => answer.blocked = Some(word(r)?),
                        _ => drop(r.raw()?),
                    }
                    Ok(())
                })?,
                ("usageMetadata", b'{') => answer.usage = Some(usage::Gemini::take(r)?),
                ("modelVersion", b'"') => answer.model = r.string()?,
                ("responseId", b'"') => answer.id = r.string()?,
                ("error", _) => answer.error = r.maybe_raw()?,
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        r.finish()?;
        Ok(answer)
    }
}

impl<'b> Candidate<'b> {
    fn read(r: &mut Reader<'b>) -> Result<Self> {
        let mut candidate = Self::default();
        r.object(|r, key| {
            match (&*camel(&key), r.peek()) {
                ("content", b'{') => r.object(|r, key| {
                    match (&*key, r.peek()) {
                        ("parts", b'[') => candidate.pieces = r.list(content::piece)?,
                        _ => drop(r.raw()?),
                    }
                    Ok(())
                })?,
                ("finishReason", b'"' | b'0'..=b'9') => candidate.finish = Some(word(r)?),
                ("index", b'0'..=b'9') => candidate.index = r.integer()?.into(),
                ("groundingMetadata", b'{') => candidate.grounding = Some(r.raw()?),
                ("logprobsResult", b'{') => candidate.logprobs = Some(r.raw()?),
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        Ok(candidate)
    }

    /// Returns the parts and how it ended. `made` counts the calls whose ids are made here.
    fn into_parts(self, shape: &Shape, made: &mut usize) -> (Vec<Part<'b>>, Finish) {
        let mut parts = Vec::with_capacity(self.pieces.len());
        let mut calls = false;
        for piece in self.pieces {
            calls |= matches!(piece.what, What::Call { .. });
            signed_parts(piece, shape, made, &mut |part| parts.push(part));
        }
        if let Some(raw) = self.grounding {
            let last = parts
                .iter_mut()
                .rev()
                .find(|part| matches!(part, Part::Text { .. }));
            if let Some(Part::Text { citations, .. }) = last {
                *citations = Some(raw);
            }
        }
        let finish = match self.finish {
            Some(word) => finish(&word, calls),
            None if calls => Finish::ToolCalls,
            None => Finish::Other,
        };
        (parts, finish)
    }
}

/// Calls `each` with the parts that a piece of an answer is: a signature of what is no thought comes before it.
pub(in super::super) fn signed_parts<'b>(
    piece: Piece<'b>,
    shape: &Shape,
    made: &mut usize,
    each: &mut dyn FnMut(Part<'b>),
) {
    let signature = piece.signature.map(|wire| Signature::read(&wire));
    let part = match piece.what {
        What::Thought(text) => {
            match signature {
                Some(signature) => each(signature.with(text)),
                None if text.is_empty() => {}
                None => each(Part::Reasoning {
                    text,
                    signature: None,
                }),
            }
            return;
        }
        What::Opaque(raw) => return each(content::opaque(raw)),
        What::Text(text) if text.is_empty() => None,
        What::Text(text) => Some(content::plain(text)),
        What::Call {
            id,
            name,
            arguments,
        } => {
            let id = id.unwrap_or_else(|| {
                *made += 1;
                format!("call_{}_{made}", shape.id).into()
            });
            Some(Part::ToolCall {
                id,
                name,
                arguments,
                cache: None,
            })
        }
        What::Media(part) => Some(part),
        // A model answers no function.
        What::Result { .. } => None,
    };
    if let Some(signature) = signature {
        each(signature.with("".into()));
    }
    if let Some(part) = part {
        each(part);
    }
}

/// Decodes a provider's answer. What can't be read as one is a fault of the upstream.
pub fn decode<'b>(body: &'b [u8], shape: &Shape) -> Result<Response<'b>> {
    read(body, shape).map_err(|error| {
        let message = format!("The provider's answer can't be read: {}", error.message);
        Error::new(Kind::UpstreamBroken, message).with_cause(error)
    })
}

fn read<'b>(body: &'b [u8], shape: &Shape) -> Result<Response<'b>> {
    let mut r = Reader::new(body)?;
    let answer = Answer::read(&mut r)?;
    if answer.error.is_some() || (answer.candidates.is_none() && answer.blocked.is_none()) {
        return Err(r.missing("candidates"));
    }
    let usage = used(&answer);
    let mut made = 0;
    let mut answers = answer
        .candidates
        .unwrap_or_default()
        .into_iter()
        .map(|candidate| {
            let logprobs = candidate.logprobs;
            let (parts, finish) = candidate.into_parts(shape, &mut made);
            (parts, finish, logprobs)
        });
    let (parts, finish, logprobs) = answers.next().unwrap_or_else(|| {
        let finish = if answer.blocked.is_some() {
            Finish::ContentFilter
        } else {
            Finish::Other
        };
        (Vec::new(), finish, None)
    });
    let more = answers.map(|(parts, finish, _)| (parts, finish)).collect();
    let mut response = Response {
        family: Protocol::Gemini,
        id: if answer.id.is_empty() {
            shape.id.clone().into()
        } else {
            answer.id
        },
        model: answer.model,
        parts,
        finish,
        stop_sequence: None,
        service_tier: usage
            .as_ref()
            .and_then(|usage| Some(usage.tier.as_deref()?.to_owned().into())),
        usage,
        logprobs,
        more,
    };
    if shape.schema_tool {
        answer_from_tool(&mut response);
    }
    Ok(response)
}

fn used(answer: &Answer<'_>) -> Option<Usage> {
    let mut usage = Usage::default();
    let mut grounded = false;
    for candidate in answer.candidates.iter().flatten() {
        if let Some(raw) = candidate.grounding {
            let grounding = Grounding::read(raw);
            grounded |= grounding.is_billed();
            grounding.bill(&mut usage);
        }
    }
    let told = usage.overlay_gemini(answer.usage.as_ref()?, grounded);
    told.then_some(usage)
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
