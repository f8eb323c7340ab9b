//! The rows of atomics that exchanges are counted in, and the metrics that are sums over them.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use dashmap::DashMap;
use prometheus::core::Desc;
use prometheus::proto::MetricFamily;

use super::histogram::{Histogram, Total};
use super::metrics::{MOST_ROWS, Rows, desc};
use super::record::{CacheOutcome, INTER_TOKEN_BOUNDS_NS, Mode, OUTCOMES, Phase, Record};
use crate::protocol::usage::Usage;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

/// OpenTelemetry's `gen_ai.server.request.duration`, and three more: agents run for many minutes.
const DURATION_BOUNDS: [u64; 17] = [
    10 * MS,
    20 * MS,
    40 * MS,
    80 * MS,
    160 * MS,
    320 * MS,
    640 * MS,
    1280 * MS,
    2560 * MS,
    5120 * MS,
    10_240 * MS,
    20_480 * MS,
    40_960 * MS,
    81_920 * MS,
    163_840 * MS,
    327_680 * MS,
    655_360 * MS,
];
/// OpenTelemetry's `time_to_first_token`, and up to a minute: models think.
const TTFT_BOUNDS: [u64; 18] = [
    MS,
    5 * MS,
    10 * MS,
    20 * MS,
    40 * MS,
    60 * MS,
    80 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    750 * MS,
    SECOND,
    2500 * MS,
    5 * SECOND,
    7500 * MS,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
];
/// The gateway's own time is told in microseconds.
const OVERHEAD_BOUNDS: [u64; 16] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    MS,
    2_500_000,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    SECOND,
    5 * SECOND,
];

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Parts of a [`Usage`] that are counted: `input` and `output` are totals, the others are parts of them.
type Tokens = (&'static str, fn(&Usage) -> u64);
const TOKENS: [Tokens; 9] = [
    ("input", |usage| usage.input),
    ("output", |usage| usage.output),
    ("cache_read", |usage| usage.cache_read),
    ("cache_write", |usage| {
        usage
            .cache_write
            .saturating_add(usage.cache_write_1h)
            .saturating_add(usage.cache_write_12h)
    }),
    ("reasoning", |usage| usage.reasoning),
    ("audio_input", |usage| usage.audio_in),
    ("audio_output", |usage| usage.audio_out),
    ("image_input", |usage| usage.image_in),
    ("image_output", |usage| usage.image_out),
];

/// Places in [`TOKENS`].
const INPUT: usize = 0;
const READ: usize = 2;

/// The overhead histograms: one for each phase, and the whole.
const OVERHEADS: usize = Phase::COUNT + 1;

const DURATIONS: usize = DURATION_BOUNDS.len() + 1;
const TTFTS: usize = TTFT_BOUNDS.len() + 1;
const GAPS: usize = INTER_TOKEN_BOUNDS_NS.len() + 1;
const OVERS: usize = OVERHEAD_BOUNDS.len() + 1;

const OTHER: &str = "other";
const NONE: &str = "none";

/// All rows.
pub struct Table {
    /// By hash of the names; the names are compared, so a collision costs a step and not an error.
    rows: DashMap<u64, Vec<Arc<Row>>>,
    hasher: RandomState,
    count: AtomicUsize,
    overflow: AtomicU64,
}

/// Everything that one (endpoint, provider, model) has been through.
struct Row {
    endpoint: &'static str,
    provider: Box<str>,
    model: Box<str>,
    classes: [AtomicU64; CLASSES.len()],
    cache: [AtomicU64; CacheOutcome::ALL.len()],
    duration: Histogram<DURATIONS>,
    overhead: [Histogram<OVERS>; OVERHEADS],
    ttft: Histogram<TTFTS>,
    gaps: Histogram<GAPS>,
    tokens: [AtomicU64; TOKENS.len()],
    cost_pico: AtomicU64,
    saved_pico: AtomicU64,
    unpriced: AtomicU64,
    usage_missing: AtomicU64,
    outcomes: [AtomicU64; OUTCOMES.len()],
    /// New, reused.
    connections: [AtomicU64; 2],
    retries: AtomicU64,
    fallbacks: AtomicU64,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            rows: DashMap::new(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            overflow: AtomicU64::new(0),
        }
    }
}

impl Row {
    fn new(endpoint: &'static str, provider: &str, model: &str) -> Self {
        Self {
            endpoint,
            provider: provider.into(),
            model: model.into(),
            classes: Default::default(),
            cache: Default::default(),
            duration: Histogram::default(),
            overhead: Default::default(),
            ttft: Histogram::default(),
            gaps: Histogram::default(),
            tokens: Default::default(),
            cost_pico: AtomicU64::new(0),
            saved_pico: AtomicU64::new(0),
            unpriced: AtomicU64::new(0),
            usage_missing: AtomicU64::new(0),
            outcomes: Default::default(),
            connections: Default::default(),
            retries: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
        }
    }

    fn is(&self, endpoint: &str, provider: &str, model: &str) -> bool {
        *self.model == *model && *self.provider == *provider && self.endpoint == endpoint
    }

    fn observe(&self, record: &Record) {
        let class = usize::from(record.status / 100).clamp(1, CLASSES.len()) - 1;
        bump(&self.classes[class], 1);
        bump(&self.cache[record.cache as usize], 1);
        self.duration.observe(&DURATION_BOUNDS, record.duration);
        if !record.overhead.is_zero() {
            self.overhead[Phase::COUNT].observe(&OVERHEAD_BOUNDS, record.overhead);
        }
        for (histogram, time) in self.overhead.iter().zip(record.phases) {
            if !time.is_zero() {
                histogram.observe(&OVERHEAD_BOUNDS, time);
            }
        }
        // What the cache gave costs no tokens and says nothing of a provider's speed.
        if matches!(
            record.cache,
            CacheOutcome::Hit | CacheOutcome::Coalesced | CacheOutcome::Stale
        ) {
            bump(&self.saved_pico, record.saved_pico.unwrap_or_default());
            return;
        }
        if let Some(ttft) = record.ttft {
            self.ttft.observe(&TTFT_BOUNDS, ttft);
        }
        if record.inter_token.sum_ns > 0 {
            self.gaps
                .add(&record.inter_token.buckets, record.inter_token.sum_ns);
        }
        if let Some(usage) = &record.usage {
            for (counter, (_, part)) in self.tokens.iter().zip(TOKENS) {
                bump(counter, part(usage));
            }
        }
        bump(&self.cost_pico, record.cost_pico.unwrap_or_default());
        bump(&self.unpriced, u64::from(record.unpriced));
        let asked = matches!(record.mode, Mode::Pass | Mode::Translate) && class == 1;
        let missing = record.usage.as_ref().is_none_or(|usage| usage.estimated);
        bump(&self.usage_missing, u64::from(asked && missing));
    }

    fn attempt(&self, outcome: &str, reused: bool) {
        let at = OUTCOMES
            .iter()
            .position(|known| *known == outcome)
            .unwrap_or(OUTCOMES.len() - 1);
        bump(&self.outcomes[at], 1);
        if !matches!(
            outcome,
            "resolve" | "connect" | "tls" | "timeout_connect" | "cancelled"
        ) {
            bump(&self.connections[usize::from(reused)], 1);
        }
    }
}

/// Adds, and leaves alone what would not change: an untouched line stays in the other cores' caches.
fn bump(counter: &AtomicU64, by: u64) {
    if by > 0 {
        counter.fetch_add(by, Relaxed);
    }
}

impl Table {
    pub fn observe(&self, record: &Record) {
        let provider = if record.provider.is_empty() {
            NONE
        } else {
            &record.provider
        };
        let model = match (record.model.is_empty(), record.model_known) {
            (true, _) => NONE,
            (false, true) => &record.model,
            (false, false) => OTHER,
        };
        // A copy is no request of a client's.
        let endpoint = if record.shadow_of.is_some() {
            "shadow"
        } else {
            record.endpoint
        };
        let row = self.row(endpoint, provider, model);
        row.observe(record);
        for (at, attempt) in record.attempts.iter().enumerate() {
            let own = attempt.provider == record.provider;
            if own {
                row.attempt(attempt.outcome, attempt.reused);
            } else {
                let other = self.row(endpoint, &attempt.provider, OTHER);
                other.attempt(attempt.outcome, attempt.reused);
            }
            let Some(before) = at
                .checked_sub(1)
                .and_then(|before| record.attempts.get(before))
            else {
                continue;
            };
            let again = before.provider == attempt.provider && before.model == attempt.model;
            bump(if again { &row.retries } else { &row.fallbacks }, 1);
        }
    }

    fn row(&self, endpoint: &'static str, provider: &str, model: &str) -> Arc<Row> {
        let hash = self.hasher.hash_one((endpoint, provider, model));
        if let Some(found) = self.rows.get(&hash)
            && let Some(row) = found.iter().find(|row| row.is(endpoint, provider, model))
        {
            return row.clone();
        }
        let spare = (provider, model) == (OTHER, OTHER);
        if !spare && self.count.load(Relaxed) >= MOST_ROWS {
            bump(&self.overflow, 1);
            return self.row(endpoint, OTHER, OTHER);
        }
        let mut rows = self.rows.entry(hash).or_default();
        // Another thread may have made it since.
        if let Some(row) = rows.iter().find(|row| row.is(endpoint, provider, model)) {
            return row.clone();
        }
        let row = Arc::new(Row::new(endpoint, provider, model));
        rows.push(row.clone());
        self.count.fetch_add(1, Relaxed);
        row
    }

    pub fn descs() -> Vec<Desc> {
        METRICS
            .iter()
            .map(|(name, help, labels)| desc(name, help, labels))
            .collect()
    }

    pub fn collect(&self) -> Vec<MetricFamily> {
        let mut rows: Vec<Arc<Row>> = self.rows.iter().flat_map(|found| found.clone()).collect();
        rows.sort_by(|a, b| {
            (a.endpoint, &a.provider, &a.model).cmp(&(b.endpoint, &b.provider, &b.model))
        });
        let mut families = Vec::with_capacity(METRICS.len());
        self.collect_requests(&rows, &mut families);
        self.collect_models(&rows, &mut families);
        self.collect_attempts(&rows, &mut families);
        self.collect_totals(&rows, &mut families);
        families
    }

    fn collect_requests(&self, rows: &[Arc<Row>], families: &mut Vec<MetricFamily>) {
        let mut requests = counter(REQUESTS);
        for row in rows {
            for (class, count) in CLASSES.iter().zip(&row.classes) {
                let labels = [
                    ("endpoint", row.endpoint),
                    ("provider", &row.provider),
                    ("model", &row.model),
                    ("status_class", class),
                ];
                push_some(&mut requests, &labels, count.load(Relaxed));
            }
        }
        requests.end(families);

        let mut sums: BTreeMap<(&str, &str), Total<DURATIONS>> = BTreeMap::new();
        for row in rows {
            row.duration
                .read_into(sums.entry((row.endpoint, &row.provider)).or_default());
        }
        let mut durations = histogram(DURATION);
        for ((endpoint, provider), sum) in sums.iter().filter(|(_, sum)| !sum.is_empty()) {
            let labels = [("endpoint", *endpoint), ("provider", *provider)];
            durations.push_histogram(&labels, sum.export(&DURATION_BOUNDS));
        }
        durations.end(families);

        let mut overheads = histogram(OVERHEAD);
        let names = Phase::ALL
            .iter()
            .map(|phase| phase.as_str())
            .chain(["total"]);
        for (at, name) in names.enumerate() {
            let mut sum = Total::default();
            rows.iter()
                .for_each(|row| row.overhead[at].read_into(&mut sum));
            if !sum.is_empty() {
                overheads.push_histogram(&[("phase", name)], sum.export(&OVERHEAD_BOUNDS));
            }
        }
        overheads.end(families);
    }

    fn collect_models(&self, rows: &[Arc<Row>], families: &mut Vec<MetricFamily>) {
        let mut models: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
        for row in rows {
            models
                .entry((&row.provider, &row.model))
                .or_default()
                .push(row);
        }
        let (mut ttfts, mut gaps) = (histogram(TTFT), histogram(INTER_TOKEN));
        let (mut tokens, mut costs) = (counter(TOKENS_TOTAL), counter(COST));
        let mut unpriced = counter(UNPRICED);
        for ((provider, model), rows) in &models {
            let labels = [("provider", *provider), ("model", *model)];
            let mut sum = Total::default();
            rows.iter().for_each(|row| row.ttft.read_into(&mut sum));
            if !sum.is_empty() {
                ttfts.push_histogram(&labels, sum.export(&TTFT_BOUNDS));
            }
            let mut sum = Total::default();
            rows.iter().for_each(|row| row.gaps.read_into(&mut sum));
            if !sum.is_empty() {
                gaps.push_histogram(&labels, sum.export(&INTER_TOKEN_BOUNDS_NS));
            }
            for (at, (part, _)) in TOKENS.iter().enumerate() {
                let count = sum_of(rows, |row| &row.tokens[at]);
                push_some(&mut tokens, &[labels[0], labels[1], ("type", part)], count);
            }
            let cost = sum_of(rows, |row| &row.cost_pico);
            if cost > 0 {
                costs.push(&labels, cost as f64 / 1e12);
            }
            push_some(&mut unpriced, &labels, sum_of(rows, |row| &row.unpriced));
        }
        for family in [ttfts, gaps, tokens, costs, unpriced] {
            family.end(families);
        }
    }

    fn collect_attempts(&self, rows: &[Arc<Row>], families: &mut Vec<MetricFamily>) {
        let mut providers: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        for row in rows {
            providers.entry(&row.provider).or_default().push(row);
        }
        let (mut attempts, mut connections) = (counter(ATTEMPTS), counter(CONNECTIONS));
        for (provider, rows) in &providers {
            for (at, outcome) in OUTCOMES.iter().enumerate() {
                let count = sum_of(rows, |row| &row.outcomes[at]);
                push_some(
                    &mut attempts,
                    &[("provider", provider), ("outcome", outcome)],
                    count,
                );
            }
            for (at, reused) in ["false", "true"].iter().enumerate() {
                let count = sum_of(rows, |row| &row.connections[at]);
                push_some(
                    &mut connections,
                    &[("provider", provider), ("reused", reused)],
                    count,
                );
            }
        }
        attempts.end(families);
        connections.end(families);
        let mut ratios = Rows::gauge(CACHE_READ.0, CACHE_READ.1);
        for (provider, rows) in &providers {
            let input = sum_of(rows, |row| &row.tokens[INPUT]);
            if input > 0 {
                let read = sum_of(rows, |row| &row.tokens[READ]);
                ratios.push(&[("provider", provider)], read as f64 / input as f64);
            }
        }
        ratios.end(families);
    }

    fn collect_totals(&self, rows: &[Arc<Row>], families: &mut Vec<MetricFamily>) {
        let rows: Vec<&Row> = rows.iter().map(|row| &**row).collect();
        let mut cache = counter(CACHE);
        for (at, kind) in CacheOutcome::ALL.iter().enumerate() {
            let count = sum_of(&rows, |row| &row.cache[at]);
            cache.push(&[("kind", kind.as_str())], count as f64);
        }
        cache.end(families);
        for (metric, count) in [
            (
                USAGE_MISSING,
                sum_of(&rows, |row| &row.usage_missing) as f64,
            ),
            (RETRIES, sum_of(&rows, |row| &row.retries) as f64),
            (FALLBACKS, sum_of(&rows, |row| &row.fallbacks) as f64),
            (SAVED, sum_of(&rows, |row| &row.saved_pico) as f64 / 1e12),
            (OVERFLOW, self.overflow.load(Relaxed) as f64),
        ] {
            let mut row = counter(metric);
            row.push(&[], count);
            row.end(families);
        }
    }
}

type Metric = (&'static str, &'static str, &'static [&'static str]);

const REQUESTS: Metric = (
    "strait_requests_total",
    "Requests answered, by status class.",
    &["endpoint", "provider", "model", "status_class"],
);
const DURATION: Metric = (
    "strait_request_duration_seconds",
    "From the request's first byte to the answer's last.",
    &["endpoint", "provider"],
);
const OVERHEAD: Metric = (
    "strait_overhead_seconds",
    "Time in the gateway itself until the answer's head, by phase; `total` is all but `upstream`.",
    &["phase"],
);
const TTFT: Metric = (
    "strait_time_to_first_token_seconds",
    "From the request to a stream's first token.",
    &["provider", "model"],
);
const INTER_TOKEN: Metric = (
    "strait_inter_token_seconds",
    "Time between the pieces of a stream.",
    &["provider", "model"],
);
const TOKENS_TOTAL: Metric = (
    "strait_tokens_total",
    "Tokens used; input and output are totals, the other types are parts of them.",
    &["provider", "model", "type"],
);
const COST: Metric = (
    "strait_cost_usd_total",
    "Cost in US dollars.",
    &["provider", "model"],
);
const ATTEMPTS: Metric = (
    "strait_attempts_total",
    "Tries at providers, by how they ended.",
    &["provider", "outcome"],
);
const CACHE_READ: Metric = (
    "strait_cache_read_ratio",
    "The part of all input tokens that the provider read from its prompt cache.",
    &["provider"],
);
const CONNECTIONS: Metric = (
    "strait_upstream_connections_total",
    "Attempts by whether their connection had been used before.",
    &["provider", "reused"],
);
const CACHE: Metric = (
    "strait_cache_requests_total",
    "Requests by what the cache did.",
    &["kind"],
);
const UNPRICED: Metric = (
    "strait_unpriced_requests_total",
    "Requests that no price is known for.",
    &["provider", "model"],
);
const USAGE_MISSING: Metric = (
    "strait_usage_missing_total",
    "Answers without usage, or with an estimate instead.",
    &[],
);
const RETRIES: Metric = (
    "strait_retries_total",
    "Attempts at the target that had just failed.",
    &[],
);
const FALLBACKS: Metric = (
    "strait_fallbacks_total",
    "Attempts at another target than the one that had failed.",
    &[],
);
const SAVED: Metric = (
    "strait_cache_saved_usd_total",
    "What cache hits would have cost, in US dollars.",
    &[],
);
const OVERFLOW: Metric = (
    "strait_metrics_overflow_total",
    "Exchanges counted as `other` because there were too many series.",
    &[],
);

const METRICS: [Metric; 17] = [
    CACHE_READ,
    REQUESTS,
    DURATION,
    OVERHEAD,
    TTFT,
    INTER_TOKEN,
    TOKENS_TOTAL,
    COST,
    ATTEMPTS,
    CONNECTIONS,
    CACHE,
    UNPRICED,
    USAGE_MISSING,
    RETRIES,
    FALLBACKS,
    SAVED,
    OVERFLOW,
];

fn counter(metric: Metric) -> Rows {
    Rows::counter(metric.0, metric.1)
}

fn histogram(metric: Metric) -> Rows {
    Rows::histogram(metric.0, metric.1)
}

fn push_some(rows: &mut Rows, labels: &[(&str, &str)], count: u64) {
    if count > 0 {
        rows.push(labels, count as f64);
    }
}

fn sum_of(rows: &[&Row], part: impl Fn(&Row) -> &AtomicU64) -> u64 {
    rows.iter()
        .map(|row| part(row).load(Relaxed))
        .fold(0, u64::saturating_add)
}
