//! The hub's request as a body for a Gemini provider.
//!
//! Decisions that are not obvious:
//! - Schemas go as JSON Schema (`parametersJsonSchema`, `responseJsonSchema`), which all models that can still be
//!   asked take; those that came in OpenAPI's words go back as they were.
//! - Models before the third generation refuse functions beside a structured answer. There the answer is the call
//!   of one more function.
//! - Thinking that is asked for is shown, as every other protocol shows it.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::schema;
use super::super::words::{Kind, Notes};
use super::thinking::{Plan, Thinking};
use super::turns::{Conversation, write_contents, write_system};
use crate::error::{Error, Result};
use crate::protocol::chat::{Format, Request, Tool, ToolChoice};
use crate::protocol::text::{self, Object, Reader, comma};
use crate::protocol::{Facts, Protocol, SCHEMA_TOOL, Translated};

/// How many stop sequences Google takes.
const STOP_MAX: usize = 5;
/// How many answers Google gives to one request.
const CANDIDATES_MAX: u32 = 8;

const SCHEMA_DESCRIPTION: &str =
    "Gives the answer. Call this function once, with the whole answer as its arguments.";

/// How the answer's form is asked for.
#[derive(Debug, Clone, Copy)]
enum Structure<'r> {
    Free,
    /// `responseMimeType`, with a schema or without.
    Native(Option<&'r RawValue>),
    /// The arguments of a function that must be called.
    Tool {
        schema: &'r RawValue,
        description: Option<&'r str>,
    },
    /// A sentence in the system instruction.
    Instruction,
}

/// Encodes a request for a Gemini provider. `model` is the provider's own id, and stands in the path alone.
pub fn encode(request: &Request<'_>, model: &str, facts: &Facts) -> Result<Translated> {
    let mut notes = Notes::default();
    let same = request.family == Protocol::Gemini;
    let kind = Kind::of(model);
    refuse(request, same)?;
    let structure = structure(request, kind, facts, &mut notes)?;
    let conversation = Conversation::new(request, same, kind, &mut notes)?;
    let mut out = Vec::with_capacity(conversation.size() + 512);
    let mut body = Object::open(&mut out);
    write_contents(&conversation, body.key("contents"), &mut notes)?;
    let asks_in_words = matches!(structure, Structure::Instruction);
    write_system(&conversation, asks_in_words, &mut body, &mut notes)?;
    write_tools(request, structure, same, &mut body, &mut notes)?;
    write_choice(request, structure, same, &mut body, &mut notes)?;
    body.object("generationConfig", |config| {
        write_config(request, structure, kind, facts, config, &mut notes);
    });
    write_tier(request, same, &mut body, &mut notes);
    write_extra(request, same, &mut body, &mut notes);
    body.close();
    mention_unsayable(request, &mut notes);
    let schema_tool = matches!(structure, Structure::Tool { .. });
    Ok(Translated {
        body: out,
        dropped: notes.0,
        schema_tool,
    })
}

/// Refuses what would change the answer's meaning if it were dropped.
fn refuse(request: &Request<'_>, same: bool) -> Result<()> {
    if same {
        return Ok(());
    }
    if let Some(n) = request.n.filter(|n| *n > 1) {
        let sayable = !request.stream && n <= CANDIDATES_MAX;
        if !sayable {
            return Err(Error::unsupported(
                "n",
                format!(
                    "Gemini models give up to {CANDIDATES_MAX} answers at once, and one in a stream"
                ),
            ));
        }
    }
    if request
        .logit_bias
        .is_some_and(|bias| bias.get().contains('"'))
    {
        return Err(Error::unsupported(
            "logit_bias",
            "Gemini models take no logit bias",
        ));
    }
    let stops = request.stop.iter().filter(|stop| !stop.is_empty()).count();
    if stops > STOP_MAX {
        let field = match request.family {
            Protocol::Anthropic | Protocol::Cohere => "stop_sequences",
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Gemini
            | Protocol::Bedrock
            | Protocol::Ollama => "stop",
        };
        return Err(Error::unsupported(
            field,
            format!("Gemini models take up to {STOP_MAX} stop sequences"),
        ));
    }
    for (name, raw) in &request.extra {
        // These two are read here alone.
        let fault = match &**name {
            "modalities" if Reader::of(raw.get()).list(Reader::string).is_err() => {
                "should be a list of strings"
            }
            "web_search_options" if !raw.get().starts_with('{') => "should be an object",
            _ => "",
        };
        if !fault.is_empty() && request.family != Protocol::Gemini {
            return Err(Error::field(name.to_string(), format!("`{name}` {fault}.")));
        }
        if name == "audio" || (name == "modalities" && has_word(raw, "audio")) {
            return Err(Error::unsupported(
                name.to_string(),
                "A Gemini model's speech can't be told in this protocol",
            ));
        }
    }
    Ok(())
}

fn has_word(list: &RawValue, word: &str) -> bool {
    Reader::of(list.get())
        .list(Reader::string)
        .is_ok_and(|words| words.iter().any(|one| one == word))
}

fn structure<'r>(
    request: &'r Request<'_>,
    kind: Kind,
    facts: &Facts,
    notes: &mut Notes,
) -> Result<Structure<'r>> {
    let own = request.family == Protocol::Gemini;
    let functions = request
        .tools
        .iter()
        .any(|tool| matches!(tool, Tool::Function { .. }));
    let forbidden = matches!(request.tool_choice, Some(ToolChoice::None));
    let able = own || kind.is_third() || !functions;
    Ok(match &request.format {
        None | Some(Format::Text) => Structure::Free,
        Some(Format::JsonObject) if able => Structure::Native(None),
        Some(Format::JsonObject) => {
            notes.add("response_format (json_object is asked for in words)");
            Structure::Instruction
        }
        Some(Format::JsonSchema { schema, .. }) if own => Structure::Native(Some(schema)),
        Some(Format::JsonSchema { schema, .. }) if able && facts.json_schema != Some(false) => {
            Structure::Native(Some(schema))
        }
        Some(Format::JsonSchema {
            schema,
            description,
            ..
        }) => {
            let required = matches!(
                request.tool_choice,
                Some(ToolChoice::Required | ToolChoice::Named(_))
            );
            if required && functions {
                // This turn is to be a call, not the structured answer.
                notes.add("response_format (a tool call is required)");
                return Ok(Structure::Free);
            }
            if functions && forbidden {
                return Ok(Structure::Native(Some(schema)));
            }
            let taken = request.tools.iter().any(|tool| match tool {
                Tool::Function { name, .. } | Tool::Opaque { name, .. } => name == SCHEMA_TOOL,
            });
            if taken {
                return Err(Error::unsupported(
                    "tools",
                    format!("A tool can't be called `{SCHEMA_TOOL}` beside structured output"),
                ));
            }
            if !schema::is_object(schema) {
                return Err(Error::unsupported(
                    "response_format.json_schema.schema",
                    "The schema of a structured output should be of type `object`",
                ));
            }
            Structure::Tool {
                schema,
                description: description.as_deref(),
            }
        }
    })
}

fn write_tools(
    request: &Request<'_>,
    structure: Structure<'_>,
    same: bool,
    body: &mut Object<'_>,
    notes: &mut Notes,
) -> Result<()> {
    let mut functions = Vec::new();
    let mut others = Vec::new();
    // Beside a structured answer, those that may not be called anyway are left out for the models that refuse both.
    let silent = matches!(structure, Structure::Native(_))
        && !same
        && matches!(request.tool_choice, Some(ToolChoice::None));
    for (index, tool) in request.tools.iter().enumerate() {
        match tool {
            Tool::Function { .. } if silent => {}
            Tool::Function {
                name,
                description,
                schema,
                strict,
                cache,
            } => {
                comma(0, &mut functions);
                if *strict == Some(true) {
                    notes.add("tools.function.strict");
                }
                if cache.is_some() {
                    notes.add("cache_control");
                }
                let mut function = Object::open(&mut functions);
                function.string("name", name);
                function.maybe_string("description", description.as_deref());
                if let Some(schema) = schema {
                    let openapi = same && schema::is_openapi(schema);
                    let field = if openapi {
                        "parameters"
                    } else {
                        "parametersJsonSchema"
                    };
                    function.raw(field, schema);
                }
                function.close();
            }
            Tool::Opaque {
                family: Protocol::Gemini,
                name,
                raw,
            } => {
                comma(0, &mut others);
                let mut object = Object::open(&mut others);
                object
                    .foreign_key(name)
                    .extend_from_slice(raw.get().as_bytes());
                object.close();
            }
            Tool::Opaque {
                family: _, name, ..
            } => {
                return Err(Error::unsupported(
                    request.family.element("tools", index),
                    format!("The tool `{name}` is of a kind that a Gemini model doesn't know"),
                ));
            }
        }
    }
    if let Structure::Tool {
        schema,
        description,
    } = structure
    {
        comma(0, &mut functions);
        let mut function = Object::open(&mut functions);
        function.string("name", SCHEMA_TOOL);
        let told = match description {
            Some(own) => Cow::Owned(format!("{SCHEMA_DESCRIPTION} {own}")),
            None => Cow::Borrowed(SCHEMA_DESCRIPTION),
        };
        function.string("description", &told);
        function.raw("parametersJsonSchema", schema);
        function.close();
    }
    // OpenAI's own search of the web is Google's here.
    let searches = !same
        && request
            .extra
            .iter()
            .any(|(name, _)| name == "web_search_options");
    if searches {
        comma(0, &mut others);
        others.extend_from_slice(b"{\"googleSearch\":{}}");
    }
    if functions.is_empty() && others.is_empty() {
        return Ok(());
    }
    let out = body.key("tools");
    out.push(b'[');
    let start = out.len();
    if !functions.is_empty() {
        out.extend_from_slice(b"{\"functionDeclarations\":[");
        out.extend_from_slice(&functions);
        out.extend_from_slice(b"]}");
    }
    if !others.is_empty() {
        comma(start, out);
        out.extend_from_slice(&others);
    }
    out.push(b']');
    Ok(())
}

fn write_choice(
    request: &Request<'_>,
    structure: Structure<'_>,
    same: bool,
    body: &mut Object<'_>,
    notes: &mut Notes,
) -> Result<()> {
    let strangers: Vec<_> = nested(request, same, "toolConfig.").collect();
    let functions = request
        .tools
        .iter()
        .any(|tool| matches!(tool, Tool::Function { .. }));
    let mut only = None;
    let mode = match (&request.tool_choice, structure) {
        (choice, Structure::Tool { .. }) => {
            if !functions || matches!(choice, Some(ToolChoice::None)) {
                only = Some(SCHEMA_TOOL);
            }
            Some("ANY")
        }
        // Google refuses a configuration of functions that aren't there.
        (Some(ToolChoice::Required | ToolChoice::Named(_)), _) if !functions && !same => {
            notes.add("tool_choice (there are no tools)");
            None
        }
        (Some(_), _) if !functions && !same => None,
        (None, _) => None,
        (Some(ToolChoice::None), Structure::Native(_)) if !same => None,
        (Some(ToolChoice::Auto), _) => Some("AUTO"),
        (Some(ToolChoice::None), _) => Some("NONE"),
        (Some(ToolChoice::Required), _) => Some("ANY"),
        (Some(ToolChoice::Named(name)), _) => {
            only = Some(name);
            Some("ANY")
        }
        (
            Some(ToolChoice::Opaque {
                family: Protocol::Gemini,
                ..
            }),
            _,
        ) => None,
        (Some(ToolChoice::Opaque { .. }), _) => {
            return Err(Error::unsupported(
                "tool_choice",
                "This tool choice can't be said to a Gemini model",
            ));
        }
    };
    let whole = match &request.tool_choice {
        Some(ToolChoice::Opaque {
            family: Protocol::Gemini,
            raw,
        }) => Some(*raw),
        Some(
            ToolChoice::Auto
            | ToolChoice::None
            | ToolChoice::Required
            | ToolChoice::Named(_)
            | ToolChoice::Opaque { .. },
        )
        | None => None,
    };
    if request.parallel_tools == Some(false) && functions {
        notes.add("parallel_tool_calls");
    }
    if mode.is_none() && whole.is_none() && strangers.is_empty() {
        return Ok(());
    }
    let mut config = Object::open(body.key("toolConfig"));
    if let Some(raw) = whole {
        config.raw("functionCallingConfig", raw);
    } else if let Some(mode) = mode {
        let mut calling = Object::open(config.key("functionCallingConfig"));
        calling.string("mode", mode);
        if let Some(name) = only {
            let names = calling.key("allowedFunctionNames");
            names.push(b'[');
            text::string(name, names);
            names.push(b']');
        }
        calling.close();
    }
    for (key, raw) in strangers {
        config
            .foreign_key(key)
            .extend_from_slice(raw.get().as_bytes());
    }
    config.close();
    Ok(())
}

fn write_config(
    request: &Request<'_>,
    structure: Structure<'_>,
    kind: Kind,
    facts: &Facts,
    config: &mut Object<'_>,
    notes: &mut Notes,
) {
    let same = request.family == Protocol::Gemini;
    for (name, field, value) in [
        ("temperature", "temperature", request.temperature),
        ("topP", "top_p", request.top_p),
        ("topK", "top_k", request.top_k.map(f64::from)),
    ] {
        match value {
            Some(_) if facts.no_sampling => {
                notes.add(format!("{field} (the model takes no sampling)"));
            }
            Some(value) => config.number(name, value),
            None => {}
        }
    }
    if let Some(n) = request.n.filter(|n| same || *n > 1) {
        config.integer("candidateCount", n.into());
    }
    if let Some(asked) = request.max_output {
        let most = facts.max_output.filter(|most| !same && *most < asked);
        if let Some(most) = most {
            notes.add(format!("max_tokens (lowered to {most})"));
        }
        config.integer("maxOutputTokens", most.unwrap_or(asked).into());
    }
    write_stop(request, config);
    for (name, value) in [
        ("presencePenalty", request.presence_penalty),
        ("frequencyPenalty", request.frequency_penalty),
    ] {
        // Few models take them, and zero is what they have without.
        if let Some(value) = value.filter(|value| same || *value != 0.0) {
            config.number(name, value);
        }
    }
    if let Some(seed) = request.seed {
        match i32::try_from(seed) {
            Ok(seed) => config
                .key("seed")
                .extend_from_slice(seed.to_string().as_bytes()),
            Err(_) => notes.add("seed (not a 32-bit number)"),
        }
    }
    if let Structure::Native(schema) = structure {
        config.string("responseMimeType", "application/json");
        if let Some(schema) = schema {
            let openapi = same && schema::is_openapi(schema);
            let field = if openapi {
                "responseSchema"
            } else {
                "responseJsonSchema"
            };
            config.raw(field, schema);
        }
    }
    if let Some(logprobs) = request.logprobs {
        if logprobs || same {
            config.boolean("responseLogprobs", logprobs);
        }
        if let Some(top) = request.top_logprobs.filter(|top| logprobs && *top > 0) {
            config.integer("logprobs", top.into());
        }
    } else if request.top_logprobs.is_some_and(|top| top > 0) {
        notes.add("top_logprobs (logprobs is not asked for)");
    }
    write_thinking(request, kind, facts, config, notes);
    if !same
        && let Some((_, raw)) = request.extra.iter().find(|(name, _)| name == "modalities")
        && has_word(raw, "image")
    {
        let words: &[u8] = if has_word(raw, "text") {
            b"[\"TEXT\",\"IMAGE\"]"
        } else {
            b"[\"IMAGE\"]"
        };
        config.key("responseModalities").extend_from_slice(words);
    }
    for (key, raw) in nested(request, same, "generationConfig.") {
        // Of no list that is decoded: the name is taken as it came.
        if !key.contains('.') {
            config
                .foreign_key(key)
                .extend_from_slice(raw.get().as_bytes());
        }
    }
}

fn write_stop(request: &Request<'_>, config: &mut Object<'_>) {
    let mut kept = request.stop.iter().filter(|stop| !stop.is_empty());
    let Some(first) = kept.next() else {
        return;
    };
    let out = config.key("stopSequences");
    out.push(b'[');
    text::string(first, out);
    for stop in kept {
        out.push(b',');
        text::string(stop, out);
    }
    out.push(b']');
}

fn write_thinking(
    request: &Request<'_>,
    kind: Kind,
    facts: &Facts,
    config: &mut Object<'_>,
    notes: &mut Notes,
) {
    let same = request.family == Protocol::Gemini;
    let mut plan = Plan::new(request, kind, facts, notes);
    // What a client of this family wants shown stands among the fields that the hub has no word for.
    plan.shown &= !same;
    let strangers: Vec<_> = nested(request, same, "generationConfig.thinkingConfig.").collect();
    if plan.thinking.is_none() && !plan.shown && strangers.is_empty() {
        return;
    }
    let mut thinking = Object::open(config.key("thinkingConfig"));
    match plan.thinking {
        Some(Thinking::Budget(budget)) => thinking
            .key("thinkingBudget")
            .extend_from_slice(budget.to_string().as_bytes()),
        Some(Thinking::Level(level)) => thinking.string("thinkingLevel", level),
        None => {}
    }
    if plan.shown {
        thinking.boolean("includeThoughts", true);
    }
    for (key, raw) in strangers {
        thinking
            .foreign_key(key)
            .extend_from_slice(raw.get().as_bytes());
    }
    thinking.close();
}

fn write_tier(request: &Request<'_>, same: bool, body: &mut Object<'_>, notes: &mut Notes) {
    match request.service_tier.as_deref() {
        None | Some("auto") => {}
        Some(tier) if same => body.string("serviceTier", tier),
        Some(tier @ ("flex" | "priority")) => body.string("serviceTier", tier),
        Some("default" | "standard" | "standard_only") => body.string("serviceTier", "standard"),
        Some(_) => notes.add("service_tier"),
    }
}

/// Returns the fields that the hub had no word for and that stood in the object at `prefix`.
fn nested<'r>(
    request: &'r Request<'_>,
    same: bool,
    prefix: &'r str,
) -> impl Iterator<Item = (&'r str, &'r RawValue)> {
    request
        .extra
        .iter()
        .filter(move |_| same)
        .filter_map(move |(name, raw)| Some((name.strip_prefix(prefix)?, *raw)))
}

fn write_extra(request: &Request<'_>, same: bool, body: &mut Object<'_>, notes: &mut Notes) {
    for (name, raw) in &request.extra {
        if !same {
            let said = matches!(&**name, "web_search_options" | "modalities");
            if !said {
                notes.add(name.as_ref());
            }
        } else if !name.contains('.') {
            body.foreign_key(name)
                .extend_from_slice(raw.get().as_bytes());
        } else if !name.starts_with("generationConfig.") && !name.starts_with("toolConfig.") {
            notes.add(name.as_ref());
        }
    }
}

/// Names what Google has no word for and the answer can do without.
fn mention_unsayable(request: &Request<'_>, notes: &mut Notes) {
    for (given, name) in [
        (request.verbosity.is_some(), "verbosity"),
        (request.metadata.is_some(), "metadata"),
        (request.user.is_some(), "user"),
    ] {
        if given {
            notes.add(name);
        }
    }
}
