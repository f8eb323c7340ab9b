//! `extra_content` of a tool call: where Google's own OpenAI-compatible API puts a call's thought signature.
//!
//! `{"id":…,"function":{…},"extra_content":{"google":{"thought_signature":"…"}}}`, see
//! <https://ai.google.dev/gemini-api/docs/thought-signatures>. In the hub a signature stands before its call, as
//! thinking that says nothing.

use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Part, Str};
use crate::protocol::provenance;
use crate::protocol::text::{Object, Reader};

/// Reads the signature out of an `extra_content`; what else is in it tells nothing here.
pub(super) fn read<'b>(r: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    let mut signature = None;
    if r.peek() != b'{' {
        return r.raw().map(|_| None);
    }
    r.object(|r, key| match (&*key, r.peek()) {
        ("google", b'{') => r.object(|r, key| match (&*key, r.peek()) {
            ("thought_signature", b'"') => {
                signature = Some(r.string()?).filter(|signature| !signature.is_empty());
                Ok(())
            }
            _ => r.raw().map(drop),
        }),
        _ => r.raw().map(drop),
    })?;
    Ok(signature)
}

pub(super) fn write(signature: &str, object: &mut Object<'_>) {
    let mut extra = Object::open(object.key("extra_content"));
    let mut google = Object::open(extra.key("google"));
    google.string("thought_signature", signature);
    google.close();
    extra.close();
}

/// Returns the signature that a client of this protocol carries with the call.
pub(super) fn shown(marked: &str) -> Option<&str> {
    match provenance::maker(marked) {
        (Protocol::Gemini | Protocol::OpenaiChat, blob) => {
            Some(blob).filter(|blob| !blob.is_empty())
        }
        (
            Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
            | Protocol::Bedrock
            | Protocol::Cohere
            | Protocol::Ollama,
            _,
        ) => None,
    }
}

/// Returns the signature that a provider of this protocol gets back with the call: its own, or, from a client of its
/// own protocol, which can't tell, any of Google's.
pub(super) fn returned(marked: &str, ours: bool) -> Option<&str> {
    let made = provenance::maker(marked).0;
    shown(marked).filter(|_| ours || made == Protocol::OpenaiChat)
}

/// Returns the signature that `part` is for the call after it.
pub(super) fn lone<'p>(part: &'p Part<'_>) -> Option<&'p str> {
    match part {
        Part::Reasoning {
            text,
            signature: Some(signature),
        } if text.is_empty() => Some(signature),
        Part::Reasoning { .. }
        | Part::Text { .. }
        | Part::Refusal { .. }
        | Part::Image { .. }
        | Part::Audio { .. }
        | Part::File { .. }
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::RedactedReasoning { .. }
        | Part::Opaque { .. } => None,
    }
}

/// Appends `calls` to `parts`, each behind its signature. One that stands among the thinking already is moved where
/// it says nothing else, and else stays there.
pub(super) fn place<'b>(
    parts: &mut Vec<Part<'b>>,
    calls: Vec<(Option<Str<'b>>, Part<'b>)>,
    maker: Protocol,
) {
    for (signature, call) in calls {
        if let Some(signature) = signature {
            let same = |part: &Part<'_>| {
                matches!(part, Part::Reasoning { signature: Some(told), .. }
                    if shown(told) == Some(&*signature))
            };
            match parts.iter().position(same) {
                Some(at) if lone(&parts[at]).is_some() => {
                    let moved = parts.remove(at);
                    parts.push(moved);
                }
                Some(_) => {}
                None => parts.push(Part::Reasoning {
                    text: "".into(),
                    signature: Some(provenance::mark(maker, &signature).into_owned().into()),
                }),
            }
        }
        parts.push(call);
    }
}
