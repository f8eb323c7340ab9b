//! Images, sounds, documents and videos: the parts of a conversation.

use std::ops::Range;

use memchr::memmem;

use super::{Need, Set, text};
use crate::codec::json::{self, JsonError, Scanner};
use crate::protocol::Protocol;

/// A tool's result, or a document, may hold parts; what is nested deeper than this is nobody's.
const MOST_NESTED: usize = 4;

const MEDIA: [Need; 4] = [Need::Images, Need::Audio, Need::Pdf, Need::Video];

/// Adds what `conversation` (checked JSON) holds of `wanted`.
pub fn look(conversation: &[u8], protocol: Protocol, wanted: Set, found: &mut Set) {
    if !wanted.has_any(&MEDIA) || conversation.first() != Some(&b'[') {
        return;
    }
    // Inside a string the quotes would be escaped: no text can hold these.
    let has = |word: &&[u8]| memmem::find(conversation, word).is_some();
    let mut likely = MEDIA.into_iter().filter(|need| wanted.has(*need));
    if !likely.any(|need| words(protocol, need).iter().any(has)) {
        return;
    }
    let mut walk = Walk {
        body: conversation,
        protocol,
        found: Set::default(),
    };
    let mut scanner = Scanner::new(conversation, usize::MAX);
    // It was checked when it came; what can't be read is the provider's to refuse.
    let _ = scanner.array(|scanner| walk.turn(scanner));
    MEDIA
        .into_iter()
        .filter(|need| wanted.has(*need) && walk.found.has(*need))
        .for_each(|need| found.insert(need));
}

/// Returns the bytes of which one stands in every conversation of `protocol` that needs `need`.
fn words(protocol: Protocol, need: Need) -> &'static [&'static [u8]] {
    match (protocol, need) {
        (Protocol::OpenaiChat | Protocol::Cohere, Need::Images) => &[b"\"image_url\""],
        (Protocol::OpenaiChat, Need::Audio) => &[b"\"input_audio\""],
        (Protocol::OpenaiChat, Need::Pdf) => &[b"\"file\""],
        (Protocol::OpenaiChat, Need::Video) => &[b"\"video_url\"", b"\"input_video\""],
        (Protocol::OpenaiResponses, Need::Images) => {
            &[b"\"input_image\"", b"\"computer_screenshot\""]
        }
        (Protocol::OpenaiResponses, Need::Audio) => &[b"\"input_audio\""],
        (Protocol::OpenaiResponses, Need::Pdf) => &[b"\"input_file\""],
        (Protocol::Anthropic, Need::Images) => &[b"\"image\""],
        (Protocol::Anthropic, Need::Pdf) => &[b"\"document\""],
        (Protocol::Gemini, _) => &[
            b"\"inlineData\"",
            b"\"inline_data\"",
            b"\"fileData\"",
            b"\"file_data\"",
        ],
        (Protocol::Bedrock, Need::Images) => &[b"\"image\""],
        (Protocol::Bedrock, Need::Audio) => &[b"\"audio\""],
        (Protocol::Bedrock, Need::Pdf) => &[b"\"document\""],
        (Protocol::Bedrock, Need::Video) => &[b"\"video\""],
        (Protocol::Ollama, Need::Images) => &[b"\"images\""],
        (_, _) => &[],
    }
}

struct Walk<'b> {
    body: &'b [u8],
    protocol: Protocol,
    found: Set,
}

impl Walk<'_> {
    /// Reads a message, or an item of OpenAI responses.
    fn turn(&mut self, scanner: &mut Scanner<'_>) -> Result<(), JsonError> {
        if scanner.peek() != Some(b'{') {
            return scanner.pass();
        }
        let body = self.body;
        scanner.object(|scanner, key| {
            let key = json::unescape(body, key).unwrap_or_default();
            match (self.protocol, &*key) {
                (Protocol::Gemini, "parts") | (Protocol::OpenaiResponses, "output") => {
                    self.content(scanner, 0)
                }
                (Protocol::Gemini, _) => scanner.pass(),
                (Protocol::Ollama, "images") => {
                    let images = scanner.skip()?;
                    if !is_empty(&body[images]) {
                        self.found.insert(Need::Images);
                    }
                    Ok(())
                }
                (Protocol::Ollama, _) => scanner.pass(),
                (_, "content") => self.content(scanner, 0),
                (_, _) => scanner.pass(),
            }
        })
    }

    /// Reads parts: a list, or one alone. Text alone has nothing to find.
    fn content(&mut self, scanner: &mut Scanner<'_>, nested: usize) -> Result<(), JsonError> {
        match scanner.peek() {
            Some(b'[') if nested < MOST_NESTED => {
                scanner.array(|scanner| self.part(scanner, nested))
            }
            Some(b'{') if nested < MOST_NESTED => self.part(scanner, nested),
            Some(_) | None => scanner.pass(),
        }
    }

    fn part(&mut self, scanner: &mut Scanner<'_>, nested: usize) -> Result<(), JsonError> {
        if scanner.peek() != Some(b'{') {
            return scanner.pass();
        }
        match self.protocol {
            Protocol::Gemini => self.gemini(scanner, nested),
            Protocol::Bedrock => self.bedrock(scanner, nested),
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
            | Protocol::Cohere
            | Protocol::Ollama => self.typed(scanner, nested),
        }
    }

    /// Reads a part whose `type` says what it is, wherever among its fields that stands.
    fn typed(&mut self, scanner: &mut Scanner<'_>, nested: usize) -> Result<(), JsonError> {
        let body = self.body;
        let (mut kind, mut content, mut inner) = (None, None, None);
        let from = scanner.at();
        scanner.object(|scanner, key| {
            let value = scanner.skip()?;
            match json::unescape(body, key).unwrap_or_default().as_ref() {
                "type" => kind = text(body, &value),
                "content" => content = Some(value),
                "source" | "file" => inner = Some(value),
                _ => {}
            }
            Ok(())
        })?;
        let whole = from..scanner.at();
        let protocol = self.protocol;
        match (protocol, kind.as_deref().unwrap_or_default()) {
            (Protocol::OpenaiChat | Protocol::Cohere, "image_url")
            | (Protocol::OpenaiResponses, "input_image" | "computer_screenshot")
            | (Protocol::Anthropic, "image") => self.found.insert(Need::Images),
            (Protocol::OpenaiChat | Protocol::OpenaiResponses, "input_audio") => {
                self.found.insert(Need::Audio);
            }
            (Protocol::OpenaiChat, "video_url" | "input_video") => self.found.insert(Need::Video),
            (Protocol::OpenaiChat, "file") => {
                if inner.is_some_and(|file| is_pdf_file(body, file)) {
                    self.found.insert(Need::Pdf);
                }
            }
            (Protocol::OpenaiResponses, "input_file") => {
                if is_pdf_file(body, whole) {
                    self.found.insert(Need::Pdf);
                }
            }
            (Protocol::Anthropic, "document") => {
                if let Some(source) = inner {
                    self.source(source, nested)?;
                }
            }
            (Protocol::Anthropic, "tool_result") => {
                if let Some(content) = content {
                    self.inside(content, nested)?;
                }
            }
            (_, _) => {}
        }
        Ok(())
    }

    /// Reads the parts that a part holds.
    fn inside(&mut self, content: Range<usize>, nested: usize) -> Result<(), JsonError> {
        let body = self.body;
        let mut inner = Walk {
            body: &body[content],
            protocol: self.protocol,
            found: self.found,
        };
        let mut scanner = Scanner::new(inner.body, usize::MAX);
        inner.content(&mut scanner, nested + 1)?;
        self.found = inner.found;
        Ok(())
    }

    /// Reads where one of Anthropic's documents comes from: only a PDF has an address, and text needs nothing.
    fn source(&mut self, source: Range<usize>, nested: usize) -> Result<(), JsonError> {
        let body = self.body;
        let word = |name| field(body, &source, name).and_then(|value| text(body, &value));
        match word("type").as_deref() {
            Some("url") => self.found.insert(Need::Pdf),
            Some("base64") if word("media_type").as_deref() == Some("application/pdf") => {
                self.found.insert(Need::Pdf);
            }
            Some("content") => {
                if let Some(content) = field(body, &source, "content") {
                    self.inside(content, nested)?;
                }
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    fn gemini(&mut self, scanner: &mut Scanner<'_>, nested: usize) -> Result<(), JsonError> {
        let body = self.body;
        scanner.object(|scanner, key| {
            let key = json::unescape(body, key).unwrap_or_default();
            match &*key {
                "inlineData" | "inline_data" | "fileData" | "file_data" => {
                    let data = scanner.skip()?;
                    let media =
                        field(body, &data, "mimeType").or_else(|| field(body, &data, "mime_type"));
                    if let Some(media) = media.and_then(|media| text(body, &media)) {
                        self.found.extend(of_media(&media));
                    }
                    Ok(())
                }
                "functionResponse" | "function_response" => {
                    let response = scanner.skip()?;
                    match field(body, &response, "parts") {
                        Some(parts) => self.inside(parts, nested),
                        None => Ok(()),
                    }
                }
                _ => scanner.pass(),
            }
        })
    }

    fn bedrock(&mut self, scanner: &mut Scanner<'_>, nested: usize) -> Result<(), JsonError> {
        let body = self.body;
        scanner.object(|scanner, key| {
            let key = json::unescape(body, key).unwrap_or_default();
            let value = scanner.skip()?;
            match &*key {
                "image" => self.found.insert(Need::Images),
                "audio" => self.found.insert(Need::Audio),
                "video" => self.found.insert(Need::Video),
                "document" => {
                    let format = field(body, &value, "format");
                    if format.and_then(|format| text(body, &format)).as_deref() == Some("pdf") {
                        self.found.insert(Need::Pdf);
                    }
                }
                "toolResult" => {
                    if let Some(content) = field(body, &value, "content") {
                        self.inside(content, nested)?;
                    }
                }
                _ => {}
            }
            Ok(())
        })
    }
}

impl Set {
    fn extend(&mut self, need: Option<Need>) {
        need.into_iter().for_each(|need| self.insert(need));
    }
}

fn of_media(media: &str) -> Option<Need> {
    let kind = media.split('/').next().unwrap_or_default();
    match kind.to_ascii_lowercase().as_str() {
        "image" => Some(Need::Images),
        "audio" => Some(Need::Audio),
        "video" => Some(Need::Video),
        "application" if media.eq_ignore_ascii_case("application/pdf") => Some(Need::Pdf),
        _ => None,
    }
}

/// Returns whether one of OpenAI's files is a PDF, by what it says of itself. An uploaded one says nothing.
fn is_pdf_file(body: &[u8], file: Range<usize>) -> bool {
    let inside = |name| {
        let value = field(body, &file, name)?;
        let text = body.get(value)?;
        // Data is long and needs no decoding to be known.
        text.strip_prefix(b"\"")?.strip_suffix(b"\"")
    };
    let begins = |text: &[u8], start: &[u8]| {
        text.get(..start.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(start))
    };
    let is_pdf = inside("file_data").map(|data| {
        // `%PDF` in base64.
        begins(data, b"data:application/pdf") || data.starts_with(b"JVBERi")
    });
    let named = ["filename", "file_url"].into_iter().filter_map(inside);
    let mut named = named.map(|name| {
        name.len()
            .checked_sub(4)
            .is_some_and(|end| name[end..].eq_ignore_ascii_case(b".pdf"))
    });
    is_pdf.unwrap_or(false) || named.any(|pdf| pdf)
}

/// Returns the place of a field's value in the object at `value`.
pub(super) fn field(body: &[u8], value: &Range<usize>, name: &str) -> Option<Range<usize>> {
    let start = value.start;
    let object = body.get(value.clone())?;
    let mut found = None;
    let mut scanner = Scanner::new(object, usize::MAX);
    scanner
        .object(|scanner, key| {
            let value = scanner.skip()?;
            if json::unescape(object, key).is_some_and(|key| key == name) {
                found = Some(start + value.start..start + value.end);
            }
            Ok(())
        })
        .ok()?;
    found
}

/// Returns whether an array has nothing in it, or is none.
pub(super) fn is_empty(array: &[u8]) -> bool {
    let inside = array.strip_prefix(b"[").unwrap_or_default();
    let first = inside.iter().find(|byte| !byte.is_ascii_whitespace());
    first.is_none_or(|byte| *byte == b']')
}
