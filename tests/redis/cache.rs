//! The cache's second tier: what one node keeps, another gives.

use serde_json::json;

use crate::common::redis::{PASSWORD, Redis};
use crate::common::{Answer, Client, Strait, chat, eventually, mock};
use crate::{MASTER, config, node, patiently_at};

const CACHE: &str = r#"
[cache]
enabled = true
redis = true
[[keys]]
name = "one"
key = "sk-one-of-the-tests"
[[keys]]
name = "two"
key = "sk-two-of-the-tests"
"#;

const ONE: &str = "Bearer sk-one-of-the-tests";
const TWO: &str = "Bearer sk-two-of-the-tests";

fn post(strait: &Strait, key: &str, words: &str, stream: bool) -> Answer {
    let mut body = chat("m", words);
    body["stream"] = json!(stream);
    let headers = [("authorization", key)];
    let answer = strait.client().post(
        "/v1/chat/completions",
        &headers,
        body.to_string().as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn cache(answer: &Answer) -> &str {
    answer.header("x-strait-cache").unwrap_or("absent")
}

fn kept(strait: &Strait, outcome: &str) -> f64 {
    let outcome = format!("outcome=\"{outcome}\"");
    strait.metric("strait_cache_redis_total", &[&outcome])
}

fn written(redis: &Redis, count: usize) {
    eventually("answers are written", || {
        let keys = redis.ask(&["KEYS", "strait:cache:*"]);
        keys.lines().filter(|key| !key.is_empty()).count() == count
    });
}

/// Waits until a node knows which answers count.
fn joined(strait: &Strait) {
    eventually("it has asked which answers count", || {
        strait.metric("strait_redis_calls_total", &["script", "outcome=\"ok\""]) >= 2.0
    });
}

#[test]
fn an_answer_of_one_node_is_a_hit_on_another_and_nobody_reads_it_in_redis() {
    let redis = Redis::start();
    let provider = mock("");
    let config = config(&provider, CACHE);
    let [first, second] = [(); 2].map(|()| node(&config, &patiently_at(&redis)));
    joined(&first);
    joined(&second);
    let long = "the words of a long answer ".repeat(200);
    let mut calls = 0;
    for words in ["the words of a secret", &long] {
        for (stream, then) in [(false, true), (true, false)] {
            let words = format!("{words} {stream}");
            let made = post(&first, ONE, &words, stream);
            calls += 1;
            assert_eq!(cache(&made), "miss");
            written(&redis, calls);
            let given = post(&second, ONE, &words, then);
            assert_eq!(cache(&given), "hit", "{stream}");
            assert!(given.text().contains("the words of a"), "{}", given.text());
            assert_eq!(given.header("x-strait-provider"), Some("lab"));
            // Now it is in this node's memory.
            assert_eq!(cache(&post(&second, ONE, &words, stream)), "hit");
        }
    }
    assert_eq!(
        provider.counts().count,
        calls as u64,
        "the provider was asked once for each"
    );
    assert_eq!(kept(&second, "hit"), calls as f64);

    // Another key's question is another question.
    let other = post(&second, TWO, "the words of a secret false", false);
    assert_eq!(cache(&other), "miss");
    written(&redis, calls + 1);

    let keys = redis.ask(&["KEYS", "*"]);
    for key in keys.lines() {
        let ttl: i64 = redis.ask(&["PTTL", key]).parse().unwrap();
        if key.contains(":cache:") {
            assert!(ttl > 0 && ttl <= 3_600_000, "{key}: {ttl}");
            let value = redis.ask(&["GET", key]);
            assert!(
                !value.contains("words") && !value.contains("lab"),
                "{value}"
            );
        }
    }
    for text in [first.log(), second.log(), first.metrics(), second.metrics()] {
        assert!(!text.contains(PASSWORD), "{text}");
    }

    // Thrown away on one node it is nowhere.
    assert_eq!(first.admin("DELETE", "/admin/v1/cache", "").status, 200);
    eventually("the other has heard", || {
        cache(&post(&second, ONE, "the words of a secret false", false)) == "miss"
            || provider.counts().count > calls as u64 + 2
    });
}

#[test]
fn nodes_of_another_master_key_and_another_configuration_miss() {
    let redis = Redis::start();
    let provider = mock("");
    let first = node(&config(&provider, CACHE), &patiently_at(&redis));
    joined(&first);
    post(&first, ONE, "hello", false);
    written(&redis, 1);
    let state = patiently_at(&redis).replace(MASTER, "another-master-key-0123456789");
    let odd = node(&config(&provider, CACHE), &state);
    joined(&odd);
    assert_eq!(cache(&post(&odd, ONE, "hello", false)), "miss");
    written(&redis, 2);
    let off = CACHE.replace("redis = true", "redis = false");
    let without = node(&config(&provider, &off), &patiently_at(&redis));
    assert_eq!(cache(&post(&without, ONE, "hello", false)), "miss");
    assert_eq!(
        kept(&without, "hit") + kept(&without, "miss"),
        0.0,
        "it does not ask"
    );
    // It may be turned on while the node runs.
    without.write_config_with(&config(&provider, CACHE), "", &patiently_at(&redis));
    assert_eq!(without.admin("POST", "/admin/v1/reload", "").status, 200);
    eventually("it asks", || {
        post(&without, ONE, "hello again", false);
        kept(&without, "miss") > 0.0
    });
}

#[test]
fn when_nobody_answers_an_old_answer_of_another_node_is_better_than_none() {
    let redis = Redis::start();
    let provider = mock("[[rule]]\nsteps = [{}, { status = 500 }]\n");
    let short = "[cache]\nenabled = true\nredis = true\nttl = \"100ms\"\n\
                 [models.old]\ntargets = [\"lab/x\"]\nstale_if_error = \"1h\"\nretries = { max_attempts = 1 }\n";
    let config = config(&provider, short);
    let [first, second] = [(); 2].map(|()| node(&config, &patiently_at(&redis)));
    joined(&first);
    joined(&second);
    assert_eq!(crate::ask(&first, "old", "hi").status, 200);
    written(&redis, 1);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let stale = crate::ask(&second, "old", "hi");
    assert_eq!(stale.status, 200, "{}", stale.text());
    assert_eq!(cache(&stale), "stale");
    assert_eq!(provider.counts().count, 2, "it was asked first");
}

#[test]
fn an_answer_outlives_the_node_that_made_it_and_what_is_damaged_is_a_miss() {
    let redis = Redis::start();
    let provider = mock("");
    let mut strait = node(&config(&provider, CACHE), &patiently_at(&redis));
    joined(&strait);
    post(&strait, ONE, "one", false);
    post(&strait, ONE, "two", false);
    written(&redis, 2);
    strait.restart();
    crate::found(&strait);
    joined(&strait);
    assert_eq!(cache(&post(&strait, ONE, "one", false)), "hit");
    for key in redis.ask(&["KEYS", "strait:cache:*"]).lines() {
        redis.ask(&["SETRANGE", key, "40", "x"]);
    }
    assert_eq!(cache(&post(&strait, ONE, "two", false)), "miss");
    assert_eq!(kept(&strait, "unreadable"), 1.0);
    let only = [("authorization", ONE), ("x-strait-cache", "only-if-cached")];
    let body = chat("m", "three").to_string();
    let refused = Client::new(strait.addr).post("/v1/chat/completions", &only, body.as_bytes());
    assert_eq!(refused.status, 504, "{}", refused.text());
}
