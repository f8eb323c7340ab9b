//! The fake provider, over real sockets: what it says, and what it tells of its calls.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod apis;
mod client;
mod protocols;
mod realtime;
mod sdks;
mod sent;
mod strict;
mod wire;

use client::*;
use serde_json::{Value, json};
use strait::mock::{Behaviour, Mock, Rule, Script, Wait};

#[test]
fn the_example_script_loads_and_shows_every_key() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/mock-example.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let script = Script::load(file.as_ref()).unwrap();
    assert!(script.rules.len() >= 6);
    // The keys of an empty script are all keys there are.
    let empty = format!(
        "{:?}",
        (
            Script::default(),
            strait::mock::Rule::default(),
            strait::mock::Behaviour::default()
        )
    );
    let names = empty
        .split([' ', '{', ','])
        .filter_map(|word| word.strip_suffix(':'));
    for name in names.filter(|name| !["rendered", "data", "rules"].contains(name)) {
        assert!(
            text.contains(&format!("{name} =")) || text.contains(&format!("[{name}]")),
            "{name} is not shown"
        );
    }
}

#[test]
fn a_plain_call_echoes_the_last_user_text_in_both_protocols() {
    let mock = mock("");
    let reply = post(&mock, OPENAI, &openai(false));
    let answer = reply.json();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-request-id"), Some("req_mock_1"));
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        "one two three four"
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["model"], "gpt-test");
    assert_eq!(
        answer["usage"]["prompt_tokens"], 5,
        "18 characters, four a token"
    );
    assert_eq!(answer["usage"]["total_tokens"], 10);
    let answer = post(&mock, ANTHROPIC, &anthropic(false)).json();
    assert_eq!(
        answer["content"],
        json!([{"type": "text", "text": "one two three four"}])
    );
    assert_eq!(answer["stop_reason"], "end_turn");
    assert_eq!(answer["usage"]["input_tokens"], 5);
    assert_eq!(answer["usage"]["output_tokens"], 5);
}

#[test]
fn any_prefix_leads_to_the_same_protocols() {
    let mock = mock("");
    for path in [
        "/chat/completions",
        "/openai/deployments/x/chat/completions",
        "/api/v1/chat/completions?a=b",
    ] {
        assert_eq!(
            post(&mock, path, &openai(false)).json()["object"],
            "chat.completion",
            "{path}"
        );
    }
    assert_eq!(
        post(&mock, "/anthropic/v1/messages", &anthropic(false)).json()["type"],
        "message"
    );
    assert_eq!(mock.calls()[2].query.as_deref(), Some("a=b"));
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let mock = one(
        "chunks = 6, thinking = \"hm hm hm\", tools = [{name = \"t\", arguments = {a = 1}}], text = \"äöü abc\"",
    );
    let whole = post(&mock, OPENAI, &openai(false)).json();
    let mut body = openai(true);
    body["stream_options"] = json!({"include_usage": true});
    let reply = post(&mock, OPENAI, &body);
    assert_eq!(
        reply.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    let events = reply.events();
    assert!(reply.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(reply.streamed_text(), "äöü abc");
    assert_eq!(
        events.last().unwrap()["usage"],
        whole["usage"],
        "the usage is the same"
    );
    assert!(
        events[0]["usage"].is_null() && events[0].get("usage").is_some(),
        "asked for, it is null before"
    );
    let arguments: String = events
        .iter()
        .filter_map(|event| {
            event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str()
        })
        .collect();
    assert_eq!(arguments, "{\"a\":1}");
    assert_eq!(
        events[events.len() - 2]["choices"][0]["finish_reason"],
        "tool_calls"
    );

    let whole = post(&mock, ANTHROPIC, &anthropic(false)).json();
    let reply = post(&mock, ANTHROPIC, &anthropic(true));
    let events = reply.events();
    assert_eq!(reply.streamed_text(), "äöü abc");
    assert_eq!(
        events[0]["message"]["usage"]["input_tokens"],
        whole["usage"]["input_tokens"]
    );
    let last = &events[events.len() - 2];
    assert_eq!(
        last["usage"]["output_tokens"],
        whole["usage"]["output_tokens"]
    );
    assert_eq!(last["delta"]["stop_reason"], "tool_use");
    assert_eq!(events[events.len() - 1]["type"], "message_stop");
    let signature = events
        .iter()
        .find_map(|event| event["delta"]["signature"].as_str());
    assert_eq!(signature, whole["content"][0]["signature"].as_str());
    let kinds: Vec<&str> = whole["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["thinking", "text", "tool_use"]);
    let opened: Vec<&str> = events
        .iter()
        .filter_map(|event| event["content_block"]["type"].as_str())
        .collect();
    assert_eq!(opened, kinds);
}

#[test]
fn parallel_tools_and_broken_arguments_come_as_scripted() {
    let mock = one(
        "tools = [{name = \"a\", arguments = {x = [1]}}, {name = \"b\", id = \"call_7\", arguments = \"{\\\"y\\\": \"}]",
    );
    let calls =
        post(&mock, OPENAI, &openai(false)).json()["choices"][0]["message"]["tool_calls"].clone();
    assert_eq!(
        calls[0]["function"],
        json!({"name": "a", "arguments": "{\"x\":[1]}"})
    );
    assert_eq!(calls[1]["id"], "call_7");
    assert_eq!(calls[1]["function"]["arguments"], "{\"y\": ");
    assert_ne!(calls[0]["id"], calls[1]["id"]);
}

#[test]
fn refusals_and_finish_reasons_are_said_in_either_protocol() {
    let mock = mock(
        "[[rule]]\ncycle = true\nsteps = [{refusal = \"No.\"}, {finish = \"length\"}, {finish = \"end_turn\"},\
         {stop_sequence = \"END\"}, {finish = \"content_filter\"}, {finish = \"odd\"}]",
    );
    let openai_finishes: Vec<Value> = (0..6)
        .map(|_| post(&mock, OPENAI, &openai(false)).json()["choices"][0].clone())
        .collect();
    assert_eq!(openai_finishes[0]["message"]["refusal"], "No.");
    assert!(openai_finishes[0]["message"]["content"].is_null());
    let reasons: Vec<&str> = openai_finishes
        .iter()
        .map(|choice| choice["finish_reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        reasons,
        ["stop", "length", "stop", "stop", "content_filter", "odd"]
    );
    let answers: Vec<Value> = (0..6)
        .map(|_| post(&mock, ANTHROPIC, &anthropic(false)).json())
        .collect();
    let reasons: Vec<&str> = answers
        .iter()
        .map(|answer| answer["stop_reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        reasons,
        [
            "refusal",
            "max_tokens",
            "end_turn",
            "stop_sequence",
            "refusal",
            "odd"
        ]
    );
    assert_eq!(answers[3]["stop_sequence"], "END");
}

#[test]
fn usage_can_be_given_missing_or_unasked() {
    let mock = one(
        "usage = {prompt_tokens = 100, cached_tokens = 60, completion_tokens = 20, reasoning_tokens = 4, cache_write_tokens = 8}",
    );
    let usage = post(&mock, OPENAI, &openai(false)).json()["usage"].clone();
    assert_eq!(usage["prompt_tokens"], 100);
    assert_eq!(usage["total_tokens"], 120);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 60);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 4);
    let usage = post(&mock, ANTHROPIC, &anthropic(false)).json()["usage"].clone();
    assert_eq!(usage["cache_read_input_tokens"], 60);
    assert_eq!(usage["cache_creation"]["ephemeral_5m_input_tokens"], 8);

    mock.set_script(Script::from_toml("[default]\nusage = false").unwrap());
    assert!(
        post(&mock, OPENAI, &openai(false))
            .json()
            .get("usage")
            .is_none()
    );
    assert!(
        !post(&mock, ANTHROPIC, &anthropic(true))
            .text()
            .contains("usage")
    );

    mock.set_script(Script::default());
    assert!(
        !post(&mock, OPENAI, &openai(true)).text().contains("usage"),
        "not asked for, not told"
    );
    mock.set_script(Script::from_toml("[default]\nusage_only_if_asked = false").unwrap());
    assert!(
        post(&mock, OPENAI, &openai(true))
            .text()
            .contains("\"total_tokens\":10")
    );
    mock.set_script(Script::from_toml("[default]\nusage = {raw = '{\"odd\": 1}'}").unwrap());
    assert_eq!(
        post(&mock, OPENAI, &openai(false)).json()["usage"],
        json!({"odd": 1})
    );
}

#[test]
fn errors_have_the_protocols_shape_headers_and_ones_own_body() {
    let mock = mock(
        "[[rule]]\nsteps = [{repeat = 2, status = 429, headers = {retry-after = 2, content-type = \"application/problem+json\"}},\
         {repeat = 2, status = 529, error = {message = \"busy\"}}, {status = 502, body = \"<h1>\"}, {status = 500, body = {a = 1}}]",
    );
    let reply = post(&mock, OPENAI, &openai(true));
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (429, Some("2"))
    );
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json"),
        "headers replace the default ones"
    );
    assert_eq!(reply.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(
        post(&mock, ANTHROPIC, &anthropic(false)).json()["error"]["type"],
        "rate_limit_error"
    );
    assert_eq!(
        post(&mock, OPENAI, &openai(false)).json()["error"]["message"],
        "busy"
    );
    let reply = post(&mock, ANTHROPIC, &anthropic(true));
    assert_eq!(reply.status, 529);
    assert_eq!(
        reply.json()["error"],
        json!({"type": "overloaded_error", "message": "busy"})
    );
    assert_eq!(post(&mock, OPENAI, &openai(false)).text(), "<h1>");
    assert_eq!(post(&mock, OPENAI, &openai(false)).json(), json!({"a": 1}));
}

#[test]
fn rules_match_by_path_model_header_and_body_in_order() {
    let mock = mock(
        "[[rule]]\nmodel = \"gpt-4*\"\nsteps = [{text = \"model\"}]\n\
         [[rule]]\nname = \"by header\"\nheader = {name = \"Authorization\", value = \"k\"}\nbody_contains = \"needle\"\nsteps = [{text = \"both\"}]\n\
         [[rule]]\npath = \"messages\"\nsteps = [{text = \"path\"}]\n[default]\ntext = \"default\"",
    );
    let said = |model: &str, text: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
        post(&mock, OPENAI, &body).json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(said("gpt-4o", "needle"), "model");
    assert_eq!(said("gpt-3", "a needle"), "both");
    assert_eq!(said("gpt-3", "hay"), "default");
    assert_eq!(
        post(&mock, ANTHROPIC, &anthropic(false)).json()["content"][0]["text"],
        "path"
    );
    let rules: Vec<Option<String>> = mock.calls().into_iter().map(|call| call.rule).collect();
    assert_eq!(
        rules,
        [
            Some("0".to_owned()),
            Some("by header".to_owned()),
            None,
            Some("2".to_owned())
        ]
    );
}

#[test]
fn a_forced_tool_is_called_and_a_schema_is_filled() {
    let mock = mock("");
    let schema =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let mut body = openai(false);
    body["tools"] =
        json!([{"type": "function", "function": {"name": "weather", "parameters": schema}}]);
    body["tool_choice"] = json!({"type": "function", "function": {"name": "weather"}});
    let answer = post(&mock, OPENAI, &body).json();
    assert_eq!(
        answer["choices"][0]["message"]["tool_calls"][0]["function"],
        json!({"name": "weather", "arguments": "{\"city\":\"text\"}"})
    );
    let mut body = anthropic(false);
    body["tools"] = json!([{"name": "weather", "input_schema": schema}]);
    body["tool_choice"] = json!({"type": "any"});
    assert_eq!(
        post(&mock, ANTHROPIC, &body).json()["content"][0]["input"],
        json!({"city": "text"})
    );
    let mut body = openai(false);
    body["response_format"] =
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    assert_eq!(
        post(&mock, OPENAI, &body).json()["choices"][0]["message"]["content"],
        "{\"city\":\"text\"}"
    );
    assert!(
        mock.calls().iter().all(|call| call.problems.is_empty()),
        "{:?}",
        mock.calls()
    );
}

#[test]
fn several_answers_come_for_n() {
    let mock = mock("");
    let mut body = openai(false);
    body["n"] = json!(3);
    assert_eq!(post(&mock, OPENAI, &body).json()["choices"][2]["index"], 2);
    body["stream"] = json!(true);
    let events = post(&mock, OPENAI, &body).events();
    assert_eq!(
        events
            .iter()
            .filter(|event| event["choices"][0]["finish_reason"] == "stop")
            .count(),
        3
    );
}

#[test]
fn calls_tell_what_was_received() {
    let mock = mock("");
    post(&mock, OPENAI, &openai(true));
    post(&mock, ANTHROPIC, &anthropic(false));
    ask(&mock, "POST", OPENAI, b"{not json");
    get(&mock, "/v1/models");
    let calls = get(&mock, "/_calls").json();
    let call = &calls[0];
    assert_eq!(call["n"], 1);
    assert_eq!(call["path"], OPENAI);
    assert_eq!(call["protocol"], "openai-chat");
    assert_eq!(call["http_version"], "HTTP/1.1");
    assert_eq!(call["headers"]["authorization"], "Bearer k");
    assert_eq!(call["body"], openai(true));
    assert_eq!(call["body_len"], openai(true).to_string().len());
    assert_eq!(
        (&call["model"], &call["stream"]),
        (&json!("gpt-test"), &json!(true))
    );
    assert_eq!(
        (&call["outcome"], &call["chunks_sent"], &call["status"]),
        (&json!("complete"), &json!(4), &json!(200))
    );
    assert_eq!(call["problems"], json!([]));
    assert_eq!(calls[1]["protocol"], "anthropic");
    assert_ne!(calls[1]["connection"], call["connection"]);
    assert_eq!(calls[2]["body"], "{not json");
    assert!(
        calls[2]["problems"][0]
            .as_str()
            .unwrap()
            .starts_with("the body is not JSON")
    );
    assert_eq!(calls[3]["protocol"], Value::Null);
    let numbers = |query: &str| -> Vec<u64> {
        let calls = get(&mock, &format!("/_calls?{query}")).json();
        calls
            .as_array()
            .unwrap()
            .iter()
            .map(|call| call["n"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(numbers("path=messages"), [2]);
    assert_eq!(numbers("limit=2"), [3, 4]);
    assert_eq!(numbers("since=3"), [4]);
    assert_eq!(numbers("path=chat&limit=1&since=0"), [3]);
    assert_eq!(get(&mock, "/_calls?sinc=3").status, 400);
    assert_eq!(get(&mock, "/_calls/count").json()["count"], 4);
    assert_eq!(ask(&mock, "DELETE", "/_calls", b"").status, 200);
    assert_eq!(get(&mock, "/_calls").json(), json!([]));
    assert_eq!(get(&mock, "/_calls/count").json()["count"], 0);
    post(&mock, OPENAI, &openai(false));
    assert_eq!(numbers("since=4"), [5], "numbers go on");
    assert!(
        mock.calls()[0].connection > 4,
        "a connection's number is never given again"
    );
}

#[test]
fn a_large_body_is_kept_in_part() {
    let mock = mock("");
    let text = "x".repeat(3 << 20);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": text}]});
    let reply = post(&mock, OPENAI, &body);
    assert_eq!(reply.status, 200);
    let call = mock.calls().pop().unwrap();
    assert_eq!(
        (call.body.len(), call.body_len),
        (1 << 20, body.to_string().len())
    );
    assert!(call.told()["body"].is_string());
}

#[test]
fn recording_can_be_off() {
    let mock = mock("calls = false\n[default]\ntext = \"fixed\"");
    for stream in [true, false, true, false] {
        let reply = post(&mock, OPENAI, &openai(stream));
        let text = if stream {
            reply.streamed_text()
        } else {
            reply.json()["choices"][0]["message"]["content"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(text, "fixed");
    }
    assert!(mock.calls().is_empty());
    assert_eq!(mock.counts().count, 4);
    mock.set_script(Script::from_toml("calls = false").unwrap());
    assert_eq!(
        post(&mock, OPENAI, &openai(true)).streamed_text(),
        "one two three four",
        "an echo needs the body"
    );
}

#[test]
fn the_script_is_replaced_at_run_time_and_begins_anew() {
    let mock = mock("");
    let script = br#"{"rule": [{"steps": [{"status": 500}, {}]}]}"#;
    for _ in 0..2 {
        assert_eq!(
            ask(&mock, "POST", "/_script", script).json(),
            json!({"rules": 1})
        );
        assert_eq!(
            post(&mock, OPENAI, &openai(false)).status,
            500,
            "the first step again"
        );
        assert_eq!(post(&mock, OPENAI, &openai(false)).status, 200);
    }
    assert_eq!(
        get(&mock, "/_script").json()["rule"][0]["steps"][0]["status"],
        500
    );
    let refused = ask(
        &mock,
        "POST",
        "/_script",
        b"{\"rule\": [\n{\"step\": [{\"statsu\": 1}]}]}",
    );
    assert_eq!(refused.status, 400);
    let message = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(
        message.contains("line 2") && message.contains("statsu"),
        "{message}"
    );
    assert_eq!(
        get(&mock, "/_script").json()["rule"][0]["steps"][0]["status"],
        500,
        "the old one stays"
    );
}

#[test]
fn health_models_and_unknown_paths_are_answered() {
    let mock = mock(
        "models = [\"a\", \"b/c\"]\n[[rule]]\npath = \"/health\"\nsteps = [{}, {status = 503}]",
    );
    assert_eq!(get(&mock, "/health").status, 200);
    assert_eq!(get(&mock, "/health").status, 503);
    assert_eq!(mock.counts().health_checks, 2);
    assert_eq!(mock.counts().count, 0, "a health check is no call");
    assert_eq!(get(&mock, "/v1/models").json()["data"][1]["id"], "b/c");
    assert_eq!(get(&mock, "/v1/models/b/c").json()["id"], "b/c");
    assert_eq!(get(&mock, "/v1/models/zzz").status, 404);
    assert_eq!(get(&mock, OPENAI).status, 405);
    assert_eq!(get(&mock, "/nothing").status, 404);
}

#[test]
fn a_script_can_be_built_without_a_file() {
    let busy = Behaviour {
        status: Some(503),
        delay_head: Some(Wait(std::time::Duration::from_millis(1))),
        ..Behaviour::default()
    };
    let rule = Rule {
        model: Some("gpt-*".to_owned()),
        steps: vec![busy, Behaviour::default()],
        ..Rule::default()
    };
    let script = Script {
        rules: vec![rule],
        ..Script::default()
    };
    let mock = Mock::start(script).unwrap();
    assert_eq!(post(&mock, OPENAI, &openai(false)).status, 503);
    assert_eq!(post(&mock, OPENAI, &openai(false)).status, 200);
}
