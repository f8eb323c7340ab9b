//! Cooldowns: what failed is not asked for a while, then tried once before it is trusted again.
//!
//! A failure is blamed on the narrowest thing that explains it ([`Scope`]): a credential, an address, a model at
//! an address. Two kinds of waiting: *soft*, our own guess, grows with consecutive failures and is ignored when
//! nothing else is left; *told*, the provider's own "not before", is always kept.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;

/// The first soft cooldown; doubles with each further failure.
const SOFT_FIRST: Duration = Duration::from_secs(1);
const SOFT_MOST: Duration = Duration::from_secs(60);
/// A provider's "not before" is believed up to this.
const TOLD_MOST: Duration = Duration::from_secs(600);
/// A probe that was let through and never reported back is forgotten after this.
const PROBE_LEASE: Duration = Duration::from_secs(15);
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
    failures: u32,
    soft_until: Option<Instant>,
    told_until: Option<Instant>,
    probe: Option<Instant>,
    /// The last failure.
    seen: Instant,
    reason: &'static str,
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
    /// The wait is over, and one request is finding out.
    pub probing: bool,
    pub blame: &'static str,
    pub reason: &'static str,
    pub failures: u32,
    pub remaining: Duration,
    pub told: bool,
}

#[derive(Default)]
pub struct Cooldowns {
    entries: DashMap<Scope, Entry>,
    /// Entries in all: while it is 0, nothing is looked up.
    count: AtomicUsize,
}

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

    /// Notes that `scope` is being asked: past a cooldown the asker becomes the one probe.
    pub fn asked(&self, scope: Scope, now: Instant) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(mut entry) = self.entries.get_mut(&scope)
            && entry.soft_until.is_some()
        {
            entry.probe = Some(now + PROBE_LEASE);
        }
    }

    /// Forgets all failures of `scope`. Returns whether it had been cooling.
    pub fn succeeded(&self, scope: Scope) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        // A "not before" outlives one lucky answer that was under way when it came.
        let now = Instant::now();
        let removed = self.entries.remove_if(&scope, |_, entry| {
            entry.told_until.is_none_or(|until| until <= now)
        });
        if removed.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        removed.is_some_and(|(_, entry)| entry.soft_until.is_some())
    }

    /// Counts a failure; `told` is the provider's own "not before". Returns whether a cooldown began or grew.
    pub fn failed(
        &self,
        scope: Scope,
        blame: Blame,
        provider: &str,
        name: impl FnOnce() -> String,
        reason: &'static str,
        told: Option<Duration>,
        now: Instant,
    ) -> bool {
        if self.count.load(Ordering::Relaxed) >= MOST_ENTRIES && !self.entries.contains_key(&scope)
        {
            self.sweep(now);
            if self.count.load(Ordering::Relaxed) >= MOST_ENTRIES {
                return false;
            }
        }
        let mut entry = self.entries.entry(scope).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            let (provider, name) = (provider.into(), name().into_boxed_str());
            Entry {
                provider,
                name,
                blame,
                failures: 0,
                soft_until: None,
                told_until: None,
                probe: None,
                seen: now,
                reason,
            }
        });
        entry.failures = entry.failures.saturating_add(1);
        entry.reason = reason;
        entry.probe = None;
        entry.seen = now;
        if let Some(told) = told {
            let until = now + told.min(TOLD_MOST);
            // Two answers may name different times: the later one is obeyed.
            entry.told_until = Some(entry.told_until.map_or(until, |before| before.max(until)));
            return true;
        }
        let over = entry.failures.saturating_sub(blame.patience());
        if entry.failures < blame.patience() {
            return false;
        }
        let wait = SOFT_FIRST.saturating_mul(1 << over.min(6)).min(SOFT_MOST);
        let until = now + wait;
        entry.soft_until = Some(entry.soft_until.map_or(until, |before| before.max(until)));
        true
    }

    /// Drops entries that ended long enough ago to say nothing any more.
    pub fn sweep(&self, now: Instant) {
        self.entries.retain(|_, entry| {
            let ends = entry
                .soft_until
                .max(entry.told_until)
                .unwrap_or(entry.seen)
                .max(entry.seen);
            let keep = ends + SOFT_MOST * 5 > now;
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
                let told = entry.told_until.filter(|until| *until > now);
                let probing = entry.probe.filter(|lease| *lease > now);
                let until = told
                    .or(entry.soft_until.filter(|until| *until > now))
                    .or(probing)?;
                Some(Listed {
                    provider: entry.provider.to_string(),
                    name: entry.name.to_string(),
                    probing: probing.is_some(),
                    blame: entry.blame.name(),
                    reason: entry.reason,
                    failures: entry.failures,
                    remaining: until - now,
                    told: told.is_some(),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope::of(Blame::Serving, "lab", &["m", "127.0.0.1:1"])
    }

    fn fail(cooldowns: &Cooldowns, blame: Blame, told: Option<u64>, now: Instant) -> bool {
        cooldowns.failed(
            scope(),
            blame,
            "lab",
            || "m".into(),
            "status",
            told.map(Duration::from_secs),
            now,
        )
    }

    #[test]
    fn serving_failures_cool_after_three_in_a_row() {
        let cooldowns = Cooldowns::default();
        let now = Instant::now();
        assert!(!fail(&cooldowns, Blame::Serving, None, now));
        assert!(!fail(&cooldowns, Blame::Serving, None, now));
        assert_eq!(cooldowns.standing(scope(), now), Standing::Good);
        assert!(fail(&cooldowns, Blame::Serving, None, now));
        assert_eq!(
            cooldowns.standing(scope(), now),
            Standing::Cooling(now + SOFT_FIRST)
        );
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let cooldowns = Cooldowns::default();
        let now = Instant::now();
        fail(&cooldowns, Blame::Serving, None, now);
        fail(&cooldowns, Blame::Serving, None, now);
        cooldowns.succeeded(scope());
        assert!(
            !fail(&cooldowns, Blame::Serving, None, now),
            "the count should have started again"
        );
    }

    #[test]
    fn after_a_cooldown_one_probe_is_let_through() {
        let cooldowns = Cooldowns::default();
        let now = Instant::now();
        fail(&cooldowns, Blame::Endpoint, None, now);
        let later = now + SOFT_FIRST + Duration::from_millis(1);
        assert_eq!(cooldowns.standing(scope(), later), Standing::Good);
        cooldowns.asked(scope(), later);
        assert_eq!(
            cooldowns.standing(scope(), later),
            Standing::Cooling(later + PROBE_LEASE)
        );
        assert!(cooldowns.succeeded(scope()), "it had been cooling");
        assert_eq!(cooldowns.standing(scope(), later), Standing::Good);
    }

    #[test]
    fn the_longest_not_before_wins_and_a_success_does_not_shorten_it() {
        let cooldowns = Cooldowns::default();
        let now = Instant::now();
        fail(&cooldowns, Blame::Quota, Some(30), now);
        fail(&cooldowns, Blame::Quota, Some(5), now);
        assert_eq!(
            cooldowns.standing(scope(), now),
            Standing::Told(now + Duration::from_secs(30))
        );
        cooldowns.succeeded(scope());
        assert_eq!(
            cooldowns.standing(scope(), now),
            Standing::Told(now + Duration::from_secs(30))
        );
    }

    #[test]
    fn soft_cooldowns_double_up_to_a_minute() {
        let cooldowns = Cooldowns::default();
        let now = Instant::now();
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            fail(&cooldowns, Blame::Endpoint, None, now);
            assert_eq!(
                cooldowns.standing(scope(), now),
                Standing::Cooling(now + Duration::from_secs(expected))
            );
        }
    }

    #[test]
    fn what_ended_long_ago_is_swept_and_the_count_returns_to_nothing() {
        let cooldowns = Cooldowns::default();
        let now = Instant::now();
        fail(&cooldowns, Blame::Endpoint, None, now);
        cooldowns.sweep(now + Duration::from_secs(3600));
        assert_eq!(cooldowns.count.load(Ordering::Relaxed), 0);
    }
}
