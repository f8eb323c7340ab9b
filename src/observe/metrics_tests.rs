//! What a scrape shows, after what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::*;
use crate::observe::record::{AttemptRecord, CacheOutcome, Mode, Phase};
use crate::protocol::usage::Usage;

fn attempt(provider: &str, model: &str, outcome: &'static str, reused: bool) -> AttemptRecord {
    let (provider, model) = (provider.to_owned(), model.to_owned());
    AttemptRecord {
        provider,
        model,
        outcome,
        reused,
        ..AttemptRecord::default()
    }
}

fn record() -> Record {
    let mut record = Record {
        endpoint: "chat",
        model: "gpt-5".into(),
        model_known: true,
        provider: "openai".into(),
        mode: Mode::Pass,
        status: 200,
        cache: CacheOutcome::Miss,
        attempts: vec![attempt("openai", "gpt-5", "ok", true)],
        usage: Some(Usage {
            input: 10,
            output: 5,
            ..Usage::default()
        }),
        cost_pico: Some(500_000_000_000),
        duration: Duration::from_millis(30),
        overhead: Duration::from_micros(60),
        ttft: Some(Duration::from_millis(7)),
        ..Record::default()
    };
    record.spent(Phase::Route, Duration::from_micros(3));
    record.inter_token.observe(Duration::from_millis(20));
    record
}

/// Reads the text format as a scraper does, and checks what `promtool check metrics` checks of it.
fn scrape(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = String::from_utf8(metrics.render()).unwrap();
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(
                !help.is_empty() && families.insert(name.to_owned()),
                "{line}: told twice"
            );
            family = name.to_owned();
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, this) = rest.split_once(' ').unwrap();
            assert_eq!(name, family, "{line}: type without its help");
            kind = this.to_owned();
            assert_eq!(
                kind == "counter",
                name.ends_with("_total"),
                "{line}: counters end in _total"
            );
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let base = match kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap(),
            _ => name,
        };
        assert_eq!(base, family, "{line}: a sample outside its family");
        let value: f64 = value.parse().unwrap();
        assert!(
            samples.insert(series.to_owned(), value).is_none(),
            "{line}: twice"
        );
    }
    samples
}

#[track_caller]
fn check(samples: &BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    for (series, value) in expected {
        let found = samples.get(*series);
        let close: Vec<_> = samples
            .keys()
            .filter(|key| key.split('{').next() == series.split('{').next())
            .collect();
        assert_eq!(found, Some(value), "{series}; there are {close:#?}");
    }
}

#[test]
fn an_exchange_sets_everything_it_changed() {
    let metrics = Metrics::new();
    metrics.observe(&record());
    metrics.observe(&record());
    let m = r#"{model="gpt-5",provider="openai"}"#;
    let samples = scrape(&metrics);
    check(
        &samples,
        &[
            (
                r#"strait_requests_total{endpoint="chat",model="gpt-5",provider="openai",status_class="2xx"}"#,
                2.0,
            ),
            (
                r#"strait_request_duration_seconds_count{endpoint="chat",provider="openai"}"#,
                2.0,
            ),
            (
                r#"strait_request_duration_seconds_sum{endpoint="chat",provider="openai"}"#,
                0.06,
            ),
            (
                r#"strait_request_duration_seconds_bucket{endpoint="chat",provider="openai",le="0.02"}"#,
                0.0,
            ),
            (
                r#"strait_request_duration_seconds_bucket{endpoint="chat",provider="openai",le="0.04"}"#,
                2.0,
            ),
            (
                r#"strait_request_duration_seconds_bucket{endpoint="chat",provider="openai",le="+Inf"}"#,
                2.0,
            ),
            (
                r#"strait_overhead_seconds_bucket{phase="total",le="0.00005"}"#,
                0.0,
            ),
            (
                r#"strait_overhead_seconds_bucket{phase="total",le="0.0001"}"#,
                2.0,
            ),
            (r#"strait_overhead_seconds_count{phase="route"}"#, 2.0),
            (&format!("strait_time_to_first_token_seconds_count{m}"), 2.0),
            (&format!("strait_inter_token_seconds_sum{m}"), 0.04),
            (
                r#"strait_tokens_total{model="gpt-5",provider="openai",type="input"}"#,
                20.0,
            ),
            (
                r#"strait_tokens_total{model="gpt-5",provider="openai",type="output"}"#,
                10.0,
            ),
            (&format!("strait_cost_usd_total{m}"), 1.0),
            (
                r#"strait_attempts_total{outcome="ok",provider="openai"}"#,
                2.0,
            ),
            (
                r#"strait_upstream_connections_total{provider="openai",reused="true"}"#,
                2.0,
            ),
            (r#"strait_cache_requests_total{kind="miss"}"#, 2.0),
            (r#"strait_cache_requests_total{kind="hit"}"#, 0.0),
            ("strait_usage_missing_total", 0.0),
            ("strait_retries_total", 0.0),
            ("strait_fallbacks_total", 0.0),
            ("strait_metrics_overflow_total", 0.0),
        ],
    );
}

#[test]
fn attempts_are_told_apart_as_retries_and_fallbacks() {
    let metrics = Metrics::new();
    let mut record = record();
    record.attempts = vec![
        attempt("azure", "gpt-5", "connect", false),
        attempt("azure", "gpt-5", "timeout_first_byte", false),
        attempt("openai", "gpt-5", "what is this", true),
        attempt("openai", "gpt-5", "ok", true),
    ];
    metrics.observe(&record);
    let samples = scrape(&metrics);
    check(
        &samples,
        &[
            ("strait_retries_total", 2.0),
            ("strait_fallbacks_total", 1.0),
            (
                r#"strait_attempts_total{outcome="connect",provider="azure"}"#,
                1.0,
            ),
            (
                r#"strait_attempts_total{outcome="timeout_first_byte",provider="azure"}"#,
                1.0,
            ),
            (
                r#"strait_attempts_total{outcome="other",provider="openai"}"#,
                1.0,
            ),
            (
                r#"strait_attempts_total{outcome="ok",provider="openai"}"#,
                1.0,
            ),
            // The one that did not connect had no connection to reuse.
            (
                r#"strait_upstream_connections_total{provider="azure",reused="false"}"#,
                1.0,
            ),
        ],
    );
    let requests = samples
        .keys()
        .filter(|key| key.starts_with("strait_requests_total"));
    assert_eq!(
        requests.count(),
        1,
        "a target that only failed answered no request"
    );
}

#[test]
fn a_kept_answer_costs_nothing_and_says_nothing_of_the_provider() {
    let metrics = Metrics::new();
    let mut record = record();
    record.cache = CacheOutcome::Hit;
    record.saved_pico = Some(2_000_000_000_000);
    record.attempts.clear();
    metrics.observe(&record);
    let samples = scrape(&metrics);
    check(
        &samples,
        &[
            ("strait_cache_saved_usd_total", 2.0),
            (r#"strait_cache_requests_total{kind="hit"}"#, 1.0),
        ],
    );
    for absent in [
        "strait_tokens_total",
        "strait_cost_usd_total",
        "strait_time_to_first_token_seconds",
    ] {
        assert!(
            !samples.keys().any(|key| key.starts_with(absent)),
            "{absent}"
        );
    }
}

#[test]
fn missing_and_estimated_usage_and_missing_prices_are_counted() {
    let metrics = Metrics::new();
    let (mut missing, mut estimated, mut refused) = (record(), record(), record());
    missing.usage = None;
    missing.unpriced = true;
    if let Some(usage) = &mut estimated.usage {
        usage.estimated = true;
    }
    refused.usage = None;
    refused.status = 429;
    for record in [&missing, &estimated, &refused] {
        metrics.observe(record);
    }
    check(
        &scrape(&metrics),
        &[
            ("strait_usage_missing_total", 2.0),
            (
                r#"strait_unpriced_requests_total{model="gpt-5",provider="openai"}"#,
                1.0,
            ),
        ],
    );
}

#[test]
fn what_clients_write_never_becomes_a_label() {
    let metrics = Metrics::new();
    for at in 0..100 {
        let model = format!("made-up-{at}");
        metrics.observe(&Record {
            model_known: false,
            model,
            ..record()
        });
        metrics.observe(&Record {
            endpoint: "chat",
            model_requested: at.to_string(),
            ..Record::default()
        });
    }
    let samples = scrape(&metrics);
    check(
        &samples,
        &[
            (
                r#"strait_requests_total{endpoint="chat",model="other",provider="openai",status_class="2xx"}"#,
                100.0,
            ),
            (
                r#"strait_requests_total{endpoint="chat",model="none",provider="none",status_class="1xx"}"#,
                100.0,
            ),
        ],
    );
}

#[test]
fn series_are_capped_and_the_rest_is_other() {
    let metrics = Metrics::new();
    for at in 0..MOST_ROWS + 500 {
        metrics.observe(&Record {
            model: format!("m{at}"),
            ..record()
        });
    }
    let samples = scrape(&metrics);
    let requests = samples
        .iter()
        .filter(|(key, _)| key.starts_with("strait_requests_total"));
    let (series, sum) = requests.fold((0, 0.0), |(series, sum), (_, value)| {
        (series + 1, sum + value)
    });
    assert_eq!(
        (series, sum),
        (MOST_ROWS + 1, (MOST_ROWS + 500) as f64),
        "nothing is lost"
    );
    check(
        &samples,
        &[
            ("strait_metrics_overflow_total", 500.0),
            (
                r#"strait_requests_total{endpoint="chat",model="other",provider="other",status_class="2xx"}"#,
                500.0,
            ),
        ],
    );
    for at in 0..MOST_ROWS + 50 {
        metrics.cooled(&format!("p{at}"), "quota");
    }
    check(
        &scrape(&metrics),
        &[(
            r#"strait_cooldowns_total{provider="other",reason="quota"}"#,
            50.0,
        )],
    );
}

#[test]
fn what_others_tell_is_shown() {
    let metrics = Metrics::new();
    let (request, stream) = (metrics.enter(), metrics.open_stream());
    metrics.retry_budget_exhausted();
    metrics.cooled("openai", "quota");
    metrics.set_cache(1000, 7);
    metrics.reloaded(true);
    metrics.reloaded(false);
    metrics.set_generation(3);
    metrics.rate_limited("rpm");
    metrics.records_dropped(4);
    metrics.set_cooldowns(vec![Cooldown {
        provider: "openai".into(),
        scope: "quota",
        name: "a \"quoted\"\nname".into(),
        half_open: false,
    }]);
    metrics.set_health(vec![Health {
        provider: "lab".into(),
        endpoint: "10.0.0.5:8000".into(),
        healthy: false,
    }]);
    let samples = scrape(&metrics);
    let cooldown = r#"strait_cooldown{name="a \"quoted\"\nname",provider="openai",scope="quota"}"#;
    check(
        &samples,
        &[
            ("strait_inflight", 1.0),
            ("strait_streams_open", 1.0),
            ("strait_retry_budget_exhausted_total", 1.0),
            (
                r#"strait_cooldowns_total{provider="openai",reason="quota"}"#,
                1.0,
            ),
            (cooldown, 1.0),
            (
                r#"strait_endpoint_health{endpoint="10.0.0.5:8000",provider="lab"}"#,
                0.0,
            ),
            ("strait_cache_bytes", 1000.0),
            ("strait_cache_entries", 7.0),
            (r#"strait_reloads_total{result="ok"}"#, 1.0),
            (r#"strait_reloads_total{result="failed"}"#, 1.0),
            ("strait_config_generation", 3.0),
            (r#"strait_rate_limited_total{limit="rpm"}"#, 1.0),
            ("strait_records_dropped_total", 4.0),
            ("strait_records_queue", 0.0),
        ],
    );
    assert!(
        samples
            .keys()
            .any(|key| key.starts_with("strait_build_info{version="))
    );
    drop((request, stream));
    metrics.set_cooldowns(Vec::new());
    let samples = scrape(&metrics);
    check(
        &samples,
        &[("strait_inflight", 0.0), ("strait_streams_open", 0.0)],
    );
    assert!(
        !samples.contains_key(cooldown),
        "a cooldown that ended is gone"
    );
}

#[test]
fn the_process_tells_its_own_figures() {
    if !std::path::Path::new("/proc/self/stat").exists() {
        return;
    }
    let samples = scrape(&Metrics::new());
    let value = |name: &str| *samples.get(name).unwrap_or(&-1.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_threads") >= 1.0);
    let age = jiff::Timestamp::now().as_second() as f64 - value("process_start_time_seconds");
    assert!((-2.0..86_400.0).contains(&age), "started {age} seconds ago");
}

#[test]
fn exchanges_counted_from_many_threads_all_count() {
    let metrics = Arc::new(Metrics::new());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let metrics = metrics.clone();
            std::thread::spawn(move || {
                let record = record();
                let begun = Instant::now();
                (0..20_000).for_each(|_| metrics.observe(&record));
                begun.elapsed() / 20_000
            })
        })
        .collect();
    for thread in threads {
        eprintln!(
            "counting one exchange, four threads at once: {:?}",
            thread.join().unwrap()
        );
    }
    let series = r#"strait_requests_total{endpoint="chat",model="gpt-5",provider="openai",status_class="2xx"}"#;
    check(&scrape(&metrics), &[(series, 80_000.0)]);
}
