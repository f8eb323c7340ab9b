//! The hub into a body for a provider that speaks OpenAI responses.
//!
//! For a client of another protocol nothing is kept at the provider: the whole conversation comes with every
//! request, and reasoning goes to the client and back as an encrypted blob.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::turns;
use crate::error::{Error, Result};
use crate::protocol::chat::{Effort, Format, Reasoning, Request, Tool, ToolChoice};
use crate::protocol::text::{self, Object, Reader};
use crate::protocol::{Facts, Protocol, Translated};

/// OpenAI takes no smaller `max_output_tokens` than this.
const OUTPUT_LEAST: u32 = 16;
/// OpenAI takes no longer `user` than this, in characters.
const USER_MAX: usize = 64;
/// How many names of dropped fields are kept.
const DROPPED_MAX: usize = 64;
/// A schema needs a name.
const SCHEMA_NAME: &str = "response";
/// By this reasoning comes in a form that can be sent back.
const ENCRYPTED: &str = "reasoning.encrypted_content";
const LOGPROBS: &str = "message.output_text.logprobs";

/// Budgets from here on are a medium and a high effort; below, a low one (see `openai_chat`).
const MEDIUM_FROM: u32 = 4_096;
const HIGH_FROM: u32 = 16_384;

/// Encodes a request for `model`, the provider's own id.
///
/// Errors: `Unsupported`, naming the client's field.
pub fn encode(request: &Request<'_>, model: &str, facts: &Facts) -> Result<Translated> {
    let mut notes = Notes::default();
    refuse(request)?;
    let mut out = Vec::with_capacity(1024);
    let mut object = Object::open(&mut out);
    object.string("model", model);
    turns::write(request, facts, &mut notes, &mut object)?;
    tools(request, &mut notes, &mut object)?;
    limits(request, facts, &mut notes, &mut object);
    text_config(request, &mut object);
    reasoning(request, facts, &mut notes, &mut object);
    caller(request, &mut notes, &mut object);
    if request.stream {
        object.boolean("stream", true);
    }
    kept(request, facts, &mut object);
    extra(request, &mut notes, &mut object);
    object.close();
    Ok(Translated {
        body: out,
        dropped: notes.dropped,
        schema_tool: false,
    })
}

/// What could not be said.
#[derive(Debug, Default)]
pub(super) struct Notes {
    dropped: Vec<String>,
}

impl Notes {
    /// Names a field that is left out, once.
    pub fn drop(&mut self, name: &str) {
        if self.dropped.len() < DROPPED_MAX && !self.dropped.iter().any(|known| known == name) {
            self.dropped.push(name.to_owned());
        }
    }
}

/// Returns whether the client spoke this protocol.
pub(super) fn is_ours(request: &Request<'_>) -> bool {
    request.family == Protocol::OpenaiResponses
}

/// Refuses what would change the answer's meaning if it were left out.
fn refuse(request: &Request<'_>) -> Result<()> {
    let family = request.family;
    if !request.stop.is_empty() {
        let name = match family {
            Protocol::Anthropic | Protocol::Cohere => "stop_sequences",
            Protocol::Gemini => "generationConfig.stopSequences",
            Protocol::Bedrock => "inferenceConfig.stopSequences",
            Protocol::Ollama => "options.stop",
            Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::OpenaiCompletions => {
                "stop"
            }
        };
        return Err(Error::unsupported(
            name,
            "The provider of the model takes no stop sequences",
        ));
    }
    if request.n.is_some_and(|n| n > 1) {
        let name = match family {
            Protocol::Gemini => "generationConfig.candidateCount",
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
            | Protocol::Bedrock
            | Protocol::Cohere
            | Protocol::Ollama => "n",
        };
        return Err(Error::unsupported(
            name,
            "The provider of the model gives one answer at a time",
        ));
    }
    // An empty bias is none.
    if request
        .logit_bias
        .is_some_and(|bias| bias.get().contains('"'))
    {
        return Err(Error::unsupported(
            "logit_bias",
            "The provider of the model takes no logit bias",
        ));
    }
    if is_ours(request) {
        return Ok(());
    }
    for (name, raw) in &request.extra {
        let what = match &**name {
            "modalities" if !lists(raw, "audio") => continue,
            "modalities" | "audio" => "answers in text alone",
            "web_search_options" => "searches the web by a tool, not by this field",
            "thread" => "keeps no threads: send the whole conversation",
            "mcp_servers" if raw.get().contains('{') => {
                "is not asked to call MCP servers in this way"
            }
            "container" => "has no such containers",
            _ => continue,
        };
        let message = format!("The provider of the model {what}");
        return Err(Error::unsupported(name.to_string(), message));
    }
    Ok(())
}

fn lists(raw: &RawValue, word: &str) -> bool {
    Reader::of(raw.get())
        .list(Reader::string)
        .is_ok_and(|words| words.iter().any(|one| one == word))
}

fn tools(request: &Request<'_>, notes: &mut Notes, object: &mut Object<'_>) -> Result<()> {
    if !request.tools.is_empty() {
        let out = object.key("tools");
        out.push(b'[');
        let start = out.len();
        for (index, one) in request.tools.iter().enumerate() {
            text::comma(start, out);
            tool(one, index, request, notes, out)?;
        }
        out.push(b']');
        if let Some(parallel) = request.parallel_tools {
            object.boolean("parallel_tool_calls", parallel);
        }
    } else if !is_ours(request) {
        // A choice among no tools is refused here.
        return Ok(());
    }
    match &request.tool_choice {
        Some(choice) => tool_choice(choice, object.key("tool_choice")),
        None => Ok(()),
    }
}

fn tool(
    tool: &Tool<'_>,
    index: usize,
    request: &Request<'_>,
    notes: &mut Notes,
    out: &mut Vec<u8>,
) -> Result<()> {
    match tool {
        Tool::Function {
            name,
            description,
            schema,
            strict,
            cache,
        } => {
            if cache.is_some() {
                notes.drop("cache_control");
            }
            let mut object = Object::open(out);
            object.string("type", "function");
            object.string("name", name);
            object.maybe_string("description", description.as_deref());
            match schema {
                Some(schema) => object.raw("parameters", schema),
                None => object
                    .key("parameters")
                    .extend_from_slice(b"{\"type\":\"object\",\"properties\":{}}"),
            }
            match strict {
                Some(strict) => object.boolean("strict", *strict),
                // Here a schema is strict unless it says otherwise, elsewhere it is not.
                None if !is_ours(request) => object.boolean("strict", false),
                None => {}
            }
            object.close();
            Ok(())
        }
        Tool::Opaque {
            family: Protocol::OpenaiResponses,
            raw,
            ..
        } => {
            out.extend_from_slice(raw.get().as_bytes());
            Ok(())
        }
        Tool::Opaque { name, .. } => Err(Error::unsupported(
            request.family.element("tools", index),
            format!("The tool `{name}` is of a kind that the provider of the model doesn't know"),
        )),
    }
}

fn tool_choice(choice: &ToolChoice<'_>, out: &mut Vec<u8>) -> Result<()> {
    match choice {
        ToolChoice::Auto => out.extend_from_slice(b"\"auto\""),
        ToolChoice::None => out.extend_from_slice(b"\"none\""),
        ToolChoice::Required => out.extend_from_slice(b"\"required\""),
        ToolChoice::Named(name) => {
            out.extend_from_slice(b"{\"type\":\"function\",\"name\":");
            text::string(name, out);
            out.push(b'}');
        }
        ToolChoice::Opaque {
            family: Protocol::OpenaiResponses,
            raw,
        } => out.extend_from_slice(raw.get().as_bytes()),
        ToolChoice::Opaque {
            family: Protocol::OpenaiChat,
            raw,
        } if allowed_tools(raw, out) => {}
        ToolChoice::Opaque { .. } => {
            return Err(Error::unsupported(
                "tool_choice",
                "This tool_choice can't be said to the provider of the model",
            ));
        }
    }
    Ok(())
}

/// Appends chat's choice among some functions, which is flat here. Returns whether it was one.
fn allowed_tools(raw: &RawValue, out: &mut Vec<u8>) -> bool {
    let mut reader = Reader::of(raw.get());
    if reader.tag("type").as_deref() != Some("allowed_tools") {
        return false;
    }
    let (mut mode, mut allowed) = (None, Vec::new());
    let mut whole = true;
    let read = reader.object(|r, key| match (&*key, r.peek()) {
        ("allowed_tools", b'{') => r.object(|r, key| match (&*key, r.peek()) {
            ("mode", b'"') => {
                mode = Some(r.string()?);
                Ok(())
            }
            ("tools", b'[') => r.array(|r| {
                let mut name = None;
                r.object(|r, key| {
                    match (&*key, r.peek()) {
                        ("function", b'{') => {
                            name = r.tag("name");
                            r.raw()?;
                        }
                        _ => drop(r.raw()?),
                    }
                    Ok(())
                })?;
                whole &= name.is_some();
                allowed.extend(name);
                Ok(())
            }),
            _ => r.raw().map(drop),
        }),
        _ => r.raw().map(drop),
    });
    if read.is_err() || !whole {
        return false;
    }
    let mut object = Object::open(out);
    object.string("type", "allowed_tools");
    object.string("mode", mode.as_deref().unwrap_or("auto"));
    let out = object.key("tools");
    out.push(b'[');
    let start = out.len();
    for name in &allowed {
        text::comma(start, out);
        let mut tool = Object::open(out);
        tool.string("type", "function");
        tool.string("name", name);
        tool.close();
    }
    out.push(b']');
    object.close();
    true
}

/// Writes how long and how free the answer may be.
fn limits(request: &Request<'_>, facts: &Facts, notes: &mut Notes, object: &mut Object<'_>) {
    let ours = is_ours(request);
    if let Some(asked) = request.max_output {
        let mut most = asked;
        if !ours {
            if let Some(limit) = facts.max_output
                && most > limit
            {
                notes.drop("max_tokens above the model's limit");
                most = limit;
            }
            if most < OUTPUT_LEAST {
                notes.drop("max_tokens below 16");
                most = OUTPUT_LEAST;
            }
        }
        object.integer("max_output_tokens", most.into());
    }
    for (name, value) in [
        ("temperature", request.temperature),
        ("top_p", request.top_p),
    ] {
        match value {
            Some(_) if facts.no_sampling && !ours => notes.drop(name),
            Some(value) => object.number(name, value),
            None => {}
        }
    }
    for (name, is_said) in [
        ("top_k", request.top_k.is_some()),
        ("frequency_penalty", said(request.frequency_penalty)),
        ("presence_penalty", said(request.presence_penalty)),
        ("seed", request.seed.is_some()),
    ] {
        if is_said {
            notes.drop(name);
        }
    }
    if let Some(top) = request.top_logprobs {
        object.integer("top_logprobs", top.into());
    }
}

/// Returns whether a penalty says anything.
fn said(penalty: Option<f64>) -> bool {
    penalty.is_some_and(|penalty| penalty != 0.0)
}

/// Writes `text`: the form of the answer, and how wordy it is.
fn text_config(request: &Request<'_>, object: &mut Object<'_>) {
    let own = nested(request, "text.");
    if request.format.is_none() && request.verbosity.is_none() && own.is_empty() {
        return;
    }
    let mut config = Object::open(object.key("text"));
    if let Some(format) = &request.format {
        let mut inner = Object::open(config.key("format"));
        match format {
            Format::Text => inner.string("type", "text"),
            Format::JsonObject => inner.string("type", "json_object"),
            Format::JsonSchema {
                name,
                description,
                schema,
                strict,
            } => {
                inner.string("type", "json_schema");
                inner.string("name", name.as_deref().unwrap_or(SCHEMA_NAME));
                inner.maybe_string("description", description.as_deref());
                inner.raw("schema", schema);
                if let Some(strict) = strict {
                    inner.boolean("strict", *strict);
                }
            }
        }
        inner.close();
    }
    config.maybe_string("verbosity", request.verbosity.as_deref());
    for (name, raw) in own {
        config
            .foreign_key(name)
            .extend_from_slice(raw.get().as_bytes());
    }
    config.close();
}

/// Returns this family's own fields that are members of one object, with their names there.
fn nested<'r>(request: &'r Request<'_>, prefix: &str) -> Vec<(&'r str, &'r RawValue)> {
    if !is_ours(request) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (path, raw) in &request.extra {
        if let Some(name) = path.strip_prefix(prefix)
            && !name.contains(['.', '['])
        {
            found.push((name, *raw));
        }
    }
    found
}

/// The objects whose unknown members find back to their place.
const KNOWN_OBJECTS: [&str; 3] = ["text.", "reasoning.", "stream_options."];

/// Writes how much to think. To its own family as it came; to another as the nearest effort.
fn reasoning(request: &Request<'_>, facts: &Facts, notes: &mut Notes, object: &mut Object<'_>) {
    let own = nested(request, "reasoning.");
    let effort = effort(request, facts, notes);
    if effort.is_none() && own.is_empty() {
        return;
    }
    let mut inner = Object::open(object.key("reasoning"));
    inner.maybe_string("effort", effort);
    for (name, raw) in own {
        inner
            .foreign_key(name)
            .extend_from_slice(raw.get().as_bytes());
    }
    inner.close();
}

fn effort(request: &Request<'_>, facts: &Facts, notes: &mut Notes) -> Option<&'static str> {
    let reasoning = request.reasoning.as_ref()?;
    let ours = is_ours(request);
    let name = match request.family {
        Protocol::OpenaiChat | Protocol::OpenaiCompletions => "reasoning_effort",
        Protocol::OpenaiResponses => "reasoning.effort",
        Protocol::Gemini => "generationConfig.thinkingConfig",
        Protocol::Bedrock => "additionalModelRequestFields.thinking",
        Protocol::Ollama => "think",
        Protocol::Anthropic | Protocol::Cohere => "thinking",
    };
    if !facts.reasoning && !ours {
        // Not to think is what such a model does anyway.
        if *reasoning != Reasoning::Off {
            notes.drop(name);
        }
        return None;
    }
    match reasoning {
        Reasoning::Off if ours => Some("none"),
        Reasoning::Off => match facts.reasoning_off {
            Some(least) => Some(word(least)),
            None => {
                notes.drop(name);
                None
            }
        },
        Reasoning::Budget(tokens) => Some(match *tokens {
            HIGH_FROM.. => "high",
            MEDIUM_FROM.. => "medium",
            _ => "low",
        }),
        Reasoning::Adaptive(None) => None,
        // Few models know more than high, and the others refuse it. Chat has the same words, so they are meant.
        Reasoning::Effort(effort) | Reasoning::Adaptive(Some(effort))
            if !ours && request.family != Protocol::OpenaiChat && *effort > Effort::High =>
        {
            notes.drop("effort above high");
            Some("high")
        }
        Reasoning::Effort(effort) | Reasoning::Adaptive(Some(effort)) => Some(word(*effort)),
    }
}

fn word(effort: Effort) -> &'static str {
    match effort {
        Effort::None => "none",
        Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Xhigh => "xhigh",
        Effort::Max => "max",
    }
}

/// Writes who asks and how it is to be served.
fn caller(request: &Request<'_>, notes: &mut Notes, object: &mut Object<'_>) {
    let ours = is_ours(request);
    let openai = ours || request.family == Protocol::OpenaiChat;
    if let Some(user) = request.user.as_deref() {
        if ours || user.chars().take(USER_MAX + 1).count() <= USER_MAX {
            object.string("user", user);
        } else {
            notes.drop("user");
        }
    }
    if let Some(metadata) = request.metadata {
        // Of OpenAI's own clients it comes in the same form.
        if openai {
            object.raw("metadata", metadata);
        } else if has_more_than_user(metadata) {
            notes.drop("metadata");
        }
    }
    match request.service_tier.as_deref() {
        Some(tier) if openai => object.string("service_tier", tier),
        Some("standard_only") => object.string("service_tier", "default"),
        // What happens without it.
        Some("auto") | None => {}
        Some(_) => notes.drop("service_tier"),
    }
}

fn has_more_than_user(metadata: &RawValue) -> bool {
    let mut more = false;
    let read = Reader::of(metadata.get()).object(|r, key| {
        more |= &*key != "user_id";
        r.raw().map(drop)
    });
    more || read.is_err()
}

/// Writes what is kept and what comes along with the answer.
fn kept(request: &Request<'_>, facts: &Facts, object: &mut Object<'_>) {
    if is_ours(request) {
        return;
    }
    object.boolean("store", false);
    let mut include = Vec::new();
    // A model that doesn't reason refuses to be asked for it.
    if facts.reasoning {
        include.push(ENCRYPTED);
    }
    if request.logprobs == Some(true) {
        include.push(LOGPROBS);
    }
    if include.is_empty() {
        return;
    }
    let out = object.key("include");
    out.push(b'[');
    let start = out.len();
    for one in include {
        text::comma(start, out);
        text::string(one, out);
    }
    out.push(b']');
}

/// Gives what the hub has no word for back to its own family; names it to another.
fn extra(request: &Request<'_>, notes: &mut Notes, object: &mut Object<'_>) {
    let ours = is_ours(request);
    let options = nested(request, "stream_options.");
    if !options.is_empty() {
        let mut inner = Object::open(object.key("stream_options"));
        for (name, raw) in options {
            inner
                .foreign_key(name)
                .extend_from_slice(raw.get().as_bytes());
        }
        inner.close();
    }
    for (name, raw) in &request.extra {
        // Unknown fields further down are here by their path.
        let nested = name.contains(['[', '.']);
        let shared = request.family == Protocol::OpenaiChat
            && matches!(
                &**name,
                "prompt_cache_key" | "prompt_cache_retention" | "safety_identifier"
            );
        if (ours || shared) && !nested {
            let name: &Cow<'_, str> = name;
            object
                .foreign_key(name)
                .extend_from_slice(raw.get().as_bytes());
        } else if !ours || !finds_back(name) {
            notes.drop(name);
        }
    }
}

/// Returns whether a field further down was written where it belongs.
fn finds_back(path: &str) -> bool {
    KNOWN_OBJECTS
        .iter()
        .filter_map(|prefix| path.strip_prefix(prefix))
        .any(|name| !name.contains(['.', '[']))
}
