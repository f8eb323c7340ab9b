//! A provider's events into the hub's.
//!
//! Only tool calls have a `contentBlockStart`; text and reasoning begin with their first delta. What was used comes
//! last, after `messageStop`.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::{blob, response};
use super::class_of;
use super::wire::{Cited, Piece, Start, cited, piece_of, start_of, told};
use crate::codec::base64;
use crate::error::{Error, Kind, Result};
use crate::protocol::chat::Finish;
use crate::protocol::event::{Block, Delta, Event, Failure, FailureClass};
use crate::protocol::text::Reader;
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, SCHEMA_TOOL, Shape};

/// Blocks that may be open at once; Bedrock opens one.
const OPEN_MAX: usize = 128;
/// Text beside a structured answer that is held back until the answer shows.
const ASIDE_MAX: usize = 64 * 1024;
/// Encrypted reasoning of one block, in bytes.
const REDACTED_MAX: usize = 4 * 1024 * 1024;

type Each<'e> = &'e mut dyn FnMut(Event<'_>);

/// Reads one stream. Keeps the promises of [`crate::protocol::StreamDecoder`].
#[derive(Debug)]
pub struct Decoder {
    id: String,
    model: String,
    phase: Phase,
    open: Vec<Open>,
    /// The hub's index of the next block.
    next: u32,
    usage: Usage,
    /// Usage came that no event has told yet.
    owes_usage: bool,
    finish: Finish,
    stop_sequence: Option<String>,
    calls: bool,
    answer: Answer,
    /// Text that is told only if no structured answer comes.
    aside: String,
}

#[derive(Debug, PartialEq)]
enum Phase {
    Before,
    Running,
    /// `messageStop` came; `metadata` is still awaited.
    Stopped,
    Done,
}

/// Whether the answer's text is the call of a tool.
#[derive(Debug, PartialEq)]
enum Answer {
    Text,
    Awaited,
    Given,
}

#[derive(Debug)]
struct Open {
    /// Bedrock's index.
    wire: u32,
    /// The hub's.
    hub: u32,
    role: BlockRole,
    /// Encrypted reasoning, told whole at the end of its block.
    redacted: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum BlockRole {
    Text,
    Reasoning,
    /// Unknown to the hub until it is whole.
    Redacted,
    Call,
    /// The call that is the answer's text.
    Answer,
    Opaque,
    /// Text that may not belong to the answer, see [`Decoder::aside`]; unknown to the hub.
    Aside,
    /// Left out; unknown to the hub.
    Muted,
}

impl Decoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            id: format!("msg_{}", shape.id),
            model: shape.model.clone(),
            phase: Phase::Before,
            open: Vec::new(),
            next: 0,
            usage: Usage::default(),
            owes_usage: false,
            finish: Finish::Other,
            stop_sequence: None,
            calls: false,
            answer: if shape.schema_tool {
                Answer::Awaited
            } else {
                Answer::Text
            },
            aside: String::new(),
        }
    }

    /// Feeds one message of the event stream by its name and payload; `each` is called for every event it means.
    pub fn feed(&mut self, name: &[u8], data: &[u8], each: Each<'_>) {
        if self.phase == Phase::Done {
            return;
        }
        let known = std::str::from_utf8(name).ok().and_then(class_of);
        if let Some(class) = known {
            return self.exception(class, data, each);
        }
        if let Err(error) = self.read(name, data, each) {
            self.fail(FailureClass::Garbage, &error.message, each);
        }
    }

    /// Ends the stream; one without `messageStop` was cut, one without `metadata` just doesn't tell what was used.
    pub fn end(&mut self, each: Each<'_>) {
        match self.phase {
            Phase::Done => {}
            Phase::Stopped => self.finish(each),
            Phase::Before | Phase::Running => self.fail(
                FailureClass::Cut,
                "The provider's stream ended before the answer did",
                each,
            ),
        }
    }

    fn read(&mut self, name: &[u8], data: &[u8], each: Each<'_>) -> Result<()> {
        let mut reader = Reader::new(data)?;
        match name {
            b"metadata" => self.metadata(&mut reader, each),
            // What comes after the end of the answer is no part of it.
            _ if self.phase == Phase::Stopped => Ok(()),
            b"contentBlockDelta" => self.delta(&mut reader, each),
            b"contentBlockStart" => self.block_start(&mut reader, each),
            b"contentBlockStop" => self.block_stop(&mut reader, each),
            b"messageStart" => {
                reader.raw_object()?;
                self.ensure_started(each);
                Ok(())
            }
            b"messageStop" => self.message_stop(&mut reader, each),
            // A kind of event that is new and says nothing that we know.
            _ => reader.raw().map(drop),
        }
    }

    fn ensure_started(&mut self, each: Each<'_>) {
        if self.phase == Phase::Before {
            self.phase = Phase::Running;
            each(Event::Start {
                id: Cow::Borrowed(&self.id),
                model: Cow::Borrowed(&self.model),
                usage: None,
                service_tier: None,
            });
        }
    }

    fn block_start(&mut self, reader: &mut Reader<'_>, each: Each<'_>) -> Result<()> {
        let (mut index, mut raw) = (None, None);
        reader.object(|r, key| {
            match &*key {
                "contentBlockIndex" => index = Some(r.integer()?),
                "start" => raw = Some(r.raw_object()?),
                _ => r.raw().map(drop)?,
            }
            Ok(())
        })?;
        reader.finish()?;
        let index = index.ok_or_else(|| reader.missing("contentBlockIndex"))?;
        self.ensure_started(each);
        self.close(index, each);
        let Some(raw) = raw else { return Ok(()) };
        match start_of(raw)? {
            Start::Deltas => Ok(()),
            Start::Call { name, .. } if self.answer != Answer::Text && name == SCHEMA_TOOL => {
                self.open_answer(index, each)
            }
            Start::Call { id, name } => {
                self.calls = true;
                self.release_aside(each);
                self.open(
                    index,
                    BlockRole::Call,
                    Some(Block::ToolCall { id, name }),
                    each,
                )
            }
            Start::Other => {
                let block = Block::Opaque {
                    family: Protocol::Bedrock,
                    raw,
                };
                self.open(index, BlockRole::Opaque, Some(block), each)
            }
        }
    }

    /// Opens a block; one without a hub's word for it is unknown to the hub.
    fn open(
        &mut self,
        wire: u32,
        role: BlockRole,
        block: Option<Block<'_>>,
        each: Each<'_>,
    ) -> Result<()> {
        if self.open.len() >= OPEN_MAX {
            return Err(Error::new(
                Kind::UpstreamBroken,
                "Too many content blocks are open at once",
            ));
        }
        let hub = self.next;
        if let Some(block) = block {
            self.next += 1;
            each(Event::Open { index: hub, block });
        }
        self.open.push(Open {
            wire,
            hub,
            role,
            redacted: Vec::new(),
        });
        Ok(())
    }

    /// Opens the structured answer; a second one would break the first.
    fn open_answer(&mut self, wire: u32, each: Each<'_>) -> Result<()> {
        let again = self.answer == Answer::Given;
        self.answer = Answer::Given;
        self.aside = String::new();
        if again {
            self.open(wire, BlockRole::Muted, None, each)
        } else {
            self.open(wire, BlockRole::Answer, Some(Block::Text), each)
        }
    }

    /// Tells the text that stood beside an answer which did not come.
    fn release_aside(&mut self, each: Each<'_>) {
        if self.aside.is_empty() {
            return;
        }
        let text = std::mem::take(&mut self.aside);
        let index = self.next;
        self.next += 1;
        each(Event::Open {
            index,
            block: Block::Text,
        });
        each(Event::Delta {
            index,
            delta: Delta::Text(text.into()),
        });
        each(Event::Close { index });
    }

    fn delta(&mut self, reader: &mut Reader<'_>, each: Each<'_>) -> Result<()> {
        let (mut index, mut raw) = (None, None);
        reader.object(|r, key| {
            match &*key {
                "contentBlockIndex" => index = Some(r.integer()?),
                "delta" => raw = Some(r.raw_object()?),
                _ => r.raw().map(drop)?,
            }
            Ok(())
        })?;
        reader.finish()?;
        let index = index.ok_or_else(|| reader.missing("contentBlockIndex"))?;
        let raw = raw.ok_or_else(|| reader.missing("delta"))?;
        self.ensure_started(each);
        let block = self.open.iter().find(|block| block.wire == index);
        if let Some(block) = block.filter(|block| block.role == BlockRole::Opaque) {
            let index = block.hub;
            let family = Protocol::Bedrock;
            let delta = Delta::Opaque { family, raw };
            each(Event::Delta { index, delta });
            return Ok(());
        }
        match piece_of(raw)? {
            Some(piece) => self.tell(index, piece, each),
            None => Ok(()),
        }
    }

    /// Returns the place in `open` of the block that `piece` belongs to, opened if it must be.
    fn place(&mut self, wire: u32, piece: &Piece<'_>, each: Each<'_>) -> Result<usize> {
        let at = self.open.iter().position(|block| block.wire == wire);
        let role = at.map(|at| self.open[at].role);
        let fits = match (role, piece) {
            (Some(BlockRole::Muted), _) => true,
            (Some(BlockRole::Text | BlockRole::Aside), Piece::Text(_) | Piece::Citation(_)) => true,
            (Some(BlockRole::Reasoning), Piece::Reasoning(_) | Piece::Signature(_)) => true,
            (Some(BlockRole::Redacted), Piece::Redacted(_)) => true,
            (Some(BlockRole::Call | BlockRole::Answer), Piece::Arguments(_)) => true,
            (_, _) => false,
        };
        if let (Some(at), true) = (at, fits) {
            return Ok(at);
        }
        if matches!(piece, Piece::Arguments(_)) {
            return Err(Error::new(
                Kind::UpstreamBroken,
                "A delta does not fit the content block that it is for",
            ));
        }
        // Several kinds may share one index.
        self.close(wire, each);
        match piece {
            Piece::Text(_) | Piece::Citation(_) => match self.answer {
                Answer::Text => self.open(wire, BlockRole::Text, Some(Block::Text), each),
                Answer::Awaited => self.open(wire, BlockRole::Aside, None, each),
                Answer::Given => self.open(wire, BlockRole::Muted, None, each),
            },
            Piece::Reasoning(_) | Piece::Signature(_) => {
                self.open(wire, BlockRole::Reasoning, Some(Block::Reasoning), each)
            }
            Piece::Redacted(_) => self.open(wire, BlockRole::Redacted, None, each),
            Piece::Arguments(_) | Piece::Other => self.open(wire, BlockRole::Muted, None, each),
        }?;
        Ok(self.open.len() - 1)
    }

    fn tell(&mut self, wire: u32, piece: Piece<'_>, each: Each<'_>) -> Result<()> {
        if let Piece::Text(text) | Piece::Arguments(text) | Piece::Reasoning(text) = &piece
            && text.is_empty()
        {
            return Ok(());
        }
        let at = self.place(wire, &piece, each)?;
        let block = &mut self.open[at];
        let index = block.hub;
        let delta = match (block.role, piece) {
            (BlockRole::Muted, _) => return Ok(()),
            (BlockRole::Aside, Piece::Text(text)) => {
                self.aside.push_str(&text);
                if self.aside.len() > ASIDE_MAX {
                    // Too long to be a preamble: this is the answer.
                    self.answer = Answer::Text;
                    block.role = BlockRole::Text;
                    block.hub = self.next;
                    self.next += 1;
                    let index = block.hub;
                    each(Event::Open {
                        index,
                        block: Block::Text,
                    });
                    let text = std::mem::take(&mut self.aside);
                    each(Event::Delta {
                        index,
                        delta: Delta::Text(text.into()),
                    });
                }
                return Ok(());
            }
            (BlockRole::Aside, _) => return Ok(()),
            (BlockRole::Redacted, Piece::Redacted(data)) => {
                let bytes = base64::decode(data.as_bytes()).unwrap_or_default();
                if block.redacted.len() + bytes.len() > REDACTED_MAX {
                    return Err(Error::new(
                        Kind::UpstreamBroken,
                        "A block of encrypted reasoning is too large",
                    ));
                }
                block.redacted.extend_from_slice(&bytes);
                return Ok(());
            }
            (_, Piece::Citation(raw)) => return cite(index, raw, each),
            (BlockRole::Answer, Piece::Arguments(text)) => Delta::Text(text),
            (_, Piece::Text(text)) => Delta::Text(text),
            (_, Piece::Arguments(text)) => Delta::Arguments(text),
            (_, Piece::Reasoning(text)) => Delta::Reasoning(text),
            (_, Piece::Signature(text)) => Delta::Signature(blob::inward(text)),
            (_, Piece::Redacted(_) | Piece::Other) => return Ok(()),
        };
        each(Event::Delta { index, delta });
        Ok(())
    }

    fn block_stop(&mut self, reader: &mut Reader<'_>, each: Each<'_>) -> Result<()> {
        let mut index = None;
        reader.object(|r, key| {
            match &*key {
                "contentBlockIndex" => index = Some(r.integer()?),
                _ => r.raw().map(drop)?,
            }
            Ok(())
        })?;
        reader.finish()?;
        let index = index.ok_or_else(|| reader.missing("contentBlockIndex"))?;
        self.close(index, each);
        Ok(())
    }

    fn close(&mut self, wire: u32, each: Each<'_>) {
        if let Some(at) = self.open.iter().position(|block| block.wire == wire) {
            let block = self.open.remove(at);
            self.end_block(block, each);
        }
    }

    fn close_all(&mut self, each: Each<'_>) {
        for block in std::mem::take(&mut self.open) {
            self.end_block(block, each);
        }
    }

    fn end_block(&mut self, block: Open, each: Each<'_>) {
        let index = match block.role {
            BlockRole::Aside | BlockRole::Muted => return,
            BlockRole::Redacted => {
                let mut data = Vec::new();
                base64::encode(&block.redacted, &mut data);
                let data = String::from_utf8(data).unwrap_or_default();
                let index = self.next;
                self.next += 1;
                each(Event::Open {
                    index,
                    block: Block::RedactedReasoning {
                        data: blob::inward_bytes(data.into()),
                    },
                });
                index
            }
            BlockRole::Text
            | BlockRole::Reasoning
            | BlockRole::Call
            | BlockRole::Answer
            | BlockRole::Opaque => block.hub,
        };
        each(Event::Close { index });
    }

    fn message_stop(&mut self, reader: &mut Reader<'_>, each: Each<'_>) -> Result<()> {
        let (mut reason, mut sequence) = (None, None);
        reader.object(|r, key| {
            match &*key {
                "stopReason" => reason = r.maybe(Reader::string)?,
                "additionalModelResponseFields" if r.peek() == b'{' => r.object(|r, key| {
                    match &*key {
                        "stop_sequence" if r.peek() == b'"' => sequence = Some(r.string()?),
                        _ => r.raw().map(drop)?,
                    }
                    Ok(())
                })?,
                _ => r.raw().map(drop)?,
            }
            Ok(())
        })?;
        reader.finish()?;
        self.ensure_started(each);
        self.close_all(each);
        self.finish = reason.as_deref().map_or(Finish::Other, response::finish);
        self.stop_sequence = sequence.map(Cow::into_owned);
        self.release_aside(each);
        // It came before its time.
        if self.owes_usage {
            self.finish(each);
        } else {
            self.phase = Phase::Stopped;
        }
        Ok(())
    }

    fn metadata(&mut self, reader: &mut Reader<'_>, each: Each<'_>) -> Result<()> {
        let (mut usage, mut tier) = (None, None);
        reader.object(|r, key| {
            match &*key {
                "usage" => usage = r.maybe(Reader::raw_object)?,
                "serviceTier" if r.peek() == b'{' => r.object(|r, key| {
                    match &*key {
                        "type" => tier = r.maybe(Reader::string)?,
                        _ => r.raw().map(drop)?,
                    }
                    Ok(())
                })?,
                _ => r.raw().map(drop)?,
            }
            Ok(())
        })?;
        reader.finish()?;
        self.ensure_started(each);
        if let Some(tier) = tier {
            self.usage.tier = Some(tier.as_ref().into());
        }
        self.owes_usage |= usage.is_some_and(|raw| self.usage.read_bedrock(raw.get().as_bytes()));
        if self.phase == Phase::Stopped {
            self.finish(each);
        }
        Ok(())
    }

    fn finish(&mut self, each: Each<'_>) {
        if self.owes_usage {
            each(Event::Usage(self.usage.clone()));
        }
        let only_answered = self.answer == Answer::Given && !self.calls;
        let reason = if only_answered && self.finish == Finish::ToolCalls {
            Finish::Stop
        } else {
            self.finish
        };
        self.phase = Phase::Done;
        each(Event::Finish {
            reason,
            stop_sequence: self.stop_sequence.take().map(Cow::Owned),
        });
    }

    /// Tells an exception; one that comes after the answer is whole changes nothing of it.
    fn exception(&mut self, class: FailureClass, data: &[u8], each: Each<'_>) {
        if self.phase == Phase::Stopped {
            return self.finish(each);
        }
        let found = told(data).ok();
        let (message, status) = found.unwrap_or((None, None));
        // A model's own failure behind Bedrock's.
        let class = match (class, status) {
            (FailureClass::Server, Some(429)) => FailureClass::RateLimited,
            (FailureClass::Server, Some(503 | 529)) => FailureClass::Overloaded,
            (class, _) => class,
        };
        let message = message.as_deref();
        self.fail(
            class,
            message.unwrap_or("The provider reports an error"),
            each,
        );
    }

    fn fail(&mut self, class: FailureClass, message: &str, each: Each<'_>) {
        self.ensure_started(each);
        self.close_all(each);
        self.phase = Phase::Done;
        if self.owes_usage {
            each(Event::Usage(self.usage.clone()));
        }
        each(Event::Error(Failure {
            class,
            message: message.into(),
        }));
    }
}

/// Tells a citation: of a page as OpenAI does, which every client's family reads; of a document as it came.
fn cite(index: u32, raw: &RawValue, each: Each<'_>) -> Result<()> {
    let page = match cited(raw)? {
        Cited::Page(annotation) => annotation,
        Cited::Other => Vec::new(),
    };
    let delta = match serde_json::from_slice(&page) {
        Ok(annotation) => Delta::Citation {
            family: Protocol::OpenaiChat,
            raw: annotation,
        },
        Err(_) => Delta::Citation {
            family: Protocol::Bedrock,
            raw,
        },
    };
    each(Event::Delta { index, delta });
    Ok(())
}
