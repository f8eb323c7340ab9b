//! The events that carry content, and exceptions, read.

use serde_json::value::RawValue;

use crate::error::Result;
use crate::protocol::chat::Str;
use crate::protocol::text::{Object, Reader};

/// What a `contentBlockDelta` says.
pub(super) enum Piece<'b> {
    Text(Str<'b>),
    Arguments(Str<'b>),
    Reasoning(Str<'b>),
    Signature(Str<'b>),
    Redacted(Str<'b>),
    Citation(&'b RawValue),
    /// Of a kind that the hub has no word for.
    Other,
}

/// What a `contentBlockStart` says.
pub(super) enum Start<'b> {
    Call {
        id: Str<'b>,
        name: Str<'b>,
    },
    /// All is in the deltas.
    Deltas,
    /// A block that the hub has no word for.
    Other,
}

pub(super) fn start_of(raw: &RawValue) -> Result<Start<'_>> {
    let mut reader = Reader::of(raw.get());
    let mut start = Start::Deltas;
    reader.object(|r, key| {
        match &*key {
            "toolUse" => {
                let (mut id, mut name, mut server) = (None, None, false);
                r.object(|r, key| {
                    match &*key {
                        "toolUseId" => id = r.maybe(Reader::string)?,
                        "name" => name = r.maybe(Reader::string)?,
                        "type" => {
                            let kind = r.maybe(Reader::string)?;
                            server = kind.is_some_and(|kind| kind == "server_tool_use");
                        }
                        _ => r.raw().map(drop)?,
                    }
                    Ok(())
                })?;
                start = if server {
                    Start::Other
                } else {
                    Start::Call {
                        id: id.ok_or_else(|| r.missing("toolUseId"))?,
                        name: name.ok_or_else(|| r.missing("name"))?,
                    }
                };
            }
            "text" | "reasoningContent" => drop(r.raw()?),
            _ => {
                r.raw()?;
                start = Start::Other;
            }
        }
        Ok(())
    })?;
    Ok(start)
}

/// Reads a delta; `None` for an empty one.
pub(super) fn piece_of(raw: &RawValue) -> Result<Option<Piece<'_>>> {
    let mut reader = Reader::of(raw.get());
    let mut piece = None;
    reader.object(|r, key| {
        match &*key {
            "text" => piece = Some(Piece::Text(r.string()?)),
            "toolUse" => r.object(|r, key| {
                match &*key {
                    "input" if r.peek() == b'"' => piece = Some(Piece::Arguments(r.string()?)),
                    // Given as JSON where text was due.
                    "input" => piece = Some(Piece::Arguments(r.raw()?.get().into())),
                    _ => r.raw().map(drop)?,
                }
                Ok(())
            })?,
            "reasoningContent" => r.object(|r, key| {
                match &*key {
                    "text" => piece = Some(Piece::Reasoning(r.string()?)),
                    "signature" => piece = Some(Piece::Signature(r.string()?)),
                    "redactedContent" => piece = Some(Piece::Redacted(r.string()?)),
                    _ => r.raw().map(drop)?,
                }
                Ok(())
            })?,
            "citation" => piece = Some(Piece::Citation(r.raw_object()?)),
            _ => {
                r.raw()?;
                piece = Some(Piece::Other);
            }
        }
        Ok(())
    })?;
    Ok(piece)
}

/// Reads an exception's message, and the status that the model behind it answered.
pub(in crate::protocol::bedrock) fn told(data: &[u8]) -> Result<(Option<Str<'_>>, Option<u32>)> {
    let mut reader = Reader::new(data)?;
    let (mut message, mut original, mut status) = (None, None, None);
    reader.object(|r, key| {
        match &*key {
            "message" | "Message" if r.peek() == b'"' => message = Some(r.string()?),
            "originalMessage" if r.peek() == b'"' => original = Some(r.string()?),
            "originalStatusCode" if r.peek().is_ascii_digit() => status = Some(r.integer()?),
            _ => r.raw().map(drop)?,
        }
        Ok(())
    })?;
    Ok((message.or(original), status))
}

/// What a citation points to.
pub(super) enum Cited {
    /// A page, as one of OpenAI's annotations.
    Page(Vec<u8>),
    /// Something that Bedrock alone has a word for.
    Other,
}

pub(super) fn cited(raw: &RawValue) -> Result<Cited> {
    let (mut title, mut url) = (None, None);
    Reader::of(raw.get()).object(|r, key| {
        match &*key {
            "title" if r.peek() == b'"' => title = Some(r.string()?),
            "location" if r.peek() == b'{' => r.object(|r, key| match &*key {
                "web" if r.peek() == b'{' => r.object(|r, key| {
                    match &*key {
                        "url" if r.peek() == b'"' => url = Some(r.string()?),
                        _ => r.raw().map(drop)?,
                    }
                    Ok(())
                }),
                _ => r.raw().map(drop),
            })?,
            _ => r.raw().map(drop)?,
        }
        Ok(())
    })?;
    let Some(url) = url else {
        return Ok(Cited::Other);
    };
    let mut out = Vec::new();
    let mut object = Object::open(&mut out);
    object.string("type", "url_citation");
    let mut inner = Object::open(object.key("url_citation"));
    inner.integer("start_index", 0);
    inner.integer("end_index", 0);
    inner.string("url", &url);
    inner.string("title", title.as_deref().unwrap_or(&url));
    inner.close();
    object.close();
    Ok(Cited::Page(out))
}
