//! Limits and budgets of all that a key belongs to.

use serde_json::{Value, json};

use super::*;
use crate::common::at_once;

fn second(strait: &Strait, tree: &Tree) -> String {
    let body = json!({"name": "second", "project": tree.project});
    let made = make(strait, "keys", body);
    made["key"].as_str().unwrap().to_owned()
}

#[test]
fn the_limits_of_what_a_key_belongs_to_are_shared_by_all_keys_of_it() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let other = second(strait, &tree);
    make(strait, "limits", json!({"on": tree.team, "rpm": 4}));
    let own = make(strait, "limits", json!({"on": tree.key, "rpd": 2}));
    let statuses: Vec<u16> = [
        &tree.secret,
        &tree.secret,
        &tree.secret,
        &other,
        &other,
        &other,
    ]
    .into_iter()
    .map(|key| ask(strait, key, "fast").status)
    .collect();
    assert_eq!(statuses, [200, 200, 429, 200, 200, 429]);
    let told = ask(strait, &other, "fast");
    let named = format!("for team '{}'", tree.team);
    assert!(told.text().contains(&named), "{}", told.text());
    assert_eq!(told.header("x-ratelimit-limit-requests"), Some("4"));
    assert_eq!(strait.metric("strait_rate_limited_total", &["rpd"]), 1.0);
    // A limit that is lifted is gone at once; what the refused asked for was not charged.
    let path = format!("limits/{}", id(&own));
    assert_eq!(
        call(strait, OPERATOR, "DELETE", &path, &Value::Null).status,
        200
    );
    let told = ask(strait, &tree.secret, "fast");
    assert_eq!(told.status, 429);
    assert!(told.text().contains(&tree.team), "{}", told.text());
}

#[test]
fn requests_at_once_spend_no_more_than_any_budget_above_them() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let other = second(strait, &tree);
    make(
        strait,
        "budgets",
        json!({"on": tree.organisation, "usd": 0.10, "every": "month"}),
    );
    make(
        strait,
        "budgets",
        json!({"on": tree.key, "usd": 0.03, "every": "day"}),
    );
    let mut body = chat("fast", "hi");
    body["max_tokens"] = json!(100);
    let statuses = at_once(40, |at| {
        let key = if at % 2 == 0 { &tree.secret } else { &other };
        (at % 2 == 0, ask_body(strait, key, &body).status)
    });
    let spent = |first: bool| {
        statuses
            .iter()
            .filter(|(of, status)| *of == first && *status == 200)
            .count()
    };
    assert!(
        spent(true) <= 3 && spent(true) + spent(false) <= 10,
        "{statuses:?}"
    );
    assert!(
        statuses
            .iter()
            .all(|(_, status)| matches!(status, 200 | 402)),
        "{statuses:?}"
    );
    // One after the other all of it can be spent, and nothing more.
    while ask_body(strait, &other, &body).status == 200 {}
    let headers = [("authorization", &*format!("Bearer {}", tree.secret))];
    let own = || {
        strait
            .client()
            .request("GET", "/v1/key", &headers, b"")
            .json()
    };
    crate::common::eventually("everything is settled", || {
        own()["budgets"][0]["reserved_usd"] == "0"
    });
    let own = own();
    assert_eq!(own["budgets"][0]["on"], tree.organisation.as_str(), "{own}");
    assert_eq!(
        (&own["budgets"][0]["usd"], &own["budgets"][0]["spent_usd"]),
        (&json!("0.1"), &json!("0.1"))
    );
    let shown = call(strait, OPERATOR, "GET", "budgets", &Value::Null).json();
    assert_eq!(shown["data"][0]["spent_usd"], "0.1", "{shown}");
    assert!(shown["data"][0]["resets"].is_string(), "{shown}");
    let refused = ask_body(strait, &other, &body);
    assert_eq!(
        (refused.status, refused.header("x-should-retry")),
        (402, Some("false"))
    );
    let text = refused.text();
    assert!(
        text.contains(&tree.organisation) && text.contains("0.1 USD"),
        "{text}"
    );
}

#[test]
fn a_users_budget_binds_their_keys_in_every_project() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let (user, _) = person(strait, &tree.organisation, "developer", &tree.project);
    let project = id(&make(
        strait,
        "projects",
        json!({"name": "another", "team": tree.team}),
    ));
    let keys = [&tree.project, &project].map(|project| {
        let body = json!({"name": "theirs", "project": project, "user": user});
        make(strait, "keys", body)["key"]
            .as_str()
            .unwrap()
            .to_owned()
    });
    make(
        strait,
        "budgets",
        json!({"on": user, "usd": 0.02, "every": "week", "timezone": "Europe/Berlin"}),
    );
    let mut body = chat("fast", "hi");
    body["max_tokens"] = json!(100);
    let statuses = [0, 1, 0, 1].map(|at: usize| ask_body(strait, &keys[at], &body).status);
    assert_eq!(statuses, [200, 200, 402, 402]);
    assert_eq!(
        ask_body(strait, &tree.secret, &body).status,
        200,
        "another's"
    );
}

#[test]
fn limits_of_models_and_budgets_of_end_users_are_attached_like_others() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let limit = json!({"on": tree.team, "models": ["lab/*"], "rpd": 3});
    make(strait, "limits", limit);
    let each = json!({"on": tree.organisation, "end_user": "*", "usd": 0.01, "every": "day"});
    make(strait, "budgets", each);
    let named = json!({"on": tree.organisation, "end_user": "vip", "usd": 0.02, "every": "day"});
    let named = make(strait, "budgets", named);
    let both = json!({"on": tree.team, "end_user": "a", "tag": "b", "usd": 1, "every": "day"});
    let wrong = call(strait, OPERATOR, "POST", "budgets", &both);
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    assert!(wrong.text().contains("tag"), "{}", wrong.text());
    let ask = |user: &str| {
        let mut body = chat("fast", "hi");
        body["max_tokens"] = json!(100);
        body["user"] = json!(user);
        ask_body(strait, &tree.secret, &body)
    };
    assert_eq!(ask("eve").status, 200);
    strait.records(1);
    let refused = ask("eve");
    assert_eq!(refused.status, 402);
    let name = format!("`{}/end_user:eve`", tree.organisation);
    assert!(refused.text().contains(&name), "{}", refused.text());
    assert_eq!(ask("vip").status, 200);
    strait.records(3);
    let shown = call(
        strait,
        OPERATOR,
        "GET",
        &format!("budgets/{}", id(&named)),
        &Value::Null,
    );
    assert_eq!(shown.json()["spent_usd"], "0.01", "{}", shown.text());
    assert_eq!(ask("adam").status, 200);
    let refused = ask("cain");
    assert_eq!(refused.status, 429, "{}", refused.text());
    let name = format!("team '{} for lab/*'", tree.team);
    assert!(refused.text().contains(&name), "{}", refused.text());
}

#[test]
fn a_budget_that_is_made_is_charged_with_nothing_from_before() {
    let mut lab = lab();
    let tree = tree(&lab.strait, "acme");
    let first = json!({"on": tree.key, "usd": 1, "every": "ever"});
    let first = format!("budgets/{}", id(&make(&lab.strait, "budgets", first)));
    let mut body = chat("fast", "hi");
    body["max_tokens"] = json!(100);
    // Each is of a second of its own.
    let second = || std::thread::sleep(std::time::Duration::from_millis(1100));
    let spent = |strait: &Strait, budget: &str| {
        let shown = call(strait, OPERATOR, "GET", budget, &Value::Null);
        shown.json()["spent_usd"].clone()
    };
    // What can't be kept is charged from the journal.
    let beside = lab.strait.dir.path().join("state/budgets.json.new");
    std::fs::create_dir(&beside).unwrap();
    assert_eq!(ask_body(&lab.strait, &tree.secret, &body).status, 200);
    second();
    let later = json!({"on": tree.team, "usd": 1, "every": "ever"});
    let later = format!("budgets/{}", id(&make(&lab.strait, "budgets", later)));
    assert_eq!(ask_body(&lab.strait, &tree.secret, &body).status, 200);
    lab.strait.signal("KILL");
    lab.strait.wait_exit(std::time::Duration::from_secs(10));
    std::fs::remove_dir(&beside).unwrap();
    lab.strait.restart();
    eventually("both are charged", || {
        spent(&lab.strait, &first) == "0.02" && spent(&lab.strait, &later) == "0.01"
    });
}
