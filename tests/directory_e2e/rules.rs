//! Rules at every level: they unite, narrow, deny, and bind whoever steps in.

use serde_json::{Value, json};

use super::*;

fn policy(strait: &Strait, body: Value) -> String {
    id(&make(strait, "policies", body))
}

#[test]
fn rules_of_one_level_unite_and_lower_levels_only_narrow() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let may = |model: &str| ask(strait, &tree.secret, model).status;
    policy(
        strait,
        json!({"on": tree.organisation, "allow": {"models": ["fast"]}}),
    );
    assert_eq!((may("fast"), may("backup"), may("lab/x")), (200, 403, 403));
    policy(
        strait,
        json!({"on": tree.organisation, "allow": {"models": ["backup"]}}),
    );
    assert_eq!((may("fast"), may("backup"), may("lab/x")), (200, 200, 403));
    policy(
        strait,
        json!({"on": tree.project, "allow": {"models": ["fast", "lab/*"]}}),
    );
    assert_eq!(
        (may("fast"), may("backup"), may("lab/x")),
        (200, 403, 403),
        "a project can't allow more"
    );
    let denied = policy(
        strait,
        json!({"on": tree.key, "deny": {"models": ["fast"]}}),
    );
    assert_eq!((may("fast"), may("backup"), may("lab/x")), (403, 403, 403));
    let path = format!("policies/{denied}");
    assert_eq!(
        call(strait, OPERATOR, "DELETE", &path, &Value::Null).status,
        200
    );
    assert_eq!(may("fast"), 200);
}

#[test]
fn who_steps_in_is_bound_like_who_was_asked() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let ask = |model: &str| {
        let answer = ask(strait, &tree.secret, model);
        let provider = answer.header("x-strait-provider").map(str::to_owned);
        (answer.status, provider.unwrap_or_default())
    };
    assert_eq!(
        ask("guarded"),
        (200, "cheap".into()),
        "the fallback answers"
    );
    let deny = policy(
        strait,
        json!({"on": tree.team, "deny": {"models": ["backup"]}}),
    );
    assert!(
        ask("guarded").0 >= 500,
        "its fallback is denied by its name"
    );
    assert_eq!(
        ask("nested"),
        (200, "lab".into()),
        "so is a model in a model"
    );
    let path = format!("policies/{deny}");
    let by_id = json!({"deny": {"models": ["cheap/y"]}});
    assert_eq!(call(strait, OPERATOR, "PATCH", &path, &by_id).status, 200);
    assert!(ask("guarded").0 >= 500, "or by that of its provider");
    assert_eq!(ask("both").0, 200);
    let allow = json!({"deny": null, "allow": {"models": ["guarded", "nested", "fast"]}});
    assert_eq!(call(strait, OPERATOR, "PATCH", &path, &allow).status, 200);
    assert!(
        ask("guarded").0 >= 500,
        "what is allowed is not what stands in for it"
    );
    let providers = json!({"allow": {"providers": ["lab"]}});
    assert_eq!(
        call(strait, OPERATOR, "PATCH", &path, &providers).status,
        200
    );
    assert!(ask("guarded").0 >= 500);
    assert_eq!((ask("both"), ask("backup").0), ((200, "lab".into()), 403));
}

#[test]
fn a_ceiling_drops_the_provider_and_not_the_model() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    policy(
        strait,
        json!({"on": tree.organisation, "max_price": {"out": 5}}),
    );
    for _ in 0..4 {
        let answer = ask(strait, &tree.secret, "both");
        assert_eq!(
            answer.header("x-strait-provider"),
            Some("cheap"),
            "{}",
            answer.text()
        );
    }
    let none = ask(strait, &tree.secret, "fast");
    assert_eq!(none.status, 403, "{}", none.text());
    let text = none.text();
    assert!(
        text.contains("price") && text.contains(&tree.organisation),
        "{text}"
    );
    policy(
        strait,
        json!({"on": tree.key, "no_training": true, "allow": {"regions": ["eu"]}}),
    );
    let none = ask(strait, &tree.secret, "both");
    assert_eq!(
        none.status,
        403,
        "one costs too much, the other may train: {}",
        none.text()
    );
}

#[test]
fn endpoints_and_addresses_are_let_through_or_not() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let headers = [("authorization", &*format!("Bearer {}", tree.secret))];
    let embed = || {
        let body = json!({"model": "fast", "input": "hi"}).to_string();
        strait
            .client()
            .post("/v1/embeddings", &headers, body.as_bytes())
    };
    let raw = || {
        strait
            .client()
            .request("GET", "/lab/v1/files", &headers, b"")
            .status
    };
    assert_eq!(embed().status, 200);
    let rule = policy(
        strait,
        json!({"on": tree.team, "allow": {"endpoints": ["chat"]}}),
    );
    assert_eq!((embed().status, raw()), (403, 403));
    assert!(
        embed().text().contains("`embeddings`"),
        "{}",
        embed().text()
    );
    assert_eq!(ask(strait, &tree.secret, "fast").status, 200);
    assert_eq!(
        strait
            .client()
            .request("GET", "/v1/models", &headers, b"")
            .status,
        200
    );
    let path = format!("policies/{rule}");
    let elsewhere = json!({"allow": {"addresses": ["10.0.0.0/8"]}});
    assert_eq!(
        call(strait, OPERATOR, "PATCH", &path, &elsewhere).status,
        200
    );
    let refused = ask(strait, &tree.secret, "fast");
    assert_eq!(refused.status, 403);
    assert!(
        refused.text().contains("from this address"),
        "{}",
        refused.text()
    );
    let here = json!({"allow": {"addresses": ["127.0.0.0/8", "10.0.0.0/8"]}});
    assert_eq!(call(strait, OPERATOR, "PATCH", &path, &here).status, 200);
    assert_eq!(ask(strait, &tree.secret, "fast").status, 200);
    let denied = json!({"deny": {"addresses": ["127.0.0.1"]}});
    assert_eq!(call(strait, OPERATOR, "PATCH", &path, &denied).status, 200);
    assert_eq!(ask(strait, &tree.secret, "fast").status, 403);
}

#[test]
fn a_copy_goes_only_where_the_key_may_go() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let copies = || {
        let calls = lab._provider.calls();
        calls.iter().filter(|call| call.model == "copied").count()
    };
    assert_eq!(ask(strait, &tree.secret, "shadowed").status, 200);
    crate::common::eventually("it is copied", || copies() == 1);
    policy(
        strait,
        json!({"on": tree.team, "allow": {"models": ["shadowed"]}}),
    );
    assert_eq!(ask(strait, &tree.secret, "shadowed").status, 200);
    // One that may be copied comes after it: by then the other would have been.
    let other = super::tree(strait, "other");
    assert_eq!(ask(strait, &other.secret, "shadowed").status, 200);
    crate::common::eventually("the other is copied", || copies() >= 2);
    assert_eq!(copies(), 2);
}

#[test]
fn a_dry_run_is_held_to_the_rules_of_a_key_by_its_id() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    policy(
        strait,
        json!({"on": tree.project, "max_price": {"out": 5}, "deny": {"models": ["backup"]}}),
    );
    let explain = |model: &str, key: &str| {
        let body = json!({"request": chat(model, "hi"), "key": key});
        call(strait, OPERATOR, "POST", "explain", &body)
    };
    let both = explain("both", &tree.key);
    assert_eq!(both.status, 200, "{}", both.text());
    let text = both.text();
    assert!(
        text.contains(&format!("project {}", tree.project)),
        "{text}"
    );
    assert_eq!(explain("backup", &tree.key).status, 403);
    assert_eq!(
        explain("backup", "key_none").json()["error"]["code"],
        "invalid_request"
    );
}
