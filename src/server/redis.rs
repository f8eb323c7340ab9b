//! Redis on the admin port: metrics, and what its health adds to the gateway's.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use serde_json::{Value, json};

use crate::cache::second::Second;
use crate::observe::metrics::{Rows, desc};
use crate::state::redis::{BOUNDS_NS, Call, Outcome, Redis, Topic};

/// Its metrics, as they are when somebody scrapes.
pub struct Tallied {
    redis: Redis,
    descs: Vec<Desc>,
}

const AVAILABLE: (&str, &str) = (
    "strait_redis_available",
    "1 when Redis is asked, 0 when each node goes by what it knows itself.",
);
const QUEUE: (&str, &str) = (
    "strait_redis_queue",
    "What waits to be done at Redis in the background.",
);
const QUEUE_BYTES: (&str, &str) = ("strait_redis_queue_bytes", "Bytes of what waits.");
const CONNECTED: (&str, &str) = (
    "strait_redis_connections_total",
    "Times that Redis was connected to.",
);
const CALLS: (&str, &str) = (
    "strait_redis_calls_total",
    "Calls of Redis by what they came to.",
);
const HEARD: (&str, &str) = (
    "strait_redis_heard_total",
    "What other nodes told, by topic.",
);
const DROPPED: (&str, &str) = (
    "strait_redis_dropped_total",
    "What was to be done in the background and was not.",
);
const TIMES: (&str, &str) = (
    "strait_redis_call_seconds",
    "How long calls took that were sent.",
);

impl Tallied {
    pub fn new(redis: Redis) -> Self {
        let plain = [AVAILABLE, QUEUE, QUEUE_BYTES, CONNECTED];
        let mut descs = Vec::from(plain.map(|(name, help)| desc(name, help, &[])));
        descs.push(desc(CALLS.0, CALLS.1, &["call", "outcome"]));
        descs.push(desc(HEARD.0, HEARD.1, &["topic"]));
        descs.push(desc(DROPPED.0, DROPPED.1, &["reason"]));
        descs.push(desc(TIMES.0, TIMES.1, &["call"]));
        Self { redis, descs }
    }
}

impl Collector for Tallied {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counts = self.redis.counts();
        let mut families = Vec::new();
        for ((name, help), value) in [
            (AVAILABLE, u64::from(counts.available)),
            (QUEUE, counts.queued),
            (QUEUE_BYTES, counts.queued_bytes),
        ] {
            let mut rows = Rows::gauge(name, help);
            rows.push(&[], value as f64);
            rows.end(&mut families);
        }
        let mut rows = Rows::counter(CONNECTED.0, CONNECTED.1);
        rows.push(&[], counts.connected as f64);
        rows.end(&mut families);
        let mut rows = Rows::counter(CALLS.0, CALLS.1);
        for call in Call::ALL {
            for outcome in Outcome::ALL {
                let count = counts.calls[call as usize][outcome as usize];
                let labels = [("call", call.name()), ("outcome", outcome.name())];
                rows.push(&labels, count as f64);
            }
        }
        rows.end(&mut families);
        let mut rows = Rows::counter(HEARD.0, HEARD.1);
        for topic in Topic::ALL {
            let count = counts.heard[topic as usize];
            rows.push(&[("topic", topic.name())], count as f64);
        }
        rows.end(&mut families);
        let mut rows = Rows::counter(DROPPED.0, DROPPED.1);
        rows.push(&[("reason", "queue_full")], counts.dropped_full as f64);
        rows.push(&[("reason", "away")], counts.dropped_away as f64);
        rows.end(&mut families);
        let mut rows = Rows::histogram(TIMES.0, TIMES.1);
        for call in Call::ALL {
            let times = counts.times[call as usize].export(&BOUNDS_NS);
            rows.push_histogram(&[("call", call.name())], times);
        }
        rows.end(&mut families);
        families
    }
}

/// What the cache's second tier came to.
pub struct Recalled {
    second: Arc<Second>,
    descs: Vec<Desc>,
}

const RECALLED: (&str, &str) = (
    "strait_cache_redis_total",
    "Answers looked for and kept in Redis, by what became of it.",
);

impl Recalled {
    pub fn new(second: Arc<Second>) -> Self {
        Self {
            second,
            descs: vec![desc(RECALLED.0, RECALLED.1, &["outcome"])],
        }
    }
}

impl Collector for Recalled {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        let mut rows = Rows::counter(RECALLED.0, RECALLED.1);
        for (outcome, count) in self.second.counts() {
            rows.push(&[("outcome", outcome)], count as f64);
        }
        rows.end(&mut families);
        families
    }
}

/// Returns what `/health/ready` says of it. Without it the gateway is ready all the same.
pub fn health(redis: Option<&Redis>) -> Value {
    let Some(redis) = redis else {
        return json!({"status": "off", "detail": null});
    };
    let health = redis.health();
    let status = match (health.available, &health.detail) {
        (true, None) => "ok",
        (true, Some(_)) => "degraded",
        (false, _) => "unavailable",
    };
    json!({"status": status, "detail": health.detail})
}
