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
use super::gather::{Batch, Leaving, Live};
use super::row::Row;
use super::segments::Leftover;
use super::usage::{self, Slot};
use super::{Failure, Reply, Shared, search, tables};
use crate::state::FILE;
use crate::state::database::{Connection, Database, Location, PATIENCE, is_away, private, within};

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
/// Chunks that one look deletes at most.
const MOST_CHUNKS: usize = 20;
/// A stopping process tries this often.
const LAST_TRIES: usize = 3;

/// What is asked of the database.
pub enum Question {
    Usage(Box<usage::Query>),
    Rows(Box<search::Query>),
    Audit(audit::Query),
    /// Delete what is kept of an end user.
    Erase(String),
}

/// What it says.
pub enum Told {
    Usage(Vec<Slot>),
    Rows(Vec<Row>),
    Audit(Vec<Link>),
    Erased(u64),
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
    /// The database is not asked before.
    wait: Option<Instant>,
    pause: Duration,
    /// Nothing is written before.
    spaced: Option<Instant>,
    looked: Option<Instant>,
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
            let more = self.gather();
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
        self.live.read(&self.shared.journal, &mut self.batch);
        while self.batch.is_empty() {
            let Some(leaving) = self.leaving.front_mut() else {
                break;
            };
            let whole = leaving.read(&mut self.batch);
            if whole && self.batch.is_empty() {
                self.shared.tallies.torn.fetch_add(leaving.torn, Relaxed);
                if let Some(done) = self.leaving.pop_front() {
                    done.remove();
                }
            }
        }
        !self.batch.is_empty()
    }

    /// Opens the database, or writes what was read.
    async fn step(&mut self) {
        let done = match &mut self.database {
            None => match open(&self.shared.location).await {
                Ok(database) => {
                    self.database = Some(database);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Some(database) => {
                // A batch that is full is a backlog, which waits for nothing.
                if self.batch.rows.len() >= MANY && !self.batch.is_full() {
                    self.spaced = Some(Instant::now() + SPACED);
                }
                write(self.shared, database, &mut self.batch).await
            }
        };
        match done {
            Ok(()) => {
                self.shared.tallies.well();
                (self.wait, self.pause) = (None, TRY_AFTER);
                if self.batch.is_empty() {
                    self.live.release(&self.shared.journal);
                }
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
                Ok(found) => self.leaving.extend(found.into_iter().map(Leaving::new)),
                Err(error) => {
                    tracing::warn!(%error, "journals of ended processes can't be looked for")
                }
            }
        }
        let (Some(database), Some(retention)) = (&mut self.database, self.shared.retention) else {
            return;
        };
        let seconds = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX);
        let before = Timestamp::now().as_second().saturating_sub(seconds);
        for _ in 0..MOST_CHUNKS {
            let before = before.saturating_mul(1_000_000);
            match within(PATIENCE, tables::expire(&mut database.writer, before)).await {
                Ok(0) => break,
                Ok(gone) => {
                    self.shared.tallies.expired.fetch_add(gone, Relaxed);
                }
                Err(error) => {
                    tracing::warn!(%error, "rows of the ledger that are over can't be deleted");
                    self.database = None;
                    return;
                }
            }
        }
        if let Err(error) = database.tidy().await {
            tracing::warn!(%error, "freed room of the database is not given back");
        }
    }

    async fn answer_waiting(&mut self) {
        while let Ok((question, reply)) = self.questions.try_recv() {
            self.answer(question, reply).await;
        }
        while self.reads.try_join_next().is_some() {}
    }

    async fn answer(&mut self, question: Question, reply: Reply) {
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
                    Question::Usage(query) => Told::Usage(usage::slots(&readers, &query).await?),
                    Question::Rows(query) => Told::Rows(search::rows(&readers, &query).await?),
                    Question::Audit(query) => Told::Audit(audit::list(&readers, &query).await?),
                    Question::Erase(_) => Told::Erased(0),
                })
            });
            let told = told.await.map_err(|error| {
                tracing::warn!(%error, "the ledger's database did not answer");
                Failure::Unavailable("the ledger's database did not answer".into())
            });
            let _ = reply.send(told);
        });
    }

    /// Deletes what is kept of a user, in the journal too: a row that is found there again would come back.
    async fn erase(&mut self, user: &str) -> Result<u64, Failure> {
        self.shared.journal.flush();
        while self.gather() {
            self.step().await;
            if self.wait.is_some() {
                break;
            }
        }
        self.shared.journal.turn();
        self.gather();
        self.live.release(&self.shared.journal);
        let unavailable = || Failure::Unavailable("the ledger's database did not answer".into());
        let mut erased = 0;
        loop {
            let Some(database) = &mut self.database else {
                return Err(unavailable());
            };
            match within(PATIENCE, tables::erase(&mut database.writer, user)).await {
                Ok(0) => return Ok(erased),
                Ok(gone) => erased += gone,
                Err(error) => {
                    tracing::warn!(%error, "a user's rows can't be deleted");
                    self.database = None;
                    return Err(unavailable());
                }
            }
        }
    }

    /// Writes what is left, as far as the database takes it now.
    async fn end(mut self) -> bool {
        self.shared.journal.flush();
        let mut tries = 0;
        while self.gather() || self.database.is_none() {
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
        let all = self.batch.is_empty() && self.live.is_done(&self.shared.journal);
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
async fn open(location: &Location) -> Result<Database, sqlx::Error> {
    if let Location::Dir(dir) = location {
        std::fs::create_dir_all(dir).map_err(sqlx::Error::Io)?;
        private(&dir.join(FILE)).map_err(sqlx::Error::Io)?;
    }
    let mut database = Database::open(location).await?;
    if !database.is_server() {
        let pragmas = "PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 8000";
        sqlx::raw_sql(pragmas).execute(&mut database.writer).await?;
    }
    Ok(database)
}

/// Writes a batch; what can be written of it is taken out.
async fn write(
    shared: &Shared,
    database: &mut Database,
    batch: &mut Batch,
) -> Result<(), sqlx::Error> {
    let rows: Vec<&Row> = batch.rows.iter().collect();
    match within(PATIENCE, transact(&mut database.writer, &rows)).await {
        Ok(new) => {
            count(shared, batch, new);
            owe(shared, batch, &batch.rows, new);
        }
        Err(error) if tables::is_poison(&error) => one_by_one(shared, database, batch).await?,
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

/// Has interrupted exchanges charged, whose rows are all new: what was there before was charged by then.
fn owe(shared: &Shared, batch: &Batch, rows: &[Row], new: u64) {
    if batch.interrupted && new == rows.len() as u64 {
        shared.owed.put(rows);
    }
}

/// The database refuses something for what it says: that row is left out, so that the others need not wait for ever.
async fn one_by_one(
    shared: &Shared,
    database: &mut Database,
    batch: &Batch,
) -> Result<(), sqlx::Error> {
    for row in &batch.rows {
        match within(PATIENCE, transact(&mut database.writer, &[row])).await {
            Ok(new) => {
                count(shared, batch, new);
                owe(shared, batch, std::slice::from_ref(row), new);
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

async fn transact(connection: &mut Connection, rows: &[&Row]) -> Result<u64, sqlx::Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let mut transaction = connection.begin().await?;
    let new = tables::put(&mut transaction, rows).await?;
    transaction.commit().await?;
    Ok(new)
}
