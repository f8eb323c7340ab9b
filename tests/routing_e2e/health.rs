//! What fails, and what is then done: health checks, cooldowns, keys in turn, the retry budget and timers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strait::mock::{Listen, Mock, Script};

use super::common::dialect::Dialect;
use super::common::{Strait, at_once, eventually, mock};
use super::{answered_by, ask, attempts, pairs, provider};

/// One provider at two addresses; `more` goes into its table.
fn pair(first: &Mock, second: &Mock, more: &str) -> Strait {
    Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        endpoints = [{{ url = "{}/v1" }}, {{ url = "{}/v1" }}]
        key = "the-provider-key"
        {more}
        "#,
        first.url(),
        second.url(),
    ))
}

#[test]
fn an_address_that_dies_is_left_out_and_taken_back_without_a_failure() {
    let checks = "health = { path = \"/health\", every = \"200ms\", timeout = \"2s\", unhealthy_after = 2, healthy_after = 1 }";
    for more in [checks, ""] {
        let (first, second) = (mock(""), mock(""));
        let strait = pair(&first, &second, more);
        let address = second.addr;
        let label = format!("endpoint=\"{address}\"");
        let health = || strait.metric("strait_endpoint_health", &[&label]);
        for _ in 0..40 {
            assert_eq!(ask(&strait, "lab/x").status, 200);
        }
        let counts = (first.counts().count, second.counts().count);
        assert!(
            counts.0 >= 10 && counts.1 >= 10,
            "both are used: {counts:?}"
        );
        let done = AtomicBool::new(false);
        let mut second = Some(second);
        let failures: usize = std::thread::scope(|scope| {
            let traffic: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut failures = 0;
                        while !done.load(Ordering::Relaxed) {
                            failures += usize::from(ask(&strait, "lab/x").status != 200);
                            std::thread::sleep(Duration::from_millis(2));
                        }
                        failures
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(200));
            drop(second.take());
            if more.is_empty() {
                std::thread::sleep(Duration::from_secs(1));
            } else {
                eventually("the dead one is unhealthy", || health() == 0.0);
            }
            let listen = Listen {
                addr: address,
                ..Listen::default()
            };
            second = Some(Mock::start_on(listen, Script::default()).unwrap());
            if !more.is_empty() {
                eventually("the new one is healthy", || health() == 1.0);
            }
            eventually("the new one is used", || {
                second.as_ref().unwrap().counts().count > 5
            });
            done.store(true, Ordering::Relaxed);
            traffic
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(failures, 0, "clients saw the death ({more})");
        drop(second);
    }
}

#[test]
fn an_address_that_says_it_is_unwell_gets_no_requests() {
    let unwell = "[[rule]]\npath = \"/health\"\nsteps = [{ status = 503 }]";
    let (first, second) = (mock(""), mock(unwell));
    let checks = "health = { path = \"/health\", every = \"100ms\", timeout = \"2s\", unhealthy_after = 1, healthy_after = 1 }";
    let strait = pair(&first, &second, checks);
    let label = format!("endpoint=\"{}\"", second.addr);
    eventually("it is unhealthy", || {
        second.counts().health_checks > 2
            && strait.metric("strait_endpoint_health", &[&label]) == 0.0
    });
    second.clear_calls();
    for _ in 0..20 {
        assert_eq!(ask(&strait, "lab/x").status, 200);
    }
    assert_eq!(second.counts().count, 0);
    // When all are unwell the least bad is better than none.
    first.set_script(Script::from_toml(unwell).unwrap());
    let label = format!("endpoint=\"{}\"", first.addr);
    eventually("both are unhealthy", || {
        strait.metric("strait_endpoint_health", &[&label]) == 0.0
    });
    assert_eq!(ask(&strait, "lab/x").status, 200);
}

fn cooldowns(strait: &Strait) -> Vec<Value> {
    let answer = strait.admin("GET", "/admin/v1/cooldowns", "");
    assert_eq!(answer.status, 200);
    answer.json()["cooldowns"].as_array().unwrap().clone()
}

#[test]
fn a_key_that_is_refused_is_put_aside_listed_and_taken_back_by_the_operator() {
    for (status, blame) in [
        (401, "credential"),
        (402, "credential"),
        (403, "credential"),
        (429, "quota"),
    ] {
        let lab = mock(&format!(
            "[[rule]]\nheader = {{ name = \"authorization\", value = \"Bearer refused-key\" }}\nsteps = [{{ status = {status}, headers = {{ retry-after = \"40\" }} }}]"
        ));
        let strait = Strait::start(&format!(
            r#"
            [providers.lab]
            protocols = ["openai-chat"]
            base_url = "{}/v1"
            keys = [{{ name = "bad", key = "refused-key", weight = 1000 }}, {{ name = "good", key = "accepted-key" }}]
            "#,
            lab.url()
        ));
        let refused = || {
            lab.calls()
                .iter()
                .filter(|call| call.status == status)
                .count()
        };
        for _ in 0..20 {
            assert_eq!(ask(&strait, "lab/x").status, 200);
        }
        assert_eq!(
            refused(),
            1,
            "{status}: a key that said `not before` is not asked before"
        );
        let record = &strait.records(1)[0];
        assert_eq!(
            (
                &record["attempts"][0]["credential"],
                &record["attempts"][0]["status"]
            ),
            (&json!("bad"), &json!(status))
        );
        assert_eq!(record["attempts"][1]["credential"], "good", "{record}");
        let listed = cooldowns(&strait);
        assert_eq!(listed.len(), 1, "{status}: {listed:?}");
        assert_eq!(
            (&listed[0]["provider"], &listed[0]["blame"]),
            (&json!("lab"), &json!(blame))
        );
        assert!(
            listed[0]["name"].as_str().unwrap().contains("bad"),
            "{listed:?}"
        );
        assert!(
            (1..=40_000).contains(&listed[0]["remaining_ms"].as_u64().unwrap()),
            "{listed:?}"
        );
        assert_eq!(listed[0]["told_by_provider"], json!(true));
        assert_eq!(strait.metric("strait_cooldown", &["provider=\"lab\""]), 1.0);
        assert_eq!(
            strait.metric(
                "strait_cooldowns_total",
                &["provider=\"lab\"", &format!("reason=\"{blame}\"")]
            ),
            1.0
        );
        let cleared = strait.admin("DELETE", "/admin/v1/cooldowns", "");
        assert_eq!(
            (cleared.status, &cleared.json()["cooldowns"]),
            (200, &json!([]))
        );
        assert!(cooldowns(&strait).is_empty());
        // By weight the bad one comes again first, almost always.
        for _ in 0..20 {
            assert_eq!(ask(&strait, "lab/x").status, 200);
        }
        assert_eq!(refused(), 2, "{status}");
    }
}

#[test]
fn what_recovers_is_found_without_an_operator() {
    let (flaky, good) = (mock("[default]\nstatus = 503"), mock(""));
    let strait = Strait::start(&format!(
        "{}{}[models.m]\ntargets = [\"flaky/x\", \"good/x\"]\n",
        provider("flaky", &flaky),
        provider("good", &good),
    ));
    let until = Instant::now() + Duration::from_secs(10);
    while cooldowns(&strait).is_empty() && Instant::now() < until {
        assert_eq!(answered_by(&ask(&strait, "m")), "good");
    }
    let listed = cooldowns(&strait);
    assert_eq!(
        (&listed[0]["provider"], &listed[0]["blame"]),
        (&json!("flaky"), &json!("serving"))
    );
    // While it cools it is not asked, and afterwards it is asked by one request at a time.
    let calls = flaky.counts().count;
    at_once(8, |_| answered_by(&ask(&strait, "m")));
    assert!(
        flaky.counts().count <= calls + 1,
        "{} calls while it cooled",
        flaky.counts().count - calls
    );
    flaky.set_script(Script::default());
    eventually("it is trusted again", || {
        answered_by(&ask(&strait, "m")) == "flaky"
    });
    assert_eq!(answered_by(&ask(&strait, "m")), "flaky");
    assert!(cooldowns(&strait).is_empty());
}

#[test]
fn the_last_one_is_asked_even_while_it_cools() {
    let flaky = mock("[default]\nstatus = 503");
    let strait = Strait::start(&format!(
        "{}[models.m]\ntargets = [\"flaky/x\"]\nretries = {{ max_attempts = 1 }}\n",
        provider("flaky", &flaky)
    ));
    for _ in 0..5 {
        assert_eq!(ask(&strait, "m").status, 503);
    }
    assert_eq!(flaky.counts().count, 5, "it was still asked");
    assert!(!cooldowns(&strait).is_empty());
    flaky.set_script(Script::default());
    assert_eq!(
        ask(&strait, "m").status,
        200,
        "a single target is never cooled to nothing"
    );
}

#[test]
fn an_outage_is_not_multiplied() {
    let (first, second) = (
        mock("[default]\nstatus = 503"),
        mock("[default]\nstatus = 503"),
    );
    let strait = Strait::start(&format!(
        "{}{}[models.m]\ntargets = [\"dead1/x\", \"dead2/x\"]\nretries = {{ max_attempts = 8, backoff = \"1ms\" }}\n",
        provider("dead1", &first),
        provider("dead2", &second),
    ));
    let began = Instant::now();
    let failed: usize = at_once(10, |_| {
        (0..100).filter(|_| ask(&strait, "m").status >= 500).count()
    })
    .into_iter()
    .sum();
    assert_eq!(failed, 1000);
    let calls = first.counts().count + second.counts().count;
    // A fifth more than requests, the savings of the start (256), and ten a second.
    let most = 1200.0 + 256.0 + 10.0 * (began.elapsed().as_secs_f64() + 1.0);
    assert!(calls >= 1000, "each request is tried: {calls}");
    assert!(
        (calls as f64) < most,
        "{calls} calls for 1000 requests, at most {most}"
    );
    assert!(strait.metric("strait_retry_budget_exhausted_total", &[]) > 0.0);
}

#[test]
fn no_more_attempts_than_allowed() {
    let bad = mock("[default]\nstatus = 500");
    let strait = Strait::start(&format!(
        "{}{}{}[models.m]\ntargets = [\"a/x\", \"b/x\", \"c/x\"]\nretries = {{ max_attempts = 2, backoff = \"1ms\" }}\n",
        provider("a", &bad),
        provider("b", &bad),
        provider("c", &bad),
    ));
    // Of several targets no one's words stand for all.
    assert_eq!(ask(&strait, "m").status, 502);
    assert_eq!(bad.counts().count, 2);
    assert_eq!(
        attempts(&strait.records(1)[0]),
        pairs(&[("a", "status"), ("b", "status")])
    );
    assert_eq!(ask(&strait, "a/x").status, 500);
    assert_eq!(bad.counts().count, 6, "four where nothing else is said");
}

#[test]
fn the_clients_own_time_ends_a_request() {
    let silent = mock("[default]\nstall_head = true");
    let strait = Strait::start(&format!(
        "{}{}[models.m]\ntargets = [\"a/x\", \"b/x\"]\n",
        provider("a", &silent),
        provider("b", &silent)
    ));
    for dialect in Dialect::ALL {
        let began = Instant::now();
        let body = dialect.body("m", "hi", false).to_string();
        let answer = strait.client().post(
            dialect.path(),
            &[("x-strait-timeout", "500ms")],
            body.as_bytes(),
        );
        let took = began.elapsed();
        assert_eq!(answer.status, 504, "{}", answer.text());
        assert!(dialect.error(&answer.json()).is_some(), "{}", answer.text());
        assert!(took >= Duration::from_millis(490), "{took:?}");
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
    eventually("the provider was told", || silent.counts().in_progress == 0);
    let answer = strait.client().post(
        Dialect::OpenAi.path(),
        &[("x-strait-timeout", "soon")],
        b"{}",
    );
    assert_eq!(
        (answer.status, &answer.json()["error"]["param"]),
        (400, &json!("x-strait-timeout"))
    );
}

#[test]
fn a_models_timers_go_before_its_providers() {
    let (silent, good) = (mock("[default]\nstall_head = true"), mock(""));
    let stalls = mock("[default]\nchunks = 6\nstall_after = 0");
    let strait = Strait::start(&format!(
        r#"
        {}{}{}
        [models.first-byte]
        targets = ["silent/x", "good/x"]
        timeouts = {{ first_byte = "300ms" }}
        [models.idle]
        targets = ["stalls/x", "good/x"]
        timeouts = {{ idle = "300ms" }}
        [models.total]
        targets = ["silent/x", "good/x"]
        timeouts = {{ total = "300ms" }}
        "#,
        provider("silent", &silent),
        provider("good", &good),
        provider("stalls", &stalls),
    ));
    assert_eq!(answered_by(&ask(&strait, "first-byte")), "good");
    let answer = strait.post(
        Dialect::OpenAi.path(),
        &Dialect::OpenAi.body("idle", "say a few words", true),
    );
    assert_eq!(answered_by(&answer), "good");
    let answer = ask(&strait, "total");
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (504, Some("timeout")),
        "{}",
        answer.text()
    );
    let records = strait.records(3);
    assert_eq!(
        attempts(&records[0]),
        pairs(&[("silent", "timeout_first_byte"), ("good", "ok")])
    );
    assert_eq!(
        attempts(&records[1]),
        pairs(&[("stalls", "timeout_idle"), ("good", "ok")])
    );
}

#[test]
fn a_failure_is_held_against_no_more_than_what_failed() {
    let lab = mock(
        r#"
        [[rule]]
        model = "limited"
        steps = [{ status = 429, headers = { retry-after = "50" } }]
        [[rule]]
        model = "gone"
        steps = [{ status = 404 }]
        [[rule]]
        model = "broken"
        steps = [{ status = 500 }]
        [[rule]]
        header = { name = "authorization", value = "stolen-key" }
        steps = [{ status = 401 }]
        "#,
    );
    let strait = Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        base_url = "{url}/v1"
        key = "good-key"
        [providers.other]
        protocols = ["openai-chat"]
        base_url = "{url}/v1"
        key = "stolen-key"
        [models.m]
        targets = ["lab/broken", "lab/fine"]
        "#,
        url = lab.url(),
    ));
    for _ in 0..5 {
        for model in ["lab/limited", "lab/gone", "lab/broken"] {
            assert!(ask(&strait, model).status >= 400, "{model}");
        }
        // Another model of the same provider, key and address is as good as before.
        assert_eq!(ask(&strait, "lab/fine").status, 200);
        assert_eq!(answered_by(&ask(&strait, "m")), "lab");
        // A refused key is refused for every model of its provider.
        assert_eq!(ask(&strait, "other/fine").status, 502);
    }
    let blamed: BTreeSet<String> = cooldowns(&strait)
        .iter()
        .map(|one| one["blame"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        blamed.into_iter().collect::<Vec<_>>(),
        ["credential", "model", "quota", "serving"]
    );
    let limited = lab
        .calls()
        .iter()
        .filter(|call| call.model == "limited")
        .count();
    assert_eq!(
        limited, 1,
        "a provider that said `not before` is not asked before"
    );
    let answer = ask(&strait, "lab/limited");
    assert_eq!(answer.status, 429, "{}", answer.text());
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=50).contains(&wait), "{wait}");
    // What is known of a provider outlives a reload.
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    assert_eq!(ask(&strait, "lab/limited").status, 429);
    assert_eq!(
        lab.calls()
            .iter()
            .filter(|call| call.model == "limited")
            .count(),
        1
    );
}
