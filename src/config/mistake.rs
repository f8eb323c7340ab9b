//! A mistake in the file: where it stands, what is wrong, and what was probably meant.

use std::path::Path;
use std::sync::Arc;

/// One thing wrong in the configuration. It names references (`env:NAME`), never the secret behind one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file as it was named, or what stands in for one.
    pub file: String,
    /// From 1; 0 when it isn't about a line.
    pub line: usize,
    /// In characters, from 1; 0 when it isn't about a line.
    pub column: usize,
    /// The dotted path: `providers.lab.endpoints[1].url`; empty when it isn't about a key.
    pub key: String,
    pub message: String,
    /// What was probably meant, ready to be written in place of what is there.
    pub suggestion: Option<String>,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " (did you mean {suggestion}?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Mistake {}

/// Where something is written; enough to say so after the text is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub file: Arc<Path>,
    pub line: usize,
    pub column: usize,
    pub key: String,
}

impl Place {
    pub fn wrong(&self, wrong: impl Into<Wrong>) -> Mistake {
        let Wrong {
            message,
            suggestion,
        } = wrong.into();
        Mistake {
            file: self.file.display().to_string(),
            line: self.line,
            column: self.column,
            key: self.key.clone(),
            message,
            suggestion,
        }
    }

    /// Returns this place under the name of a key that is missing below it.
    pub fn missing(&self, key: &str) -> Place {
        Place {
            key: dotted(&self.key, key),
            ..self.clone()
        }
    }
}

/// A value and where it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct At<T> {
    pub value: T,
    pub place: Place,
}

impl<T> At<T> {
    pub fn wrong(&self, wrong: impl Into<Wrong>) -> Mistake {
        self.place.wrong(wrong)
    }
}

/// What is wrong with a value, before it is known where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub message: String,
    pub suggestion: Option<String>,
}

impl Wrong {
    pub fn suggest(message: impl Into<String>, suggestion: Option<impl Into<String>>) -> Self {
        Self {
            message: message.into(),
            suggestion: suggestion.map(Into::into),
        }
    }

    /// Returns the mistake of a key or a value that a later version will know.
    pub fn later(what: &str) -> Self {
        format!("{what} is not supported yet").into()
    }
}

impl<S: Into<String>> From<S> for Wrong {
    fn from(message: S) -> Self {
        Self {
            message: message.into(),
            suggestion: None,
        }
    }
}

/// Returns `text` as TOML writes a string: what a suggestion offers in place of a value.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// Returns the path of `key` below `parent`, quoted where TOML would want quotes.
pub(super) fn dotted(parent: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let shown = if bare {
        key.to_string()
    } else {
        format!("{key:?}")
    };
    if parent.is_empty() {
        shown
    } else {
        format!("{parent}.{shown}")
    }
}

/// Names longer than this aren't compared: the cost is quadratic in the length.
const LONGEST_COMPARED: usize = 64;

/// Returns the candidate that `name` was probably meant to be: few edits away, or the same but for case and dashes.
pub(super) fn nearest<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let name = plain(name)?;
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let Some(other) = plain(candidate) else {
            continue;
        };
        // A third of the letters may differ: `lisen` is `listen`, but `in` is not `id`.
        let most = name.len().max(other.len()) / 3;
        let distance = edits(&name, &other);
        if distance <= most && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn plain(name: &str) -> Option<Vec<char>> {
    let plain: Vec<char> = name
        .chars()
        .map(|c| {
            if c == '-' {
                '_'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .take(LONGEST_COMPARED + 1)
        .collect();
    (plain.len() <= LONGEST_COMPARED).then_some(plain)
}

/// Returns how many letters must be inserted, deleted, replaced or swapped with their neighbour.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_few_edits_away_or_spelt_otherwise() {
        let keys = ["listen", "max_body", "threads", "in", "out"];
        assert_eq!(nearest("lisen", keys), Some("listen"), "a letter left out");
        assert_eq!(
            nearest("litsen", keys),
            Some("listen"),
            "two letters swapped"
        );
        assert_eq!(
            nearest("max-body", keys),
            Some("max_body"),
            "a dash for an underscore"
        );
        assert_eq!(nearest("MaxBody", keys), Some("max_body"), "camel case");
        assert_eq!(nearest("id", keys), None, "short names must be whole");
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(
            nearest(&"x".repeat(10_000), keys),
            None,
            "long names aren't compared"
        );
    }

    #[test]
    fn keys_are_quoted_where_toml_would_quote_them() {
        assert_eq!(dotted("providers", "lab"), "providers.lab");
        assert_eq!(dotted("models", "gpt-4.1"), "models.\"gpt-4.1\"");
        assert_eq!(dotted("", ""), "\"\"");
    }
}
