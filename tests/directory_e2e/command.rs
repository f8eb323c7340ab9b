//! `strait keys`, as a client of the running gateway.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::*;

fn keys(strait: &Strait, args: &[&str]) -> Output {
    let config = strait.dir.path().join("strait.toml");
    Command::new(env!("CARGO_BIN_EXE_strait"))
        .arg("keys")
        .args(args)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap()
}

/// Runs a command that works, and returns what it prints.
fn told(strait: &Strait, args: &[&str]) -> String {
    let output = keys(strait, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_key_is_made_bound_replaced_refused_and_deleted_from_the_command_line() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let create = ["create", "--project", &tree.project, "--name", "ci"];
    let bound = [
        "--model", "fast", "--model", "lab/*", "--rpm", "3", "--budget", "5", "--every", "day",
    ];
    let key = told(strait, &[&create[..], &bound[..]].concat());
    assert!(key.starts_with("sk-strait-"), "{key}");
    assert_eq!(ask(strait, &key, "fast").status, 200);
    assert_eq!(ask(strait, &key, "backup").status, 403);
    let headers = [("authorization", &*format!("Bearer {key}"))];
    let own = strait
        .client()
        .request("GET", "/v1/key", &headers, b"")
        .json();
    assert_eq!(
        (&own["limits"][0]["rpm"], &own["budgets"][0]["usd"]),
        (&json!(3), &json!("5")),
        "{own}"
    );
    let id = own["id"].as_str().unwrap();

    let listed = told(strait, &["list", "--under", &tree.team]);
    assert!(
        listed.contains(id) && listed.contains("in force"),
        "{listed}"
    );
    assert!(
        !listed.contains(key.rsplit('-').next().unwrap()),
        "{listed}"
    );
    let lines = told(strait, &["list", "--json"]);
    assert_eq!(lines.lines().count(), 2, "{lines}");

    let second = told(strait, &["rotate", id, "--grace", "0"]);
    assert_eq!(ask(strait, &key, "fast").status, 401);
    assert_eq!(ask(strait, &second, "fast").status, 200);
    told(strait, &["disable", id]);
    assert_eq!(ask(strait, &second, "fast").status, 401);
    assert!(told(strait, &["list"]).contains("disabled"));
    told(strait, &["disable", id, "--undo"]);
    assert_eq!(ask(strait, &second, "fast").status, 200);
    told(strait, &["delete", id]);
    assert_eq!(ask(strait, &second, "fast").status, 401);
}

#[test]
fn what_the_gateway_refuses_is_said_and_nothing_is_left_behind() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    for (args, says) in [
        (
            vec!["create", "--project", "proj_none", "--name", "a"],
            "`project`",
        ),
        (
            vec![
                "create",
                "--project",
                &tree.project,
                "--name",
                "a",
                "--every",
                "year",
                "--budget",
                "1",
            ],
            "`every`",
        ),
        (
            vec!["create", "--project", &tree.project, "--name", "key"],
            "of that name",
        ),
        (vec!["rotate", "key_none"], "nothing at this path"),
        (vec!["delete", "../teams"], "nothing at this path"),
    ] {
        let output = keys(strait, &args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && error.contains(says),
            "{args:?}: {error}"
        );
    }
    let all = call(strait, OPERATOR, "GET", "keys", &Value::Null).json();
    assert_eq!(all["data"].as_array().unwrap().len(), 1, "{all}");
}
