//! A hub request for an Ollama server.
//!
//! `stream` is always written, for Ollama streams unless it is told not to.

use serde_json::value::RawValue;

use super::turns;
use crate::error::{Error, Result};
use crate::protocol::chat::{Effort, Format, Reasoning, Request, Tool, ToolChoice};
use crate::protocol::notes::{
    Notes, format_field, note_caller, refuse_bias, refuse_foreign, refuse_several,
};
use crate::protocol::text::{self, Object, comma};
use crate::protocol::{Facts, Protocol, Translated};

/// Encodes a request; `model` is Ollama's own name of it.
///
/// Errors: `Unsupported`, naming the client's field, when dropping something would change the meaning.
pub fn encode(request: &Request<'_>, model: &str, facts: &Facts) -> Result<Translated> {
    let same = request.family == Protocol::Ollama;
    if !same {
        refuse_foreign(request)?;
    }
    refuse_several(request)?;
    refuse_bias(request)?;
    let mut notes = Notes::default();
    let mut out = Vec::with_capacity(1024);
    let mut body = Object::open(&mut out);
    body.string("model", model);
    turns::write(request, same, facts, body.key("messages"), &mut notes)?;
    write_tools(request, &mut body, &mut notes)?;
    write_format(request, same, &mut body)?;
    write_options(request, same, facts, &mut body, &mut notes);
    write_think(request, same, model, facts, &mut body, &mut notes);
    if let Some(logprobs) = request.logprobs {
        body.boolean("logprobs", logprobs);
    }
    if let Some(top) = request.top_logprobs {
        body.integer("top_logprobs", top.into());
    }
    body.boolean("stream", request.stream);
    for (name, raw) in &request.extra {
        if name.starts_with("options.") && same {
            continue;
        }
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
        schema_tool: false,
    })
}

/// Writes the form of the answer. Every token has to fit it, so no tool could be called beside it.
fn write_format(request: &Request<'_>, same: bool, body: &mut Object<'_>) -> Result<()> {
    let may_call =
        !request.tools.is_empty() && !matches!(request.tool_choice, Some(ToolChoice::None));
    match &request.format {
        None | Some(Format::Text) => {}
        Some(Format::JsonObject | Format::JsonSchema { .. }) if may_call && !same => {
            return Err(Error::unsupported(
                format_field(request.family),
                "An Ollama server calls no tools where its answer has to be of a form",
            ));
        }
        Some(Format::JsonObject) => body.string("format", "json"),
        Some(Format::JsonSchema { schema, .. }) => body.raw("format", schema),
    }
    Ok(())
}

fn write_tools(request: &Request<'_>, body: &mut Object<'_>, notes: &mut Notes) -> Result<()> {
    match &request.tool_choice {
        None | Some(ToolChoice::Auto) => {}
        // Tools that it isn't told of can't be called.
        Some(ToolChoice::None) => {
            if !request.tools.is_empty() {
                notes.add("tools (tool_choice is none)");
            }
            return Ok(());
        }
        Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Opaque { .. }) => {
            return Err(Error::unsupported(
                "tool_choice",
                "An Ollama server can't be told that a tool must be called",
            ));
        }
    }
    if request.tools.is_empty() {
        return Ok(());
    }
    if request.parallel_tools == Some(false) {
        notes.add("parallel_tool_calls");
    }
    let out = body.key("tools");
    out.push(b'[');
    let start = out.len();
    for (index, tool) in request.tools.iter().enumerate() {
        match tool {
            Tool::Function {
                name,
                description,
                schema,
                strict,
                cache,
            } => {
                if *strict == Some(true) {
                    notes.add("tools.function.strict");
                }
                if cache.is_some() {
                    notes.add("cache_control");
                }
                comma(start, out);
                write_tool(name, description.as_deref(), *schema, out);
            }
            Tool::Opaque { name, .. } => {
                return Err(Error::unsupported(
                    request.family.element("tools", index),
                    format!("The tool `{name}` is of a kind that an Ollama server doesn't know"),
                ));
            }
        }
    }
    out.push(b']');
    Ok(())
}

fn write_tool(name: &str, description: Option<&str>, schema: Option<&RawValue>, out: &mut Vec<u8>) {
    let mut tool = Object::open(out);
    tool.string("type", "function");
    let mut function = Object::open(tool.key("function"));
    function.string("name", name);
    function.maybe_string("description", description);
    match schema {
        Some(schema) => function.raw("parameters", schema),
        // The templates of several models read it without looking whether it is there.
        None => function
            .key("parameters")
            .extend_from_slice(b"{\"type\":\"object\",\"properties\":{}}"),
    }
    function.close();
    tool.close();
}

fn write_options(
    request: &Request<'_>,
    same: bool,
    facts: &Facts,
    body: &mut Object<'_>,
    notes: &mut Notes,
) {
    let mut inside = Vec::new();
    let mut options = Object::open(&mut inside);
    for (name, value) in [
        ("temperature", request.temperature),
        ("top_p", request.top_p),
        ("top_k", request.top_k.map(f64::from)),
        ("presence_penalty", request.presence_penalty),
        ("frequency_penalty", request.frequency_penalty),
    ] {
        match value {
            Some(_) if facts.no_sampling && !same => notes.add(name),
            Some(value) => options.number(name, value),
            None => {}
        }
    }
    if let Some(seed) = request.seed {
        let out = options.key("seed");
        out.extend_from_slice(seed.to_string().as_bytes());
    }
    if let Some(asked) = request.max_output {
        let most = facts.max_output.filter(|most| !same && *most < asked);
        if most.is_some() {
            notes.add("max_tokens above the model's limit");
        }
        options.integer("num_predict", most.unwrap_or(asked).into());
    }
    if !request.stop.is_empty() {
        let out = options.key("stop");
        out.push(b'[');
        let start = out.len();
        for stop in &request.stop {
            comma(start, out);
            text::string(stop, out);
        }
        out.push(b']');
    }
    for (name, raw) in request.extra.iter().filter(|_| same) {
        if let Some(name) = name.strip_prefix("options.") {
            options
                .foreign_key(name)
                .extend_from_slice(raw.get().as_bytes());
        }
    }
    options.close();
    if inside.len() > 2 {
        body.key("options").extend_from_slice(&inside);
    }
}

/// Writes whether to think. Ollama refuses it for a model that can't, and a level for any but gpt-oss:
/// <https://docs.ollama.com/capabilities/thinking>.
fn write_think(
    request: &Request<'_>,
    same: bool,
    model: &str,
    facts: &Facts,
    body: &mut Object<'_>,
    notes: &mut Notes,
) {
    let Some(reasoning) = &request.reasoning else {
        return;
    };
    let levels = model.contains("gpt-oss");
    let off = matches!(reasoning, Reasoning::Off | Reasoning::Effort(Effort::None));
    if !same && !levels && !facts.reasoning {
        if !off {
            notes.add("reasoning (the model is not known to think)");
        }
        return;
    }
    let level = match reasoning {
        _ if off => None,
        Reasoning::Off | Reasoning::Adaptive(None) => None,
        Reasoning::Effort(effort) | Reasoning::Adaptive(Some(effort)) => Some(match effort {
            Effort::None | Effort::Minimal | Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High | Effort::Xhigh => "high",
            Effort::Max if same => "max",
            Effort::Max => "high",
        }),
        Reasoning::Budget(budget) => Some(match budget {
            0..=2048 => "low",
            2049..=8192 => "medium",
            _ => "high",
        }),
    };
    match level {
        Some(level) if levels || (same && matches!(reasoning, Reasoning::Effort(_))) => {
            body.string("think", level);
        }
        None if off && levels && !same => {
            notes.add("reasoning (the model thinks as little as it can)");
            body.string("think", "low");
        }
        Some(_) | None => body.boolean("think", !off),
    }
}
