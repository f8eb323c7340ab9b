//! The hub's stream: what an answer is made of, in the order in which it comes.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Protocol;
use super::chat::Finish;
use super::usage::Usage;

#[derive(Debug)]
pub enum Event<'b> {
    /// First, once. `usage` where the provider already tells the input (Anthropic).
    Start {
        id: Cow<'b, str>,
        model: Cow<'b, str>,
        usage: Option<Usage>,
        service_tier: Option<Cow<'b, str>>,
    },
    /// A block begins; `index` counts from 0 in the order of opening, over all blocks of the answer.
    Open {
        index: u32,
        block: Block<'b>,
    },
    Delta {
        index: u32,
        delta: Delta<'b>,
    },
    Close {
        index: u32,
    },
    /// Cumulative: the last one counts.
    Usage(Usage),
    /// Last, unless `Error` is.
    Finish {
        reason: Finish,
        stop_sequence: Option<Cow<'b, str>>,
    },
    Ping,
    /// Last, unless `Finish` is.
    Error(Failure<'b>),
}

#[derive(Debug)]
pub enum Block<'b> {
    Text,
    Refusal,
    Reasoning,
    RedactedReasoning {
        data: Cow<'b, str>,
    },
    ToolCall {
        id: Cow<'b, str>,
        name: Cow<'b, str>,
    },
    /// A block that only `family` understands, whole as it came.
    Opaque {
        family: Protocol,
        raw: &'b RawValue,
    },
}

#[derive(Debug)]
pub enum Delta<'b> {
    Text(Cow<'b, str>),
    Refusal(Cow<'b, str>),
    Reasoning(Cow<'b, str>),
    /// Completes a reasoning block.
    Signature(Cow<'b, str>),
    /// A piece of the JSON text of a tool call's arguments.
    Arguments(Cow<'b, str>),
    /// One citation of the open text block, as it came.
    Citation {
        family: Protocol,
        raw: &'b RawValue,
    },
    Logprobs(&'b RawValue),
    Opaque {
        family: Protocol,
        raw: &'b RawValue,
    },
}

/// An error inside a stream whose HTTP status was a success.
#[derive(Debug)]
pub struct Failure<'b> {
    pub class: FailureClass,
    pub message: Cow<'b, str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// The provider says it is overloaded (Anthropic's `overloaded_error`).
    Overloaded,
    RateLimited,
    /// The request is at fault: another target would say the same.
    InvalidRequest,
    /// The provider's own fault, or one not told.
    Server,
    /// Not an event of this protocol.
    Garbage,
    /// The upstream hung up before the end.
    Cut,
}
