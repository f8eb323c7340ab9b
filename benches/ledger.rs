//! What the ledger costs: `cargo bench --bench ledger`.
//!
//! First what a request pays: nanoseconds for its admission, which is in the journal's file when it is over, and for its
//! end, which is taken into memory. The least of many batches, so that a busy machine disturbs little. Then how many rows
//! a second go into SQLite, from the first admission to the last row. Last, all that a request pays for being somebody's:
//! its key is found, two levels of limits and of budgets are asked and charged, it is journaled, and all is settled.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use strait::access::{KeySettings, Keys};
use strait::ledger::{Ledger, Reserved, Settings};
use strait::limit::budget::{Budget, Budgets, Every};
use strait::limit::{Amount, Holder, Limited, Limiter, Limits};
use strait::observe::record::{AttemptRecord, Record};
use strait::protocol::usage::Usage;
use strait::secret::Secret;
use strait::state::Location;

const BATCH: usize = 200;

fn main() {
    // `cargo test --benches` only wants to know that it works.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let count = if quick { 2_000 } else { 400_000 };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = start(dir.path());
    let record = record();
    let begun = Instant::now();
    let (mut admitting, mut ending) = (Duration::MAX, Duration::MAX);
    runtime.block_on(async {
        for _ in 0..count / BATCH {
            let started = Instant::now();
            let mut ids = Vec::with_capacity(BATCH);
            for _ in 0..BATCH {
                let reserved = Reserved {
                    pico: 123_456_789,
                    input: 1000,
                    output: 4096,
                };
                let id = ledger.admit(&record, ("openai", "gpt-5-mini"), reserved);
                ids.push(id.await.expect("it is journaled"));
            }
            let admitted = Instant::now();
            for id in ids {
                ledger.done(id, &record, None);
            }
            admitting = admitting.min(admitted - started);
            ending = ending.min(admitted.elapsed());
        }
    });
    let journaled = begun.elapsed();
    while ledger.counts().written < count as u64 {
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "not written in time: {:?}",
            ledger.health()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let written = begun.elapsed();
    assert!(ledger.close(Duration::from_secs(30)), "something is left");
    let each = |time: Duration| time.as_nanos() / BATCH as u128;
    show("one admission, ns", each(admitting));
    show("one end, ns", each(ending));
    show(
        "exchanges journaled in a second, by one thread",
        rate(count, journaled),
    );
    show("rows written in a second", rate(count, written));
    show(
        "access, limits, budgets and journal, ns",
        each(whole(&runtime, &record, count)),
    );
}

/// Returns the least time of a batch of requests, from their keys to the ends of their records.
fn whole(runtime: &tokio::runtime::Runtime, record: &Record, count: usize) -> Duration {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = start(dir.path());
    let keys = Keys::build(&[key()], &[7; 32]);
    let limiter = Limiter::new();
    let budgets = Arc::new(Budgets::default());
    let team = Limited::new(Holder::Team, "team", &[], limits());
    let mut least = Duration::MAX;
    runtime.block_on(async {
        for _ in 0..count / BATCH {
            let started = Instant::now();
            for _ in 0..BATCH {
                let key = keys.find(KEY).expect("it is known");
                let limited = std::iter::once(&team).chain(key.limited());
                let permit = limiter.admit_all(limited, Amount::from(1200), Instant::now());
                let mut permit = permit.expect("there is room");
                let now = jiff::Timestamp::now();
                let held = budgets.reserve(&key.spends, 123_456_789, now);
                let held = held.expect("there is money");
                let reserved = Reserved {
                    pico: 123_456_789,
                    input: 1000,
                    output: 4096,
                };
                let id = ledger.admit(record, ("openai", "gpt-5-mini"), reserved);
                let id = id.await.expect("it is journaled");
                permit.settle(1100);
                held.settle(1, jiff::Timestamp::now());
                ledger.done(id, record, None);
            }
            least = least.min(started.elapsed());
        }
    });
    ledger.close(Duration::from_secs(60));
    least
}

const KEY: &str = "sk-a-key-of-the-benchmark-0123456789";

fn limits() -> Limits {
    Limits {
        rpm: Some(u32::MAX),
        tpm: Some(u64::MAX >> 8),
        concurrent: Some(1000),
        ..Limits::default()
    }
}

fn key() -> KeySettings {
    let budget = |every| Budget {
        most_pico: u64::MAX >> 2,
        every,
        rolling: false,
        zone: jiff::tz::TimeZone::UTC,
        since: None,
    };
    KeySettings {
        name: "team-a".into(),
        key: Secret::new(KEY),
        models: Vec::new(),
        limits: vec![Limited::new(Holder::Key, "team-a", &[], limits()).into()],
        budgets: vec![budget(Every::Day), budget(Every::Month)],
        named: Vec::new(),
        constraints: None,
        explain: false,
        stale_if_error: None,
        priority: Default::default(),
    }
}

fn start(dir: &Path) -> Ledger {
    let location = Location::Dir(dir.to_path_buf());
    let master = Secret::new("of the bench");
    Ledger::start(dir, location, &Settings::default(), &master)
}

fn rate(count: usize, time: Duration) -> u128 {
    count as u128 * 1_000_000 / time.as_micros().max(1)
}

/// A request as they come: about 900 bytes as a line.
fn record() -> Record {
    Record {
        id: "req_ABCDEFGHIJKLMNOPQRSTUVWX".into(),
        at: jiff::Timestamp::now(),
        endpoint: "chat",
        client_protocol: "openai-chat",
        key: Some("team-a".into()),
        user: Some("user-4711".into()),
        tags: vec!["production".into(), "search".into()],
        model_requested: "fast".into(),
        model: "gpt-5-mini".into(),
        provider: "openai".into(),
        upstream_protocol: "openai-chat",
        status: 200,
        finish: Some("stop"),
        attempts: vec![AttemptRecord {
            provider: "openai".into(),
            model: "gpt-5-mini".into(),
            credential: "default".into(),
            endpoint: "api.openai.com:443".into(),
            status: Some(200),
            outcome: "ok",
            ms: 800,
            reused: true,
            ..AttemptRecord::default()
        }],
        usage: Some(Usage {
            input: 900,
            output: 300,
            cache_read: 100,
            ..Usage::default()
        }),
        cost_pico: Some(825_000_000),
        duration: Duration::from_millis(800),
        overhead: Duration::from_micros(80),
        ttft: Some(Duration::from_millis(300)),
        request_bytes: 4000,
        response_bytes: 1500,
        ..Record::default()
    }
}

fn show(name: &str, value: u128) {
    let _ = writeln!(std::io::stdout(), "{name:<50} {value:>10}");
}
