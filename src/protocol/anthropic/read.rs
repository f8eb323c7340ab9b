//! A pull reader of JSON that borrows what it reads and knows where it is.

use std::borrow::Cow;

use memchr::memchr2;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Kind, Result};
use crate::protocol::chat::Str;

/// How many unknown fields inside known objects are remembered by name.
const STRANGERS_MAX: usize = 64;

/// Reads one document from front to back.
///
/// Every value is checked as JSON exactly once: strings here, everything that is kept or skipped whole by
/// `serde_json`. [`Reader::tag`] alone looks ahead, without checking.
#[derive(Debug)]
pub(super) struct Reader<'b> {
    text: &'b str,
    at: usize,
    path: Vec<Step<'b>>,
    /// Fields that are not known where they stand: their path and value.
    pub strangers: Vec<(Str<'b>, &'b RawValue)>,
}

#[derive(Debug)]
enum Step<'b> {
    Key(Str<'b>),
    Index(usize),
}

/// A place to go back to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    at: usize,
    strangers: usize,
}

impl<'b> Reader<'b> {
    pub fn new(body: &'b [u8]) -> Result<Self> {
        let text = std::str::from_utf8(body).map_err(|error| {
            Error::new(Kind::InvalidRequest, "The body is not valid UTF-8").with_cause(error)
        })?;
        Ok(Self::of(text))
    }

    pub fn of(text: &'b str) -> Self {
        Self {
            text,
            at: 0,
            path: Vec::new(),
            strangers: Vec::new(),
        }
    }

    /// Skips white space and returns the byte that the next value begins with (0 at the end).
    pub fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or(0)
    }

    /// Reads an object; `each` must read the value of every key that it is called with.
    pub fn object(&mut self, mut each: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        if self.peek() != b'{' {
            return Err(self.wrong("a valid object"));
        }
        self.at += 1;
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != b'"' {
                return Err(self.syntax("a key was expected"));
            }
            let key = self.string()?;
            if self.peek() != b':' {
                return Err(self.syntax("a colon was expected"));
            }
            self.at += 1;
            self.path.push(Step::Key(key.clone()));
            each(self, &key)?;
            self.path.pop();
            match self.peek() {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.syntax("a comma or a brace was expected")),
            }
        }
    }

    /// Reads an array; `each` must read every element that it is called for.
    pub fn array(&mut self, mut each: impl FnMut(&mut Self, usize) -> Result<()>) -> Result<()> {
        if self.peek() != b'[' {
            return Err(self.wrong("a valid list"));
        }
        self.at += 1;
        if self.peek() == b']' {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            self.path.push(Step::Index(index));
            each(self, index)?;
            self.path.pop();
            match self.peek() {
                b',' => self.at += 1,
                b']' => break,
                _ => return Err(self.syntax("a comma or a bracket was expected")),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Reads an array of what `one` reads.
    pub fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        self.array(|reader, _| {
            items.push(one(reader)?);
            Ok(())
        })?;
        Ok(items)
    }

    /// Reads `null` as nothing and anything else with `one`.
    pub fn maybe<T>(&mut self, one: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.peek() == b'n' {
            self.raw()?;
            return Ok(None);
        }
        one(self).map(Some)
    }

    pub fn string(&mut self) -> Result<Str<'b>> {
        if self.peek() != b'"' {
            return Err(self.wrong("a valid string"));
        }
        let start = self.at + 1;
        let rest = &self.text.as_bytes()[start..];
        let Some(length) = memchr2(b'"', b'\\', rest) else {
            return Err(self.syntax("a string does not end"));
        };
        if rest[length] == b'\\' {
            let raw = self.raw()?;
            return serde_json::from_str(raw.get())
                .map(Cow::Owned)
                .map_err(|_| self.wrong("a string of valid Unicode"));
        }
        // Folded without an early exit, so that it is done many bytes at a time.
        if rest[..length]
            .iter()
            .fold(false, |found, byte| found | (*byte < 0x20))
        {
            return Err(self.syntax("a control character stands in a string"));
        }
        self.at = start + length + 1;
        Ok(Cow::Borrowed(&self.text[start..start + length]))
    }

    pub fn boolean(&mut self) -> Result<bool> {
        if !matches!(self.peek(), b't' | b'f') {
            return Err(self.wrong("a valid boolean"));
        }
        Ok(self.raw()?.get() == "true")
    }

    pub fn integer(&mut self) -> Result<u32> {
        if !matches!(self.peek(), b'-' | b'0'..=b'9') {
            return Err(self.wrong("a valid integer"));
        }
        self.raw()?
            .get()
            .parse()
            .map_err(|_| self.wrong("an integer from 0 to 4294967295"))
    }

    pub fn number(&mut self) -> Result<f64> {
        if !matches!(self.peek(), b'-' | b'0'..=b'9') {
            return Err(self.wrong("a valid number"));
        }
        let number: f64 = self
            .raw()?
            .get()
            .parse()
            .map_err(|_| self.wrong("a valid number"))?;
        if number.is_finite() {
            Ok(number)
        } else {
            Err(self.wrong("a finite number"))
        }
    }

    /// Reads any value whole.
    pub fn raw(&mut self) -> Result<&'b RawValue> {
        self.peek();
        let mut rest = serde_json::Deserializer::from_str(&self.text[self.at..]);
        let raw = <&RawValue>::deserialize(&mut rest)
            .map_err(|error| self.syntax("a value was expected").with_cause(error))?;
        self.at += raw.get().len();
        Ok(raw)
    }

    /// Reads an object whole.
    pub fn raw_object(&mut self) -> Result<&'b RawValue> {
        if self.peek() != b'{' {
            return Err(self.wrong("a valid object"));
        }
        self.raw()
    }

    /// Returns where the reader stands, for [`Reader::back`].
    pub fn mark(&self) -> Mark {
        Mark {
            at: self.at,
            strangers: self.strangers.len(),
        }
    }

    /// Goes back to a mark taken in the same object or array.
    pub fn back(&mut self, mark: Mark) {
        self.at = mark.at;
        self.strangers.truncate(mark.strangers);
    }

    /// Reads the value of a key that is not known here, and remembers it.
    pub fn stranger(&mut self) -> Result<()> {
        let raw = self.raw()?;
        if raw.get() != "null" && self.strangers.len() < STRANGERS_MAX {
            self.strangers.push((self.path().into(), raw));
        }
        Ok(())
    }

    /// Checks that nothing follows.
    pub fn finish(&mut self) -> Result<()> {
        if self.peek() == 0 && self.at >= self.text.len() {
            return Ok(());
        }
        Err(self.syntax("something follows the end"))
    }

    /// Looks ahead for the string that the object here has for `key`. Nothing is read, nothing is checked.
    pub fn tag(&mut self, key: &str) -> Option<Str<'b>> {
        if self.peek() != b'{' {
            return None;
        }
        let mut ahead = Reader::of(self.text);
        ahead.at = self.at + 1;
        loop {
            if ahead.peek() != b'"' {
                return None;
            }
            let start = ahead.at + 1;
            ahead.leap()?;
            let found = self.text.get(start..ahead.at - 1) == Some(key);
            if ahead.peek() != b':' {
                return None;
            }
            ahead.at += 1;
            if found {
                return if ahead.peek() == b'"' {
                    ahead.string().ok()
                } else {
                    None
                };
            }
            ahead.leap()?;
            if ahead.peek() != b',' {
                return None;
            }
            ahead.at += 1;
        }
    }

    /// Looks ahead at a string without reading it.
    pub fn tag_here(&mut self) -> Option<Str<'b>> {
        if self.peek() != b'"' {
            return None;
        }
        let mut ahead = Reader::of(self.text);
        ahead.at = self.at;
        ahead.string().ok()
    }

    /// Skips the next value by its brackets and quotes alone.
    fn leap(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        let mut depth = 0usize;
        self.peek();
        loop {
            match bytes.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    loop {
                        self.at += memchr2(b'"', b'\\', bytes.get(self.at..)?)?;
                        if bytes[self.at] == b'"' {
                            break;
                        }
                        self.at += 2;
                    }
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.checked_sub(1)?,
                _ if depth > 0 => {}
                b',' | b':' => return None,
                _ => {
                    // A number or a word: up to whatever ends it.
                    while let Some(byte) = bytes.get(self.at)
                        && !matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')
                    {
                        self.at += 1;
                    }
                    return Some(());
                }
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Returns a 400: what is here is not what it should be.
    pub fn wrong(&mut self, what: &str) -> Error {
        if !matches!(
            self.peek(),
            b'{' | b'[' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9' | b',' | b']' | b'}'
        ) {
            return self.syntax("a value was expected");
        }
        let path = self.path();
        if path.is_empty() {
            return Error::new(Kind::InvalidRequest, format!("The body should be {what}"));
        }
        let message = format!("{path}: Input should be {what}");
        Error::field(path, message)
    }

    /// Returns a 400: the object that is being read lacks `key`.
    pub fn missing(&self, key: &str) -> Error {
        let mut path = self.path();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
        let message = format!("{path}: Field required");
        Error::field(path, message)
    }

    /// Returns a 400: this is not JSON.
    fn syntax(&self, what: &str) -> Error {
        let at = self.at;
        Error::new(
            Kind::InvalidRequest,
            format!("The body is not valid JSON: {what} at byte {at}"),
        )
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            if !path.is_empty() {
                path.push('.');
            }
            match step {
                Step::Key(key) => path.push_str(key),
                Step::Index(index) => path.push_str(&index.to_string()),
            }
        }
        path
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where_it_is() {
        let mut reader = Reader::of(r#"{"a":[{"b":"x"},{"b":7}]}"#);
        let error = reader
            .object(|r, _| r.array(|r, _| r.object(|r, _| r.string().map(drop))))
            .unwrap_err();
        assert_eq!(error.param.as_deref(), Some("a.1.b"));
        assert_eq!(error.message, "a.1.b: Input should be a valid string");
    }

    #[test]
    fn a_tag_is_found_wherever_it_stands() {
        for text in [
            r#"{"type":"x"}"#,
            r#" { "a" : {"type":"no","b":[1,2,"}\""]} , "type" : "x" }"#,
            r#"{"a":"\\\"","b":-1.5e3,"c":null,"d":[[]],"type":"x","e":1}"#,
        ] {
            assert_eq!(Reader::of(text).tag("type").as_deref(), Some("x"), "{text}");
        }
        for text in [
            "",
            "{",
            "{}",
            r#"{"type":1}"#,
            r#"{"a":"#,
            r#"{"a":"\"#,
            r#"{"a":]"#,
            "[]",
        ] {
            assert_eq!(Reader::of(text).tag("type"), None, "{text}");
        }
    }

    #[test]
    fn broken_json_is_refused_as_serde_json_refuses_it() {
        for text in [
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            r#"{a:1}"#,
            r#"{"a":1"#,
            r#"{"a":01}"#,
            r#"{"a":"\x"}"#,
            "{\"a\":\"\u{1}\"}",
            r#"{"a":"#,
            r#"{"a":nul}"#,
            r#"{"a":1}}"#,
            r#"{"a":1} x"#,
            r#"{"a":"\ud800"}"#,
        ] {
            let mut reader = Reader::of(text);
            let read = reader
                .object(|r, _| match r.peek() {
                    b'"' => r.string().map(drop),
                    _ => r.raw().map(drop),
                })
                .and_then(|()| reader.finish());
            assert!(read.is_err(), "{text}");
            assert!(
                serde_json::from_str::<serde_json::Value>(text).is_err(),
                "{text}"
            );
        }
    }
}
