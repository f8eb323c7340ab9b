//! Who answered a conversation before: prompt caches and opaque blobs (signatures, encrypted reasoning) are worth
//! most, or understood only, where they were made.
//!
//! A pin reorders, and never overrides health or policy: who is cooling down is passed over as ever.

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use super::{Candidate, Route};

/// Conversations remembered; the least used go first.
const MOST: usize = 100_000;
/// Providers keep prompt caches for minutes to an hour.
const TTL: Duration = Duration::from_secs(3600);

/// Where a conversation was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    target: u64,
    credential: Option<u64>,
    since: Instant,
}

/// The table of pins.
pub struct Affinity {
    table: Cache<u64, Pin>,
}

impl Default for Affinity {
    fn default() -> Self {
        Self {
            table: Cache::new(MOST),
        }
    }
}

impl Affinity {
    pub fn get(&self, conversation: u64) -> Option<Pin> {
        let pin = self.table.get(&conversation)?;
        (pin.since.elapsed() < TTL).then_some(pin)
    }

    /// Remembers who answered.
    pub fn put(&self, conversation: u64, candidate: &Candidate, credential: Option<usize>) {
        let pin = Pin {
            target: target(candidate),
            credential: credential.map(|index| hash(&candidate.provider.credentials[index].name)),
            since: Instant::now(),
        };
        self.table.insert(conversation, pin);
    }
}

impl Pin {
    pub fn is_target(&self, candidate: &Candidate) -> bool {
        self.target == target(candidate)
    }

    pub fn is_credential(&self, candidate: &Candidate, index: usize) -> bool {
        self.is_target(candidate)
            && self.credential == Some(hash(&candidate.provider.credentials[index].name))
    }
}

fn target(candidate: &Candidate) -> u64 {
    candidate.id
}

/// Returns a hash of a target's name.
pub(super) fn target_of(provider: &str, model: &str) -> u64 {
    hash(&(provider, model))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Returns what names a conversation: of a tenant and a route, by the client's session or by how it begins.
pub fn conversation(tenant: &str, route: &Route, named: &[u8]) -> u64 {
    hash(&(tenant, &route.name, named))
}

impl Route {
    /// Returns whether there is anything to choose between.
    pub fn has_choice(&self) -> bool {
        self.targets.len() > 1
            || self
                .targets
                .first()
                .is_some_and(|target| target.provider.credentials.len() > 1)
    }
}
