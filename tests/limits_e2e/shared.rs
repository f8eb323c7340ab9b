//! Limits and budgets of several real nodes with one real Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use strait::limit::budget::{Budget, Budgets, Every, Scope};
use strait::limit::{Amount, Holder, Limited, Limits, shared};
use strait::state;

use super::*;
use crate::common::redis::Redis;
use crate::common::{at_once, chat};

/// Every answer costs a cent: 100 tokens out at 100 USD a million.
const CENT: &str = "[default]\nusage = { prompt_tokens = 10, completion_tokens = 100 }";

fn config(provider: &Mock, key: &str) -> String {
    format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        base_url = "{}/v1"
        key = "the-provider-key"
        price = {{ in = 0, out = 100 }}
        [models.fast]
        targets = ["lab/x"]
        retries = {{ max_attempts = 1 }}
        [[keys]]
        name = "team-a"
        key = "{KEY}"
        {key}
        "#,
        provider.url()
    )
}

fn node(config: &str, redis: &Redis, shared: &str) -> Strait {
    // A busy machine is not a Redis that is away.
    with_patience("5s", config, redis, shared)
}

fn impatient(config: &str, redis: &Redis, shared: &str) -> Strait {
    with_patience("400ms", config, redis, shared)
}

fn with_patience(timeout: &str, config: &str, redis: &Redis, shared: &str) -> Strait {
    let url = redis.url();
    let redis = format!("redis = {{ url = \"{url}\", timeout = \"{timeout}\" }}");
    let state = format!("{redis}\n[state.shared]\n{shared}");
    let strait = Strait::start_state(config, &state, &[]);
    found(&strait);
    strait
}

fn found(strait: &Strait) {
    eventually("Redis is found", || {
        strait.metric("strait_redis_available", &[]) == 1.0
    });
}

fn cent(strait: &Strait) -> Answer {
    let mut body = chat("fast", "hi");
    body["max_tokens"] = json!(100);
    ask(strait, &body)
}

/// Says how the nodes came by what they admitted.
fn how(nodes: &[Strait]) -> String {
    let each = nodes.iter().map(|node| {
        let text = node.metrics();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("strait_shared_"));
        lines.collect::<Vec<_>>().join(" ")
    });
    each.collect::<Vec<_>>().join("\n")
}

/// Asks `count` times by many clients at once, of all nodes; returns how many were answered and how many refused with
/// `status`.
fn storm(nodes: &[Strait], count: usize, status: u16) -> (usize, usize) {
    let (answered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let threads = 48;
    at_once(threads, |thread| {
        for turn in (thread..count).step_by(threads) {
            let answer = cent(&nodes[turn % nodes.len()]);
            match answer.status {
                200 => answered.fetch_add(1, Ordering::Relaxed),
                other if other == status => refused.fetch_add(1, Ordering::Relaxed),
                other => panic!("{other}: {}", answer.text()),
            };
        }
    });
    (answered.into_inner(), refused.into_inner())
}

#[test]
fn a_thousand_requests_at_three_nodes_spend_no_more_than_the_budget() {
    for (mode, least) in [("leased", 96), ("exact", 100)] {
        let (provider, redis) = (mock(CENT), Redis::start());
        let config = config(&provider, "budget = { usd = 1.0, every = \"month\" }");
        let shared = format!("mode = \"{mode}\"");
        let nodes = [(); 3].map(|()| node(&config, &redis, &shared));
        let (answered, refused) = storm(&nodes, 1000, 402);
        assert_eq!(answered + refused, 1000);
        assert_eq!(
            provider.calls().len(),
            answered,
            "who is refused is not asked for"
        );
        assert!(
            (least..=100).contains(&answered),
            "{mode}: {answered} of 100 cents"
        );
        let told = cent(&nodes[0]);
        if answered == 100 {
            assert_eq!(told.status, 402);
            assert!(
                told.text().contains("`key:team-a` of 1 USD each month"),
                "{}",
                told.text()
            );
        }
        eventually("all is said", || {
            let spent = redis.ask(&["HVALS", "strait:{limits}:month:key:team-a"]);
            spent
                .lines()
                .any(|line| line == format!("{}", answered as u64 * 10_000_000))
        });
    }
}

#[test]
fn a_limit_over_a_time_is_one_for_all_nodes() {
    for mode in ["leased", "exact"] {
        let (provider, redis) = (mock(CENT), Redis::start());
        let config = config(&provider, "limits = { rpm = 120, tpd = 1000000 }");
        let shared = format!("mode = \"{mode}\"");
        let nodes = [(); 3].map(|()| node(&config, &redis, &shared));
        let began = std::time::Instant::now();
        let (answered, _) = storm(&nodes, 450, 429);
        let seconds = began.elapsed().as_secs() as usize + 1;
        // Two a second come back, and of slices what refills in a second more.
        assert!(
            answered <= 120 + 2 * seconds + 2,
            "{mode}: {answered} in {seconds} s\n{}",
            how(&nodes)
        );
        assert!(answered >= 110, "{mode}: {answered}");
        let told = cent(&nodes[1]);
        assert_eq!(told.header("x-ratelimit-limit-requests"), Some("120"));
        let left: u64 = told
            .header("x-ratelimit-remaining-requests")
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            left <= 2 * seconds as u64 + 10,
            "what the others took is known: {left}"
        );
    }
}

#[test]
fn places_are_shared_and_come_back() {
    let script = format!("{CENT}\ndelay_head = \"700ms\"");
    let (provider, redis) = (mock(&script), Redis::start());
    let config = config(&provider, "limits = { concurrent = 4 }");
    let nodes = [(); 3].map(|()| node(&config, &redis, ""));
    for round in 0..2 {
        let statuses = at_once(24, |at| cent(&nodes[at % 3]).status);
        let answered = statuses.iter().filter(|status| **status == 200).count();
        assert!((1..=4).contains(&answered), "round {round}: {statuses:?}");
        assert!(statuses.iter().all(|status| [200, 429].contains(status)));
        let key = ["HLEN", "strait:{limits}:concurrent:team-a"];
        eventually("every place comes back", || {
            let holders = redis.ask(&["HKEYS", key[1]]);
            !holders.lines().any(|name| name.starts_with("l:"))
        });
    }
}

#[test]
fn what_a_dead_node_holds_is_nobodys_until_its_time_is_over() {
    let (provider, redis) = (mock(CENT), Redis::start());
    let config = config(
        &provider,
        "budget = { usd = 0.05, every = \"ever\" }\nlimits = { concurrent = 1 }",
    );
    let strait = node(&config, &redis, "");
    let account = "strait:{limits}:ever:key:team-a";
    let place = "strait:{limits}:concurrent:team-a";
    // Somebody holds four cents, for a minute yet; in nano-dollars and microseconds.
    let later = (jiff::Timestamp::now().as_microsecond() + 60_000_000).to_string();
    redis.ask(&[
        "HSET",
        account,
        "l:dead",
        &format!("40000000 {later}"),
        "known",
        "1",
    ]);
    assert_eq!(cent(&strait).status, 200);
    let refused = cent(&strait);
    assert_eq!(refused.status, 402, "{}", refused.text());
    assert!(
        refused.text().contains("0.04 USD are held"),
        "{}",
        refused.text()
    );
    redis.ask(&["HSET", account, "l:dead", "40000000 1"]);
    eventually("its money is there again", || cent(&strait).status == 200);
    redis.ask(&["HSET", place, "l:dead", &format!("1 {later}")]);
    eventually("its place is taken", || cent(&strait).status == 429);
    redis.ask(&["HSET", place, "l:dead", "1 1"]);
    eventually("its place is free", || cent(&strait).status == 200);
}

#[test]
fn without_redis_each_node_counts_for_itself_or_refuses_as_the_rule_says() {
    let (provider, mut redis) = (mock(CENT), Redis::start());
    let config = config(
        &provider,
        "budget = { usd = 0.10, every = \"month\" }\nlimits = { rpm = 100 }",
    );
    let open = impatient(&config, &redis, "");
    let closed = impatient(&config, &redis, "budgets = \"closed\"");
    for turn in 0..3 {
        assert_eq!(cent(&open).status, 200, "{turn}");
        assert_eq!(cent(&closed).status, 200, "{turn}");
    }
    eventually("six cents are said", || {
        redis_values(&redis).iter().any(|line| line == "60000000")
    });
    redis.freeze(true);
    for turn in 0..2 {
        assert_eq!(cent(&open).status, 200, "it answers nobody: {turn}");
    }
    redis.freeze(false);
    eventually("eight cents are said, whatever was heard of it", || {
        redis_values(&redis).iter().any(|line| line == "80000000")
    });
    // What it hears now it knows afterwards.
    found(&open);
    eventually("it is heard", || cent(&open).status == 200);
    eventually("nine cents are said", || {
        redis_values(&redis).iter().any(|line| line == "90000000")
    });
    std::thread::sleep(Duration::from_millis(1200));
    redis.stop();
    eventually("it is missed", || cent(&closed).status == 503);
    let told = cent(&closed);
    assert!(
        told.text().contains("Budgets can't be counted now"),
        "{}",
        told.text()
    );
    assert_eq!(cent(&open).status, 200, "the open one knows what is left");
    assert_eq!(cent(&open).status, 402);
    // Nothing is in it when it comes back: what was spent is known to the nodes.
    redis.begin();
    found(&open);
    found(&closed);
    eventually("ten cents are said, none twice", || {
        redis_values(&redis).iter().any(|line| line == "100000000")
    });
    assert_eq!(cent(&closed).status, 402, "{}", how(&[open, closed]));
    assert_eq!(provider.calls().len(), 10);
}

fn redis_values(redis: &Redis) -> Vec<String> {
    let all = redis.ask(&["HVALS", "strait:{limits}:month:key:team-a"]);
    all.lines().map(str::to_owned).collect()
}

#[test]
fn few_requests_ask_redis_where_there_is_plenty() {
    let (provider, redis) = (mock(CENT), Redis::start());
    let config = config(
        &provider,
        "budget = { usd = 1000.0, every = \"month\" }\nlimits = { rpm = 100000, tpm = 100000000, concurrent = 1000 }",
    );
    let strait = [node(&config, &redis, "")];
    let (answered, _) = storm(&strait, 600, 429);
    assert_eq!(answered, 600);
    let held = strait[0].metric("strait_shared_requests_total", &["held"]);
    let asked = strait[0].metric("strait_shared_requests_total", &["asked"]);
    assert!(
        held > 4.0 * asked,
        "{held} from slices, {asked} asked\n{}",
        how(&strait)
    );
    assert_eq!(
        strait[0].metric("strait_shared_requests_total", &["refused"]),
        0.0
    );
}

/// Three nodes in this process, without the rest of the gateway.
fn three(redis: &Redis, settings: shared::Settings) -> [(Arc<Budgets>, shared::Shared); 3] {
    let connect = state::redis::Settings {
        timeout: Duration::from_secs(5),
        ..state::redis::Settings::single(&redis.url())
    };
    [(); 3].map(|()| {
        let budgets = Arc::new(Budgets::default());
        let redis = state::redis::Redis::start(connect.clone());
        eventually("Redis is found", || redis.is_available());
        let shared = shared::Shared::start(settings, redis, budgets.clone());
        (budgets, shared)
    })
}

/// Runs `each` on eight threads of each node.
fn everywhere(each: impl Fn(usize, &tokio::runtime::Runtime) + Sync) {
    at_once(24, |thread| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        each(thread % 3, &runtime);
    });
}

#[test]
fn whatever_requests_cost_nodes_together_spend_no_more_than_there_is() {
    const CENT: u64 = 10_000_000_000;
    for mode in [shared::Mode::Leased, shared::Mode::Exact] {
        let redis = Redis::start();
        let settings = shared::Settings {
            mode,
            ..shared::Settings::default()
        };
        let nodes = three(&redis, settings);
        let budget = |most_pico| Budget {
            most_pico,
            every: Every::Month,
            rolling: false,
            zone: jiff::tz::TimeZone::UTC,
            since: None,
        };
        let scope = |name: &str, most| Scope {
            name: name.into(),
            budgets: Arc::new([budget(most)]),
        };
        // The second is never full: what was taken of it for a request that the first refused must be there again.
        let scopes = [scope("team:a", 200 * CENT), scope("key:b", 1000 * CENT)];
        let spent = AtomicU64::new(0);
        everywhere(|node, runtime| {
            let (budgets, shared) = &nodes[node];
            for _ in 0..60 {
                let most = CENT * fastrand::u64(1..=5) + fastrand::u64(..1000);
                let now = jiff::Timestamp::now();
                let Ok(mut held) = budgets.reserve(&scopes, most, now) else {
                    continue;
                };
                match runtime.block_on(shared.budgets(&scopes, most)) {
                    Ok(lot) => held.share(lot),
                    Err(shared::Short::Refused(_)) => continue,
                    Err(shared::Short::Away) => panic!("Redis is there"),
                }
                std::thread::sleep(Duration::from_micros(fastrand::u64(..2000)));
                // One in four fails, and costs nothing.
                if fastrand::u8(..4) > 0 {
                    let cost = fastrand::u64(most / 2..=most);
                    spent.fetch_add(cost, Ordering::Relaxed);
                    held.settle(cost, jiff::Timestamp::now());
                }
            }
        });
        for (_, shared) in &nodes {
            assert!(shared.close(Duration::from_secs(10)), "in time");
        }
        let spent = spent.into_inner();
        assert!(spent <= 200 * CENT, "{mode:?}: {spent} of {}", 200 * CENT);
        assert!(spent > 180 * CENT, "{mode:?}: {spent} of {}", 200 * CENT);
        for account in [
            "strait:{limits}:month:team:a",
            "strait:{limits}:month:key:b",
        ] {
            let all = redis.ask(&["HGETALL", account]);
            let lines: Vec<&str> = all.lines().collect();
            let pairs = lines.chunks_exact(2).map(|pair| (pair[0], pair[1]));
            let said = pairs.clone().filter(|(name, _)| name.starts_with("s:"));
            let said: u64 = said.map(|(_, nano)| nano.parse::<u64>().unwrap()).sum();
            // What is less than a nano-dollar is said with what comes next.
            let differ = said.abs_diff(spent / 1000);
            assert!(differ <= 3, "{mode:?}: {said} of {spent}");
            let held = pairs.filter(|(name, _)| name.starts_with("l:")).count();
            assert_eq!(held, 0, "who stops gives back: {all}");
        }
    }
}

#[test]
fn tokens_that_were_not_used_come_back_to_all_nodes_and_none_twice() {
    for mode in [shared::Mode::Leased, shared::Mode::Exact] {
        let redis = Redis::start();
        let settings = shared::Settings {
            mode,
            ..shared::Settings::default()
        };
        let nodes = three(&redis, settings);
        let limits = Limits {
            tpm: Some(60_000),
            ..Limits::default()
        };
        let limited = Limited::new(Holder::Team, "team", &[], limits);
        let used = AtomicU64::new(0);
        let began = Instant::now();
        everywhere(|node, runtime| {
            let shared = &nodes[node].1;
            while began.elapsed() < Duration::from_millis(1500) {
                let one = std::iter::once(&limited);
                match runtime.block_on(shared.limits(one, Amount::from(500))) {
                    Ok(lot) => {
                        let tokens = fastrand::u64(100..=500);
                        used.fetch_add(tokens, Ordering::Relaxed);
                        lot.unwrap().settle(&Amount::from(tokens));
                    }
                    Err(shared::Short::Refused(denied)) => {
                        assert_eq!(denied.limit, 60_000);
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(shared::Short::Away) => panic!("Redis is there"),
                }
            }
        });
        let seconds = began.elapsed().as_secs() + 2;
        let used = used.into_inner();
        assert!(
            used <= 60_000 + 1000 * seconds,
            "{mode:?}: {used} in {seconds} s"
        );
        assert!(used >= 58_000, "{mode:?}: {used}");
        for (_, shared) in &nodes {
            assert!(shared.close(Duration::from_secs(10)), "in time");
        }
    }
}

#[test]
fn a_node_that_was_killed_charges_what_it_had_under_way_when_it_is_back() {
    let script = CENT.replace("[default]", "[default]\ndelay_head = \"60s\"");
    let (provider, redis) = (mock(&script), Redis::start());
    let config = config(&provider, "budget = { usd = 1.0, every = \"day\" }");
    let mut strait = node(&config, &redis, "");
    let mut body = chat("fast", "hi");
    body["max_tokens"] = json!(100);
    let authorization = format!("Bearer {KEY}");
    let headers = [("authorization", &*authorization)];
    let text = body.to_string();
    let path = Dialect::OpenAi.path();
    let waiting = [(); 2].map(|()| strait.client().send_only(path, &headers, text.as_bytes()));
    eventually("both are asked for", || provider.calls().len() == 2);
    strait.signal("KILL");
    let account = "strait:{limits}:day:key:team-a";
    let held = redis.ask(&["HGETALL", account]);
    let lease = held
        .lines()
        .skip_while(|line| !line.starts_with("l:"))
        .nth(1);
    let lease: u64 = lease.unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(lease >= 20_000_000, "two cents are nobody else's: {held}");
    strait.restart();
    drop(waiting);
    eventually("both are charged", || {
        let spent = redis.ask(&["HVALS", account]);
        spent.lines().any(|line| line == "20000000")
    });
}
