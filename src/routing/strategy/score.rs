//! `score`: price, availability, latency and throughput in one number.
//!
//! Each part is a loss from 0 (the best of the targets) to 1 (four times as bad, or worse), so no part can outweigh
//! its share, however extreme. Who is known to fail more than one request in ten is put behind all who don't,
//! whatever its price.

use std::time::Instant;

use super::latency::estimates;
use super::rank::{Common, Draw, Key, Load, Ranked, View, outputs, ranked, sort};
use crate::routing::choose::Asked;
use crate::routing::stats::Estimate;

/// Who answers less of what it is asked comes after all others.
const FLOOR: f32 = 0.9;
/// Availability is lost so many times as fast: at the floor all of it is.
const STEEP: f32 = 10.0;
/// What all of the load adds to a score: who is better by less shares it with the next best.
const LOAD: f32 = 0.05;

/// How much each part counts; only their proportions matter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    pub price: f32,
    pub availability: f32,
    pub latency: f32,
    pub throughput: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            price: 0.4,
            availability: 0.3,
            latency: 0.2,
            throughput: 0.1,
        }
    }
}

impl Weights {
    pub fn sum(&self) -> f32 {
        self.price + self.availability + self.latency + self.throughput
    }
}

/// Orders the targets by the weighted sum of their losses, and by their load.
pub fn rank(
    views: &[View<'_>],
    asked: &Asked,
    weights: &Weights,
    now: Instant,
    rng: &mut fastrand::Rng,
) -> Vec<Ranked> {
    order(views, asked, weights, None, now, &mut Draw::Chance(rng))
}

/// Orders them by scores whose latencies are drawn in this way.
pub(super) fn order(
    views: &[View<'_>],
    asked: &Asked,
    weights: &Weights,
    common: Option<&Common>,
    now: Instant,
    draw: &mut Draw<'_>,
) -> Vec<Ranked> {
    let facts = facts(views, asked, common, now);
    let best = match common {
        Some(common) => common.best,
        None => Best::of(views, &facts),
    };
    let load = Load::of(views);
    let sum = weights.sum();
    let weigh = |weight: f32, loss: f32| weight / sum.max(f32::MIN_POSITIVE) * loss;
    let mut scores = vec![None; views.len()];
    let mut keys = Vec::with_capacity(views.len());
    for (index, (view, facts)) in views.iter().zip(&facts).enumerate() {
        let gone = ((1.0 - facts.answers) * STEEP).min(1.0);
        // Below the floor the order is by availability first.
        let penalty = if facts.is_below() {
            1.0 + (FLOOR - facts.answers) * STEEP
        } else {
            0.0
        };
        let base = weigh(weights.price, best.dearness(facts.pico))
            + weigh(weights.throughput, best.slowness(facts.speed))
            + weigh(weights.availability, gone)
            + penalty;
        let drawn = draw.of(facts.latency.mean, facts.latency.variance);
        let late = |log: f32| weigh(weights.latency, best.lateness(log));
        scores[index] = Some(f64::from(base + late(facts.latency.mean)));
        keys.push(Key::new(
            view.shelf(),
            base + late(drawn) + LOAD * load.share(view),
            index,
        ));
    }
    sort(&mut keys);
    ranked(&keys, |index| scores[index])
}

/// What is known of one target.
struct Facts {
    pico: Option<f64>,
    latency: Estimate,
    speed: Option<f32>,
    /// The share of requests that it may well answer: what is unsure is its luck.
    answers: f32,
}

impl Facts {
    fn is_below(&self) -> bool {
        self.answers < FLOOR
    }
}

fn facts(views: &[View<'_>], asked: &Asked, common: Option<&Common>, now: Instant) -> Vec<Facts> {
    let outputs = outputs(views, asked, common, now).into_iter();
    let latencies = estimates(views, asked, common, now);
    let known = views.iter().zip(outputs.zip(latencies));
    let facts = known.map(|(view, (output, (latency, _)))| Facts {
        pico: view.bill.map(|bill| bill.with(output)),
        latency,
        speed: view.stats.throughput(now),
        answers: view.stats.availability(now).likely(),
    });
    facts.collect()
}

/// The best of each part among the targets that are in question: who fails sets no measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Best {
    /// Above 0, unless nothing has a price.
    pico: f64,
    latency: f32,
    speed: f32,
    /// Of targets whose speed isn't known.
    usual: f32,
}

impl Best {
    pub fn among(views: &[View<'_>], asked: &Asked, now: Instant) -> Self {
        Self::of(views, &facts(views, asked, None, now))
    }

    fn of(views: &[View<'_>], facts: &[Facts]) -> Self {
        let all = || views.iter().zip(facts);
        let good = |view: &View<'_>, facts: &Facts| view.weight > 0 && !facts.is_below();
        let none = !all().any(|(view, facts)| good(view, facts));
        let mut best = Self {
            pico: f64::INFINITY,
            latency: f32::INFINITY,
            speed: 0.0,
            usual: 0.0,
        };
        let (mut is_free, mut speeds) = (false, 0u32);
        for (_, facts) in all().filter(|(view, facts)| none || good(view, facts)) {
            if let Some(pico) = facts.pico {
                is_free |= pico <= 0.0;
                best.pico = best.pico.min(if pico > 0.0 { pico } else { f64::INFINITY });
            }
            best.latency = best.latency.min(facts.latency.mean);
            if let Some(speed) = facts.speed {
                best.speed = best.speed.max(speed);
                best.usual += speed;
                speeds += 1;
            }
        }
        best.usual /= speeds.max(1) as f32;
        if is_free {
            // Beside something free the others still differ.
            best.pico /= 2.0;
        }
        best
    }

    fn dearness(&self, pico: Option<f64>) -> f32 {
        match pico {
            None => 1.0,
            Some(pico) if pico <= self.pico => 0.0,
            Some(pico) => loss((pico / self.pico).ln() as f32),
        }
    }

    /// Of the logarithm of a latency.
    fn lateness(&self, log: f32) -> f32 {
        loss(log - self.latency)
    }

    fn slowness(&self, speed: Option<f32>) -> f32 {
        if self.speed <= 0.0 {
            return 0.0;
        }
        loss((self.speed / speed.unwrap_or(self.usual)).ln())
    }
}

/// Returns the loss of who is worse than the best by a factor, of which this is the logarithm.
///
/// What two targets lose against each other is then the same whoever is the best.
fn loss(log: f32) -> f32 {
    const FOUR: f32 = 2.0 * std::f32::consts::LN_2;
    (log / FOUR).clamp(0.0, 1.0)
}
