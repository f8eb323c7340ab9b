//! Redis (or Valkey): what nodes share at once, and may lose.
//!
//! A thread of its own has the connections: it makes them, looks after them, makes them anew when they break, and hears
//! what other nodes tell. Nobody waits for a Redis that is away: a call takes `state.redis.timeout` at most, and after
//! some in a row that did, or when a connection breaks, further calls are [`Failure::Away`] at once, until the thread
//! has seen Redis answer again. What a feature does without it is the feature's own rule.
//!
//! Large values go over a connection of their own, so that no short call waits behind one.

mod later;
mod link;
mod settings;
mod tally;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, ToRedisArgs};
use arc_swap::ArcSwapOption;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, watch};

use super::Health;
pub use later::Later;
use later::Queue;
use link::Line;
pub use settings::{Identity, Mode, Settings, check_url, is_tls};
use tally::Tallies;
pub use tally::{BOUNDS_NS, Call, Counts, Outcome};

/// Calls that may be under way at once; one more is [`Failure::Away`].
const MOST_CALLS: usize = 8192;
/// Calls that fail in a row until it counts as away.
const TRIP_AFTER: u32 = 5;
/// For so long health tells what was refused last.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// A refusal in Redis's own words is cut there.
const LONGEST_REFUSAL: usize = 200;

/// The connection to Redis. Clones share it.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It was not sent, or Redis did not do it: it is away, starting, or not the one that writes now.
    Away,
    /// It was sent, and nothing came back in time: it may have been done or not.
    Lost,
    /// Redis did not do it, and says why.
    Refused(String),
}

/// A Lua script. It runs as a whole, and Redis keeps it by its hash.
pub struct Script {
    text: &'static str,
    hash: String,
}

/// What one node tells the others of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Keys, policies, limits, budgets: the directory has changed.
    Directory,
    /// A cooldown began, or all were taken away.
    Cooldowns,
    /// The kept answers were thrown away.
    Cache,
}

impl Topic {
    pub const ALL: [Topic; 3] = [Topic::Directory, Topic::Cooldowns, Topic::Cache];

    pub fn name(self) -> &'static str {
        match self {
            Topic::Directory => "directory",
            Topic::Cooldowns => "cooldowns",
            Topic::Cache => "cache",
        }
    }
}

/// What a listener hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'m> {
    /// From now on it hears; what was told before, it may have missed.
    Joined,
    /// Another node's words.
    Told(&'m [u8]),
}

/// It runs on the thread that looks after the connections, and must be quick.
type Listener = Box<dyn Fn(Heard<'_>) + Send + Sync>;

/// Which connection a call goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Quick,
    /// Large values.
    Bulk,
}

/// A connection, as calls see it.
#[derive(Default)]
struct Lane {
    /// `None`: away.
    line: ArcSwapOption<Line>,
    /// In a row.
    failures: AtomicU32,
}

/// What the thread and the requests share.
struct Shared {
    settings: Settings,
    /// This node's own words are not for it.
    node: String,
    quick: Lane,
    bulk: Lane,
    calls: AtomicUsize,
    /// Something is wrong with a lane: the thread has a look.
    trouble: Notify,
    /// The server takes no writes any more.
    demoted: AtomicBool,
    /// Why it is away.
    detail: Mutex<Option<String>>,
    refused: Mutex<Option<(Instant, String)>>,
    listeners: Mutex<Vec<(Topic, Listener)>>,
    queue: Queue,
    tallies: Tallies,
    stop: watch::Sender<bool>,
    ended: Mutex<bool>,
    end: Condvar,
}

impl Redis {
    /// Starts the thread; it connects in the background, and until then Redis is away.
    pub fn start(settings: Settings) -> Self {
        let (queue, waiting) = Queue::new();
        let shared = Arc::new(Shared {
            settings,
            node: format!("{:016x}", fastrand::u64(..)),
            quick: Lane::default(),
            bulk: Lane::default(),
            calls: AtomicUsize::new(0),
            trouble: Notify::new(),
            demoted: AtomicBool::new(false),
            detail: Mutex::new(Some("not connected yet".into())),
            refused: Mutex::default(),
            listeners: Mutex::default(),
            queue,
            tallies: Tallies::default(),
            stop: watch::Sender::new(false),
            ended: Mutex::new(false),
            end: Condvar::new(),
        });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("redis".into())
            .spawn(move || {
                worker::run(&theirs, waiting);
                *theirs.ended.lock() = true;
                theirs.end.notify_all();
            });
        if let Err(error) = thread {
            tracing::error!(%error, "the thread of Redis can't be started: it counts as away");
            *shared.detail.lock() = Some(format!("its thread can't be started: {error}"));
            *shared.ended.lock() = true;
        }
        Self { shared }
    }

    /// Returns whether calls are made now.
    pub fn is_available(&self) -> bool {
        self.shared.quick.is_up()
    }

    /// Returns whether it is a cluster: there the keys of one script must share a hash tag, a part in braces.
    pub fn is_cluster(&self) -> bool {
        self.shared.settings.mode == Mode::Cluster
    }

    /// Returns what a call takes at most.
    pub fn timeout(&self) -> Duration {
        self.shared.settings.timeout
    }

    /// Runs a script. The prefix goes before each of `keys`; a script names no other.
    pub async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        args: impl ToRedisArgs,
    ) -> Result<T, Failure> {
        self.shared.script(script, keys, args).await
    }

    /// Reads a value, which may be large.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        let mut cmd = Cmd::new();
        cmd.arg("GET").arg(self.shared.key(key));
        self.shared.call(Call::Get, Way::Bulk, &cmd).await
    }

    /// Keeps a value, which may be large, for `ttl`.
    pub async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), Failure> {
        self.shared.set(key, value, ttl).await
    }

    /// Has something done in the background. Returns whether there was room, and a Redis.
    pub fn later(&self, later: Later) -> bool {
        let tallies = &self.shared.tallies;
        if !self.is_available() {
            tallies.dropped_away.fetch_add(1, Relaxed);
            return false;
        }
        let fits = self.shared.queue.put(later);
        if !fits {
            tallies.dropped_full.fetch_add(1, Relaxed);
        }
        fits
    }

    /// Tells the other nodes, in the background. Those that don't hear now never will: whoever tells has another way
    /// to find out.
    pub fn tell(&self, topic: Topic, words: &[u8]) -> bool {
        self.later(Later::Tell(topic, words.to_vec()))
    }

    /// Has `listener` called with what other nodes tell of `topic`, on the thread that looks after the connections.
    pub fn hear(&self, topic: Topic, listener: impl Fn(Heard<'_>) + Send + Sync + 'static) {
        if self.is_available() {
            listener(Heard::Joined);
        }
        let listener = Box::new(listener);
        self.shared.listeners.lock().push((topic, listener));
    }

    pub fn health(&self) -> Health {
        self.shared.health()
    }

    pub fn counts(&self) -> Counts {
        let (queued, queued_bytes) = self.shared.queue.length();
        Counts {
            available: self.is_available(),
            queued,
            queued_bytes,
            ..self.shared.tallies.counts()
        }
    }

    /// Does what waits in the background and ends the thread. Returns whether it was in time. It blocks the thread that
    /// calls it.
    pub fn close(&self, timeout: Duration) -> bool {
        self.shared.stop.send_replace(true);
        let until = Instant::now() + timeout;
        let mut ended = self.shared.ended.lock();
        while !*ended {
            if self.shared.end.wait_until(&mut ended, until).timed_out() {
                return *ended;
            }
        }
        true
    }
}

impl Script {
    pub fn new(text: &'static str) -> Self {
        let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let hash = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Self {
            text,
            hash: hash.collect(),
        }
    }
}

impl Lane {
    fn is_up(&self) -> bool {
        self.line.load().is_some()
    }

    fn open(&self, line: &Arc<Line>) {
        self.failures.store(0, Relaxed);
        self.line.store(Some(line.clone()));
    }
}

/// One of the calls that may be under way.
struct Room<'a>(&'a AtomicUsize);

impl<'a> Room<'a> {
    fn take(calls: &'a AtomicUsize) -> Option<Self> {
        let before = calls.fetch_add(1, Relaxed);
        let room = Self(calls);
        (before < MOST_CALLS).then_some(room)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Shared {
    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.settings.prefix)
    }

    /// The channel on which nodes tell each other; its number is that of the words' form.
    fn channel(&self) -> String {
        self.key("told:1")
    }

    fn lane(&self, way: Way) -> &Lane {
        match way {
            Way::Quick => &self.quick,
            Way::Bulk => &self.bulk,
        }
    }

    async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        args: impl ToRedisArgs,
    ) -> Result<T, Failure> {
        let cmd = |verb: &str, which: &str| {
            let mut cmd = Cmd::new();
            cmd.arg(verb).arg(which).arg(keys.len());
            for key in keys {
                cmd.arg(self.key(key));
            }
            cmd.arg(&args);
            cmd
        };
        let short = cmd("EVALSHA", &script.hash);
        match self.call(Call::Script, Way::Quick, &short).await {
            // Redis has started anew, or another node of the cluster has the keys now.
            Err(Failure::Refused(why)) if why.starts_with("NOSCRIPT") => {
                let whole = cmd("EVAL", script.text);
                self.call(Call::Script, Way::Quick, &whole).await
            }
            outcome => outcome,
        }
    }

    async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), Failure> {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut cmd = Cmd::new();
        cmd.arg("SET").arg(self.key(key)).arg(value);
        cmd.arg("PX").arg(ttl);
        self.call(Call::Set, Way::Bulk, &cmd).await
    }

    async fn tell(&self, topic: Topic, words: &[u8]) -> Result<(), Failure> {
        let mut message = format!("{} {} ", self.node, topic.name()).into_bytes();
        message.extend_from_slice(words);
        let mut cmd = Cmd::new();
        cmd.arg("PUBLISH").arg(self.channel()).arg(message);
        self.call(Call::Tell, Way::Quick, &cmd).await
    }

    /// Makes a call, and counts what it came to.
    async fn call<T: FromRedisValue>(&self, call: Call, way: Way, cmd: &Cmd) -> Result<T, Failure> {
        let begun = Instant::now();
        let outcome = self.ask(way, cmd).await;
        let counted = match &outcome {
            Ok(_) => Outcome::Ok,
            Err(Failure::Away) => Outcome::Away,
            Err(Failure::Lost) => Outcome::Lost,
            Err(Failure::Refused(_)) => Outcome::Refused,
        };
        self.tallies.count(call, counted, begun.elapsed());
        outcome
    }

    async fn ask<T: FromRedisValue>(&self, way: Way, cmd: &Cmd) -> Result<T, Failure> {
        let lane = self.lane(way);
        let line = lane.line.load_full().ok_or(Failure::Away)?;
        let _room = Room::take(&self.calls).ok_or(Failure::Away)?;
        match tokio::time::timeout(self.settings.timeout, line.ask(cmd)).await {
            Ok(Ok(answer)) => {
                // Read first: a line of memory that all share is not written for every answer.
                if lane.failures.load(Relaxed) > 0 {
                    lane.failures.store(0, Relaxed);
                }
                Ok(answer)
            }
            Ok(Err(error)) => Err(self.failed(lane, &line, &error)),
            Err(_) => {
                self.count_failure(lane, &line, false);
                Err(Failure::Lost)
            }
        }
    }

    /// Says what an error of a call means, and whether Redis still counts as there.
    fn failed(&self, lane: &Lane, line: &Arc<Line>, error: &RedisError) -> Failure {
        let kind = error.kind();
        if matches!(kind, ErrorKind::Io | ErrorKind::ClusterConnectionNotFound) {
            self.count_failure(lane, line, error.is_connection_dropped());
            return Failure::Lost;
        }
        // It is there and can't do its work: it starts, or another is the one that writes now.
        let elsewhere = matches!(
            kind,
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask
            )
        );
        if elsewhere {
            // Its name may lead to another by now, and the sentinels know which.
            let demoted = kind == ErrorKind::Server(ServerErrorKind::ReadOnly);
            self.demoted.fetch_or(demoted, Relaxed);
            self.count_failure(lane, line, demoted);
            return Failure::Away;
        }
        let code = error.code().unwrap_or("ERR");
        let detail = error.detail().unwrap_or_default();
        let why: String = format!("{code} {detail}")
            .chars()
            .take(LONGEST_REFUSAL)
            .collect();
        if code != "NOSCRIPT" {
            *self.refused.lock() = Some((Instant::now(), why.clone()));
        }
        Failure::Refused(why)
    }

    /// Counts a failure; after some in a row, or when the connection is `broken`, nobody else tries it.
    fn count_failure(&self, lane: &Lane, line: &Arc<Line>, broken: bool) {
        let failures = lane.failures.fetch_add(1, Relaxed).saturating_add(1);
        if !broken && failures < TRIP_AFTER {
            return;
        }
        // A late failure of a connection that was replaced says nothing of the one in use.
        let in_use = lane.line.load();
        let is_in_use = in_use.as_ref().is_some_and(|used| Arc::ptr_eq(used, line));
        if is_in_use {
            lane.line.store(None);
            self.trouble.notify_one();
        }
    }

    /// Hands a message to those who listen, unless it is this node's own.
    fn heard(&self, message: &[u8]) {
        let mut parts = message.splitn(3, |byte| *byte == b' ');
        let (Some(node), Some(name), Some(words)) = (parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let topic = Topic::ALL
            .into_iter()
            .find(|topic| topic.name().as_bytes() == name);
        // A newer build may tell of what this one doesn't know.
        let Some(topic) = topic.filter(|_| node != self.node.as_bytes()) else {
            return;
        };
        self.tallies.hear(topic);
        for (of, listener) in self.listeners.lock().iter() {
            if *of == topic {
                listener(Heard::Told(words));
            }
        }
    }

    fn health(&self) -> Health {
        if !self.quick.is_up() {
            let detail = self.detail.lock().clone();
            return Health {
                available: false,
                detail: Some(detail.unwrap_or_else(|| "it does not answer in time".into())),
            };
        }
        let refused = self.refused.lock().clone();
        let refused = refused.filter(|(at, _)| at.elapsed() < REFUSED_FOR);
        let detail = match refused {
            Some((_, why)) => Some(format!("it refused a call: {why}")),
            None if !self.bulk.is_up() => Some("large values do not come in time".into()),
            None => None,
        };
        Health {
            available: true,
            detail,
        }
    }
}
