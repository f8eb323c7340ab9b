//! One limit per minute or day as a GCRA: a single instant says how full the bucket is.
//!
//! That instant, when the bucket will be full again, moves into the future with every charge by the time in which
//! the charge refills. All times are nanoseconds since the limiter was made.

use std::time::Duration;

/// What a bucket refills in.
pub const MINUTE: u64 = 60_000_000_000;
pub const DAY: u64 = 24 * 60 * MINUTE;
/// A debt beyond this is forgiven: one wild usage figure must not lock a key out for days.
pub const MOST_DEBT: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Bucket {
    limit: u64,
    /// What an empty one refills in.
    period: u64,
    /// When it will be full again.
    full_at: u64,
    /// When it was last seen full.
    seen_full: u64,
}

/// A bucket at a moment, for headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    pub limit: u64,
    pub remaining: u64,
    /// Until it is full.
    pub reset: Duration,
}

impl Bucket {
    /// Returns a full one that refills in `period`.
    pub fn over(period: u64) -> Self {
        Self {
            limit: 0,
            period,
            full_at: 0,
            seen_full: 0,
        }
    }

    /// Takes on a limit that may have changed: what was used stays used, but no more than a whole period.
    pub fn set_limit(&mut self, limit: u64, now: u64) {
        if self.limit == limit {
            return;
        }
        let missing = self.full_at.saturating_sub(now);
        if self.limit > 0 && limit > 0 && missing > 0 {
            let scaled = u128::from(missing) * u128::from(self.limit) / u128::from(limit);
            let most = u128::from(missing.max(self.period));
            self.full_at = now.saturating_add(scaled.min(most) as u64);
        }
        self.limit = limit;
    }

    /// Returns how long until `amount` fits: zero now, `None` never.
    pub fn wait(&self, amount: u64, now: u64) -> Option<u64> {
        if amount > self.limit || self.limit == 0 {
            return None;
        }
        let after = self.full_at.max(now).saturating_add(self.time(amount));
        Some(after.saturating_sub(now.saturating_add(self.period)))
    }

    /// Takes `amount`, as a debt where it is not there.
    pub fn charge(&mut self, amount: u64, now: u64) {
        if self.full_at <= now {
            self.full_at = now;
            self.seen_full = now;
        }
        let most = now
            .saturating_add(self.period)
            .saturating_add(MOST_DEBT.as_nanos() as u64);
        self.full_at = self
            .full_at
            .saturating_add(self.time(amount))
            .min(most.max(self.full_at));
    }

    /// [`Bucket::charge`] of what was used beyond an estimate; nothing where there is no limit.
    pub fn owe(&mut self, amount: u64, now: u64) {
        if self.limit > 0 {
            self.charge(amount, now);
        }
    }

    /// Gives back `amount` of a charge made at `charged`.
    pub fn refund(&mut self, amount: u64, charged: u64, now: u64) {
        // Full since then: what was taken has refilled by itself, and giving it again would be twice.
        if self.seen_full > charged || self.full_at <= now {
            return;
        }
        self.full_at = self
            .full_at
            .saturating_sub(self.time_down(amount))
            .max(charged);
    }

    pub fn is_full(&self, now: u64) -> bool {
        self.full_at <= now
    }

    pub fn level(&self, now: u64) -> Level {
        let missing = self.full_at.saturating_sub(now);
        let left = self.period.saturating_sub(missing);
        let remaining = u128::from(left) * u128::from(self.limit) / u128::from(self.period);
        Level {
            limit: self.limit,
            remaining: remaining as u64,
            reset: Duration::from_nanos(missing),
        }
    }

    /// Returns the time in which `amount` refills, rounded up: never a token too many.
    fn time(&self, amount: u64) -> u64 {
        let time =
            (u128::from(amount) * u128::from(self.period)).div_ceil(u128::from(self.limit.max(1)));
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    /// The same rounded down, for what is given back.
    fn time_down(&self, amount: u64) -> u64 {
        let time = u128::from(amount) * u128::from(self.period) / u128::from(self.limit.max(1));
        u64::try_from(time).unwrap_or(u64::MAX)
    }
}
