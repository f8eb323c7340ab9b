//! The snapshot in force: read without a lock by every request, swapped whole by a reload.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{Mistake, Snapshot, Source, environment, load};

type Hook = Box<dyn Fn(&Arc<Snapshot>) + Send + Sync>;
type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Holds the snapshot in force.
pub struct Store {
    snapshot: ArcSwap<Snapshot>,
    source: Source,
    env: Environment,
    /// Told of every new snapshot; the lock also keeps two reloads from overtaking each other.
    hooks: Mutex<Vec<Hook>>,
}

impl Store {
    /// `source` is read again by every reload.
    pub fn new(source: Source, snapshot: Snapshot) -> Self {
        Self::with_environment(source, snapshot, Box::new(environment))
    }

    /// Returns a store that looks up variables in `env` when it reloads.
    pub fn with_environment(source: Source, snapshot: Snapshot, env: Environment) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            source,
            env,
            hooks: Mutex::new(Vec::new()),
        }
    }

    /// Returns the snapshot in force, to look something up at once.
    pub fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Returns the snapshot in force, to keep: a request is served by one from its start to its end.
    pub fn full(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Has `hook` called with every snapshot that comes into force from now on. It must not reload.
    pub fn on_swap(&self, hook: Hook) {
        self.hooks.lock().push(hook);
    }

    /// Reads the same source again and puts it into force; returns the new generation.
    ///
    /// A mistake leaves the old snapshot in force. One that was searched for is searched for again.
    pub fn reload(&self) -> Result<u64, Vec<Mistake>> {
        let hooks = self.hooks.lock();
        let old = self.full();
        let mut loaded = load(&self.source, &self.env)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        for key in only_at_start(&old, &loaded.snapshot) {
            tracing::warn!("{key} has changed; the new value counts after a restart");
        }
        let generation = old.generation.saturating_add(1);
        loaded.snapshot.generation = generation;
        let snapshot = Arc::new(loaded.snapshot);
        self.snapshot.store(snapshot.clone());
        for hook in hooks.iter() {
            hook(&snapshot);
        }
        Ok(generation)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("generation", &self.load().generation)
            .finish_non_exhaustive()
    }
}

/// Returns the keys that differ and are only looked at when the program starts.
fn only_at_start(old: &Snapshot, new: &Snapshot) -> Vec<&'static str> {
    let differ = [
        ("server.listen", old.server.listen != new.server.listen),
        ("server.tls", old.server.tls != new.server.tls),
        ("server.threads", old.server.threads != new.server.threads),
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("state.dir", old.state_dir != new.state_dir),
        ("ledger", old.ledger != new.ledger),
        ("alerts", old.alerts != new.alerts),
        ("state.database", old.database != new.database),
        ("state.redis", old.redis != new.redis),
        ("state.shared", old.shared != new.shared),
        ("state.pepper", old.secrets.pepper != new.secrets.pepper),
        (
            "state.master_key",
            old.secrets.master_key != new.secrets.master_key,
        ),
        ("admin.keys", old.admin.keys != new.admin.keys),
    ];
    differ
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(key, _)| key)
        .collect()
}
