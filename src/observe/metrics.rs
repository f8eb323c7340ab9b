//! Metrics: one struct, one registry, Prometheus text on the admin port.
//!
//! An exchange is counted once, at its end, from its record. Everything it changes stands in one row of atomics
//! found by one look-up of (endpoint, provider, model); the metrics with fewer labels are sums over rows, made
//! when somebody scrapes. Label sets are bounded: endpoints are ours, providers and models come from the
//! configuration or the catalogue, and beyond [`MOST_ROWS`] rows everything new is `other`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use super::arms::Arms;
use super::process::Process;
use super::record::Record;
use super::rows::Table;

/// Rows of (endpoint, provider, model); beyond it new ones count as `other`.
pub const MOST_ROWS: usize = 2000;

/// Upper bounds of the time in the queue, in seconds.
const QUEUE_WAITS: [f64; 9] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];

/// What is counted. Shared by everything, made once.
pub struct Metrics {
    registry: Registry,
    table: Arc<Table>,
    live: Arc<Mutex<Live>>,
    records_queue: Arc<AtomicI64>,
    inflight: IntGauge,
    streams_open: IntGauge,
    retry_budget_exhausted: IntCounter,
    cache_bytes: IntGauge,
    cache_entries: IntGauge,
    reloads: [IntCounter; 2],
    generation: IntGauge,
    records_dropped: IntCounter,
    rate_limited: IntCounterVec,
    hedges: IntCounterVec,
    rules_met: IntCounterVec,
    rule_errors: IntCounterVec,
    continuations: IntCounterVec,
    queue_depth: IntGauge,
    queue_wait: Histogram,
    rejected: IntCounterVec,
    shadows: IntCounterVec,
    arms: Arms,
}

/// What is told seldom: state that others own, shown as it was last told, and cooldowns begun.
#[derive(Default)]
struct Live {
    /// By provider and reason.
    begun: BTreeMap<(Box<str>, &'static str), u64>,
    cooldowns: Vec<Cooldown>,
    health: Vec<Health>,
}

/// Something that is cooling down now: `scope` says what it is blamed on and `name` which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cooldown {
    pub provider: String,
    /// `credential`, `quota`, `endpoint`, `serving` or `model`.
    pub scope: &'static str,
    pub name: String,
    /// A single probe may go through.
    pub half_open: bool,
}

/// What the active checks say of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub provider: String,
    /// `host:port`.
    pub endpoint: String,
    pub healthy: bool,
}

/// One more of something, until it is dropped.
#[derive(Debug)]
pub struct Count(IntGauge);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let table = Arc::new(Table::default());
        let live = Arc::new(Mutex::new(Live::default()));
        let records_queue = Arc::new(AtomicI64::new(0));
        let reloads = counters(
            &registry,
            "strait_reloads_total",
            "Configuration reloads by result.",
            "result",
        );
        let info = Opts::new("strait_build_info", "Always 1; the version is the label.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        register(&registry, IntGauge::with_opts(info)).set(1);
        add(&registry, Exchanges::new(table.clone()));
        add(&registry, Told::new(live.clone(), records_queue.clone()));
        add(&registry, Process::new());
        Self {
            table,
            live,
            records_queue,
            inflight: gauge(&registry, "strait_inflight", "Requests being served."),
            streams_open: gauge(
                &registry,
                "strait_streams_open",
                "Streamed answers being sent.",
            ),
            retry_budget_exhausted: counter(
                &registry,
                "strait_retry_budget_exhausted_total",
                "Retries not made because the retry budget was used up.",
            ),
            cache_bytes: gauge(
                &registry,
                "strait_cache_bytes",
                "Bytes held by the response cache.",
            ),
            cache_entries: gauge(
                &registry,
                "strait_cache_entries",
                "Answers held by the response cache.",
            ),
            reloads: ["ok", "failed"].map(|result| reloads.with_label_values(&[result])),
            generation: gauge(
                &registry,
                "strait_config_generation",
                "Number of the configuration in force.",
            ),
            records_dropped: counter(
                &registry,
                "strait_records_dropped_total",
                "Records lost: the queue was full or they could not be written.",
            ),
            rate_limited: counters(
                &registry,
                "strait_rate_limited_total",
                "Requests refused by a limit.",
                "limit",
            ),
            hedges: counters(
                &registry,
                "strait_hedges_total",
                "Attempts that were late, by what came of a second one.",
                "result",
            ),
            rules_met: counters(
                &registry,
                "strait_rules_met_total",
                "Requests that a rule was about.",
                "rule",
            ),
            rule_errors: counters(
                &registry,
                "strait_rule_errors_total",
                "Requests that a rule could not be asked of.",
                "rule",
            ),
            continuations: counters(
                &registry,
                "strait_continuations_total",
                "Streams that broke off after their beginning, by what came of going on.",
                "result",
            ),
            queue_depth: gauge(
                &registry,
                "strait_queue_depth",
                "Requests waiting because too many are in flight.",
            ),
            queue_wait: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "strait_queue_wait_seconds",
                        "Time that requests waited because too many were in flight.",
                    )
                    .buckets(QUEUE_WAITS.to_vec()),
                ),
            ),
            rejected: counters(
                &registry,
                "strait_rejected_total",
                "Requests refused because too many were in flight: in front of what, and why.",
                "scope reason",
            ),
            shadows: counters(
                &registry,
                "strait_shadow_total",
                "Copies of requests by the model that was asked for, and what came of them.",
                "model result",
            ),
            arms: Arms::new(&registry),
            registry,
        }
    }

    /// Adds what somebody else counts. Each collector once.
    pub fn add(&self, collector: impl Collector + 'static) {
        add(&self.registry, collector);
    }

    /// Counts a finished exchange.
    pub fn observe(&self, record: &Record) {
        self.table.observe(record);
        self.arms.observe(record);
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn enter(&self) -> Count {
        self.inflight.inc();
        Count(self.inflight.clone())
    }

    /// Counts a stream as open until the guard is dropped.
    pub fn open_stream(&self) -> Count {
        self.streams_open.inc();
        Count(self.streams_open.clone())
    }

    pub fn inflight(&self) -> i64 {
        self.inflight.get()
    }

    pub fn streams_open(&self) -> i64 {
        self.streams_open.get()
    }

    pub fn retry_budget_exhausted(&self) {
        self.retry_budget_exhausted.inc();
    }

    /// Counts a cooldown that begins. `reason` is one of a closed set.
    pub fn cooled(&self, provider: &str, reason: &'static str) {
        let begun = &mut self.live.lock().begun;
        let key = (provider.into(), reason);
        let full = begun.len() >= MOST_ROWS && !begun.contains_key(&key);
        let key = if full { ("other".into(), reason) } else { key };
        *begun.entry(key).or_default() += 1;
    }

    /// Says everything that is cooling down now; told before a scrape.
    pub fn set_cooldowns(&self, mut cooldowns: Vec<Cooldown>) {
        cooldowns.truncate(MOST_ROWS);
        self.live.lock().cooldowns = cooldowns;
    }

    /// Says the health of every endpoint; told before a scrape.
    pub fn set_health(&self, mut health: Vec<Health>) {
        health.truncate(MOST_ROWS);
        self.live.lock().health = health;
    }

    pub fn set_cache(&self, bytes: u64, entries: u64) {
        self.cache_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.cache_entries
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// Counts a reload.
    pub fn reloaded(&self, ok: bool) {
        self.reloads[usize::from(!ok)].inc();
    }

    pub fn set_generation(&self, generation: u64) {
        self.generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// Counts a refusal by `limit`, see `limit::Which::name`.
    pub fn rate_limited(&self, limit: &'static str) {
        self.rate_limited.with_label_values(&[limit]).inc();
    }

    /// Counts an attempt that was late. `result` is one of a closed set.
    pub fn hedged(&self, result: &'static str) {
        self.hedges.with_label_values(&[result]).inc();
    }

    /// Rules are few, and named by the operator.
    pub fn rule_met(&self, rule: &str) {
        self.rules_met.with_label_values(&[rule]).inc();
    }

    pub fn rule_failed(&self, rule: &str) {
        self.rule_errors.with_label_values(&[rule]).inc();
    }

    /// A stream broke off: `ok`, `cut` (again), `failed` (nobody went on), `barred` (it can't be gone on with) or
    /// `budget` (no retry was left).
    pub fn continuation(&self, result: &str) {
        self.continuations.with_label_values(&[result]).inc();
    }

    /// Counts a request as waiting for a place until the guard is dropped.
    pub fn queued(&self) -> Count {
        self.queue_depth.inc();
        Count(self.queue_depth.clone())
    }

    pub fn queue_waited(&self, time: std::time::Duration) {
        self.queue_wait.observe(time.as_secs_f64());
    }

    /// Counts a request that found no place: in front of `server` or `provider`, see `overload::Reason::name`.
    pub fn rejected(&self, scope: &'static str, reason: &'static str) {
        self.rejected.with_label_values(&[scope, reason]).inc();
    }

    /// Counts a copy of a request: `ok`, `cut`, `failed` or `skipped`. `model` is a configured name.
    pub fn shadowed(&self, model: &str, result: &'static str) {
        self.shadows.with_label_values(&[model, result]).inc();
    }

    pub fn records_dropped(&self, count: u64) {
        self.records_dropped.inc_by(count);
    }

    /// Returns how many records were lost.
    pub fn records_lost(&self) -> u64 {
        self.records_dropped.get()
    }

    /// Returns the gauge of records waiting to be written.
    pub(super) fn records_queue(&self) -> &Arc<AtomicI64> {
        &self.records_queue
    }

    /// Returns everything in Prometheus' text format, version 0.0.4 ([`prometheus::TEXT_FORMAT`]).
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(32 << 10);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics could not be written");
        }
        text
    }
}

/// What [`Table`] holds, as metrics.
struct Exchanges {
    table: Arc<Table>,
    descs: Vec<Desc>,
}

impl Exchanges {
    fn new(table: Arc<Table>) -> Self {
        Self {
            descs: Table::descs(),
            table,
        }
    }
}

impl Collector for Exchanges {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.table.collect()
    }
}

/// State that others own.
struct Told {
    live: Arc<Mutex<Live>>,
    records_queue: Arc<AtomicI64>,
    descs: Vec<Desc>,
}

const BEGUN: (&str, &str) = ("strait_cooldowns_total", "Cooldowns begun.");
const COOLDOWN: (&str, &str) = (
    "strait_cooldown",
    "What is cooling down: 1 not asked, 0.5 one probe allowed; absent when trusted.",
);
const HEALTH: (&str, &str) = (
    "strait_endpoint_health",
    "1 when the last active checks found the endpoint well, else 0.",
);
const QUEUE: (&str, &str) = ("strait_records_queue", "Records waiting to be written.");

impl Told {
    fn new(live: Arc<Mutex<Live>>, records_queue: Arc<AtomicI64>) -> Self {
        let descs = vec![
            desc(BEGUN.0, BEGUN.1, &["provider", "reason"]),
            desc(COOLDOWN.0, COOLDOWN.1, &["provider", "scope", "name"]),
            desc(HEALTH.0, HEALTH.1, &["provider", "endpoint"]),
            desc(QUEUE.0, QUEUE.1, &[]),
        ];
        Self {
            live,
            records_queue,
            descs,
        }
    }
}

impl Collector for Told {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let live = self.live.lock();
        let mut families = Vec::new();
        let mut rows = Rows::counter(BEGUN.0, BEGUN.1);
        for ((provider, reason), count) in &live.begun {
            rows.push(&[("provider", provider), ("reason", reason)], *count as f64);
        }
        rows.end(&mut families);
        let mut rows = Rows::gauge(COOLDOWN.0, COOLDOWN.1);
        for row in &live.cooldowns {
            let labels = [
                ("provider", row.provider.as_str()),
                ("scope", row.scope),
                ("name", &row.name),
            ];
            rows.push(&labels, if row.half_open { 0.5 } else { 1.0 });
        }
        rows.end(&mut families);
        let mut rows = Rows::gauge(HEALTH.0, HEALTH.1);
        for row in &live.health {
            let labels = [
                ("provider", row.provider.as_str()),
                ("endpoint", &row.endpoint),
            ];
            rows.push(&labels, f64::from(u8::from(row.healthy)));
        }
        rows.end(&mut families);
        let mut rows = Rows::gauge(QUEUE.0, QUEUE.1);
        rows.push(&[], self.records_queue.load(Relaxed).max(0) as f64);
        rows.end(&mut families);
        families
    }
}

/// One metric's rows, on their way to Prometheus.
pub struct Rows(MetricFamily);

impl Rows {
    fn new(name: &str, help: &str, kind: MetricType) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Self(family)
    }

    pub fn counter(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::COUNTER)
    }

    pub fn gauge(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::GAUGE)
    }

    pub fn histogram(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::HISTOGRAM)
    }

    pub fn push(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut metric = labelled(labels);
        if self.0.get_field_type() == MetricType::COUNTER {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.0.mut_metric().push(metric);
    }

    pub fn push_histogram(&mut self, labels: &[(&str, &str)], histogram: proto::Histogram) {
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.0.mut_metric().push(metric);
    }

    /// Hands the rows over; a metric without any is not shown.
    pub fn end(self, families: &mut Vec<MetricFamily>) {
        if !self.0.get_metric().is_empty() {
            families.push(self.0);
        }
    }
}

fn labelled(labels: &[(&str, &str)]) -> proto::Metric {
    let mut labels = labels.to_vec();
    // As the crate's own metrics have them.
    labels.sort_unstable();
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    proto::Metric::from_label(pairs.collect())
}

pub fn desc(name: &str, help: &str, labels: &[&str]) -> Desc {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    Desc::new(
        name.to_owned(),
        help.to_owned(),
        labels,
        std::collections::HashMap::new(),
    )
    .expect("names and labels are constants that a test makes")
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("names and labels are constants that a test makes");
    add(registry, metric.clone());
    metric
}

fn add(registry: &Registry, collector: impl Collector + 'static) {
    registry
        .register(Box::new(collector))
        .expect("every name is used once, and a test makes them all");
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &str) -> IntCounterVec {
    let labels: Vec<&str> = labels.split(' ').collect();
    register(registry, IntCounterVec::new(Opts::new(name, help), &labels))
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
