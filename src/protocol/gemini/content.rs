//! Parts of content, as requests and answers share them.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::signature;
use super::words::{camel, guess};
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Part, Prose, Source, Str};
use crate::protocol::text::{self, Object, Reader};

/// Stands in for the arguments of a call that are not a JSON object: the text as it was.
///
/// Refusing would end a conversation for good in which a model once wrote broken JSON (or was cut off).
const BROKEN_ARGUMENTS: &str = "_raw";

/// One part as it stands on the wire.
#[derive(Debug)]
pub(super) struct Piece<'b> {
    pub what: What<'b>,
    /// As Google wrote it.
    pub signature: Option<Str<'b>>,
}

#[derive(Debug)]
pub(super) enum What<'b> {
    Text(Prose<'b>),
    Thought(Prose<'b>),
    Call {
        id: Option<Str<'b>>,
        name: Str<'b>,
        arguments: Str<'b>,
    },
    Result {
        id: Option<Str<'b>>,
        name: Str<'b>,
        parts: Vec<Part<'b>>,
        is_error: bool,
    },
    Media(Part<'b>),
    Opaque(&'b RawValue),
}

/// Reads one part.
pub(super) fn piece<'b>(r: &mut Reader<'b>) -> Result<Piece<'b>> {
    let mark = r.mark();
    let (mut text, mut thought, mut signature) = (None, false, None);
    let (mut what, mut opaque) = (None, false);
    r.object(|r, key| {
        match &*camel(&key) {
            "text" => text = r.maybe(Reader::prose)?,
            "thought" => thought = r.maybe(Reader::boolean)?.unwrap_or(false),
            "thoughtSignature" => signature = r.maybe(Reader::string)?,
            "functionCall" => what = r.maybe(call)?.or(what.take()),
            "functionResponse" => what = r.maybe(result)?.or(what.take()),
            "inlineData" => {
                if let Some(blob) = r.maybe(blob)? {
                    match blob {
                        Some(part) => what = Some(What::Media(part)),
                        None => opaque = true,
                    }
                }
            }
            "fileData" => {
                if let Some(file) = r.maybe(file)? {
                    match file {
                        Some(part) => what = Some(What::Media(part)),
                        None => opaque = true,
                    }
                }
            }
            // How finely to look, and notes of the client's own.
            "mediaResolution" | "partMetadata" => r.stranger()?,
            _ => opaque |= r.raw()?.get() != "null",
        }
        Ok(())
    })?;
    if opaque {
        r.back(mark);
        what = Some(What::Opaque(r.raw_object()?));
    }
    let what = match what {
        Some(what) => what,
        None if thought => What::Thought(text.unwrap_or_default()),
        None => What::Text(text.unwrap_or_default()),
    };
    Ok(Piece {
        what,
        signature: signature.filter(|signature| !signature.is_empty()),
    })
}

/// Reads a list of what `one` reads; Google takes a lone one for a list.
pub(super) fn list<'b, T>(
    r: &mut Reader<'b>,
    mut one: impl FnMut(&mut Reader<'b>) -> Result<T>,
) -> Result<Vec<T>> {
    if r.peek() == b'[' {
        return r.list(one);
    }
    Ok(vec![one(r)?])
}

fn call<'b>(r: &mut Reader<'b>) -> Result<What<'b>> {
    let (mut id, mut name, mut arguments) = (None, None, None);
    r.object(|r, key| {
        match &*camel(&key) {
            "id" => id = r.maybe(Reader::string)?.filter(|id| !id.is_empty()),
            "name" => name = r.maybe(Reader::string)?,
            "args" => arguments = r.maybe(Reader::raw_object)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(What::Call {
        id,
        name: name.ok_or_else(|| r.missing("name"))?,
        arguments: Cow::Borrowed(arguments.map_or("{}", RawValue::get)),
    })
}

fn result<'b>(r: &mut Reader<'b>) -> Result<What<'b>> {
    let (mut id, mut name, mut response) = (None, None, None);
    let mut media = Vec::new();
    r.object(|r, key| {
        match &*camel(&key) {
            "id" => id = r.maybe(Reader::string)?.filter(|id| !id.is_empty()),
            "name" => name = r.maybe(Reader::string)?,
            "response" => response = r.maybe(Reader::raw_object)?,
            "parts" => media = r.maybe(|r| list(r, shown))?.unwrap_or_default(),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| r.missing("name"))?;
    let mut parts = Vec::with_capacity(1 + media.len());
    let mut is_error = false;
    if let Some(raw) = response {
        let (text, failed) = said(raw)?;
        is_error = failed;
        parts.push(plain(text));
    }
    parts.extend(media);
    Ok(What::Result {
        id,
        name,
        parts,
        is_error,
    })
}

/// Reads what a function answered: the text of a lone `output` or `error`, else the JSON as it is.
fn said(raw: &RawValue) -> Result<(Str<'_>, bool)> {
    let (mut output, mut error, mut members) = (None, None, 0);
    Reader::of(raw.get()).object(|r, key| {
        members += 1;
        match (&*key, r.peek()) {
            ("output", b'"') => output = Some(r.string()?),
            ("error", b'"') => error = Some(r.string()?),
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    Ok(match (members, output, error) {
        (1, Some(text), _) => (text, false),
        (1, _, Some(text)) => (text, true),
        _ => (Cow::Borrowed(raw.get()), false),
    })
}

/// Reads a part that a function's answer shows: never a call or a result, so that nothing nests without end.
fn shown<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let mark = r.mark();
    let mut found = None;
    r.object(|r, key| {
        match &*camel(&key) {
            "inlineData" => found = r.maybe(blob)?.flatten(),
            "fileData" => found = r.maybe(file)?.flatten(),
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    match found {
        Some(part) => Ok(part),
        None => {
            r.back(mark);
            Ok(opaque(r.raw_object()?))
        }
    }
}

/// Returns base64 in the standard alphabet: Google's own client for Python writes the one for URLs, which Google takes
/// and nobody else.
fn standard(data: Str<'_>) -> Str<'_> {
    if !data.contains(['-', '_']) {
        return data;
    }
    let mut data = data.replace('-', "+").replace('_', "/");
    while !data.len().is_multiple_of(4) {
        data.push('=');
    }
    Cow::Owned(data)
}

/// Reads inline data; `None` for what the hub has no word for.
fn blob<'b>(r: &mut Reader<'b>) -> Result<Option<Part<'b>>> {
    let (mut media_type, mut data, mut name) = (None, None, None);
    r.object(|r, key| {
        match &*camel(&key) {
            "mimeType" => media_type = r.maybe(Reader::string)?,
            "data" => data = r.maybe(Reader::string)?,
            "displayName" => name = r.maybe(Reader::string)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let media_type = media_type.ok_or_else(|| r.missing("mimeType"))?;
    let data = standard(data.ok_or_else(|| r.missing("data"))?);
    let (class, kind) = media_type.split_once('/').unwrap_or(("", ""));
    Ok(match class {
        "image" => Some(Part::Image {
            source: Source::Base64 { media_type, data },
            detail: None,
            cache: None,
        }),
        "audio" => {
            let format = match kind.split(';').next().unwrap_or_default() {
                "mpeg" | "mp3" => "mp3",
                "wav" | "x-wav" | "wave" => "wav",
                other => other,
            };
            let format = Cow::Owned(format.to_owned());
            Some(Part::Audio { data, format })
        }
        "video" => None,
        _ => Some(Part::File {
            source: Source::Base64 { media_type, data },
            name,
            context: None,
            citations: None,
            cache: None,
        }),
    })
}

/// Reads a file's address; `None` for one that Google's servers alone can open, and for sound and film.
fn file<'b>(r: &mut Reader<'b>) -> Result<Option<Part<'b>>> {
    let (mut media_type, mut uri, mut name) = (None, None, None);
    r.object(|r, key| {
        match &*camel(&key) {
            "mimeType" => media_type = r.maybe(Reader::string)?,
            "fileUri" => uri = r.maybe(Reader::string)?,
            "displayName" => name = r.maybe(Reader::string)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let uri: Str<'b> = uri.ok_or_else(|| r.missing("fileUri"))?;
    let media_type: Str<'b> = media_type.unwrap_or_default();
    let kind = if media_type.is_empty() {
        guess(&uri).unwrap_or_default()
    } else {
        &*media_type
    };
    let is_public = (uri.starts_with("https://") || uri.starts_with("http://"))
        && !uri.starts_with("https://generativelanguage.googleapis.com/");
    if !is_public {
        return Ok(None);
    }
    let source = |uri| Source::Url(uri);
    Ok(if kind.starts_with("image/") {
        Some(Part::Image {
            source: source(uri),
            detail: None,
            cache: None,
        })
    } else if kind.starts_with("text/") || kind.starts_with("application/") {
        Some(Part::File {
            source: source(uri),
            name,
            context: None,
            citations: None,
            cache: None,
        })
    } else {
        None
    })
}

/// Returns the media type and the data of a part that is an image.
pub(in crate::protocol) fn image(raw: &RawValue) -> Option<(Str<'_>, Str<'_>)> {
    match piece(&mut Reader::of(raw.get())).ok()?.what {
        What::Media(Part::Image {
            source: Source::Base64 { media_type, data },
            ..
        }) => Some((media_type, data)),
        What::Text(_)
        | What::Thought(_)
        | What::Call { .. }
        | What::Result { .. }
        | What::Media(_)
        | What::Opaque(_) => None,
    }
}

/// Returns a text part without trimmings.
pub(super) fn plain<'b>(text: impl Into<Prose<'b>>) -> Part<'b> {
    Part::Text {
        text: text.into(),
        cache: None,
        citations: None,
    }
}

/// Returns a part that this protocol alone understands.
pub(super) fn opaque(raw: &RawValue) -> Part<'_> {
    Part::Opaque {
        family: Protocol::Gemini,
        raw,
    }
}

// === Writing ===

/// Appends a text part.
pub(super) fn write_text(text: &Prose<'_>, signature: Option<&str>, out: &mut Vec<u8>) {
    let mut part = Object::open(out);
    part.prose("text", text);
    part.maybe_string("thoughtSignature", signature);
    part.close();
}

/// Appends a thought.
pub(super) fn write_thought(text: &Prose<'_>, signature: Option<&str>, out: &mut Vec<u8>) {
    let mut part = Object::open(out);
    part.prose("text", text);
    part.boolean("thought", true);
    part.maybe_string("thoughtSignature", signature);
    part.close();
}

/// Appends a call. Returns whether its arguments were an object.
pub(super) fn write_call(
    id: &str,
    name: &str,
    arguments: &str,
    signature: Option<&str>,
    out: &mut Vec<u8>,
) -> bool {
    let mut part = Object::open(out);
    let mut call = Object::open(part.key("functionCall"));
    if !id.is_empty() {
        call.string("id", id);
    }
    call.string("name", name);
    let sound = write_arguments(arguments, call.key("args"));
    call.close();
    part.maybe_string("thoughtSignature", signature);
    part.close();
    sound
}

fn write_arguments(arguments: &str, out: &mut Vec<u8>) -> bool {
    let text = arguments.trim_ascii();
    if text.is_empty() {
        out.extend_from_slice(b"{}");
        return true;
    }
    if text.starts_with('{')
        && let Ok(raw) = serde_json::from_str::<&RawValue>(text)
    {
        // On one line, good for a stream too.
        text::raw_line(raw, out);
        return true;
    }
    let mut object = Object::open(out);
    object.string(BROKEN_ARGUMENTS, arguments);
    object.close();
    false
}

/// Appends inline data.
pub(super) fn write_blob(
    media_type: &str,
    data: &str,
    name: Option<&str>,
    signature: Option<&str>,
    out: &mut Vec<u8>,
) {
    let mut part = Object::open(out);
    let mut blob = Object::open(part.key("inlineData"));
    blob.string("mimeType", media_type);
    blob.string("data", data);
    blob.maybe_string("displayName", name);
    blob.close();
    part.maybe_string("thoughtSignature", signature);
    part.close();
}

/// Appends a file's address.
pub(super) fn write_file(uri: &str, otherwise: &str, signature: Option<&str>, out: &mut Vec<u8>) {
    let mut part = Object::open(out);
    let mut file = Object::open(part.key("fileData"));
    file.string("mimeType", guess(uri).unwrap_or(otherwise));
    file.string("fileUri", uri);
    file.close();
    part.maybe_string("thoughtSignature", signature);
    part.close();
}

/// Returns the media type of an audio format.
pub(super) fn audio_type(format: &str) -> Cow<'static, str> {
    match format {
        "mp3" | "mpeg" => Cow::Borrowed("audio/mp3"),
        "pcm16" => Cow::Borrowed("audio/pcm"),
        other => Cow::Owned(format!("audio/{other}")),
    }
}

/// Appends the parts of an answer, as a client of this protocol takes them, with commas between them.
pub(super) fn write_answer(parts: &[Part<'_>], out: &mut Vec<u8>) {
    let start = out.len();
    // Signs the part after it.
    let mut pending: Option<Cow<'_, str>> = None;
    for part in parts {
        let before = out.len();
        text::comma(start, out);
        let bare = out.len();
        match part {
            Part::Text { text, .. } | Part::Refusal { text } => {
                if !text.is_empty() {
                    write_text(text, pending.take().as_deref(), out);
                }
            }
            Part::Reasoning { text, signature } => {
                let marked = signature.as_deref().filter(|marked| !marked.is_empty());
                match marked.map(signature::signed) {
                    Some(signed) if text.is_empty() => {
                        if let Some(lone) = pending.replace(signed) {
                            write_text(&"".into(), Some(&lone), out);
                        }
                    }
                    signed if !text.is_empty() => write_thought(text, signed.as_deref(), out),
                    _ => {}
                }
            }
            Part::RedactedReasoning { data } => {
                write_thought(&"".into(), Some(&signature::redacted(data)), out);
            }
            Part::ToolCall {
                id,
                name,
                arguments,
                ..
            } => {
                write_call(id, name, arguments, pending.take().as_deref(), out);
            }
            Part::Image { source, .. } => match source {
                Source::Base64 { media_type, data } => {
                    write_blob(media_type, data, None, pending.take().as_deref(), out);
                }
                Source::Url(url) => {
                    write_file(url, "image/png", pending.take().as_deref(), out);
                }
                Source::Text(_) | Source::FileId { .. } => {}
            },
            Part::Audio { data, format } => {
                let kind = audio_type(format);
                write_blob(&kind, data, None, pending.take().as_deref(), out);
            }
            Part::File {
                source: Source::Base64 { media_type, data },
                name,
                ..
            } => write_blob(
                media_type,
                data,
                name.as_deref(),
                pending.take().as_deref(),
                out,
            ),
            Part::Opaque {
                family: Protocol::Gemini,
                raw,
            } => text::raw_line(raw, out),
            Part::File { .. } | Part::ToolResult { .. } | Part::Opaque { .. } => {}
        }
        if out.len() == bare {
            out.truncate(before);
        }
    }
    if let Some(lone) = pending {
        text::comma(start, out);
        write_text(&"".into(), Some(&lone), out);
    }
}
