//! Asked before? The exact cache, one table shared by all worker threads, and single flight.
//!
//! The key is a SHA-256 over the tenant, the protocol, the route with its targets and every field of the request
//! that can change the answer, compared in full. One entry serves streamed and whole requests: it keeps the
//! answer as it came, and the reader converts it when the other form is asked for. Consulted only after access,
//! limits and guards. Errors, cut and truncated answers are never stored.
//!
//! What memory has not, Redis may have, for all nodes: see [`second`].

mod flight;
pub mod second;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use quick_cache::sync::Cache as Table;

use crate::protocol::Protocol;
use crate::protocol::envelope::Envelope;
use crate::protocol::usage::Usage;

pub use flight::{Flights, Follower, Lead, Outcome, Shared, Ticket};
use second::Second;

/// Answers larger than this are not kept.
pub const MOST_ENTRY: usize = 4 << 20;

/// The `[cache]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub enabled: bool,
    /// Bytes.
    pub memory: u64,
    pub ttl: Duration,
    /// What is not in memory is looked for in Redis, and kept there too.
    pub redis: bool,
    /// Answers are kept beyond their time for this long: the longest `stale_if_error` of all keys and models.
    pub stale: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            memory: 256 << 20,
            ttl: Duration::from_secs(3600),
            redis: false,
            stale: Duration::ZERO,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// A kept answer, in the protocol of the requests that share its key.
#[derive(Debug)]
pub struct Entry {
    pub form: Form,
    pub body: Bytes,
    pub provider: String,
    pub model: String,
    /// See `routing::Candidate::label`.
    pub model_known: bool,
    pub usage: Option<Usage>,
    /// What it cost when it was made: what a hit saves.
    pub cost_pico: Option<u64>,
    /// The model for outages gave it: it is shared with those who wait, and not kept.
    pub degraded: bool,
    pub stored: Instant,
    pub ttl: Duration,
}

/// How the answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Whole,
    /// Server-sent events, with the usage chunk.
    Stream,
}

/// What makes two requests the same, besides their fields.
pub struct Scope<'a> {
    /// The client key's name; answers never cross it.
    pub tenant: &'a str,
    pub protocol: Protocol,
    /// See `routing::Route::fingerprint`.
    pub route: u64,
    /// Headers that change the answer (`anthropic-beta`).
    pub beta: &'a [u8],
}

impl Key {
    pub fn of(scope: &Scope<'_>, envelope: &Envelope<'_>, body: &[u8]) -> Self {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        let mut part = |bytes: &[u8]| {
            // The length first: two parts can't be read as two others.
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(scope.tenant.as_bytes());
        part(scope.protocol.name().as_bytes());
        part(&scope.route.to_le_bytes());
        part(scope.beta);
        envelope.canonical(body, &mut |name, value| {
            part(name);
            part(value);
        });
        // `n` answers can't be converted between the two forms: each form has its own entry.
        if envelope.n.is_some_and(|n| n > 1) {
            part(if envelope.stream { b"stream" } else { b"whole" });
        }
        let digest = hash.finish();
        let mut key = [0; 32];
        key.copy_from_slice(digest.as_ref());
        Key(key)
    }
}

#[derive(Clone)]
struct Weigh;

impl quick_cache::Weighter<Key, Arc<Entry>> for Weigh {
    fn weight(&self, _: &Key, entry: &Arc<Entry>) -> u64 {
        (entry.body.len() + size_of::<Entry>() + size_of::<Key>() + 64) as u64
    }
}

/// All kept answers, bounded in bytes; the least useful go first.
pub struct Cache {
    table: Table<Key, Arc<Entry>, Weigh>,
    pub flights: Flights,
    stores: AtomicU64,
    /// See [`Settings::stale`], in milliseconds.
    stale_ms: AtomicU64,
    second: ArcSwapOption<Second>,
}

impl Cache {
    /// `second` is used where the settings say so.
    pub fn new(settings: &Settings, second: Option<&Arc<Second>>) -> Self {
        // An estimate of 4 KiB an answer sizes the index; the bound is in bytes.
        let expected = usize::try_from(settings.memory / 4096)
            .unwrap_or(usize::MAX)
            .clamp(64, 1 << 20);
        let table = Table::with_weighter(expected, settings.memory, Weigh);
        let cache = Self {
            table,
            flights: Flights::default(),
            stores: AtomicU64::new(0),
            stale_ms: AtomicU64::new(0),
            second: ArcSwapOption::empty(),
        };
        cache.configure(settings, second);
        cache
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        let entry = self.table.get(key)?;
        let age = entry.stored.elapsed();
        if age <= entry.ttl {
            return Some(entry);
        }
        let stale = Duration::from_millis(self.stale_ms.load(Ordering::Relaxed));
        if age - entry.ttl > stale {
            self.table.remove(key);
        }
        None
    }

    /// Returns an answer that is over its time, by no more than `most`.
    pub fn stale(&self, key: &Key, most: Duration) -> Option<Arc<Entry>> {
        let entry = self.table.get(key)?;
        let over = entry.stored.elapsed().saturating_sub(entry.ttl);
        (over <= most).then_some(entry)
    }

    /// Asks the second tier for what memory has not, and keeps what it has. It may take a moment.
    pub async fn recall(&self, key: &Key) -> Option<Arc<Entry>> {
        let second = self.second.load_full()?;
        let entry = second.get(key).await?;
        // One that is over its time may still serve when nobody answers.
        self.table.insert(*key, entry.clone());
        (entry.stored.elapsed() <= entry.ttl).then_some(entry)
    }

    pub fn put(&self, key: Key, entry: Arc<Entry>) {
        self.stores.fetch_add(1, Ordering::Relaxed);
        if let Some(second) = &*self.second.load() {
            second.put(key, &entry);
        }
        self.table.insert(key, entry);
    }

    pub fn entries(&self) -> usize {
        self.table.len()
    }

    pub fn bytes(&self) -> u64 {
        self.table.weight()
    }

    pub fn clear(&self) {
        self.table.clear();
    }

    /// Changes the bounds, and whether there is a second tier.
    pub fn configure(&self, settings: &Settings, second: Option<&Arc<Second>>) {
        self.table.set_capacity(settings.memory);
        self.stale_ms
            .store(millis(settings.stale), Ordering::Relaxed);
        let second = second.filter(|_| settings.redis);
        if let Some(second) = second {
            second.set_stale(settings.stale);
        }
        self.second.store(second.cloned());
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
