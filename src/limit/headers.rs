//! The `x-ratelimit-*` headers, as OpenAI writes them.

use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderName, HeaderValue};

use super::bucket::Level;

/// What a key has left, as of its last admission or refusal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateHeaders {
    pub(super) requests: Option<Level>,
    pub(super) tokens: Option<Level>,
}

const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

impl RateHeaders {
    /// Appends what goes with an answer. The values are parts of one text.
    pub fn put(&self, headers: &mut Vec<(HeaderName, HeaderValue)>) {
        if self.is_empty() {
            return;
        }
        let mut room = BytesMut::with_capacity(128);
        headers.reserve(REQUESTS.len() + TOKENS.len());
        for (name, text) in self.iter() {
            room.extend_from_slice(text.as_str().as_bytes());
            let value = HeaderValue::from_maybe_shared(room.split().freeze());
            headers.extend(value.ok().map(|value| (name, value)));
        }
    }

    /// Returns names and values; none for limits that the key doesn't have.
    pub fn iter(&self) -> impl Iterator<Item = (HeaderName, Text)> {
        let rows = [(REQUESTS, self.requests), (TOKENS, self.tokens)];
        rows.into_iter()
            .filter_map(|(names, level)| Some((names, level?)))
            .flat_map(|(names, level)| {
                let [limit, remaining, reset] = names;
                [
                    (limit, Text::number(level.limit)),
                    (remaining, Text::number(level.remaining)),
                    (reset, Text::duration(level.reset)),
                ]
            })
    }

    /// Returns of both what has less left.
    pub fn tightest(self, other: Self) -> Self {
        let less = |one: Option<Level>, other: Option<Level>| match (one, other) {
            (Some(one), Some(other)) if other.remaining < one.remaining => Some(other),
            (one, other) => one.or(other),
        };
        Self {
            requests: less(self.requests, other.requests),
            tokens: less(self.tokens, other.tokens),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_none() && self.tokens.is_none()
    }
}

/// A short header value, kept in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text {
    bytes: [u8; 31],
    len: u8,
}

impl Text {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    fn empty() -> Self {
        Self {
            bytes: [0; 31],
            len: 0,
        }
    }

    fn number(value: u64) -> Self {
        let mut text = Self::empty();
        text.push_number(value);
        text
    }

    /// Writes `12ms`, `1s`, `8.64s`, `6m0s` or `1h0m0s`, rounded up to milliseconds.
    fn duration(value: Duration) -> Self {
        let ms = u64::try_from(value.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let mut text = Self::empty();
        if ms > 0 && ms < 1000 {
            text.push_number(ms);
            text.push(b"ms");
            return text;
        }
        let seconds = ms / 1000;
        if seconds >= 3600 {
            text.push_number(seconds / 3600);
            text.push(b"h");
        }
        if seconds >= 60 {
            text.push_number(seconds / 60 % 60);
            text.push(b"m");
        }
        text.push_number(seconds % 60);
        let part = ms % 1000;
        if part > 0 {
            let digits = [part / 100, part / 10 % 10, part % 10].map(|digit| b'0' + digit as u8);
            let used = 3 - digits
                .iter()
                .rev()
                .take_while(|digit| **digit == b'0')
                .count();
            text.push(b".");
            text.push(&digits[..used]);
        }
        text.push(b"s");
        text
    }

    fn push(&mut self, bytes: &[u8]) {
        for (to, from) in self.bytes[usize::from(self.len)..].iter_mut().zip(bytes) {
            *to = *from;
            self.len += 1;
        }
    }

    fn push_number(&mut self, mut value: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        for (ns, expected) in [
            (0, "0s"),
            (1, "1ms"),
            (12_000_000, "12ms"),
            (999_000_000, "999ms"),
            (999_000_001, "1s"),
            (1_000_000_000, "1s"),
            (8_640_000_000, "8.64s"),
            (1_005_000_000, "1.005s"),
            (60_000_000_000, "1m0s"),
            (360_000_000_000, "6m0s"),
            (61_200_000_000, "1m1.2s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(
                Text::duration(Duration::from_nanos(ns)).as_str(),
                expected,
                "{ns} ns"
            );
        }
        assert_eq!(Text::number(u64::MAX).as_str(), "18446744073709551615");
        assert!(
            Text::duration(Duration::MAX).ends_with('s'),
            "the longest is not cut"
        );
    }
}
