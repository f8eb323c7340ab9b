//! Content blocks, as requests and answers share them.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Part, Prose, Source, Str};
use crate::protocol::text::Reader;
use crate::protocol::text::{self, Object};

/// Stands in for the input of a tool call whose arguments are not a JSON object: the text as it was.
///
/// Refusing would end a conversation for good in which a model once wrote broken JSON (or was cut off), and an
/// empty input would hide from the model what it did. The Vercel AI SDK keeps the text in the same way.
const BROKEN_INPUT: &str = "_raw";

/// Reads `content`: a string, or a list of blocks.
pub(super) fn parts<'b>(reader: &mut Reader<'b>) -> Result<Vec<Part<'b>>> {
    match reader.peek() {
        b'"' => Ok(vec![plain(reader.prose()?)]),
        b'[' => reader.list(part),
        _ => Err(reader.wrong("a string or a list of content blocks")),
    }
}

/// Reads one block; of a type that the hub has no word for, whole.
pub(super) fn part<'b>(reader: &mut Reader<'b>) -> Result<Part<'b>> {
    if reader.peek() != b'{' {
        return Err(reader.wrong("an object"));
    }
    let Some(kind) = reader.tag("type") else {
        let mark = reader.mark();
        reader.raw()?;
        reader.back(mark);
        return Err(reader.missing("type"));
    };
    match &*kind {
        "text" => text(reader),
        "image" => image(reader),
        "document" => document(reader),
        "tool_use" => tool_use(reader),
        "tool_result" => tool_result(reader),
        "thinking" => thinking(reader),
        "redacted_thinking" => redacted(reader),
        _ => opaque(reader),
    }
}

/// Reads one of the words that `known` knows.
pub(super) fn word<T>(
    reader: &mut Reader<'_>,
    what: &str,
    known: impl FnOnce(&str) -> Option<T>,
) -> Result<T> {
    let mark = reader.mark();
    let word = reader.string()?;
    known(&word).ok_or_else(|| {
        reader.back(mark);
        reader.wrong(what)
    })
}

/// Returns a text part without trimmings.
pub(super) fn plain<'b>(text: impl Into<Prose<'b>>) -> Part<'b> {
    Part::Text {
        text: text.into(),
        cache: None,
        citations: None,
    }
}

fn opaque<'b>(reader: &mut Reader<'b>) -> Result<Part<'b>> {
    Ok(Part::Opaque {
        family: Protocol::Anthropic,
        raw: reader.raw_object()?,
    })
}

fn text<'b>(reader: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut text, mut cache, mut citations) = (None, None, None);
    reader.object(|r, key| {
        match &*key {
            "type" => r.raw().map(drop)?,
            "text" => text = Some(r.prose()?),
            "cache_control" => cache = r.maybe(Reader::raw_object)?,
            "citations" => citations = r.maybe(Reader::raw)?.filter(|raw| !is_empty(raw)),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let text = text.ok_or_else(|| reader.missing("text"))?;
    Ok(Part::Text {
        text,
        cache,
        citations,
    })
}

fn is_empty(list: &RawValue) -> bool {
    list.get()
        .trim_matches(|c| matches!(c, '[' | ']' | ' ' | '\n' | '\r' | '\t'))
        .is_empty()
}

fn image<'b>(reader: &mut Reader<'b>) -> Result<Part<'b>> {
    let mark = reader.mark();
    let (mut found, mut cache) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "type" => r.raw().map(drop)?,
            "source" => found = Some(source(r)?),
            "cache_control" => cache = r.maybe(Reader::raw_object)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    match found.ok_or_else(|| reader.missing("source"))? {
        Some(source) => Ok(Part::Image {
            source,
            detail: None,
            cache,
        }),
        None => {
            reader.back(mark);
            opaque(reader)
        }
    }
}

fn document<'b>(reader: &mut Reader<'b>) -> Result<Part<'b>> {
    let mark = reader.mark();
    let (mut found, mut name, mut context) = (None, None, None);
    let (mut citations, mut cache) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "type" => r.raw().map(drop)?,
            "source" => found = Some(source(r)?),
            "title" => name = r.maybe(Reader::string)?,
            "context" => context = r.maybe(Reader::string)?,
            "citations" => citations = r.maybe(Reader::raw_object)?,
            "cache_control" => cache = r.maybe(Reader::raw_object)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    match found.ok_or_else(|| reader.missing("source"))? {
        Some(source) => Ok(Part::File {
            source,
            name,
            context,
            citations,
            cache,
        }),
        None => {
            reader.back(mark);
            opaque(reader)
        }
    }
}

/// Reads where an image or a document comes from; `None` for a source that the hub has no word for.
fn source<'b>(reader: &mut Reader<'b>) -> Result<Option<Source<'b>>> {
    let kind = reader.tag("type");
    let (mut media_type, mut data, mut url, mut file) = (None, None, None, None);
    let (mut content, mut known) = (None, true);
    reader.object(|r, key| {
        match &*key {
            "type" => r.string().map(drop)?,
            "media_type" => media_type = r.maybe(Reader::string)?,
            "data" => data = r.maybe(Reader::string)?,
            "url" => url = r.maybe(Reader::string)?,
            "file_id" => file = r.maybe(Reader::string)?,
            "content" => {
                content = joined(parts(r)?);
                known = content.is_some();
            }
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let kind = kind.ok_or_else(|| reader.missing("type"))?;
    let need = |value: Option<Str<'b>>, key| value.ok_or_else(|| reader.missing(key));
    let source = match &*kind {
        "base64" => Source::Base64 {
            media_type: need(media_type, "media_type")?,
            data: need(data, "data")?,
        },
        "url" => Source::Url(need(url, "url")?),
        "text" => Source::Text(need(data, "data")?),
        "file" => Source::FileId {
            family: Protocol::Anthropic,
            id: need(file, "file_id")?,
        },
        "content" if known => Source::Text(need(content, "content")?),
        _ => return Ok(None),
    };
    Ok(Some(source))
}

/// Returns the text of a document given as blocks, one paragraph each; `None` if there is more than text in it.
fn joined(parts: Vec<Part<'_>>) -> Option<Str<'_>> {
    let mut whole: Option<Str<'_>> = None;
    for part in parts {
        let Part::Text { text, .. } = part else {
            return None;
        };
        whole = Some(match whole {
            None => text.into_str(),
            Some(before) => {
                let mut before = before.into_owned();
                before.push_str("\n\n");
                before.push_str(&text);
                Cow::Owned(before)
            }
        });
    }
    whole
}

fn tool_use<'b>(reader: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut id, mut name, mut input, mut cache) = (None, None, None, None);
    reader.object(|r, key| {
        match &*key {
            "type" => r.raw().map(drop)?,
            "id" => id = Some(r.string()?),
            "name" => name = Some(r.string()?),
            "input" => input = r.maybe(Reader::raw_object)?,
            "cache_control" => cache = r.maybe(Reader::raw_object)?,
            // Who called it: the model itself, unless an opaque block beside it says more.
            "caller" => r.raw().map(drop)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Part::ToolCall {
        id: id.ok_or_else(|| reader.missing("id"))?,
        name: name.ok_or_else(|| reader.missing("name"))?,
        arguments: Cow::Borrowed(input.map_or("{}", RawValue::get)),
        cache,
    })
}

fn tool_result<'b>(reader: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut id, mut content, mut is_error, mut cache) = (None, None, None, None);
    reader.object(|r, key| {
        match &*key {
            "type" => r.raw().map(drop)?,
            "tool_use_id" => id = Some(r.string()?),
            "content" => content = r.maybe(result_parts)?,
            "is_error" => is_error = r.maybe(Reader::boolean)?,
            "cache_control" => cache = r.maybe(Reader::raw_object)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Part::ToolResult {
        id: id.ok_or_else(|| reader.missing("tool_use_id"))?,
        parts: content.unwrap_or_default(),
        is_error: is_error.unwrap_or(false),
        cache,
    })
}

/// Reads what a tool returned: no calls and no results in there, so that nothing nests without end.
fn result_parts<'b>(reader: &mut Reader<'b>) -> Result<Vec<Part<'b>>> {
    if reader.peek() != b'[' {
        return parts(reader);
    }
    reader.list(|r| match r.tag("type").as_deref() {
        Some("tool_use" | "tool_result" | "thinking" | "redacted_thinking") => {
            Err(r.wrong("a block of text, an image, a document or a search result"))
        }
        Some(_) | None => part(r),
    })
}

fn thinking<'b>(reader: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut text, mut signature) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "type" => r.raw().map(drop)?,
            "thinking" => text = Some(r.prose()?),
            "signature" => signature = r.maybe(Reader::string)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Part::Reasoning {
        text: text.ok_or_else(|| reader.missing("thinking"))?,
        signature,
    })
}

fn redacted<'b>(reader: &mut Reader<'b>) -> Result<Part<'b>> {
    let mut data = None;
    reader.object(|r, key| {
        match &*key {
            "type" => r.raw().map(drop)?,
            "data" => data = Some(r.string()?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Part::RedactedReasoning {
        data: data.ok_or_else(|| reader.missing("data"))?,
    })
}

/// Appends the arguments of a call as `input`, an object. Returns whether they were one.
pub(super) fn input(arguments: &str, out: &mut Vec<u8>) -> bool {
    let text = arguments.trim_ascii();
    if text.is_empty() {
        out.extend_from_slice(b"{}");
        return true;
    }
    if text.starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok() {
        out.extend_from_slice(text.as_bytes());
        return true;
    }
    let mut object = Object::open(out);
    object.string(BROKEN_INPUT, arguments);
    object.close();
    false
}

/// Appends a text block.
pub(super) fn write_text(
    text: &Prose<'_>,
    cache: Option<&RawValue>,
    citations: Option<&RawValue>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
    text.write(out);
    if let Some(citations) = citations {
        out.extend_from_slice(b",\"citations\":");
        out.extend_from_slice(citations.get().as_bytes());
    }
    write_cache(cache, out);
    out.push(b'}');
}

pub(super) fn write_thinking(text: &Prose<'_>, signature: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":");
    text.write(out);
    out.extend_from_slice(b",\"signature\":");
    text::string(signature.unwrap_or(""), out);
    out.push(b'}');
}

pub(super) fn write_redacted(data: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"redacted_thinking\",\"data\":");
    text::string(data, out);
    out.push(b'}');
}

pub(super) fn write_cache(cache: Option<&RawValue>, out: &mut Vec<u8>) {
    if let Some(cache) = cache {
        out.extend_from_slice(b",\"cache_control\":");
        out.extend_from_slice(cache.get().as_bytes());
    }
}
