//! What another family's request becomes.
//!
//! Requests are written in Anthropic's own words, which say the most, and then taken for OpenAI's.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{decode, encode};
use crate::error::{Error, Kind};
use crate::protocol::chat::{Effort, Format, Part, Reasoning, Request, Source, Tool, ToolChoice};
use crate::protocol::{Facts, Protocol, SCHEMA_TOOL, Translated};

fn said(
    body: &Value,
    facts: &Facts,
    edit: impl FnOnce(&mut Request<'_>),
) -> Result<Translated, Error> {
    let body = body.to_string();
    let mut request = decode(body.as_bytes()).unwrap();
    request.family = Protocol::OpenaiChat;
    edit(&mut request);
    encode(&request, "claude-x", facts)
}

fn body(translated: &Translated) -> Value {
    serde_json::from_slice(&translated.body).unwrap()
}

/// Encodes and returns the body and what was dropped.
fn becomes(
    request: Value,
    facts: &Facts,
    edit: impl FnOnce(&mut Request<'_>),
) -> (Value, Vec<String>) {
    let translated = said(&request, facts, edit).unwrap();
    (body(&translated), translated.dropped)
}

fn ask(more: Value) -> Value {
    let mut ask =
        json!({"model": "m", "max_tokens": 16000, "messages": [{"role": "user", "content": "q"}]});
    for (key, value) in more.as_object().unwrap() {
        ask[key] = value.clone();
    }
    ask
}

fn tool(name: &str) -> Value {
    json!({"name": name, "input_schema": {"type": "object"}})
}

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap()
}

fn thinker() -> Facts {
    Facts {
        reasoning: true,
        ..Facts::default()
    }
}

fn adaptive() -> Facts {
    Facts {
        reasoning: true,
        adaptive_thinking: true,
        ..Facts::default()
    }
}

#[test]
fn an_effort_becomes_a_budget_below_the_limit() {
    for (effort, limit, budget) in [
        (Effort::Minimal, 16_000, 1024),
        (Effort::Low, 16_000, 2048),
        (Effort::Medium, 16_000, 8192),
        (Effort::High, 16_000, 12_000),
        (Effort::High, 64_000, 24_576),
        (Effort::Low, 1025, 1024),
    ] {
        let (body, dropped) = becomes(ask(json!({"max_tokens": limit})), &thinker(), |request| {
            request.reasoning = Some(Reasoning::Effort(effort));
        });
        assert_eq!(
            body["thinking"],
            json!({"type": "enabled", "budget_tokens": budget}),
            "{effort:?}"
        );
        assert_eq!(body["max_tokens"], limit, "the client's limit stands");
        assert!(dropped.is_empty(), "{dropped:?}");
    }
}

#[test]
fn a_budget_raises_a_limit_that_nobody_set() {
    let (body, _) = becomes(ask(json!({})), &thinker(), |request| {
        request.max_output = None;
        request.reasoning = Some(Reasoning::Effort(Effort::High));
    });
    assert_eq!(body["thinking"]["budget_tokens"], 24_576);
    assert_eq!(body["max_tokens"], 24_576 + 4096);
}

#[test]
fn thinking_that_has_no_room_or_no_model_is_dropped_by_name() {
    let think =
        |request: &mut Request<'_>| request.reasoning = Some(Reasoning::Effort(Effort::Low));
    let (body, dropped) = becomes(ask(json!({"max_tokens": 1024})), &thinker(), think);
    assert_eq!(body.get("thinking"), None);
    assert_eq!(
        dropped,
        ["reasoning_effort (max_tokens leaves no room to think)"]
    );
    let (body, dropped) = becomes(ask(json!({})), &Facts::default(), think);
    assert_eq!(body.get("thinking"), None);
    assert_eq!(dropped, ["reasoning_effort"]);
}

#[test]
fn an_adaptive_model_gets_the_effort_as_a_word() {
    for (effort, word) in [
        (Effort::Minimal, "low"),
        (Effort::Medium, "medium"),
        (Effort::Xhigh, "high"),
    ] {
        let (body, _) = becomes(ask(json!({})), &adaptive(), |request| {
            request.reasoning = Some(Reasoning::Effort(effort));
        });
        assert_eq!(body["thinking"], json!({"type": "adaptive"}));
        assert_eq!(body["output_config"], json!({"effort": word}));
    }
}

#[test]
fn no_effort_turns_thinking_off() {
    for facts in [thinker(), adaptive()] {
        let (body, dropped) = becomes(ask(json!({})), &facts, |request| {
            request.reasoning = Some(Reasoning::Effort(Effort::None));
        });
        assert_eq!(body["thinking"], json!({"type": "disabled"}));
        assert!(dropped.is_empty());
    }
}

#[test]
fn thinking_gives_way_to_a_forced_tool() {
    let request = ask(json!({"tools": [tool("f")], "tool_choice": {"type": "tool", "name": "f"}}));
    let (body, dropped) = becomes(request, &thinker(), |request| {
        request.reasoning = Some(Reasoning::Effort(Effort::High));
    });
    assert_eq!(body["tool_choice"], json!({"type": "tool", "name": "f"}));
    assert_eq!(body.get("thinking"), None);
    assert_eq!(dropped, ["reasoning_effort (a tool call is forced)"]);
}

#[test]
fn thinking_gives_way_where_a_tool_turn_lacks_its_own() {
    let turn = |first: Value| {
        ask(json!({"tools": [tool("f")], "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": [first, {"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "r"}]},
        ]}))
    };
    let think =
        |request: &mut Request<'_>| request.reasoning = Some(Reasoning::Effort(Effort::Low));
    let (body, dropped) = becomes(
        turn(json!({"type": "text", "text": "t"})),
        &thinker(),
        think,
    );
    assert_eq!(body.get("thinking"), None);
    assert_eq!(
        dropped,
        ["reasoning_effort (an earlier tool call has no signed thinking)"]
    );
    let signed = json!({"type": "thinking", "thinking": "t", "signature": "s"});
    let (body, dropped) = becomes(turn(signed), &thinker(), think);
    assert_eq!(body["thinking"]["type"], "enabled");
    assert!(dropped.is_empty(), "{dropped:?}");
    let (body, _) = becomes(
        turn(json!({"type": "text", "text": "t"})),
        &adaptive(),
        think,
    );
    assert_eq!(body["thinking"]["type"], "adaptive");
}

#[test]
fn sampling_gives_way_to_thinking() {
    let request = ask(json!({"temperature": 0.3, "top_p": 0.5, "top_k": 3}));
    let (body, dropped) = becomes(request, &thinker(), |request| {
        request.reasoning = Some(Reasoning::Effort(Effort::Low));
    });
    assert_eq!(
        (
            body.get("temperature"),
            body.get("top_p"),
            body.get("top_k")
        ),
        (None, None, None)
    );
    assert_eq!(
        dropped,
        [
            "temperature (thinking is on)",
            "top_p (thinking is on)",
            "top_k (thinking is on)"
        ]
    );
    let (body, dropped) = becomes(ask(json!({"temperature": 1})), &thinker(), |request| {
        request.reasoning = Some(Reasoning::Effort(Effort::Low));
    });
    assert_eq!(body.get("temperature"), None);
    assert!(dropped.is_empty(), "one is what it thinks at anyway");
}

#[test]
fn a_temperature_above_one_is_clamped() {
    let (body, dropped) = becomes(ask(json!({"temperature": 1.7})), &Facts::default(), |_| {});
    assert_eq!(body["temperature"], 1);
    assert_eq!(dropped, ["temperature (clamped to 1)"]);
    let (body, dropped) = becomes(ask(json!({"temperature": 0.25})), &Facts::default(), |_| {});
    assert_eq!(body["temperature"], 0.25);
    assert!(dropped.is_empty());
}

#[test]
fn a_model_without_sampling_gets_none() {
    let facts = Facts {
        no_sampling: true,
        ..Facts::default()
    };
    let (body, dropped) = becomes(ask(json!({"temperature": 1})), &facts, |_| {});
    assert_eq!(body.get("temperature"), None);
    assert_eq!(dropped, ["temperature (the model takes no sampling)"]);
}

#[test]
fn the_limit_is_what_the_client_the_catalogue_or_caution_says() {
    let limit = |asked, most| {
        becomes(
            ask(json!({})),
            &Facts {
                max_output: most,
                ..Facts::default()
            },
            |request| {
                request.max_output = asked;
            },
        )
        .0["max_tokens"]
            .clone()
    };
    assert_eq!(limit(Some(100), None), 100);
    assert_eq!(limit(None, Some(8192)), 8192);
    assert_eq!(limit(None, None), 4096);
    assert_eq!(limit(Some(100_000), Some(8192)), 8192);
}

const CLOSED: &str =
    r#"{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":false}"#;
const OPEN: &str = r#"{"type":"object","properties":{"a":{"type":"integer","minimum":1}}}"#;

fn with_schema<'b>(request: &mut Request<'b>, schema: &'b str) {
    request.format = Some(Format::JsonSchema {
        name: Some("n".into()),
        description: Some("Why.".into()),
        schema: raw(schema),
        strict: None,
    });
}

#[test]
fn a_schema_is_native_where_it_can_be() {
    let facts = Facts {
        json_schema: Some(true),
        ..Facts::default()
    };
    let translated = said(&ask(json!({})), &facts, |request| {
        with_schema(request, CLOSED)
    })
    .unwrap();
    let schema: Value = serde_json::from_str(CLOSED).unwrap();
    assert_eq!(
        body(&translated)["output_config"]["format"],
        json!({"type": "json_schema", "schema": schema})
    );
    assert!(!translated.schema_tool);
}

#[test]
fn a_schema_is_a_forced_tool_where_it_is_not_native() {
    let able = Facts {
        json_schema: Some(true),
        ..Facts::default()
    };
    for (facts, schema) in [(Facts::default(), CLOSED), (able, OPEN)] {
        let translated = said(&ask(json!({})), &facts, |request| {
            with_schema(request, schema)
        })
        .unwrap();
        assert!(translated.schema_tool);
        let body = body(&translated);
        assert_eq!(body["tools"][0]["name"], SCHEMA_TOOL);
        assert_eq!(
            body["tools"][0]["input_schema"],
            serde_json::from_str::<Value>(schema).unwrap()
        );
        assert!(
            body["tools"][0]["description"]
                .as_str()
                .unwrap()
                .ends_with("Why.")
        );
        let forced =
            json!({"type": "tool", "name": SCHEMA_TOOL, "disable_parallel_tool_use": true});
        assert_eq!(body["tool_choice"], forced);
        assert_eq!(body.get("output_config"), None);
    }
}

#[test]
fn a_schema_beside_own_tools_lets_the_model_call_any() {
    let request = ask(json!({"tools": [tool("f")]}));
    let translated = said(&request, &Facts::default(), |request| {
        with_schema(request, OPEN)
    })
    .unwrap();
    let body = body(&translated);
    assert_eq!(body["tools"].as_array().unwrap().len(), 2);
    assert_eq!(body["tool_choice"], json!({"type": "any"}));
}

#[test]
fn a_required_call_leaves_no_room_for_a_schema() {
    let request = ask(json!({"tools": [tool("f")], "tool_choice": {"type": "any"}}));
    let (body, dropped) = becomes(request, &Facts::default(), |request| {
        with_schema(request, OPEN)
    });
    assert_eq!(body["tools"].as_array().unwrap().len(), 1);
    assert_eq!(dropped, ["response_format (a tool call is required)"]);
}

#[test]
fn a_schema_that_no_tool_can_have_is_refused() {
    let error = said(&ask(json!({})), &Facts::default(), |request| {
        with_schema(request, r#"{"type":"array"}"#)
    });
    assert_eq!(
        error.unwrap_err().param.as_deref(),
        Some("response_format.json_schema.schema")
    );
    let taken = ask(json!({"tools": [tool(SCHEMA_TOOL)]}));
    let error = said(&taken, &Facts::default(), |request| {
        with_schema(request, OPEN)
    });
    assert_eq!(error.unwrap_err().param.as_deref(), Some("tools"));
}

#[test]
fn json_without_a_schema_is_asked_for_in_words() {
    let (body, dropped) = becomes(ask(json!({"system": "s"})), &Facts::default(), |request| {
        request.format = Some(Format::JsonObject);
    });
    assert_eq!(body["system"][0]["text"], "s");
    assert!(
        body["system"][1]["text"]
            .as_str()
            .unwrap()
            .contains("JSON object")
    );
    assert_eq!(
        dropped,
        ["response_format (json_object is asked for in words)"]
    );
}

#[test]
fn system_messages_are_joined_and_turns_merged() {
    let request = ask(json!({"system": "one", "messages": [
        {"role": "user", "content": "a"},
        {"role": "system", "content": "two"},
        {"role": "user", "content": [{"type": "text", "text": " "}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": "d  \n"},
    ]}));
    let (body, _) = becomes(request, &Facts::default(), |_| {});
    let text = |text: &str| json!({"type": "text", "text": text});
    assert_eq!(body["system"], json!([text("one"), text("two")]));
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [text("a"), text("b")]},
            {"role": "assistant", "content": [text("c"), text("d")]},
        ])
    );
}

#[test]
fn results_come_first_and_signed_thinking_leads() {
    let request = ask(json!({"tools": [tool("f")], "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [
            {"type": "text", "text": "t"},
            {"type": "tool_use", "id": "call.1", "name": "f", "input": {}},
            {"type": "thinking", "thinking": "unsigned"},
            {"type": "thinking", "thinking": "signed", "signature": "s"},
        ]},
        {"role": "user", "content": "meanwhile"},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call.1", "content": "r"}]},
    ]}));
    let (body, dropped) = becomes(request, &Facts::default(), |_| {});
    let kinds = |turn: usize| {
        let blocks = body["messages"][turn]["content"].as_array().unwrap();
        blocks
            .iter()
            .map(|block| block["type"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(1), ["thinking", "text", "tool_use"]);
    assert_eq!(kinds(2), ["tool_result", "text"]);
    assert_eq!(
        body["messages"][1]["content"][2]["id"],
        body["messages"][2]["content"][0]["tool_use_id"]
    );
    assert_eq!(dropped, ["messages.reasoning (unsigned)"]);
}

#[test]
fn tools_that_were_called_and_not_defined_are_defined_and_not_called() {
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
    let request = ask(json!({"messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [call("a"), call("b")]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "r"}]},
    ]}));
    let (body, _) = becomes(request, &Facts::default(), |_| {});
    assert_eq!(
        body["tools"],
        json!([{"name": "f", "input_schema": {"type": "object", "properties": {}}}])
    );
    assert_eq!(body["tool_choice"], json!({"type": "none"}));
}

#[test]
fn broken_arguments_are_sent_as_text() {
    let request = ask(json!({"tools": [tool("f")], "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
    ]}));
    for (arguments, input) in [
        ("", json!({})),
        (" \n", json!({})),
        (r#" {"a": 1} "#, json!({"a": 1})),
        (r#"{"a": "#, json!({"_raw": r#"{"a": "#})),
        ("[1]", json!({"_raw": "[1]"})),
        ("not json", json!({"_raw": "not json"})),
    ] {
        let (body, _) = becomes(request.clone(), &Facts::default(), |request| {
            if let Part::ToolCall {
                arguments: known, ..
            } = &mut request.messages[1].parts[0]
            {
                *known = arguments.to_owned().into();
            }
        });
        assert_eq!(
            body["messages"][1]["content"][0]["input"], input,
            "{arguments}"
        );
    }
}

#[test]
fn files_become_what_anthropic_takes() {
    let file = |source: Source<'static>| {
        said(&ask(json!({})), &Facts::default(), |request| {
            let part = Part::File {
                source,
                name: Some("n".into()),
                context: None,
                citations: None,
                cache: None,
            };
            request.messages[0].parts.push(part);
        })
        .map(|translated| body(&translated)["messages"][0]["content"][1].clone())
    };
    let base64 = |media_type: &'static str| Source::Base64 {
        media_type: media_type.into(),
        data: "aGk=".into(),
    };
    assert_eq!(
        file(base64("text/csv")).unwrap(),
        json!({"type": "document", "title": "n", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}})
    );
    assert_eq!(
        file(base64("application/pdf")).unwrap()["source"]["media_type"],
        "application/pdf"
    );
    assert_eq!(file(base64("image/png")).unwrap()["type"], "image");
    assert_eq!(
        file(Source::Url("https://x.test".into())).unwrap()["source"]["type"],
        "url"
    );
    for (source, param) in [
        (base64("application/msword"), "messages.content.file"),
        (
            Source::FileId {
                family: Protocol::OpenaiChat,
                id: "file-1".into(),
            },
            "messages.content.file.file_id",
        ),
    ] {
        let error = file(source).unwrap_err();
        assert_eq!(
            (error.kind, error.param.as_deref()),
            (Kind::Unsupported, Some(param))
        );
    }
}

#[test]
fn what_would_change_the_answer_is_refused_by_name() {
    type Edit = fn(&mut Request<'_>);
    let cases: [(&str, Edit); 10] = [
        ("n", |request| request.n = Some(2)),
        ("logprobs", |request| request.logprobs = Some(true)),
        ("top_logprobs", |request| request.top_logprobs = Some(3)),
        ("logit_bias", |request| {
            request.logit_bias = Some(raw(r#"{"1":5}"#))
        }),
        ("messages.content", |request| {
            request.messages[0].parts.push(Part::Opaque {
                family: Protocol::OpenaiChat,
                raw: raw("{}"),
            });
        }),
        ("messages.content.input_audio", |request| {
            request.messages[0].parts.push(Part::Audio {
                data: "".into(),
                format: "wav".into(),
            });
        }),
        ("modalities", |request| {
            request
                .extra
                .push(("modalities".into(), raw(r#"["text","audio"]"#)));
        }),
        ("audio", |request| {
            request.extra.push(("audio".into(), raw("{}")));
        }),
        ("web_search_options", |request| {
            request.extra.push(("web_search_options".into(), raw("{}")));
        }),
        ("tools[0]", |request| {
            request.tools.push(Tool::Opaque {
                family: Protocol::OpenaiChat,
                name: "x".into(),
                raw: raw("{}"),
            });
        }),
    ];
    for (param, edit) in cases {
        let error = said(&ask(json!({})), &Facts::default(), edit).unwrap_err();
        assert_eq!(
            (error.kind, error.param.as_deref()),
            (Kind::Unsupported, Some(param))
        );
    }
    for edit in [
        (|request| request.n = Some(1)) as Edit,
        |request| request.logprobs = Some(false),
        |request| {
            request
                .extra
                .push(("modalities".into(), raw(r#"["text"]"#)));
        },
        |request| request.logit_bias = Some(raw("{}")),
    ] {
        assert!(said(&ask(json!({})), &Facts::default(), edit).is_ok());
    }
}

#[test]
fn what_the_answer_can_do_without_is_dropped_by_name() {
    let (body, dropped) = becomes(ask(json!({"new_field": 1})), &Facts::default(), |request| {
        request.seed = Some(1);
        request.frequency_penalty = Some(0.5);
        request.presence_penalty = Some(0.0);
        request.verbosity = Some("low".into());
        request.metadata = Some(raw(r#"{"a":"b"}"#));
        request.service_tier = Some("flex".into());
        request.stop = vec![" \n".into(), "X".into()];
        request.tool_choice = Some(ToolChoice::Auto);
        request.parallel_tools = Some(true);
        request.user = Some("u".into());
    });
    assert_eq!(
        dropped,
        [
            "frequency_penalty",
            "seed",
            "verbosity",
            "metadata",
            "stop (white space alone)",
            "service_tier",
            "new_field"
        ]
    );
    let mut keys: Vec<_> = body
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "max_tokens",
            "messages",
            "metadata",
            "model",
            "stop_sequences"
        ]
    );
    assert_eq!(body["stop_sequences"], json!(["X"]));
    assert_eq!(body["metadata"], json!({"user_id": "u"}));
}

#[test]
fn one_tool_at_a_time_is_said_with_the_choice() {
    let (body, _) = becomes(
        ask(json!({"tools": [tool("f")]})),
        &Facts::default(),
        |request| {
            request.parallel_tools = Some(false);
        },
    );
    assert_eq!(
        body["tool_choice"],
        json!({"type": "auto", "disable_parallel_tool_use": true})
    );
}

#[test]
fn wrong_fields_are_named_as_anthropic_names_them() {
    for (body, param) in [
        (json!({"model": "m", "max_tokens": 1}), "messages"),
        (json!({"model": "m", "messages": []}), "max_tokens"),
        (ask(json!({"max_tokens": "x"})), "max_tokens"),
        (ask(json!({"max_tokens": -1})), "max_tokens"),
        (ask(json!({"max_tokens": 1.5})), "max_tokens"),
        (ask(json!({"temperature": "hot"})), "temperature"),
        (ask(json!({"messages": {}})), "messages"),
        (
            ask(json!({"messages": [{"role": "tool", "content": ""}]})),
            "messages.0.role",
        ),
        (
            ask(json!({"messages": [{"role": "user"}]})),
            "messages.0.content",
        ),
        (
            ask(json!({"messages": [{"role": "user", "content": 7}]})),
            "messages.0.content",
        ),
        (
            ask(json!({"messages": [{"role": "user", "content": [{}]}]})),
            "messages.0.content.0.type",
        ),
        (
            ask(json!({"messages": [{"role": "user", "content": ["x"]}]})),
            "messages.0.content.0",
        ),
        (
            ask(json!({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]})),
            "messages.0.content.0.text",
        ),
        (
            ask(json!({"messages": [{"role": "user", "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png"}}]}]})),
            "messages.0.content.0.source.data",
        ),
        (
            ask(
                json!({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "f",
                "input": {}}]}]}),
            ),
            "messages.0.content.0",
        ),
        (
            ask(
                json!({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f",
                "input": "{}"}]}]}),
            ),
            "messages.0.content.0.input",
        ),
        (
            ask(json!({"tools": [{"name": "f"}]})),
            "tools.0.input_schema",
        ),
        (
            ask(json!({"tools": [tool("f"), {"name": 1}]})),
            "tools.1.name",
        ),
        (
            ask(json!({"tool_choice": {"type": "tool"}})),
            "tool_choice.name",
        ),
        (
            ask(json!({"thinking": {"type": "enabled"}})),
            "thinking.budget_tokens",
        ),
        (ask(json!({"thinking": {"type": "much"}})), "thinking.type"),
        (ask(json!({"stop_sequences": ["a", 1]})), "stop_sequences.1"),
        (ask(json!({"metadata": {"user_id": 1}})), "metadata.user_id"),
        (
            ask(json!({"output_config": {"format": {"type": "xml"}}})),
            "output_config.format.type",
        ),
        (ask(json!({"system": [{"type": "text"}]})), "system.0.text"),
    ] {
        let text = body.to_string();
        let error = decode(text.as_bytes()).unwrap_err();
        assert_eq!(error.kind, Kind::InvalidRequest);
        assert_eq!(error.param.as_deref(), Some(param), "{text}");
        assert!(
            error.message.starts_with(&format!("{param}: ")),
            "{}",
            error.message
        );
    }
    for text in ["", "[]", "null", "{", "{\"model\":}", "\u{feff}{}"] {
        assert!(decode(text.as_bytes()).is_err(), "{text}");
    }
}
