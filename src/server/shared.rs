//! What nodes count together, on the admin port.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use crate::limit::shared::Shared;
use crate::observe::metrics::{Rows, desc};

/// Its metrics, as they are when somebody scrapes.
pub struct Counted {
    shared: Shared,
    descs: Vec<Desc>,
}

const REQUESTS: (&str, &str) = (
    "strait_shared_requests_total",
    "Admissions to limits and budgets of all nodes: from what this node held, after asking, refused, without Redis.",
);
const CALLS: (&str, &str) = (
    "strait_shared_calls_total",
    "Calls of Redis for limits and budgets of all nodes.",
);
const ACCOUNTS: (&str, &str) = (
    "strait_shared_accounts",
    "Limits and budgets of all nodes that this node has to do with.",
);

impl Counted {
    pub fn new(shared: Shared) -> Self {
        let descs = vec![
            desc(REQUESTS.0, REQUESTS.1, &["outcome"]),
            desc(CALLS.0, CALLS.1, &[]),
            desc(ACCOUNTS.0, ACCOUNTS.1, &[]),
        ];
        Self { shared, descs }
    }
}

impl Collector for Counted {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counts = self.shared.counts();
        let mut families = Vec::new();
        let mut rows = Rows::counter(REQUESTS.0, REQUESTS.1);
        for (outcome, count) in [
            ("held", counts.held),
            ("asked", counts.asked),
            ("refused", counts.refused),
            ("away", counts.away),
        ] {
            rows.push(&[("outcome", outcome)], count as f64);
        }
        rows.end(&mut families);
        let mut rows = Rows::counter(CALLS.0, CALLS.1);
        rows.push(&[], counts.calls as f64);
        rows.end(&mut families);
        let mut rows = Rows::gauge(ACCOUNTS.0, ACCOUNTS.1);
        rows.push(&[], counts.accounts as f64);
        rows.end(&mut families);
        families
    }
}
