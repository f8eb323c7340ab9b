//! Arms of an experiment, and shadow traffic.

use serde_json::json;

use super::common::{Strait, chat, eventually, mock};
use super::{of, post, provider, who};

#[test]
fn arms_are_named_recorded_and_counted() {
    let (stable, next) = (mock(""), mock(""));
    let strait = Strait::start(&format!(
        r#"
        {}{}
        [models.m]
        strategy = "weighted"
        targets = [{{ model = "stable/x", weight = 3, arm = "a" }}, {{ model = "next/x", weight = 1, arm = "b" }}]
        [models.plain]
        targets = ["stable/x"]
        "#,
        provider("stable", &stable, "price = { in = 1000, out = 1000 }"),
        provider("next", &next, ""),
    ));
    const COUNT: usize = 200;
    let mut b = 0;
    for _ in 0..COUNT {
        let answer = post(&strait, &[], &chat("m", "hi"));
        let arm = if who(&answer) == "stable" { "a" } else { "b" };
        assert_eq!(answer.header("x-strait-arm"), Some(arm));
        b += usize::from(arm == "b");
    }
    // Fifty are expected; six deviations are 37.
    assert!((13..=87).contains(&b), "{b} of {COUNT}");
    let records = strait.records(COUNT);
    let told = records.iter().filter(|record| record["arm"] == "b").count();
    assert_eq!(told, b);
    let count = |arm: &str| {
        strait.metric(
            "strait_arm_requests_total",
            &["model=\"m\"", &format!("arm=\"{arm}\""), "status=\"2xx\""],
        )
    };
    assert_eq!((count("a"), count("b")), ((COUNT - b) as f64, b as f64));
    assert_eq!(
        strait.metric("strait_arm_duration_seconds_count", &["arm=\"b\""]),
        b as f64
    );
    assert!(strait.metric("strait_arm_cost_usd_total", &["arm=\"a\""]) > 0.0);
    assert!(strait.metric("strait_arm_tokens_total", &["arm=\"b\"", "type=\"input\""]) > 0.0);
    let plain = post(&strait, &[], &chat("plain", "hi"));
    assert_eq!(plain.header("x-strait-arm"), None);
}

#[test]
fn an_arm_that_fails_is_seen_to_fail_though_nobody_noticed() {
    let (stable, canary) = (mock(""), mock("[[rule]]\nsteps = [{ status = 500 }]"));
    let strait = Strait::start(&format!(
        r#"
        {}{}
        [models.m]
        targets = [{{ model = "canary/x", arm = "canary" }}, {{ model = "stable/x", arm = "stable" }}]
        "#,
        provider("stable", &stable, ""),
        provider("canary", &canary, ""),
    ));
    let answer = post(&strait, &[], &chat("m", "hi"));
    assert_eq!(who(&answer), "stable");
    let record = &strait.records(1)[0];
    assert_eq!(
        (&record["arm"], &record["arm_missed"]),
        (&json!("stable"), &json!("canary"))
    );
    let failed = ["arm=\"canary\"", "status=\"failover\""];
    assert_eq!(strait.metric("strait_arm_requests_total", &failed), 1.0);
}

#[test]
fn a_shadow_gets_a_copy_with_a_record_of_its_own_and_nobody_sees_its_answer() {
    let (lab, other) = (mock(""), mock(""));
    let strait = Strait::start(&format!(
        r#"
        {}{}
        [models.m]
        targets = ["lab/x"]
        shadow = {{ model = "other/y" }}
        [cache]
        enabled = true
        [[keys]]
        name = "one"
        key = "key-of-one"
        limits = {{ rpm = 1000 }}
        "#,
        provider("lab", &lab, ""),
        provider("other", &other, "price = { in = 1000, out = 1000 }"),
    ));
    let key = [("authorization", "Bearer key-of-one")];
    for stream in [false, true] {
        let mut body = chat("m", "hi");
        body["stream"] = json!(stream);
        let answer = post(&strait, &key, &body);
        assert_eq!(who(&answer), "lab");
        if !stream {
            let left: u64 = answer
                .header("x-ratelimit-remaining-requests")
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(left, 999, "the copy counts against no limit");
        }
    }
    // The second was answered from the cache: no copy of it.
    let records = strait.records(3);
    let copies = of(&records, "other/y");
    assert_eq!(copies.len(), 1, "{records:?}");
    let copy = &copies[0];
    let original = &of(&records, "m")[0];
    assert_eq!(copy["shadow_of"], original["id"]);
    assert_eq!(
        (&copy["provider"], &copy["endpoint"]),
        (&json!("other"), &original["endpoint"])
    );
    assert_eq!(
        (&copy["status"], &copy["key"]),
        (&json!(200), &json!("one"))
    );
    assert!(
        copy["cost_pico"].as_u64().unwrap() > 0,
        "it cost something: {copy}"
    );
    assert_eq!(original["shadow_of"], json!(null));
    eventually("it is counted", || {
        strait.metric("strait_shadow_total", &["model=\"m\"", "result=\"ok\""]) == 1.0
    });
    assert_eq!(other.calls()[0].json()["model"], "y");
    let clients = strait.metric(
        "strait_requests_total",
        &["endpoint=\"chat\"", "provider=\"other\""],
    );
    assert_eq!(clients, 0.0, "it is no client's request");
    let body = chat("m", "not there");
    let headers = [key[0], ("x-strait-cache", "only-if-cached")];
    assert_eq!(post(&strait, &headers, &body).status, 504);
    assert_eq!(other.counts().count, 1);
}

#[test]
fn a_shadow_that_hangs_or_fails_harms_nobody_and_is_bounded() {
    let (lab, other) = (mock(""), mock("[[rule]]\nsteps = [{ stall_head = true }]"));
    let strait = Strait::start(&format!(
        r#"
        {}{}
        [models.m]
        targets = ["lab/x"]
        shadow = {{ model = "other/y", max_inflight = 2 }}
        "#,
        provider("lab", &lab, ""),
        provider("other", &other, ""),
    ));
    for _ in 0..5 {
        assert_eq!(who(&post(&strait, &[], &chat("m", "hi"))), "lab");
    }
    eventually("two are stalled", || other.counts().in_progress == 2);
    assert_eq!(
        strait.metric("strait_shadow_total", &["result=\"skipped\""]),
        3.0
    );
    let broken = strait::mock::Script::from_toml("[[rule]]\nsteps = [{ status = 500 }]").unwrap();
    other.set_script(broken);
    assert_eq!(other.counts().count, 2);
}

#[test]
fn streams_are_copied_and_read_to_their_end() {
    let (lab, other) = (mock(""), mock(""));
    let strait = Strait::start(&format!(
        "{}{}[models.m]\ntargets = [\"lab/x\"]\nshadow = {{ model = \"other/y\", share = 1 }}\n",
        provider("lab", &lab, ""),
        provider("other", &other, ""),
    ));
    let mut body = chat("m", "one two three");
    body["stream"] = json!(true);
    assert_eq!(who(&post(&strait, &[], &body)), "lab");
    let records = strait.records(2);
    let copy = &of(&records, "other/y")[0];
    assert_eq!(
        (&copy["stream"], &copy["finish"]),
        (&json!(true), &json!("stop"))
    );
    assert!(copy["usage"]["output"].as_u64().unwrap() > 0);
    assert_eq!(
        copy["usage"]["estimated"],
        json!(null),
        "the provider told it: {copy}"
    );
}
