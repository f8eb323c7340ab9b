//! What an answer says by its own JSON, read without any of the translation's code.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use strait::protocol::Protocol;

use super::said::{Numbers, Said, value_of};

/// Reads a whole answer. The finish is left empty: its words are for the translation to know.
pub fn whole(protocol: Protocol, body: &Value) -> Said {
    let mut said = Said::default();
    match protocol {
        Protocol::OpenaiChat => {
            chat_message(&body["choices"][0]["message"], &mut said);
            said.usage = chat_usage(&body["usage"]);
        }
        Protocol::OpenaiResponses => {
            for item in list(&body["output"]) {
                responses_item(item, &mut said);
            }
            said.usage = responses_usage(&body["usage"]);
        }
        Protocol::OpenaiCompletions => {
            push(&body["choices"][0]["text"], &mut said.text);
            said.usage = chat_usage(&body["usage"]);
        }
        Protocol::Anthropic => {
            for block in list(&body["content"]) {
                push(&block["text"], &mut said.text);
                push(&block["thinking"], &mut said.thoughts);
                if block["type"] == "tool_use" {
                    said.calls
                        .push(call(&block["name"], block["input"].clone()));
                }
            }
            said.usage = anthropic_usage(&[&body["usage"]]);
        }
        Protocol::Gemini => return gemini(std::slice::from_ref(body)),
        Protocol::Bedrock => {
            for block in list(&body["output"]["message"]["content"]) {
                push(&block["text"], &mut said.text);
                let thought = &block["reasoningContent"]["reasoningText"];
                push(&thought["text"], &mut said.thoughts);
                if let Some(used) = block.get("toolUse") {
                    said.calls.push(call(&used["name"], used["input"].clone()));
                }
            }
            said.usage = bedrock_usage(&body["usage"]);
        }
        Protocol::Cohere => {
            let message = &body["message"];
            push(&message["tool_plan"], &mut said.thoughts);
            for block in list(&message["content"]) {
                push(&block["text"], &mut said.text);
                push(&block["thinking"], &mut said.thoughts);
            }
            for one in list(&message["tool_calls"]) {
                said.calls.push(function(&one["function"]));
            }
            said.usage = cohere_usage(&body["usage"]);
        }
        Protocol::Ollama => return ollama(std::slice::from_ref(body)),
    }
    said
}

/// Reads the events of a stream; `None` of those whose events are told by their frames' names.
pub fn sum(protocol: Protocol, chunks: &[Value]) -> Option<Said> {
    let mut said = Said::default();
    match protocol {
        Protocol::OpenaiChat => chat_stream(chunks, &mut said),
        Protocol::OpenaiResponses => {
            let end = chunks
                .iter()
                .rev()
                .find(|chunk| chunk["response"]["usage"].is_object())?;
            return Some(whole(protocol, &end["response"]));
        }
        Protocol::OpenaiCompletions => {
            for chunk in chunks {
                for choice in first(&chunk["choices"]) {
                    push(&choice["text"], &mut said.text);
                }
                if chunk["usage"].is_object() {
                    said.usage = chat_usage(&chunk["usage"]);
                }
            }
        }
        Protocol::Anthropic => anthropic_stream(chunks, &mut said),
        Protocol::Gemini => return Some(gemini(chunks)),
        Protocol::Bedrock => return None,
        Protocol::Cohere => cohere_stream(chunks, &mut said),
        Protocol::Ollama => return Some(ollama(chunks)),
    }
    Some(said)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The first answer alone, where several are told.
fn first(choices: &Value) -> impl Iterator<Item = &Value> {
    list(choices)
        .iter()
        .filter(|choice| choice["index"].as_u64().unwrap_or(0) == 0)
}

fn push(value: &Value, into: &mut String) {
    into.push_str(value.as_str().unwrap_or(""));
}

fn call(name: &Value, arguments: Value) -> (String, Value) {
    let arguments = if arguments.is_null() {
        json!({})
    } else {
        arguments
    };
    (name.as_str().unwrap_or("").to_owned(), arguments)
}

fn function(function: &Value) -> (String, Value) {
    let arguments = &function["arguments"];
    let arguments = arguments.as_str().map_or(arguments.clone(), value_of);
    call(&function["name"], arguments)
}

fn chat_content(content: &Value, said: &mut Said) {
    push(content, &mut said.text);
    // Mistral's are parts.
    for part in list(content) {
        push(&part["text"], &mut said.text);
        push(&part["thinking"], &mut said.thoughts);
        for thought in list(&part["thinking"]) {
            push(&thought["text"], &mut said.thoughts);
        }
    }
}

fn chat_thoughts(message: &Value, said: &mut Said) {
    let names = ["reasoning_content", "reasoning"];
    if let Some(thought) = names.iter().find_map(|name| message[name].as_str()) {
        said.thoughts.push_str(thought);
    }
}

fn chat_message(message: &Value, said: &mut Said) {
    chat_thoughts(message, said);
    chat_content(&message["content"], said);
    push(&message["refusal"], &mut said.text);
    for one in list(&message["tool_calls"]) {
        said.calls.push(function(&one["function"]));
    }
    // How calls were said before there were several.
    if message["function_call"].is_object() {
        said.calls.push(function(&message["function_call"]));
    }
}

fn chat_stream(chunks: &[Value], said: &mut Said) {
    // By index; those without one are whole, one after the other.
    let mut calls: BTreeMap<u64, (String, String)> = BTreeMap::new();
    for chunk in chunks {
        for choice in first(&chunk["choices"]) {
            let delta = &choice["delta"];
            chat_thoughts(delta, said);
            chat_content(&delta["content"], said);
            push(&delta["refusal"], &mut said.text);
            for one in list(&delta["tool_calls"]) {
                let next = calls.len() as u64;
                let known = calls.entry(one["index"].as_u64().unwrap_or(next));
                let known = known.or_default();
                if known.0.is_empty() {
                    push(&one["function"]["name"], &mut known.0);
                }
                push(&one["function"]["arguments"], &mut known.1);
            }
        }
        let grok = &chunk["x_groq"]["usage"];
        for usage in [grok, &chunk["usage"]] {
            if usage.is_object() {
                said.usage = chat_usage(usage);
            }
        }
    }
    let read = |(name, arguments): (String, String)| (name, value_of(&arguments));
    said.calls = calls.into_values().map(read).collect();
}

fn count(usage: &Value, name: &str) -> u64 {
    // Some write whole numbers with a fraction.
    usage[name].as_f64().unwrap_or(0.0) as u64
}

/// All of the output is what the total leaves for it: some leave their thinking out of the completion.
fn chat_usage(usage: &Value) -> Numbers {
    let input = count(usage, "prompt_tokens");
    let output = count(usage, "completion_tokens");
    let cached = [
        &usage["prompt_tokens_details"]["cached_tokens"],
        &usage["prompt_cache_hit_tokens"],
        &usage["cached_tokens"],
    ];
    Numbers {
        input,
        output: output.max(count(usage, "total_tokens").saturating_sub(input)),
        // No part is more than its whole, whatever it claims (xAI's models at Azure).
        cached: cached
            .into_iter()
            .find_map(Value::as_u64)
            .unwrap_or(0)
            .min(input),
    }
}

fn responses_item(item: &Value, said: &mut Said) {
    match item["type"].as_str().unwrap_or("") {
        // What was compacted holds the user's too.
        "message" if item["role"] != "user" => {
            for part in list(&item["content"]) {
                push(&part["text"], &mut said.text);
                push(&part["refusal"], &mut said.text);
            }
        }
        "reasoning" => {
            // Each part of a summary is a paragraph.
            let parts = list(&item["summary"]).iter().chain(list(&item["content"]));
            let paragraphs: Vec<_> = parts.filter_map(|part| part["text"].as_str()).collect();
            said.thoughts.push_str(&paragraphs.join("\n\n"));
        }
        "function_call" => said.calls.push(function(item)),
        _ => {}
    }
}

fn responses_usage(usage: &Value) -> Numbers {
    Numbers {
        input: count(usage, "input_tokens"),
        output: count(usage, "output_tokens"),
        cached: count(&usage["input_tokens_details"], "cached_tokens"),
    }
}

/// The last number of each counts.
fn anthropic_usage(told: &[&Value]) -> Numbers {
    let last = |name: &str| {
        let told = told.iter().rev().find(|usage| usage[name].is_u64());
        told.map_or(0, |usage| count(usage, name))
    };
    let cached = last("cache_read_input_tokens");
    Numbers {
        input: last("input_tokens") + cached + last("cache_creation_input_tokens"),
        output: last("output_tokens"),
        cached,
    }
}

fn anthropic_stream(chunks: &[Value], said: &mut Said) {
    let mut calls: BTreeMap<u64, (String, Value, String)> = BTreeMap::new();
    let mut usages = Vec::new();
    for chunk in chunks {
        let block = &chunk["content_block"];
        push(&block["text"], &mut said.text);
        push(&block["thinking"], &mut said.thoughts);
        let index = chunk["index"].as_u64().unwrap_or(0);
        if block["type"] == "tool_use" {
            let (name, input) = call(&block["name"], block["input"].clone());
            calls.insert(index, (name, input, String::new()));
        }
        let delta = &chunk["delta"];
        push(&delta["text"], &mut said.text);
        push(&delta["thinking"], &mut said.thoughts);
        if let Some((.., arguments)) = calls.get_mut(&index) {
            push(&delta["partial_json"], arguments);
        }
        usages.extend([&chunk["message"]["usage"], &chunk["usage"]]);
    }
    said.usage = anthropic_usage(&usages);
    let read = |(name, input, arguments): (String, Value, String)| {
        let input = if arguments.is_empty() {
            input
        } else {
            value_of(&arguments)
        };
        (name, input)
    };
    said.calls = calls.into_values().map(read).collect();
}

fn gemini(chunks: &[Value]) -> Said {
    let mut said = Said::default();
    for chunk in chunks {
        for part in list(&chunk["candidates"][0]["content"]["parts"]) {
            let into = if part["thought"] == json!(true) {
                &mut said.thoughts
            } else {
                &mut said.text
            };
            push(&part["text"], into);
            if let Some(used) = part.get("functionCall") {
                said.calls.push(call(&used["name"], used["args"].clone()));
            }
        }
        let usage = &chunk["usageMetadata"];
        if usage.is_object() {
            said.usage = gemini_usage(usage, said.usage);
        }
    }
    said
}

/// What a chunk doesn't say of the prompt is as it was before.
fn gemini_usage(usage: &Value, before: Numbers) -> Numbers {
    let told = usage["promptTokenCount"].is_u64();
    let input = count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount");
    let answer = count(usage, "candidatesTokenCount");
    let inside = count(usage, "totalTokenCount") == input + answer;
    let thoughts = if inside {
        0
    } else {
        count(usage, "thoughtsTokenCount")
    };
    Numbers {
        input: if told { input } else { before.input },
        output: answer + thoughts,
        cached: if told {
            count(usage, "cachedContentTokenCount")
        } else {
            before.cached
        },
    }
}

fn bedrock_usage(usage: &Value) -> Numbers {
    let cached = count(usage, "cacheReadInputTokens");
    Numbers {
        input: count(usage, "inputTokens") + cached + count(usage, "cacheWriteInputTokens"),
        output: count(usage, "outputTokens"),
        cached,
    }
}

/// What is billed: the tokens themselves are more.
fn cohere_usage(usage: &Value) -> Numbers {
    Numbers {
        input: count(&usage["billed_units"], "input_tokens"),
        output: count(&usage["billed_units"], "output_tokens"),
        cached: 0,
    }
}

fn cohere_stream(chunks: &[Value], said: &mut Said) {
    let mut calls: BTreeMap<u64, (String, String)> = BTreeMap::new();
    for chunk in chunks {
        let message = &chunk["delta"]["message"];
        push(&message["content"]["text"], &mut said.text);
        push(&message["content"]["thinking"], &mut said.thoughts);
        push(&message["tool_plan"], &mut said.thoughts);
        let function = &message["tool_calls"]["function"];
        if function.is_object() {
            let known = calls.entry(chunk["index"].as_u64().unwrap_or(0));
            let known = known.or_default();
            push(&function["name"], &mut known.0);
            push(&function["arguments"], &mut known.1);
        }
        let usage = &chunk["delta"]["usage"];
        if usage.is_object() {
            said.usage = cohere_usage(usage);
        }
    }
    let read = |(name, arguments): (String, String)| (name, value_of(&arguments));
    said.calls = calls.into_values().map(read).collect();
}

fn ollama(lines: &[Value]) -> Said {
    let mut said = Said::default();
    for line in lines {
        push(&line["message"]["content"], &mut said.text);
        push(&line["message"]["thinking"], &mut said.thoughts);
        for one in list(&line["message"]["tool_calls"]) {
            said.calls.push(function(&one["function"]));
        }
        if line["done"] == json!(true) {
            said.usage = Numbers {
                input: count(line, "prompt_eval_count"),
                output: count(line, "eval_count"),
                cached: 0,
            };
        }
    }
    said
}
