//! The hub's events as a client's server-sent events.
//!
//! Every frame is a `GenerateContentResponse`, its lines ended by CR LF as Google's are. Calls are whole in it, so
//! they wait for their last argument. The last frame tells why the answer ended and what it took.

use std::borrow::Cow;

use super::super::content;
use super::super::grounding::Cited;
use super::super::logprobs::Collected;
use super::super::response::{error_body, write_error};
use super::super::signature;
use super::super::words::finish_word;
use crate::error::Error;
use crate::protocol::chat::Finish;
use crate::protocol::event::{Block, Delta, Event, FailureClass};
use crate::protocol::text::{self, Object};
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape, ping_frame};

/// What may wait for its end, in bytes and in blocks.
const HELD_MAX: usize = 16 * 1024 * 1024;
const BLOCKS_MAX: usize = 1024;

/// Writes one stream.
#[derive(Debug)]
pub struct Encoder {
    model: String,
    id: String,
    usage: Option<Usage>,
    open: Vec<Held>,
    held: usize,
    /// The signature of the part that comes next.
    pending: Option<String>,
    cited: Cited,
    logprobs: Collected,
    done: bool,
}

/// A block that is not at its end.
#[derive(Debug)]
struct Held {
    hub: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    Call {
        id: String,
        name: String,
        arguments: String,
        signature: Option<String>,
    },
    Reasoning {
        signature: String,
        told: bool,
    },
}

impl Encoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            model: shape.model.clone(),
            id: shape.id.clone(),
            usage: None,
            open: Vec::new(),
            held: 0,
            pending: None,
            cited: Cited::default(),
            logprobs: Collected::default(),
            done: false,
        }
    }

    /// Appends the frames of one event to `out`.
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.done {
            return;
        }
        match event {
            Event::Start {
                id, model, usage, ..
            } => {
                if !id.is_empty() {
                    self.id = id.to_string();
                }
                if self.model.is_empty() {
                    self.model = model.to_string();
                }
                self.usage = usage.clone();
            }
            Event::Open { index, block } => self.open(*index, block, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::Close { index } => self.close(*index, out),
            Event::Usage(usage) => self.usage = Some(usage.clone()),
            Event::Finish { reason, .. } => self.finish(*reason, out),
            Event::Ping => out.extend_from_slice(ping_frame(Protocol::Gemini)),
            Event::Error(failure) => {
                self.done = true;
                let code = match failure.class {
                    FailureClass::Overloaded => 503,
                    FailureClass::RateLimited => 429,
                    FailureClass::InvalidRequest => 400,
                    FailureClass::Server | FailureClass::Garbage | FailureClass::Cut => 500,
                };
                frame(out, |out| write_error(code, &failure.message, out));
            }
        }
    }

    fn open(&mut self, hub: u32, block: &Block<'_>, out: &mut Vec<u8>) {
        match block {
            Block::Text | Block::Refusal => {}
            Block::Reasoning => self.hold(
                hub,
                What::Reasoning {
                    signature: String::new(),
                    told: false,
                },
                out,
            ),
            Block::ToolCall { id, name } => {
                let what = What::Call {
                    id: id.to_string(),
                    name: name.to_string(),
                    arguments: String::new(),
                    signature: self.pending.take(),
                };
                self.hold(hub, what, out);
            }
            Block::RedactedReasoning { data } => {
                let wire = signature::redacted(data);
                self.chunk(out, |out| {
                    content::write_thought(&"".into(), Some(&wire), out)
                });
            }
            Block::Opaque {
                family: Protocol::Gemini,
                raw,
            } => self.chunk(out, |out| text::raw_line(raw, out)),
            Block::Opaque { .. } => {}
        }
    }

    fn hold(&mut self, hub: u32, what: What, out: &mut Vec<u8>) {
        if self.open.len() >= BLOCKS_MAX {
            return self.give_up(out);
        }
        self.open.push(Held { hub, what });
    }

    fn delta(&mut self, hub: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        match delta {
            Delta::Text(text) | Delta::Refusal(text) => {
                if !text.is_empty() {
                    let signature = self.pending.take();
                    self.chunk(out, |out| {
                        content::write_text(&(&**text).into(), signature.as_deref(), out);
                    });
                }
            }
            Delta::Reasoning(text) => {
                if text.is_empty() {
                    return;
                }
                if let Some(What::Reasoning { told, .. }) = self.of(hub) {
                    *told = true;
                }
                self.chunk(out, |out| {
                    content::write_thought(&(&**text).into(), None, out)
                });
            }
            Delta::Signature(piece) => {
                self.held += piece.len();
                if let Some(What::Reasoning { signature, .. }) = self.of(hub) {
                    signature.push_str(piece);
                }
                self.check(out);
            }
            Delta::Arguments(piece) => {
                self.held += piece.len();
                if let Some(What::Call { arguments, .. }) = self.of(hub) {
                    arguments.push_str(piece);
                }
                self.check(out);
            }
            // The text that it is of went by already, so no passage can be named.
            Delta::Citation { raw, .. } => self.cited.add(raw, |_, _| (0, 0)),
            Delta::Logprobs(raw) => self.logprobs.add(raw),
            Delta::Opaque { .. } => {}
        }
    }

    fn of(&mut self, hub: u32) -> Option<&mut What> {
        // The block that grows is nearly always the last one.
        self.open
            .iter_mut()
            .rev()
            .find(|held| held.hub == hub)
            .map(|held| &mut held.what)
    }

    fn check(&mut self, out: &mut Vec<u8>) {
        if self.held > HELD_MAX {
            self.give_up(out);
        }
    }

    fn close(&mut self, hub: u32, out: &mut Vec<u8>) {
        if let Some(at) = self.open.iter().rposition(|held| held.hub == hub) {
            let held = self.open.remove(at);
            self.release(held.what, out);
        }
    }

    /// Lets a block out that is at its end.
    fn release(&mut self, what: What, out: &mut Vec<u8>) {
        match what {
            What::Call {
                id,
                name,
                arguments,
                signature,
            } => {
                self.held = self.held.saturating_sub(arguments.len());
                self.chunk(out, |out| {
                    content::write_call(&id, &name, &arguments, signature.as_deref(), out);
                });
            }
            What::Reasoning { signature, told } => {
                self.held = self.held.saturating_sub(signature.len());
                if signature.is_empty() {
                    return;
                }
                let wire = signature::signed(&signature);
                if told {
                    self.chunk(out, |out| {
                        content::write_thought(&"".into(), Some(&wire), out)
                    });
                } else if let Some(lone) = self.pending.replace(Cow::into_owned(wire)) {
                    self.chunk(out, |out| content::write_text(&"".into(), Some(&lone), out));
                }
            }
        }
    }

    /// Appends a frame with one part.
    fn chunk(&self, out: &mut Vec<u8>, part: impl FnOnce(&mut Vec<u8>)) {
        frame(out, |out| {
            out.extend_from_slice(b"{\"candidates\":[{\"content\":{\"parts\":[");
            part(out);
            out.extend_from_slice(b"],\"role\":\"model\"},\"index\":0}]");
            self.tail(out);
        });
    }

    /// Appends what ends every frame.
    fn tail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"modelVersion\":");
        text::string(&self.model, out);
        out.extend_from_slice(b",\"responseId\":");
        text::string(&self.id, out);
        out.push(b'}');
    }

    fn finish(&mut self, reason: Finish, out: &mut Vec<u8>) {
        for held in std::mem::take(&mut self.open) {
            self.release(held.what, out);
        }
        self.done = true;
        let signature = self.pending.take();
        frame(out, |out| {
            out.extend_from_slice(b"{\"candidates\":[");
            let mut candidate = Object::open(out);
            let inner = candidate.key("content");
            inner.extend_from_slice(b"{\"parts\":[");
            content::write_text(&"".into(), signature.as_deref(), inner);
            inner.extend_from_slice(b"],\"role\":\"model\"}");
            candidate.string("finishReason", finish_word(reason));
            candidate.integer("index", 0);
            self.cited.write(&mut candidate);
            self.logprobs.write(&mut candidate);
            candidate.close();
            out.push(b']');
            if let Some(usage) = &self.usage {
                out.extend_from_slice(b",\"usageMetadata\":");
                usage.write_gemini(out);
            }
            self.tail(out);
        });
    }

    fn give_up(&mut self, out: &mut Vec<u8>) {
        self.done = true;
        self.open = Vec::new();
        frame(out, |out| {
            write_error(500, "The answer's calls are larger than can be held", out);
        });
    }
}

fn frame(out: &mut Vec<u8>, inside: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"data: ");
    inside(out);
    out.extend_from_slice(b"\r\n\r\n");
}

/// Returns the frame that ends a committed stream with an error.
pub fn error_frame(error: &Error, request_id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, |out| {
        out.extend_from_slice(&error_body(error, request_id));
    });
    out
}
