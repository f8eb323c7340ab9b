//! The strict check of requests.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use strait::mock::Dialect;

use super::client::*;

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
    let mut body = openai(false);
    body["response_format"] = Value::Null;
    assert_eq!(
        problems(OPENAI, OPENAI_HEADERS, &body),
        [""; 0],
        "null is as good as absent"
    );
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
            "first role",
        ),
        (
            json!({"messages": [user, {"role": "system", "content": [{"type": "image", "source": {}}]}]}),
            "`type`",
        ),
        (
            json!({"messages": [{"role": "developer", "content": "x"}]}),
            "`role`",
        ),
        (json!({"fallbacks": ["a/b"]}), "is not a list of objects"),
        (
            json!({"thinking": {"type": "between_tools", "budget_tokens": 2000}}),
            "unknown field `budget_tokens`",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "x"}]}),
            "first role",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}),
            "`text` is empty",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
            "`type`",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/bmp", "data": ""}}]}]}),
            "`media_type`",
        ),
        (
            json!({"messages": [user, call]}),
            "ends with no result for the calls t1",
        ),
        (
            json!({"messages": [user, call, user]}),
            "ends with no result for the calls t1",
        ),
        (
            json!({"messages": [user, call, user, call, result]}),
            "messages[3]: there is no result before it",
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
    let newest = json!({"model": "m", "max_tokens": 9, "thinking": {"type": "between_tools"}, "thread": {"type": "create"},
        "fallbacks": [{"model": "n"}], "diagnostics": {"previous_message_id": null},
        "messages": [user, call, {"role": "system", "content": "Be brief."}, result]});
    assert_eq!(problems(ANTHROPIC, ANTHROPIC_HEADERS, &newest), [""; 0]);
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
