//! How it is said: the protocols, and the calls that translate between them through the hub.
//!
//! This folder knows no network, no clock and no configuration: bytes in, bytes out. The hub is [`chat`] for
//! whole requests and answers and [`event`] for streams; each protocol decodes into it and encodes out of it,
//! so that N protocols need 2·N translations and not N·N.

pub mod anthropic;
pub mod chat;
pub mod collect;
pub mod envelope;
pub mod event;
pub mod openai_chat;
pub mod tap;
pub mod text;
pub mod usage;

use crate::error::{Error, Result};

/// How a request is said on the wire, by a client or to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `POST /v1/chat/completions`, <https://platform.openai.com/docs/api-reference/chat>.
    OpenaiChat,
    /// `POST /v1/messages`, <https://docs.anthropic.com/en/api/messages>.
    Anthropic,
}

impl Protocol {
    /// Every protocol, in the order of the documentation.
    pub const ALL: [Protocol; 2] = [Protocol::OpenaiChat, Protocol::Anthropic];

    /// Returns the name that configuration, records and metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::OpenaiChat => "openai-chat",
            Protocol::Anthropic => "anthropic",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name() == name)
    }
}

/// What is known of the model that a request is written for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The most tokens that it can put out; Anthropic demands a number in every request.
    pub max_output: Option<u32>,
    /// It takes a JSON schema natively (`response_format` or `output_config.format`); otherwise the tool trick.
    /// Where nothing is known, OpenAI's dialect is asked natively and Anthropic's by the trick, which all its
    /// models understand.
    pub json_schema: Option<bool>,
    /// It rejects `temperature`, `top_p` and `top_k`.
    pub no_sampling: bool,
    /// It reasons, and takes an effort or a budget.
    pub reasoning: bool,
    /// The effort by which it thinks the least, where it takes one that is next to nothing.
    pub reasoning_off: Option<chat::Effort>,
    /// It takes `thinking: {type: adaptive}` and `output_config.effort` instead of a token budget.
    pub adaptive_thinking: bool,
    /// It takes `role: developer`; otherwise `system` is written.
    pub developer_role: bool,
    /// It takes `max_completion_tokens`; otherwise `max_tokens` is written.
    pub max_completion_tokens: bool,
}

/// What the client is owed: needed to write an answer, and not found in the answer itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// The `model` that the client asked for; answers carry it.
    pub model: String,
    /// Seconds since 1970, for `created`.
    pub created: u64,
    /// The client asked for `stream_options.include_usage`.
    pub include_usage: bool,
    /// The structured output was asked for by the tool trick: the call of this tool is the answer's text.
    pub schema_tool: bool,
}

/// The name of the tool that stands in for structured output.
pub const SCHEMA_TOOL: &str = "structured_output";

/// A request rewritten for another protocol.
#[derive(Debug)]
pub struct Translated {
    pub body: Vec<u8>,
    /// Fields of the request that could not be said and changed nothing essential: named in the record.
    pub dropped: Vec<String>,
    /// See [`Shape::schema_tool`].
    pub schema_tool: bool,
}

/// Decodes a request body into the hub.
pub fn decode_request(from: Protocol, body: &[u8]) -> Result<chat::Request<'_>> {
    match from {
        Protocol::OpenaiChat => openai_chat::request::decode(body),
        Protocol::Anthropic => anthropic::request::decode(body),
    }
}

/// Encodes a hub request for a provider. `model` is the provider's own id.
///
/// Errors: `Unsupported`, naming the client's field, when dropping something would change the meaning.
pub fn encode_request(
    to: Protocol,
    request: &chat::Request<'_>,
    model: &str,
    facts: &Facts,
) -> Result<Translated> {
    match to {
        Protocol::OpenaiChat => openai_chat::request::encode(request, model, facts),
        Protocol::Anthropic => anthropic::request::encode(request, model, facts),
    }
}

/// Decodes a whole (not streamed) answer into the hub.
pub fn decode_response<'b>(
    from: Protocol,
    body: &'b [u8],
    shape: &Shape,
) -> Result<chat::Response<'b>> {
    match from {
        Protocol::OpenaiChat => openai_chat::response::decode(body, shape),
        Protocol::Anthropic => anthropic::response::decode(body, shape),
    }
}

/// Encodes a hub answer for the client.
pub fn encode_response(to: Protocol, response: &chat::Response<'_>, shape: &Shape) -> Vec<u8> {
    match to {
        Protocol::OpenaiChat => openai_chat::response::encode(response, shape),
        Protocol::Anthropic => anthropic::response::encode(response, shape),
    }
}

/// Reads an upstream stream, one server-sent event at a time, into hub events.
///
/// Promises, whatever the upstream sends: one `Start` first, every `Open` closed, exactly one `Finish` or
/// `Error` last (from [`StreamDecoder::end`] when the upstream just hangs up).
#[derive(Debug)]
pub enum StreamDecoder {
    OpenaiChat(openai_chat::stream::Decoder),
    Anthropic(anthropic::stream::Decoder),
}

impl StreamDecoder {
    pub fn new(from: Protocol, shape: &Shape) -> Self {
        match from {
            Protocol::OpenaiChat => Self::OpenaiChat(openai_chat::stream::Decoder::new(shape)),
            Protocol::Anthropic => Self::Anthropic(anthropic::stream::Decoder::new(shape)),
        }
    }

    /// Feeds one event's `event:` name (may be empty) and `data:`; calls `each` for every hub event.
    ///
    /// Data that can't be read becomes one `Error` event; after the last event all is ignored.
    pub fn feed(&mut self, name: &[u8], data: &[u8], each: &mut dyn FnMut(event::Event<'_>)) {
        match self {
            Self::OpenaiChat(decoder) => decoder.feed(name, data, each),
            Self::Anthropic(decoder) => decoder.feed(name, data, each),
        }
    }

    /// Ends the stream: a whole one ends well, a cut one with an `Error` of class `Cut`.
    pub fn end(&mut self, each: &mut dyn FnMut(event::Event<'_>)) {
        match self {
            Self::OpenaiChat(decoder) => decoder.end(each),
            Self::Anthropic(decoder) => decoder.end(each),
        }
    }
}

/// Writes hub events as the client's server-sent events.
#[derive(Debug)]
pub enum StreamEncoder {
    OpenaiChat(openai_chat::stream::Encoder),
    Anthropic(anthropic::stream::Encoder),
}

impl StreamEncoder {
    pub fn new(to: Protocol, shape: &Shape) -> Self {
        match to {
            Protocol::OpenaiChat => Self::OpenaiChat(openai_chat::stream::Encoder::new(shape)),
            Protocol::Anthropic => Self::Anthropic(anthropic::stream::Encoder::new(shape)),
        }
    }

    /// Appends the bytes of `event` (none, one or several frames) to `out`.
    pub fn write(&mut self, event: &event::Event<'_>, out: &mut Vec<u8>) {
        match self {
            Self::OpenaiChat(encoder) => encoder.write(event, out),
            Self::Anthropic(encoder) => encoder.write(event, out),
        }
    }
}

/// Returns the body of an error answer in the client's protocol.
pub fn error_body(to: Protocol, error: &Error, request_id: &str) -> Vec<u8> {
    match to {
        Protocol::OpenaiChat => openai_chat::response::error_body(error),
        Protocol::Anthropic => anthropic::response::error_body(error, request_id),
    }
}

/// Returns the frame that ends a committed stream with an error (OpenAI: no `[DONE]` follows).
pub fn error_frame(to: Protocol, error: &Error, request_id: &str) -> Vec<u8> {
    match to {
        Protocol::OpenaiChat => openai_chat::stream::error_frame(error),
        Protocol::Anthropic => anthropic::stream::error_frame(error, request_id),
    }
}

/// Returns the frame that keeps a silent stream alive.
pub fn ping_frame(to: Protocol) -> &'static [u8] {
    match to {
        Protocol::OpenaiChat => b": ping\n\n",
        Protocol::Anthropic => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
    }
}
