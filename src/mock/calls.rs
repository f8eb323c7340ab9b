//! What the fake provider was sent, call by call, and how each call ended.
//!
//! Bounded: the last 10,000 calls, and no more than 256 MiB of bodies; the oldest go first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::dialect::Dialect;
use super::route::Api;

const CALLS_MAX: usize = 10_000;
const BODIES_MAX: usize = 256 << 20;
/// What is kept of one body.
pub(super) const BODY_MAX: usize = 1 << 20;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    InProgress,
    /// The whole answer was handed to the connection.
    Complete,
    /// Dropped by the script.
    Cut,
    /// The client went away before the end.
    ClientGone,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Complete => "complete",
            Self::Cut => "cut",
            Self::ClientGone => "client_gone",
        }
    }
}

/// One call as it was received, and what has become of it so far.
#[derive(Debug, Clone)]
pub struct Call {
    /// Counts from 1; never starts again, so that `since` stays right.
    pub n: u64,
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    /// `None` where nothing is spoken (`GET /v1/models`, unknown paths).
    pub protocol: Option<Dialect>,
    pub api: Option<Api>,
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub http_version: &'static str,
    pub tls: bool,
    /// In the order received; names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most the first 1 MiB.
    pub body: Bytes,
    pub body_len: usize,
    pub model: String,
    pub stream: bool,
    /// Since the fake provider's start.
    pub at: Duration,
    /// The number of the connection that it came on, from 1.
    pub connection: u64,
    /// The rule that served it, `None` for the default.
    pub rule: Option<String>,
    /// What is worth telling beside: `credential`, and where there are some, `signatures` and `upload`.
    pub noted: Value,
    /// What a strict provider would have refused.
    pub problems: Vec<String>,
    /// 0 until the head is sent.
    pub status: u16,
    pub outcome: Outcome,
    /// Content chunks of a stream; pieces where the body is split.
    pub chunks_sent: u64,
    pub bytes_sent: u64,
}

impl Call {
    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns the body as JSON; `Null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Returns what `GET /_calls` tells of this call.
    pub fn told(&self) -> Value {
        let mut headers = serde_json::Map::new();
        for (name, value) in &self.headers {
            // A name that comes twice becomes a list, so that nothing of what was received is hidden.
            match headers.get_mut(name) {
                Some(Value::Array(values)) => values.push(json!(value)),
                Some(one) => *one = json!([one.clone(), value]),
                None => {
                    headers.insert(name.clone(), json!(value));
                }
            }
        }
        let body = if self.body_len > self.body.len() {
            None
        } else {
            serde_json::from_slice(&self.body).ok()
        };
        let body: Value = body.unwrap_or_else(|| json!(String::from_utf8_lossy(&self.body)));
        json!({
            "n": self.n,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "protocol": self.protocol.map(Dialect::name),
            "api": self.api.map(Api::name),
            "http_version": self.http_version,
            "tls": self.tls,
            "headers": headers,
            "body": body,
            "body_len": self.body_len,
            "model": self.model,
            "stream": self.stream,
            "at_ms": self.at.as_secs_f64() * 1e3,
            "connection": self.connection,
            "rule": self.rule,
            "noted": self.noted,
            "problems": self.problems,
            "status": self.status,
            "outcome": self.outcome.name(),
            "chunks_sent": self.chunks_sent,
            "bytes_sent": self.bytes_sent,
        })
    }
}

/// Which calls are asked for.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub path: Option<String>,
    /// The last so many.
    pub limit: Option<usize>,
    /// Those after this number.
    pub since: u64,
}

/// All calls, shared by all threads.
#[derive(Debug)]
pub(super) struct Calls {
    pub started: Instant,
    kept: Mutex<Kept>,
    next: AtomicU64,
    count: AtomicU64,
    in_progress: AtomicU64,
    /// All since the start: the number of a connection is never given again.
    pub connections: AtomicU64,
    /// How many of them were before the last clearing.
    connections_before: AtomicU64,
    pub connections_open: AtomicU64,
    pub health_checks: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    call: Call,
    status: AtomicU16,
    outcome: AtomicU8,
    chunks: AtomicU64,
    bytes: AtomicU64,
}

impl Entry {
    fn snapshot(&self) -> Call {
        Call {
            status: self.status.load(Ordering::Relaxed),
            outcome: match self.outcome.load(Ordering::Acquire) {
                1 => Outcome::Complete,
                2 => Outcome::Cut,
                3 => Outcome::ClientGone,
                _ => Outcome::InProgress,
            },
            chunks_sent: self.chunks.load(Ordering::Relaxed),
            bytes_sent: self.bytes.load(Ordering::Relaxed),
            ..self.call.clone()
        }
    }
}

impl Calls {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            kept: Mutex::default(),
            next: AtomicU64::new(0),
            count: AtomicU64::new(0),
            in_progress: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connections_before: AtomicU64::new(0),
            connections_open: AtomicU64::new(0),
            health_checks: AtomicU64::new(0),
        }
    }

    /// Counts a call that begins. The guard counts it out again, and says how it ended.
    pub fn begin(self: &Arc<Self>) -> Guard {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        let n = 1 + self.next.fetch_add(1, Ordering::Relaxed);
        Guard {
            calls: self.clone(),
            entry: None,
            n,
            ended: None,
        }
    }

    fn keep(&self, entry: Arc<Entry>) {
        let mut kept = self.kept.lock();
        kept.bytes += entry.call.body.len();
        // Numbers are given before this lock is taken, so a neighbour may have come first.
        let place = kept
            .entries
            .iter()
            .rev()
            .take_while(|known| known.call.n > entry.call.n)
            .count();
        let place = kept.entries.len() - place;
        kept.entries.insert(place, entry);
        while kept.entries.len() > CALLS_MAX || kept.bytes > BODIES_MAX {
            let Some(oldest) = kept.entries.pop_front() else {
                break;
            };
            kept.bytes -= oldest.call.body.len();
        }
    }

    pub fn list(&self, filter: &Filter) -> Vec<Call> {
        let entries: Vec<Arc<Entry>> = {
            let kept = self.kept.lock();
            let matching = kept.entries.iter().rev().filter(|entry| {
                entry.call.n > filter.since
                    && filter
                        .path
                        .as_ref()
                        .is_none_or(|part| entry.call.path.contains(part.as_str()))
            });
            matching
                .take(filter.limit.unwrap_or(usize::MAX))
                .cloned()
                .collect()
        };
        entries.iter().rev().map(|entry| entry.snapshot()).collect()
    }

    pub fn clear(&self) {
        *self.kept.lock() = Kept::default();
        self.count.store(0, Ordering::Relaxed);
        let before = self.connections.load(Ordering::Relaxed);
        self.connections_before.store(before, Ordering::Relaxed);
        self.health_checks.store(0, Ordering::Relaxed);
    }

    pub fn counts(&self) -> Counts {
        Counts {
            count: self.count.load(Ordering::Relaxed),
            in_progress: self.in_progress.load(Ordering::Relaxed),
            connections: self
                .connections
                .load(Ordering::Relaxed)
                .saturating_sub(self.connections_before.load(Ordering::Relaxed)),
            connections_open: self.connections_open.load(Ordering::Relaxed),
            health_checks: self.health_checks.load(Ordering::Relaxed),
        }
    }
}

/// How many calls and connections there were (since the last clearing) and are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Health checks and the `/_…` paths are not among them.
    pub count: u64,
    pub in_progress: u64,
    /// Accepted since the start or the last clearing.
    pub connections: u64,
    pub connections_open: u64,
    pub health_checks: u64,
}

/// One call in progress. Dropped without an end, the client has gone.
#[derive(Debug)]
pub(super) struct Guard {
    calls: Arc<Calls>,
    entry: Option<Arc<Entry>>,
    pub n: u64,
    ended: Option<Outcome>,
}

impl Guard {
    /// Keeps what is known of the call.
    pub fn record(&mut self, call: Call) {
        let entry = Arc::new(Entry {
            call,
            status: AtomicU16::new(0),
            outcome: AtomicU8::new(0),
            chunks: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        self.calls.keep(entry.clone());
        self.entry = Some(entry);
    }

    pub fn status(&self, status: u16) {
        if let Some(entry) = &self.entry {
            entry.status.store(status, Ordering::Relaxed);
        }
    }

    pub fn sent(&self, bytes: usize, is_content: bool) {
        if let Some(entry) = &self.entry {
            entry.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            if is_content {
                entry.chunks.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Ends the call; the first end counts.
    pub fn end(&mut self, outcome: Outcome) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(outcome);
        if let Some(entry) = &self.entry {
            let code = match outcome {
                Outcome::InProgress => 0,
                Outcome::Complete => 1,
                Outcome::Cut => 2,
                Outcome::ClientGone => 3,
            };
            entry.outcome.store(code, Ordering::Release);
        }
        self.calls.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end(Outcome::ClientGone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(n: u64, body: &Bytes) -> Call {
        Call {
            n,
            method: "POST".to_owned(),
            path: "/v1/messages".to_owned(),
            query: None,
            protocol: None,
            api: None,
            http_version: "HTTP/1.1",
            tls: false,
            headers: Vec::new(),
            body: body.clone(),
            body_len: body.len(),
            model: String::new(),
            stream: false,
            at: Duration::ZERO,
            connection: 1,
            rule: None,
            noted: Value::Null,
            problems: Vec::new(),
            status: 0,
            outcome: Outcome::InProgress,
            chunks_sent: 0,
            bytes_sent: 0,
        }
    }

    #[test]
    fn the_oldest_calls_go_first() {
        let calls = Arc::new(Calls::new());
        for _ in 0..CALLS_MAX + 5 {
            let mut guard = calls.begin();
            guard.record(call(guard.n, &Bytes::new()));
        }
        let kept = calls.list(&Filter::default());
        assert_eq!(kept.len(), CALLS_MAX, "the bound holds");
        assert_eq!(
            kept.first().map(|call| call.n),
            Some(6),
            "the oldest five are gone"
        );
        assert_eq!(
            calls.counts().count,
            CALLS_MAX as u64 + 5,
            "the count goes on"
        );
        assert_eq!(
            calls.counts().in_progress,
            0,
            "every guard counted itself out"
        );
    }

    #[test]
    fn bodies_are_bounded_together() {
        let calls = Arc::new(Calls::new());
        let body = Bytes::from(vec![b' '; BODY_MAX]);
        for _ in 0..300 {
            let mut guard = calls.begin();
            guard.record(call(guard.n, &body));
        }
        assert_eq!(calls.list(&Filter::default()).len(), 256);
    }

    #[test]
    fn a_dropped_call_is_a_client_gone() {
        let calls = Arc::new(Calls::new());
        let mut guard = calls.begin();
        guard.record(call(guard.n, &Bytes::new()));
        assert_eq!(
            calls
                .list(&Filter::default())
                .first()
                .map(|call| call.outcome),
            Some(Outcome::InProgress)
        );
        drop(guard);
        assert_eq!(
            calls
                .list(&Filter::default())
                .first()
                .map(|call| call.outcome),
            Some(Outcome::ClientGone)
        );
    }

    #[test]
    fn numbers_stay_in_order_when_calls_overtake_each_other() {
        let calls = Arc::new(Calls::new());
        let (mut first, mut second) = (calls.begin(), calls.begin());
        second.record(call(second.n, &Bytes::new()));
        first.record(call(first.n, &Bytes::new()));
        let order: Vec<u64> = calls
            .list(&Filter::default())
            .iter()
            .map(|call| call.n)
            .collect();
        assert_eq!(order, [1, 2]);
        let since = calls.list(&Filter {
            since: 1,
            ..Filter::default()
        });
        assert_eq!(since.len(), 1);
    }
}
