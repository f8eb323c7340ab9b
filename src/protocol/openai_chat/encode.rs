//! The hub into a body for a provider that is compatible with OpenAI.

use serde_json::value::RawValue;

use super::turn;
use crate::error::{Error, Result};
use crate::protocol::chat::{Effort, Format, Reasoning, Request, Tool, ToolChoice};
use crate::protocol::text::{self, Object, Reader};
use crate::protocol::{Facts, Protocol, SCHEMA_TOOL, Translated};

/// OpenAI takes no more stop sequences than this.
const STOP_MAX: usize = 4;
/// OpenAI takes no longer `user` than this, in characters.
const USER_MAX: usize = 64;
/// How many names of dropped fields are kept.
const DROPPED_MAX: usize = 64;
/// A schema needs a name in OpenAI chat.
const SCHEMA_NAME: &str = "response";

/// Budgets from here on are a medium and a high effort; below, a low one. They part the budgets that agents use
/// for "think", "think hard" and "ultrathink" (4,000, 10,000 and 31,999 tokens).
const MEDIUM_FROM: u32 = 4_096;
const HIGH_FROM: u32 = 16_384;

/// Encodes a request for `model`, the provider's own id. A stream always asks for its usage.
///
/// Errors: `Unsupported`, naming the client's field.
pub fn encode(request: &Request<'_>, model: &str, facts: &Facts) -> Result<Translated> {
    let mut notes = Notes::default();
    refuse(request)?;
    let mut out = Vec::with_capacity(1024);
    let mut object = Object::open(&mut out);
    object.string("model", model);
    turn::write_messages(request, facts, &mut notes, object.key("messages"))?;
    let trick = tool_trick(request, facts);
    tools(request, trick, &mut notes, &mut object)?;
    limits(request, facts, &mut notes, &mut object)?;
    if let Some(format) = &request.format
        && trick.is_none()
    {
        response_format(format, object.key("response_format"));
    }
    reasoning(request, facts, &mut notes, &mut object);
    object.maybe_string("verbosity", request.verbosity.as_deref());
    caller(request, &mut notes, &mut object);
    if request.stream {
        object.boolean("stream", true);
        object
            .key("stream_options")
            .extend_from_slice(b"{\"include_usage\":true}");
    }
    extra(request, &mut notes, &mut object);
    object.close();
    Ok(Translated {
        body: out,
        dropped: notes.dropped,
        schema_tool: trick.is_some(),
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
    request.family == Protocol::OpenaiChat
}

/// Refuses what would change the answer's meaning if it were left out: the rest of the conversation, and tools.
fn refuse(request: &Request<'_>) -> Result<()> {
    if is_ours(request) {
        return Ok(());
    }
    for (name, raw) in &request.extra {
        let what = match &**name {
            "thread" => "keeps no threads: send the whole conversation",
            "mcp_servers" if !is_empty(raw) => "calls no MCP servers",
            "container" => "has no containers",
            _ => continue,
        };
        let message = format!("The provider of the model {what}");
        return Err(Error::unsupported(name.to_string(), message));
    }
    Ok(())
}

fn is_empty(list: &RawValue) -> bool {
    Reader::of(list.get())
        .list(Reader::raw)
        .is_ok_and(|items| items.is_empty())
}

/// Returns the schema, where a tool must stand in for structured output.
fn tool_trick<'r>(request: &'r Request<'_>, facts: &Facts) -> Option<&'r Format<'r>> {
    let wanted = matches!(request.format, Some(Format::JsonSchema { .. }));
    // A client that asks for one tool by name gets that one, and its answer is no text anyway.
    let free = matches!(
        request.tool_choice,
        None | Some(ToolChoice::Auto | ToolChoice::Required | ToolChoice::None)
    );
    let needed = wanted && free && facts.json_schema == Some(false) && !is_ours(request);
    request.format.as_ref().filter(|_| needed)
}

fn tools(
    request: &Request<'_>,
    trick: Option<&Format<'_>>,
    notes: &mut Notes,
    object: &mut Object<'_>,
) -> Result<()> {
    // Tools that may not be called would break the rule that some tool must be.
    let told = match (trick, &request.tool_choice) {
        (Some(_), Some(ToolChoice::None)) => &[],
        _ => request.tools.as_slice(),
    };
    if told.is_empty() && trick.is_none() {
        // OpenAI refuses a choice among no tools; Anthropic does not.
        if is_ours(request)
            && let Some(choice) = &request.tool_choice
        {
            tool_choice(choice, object.key("tool_choice"))?;
        }
        return Ok(());
    }
    let out = object.key("tools");
    out.push(b'[');
    let start = out.len();
    for (index, one) in told.iter().enumerate() {
        text::comma(start, out);
        tool(one, index, request, notes, out)?;
    }
    if let Some(Format::JsonSchema {
        description,
        schema,
        ..
    }) = trick
    {
        text::comma(start, out);
        let what = description
            .as_deref()
            .unwrap_or("Gives the final answer. Call it once, with the whole answer.");
        write_function(SCHEMA_TOOL, Some(what), Some(schema), None, None, out);
    }
    out.push(b']');
    match (&request.tool_choice, trick) {
        (_, Some(_)) if told.is_empty() => {
            let choice = ToolChoice::Named(SCHEMA_TOOL.into());
            tool_choice(&choice, object.key("tool_choice"))?;
        }
        (_, Some(_)) => object.string("tool_choice", "required"),
        (Some(choice), None) => tool_choice(choice, object.key("tool_choice"))?,
        (None, None) => {}
    }
    if let Some(parallel) = request.parallel_tools {
        object.boolean("parallel_tool_calls", parallel);
    }
    Ok(())
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
            let cache = cache.filter(|_| is_ours(request) || note(notes, "cache_control"));
            write_function(name, description.as_deref(), *schema, *strict, cache, out);
        }
        Tool::Opaque {
            family: Protocol::OpenaiChat,
            raw,
            ..
        } => out.extend_from_slice(raw.get().as_bytes()),
        Tool::Opaque {
            family: _, name, ..
        } => {
            return Err(Error::unsupported(
                field(request, "tools", index),
                format!("the tool `{name}` is run by its provider and can't be asked of this one"),
            ));
        }
    }
    Ok(())
}

/// Names a field that is left out; false, for use in a filter.
pub(super) fn note(notes: &mut Notes, name: &str) -> bool {
    notes.drop(name);
    false
}

/// Returns the path of an element as the client's protocol writes it.
pub(super) fn field(request: &Request<'_>, list: &str, index: usize) -> String {
    request.family.element(list, index)
}

fn write_function(
    name: &str,
    description: Option<&str>,
    schema: Option<&RawValue>,
    strict: Option<bool>,
    cache: Option<&RawValue>,
    out: &mut Vec<u8>,
) {
    let mut object = Object::open(out);
    object.string("type", "function");
    let mut function = Object::open(object.key("function"));
    function.string("name", name);
    function.maybe_string("description", description);
    function.maybe_raw("parameters", schema);
    if let Some(strict) = strict {
        function.boolean("strict", strict);
    }
    function.close();
    object.maybe_raw("cache_control", cache);
    object.close();
}

fn tool_choice(choice: &ToolChoice<'_>, out: &mut Vec<u8>) -> Result<()> {
    match choice {
        ToolChoice::Auto => out.extend_from_slice(b"\"auto\""),
        ToolChoice::None => out.extend_from_slice(b"\"none\""),
        ToolChoice::Required => out.extend_from_slice(b"\"required\""),
        ToolChoice::Named(name) => {
            out.extend_from_slice(b"{\"type\":\"function\",\"function\":{\"name\":");
            text::string(name, out);
            out.extend_from_slice(b"}}");
        }
        ToolChoice::Opaque {
            family: Protocol::OpenaiChat,
            raw,
        } => out.extend_from_slice(raw.get().as_bytes()),
        ToolChoice::Opaque { .. } => {
            return Err(Error::unsupported(
                "tool_choice",
                "this tool_choice can't be said to the provider of the model",
            ));
        }
    }
    Ok(())
}

/// Writes how long and how free the answer may be.
fn limits(
    request: &Request<'_>,
    facts: &Facts,
    notes: &mut Notes,
    object: &mut Object<'_>,
) -> Result<()> {
    if let Some(asked) = request.max_output {
        let mut most = asked;
        // Anthropic's clients must name a number, and name one that suits Anthropic's models.
        if !is_ours(request)
            && let Some(limit) = facts.max_output
            && asked > limit
        {
            notes.drop("max_tokens above the model's limit");
            most = limit;
        }
        let name = match facts.max_completion_tokens {
            true => "max_completion_tokens",
            false => "max_tokens",
        };
        object.integer(name, most.into());
    }
    let sampling = [
        ("temperature", request.temperature),
        ("top_p", request.top_p),
    ];
    for (name, value) in sampling {
        if let Some(value) = value
            && (!facts.no_sampling || note(notes, name))
        {
            object.number(name, value);
        }
    }
    if let Some(top_k) = request.top_k
        && ((is_ours(request) && !facts.no_sampling) || note(notes, "top_k"))
    {
        object.integer("top_k", top_k.into());
    }
    let penalties = [
        ("frequency_penalty", request.frequency_penalty),
        ("presence_penalty", request.presence_penalty),
    ];
    for (name, value) in penalties {
        if let Some(value) = value {
            object.number(name, value);
        }
    }
    if let Some(seed) = request.seed {
        let out = object.key("seed");
        if seed < 0 {
            out.push(b'-');
        }
        text::integer(seed.unsigned_abs(), out);
    }
    if request.stop.len() > STOP_MAX && !is_ours(request) {
        return Err(Error::unsupported(
            "stop_sequences",
            format!("the provider of the model takes at most {STOP_MAX} stop sequences"),
        ));
    }
    if !request.stop.is_empty() {
        let out = object.key("stop");
        out.push(b'[');
        let start = out.len();
        for stop in &request.stop {
            text::comma(start, out);
            text::string(stop, out);
        }
        out.push(b']');
    }
    if let Some(n) = request.n {
        object.integer("n", n.into());
    }
    if let Some(logprobs) = request.logprobs {
        object.boolean("logprobs", logprobs);
    }
    if let Some(top_logprobs) = request.top_logprobs {
        object.integer("top_logprobs", top_logprobs.into());
    }
    object.maybe_raw("logit_bias", request.logit_bias);
    Ok(())
}

fn response_format(format: &Format<'_>, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    match format {
        Format::Text => object.string("type", "text"),
        Format::JsonObject => object.string("type", "json_object"),
        Format::JsonSchema {
            name,
            description,
            schema,
            strict,
        } => {
            object.string("type", "json_schema");
            let mut inner = Object::open(object.key("json_schema"));
            inner.string("name", name.as_deref().unwrap_or(SCHEMA_NAME));
            inner.maybe_string("description", description.as_deref());
            inner.raw("schema", schema);
            if let Some(strict) = strict {
                inner.boolean("strict", *strict);
            }
            inner.close();
        }
    }
    object.close();
}

/// Writes how much to think. To its own family as it came; to another as the nearest `reasoning_effort`.
fn reasoning(request: &Request<'_>, facts: &Facts, notes: &mut Notes, object: &mut Object<'_>) {
    let Some(reasoning) = &request.reasoning else {
        return;
    };
    let ours = is_ours(request);
    let name = if ours { "reasoning_effort" } else { "thinking" };
    if !facts.reasoning && !ours {
        // Not to think is what such a model does anyway.
        if *reasoning != Reasoning::Off {
            notes.drop(name);
        }
        return;
    }
    let effort = match reasoning {
        Reasoning::Off if ours => Some("none"),
        Reasoning::Off => match facts.reasoning_off {
            Some(least) => Some(effort_word(least)),
            None => {
                notes.drop(name);
                None
            }
        },
        Reasoning::Budget(tokens) if ours => {
            let mut inner = Object::open(object.key("reasoning"));
            inner.integer("max_tokens", (*tokens).into());
            inner.close();
            return;
        }
        Reasoning::Budget(tokens) => Some(match *tokens {
            HIGH_FROM.. => "high",
            MEDIUM_FROM.. => "medium",
            _ => "low",
        }),
        Reasoning::Adaptive(None) => None,
        // Few models know more than high, and the others refuse it.
        Reasoning::Effort(effort) | Reasoning::Adaptive(Some(effort))
            if !ours && *effort > Effort::High =>
        {
            notes.drop("output_config.effort above high");
            Some("high")
        }
        Reasoning::Effort(effort) | Reasoning::Adaptive(Some(effort)) => Some(effort_word(*effort)),
    };
    object.maybe_string("reasoning_effort", effort);
}

fn effort_word(effort: Effort) -> &'static str {
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
    if let Some(user) = request.user.as_deref() {
        let fits = user.chars().take(USER_MAX + 1).count() <= USER_MAX;
        if is_ours(request) || fits || note(notes, "metadata.user_id") {
            object.string("user", user);
        }
    }
    if let Some(metadata) = request.metadata {
        // OpenAI takes metadata for stored answers alone; the user id is said above.
        if is_ours(request) {
            object.raw("metadata", metadata);
        } else if has_more_than_user(metadata) {
            notes.drop("metadata");
        }
    }
    match (request.service_tier.as_deref(), is_ours(request)) {
        (Some(tier), true) => object.string("service_tier", tier),
        (Some("standard_only"), false) => object.string("service_tier", "default"),
        // What happens without it.
        (Some("auto") | None, _) => {}
        (Some(_), false) => notes.drop("service_tier"),
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

/// Gives what the hub has no word for back to its own family; names it to another.
fn extra(request: &Request<'_>, notes: &mut Notes, object: &mut Object<'_>) {
    for (name, raw) in &request.extra {
        // Unknown fields further down are here by their path, and have no place to go back to.
        let nested = name.contains(['[', '.']);
        if is_ours(request) && !nested {
            let out = object.foreign_key(name);
            out.extend_from_slice(raw.get().as_bytes());
        } else {
            notes.drop(name);
        }
    }
}
