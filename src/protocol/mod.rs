//! How it is said: the protocols, and the calls that translate between them through the hub.
//!
//! This folder knows no network, no clock and no configuration: bytes in, bytes out. The hub is [`chat`] for
//! whole requests and answers and [`event`] for streams; each protocol decodes into it and encodes out of it,
//! so that N protocols need 2·N translations and not N·N.

pub mod anthropic;
pub mod api;
pub mod bedrock;
mod blocks;
pub mod chat;
pub mod cohere;
pub mod collect;
pub mod continuation;
pub mod envelope;
pub mod event;
pub mod frames;
pub mod gemini;
mod notes;
pub mod ollama;
pub mod openai_chat;
pub mod openai_completions;
pub mod openai_responses;
pub mod prose;
pub mod provenance;
mod spelling;
pub mod tap;
pub mod text;
pub mod usage;

use std::borrow::Cow;

use crate::error::{Error, Result};

/// How a request is said on the wire, by a client or to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `POST /v1/chat/completions`, <https://platform.openai.com/docs/api-reference/chat>.
    OpenaiChat,
    /// `POST /v1/responses`, <https://platform.openai.com/docs/api-reference/responses>.
    OpenaiResponses,
    /// `POST /v1/completions`, <https://platform.openai.com/docs/api-reference/completions>.
    OpenaiCompletions,
    /// `POST /v1/messages`, <https://docs.anthropic.com/en/api/messages>.
    Anthropic,
    /// `POST /v1beta/models/{model}:generateContent`, <https://ai.google.dev/api/generate-content>.
    Gemini,
    /// `POST /model/{model}/converse`, <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>.
    Bedrock,
    /// `POST /v2/chat`, <https://docs.cohere.com/reference/chat>.
    Cohere,
    /// `POST /api/chat`, <https://github.com/ollama/ollama/blob/main/docs/api.md>.
    Ollama,
}

/// How the events of a stream are told apart on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Server-sent events.
    Events,
    /// One JSON object on each line.
    Lines,
    /// AWS's binary event stream.
    EventStream,
}

impl Protocol {
    /// Every protocol, in the order of the documentation.
    pub const ALL: [Protocol; 8] = [
        Protocol::OpenaiChat,
        Protocol::OpenaiResponses,
        Protocol::OpenaiCompletions,
        Protocol::Anthropic,
        Protocol::Gemini,
        Protocol::Bedrock,
        Protocol::Cohere,
        Protocol::Ollama,
    ];

    /// Returns the name that configuration, records and metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::OpenaiChat => "openai-chat",
            Protocol::OpenaiResponses => "openai-responses",
            Protocol::OpenaiCompletions => "openai-completions",
            Protocol::Anthropic => "anthropic",
            Protocol::Gemini => "gemini",
            Protocol::Bedrock => "bedrock",
            Protocol::Cohere => "cohere",
            Protocol::Ollama => "ollama",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name() == name)
    }

    /// Returns whether answers pass as they come, watched by a [`tap`]. The others' clients are few: their answers pass
    /// frame by frame, and what they tell is read by the decoder of the hub.
    pub fn is_tapped(self) -> bool {
        match self {
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
            | Protocol::Gemini => true,
            Protocol::Bedrock | Protocol::Cohere | Protocol::Ollama => false,
        }
    }

    /// Returns whether it is one of OpenAI's, which many speak.
    pub fn is_openai(self) -> bool {
        match self {
            Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::OpenaiCompletions => true,
            Protocol::Anthropic
            | Protocol::Gemini
            | Protocol::Bedrock
            | Protocol::Cohere
            | Protocol::Ollama => false,
        }
    }

    /// Returns whether a stream tells its usage only to those who ask for it (`stream_options.include_usage`).
    pub fn asks_for_usage(self) -> bool {
        matches!(self, Protocol::OpenaiChat | Protocol::OpenaiCompletions)
    }

    /// Returns how this protocol's streams are framed.
    pub fn framing(self) -> Framing {
        match self {
            Protocol::Bedrock => Framing::EventStream,
            Protocol::Ollama => Framing::Lines,
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
            | Protocol::Gemini
            | Protocol::Cohere => Framing::Events,
        }
    }

    /// Names the place of element `index` of `list` as this protocol's own errors do: `list.0` at Anthropic,
    /// `list[0]` elsewhere.
    pub fn element(self, list: &str, index: usize) -> String {
        match self {
            Protocol::Anthropic => format!("{list}.{index}"),
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Gemini
            | Protocol::Bedrock
            | Protocol::Cohere
            | Protocol::Ollama => format!("{list}[{index}]"),
        }
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
    /// Unique to this exchange, without a prefix: from it an encoder makes ids that the provider did not give.
    pub id: String,
    /// Each piece of a call's arguments names the function again, as Mistral's SDK demands; OpenAI's would string the
    /// names together.
    pub names_calls: bool,
    /// What an answer of OpenAI responses repeats of its request: JSON members without braces, or empty.
    pub echo: String,
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
        Protocol::OpenaiResponses => openai_responses::request::decode(body),
        Protocol::OpenaiCompletions => openai_completions::request::decode(body),
        Protocol::Anthropic => anthropic::request::decode(body),
        Protocol::Gemini => gemini::request::decode(body),
        Protocol::Bedrock => bedrock::request::decode(body),
        Protocol::Cohere => cohere::request::decode(body),
        Protocol::Ollama => ollama::request::decode(body),
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
    // Google's own words of schemas and choices, in those that all others know.
    let restated = match to {
        Protocol::Gemini => None,
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => gemini::request::restate(request)?,
    };
    let request = &match &restated {
        Some(restated) => Cow::Owned(restated.of(request)),
        None => Cow::Borrowed(request),
    };
    // The same for OpenAI's tools and items of responses.
    let own = match to {
        Protocol::OpenaiResponses => None,
        Protocol::OpenaiChat
        | Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Gemini
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => openai_responses::request::restate(request)?,
    };
    let request = &match &own {
        Some(own) => Cow::Owned(own.of(request)),
        None => Cow::Borrowed(&**request),
    };
    match encode_restated(to, request, model, facts) {
        Ok(mut translated) => {
            for name in &mut translated.dropped {
                *name = spelling::of_client(request, name);
            }
            translated
                .dropped
                .extend(own.into_iter().flat_map(|own| own.dropped));
            Ok(translated)
        }
        Err(mut error) => {
            error.param = error
                .param
                .map(|name| spelling::of_client(request, &name).into());
            Err(error)
        }
    }
}

fn encode_restated(
    to: Protocol,
    request: &chat::Request<'_>,
    model: &str,
    facts: &Facts,
) -> Result<Translated> {
    match to {
        Protocol::OpenaiChat => openai_chat::request::encode(request, model, facts),
        Protocol::OpenaiResponses => openai_responses::request::encode(request, model, facts),
        Protocol::OpenaiCompletions => openai_completions::request::encode(request, model, facts),
        Protocol::Anthropic => anthropic::request::encode(request, model, facts),
        Protocol::Gemini => gemini::request::encode(request, model, facts),
        Protocol::Bedrock => bedrock::request::encode(request, model, facts),
        Protocol::Cohere => cohere::request::encode(request, model, facts),
        Protocol::Ollama => ollama::request::encode(request, model, facts),
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
        Protocol::OpenaiResponses => openai_responses::response::decode(body, shape),
        Protocol::OpenaiCompletions => openai_completions::response::decode(body, shape),
        Protocol::Anthropic => anthropic::response::decode(body, shape),
        Protocol::Gemini => gemini::response::decode(body, shape),
        Protocol::Bedrock => bedrock::response::decode(body, shape),
        Protocol::Cohere => cohere::response::decode(body, shape),
        Protocol::Ollama => ollama::response::decode(body, shape),
    }
}

/// Encodes a hub answer for the client.
pub fn encode_response(to: Protocol, response: &chat::Response<'_>, shape: &Shape) -> Vec<u8> {
    let restated = match to {
        Protocol::Gemini => None,
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => gemini::response::restate(response, to),
    };
    let response = &match &restated {
        Some(restated) => Cow::Owned(restated.of(response)),
        None => Cow::Borrowed(response),
    };
    // Each in its own words to its own clients, and in OpenAI's to all others.
    let logprobs = if response.family == to {
        None
    } else {
        ollama::response::openai_logprobs(response)
            .or_else(|| cohere::response::openai_logprobs(response))
    };
    let response = &match &logprobs {
        Some(raw) => Cow::Owned(chat::Response {
            logprobs: Some(raw),
            ..response.as_ref().clone()
        }),
        None => Cow::Borrowed(response.as_ref()),
    };
    let own = openai_responses::response::restate(response, to);
    let response = &match &own {
        Some(own) => Cow::Owned(own.of(response)),
        None => Cow::Borrowed(&**response),
    };
    match to {
        Protocol::OpenaiChat => openai_chat::response::encode(response, shape),
        Protocol::OpenaiResponses => openai_responses::response::encode(response, shape),
        Protocol::OpenaiCompletions => openai_completions::response::encode(response, shape),
        Protocol::Anthropic => anthropic::response::encode(response, shape),
        Protocol::Gemini => gemini::response::encode(response, shape),
        Protocol::Bedrock => bedrock::response::encode(response, shape),
        Protocol::Cohere => cohere::response::encode(response, shape),
        Protocol::Ollama => ollama::response::encode(response, shape),
    }
}

/// Reads an upstream stream, one server-sent event at a time, into hub events.
///
/// Promises, whatever the upstream sends: one `Start` first, every `Open` closed, exactly one `Finish` or
/// `Error` last (from [`StreamDecoder::end`] when the upstream just hangs up).
#[derive(Debug)]
pub enum StreamDecoder {
    OpenaiChat(openai_chat::stream::Decoder),
    OpenaiResponses(openai_responses::stream::Decoder),
    OpenaiCompletions(openai_completions::stream::Decoder),
    Anthropic(anthropic::stream::Decoder),
    Gemini(gemini::stream::Decoder),
    Bedrock(bedrock::stream::Decoder),
    Cohere(cohere::stream::Decoder),
    Ollama(ollama::stream::Decoder),
}

impl StreamDecoder {
    pub fn new(from: Protocol, shape: &Shape) -> Self {
        match from {
            Protocol::OpenaiChat => Self::OpenaiChat(openai_chat::stream::Decoder::new(shape)),
            Protocol::OpenaiResponses => {
                Self::OpenaiResponses(openai_responses::stream::Decoder::new(shape))
            }
            Protocol::OpenaiCompletions => {
                Self::OpenaiCompletions(openai_completions::stream::Decoder::new(shape))
            }
            Protocol::Anthropic => Self::Anthropic(anthropic::stream::Decoder::new(shape)),
            Protocol::Gemini => Self::Gemini(gemini::stream::Decoder::new(shape)),
            Protocol::Bedrock => Self::Bedrock(bedrock::stream::Decoder::new(shape)),
            Protocol::Cohere => Self::Cohere(cohere::stream::Decoder::new(shape)),
            Protocol::Ollama => Self::Ollama(ollama::stream::Decoder::new(shape)),
        }
    }

    /// Feeds one event's `event:` name (may be empty) and `data:`; calls `each` for every hub event.
    ///
    /// Data that can't be read becomes one `Error` event; after the last event all is ignored.
    pub fn feed(&mut self, name: &[u8], data: &[u8], each: &mut dyn FnMut(event::Event<'_>)) {
        match self {
            Self::OpenaiChat(decoder) => decoder.feed(name, data, each),
            Self::OpenaiResponses(decoder) => decoder.feed(name, data, each),
            Self::OpenaiCompletions(decoder) => decoder.feed(name, data, each),
            Self::Anthropic(decoder) => decoder.feed(name, data, each),
            Self::Gemini(decoder) => decoder.feed(name, data, each),
            Self::Bedrock(decoder) => decoder.feed(name, data, each),
            Self::Cohere(decoder) => decoder.feed(name, data, each),
            Self::Ollama(decoder) => decoder.feed(name, data, each),
        }
    }

    /// Ends the stream: a whole one ends well, a cut one with an `Error` of class `Cut`.
    pub fn end(&mut self, each: &mut dyn FnMut(event::Event<'_>)) {
        match self {
            Self::OpenaiChat(decoder) => decoder.end(each),
            Self::OpenaiResponses(decoder) => decoder.end(each),
            Self::OpenaiCompletions(decoder) => decoder.end(each),
            Self::Anthropic(decoder) => decoder.end(each),
            Self::Gemini(decoder) => decoder.end(each),
            Self::Bedrock(decoder) => decoder.end(each),
            Self::Cohere(decoder) => decoder.end(each),
            Self::Ollama(decoder) => decoder.end(each),
        }
    }
}

/// Writes hub events as the client's server-sent events.
#[derive(Debug)]
pub enum StreamEncoder {
    OpenaiChat(openai_chat::stream::Encoder),
    OpenaiResponses(openai_responses::stream::Encoder),
    OpenaiCompletions(openai_completions::stream::Encoder),
    Anthropic(anthropic::stream::Encoder),
    Gemini(gemini::stream::Encoder),
    Bedrock(bedrock::stream::Encoder),
    Cohere(cohere::stream::Encoder),
    Ollama(ollama::stream::Encoder),
}

impl StreamEncoder {
    pub fn new(to: Protocol, shape: &Shape) -> Self {
        match to {
            Protocol::OpenaiChat => Self::OpenaiChat(openai_chat::stream::Encoder::new(shape)),
            Protocol::OpenaiResponses => {
                Self::OpenaiResponses(openai_responses::stream::Encoder::new(shape))
            }
            Protocol::OpenaiCompletions => {
                Self::OpenaiCompletions(openai_completions::stream::Encoder::new(shape))
            }
            Protocol::Anthropic => Self::Anthropic(anthropic::stream::Encoder::new(shape)),
            Protocol::Gemini => Self::Gemini(gemini::stream::Encoder::new(shape)),
            Protocol::Bedrock => Self::Bedrock(bedrock::stream::Encoder::new(shape)),
            Protocol::Cohere => Self::Cohere(cohere::stream::Encoder::new(shape)),
            Protocol::Ollama => Self::Ollama(ollama::stream::Encoder::new(shape)),
        }
    }

    /// Appends the bytes of `event` (none, one or several frames) to `out`.
    pub fn write(&mut self, event: &event::Event<'_>, out: &mut Vec<u8>) {
        match self {
            Self::OpenaiChat(encoder) => encoder.write(event, out),
            Self::OpenaiResponses(encoder) => encoder.write(event, out),
            Self::OpenaiCompletions(encoder) => encoder.write(event, out),
            Self::Anthropic(encoder) => encoder.write(event, out),
            Self::Gemini(encoder) => encoder.write(event, out),
            Self::Bedrock(encoder) => encoder.write(event, out),
            Self::Cohere(encoder) => encoder.write(event, out),
            Self::Ollama(encoder) => encoder.write(event, out),
        }
    }
}

/// Returns the body of an error answer in the client's protocol.
pub fn error_body(to: Protocol, error: &Error, request_id: &str) -> Vec<u8> {
    match to {
        Protocol::OpenaiChat => openai_chat::response::error_body(error),
        Protocol::OpenaiResponses => openai_responses::response::error_body(error, request_id),
        Protocol::OpenaiCompletions => openai_completions::response::error_body(error, request_id),
        Protocol::Anthropic => anthropic::response::error_body(error, request_id),
        Protocol::Gemini => gemini::response::error_body(error, request_id),
        Protocol::Bedrock => bedrock::response::error_body(error, request_id),
        Protocol::Cohere => cohere::response::error_body(error, request_id),
        Protocol::Ollama => ollama::response::error_body(error, request_id),
    }
}

/// Returns the frame that ends a committed stream with an error (OpenAI: no `[DONE]` follows).
pub fn error_frame(to: Protocol, error: &Error, request_id: &str) -> Vec<u8> {
    match to {
        Protocol::OpenaiChat => openai_chat::stream::error_frame(error),
        Protocol::OpenaiResponses => openai_responses::stream::error_frame(error, request_id),
        Protocol::OpenaiCompletions => openai_completions::stream::error_frame(error, request_id),
        Protocol::Anthropic => anthropic::stream::error_frame(error, request_id),
        Protocol::Gemini => gemini::stream::error_frame(error, request_id),
        Protocol::Bedrock => bedrock::stream::error_frame(error, request_id),
        Protocol::Cohere => cohere::stream::error_frame(error, request_id),
        Protocol::Ollama => ollama::stream::error_frame(error, request_id),
    }
}

/// Returns the frame that keeps a silent stream alive.
pub fn ping_frame(to: Protocol) -> &'static [u8] {
    match to {
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Cohere => b": ping\n\n",
        // Google's Python SDK takes a comment for the beginning of an error, and skips empty lines.
        Protocol::Gemini => b"\r\n",
        // Their framings have no word for nothing.
        Protocol::Bedrock | Protocol::Ollama => b"",
        Protocol::Anthropic => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
    }
}
