//! What real clients send, rebuilt from the shapes of recorded requests: each is understood, and answered whichever
//! protocol is behind. The recordings are no part of the project; without them little is tested here.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;

use common::{Strait, mock};
use serde_json::{Value, json};
use strait::mock::Mock;
use strait::protocol::{self, Protocol};

const BEHIND: [(Protocol, &str); 7] = [
    (Protocol::Anthropic, ""),
    (Protocol::OpenaiChat, "/v1"),
    (Protocol::OpenaiResponses, "/v1"),
    (Protocol::Gemini, "/v1beta"),
    (Protocol::Bedrock, ""),
    (Protocol::Cohere, "/v2"),
    (Protocol::Ollama, ""),
];

/// A request as its client sent it.
struct Sent {
    client: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Value,
}

/// Reads the recordings. Some of their headers were spoilt when secrets were cut out of them, so parts are read and
/// not whole files.
fn recorded() -> Vec<Sent> {
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").to_owned();
    let dir = std::env::var("STRAIT_SHARED").unwrap_or_else(|_| beside()) + "/captures";
    let Ok(files) = std::fs::read_dir(&dir) else {
        eprintln!("skipped: there is no {dir}");
        return Vec::new();
    };
    let mut found = Vec::new();
    for file in files.flatten().map(|file| file.path()) {
        if file.extension().is_none_or(|kind| kind != "json") {
            continue;
        }
        let client = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        for request in text.split("\"method\": ").skip(1) {
            let part = |name: &str| {
                let at = request.find(&format!("\"{name}\": "))? + name.len() + 4;
                let mut values = serde_json::Deserializer::from_str(&request[at..]).into_iter();
                values.next()?.ok()
            };
            let word =
                |name: &str| part(name).and_then(|value: Value| value.as_str().map(str::to_owned));
            let shape = part("body_shape").filter(Value::is_object);
            let (Some(path), Some(shape)) = (word("path"), shape) else {
                continue;
            };
            let headers = part("headers").map(|headers| serde_json::from_value(headers).unwrap());
            found.push(Sent {
                client: client.clone(),
                path,
                query: word("query").unwrap_or_default(),
                headers: headers.unwrap_or_default(),
                body: rebuilt(&shape),
            });
        }
    }
    assert!(found.len() > 20, "{} recorded requests", found.len());
    found
}

/// Puts values in the places of what was cut out of a body.
fn rebuilt(shape: &Value) -> Value {
    match shape {
        Value::String(text) => {
            let size = text
                .strip_prefix("<str ")
                .and_then(|rest| rest.split_once("> "));
            match size {
                Some((size, begun)) => {
                    let missing = size.parse().unwrap_or(0_usize).saturating_sub(begun.len());
                    json!(format!("{begun}{}", "x ".repeat(missing / 2)))
                }
                None if text.starts_with("<json schema") => {
                    json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
                }
                None => shape.clone(),
            }
        }
        Value::Array(values) => values.iter().map(rebuilt).collect(),
        Value::Object(tools) if tools.contains_key("_names") => tools_of(shape),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| match name.as_str() {
                "inputSchema" => (name.clone(), json!({"json": rebuilt(value)})),
                _ => (name.clone(), rebuilt(value)),
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => shape.clone(),
    }
}

/// Makes the tools whose names and kinds were recorded: those of the first one's kind under every name, then one of
/// each other kind.
fn tools_of(shape: &Value) -> Value {
    let first = rebuilt(&shape["_first"]);
    let kinds = shape["_kinds"].as_array().unwrap();
    let others: Vec<&Value> = kinds
        .iter()
        .filter(|kind| kind["type"] != first["type"])
        .collect();
    let mut tools = Vec::new();
    for name in shape["_names"].as_array().unwrap() {
        if others.iter().any(|kind| kind["type"] == *name) {
            continue;
        }
        let mut tool = first.clone();
        match tool.get_mut("function") {
            Some(function) => function["name"] = name.clone(),
            None => tool["name"] = name.clone(),
        }
        tools.push(tool);
    }
    for kind in others {
        let mut tool = json!({});
        for key in kind["keys"].as_array().unwrap() {
            let key = key.as_str().unwrap();
            tool[key] = match key {
                "type" => kind["type"].clone(),
                "name" => json!("others"),
                "description" => json!("More of them."),
                "tools" => json!([first]),
                _ => json!(true),
            };
        }
        tools.push(tool);
    }
    tools.into()
}

/// Returns the protocol of a chat's path.
fn spoken(path: &str) -> Option<Protocol> {
    let last = path.rsplit(['/', ':']).next()?;
    Some(match last {
        "messages" | "invoke" | "invoke-with-response-stream" => Protocol::Anthropic,
        "completions" if path.ends_with("chat/completions") => Protocol::OpenaiChat,
        "completions" => Protocol::OpenaiCompletions,
        "responses" => Protocol::OpenaiResponses,
        "generateContent" | "streamGenerateContent" => Protocol::Gemini,
        "converse" | "converse-stream" => Protocol::Bedrock,
        _ => return None,
    })
}

/// Puts another model into a path that names one.
fn renamed(path: &str, model: &str) -> String {
    for before in ["/models/", "/model/"] {
        if let Some((start, rest)) = path.split_once(before) {
            let end = rest.rfind([':', '/']).unwrap();
            return format!("{start}{before}{model}{}", &rest[end..]);
        }
    }
    path.to_owned()
}

/// What another protocol has no word for, by the name that the refusal tells: asked for on purpose, refused on
/// purpose.
const REFUSED: [&str; 1] = ["An Ollama server can't be told that a tool must be called"];

/// A gateway over a fake provider that speaks every protocol, each under a model of its name.
fn lab() -> (Strait, Mock) {
    let mock = mock("");
    let mut config = String::new();
    for (protocol, base) in BEHIND {
        let name = protocol.name();
        config += &format!(
            "[providers.to-{name}]\nprotocols = [\"{name}\"]\nbase_url = \"{}{base}\"\nkey = \"k\"\n[models.by-{name}]\ntargets = [\"to-{name}/x\"]\n",
            mock.url()
        );
    }
    (Strait::start(&config), mock)
}

#[test]
fn every_recorded_request_is_understood() {
    for sent in recorded() {
        let Some(protocol) = spoken(&sent.path).filter(|_| !sent.path.contains("/invoke")) else {
            continue;
        };
        let body = sent.body.to_string();
        let decoded = protocol::decode_request(protocol, body.as_bytes());
        assert!(
            decoded.is_ok(),
            "{}, {}: {:?} of {body}",
            sent.client,
            sent.path,
            decoded.err()
        );
    }
}

#[test]
fn every_recorded_request_is_answered_whoever_is_behind() {
    let sent = recorded();
    if sent.is_empty() {
        return;
    }
    let (strait, mock) = lab();
    let mut wrong: BTreeMap<String, usize> = BTreeMap::new();
    let mut answered = 0;
    for sent in &sent {
        let Some(spoken) = spoken(&sent.path) else {
            continue;
        };
        for (behind, _) in BEHIND {
            let model = format!("by-{}", behind.name());
            let mut body = sent.body.clone();
            if body.get("model").is_some() {
                body["model"] = json!(model);
            }
            let mut path = renamed(&sent.path, &model);
            if !sent.query.is_empty() {
                path = format!("{path}?{}", sent.query);
            }
            let own = [
                "host",
                "content-length",
                "connection",
                "transfer-encoding",
                "content-type",
            ];
            let headers: Vec<(&str, &str)> = sent
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .filter(|(name, _)| !own.contains(&name.to_ascii_lowercase().as_str()))
                .collect();
            mock.clear_calls();
            let answer = strait
                .client()
                .post(&path, &headers, body.to_string().as_bytes());
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let case = format!("{} {spoken:?} → {behind:?}", sent.client);
            if answer.status == 400 && REFUSED.iter().any(|name| text.contains(name)) {
                continue;
            }
            if answer.status != 200 {
                *wrong
                    .entry(format!("{case}: {} {text}", answer.status))
                    .or_default() += 1;
                continue;
            }
            answered += 1;
            for call in mock.calls() {
                for problem in call.problems {
                    if spoken != behind {
                        *wrong.entry(format!("{case}: {problem}")).or_default() += 1;
                    }
                }
            }
        }
    }
    let listed: Vec<String> = wrong
        .iter()
        .map(|(what, times)| format!("{times} × {what}"))
        .collect();
    assert!(
        listed.is_empty(),
        "{answered} answered, but\n{}",
        listed.join("\n")
    );
}

#[test]
fn who_speaks_a_providers_own_protocol_is_answered_too() {
    let (strait, mock) = lab();
    let said = |model: &str, content: Value, stream: bool| json!({"model": model, "messages": [{"role": "user", "content": content}], "stream": stream});
    for stream in [false, true] {
        let verb = if stream {
            "converse-stream"
        } else {
            "converse"
        };
        let converse = json!({"messages": [{"role": "user", "content": [{"text": "the word"}]}]});
        let asked = [
            ("bedrock", format!("/model/by-bedrock/{verb}"), converse),
            (
                "cohere",
                "/v2/chat".to_owned(),
                said("by-cohere", json!("the word"), stream),
            ),
            (
                "ollama",
                "/api/chat".to_owned(),
                said("by-ollama", json!("the word"), stream),
            ),
        ];
        for (protocol, path, body) in asked {
            mock.clear_calls();
            let answer = strait.post(&path, &body);
            let text = String::from_utf8_lossy(&answer.body);
            assert_eq!(answer.status, 200, "{protocol}, stream {stream}: {text}");
            let fine = !text.contains("error") && (stream || text.contains("the word"));
            assert!(fine, "{protocol}, stream {stream}: {text}");
            let calls = mock.calls();
            assert_eq!(
                calls[0].protocol.map(|protocol| protocol.name()),
                Some(protocol)
            );
            assert_eq!(calls[0].problems, Vec::<String>::new(), "{protocol}");
        }
    }
}
