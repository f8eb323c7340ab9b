//! The ledger: one row for each exchange that reached a provider, and nothing lost between.
//!
//! What is admitted is journaled before its provider is asked (`journal`, `entry`); what it came to follows. A thread
//! (`drain`) moves what is complete into the database (`tables`, `row`) and gives the journal's segments up. At its
//! start, and while it runs, it takes up what processes left that have ended (`segments`): exchanges without an end
//! become rows of state `interrupted`, with what was reserved for them. Rows are told by ids that the journal knows,
//! so that nothing is there twice however often it is written.
//!
//! What was said is kept beside the rows, sealed, where a project wants it (`bodies`). Who is to be forgotten is forgotten
//! on every node (`erasure`). What rows come to is summed up with them (`sums`). `usage` and `search` read the ledger, `audit` chains administrative actions, `api` says all
//! that over HTTP.

pub mod alert;
mod answer;
pub mod api;
pub mod audit;
pub mod bodies;
mod csv;
mod drain;
pub mod entry;
mod erasure;
mod gather;
mod gone;
pub mod journal;
pub mod mail;
pub mod metadata;
mod owed;
mod parameters;
mod row;
mod search;
mod segments;
mod sums;
mod tables;
mod told;
pub mod usage;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::access::{Keep, Retention};
use crate::observe::json::Object;
use crate::observe::record::Record;
use crate::secret::Secret;
use crate::state::database::Location;
use bodies::Body;
use drain::Question;
use entry::{Id, Kind};
use journal::{Journal, Refusal};
use owed::Owed;
pub use owed::{Interrupted, Runs};

/// Where the ledger is, below `state.dir`, when it is in SQLite.
const FOLDER: &str = "ledger";
/// Questions that may wait for the database.
const MOST_QUESTIONS: usize = 256;
/// They wait this long at most before they are looked at.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// The `[ledger]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub enabled: bool,
    /// How long rows are kept; `None`: for ever.
    pub retention: Option<Duration>,
    /// How long what they come to is kept; `None`: for ever.
    pub usage_retention: Option<Duration>,
    /// Fields of the metadata by which it is kept, too.
    pub usage_metadata: Vec<String>,
    /// Bytes of the journal, above which nothing more is admitted to it.
    pub max_journal: u64,
    pub on_failure: OnFailure,
    pub fsync: Fsync,
    /// What is kept where a project, its team and its organisation say nothing.
    pub keep: Keep,
    /// How long bodies are kept where nothing else is said.
    pub body_retention: Duration,
    /// Of each request and each answer no more bytes are kept.
    pub max_body: u64,
    /// Bytes of bodies in memory: of exchanges under way, and of what waits to be written.
    pub max_body_memory: u64,
}

/// What becomes of a request that can't be journaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It goes on, and is counted.
    Allow,
    /// It is refused.
    Deny,
}

/// When the journal is on the disk, not only in the hands of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    Never,
    /// Each second.
    Interval,
    /// Before a provider is asked.
    Always,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            retention: Some(Duration::from_secs(90 * 24 * 3600)),
            usage_retention: Some(Duration::from_secs(3 * 365 * 24 * 3600)),
            usage_metadata: Vec::new(),
            max_journal: 1 << 30,
            on_failure: OnFailure::Allow,
            fsync: Fsync::Never,
            keep: Keep::Metadata,
            body_retention: Duration::from_secs(30 * 24 * 3600),
            max_body: 256 << 10,
            max_body_memory: 64 << 20,
        }
    }
}

/// The ledger. Clones share it.
#[derive(Clone, Default)]
pub struct Ledger {
    /// `None`: it is off.
    shared: Option<Arc<Shared>>,
}

/// What the thread and the requests share.
struct Shared {
    journal: Arc<Journal>,
    state_dir: PathBuf,
    location: Location,
    on_failure: OnFailure,
    retention: Option<Duration>,
    usage_retention: Option<Duration>,
    usage_metadata: Vec<String>,
    keep: Keep,
    body_retention: Duration,
    max_body: usize,
    bodies: bodies::Waiting,
    sealer: bodies::Sealer,
    /// The middle part of this process's ids.
    process: u128,
    counter: AtomicU64,
    questions: mpsc::Sender<(Question, Reply)>,
    owed: Owed,
    /// Up to when the budgets are kept with what this process spent: microseconds since 1970.
    kept_us: AtomicI64,
    tallies: Tallies,
    stops: AtomicBool,
    stop: Notify,
    /// The thread has ended; told whether everything was written.
    ended: Mutex<Option<bool>>,
    end: Condvar,
}

/// How a question is answered.
struct Reply {
    /// Told when the question is looked at.
    heard: oneshot::Sender<()>,
    reply: oneshot::Sender<Result<drain::Told, Failure>>,
}

impl Reply {
    /// Says that the question is looked at; whoever has left is answered by nobody.
    fn hear(self) -> Option<oneshot::Sender<Result<drain::Told, Failure>>> {
        self.heard.send(()).ok().map(|()| self.reply)
    }
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The ledger is off.
    Off,
    /// There is no database now.
    Unavailable(String),
}

#[derive(Default)]
struct Tallies {
    available: AtomicBool,
    detail: Mutex<Option<String>>,
    written: AtomicU64,
    interrupted: AtomicU64,
    expired: AtomicU64,
    unjournaled: AtomicU64,
    lost: AtomicU64,
    torn: AtomicU64,
    audited: AtomicU64,
}

/// How it stands with the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub on: bool,
    /// The database takes rows.
    pub database: bool,
    /// What is wrong, when something is.
    pub detail: Option<String>,
}

/// What has happened since the start, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub database: bool,
    pub journal_bytes: u64,
    /// Rows written, those of interrupted exchanges apart.
    pub written: u64,
    pub interrupted: u64,
    /// Rows whose time was over.
    pub expired: u64,
    /// Exchanges that went on without the journal.
    pub unjournaled: u64,
    /// Records that found no room and are not in the ledger.
    pub lost: u64,
    /// Journals with something behind their last whole entry: what a process was writing when it ended.
    pub torn: u64,
    pub audited: u64,
    pub bodies: bodies::Counts,
}

/// What a provider may bill for a request, at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserved {
    /// In 10⁻¹² USD.
    pub pico: u64,
    pub input: u64,
    pub output: u64,
}

impl Ledger {
    /// A ledger that keeps nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Opens the journal and starts the thread. Where either fails, requests go by `on_failure`, and the health says
    /// why. `master` is the master key, under which bodies are sealed.
    pub fn start(
        state_dir: &Path,
        location: Location,
        settings: &Settings,
        master: &Secret,
    ) -> Self {
        let all = (i64::MAX, &Runs::new());
        Self::start_after(all, state_dir, location, settings, master)
    }

    /// As [`Ledger::start`], where the budgets know what was spent up to `known_us`, in microseconds since 1970, and of
    /// some ended processes what `runs` says: what they spent later is owed.
    pub fn start_after(
        (known_us, runs): (i64, &Runs),
        state_dir: &Path,
        location: Location,
        settings: &Settings,
        master: &Secret,
    ) -> Self {
        if !settings.enabled {
            return Self::off();
        }
        let (ask, questions) = mpsc::channel(MOST_QUESTIONS);
        // Before this process has one of its own.
        let there = segments::runs(&state_dir.join(journal::FOLDER));
        let shared = Arc::new(Shared {
            journal: Journal::open(state_dir, settings),
            state_dir: state_dir.to_path_buf(),
            location: place(&location),
            on_failure: settings.on_failure,
            retention: settings.retention,
            usage_retention: settings.usage_retention,
            usage_metadata: settings.usage_metadata.clone(),
            keep: settings.keep,
            body_retention: settings.body_retention,
            max_body: usize::try_from(settings.max_body).unwrap_or(usize::MAX),
            bodies: bodies::Waiting::new(settings.max_body_memory),
            sealer: bodies::Sealer::new(master),
            process: u128::from(fastrand::u64(..1 << 40)) << 40,
            counter: AtomicU64::new(0),
            questions: ask,
            owed: Owed::new(known_us, runs, there),
            kept_us: AtomicI64::new(known_us),
            tallies: Tallies::default(),
            stops: AtomicBool::new(false),
            stop: Notify::new(),
            ended: Mutex::new(None),
            end: Condvar::new(),
        });
        let own = shared.clone();
        let started = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || drain::run(&own, questions));
        if let Err(error) = started {
            tracing::error!(%error, "the ledger's thread can't be started");
            shared
                .tallies
                .ill(format!("the ledger's thread can't be started: {error}"));
            shared.finished(false);
        }
        Self {
            shared: Some(shared),
        }
    }

    pub fn is_on(&self) -> bool {
        self.shared.is_some()
    }

    /// Journals that a provider is about to be asked. Returns the exchange's number in the ledger; `None` where it goes
    /// on without. Errors: it can't be written, and must be.
    pub async fn admit(
        &self,
        record: &Record,
        (provider, model): (&str, &str),
        reserved: Reserved,
    ) -> Result<Option<Id>, String> {
        let Some(shared) = &self.shared else {
            return Ok(None);
        };
        let id = shared.next_id(record.at);
        let written = scratch(|out| {
            let fits = entry::write(out, Kind::Admitted, id, |out| {
                admission(out, record, (provider, model), reserved);
            });
            if fits {
                shared.journal.write(out)
            } else {
                Err(Refusal::Failed("the entry is too long".into()))
            }
        });
        match written {
            Ok(end) => {
                shared.journal.synced(end).await;
                Ok(Some(id))
            }
            Err(refusal) => {
                shared.tallies.unjournaled.fetch_add(1, Relaxed);
                match shared.on_failure {
                    // Its end finds room perhaps.
                    OnFailure::Allow => Ok(Some(id)),
                    OnFailure::Deny => Err(match refusal {
                        Refusal::Full => "the journal is full".into(),
                        Refusal::Failed(why) => why,
                    }),
                }
            }
        }
    }

    /// Returns what is kept of an exchange whose project says `retention`, and what takes its bodies where they are.
    pub fn keeps(&self, retention: Option<Retention>) -> (Keep, Option<Box<Body>>) {
        let Some(shared) = &self.shared else {
            return (Keep::Metadata, None);
        };
        let keep = retention.map_or(shared.keep, |retention| retention.keep);
        let body = || {
            let own = retention.and_then(|retention| retention.bodies);
            let time = own.unwrap_or(shared.body_retention);
            Box::new(shared.bodies.body(shared.max_body, time))
        };
        (keep, (keep == Keep::Bodies).then(body))
    }

    /// Takes the record of an exchange, which was admitted as `id` or asked nobody, and what was said in it. Never waits
    /// for the database.
    pub fn done(&self, id: Option<Id>, record: &Record, body: Option<Box<Body>>) {
        let Some(shared) = &self.shared else { return };
        let id = id.unwrap_or_else(|| shared.next_id(record.at));
        let kept = scratch(|out| {
            let fits = entry::write(out, Kind::Done, id, |out| record.write_json(out))
                || entry::write(out, Kind::Done, id, |out| shortened(record).write_json(out));
            fits && shared.journal.append(out)
        });
        if !kept {
            shared.tallies.lost.fetch_add(1, Relaxed);
        }
        if let Some(body) = body.filter(|body| body.is_kept()) {
            let user = record.user.as_deref().unwrap_or_default();
            let at_us = record.at.as_microsecond();
            shared.bodies.put(id, at_us, user, *body);
            shared.journal.wake();
        }
    }

    /// Notes an administrative action in the audit log: who did what to which object. `detail` is JSON, and holds no
    /// secret. Returns once it is journaled; where it can't be, it is told in the log.
    pub fn audit(&self, actor: &str, action: &str, object: &str, detail: &serde_json::Value) {
        let Some(shared) = &self.shared else { return };
        let at = Timestamp::now();
        let id = shared.next_id(at);
        let kept = scratch(|out| {
            let fits = entry::write(out, Kind::Audit, id, |out| {
                audit::entry(out, at, actor, action, object, detail);
            });
            fits && shared.journal.write_again(out).is_ok()
        });
        if !kept {
            tracing::error!(actor, action, object, "an action is not in the audit log");
            shared.tallies.lost.fetch_add(1, Relaxed);
        }
        shared.journal.wake();
    }

    /// Opens what was said in an exchange; `None` where it was sealed with another master key.
    fn open(&self, kept: &bodies::Kept) -> Option<serde_json::Value> {
        kept.json(&self.shared.as_ref()?.sealer)
    }

    /// Asks the database.
    async fn ask(&self, question: Question) -> Result<drain::Told, Failure> {
        let Some(shared) = &self.shared else {
            return Err(Failure::Off);
        };
        let (heard, taken) = oneshot::channel();
        let (reply, told) = oneshot::channel();
        let crowded = || Failure::Unavailable("too many questions wait for the ledger".into());
        let reply = Reply { heard, reply };
        let asked = shared.questions.try_send((question, reply));
        asked.map_err(|_| crowded())?;
        // While it is written to, the ledger may wait for its database for long; who asks may not.
        if tokio::time::timeout(MOST_WAIT, taken).await.is_err() {
            let why = "the ledger's database did not answer";
            return Err(Failure::Unavailable(why.into()));
        }
        told.await
            .unwrap_or_else(|_| Err(Failure::Unavailable("the ledger has ended".into())))
    }

    pub fn health(&self) -> Health {
        let Some(shared) = &self.shared else {
            return Health {
                on: false,
                database: false,
                detail: None,
            };
        };
        let tallies = &shared.tallies;
        Health {
            on: true,
            database: tallies.available.load(Relaxed),
            detail: shared
                .journal
                .failure()
                .or_else(|| tallies.detail.lock().clone()),
        }
    }

    pub fn counts(&self) -> Counts {
        let Some(shared) = &self.shared else {
            return Counts::default();
        };
        let tallies = &shared.tallies;
        let of = |count: &AtomicU64| count.load(Relaxed);
        Counts {
            database: tallies.available.load(Relaxed),
            journal_bytes: shared.journal.bytes(),
            written: of(&tallies.written),
            interrupted: of(&tallies.interrupted),
            expired: of(&tallies.expired),
            unjournaled: of(&tallies.unjournaled),
            lost: of(&tallies.lost),
            torn: of(&tallies.torn),
            audited: of(&tallies.audited),
            bodies: shared.bodies.counts(),
        }
    }

    /// Writes what there is into the database and ends; what the database does not take in time stays in the journal.
    /// Returns whether all was written. It blocks the thread.
    pub fn close(&self, timeout: Duration) -> bool {
        let Some(shared) = &self.shared else {
            return true;
        };
        shared.stops.store(true, Relaxed);
        shared.stop.notify_one();
        let until = std::time::Instant::now() + timeout;
        let mut ended = shared.ended.lock();
        while ended.is_none() {
            if shared.end.wait_until(&mut ended, until).timed_out() {
                break;
            }
        }
        ended.unwrap_or(false)
    }
}

/// Returns where the ledger is when the other tables are at `location`.
///
/// SQLite lets one write at a time, and who has read before it writes is turned away while another does: the ledger,
/// which writes all the time, has a file of its own. Its other tables stay empty.
pub fn place(location: &Location) -> Location {
    match location {
        Location::Dir(dir) => Location::Dir(dir.join(FOLDER)),
        Location::Server(_) => location.clone(),
    }
}

impl Shared {
    /// Returns a number that no other has.
    fn next_id(&self, at: Timestamp) -> Id {
        let count = u128::from(self.counter.fetch_add(1, Relaxed)) & ((1 << 40) - 1);
        Id(Id::first_at(at.as_microsecond()).0 | self.process | count)
    }

    fn finished(&self, all: bool) {
        *self.ended.lock() = Some(all);
        self.end.notify_all();
    }
}

impl Tallies {
    fn ill(&self, why: String) {
        self.available.store(false, Relaxed);
        let mut detail = self.detail.lock();
        if detail.as_ref() != Some(&why) {
            tracing::error!(
                error = why,
                "the ledger's database takes nothing; the journal keeps it"
            );
        }
        *detail = Some(why);
    }

    fn well(&self) {
        self.available.store(true, Relaxed);
        if self.detail.lock().take().is_some() {
            tracing::info!("the ledger's database takes rows again");
        }
    }
}

/// Lends a buffer of this thread.
fn scratch<T>(fill: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    use std::cell::RefCell;
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        let done = fill(buffer);
        // One huge record must not hold its memory for ever.
        buffer.shrink_to(64 << 10);
        done
    })
}

/// Writes what is known of an exchange before its provider is asked, with the names of a record's line.
fn admission(
    out: &mut Vec<u8>,
    record: &Record,
    (provider, model): (&str, &str),
    reserved: Reserved,
) {
    let mut line = Object::open(out);
    line.text("id", &record.id);
    line.time("time", record.at);
    line.text("endpoint", record.endpoint);
    line.text("protocol", record.client_protocol);
    for (name, value) in [
        ("org", record.org.as_deref()),
        ("team", record.team.as_deref()),
        ("project", record.project.as_deref()),
        ("key", record.key.as_deref()),
        ("shadow_of", record.shadow_of.as_deref()),
    ] {
        line.text_if(name, value.unwrap_or_default());
    }
    record.write_said(&mut line);
    line.text_if("model_requested", &record.model_requested);
    line.text_if("model", model);
    line.text("provider", provider);
    if record.stream {
        line.truth("stream", true);
    }
    line.number("request_bytes", record.request_bytes);
    line.number("reserved_pico", reserved.pico);
    line.number("reserved_input", reserved.input);
    line.number("reserved_output", reserved.output);
    line.close();
}

/// Returns a record without what may be long and counts nothing.
fn shortened(record: &Record) -> Record {
    let mut short = record.clone();
    short.error_message = None;
    short.candidates.clear();
    short.dropped.clear();
    short.attempts.truncate(64);
    short
}

#[cfg(test)]
mod kept_tests;
#[cfg(test)]
mod tests;
