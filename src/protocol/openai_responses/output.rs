//! An answer in the making for a client: its items, the events that tell them, and the object that holds them all.
//!
//! A whole answer and a stream are written by the same steps, so they can't differ. Texts in a row are one text of
//! one message, whichever blocks they came in; everything else is an item for each block.

mod calls;
mod words;

use serde_json::value::RawValue;

use self::calls::Calling;
use self::words::{Message, Thought};
use super::item;
use super::names::Names;
use super::told::allowed;
use crate::protocol::chat::{Finish, Source};
use crate::protocol::event::{Block, Delta, Failure, FailureClass};
use crate::protocol::text::{self, Object, Reader};
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape};

/// The largest answer that is told, in bytes: all of it is repeated at the end.
const MOST: usize = 128 << 20;

/// Writes one answer.
#[derive(Debug)]
pub(super) struct Output {
    /// Only the whole answer is asked for.
    quiet: bool,
    id: String,
    /// From it the items' ids are made.
    base: String,
    created: u64,
    model: String,
    /// What is repeated of the request: members without braces, and the tier that it asked for.
    echo: String,
    asked_tier: String,
    names: Names,
    tier: Option<String>,
    usage: Option<Usage>,
    sequence: u64,
    /// The items that are done, with commas between them, and how many items there are.
    items: Vec<u8>,
    count: u64,
    open: Option<Open>,
    /// The text of all that is open.
    held: usize,
    refused: bool,
}

/// What a provider's own frames have told of an answer, for frames of ours to follow them.
#[derive(Debug, Default)]
pub struct Adopted {
    /// The number of the next event.
    pub sequence: u64,
    /// The items that are done, as they came, with commas between them.
    pub items: Vec<u8>,
    /// The place of the last item that began, and its id while it is open.
    pub index: u64,
    pub open: Option<String>,
}

#[derive(Debug)]
enum Open {
    Message(Message),
    Thought(Thought),
    Call(Calling),
}

impl Output {
    pub fn new(shape: &Shape, quiet: bool) -> Self {
        let base = allowed(&shape.id);
        let whole = if shape.echo.is_empty() {
            super::request::defaults()
        } else {
            shape.echo.clone()
        };
        let (echo, asked_tier) = super::request::apart(&whole);
        Self {
            quiet,
            id: String::new(),
            base,
            created: shape.created,
            model: shape.model.clone(),
            names: Names::of(echo),
            asked_tier: asked_tier.unwrap_or("\"auto\"").to_owned(),
            echo: echo.to_owned(),
            tier: None,
            usage: None,
            sequence: 0,
            items: Vec::new(),
            count: 0,
            open: None,
            held: 0,
            refused: false,
        }
    }

    /// Begins: `id` and `model` are the provider's.
    pub fn start(&mut self, id: &str, model: &str, tier: Option<&str>, out: &mut Vec<u8>) {
        if self.base.is_empty() {
            let bare = id.split_once('_').map_or(id, |(_, bare)| bare);
            self.base = allowed(bare);
        }
        self.id = if id.starts_with("resp_") && id.len() <= ID_MOST {
            id.to_owned()
        } else {
            format!("resp_{}", self.base)
        };
        if self.model.is_empty() {
            self.model = model.to_owned();
        }
        self.tier = tier.and_then(served).map(str::to_owned);
        for event in ["response.created", "response.in_progress"] {
            self.whole_event(event, item::IN_PROGRESS, None, None, out);
        }
    }

    /// Takes the provider's own numbers, ids and items in place of those that were made here.
    pub fn adopt(&mut self, adopted: &Adopted) {
        self.sequence = adopted.sequence;
        self.items.clone_from(&adopted.items);
        self.count = adopted.index;
        match (&mut self.open, &adopted.open) {
            (Some(Open::Message(message)), Some(id)) => message.named(id),
            (Some(Open::Message(_) | Open::Thought(_) | Open::Call(_)) | None, _) => {
                self.open = None;
                self.count += u64::from(!adopted.items.is_empty());
            }
        }
    }

    pub fn usage(&mut self, usage: &Usage) {
        if let Some(tier) = usage.tier.as_deref().and_then(served) {
            self.tier = Some(tier.to_owned());
        }
        self.usage = Some(usage.clone());
    }

    pub fn open(&mut self, block: &Block<'_>, out: &mut Vec<u8>) {
        match block {
            Block::Text => self.text_begins(),
            // It begins with its first word.
            Block::Refusal => {}
            Block::Reasoning => {
                self.close(item::COMPLETED, out);
                self.open = Some(Open::Thought(Thought::default()));
            }
            Block::RedactedReasoning { data } => {
                self.close(item::COMPLETED, out);
                self.hidden(data, out);
            }
            Block::ToolCall { id, name } => {
                self.close(item::COMPLETED, out);
                self.call(id, name, out);
            }
            Block::Opaque {
                family: Protocol::OpenaiResponses,
                raw,
            } => {
                self.close(item::COMPLETED, out);
                self.opaque(raw, out);
            }
            // What others do by tools of their own has no word here.
            Block::Opaque { .. } => {}
        }
    }

    pub fn delta(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        match delta {
            Delta::Text(text) => self.say(false, text, out),
            Delta::Refusal(text) => {
                self.refused = true;
                self.say(true, text, out);
            }
            Delta::Reasoning(text) => self.think(text, out),
            Delta::Signature(signature) => {
                if let Some(Open::Thought(thought)) = &mut self.open {
                    thought.signature.push_str(signature);
                }
            }
            Delta::Arguments(text) => self.argue(text, out),
            Delta::Citation { family, raw } => self.cite(*family, raw, out),
            Delta::Logprobs(raw) => self.weigh(raw, out),
            Delta::Opaque { .. } => {}
        }
    }

    /// A block ends. What said something stays open: more of it may follow in another block.
    pub fn close_block(&mut self, out: &mut Vec<u8>) {
        match &self.open {
            Some(Open::Message(_)) => self.text_ends(out),
            Some(Open::Thought(_) | Open::Call(_)) => self.close(item::COMPLETED, out),
            None => {}
        }
    }

    /// Ends well. Returns the whole answer's event, or the answer itself when quiet.
    pub fn finish(&mut self, reason: Finish, out: &mut Vec<u8>) {
        let why = match reason {
            Finish::Length | Finish::ContextWindow => Some("max_output_tokens"),
            Finish::ContentFilter => Some("content_filter"),
            Finish::Refusal if !self.refused => Some("content_filter"),
            Finish::Stop
            | Finish::StopSequence
            | Finish::ToolCalls
            | Finish::Refusal
            | Finish::Pause
            | Finish::Other => None,
        };
        let status = if why.is_some() {
            item::INCOMPLETE
        } else {
            item::COMPLETED
        };
        self.close(status, out);
        if self.quiet {
            self.write(status, why, None, out);
            return;
        }
        let event = format!("response.{status}");
        self.whole_event(&event, status, why, None, out);
    }

    /// Ends with a failure.
    pub fn fail(&mut self, failure: &Failure<'_>, out: &mut Vec<u8>) {
        self.open = None;
        let error = (code(failure.class), &*failure.message);
        self.whole_event("response.failed", "failed", None, Some(error), out);
    }

    /// Returns whether the answer is too large to be repeated.
    pub fn overfull(&self) -> bool {
        self.items.len().saturating_add(self.held) > MOST
    }

    /// Writes a picture that came whole.
    pub fn image(&mut self, source: &Source<'_>, out: &mut Vec<u8>) {
        let Source::Base64 { data, .. } = source else {
            return;
        };
        self.close(item::COMPLETED, out);
        let id = self.item_id("ig");
        let mut object = Vec::new();
        let mut picture = Object::open(&mut object);
        picture.string("id", &id);
        picture.string("type", "image_generation_call");
        picture.string("status", item::COMPLETED);
        picture.string("result", data);
        picture.close();
        self.done(&object, out);
    }

    fn opaque(&mut self, raw: &RawValue, out: &mut Vec<u8>) {
        // Anything but an object with a type is no item.
        if Reader::of(raw.get()).tag("type").is_none() {
            return;
        }
        let mut line = Vec::new();
        text::raw_line(raw, &mut line);
        self.added(&line, out);
        self.done(&line, out);
    }

    /// Closes the item that is open.
    fn close(&mut self, status: &str, out: &mut Vec<u8>) {
        match self.open.take() {
            Some(Open::Message(message)) => self.close_message(message, status, out),
            Some(Open::Thought(thought)) => self.close_thought(thought, out),
            Some(Open::Call(call)) => self.close_call(call, status, out),
            None => {}
        }
        self.held = 0;
    }

    fn item_id(&self, kind: &str) -> String {
        format!("{kind}_{}_{}", self.base, self.count)
    }

    /// Tells that an item begins.
    fn added(&mut self, object: &[u8], out: &mut Vec<u8>) {
        let index = self.count;
        self.event("response.output_item.added", out, |event| {
            event.integer("output_index", index);
            event.key("item").extend_from_slice(object);
        });
    }

    /// Tells that an item is done, and keeps it for the end.
    fn done(&mut self, object: &[u8], out: &mut Vec<u8>) {
        let index = self.count;
        self.event("response.output_item.done", out, |event| {
            event.integer("output_index", index);
            event.key("item").extend_from_slice(object);
        });
        text::comma(0, &mut self.items);
        self.items.extend_from_slice(object);
        self.count += 1;
    }

    /// Appends one event: its name, its type, what `fill` writes, and its number.
    fn event(&mut self, kind: &str, out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
        if self.quiet {
            return;
        }
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        let mut event = Object::open(out);
        event.string("type", kind);
        fill(&mut event);
        event.integer("sequence_number", self.sequence);
        event.close();
        out.extend_from_slice(b"\n\n");
        self.sequence += 1;
    }

    /// Appends an event that holds the whole answer so far.
    fn whole_event(
        &mut self,
        kind: &str,
        status: &str,
        why: Option<&str>,
        error: Option<(&str, &str)>,
        out: &mut Vec<u8>,
    ) {
        if self.quiet {
            return;
        }
        let mut response = Vec::with_capacity(self.items.len() + self.echo.len() + 512);
        self.write(status, why, error, &mut response);
        self.event(kind, out, |event| {
            event.key("response").extend_from_slice(&response);
        });
    }

    /// Appends the response object.
    fn write(
        &self,
        status: &str,
        why: Option<&str>,
        error: Option<(&str, &str)>,
        out: &mut Vec<u8>,
    ) {
        let mut object = Object::open(out);
        object.string("id", &self.id);
        object.string("object", "response");
        object.integer("created_at", self.created);
        object.string("status", status);
        match error {
            Some((code, message)) => {
                let mut inner = Object::open(object.key("error"));
                inner.string("code", code);
                inner.string("message", message);
                inner.close();
            }
            None => object.key("error").extend_from_slice(b"null"),
        }
        match why {
            Some(why) => {
                let mut inner = Object::open(object.key("incomplete_details"));
                inner.string("reason", why);
                inner.close();
            }
            None => object.key("incomplete_details").extend_from_slice(b"null"),
        }
        object.string("model", &self.model);
        let items = object.key("output");
        items.push(b'[');
        items.extend_from_slice(&self.items);
        items.push(b']');
        match &self.usage {
            // A beginning tells none.
            Some(usage) if status != item::IN_PROGRESS => {
                usage.write_openai_responses(object.key("usage"));
            }
            Some(_) | None => object.key("usage").extend_from_slice(b"null"),
        }
        object.out.push(b',');
        object.out.extend_from_slice(self.echo.as_bytes());
        match &self.tier {
            Some(tier) => object.string("service_tier", tier),
            None => object
                .key("service_tier")
                .extend_from_slice(self.asked_tier.as_bytes()),
        }
        object.close();
    }
}

/// OpenAI takes no longer ids back than this.
const ID_MOST: usize = 64;

/// Returns a service tier in OpenAI's words; others' tiers have none.
fn served(name: &str) -> Option<&str> {
    match name {
        "auto" | "default" | "flex" | "scale" | "priority" | "fast" => Some(name),
        "standard" => Some("default"),
        _ => None,
    }
}

/// Returns OpenAI's code of a failure inside an answer.
pub(super) fn code(class: FailureClass) -> &'static str {
    match class {
        FailureClass::RateLimited => "rate_limit_exceeded",
        FailureClass::InvalidRequest => "invalid_prompt",
        FailureClass::Overloaded
        | FailureClass::Server
        | FailureClass::Garbage
        | FailureClass::Cut => "server_error",
    }
}

/// Appends the event of a response that failed, of which nothing else is known.
pub(super) fn write_failed(shape: &Shape, failure: &Failure<'_>, out: &mut Vec<u8>) {
    let mut output = Output::new(shape, false);
    output.id = format!("resp_{}", output.base);
    output.sequence = 1;
    output.fail(failure, out);
}
