//! Thought signatures on the wire.
//!
//! Google's clients take a `thoughtSignature` for base64 of bytes and refuse what isn't. So what other makers
//! signed travels to them wrapped: base64 of a tag and the blob as the hub marks it.

use std::borrow::Cow;

use crate::protocol::Protocol;
use crate::protocol::chat::{Part, Prose, Str};
use crate::protocol::provenance;

/// What a wrapped blob begins with; the letter after it says what it is.
const TAG: &str = "strait:";
/// The beginning of [`TAG`] in base64: looked for before anything is decoded.
const TAG_IN_BASE64: &str = "c3RyYWl0";

/// Signs the thinking before it.
const SIGNED: char = 's';
/// Is thinking that can't be read.
const REDACTED: char = 'r';

/// What a `thoughtSignature` turned out to be, as the hub marks blobs.
#[derive(Debug)]
pub(super) enum Signature<'b> {
    Signed(Str<'b>),
    Redacted(Str<'b>),
}

impl<'b> Signature<'b> {
    /// Reads one that a client sent back.
    pub fn read(wire: &str) -> Signature<'static> {
        if wire.starts_with(TAG_IN_BASE64)
            && let Some(text) = decode(wire).and_then(|bytes| String::from_utf8(bytes).ok())
            && let Some(rest) = text.strip_prefix(TAG)
        {
            if let Some(blob) = rest.strip_prefix(REDACTED) {
                return Signature::Redacted(Cow::Owned(blob.to_owned()));
            }
            if let Some(blob) = rest.strip_prefix(SIGNED) {
                return Signature::Signed(Cow::Owned(blob.to_owned()));
            }
        }
        Signature::Signed(provenance::mark(Protocol::Gemini, wire).into_owned().into())
    }

    /// Returns it as a part of its own, with the thinking that it signs.
    pub fn with(self, text: Prose<'b>) -> Part<'b> {
        match self {
            Signature::Signed(blob) => Part::Reasoning {
                text,
                signature: Some(blob),
            },
            Signature::Redacted(data) => Part::RedactedReasoning { data },
        }
    }
}

/// Returns Gemini's own blob, where it is one.
pub(super) fn own(marked: &str) -> Option<&str> {
    match provenance::maker(marked) {
        (Protocol::Gemini, blob) => Some(blob),
        (
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
            | Protocol::Bedrock
            | Protocol::Cohere
            | Protocol::Ollama,
            _,
        ) => None,
    }
}

/// Returns a signature as a client of this protocol carries it.
pub(super) fn signed(marked: &str) -> Cow<'_, str> {
    match own(marked) {
        Some(blob) => Cow::Borrowed(blob),
        None => Cow::Owned(wrap(SIGNED, marked)),
    }
}

/// Returns redacted thinking as a client of this protocol carries it.
pub(super) fn redacted(marked: &str) -> String {
    wrap(REDACTED, marked)
}

fn wrap(kind: char, marked: &str) -> String {
    encode(format!("{TAG}{kind}{marked}").as_bytes())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            if place > group.len() {
                text.push('=');
            } else {
                text.push(char::from(
                    ALPHABET[(bits >> (18 - 6 * place) & 63) as usize],
                ));
            }
        }
    }
    text
}

/// Decodes base64, in either alphabet, padded or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut held, mut bits) = (0u32, 0u32);
    for symbol in text.trim_end_matches('=').bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    // Six bits left over are half a byte: something is missing.
    (bits < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_of_others_come_back_as_they_went() {
        for marked in ["EqQB/x==", "openai-responses#gAAA_-", "", "ü"] {
            let wire = signed(marked);
            assert!(
                wire.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)),
                "{wire}"
            );
            match Signature::read(&wire) {
                Signature::Signed(blob) => assert_eq!(blob, marked),
                Signature::Redacted(_) => panic!("not redacted"),
            }
            match Signature::read(&redacted(marked)) {
                Signature::Redacted(blob) => assert_eq!(blob, marked),
                Signature::Signed(_) => panic!("redacted"),
            }
        }
    }

    #[test]
    fn geminis_own_stay_as_they_are() {
        assert_eq!(signed("gemini#Ab-_="), "Ab-_=");
        for wire in ["Ab-_=", "c3RyYWl0", "c3RyYWl0!", "c3RyYWl0OnhhYmM="] {
            match Signature::read(wire) {
                Signature::Signed(blob) => assert_eq!(blob, format!("gemini#{wire}")),
                Signature::Redacted(_) => panic!("not redacted"),
            }
        }
    }
}
