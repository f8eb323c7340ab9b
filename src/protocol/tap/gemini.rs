//! What the tap reads of a Gemini stream and of a whole Gemini answer.

use std::ops::Range;

use super::chunk::{Found, name, told};
use super::whole::Whole;
use crate::codec::json::{self, JsonError, Scanner};
use crate::protocol::chat::Finish;
use crate::protocol::usage::Usage;

/// Deeper than Google writes.
const DEPTH: usize = 512;

/// What was looked up for an answer, as far as it is billed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Grounding {
    queries: u64,
    maps: bool,
}

/// What one answer, whole or a chunk of one, tells.
#[derive(Debug, Default)]
struct Told {
    found: Found,
    grounding: Grounding,
    /// There is a list of candidates, or a reason why there is none.
    is_answer: bool,
    calls: bool,
}

/// Reads one `GenerateContentResponse` of a stream.
pub(super) fn chunk(data: &[u8]) -> Result<Found, JsonError> {
    Ok(read(data)?.found)
}

/// Returns what a chunk tells of what was looked up; nothing of one that doesn't mention it.
pub(super) fn grounding(data: &[u8]) -> Grounding {
    if memchr::memmem::find(data, b"rounding").is_none() {
        return Grounding::default();
    }
    read(data).map(|told| told.grounding).unwrap_or_default()
}

impl Grounding {
    /// Adds what a later chunk tells.
    pub fn join(&mut self, later: Self) {
        self.queries = self.queries.max(later.queries);
        self.maps |= later.maps;
    }

    /// Reads `usageMetadata`, and adds what is billed by the search.
    pub fn usage(self, read: &mut Usage, json: &[u8]) -> bool {
        let grounded = self.queries > 0 || self.maps;
        let was_read = read.read_gemini(json, grounded);
        read.searches = read.searches.max(self.queries);
        read.maps_searches = read.maps_searches.max(u64::from(self.maps));
        was_read
    }
}

/// Reads a whole answer: sets what it tells, and returns where its model's name is.
pub(super) fn whole(body: &[u8], whole: &mut Whole) -> Result<Option<Range<usize>>, JsonError> {
    let told = read(body)?;
    whole.is_answer = told.is_answer;
    whole.is_error = told.found.error.is_some();
    whole.finish = told.found.finish;
    whole.truncated = whole.finish == Some(Finish::Length);
    if let Some(place) = told.found.usage {
        let mut usage = Usage::default();
        if told.grounding.usage(&mut usage, &body[place]) {
            whole.service_tier = usage.tier.as_deref().map(str::to_owned);
            whole.usage = Some(usage);
        }
    }
    Ok(told.found.model)
}

fn read(data: &[u8]) -> Result<Told, JsonError> {
    let mut told_here = Told::default();
    let mut scanner = Scanner::new(data, DEPTH);
    scanner.object(|scanner, key| {
        match (&*name(data, key), scanner.peek()) {
            (b"candidates", Some(b'[')) => {
                told_here.is_answer = true;
                let mut first = true;
                scanner.array(|scanner| {
                    let is_first = std::mem::take(&mut first);
                    candidate(data, scanner, is_first, &mut told_here)
                })?;
            }
            (b"promptFeedback" | b"prompt_feedback", Some(b'{')) => {
                scanner.object(|scanner, key| {
                    let is_reason = matches!(&*name(data, key), b"blockReason" | b"block_reason");
                    let value = scanner.skip()?;
                    if is_reason && told(&data[value]) {
                        told_here.is_answer = true;
                        told_here.found.semantic = true;
                        told_here.found.ends = true;
                        told_here.found.finish.get_or_insert(Finish::ContentFilter);
                    }
                    Ok(())
                })?
            }
            (b"usageMetadata" | b"usage_metadata", Some(b'{')) => {
                told_here.found.usage = Some(scanner.skip()?);
                told_here.found.has_usage = true;
            }
            (b"modelVersion" | b"model_version", _) => {
                told_here.found.model = Some(scanner.skip()?);
            }
            (b"error", _) => {
                let value = scanner.skip()?;
                told_here.found.error = told(&data[value.clone()]).then_some(value);
            }
            _ => scanner.pass()?,
        }
        Ok(())
    })?;
    scanner.end()?;
    // Google's word for the end says nothing of calls.
    if told_here.calls && told_here.found.finish == Some(Finish::Stop) {
        told_here.found.finish = Some(Finish::ToolCalls);
    }
    Ok(told_here)
}

fn candidate(
    data: &[u8],
    scanner: &mut Scanner<'_>,
    is_first: bool,
    told_here: &mut Told,
) -> Result<(), JsonError> {
    if scanner.peek() != Some(b'{') {
        return scanner.pass();
    }
    told_here.found.choices += 1;
    scanner.object(|scanner, key| {
        match (&*name(data, key), scanner.peek()) {
            (b"content", Some(b'{')) => {
                scanner.object(|scanner, key| match (&*name(data, key), scanner.peek()) {
                    (b"parts", Some(b'[')) => {
                        scanner.array(|scanner| part(data, scanner, told_here))
                    }
                    _ => scanner.pass(),
                })?
            }
            (b"finishReason" | b"finish_reason", _) => {
                let value = scanner.skip()?;
                let word = json::string(data, value.clone());
                let word = word
                    .as_deref()
                    .or_else(|| std::str::from_utf8(&data[value]).ok());
                if let Some(word) = word.filter(|word| !matches!(*word, "" | "null")) {
                    told_here.found.semantic = true;
                    told_here.found.ends = true;
                    let finish = crate::protocol::gemini::finish(word, false);
                    // Of several answers the first counts, unless another was cut short.
                    if is_first || finish == Finish::Length {
                        told_here.found.finish = Some(finish);
                    }
                }
            }
            (b"groundingMetadata" | b"grounding_metadata", Some(b'{')) => {
                grounds(data, scanner, &mut told_here.grounding)?;
            }
            _ => scanner.pass()?,
        }
        Ok(())
    })
}

fn part(data: &[u8], scanner: &mut Scanner<'_>, told_here: &mut Told) -> Result<(), JsonError> {
    if scanner.peek() != Some(b'{') {
        return scanner.pass();
    }
    scanner.object(|scanner, key| {
        match &*name(data, key) {
            b"text" => {
                let value = scanner.skip()?;
                if data[value.start] == b'"' {
                    let length = json::decoded_len(&data[value.start + 1..value.end - 1]);
                    told_here.found.chars += length as u64;
                    told_here.found.semantic |= length > 0;
                }
            }
            b"functionCall" | b"function_call" => {
                let value = scanner.skip()?;
                told_here.found.semantic = true;
                told_here.calls = true;
                told_here.found.chars += value.len() as u64;
            }
            b"inlineData"
            | b"inline_data"
            | b"fileData"
            | b"file_data"
            | b"executableCode"
            | b"executable_code"
            | b"codeExecutionResult"
            | b"code_execution_result" => {
                told_here.found.semantic = true;
                scanner.pass()?;
            }
            _ => scanner.pass()?,
        }
        Ok(())
    })
}

fn grounds(
    data: &[u8],
    scanner: &mut Scanner<'_>,
    grounding: &mut Grounding,
) -> Result<(), JsonError> {
    scanner.object(|scanner, key| match (&*name(data, key), scanner.peek()) {
        (b"webSearchQueries" | b"web_search_queries", Some(b'[')) => scanner.array(|scanner| {
            grounding.queries += 1;
            scanner.pass()
        }),
        (b"groundingChunks" | b"grounding_chunks", Some(b'[')) => scanner.array(|scanner| {
            if scanner.peek() != Some(b'{') {
                return scanner.pass();
            }
            scanner.object(|scanner, key| {
                grounding.maps |= &*name(data, key) == b"maps";
                scanner.pass()
            })
        }),
        _ => scanner.pass(),
    })
}
