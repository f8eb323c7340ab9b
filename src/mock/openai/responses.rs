//! Answers in the words of OpenAI responses, <https://platform.openai.com/docs/api-reference/responses>.

use serde_json::{Value, json};

use super::super::answers::{ErrorSaid, Finish, Piece, Said, Usage, pieces};
use super::super::json::{Object, Raw, event};
use super::chat::error_words;

/// A constant, so that equal requests have equal answers.
const CREATED: u64 = 1_700_000_000;

/// Returns a whole `response`.
pub(in crate::mock) fn whole(said: &Said<'_>) -> Vec<u8> {
    response(said, ended(said), &items(said), true).end()
}

/// Returns the events of a streamed response.
pub(in crate::mock) fn stream(said: &Said<'_>) -> Vec<Piece> {
    let mut events = Events {
        frames: Vec::with_capacity(said.chunks + 12),
    };
    events.open("response.created", |it| {
        it.set("response", response(said, "in_progress", &[], false))
    });
    events.open("response.in_progress", |it| {
        it.set("response", response(said, "in_progress", &[], false))
    });
    let items = items(said);
    for (at, item) in items.iter().enumerate() {
        events.open("response.output_item.added", |it| {
            it.set("output_index", at).set("item", item.begun())
        });
        let place = |it: Object| it.set("item_id", &item.id).set("output_index", at);
        match &item.kind {
            Kind::Reasoning { text, .. } => {
                if let Some(text) = text {
                    let place = |it| place(it).set("summary_index", 0u32);
                    let part = |text| Object::new().set("type", "summary_text").set("text", text);
                    events.open("response.reasoning_summary_part.added", |it| {
                        place(it).set("part", part(""))
                    });
                    for piece in pieces(text, said.chunks) {
                        events.content("response.reasoning_summary_text.delta", |it| {
                            place(it).set("delta", piece)
                        });
                    }
                    events.open("response.reasoning_summary_text.done", |it| {
                        place(it).set("text", *text)
                    });
                    events.open("response.reasoning_summary_part.done", |it| {
                        place(it).set("part", part(text))
                    });
                }
            }
            Kind::Message(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    part.stream(&mut events, said.chunks, |it| {
                        place(it).set("content_index", index)
                    });
                }
            }
            Kind::Call {
                name, arguments, ..
            } => {
                for piece in pieces(arguments, said.chunks) {
                    events.content("response.function_call_arguments.delta", |it| {
                        place(it).set("delta", piece)
                    });
                }
                events.open("response.function_call_arguments.done", |it| {
                    place(it).set("name", *name).set("arguments", *arguments)
                });
            }
        }
        events.open("response.output_item.done", |it| {
            it.set("output_index", at).set("item", item.done())
        });
    }
    if !said.omit_done {
        let status = ended(said);
        events.open(&format!("response.{status}"), |it| {
            it.set("response", response(said, status, &items, true))
        });
    }
    events.frames
}

/// Events, numbered as they come.
struct Events {
    frames: Vec<Piece>,
}

impl Events {
    fn write(&self, name: &str, fill: impl FnOnce(Object) -> Object) -> Vec<u8> {
        let object = Object::new()
            .set("type", name)
            .set("sequence_number", self.frames.len());
        event(name, fill(object))
    }

    /// Adds an event that carries no content.
    fn open(&mut self, name: &str, fill: impl FnOnce(Object) -> Object) {
        self.frames.push(Piece::frame(self.write(name, fill)));
    }

    fn content(&mut self, name: &str, fill: impl FnOnce(Object) -> Object) {
        self.frames.push(Piece::content(self.write(name, fill)));
    }
}

/// An item of the output.
struct Item<'a> {
    id: String,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Reasoning {
        text: Option<&'a str>,
        encrypted: Option<&'a str>,
    },
    Message(Vec<Part<'a>>),
    Call {
        call_id: String,
        name: &'a str,
        arguments: &'a str,
    },
}

enum Part<'a> {
    Text(&'a str),
    Refusal(&'a str),
}

fn items<'a>(said: &'a Said<'_>) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    let mut add = |prefix: &str, kind| {
        let id = format!("{prefix}_mock_{}_{}", said.turn, items.len());
        items.push(Item { id, kind });
    };
    let encrypted = said.asked.encrypted.then_some(said.signature);
    if let Some(text) = said.thinking {
        let text = Some(text);
        add("rs", Kind::Reasoning { text, encrypted });
    }
    if let Some(data) = said.redacted_thinking {
        let encrypted = encrypted.map(|_| data);
        let text = None;
        add("rs", Kind::Reasoning { text, encrypted });
    }
    let parts: Vec<Part<'_>> = said
        .text
        .as_deref()
        .map(Part::Text)
        .into_iter()
        .chain(said.refusal.map(Part::Refusal))
        .collect();
    if !parts.is_empty() {
        add("msg", Kind::Message(parts));
    }
    for (at, tool) in said.tools.iter().enumerate() {
        add(
            "fc",
            Kind::Call {
                call_id: said.tool_id("call", at, tool),
                name: &tool.name,
                arguments: &tool.arguments.0,
            },
        );
    }
    items
}

impl Item<'_> {
    fn begun(&self) -> Object {
        self.write(false)
    }

    fn done(&self) -> Object {
        self.write(true)
    }

    fn write(&self, is_done: bool) -> Object {
        let status = if is_done { "completed" } else { "in_progress" };
        let object = Object::new().set("id", &self.id);
        match &self.kind {
            Kind::Reasoning { text, encrypted } => {
                let summary: Vec<Object> = text
                    .filter(|_| is_done)
                    .map(|text| Object::new().set("type", "summary_text").set("text", text))
                    .into_iter()
                    .collect();
                object
                    .set("type", "reasoning")
                    .set("summary", summary)
                    .some("encrypted_content", *encrypted)
            }
            Kind::Message(parts) => {
                let parts = if is_done { parts.as_slice() } else { &[] };
                let parts: Vec<Object> = parts.iter().map(|part| part.write(true)).collect();
                object
                    .set("type", "message")
                    .set("status", status)
                    .set("role", "assistant")
                    .set("content", parts)
            }
            Kind::Call {
                call_id,
                name,
                arguments,
            } => object
                .set("type", "function_call")
                .set("status", status)
                .set("call_id", call_id)
                .set("name", *name)
                .set("arguments", if is_done { arguments } else { "" }),
        }
    }
}

impl Part<'_> {
    fn write(&self, is_done: bool) -> Object {
        let object = Object::new();
        match self {
            Self::Text(text) => object
                .set("type", "output_text")
                .set("text", if is_done { text } else { "" })
                .set("annotations", Raw("[]"))
                .set("logprobs", Raw("[]")),
            Self::Refusal(text) => object
                .set("type", "refusal")
                .set("refusal", if is_done { text } else { "" }),
        }
    }

    fn stream(&self, events: &mut Events, chunks: usize, place: impl Fn(Object) -> Object) {
        events.open("response.content_part.added", |it| {
            place(it).set("part", self.write(false))
        });
        match self {
            Self::Text(text) => {
                for piece in pieces(text, chunks) {
                    events.content("response.output_text.delta", |it| {
                        place(it).set("delta", piece).set("logprobs", Raw("[]"))
                    });
                }
                events.open("response.output_text.done", |it| {
                    place(it).set("text", *text).set("logprobs", Raw("[]"))
                });
            }
            Self::Refusal(text) => {
                for piece in pieces(text, chunks) {
                    events.content("response.refusal.delta", |it| place(it).set("delta", piece));
                }
                events.open("response.refusal.done", |it| {
                    place(it).set("refusal", *text)
                });
            }
        }
        events.open("response.content_part.done", |it| {
            place(it).set("part", self.write(true))
        });
    }
}

fn ended(said: &Said<'_>) -> &'static str {
    match said.finish {
        Finish::Length | Finish::ContentFilter => "incomplete",
        Finish::Verbatim("failed") => "failed",
        Finish::Stop | Finish::StopSequence | Finish::ToolCalls | Finish::Verbatim(_) => {
            "completed"
        }
    }
}

fn response(said: &Said<'_>, status: &str, items: &[Item<'_>], is_done: bool) -> Object {
    let output: Vec<Object> = items.iter().map(Item::done).collect();
    let reason = match said.finish {
        Finish::Length => "max_output_tokens",
        Finish::ContentFilter => "content_filter",
        Finish::Stop | Finish::StopSequence | Finish::ToolCalls | Finish::Verbatim(_) => "",
    };
    let incomplete = (status == "incomplete").then(|| Object::new().set("reason", reason));
    let error = (status == "failed").then(|| {
        Object::new().set("code", "server_error").set(
            "message",
            "The server had an error while processing your request.",
        )
    });
    let mut object = Object::new()
        .set("id", id(said))
        .set("object", "response")
        .set("created_at", CREATED)
        .set("status", status)
        .set("completed_at", is_done.then_some(CREATED + 1))
        .set("error", error)
        .set("incomplete_details", incomplete)
        .set("model", said.model)
        .set("output", output);
    let echo = &said.asked.echo;
    for (name, default) in ECHOED {
        object = match echo.get(*name).filter(|value| !value.is_null()) {
            Some(value) => object.set(name, value),
            None => object.set(name, Raw(default)),
        };
    }
    let told = said.usage.as_ref().filter(|_| is_done);
    object.set("usage", told.map(|it| it.told(usage)))
}

/// Returns an id that follows from what was said, so that conversations have ids of their own.
fn id(said: &Said<'_>) -> String {
    let hash = said
        .asked
        .last_text
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
    format!("resp_mock_{}_{hash:08x}", said.turn)
}

/// What an answer repeats of its request, and what it says where nothing was asked for.
const ECHOED: &[(&str, &str)] = &[
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("reasoning", "{\"effort\":null,\"summary\":null}"),
    ("safety_identifier", "null"),
    ("service_tier", "\"default\""),
    ("store", "true"),
    ("temperature", "1.0"),
    (
        "text",
        "{\"format\":{\"type\":\"text\"},\"verbosity\":\"medium\"}",
    ),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1.0"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
];

/// Returns what of a request its answer repeats.
pub(in crate::mock) fn echo(body: &Value) -> Value {
    let mut echo = serde_json::Map::new();
    for (name, _) in ECHOED {
        if let Some(value) = body.get(*name) {
            echo.insert((*name).to_owned(), value.clone());
        }
    }
    if let Some(text) = echo.get_mut("text").and_then(Value::as_object_mut) {
        text.entry("format")
            .or_insert_with(|| json!({"type": "text"}));
    }
    // An answer says which tier it was, never `auto`.
    if echo.get("service_tier").is_some_and(|tier| tier == "auto") {
        echo.remove("service_tier");
    }
    Value::Object(echo)
}

fn usage(usage: &Usage) -> Object {
    Object::new()
        .set("input_tokens", usage.prompt)
        .set(
            "input_tokens_details",
            Object::new()
                .set("cached_tokens", usage.cached)
                .set("cache_write_tokens", usage.cache_write.unwrap_or(0)),
        )
        .set("output_tokens", usage.completion)
        .set(
            "output_tokens_details",
            Object::new().set("reasoning_tokens", usage.reasoning),
        )
        .set(
            "total_tokens",
            usage.prompt.saturating_add(usage.completion),
        )
}

/// Returns an error as an event.
pub(in crate::mock) fn error_event(error: &ErrorSaid<'_>) -> Vec<u8> {
    let (_, code, message) = error_words(error);
    event(
        "error",
        Object::new()
            .set("type", "error")
            .set("sequence_number", 0u32)
            .set("code", code.or(error.kind).unwrap_or("server_error"))
            .set("message", message)
            .set("param", error.param),
    )
}
