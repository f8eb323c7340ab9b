//! The ledger in a PostgreSQL that stops, comes back and is shared.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::postgres::Postgres;
use common::{Client, Strait, chat, eventually, mock};
use serde_json::Value;

fn start(mock: &strait::mock::Mock, url: &str) -> Strait {
    let config = format!(
        "[providers.lab]\nprotocols = [\"openai-chat\"]\nbase_url = \"{}/v1\"\nkey = \"k\"\nprice = {{ in = 1.0, out = 2.0 }}\n\
         [[keys]]\nname = \"a\"\nkey = \"key-of-the-test\"\n[ledger]\nkeep = \"bodies\"\n",
        mock.url()
    );
    Strait::start_state(&config, &format!("database = \"{url}\""), &[])
}

fn ask(strait: &Strait, count: usize) {
    for number in 0..count {
        let tags = format!("tag-{}", number % 2);
        let headers = [
            ("authorization", "Bearer key-of-the-test"),
            ("x-strait-tags", tags.as_str()),
            ("x-strait-user", "u"),
            ("x-strait-metadata", "{\"team\":\"it's red\",\"n\":7}"),
        ];
        let body = chat("lab/x", "hi").to_string();
        let answer = strait
            .client()
            .post("/v1/chat/completions", &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

fn status(strait: &Strait) -> Value {
    let ready = Client::new(strait.admin).get("/health/ready");
    ready.json()["ledger"]["status"].clone()
}

/// Waits until there are `count` rows.
fn rows(strait: &Strait, count: usize) -> Vec<Value> {
    let mut rows = Vec::new();
    eventually(&format!("{count} rows"), || {
        let answer = strait.admin("GET", "/admin/v1/records?limit=1000", "");
        if answer.status == 200 {
            rows = answer.json()["data"].as_array().unwrap().clone();
        }
        rows.len() >= count
    });
    assert_eq!(rows.len(), count, "{rows:#?}");
    rows
}

#[test]
fn nothing_is_lost_while_the_server_is_away_or_the_gateway_is_killed() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    let mut postgres = Postgres::start();
    let url = postgres.database();
    let mut strait = start(&mock, &url);
    ask(&strait, 20);
    rows(&strait, 20);
    postgres.stop("QUIT");
    ask(&strait, 20);
    eventually("it is told", || status(&strait) == "unavailable");
    let refused = strait.admin("GET", "/admin/v1/records", "");
    assert_eq!(refused.status, 503, "{}", refused.text());
    // And killed while it could not write.
    strait.signal("KILL");
    strait.wait_exit(std::time::Duration::from_secs(20));
    strait.restart();
    ask(&strait, 5);
    postgres.begin();
    let all = rows(&strait, 45);
    let mut ids: Vec<&str> = all.iter().map(|row| row["id"].as_str().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 45);
    assert!(
        all.iter()
            .all(|row| row["state"] == "done" && row["user"] == "u")
    );
    eventually("it is well", || status(&strait) == "ok");
    let usage = strait.admin(
        "GET",
        "/admin/v1/usage?resolution=month&group_by=tag,status&timezone=Europe/Berlin",
        "",
    );
    assert_eq!(usage.status, 200, "{}", usage.text());
    assert_eq!(usage.json()["total"]["requests"], 45);
    let of = |tag: &str| -> u64 {
        let data = usage.json()["data"].as_array().unwrap().clone();
        let of = data.iter().filter(|point| point["tag"] == tag);
        of.map(|point| point["requests"].as_u64().unwrap()).sum()
    };
    assert_eq!((of("tag-0"), of("tag-1")), (23, 22));
    let tagged = strait.admin(
        "GET",
        "/admin/v1/records?tag=tag-1&status=200&limit=1000",
        "",
    );
    assert_eq!(tagged.json()["data"].as_array().unwrap().len(), 22);
    let told = |path: &str| {
        let told = strait.admin("GET", &format!("/admin/v1/{path}"), "");
        assert_eq!(told.status, 200, "{path}: {}", told.text());
        told.json()
    };
    // From rows and from what is summed up beside them.
    for group in ["metadata.team", "key,model,status,shadow", "error,cache"] {
        let usage = told(&format!("usage?resolution=day&group_by={group}"));
        assert_eq!(usage["total"]["requests"], 45, "{usage}");
    }
    let found = told("records?metadata.team=it's+red&metadata.n=7&limit=1000");
    assert_eq!(found["data"].as_array().unwrap().len(), 45);
    let id = found["data"][0]["id"].as_str().unwrap();
    let body = told(&format!("records/{id}/body"));
    assert!(
        body["answer"]["text"].as_str().unwrap().contains("hello"),
        "{body}"
    );
    let erased = strait.admin("DELETE", "/admin/v1/records?user=u", "");
    assert_eq!(erased.json()["rows"], 45, "{}", erased.text());
    // Those that the killed process had in memory are not there.
    let bodies = erased.json()["bodies"].as_u64().unwrap();
    assert!((25..=45).contains(&bodies), "{bodies}");
}

#[test]
fn nodes_that_share_a_database_share_rows_and_one_chain_of_actions() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    let postgres = Postgres::start();
    let url = postgres.database();
    let nodes = [start(&mock, &url), start(&mock, &url)];
    common::at_once(4, |at| {
        let node = &nodes[at % 2];
        ask(node, 10);
        for _ in 0..5 {
            assert_eq!(node.admin("DELETE", "/admin/v1/cooldowns", "").status, 200);
        }
    });
    for node in &nodes {
        rows(node, 40);
        eventually("all actions are there", || {
            let audit = node.admin("GET", "/admin/v1/audit?limit=100", "");
            audit.status == 200 && audit.json()["data"].as_array().unwrap().len() == 20
        });
        let verified = std::process::Command::new(env!("CARGO_BIN_EXE_strait"))
            .env_clear()
            .args(["audit", "verify", "--config"])
            .arg(node.dir.path().join("strait.toml"))
            .output()
            .unwrap();
        let told = [verified.stdout, verified.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        assert!(
            verified.status.success() && told.contains("20 rows"),
            "{told}"
        );
    }
}

#[test]
fn who_was_erased_on_one_node_does_not_come_back_from_the_journal_of_another() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    let mut postgres = Postgres::start();
    let url = postgres.database();
    let (one, mut two) = (start(&mock, &url), start(&mock, &url));
    ask(&one, 3);
    ask(&two, 3);
    rows(&one, 6);
    postgres.stop("QUIT");
    // What it has of them stays in its journal, and then it is killed.
    ask(&two, 10);
    two.signal("KILL");
    two.wait_exit(std::time::Duration::from_secs(20));
    postgres.begin();
    eventually("the database is back", || {
        let erased = one.admin("DELETE", "/admin/v1/records?user=u", "");
        assert!(matches!(erased.status, 200 | 503), "{}", erased.text());
        erased.status == 200
    });
    rows(&one, 0);
    two.restart();
    let journal = two.dir.path().join("state/journal");
    let folders = || std::fs::read_dir(&journal).unwrap().count();
    eventually("what it left is taken up", || folders() == 1);
    rows(&one, 0);
    // The money was spent all the same.
    let usage = one.admin("GET", "/admin/v1/usage?group_by=key", "");
    assert_eq!(usage.status, 200, "{}", usage.text());
    // What they ask from now on is kept.
    ask(&two, 2);
    rows(&one, 2);
}
