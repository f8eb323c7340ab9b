//! The hub's events as a client's event stream.
//!
//! AWS's examples put a block together from what comes until its `contentBlockStop`, whatever its index says. So blocks
//! never overlap here; the hub's may (OpenAI's parallel tool calls do): the first that is open is streamed and what
//! comes for others waits for its end. Text and reasoning can be cut in two without harm, so they never make others
//! wait.

use std::collections::VecDeque;

use super::super::{blob, response};
use super::exception_of;
use crate::codec::event_stream;
use crate::error::Error;
use crate::protocol::Protocol;
use crate::protocol::Shape;
use crate::protocol::chat::{Finish, Str};
use crate::protocol::event::{Block, Delta, Event, FailureClass};
use crate::protocol::text::{self, Object, Reader};
use crate::protocol::usage::Usage;

/// What may wait for the end of another block, in bytes and in blocks.
const HELD_MAX: usize = 4 * 1024 * 1024;
const BLOCKS_MAX: usize = 1024;

/// Writes one stream.
#[derive(Debug)]
pub struct Encoder {
    usage: Usage,
    tier: Option<&'static str>,
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
    /// Whole messages that wait.
    waiting: Vec<u8>,
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
    pub fn new(_shape: &Shape) -> Self {
        Self {
            usage: Usage::default(),
            tier: None,
            next: 0,
            calls: false,
            blocks: VecDeque::new(),
            held: 0,
            cut: Vec::new(),
            done: false,
        }
    }

    /// Appends the messages of one event to `out`.
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.done {
            return;
        }
        match event {
            Event::Start {
                usage,
                service_tier,
                ..
            } => {
                if let Some(usage) = usage {
                    self.usage = usage.clone();
                }
                self.tier = service_tier.as_deref().and_then(response::tier);
                event_stream::write("messageStart", b"{\"role\":\"assistant\"}", out);
            }
            Event::Open { index, block } => self.open(*index, block, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::Close { index } => self.close(*index, out),
            Event::Usage(usage) => self.usage = usage.clone(),
            Event::Finish {
                reason,
                stop_sequence,
            } => self.finish(*reason, stop_sequence.as_ref(), out),
            // There is no word for nothing.
            Event::Ping => {}
            Event::Error(failure) => {
                self.done = true;
                write_exception(exception_of(failure.class), &failure.message, out);
            }
        }
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
                family: Protocol::Bedrock,
                ..
            } => Kind::Whole,
            Block::Opaque { .. } => return,
        };
        self.start(hub, kind, Some(block), out);
    }

    /// Starts a block on the wire, at once or when its turn comes.
    fn start(&mut self, hub: u32, kind: Kind, block: Option<&Block<'_>>, out: &mut Vec<u8>) {
        if self.blocks.len() == 1
            && let Some(front) = self.blocks.front()
            && matches!(front.kind, Kind::Text | Kind::Reasoning)
        {
            write_stop(front.wire, out);
            self.cut.push((front.hub, front.kind));
            self.blocks.pop_front();
        }
        if self.blocks.len() + self.cut.len() >= BLOCKS_MAX {
            return self.give_up(out);
        }
        let mut slot = Slot {
            hub,
            wire: self.next,
            kind,
            waiting: Vec::new(),
            closed: false,
        };
        self.next += 1;
        if let Some(block) = block {
            if self.blocks.is_empty() {
                write_start(slot.wire, block, out);
            } else {
                write_start(slot.wire, block, &mut slot.waiting);
                self.held += slot.waiting.len();
            }
        }
        self.blocks.push_back(slot);
    }

    fn delta(&mut self, hub: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let is_open = |slot: &Slot| slot.hub == hub && !slot.closed;
        if !self.blocks.iter().any(is_open) {
            let Some(at) = self.cut.iter().position(|(index, _)| *index == hub) else {
                return;
            };
            let (_, kind) = self.cut.swap_remove(at);
            // Neither text nor reasoning has a start.
            self.start(hub, kind, None, out);
        }
        let Some(at) = self.blocks.iter().position(is_open) else {
            return;
        };
        let slot = &mut self.blocks[at];
        if at == 0 {
            return write_delta(slot.wire, delta, out);
        }
        let before = slot.waiting.len();
        write_delta(slot.wire, delta, &mut slot.waiting);
        self.held += slot.waiting.len() - before;
        if self.held > HELD_MAX {
            self.give_up(out);
        }
    }

    fn close(&mut self, hub: u32, out: &mut Vec<u8>) {
        self.cut.retain(|(index, _)| *index != hub);
        let found = self
            .blocks
            .iter_mut()
            .find(|slot| slot.hub == hub && !slot.closed);
        if let Some(slot) = found {
            slot.closed = true;
            self.advance(out);
        }
    }

    /// Ends the first block if it is closed, and lets the next ones come up.
    fn advance(&mut self, out: &mut Vec<u8>) {
        while self.blocks.front().is_some_and(|front| front.closed)
            && let Some(front) = self.blocks.pop_front()
        {
            write_stop(front.wire, out);
            if let Some(next) = self.blocks.front_mut() {
                self.held -= next.waiting.len();
                out.append(&mut next.waiting);
            }
        }
    }

    fn finish(&mut self, reason: Finish, sequence: Option<&Str<'_>>, out: &mut Vec<u8>) {
        self.done = true;
        for slot in &mut self.blocks {
            slot.closed = true;
        }
        self.advance(out);
        let mut payload = Vec::new();
        let mut object = Object::open(&mut payload);
        object.string("stopReason", response::stop_reason(reason, self.calls));
        if let Some(sequence) = sequence {
            let mut fields = Object::open(object.key("additionalModelResponseFields"));
            fields.string("stop_sequence", sequence);
            fields.close();
        }
        object.close();
        event_stream::write("messageStop", &payload, out);
        payload.clear();
        let mut object = Object::open(&mut payload);
        self.usage.write_bedrock(object.key("usage"));
        // How long it took is not known here; the field is demanded by its type.
        object
            .key("metrics")
            .extend_from_slice(b"{\"latencyMs\":0}");
        let told = self.usage.tier.as_deref().and_then(response::tier);
        if let Some(tier) = told.or(self.tier) {
            let mut object = Object::open(object.key("serviceTier"));
            object.string("type", tier);
            object.close();
        }
        object.close();
        event_stream::write("metadata", &payload, out);
    }

    fn give_up(&mut self, out: &mut Vec<u8>) {
        self.done = true;
        write_exception(
            exception_of(FailureClass::Garbage),
            "The provider's answer has too many blocks at once",
            out,
        );
    }
}

fn write_start(wire: u32, block: &Block<'_>, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    let mut object = Object::open(&mut payload);
    match block {
        // Their first delta is their start.
        Block::Text | Block::Refusal | Block::Reasoning => return,
        Block::RedactedReasoning { data } => {
            let delta = object.key("delta");
            delta.extend_from_slice(b"{\"reasoningContent\":{\"redactedContent\":");
            text::string(&blob::outward_bytes(data), delta);
            delta.extend_from_slice(b"}}");
            object.integer("contentBlockIndex", wire.into());
            object.close();
            return event_stream::write("contentBlockDelta", &payload, out);
        }
        Block::ToolCall { id, name } => {
            let start = object.key("start");
            start.extend_from_slice(b"{\"toolUse\":");
            let mut call = Object::open(start);
            call.string("toolUseId", id);
            call.string("name", name);
            call.close();
            start.push(b'}');
        }
        Block::Opaque { raw, .. } => object.raw("start", raw),
    }
    object.integer("contentBlockIndex", wire.into());
    object.close();
    event_stream::write("contentBlockStart", &payload, out);
}

/// Appends a delta; nothing for what Bedrock has no word for.
fn write_delta(wire: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    payload.extend_from_slice(b"{\"delta\":");
    let mut wrapped = |before: &str, text: &str, after: &str| {
        payload.extend_from_slice(before.as_bytes());
        text::string(text, &mut payload);
        payload.extend_from_slice(after.as_bytes());
    };
    match delta {
        Delta::Text(text) | Delta::Refusal(text) => wrapped("{\"text\":", text, "}"),
        Delta::Arguments(text) => wrapped("{\"toolUse\":{\"input\":", text, "}}"),
        Delta::Reasoning(text) => wrapped("{\"reasoningContent\":{\"text\":", text, "}}"),
        Delta::Signature(marked) => wrapped(
            "{\"reasoningContent\":{\"signature\":",
            &blob::outward(marked),
            "}}",
        ),
        Delta::Citation {
            family: Protocol::Bedrock,
            raw,
        } => {
            payload.extend_from_slice(b"{\"citation\":");
            payload.extend_from_slice(raw.get().as_bytes());
            payload.push(b'}');
        }
        Delta::Citation {
            family: Protocol::OpenaiChat,
            raw,
        } => {
            if !write_page(&mut Reader::of(raw.get()), &mut payload) {
                return;
            }
        }
        Delta::Opaque {
            family: Protocol::Bedrock,
            raw,
        } => payload.extend_from_slice(raw.get().as_bytes()),
        Delta::Citation { .. } | Delta::Logprobs(_) | Delta::Opaque { .. } => return,
    }
    payload.extend_from_slice(b",\"contentBlockIndex\":");
    text::integer(wire.into(), &mut payload);
    payload.push(b'}');
    event_stream::write("contentBlockDelta", &payload, out);
}

/// Appends one of OpenAI's annotations as a citation of a page. Returns whether it is of one.
fn write_page(annotation: &mut Reader<'_>, out: &mut Vec<u8>) -> bool {
    let (mut url, mut title) = (None, None);
    let read = annotation.object(|r, key| match &*key {
        "url_citation" if r.peek() == b'{' => r.object(|r, key| {
            match &*key {
                "url" => url = r.maybe(Reader::string)?,
                "title" => title = r.maybe(Reader::string)?,
                _ => r.raw().map(drop)?,
            }
            Ok(())
        }),
        _ => r.raw().map(drop),
    });
    let Some(url) = url.filter(|_| read.is_ok()) else {
        return false;
    };
    let mut outer = Object::open(out);
    let mut object = Object::open(outer.key("citation"));
    object.maybe_string("title", title.as_deref());
    let location = object.key("location");
    location.extend_from_slice(b"{\"web\":{\"url\":");
    text::string(&url, location);
    location.extend_from_slice(b"}}");
    object.close();
    outer.close();
    true
}

fn write_stop(wire: u32, out: &mut Vec<u8>) {
    let payload = format!("{{\"contentBlockIndex\":{wire}}}");
    event_stream::write("contentBlockStop", payload.as_bytes(), out);
}

fn write_exception(name: &str, message: &str, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    let mut object = Object::open(&mut payload);
    object.string("message", message);
    object.close();
    event_stream::write_exception(name, &payload, out);
}

/// Returns the message that ends a committed stream with an error.
pub fn error_frame(error: &Error, _request_id: &str) -> Vec<u8> {
    let class = match error.kind.status() {
        429 => FailureClass::RateLimited,
        503 => FailureClass::Overloaded,
        502 | 504 => FailureClass::Cut,
        400..=499 => FailureClass::InvalidRequest,
        _ => FailureClass::Server,
    };
    let mut out = Vec::new();
    write_exception(exception_of(class), &error.message, &mut out);
    out
}
