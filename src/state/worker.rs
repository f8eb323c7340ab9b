//! The thread that owns the database: opens it, writes in batches, answers look-ups, sweeps.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use sqlx::Connection as _;
use tokio::task::JoinSet;

use super::database::{self, Connection, Database, FILE, Location, PATIENCE, Turn};
use super::erasure::{self, Mask};
use super::queue::{By, Erase, Job, Read};
use super::{Counts, Dropped, Health, Shared, responses};

/// How long a start waits for the first try to open the database.
pub const FIRST_TRY: Duration = Duration::from_secs(10);
/// Between two tries to open it, at first; doubles each time.
const TRY_AFTER: Duration = Duration::from_secs(1);
const TRY_EVERY: Duration = Duration::from_secs(15);
/// A server that was there and is away, as when it restarts, may come back within this, and nothing is lost: what is
/// to be written waits for it, as far as the queue has room.
const GRACE: Duration = Duration::from_secs(10);
const GRACE_STEP: Duration = Duration::from_millis(200);
/// A server is asked this often whether it is there.
const PING_EVERY: Duration = Duration::from_secs(2);
/// A server that says nothing for this long is not asked to erase.
const ERASE_PATIENCE: Duration = Duration::from_secs(2);
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
pub fn run(
    shared: &Shared,
    location: &Location,
    patience: Patience,
    tell: &Sender<Result<(), String>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(shared, location, patience, tell)),
        Err(error) => {
            let what = format!("the thread of the state database can't run: {error}");
            shared.tallies.unavailable(what.clone());
            let _ = tell.send(Err(what));
        }
    }
    shared.tallies.available.store(false, Relaxed);
    shared.queue.end();
}

async fn serve(
    shared: &Shared,
    location: &Location,
    patience: Patience,
    tell: &Sender<Result<(), String>>,
) {
    let mut complained = false;
    let mut pause = TRY_AFTER;
    loop {
        match open(location).await {
            Ok((mut database, mask)) => {
                sweep(shared, &mut database).await;
                shared.tallies.is_well();
                if complained {
                    tracing::info!("the state database is open: answers are kept again");
                }
                let _ = tell.send(Ok(()));
                (complained, pause) = (false, TRY_AFTER);
                let end = work(shared, &mut database, &mask).await;
                if end == End::Told {
                    if let Err(error) = database.close().await {
                        tracing::warn!(%error, "the state database is not closed cleanly");
                    }
                    return;
                }
            }
            Err(what) => {
                if !complained {
                    tracing::error!(
                        database = location.shown(),
                        error = what,
                        "the state database can't be opened: nothing is kept"
                    );
                }
                complained = true;
                shared.tallies.unavailable(what.clone());
                // Whoever opens and doesn't wait for the outcome doesn't care.
                let _ = tell.send(Err(what));
                if patience == Patience::Once {
                    return;
                }
                if wait(shared, pause).await == End::Told {
                    return;
                }
                pause = (pause * 2).min(TRY_EVERY);
            }
        }
    }
}

/// Why work ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The queue was told to stop.
    Told,
    /// The server is away.
    Away,
}

/// Waits before the next try; nobody who asks meanwhile gets an answer. Whoever is to be forgotten is not let wait long.
async fn wait(shared: &Shared, pause: Duration) -> End {
    let until = tokio::time::Instant::now() + pause;
    loop {
        let soon = tokio::time::Instant::now() + TRY_AFTER;
        let next = match shared.queue.erases() {
            true => until.min(soon),
            false => until,
        };
        tokio::select! {
            () = tokio::time::sleep_until(next) => return End::Away,
            () = shared.queue.filled() => {}
        }
        drop(shared.queue.take_reads());
        if shared.queue.stops() {
            return End::Told;
        }
    }
}

/// Opens the database, with a second look when another process has just made it.
async fn open(location: &Location) -> Result<(Database, Mask), String> {
    const TRIES: usize = 3;
    if let Location::Dir(dir) = location {
        std::fs::create_dir_all(dir)
            .map_err(|error| format!("state.dir can't be made: {error}"))?;
        database::private(&dir.join(FILE))
            .map_err(|error| format!("{FILE} can't be written in state.dir: {error}"))?;
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let opened = async {
            let mut database = Database::open(location).await?;
            let mask = database::within(PATIENCE, Mask::read(&mut database.writer)).await?;
            Ok((database, mask))
        };
        match opened.await {
            Ok(opened) => return Ok(opened),
            Err(error) if tries < TRIES && !database::is_away(&error) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => {
                let name = match location {
                    Location::Dir(_) => FILE,
                    Location::Server(_) => "state.database",
                };
                return Err(format!("{name} can't be opened: {error}"));
            }
        }
    }
}

async fn work(shared: &Shared, database: &mut Database, mask: &Mask) -> End {
    // The start has swept already.
    let every = |period| {
        let first = tokio::time::Instant::now() + period;
        let mut ticks = tokio::time::interval_at(first, period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks
    };
    let (mut sweeps, mut pings) = (every(SWEEP_EVERY), every(PING_EVERY));
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
            if write(shared, database, mask, batch).await == Err(End::Away) {
                return End::Away;
            }
            while reads.try_join_next().is_some() {}
            continue;
        }
        if stops {
            break;
        }
        tokio::select! {
            () = shared.queue.filled() => {}
            _ = sweeps.tick() => sweep(shared, database).await,
            _ = pings.tick(), if database.is_server() => {
                if !is_there(shared, database).await && !revive(shared, database).await {
                    return End::Away;
                }
            }
            Some(_) = reads.join_next(), if !reads.is_empty() => {}
        }
    }
    while reads.join_next().await.is_some() {}
    End::Told
}

async fn is_there(shared: &Shared, database: &mut Database) -> bool {
    match database::within(PATIENCE, database.writer.ping()).await {
        Ok(()) => true,
        Err(error) => {
            shared.tallies.is_ill(&error);
            false
        }
    }
}

/// Waits for a server that was there a moment ago; returns whether it is back. It is not waited for at the end.
async fn revive(shared: &Shared, database: &mut Database) -> bool {
    let until = Instant::now() + GRACE;
    loop {
        match database.reconnect().await {
            Ok(()) => {
                shared.tallies.is_well();
                return true;
            }
            Err(error) => {
                let over = Instant::now() >= until || shared.queue.stops();
                shared.tallies.is_ill(&error);
                if over {
                    return false;
                }
            }
        }
        tokio::time::sleep(GRACE_STEP).await;
    }
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

/// Writes a batch in one transaction, with one more try, and then each write for itself: one that the database refuses
/// takes no other along. Errors: the server is away, and the batch is lost.
async fn write(
    shared: &Shared,
    database: &mut Database,
    mask: &Mask,
    mut batch: Vec<Job>,
) -> Result<(), End> {
    const AGAIN_AFTER: Duration = Duration::from_millis(100);
    if matches!(batch.first(), Some(Job::Erase(_))) {
        shared.queue.done(&batch);
        return match batch.pop() {
            Some(Job::Erase(one)) => erase(shared, database, mask, one).await,
            Some(Job::Put(..) | Job::Delete(..)) | None => Ok(()),
        };
    }
    let tallies = &shared.tallies;
    let mut outcome = transact(&mut database.writer, mask, &batch).await;
    if let Err(error) = &outcome {
        if database::is_away(error) && database.is_server() {
            if revive(shared, database).await {
                outcome = transact(&mut database.writer, mask, &batch).await;
            }
        } else {
            renew(error, database).await;
            tokio::time::sleep(AGAIN_AFTER).await;
            outcome = transact(&mut database.writer, mask, &batch).await;
        }
    }
    let mut end = Ok(());
    let existed: Vec<Option<bool>> = match outcome {
        Ok(existed) => {
            tallies.is_well();
            existed.into_iter().map(Some).collect()
        }
        Err(error) => {
            tallies.is_ill(&error);
            if database.is_server() && database::is_away(&error) {
                end = Err(End::Away);
                batch.iter().map(|_| None).collect()
            } else {
                renew(&error, database).await;
                one_by_one(database, mask, &batch).await
            }
        }
    };
    // Counted first and told last: who waits for the queue reads the counts, and who deletes and looks again finds
    // nothing, not what still waits.
    let mut written = 0;
    for (job, existed) in batch.iter().zip(&existed) {
        written += u64::from(existed.is_some() && matches!(job, Job::Put(..)));
    }
    let gone = existed.iter().filter(|existed| **existed == Some(true));
    tallies.written.fetch_add(written, Relaxed);
    tallies.deleted.fetch_add(gone.count() as u64, Relaxed);
    let lost = existed.iter().filter(|existed| existed.is_none()).count();
    if lost > 0 {
        tallies.lost(&tallies.failed, lost as u64);
    }
    shared.queue.done(&batch);
    for (job, existed) in batch.into_iter().zip(existed) {
        if let (Job::Delete(_, _, tell), Some(existed)) = (job, existed) {
            let _ = tell.send(existed);
        }
    }
    end
}

/// Opens another connection where SQLite has ended the transaction by itself, as on a full disk: what the one that is
/// there writes from then on may never be committed.
async fn renew(error: &sqlx::Error, database: &mut Database) {
    if database::is_away(error)
        && let Err(error) = database.reconnect().await
    {
        tracing::warn!(%error, "another connection to the state database can't be opened");
    }
}

/// Writes each for itself; `None` for what is refused.
async fn one_by_one(database: &mut Database, mask: &Mask, batch: &[Job]) -> Vec<Option<bool>> {
    let mut existed = Vec::with_capacity(batch.len());
    for job in batch {
        let one = transact(&mut database.writer, mask, std::slice::from_ref(job)).await;
        if let Err(error) = &one {
            renew(error, database).await;
        }
        existed.push(one.ok().and_then(|existed| existed.first().copied()));
    }
    existed
}

/// Returns for each job whether there was one to delete.
async fn transact(
    writer: &mut Connection,
    mask: &Mask,
    batch: &[Job],
) -> Result<Vec<bool>, sqlx::Error> {
    database::within(PATIENCE, async {
        let mut transaction = writer.begin().await?;
        let mut existed = Vec::with_capacity(batch.len());
        let mut users = Vec::new();
        for job in batch {
            existed.push(match job {
                Job::Put(_, stored) => {
                    let mask = mask.of(&stored.asker.user);
                    responses::insert(&mut transaction, stored, &mask).await?;
                    if !mask.is_empty() {
                        users.push((stored, mask));
                    }
                    false
                }
                Job::Delete(_, key, _) => responses::remove(&mut transaction, key).await?,
                Job::Erase(_) => false,
            });
        }
        if !users.is_empty() {
            // Whoever erases waits until these are seen, or has noted it where these look.
            Turn::Together.take(&mut transaction).await?;
        }
        for (stored, mask) in users {
            responses::again(&mut transaction, stored, &mask).await?;
        }
        transaction.commit().await?;
        Ok(existed)
    })
    .await
}

/// Deletes the answers of a user. Errors: the server is away.
async fn erase(
    shared: &Shared,
    database: &mut Database,
    mask: &Mask,
    one: Erase,
) -> Result<(), End> {
    // Whoever asked has left, and was told that it is not done.
    if one.heard.send(()).is_err() {
        return Ok(());
    }
    let there = database::within(ERASE_PATIENCE, database.writer.ping());
    let erased = match there.await {
        Ok(()) => erasure::erase_responses(&mut database.writer, &mask.of(&one.user)).await,
        Err(error) => Err(error),
    };
    match erased {
        Ok(gone) => {
            if let Err(error) = database.scrub().await {
                tracing::warn!(%error, "whose answers were erased is in the database's log until it is written over");
            }
            shared.tallies.deleted.fetch_add(gone, Relaxed);
            let _ = one.gone.send(gone);
            Ok(())
        }
        Err(error) => {
            tracing::warn!(%error, "the kept answers of a user can't be deleted");
            shared.tallies.is_ill(&error);
            // Nobody waits for what comes now.
            drop(one.gone);
            if !database.is_server() {
                renew(&error, database).await;
            } else if database::is_away(&error) && !revive(shared, database).await {
                return Err(End::Away);
            }
            Ok(())
        }
    }
}

/// Deletes what is over and what is too much, and looks how much there is.
async fn sweep(shared: &Shared, database: &mut Database) {
    if let Err(error) = swept(shared, database).await {
        shared.tallies.is_ill(&error);
        tracing::warn!(%error, "the state database can't be swept");
    }
}

async fn swept(shared: &Shared, database: &mut Database) -> Result<(), sqlx::Error> {
    let tallies = &shared.tallies;
    let writer = &mut database.writer;
    let now = Timestamp::now().as_second();
    let max_size = shared.settings.load().max_size;
    let mut any = false;
    for _ in 0..MOST_CHUNKS {
        let gone = database::within(PATIENCE, responses::expire(writer, now)).await?;
        tallies.expired.fetch_add(gone, Relaxed);
        if gone == 0 {
            break;
        }
        any = true;
    }
    for _ in 0..MOST_CHUNKS {
        let gone = database::within(PATIENCE, responses::evict(writer, max_size)).await?;
        tallies.evicted.fetch_add(gone, Relaxed);
        if gone == 0 {
            break;
        }
        any = true;
    }
    let (rows, bytes) = database::within(PATIENCE, responses::measure(writer)).await?;
    tallies.rows.store(rows, Relaxed);
    tallies.bytes.store(bytes, Relaxed);
    if any {
        database.tidy().await?;
    }
    Ok(())
}
