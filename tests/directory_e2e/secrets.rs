//! What hostile callers send, and what must never be said.

use serde_json::{Value, json};
use strait::server::routes::ROUTES;

use super::*;

/// Texts that break out of statements, paths, patterns and JSON where they are pasted instead of bound.
const HOSTILE: [&str; 12] = [
    "'; DROP TABLE objects; --",
    "' OR '1'='1",
    "\" OR 1=1 --",
    "$1",
    "%' OR name LIKE '%",
    "a\\",
    "../../etc/passwd",
    "..%2f..%2f",
    "{{7*7}}",
    "\u{202e}gpt",
    "𝕊trait'\"`",
    "{\"$gt\":\"\"}",
];

#[test]
fn hostile_texts_are_kept_as_they_are_and_do_nothing() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    for text in HOSTILE {
        let team = make(
            strait,
            "teams",
            json!({"name": text, "organisation": tree.organisation}),
        );
        let path = format!("teams/{}", id(&team));
        let shown = call(strait, OPERATOR, "GET", &path, &Value::Null).json();
        assert_eq!(shown["name"], text);
        for field in ["organisation", "name"] {
            let mut body = json!({"name": "x", "organisation": text});
            if field == "name" {
                body = json!({"name": [text], "organisation": tree.organisation});
            }
            let wrong = call(strait, OPERATOR, "POST", "teams", &body);
            assert_eq!(
                (wrong.status, wrong.json()["error"]["param"].clone()),
                (400, json!(field)),
                "{text}"
            );
        }
        let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for path in [
            format!("teams/{escaped}"),
            format!("keys/{escaped}/rotate"),
            format!("keys/file:{escaped}"),
        ] {
            let method = if path.ends_with("rotate") {
                "POST"
            } else {
                "GET"
            };
            let answer = call(strait, OPERATOR, method, &path, &Value::Null);
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        }
        for query in ["cursor", "under"] {
            let path = format!("teams?{query}={escaped}");
            let answer = call(strait, OPERATOR, "GET", &path, &Value::Null);
            assert!(
                matches!(answer.status, 200 | 400),
                "{path}: {}",
                answer.text()
            );
        }
        let body = json!({"name": "again", "organisation": tree.organisation}).to_string();
        let ascii: String = text.chars().filter(char::is_ascii).collect();
        let headers = [
            ("authorization", "Bearer admin-token-of-the-tests"),
            ("idempotency-key", ascii.as_str()),
            ("if-match", ascii.as_str()),
        ];
        let made =
            Client::new(strait.admin).request("POST", "/admin/v1/teams", &headers, body.as_bytes());
        assert!(matches!(made.status, 201 | 409), "{text}: {}", made.text());
    }
    assert_eq!(
        ask(strait, &tree.secret, "fast").status,
        200,
        "everything is still there"
    );
}

#[test]
fn no_request_to_any_route_breaks_anything() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let long = format!("{{\"name\": \"{}\"}}", "x".repeat(200_000));
    let bodies: [&[u8]; 12] = [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\"text\"",
        b"{\"name\": null}",
        b"{\"name\": {\"name\": {\"name\": 1}}}",
        b"{\"name\": \"\\u0000\"}",
        b"{\"name\": \"\\ud800\"}",
        b"\xff\xfe{",
        deep.as_bytes(),
        long.as_bytes(),
    ];
    let ids = [
        tree.key.clone(),
        tree.team.clone(),
        "key_".into(),
        "%00".into(),
        "x".repeat(5000),
    ];
    for route in ROUTES
        .iter()
        .filter(|route| route.path != "/admin/v1/reload")
    {
        for id in &ids {
            let path = route.path.replace("{id}", id);
            for body in bodies {
                // What was made here must not be deleted by the way.
                if route.method == "DELETE" && (*id == tree.key || *id == tree.team) {
                    continue;
                }
                let headers = [("authorization", "Bearer admin-token-of-the-tests")];
                let answer = Client::new(strait.admin).request(route.method, &path, &headers, body);
                assert!(
                    answer.status < 500,
                    "{} {path} {:?}: {} {}",
                    route.method,
                    String::from_utf8_lossy(&body[..body.len().min(60)]),
                    answer.status,
                    answer.text()
                );
                if answer.status >= 400 {
                    assert!(
                        answer.json()["error"]["code"].is_string(),
                        "{}",
                        answer.text()
                    );
                }
            }
            if !route.path.contains("{id}") {
                break;
            }
        }
    }
    let large = vec![b' '; 300 << 10];
    let headers = [("authorization", "Bearer admin-token-of-the-tests")];
    let answer = Client::new(strait.admin).request("POST", "/admin/v1/teams", &headers, &large);
    assert_eq!(answer.status, 413);
}

#[test]
fn what_only_resembles_a_key_or_a_token_is_refused() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let (_, token) = person(strait, &tree.organisation, "owner", &tree.organisation);
    let secret = &tree.secret;
    let (head, tail) = secret.rsplit_once('-').unwrap();
    let public = tree.key.strip_prefix("key_").unwrap();
    let mut alike = vec![
        head.to_owned(),
        format!("{head}-"),
        format!("{head}-{}", &tail[..tail.len() - 1]),
        format!("{head}-{tail}0"),
        format!("{head}-{}", tail.to_uppercase()),
        format!("{head}-{}", "0".repeat(tail.len())),
        format!("sk-strait-{public}"),
        format!("sk-strait-{}-{tail}", "0".repeat(16)),
        secret.replace("sk-strait-", "sk-strait--"),
        secret.replace("sk-strait-", "sat-"),
        tree.key.clone(),
        token.clone(),
        OPERATOR.to_owned(),
        "x".repeat(512),
        "x".repeat(8000),
    ];
    // One letter changed, at every place.
    for at in 0..secret.len() {
        let mut changed = secret.clone().into_bytes();
        changed[at] = if changed[at] == b'7' { b'8' } else { b'7' };
        alike.push(String::from_utf8(changed).unwrap());
    }
    for text in &alike {
        let status = ask(strait, text, "fast").status;
        assert_eq!(status, 401, "{text}");
    }
    assert_eq!(ask(strait, secret, "fast").status, 200);
    for text in [
        secret.clone(),
        token.replace("sat-", "sk-strait-"),
        token[..token.len() - 1].to_owned(),
        format!("{token}0"),
        "x".repeat(600),
        String::new(),
    ] {
        assert_eq!(
            call(strait, &text, "GET", "me", &Value::Null).status,
            401,
            "{text}"
        );
    }
    let shown = call(strait, &token, "GET", "me", &Value::Null).json();
    assert_eq!(shown["roles"][0]["role"], "owner", "{shown}");
}

#[test]
fn no_secret_is_in_any_log_metric_error_record_or_answer() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let (user, token) = person(strait, &tree.organisation, "owner", &tree.organisation);
    let body = json!({"provider": "lab", "name": "stored", "key": "planted-credential-0123"});
    let credential = id(&make(strait, "credentials", body));
    let rotated = call(
        strait,
        OPERATOR,
        "POST",
        &format!("keys/{}/rotate", tree.key),
        &Value::Null,
    )
    .json();
    let rotated = rotated["key"].as_str().unwrap().to_owned();
    let mut said = String::new();
    for (key, model) in [
        (&tree.secret, "fast"),
        (&rotated, "fast"),
        (&rotated, "nowhere"),
        (&token, "fast"),
    ] {
        said.push_str(&ask(strait, key, model).text());
    }
    let wrong =
        json!({"provider": "lab", "name": "stored", "key": "planted-credential-0123", "more": 1});
    said.push_str(&call(strait, OPERATOR, "POST", "credentials", &wrong).text());
    for path in [
        "keys",
        "users",
        "credentials",
        "status",
        "openapi.json",
        "me",
        &format!("users/{user}"),
        &format!("credentials/{credential}"),
    ] {
        said.push_str(&call(strait, OPERATOR, "GET", path, &Value::Null).text());
        said.push_str(&call(strait, &token, "GET", path, &Value::Null).text());
    }
    said.push_str(&strait.metrics());
    said.push_str(&serde_json::to_string(&strait.records(4)).unwrap());
    said.push_str(&strait.log());
    let read =
        |name: &str| std::fs::read_to_string(strait.dir.path().join("state").join(name)).unwrap();
    let mut planted = vec![
        read("pepper"),
        read("master-key"),
        "planted-credential-0123".into(),
        "provider-key-in-the-file".into(),
    ];
    for text in [&tree.secret, &rotated, &token] {
        planted.push(text.rsplit_once('-').unwrap().1.to_owned());
    }
    for secret in &planted {
        assert!(
            !secret.trim().is_empty() && !said.contains(secret.trim()),
            "{secret} is said"
        );
    }
    // Nor is one in the database as it is.
    for name in ["strait.db", "strait.db-wal"] {
        let bytes = std::fs::read(strait.dir.path().join("state").join(name)).unwrap_or_default();
        for secret in &planted {
            assert!(
                memchr::memmem::find(&bytes, secret.as_bytes()).is_none(),
                "{name} holds {secret}"
            );
        }
    }
    use std::os::unix::fs::PermissionsExt;
    for name in ["pepper", "master-key"] {
        let file = strait.dir.path().join("state").join(name);
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
}
