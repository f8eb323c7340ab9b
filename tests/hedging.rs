//! Hedging over real sockets: a stream whose first word is late is asked for elsewhere, once, within its bounds.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Strait, chat, eventually, mock};
use serde_json::{Value, json};
use strait::mock::Mock;

/// So late that a test which waits for it has failed.
const LATE: &str = "delay_head = \"20s\"";
/// Said to be late before a machine that is merely busy is.
const AFTER: &str = "after = \"300ms\"";

fn provider(name: &str, mock: &Mock) -> String {
    format!(
        "[providers.{name}]\nprotocols = [\"openai-chat\"]\nbase_url = \"{}/v1\"\nkey = \"{name}-key\"\n",
        mock.url()
    )
}

/// Two providers, and a model that asks `slow` first and hedges as told.
fn lab(slow: &str, fast: &str, hedge: &str, more: &str) -> (Strait, Mock, Mock) {
    let slow = mock(&format!("[default]\n{slow}\n"));
    let fast = mock(&format!("[default]\n{fast}\n"));
    let strait = Strait::start(&format!(
        "{}{}[models.both]\ntargets = [\"slow/x\", \"fast/x\"]\nhedge = {{ {hedge} }}\n{more}",
        provider("slow", &slow),
        provider("fast", &fast),
    ));
    (strait, slow, fast)
}

fn ask(strait: &Strait, stream: bool, headers: &[(&str, &str)]) -> common::Answer {
    let mut body = chat("both", "hello");
    body["stream"] = json!(stream);
    let body = body.to_string();
    strait
        .client()
        .post("/v1/chat/completions", headers, body.as_bytes())
}

/// Each attempt of a record: `provider outcome`.
fn outcomes(record: &Value) -> Vec<String> {
    let attempts = record["attempts"].as_array().unwrap().iter();
    let told = attempts.map(|attempt| {
        let word = |key: &str| attempt[key].as_str().unwrap();
        format!("{} {}", word("provider"), word("outcome"))
    });
    told.collect()
}

#[test]
fn a_late_stream_is_answered_by_the_second_and_the_first_is_dropped() {
    for late in [LATE, "delay_first_chunk = \"20s\""] {
        let (strait, slow, _fast) = lab(late, "text = \"from the fast one\"", AFTER, "");
        let answer = ask(&strait, true, &[]);
        let text = answer.text();
        assert_eq!(answer.status, 200, "{text}");
        assert!(text.contains("data: [DONE]"), "{text}");
        assert_eq!(answer.header("x-strait-provider"), Some("fast"));
        assert_eq!(answer.header("x-strait-attempts"), Some("2"));
        let record = &strait.records(1)[0];
        assert_eq!(outcomes(record), ["slow hedge_lost", "fast ok"], "{record}");
        assert!(
            record["attempts"][0]["estimated_input"].as_u64().is_some(),
            "what the loser may have billed is recorded: {record}"
        );
        assert_eq!(
            strait.metric("strait_hedges_total", &["result=\"won\""]),
            1.0
        );
        eventually("the slow one sees that nobody listens any more", || {
            slow.counts().in_progress == 0
        });
    }
}

#[test]
fn a_first_word_in_time_is_not_hedged() {
    let (strait, slow, fast) = lab(
        "text = \"first\"",
        "text = \"second\"",
        "after = \"5s\"",
        "",
    );
    for _ in 0..20 {
        assert_eq!(
            ask(&strait, true, &[]).header("x-strait-provider"),
            Some("slow")
        );
    }
    assert_eq!((slow.calls().len(), fast.calls().len()), (20, 0));
}

#[test]
fn the_first_may_still_win_and_the_second_is_dropped() {
    let (strait, _slow, fast) = lab(
        "delay_head = \"1500ms\"\ntext = \"late but first\"",
        LATE,
        AFTER,
        "",
    );
    let answer = ask(&strait, true, &[]);
    assert_eq!(
        answer.header("x-strait-provider"),
        Some("slow"),
        "{}",
        answer.text()
    );
    let record = &strait.records(1)[0];
    assert_eq!(outcomes(record), ["slow ok", "fast hedge_lost"], "{record}");
    assert_eq!(
        strait.metric("strait_hedges_total", &["result=\"lost\""]),
        1.0
    );
    assert_eq!(fast.calls().len(), 1);
}

#[test]
fn a_second_that_fails_leaves_the_first_alone() {
    for failure in ["status = 500", "status = 400", "close_before_head = true"] {
        let (strait, _slow, fast) = lab(
            "delay_head = \"1500ms\"\ntext = \"late\"",
            failure,
            AFTER,
            "",
        );
        let answer = ask(&strait, true, &[]);
        assert_eq!(answer.status, 200, "{failure}: {}", answer.text());
        assert_eq!(
            answer.header("x-strait-provider"),
            Some("slow"),
            "{failure}"
        );
        assert_eq!(fast.calls().len(), 1, "{failure}: it is not asked again");
        assert_eq!(
            strait.metric("strait_hedges_total", &["result=\"failed\""]),
            1.0
        );
    }
}

#[test]
fn a_first_that_fails_late_leaves_the_second_to_answer() {
    let (strait, _slow, fast) = lab(
        "delay_head = \"1s\"\nstatus = 500",
        "delay_head = \"2s\"\ntext = \"whole\"",
        AFTER,
        "",
    );
    let answer = ask(&strait, true, &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(fast.calls().len(), 1, "it is asked once, not again");
    let record = &strait.records(1)[0];
    assert_eq!(outcomes(record), ["slow status", "fast ok"], "{record}");
}

#[test]
fn both_failing_is_an_ordinary_failure() {
    let (strait, slow, fast) = lab(
        "delay_head = \"800ms\"\nstatus = 500",
        "delay_head = \"800ms\"\nstatus = 500",
        AFTER,
        "retries = { max_attempts = 2 }\n",
    );
    let answer = ask(&strait, true, &[]);
    assert!(answer.status >= 500, "{}", answer.text());
    assert_eq!((slow.calls().len(), fast.calls().len()), (1, 1));
    let text = answer.text();
    for told in ["slow/x: status 500", "fast/x: status 500"] {
        assert!(text.contains(told), "{told}: {text}");
    }
}

#[test]
fn no_fallback_and_a_cap_of_one_attempt_are_obeyed() {
    let (strait, _slow, fast) = lab("delay_head = \"1s\"", "", AFTER, "");
    let answer = ask(&strait, true, &[("x-strait-no-fallback", "true")]);
    assert_eq!(
        answer.header("x-strait-provider"),
        Some("slow"),
        "{}",
        answer.text()
    );
    assert_eq!(fast.calls().len(), 0);
    let one = "retries = { max_attempts = 1 }\n";
    let (strait, _slow, fast) = lab("delay_head = \"1s\"", "", AFTER, one);
    assert_eq!(
        ask(&strait, true, &[]).header("x-strait-provider"),
        Some("slow")
    );
    assert_eq!(fast.calls().len(), 0);
}

#[test]
fn whole_answers_are_hedged_where_that_is_asked_for() {
    let (strait, _slow, fast) = lab("delay_head = \"1s\"", "", AFTER, "");
    assert_eq!(
        ask(&strait, false, &[]).header("x-strait-provider"),
        Some("slow")
    );
    assert_eq!(fast.calls().len(), 0);
    let (strait, _slow, _fast) = lab(LATE, "", "after = \"300ms\", whole = true", "");
    let answer = ask(&strait, false, &[]);
    assert_eq!(
        answer.header("x-strait-provider"),
        Some("fast"),
        "{}",
        answer.text()
    );
}

#[test]
fn another_address_or_credential_of_the_same_target_is_asked_where_there_is_no_other_target() {
    let slow = mock(&format!("[default]\n{LATE}\n"));
    let fast = mock("");
    let strait = Strait::start(&format!(
        "[providers.lab]\nprotocols = [\"openai-chat\"]\nkey = \"k\"\nendpoints = [\"{}/v1\", \"{}/v1\"]\n\
         [models.both]\ntargets = [\"lab/x\"]\nhedge = {{ {AFTER}, max_share = 1 }}\n",
        slow.url(),
        fast.url(),
    ));
    for _ in 0..4 {
        let answer = ask(&strait, true, &[]);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert!(!slow.calls().is_empty(), "both addresses are asked in turn");
    let one = mock(&format!(
        "[[rule]]\nheader = {{ name = \"authorization\", value = \"slow-key\" }}\nsteps = [{{ {LATE} }}]\n"
    ));
    let strait = Strait::start(&format!(
        "[providers.lab]\nprotocols = [\"openai-chat\"]\nbase_url = \"{}/v1\"\n\
         keys = [{{ name = \"a\", key = \"slow-key\", weight = 1000 }}, {{ name = \"b\", key = \"fast-key\" }}]\n\
         [models.both]\ntargets = [\"lab/x\"]\nhedge = {{ {AFTER} }}\n",
        one.url(),
    ));
    assert_eq!(ask(&strait, true, &[]).status, 200);
}

#[test]
fn no_more_than_the_share_is_hedged() {
    let (strait, _slow, fast) = lab(
        "delay_head = \"400ms\"",
        "delay_head = \"400ms\"",
        "after = \"50ms\", max_share = 0.1",
        "",
    );
    for _ in 0..20 {
        assert_eq!(ask(&strait, true, &[]).status, 200);
    }
    let hedged = fast.calls().len();
    assert!(
        (2..=3).contains(&hedged),
        "{hedged} of 20, at one in ten and one to begin with"
    );
    assert!(strait.metric("strait_hedges_total", &["result=\"no_share\""]) >= 10.0);
}

#[test]
fn a_client_that_leaves_a_race_leaves_nothing_behind() {
    let (strait, slow, fast) = lab(LATE, LATE, AFTER, "");
    let mut body = chat("both", "hello");
    body["stream"] = json!(true);
    let socket =
        strait
            .client()
            .send_only("/v1/chat/completions", &[], body.to_string().as_bytes());
    eventually("both are asked", || {
        slow.counts().in_progress == 1 && fast.counts().in_progress == 1
    });
    drop(socket);
    eventually("both are left", || {
        slow.counts().in_progress == 0 && fast.counts().in_progress == 0
    });
    let record = &strait.records(1)[0];
    assert_eq!(record["status"], json!(499), "{record}");
    assert_eq!(
        outcomes(record),
        ["slow cancelled", "fast cancelled"],
        "{record}"
    );
    eventually("nothing is in flight", || {
        strait.metric("strait_inflight", &[]) == 0.0
    });
}

#[test]
fn mistakes_in_the_table_are_found_at_load() {
    for (hedge, key) in [
        ("percentile = 20", "percentile"),
        ("percentile = 100", "percentile"),
        ("max_share = 0", "max_share"),
        ("max_share = 2", "max_share"),
        ("after = \"0s\"", "after"),
        ("percentil = 95", "percentil"),
        ("whole = 1", "whole"),
    ] {
        let text = format!("[models.m]\ntargets = [\"demo/echo\"]\nhedge = {{ {hedge} }}\n");
        let file = std::path::Path::new("strait.toml");
        let mistakes = strait::config::read(file, &text, &|_: &str| None);
        let mistakes = mistakes.err().unwrap_or_else(|| panic!("{hedge} is taken"));
        assert!(
            mistakes
                .iter()
                .any(|mistake| mistake.to_string().contains(key)),
            "{hedge}: {mistakes:?}"
        );
    }
}
