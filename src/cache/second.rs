//! The second tier: answers that other nodes, or this one before a restart, keep in Redis.
//!
//! Asked only when memory has nothing, and not waited for longer than a call of Redis takes; what is found is kept in
//! memory. Answers are written in the background by a thread of their own, which compresses and seals them: in Redis
//! neither the question nor the answer can be read without `state.master_key`. Nodes with another master key, and
//! builds with another [`FORMAT`], look for other names, so that none misreads what another wrote.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{DeflateDecoder, DeflateEncoder};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::{Entry, Form, Key, MOST_ENTRY};
use crate::protocol::usage::Usage;
use crate::state::redis::{Later, Redis};

/// Changes whenever an older build would misread what is written, or what a key is made of.
const FORMAT: u8 = 1;
/// Larger ones, compressed and sealed, stay in memory alone: one of them would hold up the others.
pub const MOST_SEALED: usize = 1 << 20;
/// Larger ones are not opened among requests that wait.
const OPEN_ASIDE: usize = 64 << 10;
/// Smaller bodies are kept as they are.
const COMPRESS_FROM: usize = 1024;
/// What may wait to be written, and its bytes.
const MOST_WAITING: usize = 256;
const MOST_WAITING_BYTES: usize = 32 << 20;
const SALT: usize = 16;
/// Before this node knows which answers count.
const UNKNOWN: u64 = u64::MAX;

/// The second tier. What it has is for any node.
pub struct Second {
    redis: Redis,
    seals: Arc<Seals>,
    epoch: Epoch,
    /// How long answers are kept beyond their time, in milliseconds.
    stale_ms: AtomicU64,
    queue: SyncSender<Write>,
    waiting: Arc<AtomicUsize>,
    tallies: Arc<Tallies>,
}

/// Which answers count: those of an earlier one were thrown away. Clones share it.
#[derive(Clone)]
pub struct Epoch(Arc<AtomicU64>);

impl Epoch {
    /// While it is not known, no answer is read or written.
    pub fn set(&self, epoch: Option<u64>) {
        self.0.store(epoch.unwrap_or(UNKNOWN), Relaxed);
    }

    fn known(&self) -> Option<u64> {
        Some(self.0.load(Relaxed)).filter(|epoch| *epoch != UNKNOWN)
    }
}

struct Write {
    epoch: u64,
    key: Key,
    entry: Arc<Entry>,
    stale: Duration,
}

#[derive(Default)]
struct Tallies {
    hits: AtomicU64,
    misses: AtomicU64,
    failed: AtomicU64,
    unreadable: AtomicU64,
    sent: AtomicU64,
    too_large: AtomicU64,
    queue_full: AtomicU64,
}

/// What stands before a body.
#[derive(Serialize, Deserialize)]
struct Head {
    stream: bool,
    provider: String,
    model: String,
    model_known: bool,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    cost_pico: Option<u64>,
    /// Milliseconds of the system's clock.
    stored: u64,
    ttl: u64,
    /// The body's length where it is compressed.
    whole: Option<usize>,
}

impl Second {
    /// Starts its thread. `master` is the secret that all nodes have in common.
    pub fn start(redis: Redis, master: &[u8; 32]) -> std::io::Result<Self> {
        let (queue, writes) = sync_channel(MOST_WAITING);
        let second = Self {
            redis,
            seals: Arc::new(Seals::new(master)),
            epoch: Epoch(Arc::new(AtomicU64::new(UNKNOWN))),
            stale_ms: AtomicU64::new(0),
            queue,
            waiting: Arc::default(),
            tallies: Arc::default(),
        };
        let writer = Writer {
            redis: second.redis.clone(),
            seals: second.seals.clone(),
            waiting: second.waiting.clone(),
            tallies: second.tallies.clone(),
        };
        std::thread::Builder::new()
            .name("cache".into())
            .spawn(move || writer.run(&writes))?;
        Ok(second)
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch.clone()
    }

    pub fn set_stale(&self, stale: Duration) {
        self.stale_ms.store(super::millis(stale), Relaxed);
    }

    /// Returns an answer with its age; it may be over its time.
    pub async fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        let epoch = self.epoch.known()?;
        if !self.redis.is_available() {
            return None;
        }
        let found = self.redis.get(&self.seals.name(epoch, key)).await;
        let tallies = &self.tallies;
        let (count, entry) = match found {
            Ok(Some(sealed)) => match self.open(*key, sealed).await {
                Some(entry) => (&tallies.hits, Some(Arc::new(entry))),
                None => (&tallies.unreadable, None),
            },
            Ok(None) => (&tallies.misses, None),
            Err(_) => (&tallies.failed, None),
        };
        count.fetch_add(1, Relaxed);
        entry
    }

    async fn open(&self, key: Key, sealed: Vec<u8>) -> Option<Entry> {
        if sealed.len() <= OPEN_ASIDE {
            return self.seals.open(&key, sealed);
        }
        let seals = self.seals.clone();
        let opening = tokio::task::spawn_blocking(move || seals.open(&key, sealed));
        opening.await.ok().flatten()
    }

    /// Keeps an answer, in the background, if there is room.
    pub fn put(&self, key: Key, entry: &Arc<Entry>) {
        let Some(epoch) = self.epoch.known().filter(|_| self.redis.is_available()) else {
            return;
        };
        let size = entry.body.len();
        let before = self.waiting.fetch_add(size, Relaxed);
        let write = Write {
            epoch,
            key,
            entry: entry.clone(),
            stale: Duration::from_millis(self.stale_ms.load(Relaxed)),
        };
        let fits = before.saturating_add(size) <= MOST_WAITING_BYTES;
        if !fits || self.queue.try_send(write).is_err() {
            self.waiting.fetch_sub(size, Relaxed);
            self.tallies.queue_full.fetch_add(1, Relaxed);
        }
    }

    /// Returns what has happened since the start, by outcome.
    pub fn counts(&self) -> [(&'static str, u64); 7] {
        let of = |count: &AtomicU64| count.load(Relaxed);
        let tallies = &self.tallies;
        [
            ("hit", of(&tallies.hits)),
            ("miss", of(&tallies.misses)),
            ("failed", of(&tallies.failed)),
            ("unreadable", of(&tallies.unreadable)),
            ("sent", of(&tallies.sent)),
            ("too_large", of(&tallies.too_large)),
            ("queue_full", of(&tallies.queue_full)),
        ]
    }
}

/// The thread that seals and writes. It ends with the last one that could put something.
struct Writer {
    redis: Redis,
    seals: Arc<Seals>,
    waiting: Arc<AtomicUsize>,
    tallies: Arc<Tallies>,
}

impl Writer {
    fn run(&self, writes: &Receiver<Write>) {
        for Write {
            epoch,
            key,
            entry,
            stale,
        } in writes
        {
            let sealed = self.seals.seal(&key, &entry);
            self.waiting.fetch_sub(entry.body.len(), Relaxed);
            let Some(sealed) = sealed.filter(|sealed| sealed.len() <= MOST_SEALED) else {
                self.tallies.too_large.fetch_add(1, Relaxed);
                continue;
            };
            let taken = self.redis.later(Later::Set {
                key: self.seals.name(epoch, &key),
                value: sealed,
                ttl: entry.ttl.saturating_add(stale),
            });
            let count = match taken {
                true => &self.tallies.sent,
                false => &self.tallies.queue_full,
            };
            count.fetch_add(1, Relaxed);
        }
    }
}

/// The keys that names and seals are made with.
struct Seals {
    names: hmac::Key,
    seals: hmac::Key,
}

impl Seals {
    fn new(master: &[u8; 32]) -> Self {
        let master = hmac::Key::new(hmac::HMAC_SHA256, master);
        let derive = |purpose: &str| {
            let derived = hmac::sign(&master, purpose.as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
        };
        Self {
            names: derive("cache names"),
            seals: derive("cache seals"),
        }
    }

    /// Returns the name of an answer in Redis. Who has not the key can't try what was asked.
    fn name(&self, epoch: u64, key: &Key) -> String {
        let mut context = hmac::Context::with_key(&self.names);
        context.update(&[FORMAT]);
        context.update(&epoch.to_le_bytes());
        context.update(&key.0);
        let mut name = String::from("cache:");
        for byte in &context.sign().as_ref()[..20] {
            name.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            name.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        name
    }

    /// Each entry has a key of its own, so that no number of them wears one out.
    fn key(&self, salt: &[u8], key: &Key) -> Option<LessSafeKey> {
        let mut context = hmac::Context::with_key(&self.seals);
        context.update(salt);
        context.update(&key.0);
        let own = UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).ok()?;
        Some(LessSafeKey::new(own))
    }

    /// Format, salt, and sealed: the head's length, the head, the body.
    fn seal(&self, key: &Key, entry: &Entry) -> Option<Vec<u8>> {
        let mut body: Bytes = entry.body.clone();
        let mut whole = None;
        if body.len() >= COMPRESS_FROM {
            let mut shorter = Vec::with_capacity(body.len() / 2);
            let mut encoder = DeflateEncoder::new(&*entry.body, Compression::fast());
            encoder.read_to_end(&mut shorter).ok()?;
            if shorter.len() < body.len() {
                whole = Some(body.len());
                body = shorter.into();
            }
        }
        let head = Head {
            stream: entry.form == Form::Stream,
            provider: entry.provider.clone(),
            model: entry.model.clone(),
            model_known: entry.model_known,
            usage: entry.usage.clone(),
            cost_pico: entry.cost_pico,
            stored: clock().saturating_sub(super::millis(entry.stored.elapsed())),
            ttl: super::millis(entry.ttl),
            whole,
        };
        let head = serde_json::to_vec(&head).ok()?;
        let mut salt = [0u8; SALT];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut salt).ok()?;
        let mut sealed = Vec::with_capacity(1 + SALT + 4 + head.len() + body.len() + 16);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(&u32::try_from(head.len()).ok()?.to_le_bytes());
        sealed.extend_from_slice(&head);
        sealed.extend_from_slice(&body);
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let aad = Aad::from(key.0);
        let own = self.key(&salt, key)?;
        let (_, plain) = sealed.split_at_mut(1 + SALT);
        let tag = own.seal_in_place_separate_tag(nonce, aad, plain).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    /// Opens what was sealed; `None` when it is another build's, another key's, or damaged.
    fn open(&self, key: &Key, mut sealed: Vec<u8>) -> Option<Entry> {
        if *sealed.first()? != FORMAT {
            return None;
        }
        let salt: [u8; SALT] = sealed.get(1..1 + SALT)?.try_into().ok()?;
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let own = self.key(&salt, key)?;
        let opened = own
            .open_in_place(nonce, Aad::from(key.0), sealed.get_mut(1 + SALT..)?)
            .ok()?
            .len();
        let plain = Bytes::from(sealed).slice(1 + SALT..1 + SALT + opened);
        let length = u32::from_le_bytes(plain.get(..4)?.try_into().ok()?);
        let end = 4usize.checked_add(usize::try_from(length).ok()?)?;
        let head: Head = serde_json::from_slice(plain.get(4..end)?).ok()?;
        let mut body = plain.slice(end..);
        if let Some(whole) = head.whole {
            if whole > MOST_ENTRY {
                return None;
            }
            let mut longer = Vec::with_capacity(whole);
            let decoder = DeflateDecoder::new(&*body);
            // One more than it should have: what has too much is damaged.
            decoder
                .take(whole as u64 + 1)
                .read_to_end(&mut longer)
                .ok()?;
            if longer.len() != whole {
                return None;
            }
            body = longer.into();
        }
        // Clocks differ: what comes from the future is new.
        let age = Duration::from_millis(clock().saturating_sub(head.stored));
        Some(Entry {
            form: if head.stream {
                Form::Stream
            } else {
                Form::Whole
            },
            body,
            provider: head.provider,
            model: head.model,
            model_known: head.model_known,
            usage: head.usage,
            cost_pico: head.cost_pico,
            degraded: false,
            stored: Instant::now().checked_sub(age)?,
            ttl: Duration::from_millis(head.ttl),
        })
    }
}

/// Returns the system's time in milliseconds.
fn clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, super::millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: &[u8]) -> Entry {
        Entry {
            form: Form::Stream,
            body: Bytes::copy_from_slice(body),
            provider: "lab".into(),
            model: "x".into(),
            model_known: true,
            usage: Some(Usage {
                input: 7,
                tier: Some("flex".into()),
                duration: Duration::from_millis(1500),
                ..Usage::default()
            }),
            cost_pico: Some(12),
            degraded: false,
            stored: Instant::now(),
            ttl: Duration::from_secs(60),
        }
    }

    #[test]
    fn what_is_sealed_opens_for_its_question_and_master_key_alone() {
        let (mine, others) = (Seals::new(&[1; 32]), Seals::new(&[2; 32]));
        let (key, another) = (Key([3; 32]), Key([4; 32]));
        for body in [
            b"short".to_vec(),
            b"again and again ".repeat(1000),
            Vec::new(),
        ] {
            let before = entry(&body);
            let sealed = mine.seal(&key, &before).expect("it is sealed");
            assert!(
                body.len() < 1024 || sealed.len() < body.len(),
                "it is compressed"
            );
            let after = mine.open(&key, sealed.clone()).expect("its own");
            assert_eq!(after.body, before.body);
            assert_eq!(after.form, before.form);
            assert_eq!(after.usage, before.usage);
            assert_eq!(
                (after.provider, after.model, after.cost_pico, after.ttl),
                (before.provider, before.model, before.cost_pico, before.ttl)
            );
            assert!(
                mine.open(&another, sealed.clone()).is_none(),
                "another question"
            );
            assert!(
                others.open(&key, sealed.clone()).is_none(),
                "another master key"
            );
            for at in [0, 1, SALT, sealed.len() / 2, sealed.len() - 1] {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1;
                assert!(mine.open(&key, damaged).is_none(), "byte {at}");
            }
            for length in 0..sealed.len().min(200) {
                assert!(
                    mine.open(&key, sealed[..length].to_vec()).is_none(),
                    "{length}"
                );
            }
        }
        let plain = b"the words of an answer";
        let sealed = mine.seal(&key, &entry(plain)).expect("it is sealed");
        assert!(
            !sealed.windows(5).any(|part| part == b"words"),
            "it can't be read"
        );
    }

    #[test]
    fn names_differ_with_the_question_the_epoch_and_the_master_key() {
        let (mine, others) = (Seals::new(&[1; 32]), Seals::new(&[2; 32]));
        let key = Key([3; 32]);
        let name = mine.name(0, &key);
        assert_eq!(name, mine.name(0, &key));
        for other in [
            mine.name(1, &key),
            mine.name(0, &Key([4; 32])),
            others.name(0, &key),
        ] {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn the_age_of_an_answer_travels_along() {
        let seals = Seals::new(&[1; 32]);
        let key = Key([3; 32]);
        let mut old = entry(b"old");
        let Some(stored) = Instant::now().checked_sub(Duration::from_secs(30)) else {
            return;
        };
        old.stored = stored;
        let sealed = seals.seal(&key, &old).expect("it is sealed");
        let age = seals.open(&key, sealed).expect("its own").stored.elapsed();
        assert!(age >= Duration::from_secs(29), "{age:?}");
    }
}
