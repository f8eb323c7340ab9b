//! What exchanges of ended processes cost, or may have cost, that the budgets don't know of, until it is charged to the
//! budgets of those who asked.
//!
//! A process's journal is called a run here. What is owed of one is charged all at once, when it was read to its end, and
//! the run is deleted only when the budgets are kept with it. So it is charged once, however often the one who charges it
//! is killed: what is kept says of each run that is still there up to when it is in the sums.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

use super::row::{DONE, Row};
use super::{Ledger, segments};

/// Beyond it what else there is is charged to nobody: a process has no more under way, nor ends more in a second or two.
const MOST: usize = 100_000;
/// All of a run is in the sums.
pub const ALL: i64 = i64::MAX;

/// By runs: up to when what they spent is in the sums, in microseconds since 1970.
pub type Runs = BTreeMap<Box<str>, i64>;

/// An exchange whose process ended before it did, or before its end was in the budgets that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    pub key: String,
    /// Whose it is: ids of an organisation, a team and a project; empty for none.
    pub owner: [String; 3],
    pub user: Option<String>,
    pub tags: Vec<String>,
    /// What it cost, or what was reserved for it, in 10⁻¹² USD.
    pub pico: u64,
    /// It came to its end.
    pub done: bool,
    /// When it began, and when it was spent, in microseconds since 1970.
    pub began_us: i64,
    pub at_us: i64,
}

pub struct Owed {
    /// Of runs that nothing else is said of.
    known_us: i64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Runs that were there at the start, and those that were found since.
    there: Runs,
    runs: BTreeMap<Box<str>, Run>,
    count: usize,
}

enum Run {
    /// By the ids of their rows: what is written again after a failure is owed once.
    Reading(HashMap<String, Interrupted>),
    Read(Vec<Interrupted>),
    Charged,
    /// The budgets are kept with it.
    Kept,
}

impl Owed {
    /// `known` tells up to when the budgets know what runs spent, and `known_us` that of all others; `there` are the runs
    /// that others have left.
    pub fn new(known_us: i64, known: &Runs, there: Vec<Box<str>>) -> Self {
        let known = |run: Box<str>| {
            let known_us = known.get(&run).copied().unwrap_or(known_us);
            (run, known_us)
        };
        Self {
            known_us,
            inner: Mutex::new(Inner {
                there: there.into_iter().map(known).collect(),
                ..Inner::default()
            }),
        }
    }

    /// A run is about to be read here.
    pub fn take_up(&self, run: &str) {
        let mut inner = self.inner.lock();
        inner.there.entry(run.into()).or_insert(self.known_us);
        let reading = || Run::Reading(HashMap::new());
        inner.runs.entry(run.into()).or_insert_with(reading);
    }

    /// Returns whether a run is taken up here.
    pub fn has(&self, run: &str) -> bool {
        self.inner.lock().runs.contains_key(run)
    }

    /// Takes rows of a run: of those that came to an end the later ones, and all that were interrupted.
    pub fn put(&self, run: &str, rows: &[Row]) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let known_us = inner.there.get(run).copied().unwrap_or(self.known_us);
        inner.there.entry(run.into()).or_insert(known_us);
        if known_us == ALL {
            return;
        }
        let reading = || Run::Reading(HashMap::new());
        let Run::Reading(owed) = inner.runs.entry(run.into()).or_insert_with(reading) else {
            return;
        };
        for row in rows {
            let pico = u64::try_from(row.cost_pico).unwrap_or(0);
            let done = row.state == DONE;
            // Copies are paid for by nobody who asked.
            if pico == 0 || !row.shadow_of.is_empty() || done && row.end_us() <= known_us {
                continue;
            }
            if inner.count >= MOST {
                tracing::error!("more was interrupted than can be charged to budgets");
                return;
            }
            let one = Interrupted {
                key: row.key.clone(),
                owner: [row.org.clone(), row.team.clone(), row.project.clone()],
                user: (!row.user.is_empty()).then(|| row.user.clone()),
                // It was written by us; what can't be read names nobody.
                tags: serde_json::from_str(&row.tags).unwrap_or_default(),
                pico,
                done,
                began_us: row.time_us,
                at_us: row.end_us(),
            };
            inner.count += usize::from(owed.insert(row.id.clone(), one).is_none());
        }
    }

    /// All that a run says was put.
    pub fn read(&self, run: &str) {
        let mut inner = self.inner.lock();
        let next = match inner.runs.remove(run) {
            Some(Run::Reading(owed)) if !owed.is_empty() => Run::Read(owed.into_values().collect()),
            Some(Run::Reading(_)) | None => Run::Kept,
            Some(later) => later,
        };
        inner.runs.insert(run.into(), next);
    }

    /// Gives out what is owed of each run that was read; `charge` tells whether it is charged now.
    pub fn charge(&self, mut charge: impl FnMut(&[Interrupted]) -> bool) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        for run in inner.runs.values_mut() {
            let Run::Read(owed) = run else { continue };
            if charge(owed) {
                inner.count = inner.count.saturating_sub(owed.len());
                *run = Run::Charged;
            }
        }
    }

    /// Returns what `sums` reads of the budgets, and up to when each run is in it: nothing is charged meanwhile.
    pub fn known<T>(&self, sums: impl FnOnce() -> T) -> (Runs, T) {
        let inner = self.inner.lock();
        let there = inner.there.iter().map(|(run, known_us)| {
            let known_us = match inner.runs.get(run) {
                Some(Run::Charged | Run::Kept) => ALL,
                Some(Run::Reading(_) | Run::Read(_)) | None => *known_us,
            };
            (run.clone(), known_us)
        });
        (there.collect(), sums())
    }

    /// Takes note that the budgets are kept with all of these runs that is said of them.
    pub fn kept(&self, runs: &Runs) {
        let mut inner = self.inner.lock();
        for (name, known_us) in runs {
            if let Some(run @ Run::Charged) = inner.runs.get_mut(name)
                && *known_us == ALL
            {
                *run = Run::Kept;
            }
        }
    }

    /// Returns whether a run may be deleted; then it is forgotten.
    pub fn lets_go(&self, run: &str) -> bool {
        let mut inner = self.inner.lock();
        if !matches!(inner.runs.get(run), Some(Run::Kept)) {
            return false;
        }
        inner.runs.remove(run);
        inner.there.remove(run);
        true
    }
}

impl Ledger {
    /// Takes note that the budgets are kept with what this process spent up to `kept_us`, and with what is said of ended
    /// ones: the journals of that may go.
    pub fn budgets_kept(&self, kept_us: i64, runs: &Runs) {
        if let Some(shared) = &self.shared {
            shared.kept_us.store(kept_us, Relaxed);
            shared.owed.kept(runs);
            if !runs.is_empty() {
                shared.journal.wake();
            }
        }
    }

    /// Returns whether a process on the same state directory began after this one and runs, as at a hand-over: what is spent
    /// is kept by that one, which will take up what this one leaves.
    pub fn has_heir(&self) -> bool {
        let Some(shared) = &self.shared else {
            return false;
        };
        let Some(own) = shared.journal.run() else {
            return false;
        };
        let root = shared.journal.root();
        let others = segments::runs(root).into_iter();
        let mut later = others.filter(|name| *name > own && !shared.owed.has(name));
        later.any(|name| segments::is_held(&root.join(&*name)))
    }

    /// Returns what `sums` reads of the budgets, and up to when each ended process is in it.
    pub fn known<T>(&self, sums: impl FnOnce() -> T) -> (Runs, T) {
        match &self.shared {
            Some(shared) => shared.owed.known(sums),
            None => (Runs::new(), sums()),
        }
    }

    /// Gives out what is owed of each process that has ended; `charge` tells whether it is charged now.
    pub fn charge_owed(&self, charge: impl FnMut(&[Interrupted]) -> bool) {
        if let Some(shared) = &self.shared {
            shared.owed.charge(charge);
        }
    }

    /// Returns a number that grows with each exchange.
    pub fn exchanges(&self) -> u64 {
        let shared = self.shared.as_ref();
        shared.map_or(0, |shared| shared.counter.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::INTERRUPTED;
    use super::*;

    fn row(id: &str, state: &str, end_us: i64) -> Row {
        Row {
            id: id.into(),
            state: state.into(),
            time_us: end_us,
            cost_pico: 5,
            ..Row::default()
        }
    }

    fn charged(owed: &Owed) -> Vec<i64> {
        let mut all = Vec::new();
        owed.charge(|some| {
            all.extend(some.iter().map(|one| one.at_us));
            true
        });
        all.sort_unstable();
        all
    }

    #[test]
    fn a_run_is_charged_as_a_whole_and_once_and_goes_when_that_is_kept() {
        let owed = Owed::new(100, &Runs::new(), vec!["run-a".into()]);
        let rows = [row("1", DONE, 90), row("2", DONE, 110)];
        owed.put("run-a", &rows);
        assert!(charged(&owed).is_empty(), "more of it may come");
        assert_eq!(owed.known(|| ()).0["run-a"], 100);
        // Written again after a failure, and what was interrupted, whenever it began.
        owed.put("run-a", &rows);
        owed.put("run-a", &[row("3", INTERRUPTED, 50)]);
        owed.read("run-a");
        owed.charge(|_| false);
        assert_eq!(owed.known(|| ()).0["run-a"], 100, "not charged yet");
        assert_eq!(charged(&owed), [50, 110]);
        assert!(charged(&owed).is_empty(), "once");
        let (known, ()) = owed.known(|| ());
        assert_eq!(known["run-a"], ALL);
        assert!(!owed.lets_go("run-a"), "it is nowhere else yet");
        owed.kept(&known);
        assert!(owed.lets_go("run-a"));
        assert!(owed.known(|| ()).0.is_empty());
    }

    #[test]
    fn what_is_said_of_a_run_goes_before_what_is_said_of_all() {
        let known = Runs::from([("run-a".into(), 50), ("run-b".into(), ALL)]);
        let there = vec!["run-a".into(), "run-b".into()];
        let owed = Owed::new(100, &known, there);
        for run in ["run-a", "run-b", "run-c"] {
            owed.put(run, &[row("1", DONE, 60), row("2", INTERRUPTED, 40)]);
            owed.read(run);
        }
        assert_eq!(
            charged(&owed),
            [40, 40, 60],
            "of b nothing, of c the one that was cut"
        );
        assert!(
            owed.lets_go("run-b"),
            "it was charged by somebody who was killed then"
        );
    }
}
