//! What one choice between targets costs: `cargo bench --bench routing`.
//!
//! Prints nanoseconds per choice, the least of many short batches, so that a busy machine disturbs little: what was
//! seen of each target is read, all of them are put in order, and every one gets its score. An observation is
//! measured too.

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use strait::routing::choose::Asked;
use strait::routing::stats::{HALF_LIFE, Stats};
use strait::routing::strategy::rank::{Bill, View};
use strait::routing::strategy::score::Weights;
use strait::routing::strategy::{cost, latency, score, weighted};

fn main() {
    // `cargo test --benches` only wants to know that it works.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let round = if quick {
        Duration::from_millis(1)
    } else {
        Duration::from_millis(500)
    };
    let start = Instant::now();
    for count in [10, 1000] {
        let stats: Vec<Stats> = (0..count).map(|index| learnt(index, start)).collect();
        let now = start + Duration::from_secs(60);
        let views = || -> Vec<View<'_>> {
            let views = stats.iter().enumerate().map(|(index, stats)| View {
                id: index as u64,
                stats,
                weight: 1,
                inflight: index as u32 % 7,
                bill: Some(Bill {
                    input: 1_000_000 * (index as u64 % 9 + 1),
                    output: 4_000_000,
                }),
            });
            views.collect()
        };
        let asked = Asked {
            stream: true,
            input: 1200,
            output: Some(4096),
            session: None,
            difficulty: Default::default(),
        };
        let weights = Weights::default();
        let mut rng = fastrand::Rng::with_seed(1);
        show(&format!("weighted, {count} targets"), round, || {
            black_box(weighted::rank(&views(), None, &mut rng));
        });
        show(
            &format!("weighted, a session, {count} targets"),
            round,
            || {
                black_box(weighted::rank(&views(), black_box(Some(7)), &mut rng));
            },
        );
        show(&format!("latency, {count} targets"), round, || {
            black_box(latency::rank(&views(), black_box(&asked), now, &mut rng));
        });
        show(&format!("cost, {count} targets"), round, || {
            black_box(cost::rank(&views(), black_box(&asked), now, &mut rng));
        });
        show(&format!("score, {count} targets"), round, || {
            black_box(score::rank(&views(), &asked, &weights, now, &mut rng));
        });
    }
    let stats = Stats::new(HALF_LIFE, start);
    let mut now = start;
    show("one answer observed", round, || {
        now += Duration::from_millis(30);
        stats.first_token(true, 1200, Duration::from_millis(400), now);
        stats.succeeded(now);
        stats.finished(300, Some(Duration::from_secs(5)), now);
    });
}

/// A target of which something is known.
fn learnt(index: u64, start: Instant) -> Stats {
    let stats = Stats::new(HALF_LIFE, start);
    for turn in 0..60 {
        let now = start + Duration::from_secs(turn);
        let took = Duration::from_millis(300 + (index * 37 + turn * 11) % 500);
        stats.first_token(true, 1200, took, now);
        stats.finished(200 + index % 50, Some(Duration::from_secs(4)), now);
        stats.succeeded(now);
    }
    if index.is_multiple_of(5) {
        stats.failed(Duration::from_secs(2), start + Duration::from_secs(59));
    }
    stats
}

fn show(name: &str, round: Duration, mut operation: impl FnMut()) {
    const BATCH: u32 = 16;
    let mut least = f64::INFINITY;
    let begin = Instant::now();
    while begin.elapsed() < round {
        let begin = Instant::now();
        for _ in 0..BATCH {
            operation();
        }
        least = least.min(begin.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH));
    }
    writeln!(std::io::stdout(), "{name:44} {least:10.0} ns")
        .expect("the numbers go to standard output");
}
