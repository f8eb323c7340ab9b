//! What one node learns and the others then know.

use serde_json::{Value, json};

use crate::common::authority::Authority;
use crate::common::postgres::Postgres;
use crate::common::redis::Redis;
use crate::common::{Client, Strait, chat, eventually, mock};
use crate::{MASTER, PASSWORD, ask, config, found, node, patiently_at, redis_health};

/// The lab refuses, and says until when; the other answers.
const LIMITED: &str = r#"
[[rule]]
header = { name = "authorization", value = "the-key-of-the-lab" }
steps = [{ status = 429, headers = { retry-after = "60" } }]
"#;

const REFUSED: &str = r#"
[[rule]]
header = { name = "authorization", value = "the-key-of-the-lab" }
steps = [{ status = 401 }]
"#;

const BROKEN: &str = r#"
[[rule]]
header = { name = "authorization", value = "the-key-of-the-lab" }
steps = [{ status = 500 }]
"#;

fn cooldowns(strait: &Strait) -> Vec<Value> {
    let listed = strait.admin("GET", "/admin/v1/cooldowns", "").json();
    listed["cooldowns"].as_array().unwrap().clone()
}

fn shared(strait: &Strait) -> Option<Value> {
    cooldowns(strait)
        .into_iter()
        .find(|cooldown| cooldown["reason"] == "shared")
}

#[test]
fn a_cooldown_that_a_provider_told_is_known_everywhere_and_to_those_who_join_later() {
    let redis = Redis::start();
    let provider = mock(LIMITED);
    let config = config(&provider, "");
    let [first, second] = [(); 2].map(|()| node(&config, &patiently_at(&redis)));
    assert_eq!(ask(&first, "both", "hi").status, 200);
    assert_eq!(provider.counts().count, 2, "the lab was asked first");
    eventually("the other has heard", || shared(&second).is_some());
    let heard = shared(&second).unwrap();
    assert_eq!(
        (&heard["provider"], &heard["blame"], &heard["state"]),
        (&json!("lab"), &json!("quota"), &json!("cooling")),
        "{heard}"
    );
    assert!(heard["remaining_ms"].as_u64().unwrap() > 30_000, "{heard}");
    let late = node(&config, &patiently_at(&redis));
    eventually("it is told what it missed", || shared(&late).is_some());
    for strait in [&second, &late] {
        provider.clear_calls();
        assert_eq!(ask(strait, "both", "hi").status, 200);
        assert_eq!(provider.counts().count, 1, "the lab was not asked");
        let record = strait.records(1).pop().unwrap();
        assert_eq!(record["provider"], "other", "{record}");
        // Who has nothing else asks all the same.
        let alone = ask(strait, "m", "hi");
        assert_eq!(
            (alone.status, provider.counts().count),
            (429, 2),
            "{}",
            alone.text()
        );
    }
    let text = redis.ask(&["ZRANGE", "strait:cooldowns", "0", "-1"]);
    assert!(text.contains("lab") && !text.contains("the-key"), "{text}");

    // An operator knows better, for all nodes.
    assert_eq!(
        second.admin("DELETE", "/admin/v1/cooldowns", "").status,
        200
    );
    for strait in [&first, &second, &late] {
        eventually("it is forgotten", || cooldowns(strait).is_empty());
    }
    assert_eq!(redis.ask(&["EXISTS", "strait:cooldowns"]), "0");
}

#[test]
fn a_refused_credential_is_shared_and_a_guess_is_not() {
    for (script, is_shared) in [(REFUSED, true), (BROKEN, false)] {
        let redis = Redis::start();
        let provider = mock(script);
        let config = config(&provider, "");
        let [first, second] = [(); 2].map(|()| node(&config, &patiently_at(&redis)));
        for _ in 0..6 {
            assert_eq!(ask(&first, "both", "hi").status, 200);
        }
        assert!(!cooldowns(&first).is_empty(), "it cools where it failed");
        if is_shared {
            eventually("the other hears", || {
                ask(&first, "both", "hi");
                shared(&second).is_some()
            });
        } else {
            // Words of another kind get there, so those would have.
            assert_eq!(first.admin("DELETE", "/admin/v1/cache", "").status, 200);
            eventually("the other hears", || {
                let heard = ["topic=\"cache\""];
                second.metric("strait_redis_heard_total", &heard) > 0.0
            });
            assert_eq!(
                second.metric("strait_redis_heard_total", &["topic=\"cooldowns\""]),
                0.0
            );
            assert_eq!(shared(&second), None);
        }
    }
}

#[test]
fn a_change_of_keys_is_told_to_the_other_nodes() {
    let postgres = Postgres::start();
    let redis = Redis::start();
    let provider = mock("");
    let state = format!(
        "database = \"{}\"\npepper = \"{MASTER}\"\n{}",
        postgres.database(),
        patiently_at(&redis)
    );
    let config = config(&provider, "");
    let [first, second] = [(); 2].map(|()| node(&config, &state));
    let make = |kind: &str, body: Value| {
        let made = first.admin("POST", &format!("/admin/v1/{kind}"), &body.to_string());
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()
    };
    let organisation = make("organisations", json!({"name": "acme"}));
    let team = make(
        "teams",
        json!({"name": "t", "organisation": organisation["id"]}),
    );
    let project = make("projects", json!({"name": "p", "team": team["id"]}));
    let key = make("keys", json!({"name": "k", "project": project["id"]}));
    let secret = format!("Bearer {}", key["key"].as_str().unwrap());
    let status = |strait: &Strait| {
        let headers = [("authorization", secret.as_str())];
        let body = chat("m", "hi").to_string();
        let client = Client::new(strait.addr);
        client
            .post("/v1/chat/completions", &headers, body.as_bytes())
            .status
    };
    eventually("the other knows the key", || status(&second) == 200);
    let heard = || second.metric("strait_redis_heard_total", &["topic=\"directory\""]);
    eventually("it was told of each change", || heard() == 4.0);
    let path = format!("/admin/v1/keys/{}", key["id"].as_str().unwrap());
    let disabled = first.admin("PATCH", &path, &json!({"disabled": true}).to_string());
    assert_eq!(disabled.status, 200, "{}", disabled.text());
    eventually("the other has it disabled", || status(&second) == 401);
    assert_eq!(
        redis_health(&second),
        json!({"status": "ok", "detail": null})
    );
}

#[test]
fn nodes_share_over_tls_and_one_that_does_not_trust_the_server_goes_on_alone() {
    let authority = Authority::new();
    let redis = Redis::start_tls(&authority.local(), &authority.pem);
    let provider = mock(LIMITED);
    let config = config(&provider, "");
    let table =
        |more: &str| format!("[state.redis]\nurl = \"env:REDIS_URL\"\ntimeout = \"5s\"\n{more}");
    let ca = format!("ca = \"{}\"", redis.dir().join("ca.pem").display());
    let url = redis.url();
    let env = [("REDIS_URL", url.as_str())];
    let [first, second] = [(); 2].map(|()| Strait::start_state(&config, &table(&ca), &env));
    found(&first);
    found(&second);
    assert_eq!(ask(&first, "both", "hi").status, 200);
    eventually("the other has heard", || shared(&second).is_some());

    let alone = Strait::start_state(&config, &table(""), &env);
    eventually("it says why", || {
        let health = redis_health(&alone);
        let detail = health["detail"].as_str().unwrap_or_default().to_owned();
        health["status"] == "unavailable" && detail.contains("certificate")
    });
    assert_eq!(ask(&alone, "both", "hi").status, 200);
    for strait in [&first, &alone] {
        let status = strait.admin("GET", "/admin/v1/status", "").text();
        let told = [
            strait.log(),
            strait.metrics(),
            status,
            redis_health(strait).to_string(),
        ];
        for text in told {
            assert!(!text.contains(PASSWORD), "{text}");
        }
    }
}
