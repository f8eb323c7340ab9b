//! What is counted.

use super::common::dialect::Dialect;
use super::common::{Client, eventually};
use super::{KEY, lab, post};

#[test]
fn every_metric_is_there_and_right() {
    let (strait, _provider) = lab("[cache]\nenabled = true");
    let (openai, anthropic) = (Dialect::OpenAi, Dialect::Anthropic);
    for text in ["one", "two", "two"] {
        assert_eq!(
            post(
                &strait,
                openai,
                &[],
                &openai.body("openai/gpt-4o", text, false)
            )
            .status,
            200
        );
    }
    assert_eq!(
        post(
            &strait,
            openai,
            &[],
            &openai.body("openai/gpt-4o", "three", true)
        )
        .status,
        200
    );
    assert_eq!(
        post(
            &strait,
            anthropic,
            &[],
            &anthropic.body("fast", "one", true)
        )
        .status,
        200
    );
    assert_eq!(
        post(
            &strait,
            anthropic,
            &[],
            &anthropic.body("both", "one", false)
        )
        .status,
        200
    );
    assert_eq!(
        post(
            &strait,
            openai,
            &[],
            &openai.body("lab/never-heard-of", "one", false)
        )
        .status,
        200
    );
    assert_eq!(
        post(&strait, openai, &[], &openai.body("lab/mute", "one", false)).status,
        200
    );
    assert_eq!(
        post(&strait, openai, &[], &openai.body("nowhere", "one", false)).status,
        404
    );
    assert_eq!(strait.client().post(openai.path(), &[], b"{}").status, 401);
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    strait.records(10);
    let metric = |name: &str, labels: &[&str]| strait.metric(name, labels);
    let gpt = ["provider=\"openai\"", "model=\"gpt-4o\""];
    let of = |labels: &[&'static str]| [&gpt[..], labels].concat();
    for (name, labels, expected) in [
        (
            "strait_requests_total",
            of(&["endpoint=\"chat\"", "status_class=\"2xx\""]),
            4.0,
        ),
        (
            "strait_requests_total",
            of(&["endpoint=\"messages\"", "status_class=\"2xx\""]),
            1.0,
        ),
        (
            "strait_requests_total",
            vec!["provider=\"lab\"", "model=\"x\"", "endpoint=\"messages\""],
            1.0,
        ),
        (
            "strait_requests_total",
            vec![
                "provider=\"lab\"",
                "model=\"other\"",
                "status_class=\"2xx\"",
            ],
            2.0,
        ),
        (
            "strait_requests_total",
            vec!["status_class=\"4xx\"", "model=\"none\""],
            2.0,
        ),
        ("strait_requests_total", vec![], 10.0),
        (
            "strait_request_duration_seconds_count",
            vec!["endpoint=\"chat\"", "provider=\"openai\""],
            4.0,
        ),
        ("strait_request_duration_seconds_count", vec![], 10.0),
        (
            "strait_overhead_seconds_count",
            vec!["phase=\"total\""],
            10.0,
        ),
        (
            "strait_time_to_first_token_seconds_count",
            vec!["provider=\"lab\"", "model=\"x\""],
            1.0,
        ),
        // The hit costs nothing: two whole ones, one stream, one fallback.
        ("strait_tokens_total", of(&["type=\"input\""]), 4000.0),
        ("strait_tokens_total", of(&["type=\"output\""]), 2000.0),
        ("strait_tokens_total", of(&["type=\"cache_read\""]), 1600.0),
        (
            "strait_attempts_total",
            vec!["provider=\"openai\"", "outcome=\"ok\""],
            4.0,
        ),
        (
            "strait_attempts_total",
            vec!["provider=\"bad\"", "outcome=\"status\""],
            1.0,
        ),
        ("strait_fallbacks_total", vec![], 1.0),
        ("strait_retries_total", vec![], 0.0),
        ("strait_cache_requests_total", vec!["kind=\"hit\""], 1.0),
        ("strait_cache_requests_total", vec!["kind=\"miss\""], 7.0),
        ("strait_unpriced_requests_total", vec![], 3.0),
        ("strait_usage_missing_total", vec![], 1.0),
        ("strait_inflight", vec![], 0.0),
        ("strait_streams_open", vec![], 0.0),
        ("strait_config_generation", vec![], 2.0),
        ("strait_reloads_total", vec!["result=\"ok\""], 1.0),
        ("strait_records_dropped_total", vec![], 0.0),
        ("strait_records_queue", vec![], 0.0),
        ("strait_endpoint_health", vec!["provider=\"bad\""], 1.0),
        ("strait_build_info", vec!["version="], 1.0),
    ] {
        assert_eq!(
            metric(name, &labels),
            expected,
            "{name} {labels:?} in\n{}",
            strait.metrics()
        );
    }
    let near = |name: &str, labels: &[&str], expected: f64| {
        let value = metric(name, labels);
        assert!(
            (value - expected).abs() < 1e-9,
            "{name}: {value} instead of {expected}"
        );
    };
    near("strait_cost_usd_total", &gpt, 4.0 * 0.007);
    near("strait_cache_saved_usd_total", &[], 0.007);
    assert!(metric("strait_inter_token_seconds_count", &[]) > 0.0);
    assert!(
        metric(
            "strait_upstream_connections_total",
            &["provider=\"openai\"", "reused=\"true\""]
        ) >= 1.0
    );
    assert!(
        metric(
            "strait_upstream_connections_total",
            &["provider=\"openai\"", "reused=\"false\""]
        ) >= 1.0
    );
    assert!(metric("strait_cache_bytes", &[]) > 0.0);
    assert_eq!(metric("strait_cache_entries", &[]), 7.0);
    assert!(metric("process_resident_memory_bytes", &[]) > 1e6);
    for phase in [
        "read", "access", "cache", "route", "prepare", "upstream", "write",
    ] {
        assert!(
            metric(
                "strait_overhead_seconds_count",
                &[&format!("phase=\"{phase}\"")]
            ) > 0.0,
            "{phase}"
        );
    }
    let text = strait.metrics();
    for name in ["never-heard-of", "nowhere", "u-1"] {
        assert!(
            !text.contains(name),
            "a name that a client chose is a label: {name}"
        );
    }
    // Each name is described once, and each line is a sample of a described name.
    for line in text.lines() {
        let name = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split(' ').next());
        if let Some(name) = name {
            assert_eq!(
                text.matches(&format!("# HELP {name} ")).count(),
                1,
                "{name}"
            );
            assert_eq!(
                text.matches(&format!("# TYPE {name} ")).count(),
                1,
                "{name}"
            );
        }
    }
}

#[test]
fn in_flight_streams_and_refusals_are_counted_while_they_last() {
    let (strait, provider) = lab("limits = { concurrent = 2 }");
    let body = Dialect::OpenAi.body("lab/silent", "hi", false).to_string();
    let ask = || {
        strait.client().send_only(
            Dialect::OpenAi.path(),
            &[("x-api-key", KEY)],
            body.as_bytes(),
        )
    };
    let held = [ask(), ask()];
    eventually("both are asked", || provider.counts().count == 2);
    assert_eq!(strait.metric("strait_inflight", &[]), 2.0);
    assert_eq!(
        post(
            &strait,
            Dialect::OpenAi,
            &[],
            &Dialect::OpenAi.body("fast", "hi", false)
        )
        .status,
        429
    );
    assert_eq!(
        strait.metric("strait_rate_limited_total", &["limit=\"concurrent\""]),
        1.0
    );
    drop(held);
    eventually("none is left", || {
        strait.metric("strait_inflight", &[]) == 0.0
    });
}

#[test]
fn the_admin_port_tells_nothing_without_its_token_but_health_and_metrics() {
    let (strait, _provider) = lab("");
    let admin = Client::new(strait.admin);
    for path in ["/metrics", "/health/live", "/health/ready"] {
        assert_eq!(admin.get(path).status, 200, "{path}");
    }
    assert!(
        admin
            .get("/metrics")
            .header("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    for (method, path) in [
        ("GET", "/admin/v1/status"),
        ("GET", "/admin/v1/cooldowns"),
        ("DELETE", "/admin/v1/cooldowns"),
        ("POST", "/admin/v1/reload"),
        ("POST", "/admin/v1/explain"),
        ("GET", "/admin/v1/anything"),
    ] {
        for headers in [
            vec![],
            vec![("authorization", "Bearer wrong")],
            vec![("x-api-key", KEY)],
        ] {
            assert_eq!(
                admin.request(method, path, &headers, b"").status,
                401,
                "{method} {path}"
            );
        }
        // None of it is on the other port.
        assert_ne!(
            strait
                .client()
                .request(method, path, &[("x-api-key", KEY)], b"")
                .status,
            200,
            "{method} {path}"
        );
    }
    assert_ne!(
        strait
            .client()
            .request("GET", "/metrics", &[("x-api-key", KEY)], b"")
            .status,
        200
    );
}
