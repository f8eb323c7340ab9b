//! A client's body into the hub.
//!
//! `system` becomes one leading system message. Fields that the hub has no word for go to `extra`: those of the top
//! level under their name, those inside known objects under their path (`inferenceConfig.x`), so that the encoder of
//! this family puts them back and every other one names them as dropped.

use serde_json::value::RawValue;

use super::super::content;
use crate::error::{Error, Result};
use crate::protocol::Protocol;
use crate::protocol::chat::{
    Effort, Format, Message, Part, Reasoning, Request, Role, Str, ToolChoice,
};
use crate::protocol::text::Reader;

/// Decodes a body. The model and whether to stream stand in the path: both are left blank.
pub fn decode(body: &[u8]) -> Result<Request<'_>> {
    let mut reader = Reader::new(body)?;
    let mut request = blank();
    let (mut messages, mut system) = (None, None);
    let mut output = Output::default();
    reader.object(|r, key| {
        if r.peek() == b'n' {
            return r.raw().map(drop);
        }
        match &*key {
            "messages" => messages = Some(r.list(message)?),
            "system" => system = Some(content::parts(r)?),
            "inferenceConfig" => inference(r, &mut request)?,
            "toolConfig" => tool_config(r, &mut request)?,
            "additionalModelRequestFields" => additional(r, &mut request)?,
            "outputConfig" => output = output_config(r)?,
            "serviceTier" => request.service_tier = service_tier(r)?,
            "requestMetadata" => request.metadata = Some(r.raw_object()?),
            _ => request.extra.push((key, r.raw()?)),
        }
        Ok(())
    })?;
    reader.finish()?;

    request.messages = messages.ok_or_else(|| reader.missing("messages"))?;
    if let Some(parts) = system.filter(|parts| !parts.is_empty()) {
        request.messages.insert(
            0,
            Message {
                role: Role::System,
                parts,
                name: None,
            },
        );
    }
    request.format = output.schema.map(|schema| Format::JsonSchema {
        name: output.name,
        description: output.description,
        schema,
        strict: None,
    });
    if let Some(effort) = output.effort {
        request.reasoning = Some(match request.reasoning.take() {
            None | Some(Reasoning::Effort(_)) => Reasoning::Effort(effort),
            Some(Reasoning::Adaptive(_)) => Reasoning::Adaptive(Some(effort)),
            Some(other @ (Reasoning::Off | Reasoning::Budget(_))) => other,
        });
    }
    let strangers = reader.strangers();
    request.extra.extend(strangers);
    Ok(request)
}

fn blank<'b>() -> Request<'b> {
    Request {
        family: Protocol::Bedrock,
        model: "".into(),
        messages: Vec::new(),
        tools: Vec::new(),
        tool_choice: None,
        parallel_tools: None,
        max_output: None,
        temperature: None,
        top_p: None,
        top_k: None,
        frequency_penalty: None,
        presence_penalty: None,
        seed: None,
        stop: Vec::new(),
        n: None,
        logprobs: None,
        top_logprobs: None,
        logit_bias: None,
        format: None,
        reasoning: None,
        verbosity: None,
        stream: false,
        // Bedrock's streams always tell.
        include_usage: true,
        user: None,
        metadata: None,
        service_tier: None,
        extra: Vec::new(),
    }
}

fn message<'b>(reader: &mut Reader<'b>) -> Result<Message<'b>> {
    let (mut role, mut parts) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "role" => {
                let mark = r.mark();
                role = Some(match &*r.string()? {
                    "user" => Role::User,
                    "assistant" => Role::Assistant,
                    "system" => Role::System,
                    _ => {
                        r.back(mark);
                        return Err(r.wrong("'user', 'assistant' or 'system'"));
                    }
                });
            }
            "content" => parts = Some(content::parts(r)?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let role = role.ok_or_else(|| reader.missing("role"))?;
    let parts = parts.ok_or_else(|| reader.missing("content"))?;
    let stray = parts.iter().position(|part| match part {
        Part::ToolCall { .. } | Part::Reasoning { .. } | Part::RedactedReasoning { .. } => {
            role != Role::Assistant
        }
        Part::ToolResult { .. } => role != Role::User,
        Part::Text { .. }
        | Part::Refusal { .. }
        | Part::Image { .. }
        | Part::Audio { .. }
        | Part::File { .. }
        | Part::Opaque { .. } => false,
    });
    if let Some(index) = stray {
        let path = reader.missing(&format!("content[{index}]")).param;
        let path = path.unwrap_or_default();
        let message = format!("{path}: blocks of this kind do not belong to this role");
        return Err(Error::field(path, message));
    }
    Ok(Message {
        role,
        parts,
        name: None,
    })
}

fn inference<'b>(reader: &mut Reader<'b>, request: &mut Request<'b>) -> Result<()> {
    reader.object(|r, key| {
        match &*key {
            "maxTokens" => request.max_output = r.maybe(Reader::integer)?,
            "temperature" => request.temperature = r.maybe(Reader::number)?,
            "topP" => request.top_p = r.maybe(Reader::number)?,
            "stopSequences" => {
                request.stop = r.maybe(|r| r.list(Reader::string))?.unwrap_or_default();
            }
            _ => r.stranger()?,
        }
        Ok(())
    })
}

fn tool_config<'b>(reader: &mut Reader<'b>, request: &mut Request<'b>) -> Result<()> {
    reader.object(|r, key| {
        match &*key {
            "tools" => request.tools = r.maybe(content::tools)?.unwrap_or_default(),
            "toolChoice" => request.tool_choice = r.maybe(tool_choice)?,
            _ => r.stranger()?,
        }
        Ok(())
    })
}

fn tool_choice<'b>(reader: &mut Reader<'b>) -> Result<ToolChoice<'b>> {
    let mark = reader.mark();
    let mut choice = None;
    reader.object(|r, key| {
        if r.peek() == b'n' {
            return r.raw().map(drop);
        }
        match &*key {
            "auto" => {
                choice = Some(ToolChoice::Auto);
                r.raw()?;
            }
            "any" => {
                choice = Some(ToolChoice::Required);
                r.raw()?;
            }
            "tool" => {
                let mut name = None;
                r.object(|r, key| {
                    match &*key {
                        "name" => name = Some(r.string()?),
                        _ => r.stranger()?,
                    }
                    Ok(())
                })?;
                choice = Some(ToolChoice::Named(name.ok_or_else(|| r.missing("name"))?));
            }
            _ => r.raw().map(drop)?,
        }
        Ok(())
    })?;
    match choice {
        Some(choice) => Ok(choice),
        None => {
            reader.back(mark);
            Ok(ToolChoice::Opaque {
                family: Protocol::Bedrock,
                raw: reader.raw_object()?,
            })
        }
    }
}

fn service_tier<'b>(reader: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    let mut kind = None;
    reader.object(|r, key| {
        match &*key {
            "type" => kind = r.maybe(Reader::string)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(kind)
}

/// Reads the fields that models have of their own: how much to think, and `top_k`.
fn additional<'b>(reader: &mut Reader<'b>, request: &mut Request<'b>) -> Result<()> {
    let mut effort = None;
    reader.object(|r, key| {
        let first = r.peek();
        match &*key {
            "top_k" if first.is_ascii_digit() => request.top_k = Some(r.integer()?),
            "thinking" if first == b'{' => {
                if let Some(reasoning) = thinking(r)? {
                    request.reasoning = Some(reasoning);
                }
            }
            "reasoningConfig" if first == b'{' => {
                if let Some(reasoning) = nova_reasoning(r)? {
                    request.reasoning = Some(reasoning);
                }
            }
            "reasoning_effort" | "reasoning_config" if first == b'"' => {
                let mark = r.mark();
                match effort_of(&r.string()?) {
                    Some(effort) => request.reasoning = Some(Reasoning::Effort(effort)),
                    None => {
                        r.back(mark);
                        r.stranger()?;
                    }
                }
            }
            "output_config" if first == b'{' => r.object(|r, key| {
                if key == "effort" && r.peek() == b'"' {
                    let mark = r.mark();
                    effort = effort_of(&r.string()?);
                    if effort.is_some() {
                        return Ok(());
                    }
                    r.back(mark);
                }
                r.stranger()
            })?,
            // Nova's own sampling.
            "inferenceConfig" if first == b'{' => r.object(|r, key| {
                if key == "topK" && r.peek().is_ascii_digit() {
                    request.top_k = Some(r.integer()?);
                    return Ok(());
                }
                r.stranger()
            })?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    if let Some(effort) = effort {
        request.reasoning = match request.reasoning.take() {
            Some(Reasoning::Adaptive(_)) => Some(Reasoning::Adaptive(Some(effort))),
            None => Some(Reasoning::Effort(effort)),
            other => other,
        };
    }
    Ok(())
}

/// Reads Claude's `thinking`; of a kind that is not known it stays a stranger.
fn thinking(reader: &mut Reader<'_>) -> Result<Option<Reasoning>> {
    let mark = reader.mark();
    let (mut kind, mut budget) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "type" => kind = r.maybe(Reader::string)?,
            "budget_tokens" => budget = r.maybe(Reader::integer)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Some(match (kind.as_deref(), budget) {
        (Some("enabled"), Some(budget)) => Reasoning::Budget(budget),
        (Some("disabled"), _) => Reasoning::Off,
        (Some("adaptive"), _) => Reasoning::Adaptive(None),
        (_, _) => {
            reader.back(mark);
            reader.stranger()?;
            return Ok(None);
        }
    }))
}

fn nova_reasoning(reader: &mut Reader<'_>) -> Result<Option<Reasoning>> {
    let mark = reader.mark();
    let (mut kind, mut effort) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "type" => kind = r.maybe(Reader::string)?,
            "maxReasoningEffort" => effort = r.maybe(Reader::string)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let effort = effort.as_deref().map(effort_of);
    Ok(Some(match (kind.as_deref(), effort) {
        (Some("enabled"), Some(Some(effort))) => Reasoning::Effort(effort),
        (Some("disabled"), _) => Reasoning::Off,
        (_, _) => {
            reader.back(mark);
            reader.stranger()?;
            return Ok(None);
        }
    }))
}

fn effort_of(word: &str) -> Option<Effort> {
    Some(match word {
        "none" => Effort::None,
        "minimal" => Effort::Minimal,
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        "xhigh" => Effort::Xhigh,
        "max" => Effort::Max,
        _ => return None,
    })
}

#[derive(Debug, Default)]
struct Output<'b> {
    effort: Option<Effort>,
    schema: Option<&'b RawValue>,
    name: Option<Str<'b>>,
    description: Option<Str<'b>>,
}

fn output_config<'b>(reader: &mut Reader<'b>) -> Result<Output<'b>> {
    let mut output = Output::default();
    reader.object(|r, key| {
        match &*key {
            "effort" if r.peek() == b'"' => {
                let mark = r.mark();
                output.effort = effort_of(&r.string()?);
                if output.effort.is_none() {
                    r.back(mark);
                    r.stranger()?;
                }
            }
            "textFormat" if r.peek() == b'{' => text_format(r, &mut output)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(output)
}

fn text_format<'b>(reader: &mut Reader<'b>, output: &mut Output<'b>) -> Result<()> {
    reader.object(|r, key| match &*key {
        "structure" => r.object(|r, key| match &*key {
            "jsonSchema" => r.object(|r, key| {
                match &*key {
                    "schema" if r.peek() == b'"' => {
                        r.raw()?;
                        let message = "A schema as text can't be said to this provider";
                        return Err(Error::unsupported(r.path(), message));
                    }
                    "schema" => output.schema = Some(r.raw_object()?),
                    "name" => output.name = r.maybe(Reader::string)?,
                    "description" => output.description = r.maybe(Reader::string)?,
                    _ => r.stranger()?,
                }
                Ok(())
            }),
            _ => r.stranger(),
        }),
        _ => r.raw().map(drop),
    })?;
    match output.schema {
        Some(_) => Ok(()),
        None => Err(reader.missing("structure.jsonSchema.schema")),
    }
}

/// Returns the body with the schema of a structured output as JSON, where it stands as a string of JSON; [`decode`]
/// borrows it, and so can't read it out of that string. `None` where there is none to unfold.
pub fn unfold(body: &[u8]) -> Option<Vec<u8>> {
    // Most bodies have no schema, and a look is cheaper than reading.
    memchr::memmem::find(body, b"\"jsonSchema\"")?;
    let mut reader = Reader::new(body).ok()?;
    let mut found: Option<&RawValue> = None;
    let path = [
        "outputConfig",
        "textFormat",
        "structure",
        "jsonSchema",
        "schema",
    ];
    descend(&mut reader, &path, &mut found).ok()?;
    let quoted = found?.get();
    let text: String = serde_json::from_str(quoted).ok()?;
    let text = text.trim_ascii();
    if !text.starts_with('{') || serde_json::from_str::<&RawValue>(text).is_err() {
        return None;
    }
    let start = (quoted.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let end = start.checked_add(quoted.len())?;
    Some([body.get(..start)?, text.as_bytes(), body.get(end..)?].concat())
}

/// Finds the value at `path`.
fn descend<'b>(
    reader: &mut Reader<'b>,
    path: &[&str],
    found: &mut Option<&'b RawValue>,
) -> Result<()> {
    let Some((first, rest)) = path.split_first() else {
        *found = Some(reader.raw()?);
        return Ok(());
    };
    reader.object(|r, key| {
        if key == *first {
            return descend(r, rest, found);
        }
        r.raw().map(drop)
    })
}
