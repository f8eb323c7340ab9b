//! The hub's events as a client's.
//!
//! Contents and calls count apart. What has no content of its own (a signature) opens none.

use super::super::words;
use crate::error::Error;
use crate::protocol::event::{Block, Delta, Event};
use crate::protocol::text::{Object, raw_line};
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape, ping_frame};

/// How many blocks may be open at once.
const BLOCKS_MAX: usize = 1024;

/// Writes one stream.
#[derive(Debug)]
pub struct Encoder {
    id: String,
    usage: Option<Usage>,
    open: Vec<Open>,
    contents: u64,
    calls: u64,
    citations: u64,
    done: bool,
}

/// A block that is not at its end.
#[derive(Debug, Clone, Copy)]
struct Open {
    hub: u32,
    kind: Kind,
    /// Its number among its kind, once the client knows of it.
    index: Option<u64>,
    /// A call's arguments were told.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call,
}

impl Kind {
    /// The `type` of a content, and the name of its field.
    fn word(self) -> &'static str {
        match self {
            Kind::Text | Kind::Call => "text",
            Kind::Thinking => "thinking",
        }
    }
}

impl Encoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            id: shape.id.clone(),
            usage: None,
            open: Vec::new(),
            contents: 0,
            calls: 0,
            citations: 0,
            done: false,
        }
    }

    /// Appends the frames of one event to `out`.
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.done {
            return;
        }
        match event {
            Event::Start { id, usage, .. } => {
                if !id.is_empty() {
                    self.id = id.to_string();
                }
                self.usage = usage.clone();
                let id = &self.id;
                frame("message-start", out, |body| {
                    body.string("id", id);
                    body.key("delta").extend_from_slice(
                        b"{\"message\":{\"role\":\"assistant\",\"content\":[],\"tool_plan\":\"\",\
                          \"tool_calls\":[],\"citations\":[]}}",
                    );
                });
            }
            Event::Open { index, block } => self.open(*index, block, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::Close { index } => {
                if let Some(at) = self.open.iter().rposition(|open| open.hub == *index) {
                    let open = self.open.remove(at);
                    close(open, out);
                }
            }
            Event::Usage(usage) => self.usage = Some(usage.clone()),
            Event::Finish { reason, .. } => {
                for open in std::mem::take(&mut self.open) {
                    close(open, out);
                }
                self.done = true;
                let usage = self.usage.take();
                end(words::finish_word(*reason), usage.as_ref(), None, out);
                out.extend_from_slice(b"data: [DONE]\n\n");
            }
            Event::Ping => out.extend_from_slice(ping_frame(Protocol::Cohere)),
            Event::Error(failure) => {
                self.done = true;
                let usage = self.usage.take();
                end("ERROR", usage.as_ref(), Some(&failure.message), out);
            }
        }
    }

    fn open(&mut self, hub: u32, block: &Block<'_>, out: &mut Vec<u8>) {
        let kind = match block {
            Block::Text | Block::Refusal => Kind::Text,
            Block::Reasoning => Kind::Thinking,
            Block::ToolCall { .. } => Kind::Call,
            // Nothing of these can be said.
            Block::RedactedReasoning { .. } | Block::Opaque { .. } => return,
        };
        if self.open.len() >= BLOCKS_MAX {
            self.done = true;
            let message = "The answer has more blocks at once than can be told";
            return end("ERROR", None, Some(message), out);
        }
        let mut index = None;
        if let Block::ToolCall { id, name } = block {
            let count = self.calls;
            self.calls += 1;
            index = Some(count);
            framed_call("tool-call-start", count, out, |call| {
                call.string("id", id);
                call.string("type", "function");
                let mut function = Object::open(call.key("function"));
                function.string("name", name);
                function.string("arguments", "");
                function.close();
            });
        }
        self.open.push(Open {
            hub,
            kind,
            index,
            told: false,
        });
    }

    fn delta(&mut self, hub: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let Some(open) = self.open.iter_mut().rev().find(|open| open.hub == hub) else {
            return;
        };
        match delta {
            Delta::Text(text) | Delta::Refusal(text) | Delta::Reasoning(text) => {
                if text.is_empty() || open.kind == Kind::Call {
                    return;
                }
                let word = open.kind.word();
                let index = match open.index {
                    Some(index) => index,
                    None => {
                        let index = self.contents;
                        self.contents += 1;
                        open.index = Some(index);
                        content("content-start", index, out, |content| {
                            content.string("type", word);
                            content.string(word, "");
                        });
                        index
                    }
                };
                content("content-delta", index, out, |content| {
                    content.string(word, text);
                });
            }
            Delta::Arguments(piece) => {
                if let (Kind::Call, Some(index)) = (open.kind, open.index)
                    && !piece.is_empty()
                {
                    open.told = true;
                    arguments(index, piece, out);
                }
            }
            Delta::Citation {
                family: Protocol::Cohere,
                raw,
            } => {
                let index = self.citations;
                self.citations += 1;
                frame("citation-start", out, |body| {
                    body.integer("index", index);
                    let mut inner = Object::open(body.key("delta"));
                    let mut message = Object::open(inner.key("message"));
                    raw_line(raw, message.key("citations"));
                    message.close();
                    inner.close();
                });
                frame("citation-end", out, |body| body.integer("index", index));
            }
            Delta::Logprobs(raw) => {
                if let (Kind::Text, Some(index)) = (open.kind, open.index) {
                    words::logprobs_of_openai(raw, &mut |element| logprob(index, element, out));
                }
            }
            Delta::Citation { .. } | Delta::Signature(_) | Delta::Opaque { .. } => {}
        }
    }
}

/// Appends one element of log probabilities, as a piece without text.
fn logprob(index: u64, element: &[u8], out: &mut Vec<u8>) {
    frame("content-delta", out, |body| {
        body.integer("index", index);
        body.key("delta")
            .extend_from_slice(b"{\"message\":{\"content\":{\"text\":\"\"}}}");
        body.key("logprobs").extend_from_slice(element);
    });
}

fn close(open: Open, out: &mut Vec<u8>) {
    let Some(index) = open.index else {
        return;
    };
    if open.kind == Kind::Call && !open.told {
        // Clients parse them.
        arguments(index, "{}", out);
    }
    let name = match open.kind {
        Kind::Text | Kind::Thinking => "content-end",
        Kind::Call => "tool-call-end",
    };
    frame(name, out, |body| body.integer("index", index));
}

fn arguments(index: u64, piece: &str, out: &mut Vec<u8>) {
    framed_call("tool-call-delta", index, out, |call| {
        let mut function = Object::open(call.key("function"));
        function.string("arguments", piece);
        function.close();
    });
}

fn framed_call(name: &str, index: u64, out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    message(name, "tool_calls", index, out, fill);
}

fn content(name: &str, index: u64, out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    message(name, "content", index, out, fill);
}

fn message(
    name: &str,
    field: &str,
    index: u64,
    out: &mut Vec<u8>,
    fill: impl FnOnce(&mut Object<'_>),
) {
    frame(name, out, |body| {
        body.integer("index", index);
        let mut delta = Object::open(body.key("delta"));
        let mut message = Object::open(delta.key("message"));
        let mut inner = Object::open(message.key(field));
        fill(&mut inner);
        inner.close();
        message.close();
        delta.close();
    });
}

/// Appends the event that ends a stream.
fn end(finish: &str, usage: Option<&Usage>, error: Option<&str>, out: &mut Vec<u8>) {
    frame("message-end", out, |body| {
        let mut delta = Object::open(body.key("delta"));
        delta.string("finish_reason", finish);
        delta.maybe_string("error", error);
        if let Some(usage) = usage {
            usage.write_cohere(delta.key("usage"));
        }
        delta.close();
    });
}

fn frame(name: &str, out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    let mut body = Object::open(out);
    body.string("type", name);
    fill(&mut body);
    body.close();
    out.extend_from_slice(b"\n\n");
}

/// Returns the frame that ends a committed stream with an error.
pub fn error_frame(error: &Error, _request_id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    end("ERROR", None, Some(&error.message), &mut out);
    out
}
