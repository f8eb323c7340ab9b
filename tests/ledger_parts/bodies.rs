//! What is kept of what was said, and what is not.

use super::*;

/// A project whose ledger keeps what `retention` says, and a key of it.
fn project(strait: &Strait, retention: Value) -> (String, String) {
    let make = |kind: &str, body: Value| {
        let made = strait.admin("POST", &format!("/admin/v1/{kind}"), &body.to_string());
        assert_eq!(made.status, 201, "{kind}: {}", made.text());
        made.json()
    };
    let id = |made: Value| made["id"].as_str().unwrap().to_owned();
    let name = strait::directory::token::new_id("n");
    // What the organisation says is not what holds.
    let of_all = serde_json::json!({"name": name, "retention": {"keep": "none"}});
    let organisation = id(make("organisations", of_all));
    let team = serde_json::json!({"name": "t", "organisation": organisation});
    let team = id(make("teams", team));
    let mut body = serde_json::json!({"name": "p", "team": team});
    if !retention.is_null() {
        body["retention"] = retention;
    }
    let project = id(make("projects", body));
    let key = make("keys", serde_json::json!({"name": "k", "project": project}));
    (project, key["key"].as_str().unwrap().to_owned())
}

/// Waits for what is kept of the one exchange of a project.
fn body(strait: &Strait, project: &str) -> Value {
    let mut told = Value::Null;
    eventually("its body is kept", || {
        let rows = strait.admin("GET", &format!("/admin/v1/records?project={project}"), "");
        let Some(id) = rows.json()["data"][0]["id"].as_str().map(str::to_owned) else {
            return false;
        };
        let answer = strait.admin("GET", &format!("/admin/v1/records/{id}/body"), "");
        told = answer.json();
        answer.status == 200
    });
    told
}

fn post(strait: &Strait, key: &str, path: &str, body: &Value) -> (u16, String) {
    let bearer = format!("Bearer {key}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-strait-user", "anna of the tests"),
        ("x-strait-tags", "tag-of-the-tests"),
        ("x-strait-session-id", "session-of-the-tests"),
    ];
    let body = body.to_string();
    let answer = strait.client().post(path, &headers, body.as_bytes());
    (answer.status, answer.text())
}

#[test]
fn bodies_are_kept_whole_sealed_and_for_those_who_may_read_them() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"the answer of the tests\", chunks = 5 }]\n");
    let strait = Strait::start(&lab(&mock));
    let bodies = serde_json::json!({"keep": "bodies", "days": 3});
    for (path, stream, model) in [
        ("/v1/chat/completions", false, "fast"),
        ("/v1/chat/completions", true, "fast"),
        ("/v1/messages", true, "fast"),
        ("/lab/v1/chat/completions", true, "x"),
        ("/lab/v1/chat/completions", false, "x"),
    ] {
        let (project, key) = project(&strait, bodies.clone());
        let mut asked = chat(model, "the question of the tests");
        asked["stream"] = stream.into();
        asked["max_tokens"] = 100.into();
        let (status, answered) = post(&strait, &key, path, &asked);
        assert_eq!(status, 200, "{path}: {answered}");
        let told = body(&strait, &project);
        assert_eq!(told["request"]["text"], asked.to_string(), "{path}");
        assert_eq!(told["answer"]["text"], answered, "{path} {stream}");
        assert_eq!(told["answer"]["bytes"], answered.len(), "{path}");
        assert_eq!(told["answer"]["cut"], false, "{path}");
    }
    let read = get(&strait, "/admin/v1/audit?action=body.read");
    assert_eq!(read["data"][0]["actor"], "operator");
    assert_eq!(
        strait.metric("strait_ledger_bodies_total", &["written"]),
        5.0
    );
    for path in [
        "records/x/body",
        "records/00000000000000000000000000000000/body",
    ] {
        assert_eq!(
            strait.admin("GET", &format!("/admin/v1/{path}"), "").status,
            404
        );
    }
    // What is on the disk says nothing of it.
    for file in ["strait.db", "strait.db-wal"] {
        let bytes = std::fs::read(strait.dir.path().join("state/ledger").join(file)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("question of the tests"), "{file}");
        assert!(!text.contains("answer of the tests"), "{file}");
    }
    // Who is erased takes them along.
    let erased = strait.admin("DELETE", "/admin/v1/records?user=anna+of+the+tests", "");
    assert_eq!(erased.json()["bodies"], 5, "{}", erased.text());
    assert_eq!(erased.json()["rows"], 5, "{}", erased.text());
}

#[test]
fn long_bodies_are_cut_with_a_mark_and_those_that_are_over_go() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"a short answer\" }]\n");
    let config =
        lab(&mock) + "[ledger]\nkeep = \"bodies\"\nbody_retention = \"2s\"\nmax_body = \"100B\"\n";
    let strait = Strait::start(&config);
    let asked = chat("fast", &"é".repeat(500));
    let (status, _) = post(&strait, "", "/v1/chat/completions", &asked);
    assert_eq!(status, 200);
    let told = body(&strait, "");
    let request = &told["request"];
    assert_eq!(request["cut"], true, "{told}");
    assert_eq!(request["bytes"], asked.to_string().len());
    let text = request["text"].as_str().unwrap();
    assert!(asked.to_string().starts_with(text) && (99..=100).contains(&text.len()));
    eventually("its time is over", || {
        strait.metric("strait_ledger_bodies_total", &["expired"]) == 1.0
    });
    let id = told["id"].as_str().unwrap();
    let gone = strait.admin("GET", &format!("/admin/v1/records/{id}/body"), "");
    assert_eq!(gone.status, 404);
    rows(&strait, 1);
}

#[test]
fn a_project_that_keeps_nothing_has_amounts_and_no_word_of_its_client() {
    let mock = mock("[[rule]]\nsteps = [{ text = \"hello\" }]\n");
    let strait = Strait::start(&lab(&mock));
    // Its organisation says so.
    let (project, key) = project(&strait, Value::Null);
    let asked = chat("fast", "the question of the tests");
    let (status, text) = post(&strait, &key, "/v1/chat/completions", &asked);
    assert_eq!(status, 200, "{text}");
    let row = &rows(&strait, 1)[0];
    assert_eq!(row["project"], project.as_str());
    assert!(row["cost_pico"].as_u64().unwrap() > 0 && row["input"].as_u64().unwrap() > 0);
    for name in ["user", "session", "tags", "metadata"] {
        assert_eq!(row[name], Value::Null, "{row}");
    }
    let state = strait.dir.path().join("state");
    let mut files = vec![strait.dir.path().join("records.jsonl")];
    files.extend(["strait.db", "strait.db-wal"].map(|file| state.join("ledger").join(file)));
    for run in std::fs::read_dir(state.join("journal")).unwrap() {
        for file in std::fs::read_dir(run.unwrap().path()).unwrap() {
            files.push(file.unwrap().path());
        }
    }
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("of-the-tests"), "{}", file.display());
        assert!(!text.contains("of the tests"), "{}", file.display());
    }
}
