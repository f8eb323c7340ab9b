//! Errors inside a stream whose status was a success, in the words of every provider.

use std::ops::Range;

use super::chunk::{Found, name};
use crate::codec::json::{self, Scanner};
use crate::protocol::event::FailureClass;

/// The longest message that is kept.
const MESSAGE_MOST: usize = 2000;

/// Returns the failure that an OpenAI chat chunk tells.
pub(super) fn openai(data: &[u8], found: &Found, event: &[u8]) -> Option<(FailureClass, String)> {
    if let Some(error) = &found.error {
        return Some(read(data, error.clone()));
    }
    if event == b"error" {
        return Some(read(data, 0..data.len()));
    }
    found.broken.then(|| {
        (
            FailureClass::Server,
            "The provider ended its answer with an error.".to_owned(),
        )
    })
}

/// Returns the failure that an Anthropic event of the type `kind` tells.
pub(super) fn anthropic(data: &[u8], found: &Found, kind: &[u8]) -> Option<(FailureClass, String)> {
    match &found.error {
        Some(error) => Some(read(data, error.clone())),
        None if kind == b"error" => Some(read(data, 0..data.len())),
        None => None,
    }
}

/// Reads an error object, or an error that is a mere string.
pub(in crate::protocol) fn read(data: &[u8], error: Range<usize>) -> (FailureClass, String) {
    let value = data[error.clone()].trim_ascii();
    let mut words: Vec<String> = Vec::new();
    let mut status = None;
    let mut message = json::string(value, 0..value.len()).map(std::borrow::Cow::into_owned);
    let mut scanner = Scanner::new(value, usize::MAX);
    // It was read once: it can't fail but for not being an object.
    let _ = scanner.object(|scanner, key| {
        let key = name(value, key);
        let range = scanner.skip()?;
        match &*key {
            b"message" | b"detail" => {
                message = json::string(value, range)
                    .map(std::borrow::Cow::into_owned)
                    .or(message.take())
            }
            b"type" | b"code" | b"status" | b"status_code" | b"reason" => {
                match json::string(value, range.clone()) {
                    // `"429"` is a number too.
                    Some(word) => match word.parse() {
                        Ok(number) => status = Some(number),
                        Err(_) => words.push(word.to_ascii_lowercase()),
                    },
                    None => status = json::unsigned(value, range).or(status),
                }
            }
            _ => {}
        }
        Ok(())
    });
    let message = message
        .filter(|message| !message.is_empty())
        .unwrap_or_else(|| {
            String::from_utf8_lossy(&value[..value.len().min(MESSAGE_MOST)]).into_owned()
        });
    (class(&words, status), cut(message))
}

fn class(words: &[String], status: Option<u64>) -> FailureClass {
    let has = |parts: &[&str]| {
        words
            .iter()
            .any(|word| parts.iter().any(|part| word.contains(part)))
    };
    if has(&["overloaded", "capacity", "unavailable"]) || matches!(status, Some(503 | 529)) {
        FailureClass::Overloaded
    } else if has(&[
        "rate_limit",
        "ratelimit",
        "too_many_requests",
        "insufficient_quota",
        "resource_exhausted",
    ]) || status == Some(429)
    {
        FailureClass::RateLimited
    } else if has(&["authentication", "permission", "billing", "api_key"])
        || matches!(status, Some(401..=403))
    {
        // Our own account: no fault of the request, and another target may well answer.
        FailureClass::Server
    } else if has(&[
        "invalid_request",
        "context_length",
        "content_filter",
        "not_found",
        "too_large",
        "bad_request",
        "tool_use_failed",
        "invalid_argument",
    ]) || matches!(status, Some(400..=499))
    {
        FailureClass::InvalidRequest
    } else {
        FailureClass::Server
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_MOST {
        message.truncate(message.floor_char_boundary(MESSAGE_MOST));
    }
    message
}
