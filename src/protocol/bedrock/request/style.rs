//! What a family of models takes in its own words, told by its id: Converse has no field for how much to think, for
//! `top_k`, or for what a model can't do.

use super::plan::Notes;
use crate::protocol::Facts;
use crate::protocol::chat::{Effort, Reasoning};

/// How a model is told in `additionalModelRequestFields` what Converse has no word for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Anthropic: `thinking`, `top_k`.
    Claude,
    /// Amazon Nova 2: `reasoningConfig`, `inferenceConfig.topK`.
    Nova2,
    /// Amazon Nova: `inferenceConfig.topK`.
    Nova,
    /// OpenAI: `reasoning_effort`.
    Openai,
    /// Qwen: `reasoning_config`.
    Qwen,
    /// Anybody else, and inference profiles, whose ids tell nothing.
    Other,
}

/// What an id has in it, and whose it then is; the first that fits counts.
const STYLES: [(&str, Style); 7] = [
    ("anthropic.", Style::Claude),
    ("claude", Style::Claude),
    ("nova-2", Style::Nova2),
    ("amazon.nova", Style::Nova),
    ("openai.", Style::Openai),
    ("gpt-oss", Style::Openai),
    ("qwen", Style::Qwen),
];

/// Models that have no native structured output though others of their maker have, or though their catalogue says so
/// of the tool trick (<https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html>).
const NO_SCHEMA: [&str; 12] = [
    "amazon.",
    "meta.",
    "cohere.",
    "ai21.",
    "writer.",
    "claude-v2",
    "claude-instant",
    "claude-3",
    "claude-opus-4-1",
    "claude-opus-4-2",
    "claude-sonnet-4-2",
    "arn:",
];

impl Style {
    pub fn of(model: &str, facts: &Facts) -> Self {
        STYLES
            .iter()
            .find(|(part, _)| model.contains(part))
            .map(|(_, style)| *style)
            .unwrap_or(if facts.adaptive_thinking {
                Style::Claude
            } else {
                Style::Other
            })
    }

    /// Returns whether a block can be marked to be cached.
    pub fn caches(self) -> bool {
        match self {
            Style::Claude | Style::Nova | Style::Nova2 | Style::Other => true,
            Style::Openai | Style::Qwen => false,
        }
    }

    /// Returns whether the tools can: Nova caches system prompts and messages alone.
    pub fn caches_tools(self) -> bool {
        matches!(self, Style::Claude | Style::Other)
    }

    /// Returns whether thinking goes back to the model: others than Claude refuse it or make nothing of it.
    pub fn recalls(self) -> bool {
        matches!(self, Style::Claude | Style::Other)
    }

    /// Returns whether a result of a tool can be marked as a failure.
    pub fn takes_status(self) -> bool {
        matches!(
            self,
            Style::Claude | Style::Nova | Style::Nova2 | Style::Other
        )
    }
}

/// Returns whether the model holds its answer to a schema by itself.
pub(super) fn takes_schema(model: &str, facts: &Facts) -> bool {
    facts.json_schema == Some(true) && !NO_SCHEMA.iter().any(|part| model.contains(part))
}

/// Returns the effort as those take it that know three of them.
pub(super) fn three(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::Xhigh | Effort::Max => "high",
    }
}

/// Returns the effort as Qwen takes it.
pub(super) fn two(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium | Effort::High | Effort::Xhigh | Effort::Max => "high",
    }
}

/// Returns the effort that was asked for; `None` if it was none.
pub(super) fn effort(reasoning: &Reasoning) -> Option<Effort> {
    match reasoning {
        Reasoning::Off | Reasoning::Effort(Effort::None) => None,
        Reasoning::Budget(budget) => Some(effort_of(*budget)),
        Reasoning::Effort(effort) => Some(*effort),
        Reasoning::Adaptive(effort) => Some(effort.unwrap_or(Effort::Medium)),
    }
}

pub(super) fn effort_of(budget: u32) -> Effort {
    match budget {
        0..=2048 => Effort::Low,
        2049..=8192 => Effort::Medium,
        _ => Effort::High,
    }
}

/// | effort | none | minimal | low | medium | high | xhigh, max |
/// |---|---|---|---|---|---|---|
/// | tokens | 0 | 1024 | 2048 | 8192 | 24576 | 32768 |
pub(super) fn budget_of(effort: Effort) -> u32 {
    match effort {
        Effort::None => 0,
        Effort::Minimal => 1024,
        Effort::Low => 2048,
        Effort::Medium => 8192,
        Effort::High => 24_576,
        Effort::Xhigh | Effort::Max => 32_768,
    }
}

/// Returns Bedrock's word for a service tier; `None` for the usual one.
pub(super) fn tier<'t>(asked: &'t str, same: bool, notes: &mut Notes) -> Option<&'t str> {
    match asked {
        _ if same => Some(asked),
        "auto" | "default" | "standard_only" | "standard" => None,
        "flex" | "priority" => Some(asked),
        _ => {
            notes.add("service_tier");
            None
        }
    }
}
