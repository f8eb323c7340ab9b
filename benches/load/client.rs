//! The role `client`: a closed loop of kept-alive connections, which also reads the gateway's CPU time.
//!
//! Both readings of the CPU time and both of the counter are taken here, one right after the other, so that what was
//! served belongs to what was spent. Each answer's status is looked at, each stream is counted to its end, and one
//! plain answer in [`SAMPLE`] is parsed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::figures::{Load, Per};
use crate::process;
use crate::wire::{self, Side, TOKEN};
use crate::{Failure, Result};

/// One plain answer in so many is parsed; the client must stay cheaper than what it measures.
const SAMPLE: u64 = 64;
/// Any exchange that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many failures are told, then the run ends.
const FAILURES: usize = 5;

/// What the client is told to do.
pub struct Order {
    pub load: Load,
    pub side: Side,
    pub address: String,
    /// The gateway's process.
    pub pid: u32,
    pub warm_up: Duration,
    pub measure: Duration,
}

/// What the client saw after the warm-up, as JSON on its stdout.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    pub answers: u64,
    /// Requests or chunks, whichever the load is counted in, in the measured time.
    pub units: u64,
    pub cpu_ns: u64,
    pub seconds: f64,
    pub whole_p50_us: f64,
    pub whole_p99_us: f64,
    /// To the first byte of the answer's body.
    pub first_p50_us: f64,
    pub first_p99_us: f64,
    pub gaps: u64,
    /// Gaps of 35 to 45 ms.
    pub stalls: u64,
    pub longest_gap_us: f64,
    /// Answers after which the gateway closed the connection.
    pub closed: u64,
    pub failures: Vec<String>,
}

pub fn run(order: Order) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(drive(order))
}

/// Shared by the connections of one run.
struct Shared {
    request: Vec<u8>,
    order: Order,
    units: AtomicU64,
    /// The warm-up is over. Latencies are noted from here on and, so that long streams are among them, until the
    /// connections have drained.
    recording: AtomicBool,
    stop: AtomicBool,
}

/// What one connection noted while recording.
#[derive(Default)]
struct Notes {
    whole_ns: Vec<u64>,
    first_ns: Vec<u64>,
    gaps_ns: Vec<u64>,
    closed: u64,
    failure: Option<String>,
}

async fn drive(order: Order) -> Result<Seen> {
    let (warm_up, measure) = (order.warm_up, order.measure);
    let connections = order.load.connections;
    let gap = order.load.scene.stream.map_or(0, |stream| stream.gap_ms);
    let shared = Arc::new(Shared {
        request: wire::request(&order.load, order.side, &order.address),
        order,
        units: AtomicU64::new(0),
        recording: AtomicBool::new(false),
        stop: AtomicBool::new(false),
    });

    let mut running = JoinSet::new();
    for index in 0..connections {
        let shared = shared.clone();
        // Streams that start together would have all their chunks in one burst.
        let delay = Duration::from_micros(gap * 1000 * index as u64 / connections as u64);
        running.spawn(async move {
            sleep(delay).await;
            keep_asking(&shared).await
        });
    }

    sleep(warm_up).await;
    let before = process::cpu(shared.order.pid)?;
    let units_before = shared.units.load(Ordering::Relaxed);
    let began = Instant::now();
    shared.recording.store(true, Ordering::Relaxed);
    sleep(measure).await;
    let after = process::cpu(shared.order.pid)?;
    let units = shared.units.load(Ordering::Relaxed) - units_before;
    let seconds = began.elapsed().as_secs_f64();
    shared.stop.store(true, Ordering::Relaxed);

    let mut all = Notes::default();
    let mut failures = Vec::new();
    while let Some(notes) = running.join_next().await {
        let notes = notes?;
        all.whole_ns.extend(notes.whole_ns);
        all.first_ns.extend(notes.first_ns);
        all.gaps_ns.extend(notes.gaps_ns);
        all.closed += notes.closed;
        if failures.len() < FAILURES {
            failures.extend(notes.failure);
        }
    }
    if units == 0 && failures.is_empty() {
        failures.push("nothing was answered in the measured time".into());
    }
    let stall = 35_000_000..45_000_000;
    Ok(Seen {
        answers: all.whole_ns.len() as u64,
        units,
        cpu_ns: after.since(&before),
        seconds,
        whole_p50_us: quantile_us(&mut all.whole_ns, 0.5),
        whole_p99_us: quantile_us(&mut all.whole_ns, 0.99),
        first_p50_us: quantile_us(&mut all.first_ns, 0.5),
        first_p99_us: quantile_us(&mut all.first_ns, 0.99),
        gaps: all.gaps_ns.len() as u64,
        stalls: all
            .gaps_ns
            .iter()
            .filter(|gap| stall.contains(*gap))
            .count() as u64,
        longest_gap_us: quantile_us(&mut all.gaps_ns, 1.0),
        closed: all.closed,
        failures,
    })
}

async fn keep_asking(shared: &Shared) -> Notes {
    let mut notes = Notes::default();
    let mut connection = None;
    let mut asked = 0_u64;
    while !shared.stop.load(Ordering::Relaxed) {
        let sampled = asked.is_multiple_of(SAMPLE);
        asked += 1;
        let exchange = async {
            let open = match connection.take() {
                Some(open) => open,
                None => Connection::open(&shared.order.address).await?,
            };
            ask(shared, open, sampled, &mut notes).await
        };
        match timeout(PATIENCE, exchange).await {
            Ok(Ok(kept)) => connection = kept,
            Ok(Err(failure)) => {
                notes.failure = Some(failure.to_string());
                break;
            }
            Err(_) => {
                notes.failure = Some(format!("no whole answer within {PATIENCE:?}"));
                break;
            }
        }
    }
    notes
}

/// Asks once and returns the connection when it can be used again.
async fn ask(
    shared: &Shared,
    mut connection: Connection,
    sampled: bool,
    notes: &mut Notes,
) -> Result<Option<Connection>> {
    let load = &shared.order.load;
    let stream = load.scene.stream;
    let mut body = Body {
        units: (load.per == Per::Chunk).then_some(&shared.units),
        keep: stream.is_none() && sampled,
        count: stream.is_some(),
        ..Body::default()
    };
    let began = Instant::now();
    connection.stream.write_all(&shared.request).await?;
    let answer = connection.read_answer(&mut body).await?;
    let whole = began.elapsed();

    let dialect = match shared.order.side {
        Side::Floor => load.provider,
        Side::Strait => load.client,
    };
    if answer.status != 200 {
        let said = String::from_utf8_lossy(&body.kept);
        return Err(format!("status {}: {}", answer.status, said.trim()).into());
    }
    if body.keep && !wire::is_whole_answer(dialect, &body.kept) {
        let said = String::from_utf8_lossy(&body.kept);
        return Err(format!("not the answer that was given: {}", said.trim()).into());
    }
    if let Some(stream) = stream {
        if body.tokens != stream.chunks {
            return Err(format!("{} chunks instead of {}", body.tokens, stream.chunks).into());
        }
        if !wire::is_ended(dialect, &body.tail) {
            let tail = String::from_utf8_lossy(&body.tail);
            return Err(format!("the stream has no end: {tail}").into());
        }
    }
    if load.cache && shared.order.side == Side::Strait {
        // The first answers fill the cache, or wait for the one that does.
        let recording = shared.recording.load(Ordering::Relaxed);
        if recording && answer.cache != Some(true) {
            return Err("an answer after the warm-up is not a cache hit".into());
        }
    }

    if load.per == Per::Request {
        shared.units.fetch_add(1, Ordering::Relaxed);
    }
    if shared.recording.load(Ordering::Relaxed) {
        notes.whole_ns.push(whole.as_nanos() as u64);
        if let Some(first) = body.first {
            notes.first_ns.push((first - began).as_nanos() as u64);
        }
        notes.gaps_ns.append(&mut body.gaps_ns);
        notes.closed += u64::from(answer.close);
    }
    Ok((!answer.close).then_some(connection))
}

/// What is seen of a body as it passes.
#[derive(Default)]
struct Body<'u> {
    units: Option<&'u AtomicU64>,
    /// Keep all of it.
    keep: bool,
    kept: Vec<u8>,
    /// Count tokens and note the gaps between pieces.
    count: bool,
    tokens: u64,
    tail: Vec<u8>,
    first: Option<Instant>,
    previous: Option<Instant>,
    gaps_ns: Vec<u64>,
}

impl Body<'_> {
    fn see(&mut self, piece: &[u8], failed: bool) {
        if self.keep || failed {
            const ENOUGH: usize = 256 * 1024;
            let room = ENOUGH.saturating_sub(self.kept.len());
            self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        if !self.count {
            self.first.get_or_insert_with(Instant::now);
            return;
        }
        let now = Instant::now();
        self.first.get_or_insert(now);
        if let Some(previous) = self.previous.replace(now) {
            self.gaps_ns.push((now - previous).as_nanos() as u64);
        }
        // A token may lie across two pieces.
        let reach = TOKEN.len() - 1;
        let mut seam = self.tail[self.tail.len().saturating_sub(reach)..].to_vec();
        seam.extend_from_slice(&piece[..piece.len().min(reach)]);
        let found = memchr::memmem::find_iter(&seam, TOKEN).count()
            + memchr::memmem::find_iter(piece, TOKEN).count();
        self.tokens += found as u64;
        if let Some(units) = self.units {
            units.fetch_add(found as u64, Ordering::Relaxed);
        }
        const TAIL: usize = 128;
        self.tail
            .extend_from_slice(&piece[piece.len().saturating_sub(TAIL)..]);
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
    }
}

struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

struct Answer {
    status: u16,
    close: bool,
    /// Whether `x-strait-cache` says `hit`, where it is there.
    cache: Option<bool>,
}

impl Connection {
    async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let buffer = BytesMut::with_capacity(16 * 1024);
        Ok(Self { stream, buffer })
    }

    async fn read_answer(&mut self, body: &mut Body<'_>) -> Result<Answer> {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().await?;
        };
        let head = self.buffer.split_to(end);
        let status = head
            .get(9..12)
            .and_then(|code| std::str::from_utf8(code).ok()?.parse().ok())
            .ok_or("an answer without a status")?;
        let answer = Answer {
            status,
            close: header(&head, b"connection")
                .is_some_and(|value| value.eq_ignore_ascii_case(b"close")),
            cache: header(&head, b"x-strait-cache").map(|value| value == b"hit"),
        };
        let failed = status != 200;
        if let Some(length) = header(&head, b"content-length") {
            let mut left: usize = std::str::from_utf8(length)?.parse()?;
            while left > 0 {
                if self.buffer.is_empty() {
                    self.fill().await?;
                }
                let piece = self.buffer.split_to(left.min(self.buffer.len()));
                left -= piece.len();
                body.see(&piece, failed);
            }
        } else if header(&head, b"transfer-encoding").is_some() {
            self.read_chunked(body, failed).await?;
        } else {
            return Err("an answer that neither tells its length nor is chunked".into());
        }
        Ok(answer)
    }

    async fn read_chunked(&mut self, body: &mut Body<'_>, failed: bool) -> Result<()> {
        loop {
            let line = self.read_line().await?;
            let digits = line[..]
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default();
            let size = usize::from_str_radix(std::str::from_utf8(digits)?.trim(), 16)?;
            if size == 0 {
                // Trailers, if any, then the empty line.
                while !self.read_line().await?.is_empty() {}
                return Ok(());
            }
            // With the line break after it, which is not part of the piece.
            let mut left = size;
            while left > 0 {
                if self.buffer.is_empty() {
                    self.fill().await?;
                }
                let piece = self.buffer.split_to(left.min(self.buffer.len()));
                left -= piece.len();
                body.see(&piece, failed);
            }
            if !self.read_line().await?.is_empty() {
                return Err("a chunk longer than it says".into());
            }
        }
    }

    /// Reads up to a line break, which is taken off.
    async fn read_line(&mut self) -> Result<BytesMut> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let mut line = self.buffer.split_to(end);
                self.buffer.advance(1);
                if line.ends_with(b"\r") {
                    line.truncate(line.len() - 1);
                }
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.buffer.reserve(16 * 1024);
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(Failure::from("the connection ended in mid-answer"));
        }
        Ok(())
    }
}

/// Returns a header's value from the bytes of a head; the name in lower case.
pub fn header<'h>(head: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let value = line.get(name.len()..)?.strip_prefix(b":")?;
        line[..name.len()]
            .eq_ignore_ascii_case(name)
            .then(|| value.trim_ascii())
    })
}

fn quantile_us(values: &mut [u64], quantile: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let at = ((values.len() - 1) as f64 * quantile).round() as usize;
    let (_, value, _) = values.select_nth_unstable(at);
    *value as f64 / 1000.0
}
