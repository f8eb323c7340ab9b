//! What a provider's answer tells: the object that a whole answer is, and that a stream's last event holds.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{blob, names};
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Finish, Part, Str};
use crate::protocol::text::Reader;
use crate::protocol::usage::{Usage, searches_counted};

/// The longest message that is kept.
const MESSAGE_MOST: usize = 2_000;

/// A response object, read leniently.
#[derive(Debug, Default)]
pub(super) struct Told<'b> {
    pub id: Option<Str<'b>>,
    pub model: Option<Str<'b>>,
    pub status: Option<Str<'b>>,
    pub service_tier: Option<Str<'b>>,
    pub error: Option<&'b RawValue>,
    pub usage: Option<Usage>,
    /// What the provider itself counts as searches: not every step of one is.
    searches: Option<u64>,
    /// A list of items.
    pub output: Option<&'b RawValue>,
    /// Why it is incomplete.
    reason: Option<Str<'b>>,
}

impl<'b> Told<'b> {
    pub fn field(&mut self, r: &mut Reader<'b>, key: &str) -> Result<()> {
        match (key, r.peek()) {
            ("id", _) => self.id = loose_string(r)?,
            ("model", _) => self.model = loose_string(r)?,
            ("status", _) => self.status = loose_string(r)?,
            ("service_tier", _) => self.service_tier = loose_string(r)?,
            ("error", _) => self.error = r.maybe_raw()?,
            ("usage", b'{') => {
                let mut usage = Usage::default();
                if usage.read_openai_responses(r.raw()?.get().as_bytes()) {
                    self.usage = Some(usage);
                }
            }
            ("tool_usage", b'{') => self.searches = searches_counted(r.raw()?.get().as_bytes()),
            ("output", b'[') => self.output = Some(r.raw()?),
            ("incomplete_details", b'{') => r.object(|r, key| {
                match &*key {
                    "reason" => self.reason = loose_string(r)?,
                    _ => drop(r.raw()?),
                }
                Ok(())
            })?,
            _ => drop(r.raw()?),
        }
        Ok(())
    }

    /// Reads an object; anything else tells nothing.
    pub fn read(r: &mut Reader<'b>) -> Result<Self> {
        let mut told = Self::default();
        match r.peek() {
            b'{' => r.object(|r, key| told.field(r, &key))?,
            _ => drop(r.raw()?),
        }
        Ok(told)
    }

    /// Returns whether it failed.
    pub fn failed(&self) -> bool {
        self.error.is_some() || matches!(self.status.as_deref(), Some("failed" | "cancelled"))
    }

    /// Returns the tier that served it; `auto` is none yet.
    pub fn tier(&self) -> Option<&Str<'b>> {
        self.service_tier.as_ref().filter(|tier| **tier != "auto")
    }

    /// Returns the usage, with what is billed beside it.
    pub fn usage(&mut self, searches: Searches) -> Option<Usage> {
        let mut usage = self.usage.take()?;
        let told = usage.searches;
        usage.searches = self.searches.unwrap_or(searches.web).max(told);
        usage.file_searches = searches.files;
        usage.tier = self.tier().map(|tier| (**tier).into());
        Some(usage)
    }

    /// Returns why it ended, of an answer that makes `calls` or `refused`.
    pub fn finish(&self, calls: bool, refused: bool) -> Finish {
        let incomplete = self.reason.is_some() || self.status.as_deref() == Some("incomplete");
        match self.reason.as_deref() {
            Some("content_filter") => Finish::ContentFilter,
            Some("max_output_tokens" | "max_tokens" | "length") => Finish::Length,
            Some(_) | None if incomplete => Finish::Other,
            Some(_) | None if calls => Finish::ToolCalls,
            Some(_) | None if refused => Finish::Refusal,
            Some(_) | None => Finish::Stop,
        }
    }
}

/// Searches of the provider's own, which usage doesn't tell and which are billed by the piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Searches {
    pub web: u64,
    pub files: u64,
}

impl Searches {
    /// Counts an item.
    pub fn count(&mut self, kind: &str) {
        match kind {
            "web_search_call" => self.web += 1,
            "file_search_call" => self.files += 1,
            _ => {}
        }
    }
}

/// Reads a string; anything else counts as absent.
pub(super) fn loose_string<'b>(r: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    match r.peek() {
        b'"' => r.string().map(Some),
        _ => {
            r.raw()?;
            Ok(None)
        }
    }
}

/// Returns the message of an error object, or a bounded piece of whatever else it is.
pub(super) fn said(raw: &RawValue) -> String {
    let mut reader = Reader::of(raw.get());
    let message = match reader.peek() {
        b'"' => reader.string().ok(),
        _ => reader.tag("message").filter(|text| !text.is_empty()),
    };
    let message = message.unwrap_or(Cow::Borrowed(raw.get()));
    message.chars().take(MESSAGE_MOST).collect()
}

/// An item of an answer, read leniently.
#[derive(Debug, Default)]
pub(super) struct Item<'b> {
    pub kind: Str<'b>,
    pub id: Option<Str<'b>>,
    pub call_id: Option<Str<'b>>,
    pub namespace: Option<Str<'b>>,
    name: Option<Str<'b>>,
    pub arguments: Option<Str<'b>>,
    pub encrypted: Option<Str<'b>>,
    /// A message's parts.
    pub content: Vec<Said<'b>>,
    /// A reasoning item's: its summary, or its text where there is none.
    summary: Option<Str<'b>>,
    text: Option<Str<'b>>,
}

/// A part of a message.
#[derive(Debug)]
pub(super) struct Said<'b> {
    pub refusal: bool,
    pub text: Str<'b>,
    /// A list that isn't empty.
    pub annotations: Option<&'b RawValue>,
    pub logprobs: Option<&'b RawValue>,
}

impl<'b> Item<'b> {
    pub fn read(raw: &'b RawValue) -> Result<Self> {
        let mut item = Self::default();
        let mut reader = Reader::of(raw.get());
        if reader.peek() != b'{' {
            return Ok(item);
        }
        item.kind = reader.tag("type").unwrap_or_default();
        let is_message = item.kind == "message";
        reader.object(|r, key| {
            match (&*key, r.peek()) {
                ("id", _) => item.id = loose_string(r)?,
                ("call_id", _) => item.call_id = loose_string(r)?,
                ("name", _) => item.name = loose_string(r)?,
                ("namespace", _) => item.namespace = loose_string(r)?,
                ("arguments", b'{') => item.arguments = Some(Cow::Borrowed(r.raw()?.get())),
                ("arguments", _) => item.arguments = loose_string(r)?,
                ("encrypted_content", _) => item.encrypted = loose_string(r)?,
                ("content", b'[') if is_message => r.array(|r| {
                    item.content.extend(Said::read(r)?);
                    Ok(())
                })?,
                ("content", b'[') => item.text = joined(r)?,
                ("summary", b'[') => item.summary = joined(r)?,
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        Ok(item)
    }

    /// Returns the name that the hub knows a tool by.
    pub fn flat_name(&mut self) -> Str<'b> {
        names::flat(
            self.namespace.as_deref(),
            self.name.take().unwrap_or_default(),
        )
    }

    /// Returns what is readable of a reasoning item.
    pub fn thoughts(&mut self) -> Str<'b> {
        let told = |text: &Str<'_>| !text.is_empty();
        let summary = self.summary.take().filter(told);
        summary.or(self.text.take()).unwrap_or_default()
    }

    /// Returns whether it is one that only this family understands.
    pub fn is_opaque(&self) -> bool {
        !matches!(&*self.kind, "message" | "function_call" | "reasoning" | "")
    }

    /// Appends the parts that an item of a whole answer is.
    pub fn parts(
        mut self,
        raw: &'b RawValue,
        made_up: &mut dyn FnMut() -> String,
    ) -> Vec<Part<'b>> {
        match &*self.kind {
            "message" => {
                let content = std::mem::take(&mut self.content);
                content.into_iter().map(Said::part).collect()
            }
            "function_call" => vec![Part::ToolCall {
                name: self.flat_name(),
                id: self
                    .call_id
                    .take()
                    .filter(|id| !id.is_empty())
                    .unwrap_or_else(|| made_up().into()),
                arguments: self.arguments.take().unwrap_or_default(),
                cache: None,
            }],
            "reasoning" => {
                let text = self.thoughts();
                let part = blob::part(self.id.take(), self.encrypted.take(), text);
                part.into_iter().collect()
            }
            "" => Vec::new(),
            _ => vec![Part::Opaque {
                family: Protocol::OpenaiResponses,
                raw,
            }],
        }
    }
}

impl<'b> Said<'b> {
    /// Reads a part of a message; one that is neither said nor declined is none.
    pub fn read(r: &mut Reader<'b>) -> Result<Option<Self>> {
        if r.peek() != b'{' {
            r.raw()?;
            return Ok(None);
        }
        let kind = r.tag("type");
        let refusal = match kind.as_deref() {
            Some("output_text" | "text") => false,
            Some("refusal") => true,
            Some(_) | None => {
                r.raw()?;
                return Ok(None);
            }
        };
        let (mut text, mut annotations, mut logprobs) = (None, None, None);
        r.object(|r, key| {
            match (&*key, r.peek()) {
                ("text", b'"') if !refusal => text = Some(r.string()?),
                ("refusal", b'"') if refusal => text = Some(r.string()?),
                ("annotations", b'[') => annotations = filled(r)?,
                ("logprobs", b'[') => logprobs = filled(r)?,
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        Ok(text.map(|text| Self {
            refusal,
            text,
            annotations,
            logprobs,
        }))
    }

    fn part(self) -> Part<'b> {
        match self.refusal {
            true => Part::Refusal {
                text: self.text.into(),
            },
            false => Part::Text {
                text: self.text.into(),
                cache: None,
                citations: self.annotations,
            },
        }
    }
}

/// Reads an array; an empty one is none.
fn filled<'b>(r: &mut Reader<'b>) -> Result<Option<&'b RawValue>> {
    let raw = r.raw()?;
    let empty = raw
        .get()
        .trim_matches(|c| matches!(c, '[' | ']' | ' ' | '\n' | '\r' | '\t'))
        .is_empty();
    Ok((!empty).then_some(raw))
}

/// Reads the texts of a list of parts as one.
fn joined<'b>(r: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    let mut all: Option<Str<'b>> = None;
    r.array(|r| {
        if r.peek() != b'{' {
            return r.raw().map(drop);
        }
        let mut text = None;
        r.object(|r, key| {
            match &*key {
                "text" => text = loose_string(r)?,
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        match (&mut all, text.filter(|text| !text.is_empty())) {
            (Some(all), Some(text)) => {
                let all = all.to_mut();
                all.push_str(BETWEEN);
                all.push_str(&text);
            }
            (none @ None, text) => *none = text,
            (Some(_), None) => {}
        }
        Ok(())
    })?;
    Ok(all)
}

/// Between the pieces of a summary.
pub(super) const BETWEEN: &str = "\n\n";

/// Returns an id for the call number `index` of an exchange, when it came without one.
pub(super) fn made_up_id(id: &str, index: usize) -> String {
    format!("call_{}_{index}", allowed(id))
}

/// Returns as much of an id as every provider takes in one.
pub(super) fn allowed(id: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    id.chars().filter(allowed).take(48).collect()
}
