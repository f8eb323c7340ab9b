//! Cooldowns: what failed is not asked for a while, then tried once before it is trusted again.
//!
//! A failure is blamed on the narrowest thing that explains it ([`Scope`]): a credential, an address, a model at
//! an address. Two kinds of waiting: *soft*, our own guess, grows with each time it was right and is ignored when
//! nothing else is left; *told*, the provider's own "not before", is always kept. Before either comes *steering*:
//! a credential whose allowance is nearly spent, as the provider's answers tell, is asked last.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;

/// The first soft cooldown; doubles with each further failure.
const SOFT_FIRST: Duration = Duration::from_secs(1);
/// So that whoever is well again is asked again within half a minute, without an operator.
const SOFT_MOST: Duration = Duration::from_secs(30);
/// A provider's "not before" is believed up to this.
const TOLD_MOST: Duration = Duration::from_secs(600);
/// What another node was told is believed up to this: a limit may be that node's alone.
const HEARD_MOST: Duration = Duration::from_secs(60);
/// A probe that was let through and never reported back is forgotten after this.
const PROBE_LEASE: Duration = Duration::from_secs(15);
/// Failures and answers are counted over this, the window before it by half.
const WINDOW: Duration = Duration::from_secs(10);
/// In a window of so many, half of them failed: it cools although no three in a row did.
const WINDOW_LEAST: u32 = 10;
/// An allowance that is nearly spent is minded for so long at most, because providers name the time until all of
/// it is back.
const STEER_MOST: Duration = Duration::from_secs(60);
/// And for so long where they name none.
const STEER_USUAL: Duration = Duration::from_secs(5);
/// So many requests, or requests as large as the last, left are few.
const FEW: u64 = 8;
/// Entries kept; beyond it those that ended are dropped, then new ones are not recorded.
const MOST_ENTRIES: usize = 50_000;

/// What a failure is blamed on; a hash of the names, so that it survives reloads by identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope(u64);

impl Scope {
    pub fn of(kind: Blame, provider: &str, parts: &[&str]) -> Self {
        use std::hash::{Hash, Hasher};
        let mut hasher = std::hash::DefaultHasher::new();
        (kind, provider, parts).hash(&mut hasher);
        Scope(hasher.finish())
    }

    /// Returns what stands for it where it is told to another node. Of the same names it is the same everywhere.
    pub fn number(self) -> u64 {
        self.0
    }

    pub fn from_number(number: u64) -> Self {
        Scope(number)
    }

    /// Returns the scope of this at one of several endpoints.
    pub fn at(self, endpoint: Scope) -> Self {
        Scope(self.0.rotate_left(23) ^ endpoint.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The credential, for every model: 401, 402, 403.
    Credential,
    /// The credential for one model: 429.
    Quota,
    /// The address: connect and TLS failures.
    Endpoint,
    /// The model at the address: 5xx, time-outs, broken answers.
    Serving,
    /// The model at this provider: 404.
    Model,
}

impl Blame {
    pub const ALL: [Blame; 5] = [
        Blame::Credential,
        Blame::Quota,
        Blame::Endpoint,
        Blame::Serving,
        Blame::Model,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Blame::Credential => "credential",
            Blame::Quota => "quota",
            Blame::Endpoint => "endpoint",
            Blame::Serving => "serving",
            Blame::Model => "model",
        }
    }

    /// Returns how many failures in a row begin a soft cooldown.
    fn patience(self) -> u32 {
        match self {
            Blame::Serving => 3,
            Blame::Credential | Blame::Quota | Blame::Endpoint | Blame::Model => 1,
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    provider: Box<str>,
    name: Box<str>,
    blame: Blame,
    /// In a row.
    failures: u32,
    soft_until: Option<Instant>,
    /// When the soft cooldown began: what was asked before has no say in how long it lasts.
    cooled: Option<Instant>,
    told_until: Option<Instant>,
    probe: Option<Instant>,
    /// The last failure.
    seen: Instant,
    reason: &'static str,
    window: Window,
    /// Cooldowns that began by the share of failures, and the end of the last.
    ejections: u32,
    ejected: Option<Instant>,
    spare: Option<Spare>,
}

/// How it went of late.
#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    good: u32,
    bad: u32,
}

/// What is left of an allowance that is nearly spent.
#[derive(Debug, Clone, Copy)]
struct Spare {
    requests: u64,
    tokens: u64,
    until: Instant,
}

/// What a provider's answer says is left of the allowance it was charged to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
    /// When there is more, for the one that is short.
    pub requests_reset: Option<Duration>,
    pub tokens_reset: Option<Duration>,
}

/// A failure and what it is blamed on.
pub struct Failed<'a> {
    pub scope: Scope,
    pub blame: Blame,
    pub provider: &'a str,
    /// The model and what of it is blamed: a credential's name, an endpoint.
    pub name: &'a dyn Fn() -> String,
    pub reason: &'static str,
    /// The provider's own "not before".
    pub told: Option<Duration>,
    /// When the attempt began.
    pub asked: Instant,
}

/// A cooldown that began by a provider's own answer, as other nodes are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun<'a> {
    pub scope: Scope,
    pub blame: Blame,
    pub provider: &'a str,
    pub name: &'a str,
    pub wait: Duration,
}

impl Window {
    /// Forgets what is too old.
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < WINDOW {
            return;
        }
        let keep = u32::from(age < 2 * WINDOW);
        self.good = self.good / 2 * keep;
        self.bad = self.bad / 2 * keep;
        self.since = now;
    }

    fn is_bad(&self) -> bool {
        let all = self.good.saturating_add(self.bad);
        all >= WINDOW_LEAST && self.bad.saturating_mul(2) >= all
    }
}

impl Entry {
    fn new(failed: &Failed<'_>, now: Instant) -> Self {
        Self {
            provider: failed.provider.into(),
            name: (failed.name)().into_boxed_str(),
            blame: failed.blame,
            failures: 0,
            soft_until: None,
            cooled: None,
            told_until: None,
            probe: None,
            seen: now,
            reason: failed.reason,
            window: Window {
                since: now,
                good: 0,
                bad: 0,
            },
            ejections: 0,
            ejected: None,
            spare: None,
        }
    }

    /// Whether it says nothing any more.
    fn is_idle(&self, now: Instant) -> bool {
        let past = |until: Option<Instant>| until.is_none_or(|until| until <= now);
        self.soft_until.is_none()
            && past(self.told_until)
            && past(self.spare.map(|spare| spare.until))
            && past(self.ejected.map(|ended| ended + SOFT_MOST))
            && (self.window.bad == 0 || self.window.since + 2 * WINDOW <= now)
    }
}

/// Whether something may be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Good,
    /// Our guess says no; may be asked when nothing else is left.
    Cooling(Instant),
    /// The provider said no.
    Told(Instant),
}

/// One line of the admin listing.
#[derive(Debug, Clone)]
pub struct Listed {
    pub provider: String,
    /// The model and what of it is blamed: a credential's name, an endpoint.
    pub name: String,
    pub state: Waiting,
    pub blame: &'static str,
    pub reason: &'static str,
    pub failures: u32,
    pub remaining: Duration,
}

/// What [`Listed`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Our own guess.
    Cooling,
    /// The wait is over, and one request is finding out.
    Probing,
    /// The provider said when.
    Told,
    /// Its allowance is nearly spent: others go first where it is too short for a request.
    Steered,
}

impl Waiting {
    pub fn name(self) -> &'static str {
        match self {
            Waiting::Cooling => "cooling",
            Waiting::Probing => "probing",
            Waiting::Told => "told",
            Waiting::Steered => "steered",
        }
    }
}

#[derive(Default)]
pub struct Cooldowns {
    entries: DashMap<Scope, Entry>,
    /// Entries in all: while it is 0, nothing is looked up.
    count: AtomicUsize,
    /// Tells other nodes.
    told: OnceLock<Teller>,
}

type Teller = Box<dyn Fn(&Begun<'_>) + Send + Sync>;

impl Cooldowns {
    /// Returns the standing of `scope`. After a cooldown one caller is let through to probe; others still wait.
    pub fn standing(&self, scope: Scope, now: Instant) -> Standing {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Standing::Good;
        }
        let Some(entry) = self.entries.get(&scope) else {
            return Standing::Good;
        };
        if let Some(until) = entry.told_until.filter(|until| *until > now) {
            return Standing::Told(until);
        }
        if let Some(until) = entry.soft_until {
            if until > now {
                return Standing::Cooling(until);
            }
            if let Some(lease) = entry.probe.filter(|lease| *lease > now) {
                return Standing::Cooling(lease);
            }
        }
        Standing::Good
    }

    /// Notes that `scope` is being asked: past a cooldown the asker becomes the one probe, until the instant that is
    /// returned, or until it is [released](Self::release).
    pub fn asked(&self, scope: Scope, now: Instant) -> Option<Instant> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut entry = self.entries.get_mut(&scope)?;
        entry.soft_until?;
        let lease = now + PROBE_LEASE;
        entry.probe = Some(lease);
        Some(lease)
    }

    /// Lets another probe: the one of `lease` never found out.
    pub fn release(&self, scope: Scope, lease: Instant) {
        if let Some(mut entry) = self.entries.get_mut(&scope)
            && entry.probe == Some(lease)
        {
            entry.probe = None;
        }
    }

    /// Notes an answer of `scope` to what was asked at `asked`. Returns whether it had been cooling, which is over now.
    pub fn succeeded(&self, scope: Scope, asked: Instant, now: Instant) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let Some(mut entry) = self.entries.get_mut(&scope) else {
            return false;
        };
        entry.window.turn(now);
        entry.window.good = entry.window.good.saturating_add(1);
        // A lucky answer that was under way when the cooldown began doesn't end it.
        if entry.cooled.is_some_and(|since| asked < since) {
            return false;
        }
        let ended = entry.soft_until.take().is_some();
        entry.cooled = None;
        entry.probe = None;
        entry.failures = 0;
        let idle = entry.is_idle(now);
        drop(entry);
        if idle {
            self.remove_idle(scope, now);
        }
        ended
    }

    fn remove_idle(&self, scope: Scope, now: Instant) {
        let removed = self
            .entries
            .remove_if(&scope, |_, entry| entry.is_idle(now));
        if removed.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Has `tell` called with each cooldown that a provider's own answer begins: it told when, or what it says of the
    /// account holds wherever it is used.
    pub fn on_begin(&self, tell: impl Fn(&Begun<'_>) + Send + Sync + 'static) {
        // Set once, before the first request.
        let _ = self.told.set(Box::new(tell));
    }

    /// Minds a cooldown that began on another node. Here it is a guess, which is ignored when nothing else is left.
    pub fn heard(&self, begun: &Begun<'_>, now: Instant) {
        let name = || begun.name.to_owned();
        let failed = Failed {
            scope: begun.scope,
            blame: begun.blame,
            provider: begun.provider,
            name: &name,
            reason: "shared",
            told: None,
            asked: now,
        };
        let Some(mut entry) = self.entry(&failed, now) else {
            return;
        };
        let until = now + begun.wait.min(HEARD_MOST);
        if entry.soft_until.is_none_or(|before| before < until) {
            entry.soft_until = Some(until);
            entry.reason = failed.reason;
        }
        entry.cooled = Some(now);
        entry.seen = now;
        entry.probe = None;
    }

    /// Counts a failure. Returns whether a cooldown began or grew.
    pub fn failed(&self, failed: &Failed<'_>, now: Instant) -> bool {
        let wait = self.count_failure(failed, now);
        let account = matches!(failed.blame, Blame::Credential | Blame::Quota);
        let theirs = failed.told.is_some() || (account && failed.reason == "status");
        if let (Some(wait), Some(tell), true) = (wait, self.told.get(), theirs) {
            tell(&Begun {
                scope: failed.scope,
                blame: failed.blame,
                provider: failed.provider,
                name: &(failed.name)(),
                wait,
            });
        }
        wait.is_some()
    }

    /// Returns how long it cools, when that began or grew.
    fn count_failure(&self, failed: &Failed<'_>, now: Instant) -> Option<Duration> {
        let mut entry = self.entry(failed, now)?;
        entry.window.turn(now);
        entry.window.bad = entry.window.bad.saturating_add(1);
        entry.reason = failed.reason;
        entry.blame = failed.blame;
        entry.seen = now;
        if let Some(told) = failed.told {
            entry.failures = entry.failures.saturating_add(1);
            entry.probe = None;
            let wait = told.min(TOLD_MOST);
            let until = now + wait;
            // Two answers may name different times: the later one is obeyed.
            entry.told_until = Some(entry.told_until.map_or(until, |before| before.max(until)));
            return Some(wait);
        }
        // Of many that were under way when it failed, all fail: that is one failure, not many in a row.
        if entry.cooled.is_some_and(|since| failed.asked < since) {
            return None;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.probe = None;
        let patience = failed.blame.patience();
        let doublings = if entry.failures >= patience {
            entry.failures - patience
        } else if failed.blame == Blame::Serving && entry.window.is_bad() {
            let remembered = entry.ejected.is_some_and(|ended| ended + SOFT_MOST > now);
            let before = if remembered { entry.ejections } else { 0 };
            entry.ejections = before.saturating_add(1);
            (entry.window.good, entry.window.bad) = (0, 0);
            before
        } else {
            return None;
        };
        let wait = SOFT_FIRST
            .saturating_mul(1 << doublings.min(6))
            .min(SOFT_MOST);
        let until = now + wait;
        if entry.failures < patience {
            entry.ejected = Some(until);
        }
        entry.soft_until = Some(entry.soft_until.map_or(until, |before| before.max(until)));
        entry.cooled = Some(now);
        Some(wait)
    }

    /// Returns the entry of what failed, made where there is none; `None` where there is no room for it.
    fn entry(
        &self,
        failed: &Failed<'_>,
        now: Instant,
    ) -> Option<dashmap::mapref::one::RefMut<'_, Scope, Entry>> {
        if self.count.load(Ordering::Relaxed) >= MOST_ENTRIES
            && !self.entries.contains_key(&failed.scope)
        {
            self.sweep(now);
            if self.count.load(Ordering::Relaxed) >= MOST_ENTRIES {
                return None;
            }
        }
        Some(self.entries.entry(failed.scope).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            Entry::new(failed, now)
        }))
    }

    /// Minds what an answer said is left of the allowance of `scope`, which a request of `tokens` was charged to.
    /// Returns whether it is nearly spent.
    pub fn left(&self, scope: &Failed<'_>, left: &Allowance, tokens: u64, now: Instant) -> bool {
        let requests = left.requests.unwrap_or(u64::MAX);
        let of_tokens = left.tokens.unwrap_or(u64::MAX);
        let few_requests = requests <= FEW;
        let few_tokens = of_tokens <= tokens.max(1).saturating_mul(FEW);
        if !few_requests && !few_tokens {
            if self.count.load(Ordering::Relaxed) > 0
                && let Some(mut entry) = self.entries.get_mut(&scope.scope)
            {
                entry.spare = None;
            }
            return false;
        }
        let resets = [
            left.requests_reset.filter(|_| few_requests),
            left.tokens_reset.filter(|_| few_tokens),
        ];
        let reset = resets.into_iter().flatten().max().unwrap_or(STEER_USUAL);
        if let Some(mut entry) = self.entry(scope, now) {
            entry.spare = Some(Spare {
                requests,
                tokens: of_tokens,
                until: now + reset.min(STEER_MOST),
            });
        }
        true
    }

    /// Takes a request of `tokens` from an allowance that is nearly spent: its answer is not there yet, and others
    /// are about to ask.
    pub fn took(&self, scope: Scope, tokens: u64) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(mut entry) = self.entries.get_mut(&scope)
            && let Some(spare) = &mut entry.spare
        {
            spare.requests = spare.requests.saturating_sub(1);
            spare.tokens = spare.tokens.saturating_sub(tokens);
        }
    }

    /// Returns until when a request of `tokens` is more than what is left of the allowance of `scope`.
    pub fn spent(&self, scope: Scope, tokens: u64, now: Instant) -> Option<Instant> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let spare = self.entries.get(&scope)?.spare?;
        let short = spare.requests == 0 || spare.tokens < tokens;
        (short && spare.until > now).then_some(spare.until)
    }

    /// Drops entries that ended long enough ago to say nothing any more.
    pub fn sweep(&self, now: Instant) {
        self.entries.retain(|_, entry| {
            let spare = entry.spare.map(|spare| spare.until);
            let ends = entry
                .soft_until
                .max(entry.told_until)
                .max(spare)
                .unwrap_or(entry.seen)
                .max(entry.seen);
            let keep = ends + SOFT_MOST * 5 > now && !entry.is_idle(now);
            if !keep {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            keep
        });
    }

    /// Forgets everything: an operator knows better.
    pub fn clear(&self) {
        self.entries.retain(|_, _| {
            self.count.fetch_sub(1, Ordering::Relaxed);
            false
        });
    }

    /// Returns everything that is cooling now.
    pub fn list(&self, now: Instant) -> Vec<Listed> {
        self.entries
            .iter()
            .filter_map(|entry| {
                let later = |until: Option<Instant>| until.filter(|until| *until > now);
                let (state, until) = None
                    .or(later(entry.told_until).map(|until| (Waiting::Told, until)))
                    .or(later(entry.soft_until).map(|until| (Waiting::Cooling, until)))
                    .or(later(entry.probe).map(|until| (Waiting::Probing, until)))
                    .or(later(entry.spare.map(|it| it.until))
                        .map(|until| (Waiting::Steered, until)))?;
                Some(Listed {
                    provider: entry.provider.to_string(),
                    name: entry.name.to_string(),
                    state,
                    blame: entry.blame.name(),
                    reason: entry.reason,
                    failures: entry.failures,
                    remaining: until - now,
                })
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
