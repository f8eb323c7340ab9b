//! The hub: a chat request and its answer, as every protocol can say them.
//!
//! Small, typed and borrowed from the body it was decoded from. JSON that isn't ours (schemas, metadata) is
//! carried as [`RawValue`] and copied, never rebuilt. What only one family of protocols understands is carried
//! as [`Part::Opaque`] or in `extra`, and re-emitted to that family alone.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Protocol;
pub use super::prose::Prose;
use super::usage::Usage;

/// Text borrowed from the body, or owned where the body had escapes.
pub type Str<'b> = Cow<'b, str>;

/// One chat request. Absent and null are the same here: a field that the client did not send is not sent on.
#[derive(Debug, Clone)]
pub struct Request<'b> {
    /// The protocol that it came in: `extra` and opaque parts go back to this family alone.
    pub family: Protocol,
    pub model: Str<'b>,
    /// In the order of the conversation; system and developer messages stand where the client put them.
    pub messages: Vec<Message<'b>>,
    pub tools: Vec<Tool<'b>>,
    pub tool_choice: Option<ToolChoice<'b>>,
    /// Whether several tools may be called in one turn.
    pub parallel_tools: Option<bool>,
    /// Tokens.
    pub max_output: Option<u32>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u32>,
    pub frequency_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub seed: Option<i64>,
    pub stop: Vec<Str<'b>>,
    /// How many answers; more than one can be said in OpenAI chat alone.
    pub n: Option<u32>,
    pub logprobs: Option<bool>,
    pub top_logprobs: Option<u32>,
    pub logit_bias: Option<&'b RawValue>,
    pub format: Option<Format<'b>>,
    pub reasoning: Option<Reasoning>,
    /// OpenAI's `verbosity`.
    pub verbosity: Option<Str<'b>>,
    pub stream: bool,
    pub include_usage: bool,
    /// The end user: OpenAI's `user` or `safety_identifier`, Anthropic's `metadata.user_id`.
    pub user: Option<Str<'b>>,
    pub metadata: Option<&'b RawValue>,
    pub service_tier: Option<Str<'b>>,
    /// Top-level fields that the hub has no word for, as they came: name and value.
    pub extra: Vec<(Str<'b>, &'b RawValue)>,
}

impl Request<'_> {
    /// Returns a request that says nothing yet.
    pub fn blank(family: Protocol) -> Self {
        Self {
            family,
            model: Str::default(),
            messages: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tools: None,
            max_output: None,
            temperature: None,
            top_p: None,
            top_k: None,
            frequency_penalty: None,
            presence_penalty: None,
            seed: None,
            stop: Vec::new(),
            n: None,
            logprobs: None,
            top_logprobs: None,
            logit_bias: None,
            format: None,
            reasoning: None,
            verbosity: None,
            stream: false,
            include_usage: false,
            user: None,
            metadata: None,
            service_tier: None,
            extra: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
}

/// One turn. Tool results are parts of a [`Role::User`] turn; a decoder joins adjacent tool messages into one.
#[derive(Debug, Clone)]
pub struct Message<'b> {
    pub role: Role,
    pub parts: Vec<Part<'b>>,
    /// OpenAI's `name` of the participant.
    pub name: Option<Str<'b>>,
}

#[derive(Debug, Clone)]
pub enum Part<'b> {
    Text {
        text: Prose<'b>,
        cache: Option<&'b RawValue>,
        citations: Option<&'b RawValue>,
    },
    /// The model declined (assistant only).
    Refusal {
        text: Prose<'b>,
    },
    Image {
        source: Source<'b>,
        detail: Option<Str<'b>>,
        cache: Option<&'b RawValue>,
    },
    /// `format` is `wav`, `mp3`, …
    Audio {
        data: Str<'b>,
        format: Str<'b>,
    },
    /// A document. `citations` is Anthropic's `{"enabled": …}`.
    File {
        source: Source<'b>,
        name: Option<Str<'b>>,
        context: Option<Str<'b>>,
        citations: Option<&'b RawValue>,
        cache: Option<&'b RawValue>,
    },
    /// `arguments` is JSON text as the model wrote it (possibly broken).
    ToolCall {
        id: Str<'b>,
        name: Str<'b>,
        arguments: Str<'b>,
        cache: Option<&'b RawValue>,
    },
    ToolResult {
        id: Str<'b>,
        parts: Vec<Part<'b>>,
        is_error: bool,
        cache: Option<&'b RawValue>,
    },
    /// What the model thought. `signature` is opaque and goes back to the provider that made it.
    Reasoning {
        text: Prose<'b>,
        signature: Option<Str<'b>>,
    },
    RedactedReasoning {
        data: Str<'b>,
    },
    /// A part that only `family` understands, whole as it came.
    Opaque {
        family: Protocol,
        raw: &'b RawValue,
    },
}

#[derive(Debug, Clone)]
pub enum Source<'b> {
    Url(Str<'b>),
    Base64 {
        media_type: Str<'b>,
        data: Str<'b>,
    },
    /// Plain text given in place of a document.
    Text(Str<'b>),
    /// The id of an uploaded file: understood by the provider that holds it alone.
    FileId {
        family: Protocol,
        id: Str<'b>,
    },
}

#[derive(Debug, Clone)]
pub enum Tool<'b> {
    Function {
        name: Str<'b>,
        description: Option<Str<'b>>,
        /// JSON schema of the arguments.
        schema: Option<&'b RawValue>,
        strict: Option<bool>,
        cache: Option<&'b RawValue>,
    },
    /// A tool that `family` runs itself or defines (`web_search_20250305`, custom tools), whole as it came.
    Opaque {
        family: Protocol,
        name: Str<'b>,
        raw: &'b RawValue,
    },
}

#[derive(Debug, Clone)]
pub enum ToolChoice<'b> {
    Auto,
    None,
    /// Some tool must be called (OpenAI `required`, Anthropic `any`).
    Required,
    Named(Str<'b>),
    Opaque {
        family: Protocol,
        raw: &'b RawValue,
    },
}

#[derive(Debug, Clone)]
pub enum Format<'b> {
    Text,
    JsonObject,
    JsonSchema {
        name: Option<Str<'b>>,
        description: Option<Str<'b>>,
        schema: &'b RawValue,
        strict: Option<bool>,
    },
}

/// How much the model is to think.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reasoning {
    Off,
    /// Tokens.
    Budget(u32),
    Effort(Effort),
    /// The model decides, optionally within an effort.
    Adaptive(Option<Effort>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

/// One whole answer.
#[derive(Debug, Clone)]
pub struct Response<'b> {
    pub family: Protocol,
    pub id: Str<'b>,
    /// The model as the provider names it.
    pub model: Str<'b>,
    pub parts: Vec<Part<'b>>,
    pub finish: Finish,
    /// The stop sequence that ended it, where the provider tells.
    pub stop_sequence: Option<Str<'b>>,
    pub usage: Option<Usage>,
    pub service_tier: Option<Str<'b>>,
    pub logprobs: Option<&'b RawValue>,
    /// Further answers when `n` > 1 (OpenAI chat alone): parts and finish of each.
    pub more: Vec<(Vec<Part<'b>>, Finish)>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    Stop,
    StopSequence,
    Length,
    ToolCalls,
    ContentFilter,
    Refusal,
    /// Anthropic's `pause_turn`: the turn goes on when it is sent back.
    Pause,
    /// The context window is full (Anthropic's `model_context_window_exceeded`).
    ContextWindow,
    /// Anything that the hub has no word for.
    Other,
}
