//! The journal: what was admitted and what became of it, in a local append-only file, until the database has it.
//!
//! Each process has a folder of its own in `state.dir/journal`, with a lock that ends with the process, and in it
//! segments in the order of their numbers. Rules:
//! 1. An admission is written (`write(2)`) before it is told to be; from then on it survives every end of the process.
//!    What it takes is a copy into the page cache, so it is done in place, under a lock that is held for that long.
//! 2. What an exchange came to is put into memory and written with the next admission, or by the ledger's thread
//!    moments later. One that a kill catches between is found as admitted, with its estimate.
//! 3. A power cut may take what the system had not written yet, unless `fsync` says more.
//! 4. Above its bound nothing is admitted. What was admitted has its own room for its end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, watch};

use super::entry::MAGIC;
use super::{Fsync, Settings};

/// The folder in `state.dir`.
pub const FOLDER: &str = "journal";
/// Folders of processes begin so.
pub const RUN: &str = "run-";
/// The file in each whose lock ends with its process.
pub const LOCK: &str = "lock";
/// A segment that is this long is followed by another.
pub const SEGMENT: u64 = 16 << 20;
/// What waits in memory is written at this size without waiting for an admission.
const WAITS: usize = 256 << 10;
/// While nothing can be written, this much is held; more is lost.
const HOLDS: usize = 8 << 20;
/// Between two tries to write again after a failure.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// With `fsync = "interval"`.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Why something was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has reached `ledger.max_journal`.
    Full,
    Failed(String),
}

/// What is in the files, for whoever reads them while they grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    pub first: u64,
    pub last: u64,
    /// Whole entries in the last segment end here.
    pub end: u64,
}

pub struct Journal {
    /// `state.dir/journal`
    root: PathBuf,
    max: u64,
    inner: Mutex<Inner>,
    /// Something waits to be written or read.
    filled: Notify,
    sync: Option<Sync>,
}

#[derive(Default)]
struct Inner {
    run: Option<Run>,
    /// `None`: the last try to write failed.
    file: Option<Arc<File>>,
    extent: Extent,
    /// When this is reached the next segment begins.
    rotate_at: u64,
    /// Entries that are not written yet.
    waits: Vec<u8>,
    /// Bytes of all segments.
    total: u64,
    /// Bytes written since the start, over all segments.
    written: u64,
    /// Something found no room since segments were last given up.
    full: bool,
    failure: Option<String>,
    failed_at: Option<Instant>,
    /// Segments that were left with bytes that the disk may not have.
    unsynced: Vec<Arc<File>>,
    stop: bool,
}

/// The folder of this process. Dropping it lets another process take what is in it.
struct Run {
    dir: PathBuf,
    _lock: File,
}

/// What `fsync` needs.
struct Sync {
    always: bool,
    /// Wakes its thread.
    written: Condvar,
    /// Up to where the disk has it, in bytes since the start.
    synced: watch::Sender<u64>,
}

impl Journal {
    /// Opens a folder for this process below `state_dir`. Where that can't be done now, it is tried again when something
    /// is to be written.
    pub fn open(state_dir: &Path, settings: &Settings) -> Arc<Self> {
        let sync = match settings.fsync {
            Fsync::Never => None,
            Fsync::Interval | Fsync::Always => Some(Sync {
                always: settings.fsync == Fsync::Always,
                written: Condvar::new(),
                synced: watch::channel(0).0,
            }),
        };
        let journal = Arc::new(Self {
            root: state_dir.join(FOLDER),
            max: settings.max_journal,
            inner: Mutex::default(),
            filled: Notify::new(),
            sync,
        });
        journal.reopen(&mut journal.inner.lock());
        if journal.sync.is_some() {
            let own = journal.clone();
            let started = std::thread::Builder::new()
                .name("journal".into())
                .spawn(move || own.keep_synced());
            if let Err(error) = started {
                journal
                    .inner
                    .lock()
                    .fail(format!("the thread that syncs can't be started: {error}"));
            }
        }
        journal
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes an entry; it survives the process from here on. Returns where it ends, for [`Journal::synced`].
    pub fn write(&self, entry: &[u8]) -> Result<u64, Refusal> {
        let mut inner = self.inner.lock();
        let after = inner.total + (inner.waits.len() + entry.len()) as u64;
        if after > self.max {
            inner.full = true;
            return Err(Refusal::Full);
        }
        self.put(&mut inner, entry)
    }

    /// As [`Journal::write`], above the bound too: for what was admitted and must be written again.
    pub fn write_again(&self, entry: &[u8]) -> Result<u64, Refusal> {
        self.put(&mut self.inner.lock(), entry)
    }

    fn put(&self, inner: &mut Inner, entry: &[u8]) -> Result<u64, Refusal> {
        self.reopen(inner);
        let before = inner.waits.len();
        inner.waits.extend_from_slice(entry);
        let written = inner.flush();
        if let Err(why) = written {
            // What is refused now must not be found later.
            inner.waits.truncate(before);
            return Err(Refusal::Failed(why));
        }
        if inner.extent.end >= inner.rotate_at {
            self.rotate(inner);
        }
        if let Some(sync) = &self.sync {
            sync.written.notify_one();
        }
        Ok(inner.written)
    }

    /// Has an entry written soon. Returns whether there was room.
    pub fn append(&self, entry: &[u8]) -> bool {
        let mut inner = self.inner.lock();
        let after = inner.total + (inner.waits.len() + entry.len()) as u64;
        if after > self.max.saturating_add(self.max / 8) {
            return false;
        }
        if inner.waits.len() + entry.len() > WAITS {
            self.reopen(&mut inner);
            if inner.flush().is_err() && inner.waits.len() + entry.len() > HOLDS {
                return false;
            }
        }
        let wake = inner.waits.is_empty();
        inner.waits.extend_from_slice(entry);
        drop(inner);
        if wake {
            self.filled.notify_one();
        }
        true
    }

    /// Writes what waits. Returns whether nothing waits any more.
    pub fn flush(&self) -> bool {
        let mut inner = self.inner.lock();
        if inner.waits.is_empty() {
            return true;
        }
        self.reopen(&mut inner);
        let flushed = inner.flush().is_ok();
        if flushed && inner.extent.end >= inner.rotate_at {
            self.rotate(&mut inner);
        }
        if let Some(sync) = self.sync.as_ref().filter(|_| flushed) {
            sync.written.notify_one();
        }
        flushed
    }

    /// Has what was written read soon.
    pub fn wake(&self) {
        self.filled.notify_one();
    }

    /// Waits until something was appended since the last wait.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// With `fsync = "always"`, waits until the disk has what was written up to `end`.
    pub async fn synced(&self, end: u64) {
        let Some(sync) = self.sync.as_ref().filter(|sync| sync.always) else {
            return;
        };
        let mut synced = sync.synced.subscribe();
        // The sender lives as long as the journal.
        let _ = synced.wait_for(|synced| *synced >= end).await;
    }

    pub fn extent(&self) -> Extent {
        self.inner.lock().extent
    }

    /// Bytes in files.
    pub fn bytes(&self) -> u64 {
        self.inner.lock().total
    }

    /// Why nothing can be written, while it can't.
    pub fn failure(&self) -> Option<String> {
        let inner = self.inner.lock();
        if inner.full {
            return Some("the journal has reached ledger.max_journal".into());
        }
        inner.failure.clone()
    }

    /// Returns the name of this process's folder.
    pub fn run(&self) -> Option<Box<str>> {
        let inner = self.inner.lock();
        let name = inner.run.as_ref()?.dir.file_name()?;
        Some(name.to_str()?.into())
    }

    /// Returns the file of a segment of this process.
    pub fn segment(&self, number: u64) -> Option<PathBuf> {
        let inner = self.inner.lock();
        inner.run.as_ref().map(|run| segment(&run.dir, number))
    }

    /// Deletes the segments before `number`; the last one stays. For one thread alone.
    pub fn release(&self, number: u64) {
        let (dir, extent) = {
            let inner = self.inner.lock();
            let Some(run) = &inner.run else { return };
            (run.dir.clone(), inner.extent)
        };
        // Not under the lock: freeing what the system holds of a file takes its time.
        let mut gone = 0;
        let mut first = extent.first;
        while first < number.min(extent.last) {
            let path = segment(&dir, first);
            let length = path.metadata().map_or(0, |known| known.len());
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(file = %path.display(), %error, "a segment of the journal can't be deleted");
                break;
            }
            gone += length;
            first += 1;
        }
        let mut inner = self.inner.lock();
        inner.total = inner.total.saturating_sub(gone);
        inner.extent.first = first;
        inner.full &= inner.total >= self.max;
    }

    /// Begins a new segment, so that all before it can be released.
    pub fn turn(&self) {
        let mut inner = self.inner.lock();
        if inner.file.is_some() && inner.extent.end > MAGIC.len() as u64 {
            self.rotate(&mut inner);
        }
    }

    /// Takes nothing more, and deletes the folder where everything in it is done with.
    pub fn close(&self, is_done: bool) {
        let mut inner = self.inner.lock();
        inner.stop = true;
        inner.file = None;
        if let Some(run) = inner.run.take().filter(|_| is_done) {
            // What stays is found by the next process.
            if let Err(error) = std::fs::remove_dir_all(&run.dir) {
                tracing::warn!(dir = %run.dir.display(), %error, "the journal's folder can't be deleted");
            }
        }
        if let Some(sync) = &self.sync {
            sync.written.notify_one();
            sync.synced.send_replace(u64::MAX);
        }
    }

    /// Opens a segment where there is none to write to.
    fn reopen(&self, inner: &mut Inner) {
        let soon = |at: Instant| at.elapsed() < TRY_EVERY;
        if inner.file.is_some() || inner.stop || inner.failed_at.is_some_and(soon) {
            return;
        }
        if let Err(error) = self.begin(inner) {
            inner.fail(format!("{} can't be written: {error}", self.root.display()));
        }
    }

    fn begin(&self, inner: &mut Inner) -> io::Result<()> {
        if inner.run.is_none() {
            inner.run = Some(Run::new(&self.root)?);
        }
        self.next(inner)?;
        if inner.failure.take().is_some() {
            tracing::info!("the journal is written again");
        }
        inner.failed_at = None;
        Ok(())
    }

    /// Goes on in the next segment; where there can't be one, in this.
    fn rotate(&self, inner: &mut Inner) {
        if let Err(error) = self.next(inner) {
            inner.rotate_at = inner.extent.end + SEGMENT;
            tracing::warn!(%error, "the journal goes on in a segment that is full");
        }
    }

    fn next(&self, inner: &mut Inner) -> io::Result<()> {
        let Some(run) = &inner.run else { return Ok(()) };
        let number = inner.extent.last + 1;
        let path = segment(&run.dir, number);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        if let Err(error) = (&file).write_all(MAGIC) {
            // Otherwise the next try would find it there.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        if self.sync.is_some() {
            File::open(&run.dir)?.sync_all()?;
        }
        if let Some(last) = inner.file.replace(Arc::new(file))
            && self.sync.is_some()
        {
            inner.unsynced.push(last);
        }
        if inner.extent.first == 0 {
            inner.extent.first = number;
        }
        inner.extent.last = number;
        inner.extent.end = MAGIC.len() as u64;
        inner.total += MAGIC.len() as u64;
        inner.rotate_at = SEGMENT;
        Ok(())
    }

    /// Syncs what was written, again and again.
    fn keep_synced(&self) {
        let Some(sync) = &self.sync else { return };
        let mut synced = 0;
        loop {
            let (files, written) = {
                let mut inner = self.inner.lock();
                while inner.written == synced && !inner.stop {
                    sync.written.wait(&mut inner);
                }
                if inner.stop && inner.written == synced {
                    return;
                }
                let mut files = std::mem::take(&mut inner.unsynced);
                files.extend(inner.file.clone());
                (files, inner.written)
            };
            if let Some(error) = files.iter().find_map(|file| file.sync_data().err()) {
                // What the disk lost stays lost: only a new segment can be trusted.
                let mut inner = self.inner.lock();
                inner.file = None;
                inner.fail(format!("the journal can't be synced: {error}"));
            }
            synced = written;
            sync.synced.send_replace(synced);
            if !sync.always {
                std::thread::sleep(SYNC_EVERY);
            }
        }
    }
}

impl Inner {
    /// Writes what waits in one piece. On failure nothing of it counts as written.
    fn flush(&mut self) -> Result<(), String> {
        if self.waits.is_empty() {
            return Ok(());
        }
        let Some(file) = self.file.clone() else {
            let unknown = || "the journal is not open".to_owned();
            return Err(self.failure.clone().unwrap_or_else(unknown));
        };
        if let Err(error) = (&*file).write_all(&self.waits) {
            // A part may be there; a reader stops at what is left of it, so another segment is begun.
            let _ = file.set_len(self.extent.end);
            self.file = None;
            let why = format!("the journal can't be written: {error}");
            self.fail(why.clone());
            return Err(why);
        }
        let length = self.waits.len() as u64;
        self.extent.end += length;
        self.total += length;
        self.written += length;
        self.waits.clear();
        // One great burst must not hold its memory for ever.
        self.waits.shrink_to(2 * WAITS);
        Ok(())
    }

    fn fail(&mut self, why: String) {
        if self.failure.is_none() {
            tracing::error!(error = why, "the journal fails");
        }
        self.failure = Some(why);
        self.failed_at = Some(Instant::now());
    }
}

impl Run {
    /// Makes a folder that nobody else takes for a dead process's: it has its name only when its lock is held.
    fn new(root: &Path) -> io::Result<Self> {
        let private = |dir: &Path, all: bool| {
            std::fs::DirBuilder::new()
                .recursive(all)
                .mode(0o700)
                .create(dir)
        };
        private(root, true)?;
        let name = format!(
            "{:016x}-{}",
            jiff::Timestamp::now().as_microsecond(),
            std::process::id()
        );
        let made = root.join(format!("new-{name}"));
        private(&made, false)?;
        let lock = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(made.join(LOCK))?;
        lock.try_lock().map_err(io::Error::from)?;
        let dir = root.join(format!("{RUN}{name}"));
        std::fs::rename(made, &dir)?;
        Ok(Self { dir, _lock: lock })
    }
}

/// Returns where a segment is.
pub fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.journal"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::entry::{self, Id, Kind};
    use crate::ledger::segments::{Leftover, Segment};

    fn frame(id: u128, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(entry::write(&mut out, Kind::Done, Id(id), |out| out
            .extend_from_slice(text.as_bytes())));
        out
    }

    fn open(dir: &Path, settings: Settings) -> Arc<Journal> {
        Journal::open(dir, &settings)
    }

    /// Every id in the files, in order.
    fn ids(journal: &Journal) -> Vec<u128> {
        let extent = journal.extent();
        let mut ids = Vec::new();
        for number in extent.first..=extent.last {
            let mut segment = Segment::open(&journal.segment(number).unwrap()).unwrap();
            while let Some(entry) = segment.next(u64::MAX).unwrap() {
                ids.push(entry.id.0);
            }
        }
        ids
    }

    #[test]
    fn what_is_written_is_in_the_file_at_once_and_what_is_appended_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path(), Settings::default());
        journal.write(&frame(1, "a")).unwrap();
        assert_eq!(ids(&journal), [1]);
        assert!(journal.append(&frame(2, "b")));
        assert_eq!(ids(&journal), [1], "it waits");
        journal.write(&frame(3, "c")).unwrap();
        assert_eq!(ids(&journal), [1, 2, 3]);
        assert!(journal.append(&frame(4, "d")) && journal.flush());
        assert_eq!(ids(&journal), [1, 2, 3, 4]);
    }

    #[test]
    fn a_disk_that_takes_nothing_refuses_admissions_and_keeps_ends_until_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path(), Settings::default());
        journal.write(&frame(1, "a")).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        journal.inner.lock().file = Some(Arc::new(full));
        assert!(journal.append(&frame(2, "b")));
        let refused = journal.write(&frame(3, "c"));
        assert!(matches!(refused, Err(Refusal::Failed(_))), "{refused:?}");
        assert!(journal.failure().is_some());
        assert!(journal.append(&frame(4, "d")));
        let until = Instant::now() + Duration::from_secs(20);
        while !journal.flush() {
            assert!(Instant::now() < until, "it is never written again");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(
            ids(&journal),
            [1, 2, 4],
            "what was refused is not found later, what was taken is"
        );
        assert_eq!(journal.failure(), None);
        assert_eq!(journal.extent().last, 2, "in another segment");
    }

    #[test]
    fn above_its_bound_nothing_is_admitted_and_what_was_admitted_can_end() {
        let dir = tempfile::tempdir().unwrap();
        let max_journal = 64 << 10;
        let journal = open(
            dir.path(),
            Settings {
                max_journal,
                ..Settings::default()
            },
        );
        let text = "x".repeat(1000);
        let mut admitted = 0;
        while journal.write(&frame(admitted, &text)).is_ok() {
            admitted += 1;
        }
        assert!(journal.bytes() <= max_journal, "{}", journal.bytes());
        assert_eq!(journal.write(&frame(0, &text)), Err(Refusal::Full));
        assert!(
            journal
                .failure()
                .is_some_and(|why| why.contains("max_journal"))
        );
        let mut ended = 0;
        while journal.append(&frame(1000 + ended, "an end")) {
            ended += 1;
        }
        assert!(ended > admitted, "there is room for each end");
        assert!(journal.flush() && journal.bytes() <= max_journal + max_journal / 8);
        // What is written elsewhere makes room again.
        journal.turn();
        journal.release(journal.extent().last);
        assert_eq!(journal.failure(), None);
        assert!(journal.write(&frame(1, &text)).is_ok());
    }

    #[test]
    fn a_folder_belongs_to_its_process_until_that_ends() {
        let dir = tempfile::tempdir().unwrap();
        let one = open(dir.path(), Settings::default());
        let other = open(dir.path(), Settings::default());
        one.write(&frame(1, "a")).unwrap();
        other.write(&frame(2, "b")).unwrap();
        assert!(Leftover::find(one.root()).unwrap().is_empty(), "both live");
        drop(one);
        let found = Leftover::find(other.root()).unwrap();
        assert_eq!(found.len(), 1);
        assert!(
            Leftover::find(other.root()).unwrap().is_empty(),
            "who found it has it"
        );
        drop(found);
        assert_eq!(Leftover::find(other.root()).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn with_fsync_always_a_write_is_waited_for_until_the_disk_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let fsync = Fsync::Always;
        let journal = open(
            dir.path(),
            Settings {
                fsync,
                ..Settings::default()
            },
        );
        for id in 0..20 {
            let end = journal.write(&frame(id, "a")).unwrap();
            let synced = journal.synced(end);
            let waited = tokio::time::timeout(Duration::from_secs(20), synced).await;
            assert!(waited.is_ok(), "never synced");
            let known = *journal.sync.as_ref().unwrap().synced.borrow();
            assert!(known >= end, "{known} of {end}");
        }
        journal.close(true);
        assert!(std::fs::read_dir(journal.root()).unwrap().next().is_none());
    }
}
