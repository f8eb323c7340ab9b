//! Rules: conditions over a request, in order, of which the first that holds decides.
//!
//! A condition is an expression in [CEL](https://cel.dev), read once with the configuration. What it may use:
//!
//! | name | value |
//! |---|---|
//! | `model` | the model as the client asked for it |
//! | `endpoint` | as records name it: `chat`, `messages`, `responses`, `raw`, … |
//! | `stream` | whether the answer is to be streamed |
//! | `headers` | a map by lower-case names, without those that hold credentials |
//! | `metadata` | the map that the request came with |
//! | `tags` | the list of `x-strait-tags` |
//! | `user` | of `x-strait-user`, else of the body |
//! | `key` | the name of the caller's key; empty at an open gateway |
//! | `team` | the id of the team that the key belongs to; empty for keys of the configuration |
//! | `session` | as the client names its conversation |
//! | `tokens` | the input, estimated |
//! | `has_images`, `has_tools` | what the request holds |
//! | `hour`, `weekday` | 0 to 23, and `mon` to `sun`, in the rule's time zone |
//! | `region` | where this gateway is (`server.region`) |
//!
//! A rule whose condition fails (it asks for a header that isn't there, say) is passed over, counted and logged once.
//! Only what the rules before the deciding one ask for is made: a rule on `model` alone reads no header and no body.

mod body;
mod check;
mod facts;
mod language;
mod plain;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cel::ExecutionError;
use jiff::tz::TimeZone;

use crate::provider::TimeoutOverrides;

pub use body::metadata_text;
pub use check::ENDPOINTS;
pub use facts::{Request, Said};
pub use language::{Expression, Fault, Meant, compile};

use facts::Facts;

/// The most rules of one configuration.
pub const MOST_RULES: usize = 1000;

/// The rules of one configuration, in order.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

/// One `[[rules]]` table, checked.
#[derive(Debug)]
pub struct Rule {
    /// For records, metrics and the log.
    pub name: Arc<str>,
    pub when: Expression,
    /// Where `hour` and `weekday` are told.
    pub zone: TimeZone,
    pub verdict: Verdict,
    pub timeouts: TimeoutOverrides,
    told: AtomicBool,
}

/// What becomes of a request that a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it came.
    Keep,
    /// It goes to this model instead.
    Use(Arc<str>),
    /// It is refused, with this message.
    Deny(Arc<str>),
}

/// What the rules say of one request.
#[derive(Debug, Default)]
pub struct Decision<'s> {
    pub rule: Option<&'s Rule>,
    /// Rules that could not be asked, and why.
    pub failed: Vec<(&'s Rule, Problem)>,
}

/// Why a rule could not be asked. Says nothing of what the request holds but the name of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The map has no such key.
    NoKey(String),
    /// What was compared or called can't be.
    Types,
    /// Neither true nor false came out.
    NotTruth,
    /// More than one evaluation may look at.
    TooMuch,
    /// A number too large, a division by nothing, an index out of bounds.
    Bounds,
    /// The language itself failed.
    Broken,
}

/// The longest name of a key that is told.
const MOST_NAME: usize = 64;

impl Problem {
    pub fn no_key(name: &str) -> Self {
        Self::NoKey(name.chars().take(MOST_NAME).collect())
    }
}

impl From<ExecutionError> for Problem {
    fn from(error: ExecutionError) -> Self {
        if let ExecutionError::NoSuchKey(name) = &error {
            return Self::no_key(name);
        }
        let is_bounds = matches!(
            error,
            ExecutionError::DivisionByZero(_)
                | ExecutionError::RemainderByZero(_)
                | ExecutionError::Overflow(..)
                | ExecutionError::IndexOutOfBounds(_)
                | ExecutionError::FunctionError { .. }
        );
        if is_bounds { Self::Bounds } else { Self::Types }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NoKey(name) => write!(f, "there is no {name:?}"),
            Problem::Types => f.write_str("values of types that don't go together"),
            Problem::NotTruth => f.write_str("neither true nor false"),
            Problem::TooMuch => f.write_str("more data than a rule may look at"),
            Problem::Bounds => f.write_str("a number or an index out of bounds"),
            Problem::Broken => f.write_str("a fault of the language"),
        }
    }
}

impl Rule {
    pub fn new(
        name: impl Into<Arc<str>>,
        when: Expression,
        zone: TimeZone,
        verdict: Verdict,
        timeouts: TimeoutOverrides,
    ) -> Self {
        Self {
            name: name.into(),
            when,
            zone,
            verdict,
            timeouts,
            told: AtomicBool::new(false),
        }
    }

    /// Returns whether this is the first time that it is asked: what goes to the log goes there once.
    pub fn is_untold(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }
}

impl Rules {
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Finds the first rule that is about a request.
    ///
    /// Where the body passes unread, rules that ask for any of it are passed over.
    pub fn decide(&self, request: &Request<'_>) -> Decision<'_> {
        let facts = Facts::new(request);
        let mut decision = Decision::default();
        for rule in &self.rules {
            if request.said.is_none() && rule.when.is_of_body() {
                continue;
            }
            match rule.when.ask(&facts, &rule.zone) {
                Ok(true) => {
                    decision.rule = Some(rule);
                    break;
                }
                Ok(false) => {}
                Err(problem) => decision.failed.push((rule, problem)),
            }
        }
        decision
    }
}

#[cfg(test)]
mod tests;
