//! What is encrypted in a reasoning item: OpenAI's own, and what others signed or hid.
//!
//! On this wire a bare `encrypted_content` is OpenAI's. It is checked together with the item's id, so the hub
//! carries both as one blob. Another maker's carries its name (`anthropic#…`), and hidden reasoning says so before
//! that (`redacted#anthropic#…`), because signed reasoning may have no text either.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::codec::base64;
use crate::protocol::chat::{Part, Str};
use crate::protocol::{Protocol, provenance};

const HIDDEN: &str = "redacted#";

/// A reasoning item without its text.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Native<'b> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'b, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub encrypted_content: Option<Cow<'b, str>>,
}

/// Returns the part that a reasoning item is; `None` when it says nothing that could be told or sent back.
pub(super) fn part<'b>(
    id: Option<Str<'b>>,
    encrypted: Option<Str<'b>>,
    text: Str<'b>,
) -> Option<Part<'b>> {
    let encrypted = encrypted.filter(|blob| !blob.is_empty());
    let Some(blob) = encrypted else {
        return (!text.is_empty()).then(|| Part::Reasoning {
            text: text.into(),
            signature: None,
        });
    };
    let (hidden, rest) = match blob.strip_prefix(HIDDEN) {
        Some(rest) => (true, rest),
        None => (false, &*blob),
    };
    match maker(rest) {
        Some((of, bare)) => {
            let blob = match of {
                Protocol::Anthropic => bare,
                Protocol::OpenaiChat
                | Protocol::OpenaiResponses
                | Protocol::OpenaiCompletions
                | Protocol::Gemini
                | Protocol::Bedrock
                | Protocol::Cohere
                | Protocol::Ollama => rest,
            };
            let blob = blob.to_owned();
            Some(if hidden {
                Part::RedactedReasoning { data: blob.into() }
            } else {
                Part::Reasoning {
                    text: text.into(),
                    signature: Some(blob.into()),
                }
            })
        }
        None => {
            let blob = mark(id.as_deref(), &blob);
            Some(if text.is_empty() {
                Part::RedactedReasoning { data: blob.into() }
            } else {
                Part::Reasoning {
                    text: text.into(),
                    signature: Some(blob.into()),
                }
            })
        }
    }
}

/// Returns OpenAI's own blob as the hub carries it.
fn mark(id: Option<&str>, encrypted: &str) -> String {
    let native = Native {
        id: id.map(Cow::Borrowed),
        encrypted_content: Some(Cow::Borrowed(encrypted)),
    };
    let json = serde_json::to_vec(&native).unwrap_or_default();
    let mut coded = Vec::new();
    base64::encode(&json, &mut coded);
    let coded: String = coded
        .into_iter()
        .filter(|byte| *byte != b'=')
        .map(|byte| match byte {
            b'+' => '-',
            b'/' => '_',
            other => char::from(other),
        })
        .collect();
    provenance::mark(Protocol::OpenaiResponses, &coded).into_owned()
}

/// What a blob of the hub is on this wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outward {
    /// OpenAI's own: the item's id and what it encrypted.
    Native {
        id: Option<String>,
        encrypted: Option<String>,
    },
    /// Another's, with its maker's name.
    Foreign(String),
}

/// Returns the blob of reasoning, `hidden` or signed, as this wire carries it.
pub(super) fn outward(marked: &str, hidden: bool) -> Outward {
    let (maker, blob) = provenance::maker(marked);
    if maker == Protocol::OpenaiResponses {
        let (id, encrypted) = native(blob).unwrap_or_default();
        return Outward::Native { id, encrypted };
    }
    let before = if hidden { HIDDEN } else { "" };
    Outward::Foreign(match maker {
        Protocol::Anthropic => format!("{before}{}#{blob}", maker.name()),
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Gemini
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => format!("{before}{marked}"),
    })
}

fn native(blob: &str) -> Option<(Option<String>, Option<String>)> {
    let json = base64::decode(blob.as_bytes())?;
    let native: Native<'_> = serde_json::from_slice(&json).ok()?;
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned).filter(|s| !s.is_empty());
    Some((owned(native.id), owned(native.encrypted_content)))
}

/// Returns who is named as the maker, if anyone is.
fn maker(blob: &str) -> Option<(Protocol, &str)> {
    let (name, bare) = blob.split_once('#')?;
    Some((Protocol::from_name(name)?, bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_makers_blob_comes_back_as_it_went() {
        for marked in [
            "ErUB",
            "gemini#Ab+/=",
            "bedrock#x",
            "openai-chat#y",
            "anthropic-like",
        ] {
            for hidden in [false, true] {
                let Outward::Foreign(wire) = outward(marked, hidden) else {
                    panic!("{marked} is not OpenAI's");
                };
                let part = part(Some("rs_1".into()), Some(wire.into()), "".into()).unwrap();
                let found = format!("{part:?}");
                let expected = if hidden {
                    let data = marked.into();
                    format!("{:?}", Part::RedactedReasoning { data })
                } else {
                    let (text, signature) = ("".into(), Some(marked.into()));
                    format!("{:?}", Part::Reasoning { text, signature })
                };
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn openais_own_blob_keeps_its_items_id() {
        let read = part(Some("rs_1".into()), Some("gAA+/=".into()), "why".into());
        let Some(Part::Reasoning {
            signature: Some(signature),
            ..
        }) = read
        else {
            panic!("{read:?}");
        };
        assert!(signature.starts_with("openai-responses#"), "{signature}");
        assert_eq!(
            outward(&signature, false),
            Outward::Native {
                id: Some("rs_1".into()),
                encrypted: Some("gAA+/=".into())
            }
        );
    }

    #[test]
    fn reasoning_that_says_nothing_is_no_part() {
        assert!(part(Some("rs_1".into()), None, "".into()).is_none());
        assert!(part(None, Some("".into()), "".into()).is_none());
    }

    #[test]
    fn a_blob_that_cannot_be_read_is_sent_to_nobody() {
        let nothing = Outward::Native {
            id: None,
            encrypted: None,
        };
        assert_eq!(outward("openai-responses#%%", true), nothing);
        assert_eq!(outward("openai-responses#Zm9v", true), nothing);
    }
}
