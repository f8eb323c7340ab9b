//! Google's words and the hub's: field names, finish reasons, media types, models' names.

use std::borrow::Cow;

use crate::protocol::chat::{Finish, Str};
use crate::protocol::text::Reader;

/// How many dropped fields are named.
const NOTES_MAX: usize = 64;

/// The fields that were dropped, each named once.
#[derive(Debug, Default)]
pub(super) struct Notes(pub Vec<String>);

impl Notes {
    pub fn add(&mut self, note: impl AsRef<str> + Into<String>) {
        if self.0.len() < NOTES_MAX && !self.0.iter().any(|known| known == note.as_ref()) {
            self.0.push(note.into());
        }
    }
}

/// Returns a field's name in camelCase.
pub(super) fn camel(name: &str) -> Cow<'_, str> {
    if !has_underscore(name.as_bytes()) {
        return Cow::Borrowed(name);
    }
    let mut camel = String::with_capacity(name.len());
    let mut raise = false;
    for letter in name.chars() {
        if letter == '_' {
            raise = !camel.is_empty();
        } else if std::mem::take(&mut raise) {
            camel.push(letter.to_ascii_uppercase());
        } else {
            camel.push(letter);
        }
    }
    Cow::Owned(camel)
}

/// Like a search, which is made for longer texts than names are.
fn has_underscore(name: &[u8]) -> bool {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    let (words, rest) = name.as_chunks();
    let is_in = |word: u64| word.wrapping_sub(EACH) & !word & (EACH << 7) != 0;
    words
        .iter()
        .any(|word| is_in(u64::from_le_bytes(*word) ^ (EACH * b'_' as u64)))
        || rest.contains(&b'_')
}

/// Reads a word of an enumeration; servers that write their protocol buffers plainly send its number.
pub(super) fn word<'b>(r: &mut Reader<'b>) -> crate::error::Result<Str<'b>> {
    if r.peek() == b'"' {
        return r.string();
    }
    Ok(Cow::Borrowed(r.raw()?.get()))
}

/// Returns what a finish reason means; `calls`: the answer calls functions, of which Google's `STOP` says nothing.
pub(in crate::protocol) fn finish(word: &str, calls: bool) -> Finish {
    match word {
        "STOP" | "1" if calls => Finish::ToolCalls,
        "STOP" | "1" => Finish::Stop,
        "MAX_TOKENS" | "2" => Finish::Length,
        "SAFETY"
        | "3"
        | "RECITATION"
        | "4"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => Finish::ContentFilter,
        _ => Finish::Other,
    }
}

/// Returns the finish reason that says so.
pub(super) fn finish_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence | Finish::ToolCalls => "STOP",
        Finish::Length | Finish::ContextWindow => "MAX_TOKENS",
        Finish::ContentFilter | Finish::Refusal => "SAFETY",
        Finish::Pause | Finish::Other => "OTHER",
    }
}

/// Returns the media type that an address's ending tells.
pub(super) fn guess(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let (_, ending) = file.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "md" => "text/markdown",
        "html" | "htm" => "text/html",
        "csv" => "text/csv",
        "json" => "application/json",
        "xml" => "text/xml",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "flac" => "audio/flac",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "mov" => "video/quicktime",
        "webm" => "video/webm",
        _ => return None,
    })
}

/// Which Gemini a model is, as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// Major and minor version; (0, 0) where the name does not tell.
    pub version: (u32, u32),
    pub pro: bool,
    pub lite: bool,
    /// It makes images or speech, and does not think.
    pub maker: bool,
}

const FAMILY: &[u8] = b"gemini-";

impl Kind {
    pub fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or_default();
        let family = name
            .as_bytes()
            .windows(FAMILY.len())
            .position(|word| word.eq_ignore_ascii_case(FAMILY));
        let version = family.and_then(|at| {
            let rest = name.get(at + FAMILY.len()..)?;
            let number = rest.split('-').next().unwrap_or_default();
            let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        let mut kind = Self {
            version: version.unwrap_or_default(),
            pro: false,
            lite: false,
            maker: false,
        };
        // Each rest of the name that begins with a hyphen.
        for (at, _) in name.match_indices('-') {
            let rest = &name.as_bytes()[at..];
            let begins = |word: &str| {
                let found = rest.get(..word.len());
                found.is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
            };
            kind.pro |= begins("-pro");
            kind.lite |= begins("-lite");
            kind.maker |= ["-image", "-tts", "-live", "-audio"]
                .into_iter()
                .any(begins);
            // The newest of its kind: `gemini-flash-latest`.
            if version.is_none() && family == Some(0) && rest.eq_ignore_ascii_case(b"-latest") {
                kind.version = (3, 1);
            }
        }
        kind
    }

    /// Returns whether it is of the third generation: thinking levels, checked thought signatures.
    pub fn is_third(self) -> bool {
        self.version.0 >= 3
    }

    /// Returns whether it thinks and takes a budget.
    pub fn has_budget(self) -> bool {
        self.version >= (2, 5) && !self.is_third() && !self.maker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_camel_case() {
        for (name, camel_case) in [
            ("text", "text"),
            ("top_k", "topK"),
            ("parameters_json_schema", "parametersJsonSchema"),
            ("_x", "x"),
            ("a__b_", "aB"),
            ("usage_metadata", "usageMetadata"),
            ("promptTokens_Details", "promptTokensDetails"),
            ("candidatesTokenCount", "candidatesTokenCount"),
        ] {
            assert_eq!(camel(name), camel_case);
        }
    }

    #[test]
    fn models_are_known_by_their_names() {
        let of = |model: &str| Kind::of(model).version;
        assert_eq!(of("gemini-2.5-flash-lite"), (2, 5));
        assert_eq!(of("models/gemini-3-pro-preview"), (3, 0));
        assert_eq!(of("publishers/google/models/gemini-3.1-pro"), (3, 1));
        assert_eq!(of("google/gemini-2.0-flash-001"), (2, 0));
        assert_eq!(of("gemini-flash-latest"), (3, 1));
        assert_eq!(of("Gemini-Flash-LATEST"), (3, 1));
        assert_eq!(of("my-gemini-flash-latest"), (0, 0));
        assert_eq!(of("gemma-3-27b-it"), (0, 0));
        assert_eq!(of("gemini-"), (0, 0));
        assert!(Kind::of("gemini-2.5-pro").has_budget());
        assert!(Kind::of("GEMINI-2.5-PRO").pro && !Kind::of("gemini-pro-2.5").lite);
        assert!(!Kind::of("gemini-2.5-flash-image").has_budget());
    }
}
