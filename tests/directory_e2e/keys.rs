//! The life of a key.

use serde_json::{Value, json};

use super::*;
use crate::common::eventually;

#[test]
fn a_key_is_served_from_the_moment_it_is_made_and_nobody_without_one() {
    let lab = lab();
    let strait = &lab.strait;
    let open = strait.post("/v1/chat/completions", &chat("fast", "hi"));
    assert_eq!(open.status, 200, "nobody is kept out yet");
    let tree = tree(strait, "acme");
    let closed = strait.post("/v1/chat/completions", &chat("fast", "hi"));
    assert_eq!(closed.status, 401, "{}", closed.text());
    assert_eq!(ask(strait, &tree.secret, "fast").status, 200);
    let record = strait.records(3).pop().unwrap();
    assert_eq!(record["key"], tree.key.as_str(), "{record}");

    // Shown once.
    for path in [format!("keys/{}", tree.key), "keys".to_owned()] {
        let shown = call(strait, OPERATOR, "GET", &path, &Value::Null);
        assert_eq!(shown.status, 200);
        let (_, secret) = tree.secret.rsplit_once('-').unwrap();
        assert!(!shown.text().contains(secret), "{}", shown.text());
    }
    let headers = [("authorization", &*format!("Bearer {}", tree.secret))];
    let own = strait.client().request("GET", "/v1/key", &headers, b"");
    let own = own.json();
    assert_eq!(own["id"], tree.key.as_str());
    assert_eq!(own["organisation"], tree.organisation.as_str());
    assert_eq!(own["team"], tree.team.as_str());
    assert_eq!(own["project"], tree.project.as_str());
}

#[test]
fn a_secret_that_is_replaced_holds_as_long_as_it_is_said() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let rotate = |grace: u64| {
        let path = format!("keys/{}/rotate", tree.key);
        let made = call(strait, OPERATOR, "POST", &path, &json!({"grace": grace}));
        assert_eq!(made.status, 200, "{}", made.text());
        made.json()
    };
    let second = rotate(600);
    assert!(second["previous_until"].is_string(), "{second}");
    let second = second["key"].as_str().unwrap();
    assert_eq!(
        ask(strait, &tree.secret, "fast").status,
        200,
        "in its grace"
    );
    assert_eq!(ask(strait, second, "fast").status, 200);
    let third = rotate(0);
    let third = third["key"].as_str().unwrap();
    assert_eq!(ask(strait, second, "fast").status, 401, "without grace");
    assert_eq!(ask(strait, &tree.secret, "fast").status, 401, "long gone");
    assert_eq!(ask(strait, third, "fast").status, 200);
    let fourth = rotate(1);
    assert!(fourth["key"].is_string());
    eventually("the grace is over", || {
        ask(strait, third, "fast").status == 401
    });
}

#[test]
fn a_key_that_is_over_disabled_or_gone_is_refused() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let change = |body: Value| {
        let path = format!("keys/{}", tree.key);
        let changed = call(strait, OPERATOR, "PATCH", &path, &body);
        assert_eq!(changed.status, 200, "{}", changed.text());
        ask(strait, &tree.secret, "fast")
    };
    let over = change(json!({"expires": "2020-01-01T00:00:00Z"}));
    assert_eq!(over.status, 401);
    assert!(over.text().contains("has expired"), "{}", over.text());
    assert_eq!(
        change(json!({"expires": "2120-01-01T00:00:00Z"})).status,
        200
    );
    assert_eq!(change(json!({"expires": null})).status, 200);
    let disabled = change(json!({"disabled": true}));
    assert_eq!(disabled.status, 401);
    assert!(
        disabled.text().contains("is disabled"),
        "{}",
        disabled.text()
    );
    assert_eq!(change(json!({"disabled": false})).status, 200);
    let path = format!("keys/{}", tree.key);
    let gone = call(strait, OPERATOR, "DELETE", &path, &Value::Null);
    assert_eq!(gone.json()["deleted"], 1);
    assert_eq!(ask(strait, &tree.secret, "fast").status, 401);
    assert_eq!(
        call(strait, OPERATOR, "GET", &path, &Value::Null).status,
        404
    );
}

#[test]
fn the_keys_of_a_user_who_is_disabled_or_gone_are_refused() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let (user, token) = person(strait, &tree.organisation, "developer", &tree.project);
    // Who makes a key of their own need not say whose it is.
    let made = call(
        strait,
        &token,
        "POST",
        "keys",
        &json!({"name": "own", "project": tree.project}),
    );
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(made["user"], user.as_str());
    let key = made["key"].as_str().unwrap();
    assert_eq!(ask(strait, key, "fast").status, 200);
    let path = format!("users/{user}");
    let set = |disabled: bool| {
        let body = json!({"disabled": disabled});
        assert_eq!(call(strait, OPERATOR, "PATCH", &path, &body).status, 200);
    };
    set(true);
    assert_eq!(ask(strait, key, "fast").status, 401);
    assert_eq!(call(strait, &token, "GET", "me", &Value::Null).status, 401);
    set(false);
    assert_eq!(ask(strait, key, "fast").status, 200);
    assert_eq!(
        call(strait, OPERATOR, "DELETE", &path, &Value::Null).status,
        200
    );
    assert_eq!(ask(strait, key, "fast").status, 401);
    assert_eq!(ask(strait, &tree.secret, "fast").status, 200, "another's");
}

#[test]
fn keys_live_on_over_a_restart() {
    let mut lab = lab();
    let tree = tree(&lab.strait, "acme");
    lab.strait.signal("TERM");
    assert!(
        lab.strait
            .wait_exit(std::time::Duration::from_secs(20))
            .is_some()
    );
    let from = lab.strait.dir.path().join("state");
    let again = Strait::start_prepared(&config(&lab._provider), |state| {
        std::fs::create_dir_all(state).unwrap();
        for file in std::fs::read_dir(&from).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                std::fs::copy(file.path(), state.join(file.file_name())).unwrap();
            }
        }
    });
    assert_eq!(ask(&again, &tree.secret, "fast").status, 200);
    let keyless = again.post("/v1/chat/completions", &chat("fast", "hi"));
    assert_eq!(keyless.status, 401, "it is closed from the first moment");
}

#[test]
fn keys_of_the_file_are_shown_and_changed_there_alone() {
    let provider = mock(CENT);
    let text = format!(
        "{}\n[[keys]]\nname = \"in-file\"\nkey = \"a-key-of-the-file-0123456789\"\n",
        config(&provider)
    );
    let strait = Strait::start(&text);
    let tree = tree(&strait, "acme");
    assert_eq!(
        ask(&strait, "a-key-of-the-file-0123456789", "fast").status,
        200
    );
    assert_eq!(ask(&strait, &tree.secret, "fast").status, 200);
    let all = call(&strait, OPERATOR, "GET", "keys", &Value::Null);
    assert!(!all.text().contains("a-key-of-the-file"), "{}", all.text());
    let all = all.json();
    assert_eq!(all["data"][0]["id"], "file:in-file", "{all}");
    assert_eq!(all["data"][0]["source"], "file");
    assert_eq!(all["data"][1]["id"], tree.key.as_str());
    let first = call(&strait, OPERATOR, "GET", "keys?limit=1", &Value::Null).json();
    assert_eq!(
        (&first["has_more"], &first["next"]),
        (&json!(true), &json!("file:in-file"))
    );
    let rest = "keys?limit=1&cursor=file:in%2Dfile";
    let rest = call(&strait, OPERATOR, "GET", rest, &Value::Null).json();
    assert_eq!(rest["data"][0]["id"], tree.key.as_str(), "{rest}");
    assert_eq!(rest["has_more"], false);
    let path = "keys/file:in%2Dfile";
    assert_eq!(
        call(&strait, OPERATOR, "GET", path, &Value::Null).status,
        200
    );
    for method in ["PATCH", "DELETE"] {
        let refused = call(&strait, OPERATOR, method, path, &json!({"name": "b"}));
        assert_eq!(
            (refused.status, refused.json()["error"]["code"].clone()),
            (409, json!("read_only"))
        );
    }
}
