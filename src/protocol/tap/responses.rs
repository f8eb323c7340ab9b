//! What the tap reads of a stream of OpenAI responses and of a whole answer.

use std::ops::Range;

use super::chunk::{Found, name, told};
use crate::codec::json::{self, JsonError, Scanner};
use crate::protocol::chat::Finish;
use crate::protocol::usage::{Usage, searches_counted};

/// Deeper than OpenAI writes.
const DEPTH: usize = 512;

/// What a response object tells. Ranges are those of whole values in the data that it stands in.
#[derive(Debug, Default)]
struct Answer {
    model: Option<Range<usize>>,
    tier: Option<Range<usize>>,
    usage: Option<Range<usize>>,
    error: Option<Range<usize>>,
    has_output: bool,
    is_response: bool,
    failed: bool,
    incomplete: bool,
    reason: Option<Finish>,
    calls: bool,
    refused: bool,
    web_searches: u64,
    file_searches: u64,
    /// What the provider itself counts as searches: not every step of one is.
    counted: Option<u64>,
}

impl Answer {
    fn finish(&self) -> Finish {
        match self.reason {
            Some(reason) => reason,
            None if self.incomplete => Finish::Other,
            None if self.calls => Finish::ToolCalls,
            None if self.refused => Finish::Refusal,
            None => Finish::Stop,
        }
    }
}

/// Reads one event of a stream.
pub(super) fn chunk(data: &[u8]) -> Result<Found, JsonError> {
    let mut found = Found::default();
    let mut kind = String::new();
    let (mut delta, mut item, mut response) = (None, None, None);
    let mut scanner = Scanner::new(data, DEPTH);
    scanner.object(|scanner, key| {
        match &*name(data, key) {
            b"type" => {
                let value = scanner.skip()?;
                if let Some(word) = json::string(data, value.clone()) {
                    kind = word.into_owned();
                    found.kind = Some(value.start + 1..value.end - 1);
                }
            }
            b"delta" => delta = Some(scanner.skip()?),
            b"item" => item = Some(scanner.skip()?),
            b"response" if scanner.peek() == Some(b'{') => response = Some(scanner.skip()?),
            b"error" => found.error = Some(scanner.skip()?),
            _ => scanner.pass()?,
        }
        Ok(())
    })?;
    scanner.end()?;
    found.error = found.error.filter(|error| told(&data[error.clone()]));
    let answer = match &response {
        Some(range) => Some(read(data, range.clone())?),
        None => None,
    };
    match &*kind {
        "response.completed"
        | "response.incomplete"
        | "response.failed"
        | "response.done"
        | "response.cancelled" => {
            found.ends = true;
            found.semantic = true;
            // All of it: what is billed beside usage stands among the items.
            found.usage = response.clone().filter(|_| answer.is_some());
            found.has_usage = answer.as_ref().is_some_and(|answer| answer.usage.is_some());
            let failed = matches!(&*kind, "response.failed" | "response.cancelled")
                || answer.as_ref().is_some_and(|answer| answer.failed);
            if failed {
                let error = answer.as_ref().and_then(|answer| answer.error.clone());
                found.error = error.or(found.error).or(Some(0..data.len()));
            } else {
                let mut answer = answer.unwrap_or_default();
                answer.incomplete |= kind == "response.incomplete";
                found.finish = Some(answer.finish());
                (found.model, found.tier) = (answer.model, served(data, answer.tier));
            }
            return Ok(found);
        }
        "error" => found.error = found.error.or(Some(0..data.len())),
        "response.output_item.added" | "response.output_item.done" => {
            // A message and reasoning say nothing before their first words.
            let waits = kind.ends_with(".added")
                && item
                    .and_then(|item| item_kind(data, item))
                    .is_none_or(|kind| matches!(&*kind, "message" | "reasoning"));
            found.semantic = !waits;
        }
        _ => {}
    }
    if kind.ends_with(".delta")
        && let Some(value) = delta
        && data[value.start] == b'"'
    {
        let length = json::decoded_len(&data[value.start + 1..value.end - 1]);
        found.chars = length as u64;
        found.semantic |= length > 0;
    }
    if let Some(answer) = answer {
        (found.model, found.tier) = (answer.model, served(data, answer.tier));
    }
    Ok(found)
}

/// Returns where a tier is told that served; `auto` is a wish.
fn served(data: &[u8], tier: Option<Range<usize>>) -> Option<Range<usize>> {
    tier.filter(|tier| data[tier.clone()] != *b"\"auto\"")
}

fn item_kind(data: &[u8], item: Range<usize>) -> Option<String> {
    let offset = item.start;
    let inner = &data[item];
    let mut kind = None;
    let mut scanner = Scanner::new(inner, DEPTH);
    scanner
        .object(|scanner, key| {
            let is_kind = &*name(inner, key) == b"type";
            let value = scanner.skip()?;
            if is_kind {
                let value = value.start + offset..value.end + offset;
                kind = json::string(data, value).map(std::borrow::Cow::into_owned);
            }
            Ok(())
        })
        .ok()?;
    kind
}

/// Reads a whole answer: sets what it tells, and returns where its model's name is.
pub(super) fn whole(
    body: &[u8],
    whole: &mut super::Whole,
) -> Result<Option<Range<usize>>, JsonError> {
    let answer = read(body, 0..body.len())?;
    whole.is_answer = answer.is_response && answer.has_output;
    whole.is_error = answer.failed || answer.error.is_some();
    if whole.is_answer && !whole.is_error {
        let finish = answer.finish();
        whole.truncated = finish == Finish::Length;
        whole.finish = Some(finish);
    }
    whole.service_tier = served(body, answer.tier.clone())
        .and_then(|tier| json::string(body, tier))
        .map(std::borrow::Cow::into_owned);
    let mut read = Usage::default();
    if usage(&mut read, body) {
        read.tier = whole.service_tier.as_deref().map(Into::into);
        whole.usage = Some(read);
    }
    Ok(answer.model)
}

/// Reads the usage of a response object, and what is billed beside it.
pub(super) fn usage(read: &mut Usage, json: &[u8]) -> bool {
    let Ok(answer) = self::read(json, 0..json.len()) else {
        return false;
    };
    let Some(place) = answer.usage else {
        return false;
    };
    let was_read = read.read_openai_responses(&json[place]);
    let told = read.searches;
    read.searches = answer.counted.unwrap_or(answer.web_searches).max(told);
    read.file_searches = answer.file_searches;
    was_read
}

fn read(data: &[u8], range: Range<usize>) -> Result<Answer, JsonError> {
    let offset = range.start;
    let inner = &data[range];
    let at = |range: Range<usize>| range.start + offset..range.end + offset;
    let mut answer = Answer::default();
    let mut scanner = Scanner::new(inner, DEPTH);
    scanner.object(|scanner, key| {
        match (&*name(inner, key), scanner.peek()) {
            (b"object", _) => {
                let value = scanner.skip()?;
                answer.is_response = inner[value] == *b"\"response\"";
            }
            (b"model", Some(b'"')) => answer.model = Some(at(scanner.skip()?)),
            (b"service_tier", Some(b'"')) => answer.tier = Some(at(scanner.skip()?)),
            (b"usage", Some(b'{')) => answer.usage = Some(at(scanner.skip()?)),
            (b"tool_usage", Some(b'{')) => {
                let value = scanner.skip()?;
                answer.counted = searches_counted(&inner[value]);
            }
            (b"error", _) => {
                let value = scanner.skip()?;
                answer.error = told(&inner[value.clone()]).then(|| at(value));
            }
            (b"status", Some(b'"')) => {
                let value = scanner.skip()?;
                match &inner[value] {
                    b"\"failed\"" | b"\"cancelled\"" => answer.failed = true,
                    b"\"incomplete\"" => answer.incomplete = true,
                    _ => {}
                }
            }
            (b"incomplete_details", Some(b'{')) => scanner.object(|scanner, key| {
                let is_reason = &*name(inner, key) == b"reason";
                let value = scanner.skip()?;
                if is_reason && inner[value.start] == b'"' {
                    answer.reason = Some(match &inner[value] {
                        b"\"content_filter\"" => Finish::ContentFilter,
                        b"\"max_output_tokens\"" | b"\"max_tokens\"" | b"\"length\"" => {
                            Finish::Length
                        }
                        _ => Finish::Other,
                    });
                }
                Ok(())
            })?,
            (b"output", Some(b'[')) => {
                answer.has_output = true;
                scanner.array(|scanner| item(inner, scanner, &mut answer))?;
            }
            _ => scanner.pass()?,
        }
        Ok(())
    })?;
    scanner.end()?;
    Ok(answer)
}

fn item(data: &[u8], scanner: &mut Scanner<'_>, answer: &mut Answer) -> Result<(), JsonError> {
    if scanner.peek() != Some(b'{') {
        return scanner.pass();
    }
    scanner.object(|scanner, key| {
        match (&*name(data, key), scanner.peek()) {
            (b"type", Some(b'"')) => {
                let value = scanner.skip()?;
                match &data[value] {
                    b"\"function_call\"" | b"\"custom_tool_call\"" => answer.calls = true,
                    b"\"web_search_call\"" => answer.web_searches += 1,
                    b"\"file_search_call\"" => answer.file_searches += 1,
                    _ => {}
                }
            }
            (b"content", Some(b'[')) => scanner.array(|scanner| {
                if scanner.peek() != Some(b'{') {
                    return scanner.pass();
                }
                scanner.object(|scanner, key| {
                    let is_kind = &*name(data, key) == b"type";
                    let value = scanner.skip()?;
                    answer.refused |= is_kind && data[value] == *b"\"refusal\"";
                    Ok(())
                })
            })?,
            _ => scanner.pass()?,
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::super::Whole;
    use super::*;

    #[test]
    fn the_last_event_tells_how_it_ended_and_what_it_took() {
        let data = br#"{"type":"response.completed","sequence_number":9,"response":{"id":"resp_1","object":"response","model":"gpt-x","service_tier":"default","status":"completed","error":null,"output":[{"type":"web_search_call"},{"type":"function_call"}],"usage":{"input_tokens":7,"output_tokens":3,"total_tokens":10}}}"#;
        let found = chunk(data).unwrap();
        assert!(found.ends && found.semantic && found.has_usage);
        assert_eq!(found.finish, Some(Finish::ToolCalls));
        assert_eq!(&data[found.model.unwrap()], b"\"gpt-x\"");
        assert_eq!(&data[found.tier.unwrap()], b"\"default\"");
        let mut read = Usage::default();
        assert!(usage(&mut read, &data[found.usage.unwrap()]));
        assert_eq!((read.input, read.output, read.searches), (7, 3, 1));
    }

    #[test]
    fn what_the_provider_counts_as_searches_counts() {
        use crate::protocol::{Protocol, Shape, decode_response};
        for (told, wanted) in [
            ("", 2),
            (r#","tool_usage":{"web_search":{"num_requests":1}}"#, 1),
            (r#","tool_usage":{"web_search":{"num_requests":0}}"#, 0),
            (r#","tool_usage":{"image_gen":{"total_tokens":0}}"#, 2),
            (r#","tool_usage":null"#, 2),
        ] {
            let body = format!(
                r#"{{"id":"r","object":"response","model":"m","status":"completed","output":[{{"type":"web_search_call","id":"w"}},
                    {{"type":"web_search_call","id":"v","action":{{"type":"open_page"}}}}],"usage":{{"input_tokens":7,"output_tokens":3}}{told}}}"#
            );
            let mut read = Usage::default();
            assert!(usage(&mut read, body.as_bytes()));
            assert_eq!(read.searches, wanted, "passed, {told}");
            let protocol = Protocol::OpenaiResponses;
            let answer = decode_response(protocol, body.as_bytes(), &Shape::default()).unwrap();
            assert_eq!(answer.usage.unwrap().searches, wanted, "translated, {told}");
        }
    }

    #[test]
    fn words_are_counted_and_beginnings_are_not() {
        let said = chunk(br#"{"type":"response.output_text.delta","delta":"h\u00e9y"}"#).unwrap();
        assert!(said.semantic && said.chars > 0);
        for (data, semantic) in [
            (
                r#"{"type":"response.created","response":{"service_tier":"auto"}}"#,
                false,
            ),
            (
                r#"{"type":"response.output_item.added","item":{"type":"message"}}"#,
                false,
            ),
            (
                r#"{"type":"response.output_item.added","item":{"type":"reasoning"}}"#,
                false,
            ),
            (
                r#"{"type":"response.output_item.added","item":{"type":"function_call"}}"#,
                true,
            ),
            (
                r#"{"type":"response.output_item.done","item":{"type":"reasoning"}}"#,
                true,
            ),
            (r#"{"type":"response.output_text.delta","delta":""}"#, false),
        ] {
            let found = chunk(data.as_bytes()).unwrap();
            assert_eq!(found.semantic, semantic, "{data}");
            assert!(found.tier.is_none() && !found.ends, "{data}");
        }
    }

    #[test]
    fn failures_are_found_where_they_are_told() {
        for (data, error) in [
            (
                r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"no"}}}"#,
                r#"{"code":"server_error","message":"no"}"#,
            ),
            (
                r#"{"type":"error","code":"x","message":"no"}"#,
                r#"{"type":"error","code":"x","message":"no"}"#,
            ),
            (
                r#"{"type":"error","error":{"message":"no"}}"#,
                r#"{"message":"no"}"#,
            ),
        ] {
            let found = chunk(data.as_bytes()).unwrap();
            assert_eq!(&data[found.error.unwrap()], error);
        }
    }

    #[test]
    fn a_whole_answer_is_told_from_an_error() {
        let mut answer = Whole::default();
        let body = br#"{"object":"response","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[],"model":"m","usage":{"input_tokens":1,"output_tokens":2}}"#;
        assert!(whole(body, &mut answer).unwrap().is_some());
        assert!(answer.is_answer && answer.truncated && !answer.is_error);
        assert_eq!(answer.usage.unwrap().output, 2);
        for body in [
            r#"{"object":"response","status":"failed","error":{"code":"server_error","message":"no"},"output":[]}"#,
            r#"{"error":{"message":"no"}}"#,
        ] {
            let mut answer = Whole::default();
            whole(body.as_bytes(), &mut answer).unwrap();
            assert!(answer.is_error, "{body}");
        }
    }
}
