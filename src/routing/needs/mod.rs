//! What a request needs of a model, and which target is known to lack it.
//!
//! Only what some target lacks is looked for, and only where it can stand: first a search for the bytes that any such
//! request has, then, where they are found, a walk over the conversation that takes nothing but the parts of a
//! message for one: what a text says, what a tool is called with or what a schema describes is no need.
//!
//! What the catalogue doesn't say of a model it may be able to do: an unknown model lacks nothing.

use std::fmt;
use std::ops::Range;

use crate::codec::json::{self, Member};
use crate::error::{Error, Kind};
use crate::protocol::Protocol;
use crate::protocol::api;
use crate::protocol::envelope::Envelope;
use crate::provider::catalogue::{Cap, Model};

mod fields;
mod parts;

/// An estimate of the input may be so much too high, in hundredths, before a window counts as too small: a refusal of
/// what would have fit is worse than a call that fails.
const MARGIN: u64 = 115;
/// Targets that a refusal names.
const MOST_NAMED: usize = 8;

/// Something that not every model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    Images,
    Audio,
    Pdf,
    Video,
    /// An answer that is spoken.
    Speech,
    Tools,
    /// An answer that fits a JSON schema.
    Schema,
    Reasoning,
    Stream,
}

impl Need {
    pub const ALL: [Need; 9] = [
        Need::Images,
        Need::Audio,
        Need::Pdf,
        Need::Video,
        Need::Speech,
        Need::Tools,
        Need::Schema,
        Need::Reasoning,
        Need::Stream,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Need::Images => "images",
            Need::Audio => "audio",
            Need::Pdf => "PDF documents",
            Need::Video => "video",
            Need::Speech => "spoken answers",
            Need::Tools => "tools",
            Need::Schema => "JSON schemas",
            Need::Reasoning => "reasoning",
            Need::Stream => "streaming",
        }
    }

    fn is_lacked_by(self, model: &Model) -> bool {
        match self {
            Need::Images => model.lacks(Cap::Vision),
            Need::Audio => model.lacks(Cap::AudioIn),
            Need::Pdf => model.lacks(Cap::Pdf),
            Need::Video => model.lacks(Cap::VideoIn),
            Need::Speech => model.lacks(Cap::AudioOut),
            Need::Tools => model.lacks(Cap::Tools),
            Need::Schema => model.lacks(Cap::JsonSchema),
            Need::Reasoning => model.lacks(Cap::Reasoning),
            Need::Stream => model.can(Cap::NoStream),
        }
    }
}

/// A set of needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Set(u16);

impl Set {
    pub const ALL: Set = Set((1 << Need::ALL.len()) - 1);

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn has(self, need: Need) -> bool {
        self.0 & 1 << need as u16 != 0
    }

    pub fn insert(&mut self, need: Need) {
        self.0 |= 1 << need as u16;
    }

    fn has_any(self, needs: &[Need]) -> bool {
        needs.iter().any(|need| self.has(*need))
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn first(self) -> Option<Need> {
        Need::ALL.into_iter().find(|need| self.has(*need))
    }
}

impl FromIterator<Need> for Set {
    fn from_iter<I: IntoIterator<Item = Need>>(needs: I) -> Self {
        let mut set = Self::default();
        needs.into_iter().for_each(|need| set.insert(need));
        set
    }
}

/// The bounds of a model, or the narrowest of several: what a request is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub lacks: Set,
    /// Tokens of input and output together; `u64::MAX` where it isn't known.
    pub context: u64,
    /// Tokens of input.
    pub input: u64,
    pub output: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            lacks: Set::default(),
            context: u64::MAX,
            input: u64::MAX,
            output: u64::MAX,
        }
    }
}

impl Bounds {
    /// Returns what is known of a model; nothing of one that the catalogue doesn't have.
    pub fn of(model: Option<&Model>) -> Self {
        let Some(model) = model else {
            return Self::default();
        };
        let known =
            |tokens: Option<u32>| tokens.filter(|many| *many > 0).map_or(u64::MAX, u64::from);
        let lacked = Need::ALL.into_iter();
        Self {
            lacks: lacked.filter(|need| need.is_lacked_by(model)).collect(),
            context: known(model.context),
            input: known(model.max_input).min(known(model.context)),
            output: known(model.max_output),
        }
    }

    /// Returns what fits into both.
    pub fn and(self, other: Self) -> Self {
        Self {
            lacks: self.lacks.or(other.lacks),
            context: self.context.min(other.context),
            input: self.input.min(other.input),
            output: self.output.min(other.output),
        }
    }

    /// Returns whether nothing is known to be lacking: then no request need be looked at.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether no target within these bounds can lack anything of what is needed.
    pub fn hold(&self, needs: &Needs) -> bool {
        let output = needs.output.unwrap_or(0);
        self.lacks.and(needs.set).is_empty()
            && needs.input <= self.input
            && output <= self.output
            && needs.input.saturating_add(output) <= self.context
    }

    /// Returns what a target with these bounds lacks of what is needed.
    ///
    /// `translates`: it is asked in another protocol than the client's. Then our own translation keeps an answer's
    /// bound within the model's, asks for a schema by way of a tool and leaves reasoning out, and says so: such a
    /// lack is [`Missing::bends`].
    pub fn miss(&self, needs: &Needs, translates: bool) -> Option<Missing> {
        let lacking = self.lacks.and(needs.set);
        let tools = !self.lacks.has(Need::Tools);
        let bends =
            |need: Need| translates && (need == Need::Reasoning || need == Need::Schema && tools);
        let hard = Need::ALL.into_iter();
        let hard = hard.filter(|need| lacking.has(*need) && !bends(*need));
        if let Some(need) = hard.clone().next() {
            return Some(Missing::Need { need, bends: false });
        }
        let over =
            |tokens: u64, most: u64| tokens.saturating_mul(100) > most.saturating_mul(MARGIN);
        if over(needs.input, self.input) {
            return Some(Missing::Context {
                most: self.input,
                input: needs.input,
                output: None,
            });
        }
        // Where the catalogue says that an answer may fill the window, it means that nobody knows its own limit.
        let output = needs.output.filter(|_| self.output != self.context);
        let output = output.map(|asked| asked.min(self.output));
        if let Some(output) = output
            && over(needs.input, self.context.saturating_sub(output))
            && output < self.context
        {
            return Some(Missing::Context {
                most: self.context,
                input: needs.input,
                output: Some(output),
            });
        }
        if let Some(asked) = needs.output.filter(|asked| *asked > self.output) {
            return Some(Missing::Output {
                most: self.output,
                asked,
                bends: translates,
            });
        }
        lacking
            .first()
            .map(|need| Missing::Need { need, bends: true })
    }
}

/// What one request needs, as far as it could matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    pub set: Set,
    /// Tokens of input, estimated.
    pub input: u64,
    /// The most tokens that the client will have.
    pub output: Option<u64>,
}

impl Needs {
    /// Returns what a chat needs of what `narrowest` (the bounds of all its targets together) shows some to lack.
    pub fn of(
        envelope: &Envelope<'_>,
        body: &[u8],
        protocol: Protocol,
        narrowest: &Bounds,
    ) -> Self {
        let mut needs = Self {
            set: Set::default(),
            input: envelope.estimate_input(),
            output: envelope.max_output,
        };
        if narrowest.is_open() {
            return needs;
        }
        let all = needs.input.saturating_add(needs.output.unwrap_or(0));
        if needs.input > narrowest.input || all > narrowest.context {
            // The quick estimate is of bytes alone. Before it counts against anyone, the text is read.
            needs.input = api::estimate_tokens_of(protocol, &envelope.model, body);
        }
        let wanted = narrowest.lacks;
        if wanted.has(Need::Stream) && envelope.stream {
            needs.set.insert(Need::Stream);
        }
        fields::look(body, &envelope.members, protocol, wanted, &mut needs.set);
        let conversation = body.get(envelope.conversation.clone());
        parts::look(
            conversation.unwrap_or_default(),
            protocol,
            wanted,
            &mut needs.set,
        );
        needs
    }
}

/// Returns whether a conversation holds an image.
pub fn has_images(body: &[u8], envelope: &Envelope<'_>, protocol: Protocol) -> bool {
    let conversation = body.get(envelope.conversation.clone());
    let wanted = Set::from_iter([Need::Images]);
    let mut found = Set::default();
    parts::look(
        conversation.unwrap_or_default(),
        protocol,
        wanted,
        &mut found,
    );
    found.has(Need::Images)
}

/// What a target lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Need {
        need: Need,
        bends: bool,
    },
    Context {
        most: u64,
        input: u64,
        output: Option<u64>,
    },
    Output {
        most: u64,
        asked: u64,
        bends: bool,
    },
}

impl Missing {
    /// Returns whether our own translation makes do without: such a target is asked when nobody lacks nothing.
    pub fn bends(&self) -> bool {
        match self {
            Missing::Need { bends, .. } | Missing::Output { bends, .. } => *bends,
            Missing::Context { .. } => false,
        }
    }

    /// Returns the field of a `protocol` request that asks for it.
    pub fn param(&self, protocol: Protocol, body: &[u8], members: &[Member]) -> &'static str {
        match self {
            Missing::Need { need, .. } => fields::of_need(*need, protocol),
            Missing::Context { .. } => conversation(protocol),
            Missing::Output { .. } => {
                let has = |name: &str| {
                    let mut keys = members.iter();
                    keys.any(|member| json::key(body, member) == name)
                };
                fields::of_output(protocol, has("max_completion_tokens"))
            }
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Need { need, .. } => write!(f, "no {}", need.name()),
            Missing::Context {
                most,
                input,
                output: None,
            } => {
                write!(f, "context {most} < {input} tokens")
            }
            Missing::Context {
                most,
                input,
                output: Some(output),
            } => {
                write!(f, "context {most} < {input} + {output} tokens")
            }
            Missing::Output { most, asked, .. } => write!(f, "output limit {most} < {asked}"),
        }
    }
}

/// Returns the 400 of a request that no target of `model` can answer: which field asks for it, and what each lacks.
///
/// `missing` names the targets as `provider/model`, in the order in which they would have been asked; never empty.
pub fn refusal(
    model: &str,
    protocol: Protocol,
    body: &[u8],
    members: &[Member],
    missing: &[(String, Missing)],
) -> Error {
    let shown: String = model.chars().take(100).collect();
    let first = missing.first().map(|(_, missing)| *missing);
    let param = first.map_or("model", |missing| missing.param(protocol, body, members));
    let is_context = |(_, missing): &(String, Missing)| matches!(missing, Missing::Context { .. });
    let (kind, begin) = if missing.iter().all(is_context) {
        // The words by which clients know that they must shorten.
        (
            Kind::ContextExceeded,
            format!("The prompt is too long for every target of `{shown}`"),
        )
    } else {
        (
            Kind::Unsupported,
            format!("No target of `{shown}` can do what this request needs"),
        )
    };
    let mut message = begin;
    for (at, (name, missing)) in missing.iter().take(MOST_NAMED).enumerate() {
        let between = if at == 0 { ": " } else { "; " };
        message.push_str(&format!("{between}{name}: {missing}"));
    }
    if missing.len() > MOST_NAMED {
        message.push_str(&format!("; and {} more", missing.len() - MOST_NAMED));
    }
    message.push('.');
    Error {
        param: Some(param.into()),
        ..Error::new(kind, message)
    }
}

fn conversation(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::OpenaiChat
        | Protocol::Anthropic
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => "messages",
        Protocol::OpenaiResponses => "input",
        Protocol::OpenaiCompletions => "prompt",
        Protocol::Gemini => "contents",
    }
}

/// Returns the text of a string's place, where there is one.
fn text<'b>(body: &'b [u8], value: &Range<usize>) -> Option<std::borrow::Cow<'b, str>> {
    json::string(body, value.clone())
}
