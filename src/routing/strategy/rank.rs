//! What every strategy looks at, and the order that it answers with.

use std::time::Instant;

use super::score::Best;
use crate::routing::choose::Asked;
use crate::routing::stats::{Estimate, Stats, normal};

/// What a strategy sees of one target. A nested model is seen as the target that it would ask first.
pub struct View<'a> {
    pub stats: &'a Stats,
    /// A target of weight 0 is asked when nothing else is left.
    pub weight: u32,
    /// Requests that it is answering now.
    pub inflight: u32,
    /// What this request costs there; `None` where no price is known, or nobody asks for it.
    pub bill: Option<Bill>,
}

/// The price of one request, before it is known how long its answer gets. In pico-dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bill {
    /// Of the input, and of what is billed by the piece.
    pub input: u64,
    /// Of one token of output.
    pub output: u64,
}

/// One target in the order of asking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Its place among the views.
    pub index: usize,
    /// What the strategy thinks of it, the lower the better: milliseconds, dollars, or a number of its own. Not
    /// what was drawn to explore, but what is known; `None` where nothing is, or nothing is compared.
    pub score: Option<f64>,
}

/// Output that is assumed where nothing is known of the model and the request sets no bound, in tokens.
pub const LIKELY_OUTPUT: u64 = 500;

/// So many targets are put in order; those behind them, whom the cap on attempts keeps from being asked, come as
/// they stand.
const MOST_SORTED: usize = 128;

/// Where a target stands before its number is looked at. Whole shelves come one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shelf {
    First,
    /// Known to fail often.
    Doubtful,
    /// Without a price, where prices are compared.
    Unpriced,
    /// Of weight 0.
    Last,
}

impl Shelf {
    pub fn of(weight: u32) -> Self {
        if weight == 0 {
            Shelf::Last
        } else {
            Shelf::First
        }
    }
}

/// What one target is sorted by: its shelf, then its value, the lower the sooner.
#[derive(Clone, Copy)]
pub(super) struct Key {
    rank: u64,
    pub index: u32,
}

impl Key {
    pub fn new(shelf: Shelf, value: f32, index: usize) -> Self {
        let bits = value.to_bits();
        // As whole numbers these are in the order of `f32::total_cmp`.
        let ordered = if value.is_sign_negative() {
            !bits
        } else {
            bits | 1 << 31
        };
        Self {
            rank: (shelf as u64) << 32 | u64::from(ordered),
            index: index as u32,
        }
    }

    pub fn value(&self) -> f32 {
        let ordered = self.rank as u32;
        let bits = if ordered & 1 << 31 == 0 {
            !ordered
        } else {
            ordered & !(1 << 31)
        };
        f32::from_bits(bits)
    }
}

/// Sorts as much of the front as can matter.
pub(super) fn sort(keys: &mut [Key]) {
    let front = if keys.len() > MOST_SORTED {
        keys.select_nth_unstable_by_key(MOST_SORTED, |key| key.rank);
        &mut keys[..MOST_SORTED]
    } else {
        keys
    };
    front.sort_unstable_by_key(|key| key.rank);
}

/// Returns the first of many in their order: all of a few, and of more than that as many as can matter to one request.
/// Of equals who comes sooner stays ahead.
pub(super) fn front(all: impl ExactSizeIterator<Item = Key>) -> Vec<Key> {
    const FEW: usize = 64;
    const MOST: usize = 16;
    let most = if all.len() <= FEW { all.len() } else { MOST };
    let mut front: Vec<Key> = Vec::with_capacity(most);
    // Of the last one, when there is no more room.
    let mut bar = u64::MAX;
    for key in all {
        if key.rank >= bar {
            continue;
        }
        if front.len() == most {
            front.pop();
        }
        let place = front.partition_point(|known| known.rank <= key.rank);
        front.insert(place, key);
        if front.len() == most {
            bar = front.last().map_or(0, |last| last.rank);
        }
    }
    front
}

/// Returns the order of sorted keys, with the score of each target.
pub(super) fn ranked(keys: &[Key], score: impl Fn(usize) -> Option<f64>) -> Vec<Ranked> {
    let ranked = keys.iter().map(|key| {
        let index = key.index as usize;
        Ranked {
            index,
            score: score(index),
        }
    });
    ranked.collect()
}

impl View<'_> {
    pub(super) fn shelf(&self) -> Shelf {
        Shelf::of(self.weight)
    }

    /// Requests in flight for its weight.
    pub(super) fn load(&self) -> f32 {
        self.inflight as f32 / self.weight.max(1) as f32
    }
}

/// How the load is spread over the targets.
pub(super) struct Load {
    sum: f32,
}

impl Load {
    pub fn of(views: &[View<'_>]) -> Self {
        let loads = views.iter().filter(|view| view.weight > 0);
        Self {
            sum: loads.map(View::load).sum(),
        }
    }

    /// Returns the share of all load that a target has, from 0 to 1. A few requests are no load.
    pub fn share(&self, view: &View<'_>) -> f32 {
        const FEW: f32 = 32.0;
        view.load() / (self.sum + FEW)
    }
}

/// How a number is taken from what is known of it.
pub(super) enum Draw<'r> {
    /// By chance (Thompson sampling).
    Chance(&'r mut fastrand::Rng),
    /// So many deviations better than its mean; among equals by chance.
    Hope(f32, &'r mut fastrand::Rng),
}

impl Draw<'_> {
    /// Draws from a normal distribution.
    pub fn of(&mut self, mean: f32, variance: f32) -> f32 {
        const LITTLE: f32 = 1e-3;
        match self {
            Draw::Chance(rng) => mean + variance.sqrt() * normal(rng.f64()) as f32,
            Draw::Hope(deviations, rng) => {
                mean - *deviations * variance.sqrt() - LITTLE * rng.f32()
            }
        }
    }
}

/// What many targets have in common: it stands in for what isn't known of one.
#[derive(Debug, Clone, Copy)]
pub struct Common {
    /// The mean of the logarithms of latencies.
    pub(super) middling: f32,
    /// The output of one answer, in tokens.
    pub(super) usual: f32,
    pub(super) best: Best,
}

impl Common {
    pub fn of(views: &[View<'_>], asked: &Asked, now: Instant) -> Self {
        let latencies = views
            .iter()
            .map(|view| view.stats.latency(asked.stream, asked.input, now));
        Self {
            middling: middling(latencies.flatten()),
            usual: usual(views.iter().map(|view| view.stats.output(now)), asked),
            best: Best::among(views, asked, now),
        }
    }
}

/// Returns the mean of the logarithms of what is known.
pub(super) fn middling(known: impl Iterator<Item = Estimate>) -> f32 {
    let (sum, count) = known.fold((0.0, 0u32), |(sum, count), estimate| {
        (sum + estimate.mean, count + 1)
    });
    sum / count.max(1) as f32
}

/// Returns the output of one answer among all that were written, in tokens.
fn usual(written: impl Iterator<Item = (f32, f32)>, asked: &Asked) -> f32 {
    let (tokens, answers) = written.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let default = asked.output.unwrap_or(u64::MAX).min(LIKELY_OUTPUT) as f32;
    (tokens + default) / (answers + 1.0)
}

/// What all targets wrote counts as so many answers of each.
const COMMON: f32 = 100.0;

/// Returns how long the answer of each target is expected to get, in tokens.
///
/// A model that wrote too little to judge by is taken to write what the others write: a default would make it look
/// cheaper or dearer than they are.
pub(super) fn outputs(
    views: &[View<'_>],
    asked: &Asked,
    common: Option<&Common>,
    now: Instant,
) -> Vec<f32> {
    let most = asked.output.map_or(f32::INFINITY, |most| most as f32);
    let written: Vec<(f32, f32)> = views.iter().map(|view| view.stats.output(now)).collect();
    let usual = match common {
        Some(common) => common.usual,
        None => usual(written.iter().copied(), asked),
    };
    let each = written.into_iter();
    each.map(|(tokens, answers)| ((tokens + COMMON * usual) / (answers + COMMON)).min(most))
        .collect()
}

impl Bill {
    /// Returns the price with so much output.
    pub(super) fn with(self, output: f32) -> f64 {
        self.input as f64 + self.output as f64 * f64::from(output)
    }
}
