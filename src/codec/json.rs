//! A strict JSON scanner: says where things are, builds nothing.
//!
//! It accepts exactly what `serde_json` accepts as a map of raw values, UTF-8 included, and recurses nowhere, so
//! that neither depth nor size of a body can hurt. Long strings, of which chat bodies are made, go by in wide steps.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use step::{Halves, plain};
use value::number;
pub use value::{end, past_space, whole};

// Named by path, so that this file means the same when it is compiled from elsewhere.
#[path = "json/step.rs"]
mod step;
#[path = "json/value.rs"]
mod value;

/// One `"key": value` of an object, as offsets into its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Inside the quotes.
    pub key: Range<usize>,
    /// From the key's opening quote to the value's end.
    pub whole: Range<usize>,
    pub value: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonErrorKind {
    Syntax,
    /// Deeper than was allowed.
    Depth,
    /// Something other than one object.
    NotObject,
    Utf8,
}

/// What is wrong with a text, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    pub kind: JsonErrorKind,
    pub at: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            JsonErrorKind::Syntax => "not valid JSON",
            JsonErrorKind::Depth => "nested too deeply",
            JsonErrorKind::NotObject => "not a JSON object",
            JsonErrorKind::Utf8 => "not valid UTF-8",
        };
        write!(f, "{what} at byte {}", self.at)
    }
}

impl std::error::Error for JsonError {}

/// Checks that `body` is exactly one object, at most `max_depth` deep (itself being 1), and puts its members
/// into `out`, which is emptied first.
pub fn members(body: &[u8], max_depth: usize, out: &mut Vec<Member>) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(body, max_depth);
    scanner.members(out)?;
    scanner.end()
}

/// Returns a member's key, its escapes decoded.
pub fn key<'b>(body: &'b [u8], member: &Member) -> Cow<'b, str> {
    unescape(body, member.key.clone()).unwrap_or_default()
}

/// Returns the value at `range` where it is a string, its escapes decoded.
pub fn string(body: &[u8], range: Range<usize>) -> Option<Cow<'_, str>> {
    let text = body.get(range.clone())?;
    if text.len() < 2 || text.first() != Some(&b'"') || text.last() != Some(&b'"') {
        return None;
    }
    unescape(body, range.start + 1..range.end - 1)
}

/// Returns the value at `range` where it is `true` or `false`.
pub fn boolean(body: &[u8], range: Range<usize>) -> Option<bool> {
    match body.get(range)? {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// Returns the value at `range` where it is a whole number without sign, fraction and exponent.
pub fn unsigned(body: &[u8], range: Range<usize>) -> Option<u64> {
    let text = body.get(range)?;
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Returns whether the value at `range` is `null`.
pub fn is_null(body: &[u8], range: Range<usize>) -> bool {
    body.get(range) == Some(b"null")
}

/// Appends `text` as a JSON string, with its quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(text.len() + 2);
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..0x20 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..at]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(&[
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
        from = at + 1;
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// Returns the text between two quotes with its escapes decoded; `None` where they spell half a character.
pub fn unescape(body: &[u8], inside: Range<usize>) -> Option<Cow<'_, str>> {
    let text = body.get(inside.clone())?;
    if memchr::memchr(b'\\', text).is_none() {
        return std::str::from_utf8(text).ok().map(Cow::Borrowed);
    }
    let quoted = body.get(inside.start.checked_sub(1)?..inside.end + 1)?;
    serde_json::from_slice::<String>(quoted)
        .ok()
        .map(Cow::Owned)
}

/// Returns the first place from `at` on that holds a quote, a backslash or a control byte, or the end.
#[inline]
pub fn clean(text: &[u8], at: usize) -> usize {
    plain(text, at)
}

/// Reads a string whose inside begins at `from`, every escape of which is whole: returns where it ends, and whether it
/// has escapes. An error is the place of what is at fault, or the end.
pub fn string_end(text: &str, from: usize) -> Result<(usize, bool), usize> {
    step::string(text.as_bytes(), from, Halves::Deny).map(|seen| (seen.end, seen.escapes))
}

/// Reads the escape sequence that `text` begins with: the character, and the bytes that it takes. `None` for one that
/// JSON doesn't know, and for half a character.
pub fn escape(text: &[u8]) -> Option<(char, usize)> {
    let short = match text.get(1)? {
        b'n' => '\n',
        b'"' => '"',
        b'\\' => '\\',
        b't' => '\t',
        b'r' => '\r',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => return unicode(text),
        _ => return None,
    };
    Some((short, 2))
}

/// Reads the escape of half a character that `text` begins with, as the character that stands for what can't be read.
///
/// Whoever cuts text between the halves of one writes such a thing, and JSON's grammar allows it.
pub fn half(text: &[u8]) -> Option<(char, usize)> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let is_half = (0xd800..0xe000).contains(&hex(digits)?);
    is_half.then_some((char::REPLACEMENT_CHARACTER, 6))
}

/// Reads `\uXXXX`, or two of them that make one character.
fn unicode(text: &[u8]) -> Option<(char, usize)> {
    let first = hex(text.get(2..6)?)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = hex(text.get(6..12)?.strip_prefix(b"\\u")?)?;
    if !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    let both = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Some((char::from_u32(both)?, 12))
}

fn hex(digits: &[u8]) -> Option<u32> {
    let mut number = 0;
    for digit in digits {
        number = number << 4 | char::from(*digit).to_digit(16)?;
    }
    Some(number)
}

/// Returns how many bytes of UTF-8 the text between two quotes takes once its escapes are decoded.
pub fn decoded_len(text: &[u8]) -> usize {
    let mut length = text.len();
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (escape, bytes) = match rest.get(at + 1) {
            Some(b'u') => {
                let digits = rest
                    .get(at + 2..at + 6)
                    .and_then(|hex| std::str::from_utf8(hex).ok());
                let bytes = match digits.and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
                    Some(0..0x80) => 1,
                    // Two halves make one character of four bytes.
                    Some(0x80..0x800 | 0xd800..0xe000) => 2,
                    Some(_) | None => 3,
                };
                (6, bytes)
            }
            Some(_) | None => (2, 1),
        };
        length = length.saturating_sub(escape - bytes);
        rest = rest.get(at + escape..).unwrap_or_default();
    }
    length
}

/// A place in a JSON text that moves forward only.
///
/// The callbacks of [`Scanner::object`] and [`Scanner::array`] must consume the value that they are called for, by
/// any of the methods here.
#[derive(Debug)]
pub struct Scanner<'b> {
    body: &'b [u8],
    at: usize,
    /// Levels that may still be opened.
    left: usize,
    blobs: Blobs,
}

/// Long strings that look like base64: images, audio, documents. Their length says nothing of their tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Blobs {
    pub count: usize,
    pub bytes: usize,
}

impl<'b> Scanner<'b> {
    pub fn new(body: &'b [u8], max_depth: usize) -> Self {
        Self {
            body,
            at: 0,
            left: max_depth,
            blobs: Blobs::default(),
        }
    }

    /// Returns the place of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Returns the long base64 strings passed so far.
    pub fn blobs(&self) -> Blobs {
        self.blobs
    }

    /// Reads an object, and puts its members into `out`, which is emptied first.
    pub fn members(&mut self, out: &mut Vec<Member>) -> Result<(), JsonError> {
        out.clear();
        self.object(|scanner, key| {
            // A key that spells half a character has no name.
            if unescape(scanner.body, key.clone()).is_none() {
                return Err(JsonError {
                    kind: JsonErrorKind::Syntax,
                    at: key.start,
                });
            }
            let value = scanner.skip()?;
            out.push(Member {
                whole: key.start - 1..value.end,
                key,
                value,
            });
            Ok(())
        })
    }

    /// Reads an object: calls `each` before every value, with the place of its key inside the quotes.
    pub fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Range<usize>) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if self.peek() != Some(b'{') {
            return Err(self.error(JsonErrorKind::NotObject));
        }
        self.open()?;
        if self.peek() == Some(b'}') {
            return self.close();
        }
        loop {
            let key = self.key()?;
            each(self, key)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => return self.close(),
                Some(_) | None => return Err(self.error(JsonErrorKind::Syntax)),
            }
        }
    }

    /// Reads an array: calls `each` before every value.
    pub fn array(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if self.peek() != Some(b'[') {
            return Err(self.error(JsonErrorKind::Syntax));
        }
        self.open()?;
        if self.peek() == Some(b']') {
            return self.close();
        }
        loop {
            each(self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => return self.close(),
                Some(_) | None => return Err(self.error(JsonErrorKind::Syntax)),
            }
        }
    }

    /// Reads any value, and returns where it is.
    pub fn skip(&mut self) -> Result<Range<usize>, JsonError> {
        let first = self.peek();
        let from = self.at;
        match first {
            Some(b'{' | b'[') => self.container()?,
            Some(_) | None => self.scalar(first)?,
        }
        Ok(from..self.at)
    }

    /// Reads any value, wherever it is.
    pub fn pass(&mut self) -> Result<(), JsonError> {
        self.skip().map(|_| ())
    }

    /// Returns the first byte of what comes next, past white space.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        match self.body.get(self.at) {
            Some(byte) if *byte > b' ' => Some(*byte),
            Some(_) | None => {
                self.at = past_space(self.body, self.at);
                self.body.get(self.at).copied()
            }
        }
    }

    /// Checks that nothing but white space is left.
    pub fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error(JsonErrorKind::Syntax)),
        }
    }

    fn error(&self, kind: JsonErrorKind) -> JsonError {
        JsonError { kind, at: self.at }
    }

    fn open(&mut self) -> Result<(), JsonError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(self.error(JsonErrorKind::Depth));
        };
        self.left = left;
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), JsonError> {
        self.left += 1;
        self.at += 1;
        Ok(())
    }

    /// Reads a key and its colon.
    #[inline]
    fn key(&mut self) -> Result<Range<usize>, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.error(JsonErrorKind::Syntax));
        }
        let key = self.text()?;
        if self.peek() != Some(b':') {
            return Err(self.error(JsonErrorKind::Syntax));
        }
        self.at += 1;
        Ok(key)
    }

    /// Reads an object or array with all that is in it.
    fn container(&mut self) -> Result<(), JsonError> {
        let mut stack = Stack::default();
        loop {
            // A value begins here.
            let first = self.peek();
            let opened = match first {
                Some(b'{') => Some(true),
                Some(b'[') => Some(false),
                Some(_) | None => None,
            };
            if let Some(object) = opened {
                self.open()?;
                stack.push(object);
                let end = if object { b'}' } else { b']' };
                if self.peek() != Some(end) {
                    if object {
                        self.key()?;
                    }
                    continue;
                }
            } else {
                self.scalar(first)?;
            }
            // A value ended here, or an empty container is about to.
            loop {
                let Some(object) = stack.top() else {
                    return Ok(());
                };
                match (self.peek(), object) {
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.close()?;
                        stack.pop();
                    }
                    (Some(b','), object) => {
                        self.at += 1;
                        if object {
                            self.key()?;
                        }
                        // No empty place after a comma: the value's own check finds it.
                        break;
                    }
                    (Some(_) | None, _) => return Err(self.error(JsonErrorKind::Syntax)),
                }
            }
        }
    }

    fn scalar(&mut self, first: Option<u8>) -> Result<(), JsonError> {
        match first {
            Some(b'"') => self.text().map(|_| ()),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) | None => Err(self.error(JsonErrorKind::Syntax)),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if !self.body[self.at..].starts_with(word) {
            return Err(self.error(JsonErrorKind::Syntax));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        match number(self.body, self.at) {
            Ok(end) => {
                self.at = end;
                Ok(())
            }
            Err(at) => {
                self.at = at;
                Err(self.error(JsonErrorKind::Syntax))
            }
        }
    }

    /// Reads a string from its opening quote, and returns what is between the quotes.
    #[inline]
    fn text(&mut self) -> Result<Range<usize>, JsonError> {
        let from = self.at + 1;
        if let Some((end, foreign)) = step::short(self.body, from) {
            self.at = end + 1;
            if foreign {
                self.utf8(from..end)?;
            }
            return Ok(from..end);
        }
        let seen = match step::string(self.body, from, Halves::Allow) {
            Ok(seen) => seen,
            Err(at) => {
                self.at = at;
                return Err(self.error(JsonErrorKind::Syntax));
            }
        };
        let at = seen.end;
        self.at = at + 1;
        if !self.body[from..at].is_ascii() {
            self.utf8(from..at)?;
        } else if at - from >= BLOB {
            self.blob(from..at);
        }
        Ok(from..at)
    }

    fn utf8(&mut self, range: Range<usize>) -> Result<(), JsonError> {
        let from = range.start;
        std::str::from_utf8(&self.body[range])
            .map(drop)
            .map_err(|error| JsonError {
                kind: JsonErrorKind::Utf8,
                at: from + error.valid_up_to(),
            })
    }

    #[cold]
    fn blob(&mut self, range: Range<usize>) {
        let text = &self.body[range];
        // Any long text has spaces; the head may be that of a `data:` address.
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(byte);
        let (middle, tail) = (&text[text.len() / 2..][..128], &text[text.len() - 128..]);
        if middle.iter().all(is_base64) && tail.iter().all(is_base64) {
            self.blobs.count += 1;
            self.blobs.bytes += text.len();
        }
    }
}

/// The least length of a string that may be a blob.
const BLOB: usize = 1024;

/// Which of the open containers are objects, one bit each.
#[derive(Default)]
struct Stack {
    /// The innermost ones, the very innermost lowest.
    near: u64,
    count: usize,
    far: Vec<u64>,
}

impl Stack {
    fn push(&mut self, object: bool) {
        if self.count > 0 && self.count.is_multiple_of(64) {
            self.far.push(self.near);
        }
        self.near = self.near << 1 | u64::from(object);
        self.count += 1;
    }

    fn pop(&mut self) {
        self.count = self.count.saturating_sub(1);
        self.near >>= 1;
        if self.count.is_multiple_of(64)
            && let Some(far) = self.far.pop()
        {
            self.near = far;
        }
    }

    fn top(&self) -> Option<bool> {
        (self.count > 0).then_some(self.near & 1 == 1)
    }
}
