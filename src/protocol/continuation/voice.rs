//! The voice of a passed stream: what the provider's own frames have told, so that frames of ours can follow them.

use std::borrow::Cow;

use super::Told;
use crate::codec::json;
use crate::protocol::event::{Block, Delta, Event};
use crate::protocol::openai_responses::stream::Adopted;
use crate::protocol::{Protocol, Shape, StreamEncoder};

/// Items of a response that are kept to be repeated at its end, in bytes.
const MOST_ITEMS: usize = 1 << 20;

/// Watches the frames of a passed stream.
#[derive(Debug)]
pub struct Voice {
    protocol: Protocol,
    created: Option<u64>,
    /// Of OpenAI responses.
    adopted: Adopted,
}

impl Voice {
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            created: None,
            adopted: Adopted::default(),
        }
    }

    /// Notes one frame that the client has got.
    pub fn note(&mut self, data: &[u8], told: &mut Told) {
        match self.protocol {
            Protocol::OpenaiChat | Protocol::OpenaiCompletions if self.created.is_none() => {
                self.created = number(data, "created");
            }
            Protocol::OpenaiResponses => self.response(data, told),
            Protocol::OpenaiChat
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
            | Protocol::Gemini
            | Protocol::Bedrock
            | Protocol::Cohere
            | Protocol::Ollama => {}
        }
    }

    fn response(&mut self, data: &[u8], told: &mut Told) {
        let mut members = Vec::new();
        if json::members(data, usize::MAX, &mut members).is_err() {
            return;
        }
        let find = |name: &str| {
            let member = members
                .iter()
                .find(|member| json::key(data, member) == name)?;
            Some(member.value.clone())
        };
        let adopted = &mut self.adopted;
        if let Some(number) = find("sequence_number").and_then(|at| json::unsigned(data, at)) {
            adopted.sequence = number + 1;
        }
        let kind = find("type").and_then(|at| json::string(data, at));
        match kind.as_deref().unwrap_or_default() {
            "response.created" => {
                let response = find("response").map(|at| &data[at]);
                self.created = response.and_then(|response| number(response, "created_at"));
            }
            "response.output_item.added" => {
                let item = find("item").map(|at| &data[at]).unwrap_or_default();
                adopted.open = word(item, "id");
                if let Some(index) = find("output_index").and_then(|at| json::unsigned(data, at)) {
                    adopted.index = index;
                }
            }
            "response.output_text.done" | "response.content_part.done" => {
                told.bar("its text was whole");
            }
            "response.output_item.done" => {
                let item = find("item").map(|at| &data[at]).unwrap_or_default();
                if adopted.items.len() + item.len() > MOST_ITEMS {
                    return told.bar("it is too long");
                }
                if !adopted.items.is_empty() {
                    adopted.items.push(b',');
                }
                adopted.items.extend_from_slice(item);
                adopted.open = None;
            }
            _ => {}
        }
    }

    /// Returns the encoder that goes on where the provider's frames ended. `shape` is that of the client's request.
    pub fn encoder(&self, told: &Told, shape: Shape) -> StreamEncoder {
        let shape = Shape {
            // What the client has seen, not what it asked for.
            model: told.model.clone(),
            created: self.created.unwrap_or(shape.created),
            ..shape
        };
        let mut encoder = StreamEncoder::new(self.protocol, &shape);
        let mut seen = Vec::new();
        let mut say = |event: &Event<'_>| {
            encoder.write(event, &mut seen);
            seen.clear();
        };
        say(&Event::Start {
            id: Cow::Borrowed(&told.id),
            model: Cow::Borrowed(&told.model),
            usage: None,
            service_tier: told.tier.as_deref().map(Cow::Borrowed),
        });
        for said in &told.blocks {
            let index = said.index;
            let text = Cow::Borrowed(&*said.text);
            let (block, delta) = match said.reasoning {
                true => (Block::Reasoning, Delta::Reasoning(text)),
                false => (Block::Text, Delta::Text(text)),
            };
            say(&Event::Open { index, block });
            say(&Event::Delta { index, delta });
            if !said.open {
                say(&Event::Close { index });
            }
        }
        if let StreamEncoder::OpenaiResponses(encoder) = &mut encoder {
            encoder.adopt(&self.adopted);
        }
        encoder
    }
}

fn number(object: &[u8], name: &str) -> Option<u64> {
    let mut members = Vec::new();
    json::members(object, usize::MAX, &mut members).ok()?;
    let member = members
        .iter()
        .find(|member| json::key(object, member) == name)?;
    json::unsigned(object, member.value.clone())
}

fn word(object: &[u8], name: &str) -> Option<String> {
    let mut members = Vec::new();
    json::members(object, usize::MAX, &mut members).ok()?;
    let member = members
        .iter()
        .find(|member| json::key(object, member) == name)?;
    json::string(object, member.value.clone()).map(Cow::into_owned)
}
