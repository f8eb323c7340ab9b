//! A provider's events into hub events.

use serde_json::value::RawValue;

use super::super::words::{self, Call};
use crate::error::Result;
use crate::protocol::blocks::{Blocks, Each};
use crate::protocol::chat::Str;
use crate::protocol::event::{Delta, FailureClass};
use crate::protocol::text::Reader;
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape};

/// Reads one stream.
#[derive(Debug)]
pub struct Decoder {
    blocks: Blocks,
}

impl Decoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            blocks: Blocks::new(shape),
        }
    }

    /// See [`crate::protocol::StreamDecoder::feed`].
    pub fn feed(&mut self, name: &[u8], data: &[u8], each: Each<'_>) {
        let data = data.trim_ascii();
        if self.blocks.is_ended() || data.is_empty() {
            return;
        }
        // It follows the last event.
        if data == b"[DONE]" {
            return self.end(each);
        }
        let Ok(event) = Piece::read(data) else {
            let message = "the provider sent an event that is not a piece of an answer";
            return self.blocks.fail(FailureClass::Garbage, message, each);
        };
        let kind = match &*event.kind {
            "" => std::str::from_utf8(name).unwrap_or_default(),
            kind => kind,
        };
        match kind {
            "message-start" => {
                self.blocks.named(&event.id, "");
                self.blocks.start(each);
            }
            "content-start" | "content-delta" => {
                if kind == "content-start" {
                    self.blocks.close(each);
                }
                self.blocks.reasoning(&event.thinking, each);
                self.blocks.text(&event.text, each);
                if let Some(raw) = event.logprobs.and_then(words::logprobs_to_openai) {
                    self.blocks.on_text(Delta::Logprobs(&raw), each);
                }
            }
            "tool-plan-delta" => self.blocks.reasoning(&event.plan, each),
            "tool-call-start" => {
                let call = event.call.unwrap_or_default();
                self.blocks.call(&call.id, &call.name, each);
                self.blocks.arguments(&call.arguments, each);
            }
            "tool-call-delta" => {
                let call = event.call.unwrap_or_default();
                self.blocks.arguments(&call.arguments, each);
            }
            "content-end" | "tool-call-end" => self.blocks.close(each),
            "citation-start" => {
                if let Some(raw) = event.citation {
                    let family = Protocol::Cohere;
                    self.blocks.on_text(Delta::Citation { family, raw }, each);
                }
            }
            "message-end" => {
                let mut usage = Usage::default();
                let told = event
                    .usage
                    .is_some_and(|raw| usage.read_cohere(raw.get().as_bytes()));
                self.blocks.usage = told.then_some(usage);
                if words::is_failure(&event.finish) {
                    let message = event.error.as_deref().unwrap_or(&event.finish);
                    return self.blocks.fail(FailureClass::Server, message, each);
                }
                self.blocks.done(words::finish(&event.finish), None, each);
            }
            _ => {
                // An error's body in place of an event.
                if let Some(message) = event.message {
                    self.blocks.fail(FailureClass::Server, &message, each);
                }
            }
        }
    }

    /// See [`crate::protocol::StreamDecoder::end`].
    pub fn end(&mut self, each: Each<'_>) {
        self.blocks.cut(each);
    }
}

/// One event as it came.
#[derive(Debug, Default)]
struct Piece<'b> {
    kind: Str<'b>,
    id: Str<'b>,
    text: Str<'b>,
    thinking: Str<'b>,
    plan: Str<'b>,
    call: Option<Call<'b>>,
    citation: Option<&'b RawValue>,
    finish: Str<'b>,
    usage: Option<&'b RawValue>,
    logprobs: Option<&'b RawValue>,
    error: Option<Str<'b>>,
    /// Of an error's body.
    message: Option<Str<'b>>,
}

impl<'b> Piece<'b> {
    fn read(data: &'b [u8]) -> Result<Self> {
        let mut r = Reader::new(data)?;
        let mut piece = Self::default();
        r.object(|r, key| {
            match (&*key, r.peek()) {
                ("type", b'"') => piece.kind = r.string()?,
                ("id", b'"') => piece.id = r.string()?,
                ("message", b'"') => piece.message = Some(r.string()?),
                ("logprobs", b'{' | b'[') => piece.logprobs = Some(r.raw()?),
                ("delta", b'{') => piece.delta(r)?,
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        r.finish()?;
        Ok(piece)
    }

    fn delta(&mut self, r: &mut Reader<'b>) -> Result<()> {
        r.object(|r, key| {
            match (&*key, r.peek()) {
                ("message", b'{') => self.inner(r)?,
                ("finish_reason", b'"') => self.finish = r.string()?,
                ("usage", b'{') => self.usage = Some(r.raw()?),
                ("error", b'"') => self.error = Some(r.string()?),
                _ => drop(r.raw()?),
            }
            Ok(())
        })
    }

    fn inner(&mut self, r: &mut Reader<'b>) -> Result<()> {
        r.object(|r, key| {
            match (&*key, r.peek()) {
                ("content", b'{') => r.object(|r, key| {
                    match (&*key, r.peek()) {
                        ("text", b'"') => self.text = r.string()?,
                        ("thinking", b'"') => self.thinking = r.string()?,
                        _ => drop(r.raw()?),
                    }
                    Ok(())
                })?,
                ("tool_plan", b'"') => self.plan = r.string()?,
                ("tool_calls", b'{') => self.call = Some(Call::read(r)?),
                ("citations", b'{') => self.citation = Some(r.raw()?),
                _ => drop(r.raw()?),
            }
            Ok(())
        })
    }
}
