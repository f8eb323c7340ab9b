//! Recorded requests: what they mean to the other protocol.

use serde_json::{Value, json};
use strait::error::Kind;
use strait::protocol::chat::{Part, Request, Role, Tool};
use strait::protocol::{Protocol, decode_request, encode_request};

use super::{OPENAI_SPEAKERS, models, other, recordings, squeeze, value_of};

/// What a request means, in words that both protocols share.
#[derive(Debug, Default, PartialEq)]
struct Meaning {
    system: String,
    user: String,
    assistant: String,
    calls: Vec<(String, Value)>,
    results: String,
    images: usize,
    tools: Vec<(String, Value)>,
    stop: Vec<String>,
    stream: bool,
}

fn meaning(request: &Request<'_>) -> Meaning {
    let mut meaning = Meaning {
        stream: request.stream,
        ..Meaning::default()
    };
    for message in &request.messages {
        let said = match message.role {
            Role::System | Role::Developer => &mut meaning.system,
            Role::User => &mut meaning.user,
            Role::Assistant => &mut meaning.assistant,
        };
        for part in &message.parts {
            match part {
                Part::Text { text, .. } | Part::Refusal { text } => squeeze(text, said),
                Part::Image { .. } => meaning.images += 1,
                Part::ToolCall {
                    name, arguments, ..
                } => {
                    meaning.calls.push((name.to_string(), value_of(arguments)));
                }
                Part::ToolResult { parts, .. } => {
                    for part in parts {
                        match part {
                            Part::Text { text, .. } => squeeze(text, &mut meaning.results),
                            Part::Image { .. } => meaning.images += 1,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }
    for tool in &request.tools {
        if let Tool::Function { name, schema, .. } = tool {
            let schema = schema.map_or(json!({}), |raw| value_of(raw.get()));
            meaning.tools.push((name.to_string(), with_type(schema)));
        }
    }
    meaning.stop = request
        .stop
        .iter()
        .filter(|stop| !stop.trim().is_empty())
        .map(ToString::to_string)
        .collect();
    meaning
}

/// A tool's schema has a type in Anthropic's protocol, and no schema is an empty one.
fn with_type(mut schema: Value) -> Value {
    schema["type"] = "object".into();
    if schema["properties"].is_null() {
        schema["properties"] = json!({});
    }
    schema
}

fn requests_survive(from: Protocol, surfaces: &[&str]) {
    let mut refused = Vec::new();
    for (name, record, _) in surfaces.iter().flat_map(|surface| recordings(surface)) {
        let body = record["request"]["body"].to_string();
        let hub = match decode_request(from, body.as_bytes()) {
            Ok(hub) => hub,
            Err(error) => {
                // What a provider adds to OpenAI's protocol may not be OpenAI's.
                assert!(
                    from == Protocol::OpenaiChat && !name.starts_with("openai-chat"),
                    "{name}: {error}"
                );
                refused.push(format!("{name}: {error}"));
                continue;
            }
        };
        for facts in models() {
            let said = match encode_request(other(from), &hub, "target-model", &facts) {
                Ok(said) => said,
                Err(error) => {
                    assert_eq!(error.kind, Kind::Unsupported, "{name}: {error}");
                    assert!(error.param.is_some(), "{name}: {error} names no field");
                    refused.push(format!("{name}: {error} ({:?})", error.param));
                    continue;
                }
            };
            let text = String::from_utf8(said.body.clone()).unwrap();
            let back = decode_request(other(from), &said.body)
                .unwrap_or_else(|error| panic!("{name}: {error} in {text}"));
            assert_eq!(back.model, "target-model", "{name}");
            let (mut before, mut after) = (meaning(&hub), meaning(&back));
            // Tools that stand in for something are no tools of the client's.
            after
                .tools
                .retain(|(tool, _)| before.tools.iter().any(|(known, _)| known == tool));
            if said.dropped.iter().any(|note| note.contains("json_object")) {
                after.system.truncate(before.system.len());
            }
            // Whoever demands that the user begins is given a turn of one dot.
            if said.dropped.iter().any(|note| note.contains("begins with")) {
                let own = after.user.strip_prefix('.').map(str::to_owned);
                after.user = own.unwrap_or_else(|| panic!("{name}: {text}"));
            }
            // A refusal to be answered for is text; parts of another family are named.
            if !said.dropped.is_empty() {
                before.stop.retain(|stop| after.stop.contains(stop));
            }
            assert_eq!(after, before, "{name}: {text}");
        }
    }
    for line in &refused {
        eprintln!("refused: {line}");
    }
}

#[test]
fn recorded_openai_requests_mean_the_same_to_anthropic() {
    requests_survive(Protocol::OpenaiChat, &OPENAI_SPEAKERS);
}

#[test]
fn recorded_anthropic_requests_mean_the_same_to_openai() {
    requests_survive(Protocol::Anthropic, &["anthropic-messages"]);
}
