//! What waits to be written: bounded, and readable while it waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot};

use super::responses::Stored;

/// Writes that may wait, and their bytes.
pub const MOST_JOBS: usize = 4096;
pub const MOST_BYTES: usize = 64 << 20;
/// Reads that may wait.
const MOST_READS: usize = 1024;
/// A batch: one transaction.
const BATCH_JOBS: usize = 256;
const BATCH_BYTES: usize = 8 << 20;

/// A tenant's id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub tenant: Box<str>,
    pub id: Box<str>,
}

impl Key {
    pub fn new(tenant: &str, id: &str) -> Self {
        Self {
            tenant: tenant.into(),
            id: id.into(),
        }
    }
}

/// A write. Its number tells it from a later one of the same key.
pub enum Job {
    Put(u64, Arc<Stored>),
    /// Tells whether there was one; nothing when it can't be told.
    Delete(u64, Key, oneshot::Sender<bool>),
    /// Of an end user all that was put before. Always a batch of its own.
    Erase(Erase),
}

/// Who is to be forgotten.
pub struct Erase {
    pub user: Box<str>,
    /// Told when it begins.
    pub heard: oneshot::Sender<()>,
    /// Told how many there were; nothing when it can't be told.
    pub gone: oneshot::Sender<u64>,
}

impl Job {
    /// Returns the number and the key of a write.
    fn write(&self) -> Option<(u64, Key)> {
        match self {
            Job::Put(number, stored) => Some((*number, Key::new(&stored.tenant, &stored.id))),
            Job::Delete(number, key, _) => Some((*number, key.clone())),
            Job::Erase(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Job::Put(_, stored) => stored.bytes(),
            Job::Delete(_, key, _) => key.id.len(),
            Job::Erase(erase) => erase.user.len(),
        }
    }
}

/// What an answer is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Id,
    /// The id of one of its output items.
    Item,
}

/// A look-up that only the database can answer.
pub struct Read {
    pub by: By,
    pub key: Key,
    /// Nothing when the database can't tell.
    pub answer: oneshot::Sender<Option<Stored>>,
}

/// What is known of a key whose write still waits.
pub enum Waiting {
    Put(Arc<Stored>),
    Deleted,
}

#[derive(Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    /// Wakes the thread.
    filled: Notify,
    /// Wakes whoever waits for the thread.
    emptied: Condvar,
}

#[derive(Default)]
struct Inner {
    jobs: std::collections::VecDeque<Job>,
    reads: Vec<Read>,
    bytes: usize,
    /// The last write of each key that is not in the database yet.
    waiting: HashMap<Key, (u64, Option<Arc<Stored>>)>,
    numbers: u64,
    /// Taken and not yet done.
    writing: usize,
    stop: bool,
    ended: bool,
}

impl Inner {
    fn is_full(&self, more: usize) -> bool {
        self.stop
            || self.ended
            || self.jobs.len() >= MOST_JOBS
            || self.bytes.saturating_add(more) > MOST_BYTES
    }

    fn push(&mut self, stored: Option<Arc<Stored>>, job: Job) {
        self.bytes += job.bytes();
        if let Some((number, key)) = job.write() {
            self.waiting.insert(key, (number, stored));
        }
        self.jobs.push_back(job);
    }
}

impl Queue {
    /// Returns whether there was room.
    pub fn put(&self, stored: Arc<Stored>) -> bool {
        let mut inner = self.inner.lock();
        if inner.is_full(stored.bytes()) {
            return false;
        }
        inner.numbers += 1;
        let job = Job::Put(inner.numbers, stored.clone());
        inner.push(Some(stored), job);
        drop(inner);
        self.filled.notify_one();
        true
    }

    /// Returns where it will be told whether there was one; `None` when there was no room.
    pub fn delete(&self, key: Key) -> Option<oneshot::Receiver<bool>> {
        let mut inner = self.inner.lock();
        if inner.is_full(0) {
            return None;
        }
        let (tell, told) = oneshot::channel();
        inner.numbers += 1;
        let job = Job::Delete(inner.numbers, key, tell);
        inner.push(None, job);
        drop(inner);
        self.filled.notify_one();
        Some(told)
    }

    /// Returns where it will be told that it begins, and how many there were; `None` when there was no room.
    pub fn erase(&self, user: &str) -> Option<(oneshot::Receiver<()>, oneshot::Receiver<u64>)> {
        let mut inner = self.inner.lock();
        if inner.is_full(0) {
            return None;
        }
        let (heard, begins) = oneshot::channel();
        let (gone, told) = oneshot::channel();
        let user = user.into();
        inner.push(None, Job::Erase(Erase { user, heard, gone }));
        drop(inner);
        self.filled.notify_one();
        Some((begins, told))
    }

    /// Returns whether somebody waits for an end user to be erased.
    pub fn erases(&self) -> bool {
        let waits = |job: &Job| match job {
            Job::Erase(erase) => !erase.heard.is_closed(),
            Job::Put(..) | Job::Delete(..) => false,
        };
        self.inner.lock().jobs.iter().any(waits)
    }

    /// Returns what a write that still waits says of a key.
    pub fn look(&self, key: &Key) -> Option<Waiting> {
        let inner = self.inner.lock();
        let (_, stored) = inner.waiting.get(key)?;
        Some(match stored {
            Some(stored) => Waiting::Put(stored.clone()),
            None => Waiting::Deleted,
        })
    }

    /// Returns the tenant's answers whose writes still wait, the last one first.
    pub fn waiting_of(&self, tenant: &str) -> Vec<Arc<Stored>> {
        let inner = self.inner.lock();
        let waiting = inner.waiting.values();
        let mut puts: Vec<(u64, Arc<Stored>)> = waiting
            .filter_map(|(number, stored)| Some((*number, stored.clone()?)))
            .filter(|(_, stored)| stored.tenant == tenant)
            .collect();
        drop(inner);
        puts.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        puts.into_iter().map(|(_, stored)| stored).collect()
    }

    /// Asks the database; `None` when too many do.
    pub fn read(&self, by: By, key: Key) -> Option<oneshot::Receiver<Option<Stored>>> {
        let mut inner = self.inner.lock();
        if inner.stop || inner.ended || inner.reads.len() >= MOST_READS {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        inner.reads.push(Read { by, key, answer });
        drop(inner);
        self.filled.notify_one();
        Some(answered)
    }

    pub fn length(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.jobs.len() as u64, inner.bytes as u64)
    }

    /// Waits until something waits, or until it is to stop.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes a batch of writes. A batch is to be ended with [`Queue::done`].
    pub fn take_jobs(&self) -> Vec<Job> {
        let mut inner = self.inner.lock();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_JOBS && bytes < BATCH_BYTES {
            let alone = matches!(inner.jobs.front(), Some(Job::Erase(_)));
            if alone && !batch.is_empty() {
                break;
            }
            let Some(job) = inner.jobs.pop_front() else {
                break;
            };
            bytes += job.bytes();
            batch.push(job);
            if alone {
                break;
            }
        }
        inner.writing = batch.len();
        batch
    }

    pub fn take_reads(&self) -> Vec<Read> {
        std::mem::take(&mut self.inner.lock().reads)
    }

    /// Ends a batch, whether it was written or lost: from now on the database answers for it.
    pub fn done(&self, batch: &[Job]) {
        let keys: Vec<(u64, Key)> = batch.iter().filter_map(Job::write).collect();
        let bytes: usize = batch.iter().map(Job::bytes).sum();
        let mut inner = self.inner.lock();
        for (number, key) in keys {
            let is_last = inner
                .waiting
                .get(&key)
                .is_some_and(|(last, _)| *last == number);
            if is_last {
                inner.waiting.remove(&key);
            }
        }
        inner.bytes = inner.bytes.saturating_sub(bytes);
        inner.writing = 0;
        if inner.jobs.is_empty() {
            self.emptied.notify_all();
        }
    }

    pub fn stops(&self) -> bool {
        self.inner.lock().stop
    }

    /// Nothing is taken any more. What waits is given up: whoever waits for an answer learns that there is none.
    pub fn end(&self) {
        let mut inner = self.inner.lock();
        inner.ended = true;
        inner.jobs.clear();
        inner.reads.clear();
        inner.waiting.clear();
        inner.bytes = 0;
        inner.writing = 0;
        self.emptied.notify_all();
    }

    pub fn flush(&self, timeout: Duration) -> bool {
        self.wait(timeout, |inner| {
            inner.ended || (inner.jobs.is_empty() && inner.writing == 0)
        })
    }

    pub fn stop(&self, timeout: Duration) -> bool {
        self.inner.lock().stop = true;
        self.filled.notify_one();
        self.wait(timeout, |inner| inner.ended)
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&Inner) -> bool) -> bool {
        let until = Instant::now() + timeout;
        let mut inner = self.inner.lock();
        while !done(&inner) {
            if self.emptied.wait_until(&mut inner, until).timed_out() {
                return done(&inner);
            }
        }
        true
    }
}
