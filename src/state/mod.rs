//! What must last: the state database, a SQLite file in `state.dir` or a PostgreSQL that several nodes share.
//!
//! A request waits for it only where the answer itself is in it. What is written goes through a bounded queue to a
//! thread of its own, in batches; what waits there is found all the same, so whoever was told an id can use it at
//! once. What doesn't fit is dropped and counted. Without a database the gateway serves on and keeps nothing; the
//! thread tries again until there is one.
//!
//! A server that restarts is waited for a while; what comes meanwhile is queued. SQLite's file is in WAL mode: a process that is killed loses what was still queued, and never damages what was written.
//!
//! What nodes share at once, and may lose, is in [`redis`].

pub mod database;
pub mod erasure;
mod queue;
pub mod redis;
pub mod responses;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::error::{Error, Kind, Result};
pub use database::{FILE, Location};
use queue::Queue;
pub use responses::{Asker, Chain, Put, Responses, Stored};
use worker::Tallies;

/// What the `[state]` table says of the gateway's own secrets; each is made and kept in `state.dir` where it is not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Keys are hashed with it.
    pub pepper: Option<crate::secret::Secret>,
    /// Credentials are sealed with it.
    pub master_key: Option<crate::secret::Secret>,
}

/// The `[responses]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Keep the answers of the Responses API, unless the request says `store: false`.
    pub store: bool,
    /// How long each is kept.
    pub ttl: Duration,
    /// Larger ones (input and answer together) are answered, but not kept.
    pub max_item: u64,
    /// All together; above it the oldest go first.
    pub max_size: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            store: true,
            ttl: Duration::from_secs(30 * 24 * 3600),
            max_item: 16 << 20,
            max_size: 4 << 30,
        }
    }
}

/// The state database. Clones share it.
#[derive(Clone)]
pub struct State {
    shared: Arc<Shared>,
}

/// What the thread and the requests share.
struct Shared {
    queue: Queue,
    settings: ArcSwap<Settings>,
    tallies: Tallies,
}

/// How it stands with the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub available: bool,
    /// What is wrong, when something is.
    pub detail: Option<String>,
}

/// What has happened since the start, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub available: bool,
    /// Writes that wait, and their bytes.
    pub queued: u64,
    pub queued_bytes: u64,
    /// Rows and bytes kept, as of the last look.
    pub rows: u64,
    pub bytes: u64,
    pub written: u64,
    pub deleted: u64,
    /// Their time was over.
    pub expired: u64,
    /// They had to make room.
    pub evicted: u64,
    /// Not kept, by reason.
    pub dropped: Dropped,
}

/// What was not kept, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Larger than `responses.max_item`.
    pub too_large: u64,
    /// The queue was full.
    pub queue_full: u64,
    /// There was no database.
    pub unavailable: u64,
    /// The database refused it.
    pub failed: u64,
}

impl Dropped {
    /// Returns each count with its reason, as a label.
    pub fn by_reason(self) -> [(&'static str, u64); 4] {
        [
            ("too_large", self.too_large),
            ("queue_full", self.queue_full),
            ("unavailable", self.unavailable),
            ("failed", self.failed),
        ]
    }
}

impl State {
    /// Opens the database; a directory and its file are made where they are not there. Errors: it can't be used now.
    pub fn open(location: impl Into<Location>, settings: Settings) -> Result<Self> {
        let (state, opened) = Self::launch(location.into(), settings, worker::Patience::Once)?;
        let failure = |what: String| Error::new(Kind::StateUnavailable, what);
        match opened.recv() {
            Ok(Ok(())) => Ok(state),
            Ok(Err(what)) => Err(failure(what)),
            Err(_) => Err(failure("the thread of the state database ended".into())),
        }
    }

    /// As [`State::open`], but where the database can't be used now, it is tried again in the background. Until then
    /// nothing is kept, and [`State::health`] says why.
    pub fn start(location: impl Into<Location>, settings: Settings) -> Self {
        match Self::launch(location.into(), settings.clone(), worker::Patience::Ever) {
            Ok((state, opened)) => {
                // The first try is over within moments, or the queue holds what comes meanwhile.
                let _ = opened.recv_timeout(worker::FIRST_TRY);
                state
            }
            Err(error) => {
                tracing::error!(%error, "nothing is kept");
                let state = Self::new(settings);
                state.shared.tallies.unavailable(error.message.into_owned());
                state.shared.queue.end();
                state
            }
        }
    }

    fn new(settings: Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue: Queue::default(),
                settings: ArcSwap::from_pointee(settings),
                tallies: Tallies::default(),
            }),
        }
    }

    fn launch(
        location: Location,
        settings: Settings,
        patience: worker::Patience,
    ) -> Result<(Self, std::sync::mpsc::Receiver<Result<(), String>>)> {
        let state = Self::new(settings);
        let (tell, opened) = std::sync::mpsc::channel();
        let shared = state.shared.clone();
        std::thread::Builder::new()
            .name("state".into())
            .spawn(move || worker::run(&shared, &location, patience, &tell))
            .map_err(|error| {
                Error::new(
                    Kind::StateUnavailable,
                    "the thread of the state database can't be started",
                )
                .with_cause(error)
            })?;
        Ok((state, opened))
    }

    /// The kept answers of the Responses API.
    pub fn responses(&self) -> Responses<'_> {
        Responses::of(&self.shared)
    }

    /// Puts new settings into force.
    pub fn configure(&self, settings: Settings) {
        self.shared.settings.store(Arc::new(settings));
    }

    pub fn health(&self) -> Health {
        self.shared.tallies.health()
    }

    pub fn counts(&self) -> Counts {
        let (queued, queued_bytes) = self.shared.queue.length();
        Counts {
            queued,
            queued_bytes,
            ..self.shared.tallies.counts()
        }
    }

    /// Waits until all that was put before is written. Returns whether it was in time. It blocks the thread.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.shared.queue.flush(timeout)
    }

    /// Writes what waits and closes the database; what comes after is dropped. Returns whether it was in time. It
    /// blocks the thread.
    pub fn close(&self, timeout: Duration) -> bool {
        self.shared.queue.stop(timeout)
    }
}
