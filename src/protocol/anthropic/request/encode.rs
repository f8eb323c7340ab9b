//! The hub's request as a body for an Anthropic provider.
//!
//! Decisions that are not obvious:
//! - System and developer messages of another family are joined, in their order, in `system`, wherever they
//!   stood: `role: system` amid `messages` is understood by few models. Those of the own family stay in place.
//! - Turns of one role that follow each other are merged; tool results come first in a user's turn, signed
//!   thinking first in an assistant's, as Anthropic demands.
//! - Text that is nothing but white space is left out: Anthropic refuses it.
//! - A conversation that starts with the assistant is sent as it is: what to say before it isn't ours to know.

use serde_json::value::RawValue;

use super::messages::{conversation, write_messages, write_system};
use super::plan::{Choice, Notes, Plan, Structure, Thinking};
use super::schema;
use crate::error::{Error, Result};
use crate::protocol::chat::{Effort, Part, Request, Source, Tool};
use crate::protocol::text::{self, Object, comma};
use crate::protocol::{Facts, Protocol, SCHEMA_TOOL, Translated};

const SCHEMA_DESCRIPTION: &str =
    "Gives the answer. Call this tool once, with the whole answer as its input.";

/// Encodes a request for an Anthropic provider. `model` is the provider's own id.
pub fn encode(request: &Request<'_>, model: &str, facts: &Facts) -> Result<Translated> {
    let mut notes = Notes::default();
    let plan = Plan::new(request, facts, &mut notes)?;
    let conversation = conversation(request, plan.same, &mut notes)?;
    let mut out = Vec::with_capacity(size(request));
    let mut body = Object::open(&mut out);
    body.string("model", model);
    text::integer(plan.max_tokens.into(), body.key("max_tokens"));
    write_system(&conversation, &plan, &mut body)?;
    write_messages(&conversation, &plan, body.key("messages"), &mut notes)?;
    write_tools(request, &plan, facts, &mut body, &mut notes)?;
    if let Some(choice) = choice(&plan, request) {
        write_choice(choice, plan.parallel, body.key("tool_choice"));
    }
    write_thinking(request, &plan, &mut body);
    write_output_config(request, &plan, &mut body);
    for (name, value) in [("temperature", plan.temperature), ("top_p", plan.top_p)] {
        if let Some(value) = value {
            text::number(value, body.key(name));
        }
    }
    if let Some(top_k) = plan.top_k {
        text::integer(top_k.into(), body.key("top_k"));
    }
    write_stop(request, plan.same, &mut body, &mut notes);
    write_metadata(request, plan.same, &mut body);
    write_service_tier(request, plan.same, &mut body, &mut notes);
    if request.stream {
        body.boolean("stream", true);
    }
    write_extra(request, plan.same, &mut body, &mut notes);
    body.close();
    let schema_tool = matches!(plan.structure, Structure::Tool { .. });
    Ok(Translated {
        body: out,
        dropped: notes.0,
        schema_tool,
    })
}

/// Returns about how many bytes the body will take, so that it is allocated once.
fn size(request: &Request<'_>) -> usize {
    fn of(parts: &[Part<'_>]) -> usize {
        parts
            .iter()
            .map(|part| {
                96 + match part {
                    Part::Text { text, .. }
                    | Part::Refusal { text }
                    | Part::Reasoning { text, .. } => text.size(),
                    Part::Audio { data, .. } | Part::RedactedReasoning { data } => data.len(),
                    Part::Image { source, .. } | Part::File { source, .. } => match source {
                        Source::Url(text) | Source::Text(text) => text.len(),
                        Source::Base64 { data, .. } => data.len(),
                        Source::FileId { id, .. } => id.len(),
                    },
                    Part::ToolCall { arguments, .. } => arguments.len(),
                    Part::ToolResult { parts, .. } => of(parts),
                    Part::Opaque { raw, .. } => raw.get().len(),
                }
            })
            .sum()
    }
    let messages: usize = request
        .messages
        .iter()
        .map(|message| 32 + of(&message.parts))
        .sum();
    let tools: usize = request
        .tools
        .iter()
        .map(|tool| match tool {
            Tool::Function {
                description,
                schema,
                ..
            } => {
                128 + description.as_ref().map_or(0, |text| text.len())
                    + schema.map_or(0, |raw| raw.get().len())
            }
            Tool::Opaque { raw, .. } => raw.get().len(),
        })
        .sum();
    512 + messages + messages / 16 + tools
}

fn write_tools(
    request: &Request<'_>,
    plan: &Plan<'_>,
    facts: &Facts,
    body: &mut Object<'_>,
    notes: &mut Notes,
) -> Result<()> {
    let structure = match plan.structure {
        Structure::Tool {
            schema,
            description,
        } => Some((schema, description)),
        Structure::Free | Structure::Native(_) | Structure::Instruction => None,
    };
    if request.tools.is_empty() && plan.undefined.is_empty() && structure.is_none() {
        return Ok(());
    }
    let out = body.key("tools");
    out.push(b'[');
    let start = out.len();
    let mut strangers = request
        .extra
        .iter()
        .filter(|(name, _)| plan.same && name.starts_with("tools."))
        .peekable();
    for (index, tool) in request.tools.iter().enumerate() {
        comma(start, out);
        let (name, description, schema, strict, cache) = match tool {
            Tool::Opaque {
                family: Protocol::Anthropic,
                raw,
                ..
            } => {
                out.extend_from_slice(raw.get().as_bytes());
                continue;
            }
            Tool::Opaque {
                family: _, name, ..
            } => {
                return Err(Error::unsupported(
                    tool_path(request, index),
                    format!("The tool `{name}` is of a kind that an Anthropic model doesn't know"),
                ));
            }
            Tool::Function {
                name,
                description,
                schema,
                strict,
                cache,
            } => (name, description, schema, strict, cache),
        };
        let mut object = Object::open(out);
        object.string("name", name);
        if let Some(description) = description {
            object.string("description", description);
        }
        if !schema::write_input(*schema, object.key("input_schema")) {
            return Err(Error::field(
                format!("{}.function.parameters", tool_path(request, index)),
                "The parameters of a tool should be a schema of type `object`",
            ));
        }
        match strict {
            Some(strict) if plan.same => object.boolean("strict", *strict),
            Some(true)
                if facts.json_schema == Some(true) && schema.is_some_and(schema::is_native) =>
            {
                object.boolean("strict", true);
            }
            Some(true) => notes.add("tools.function.strict"),
            Some(false) | None => {}
        }
        object.maybe_raw("cache_control", *cache);
        // They stand in the order of the tools.
        while let Some((path, raw)) = strangers.next_if(|(path, _)| index_of(path) <= Some(index)) {
            if index_of(path) == Some(index)
                && let Some(key) = path.splitn(3, '.').nth(2)
                && !key.contains('.')
            {
                object
                    .foreign_key(key)
                    .extend_from_slice(raw.get().as_bytes());
            }
        }
        object.close();
    }
    for name in &plan.undefined {
        comma(start, out);
        let mut object = Object::open(out);
        object.string("name", name);
        schema::write_input(None, object.key("input_schema"));
        object.close();
    }
    if let Some((schema, description)) = structure {
        comma(start, out);
        write_schema_tool(schema, description, out)?;
    }
    out.push(b']');
    Ok(())
}

/// Returns the path of a tool as the client's protocol spells it.
fn tool_path(request: &Request<'_>, index: usize) -> String {
    request.family.element("tools", index)
}

fn index_of(path: &str) -> Option<usize> {
    path.split('.').nth(1)?.parse().ok()
}

fn write_schema_tool(
    schema: &RawValue,
    description: Option<&str>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut object = Object::open(out);
    object.string("name", SCHEMA_TOOL);
    match description {
        Some(own) => object.string("description", &format!("{SCHEMA_DESCRIPTION} {own}")),
        None => object.string("description", SCHEMA_DESCRIPTION),
    }
    if !schema::write_input(Some(schema), object.key("input_schema")) {
        // OpenAI refuses it too: there is no wrapping it without telling the answer apart again.
        return Err(Error::unsupported(
            "response_format.json_schema.schema",
            "The schema of a structured output should be of type `object`",
        ));
    }
    object.close();
    Ok(())
}

/// Returns the tool choice to write: `parallel_tools` needs one to stand in.
fn choice<'r>(plan: &Plan<'r>, request: &Request<'_>) -> Option<Choice<'r>> {
    let needed = plan.parallel.is_some() && !request.tools.is_empty();
    plan.choice.or(needed.then_some(Choice::Auto))
}

fn write_choice(choice: Choice<'_>, parallel: Option<bool>, out: &mut Vec<u8>) {
    let kind = match choice {
        Choice::Raw(raw) => return out.extend_from_slice(raw.get().as_bytes()),
        Choice::Auto => "auto",
        Choice::Any => "any",
        Choice::None => "none",
        Choice::Tool(_) => "tool",
    };
    let mut object = Object::open(out);
    object.string("type", kind);
    if let Choice::Tool(name) = choice {
        object.string("name", name);
    }
    if let Some(parallel) = parallel
        && !matches!(choice, Choice::None)
    {
        object.boolean("disable_parallel_tool_use", !parallel);
    }
    object.close();
}

fn write_thinking(request: &Request<'_>, plan: &Plan<'_>, body: &mut Object<'_>) {
    let Some(thinking) = plan.thinking else {
        return;
    };
    let mut object = Object::open(body.key("thinking"));
    match thinking {
        Thinking::Disabled => object.string("type", "disabled"),
        // A newer kind of it stands among the fields that the hub has no word for.
        Thinking::Adaptive
            if request
                .extra
                .iter()
                .any(|(name, _)| name == "thinking.type") => {}
        Thinking::Adaptive => object.string("type", "adaptive"),
        Thinking::Enabled(budget) => {
            object.string("type", "enabled");
            text::integer(budget.into(), object.key("budget_tokens"));
        }
    }
    write_nested(request, plan.same, "thinking.", &mut object);
    object.close();
}

fn write_output_config(request: &Request<'_>, plan: &Plan<'_>, body: &mut Object<'_>) {
    let format = match plan.structure {
        Structure::Native(schema) => Some(schema),
        Structure::Free | Structure::Tool { .. } | Structure::Instruction => None,
    };
    let strangers = plan.same
        && request
            .extra
            .iter()
            .any(|(name, _)| name.starts_with("output_config."));
    if format.is_none() && plan.effort.is_none() && !strangers {
        return;
    }
    let mut object = Object::open(body.key("output_config"));
    if let Some(effort) = plan.effort {
        object.string("effort", effort_word(effort));
    }
    if let Some(schema) = format {
        let out = object.key("format");
        out.extend_from_slice(b"{\"type\":\"json_schema\",\"schema\":");
        out.extend_from_slice(schema.get().as_bytes());
        out.push(b'}');
    }
    write_nested(request, plan.same, "output_config.", &mut object);
    object.close();
}

fn effort_word(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Low => "low",
        Effort::Minimal => "minimal",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Xhigh => "xhigh",
        Effort::Max => "max",
    }
}

fn write_stop(request: &Request<'_>, same: bool, body: &mut Object<'_>, notes: &mut Notes) {
    let kept: Vec<&str> = request
        .stop
        .iter()
        .map(AsRef::as_ref)
        .filter(|stop: &&str| same || !stop.trim().is_empty())
        .collect();
    if kept.len() < request.stop.len() {
        notes.add("stop (white space alone)");
    }
    if kept.is_empty() {
        return;
    }
    let out = body.key("stop_sequences");
    out.push(b'[');
    let start = out.len();
    for stop in kept {
        comma(start, out);
        text::string(stop, out);
    }
    out.push(b']');
}

fn write_metadata(request: &Request<'_>, same: bool, body: &mut Object<'_>) {
    let strangers = same
        && request
            .extra
            .iter()
            .any(|(name, _)| name.starts_with("metadata."));
    if request.user.is_none() && !strangers {
        return;
    }
    let mut object = Object::open(body.key("metadata"));
    if let Some(user) = &request.user {
        object.string("user_id", user);
    }
    write_nested(request, same, "metadata.", &mut object);
    object.close();
}

fn write_service_tier(request: &Request<'_>, same: bool, body: &mut Object<'_>, notes: &mut Notes) {
    let Some(tier) = &request.service_tier else {
        return;
    };
    match tier.as_ref() {
        tier if same => body.string("service_tier", tier),
        "auto" => body.string("service_tier", "auto"),
        // OpenAI's "default" is "standard, even if the project pays for more".
        "default" => body.string("service_tier", "standard_only"),
        _ => notes.add("service_tier"),
    }
}

/// Puts fields that the hub had no word for back into the object that they were found in.
fn write_nested(request: &Request<'_>, same: bool, prefix: &str, object: &mut Object<'_>) {
    for (name, raw) in request.extra.iter().filter(|_| same) {
        if let Some(key) = name.strip_prefix(prefix)
            && !key.contains('.')
        {
            object
                .foreign_key(key)
                .extend_from_slice(raw.get().as_bytes());
        }
    }
}

fn write_extra(request: &Request<'_>, same: bool, body: &mut Object<'_>, notes: &mut Notes) {
    for (name, raw) in &request.extra {
        if !same {
            notes.add(name.as_ref());
        } else if !name.contains('.') {
            body.foreign_key(name)
                .extend_from_slice(raw.get().as_bytes());
        } else if name.starts_with("messages.")
            || name.starts_with("system.")
            || name.starts_with("tool_choice.")
        {
            notes.add(name.as_ref());
        }
    }
}
