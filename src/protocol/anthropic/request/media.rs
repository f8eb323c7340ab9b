//! Images and documents out of the hub.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::content;
use crate::error::{Error, Result};
use crate::protocol::Protocol;
use crate::protocol::chat::Source;
use crate::protocol::text::{self, Object};

/// Appends an image block.
pub(super) fn write_image(
    source: &Source<'_>,
    cache: Option<&RawValue>,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.extend_from_slice(b"{\"type\":\"image\",\"source\":");
    match source {
        Source::Url(url) => write_pair("url", "url", url, out),
        Source::Base64 { media_type, data } => write_base64(media_type, data, out),
        Source::FileId {
            family: Protocol::Anthropic,
            id,
        } => write_pair("file", "file_id", id, out),
        Source::FileId { .. } => return Err(foreign_file()),
        Source::Text(_) => {
            return Err(Error::unsupported(
                "messages.content.image_url",
                "An image can't be text",
            ));
        }
    }
    content::write_cache(cache, out);
    out.push(b'}');
    Ok(())
}

/// What a document has beside its source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label<'r> {
    pub name: Option<&'r str>,
    pub context: Option<&'r str>,
    pub citations: Option<&'r RawValue>,
    pub cache: Option<&'r RawValue>,
}

/// Appends a document block; an image given as a file becomes an image block.
///
/// Anthropic takes PDF as base64 and plain text as text; other kinds of text are sent as plain text.
pub(super) fn write_document(
    source: &Source<'_>,
    label: Label<'_>,
    out: &mut Vec<u8>,
) -> Result<()> {
    if let Source::Base64 { media_type, .. } = source
        && media_type.starts_with("image/")
    {
        return write_image(source, label.cache, out);
    }
    out.extend_from_slice(b"{\"type\":\"document\",\"source\":");
    match source {
        Source::Url(url) => write_pair("url", "url", url, out),
        Source::Text(text) => write_plain(text, out),
        Source::FileId {
            family: Protocol::Anthropic,
            id,
        } => write_pair("file", "file_id", id, out),
        Source::FileId { .. } => return Err(foreign_file()),
        Source::Base64 { media_type, data } if essence(media_type) == "application/pdf" => {
            write_base64("application/pdf", data, out);
        }
        Source::Base64 { media_type, data } if is_text(essence(media_type)) => {
            write_plain(&text_of(data)?, out);
        }
        Source::Base64 { media_type, .. } => {
            return Err(Error::unsupported(
                "messages.content.file",
                format!(
                    "Anthropic models take PDF, text and images, not {}",
                    essence(media_type)
                ),
            ));
        }
    }
    if let Some(name) = label.name {
        out.extend_from_slice(b",\"title\":");
        text::string(name, out);
    }
    if let Some(context) = label.context {
        out.extend_from_slice(b",\"context\":");
        text::string(context, out);
    }
    if let Some(citations) = label.citations {
        out.extend_from_slice(b",\"citations\":");
        out.extend_from_slice(citations.get().as_bytes());
    }
    content::write_cache(label.cache, out);
    out.push(b'}');
    Ok(())
}

fn foreign_file() -> Error {
    Error::unsupported(
        "messages.content.file.file_id",
        "A file that was uploaded to another provider can't be read by an Anthropic model",
    )
}

fn write_pair(kind: &str, key: &str, value: &str, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", kind);
    object.string(key, value);
    object.close();
}

fn write_base64(media_type: &str, data: &str, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", "base64");
    object.string("media_type", media_type);
    object.string("data", data);
    object.close();
}

fn write_plain(text: &str, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", "text");
    object.string("media_type", "text/plain");
    object.string("data", text);
    object.close();
}

/// Returns the media type without parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

fn is_text(essence: &str) -> bool {
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            essence,
            "application/json"
                | "application/xml"
                | "application/yaml"
                | "application/x-yaml"
                | "application/javascript"
                | "application/x-ndjson"
                | "application/toml"
        )
}

fn text_of(data: &str) -> Result<Cow<'static, str>> {
    base64(data)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(Cow::Owned)
        .ok_or_else(|| {
            Error::field(
                "messages.content.file.file_data",
                "A text file should be base64 of valid UTF-8",
            )
        })
}

/// Decodes base64, in either alphabet, padded or not, with line breaks or without.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut held, mut bits, mut padding) = (0u32, 0u32, 0usize);
    for symbol in text.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'\n' | b'\r' => continue,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    // Six bits left over are half a byte: something is missing.
    (bits < 6 && padding <= 2).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded_in_all_its_spellings() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("aGk=", Some(b"hi")),
            ("aGk", Some(b"hi")),
            ("aG\nk=", Some(b"hi")),
            ("-_-_", Some(&[0xfb, 0xff, 0xbf])),
            ("+/+/", Some(&[0xfb, 0xff, 0xbf])),
            ("a", None),
            ("aG!k", None),
            ("aG=k", None),
        ] {
            assert_eq!(base64(text).as_deref(), bytes, "{text:?}");
        }
    }
}
