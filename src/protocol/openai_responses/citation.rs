//! Annotations of this protocol, and those of OpenAI chat and Anthropic beside them.
//!
//! Responses write a `url_citation` flat; chat writes its fields into an object of that name.

use serde_json::value::RawValue;

use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::Str;
use crate::protocol::text::{self, Object, Reader};

/// A page that a piece of text comes from, counted in characters.
#[derive(Debug, Default)]
pub(super) struct Page<'b> {
    pub url: Str<'b>,
    pub title: Str<'b>,
    pub start: u64,
    pub end: u64,
}

/// Reads an annotation of this protocol or of chat; `None` if it is of no page.
pub(super) fn page(raw: &RawValue) -> Option<Page<'_>> {
    let mut reader = Reader::of(raw.get());
    if reader.tag("type")? != "url_citation" {
        return None;
    }
    let mut page = Page::default();
    // What can't be read is no citation.
    reader
        .object(|r, key| match (&*key, r.peek()) {
            ("url_citation", b'{') => r.object(|r, key| field(&mut page, r, &key)),
            _ => field(&mut page, r, &key),
        })
        .ok()?;
    (!page.url.is_empty()).then_some(page)
}

fn field<'b>(page: &mut Page<'b>, r: &mut Reader<'b>, key: &str) -> Result<()> {
    match (key, r.peek()) {
        ("url", b'"') => page.url = r.string()?,
        ("title", b'"') => page.title = r.string()?,
        ("start_index", b'0'..=b'9') => page.start = count(r)?,
        ("end_index", b'0'..=b'9') => page.end = count(r)?,
        _ => drop(r.raw()?),
    }
    Ok(())
}

/// Reads a position; one that is no integer is 0.
fn count(r: &mut Reader<'_>) -> Result<u64> {
    Ok(r.raw()?.get().parse().unwrap_or_default())
}

/// Reads one of Anthropic's citations; `None` if it is of no page.
pub(super) fn anthropic(raw: &RawValue) -> Option<Page<'_>> {
    let mut reader = Reader::of(raw.get());
    if reader.tag("type")? != "web_search_result_location" {
        return None;
    }
    let mut page = Page::default();
    reader
        .object(|r, key| match (&*key, r.peek()) {
            ("url" | "title", b'"') => field(&mut page, r, &key),
            _ => r.raw().map(drop),
        })
        .ok()?;
    (!page.url.is_empty()).then_some(page)
}

/// Appends an annotation as this protocol writes it.
pub(super) fn write(page: &Page<'_>, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", "url_citation");
    object.integer("start_index", page.start);
    object.integer("end_index", page.end);
    object.string("url", &page.url);
    object.string("title", &page.title);
    object.close();
}

/// Appends an annotation as OpenAI chat writes it, `by` characters further on.
pub(super) fn write_chat(page: &Page<'_>, by: u64, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", "url_citation");
    let mut inner = Object::open(object.key("url_citation"));
    inner.integer("start_index", page.start.saturating_add(by));
    inner.integer("end_index", page.end.saturating_add(by));
    inner.string("url", &page.url);
    inner.string("title", &page.title);
    inner.close();
    object.close();
}

/// Returns this protocol's annotations of one text as OpenAI chat's; `None` where chat has a word for none.
pub(super) fn chat_list(list: &RawValue, by: u64) -> Option<Box<RawValue>> {
    let mut out = vec![b'['];
    each(list, |raw| {
        if let Some(page) = page(raw) {
            text::comma(1, &mut out);
            write_chat(&page, by, &mut out);
        }
    });
    if out.len() == 1 {
        return None;
    }
    out.push(b']');
    raw(out)
}

/// Calls `each` for every citation of a text.
pub(super) fn each<'b>(list: &'b RawValue, mut each: impl FnMut(&'b RawValue)) {
    // What can't be read is no citation.
    let _ = Reader::of(list.get()).array(|r| {
        each(r.raw()?);
        Ok(())
    });
}

/// Appends a citation of `family` as an annotation. Returns whether it could be said.
pub(super) fn write_from(family: Protocol, raw: &RawValue, out: &mut Vec<u8>) -> bool {
    match family {
        Protocol::OpenaiResponses => {
            // Anything but an object with a type is no annotation.
            let known = Reader::of(raw.get()).tag("type").is_some();
            if known {
                text::raw_line(raw, out);
            }
            known
        }
        Protocol::OpenaiChat => match page(raw) {
            Some(page) => {
                write(&page, out);
                true
            }
            None => false,
        },
        Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Gemini
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => false,
    }
}

pub(super) fn raw(json: Vec<u8>) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(json).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_go_to_chat_and_come_back() {
        let own =
            r#"{"type":"url_citation","start_index":2,"end_index":7,"url":"http://a","title":"A"}"#;
        let list: Box<RawValue> = serde_json::from_str(&format!("[{own}]")).unwrap();
        let chat = chat_list(&list, 0).unwrap();
        assert_eq!(
            chat.get(),
            r#"[{"type":"url_citation","url_citation":{"start_index":2,"end_index":7,"url":"http://a","title":"A"}}]"#
        );
        let mut back = Vec::new();
        each(&chat, |raw| {
            assert!(write_from(Protocol::OpenaiChat, raw, &mut back));
        });
        assert_eq!(String::from_utf8(back).unwrap(), own);
    }

    #[test]
    fn a_citation_of_a_file_has_no_word_in_chat() {
        let list: Box<RawValue> =
            serde_json::from_str(r#"[{"type":"file_citation","file_id":"f"}]"#).unwrap();
        assert!(chat_list(&list, 0).is_none());
    }
}
