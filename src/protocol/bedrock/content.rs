//! Content blocks read, as requests and answers share them.
//!
//! A block is an object with one member that says its kind. A cache point is a block of its own, after what it covers;
//! the hub has it on the part before, in Anthropic's words.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{blob, media};
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Part, Prose, Source, Str, Tool};
use crate::protocol::text::Reader;

/// Reads a list of blocks.
pub(super) fn parts<'b>(reader: &mut Reader<'b>) -> Result<Vec<Part<'b>>> {
    let mut parts = Vec::new();
    reader.array(|r| block(r, &mut parts))?;
    Ok(parts)
}

/// Reads one block and appends its part; of a kind that the hub has no word for, whole.
fn block<'b>(reader: &mut Reader<'b>, parts: &mut Vec<Part<'b>>) -> Result<()> {
    let mark = reader.mark();
    let (mut found, mut cache) = (None, None);
    reader.object(|r, key| {
        if r.peek() == b'n' {
            return r.raw().map(drop);
        }
        match &*key {
            "text" => found = Some(plain(r.string()?)),
            "image" => found = image(r)?,
            "document" => found = document(r)?,
            "audio" => found = audio(r)?,
            "toolUse" => found = tool_use(r)?,
            "toolResult" => found = tool_result(r)?,
            "reasoningContent" => found = reasoning(r)?,
            "citationsContent" => found = Some(cited(r)?),
            "cachePoint" => cache = Some(cache_point(r)?),
            _ => r.raw().map(drop)?,
        }
        Ok(())
    })?;
    match (found, cache) {
        (Some(part), _) => parts.push(part),
        (None, Some(control)) if is_attached(parts, control) => {}
        (None, _) => {
            reader.back(mark);
            parts.push(Part::Opaque {
                family: Protocol::Bedrock,
                raw: reader.raw_object()?,
            });
        }
    }
    Ok(())
}

/// Returns a text part without trimmings.
pub(super) fn plain<'b>(text: impl Into<Prose<'b>>) -> Part<'b> {
    Part::Text {
        text: text.into(),
        cache: None,
        citations: None,
    }
}

/// Puts a cache point on the part before it, if that can bear one.
fn is_attached<'b>(parts: &mut [Part<'b>], control: &'b RawValue) -> bool {
    match parts.last_mut() {
        Some(
            Part::Text { cache, .. }
            | Part::Image { cache, .. }
            | Part::File { cache, .. }
            | Part::ToolCall { cache, .. }
            | Part::ToolResult { cache, .. },
        ) => {
            *cache = Some(control);
            true
        }
        Some(
            Part::Refusal { .. }
            | Part::Audio { .. }
            | Part::Reasoning { .. }
            | Part::RedactedReasoning { .. }
            | Part::Opaque { .. },
        )
        | None => false,
    }
}

/// Reads a cache point as Anthropic's `cache_control`.
pub(super) fn cache_point(reader: &mut Reader<'_>) -> Result<&'static RawValue> {
    let mut hour = false;
    reader.object(|r, key| {
        match &*key {
            "ttl" => hour = r.maybe(Reader::string)?.is_some_and(|ttl| ttl == "1h"),
            _ => r.raw().map(drop)?,
        }
        Ok(())
    })?;
    let control = if hour {
        r#"{"type":"ephemeral","ttl":"1h"}"#
    } else {
        r#"{"type":"ephemeral"}"#
    };
    Ok(serde_json::from_str(control).expect("both are JSON"))
}

/// Where the bytes of a block are; `None` for a place that the hub has no word for.
enum Place<'b> {
    Bytes(Str<'b>),
    Text(Str<'b>),
}

fn source<'b>(reader: &mut Reader<'b>) -> Result<Option<Place<'b>>> {
    let mut found = None;
    reader.object(|r, key| {
        match &*key {
            "bytes" => found = r.maybe(Reader::string)?.map(Place::Bytes),
            "text" => found = r.maybe(Reader::string)?.map(Place::Text),
            "content" => found = joined(r)?.map(Place::Text),
            _ => r.raw().map(drop)?,
        }
        Ok(())
    })?;
    Ok(found)
}

/// Reads the text of a document given as blocks, one paragraph each; `None` if there is more than text in it.
fn joined<'b>(reader: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    let (mut whole, mut known) = (String::new(), true);
    reader.array(|r| {
        r.object(|r, key| {
            if key != "text" {
                known = false;
                return r.raw().map(drop);
            }
            if !whole.is_empty() {
                whole.push_str("\n\n");
            }
            whole.push_str(&r.string()?);
            Ok(())
        })
    })?;
    Ok(known.then_some(Cow::Owned(whole)))
}

fn image<'b>(reader: &mut Reader<'b>) -> Result<Option<Part<'b>>> {
    let (mut format, mut place) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "format" => format = r.maybe(Reader::string)?,
            "source" => place = Some(source(r)?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let format = format.ok_or_else(|| reader.missing("format"))?;
    let place = place.ok_or_else(|| reader.missing("source"))?;
    let Some(Place::Bytes(data)) = place else {
        return Ok(None);
    };
    Ok(Some(Part::Image {
        source: Source::Base64 {
            media_type: Cow::Owned(format!("image/{format}")),
            data,
        },
        detail: None,
        cache: None,
    }))
}

fn document<'b>(reader: &mut Reader<'b>) -> Result<Option<Part<'b>>> {
    let (mut format, mut place, mut name) = (None, None, None);
    let (mut context, mut citations) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "format" => format = r.maybe(Reader::string)?,
            "name" => name = r.maybe(Reader::string)?,
            "source" => place = Some(source(r)?),
            "context" => context = r.maybe(Reader::string)?,
            "citations" => citations = r.maybe(Reader::raw_object)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| reader.missing("name"))?;
    let place = place.ok_or_else(|| reader.missing("source"))?;
    let format = format.as_deref().unwrap_or("txt");
    let source = match place {
        Some(Place::Bytes(data)) => match media::document_type(format) {
            Some(media_type) => Source::Base64 {
                media_type: Cow::Borrowed(media_type),
                data,
            },
            None => return Ok(None),
        },
        Some(Place::Text(text)) => Source::Text(text),
        None => return Ok(None),
    };
    Ok(Some(Part::File {
        source,
        name: Some(name),
        context,
        citations,
        cache: None,
    }))
}

fn audio<'b>(reader: &mut Reader<'b>) -> Result<Option<Part<'b>>> {
    let (mut format, mut place) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "format" => format = r.maybe(Reader::string)?,
            "source" => place = source(r)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let format = format.ok_or_else(|| reader.missing("format"))?;
    Ok(match place {
        Some(Place::Bytes(data)) => Some(Part::Audio { data, format }),
        Some(Place::Text(_)) | None => None,
    })
}

/// Reads a call; `None` for one of a tool that Bedrock runs itself.
fn tool_use<'b>(reader: &mut Reader<'b>) -> Result<Option<Part<'b>>> {
    let (mut id, mut name, mut input, mut server) = (None, None, None, false);
    reader.object(|r, key| {
        match &*key {
            "toolUseId" => id = Some(r.string()?),
            "name" => name = Some(r.string()?),
            "input" => input = arguments(r)?,
            "type" => {
                server = r
                    .maybe(Reader::string)?
                    .is_some_and(|kind| kind == "server_tool_use")
            }
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let id = id.ok_or_else(|| reader.missing("toolUseId"))?;
    let name = name.ok_or_else(|| reader.missing("name"))?;
    Ok((!server).then(|| Part::ToolCall {
        id,
        name,
        arguments: input.unwrap_or(Cow::Borrowed("{}")),
        cache: None,
    }))
}

/// Reads the input of a call: an object, but a model that wrote broken JSON has its text told as a string.
fn arguments<'b>(reader: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    if reader.peek() == b'"' {
        return reader.string().map(Some);
    }
    Ok(reader.maybe_raw()?.map(|raw| Cow::Borrowed(raw.get())))
}

/// Reads a result; `None` for that of a tool that Bedrock runs itself.
fn tool_result<'b>(reader: &mut Reader<'b>) -> Result<Option<Part<'b>>> {
    let (mut id, mut content, mut is_error, mut server) = (None, None, false, false);
    reader.object(|r, key| {
        match &*key {
            "toolUseId" => id = Some(r.string()?),
            "content" => content = Some(result_parts(r)?),
            "status" => is_error = r.maybe(Reader::string)?.is_some_and(|word| word == "error"),
            "type" => {
                server = r
                    .maybe(Reader::string)?
                    .is_some_and(|kind| kind != "tool_result")
            }
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let id = id.ok_or_else(|| reader.missing("toolUseId"))?;
    let parts = content.ok_or_else(|| reader.missing("content"))?;
    Ok((!server).then_some(Part::ToolResult {
        id,
        parts,
        is_error,
        cache: None,
    }))
}

/// Reads what a tool returned: no calls and no results in there, so that nothing nests without end.
fn result_parts<'b>(reader: &mut Reader<'b>) -> Result<Vec<Part<'b>>> {
    let mut parts = Vec::new();
    reader.array(|r| {
        let mark = r.mark();
        let mut found = None;
        r.object(|r, key| {
            if r.peek() == b'n' {
                return r.raw().map(drop);
            }
            match &*key {
                "text" => found = Some(plain(r.string()?)),
                "json" => found = Some(plain(Cow::Borrowed(r.raw()?.get()))),
                "image" => found = image(r)?,
                "document" => found = document(r)?,
                _ => r.raw().map(drop)?,
            }
            Ok(())
        })?;
        parts.push(match found {
            Some(part) => part,
            None => {
                r.back(mark);
                Part::Opaque {
                    family: Protocol::Bedrock,
                    raw: r.raw_object()?,
                }
            }
        });
        Ok(())
    })?;
    Ok(parts)
}

fn reasoning<'b>(reader: &mut Reader<'b>) -> Result<Option<Part<'b>>> {
    let mut found = None;
    reader.object(|r, key| {
        if r.peek() == b'n' {
            return r.raw().map(drop);
        }
        match &*key {
            "reasoningText" => {
                let (mut text, mut signature) = (None, None);
                r.object(|r, key| {
                    match &*key {
                        "text" => text = r.maybe(Reader::string)?,
                        "signature" => signature = r.maybe(Reader::string)?,
                        _ => r.stranger()?,
                    }
                    Ok(())
                })?;
                found = Some(Part::Reasoning {
                    text: text.unwrap_or_default().into(),
                    signature: signature.filter(|s| !s.is_empty()).map(blob::inward),
                });
            }
            "redactedContent" => {
                found = Some(Part::RedactedReasoning {
                    data: blob::inward_bytes(r.string()?),
                });
            }
            _ => r.raw().map(drop)?,
        }
        Ok(())
    })?;
    Ok(found)
}

/// Reads text with its citations.
fn cited<'b>(reader: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut text, mut citations) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "content" => {
                let mut whole: Option<Str<'b>> = None;
                r.array(|r| {
                    r.object(|r, key| {
                        match &*key {
                            "text" => {
                                let piece = r.string()?;
                                match &mut whole {
                                    None => whole = Some(piece),
                                    Some(before) => before.to_mut().push_str(&piece),
                                }
                            }
                            _ => r.raw().map(drop)?,
                        }
                        Ok(())
                    })
                })?;
                text = whole;
            }
            "citations" => citations = r.maybe_raw()?.filter(|raw| raw.get().contains('{')),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Part::Text {
        text: text.unwrap_or_default().into(),
        cache: None,
        citations,
    })
}

/// Reads the list of tools.
pub(super) fn tools<'b>(reader: &mut Reader<'b>) -> Result<Vec<Tool<'b>>> {
    let mut tools: Vec<Tool<'b>> = Vec::new();
    reader.array(|r| {
        let mark = r.mark();
        let (mut found, mut control, mut name) = (None, None, None);
        r.object(|r, key| {
            if r.peek() == b'n' {
                return r.raw().map(drop);
            }
            match &*key {
                "toolSpec" => found = Some(tool(r)?),
                "cachePoint" => control = Some(cache_point(r)?),
                _ => {
                    name = r.tag("name").or(Some(key));
                    r.raw()?;
                }
            }
            Ok(())
        })?;
        match (found, control, tools.last_mut()) {
            (Some(tool), _, _) => tools.push(tool),
            (None, Some(control), Some(Tool::Function { cache, .. })) => *cache = Some(control),
            (None, _, _) => {
                r.back(mark);
                tools.push(Tool::Opaque {
                    family: Protocol::Bedrock,
                    name: name.unwrap_or(Cow::Borrowed("cachePoint")),
                    raw: r.raw_object()?,
                });
            }
        }
        Ok(())
    })?;
    Ok(tools)
}

fn tool<'b>(reader: &mut Reader<'b>) -> Result<Tool<'b>> {
    let (mut name, mut description, mut schema, mut strict) = (None, None, None, None);
    reader.object(|r, key| {
        match &*key {
            "name" => name = Some(r.string()?),
            "description" => description = r.maybe(Reader::string)?,
            "inputSchema" => r.object(|r, key| {
                match &*key {
                    "json" => schema = Some(r.raw_object()?),
                    _ => r.stranger()?,
                }
                Ok(())
            })?,
            "strict" => strict = r.maybe(Reader::boolean)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| reader.missing("name"))?;
    if schema.is_none() {
        return Err(reader.missing("inputSchema.json"));
    }
    Ok(Tool::Function {
        name,
        description,
        schema,
        strict,
        cache: None,
    })
}
