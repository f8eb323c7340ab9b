//! The state database on the admin port: metrics, and what its health adds to the gateway's.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use serde_json::{Value, json};

use crate::directory::Directory;
use crate::jwt::Issuers;
use crate::observe::metrics::{Rows, desc};
use crate::state::State;

/// Its metrics, as they are when somebody scrapes.
pub struct Kept {
    state: State,
    descs: Vec<Desc>,
}

const AVAILABLE: (&str, &str) = (
    "strait_state_available",
    "1 when the state database takes writes, else 0.",
);
const QUEUE: (&str, &str) = (
    "strait_state_queue",
    "Writes waiting for the state database.",
);
const ROWS: (&str, &str) = (
    "strait_state_responses",
    "Responses kept, as of the last sweep.",
);
const BYTES: (&str, &str) = (
    "strait_state_responses_bytes",
    "Bytes of the responses kept, as of the last sweep.",
);
const WRITES: (&str, &str) = (
    "strait_state_writes_total",
    "Responses by what became of them.",
);
const DROPPED: (&str, &str) = (
    "strait_state_dropped_total",
    "Responses that were answered but not kept.",
);

impl Kept {
    pub fn new(state: State) -> Self {
        let plain = [AVAILABLE, QUEUE, ROWS, BYTES].map(|(name, help)| desc(name, help, &[]));
        let mut descs = Vec::from(plain);
        descs.push(desc(WRITES.0, WRITES.1, &["outcome"]));
        descs.push(desc(DROPPED.0, DROPPED.1, &["reason"]));
        Self { state, descs }
    }
}

impl Collector for Kept {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counts = self.state.counts();
        let mut families = Vec::new();
        for ((name, help), value) in [
            (AVAILABLE, u64::from(counts.available)),
            (QUEUE, counts.queued),
            (ROWS, counts.rows),
            (BYTES, counts.bytes),
        ] {
            let mut rows = Rows::gauge(name, help);
            rows.push(&[], value as f64);
            rows.end(&mut families);
        }
        let mut rows = Rows::counter(WRITES.0, WRITES.1);
        for (outcome, count) in [
            ("written", counts.written),
            ("deleted", counts.deleted),
            ("expired", counts.expired),
            ("evicted", counts.evicted),
        ] {
            rows.push(&[("outcome", outcome)], count as f64);
        }
        rows.end(&mut families);
        let mut rows = Rows::counter(DROPPED.0, DROPPED.1);
        for (reason, count) in counts.dropped.by_reason() {
            rows.push(&[("reason", reason)], count as f64);
        }
        rows.end(&mut families);
        families
    }
}

/// The directory's metrics.
pub struct Known {
    directory: Directory,
    descs: Vec<Desc>,
}

const DIRECTORY: (&str, &str) = (
    "strait_directory_available",
    "1 when changes of keys are seen and made, 0 when what was known is in force.",
);
const KEYS: (&str, &str) = ("strait_directory_keys", "Keys of the directory.");

impl Known {
    pub fn new(directory: Directory) -> Self {
        let descs = [DIRECTORY, KEYS].map(|(name, help)| desc(name, help, &[]));
        Self {
            directory,
            descs: Vec::from(descs),
        }
    }
}

impl Collector for Known {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let available = u64::from(self.directory.health().is_none());
        let mut families = Vec::new();
        for ((name, help), value) in [
            (DIRECTORY, available),
            (KEYS, self.directory.view().keys() as u64),
        ] {
            let mut rows = Rows::gauge(name, help);
            rows.push(&[], value as f64);
            rows.end(&mut families);
        }
        families
    }
}

/// The metrics of issuers.
pub struct Vouched {
    issuers: Arc<Issuers>,
    descs: Vec<Desc>,
}

const ISSUER_KEYS: (&str, &str) = (
    "strait_issuer_keys",
    "Keys of an issuer that tokens are checked with.",
);
const ISSUER_AGE: (&str, &str) = (
    "strait_issuer_age_seconds",
    "Time since an issuer's keys were fetched.",
);

impl Vouched {
    pub fn new(issuers: Arc<Issuers>) -> Self {
        let descs = [ISSUER_KEYS, ISSUER_AGE].map(|(name, help)| desc(name, help, &["issuer"]));
        Self {
            issuers,
            descs: Vec::from(descs),
        }
    }
}

impl Collector for Vouched {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut keys = Rows::gauge(ISSUER_KEYS.0, ISSUER_KEYS.1);
        let mut ages = Rows::gauge(ISSUER_AGE.0, ISSUER_AGE.1);
        for issuer in self.issuers.status() {
            let labels = [("issuer", issuer.issuer.as_str())];
            keys.push(&labels, issuer.keys as f64);
            if let Some(age) = issuer.age {
                ages.push(&labels, age.as_secs_f64());
            }
        }
        let mut families = Vec::new();
        keys.end(&mut families);
        ages.end(&mut families);
        families
    }
}

/// Returns what `/health/ready` says of the issuers: one that is away is no reason not to be ready.
pub fn issuers(issuers: &Issuers) -> Value {
    let all = issuers.status().into_iter();
    let failing = all.filter_map(|one| Some((one.keys, one.issuer, one.failure?)));
    let (mut status, mut details) = ("ok", Vec::new());
    for (keys, issuer, failure) in failing {
        status = match (status, keys) {
            ("unavailable", _) | (_, 0) => "unavailable",
            _ => "degraded",
        };
        details.push(format!("{issuer}: {failure}"));
    }
    json!({"status": status, "detail": (!details.is_empty()).then(|| details.join("; "))})
}

/// Returns what `/health/ready` says of the directory.
pub fn directory(directory: &Directory) -> Value {
    match directory.health() {
        None => json!({"status": "ok", "detail": null}),
        Some(detail) => json!({"status": "unavailable", "detail": detail}),
    }
}

/// Returns what `/health/ready` and `/admin/v1/status` say of it. Without a database the gateway is ready all the
/// same: it answers, and keeps nothing.
pub fn health(state: &State) -> Value {
    let health = state.health();
    let status = match (health.available, &health.detail) {
        (true, None) => "ok",
        (true, Some(_)) => "degraded",
        (false, _) => "unavailable",
    };
    json!({"status": status, "detail": health.detail})
}
