//! One dialect asked, the other one answering: through the whole program over real sockets. The fake provider
//! checks strictly what arrives.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
#[path = "../common/mod.rs"]
mod common;
mod odd;
mod passed;
mod tasks;

use common::dialect::{Dialect, Said};
use common::{Answer, Strait, mock};
use serde_json::{Value, json};
use strait::mock::{Call, Mock, Script};

const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A gateway over two fake providers: `gpt`, `thinker` (reasons) and `plain-gpt` (unknown to the catalogue) speak
/// OpenAI, `claude` and `plain-claude` Anthropic.
struct Lab {
    strait: Strait,
    openai: Mock,
    anthropic: Mock,
}

impl Lab {
    fn new(script: &str) -> Self {
        let (openai, anthropic) = (mock(script), mock(script));
        let strait = Strait::start(&format!(
            r#"
            [providers.openai]
            base_url = "{openai}/v1"
            key = "the-openai-key"
            [providers.anthropic]
            base_url = "{anthropic}"
            key = "the-anthropic-key"
            [providers.plain-openai]
            protocols = ["openai-chat"]
            base_url = "{openai}/v1"
            key = "a-key"
            [providers.plain-anthropic]
            protocols = ["anthropic"]
            base_url = "{anthropic}"
            key = "a-key"
            [models.gpt]
            targets = ["openai/gpt-4o"]
            [models.thinker]
            targets = ["openai/gpt-5"]
            [models.plain-gpt]
            targets = ["plain-openai/x"]
            [models.claude]
            targets = ["anthropic/claude-sonnet-4-5"]
            [models.plain-claude]
            targets = ["plain-anthropic/x"]
            "#,
            openai = openai.url(),
            anthropic = anthropic.url(),
        ));
        Self {
            strait,
            openai,
            anthropic,
        }
    }

    fn script(&self, script: &str) {
        for mock in [&self.openai, &self.anthropic] {
            mock.set_script(Script::from_toml(script).unwrap());
        }
    }

    fn post(&self, dialect: Dialect, body: &Value) -> Answer {
        self.strait.post(dialect.path(), body)
    }

    /// Asks, and returns what was said and what the provider got.
    fn ask(&self, dialect: Dialect, body: &Value) -> (Said, Call) {
        let before = [&self.openai, &self.anthropic].map(|mock| mock.calls().len());
        let answer = self.post(dialect, body);
        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
        let calls = [&self.openai, &self.anthropic].map(Mock::calls);
        let call = calls
            .iter()
            .zip(before)
            .find(|(calls, before)| calls.len() > *before);
        let call = call.unwrap().0.last().unwrap().clone();
        assert!(
            call.problems.is_empty(),
            "{:?} in {}",
            call.problems,
            call.json()
        );
        (dialect.said(&answer), call)
    }
}

/// Each dialect with the models of the other one.
const ACROSS: [(Dialect, &str); 4] = [
    (Dialect::OpenAi, "claude"),
    (Dialect::OpenAi, "plain-claude"),
    (Dialect::Anthropic, "gpt"),
    (Dialect::Anthropic, "plain-gpt"),
];

fn streamed(body: &Value) -> Value {
    let mut body = body.clone();
    body["stream"] = json!(true);
    body
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": false,
    })
}

fn tools(dialect: Dialect) -> Value {
    let names = ["weather", "time"];
    match dialect {
        Dialect::OpenAi => names
            .map(|name| json!({"type": "function", "function": {"name": name, "description": "Tells it.", "parameters": schema()}}))
            .into(),
        Dialect::Anthropic => {
            names.map(|name| json!({"name": name, "description": "Tells it.", "input_schema": schema()})).into()
        }
    }
}

#[test]
fn text_arrives_and_comes_back() {
    let lab = Lab::new("");
    for (dialect, model) in ACROSS {
        let body = dialect.body(model, "Grüße, \"Welt\" \u{1F30D}\n", false);
        for body in [&body, &streamed(&body)] {
            let (said, call) = lab.ask(dialect, body);
            assert_eq!(
                said.text, "Grüße, \"Welt\" \u{1F30D}\n",
                "{dialect:?}, {model}"
            );
            let finish = if dialect == Dialect::OpenAi {
                "stop"
            } else {
                "end_turn"
            };
            assert_eq!(said.finish.as_deref(), Some(finish));
            assert_ne!(call.protocol.unwrap().name(), dialect.protocol());
        }
    }
}

#[test]
fn system_developer_and_earlier_turns_are_all_said() {
    let lab = Lab::new("");
    let body = json!({
        "model": "claude", "max_tokens": 100, "temperature": 0.5, "stop": ["END", "STOP"], "user": "u-1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "Two."},
            {"role": "user", "content": [{"type": "text", "text": "Three"}, {"type": "text", "text": "and four?"}]},
        ],
    });
    let (_, call) = lab.ask(Dialect::OpenAi, &body);
    let sent = call.json();
    let system = sent["system"].to_string();
    assert!(
        system.contains("Be brief.") && system.contains("Be kind."),
        "{sent}"
    );
    let roles: Vec<&str> = sent["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|turn| turn["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    let last = sent["messages"][2].to_string();
    assert!(
        last.contains("Three") && last.contains("and four?"),
        "{sent}"
    );
    assert_eq!(
        (&sent["max_tokens"], &sent["temperature"]),
        (&json!(100), &json!(0.5))
    );
    assert_eq!(sent["stop_sequences"], json!(["END", "STOP"]));
    assert_eq!(sent["metadata"]["user_id"], "u-1");
    assert_eq!(sent["model"], "claude-sonnet-4-5");

    let body = json!({
        "model": "gpt", "max_tokens": 100, "temperature": 0.5, "stop_sequences": ["END"], "metadata": {"user_id": "u-1"},
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        "messages": [
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": [{"type": "text", "text": "Two."}]},
            {"role": "user", "content": "Three?"},
        ],
    });
    let (_, call) = lab.ask(Dialect::Anthropic, &body);
    let sent = call.json();
    let turns = sent["messages"].as_array().unwrap();
    let roles: Vec<&str> = turns
        .iter()
        .map(|turn| turn["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"], "{sent}");
    let system = turns[0]["content"].to_string();
    assert!(
        system.contains("Be brief.") && system.contains("Be kind."),
        "{sent}"
    );
    assert_eq!(
        (&sent["stop"], &sent["temperature"]),
        (&json!(["END"]), &json!(0.5))
    );
    assert_eq!(
        (&sent["user"], &sent["model"]),
        (&json!("u-1"), &json!("gpt-4o"))
    );
    assert_eq!(
        sent.get("max_completion_tokens").or(sent.get("max_tokens")),
        Some(&json!(100))
    );
}

#[test]
fn a_conversation_with_tools_goes_all_the_way() {
    let lab = Lab::new("");
    for (dialect, model) in ACROSS {
        for stream in [false, true] {
            let case = format!("{dialect:?}, {model}, stream {stream}");
            lab.script(
                r#"
                [default]
                text = "Let me look."
                tools = [{ name = "weather", arguments = { city = "Rome", days = 2 } }, { name = "time", arguments = { city = "Oslo \u2603", days = 3 } }]
                chunks = 7
                "#,
            );
            let mut body = dialect.body(model, "What of Rome?", stream);
            body["tools"] = tools(dialect);
            let (said, call) = lab.ask(dialect, &body);
            assert_eq!(
                call.json()["tools"].as_array().map(Vec::len),
                Some(2),
                "{case}"
            );
            assert_eq!(said.text, "Let me look.", "{case}");
            let calls: Vec<(&str, &Value)> = said
                .tools
                .iter()
                .map(|(_, name, input)| (name.as_str(), input))
                .collect();
            let (rome, oslo) = (
                json!({"city": "Rome", "days": 2}),
                json!({"city": "Oslo \u{2603}", "days": 3}),
            );
            assert_eq!(calls, [("weather", &rome), ("time", &oslo)], "{case}");
            assert!(
                !said.tools[0].0.is_empty() && said.tools[0].0 != said.tools[1].0,
                "{case}: {:?}",
                said.tools
            );
            let finish = if dialect == Dialect::OpenAi {
                "tool_calls"
            } else {
                "tool_use"
            };
            assert_eq!(said.finish.as_deref(), Some(finish), "{case}");
            // The calls and their results go back, as the client's SDK would send them.
            lab.script("");
            let turns = body["messages"].as_array_mut().unwrap();
            match dialect {
                Dialect::OpenAi => {
                    let calls: Vec<Value> = said
                        .tools
                        .iter()
                        .map(|(id, name, input)| json!({"id": id, "type": "function", "function": {"name": name, "arguments": input.to_string()}}))
                        .collect();
                    turns.push(
                        json!({"role": "assistant", "content": said.text, "tool_calls": calls}),
                    );
                    for ((id, _, _), text) in said.tools.iter().zip(["Sunny.", "Noon."]) {
                        turns.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
                    }
                }
                Dialect::Anthropic => {
                    let mut blocks = vec![json!({"type": "text", "text": said.text})];
                    blocks.extend(said.tools.iter().map(|(id, name, input)| json!({"type": "tool_use", "id": id, "name": name, "input": input})));
                    turns.push(json!({"role": "assistant", "content": blocks}));
                    turns.push(json!({"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": said.tools[0].0, "content": "Sunny."},
                        {"type": "tool_result", "tool_use_id": said.tools[1].0, "content": [{"type": "text", "text": "Noon."}], "is_error": false},
                        {"type": "text", "text": "And?"},
                    ]}));
                }
            }
            let (_, call) = lab.ask(dialect, &body);
            let sent = call.json().to_string();
            for text in [
                "Sunny.",
                "Noon.",
                "Let me look.",
                &said.tools[0].0,
                &said.tools[1].0,
            ] {
                assert!(sent.contains(text), "{case}: {text} is missing in {sent}");
            }
        }
    }
}

#[test]
fn a_choice_of_tools_is_kept() {
    let lab = Lab::new("");
    let openai = [
        (json!("auto"), json!({"type": "auto"})),
        (json!("required"), json!({"type": "any"})),
        (
            json!({"type": "function", "function": {"name": "time"}}),
            json!({"type": "tool", "name": "time"}),
        ),
    ];
    for (choice, expected) in &openai {
        let mut body = Dialect::OpenAi.body("claude", "hi", false);
        body["tools"] = tools(Dialect::OpenAi);
        body["tool_choice"] = choice.clone();
        let (said, call) = lab.ask(Dialect::OpenAi, &body);
        assert_eq!(&call.json()["tool_choice"], expected);
        if expected["type"] != "auto" {
            let name = expected["name"].as_str().unwrap_or("weather");
            assert_eq!(
                (said.tools.len(), said.tools[0].1.as_str()),
                (1, name),
                "{choice}"
            );
        }
        let mut body = Dialect::Anthropic.body("gpt", "hi", false);
        body["tools"] = tools(Dialect::Anthropic);
        body["tool_choice"] = expected.clone();
        let (_, call) = lab.ask(Dialect::Anthropic, &body);
        assert_eq!(&call.json()["tool_choice"], choice);
    }
    let mut body = Dialect::OpenAi.body("claude", "hi", false);
    body["tools"] = tools(Dialect::OpenAi);
    body["parallel_tool_calls"] = json!(false);
    let (_, call) = lab.ask(Dialect::OpenAi, &body);
    assert_eq!(
        call.json()["tool_choice"],
        json!({"type": "auto", "disable_parallel_tool_use": true})
    );
    let mut body = Dialect::Anthropic.body("gpt", "hi", false);
    body["tools"] = tools(Dialect::Anthropic);
    body["tool_choice"] = json!({"type": "auto", "disable_parallel_tool_use": true});
    let (_, call) = lab.ask(Dialect::Anthropic, &body);
    assert_eq!(call.json()["parallel_tool_calls"], json!(false));
}

#[test]
fn images_are_shown_by_url_and_by_value() {
    let lab = Lab::new("");
    let mut body = Dialect::OpenAi.body("claude", "hi", false);
    body["messages"][0]["content"] = json!([
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{PIXEL}")}},
    ]);
    let (_, call) = lab.ask(Dialect::OpenAi, &body);
    let blocks = &call.json()["messages"][0]["content"];
    assert_eq!(
        blocks[1],
        json!({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}})
    );
    assert_eq!(
        blocks[2],
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}})
    );

    let mut body = Dialect::Anthropic.body("gpt", "hi", false);
    body["messages"][0]["content"] = json!([
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"type": "text", "text": "What is it?"},
    ]);
    let (_, call) = lab.ask(Dialect::Anthropic, &body);
    let parts = &call.json()["messages"][0]["content"];
    assert_eq!(parts[0]["image_url"]["url"], "https://example.com/a.png");
    assert_eq!(
        parts[1]["image_url"]["url"],
        format!("data:image/png;base64,{PIXEL}")
    );
    assert_eq!(parts[2]["text"], "What is it?");
}

#[test]
fn structured_output_is_json_natively_or_by_a_tool() {
    let lab = Lab::new("");
    let expected = json!({"city": "text", "days": 1});
    for model in ["claude", "plain-claude"] {
        let mut body = Dialect::OpenAi.body(model, "Which city?", false);
        body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema()}});
        for body in [&body, &streamed(&body)] {
            let (said, call) = lab.ask(Dialect::OpenAi, body);
            let sent = call.json();
            assert_eq!(
                sent["output_config"]["format"].is_object(),
                model == "claude",
                "{sent}"
            );
            assert_eq!(
                sent["tool_choice"]["type"] == "tool",
                model == "plain-claude",
                "{sent}"
            );
            assert_eq!(
                serde_json::from_str::<Value>(&said.text).unwrap(),
                expected,
                "{model}: {said:?}"
            );
            assert!(said.tools.is_empty(), "the trick is not seen: {said:?}");
            assert_eq!(said.finish.as_deref(), Some("stop"), "{model}");
        }
    }
    // The last one is known to have tools alone.
    for model in ["gpt", "plain-gpt", "openai/gpt-4-turbo"] {
        let mut body = Dialect::Anthropic.body(model, "Which city?", false);
        body["output_config"] = json!({"format": {"type": "json_schema", "schema": schema()}});
        for body in [&body, &streamed(&body)] {
            let (said, call) = lab.ask(Dialect::Anthropic, body);
            let sent = call.json();
            let native = sent["response_format"]["type"] == "json_schema";
            assert_ne!(native, sent["tool_choice"].is_object(), "one way: {sent}");
            assert!(native == (model == "gpt") || model == "plain-gpt", "{sent}");
            assert_eq!(
                serde_json::from_str::<Value>(&said.text).unwrap(),
                expected,
                "{model}: {said:?}"
            );
            assert!(said.tools.is_empty(), "{said:?}");
            assert_eq!(said.finish.as_deref(), Some("end_turn"), "{model}");
        }
    }
}

#[test]
fn thinking_is_asked_for_told_and_taken_back() {
    let lab = Lab::new(
        "[default]\nthinking = \"Let me think.\"\nsignature = \"c2lnbmVk\"\nredacted_thinking = \"c2VjcmV0\"\ntext = \"So it is.\"",
    );
    let mut body = Dialect::OpenAi.body("claude", "Why?", false);
    body["reasoning_effort"] = json!("medium");
    body["max_completion_tokens"] = json!(20_000);
    for body in [&body, &streamed(&body)] {
        let (said, call) = lab.ask(Dialect::OpenAi, body);
        let sent = call.json();
        assert_eq!(sent["thinking"]["type"], "enabled", "{sent}");
        assert!(
            sent["thinking"]["budget_tokens"]
                .as_u64()
                .is_some_and(|budget| (1024..20_000).contains(&budget)),
            "{sent}"
        );
        assert_eq!(
            (said.thinking.as_str(), said.text.as_str()),
            ("Let me think.", "So it is.")
        );
    }
    // A client that sends its whole answer back keeps the signature and the redacted part.
    let answer = lab.post(Dialect::OpenAi, &body).json();
    let mut again = body.clone();
    let turns = again["messages"].as_array_mut().unwrap();
    turns.push(answer["choices"][0]["message"].clone());
    turns.push(json!({"role": "user", "content": "Really?"}));
    let (_, call) = lab.ask(Dialect::OpenAi, &again);
    let blocks = call.json()["messages"][1]["content"].clone();
    let kinds: Vec<&str> = blocks
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["thinking", "redacted_thinking", "text"], "{blocks}");
    assert_eq!(
        (&blocks[0]["thinking"], &blocks[0]["signature"]),
        (&json!("Let me think."), &json!("c2lnbmVk"))
    );
    assert_eq!(blocks[1]["data"], "c2VjcmV0");

    let mut body = Dialect::Anthropic.body("thinker", "Why?", false);
    body["max_tokens"] = json!(20_000);
    body["thinking"] = json!({"type": "enabled", "budget_tokens": 10_000});
    for body in [&body, &streamed(&body)] {
        let (said, call) = lab.ask(Dialect::Anthropic, body);
        assert_eq!(call.json()["reasoning_effort"], "medium", "{}", call.json());
        assert_eq!(
            (said.thinking.as_str(), said.text.as_str()),
            ("Let me think.", "So it is.")
        );
    }
}
