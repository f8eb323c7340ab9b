//! Text of a message: kept as it stood in the body until somebody reads it.
//!
//! Most text is only moved from one body into another. Its escapes mean the same in every JSON, so they are undone when
//! a protocol has to look at the text, and not before.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::OnceLock;

use super::chat::Str;
use super::text;
use crate::codec::json;

/// Text, read or still inside JSON.
#[derive(Debug, Clone)]
pub struct Prose<'b>(Form<'b>);

#[derive(Debug, Clone)]
enum Form<'b> {
    Read(Str<'b>),
    /// What stood between the quotes of a JSON string: it has an escape, and every escape in it is whole.
    Json {
        inside: &'b str,
        read: OnceLock<String>,
    },
}

impl<'b> Prose<'b> {
    /// Takes what stands between the quotes of a JSON string. The caller has seen that every escape in it is whole.
    pub(super) fn of_json(inside: &'b str) -> Self {
        Self(Form::Json {
            inside,
            read: OnceLock::new(),
        })
    }

    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Form::Read(text) => text.is_empty(),
            Form::Json { .. } => false,
        }
    }

    /// Returns about how many bytes it takes, in JSON or out of it, without reading it.
    pub fn size(&self) -> usize {
        match &self.0 {
            Form::Read(text) => text.len(),
            Form::Json { inside, .. } => inside.len(),
        }
    }

    /// Returns how many bytes of UTF-8 it is, without reading it.
    pub fn length(&self) -> usize {
        match &self.0 {
            Form::Read(text) => text.len(),
            Form::Json { inside, read } => match read.get() {
                Some(text) => text.len(),
                None => json::decoded_len(inside.as_bytes()),
            },
        }
    }

    /// Returns whether it is nothing but white space.
    pub fn is_blank(&self) -> bool {
        match &self.0 {
            Form::Json { inside, .. }
                if inside.starts_with(|c: char| c != '\\' && !c.is_whitespace()) =>
            {
                false
            }
            Form::Read(_) | Form::Json { .. } => self.trim().is_empty(),
        }
    }

    /// Returns the same text, borrowed.
    pub fn lend(&self) -> Prose<'_> {
        match &self.0 {
            Form::Read(text) => Prose::from(&**text),
            Form::Json { inside, .. } => Prose::of_json(inside),
        }
    }

    /// Appends more text.
    pub fn push_str(&mut self, more: &str) {
        let mut text = std::mem::take(self).into_str();
        text.to_mut().push_str(more);
        *self = Self::from(text);
    }

    pub fn into_str(self) -> Str<'b> {
        match self.0 {
            Form::Read(text) => text,
            Form::Json { inside, read } => {
                Cow::Owned(read.into_inner().unwrap_or_else(|| unescaped(inside)))
            }
        }
    }

    /// Appends it as a JSON string.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        match &self.0 {
            Form::Read(read) => text::escaped(read, out),
            Form::Json { inside, .. } => out.extend_from_slice(inside.as_bytes()),
        }
        out.push(b'"');
    }
}

/// Undoes the escapes, all of which are whole.
fn unescaped(inside: &str) -> String {
    let bytes = inside.as_bytes();
    let mut out = String::with_capacity(inside.len());
    let mut from = 0;
    loop {
        let at = json::clean(bytes, from);
        out.push_str(&inside[from..at]);
        let Some((character, length)) = bytes.get(at..).and_then(json::escape) else {
            return out;
        };
        out.push(character);
        from = at + length;
    }
}

impl Deref for Prose<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Form::Read(text) => text,
            Form::Json { inside, read } => read.get_or_init(|| unescaped(inside)),
        }
    }
}

impl Default for Prose<'_> {
    fn default() -> Self {
        Self::from("")
    }
}

impl<'b> From<Str<'b>> for Prose<'b> {
    fn from(text: Str<'b>) -> Self {
        Self(Form::Read(text))
    }
}

impl<'b> From<&'b str> for Prose<'b> {
    fn from(text: &'b str) -> Self {
        Self(Form::Read(Cow::Borrowed(text)))
    }
}

impl From<String> for Prose<'_> {
    fn from(text: String) -> Self {
        Self(Form::Read(Cow::Owned(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_in_json_is_written_as_it_stood_and_read_as_it_is_meant() {
        let inside = r#"He said \"no\",\nthen\tleft: \u00e9\/\ud83d\ude00."#;
        let prose = Prose::of_json(inside);
        let mut out = Vec::new();
        prose.write(&mut out);
        assert_eq!(out, format!("\"{inside}\"").into_bytes());
        let meant = "He said \"no\",\nthen\tleft: é/😀.";
        assert_eq!(prose.length(), meant.len());
        assert_eq!(&*prose, meant);
        assert_eq!(prose.length(), meant.len());
        assert_eq!(prose.clone().into_str(), meant);
        assert_eq!(Prose::of_json(inside).into_str(), meant);
    }

    #[test]
    fn blank_is_blank_in_either_form() {
        for (inside, blank) in [
            (r"\n\t ", true),
            (r" \u00a0", true),
            (r"\na", false),
            (r"a\n", false),
        ] {
            assert_eq!(Prose::of_json(inside).is_blank(), blank, "{inside}");
            let read = Prose::of_json(inside).into_str().into_owned();
            assert_eq!(Prose::from(read).is_blank(), blank, "{inside}");
        }
        assert!(Prose::default().is_blank() && Prose::default().is_empty());
    }
}
