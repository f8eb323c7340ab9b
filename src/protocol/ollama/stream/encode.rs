//! The hub's events as a client's lines.
//!
//! Calls are whole in a line, so they wait for their last argument. The last line tells why the answer ended and what
//! it took.

use super::super::response::{Said, error_body, write_end, write_error};
use super::super::words;
use crate::error::Error;
use crate::protocol::Shape;
use crate::protocol::event::{Block, Delta, Event};
use crate::protocol::usage::Usage;

/// What may wait for its end, in bytes and in calls.
const HELD_MAX: usize = 16 * 1024 * 1024;
const CALLS_MAX: usize = 1024;

/// Writes one stream.
#[derive(Debug)]
pub struct Encoder {
    model: String,
    created: u64,
    usage: Option<Usage>,
    calls: Vec<Call>,
    held: usize,
    /// Calls that were told.
    told: u64,
    done: bool,
}

/// A call that is not at its end.
#[derive(Debug)]
struct Call {
    hub: u32,
    id: String,
    name: String,
    arguments: String,
}

impl Encoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            model: shape.model.clone(),
            created: shape.created,
            usage: None,
            calls: Vec::new(),
            held: 0,
            told: 0,
            done: false,
        }
    }

    /// Appends the lines of one event to `out`.
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.done {
            return;
        }
        match event {
            Event::Start { model, usage, .. } => {
                if self.model.is_empty() {
                    self.model = model.to_string();
                }
                self.usage = usage.clone();
            }
            Event::Open {
                index,
                block: Block::ToolCall { id, name },
            } => {
                if self.calls.len() >= CALLS_MAX {
                    return self.give_up(out);
                }
                self.calls.push(Call {
                    hub: *index,
                    id: id.to_string(),
                    name: name.to_string(),
                    arguments: String::new(),
                });
            }
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::Close { index } => {
                if let Some(at) = self.calls.iter().rposition(|call| call.hub == *index) {
                    let call = self.calls.remove(at);
                    self.release(&call, out);
                }
            }
            Event::Usage(usage) => self.usage = Some(usage.clone()),
            Event::Finish { reason, .. } => {
                for call in std::mem::take(&mut self.calls) {
                    self.release(&call, out);
                }
                self.done = true;
                let mut line = Said::default().open(&self.model, self.created, out);
                write_end(*reason, self.usage.as_ref(), &mut line);
                line.close();
                out.push(b'\n');
            }
            Event::Error(failure) => {
                self.done = true;
                write_error(&failure.message, out);
                out.push(b'\n');
            }
            // What is of another family's alone can't be said, and there is no word for nothing.
            Event::Open {
                block:
                    Block::Text
                    | Block::Refusal
                    | Block::Reasoning
                    | Block::RedactedReasoning { .. }
                    | Block::Opaque { .. },
                ..
            }
            | Event::Ping => {}
        }
    }

    fn delta(&mut self, hub: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let mut said = Said::default();
        match delta {
            Delta::Text(text) | Delta::Refusal(text) => said.content.push_str(text),
            Delta::Reasoning(text) => said.thinking.push_str(text),
            Delta::Arguments(piece) => {
                self.held += piece.len();
                if let Some(call) = self.calls.iter_mut().rev().find(|call| call.hub == hub) {
                    call.arguments.push_str(piece);
                }
                if self.held > HELD_MAX {
                    self.give_up(out);
                }
                return;
            }
            Delta::Logprobs(raw) => {
                if let Some(list) = words::logprobs_of_openai(raw) {
                    let mut line = said.open(&self.model, self.created, out);
                    line.boolean("done", false);
                    crate::protocol::text::raw_line(list, line.key("logprobs"));
                    line.close();
                    out.push(b'\n');
                }
                return;
            }
            Delta::Signature(_) | Delta::Citation { .. } | Delta::Opaque { .. } => return,
        }
        if !(said.content.is_empty() && said.thinking.is_empty()) {
            self.line(&said, out);
        }
    }

    fn release(&mut self, call: &Call, out: &mut Vec<u8>) {
        self.held = self.held.saturating_sub(call.arguments.len());
        let mut said = Said::default();
        said.count = self.told;
        said.call(&call.id, &call.name, &call.arguments);
        self.told = said.count;
        self.line(&said, out);
    }

    fn line(&self, said: &Said, out: &mut Vec<u8>) {
        let mut line = said.open(&self.model, self.created, out);
        line.boolean("done", false);
        line.close();
        out.push(b'\n');
    }

    fn give_up(&mut self, out: &mut Vec<u8>) {
        self.done = true;
        self.calls = Vec::new();
        write_error("The answer's calls are larger than can be held", out);
        out.push(b'\n');
    }
}

/// Returns the line that ends a committed stream with an error.
pub fn error_frame(error: &Error, request_id: &str) -> Vec<u8> {
    let mut out = error_body(error, request_id);
    out.push(b'\n');
    out
}
