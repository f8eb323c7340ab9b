//! What a token says, looked up by the names that the configuration has.

use serde_json::{Map, Value};

use crate::glob::Glob;

pub type Claims = Map<String, Value>;

/// A claim, and what it has to be: one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub claim: String,
    /// As written: patterns, in which `*` stands for anything and `?` for one character.
    pub any: Vec<String>,
}

impl Wanted {
    /// Returns whether the claims have it.
    pub fn fits(&self, claims: &Claims) -> bool {
        let Some(value) = find(claims, &self.claim) else {
            return false;
        };
        let globs: Vec<Glob> = self.any.iter().map(|pattern| Glob::new(pattern)).collect();
        let fits = |text: &str| globs.iter().any(|glob| glob.matches(text));
        let texts = texts(value);
        texts.iter().any(|text| fits(text))
            || is_scope(&self.claim)
                && texts
                    .iter()
                    .any(|text| text.split_ascii_whitespace().any(fits))
    }
}

/// Returns whether a claim is a list in one text, <https://www.rfc-editor.org/rfc/rfc8693#section-4.2>.
fn is_scope(claim: &str) -> bool {
    matches!(claim, "scope" | "scp")
}

/// Returns a claim by its name, or by the path to it (`realm_access.roles`): names of claims may hold dots too.
pub fn find<'c>(claims: &'c Claims, name: &str) -> Option<&'c Value> {
    if let Some(found) = claims.get(name) {
        return Some(found);
    }
    let (first, rest) = name.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

/// Returns what a claim says, as texts: one of a text, a number or a truth, those of a list.
pub fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Bool(truth) => vec![truth.to_string()],
        Value::Number(number) => vec![number.to_string()],
        Value::Array(list) => list
            .iter()
            .filter(|one| !one.is_array())
            .flat_map(texts)
            .collect(),
        Value::Null | Value::Object(_) => Vec::new(),
    }
}
