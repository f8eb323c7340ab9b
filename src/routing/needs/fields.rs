//! Tools, schemas, reasoning and spoken answers: what top-level fields ask for.

use std::ops::Range;

use super::parts::{field, is_empty};
use super::{Need, Set, conversation, text};
use crate::codec::json::{self, Member, Scanner};
use crate::protocol::Protocol;

const HERE: [Need; 4] = [Need::Tools, Need::Schema, Need::Reasoning, Need::Speech];

/// Adds what the members of a checked body ask for of `wanted`.
pub fn look(body: &[u8], members: &[Member], protocol: Protocol, wanted: Set, found: &mut Set) {
    if !wanted.has_any(&HERE) {
        return;
    }
    let mut all = Set::default();
    for member in members {
        let key = json::key(body, member);
        let value = &member.value;
        match protocol {
            Protocol::OpenaiChat => chat(body, &key, value, &mut all),
            Protocol::OpenaiResponses => responses(body, &key, value, &mut all),
            Protocol::Anthropic => anthropic(body, &key, value, &mut all),
            Protocol::Gemini => gemini(body, &key, value, &mut all),
            Protocol::Bedrock => bedrock(body, &key, value, &mut all),
            Protocol::Cohere => cohere(body, &key, value, &mut all),
            Protocol::Ollama => ollama(body, &key, value, &mut all),
            Protocol::OpenaiCompletions => {}
        }
    }
    HERE.into_iter()
        .filter(|need| wanted.has(*need) && all.has(*need))
        .for_each(|need| found.insert(need));
}

/// Returns the field that asks for `need`.
pub fn of_need(need: Need, protocol: Protocol) -> &'static str {
    match (need, protocol) {
        (Need::Images | Need::Audio | Need::Pdf | Need::Video, _) => conversation(protocol),
        (Need::Stream, _) => "stream",
        (Need::Tools, Protocol::Bedrock) => "toolConfig",
        (Need::Tools, _) => "tools",
        (Need::Speech, Protocol::Gemini) => "generationConfig.responseModalities",
        (Need::Speech, _) => "modalities",
        (Need::Schema, Protocol::OpenaiResponses) => "text.format",
        (Need::Schema, Protocol::Anthropic) => "output_config.format",
        (Need::Schema, Protocol::Gemini) => "generationConfig.responseSchema",
        (Need::Schema, Protocol::Bedrock) => "outputConfig.textFormat",
        (Need::Schema, Protocol::Ollama) => "format",
        (Need::Schema, Protocol::OpenaiChat | Protocol::OpenaiCompletions | Protocol::Cohere) => {
            "response_format"
        }
        (Need::Reasoning, Protocol::OpenaiResponses) => "reasoning",
        (Need::Reasoning, Protocol::Anthropic | Protocol::Cohere) => "thinking",
        (Need::Reasoning, Protocol::Gemini) => "generationConfig.thinkingConfig",
        (Need::Reasoning, Protocol::Bedrock) => "additionalModelRequestFields",
        (Need::Reasoning, Protocol::Ollama) => "think",
        (Need::Reasoning, Protocol::OpenaiChat | Protocol::OpenaiCompletions) => "reasoning_effort",
    }
}

/// Returns the field that bounds the answer. `completion`: the client wrote `max_completion_tokens`.
pub fn of_output(protocol: Protocol, completion: bool) -> &'static str {
    match protocol {
        Protocol::OpenaiChat if completion => "max_completion_tokens",
        Protocol::OpenaiChat
        | Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Cohere => "max_tokens",
        Protocol::OpenaiResponses => "max_output_tokens",
        Protocol::Gemini => "generationConfig.maxOutputTokens",
        Protocol::Bedrock => "inferenceConfig.maxTokens",
        Protocol::Ollama => "options.num_predict",
    }
}

fn chat(body: &[u8], key: &str, value: &Range<usize>, all: &mut Set) {
    match key {
        "tools" if calls(body, value, true) => all.insert(Need::Tools),
        "functions" if !is_empty(&body[value.clone()]) => all.insert(Need::Tools),
        "response_format" if word(body, value, "type").as_deref() == Some("json_schema") => {
            all.insert(Need::Schema);
        }
        "reasoning_effort" if is_effort(body, value) => all.insert(Need::Reasoning),
        "reasoning" if effort_in(body, value) => all.insert(Need::Reasoning),
        "modalities" if lists(body, value, "audio") => all.insert(Need::Speech),
        _ => {}
    }
}

fn responses(body: &[u8], key: &str, value: &Range<usize>, all: &mut Set) {
    match key {
        "tools" if calls(body, value, false) => all.insert(Need::Tools),
        "text" => {
            let format = field(body, value, "format");
            let kind = format.and_then(|format| word(body, &format, "type"));
            if kind.as_deref() == Some("json_schema") {
                all.insert(Need::Schema);
            }
        }
        "reasoning" if effort_in(body, value) => all.insert(Need::Reasoning),
        _ => {}
    }
}

fn anthropic(body: &[u8], key: &str, value: &Range<usize>, all: &mut Set) {
    match key {
        "tools" if calls(body, value, true) => all.insert(Need::Tools),
        "output_config" if is_object(body, field(body, value, "format")) => {
            all.insert(Need::Schema);
        }
        "output_format" if is_object(body, Some(value.clone())) => all.insert(Need::Schema),
        "thinking" if is_on(body, value) => all.insert(Need::Reasoning),
        _ => {}
    }
}

fn gemini(body: &[u8], key: &str, value: &Range<usize>, all: &mut Set) {
    let either = |value: &Range<usize>, camel, snake| {
        field(body, value, camel).or_else(|| field(body, value, snake))
    };
    match key {
        "tools" => {
            let declares = each(body, value, |tool| {
                either(&tool, "functionDeclarations", "function_declarations")
                    .is_some_and(|list| !is_empty(&body[list]))
            });
            if declares {
                all.insert(Need::Tools);
            }
        }
        "generationConfig" | "generation_config" => {
            let schema = either(value, "responseSchema", "response_schema")
                .or_else(|| either(value, "responseJsonSchema", "response_json_schema"));
            if is_object(body, schema) {
                all.insert(Need::Schema);
            }
            let modes = either(value, "responseModalities", "response_modalities");
            if modes.is_some_and(|modes| lists(body, &modes, "AUDIO")) {
                all.insert(Need::Speech);
            }
            let Some(thinking) = either(value, "thinkingConfig", "thinking_config") else {
                return;
            };
            let budget = either(&thinking, "thinkingBudget", "thinking_budget");
            let budget = budget.map(|budget| &body[budget]);
            let level = either(&thinking, "thinkingLevel", "thinking_level");
            let thinks = budget.is_some_and(|budget| !matches!(budget, b"0" | b"null" | b"\"0\""));
            if thinks || level.is_some_and(|level| text(body, &level).is_some()) {
                all.insert(Need::Reasoning);
            }
        }
        _ => {}
    }
}

fn bedrock(body: &[u8], key: &str, value: &Range<usize>, all: &mut Set) {
    match key {
        "toolConfig" => {
            let tools = field(body, value, "tools");
            let specified = |tool: Range<usize>| is_object(body, field(body, &tool, "toolSpec"));
            if tools.is_some_and(|tools| each(body, &tools, specified)) {
                all.insert(Need::Tools);
            }
        }
        "outputConfig" if is_object(body, field(body, value, "textFormat")) => {
            all.insert(Need::Schema);
        }
        "additionalModelRequestFields" => {
            let on = ["thinking", "reasoningConfig"].into_iter();
            let mut on = on.filter_map(|name| field(body, value, name));
            let efforts = ["reasoning_effort", "reasoning_config"].into_iter();
            let mut efforts = efforts.filter_map(|name| field(body, value, name));
            if on.any(|one| is_on(body, &one)) || efforts.any(|one| is_effort(body, &one)) {
                all.insert(Need::Reasoning);
            }
        }
        _ => {}
    }
}

fn cohere(body: &[u8], key: &str, value: &Range<usize>, all: &mut Set) {
    match key {
        "tools" if !is_empty(&body[value.clone()]) => all.insert(Need::Tools),
        "response_format" => {
            let schema = field(body, value, "json_schema").or_else(|| field(body, value, "schema"));
            if is_object(body, schema) {
                all.insert(Need::Schema);
            }
        }
        "thinking" if is_on(body, value) => all.insert(Need::Reasoning),
        _ => {}
    }
}

fn ollama(body: &[u8], key: &str, value: &Range<usize>, all: &mut Set) {
    match key {
        "tools" if !is_empty(&body[value.clone()]) => all.insert(Need::Tools),
        "format" if is_object(body, Some(value.clone())) => all.insert(Need::Schema),
        "think" if json::boolean(body, value.clone()) == Some(true) || is_effort(body, value) => {
            all.insert(Need::Reasoning);
        }
        _ => {}
    }
}

/// Returns whether a list of tools has one that the client runs; the provider's own are another matter.
/// `plain`: a tool without a type is one.
fn calls(body: &[u8], tools: &Range<usize>, plain: bool) -> bool {
    each(body, tools, |tool| {
        match word(body, &tool, "type").as_deref() {
            Some(kind) => matches!(kind, "function" | "custom"),
            None => plain && is_object(body, Some(tool)),
        }
    })
}

/// Returns whether `fits` holds for one of an array's elements.
fn each(body: &[u8], array: &Range<usize>, mut fits: impl FnMut(Range<usize>) -> bool) -> bool {
    let start = array.start;
    let Some(inside) = body.get(array.clone()) else {
        return false;
    };
    let mut any = false;
    let mut scanner = Scanner::new(inside, usize::MAX);
    let read = scanner.array(|scanner| {
        let element = scanner.skip()?;
        any = any || fits(start + element.start..start + element.end);
        Ok(())
    });
    read.is_ok() && any
}

fn lists(body: &[u8], array: &Range<usize>, wanted: &str) -> bool {
    each(body, array, |element| {
        text(body, &element).is_some_and(|word| word.eq_ignore_ascii_case(wanted))
    })
}

fn word<'b>(
    body: &'b [u8],
    object: &Range<usize>,
    name: &str,
) -> Option<std::borrow::Cow<'b, str>> {
    text(body, &field(body, object, name)?)
}

fn is_object(body: &[u8], value: Option<Range<usize>>) -> bool {
    value.is_some_and(|value| body.get(value.start) == Some(&b'{'))
}

/// Returns whether an object's `type` switches something on.
fn is_on(body: &[u8], value: &Range<usize>) -> bool {
    word(body, value, "type").is_some_and(|kind| kind != "disabled")
}

/// Returns whether a value is an effort that is one.
fn is_effort(body: &[u8], value: &Range<usize>) -> bool {
    text(body, value).is_some_and(|effort| effort != "none")
}

fn effort_in(body: &[u8], value: &Range<usize>) -> bool {
    field(body, value, "effort").is_some_and(|effort| is_effort(body, &effort))
}
