//! Images, documents, sound and films, as the blocks that Bedrock has for them.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::media;
use super::messages::Writer;
use super::style::Style;
use crate::codec::base64;
use crate::error::{Error, Result};
use crate::protocol::Protocol;
use crate::protocol::chat::Source;
use crate::protocol::text::{self, Object};

impl Writer<'_, '_> {
    pub(super) fn image(&mut self, source: &Source<'_>, out: &mut Vec<u8>) -> Result<()> {
        match source {
            Source::Base64 { media_type, data } => {
                let Some(format) = media::image_format(media_type) else {
                    return Err(Error::unsupported(
                        image_field(self.family),
                        format!("Bedrock takes PNG, JPEG, GIF and WebP, not {media_type}"),
                    ));
                };
                write_medium("image", format, "bytes", data, out);
                Ok(())
            }
            Source::Url(url) => {
                let Some((format, uri)) = stored(url, |ending| {
                    media::image_format(&format!("image/{ending}"))
                }) else {
                    return Err(Error::unsupported(
                        image_field(self.family),
                        "Bedrock does not fetch images: send the bytes as a data URL",
                    ));
                };
                write_stored("image", format, None, uri, out);
                Ok(())
            }
            Source::FileId { .. } => Err(foreign_file()),
            Source::Text(_) => Err(Error::unsupported(
                image_field(self.family),
                "An image can't be text",
            )),
        }
    }

    /// Appends a document; an image, sound or a film that was given as a file becomes what it is.
    pub(super) fn file(
        &mut self,
        source: &Source<'_>,
        label: Label<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let (format, bytes): (_, Cow<'_, str>) = match source {
            Source::Base64 { media_type, data } => {
                if media::image_format(media_type).is_some() {
                    return self.image(source, out);
                }
                if let Some(format) = media::video_format(media_type) {
                    write_medium("video", format, "bytes", data, out);
                    return Ok(());
                }
                if media_type.starts_with("audio/")
                    && let Some(format) = media::sound_format(media_type)
                {
                    write_medium("audio", format, "bytes", data, out);
                    return Ok(());
                }
                let Some(format) = media::document_format(media_type) else {
                    return Err(Error::unsupported(
                        file_field(self.family),
                        format!("Bedrock takes no documents of the type {media_type}"),
                    ));
                };
                (format, Cow::Borrowed(data.as_ref()))
            }
            Source::Text(text) => {
                let mut coded = Vec::new();
                base64::encode(text.as_bytes(), &mut coded);
                let coded = String::from_utf8(coded).unwrap_or_default();
                ("txt", Cow::Owned(coded))
            }
            Source::Url(url) => {
                let known = |ending: &str| {
                    let media_type = media::document_type(ending)?;
                    media::document_format(media_type)
                };
                let Some((format, uri)) = stored(url, known) else {
                    return Err(Error::unsupported(
                        file_field(self.family),
                        "Bedrock does not fetch documents: send their bytes",
                    ));
                };
                let name = media::document_name(label.name, &mut self.names);
                write_stored("document", format, Some(&name), uri, out);
                return Ok(());
            }
            Source::FileId { .. } => return Err(foreign_file()),
        };
        out.extend_from_slice(b"{\"document\":");
        let mut object = Object::open(out);
        object.string("format", format);
        object.string("name", &media::document_name(label.name, &mut self.names));
        let source = object.key("source");
        source.extend_from_slice(b"{\"bytes\":");
        text::string(&bytes, source);
        source.push(b'}');
        object.maybe_string("context", label.context);
        if let Some(citations) = label.citations {
            // Anthropic and Bedrock say it alike; nobody else does.
            let knows = matches!(self.family, Protocol::Anthropic | Protocol::Bedrock);
            if knows && matches!(self.plan.style, Style::Claude | Style::Other) {
                object.raw("citations", citations);
            } else {
                self.notes.add("messages.content.citations");
            }
        }
        object.close();
        out.push(b'}');
        Ok(())
    }
}

/// What a document has beside its source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label<'r> {
    pub name: Option<&'r str>,
    pub context: Option<&'r str>,
    pub citations: Option<&'r RawValue>,
}

fn image_field(family: Protocol) -> &'static str {
    match family {
        Protocol::OpenaiChat => "messages.content.image_url",
        Protocol::OpenaiResponses => "input.content.image_url",
        Protocol::Anthropic => "messages.content.source",
        Protocol::Gemini => "contents.parts.fileData",
        Protocol::Bedrock | Protocol::OpenaiCompletions | Protocol::Cohere | Protocol::Ollama => {
            "messages.content.image"
        }
    }
}

fn file_field(family: Protocol) -> &'static str {
    match family {
        Protocol::OpenaiChat => "messages.content.file",
        Protocol::OpenaiResponses => "input.content.file_url",
        Protocol::Anthropic => "messages.content.source",
        Protocol::Gemini => "contents.parts.fileData",
        Protocol::Bedrock | Protocol::OpenaiCompletions | Protocol::Cohere | Protocol::Ollama => {
            "messages.content.document"
        }
    }
}

fn foreign_file() -> Error {
    Error::unsupported(
        "messages.content.file.file_id",
        "A file that was uploaded to another provider can't be read by a model of Bedrock",
    )
}

/// Returns the format and the address of something in S3, the one place that Bedrock fetches from.
fn stored(url: &str, known: impl Fn(&str) -> Option<&'static str>) -> Option<(&'static str, &str)> {
    let path = url.strip_prefix("s3://")?;
    let (_, ending) = path.rsplit_once('.')?;
    Some((known(&ending.to_ascii_lowercase())?, url))
}

fn write_stored(kind: &str, format: &str, name: Option<&str>, uri: &str, out: &mut Vec<u8>) {
    let mut outer = Object::open(out);
    let mut object = Object::open(outer.key(kind));
    object.string("format", format);
    object.maybe_string("name", name);
    let source = object.key("source");
    source.extend_from_slice(b"{\"s3Location\":{\"uri\":");
    text::string(uri, source);
    source.extend_from_slice(b"}}");
    object.close();
    outer.close();
}

pub(super) fn write_medium(kind: &str, format: &str, key: &str, data: &str, out: &mut Vec<u8>) {
    let mut outer = Object::open(out);
    let mut object = Object::open(outer.key(kind));
    object.string("format", format);
    let mut source = Object::open(object.key("source"));
    source.string(key, data);
    source.close();
    object.close();
    outer.close();
}
