//! What Claude Code wants of a gateway, point by point: <https://code.claude.com/docs/en/llm-gateway-protocol>.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::dialect::{Dialect, events};
use common::provider::{Provider, chunk};
use common::wire::Wire;
use common::{Answer, Strait, mock};
use serde_json::{Value, json};
use strait::codec::base64;
use strait::mock::{Call, Mock, Script};
use strait::protocol::bedrock::invoke::{Reframer, write_chunk};

const KEY: (&str, &str) = ("x-api-key", "sk-of-the-client");
const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// A gateway with a key, and `claude-lab` (Anthropic's own protocol), `claude-open` (OpenAI's) and `claude-aws`
/// (Anthropic's, at Bedrock) behind it.
struct Lab {
    strait: Strait,
    mock: Mock,
}

impl Lab {
    fn new(script: &str) -> Self {
        let mock = mock(script);
        let url = mock.url();
        let strait = Strait::start(&format!(
            r#"
            [[keys]]
            name = "coder"
            key = "sk-of-the-client"
            [providers.lab]
            protocols = ["anthropic"]
            base_url = "{url}"
            key = "the-provider's-key"
            [providers.open]
            protocols = ["openai-chat"]
            base_url = "{url}/v1"
            key = "the-provider's-key"
            [providers.bedrock]
            base_url = "{url}"
            region = "us-east-1"
            key = "the-provider's-key"
            [models.claude-lab]
            targets = ["lab/x"]
            [models.claude-lab.retries]
            max_attempts = 2
            backoff = "1ms"
            [models.claude-open]
            targets = ["open/x"]
            [models.claude-aws]
            targets = ["bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0"]
            "#
        ));
        Self { strait, mock }
    }

    fn script(&self, script: &str) {
        self.mock.set_script(Script::from_toml(script).unwrap());
        self.strait.admin("DELETE", "/admin/v1/cooldowns", "");
    }

    /// Posts as Claude Code does, with further headers.
    fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = [&[KEY, VERSION], headers].concat();
        self.strait.client().post(path, &headers, body.as_bytes())
    }

    /// Posts, and returns also the one call that the provider got.
    fn ask(&self, path: &str, headers: &[(&str, &str)], body: &str) -> (Answer, Call) {
        self.mock.clear_calls();
        let answer = self.post(path, headers, body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let mut calls = self.mock.calls();
        assert_eq!(calls.len(), 1, "{path}");
        (answer, calls.remove(0))
    }
}

fn message(model: &str) -> Value {
    common::message(model, "hi")
}

/// A body as Claude Code's are, written as no library would: what arrives is what was sent but for the model.
const BODY: &str = r#"{ "model":"claude-lab", "max_tokens" :64000,
 "system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2.1;"},
  {"type":"text","text":"You are an agent.","cache_control":{"type":"ephemeral"}},
  {"cache_control":{"ttl":"1h","type":"ephemeral"},"text":"\u0052ules.","type":"text"}],
 "messages":[
  {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b","cache_control":{"type":"ephemeral"}}]},
  {"role":"system","content":"said in between","cache_control":{"type":"ephemeral"}},
  {"role":"assistant","content":[{"type":"thinking","thinking":"Hm.","signature":"c2ln"},
   {"type":"tool_use","id":"toolu_1","name":"Bash","input":{"z":1.0,"a":[ ]}}]},
  {"role":"user","content":[{"tool_use_id":"toolu_1","type":"tool_result","content":"ok","is_error":false,
   "cache_control":{"type":"ephemeral"}}]}],
 "tools":[{"name":"Bash","input_schema":{"type":"object"},"strict":true,"defer_loading":true,"eager_input_streaming":true}],
 "thinking":{"type":"adaptive"}, "output_config":{"effort":"high"},
 "context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},
 "diagnostics":{"not":["known",1e2]}, "metadata":{"user_id":"{\"session_id\":\"s\"}"} }"#;

#[test]
fn a_message_arrives_byte_for_byte_with_all_that_belongs_to_it() {
    let provider = Provider::keeping();
    let strait = Strait::start(&format!(
        "[providers.lab]\nprotocols = [\"anthropic\"]\nbase_url = \"http://{}\"\nkey = \"k\"\n[models.claude-lab]\ntargets = [\"lab/x\"]\n",
        provider.addr
    ));
    let beta = "claude-code-20250219,context-1m-2025-08-07,unheard-of-2031-01-01";
    let headers = [
        VERSION,
        ("anthropic-beta", beta),
        ("anthropic-dangerous-direct-browser-access", "true"),
        ("anthropic-of-tomorrow", "a; b=\"c\""),
        ("x-claude-code-session-id", "5e55"),
        ("authorization", "Bearer of-the-client"),
    ];
    let path = "/v1/messages?beta=true";
    let answer = strait.client().post(path, &headers, BODY.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = provider.take();
    assert_eq!(got[0].path, path);
    assert_eq!(
        String::from_utf8_lossy(&got[0].body),
        BODY.replace("\"claude-lab\"", "\"x\"")
    );
    for (name, value) in &headers[..4] {
        assert_eq!(got[0].header(name), *value, "{name}");
    }
    assert_eq!(got[0].header("x-api-key"), "k");
    assert_eq!(got[0].header("authorization"), "", "the client's key");
    assert_eq!(strait.records(1)[0]["session"], "5e55");
}

#[test]
fn betas_in_several_lines_all_arrive() {
    let lab = Lab::new("");
    let betas = [
        ("anthropic-beta", "a-2025-01-01,b-2025-01-01"),
        ("anthropic-beta", "c-2025-01-01"),
    ];
    let (_, call) = lab.ask(
        "/v1/messages?beta=true",
        &betas,
        &message("claude-lab").to_string(),
    );
    let sent: Vec<&str> = call
        .headers
        .iter()
        .filter(|(name, _)| name == "anthropic-beta")
        .flat_map(|(_, value)| value.split(','))
        .map(str::trim)
        .collect();
    assert_eq!(sent, ["a-2025-01-01", "b-2025-01-01", "c-2025-01-01"]);
}

#[test]
fn a_beta_header_and_its_field_reach_bedrock_together() {
    let lab = Lab::new("");
    let body = BODY.replace("claude-lab", "claude-aws");
    let beta = [(
        "anthropic-beta",
        "context-management-2025-06-27,effort-2025-11-24",
    )];
    let (_, call) = lab.ask("/v1/messages?beta=true", &beta, &body);
    assert!(call.path.ends_with("/invoke"), "{}", call.path);
    let sent = call.json();
    for (field, flag) in [
        ("context_management", "context-management-2025-06-27"),
        ("output_config", "effort-2025-11-24"),
    ] {
        let has_flag = sent["anthropic_beta"]
            .as_array()
            .is_some_and(|flags| flags.contains(&json!(flag)));
        assert_eq!(sent.get(field).is_some(), has_flag, "{field}: {sent}");
    }
    assert_eq!(sent["system"].as_array().map(Vec::len), Some(3), "{sent}");
    assert!(sent.get("model").is_none() && sent["anthropic_version"].is_string());
}

#[test]
fn tokens_are_counted_by_the_provider_or_estimated() {
    let lab = Lab::new("");
    let path = "/v1/messages/count_tokens?beta=true";
    let mut body = message("claude-lab");
    body.as_object_mut().unwrap().remove("max_tokens");
    let (answer, call) = lab.ask(path, &[], &body.to_string());
    assert!(answer.json()["input_tokens"].is_u64(), "{}", answer.text());
    assert_eq!(call.path, "/v1/messages/count_tokens");
    assert_eq!(call.query.as_deref(), Some("beta=true"));
    body["model"] = json!("claude-open");
    let answer = lab.post(path, &[], &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["input_tokens"].is_u64(), "{}", answer.text());
    assert_eq!(answer.header("x-strait-estimated"), Some("true"));
}

#[test]
fn a_warm_up_is_answered_at_once_without_a_key_and_keeps_its_connection() {
    let lab = Lab::new("");
    let mut wire = Wire::open(lab.strait.addr);
    for (path, statuses) in [("/", 200..=200), ("/api/hello", 200..=499)] {
        wire.request("HEAD", path, &[], b"");
        let head = wire.head().unwrap();
        assert!(
            statuses.contains(&head.status) && head.status / 100 != 3,
            "{path}: {}",
            head.status
        );
    }
    let body = message("claude-lab").to_string();
    wire.request(
        "POST",
        "/v1/messages?beta=true",
        &[KEY, VERSION],
        body.as_bytes(),
    );
    assert_eq!(wire.answer().unwrap().status, 200);
}

#[test]
fn bedrocks_paths_ask_whatever_is_behind_them() {
    let lab = Lab::new("[default]\ntext = \"Good morning.\"");
    let mut body = message("");
    body.as_object_mut().unwrap().remove("model");
    body["anthropic_version"] = json!("bedrock-2023-05-31");
    body["anthropic_beta"] = json!(["context-1m-2025-08-07"]);
    let body = body.to_string();
    for model in ["claude-lab", "claude-open", "claude-aws"] {
        let (answer, _) = lab.ask(&format!("/model/{model}/invoke"), &[], &body);
        assert_eq!(
            Dialect::Anthropic.said(&answer).text,
            "Good morning.",
            "{model}"
        );
        let path = format!("/model/{model}/invoke-with-response-stream");
        let (answer, call) = lab.ask(&path, &[], &body);
        assert_eq!(
            answer.header("content-type"),
            Some("application/vnd.amazon.eventstream"),
            "{model}"
        );
        assert!(call.stream, "{model}");
        let mut events = Vec::new();
        let mut reframer = Reframer::new(1 << 20);
        reframer
            .push(&Bytes::from(answer.body), &mut events)
            .unwrap();
        let answer = Answer {
            body: events,
            headers: vec![("content-type".into(), "text/event-stream".into())],
            ..answer_like(true)
        };
        assert_eq!(
            Dialect::Anthropic.said(&answer).text,
            "Good morning.",
            "{model}"
        );
        if model == "claude-lab" {
            let sent = call.json();
            assert_eq!(
                (&sent["model"], &sent["stream"]),
                (&json!("x"), &json!(true))
            );
            assert_eq!(call.header("anthropic-beta"), Some("context-1m-2025-08-07"));
            assert!(
                sent.get("anthropic_version").is_none() && sent.get("anthropic_beta").is_none(),
                "{sent}"
            );
        }
        let mut coded = Vec::new();
        base64::encode(body.as_bytes(), &mut coded);
        let counted =
            json!({"input": {"invokeModel": {"body": String::from_utf8(coded).unwrap()}}});
        let answer = lab.post(
            &format!("/model/{model}/count-tokens"),
            &[],
            &counted.to_string(),
        );
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert!(
            answer.json()["inputTokens"]
                .as_u64()
                .is_some_and(|tokens| tokens > 0),
            "{model}: {}",
            answer.text()
        );
    }
}

fn answer_like(complete: bool) -> Answer {
    Answer {
        status: 200,
        headers: Vec::new(),
        body: Vec::new(),
        complete,
    }
}

#[test]
fn vertexs_paths_ask_whatever_is_behind_them() {
    let lab = Lab::new("[default]\ntext = \"Good morning.\"");
    let mut body = message("");
    body.as_object_mut().unwrap().remove("model");
    body["anthropic_version"] = json!("vertex-2023-10-16");
    let key = [("authorization", "Bearer sk-of-the-client")];
    for prefix in ["", "/v1"] {
        let at = format!("{prefix}/projects/p/locations/global/publishers/anthropic/models");
        for model in ["claude-lab", "claude-open"] {
            let mut body = body.clone();
            let (answer, call) =
                lab.ask(&format!("{at}/{model}:rawPredict"), &key, &body.to_string());
            assert_eq!(
                Dialect::Anthropic.said(&answer).text,
                "Good morning.",
                "{model}"
            );
            if model == "claude-lab" {
                assert_eq!(call.json()["model"], "x");
                assert!(call.json().get("anthropic_version").is_none());
            }
            body["stream"] = json!(true);
            let path = format!("{at}/{model}:streamRawPredict?alt=sse");
            let (answer, _) = lab.ask(&path, &key, &body.to_string());
            assert!(common::dialect::is_stream(&answer), "{model}");
            assert_eq!(
                Dialect::Anthropic.said(&answer).text,
                "Good morning.",
                "{model}"
            );
            body["model"] = json!(model);
            for field in ["stream", "max_tokens"] {
                body.as_object_mut().unwrap().remove(field);
            }
            let path = format!("{at}/count-tokens:rawPredict");
            lab.mock.clear_calls();
            let answer = lab.post(&path, &key, &body.to_string());
            assert_eq!(answer.status, 200, "{model}: {}", answer.text());
            assert!(
                answer.json()["input_tokens"]
                    .as_u64()
                    .is_some_and(|tokens| tokens > 0),
                "{model}: {}",
                answer.text()
            );
            if model == "claude-lab" {
                let calls = lab.mock.calls();
                assert_eq!(calls[0].path, "/v1/messages/count_tokens");
                assert_eq!(
                    calls[0].problems,
                    Vec::<String>::new(),
                    "{}",
                    calls[0].json()
                );
                assert!(calls[0].json().get("anthropic_version").is_none());
            }
        }
    }
}

#[test]
fn pings_and_comments_are_relayed_and_nothing_is_held_back() {
    let lab = Lab::new(
        "[default]\nchunks = 4\nchunk_gap = \"300ms\"\nping_every = \"50ms\"\ncomments = true",
    );
    let body = Dialect::Anthropic.body("claude-lab", "one two three four", true);
    let sent = Instant::now();
    let mut stream = lab
        .strait
        .client()
        .send(
            "POST",
            "/v1/messages?beta=true",
            &[KEY, VERSION],
            body.to_string().as_bytes(),
        )
        .unwrap();
    let mut text = stream.until("text_delta");
    let first = sent.elapsed();
    text += &stream.until("message_stop");
    let last = sent.elapsed();
    assert!(
        last - first >= Duration::from_millis(500),
        "held back: the first came after {first:?}, the last after {last:?}"
    );
    assert!(text.matches("event: ping").count() >= 4, "{text}");
    assert!(text.lines().any(|line| line.starts_with(':')), "{text}");
}

/// What Bedrock streams: no pings, and the events wrapped.
const EVENTS: [&str; 6] = [
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one two"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}"#,
    r#"{"type":"message_stop"}"#,
];

#[test]
fn a_silent_upstream_without_pings_is_pinged_for() {
    let bedrock = Provider::answering(|_, socket| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes())?;
        for (at, event) in EVENTS.iter().enumerate() {
            if at == 3 {
                std::thread::sleep(Duration::from_millis(17_500));
            }
            let mut frame = Vec::new();
            write_chunk(event.as_bytes(), &mut frame);
            chunk(socket, &frame)?;
        }
        socket.write_all(b"0\r\n\r\n")
    });
    let strait = Strait::start(&format!(
        "[providers.bedrock]\nbase_url = \"http://{}\"\nregion = \"us-east-1\"\nkey = \"k\"\n",
        bedrock.addr
    ));
    let model = "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0";
    let body = Dialect::Anthropic.body(model, "hi", true);
    let answer = strait.post("/v1/messages?beta=true", &body);
    assert_eq!(Dialect::Anthropic.said(&answer).text, "one two");
    let pings = events(&answer)
        .iter()
        .filter(|event| event["type"] == "ping")
        .count();
    assert!(pings >= 1, "{}", answer.text());
}

#[test]
fn what_says_when_to_retry_is_passed_and_its_seconds_are_whole() {
    let lab = Lab::new("");
    let body = message("claude-lab").to_string();
    for (told, passed) in [
        ("23", "23"),
        ("0", "0"),
        ("90.2", "91"),
        ("Wed, 25 Nov 2020 12:00:30 GMT", "0"),
    ] {
        for retry in ["true", "false"] {
            lab.script(&format!(
                "[default]\nstatus = 429\nheaders = {{ retry-after = \"{told}\", x-should-retry = \"{retry}\", anthropic-ratelimit-unified-status = \"rejected\", anthropic-ratelimit-unified-5h-utilization = \"1.02\" }}"
            ));
            let answer = lab.post("/v1/messages?beta=true", &[], &body);
            let case = format!("{told}, {retry}: {:?}", answer.headers);
            assert_eq!(answer.status, 429, "{case}");
            assert_eq!(answer.header("retry-after"), Some(passed), "{case}");
            assert_eq!(answer.header("x-should-retry"), Some(retry), "{case}");
            assert_eq!(
                answer.header("anthropic-ratelimit-unified-5h-utilization"),
                Some("1.02"),
                "{case}"
            );
        }
    }
    lab.script("[default]\nheaders = { x-should-retry = \"true\", anthropic-ratelimit-unified-status = \"allowed\", anthropic-ratelimit-unified-reset = \"1795447270\" }");
    for stream in [false, true] {
        let body = Dialect::Anthropic.body("claude-lab", "hi", stream);
        let (answer, _) = lab.ask("/v1/messages?beta=true", &[], &body.to_string());
        for (name, value) in [
            ("x-should-retry", "true"),
            ("anthropic-ratelimit-unified-status", "allowed"),
            ("anthropic-ratelimit-unified-reset", "1795447270"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}, stream {stream}");
        }
    }
}

#[test]
fn an_error_is_the_providers_own_byte_for_byte() {
    let lab = Lab::new("");
    let said = [
        "messages.1.content.0: Invalid `signature` in `thinking` block",
        "messages.3: signature is bound to a different conversation",
        "Input tag 'tool_search_tool_regex' found using 'type' does not match any of the expected tags",
        "context_management: Extra inputs are not permitted",
        "prompt is too long: 213462 tokens > 200000 maximum",
        "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified",
    ];
    for status in [400, 404, 413, 422, 429, 500, 529] {
        for said in said {
            let body = format!(
                "{{\"type\":\"error\" ,\"error\":{{\"type\":\"invalid_request_error\",\"message\":\"{said}\"}},\n \"request_id\":\"req_011\" , \"more\":[1.0]}}"
            );
            lab.script(&format!(
                "[default]\nstatus = {status}\nbody = '''{body}'''\nheaders = {{ content-type = \"application/json\", request-id = \"req_011\" }}"
            ));
            for stream in [false, true] {
                let asked = Dialect::Anthropic.body("claude-lab", "hi", stream);
                let answer = lab.post("/v1/messages?beta=true", &[], &asked.to_string());
                assert_eq!(
                    (answer.status, answer.text().as_str()),
                    (status, body.as_str())
                );
                assert_eq!(answer.header("request-id"), Some("req_011"));
                lab.strait.admin("DELETE", "/admin/v1/cooldowns", "");
            }
        }
    }
}

#[test]
fn models_are_discovered_whichever_way_the_key_is_shown() {
    let lab = Lab::new("");
    let bearer = ("authorization", "Bearer sk-of-the-client");
    let ways: [&[(&str, &str)]; 4] = [
        &[bearer, KEY, VERSION],
        &[bearer],
        &[KEY],
        &[KEY, VERSION, ("anthropic-beta", "a,b")],
    ];
    for headers in ways {
        let started = Instant::now();
        let answer = lab
            .strait
            .client()
            .request("GET", "/v1/models?limit=1000", headers, b"");
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_eq!(answer.status, 200, "{headers:?}: {}", answer.text());
        let listed = answer.json();
        let ids: Vec<&str> = listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|model| model["id"].as_str())
            .filter(|id| id.contains("claude") || id.contains("anthropic"))
            .collect();
        for model in ["claude-lab", "claude-open", "claude-aws"] {
            assert!(ids.contains(&model), "{headers:?}: {ids:?}");
        }
        if headers.contains(&VERSION) {
            let first = &listed["data"][0];
            assert!(first["display_name"].is_string(), "{first}");
            assert_eq!(listed["has_more"], false);
        }
    }
}

#[test]
fn hints_for_the_gateway_are_consumed() {
    let lab = Lab::new("");
    let hints = [
        ("x-claude-code-session-id", "5e55"),
        ("x-claude-code-agent-id", "a1"),
        ("x-claude-code-request-class", "subagent"),
        ("x-claude-code-prev-tool-durations", "Bash=12"),
        ("x-app", "cli"),
    ];
    let body = message("claude-lab").to_string();
    let (_, call) = lab.ask("/v1/messages?beta=true", &hints, &body);
    for (name, _) in hints {
        assert_eq!(call.header(name), None, "{name}");
    }
    assert_eq!(lab.strait.records(1)[0]["session"], "5e55");
}
