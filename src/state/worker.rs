//! The thread that owns the database: opens it, writes in batches, answers look-ups, sweeps.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use sqlx::Connection as _;
use tokio::task::JoinSet;

use super::database::{self, Connection, Database};
use super::queue::{By, Job, Read};
use super::{Counts, Dropped, FILE, Health, Shared, responses};

/// How long a start waits for the first try to open the database.
pub const FIRST_TRY: Duration = Duration::from_secs(10);
/// Between two tries.
const TRY_EVERY: Duration = Duration::from_secs(15);
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Chunks that one sweep deletes at most, so that writes don't wait long.
const MOST_CHUNKS: usize = 20;
/// Losses are reported at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What is done when the database can't be opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    Once,
    Ever,
}

/// Counts, and how it stands.
#[derive(Default)]
pub struct Tallies {
    available: AtomicBool,
    detail: Mutex<Option<String>>,
    complained: Mutex<Option<Instant>>,
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
    pub written: AtomicU64,
    pub deleted: AtomicU64,
    pub expired: AtomicU64,
    pub evicted: AtomicU64,
    pub too_large: AtomicU64,
    pub queue_full: AtomicU64,
    pub no_database: AtomicU64,
    pub failed: AtomicU64,
}

impl Tallies {
    pub fn is_available(&self) -> bool {
        self.available.load(Relaxed)
    }

    pub fn unavailable(&self, why: String) {
        self.available.store(false, Relaxed);
        *self.detail.lock() = Some(why);
    }

    fn is_well(&self) {
        self.available.store(true, Relaxed);
        *self.detail.lock() = None;
    }

    fn is_ill(&self, why: &sqlx::Error) {
        *self.detail.lock() = Some(format!("the state database refuses: {why}"));
    }

    /// Counts what is not kept, and says so now and then.
    pub fn lost(&self, count: &AtomicU64, more: u64) {
        count.fetch_add(more, Relaxed);
        let mut complained = self.complained.lock();
        if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            *complained = Some(Instant::now());
            let Dropped {
                too_large: _,
                queue_full,
                unavailable,
                failed,
            } = self.counts().dropped;
            let detail = self.detail.lock().clone().unwrap_or_default();
            tracing::warn!(
                queue_full,
                unavailable,
                failed,
                detail,
                "answers are not kept"
            );
        }
    }

    pub fn health(&self) -> Health {
        Health {
            available: self.is_available(),
            detail: self.detail.lock().clone(),
        }
    }

    pub fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Relaxed);
        Counts {
            available: self.is_available(),
            queued: 0,
            queued_bytes: 0,
            rows: of(&self.rows),
            bytes: of(&self.bytes),
            written: of(&self.written),
            deleted: of(&self.deleted),
            expired: of(&self.expired),
            evicted: of(&self.evicted),
            dropped: Dropped {
                too_large: of(&self.too_large),
                queue_full: of(&self.queue_full),
                unavailable: of(&self.no_database),
                failed: of(&self.failed),
            },
        }
    }
}

/// Runs until the queue is told to stop. Tells once how the first try to open the database went.
pub fn run(shared: &Shared, dir: &Path, patience: Patience, tell: &Sender<Result<(), String>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(shared, dir, patience, tell)),
        Err(error) => {
            let what = format!("the thread of the state database can't run: {error}");
            shared.tallies.unavailable(what.clone());
            let _ = tell.send(Err(what));
        }
    }
    shared.tallies.available.store(false, Relaxed);
    shared.queue.end();
}

async fn serve(shared: &Shared, dir: &Path, patience: Patience, tell: &Sender<Result<(), String>>) {
    let mut told = false;
    let mut database = loop {
        match open(dir).await {
            Ok(database) => break database,
            Err(what) => {
                tracing::error!(file = %dir.join(FILE).display(), error = what, "the state database can't be opened: nothing is kept");
                shared.tallies.unavailable(what.clone());
                // Whoever opens and doesn't wait for the outcome doesn't care.
                let _ = tell.send(Err(what));
                told = true;
                if patience == Patience::Once {
                    return;
                }
            }
        }
        let pause = tokio::time::sleep(TRY_EVERY);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                () = shared.queue.filled() => {}
            }
            if shared.queue.stops() {
                return;
            }
        }
    };
    sweep(shared, &mut database.writer).await;
    shared.tallies.is_well();
    if told {
        tracing::info!("the state database is open: answers are kept again");
    }
    let _ = tell.send(Ok(()));
    work(shared, &mut database).await;
    if let Err(error) = database.close().await {
        tracing::warn!(%error, "the state database is not closed cleanly");
    }
}

/// Opens the database, with a second look when another process has just made it.
async fn open(dir: &Path) -> Result<Database, String> {
    const TRIES: usize = 3;
    std::fs::create_dir_all(dir).map_err(|error| format!("state.dir can't be made: {error}"))?;
    let file = dir.join(FILE);
    private(&file).map_err(|error| format!("{FILE} can't be written in state.dir: {error}"))?;
    let mut tries = 0;
    loop {
        tries += 1;
        match Database::open(&file).await {
            Ok(database) => return Ok(database),
            Err(_) if tries < TRIES => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(error) => return Err(format!("{FILE} can't be opened: {error}")),
        }
    }
}

/// Makes the file, for nobody else to read: it holds what people said.
fn private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file)
        .map(drop)
}

async fn work(shared: &Shared, database: &mut Database) {
    // The start has swept already.
    let first = tokio::time::Instant::now() + SWEEP_EVERY;
    let mut sweeps = tokio::time::interval_at(first, SWEEP_EVERY);
    sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reads = JoinSet::new();
    loop {
        for read in shared.queue.take_reads() {
            let readers = database.readers.clone();
            reads.spawn(async move { answer(&readers, read).await });
        }
        // Asked first: after it nothing is put any more, so an empty batch is the end.
        let stops = shared.queue.stops();
        let batch = shared.queue.take_jobs();
        if !batch.is_empty() {
            write(shared, &mut database.writer, batch).await;
            while reads.try_join_next().is_some() {}
            continue;
        }
        if stops {
            break;
        }
        tokio::select! {
            () = shared.queue.filled() => {}
            _ = sweeps.tick() => sweep(shared, &mut database.writer).await,
            Some(_) = reads.join_next(), if !reads.is_empty() => {}
        }
    }
    while reads.join_next().await.is_some() {}
}

async fn answer(readers: &database::Pool, read: Read) {
    let found = match read.by {
        By::Id => responses::select(readers, &read.key).await,
        By::Item => responses::select_by_item(readers, &read.key).await,
    };
    match found {
        // Nobody listens when the client has left.
        Ok(found) => drop(read.answer.send(found)),
        Err(error) => tracing::warn!(%error, "the state database did not answer"),
    }
}

/// Writes a batch in one transaction, with one more try.
async fn write(shared: &Shared, writer: &mut Connection, batch: Vec<Job>) {
    const AGAIN_AFTER: Duration = Duration::from_millis(100);
    let mut outcome = transact(writer, &batch).await;
    if outcome.is_err() {
        tokio::time::sleep(AGAIN_AFTER).await;
        outcome = transact(writer, &batch).await;
    }
    let tallies = &shared.tallies;
    let existed = match outcome {
        Ok(existed) => {
            tallies.is_well();
            Some(existed)
        }
        Err(error) => {
            tallies.is_ill(&error);
            None
        }
    };
    // Counted first and told last: who waits for the queue reads the counts, and who deletes and looks again finds
    // nothing, not what still waits.
    match &existed {
        Some(existed) => {
            let puts = batch.iter().filter(|job| matches!(job, Job::Put(..)));
            tallies.written.fetch_add(puts.count() as u64, Relaxed);
            let gone = existed.iter().filter(|existed| **existed);
            tallies.deleted.fetch_add(gone.count() as u64, Relaxed);
        }
        None => tallies.lost(&tallies.failed, batch.len() as u64),
    }
    shared.queue.done(&batch);
    for (job, existed) in batch.into_iter().zip(existed.into_iter().flatten()) {
        if let Job::Delete(_, _, tell) = job {
            let _ = tell.send(existed);
        }
    }
}

/// Returns for each job whether there was one to delete.
async fn transact(writer: &mut Connection, batch: &[Job]) -> Result<Vec<bool>, sqlx::Error> {
    let mut transaction = writer.begin().await?;
    let mut existed = Vec::with_capacity(batch.len());
    for job in batch {
        existed.push(match job {
            Job::Put(_, stored) => {
                responses::insert(&mut transaction, stored).await?;
                false
            }
            Job::Delete(_, key, _) => responses::remove(&mut transaction, key).await?,
        });
    }
    transaction.commit().await?;
    Ok(existed)
}

/// Deletes what is over and what is too much, and looks how much there is.
async fn sweep(shared: &Shared, writer: &mut Connection) {
    if let Err(error) = swept(shared, writer).await {
        shared.tallies.is_ill(&error);
        tracing::warn!(%error, "the state database can't be swept");
    }
}

async fn swept(shared: &Shared, writer: &mut Connection) -> Result<(), sqlx::Error> {
    let tallies = &shared.tallies;
    let now = Timestamp::now().as_second();
    let max_size = shared.settings.load().max_size;
    let mut any = false;
    for _ in 0..MOST_CHUNKS {
        let gone = responses::expire(writer, now).await?;
        tallies.expired.fetch_add(gone, Relaxed);
        if gone == 0 {
            break;
        }
        any = true;
    }
    for _ in 0..MOST_CHUNKS {
        let gone = responses::evict(writer, max_size).await?;
        tallies.evicted.fetch_add(gone, Relaxed);
        if gone == 0 {
            break;
        }
        any = true;
    }
    if any {
        database::tidy(writer).await?;
    }
    let (rows, bytes) = responses::measure(writer).await?;
    tallies.rows.store(rows, Relaxed);
    tallies.bytes.store(bytes, Relaxed);
    Ok(())
}
