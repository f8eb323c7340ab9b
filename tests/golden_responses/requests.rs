//! What clients may ask, and where they are told that they may not.

use serde_json::{Value, json};
use strait::error::Kind;
use strait::protocol::chat::{Effort, Part, Reasoning, Role, Source};
use strait::protocol::openai_responses::request;
use strait::protocol::{Facts, Protocol, decode_request, encode_request};

use super::{OWN, able, shared};

fn encoded(from: Protocol, to: Protocol, body: &Value) -> (Value, Vec<String>) {
    let text = body.to_string();
    let hub =
        decode_request(from, text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    let said = encode_request(to, &hub, "target", &able())
        .unwrap_or_else(|error| panic!("{error}: {text}"));
    (serde_json::from_slice(&said.body).unwrap(), said.dropped)
}

#[test]
fn a_wrong_field_is_named_where_it_stands() {
    for (body, param) in [
        (json!({"model": "m"}), "input"),
        (json!({"input": 5}), "input"),
        (json!({"input": [5]}), "input[0]"),
        (json!({"input": [{"content": "x"}]}), "input[0].type"),
        (
            json!({"input": [{"role": "robot", "content": "x"}]}),
            "input[0].role",
        ),
        (json!({"input": [{"role": "user"}]}), "input[0].content"),
        (
            json!({"input": [{"role": "user", "content": [{"text": "x"}]}]}),
            "input[0].content[0].type",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}),
            "input[0].content[0].text",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
            "input[0].content[0].image_url",
        ),
        (
            json!({"input": [{"type": "function_call", "name": "f"}]}),
            "input[0].call_id",
        ),
        (
            json!({"input": [{"type": "function_call_output", "call_id": "c"}]}),
            "input[0].output",
        ),
        (
            json!({"input": [{"type": "reasoning", "summary": "x"}]}),
            "input[0].summary",
        ),
        (json!({"input": "q", "temperature": "hot"}), "temperature"),
        (
            json!({"input": "q", "max_output_tokens": -1}),
            "max_output_tokens",
        ),
        (
            json!({"input": "q", "tools": [{"name": "f"}]}),
            "tools[0].type",
        ),
        (
            json!({"input": "q", "tools": [{"type": "function"}]}),
            "tools[0].name",
        ),
        (json!({"input": "q", "tool_choice": "maybe"}), "tool_choice"),
        (
            json!({"input": "q", "tool_choice": {"type": "function"}}),
            "tool_choice.name",
        ),
        (
            json!({"input": "q", "text": {"format": {"type": "json_schema", "name": "n"}}}),
            "text.format.schema",
        ),
        (
            json!({"input": "q", "reasoning": {"effort": "giant"}}),
            "reasoning.effort",
        ),
        (json!({"input": "q", "background": "yes"}), "background"),
        (json!({"input": "q", "store": 1}), "store"),
        (json!({"input": "q", "include": "x"}), "include"),
    ] {
        let text = body.to_string();
        let error = request::decode(text.as_bytes()).unwrap_err();
        assert_eq!(error.kind, Kind::InvalidRequest, "{text}");
        assert_eq!(
            error.param.as_deref(),
            Some(param),
            "{text}: {}",
            error.message
        );
    }
    assert!(request::decode(b"{").is_err());
    assert!(request::decode(b"[]").is_err());
}

#[test]
fn items_become_turns() {
    let body = json!({"instructions": "i", "input": [
        {"role": "user", "content": "q"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "2", "name": "f", "arguments": {"a": 1}},
        {"type": "function_call_output", "call_id": "1", "output": "x"},
        {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_file", "file_id": "file-1"}]},
        {"role": "user", "content": "more"},
        {"type": "item_reference", "id": "msg_9"}]});
    let text = body.to_string();
    let hub = request::decode(text.as_bytes()).unwrap();
    let roles: Vec<_> = hub
        .messages
        .iter()
        .map(|m| (m.role, m.parts.len()))
        .collect();
    assert_eq!(
        roles,
        [
            (Role::System, 1),
            (Role::User, 1),
            (Role::Assistant, 4),
            (Role::User, 2),
            (Role::User, 1),
            (Role::User, 1)
        ]
    );
    let Part::Reasoning {
        text,
        signature: None,
    } = &hub.messages[2].parts[0]
    else {
        panic!("{:?}", hub.messages[2]);
    };
    assert_eq!(&**text, "a\n\nb");
    let Part::ToolResult { parts, .. } = &hub.messages[3].parts[1] else {
        panic!("{:?}", hub.messages[3]);
    };
    assert!(matches!(
        &parts[0],
        Part::File { source: Source::FileId { family: Protocol::OpenaiResponses, id }, .. } if id == "file-1"
    ));
}

#[test]
fn efforts_are_read_and_other_wishes_kept() {
    for (word, reasoning) in [
        (json!("none"), Some(Reasoning::Off)),
        (json!("xhigh"), Some(Reasoning::Effort(Effort::Xhigh))),
        (json!(null), None),
        (json!("auto"), None),
    ] {
        let body = json!({"input": "q", "reasoning": {"effort": word, "summary": "auto", "context": "all_turns"}});
        let text = body.to_string();
        let hub = request::decode(text.as_bytes()).unwrap();
        assert_eq!(hub.reasoning, reasoning, "{word}");
        let (again, dropped) = encoded(OWN, OWN, &body);
        assert_eq!(again["reasoning"]["effort"], word, "{word}");
        assert_eq!(again["reasoning"]["summary"], "auto");
        assert_eq!(again["reasoning"]["context"], "all_turns");
        assert_eq!(dropped, [""; 0]);
    }
}

#[test]
fn the_errors_of_others_encoders_name_the_clients_field() {
    let body = json!({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]});
    let text = body.to_string();
    let hub = request::decode(text.as_bytes()).unwrap();
    for to in [Protocol::OpenaiChat, Protocol::Anthropic] {
        let error = encode_request(to, &hub, "m", &able()).unwrap_err();
        assert_eq!(error.kind, Kind::Unsupported);
        let param = error.param.as_deref().unwrap();
        assert!(param.starts_with("input"), "{}: {param}", to.name());
    }
}

#[test]
fn reasoning_goes_back_to_the_provider_that_made_it() {
    use strait::protocol::openai_responses::response;
    use strait::protocol::{Shape, decode_response, encode_response};
    let answer = json!({"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "gAAA=="},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gBBB"},
        {"type": "message", "content": [{"type": "output_text", "text": "done"}]}]});
    let body = answer.to_string();
    let shape = Shape::default();
    let hub = response::decode(body.as_bytes(), &shape).unwrap();
    let written = encode_response(Protocol::Anthropic, &hub, &shape);
    let message: Value = serde_json::from_slice(&written).unwrap();
    let request = json!({"model": "c", "max_tokens": 100, "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "r"}]}]});
    let (again, dropped) = encoded(Protocol::Anthropic, OWN, &request);
    let items: Vec<_> = again["input"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| {
            (
                i["type"].clone(),
                i["id"].clone(),
                i["encrypted_content"].clone(),
            )
        })
        .collect();
    assert!(
        items.contains(&(json!("reasoning"), json!("rs_1"), json!("gAAA=="))),
        "{again}"
    );
    assert!(
        items.contains(&(json!("reasoning"), json!("rs_2"), json!("gBBB"))),
        "{again}"
    );
    assert_eq!(dropped, [""; 0], "{again}");
    // And no other provider is shown it.
    let (other, dropped) = encoded(Protocol::Anthropic, Protocol::Anthropic, &request);
    assert!(!other.to_string().contains("openai-responses#"), "{other}");
    assert!(!dropped.is_empty());

    // Anthropic's own goes through a client of this protocol and back.
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "c", "stop_reason": "end_turn", "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "RXJVQg=="},
        {"type": "redacted_thinking", "data": "UmVk"},
        {"type": "thinking", "thinking": "", "signature": "RW1wdHk="},
        {"type": "text", "text": "done"}], "usage": {"input_tokens": 1, "output_tokens": 2}});
    let body = answer.to_string();
    let hub = decode_response(Protocol::Anthropic, body.as_bytes(), &shape).unwrap();
    let written = encode_response(OWN, &hub, &shape);
    let response: Value = serde_json::from_slice(&written).unwrap();
    let mut input = vec![json!({"role": "user", "content": "q"})];
    input.extend(response["output"].as_array().unwrap().clone());
    input.push(json!({"role": "user", "content": "more"}));
    let (again, _) = encoded(
        OWN,
        Protocol::Anthropic,
        &json!({"input": input, "reasoning": {"effort": "low"}}),
    );
    assert_eq!(
        again["messages"][1]["content"], answer["content"],
        "{again}"
    );
    // To OpenAI it is not sent.
    let (own, dropped) = encoded(OWN, OWN, &json!({"input": input}));
    assert!(!own.to_string().contains("RXJVQg"), "{own}");
    assert!(
        dropped.contains(&"input.reasoning (of another model)".to_owned()),
        "{dropped:?}"
    );
}

#[test]
fn a_model_that_does_not_reason_is_not_asked_for_its_reasoning() {
    let body = json!({"messages": [{"role": "user", "content": "q"}], "reasoning_effort": "low"})
        .to_string();
    let hub = decode_request(Protocol::OpenaiChat, body.as_bytes()).unwrap();
    let said = encode_request(OWN, &hub, "gpt-4o", &Facts::default()).unwrap();
    let found: Value = serde_json::from_slice(&said.body).unwrap();
    assert!(
        found["include"].is_null() && found["reasoning"].is_null(),
        "{found}"
    );
    assert_eq!(found["store"], false);
    assert_eq!(said.dropped, ["reasoning_effort"]);
}

/// The captures tell the shapes of bodies: what stands in them must be read.
#[test]
fn what_codex_sends_is_read() {
    let Some(folder) = shared("captures") else {
        return;
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains("\"path\": \"/v1/responses\"") {
            continue;
        }
        let (Some(from), Some(to)) = (text.find("\"body_shape\": "), text.find("\"tools\": {"))
        else {
            continue;
        };
        // Their headers are no JSON any more; the items of the body are.
        let items = text[from..to].trim_end().trim_end_matches(',');
        let body = format!("{}}}", items.trim_start_matches("\"body_shape\": "));
        let Ok(mut body) = serde_json::from_str::<Value>(&body) else {
            continue;
        };
        seen += 1;
        for (key, value) in [
            (
                "tools",
                json!([{"type": "namespace", "name": "n", "description": "d", "tools": []}, {"type": "web_search", "external_web_access": true}, {"type": "function", "name": "f", "description": "d", "strict": false, "parameters": {"type": "object", "properties": {}}}]),
            ),
            ("tool_choice", json!("auto")),
            ("parallel_tool_calls", json!(true)),
            ("reasoning", json!({"summary": "auto"})),
            ("store", json!(false)),
            ("include", json!(["reasoning.encrypted_content"])),
            ("prompt_cache_key", json!("k")),
            ("client_metadata", json!({"a": "b"})),
        ] {
            body[key] = value;
        }
        for to in [
            OWN,
            Protocol::OpenaiChat,
            Protocol::Anthropic,
            Protocol::Gemini,
        ] {
            let (_, dropped) = encoded(OWN, to, &body);
            let searched = dropped.contains(&"web_search".to_owned());
            assert_eq!(searched, to != OWN, "{}: {dropped:?}", path.display());
        }
    }
    assert!(seen > 0, "no capture could be read");
}

#[test]
fn every_client_is_told_the_reasoning_in_a_form_that_can_be_sent_back() {
    let facts = Facts {
        reasoning: true,
        ..Facts::default()
    };
    for (from, body) in [
        (
            Protocol::OpenaiChat,
            json!({"model": "m", "messages": [{"role": "user", "content": "q"}]}),
        ),
        (
            Protocol::Anthropic,
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]}),
        ),
        (
            Protocol::Gemini,
            json!({"contents": [{"role": "user", "parts": [{"text": "q"}]}]}),
        ),
        (
            Protocol::Bedrock,
            json!({"messages": [{"role": "user", "content": [{"text": "q"}]}]}),
        ),
        (
            Protocol::Cohere,
            json!({"model": "m", "messages": [{"role": "user", "content": "q"}]}),
        ),
    ] {
        let text = body.to_string();
        let hub = decode_request(from, text.as_bytes()).unwrap();
        let sent = encode_request(Protocol::OpenaiResponses, &hub, "m", &facts).unwrap();
        let sent: Value = serde_json::from_slice(&sent.body).unwrap();
        assert_eq!(
            sent["include"],
            json!(["reasoning.encrypted_content"]),
            "{from:?}: {sent}"
        );
    }
}

#[test]
fn audio_is_refused_by_name_where_no_model_takes_it() {
    let body = json!({"model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [
        {"type": "text", "text": "q"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]}]});
    let text = body.to_string();
    let hub = decode_request(Protocol::OpenaiChat, text.as_bytes()).unwrap();
    let refused = encode_request(Protocol::OpenaiResponses, &hub, "m", &Facts::default());
    let error = refused.unwrap_err();
    assert_eq!(error.kind, Kind::Unsupported);
    assert_eq!(error.param.as_deref(), Some("messages[1].content[1]"));
}
