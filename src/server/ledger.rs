//! The ledger on the admin port: metrics, and what its health adds to the gateway's.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use serde_json::{Value, json};

use crate::ledger::Ledger;
use crate::ledger::alert::Alerts;
use crate::observe::metrics::{Rows, desc};

/// Its metrics, as they are when somebody scrapes.
pub struct Tallied {
    ledger: Ledger,
    alerts: Alerts,
    descs: Vec<Desc>,
}

const AVAILABLE: (&str, &str) = (
    "strait_ledger_available",
    "1 when the ledger's database takes rows, else 0.",
);
const JOURNAL: (&str, &str) = (
    "strait_ledger_journal_bytes",
    "Bytes of the journal that this process holds.",
);
const ROWS: (&str, &str) = (
    "strait_ledger_rows_total",
    "Rows of the ledger by what became of them.",
);
const UNJOURNALED: (&str, &str) = (
    "strait_ledger_unjournaled_total",
    "Exchanges that could not be journaled before their provider was asked.",
);
const TORN: (&str, &str) = (
    "strait_ledger_torn_total",
    "Segments of ended processes with something behind their last whole entry.",
);

const BODIES: (&str, &str) = (
    "strait_ledger_bodies_total",
    "Bodies of exchanges by what became of them.",
);
const HELD: (&str, &str) = (
    "strait_ledger_bodies_bytes",
    "Bytes of bodies in memory, under way or waiting to be written.",
);
const ALERTS: (&str, &str) = (
    "strait_alerts_total",
    "Alerts on budgets by what became of them.",
);

impl Tallied {
    pub fn new(ledger: Ledger, alerts: Alerts) -> Self {
        let plain = [AVAILABLE, JOURNAL, HELD, UNJOURNALED, TORN];
        let mut descs = Vec::from(plain.map(|(name, help)| desc(name, help, &[])));
        descs.push(desc(ROWS.0, ROWS.1, &["outcome"]));
        descs.push(desc(BODIES.0, BODIES.1, &["outcome"]));
        descs.push(desc(ALERTS.0, ALERTS.1, &["outcome"]));
        Self {
            ledger,
            alerts,
            descs,
        }
    }
}

impl Collector for Tallied {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counts = self.ledger.counts();
        let mut families = Vec::new();
        for ((name, help), value) in [
            (AVAILABLE, u64::from(counts.database)),
            (JOURNAL, counts.journal_bytes),
            (HELD, counts.bodies.bytes),
        ] {
            let mut rows = Rows::gauge(name, help);
            rows.push(&[], value as f64);
            rows.end(&mut families);
        }
        for ((name, help), value) in [(UNJOURNALED, counts.unjournaled), (TORN, counts.torn)] {
            let mut rows = Rows::counter(name, help);
            rows.push(&[], value as f64);
            rows.end(&mut families);
        }
        let mut rows = Rows::counter(ROWS.0, ROWS.1);
        for (outcome, count) in [
            ("written", counts.written),
            ("interrupted", counts.interrupted),
            ("expired", counts.expired),
            ("lost", counts.lost),
            ("audited", counts.audited),
        ] {
            rows.push(&[("outcome", outcome)], count as f64);
        }
        rows.end(&mut families);
        let mut rows = Rows::counter(BODIES.0, BODIES.1);
        for (outcome, count) in [
            ("written", counts.bodies.written),
            ("dropped", counts.bodies.dropped),
            ("expired", counts.bodies.expired),
        ] {
            rows.push(&[("outcome", outcome)], count as f64);
        }
        rows.end(&mut families);
        let mut rows = Rows::counter(ALERTS.0, ALERTS.1);
        for (outcome, count) in self.alerts.counts() {
            rows.push(&[("outcome", outcome)], count as f64);
        }
        rows.end(&mut families);
        families
    }
}

/// Returns what `/health/ready` says of it. Without it the gateway is ready all the same, unless requests that can't be
/// journaled are to be refused; then it says so to each.
pub fn health(ledger: &Ledger) -> Value {
    let health = ledger.health();
    let status = match (health.on, health.database, &health.detail) {
        (false, ..) => "off",
        (true, true, None) => "ok",
        (true, true, Some(_)) => "degraded",
        (true, false, _) => "unavailable",
    };
    json!({"status": status, "detail": health.detail})
}
