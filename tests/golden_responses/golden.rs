//! Golden files of `golden/responses`: requests, answers and streams, in each dialect.

use std::path::PathBuf;

use serde_json::{Value, json};
use strait::protocol::{
    Protocol, Shape, decode_request, decode_response, encode_request, encode_response,
};

use super::sdk::Lines;
use super::{OWN, able, check_json, recode, shape, shape_of, tests};

const DIALECTS: [Protocol; 3] = [OWN, Protocol::OpenaiChat, Protocol::Anthropic];

/// Returns the given files whose names begin and end so.
fn given(prefix: &str, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(tests().join("golden/responses"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(prefix) && name.ends_with(ending) && !name.contains(".to-")
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no {prefix}*{ending}");
    found
}

fn name(path: &std::path::Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn read(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn requests_become_what_the_golden_files_say() {
    for path in given("", ".json") {
        let name = name(&path);
        if name.starts_with("response-") {
            continue;
        }
        let (from, to) = match name.strip_prefix("from-") {
            Some(rest) if rest.starts_with("anthropic-") => (Protocol::Anthropic, &DIALECTS[..1]),
            Some(_) => (Protocol::OpenaiChat, &DIALECTS[..1]),
            None => (OWN, &DIALECTS[..]),
        };
        let text = read(&path).to_string();
        let hub =
            decode_request(from, text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        for to in to {
            let found = match encode_request(*to, &hub, "target-model", &able()) {
                Ok(said) => json!({
                    "body": serde_json::from_slice::<Value>(&said.body).unwrap(),
                    "dropped": said.dropped,
                }),
                Err(error) => json!({"refused": error.message, "param": error.param}),
            };
            let expected = path.with_extension(format!("to-{}.json", to.name()));
            check_json(&expected, &found);
        }
    }
}

#[test]
fn answers_become_what_the_golden_files_say() {
    let mut lines = Lines::default();
    for path in given("response-", ".json") {
        let text = read(&path).to_string();
        let hub = decode_response(OWN, text.as_bytes(), &shape()).unwrap();
        for to in DIALECTS {
            let written = encode_response(to, &hub, &shape());
            lines.whole(&name(&path), to, &written);
            let expected = path.with_extension(format!("to-{}.json", to.name()));
            check_json(&expected, &serde_json::from_slice(&written).unwrap());
        }
    }
    lines.hold("golden-whole");
}

#[test]
fn streams_become_what_the_golden_files_say() {
    let mut lines = Lines::default();
    for path in given("stream-", ".sse") {
        let text = std::fs::read_to_string(&path).unwrap();
        for to in DIALECTS {
            let found = recode(OWN, to, &text, &shape());
            let failed = ["error", "failed"]
                .iter()
                .any(|one| name(&path).ends_with(one));
            if !failed {
                lines.stream(&name(&path), to, &found);
            }
            let expected = path.with_extension(format!("to-{}.sse", to.name()));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::write(&expected, &found).unwrap();
            }
            let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
            assert_eq!(
                found,
                wanted,
                "{} differs; UPDATE_GOLDEN=1 rewrites it",
                expected.display()
            );
        }
    }
    lines.hold("golden-streams");
}

/// The golden answers of the other dialects are told to clients of this one.
#[test]
fn answers_of_others_are_what_clients_take() {
    let mut lines = Lines::default();
    for folder in ["cross", "openai-chat", "anthropic"] {
        for entry in std::fs::read_dir(tests().join("golden").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            if file.contains(".to-") || file.contains(".hub-") {
                continue;
            }
            let from = if file.starts_with("anthropic-") || folder == "anthropic" {
                Protocol::Anthropic
            } else {
                Protocol::OpenaiChat
            };
            let label = format!("{folder}/{file}");
            if file.ends_with(".sse") {
                let text = std::fs::read_to_string(&path).unwrap();
                let written = recode(from, OWN, &text, &shape());
                super::streams::in_order(&label, &written);
                if !written.contains("response.failed") {
                    lines.stream(&label, OWN, &written);
                }
            } else if file.contains("response-") {
                let body = std::fs::read(&path).unwrap();
                let hub = decode_response(from, &body, &shape()).unwrap();
                lines.whole(&label, OWN, &encode_response(OWN, &hub, &shape()));
            }
        }
    }
    lines.hold("others");
}

#[test]
fn tools_are_called_by_their_own_names_again() {
    let codex = read(&tests().join("golden/responses/codex.json"));
    let shape = Shape {
        model: "m".into(),
        ..shape_of(&codex)
    };
    let answer = json!({"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "apply_patch", "arguments": "{\"input\":\"*** Begin\\n\"}"}},
            {"id": "b", "type": "function", "function": {"name": "multi_agent_v1__spawn_agent", "arguments": "{}"}},
            {"id": "c", "type": "function", "function": {"name": "exec_command", "arguments": "{}"}}]}}]});
    let body = answer.to_string();
    let hub = decode_response(Protocol::OpenaiChat, body.as_bytes(), &shape).unwrap();
    let written = encode_response(OWN, &hub, &shape);
    let found: Value = serde_json::from_slice(&written).unwrap();
    let output = &found["output"];
    assert_eq!(output[0]["type"], "custom_tool_call");
    assert_eq!(output[0]["input"], "*** Begin\n");
    assert_eq!(output[1]["namespace"], "multi_agent_v1");
    assert_eq!(output[1]["name"], "spawn_agent");
    assert_eq!(output[2]["name"], "exec_command");
    assert_eq!(found["tools"].as_array().unwrap().len(), 4);
    let mut lines = Lines::default();
    lines.whole("codex", OWN, &written);
    lines.hold("codex");
}
