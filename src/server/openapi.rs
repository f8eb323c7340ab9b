//! The document of the administration API, made from the table of routes and the table of fields.

use serde_json::{Map, Value, json};

use super::routes::{Does, ROUTES, Route};
use crate::directory::role::Least;
use crate::directory::schema::{self, Field, Kind};
use crate::ledger::api as ledger;

/// Returns the document, in OpenAPI 3.1.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES.iter() {
        let operations = paths
            .entry(route.path.clone())
            .or_insert_with(|| json!({}))
            .as_object_mut();
        if let Some(operations) = operations {
            operations.insert(route.method.to_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Strait administration",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Who may ask the gateway, for what and how much. Errors name the field at fault.",
        },
        "security": [{"bearer": []}, {"session": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description": "The admin token, the token of a user (sat-…), or that of a session (sst-…).",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": "strait-session",
                    "description": "What signing in has made; over TLS its name begins with `__Host-`. A change has to come from a page of this server, or to send `x-strait-csrf`.",
                },
            },
            "schemas": schemas(),
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = Map::new();
    let id = route
        .path
        .replace("/admin/v1/", "")
        .replace(['/', '.'], "_");
    let id = id.replace("{id}", "one");
    operation.insert(
        "operationId".into(),
        format!("{}_{id}", route.method.to_lowercase()).into(),
    );
    operation.insert("summary".into(), route.says.as_str().into());
    let role = format!("The least role: {}.", route.least.name());
    operation.insert("description".into(), role.into());
    operation.insert("x-least-role".into(), route.least.name().into());
    if route.least == Least::Anyone {
        operation.insert("security".into(), json!([]));
    }
    operation.insert("parameters".into(), parameters(route).into());
    if let Some(body) = body(route.does) {
        operation.insert("requestBody".into(), body);
    }
    operation.insert("responses".into(), answers(route));
    Value::Object(operation)
}

fn parameters(route: &Route) -> Vec<Value> {
    let parameter = |place: &str, name: &str, says: &str, schema: Value| {
        json!({
            "in": place, "name": name, "description": says, "required": place == "path", "schema": schema,
        })
    };
    let mut all = Vec::new();
    if route.path.contains("{id}") {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 300});
        all.push(parameter("path", "id", "Whose", schema));
    }
    let etag = || {
        let says = "The etag that was read: refused when it has changed since";
        parameter("header", "If-Match", says, json!({"type": "string"}))
    };
    let once = |says: &str| {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 255});
        parameter("header", "Idempotency-Key", says, schema)
    };
    match route.does {
        Does::List(_) => {
            let limit = json!({"type": "integer", "minimum": 1, "maximum": 100, "default": 20});
            all.push(parameter("query", "limit", "The most on one page", limit));
            let text = || json!({"type": "string", "minLength": 1, "maxLength": 300});
            let cursor = "`next` of the page before";
            all.push(parameter("query", "cursor", cursor, text()));
            let under = "Only what belongs to this object";
            all.push(parameter("query", "under", under, text()));
        }
        Does::Create(_) => {
            let says = "Sent again with the same key within a day, the request makes nothing more: what it made is shown as it is now, without the secret";
            all.push(once(says));
        }
        Does::Change(_) | Does::DropToken => all.push(etag()),
        Does::RotateKey | Does::MakeToken => {
            all.push(etag());
            all.push(once(
                "Sent again with the same key within a day, the request changes nothing more: the object is shown as it is now, without the secret",
            ));
        }
        Does::Delete(_) => {
            all.push(etag());
            let says = "What belongs to it goes too";
            let schema = json!({"type": "string", "const": "true"});
            all.push(parameter("query", "all", says, schema));
        }
        Does::Status
        | Does::Models
        | Does::Reload
        | Does::Explain
        | Does::Cooldowns
        | Does::ClearCooldowns
        | Does::ClearCache
        | Does::Document
        | Does::Me
        | Does::SignOut
        | Does::Read(_) => {}
        Does::EndSessions => {
            let text = json!({"type": "string", "minLength": 1, "maxLength": 255});
            all.push(parameter(
                "query",
                "subject",
                "Whose; without it everybody's",
                text,
            ));
        }
        Does::SignIn => {
            let says = "The path of this server to go on to";
            let path = json!({"type": "string", "pattern": "^/([!-.0-~]|$)", "maxLength": 512});
            all.push(parameter("query", "to", says, path));
            let says = "Shows the session's token in place of going on, for use without a browser";
            let token = json!({"type": "string", "const": "token"});
            all.push(parameter("query", "show", says, token));
        }
        Does::Callback => {
            for (name, says) in [
                ("code", "What the provider's token is exchanged for"),
                ("state", "Which sign-in it is the answer to"),
                ("iss", "Who the provider is"),
                ("error", "Why there is no code"),
            ] {
                all.push(parameter("query", name, says, json!({"type": "string"})));
            }
        }
        Does::Ledger => {
            for (name, says) in ledger::parameters(route.method, &route.path) {
                all.push(parameter("query", name, says, json!({"type": "string"})));
            }
        }
    }
    all
}

fn body(does: Does) -> Option<Value> {
    let (schema, required) = match does {
        Does::Create(kind) => (reference(&format!("{}_new", kind.name())), true),
        Does::Change(kind) => (reference(&format!("{}_change", kind.name())), true),
        Does::RotateKey => {
            let seconds = json!({"type": "integer", "minimum": 0, "maximum": 2_592_000, "default": 3600,
                "description": "Seconds for which the secret before holds"});
            let schema = json!({"type": "object", "properties": {"grace": seconds}, "additionalProperties": false});
            (schema, false)
        }
        Does::MakeToken => {
            let time = json!({"type": "string", "format": "date-time",
                "description": "It is refused from then on; without it: once it is taken away"});
            let schema = json!({"type": "object", "properties": {"expires": time}, "additionalProperties": false});
            (schema, false)
        }
        Does::Explain => (json!({"type": "object"}), true),
        Does::Status
        | Does::Models
        | Does::Reload
        | Does::Cooldowns
        | Does::ClearCooldowns
        | Does::ClearCache
        | Does::Document
        | Does::Me
        | Does::List(_)
        | Does::Read(_)
        | Does::Delete(_)
        | Does::DropToken
        | Does::SignIn
        | Does::Callback
        | Does::SignOut
        | Does::EndSessions
        | Does::Ledger => return None,
    };
    Some(json!({"required": required, "content": {"application/json": {"schema": schema}}}))
}

fn answers(route: &Route) -> Value {
    let mut all = Map::new();
    let mut answer = |status: u16, says: &str, schema: Value| {
        let content = json!({"application/json": {"schema": schema}});
        all.insert(
            status.to_string(),
            json!({"description": says, "content": content}),
        );
    };
    let one = |kind: Kind| reference(kind.name());
    let anything = || json!({"type": "object"});
    match route.does {
        Does::Create(kind) => answer(
            201,
            "It is made, or was by the same request before (`idempotency-replayed: true`)",
            with_secret(kind),
        ),
        Does::List(kind) => answer(
            200,
            "A page",
            json!({
                "type": "object",
                "properties": {
                    "object": {"const": "list"},
                    "data": {"type": "array", "items": one(kind)},
                    "has_more": {"type": "boolean"},
                    "next": {"type": ["string", "null"]},
                },
                "required": ["object", "data", "has_more", "next"],
            }),
        ),
        Does::Read(kind) | Does::Change(kind) => answer(200, "As it is now", one(kind)),
        Does::RotateKey => answer(200, "With its new secret", with_secret(Kind::Key)),
        Does::MakeToken => answer(200, "With their token", with_secret(Kind::User)),
        Does::DropToken => answer(200, "As they are now", one(Kind::User)),
        Does::Delete(_) => {
            let schema = json!({
                "type": "object",
                "properties": {"id": {"type": "string"}, "object": {"type": "string"}, "deleted": {"type": "integer"}},
                "required": ["id", "object", "deleted"],
            });
            answer(200, "How many objects are gone", schema);
        }
        Does::Status
        | Does::Models
        | Does::Explain
        | Does::Cooldowns
        | Does::ClearCooldowns
        | Does::ClearCache
        | Does::Document
        | Does::Reload
        | Does::Me
        | Does::SignOut
        | Does::EndSessions
        | Does::Ledger => answer(200, "The answer", anything()),
        Does::SignIn => answer(303, "On to the provider", anything()),
        Does::Callback => {
            answer(303, "Signed in, and on", anything());
            answer(
                200,
                "Signed in: the token, where it was asked for",
                anything(),
            );
        }
    }
    let error = || reference("error");
    for (status, says) in [
        (400, "The request is wrong; `param` names the field"),
        (401, "No token, or one that is not known"),
        (403, "The role is not enough"),
        (404, "There is no such object, or none that may be seen"),
        (405, "Another method"),
        (409, "It is in the way of something else"),
        (412, "It has changed meanwhile"),
        (413, "The body is too large or too slow"),
        (422, "It can't be done"),
        (503, "The state database is away"),
    ] {
        answer(status, says, error());
    }
    if let Does::Ledger = route.does {
        // Series and rows come in other forms too.
        for media in ledger::media(route.method, &route.path) {
            all["200"]["content"][*media] = json!({"schema": {"type": "string"}});
        }
    }
    Value::Object(all)
}

/// Returns the schema of an object with the secret that is shown where it is made.
fn with_secret(kind: Kind) -> Value {
    let name = match kind {
        Kind::Key => "key",
        Kind::User => "token",
        Kind::Organisation
        | Kind::Team
        | Kind::Project
        | Kind::Policy
        | Kind::Limit
        | Kind::Budget
        | Kind::Credential => return reference(kind.name()),
    };
    let says =
        "Shown once; null in the answer to a request that was sent again with its Idempotency-Key";
    let note = "Where the secret is null: what to do if it was lost";
    json!({"allOf": [
        reference(kind.name()),
        {"type": "object", "properties": {
            name: {"type": ["string", "null"], "description": says},
            "note": {"type": "string", "description": note},
        }},
    ]})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn schemas() -> Value {
    let mut all = Map::new();
    let error = json!({
        "type": "object",
        "properties": {"error": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "param": {"type": "string", "description": "The field at fault"},
            },
            "required": ["code", "message"],
        }},
        "required": ["error"],
    });
    all.insert("error".into(), error);
    for kind in Kind::ALL {
        let fields = kind.fields();
        let new = schema::object(fields, true, |_| true);
        all.insert(format!("{}_new", kind.name()), new);
        all.insert(format!("{}_change", kind.name()), change(fields));
        all.insert(kind.name().into(), shown(kind));
    }
    Value::Object(all)
}

/// Returns the schema of a change: what may be taken away may be null.
fn change(fields: &[Field]) -> Value {
    let mut schema = schema::object(fields, false, |_| true);
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        let field = fields.iter().find(|field| field.name == name);
        if field.is_some_and(|field| !field.required && !field.fixed) {
            *property = json!({"anyOf": [property.take(), {"type": "null"}]});
        }
    }
    schema
}

fn shown(kind: Kind) -> Value {
    let fields = kind.fields();
    let secret = |field: &Field| matches!(field.of, schema::Type::Secret);
    let mut schema = schema::object(fields, false, |field| !secret(field));
    let more = json!({
        "id": {"type": "string"},
        "object": {"const": kind.name()},
        "source": {"enum": ["database", "file"], "description": "What is of the file is changed there"},
        "name": {"type": "string"},
        "created": {"type": "string", "format": "date-time"},
        "changed": {"type": "string", "format": "date-time"},
        "etag": {"type": "string"},
    });
    let own = match kind {
        Kind::Key => json!({
            "hint": {"type": "string", "description": "How the key begins"},
            "previous_until": {"type": "string", "format": "date-time"},
        }),
        Kind::User => json!({
            "has_token": {"type": "boolean"},
            "token_expires": {"type": "string", "format": "date-time"},
            "token_used": {"type": ["string", "null"], "format": "date-time", "description": "When it was last used, to the minute"},
        }),
        Kind::Budget => json!({
            "spent_usd": {"type": "string", "description": "On the node that is asked, exact"},
            "reserved_usd": {"type": "string", "description": "Held for requests under way"},
            "resets": {"type": ["string", "null"], "format": "date-time"},
        }),
        Kind::Organisation
        | Kind::Team
        | Kind::Project
        | Kind::Policy
        | Kind::Limit
        | Kind::Credential => json!({}),
    };
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("required".into(), json!(["id", "object", "source", "name"]));
        schema.remove("additionalProperties");
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            for more in [more, own] {
                properties.extend(more.as_object().cloned().unwrap_or_default());
            }
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_route_and_every_reference_leads_somewhere() {
        let document = document();
        for route in ROUTES.iter() {
            let operation = &document["paths"][&route.path][route.method.to_lowercase()];
            assert_eq!(
                operation["x-least-role"],
                route.least.name(),
                "{}",
                route.path
            );
        }
        let text = document.to_string();
        let mut ids = std::collections::HashSet::new();
        for (_, operations) in document["paths"].as_object().expect("paths") {
            for (_, operation) in operations.as_object().expect("operations") {
                assert!(
                    ids.insert(operation["operationId"].to_string()),
                    "{operation}"
                );
            }
        }
        for part in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name}"
            );
        }
    }
}
