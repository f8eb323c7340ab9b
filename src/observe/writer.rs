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
        let Some(output) = Output::open(sink)? else {
            return Ok(Self { shared: None });
        };
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
