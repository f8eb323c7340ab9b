//! The two events that carry content, read.

use serde_json::value::RawValue;

use crate::error::Result;
use crate::protocol::chat::Str;
use crate::protocol::text::Reader;

/// What a `content_block_start` says.
pub(super) enum BlockStart<'b> {
    Text {
        text: Option<Str<'b>>,
        citations: Option<&'b RawValue>,
    },
    Reasoning {
        text: Option<Str<'b>>,
        signature: Option<Str<'b>>,
    },
    Redacted {
        data: Str<'b>,
    },
    Call {
        id: Str<'b>,
        name: Str<'b>,
        input: Option<&'b RawValue>,
    },
    Opaque(&'b RawValue),
}

pub(super) fn block<'b>(reader: &mut Reader<'b>) -> Result<BlockStart<'b>> {
    let kind = reader.tag("type").ok_or_else(|| reader.missing("type"))?;
    if !matches!(
        kind.as_ref(),
        "text" | "thinking" | "redacted_thinking" | "tool_use"
    ) {
        return reader.raw_object().map(BlockStart::Opaque);
    }
    let (mut text, mut signature, mut data) = (None, None, None);
    let (mut id, mut name, mut input, mut citations) = (None, None, None, None);
    reader.object(|r, key| {
        match &*key {
            "text" | "thinking" => text = r.maybe(Reader::string)?.filter(|text| !text.is_empty()),
            "signature" => signature = r.maybe(Reader::string)?.filter(|text| !text.is_empty()),
            "data" => data = r.maybe(Reader::string)?,
            "id" => id = r.maybe(Reader::string)?,
            "name" => name = r.maybe(Reader::string)?,
            "input" => input = r.maybe(Reader::raw)?,
            "citations" => citations = r.maybe(Reader::raw)?,
            _ => r.raw().map(drop)?,
        }
        Ok(())
    })?;
    Ok(match kind.as_ref() {
        "text" => BlockStart::Text { text, citations },
        "thinking" => BlockStart::Reasoning { text, signature },
        "redacted_thinking" => BlockStart::Redacted {
            data: data.ok_or_else(|| reader.missing("data"))?,
        },
        _ => BlockStart::Call {
            id: id.ok_or_else(|| reader.missing("id"))?,
            name: name.ok_or_else(|| reader.missing("name"))?,
            // The usual start is an empty object, filled by deltas; a call without any has empty arguments.
            input,
        },
    })
}

/// What a `content_block_delta` says.
pub(super) enum Piece<'b> {
    Text(Str<'b>),
    Arguments(Str<'b>),
    Reasoning(Str<'b>),
    Signature(Str<'b>),
    Citation(&'b RawValue),
    Other(&'b RawValue),
}

pub(super) fn piece<'b>(reader: &mut Reader<'b>) -> Result<Piece<'b>> {
    let kind = reader.tag("type").ok_or_else(|| reader.missing("type"))?;
    let field = match kind.as_ref() {
        "text_delta" => "text",
        "input_json_delta" => "partial_json",
        "thinking_delta" => "thinking",
        "signature_delta" => "signature",
        "citations_delta" => "citation",
        _ => return reader.raw_object().map(Piece::Other),
    };
    let (mut text, mut citation) = (None, None);
    reader.object(|r, key| {
        if key != field {
            r.raw()?;
        } else if field == "citation" {
            citation = Some(r.raw_object()?);
        } else {
            text = Some(r.string()?);
        }
        Ok(())
    })?;
    if let Some(raw) = citation {
        return Ok(Piece::Citation(raw));
    }
    let text = text.ok_or_else(|| reader.missing(field))?;
    Ok(match field {
        "text" => Piece::Text(text),
        "partial_json" => Piece::Arguments(text),
        "thinking" => Piece::Reasoning(text),
        _ => Piece::Signature(text),
    })
}

/// Returns the `delta` of an event whole.
pub(super) fn whole_delta(data: &[u8]) -> Result<&RawValue> {
    let mut reader = Reader::new(data)?;
    let mut raw = None;
    reader.object(|r, key| {
        let value = r.raw()?;
        if key == "delta" {
            raw = Some(value);
        }
        Ok(())
    })?;
    raw.ok_or_else(|| reader.missing("delta"))
}
