//! Hedging: a second attempt where the first says nothing for longer than it usually does.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Thousandths of a second attempt: what one costs.
const COST: i64 = 1000;
/// Second attempts saved up at most.
const MOST: i64 = 10 * COST;

/// When a second attempt is made (`[models.NAME] hedge`).
#[derive(Debug, Clone, PartialEq)]
pub struct Hedge {
    /// Later than this share of the target's own answers.
    pub percentile: Option<f64>,
    /// At this time, where no percentile is given or too little is known.
    pub after: Option<Duration>,
    /// Never before this time, whatever the percentile.
    pub min: Duration,
    /// Of all attempts at the model so many may get a second one.
    pub max_share: f64,
    /// Answers that are not streamed too.
    pub whole: bool,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            percentile: Some(0.95),
            after: None,
            min: Duration::from_millis(300),
            max_share: 0.1,
            whole: false,
        }
    }
}

impl Hedge {
    /// Returns when an attempt is late; `history` knows what a share of its answers took at most, where it knows
    /// enough.
    pub fn due(&self, history: impl FnOnce(f64) -> Option<Duration>) -> Option<Duration> {
        let usual = self.percentile.and_then(history);
        usual.map(|usual| usual.max(self.min)).or(self.after)
    }
}

/// What a model may still hedge: each attempt earns its share of a second one. Outlives reloads.
#[derive(Debug)]
pub struct Share(AtomicI64);

impl Default for Share {
    /// The first may be made at once.
    fn default() -> Self {
        Self(AtomicI64::new(COST))
    }
}

impl Share {
    pub fn earn(&self, max_share: f64) {
        if self.0.load(Ordering::Relaxed) < MOST {
            let earned = (max_share.clamp(0.0, 1.0) * COST as f64) as i64;
            self.0.fetch_add(earned, Ordering::Relaxed);
        }
    }

    /// Takes a second attempt; false where the share is used up.
    pub fn spend(&self) -> bool {
        let take = |balance: i64| (balance >= COST).then_some(balance - COST);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok()
    }

    /// Gives back what was not used.
    pub fn give_back(&self) {
        self.0.fetch_add(COST, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_known_decides_and_the_fixed_time_where_nothing_is() {
        let hedge = Hedge {
            after: Some(SECOND),
            ..Hedge::default()
        };
        assert_eq!(hedge.due(|_| None), Some(SECOND));
        assert_eq!(hedge.due(|_| Some(SECOND * 3)), Some(SECOND * 3));
        let fast = Some(Duration::from_millis(5));
        assert_eq!(hedge.due(|_| fast), Some(hedge.min), "never at once");
        assert_eq!(Hedge::default().due(|_| None), None);
        let fixed = Hedge {
            percentile: None,
            ..hedge
        };
        assert_eq!(fixed.due(|_| Some(SECOND * 3)), Some(SECOND));
    }

    #[test]
    fn no_more_than_the_share_is_hedged() {
        let share = Share::default();
        let mut hedges = 0;
        for _ in 0..1000 {
            share.earn(0.1);
            hedges += u32::from(share.spend());
        }
        assert!((100..=101).contains(&hedges), "{hedges}");
        for _ in 0..100_000 {
            share.earn(1.0);
        }
        let saved = (0..100).filter(|_| share.spend()).count();
        assert!(saved <= 10, "{saved} saved up");
    }
}
