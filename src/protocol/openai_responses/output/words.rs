//! Messages and reasoning of an answer in the making.

use serde_json::value::RawValue;

use super::{Open, Output};
use crate::protocol::Protocol;
use crate::protocol::openai_responses::blob::{self, Outward};
use crate::protocol::openai_responses::{citation, item, logprobs};
use crate::protocol::text::{self, Object};

/// A message that is open, with its last part.
#[derive(Debug)]
pub(super) struct Message {
    id: String,
    /// The parts that are done, with commas between them, and how many.
    content: Vec<u8>,
    parts: u64,
    part: Option<Part>,
}

/// A part of a message that is open.
#[derive(Debug, Default)]
struct Part {
    refusal: bool,
    text: String,
    /// Characters so far, and those before the block that is open.
    chars: u64,
    block_start: u64,
    annotations: Vec<u8>,
    annotated: u64,
    logprobs: Vec<u8>,
    /// Pages that the open block cites, of those who cite a block as a whole.
    cited: Vec<(String, String)>,
}

/// A reasoning item that is open.
#[derive(Debug, Default)]
pub(super) struct Thought {
    /// Empty until it is told.
    id: String,
    text: String,
    pub signature: String,
}

impl Message {
    /// Takes the id that a provider gave it.
    pub(super) fn named(&mut self, id: &str) {
        id.clone_into(&mut self.id);
    }
}

impl Output {
    /// A block of text begins, perhaps in a text that is open.
    pub(super) fn text_begins(&mut self) {
        if let Some(Open::Message(message)) = &mut self.open
            && let Some(part) = &mut message.part
        {
            part.block_start = part.chars;
        }
    }

    /// A block of text ends.
    pub(super) fn text_ends(&mut self, out: &mut Vec<u8>) {
        let Some(Open::Message(message)) = &mut self.open else {
            return;
        };
        let Some(part) = &mut message.part else {
            return;
        };
        let cited = std::mem::take(&mut part.cited);
        let (start, end) = (part.block_start, part.chars);
        for (url, title) in cited {
            let page = citation::Page {
                url: url.into(),
                title: title.into(),
                start,
                end,
            };
            let mut annotation = Vec::new();
            citation::write(&page, &mut annotation);
            self.annotate(&annotation, out);
        }
    }

    /// Says a piece of text or of a refusal.
    pub(super) fn say(&mut self, refusal: bool, piece: &str, out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        self.part(refusal, out);
        self.held += piece.len();
        let Some(Open::Message(message)) = &mut self.open else {
            return;
        };
        let Some(part) = &mut message.part else {
            return;
        };
        part.text.push_str(piece);
        part.chars += piece.chars().count() as u64;
        if self.quiet {
            return;
        }
        let (id, index) = (message.id.clone(), message.parts);
        let kind = match refusal {
            true => "response.refusal.delta",
            false => "response.output_text.delta",
        };
        self.part_event(kind, &id, index, out, |event| {
            event.string("delta", piece);
            if !refusal {
                event.key("logprobs").extend_from_slice(b"[]");
            }
        });
    }

    /// Opens a part of this kind, unless it is open.
    fn part(&mut self, refusal: bool, out: &mut Vec<u8>) {
        match &self.open {
            Some(Open::Message(message)) => match &message.part {
                Some(part) if part.refusal == refusal => return,
                Some(_) => self.close_part(out),
                None => {}
            },
            Some(Open::Thought(_) | Open::Call(_)) | None => {
                self.close(item::COMPLETED, out);
                let id = self.item_id("msg");
                let mut object = Vec::new();
                item::write_message(&id, item::IN_PROGRESS, b"", &mut object);
                self.added(&object, out);
                self.open = Some(Open::Message(Message {
                    id,
                    content: Vec::new(),
                    parts: 0,
                    part: None,
                }));
            }
        }
        let Some(Open::Message(message)) = &mut self.open else {
            return;
        };
        message.part = Some(Part {
            refusal,
            ..Part::default()
        });
        let (id, index) = (message.id.clone(), message.parts);
        let mut empty = Vec::new();
        write_part(refusal, "", b"", b"", &mut empty);
        self.part_event("response.content_part.added", &id, index, out, |event| {
            event.key("part").extend_from_slice(&empty);
        });
    }

    fn close_part(&mut self, out: &mut Vec<u8>) {
        let Some(Open::Message(message)) = &mut self.open else {
            return;
        };
        let Some(part) = message.part.take() else {
            return;
        };
        let mut whole = Vec::new();
        write_part(
            part.refusal,
            &part.text,
            &part.annotations,
            &part.logprobs,
            &mut whole,
        );
        text::comma(0, &mut message.content);
        message.content.extend_from_slice(&whole);
        let (id, index) = (message.id.clone(), message.parts);
        message.parts += 1;
        if part.refusal {
            self.part_event("response.refusal.done", &id, index, out, |event| {
                event.string("refusal", &part.text);
            });
        } else {
            self.part_event("response.output_text.done", &id, index, out, |event| {
                event.string("text", &part.text);
                let list = event.key("logprobs");
                list.push(b'[');
                list.extend_from_slice(&part.logprobs);
                list.push(b']');
            });
        }
        self.part_event("response.content_part.done", &id, index, out, |event| {
            event.key("part").extend_from_slice(&whole);
        });
    }

    pub(super) fn close_message(&mut self, message: Message, status: &str, out: &mut Vec<u8>) {
        self.open = Some(Open::Message(message));
        self.text_ends(out);
        self.close_part(out);
        let Some(Open::Message(message)) = self.open.take() else {
            return;
        };
        let mut object = Vec::new();
        item::write_message(&message.id, status, &message.content, &mut object);
        self.done(&object, out);
    }

    /// Adds a citation to the text that is open.
    pub(super) fn cite(&mut self, family: Protocol, raw: &RawValue, out: &mut Vec<u8>) {
        if family == Protocol::Anthropic {
            // Of the whole block, which isn't at its end.
            if let Some(Open::Message(message)) = &mut self.open
                && let Some(part) = &mut message.part
                && let Some(page) = citation::anthropic(raw)
            {
                let cited = (page.url.into_owned(), page.title.into_owned());
                part.cited.push(cited);
            }
            return;
        }
        let mut annotation = Vec::new();
        if citation::write_from(family, raw, &mut annotation) {
            self.annotate(&annotation, out);
        }
    }

    fn annotate(&mut self, annotation: &[u8], out: &mut Vec<u8>) {
        let Some(Open::Message(message)) = &mut self.open else {
            return;
        };
        let Some(part) = message.part.as_mut().filter(|part| !part.refusal) else {
            return;
        };
        text::comma(0, &mut part.annotations);
        part.annotations.extend_from_slice(annotation);
        let number = part.annotated;
        part.annotated += 1;
        let (id, index) = (message.id.clone(), message.parts);
        let kind = "response.output_text.annotation.added";
        self.part_event(kind, &id, index, out, |event| {
            event.integer("annotation_index", number);
            event.key("annotation").extend_from_slice(annotation);
        });
    }

    /// Adds log probabilities of the text that was said last.
    pub(super) fn weigh(&mut self, raw: &RawValue, out: &mut Vec<u8>) {
        let mut tokens = Vec::new();
        logprobs::write_tokens(raw, &mut tokens);
        let Some(Open::Message(message)) = &mut self.open else {
            return;
        };
        let Some(part) = message.part.as_mut().filter(|part| !part.refusal) else {
            return;
        };
        if tokens.is_empty() {
            return;
        }
        text::comma(0, &mut part.logprobs);
        part.logprobs.extend_from_slice(&tokens);
        self.held += tokens.len();
        let (id, index) = (message.id.clone(), message.parts);
        self.part_event("response.output_text.delta", &id, index, out, |event| {
            event.string("delta", "");
            let list = event.key("logprobs");
            list.push(b'[');
            list.extend_from_slice(&tokens);
            list.push(b']');
        });
    }

    /// Adds a piece of reasoning.
    pub(super) fn think(&mut self, piece: &str, out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Open::Thought(_))) {
            return;
        }
        self.thought_begins(out);
        self.held += piece.len();
        let Some(Open::Thought(thought)) = &mut self.open else {
            return;
        };
        let begins = thought.text.is_empty();
        thought.text.push_str(piece);
        if self.quiet {
            return;
        }
        let id = thought.id.clone();
        if begins {
            let mut empty = Vec::new();
            item::write_summary("", &mut empty);
            let kind = "response.reasoning_summary_part.added";
            self.summary_event(kind, &id, out, |event| {
                event.key("part").extend_from_slice(&empty);
            });
        }
        let kind = "response.reasoning_summary_text.delta";
        self.summary_event(kind, &id, out, |event| event.string("delta", piece));
    }

    /// Tells that a reasoning item begins, once.
    fn thought_begins(&mut self, out: &mut Vec<u8>) {
        let fresh = self.item_id("rs");
        let Some(Open::Thought(thought)) = &mut self.open else {
            return;
        };
        if !thought.id.is_empty() {
            return;
        }
        thought.id.clone_from(&fresh);
        let mut object = Vec::new();
        item::write_reasoning(&fresh, "", None, &mut object);
        self.added(&object, out);
    }

    pub(super) fn close_thought(&mut self, thought: Thought, out: &mut Vec<u8>) {
        let Thought {
            mut id,
            text,
            signature,
        } = thought;
        if text.is_empty() && signature.is_empty() {
            return;
        }
        let (own, encrypted) = match signature.is_empty() {
            true => (None, None),
            false => apart(blob::outward(&signature, false)),
        };
        if let Some(own) = own.filter(|_| self.quiet || id.is_empty()) {
            // Where nothing was told of it yet, it can have the id that its blob belongs to.
            id = own;
        }
        if text.is_empty() {
            if id.is_empty() {
                id = self.item_id("rs");
            }
            let mut object = Vec::new();
            item::write_reasoning(&id, "", None, &mut object);
            self.added(&object, out);
        }
        if !text.is_empty() {
            let mut summary = Vec::new();
            item::write_summary(&text, &mut summary);
            let kind = "response.reasoning_summary_text.done";
            self.summary_event(kind, &id, out, |event| event.string("text", &text));
            let kind = "response.reasoning_summary_part.done";
            self.summary_event(kind, &id, out, |event| {
                event.key("part").extend_from_slice(&summary);
            });
        }
        let mut object = Vec::new();
        item::write_reasoning(&id, &text, encrypted.as_deref(), &mut object);
        self.done(&object, out);
    }

    /// Writes reasoning that can't be read.
    pub(super) fn hidden(&mut self, data: &str, out: &mut Vec<u8>) {
        let (own, encrypted) = apart(blob::outward(data, true));
        let id = own.unwrap_or_else(|| self.item_id("rs"));
        let mut object = Vec::new();
        item::write_reasoning(&id, "", None, &mut object);
        self.added(&object, out);
        object.clear();
        item::write_reasoning(&id, "", encrypted.as_deref(), &mut object);
        self.done(&object, out);
    }

    fn part_event(
        &mut self,
        kind: &str,
        id: &str,
        part: u64,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Object<'_>),
    ) {
        let index = self.count;
        self.event(kind, out, |event| {
            event.string("item_id", id);
            event.integer("output_index", index);
            event.integer("content_index", part);
            fill(event);
        });
    }

    fn summary_event(
        &mut self,
        kind: &str,
        id: &str,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Object<'_>),
    ) {
        let index = self.count;
        self.event(kind, out, |event| {
            event.string("item_id", id);
            event.integer("output_index", index);
            event.integer("summary_index", 0);
            fill(event);
        });
    }
}

/// Returns the item's own id and what is encrypted.
fn apart(outward: Outward) -> (Option<String>, Option<String>) {
    match outward {
        Outward::Native { id, encrypted } => (id, encrypted),
        Outward::Foreign(blob) => (None, Some(blob)),
    }
}

fn write_part(refusal: bool, words: &str, annotations: &[u8], logprobs: &[u8], out: &mut Vec<u8>) {
    if refusal {
        item::write_refusal(words, out);
    } else {
        item::write_output_text(words, annotations, logprobs, out);
    }
}
