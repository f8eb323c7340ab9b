//! The two dialects as a client sees them: what it asks, and what an answer says in either form.

use serde_json::{Value, json};

use super::{Answer, chat, message};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    OpenAi,
    Anthropic,
}

impl Dialect {
    pub const ALL: [Dialect; 2] = [Dialect::OpenAi, Dialect::Anthropic];

    pub fn protocol(self) -> &'static str {
        match self {
            Dialect::OpenAi => "openai-chat",
            Dialect::Anthropic => "anthropic",
        }
    }

    pub fn path(self) -> &'static str {
        match self {
            Dialect::OpenAi => "/v1/chat/completions",
            Dialect::Anthropic => "/v1/messages",
        }
    }

    pub fn body(self, model: &str, text: &str, stream: bool) -> Value {
        let mut body = match self {
            Dialect::OpenAi => chat(model, text),
            Dialect::Anthropic => message(model, text),
        };
        if stream {
            body["stream"] = json!(true);
        }
        body
    }

    /// What a whole answer, or a stream that ended well, says.
    pub fn said(self, answer: &Answer) -> Said {
        if !is_stream(answer) {
            return match self {
                Dialect::OpenAi => openai_whole(&answer.json()),
                Dialect::Anthropic => anthropic_whole(&answer.json()),
            };
        }
        assert!(answer.complete, "the body was cut: {}", answer.text());
        match self {
            Dialect::OpenAi => openai_stream(answer),
            Dialect::Anthropic => anthropic_stream(answer),
        }
    }

    /// The message of an error in the dialect's own shape.
    pub fn error(self, json: &Value) -> Option<String> {
        if self == Dialect::Anthropic && json["type"] != "error" {
            return None;
        }
        if !json["error"]["type"].is_string() {
            return None;
        }
        json["error"]["message"]
            .as_str()
            .filter(|message| !message.is_empty())
            .map(str::to_owned)
    }
}

/// What an answer says, whatever its form.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Said {
    pub text: String,
    pub thinking: String,
    /// Id, name and arguments of each call, in order.
    pub tools: Vec<(String, String, Value)>,
    pub finish: Option<String>,
    /// `null` where none was told.
    pub usage: Value,
    pub model: String,
}

pub fn is_stream(answer: &Answer) -> bool {
    answer
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("text/event-stream"))
}

/// The JSON of every event of a stream.
pub fn events(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {data}")))
        .collect()
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn parsed(arguments: &str) -> Value {
    serde_json::from_str(arguments)
        .unwrap_or_else(|error| panic!("{error} in the arguments {arguments}"))
}

fn openai_whole(body: &Value) -> Said {
    let choice = &body["choices"][0];
    let message = &choice["message"];
    let tools = message["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|call| {
            let function = &call["function"];
            (
                text_of(&call["id"]),
                text_of(&function["name"]),
                parsed(&text_of(&function["arguments"])),
            )
        });
    Said {
        text: text_of(&message["content"]),
        thinking: text_of(&message["reasoning_content"]),
        tools: tools.collect(),
        finish: choice["finish_reason"].as_str().map(str::to_owned),
        usage: body["usage"].clone(),
        model: text_of(&body["model"]),
    }
}

fn openai_stream(answer: &Answer) -> Said {
    assert!(
        answer.text().trim_end().ends_with("data: [DONE]"),
        "no end: {}",
        answer.text()
    );
    let mut said = Said::default();
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for event in events(answer) {
        said.model = text_of(&event["model"]);
        if event["usage"].is_object() {
            said.usage = event["usage"].clone();
        }
        let choice = &event["choices"][0];
        let delta = &choice["delta"];
        said.text += delta["content"].as_str().unwrap_or_default();
        said.thinking += delta["reasoning_content"].as_str().unwrap_or_default();
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            assert!(index <= calls.len(), "an index was left out: {event}");
            if index == calls.len() {
                calls.push((
                    text_of(&call["id"]),
                    text_of(&call["function"]["name"]),
                    String::new(),
                ));
            }
            calls[index].2 += call["function"]["arguments"].as_str().unwrap_or_default();
        }
        if let Some(finish) = choice["finish_reason"].as_str() {
            assert_eq!(said.finish, None, "a second finish");
            said.finish = Some(finish.to_owned());
        }
    }
    said.tools = calls
        .into_iter()
        .map(|(id, name, arguments)| (id, name, parsed(&arguments)))
        .collect();
    said
}

fn anthropic_whole(body: &Value) -> Said {
    assert_eq!(body["type"], "message", "{body}");
    let mut said = Said {
        finish: body["stop_reason"].as_str().map(str::to_owned),
        usage: body["usage"].clone(),
        model: text_of(&body["model"]),
        ..Said::default()
    };
    for block in body["content"].as_array().unwrap() {
        match block["type"].as_str() {
            Some("text") => said.text += block["text"].as_str().unwrap(),
            Some("thinking") => said.thinking += block["thinking"].as_str().unwrap(),
            Some("tool_use") => said.tools.push((
                text_of(&block["id"]),
                text_of(&block["name"]),
                block["input"].clone(),
            )),
            _ => {}
        }
    }
    said
}

/// Also checks the order that the official SDKs rely on: blocks are opened, filled and closed one after another.
fn anthropic_stream(answer: &Answer) -> Said {
    let mut said = Said::default();
    let mut open: Option<u64> = None;
    let mut next = 0;
    let mut arguments = String::new();
    let events: Vec<Value> = events(answer)
        .into_iter()
        .filter(|event| event["type"] != "ping")
        .collect();
    assert_eq!(
        events
            .last()
            .map(|event| text_of(&event["type"]))
            .as_deref(),
        Some("message_stop"),
        "{}",
        answer.text()
    );
    for event in events {
        match event["type"].as_str() {
            Some("message_start") => {
                said.model = text_of(&event["message"]["model"]);
                said.usage = event["message"]["usage"].clone();
            }
            Some("content_block_start") => {
                assert_eq!(open, None, "a block inside a block: {event}");
                assert_eq!(event["index"].as_u64(), Some(next), "{event}");
                open = Some(next);
                next += 1;
                let block = &event["content_block"];
                if block["type"] == "tool_use" {
                    arguments.clear();
                    said.tools
                        .push((text_of(&block["id"]), text_of(&block["name"]), Value::Null));
                }
            }
            Some("content_block_delta") => {
                assert_eq!(event["index"].as_u64(), open, "{event}");
                let delta = &event["delta"];
                said.text += delta["text"].as_str().unwrap_or_default();
                said.thinking += delta["thinking"].as_str().unwrap_or_default();
                arguments += delta["partial_json"].as_str().unwrap_or_default();
            }
            Some("content_block_stop") => {
                assert_eq!(event["index"].as_u64(), open, "{event}");
                open = None;
                if let Some((_, _, input @ Value::Null)) = said.tools.last_mut() {
                    *input = if arguments.is_empty() {
                        json!({})
                    } else {
                        parsed(&arguments)
                    };
                }
            }
            Some("message_delta") => {
                said.finish = event["delta"]["stop_reason"].as_str().map(str::to_owned);
                for (name, count) in event["usage"].as_object().into_iter().flatten() {
                    said.usage[name] = count.clone();
                }
            }
            _ => {}
        }
    }
    assert_eq!(open, None, "a block was left open");
    said
}
