//! JSON text: a pull reader that borrows and knows where it is, and a writer into a `Vec<u8>`.
//!
//! Both protocols read and write by hand with these: typed, no tree in between, and every error names its field.

use std::borrow::Cow;

use memchr::memchr2;
use serde_json::value::RawValue;

use super::chat::{Prose, Str};
use crate::codec::json;
use crate::error::{Error, Kind, Result};

mod checked;

/// How many unknown fields inside known objects are remembered.
const STRANGERS_MAX: usize = 64;

/// Reads one document from front to back.
///
/// Every value is checked as JSON exactly once: strings here, everything that is kept or skipped whole by
/// [`json::end`]. [`Reader::tag`] alone looks ahead, without checking. Where it stands is not tracked but found
/// by a second look when an error must say it, so a good body pays nothing for it.
#[derive(Debug)]
pub struct Reader<'b> {
    text: &'b str,
    at: usize,
    strangers: Vec<(usize, &'b RawValue)>,
}

/// A place to go back to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    at: usize,
    strangers: usize,
}

impl<'b> Reader<'b> {
    pub fn new(body: &'b [u8]) -> Result<Self> {
        let text = std::str::from_utf8(body).map_err(|error| {
            Error::new(Kind::InvalidRequest, "the body is not valid UTF-8").with_cause(error)
        })?;
        Ok(Self::of(text))
    }

    pub fn of(text: &'b str) -> Self {
        Self {
            text,
            at: 0,
            strangers: Vec::new(),
        }
    }

    /// Skips white space and returns the byte that the next value begins with (0 at the end).
    #[inline]
    pub fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at) {
            Some(byte) if *byte > b' ' => *byte,
            Some(_) | None => {
                self.at = json::past_space(bytes, self.at);
                bytes.get(self.at).copied().unwrap_or(0)
            }
        }
    }

    /// Reads an object; `each` must read the value of every key that it is called with.
    pub fn object(&mut self, mut each: impl FnMut(&mut Self, Str<'b>) -> Result<()>) -> Result<()> {
        if self.peek() != b'{' {
            return Err(self.wrong("an object"));
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
            each(self, key)?;
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
    pub fn array(&mut self, mut each: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if self.peek() != b'[' {
            return Err(self.wrong("an array"));
        }
        self.at += 1;
        if self.peek() == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            each(self)?;
            match self.peek() {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.syntax("a comma or a bracket was expected")),
            }
        }
    }

    /// Reads an array of what `one` reads.
    pub fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        self.array(|reader| {
            items.push(one(reader)?);
            Ok(())
        })?;
        Ok(items)
    }

    /// Reads `null` as nothing and anything else with `one`.
    pub fn maybe<T>(&mut self, one: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.peek() == b'n' {
            self.skip()?;
            return Ok(None);
        }
        one(self).map(Some)
    }

    #[inline]
    pub fn string(&mut self) -> Result<Str<'b>> {
        match self.plain() {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => self.other_string(),
        }
    }

    /// Reads a string without escapes, as nearly all are that aren't prose; anything else stays unread.
    fn plain(&mut self) -> Option<&'b str> {
        if self.peek() != b'"' {
            return None;
        }
        let start = self.at + 1;
        let end = json::clean(self.text.as_bytes(), start);
        if self.text.as_bytes().get(end) != Some(&b'"') {
            return None;
        }
        self.at = end + 1;
        Some(&self.text[start..end])
    }

    fn other_string(&mut self) -> Result<Str<'b>> {
        if self.peek() != b'"' {
            return Err(self.wrong("a string"));
        }
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let end = json::clean(bytes, start);
        match bytes.get(end) {
            Some(b'"') => {
                self.at = end + 1;
                Ok(Cow::Borrowed(&self.text[start..end]))
            }
            Some(b'\\') => self.escaped_string(start, end),
            Some(_) => Err(self.syntax("a control character stands in a string")),
            None => Err(self.syntax("a string does not end")),
        }
    }

    /// Reads on in a string that began at `start` and has its first escape at `at`.
    fn escaped_string(&mut self, start: usize, mut at: usize) -> Result<Str<'b>> {
        let (text, bytes) = (self.text, self.text.as_bytes());
        // A guess: text is about as long as it is between two escapes, times some.
        let room = 32 + 8 * (at - start);
        let mut out = String::with_capacity(room.min(text.len() - start));
        let mut from = start;
        loop {
            out.push_str(&text[from..at]);
            let escape = match bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => json::escape(&bytes[at..]),
                Some(_) => None,
                None => return Err(self.syntax("a string does not end")),
            };
            let half = || json::half(bytes.get(at..)?);
            let Some((character, length)) = escape.or_else(half) else {
                return Err(self.wrong("a string of valid escapes"));
            };
            out.push(character);
            from = at + length;
            at = json::clean(bytes, from);
        }
    }

    /// Reads a string whose escapes are undone when somebody reads it.
    pub fn prose(&mut self) -> Result<Prose<'b>> {
        if self.peek() != b'"' {
            return Err(self.wrong("a string"));
        }
        let start = self.at + 1;
        let (end, escapes) = match json::string_end(self.text, start) {
            Ok(found) => found,
            Err(at) => {
                let bytes = self.text.as_bytes();
                return match bytes.get(at) {
                    // Half a character can't be passed on as it is, and the rest is no escape.
                    Some(b'\\') => {
                        let first = json::clean(bytes, start);
                        self.escaped_string(start, first).map(Prose::from)
                    }
                    Some(_) => Err(self.syntax("a control character stands in a string")),
                    None => Err(self.syntax("a string does not end")),
                };
            }
        };
        self.at = end + 1;
        let inside = &self.text[start..end];
        Ok(if escapes {
            Prose::of_json(inside)
        } else {
            Prose::from(inside)
        })
    }

    pub fn boolean(&mut self) -> Result<bool> {
        let first = self.peek();
        if !matches!(first, b't' | b'f') {
            return Err(self.wrong("a boolean"));
        }
        self.skip()?;
        Ok(first == b't')
    }

    pub fn integer(&mut self) -> Result<u32> {
        let before = self.mark();
        if let Some(value) = self.whole() {
            if let Ok(value) = u32::try_from(value) {
                return Ok(value);
            }
            self.back(before);
        }
        self.parsed("an integer from 0 to 4294967295")
    }

    /// Reads a whole number without sign, fraction and exponent; anything else stays unread.
    pub fn whole(&mut self) -> Option<u64> {
        self.peek();
        let (value, end) = json::whole(self.text, self.at)?;
        self.at = end;
        Some(value)
    }

    pub fn signed(&mut self) -> Result<i64> {
        self.parsed("an integer of 64 bits")
    }

    pub fn number(&mut self) -> Result<f64> {
        let before = self.at;
        let number: f64 = self.parsed("a number")?;
        if number.is_finite() {
            return Ok(number);
        }
        self.at = before;
        Err(self.wrong("a finite number"))
    }

    fn parsed<T: std::str::FromStr>(&mut self, what: &str) -> Result<T> {
        if !matches!(self.peek(), b'-' | b'0'..=b'9') {
            return Err(self.wrong(what));
        }
        let before = self.at;
        self.skip()?;
        self.text[before..self.at].parse().map_err(|_| {
            self.at = before;
            self.wrong(what)
        })
    }

    /// Reads any value and forgets it.
    pub fn skip(&mut self) -> Result<()> {
        self.peek();
        let Some(end) = json::end(self.text, self.at) else {
            return Err(self.syntax("a value was expected"));
        };
        self.at = end;
        Ok(())
    }

    /// Reads any value whole.
    pub fn raw(&mut self) -> Result<&'b RawValue> {
        self.peek();
        let from = self.at;
        self.skip()?;
        checked::raw(&self.text[from..self.at])
            .map_err(|error| self.syntax("a value was expected").with_cause(error))
    }

    /// Reads any value whole, `null` as nothing.
    pub fn maybe_raw(&mut self) -> Result<Option<&'b RawValue>> {
        Ok(Some(self.raw()?).filter(|raw| raw.get() != "null"))
    }

    /// Reads an object whole.
    pub fn raw_object(&mut self) -> Result<&'b RawValue> {
        if self.peek() != b'{' {
            return Err(self.wrong("an object"));
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

    /// Goes back to a mark.
    pub fn back(&mut self, mark: Mark) {
        self.at = mark.at;
        self.strangers.truncate(mark.strangers);
    }

    /// Reads the value of a key that is not known here, and remembers it.
    pub fn stranger(&mut self) -> Result<()> {
        self.peek();
        let at = self.at;
        let raw = self.raw()?;
        if raw.get() != "null" && self.strangers.len() < STRANGERS_MAX {
            self.strangers.push((at, raw));
        }
        Ok(())
    }

    /// Returns the fields that were not known where they stand: path and value.
    pub fn strangers(&self) -> Vec<(Str<'b>, &'b RawValue)> {
        if self.strangers.is_empty() {
            return Vec::new();
        }
        let mut named = Vec::with_capacity(self.strangers.len());
        let mut place = Place::new(self.text);
        for (at, raw) in &self.strangers {
            place.advance(*at);
            named.push((Cow::Owned(place.path()), *raw));
        }
        named
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
            let rest = self.text.as_bytes().get(ahead.at + 1..)?;
            let found = rest.starts_with(key.as_bytes()) && rest.get(key.len()) == Some(&b'"');
            if found {
                ahead.at += key.len() + 2;
            } else {
                ahead.leap()?;
            }
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

    /// Skips the next value by its brackets and quotes alone.
    fn leap(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        let mut depth = 0usize;
        self.peek();
        loop {
            match bytes.get(self.at)? {
                b'"' => {
                    self.at = string_end(bytes, self.at)?;
                    if depth == 0 {
                        return Some(());
                    }
                    continue;
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

    /// Returns a 400: the value here is not `what` it should be.
    pub fn wrong(&mut self, what: &str) -> Error {
        if !matches!(
            self.peek(),
            b'{' | b'[' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9'
        ) {
            return self.syntax("a value was expected");
        }
        self.misfit(what)
    }

    /// Returns a 400: the value that begins or just ended here is not `what` it should be.
    pub fn misfit(&self, what: &str) -> Error {
        let path = self.path();
        if path.is_empty() {
            return Error::new(Kind::InvalidRequest, format!("the body should be {what}"));
        }
        let message = format!("{path} should be {what}");
        Error::field(path, message)
    }

    /// Returns a 400: the object that was just read lacks `key`.
    pub fn missing(&self, key: &str) -> Error {
        let mut path = self.path();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
        let message = format!("{path} is required");
        Error::field(path, message)
    }

    /// Returns a 400: this is not JSON.
    fn syntax(&self, what: &str) -> Error {
        let at = self.at;
        Error::new(
            Kind::InvalidRequest,
            format!("the body is not valid JSON: {what} at byte {at}"),
        )
    }

    /// Returns the path of the value that begins or just ended here: `messages[2].content[0].text`.
    pub fn path(&self) -> String {
        let mut place = Place::new(self.text);
        place.advance(self.at);
        place.path()
    }
}

/// Returns the place after the string that begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Walks over a document to say where in it a byte stands.
struct Place<'b> {
    text: &'b str,
    at: usize,
    steps: Vec<Step<'b>>,
}

enum Step<'b> {
    /// In an object: the last key read, with its quotes.
    Key(&'b str),
    Index(usize),
}

impl<'b> Place<'b> {
    fn new(text: &'b str) -> Self {
        Self {
            text,
            at: 0,
            steps: Vec::new(),
        }
    }

    /// Goes on to `end`; what was read up to there is known to be JSON.
    fn advance(&mut self, end: usize) {
        let bytes = self.text.as_bytes();
        // A key is a string after an opening brace or, in an object, after a comma.
        let mut key_next = false;
        while self.at < end {
            match bytes[self.at] {
                b'{' => {
                    self.steps.push(Step::Key(""));
                    key_next = true;
                }
                b'[' => self.steps.push(Step::Index(0)),
                b'}' | b']' => drop(self.steps.pop()),
                b',' => match self.steps.last_mut() {
                    Some(Step::Index(index)) => *index += 1,
                    Some(Step::Key(_)) => key_next = true,
                    None => {}
                },
                b'"' => {
                    let next = string_end(bytes, self.at).unwrap_or(bytes.len());
                    if key_next && let Some(Step::Key(key)) = self.steps.last_mut() {
                        *key = self.text.get(self.at..next).unwrap_or("");
                        key_next = false;
                    }
                    self.at = next;
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                Step::Key(key) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&serde_json::from_str::<String>(key).unwrap_or_default());
                }
                Step::Index(index) => {
                    path.push('[');
                    path.push_str(&index.to_string());
                    path.push(']');
                }
            }
        }
        path
    }
}

/// Appends `text` as a JSON string.
pub fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escaped(text, out);
    out.push(b'"');
}

/// Appends `text` as the inside of a JSON string.
pub fn escaped(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    // Prose has an escape or two on each line.
    out.reserve(bytes.len() + bytes.len() / 16);
    let mut from = 0;
    loop {
        let at = json::clean(bytes, from);
        out.extend_from_slice(&bytes[from..at]);
        let Some(&byte) = bytes.get(at) else {
            return;
        };
        from = at + 1;
        let short = match byte {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
                continue;
            }
            quote_or_backslash => quote_or_backslash,
        };
        out.extend_from_slice(&[b'\\', short]);
    }
}

pub fn integer(mut number: u64, out: &mut Vec<u8>) {
    if number < 10 {
        // Most of what is counted in an answer is nothing.
        return out.push(b'0' + number as u8);
    }
    let mut digits = [0u8; 20];
    let mut from = digits.len();
    while number >= 10 {
        from -= 2;
        // Both are below ten.
        let two = (number % 100) as u8;
        digits[from] = b'0' + two / 10;
        digits[from + 1] = b'0' + two % 10;
        number /= 100;
    }
    if number > 0 {
        from -= 1;
        digits[from] = b'0' + number as u8;
    }
    out.extend_from_slice(&digits[from..]);
}

/// Appends a number; one that JSON has no word for becomes `null`.
pub fn number(number: f64, out: &mut Vec<u8>) {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        if number < 0.0 {
            out.push(b'-');
        }
        return integer(number.abs() as u64, out);
    }
    serde_json::to_writer(out, &number).expect("a number can be written into memory");
}

/// Appends JSON as it came, on one line: a line feed would end a `data:` line.
pub fn raw_line(raw: &RawValue, out: &mut Vec<u8>) {
    let from = out.len();
    out.extend_from_slice(raw.get().as_bytes());
    for byte in &mut out[from..] {
        // Inside a JSON string both are escaped, so these stand between tokens, where a space says the same.
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Appends a comma unless the array that began at `start` (after its bracket) is still empty.
pub fn comma(start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b',');
    }
}

/// Appends the fields of an object, with commas where they belong.
#[derive(Debug)]
pub struct Object<'o> {
    pub out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    pub fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Goes on with an object that has fields already.
    pub fn resume(out: &'o mut Vec<u8>) -> Self {
        Self { out, empty: false }
    }

    /// Appends a key; the value must follow. `name` needs no escapes.
    pub fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Appends a key that came from outside; the value must follow.
    pub fn foreign_key(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        string(name, self.out);
        self.out.push(b':');
        self.out
    }

    pub fn string(&mut self, name: &str, text: &str) {
        string(text, self.key(name));
    }

    pub fn prose(&mut self, name: &str, text: &Prose<'_>) {
        text.write(self.key(name));
    }

    pub fn maybe_string(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.string(name, text);
        }
    }

    pub fn raw(&mut self, name: &str, raw: &RawValue) {
        self.key(name).extend_from_slice(raw.get().as_bytes());
    }

    pub fn maybe_raw(&mut self, name: &str, raw: Option<&RawValue>) {
        if let Some(raw) = raw {
            self.raw(name, raw);
        }
    }

    pub fn boolean(&mut self, name: &str, value: bool) {
        self.key(name)
            .extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// Appends an object, unless `write` leaves it empty.
    pub fn object(&mut self, name: &str, write: impl FnOnce(&mut Object<'_>)) {
        let (before, empty) = (self.out.len(), self.empty);
        let mut object = Object::open(self.key(name));
        write(&mut object);
        if object.empty {
            self.out.truncate(before);
            self.empty = empty;
        } else {
            object.close();
        }
    }

    pub fn integer(&mut self, name: &str, value: u64) {
        integer(value, self.key(name));
    }

    pub fn number(&mut self, name: &str, value: f64) {
        number(value, self.key(name));
    }

    pub fn close(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where_it_is() {
        let mut reader =
            Reader::of(r#"{"z":[1,{"b":"\\\"["}],"a" : [{"b":"x"},{"c":{},"b" : 7}]}"#);
        let error = reader
            .object(|r, key| match &*key {
                "a" => r.array(|r| {
                    r.object(|r, key| match &*key {
                        "b" => r.string().map(drop),
                        _ => r.raw().map(drop),
                    })
                }),
                _ => r.raw().map(drop),
            })
            .unwrap_err();
        assert_eq!(error.param.as_deref(), Some("a[1].b"));
        assert_eq!(error.message, "a[1].b should be a string");
    }

    #[test]
    fn a_missing_key_is_named_with_the_object_that_lacks_it() {
        let mut reader = Reader::of(r#"{"a":[{"b":[1,2]},{"c":{"d":1}} ]}"#);
        let error = reader
            .object(|r, _| {
                r.array(|r| {
                    let mut found = false;
                    r.object(|r, key| {
                        found |= &*key == "b";
                        r.raw().map(drop)
                    })?;
                    if found { Ok(()) } else { Err(r.missing("b")) }
                })
            })
            .unwrap_err();
        assert_eq!(error.param.as_deref(), Some("a[1].b"));
    }

    #[test]
    fn strangers_are_named_in_one_walk() {
        let mut reader = Reader::of(r#"[{"a":1,"b":null},{"c":{"d":2}, "e":"f"}]"#);
        reader
            .array(|r| {
                r.object(|r, key| match &*key {
                    "c" => r.object(|r, _| r.stranger()),
                    _ => r.stranger(),
                })
            })
            .unwrap();
        let named: Vec<_> = reader
            .strangers()
            .iter()
            .map(|(path, raw)| format!("{path}={}", raw.get()))
            .collect();
        assert_eq!(named, ["[0].a=1", "[1].c.d=2", "[1].e=\"f\""]);
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

    #[test]
    fn half_a_character_is_replaced() {
        for (text, wanted) in [
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""a\udE80b""#, "a\u{fffd}b"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\ud83d\ud83d\ude80""#, "\u{fffd}\u{1f680}"),
            (r#""\ud83dx""#, "\u{fffd}x"),
            (r#""a\n\u00e9b\udc00c\td""#, "a\n\u{e9}b\u{fffd}c\td"),
        ] {
            assert_eq!(Reader::of(text).string().unwrap(), wanted, "{text}");
            let mut written = Vec::new();
            Reader::of(text).prose().unwrap().write(&mut written);
            let read: String = serde_json::from_slice(&written).unwrap();
            assert_eq!(read, wanted, "{text}");
        }
        for text in [r#""\ud8""#, r#""\udxyz""#, r#""\x""#] {
            assert!(Reader::of(text).string().is_err(), "{text}");
            assert!(Reader::of(text).prose().is_err(), "{text}");
        }
    }

    #[test]
    fn every_character_comes_back() {
        let text: String = (0..0x3000)
            .filter_map(char::from_u32)
            .chain("\u{1f600}".chars())
            .collect();
        let mut out = Vec::new();
        string(&text, &mut out);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }

    #[test]
    fn numbers_are_written_as_short_as_they_are() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.7, "0.7"),
            (-2.0, "-2"),
            (1e300, "1e+300"),
            (-0.25, "-0.25"),
        ] {
            let mut out = Vec::new();
            number(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
        for value in [0, 9, 10, u64::MAX] {
            let mut out = Vec::new();
            integer(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
