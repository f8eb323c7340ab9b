//! A provider's lines into hub events.
//!
//! Each line is an answer in small; calls come whole. The one that says `done` is the last.

use super::super::response::Answer;
use super::super::words;
use crate::protocol::Shape;
use crate::protocol::blocks::{Blocks, Each};
use crate::protocol::event::{Delta, FailureClass};
use crate::protocol::usage::Usage;

/// Reads one stream.
#[derive(Debug)]
pub struct Decoder {
    blocks: Blocks,
}

impl Decoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            blocks: Blocks::new(shape),
        }
    }

    /// See [`crate::protocol::StreamDecoder::feed`].
    pub fn feed(&mut self, _name: &[u8], data: &[u8], each: Each<'_>) {
        if self.blocks.is_ended() || data.trim_ascii().is_empty() {
            return;
        }
        let Ok(answer) = Answer::read(data) else {
            let message = "the provider sent a line that is not a piece of an answer";
            return self.blocks.fail(FailureClass::Garbage, message, each);
        };
        if let Some(error) = &answer.error {
            return self.blocks.fail(class_of(error), error, each);
        }
        if !answer.has_message && !answer.done {
            // Loading and the like.
            return;
        }
        self.blocks.named("", &answer.model);
        self.blocks.start(each);
        self.blocks.reasoning(&answer.thinking, each);
        self.blocks.text(&answer.content, each);
        if let Some(raw) = answer.logprobs.and_then(words::logprobs_to_openai) {
            self.blocks.on_text(Delta::Logprobs(&raw), each);
        }
        for call in &answer.calls {
            self.blocks.call(&call.id, &call.name, each);
            self.blocks.arguments(&call.arguments, each);
            self.blocks.close(each);
        }
        let mut usage = Usage::default();
        if answer.done {
            self.blocks.usage = usage.read_ollama(data).then_some(usage);
            let finish = words::finish(&answer.done_reason);
            self.blocks.done(finish, None, each);
        }
    }

    /// See [`crate::protocol::StreamDecoder::end`].
    pub fn end(&mut self, each: Each<'_>) {
        self.blocks.cut(each);
    }
}

/// Returns what an error is by its words: Ollama tells no more.
fn class_of(error: &str) -> FailureClass {
    let has = |word: &str| error.contains(word);
    if has("server busy") || has("maximum pending requests") || has("overloaded") {
        FailureClass::Overloaded
    } else if has("rate limit") || has("usage limit") || has("too many requests") {
        FailureClass::RateLimited
    } else {
        FailureClass::Server
    }
}
