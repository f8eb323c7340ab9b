//! Citations between OpenAI's annotations and Anthropic's.
//!
//! Both can say "this piece of text comes from that page": OpenAI as a `url_citation` with character positions,
//! Anthropic as a `web_search_result_location` with the cited text.

use serde_json::value::RawValue;

use super::content;
use crate::error::Result;
use crate::protocol::chat::{Prose, Str};
use crate::protocol::text::Object;
use crate::protocol::text::Reader;

#[derive(Debug, Default)]
struct UrlCitation<'b> {
    url: Option<Str<'b>>,
    title: Option<Str<'b>>,
    start: usize,
    end: usize,
}

/// Appends a text block with OpenAI's `annotations` as its citations.
pub(super) fn write_text_from_openai(text: &Prose<'_>, annotations: &RawValue, out: &mut Vec<u8>) {
    let mut cited = Vec::new();
    let read = Reader::of(annotations.get()).array(|r| {
        cited.extend(url_citation(r)?);
        Ok(())
    });
    if read.is_err() || cited.is_empty() {
        return content::write_text(text, None, None, out);
    }
    // Byte offsets of all characters, counted once: annotations may be many, and text long.
    let mut offsets: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    offsets.push(text.len());
    content::write_text(text, None, None, out);
    out.pop();
    out.extend_from_slice(b",\"citations\":[");
    for (index, citation) in cited.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let range = offsets.get(citation.start).zip(offsets.get(citation.end));
        let quoted = range
            .and_then(|(start, end)| text.get(*start..*end))
            .unwrap_or_default();
        write(citation, quoted, out);
    }
    out.extend_from_slice(b"]}");
}

/// Appends one of OpenAI's annotations as a citation. Returns whether it could be said.
pub(super) fn write_from_openai(annotation: &RawValue, out: &mut Vec<u8>) -> bool {
    match url_citation(&mut Reader::of(annotation.get())) {
        Ok(Some(citation)) => {
            write(&citation, "", out);
            true
        }
        Ok(None) | Err(_) => false,
    }
}

fn write(citation: &UrlCitation<'_>, quoted: &str, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", "web_search_result_location");
    object.string("cited_text", quoted);
    object.string("url", citation.url.as_deref().unwrap_or_default());
    object.string("title", citation.title.as_deref().unwrap_or_default());
    // Only Anthropic's own search has one.
    object.string("encrypted_index", "");
    object.close();
}

fn url_citation<'b>(reader: &mut Reader<'b>) -> Result<Option<UrlCitation<'b>>> {
    let mut found = None;
    reader.object(|r, key| {
        match &*key {
            "url_citation" => found = r.maybe(fields)?,
            _ => r.raw().map(drop)?,
        }
        Ok(())
    })?;
    Ok(found.filter(|citation| citation.url.is_some()))
}

fn fields<'b>(reader: &mut Reader<'b>) -> Result<UrlCitation<'b>> {
    let mut citation = UrlCitation::default();
    reader.object(|r, key| {
        match &*key {
            "url" => citation.url = r.maybe(Reader::string)?,
            "title" => citation.title = r.maybe(Reader::string)?,
            "start_index" => citation.start = r.maybe(Reader::integer)?.unwrap_or(0) as usize,
            "end_index" => citation.end = r.maybe(Reader::integer)?.unwrap_or(0) as usize,
            _ => r.raw().map(drop)?,
        }
        Ok(())
    })?;
    Ok(citation)
}
