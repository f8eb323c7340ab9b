//! Several nodes over one PostgreSQL.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::common::at_once;
use crate::common::postgres::Postgres;

const PEPPER: &str = "the-pepper-of-all-nodes-0123456789";

fn node(provider: &Mock, url: &str, pepper: &str) -> Strait {
    let state =
        "database = \"env:DATABASE_URL\"\npepper = \"env:PEPPER\"\nmaster_key = \"env:PEPPER\"";
    let env = [("DATABASE_URL", url), ("PEPPER", pepper)];
    Strait::start_state(&config(provider), state, &env)
}

/// Waits until `holds`, and returns how long that took.
fn after(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "not in time: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

#[test]
fn a_change_on_one_node_is_in_force_on_every_other() {
    let mut postgres = Postgres::start();
    let url = postgres.database();
    let provider = mock(CENT);
    let nodes = [(); 3].map(|()| node(&provider, &url, PEPPER));
    let [first, second, third] = &nodes;
    let tree = tree(first, "acme");
    assert_eq!(
        ask(first, &tree.secret, "fast").status,
        200,
        "at once where it was made"
    );
    let mut longest = Duration::ZERO;
    for other in [second, third] {
        let took = after("the key is known", || {
            ask(other, &tree.secret, "fast").status == 200
        });
        longest = longest.max(took);
    }
    let rule = make(
        second,
        "policies",
        json!({"on": tree.team, "deny": {"models": ["fast"]}}),
    );
    for other in [first, third] {
        let took = after("the rule holds", || {
            ask(other, &tree.secret, "fast").status == 403
        });
        longest = longest.max(took);
    }
    let path = format!("policies/{}", id(&rule));
    assert_eq!(
        call(third, OPERATOR, "DELETE", &path, &Value::Null).status,
        200
    );
    for other in [first, second] {
        let took = after("the rule is gone", || {
            ask(other, &tree.secret, "fast").status == 200
        });
        longest = longest.max(took);
    }
    // Half a second between two looks; the rest is for a machine that does much else.
    eprintln!("a change was in force everywhere after {longest:?}");

    // Away: what is known stays in force, and nothing is changed.
    postgres.stop("INT");
    assert_eq!(ask(first, &tree.secret, "fast").status, 200);
    let refused = call(
        first,
        OPERATOR,
        "POST",
        "teams",
        &json!({"name": "x", "organisation": tree.organisation}),
    );
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].clone()),
        (503, json!("state_unavailable"))
    );
    after("it is said", || {
        let ready = Client::new(first.admin).get("/health/ready").json();
        ready["directory"]["status"] == "unavailable"
    });
    // A node that never saw the keys lets nobody in, with a key or without.
    let late = node(&provider, &url, PEPPER);
    let unready = ask(&late, &tree.secret, "fast");
    assert_eq!(unready.status, 503, "{}", unready.text());
    assert!(unready.header("retry-after").is_some());
    let keyless = late.post("/v1/chat/completions", &chat("fast", "hi"));
    // Whether one is needed isn't known: no fault of who has none.
    assert_eq!(keyless.status, 503, "{}", keyless.text());

    postgres.begin();
    after("it is found again", || {
        ask(&late, &tree.secret, "fast").status == 200
    });
    let path = format!("keys/{}", tree.key);
    after("changes are made again", || {
        call(first, OPERATOR, "PATCH", &path, &json!({"disabled": true})).status == 200
    });
    for other in [second, third, &late] {
        after("it is disabled", || {
            ask(other, &tree.secret, "fast").status == 401
        });
    }
}

#[test]
fn a_node_with_another_pepper_says_so_and_refuses() {
    let postgres = Postgres::start();
    let url = postgres.database();
    let provider = mock(CENT);
    let first = node(&provider, &url, PEPPER);
    let tree = tree(&first, "acme");
    let odd = node(&provider, &url, "another-pepper-0123456789");
    let ready = Client::new(odd.admin).get("/health/ready").json();
    let detail = ready["directory"]["detail"].as_str().unwrap();
    assert!(detail.contains("state.pepper"), "{ready}");
    assert_eq!(ask(&odd, &tree.secret, "fast").status, 503);
    assert!(!odd.log().contains("another-pepper"), "{}", odd.log());
}

#[test]
fn names_are_unique_over_all_nodes_and_of_two_changes_at_once_one_is_made() {
    let postgres = Postgres::start();
    let url = postgres.database();
    let provider = mock(CENT);
    let nodes = [(); 2].map(|()| node(&provider, &url, PEPPER));
    let statuses = crate::common::at_once(8, |at| {
        let body = json!({"name": "same"});
        call(&nodes[at % 2], OPERATOR, "POST", "organisations", &body).status
    });
    let made = statuses.iter().filter(|status| **status == 201).count();
    assert_eq!(made, 1, "{statuses:?}");
    assert!(
        statuses.iter().all(|status| matches!(status, 201 | 409)),
        "{statuses:?}"
    );
}

#[test]
fn a_database_that_says_nothing_is_said_to_be_away_before_it_speaks_again() {
    let provider = mock(CENT);
    let postgres = Postgres::start();
    let strait = node(&provider, &postgres.database(), PEPPER);
    let tree = tree(&strait, "acme");
    let key = format!("keys/{}", tree.key);
    let made = json!({"name": "late", "project": tree.project});
    let asks = [
        ("GET", "keys", &Value::Null),
        ("GET", &key, &Value::Null),
        ("GET", "records", &Value::Null),
        ("GET", "usage", &Value::Null),
        ("GET", "audit", &Value::Null),
        ("POST", "keys", &made),
        ("DELETE", "records?user=eve", &Value::Null),
    ];
    postgres.freeze(true);
    let statuses = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            at_once(asks.len(), |at| {
                let (method, path, body) = asks[at];
                call(&strait, OPERATOR, method, path, body).status
            })
        });
        let served = ask(&strait, &tree.secret, "fast").status;
        assert_eq!(served, 200, "who asks models is served");
        // Who still waited then would be answered.
        std::thread::sleep(Duration::from_secs(15));
        postgres.freeze(false);
        asked.join().unwrap()
    });
    assert_eq!(statuses, [503; 7]);
    eventually("it answers again", || {
        call(&strait, OPERATOR, "GET", "keys", &Value::Null).status == 200
    });
    let keys = call(&strait, OPERATOR, "GET", "keys", &Value::Null);
    assert!(
        !keys.text().contains("late"),
        "what was refused is not done later: {}",
        keys.text()
    );
}
