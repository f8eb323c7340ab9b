//! What an answer took and what it cost, into the record.

use std::time::{Duration, Instant};

use super::ask::Ask;
use super::outcome::Meta;
use super::{Exchange, limits};
use crate::limit::Amount;
use crate::protocol::usage::Usage;
use crate::provider::cost;
use crate::routing::Candidate;

/// What is known of an answer when it has been sent.
pub struct Taken {
    pub usage: Option<Usage>,
    pub output_chars: u64,
    /// The answer came to its proper end.
    pub complete: bool,
    /// Of a stream: from its first token to its end.
    pub generation: Option<Duration>,
}

/// Accounts an answer of the provider; returns what counts against limits.
///
/// Where the provider sent no usage, or was cut off before it sent all of it, what is missing is estimated from
/// what went over the wire, and marked so: providers bill what they made, not what arrived.
pub fn provider(x: &mut Exchange, ask: &Ask<'_>, meta: &Meta, taken: Taken) -> Amount {
    let guess = taken.output_chars.div_ceil(4);
    let usage = match taken.usage {
        Some(usage) if taken.complete => {
            let stats = &meta.candidate().stats;
            stats.finished(usage.output, taken.generation, Instant::now());
            usage
        }
        // Anthropic tells the input first and a first count of the output; the last count never came.
        Some(usage) => Usage {
            output: usage.output.max(guess),
            estimated: true,
            ..usage
        },
        None => Usage {
            input: ask.input_estimate(),
            output: guess,
            estimated: true,
            ..Usage::default()
        },
    };
    let amount = limits::counted(ask, &usage);
    let (pico, unpriced) = price(meta, &usage);
    x.record.cost_pico = Some(pico);
    x.record.unpriced = unpriced;
    x.record.usage = Some(usage);
    amount
}

/// Accounts an answer that cost nothing because it was kept.
pub fn saved(x: &mut Exchange, usage: Option<Usage>, cost_pico: Option<u64>) {
    x.record.usage = usage;
    x.record.cost_pico = Some(0);
    x.record.saved_pico = cost_pico;
}

/// Returns the bill of `usage` in pico-dollars, and whether some of it has no known price.
fn price(meta: &Meta, usage: &Usage) -> (u64, bool) {
    let reported = usage.reported.map(|pico| (pico, false));
    reported
        .or_else(|| priced(meta.candidate(), usage))
        .unwrap_or((0, true))
}

/// Returns the price of `usage` at `candidate` in pico-dollars where one is known, and whether it is incomplete.
///
/// The catalogue's price comes first; the configuration's is for what the catalogue doesn't price.
pub fn priced(candidate: &Candidate, usage: &Usage) -> Option<(u64, bool)> {
    if candidate.provider.demo {
        return Some((0, false));
    }
    let at = jiff::Timestamp::now();
    let known = candidate.entry.filter(|entry| !entry.price().unknown);
    let cost = match (known, &candidate.provider.price) {
        (Some(entry), _) => entry.cost(usage, at, candidate.region),
        (None, Some(rates)) => cost::cost(&rates.clone().into(), usage, at),
        (None, None) => return None,
    };
    Some((cost.pico, cost.unpriced))
}
