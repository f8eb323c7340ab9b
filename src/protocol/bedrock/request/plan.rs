//! What a request may say all at once: limits, thinking, sampling, structure and tool choice.
//!
//! These fields constrain each other, so they are decided together, before anything is written. A request of Bedrock's
//! own family is said as it came. For others, what the model would refuse gives way in this order: a forced tool and a
//! schema stand, then thinking, then sampling.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::style::{self, Style};
use crate::error::{Error, Result};
use crate::protocol::anthropic::request::schema;
use crate::protocol::chat::{
    Effort, Format, Message, Part, Reasoning, Request, Role, Tool, ToolChoice,
};
use crate::protocol::text::Reader;
use crate::protocol::{Facts, Protocol, SCHEMA_TOOL, provenance};

/// Tokens for the answer beside a thinking budget, where the client does not say how many.
const ROOM: u32 = 4096;
/// The least that Claude takes as a thinking budget.
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
    /// The client speaks Bedrock's own protocol.
    pub same: bool,
    pub style: Style,
    pub max_tokens: Option<u32>,
    pub thinking: Option<Thinking>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u32>,
    pub structure: Structure<'r>,
    pub choice: Option<Choice<'r>>,
    /// The tools may be named, though none is to be called.
    pub tools: bool,
    /// Tools that the conversation has called and the request does not define: Bedrock wants them defined.
    pub undefined: Vec<&'r str>,
}

/// How much to think, in the model's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    Disabled,
    Adaptive(Option<Effort>),
    Enabled(u32),
    /// Claude's effort without a word on thinking.
    Effort(Effort),
    NovaOff,
    Nova(&'static str),
    Openai(&'static str),
    Qwen(&'static str),
}

/// How the answer's form is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Structure<'r> {
    Free,
    /// `outputConfig.textFormat`.
    Native {
        schema: &'r RawValue,
        name: Option<&'r str>,
        description: Option<&'r str>,
    },
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
    Tool(&'r str),
    Raw(&'r RawValue),
}

impl<'r> Plan<'r> {
    pub fn new(
        request: &'r Request<'_>,
        model: &str,
        facts: &Facts,
        notes: &mut Notes,
    ) -> Result<Self> {
        refuse(request)?;
        let same = request.family == Protocol::Bedrock;
        let structure = structure(request, model, facts, same, notes)?;
        let mut plan = Self {
            same,
            style: Style::of(model, facts),
            max_tokens: request.max_output,
            thinking: None,
            temperature: request.temperature,
            top_p: request.top_p,
            top_k: request.top_k,
            structure,
            choice: None,
            tools: true,
            undefined: Vec::new(),
        };
        plan.choose_tools(request, notes)?;
        plan.limit(facts, notes);
        if let Some(reasoning) = &request.reasoning {
            plan.think(request, reasoning, facts, notes);
        }
        plan.sample(facts, notes);
        mention_unsayable(request, notes);
        Ok(plan)
    }

    fn choose_tools(&mut self, request: &'r Request<'_>, notes: &mut Notes) -> Result<()> {
        let called = called(request);
        if request.tools.is_empty() && !self.same {
            self.undefined = called.iter().copied().collect();
            self.undefined.sort_unstable();
        }
        if request.parallel_tools == Some(false) && !request.tools.is_empty() {
            notes.add("parallel_tool_calls");
        }
        self.choice = match &request.tool_choice {
            None => None,
            Some(ToolChoice::Auto) => Some(Choice::Auto),
            Some(ToolChoice::None) => {
                // Bedrock has no word for it, and demands tools where the conversation used some.
                self.tools = !called.is_empty();
                if self.tools && !request.tools.is_empty() {
                    notes.add("tool_choice (none can't be said while tools are in use)");
                }
                None
            }
            Some(ToolChoice::Required) => Some(Choice::Any),
            Some(ToolChoice::Named(name)) => Some(Choice::Tool(name)),
            Some(ToolChoice::Opaque {
                family: Protocol::Bedrock,
                raw,
            }) => Some(Choice::Raw(raw)),
            Some(ToolChoice::Opaque { .. }) => {
                return Err(Error::unsupported(
                    "tool_choice",
                    "This tool choice can't be said to a model of Bedrock",
                ));
            }
        };
        if let Structure::Tool { .. } = self.structure {
            // With tools of the client's own the model may call one of them first, but must call something.
            let own =
                !request.tools.is_empty() && !matches!(request.tool_choice, Some(ToolChoice::None));
            self.choice = Some(if own {
                Choice::Any
            } else {
                Choice::Tool(SCHEMA_TOOL)
            });
        } else if request.tools.is_empty()
            && let Some(choice) = self.choice.take()
            && matches!(choice, Choice::Any | Choice::Tool(_))
        {
            notes.add("tool_choice (there are no tools)");
        }
        Ok(())
    }

    fn limit(&mut self, facts: &Facts, notes: &mut Notes) {
        if !self.same
            && let Some(most) = facts.max_output
            && self.max_tokens.is_some_and(|asked| asked > most)
        {
            self.max_tokens = Some(most);
            notes.add(format!("max_tokens (lowered to {most})"));
        }
    }

    fn think(
        &mut self,
        request: &Request<'_>,
        reasoning: &Reasoning,
        facts: &Facts,
        notes: &mut Notes,
    ) {
        let field = match request.family {
            Protocol::Bedrock => "additionalModelRequestFields",
            Protocol::Anthropic => "thinking",
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Gemini
            | Protocol::Cohere
            | Protocol::Ollama => "reasoning_effort",
        };
        let effort = style::effort(reasoning);
        match self.style {
            Style::Claude => self.think_as_claude(request, reasoning, facts, field, notes),
            Style::Nova2 => {
                self.thinking = Some(match effort.map(style::three) {
                    None => Thinking::NovaOff,
                    Some("high") if self.max_tokens.is_some() => {
                        notes.add(format!("{field} (high takes no max_tokens: medium)"));
                        Thinking::Nova("medium")
                    }
                    Some(word) => Thinking::Nova(word),
                });
            }
            Style::Openai => match effort {
                Some(effort) => self.thinking = Some(Thinking::Openai(style::three(effort))),
                None => notes.add(format!("{field} (the model always thinks)")),
            },
            // It does not think unless it is told to.
            Style::Qwen => self.thinking = effort.map(style::two).map(Thinking::Qwen),
            Style::Other if self.same => {
                self.thinking = match reasoning {
                    Reasoning::Off => Some(Thinking::Disabled),
                    Reasoning::Budget(budget) => Some(Thinking::Enabled(*budget)),
                    Reasoning::Effort(effort) => Some(Thinking::Openai(style::three(*effort))),
                    Reasoning::Adaptive(effort) => Some(Thinking::Adaptive(*effort)),
                };
            }
            Style::Nova | Style::Other => {
                if effort.is_some() {
                    notes.add(field);
                }
            }
        }
    }

    fn think_as_claude(
        &mut self,
        request: &Request<'_>,
        reasoning: &Reasoning,
        facts: &Facts,
        field: &str,
        notes: &mut Notes,
    ) {
        if self.same {
            self.thinking = Some(match reasoning {
                Reasoning::Off => Thinking::Disabled,
                Reasoning::Budget(budget) => Thinking::Enabled(*budget),
                Reasoning::Effort(effort) => Thinking::Effort(*effort),
                Reasoning::Adaptive(effort) => Thinking::Adaptive(*effort),
            });
            return;
        }
        let able = facts.reasoning || facts.adaptive_thinking;
        let Some(effort) = style::effort(reasoning) else {
            self.thinking = able.then_some(Thinking::Disabled);
            return;
        };
        if !able {
            return notes.add(field);
        }
        if matches!(self.choice, Some(Choice::Any | Choice::Tool(_))) {
            return notes.add(format!("{field} (a tool call is forced)"));
        }
        if turns_backwards(request)
            .next()
            .is_some_and(|last| last.role == Role::Assistant)
        {
            return notes.add(format!("{field} (the last message is the assistant's)"));
        }
        if facts.adaptive_thinking {
            // Every adaptive model knows these three; `xhigh` and `max` are known to some, `minimal` to none.
            let told = !matches!(reasoning, Reasoning::Adaptive(None));
            let effort = told.then(|| effort.clamp(Effort::Low, Effort::High));
            self.thinking = Some(Thinking::Adaptive(effort));
            return;
        }
        if is_unsigned_tool_turn(request) {
            return notes.add(format!(
                "{field} (an earlier tool call has no signed thinking)"
            ));
        }
        let budget = match reasoning {
            Reasoning::Budget(budget) => *budget,
            Reasoning::Off | Reasoning::Effort(_) | Reasoning::Adaptive(_) => {
                style::budget_of(effort)
            }
        };
        // The budget is part of `maxTokens`, so a limit that the client set stands and the budget leaves a quarter
        // of it to the answer.
        let room = match self.max_tokens {
            Some(most) => most - most / 4,
            None => {
                let most = facts.max_output.unwrap_or(u32::MAX);
                let room = budget.min(most.saturating_sub(ROOM));
                self.max_tokens = Some(room.saturating_add(ROOM).min(most));
                room
            }
        };
        if self.max_tokens.is_some_and(|most| most <= BUDGET_MIN) {
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
        let thinks = match self.thinking {
            Some(Thinking::Enabled(_) | Thinking::Adaptive(_)) => true,
            Some(Thinking::Nova(word)) => word == "high",
            Some(
                Thinking::Disabled
                | Thinking::Effort(_)
                | Thinking::NovaOff
                | Thinking::Openai(_)
                | Thinking::Qwen(_),
            )
            | None => false,
        };
        if thinks {
            // While it thinks, a model takes these alone, and they change next to nothing.
            self.temperature = self.temperature.filter(|value| *value != 1.0);
            self.top_p = self.top_p.filter(|value| *value < 0.95);
            return drop_all(self, "thinking is on");
        }
        if self.temperature.is_some_and(|value| value > 1.0) {
            self.temperature = Some(1.0);
            notes.add("temperature (clamped to 1)");
        }
        if self.style == Style::Claude
            && self.temperature.is_some()
            && let Some(top_p) = self.top_p.take()
            && top_p < 1.0
        {
            // Models since Claude 4.1 refuse the two together.
            notes.add("top_p (temperature is given)");
        }
        if !matches!(self.style, Style::Claude | Style::Nova | Style::Nova2)
            && self.top_k.take().is_some()
        {
            notes.add("top_k");
        }
    }
}

/// Refuses what would change the answer's meaning if it were dropped.
fn refuse(request: &Request<'_>) -> Result<()> {
    if request.n.is_some_and(|n| n > 1) {
        return Err(Error::unsupported(
            "n",
            "Models of Bedrock give one answer: `n` must be 1",
        ));
    }
    if let Some(field) = crate::protocol::notes::logprobs(request) {
        return Err(Error::unsupported(
            field,
            "Bedrock tells no log probabilities",
        ));
    }
    if request
        .logit_bias
        .is_some_and(|bias| bias.get().contains('"'))
    {
        return Err(Error::unsupported(
            "logit_bias",
            "Bedrock takes no logit bias",
        ));
    }
    for (name, raw) in &request.extra {
        let what = match &**name {
            _ if request.family != Protocol::OpenaiChat => break,
            "modalities" if !asks_for_audio(raw) => continue,
            "modalities" | "audio" => "Models of Bedrock answer in text alone",
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

/// Names what Bedrock has no word for and the answer can do without.
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
    if request.user.is_some() {
        notes.add(match request.family {
            Protocol::Anthropic => "metadata.user_id",
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Gemini
            | Protocol::Bedrock
            | Protocol::Cohere
            | Protocol::Ollama => "user",
        });
    }
}

fn structure<'r>(
    request: &'r Request<'_>,
    model: &str,
    facts: &Facts,
    same: bool,
    notes: &mut Notes,
) -> Result<Structure<'r>> {
    let (schema, name, description) = match &request.format {
        None | Some(Format::Text) => return Ok(Structure::Free),
        Some(Format::JsonObject) => {
            notes.add("response_format (json_object is asked for in words)");
            return Ok(Structure::Instruction);
        }
        Some(Format::JsonSchema {
            schema,
            name,
            description,
            ..
        }) => (*schema, name.as_deref(), description.as_deref()),
    };
    if same || style::takes_schema(model, facts) && schema::is_native(schema) {
        return Ok(Structure::Native {
            schema,
            name,
            description,
        });
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

/// Returns whether the conversation is in the middle of a tool's use and its assistant turn has no thinking that
/// Claude would know again: with a thinking budget it refuses such a turn.
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
                Part::Reasoning {
                    signature: Some(blob),
                    ..
                }
                | Part::RedactedReasoning { data: blob } => {
                    provenance::maker(blob).0 == Protocol::Bedrock
                }
                Part::Reasoning {
                    signature: None, ..
                }
                | Part::Text { .. }
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

/// Returns the tools that the conversation has called.
fn called<'r>(request: &'r Request<'_>) -> HashSet<&'r str> {
    let parts = request.messages.iter().flat_map(|message| &message.parts);
    parts
        .filter_map(|part| match part {
            Part::ToolCall { name, .. } => Some(name.as_ref()),
            Part::Text { .. }
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
