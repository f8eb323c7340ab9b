//! Whether the signatures of an answer come back with the next turn.
//!
//! Providers sign reasoning so that it can be told from what others made up. A gateway that loses a signature
//! breaks the conversation, so `GET /_calls` tells of each request how many came back, how many are missing, and
//! how many are none that this script gives.

use serde_json::{Value, json};

use super::answers::SIGNATURE;
use super::dialect::Dialect;
use super::google::ask::either;
use super::request::list;
use super::script::{Behaviour, Script};

/// What Google takes in place of the signature of a call that another model made.
const SKIPPED: [&str; 2] = [
    "skip_thought_signature_validator",
    "context_engineering_is_the_way_to_go",
];

#[derive(Debug, Default)]
pub(super) struct Signatures {
    returned: usize,
    /// Places that a signature belongs to and that have none.
    missing: Vec<String>,
    /// Places whose signature is none of the script's.
    foreign: Vec<String>,
    skipped: usize,
}

impl Signatures {
    /// Looks for them in a request; `None` where no place for one is there.
    pub fn of(dialect: Dialect, body: &Value, script: &Script) -> Option<Self> {
        let mut found = Self::default();
        let mut see = |place: String, signature: &Value| match signature.as_str() {
            None | Some("") => found.missing.push(place),
            Some(text) if SKIPPED.contains(&text) => found.skipped += 1,
            Some(text) if is_given(text, script) => found.returned += 1,
            Some(_) => found.foreign.push(place),
        };
        match dialect {
            Dialect::Gemini => gemini(body, &mut see),
            Dialect::OpenaiResponses => {
                for (at, item) in list(&body["input"]).iter().enumerate() {
                    if item["type"] == "reasoning" {
                        see(format!("input[{at}]"), &item["encrypted_content"]);
                    }
                }
            }
            Dialect::Anthropic | Dialect::VertexAnthropic | Dialect::BedrockInvoke => {
                each_block(body, |place, block| {
                    if block["type"] == "thinking" {
                        see(place, &block["signature"]);
                    } else if block["type"] == "redacted_thinking" {
                        see(place, &block["data"]);
                    }
                });
            }
            Dialect::Bedrock => each_block(body, |place, block| {
                let reasoning = &block["reasoningContent"];
                if let Some(text) = reasoning.get("reasoningText") {
                    see(place, &text["signature"]);
                } else if let Some(data) = reasoning.get("redactedContent") {
                    see(place, data);
                }
            }),
            Dialect::OpenaiChat
            | Dialect::OpenaiCompletions
            | Dialect::Openai
            | Dialect::VertexPredict
            | Dialect::Cohere
            | Dialect::Ollama => {}
        }
        let seen = found.returned + found.missing.len() + found.foreign.len() + found.skipped;
        (seen > 0).then_some(found)
    }

    pub fn told(&self) -> Value {
        json!({"returned": self.returned, "missing": self.missing, "foreign": self.foreign,
            "skipped": self.skipped})
    }

    /// Returns what is missing, where the model insists on it: Gemini from the third generation on.
    pub fn problems(&self, dialect: Dialect, model: &str) -> Vec<String> {
        if dialect != Dialect::Gemini || !model.contains("gemini-3") {
            return Vec::new();
        }
        let tell = |place: &String| {
            format!("{place}: the function call comes back without its `thoughtSignature`")
        };
        self.missing.iter().map(tell).collect()
    }
}

/// The first call of a turn has one; so have thoughts and texts at times, but no one insists on these.
fn gemini(body: &Value, see: &mut impl FnMut(String, &Value)) {
    for (at, content) in list(&body["contents"]).iter().enumerate() {
        let mut has_call = false;
        for (part_at, part) in list(&content["parts"]).iter().enumerate() {
            let is_call = !either(part, "functionCall", "function_call").is_null();
            let signature = either(part, "thoughtSignature", "thought_signature");
            if !signature.is_null() || (is_call && !has_call) {
                see(format!("contents[{at}].parts[{part_at}]"), signature);
            }
            has_call |= is_call;
        }
    }
}

fn each_block(body: &Value, mut see: impl FnMut(String, &Value)) {
    for (at, message) in list(&body["messages"]).iter().enumerate() {
        for (block_at, block) in list(&message["content"]).iter().enumerate() {
            see(format!("messages[{at}].content[{block_at}]"), block);
        }
    }
}

/// Returns whether the script signs an answer so.
fn is_given(text: &str, script: &Script) -> bool {
    let signs = |behaviour: &Behaviour| {
        [&behaviour.signature, &behaviour.redacted_thinking]
            .into_iter()
            .any(|known| known.as_deref() == Some(text))
    };
    let steps = script.rules.iter().flat_map(|rule| &rule.steps);
    text == SIGNATURE || signs(&script.default) || steps.into_iter().any(signs)
}
