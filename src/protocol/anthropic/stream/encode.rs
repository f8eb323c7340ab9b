//! The hub's events as a client's server-sent events.
//!
//! Anthropic's SDKs build the message up from events in one order: `message_start`; for each content block
//! `content_block_start`, deltas, `content_block_stop`; `message_delta`; `message_stop`. Blocks never overlap.
//! The hub's may (OpenAI's parallel tool calls do), so the first that is open is streamed and what comes for
//! others waits for its end. Text and thinking can be cut in two without harm, so they never make others wait.

use std::collections::VecDeque;

use super::super::citation;
use super::super::response::{stop_reason, write_error, write_stop_sequence};
use crate::error::Error;
use crate::protocol::chat::{Finish, Str};
use crate::protocol::event::{Block, Delta, Event, FailureClass};
use crate::protocol::text::{self, Object};
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape, ping_frame};

/// What may wait for the end of another block, in bytes and in blocks.
const HELD_MAX: usize = 4 * 1024 * 1024;
const BLOCKS_MAX: usize = 1024;

/// Writes one stream.
#[derive(Debug)]
pub struct Encoder {
    model: String,
    usage: Usage,
    /// The index of the next block on the wire.
    next: u32,
    calls: bool,
    /// The first is being streamed, the others wait.
    blocks: VecDeque<Slot>,
    held: usize,
    /// Blocks that were cut for another's sake: more of them goes into a new block.
    cut: Vec<(u32, Kind)>,
    done: bool,
}

#[derive(Debug)]
struct Slot {
    hub: u32,
    wire: u32,
    kind: Kind,
    /// Whole frames that wait.
    frames: Vec<u8>,
    /// Text of one kind of delta that waits behind them.
    pending: String,
    closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
    Call,
    Whole,
}

impl Encoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            model: shape.model.clone(),
            usage: Usage::default(),
            next: 0,
            calls: false,
            blocks: VecDeque::new(),
            held: 0,
            cut: Vec::new(),
            done: false,
        }
    }

    /// Appends the frames of one event to `out`.
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.done {
            return;
        }
        match event {
            Event::Start { id, usage, .. } => {
                if let Some(usage) = usage {
                    self.usage = usage.clone();
                }
                self.message_start(id, out);
            }
            Event::Open { index, block } => self.open(*index, block, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::Close { index } => self.close(*index, out),
            Event::Usage(usage) => self.usage = usage.clone(),
            Event::Finish {
                reason,
                stop_sequence,
            } => self.finish(*reason, stop_sequence.as_ref(), out),
            Event::Ping => out.extend_from_slice(ping_frame(Protocol::Anthropic)),
            Event::Error(failure) => {
                self.done = true;
                let kind = match failure.class {
                    FailureClass::Overloaded => "overloaded_error",
                    FailureClass::RateLimited => "rate_limit_error",
                    FailureClass::InvalidRequest => "invalid_request_error",
                    FailureClass::Server | FailureClass::Garbage | FailureClass::Cut => "api_error",
                };
                write_error_frame(kind, &failure.message, None, out);
            }
        }
    }

    fn message_start(&self, id: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":",
        );
        let mut message = Object::open(out);
        message.string("id", id);
        message.string("type", "message");
        message.string("role", "assistant");
        message.string("model", &self.model);
        message
            .key("content")
            .extend_from_slice(b"[],\"stop_reason\":null,\"stop_sequence\":null");
        self.usage.write_anthropic(message.key("usage"));
        message.close();
        out.extend_from_slice(b"}\n\n");
    }

    fn open(&mut self, hub: u32, block: &Block<'_>, out: &mut Vec<u8>) {
        let kind = match block {
            Block::Text | Block::Refusal => Kind::Text,
            Block::Reasoning => Kind::Reasoning,
            Block::ToolCall { .. } => {
                self.calls = true;
                Kind::Call
            }
            Block::RedactedReasoning { .. }
            | Block::Opaque {
                family: Protocol::Anthropic,
                ..
            } => Kind::Whole,
            Block::Opaque { .. } => return,
        };
        self.start(hub, kind, block, out);
    }

    /// Starts a block on the wire, at once or when its turn comes.
    fn start(&mut self, hub: u32, kind: Kind, block: &Block<'_>, out: &mut Vec<u8>) {
        if let [front] = self.blocks.make_contiguous()
            && matches!(front.kind, Kind::Text | Kind::Reasoning)
        {
            write_stop(front.wire, out);
            self.cut.push((front.hub, front.kind));
            self.blocks.pop_front();
        }
        if self.blocks.len() + self.cut.len() >= BLOCKS_MAX {
            return self.give_up(out);
        }
        let wire = self.next;
        self.next += 1;
        let mut slot = Slot {
            hub,
            wire,
            kind,
            frames: Vec::new(),
            pending: String::new(),
            closed: false,
        };
        if self.blocks.is_empty() {
            write_start(wire, block, out);
        } else {
            write_start(wire, block, &mut slot.frames);
            self.held += slot.frames.len();
        }
        self.blocks.push_back(slot);
    }

    fn delta(&mut self, hub: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        if !self
            .blocks
            .iter()
            .any(|slot| slot.hub == hub && !slot.closed)
        {
            let Some(at) = self.cut.iter().position(|(index, _)| *index == hub) else {
                return;
            };
            let (_, kind) = self.cut.swap_remove(at);
            let block = if kind == Kind::Reasoning {
                Block::Reasoning
            } else {
                Block::Text
            };
            self.start(hub, kind, &block, out);
        }
        let Some(at) = self
            .blocks
            .iter()
            .position(|slot| slot.hub == hub && !slot.closed)
        else {
            return;
        };
        let slot = &mut self.blocks[at];
        if at == 0 {
            return write_delta(slot.wire, delta, out);
        }
        let before = slot.frames.len() + slot.pending.len();
        match delta {
            Delta::Text(text)
            | Delta::Refusal(text)
            | Delta::Reasoning(text)
            | Delta::Arguments(text) => {
                slot.pending.push_str(text);
            }
            Delta::Signature(_)
            | Delta::Citation { .. }
            | Delta::Logprobs(_)
            | Delta::Opaque { .. } => {
                flush(slot);
                write_delta(slot.wire, delta, &mut slot.frames);
            }
        }
        self.held += (slot.frames.len() + slot.pending.len()).saturating_sub(before);
        if self.held > HELD_MAX {
            self.give_up(out);
        }
    }

    fn close(&mut self, hub: u32, out: &mut Vec<u8>) {
        self.cut.retain(|(index, _)| *index != hub);
        if let Some(slot) = self.blocks.iter_mut().find(|slot| slot.hub == hub) {
            slot.closed = true;
        }
        self.advance(out);
    }

    /// Lets the next blocks out while the first is closed.
    fn advance(&mut self, out: &mut Vec<u8>) {
        while self.blocks.front().is_some_and(|slot| slot.closed) {
            if let Some(slot) = self.blocks.pop_front() {
                write_stop(slot.wire, out);
            }
            if let Some(next) = self.blocks.front_mut() {
                self.held = self
                    .held
                    .saturating_sub(next.frames.len() + next.pending.len());
                flush(next);
                out.append(&mut next.frames);
                next.frames = Vec::new();
            }
        }
    }

    fn finish(&mut self, reason: Finish, stop_sequence: Option<&Str<'_>>, out: &mut Vec<u8>) {
        for slot in &mut self.blocks {
            slot.closed = true;
        }
        self.advance(out);
        self.done = true;
        out.extend_from_slice(
            b"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":",
        );
        let mut delta = Object::open(out);
        delta.string("stop_reason", stop_reason(reason, self.calls));
        write_stop_sequence(stop_sequence, &mut delta);
        delta.close();
        out.extend_from_slice(b",\"usage\":");
        self.usage.write_anthropic(out);
        out.extend_from_slice(b"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    fn give_up(&mut self, out: &mut Vec<u8>) {
        self.done = true;
        self.blocks.clear();
        write_error_frame(
            "api_error",
            "The answer's blocks overlap more than can be held",
            None,
            out,
        );
    }
}

/// Puts the waiting text behind the waiting frames.
fn flush(slot: &mut Slot) {
    if slot.pending.is_empty() {
        return;
    }
    let text = Str::Owned(std::mem::take(&mut slot.pending));
    let delta = match slot.kind {
        Kind::Text | Kind::Whole => Delta::Text(text),
        Kind::Reasoning => Delta::Reasoning(text),
        Kind::Call => Delta::Arguments(text),
    };
    write_delta(slot.wire, &delta, &mut slot.frames);
}

fn write_start(wire: u32, block: &Block<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":",
    );
    text::integer(wire.into(), out);
    out.extend_from_slice(b",\"content_block\":");
    match block {
        Block::Text | Block::Refusal => out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"\"}"),
        Block::Reasoning => {
            out.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
        }
        Block::RedactedReasoning { data } => super::super::content::write_redacted(data, out),
        Block::ToolCall { id, name } => {
            out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":");
            text::string(id, out);
            out.extend_from_slice(b",\"name\":");
            text::string(name, out);
            out.extend_from_slice(b",\"input\":{}}");
        }
        Block::Opaque { raw, .. } => text::raw_line(raw, out),
    }
    out.extend_from_slice(b"}\n\n");
}

fn write_delta(wire: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
    let before = out.len();
    out.extend_from_slice(
        b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
    );
    text::integer(wire.into(), out);
    let (head, text): (&[u8], &str) = match delta {
        Delta::Text(text) | Delta::Refusal(text) => {
            (b",\"delta\":{\"type\":\"text_delta\",\"text\":\"", text)
        }
        Delta::Reasoning(text) => (
            b",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"",
            text,
        ),
        Delta::Signature(text) => (
            b",\"delta\":{\"type\":\"signature_delta\",\"signature\":\"",
            text,
        ),
        Delta::Arguments(text) => (
            b",\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"",
            text,
        ),
        Delta::Citation { family, raw } => {
            out.extend_from_slice(b",\"delta\":{\"type\":\"citations_delta\",\"citation\":");
            let said = if *family == Protocol::Anthropic {
                text::raw_line(raw, out);
                true
            } else {
                *family == Protocol::OpenaiChat && citation::write_from_openai(raw, out)
            };
            if said {
                out.extend_from_slice(b"}}\n\n");
            } else {
                out.truncate(before);
            }
            return;
        }
        Delta::Opaque {
            family: Protocol::Anthropic,
            raw,
        } => {
            out.extend_from_slice(b",\"delta\":");
            text::raw_line(raw, out);
            out.extend_from_slice(b"}\n\n");
            return;
        }
        Delta::Logprobs(_) | Delta::Opaque { .. } => {
            out.truncate(before);
            return;
        }
    };
    out.extend_from_slice(head);
    text::escaped(text, out);
    out.extend_from_slice(b"\"}}\n\n");
}

fn write_stop(wire: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":",
    );
    text::integer(wire.into(), out);
    out.extend_from_slice(b"}\n\n");
}

/// Returns the frame that ends a committed stream with an error.
pub fn error_frame(error: &Error, request_id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_error_frame(
        super::super::response::error_type(error.kind),
        &error.message,
        Some(request_id),
        &mut out,
    );
    out
}

fn write_error_frame(kind: &str, message: &str, request_id: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: error\ndata: ");
    write_error(kind, message, None, request_id, out);
    out.extend_from_slice(b"\n\n");
}
