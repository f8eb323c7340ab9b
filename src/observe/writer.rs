//! The writer: records to JSON lines, on a thread of its own.
//!
//! A sender pushes and goes on: it never waits, formats nothing, and wakes the thread only when that one sleeps.
//! The thread, once woken, lingers a little, so that under load one wake and one write serve many records. The
//! queue is bounded; what does not fit, or can't be written, is dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Sink;
use super::metrics::Metrics;
use super::record::Record;

/// Records that may wait.
pub const QUEUE: usize = 8192;
/// From the first record of a batch to its writing.
const LINGER: Duration = Duration::from_millis(25);
/// A batch is written in pieces of about this size.
const PIECE: usize = 256 << 10;
/// A sink that failed is reported at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Takes records; [`Writer::start`] makes one, clones share it.
#[derive(Clone)]
pub struct Writer {
    /// `None`: nobody wants records.
    shared: Option<Arc<Shared>>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the thread.
    filled: Condvar,
    /// Wakes whoever waits for the thread.
    emptied: Condvar,
    /// Checked between batches.
    reopen: AtomicBool,
    capacity: usize,
    metrics: Arc<Metrics>,
}

/// Boxed: under the lock a record is 8 bytes to move, not a thousand.
type Batch = Vec<Box<Record>>;

#[derive(Default)]
struct Queue {
    waiting: Batch,
    rest: Rest,
    /// The thread lingers no more: it writes what there is at once.
    hurry: bool,
    stop: bool,
    /// The thread holds a batch.
    writing: bool,
    ended: bool,
}

/// What the thread is doing.
#[derive(Default, PartialEq, Eq)]
enum Rest {
    #[default]
    Busy,
    /// Gathering a batch: woken only when half of the queue is full.
    Lingers,
    /// Woken by the next record.
    Sleeps,
}

impl Writer {
    /// Opens `sink` and starts the thread. Errors: the file can't be opened, the thread can't be started.
    pub fn start(sink: Sink, metrics: Arc<Metrics>) -> io::Result<Self> {
        Self::with_capacity(sink, metrics, QUEUE)
    }

    pub fn with_capacity(sink: Sink, metrics: Arc<Metrics>, capacity: usize) -> io::Result<Self> {
        match Output::open(sink)? {
            Some(output) => Self::run_on(output, metrics, capacity),
            None => Ok(Self { shared: None }),
        }
    }

    fn run_on(output: Output, metrics: Arc<Metrics>, capacity: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            reopen: AtomicBool::new(false),
            capacity: capacity.max(1),
            metrics,
        });
        let own = shared.clone();
        std::thread::Builder::new()
            .name("records".into())
            .spawn(move || own.run(output))?;
        Ok(Self {
            shared: Some(shared),
        })
    }

    /// Hands over a record; never waits.
    pub fn send(&self, record: Box<Record>) {
        let Some(shared) = &self.shared else { return };
        let mut queue = shared.queue.lock();
        if queue.waiting.len() >= shared.capacity || queue.stop {
            drop(queue);
            shared.metrics.records_dropped(1);
            return;
        }
        queue.waiting.push(record);
        let waiting = queue.waiting.len();
        // A plain store under the lock: nothing is read, modified and written back.
        shared
            .metrics
            .records_queue()
            .store(waiting as i64, Ordering::Relaxed);
        let wake = match queue.rest {
            Rest::Busy => false,
            Rest::Lingers => waiting >= shared.capacity / 2,
            Rest::Sleeps => true,
        };
        if wake {
            queue.rest = Rest::Busy;
            drop(queue);
            shared.filled.notify_one();
        }
    }

    /// Opens a file sink anew before the next batch, after it was moved away.
    pub fn reopen(&self) {
        let Some(shared) = &self.shared else { return };
        shared.reopen.store(true, Ordering::Relaxed);
        shared.hurry();
    }

    /// Waits until all that was sent before is written. Returns whether it was in time.
    pub fn flush(&self, timeout: Duration) -> bool {
        let Some(shared) = &self.shared else {
            return true;
        };
        shared.hurry();
        shared.wait(timeout, |queue| {
            queue.ended || (queue.waiting.is_empty() && !queue.writing)
        })
    }

    /// Writes what there is and ends the thread; what comes after is dropped. Returns whether it was in time.
    pub fn flush_and_stop(&self, timeout: Duration) -> bool {
        let Some(shared) = &self.shared else {
            return true;
        };
        shared.queue.lock().stop = true;
        shared.hurry();
        shared.wait(timeout, |queue| queue.ended)
    }
}

impl Shared {
    fn hurry(&self) {
        self.queue.lock().hurry = true;
        self.filled.notify_one();
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&Queue) -> bool) -> bool {
        let until = Instant::now() + timeout;
        let mut queue = self.queue.lock();
        while !done(&queue) {
            if self.emptied.wait_until(&mut queue, until).timed_out() {
                return done(&queue);
            }
        }
        true
    }

    fn run(&self, mut output: Output) {
        let mut batch = Batch::new();
        let mut text = Vec::with_capacity(PIECE);
        while self.take(&mut batch) {
            if self.reopen.swap(false, Ordering::Relaxed) {
                output.reopen();
            }
            let mut lines = 0;
            for record in batch.drain(..) {
                record.write_json(&mut text);
                lines += 1;
                if text.len() >= PIECE {
                    self.put(&mut output, &mut text, &mut lines);
                }
            }
            self.put(&mut output, &mut text, &mut lines);
            // One huge record must not hold its memory for ever.
            text.shrink_to(2 * PIECE);
        }
        self.queue.lock().ended = true;
        self.emptied.notify_all();
    }

    fn put(&self, output: &mut Output, text: &mut Vec<u8>, lines: &mut u64) {
        if !text.is_empty() && !output.write(text) {
            self.metrics.records_dropped(*lines);
        }
        text.clear();
        *lines = 0;
    }

    /// Waits for a batch and takes it. Returns whether the thread goes on.
    fn take(&self, batch: &mut Batch) -> bool {
        let mut queue = self.queue.lock();
        queue.writing = false;
        if queue.waiting.is_empty() {
            self.emptied.notify_all();
        }
        while queue.waiting.is_empty() && !queue.hurry {
            queue.rest = Rest::Sleeps;
            self.filled.wait(&mut queue);
        }
        let until = Instant::now() + LINGER;
        while !queue.hurry && queue.waiting.len() < self.capacity / 2 {
            queue.rest = Rest::Lingers;
            if self.filled.wait_until(&mut queue, until).timed_out() {
                break;
            }
        }
        queue.rest = Rest::Busy;
        queue.hurry = queue.stop;
        queue.writing = true;
        std::mem::swap(&mut queue.waiting, batch);
        self.metrics.records_queue().store(0, Ordering::Relaxed);
        !(queue.stop && batch.is_empty())
    }
}

/// Where the bytes go.
struct Output {
    sink: Sink,
    /// `None`: the reader of standard output has gone, or the file could not be opened again.
    file: Option<File>,
    complained: Option<Instant>,
}

impl Output {
    fn open(sink: Sink) -> io::Result<Option<Self>> {
        let file = match &sink {
            Sink::Off => return Ok(None),
            // Its own descriptor: `std::io::Stdout` would search every batch for line ends.
            Sink::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            Sink::File(path) => append(path)?,
        };
        Ok(Some(Self {
            sink,
            file: Some(file),
            complained: None,
        }))
    }

    fn reopen(&mut self) {
        let Sink::File(path) = &self.sink else { return };
        match append(path) {
            Ok(file) => self.file = Some(file),
            Err(error) => self.complain(&error),
        }
    }

    /// Writes whole lines. Returns whether they are written.
    fn write(&mut self, text: &[u8]) -> bool {
        if self.file.is_none() && matches!(self.sink, Sink::File(_)) {
            self.reopen();
        }
        let Some(file) = &mut self.file else {
            return false;
        };
        let Err(error) = file.write_all(text) else {
            return true;
        };
        self.complain(&error);
        // A file is opened anew with the next batch; a broken pipe stays broken.
        if error.kind() == io::ErrorKind::BrokenPipe || matches!(self.sink, Sink::File(_)) {
            self.file = None;
        }
        false
    }

    fn complain(&mut self, error: &io::Error) {
        if self
            .complained
            .is_some_and(|before| before.elapsed() < COMPLAIN_EVERY)
        {
            return;
        }
        self.complained = Some(Instant::now());
        tracing::warn!(%error, "records can't be written and are dropped");
    }
}

fn append(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

#[cfg(test)]
mod tests {

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn record(id: usize) -> Box<Record> {
        Box::new(Record {
            id: id.to_string(),
            ..Record::default()
        })
    }

    fn ids(path: &std::path::Path) -> Vec<usize> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines
            .map(|line| line["id"].as_str().unwrap().parse().unwrap())
            .collect()
    }

    #[test]
    fn every_record_is_written_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let metrics = Arc::new(Metrics::new());
        let writer = Writer::start(Sink::File(path.clone()), metrics.clone()).unwrap();
        for id in 0..5000 {
            writer.send(record(id));
        }
        assert!(writer.flush(LONG));
        assert_eq!(ids(&path), (0..5000).collect::<Vec<_>>());
        writer.send(record(5000));
        assert!(writer.flush_and_stop(LONG));
        assert_eq!(
            ids(&path).last(),
            Some(&5000),
            "what was sent before the stop is written"
        );
        assert_eq!(metrics.records_lost(), 0);
        writer.send(record(5001));
        assert_eq!(
            metrics.records_lost(),
            1,
            "what is sent after the stop is counted as lost"
        );
        assert!(writer.flush_and_stop(LONG), "a second stop returns at once");
    }

    #[test]
    fn a_lone_record_is_written_without_being_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let writer = Writer::start(Sink::File(path.clone()), Arc::new(Metrics::new())).unwrap();
        // The thread sleeps by now.
        std::thread::sleep(Duration::from_millis(50));
        for id in 0..2 {
            writer.send(record(id));
            let until = Instant::now() + LONG;
            while ids(&path).len() <= id {
                assert!(Instant::now() < until, "record {id} was never written");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        writer.flush_and_stop(LONG);
    }

    #[test]
    fn a_sink_that_blocks_loses_records_and_holds_up_nobody() {
        let (reader, pipe) = io::pipe().unwrap();
        let metrics = Arc::new(Metrics::new());
        let file = File::from(std::os::fd::OwnedFd::from(pipe));
        let output = Output {
            sink: Sink::Stdout,
            file: Some(file),
            complained: None,
        };
        let writer = Writer::run_on(output, metrics.clone(), 100).unwrap();
        let begun = Instant::now();
        for id in 0..10_000 {
            let mut large = record(id);
            large.user = Some("x".repeat(10_000));
            writer.send(large);
        }
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "senders never wait"
        );
        assert!(metrics.records_lost() > 0);
        assert!(
            !writer.flush_and_stop(Duration::from_millis(200)),
            "and the stop does not hang either"
        );
        drop(reader);
        assert!(writer.flush_and_stop(LONG), "a broken pipe ends the wait");
    }

    #[test]
    fn a_reader_that_has_gone_is_counted_and_survived() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let metrics = Arc::new(Metrics::new());
        let file = File::from(std::os::fd::OwnedFd::from(pipe));
        let output = Output {
            sink: Sink::Stdout,
            file: Some(file),
            complained: None,
        };
        let writer = Writer::run_on(output, metrics.clone(), 100).unwrap();
        for id in 0..10 {
            writer.send(record(id));
            assert!(writer.flush(LONG));
        }
        assert_eq!(metrics.records_lost(), 10);
        assert!(writer.flush_and_stop(LONG));
    }

    #[test]
    fn a_moved_file_is_left_at_reopen() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (
            folder.path().join("records.jsonl"),
            folder.path().join("records.1"),
        );
        let writer = Writer::start(Sink::File(path.clone()), Arc::new(Metrics::new())).unwrap();
        writer.send(record(1));
        assert!(writer.flush(LONG));
        std::fs::rename(&path, &moved).unwrap();
        writer.send(record(2));
        assert!(writer.flush(LONG));
        writer.reopen();
        writer.send(record(3));
        assert!(writer.flush_and_stop(LONG));
        assert_eq!(ids(&moved), [1, 2], "until then the old file is written");
        assert_eq!(ids(&path), [3]);
    }

    #[test]
    fn without_a_sink_nothing_is_kept_or_counted() {
        let metrics = Arc::new(Metrics::new());
        let writer = Writer::start(Sink::Off, metrics.clone()).unwrap();
        writer.send(record(1));
        assert!(writer.flush_and_stop(Duration::ZERO));
        assert_eq!(metrics.records_lost(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_told_at_start() {
        let started = Writer::start(
            Sink::File("/nonexistent/records".into()),
            Arc::new(Metrics::new()),
        );
        assert!(started.is_err());
    }
}
