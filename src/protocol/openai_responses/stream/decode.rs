//! A provider's events into hub events.
//!
//! What is told in pieces is taken from the pieces; where a provider leaves them out, from what it tells when a
//! part, an item or the whole answer is done.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::queue::{Kind, Piece, Queue};
use crate::error::Result;
use crate::protocol::Shape;
use crate::protocol::chat::{Response, Str};
use crate::protocol::collect::replay;
use crate::protocol::event::{Event, Failure, FailureClass};
use crate::protocol::openai_responses::blob;
use crate::protocol::openai_responses::response::Output;
use crate::protocol::openai_responses::told::{
    Item, Said, Searches, Told, loose_string, made_up_id, said,
};
use crate::protocol::text::Reader;
use crate::protocol::usage::Usage;

/// How many items may be open at once.
const OPEN_MAX: usize = 1_024;

/// Reads one stream.
#[derive(Debug)]
pub struct Decoder {
    phase: Phase,
    /// The exchange's, for what the provider gives no id.
    exchange: String,
    queue: Queue,
    /// The item that is told now, and what of it was heard.
    heard: Vec<Heard>,
    /// Items that were told, and calls among them that had no id.
    items: usize,
    unnamed: usize,
    calls: bool,
    refused: bool,
    searches: Searches,
    usage: Option<Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Started,
    Ended,
}

/// What was heard of an item that isn't done.
#[derive(Debug)]
struct Heard {
    index: u32,
    /// It said something in pieces.
    any: bool,
    /// The part of it that was said last.
    part: Option<u32>,
    /// A reasoning item told its summary: what it thought in full says the same.
    summary: bool,
}

impl Decoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            phase: Phase::Waiting,
            exchange: shape.id.clone(),
            queue: Queue::default(),
            heard: Vec::new(),
            items: 0,
            unnamed: 0,
            calls: false,
            refused: false,
            searches: Searches::default(),
            usage: None,
        }
    }

    /// See [`crate::protocol::StreamDecoder::feed`].
    pub fn feed(&mut self, name: &[u8], data: &[u8], each: &mut dyn FnMut(Event<'_>)) {
        if self.phase == Phase::Ended {
            return;
        }
        let data = data.trim_ascii();
        if data.is_empty() {
            return;
        }
        // Some end with it, though a response has an end of its own.
        if data == b"[DONE]" {
            return self.end(each);
        }
        let read = Heading::read(data, name).and_then(|event| self.take(event, each));
        if read.is_err() && self.phase != Phase::Ended {
            let message = "the provider sent an event that can't be read";
            self.fail(FailureClass::Garbage, message.into(), each);
        }
    }

    /// See [`crate::protocol::StreamDecoder::end`].
    pub fn end(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if self.phase == Phase::Ended {
            return;
        }
        let message = "the provider hung up in the middle of the answer";
        self.fail(FailureClass::Cut, message.into(), each);
    }

    fn take(&mut self, event: Heading<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        match &*event.kind {
            "response.completed" | "response.incomplete" | "response.done" => {
                return self.completed(event, each);
            }
            "response.failed" | "response.cancelled" => self.failed(event, each)?,
            "error" => {
                let (class, message) = match event.error {
                    Some(raw) => (class_of(raw), said(raw)),
                    None => (
                        class_by(event.code.as_deref()),
                        event.message.unwrap_or_default().into_owned(),
                    ),
                };
                self.fail(class, message.into(), each);
            }
            // An error as other protocols say it.
            "" if event.error.is_some() => {
                let (class, message) = event
                    .error
                    .map_or((FailureClass::Server, String::new()), |raw| {
                        (class_of(raw), said(raw))
                    });
                self.fail(class, message.into(), each);
            }
            "response.created" | "response.in_progress" | "response.queued" => {
                let told = event.response()?;
                self.start(&told, each);
            }
            _ => {
                self.start(&Told::default(), each);
                self.item_event(event, each)?;
            }
        }
        if self.queue.overfull() && self.phase != Phase::Ended {
            let message = "the provider mixes more items than can be held";
            self.fail(FailureClass::Garbage, message.into(), each);
        }
        Ok(())
    }

    fn start(&mut self, told: &Told<'_>, each: &mut dyn FnMut(Event<'_>)) {
        if self.phase != Phase::Waiting {
            return;
        }
        self.phase = Phase::Started;
        let made_up = || format!("resp_{}", self.exchange);
        each(Event::Start {
            id: told.id.clone().unwrap_or_else(|| made_up().into()),
            model: told.model.clone().unwrap_or_default(),
            usage: None,
            service_tier: told.tier().cloned(),
        });
    }

    fn item_event(&mut self, event: Heading<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let index = event.output_index.unwrap_or_default();
        let part = event.part_index.unwrap_or_default();
        let text = event.delta;
        match &*event.kind {
            "response.output_item.added" => {
                if let Some(raw) = event.item {
                    self.added(index, Item::read(raw)?, each);
                }
            }
            "response.output_item.done" => {
                if let Some(raw) = event.item {
                    self.done(index, raw, each)?;
                }
            }
            "response.output_text.delta" => {
                if let Some(text) = told(text) {
                    self.say(index, part, Piece::Text(part, text), each);
                }
                if let Some(list) = event.logprobs {
                    self.queue
                        .push(index, Piece::Logprobs(Cow::Borrowed(list)), each);
                }
            }
            "response.refusal.delta" => {
                if let Some(text) = told(text) {
                    self.refused = true;
                    self.say(index, part, Piece::Refusal(part, text), each);
                }
            }
            "response.output_text.done" if !self.has_heard(index, part) => {
                if let Some(text) = told(event.text) {
                    self.say(index, part, Piece::Text(part, text), each);
                }
                if let Some(list) = event.logprobs {
                    self.queue
                        .push(index, Piece::Logprobs(Cow::Borrowed(list)), each);
                }
            }
            "response.refusal.done" if !self.has_heard(index, part) => {
                if let Some(text) = told(event.refusal) {
                    self.refused = true;
                    self.say(index, part, Piece::Refusal(part, text), each);
                }
            }
            "response.output_text.annotation.added" => {
                if let Some(raw) = event.annotation {
                    self.queue
                        .push(index, Piece::Citation(Cow::Borrowed(raw)), each);
                }
            }
            "response.reasoning_summary_text.delta" => {
                self.think(index, part, true, text, each);
            }
            "response.reasoning_summary_text.done" if !self.has_heard(index, part) => {
                self.think(index, part, true, event.text, each);
            }
            "response.reasoning_text.delta" => self.think(index, part, false, text, each),
            "response.reasoning_text.done" if !self.has_heard(index, part) => {
                self.think(index, part, false, event.text, each);
            }
            "response.function_call_arguments.delta" => {
                if let Some(text) = told(text) {
                    self.say(index, 0, Piece::Arguments(text), each);
                }
            }
            "response.function_call_arguments.done" if !self.has_heard(index, 0) => {
                if let Some(text) = told(event.arguments) {
                    self.say(index, 0, Piece::Arguments(text), each);
                }
            }
            // What the provider's own tools are at is told by their items; anything new says nothing.
            _ => {}
        }
        Ok(())
    }

    fn heard(&mut self, index: u32) -> Option<&mut Heard> {
        self.heard.iter_mut().rev().find(|one| one.index == index)
    }

    /// Returns whether this part was told in pieces.
    fn has_heard(&mut self, index: u32, part: u32) -> bool {
        self.heard(index).is_some_and(|one| one.part == Some(part))
    }

    fn say(&mut self, index: u32, part: u32, piece: Piece<'_>, each: &mut dyn FnMut(Event<'_>)) {
        if let Some(heard) = self.heard(index) {
            heard.any = true;
            heard.part = Some(part);
        } else if let Some(kind) = piece.kind() {
            // Its beginning was left out.
            self.add(index, kind, each);
            if let Some(heard) = self.heard(index) {
                heard.any = true;
                heard.part = Some(part);
            }
        }
        self.queue.push(index, piece, each);
    }

    fn think(
        &mut self,
        index: u32,
        part: u32,
        summary: bool,
        text: Option<Str<'_>>,
        each: &mut dyn FnMut(Event<'_>),
    ) {
        let Some(text) = told(text) else {
            return;
        };
        let other = |one: &mut Heard| one.any && one.summary != summary;
        if self.heard(index).is_some_and(other) {
            return;
        }
        self.say(index, part, Piece::Thought(part, text), each);
        if let Some(heard) = self.heard(index) {
            heard.summary = summary;
        }
    }

    fn added(&mut self, index: u32, mut item: Item<'_>, each: &mut dyn FnMut(Event<'_>)) {
        if self.heard(index).is_some() {
            return;
        }
        let kind = self.kind(&mut item);
        self.add(index, kind, each);
    }

    fn kind(&mut self, item: &mut Item<'_>) -> Kind {
        match &*item.kind {
            "message" => Kind::Message,
            "reasoning" => Kind::Reasoning,
            "function_call" => {
                self.calls = true;
                let id = match item.call_id.take().filter(|id| !id.is_empty()) {
                    Some(id) => Box::from(&*id),
                    None => {
                        self.unnamed += 1;
                        made_up_id(&self.exchange, self.unnamed - 1).into()
                    }
                };
                let name = Box::from(&*item.flat_name());
                Kind::Call { id, name }
            }
            kind => {
                self.calls |= kind == "custom_tool_call";
                self.searches.count(kind);
                Kind::Other
            }
        }
    }

    fn add(&mut self, index: u32, kind: Kind, each: &mut dyn FnMut(Event<'_>)) {
        if self.queue.len() >= OPEN_MAX {
            let message = "the provider mixes more items than one answer may hold";
            return self.fail(FailureClass::Garbage, message.into(), each);
        }
        self.items += 1;
        self.heard.push(Heard {
            index,
            any: false,
            part: None,
            summary: false,
        });
        self.queue.add(index, kind, each);
    }

    /// An item is done: what was not told of it in pieces is told now.
    fn done(&mut self, index: u32, raw: &RawValue, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let mut item = Item::read(raw)?;
        if self.heard(index).is_none() {
            let kind = self.kind(&mut item);
            self.add(index, kind, each);
        }
        let any = self.heard(index).is_some_and(|one| one.any);
        let queue = &mut self.queue;
        match &*item.kind {
            "message" if !any => {
                for (part, said) in (0..).zip(std::mem::take(&mut item.content)) {
                    self.refused |= said.refusal;
                    whole_part(queue, index, part, said, each);
                }
            }
            "function_call" if !any => {
                if let Some(text) = told(item.arguments.take()) {
                    queue.push(index, Piece::Arguments(text), each);
                }
            }
            "reasoning" => {
                let text = item.thoughts();
                let readable = any || !text.is_empty();
                if !any && !text.is_empty() {
                    queue.push(index, Piece::Thought(0, text), each);
                }
                // Signed is what can be read; the words themselves were told.
                let text = if readable { "." } else { "" };
                let part = blob::part(item.id.take(), item.encrypted.take(), text.into());
                if let Some(piece) = part.and_then(Piece::of_blob) {
                    queue.push(index, piece, each);
                }
            }
            _ if item.is_opaque() => queue.push(index, Piece::Whole(Cow::Borrowed(raw)), each),
            _ => {}
        }
        queue.done(index, each);
        self.heard.retain(|one| one.index != index);
        Ok(())
    }

    fn completed(&mut self, event: Heading<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let mut told = event.response()?;
        if told.failed() {
            return self.failed(event, each);
        }
        if event.kind == "response.incomplete" {
            told.status = Some("incomplete".into());
        }
        self.start(&told, each);
        self.queue.finish(each);
        let mut finish = told.finish(self.calls, self.refused);
        // Some tell all of it at the end alone.
        if self.items == 0
            && let Some(list) = told.output
        {
            let output = Output::read(list, &self.exchange)?;
            finish = output.finish(&told);
            self.searches = output.searches;
            replay_parts(output, each);
        }
        if let Some(usage) = told.usage(self.searches).or(self.usage.take()) {
            each(Event::Usage(usage));
        }
        self.phase = Phase::Ended;
        each(Event::Finish {
            reason: finish,
            stop_sequence: None,
        });
        Ok(())
    }

    fn failed(&mut self, event: Heading<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let mut told = event.response()?;
        self.start(&told, each);
        self.usage = told.usage(self.searches);
        let (class, message) = match told.error.or(event.error) {
            Some(raw) => (class_of(raw), said(raw)),
            None => (
                FailureClass::Server,
                "the provider says that the answer failed".to_owned(),
            ),
        };
        self.fail(class, message.into(), each);
        Ok(())
    }

    fn fail(
        &mut self,
        class: FailureClass,
        message: Cow<'_, str>,
        each: &mut dyn FnMut(Event<'_>),
    ) {
        self.start(&Told::default(), each);
        self.queue.abandon(each);
        if let Some(usage) = self.usage.take() {
            each(Event::Usage(usage));
        }
        self.phase = Phase::Ended;
        each(Event::Error(Failure { class, message }));
    }
}

/// Tells a part that came whole.
fn whole_part(
    queue: &mut Queue,
    index: u32,
    part: u32,
    said: Said<'_>,
    each: &mut dyn FnMut(Event<'_>),
) {
    if said.text.is_empty() {
        return;
    }
    if said.refusal {
        return queue.push(index, Piece::Refusal(part, said.text), each);
    }
    queue.push(index, Piece::Text(part, said.text), each);
    if let Some(list) = said.annotations {
        // What can't be read is no citation.
        let _ = Reader::of(list.get()).array(|r| {
            let raw = r.raw()?;
            queue.push(index, Piece::Citation(Cow::Borrowed(raw)), each);
            Ok(())
        });
    }
    if let Some(list) = said.logprobs {
        queue.push(index, Piece::Logprobs(Cow::Borrowed(list)), each);
    }
}

/// Tells the blocks of an answer that came whole.
fn replay_parts(output: Output<'_>, each: &mut dyn FnMut(Event<'_>)) {
    let response = Response {
        family: crate::protocol::Protocol::OpenaiResponses,
        id: Str::default(),
        model: Str::default(),
        parts: output.parts,
        finish: crate::protocol::chat::Finish::Stop,
        stop_sequence: None,
        usage: None,
        service_tier: None,
        logprobs: None,
        more: Vec::new(),
    };
    replay(&response, &mut |event| match event {
        Event::Open { .. } | Event::Delta { .. } | Event::Close { .. } => each(event),
        Event::Start { .. }
        | Event::Usage(_)
        | Event::Finish { .. }
        | Event::Ping
        | Event::Error(_) => {}
    });
}

/// Returns a text that says something.
fn told(text: Option<Str<'_>>) -> Option<Str<'_>> {
    text.filter(|text| !text.is_empty())
}

/// One event's data. What is inside of its objects is read later.
#[derive(Default)]
struct Heading<'b> {
    kind: Str<'b>,
    response: Option<&'b RawValue>,
    item: Option<&'b RawValue>,
    output_index: Option<u32>,
    /// Of the message's content, or of the reasoning's summary.
    part_index: Option<u32>,
    delta: Option<Str<'b>>,
    text: Option<Str<'b>>,
    refusal: Option<Str<'b>>,
    arguments: Option<Str<'b>>,
    annotation: Option<&'b RawValue>,
    logprobs: Option<&'b RawValue>,
    error: Option<&'b RawValue>,
    code: Option<Str<'b>>,
    message: Option<Str<'b>>,
}

impl<'b> Heading<'b> {
    fn read(data: &'b [u8], name: &[u8]) -> Result<Self> {
        let mut event = Self::default();
        let mut reader = Reader::new(data)?;
        reader.object(|r, key| {
            match (&*key, r.peek()) {
                ("type", _) => event.kind = loose_string(r)?.unwrap_or_default(),
                ("response", b'{') => event.response = Some(r.raw()?),
                ("item", b'{') => event.item = Some(r.raw()?),
                ("output_index", b'0'..=b'9') => event.output_index = number(r)?,
                ("content_index" | "summary_index", b'0'..=b'9') => event.part_index = number(r)?,
                ("delta", _) => event.delta = loose_string(r)?,
                ("text", _) => event.text = loose_string(r)?,
                ("refusal", _) => event.refusal = loose_string(r)?,
                ("arguments", _) => event.arguments = loose_string(r)?,
                ("annotation", b'{') => event.annotation = Some(r.raw()?),
                ("logprobs", b'[') => event.logprobs = Some(r.raw()?),
                ("error", _) => event.error = r.maybe_raw()?,
                ("code", _) => event.code = loose_string(r)?,
                ("message", _) => event.message = loose_string(r)?,
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        reader.finish()?;
        if event.kind.is_empty()
            && let Ok(name) = std::str::from_utf8(name)
        {
            event.kind = Cow::Owned(name.to_owned());
        }
        Ok(event)
    }

    fn response(&self) -> Result<Told<'b>> {
        match self.response {
            Some(raw) => Told::read(&mut Reader::of(raw.get())),
            None => Ok(Told::default()),
        }
    }
}

/// Reads a place; one that is no such number is absent.
fn number(r: &mut Reader<'_>) -> Result<Option<u32>> {
    Ok(r.raw()?.get().parse().ok())
}

/// Returns what kind of failure an error object tells of.
fn class_of(raw: &RawValue) -> FailureClass {
    let mut reader = Reader::of(raw.get());
    let (code, kind) = (reader.tag("code"), reader.tag("type"));
    match class_by(code.as_deref()) {
        FailureClass::Server => class_by(kind.as_deref()),
        class @ (FailureClass::Overloaded
        | FailureClass::RateLimited
        | FailureClass::InvalidRequest
        | FailureClass::Garbage
        | FailureClass::Cut) => class,
    }
}

fn class_by(word: Option<&str>) -> FailureClass {
    let word = word.unwrap_or_default().to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| word.contains(part));
    if says(&["overloaded", "slow_down", "unavailable"]) {
        FailureClass::Overloaded
    } else if says(&["rate_limit", "too_many", "insufficient_quota", "429"]) {
        FailureClass::RateLimited
    } else if says(&["invalid", "context_length", "image", "policy", "not_found"]) {
        FailureClass::InvalidRequest
    } else {
        FailureClass::Server
    }
}
