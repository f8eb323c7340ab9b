//! A client's body into the hub.

use super::messages;
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{
    Format, Message, Part, Reasoning, Request, Role, Source, Str, Tool, ToolChoice,
};
use crate::protocol::text::Reader;

/// Decodes a body. Errors are 400 and name the field as the client spelt it.
pub fn decode(body: &[u8]) -> Result<Request<'_>> {
    let mut r = Reader::new(body)?;
    let mut request = Request::blank(Protocol::Cohere);
    // Cohere's streams always tell.
    request.include_usage = true;
    let (mut model, mut told) = (None, None);
    let (mut strict, mut documents) = (None, Vec::new());
    r.object(|r, key| {
        match &*key {
            "model" => model = r.maybe(Reader::string)?,
            "messages" => told = r.maybe(messages::list)?,
            "tools" => request.tools = r.maybe(|r| r.list(tool))?.unwrap_or_default(),
            "strict_tools" => strict = r.maybe(Reader::boolean)?,
            "tool_choice" => request.tool_choice = r.maybe(choice)?,
            "documents" => documents = r.maybe(|r| r.list(document))?.unwrap_or_default(),
            "response_format" => request.format = r.maybe(format)?,
            "stream" => request.stream = r.maybe(Reader::boolean)?.unwrap_or(false),
            "max_tokens" => request.max_output = r.maybe(Reader::integer)?,
            "temperature" => request.temperature = r.maybe(Reader::number)?,
            "p" => request.top_p = r.maybe(Reader::number)?,
            "k" => request.top_k = r.maybe(Reader::integer)?,
            "seed" => request.seed = r.maybe(Reader::signed)?,
            "frequency_penalty" => request.frequency_penalty = r.maybe(Reader::number)?,
            "presence_penalty" => request.presence_penalty = r.maybe(Reader::number)?,
            "stop_sequences" => {
                request.stop = r.maybe(|r| r.list(Reader::string))?.unwrap_or_default();
            }
            "logprobs" => request.logprobs = r.maybe(Reader::boolean)?,
            "thinking" => request.reasoning = r.maybe(thinking)?,
            _ => {
                let raw = r.raw()?;
                if raw.get() != "null" {
                    request.extra.push((key, raw));
                }
            }
        }
        Ok(())
    })?;
    r.finish()?;
    request.model = model.ok_or_else(|| r.missing("model"))?;
    request.messages = told.ok_or_else(|| r.missing("messages"))?;
    for tool in &mut request.tools {
        if let Tool::Function { strict: one, .. } = tool {
            *one = strict;
        }
    }
    place(documents, &mut request.messages);
    request.extra.extend(r.strangers());
    Ok(request)
}

/// Puts the documents before what the last user's turn says.
fn place<'b>(documents: Vec<Part<'b>>, messages: &mut Vec<Message<'b>>) {
    if documents.is_empty() {
        return;
    }
    let is_asked = |message: &&mut Message<'b>| {
        message.role == Role::User
            && !message
                .parts
                .iter()
                .any(|part| matches!(part, Part::ToolResult { .. }))
    };
    match messages.iter_mut().rev().find(is_asked) {
        Some(last) => drop(last.parts.splice(0..0, documents)),
        None => messages.push(Message {
            role: Role::User,
            parts: documents,
            name: None,
        }),
    }
}

/// Reads a document: its text, or an object that is kept as it came, for models read JSON too.
pub(super) fn document<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let text = if r.peek() == b'"' {
        r.string()?
    } else {
        r.raw_object()?.get().into()
    };
    Ok(Part::File {
        source: Source::Text(text),
        name: None,
        context: None,
        citations: None,
        cache: None,
    })
}

fn tool<'b>(r: &mut Reader<'b>) -> Result<Tool<'b>> {
    let (mut name, mut description, mut schema) = (None, None, None);
    r.object(|r, key| {
        match &*key {
            "type" => drop(r.raw()?),
            "function" => r.object(|r, key| {
                match &*key {
                    "name" => name = r.maybe(Reader::string)?,
                    "description" => description = r.maybe(Reader::string)?,
                    "parameters" => schema = r.maybe(Reader::raw_object)?,
                    _ => r.stranger()?,
                }
                Ok(())
            })?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Tool::Function {
        name: name.ok_or_else(|| r.missing("function.name"))?,
        description,
        schema,
        strict: None,
        cache: None,
    })
}

fn choice<'b>(r: &mut Reader<'b>) -> Result<ToolChoice<'b>> {
    let mark = r.mark();
    match r.string()?.to_ascii_uppercase().as_str() {
        "REQUIRED" => Ok(ToolChoice::Required),
        "NONE" => Ok(ToolChoice::None),
        "AUTO" => Ok(ToolChoice::Auto),
        _ => {
            r.back(mark);
            Err(r.wrong("'REQUIRED' or 'NONE'"))
        }
    }
}

fn format<'b>(r: &mut Reader<'b>) -> Result<Format<'b>> {
    let mark = r.mark();
    let (mut kind, mut schema): (Option<Str<'b>>, _) = (None, None);
    r.object(|r, key| {
        match &*key {
            "type" => kind = r.maybe(Reader::string)?,
            "schema" | "json_schema" => schema = r.maybe(Reader::raw_object)?.or(schema),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    match (kind.as_deref(), schema) {
        (Some("text"), _) => Ok(Format::Text),
        (Some("json_object"), Some(schema)) => Ok(Format::JsonSchema {
            name: None,
            description: None,
            schema,
            strict: None,
        }),
        (Some("json_object"), None) => Ok(Format::JsonObject),
        (Some(_), _) => {
            r.back(mark);
            Err(r.wrong("of type 'text' or 'json_object'"))
        }
        (None, _) => Err(r.missing("type")),
    }
}

fn thinking(r: &mut Reader<'_>) -> Result<Reasoning> {
    let mark = r.mark();
    let (mut kind, mut budget): (Option<Str<'_>>, _) = (None, None);
    r.object(|r, key| {
        match &*key {
            "type" => kind = r.maybe(Reader::string)?,
            "token_budget" => budget = r.maybe(Reader::integer)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    match kind.as_deref() {
        Some("disabled") => Ok(Reasoning::Off),
        None | Some("enabled") => Ok(match budget {
            Some(budget) => Reasoning::Budget(budget),
            None => Reasoning::Adaptive(None),
        }),
        Some(_) => {
            r.back(mark);
            Err(r.wrong("of type 'enabled' or 'disabled'"))
        }
    }
}
