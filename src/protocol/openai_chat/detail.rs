//! `reasoning_details`: thinking that can be sent back, as OpenRouter shaped it.
//!
//! OpenAI chat has no word for a signature, and a model that signs its thinking refuses the next turn without
//! it. So answers carry the signed text and the redacted data in these entries, and requests bring them back:
//! `{"type":"reasoning.text","text":…,"signature":…,"format":"anthropic-claude-v1","index":0}` and
//! `{"type":"reasoning.encrypted","data":…,"format":"anthropic-claude-v1","index":0}`.

use std::borrow::Cow;

use super::place;
use crate::error::Result;
use crate::protocol::chat::{Part, Str};
use crate::protocol::text::{self, Object, Reader};

/// The format of what Anthropic's models sign and encrypt.
const CLAUDE: &str = "anthropic-claude-v1";

/// One entry, read.
#[derive(Debug)]
pub(super) enum Detail<'b> {
    /// `index` tells which pieces belong together.
    Text {
        text: Str<'b>,
        signature: Option<Str<'b>>,
        index: Option<u32>,
    },
    Redacted {
        data: Str<'b>,
    },
    /// Says in other words what `reasoning` says too.
    Summary(Part<'b>),
    /// Encrypted by someone else, or of a type not known here.
    Opaque(Part<'b>),
}

pub(super) fn read<'b>(reader: &mut Reader<'b>) -> Result<Detail<'b>> {
    let kind = reader.tag("type");
    let foreign = reader
        .tag("format")
        .is_some_and(|format| !format.starts_with("anthropic"));
    match kind.as_deref() {
        Some("reasoning.text") => {
            let (mut text, mut signature, mut index) = (None, None, None);
            reader.object(|r, key| {
                match &*key {
                    "text" => text = r.maybe(Reader::string)?,
                    "signature" => signature = r.maybe(Reader::string)?,
                    "index" => index = r.maybe(Reader::integer)?,
                    _ => drop(r.raw()?),
                }
                Ok(())
            })?;
            Ok(Detail::Text {
                text: text.unwrap_or_default(),
                signature: signature.filter(|signature| !signature.is_empty()),
                index,
            })
        }
        Some("reasoning.encrypted") if !foreign => {
            let mut data = None;
            reader.object(|r, key| {
                match &*key {
                    "data" => data = r.maybe(Reader::string)?,
                    _ => drop(r.raw()?),
                }
                Ok(())
            })?;
            let data = data.ok_or_else(|| reader.missing("data"))?;
            Ok(Detail::Redacted { data })
        }
        Some("reasoning.summary") => Ok(Detail::Summary(place::opaque(reader.raw_object()?))),
        _ => Ok(Detail::Opaque(place::opaque(reader.raw_object()?))),
    }
}

/// What a message says of the model's thinking, in one way or several.
#[derive(Debug, Default)]
pub(super) struct Thoughts<'b> {
    /// `reasoning_content` or `reasoning`.
    pub plain: Option<Str<'b>>,
    details: Vec<Part<'b>>,
    last_index: Option<u32>,
    told: bool,
}

impl<'b> Thoughts<'b> {
    /// Takes one entry. Pieces of a stream that a client only strung together become one again.
    pub fn add(&mut self, detail: Detail<'b>) {
        match detail {
            Detail::Text {
                text,
                signature,
                index,
            } => {
                self.told = true;
                let joins = self.last_index == index;
                self.last_index = index;
                if joins
                    && let Some(Part::Reasoning {
                        text: before,
                        signature: signed @ None,
                    }) = self.details.last_mut()
                {
                    before.push_str(&text);
                    *signed = signature;
                } else {
                    let text = text.into();
                    self.details.push(Part::Reasoning { text, signature });
                }
            }
            Detail::Redacted { data } => self.details.push(Part::RedactedReasoning { data }),
            Detail::Summary(part) | Detail::Opaque(part) => self.details.push(part),
        }
    }

    /// Returns the parts: the details where they tell the text, else the plain text before them.
    pub fn into_parts(mut self) -> Vec<Part<'b>> {
        let plain = self.plain.filter(|text| !text.is_empty());
        if !self.told {
            if let Some(text) = plain {
                let (text, signature) = (text.into(), None);
                self.details.insert(0, Part::Reasoning { text, signature });
            }
            return self.details;
        }
        // A signature whose text was left out belongs to the plain text, when it is the only one.
        let mut texts = self.details.iter_mut().filter_map(|part| match part {
            Part::Reasoning { text, .. } => Some(text),
            Part::Text { .. }
            | Part::Refusal { .. }
            | Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::RedactedReasoning { .. }
            | Part::Opaque { .. } => None,
        });
        if let (Some(only), None, Some(plain)) = (texts.next(), texts.next(), plain)
            && only.is_empty()
        {
            *only = plain.into();
        }
        self.details.retain(
            |part| !matches!(part, Part::Reasoning { text, signature: None } if text.is_empty()),
        );
        self.details
    }
}

/// Appends the entry of signed thinking.
pub(super) fn write_text(content: &str, signature: &str, index: u64, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", "reasoning.text");
    object.string("text", content);
    object.string("signature", signature);
    object.string("format", CLAUDE);
    object.integer("index", index);
    object.close();
}

/// Appends the entry of redacted thinking.
pub(super) fn write_redacted(data: &str, index: u64, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", "reasoning.encrypted");
    object.string("data", data);
    object.string("format", CLAUDE);
    object.integer("index", index);
    object.close();
}

/// Appends `reasoning_content` and `reasoning_details` for the thinking among `parts`, where there is any.
pub(super) fn write_fields<'p>(
    parts: impl Iterator<Item = &'p Part<'p>> + Clone,
    object: &mut Object<'_>,
) {
    let mut plain: Option<Cow<'p, str>> = None;
    let mut details = Vec::new();
    let mut index = 0;
    for part in parts {
        let before = details.len();
        match part {
            Part::Reasoning {
                text: words,
                signature,
            } => {
                match &mut plain {
                    Some(plain) => plain.to_mut().push_str(words),
                    None => plain = Some(Cow::Borrowed(words)),
                }
                if let Some(signature) = signature.as_deref().filter(|s| !s.is_empty()) {
                    text::comma(0, &mut details);
                    write_text(words, signature, index, &mut details);
                }
            }
            Part::RedactedReasoning { data } => {
                text::comma(0, &mut details);
                write_redacted(data, index, &mut details);
            }
            Part::Opaque {
                family: crate::protocol::Protocol::OpenaiChat,
                raw,
            } if place::of(raw) == place::Place::Detail => {
                text::comma(0, &mut details);
                details.extend_from_slice(raw.get().as_bytes());
            }
            Part::Text { .. }
            | Part::Refusal { .. }
            | Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::Opaque { .. } => {}
        }
        if details.len() > before {
            index += 1;
        }
    }
    if let Some(plain) = plain.filter(|plain| !plain.is_empty()) {
        object.string("reasoning_content", &plain);
    }
    if !details.is_empty() {
        let out = object.key("reasoning_details");
        out.push(b'[');
        out.extend_from_slice(&details);
        out.push(b']');
    }
}
