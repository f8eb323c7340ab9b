//! Images, documents and sound in messages and in the results of tools.

use std::borrow::Cow;

use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Part, Source, Str};
use crate::protocol::text::{self, Reader};

/// Reads an `input_image`.
pub(super) fn image<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut url, mut id, mut detail) = (None, None, None);
    r.object(|r, key| {
        match &*key {
            "type" => drop(r.raw()?),
            "image_url" => url = r.maybe(Reader::string)?,
            "file_id" => id = r.maybe(Reader::string)?,
            "detail" => detail = r.maybe(Reader::string)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let source = match (url, id) {
        (Some(url), _) => source(url),
        (None, Some(id)) => uploaded(id),
        (None, None) => return Err(r.missing("image_url")),
    };
    Ok(Part::Image {
        source,
        detail,
        cache: None,
    })
}

/// Reads an `input_file`.
pub(super) fn file<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut data, mut url, mut id, mut name) = (None, None, None, None::<Str<'b>>);
    r.object(|r, key| {
        match &*key {
            "type" => drop(r.raw()?),
            "file_data" => data = r.maybe(Reader::string)?,
            "file_url" => url = r.maybe(Reader::string)?,
            "file_id" => id = r.maybe(Reader::string)?,
            "filename" => name = r.maybe(Reader::string)?,
            // How finely its pages are looked at.
            "detail" => drop(r.raw()?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let source = match (data, url, id) {
        // Bare base64, as some clients send it.
        (Some(data), _, _) if !data.contains(':') => Source::Base64 {
            media_type: Cow::Borrowed(media_type(name.as_deref().unwrap_or_default())),
            data,
        },
        (Some(data), _, _) => source(data),
        (None, Some(url), _) => Source::Url(url),
        (None, None, Some(id)) => uploaded(id),
        (None, None, None) => return Err(r.missing("file_data")),
    };
    Ok(Part::File {
        source,
        name,
        context: None,
        citations: None,
        cache: None,
    })
}

/// Reads an `input_audio`.
pub(super) fn audio<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut data, mut format) = (None, None);
    let mut fields = |r: &mut Reader<'b>, key: &str| {
        match key {
            "data" => data = Some(r.string()?),
            "format" => format = Some(r.string()?),
            "type" => drop(r.raw()?),
            _ => r.stranger()?,
        }
        Ok(())
    };
    r.object(|r, key| match (&*key, r.peek()) {
        ("input_audio", b'{') => r.object(|r, key| fields(r, &key)),
        (key, _) => fields(r, key),
    })?;
    Ok(Part::Audio {
        data: data.ok_or_else(|| r.missing("input_audio.data"))?,
        format: format.ok_or_else(|| r.missing("input_audio.format"))?,
    })
}

fn uploaded(id: Str<'_>) -> Source<'_> {
    Source::FileId {
        family: Protocol::OpenaiResponses,
        id,
    }
}

/// Returns the type of a document by its name.
fn media_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    match ending.to_ascii_lowercase().as_str() {
        "txt" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "json" => "application/json",
        _ => "application/pdf",
    }
}

/// Takes a `data:` URL apart; any other is kept.
fn source(url: Str<'_>) -> Source<'_> {
    const MARK: &str = ";base64,";
    let Some(rest) = url.strip_prefix("data:") else {
        return Source::Url(url);
    };
    // The head is short; the rest may be megabytes.
    let head = rest.as_bytes();
    let head = &head[..head.len().min(256)];
    let Some(at) = memchr::memmem::find(head, MARK.as_bytes()) else {
        return Source::Url(url);
    };
    let from = "data:".len();
    let (end, start) = (from + at, from + at + MARK.len());
    let (media_type, data) = match &url {
        Cow::Borrowed(url) => (Cow::Borrowed(&url[from..end]), Cow::Borrowed(&url[start..])),
        Cow::Owned(url) => (
            Cow::Owned(url[from..end].to_owned()),
            Cow::Owned(url[start..].to_owned()),
        ),
    };
    // Parameters (`;charset=…`) are no part of the type.
    let media_type = match media_type.find(';') {
        Some(end) => Cow::Owned(media_type[..end].to_owned()),
        None => media_type,
    };
    Source::Base64 { media_type, data }
}

/// Appends an address, or the data itself as one. Returns whether the source has one.
pub(super) fn write_url(source: &Source<'_>, out: &mut Vec<u8>) -> bool {
    match source {
        Source::Url(url) => text::string(url, out),
        Source::Base64 { media_type, data } => {
            out.extend_from_slice(b"\"data:");
            text::escaped(media_type, out);
            out.extend_from_slice(b";base64,");
            text::escaped(data, out);
            out.push(b'"');
        }
        Source::Text(_) | Source::FileId { .. } => return false,
    }
    true
}
