//! Ours against the references, and the table.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use crate::policies::{Ours, Strategy};
use crate::references::{LlmGateway, RequestyFallback, RequestyLatency};
use crate::scenarios::{self, ALL};
use crate::world::{Outcome, Policy, Scenario, run};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Ours(Strategy),
    LlmGateway,
    RequestyLatency,
    RequestyFallback,
}

const SEEDS: u64 = 4;

/// Returns the mean outcome over the seeds. Tests share what was played.
fn play(scenario: &'static Scenario, who: Who) -> Outcome {
    type Played = HashMap<(&'static str, Who), Arc<OnceLock<Outcome>>>;
    static PLAYED: LazyLock<Mutex<Played>> = LazyLock::new(Mutex::default);
    let place = {
        let mut played = PLAYED.lock().expect("nobody panics while holding it");
        played.entry((scenario.name, who)).or_default().clone()
    };
    *place.get_or_init(|| mean(scenario, who))
}

fn mean(scenario: &Scenario, who: Who) -> Outcome {
    let count = scenario.providers;
    let mut mean = Outcome::default();
    for seed in 0..SEEDS {
        let mut policy: Box<dyn Policy> = match who {
            Who::Ours(strategy) => Box::new(Ours::new(strategy, count, seed + 100)),
            Who::LlmGateway => Box::new(LlmGateway::new(count, seed + 100)),
            Who::RequestyLatency => Box::new(RequestyLatency::new(count, seed + 100)),
            Who::RequestyFallback => Box::new(RequestyFallback::new(count)),
        };
        let one = run(scenario, &mut *policy, seed);
        let part = 1.0 / SEEDS as f64;
        mean.cost += one.cost * part;
        mean.p50 += one.p50 * part;
        mean.p95 += one.p95 * part;
        mean.failed += one.failed * part;
        mean.wasted += one.wasted * part;
    }
    mean
}

const PLAYERS: [(&str, Who); 7] = [
    ("`latency`", LATENCY),
    ("`cost`", COST),
    ("`score`", SCORE),
    ("`weighted`", Who::Ours(Strategy::Weighted)),
    ("LLM Gateway score", Who::LlmGateway),
    ("Requesty latency", Who::RequestyLatency),
    ("Requesty fallback", Who::RequestyFallback),
];
const LATENCY: Who = Who::Ours(Strategy::Latency);
const COST: Who = Who::Ours(Strategy::Cost);
const SCORE: Who = Who::Ours(Strategy::Score);

/// Who is better by less than this is as good: another seed would say otherwise.
const EQUAL: f64 = 1.03;

#[track_caller]
fn no_worse(what: &str, ours: f64, theirs: f64) {
    assert!(
        ours <= theirs * EQUAL,
        "{what}: ours {ours}, theirs {theirs}"
    );
}

/// Asserts that ours is better by a factor at the least.
#[track_caller]
fn better(what: &str, ours: f64, theirs: f64, factor: f64) {
    assert!(
        ours * factor <= theirs,
        "{what}: ours {ours}, theirs {theirs}"
    );
}

#[test]
fn score_is_no_worse_than_the_weighted_score_anywhere() {
    for scenario in ALL {
        let (ours, theirs) = (play(scenario, SCORE), play(scenario, Who::LlmGateway));
        let name = scenario.name;
        no_worse(&format!("{name}, cost"), ours.cost, theirs.cost);
        no_worse(&format!("{name}, p50"), ours.p50, theirs.p50);
        no_worse(&format!("{name}, p95"), ours.p95, theirs.p95);
        no_worse(
            &format!("{name}, attempts that failed"),
            ours.wasted,
            theirs.wasted,
        );
        no_worse(
            &format!("{name}, requests that failed"),
            ours.failed,
            theirs.failed,
        );
    }
}

#[test]
fn score_is_clearly_better_where_the_weighted_score_is_wrong() {
    let pair = |scenario| (play(scenario, SCORE), play(scenario, Who::LlmGateway));
    let (ours, theirs) = pair(&scenarios::OUTAGE);
    better(
        "attempts that failed in the outage",
        ours.wasted,
        theirs.wasted,
        2.0,
    );
    let (ours, theirs) = pair(&scenarios::PRICES);
    better(
        "the price of this very request",
        ours.cost,
        theirs.cost,
        1.3,
    );
    let (ours, theirs) = pair(&scenarios::LOAD);
    better("p95 of the flooded best", ours.p95, theirs.p95, 1.5);
    let (ours, theirs) = pair(&scenarios::COLD);
    better("p95 of a cold start", ours.p95, theirs.p95, 2.0);
}

#[test]
fn latency_is_no_worse_than_the_latency_policy_anywhere() {
    for scenario in ALL {
        let (ours, theirs) = (
            play(scenario, LATENCY),
            play(scenario, Who::RequestyLatency),
        );
        let name = scenario.name;
        no_worse(&format!("{name}, p95"), ours.p95, theirs.p95);
        no_worse(
            &format!("{name}, attempts that failed"),
            ours.wasted,
            theirs.wasted + 0.002,
        );
        no_worse(
            &format!("{name}, requests that failed"),
            ours.failed,
            theirs.failed,
        );
    }
}

#[test]
fn latency_is_clearly_better_where_things_change() {
    let pair = |scenario| {
        (
            play(scenario, LATENCY),
            play(scenario, Who::RequestyLatency),
        )
    };
    for scenario in [&scenarios::DEGRADATION, &scenarios::OUTAGE] {
        let (ours, theirs) = pair(scenario);
        better(scenario.name, ours.p95, theirs.p95, 1.3);
    }
    for scenario in [&scenarios::OUTAGE, &scenarios::FLAPPING] {
        let (ours, theirs) = pair(scenario);
        better(scenario.name, ours.wasted, theirs.wasted, 4.0);
    }
    let (ours, theirs) = pair(&scenarios::COLD);
    better("cold start", ours.p95, theirs.p95, 2.0);
}

#[test]
fn cost_is_cheapest_everywhere_and_fails_no_more_than_a_chain() {
    for scenario in ALL {
        let ours = play(scenario, COST);
        for (name, who) in PLAYERS {
            let theirs = play(scenario, who);
            no_worse(
                &format!("{}, {name}", scenario.name),
                ours.cost,
                theirs.cost,
            );
        }
        let chain = play(scenario, Who::RequestyFallback);
        no_worse(scenario.name, ours.failed, chain.failed);
    }
}

#[test]
fn nobody_waits_for_an_answer_that_never_comes() {
    for scenario in ALL {
        for who in [LATENCY, COST, SCORE] {
            assert_eq!(
                play(scenario, who).failed,
                0.0,
                "{}, {who:?}",
                scenario.name
            );
        }
    }
}

#[test]
fn the_same_seeds_make_the_same_world() {
    let twice = [0, 1].map(|_| format!("{:?}", mean(&scenarios::COLD, SCORE)));
    assert_eq!(twice[0], twice[1]);
}

/// The table of the README. Each cell: dollars for a thousand requests; p50 and p95 of the time to the first token
/// in seconds; attempts that failed, of a hundred.
#[test]
fn table() {
    let mut out = String::from("\n| scenario |");
    for (name, _) in PLAYERS {
        out += &format!(" {name} |");
    }
    out += "\n|---|";
    out += &"---|".repeat(PLAYERS.len());
    for scenario in ALL {
        out += &format!("\n| {} |", scenario.name);
        for (_, who) in PLAYERS {
            let one = play(scenario, who);
            let wasted = one.wasted * 100.0;
            out += &format!(
                " {:.2} · {:.2} · {:.2} · {wasted:.1} |",
                one.cost, one.p50, one.p95
            );
            if one.failed >= 0.00005 {
                out.truncate(out.len() - 2);
                out += &format!(" · **{:.2} % lost** |", one.failed * 100.0);
            }
        }
    }
    out += "\n";
    let mut stdout = std::io::stdout();
    stdout.write_all(out.as_bytes()).expect("standard output");
}
