//! Whole answers: `GenerateContentResponse` into the hub and out of it, and error bodies.

mod answer;
mod error;

use serde_json::value::RawValue;

use super::content;
use super::grounding::{Cited, Grounding};
use super::logprobs::{self, Collected};
use super::words::finish_word;
use crate::protocol::chat::{Finish, Part, Response};
use crate::protocol::text::Object;
use crate::protocol::{Protocol, Shape};

pub use answer::decode;
pub(super) use answer::{Answer, Candidate, signed_parts};
pub use error::error_body;
pub(super) use error::write_error;

/// Encodes an answer for a client of this protocol.
pub fn encode(response: &Response<'_>, shape: &Shape) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut body = Object::open(&mut out);
    let candidates = body.key("candidates");
    candidates.push(b'[');
    write_candidate(
        0,
        response.family,
        &response.parts,
        response.finish,
        response.logprobs,
        candidates,
    );
    for (index, (parts, finish)) in (1..).zip(&response.more) {
        candidates.push(b',');
        write_candidate(index, response.family, parts, *finish, None, candidates);
    }
    candidates.push(b']');
    if let Some(usage) = &response.usage {
        usage.write_gemini(body.key("usageMetadata"));
    }
    let model = if shape.model.is_empty() {
        &*response.model
    } else {
        &shape.model
    };
    body.string("modelVersion", model);
    body.string("responseId", &response.id);
    body.close();
    out
}

fn write_candidate(
    index: u64,
    family: Protocol,
    parts: &[Part<'_>],
    finish: Finish,
    logprobs: Option<&RawValue>,
    out: &mut Vec<u8>,
) {
    let mut candidate = Object::open(out);
    let inner = candidate.key("content");
    inner.extend_from_slice(b"{\"parts\":[");
    content::write_answer(parts, inner);
    inner.extend_from_slice(b"],\"role\":\"model\"}");
    candidate.string("finishReason", finish_word(finish));
    candidate.integer("index", index);
    if family == Protocol::Gemini {
        for part in parts {
            if let Part::Text {
                citations: Some(raw),
                ..
            } = part
                && raw.get().starts_with('{')
            {
                candidate.raw("groundingMetadata", raw);
                break;
            }
        }
        candidate.maybe_raw("logprobsResult", logprobs);
    } else {
        cited(family, parts).write(&mut candidate);
        if let Some(raw) = logprobs {
            let mut collected = Collected::default();
            collected.add(raw);
            collected.write(&mut candidate);
        }
    }
    candidate.close();
}

/// Returns whether anything in an answer has sources: where its words stand is asked then alone.
fn cites(parts: &[Part<'_>]) -> bool {
    parts.iter().any(|part| {
        matches!(
            part,
            Part::Text {
                citations: Some(_),
                ..
            }
        )
    })
}

fn cited(family: Protocol, parts: &[Part<'_>]) -> Cited {
    let mut cited = Cited::default();
    if !cites(parts) {
        return cited;
    }
    let mut from = 0;
    for part in parts {
        if let Part::Text {
            text, citations, ..
        } = part
        {
            if let Some(list) = citations {
                cited.add_list(family, list, text, from);
            }
            from += text.len();
        }
    }
    cited
}

/// What an answer of this family says in its own words alone, said in OpenAI's, which every encoder knows.
#[derive(Debug)]
pub struct Restated {
    annotations: Option<Box<RawValue>>,
    logprobs: Option<Box<RawValue>>,
}

/// Returns what has to change in an answer for a client of `to`; nothing where all can stay.
pub fn restate(response: &Response<'_>, to: Protocol) -> Option<Restated> {
    if response.family != Protocol::Gemini {
        return None;
    }
    let mut text = String::new();
    let mut found = None;
    let parts = if cites(&response.parts) {
        &response.parts[..]
    } else {
        &[]
    };
    for part in parts {
        if let Part::Text {
            text: piece,
            citations,
            ..
        } = part
        {
            if let Some(raw) = citations {
                // OpenAI counts in the whole message, Anthropic in each piece of its text.
                let from = if to == Protocol::Anthropic {
                    text.len()
                } else {
                    0
                };
                found = Some((*raw, from));
            }
            text.push_str(piece);
        }
    }
    let restated = Restated {
        annotations: found.and_then(|(raw, from)| Grounding::read(raw).list(&text, from)),
        logprobs: response.logprobs.and_then(logprobs::to_openai),
    };
    (found.is_some() || response.logprobs.is_some()).then_some(restated)
}

impl Restated {
    /// Returns the answer in words that others know.
    pub fn of<'r>(&'r self, response: &Response<'r>) -> Response<'r> {
        let mut response = response.clone();
        response.family = Protocol::OpenaiChat;
        response.logprobs = self.logprobs.as_deref();
        for part in &mut response.parts {
            if let Part::Text { citations, .. } = part
                && citations.is_some()
            {
                *citations = self.annotations.as_deref();
            }
        }
        response
    }
}
