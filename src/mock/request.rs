//! What of a request decides its answer.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::dialect::Dialect;
use super::route::{Api, Route};
use super::script::ToolCall;
use super::values::Arguments;
use super::{anthropic, bedrock, cohere, google, ollama, openai};

/// A chat request, as far as the answer depends on it.
#[derive(Debug)]
pub(super) struct Asked {
    pub dialect: Dialect,
    pub model: String,
    pub stream: bool,
    /// A stream is one of server-sent events, where the dialect has another form too.
    pub sse: bool,
    pub include_usage: bool,
    /// Reasoning comes with its encrypted content.
    pub encrypted: bool,
    pub n: u32,
    pub prompt_tokens: u64,
    /// The text of the last user message that has any.
    pub last_text: String,
    /// How many messages there are.
    pub turn: usize,
    /// The call that `tool_choice` forces, with arguments that fit its schema.
    pub forced: Option<ToolCall>,
    /// The JSON that the wanted output format forces.
    pub document: Option<String>,
    /// An image is wanted beside the text.
    pub image: bool,
    /// What of the request its answer repeats; `Null` for nothing.
    pub echo: Value,
}

/// The most answers to one request (OpenAI's own bound).
const N_MAX: u64 = 128;
/// The most bytes of an echo.
const ECHO_MAX: usize = 1 << 20;
/// The most values in a sample of a schema.
const SAMPLE_MAX: u32 = 1000;

impl Asked {
    fn empty(route: &Route<'_>) -> Self {
        Self {
            dialect: route.dialect,
            model: route.model.as_deref().unwrap_or("mock").to_owned(),
            // Ollama alone streams unless told otherwise.
            stream: route
                .stream
                .unwrap_or(route.dialect == Dialect::Ollama && route.api == Api::Chat),
            sse: route.sse,
            include_usage: false,
            encrypted: false,
            n: 1,
            prompt_tokens: 1,
            last_text: "Hello from the fake provider.".to_owned(),
            turn: 0,
            forced: None,
            document: None,
            image: false,
            echo: Value::Null,
        }
    }

    /// Reads a parsed body; what isn't there or isn't right is as if not asked for.
    pub fn read(route: &Route<'_>, body: &Value) -> Self {
        let mut asked = Self::empty(route);
        if let Some(model) = body["model"].as_str().filter(|_| route.model.is_none()) {
            model.clone_into(&mut asked.model);
        }
        if let Some(stream) = body["stream"].as_bool().filter(|_| route.stream.is_none()) {
            asked.stream = stream;
        }
        match route.dialect {
            Dialect::OpenaiChat | Dialect::Openai => openai::ask::chat(&mut asked, body),
            Dialect::OpenaiCompletions => openai::ask::completions(&mut asked, body),
            Dialect::OpenaiResponses => openai::ask::responses(&mut asked, body),
            Dialect::Anthropic | Dialect::VertexAnthropic | Dialect::BedrockInvoke => {
                anthropic::ask::read(&mut asked, body);
            }
            Dialect::Gemini | Dialect::VertexPredict => google::ask::read(&mut asked, body),
            Dialect::Bedrock => bedrock::ask::read(&mut asked, body),
            Dialect::Cohere => cohere::ask::read(&mut asked, body),
            Dialect::Ollama => ollama::ask::read(&mut asked, body),
        }
        asked
    }

    /// Takes how many answers are wanted.
    pub fn count_answers(&mut self, wanted: &Value) {
        self.n = wanted.as_u64().map_or(1, |n| n.clamp(1, N_MAX)) as u32;
    }

    /// Listens to `system` and `messages`, as most dialects have them.
    pub fn hear_messages(&mut self, body: &Value) {
        let before = text_of(&body["system"]).chars().count();
        let messages = list(&body["messages"]).iter();
        self.hear(
            messages.map(|message| (message["role"] == "user", text_of(&message["content"]))),
            before,
        );
    }

    /// Takes the turns of a conversation, each with whether a user said it; `before` characters came ahead.
    pub fn hear<'v>(&mut self, turns: impl Iterator<Item = (bool, Cow<'v, str>)>, before: usize) {
        let mut characters = before;
        for (is_user, text) in turns {
            self.turn += 1;
            characters += text.chars().count();
            if is_user && !text.is_empty() {
                text[..text.floor_char_boundary(ECHO_MAX)].clone_into(&mut self.last_text);
            }
        }
        self.prompt_tokens = (characters as u64).div_ceil(4).max(1);
    }

    /// Has the answer call a tool: the one wanted, or the first.
    pub fn force<'v>(
        &mut self,
        mut tools: impl Iterator<Item = &'v Value>,
        wanted: Option<&str>,
        arguments: impl FnOnce(&Value) -> Value,
    ) {
        let tool = tools.find(|tool| wanted.is_none_or(|name| tool["name"] == name));
        self.forced = tool.and_then(|tool| {
            Some(ToolCall {
                name: tool["name"].as_str()?.to_owned(),
                id: None,
                arguments: Arguments(arguments(tool).to_string()),
            })
        });
    }

    /// Looks for the few fields that matter by their bytes, and parses nothing: enough for a fixed answer, in
    /// a benchmark. The prompt is counted by the size of the body.
    pub fn scan(route: &Route<'_>, body: &[u8]) -> Self {
        let mut asked = Self::empty(route);
        if route.model.is_none()
            && let Some(value) = find_value(body, b"\"model\"")
            && let Some(inner) = value.strip_prefix(b"\"")
            && let Some(end) = memchr::memchr(b'"', inner)
            && let Ok(model) = std::str::from_utf8(&inner[..end])
        {
            model.clone_into(&mut asked.model);
        }
        if route.stream.is_none()
            && let Some(value) = find_value(body, b"\"stream\"")
        {
            asked.stream = value.starts_with(b"true");
        }
        asked.include_usage = asked.stream
            && find_value(body, b"\"include_usage\"")
                .is_some_and(|value| value.starts_with(b"true"));
        asked.prompt_tokens = (body.len() as u64).div_ceil(4).max(1);
        asked
    }
}

/// Returns what follows the first `"key" :` that is not inside a string.
fn find_value<'b>(body: &'b [u8], key: &[u8]) -> Option<&'b [u8]> {
    memchr::memmem::find_iter(body, key).find_map(|at| {
        if at > 0 && body[at - 1] == b'\\' {
            return None;
        }
        Some(
            body[at + key.len()..]
                .trim_ascii_start()
                .strip_prefix(b":")?
                .trim_ascii_start(),
        )
    })
}

/// Returns the elements of a list; of anything else, none.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Returns the text of a content: a string, or the text parts of a list, one a line.
pub(super) fn text_of(content: &Value) -> Cow<'_, str> {
    if let Some(text) = content.as_str() {
        return Cow::Borrowed(text);
    }
    let mut texts = content
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|part| part["text"].as_str());
    let Some(first) = texts.next() else {
        return Cow::Borrowed("");
    };
    let mut joined = Cow::Borrowed(first);
    for text in texts {
        let joined = joined.to_mut();
        joined.push('\n');
        joined.push_str(text);
    }
    joined
}

/// Returns a small value that fits a JSON schema, as far as its plain words go.
pub(super) fn sample(schema: &Value) -> Value {
    let mut left = SAMPLE_MAX;
    sample_within(schema, schema, 16, &mut left)
}

fn sample_within(schema: &Value, root: &Value, depth: u32, left: &mut u32) -> Value {
    if depth == 0 || *left == 0 {
        return Value::Null;
    }
    *left -= 1;
    if let Some(reference) = schema["$ref"].as_str() {
        let target = reference
            .strip_prefix('#')
            .and_then(|pointer| root.pointer(pointer));
        return target.map_or(Value::Null, |target| {
            sample_within(target, root, depth - 1, left)
        });
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(value) = schema["enum"].as_array().and_then(|values| values.first()) {
        return value.clone();
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        let options = schema[choice].as_array().into_iter().flatten();
        if let Some(option) = options.into_iter().find(|option| option["type"] != "null") {
            return sample_within(option, root, depth - 1, left);
        }
    }
    let kinds = schema["type"]
        .as_array()
        .map_or(std::slice::from_ref(&schema["type"]), Vec::as_slice);
    let kind = kinds
        .iter()
        .filter_map(Value::as_str)
        // Gemini's own schemas write them in capitals.
        .map(str::to_ascii_lowercase)
        .find(|kind| kind != "null");
    match kind.as_deref() {
        Some("string") => Value::from("text"),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(Value::from(1)),
        Some("boolean") => Value::from(true),
        Some("array") => {
            let count = schema["minItems"].as_u64().unwrap_or(1).min(16);
            (0..count)
                .map(|_| sample_within(&schema["items"], root, depth - 1, left))
                .collect()
        }
        Some("object") | None => {
            let mut object = Map::new();
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                if *left == 0 {
                    break;
                }
                object.insert(name.clone(), sample_within(property, root, depth - 1, left));
            }
            Value::Object(object)
        }
        Some(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sample_fits_its_schema() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string"}, "unit": {"enum": ["c", "f"]}, "days": {"type": ["null", "integer"]},
                "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}}, "maybe": {"anyOf": [{"type": "null"},
                {"type": "boolean"}]}
            },
            "$defs": {"tag": {"type": "object", "properties": {"self": {"$ref": "#/$defs/tag"}}}}
        });
        let value = sample(&schema);
        assert_eq!(value["city"], "text");
        assert_eq!(value["unit"], "c");
        assert_eq!(value["days"], 1);
        assert_eq!(value["maybe"], true);
        assert!(
            value["tags"][0]["self"].is_object(),
            "a schema of itself ends at a depth"
        );
    }

    #[test]
    fn a_schema_that_doubles_at_every_depth_stays_small() {
        let names: Vec<String> = (0..50).map(|name| format!("p{name}")).collect();
        let properties: Map<String, Value> = names
            .into_iter()
            .map(|name| (name, json!({"$ref": "#"})))
            .collect();
        assert!(
            sample(&json!({"type": "object", "properties": properties}))
                .to_string()
                .len()
                < 100_000
        );
    }

    #[test]
    fn scanning_finds_what_reading_finds() {
        for body in [
            r#"{"model":"m","stream":true,"messages":[],"stream_options":{"include_usage":true}}"#,
            r#"{"messages":[{"role":"user","content":"say \"stream\": true"}],"model" : "m"}"#,
            r#"{"model":"m","stream": false}"#,
        ] {
            let route = Route::of("/v1/chat/completions", None).expect("a path that is spoken");
            let scanned = Asked::scan(&route, body.as_bytes());
            let read = Asked::read(&route, &serde_json::from_str(body).expect("a test's body"));
            assert_eq!(
                (scanned.model, scanned.stream, scanned.include_usage),
                (read.model, read.stream, read.include_usage),
                "{body}"
            );
        }
    }
}
