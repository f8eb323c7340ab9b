//! The blocks of an answer in the making, opened one after the other.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde_json::value::RawValue;

use crate::protocol::Protocol;
use crate::protocol::event::{Block, Delta, Event};

/// How many bytes may wait for the block before them.
const HELD_MAX: usize = 16 << 20;

/// What flows as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Refusal,
    Reasoning,
}

/// The blocks that are not closed yet: the first one is open, or can't be opened yet; the others wait.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    queue: VecDeque<Slot>,
    /// The number of the slot that was added last, from 1.
    added: u64,
    /// The index of the next block to open.
    next: u32,
    held: usize,
    called: bool,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    what: What,
    /// The block's index, once it is open.
    index: Option<u32>,
    /// What came before it could be opened.
    held: String,
}

#[derive(Debug)]
enum What {
    Flow(Kind),
    /// Thinking that is signed takes no more text.
    Signed(Box<str>),
    Redacted(Box<str>),
    Opaque(Box<RawValue>),
    Call {
        id: Box<str>,
        name: Box<str>,
        scan: Scan,
        /// It stands in for structured output: its arguments are the text.
        stands_in: bool,
    },
}

impl Blocks {
    /// Adds text to the last block if it is of this kind, or begins a new one.
    pub fn push(&mut self, kind: Kind, text: &str, each: &mut dyn FnMut(Event<'_>)) {
        let joins =
            matches!(self.queue.back(), Some(Slot { what: What::Flow(last), .. }) if *last == kind);
        if !joins {
            self.add(What::Flow(kind));
            self.advance(each);
        }
        let Some(slot) = self.queue.back_mut() else {
            return;
        };
        match slot.index {
            Some(index) => each(Event::Delta {
                index,
                delta: flow(kind, text),
            }),
            None => {
                slot.held.push_str(text);
                self.held += text.len();
            }
        }
    }

    /// Completes the thinking that came last.
    pub fn sign(&mut self, signature: &str, each: &mut dyn FnMut(Event<'_>)) {
        let thinking = |slot: &Slot| matches!(slot.what, What::Flow(Kind::Reasoning));
        if !self.queue.back().is_some_and(thinking) {
            // Some models sign without showing what they thought.
            self.add(What::Flow(Kind::Reasoning));
            self.advance(each);
        }
        let Some(slot) = self.queue.back_mut() else {
            return;
        };
        slot.what = What::Signed(signature.into());
        match slot.index {
            Some(index) => {
                let delta = Delta::Signature(Cow::Borrowed(signature));
                each(Event::Delta { index, delta });
            }
            None => self.held += signature.len(),
        }
    }

    /// Adds thinking that says nothing and is signed: what belongs to the call that follows.
    pub fn seal(&mut self, signature: &str, each: &mut dyn FnMut(Event<'_>)) {
        self.held += signature.len();
        self.add(What::Signed(signature.into()));
        self.advance(each);
    }

    pub fn redacted(&mut self, data: &str, each: &mut dyn FnMut(Event<'_>)) {
        self.held += data.len();
        self.add(What::Redacted(data.into()));
        self.advance(each);
    }

    pub fn opaque(&mut self, raw: &RawValue, each: &mut dyn FnMut(Event<'_>)) {
        self.held += raw.get().len();
        self.add(What::Opaque(raw.to_owned()));
        self.advance(each);
    }

    /// Adds a call; it opens when its name is known. Returns its number.
    pub fn add_call(&mut self, id: &str) -> u64 {
        self.add(What::Call {
            id: id.into(),
            name: Box::default(),
            scan: Scan::default(),
            stands_in: false,
        })
    }

    /// Tells a call's name; the first one counts.
    pub fn name(&mut self, number: u64, told: &str, stand_in: bool) {
        if let Some(Slot {
            what: What::Call {
                name, stands_in, ..
            },
            ..
        }) = self.slot(number)
            && name.is_empty()
        {
            *name = told.into();
            *stands_in = stand_in;
        }
    }

    /// Adds to a call's arguments. Those of a call that is whole already are ignored.
    pub fn arguments(&mut self, number: u64, text: &str, each: &mut dyn FnMut(Event<'_>)) {
        self.advance(each);
        let Some(slot) = self.slot(number) else {
            return;
        };
        let What::Call {
            scan, stands_in, ..
        } = &mut slot.what
        else {
            return;
        };
        if text.is_empty() {
            return;
        }
        scan.take(text.as_bytes());
        match slot.index {
            Some(index) => {
                let delta = called(*stands_in, text);
                each(Event::Delta { index, delta });
            }
            None => {
                slot.held.push_str(text);
                self.held += text.len();
                self.advance(each);
            }
        }
    }

    /// Returns the index of the text block that is open last of all.
    pub fn open_text(&self) -> Option<u32> {
        let last = self.queue.back()?;
        match last.what {
            What::Flow(Kind::Text | Kind::Refusal) => last.index,
            What::Flow(Kind::Reasoning)
            | What::Signed(_)
            | What::Redacted(_)
            | What::Opaque(_)
            | What::Call { .. } => None,
        }
    }

    /// Returns whether a tool was called.
    pub fn called(&self) -> bool {
        self.called
    }

    /// Returns whether more waits than may be held.
    pub fn overfull(&self) -> bool {
        self.held > HELD_MAX
    }

    /// Opens what waits, in its order, and closes all.
    pub fn finish(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        while let Some(slot) = self.queue.front() {
            if slot.index.is_none() {
                self.open_front(each);
            }
            self.close_front(each);
        }
        self.held = 0;
    }

    /// Closes what is open, and forgets what waits.
    pub fn abandon(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if self.queue.front().is_some_and(|slot| slot.index.is_some()) {
            self.close_front(each);
        }
        self.queue.clear();
        self.held = 0;
    }

    fn add(&mut self, what: What) -> u64 {
        self.added += 1;
        self.queue.push_back(Slot {
            number: self.added,
            what,
            index: None,
            held: String::new(),
        });
        self.added
    }

    /// Returns a slot that is not closed yet. Numbers in the queue have no gaps.
    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let first = self.queue.front()?.number;
        let at = usize::try_from(number.checked_sub(first)?).ok()?;
        self.queue.get_mut(at)
    }

    /// Goes on as far as it can: the first block gives way to the next one when it is whole.
    fn advance(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        while let Some(slot) = self.queue.front() {
            if slot.index.is_none() {
                let nameless = matches!(&slot.what, What::Call { name, .. } if name.is_empty());
                if nameless {
                    return;
                }
                self.open_front(each);
                continue;
            }
            let whole = match &slot.what {
                What::Call { scan, .. } => scan.is_whole(),
                What::Flow(_) | What::Signed(_) | What::Redacted(_) | What::Opaque(_) => true,
            };
            if !whole || self.queue.len() < 2 {
                return;
            }
            self.close_front(each);
        }
    }

    fn open_front(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        let Some(slot) = self.queue.front_mut() else {
            return;
        };
        let index = self.next;
        self.next += 1;
        slot.index = Some(index);
        let block = match &slot.what {
            What::Flow(Kind::Text) => Block::Text,
            What::Flow(Kind::Refusal) => Block::Refusal,
            What::Flow(Kind::Reasoning) | What::Signed(_) => Block::Reasoning,
            What::Redacted(data) => Block::RedactedReasoning {
                data: Cow::Borrowed(data),
            },
            What::Opaque(raw) => Block::Opaque {
                family: Protocol::OpenaiChat,
                raw,
            },
            What::Call {
                stands_in: true, ..
            } => Block::Text,
            What::Call { id, name, .. } => {
                self.called = true;
                Block::ToolCall {
                    id: Cow::Borrowed(id),
                    name: Cow::Borrowed(name),
                }
            }
        };
        each(Event::Open { index, block });
        let held = std::mem::take(&mut slot.held);
        self.held = self.held.saturating_sub(held.len());
        let delta = match &slot.what {
            What::Flow(kind) => flow(*kind, &held),
            What::Signed(_) => flow(Kind::Reasoning, &held),
            What::Call { stands_in, .. } => called(*stands_in, &held),
            What::Redacted(_) | What::Opaque(_) => return,
        };
        if !held.is_empty() {
            each(Event::Delta { index, delta });
        }
        if let What::Signed(signature) = &slot.what {
            let delta = Delta::Signature(Cow::Borrowed(signature));
            each(Event::Delta { index, delta });
        }
    }

    fn close_front(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        if let Some(Slot {
            index: Some(index), ..
        }) = self.queue.pop_front()
        {
            each(Event::Close { index });
        }
    }
}

fn flow(kind: Kind, text: &str) -> Delta<'_> {
    let text = Cow::Borrowed(text);
    match kind {
        Kind::Text => Delta::Text(text),
        Kind::Refusal => Delta::Refusal(text),
        Kind::Reasoning => Delta::Reasoning(text),
    }
}

fn called(stands_in: bool, text: &str) -> Delta<'_> {
    let text = Cow::Borrowed(text);
    if stands_in {
        Delta::Text(text)
    } else {
        Delta::Arguments(text)
    }
}

/// Follows JSON text just closely enough to see where an object ends.
#[derive(Debug, Default)]
struct Scan {
    depth: u32,
    began: bool,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.began = true;
                    self.depth = self.depth.saturating_add(1);
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.began && self.depth == 0 && !self.in_string
    }
}
