//! What the tap reads of a stream of legacy completions and of a whole answer.

use std::ops::Range;

use super::chunk::{Found, finish_reason, is_broken, name, told};
use super::whole::Whole;
use crate::codec::json::{self, JsonError, Scanner};
use crate::protocol::chat::Finish;
use crate::protocol::usage::Usage;

/// Deeper than any provider writes.
const DEPTH: usize = 512;

/// Reads one chunk of a stream.
pub(super) fn chunk(data: &[u8]) -> Result<Found, JsonError> {
    Ok(read(data)?.0)
}

/// Reads a whole answer: sets what it tells, and returns where its model's name is.
pub(super) fn whole(body: &[u8], whole: &mut Whole) -> Result<Option<Range<usize>>, JsonError> {
    let (found, texts) = read(body)?;
    whole.is_answer = texts > 0;
    whole.is_error = found.error.is_some() || found.broken;
    whole.finish = found.finish;
    whole.truncated = found.finish == Some(Finish::Length);
    if let Some(place) = found.usage {
        let mut read = Usage::default();
        if usage(&mut read, &body[place]) {
            whole.usage = Some(read);
        }
    }
    Ok(found.model)
}

/// Reads `usage`.
pub(super) fn usage(read: &mut Usage, json: &[u8]) -> bool {
    read.read_openai_chat(json)
}

/// Reads an answer or a piece of one; returns how many choices have a text, too.
fn read(data: &[u8]) -> Result<(Found, usize), JsonError> {
    let mut found = Found::default();
    let mut texts = 0;
    let mut scanner = Scanner::new(data, DEPTH);
    scanner.object(|scanner, key| {
        match &*name(data, key) {
            b"choices" if scanner.peek() == Some(b'[') => scanner.array(|scanner| {
                found.choices += 1;
                choice(data, scanner, &mut found, &mut texts)
            })?,
            b"usage" => {
                let value = scanner.skip()?;
                if data[value.start] == b'{' {
                    found.usage = Some(value);
                    found.has_usage = true;
                }
            }
            b"model" => found.model = Some(scanner.skip()?),
            b"error" => found.error = Some(scanner.skip()?),
            _ => scanner.pass()?,
        }
        Ok(())
    })?;
    scanner.end()?;
    found.error = found.error.filter(|error| told(&data[error.clone()]));
    found.ends = found.finish.is_some();
    Ok((found, texts))
}

fn choice(
    data: &[u8],
    scanner: &mut Scanner<'_>,
    found: &mut Found,
    texts: &mut usize,
) -> Result<(), JsonError> {
    if scanner.peek() != Some(b'{') {
        return scanner.pass();
    }
    scanner.object(|scanner, key| {
        match &*name(data, key) {
            b"text" => {
                let value = scanner.skip()?;
                if data[value.start] == b'"' {
                    let length = json::decoded_len(&data[value.start + 1..value.end - 1]);
                    *texts += 1;
                    found.semantic |= length > 0;
                    found.chars += length as u64;
                }
            }
            b"finish_reason" => {
                let value = scanner.skip()?;
                if let Some(reason) = json::string(data, value) {
                    found.broken |= is_broken(&reason);
                    // Of several answers one that was cut short counts, else the last.
                    if found.finish != Some(Finish::Length) {
                        found.finish = finish_reason(&reason).or(found.finish);
                    }
                    found.semantic |= !reason.is_empty();
                }
            }
            _ => scanner.pass()?,
        }
        Ok(())
    })
}
