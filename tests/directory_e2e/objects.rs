//! Objects: conditional writes, pages, requests that are sent again, names, what belongs to what.

use serde_json::{Value, json};

use super::*;
use crate::common::at_once;

fn with(
    strait: &Strait,
    headers: &[(&str, &str)],
    method: &str,
    path: &str,
    body: &Value,
) -> Answer {
    let authorization = format!("Bearer {OPERATOR}");
    let mut all = vec![("authorization", authorization.as_str())];
    all.extend(headers);
    let path = format!("/admin/v1/{path}");
    Client::new(strait.admin).request(method, &path, &all, body.to_string().as_bytes())
}

#[test]
fn a_write_that_names_what_it_read_is_refused_once_that_has_changed() {
    let lab = lab();
    let strait = &lab.strait;
    let first = make(strait, "organisations", json!({"name": "a"}));
    let path = format!("organisations/{}", id(&first));
    let etag = first["etag"].as_str().unwrap();
    let changed = with(
        strait,
        &[("if-match", etag)],
        "PATCH",
        &path,
        &json!({"name": "b"}),
    );
    assert_eq!(changed.status, 200, "{}", changed.text());
    let late = with(
        strait,
        &[("if-match", etag)],
        "PATCH",
        &path,
        &json!({"name": "c"}),
    );
    assert_eq!(
        (late.status, late.json()["error"]["code"].clone()),
        (412, json!("changed"))
    );
    assert_eq!(
        with(strait, &[("if-match", etag)], "DELETE", &path, &Value::Null).status,
        412
    );
    let shown = call(strait, OPERATOR, "GET", &path, &Value::Null);
    assert_eq!(shown.json()["name"], "b");
    let now = shown.header("etag").unwrap().to_owned();
    assert_eq!(
        with(strait, &[("if-match", &now)], "DELETE", &path, &Value::Null).status,
        200
    );
    // Of many who change it at once, each with what it read, one does.
    let object = make(strait, "organisations", json!({"name": "many"}));
    let path = format!("organisations/{}", id(&object));
    let etag = object["etag"].as_str().unwrap();
    let statuses = at_once(8, |at| {
        let body = json!({"name": format!("many {at}")});
        with(strait, &[("if-match", etag)], "PATCH", &path, &body).status
    });
    let done = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(done, 1, "{statuses:?}");
}

#[test]
fn a_request_that_is_sent_again_makes_nothing_more() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let body = json!({"name": "once", "project": tree.project});
    let once = [("idempotency-key", "k-1")];
    let first = with(strait, &once, "POST", "keys", &body);
    assert_eq!(first.status, 201, "{}", first.text());
    let again = with(strait, &once, "POST", "keys", &body);
    assert_eq!(again.status, 201, "{}", again.text());
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let (first, again) = (first.json(), again.json());
    assert_eq!(first["id"], again["id"]);
    assert!(
        first["key"].is_string() && again["key"].is_null(),
        "it is shown once"
    );
    let note = again["note"].as_str().unwrap();
    assert!(
        note.contains("shown once") && first["note"].is_null(),
        "{again}"
    );
    let team = json!({"name": "once", "organisation": tree.organisation});
    assert_eq!(
        with(
            strait,
            &[("idempotency-key", "k-3")],
            "POST",
            "teams",
            &team
        )
        .status,
        201
    );
    let elsewhere = with(
        strait,
        &[("idempotency-key", "k-3")],
        "POST",
        "users",
        &team,
    );
    assert_eq!(
        elsewhere.status,
        422,
        "the same body makes something else: {}",
        elsewhere.text()
    );
    let other = json!({"name": "another", "project": tree.project});
    let other = with(strait, &once, "POST", "keys", &other);
    assert_eq!(other.status, 422, "{}", other.text());
    assert_eq!(other.json()["error"]["code"], "idempotency_key_reused");
    let ids = at_once(6, |_| {
        let body = json!({"name": "many", "project": tree.project});
        let made = with(strait, &[("idempotency-key", "k-2")], "POST", "keys", &body);
        assert_eq!(made.status, 201, "{}", made.text());
        id(&made.json())
    });
    assert!(ids.iter().all(|one| *one == ids[0]), "{ids:?}");
}

#[test]
fn a_secret_is_replaced_once_however_often_the_request_is_sent() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let (person, _) = person(strait, &tree.organisation, "viewer", &tree.team);
    let shown = |path: &str| call(strait, OPERATOR, "GET", path, &Value::Null).json();
    let key = format!("keys/{}", tree.key);
    for (path, action, secret) in [
        (key.clone(), "rotate", "key"),
        (format!("users/{person}"), "token", "token"),
    ] {
        let before = shown(&path)["etag"].as_str().unwrap().to_owned();
        let name = format!("once-{action}");
        let once = [("idempotency-key", &*name), ("if-match", &*before)];
        let action = format!("{path}/{action}");
        let first = with(strait, &once, "POST", &action, &json!({}));
        assert_eq!(first.status, 200, "{}", first.text());
        let again = with(strait, &once, "POST", &action, &json!({}));
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        let (first, again) = (first.json(), again.json());
        assert!(
            first[secret].is_string() && first["note"].is_null(),
            "{first}"
        );
        assert!(
            again[secret].is_null() && again["note"].is_string(),
            "{again}"
        );
        assert_eq!(first["etag"], again["etag"], "nothing more was changed");
        assert_eq!(shown(&path)["etag"], first["etag"]);
        let other = with(strait, &once, "POST", &action, &json!({"grace": 1}));
        assert!([400, 422].contains(&other.status), "{}", other.text());
        // Another request, of what has changed since.
        let late = [("idempotency-key", "late"), ("if-match", &*before)];
        let late = with(strait, &late, "POST", &action, &json!({}));
        assert_eq!(late.status, 412, "{}", late.text());
        let next = [("idempotency-key", &*format!("next-{action}"))];
        let next = with(strait, &next, "POST", &action, &json!({}));
        assert_eq!(next.status, 200, "{}", next.text());
        assert_ne!(next.json()["etag"], first["etag"]);
    }
    let rotated = at_once(6, |_| {
        let once = [("idempotency-key", "at-once")];
        let rotated = with(strait, &once, "POST", &format!("{key}/rotate"), &json!({}));
        assert_eq!(rotated.status, 200, "{}", rotated.text());
        rotated.json()["key"].as_str().map(str::to_owned)
    });
    let mut secrets = rotated.into_iter().flatten();
    let secret = secrets.next().expect("one was shown it");
    assert_eq!(secrets.next(), None, "and no other");
    assert_eq!(ask(strait, &secret, "fast").status, 200);
}

#[test]
fn pages_show_everything_once_in_the_order_of_creation() {
    let lab = lab();
    let strait = &lab.strait;
    let (one, other) = (tree(strait, "one"), tree(strait, "other"));
    let names: Vec<String> = (0..7).map(|at| format!("team {at}")).collect();
    for name in &names {
        let body = json!({"name": name, "organisation": one.organisation});
        make(strait, "teams", body);
    }
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("teams?limit=3&under={}{cursor}", one.organisation);
        let page = call(strait, OPERATOR, "GET", &path, &Value::Null).json();
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 3);
        found.extend(
            data.iter()
                .map(|team| team["name"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut wanted = vec!["team".to_owned()];
    wanted.extend(names);
    assert_eq!(found, wanted);
    let (viewer, token) = person(strait, &other.organisation, "viewer", &other.team);
    let seen = call(strait, &token, "GET", "teams?limit=1", &Value::Null).json();
    assert_eq!(seen["data"].as_array().unwrap().len(), 1, "{seen}");
    assert_eq!(
        (&seen["data"][0]["id"], &seen["has_more"]),
        (&json!(other.team), &json!(false))
    );
    let users = call(strait, &token, "GET", "users", &Value::Null).json();
    assert_eq!(users["data"][0]["id"], viewer.as_str(), "{users}");
    for (query, param) in [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("page=2", "page"),
        ("under=team_none", "under"),
        ("cursor=%zz", "cursor"),
    ] {
        let wrong = call(
            strait,
            OPERATOR,
            "GET",
            &format!("teams?{query}"),
            &Value::Null,
        );
        assert_eq!(
            (wrong.status, wrong.json()["error"]["param"].clone()),
            (400, json!(param)),
            "{query}"
        );
    }
}

#[test]
fn names_are_unique_where_they_are_and_errors_name_the_field() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let taken = call(
        strait,
        OPERATOR,
        "POST",
        "organisations",
        &json!({"name": "acme"}),
    );
    assert_eq!(
        (taken.status, taken.json()["error"]["param"].clone()),
        (409, json!("name"))
    );
    make(
        strait,
        "teams",
        json!({"name": "key", "organisation": tree.organisation}),
    );
    for (path, body, param) in [
        (
            "teams",
            json!({"name": "x", "organisation": "org_none"}),
            "organisation",
        ),
        (
            "keys",
            json!({"name": "x", "project": tree.project, "user": "user_none"}),
            "user",
        ),
        (
            "policies",
            json!({"on": tree.key, "allow": {"models": ["a", ""]}}),
            "allow.models[1]",
        ),
        (
            "budgets",
            json!({"on": tree.key, "usd": "5", "every": "day"}),
            "usd",
        ),
        (
            "users",
            json!({"name": "x", "organisation": tree.organisation, "roles": [{"role": "viewer", "of": "team_none"}]}),
            "roles[0].of",
        ),
        (
            "credentials",
            json!({"provider": "nobody", "name": "x", "key": "k"}),
            "provider",
        ),
        (
            "credentials",
            json!({"provider": "lab", "name": "x"}),
            "key",
        ),
        (
            "credentials",
            json!({"provider": "demo", "name": "x", "key": "k"}),
            "provider",
        ),
    ] {
        let wrong = call(strait, OPERATOR, "POST", path, &body);
        assert_eq!(
            (wrong.status, wrong.json()["error"]["param"].clone()),
            (400, json!(param)),
            "{path} {body} {}",
            wrong.text()
        );
    }
    let path = format!("keys/{}", tree.key);
    let fixed = call(
        strait,
        OPERATOR,
        "PATCH",
        &path,
        &json!({"project": "proj_other"}),
    );
    assert_eq!(
        fixed.json()["error"]["param"],
        "project",
        "{}",
        fixed.text()
    );
    let broken = Client::new(strait.admin).request(
        "POST",
        "/admin/v1/teams",
        &[("authorization", &*format!("Bearer {OPERATOR}"))],
        b"{\"name\": ",
    );
    assert_eq!(
        (broken.status, broken.json()["error"]["param"].clone()),
        (400, json!("body"))
    );
}

#[test]
fn what_others_belong_to_is_not_deleted_by_mistake() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    make(
        strait,
        "budgets",
        json!({"on": tree.team, "usd": 5, "every": "day"}),
    );
    let path = format!("organisations/{}", tree.organisation);
    let refused = call(strait, OPERATOR, "DELETE", &path, &Value::Null);
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].clone()),
        (409, json!("in_use"))
    );
    assert_eq!(ask(strait, &tree.secret, "fast").status, 200);
    let gone = call(
        strait,
        OPERATOR,
        "DELETE",
        &format!("{path}?all=true"),
        &Value::Null,
    );
    assert_eq!(gone.json()["deleted"], 5, "{}", gone.text());
    assert_eq!(
        ask(strait, &tree.secret, "fast").status,
        401,
        "it was closed, and stays so"
    );
    let text = call(strait, OPERATOR, "GET", "budgets", &Value::Null).text();
    assert!(text.contains("\"data\":[]"), "{text}");
}

#[test]
fn a_credential_is_used_from_the_moment_it_is_made_and_never_read_back() {
    let lab = lab();
    let strait = &lab.strait;
    let body = json!({"provider": "lab", "name": "stored", "key": "stored-credential-0123456789", "weight": 1000000});
    let made = call(strait, OPERATOR, "POST", "credentials", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(
        !made.text().contains("stored-credential"),
        "{}",
        made.text()
    );
    let path = format!("credentials/{}", id(&made.json()));
    crate::common::eventually("it is used", || {
        assert_eq!(
            strait
                .post("/v1/chat/completions", &chat("fast", "hi"))
                .status,
            200
        );
        let calls = lab._provider.calls();
        calls
            .iter()
            .any(|call| call.header("authorization") == Some("Bearer stored-credential-0123456789"))
    });
    let all = call(strait, OPERATOR, "GET", "credentials", &Value::Null);
    assert!(
        !all.text().contains("-credential-") && !all.text().contains("in-the-file"),
        "{}",
        all.text()
    );
    assert_eq!(
        all.json()["data"].as_array().unwrap().len(),
        3,
        "{}",
        all.text()
    );
    let changed = json!({"key": "second-credential-0123456789"});
    assert_eq!(call(strait, OPERATOR, "PATCH", &path, &changed).status, 200);
    crate::common::eventually("the new one is used", || {
        strait.post("/v1/chat/completions", &chat("fast", "hi"));
        let calls = lab._provider.calls();
        calls.last().and_then(|call| call.header("authorization"))
            == Some("Bearer second-credential-0123456789")
    });
    assert_eq!(
        call(strait, OPERATOR, "DELETE", &path, &Value::Null).status,
        200
    );
    crate::common::eventually("it is no longer used", || {
        strait.post("/v1/chat/completions", &chat("fast", "hi"));
        let calls = lab._provider.calls();
        calls.last().and_then(|call| call.header("authorization"))
            == Some("Bearer provider-key-in-the-file")
    });
}
