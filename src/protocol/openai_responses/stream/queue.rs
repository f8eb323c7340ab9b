//! The items of a stream as blocks, opened one after the other.
//!
//! An item may begin before the one before it is done. Then it waits in memory, and is told when its turn comes.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde_json::value::RawValue;

use crate::protocol::Protocol;
use crate::protocol::chat::Part;
use crate::protocol::event::{Block, Delta, Event};
use crate::protocol::openai_responses::told::BETWEEN;
use crate::protocol::openai_responses::{citation, logprobs};

/// How many bytes may wait for the item before them.
const HELD_MAX: usize = 16 << 20;

/// A piece of an item.
#[derive(Debug)]
pub(super) enum Piece<'p> {
    /// Of the message's part of this number.
    Text(u32, Cow<'p, str>),
    Refusal(u32, Cow<'p, str>),
    /// Of the summary's part of this number.
    Thought(u32, Cow<'p, str>),
    Arguments(Cow<'p, str>),
    Citation(Cow<'p, RawValue>),
    Logprobs(Cow<'p, RawValue>),
    /// What a reasoning item encrypts: signs its text, or stands for it.
    Signed(Cow<'p, str>),
    Hidden(Cow<'p, str>),
    /// An item that only this family understands.
    Whole(Cow<'p, RawValue>),
}

/// What an item is, as far as its pieces don't tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    Reasoning,
    Call { id: Box<str>, name: Box<str> },
    Other,
}

/// The items that are not told to their end yet: the first is being told, the others wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    slots: VecDeque<Slot>,
    /// The index of the next block to open.
    next: u32,
    held: usize,
}

#[derive(Debug)]
struct Slot {
    index: u32,
    kind: Kind,
    done: bool,
    /// Its open block: index, and what flows in it.
    block: Option<(u32, Flow)>,
    /// The part that was told last.
    part: Option<u32>,
    /// What came before its turn.
    waiting: Vec<Piece<'static>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Text,
    Refusal,
    Reasoning,
    Arguments,
}

impl Queue {
    /// Adds the item of this number.
    pub fn add(&mut self, index: u32, kind: Kind, each: &mut dyn FnMut(Event<'_>)) {
        self.slots.push_back(Slot {
            index,
            kind,
            done: false,
            block: None,
            part: None,
            waiting: Vec::new(),
        });
        if self.slots.len() == 1 {
            self.begin(each);
        }
    }

    /// Tells a piece of an item, or keeps it until its turn comes.
    pub fn push(&mut self, index: u32, piece: Piece<'_>, each: &mut dyn FnMut(Event<'_>)) {
        let Some(at) = self.slots.iter().rposition(|slot| slot.index == index) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        if slot.done {
            return;
        }
        if at == 0 {
            slot.tell(piece, &mut self.next, each);
        } else {
            self.held += piece.size();
            slot.waiting.push(piece.kept());
        }
    }

    /// Ends an item, and goes on to those that wait.
    pub fn done(&mut self, index: u32, each: &mut dyn FnMut(Event<'_>)) {
        if let Some(slot) = self.slots.iter_mut().rev().find(|slot| slot.index == index) {
            slot.done = true;
        }
        while self.slots.front().is_some_and(|slot| slot.done) {
            self.close_front(each);
        }
    }

    /// Returns how many items are open or wait.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns whether more waits than may be held.
    pub fn overfull(&self) -> bool {
        self.held > HELD_MAX
    }

    /// Tells what waits, in its order, and closes all.
    pub fn finish(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        while !self.slots.is_empty() {
            self.close_front(each);
        }
    }

    /// Closes what is open, and forgets what waits.
    pub fn abandon(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if let Some(slot) = self.slots.front_mut() {
            slot.close(each);
        }
        self.slots.clear();
        self.held = 0;
    }

    fn close_front(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if let Some(mut slot) = self.slots.pop_front() {
            slot.close(each);
        }
        self.begin(each);
    }

    /// Tells what came of the first item before its turn.
    fn begin(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        let Some(slot) = self.slots.front_mut() else {
            self.held = 0;
            return;
        };
        if let Kind::Call { id, name } = &slot.kind {
            let index = self.next;
            self.next += 1;
            slot.block = Some((index, Flow::Arguments));
            let block = Block::ToolCall {
                id: Cow::Borrowed(id),
                name: Cow::Borrowed(name),
            };
            each(Event::Open { index, block });
        }
        for piece in std::mem::take(&mut slot.waiting) {
            self.held = self.held.saturating_sub(piece.size());
            slot.tell(piece, &mut self.next, each);
        }
    }
}

impl Slot {
    fn tell(&mut self, piece: Piece<'_>, next: &mut u32, each: &mut dyn FnMut(Event<'_>)) {
        match piece {
            Piece::Text(part, text) => {
                let index = self.flow(Flow::Text, part, next, each);
                let delta = Delta::Text(text);
                each(Event::Delta { index, delta });
            }
            Piece::Refusal(part, text) => {
                let index = self.flow(Flow::Refusal, part, next, each);
                let delta = Delta::Refusal(text);
                each(Event::Delta { index, delta });
            }
            Piece::Thought(part, text) => {
                let parted = self.part.is_some_and(|before| before != part);
                self.part = Some(part);
                let index = self.flow(Flow::Reasoning, part, next, each);
                if parted {
                    let delta = Delta::Reasoning(Cow::Borrowed(BETWEEN));
                    each(Event::Delta { index, delta });
                }
                let delta = Delta::Reasoning(text);
                each(Event::Delta { index, delta });
            }
            Piece::Arguments(text) => {
                if let Some((index, Flow::Arguments)) = self.block {
                    let delta = Delta::Arguments(text);
                    each(Event::Delta { index, delta });
                }
            }
            Piece::Citation(raw) => self.cite(&raw, each),
            Piece::Logprobs(raw) => {
                if let Some((index, Flow::Text)) = self.block
                    && let Some(object) = logprobs::to_hub(&raw)
                {
                    let delta = Delta::Logprobs(&object);
                    each(Event::Delta { index, delta });
                }
            }
            Piece::Signed(blob) => {
                let index = self.flow(Flow::Reasoning, 0, next, each);
                let delta = Delta::Signature(blob);
                each(Event::Delta { index, delta });
            }
            Piece::Hidden(data) => {
                self.close(each);
                open_and_close(Block::RedactedReasoning { data }, next, each);
            }
            Piece::Whole(raw) => {
                self.close(each);
                let family = Protocol::OpenaiResponses;
                open_and_close(Block::Opaque { family, raw: &raw }, next, each);
            }
        }
    }

    /// Returns the block in which this flows, a new one where the open one is another.
    fn flow(
        &mut self,
        flow: Flow,
        part: u32,
        next: &mut u32,
        each: &mut dyn FnMut(Event<'_>),
    ) -> u32 {
        // Reasoning is one text, whatever the parts of its summary.
        let same = flow == Flow::Reasoning || self.part.is_none_or(|before| before == part);
        if let Some((index, open)) = self.block
            && open == flow
            && same
        {
            self.part = Some(part);
            return index;
        }
        self.close(each);
        let index = *next;
        *next += 1;
        self.block = Some((index, flow));
        self.part = Some(part);
        let block = match flow {
            Flow::Text => Block::Text,
            Flow::Refusal => Block::Refusal,
            Flow::Reasoning | Flow::Arguments => Block::Reasoning,
        };
        each(Event::Open { index, block });
        index
    }

    fn cite(&mut self, raw: &RawValue, each: &mut dyn FnMut(Event<'_>)) {
        let Some((index, Flow::Text)) = self.block else {
            return;
        };
        let mut chat = Vec::new();
        if let Some(page) = citation::page(raw) {
            citation::write_chat(&page, 0, &mut chat);
        }
        let chat = citation::raw(chat);
        // Chat's words are known to all; what it has none for is told in this family's.
        let (family, raw) = match &chat {
            Some(chat) => (Protocol::OpenaiChat, &**chat),
            None => (Protocol::OpenaiResponses, raw),
        };
        let delta = Delta::Citation { family, raw };
        each(Event::Delta { index, delta });
    }

    fn close(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if let Some((index, _)) = self.block.take() {
            each(Event::Close { index });
        }
    }
}

fn open_and_close(block: Block<'_>, next: &mut u32, each: &mut dyn FnMut(Event<'_>)) {
    let index = *next;
    *next += 1;
    each(Event::Open { index, block });
    each(Event::Close { index });
}

impl<'p> Piece<'p> {
    /// Returns the piece that a reasoning item's blob is; `None` of a part that is none.
    pub fn of_blob(part: Part<'p>) -> Option<Self> {
        match part {
            Part::Reasoning {
                signature: Some(blob),
                ..
            } => Some(Piece::Signed(blob)),
            Part::RedactedReasoning { data } => Some(Piece::Hidden(data)),
            Part::Reasoning { .. }
            | Part::Text { .. }
            | Part::Refusal { .. }
            | Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::Opaque { .. } => None,
        }
    }

    /// Returns the kind of an item that has such a piece, where that is all there is to know of it.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Piece::Text(..) | Piece::Refusal(..) | Piece::Citation(_) | Piece::Logprobs(_) => {
                Some(Kind::Message)
            }
            Piece::Thought(..) | Piece::Signed(_) | Piece::Hidden(_) => Some(Kind::Reasoning),
            // Nobody knows what is called.
            Piece::Arguments(_) => None,
            Piece::Whole(_) => Some(Kind::Other),
        }
    }

    fn size(&self) -> usize {
        /// What keeping a piece takes, whatever it says.
        const SLOT: usize = 64;
        SLOT + match self {
            Piece::Text(_, text)
            | Piece::Refusal(_, text)
            | Piece::Thought(_, text)
            | Piece::Arguments(text)
            | Piece::Signed(text)
            | Piece::Hidden(text) => text.len(),
            Piece::Citation(raw) | Piece::Logprobs(raw) | Piece::Whole(raw) => raw.get().len(),
        }
    }

    fn kept(self) -> Piece<'static> {
        let text = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let raw = |raw: Cow<'_, RawValue>| Cow::Owned(raw.into_owned());
        match self {
            Piece::Text(part, one) => Piece::Text(part, text(one)),
            Piece::Refusal(part, one) => Piece::Refusal(part, text(one)),
            Piece::Thought(part, one) => Piece::Thought(part, text(one)),
            Piece::Arguments(one) => Piece::Arguments(text(one)),
            Piece::Citation(one) => Piece::Citation(raw(one)),
            Piece::Logprobs(one) => Piece::Logprobs(raw(one)),
            Piece::Signed(one) => Piece::Signed(text(one)),
            Piece::Hidden(one) => Piece::Hidden(text(one)),
            Piece::Whole(one) => Piece::Whole(raw(one)),
        }
    }
}
