//! Keys and teams over the administration API, through the whole program.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod command;
#[path = "../common/mod.rs"]
mod common;
mod document;
mod idp;
mod keys;
mod money;
mod nodes;
mod objects;
mod roles;
mod rules;
mod secrets;
mod signin;
mod tokens;

use common::{Answer, Client, Strait, chat, eventually, mock};
use serde_json::{Value, json};
use strait::mock::Mock;

/// Every answer costs a cent: 100 tokens out at 100 USD a million.
const CENT: &str = "[default]\nusage = { prompt_tokens = 10, completion_tokens = 100 }";

/// A gateway without keys of its own.
struct Lab {
    strait: Strait,
    /// Kept running.
    _provider: Mock,
}

/// What a key belongs to, by id, and the key itself.
struct Tree {
    organisation: String,
    team: String,
    project: String,
    key: String,
    /// The whole text.
    secret: String,
}

fn config(provider: &Mock) -> String {
    format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        base_url = "{0}/v1"
        key = "provider-key-in-the-file"
        price = {{ in = 0, out = 100 }}
        data = {{ region = "eu", no_training = true }}
        apis = ["chat", "embeddings"]
        [providers.cheap]
        protocols = ["openai-chat"]
        base_url = "{0}/v1"
        key = "another-provider-key-in-the-file"
        price = {{ in = 0, out = 1 }}
        data = {{ region = "us" }}
        [models.fast]
        targets = ["lab/x"]
        [models.backup]
        targets = ["cheap/y"]
        [models.both]
        targets = ["lab/x", "cheap/x"]
        [models.guarded]
        targets = ["lab/dead"]
        fallbacks = ["backup"]
        retries = {{ max_attempts = 4, backoff = "1ms" }}
        [models.shadowed]
        targets = ["lab/x"]
        shadow = {{ model = "cheap/copied", share = 1.0 }}
        [models.nested]
        targets = ["backup", "fast"]
        "#,
        provider.url()
    )
}

fn lab() -> Lab {
    let dead = "[[rule]]\nmodel = \"dead\"\nsteps = [{ status = 500 }]\n";
    let provider = mock(&format!("{CENT}\n{dead}"));
    Lab {
        strait: Strait::start(&config(&provider)),
        _provider: provider,
    }
}

/// Asks the administration API with a token.
fn call(strait: &Strait, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let path = format!("/admin/v1/{path}");
    Client::new(strait.admin).request(method, &path, &headers, body.as_bytes())
}

const OPERATOR: &str = "admin-token-of-the-tests";

/// Makes an object, as the operator.
fn make(strait: &Strait, kind: &str, body: Value) -> Value {
    let made = call(strait, OPERATOR, "POST", kind, &body);
    assert_eq!(made.status, 201, "{kind} {body}: {}", made.text());
    let etag = made.header("etag").unwrap().to_owned();
    let made = made.json();
    assert_eq!(made["etag"], etag.as_str());
    made
}

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}

/// Makes an organisation with all that a key needs, and a key.
fn tree(strait: &Strait, name: &str) -> Tree {
    let organisation = id(&make(strait, "organisations", json!({"name": name})));
    let team = json!({"name": "team", "organisation": organisation});
    let team = id(&make(strait, "teams", team));
    let project = json!({"name": "project", "team": team});
    let project = id(&make(strait, "projects", project));
    let key = make(strait, "keys", json!({"name": "key", "project": project}));
    Tree {
        organisation,
        team,
        project,
        key: id(&key),
        secret: key["key"].as_str().unwrap().to_owned(),
    }
}

/// Makes a user who is `role` in `of`, and returns their id and token.
fn person(strait: &Strait, organisation: &str, role: &str, of: &str) -> (String, String) {
    let name = format!("{role} {}", strait::directory::token::new_id(""));
    let roles = json!([{"role": role, "of": of}]);
    let body = json!({"name": name, "organisation": organisation, "roles": roles});
    let user = id(&make(strait, "users", body));
    let path = format!("users/{user}/token");
    let made = call(strait, OPERATOR, "POST", &path, &Value::Null).json();
    (user, made["token"].as_str().unwrap().to_owned())
}

fn ask(strait: &Strait, key: &str, model: &str) -> Answer {
    ask_body(strait, key, &chat(model, "hi"))
}

fn ask_body(strait: &Strait, key: &str, body: &Value) -> Answer {
    let authorization = format!("Bearer {key}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("x-strait-cache", "no-store"),
    ];
    let body = body.to_string();
    strait
        .client()
        .post("/v1/chat/completions", &headers, body.as_bytes())
}
