//! Clients of Cohere, Ollama and Bedrock at a provider that speaks the same: what it says goes by as it is.

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::{Value, json};
use strait::codec::event_stream;

use super::common::provider::{Got, Provider, chunk};
use super::common::{Answer, Strait};

/// What a provider answers: its media type, and the pieces of its body.
type Script = fn(&Got) -> (&'static str, Vec<Vec<u8>>);

fn provider(script: Script) -> Provider {
    Provider::answering(move |got, socket| {
        let (kind, pieces) = script(got);
        write(socket, kind, &pieces)
    })
}

fn write(socket: &mut TcpStream, kind: &str, pieces: &[Vec<u8>]) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
    socket.write_all(head.as_bytes())?;
    for piece in pieces {
        chunk(socket, piece)?;
    }
    socket.write_all(b"0\r\n\r\n")
}

/// A gateway whose `m` is first asked at one provider, then at another.
fn gateway(protocol: &str, first: &Provider, second: &Provider) -> Strait {
    let base = match protocol {
        "cohere" => "/v2",
        _ => "",
    };
    Strait::start(&format!(
        r#"
        [providers.first]
        protocols = ["{protocol}"]
        base_url = "http://{}{base}"
        key = "a-key"
        [providers.second]
        protocols = ["{protocol}"]
        base_url = "http://{}{base}"
        key = "a-key"
        [models.m]
        targets = ["first/x-1"]
        fallbacks = ["spare"]
        retries = {{ max_attempts = 2, backoff = "1ms" }}
        [models.spare]
        targets = ["second/x-2"]
        "#,
        first.addr, second.addr
    ))
}

fn post(strait: &Strait, path: &str, body: &str) -> Answer {
    strait.client().post(path, &[], body.as_bytes())
}

fn got(provider: &Provider) -> Value {
    let mut all = provider.take();
    assert_eq!(all.len(), 1, "requests");
    serde_json::from_slice(&all.pop().unwrap().body).unwrap()
}

const COHERE: &str = r#"{"id":"c1","message":{"role":"assistant","tool_plan":"I will look.","tool_calls":[{"id":"t1","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"TOOL_CALL","usage":{"billed_units":{"input_tokens":7,"output_tokens":3},"tokens":{"input_tokens":70,"output_tokens":3}},"x_of_tomorrow":[1,2]}"#;
const COHERE_STREAM: &str = "event: message-start\ndata: {\"id\":\"c1\",\"type\":\"message-start\",\"delta\":{\"message\":{\"role\":\"assistant\",\"x\":1}}}\n\n: a comment\n\nevent: tool-plan-delta\ndata: {\"type\":\"tool-plan-delta\",\"delta\":{\"message\":{\"tool_plan\":\"I will\"}}}\n\nevent: x-of-tomorrow\ndata: {\"type\":\"x-of-tomorrow\"}\n\nevent: content-start\ndata: {\"type\":\"content-start\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"type\":\"text\",\"text\":\"\"}}}}\n\nevent: content-delta\ndata: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"h\u{e9}llo\"}}}}\n\nevent: content-end\ndata: {\"type\":\"content-end\",\"index\":0}\n\nevent: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":{\"billed_units\":{\"input_tokens\":7,\"output_tokens\":3},\"tokens\":{\"input_tokens\":70,\"output_tokens\":3}}}}\n\ndata: [DONE]\n\n";

#[test]
fn an_answer_of_cohere_reaches_its_client_whole() {
    let first = provider(|got| {
        let body: Value = serde_json::from_slice(&got.body).unwrap();
        if body["stream"] == json!(true) {
            // Cut where it hurts.
            let bytes = COHERE_STREAM.as_bytes();
            return (
                "text/event-stream",
                bytes.chunks(37).map(<[u8]>::to_vec).collect(),
            );
        }
        ("application/json", vec![COHERE.into()])
    });
    let strait = gateway("cohere", &first, &first);
    let ask = r#"{"stream": false, "x_of_tomorrow": {"b": 1, "a": 2},  "model": "m", "messages": [{"role": "user", "content": "hi"}]}"#;
    let answer = post(&strait, "/v2/chat", ask);
    assert_eq!((answer.status, answer.text().as_str()), (200, COHERE));
    let sent = first.take().pop().unwrap();
    let sent = String::from_utf8(sent.body.clone()).unwrap();
    assert_eq!(
        sent,
        ask.replace("\"m\"", "\"x-1\""),
        "and its request the provider"
    );
    let ask = ask.replace("false", "true");
    let answer = post(&strait, "/v2/chat", &ask);
    assert_eq!(answer.text(), COHERE_STREAM);
    assert!(answer.complete);
    for record in strait.records(2) {
        assert_eq!(record["mode"], "pass", "{record}");
        assert_eq!(record["usage"]["output"], 3, "{record}");
        assert!(record["finish"].is_string(), "{record}");
    }
}

const OLLAMA: &str = r#"{"model":"x-1","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"hi"},"done":true,"done_reason":"stop","total_duration":123456,"load_duration":7,"prompt_eval_count":11,"prompt_eval_duration":9,"eval_count":5,"eval_duration":8,"x":null}"#;

fn ollama_lines() -> String {
    let piece = |text: &str| {
        format!(
            "{{\"model\":\"x-1\",\"created_at\":\"t\",\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"done\":false,\"x\":1}}\n"
        )
    };
    format!("{}{}{OLLAMA}\n", piece("a"), piece("b"))
}

#[test]
fn an_answer_of_ollama_reaches_its_client_whole() {
    let first = provider(|got| {
        let body: Value = serde_json::from_slice(&got.body).unwrap();
        if body["stream"] == json!(false) {
            return ("application/json", vec![OLLAMA.into()]);
        }
        let lines = ollama_lines();
        // The last line without its end.
        let bytes = lines.trim_end().as_bytes();
        (
            "application/x-ndjson",
            bytes.chunks(50).map(<[u8]>::to_vec).collect(),
        )
    });
    let strait = gateway("ollama", &first, &first);
    let ask = r#"{"model": "m", "stream": false, "keep_alive": "5m", "messages": [{"role": "user", "content": "hi"}]}"#;
    let answer = post(&strait, "/api/chat", ask);
    assert_eq!((answer.status, answer.text().as_str()), (200, OLLAMA));
    assert_eq!(got(&first)["keep_alive"], "5m");
    // It streams unless it is told not to.
    let answer = post(
        &strait,
        "/api/chat",
        &ask.replace("\"stream\": false, ", ""),
    );
    assert_eq!(answer.text(), ollama_lines());
    for record in strait.records(2) {
        assert_eq!(record["mode"], "pass", "{record}");
        assert_eq!(record["usage"]["input"], 11, "{record}");
        assert_eq!(record["usage"]["output"], 5, "{record}");
    }
}

const CONVERSE: &str = r#"{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn","usage":{"inputTokens":11,"outputTokens":5,"totalTokens":16},"metrics":{"latencyMs":42},"trace":{"guardrail":{"x":[1]}},"performanceConfig":{"latency":"optimized"}}"#;

fn converse_stream() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (name, payload) in [
        ("messageStart", json!({"role": "assistant", "p": "abc"})),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 0, "delta": {"text": "hi"}, "p": "a"}),
        ),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        (
            "messageStop",
            json!({"stopReason": "end_turn", "additionalModelResponseFields": {"x": 1}}),
        ),
        (
            "metadata",
            json!({"usage": {"inputTokens": 11, "outputTokens": 5, "totalTokens": 16}, "metrics": {"latencyMs": 42}, "trace": {"guardrail": {}}}),
        ),
    ] {
        let mut message = Vec::new();
        event_stream::write(name, payload.to_string().as_bytes(), &mut message);
        all.push(message);
    }
    all
}

#[test]
fn an_answer_of_bedrock_reaches_its_client_whole() {
    let first = provider(|got| match got.path.ends_with("/converse-stream") {
        true => {
            let bytes = converse_stream().concat();
            let pieces = bytes.chunks(61).map(<[u8]>::to_vec).collect();
            ("application/vnd.amazon.eventstream", pieces)
        }
        false => ("application/json", vec![CONVERSE.into()]),
    });
    let strait = gateway("bedrock", &first, &first);
    let ask = r#"{"messages": [{"role": "user", "content": [{"text": "hi"}]}], "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1", "trace": "enabled"}}"#;
    let answer = post(&strait, "/model/m/converse", ask);
    assert_eq!((answer.status, answer.text().as_str()), (200, CONVERSE));
    let sent = first.take().pop().unwrap();
    assert_eq!(sent.path, "/model/x-1/converse");
    assert_eq!(String::from_utf8_lossy(&sent.body), ask);
    let answer = post(&strait, "/model/m/converse-stream", ask);
    assert_eq!(answer.body, converse_stream().concat());
    for record in strait.records(2) {
        assert_eq!(record["mode"], "pass", "{record}");
        assert_eq!(record["usage"]["input"], 11, "{record}");
        assert_eq!(record["usage"]["output"], 5, "{record}");
        assert_eq!(record["finish"], "stop", "{record}");
    }
}

#[test]
fn a_passed_stream_that_fails_is_told_or_asked_elsewhere() {
    // Before its first word another is asked; after it the client is told, once.
    let early = provider(|_| {
        (
            "application/x-ndjson",
            vec![b"{\"error\":\"boom\"}\n".to_vec()],
        )
    });
    let good = provider(|_| ("application/x-ndjson", vec![ollama_lines().into_bytes()]));
    let ask = r#"{"model": "m", "messages": [{"role": "user", "content": "hi"}]}"#;
    let strait = gateway("ollama", &early, &good);
    let answer = post(&strait, "/api/chat", ask);
    assert_eq!(answer.text(), ollama_lines());
    assert_eq!(
        strait.records(1)[0]["attempts"].as_array().unwrap().len(),
        2
    );

    let late = provider(|_| {
        let lines = ollama_lines();
        let first = lines.split_inclusive('\n').next().unwrap();
        let pieces = vec![
            first.as_bytes().to_vec(),
            b"{\"error\":\"boom\"}\n".to_vec(),
        ];
        ("application/x-ndjson", pieces)
    });
    let strait = gateway("ollama", &late, &good);
    let answer = post(&strait, "/api/chat", ask).text();
    assert_eq!(answer.matches("\"error\"").count(), 1, "{answer}");
    assert!(
        answer.starts_with(ollama_lines().split_inclusive('\n').next().unwrap()),
        "{answer}"
    );

    let cut = provider(|_| {
        let lines = ollama_lines();
        (
            "application/x-ndjson",
            vec![lines.as_bytes()[..lines.len() - 30].to_vec()],
        )
    });
    let strait = gateway("ollama", &cut, &good);
    let answer = post(&strait, "/api/chat", ask).text();
    let last = answer.lines().last().unwrap();
    assert!(last.contains("\"error\""), "half a line is none: {answer}");
    assert_eq!(strait.records(1)[0]["error"], "upstream_broken");

    let torn = provider(|_| {
        let mut bytes = converse_stream().concat();
        let at = bytes.len() - 20;
        bytes[at] ^= 1;
        ("application/vnd.amazon.eventstream", vec![bytes])
    });
    let strait = gateway("bedrock", &torn, &good);
    let ask = r#"{"messages": [{"role": "user", "content": [{"text": "hi"}]}]}"#;
    let answer = post(&strait, "/model/m/converse-stream", ask);
    let whole = converse_stream();
    let good = whole[..4].concat();
    assert!(answer.body.starts_with(&good), "what was whole is passed");
    assert!(
        answer.body.len() > good.len(),
        "and the rest is said to be broken"
    );
}
