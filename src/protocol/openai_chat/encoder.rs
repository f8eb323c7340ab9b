//! Hub events into chunks, as OpenAI sends them.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::citation;
use super::detail;
use super::extra;
use super::place::{self, Place};
use super::response::{error_body, finish_word, tier, write_error};
use crate::error::Error;
use crate::protocol::chat::Finish;
use crate::protocol::event::{Block, Delta, Event, Failure, FailureClass};
use crate::protocol::text;
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape, gemini, ping_frame};

/// Writes one stream.
///
/// Promises: nothing follows the finish or the error; `[DONE]` follows the finish alone.
#[derive(Debug)]
pub struct Encoder {
    created: u64,
    model: String,
    include_usage: bool,
    /// All of a chunk up to its delta, and all after it.
    head: Vec<u8>,
    tail: &'static [u8],
    /// What goes before `choices` and is the same in every chunk.
    envelope: Vec<u8>,
    started: bool,
    ended: bool,
    /// The calls that are open: block, index among the calls, whether arguments were written.
    calls: Vec<(u32, u32, bool)>,
    called: u32,
    /// What the open calls are to, where each piece names it.
    names: Option<Vec<(u32, String)>>,
    refused: bool,
    usage: Option<Usage>,
    /// What the open thinking block said, to be sent again with its signature; `None` once that is too much.
    thought: Option<String>,
    /// What the thinking block before, which said nothing, was signed with: it belongs to the call that follows.
    signed: Option<String>,
    details: u64,
    annotations: u64,
    images: u64,
    /// Characters of text so far, those before the open block, and the pages that it cites.
    chars: u64,
    block_start: u64,
    cited: Vec<(String, String)>,
}

/// The longest thinking, in bytes, that is sent again with its signature.
const THOUGHT_MOST: usize = 4 << 20;

const TAIL: &[u8] = b",\"logprobs\":null,\"finish_reason\":null}]}\n\n";
const TAIL_WITH_USAGE: &[u8] = b",\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";

impl Encoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            created: shape.created,
            model: shape.model.clone(),
            include_usage: shape.include_usage,
            head: Vec::new(),
            tail: if shape.include_usage {
                TAIL_WITH_USAGE
            } else {
                TAIL
            },
            envelope: Vec::new(),
            started: false,
            ended: false,
            calls: Vec::new(),
            called: 0,
            names: shape.names_calls.then(Vec::new),
            refused: false,
            usage: None,
            thought: Some(String::new()),
            signed: None,
            details: 0,
            annotations: 0,
            images: 0,
            chars: 0,
            block_start: 0,
            cited: Vec::new(),
        }
    }

    /// See [`crate::protocol::StreamEncoder::write`].
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Event::Start {
                id,
                model,
                usage,
                service_tier,
            } => {
                self.usage = usage.clone();
                self.start(id, model, service_tier.as_deref(), out);
            }
            Event::Open { index, block } => self.open(*index, block, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::Close { index } => self.close(*index, out),
            Event::Usage(usage) => self.usage = Some(usage.clone()),
            Event::Finish { reason, .. } => self.finish(*reason, out),
            Event::Ping => out.extend_from_slice(ping_frame(Protocol::OpenaiChat)),
            Event::Error(failure) => {
                self.ended = true;
                write_failure(failure, out);
            }
        }
    }

    fn start(&mut self, id: &str, model: &str, told_tier: Option<&str>, out: &mut Vec<u8>) {
        if self.started {
            return;
        }
        self.started = true;
        let envelope = &mut self.envelope;
        envelope.extend_from_slice(b"data: {\"id\":");
        text::string(id, envelope);
        envelope.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        text::integer(self.created, envelope);
        envelope.extend_from_slice(b",\"model\":");
        let model = if self.model.is_empty() {
            model
        } else {
            &self.model
        };
        text::string(model, envelope);
        if let Some(tier) = told_tier.and_then(tier) {
            envelope.extend_from_slice(b",\"service_tier\":");
            text::string(tier, envelope);
        }
        self.head.clone_from(envelope);
        self.head
            .extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":");
        self.chunk(out, |out| {
            out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}");
        });
    }

    /// Appends a chunk with the delta that `write` writes.
    fn chunk(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(&self.head);
        write(out);
        out.extend_from_slice(self.tail);
    }

    fn text_chunk(&self, before: &[u8], text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(before);
        text::escaped(text, out);
        out.extend_from_slice(b"\"}");
        out.extend_from_slice(self.tail);
    }

    fn open(&mut self, index: u32, block: &Block<'_>, out: &mut Vec<u8>) {
        let signed = self.signed.take();
        match block {
            Block::Text => self.block_start = self.chars,
            Block::Refusal => {}
            Block::Reasoning => self.thought.get_or_insert_default().clear(),
            Block::RedactedReasoning { data } => {
                let details = self.details;
                self.details += 1;
                self.chunk(out, |out| {
                    out.extend_from_slice(b"{\"reasoning_details\":[");
                    detail::write_redacted(data, details, out);
                    out.extend_from_slice(b"]}");
                });
            }
            Block::ToolCall { id, name } => {
                let call = self.called;
                self.called += 1;
                self.calls.push((index, call, false));
                if let Some(names) = &mut self.names {
                    names.push((index, name.clone().into_owned()));
                }
                self.chunk(out, |out| {
                    out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
                    text::integer(call.into(), out);
                    out.extend_from_slice(b",\"id\":");
                    text::string(id, out);
                    out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
                    text::string(name, out);
                    out.extend_from_slice(b",\"arguments\":\"\"}");
                    if let Some(signature) = &signed {
                        out.extend_from_slice(
                            b",\"extra_content\":{\"google\":{\"thought_signature\":",
                        );
                        text::string(signature, out);
                        out.extend_from_slice(b"}}");
                    }
                    out.extend_from_slice(b"}]}");
                });
            }
            Block::Opaque {
                family: Protocol::OpenaiChat,
                raw,
            } => match place::of(raw) {
                Place::Detail => {
                    self.details += 1;
                    self.chunk(out, |out| {
                        out.extend_from_slice(b"{\"reasoning_details\":[");
                        text::raw_line(raw, out);
                        out.extend_from_slice(b"]}");
                    });
                }
                Place::Call => {
                    let call = self.called;
                    self.called += 1;
                    self.chunk(out, |out| {
                        out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
                        text::integer(call.into(), out);
                        out.push(b',');
                        // An object with a type, so there is more than its brace.
                        inside(raw, out);
                        out.extend_from_slice(b"]}");
                    });
                }
                Place::Audio => self.chunk(out, |out| {
                    out.extend_from_slice(b"{\"audio\":");
                    text::raw_line(raw, out);
                    out.push(b'}');
                }),
                Place::Content => {}
            },
            Block::Opaque {
                family: Protocol::Gemini,
                raw,
            } => {
                if let Some((media_type, data)) = gemini::image(raw) {
                    let index = self.images;
                    self.images += 1;
                    self.chunk(out, |out| {
                        out.extend_from_slice(b"{\"images\":[{\"index\":");
                        text::integer(index, out);
                        out.extend_from_slice(
                            b",\"type\":\"image_url\",\"image_url\":{\"url\":\"data:",
                        );
                        text::escaped(&media_type, out);
                        out.extend_from_slice(b";base64,");
                        text::escaped(&data, out);
                        out.extend_from_slice(b"\"}}]}");
                    });
                }
            }
            Block::Opaque { .. } => {}
        }
    }

    fn delta(&mut self, index: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        match delta {
            Delta::Text(text) => {
                self.chars += text.chars().count() as u64;
                self.text_chunk(b"{\"content\":\"", text, out);
            }
            Delta::Refusal(text) => {
                self.refused = true;
                self.text_chunk(b"{\"refusal\":\"", text, out);
            }
            Delta::Reasoning(text) => {
                self.thought = self
                    .thought
                    .take()
                    .filter(|thought| thought.len() + text.len() <= THOUGHT_MOST)
                    .map(|thought| thought + text);
                self.text_chunk(b"{\"reasoning_content\":\"", text, out);
            }
            Delta::Signature(signature) => {
                // Signed for the whole: a part of it would be refused when it comes back.
                let Some(thought) = self.thought.as_deref().filter(|_| !signature.is_empty())
                else {
                    return;
                };
                self.signed = extra::shown(signature)
                    .filter(|_| thought.is_empty())
                    .map(str::to_owned);
                let details = self.details;
                self.details += 1;
                self.chunk(out, |out| {
                    out.extend_from_slice(b"{\"reasoning_details\":[");
                    detail::write_text(thought, signature, details, out);
                    out.extend_from_slice(b"]}");
                });
            }
            Delta::Arguments(text) => self.arguments(index, text, out),
            // SDKs put the entries of a list together by their index.
            Delta::Citation {
                family: Protocol::OpenaiChat,
                raw,
            } => {
                // Anything but an object with a type is no annotation.
                if text::Reader::of(raw.get()).tag("type").is_none() {
                    return;
                }
                let index = self.annotations;
                self.annotations += 1;
                self.chunk(out, |out| {
                    out.extend_from_slice(b"{\"annotations\":[{");
                    if !has_index(raw) {
                        out.extend_from_slice(b"\"index\":");
                        text::integer(index, out);
                        out.push(b',');
                    }
                    inside(raw, out);
                    out.extend_from_slice(b"]}");
                });
            }
            Delta::Citation { family: _, raw } => self.cited.extend(
                citation::page(raw).map(|page| (page.url.into_owned(), page.title.into_owned())),
            ),
            Delta::Logprobs(raw) => {
                out.extend_from_slice(&self.head);
                out.extend_from_slice(b"{},\"logprobs\":");
                text::raw_line(raw, out);
                out.extend_from_slice(self.tail.strip_prefix(b",\"logprobs\":null").unwrap_or(b""));
            }
            Delta::Opaque { .. } => {}
        }
    }

    fn arguments(&mut self, block: u32, text: &str, out: &mut Vec<u8>) {
        let Some((_, call, written)) = self.calls.iter_mut().rev().find(|open| open.0 == block)
        else {
            return;
        };
        if text.is_empty() {
            return;
        }
        *written = true;
        let call = *call;
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
        text::integer(call.into(), out);
        out.extend_from_slice(b",\"function\":{");
        let mut names = self.names.iter().flatten();
        if let Some((_, name)) = names.find(|(index, _)| *index == block) {
            out.extend_from_slice(b"\"name\":");
            text::string(name, out);
            out.push(b',');
        }
        out.extend_from_slice(b"\"arguments\":\"");
        text::escaped(text, out);
        out.extend_from_slice(b"\"}}]}");
        out.extend_from_slice(self.tail);
    }

    fn close(&mut self, index: u32, out: &mut Vec<u8>) {
        if let Some(at) = self.calls.iter().rposition(|open| open.0 == index) {
            // Clients parse the arguments, so a call without any says `{}`.
            if !self.calls[at].2 {
                self.arguments(index, "{}", out);
            }
            self.calls.swap_remove(at);
        }
        if self.cited.is_empty() {
            return;
        }
        let cited = std::mem::take(&mut self.cited);
        let (start, end) = (self.block_start, self.chars);
        let first = self.annotations;
        self.annotations += cited.len() as u64;
        self.chunk(out, |out| {
            out.extend_from_slice(b"{\"annotations\":[");
            let from = out.len();
            for (index, (url, title)) in (first..).zip(&cited) {
                text::comma(from, out);
                let (url, title) = (Cow::Borrowed(&**url), Cow::Borrowed(&**title));
                let page = citation::Page { url, title };
                citation::write(&page, start, end, Some(index), out);
            }
            out.extend_from_slice(b"]}");
        });
    }

    fn finish(&mut self, reason: Finish, out: &mut Vec<u8>) {
        self.ended = true;
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{},\"logprobs\":null,\"finish_reason\":\"");
        let word = finish_word(reason, self.called > 0, self.refused);
        out.extend_from_slice(word.as_bytes());
        out.extend_from_slice(b"\"}]");
        if self.include_usage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
        if self.include_usage
            && let Some(usage) = &self.usage
        {
            out.extend_from_slice(&self.envelope);
            out.extend_from_slice(b",\"choices\":[],\"usage\":");
            usage.write_openai_chat(out);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

/// Returns whether an entry of a list has its index already, as it came from a stream.
fn has_index(raw: &RawValue) -> bool {
    let mut found = false;
    // What can't be read has none.
    let _ = text::Reader::of(raw.get()).object(|r, key| {
        found |= &*key == "index";
        r.raw().map(drop)
    });
    found
}

/// Appends an object without its opening brace, on one line.
fn inside(raw: &RawValue, out: &mut Vec<u8>) {
    let from = out.len();
    text::raw_line(raw, out);
    out.remove(from);
}

fn write_failure(failure: &Failure<'_>, out: &mut Vec<u8>) {
    let (kind, code) = match failure.class {
        FailureClass::Overloaded => ("server_error", "overloaded"),
        FailureClass::RateLimited => ("rate_limit_error", "rate_limit_exceeded"),
        FailureClass::InvalidRequest => ("invalid_request_error", "invalid_request"),
        FailureClass::Server => ("server_error", "server_error"),
        FailureClass::Garbage | FailureClass::Cut => ("server_error", "upstream_broken"),
    };
    out.extend_from_slice(b"data: ");
    write_error(&failure.message, kind, None, code, out);
    out.extend_from_slice(b"\n\n");
}

/// Returns the frame that ends a committed stream with an error; no `[DONE]` follows it.
pub fn error_frame(error: &Error) -> Vec<u8> {
    let mut frame = b"data: ".to_vec();
    frame.extend_from_slice(&error_body(error));
    frame.extend_from_slice(b"\n\n");
    frame
}
