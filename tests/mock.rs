//! The fake provider, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strait::mock::{Call, Dialect, Listen, Mock, Outcome, Script, Tls};

const OPENAI: &str = "/v1/chat/completions";
const ANTHROPIC: &str = "/v1/messages";

/// How the body of a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// Closed before its end.
    Closed,
    Reset,
    /// Still open when the reader's patience ended.
    Open,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
    end: End,
    /// When each read came, and what it brought of the body (chunk framing included).
    reads: Vec<(Duration, usize)>,
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            line.split_once(": ")
                .filter(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        })
    }

    /// Returns the `data:` of every event.
    fn events(&self) -> Vec<Value> {
        let text = self.text().replace("\r\n", "\n");
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    /// Returns the text of a stream, in either protocol.
    fn streamed_text(&self) -> String {
        let events = self.events();
        let texts = events.iter().filter_map(|event| {
            event["choices"][0]["delta"]["content"]
                .as_str()
                .or(event["delta"]["text"].as_str())
        });
        texts.collect()
    }
}

fn mock(script: &str) -> Mock {
    Mock::start(Script::from_toml(script).unwrap()).unwrap()
}

fn one(step: &str) -> Mock {
    mock(&format!("[[rule]]\nsteps = [{{{step}}}]"))
}

fn openai(stream: bool) -> Value {
    json!({"model": "gpt-test", "messages": [{"role": "user", "content": "one two three four"}], "stream": stream})
}

fn anthropic(stream: bool) -> Value {
    json!({"model": "claude-test", "max_tokens": 100, "stream": stream,
        "messages": [{"role": "user", "content": "one two three four"}]})
}

fn body_of(path: &str, stream: bool) -> Value {
    if path == OPENAI {
        openai(stream)
    } else {
        anthropic(stream)
    }
}

fn connect(mock: &Mock) -> TcpStream {
    let stream = TcpStream::connect(mock.addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn send(stream: &mut impl Write, method: &str, path: &str, body: &[u8]) {
    let credential = if path.contains("messages") {
        "x-api-key: k\r\nanthropic-version: 2023-06-01\r\n"
    } else {
        "authorization: Bearer k\r\n"
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: mock\r\ncontent-type: application/json\r\n{credential}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
}

/// Reads one reply; gives up after `patience` without a byte.
fn receive(stream: &mut impl Read, patience: Duration) -> Reply {
    let began = Instant::now();
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    let mut reads = Vec::new();
    loop {
        let parsed = parse(&bytes);
        if let Some((status, head, body, true)) = parsed {
            return Reply {
                status,
                head,
                body,
                end: End::Whole,
                reads,
            };
        }
        let ended = match stream.read(&mut buffer) {
            Ok(0) => Some(End::Closed),
            Ok(length) => {
                reads.push((began.elapsed(), length));
                bytes.extend_from_slice(&buffer[..length]);
                None
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                (began.elapsed() >= patience).then_some(End::Open)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Some(End::Closed),
            Err(_) => Some(End::Reset),
        };
        if let Some(end) = ended {
            let (status, head, body, _) = parse(&bytes).unwrap_or_default();
            return Reply {
                status,
                head,
                body,
                end,
                reads,
            };
        }
    }
}

/// Returns status, head, body so far, and whether it is whole.
fn parse(bytes: &[u8]) -> Option<(u16, String, Vec<u8>, bool)> {
    let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let status = head.split(' ').nth(1)?.parse().unwrap();
    let lower = head.to_ascii_lowercase();
    let mut rest = &bytes[head_end + 4..];
    if let Some((_, length)) = lower.split_once("content-length: ") {
        let length: usize = length.lines().next()?.trim().parse().unwrap();
        return Some((status, head, rest.to_vec(), rest.len() >= length));
    }
    let mut body = Vec::new();
    loop {
        let Some(line) = rest.windows(2).position(|window| window == b"\r\n") else {
            return Some((status, head, body, false));
        };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        rest = &rest[line + 2..];
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..rest.len().min(size)]);
            return Some((status, head, body, false));
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
        if size == 0 {
            return Some((status, head, body, true));
        }
    }
}

fn ask(mock: &Mock, method: &str, path: &str, body: &[u8]) -> Reply {
    let mut stream = connect(mock);
    stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    send(&mut stream, method, path, body);
    receive(&mut stream, Duration::from_millis(400))
}

fn post(mock: &Mock, path: &str, body: &Value) -> Reply {
    ask(mock, "POST", path, body.to_string().as_bytes())
}

fn get(mock: &Mock, path: &str) -> Reply {
    ask(mock, "GET", path, b"")
}

/// Waits until the last call's outcome is `outcome`.
fn until(mock: &Mock, outcome: Outcome) -> Call {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let last = mock.calls().pop();
        if let Some(call) = last.filter(|call| call.outcome == outcome) {
            return call;
        }
        assert!(
            Instant::now() < deadline,
            "no call became {outcome:?}: {:?}",
            mock.calls().pop()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

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
fn delays_come_where_they_are_set() {
    let mock = one(
        "chunks = 3, delay_head = \"60ms\", delay_first_chunk = \"60ms\", chunk_gap = \"40ms\"",
    );
    let reply = post(&mock, ANTHROPIC, &anthropic(true));
    assert_eq!(reply.end, End::Whole);
    let times: Vec<u128> = reply.reads.iter().map(|(at, _)| at.as_millis()).collect();
    assert!(times[0] >= 60, "the head waits: {times:?}");
    // Message start, block start and ping come 40 ms apart, then the first chunk 60, then the others 40.
    assert!(
        times.last().unwrap() - times[0] >= 40 * 2 + 60 + 40 * 2,
        "chunks wait: {times:?}"
    );
    assert_eq!(until(&mock, Outcome::Complete).chunks_sent, 3);
}

#[test]
fn chunks_are_as_many_as_asked_for_even_of_a_short_echo() {
    let mock = one("chunks = 100, chunk_gap = \"0ms\"");
    let body =
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true});
    let reply = post(&mock, OPENAI, &body);
    let contents = reply
        .events()
        .iter()
        .filter(|event| {
            event["choices"][0]["delta"]["content"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        })
        .count();
    assert_eq!(contents, 100);
    assert_eq!(until(&mock, Outcome::Complete).chunks_sent, 100);
}

#[test]
fn a_split_body_is_the_same_body_in_other_pieces() {
    for stream in [true, false] {
        for path in [OPENAI, ANTHROPIC] {
            let plain = post(&mock(""), path, &body_of(path, stream));
            let split = one("split = 7");
            let reply = post(&split, path, &body_of(path, stream));
            assert_eq!(reply.text(), plain.text(), "{path} stream {stream}");
            let pieces = until(&split, Outcome::Complete).chunks_sent;
            assert_eq!(pieces as usize, plain.body.len().div_ceil(7));
        }
    }
    let split = one("split = \"bytes\"");
    let reply = post(&split, OPENAI, &openai(true));
    assert_eq!(
        until(&split, Outcome::Complete).chunks_sent as usize,
        reply.body.len()
    );
}

#[test]
fn a_cut_stream_stops_after_its_chunks_without_an_end() {
    for path in [OPENAI, ANTHROPIC] {
        for after in [0, 2] {
            let mock = one(&format!("chunks = 4, text = \"abcd\", cut_after = {after}"));
            let reply = post(&mock, path, &body_of(path, true));
            assert_eq!(reply.status, 200);
            assert_eq!(reply.end, End::Closed, "{path} {after}");
            assert_eq!(
                reply.streamed_text(),
                "abcd"[..after].to_owned(),
                "{path} {after}"
            );
            let call = until(&mock, Outcome::Cut);
            assert_eq!(call.chunks_sent as usize, after);
        }
    }
}

#[test]
fn a_cut_beyond_the_last_chunk_comes_before_the_finish() {
    let mock = one("text = \"abcd\", cut_after = 99");
    let reply = post(&mock, OPENAI, &openai(true));
    assert_eq!(
        (reply.streamed_text().as_str(), reply.end),
        ("abcd", End::Closed)
    );
    assert!(!reply.text().contains("\"finish_reason\":\"stop\""));
}

#[test]
fn a_whole_answer_is_cut_too() {
    for step in ["cut_after = 1", "cut_body = 10", "cut_body = 0"] {
        let mock = one(step);
        let reply = post(&mock, OPENAI, &openai(false));
        assert_eq!((reply.status, reply.end), (200, End::Closed), "{step}");
        if step.starts_with("cut_body") {
            assert_eq!(
                reply.body.len(),
                step.strip_prefix("cut_body = ")
                    .unwrap()
                    .parse::<usize>()
                    .unwrap()
            );
        }
        until(&mock, Outcome::Cut);
    }
}

#[test]
fn a_reset_is_a_reset() {
    for stream in [true, false] {
        let mock = one("cut_after = 2, cut = \"reset\"");
        assert_eq!(post(&mock, ANTHROPIC, &anthropic(stream)).end, End::Reset);
    }
    let mock = one("close_before_head = true, cut = \"reset\"");
    assert_eq!(post(&mock, ANTHROPIC, &anthropic(false)).end, End::Reset);
}

#[test]
fn an_early_end_is_in_good_order() {
    let mock = one("chunks = 4, text = \"abcd\", end_after = 2");
    let reply = post(&mock, OPENAI, &openai(true));
    assert_eq!(
        (reply.streamed_text().as_str(), reply.end),
        ("ab", End::Whole)
    );
    assert!(!reply.text().contains("[DONE]"));
}

#[test]
fn a_stall_holds_the_connection_and_a_client_that_leaves_is_noticed() {
    let mock = one("chunks = 4, text = \"abcd\", stall_after = 2");
    for (path, stream) in [(OPENAI, true), (ANTHROPIC, true), (OPENAI, false)] {
        let reply = post(&mock, path, &body_of(path, stream));
        assert_eq!(reply.end, End::Open, "{path}");
        if stream {
            assert_eq!(reply.streamed_text(), "ab", "{path}");
        }
        until(&mock, Outcome::ClientGone);
    }
    assert_eq!(mock.counts().in_progress, 0);
}

#[test]
fn a_client_that_leaves_before_the_head_is_noticed() {
    for step in ["stall_head = true", "delay_head = \"1m\""] {
        let mock = one(step);
        let mut stream = connect(&mock);
        send(
            &mut stream,
            "POST",
            OPENAI,
            openai(false).to_string().as_bytes(),
        );
        let call = until(&mock, Outcome::InProgress);
        assert_eq!(call.status, 0, "no head was sent");
        assert_eq!(mock.counts().in_progress, 1);
        drop(stream);
        until(&mock, Outcome::ClientGone);
        assert_eq!(mock.counts().in_progress, 0);
    }
}

#[test]
fn a_client_that_leaves_between_chunks_is_noticed() {
    let mock = one("chunks = 1000, text_bytes = 5000, chunk_gap = \"5ms\"");
    let mut stream = connect(&mock);
    send(
        &mut stream,
        "POST",
        ANTHROPIC,
        anthropic(true).to_string().as_bytes(),
    );
    let mut start = [0; 100];
    stream.read_exact(&mut start).unwrap();
    drop(stream);
    let call = until(&mock, Outcome::ClientGone);
    assert!(
        call.chunks_sent < 500,
        "it stopped early: {}",
        call.chunks_sent
    );
}

#[test]
fn a_connection_closed_before_the_head_gives_no_byte() {
    let mock = one("close_before_head = true");
    let reply = post(&mock, OPENAI, &openai(false));
    assert_eq!(
        (reply.status, reply.end, reply.head.as_str()),
        (0, End::Closed, "")
    );
    until(&mock, Outcome::Cut);
}

#[test]
fn garbage_is_neither_json_nor_events() {
    let mock = one("garbage = true");
    let reply = post(&mock, OPENAI, &openai(false));
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("application/json"))
    );
    assert!(serde_json::from_slice::<Value>(&reply.body).is_err());
    let reply = post(&mock, ANTHROPIC, &anthropic(true));
    assert_eq!(
        reply.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert!(!reply.text().contains("data: "));
    let mock = one("chunks = 4, text = \"abcd\", garbage_at = 1");
    let text = post(&mock, OPENAI, &openai(true)).text();
    let broken = text.find("{\"choices\": [{\"delta\": {\"cont").unwrap();
    assert!(
        text[..broken].contains("\"a\"") && text[broken..].contains("\"b\""),
        "it comes after one chunk"
    );
}

#[test]
fn an_error_event_comes_at_its_place() {
    for path in [OPENAI, ANTHROPIC] {
        let mock = mock(
            "[[rule]]\nsteps = [{error_event = {at = 0, type = \"overloaded_error\", message = \"busy\"}},\
             {error_event = {at = 0, after_start = true}}, {text = \"abcd\", error_event = {at = 2}},\
             {error_event = {at = 0, message = \"busy\"}}]",
        );
        let reply = post(&mock, path, &body_of(path, true));
        let events = reply.events();
        assert_eq!(
            (reply.status, reply.end, events.len()),
            (200, End::Whole, 1),
            "{path}"
        );
        assert_eq!(events[0]["error"]["message"], "busy");
        assert_eq!(events[0]["error"]["type"], "overloaded_error");
        let events = post(&mock, path, &body_of(path, true)).events();
        assert!(events.len() > 1 && events.last().unwrap()["error"].is_object());
        let reply = post(&mock, path, &body_of(path, true));
        assert_eq!(reply.streamed_text(), "ab", "{path}");
        assert!(reply.events().last().unwrap()["error"].is_object());
        let reply = post(&mock, path, &body_of(path, false));
        assert_eq!(
            (reply.status, &reply.json()["error"]["message"]),
            (200, &json!("busy")),
            "not streamed"
        );
    }
}

#[test]
fn empty_streams_and_missing_ends_come_as_scripted() {
    let mock = mock("[[rule]]\nsteps = [{repeat = 2, empty_stream = true}, {omit_done = true}]");
    let reply = post(&mock, OPENAI, &openai(true));
    assert_eq!(
        (reply.status, reply.body.len(), reply.end),
        (200, 0, End::Whole)
    );
    assert_eq!(
        reply.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(post(&mock, OPENAI, &openai(false)).body, b"");
    let text = post(&mock, OPENAI, &openai(true)).text();
    assert!(text.contains("\"finish_reason\":\"stop\"") && !text.contains("[DONE]"));
    let text = post(&mock, ANTHROPIC, &anthropic(true)).text();
    assert!(text.contains("message_delta") && !text.contains("message_stop"));
}

#[test]
fn pings_comments_and_crlf_are_sent() {
    let mock = one("ping_every = \"10ms\", delay_first_chunk = \"65ms\"");
    let text = post(&mock, OPENAI, &openai(true)).text();
    assert!(text.matches(": ping\n\n").count() >= 3, "{text}");
    let reply = post(&mock, ANTHROPIC, &anthropic(true));
    assert!(
        reply
            .events()
            .iter()
            .filter(|event| event["type"] == "ping")
            .count()
            >= 4
    );
    assert_eq!(reply.streamed_text(), "one two three four");
    let mock = one("comments = true, crlf = true");
    let reply = post(&mock, OPENAI, &openai(true));
    assert!(reply.text().starts_with(": comment\r\ndata: {"));
    assert!(
        !reply.text().replace("\r\n", "").contains('\n'),
        "every line ends in CRLF"
    );
    assert_eq!(reply.streamed_text(), "one two three four");
}

#[test]
fn a_chunked_answer_has_no_length() {
    let reply = post(&one("chunked = true"), OPENAI, &openai(false));
    assert_eq!(reply.header("content-length"), None);
    assert_eq!(reply.json()["object"], "chat.completion");
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
fn keep_alive_serves_many_calls_on_one_connection() {
    let mock = mock("");
    let mut stream = connect(&mock);
    for _ in 0..20 {
        send(
            &mut stream,
            "POST",
            OPENAI,
            openai(true).to_string().as_bytes(),
        );
        assert_eq!(receive(&mut stream, Duration::from_secs(1)).status, 200);
    }
    assert_eq!(mock.counts().connections, 1);
    assert!(mock.calls().iter().all(|call| call.connection == 1));
}

#[test]
fn http2_with_prior_knowledge_is_spoken() {
    let mock = mock("[[rule]]\nsteps = [{}, {cut_after = 1}]");
    let mut stream = connect(&mock);
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let (body, end) = http2(&mut stream, OPENAI, &openai(false));
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap()["object"],
        "chat.completion"
    );
    assert_eq!(end, Http2End::Stream);
    let call = until(&mock, Outcome::Complete);
    assert_eq!((call.http_version, call.problems), ("HTTP/2.0", Vec::new()));
    let mut stream = connect(&mock);
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let (body, end) = http2(&mut stream, OPENAI, &openai(true));
    assert_eq!(end, Http2End::Reset, "{}", String::from_utf8_lossy(&body));
    until(&mock, Outcome::Cut);
}

#[derive(Debug, PartialEq, Eq)]
enum Http2End {
    Stream,
    Reset,
}

/// Says one request in HTTP/2 frames, and returns the data of the answer.
fn http2(stream: &mut (impl Read + Write), path: &str, body: &Value) -> (Vec<u8>, Http2End) {
    let frame = |kind: u8, flags: u8, id: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, id], payload].concat()
    };
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "mock"),
        ("content-type", "application/json"),
        ("authorization", "Bearer k"),
    ] {
        // Literal, without indexing, not compressed.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(4, 0, 0, &[]));
    sent.extend(frame(1, 4, 1, &block));
    sent.extend(frame(0, 1, 1, body.to_string().as_bytes()));
    stream.write_all(&sent).unwrap();
    let mut data = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        match head[3] {
            0 => data.extend(payload),
            3 => return (data, Http2End::Reset),
            4 if head[4] & 1 == 0 => stream.write_all(&frame(4, 1, 0, &[])).unwrap(),
            _ => {}
        }
        if head[3] <= 1 && head[4] & 1 == 1 {
            return (data, Http2End::Stream);
        }
    }
}

#[test]
fn tls_offers_both_versions() {
    use std::sync::Arc;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{
        ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring,
    };

    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = Tls::from_pem(&made.cert.pem(), &made.signing_key.serialize_pem()).unwrap();
    let mock = Mock::start_on(
        Listen {
            tls: Some(tls),
            threads: 2,
            ..Listen::default()
        },
        Script::default(),
    )
    .unwrap();
    assert!(mock.url().starts_with("https://127.0.0.1:"));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(made.cert.der().to_vec()))
        .unwrap();
    let connect_tls = |alpn: &[&[u8]]| {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let session =
            ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap())
                .unwrap();
        let stream = connect(&mock);
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        StreamOwned::new(session, stream)
    };
    let mut stream = connect_tls(&[b"http/1.1"]);
    send(
        &mut stream,
        "POST",
        OPENAI,
        openai(false).to_string().as_bytes(),
    );
    assert_eq!(
        receive(&mut stream, Duration::from_secs(2)).json()["object"],
        "chat.completion"
    );
    let mut stream = connect_tls(&[b"h2", b"http/1.1"]);
    let (body, _) = http2(&mut stream, ANTHROPIC, &anthropic(false));
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap()["type"],
        "message"
    );
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    let versions: Vec<(&str, bool)> = mock
        .calls()
        .iter()
        .map(|call| (call.http_version, call.tls))
        .collect();
    assert_eq!(versions, [("HTTP/1.1", true), ("HTTP/2.0", true)]);
}

#[test]
fn a_stopped_mock_refuses_and_drops_its_connections() {
    let mock = one("stall_head = true");
    let addr = mock.addr;
    let mut stream = connect(&mock);
    send(
        &mut stream,
        "POST",
        OPENAI,
        openai(false).to_string().as_bytes(),
    );
    until(&mock, Outcome::InProgress);
    drop(mock);
    let mut rest = Vec::new();
    assert!(
        !matches!(stream.read_to_end(&mut rest), Ok(length) if length > 0),
        "no answer came"
    );
    assert!(TcpStream::connect(addr).is_err(), "nobody listens");
}

/// Returns the problems of one call with these headers and this body.
fn problems(path: &str, headers: &str, body: &Value) -> Vec<String> {
    let mock = mock("");
    let mut stream = connect(&mock);
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: mock\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(
        receive(&mut stream, Duration::from_secs(1)).status,
        200,
        "a problem fails no call"
    );
    let call = mock.calls().pop().unwrap();
    assert_eq!(
        call.protocol,
        if path == OPENAI {
            Some(Dialect::OpenaiChat)
        } else {
            Some(Dialect::Anthropic)
        }
    );
    call.problems
}

const OPENAI_HEADERS: &str = "content-type: application/json\r\nauthorization: Bearer k\r\n";
const ANTHROPIC_HEADERS: &str =
    "content-type: application/json\r\nx-api-key: k\r\nanthropic-version: 2023-06-01\r\n";

#[test]
fn strict_header_checks_name_each_fault() {
    for (headers, expected) in [
        ("authorization: Bearer k\r\n", "content-type"),
        (
            "content-type: text/plain\r\nauthorization: Bearer k\r\n",
            "content-type",
        ),
        ("content-type: application/json\r\n", "no credential"),
        (
            "content-type: application/json\r\nauthorization: Basic k\r\n",
            "not `Bearer`",
        ),
        (
            "content-type: application/json\r\nauthorization: Bearer k\r\nx-api-key: j\r\n",
            "more than one credential",
        ),
        (
            "content-type: application/json\r\nauthorization: Bearer k\r\nauthorization: Bearer j\r\n",
            "more than once",
        ),
        (
            "content-type: application/json\r\nauthorization: Bearer k\r\nx-strait-cache: off\r\n",
            "the gateway's own",
        ),
        (
            "content-type: application/json\r\nauthorization: Bearer k\r\nproxy-authorization: x\r\n",
            "hop-by-hop",
        ),
        (
            "content-type: application/json\r\nauthorization: Bearer k\r\nte: gzip\r\n",
            "hop-by-hop",
        ),
        (
            "content-type: application/json\r\nauthorization: Bearer k\r\nconnection: x-foo\r\n",
            "hop-by-hop",
        ),
    ] {
        let found = problems(OPENAI, headers, &openai(false));
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{headers:?} gave {found:?}"
        );
    }
    let found = problems(
        ANTHROPIC,
        "content-type: application/json\r\nx-api-key: k\r\n",
        &anthropic(false),
    );
    assert_eq!(found, ["header anthropic-version: is missing"]);
    assert_eq!(problems(OPENAI, OPENAI_HEADERS, &openai(false)), [""; 0]);
    assert_eq!(
        problems(ANTHROPIC, ANTHROPIC_HEADERS, &anthropic(true)),
        [""; 0]
    );
}

#[test]
fn strict_openai_checks_name_each_fault() {
    let user = json!({"role": "user", "content": "hi"});
    let call = json!({"role": "assistant", "content": null, "tool_calls":
        [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let result = json!({"role": "tool", "tool_call_id": "c1", "content": "ok"});
    for (changes, expected) in [
        (json!({"top_k": 1}), "unknown field `top_k`"),
        (
            json!({"fallbacks": ["x"]}),
            "`fallbacks` is the gateway's own",
        ),
        (json!({"model": 1}), "`model` is not a text"),
        (json!({"messages": []}), "at least one message"),
        (
            json!({"messages": [{"role": "robot", "content": "x"}]}),
            "the role \"robot\" is not known",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x", "cache_control": {}}]}),
            "messages[0]: unknown field `cache_control`",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}),
            "messages[0].content[0]: `type`",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
            "`url` is neither",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}]}),
            "unknown field `cache_control`",
        ),
        (json!({"messages": [{"role": "user"}]}), "`content`"),
        (
            json!({"messages": [user, result]}),
            "answers no call before it",
        ),
        (
            json!({"messages": [user, call, user]}),
            "no result yet for the calls c1",
        ),
        (json!({"messages": [user, call]}), "ends without a result"),
        (
            json!({"stream_options": {"include_usage": true}}),
            "without `stream`",
        ),
        (
            json!({"max_tokens": 1, "max_completion_tokens": 1}),
            "both given",
        ),
        (
            json!({"temperature": 3}),
            "`temperature` is not a number from 0 to 2",
        ),
        (
            json!({"tools": [{"name": "f", "input_schema": {}}]}),
            "tools[0]: unknown field `input_schema`",
        ),
        (json!({"tool_choice": "auto"}), "without `tools`"),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}),
            "`name` is missing",
        ),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "at most 4"),
    ] {
        let mut body = openai(false);
        body.as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        let found = problems(OPENAI, OPENAI_HEADERS, &body);
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{changes} gave {found:?}"
        );
    }
    let body = json!({"model": "m", "messages": [{"role": "developer", "content": "x"}, user, call, result,
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}]});
    assert_eq!(problems(OPENAI, OPENAI_HEADERS, &body), [""; 0]);
}

#[test]
fn strict_anthropic_checks_name_each_fault() {
    let user = json!({"role": "user", "content": "hi"});
    let call = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]});
    let result = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]});
    for (changes, expected) in [
        (
            json!({"max_tokens": null}),
            "`max_tokens` is not a whole number",
        ),
        (json!({"stop": ["x"]}), "unknown field `stop`"),
        (
            json!({"messages": [{"role": "system", "content": "x"}]}),
            "`role`",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "x"}]}),
            "first role",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}),
            "`text` is blank",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
            "`type`",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/bmp", "data": ""}}]}]}),
            "`media_type`",
        ),
        (json!({"messages": [user, call]}), "ends without a result"),
        (
            json!({"messages": [user, call, user]}),
            "no result for the calls t1",
        ),
        (json!({"messages": [user, result]}), "answers no call"),
        (
            json!({"messages": [user, call, {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "tool_result", "tool_use_id": "t1"}]}]}),
            "after other blocks",
        ),
        (
            json!({"messages": [user, {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": "{}"}]}]}),
            "`input` is not an object",
        ),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
            "not more than",
        ),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 10}}),
            "from 1024",
        ),
        (json!({"temperature": 1.5}), "`temperature`"),
        (
            json!({"tools": [{"type": "function", "function": {}}], "tool_choice": "auto"}),
            "tool_choice: is not an object",
        ),
        (
            json!({"tools": [{"name": "f"}]}),
            "`input_schema` is missing",
        ),
        (json!({"system": 1}), "`system`"),
        (
            json!({"metadata": {"user": "x"}}),
            "metadata: unknown field `user`",
        ),
    ] {
        let mut body = anthropic(false);
        body.as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        let found = problems(ANTHROPIC, ANTHROPIC_HEADERS, &body);
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{changes} gave {found:?}"
        );
    }
    let body = json!({"model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}],
        "messages": [user, call, result], "tools": [{"name": "f", "input_schema": {"type": "object"}}]});
    assert_eq!(problems(ANTHROPIC, ANTHROPIC_HEADERS, &body), [""; 0]);
    let mut missing = anthropic(false);
    missing.as_object_mut().unwrap().remove("max_tokens");
    assert_eq!(
        problems(ANTHROPIC, ANTHROPIC_HEADERS, &missing),
        ["`max_tokens` is missing"]
    );
}

#[test]
fn a_strict_script_answers_400_and_allowed_fields_pass() {
    let mock = mock("strict = true\nallow = [\"top_k\"]");
    let mut body = openai(false);
    body["top_k"] = json!(3);
    assert_eq!(post(&mock, OPENAI, &body).status, 200);
    body["top_m"] = json!(3);
    let reply = post(&mock, OPENAI, &body);
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["error"]["message"], "unknown field `top_m`");
    assert_eq!(mock.calls().pop().unwrap().status, 400);
    let reply = ask(
        &mock,
        "POST",
        OPENAI,
        br#"{"model":"a","messages":[{"role":"user","content":"x"}],"mod\u0065l":"b"}"#,
    );
    assert_eq!(reply.json()["error"]["message"], "`model` is given twice");
}
