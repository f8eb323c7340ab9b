//! The key that a request shows, wherever its client puts it.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::error::{Error, Kind, Result};

/// Longer keys are refused unread. Ours are far shorter, and nobody shall make us hash megabytes.
const LONGEST: usize = 512;

/// Headers that hold a bare key, in order of precedence after `authorization`.
const HEADERS: [&str; 3] = ["x-api-key", "api-key", "x-goog-api-key"];

/// Returns the key that a request shows.
///
/// The first that is not empty counts, in this order: `authorization: Bearer`, `x-api-key` (Anthropic), `api-key`
/// (Azure), `x-goog-api-key` (Gemini), and, with `allow_query`, `?key=` (Gemini). Clients may send two at once
/// (Claude Code does); the others are not looked at. Another scheme than `Bearer` is no key.
///
/// Errors: `InvalidKey` when it is too long or not printable ASCII.
pub fn presented<'r>(
    headers: &'r HeaderMap,
    query: Option<&'r str>,
    allow_query: bool,
) -> Result<Option<Cow<'r, str>>> {
    for value in headers.get_all(AUTHORIZATION) {
        if let Some(key) = bearer(value.as_bytes())
            && !key.is_empty()
        {
            return checked(key).map(Some);
        }
    }
    for name in HEADERS {
        for value in headers.get_all(name) {
            let key = value.as_bytes().trim_ascii();
            if !key.is_empty() {
                return checked(key).map(Some);
            }
        }
    }
    match query {
        Some(query) if allow_query => from_query(query),
        Some(_) | None => Ok(None),
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.trim_ascii().split_at_checked("bearer".len())?;
    if !scheme.eq_ignore_ascii_case(b"bearer")
        || key.first().is_some_and(|byte| !byte.is_ascii_whitespace())
    {
        return None;
    }
    Some(key.trim_ascii())
}

fn checked(key: &[u8]) -> Result<Cow<'_, str>> {
    if key.len() > LONGEST {
        return Err(Error::new(Kind::InvalidKey, "The API key is too long."));
    }
    match std::str::from_utf8(key) {
        Ok(text) if key.iter().all(u8::is_ascii_graphic) => Ok(Cow::Borrowed(text)),
        Ok(_) | Err(_) => Err(Error::new(
            Kind::InvalidKey,
            "The API key holds characters that no key has.",
        )),
    }
}

fn from_query(query: &str) -> Result<Option<Cow<'_, str>>> {
    let found = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("key=").filter(|key| !key.is_empty()));
    let Some(key) = found else { return Ok(None) };
    // Three bytes for one at most.
    if key.len() > 3 * LONGEST {
        return Err(Error::new(Kind::InvalidKey, "The API key is too long."));
    }
    if !key.contains(['%', '+']) {
        return checked(key.as_bytes()).map(Some);
    }
    let decoded = decode(key.as_bytes());
    Ok(Some(Cow::Owned(checked(&decoded)?.into_owned())))
}

/// Decodes percent escapes; a broken one stays as it is, and the key will not be found.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let escape = match byte {
            b'%' => text
                .get(at + 1)
                .and_then(|high| Some(hex(*high)? << 4 | hex(*text.get(at + 2)?)?)),
            _ => None,
        };
        match escape {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(if *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}
