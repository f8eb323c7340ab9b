//! Citations as OpenAI's annotations.
//!
//! Both protocols can say "this text comes from that page": OpenAI as a `url_citation` with character
//! positions in the message, Anthropic as a `web_search_result_location` on a piece of the text.

use serde_json::value::RawValue;

use crate::error::Result;
use crate::protocol::chat::Str;
use crate::protocol::text::{Object, Reader};

/// A page that a text comes from.
#[derive(Debug)]
pub(super) struct Page<'b> {
    pub url: Str<'b>,
    pub title: Str<'b>,
}

/// Reads one of Anthropic's citations; `None` if it is of no page.
pub(super) fn page(citation: &RawValue) -> Option<Page<'_>> {
    read(&mut Reader::of(citation.get())).ok().flatten()
}

fn read<'b>(reader: &mut Reader<'b>) -> Result<Option<Page<'b>>> {
    let web = reader
        .tag("type")
        .is_some_and(|kind| kind == "web_search_result_location");
    let (mut url, mut title) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "url" => url = r.maybe(Reader::string)?,
            "title" => title = r.maybe(Reader::string)?,
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    Ok(url.filter(|_| web).map(|url| Page {
        url,
        title: title.unwrap_or_default(),
    }))
}

/// Calls `each` for every citation of a text.
pub(super) fn each<'b>(list: &'b RawValue, mut each: impl FnMut(&'b RawValue)) {
    // What can't be read is no citation.
    let _ = Reader::of(list.get()).array(|r| {
        each(r.raw()?);
        Ok(())
    });
}

/// Appends an annotation: the characters from `start` to `end` come from `page`.
///
/// In a stream it has an index: OpenAI's SDKs put the entries of a list together by it, and fail without.
pub(super) fn write(page: &Page<'_>, start: u64, end: u64, index: Option<u64>, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    if let Some(index) = index {
        object.integer("index", index);
    }
    object.string("type", "url_citation");
    let mut inner = Object::open(object.key("url_citation"));
    inner.integer("start_index", start);
    inner.integer("end_index", end);
    inner.string("url", &page.url);
    inner.string("title", &page.title);
    inner.close();
    object.close();
}
