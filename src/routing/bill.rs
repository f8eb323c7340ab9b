//! What a request would cost at a target, before its answer is known.

use jiff::Timestamp;

use super::Candidate;
use super::strategy::rank::Bill;
use crate::protocol::usage::Usage;
use crate::provider::catalogue::Model as Entry;
use crate::provider::cost::{self, Place, Price};

/// Of the input of a conversation that goes on, so much was sent before, in tenths.
const SENT_BEFORE: u64 = 8;
/// Output by which the price of one token of it is found.
const SAMPLE: u64 = 1000;

/// The price of a target whose price is the same at every hour and for every size of request: most are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flat {
    fee: u64,
    input: u64,
    cached: u64,
    output: u64,
}

impl Flat {
    /// Returns the price of what the catalogue or the configuration prices, where it is flat.
    pub fn of(entry: Option<&Entry>, own: Option<&Price>, region: Place) -> Option<Self> {
        let price = known(entry, own)?;
        let moves =
            !price.tiers.is_empty() || price.off_peak.is_some() || !price.changes.is_empty();
        if moves || !price.multipliers.is_empty() {
            return None;
        }
        let at = Timestamp::UNIX_EPOCH;
        let pico = |usage: Usage| pico(entry, own, region, &usage, at);
        let fee = pico(Usage::default()).unwrap_or(0);
        let each = |usage: Usage| Some(pico(usage)?.saturating_sub(fee) / SAMPLE);
        Some(Self {
            fee,
            input: each(input(SAMPLE, 0))?,
            cached: each(input(SAMPLE, SAMPLE))?,
            output: each(output(SAMPLE))?,
        })
    }

    fn bill(self, fresh: u64, cached: u64) -> Bill {
        let sum = self.fee.saturating_add(self.input.saturating_mul(fresh));
        Bill {
            input: sum.saturating_add(self.cached.saturating_mul(cached)),
            output: self.output,
        }
    }
}

impl Candidate {
    /// Returns what a request with so many tokens of input costs here; `None` where no price is known.
    ///
    /// Where the conversation was answered before (`pinned`) most of its input is read from the prompt cache.
    pub fn bill(&self, tokens: u64, pinned: bool, at: Timestamp) -> Option<Bill> {
        if self.provider.demo {
            return Some(Bill {
                input: 0,
                output: 0,
            });
        }
        let cached = if pinned { tokens / 10 * SENT_BEFORE } else { 0 };
        if let Some(flat) = &self.flat {
            return Some(flat.bill(tokens - cached, cached));
        }
        let (entry, own) = (self.entry, self.own_price.as_ref());
        known(entry, own)?;
        let usage = input(tokens, cached);
        let before = pico(entry, own, self.region, &usage, at)?;
        let usage = Usage {
            output: SAMPLE,
            ..usage
        };
        let after = pico(entry, own, self.region, &usage, at)?;
        Some(Bill {
            input: before,
            output: after.saturating_sub(before) / SAMPLE,
        })
    }
}

/// The catalogue's price comes first; the configuration's is for what the catalogue doesn't price.
fn known<'p>(entry: Option<&'p Entry>, own: Option<&'p Price>) -> Option<&'p Price> {
    let entry = entry.map(Entry::price).filter(|price| !price.unknown);
    entry.or(own)
}

fn pico(
    entry: Option<&Entry>,
    own: Option<&Price>,
    region: Place,
    usage: &Usage,
    at: Timestamp,
) -> Option<u64> {
    let cost = match entry.filter(|entry| !entry.price().unknown) {
        Some(entry) => entry.cost(usage, at, region),
        None => cost::cost(own?, usage, at),
    };
    (!cost.unpriced).then_some(cost.pico)
}

fn input(tokens: u64, cached: u64) -> Usage {
    Usage {
        input: tokens,
        cache_read: cached,
        ..Usage::default()
    }
}

fn output(tokens: u64) -> Usage {
    Usage {
        output: tokens,
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::cost::{Rates, Tier};

    fn price(prices: &[(&str, f64)]) -> Price {
        let rates = Rates::from_usd_per_million(prices.iter().copied());
        rates.expect("these are prices").into()
    }

    #[test]
    fn a_flat_price_bills_as_the_exact_one_does() {
        let own = price(&[("in", 3.0), ("out", 15.0), ("cache_read", 0.3)]);
        let flat = Flat::of(None, Some(&own), Place::Anywhere).expect("it is flat");
        for (tokens, cached, written) in [(0, 0, 0), (1234, 0, 56), (100_000, 80_000, 4000)] {
            let usage = Usage {
                output: written,
                ..input(tokens, cached)
            };
            let exact = cost::cost(&own, &usage, Timestamp::UNIX_EPOCH).pico;
            let bill = flat.bill(tokens - cached, cached);
            assert_eq!(bill.input + bill.output * written, exact, "{usage:?}");
        }
    }

    #[test]
    fn a_price_with_tiers_is_not_flat() {
        let mut own = price(&[("in", 1.0), ("out", 2.0)]);
        own.tiers.push(Tier {
            above: 200_000,
            rates: price(&[("in", 2.0)]).rates,
        });
        assert_eq!(Flat::of(None, Some(&own), Place::Anywhere), None);
    }

    #[test]
    fn what_has_no_price_has_no_bill() {
        assert_eq!(Flat::of(None, None, Place::Anywhere), None);
        let half = price(&[("in", 1.0)]);
        assert_eq!(Flat::of(None, Some(&half), Place::Anywhere), None);
    }
}
