//! The names of fields as the client knows them.
//!
//! An encoder names what it leaves out or refuses in its own words or the hub's; the client wrote its own, and is
//! told in those.

use super::Protocol;
use super::chat::{Format, Reasoning, Request};

/// One field: the names that encoders have for it, and what it is called in the requests of OpenAI responses,
/// Anthropic and Gemini; empty where the encoders' name is right. OpenAI chat's own name is the first.
struct Word(
    &'static [&'static str],
    &'static str,
    &'static str,
    &'static str,
);

/// Longer names stand before those that they begin with.
const WORDS: [Word; 29] = [
    Word(
        &["thinking of earlier turns"],
        "input.reasoning (of earlier turns)",
        "",
        "contents.parts.thought (of earlier turns)",
    ),
    Word(
        &["reasoning of another model"],
        "input.reasoning (of another model)",
        "messages.content.thinking (of another model)",
        "contents.parts.thought (of another model)",
    ),
    Word(
        &["redacted_thinking"],
        "input.reasoning",
        "",
        "contents.parts.thought",
    ),
    Word(
        &["messages.content.image_url.detail"],
        "input.content.detail",
        "",
        "contents.parts.mediaResolution",
    ),
    Word(
        &["messages.content.input_audio"],
        "input.content.input_audio",
        "",
        "contents.parts.inlineData",
    ),
    Word(
        &["messages.content.file"],
        "input.content",
        "",
        "contents.parts.fileData",
    ),
    Word(&["messages.content"], "input.content", "", "contents.parts"),
    Word(
        &["messages.reasoning"],
        "input.reasoning",
        "messages.content.thinking",
        "contents.parts.thought",
    ),
    Word(&["messages"], "input", "", "contents"),
    Word(&["system"], "instructions", "", "systemInstruction"),
    Word(
        &["max_tokens"],
        "max_output_tokens",
        "",
        "generationConfig.maxOutputTokens",
    ),
    Word(&["temperature"], "", "", "generationConfig.temperature"),
    Word(&["top_p"], "", "", "generationConfig.topP"),
    Word(&["top_k"], "", "", "generationConfig.topK"),
    Word(
        &["frequency_penalty"],
        "",
        "",
        "generationConfig.frequencyPenalty",
    ),
    Word(
        &["presence_penalty"],
        "",
        "",
        "generationConfig.presencePenalty",
    ),
    Word(&["seed"], "", "", "generationConfig.seed"),
    Word(
        &["stop", "stop_sequences"],
        "",
        "stop_sequences",
        "generationConfig.stopSequences",
    ),
    Word(&["n"], "", "", "generationConfig.candidateCount"),
    Word(
        &["logprobs"],
        "top_logprobs",
        "",
        "generationConfig.responseLogprobs",
    ),
    Word(&["top_logprobs"], "", "", "generationConfig.logprobs"),
    Word(&["user", "metadata.user_id"], "", "metadata.user_id", ""),
    Word(&["service_tier"], "", "", "serviceTier"),
    Word(
        &["parallel_tool_calls"],
        "",
        "tool_choice.disable_parallel_tool_use",
        "",
    ),
    Word(&["tool_choice"], "", "", "toolConfig.functionCallingConfig"),
    Word(
        &["tools.function.strict"],
        "tools.strict",
        "tools.strict",
        "",
    ),
    Word(&["verbosity"], "text.verbosity", "", ""),
    Word(
        &THINKING,
        "reasoning.effort",
        "",
        "generationConfig.thinkingConfig",
    ),
    Word(&FORMAT, "text.format", "output_config.format", ""),
];

const THINKING: [&str; 5] = [
    "reasoning_effort",
    "output_config.effort",
    "effort",
    "reasoning",
    "thinking",
];

const FORMAT: [&str; 3] = ["response_format", "output_config.format", "output_format"];

/// Returns a name that an encoder gave, in the words of the client that sent the request. What follows the name,
/// deeper steps and reasons, stays.
pub(super) fn of_client(request: &Request<'_>, name: &str) -> String {
    // A field that the hub has no word for has the client's name already.
    let bare = name.split(" (").next().unwrap_or(name);
    if request.extra.iter().any(|(known, _)| known == bare) {
        return name.to_owned();
    }
    let Some((word, rest)) = WORDS.iter().find_map(|word| {
        let known = word.0.iter().find_map(|known| begins(name, known));
        known.map(|rest| (word, rest))
    }) else {
        return name.to_owned();
    };
    let own = match request.family {
        Protocol::OpenaiChat if word.0 == ["system"] => "",
        Protocol::OpenaiChat => word.0[0],
        Protocol::OpenaiResponses => word.1,
        Protocol::Anthropic if word.0 == THINKING => thinking(request),
        Protocol::Anthropic => word.2,
        Protocol::Gemini if word.0 == FORMAT => format(request),
        Protocol::Gemini => word.3,
        Protocol::OpenaiCompletions | Protocol::Bedrock | Protocol::Cohere | Protocol::Ollama => "",
    };
    if own.is_empty() {
        return name.to_owned();
    }
    // The parts of its messages have a name of their own.
    let rest = match own {
        "contents" => rest.replace(".content", ".parts"),
        // Its items are more than the hub's messages.
        "input" => String::new(),
        _ => rest.to_owned(),
    };
    format!("{own}{rest}")
}

/// Returns what follows `known`, where the name is that field's or one inside it.
fn begins<'n>(name: &'n str, known: &str) -> Option<&'n str> {
    let rest = name.strip_prefix(known)?;
    let ends = rest.is_empty()
        || rest.starts_with(['.', '['])
        || rest.starts_with(" (")
        || rest.starts_with(" above");
    ends.then_some(rest)
}

/// Anthropic has one field for how it thinks and one for how much.
fn thinking(request: &Request<'_>) -> &'static str {
    match request.reasoning {
        Some(Reasoning::Effort(_) | Reasoning::Adaptive(Some(_))) => "output_config.effort",
        Some(Reasoning::Off | Reasoning::Budget(_) | Reasoning::Adaptive(None)) | None => {
            "thinking"
        }
    }
}

/// Gemini has one field for the kind of answer and one for its schema.
fn format(request: &Request<'_>) -> &'static str {
    match request.format {
        Some(Format::JsonSchema { .. }) => "generationConfig.responseSchema",
        Some(Format::JsonObject | Format::Text) | None => "generationConfig.responseMimeType",
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode_request;
    use super::*;

    fn told(family: Protocol, body: &str, name: &str) -> String {
        of_client(&decode_request(family, body.as_bytes()).unwrap(), name)
    }

    #[test]
    fn a_name_is_told_in_the_clients_words() {
        let gemini = r#"{"contents":[{"parts":[{"text":"q"}]}],"generationConfig":{"responseMimeType":"application/json"}}"#;
        for (name, own) in [
            ("n", "generationConfig.candidateCount"),
            (
                "top_k (lowered to 500)",
                "generationConfig.topK (lowered to 500)",
            ),
            ("messages[0].content[2]", "contents[0].parts[2]"),
            (
                "response_format (json_object is asked for in words)",
                "generationConfig.responseMimeType (json_object is asked for in words)",
            ),
            ("naming", "naming"),
        ] {
            assert_eq!(told(Protocol::Gemini, gemini, name), own);
        }
        let anthropic = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}],"output_config":{"effort":"low"}}"#;
        assert_eq!(
            told(Protocol::Anthropic, anthropic, "reasoning"),
            "output_config.effort"
        );
        assert_eq!(
            told(Protocol::Anthropic, anthropic, "stop"),
            "stop_sequences"
        );
        let extra = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}],"reasoning":1}"#;
        assert_eq!(told(Protocol::Anthropic, extra, "reasoning"), "reasoning");
        let chat = r#"{"model":"m","messages":[{"role":"user","content":"q"}]}"#;
        assert_eq!(
            told(
                Protocol::OpenaiChat,
                chat,
                "output_config.effort above high"
            ),
            "reasoning_effort above high"
        );
    }
}
