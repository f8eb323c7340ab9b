//! A hub request for Cohere.

use serde_json::value::RawValue;

use super::turns::{self, Style};
use crate::error::{Error, Result};
use crate::protocol::chat::{Effort, Format, Reasoning, Request, Tool, ToolChoice};
use crate::protocol::notes::{
    Notes, format_field, note_caller, refuse_bias, refuse_foreign, refuse_several, stop_field,
};
use crate::protocol::text::{self, Object, Reader, comma};
use crate::protocol::{Facts, Protocol, SCHEMA_TOOL, Translated};

/// What Cohere allows at most.
const STOPS_MAX: usize = 5;
const TOP_K_MAX: u32 = 500;
/// Cohere refuses what is warmer.
const TEMPERATURE: std::ops::RangeInclusive<f64> = 0.0..=1.0;
const TOP_P: std::ops::RangeInclusive<f64> = 0.01..=0.99;

const SCHEMA_DESCRIPTION: &str = "Gives the final answer. Call it once, with the whole answer.";

/// Encodes a request; `model` is Cohere's own name of it.
///
/// Errors: `Unsupported`, naming the client's field, when dropping something would change the meaning.
pub fn encode(request: &Request<'_>, model: &str, facts: &Facts) -> Result<Translated> {
    let same = request.family == Protocol::Cohere;
    if !same {
        refuse_foreign(request)?;
    }
    refuse_several(request)?;
    refuse_bias(request)?;
    let mut notes = Notes::default();
    let trick = trick(request, facts, same)?;
    let thinks = facts.reasoning || model.contains("reasoning");
    let style = Style {
        thinks,
        // Cohere refuses documents beside a structured answer.
        documents: same || matches!(request.format, None | Some(Format::Text)),
    };
    let mut out = Vec::with_capacity(1024);
    let mut documents = Vec::new();
    let mut body = Object::open(&mut out);
    body.string("model", model);
    turns::write(
        request,
        style,
        body.key("messages"),
        &mut documents,
        &mut notes,
    )?;
    if !documents.is_empty() {
        let list = body.key("documents");
        list.push(b'[');
        list.append(&mut documents);
        list.push(b']');
    }
    write_tools(request, trick, same, &mut body, &mut notes)?;
    if let (Some(format), None) = (&request.format, trick) {
        write_format(format, body.key("response_format"));
    }
    write_limits(request, same, facts, &mut body, &mut notes)?;
    write_thinking(request, same, thinks, &mut body, &mut notes);
    body.boolean("stream", request.stream);
    for (name, raw) in &request.extra {
        if same && !name.contains(['.', '[']) {
            body.foreign_key(name)
                .extend_from_slice(raw.get().as_bytes());
        } else {
            notes.add(name);
        }
    }
    body.close();
    note_caller(request, &mut notes);
    Ok(Translated {
        body: out,
        dropped: notes.0,
        schema_tool: trick.is_some(),
    })
}

/// Returns the schema of a structured answer that must be asked for as a tool: Cohere takes no `response_format`
/// beside tools.
fn trick<'r>(
    request: &'r Request<'_>,
    facts: &Facts,
    same: bool,
) -> Result<Option<&'r Format<'r>>> {
    let has_tools = !request.tools.is_empty();
    match &request.format {
        Some(format @ Format::JsonSchema { .. }) if !same => {
            let silent = matches!(request.tool_choice, Some(ToolChoice::None));
            let needed = (has_tools && !silent) || facts.json_schema == Some(false);
            let taken = request.tools.iter().any(|tool| match tool {
                Tool::Function { name, .. } | Tool::Opaque { name, .. } => name == SCHEMA_TOOL,
            });
            if needed && taken {
                return Err(Error::unsupported(
                    "tools",
                    format!("A tool can't be called `{SCHEMA_TOOL}` beside structured output"),
                ));
            }
            Ok(needed.then_some(format))
        }
        Some(Format::JsonSchema { .. } | Format::JsonObject | Format::Text) | None => Ok(None),
    }
}

fn write_tools(
    request: &Request<'_>,
    trick: Option<&Format<'_>>,
    same: bool,
    body: &mut Object<'_>,
    notes: &mut Notes,
) -> Result<()> {
    let mut only = None;
    let mut choice = None;
    match &request.tool_choice {
        None | Some(ToolChoice::Auto) => {}
        Some(ToolChoice::None) => choice = Some("NONE"),
        Some(ToolChoice::Required) => choice = Some("REQUIRED"),
        // The one that must be called is the only one that it is told of.
        Some(ToolChoice::Named(name)) => {
            choice = Some("REQUIRED");
            only = Some(&**name);
        }
        Some(ToolChoice::Opaque { .. }) => {
            return Err(Error::unsupported(
                "tool_choice",
                "This tool choice can't be said to Cohere",
            ));
        }
    }
    // Beside a structured answer those that may not be called are left out.
    let structured = matches!(
        request.format,
        Some(Format::JsonObject | Format::JsonSchema { .. })
    );
    if !same && structured && choice == Some("NONE") {
        if !request.tools.is_empty() {
            notes.add("tools (tool_choice is none)");
        }
        only = Some("");
        choice = None;
    }
    if !same && matches!(request.format, Some(Format::JsonObject)) && choice == Some("REQUIRED") {
        return Err(Error::unsupported(
            format_field(request.family),
            "Cohere gives no JSON answer where a tool must be called",
        ));
    }
    let mut list = Vec::new();
    let mut strict = !request.tools.is_empty();
    for (index, tool) in request.tools.iter().enumerate() {
        match tool {
            Tool::Function { name, .. } if only.is_some_and(|only| only != name) => {}
            Tool::Function {
                name,
                description,
                schema,
                strict: one,
                cache,
            } => {
                if cache.is_some() {
                    notes.add("cache_control");
                }
                strict &= *one == Some(true) && (same || schema.is_some_and(has_required));
                if *one == Some(true) && !strict {
                    notes.add("tools.function.strict");
                }
                comma(0, &mut list);
                write_tool(name, description.as_deref(), *schema, &mut list);
            }
            Tool::Opaque { name, .. } => {
                return Err(Error::unsupported(
                    request.family.element("tools", index),
                    format!("The tool `{name}` is of a kind that Cohere doesn't know"),
                ));
            }
        }
    }
    if let Some(Format::JsonSchema {
        description,
        schema,
        ..
    }) = trick
    {
        comma(0, &mut list);
        let told = match description {
            Some(own) => format!("{SCHEMA_DESCRIPTION} {own}"),
            None => SCHEMA_DESCRIPTION.to_owned(),
        };
        write_tool(SCHEMA_TOOL, Some(&told), Some(schema), &mut list);
        choice = Some("REQUIRED");
        strict = false;
    } else if !same && !list.is_empty() && matches!(request.format, Some(Format::JsonObject)) {
        return Err(Error::unsupported(
            format_field(request.family),
            "Cohere gives no JSON answer beside tools; a JSON schema can be asked for",
        ));
    }
    if list.is_empty() {
        if only.is_some_and(|only| !only.is_empty()) {
            return Err(Error::unsupported(
                "tool_choice",
                "The tool that must be called is not among the tools",
            ));
        }
        return Ok(());
    }
    if request.parallel_tools == Some(false) {
        notes.add("parallel_tool_calls");
    }
    let tools = body.key("tools");
    tools.push(b'[');
    tools.append(&mut list);
    tools.push(b']');
    if strict {
        body.boolean("strict_tools", true);
    }
    body.maybe_string("tool_choice", choice);
    Ok(())
}

/// Returns whether some argument is required: without one, Cohere refuses a strict tool.
fn has_required(schema: &RawValue) -> bool {
    let mut found = false;
    let read = Reader::of(schema.get()).object(|r, key| {
        if &*key == "required" && r.peek() == b'[' {
            found = !r.list(Reader::raw)?.is_empty();
            return Ok(());
        }
        r.raw().map(drop)
    });
    found && read.is_ok()
}

fn write_tool(name: &str, description: Option<&str>, schema: Option<&RawValue>, out: &mut Vec<u8>) {
    let mut tool = Object::open(out);
    tool.string("type", "function");
    let mut function = Object::open(tool.key("function"));
    function.string("name", name);
    function.maybe_string("description", description);
    match schema {
        Some(schema) => function.raw("parameters", schema),
        None => function
            .key("parameters")
            .extend_from_slice(b"{\"type\":\"object\",\"properties\":{}}"),
    }
    function.close();
    tool.close();
}

fn write_format(format: &Format<'_>, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    match format {
        Format::Text => object.string("type", "text"),
        Format::JsonObject => object.string("type", "json_object"),
        Format::JsonSchema { schema, .. } => {
            object.string("type", "json_object");
            object.raw("json_schema", schema);
        }
    }
    object.close();
}

fn write_limits(
    request: &Request<'_>,
    same: bool,
    facts: &Facts,
    body: &mut Object<'_>,
    notes: &mut Notes,
) -> Result<()> {
    if let Some(asked) = request.max_output {
        let most = facts.max_output.filter(|most| !same && *most < asked);
        if most.is_some() {
            notes.add("max_tokens above the model's limit");
        }
        body.integer("max_tokens", most.unwrap_or(asked).into());
    }
    let top_p = request
        .top_p
        .map(|p| within(p, "top_p", TOP_P, same, notes));
    let temperature = request
        .temperature
        .map(|value| within(value, "temperature", TEMPERATURE, same, notes));
    let penalty = |value: Option<f64>, name, notes: &mut Notes| {
        value.map(|value| within(value, name, 0.0..=1.0, same, notes))
    };
    let frequency = penalty(request.frequency_penalty, "frequency_penalty", notes);
    let presence = penalty(request.presence_penalty, "presence_penalty", notes);
    for (name, field, value) in [
        ("temperature", "temperature", temperature),
        ("p", "top_p", top_p),
    ] {
        match value {
            Some(_) if facts.no_sampling && !same => notes.add(field),
            Some(value) => body.number(name, value),
            None => {}
        }
    }
    if let Some(k) = request.top_k {
        if k > TOP_K_MAX && !same {
            notes.add("top_k (lowered to 500)");
        }
        body.integer("k", if same { k } else { k.min(TOP_K_MAX) }.into());
    }
    for (name, value) in [
        ("frequency_penalty", frequency),
        ("presence_penalty", presence),
    ] {
        if let Some(value) = value {
            body.number(name, value);
        }
    }
    match request.seed {
        Some(seed) if seed >= 0 || same => body
            .key("seed")
            .extend_from_slice(seed.to_string().as_bytes()),
        Some(_) => notes.add("seed (below zero)"),
        None => {}
    }
    if request.stop.len() > STOPS_MAX && !same {
        return Err(Error::unsupported(
            stop_field(request.family),
            format!("Cohere takes up to {STOPS_MAX} stop sequences"),
        ));
    }
    if !request.stop.is_empty() {
        let out = body.key("stop_sequences");
        out.push(b'[');
        let start = out.len();
        for stop in &request.stop {
            comma(start, out);
            text::string(stop, out);
        }
        out.push(b']');
    }
    if let Some(logprobs) = request.logprobs.filter(|logprobs| same || *logprobs) {
        body.boolean("logprobs", logprobs);
    }
    if request.top_logprobs.is_some_and(|top| top > 0) {
        notes.add("top_logprobs");
    }
    Ok(())
}

/// Returns the nearest value that Cohere takes; its own clients' go as they are.
fn within(
    value: f64,
    name: &str,
    range: std::ops::RangeInclusive<f64>,
    same: bool,
    notes: &mut Notes,
) -> f64 {
    if same || range.contains(&value) {
        return value;
    }
    let nearest = value.clamp(*range.start(), *range.end());
    notes.add(&format!("{name} (taken as {nearest})"));
    nearest
}

fn write_thinking(
    request: &Request<'_>,
    same: bool,
    thinks: bool,
    body: &mut Object<'_>,
    notes: &mut Notes,
) {
    let Some(reasoning) = &request.reasoning else {
        return;
    };
    let off = matches!(reasoning, Reasoning::Off | Reasoning::Effort(Effort::None));
    if !thinks && !same {
        // Not to think is what such a model does anyway.
        if !off {
            notes.add("reasoning (the model is not known to think)");
        }
        return;
    }
    let budget = match reasoning {
        Reasoning::Off | Reasoning::Adaptive(None) => None,
        Reasoning::Budget(budget) => Some(*budget),
        Reasoning::Effort(effort) | Reasoning::Adaptive(Some(effort)) => match effort {
            Effort::None => None,
            Effort::Minimal => Some(512),
            Effort::Low => Some(1024),
            Effort::Medium => Some(4096),
            // Without a budget it thinks as long as it likes.
            Effort::High | Effort::Xhigh | Effort::Max => None,
        },
    };
    let mut thinking = Object::open(body.key("thinking"));
    thinking.string("type", if off { "disabled" } else { "enabled" });
    if let Some(budget) = budget {
        thinking.integer("token_budget", budget.into());
    }
    thinking.close();
}
