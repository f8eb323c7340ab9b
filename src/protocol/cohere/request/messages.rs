//! A client's messages into turns.

use std::borrow::Cow;

use super::super::words::Call;
use super::decode::document;
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Message, Part, Prose, Role, Source, Str};
use crate::protocol::text::Reader;

/// Reads `messages`; results that follow each other become one turn.
pub(super) fn list<'b>(r: &mut Reader<'b>) -> Result<Vec<Message<'b>>> {
    let mut turns: Vec<Message<'b>> = Vec::new();
    let mut results = false;
    r.array(|r| {
        let (turn, is_result) = message(r)?;
        match turns.last_mut() {
            Some(last) if results && is_result => last.parts.extend(turn.parts),
            Some(_) | None => turns.push(turn),
        }
        results = is_result;
        Ok(())
    })?;
    Ok(turns)
}

/// Reads one message; tells whether it is a tool's result.
fn message<'b>(r: &mut Reader<'b>) -> Result<(Message<'b>, bool)> {
    let (mut role, mut content) = (None, Vec::new());
    let (mut plan, mut calls, mut id) = (None, Vec::new(), None);
    let mut citations = None;
    r.object(|r, key| {
        match &*key {
            "role" => {
                let mark = r.mark();
                role = Some(match r.string()?.to_ascii_lowercase().as_str() {
                    "system" | "developer" => (Role::System, false),
                    "user" => (Role::User, false),
                    "assistant" | "chatbot" => (Role::Assistant, false),
                    "tool" => (Role::User, true),
                    _ => {
                        r.back(mark);
                        return Err(r.wrong("'system', 'user', 'assistant' or 'tool'"));
                    }
                });
            }
            "content" => content = r.maybe(parts)?.unwrap_or_default(),
            "tool_plan" => plan = r.maybe(Reader::string)?,
            "tool_calls" => calls = r.maybe(|r| r.list(call))?.unwrap_or_default(),
            "tool_call_id" => id = r.maybe(Reader::string)?,
            "citations" => citations = r.maybe_raw()?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let (role, is_result) = role.ok_or_else(|| r.missing("role"))?;
    let mut parts = Vec::with_capacity(content.len() + calls.len() + 1);
    if let Some(text) = plan.filter(|text| !text.is_empty()) {
        parts.push(Part::Reasoning {
            text: text.into(),
            signature: None,
        });
    }
    parts.append(&mut content);
    if let Some(list) = citations {
        let last = parts
            .iter_mut()
            .rev()
            .find(|part| matches!(part, Part::Text { .. }));
        if let Some(Part::Text { citations, .. }) = last {
            *citations = Some(list);
        }
    }
    parts.append(&mut calls);
    if is_result {
        parts = vec![Part::ToolResult {
            id: id.ok_or_else(|| r.missing("tool_call_id"))?,
            parts,
            is_error: false,
            cache: None,
        }];
    }
    let message = Message {
        role,
        parts,
        name: None,
    };
    Ok((message, is_result))
}

fn call<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let call = Call::read(r)?;
    if call.name.is_empty() {
        return Err(r.missing("function.name"));
    }
    Ok(Part::ToolCall {
        id: call.id,
        name: call.name,
        arguments: call.arguments,
        cache: None,
    })
}

fn parts<'b>(r: &mut Reader<'b>) -> Result<Vec<Part<'b>>> {
    if r.peek() == b'"' {
        let text = r.string()?;
        // Beside calls several clients send it empty.
        return Ok(if text.is_empty() {
            Vec::new()
        } else {
            vec![plain(text)]
        });
    }
    r.list(part)
}

pub(super) fn plain<'b>(text: impl Into<Prose<'b>>) -> Part<'b> {
    Part::Text {
        text: text.into(),
        cache: None,
        citations: None,
    }
}

fn part<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let mark = r.mark();
    let kind = r.tag("type");
    match kind.as_deref() {
        Some("text") => Ok(plain(field(r, "text", Reader::prose)?)),
        Some("thinking") => Ok(Part::Reasoning {
            text: field(r, "thinking", Reader::prose)?,
            signature: None,
        }),
        Some("image_url") => {
            let (url, detail) = field(r, "image_url", image)?;
            Ok(Part::Image {
                source: source(url),
                detail,
                cache: None,
            })
        }
        Some("document") => field(r, "document", document),
        _ => {
            r.back(mark);
            Ok(Part::Opaque {
                family: Protocol::Cohere,
                raw: r.raw_object()?,
            })
        }
    }
}

/// Reads the one field of a part that counts.
fn field<'b, T>(
    r: &mut Reader<'b>,
    name: &str,
    one: impl Fn(&mut Reader<'b>) -> Result<T>,
) -> Result<T> {
    let mut found = None;
    r.object(|r, key| {
        match &*key {
            "type" => drop(r.raw()?),
            key if key == name => found = r.maybe(&one)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    found.ok_or_else(|| r.missing(name))
}

fn image<'b>(r: &mut Reader<'b>) -> Result<(Str<'b>, Option<Str<'b>>)> {
    if r.peek() == b'"' {
        return Ok((r.string()?, None));
    }
    let (mut url, mut detail) = (None, None);
    r.object(|r, key| {
        match &*key {
            "url" => url = r.maybe(Reader::string)?,
            "detail" => detail = r.maybe(Reader::string)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok((url.ok_or_else(|| r.missing("url"))?, detail))
}

/// Takes an address of data apart.
fn source(url: Str<'_>) -> Source<'_> {
    const MARK: &str = ";base64,";
    let Some(at) = url
        .strip_prefix("data:")
        .and_then(|rest| Some(rest.find(MARK)? + "data:".len()))
    else {
        return Source::Url(url);
    };
    let (media, data) = (5..at, at + MARK.len());
    match url {
        Cow::Borrowed(url) => Source::Base64 {
            media_type: url.get(media).unwrap_or_default().into(),
            data: url.get(data..).unwrap_or_default().into(),
        },
        Cow::Owned(url) => Source::Base64 {
            media_type: url.get(media).unwrap_or_default().to_owned().into(),
            data: url.get(data..).unwrap_or_default().to_owned().into(),
        },
    }
}
