//! How a call is answered, and how the parts of a stream are told apart.

use bytes::Bytes;

/// How a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `POST …/chat/completions`
    OpenaiChat,
    /// `POST …/completions`
    OpenaiCompletions,
    /// `POST …/responses`
    OpenaiResponses,
    /// The other APIs of OpenAI's.
    Openai,
    /// `POST …/messages`
    Anthropic,
    /// `POST …/publishers/anthropic/models/{model}:rawPredict`
    VertexAnthropic,
    /// `POST …/models/{model}:generateContent`, of Google AI and of Vertex
    Gemini,
    /// `POST …/models/{model}:predict`
    VertexPredict,
    /// `POST /model/{model}/converse`
    Bedrock,
    /// `POST /model/{model}/invoke`: the body is the model's own.
    BedrockInvoke,
    /// `POST …/v2/chat`
    Cohere,
    /// `POST …/api/chat`
    Ollama,
}

impl Dialect {
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenaiChat => "openai-chat",
            Self::OpenaiCompletions => "openai-completions",
            Self::OpenaiResponses => "openai-responses",
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::VertexAnthropic => "vertex-anthropic",
            Self::Gemini => "gemini",
            Self::VertexPredict => "vertex-predict",
            Self::Bedrock => "bedrock",
            Self::BedrockInvoke => "bedrock-invoke",
            Self::Cohere => "cohere",
            Self::Ollama => "ollama",
        }
    }

    /// Returns the header that carries the request's number.
    pub fn request_id_header(self) -> &'static str {
        match self {
            Self::OpenaiChat
            | Self::OpenaiCompletions
            | Self::OpenaiResponses
            | Self::Openai
            | Self::Gemini
            | Self::VertexPredict
            | Self::Ollama => "x-request-id",
            Self::Anthropic | Self::VertexAnthropic => "request-id",
            Self::Bedrock | Self::BedrockInvoke => "x-amzn-requestid",
            Self::Cohere => "x-debug-trace-id",
        }
    }

    /// Returns whether the content is said as Anthropic says it.
    pub(super) fn is_anthropic(self) -> bool {
        matches!(
            self,
            Self::Anthropic | Self::VertexAnthropic | Self::BedrockInvoke
        )
    }

    pub(super) fn is_google(self) -> bool {
        matches!(
            self,
            Self::Gemini | Self::VertexPredict | Self::VertexAnthropic
        )
    }

    /// Returns whether a refusal has a place of its own in an answer.
    pub(super) fn has_refusals(self) -> bool {
        matches!(self, Self::OpenaiChat | Self::OpenaiResponses)
    }

    /// Returns how the parts of a stream are told apart.
    pub(super) fn framing(self, sse: bool) -> Framing {
        match self {
            Self::Bedrock | Self::BedrockInvoke => Framing::Binary,
            Self::Ollama => Framing::Lines,
            Self::Gemini if !sse => Framing::List,
            Self::OpenaiChat
            | Self::OpenaiCompletions
            | Self::OpenaiResponses
            | Self::Openai
            | Self::Anthropic
            | Self::VertexAnthropic
            | Self::Gemini
            | Self::VertexPredict
            | Self::Cohere => Framing::Events,
        }
    }

    /// Returns what keeps a stream of events alive.
    pub(super) fn ping(self) -> Bytes {
        if matches!(self, Self::Anthropic | Self::VertexAnthropic) {
            Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n")
        } else {
            Bytes::from_static(b": ping\n\n")
        }
    }
}

/// How the parts of a stream are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Framing {
    /// Server-sent events.
    Events,
    /// One JSON text a line.
    Lines,
    /// The elements of one JSON list.
    List,
    /// AWS's event stream.
    Binary,
}

impl Framing {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream; charset=utf-8",
            Self::Lines => "application/x-ndjson",
            Self::List => "application/json",
            Self::Binary => "application/vnd.amazon.eventstream",
        }
    }

    /// Returns a part that no reader understands.
    pub fn broken(self) -> Vec<u8> {
        match self {
            Self::Events => b"data: {\"choices\": [{\"delta\": {\"cont\xff\n\n".to_vec(),
            Self::Lines => b"{\"message\": {\"cont\xff\n".to_vec(),
            Self::List => b",\n{\"candidates\": [{\"cont\xff".to_vec(),
            // The lengths fit, the checksums don't.
            Self::Binary => b"\0\0\0\x14\0\0\0\0\xff\xff\xff\xffmock\xff\xff\xff\xff".to_vec(),
        }
    }
}
