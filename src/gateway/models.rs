//! `/v1/models` in the caller's dialect: what this key may ask for.

use std::sync::Arc;

use bytes::Bytes;
use pingora::proxy::Session;
use serde_json::{Value, json};

use super::reply::{self, JSON};
use super::{Exchange, Now, intake};
use crate::access::Key;
use crate::codec::json::write_string;
use crate::error::{Error, Kind, Result};
use crate::protocol::Protocol;
use crate::provider::catalogue::{self, Cap, Model, Status};
use crate::provider::cost::{self, Token};

/// The shapes of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Openai,
    Anthropic,
    Gemini,
    Mistral,
}

impl Dialect {
    fn of(protocol: Protocol, session: &Session) -> Self {
        match protocol {
            Protocol::OpenaiChat if intake::is_mistrals(&session.req_header().headers) => {
                Self::Mistral
            }
            Protocol::Anthropic => Self::Anthropic,
            Protocol::Gemini => Self::Gemini,
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Bedrock
            | Protocol::Cohere
            | Protocol::Ollama => Self::Openai,
        }
    }
}

/// One model as a client may name it.
struct Listed {
    id: String,
    owner: String,
    entry: Option<&'static Model>,
}

/// Answers the list.
pub async fn list(
    now: &Arc<Now>,
    key: Option<&Key>,
    session: &mut Session,
    x: &mut Exchange,
) -> pingora::Result<()> {
    let listed = listed(now, key);
    let mut body = Vec::with_capacity(listed.len() * 160);
    let dialect = Dialect::of(x.protocol, session);
    match dialect {
        Dialect::Openai | Dialect::Mistral => {
            body.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
            write_all(&listed, dialect, &mut body);
            body.extend_from_slice(b"]}");
        }
        Dialect::Gemini => {
            body.extend_from_slice(b"{\"models\":[");
            write_all(&listed, Dialect::Gemini, &mut body);
            body.extend_from_slice(b"]}");
        }
        Dialect::Anthropic => {
            body.extend_from_slice(b"{\"data\":[");
            write_all(&listed, Dialect::Anthropic, &mut body);
            body.extend_from_slice(b"],\"has_more\":false,\"first_id\":");
            write_id(listed.first(), &mut body);
            body.extend_from_slice(b",\"last_id\":");
            write_id(listed.last(), &mut body);
            body.push(b'}');
        }
    }
    let headers = vec![(http::header::CONTENT_TYPE, JSON)];
    reply::whole(session, x, 200, headers, Bytes::from(body)).await
}

/// Answers one model.
pub async fn one(
    now: &Arc<Now>,
    key: Option<&Key>,
    id: &str,
    session: &mut Session,
    x: &mut Exchange,
) -> Result<pingora::Result<()>> {
    if !key.is_none_or(|key| key.allows(id)) {
        return Err(Error::new(
            Kind::ModelNotAllowed,
            "This API key may not use that model.",
        ));
    }
    let route = now.table.resolve(id)?;
    let target = route.targets.first();
    let model = Listed {
        owner: target.map_or("strait".to_owned(), |target| target.provider.name.clone()),
        entry: target.and_then(|target| target.entry),
        id: id.to_owned(),
    };
    let mut body = Vec::new();
    write(&model, Dialect::of(x.protocol, session), &mut body);
    Ok(reply::whole(
        session,
        x,
        200,
        vec![(http::header::CONTENT_TYPE, JSON)],
        Bytes::from(body),
    )
    .await)
}

/// Tells all that can be asked for, and of the models of the configuration who is asked for them.
pub fn described(now: &Now) -> Value {
    let all = listed(now, None);
    let data = all.iter().map(|model| {
        let mut text = Vec::new();
        write(model, Dialect::Openai, &mut text);
        // It was written a line above.
        let mut told: Value = serde_json::from_slice(&text).unwrap_or_default();
        if let Some(route) = now.table.configured_route(&model.id) {
            let targets = route.targets.iter().map(|target| target.name.to_string());
            told["strategy"] = route.tree.strategy.name().into();
            told["targets"] = targets.collect::<Vec<_>>().into();
        }
        told
    });
    json!({"object": "list", "data": data.collect::<Vec<_>>()})
}

fn listed(now: &Now, key: Option<&Key>) -> Vec<Listed> {
    let allowed = |id: &str| key.is_none_or(|key| key.allows(id));
    let mut listed = Vec::new();
    for name in now.table.configured_names() {
        if allowed(name) {
            let target = now
                .table
                .configured_route(name)
                .and_then(|route| route.targets.first());
            listed.push(Listed {
                id: name.to_owned(),
                owner: "strait".to_owned(),
                entry: target.and_then(|target| target.entry),
            });
        }
    }
    for provider in now.table.providers() {
        if provider.demo {
            if allowed("demo/echo") {
                listed.push(Listed {
                    id: "demo/echo".to_owned(),
                    owner: "demo".to_owned(),
                    entry: None,
                });
            }
            continue;
        }
        for entry in catalogue::of(&provider.catalogue) {
            let id = format!("{}/{}", provider.name, entry.id);
            if entry.status != Status::Retired && allowed(&id) {
                listed.push(Listed {
                    id,
                    owner: provider.name.clone(),
                    entry: Some(entry),
                });
            }
        }
    }
    listed
}

/// Says what a model can as Mistral's SDK wants it said.
fn write_abilities(entry: Option<&Model>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"type\":\"base\",\"capabilities\":{");
    for (name, cap) in [
        ("function_calling", Cap::Tools),
        ("vision", Cap::Vision),
        ("reasoning", Cap::Reasoning),
    ] {
        // Of a model that is not known nothing is ruled out.
        let able = entry.is_none_or(|entry| entry.can(cap));
        out.extend_from_slice(format!("\"{name}\":{able},").as_bytes());
    }
    let chats = entry.is_none_or(|entry| entry.mode.name() == "chat");
    out.extend_from_slice(format!("\"completion_chat\":{chats}}}").as_bytes());
}

fn write_all(listed: &[Listed], dialect: Dialect, out: &mut Vec<u8>) {
    for (at, model) in listed.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(model, dialect, out);
    }
}

fn write_id(model: Option<&Listed>, out: &mut Vec<u8>) {
    match model {
        Some(model) => write_string(&model.id, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Writes one model: what the dialect's SDK expects, then the limits of input and output where known.
fn write(model: &Listed, dialect: Dialect, out: &mut Vec<u8>) {
    match dialect {
        Dialect::Openai | Dialect::Mistral => {
            out.extend_from_slice(b"{\"id\":");
            write_string(&model.id, out);
            out.extend_from_slice(b",\"object\":\"model\",\"created\":0,\"owned_by\":");
            write_string(&model.owner, out);
            if dialect == Dialect::Mistral {
                write_abilities(model.entry, out);
            }
        }
        Dialect::Gemini => {
            out.extend_from_slice(b"{\"name\":");
            write_string(&format!("models/{}", model.id), out);
            out.extend_from_slice(b",\"displayName\":");
            write_string(&model.id, out);
            out.extend_from_slice(
                b",\"supportedGenerationMethods\":[\"generateContent\",\"countTokens\"]",
            );
        }
        Dialect::Anthropic => {
            out.extend_from_slice(b"{\"type\":\"model\",\"id\":");
            write_string(&model.id, out);
            out.extend_from_slice(b",\"display_name\":");
            write_string(&model.id, out);
            out.extend_from_slice(b",\"created_at\":\"1970-01-01T00:00:00Z\",\"lifecycle\":\"");
            let entry = model.entry.map(|entry| (entry.status, entry.sunset));
            let (status, sunset) = entry.unwrap_or((Status::Current, None));
            out.extend_from_slice(lifecycle(status).as_bytes());
            out.push(b'"');
            if let Some(day) = sunset.filter(|_| status != Status::Current) {
                out.extend_from_slice(format!(",\"retires_at\":\"{day}T00:00:00Z\"").as_bytes());
            }
        }
    }
    if let Some(entry) = model.entry {
        let [input, output] = match dialect {
            Dialect::Gemini => [
                ("inputTokenLimit", entry.max_input.or(entry.context)),
                ("outputTokenLimit", entry.max_output),
            ],
            Dialect::Openai => [
                ("context_window", entry.context),
                ("max_output_tokens", entry.max_output),
            ],
            Dialect::Mistral => [
                ("max_context_length", entry.context),
                ("max_output_tokens", entry.max_output),
            ],
            Dialect::Anthropic => [
                ("max_input_tokens", entry.max_input.or(entry.context)),
                ("max_tokens", entry.max_output),
            ],
        };
        for (name, most) in [input, output] {
            if let Some(most) = most {
                out.extend_from_slice(format!(",\"{name}\":{most}").as_bytes());
            }
        }
    }
    if let Some(entry) = model.entry.filter(|_| dialect == Dialect::Openai) {
        write_facts(entry, out);
    }
    out.push(b'}');
}

/// Writes what OpenAI's clients can use of the catalogue: what a model is for, what it can, and its prices, the last
/// as OpenRouter writes them (dollars for each token, as text).
fn write_facts(entry: &Model, out: &mut Vec<u8>) {
    let mode = entry.mode.name();
    out.extend_from_slice(format!(",\"mode\":\"{mode}\",\"capabilities\":[").as_bytes());
    for (at, name) in Cap::names_of(entry).enumerate() {
        let comma = if at > 0 { "," } else { "" };
        out.extend_from_slice(format!("{comma}\"{name}\"").as_bytes());
    }
    out.push(b']');
    let price = entry.price();
    if !price.unknown {
        let mut comma = "";
        out.extend_from_slice(b",\"pricing\":{");
        for (name, token) in [
            ("prompt", Token::Input),
            ("completion", Token::Output),
            ("input_cache_read", Token::CacheRead),
            ("input_cache_write", Token::CacheWrite),
        ] {
            if let Some(pico) = price.rates.get(token) {
                let usd = cost::usd(pico);
                out.extend_from_slice(format!("{comma}\"{name}\":\"{usd}\"").as_bytes());
                comma = ",";
            }
        }
        out.push(b'}');
    }
    if entry.status == Status::Deprecated {
        out.extend_from_slice(b",\"deprecated\":true");
        if let Some(day) = entry.sunset {
            out.extend_from_slice(format!(",\"retires_at\":\"{day}\"").as_bytes());
        }
    }
}

/// Returns Anthropic's word for where a model stands.
fn lifecycle(status: Status) -> &'static str {
    match status {
        Status::Current => "active",
        Status::Deprecated => "deprecated",
        Status::Retired => "retired",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anthropics_clients_are_told_what_their_sdk_demands() {
        let written = |id: &str, entry| {
            let mut out = Vec::new();
            let listed = Listed {
                id: id.to_owned(),
                owner: String::new(),
                entry,
            };
            write(&listed, Dialect::Anthropic, &mut out);
            serde_json::from_slice::<serde_json::Value>(&out).expect("JSON is written")
        };
        let known = written("s", catalogue::model("anthropic", "claude-sonnet-4-5"));
        assert_eq!(known["lifecycle"], "deprecated");
        assert_eq!(known["retires_at"], "2026-11-30T00:00:00Z");
        assert_eq!(known["max_input_tokens"], 200_000);
        assert!(
            known["max_tokens"].is_u64() && known["context_window"].is_null(),
            "{known}"
        );
        let unknown = written("claude-next", None);
        assert_eq!(unknown["lifecycle"], "active");
        assert_eq!(
            (&unknown["id"], &unknown["display_name"]),
            (&"claude-next".into(), &"claude-next".into())
        );
    }
}
