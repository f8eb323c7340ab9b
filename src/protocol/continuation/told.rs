//! What a stream has said so far, and whether it can be gone on with.

use crate::protocol::event::{Block, Delta, Event};

/// Longer answers are not gone on with.
const MOST_TEXT: usize = 1 << 20;
const MOST_BLOCKS: usize = 256;

/// What a stream has said.
#[derive(Debug, Default, Clone)]
pub struct Told {
    pub id: String,
    pub model: String,
    pub tier: Option<String>,
    /// The answer's text, of all its blocks.
    pub text: String,
    pub blocks: Vec<Said>,
    /// Why the answer can't be gone on with.
    barred: Option<&'static str>,
}

/// One block of text or reasoning.
#[derive(Debug, Clone)]
pub struct Said {
    pub index: u32,
    pub reasoning: bool,
    pub text: String,
    pub open: bool,
}

impl Told {
    /// Notes an event that the client gets.
    pub fn note(&mut self, event: &Event<'_>) {
        if self.barred.is_some() {
            return;
        }
        match event {
            Event::Start {
                id,
                model,
                service_tier,
                ..
            } => {
                self.id = id.to_string();
                self.model = model.to_string();
                self.tier = service_tier.as_deref().map(str::to_owned);
            }
            Event::Open { index, block } => self.open(*index, block),
            Event::Delta { index, delta } => self.delta(*index, delta),
            Event::Close { index } => {
                if let Some(said) = self.of(*index) {
                    said.open = false;
                }
            }
            Event::Finish { .. } => self.bar("it had ended"),
            Event::Usage(_) | Event::Ping | Event::Error(_) => {}
        }
    }

    fn open(&mut self, index: u32, block: &Block<'_>) {
        match block {
            Block::Text | Block::Reasoning if self.blocks.len() < MOST_BLOCKS => {
                self.blocks.push(Said {
                    index,
                    reasoning: matches!(block, Block::Reasoning),
                    text: String::new(),
                    open: true,
                });
            }
            Block::Text | Block::Reasoning => self.bar("it has too many parts"),
            Block::ToolCall { .. } => self.bar("a tool call had begun"),
            Block::Refusal => self.bar("it was a refusal"),
            Block::RedactedReasoning { .. } => self.bar("its reasoning is signed"),
            Block::Opaque { .. } => self.bar("it holds more than text"),
        }
    }

    fn delta(&mut self, index: u32, delta: &Delta<'_>) {
        match delta {
            Delta::Text(piece) | Delta::Reasoning(piece) => {
                let reasoning = matches!(delta, Delta::Reasoning(_));
                if !reasoning {
                    self.text.push_str(piece);
                }
                if let Some(said) = self.of(index) {
                    said.text.push_str(piece);
                }
                let size: usize = self.blocks.iter().map(|said| said.text.len()).sum();
                if size > MOST_TEXT {
                    self.bar("it is too long");
                }
            }
            Delta::Signature(_) => self.bar("its reasoning is signed"),
            Delta::Refusal(_) => self.bar("it was a refusal"),
            Delta::Arguments(_) => self.bar("a tool call had begun"),
            Delta::Opaque { .. } => self.bar("it holds more than text"),
            Delta::Citation { .. } | Delta::Logprobs(_) => {}
        }
    }

    fn of(&mut self, index: u32) -> Option<&mut Said> {
        // The block that grows is nearly always the last one.
        self.blocks
            .iter_mut()
            .rev()
            .find(|said| said.index == index)
    }

    /// Notes why the answer can't be gone on with; what was kept of it is let go.
    pub fn bar(&mut self, why: &'static str) {
        if self.barred.is_none() {
            self.barred = Some(why);
            self.text = String::new();
            self.blocks = Vec::new();
        }
    }

    /// Returns why the answer can't be gone on with, if so.
    pub fn barred(&self) -> Option<&'static str> {
        let thinking = self.blocks.iter().any(|said| said.reasoning && said.open);
        match self.barred {
            Some(why) => Some(why),
            None if thinking => Some("it was reasoning"),
            None if self.text.trim().is_empty() => Some("it had not said anything"),
            None => None,
        }
    }

    /// Returns the block of text that more text goes into, if one is open.
    pub fn open_text(&self) -> Option<u32> {
        let last = self.blocks.iter().rev().find(|said| !said.reasoning)?;
        last.open.then_some(last.index)
    }

    /// Returns the index of the next block.
    pub fn next(&self) -> u32 {
        self.blocks.last().map_or(0, |said| said.index + 1)
    }
}
