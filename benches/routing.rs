//! What routing costs: `cargo bench --bench routing`.
//!
//! Prints nanoseconds per operation, the least of many short batches, so that a busy machine disturbs little. First the
//! whole decision on one request, as the gateway takes it: a hundred rules are asked and none holds, the model is looked
//! up, what is needed of its targets is found out, and all of them are put in order. Then its parts: one comparison of all
//! targets by what was seen of each, the judgement of a prompt, and an observation.

use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use strait::gateway::Now;
use strait::protocol::Protocol;
use strait::protocol::envelope::Envelope;
use strait::routing::choose::{Asked, choose};
use strait::routing::constraints::Demands;
use strait::routing::needs::{Bounds, Needs};
use strait::routing::rules;
use strait::routing::screen::Screen;
use strait::routing::smart::Difficulty;
use strait::routing::stats::{HALF_LIFE, Stats};
use strait::routing::strategy::rank::{Bill, View};
use strait::routing::strategy::score::Weights;
use strait::routing::strategy::{cost, latency, score, weighted};

/// So much of a prompt is judged.
const PROMPT: usize = 2048;
const STRATEGIES: [&str; 7] = [
    "fallback",
    "weighted",
    "round-robin",
    "least-busy",
    "latency",
    "cost",
    "score",
];

fn main() {
    // `cargo test --benches` only wants to know that it works.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let round = if quick {
        Duration::from_millis(1)
    } else {
        Duration::from_millis(500)
    };
    let start = Instant::now();
    decisions(round, start);
    for count in [10, 1000] {
        compare(count, round, start);
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

/// Measures whole decisions.
fn decisions(round: Duration, start: Instant) {
    let now = gateway(start);
    let prompt = prompt();
    let body = |model: &str| {
        format!(
            r#"{{"model":"{model}","stream":true,"max_tokens":4096,"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
        )
    };
    for count in [10, 1000] {
        for strategy in STRATEGIES {
            let body = body(&format!("{strategy}-{count}"));
            let name = format!("decision, {strategy}, {count} targets, 100 rules");
            show(&name, round, || decide(&now, body.as_bytes(), true));
        }
    }
    let bodies = [body("fallback-10"), body("smart")];
    let (plain, smart) = (bodies[0].as_bytes(), bodies[1].as_bytes());
    show("decision, fallback, 10 targets, no rules", round, || {
        decide(&now, plain, false);
    });
    show(
        "decision, smart, a prompt of 2 KiB, no rules",
        round,
        || {
            decide(&now, smart, false);
        },
    );
    let route = now.table.resolve("smart").expect("it is configured");
    let chain = [route];
    show("the judgement alone, a prompt of 2 KiB", round, || {
        black_box(Difficulty::of(&chain, Protocol::OpenaiChat, smart));
    });
}

/// Takes one decision; the envelope is read for other ends too, and counts here.
fn decide(now: &Now, body: &[u8], with_rules: bool) {
    let envelope = Envelope::read(body, Protocol::OpenaiChat, 64).expect("it is a chat");
    let headers = http::HeaderMap::new();
    if with_rules {
        let decision = now.snapshot.rules.decide(&rules::Request {
            endpoint: "chat",
            headers: &headers,
            tags: &[],
            key: "somebody",
            team: "",
            session: "",
            region: "",
            at: jiff::Timestamp::now(),
            said: Some(rules::Said {
                protocol: Protocol::OpenaiChat,
                body,
                envelope: &envelope,
                user: "",
            }),
        });
        assert!(decision.rule.is_none(), "none holds");
    }
    let route = now.table.resolve(&envelope.model).expect("it is there");
    let chain = now.table.chain(route, &[], true);
    let bounds = chain.iter().map(|route| route.bounds);
    let bounds = bounds.fold(Bounds::default(), Bounds::and);
    let asked = Asked {
        stream: true,
        input: envelope.estimate_input(),
        output: envelope.max_output,
        session: None,
        difficulty: Difficulty::of(&chain, Protocol::OpenaiChat, body),
    };
    let screen = Screen {
        protocol: Protocol::OpenaiChat,
        needs: Needs::of(&envelope, body, Protocol::OpenaiChat, &bounds),
        input: asked.input,
        asked: &envelope.model,
        demands: Demands::default(),
        stream: true,
    };
    black_box(choose(&chain, &asked, None, &screen).picks.first());
}

/// A gateway with a hundred rules, and with models of ten and of a thousand targets by each strategy, of which
/// something is known.
fn gateway(start: Instant) -> Now {
    let mut text = String::new();
    for provider in 0..10 {
        text.push_str(&format!(
            "[providers.p{provider}]\nbase_url = \"http://127.0.0.1:9/v1\"\nprotocols = [\"openai-chat\"]\nkey = \"k\"\n\
             price = {{ in = {}.0, out = {}.0 }}\n",
            provider + 1,
            30 - provider
        ));
    }
    for count in [10, 1000] {
        let targets = (0..count).map(|target| format!("\"p{}/m{target}\"", target % 10));
        let targets = targets.collect::<Vec<_>>().join(", ");
        for strategy in STRATEGIES {
            text.push_str(&format!(
                "[models.{strategy}-{count}]\nstrategy = \"{strategy}\"\ntargets = [{targets}]\n"
            ));
        }
    }
    text.push_str(
        "[models.smart]\nstrategy = \"smart\"\ntargets = [\"p0/a\", \"p1/b\", \"p2/c\"]\n",
    );
    for rule in 0..100 {
        let when = match rule % 5 {
            0 => format!("model == \"other-{rule}\" && tokens > 1000"),
            1 => format!("key == \"team-{rule}\" && stream"),
            2 => format!("model.startsWith(\"gpt-{rule}\") && !has_images"),
            3 => format!("\"batch-{rule}\" in tags"),
            _ => format!("\"x-tier-{rule}\" in headers && tokens > 10"),
        };
        text.push_str(&format!(
            "[[rules]]\nwhen = '{when}'\nuse = \"fallback-10\"\n"
        ));
    }
    let loaded = strait::config::read(Path::new("bench.toml"), &text, &|_| None);
    let loaded = loaded.unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let now = strait::server::dry(Arc::new(loaded.snapshot));
    let route = now.table.resolve("cost-1000").expect("it is configured");
    for (index, target) in route.targets.iter().enumerate() {
        learn(&target.stats, index as u64, start);
    }
    now
}

fn prompt() -> String {
    const WORDS: &str = "Please compare the two drafts below and tell which of them argues better, step by step: \
                         the first says that 17 x 23 is 391, while the other one proves a lemma about convex sets. ";
    WORDS.chars().cycle().take(PROMPT).collect()
}

/// Measures comparisons of so many targets.
fn compare(count: u64, round: Duration, start: Instant) {
    let stats: Vec<Stats> = (0..count).map(|index| learnt(index, start)).collect();
    let now = start + Duration::from_secs(60);
    let views = || -> Vec<View<'_>> {
        let views = stats.iter().enumerate().map(|(index, stats)| View {
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
        difficulty: Difficulty::default(),
    };
    let weights = Weights::default();
    let mut rng = fastrand::Rng::with_seed(1);
    let shares = || (0..count as u32).map(|id| (u64::from(id), 1 + id % 2));
    show(&format!("weighted, {count} targets"), round, || {
        black_box(weighted::rank(shares(), None, &mut rng));
    });
    let name = format!("weighted, a session, {count} targets");
    show(&name, round, || {
        black_box(weighted::rank(shares(), black_box(Some(7)), &mut rng));
    });
    show(&format!("latency, {count} targets compared"), round, || {
        black_box(latency::rank(&views(), black_box(&asked), now, &mut rng));
    });
    show(&format!("cost, {count} targets compared"), round, || {
        black_box(cost::rank(&views(), black_box(&asked), now, &mut rng));
    });
    show(&format!("score, {count} targets compared"), round, || {
        black_box(score::rank(&views(), &asked, &weights, now, &mut rng));
    });
}

/// A target of which something is known.
fn learnt(index: u64, start: Instant) -> Stats {
    let stats = Stats::new(HALF_LIFE, start);
    learn(&stats, index, start);
    stats
}

fn learn(stats: &Stats, index: u64, start: Instant) {
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
    writeln!(std::io::stdout(), "{name:52} {least:10.0} ns")
        .expect("the numbers go to standard output");
}
