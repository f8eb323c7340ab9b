//! Parts as both requests and answers write them: text, calls, images and files.

use serde_json::value::RawValue;

use super::extra;
use crate::error::{Error, Result};
use crate::protocol::Protocol;
use crate::protocol::chat::{Prose, Source};
use crate::protocol::text::{self, Object};

pub(super) fn write_text(content: &Prose<'_>, cache: Option<&RawValue>, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", "text");
    object.prose("text", content);
    object.maybe_raw("cache_control", cache);
    object.close();
}

/// Appends a tool call. Clients parse the arguments, so a call without any says `{}`.
pub(super) fn write_call(
    id: &str,
    name: &str,
    arguments: &str,
    cache: Option<&RawValue>,
    signature: Option<&str>,
    out: &mut Vec<u8>,
) {
    let mut object = Object::open(out);
    object.string("id", id);
    object.string("type", "function");
    let mut function = Object::open(object.key("function"));
    function.string("name", name);
    let arguments = if arguments.is_empty() {
        "{}"
    } else {
        arguments
    };
    function.string("arguments", arguments);
    function.close();
    object.maybe_raw("cache_control", cache);
    if let Some(signature) = signature {
        extra::write(signature, &mut object);
    }
    object.close();
}

/// An address, perhaps one that holds the data itself.
pub(super) enum Url<'s> {
    Plain(&'s str),
    Data(&'s str, &'s str),
}

impl Url<'_> {
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Url::Plain(url) => text::string(url, out),
            Url::Data(media_type, data) => {
                out.extend_from_slice(b"\"data:");
                text::escaped(media_type, out);
                out.extend_from_slice(b";base64,");
                text::escaped(data, out);
                out.push(b'"');
            }
        }
    }
}

pub(super) fn url_of<'s>(source: &'s Source<'_>) -> Option<Url<'s>> {
    match source {
        Source::Url(url) => Some(Url::Plain(url)),
        Source::Base64 { media_type, data } => Some(Url::Data(media_type, data)),
        Source::Text(_) | Source::FileId { .. } => None,
    }
}

pub(super) fn write_image(source: &Source<'_>, out: &mut Vec<u8>) {
    if let Some(url) = url_of(source) {
        out.extend_from_slice(b"{\"type\":\"image_url\",\"image_url\":{\"url\":");
        url.write(out);
        out.extend_from_slice(b"}}");
    }
}

/// Appends a document.
pub(super) fn file(
    source: &Source<'_>,
    name: Option<&str>,
    context: Option<&str>,
    cache: Option<&RawValue>,
    ours: bool,
    path: impl Fn() -> String,
    out: &mut Vec<u8>,
) -> Result<()> {
    if let Source::Text(words) = source {
        write_text(&titled(name, context, words).into(), cache, out);
        return Ok(());
    }
    if let Some(context) = context {
        write_text(&context.into(), None, out);
        out.push(b',');
    }
    let mut object = Object::open(out);
    object.string("type", "file");
    let mut inner = Object::open(object.key("file"));
    match source {
        Source::Base64 { media_type, .. } => {
            let name = match name {
                None if !ours => Some(match &**media_type {
                    "application/pdf" => "document.pdf",
                    _ => "document",
                }),
                name => name,
            };
            inner.maybe_string("filename", name);
        }
        Source::Url(_) | Source::Text(_) | Source::FileId { .. } => {
            inner.maybe_string("filename", name);
        }
    }
    match source {
        Source::FileId {
            family: Protocol::OpenaiChat,
            id,
        } => inner.string("file_id", id),
        Source::Url(url) if ours => inner.string("file_data", url),
        Source::Base64 { media_type, data } => {
            Url::Data(media_type, data).write(inner.key("file_data"));
        }
        Source::Url(_) | Source::Text(_) => {
            return Err(Error::unsupported(
                path(),
                "a document by URL can't be said to the provider of the model; send its content",
            ));
        }
        Source::FileId { .. } => {
            return Err(Error::unsupported(
                path(),
                "a file uploaded to another provider can't be read by the provider of the model",
            ));
        }
    }
    inner.close();
    object.maybe_raw("cache_control", cache);
    object.close();
    Ok(())
}

/// Returns a document's text with its title and context above it.
pub(super) fn titled(name: Option<&str>, context: Option<&str>, text: &str) -> String {
    let mut all = String::new();
    for line in [name, context].into_iter().flatten() {
        all.push_str(line);
        all.push_str("\n\n");
    }
    all.push_str(text);
    all
}
