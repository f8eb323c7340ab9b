//! What a request may say to Anthropic all at once: limits, thinking, sampling, structure and tool choice.
//!
//! These fields constrain each other, so they are decided together, before anything is written. A request of
//! Anthropic's own family is said as it came. For others, what Anthropic would refuse gives way in this order:
//! a forced tool and a schema stand, then thinking, then sampling.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::schema;
use crate::error::{Error, Result};
use crate::protocol::chat::{
    Effort, Format, Message, Part, Reasoning, Request, Role, Tool, ToolChoice,
};
use crate::protocol::text::Reader;
use crate::protocol::{Facts, Protocol, SCHEMA_TOOL};

/// Output tokens where neither the client nor the catalogue says how many; every model can do as many.
const MAX_TOKENS: u32 = 4096;
/// The least that Anthropic takes as a thinking budget.
const BUDGET_MIN: u32 = 1024;
/// How many dropped fields are named.
const NOTES_MAX: usize = 64;

/// The fields that were dropped, each named once.
#[derive(Debug, Default)]
pub(super) struct Notes(pub Vec<String>);

impl Notes {
    pub fn add(&mut self, note: impl AsRef<str> + Into<String>) {
        if self.0.len() < NOTES_MAX && !self.0.iter().any(|known| known == note.as_ref()) {
            self.0.push(note.into());
        }
    }
}

#[derive(Debug)]
pub(super) struct Plan<'r> {
    /// The client speaks Anthropic's own protocol.
    pub same: bool,
    pub max_tokens: u32,
    pub thinking: Option<Thinking>,
    pub effort: Option<Effort>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u32>,
    pub structure: Structure<'r>,
    pub choice: Option<Choice<'r>>,
    pub parallel: Option<bool>,
    /// Tools that the conversation has called and the request does not define: Anthropic wants them defined.
    pub undefined: Vec<&'r str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    Disabled,
    Adaptive,
    Enabled(u32),
}

/// How the answer's form is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Structure<'r> {
    Free,
    /// `output_config.format`.
    Native(&'r RawValue),
    /// The input of a tool that must be called.
    Tool {
        schema: &'r RawValue,
        description: Option<&'r str>,
    },
    /// A sentence in the system prompt: for `json_object`, which has no schema to hold a tool to.
    Instruction,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Choice<'r> {
    Auto,
    Any,
    None,
    Tool(&'r str),
    Raw(&'r RawValue),
}

impl<'r> Plan<'r> {
    pub fn new(request: &'r Request<'_>, facts: &Facts, notes: &mut Notes) -> Result<Self> {
        refuse(request)?;
        let same = request.family == Protocol::Anthropic;
        let undefined = if same || !request.tools.is_empty() {
            Vec::new()
        } else {
            undefined(request)
        };
        let structure = structure(request, facts, same, notes)?;
        let mut plan = Self {
            same,
            max_tokens: 0,
            thinking: None,
            effort: None,
            temperature: request.temperature,
            top_p: request.top_p,
            top_k: request.top_k,
            structure,
            choice: None,
            parallel: None,
            undefined,
        };
        plan.choose_tools(request, notes)?;
        plan.think(request, facts, notes);
        plan.sample(facts, notes);
        mention_unsayable(request, notes);
        Ok(plan)
    }

    fn choose_tools(&mut self, request: &'r Request<'_>, notes: &mut Notes) -> Result<()> {
        self.parallel = request
            .parallel_tools
            .filter(|parallel| self.same || !parallel);
        self.choice = match &request.tool_choice {
            None => None,
            Some(ToolChoice::Auto) => Some(Choice::Auto),
            Some(ToolChoice::None) => Some(Choice::None),
            Some(ToolChoice::Required) => Some(Choice::Any),
            Some(ToolChoice::Named(name)) => Some(Choice::Tool(name)),
            Some(ToolChoice::Opaque {
                family: Protocol::Anthropic,
                raw,
            }) => Some(Choice::Raw(raw)),
            Some(ToolChoice::Opaque { .. }) => {
                return Err(Error::unsupported(
                    "tool_choice",
                    "This tool choice can't be said to an Anthropic model",
                ));
            }
        };
        if let Structure::Tool { .. } = self.structure {
            // With tools of the client's own the model may call one of them first, but must call something.
            let own = !request.tools.is_empty() && !matches!(self.choice, Some(Choice::None));
            self.choice = Some(if own {
                Choice::Any
            } else {
                Choice::Tool(SCHEMA_TOOL)
            });
            if !own {
                self.parallel = Some(false);
            }
        } else if !self.undefined.is_empty() {
            self.choice = Some(Choice::None);
        } else if request.tools.is_empty() && !self.same {
            if self
                .choice
                .take()
                .is_some_and(|choice| matches!(choice, Choice::Any | Choice::Tool(_)))
            {
                notes.add("tool_choice (there are no tools)");
            }
            self.parallel = None;
        }
        Ok(())
    }

    fn think(&mut self, request: &Request<'_>, facts: &Facts, notes: &mut Notes) {
        let field = if self.same {
            "thinking"
        } else {
            "reasoning_effort"
        };
        let asked = request.max_output.or(facts.max_output);
        self.max_tokens = asked.unwrap_or(MAX_TOKENS);
        if !self.same
            && let Some(most) = facts.max_output
            && self.max_tokens > most
        {
            self.max_tokens = most;
            notes.add(format!("max_tokens (lowered to {most})"));
        }
        let Some(reasoning) = &request.reasoning else {
            return;
        };
        let forced = match self.structure {
            Structure::Tool { .. } => true,
            Structure::Free | Structure::Native(_) | Structure::Instruction => {
                !self.same && matches!(self.choice, Some(Choice::Any | Choice::Tool(_)))
            }
        };
        let thinks = !matches!(reasoning, Reasoning::Off | Reasoning::Effort(Effort::None));
        if forced && thinks && !(self.same && matches!(reasoning, Reasoning::Effort(_))) {
            return notes.add(format!("{field} (a tool call is forced)"));
        }
        if self.same {
            (self.thinking, self.effort) = match reasoning {
                Reasoning::Off => (Some(Thinking::Disabled), None),
                Reasoning::Budget(budget) => (Some(Thinking::Enabled(*budget)), None),
                Reasoning::Effort(effort) => (None, Some(*effort)),
                Reasoning::Adaptive(effort) => (Some(Thinking::Adaptive), *effort),
            };
            return;
        }
        let able = facts.reasoning || facts.adaptive_thinking;
        if !thinks {
            self.thinking = able.then_some(Thinking::Disabled);
            return;
        }
        if !able {
            return notes.add(field);
        }
        if turns_backwards(request)
            .next()
            .is_some_and(|last| last.role == Role::Assistant)
        {
            return notes.add(format!("{field} (the last message is the assistant's)"));
        }
        if facts.adaptive_thinking {
            self.thinking = Some(Thinking::Adaptive);
            self.effort = match reasoning {
                Reasoning::Off => None,
                Reasoning::Budget(budget) => Some(effort_of(*budget)),
                Reasoning::Effort(effort) => Some(*effort),
                Reasoning::Adaptive(effort) => *effort,
            };
            // Every adaptive model knows these three; `xhigh` and `max` are known to some, `minimal` to none.
            self.effort = self
                .effort
                .map(|effort| effort.clamp(Effort::Low, Effort::High));
            return;
        }
        if is_unsigned_tool_turn(request) {
            return notes.add(format!(
                "{field} (an earlier tool call has no signed thinking)"
            ));
        }
        let budget = match reasoning {
            Reasoning::Off => return,
            Reasoning::Budget(budget) => *budget,
            Reasoning::Effort(effort) => budget_of(*effort),
            Reasoning::Adaptive(effort) => budget_of(effort.unwrap_or(Effort::Medium)),
        };
        // The budget is part of `max_tokens`, as reasoning is of OpenAI's `max_completion_tokens`, so a limit
        // that the client set stands and the budget leaves a quarter of it to the answer.
        let mut room = self.max_tokens - self.max_tokens / 4;
        if asked.is_none() {
            room = budget.min(u32::MAX - MAX_TOKENS);
            self.max_tokens = MAX_TOKENS + room;
        }
        if self.max_tokens <= BUDGET_MIN {
            return notes.add(format!("{field} (max_tokens leaves no room to think)"));
        }
        self.thinking = Some(Thinking::Enabled(budget.min(room).max(BUDGET_MIN)));
    }

    fn sample(&mut self, facts: &Facts, notes: &mut Notes) {
        let mut drop_all = |plan: &mut Self, why: &str| {
            if plan.temperature.take().is_some() {
                notes.add(format!("temperature ({why})"));
            }
            if plan.top_p.take().is_some() {
                notes.add(format!("top_p ({why})"));
            }
            if plan.top_k.take().is_some() {
                notes.add(format!("top_k ({why})"));
            }
        };
        if facts.no_sampling {
            return drop_all(self, "the model takes no sampling");
        }
        if self.same {
            return;
        }
        if matches!(
            self.thinking,
            Some(Thinking::Enabled(_) | Thinking::Adaptive)
        ) {
            // While it thinks, a model takes these alone, and they change next to nothing.
            self.temperature = self.temperature.filter(|value| *value != 1.0);
            self.top_p = self.top_p.filter(|value| *value < 0.95);
            return drop_all(self, "thinking is on");
        }
        if self.temperature.is_some_and(|value| value > 1.0) {
            self.temperature = Some(1.0);
            notes.add("temperature (clamped to 1)");
        }
        if self.temperature.is_some()
            && let Some(top_p) = self.top_p.take()
            && top_p < 1.0
        {
            // Models since Claude 4.1 refuse the two together.
            notes.add("top_p (temperature is given)");
        }
    }
}

/// Refuses what would change the answer's meaning if it were dropped.
fn refuse(request: &Request<'_>) -> Result<()> {
    if request.n.is_some_and(|n| n > 1) {
        return Err(Error::unsupported(
            "n",
            "Anthropic models give one answer: `n` must be 1",
        ));
    }
    if let Some(field) = crate::protocol::notes::logprobs(request) {
        return Err(Error::unsupported(
            field,
            "Anthropic models tell no log probabilities",
        ));
    }
    if request
        .logit_bias
        .is_some_and(|bias| bias.get().contains('"'))
    {
        return Err(Error::unsupported(
            "logit_bias",
            "Anthropic models take no logit bias",
        ));
    }
    for (name, raw) in &request.extra {
        let what = match &**name {
            _ if request.family == Protocol::Anthropic => break,
            "modalities" if !asks_for_audio(raw) => continue,
            "modalities" | "audio" => "Anthropic models answer in text alone",
            "web_search_options" => "This way of searching the web is OpenAI's alone",
            _ => continue,
        };
        return Err(Error::unsupported(name.to_string(), what));
    }
    Ok(())
}

fn asks_for_audio(modalities: &RawValue) -> bool {
    let read = Reader::of(modalities.get()).list(Reader::string);
    read.is_ok_and(|words| words.iter().any(|word| word == "audio"))
}

/// Names what Anthropic has no word for and the answer can do without.
fn mention_unsayable(request: &Request<'_>, notes: &mut Notes) {
    if request
        .frequency_penalty
        .is_some_and(|penalty| penalty != 0.0)
    {
        notes.add("frequency_penalty");
    }
    if request
        .presence_penalty
        .is_some_and(|penalty| penalty != 0.0)
    {
        notes.add("presence_penalty");
    }
    if request.seed.is_some() {
        notes.add("seed");
    }
    if request.verbosity.is_some() {
        notes.add("verbosity");
    }
    if request.metadata.is_some() {
        notes.add("metadata");
    }
}

fn structure<'r>(
    request: &'r Request<'_>,
    facts: &Facts,
    same: bool,
    notes: &mut Notes,
) -> Result<Structure<'r>> {
    let (schema, description) = match &request.format {
        None | Some(Format::Text) => return Ok(Structure::Free),
        Some(Format::JsonObject) => {
            notes.add("response_format (json_object is asked for in words)");
            return Ok(Structure::Instruction);
        }
        Some(Format::JsonSchema {
            schema,
            description,
            ..
        }) => (*schema, description.as_deref()),
    };
    if facts.json_schema == Some(true) && (same || schema::is_native(schema)) {
        return Ok(Structure::Native(schema));
    }
    if matches!(
        request.tool_choice,
        Some(ToolChoice::Required | ToolChoice::Named(_))
    ) {
        // This turn is to be a call, not the structured answer.
        notes.add("response_format (a tool call is required)");
        return Ok(Structure::Free);
    }
    let taken = request.tools.iter().any(|tool| match tool {
        Tool::Function { name, .. } | Tool::Opaque { name, .. } => name == SCHEMA_TOOL,
    });
    if taken {
        return Err(Error::unsupported(
            "tools",
            format!("A tool can't be called `{SCHEMA_TOOL}` beside structured output"),
        ));
    }
    Ok(Structure::Tool {
        schema,
        description,
    })
}

/// The conversation from its end, without system messages.
fn turns_backwards<'r, 'b>(request: &'r Request<'b>) -> impl Iterator<Item = &'r Message<'b>> {
    request
        .messages
        .iter()
        .rev()
        .filter(|message| matches!(message.role, Role::User | Role::Assistant))
}

/// Returns whether the conversation is in the middle of a tool's use and its assistant turn has no thinking.
///
/// With a thinking budget Anthropic refuses such a turn unless it starts with the thinking that led to it.
fn is_unsigned_tool_turn(request: &Request<'_>) -> bool {
    let mut turns = turns_backwards(request).peekable();
    let mut results = false;
    while let Some(message) = turns.next_if(|message| message.role == Role::User) {
        results |= message
            .parts
            .iter()
            .any(|part| matches!(part, Part::ToolResult { .. }));
    }
    let signed = turns
        .take_while(|message| message.role == Role::Assistant)
        .any(|message| {
            message.parts.iter().any(|part| match part {
                Part::Reasoning { signature, .. } => {
                    signature.as_ref().is_some_and(|s| !s.is_empty())
                }
                Part::RedactedReasoning { .. } => true,
                Part::Text { .. }
                | Part::Refusal { .. }
                | Part::Image { .. }
                | Part::Audio { .. }
                | Part::File { .. }
                | Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Opaque { .. } => false,
            })
        });
    results && !signed
}

fn undefined<'r>(request: &'r Request<'_>) -> Vec<&'r str> {
    let mut seen = HashSet::new();
    let parts = request.messages.iter().flat_map(|message| &message.parts);
    parts
        .filter_map(|part| match part {
            Part::ToolCall { name, .. } if seen.insert(name.as_ref()) => Some(name.as_ref()),
            Part::ToolCall { .. }
            | Part::Text { .. }
            | Part::Refusal { .. }
            | Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolResult { .. }
            | Part::Reasoning { .. }
            | Part::RedactedReasoning { .. }
            | Part::Opaque { .. } => None,
        })
        .collect()
}

/// | effort | none | minimal | low | medium | high | xhigh, max |
/// |---|---|---|---|---|---|---|
/// | tokens | 0 | 1024 | 2048 | 8192 | 24576 | 32768 |
fn budget_of(effort: Effort) -> u32 {
    match effort {
        Effort::None => 0,
        Effort::Minimal => 1024,
        Effort::Low => 2048,
        Effort::Medium => 8192,
        Effort::High => 24_576,
        Effort::Xhigh | Effort::Max => 32_768,
    }
}

fn effort_of(budget: u32) -> Effort {
    match budget {
        0..=2048 => Effort::Low,
        2049..=8192 => Effort::Medium,
        _ => Effort::High,
    }
}
