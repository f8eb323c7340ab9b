//! Words, log probabilities and calls as Cohere writes them.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::error::Result;
use crate::protocol::chat::{Finish, Str};
use crate::protocol::text::{Object, Reader, comma, number};

pub(super) fn finish(word: &str) -> Finish {
    match word {
        "COMPLETE" => Finish::Stop,
        "STOP_SEQUENCE" => Finish::StopSequence,
        "MAX_TOKENS" => Finish::Length,
        "TOOL_CALL" => Finish::ToolCalls,
        _ => Finish::Other,
    }
}

/// Returns whether an answer that ended so is none.
pub(super) fn is_failure(word: &str) -> bool {
    matches!(word, "ERROR" | "TIMEOUT")
}

pub(super) fn finish_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Refusal | Finish::Pause | Finish::Other => "COMPLETE",
        Finish::StopSequence => "STOP_SEQUENCE",
        Finish::Length | Finish::ContextWindow => "MAX_TOKENS",
        Finish::ToolCalls => "TOOL_CALL",
        Finish::ContentFilter => "ERROR",
    }
}

/// A call of a message, or a piece of one.
#[derive(Debug, Default)]
pub(super) struct Call<'b> {
    pub id: Str<'b>,
    pub name: Str<'b>,
    pub arguments: Str<'b>,
}

impl<'b> Call<'b> {
    pub fn read(r: &mut Reader<'b>) -> Result<Self> {
        let mut call = Self::default();
        r.object(|r, key| {
            match &*key {
                "id" => call.id = r.maybe(Reader::string)?.unwrap_or_default(),
                "type" => drop(r.raw()?),
                "function" => drop(r.maybe(|r| {
                    r.object(|r, key| {
                        match &*key {
                            "name" => call.name = r.maybe(Reader::string)?.unwrap_or_default(),
                            "arguments" => {
                                call.arguments = r.maybe(Reader::string)?.unwrap_or_default();
                            }
                            _ => r.stranger()?,
                        }
                        Ok(())
                    })
                })?),
                _ => r.stranger()?,
            }
            Ok(())
        })?;
        Ok(call)
    }
}

/// Appends a call. Its arguments are text, and never empty.
pub(super) fn write_call(id: &str, name: &str, arguments: &str, out: &mut Vec<u8>) {
    let mut call = Object::open(out);
    call.string("id", id);
    call.string("type", "function");
    let mut function = Object::open(call.key("function"));
    function.string("name", name);
    let said = arguments.trim_ascii();
    function.string("arguments", if said.is_empty() { "{}" } else { said });
    function.close();
    call.close();
}

/// Turns Cohere's log probabilities, of runs of tokens, into OpenAI's object.
pub(super) fn logprobs_to_openai(raw: &RawValue) -> Option<Box<RawValue>> {
    let mut out = b"{\"content\":[".to_vec();
    let start = out.len();
    let mut r = Reader::of(raw.get());
    let mut one = |r: &mut Reader<'_>| {
        let (mut text, mut sum) = (Cow::Borrowed(""), 0.0);
        r.object(|r, key| {
            match (&*key, r.peek()) {
                ("text", b'"') => text = r.string()?,
                // The run is as probable as its tokens one after the other.
                ("logprobs", b'[') => r.array(|r| {
                    sum += r.number()?;
                    Ok(())
                })?,
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        comma(start, &mut out);
        let mut token = Object::open(&mut out);
        token.string("token", &text);
        token.number("logprob", sum);
        token.key("bytes").extend_from_slice(b"null");
        token.key("top_logprobs").extend_from_slice(b"[]");
        token.close();
        Ok(())
    };
    let read = if r.peek() == b'[' {
        r.array(one)
    } else {
        one(&mut r)
    };
    read.ok()?;
    if out.len() == start {
        return None;
    }
    out.extend_from_slice(b"],\"refusal\":null}");
    RawValue::from_string(String::from_utf8(out).ok()?).ok()
}

/// Calls `each` with OpenAI's log probabilities as elements of Cohere's list.
pub(super) fn logprobs_of_openai(raw: &RawValue, each: &mut dyn FnMut(&[u8])) {
    let mut r = Reader::of(raw.get());
    if r.peek() != b'{' {
        return;
    }
    let mut element = Vec::new();
    // What can't be read tells nothing.
    let _ = r.object(|r, key| {
        match (&*key, r.peek()) {
            ("content", b'[') => r.array(|r| {
                let (mut text, mut logprob) = (Cow::Borrowed(""), 0.0);
                r.object(|r, key| {
                    match (&*key, r.peek()) {
                        ("token", b'"') => text = r.string()?,
                        ("logprob", b'-' | b'0'..=b'9') => logprob = r.number()?,
                        _ => drop(r.raw()?),
                    }
                    Ok(())
                })?;
                element.clear();
                let mut token = Object::open(&mut element);
                token.string("text", &text);
                // What numbers they have is not told.
                token.key("token_ids").extend_from_slice(b"[]");
                let list = token.key("logprobs");
                list.push(b'[');
                number(logprob, list);
                list.push(b']');
                token.close();
                each(&element);
                Ok(())
            })?,
            _ => drop(r.raw()?),
        }
        Ok(())
    });
}
