//! What the tap reads of one event, in one pass over its JSON. Each chunk of a stream comes by here, so nothing is
//! built and, but for odd escapes, nothing is allocated.

use std::borrow::Cow;
use std::ops::Range;

use crate::codec::json::{self, JsonError, Scanner};
use crate::protocol::chat::Finish;

/// What one event tells. Ranges are those of whole values (but for `kind`: inside its quotes).
#[derive(Debug, Default)]
pub(super) struct Found {
    pub kind: Option<Range<usize>>,
    pub model: Option<Range<usize>>,
    pub tier: Option<Range<usize>>,
    /// Where usage is told, at the top or in one of the places that providers have found for it.
    pub usage: Option<Range<usize>>,
    /// It is told at the top.
    pub has_usage: bool,
    /// `"usage": null`, with the comma that goes with it.
    pub null_usage: Option<Range<usize>>,
    pub error: Option<Range<usize>>,
    pub finish: Option<Finish>,
    /// The finish reason is a failure, without more said of it.
    pub broken: bool,
    pub choices: usize,
    /// The answer ends with this event, where the protocol says so other than by a finish reason.
    pub ends: bool,
    /// Something that the user would see.
    pub semantic: bool,
    pub chars: u64,
}

/// A `"usage": null` and its neighbours.
struct Null {
    /// Where the member before ends.
    before: Option<usize>,
    whole: Range<usize>,
    /// Where the member after begins.
    after: Option<usize>,
}

impl Null {
    /// Returns what goes when it goes: with one comma, where there is one.
    fn hole(self) -> Range<usize> {
        match (self.before, self.after) {
            (_, Some(after)) => self.whole.start..after,
            (Some(before), None) => before..self.whole.end,
            (None, None) => self.whole,
        }
    }
}

/// Deeper than any provider writes.
const DEPTH: usize = 512;

/// Reads an OpenAI chat chunk.
pub(super) fn openai(data: &[u8]) -> Result<Found, JsonError> {
    let mut found = Found::default();
    let mut elsewhere = None;
    let mut before: Option<usize> = None;
    let mut null: Option<Null> = None;
    let mut scanner = Scanner::new(data, DEPTH);
    scanner.object(|scanner, key| {
        let start = key.start - 1;
        if let Some(null) = &mut null {
            null.after.get_or_insert(start);
        }
        let end = match &*name(data, key) {
            b"choices" if scanner.peek() == Some(b'[') => {
                scanner.array(|scanner| {
                    found.choices += 1;
                    choice(data, scanner, &mut found, &mut elsewhere)
                })?;
                scanner.at()
            }
            b"usage" => {
                let value = scanner.skip()?;
                let end = value.end;
                match data[value.start] {
                    b'{' => {
                        found.usage = Some(value);
                        found.has_usage = true;
                    }
                    b'n' => {
                        null = Some(Null {
                            before,
                            whole: start..end,
                            after: None,
                        });
                    }
                    _ => {}
                }
                end
            }
            b"x_groq" if scanner.peek() == Some(b'{') => {
                scanner.object(|scanner, key| {
                    let is_usage = &*name(data, key) == b"usage";
                    let value = scanner.skip()?;
                    if is_usage && data[value.start] == b'{' {
                        elsewhere = Some(value);
                    }
                    Ok(())
                })?;
                scanner.at()
            }
            b"error" => take(scanner, &mut found.error)?,
            b"model" => take(scanner, &mut found.model)?,
            b"service_tier" => take(scanner, &mut found.tier)?,
            _ => scanner.skip()?.end,
        };
        before = Some(end);
        Ok(())
    })?;
    scanner.end()?;
    found.null_usage = null.map(Null::hole);
    found.usage = found.usage.or(elsewhere);
    found.error = found.error.filter(|error| told(&data[error.clone()]));
    Ok(found)
}

/// Reads an Anthropic event.
pub(super) fn anthropic(data: &[u8]) -> Result<Found, JsonError> {
    let mut found = Found::default();
    let mut scanner = Scanner::new(data, DEPTH);
    scanner.object(|scanner, key| {
        match &*name(data, key) {
            b"type" => {
                let value = scanner.skip()?;
                found.kind = (data[value.start] == b'"').then(|| value.start + 1..value.end - 1);
            }
            b"message" if scanner.peek() == Some(b'{') => scanner.object(|scanner, key| {
                match &*name(data, key) {
                    b"model" => take(scanner, &mut found.model)?,
                    b"usage" => take(scanner, &mut found.usage)?,
                    _ => scanner.skip()?.end,
                };
                Ok(())
            })?,
            b"delta" if scanner.peek() == Some(b'{') => scanner.object(|scanner, key| {
                match &*name(data, key) {
                    b"text" | b"thinking" | b"partial_json" => {
                        found.chars += said(data, scanner)? as u64
                    }
                    b"stop_reason" => {
                        let value = scanner.skip()?;
                        found.finish =
                            json::string(data, value).and_then(|reason| stop_reason(&reason));
                    }
                    _ => scanner.pass()?,
                }
                Ok(())
            })?,
            b"content_block" if scanner.peek() == Some(b'{') => {
                block_start(data, scanner, &mut found)?
            }
            b"usage" => {
                take(scanner, &mut found.usage)?;
            }
            b"error" => {
                take(scanner, &mut found.error)?;
            }
            _ => scanner.pass()?,
        }
        Ok(())
    })?;
    scanner.end()?;
    found.error = found.error.filter(|error| told(&data[error.clone()]));
    Ok(found)
}

/// Reads a block that begins. An empty one of text or thought says nothing yet; its first delta does.
fn block_start(data: &[u8], scanner: &mut Scanner<'_>, found: &mut Found) -> Result<(), JsonError> {
    let mut waits = false;
    let mut length = 0;
    scanner.object(|scanner, key| {
        match &*name(data, key) {
            b"type" => waits = matches!(&data[scanner.skip()?], b"\"text\"" | b"\"thinking\""),
            b"text" | b"thinking" => length += said(data, scanner)?,
            _ => scanner.pass()?,
        }
        Ok(())
    })?;
    found.chars += length as u64;
    found.semantic |= !waits || length > 0;
    Ok(())
}

/// Reads OpenAI's `finish_reason` in the words of everyone who copied it.
pub(super) fn finish_reason(reason: &str) -> Option<Finish> {
    Some(match reason {
        // Some send it empty until the end.
        "" => return None,
        "stop" | "eos" | "end_turn" => Finish::Stop,
        "length" | "max_tokens" | "model_length" => Finish::Length,
        "tool_calls" | "function_call" | "tool_use" => Finish::ToolCalls,
        "content_filter" | "sensitive" => Finish::ContentFilter,
        _ => Finish::Other,
    })
}

/// Reads Anthropic's `stop_reason`.
pub(super) fn stop_reason(reason: &str) -> Option<Finish> {
    Some(match reason {
        "" => return None,
        "end_turn" => Finish::Stop,
        "stop_sequence" => Finish::StopSequence,
        "max_tokens" => Finish::Length,
        "tool_use" => Finish::ToolCalls,
        "pause_turn" => Finish::Pause,
        "refusal" => Finish::Refusal,
        "model_context_window_exceeded" => Finish::ContextWindow,
        _ => Finish::Other,
    })
}

/// Whether a finish reason means that the provider failed.
pub(super) fn is_broken(reason: &str) -> bool {
    matches!(reason, "error" | "network_error")
}

/// Returns a key as it is compared: raw, or decoded where it has escapes.
pub(super) fn name(data: &[u8], key: Range<usize>) -> Cow<'_, [u8]> {
    let raw = &data[key.clone()];
    if raw.contains(&b'\\') {
        let decoded = json::unescape(data, key).unwrap_or_default();
        return Cow::Owned(decoded.into_owned().into_bytes());
    }
    Cow::Borrowed(raw)
}

/// Whether an `error` says that there is one.
pub(super) fn told(value: &[u8]) -> bool {
    !matches!(value, b"null" | b"false" | b"\"\"" | b"{}" | b"[]")
}

fn take(scanner: &mut Scanner<'_>, place: &mut Option<Range<usize>>) -> Result<usize, JsonError> {
    let value = scanner.skip()?;
    let end = value.end;
    *place = Some(value);
    Ok(end)
}

fn choice(
    data: &[u8],
    scanner: &mut Scanner<'_>,
    found: &mut Found,
    elsewhere: &mut Option<Range<usize>>,
) -> Result<(), JsonError> {
    if scanner.peek() != Some(b'{') {
        return scanner.pass();
    }
    scanner.object(|scanner, key| {
        match &*name(data, key) {
            b"delta" if scanner.peek() == Some(b'{') => delta(data, scanner, found)?,
            b"finish_reason" => {
                let value = scanner.skip()?;
                if let Some(reason) = json::string(data, value) {
                    found.broken |= is_broken(&reason);
                    found.finish = finish_reason(&reason).or(found.finish);
                    found.semantic |= !reason.is_empty();
                }
            }
            b"usage" => {
                let value = scanner.skip()?;
                if data[value.start] == b'{' {
                    *elsewhere = Some(value);
                }
            }
            b"error" => {
                let value = scanner.skip()?;
                if told(&data[value.clone()]) && found.error.is_none() {
                    found.error = Some(value);
                }
            }
            _ => scanner.pass()?,
        }
        Ok(())
    })
}

fn delta(data: &[u8], scanner: &mut Scanner<'_>, found: &mut Found) -> Result<(), JsonError> {
    // The same thought under two names counts once.
    let mut thought = 0;
    scanner.object(|scanner, key| {
        match &*name(data, key) {
            b"content" | b"refusal" => {
                let length = said(data, scanner)?;
                found.semantic |= length > 0;
                found.chars += length as u64;
            }
            b"reasoning" | b"reasoning_content" => {
                let length = said(data, scanner)?;
                found.semantic |= length > 0;
                thought = thought.max(length);
            }
            b"tool_calls" if scanner.peek() == Some(b'[') => scanner.array(|scanner| {
                found.semantic = true;
                call(data, scanner, found)
            })?,
            b"function_call" if scanner.peek() == Some(b'{') => {
                found.semantic = true;
                function(data, scanner, found)?;
            }
            b"reasoning_details" | b"audio" | b"images" => {
                let value = scanner.skip()?;
                found.semantic |= told(&data[value]);
            }
            _ => scanner.pass()?,
        }
        Ok(())
    })?;
    found.chars += thought as u64;
    Ok(())
}

fn call(data: &[u8], scanner: &mut Scanner<'_>, found: &mut Found) -> Result<(), JsonError> {
    if scanner.peek() != Some(b'{') {
        return scanner.pass();
    }
    scanner.object(|scanner, key| match &*name(data, key) {
        b"function" | b"custom" if scanner.peek() == Some(b'{') => function(data, scanner, found),
        _ => scanner.pass(),
    })
}

fn function(data: &[u8], scanner: &mut Scanner<'_>, found: &mut Found) -> Result<(), JsonError> {
    scanner.object(|scanner, key| {
        match &*name(data, key) {
            b"arguments" | b"input" => found.chars += said(data, scanner)? as u64,
            _ => scanner.pass()?,
        }
        Ok(())
    })
}

/// Reads text, or blocks of it (Mistral's thinking comes as `[{"type": "thinking", "thinking": [{"text": …}]}]`), and
/// returns its length.
fn said(data: &[u8], scanner: &mut Scanner<'_>) -> Result<usize, JsonError> {
    let value = scanner.skip()?;
    Ok(match data[value.start] {
        b'"' => json::decoded_len(&data[value.start + 1..value.end - 1]),
        b'[' => blocks(&data[value]),
        _ => 0,
    })
}

/// Returns the length of all strings named `text` or `thinking`, at most two levels of blocks deep; at least 1
/// where there is any block.
fn blocks(array: &[u8]) -> usize {
    let mut length = 0;
    let mut count = 0;
    let mut scanner = Scanner::new(array, DEPTH);
    let read = scanner.array(|scanner| {
        count += 1;
        block(array, scanner, &mut length, 1)
    });
    if read.is_err() {
        0
    } else {
        length.max(count.min(1))
    }
}

fn block(
    data: &[u8],
    scanner: &mut Scanner<'_>,
    length: &mut usize,
    levels: usize,
) -> Result<(), JsonError> {
    if scanner.peek() != Some(b'{') {
        return scanner.pass();
    }
    scanner.object(|scanner, key| {
        let is_text = matches!(&*name(data, key), b"text" | b"thinking");
        match scanner.peek() {
            Some(b'[') if is_text && levels > 0 => {
                scanner.array(|scanner| block(data, scanner, length, levels - 1))
            }
            Some(b'"') if is_text => {
                let value = scanner.skip()?;
                *length += json::decoded_len(&data[value.start + 1..value.end - 1]);
                Ok(())
            }
            Some(_) | None => scanner.pass(),
        }
    })
}
