//! How much a Gemini model is to think.
//!
//! Models of the third generation take a level, those before it a budget of tokens, each its own range:
//! <https://ai.google.dev/gemini-api/docs/thinking>.

use super::super::words::{Kind, Notes};
use crate::protocol::Facts;
use crate::protocol::chat::{Effort, Reasoning, Request};

/// The budget with which a model decides by itself.
const DYNAMIC: i64 = -1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    Budget(i64),
    Level(&'static str),
}

/// What is said of thinking.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub thinking: Option<Thinking>,
    /// Thoughts are to be told.
    pub shown: bool,
}

impl Plan {
    pub fn new(request: &Request<'_>, kind: Kind, facts: &Facts, notes: &mut Notes) -> Self {
        let Some(reasoning) = &request.reasoning else {
            return Self::default();
        };
        let off = matches!(reasoning, Reasoning::Off | Reasoning::Effort(Effort::None));
        let thinks = !kind.maker && (facts.reasoning || kind.is_third() || kind.has_budget());
        if !thinks {
            if !off {
                notes.add("reasoning (the model does not think)");
            }
            return Self::default();
        }
        let thinking = if kind.is_third() {
            level(reasoning, kind, facts, notes)
        } else {
            Some(budget(reasoning, kind, notes))
        };
        Self {
            thinking,
            shown: !off,
        }
    }
}

fn level(reasoning: &Reasoning, kind: Kind, facts: &Facts, notes: &mut Notes) -> Option<Thinking> {
    let effort = match reasoning {
        Reasoning::Off => Effort::None,
        Reasoning::Effort(effort) => *effort,
        Reasoning::Budget(budget) => match budget {
            0 => Effort::None,
            1..=1024 => Effort::Low,
            1025..=8192 => Effort::Medium,
            _ => Effort::High,
        },
        // Without a level the model decides.
        Reasoning::Adaptive(effort) => (*effort)?,
    };
    let least = match facts.reasoning_off {
        Some(least) => least.max(Effort::Minimal),
        None if kind.pro => Effort::Low,
        None => Effort::Minimal,
    };
    if effort == Effort::None {
        notes.add("reasoning (the model thinks as little as it can)");
    }
    Some(Thinking::Level(match effort.max(least) {
        Effort::None | Effort::Minimal => "minimal",
        Effort::Low => "low",
        // Gemini 3 Pro knows the two ends alone.
        Effort::Medium if kind.pro && kind.version == (3, 0) => "high",
        Effort::Medium => "medium",
        Effort::High | Effort::Xhigh | Effort::Max => "high",
    }))
}

fn budget(reasoning: &Reasoning, kind: Kind, notes: &mut Notes) -> Thinking {
    let most: i64 = if kind.pro { 32_768 } else { 24_576 };
    let asked = match reasoning {
        Reasoning::Off | Reasoning::Effort(Effort::None) => 0,
        Reasoning::Budget(budget) => i64::from(*budget),
        // The steps of Google's own OpenAI dialect.
        Reasoning::Effort(effort) | Reasoning::Adaptive(Some(effort)) => match effort {
            Effort::None => 0,
            Effort::Minimal | Effort::Low => 1024,
            Effort::Medium => 8192,
            Effort::High => 24_576,
            Effort::Xhigh | Effort::Max => most,
        },
        Reasoning::Adaptive(None) => return Thinking::Budget(DYNAMIC),
    };
    if asked == 0 && !kind.pro {
        return Thinking::Budget(0);
    }
    let least = if kind.pro {
        128
    } else if kind.lite {
        512
    } else {
        1
    };
    if asked == 0 {
        notes.add("reasoning (the model thinks as little as it can)");
    }
    Thinking::Budget(asked.clamp(least, most))
}
