//! The ledger's thread: moves what is complete from the journal into the database, takes up what ended processes left,
//! deletes what is over, and answers questions.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sqlx::Connection as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::audit::{self, Link};
use super::erasure::Mask;
use super::gather::{Batch, Leaving, Live};
use super::gone::{self, Erased};
use super::row::Row;
use super::segments::Leftover;
use super::usage::{self, Slot};
use super::{Failure, Reply, Shared, bodies, erasure, search, sums, tables, told};
use crate::state::FILE;
use crate::state::database::{
    Connection, Database, Location, PATIENCE, Turn, is_away, private, within,
};

/// From the first record to its row, so that under load one transaction takes many.
const LINGER: Duration = Duration::from_millis(20);
/// After so many rows at once the next wait this long: the pages at the end of the tables are then written once for all
/// of them. What has ended is in the journal by then.
const MANY: usize = 128;
const SPACED: Duration = Duration::from_millis(200);
/// Between two tries, at first; doubles each time.
const TRY_AFTER: Duration = Duration::from_millis(200);
const TRY_EVERY: Duration = Duration::from_secs(10);
/// Folders of ended processes and rows that are over are looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A database that says nothing for this long is not asked to erase.
const ERASE_PATIENCE: Duration = Duration::from_secs(2);
/// A stopping process tries this often.
const LAST_TRIES: usize = 3;

/// What is asked of the database.
pub enum Question {
    Usage(Box<usage::Query>),
    Rows(Box<search::Query>),
    Audit(audit::Query),
    /// What was said in an exchange.
    Body(String),
    /// Delete what is kept of an end user.
    Erase(String),
}

/// What it says.
#[derive(Debug, PartialEq)]
pub enum Told {
    Usage(Vec<Slot>),
    Rows(Vec<Row>),
    Audit(Vec<Link>),
    Body(Option<bodies::Kept>),
    Erased(Erased),
}

/// Runs until the ledger is closed.
pub fn run(shared: &Shared, questions: mpsc::Receiver<(Question, Reply)>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let all = match runtime {
        Ok(runtime) => runtime.block_on(Worker::new(shared, questions).run()),
        Err(error) => {
            let why = format!("the ledger's thread can't run: {error}");
            shared.tallies.ill(why);
            false
        }
    };
    shared.tallies.available.store(false, Relaxed);
    shared.finished(all);
}

struct Worker<'s> {
    shared: &'s Shared,
    questions: mpsc::Receiver<(Question, Reply)>,
    reads: JoinSet<()>,
    database: Option<Database>,
    /// What was read and is not written yet.
    batch: Batch,
    live: Live,
    leaving: VecDeque<Leaving>,
    /// Those that are in the database, and go when the budgets are kept with them.
    left: Vec<Leaving>,
    bodies: bodies::Writer,
    beside: Beside,
    /// See [`erasure::newest`].
    erased_us: i64,
    /// The database is not asked before.
    wait: Option<Instant>,
    pause: Duration,
    /// Nothing is written before.
    spaced: Option<Instant>,
    looked: Option<Instant>,
}

/// What rows are written with.
struct Beside {
    fields: sums::Fields,
    /// That of the database which was opened last.
    mask: Mask,
}

impl<'s> Worker<'s> {
    fn new(shared: &'s Shared, questions: mpsc::Receiver<(Question, Reply)>) -> Self {
        Self {
            shared,
            questions,
            reads: JoinSet::new(),
            database: None,
            batch: Batch::default(),
            live: Live::default(),
            leaving: VecDeque::new(),
            left: Vec::new(),
            bodies: bodies::Writer::default(),
            beside: Beside {
                fields: sums::Fields::new(&shared.usage_metadata),
                mask: Mask::new(""),
            },
            erased_us: 0,
            wait: None,
            pause: TRY_AFTER,
            spaced: None,
            looked: None,
        }
    }

    /// Returns whether all that was admitted is written.
    async fn run(mut self) -> bool {
        while !self.shared.stops.load(Relaxed) {
            self.shared.journal.flush();
            if self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
                self.looked = Some(Instant::now());
                self.look().await;
            }
            if self.spaced.is_some_and(|at| Instant::now() < at) {
                self.rest().await;
                continue;
            }
            self.spaced = None;
            let due = self.wait.is_none_or(|at| Instant::now() >= at);
            let more = self.gather() || self.has_bodies();
            if due && (more || self.database.is_none()) {
                self.step().await;
                self.answer_waiting().await;
                continue;
            }
            self.rest().await;
        }
        self.end().await
    }

    /// Waits for something to do.
    async fn rest(&mut self) {
        let now = Instant::now();
        let look = self.looked.map_or(now, |at| at + LOOK_EVERY);
        let waits = [self.wait, self.spaced];
        let next = waits.into_iter().flatten().fold(look, Instant::min);
        let shared = self.shared;
        tokio::select! {
            () = shared.journal.filled() => {
                tokio::select! {
                    () = tokio::time::sleep(LINGER) => {}
                    () = shared.stop.notified() => {}
                }
            }
            () = tokio::time::sleep(next.saturating_duration_since(now)) => {}
            () = shared.stop.notified() => {}
            Some((question, reply)) = self.questions.recv() => self.answer(question, reply).await,
            Some(_) = self.reads.join_next(), if !self.reads.is_empty() => {}
        }
    }

    /// Reads on, where what was read is written. Returns whether there is something to write.
    fn gather(&mut self) -> bool {
        if !self.batch.is_empty() {
            return true;
        }
        self.batch.clear();
        self.live.read(&self.shared.journal, &mut self.batch);
        while self.batch.is_empty() {
            let Some(leaving) = self.leaving.front_mut() else {
                break;
            };
            let whole = leaving.read(&mut self.batch);
            if whole && self.batch.is_empty() {
                self.shared.tallies.torn.fetch_add(leaving.torn, Relaxed);
                if let Some(done) = self.leaving.pop_front() {
                    self.shared.owed.read(done.name());
                    self.left.push(done);
                }
            }
        }
        self.let_go();
        !self.batch.is_empty()
    }

    /// Deletes the journals of ended processes that nobody needs any more.
    fn let_go(&mut self) {
        let owed = &self.shared.owed;
        for done in self.left.extract_if(.., |left| owed.lets_go(left.name())) {
            done.remove();
        }
    }

    fn has_bodies(&self) -> bool {
        !self.bodies.is_empty() || !self.shared.bodies.is_empty()
    }

    /// Opens the database, or writes what was read and some of what was said.
    async fn step(&mut self) {
        let done = match &mut self.database {
            None => match open(&self.shared.location, &mut self.beside).await {
                Ok(database) => {
                    self.database = Some(database);
                    // What is over has waited for it.
                    self.looked = None;
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Some(database) => {
                // A batch that is full is a backlog, which waits for nothing.
                if self.batch.rows.len() >= MANY && !self.batch.is_full() {
                    self.spaced = Some(Instant::now() + SPACED);
                }
                match write(self.shared, database, &mut self.batch, &mut self.beside).await {
                    Ok(()) => {
                        let shared = self.shared;
                        let hidden = (&shared.sealer, &self.beside.mask);
                        let writer = &mut database.writer;
                        let write =
                            self.bodies
                                .write(&shared.bodies, hidden, shared.retention, writer);
                        Box::pin(write).await
                    }
                    wrong => wrong,
                }
            }
        };
        match done {
            Ok(()) => {
                self.shared.tallies.well();
                (self.wait, self.pause) = (None, TRY_AFTER);
                self.release();
            }
            Err(error) => {
                let name = self.shared.location.shown();
                self.shared.tallies.ill(format!("{name}: {error}"));
                // A connection that is busy is kept, for a while; another one knows nothing of what befell this.
                if is_away(&error) || self.pause > TRY_AFTER * 4 {
                    self.database = None;
                }
                self.wait = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(TRY_EVERY);
            }
        }
    }

    /// Looks for folders of ended processes, and for rows that are over.
    async fn look(&mut self) {
        if self.leaving.is_empty() {
            match Leftover::find(self.shared.journal.root()) {
                Ok(found) => {
                    for left in found {
                        self.shared.owed.take_up(left.name());
                        self.leaving.push_back(Leaving::new(left));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "journals of ended processes can't be looked for")
                }
            }
        }
        self.look_for_erasures().await;
        // What had to wait for the budgets to be kept.
        self.release();
        if let Some(database) = &mut self.database
            && let Err(error) = Box::pin(gone::expire(self.shared, database)).await
        {
            tracing::warn!(%error, "what is over in the ledger can't be deleted");
            self.database = None;
        }
    }

    /// Where somebody was erased, by this node or another, what this one has of them in its journal goes soon.
    async fn look_for_erasures(&mut self) {
        let Some(database) = &mut self.database else {
            return;
        };
        match within(PATIENCE, erasure::newest(&mut database.writer)).await {
            Ok(newest) if newest > self.erased_us => {
                self.erased_us = newest;
                self.turn();
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "erasures can't be looked for");
                self.database = None;
            }
        }
    }

    /// Gives up what of the journal is written, the segment of now too.
    fn turn(&mut self) {
        self.shared.journal.turn();
        self.gather();
        self.release();
    }

    /// Gives up what of the journal is written.
    fn release(&mut self) {
        if self.batch.is_empty() {
            let kept = self.shared.kept_us.load(Relaxed);
            self.live.release(&self.shared.journal, kept);
        }
    }

    async fn answer_waiting(&mut self) {
        while let Ok((question, reply)) = self.questions.try_recv() {
            self.answer(question, reply).await;
        }
        while self.reads.try_join_next().is_some() {}
    }

    async fn answer(&mut self, question: Question, reply: Reply) {
        let Some(reply) = reply.hear() else {
            return;
        };
        let Some(database) = &self.database else {
            let detail = self.shared.tallies.detail.lock().clone();
            let why = detail.unwrap_or_else(|| "the database is not open yet".into());
            // Nobody listens when the caller has left.
            let _ = reply.send(Err(Failure::Unavailable(why)));
            return;
        };
        if let Question::Erase(user) = question {
            let erased = self.erase(&user).await;
            let _ = reply.send(erased.map(Told::Erased));
            return;
        }
        let readers = database.readers.clone();
        self.reads.spawn(async move {
            let told = within(PATIENCE, async {
                Ok(match question {
                    Question::Usage(query) => Told::Usage(told::slots(&readers, &query).await?),
                    Question::Rows(query) => Told::Rows(search::rows(&readers, &query).await?),
                    Question::Audit(query) => Told::Audit(audit::list(&readers, &query).await?),
                    Question::Body(id) => Told::Body(bodies::find(&readers, &id).await?),
                    Question::Erase(_) => Told::Erased(Erased::default()),
                })
            });
            let told = told.await.map_err(|error| {
                tracing::warn!(%error, "the ledger's database did not answer");
                Failure::Unavailable("the ledger's database did not answer".into())
            });
            let _ = reply.send(told);
        });
    }

    /// Deletes what is kept of a user, in the journals too: a row that is found there again would come back.
    async fn erase(&mut self, user: &str) -> Result<Erased, Failure> {
        // Who asks waits: one that is away is not tried for long.
        let mut failed = false;
        if let Some(database) = &mut self.database
            && within(ERASE_PATIENCE, database.writer.ping())
                .await
                .is_err()
        {
            self.database = None;
        }
        // What is left after these is found erased when it is written.
        self.shared.journal.flush();
        for _ in 0..gone::MOST_CHUNKS {
            if !self.gather() && !self.has_bodies() || self.wait.is_some() {
                break;
            }
            self.step().await;
            failed = self.database.is_none();
        }
        // A connection that has been idle may be gone: another one is tried.
        for _ in 0..2 {
            if self.database.is_none() && !failed {
                self.step().await;
            }
            let Some(database) = &mut self.database else {
                break;
            };
            let mask = self.beside.mask.of(user);
            match Box::pin(gone::erase(&mut database.writer, user, &mask)).await {
                Ok(erased) => {
                    if let Err(error) = database.scrub().await {
                        tracing::warn!(%error, "who was erased is in the database's log until it is written over");
                    }
                    self.turn();
                    return Ok(erased);
                }
                Err(error) => {
                    tracing::warn!(%error, "what is kept of a user can't be deleted");
                    self.database = None;
                    if !is_away(&error) {
                        break;
                    }
                }
            }
        }
        let why = "the ledger's database did not answer";
        Err(Failure::Unavailable(why.into()))
    }

    /// Writes what is left, as far as the database takes it now.
    async fn end(mut self) -> bool {
        self.shared.journal.flush();
        let mut tries = 0;
        while self.gather() || self.has_bodies() || self.database.is_none() {
            self.step().await;
            if self.wait.take().is_some() {
                tries += 1;
                if tries == LAST_TRIES {
                    break;
                }
                tokio::time::sleep(TRY_AFTER).await;
            }
        }
        self.questions.close();
        self.reads.shutdown().await;
        let kept = self.shared.kept_us.load(Relaxed);
        let all = self.batch.is_empty() && self.live.is_done(&self.shared.journal, kept);
        self.shared.journal.close(all);
        if let Some(database) = self.database
            && let Err(error) = database.close().await
        {
            tracing::warn!(%error, "the ledger's database is not closed cleanly");
        }
        all
    }
}

/// Opens the database. SQLite's pages that are written again and again are held, and written back seldom.
async fn open(location: &Location, beside: &mut Beside) -> Result<Database, sqlx::Error> {
    if let Location::Dir(dir) = location {
        std::fs::create_dir_all(dir).map_err(sqlx::Error::Io)?;
        private(&dir.join(FILE)).map_err(sqlx::Error::Io)?;
    }
    let mut database = Database::open(location).await?;
    if !database.is_server() {
        let pragmas = "PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 8000";
        sqlx::raw_sql(pragmas).execute(&mut database.writer).await?;
    }
    let now_us = Timestamp::now().as_microsecond();
    let writer = &mut database.writer;
    within(PATIENCE, beside.fields.note(writer, now_us)).await?;
    beside.mask = within(PATIENCE, Mask::read(writer)).await?;
    Ok(database)
}

/// Writes a batch; what can be written of it is taken out.
async fn write(
    shared: &Shared,
    database: &mut Database,
    batch: &mut Batch,
    beside: &mut Beside,
) -> Result<(), sqlx::Error> {
    let rows: Vec<&Row> = batch.rows.iter().collect();
    let put = transact(&mut database.writer, &rows, beside);
    match within(PATIENCE, put).await {
        Ok(new) => {
            count(shared, batch, new);
            owe(shared, batch, &batch.rows);
        }
        Err(error) if tables::is_poison(&error) => {
            one_by_one(shared, database, batch, beside).await?
        }
        Err(error) => return Err(error),
    }
    batch.rows.clear();
    let actions: Vec<&audit::Action> = batch.actions.iter().collect();
    if !actions.is_empty() {
        let state_dir = &shared.state_dir;
        let put = audit::put(database, state_dir, &actions);
        let new = within(PATIENCE, put).await?;
        shared.tallies.audited.fetch_add(new, Relaxed);
    }
    batch.clear();
    Ok(())
}

fn count(shared: &Shared, batch: &Batch, new: u64) {
    let tallies = &shared.tallies;
    let tally = if batch.interrupted {
        &tallies.interrupted
    } else {
        &tallies.written
    };
    tally.fetch_add(new, Relaxed);
}

/// Has exchanges of an ended process charged.
fn owe(shared: &Shared, batch: &Batch, rows: &[Row]) {
    if let Some(run) = &batch.left {
        shared.owed.put(run, rows);
    }
}

/// The database refuses something for what it says: that row is left out, so that the others need not wait for ever.
async fn one_by_one(
    shared: &Shared,
    database: &mut Database,
    batch: &Batch,
    beside: &mut Beside,
) -> Result<(), sqlx::Error> {
    for row in &batch.rows {
        let one = [row];
        let put = transact(&mut database.writer, &one, beside);
        match within(PATIENCE, put).await {
            Ok(new) => {
                count(shared, batch, new);
                owe(shared, batch, std::slice::from_ref(row));
            }
            Err(error) if tables::is_poison(&error) => {
                tracing::error!(id = row.id, request = row.request_id, %error, "a record can't be in the ledger");
                shared.tallies.lost.fetch_add(1, Relaxed);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn transact(
    connection: &mut Connection,
    rows: &[&Row],
    beside: &mut Beside,
) -> Result<u64, sqlx::Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let new = transact_new(connection, rows, beside).await?;
    if new == rows.len() as u64 {
        return Ok(new);
    }
    // Some were there already, after a kill or where a commit was not answered: sums are made of the others.
    let ids: Vec<&str> = rows.iter().map(|row| &*row.id).collect();
    let mut known = tables::known(connection, &ids).await?;
    let mut rows = rows.to_vec();
    rows.retain(|row| known.insert(row.id.clone()));
    match transact_new(connection, &rows, beside).await? {
        new if new == rows.len() as u64 => Ok(new),
        _ => Err(sqlx::Error::Protocol(
            "rows are written by somebody else".into(),
        )),
    }
}

/// Writes rows with their sums, where all are new; returns how many are, and where that is not all has written nothing.
async fn transact_new(
    connection: &mut Connection,
    rows: &[&Row],
    beside: &mut Beside,
) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    Turn::Together.take(&mut transaction).await?;
    let new = tables::put(&mut transaction, rows).await?;
    if new < rows.len() as u64 {
        transaction.rollback().await?;
        return Ok(new);
    }
    sums::put(&mut transaction, rows, &mut beside.fields).await?;
    erasure::again(&mut transaction, &beside.mask, rows).await?;
    transaction.commit().await?;
    Ok(new)
}
