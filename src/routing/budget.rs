//! The retry budget: retries may add a fifth to the load, no more, so that an outage is not multiplied.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

/// Thousandths of a retry that each request earns.
const EARNED: i64 = 200;
const COST: i64 = 1000;
/// What is saved up at most, and had at the start: a provider that dies with this many requests in flight is
/// still hidden from every client.
const MOST: i64 = 256 * COST;
/// Retries a second that are always there, for gateways that see few requests.
const STEADY_PER_SECOND: i64 = 10 * COST;

/// A token bucket shared by all requests.
pub struct RetryBudget {
    balance: AtomicI64,
    started: Instant,
    /// Milliseconds since `started` up to which the steady part was paid.
    paid_ms: AtomicU64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            balance: AtomicI64::new(MOST),
            started: Instant::now(),
            paid_ms: AtomicU64::new(0),
        }
    }
}

impl RetryBudget {
    /// A request came: it earns a fifth of a retry.
    pub fn earn(&self) {
        if self.balance.load(Ordering::Relaxed) < MOST {
            self.balance.fetch_add(EARNED, Ordering::Relaxed);
        }
    }

    /// Takes one retry; false when the budget is spent.
    pub fn spend(&self, now: Instant) -> bool {
        self.pay_steady(now);
        let taken = self
            .balance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| {
                (balance >= COST).then_some(balance - COST)
            });
        taken.is_ok()
    }

    fn pay_steady(&self, now: Instant) {
        let now_ms = now.saturating_duration_since(self.started).as_millis() as u64;
        let paid = self.paid_ms.load(Ordering::Relaxed);
        let due = (now_ms.saturating_sub(paid) as i64).saturating_mul(STEADY_PER_SECOND) / 1000;
        if due < COST {
            return;
        }
        // One of several racing callers pays; the others find it paid.
        if self
            .paid_ms
            .compare_exchange(paid, now_ms, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
        {
            let paid = |balance: i64| Some(balance.saturating_add(due).min(MOST.max(balance)));
            let _ = self
                .balance
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_outage_adds_a_fifth_once_the_savings_are_spent() {
        let budget = RetryBudget::default();
        let now = budget.started;
        while budget.spend(now) {}
        let mut retries = 0;
        for _ in 0..1000 {
            budget.earn();
            retries += u32::from(budget.spend(now));
        }
        assert_eq!(retries, 200);
    }

    #[test]
    fn a_quiet_gateway_still_has_some_retries() {
        let budget = RetryBudget::default();
        while budget.spend(budget.started) {}
        assert!(budget.spend(budget.started + Duration::from_millis(200)));
        assert!(budget.spend(budget.started + Duration::from_millis(200)));
        assert!(
            !budget.spend(budget.started + Duration::from_millis(200)),
            "two in 200 ms, not three"
        );
    }

    #[test]
    fn savings_are_bounded() {
        let budget = RetryBudget::default();
        for _ in 0..100_000 {
            budget.earn();
        }
        let now = budget.started + Duration::from_secs(3600);
        let mut retries = 0;
        while budget.spend(now) {
            retries += 1;
        }
        assert_eq!(retries, MOST / COST);
    }
}
