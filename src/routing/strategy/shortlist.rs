//! The front of a long list: of hundreds of targets those that may well be the best for one kind of request.
//!
//! To compare a thousand targets takes longer than all else that is done for a request. So all of them are compared
//! now and then, for each kind of request by itself (a stream or not, how long in, how long out), and each request
//! compares the front anew: one half of it is the best by what is known, the other those that may turn out better.
//! Who isn't in front comes behind it, in the order of the list.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::rank::{Common, Ranked};
use crate::routing::choose::Asked;
use crate::routing::{Strategy, stats};

/// From so many targets on there is a list.
pub const LONG: usize = 65;
/// So many are compared by each request.
const FRONT: usize = 48;
/// A list older than this is made anew, by one of those who ask for it; the others take it as it is.
const FRESH: Duration = Duration::from_millis(500);
/// Lists that are kept; two kinds at one place replace each other.
const KINDS: usize = 256;
/// Who is so many deviations better than its mean is as good as one may hope.
pub const HOPE: f32 = 2.0;

/// The lists of one model.
pub struct Shortlists {
    places: Box<[ArcSwapOption<Shortlist>]>,
}

pub struct Shortlist {
    kind: Kind,
    made: Instant,
    is_renewed: AtomicBool,
    /// All of them by their places, the front first.
    order: Vec<u32>,
    pub common: Common,
}

/// What requests have in common that are given the same list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    stream: bool,
    /// Tokens in, in steps.
    input: u8,
    /// The bound on tokens out, in steps.
    output: Option<u8>,
}

impl Kind {
    pub fn of(strategy: Strategy, asked: &Asked) -> Self {
        let by_time = strategy == Strategy::Latency;
        let input = if by_time {
            stats::size(asked.input)
        } else {
            asked.input
        };
        Self {
            stream: asked.stream,
            input: step(input),
            output: asked.output.filter(|_| !by_time).map(step),
        }
    }

    /// Returns the request that stands for all of its kind.
    pub fn asked(self) -> Asked {
        Asked {
            stream: self.stream,
            input: middle(self.input),
            output: self.output.map(middle),
            ..Asked::default()
        }
    }

    fn place(self) -> usize {
        let output = self.output.map_or(0, |output| usize::from(output) + 1);
        (usize::from(self.input) + output * 61 + usize::from(self.stream) * 127) % KINDS
    }
}

/// Steps of half a doubling.
fn step(tokens: u64) -> u8 {
    // At most 128.
    ((tokens as f32 + 1.0).log2() * 2.0) as u8
}

fn middle(step: u8) -> u64 {
    ((f32::from(step) + 0.5) / 2.0).exp2() as u64
}

impl Shortlists {
    /// Returns none where there are too few to be worth it.
    pub fn new(strategy: Strategy, targets: usize) -> Option<Self> {
        let compares = match strategy {
            Strategy::Latency | Strategy::Cost | Strategy::Score => true,
            Strategy::Fallback
            | Strategy::Weighted
            | Strategy::RoundRobin
            | Strategy::LeastBusy
            | Strategy::Smart => false,
        };
        (compares && targets >= LONG).then(|| Self {
            places: (0..KINDS).map(|_| ArcSwapOption::empty()).collect(),
        })
    }

    /// Returns the list for a kind of request, which is made when there is none.
    pub fn of(&self, kind: Kind, now: Instant, make: impl FnOnce() -> Shortlist) -> Arc<Shortlist> {
        let place = &self.places[kind.place()];
        if let Some(known) = place.load_full().filter(|known| known.kind == kind) {
            let is_fresh = now.saturating_duration_since(known.made) < FRESH;
            if is_fresh || known.is_renewed.swap(true, Ordering::Relaxed) {
                return known;
            }
        }
        let new = Arc::new(make());
        place.store(Some(new.clone()));
        new
    }
}

impl Shortlist {
    /// Makes one of two orders of all targets: by what is known of them, and by what may be hoped.
    pub fn new(
        kind: Kind,
        now: Instant,
        known: &[Ranked],
        hoped: &[Ranked],
        common: Common,
    ) -> Self {
        let mut order = Vec::with_capacity(known.len());
        let mut is_taken = vec![false; known.len()];
        let mut take = |ranked: &[Ranked], until: usize| {
            for Ranked { index, .. } in ranked {
                if order.len() >= until {
                    break;
                }
                if !std::mem::replace(&mut is_taken[*index], true) {
                    order.push(*index as u32);
                }
            }
        };
        take(known, FRONT / 2);
        take(hoped, FRONT);
        take(known, known.len());
        Self {
            kind,
            made: now,
            is_renewed: AtomicBool::new(false),
            order,
            common,
        }
    }

    /// Returns those to compare.
    pub fn front(&self) -> impl Iterator<Item = usize> + Clone {
        self.order.iter().take(FRONT).map(|index| *index as usize)
    }

    /// Returns those that come behind them.
    pub fn rest(&self) -> impl Iterator<Item = usize> {
        self.order.iter().skip(FRONT).map(|index| *index as usize)
    }
}

#[cfg(test)]
#[path = "shortlist_tests.rs"]
mod tests;
