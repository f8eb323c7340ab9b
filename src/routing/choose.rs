//! Who is asked, in which order, and who is passed over: decided once for each request, before anything is sent.

use std::sync::Arc;

use super::affinity::Pin;
use super::screen::{Reason, Screen};
use super::smart::{self, Difficulty};
use super::strategy::{self, Ranked};
use super::{Candidate, Route};

/// What choosing needs to know of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    pub stream: bool,
    /// Estimated tokens of the input.
    pub input: u64,
    /// The bound that the request sets on its answer, in tokens.
    pub output: Option<u64>,
    /// Names the conversation, where the client said which: of one session, the same targets are chosen.
    pub session: Option<u64>,
    /// What `smart` models of the routes make of the prompt.
    pub difficulty: Difficulty,
}

/// One who may answer. A choice of a thousand holds a thousand: they borrow their routes.
#[derive(Clone, Copy)]
pub struct Pick<'r> {
    pub route: &'r Arc<Route>,
    pub target: usize,
    /// What the strategy made of it, where it scores: less is better. Of `smart`, how hard the prompt is.
    pub score: Option<f64>,
}

impl<'r> Pick<'r> {
    pub fn candidate(&self) -> &'r Candidate {
        &self.route.targets[self.target]
    }
}

/// One who may not answer this request.
pub struct Passed<'r> {
    pub route: &'r Arc<Route>,
    pub target: usize,
    pub reason: Reason,
}

impl<'r> Passed<'r> {
    pub fn candidate(&self) -> &'r Candidate {
        &self.route.targets[self.target]
    }
}

/// Those who may answer, in the order of asking; those who may not, with the reason.
#[derive(Default)]
pub struct Choice<'r> {
    pub picks: Vec<Pick<'r>>,
    pub passed: Vec<Passed<'r>>,
}

impl Choice<'_> {
    /// Returns whether there was anything to decide.
    pub fn is_open(&self) -> bool {
        self.picks.len() > 1 || !self.passed.is_empty()
    }
}

/// Chooses among the targets of `chain`, whose first route is the one asked for and whose others are fallbacks.
///
/// `pin` names who answered the conversation before: among the first route's targets it goes first, unless
/// the prompt is harder than its tier is for. `screen` says who may not answer.
pub fn choose<'r>(
    chain: &'r [Arc<Route>],
    asked: &Asked,
    pin: Option<&Pin>,
    screen: &Screen<'_>,
) -> Choice<'r> {
    let mut choice = Choice {
        picks: Vec::with_capacity(chain.iter().map(|route| route.targets.len()).sum()),
        passed: Vec::new(),
    };
    for (position, route) in chain.iter().enumerate() {
        let mut order = strategy::order(route, asked, pin.filter(|_| position == 0));
        let holds = |pin: &&Pin| position == 0 && !smart::outgrows(route, &asked.difficulty, pin);
        if let Some(pin) = pin.filter(holds) {
            let is_pinned = |ranked: &Ranked| pin.is_target(&route.targets[ranked.target]);
            if let Some(place) = order.iter().position(is_pinned) {
                // The others keep their order.
                order[..=place].rotate_right(1);
            }
        }
        let picks = order.into_iter().map(|Ranked { target, score }| Pick {
            route,
            target,
            score,
        });
        choice.picks.extend(picks);
    }
    screen.sift(chain, &mut choice);
    choice
}
