//! A provider's chunks into hub events.
//!
//! Each chunk is a whole answer in small: calls come whole, text and thoughts in pieces that go on with the block
//! before. The stream ends where the connection does; it was whole when a finish reason had come, or the reason for
//! which the prompt was refused.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::content::{self, Piece, What};
use super::super::grounding::Grounding;
use super::super::logprobs;
use super::super::response::{Answer, Candidate, signed_parts};
use super::super::signature::Signature;
use super::super::words::finish;
use crate::protocol::chat::{Finish, Part, Source};
use crate::protocol::event::{Block, Delta, Event, Failure, FailureClass};
use crate::protocol::text::Reader;
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, SCHEMA_TOOL, Shape};

/// How much text is kept for what refers to it: citations, and an answer that a call may replace.
const KEPT_MAX: usize = 8 * 1024 * 1024;

/// Reads one stream. Of several candidates the first is read.
#[derive(Debug)]
pub struct Decoder {
    shape: Shape,
    phase: Phase,
    id: Box<str>,
    model: Box<str>,
    open: Option<Open>,
    /// The index of the next block.
    next: u32,
    /// Calls whose ids were made here.
    made: usize,
    called: bool,
    answered_by_tool: bool,
    /// All text so far.
    text: String,
    grounding: Option<Box<RawValue>>,
    finish: Option<Box<str>>,
    blocked: bool,
    usage: Option<Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Started,
    Ended,
}

/// The block that the next piece may go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Reasoning,
}

type Each<'e> = &'e mut dyn FnMut(Event<'_>);

impl Decoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            shape: shape.clone(),
            phase: Phase::Waiting,
            id: Box::default(),
            model: Box::default(),
            open: None,
            next: 0,
            made: 0,
            called: false,
            answered_by_tool: false,
            text: String::new(),
            grounding: None,
            finish: None,
            blocked: false,
            usage: None,
        }
    }

    /// See [`crate::protocol::StreamDecoder::feed`].
    pub fn feed(&mut self, _name: &[u8], data: &[u8], each: Each<'_>) {
        if self.phase == Phase::Ended {
            return;
        }
        let data = data.trim_ascii();
        if data.is_empty() {
            return;
        }
        // Google sends none; servers that imitate it may.
        if data == b"[DONE]" {
            return self.end(each);
        }
        let read = Reader::new(data).and_then(|mut r| Answer::read(&mut r));
        let Ok(answer) = read else {
            let message = "the provider sent an event that is not a chunk of an answer";
            return self.fail(FailureClass::Garbage, message.into(), each);
        };
        if let Some(raw) = answer.error {
            let (class, message) = failure(raw);
            return self.fail(class, message, each);
        }
        self.take(answer, each);
    }

    /// See [`crate::protocol::StreamDecoder::end`].
    pub fn end(&mut self, each: Each<'_>) {
        if self.phase == Phase::Ended {
            return;
        }
        if self.finish.is_some() || self.blocked {
            return self.done(each);
        }
        let message = "the provider hung up in the middle of the answer";
        self.fail(FailureClass::Cut, message.into(), each);
    }

    fn take(&mut self, answer: Answer<'_>, each: Each<'_>) {
        if self.phase == Phase::Waiting {
            keep(&mut self.id, &answer.id);
            keep(&mut self.model, &answer.model);
        }
        self.blocked |= answer.blocked.is_some();
        let candidate = answer
            .candidates
            .into_iter()
            .flatten()
            .find(|candidate| candidate.index == 0);
        if let Some(raw) = candidate
            .as_ref()
            .and_then(|candidate| candidate.grounding)
            .filter(|raw| raw.get().len() > 2)
        {
            self.grounding = Some(raw.to_owned());
        }
        if let Some(wire) = &answer.usage {
            let grounded = self
                .grounding
                .as_deref()
                .is_some_and(|raw| Grounding::read(raw).is_billed());
            let mut usage = self.usage.take().unwrap_or_default();
            let was_told = usage != Usage::default();
            if usage.overlay_gemini(wire, grounded) || was_told {
                self.usage = Some(usage);
            }
        }
        if let Some(candidate) = candidate {
            self.start(each);
            self.candidate(candidate, each);
        }
    }

    fn start(&mut self, each: Each<'_>) {
        if self.phase != Phase::Waiting {
            return;
        }
        self.phase = Phase::Started;
        if self.id.is_empty() {
            self.id = self.shape.id.as_str().into();
        }
        each(Event::Start {
            id: Cow::Borrowed(&self.id),
            model: Cow::Borrowed(&self.model),
            usage: None,
            service_tier: None,
        });
    }

    fn candidate(&mut self, candidate: Candidate<'_>, each: Each<'_>) {
        for piece in candidate.pieces {
            self.piece(piece, each);
        }
        if let Some(raw) = candidate.logprobs.and_then(logprobs::to_openai)
            && self.open == Some(Open::Text)
        {
            let index = self.last();
            let delta = Delta::Logprobs(&raw);
            each(Event::Delta { index, delta });
        }
        if let Some(word) = candidate.finish {
            self.finish = Some(word.into());
        }
    }

    fn piece(&mut self, piece: Piece<'_>, each: Each<'_>) {
        // A lone signature ends the thought before it.
        if let (What::Thought(text), Some(wire)) = (&piece.what, &piece.signature)
            && text.is_empty()
            && self.open == Some(Open::Reasoning)
            && let Signature::Signed(blob) = Signature::read(wire)
        {
            let index = self.last();
            let delta = Delta::Signature(blob);
            each(Event::Delta { index, delta });
            return self.close(each);
        }
        let mut made = self.made;
        let mut parts = Vec::with_capacity(2);
        signed_parts(piece, &self.shape, &mut made, &mut |part| parts.push(part));
        self.made = made;
        for part in parts {
            self.part(part, each);
        }
    }

    fn part(&mut self, part: Part<'_>, each: Each<'_>) {
        match part {
            Part::Text { text, .. } => self.said(&text, each),
            Part::Reasoning { text, signature } => {
                if text.is_empty() {
                    self.close(each);
                }
                let index = self.begin(Open::Reasoning, each);
                if !text.is_empty() {
                    let delta = Delta::Reasoning(text.into_str());
                    each(Event::Delta { index, delta });
                }
                if let Some(signature) = signature {
                    let delta = Delta::Signature(signature);
                    each(Event::Delta { index, delta });
                    self.close(each);
                }
            }
            Part::ToolCall {
                id,
                name,
                arguments,
                ..
            } => {
                if self.shape.schema_tool && name == SCHEMA_TOOL {
                    // The first is the answer; a second one would break it.
                    if !std::mem::replace(&mut self.answered_by_tool, true) {
                        self.text = String::new();
                        self.tell(&arguments, each);
                        self.close(each);
                    }
                    return;
                }
                self.called = true;
                self.close(each);
                let index = self.open_block(Block::ToolCall { id, name }, each);
                let delta = Delta::Arguments(arguments);
                each(Event::Delta { index, delta });
                each(Event::Close { index });
            }
            Part::RedactedReasoning { data } => {
                self.whole(Block::RedactedReasoning { data }, each);
            }
            Part::Opaque { family, raw } => self.whole(Block::Opaque { family, raw }, each),
            Part::Image { .. } | Part::Audio { .. } | Part::File { .. } => {
                if let Some(raw) = written(&part) {
                    let family = Protocol::Gemini;
                    self.whole(Block::Opaque { family, raw: &raw }, each);
                }
            }
            Part::Refusal { .. } | Part::ToolResult { .. } => {}
        }
    }

    fn said(&mut self, text: &str, each: Each<'_>) {
        if self.answered_by_tool {
            return;
        }
        let room = KEPT_MAX.saturating_sub(self.text.len());
        if self.shape.schema_tool {
            if text.len() > room {
                let message = "the provider says more beside its answer than can be held";
                return self.fail(FailureClass::Garbage, message.into(), each);
            }
            // Given out if no call comes.
            return self.text.push_str(text);
        }
        if text.len() <= room {
            self.text.push_str(text);
        }
        self.tell(text, each);
    }

    fn tell(&mut self, text: &str, each: Each<'_>) {
        if self.phase == Phase::Ended {
            return;
        }
        let index = self.begin(Open::Text, each);
        let delta = Delta::Text(Cow::Borrowed(text));
        each(Event::Delta { index, delta });
    }

    /// Opens a block of this kind unless one is open.
    fn begin(&mut self, kind: Open, each: Each<'_>) -> u32 {
        if self.open == Some(kind) {
            return self.last();
        }
        self.close(each);
        self.open = Some(kind);
        let block = match kind {
            Open::Text => Block::Text,
            Open::Reasoning => Block::Reasoning,
        };
        self.open_block(block, each)
    }

    fn whole(&mut self, block: Block<'_>, each: Each<'_>) {
        self.close(each);
        let index = self.open_block(block, each);
        each(Event::Close { index });
    }

    fn open_block(&mut self, block: Block<'_>, each: Each<'_>) -> u32 {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        each(Event::Open { index, block });
        index
    }

    /// The index of the block opened last.
    fn last(&self) -> u32 {
        self.next.saturating_sub(1)
    }

    fn close(&mut self, each: Each<'_>) {
        if self.open.take().is_some() {
            each(Event::Close { index: self.last() });
        }
    }

    fn done(&mut self, each: Each<'_>) {
        self.start(each);
        if self.shape.schema_tool && !self.answered_by_tool && !self.text.is_empty() {
            let beside = std::mem::take(&mut self.text);
            self.tell(&beside, each);
        }
        if let Some(raw) = self.grounding.take() {
            let grounding = Grounding::read(&raw);
            grounding.bill(self.usage.get_or_insert_default());
            if self.open == Some(Open::Text) {
                let index = self.last();
                let family = Protocol::OpenaiChat;
                grounding.annotations(&self.text, 0, &mut |raw| {
                    let delta = Delta::Citation { family, raw };
                    each(Event::Delta { index, delta });
                });
            }
        }
        self.close(each);
        if let Some(usage) = self.usage.take() {
            each(Event::Usage(usage));
        }
        self.phase = Phase::Ended;
        let reason = match &self.finish {
            Some(word) => finish(word, self.called),
            None => Finish::ContentFilter,
        };
        each(Event::Finish {
            reason,
            stop_sequence: None,
        });
    }

    fn fail(&mut self, class: FailureClass, message: Cow<'_, str>, each: Each<'_>) {
        if self.phase == Phase::Ended {
            return;
        }
        self.start(each);
        self.close(each);
        if let Some(usage) = self.usage.take() {
            each(Event::Usage(usage));
        }
        self.phase = Phase::Ended;
        each(Event::Error(Failure { class, message }));
    }
}

/// Keeps the first text that says something.
fn keep(kept: &mut Box<str>, told: &str) {
    if kept.is_empty() {
        *kept = told.into();
    }
}

/// Returns a part as it stands on the wire.
fn written(part: &Part<'_>) -> Option<Box<RawValue>> {
    let mut out = Vec::new();
    match part {
        Part::Image { source, .. } | Part::File { source, .. } => match source {
            Source::Base64 { media_type, data } => {
                content::write_blob(media_type, data, None, None, &mut out);
            }
            Source::Url(url) => content::write_file(url, "image/png", None, &mut out),
            Source::Text(_) | Source::FileId { .. } => return None,
        },
        Part::Audio { data, format } => {
            content::write_blob(&content::audio_type(format), data, None, None, &mut out);
        }
        Part::Text { .. }
        | Part::Refusal { .. }
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::Reasoning { .. }
        | Part::RedactedReasoning { .. }
        | Part::Opaque { .. } => return None,
    }
    RawValue::from_string(String::from_utf8(out).ok()?).ok()
}

/// Reads an error: `{"code": 503, "message": …, "status": "UNAVAILABLE"}`.
fn failure(raw: &RawValue) -> (FailureClass, Cow<'_, str>) {
    let (mut code, mut status, mut message) = (None, Cow::Borrowed(""), None);
    let mut r = Reader::of(raw.get());
    if r.peek() == b'{' {
        // What can't be read tells nothing.
        let _ = r.object(|r, key| {
            match (&*key, r.peek()) {
                ("code", b'0'..=b'9') => code = r.integer().ok(),
                ("status", b'"') => status = r.string()?,
                ("message", b'"') => message = Some(r.string()?),
                _ => drop(r.raw()?),
            }
            Ok(())
        });
    }
    let class = match (&*status, code) {
        ("RESOURCE_EXHAUSTED", _) | (_, Some(429)) => FailureClass::RateLimited,
        ("UNAVAILABLE", _) | (_, Some(503)) => FailureClass::Overloaded,
        ("INVALID_ARGUMENT" | "NOT_FOUND" | "OUT_OF_RANGE", _) | (_, Some(400 | 404 | 413)) => {
            FailureClass::InvalidRequest
        }
        _ => FailureClass::Server,
    };
    let message = message.filter(|message| !message.is_empty());
    (class, message.unwrap_or(Cow::Borrowed(raw.get())))
}
