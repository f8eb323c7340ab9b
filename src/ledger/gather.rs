//! What is read from the journal for the database: from this process's own while it grows, and from those that ended
//! processes left.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;

use super::audit::Action;
use super::entry::{self, Entry, Id, Kind};
use super::journal::Journal;
use super::row::Row;
use super::segments::{Leftover, Segment};

/// Rows of one transaction, and bytes of their entries. Where there is a backlog it pays to take many: rows by request
/// and by user go to all parts of their indexes, and each part is then written once for several.
const MOST_ROWS: usize = 8000;
const MOST_BYTES: usize = 16 << 20;

/// What goes into the database at once.
#[derive(Default)]
pub struct Batch {
    pub rows: Vec<Row>,
    pub actions: Vec<Action>,
    /// The rows are of exchanges whose ends nobody knows.
    pub interrupted: bool,
    /// The rows are of a process that has ended: the name of its folder.
    pub left: Option<Box<str>>,
    bytes: usize,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.actions.is_empty()
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.actions.clear();
        self.interrupted = false;
        self.left = None;
        self.bytes = 0;
    }

    pub fn is_full(&self) -> bool {
        self.rows.len() + self.actions.len() >= MOST_ROWS || self.bytes >= MOST_BYTES
    }

    /// Takes a row that could be read; what can't was damaged before it was given a checksum.
    fn push(&mut self, id: Id, row: Result<Row, serde_json::Error>) {
        match row {
            Ok(row) => self.rows.push(row),
            Err(error) => {
                tracing::error!(id = id.text(), %error, "an entry of the journal can't be read");
            }
        }
    }
}

/// Exchanges that were admitted and have no end yet: in which segment that stands, and its text.
type Open = HashMap<Id, (u64, Box<[u8]>)>;

/// Takes an entry.
fn take(entry: &Entry<'_>, segment: u64, open: &mut Open, batch: &mut Batch) {
    batch.bytes += entry.text.len();
    match entry.kind {
        Kind::Admitted | Kind::Carried => {
            open.insert(entry.id, (segment, entry.text.into()));
        }
        Kind::Done => {
            open.remove(&entry.id);
            batch.push(entry.id, Row::done(entry.id, entry.text));
        }
        Kind::Audit => match Action::read(entry.id, entry.text) {
            Ok(action) => batch.actions.push(action),
            Err(error) => {
                tracing::error!(id = entry.id.text(), %error, "an action in the journal can't be read");
            }
        },
    }
}

/// Where this process's own journal has been read to.
#[derive(Default)]
pub struct Live {
    /// The segment that is being read.
    number: u64,
    segment: Option<Segment>,
    open: Open,
    /// When the last of the exchanges ended that were read, in microseconds since 1970.
    last_end_us: i64,
}

impl Live {
    /// Reads on, as far as there is something and the batch has room.
    pub fn read(&mut self, journal: &Journal, batch: &mut Batch) {
        let extent = journal.extent();
        self.number = self.number.max(extent.first);
        while self.number <= extent.last && self.number > 0 {
            let end = if self.number == extent.last {
                extent.end
            } else {
                u64::MAX
            };
            if self.segment.is_none() {
                let Some(path) = journal.segment(self.number) else {
                    return;
                };
                match Segment::open(&path) {
                    Ok(segment) => self.segment = Some(segment),
                    Err(error) => {
                        tracing::error!(file = %path.display(), %error, "a segment of the journal can't be read");
                    }
                }
            }
            if let Some(segment) = &mut self.segment {
                while let Some(entry) = next(segment, end) {
                    // What is carried is known here: its end may even have been read by now.
                    if entry.kind == Kind::Carried {
                        continue;
                    }
                    let before = batch.rows.len();
                    take(&entry, self.number, &mut self.open, batch);
                    let ends = batch.rows[before..].iter().map(Row::end_us);
                    self.last_end_us = ends.fold(self.last_end_us, i64::max);
                    if batch.is_full() {
                        return;
                    }
                }
            }
            if self.number == extent.last {
                return;
            }
            self.number += 1;
            self.segment = None;
        }
    }

    /// Gives up the segments that were read to their ends, when all that was read is written, and all that it cost is in
    /// the budgets that are kept: those of `kept_us`. Exchanges that are still under way are written again before.
    pub fn release(&mut self, journal: &Journal, kept_us: i64) {
        let extent = journal.extent();
        if self.last_end_us > kept_us
            || extent.first == 0
            || extent.first >= self.number.min(extent.last)
        {
            return;
        }
        let mut frame = Vec::new();
        for (id, (segment, text)) in &mut self.open {
            if *segment >= self.number {
                continue;
            }
            let fits = entry::write(&mut frame, Kind::Carried, *id, |out| {
                out.extend_from_slice(text);
            });
            if !fits || journal.write_again(&frame).is_err() {
                // Then the segments stay.
                return;
            }
            *segment = extent.last;
        }
        journal.release(self.number);
    }

    /// Returns whether every admission has its end, all was read, and all that it cost is in the budgets that are kept.
    pub fn is_done(&self, journal: &Journal, kept_us: i64) -> bool {
        let extent = journal.extent();
        let read = self.segment.as_ref().map_or(0, Segment::position);
        self.open.is_empty()
            && self.last_end_us <= kept_us
            && (extent.last == 0 || self.number == extent.last && read >= extent.end)
    }
}

/// Reads the next entry; what can't be read ends the segment.
fn next(segment: &mut Segment, end: u64) -> Option<Entry<'_>> {
    segment.next(end).unwrap_or_else(|error| {
        tracing::error!(%error, "a segment of the journal can't be read further");
        None
    })
}

/// The journal of a process that has ended, on its way into the database.
pub struct Leaving {
    leftover: Leftover,
    /// What is not read yet; `None`: not looked at.
    segments: Option<VecDeque<PathBuf>>,
    segment: Option<Segment>,
    open: Open,
    /// Segments with something behind their last whole entry.
    pub torn: u64,
    /// Something is there that can't be read: somebody should look at it.
    unread: bool,
}

impl Leaving {
    pub fn new(leftover: Leftover) -> Self {
        Self {
            leftover,
            segments: None,
            segment: None,
            open: Open::new(),
            torn: 0,
            unread: false,
        }
    }

    /// Returns the name of its folder.
    pub fn name(&self) -> &str {
        self.leftover.name()
    }

    /// Reads on. Returns whether nothing is left; what was read before must be written by then. The exchanges without an
    /// end come last, when every end that there is has been written.
    pub fn read(&mut self, batch: &mut Batch) -> bool {
        if self.segments.is_none() {
            match self.leftover.segments() {
                Ok(found) => self.segments = Some(found.into()),
                Err(error) => {
                    tracing::error!(dir = %self.leftover.dir.display(), %error, "the journal of an ended process can't be read");
                    self.unread = true;
                    return true;
                }
            }
        }
        batch.left = Some(self.name().into());
        loop {
            if let Some(segment) = &mut self.segment {
                while let Some(entry) = next(segment, u64::MAX) {
                    take(&entry, 0, &mut self.open, batch);
                    if batch.is_full() {
                        return false;
                    }
                }
                self.torn += u64::from(segment.has_rest());
                self.segment = None;
            }
            let Some(path) = self.segments.as_mut().and_then(VecDeque::pop_front) else {
                break;
            };
            match Segment::open(&path) {
                Ok(segment) => self.segment = Some(segment),
                // Not even its beginning was written.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => self.torn += 1,
                Err(error) => {
                    self.unread = true;
                    tracing::error!(file = %path.display(), %error, "a segment of an ended process can't be read");
                }
            }
        }
        if !batch.is_empty() {
            return false;
        }
        // In their order: a process that is ended here and reads them again must find the same batches.
        let mut some: Vec<Id> = self.open.keys().copied().collect();
        some.sort_unstable();
        some.truncate(MOST_ROWS);
        batch.interrupted = !some.is_empty();
        for id in some {
            if let Some((_, text)) = self.open.remove(&id) {
                batch.push(id, Row::interrupted(id, &text));
            }
        }
        if batch.is_empty() {
            batch.clear();
        }
        batch.is_empty() && self.open.is_empty()
    }

    /// Deletes the folder; one that could not be read whole gets another name and stays.
    pub fn remove(self) {
        let dir = self.leftover.dir.clone();
        let gone = if self.unread {
            self.leftover.put_aside()
        } else {
            self.leftover.remove()
        };
        match gone {
            Ok(()) => {
                tracing::info!(dir = %dir.display(), "took up the journal of an ended process")
            }
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "a journal that was taken up can't be deleted");
            }
        }
    }
}
