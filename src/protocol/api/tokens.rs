//! Tokens by estimate, where no provider counts them.
//!
//! One pass over the text, by classes of characters, weighed so that the sum comes near OpenAI's `o200k`; or by that
//! tokenizer itself, where a count is asked for and the program was built with it. Each family's tokenizer is then so
//! much finer. What a family wraps around messages and tools is added, and images are
//! counted by their size with the rule that the family documents.

use crate::codec::json::{JsonError, Member, Scanner, members, string};
use crate::protocol::Protocol;

mod media;
mod weigh;

/// Deeper than this nothing is looked at.
const DEPTH_MOST: usize = 96;

/// Returns about how many tokens a text is.
pub fn of_text(text: &str) -> u64 {
    weigh::text(text).div_ceil(weigh::TOKEN)
}

/// Like [`estimate_tokens_of`], where the body names the model, or nobody does.
pub fn estimate_tokens(protocol: Protocol, body: &[u8]) -> u64 {
    let model = super::member(body, "model").and_then(|model| string(model, 0..model.len()));
    estimate_tokens_of(protocol, &model.unwrap_or_default(), body)
}

/// Returns about how many tokens the input of a chat request is: its system text, messages, tools and schemas.
///
/// `model` says whose tokenizer and prompts it meets; a name that says nothing is taken for the protocol's own.
pub fn estimate_tokens_of(protocol: Protocol, model: &str, body: &[u8]) -> u64 {
    sum(protocol, model, body, weigh::text)
}

/// Like [`estimate_tokens_of`], by OpenAI's tokenizer where the program has it (the feature `exact-tokens`): some 20 µs
/// for a KiB, so not for threads that answer requests.
pub fn count_tokens_of(protocol: Protocol, model: &str, body: &[u8]) -> u64 {
    sum(protocol, model, body, weigh::cut)
}

fn sum(protocol: Protocol, model: &str, body: &[u8], weigh: fn(&str) -> u64) -> u64 {
    let mut found = Vec::new();
    if members(body, DEPTH_MOST, &mut found).is_err() {
        return (body.len() as u64).div_ceil(4);
    }
    let family = Family::of(protocol, model);
    let mut sum = Sum {
        family,
        weigh,
        body,
        text: 0,
        schema: 0,
        flat: family.base,
    };
    let mut tools = false;
    for member in &found {
        sum.member(member, &mut tools);
    }
    if tools {
        let forced = found.iter().any(|member| {
            key_is(body, member, "tool_choice")
                && matches!(word(body, member, "type").as_deref(), Some("any" | "tool"))
        });
        sum.flat += if forced {
            family.tools_forced
        } else {
            family.tools
        };
    }
    sum.total()
}

/// Appends what a client of `protocol` is answered when it asked how many tokens a request is.
pub fn counted(protocol: Protocol, tokens: u64) -> Vec<u8> {
    match protocol {
        Protocol::Gemini => format!("{{\"totalTokens\":{tokens}}}"),
        Protocol::OpenaiResponses => {
            format!("{{\"object\":\"response.input_tokens\",\"input_tokens\":{tokens}}}")
        }
        Protocol::Bedrock => format!("{{\"inputTokens\":{tokens}}}"),
        Protocol::Anthropic
        | Protocol::OpenaiChat
        | Protocol::OpenaiCompletions
        | Protocol::Cohere
        | Protocol::Ollama => format!("{{\"input_tokens\":{tokens}}}"),
    }
    .into_bytes()
}

/// What a family adds, in tokens, and how much finer than `o200k` it cuts, in hundredths.
#[derive(Debug, Clone, Copy)]
struct Family {
    text: u64,
    /// Tools and schemas, which are shown to the model in other words than they were sent.
    schema: u64,
    base: u64,
    message: u64,
    /// Once, where there are tools.
    tools: u64,
    /// The same where one must be called.
    tools_forced: u64,
    /// Once, where the answer must fit a schema; nothing where that costs nothing.
    answer_schema: u64,
    /// Once, where it is to think.
    thinking: u64,
    /// Thoughts that come back count, one token for so many characters of their signature.
    signature: Option<u64>,
    media: media::Rule,
}

impl Family {
    fn of(protocol: Protocol, model: &str) -> Self {
        let has = |names: &[&str]| names.iter().any(|name| model.contains(name));
        match protocol {
            Protocol::Anthropic => Self::anthropic(&has),
            Protocol::Bedrock if has(&["claude", "anthropic"]) || model.is_empty() => {
                Self::anthropic(&has)
            }
            Protocol::Bedrock if has(&["nova"]) => Self {
                base: 0,
                tools: 830,
                tools_forced: 830,
                ..Self::openai()
            },
            Protocol::Gemini => Self {
                text: 100,
                schema: 60,
                base: 0,
                message: 0,
                tools: 0,
                tools_forced: 0,
                answer_schema: 0,
                thinking: 0,
                // So does Google's own API; Vertex leaves them out, and can't be told apart here.
                signature: Some(5),
                media: media::Rule::Fixed,
            },
            Protocol::OpenaiChat if has(&["grok", "llama"]) => Self {
                tools: 150,
                tools_forced: 150,
                ..Self::openai()
            },
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Bedrock
            | Protocol::Cohere
            | Protocol::Ollama => Self::openai(),
        }
    }

    fn anthropic(has: &dyn Fn(&[&str]) -> bool) -> Self {
        // Newer models are told more of how to call tools than is documented.
        let old = has(&["claude-3", "-4-0", "-4-1", "-4-2025"]);
        Self {
            text: 110,
            schema: 70,
            base: 3,
            message: 4,
            tools: if old { 346 } else { 500 },
            tools_forced: if old { 313 } else { 610 },
            answer_schema: 140,
            thinking: 28,
            signature: None,
            media: media::Rule::Area,
        }
    }

    fn openai() -> Self {
        Self {
            text: 100,
            schema: 52,
            base: 3,
            message: 4,
            tools: 10,
            tools_forced: 10,
            answer_schema: 15,
            thinking: 0,
            signature: None,
            media: media::Rule::Tiles,
        }
    }
}

struct Sum<'b> {
    family: Family,
    weigh: fn(&str) -> u64,
    body: &'b [u8],
    /// In thousandths of a token, as the two are weighed.
    text: u64,
    schema: u64,
    flat: u64,
}

impl Sum<'_> {
    fn member(&mut self, member: &Member, tools: &mut bool) {
        let value = &self.body[member.value.clone()];
        let key = crate::codec::json::key(self.body, member);
        match &*key {
            "tools" | "functions" | "toolConfig" | "tool_config" => {
                *tools |= value.len() > 2 && value != b"null";
                self.schema += self.json(value);
                if self.family.media == media::Rule::Area {
                    self.flat += server_tools(value);
                }
            }
            "response_format" | "output_config" | "outputConfig" | "format" | "text"
            | "output_format" => self.answer_schema(value),
            "thinking"
                if word(self.body, member, "type").is_some_and(|kind| kind != "disabled") =>
            {
                self.flat += self.family.thinking;
            }
            "system" | "instructions" | "messages" | "input" | "contents" | "content"
            | "systemInstruction" | "system_instruction" | "prompt" | "documents" => {
                let mut scanner = Scanner::new(value, DEPTH_MOST);
                // It was scanned once already.
                let _ = self.content(value, &mut scanner, "");
                // Text alone is a message too.
                if value.first() == Some(&b'"') && key == "input" {
                    self.flat += self.family.message;
                }
            }
            // Gemini's and Bedrock's `countTokens` may hold a whole request.
            "generateContentRequest" | "converse" => self.inner(value, tools),
            _ => {}
        }
    }

    /// Adds the schema that an answer must fit, where there is one in `value`.
    fn answer_schema(&mut self, value: &[u8]) {
        if memchr::memmem::find(value, b"\"schema\"").is_none() || self.family.answer_schema == 0 {
            return;
        }
        self.schema += self.json(value);
        self.flat += self.family.answer_schema;
    }

    fn inner(&mut self, value: &[u8], tools: &mut bool) {
        let mut found = Vec::new();
        if members(value, DEPTH_MOST, &mut found).is_err() {
            return;
        }
        let mut inner = Sum {
            family: self.family,
            weigh: self.weigh,
            body: value,
            text: 0,
            schema: 0,
            flat: 0,
        };
        for member in &found {
            // Nothing nests twice.
            if !key_is(value, member, "generateContentRequest")
                && !key_is(value, member, "converse")
            {
                inner.member(member, tools);
            }
        }
        self.text += inner.text;
        self.schema += inner.schema;
        self.flat += inner.flat;
    }

    /// Adds up what the model reads of a value that stands under `key`.
    fn content(
        &mut self,
        text: &[u8],
        scanner: &mut Scanner<'_>,
        key: &str,
    ) -> Result<(), JsonError> {
        match scanner.peek() {
            Some(b'{') if matches!(key, "input" | "args" | "response" | "json") => {
                let value = scanner.skip()?;
                self.text += self.json(&text[value]);
                Ok(())
            }
            Some(b'{') => scanner.object(|scanner, key| {
                let key = crate::codec::json::unescape(text, key).unwrap_or_default();
                match &*key {
                    "role" => {
                        self.flat += self.family.message;
                        scanner.pass()
                    }
                    "thoughtSignature" | "thought_signature" => {
                        let length = scanner.skip()?.len() as u64;
                        self.flat += self.family.signature.map_or(0, |by| length / by);
                        Ok(())
                    }
                    // What was thought in earlier turns is left out, and not billed.
                    "thinking" if self.family.media == media::Rule::Area => scanner.pass(),
                    "type" | "id" | "call_id" | "tool_use_id" | "tool_call_id" | "toolUseId"
                    | "cache_control" | "cachePoint" | "signature" | "encrypted_content"
                    | "media_type" | "mime_type" | "mimeType" | "detail" | "status" | "file_id"
                    | "filename" | "format" | "annotations" | "citations" | "logprobs" => {
                        scanner.pass()
                    }
                    key => self.content(text, scanner, key),
                }
            }),
            Some(b'[') => scanner.array(|scanner| self.content(text, scanner, key)),
            Some(b'"') => {
                let value = scanner.skip()?;
                let inside = &text[value.start + 1..value.end - 1];
                if matches!(
                    key,
                    "data"
                        | "bytes"
                        | "file_data"
                        | "url"
                        | "uri"
                        | "fileUri"
                        | "file_uri"
                        | "image_url"
                ) && !inside.is_empty()
                {
                    self.flat += self.family.media.tokens(inside);
                } else if let Some(content) = string(text, value) {
                    self.text += (self.weigh)(&content);
                }
                Ok(())
            }
            Some(_) | None => scanner.pass(),
        }
    }

    /// Returns the weight of JSON as it stands.
    fn json(&self, json: &[u8]) -> u64 {
        std::str::from_utf8(json).map_or(0, self.weigh)
    }

    fn total(&self) -> u64 {
        let text = self.text.saturating_mul(self.family.text);
        let schema = self.schema.saturating_mul(self.family.schema);
        let weighed = text.saturating_add(schema) / 100;
        self.flat.saturating_add(weighed.div_ceil(weigh::TOKEN))
    }
}

fn key_is(body: &[u8], member: &Member, name: &str) -> bool {
    crate::codec::json::key(body, member) == name
}

/// Returns what Anthropic's own tools add, which are told by their type alone.
fn server_tools(tools: &[u8]) -> u64 {
    [
        (&b"\"web_search_"[..], 1600),
        (b"\"code_execution_", 4050),
        (b"\"computer_", 1270),
        (b"\"memory_", 1050),
        (b"\"tool_search_", 600),
        (b"\"text_editor_", 700),
        (b"\"bash_", 245),
    ]
    .iter()
    .filter(|(kind, _)| memchr::memmem::find(tools, kind).is_some())
    .map(|(_, tokens)| tokens)
    .sum()
}

/// Returns the string that the object of a member has for `name`.
fn word(body: &[u8], member: &Member, name: &str) -> Option<String> {
    let value = super::member(&body[member.value.clone()], name)?;
    string(value, 0..value.len()).map(std::borrow::Cow::into_owned)
}
