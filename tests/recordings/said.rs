//! What an answer says, in words that all protocols share.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};
use strait::protocol::chat::{Finish, Part, Response};
use strait::protocol::collect::Collector;
use strait::protocol::event::{Block, Delta, Event};
use strait::protocol::frames::Frames;
use strait::protocol::usage::Usage;
use strait::protocol::{Protocol, StreamDecoder, StreamEncoder};

use super::shape;

const MOST_FRAME: usize = 1 << 24;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    pub text: String,
    pub thoughts: String,
    /// Name and arguments.
    pub calls: Vec<(String, Value)>,
    /// The class of end that all protocols can tell apart; empty where none was told.
    pub finish: &'static str,
    pub usage: Numbers,
}

/// The numbers that every protocol tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    pub input: u64,
    pub output: u64,
    pub cached: u64,
}

impl Numbers {
    pub fn of(usage: Option<&Usage>) -> Self {
        let Some(usage) = usage else {
            return Self::default();
        };
        Self {
            input: usage.input,
            output: usage.output,
            cached: usage.cache_read,
        }
    }
}

impl Said {
    pub fn of(response: &Response<'_>) -> Self {
        let mut said = Self {
            usage: Numbers::of(response.usage.as_ref()),
            ..Self::default()
        };
        for part in &response.parts {
            match part {
                Part::Text { text, .. } | Part::Refusal { text } => said.text.push_str(text),
                Part::Reasoning { text, .. } => said.thoughts.push_str(text),
                Part::ToolCall {
                    name, arguments, ..
                } => said.calls.push((name.to_string(), value_of(arguments))),
                Part::Image { .. }
                | Part::Audio { .. }
                | Part::File { .. }
                | Part::ToolResult { .. }
                | Part::RedactedReasoning { .. }
                | Part::Opaque { .. } => {}
            }
        }
        said.finish = class(response.finish, !said.calls.is_empty());
        said
    }

    /// What the official clients must see.
    pub fn seen(&self) -> Value {
        json!({"text": self.text, "calls": self.calls})
    }
}

/// Arguments as a value: none are an empty object, broken ones stand as they came.
pub fn value_of(text: &str) -> Value {
    if text.trim().is_empty() {
        return json!({});
    }
    match serde_json::from_str(text) {
        Ok(Value::Null) => json!({}),
        Ok(value) => value,
        Err(_) => json!({"_raw": text}),
    }
}

fn class(finish: Finish, calls: bool) -> &'static str {
    match finish {
        Finish::Length | Finish::ContextWindow => "length",
        Finish::ContentFilter | Finish::Refusal => "refusal",
        Finish::Stop | Finish::StopSequence | Finish::ToolCalls | Finish::Pause | Finish::Other => {
            if calls {
                "calls"
            } else {
                "stop"
            }
        }
    }
}

/// How a stream ended, and what it said until then.
#[derive(Debug)]
pub struct Heard {
    pub said: Said,
    /// The failure's message, where it did not end well.
    pub failure: Option<String>,
}

/// Holds a stream to the promises of its events while summing it up, apart from the collector.
#[derive(Debug, Default)]
struct Ear {
    started: bool,
    open: Vec<u32>,
    next: u32,
    ended: Option<Result<Finish, String>>,
    said: Said,
    calls: Vec<(u32, String, String)>,
    usage: Option<Usage>,
}

impl Ear {
    fn hear(&mut self, event: &Event<'_>) {
        assert!(self.ended.is_none(), "after the end: {event:?}");
        match event {
            Event::Start { usage, .. } => {
                assert!(!self.started, "started twice");
                self.started = true;
                self.usage = usage.clone().or(self.usage.take());
            }
            Event::Open { index, block } => {
                assert!(self.started && *index == self.next, "{event:?}");
                self.next += 1;
                self.open.push(*index);
                if let Block::ToolCall { name, .. } = block {
                    self.calls.push((*index, name.to_string(), String::new()));
                }
            }
            Event::Delta { index, delta } => {
                assert!(self.open.contains(index), "not open: {event:?}");
                self.delta(*index, delta);
            }
            Event::Close { index } => {
                let at = self.open.iter().position(|open| open == index);
                self.open.remove(at.expect("closed what is not open"));
            }
            Event::Usage(usage) => self.usage = Some(usage.clone()),
            Event::Finish { reason, .. } => {
                assert!(self.started && self.open.is_empty(), "{event:?}");
                self.ended = Some(Ok(*reason));
            }
            Event::Error(failure) => {
                assert!(self.started && self.open.is_empty(), "{event:?}");
                self.ended = Some(Err(failure.message.to_string()));
            }
            Event::Ping => {}
        }
    }

    fn delta(&mut self, index: u32, delta: &Delta<'_>) {
        match delta {
            Delta::Text(piece) | Delta::Refusal(piece) => self.said.text.push_str(piece),
            Delta::Reasoning(piece) => self.said.thoughts.push_str(piece),
            Delta::Arguments(piece) => {
                let call = self.calls.iter_mut().find(|(known, ..)| *known == index);
                call.expect("arguments of no call").2.push_str(piece);
            }
            Delta::Signature(_)
            | Delta::Citation { .. }
            | Delta::Logprobs(_)
            | Delta::Opaque { .. } => {}
        }
    }

    fn heard(mut self) -> Heard {
        self.said.usage = Numbers::of(self.usage.as_ref());
        self.said.calls = self
            .calls
            .into_iter()
            .map(|(_, name, arguments)| (name, value_of(&arguments)))
            .collect();
        let failure = match self.ended.expect("every stream ends") {
            Ok(finish) => {
                self.said.finish = class(finish, !self.said.calls.is_empty());
                None
            }
            Err(message) => Some(message),
        };
        Heard {
            said: self.said,
            failure,
        }
    }
}

/// Decodes a stream that comes in pieces of `size` bytes; `each` hears every event.
fn decode(protocol: Protocol, stream: &[u8], size: usize, each: &mut dyn FnMut(&Event<'_>)) {
    let mut frames = Frames::new(protocol.framing(), MOST_FRAME);
    let mut decoder = StreamDecoder::new(protocol, &shape());
    for piece in stream.chunks(size.max(1)) {
        frames
            .push(&Bytes::copy_from_slice(piece), |name, data| {
                decoder.feed(name, data, &mut |event| each(&event));
            })
            .expect("no frame is too long");
    }
    frames.finish(|name, data| decoder.feed(name, data, &mut |event| each(&event)));
    decoder.end(&mut |event| each(&event));
}

/// Sums a stream up.
pub fn hear(protocol: Protocol, stream: &[u8]) -> Heard {
    let mut ear = Ear::default();
    decode(protocol, stream, stream.len(), &mut |event| ear.hear(event));
    ear.heard()
}

/// Sums a stream up by the collector.
pub fn collect(protocol: Protocol, stream: &[u8]) -> Collector {
    let mut collector = Collector::new(protocol);
    decode(protocol, stream, stream.len(), &mut |event| {
        collector.push(event);
    });
    collector
}

/// Translates a stream that comes in pieces of `size` bytes.
pub fn recode(from: Protocol, to: Protocol, stream: &[u8], size: usize) -> Vec<u8> {
    let mut encoder = StreamEncoder::new(to, &shape());
    let mut out = Vec::new();
    decode(from, stream, size, &mut |event| {
        encoder.write(event, &mut out)
    });
    out
}

/// Returns the JSON of every event of a stream.
pub fn chunks(protocol: Protocol, stream: &[u8]) -> Vec<Value> {
    let mut frames = Frames::new(protocol.framing(), MOST_FRAME);
    let mut chunks = Vec::new();
    let mut each = |_: &[u8], data: &[u8]| chunks.extend(serde_json::from_slice::<Value>(data));
    frames
        .push(&Bytes::copy_from_slice(stream), &mut each)
        .expect("no frame is too long");
    frames.finish(&mut each);
    chunks
}

/// Tells two sayings apart, field by field.
pub fn differences(found: &Said, wanted: &Said) -> String {
    let mut told = String::new();
    if found.text != wanted.text {
        write!(told, " text {:?} for {:?}", found.text, wanted.text).unwrap();
    }
    if found.thoughts != wanted.thoughts {
        let (one, other) = (&found.thoughts, &wanted.thoughts);
        write!(told, " thoughts {one:?} for {other:?}").unwrap();
    }
    if found.calls != wanted.calls {
        write!(told, " calls {:?} for {:?}", found.calls, wanted.calls).unwrap();
    }
    if found.finish != wanted.finish {
        write!(told, " finish {} for {}", found.finish, wanted.finish).unwrap();
    }
    if found.usage != wanted.usage {
        write!(told, " usage {:?} for {:?}", found.usage, wanted.usage).unwrap();
    }
    told
}
