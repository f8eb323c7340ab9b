//! `cost`: who is cheapest for this very request: its input, the output that each model is likely to write, the
//! prices of the hour, of the tier that the input reaches, and of what is cached.

use std::time::Instant;

use super::latency::delays;
use super::rank::{Common, Draw, Key, Ranked, Shelf, View, outputs, ranked, sort};
use crate::provider::cost::PICO;
use crate::routing::choose::Asked;

/// Who answers less than half of what it is asked comes after all others that have a price.
const FLOOR: f32 = 0.5;
/// Prices that differ by less than this (a logarithm) are the same price: estimates are no better.
const SAME: f64 = 0.05;

/// Orders the targets by what this request is expected to cost.
///
/// Who answers rarely is dearer than its price: the part that fails is paid in time, and sometimes in money. Among
/// equal prices the latency decides. No price is not a low price: those without one come last.
pub fn rank(
    views: &[View<'_>],
    asked: &Asked,
    now: Instant,
    rng: &mut fastrand::Rng,
) -> Vec<Ranked> {
    order(views, asked, None, now, &mut Draw::Chance(rng))
}

/// Orders them; among equal prices by latencies that are drawn in this way.
pub(super) fn order(
    views: &[View<'_>],
    asked: &Asked,
    common: Option<&Common>,
    now: Instant,
    draw: &mut Draw<'_>,
) -> Vec<Ranked> {
    let mut scores = vec![None; views.len()];
    let mut keys = Vec::with_capacity(views.len());
    let outputs = outputs(views, asked, common, now);
    let delays = delays(views, asked, common, now, draw);
    for (index, (view, (output, delay))) in views
        .iter()
        .zip(outputs.into_iter().zip(delays))
        .enumerate()
    {
        let availability = view.stats.availability(now);
        let pico = view.bill.map(|bill| bill.with(output));
        scores[index] = pico.map(|pico| pico / PICO as f64);
        let step = pico.map_or(0.0, |pico| {
            let likely = pico / f64::from(availability.likely().max(0.01));
            ((likely + 1.0).ln() / SAME).floor()
        });
        let priced = match pico {
            None => Shelf::Unpriced,
            Some(_) if availability.likely() < FLOOR => Shelf::Doubtful,
            Some(_) => Shelf::First,
        };
        // From 0 to 1, so less than one step.
        let tie = 0.5 + 0.5 * delay.drawn / (1.0 + delay.drawn.abs());
        keys.push(Key::new(view.shelf().max(priced), step as f32 + tie, index));
    }
    sort(&mut keys);
    ranked(&keys, |index| scores[index])
}
