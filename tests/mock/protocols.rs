//! Every protocol of chat: what it says, whole and streamed, how it goes wrong, and what it refuses.

use bytes::Bytes;
use serde_json::{Value, json};
use strait::codec::event_stream::Splitter;
use strait::mock::{Mock, Outcome};

use super::client::*;

/// A protocol: where it is spoken, a plain request, where its answers say things.
struct Protocol {
    name: &'static str,
    whole: &'static str,
    stream: &'static str,
    request: fn(bool) -> Value,
    media_type: &'static str,
    /// The text of an answer, and of one part of a stream.
    text: &'static str,
    delta: &'static str,
    usage: &'static str,
    /// Where an error of status 429 says `value`.
    error: (&'static str, &'static str),
}

const ECHO: &str = "one two three four";

const PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "openai-completions",
        whole: "/v1/completions",
        stream: "/v1/completions",
        request: |stream| json!({"model": "m", "prompt": ECHO, "stream": stream}),
        media_type: "text/event-stream; charset=utf-8",
        text: "/choices/0/text",
        delta: "/choices/0/text",
        usage: "/usage",
        error: ("/error/code", "rate_limit_exceeded"),
    },
    Protocol {
        name: "openai-responses",
        whole: "/v1/responses",
        stream: "/openai/v1/responses",
        request: |stream| json!({"model": "m", "input": [{"role": "user", "content": ECHO}], "stream": stream}),
        media_type: "text/event-stream; charset=utf-8",
        text: "/output/0/content/0/text",
        delta: "/delta",
        usage: "/usage",
        error: ("/error/code", "rate_limit_exceeded"),
    },
    Protocol {
        name: "gemini",
        whole: "/v1beta/models/gemini-x:generateContent",
        stream: "/v1beta/models/gemini-x:streamGenerateContent?alt=sse",
        request: |_| json!({"contents": [{"role": "user", "parts": [{"text": ECHO}]}]}),
        media_type: "text/event-stream; charset=utf-8",
        text: "/candidates/0/content/parts/0/text",
        delta: "/candidates/0/content/parts/0/text",
        usage: "/usageMetadata",
        error: ("/error/status", "RESOURCE_EXHAUSTED"),
    },
    Protocol {
        name: "gemini",
        whole: "/v1/projects/p/locations/l/publishers/google/models/g:generateContent",
        stream: "/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent?alt=sse",
        request: |_| json!({"contents": [{"role": "user", "parts": [{"text": ECHO}]}]}),
        media_type: "text/event-stream; charset=utf-8",
        text: "/candidates/0/content/parts/0/text",
        delta: "/candidates/0/content/parts/0/text",
        usage: "/usageMetadata",
        error: ("/error/status", "RESOURCE_EXHAUSTED"),
    },
    Protocol {
        name: "vertex-anthropic",
        whole: "/v1/projects/p/locations/l/publishers/anthropic/models/c:rawPredict",
        stream: "/v1/projects/p/locations/l/publishers/anthropic/models/c:streamRawPredict",
        request: |stream| {
            json!({"anthropic_version": "vertex-2023-10-16", "max_tokens": 9, "stream": stream,
            "messages": [{"role": "user", "content": ECHO}]})
        },
        media_type: "text/event-stream; charset=utf-8",
        text: "/content/0/text",
        delta: "/delta/text",
        usage: "/usage",
        error: ("/error/status", "RESOURCE_EXHAUSTED"),
    },
    Protocol {
        name: "bedrock",
        whole: "/model/amazon.nova-v1%3A0/converse",
        stream: "/model/amazon.nova-v1%3A0/converse-stream",
        request: |_| json!({"messages": [{"role": "user", "content": [{"text": ECHO}]}]}),
        media_type: "application/vnd.amazon.eventstream",
        text: "/output/message/content/0/text",
        delta: "/delta/text",
        usage: "/usage",
        error: (
            "/message",
            "Too many requests, please wait before trying again.",
        ),
    },
    Protocol {
        name: "bedrock-invoke",
        whole: "/model/anthropic.claude/invoke",
        stream: "/model/anthropic.claude/invoke-with-response-stream",
        request: |_| {
            json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9,
            "messages": [{"role": "user", "content": ECHO}]})
        },
        media_type: "application/vnd.amazon.eventstream",
        text: "/content/0/text",
        delta: "/delta/text",
        usage: "/usage",
        error: (
            "/message",
            "Too many requests, please wait before trying again.",
        ),
    },
    Protocol {
        name: "cohere",
        whole: "/v2/chat",
        stream: "/v2/chat",
        request: |stream| json!({"model": "m", "messages": [{"role": "user", "content": ECHO}], "stream": stream}),
        media_type: "text/event-stream; charset=utf-8",
        text: "/message/content/0/text",
        delta: "/delta/message/content/text",
        usage: "/usage",
        error: (
            "/message",
            "You are past the per minute request limit, please wait and try again later.",
        ),
    },
    Protocol {
        name: "ollama",
        whole: "/api/chat",
        stream: "/api/chat",
        request: |stream| json!({"model": "m", "messages": [{"role": "user", "content": ECHO}], "stream": stream}),
        media_type: "application/x-ndjson",
        text: "/message/content",
        delta: "/message/content",
        usage: "/eval_count",
        error: ("/error", "too many requests"),
    },
];

impl Protocol {
    fn ask(&self, mock: &Mock, stream: bool) -> Reply {
        let path = if stream { self.stream } else { self.whole };
        post(mock, path, &(self.request)(stream))
    }

    /// Returns the whole parts of a stream, each as JSON.
    fn parts(&self, reply: &Reply) -> Vec<Value> {
        if !self.media_type.contains("amazon") {
            let text = reply.text().replace("\r\n", "\n");
            let lines = text.lines().filter_map(|line| match self.name {
                "ollama" => Some(line),
                _ => line.strip_prefix("data: "),
            });
            return lines
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
        }
        let mut parts = Vec::new();
        let mut splitter = Splitter::new(1 << 20);
        let body = Bytes::copy_from_slice(&reply.body);
        // A stream that is broken on purpose ends the reading.
        let _broken = splitter.push(&body, |message| {
            let mut part: Value = serde_json::from_slice(&message.data()).unwrap();
            if let Some(bytes) = part["bytes"].as_str() {
                part = serde_json::from_slice(&unbase64(bytes)).unwrap();
            }
            part["event"] = json!(message.name());
            parts.push(part);
        });
        parts
    }

    fn streamed(&self, reply: &Reply) -> String {
        let parts = self.parts(reply);
        let texts = parts
            .iter()
            .filter(|part| {
                self.name != "openai-responses" || part["type"] == "response.output_text.delta"
            })
            .filter_map(|part| part.pointer(self.delta)?.as_str());
        texts.collect()
    }
}

fn unbase64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0u32;
    let mut bytes = Vec::new();
    for (at, byte) in text.bytes().take_while(|byte| *byte != b'=').enumerate() {
        let value = DIGITS.iter().position(|digit| *digit == byte).unwrap() as u32;
        bits = bits << 6 | value;
        if at % 4 > 0 {
            bytes.push((bits >> (6 - 2 * (at % 4))) as u8);
        }
    }
    bytes
}

#[test]
fn every_protocol_echoes_whole_and_streamed() {
    for protocol in PROTOCOLS {
        let mock = mock("");
        let whole = protocol.ask(&mock, false);
        assert_eq!(whole.status, 200, "{}", protocol.whole);
        assert_eq!(whole.header("content-type"), Some("application/json"));
        let answer = whole.json();
        let text = answer.pointer(protocol.text).and_then(Value::as_str);
        assert_eq!(text, Some(ECHO), "{}: {answer}", protocol.name);
        assert!(answer.pointer(protocol.usage).is_some(), "{answer}");
        let reply = protocol.ask(&mock, true);
        assert_eq!(reply.header("content-type"), Some(protocol.media_type));
        assert_eq!(
            protocol.streamed(&reply),
            ECHO,
            "{}: {}",
            protocol.name,
            reply.text()
        );
        for call in mock.calls() {
            assert_eq!(call.problems, [""; 0], "{}", protocol.name);
            assert_eq!(call.protocol.map(|it| it.name()), Some(protocol.name));
        }
    }
}

#[test]
fn every_protocol_goes_wrong_as_the_script_says() {
    for protocol in PROTOCOLS {
        let name = protocol.name;
        let text = "text = \"abcdefgh\", chunks = 4";
        let mock = one(&format!("{text}, cut_after = 2, chunk_gap = \"0ms\""));
        let reply = protocol.ask(&mock, true);
        assert_eq!(
            (reply.end, protocol.streamed(&reply)),
            (End::Closed, "abcd".to_owned()),
            "{name}"
        );
        assert_eq!(until(&mock, Outcome::Cut).chunks_sent, 2, "{name}");
        let mock = one(&format!("{text}, end_after = 2"));
        let reply = protocol.ask(&mock, true);
        assert_eq!(
            (reply.end, protocol.streamed(&reply)),
            (End::Whole, "abcd".to_owned()),
            "{name}"
        );
        let mock = one(&format!("{text}, stall_after = 1, chunk_gap = \"0ms\""));
        let reply = protocol.ask(&mock, true);
        assert_eq!(
            (reply.end, protocol.streamed(&reply)),
            (End::Open, "ab".to_owned()),
            "{name}"
        );
        let mock = one(&format!(
            "{text}, error_event = {{at = 2, message = \"Oh no.\"}}"
        ));
        let reply = protocol.ask(&mock, true);
        assert_eq!(protocol.streamed(&reply), "abcd", "{name}");
        let last = protocol.parts(&reply).pop().unwrap().to_string();
        assert!(last.contains("Oh no."), "{name}: {last}");
        let mock = one(&format!("{text}, garbage_at = 2"));
        let reply = protocol.ask(&mock, true);
        assert!(protocol.streamed(&reply).starts_with("abcd"), "{name}");
        assert!(
            String::from_utf8(reply.body).is_err(),
            "{name}: there are broken bytes"
        );
        let plain = protocol.ask(&one(text), true).body;
        let split = one(&format!("{text}, split = 7"));
        assert_eq!(protocol.ask(&split, true).body, plain, "{name}");
        let mock = one(&format!("{text}, garbage = true"));
        assert!(
            protocol.ask(&mock, true).text().starts_with("<html>"),
            "{name}"
        );
    }
}

#[test]
fn every_protocol_has_errors_of_its_own() {
    for protocol in PROTOCOLS {
        let mock = mock(
            "[[rule]]\nsteps = [{status = 429, headers = {retry-after = 3}}, {status = 500}, {status = 400, error = {message = \"Why?\"}}]",
        );
        let reply = protocol.ask(&mock, true);
        assert_eq!(reply.status, 429);
        assert_eq!(reply.header("retry-after"), Some("3"));
        let error = reply.json();
        let found = error.pointer(protocol.error.0).and_then(Value::as_str);
        assert_eq!(found, Some(protocol.error.1), "{}: {error}", protocol.name);
        if protocol.name.starts_with("bedrock") {
            assert_eq!(
                reply.header("x-amzn-errortype"),
                Some("ThrottlingException")
            );
        }
        assert_eq!(protocol.ask(&mock, false).status, 500);
        assert!(protocol.ask(&mock, false).text().contains("Why?"));
    }
}

#[test]
fn every_protocol_can_hide_its_usage_or_tell_other_numbers() {
    for protocol in PROTOCOLS {
        let answer = protocol.ask(&one("usage = false"), false).json();
        let usage = answer
            .pointer(protocol.usage)
            .filter(|usage| !usage.is_null());
        assert_eq!(usage, None, "{}", protocol.name);
        let numbers = "usage = {prompt_tokens = 111, completion_tokens = 222, cached_tokens = 55}";
        let told = protocol.ask(&one(numbers), false).text();
        assert!(told.contains("111") && told.contains("222"), "{told}");
        assert_eq!(told.contains("55"), protocol.name != "ollama", "{told}");
    }
}

#[test]
fn a_gemini_stream_without_alt_is_one_list() {
    let path = "/v1beta/models/g:streamGenerateContent";
    let body = json!({"contents": [{"parts": [{"text": ECHO}]}]});
    let reply = post(&mock(""), path, &body);
    let list = reply.json();
    let parts = list.as_array().unwrap().iter();
    let text: String = parts
        .filter_map(|part| part["candidates"][0]["content"]["parts"][0]["text"].as_str())
        .collect();
    assert_eq!(text, ECHO);
    let reply = post(&mock(""), &format!("{path}?alt=sse"), &body);
    assert!(
        reply.text().contains("}\r\n\r\ndata: {"),
        "events end in CRLF"
    );
    let reply = post(&one("crlf = true"), &format!("{path}?alt=sse"), &body);
    assert!(!reply.text().contains("\r\r"), "and no more than that");
}

#[test]
fn a_signature_that_does_not_come_back_is_told() {
    let call = |signature: Value| {
        let mut part = json!({"functionCall": {"name": "f", "args": {}}});
        if !signature.is_null() {
            part["thoughtSignature"] = signature;
        }
        json!({"tools": [{"functionDeclarations": [{"name": "f"}]}], "contents": [
            {"role": "user", "parts": [{"text": "hi"}]}, {"role": "model", "parts": [part]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}]})
    };
    let mock = one("signature = \"c2ln\"");
    let path = "/v1beta/models/gemini-3-x:generateContent";
    for (signature, key) in [
        (json!("c2ln"), "returned"),
        (json!("skip_thought_signature_validator"), "skipped"),
        (json!("made up"), "foreign"),
        (Value::Null, "missing"),
    ] {
        post(&mock, path, &call(signature.clone()));
        let call = mock.calls().pop().unwrap();
        let noted = &call.noted["signatures"];
        let count = noted[key]
            .as_u64()
            .or(noted[key].as_array().map(|list| list.len() as u64));
        assert_eq!(count, Some(1), "{signature} is {key}: {noted}");
        assert_eq!(
            call.problems.is_empty(),
            key != "missing",
            "{:?}",
            call.problems
        );
    }
    post(
        &mock,
        "/v1beta/models/gemini-2.5-x:generateContent",
        &call(Value::Null),
    );
    assert_eq!(
        mock.calls().pop().unwrap().problems,
        [""; 0],
        "an older model doesn't insist"
    );
}

#[test]
fn forced_tools_and_schemas_are_filled_in_every_protocol() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let tool = json!([{"type": "function", "function": {"name": "f", "parameters": schema}}]);
    for (path, forced, found) in [
        (
            "/v1/responses",
            json!({"model": "m", "input": "hi", "tool_choice": "required",
                "tools": [{"type": "function", "name": "f", "parameters": schema}]}),
            "/output/0/name",
        ),
        (
            "/v1beta/models/g:generateContent",
            json!({"contents": [{"parts": [{"text": "hi"}]}], "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
                "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}]}),
            "/candidates/0/content/parts/0/functionCall/name",
        ),
        (
            "/model/m/converse",
            json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}], "toolConfig": {"toolChoice": {"any": {}},
                "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": schema}}}]}}),
            "/output/message/content/0/toolUse/name",
        ),
        (
            "/v2/chat",
            json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": tool, "tool_choice": "REQUIRED"}),
            "/message/tool_calls/0/function/name",
        ),
    ] {
        let mock = mock("");
        let answer = post(&mock, path, &forced).json();
        assert_eq!(answer.pointer(found), Some(&json!("f")), "{answer}");
        assert_eq!(mock.calls()[0].problems, [""; 0], "{path}");
    }
    for (path, wanted) in [
        (
            "/v1/responses",
            json!({"model": "m", "input": "hi", "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}}}),
        ),
        (
            "/v1beta/models/g:generateContent",
            json!({"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": {"responseMimeType": "application/json",
                "responseSchema": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}}),
        ),
        (
            "/v2/chat",
            json!({"model": "m", "messages": [{"role": "user", "content": "hi"}],
                "response_format": {"type": "json_object", "json_schema": schema}}),
        ),
        (
            "/api/chat",
            json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "format": schema, "stream": false}),
        ),
    ] {
        let mock = mock("");
        let text = post(&mock, path, &wanted).text();
        assert!(text.contains(r#"{\"city\":\"text\"}"#), "{path}: {text}");
        assert_eq!(mock.calls()[0].problems, [""; 0], "{path}");
    }
}

#[test]
fn every_protocol_names_what_it_does_not_know() {
    let user = json!({"role": "user", "content": "hi"});
    for (path, body, expected) in [
        (
            "/v1/responses",
            json!({"model": "m", "input": "x", "messages": []}),
            "unknown field `messages`",
        ),
        (
            "/v1/responses",
            json!({"model": "m", "input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}),
            "input[0].content[0]: the type \"text\" is not known",
        ),
        (
            "/v1/responses",
            json!({"model": "m", "input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}),
            "answers no call",
        ),
        (
            "/v1/completions",
            json!({"model": "m", "prompt": "x", "tools": []}),
            "unknown field `tools`",
        ),
        (
            "/v1beta/models/g:generateContent",
            json!({"contents": [{"parts": [{"text": "x", "cache": 1}]}]}),
            "contents[0].parts[0]: unknown field `cache`",
        ),
        (
            "/v1beta/models/g:generateContent",
            json!({"contents": [{"parts": [{"text": "x"}]}], "generation_config": {"maxTokens": 1}}),
            "generationConfig: unknown field `maxTokens`",
        ),
        (
            "/v1beta/models/g:generateContent",
            json!({"contents": [{"parts": [{"text": "x"}]}], "tools": [{"functionDeclarations": [
                {"name": "f", "parameters": {"type": "OBJECT", "$schema": "x"}}]}]}),
            "unknown field `$schema`",
        ),
        (
            "/model/m/converse",
            json!({"messages": [{"role": "user", "content": [{"text": "x", "image": {}}]}]}),
            "does not hold one thing",
        ),
        (
            "/model/m/converse",
            json!({"messages": [user], "stream": true}),
            "unknown field `stream`",
        ),
        (
            "/model/m/invoke",
            json!({"max_tokens": 1, "messages": [user]}),
            "`anthropic_version` is missing",
        ),
        (
            "/model/m/invoke",
            json!({"anthropic_version": "bedrock-2023-05-31", "model": "m", "max_tokens": 1, "messages": [user]}),
            "unknown field `model`",
        ),
        (
            "/v1/projects/p/locations/l/publishers/anthropic/models/c:rawPredict",
            json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1, "messages": [user]}),
            "`anthropic_version` is",
        ),
        (
            "/v2/chat",
            json!({"model": "m", "messages": [user], "top_p": 1}),
            "unknown field `top_p`",
        ),
        (
            "/api/chat",
            json!({"model": "m", "messages": [user], "options": {"max_tokens": 1}}),
            "options: unknown field `max_tokens`",
        ),
        (
            "/v1/embeddings",
            json!({"model": "m", "input": "x", "texts": []}),
            "unknown field `texts`",
        ),
        (
            "/v2/rerank",
            json!({"model": "m", "query": "x", "documents": [1]}),
            "`documents` is not a list of texts",
        ),
        (
            "/v1/messages/count_tokens",
            json!({"model": "m", "messages": [user], "max_tokens": 1}),
            "unknown field `max_tokens`",
        ),
        (
            "/v1beta/models/g:batchEmbedContents",
            json!({"requests": [{"content": {"parts": [{"text": "x"}]}}]}),
            "requests[0]: `model` is missing",
        ),
    ] {
        let mock = mock("strict = true");
        let reply = post(&mock, path, &body);
        assert_eq!(reply.status, 400, "{path}");
        let problems = mock.calls().pop().unwrap().problems;
        let is_told = problems.iter().any(|problem| problem.contains(expected));
        assert!(is_told, "{path} {body} gave {problems:?}");
    }
}
