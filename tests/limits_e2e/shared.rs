//! Limits and budgets of several real nodes with one real Redis.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

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
    let redis = format!("redis = {{ url = \"{}\", timeout = \"5s\" }}", redis.url());
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
    let open = node(&config, &redis, "");
    let closed = node(&config, &redis, "budgets = \"closed\"");
    for turn in 0..3 {
        assert_eq!(cent(&open).status, 200, "{turn}");
        assert_eq!(cent(&closed).status, 200, "{turn}");
    }
    let spent = |nano: &str| {
        let spent = redis_values(&redis);
        spent.iter().any(|line| line == nano)
    };
    eventually("six cents are said", || spent("60000000"));
    redis.stop();
    eventually("it is missed", || cent(&closed).status == 503);
    let told = cent(&closed);
    assert!(
        told.text().contains("Budgets can't be counted now"),
        "{}",
        told.text()
    );
    // The open one knows of six cents, or of its own three and goes by them.
    assert_eq!(cent(&open).status, 200);
    // Nothing is in it when it comes back: what was spent is known to the nodes.
    redis.begin();
    found(&open);
    found(&closed);
    let mut more = 0;
    for _ in 0..10 {
        more += usize::from(cent(&closed).status == 200);
    }
    assert!(more <= 3, "at least seven cents were spent before: {more}");
    assert!(more >= 2, "{more}");
    let all = provider.calls().len();
    assert!(all <= 10, "{all} cents of ten");
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
