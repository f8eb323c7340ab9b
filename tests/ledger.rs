//! The ledger of the whole program: what it keeps of exchanges, what it tells on the admin port, and what is left after
//! a kill.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "ledger_parts/bodies.rs"]
mod bodies;
mod common;
#[path = "ledger_parts/kills.rs"]
mod kills;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use common::{Strait, chat, eventually, mock};
use serde_json::Value;

const KEYS: &str = "[[keys]]\nname = \"team-a\"\nkey = \"key-of-team-a\"\n[[keys]]\nname = \"team-b\"\nkey = \"key-of-team-b\"\n";

fn lab(mock: &strait::mock::Mock) -> String {
    format!(
        "[providers.lab]\nprotocols = [\"openai-chat\"]\nbase_url = \"{}/v1\"\nkey = \"secret-of-the-lab\"\nprice = {{ in = 1.0, out = 2.0 }}\n\
         [models.fast]\ntargets = [\"lab/x\"]\nretries = {{ max_attempts = 1 }}\n",
        mock.url()
    )
}

fn ask(strait: &Strait, key: &str, headers: &[(&str, &str)], text: &str) -> u16 {
    let bearer = format!("Bearer {key}");
    let mut all = vec![("authorization", bearer.as_str())];
    all.extend_from_slice(headers);
    let body = chat("fast", text).to_string();
    let client = strait.client();
    client
        .post("/v1/chat/completions", &all, body.as_bytes())
        .status
}

fn get(strait: &Strait, path: &str) -> Value {
    let answer = strait.admin("GET", path, "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

/// Waits until there are `count` rows, and returns them, the oldest first.
fn rows(strait: &Strait, count: usize) -> Vec<Value> {
    let mut rows = Vec::new();
    eventually(&format!("{count} rows"), || {
        let answer = strait.admin("GET", "/admin/v1/records?limit=1000", "");
        if answer.status == 503 {
            return false;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        let list: Value = serde_json::from_str(&answer.text()).unwrap();
        rows = list["data"].as_array().unwrap().clone();
        rows.len() >= count
    });
    assert_eq!(rows.len(), count, "{rows:#?}");
    rows.reverse();
    rows
}

#[test]
fn each_exchange_that_reached_a_provider_has_one_row_and_others_have_none() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    let strait = Strait::start(&(lab(&mock) + KEYS));
    let tags = [("x-strait-tags", "a,b"), ("x-strait-user", "u1")];
    assert_eq!(ask(&strait, "key-of-team-a", &tags, "one"), 200);
    assert_eq!(ask(&strait, "key-of-team-b", &[], "two"), 200);
    assert_eq!(ask(&strait, "no-such-key", &[], "three"), 401);
    let bearer = [("authorization", "Bearer key-of-team-a")];
    let unknown = chat("no-such-model", "four").to_string();
    let answer = strait
        .client()
        .post("/v1/chat/completions", &bearer, unknown.as_bytes());
    assert_eq!(answer.status, 404);
    // The raw lane.
    let body = chat("x", "five").to_string();
    let raw = strait
        .client()
        .post("/lab/v1/chat/completions", &bearer, body.as_bytes());
    assert_eq!(raw.status, 200, "{}", raw.text());
    let rows = rows(&strait, 3);
    for file in ["strait.db", "strait.db-wal"] {
        let file = strait.dir.path().join("state/ledger").join(file);
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(
            mode & 0o077,
            0,
            "{} is nobody else's to read",
            file.display()
        );
    }
    assert_eq!(rows[0]["key"], "team-a");
    assert_eq!(rows[0]["user"], "u1");
    assert_eq!(rows[0]["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(rows[0]["model_requested"], "fast");
    assert_eq!(
        (&rows[0]["provider"], &rows[0]["model"]),
        (&"lab".into(), &"x".into())
    );
    assert_eq!(rows[0]["state"], "done");
    assert!(rows[0]["cost_pico"].as_u64().unwrap() > 0);
    assert_eq!(rows[1]["key"], "team-b");
    assert_eq!(rows[2]["provider"], "lab");
    assert_eq!(mock.calls().len(), 3);
    for row in &rows {
        let id = row["id"].as_str().unwrap();
        let by =
            |name: &str, value: &str| get(&strait, &format!("/admin/v1/records?{name}={value}"));
        assert_eq!(&by("id", id)["data"], &serde_json::json!([row]));
        let request = row["request_id"].as_str().unwrap();
        assert_eq!(
            &by("request_id", request)["data"],
            &serde_json::json!([row])
        );
        assert!(!row.to_string().contains("secret-of-the-lab"));
    }
    let none = get(&strait, "/admin/v1/records?request_id=no-such-id");
    assert_eq!(none["data"], serde_json::json!([]));
}

#[test]
fn an_answer_from_the_cache_has_a_row_that_says_what_it_saved() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    let strait = Strait::start(&(lab(&mock) + "[cache]\nenabled = true\n"));
    assert_eq!(ask(&strait, "", &[], "one"), 200);
    eventually("the cache answers", || {
        ask(&strait, "", &[], "one");
        strait.metric("strait_cache_requests_total", &["outcome=\"hit\""]) > 0.0
            || get(&strait, "/admin/v1/records?cache=hit")["data"]
                .as_array()
                .is_some_and(|rows| !rows.is_empty())
    });
    eventually("its row is there", || {
        let hits = get(&strait, "/admin/v1/records?cache=hit");
        let Some(row) = hits["data"].get(0) else {
            return false;
        };
        assert_eq!(row["cost_pico"], 0);
        assert!(row["saved_pico"].as_u64().unwrap() > 0, "{row}");
        true
    });
}

#[test]
fn usage_is_told_as_series_and_as_csv_and_by_the_command() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    let strait = Strait::start(&(lab(&mock) + KEYS));
    for number in 0..6 {
        let key = if number % 3 == 0 {
            "key-of-team-b"
        } else {
            "key-of-team-a"
        };
        let bearer = format!("Bearer {key}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-strait-tags", "=x,y"),
            ("x-strait-metadata", "{\"n\":\"of the header\"}"),
        ];
        let mut body = chat("fast", "hi");
        if number % 2 == 0 {
            body["metadata"] = serde_json::json!({"feature": "of the body", "n": "of the body"});
        }
        let body = body.to_string();
        let client = strait.client();
        let asked = client.post("/v1/chat/completions", &headers, body.as_bytes());
        assert_eq!(asked.status, 200, "{}", asked.text());
    }
    rows(&strait, 6);
    let usage = get(&strait, "/admin/v1/usage?resolution=hour&group_by=key");
    assert_eq!(usage["total"]["requests"], 6);
    let data = usage["data"].as_array().unwrap();
    assert!(data.len() >= 48, "zeros are filled in: {}", data.len());
    let sum = |key: &str| -> u64 {
        let of = data.iter().filter(|point| point["key"] == key);
        of.map(|point| point["requests"].as_u64().unwrap()).sum()
    };
    assert_eq!((sum("team-a"), sum("team-b")), (4, 2));
    let headers = [
        ("authorization", "Bearer admin-token-of-the-tests"),
        ("accept", "text/csv"),
    ];
    let csv = common::Client::new(strait.admin).request(
        "GET",
        "/admin/v1/usage?resolution=day&group_by=tag&key=team-a",
        &headers,
        b"",
    );
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let text = csv.text();
    assert!(text.starts_with("time,tag,requests,"), "{text}");
    assert!(
        text.contains(",\"'=x\",4,") && text.contains(",y,4,"),
        "{text}"
    );
    let told = Command::new(env!("CARGO_BIN_EXE_strait"))
        .env_clear()
        .args(["usage", "--by", "key", "--config"])
        .arg(strait.dir.path().join("strait.toml"))
        .output()
        .unwrap();
    let table = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.status.success(),
        "{}",
        String::from_utf8_lossy(&told.stderr)
    );
    let line = |name: &str| {
        table
            .lines()
            .find(|line| line.contains(name))
            .unwrap()
            .to_owned()
    };
    assert!(
        line("team-a").split_whitespace().any(|cell| cell == "4"),
        "{table}"
    );
    assert!(
        line("total").split_whitespace().any(|cell| cell == "6"),
        "{table}"
    );
    let told = get(
        &strait,
        "/admin/v1/usage?resolution=day&group_by=metadata.feature",
    );
    let of = |feature: &str| -> u64 {
        let data = told["data"].as_array().unwrap();
        let of = data
            .iter()
            .filter(|point| point["metadata.feature"] == feature);
        of.map(|point| point["requests"].as_u64().unwrap()).sum()
    };
    assert_eq!((of("of the body"), of("")), (3, 3), "{told}");
    let found = get(&strait, "/admin/v1/records?metadata.feature=of+the+body");
    assert_eq!(found["data"].as_array().unwrap().len(), 3);
    assert_eq!(found["data"][0]["metadata"]["n"], "of the header");
    let wrong = Command::new(env!("CARGO_BIN_EXE_strait"))
        .env_clear()
        .args(["usage", "--by", "colour", "--config"])
        .arg(strait.dir.path().join("strait.toml"))
        .output()
        .unwrap();
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("group_by"));
}

#[test]
fn rows_are_paged_exported_and_erased() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    let strait = Strait::start(&lab(&mock));
    for number in 0..9 {
        let user = format!("user {}", number % 3);
        assert_eq!(ask(&strait, "", &[("x-strait-user", &user)], "hi"), 200);
    }
    let all = rows(&strait, 9);
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = get(&strait, &format!("/admin/v1/records?limit=4{after}"));
        paged.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else {
            assert_eq!(page["has_more"], false);
            break;
        };
        after = format!("&after={next}");
    }
    paged.reverse();
    assert_eq!(paged, all);
    let mut lines = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/admin/v1/records/export?limit=4{after}");
        let piece = strait.admin("GET", &path, "");
        assert_eq!(piece.header("content-type"), Some("application/jsonl"));
        lines.extend(piece.text().lines().map(str::to_owned));
        let Some(next) = piece.header("x-strait-next") else {
            break;
        };
        after = format!("&after={next}");
    }
    let read: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read, all);
    let csv = strait.admin("GET", "/admin/v1/records/export?format=csv&user=user+1", "");
    assert_eq!(csv.text().lines().count(), 1 + 3, "{}", csv.text());
    let erased = strait.admin("DELETE", "/admin/v1/records?user=user+1", "");
    assert_eq!(erased.status, 200, "{}", erased.text());
    assert!(erased.text().contains("\"rows\":3"), "{}", erased.text());
    rows(&strait, 6);
    assert_eq!(strait.admin("DELETE", "/admin/v1/records", "").status, 400);
    assert_eq!(strait.admin("POST", "/admin/v1/records", "").status, 405);
    let open = common::Client::new(strait.admin).get("/admin/v1/records");
    assert_eq!(open.status, 401, "only with the token");
}

#[test]
fn the_kept_answers_of_an_end_user_are_erased_with_their_rows() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    let strait = Strait::start(&lab(&mock));
    let respond = |user: &str| {
        let body = serde_json::json!({"model": "fast", "input": "my secret", "user": user});
        let answer = strait.post("/v1/responses", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let (hers, his) = (respond("eve"), respond("adam"));
    let status = |id: &str| strait.client().get(&format!("/v1/responses/{id}")).status;
    assert_eq!((status(&hers), status(&his)), (200, 200));
    rows(&strait, 2);
    let erased = strait.admin("DELETE", "/admin/v1/records?user=eve", "");
    assert_eq!(erased.status, 200, "{}", erased.text());
    let told = erased.json();
    assert_eq!((&told["rows"], &told["responses"]), (&1.into(), &1.into()));
    assert_eq!((status(&hers), status(&his)), (404, 200));
}

fn verify(dir: &Path) -> (bool, String) {
    let told = Command::new(env!("CARGO_BIN_EXE_strait"))
        .env_clear()
        .args(["audit", "verify", "--config"])
        .arg(dir.join("strait.toml"))
        .output()
        .unwrap();
    let text = [told.stdout, told.stderr].concat();
    (told.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn administrative_actions_are_logged_and_verified() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    let strait = Strait::start(&lab(&mock));
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    assert_eq!(
        strait.admin("DELETE", "/admin/v1/cooldowns", "").status,
        200
    );
    assert_eq!(
        strait
            .admin("DELETE", "/admin/v1/records?user=u", "")
            .status,
        200
    );
    let mut log = Value::Null;
    eventually("three actions", || {
        log = get(&strait, "/admin/v1/audit");
        log["data"].as_array().unwrap().len() >= 3
    });
    let actions: Vec<&str> = log["data"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|row| row["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        ["config.reload", "cooldowns.clear", "records.erase"]
    );
    assert!(
        log["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["actor"] == "operator")
    );
    let one = get(&strait, "/admin/v1/audit?action=config.reload&limit=1");
    assert_eq!(one["data"][0]["seq"], 1);
    let (sound, told) = verify(strait.dir.path());
    assert!(sound && told.contains("3 rows"), "{told}");
    // Its own file of the log's end says how long it was.
    let state = strait.dir.path().join("state");
    let head = state.join("audit-head.json");
    let text = std::fs::read_to_string(&head).unwrap();
    std::fs::write(&head, text.replace("\"count\":3", "\"count\":4")).unwrap();
    let (sound, told) = verify(strait.dir.path());
    assert!(!sound && told.contains("ends at row 3"), "{told}");
}

#[test]
fn a_ledger_that_is_off_keeps_nothing() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    let strait = Strait::start(&(lab(&mock) + "[ledger]\nenabled = false\n"));
    assert_eq!(ask(&strait, "", &[], "hi"), 200);
    assert!(!strait.dir.path().join("state/journal").exists());
    assert_eq!(strait.admin("GET", "/admin/v1/records", "").status, 404);
    assert_eq!(ready(&strait)["ledger"]["status"], "off");
}

fn ready(strait: &Strait) -> Value {
    let answer = common::Client::new(strait.admin).get("/health/ready");
    serde_json::from_str(&answer.text()).unwrap()
}

#[test]
fn what_can_not_be_journaled_goes_on_or_is_refused_as_configured() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    for (rule, status) in [("allow", 200), ("deny", 503)] {
        let config = lab(&mock) + &format!("[ledger]\non_failure = \"{rule}\"\n");
        // A file where the folder would be.
        let strait = Strait::start_prepared(&config, |state| {
            std::fs::create_dir_all(state).unwrap();
            std::fs::write(state.join("journal"), "").unwrap();
        });
        let calls = mock.calls().len();
        assert_eq!(ask(&strait, "", &[], "hi"), status, "{rule}");
        assert_eq!(mock.calls().len() - calls, usize::from(status == 200));
        assert_eq!(strait.metric("strait_ledger_unjournaled_total", &[]), 1.0);
        // Its database is opened meanwhile.
        eventually("it says so", || {
            ready(&strait)["ledger"]["status"] == "degraded"
        });
        let told = ready(&strait);
        assert_eq!(told["status"], "ready");
        assert!(
            told["ledger"]["detail"]
                .as_str()
                .unwrap()
                .contains("journal")
        );
        // It gets better by itself.
        std::fs::remove_file(strait.dir.path().join("state/journal")).unwrap();
        eventually("it is journaled again", || {
            ask(&strait, "", &[], "hi") == 200 && ready(&strait)["ledger"]["status"] == "ok"
        });
        // What went on without the journal has its row all the same, once there was one.
        eventually("its rows are there", || {
            let rows = get(&strait, "/admin/v1/records?limit=1000");
            let rows = rows["data"].as_array().unwrap().len();
            rows == mock.calls().len() - calls
        });
    }
}

#[test]
fn who_belongs_to_an_organisation_sees_what_is_its_own_and_no_more() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    let strait = Strait::start(&(lab(&mock) + KEYS));
    let make = |kind: &str, body: Value| {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let made = strait.admin("POST", &format!("/admin/v1/{kind}"), &body);
        assert!(made.status < 300, "{kind}: {}", made.text());
        made.json()
    };
    let id = |made: &Value| made["id"].as_str().unwrap().to_owned();
    let mut parts = Vec::new();
    for name in ["acme", "globex"] {
        let org = id(&make("organisations", serde_json::json!({"name": name})));
        let team = id(&make(
            "teams",
            serde_json::json!({"name": "t", "organisation": org}),
        ));
        let project = id(&make(
            "projects",
            serde_json::json!({"name": "p", "team": team}),
        ));
        let key = make("keys", serde_json::json!({"name": "k", "project": project}));
        let secret = key["key"].as_str().unwrap().to_owned();
        let person = |of: &str| {
            let roles = serde_json::json!([{"role": "viewer", "of": of}]);
            let user =
                serde_json::json!({"name": format!("v-{of}"), "organisation": org, "roles": roles});
            let path = format!("users/{}/token", id(&make("users", user)));
            make(&path, Value::Null)["token"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let tokens = [person(&org), person(&project)];
        parts.push((org, project, secret, tokens));
    }
    for (_, _, secret, _) in &parts {
        eventually("the key is known", || {
            ask(&strait, secret, &[], "hi") == 200
        });
    }
    assert_eq!(ask(&strait, "key-of-team-a", &[], "hi"), 200);
    rows(&strait, 3);
    for (org, project, _, tokens) in &parts {
        for token in tokens {
            let bearer = format!("Bearer {token}");
            let see = |path: &str| {
                let headers = [("authorization", bearer.as_str())];
                let client = common::Client::new(strait.admin);
                client.request("GET", &format!("/admin/v1/{path}"), &headers, b"")
            };
            let list = see("records").json();
            let rows = list["data"].as_array().unwrap();
            assert_eq!(rows.len(), 1, "{list}");
            assert_eq!(rows[0]["org"], org.as_str());
            assert_eq!(rows[0]["project"], project.as_str());
            let usage = see("usage?group_by=org").json();
            assert_eq!(usage["total"]["requests"], 1, "{usage}");
            assert_eq!(see("records/export").text().lines().count(), 1);
            // Asking for another's tells nothing.
            let other = parts.iter().find(|(other, ..)| other != org).unwrap();
            let foreign = see(&format!("records?org={}", other.0)).json();
            assert_eq!(foreign["data"], serde_json::json!([]));
            assert_eq!(see("audit").status, 403);
            let headers = [("authorization", bearer.as_str())];
            let erased = common::Client::new(strait.admin).request(
                "DELETE",
                "/admin/v1/records?user=u",
                &headers,
                b"",
            );
            assert_eq!(erased.status, 403);
        }
    }
    // Who made them is in the log, and no secret.
    let log = strait.admin("GET", "/admin/v1/audit?limit=100", "");
    for action in ["key.create", "user.make_token"] {
        assert!(log.text().contains(action), "{}", log.text());
    }
    for (_, _, secret, tokens) in &parts {
        assert!(!log.text().contains(secret.as_str()));
        assert!(
            tokens
                .iter()
                .all(|token| !log.text().contains(token.as_str()))
        );
    }
}
