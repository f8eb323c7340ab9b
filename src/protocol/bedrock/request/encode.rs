//! The hub's request as a Converse body.
//!
//! Decisions that are not obvious:
//! - System and developer messages of another family are joined, in their order, in `system`, wherever they stood.
//! - Turns of one role that follow each other are merged; tool results come first in a user's turn, signed thinking
//!   first in an assistant's.
//! - Text that is nothing but white space is left out: Bedrock refuses it.
//! - Members that belong to Bedrock alone ([`OWN`]) are taken from clients of every family: nobody else has them.

use serde_json::value::RawValue;

use super::messages::{Conversation, Writer, conversation};
use super::plan::{Choice, Notes, Plan, Structure, Thinking};
use super::style::{self, Style};
use crate::error::{Error, Result};
use crate::protocol::anthropic::request::schema;
use crate::protocol::chat::{Effort, Request, Tool};
use crate::protocol::text::{self, Object, Reader, comma};
use crate::protocol::{Facts, Protocol, SCHEMA_TOOL, Translated};

const SCHEMA_DESCRIPTION: &str =
    "Gives the answer. Call this tool once, with the whole answer as its input.";

/// Top-level members that are written as they came, whoever sent them.
const OWN: [&str; 5] = [
    "guardrailConfig",
    "performanceConfig",
    "additionalModelResponseFieldPaths",
    "promptVariables",
    "projectIdentifier",
];

/// Encodes a request for Converse. `model` is the provider's own id: it goes into the path, and tells whose words the
/// model understands.
pub fn encode(request: &Request<'_>, model: &str, facts: &Facts) -> Result<Translated> {
    let mut notes = Notes::default();
    let plan = Plan::new(request, model, facts, &mut notes)?;
    let said = conversation(request, &plan, &mut notes)?;
    let mut out = Vec::with_capacity(1024);
    let mut body = Object::open(&mut out);
    write_conversation(request, &said, &plan, &mut notes, &mut body)?;
    write_inference(request, &plan, &mut notes, &mut body);
    write_tool_config(request, &plan, &mut notes, &mut body)?;
    write_additional(request, &plan, &mut notes, &mut body);
    write_response_fields(request, &plan, &mut body);
    write_output_config(request, &plan, &mut body);
    if let Some(asked) = &request.service_tier
        && let Some(tier) = style::tier(asked, plan.same, &mut notes)
    {
        let mut object = Object::open(body.key("serviceTier"));
        object.string("type", tier);
        write_nested(request, &plan, "serviceTier.", &mut object);
        object.close();
    }
    if let Some(metadata) = request.metadata {
        if plan.same || is_request_metadata(metadata) {
            body.raw("requestMetadata", metadata);
        } else {
            notes.add("metadata");
        }
    }
    write_extra(request, &plan, &mut notes, &mut body);
    body.close();
    let schema_tool = matches!(plan.structure, Structure::Tool { .. });
    Ok(Translated {
        body: out,
        dropped: notes.0,
        schema_tool,
    })
}

fn write_conversation(
    request: &Request<'_>,
    said: &Conversation<'_, '_>,
    plan: &Plan<'_>,
    notes: &mut Notes,
    body: &mut Object<'_>,
) -> Result<()> {
    let mut writer = Writer::new(request.family, plan, notes);
    writer.system(said, body)?;
    writer.messages(said, body.key("messages"))
}

fn write_inference(
    request: &Request<'_>,
    plan: &Plan<'_>,
    notes: &mut Notes,
    body: &mut Object<'_>,
) {
    let kept: Vec<&str> = request
        .stop
        .iter()
        .map(AsRef::as_ref)
        .filter(|stop: &&str| plan.same || !stop.trim().is_empty())
        .collect();
    if kept.len() < request.stop.len() {
        notes.add("stop (white space alone)");
    }
    let mut inside = Vec::new();
    let mut object = Object::open(&mut inside);
    if let Some(most) = plan.max_tokens {
        object.integer("maxTokens", most.into());
    }
    if let Some(value) = plan.temperature {
        object.number("temperature", value);
    }
    if let Some(value) = plan.top_p {
        object.number("topP", value);
    }
    if !kept.is_empty() {
        let out = object.key("stopSequences");
        out.push(b'[');
        let start = out.len();
        for stop in kept {
            comma(start, out);
            text::string(stop, out);
        }
        out.push(b']');
    }
    write_nested(request, plan, "inferenceConfig.", &mut object);
    object.close();
    if inside != b"{}" {
        body.key("inferenceConfig").extend_from_slice(&inside);
    }
}

fn write_tool_config(
    request: &Request<'_>,
    plan: &Plan<'_>,
    notes: &mut Notes,
    body: &mut Object<'_>,
) -> Result<()> {
    let structure = match plan.structure {
        Structure::Tool {
            schema,
            description,
        } => Some((schema, description)),
        Structure::Free | Structure::Native { .. } | Structure::Instruction => None,
    };
    let own = if plan.tools { &request.tools[..] } else { &[] };
    if own.is_empty() && plan.undefined.is_empty() && structure.is_none() {
        return Ok(());
    }
    let mut config = Object::open(body.key("toolConfig"));
    let out = config.key("tools");
    out.push(b'[');
    let start = out.len();
    for (index, tool) in own.iter().enumerate() {
        comma(start, out);
        write_tool(request, index, tool, plan, notes, out)?;
    }
    for name in &plan.undefined {
        comma(start, out);
        write_spec(name, None, out, |out| schema::write_input(None, out));
    }
    if let Some((schema, description)) = structure {
        comma(start, out);
        let described = match description {
            Some(own) => format!("{SCHEMA_DESCRIPTION} {own}"),
            None => SCHEMA_DESCRIPTION.to_owned(),
        };
        if !write_spec(SCHEMA_TOOL, Some(&described), out, |out| {
            schema::write_input(Some(schema), out)
        }) {
            // There is no wrapping it without telling the answer apart again.
            return Err(Error::unsupported(
                "response_format.json_schema.schema",
                "The schema of a structured output should be of type `object`",
            ));
        }
    }
    out.push(b']');
    if let Some(choice) = plan.choice {
        write_choice(choice, config.key("toolChoice"));
    }
    write_nested(request, plan, "toolConfig.", &mut config);
    config.close();
    Ok(())
}

fn write_tool(
    request: &Request<'_>,
    index: usize,
    tool: &Tool<'_>,
    plan: &Plan<'_>,
    notes: &mut Notes,
    out: &mut Vec<u8>,
) -> Result<()> {
    let place = || request.family.element("tools", index);
    let (name, description, schema, strict, cache) = match tool {
        Tool::Opaque {
            family: Protocol::Bedrock,
            raw,
            ..
        } => {
            out.extend_from_slice(raw.get().as_bytes());
            return Ok(());
        }
        Tool::Opaque { name, .. } => {
            return Err(Error::unsupported(
                place(),
                format!("The tool `{name}` is of a kind that Bedrock doesn't know"),
            ));
        }
        Tool::Function {
            name,
            description,
            schema,
            strict,
            cache,
        } => (name, description.as_deref(), *schema, *strict, *cache),
    };
    // It refuses an empty one.
    let description = description.filter(|text| !text.is_empty());
    if !write_spec(name, description, out, |out| {
        schema::write_input(schema, out)
    }) {
        return Err(Error::field(
            format!("{}.function.parameters", place()),
            "The parameters of a tool should be a schema of type `object`",
        ));
    }
    match strict {
        Some(strict) if plan.same => {
            // Back into the specification, before its two braces.
            out.truncate(out.len() - 2);
            out.extend_from_slice(b",\"strict\":");
            out.extend_from_slice(if strict { b"true}}" } else { b"false}}" });
        }
        Some(true) => notes.add("tools.function.strict"),
        Some(false) | None => {}
    }
    let mut writer = Writer::new(request.family, plan, notes);
    writer.cache_point(cache, plan.style.caches_tools(), out);
    Ok(())
}

/// Appends a tool; returns what `schema` does: whether it can be one.
fn write_spec(
    name: &str,
    description: Option<&str>,
    out: &mut Vec<u8>,
    schema: impl FnOnce(&mut Vec<u8>) -> bool,
) -> bool {
    out.extend_from_slice(b"{\"toolSpec\":");
    let mut object = Object::open(out);
    object.string("name", name);
    object.maybe_string("description", description);
    let inner = object.key("inputSchema");
    inner.extend_from_slice(b"{\"json\":");
    let fits = schema(inner);
    inner.push(b'}');
    object.close();
    out.push(b'}');
    fits
}

fn write_choice(choice: Choice<'_>, out: &mut Vec<u8>) {
    match choice {
        Choice::Auto => out.extend_from_slice(b"{\"auto\":{}}"),
        Choice::Any => out.extend_from_slice(b"{\"any\":{}}"),
        Choice::Raw(raw) => out.extend_from_slice(raw.get().as_bytes()),
        Choice::Tool(name) => {
            out.extend_from_slice(b"{\"tool\":{\"name\":");
            text::string(name, out);
            out.extend_from_slice(b"}}");
        }
    }
}

/// Writes what Converse has no word for, in the words of the model.
fn write_additional(
    request: &Request<'_>,
    plan: &Plan<'_>,
    notes: &mut Notes,
    body: &mut Object<'_>,
) {
    let mut inside = Vec::new();
    let mut object = Object::open(&mut inside);
    let mut said = Vec::new();
    if let Some(thinking) = plan.thinking {
        said.extend(write_thinking(thinking, &mut object));
    }
    match (plan.top_k, plan.style) {
        (Some(top_k), Style::Nova | Style::Nova2) => {
            said.push("inferenceConfig");
            let mut config = Object::open(object.key("inferenceConfig"));
            config.integer("topK", top_k.into());
            let nested = "additionalModelRequestFields.inferenceConfig.";
            write_nested(request, plan, nested, &mut config);
            config.close();
        }
        (Some(top_k), Style::Claude | Style::Openai | Style::Qwen | Style::Other) => {
            said.push("top_k");
            object.integer("top_k", top_k.into());
        }
        (None, _) => {}
    }
    if plan.same {
        write_nested(request, plan, "additionalModelRequestFields.", &mut object);
    } else if let Some((_, raw)) = request
        .extra
        .iter()
        .find(|(name, _)| name == "additionalModelRequestFields")
    {
        let read = Reader::of(raw.get()).object(|r, key| {
            let value = r.raw()?;
            if !said.contains(&&*key) {
                let out = object.foreign_key(&key);
                out.extend_from_slice(value.get().as_bytes());
            }
            Ok(())
        });
        if read.is_err() {
            notes.add("additionalModelRequestFields");
        }
    }
    object.close();
    if inside != b"{}" {
        body.key("additionalModelRequestFields")
            .extend_from_slice(&inside);
    }
}

/// Returns the key that it wrote, if any.
fn write_thinking(thinking: Thinking, object: &mut Object<'_>) -> Option<&'static str> {
    match thinking {
        // See `write_output_config`.
        Thinking::Effort(_) => return None,
        Thinking::Openai(word) => object.string("reasoning_effort", word),
        Thinking::Qwen(word) => object.string("reasoning_config", word),
        Thinking::Nova(word) => {
            let mut config = Object::open(object.key("reasoningConfig"));
            config.string("type", "enabled");
            config.string("maxReasoningEffort", word);
            config.close();
        }
        Thinking::NovaOff => {
            let mut config = Object::open(object.key("reasoningConfig"));
            config.string("type", "disabled");
            config.close();
        }
        Thinking::Disabled | Thinking::Adaptive(_) | Thinking::Enabled(_) => {
            let mut config = Object::open(object.key("thinking"));
            match thinking {
                Thinking::Enabled(budget) => {
                    config.string("type", "enabled");
                    config.integer("budget_tokens", budget.into());
                }
                Thinking::Adaptive(_) => config.string("type", "adaptive"),
                Thinking::Disabled
                | Thinking::Effort(_)
                | Thinking::Openai(_)
                | Thinking::Qwen(_)
                | Thinking::Nova(_)
                | Thinking::NovaOff => config.string("type", "disabled"),
            }
            config.close();
        }
    }
    Some(match thinking {
        Thinking::Openai(_) => "reasoning_effort",
        Thinking::Qwen(_) => "reasoning_config",
        Thinking::Nova(_) | Thinking::NovaOff => "reasoningConfig",
        Thinking::Effort(_) | Thinking::Disabled | Thinking::Adaptive(_) | Thinking::Enabled(_) => {
            "thinking"
        }
    })
}

/// Asks Claude which stop sequence it met, for a client to whose protocol that belongs.
fn write_response_fields(request: &Request<'_>, plan: &Plan<'_>, body: &mut Object<'_>) {
    let asked = request
        .extra
        .iter()
        .any(|(name, _)| name == "additionalModelResponseFieldPaths");
    if request.family == Protocol::Anthropic
        && plan.style == Style::Claude
        && !request.stop.is_empty()
        && !asked
    {
        body.key("additionalModelResponseFieldPaths")
            .extend_from_slice(b"[\"/stop_sequence\"]");
    }
}

fn write_output_config(request: &Request<'_>, plan: &Plan<'_>, body: &mut Object<'_>) {
    let effort = match plan.thinking {
        Some(Thinking::Adaptive(effort)) => effort,
        Some(Thinking::Effort(effort)) => Some(effort),
        Some(
            Thinking::Disabled
            | Thinking::Enabled(_)
            | Thinking::Openai(_)
            | Thinking::Qwen(_)
            | Thinking::Nova(_)
            | Thinking::NovaOff,
        )
        | None => None,
    };
    let mut inside = Vec::new();
    let mut object = Object::open(&mut inside);
    if let Structure::Native {
        schema,
        name,
        description,
    } = plan.structure
    {
        let out = object.key("textFormat");
        out.extend_from_slice(b"{\"type\":\"json_schema\",\"structure\":{\"jsonSchema\":");
        let mut format = Object::open(out);
        format.string("schema", schema.get());
        format.maybe_string("name", name);
        format.maybe_string("description", description);
        format.close();
        out.extend_from_slice(b"}}");
    }
    if let Some(effort) = effort {
        object.string(
            "effort",
            match effort {
                Effort::None | Effort::Minimal | Effort::Low => "low",
                Effort::Medium => "medium",
                Effort::High => "high",
                Effort::Xhigh => "xhigh",
                Effort::Max => "max",
            },
        );
    }
    write_nested(request, plan, "outputConfig.", &mut object);
    object.close();
    if inside != b"{}" {
        body.key("outputConfig").extend_from_slice(&inside);
    }
}

/// Returns whether `metadata` can stand in the logs as Bedrock keeps them: up to 16 short strings.
fn is_request_metadata(metadata: &RawValue) -> bool {
    let fits = |text: &str| {
        text.len() <= 256
            && text.chars().all(|c| {
                c.is_ascii_alphanumeric()
                    || c == ' '
                    || matches!(c, ':' | '_' | '@' | '$')
                    || matches!(c, '#' | '=' | '/' | '+' | ',' | '-' | '.')
            })
    };
    let (mut count, mut all) = (0usize, true);
    let read = Reader::of(metadata.get()).object(|r, key| {
        count += 1;
        let value = r.string()?;
        all &= !key.is_empty() && fits(&key) && fits(&value);
        Ok(())
    });
    read.is_ok() && all && (1..=16).contains(&count)
}

/// Puts fields that the hub had no word for back into the object that they were found in.
fn write_nested(request: &Request<'_>, plan: &Plan<'_>, prefix: &str, object: &mut Object<'_>) {
    for (name, raw) in request.extra.iter().filter(|_| plan.same) {
        if let Some(key) = name.strip_prefix(prefix)
            && !key.contains('.')
        {
            object
                .foreign_key(key)
                .extend_from_slice(raw.get().as_bytes());
        }
    }
}

fn write_extra(request: &Request<'_>, plan: &Plan<'_>, notes: &mut Notes, body: &mut Object<'_>) {
    for (name, raw) in &request.extra {
        let is_own = OWN.contains(&&**name);
        if is_own || plan.same && !name.contains(['.', '[']) {
            body.foreign_key(name)
                .extend_from_slice(raw.get().as_bytes());
        } else if name == "additionalModelRequestFields" {
            // Merged where it belongs.
        } else if !plan.same || name.contains('[') || name.matches('.').count() > 1 {
            notes.add(name.as_ref());
        }
    }
}
