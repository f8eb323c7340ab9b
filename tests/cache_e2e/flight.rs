//! Identical requests at once, and the bounds of what is kept.

use std::time::Duration;

use serde_json::Value;
use strait::mock::Outcome;

use super::common::dialect::Dialect;
use super::common::{Strait, at_once, eventually, mock};
use super::{cache, lab, post};

#[test]
fn fifty_identical_requests_in_flight_make_one_call() {
    for dialect in Dialect::ALL {
        for kind in ["whole", "streamed", "mixed"] {
            let (strait, provider) = lab(
                dialect,
                "[default]\ndelay_head = \"3s\"\ntext = \"for all\"",
            );
            let answers = at_once(50, |at| {
                let stream = kind == "streamed" || (kind == "mixed" && at % 2 == 1);
                post(&strait, dialect, &[], &dialect.body("m", "hi", stream))
            });
            let count = |kind: &str| {
                answers
                    .iter()
                    .filter(|answer| cache(answer) == kind)
                    .count()
            };
            let case = format!("{dialect:?}, {kind}");
            for answer in &answers {
                assert_eq!(answer.status, 200, "{case}: {}", answer.text());
                assert_eq!(dialect.said(answer).text, "for all", "{case}");
            }
            assert_eq!(provider.counts().count, 1, "{case}");
            // Whoever was late on a slow machine found the answer kept.
            assert_eq!(
                (count("miss"), count("coalesced") + count("hit")),
                (1, 49),
                "{case}"
            );
            assert!(
                count("coalesced") > 25,
                "{case}: {} coalesced",
                count("coalesced")
            );
        }
    }
}

/// Waits until `count` requests are being served.
fn inflight(strait: &Strait, count: usize) {
    eventually(&format!("{count} in flight"), || {
        strait.metric("strait_inflight", &[]) == count as f64
    });
}

#[test]
fn a_leader_that_leaves_goes_on_for_those_who_wait() {
    let steps = [
        (false, "delay_head = \"4s\""),
        (true, "delay_head = \"4s\""),
        (true, "chunks = 8\nchunk_gap = \"500ms\""),
    ];
    for dialect in Dialect::ALL {
        for (stream, step) in steps {
            let (strait, provider) = lab(
                dialect,
                &format!("[default]\ntext = \"for those who wait\"\n{step}"),
            );
            let body = dialect.body("m", "hi", stream).to_string();
            let leader = strait
                .client()
                .send_only(dialect.path(), &[], body.as_bytes());
            eventually("the leader's call", || provider.counts().count == 1);
            let answers = std::thread::scope(|scope| {
                let followers: Vec<_> = (0..5)
                    .map(|_| {
                        scope.spawn(|| strait.client().post(dialect.path(), &[], body.as_bytes()))
                    })
                    .collect();
                inflight(&strait, 6);
                drop(leader);
                followers
                    .into_iter()
                    .map(|follower| follower.join().unwrap())
                    .collect::<Vec<_>>()
            });
            for answer in &answers {
                assert_eq!(answer.status, 200, "{dialect:?}, {step}: {}", answer.text());
                assert_eq!(
                    dialect.said(answer).text,
                    "for those who wait",
                    "{dialect:?}, {step}"
                );
                assert_eq!(cache(answer), "coalesced", "{dialect:?}, {step}");
            }
            assert_eq!(provider.counts().count, 1, "{dialect:?}, {step}");
            inflight(&strait, 0);
            let records = strait.records(6);
            let leader: Vec<&Value> = records
                .iter()
                .filter(|record| record["cache"] == "miss")
                .collect();
            assert_eq!(leader.len(), 1, "{dialect:?}, {step}: {records:?}");
            assert_eq!(
                leader[0]["attempts"].as_array().unwrap().len(),
                1,
                "{dialect:?}, {step}"
            );
        }
    }
}

#[test]
fn when_all_have_left_the_provider_is_told_at_once() {
    let steps = [
        (false, "stall_head = true"),
        (true, "stall_head = true"),
        (true, "chunks = 6\nstall_after = 2"),
    ];
    for dialect in Dialect::ALL {
        for (stream, step) in steps {
            let (strait, provider) = lab(dialect, &format!("[default]\n{step}"));
            let body = dialect.body("m", "hi there, you", stream).to_string();
            let leader = strait
                .client()
                .send_only(dialect.path(), &[], body.as_bytes());
            eventually("the leader's call", || provider.counts().count == 1);
            let ask = || {
                strait
                    .client()
                    .send_only(dialect.path(), &[], body.as_bytes())
            };
            let followers = [ask(), ask(), ask()];
            inflight(&strait, 4);
            drop(leader);
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(
                provider.calls()[0].outcome,
                Outcome::InProgress,
                "{dialect:?}, {step}: others wait"
            );
            drop(followers);
            eventually("the provider's call is cancelled", || {
                provider.calls()[0].outcome == Outcome::ClientGone
            });
            inflight(&strait, 0);
            assert_eq!(provider.counts().count, 1, "{dialect:?}, {step}");
            let records = strait.records(4);
            assert!(
                records.iter().all(|record| record["status"] == 499),
                "{dialect:?}, {step}: {records:?}"
            );
        }
    }
}

#[test]
fn the_leaders_error_reaches_all_who_waited() {
    let steps = [
        (
            "{ status = 400, delay_head = \"3s\", error = { message = \"wrong for all\" } }",
            400,
        ),
        (
            "{ status = 429, delay_head = \"3s\", headers = { retry-after = \"31\" } }",
            429,
        ),
        ("{ status = 503, delay_head = \"3s\" }", 503),
        ("{ close_before_head = true, delay_head = \"3s\" }", 502),
    ];
    for dialect in Dialect::ALL {
        for (step, status) in steps {
            let (strait, provider) = lab(dialect, &format!("[[rule]]\nsteps = [{step}]"));
            let answers = at_once(20, |_| {
                post(&strait, dialect, &[], &dialect.body("m", "hi", false))
            });
            assert_eq!(provider.counts().count, 1, "{dialect:?}, {step}");
            for answer in &answers {
                assert_eq!(
                    answer.status,
                    status,
                    "{dialect:?}, {step}: {}",
                    answer.text()
                );
                assert!(
                    dialect.error(&answer.json()).is_some(),
                    "{dialect:?}, {step}: {}",
                    answer.text()
                );
                assert_eq!(
                    answer.header("retry-after") == Some("31"),
                    status == 429,
                    "{dialect:?}, {step}"
                );
            }
        }
    }
}

#[test]
fn the_cache_is_asked_only_after_access_and_limits() {
    let provider = mock("");
    let strait = Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat", "anthropic"]
        base_url = "{}/v1"
        key = "the-provider-key"
        [[keys]]
        name = "three"
        key = "key-of-three-0123456789"
        limits = {{ rpm = 3 }}
        [[keys]]
        name = "narrow"
        key = "key-of-narrow-0123456789"
        models = ["lab/y"]
        [cache]
        enabled = true
        "#,
        provider.url()
    ));
    let dialect = Dialect::OpenAi;
    let body = dialect.body("lab/x", "hi", false);
    let ask = |key: &str| {
        post(
            &strait,
            dialect,
            &[("authorization", &format!("Bearer {key}"))],
            &body,
        )
    };
    let three = || ask("key-of-three-0123456789");
    assert_eq!(cache(&three()), "miss");
    assert_eq!(
        ask("key-of-nobody-0123456789").status,
        401,
        "a bad key never gets a hit"
    );
    assert_eq!(post(&strait, dialect, &[], &body).status, 401);
    assert_eq!(ask("key-of-narrow-0123456789").status, 403);
    let second = three();
    assert_eq!(
        (
            cache(&second),
            second.header("x-ratelimit-remaining-requests")
        ),
        ("hit", Some("1"))
    );
    assert_eq!(cache(&three()), "hit");
    let fourth = three();
    assert_eq!(
        (fourth.status, cache(&fourth)),
        (429, "absent"),
        "hits count: {}",
        fourth.text()
    );
    assert_eq!(provider.counts().count, 1);
}

#[test]
fn the_cache_stays_within_its_memory() {
    let provider = mock("[default]\ntext_bytes = 60000");
    let strait = Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        base_url = "{}/v1"
        key = "the-provider-key"
        [cache]
        enabled = true
        memory = "1MiB"
        "#,
        provider.url()
    ));
    let dialect = Dialect::OpenAi;
    let mut most: f64 = 0.0;
    for at in 0..100 {
        let stream = at % 2 == 0;
        let answer = post(
            &strait,
            dialect,
            &[],
            &dialect.body("lab/x", &format!("number {at}"), stream),
        );
        assert_eq!((answer.status, cache(&answer)), (200, "miss"));
        most = most.max(strait.metric("strait_cache_bytes", &[]));
    }
    assert!(most > 100_000.0, "something is kept: {most}");
    assert!(most <= 1_048_576.0, "{most} bytes");
    assert!(strait.metric("strait_cache_entries", &[]) <= 17.0);
}

#[test]
fn after_a_reload_what_is_kept_is_still_there_unless_the_model_means_another_one() {
    let provider = mock("");
    let config = |target: &str| {
        format!(
            r#"
            [providers.lab]
            protocols = ["openai-chat"]
            base_url = "{}/v1"
            key = "the-provider-key"
            [models.m]
            targets = ["lab/{target}"]
            [cache]
            enabled = true
            "#,
            provider.url()
        )
    };
    let strait = Strait::start(&config("x"));
    let ask = || {
        cache(&post(
            &strait,
            Dialect::OpenAi,
            &[],
            &Dialect::OpenAi.body("m", "hi", false),
        ))
        .to_owned()
    };
    assert_eq!(ask(), "miss");
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    assert_eq!(ask(), "hit");
    strait.write_config(&config("y"), "");
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    assert_eq!(ask(), "miss", "another target, another answer");
}
