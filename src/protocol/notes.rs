//! What a translation leaves out, and what it must refuse.

use serde_json::value::RawValue;

use super::Protocol;
use super::chat::{Request, Role};
use super::text::Reader;
use crate::error::{Error, Result};

/// How many fields are named.
const NOTES_MAX: usize = 64;

/// The fields of a request that could not be said, each once.
#[derive(Debug, Default)]
pub(super) struct Notes(pub Vec<String>);

impl Notes {
    pub fn add(&mut self, note: &str) {
        if self.0.len() < NOTES_MAX && !self.0.iter().any(|known| known == note) {
            self.0.push(note.to_owned());
        }
    }
}

/// Names where message `index` of the hub stands in the client's body.
pub(super) fn place(request: &Request<'_>, index: usize) -> String {
    let family = request.family;
    // Their `system` stands outside of their messages.
    let apart = matches!(
        family,
        Protocol::Anthropic | Protocol::Gemini | Protocol::Bedrock
    ) && request
        .messages
        .first()
        .is_some_and(|first| first.role == Role::System);
    if apart && index == 0 {
        return "system".to_owned();
    }
    let list = match family {
        Protocol::OpenaiResponses => "input",
        Protocol::Gemini => "contents",
        Protocol::OpenaiCompletions => return "prompt".to_owned(),
        Protocol::OpenaiChat
        | Protocol::Anthropic
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => "messages",
    };
    family.element(list, index - usize::from(apart))
}

/// Refuses what no provider but the client's own can do, where the answer would be another without it.
pub(super) fn refuse_foreign(request: &Request<'_>) -> Result<()> {
    for (name, raw) in &request.extra {
        let what = match &**name {
            "audio" => "does not speak",
            "modalities" if has_word(raw, "audio") => "does not speak",
            "modalities" if has_word(raw, "image") => "makes no images",
            "web_search_options" => "does not search the web",
            "mcp_servers" if !is_empty(raw) => "calls no MCP servers",
            "container" => "has no containers",
            "thread" => "keeps no threads: send the whole conversation",
            _ => continue,
        };
        let message = format!("The provider of the model {what}");
        return Err(Error::unsupported(name.to_string(), message));
    }
    Ok(())
}

fn has_word(list: &RawValue, word: &str) -> bool {
    Reader::of(list.get())
        .list(Reader::string)
        .is_ok_and(|words| words.iter().any(|one| one == word))
}

fn is_empty(list: &RawValue) -> bool {
    Reader::of(list.get())
        .list(Reader::raw)
        .is_ok_and(|items| items.is_empty())
}

/// Refuses a field that asks for something, and lets one pass that asks for nothing.
pub(super) fn refuse_bias(request: &Request<'_>) -> Result<()> {
    match request.logit_bias {
        Some(bias) if bias.get().contains('"') => Err(Error::unsupported(
            "logit_bias",
            "The provider of the model takes no logit bias",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Names the field that asks for log probabilities, where one does.
pub(super) fn logprobs(request: &Request<'_>) -> Option<&'static str> {
    if request.logprobs == Some(true) {
        return Some("logprobs");
    }
    request
        .top_logprobs
        .is_some_and(|top| top > 0)
        .then_some("top_logprobs")
}

/// Refuses several answers at once.
pub(super) fn refuse_several(request: &Request<'_>) -> Result<()> {
    if request.n.is_some_and(|n| n > 1) {
        return Err(Error::unsupported(
            "n",
            "The provider of the model gives one answer at a time",
        ));
    }
    Ok(())
}

/// Names what is about the caller, which changes no answer.
pub(super) fn note_caller(request: &Request<'_>, notes: &mut Notes) {
    let tier = match request.service_tier.as_deref() {
        // What happens without it.
        None | Some("auto" | "default" | "standard" | "standard_only") => false,
        Some(_) => true,
    };
    for (given, name) in [
        (request.verbosity.is_some(), "verbosity"),
        (request.metadata.is_some(), "metadata"),
        (request.user.is_some(), "user"),
        (tier, "service_tier"),
    ] {
        if given {
            notes.add(name);
        }
    }
}

/// Returns what the client calls the form that the answer is to have.
pub(super) fn format_field(family: Protocol) -> &'static str {
    match family {
        Protocol::OpenaiChat | Protocol::OpenaiCompletions | Protocol::Cohere => "response_format",
        Protocol::OpenaiResponses => "text.format",
        Protocol::Anthropic => "output_config.format",
        Protocol::Bedrock => "outputConfig.textFormat",
        Protocol::Gemini => "generationConfig.responseSchema",
        Protocol::Ollama => "format",
    }
}

/// Returns what the client calls the sequences that end an answer.
pub(super) fn stop_field(family: Protocol) -> &'static str {
    match family {
        Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::OpenaiCompletions => "stop",
        Protocol::Anthropic | Protocol::Cohere => "stop_sequences",
        Protocol::Bedrock => "inferenceConfig.stopSequences",
        Protocol::Gemini => "generationConfig.stopSequences",
        Protocol::Ollama => "options.stop",
    }
}
