//! Admission: every limit of a key, and of whoever it belongs to, asked and charged in one step, and a permit that gives back what it holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::bucket::Bucket;
use super::headers::RateHeaders;
use super::shared::Lot;
use super::{Amount, Holder, Limited, Limits, Which};
use crate::error::{Error, Kind};

/// Keys are not swept below this.
const SWEEP_FROM: usize = 1024;
/// When a request at a time is over can't be known: the client is asked to come again after this.
const CONCURRENT_WAIT: Duration = Duration::from_secs(1);

/// What every limited key has used, by its name; survives reloads.
///
/// A key that is idle and has its full limits again is as good as new and is forgotten, so the table is never
/// larger than twice the keys that were busy within the last minute.
pub struct Limiter {
    keys: DashMap<Arc<str>, Arc<Entry>>,
    begun: Instant,
    sweep_at: AtomicUsize,
}

#[derive(Default)]
struct Entry {
    // One lock for all of a key's limits: it is admitted by all of them or charged by none.
    state: Mutex<State>,
}

struct State {
    /// In the order of [`Which::RATES`].
    buckets: [Bucket; Which::RATES.len()],
    running: u32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            buckets: Which::RATES.map(|which| Bucket::over(which.period())),
            running: 0,
        }
    }
}

/// The right to run one request. Dropped, on whatever path, it ends the request.
///
/// Dropped unsettled it leaves the estimate charged: what was used is then not known, and guessing zero would
/// let a client that always hangs up early go free.
#[derive(Default)]
#[must_use = "dropped at once it limits nothing"]
pub struct Permit {
    /// `None`: there are no limits.
    held: Option<Held>,
    /// Where more than one has limits.
    more: Vec<Held>,
    headers: RateHeaders,
    /// What it holds of what all nodes count together.
    lot: Option<Lot>,
}

struct Held {
    entry: Arc<Entry>,
    begun: Instant,
    admitted: u64,
    /// What is charged so far.
    charged: Amount,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Whose limit it is.
    pub what: Holder,
    pub key: Arc<str>,
    pub which: Which,
    pub limit: u64,
    /// What was asked for, in the limit's own unit.
    pub requested: u64,
    /// `None`: never; the request alone is over the limit.
    pub retry_after: Option<Duration>,
    pub headers: RateHeaders,
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new()
    }
}

impl Limiter {
    pub fn new() -> Self {
        Self {
            keys: DashMap::new(),
            begun: Instant::now(),
            sweep_at: AtomicUsize::new(SWEEP_FROM),
        }
    }

    /// Admits one request of `key` that is estimated at `amount`, or refuses it and charges nothing.
    pub fn admit(
        &self,
        key: &Arc<str>,
        limits: &Limits,
        amount: impl Into<Amount>,
        now: Instant,
    ) -> Result<Permit, Denied> {
        let limited = Limited {
            what: Holder::Key,
            name: key.clone(),
            models: None,
            limits: *limits,
        };
        self.admit_all([&limited].into_iter(), amount.into(), now)
    }

    /// Admits one request that is estimated at `amount` within the limits of all, or refuses it and charges nobody.
    ///
    /// Each of `all` is another, from the widest to the narrowest: so that no two requests wait for each other's locks.
    pub fn admit_all<'l>(
        &self,
        all: impl Iterator<Item = &'l Limited>,
        amount: Amount,
        now: Instant,
    ) -> Result<Permit, Denied> {
        let mut all = all.filter(|limited| !limited.limits.is_unlimited());
        let mut permit = Permit::default();
        let Some(first) = all.next() else {
            return Ok(permit);
        };
        let Some(second) = all.next() else {
            let entry = self.entry(&first.name, now);
            let now = nanos(self.begun, now);
            let mut state = entry.state.lock();
            if let Err(refusal) = state.check(&first.limits, &amount, now) {
                return Err(refusal.of(first, state.headers(&first.limits, now)));
            }
            state.charge(&first.limits, &amount, now);
            permit.headers = state.headers(&first.limits, now);
            drop(state);
            permit.hold(entry, self.begun, now, amount);
            return Ok(permit);
        };
        let entries: Vec<(&Limited, Arc<Entry>)> = [first, second]
            .into_iter()
            .chain(all)
            .map(|limited| (limited, self.entry(&limited.name, now)))
            .collect();
        let now = nanos(self.begun, now);
        let mut states: Vec<_> = entries
            .iter()
            .map(|(_, entry)| entry.state.lock())
            .collect();
        let mut worst: Option<(usize, Refusal)> = None;
        for (at, ((limited, _), state)) in entries.iter().zip(&mut states).enumerate() {
            if let Err(refusal) = state.check(&limited.limits, &amount, now)
                && worst
                    .as_ref()
                    .is_none_or(|(_, worst)| refusal.is_longer(worst))
            {
                worst = Some((at, refusal));
            }
        }
        if let Some((at, refusal)) = worst {
            let limited = entries[at].0;
            return Err(refusal.of(limited, states[at].headers(&limited.limits, now)));
        }
        for ((limited, _), state) in entries.iter().zip(&mut states) {
            state.charge(&limited.limits, &amount, now);
            permit.headers = permit.headers.tightest(state.headers(&limited.limits, now));
        }
        drop(states);
        for (_, entry) in entries {
            permit.hold(entry, self.begun, now, amount);
        }
        Ok(permit)
    }

    /// Returns how many requests of `key` are running under its limits.
    pub fn running(&self, key: &str) -> u32 {
        self.keys
            .get(key)
            .map_or(0, |entry| entry.state.lock().running)
    }

    /// Returns how many keys are remembered.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Forgets the keys that are as good as new.
    pub fn sweep(&self, now: Instant) {
        let now = nanos(self.begun, now);
        // An entry is handed out under the same lock that `retain` holds: with one owner nobody else can have it.
        self.keys
            .retain(|_, entry| Arc::strong_count(entry) > 1 || !entry.state.lock().is_idle(now));
    }

    fn entry(&self, key: &Arc<str>, now: Instant) -> Arc<Entry> {
        if let Some(entry) = self.keys.get(&**key) {
            return entry.clone();
        }
        let len = self.keys.len();
        let at = self.sweep_at.load(Ordering::Relaxed);
        // Only the thread that moves the mark sweeps.
        if len >= at
            && self
                .sweep_at
                .compare_exchange(at, usize::MAX, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.sweep(now);
            self.sweep_at
                .store((2 * self.keys.len()).max(SWEEP_FROM), Ordering::Relaxed);
        }
        self.keys.entry(key.clone()).or_default().clone()
    }
}

struct Refusal {
    which: Which,
    limit: u64,
    requested: u64,
    wait: Option<Duration>,
}

impl Refusal {
    fn is_longer(&self, other: &Self) -> bool {
        match (self.wait, other.wait) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(wait), Some(other)) => wait > other,
        }
    }

    fn of(self, limited: &Limited, headers: RateHeaders) -> Denied {
        Denied {
            what: limited.what,
            key: limited.name.clone(),
            which: self.which,
            limit: self.limit,
            requested: self.requested,
            retry_after: self.wait,
            headers,
        }
    }
}

impl State {
    /// Asks every limit; the one that takes longest is named.
    fn check(&mut self, limits: &Limits, amount: &Amount, now: u64) -> Result<(), Refusal> {
        let mut worst: Option<Refusal> = None;
        for (which, bucket) in Which::RATES.into_iter().zip(&mut self.buckets) {
            let Some(limit) = limits.of(which) else {
                continue;
            };
            let requested = amount.of(which);
            bucket.set_limit(limit, now);
            if which.spares(requested) {
                continue;
            }
            let wait = match bucket.wait(requested, now) {
                Some(0) => continue,
                wait => wait.map(Duration::from_nanos),
            };
            let refusal = Refusal {
                which,
                limit,
                requested,
                wait,
            };
            if worst.as_ref().is_none_or(|worst| refusal.is_longer(worst)) {
                worst = Some(refusal);
            }
        }
        if let Some(refusal) = worst {
            return Err(refusal);
        }
        match limits.concurrent {
            Some(limit) if self.running >= limit => Err(Refusal {
                which: Which::Concurrent,
                limit: u64::from(limit),
                requested: 1,
                wait: (limit > 0).then_some(CONCURRENT_WAIT),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Charges a request that was checked.
    fn charge(&mut self, limits: &Limits, amount: &Amount, now: u64) {
        for (which, bucket) in Which::RATES.into_iter().zip(&mut self.buckets) {
            if limits.of(which).is_some() {
                bucket.charge(amount.of(which), now);
            }
        }
        self.running += 1;
    }

    /// Returns what is left of each, of a minute or of a day, whichever is less.
    fn headers(&self, limits: &Limits, now: u64) -> RateHeaders {
        let level = |which: Which| {
            let bucket = &self.buckets[which as usize];
            limits.of(which).map(|_| bucket.level(now))
        };
        let minute = RateHeaders {
            requests: level(Which::Rpm),
            tokens: level(Which::Tpm),
        };
        if limits.rpd.is_none() && limits.tpd.is_none() {
            return minute;
        }
        minute.tightest(RateHeaders {
            requests: level(Which::Rpd),
            tokens: level(Which::Tpd),
        })
    }

    fn is_idle(&self, now: u64) -> bool {
        self.running == 0 && self.buckets.iter().all(|bucket| bucket.is_full(now))
    }
}

impl Permit {
    /// Replaces the estimate by what was used: the difference goes back or is owed. May be called again.
    pub fn settle(&mut self, amount: impl Into<Amount>) {
        self.settle_at(amount, Instant::now());
    }

    /// [`Permit::settle`] at a given time.
    pub fn settle_at(&mut self, amount: impl Into<Amount>, now: Instant) {
        let amount = amount.into();
        for held in self.held.iter_mut().chain(&mut self.more) {
            held.settle(amount, now);
        }
        if let Some(lot) = &mut self.lot {
            lot.settle(&amount);
        }
    }

    /// Has it hold what all nodes count together: what is left there is what there is.
    pub fn share(&mut self, lot: Option<Lot>) {
        if let Some(lot) = &lot {
            self.headers = lot.headers();
        }
        self.lot = lot;
    }

    /// Gives back all of it, the request too: it was refused elsewhere.
    pub fn undo(mut self) {
        let now = Instant::now();
        for held in self.held.iter_mut().chain(&mut self.more) {
            held.undo(now);
        }
        if let Some(lot) = self.lot.take() {
            lot.undo();
        }
    }

    fn hold(&mut self, entry: Arc<Entry>, begun: Instant, admitted: u64, charged: Amount) {
        let held = Held {
            entry,
            begun,
            admitted,
            charged,
        };
        match self.held {
            None => self.held = Some(held),
            Some(_) => self.more.push(held),
        }
    }

    /// Gives back all that is charged by estimate: no provider was reached. The request itself stays counted.
    pub fn cancel(&mut self) {
        self.settle(Amount::default());
    }

    /// Returns what was left at admission to the one with the least.
    pub fn headers(&self) -> RateHeaders {
        self.headers
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit")
            .field("headers", &self.headers())
            .finish_non_exhaustive()
    }
}

impl Held {
    fn settle(&mut self, amount: Amount, now: Instant) {
        let charged = std::mem::replace(&mut self.charged, amount);
        if charged == amount {
            return;
        }
        let now = nanos(self.begun, now);
        let mut state = self.entry.state.lock();
        // One that has no limit was never charged: it is full, and takes nothing back.
        for (which, bucket) in Which::RATES.into_iter().zip(&mut state.buckets) {
            let (charged, used) = (charged.of(which), amount.of(which));
            if used > charged {
                bucket.owe(used - charged, now);
            } else {
                bucket.refund(charged - used, self.admitted, now);
            }
        }
    }
}

impl Held {
    fn undo(&mut self, now: Instant) {
        let now = nanos(self.begun, now);
        let mut state = self.entry.state.lock();
        for (which, bucket) in Which::RATES.into_iter().zip(&mut state.buckets) {
            bucket.refund(self.charged.of(which), self.admitted, now);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.entry.state.lock();
        state.running = state.running.saturating_sub(1);
    }
}

impl From<Denied> for Error {
    /// A refusal that time cures is a 429; a request that no wait makes small enough is a 413, which clients do
    /// not send again.
    fn from(denied: Denied) -> Error {
        let Denied {
            what,
            key,
            which,
            limit,
            requested,
            retry_after,
            ..
        } = denied;
        let (what, words, advice) = (what.name(), which.words(), which.advice());
        match retry_after {
            Some(wait) => {
                let seconds = wait.as_secs_f64();
                let message = format!(
                    "Rate limit reached for {what} '{key}' on {words}: limit {limit}, requested {requested}. \
                     Please try again in {seconds:.3}s."
                );
                Error::new(Kind::RateLimited, message).with_retry_after(wait)
            }
            None if limit == 0 => Error::new(
                Kind::RateLimited,
                format!("The {what} '{key}' is blocked: its limit of {words} is 0."),
            ),
            None => Error::new(
                Kind::BodyTooLarge,
                format!(
                    "Request too large for {what} '{key}' on {words}: limit {limit}, requested {requested}. \
                     {advice}"
                ),
            ),
        }
    }
}

fn nanos(begun: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(begun).as_nanos()).unwrap_or(u64::MAX)
}
