//! Too much in flight: bounds, the queue, and refusals.

use std::net::TcpStream;

use super::common::{Answer, Strait, at_once, chat, eventually, mock};
use super::{CHAT, post, provider, who};

const HOLDS: &str = "[[rule]]\nbody_contains = \"hold\"\nsteps = [{ stall_head = true }]";

fn hold(strait: &Strait, headers: &[(&str, &str)]) -> TcpStream {
    let body = chat("m", "hold").to_string();
    strait.client().send_only(CHAT, headers, body.as_bytes())
}

fn refused(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(wait >= 1, "whole seconds");
}

#[test]
fn above_the_bound_requests_wait_and_then_are_refused_in_their_own_words() {
    let lab = mock(HOLDS);
    let config = format!(
        "{}[models.m]\ntargets = [\"lab/x\"]\n",
        provider("lab", &lab, "")
    );
    let server = "max_inflight = 1\nqueue = { size = 1, wait = \"300ms\" }";
    let strait = Strait::start_with(&config, server, &[]);
    let held = hold(&strait, &[]);
    eventually("one is held", || lab.counts().in_progress == 1);
    let late = post(&strait, &[], &chat("m", "hi"));
    refused(&late, 503);
    assert_eq!(late.json()["error"]["code"], "overloaded");
    let body = serde_json::json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let late = strait.post("/v1/messages", &body);
    refused(&late, 503);
    assert_eq!(late.json()["type"], "error", "in Anthropic's shape");
    assert_eq!(
        strait.metric(
            "strait_rejected_total",
            &["scope=\"server\"", "reason=\"late\""]
        ),
        2.0
    );
    assert!(strait.metric("strait_queue_wait_seconds_count", &[]) >= 2.0);
    drop(held);
    eventually("the place is free again", || {
        post(&strait, &[], &chat("m", "hi")).status == 200
    });
    assert_eq!(strait.metric("strait_queue_depth", &[]), 0.0);
}

#[test]
fn a_place_that_is_given_back_goes_to_who_waits() {
    let lab = mock(HOLDS);
    let config = format!(
        "{}[models.m]\ntargets = [\"lab/x\"]\n",
        provider("lab", &lab, "")
    );
    let server = "max_inflight = 1\nqueue = { size = 10, wait = \"30s\" }";
    let strait = Strait::start_with(&config, server, &[]);
    let held = hold(&strait, &[]);
    eventually("one is held", || lab.counts().in_progress == 1);
    // Who leaves the queue is no longer in it.
    let gone = hold(&strait, &[]);
    eventually("it waits", || {
        strait.metric("strait_queue_depth", &[]) == 1.0
    });
    drop(gone);
    eventually("it left", || {
        strait.metric("strait_queue_depth", &[]) == 0.0
    });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| post(&strait, &[], &chat("m", "hi")));
        eventually("it waits", || {
            strait.metric("strait_queue_depth", &[]) == 1.0
        });
        drop(held);
        assert_eq!(waiting.join().unwrap().status, 200);
    });
    assert_eq!(lab.counts().count, 2, "who left was never asked for");
}

#[test]
fn a_key_with_many_waiting_delays_another_by_one_place() {
    let slow = "[[rule]]\nbody_contains = \"slow\"\nsteps = [{ delay_head = \"60ms\" }]";
    let lab = mock(&format!("{HOLDS}\n{slow}"));
    let keys = ["greedy", "modest"]
        .map(|name| format!("[[keys]]\nname = \"{name}\"\nkey = \"key-of-{name}\"\n"));
    let config = format!(
        "{}[models.m]\ntargets = [\"lab/x\"]\n{}",
        provider("lab", &lab, ""),
        keys.concat()
    );
    let server = "max_inflight = 1\nqueue = { size = 20, wait = \"30s\" }";
    let strait = Strait::start_with(&config, server, &[]);
    let greedy = [("authorization", "Bearer key-of-greedy")];
    let modest = [("authorization", "Bearer key-of-modest")];
    let held = hold(&strait, &greedy);
    eventually("one is held", || lab.counts().in_progress == 1);
    let many: Vec<TcpStream> = (0..20)
        .map(|_| {
            let body = chat("m", "slow").to_string();
            strait.client().send_only(CHAT, &greedy, body.as_bytes())
        })
        .collect();
    eventually("the queue is full", || {
        strait.metric("strait_queue_depth", &[]) == 20.0
    });
    std::thread::scope(|scope| {
        let one = scope.spawn(|| post(&strait, &modest, &chat("m", "hi")));
        eventually("one of the many gave way", || {
            strait.metric("strait_rejected_total", &["reason=\"displaced\""]) == 1.0
        });
        // The greedy key is told that it is too many.
        refused(&post(&strait, &greedy, &chat("m", "hi")), 429);
        drop(held);
        assert_eq!(one.join().unwrap().status, 200);
    });
    assert!(
        lab.counts().count <= 5,
        "it was served after {} of the twenty",
        lab.counts().count
    );
    drop(many);
}

#[test]
fn the_higher_priority_goes_first_and_a_header_only_lowers_it() {
    let lab = mock(HOLDS);
    let keys = ["high", "low"].map(|name| {
        format!("[[keys]]\nname = \"{name}\"\nkey = \"key-of-{name}\"\npriority = \"{name}\"\n")
    });
    let config = format!(
        "{}[models.m]\ntargets = [\"lab/x\"]\n{}",
        provider("lab", &lab, ""),
        keys.concat()
    );
    let server = "max_inflight = 1\nqueue = { size = 10, wait = \"30s\" }";
    let strait = Strait::start_with(&config, server, &[]);
    let (high, low) = ("Bearer key-of-high", "Bearer key-of-low");
    let held = hold(&strait, &[("authorization", high)]);
    eventually("one is held", || lab.counts().in_progress == 1);
    std::thread::scope(|scope| {
        let strait = &strait;
        let mut threads = Vec::new();
        let asked: [(&str, &str, Option<&str>); 3] = [
            ("raised in vain", low, Some("high")),
            ("lowered", high, Some("normal")),
            ("high", high, None),
        ];
        for (at, (text, key, priority)) in asked.into_iter().enumerate() {
            threads.push(scope.spawn(move || {
                let mut headers = vec![("authorization", key)];
                headers.extend(priority.map(|priority| ("x-strait-priority", priority)));
                assert_eq!(post(strait, &headers, &chat("m", text)).status, 200);
            }));
            let depth = (at + 1) as f64;
            eventually("it waits", || {
                strait.metric("strait_queue_depth", &[]) == depth
            });
        }
        drop(held);
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let told: Vec<String> = lab
        .calls()
        .iter()
        .map(|call| {
            call.json()["messages"][0]["content"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .filter(|text| text != "hold")
        .collect();
    assert_eq!(told, ["high", "lowered", "raised in vain"]);
    let wrong = [("authorization", high), ("x-strait-priority", "urgent")];
    assert_eq!(post(&strait, &wrong, &chat("m", "hi")).status, 400);
}

#[test]
fn a_full_provider_is_passed_over_and_waited_for_where_there_is_no_other() {
    let (slow, other) = (mock(HOLDS), mock(""));
    let config = format!(
        "{}{}[models.m]\ntargets = [\"slow/x\", \"other/x\"]\n[models.alone]\ntargets = [\"slow/x\"]\n",
        provider("slow", &slow, "max_inflight = 1"),
        provider("other", &other, ""),
    );
    let server = "queue = { size = 10, wait = \"300ms\" }";
    let strait = Strait::start_with(&config, server, &[]);
    assert_eq!(who(&post(&strait, &[], &chat("m", "hi"))), "slow");
    let held = hold(&strait, &[]);
    eventually("one is held", || slow.counts().in_progress == 1);
    let answers = at_once(8, |_| who(&post(&strait, &[], &chat("m", "hi"))));
    assert!(answers.iter().all(|name| name == "other"), "{answers:?}");
    let late = post(&strait, &[], &chat("alone", "hi"));
    refused(&late, 503);
    assert_eq!(
        strait.metric(
            "strait_rejected_total",
            &["scope=\"provider\"", "reason=\"late\""]
        ),
        1.0
    );
    // Its own API counts, too.
    let body = chat("x", "hi").to_string();
    let raw = strait
        .client()
        .post("/slow/v1/chat/completions", &[], body.as_bytes());
    refused(&raw, 503);
    drop(held);
    eventually("it is asked again", || {
        post(&strait, &[], &chat("alone", "hi")).status == 200
    });
}

#[test]
fn hits_of_the_cache_need_no_place() {
    let lab = mock(HOLDS);
    let config = format!(
        "{}[models.m]\ntargets = [\"lab/x\"]\n[cache]\nenabled = true\n",
        provider("lab", &lab, "")
    );
    let server = "max_inflight = 1\nqueue = { size = 0 }";
    let strait = Strait::start_with(&config, server, &[]);
    assert_eq!(post(&strait, &[], &chat("m", "hi")).status, 200);
    eventually("it is kept", || {
        post(&strait, &[], &chat("m", "hi")).header("x-strait-cache") == Some("hit")
    });
    let _held = hold(&strait, &[]);
    eventually("one is held", || lab.counts().in_progress == 1);
    assert_eq!(post(&strait, &[], &chat("m", "hi")).status, 200);
    refused(&post(&strait, &[], &chat("m", "another")), 503);
}

#[test]
fn a_slow_provider_leaves_places_to_the_others() {
    let (slow, lab) = (mock(HOLDS), mock(""));
    let config = format!(
        "{}{}[models.m]\ntargets = [\"slow/x\"]\n[models.n]\ntargets = [\"lab/x\"]\n",
        provider("slow", &slow, ""),
        provider("lab", &lab, "")
    );
    let server = "max_inflight = 8\nqueue = { size = 100, wait = \"60s\" }";
    let strait = Strait::start_with(&config, server, &[]);
    let held: Vec<TcpStream> = (0..20).map(|_| hold(&strait, &[])).collect();
    eventually("three quarters are held", || slow.counts().in_progress == 6);
    // One waits for the provider, and the other thirteen are refused: the queue in front of it is full.
    eventually("the others are refused", || {
        let full = ["scope=\"provider\"", "reason=\"full\""];
        strait.metric("strait_rejected_total", &full) == 13.0
    });
    for _ in 0..10 {
        assert_eq!(post(&strait, &[], &chat("n", "hi")).status, 200);
    }
    assert_eq!(slow.counts().in_progress, 6);
    drop(held);
}
