//! Every route of the administration API × every role.

use serde_json::{Value, json};
use strait::server::routes::ROUTES;

use super::*;

/// Who may, beside the operator, within their own organisation.
const WHO: &[(&str, &str, &str)] = &[
    ("GET", "status", ""),
    ("GET", "models", ALL),
    ("POST", "reload", ""),
    ("POST", "explain", ""),
    ("GET", "cooldowns", ""),
    ("DELETE", "cooldowns", ""),
    ("DELETE", "cache", ""),
    ("GET", "openapi.json", ALL),
    ("GET", "me", ALL),
    ("GET", "organisations", ALL),
    ("POST", "organisations", ""),
    ("GET", "organisations/{id}", WIDE),
    ("PATCH", "organisations/{id}", "owner"),
    ("DELETE", "organisations/{id}", ""),
    ("GET", "teams", ALL),
    ("POST", "teams", "owner admin"),
    ("GET", "teams/{id}", WIDE),
    ("PATCH", "teams/{id}", "owner admin"),
    ("DELETE", "teams/{id}", "owner admin"),
    ("GET", "projects", ALL),
    ("POST", "projects", "owner admin"),
    ("GET", "projects/{id}", ALL),
    ("PATCH", "projects/{id}", "owner admin"),
    ("DELETE", "projects/{id}", "owner admin"),
    ("GET", "users", ALL),
    ("POST", "users", "owner admin"),
    ("GET", "users/{id}", WIDE),
    ("PATCH", "users/{id}", "owner admin"),
    ("DELETE", "users/{id}", "owner admin"),
    ("GET", "keys", ALL),
    ("POST", "keys", "owner admin project_admin developer"),
    ("GET", "keys/{id}", ALL),
    ("PATCH", "keys/{id}", "owner admin project_admin"),
    ("DELETE", "keys/{id}", "owner admin project_admin"),
    ("GET", "policies", ALL),
    ("POST", "policies", "owner admin project_admin"),
    ("GET", "policies/{id}", ALL),
    ("PATCH", "policies/{id}", "owner admin project_admin"),
    ("DELETE", "policies/{id}", "owner admin project_admin"),
    ("GET", "limits", ALL),
    ("POST", "limits", "owner admin project_admin"),
    ("GET", "limits/{id}", ALL),
    ("PATCH", "limits/{id}", "owner admin project_admin"),
    ("DELETE", "limits/{id}", "owner admin project_admin"),
    ("GET", "budgets", ALL),
    ("POST", "budgets", "owner admin project_admin"),
    ("GET", "budgets/{id}", ALL),
    ("PATCH", "budgets/{id}", "owner admin project_admin"),
    ("DELETE", "budgets/{id}", "owner admin project_admin"),
    ("GET", "credentials", ""),
    ("POST", "credentials", ""),
    ("GET", "credentials/{id}", ""),
    ("PATCH", "credentials/{id}", ""),
    ("DELETE", "credentials/{id}", ""),
    ("POST", "keys/{id}/rotate", "owner admin project_admin"),
    ("POST", "users/{id}/token", "owner admin"),
    ("DELETE", "users/{id}/token", "owner admin"),
    ("GET", "usage", ALL),
    ("GET", "records", ALL),
    ("GET", "records/export", ALL),
    ("GET", "records/{id}/body", "owner admin auditor"),
    ("DELETE", "records", ""),
    ("GET", "audit", "owner admin auditor"),
    ("GET", "signin", ANYONE),
    ("GET", "signin/callback", ANYONE),
    ("POST", "signout", ANYONE),
    ("DELETE", "sessions", ""),
];
/// Needs no token; `signin` has more.
const ANYONE: &str = "anyone";
const ALL: &str = "owner admin project_admin developer viewer auditor";
/// Who is something in the whole organisation.
const WIDE: &str = "owner admin viewer auditor";
const ROLES: [&str; 6] = [
    "owner",
    "admin",
    "project_admin",
    "developer",
    "viewer",
    "auditor",
];

/// Makes what a route is about anew, so that one attempt leaves nothing of it to the next, and returns the path and a
/// body that an operator could send.
fn about(strait: &Strait, tree: &Tree, method: &str, path: &str) -> (String, Value) {
    let new = |kind: &str| {
        let name = strait::directory::token::new_id("n");
        match kind {
            "organisations" => json!({"name": name}),
            "teams" | "users" => json!({"name": name, "organisation": tree.organisation}),
            "projects" => json!({"name": name, "team": tree.team}),
            "keys" => json!({"name": name, "project": tree.project}),
            "policies" => json!({"on": tree.key, "deny": {"models": ["none"]}}),
            "limits" => json!({"on": tree.key, "rpm": 1000}),
            "budgets" => json!({"on": tree.key, "usd": 5, "every": "day"}),
            "credentials" => json!({"provider": "lab", "name": name, "key": "some-credential"}),
            _ => Value::Null,
        }
    };
    let kind = path.split('/').next().unwrap();
    let body = match (method, path) {
        ("POST", "explain") => chat("fast", "hi"),
        ("POST", path) if !path.contains('{') => new(kind),
        ("PATCH", _) => json!({"name": strait::directory::token::new_id("n")}),
        _ => Value::Null,
    };
    if (method, path) == ("DELETE", "records") {
        return ("records?user=nobody".to_owned(), body);
    }
    if !path.contains("{id}") {
        return (path.to_owned(), body);
    }
    let id = match (kind, method) {
        ("records", _) => said(strait, tree),
        ("organisations", "GET" | "PATCH") => tree.organisation.clone(),
        ("organisations", _) => id(&make(strait, kind, new(kind))),
        ("projects", "GET") => tree.project.clone(),
        _ => id(&make(strait, kind, new(kind))),
    };
    (path.replace("{id}", &id), body)
}

/// Returns the id of an exchange of the tree's project whose body is kept.
fn said(strait: &Strait, tree: &Tree) -> String {
    let first = || {
        let path = format!("records?limit=1&project={}", tree.project);
        let told = call(strait, OPERATOR, "GET", &path, &Value::Null);
        Some(told.json()["data"].get(0)?["id"].as_str()?.to_owned())
    };
    if let Some(id) = first() {
        return id;
    }
    let path = format!("projects/{}", tree.project);
    let body = json!({"retention": {"keep": "bodies"}});
    assert_eq!(call(strait, OPERATOR, "PATCH", &path, &body).status, 200);
    let bearer = format!("Bearer {}", tree.secret);
    let headers = [("authorization", bearer.as_str())];
    let asked = strait.client().post(
        "/v1/chat/completions",
        &headers,
        chat("fast", "hi").to_string().as_bytes(),
    );
    assert_eq!(asked.status, 200, "{}", asked.text());
    let mut found = None;
    eventually("its body is kept", || {
        found = first();
        let Some(id) = &found else { return false };
        let path = format!("records/{id}/body");
        call(strait, OPERATOR, "GET", &path, &Value::Null).status == 200
    });
    found.unwrap()
}

#[test]
fn every_route_asks_for_its_role() {
    for route in ROUTES.iter() {
        let path = route.path.strip_prefix("/admin/v1/").unwrap();
        let known = WHO
            .iter()
            .any(|(method, known, _)| *method == route.method && *known == path);
        assert!(
            known,
            "{} {path} is not in the table of this test",
            route.method
        );
    }
    assert_eq!(WHO.len(), ROUTES.len());
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let people = ROLES.map(|role| {
        let of = match role {
            "project_admin" | "developer" => &tree.project,
            _ => &tree.organisation,
        };
        (role, person(strait, &tree.organisation, role, of).1)
    });
    let stranger = super::tree(strait, "strangers");
    let stranger = person(
        strait,
        &stranger.organisation,
        "owner",
        &stranger.organisation,
    )
    .1;
    for (method, path, who) in WHO {
        let attempt = |token: &str| {
            let (path, body) = about(strait, &tree, method, path);
            call(strait, token, method, &path, &body)
        };
        let none = attempt("no-token");
        if *who == ANYONE {
            // There is no provider here.
            assert_eq!(none.status, 404, "{method} {path}");
            continue;
        }
        assert_eq!(none.status, 401, "{method} {path} without a token");
        let operator = attempt(OPERATOR);
        assert!(
            operator.status < 300,
            "{method} {path} as operator: {} {}",
            operator.status,
            operator.text()
        );
        for (role, token) in &people {
            let answer = attempt(token);
            let may = who.split(' ').any(|known| known == *role);
            let is = match answer.status {
                200..300 => true,
                403 | 404 => false,
                status => panic!("{method} {path} as {role}: {status} {}", answer.text()),
            };
            assert_eq!(
                is,
                may,
                "{method} {path} as {role}: {} {}",
                answer.status,
                answer.text()
            );
        }
        // Whoever belongs elsewhere is told nothing of what is here.
        let everywhere = !path.contains("{id}") && (who.contains("viewer") || *path == "audit");
        let creates = *method == "POST" && !path.contains('{');
        let answer = attempt(&stranger);
        match (everywhere, creates) {
            (true, _) => {
                assert_eq!(answer.status, 200, "{method} {path}");
                for id in [&tree.organisation, &tree.team, &tree.project, &tree.key] {
                    assert!(
                        !answer.text().contains(id.as_str()),
                        "{method} {path}: {}",
                        answer.text()
                    );
                }
            }
            (false, true) if !who.is_empty() => {
                assert_eq!(answer.status, 400, "{method} {path}: {}", answer.text());
            }
            (false, _) => {
                assert!(
                    matches!(answer.status, 403 | 404),
                    "{method} {path}: {}",
                    answer.text()
                );
            }
        }
    }
}

#[test]
fn models_are_told_with_whom_they_ask() {
    let lab = lab();
    let told = call(&lab.strait, OPERATOR, "GET", "models", &Value::Null).json();
    let models = told["data"].as_array().unwrap();
    let fast = models.iter().find(|model| model["id"] == "fast").unwrap();
    assert_eq!(fast["strategy"], "fallback", "{fast}");
    assert!(
        fast["targets"]
            .as_array()
            .is_some_and(|targets| !targets.is_empty()),
        "{fast}"
    );
    let demo = models
        .iter()
        .find(|model| model["id"] == "demo/echo")
        .unwrap();
    assert!(demo["strategy"].is_null());
}

#[test]
fn auditors_see_what_was_done_to_theirs() {
    let lab = lab();
    let strait = &lab.strait;
    let (ours, theirs) = (tree(strait, "acme"), tree(strait, "others"));
    let audits = |of: &str| person(strait, &ours.organisation, "auditor", of).1;
    let (all, team) = (audits(&ours.organisation), audits(&ours.team));
    // Names of fields are the client's own.
    let trick = json!({"name": "x", format!("\"path\":\"/{}\"", ours.organisation): 1});
    call(strait, OPERATOR, "POST", "organisations", &trick);
    let path = format!("keys/{}", theirs.key);
    assert_eq!(
        call(strait, OPERATOR, "DELETE", &path, &Value::Null).status,
        200
    );
    let seen = |token: &str| -> Vec<String> {
        let told = call(strait, token, "GET", "audit?limit=500", &Value::Null);
        assert_eq!(told.status, 200, "{}", told.text());
        let rows = told.json()["data"].as_array().unwrap().clone();
        rows.iter()
            .map(|row| row["object"].as_str().unwrap().to_owned())
            .collect()
    };
    eventually("all of it is in the log", || {
        seen(OPERATOR).contains(&theirs.key) && seen(&all).contains(&ours.key)
    });
    let (whole, of_team) = (seen(&all), seen(&team));
    for id in [&ours.organisation, &ours.team, &ours.project, &ours.key] {
        assert!(whole.contains(id), "{id}: {whole:?}");
    }
    assert!(of_team.contains(&ours.key) && !of_team.contains(&ours.organisation));
    for id in [
        &theirs.organisation,
        &theirs.team,
        &theirs.project,
        &theirs.key,
    ] {
        assert!(!whole.contains(id) && !of_team.contains(id), "{id}");
    }
}

#[test]
fn nobody_makes_anybody_more_than_they_are() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let org = &tree.organisation;
    let (owner, _) = person(strait, org, "owner", org);
    let (admin, token) = person(strait, org, "admin", org);
    let post = |path: &str, body: Value| call(strait, &token, "POST", path, &body).status;
    let roles = |role: &str| json!({"name": role, "organisation": org, "roles": [{"role": role, "of": org}]});
    assert_eq!(post("users", roles("owner")), 403);
    assert_eq!(post("users", roles("admin")), 201);
    let up = json!({"roles": [{"role": "owner", "of": org}]});
    let patch =
        |id: &str, body: &Value| call(strait, &token, "PATCH", &format!("users/{id}"), body).status;
    assert_eq!(patch(&admin, &up), 403, "itself");
    assert_eq!(patch(&owner, &json!({"disabled": true})), 403, "an owner");
    let take = call(
        strait,
        &token,
        "POST",
        &format!("users/{owner}/token"),
        &Value::Null,
    );
    assert_eq!(take.status, 403, "an owner's token");
    let own = call(
        strait,
        &token,
        "POST",
        &format!("users/{admin}/token"),
        &Value::Null,
    );
    assert_eq!(own.status, 200, "their own");
    assert_eq!(
        call(strait, &token, "GET", "me", &Value::Null).status,
        401,
        "the one before is gone"
    );
    // Who is bound by a rule doesn't lift it.
    let (_, leader) = person(strait, org, "project_admin", &tree.project);
    let rule = id(&make(
        strait,
        "policies",
        json!({"on": tree.project, "deny": {"models": ["x"]}}),
    ));
    let lift = call(
        strait,
        &leader,
        "DELETE",
        &format!("policies/{rule}"),
        &Value::Null,
    );
    assert_eq!(lift.status, 403, "{}", lift.text());
    let wide = call(
        strait,
        &leader,
        "POST",
        "limits",
        &json!({"on": tree.project, "rpm": 5}),
    );
    assert_eq!(wide.status, 403);
    // A developer has their own keys alone.
    let (developer, token) = person(strait, org, "developer", &tree.project);
    let key = |user: &str, name: &str| json!({"name": name, "project": tree.project, "user": user});
    assert_eq!(
        call(strait, &token, "POST", "keys", &key(&admin, "a")).status,
        403
    );
    let own = call(strait, &token, "POST", "keys", &key(&developer, "b"));
    let path = format!("keys/{}", id(&own.json()));
    let rotated = call(
        strait,
        &token,
        "POST",
        &format!("{path}/rotate"),
        &Value::Null,
    );
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    let theirs = format!("keys/{}/rotate", tree.key);
    assert_eq!(
        call(strait, &token, "POST", &theirs, &Value::Null).status,
        403
    );
    assert_eq!(
        call(strait, &token, "DELETE", &path, &Value::Null).status,
        200
    );
}
