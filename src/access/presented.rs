//! The key that a request shows, wherever its client puts it.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::error::{Error, Kind, Result};
use crate::jwt;

/// Longer keys are refused unread, but for tokens that others have signed. Ours are far shorter, and nobody shall make us
/// hash megabytes.
const LONGEST: usize = 512;

/// Headers that hold a bare key, in order of precedence after `authorization`.
const HEADERS: [&str; 3] = ["x-api-key", "api-key", "x-goog-api-key"];

/// OpenAI's way to show a key where only a sub-protocol can be named.
const SOCKET_KEY: &[u8] = b"openai-insecure-api-key.";

/// Returns the key that a request shows.
///
/// The first that is not empty counts, in this order: `authorization: Bearer`, `x-api-key` (Anthropic), `api-key`
/// (Azure), `x-goog-api-key` (Gemini), with `allow_query` `?key=` (Gemini), and the sub-protocol of a WebSocket
/// (OpenAI). A request signed for AWS shows its access key id. Clients may send two at once
/// (Claude Code does); the others are not looked at. Another scheme than `Bearer` is no key.
///
/// Errors: `InvalidKey` when it is too long or not printable ASCII.
pub fn presented<'r>(
    headers: &'r HeaderMap,
    query: Option<&'r str>,
    allow_query: bool,
) -> Result<Option<Cow<'r, str>>> {
    for value in headers.get_all(AUTHORIZATION) {
        if let Some(key) = bearer(value.as_bytes()).or_else(|| signed(value.as_bytes()))
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
    if let Some(key) = from_query_if(query, allow_query)? {
        return Ok(Some(key));
    }
    // A browser can set no other header on a WebSocket.
    for value in headers.get_all("sec-websocket-protocol") {
        let names = value.as_bytes().split(|byte| *byte == b',');
        let mut keys = names.filter_map(|name| name.trim_ascii().strip_prefix(SOCKET_KEY));
        if let Some(key) = keys.next() {
            return checked(key).map(Some);
        }
    }
    Ok(None)
}

fn from_query_if(query: Option<&str>, allow: bool) -> Result<Option<Cow<'_, str>>> {
    match query {
        Some(query) if allow => from_query(query),
        Some(_) | None => Ok(None),
    }
}

/// Returns the access key id of a request signed as AWS's are: clients of Bedrock show the gateway's key there. The
/// signature proves nothing here and is not looked at; the id is the secret.
fn signed(value: &[u8]) -> Option<&[u8]> {
    let rest = value
        .trim_ascii()
        .strip_prefix(b"AWS4-HMAC-SHA256 ")?
        .trim_ascii_start()
        .strip_prefix(b"Credential=")?;
    rest.split(|byte| *byte == b'/').next()
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
    let most = match key.starts_with(b"eyJ") {
        true => jwt::LONGEST,
        false => LONGEST,
    };
    if key.len() > most {
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
    if key.len() > 3 * jwt::LONGEST {
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

#[cfg(test)]
mod tests {

    use http::HeaderValue;

    use super::*;

    fn shown(headers: &[(&'static str, &str)], query: Option<&str>) -> Result<Option<String>> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        presented(&map, query, true).map(|key| key.map(Cow::into_owned))
    }

    #[test]
    fn keys_of_sockets_and_of_signed_requests_are_found() {
        let find = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a header value"));
            presented(&headers, None, false)
                .expect("a fit key")
                .map(Cow::into_owned)
        };
        assert_eq!(
            find(
                "sec-websocket-protocol",
                "realtime, openai-insecure-api-key.sk-1, x"
            ),
            Some("sk-1".to_owned())
        );
        assert_eq!(
            find(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=sk-2/20260101/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=00"
            ),
            Some("sk-2".to_owned())
        );
        assert_eq!(find("sec-websocket-protocol", "realtime"), None);
    }

    #[test]
    fn a_key_is_found_wherever_its_client_puts_it() {
        for (headers, query, expected) in [
            (&[("authorization", "Bearer sk-1")][..], None, Some("sk-1")),
            (&[("authorization", "bEARER   sk-1 ")], None, Some("sk-1")),
            (&[("x-api-key", "sk-2")], None, Some("sk-2")),
            (&[("x-goog-api-key", "sk-3")], None, Some("sk-3")),
            (&[("api-key", " sk-4")], None, Some("sk-4")),
            (&[], Some("alt=sse&key=sk-5"), Some("sk-5")),
            (&[], Some("key=sk%2d6"), Some("sk-6")),
            (&[], Some("monkey=sk-5"), None),
            (&[], Some("key="), None),
            (&[("authorization", "Basic c2s6MQ==")], None, None),
            (&[("authorization", "Bearersk-1")], None, None),
            (&[("authorization", "Bearer")], None, None),
            (&[("authorization", "B")], None, None),
            (&[("x-api-key", "")], None, None),
            (&[], None, None),
        ] {
            assert_eq!(
                shown(headers, query).unwrap().as_deref(),
                expected,
                "{headers:?} {query:?}"
            );
        }
    }

    #[test]
    fn of_several_keys_the_first_that_is_not_empty_counts() {
        for (headers, query, expected) in [
            (
                &[("x-api-key", "b"), ("authorization", "Bearer a")][..],
                None,
                "a",
            ),
            (
                &[("x-api-key", "b"), ("authorization", "Bearer ")],
                None,
                "b",
            ),
            (
                &[("x-api-key", "b"), ("authorization", "Basic x")],
                None,
                "b",
            ),
            (&[("x-goog-api-key", "d"), ("api-key", "c")], None, "c"),
            (&[("x-api-key", ""), ("x-api-key", "b")], None, "b"),
            (&[("x-goog-api-key", "d")], Some("key=e"), "d"),
        ] {
            assert_eq!(
                shown(headers, query).unwrap().as_deref(),
                Some(expected),
                "{headers:?} {query:?}"
            );
        }
    }

    #[test]
    fn the_query_is_read_only_where_it_is_allowed() {
        assert_eq!(
            presented(&HeaderMap::new(), Some("key=a"), false).unwrap(),
            None
        );
    }

    #[test]
    fn absurd_keys_are_refused_before_they_are_hashed() {
        let (fits, long) = ("k".repeat(512), "k".repeat(513));
        assert_eq!(
            shown(&[("x-api-key", &fits)], None).unwrap(),
            Some(fits.clone())
        );
        for (header, query) in [
            (Some(("x-api-key", long.clone())), None),
            (Some(("authorization", format!("Bearer {long}"))), None),
            (Some(("x-api-key", "two words".to_owned())), None),
            (Some(("x-api-key", "ключ".to_owned())), None),
            (None, Some(format!("key={long}"))),
            (None, Some(format!("key={}", "%41".repeat(513)))),
            (None, Some("key=a%00b".to_owned())),
            (None, Some("key=a%ff".to_owned())),
        ] {
            let headers: Vec<_> = header
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let error = shown(&headers, query.as_deref()).unwrap_err();
            assert_eq!(error.kind, Kind::InvalidKey, "{header:?} {query:?}");
        }
    }

    #[test]
    fn broken_escapes_are_left_alone() {
        for (query, expected) in [
            ("key=a%", "a%"),
            ("key=a%4", "a%4"),
            ("key=%zz", "%zz"),
            ("key=%41%4", "A%4"),
        ] {
            assert_eq!(shown(&[], Some(query)).unwrap().as_deref(), Some(expected));
        }
    }
}
