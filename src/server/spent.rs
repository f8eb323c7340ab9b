//! Keeps what is spent of budgets over restarts: once a second, where something was spent, and at the end.
//!
//! Only what was written counts as kept. What isn't kept yet stands in the journal, which holds it until then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::config::Snapshot;
use crate::gateway::{Core, charge_interrupted};
use crate::ledger::Runs;
use crate::limit::since::{self, Times};
use crate::limit::spent::{self, Kept};

/// Where there are exchanges and nothing is spent, it is said this often up to when that is known: otherwise all of them
/// had to be looked through after a kill.
const SAY_EVERY: Duration = Duration::from_secs(60);

pub struct Spent {
    core: Arc<Core>,
    /// Held while the file is written.
    written: Mutex<Written>,
}

/// What the file says.
#[derive(Default)]
struct Written {
    said: Option<Said>,
    /// When that was, and how many exchanges there had been.
    at: Option<(Instant, u64)>,
    fails: bool,
}

#[derive(PartialEq)]
struct Said {
    changes: u64,
    runs: Runs,
    since: Times,
}

impl Spent {
    pub fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            written: Mutex::default(),
        }
    }

    /// Charges what ended processes left, and has the file written where it doesn't say all.
    pub fn tick(self: &Arc<Self>) {
        charge_interrupted(&self.core);
        if self.core.ledger.has_heir() {
            return;
        }
        let Some(written) = self.written.try_lock() else {
            // It is being written at this moment.
            return;
        };
        let now_us = Timestamp::now().as_microsecond();
        if self.is_said(&written) {
            self.core.ledger.budgets_kept(now_us, &Runs::new());
            return;
        }
        drop(written);
        let own = self.clone();
        tokio::task::spawn_blocking(move || own.keep());
    }

    /// Returns whether the file says how it stands now.
    fn is_said(&self, written: &Written) -> bool {
        let core = &self.core;
        let (runs, changes) = core.ledger.known(|| core.budgets.changes());
        let now = Said {
            changes,
            runs,
            since: core.since.times(),
        };
        let exchanges = core.ledger.exchanges();
        let is_old =
            |(at, known): &(Instant, u64)| *known != exchanges && at.elapsed() >= SAY_EVERY;
        written.said.as_ref() == Some(&now) && !written.at.as_ref().is_some_and(is_old)
    }

    /// Writes the file, where that is this process's to do.
    pub fn keep(&self) {
        let core = &self.core;
        if core.ledger.has_heir() {
            return;
        }
        let mut written = self.written.lock();
        let at = (Instant::now(), core.ledger.exchanges());
        // Before the sums: what is settled meanwhile may be counted once more after a kill, never less.
        let as_of_us = Timestamp::now().as_microsecond();
        let changes = core.budgets.changes();
        let (runs, spent) = core.ledger.known(|| core.budgets.spent());
        let since = core.since.times();
        let kept = Kept {
            as_of_us,
            runs: runs.clone(),
            since: Some(since.clone()),
            spent,
        };
        let dir = core.now.load().snapshot.state_dir.clone();
        match spent::save(&dir, &kept) {
            Ok(()) => {
                core.ledger.budgets_kept(as_of_us, &runs);
                let said = Said {
                    changes,
                    runs,
                    since,
                };
                (written.said, written.at) = (Some(said), Some(at));
                if std::mem::take(&mut written.fails) {
                    tracing::info!("what is spent of budgets is kept again");
                }
            }
            Err(error) if !written.fails => {
                written.fails = true;
                tracing::error!(%error, "what is spent of budgets is not kept; the journal has it until it is");
            }
            Err(_) => {}
        }
    }
}

/// Returns what the budgets of the configuration file are known by.
pub fn of_file(snapshot: &Snapshot) -> Vec<Box<str>> {
    let keys = snapshot.keys.iter();
    let own = keys.clone().flat_map(|key| {
        let scope = format!("key:{}", key.name);
        key.budgets.iter().map(move |one| since::name(&scope, one))
    });
    let named = snapshot
        .budgets
        .iter()
        .chain(keys.flat_map(|key| &key.named));
    let named = named.flat_map(|named| {
        let scope = named.scope("");
        let names = named
            .budgets
            .iter()
            .map(|one| since::name(&scope.name, one));
        names.collect::<Vec<_>>()
    });
    own.chain(named).collect()
}
