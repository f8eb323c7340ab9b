//! Words, images, calls, log probabilities and times as Ollama writes them.

use std::borrow::Cow;
use std::io::Write as _;

use serde_json::value::RawValue;

use crate::error::Result;
use crate::protocol::chat::{Finish, Str};
use crate::protocol::text::{self, Object, Reader, comma};

/// The key of arguments that are no object, as a model may have written them.
const BROKEN_ARGUMENTS: &str = "arguments";

/// Returns the type of an image by the first bytes of its base64: Ollama names none.
pub(super) fn media_type(data: &str) -> &'static str {
    const BEGINNINGS: [(&str, &str); 4] = [
        ("iVBORw0KGgo", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
    ];
    BEGINNINGS
        .iter()
        .find(|(beginning, _)| data.starts_with(beginning))
        .map_or("image/jpeg", |(_, media_type)| media_type)
}

pub(super) fn finish(word: &str) -> Finish {
    match word {
        "" | "stop" => Finish::Stop,
        "length" => Finish::Length,
        _ => Finish::Other,
    }
}

pub(super) fn finish_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Length | Finish::ContextWindow => "length",
        Finish::Stop
        | Finish::StopSequence
        | Finish::ToolCalls
        | Finish::ContentFilter
        | Finish::Refusal
        | Finish::Pause
        | Finish::Other => "stop",
    }
}

/// A call of a message.
#[derive(Debug, Default)]
pub(super) struct Call<'b> {
    pub id: Str<'b>,
    pub name: Str<'b>,
    pub arguments: Str<'b>,
}

impl<'b> Call<'b> {
    pub fn read(r: &mut Reader<'b>) -> Result<Self> {
        let mut call = Self::default();
        let mut name = None;
        r.object(|r, key| {
            match &*key {
                "id" => call.id = r.maybe(Reader::string)?.unwrap_or_default(),
                "function" => r.object(|r, key| {
                    match &*key {
                        "name" => name = r.maybe(Reader::string)?,
                        "arguments" => call.arguments = arguments(r)?,
                        "index" => drop(r.raw()?),
                        _ => r.stranger()?,
                    }
                    Ok(())
                })?,
                "type" => drop(r.raw()?),
                _ => r.stranger()?,
            }
            Ok(())
        })?;
        call.name = name.ok_or_else(|| r.missing("function.name"))?;
        Ok(call)
    }
}

/// Reads arguments: an object, or its text as OpenAI's clients are used to.
fn arguments<'b>(r: &mut Reader<'b>) -> Result<Str<'b>> {
    if r.peek() == b'"' {
        return r.string();
    }
    Ok(match r.maybe_raw()? {
        Some(raw) => Cow::Borrowed(raw.get()),
        None => Cow::Borrowed("{}"),
    })
}

/// Appends a call, on one line. Returns whether its arguments were an object.
pub(super) fn write_call(
    id: &str,
    name: &str,
    arguments: &str,
    index: u64,
    out: &mut Vec<u8>,
) -> bool {
    let mut call = Object::open(out);
    call.string("id", id);
    let mut function = Object::open(call.key("function"));
    function.integer("index", index);
    function.string("name", name);
    let sound = write_arguments(arguments, function.key("arguments"));
    function.close();
    call.close();
    sound
}

fn write_arguments(arguments: &str, out: &mut Vec<u8>) -> bool {
    let said = arguments.trim_ascii();
    if said.is_empty() {
        out.extend_from_slice(b"{}");
        return true;
    }
    if said.starts_with('{')
        && let Ok(raw) = serde_json::from_str::<&RawValue>(said)
    {
        text::raw_line(raw, out);
        return true;
    }
    let mut object = Object::open(out);
    object.string(BROKEN_ARGUMENTS, arguments);
    object.close();
    false
}

/// Turns Ollama's list of log probabilities into OpenAI's object, whose elements have all their fields.
pub(super) fn logprobs_to_openai(list: &RawValue) -> Option<Box<RawValue>> {
    let mut out = b"{\"content\":[".to_vec();
    let start = out.len();
    Reader::of(list.get())
        .array(|r| {
            comma(start, &mut out);
            write_token(r, true, &mut out)
        })
        .ok()?;
    if out.len() == start {
        return None;
    }
    out.extend_from_slice(b"],\"refusal\":null}");
    RawValue::from_string(String::from_utf8(out).ok()?).ok()
}

fn write_token(r: &mut Reader<'_>, outer: bool, out: &mut Vec<u8>) -> Result<()> {
    let (mut token, mut logprob, mut bytes) = (Cow::Borrowed(""), None, None);
    let mut top = Vec::new();
    r.object(|r, key| {
        match &*key {
            "token" => token = r.string()?,
            "logprob" => logprob = Some(r.number()?),
            "bytes" => bytes = r.maybe_raw()?,
            "top_logprobs" if outer && r.peek() == b'[' => r.array(|r| {
                comma(0, &mut top);
                write_token(r, false, &mut top)
            })?,
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    let mut object = Object::open(out);
    object.string("token", &token);
    object.number("logprob", logprob.unwrap_or(0.0));
    match bytes {
        Some(raw) => text::raw_line(raw, object.key("bytes")),
        None => object.key("bytes").extend_from_slice(b"null"),
    }
    if outer {
        let list = object.key("top_logprobs");
        list.push(b'[');
        list.extend_from_slice(&top);
        list.push(b']');
    }
    object.close();
    Ok(())
}

/// Returns the list within OpenAI's log probabilities.
pub(super) fn logprobs_of_openai(raw: &RawValue) -> Option<&RawValue> {
    let mut content = None;
    let mut r = Reader::of(raw.get());
    if r.peek() != b'{' {
        return None;
    }
    r.object(|r, key| {
        match &*key {
            "content" => content = r.maybe_raw()?,
            _ => drop(r.raw()?),
        }
        Ok(())
    })
    .ok()?;
    content
}

/// Appends a time of RFC 3339 with its quotes; `seconds` count from 1970.
pub(super) fn write_time(seconds: u64, out: &mut Vec<u8>) {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    write!(
        out,
        "\"{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z\"",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
    .expect("a vector takes every write");
}

/// Returns year, month and day, by <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months count from March, so that the leap day is the last of the year.
    let march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        for (seconds, text) in [
            (0, "\"1970-01-01T00:00:00Z\""),
            (951_782_399, "\"2000-02-28T23:59:59Z\""),
            (951_782_400, "\"2000-02-29T00:00:00Z\""),
            (951_868_800, "\"2000-03-01T00:00:00Z\""),
            (1_700_000_000, "\"2023-11-14T22:13:20Z\""),
        ] {
            let mut out = Vec::new();
            write_time(seconds, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn log_probabilities_get_the_fields_that_openai_always_has() {
        let list = r#"[{"token":"a","logprob":-0.5,"bytes":[97]},{"token":"b","logprob":-1,"top_logprobs":[{"token":"c","logprob":-2}]}]"#;
        let list: &RawValue = serde_json::from_str(list).unwrap();
        let raw = logprobs_to_openai(list).unwrap();
        assert_eq!(
            raw.get(),
            r#"{"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[]},{"token":"b","logprob":-1,"bytes":null,"top_logprobs":[{"token":"c","logprob":-2,"bytes":null}]}],"refusal":null}"#
        );
        assert!(
            logprobs_of_openai(&raw)
                .unwrap()
                .get()
                .starts_with("[{\"token\":\"a\"")
        );
    }
}
