//! `latency`: who answers soonest, by what answers like this one took.
//!
//! Each target's latency is drawn from what is known of it (Thompson sampling), and the least goes first: who may
//! well be the fastest is asked as often as that is likely, and so nobody is forgotten for good.

use std::time::Instant;

use super::rank::{Common, Draw, Key, Load, Ranked, View, middling, ranked, sort};
use crate::routing::choose::Asked;
use crate::routing::stats::Estimate;

/// A failure costs more than the time it took: the request begins anew elsewhere, and has fewer attempts left.
/// Latencies are divided by the availability to this power: one that answers half the time counts as four times as
/// slow.
const DREAD: f32 = 2.0;
/// Who has all of the load counts as so much slower (a logarithm): between equals the load is shared, and who is
/// clearly faster still gets all of it.
const LOAD: f32 = 0.1;

/// Orders the targets by latency: time to the first token for streams, to the end otherwise.
pub fn rank(
    views: &[View<'_>],
    asked: &Asked,
    now: Instant,
    rng: &mut fastrand::Rng,
) -> Vec<Ranked> {
    order(views, asked, None, now, &mut Draw::Chance(rng))
}

/// Orders them by latencies that are drawn in this way. `common` is what they have in common with more than these.
pub(super) fn order(
    views: &[View<'_>],
    asked: &Asked,
    common: Option<&Common>,
    now: Instant,
    draw: &mut Draw<'_>,
) -> Vec<Ranked> {
    let mut scores = vec![None; views.len()];
    let mut keys = Vec::with_capacity(views.len());
    let each = delays(views, asked, common, now, draw);
    for (index, (view, delay)) in views.iter().zip(each).enumerate() {
        scores[index] = delay.known.map(|log| f64::from(log.exp()) * 1000.0);
        keys.push(Key::new(view.shelf(), delay.drawn, index));
    }
    sort(&mut keys);
    ranked(&keys, |index| scores[index])
}

/// The logarithm of the seconds that a target lets one wait.
pub(super) struct Delay {
    pub drawn: f32,
    /// As far as it is known, without the draw and without the load.
    pub known: Option<f32>,
}

/// Draws the delay of each target.
pub(super) fn delays<'v, 'd>(
    views: &'v [View<'_>],
    asked: &Asked,
    common: Option<&Common>,
    now: Instant,
    draw: &'v mut Draw<'d>,
) -> impl Iterator<Item = Delay> + use<'v, 'd> {
    let load = Load::of(views);
    let known = estimates(views, asked, common, now);
    views
        .iter()
        .zip(known)
        .map(move |(view, (estimate, is_known))| {
            let risk = Risk::of(view, now);
            let drawn = draw.of(estimate.mean, estimate.variance);
            Delay {
                drawn: risk.with(drawn) + LOAD * load.share(view),
                known: is_known.then(|| risk.with(estimate.mean)),
            }
        })
}

/// Returns what is known of each target's latency, and whether anything is.
///
/// Of whom nothing is known counts as middling and very unsure: it is tried soon, and not by every request at once.
pub(super) fn estimates(
    views: &[View<'_>],
    asked: &Asked,
    common: Option<&Common>,
    now: Instant,
) -> impl Iterator<Item = (Estimate, bool)> + use<> {
    let known: Vec<Option<Estimate>> = views
        .iter()
        .map(|view| view.stats.latency(asked.stream, asked.input, now))
        .collect();
    let middling = Estimate {
        mean: match common {
            Some(common) => common.middling,
            None => middling(known.iter().flatten().copied()),
        },
        ..Estimate::UNKNOWN
    };
    known
        .into_iter()
        .map(move |estimate| (estimate.unwrap_or(middling), estimate.is_some()))
}

/// What failures add to a latency.
struct Risk {
    /// The seconds that are lost, on average, before it answers.
    lost: f32,
    /// A logarithm.
    dread: f32,
}

impl Risk {
    fn of(view: &View<'_>, now: Instant) -> Self {
        let answers = view.stats.availability(now).mean.max(0.01);
        Self {
            lost: view.stats.failure(now) * (1.0 - answers) / answers,
            dread: -DREAD * answers.ln(),
        }
    }

    /// Adds it to the logarithm of a latency.
    fn with(&self, log: f32) -> f32 {
        // Below a millisecond it isn't worth the exponential.
        let log = if self.lost > 1e-3 {
            (log.exp() + self.lost).ln()
        } else {
            log
        };
        log + self.dread
    }
}
