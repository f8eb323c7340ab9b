//! A client's body into the hub.
//!
//! `system` becomes one leading system message. Fields that the hub has no word for go to `extra`: those of the
//! top level under their name, those inside known objects under their path (`tools.0.defer_loading`), so that
//! the encoder of this family puts them back and every other one names them as dropped.

use serde_json::value::RawValue;

use super::super::content;
use crate::error::{Error, Result};
use crate::protocol::Protocol;
use crate::protocol::chat::{
    Effort, Format, Message, Part, Reasoning, Request, Role, Str, Tool, ToolChoice,
};
use crate::protocol::text::Reader;

/// Decodes a body. Errors are 400 and name the field as Anthropic does (`messages.0.content.1.text`).
pub fn decode(body: &[u8]) -> Result<Request<'_>> {
    read(body).map_err(|mut error| {
        if let Some(path) = error.param.take() {
            let told = error
                .message
                .strip_prefix(path.as_ref())
                .unwrap_or(&error.message);
            let path = dotted(&path);
            error.message = format!("{path}: {}", told.trim_start_matches([':', ' '])).into();
            error.param = Some(path.into());
        }
        error
    })
}

/// Spells a path as Anthropic does: `messages.0.content` for `messages[0].content`.
fn dotted(path: &str) -> String {
    path.replace('[', ".").replace(']', "")
}

fn read(body: &[u8]) -> Result<Request<'_>> {
    let mut reader = Reader::new(body)?;
    let mut request = blank();
    let mut model = None;
    let mut messages = None;
    let mut system = None;
    let mut thinking = None;
    let mut output = Output::default();
    reader.object(|r, key| {
        match &*key {
            "model" => model = Some(r.string()?),
            "messages" => messages = Some(r.list(message)?),
            "system" => system = r.maybe(content::parts)?,
            "max_tokens" => request.max_output = r.maybe(Reader::integer)?,
            "tools" => request.tools = r.maybe(|r| r.list(tool))?.unwrap_or_default(),
            "tool_choice" => {
                if let Some((choice, parallel)) = r.maybe(tool_choice)? {
                    (request.tool_choice, request.parallel_tools) = (Some(choice), parallel);
                }
            }
            "temperature" => request.temperature = r.maybe(Reader::number)?,
            "top_p" => request.top_p = r.maybe(Reader::number)?,
            "top_k" => request.top_k = r.maybe(Reader::integer)?,
            "stop_sequences" => {
                request.stop = r.maybe(|r| r.list(Reader::string))?.unwrap_or_default();
            }
            "stream" => request.stream = r.maybe(Reader::boolean)?.unwrap_or(false),
            "metadata" => request.user = r.maybe(metadata)?.flatten(),
            "service_tier" => request.service_tier = r.maybe(Reader::string)?,
            "thinking" => thinking = r.maybe(thinking_of)?,
            "output_config" => output.merge(r.maybe(output_config)?),
            "output_format" => output.format = r.maybe(format)?.or(output.format.take()),
            _ => {
                // Found here and not inside: the name is the path, however many there are.
                let raw = r.raw()?;
                if raw.get() != "null" {
                    request.extra.push((key, raw));
                }
            }
        }
        Ok(())
    })?;
    reader.finish()?;

    // The path may name it instead; the envelope has seen to it that one of them does.
    request.model = model.unwrap_or_default();
    request.messages = messages.ok_or_else(|| reader.missing("messages"))?;
    if request.max_output.is_none() {
        return Err(reader.missing("max_tokens"));
    }
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
    request.format = output.format;
    let (reasoning, left) = reasoning(thinking, output.effort);
    request.reasoning = reasoning;
    request
        .extra
        .extend(left.map(|raw| ("output_config.effort".into(), raw)));
    let strangers = reader.strangers();
    request.extra.extend(
        strangers
            .into_iter()
            .map(|(path, raw)| (dotted(&path).into(), raw)),
    );
    Ok(request)
}

fn blank<'b>() -> Request<'b> {
    Request {
        family: Protocol::Anthropic,
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
        // Anthropic's streams always tell.
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
                role = Some(content::word(
                    r,
                    "'user', 'assistant' or 'system'",
                    |word| {
                        match word {
                            "user" => Some(Role::User),
                            "assistant" => Some(Role::Assistant),
                            // Claude Code's reminders amid a conversation.
                            "system" => Some(Role::System),
                            _ => None,
                        }
                    },
                )?);
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
        let path = reader
            .missing(&format!("content.{index}"))
            .param
            .unwrap_or_default();
        let message = format!("{path}: blocks of this type do not belong to this role");
        return Err(Error::field(path, message));
    }
    Ok(Message {
        role,
        parts,
        name: None,
    })
}

fn tool<'b>(reader: &mut Reader<'b>) -> Result<Tool<'b>> {
    if let Some(kind) = reader.tag("type")
        && kind != "custom"
    {
        let name = reader.tag("name").unwrap_or(kind);
        return Ok(Tool::Opaque {
            family: Protocol::Anthropic,
            name,
            raw: reader.raw_object()?,
        });
    }
    let (mut name, mut description, mut schema) = (None, None, None);
    let (mut strict, mut cache) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "type" => r.maybe(Reader::string).map(drop)?,
            "name" => name = Some(r.string()?),
            "description" => description = r.maybe(Reader::string)?,
            "input_schema" => schema = r.maybe(Reader::raw_object)?,
            "strict" => strict = r.maybe(Reader::boolean)?,
            "cache_control" => cache = r.maybe(Reader::raw_object)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| reader.missing("name"))?;
    if schema.is_none() {
        return Err(reader.missing("input_schema"));
    }
    Ok(Tool::Function {
        name,
        description,
        schema,
        strict,
        cache,
    })
}

fn tool_choice<'b>(reader: &mut Reader<'b>) -> Result<(ToolChoice<'b>, Option<bool>)> {
    let mark = reader.mark();
    let (mut kind, mut name, mut parallel) = (None, None, None);
    reader.object(|r, key| {
        match &*key {
            "type" => kind = Some(r.string()?),
            "name" => name = r.maybe(Reader::string)?,
            "disable_parallel_tool_use" => parallel = r.maybe(Reader::boolean)?.map(|off| !off),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let choice = match kind.as_deref() {
        Some("auto") => ToolChoice::Auto,
        Some("any") => ToolChoice::Required,
        Some("none") => ToolChoice::None,
        Some("tool") => ToolChoice::Named(name.ok_or_else(|| reader.missing("name"))?),
        None => return Err(reader.missing("type")),
        Some(_) => {
            reader.back(mark);
            ToolChoice::Opaque {
                family: Protocol::Anthropic,
                raw: reader.raw_object()?,
            }
        }
    };
    Ok((choice, parallel))
}

fn metadata<'b>(reader: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    let mut user = None;
    reader.object(|r, key| {
        match &*key {
            "user_id" => user = r.maybe(Reader::string)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(user)
}

#[derive(Debug)]
enum Thinking {
    Enabled(u32),
    Disabled,
    Adaptive,
}

fn thinking_of(reader: &mut Reader<'_>) -> Result<Thinking> {
    let (mut kind, mut budget) = (None, None);
    reader.object(|r, key| {
        match &*key {
            "type" => {
                let mark = r.mark();
                let word = content::word(
                    r,
                    "'enabled', 'disabled', 'adaptive' or 'between_tools'",
                    |word| {
                        ["enabled", "disabled", "adaptive", "between_tools"]
                            .into_iter()
                            .find(|known| *known == word)
                    },
                )?;
                if word == "between_tools" {
                    // Adaptive to other families; its own gets the word back.
                    r.back(mark);
                    r.stranger()?;
                }
                kind = Some(word);
            }
            "budget_tokens" => budget = r.maybe(Reader::integer)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    match kind {
        Some("enabled") => budget
            .map(Thinking::Enabled)
            .ok_or_else(|| reader.missing("budget_tokens")),
        Some("disabled") => Ok(Thinking::Disabled),
        Some(_) => Ok(Thinking::Adaptive),
        None => Err(reader.missing("type")),
    }
}

/// `output_config`, and the older `output_format`.
#[derive(Debug, Default)]
struct Output<'b> {
    effort: Option<(Effort, &'b RawValue)>,
    format: Option<Format<'b>>,
}

impl<'b> Output<'b> {
    fn merge(&mut self, other: Option<Output<'b>>) {
        if let Some(other) = other {
            self.effort = other.effort;
            self.format = other.format.or(self.format.take());
        }
    }
}

fn output_config<'b>(reader: &mut Reader<'b>) -> Result<Output<'b>> {
    let mut output = Output::default();
    reader.object(|r, key| {
        match &*key {
            "effort" if r.peek() == b'"' => {
                let mark = r.mark();
                let effort = effort_of(&r.string()?);
                r.back(mark);
                match effort {
                    Some(effort) => output.effort = Some((effort, r.raw()?)),
                    // One that is not known yet is kept for its own family.
                    None => r.stranger()?,
                }
            }
            "format" => output.format = r.maybe(format)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(output)
}

fn effort_of(word: &str) -> Option<Effort> {
    Some(match word {
        "minimal" => Effort::Minimal,
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        "xhigh" => Effort::Xhigh,
        "max" => Effort::Max,
        _ => return None,
    })
}

fn format<'b>(reader: &mut Reader<'b>) -> Result<Format<'b>> {
    let mut schema = None;
    reader.object(|r, key| {
        match &*key {
            "type" => {
                content::word(r, "'json_schema'", |word| {
                    (word == "json_schema").then_some(())
                })?;
            }
            "schema" => schema = r.maybe(Reader::raw_object)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let schema = schema.ok_or_else(|| reader.missing("schema"))?;
    Ok(Format::JsonSchema {
        name: None,
        description: None,
        schema,
        strict: None,
    })
}

/// Joins `thinking` and `output_config.effort`; an effort that does not fit beside a budget is handed back.
fn reasoning(
    thinking: Option<Thinking>,
    effort: Option<(Effort, &RawValue)>,
) -> (Option<Reasoning>, Option<&RawValue>) {
    let raw = effort.map(|(_, raw)| raw);
    let effort = effort.map(|(effort, _)| effort);
    match thinking {
        Some(Thinking::Enabled(budget)) => (Some(Reasoning::Budget(budget)), raw),
        Some(Thinking::Disabled) => (Some(Reasoning::Off), raw),
        Some(Thinking::Adaptive) => (Some(Reasoning::Adaptive(effort)), None),
        None => (effort.map(Reasoning::Effort), None),
    }
}
