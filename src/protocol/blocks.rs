//! A provider's pieces of text, thinking and calls as the hub's blocks.
//!
//! For protocols whose streams have no blocks of their own, or looser ones: pieces go on with the block that is open
//! or begin the next, and everything is started, closed and ended once, whatever comes.

use std::borrow::Cow;

use super::chat::{Finish, Part, Response};
use super::event::{Block, Delta, Event, Failure, FailureClass};
use super::usage::Usage;
use super::{SCHEMA_TOOL, Shape};

/// How much text is held that a call may replace.
const BESIDE_MAX: usize = 8 * 1024 * 1024;

pub(super) type Each<'e> = &'e mut dyn FnMut(Event<'_>);

/// The answer of one stream, so far.
#[derive(Debug)]
pub(super) struct Blocks {
    phase: Phase,
    shape_id: Box<str>,
    schema_tool: bool,
    id: Box<str>,
    model: Box<str>,
    open: Option<Open>,
    /// The index of the next block.
    next: u32,
    /// Calls that came without an id.
    made: u32,
    called: bool,
    /// With [`Shape::schema_tool`]: what was said beside the call, given out if no call comes.
    beside: String,
    answered_by_tool: bool,
    /// Told before the end.
    pub usage: Option<Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Started,
    Ended,
}

/// The block that the next piece may go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Reasoning,
    Call {
        told: bool,
    },
    /// The call that is the answer's text.
    Answer,
    /// A second one, which would break the first.
    Ignored,
}

impl Blocks {
    pub fn new(shape: &Shape) -> Self {
        Self {
            phase: Phase::Waiting,
            shape_id: shape.id.as_str().into(),
            schema_tool: shape.schema_tool,
            id: Box::default(),
            model: Box::default(),
            open: None,
            next: 0,
            made: 0,
            called: false,
            beside: String::new(),
            answered_by_tool: false,
            usage: None,
        }
    }

    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Keeps what the provider first calls the answer and the model.
    pub fn named(&mut self, id: &str, model: &str) {
        if self.phase != Phase::Waiting {
            return;
        }
        for (kept, told) in [(&mut self.id, id), (&mut self.model, model)] {
            if kept.is_empty() {
                *kept = told.into();
            }
        }
    }

    pub fn start(&mut self, each: Each<'_>) {
        if self.phase != Phase::Waiting {
            return;
        }
        self.phase = Phase::Started;
        if self.id.is_empty() {
            self.id = self.shape_id.clone();
        }
        each(Event::Start {
            id: Cow::Borrowed(&self.id),
            model: Cow::Borrowed(&self.model),
            usage: None,
            service_tier: None,
        });
    }

    pub fn text(&mut self, text: &str, each: Each<'_>) {
        if text.is_empty() || self.answered_by_tool {
            return;
        }
        if self.schema_tool {
            if text.len() > BESIDE_MAX - self.beside.len() {
                let message = "the provider says more beside its answer than can be held";
                return self.fail(FailureClass::Garbage, message, each);
            }
            return self.beside.push_str(text);
        }
        self.tell(text, each);
    }

    fn tell(&mut self, text: &str, each: Each<'_>) {
        let index = self.go_on(Open::Text, Block::Text, each);
        let delta = Delta::Text(Cow::Borrowed(text));
        each(Event::Delta { index, delta });
    }

    pub fn reasoning(&mut self, text: &str, each: Each<'_>) {
        if text.is_empty() {
            return;
        }
        let index = self.go_on(Open::Reasoning, Block::Reasoning, each);
        let delta = Delta::Reasoning(Cow::Borrowed(text));
        each(Event::Delta { index, delta });
    }

    /// Begins a call; an empty `id` gets one.
    pub fn call(&mut self, id: &str, name: &str, each: Each<'_>) {
        self.close(each);
        if self.schema_tool && name == SCHEMA_TOOL {
            self.open = Some(if std::mem::replace(&mut self.answered_by_tool, true) {
                Open::Ignored
            } else {
                self.beside = String::new();
                Open::Answer
            });
            if self.open == Some(Open::Answer) {
                self.begin(Block::Text, each);
            }
            return;
        }
        self.called = true;
        self.made = self.made.saturating_add(1);
        let id = if id.is_empty() {
            Cow::Owned(call_id(&self.shape_id, self.made))
        } else {
            Cow::Borrowed(id)
        };
        let name = Cow::Borrowed(name);
        self.open = Some(Open::Call { told: false });
        self.begin(Block::ToolCall { id, name }, each);
    }

    /// Goes on with the call that is open; without one there is nothing to go on with.
    pub fn arguments(&mut self, piece: &str, each: Each<'_>) {
        if piece.is_empty() {
            return;
        }
        let index = self.last();
        let piece = Cow::Borrowed(piece);
        let delta = match &mut self.open {
            Some(Open::Call { told }) => {
                *told = true;
                Delta::Arguments(piece)
            }
            Some(Open::Answer) => Delta::Text(piece),
            Some(Open::Text | Open::Reasoning | Open::Ignored) | None => return,
        };
        each(Event::Delta { index, delta });
    }

    /// Adds to the text that is open: a citation, log probabilities.
    pub fn on_text(&mut self, delta: Delta<'_>, each: Each<'_>) {
        if self.open == Some(Open::Text) {
            let index = self.last();
            each(Event::Delta { index, delta });
        }
    }

    /// Goes on with the open block if it is of this kind, else begins one.
    fn go_on(&mut self, kind: Open, block: Block<'_>, each: Each<'_>) -> u32 {
        if self.open == Some(kind) {
            return self.last();
        }
        self.close(each);
        self.open = Some(kind);
        self.begin(block, each)
    }

    fn begin(&mut self, block: Block<'_>, each: Each<'_>) -> u32 {
        self.start(each);
        let index = self.next;
        self.next = self.next.saturating_add(1);
        each(Event::Open { index, block });
        index
    }

    fn last(&self) -> u32 {
        self.next.saturating_sub(1)
    }

    pub fn close(&mut self, each: Each<'_>) {
        let index = self.last();
        match self.open.take() {
            None | Some(Open::Ignored) => return,
            Some(Open::Call { told: false }) => {
                let delta = Delta::Arguments(Cow::Borrowed("{}"));
                each(Event::Delta { index, delta });
            }
            Some(Open::Text | Open::Reasoning | Open::Answer | Open::Call { told: true }) => {}
        }
        each(Event::Close { index });
    }

    /// Ends the answer well.
    pub fn done(&mut self, finish: Finish, stop_sequence: Option<&str>, each: Each<'_>) {
        if self.is_ended() {
            return;
        }
        if !self.answered_by_tool && !self.beside.is_empty() {
            let beside = std::mem::take(&mut self.beside);
            self.tell(&beside, each);
        }
        self.ending(each);
        each(Event::Finish {
            reason: agreed(finish, self.called),
            stop_sequence: stop_sequence.map(Cow::Borrowed),
        });
    }

    /// Ends it with an error.
    pub fn fail(&mut self, class: FailureClass, message: &str, each: Each<'_>) {
        if self.is_ended() {
            return;
        }
        self.ending(each);
        let message = Cow::Borrowed(message);
        each(Event::Error(Failure { class, message }));
    }

    /// The provider hung up before the end.
    pub fn cut(&mut self, each: Each<'_>) {
        let message = "the provider hung up in the middle of the answer";
        self.fail(FailureClass::Cut, message, each);
    }

    fn ending(&mut self, each: Each<'_>) {
        self.start(each);
        self.close(each);
        if let Some(usage) = self.usage.take() {
            each(Event::Usage(usage));
        }
        self.phase = Phase::Ended;
    }
}

/// Returns the id of the `n`th call, for one that came without.
pub(super) fn call_id(shape_id: &str, n: u32) -> String {
    format!("call_{shape_id}_{n}")
}

/// Returns the reason that agrees with what the answer holds.
pub(super) fn agreed(finish: Finish, calls: bool) -> Finish {
    match finish {
        Finish::Stop | Finish::Other if calls => Finish::ToolCalls,
        Finish::ToolCalls if !calls => Finish::Stop,
        Finish::Stop
        | Finish::StopSequence
        | Finish::Length
        | Finish::ToolCalls
        | Finish::ContentFilter
        | Finish::Refusal
        | Finish::Pause
        | Finish::ContextWindow
        | Finish::Other => finish,
    }
}

/// Turns the first call of the schema tool into the answer's text, and leaves out what was said around it.
pub(super) fn answer_from_tool(response: &mut Response<'_>) {
    let is_answer =
        |part: &Part<'_>| matches!(part, Part::ToolCall { name, .. } if name == SCHEMA_TOOL);
    if !response.parts.iter().any(is_answer) {
        return;
    }
    response
        .parts
        .retain(|part| !matches!(part, Part::Text { .. }));
    for part in &mut response.parts {
        if is_answer(part)
            && let Part::ToolCall { arguments, .. } = part
        {
            *part = Part::Text {
                text: std::mem::take(arguments).into(),
                cache: None,
                citations: None,
            };
            break;
        }
    }
    // A second one would break the first.
    response.parts.retain(|part| !is_answer(part));
    let calls = response
        .parts
        .iter()
        .any(|part| matches!(part, Part::ToolCall { .. }));
    response.finish = agreed(response.finish, calls);
}
