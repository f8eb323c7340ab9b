//! Reading the journal: segments one after another, whole entries only; and folders that dead processes left.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::entry::{self, Entry, LONGEST, MAGIC, Next};
use super::journal::{LOCK, RUN};

/// Read at a time; an entry fits.
const PIECE: usize = LONGEST + (256 << 10);
/// A folder that was begun this long ago and never got its name belongs to nobody.
const ABANDONED: Duration = Duration::from_secs(600);

/// Reads one segment, entry by entry.
pub struct Segment {
    file: File,
    /// Where `bytes` begins in the file.
    from: u64,
    bytes: Vec<u8>,
    /// What of `bytes` was read.
    taken: usize,
}

impl Segment {
    /// Opens a segment behind its magic. Errors: it can't be read, or is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut magic = [0; MAGIC.len()];
        match file.read_exact_at(&mut magic, 0) {
            Ok(()) if &magic == MAGIC => {}
            Ok(()) => return Err(io::Error::other("not a journal of this version")),
            Err(error) => return Err(error),
        }
        Ok(Self {
            file,
            from: MAGIC.len() as u64,
            bytes: Vec::new(),
            taken: 0,
        })
    }

    /// Where the next entry begins.
    pub fn position(&self) -> u64 {
        self.from + self.taken as u64
    }

    /// Returns whether something stands behind the entries that were read.
    pub fn has_rest(&self) -> bool {
        let length = self.file.metadata().map_or(0, |known| known.len());
        length > self.position()
    }

    /// Returns the next entry that ends before `end`; `None` at its end, or where nothing whole is left.
    pub fn next(&mut self, end: u64) -> io::Result<Option<Entry<'_>>> {
        let length = loop {
            let length = match entry::read(&self.bytes[self.taken..]) {
                Next::Entry(_, length) => Some(length),
                Next::Torn => return Ok(None),
                Next::More => None,
            };
            match length {
                Some(length) => break length,
                None if !self.fill(end)? => return Ok(None),
                None => {}
            }
        };
        let at = self.taken;
        self.taken += length;
        match entry::read(&self.bytes[at..]) {
            Next::Entry(entry, _) => Ok(Some(entry)),
            Next::More | Next::Torn => Ok(None),
        }
    }

    /// Reads more, up to `end`. Returns whether there was any.
    fn fill(&mut self, end: u64) -> io::Result<bool> {
        self.bytes.drain(..self.taken);
        self.from += self.taken as u64;
        self.taken = 0;
        let known = self.bytes.len();
        let left = end.saturating_sub(self.from + known as u64);
        let more = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
        if more == 0 {
            return Ok(false);
        }
        self.bytes.resize(known + more, 0);
        let read = self
            .file
            .read_at(&mut self.bytes[known..], self.from + known as u64);
        let got = read.as_ref().map_or(0, |got| *got);
        self.bytes.truncate(known + got);
        read.map(|got| got > 0)
    }
}

/// Returns the names of the folders of processes, of those that run too.
pub fn runs(root: &Path) -> Vec<Box<str>> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter(|name| name.starts_with(RUN));
    names.map(String::into_boxed_str).collect()
}

/// Returns whether the process of a folder runs, or somebody takes up what it left.
pub fn is_held(dir: &Path) -> bool {
    let lock = File::open(dir.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The folder of a process that has ended; held while this lives.
pub struct Leftover {
    pub dir: PathBuf,
    _lock: File,
}

impl Leftover {
    /// Returns the folders in `root` whose processes have ended, the oldest first.
    pub fn find(root: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        let entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let dir = entry?.path();
            let name = dir.file_name().and_then(|name| name.to_str());
            match name {
                Some(name) if name.starts_with(RUN) => {
                    let lock = match OpenOptions::new()
                        .write(true)
                        .create(true)
                        .truncate(false)
                        .mode(0o600)
                        .open(dir.join(LOCK))
                    {
                        Ok(lock) => lock,
                        // Another process has just done with it.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        Err(error) => return Err(error),
                    };
                    match lock.try_lock() {
                        Ok(()) => found.push(Self { dir, _lock: lock }),
                        Err(TryLockError::WouldBlock) => {}
                        Err(TryLockError::Error(error)) => return Err(error),
                    }
                }
                Some(name) if name.starts_with("new-") => {
                    let made = dir.metadata().and_then(|known| known.modified());
                    let age = made.ok().and_then(|made| made.elapsed().ok());
                    if age.is_some_and(|age| age > ABANDONED) {
                        // It holds nothing; another process may be as quick.
                        let _ = std::fs::remove_dir_all(&dir);
                    }
                }
                Some(_) | None => {}
            }
        }
        found.sort_by(|one, other| one.dir.cmp(&other.dir));
        Ok(found)
    }

    /// Returns the folder's name.
    pub fn name(&self) -> &str {
        let name = self.dir.file_name().and_then(|name| name.to_str());
        name.unwrap_or_default()
    }

    /// Returns its segments in their order.
    pub fn segments(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "journal") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Gives it a name by which it is not found again.
    pub fn put_aside(self) -> io::Result<()> {
        let name = format!("unread-{}", self.name());
        std::fs::rename(&self.dir, self.dir.with_file_name(name))
    }

    /// Deletes it, when all that it holds is elsewhere.
    pub fn remove(self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.dir)
    }
}
