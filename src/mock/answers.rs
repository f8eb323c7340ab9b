//! What an answer says, before and after it is put into a protocol's words.
//!
//! Written here from the providers' documentation and on purpose not with the gateway's own protocol code: a
//! fault there must not hide behind the same fault here. Answers don't depend on time or chance.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::dialect::{Dialect, Framing};
use super::json::{Json, Object, Raw, put};
use super::request::Asked;
use super::script::{Behaviour, ErrorEvent, ToolCall};
use super::values::{Numbers, UsageSaid};
use super::{anthropic, bedrock, cohere, google, ollama, openai};

/// A part of a body that is handed to the connection at once.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub bytes: Bytes,
    /// It carries content (and is counted), unlike what opens and closes a stream.
    pub is_content: bool,
}

impl Piece {
    pub fn content(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into(),
            is_content: true,
        }
    }

    pub fn frame(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into(),
            is_content: false,
        }
    }
}

/// An answer in no protocol's words.
#[derive(Debug)]
pub(super) struct Said<'a> {
    pub asked: &'a Asked,
    pub model: &'a str,
    pub thinking: Option<&'a str>,
    pub signature: &'a str,
    /// The script gave the signature.
    pub is_signed: bool,
    pub redacted_thinking: Option<&'a str>,
    pub text: Option<Cow<'a, str>>,
    pub refusal: Option<&'a str>,
    pub tools: &'a [ToolCall],
    pub finish: Finish<'a>,
    pub stop_sequence: Option<&'a str>,
    /// `None`: nothing is told.
    pub usage: Option<Usage>,
    /// How many times it is said (`n`, `candidateCount`).
    pub n: u32,
    /// How many messages led to it: makes the ids of tool calls unique within a conversation.
    pub turn: usize,
    pub chunks: usize,
    pub omit_done: bool,
    /// OpenAI streams: a chunk for the usage, and `usage: null` in the others.
    pub usage_chunk: bool,
}

/// Why an answer ended, in the words of any protocol; anything else is written as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish<'a> {
    Stop,
    StopSequence,
    Length,
    ToolCalls,
    ContentFilter,
    Verbatim(&'a str),
}

impl<'a> Finish<'a> {
    fn parse(name: &'a str) -> Self {
        match name {
            "stop" | "end_turn" | "STOP" | "COMPLETE" => Self::Stop,
            "stop_sequence" | "STOP_SEQUENCE" => Self::StopSequence,
            "length" | "max_tokens" | "max_output_tokens" | "MAX_TOKENS" => Self::Length,
            "tool_calls" | "tool_use" | "TOOL_CALL" => Self::ToolCalls,
            "content_filter" | "refusal" | "content_filtered" | "SAFETY" => Self::ContentFilter,
            other => Self::Verbatim(other),
        }
    }
}

/// Tokens as told.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    pub prompt: u64,
    pub completion: u64,
    pub cached: u64,
    pub cache_write: Option<u64>,
    pub reasoning: u64,
    pub raw: Option<String>,
}

impl<'a> Said<'a> {
    /// Works out what `behaviour` answers to `asked`.
    pub fn new(behaviour: &'a Behaviour, asked: &'a Asked) -> Self {
        let tools: &[ToolCall] = match &asked.forced {
            Some(forced) if behaviour.tools.is_empty() && !behaviour.is_fixed() => {
                std::slice::from_ref(forced)
            }
            Some(_) | None => &behaviour.tools,
        };
        let text = text(behaviour, asked, !tools.is_empty());
        let finish = match &behaviour.finish {
            Some(name) => Finish::parse(name),
            None if behaviour.stop_sequence.is_some() => Finish::StopSequence,
            None if !tools.is_empty() => Finish::ToolCalls,
            None if behaviour.refusal.is_some() && !asked.dialect.has_refusals() => {
                Finish::ContentFilter
            }
            None => Finish::Stop,
        };
        let mut said = Self {
            asked,
            model: behaviour.model.as_deref().unwrap_or(&asked.model),
            thinking: behaviour.thinking.as_deref(),
            signature: behaviour.signature.as_deref().unwrap_or(SIGNATURE),
            is_signed: behaviour.signature.is_some(),
            redacted_thinking: behaviour.redacted_thinking.as_deref(),
            text,
            refusal: behaviour.refusal.as_deref(),
            tools,
            finish,
            stop_sequence: behaviour.stop_sequence.as_deref(),
            usage: None,
            n: asked.n,
            turn: asked.turn,
            chunks: behaviour.chunks.unwrap_or(4) as usize,
            omit_done: behaviour.omit_done,
            usage_chunk: false,
        };
        said.usage = match &behaviour.usage {
            UsageSaid::Counted => Some(said.count(asked)),
            UsageSaid::Missing => None,
            UsageSaid::Given(numbers) => Some(said.count(asked).with(numbers)),
        };
        said.usage_chunk = said.usage.is_some()
            && (asked.include_usage || !behaviour.usage_only_if_asked.unwrap_or(true));
        said
    }

    /// Counts four characters as one token: the same whether streamed or not.
    fn count(&self, asked: &Asked) -> Usage {
        let tokens = |text: &str| (text.chars().count() as u64).div_ceil(4);
        let reasoning = self.thinking.map_or(0, tokens);
        let text = self.text.as_deref().map_or(0, tokens) + self.refusal.map_or(0, tokens);
        let tools: u64 = self
            .tools
            .iter()
            .map(|tool| tokens(&tool.name) + tokens(&tool.arguments.0))
            .sum();
        Usage {
            prompt: asked.prompt_tokens,
            completion: (reasoning + text + tools).max(1) * u64::from(self.n),
            reasoning: reasoning * u64::from(self.n),
            ..Usage::default()
        }
    }

    pub fn tool_id(&self, prefix: &str, at: usize, tool: &ToolCall) -> String {
        tool.id
            .clone()
            .unwrap_or_else(|| format!("{prefix}_mock_{}_{at}", self.turn))
    }
}

/// A usage object: the script's, or one that was counted.
pub(super) enum Told<'a> {
    Verbatim(Raw<'a>),
    Counted(Object),
}

impl Json for Told<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Verbatim(raw) => raw.write(out),
            Self::Counted(object) => object.write(out),
        }
    }
}

impl Usage {
    /// Returns the whole usage object of the script, or what `write` makes of the numbers.
    pub fn told(&self, write: impl FnOnce(&Self) -> Object) -> Told<'_> {
        match &self.raw {
            Some(raw) => Told::Verbatim(Raw(raw)),
            None => Told::Counted(write(self)),
        }
    }

    pub fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    fn with(self, numbers: &Numbers) -> Self {
        Self {
            prompt: numbers.prompt_tokens.unwrap_or(self.prompt),
            completion: numbers.completion_tokens.unwrap_or(self.completion),
            cached: numbers.cached_tokens.unwrap_or(self.cached),
            cache_write: numbers.cache_write_tokens.or(self.cache_write),
            reasoning: numbers.reasoning_tokens.unwrap_or(self.reasoning),
            raw: numbers.raw.clone(),
        }
    }
}

/// Returns the text of the answer: the script's, or what the request forces, or an echo.
fn text<'a>(behaviour: &'a Behaviour, asked: &'a Asked, calls_tools: bool) -> Option<Cow<'a, str>> {
    if let Some(size) = behaviour.text_bytes {
        return Some(Cow::Owned(generated(size as usize)));
    }
    if let Some(text) = &behaviour.text {
        return Some(Cow::Borrowed(text));
    }
    if calls_tools || behaviour.refusal.is_some() {
        return None;
    }
    if let Some(document) = &asked.document {
        return Some(Cow::Borrowed(document));
    }
    // An echo is repeated until there is something for every chunk that was asked for.
    let wanted = behaviour.chunks.unwrap_or(1) as usize;
    let length = asked.last_text.chars().count();
    if length >= wanted {
        return Some(Cow::Borrowed(&asked.last_text));
    }
    let mut text = String::with_capacity((asked.last_text.len() + 1) * (wanted / (length + 1) + 1));
    let mut written = 0;
    while written < wanted {
        if written > 0 {
            text.push(' ');
        }
        text.push_str(&asked.last_text);
        written += length + 1;
    }
    Some(Cow::Owned(text))
}

/// Returns `size` bytes of English.
fn generated(size: usize) -> String {
    const SENTENCE: &str = "The quick brown fox jumps over the lazy dog. ";
    let mut text = SENTENCE.repeat(size / SENTENCE.len() + 1);
    text.truncate(size);
    text
}

/// The signature of what a script doesn't sign.
pub(super) const SIGNATURE: &str = "bW9jayBzaWduYXR1cmU=";

/// Cuts a text into `count` pieces of nearly the same number of characters; fewer where it has fewer.
pub(super) fn pieces(text: &str, count: usize) -> impl Iterator<Item = &str> {
    let characters = text.chars().count();
    let count = count.min(characters).max(1);
    let mut rest = text;
    (0..count).map(move |number| {
        let from = number * characters / count;
        let to = (number + 1) * characters / count;
        let end = rest
            .char_indices()
            .nth(to - from)
            .map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at(end);
        rest = after;
        piece
    })
}

/// A body as it is to be sent.
#[derive(Debug, Clone)]
pub(super) enum Rendered {
    /// JSON
    Whole(Bytes),
    Stream(Framing, Arc<[Piece]>),
    /// A whole body of another media type.
    Other(&'static str, Bytes),
}

impl Rendered {
    pub fn media_type(&self) -> &'static str {
        match self {
            Self::Whole(_) => "application/json",
            Self::Stream(framing, _) => framing.media_type(),
            Self::Other(media_type, _) => media_type,
        }
    }

    /// Returns all of it.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Whole(bytes) | Self::Other(_, bytes) => bytes.clone(),
            Self::Stream(_, pieces) => pieces
                .iter()
                .flat_map(|piece| piece.bytes.clone())
                .collect(),
        }
    }
}

impl Behaviour {
    /// Returns whether the answer's content is the same for every request.
    pub(super) fn is_fixed(&self) -> bool {
        self.text.is_some() || self.text_bytes.is_some() || self.refusal.is_some()
    }
}

/// Renders the success that `behaviour` answers to `asked`, or finds it rendered before.
pub(super) fn render(behaviour: &Behaviour, asked: &Asked) -> Rendered {
    // An answer that repeats parts of the request is as different as these.
    let key = (behaviour.is_fixed() && asked.echo.is_null()).then(|| Key {
        dialect: asked.dialect,
        stream: asked.stream.then(|| asked.dialect.framing(asked.sse)),
        include_usage: asked.include_usage,
        n: asked.n,
        prompt_tokens: asked.prompt_tokens,
        turn: if behaviour.tools.is_empty() {
            0
        } else {
            asked.turn
        },
        model: asked.model.clone(),
    });
    if let Some(key) = &key
        && let Some(known) = behaviour.rendered.find(key)
    {
        return known;
    }
    let said = Said::new(behaviour, asked);
    let rendered = if asked.stream {
        let framing = asked.dialect.framing(asked.sse);
        Rendered::Stream(framing, stream(&said).into())
    } else {
        Rendered::Whole(whole(&said).into())
    };
    if let Some(key) = key {
        behaviour.rendered.keep(key, rendered.clone());
    }
    rendered
}

/// Renders the whole answer, although a stream may have been asked for.
pub(super) fn render_whole(behaviour: &Behaviour, asked: &Asked) -> Vec<u8> {
    whole(&Said::new(behaviour, asked))
}

fn whole(said: &Said<'_>) -> Vec<u8> {
    match said.asked.dialect {
        Dialect::OpenaiChat | Dialect::Openai => openai::chat::whole(said),
        Dialect::OpenaiCompletions => openai::completions::whole(said),
        Dialect::OpenaiResponses => openai::responses::whole(said),
        Dialect::Anthropic | Dialect::VertexAnthropic | Dialect::BedrockInvoke => {
            anthropic::whole(said)
        }
        Dialect::Gemini | Dialect::VertexPredict => google::whole(said),
        Dialect::Bedrock => bedrock::whole(said),
        Dialect::Cohere => cohere::whole(said),
        Dialect::Ollama => ollama::whole(said),
    }
}

fn stream(said: &Said<'_>) -> Vec<Piece> {
    match said.asked.dialect {
        Dialect::OpenaiChat | Dialect::Openai => openai::chat::stream(said),
        Dialect::OpenaiCompletions => openai::completions::stream(said),
        Dialect::OpenaiResponses => openai::responses::stream(said),
        Dialect::Anthropic | Dialect::VertexAnthropic => anthropic::stream(said),
        Dialect::Gemini | Dialect::VertexPredict => google::stream(said),
        Dialect::Bedrock => bedrock::stream(said),
        Dialect::BedrockInvoke => bedrock::wrapped(anthropic::stream(said)),
        Dialect::Cohere => cohere::stream(said),
        Dialect::Ollama => ollama::stream(said),
    }
}

/// The parts of an error body.
#[derive(Debug, Default)]
pub(super) struct ErrorSaid<'a> {
    pub status: u16,
    pub kind: Option<&'a str>,
    pub message: Option<&'a str>,
    pub code: Option<&'a str>,
    pub param: Option<&'a str>,
}

impl<'a> ErrorSaid<'a> {
    /// Returns the parts of an error that comes inside a success.
    pub fn of_event(event: &'a ErrorEvent) -> Self {
        Self {
            status: 200,
            kind: event.kind.as_deref(),
            message: event.message.as_deref(),
            code: event.code.as_deref(),
            param: None,
        }
    }
}

/// Returns an error in the protocol's shape.
pub(super) fn error_body(dialect: Dialect, error: &ErrorSaid<'_>) -> Vec<u8> {
    match dialect {
        Dialect::OpenaiChat
        | Dialect::OpenaiCompletions
        | Dialect::OpenaiResponses
        | Dialect::Openai => openai::chat::error_body(error),
        Dialect::Anthropic => anthropic::error_body(error),
        // The platform refuses in its own words, the model behind it in its own.
        Dialect::VertexAnthropic if matches!(error.status, 200 | 400 | 413 | 529) => {
            anthropic::error_body(error)
        }
        Dialect::Gemini | Dialect::VertexPredict | Dialect::VertexAnthropic => {
            google::error_body(error)
        }
        Dialect::Bedrock | Dialect::BedrockInvoke => bedrock::error_body(error),
        Dialect::Cohere => cohere::error_body(error),
        Dialect::Ollama => ollama::error_body(error),
    }
}

/// Returns an error as a part of a stream.
pub(super) fn error_frame(dialect: Dialect, framing: Framing, error: &ErrorSaid<'_>) -> Vec<u8> {
    let framed = |head: &str, tail: &str| {
        let mut out = head.as_bytes().to_vec();
        out.extend_from_slice(&error_body(dialect, error));
        put(&mut out, &[tail]);
        out
    };
    match dialect {
        Dialect::OpenaiChat | Dialect::OpenaiCompletions | Dialect::Openai => {
            framed("data: ", "\n\n")
        }
        Dialect::OpenaiResponses => openai::responses::error_event(error),
        Dialect::Anthropic | Dialect::VertexAnthropic => framed("event: error\ndata: ", "\n\n"),
        Dialect::Gemini | Dialect::VertexPredict if framing == Framing::List => framed(",\r\n", ""),
        Dialect::Gemini | Dialect::VertexPredict => framed("data: ", "\r\n\r\n"),
        Dialect::Bedrock | Dialect::BedrockInvoke => bedrock::error_event(error),
        Dialect::Cohere => cohere::error_event(error),
        Dialect::Ollama => framed("", "\n"),
    }
}

/// Answers rendered before. Few, since a script's fixed answers meet few kinds of requests.
#[derive(Debug, Default)]
pub struct Prebuilt(Mutex<Vec<(Key, Rendered)>>);

const PREBUILT_MAX: usize = 32;

#[derive(Debug, PartialEq, Eq)]
struct Key {
    dialect: Dialect,
    stream: Option<Framing>,
    include_usage: bool,
    n: u32,
    prompt_tokens: u64,
    turn: usize,
    model: String,
}

impl Prebuilt {
    fn find(&self, key: &Key) -> Option<Rendered> {
        self.0
            .lock()
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, rendered)| rendered.clone())
    }

    fn keep(&self, key: Key, rendered: Rendered) {
        let mut known = self.0.lock();
        if known.len() >= PREBUILT_MAX {
            known.remove(0);
        }
        known.push((key, rendered));
    }
}

impl Clone for Prebuilt {
    /// A copied behaviour may be changed, so it starts with nothing rendered.
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_the_text_and_are_as_many_as_asked_for() {
        for (text, count, expected) in [
            ("abcdef", 3, 3),
            ("ab", 5, 2),
            ("", 4, 1),
            ("äöü€😀x", 6, 6),
            ("äöü€😀x", 4, 4),
            ("a", 1, 1),
        ] {
            let cut: Vec<&str> = pieces(text, count).collect();
            assert_eq!(cut.concat(), text);
            assert_eq!(cut.len(), expected, "{text:?} in {count}");
            assert!(
                text.is_empty() || cut.iter().all(|piece| !piece.is_empty()),
                "{cut:?} has no empty piece"
            );
        }
    }

    #[test]
    fn generated_text_has_the_size_asked_for() {
        for size in [0, 1, 44, 45, 46, 100_000] {
            assert_eq!(generated(size).len(), size);
        }
    }
}
