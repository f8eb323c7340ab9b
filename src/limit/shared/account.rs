//! What nodes count together: limits and budgets, by the names that they have in Redis.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::limit::balance::{Balance, period, step};
use crate::limit::budget::{Budget, Every};
use crate::limit::limits::Which;

/// In Redis money is counted in nano-dollars.
pub const NANO: u64 = 1000;
/// What a node holds is its own for this long after it last spoke; a node that was killed holds it no longer.
pub const MONEY_TTL: Duration = Duration::from_secs(60);
pub const SLOTS_TTL: Duration = Duration::from_secs(20);

/// Of which account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub name: Arc<str>,
    pub of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Of {
    Limit(Which),
    /// Whether it is rolling.
    Budget(Every, bool),
}

impl Key {
    /// Returns its name in Redis. The braces keep all accounts in one place of a cluster: a request takes of several.
    pub fn in_redis(&self) -> String {
        match self.of {
            Of::Limit(which) => format!("{{limits}}:{}:{}", which.name(), self.name),
            Of::Budget(every, rolling) => {
                let rolling = if rolling { "-rolling" } else { "" };
                format!("{{limits}}:{}{rolling}:{}", every.name(), self.name)
            }
        }
    }
}

/// How much of it there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound<'b> {
    /// Of a limit: over a time, or at a time.
    Limit(u64),
    Budget(&'b Budget),
}

impl Of {
    /// Whether nodes hold of it, instead of using it up.
    pub fn is_lease(self) -> bool {
        match self {
            Of::Limit(which) => which == Which::Concurrent,
            Of::Budget(..) => true,
        }
    }

    pub fn unit(self) -> u64 {
        match self {
            Of::Limit(_) => 1,
            Of::Budget(..) => NANO,
        }
    }

    pub fn ttl(self) -> Duration {
        match self {
            Of::Limit(_) => SLOTS_TTL,
            Of::Budget(..) => MONEY_TTL,
        }
    }

    /// Of a rate, in nanoseconds.
    pub fn period(self) -> u64 {
        match self {
            Of::Limit(which) => which.period(),
            Of::Budget(..) => 0,
        }
    }

    /// Returns how much of a limit a node holds beyond need, at most: few places are worth a question each.
    pub fn slice(self, limit: u64) -> u64 {
        match self {
            Of::Limit(Which::Concurrent) => limit / 16,
            Of::Limit(_) => limit / 20,
            Of::Budget(..) => limit / 50,
        }
    }
}

/// Returns where what is spent now is counted, what no longer counts, and how long it is remembered
/// (0: for good).
pub fn window(budget: Option<&Budget>, now_us: i64) -> (i64, i64, u64) {
    const HOUR_MS: u64 = 3_600_000;
    let Some(budget) = budget else {
        return (0, 0, HOUR_MS);
    };
    let now = Timestamp::from_microsecond(now_us).unwrap_or_else(|_| Timestamp::now());
    match (budget.every, budget.rolling) {
        (Every::Ever, _) => (0, 0, 0),
        (every, true) => {
            let seconds = now.as_second();
            let whole = u64::try_from(every.seconds()).unwrap_or(0) * 1000;
            let from = Balance::first_step(every, seconds);
            (step(every, seconds), from, 2 * whole)
        }
        (_, false) => {
            let (begins, ends) = period(budget, now);
            let left = u64::try_from(ends - now.as_second()).unwrap_or(0) * 1000;
            (begins, begins, left + HOUR_MS)
        }
    }
}
