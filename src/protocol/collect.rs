//! An answer in its other form: a stream's events summed into a whole answer, a whole one told as events.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Protocol;
use super::chat::{Finish, Part, Prose, Response};
use super::event::{Block, Delta, Event};
use super::text::{self, Reader};
use super::usage::Usage;

/// Sums the events of one stream.
#[derive(Debug)]
pub struct Collector {
    family: Protocol,
    id: String,
    model: String,
    service_tier: Option<String>,
    usage: Option<Usage>,
    blocks: Vec<Collected>,
    logprobs: Logprobs,
    end: Option<(Finish, Option<String>)>,
    failed: bool,
}

#[derive(Debug)]
struct Collected {
    index: u32,
    what: What,
    /// Text, thinking or arguments.
    text: String,
    /// The elements of its list of citations, with commas between them.
    citations: Vec<u8>,
    /// Of `citations`, once all is there.
    cited: Option<Box<RawValue>>,
}

#[derive(Debug)]
enum What {
    Text,
    Refusal,
    Reasoning { signature: String },
    Redacted { data: String },
    Call { id: String, name: String },
    Opaque(Protocol, Box<RawValue>),
}

/// OpenAI's log probabilities, piece by piece.
#[derive(Debug, Default)]
struct Logprobs {
    content: Vec<u8>,
    refusal: Vec<u8>,
    whole: Option<Box<RawValue>>,
}

impl Collector {
    /// `family` is the protocol that the stream was decoded from.
    pub fn new(family: Protocol) -> Self {
        Self {
            family,
            id: String::new(),
            model: String::new(),
            service_tier: None,
            usage: None,
            blocks: Vec::new(),
            logprobs: Logprobs::default(),
            end: None,
            failed: false,
        }
    }

    /// Takes one event.
    pub fn push(&mut self, event: &Event<'_>) {
        match event {
            Event::Start {
                id,
                model,
                usage,
                service_tier,
            } => {
                self.id.clear();
                self.id.push_str(id);
                self.model.clear();
                self.model.push_str(model);
                self.usage = usage.clone().or(self.usage.take());
                self.service_tier = service_tier.as_deref().map(str::to_owned);
            }
            Event::Open { index, block } => self.blocks.push(Collected {
                index: *index,
                what: What::of(block),
                text: String::new(),
                citations: Vec::new(),
                cited: None,
            }),
            Event::Delta { index, delta } => self.delta(*index, delta),
            Event::Close { .. } | Event::Ping => {}
            Event::Usage(usage) => self.usage = Some(usage.clone()),
            Event::Finish {
                reason,
                stop_sequence,
            } => self.end = Some((*reason, stop_sequence.as_deref().map(str::to_owned))),
            Event::Error(_) => self.failed = true,
        }
    }

    fn delta(&mut self, index: u32, delta: &Delta<'_>) {
        // The block that grows is nearly always the last one.
        let Some(block) = self.blocks.iter_mut().rev().find(|one| one.index == index) else {
            return;
        };
        match delta {
            Delta::Text(text)
            | Delta::Refusal(text)
            | Delta::Reasoning(text)
            | Delta::Arguments(text) => block.text.push_str(text),
            Delta::Signature(piece) => {
                if let What::Reasoning { signature } = &mut block.what {
                    signature.push_str(piece);
                }
            }
            Delta::Citation { family, raw } => {
                if *family == self.family {
                    text::comma(0, &mut block.citations);
                    block.citations.extend_from_slice(raw.get().as_bytes());
                }
            }
            Delta::Logprobs(raw) => self.logprobs.push(raw),
            Delta::Opaque { .. } => {}
        }
    }

    /// Returns the answer; `None` unless the stream ended well.
    pub fn finish(&mut self) -> Option<Response<'_>> {
        if self.failed {
            return None;
        }
        let (finish, stop_sequence) = self.end.as_ref()?;
        for block in &mut self.blocks {
            block.cited = list(&block.citations);
        }
        self.logprobs.join();
        Some(Response {
            family: self.family,
            id: Cow::Borrowed(&self.id),
            model: Cow::Borrowed(&self.model),
            parts: self.blocks.iter().map(Collected::part).collect(),
            finish: *finish,
            stop_sequence: stop_sequence.as_deref().map(Cow::Borrowed),
            usage: self.usage.clone(),
            service_tier: self.service_tier.as_deref().map(Cow::Borrowed),
            logprobs: self.logprobs.whole.as_deref(),
            more: Vec::new(),
        })
    }
}

impl What {
    fn of(block: &Block<'_>) -> Self {
        match block {
            Block::Text => What::Text,
            Block::Refusal => What::Refusal,
            Block::Reasoning => What::Reasoning {
                signature: String::new(),
            },
            Block::RedactedReasoning { data } => What::Redacted {
                data: data.clone().into_owned(),
            },
            Block::ToolCall { id, name } => What::Call {
                id: id.clone().into_owned(),
                name: name.clone().into_owned(),
            },
            Block::Opaque { family, raw } => What::Opaque(*family, (*raw).to_owned()),
        }
    }
}

impl Collected {
    fn part(&self) -> Part<'_> {
        let text = Prose::from(&*self.text);
        match &self.what {
            What::Text => Part::Text {
                text,
                cache: None,
                citations: self.cited.as_deref(),
            },
            What::Refusal => Part::Refusal { text },
            What::Reasoning { signature } => Part::Reasoning {
                text,
                signature: Some(Cow::Borrowed(&**signature)).filter(|text| !text.is_empty()),
            },
            What::Redacted { data } => Part::RedactedReasoning {
                data: Cow::Borrowed(data),
            },
            What::Call { id, name } => Part::ToolCall {
                id: Cow::Borrowed(id),
                name: Cow::Borrowed(name),
                arguments: Cow::Borrowed(&self.text),
                cache: None,
            },
            What::Opaque(family, raw) => Part::Opaque {
                family: *family,
                raw,
            },
        }
    }
}

impl Logprobs {
    fn push(&mut self, raw: &RawValue) {
        // What can't be read tells no probability.
        let _ = Reader::of(raw.get()).object(|r, key| {
            let into = match (&*key, r.peek()) {
                ("content", b'[') => &mut self.content,
                ("refusal", b'[') => &mut self.refusal,
                _ => return r.raw().map(drop),
            };
            r.array(|r| {
                text::comma(0, into);
                into.extend_from_slice(r.raw()?.get().as_bytes());
                Ok(())
            })
        });
    }

    fn join(&mut self) {
        if self.content.is_empty() && self.refusal.is_empty() {
            return;
        }
        let mut out = Vec::new();
        let mut object = text::Object::open(&mut out);
        for (name, items) in [("content", &self.content), ("refusal", &self.refusal)] {
            let out = object.key(name);
            if items.is_empty() {
                out.extend_from_slice(b"null");
                continue;
            }
            out.push(b'[');
            out.extend_from_slice(items);
            out.push(b']');
        }
        object.close();
        self.whole = raw(out);
    }
}

/// Returns the array of `items`, which have commas between them already; `None` of none.
fn list(items: &[u8]) -> Option<Box<RawValue>> {
    if items.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(items.len() + 2);
    out.push(b'[');
    out.extend_from_slice(items);
    out.push(b']');
    raw(out)
}

fn raw(json: Vec<u8>) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(json).ok()?).ok()
}

/// Tells a whole answer as the events of its stream. Of several answers the first is told.
pub fn replay(response: &Response<'_>, each: &mut dyn FnMut(Event<'_>)) {
    each(Event::Start {
        id: Cow::Borrowed(&response.id),
        model: Cow::Borrowed(&response.model),
        usage: response.usage.clone(),
        service_tier: response.service_tier.as_deref().map(Cow::Borrowed),
    });
    let mut index = 0;
    let mut logprobs = response.logprobs;
    for part in &response.parts {
        let Some(block) = block_of(part) else {
            continue;
        };
        each(Event::Open { index, block });
        inside(response.family, part, &mut |delta| {
            each(Event::Delta { index, delta });
        });
        if matches!(part, Part::Text { .. })
            && let Some(raw) = logprobs.take()
        {
            let delta = Delta::Logprobs(raw);
            each(Event::Delta { index, delta });
        }
        each(Event::Close { index });
        index += 1;
    }
    if let Some(usage) = &response.usage {
        each(Event::Usage(usage.clone()));
    }
    each(Event::Finish {
        reason: response.finish,
        stop_sequence: response.stop_sequence.as_deref().map(Cow::Borrowed),
    });
}

/// Returns the block that a part of an answer is; `None` for what only a request can hold.
fn block_of<'p>(part: &'p Part<'_>) -> Option<Block<'p>> {
    match part {
        Part::Text { .. } => Some(Block::Text),
        Part::Refusal { .. } => Some(Block::Refusal),
        Part::Reasoning { .. } => Some(Block::Reasoning),
        Part::RedactedReasoning { data } => Some(Block::RedactedReasoning {
            data: Cow::Borrowed(data),
        }),
        Part::ToolCall { id, name, .. } => Some(Block::ToolCall {
            id: Cow::Borrowed(id),
            name: Cow::Borrowed(name),
        }),
        Part::Opaque { family, raw } => Some(Block::Opaque {
            family: *family,
            raw,
        }),
        Part::Image { .. } | Part::Audio { .. } | Part::File { .. } | Part::ToolResult { .. } => {
            None
        }
    }
}

fn inside(family: Protocol, part: &Part<'_>, each: &mut dyn FnMut(Delta<'_>)) {
    match part {
        Part::Text {
            text, citations, ..
        } => {
            if let Some(text) = told(text) {
                each(Delta::Text(Cow::Borrowed(text)));
            }
            if let Some(citations) = citations {
                // What can't be read is no citation.
                let _ = Reader::of(citations.get()).array(|r| {
                    let raw = r.raw()?;
                    each(Delta::Citation { family, raw });
                    Ok(())
                });
            }
        }
        Part::Refusal { text } => each(Delta::Refusal(Cow::Borrowed(text))),
        Part::Reasoning { text, signature } => {
            if let Some(text) = told(text) {
                each(Delta::Reasoning(Cow::Borrowed(text)));
            }
            if let Some(signature) = signature.as_deref().and_then(told) {
                each(Delta::Signature(Cow::Borrowed(signature)));
            }
        }
        Part::ToolCall { arguments, .. } => {
            if let Some(arguments) = told(arguments) {
                each(Delta::Arguments(Cow::Borrowed(arguments)));
            }
        }
        Part::RedactedReasoning { .. }
        | Part::Opaque { .. }
        | Part::Image { .. }
        | Part::Audio { .. }
        | Part::File { .. }
        | Part::ToolResult { .. } => {}
    }
}

/// Returns a text that says something.
fn told(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
