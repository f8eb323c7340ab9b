//! Streams of `text_completion` chunks, ended by `[DONE]`.

use super::response::{Answer, finish_word, id_of};
use crate::error::Error;
use crate::protocol::blocks::{Blocks, Each};
use crate::protocol::chat::Finish;
use crate::protocol::event::{Block, Delta, Event, FailureClass};
use crate::protocol::text;
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape, openai_chat, ping_frame, tap};

/// Reads one stream. Of several choices the first is read.
#[derive(Debug)]
pub struct Decoder {
    blocks: Blocks,
    /// A choice was seen.
    answered: bool,
    finish: Option<Finish>,
    /// For an answer that comes without an id.
    made_id: String,
}

impl Decoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            blocks: Blocks::new(shape),
            answered: false,
            finish: None,
            made_id: id_of(shape),
        }
    }

    /// See [`crate::protocol::StreamDecoder::feed`].
    pub fn feed(&mut self, name: &[u8], data: &[u8], each: Each<'_>) {
        if self.blocks.is_ended() {
            return;
        }
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            return self.done(each);
        }
        if data.is_empty() {
            return;
        }
        let Ok(answer) = Answer::read(data) else {
            let message = "the provider sent an event that is not a chunk of an answer";
            return self.blocks.fail(FailureClass::Garbage, message, each);
        };
        let (id, model) = (answer.id.as_deref(), answer.model.as_deref());
        self.blocks
            .named(id.unwrap_or_default(), model.unwrap_or_default());
        if answer.error.is_some() || (name == b"error" && answer.choices.is_none()) {
            let raw = answer.error.map_or(data, |raw| raw.get().as_bytes());
            let (class, message) = tap::failure(raw, 0..raw.len());
            return self.blocks.fail(class, &message, each);
        }
        if answer.usage.is_some() {
            self.blocks.usage = answer.usage;
        }
        let mut choices = answer.choices.into_iter().flatten();
        let Some(choice) = choices.find(|choice| choice.index == 0) else {
            return;
        };
        self.answered = true;
        self.begin(each);
        self.blocks.text(&choice.text.unwrap_or_default(), each);
        self.finish = choice.finish.or(self.finish);
    }

    /// See [`crate::protocol::StreamDecoder::end`].
    pub fn end(&mut self, each: Each<'_>) {
        if self.finish.is_some() {
            return self.done(each);
        }
        self.blocks.cut(each);
    }

    fn begin(&mut self, each: Each<'_>) {
        // Only where the provider told none.
        self.blocks.named(&self.made_id, "");
        self.blocks.start(each);
    }

    fn done(&mut self, each: Each<'_>) {
        if !self.answered {
            let message = "the provider ended the stream without an answer";
            return self.blocks.fail(FailureClass::Cut, message, each);
        }
        self.begin(each);
        let finish = self.finish.unwrap_or(Finish::Stop);
        self.blocks.done(finish, None, each);
    }
}

/// Writes one stream.
///
/// Promises: nothing follows the finish or the error; `[DONE]` follows the finish alone.
#[derive(Debug)]
pub struct Encoder {
    shape: Shape,
    /// All of a chunk up to its choices.
    envelope: Vec<u8>,
    ended: bool,
    usage: Option<Usage>,
}

impl Encoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            shape: shape.clone(),
            envelope: Vec::new(),
            ended: false,
            usage: None,
        }
    }

    /// See [`crate::protocol::StreamEncoder::write`].
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Event::Start {
                id, model, usage, ..
            } => {
                self.usage = usage.clone();
                self.start(id, model);
            }
            Event::Delta {
                delta: Delta::Text(said) | Delta::Refusal(said),
                ..
            } => self.chunk(said, None, out),
            Event::Delta {
                delta:
                    Delta::Reasoning(_)
                    | Delta::Signature(_)
                    | Delta::Arguments(_)
                    | Delta::Citation { .. }
                    | Delta::Logprobs(_)
                    | Delta::Opaque { .. },
                ..
            }
            | Event::Open {
                block:
                    Block::Text
                    | Block::Refusal
                    | Block::Reasoning
                    | Block::RedactedReasoning { .. }
                    | Block::ToolCall { .. }
                    | Block::Opaque { .. },
                ..
            }
            | Event::Close { .. } => {}
            Event::Usage(usage) => self.usage = Some(usage.clone()),
            Event::Finish { reason, .. } => self.finish(*reason, out),
            Event::Ping => out.extend_from_slice(ping_frame(Protocol::OpenaiCompletions)),
            Event::Error(_) => {
                self.ended = true;
                openai_chat::stream::Encoder::new(&self.shape).write(event, out);
            }
        }
    }

    fn start(&mut self, id: &str, model: &str) {
        let envelope = &mut self.envelope;
        envelope.clear();
        envelope.extend_from_slice(b"data: {\"id\":");
        if id.is_empty() {
            text::string(&id_of(&self.shape), envelope);
        } else {
            text::string(id, envelope);
        }
        envelope.extend_from_slice(b",\"object\":\"text_completion\",\"created\":");
        text::integer(self.shape.created, envelope);
        envelope.extend_from_slice(b",\"model\":");
        let model = if self.shape.model.is_empty() {
            model
        } else {
            &self.shape.model
        };
        text::string(model, envelope);
    }

    fn chunk(&self, said: &str, finish: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.envelope);
        out.extend_from_slice(b",\"choices\":[{\"text\":");
        text::string(said, out);
        out.extend_from_slice(b",\"index\":0,\"logprobs\":null,\"finish_reason\":");
        match finish {
            Some(word) => text::string(word, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b"}]");
        if self.shape.include_usage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn finish(&mut self, reason: Finish, out: &mut Vec<u8>) {
        self.ended = true;
        self.chunk("", Some(finish_word(reason)), out);
        if self.shape.include_usage
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

/// Returns the frame that ends a committed stream with an error.
pub fn error_frame(error: &Error, _request_id: &str) -> Vec<u8> {
    openai_chat::stream::error_frame(error)
}
