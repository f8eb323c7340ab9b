//! `groundingMetadata`: what an answer was found in, as OpenAI's annotations and back.
//!
//! Google counts positions in bytes of UTF-8, OpenAI in characters.

use serde_json::value::RawValue;

use super::words::camel;
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::Str;
use crate::protocol::text::{Object, Reader, comma};
use crate::protocol::usage::Usage;

/// How many pages and how many passages are told of one answer.
const MANY: usize = 4_096;

/// A web page that an answer was found in.
#[derive(Debug, Default, Clone)]
struct Page<'b> {
    url: Str<'b>,
    title: Str<'b>,
}

/// A passage, in bytes, and the numbers of its pages.
#[derive(Debug, Default)]
struct Passage {
    start: usize,
    end: usize,
    pages: Vec<usize>,
}

/// What was looked up for an answer.
#[derive(Debug, Default)]
pub(super) struct Grounding<'b> {
    pages: Vec<Page<'b>>,
    passages: Vec<Passage>,
    /// Searches of the web.
    pub queries: u64,
    /// Places on the map were found.
    pub maps: bool,
}

impl<'b> Grounding<'b> {
    /// Reads as much as can be read.
    pub fn read(raw: &'b RawValue) -> Self {
        let mut grounding = Self::default();
        let _ = grounding.object(&mut Reader::of(raw.get()));
        grounding
    }

    fn object(&mut self, r: &mut Reader<'b>) -> Result<()> {
        r.object(|r, key| match (&*camel(&key), r.peek()) {
            ("webSearchQueries", b'[') => r.array(|r| {
                self.queries += 1;
                r.raw().map(drop)
            }),
            ("groundingChunks", b'[') => r.array(|r| {
                let page = chunk(r, &mut self.maps)?;
                if self.pages.len() < MANY {
                    self.pages.push(page);
                }
                Ok(())
            }),
            ("groundingSupports", b'[') => r.array(|r| {
                let passage = support(r)?;
                if self.passages.len() < MANY {
                    self.passages.push(passage);
                }
                Ok(())
            }),
            _ => r.raw().map(drop),
        })
    }

    /// Returns whether Google's fee for the search covers the tokens of its tools.
    pub fn is_billed(&self) -> bool {
        self.queries > 0 || self.maps
    }

    /// Adds what is billed by the search.
    pub fn bill(&self, usage: &mut Usage) {
        usage.searches = usage.searches.max(self.queries);
        usage.maps_searches = usage.maps_searches.max(u64::from(self.maps));
    }

    /// Calls `each` with one of OpenAI's annotations for each passage and page. `text` is the whole answer; the
    /// annotated text begins at `from` in it.
    pub fn annotations(&self, text: &str, from: usize, each: &mut dyn FnMut(&RawValue)) {
        let counted = Counted::new(text);
        let base = counted.chars(from);
        let mut told = 0;
        for passage in &self.passages {
            let start = counted.chars(passage.start).saturating_sub(base);
            let end = counted.chars(passage.end).saturating_sub(base);
            for page in passage.pages.iter().filter_map(|at| self.pages.get(*at)) {
                if page.url.is_empty() || told >= MANY {
                    continue;
                }
                told += 1;
                annotate(page, start, end, each);
            }
        }
        if self.passages.is_empty() {
            for page in self.pages.iter().filter(|page| !page.url.is_empty()) {
                annotate(page, 0, 0, each);
            }
        }
    }

    /// Returns the annotations as a list; `None` of none.
    pub fn list(&self, text: &str, from: usize) -> Option<Box<RawValue>> {
        let mut out = vec![b'['];
        self.annotations(text, from, &mut |raw| {
            comma(1, &mut out);
            out.extend_from_slice(raw.get().as_bytes());
        });
        out.push(b']');
        if out.len() == 2 {
            return None;
        }
        RawValue::from_string(String::from_utf8(out).ok()?).ok()
    }
}

fn annotate(page: &Page<'_>, start: usize, end: usize, each: &mut dyn FnMut(&RawValue)) {
    let mut out = Vec::new();
    let mut object = Object::open(&mut out);
    object.string("type", "url_citation");
    let mut inner = Object::open(object.key("url_citation"));
    inner.integer("start_index", start as u64);
    inner.integer("end_index", end as u64);
    inner.string("url", &page.url);
    inner.string("title", &page.title);
    inner.close();
    object.close();
    let raw = String::from_utf8(out)
        .ok()
        .and_then(|text| RawValue::from_string(text).ok());
    if let Some(raw) = raw {
        each(&raw);
    }
}

fn chunk<'b>(r: &mut Reader<'b>, maps: &mut bool) -> Result<Page<'b>> {
    let mut page = Page::default();
    r.object(|r, key| match (&*key, r.peek()) {
        ("web" | "retrievedContext", b'{') => r.object(|r, key| {
            match (&*key, r.peek()) {
                ("uri", b'"') => page.url = r.string()?,
                ("title", b'"') => page.title = r.string()?,
                _ => drop(r.raw()?),
            }
            Ok(())
        }),
        ("maps", b'{') => {
            *maps = true;
            r.raw().map(drop)
        }
        _ => r.raw().map(drop),
    })?;
    Ok(page)
}

fn support(r: &mut Reader<'_>) -> Result<Passage> {
    let mut passage = Passage::default();
    r.object(|r, key| match (&*camel(&key), r.peek()) {
        ("segment", b'{') => r.object(|r, key| {
            match (&*camel(&key), r.peek()) {
                ("startIndex", b'0'..=b'9') => passage.start = r.integer()? as usize,
                ("endIndex", b'0'..=b'9') => passage.end = r.integer()? as usize,
                _ => drop(r.raw()?),
            }
            Ok(())
        }),
        ("groundingChunkIndices", b'[') => r.array(|r| {
            match r.peek() {
                b'0'..=b'9' => passage.pages.push(r.integer()? as usize),
                _ => drop(r.raw()?),
            }
            Ok(())
        }),
        _ => r.raw().map(drop),
    })?;
    Ok(passage)
}

/// Counts characters up to a byte, for many bytes of one text.
struct Counted<'t> {
    text: &'t str,
    /// Characters before each [`STEP`]th byte.
    marks: Vec<usize>,
}

const STEP: usize = 512;

impl<'t> Counted<'t> {
    fn new(text: &'t str) -> Self {
        let mut marks = Vec::with_capacity(text.len() / STEP + 1);
        let mut chars = 0;
        for piece in text.as_bytes().chunks(STEP) {
            marks.push(chars);
            chars += starts(piece);
        }
        marks.push(chars);
        Self { text, marks }
    }

    fn chars(&self, byte: usize) -> usize {
        let byte = byte.min(self.text.len());
        let mark = byte / STEP;
        let before = self.marks.get(mark).copied().unwrap_or(0);
        before + starts(&self.text.as_bytes()[mark * STEP..byte])
    }
}

/// Returns how many characters begin in a piece.
fn starts(piece: &[u8]) -> usize {
    piece.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// Collects the citations of another family's answer, to be told as `groundingMetadata`.
#[derive(Debug, Default)]
pub(super) struct Cited {
    pages: Vec<(String, String)>,
    /// Byte positions in the answer's text, and the page.
    passages: Vec<(usize, usize, usize)>,
}

impl Cited {
    /// Adds one citation; `place` returns the bytes of the answer that it is of, from the positions that it tells.
    pub fn add(&mut self, raw: &RawValue, place: impl Fn(u32, u32) -> (usize, usize)) {
        if self.pages.len() >= MANY || self.passages.len() >= MANY {
            return;
        }
        let Some(found) = Found::read(raw) else {
            return;
        };
        let page = self
            .pages
            .iter()
            .position(|(url, _)| *url == found.url)
            .unwrap_or(self.pages.len());
        if page == self.pages.len() {
            self.pages
                .push((found.url.into_owned(), found.title.into_owned()));
        }
        let (start, end) = place(found.start, found.end);
        if start < end {
            self.passages.push((start, end, page));
        }
    }

    /// Adds a list of citations of `text`, whose first byte is at `from` in the whole answer.
    pub fn add_list(&mut self, family: Protocol, list: &RawValue, text: &str, from: usize) {
        let counts = family == Protocol::OpenaiChat;
        // Where each character begins, found once: citations may be many, and text long.
        let mut offsets: Vec<usize> = Vec::new();
        if counts {
            offsets.extend(text.char_indices().map(|(at, _)| from + at));
        }
        let end = from + text.len();
        let at = |chars: u32| offsets.get(chars as usize).copied().unwrap_or(end);
        // What can't be read is no citation.
        let _ = Reader::of(list.get()).array(|r| {
            self.add(r.raw()?, |first, last| {
                if counts {
                    (at(first), at(last))
                } else {
                    (from, end)
                }
            });
            Ok(())
        });
    }

    /// Appends `groundingMetadata`, where anything was cited.
    pub fn write(&self, candidate: &mut Object<'_>) {
        if self.pages.is_empty() {
            return;
        }
        let mut metadata = Object::open(candidate.key("groundingMetadata"));
        let chunks = metadata.key("groundingChunks");
        chunks.push(b'[');
        let first = chunks.len();
        for (url, title) in &self.pages {
            comma(first, chunks);
            let mut chunk = Object::open(chunks);
            let mut web = Object::open(chunk.key("web"));
            web.string("uri", url);
            web.string("title", title);
            web.close();
            chunk.close();
        }
        chunks.push(b']');
        if !self.passages.is_empty() {
            let supports = metadata.key("groundingSupports");
            supports.push(b'[');
            let first = supports.len();
            for (start, end, page) in &self.passages {
                comma(first, supports);
                let mut support = Object::open(supports);
                let mut segment = Object::open(support.key("segment"));
                segment.integer("startIndex", *start as u64);
                segment.integer("endIndex", *end as u64);
                segment.close();
                let pages = support.key("groundingChunkIndices");
                pages.push(b'[');
                crate::protocol::text::integer(*page as u64, pages);
                pages.push(b']');
                support.close();
            }
            supports.push(b']');
        }
        metadata.close();
    }
}

/// A citation of OpenAI's or Anthropic's that names a page.
#[derive(Debug, Default)]
struct Found<'b> {
    url: Str<'b>,
    title: Str<'b>,
    start: u32,
    end: u32,
}

impl<'b> Found<'b> {
    fn read(raw: &'b RawValue) -> Option<Self> {
        let mut found = Self::default();
        Reader::of(raw.get())
            .object(|r, key| match (&*key, r.peek()) {
                ("url_citation", b'{') => r.object(|r, key| found.field(r, &key)),
                (key, _) => found.field(r, key),
            })
            .ok()?;
        (!found.url.is_empty()).then_some(found)
    }

    fn field(&mut self, r: &mut Reader<'b>, key: &str) -> Result<()> {
        match (key, r.peek()) {
            ("url", b'"') => self.url = r.string()?,
            ("title", b'"') => self.title = r.string()?,
            ("start_index", b'0'..=b'9') => self.start = r.integer()?,
            ("end_index", b'0'..=b'9') => self.end = r.integer()?,
            _ => drop(r.raw()?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_characters() {
        let text = "ü".repeat(700) + "abc";
        let counted = Counted::new(&text);
        assert_eq!(counted.chars(0), 0);
        assert_eq!(counted.chars(2), 1);
        assert_eq!(counted.chars(1400), 700);
        assert_eq!(counted.chars(1403), 703);
        assert_eq!(counted.chars(usize::MAX), 703);
        assert_eq!(Counted::new("").chars(7), 0);
        let even = "x".repeat(STEP);
        assert_eq!(Counted::new(&even).chars(STEP), STEP);
    }

    #[test]
    fn grounding_becomes_annotations() {
        let raw: &RawValue = serde_json::from_str(
            r#"{"webSearchQueries":["q"],"groundingChunks":[{"web":{"uri":"https://a.test","title":"A"}},{"maps":{}}],
            "groundingSupports":[{"segment":{"startIndex":2,"endIndex":5,"text":"abc"},"groundingChunkIndices":[0,1,9]}]}"#,
        )
        .unwrap();
        let grounding = Grounding::read(raw);
        assert_eq!((grounding.queries, grounding.maps), (1, true));
        assert_eq!(
            grounding.list("üabc", 0).unwrap().get(),
            r#"[{"type":"url_citation","url_citation":{"start_index":1,"end_index":4,"url":"https://a.test","title":"A"}}]"#
        );
    }
}
