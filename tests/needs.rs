//! What requests are seen to need, in every dialect, and what is no need although it looks like one.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::{Value, json};
use strait::error::Kind;
use strait::protocol::Protocol;
use strait::protocol::envelope::{Envelope, Said};
use strait::provider::catalogue;
use strait::routing::needs::{self, Bounds, Missing, Need, Needs, Set};

const EVERYTHING: Bounds = Bounds {
    lacks: Set::ALL,
    context: u64::MAX,
    input: u64::MAX,
    output: u64::MAX,
};

fn seen(protocol: Protocol, body: &str, narrowest: &Bounds) -> Needs {
    let said = Said {
        model: Some("m"),
        stream: None,
    };
    let envelope = Envelope::read_said(body.as_bytes(), protocol, 128, said).unwrap();
    Needs::of(&envelope, body.as_bytes(), protocol, narrowest)
}

fn needed(protocol: Protocol, body: &Value) -> Vec<Need> {
    let needs = seen(protocol, &body.to_string(), &EVERYTHING);
    Need::ALL
        .into_iter()
        .filter(|need| needs.set.has(*need))
        .collect()
}

/// A request whose last turn of the user holds these parts, with further fields.
fn with_parts(protocol: Protocol, parts: Value, more: Value) -> Value {
    let mut body = match protocol {
        Protocol::OpenaiResponses => json!({"input": [{"role": "user", "content": parts}]}),
        Protocol::Gemini => json!({"contents": [{"role": "user", "parts": parts}]}),
        Protocol::OpenaiCompletions => json!({"prompt": "hi"}),
        Protocol::OpenaiChat
        | Protocol::Anthropic
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => json!({"messages": [{"role": "user", "content": parts}]}),
    };
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    if protocol == Protocol::Ollama && body.get("stream").is_none() {
        body["stream"] = json!(false);
    }
    body
}

fn text(protocol: Protocol, said: &str) -> Value {
    match protocol {
        Protocol::OpenaiResponses => json!([{"type": "input_text", "text": said}]),
        Protocol::Gemini | Protocol::Bedrock => json!([{"text": said}]),
        Protocol::Ollama => json!(said),
        Protocol::OpenaiChat
        | Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Cohere => json!([{"type": "text", "text": said}]),
    }
}

#[test]
fn media_is_found_in_every_dialect() {
    use Need::{Audio, Images, Pdf, Video};
    use Protocol as P;
    let data = "data:application/pdf;base64,JVBERi0x";
    let cases = [
        (
            P::OpenaiChat,
            json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]),
            vec![Images],
        ),
        (
            P::OpenaiChat,
            json!([{"input_audio": {"data": "AA", "format": "wav"}, "type": "input_audio"}]),
            vec![Audio],
        ),
        (
            P::OpenaiChat,
            json!([{"type": "file", "file": {"filename": "a", "file_data": data}}]),
            vec![Pdf],
        ),
        (
            P::OpenaiChat,
            json!([{"type": "file", "file": {"filename": "A.PDF", "file_data": "AAAA"}}]),
            vec![Pdf],
        ),
        (
            P::OpenaiChat,
            json!([{"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,AA"}}]),
            vec![],
        ),
        (
            P::OpenaiChat,
            json!([{"type": "file", "file": {"file_id": "file-1"}}]),
            vec![],
        ),
        (
            P::OpenaiChat,
            json!([{"type": "video_url", "video_url": {"url": "x"}}]),
            vec![Video],
        ),
        (
            P::OpenaiResponses,
            json!([{"type": "input_image", "image_url": "x"}]),
            vec![Images],
        ),
        (
            P::OpenaiResponses,
            json!([{"type": "input_file", "file_url": "https://x/y.pdf"}]),
            vec![Pdf],
        ),
        (
            P::OpenaiResponses,
            json!([{"type": "input_file", "file_data": data}]),
            vec![Pdf],
        ),
        (
            P::OpenaiResponses,
            json!([{"type": "input_audio", "input_audio": {"data": "AA"}}]),
            vec![Audio],
        ),
        (
            P::Anthropic,
            json!([{"type": "image", "source": {"type": "url", "url": "x"}}]),
            vec![Images],
        ),
        (
            P::Anthropic,
            json!([{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"}}]),
            vec![Pdf],
        ),
        (
            P::Anthropic,
            json!([{"source": {"url": "x", "type": "url"}, "type": "document"}]),
            vec![Pdf],
        ),
        (
            P::Anthropic,
            json!([{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "AA"}}]),
            vec![],
        ),
        (
            P::Anthropic,
            json!([{"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": {}}]}}]),
            vec![Images],
        ),
        (
            P::Anthropic,
            json!([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {}}, {"type": "document", "source": {"type": "url"}}]}]),
            vec![Images, Pdf],
        ),
        (
            P::Gemini,
            json!([{"inlineData": {"mimeType": "image/png", "data": "AA"}}]),
            vec![Images],
        ),
        (
            P::Gemini,
            json!([{"inline_data": {"mime_type": "audio/wav", "data": "AA"}}]),
            vec![Audio],
        ),
        (
            P::Gemini,
            json!([{"fileData": {"fileUri": "gs://x", "mimeType": "application/pdf"}}, {"fileData": {"mimeType": "video/mp4"}}]),
            vec![Pdf, Video],
        ),
        (
            P::Gemini,
            json!([{"inlineData": {"mimeType": "text/plain", "data": "AA"}}]),
            vec![],
        ),
        (
            P::Gemini,
            json!([{"functionResponse": {"name": "f", "response": {}, "parts": [{"inlineData": {"mimeType": "image/png"}}]}}]),
            vec![Images],
        ),
        (
            P::Bedrock,
            json!([{"image": {"format": "png", "source": {"bytes": "AA"}}}, {"video": {"format": "mp4"}}]),
            vec![Images, Video],
        ),
        (
            P::Bedrock,
            json!([{"document": {"format": "pdf", "name": "n"}}]),
            vec![Pdf],
        ),
        (
            P::Bedrock,
            json!([{"document": {"format": "txt", "name": "n"}}]),
            vec![],
        ),
        (
            P::Bedrock,
            json!([{"toolResult": {"toolUseId": "t", "content": [{"image": {}}]}}]),
            vec![Images],
        ),
        (
            P::Cohere,
            json!([{"type": "image_url", "image_url": {"url": "x"}}]),
            vec![Images],
        ),
    ];
    for (protocol, parts, expected) in cases {
        let body = with_parts(protocol, parts, json!({}));
        assert_eq!(needed(protocol, &body), expected, "{protocol:?}: {body}");
    }
    let ollama =
        json!({"stream": false, "messages": [{"role": "user", "content": "x", "images": ["AA"]}]});
    assert_eq!(needed(P::Ollama, &ollama), [Images]);
    let empty =
        json!({"stream": false, "messages": [{"role": "user", "content": "x", "images": []}]});
    assert_eq!(needed(P::Ollama, &empty), []);
    // Of tools that were called: what they gave back is read by the model.
    let called = json!({"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": "x"}]}]});
    assert_eq!(needed(P::OpenaiResponses, &called), [Images]);
    let screen = json!({"input": [{"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": "x"}}]});
    assert_eq!(needed(P::OpenaiResponses, &screen), [Images]);
}

#[test]
fn fields_ask_for_tools_schemas_reasoning_speech_and_streams() {
    use Need::{Reasoning, Schema, Speech, Stream, Tools};
    use Protocol as P;
    let function = json!([{"type": "function", "function": {"name": "f"}}]);
    let cases = [
        (
            P::OpenaiChat,
            json!({"tools": function, "stream": true}),
            vec![Tools, Stream],
        ),
        (
            P::OpenaiChat,
            json!({"functions": [{"name": "f"}]}),
            vec![Tools],
        ),
        (
            P::OpenaiChat,
            json!({"tools": [], "functions": [], "stream": false}),
            vec![],
        ),
        (
            P::OpenaiChat,
            json!({"tools": [{"type": "web_search"}]}),
            vec![],
        ),
        (
            P::OpenaiChat,
            json!({"response_format": {"type": "json_schema", "json_schema": {}}}),
            vec![Schema],
        ),
        (
            P::OpenaiChat,
            json!({"response_format": {"type": "json_object"}}),
            vec![],
        ),
        (
            P::OpenaiChat,
            json!({"reasoning_effort": "low"}),
            vec![Reasoning],
        ),
        (P::OpenaiChat, json!({"reasoning_effort": "none"}), vec![]),
        (
            P::OpenaiChat,
            json!({"reasoning": {"effort": "high"}}),
            vec![Reasoning],
        ),
        (
            P::OpenaiChat,
            json!({"modalities": ["text", "audio"]}),
            vec![Speech],
        ),
        (P::OpenaiChat, json!({"modalities": ["text"]}), vec![]),
        (
            P::OpenaiResponses,
            json!({"tools": [{"type": "function", "name": "f"}]}),
            vec![Tools],
        ),
        (
            P::OpenaiResponses,
            json!({"tools": [{"type": "web_search"}]}),
            vec![],
        ),
        (
            P::OpenaiResponses,
            json!({"text": {"format": {"type": "json_schema", "schema": {}}}}),
            vec![Schema],
        ),
        (
            P::OpenaiResponses,
            json!({"text": {"format": {"type": "text"}}}),
            vec![],
        ),
        (
            P::OpenaiResponses,
            json!({"reasoning": {"effort": "minimal"}}),
            vec![Reasoning],
        ),
        (
            P::OpenaiResponses,
            json!({"reasoning": {"effort": null}}),
            vec![],
        ),
        (
            P::Anthropic,
            json!({"tools": [{"name": "f", "input_schema": {}}]}),
            vec![Tools],
        ),
        (
            P::Anthropic,
            json!({"tools": [{"type": "web_search_20250305", "name": "w"}]}),
            vec![],
        ),
        (
            P::Anthropic,
            json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
            vec![Reasoning],
        ),
        (
            P::Anthropic,
            json!({"thinking": {"type": "disabled"}}),
            vec![],
        ),
        (
            P::Anthropic,
            json!({"output_config": {"format": {"type": "json_schema", "schema": {}}}}),
            vec![Schema],
        ),
        (
            P::Anthropic,
            json!({"output_config": {"effort": "low"}}),
            vec![],
        ),
        (
            P::Gemini,
            json!({"tools": [{"functionDeclarations": [{"name": "f"}]}]}),
            vec![Tools],
        ),
        (P::Gemini, json!({"tools": [{"googleSearch": {}}]}), vec![]),
        (
            P::Gemini,
            json!({"generationConfig": {"responseSchema": {"type": "OBJECT"}, "thinkingConfig": {"thinkingBudget": 0}}}),
            vec![Schema],
        ),
        (
            P::Gemini,
            json!({"generation_config": {"response_modalities": ["AUDIO"], "thinking_config": {"thinking_budget": -1}}}),
            vec![Speech, Reasoning],
        ),
        (
            P::Gemini,
            json!({"generationConfig": {"thinkingConfig": {"thinkingLevel": "low"}}}),
            vec![Reasoning],
        ),
        (
            P::Bedrock,
            json!({"toolConfig": {"tools": [{"toolSpec": {"name": "f"}}]}}),
            vec![Tools],
        ),
        (
            P::Bedrock,
            json!({"toolConfig": {"tools": [{"cachePoint": {}}]}}),
            vec![],
        ),
        (
            P::Bedrock,
            json!({"additionalModelRequestFields": {"thinking": {"type": "enabled"}}}),
            vec![Reasoning],
        ),
        (
            P::Bedrock,
            json!({"additionalModelRequestFields": {"top_k": 5}}),
            vec![],
        ),
        (
            P::Bedrock,
            json!({"outputConfig": {"textFormat": {"type": "json_schema"}}}),
            vec![Schema],
        ),
        (
            P::Cohere,
            json!({"tools": function, "response_format": {"type": "json_object", "json_schema": {}}}),
            vec![Tools, Schema],
        ),
        (P::Cohere, json!({"thinking": {"type": "disabled"}}), vec![]),
        (
            P::Ollama,
            json!({"tools": function, "format": {"type": "object"}, "think": true, "stream": true}),
            vec![Tools, Schema, Reasoning, Stream],
        ),
        (P::Ollama, json!({"format": "json", "think": false}), vec![]),
        (P::OpenaiCompletions, json!({"stream": true}), vec![Stream]),
    ];
    for (protocol, more, expected) in cases {
        let body = with_parts(protocol, text(protocol, "hi"), more);
        assert_eq!(needed(protocol, &body), expected, "{protocol:?}: {body}");
    }
}

/// What a text says, a tool is called with, a tool gave back as text, or a schema describes.
#[test]
fn words_in_texts_arguments_and_schemas_are_no_needs() {
    let bait = json!({
        "type": "image_url", "image_url": {"url": "x"}, "images": ["AA"], "image": {}, "document": {"format": "pdf"},
        "inlineData": {"mimeType": "image/png"}, "content": [{"type": "image", "source": {}}],
        "parts": [{"inlineData": {"mimeType": "video/mp4"}}], "file": {"filename": "a.pdf"}, "type2": "input_image",
    });
    let quoted = bait.to_string();
    for protocol in Protocol::ALL {
        let body = with_parts(protocol, text(protocol, &quoted), json!({}));
        assert_eq!(needed(protocol, &body), [], "{protocol:?}: in a text");
        let body = with_parts(
            protocol,
            text(protocol, "hi"),
            json!({"metadata": {"note": quoted}, "x": bait}),
        );
        assert_eq!(
            needed(protocol, &body),
            [],
            "{protocol:?}: in another field"
        );
    }
    let calls = [
        (
            Protocol::OpenaiChat,
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": quoted}}]}),
        ),
        (
            Protocol::Anthropic,
            json!({"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": bait}]}),
        ),
        (
            Protocol::Bedrock,
            json!({"role": "assistant", "content": [{"toolUse": {"toolUseId": "c", "name": "f", "input": bait}}, {"toolResult": {"toolUseId": "c", "content": [{"json": bait}]}}]}),
        ),
        (
            Protocol::Ollama,
            json!({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": bait}}]}),
        ),
        (
            Protocol::Cohere,
            json!({"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": quoted}}]}),
        ),
    ];
    for (protocol, turn) in calls {
        let body = json!({"stream": false, "messages": [{"role": "user", "content": text(protocol, "hi")}, turn]});
        assert_eq!(
            needed(protocol, &body),
            [],
            "{protocol:?}: in a call: {body}"
        );
    }
    let body = json!({"contents": [{"role": "model", "parts": [{"functionCall": {"name": "f", "args": bait}}, {"functionResponse": {"name": "f", "response": bait}}]}]});
    assert_eq!(needed(Protocol::Gemini, &body), [], "{body}");
    let body = json!({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": quoted}, {"type": "function_call_output", "call_id": "c", "output": quoted}]});
    assert_eq!(needed(Protocol::OpenaiResponses, &body), [], "{body}");
    let body = with_parts(
        Protocol::OpenaiChat,
        json!("hi"),
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"image_url": {"type": "image_url"}}}}}]}),
    );
    assert_eq!(needed(Protocol::OpenaiChat, &body), [Need::Tools], "{body}");
}

#[test]
fn only_what_somebody_lacks_is_looked_for() {
    let body = with_parts(
        Protocol::OpenaiChat,
        json!([{"type": "image_url", "image_url": {"url": "x"}}]),
        json!({"tools": [{"type": "function"}], "stream": true}),
    )
    .to_string();
    let tools = Bounds {
        lacks: [Need::Tools].into_iter().collect(),
        ..Bounds::default()
    };
    let found = seen(Protocol::OpenaiChat, &body, &tools);
    assert_eq!(found.set, tools.lacks);
    let nothing = seen(Protocol::OpenaiChat, &body, &Bounds::default());
    assert!(nothing.set.is_empty());
}

/// Bodies come from anyone: a walk that runs away would be found here.
#[test]
fn broken_and_deep_parts_are_left_to_the_provider() {
    for protocol in Protocol::ALL {
        for parts in [
            json!(null),
            json!(1),
            json!("x"),
            json!({}),
            json!([[]]),
            json!([1, null, "x", [], {}]),
            json!([{"type": 1, "source": 2, "file": [], "content": {}}]),
            json!([{"type": "document", "source": "pdf"}, {"type": "file"}, {"document": "pdf"}, {"toolResult": []}]),
            json!([{"inlineData": "x"}, {"inlineData": {"mimeType": 1}}, {"functionResponse": {"parts": 1}}]),
            json!([{"type": "input_file", "filename": "é"}, {"type": "file", "file": {"filename": "x"}}]),
        ] {
            let body = with_parts(protocol, parts, json!({}));
            assert_eq!(needed(protocol, &body), [], "{protocol:?}: {body}");
        }
        let mut deep = json!([{"type": "image", "source": {}}]);
        for _ in 0..25 {
            deep = json!([{"type": "tool_result", "content": deep}]);
        }
        // Too deep to be anyone's meaning.
        assert_eq!(needed(protocol, &with_parts(protocol, deep, json!({}))), []);
    }
}

fn lacking(needs: &[Need]) -> Bounds {
    Bounds {
        lacks: needs.iter().copied().collect(),
        ..Bounds::default()
    }
}

fn needing(needs: &[Need], input: u64, output: Option<u64>) -> Needs {
    Needs {
        set: needs.iter().copied().collect(),
        input,
        output,
    }
}

#[test]
fn what_is_missing_is_said_in_words() {
    let said =
        |bounds: &Bounds, needs: &Needs| bounds.miss(needs, false).map(|one| one.to_string());
    let text = lacking(&[Need::Images, Need::Pdf]);
    assert_eq!(
        said(&text, &needing(&[Need::Images], 10, None)).as_deref(),
        Some("no images")
    );
    assert_eq!(
        said(&text, &needing(&[Need::Pdf], 10, None)).as_deref(),
        Some("no PDF documents")
    );
    assert_eq!(said(&text, &needing(&[Need::Tools], 10, None)), None);
    let small = Bounds {
        context: 8192,
        input: 8192,
        output: 4096,
        ..Bounds::default()
    };
    assert_eq!(
        said(&small, &needing(&[], 12_000, None)).as_deref(),
        Some("context 8192 < 12000 tokens")
    );
    assert_eq!(
        said(&small, &needing(&[], 10, Some(8000))).as_deref(),
        Some("output limit 4096 < 8000")
    );
    assert_eq!(
        said(&small, &needing(&[], 6000, Some(4096))).as_deref(),
        Some("context 8192 < 6000 + 4096 tokens")
    );
    assert_eq!(said(&small, &needing(&[], 2000, Some(4096))), None);
    // Nobody knows how long an answer may be: the window alone tells.
    let window = Bounds {
        context: 8192,
        input: 8192,
        ..Bounds::default()
    };
    assert_eq!(
        said(&window, &needing(&[], 100, Some(100_000))),
        None,
        "it may cut the answer short"
    );
    assert!(said(&window, &needing(&[], 6000, Some(4000))).is_some());
    // The catalogue's way to say the same.
    let same = Bounds {
        output: 8192,
        ..window
    };
    assert_eq!(said(&same, &needing(&[], 6000, Some(4000))), None);
}

#[test]
fn an_estimate_that_is_a_little_too_high_refuses_nobody() {
    let small = Bounds {
        context: 10_000,
        input: 10_000,
        ..Bounds::default()
    };
    assert_eq!(small.miss(&needing(&[], 11_500, None), false), None);
    assert!(small.miss(&needing(&[], 11_501, None), false).is_some());
    // Escaped Chinese is six bytes a character, and about a token: a quarter of the bytes is half too much.
    let chinese = "\\u6211".repeat(9000);
    let body = format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"{chinese}\"}}]}}");
    let needs = seen(Protocol::OpenaiChat, &body, &small);
    assert!(body.len() / 4 > 13_000);
    assert!(needs.input < 11_500, "{}", needs.input);
    let far = "word ".repeat(20_000);
    let body = format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"{far}\"}}]}}");
    assert!(
        small
            .miss(&seen(Protocol::OpenaiChat, &body, &small), false)
            .is_some()
    );
}

#[test]
fn a_translation_makes_do_without_what_it_can() {
    let plain = lacking(&[Need::Reasoning, Need::Schema]);
    for need in [Need::Reasoning, Need::Schema] {
        let needs = needing(&[need], 10, None);
        assert_eq!(
            plain.miss(&needs, true),
            Some(Missing::Need { need, bends: true })
        );
        assert_eq!(
            plain.miss(&needs, false),
            Some(Missing::Need { need, bends: false })
        );
    }
    // A schema is asked for by way of a tool.
    let none = lacking(&[Need::Schema, Need::Tools]);
    let needs = needing(&[Need::Schema], 10, None);
    assert!(
        none.miss(&needs, true)
            .is_some_and(|missing| !missing.bends())
    );
    let images = lacking(&[Need::Images]);
    assert!(
        images
            .miss(&needing(&[Need::Images], 10, None), true)
            .is_some_and(|missing| !missing.bends())
    );
    let short = Bounds {
        output: 10,
        ..Bounds::default()
    };
    assert!(
        short
            .miss(&needing(&[], 10, Some(20)), true)
            .is_some_and(|missing| missing.bends())
    );
    // What can't be helped is said first.
    let both = lacking(&[Need::Reasoning, Need::Images]);
    let needs = needing(&[Need::Reasoning, Need::Images], 10, None);
    assert_eq!(
        both.miss(&needs, true),
        Some(Missing::Need {
            need: Need::Images,
            bends: false
        })
    );
}

#[test]
fn the_refusal_names_the_field_and_what_each_target_lacks() {
    let body = br#"{"max_completion_tokens":9000,"messages":[]}"#;
    let mut members = Vec::new();
    strait::codec::json::members(body, 8, &mut members).unwrap();
    let images = Missing::Need {
        need: Need::Images,
        bends: false,
    };
    let context = Missing::Context {
        most: 8192,
        input: 12_000,
        output: None,
    };
    let output = Missing::Output {
        most: 4096,
        asked: 9000,
        bends: false,
    };
    let refused = |protocol, missing: &[(String, Missing)]| {
        needs::refusal("m", protocol, body, &members, missing)
    };
    let error = refused(
        Protocol::OpenaiChat,
        &[("a/x".into(), images), ("b/y".into(), context)],
    );
    assert_eq!(
        (error.kind, error.param.as_deref()),
        (Kind::Unsupported, Some("messages"))
    );
    assert_eq!(
        error.message,
        "No target of `m` can do what this request needs: a/x: no images; b/y: context 8192 < 12000 tokens."
    );
    let error = refused(Protocol::Gemini, &[("a/x".into(), context)]);
    assert_eq!(
        (error.kind, error.param.as_deref()),
        (Kind::ContextExceeded, Some("contents"))
    );
    assert_eq!(
        (error.kind.status(), error.kind.code()),
        (400, "context_length_exceeded")
    );
    assert!(error.kind.is_final());
    for (protocol, param) in [
        (Protocol::OpenaiChat, "max_completion_tokens"),
        (Protocol::Anthropic, "max_tokens"),
        (Protocol::OpenaiResponses, "max_output_tokens"),
        (Protocol::Bedrock, "inferenceConfig.maxTokens"),
    ] {
        assert_eq!(
            refused(protocol, &[("a/x".into(), output)])
                .param
                .as_deref(),
            Some(param)
        );
    }
    let many: Vec<_> = (0..500).map(|at| (format!("p/{at}"), images)).collect();
    assert!(refused(Protocol::OpenaiChat, &many).message.len() < 500);
}

#[test]
fn the_catalogue_tells_what_models_lack_and_is_silent_where_it_does_not_know() {
    let of = |provider, id| Bounds::of(catalogue::model(provider, id));
    let old = of("openai", "gpt-3.5-turbo");
    assert!(old.lacks.has(Need::Images) && !old.lacks.has(Need::Tools));
    assert!(old.context < 20_000);
    let new = of("openai", "gpt-5");
    assert!(
        !new.lacks.has(Need::Images)
            && !new.lacks.has(Need::Reasoning)
            && !new.lacks.has(Need::Pdf)
    );
    let claude = of("anthropic", "claude-sonnet-4-5");
    for need in [
        Need::Images,
        Need::Pdf,
        Need::Tools,
        Need::Schema,
        Need::Reasoning,
        Need::Stream,
    ] {
        assert!(!claude.lacks.has(need), "{need:?}");
    }
    assert!(claude.lacks.has(Need::Audio));
    assert!(Bounds::of(None).is_open(), "who isn't known lacks nothing");
    // Described by a price alone.
    assert!(of("ai21", "jamba-large-1.7").lacks.is_empty());
}
