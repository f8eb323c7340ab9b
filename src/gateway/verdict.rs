//! What a failed attempt means: who is to blame, whether to ask again, and when.
//!
//! What is retryable stands in this file alone.

use std::time::Duration;

use http::HeaderMap;

use crate::protocol::event::FailureClass;
use crate::routing::Blame;
use crate::upstream::{Failure, Stage};

/// What to do after an attempt that brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ask the same target again, by another credential or at another address where there is one.
    Retry,
    /// Go to the next target; this one would say the same.
    Next,
    /// The request is at fault: the client gets this answer.
    Fail,
    /// The provider doesn't take opaque blobs that another made: ask it again without them, once.
    Strip,
}

/// A verdict and whom it is held against; nobody when the request is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub blame: Option<Blame>,
    /// The client must not see it as its own: our credential or account failed.
    pub account: bool,
}

const fn judge(verdict: Verdict, blame: Option<Blame>) -> Judgement {
    Judgement {
        verdict,
        blame,
        account: false,
    }
}

/// What providers say of signatures and encrypted reasoning that are not theirs: Anthropic, OpenAI, Google.
const FOREIGN_BLOB: [&[u8]; 5] = [
    b"Invalid `signature` in `thinking` block",
    b"Invalid `data` in `redacted_thinking` block",
    b"invalid_encrypted_content",
    b"Invalid thought signature",
    b"Thought signature is not valid",
];

/// Judges an upstream's error status. `body` is its beginning, for providers that put the reason there alone.
pub fn of_status(status: u16, body: &[u8]) -> Judgement {
    let says = |needle: &[u8]| memchr::memmem::find(body, needle).is_some();
    match status {
        401 | 403 => Judgement {
            verdict: Verdict::Retry,
            blame: Some(Blame::Credential),
            account: true,
        },
        // DeepSeek, OpenRouter and others: no credit left.
        402 => Judgement {
            verdict: Verdict::Retry,
            blame: Some(Blame::Credential),
            account: true,
        },
        // OpenAI says so of an account without credit; waiting doesn't help.
        429 if says(b"insufficient_quota") => Judgement {
            verdict: Verdict::Retry,
            blame: Some(Blame::Credential),
            account: true,
        },
        // Anthropic says so with a 400.
        400 if says(b"credit balance is too low") => Judgement {
            verdict: Verdict::Retry,
            blame: Some(Blame::Credential),
            account: true,
        },
        400 if FOREIGN_BLOB.iter().any(|words| says(words)) => judge(Verdict::Strip, None),
        429 => judge(Verdict::Retry, Some(Blame::Quota)),
        404 => judge(Verdict::Next, Some(Blame::Model)),
        408 | 409 | 425 => judge(Verdict::Retry, None),
        500..=599 => judge(Verdict::Retry, Some(Blame::Serving)),
        // A redirect is never followed: the credential would go with it.
        300..=399 => judge(Verdict::Next, Some(Blame::Endpoint)),
        _ => judge(Verdict::Fail, None),
    }
}

/// Judges a failure on the wire.
pub fn of_failure(failure: &Failure) -> Judgement {
    match failure.stage {
        Stage::Resolve | Stage::Connect | Stage::Tls => {
            judge(Verdict::Retry, Some(Blame::Endpoint))
        }
        Stage::Send | Stage::Head | Stage::Body => judge(Verdict::Retry, Some(Blame::Serving)),
    }
}

/// Judges an error that came inside a 200, before anything was said.
pub fn of_event(class: FailureClass) -> Judgement {
    match class {
        FailureClass::InvalidRequest => judge(Verdict::Fail, None),
        FailureClass::RateLimited => judge(Verdict::Retry, Some(Blame::Quota)),
        FailureClass::Overloaded
        | FailureClass::Server
        | FailureClass::Garbage
        | FailureClass::Cut => judge(Verdict::Retry, Some(Blame::Serving)),
    }
}

/// Returns the HTTP status that stands for an error event inside a stream.
pub fn event_status(class: FailureClass) -> u16 {
    match class {
        FailureClass::InvalidRequest => 400,
        FailureClass::RateLimited => 429,
        FailureClass::Overloaded => 503,
        FailureClass::Server | FailureClass::Garbage | FailureClass::Cut => 502,
    }
}

/// Returns the provider's own "not before", from whichever of the known headers (or Gemini's body) says it.
///
/// `retry-after-ms` and `retry-after` (seconds or an HTTP date) are asked first; the reset headers count only
/// where the matching `remaining` is 0, because providers send them with every answer.
pub fn retry_after(headers: &HeaderMap, body: &[u8], now: jiff::Timestamp) -> Option<Duration> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    if let Some(millis) = text("retry-after-ms").and_then(|value| value.parse::<f64>().ok()) {
        return seconds(millis / 1000.0);
    }
    if let Some(value) = text("retry-after") {
        let wait = of_header(value, now);
        if wait.is_some() || value.parse::<f64>().is_ok() {
            return wait;
        }
    }
    let mut longest = None;
    for kind in ["requests", "tokens"] {
        if text(&format!("x-ratelimit-remaining-{kind}")) == Some("0") {
            longest = longest.max(text(&format!("x-ratelimit-reset-{kind}")).and_then(span));
        }
    }
    for kind in ["requests", "tokens", "input-tokens", "output-tokens"] {
        if text(&format!("anthropic-ratelimit-{kind}-remaining")) == Some("0") {
            let reset = text(&format!("anthropic-ratelimit-{kind}-reset"));
            let at = reset.and_then(|reset| reset.parse::<jiff::Timestamp>().ok());
            longest = longest.max(at.map(|at| until(at, now)));
        }
    }
    longest.or_else(|| retry_delay(body))
}

/// Reads `retry-after`: seconds or an HTTP date.
pub fn of_header(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Ok(number) = value.parse::<f64>() {
        return seconds(number);
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    Some(until(date.timestamp(), now))
}

pub(super) fn until(at: jiff::Timestamp, now: jiff::Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

pub(super) fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|wait| *wait <= Duration::from_secs(30 * 86_400))
}

/// Reads OpenAI's reset times: `6m0s`, `1h2m`, `12ms`, `1.5s`.
pub(super) fn span(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    seconds(total)
}

/// Reads Gemini's `"retryDelay": "17s"` from an error body.
fn retry_delay(body: &[u8]) -> Option<Duration> {
    let at = memchr::memmem::find(body, b"\"retryDelay\"")?;
    let rest = std::str::from_utf8(&body[at + 12..body.len().min(at + 64)]).ok()?;
    let value = rest.split('"').nth(1)?;
    span(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn now() -> jiff::Timestamp {
        "2026-11-25T12:00:00Z".parse().expect("a time")
    }

    fn wait(pairs: &[(&'static str, &'static str)], body: &str) -> Option<f64> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        retry_after(&headers, body.as_bytes(), now()).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn every_way_to_say_not_before_is_read() {
        assert_eq!(wait(&[("retry-after", "7")], ""), Some(7.0));
        assert_eq!(
            wait(&[("retry-after-ms", "250"), ("retry-after", "1")], ""),
            Some(0.25)
        );
        assert_eq!(
            wait(&[("retry-after", "Wed, 25 Nov 2026 12:00:30 GMT")], ""),
            Some(30.0)
        );
        assert_eq!(
            wait(
                &[
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "6m0s")
                ],
                ""
            ),
            Some(360.0)
        );
        assert_eq!(
            wait(
                &[
                    ("x-ratelimit-remaining-tokens", "9"),
                    ("x-ratelimit-reset-tokens", "6m0s")
                ],
                ""
            ),
            None
        );
        let anthropic = [
            ("anthropic-ratelimit-tokens-remaining", "0"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-25T12:00:05Z"),
        ];
        assert_eq!(wait(&anthropic, ""), Some(5.0));
        assert_eq!(
            wait(&[], r#"{"error":{"details":[{"retryDelay": "17s"}]}}"#),
            Some(17.0)
        );
        assert_eq!(wait(&[], "{}"), None);
    }

    #[test]
    fn nonsense_waits_are_ignored() {
        for value in ["-1", "NaN", "1e300", "soon", ""] {
            let mut headers = HeaderMap::new();
            headers.insert(
                "retry-after",
                HeaderValue::from_str(value).expect("a header value"),
            );
            assert_eq!(retry_after(&headers, b"", now()), None, "{value}");
        }
        for text in ["s", "5", "5x", "..s", "m5"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn the_table_blames_the_right_one() {
        assert_eq!(of_status(401, b"").blame, Some(Blame::Credential));
        assert_eq!(of_status(429, b"").blame, Some(Blame::Quota));
        assert_eq!(
            of_status(429, br#"{"code":"insufficient_quota"}"#).blame,
            Some(Blame::Credential)
        );
        assert_eq!(of_status(529, b"").blame, Some(Blame::Serving));
        assert_eq!(
            of_status(404, b""),
            judge(Verdict::Next, Some(Blame::Model))
        );
        for status in [400, 413, 415, 422] {
            assert_eq!(
                of_status(status, b""),
                judge(Verdict::Fail, None),
                "{status}"
            );
        }
    }
}
