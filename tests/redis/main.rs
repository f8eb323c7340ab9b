//! Redis with real servers: one, a cluster, sentinels, TLS; what nodes share through it; and what becomes of requests
//! when it is stopped, frozen or full.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod cache;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod sharing;

use common::redis::PASSWORD;
use common::{Answer, Client, Strait, chat};
use serde_json::Value;
use strait::mock::Mock;

/// A secret that all nodes of a test have.
const MASTER: &str = "the-master-key-of-all-nodes-0123456789";

/// Lines of `[state]` for a node at this Redis.
fn at(redis: &common::redis::Redis) -> String {
    format!("redis = \"{}\"\nmaster_key = \"{MASTER}\"", redis.url())
}

/// The same for a node that waits for it: what is shared must not be missed because the machine is busy.
fn patiently_at(redis: &common::redis::Redis) -> String {
    let url = redis.url();
    format!("master_key = \"{MASTER}\"\n[state.redis]\nurl = \"{url}\"\ntimeout = \"5s\"")
}

/// Starts a node, and waits until it has found its Redis.
fn node(config: &str, state: &str) -> Strait {
    let strait = Strait::start_state(config, state, &[]);
    found(&strait);
    strait
}

fn found(strait: &Strait) {
    common::eventually("Redis is found", || {
        strait.metric("strait_redis_available", &[]) == 1.0
    });
}

fn redis_health(strait: &Strait) -> Value {
    Client::new(strait.admin).get("/health/ready").json()["redis"].clone()
}

fn config(provider: &Mock, more: &str) -> String {
    format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        base_url = "{0}/v1"
        key = "the-key-of-the-lab"
        [providers.other]
        protocols = ["openai-chat"]
        base_url = "{0}/v1"
        key = "the-key-of-the-other"
        [models.m]
        targets = ["lab/x"]
        retries = {{ max_attempts = 1 }}
        [models.both]
        targets = ["lab/x", "other/y"]
        strategy = "fallback"
        {more}
        "#,
        provider.url()
    )
}

fn ask(strait: &Strait, model: &str, words: &str) -> Answer {
    strait.post("/v1/chat/completions", &chat(model, words))
}
