//! A provider's chunks into hub events.
//!
//! OpenAI's stream has no blocks: pieces of text, thinking and calls come as they come. Blocks are made of them
//! one after the other, as Anthropic's clients expect them: a block is closed when the next one begins. Where a
//! provider mixes the pieces of several calls, the later block waits in memory until the arguments of the one
//! before are whole JSON, or until the end.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde_json::value::RawValue;

use super::answer::{
    agreed, finish_of, loose_arguments, loose_string, made_up_id, piece, read_usage, said,
};
use super::block::{Blocks, Kind};
use super::detail::{self, Detail};
use super::extra;
use crate::error::Result;
use crate::protocol::chat::{Finish, Str};
use crate::protocol::event::{Delta, Event, Failure, FailureClass};
use crate::protocol::provenance;
use crate::protocol::text::Reader;
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, SCHEMA_TOOL, Shape};

/// How many calls one answer may hold.
const CALLS_MAX: usize = 1_024;

/// Reads one stream. Of several choices the first is read.
#[derive(Debug)]
pub struct Decoder {
    schema_tool: bool,
    phase: Phase,
    id: Box<str>,
    model: Box<str>,
    service_tier: Option<Box<str>>,
    blocks: Blocks,
    calls: Vec<Call>,
    /// With [`Shape::schema_tool`]: what was said beside the call, given out if no call comes.
    beside: String,
    answered_by_tool: bool,
    refused: bool,
    /// Thinking came as `reasoning`, so details only repeat it.
    thought: bool,
    /// A choice was seen.
    answered: bool,
    finish: Option<Finish>,
    usage: Option<Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Started,
    Ended,
}

/// A call that was seen, to know its later pieces by.
#[derive(Debug)]
struct Call {
    index: Option<u32>,
    id: Box<str>,
    /// The block's number in [`Blocks`].
    block: u64,
}

impl Decoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            schema_tool: shape.schema_tool,
            phase: Phase::Waiting,
            id: Box::default(),
            model: Box::default(),
            service_tier: None,
            blocks: Blocks::default(),
            calls: Vec::new(),
            beside: String::new(),
            answered_by_tool: false,
            refused: false,
            thought: false,
            answered: false,
            finish: None,
            usage: None,
        }
    }

    /// See [`crate::protocol::StreamDecoder::feed`].
    pub fn feed(&mut self, name: &[u8], data: &[u8], each: &mut dyn FnMut(Event<'_>)) {
        if self.phase == Phase::Ended {
            return;
        }
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            return self.done(each);
        }
        if data.is_empty() {
            return;
        }
        let Ok(chunk) = Chunk::read(data) else {
            let message = "the provider sent an event that is not a chunk of an answer";
            return self.fail(FailureClass::Garbage, message.into(), each);
        };
        let failed = chunk.error.is_some()
            || (chunk.choices.is_none() && (name == b"error" || chunk.object_is_error));
        if failed {
            let (class, message) = match chunk.error {
                Some(raw) => (class_of(raw), said(raw)),
                None => (
                    FailureClass::Server,
                    chunk.message.unwrap_or_default().into_owned(),
                ),
            };
            return self.fail(class, message.into(), each);
        }
        self.take(chunk, each);
    }

    /// See [`crate::protocol::StreamDecoder::end`].
    pub fn end(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if self.phase == Phase::Ended {
            return;
        }
        if self.finish.is_some() {
            return self.done(each);
        }
        let message = "the provider hung up in the middle of the answer";
        self.fail(FailureClass::Cut, message.into(), each);
    }

    fn take(&mut self, chunk: Chunk<'_>, each: &mut dyn FnMut(Event<'_>)) {
        if self.phase == Phase::Waiting {
            keep(&mut self.id, chunk.id);
            keep(&mut self.model, chunk.model);
        }
        if let Some(tier) = chunk.service_tier {
            // What is told last served it; what comes first may be a wish.
            self.service_tier = Some(tier.into());
        }
        self.usage = chunk.usage.or(self.usage.take());
        let Some(choice) = chunk.choices else {
            return;
        };
        let Some(choice) = choice.first else {
            return;
        };
        self.answered = true;
        self.start(each);
        if self.pieces(choice.delta, each).is_err() {
            let message = "the provider sent a chunk that can't be read";
            return self.fail(FailureClass::Garbage, message.into(), each);
        }
        if self.phase == Phase::Ended {
            return;
        }
        if let Some(logprobs) = choice.logprobs
            && let Some(index) = self.blocks.open_text()
        {
            let delta = Delta::Logprobs(logprobs);
            each(Event::Delta { index, delta });
        }
        if let Some(word) = choice.finish {
            self.finish = Some(finish_of(&word));
        }
    }

    fn start(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if self.phase != Phase::Waiting {
            return;
        }
        self.phase = Phase::Started;
        each(Event::Start {
            id: Cow::Borrowed(&self.id),
            model: Cow::Borrowed(&self.model),
            usage: None,
            service_tier: self.service_tier.as_deref().map(Cow::Borrowed),
        });
    }

    /// Reads the pieces of a delta: thinking, then text, then calls, whatever order they stand in.
    fn pieces(&mut self, delta: Option<&RawValue>, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let Some(raw) = delta else {
            return Ok(());
        };
        let mut delta = Pieces::default();
        Reader::of(raw.get()).object(|r, key| delta.field(r, &key))?;
        for text in [delta.thinking, delta.reasoning].into_iter().flatten() {
            self.thought = true;
            self.blocks.push(Kind::Reasoning, &text, each);
        }
        for raw in delta.details {
            self.detail(raw, each);
        }
        if let Some(text) = delta.text {
            self.text(&text, each);
        }
        if let Some(text) = delta.refusal {
            self.refused = true;
            self.blocks.push(Kind::Refusal, &text, each);
        }
        for raw in delta.annotations {
            if let Some(index) = self.blocks.open_text() {
                let family = Protocol::OpenaiChat;
                let delta = Delta::Citation { family, raw };
                each(Event::Delta { index, delta });
            }
        }
        for call in delta.calls {
            self.call(call, each);
        }
        if self.blocks.overfull() && self.phase != Phase::Ended {
            let message = "the provider mixes more calls than can be held";
            self.fail(FailureClass::Garbage, message.into(), each);
        }
        Ok(())
    }

    fn text(&mut self, text: &str, each: &mut dyn FnMut(Event<'_>)) {
        if self.schema_tool {
            if !self.answered_by_tool {
                self.beside.push_str(text);
            }
            return;
        }
        self.blocks.push(Kind::Text, text, each);
    }

    fn detail(&mut self, raw: &RawValue, each: &mut dyn FnMut(Event<'_>)) {
        match detail::read(&mut Reader::of(raw.get())) {
            Ok(Detail::Text {
                text, signature, ..
            }) => {
                // `reasoning` says the same, where it is there: in the same delta, or in those before.
                if !self.thought && !text.is_empty() {
                    self.blocks.push(Kind::Reasoning, &text, each);
                }
                if let Some(signature) = signature {
                    self.blocks.sign(&signature, each);
                }
            }
            Ok(Detail::Redacted { data }) => self.blocks.redacted(&data, each),
            Ok(Detail::Opaque(_)) => self.blocks.opaque(raw, each),
            Ok(Detail::Summary(_)) | Err(_) => {}
        }
    }

    fn call(&mut self, piece: CallPiece<'_>, each: &mut dyn FnMut(Event<'_>)) {
        let known = self.known(&piece);
        let block = match known {
            Some(block) => block,
            None => {
                if self.calls.len() >= CALLS_MAX {
                    let message = "the provider makes more calls than one answer may hold";
                    return self.fail(FailureClass::Garbage, message.into(), each);
                }
                let id = match &piece.id {
                    Some(id) => Box::from(&**id),
                    None => made_up_id(&self.id, self.calls.len()).into(),
                };
                if let Some(signature) = &piece.signature {
                    let marked = provenance::mark(Protocol::OpenaiChat, signature);
                    self.blocks.seal(&marked, each);
                }
                let block = self.blocks.add_call(&id);
                self.calls.push(Call {
                    index: piece.index,
                    id,
                    block,
                });
                block
            }
        };
        if let Some(name) = &piece.name {
            let stands_in = self.schema_tool && name == SCHEMA_TOOL;
            if stands_in {
                self.answered_by_tool = true;
                self.beside = String::new();
            }
            self.blocks.name(block, name, stands_in);
        }
        let arguments = piece.arguments.as_deref().unwrap_or("");
        self.blocks.arguments(block, arguments, each);
    }

    /// Returns the block of the call that `piece` belongs to; `None` if it begins a new one.
    fn known(&self, piece: &CallPiece<'_>) -> Option<u64> {
        let other = |call: &Call| piece.id.as_deref().is_some_and(|id| *id != *call.id);
        let last = match (piece.index, &piece.id) {
            (Some(index), _) => {
                let of = |call: &&Call| call.index == Some(index);
                let call = self.calls.iter().rev().find(of)?;
                // Some servers number every call 0, and send each whole.
                if other(call) && piece.name.is_some() {
                    return None;
                }
                call
            }
            (None, Some(id)) => self.calls.iter().rev().find(|call| *call.id == **id)?,
            (None, None) if piece.name.is_some() => return None,
            (None, None) => self.calls.last()?,
        };
        Some(last.block)
    }

    fn done(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if !self.answered {
            let message = "the provider ended the stream without an answer";
            return self.fail(FailureClass::Cut, message.into(), each);
        }
        self.start(each);
        self.blocks.finish(each);
        if !self.answered_by_tool && !self.beside.is_empty() {
            let beside = std::mem::take(&mut self.beside);
            self.blocks.push(Kind::Text, &beside, each);
            self.blocks.finish(each);
        }
        self.tell_usage(each);
        self.phase = Phase::Ended;
        let finish = self.finish.unwrap_or(Finish::Stop);
        each(Event::Finish {
            reason: agreed(finish, self.blocks.called(), self.refused),
            stop_sequence: None,
        });
    }

    fn tell_usage(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if let Some(mut usage) = self.usage.take() {
            usage.tier = self.service_tier.take();
            each(Event::Usage(usage));
        }
    }

    fn fail(
        &mut self,
        class: FailureClass,
        message: Cow<'_, str>,
        each: &mut dyn FnMut(Event<'_>),
    ) {
        self.start(each);
        self.blocks.abandon(each);
        self.tell_usage(each);
        self.phase = Phase::Ended;
        each(Event::Error(Failure { class, message }));
    }
}

/// Keeps the first text that says something.
fn keep(kept: &mut Box<str>, told: Option<Str<'_>>) {
    if kept.is_empty()
        && let Some(told) = told
    {
        *kept = told.into();
    }
}

/// One event's data. What is inside of the delta is read later.
#[derive(Default)]
struct Chunk<'b> {
    id: Option<Str<'b>>,
    model: Option<Str<'b>>,
    service_tier: Option<Str<'b>>,
    choices: Option<Choices<'b>>,
    usage: Option<Usage>,
    error: Option<&'b RawValue>,
    /// `{"object":"error","message":…}`, as vLLM says it.
    object_is_error: bool,
    message: Option<Str<'b>>,
}

#[derive(Default)]
struct Choices<'b> {
    first: Option<Choice<'b>>,
    /// Moonshot has told it here.
    usage: Option<Usage>,
}

#[derive(Default)]
struct Choice<'b> {
    delta: Option<&'b RawValue>,
    finish: Option<Str<'b>>,
    logprobs: Option<&'b RawValue>,
}

impl<'b> Chunk<'b> {
    fn read(data: &'b [u8]) -> Result<Self> {
        let mut chunk = Self::default();
        let mut reader = Reader::new(data)?;
        reader.object(|r, key| {
            match (&*key, r.peek()) {
                ("id", _) => chunk.id = loose_string(r)?,
                ("model", _) => chunk.model = loose_string(r)?,
                ("service_tier", _) => chunk.service_tier = loose_string(r)?,
                ("choices", b'[') => {
                    let mut choices = Choices::read(r)?;
                    let usage = choices.usage.take();
                    chunk.usage = chunk.usage.take().or(usage);
                    chunk.choices = Some(choices);
                }
                ("usage", b'{') => chunk.usage = read_usage(r)?.or(chunk.usage.take()),
                // Groq tells it here.
                ("x_groq", b'{') => r.object(|r, key| {
                    match (&*key, r.peek()) {
                        ("usage", b'{') => {
                            let usage = read_usage(r)?;
                            chunk.usage = chunk.usage.take().or(usage);
                        }
                        _ => drop(r.raw()?),
                    }
                    Ok(())
                })?,
                ("error", _) => chunk.error = r.maybe_raw()?,
                ("object", _) => {
                    chunk.object_is_error = loose_string(r)?.is_some_and(|kind| kind == "error");
                }
                ("message", _) => chunk.message = loose_string(r)?,
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        reader.finish()?;
        Ok(chunk)
    }
}

impl<'b> Choices<'b> {
    fn read(r: &mut Reader<'b>) -> Result<Self> {
        let mut choices = Self::default();
        r.array(|r| {
            if r.peek() != b'{' {
                return r.raw().map(drop);
            }
            let (mut choice, mut index) = (Choice::default(), 0);
            r.object(|r, key| {
                match (&*key, r.peek()) {
                    ("index", b'0'..=b'9') => index = r.integer()?,
                    ("delta", b'{') => choice.delta = Some(r.raw()?),
                    ("finish_reason", _) => choice.finish = loose_string(r)?,
                    ("logprobs", _) => choice.logprobs = r.maybe_raw()?,
                    ("usage", b'{') => choices.usage = read_usage(r)?.or(choices.usage.take()),
                    _ => drop(r.raw()?),
                }
                Ok(())
            })?;
            // The hub's stream is one answer.
            if index == 0 {
                choices.first = Some(choice);
            }
            Ok(())
        })?;
        Ok(choices)
    }
}

/// What one delta brings.
#[derive(Default)]
struct Pieces<'b> {
    /// `reasoning_content` or `reasoning`.
    reasoning: Option<Str<'b>>,
    /// Thinking among the pieces of content.
    thinking: Option<Str<'b>>,
    details: Vec<&'b RawValue>,
    text: Option<Str<'b>>,
    refusal: Option<Str<'b>>,
    annotations: Vec<&'b RawValue>,
    calls: VecDeque<CallPiece<'b>>,
}

#[derive(Default)]
struct CallPiece<'b> {
    index: Option<u32>,
    id: Option<Str<'b>>,
    name: Option<Str<'b>>,
    arguments: Option<Str<'b>>,
    /// Of the call as a whole.
    signature: Option<Str<'b>>,
}

impl<'b> Pieces<'b> {
    fn field(&mut self, r: &mut Reader<'b>, key: &str) -> Result<()> {
        let told = |text: Str<'b>| Some(text).filter(|text| !text.is_empty());
        match (key, r.peek()) {
            ("content", b'"') => self.text = told(r.string()?),
            ("content", b'[') => r.array(|r| {
                let (text, thinks) = piece(r)?;
                let into = if thinks {
                    &mut self.thinking
                } else {
                    &mut self.text
                };
                match (into, text.and_then(told)) {
                    (Some(before), Some(text)) => before.to_mut().push_str(&text),
                    (none, text @ Some(_)) => *none = text,
                    (_, None) => {}
                }
                Ok(())
            })?,
            ("reasoning_content" | "reasoning", b'"') => {
                self.reasoning = told(r.string()?).or(self.reasoning.take());
            }
            ("reasoning_details", b'[') => self.details = r.list(Reader::raw)?,
            ("refusal", b'"') => self.refusal = told(r.string()?),
            ("annotations", b'[') => self.annotations = r.list(Reader::raw)?,
            ("tool_calls", b'[') => r.array(|r| {
                if r.peek() != b'{' {
                    return r.raw().map(drop);
                }
                let mut call = CallPiece::default();
                r.object(|r, key| call.field(r, &key))?;
                self.calls.push_back(call);
                Ok(())
            })?,
            ("function_call", b'{') => {
                let mut call = CallPiece {
                    index: Some(0),
                    ..CallPiece::default()
                };
                r.object(|r, key| call.function(r, &key))?;
                self.calls.push_back(call);
            }
            _ => drop(r.raw()?),
        }
        Ok(())
    }
}

impl<'b> CallPiece<'b> {
    fn field(&mut self, r: &mut Reader<'b>, key: &str) -> Result<()> {
        match (key, r.peek()) {
            ("index", b'0'..=b'9') => self.index = Some(r.integer()?),
            ("id", _) => self.id = loose_string(r)?.filter(|id| !id.is_empty()),
            ("function", b'{') => r.object(|r, key| self.function(r, &key))?,
            ("extra_content", _) => self.signature = extra::read(r)?,
            _ => drop(r.raw()?),
        }
        Ok(())
    }

    fn function(&mut self, r: &mut Reader<'b>, key: &str) -> Result<()> {
        match key {
            "name" => self.name = loose_string(r)?.filter(|name| !name.is_empty()),
            "arguments" => self.arguments = loose_arguments(r)?,
            _ => drop(r.raw()?),
        }
        Ok(())
    }
}

/// Returns what kind of failure an error object tells of.
fn class_of(raw: &RawValue) -> FailureClass {
    let mut words = Vec::new();
    let mut status = None;
    let mut reader = Reader::of(raw.get());
    if reader.peek() == b'{' {
        // What can't be read tells nothing.
        let _ = reader.object(|r, key| {
            match (&*key, r.peek()) {
                ("code" | "status" | "status_code", b'0'..=b'9') => status = r.integer().ok(),
                ("code" | "type" | "status", b'"') => words.push(r.string()?),
                _ => drop(r.raw()?),
            }
            Ok(())
        });
    }
    let says = |parts: &[&str]| {
        words.iter().any(|word| {
            let word = word.to_ascii_lowercase();
            parts.iter().any(|part| word.contains(part))
        })
    };
    match status {
        Some(429) => FailureClass::RateLimited,
        Some(503 | 529) => FailureClass::Overloaded,
        Some(400 | 404 | 413 | 422) => FailureClass::InvalidRequest,
        Some(_) | None if says(&["overloaded", "unavailable"]) => FailureClass::Overloaded,
        Some(_) | None if says(&["rate_limit", "ratelimit", "too_many", "429"]) => {
            FailureClass::RateLimited
        }
        Some(_) | None if says(&["invalid_request", "invalid_prompt", "context_length"]) => {
            FailureClass::InvalidRequest
        }
        Some(_) | None => FailureClass::Server,
    }
}
