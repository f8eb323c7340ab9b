//! What is answered that is no chat: the `/_…` paths, the list of models, wrong methods and unknown paths.

use bytes::Bytes;
use hyper::Method;
use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::calls::{Call, Filter};
use super::route::Route;
use super::script::Script;
use super::server::Shared;

/// Answers the `/_…` paths.
pub(super) fn answer(shared: &Shared, head: &Parts, body: &[u8]) -> (u16, Bytes) {
    let (status, body) = match (head.method.as_str(), head.uri.path()) {
        ("GET", "/_calls") => match filter(head.uri.query().unwrap_or("")) {
            Ok(filter) => {
                let calls: Vec<Value> = shared.calls.list(&filter).iter().map(Call::told).collect();
                (200, Value::from(calls))
            }
            Err(message) => (400, json!({"error": message})),
        },
        ("DELETE", "/_calls") => {
            shared.calls.clear();
            (200, json!({"cleared": true}))
        }
        ("GET", "/_calls/count") => {
            let counts = shared.calls.counts();
            (
                200,
                json!({
                    "count": counts.count,
                    "in_progress": counts.in_progress,
                    "connections": counts.connections,
                    "connections_open": counts.connections_open,
                    "health_checks": counts.health_checks,
                }),
            )
        }
        ("GET", "/_script") => {
            let body = shared.running().script.to_json();
            return (200, body.into());
        }
        ("POST" | "PUT", "/_script") => {
            let script = std::str::from_utf8(body).map_err(|error| error.to_string());
            match script.and_then(|text| Script::from_json(text).map_err(|error| error.to_string()))
            {
                Ok(script) => {
                    let rules = script.rules.len();
                    shared.set_script(script);
                    (200, json!({"rules": rules}))
                }
                Err(message) => (400, json!({"error": message})),
            }
        }
        (_, "/_calls" | "/_calls/count" | "/_script") => {
            (405, json!({"error": "method not allowed"}))
        }
        (_, path) => (404, json!({"error": format!("no such path: {path}")})),
    };
    (status, body.to_string().into())
}

fn filter(query: &str) -> Result<Filter, String> {
    let mut filter = Filter::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{name}: {value:?} is not a number"))
        };
        match name {
            "path" => filter.path = Some(value.replace("%2F", "/").replace("%2f", "/")),
            "limit" => filter.limit = Some(usize::try_from(number()?).unwrap_or(usize::MAX)),
            "since" => filter.since = number()?,
            _ => {
                return Err(format!(
                    "{name}: not a filter; there are path, limit and since"
                ));
            }
        }
    }
    Ok(filter)
}

/// Returns status and body for what is no chat call: the list of models, a wrong method, an unknown path.
pub(super) fn other(head: &Parts, route: Option<&Route<'_>>, script: &Script) -> (u16, Bytes) {
    let path = head.uri.path();
    let is_get = head.method == Method::GET || head.method == Method::HEAD;
    if route.is_some_and(|route| !route.takes(&head.method)) {
        let body = json!({"error": {"message": format!("Not allowed: {} {path}", head.method),
            "type": "invalid_request_error", "param": null, "code": "method_not_supported"}});
        return (405, body.to_string().into());
    }
    if is_get && path.ends_with("/api/tags") {
        let models: Vec<Value> = script.models.iter().map(|id| ollama_model(id)).collect();
        return (200, json!({"models": models}).to_string().into());
    }
    let is_google = path.starts_with("/v1beta") || head.headers.contains_key("x-goog-api-key");
    if is_get && is_google && path.ends_with("/models") {
        let models: Vec<Value> = script.models.iter().map(|id| google_model(id)).collect();
        return (200, json!({"models": models}).to_string().into());
    }
    if is_get && path.ends_with("/models") {
        let body = if head.headers.contains_key("anthropic-version") {
            let list: Vec<Value> = script.models.iter().map(|id| anthropic_model(id)).collect();
            json!({"data": list, "has_more": false, "first_id": script.models.first(), "last_id": script.models.last()})
        } else {
            json!({"object": "list", "data": script.models.iter().map(|id| openai_model(id)).collect::<Vec<_>>()})
        };
        return (200, body.to_string().into());
    }
    if is_get
        && let Some((_, id)) = path.split_once("/models/")
        && script.models.iter().any(|known| known == id)
    {
        let model = if head.headers.contains_key("anthropic-version") {
            anthropic_model(id)
        } else if is_google {
            google_model(id)
        } else {
            openai_model(id)
        };
        return (200, model.to_string().into());
    }
    let body = json!({"error": {"message": format!("Invalid URL ({} {path})", head.method),
        "type": "invalid_request_error", "param": null, "code": null}});
    (404, body.to_string().into())
}

fn openai_model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "mock"})
}

fn anthropic_model(id: &str) -> Value {
    json!({"type": "model", "id": id, "display_name": id, "created_at": "2023-11-14T22:13:20Z"})
}

fn google_model(id: &str) -> Value {
    json!({"name": format!("models/{id}"), "displayName": id, "version": "001",
        "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"]})
}

fn ollama_model(id: &str) -> Value {
    json!({"name": id, "model": id, "modified_at": "2023-11-14T22:13:20Z", "size": 1, "digest": "mock",
        "details": {"family": "mock", "format": "gguf"}})
}
