//! A provider's events into the hub's.
//!
//! Tolerant where providers that imitate Anthropic are known to be loose: input given whole in
//! `content_block_start`, deltas of text without one, several blocks open at once, `[DONE]` at the end.

use std::borrow::Cow;

use super::super::response;
use super::wire::{BlockStart, Piece, block, piece, whole_delta};
use crate::error::{Error, Kind, Result};
use crate::protocol::chat::Finish;
use crate::protocol::event::{Block, Delta, Event, Failure, FailureClass};
use crate::protocol::text::Reader;
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, SCHEMA_TOOL, Shape};

/// Blocks that may be open at once; Anthropic opens one.
const OPEN_MAX: usize = 128;
/// Text beside a structured answer that is held back until the answer shows.
const ASIDE_MAX: usize = 64 * 1024;

type Each<'e> = &'e mut dyn FnMut(Event<'_>);

/// Reads one stream. Keeps the promises of [`crate::protocol::StreamDecoder`].
#[derive(Debug)]
pub struct Decoder {
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
    /// Anthropic's index.
    wire: u32,
    /// The hub's.
    hub: u32,
    role: BlockRole,
    /// Input that came with the start of the block: told at its end unless deltas come.
    input: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum BlockRole {
    Text,
    Reasoning,
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

    /// Feeds one server-sent event; `each` is called for every event that it means.
    pub fn feed(&mut self, name: &[u8], data: &[u8], each: Each<'_>) {
        if self.phase == Phase::Done {
            return;
        }
        let data = data.trim_ascii();
        if data.is_empty() || data == b"[DONE]" {
            return;
        }
        if let Err(error) = self.read(name, data, each) {
            self.fail(FailureClass::Garbage, &error.message, each);
        }
    }

    /// Ends the stream; one without `message_stop` was cut.
    pub fn end(&mut self, each: Each<'_>) {
        if self.phase != Phase::Done {
            self.fail(
                FailureClass::Cut,
                "The provider's stream ended before the answer did",
                each,
            );
        }
    }

    fn read(&mut self, name: &[u8], data: &[u8], each: Each<'_>) -> Result<()> {
        let mut reader = Reader::new(data)?;
        let tag = reader.tag("type");
        let kind = tag.as_deref().map_or(name, str::as_bytes);
        match kind {
            b"content_block_delta" => self.delta(&mut reader, data, each),
            b"content_block_start" => self.block_start(&mut reader, each),
            b"content_block_stop" => self.block_stop(&mut reader, each),
            b"message_start" => self.message_start(&mut reader, each),
            b"message_delta" => self.message_delta(&mut reader, each),
            b"message_stop" => {
                reader.raw()?;
                self.message_stop(each);
                Ok(())
            }
            b"ping" => {
                // Nothing comes before the start.
                if self.phase == Phase::Running {
                    each(Event::Ping);
                }
                Ok(())
            }
            b"error" => self.error(&mut reader, each),
            // A kind of event that is new and says nothing that we know.
            _ if tag.is_some() => reader.raw().map(drop),
            _ => self.error(&mut reader, each),
        }
    }

    fn message_start(&mut self, reader: &mut Reader<'_>, each: Each<'_>) -> Result<()> {
        let (mut id, mut model, mut usage) = (None, None, None);
        reader.object(|r, key| match &*key {
            "message" => r.object(|r, key| {
                match &*key {
                    "id" => id = r.maybe(Reader::string)?,
                    "model" => model = r.maybe(Reader::string)?,
                    "usage" => usage = r.maybe(Reader::raw_object)?,
                    _ => r.raw().map(drop)?,
                }
                Ok(())
            }),
            _ => r.raw().map(drop),
        })?;
        reader.finish()?;
        if self.phase != Phase::Before {
            return Ok(());
        }
        let known = usage.is_some_and(|raw| self.usage.read_anthropic(raw.get().as_bytes()));
        self.owes_usage = known;
        self.phase = Phase::Running;
        each(Event::Start {
            id: id.unwrap_or_default(),
            model: model.unwrap_or_default(),
            usage: known.then(|| self.usage.clone()),
            service_tier: None,
        });
        Ok(())
    }

    /// Tells a start that the provider forgot.
    fn ensure_started(&mut self, each: Each<'_>) {
        if self.phase == Phase::Before {
            self.phase = Phase::Running;
            each(Event::Start {
                id: Cow::Borrowed(""),
                model: Cow::Borrowed(&self.model),
                usage: None,
                service_tier: None,
            });
        }
    }

    fn block_start(&mut self, reader: &mut Reader<'_>, each: Each<'_>) -> Result<()> {
        let (mut index, mut start) = (None, None);
        reader.object(|r, key| {
            match &*key {
                "index" => index = Some(r.integer()?),
                "content_block" => start = Some(block(r)?),
                _ => r.raw().map(drop)?,
            }
            Ok(())
        })?;
        reader.finish()?;
        let index = index.ok_or_else(|| reader.missing("index"))?;
        let start = start.ok_or_else(|| reader.missing("content_block"))?;
        self.ensure_started(each);
        self.close(index, each);
        match start {
            BlockStart::Text { text, citations } => {
                self.open_text(index, each)?;
                if let Some(text) = text {
                    self.tell(index, Piece::Text(text), each)?;
                }
                let Some(citations) = citations else {
                    return Ok(());
                };
                Reader::of(citations.get())
                    .array(|r| self.tell(index, Piece::Citation(r.raw()?), each))
            }
            BlockStart::Reasoning { text, signature } => {
                self.open(index, BlockRole::Reasoning, Block::Reasoning, each)?;
                if let Some(text) = text {
                    self.tell(index, Piece::Reasoning(text), each)?;
                }
                match signature {
                    Some(signature) => self.tell(index, Piece::Signature(signature), each),
                    None => Ok(()),
                }
            }
            BlockStart::Redacted { data } => self.open(
                index,
                BlockRole::Redacted,
                Block::RedactedReasoning { data },
                each,
            ),
            BlockStart::Call { id, name, input } => {
                if self.answer != Answer::Text && name == SCHEMA_TOOL {
                    self.open_answer(index, each)?;
                } else {
                    self.calls = true;
                    self.release_aside(each)?;
                    self.open(index, BlockRole::Call, Block::ToolCall { id, name }, each)?;
                }
                if let Some(block) = self.open.last_mut() {
                    block.input = input.map(|raw| raw.get().into());
                }
                Ok(())
            }
            BlockStart::Opaque(raw) => {
                let block = Block::Opaque {
                    family: Protocol::Anthropic,
                    raw,
                };
                self.open(index, BlockRole::Opaque, block, each)
            }
        }
    }

    fn open(&mut self, wire: u32, role: BlockRole, block: Block<'_>, each: Each<'_>) -> Result<()> {
        if self.open.len() >= OPEN_MAX {
            return Err(Error::new(
                Kind::UpstreamBroken,
                "Too many content blocks are open at once",
            ));
        }
        let hub = self.next;
        if role != BlockRole::Aside && role != BlockRole::Muted {
            self.next += 1;
            each(Event::Open { index: hub, block });
        }
        self.open.push(Open {
            wire,
            hub,
            role,
            input: None,
        });
        Ok(())
    }

    fn open_text(&mut self, wire: u32, each: Each<'_>) -> Result<()> {
        let role = match self.answer {
            Answer::Text => BlockRole::Text,
            Answer::Awaited => BlockRole::Aside,
            Answer::Given => BlockRole::Muted,
        };
        self.open(wire, role, Block::Text, each)
    }

    /// Opens the structured answer; a second one would break the first.
    fn open_answer(&mut self, wire: u32, each: Each<'_>) -> Result<()> {
        let role = if self.answer == Answer::Given {
            BlockRole::Muted
        } else {
            BlockRole::Answer
        };
        self.answer = Answer::Given;
        self.aside = String::new();
        self.open(wire, role, Block::Text, each)
    }

    /// Tells the text that stood beside an answer which did not come.
    fn release_aside(&mut self, each: Each<'_>) -> Result<()> {
        if self.aside.is_empty() {
            return Ok(());
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
        Ok(())
    }

    fn delta(&mut self, reader: &mut Reader<'_>, data: &[u8], each: Each<'_>) -> Result<()> {
        let (mut index, mut found) = (None, None);
        reader.object(|r, key| {
            match &*key {
                "index" => index = Some(r.integer()?),
                "delta" => found = Some(piece(r)?),
                _ => r.raw().map(drop)?,
            }
            Ok(())
        })?;
        reader.finish()?;
        let index = index.ok_or_else(|| reader.missing("index"))?;
        let found = found.ok_or_else(|| reader.missing("delta"))?;
        let role = self
            .open
            .iter()
            .find(|block| block.wire == index)
            .map(|block| block.role);
        match (role, &found) {
            (Some(BlockRole::Opaque), _) => {
                let raw = whole_delta(data)?;
                self.tell(index, Piece::Other(raw), each)
            }
            (Some(_), _) => self.tell(index, found, each),
            (None, Piece::Text(_)) => {
                self.ensure_started(each);
                self.open_text(index, each)?;
                self.tell(index, found, each)
            }
            (None, Piece::Reasoning(_)) => {
                self.ensure_started(each);
                self.open(index, BlockRole::Reasoning, Block::Reasoning, each)?;
                self.tell(index, found, each)
            }
            (None, _) => Err(misplaced()),
        }
    }

    fn tell(&mut self, wire: u32, piece: Piece<'_>, each: Each<'_>) -> Result<()> {
        let Some(block) = self.open.iter_mut().find(|block| block.wire == wire) else {
            return Err(misplaced());
        };
        let index = block.hub;
        let delta = match (block.role, piece) {
            (_, Piece::Text(text) | Piece::Arguments(text) | Piece::Reasoning(text))
                if text.is_empty() =>
            {
                return Ok(());
            }
            (BlockRole::Muted, _) => return Ok(()),
            (BlockRole::Text, Piece::Text(text)) => Delta::Text(text),
            (BlockRole::Aside, Piece::Text(text)) => {
                self.aside.push_str(&text);
                if self.aside.len() > ASIDE_MAX {
                    // Too long to be a preamble: this is the answer.
                    self.answer = Answer::Text;
                    block.role = BlockRole::Text;
                    block.hub = self.next;
                    self.next += 1;
                    each(Event::Open {
                        index: block.hub,
                        block: Block::Text,
                    });
                    let text = std::mem::take(&mut self.aside);
                    each(Event::Delta {
                        index: block.hub,
                        delta: Delta::Text(text.into()),
                    });
                }
                return Ok(());
            }
            (BlockRole::Aside, Piece::Citation(_) | Piece::Other(_)) => return Ok(()),
            (BlockRole::Text, Piece::Citation(raw)) => Delta::Citation {
                family: Protocol::Anthropic,
                raw,
            },
            (BlockRole::Reasoning, Piece::Reasoning(text)) => Delta::Reasoning(text),
            (BlockRole::Reasoning, Piece::Signature(text)) => Delta::Signature(text),
            (BlockRole::Call, Piece::Arguments(text)) => {
                block.input = None;
                Delta::Arguments(text)
            }
            (BlockRole::Answer, Piece::Arguments(text)) => {
                block.input = None;
                Delta::Text(text)
            }
            (BlockRole::Answer, Piece::Other(_)) => return Ok(()),
            (_, Piece::Other(raw)) => Delta::Opaque {
                family: Protocol::Anthropic,
                raw,
            },
            (_, _) => return Err(misplaced()),
        };
        each(Event::Delta { index, delta });
        Ok(())
    }

    fn block_stop(&mut self, reader: &mut Reader<'_>, each: Each<'_>) -> Result<()> {
        let mut index = None;
        reader.object(|r, key| {
            match &*key {
                "index" => index = Some(r.integer()?),
                _ => r.raw().map(drop)?,
            }
            Ok(())
        })?;
        reader.finish()?;
        self.close(index.ok_or_else(|| reader.missing("index"))?, each);
        Ok(())
    }

    fn close(&mut self, wire: u32, each: Each<'_>) {
        if let Some(at) = self.open.iter().position(|block| block.wire == wire) {
            let block = self.open.remove(at);
            end_block(block, each);
        }
    }

    fn close_all(&mut self, each: Each<'_>) {
        for block in self.open.drain(..) {
            end_block(block, each);
        }
    }

    fn message_delta(&mut self, reader: &mut Reader<'_>, each: Each<'_>) -> Result<()> {
        let (mut reason, mut sequence, mut usage) = (None, None, None);
        reader.object(|r, key| {
            match &*key {
                "delta" => r.object(|r, key| {
                    match &*key {
                        "stop_reason" => reason = r.maybe(Reader::string)?,
                        "stop_sequence" => sequence = r.maybe(Reader::string)?,
                        _ => r.raw().map(drop)?,
                    }
                    Ok(())
                })?,
                "usage" => usage = r.maybe(Reader::raw_object)?,
                _ => r.raw().map(drop)?,
            }
            Ok(())
        })?;
        reader.finish()?;
        self.ensure_started(each);
        if let Some(reason) = reason {
            self.finish = response::finish(&reason);
        }
        if let Some(sequence) = sequence {
            self.stop_sequence = Some(sequence.into_owned());
        }
        if usage.is_some_and(|raw| self.usage.read_anthropic(raw.get().as_bytes())) {
            self.owes_usage = false;
            each(Event::Usage(self.usage.clone()));
        }
        Ok(())
    }

    fn message_stop(&mut self, each: Each<'_>) {
        self.ensure_started(each);
        self.close_all(each);
        if self.release_aside(each).is_err() {
            return;
        }
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

    fn error(&mut self, reader: &mut Reader<'_>, each: Each<'_>) -> Result<()> {
        let (mut kind, mut message, mut found) = (None, None, false);
        reader.object(|r, key| {
            match &*key {
                "error" if r.peek() == b'{' => {
                    found = true;
                    r.object(|r, key| {
                        match &*key {
                            "type" if r.peek() == b'"' => kind = Some(r.string()?),
                            "message" if r.peek() == b'"' => message = Some(r.string()?),
                            _ => r.raw().map(drop)?,
                        }
                        Ok(())
                    })?;
                }
                "error" if r.peek() == b'"' => {
                    found = true;
                    message = Some(r.string()?);
                }
                _ => r.raw().map(drop)?,
            }
            Ok(())
        })?;
        reader.finish()?;
        if !found {
            return Err(Error::new(
                Kind::UpstreamBroken,
                "An event has neither a type nor an error",
            ));
        }
        let class = match kind.as_deref() {
            Some("overloaded_error") => FailureClass::Overloaded,
            Some("rate_limit_error") => FailureClass::RateLimited,
            Some("invalid_request_error") => FailureClass::InvalidRequest,
            _ => FailureClass::Server,
        };
        self.fail(
            class,
            message
                .as_deref()
                .unwrap_or("The provider reports an error"),
            each,
        );
        Ok(())
    }

    fn fail(&mut self, class: FailureClass, message: &str, each: Each<'_>) {
        self.ensure_started(each);
        self.close_all(each);
        self.phase = Phase::Done;
        each(Event::Error(Failure {
            class,
            message: message.into(),
        }));
    }
}

fn end_block(block: Open, each: Each<'_>) {
    let index = block.hub;
    match (block.role, block.input) {
        (BlockRole::Aside | BlockRole::Muted, _) => return,
        (BlockRole::Call, Some(input)) => {
            each(Event::Delta {
                index,
                delta: Delta::Arguments(input.into_string().into()),
            });
        }
        (BlockRole::Answer, Some(input)) => {
            each(Event::Delta {
                index,
                delta: Delta::Text(input.into_string().into()),
            });
        }
        (_, _) => {}
    }
    each(Event::Close { index });
}

fn misplaced() -> Error {
    Error::new(
        Kind::UpstreamBroken,
        "A delta does not fit the content block that it is for",
    )
}
