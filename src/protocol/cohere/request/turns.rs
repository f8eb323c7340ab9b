//! Turns of the hub as Cohere's messages.

use serde_json::value::RawValue;

use super::super::words::write_call;
use crate::error::{Error, Result};
use crate::protocol::Protocol;
use crate::protocol::chat::{Message, Part, Prose, Request, Role, Source};
use crate::protocol::notes::{Notes, place};
use crate::protocol::text::{Object, comma, escaped};

/// What the turns are written for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// The model reads its own thinking back; others know a plan before calls alone.
    pub thinks: bool,
    /// Documents stand apart, beside the messages; otherwise they are text.
    pub documents: bool,
}

/// Appends `messages`, and the documents that stand apart to `documents`.
pub(super) fn write(
    request: &Request<'_>,
    style: Style,
    out: &mut Vec<u8>,
    documents: &mut Vec<u8>,
    notes: &mut Notes,
) -> Result<()> {
    out.push(b'[');
    let mut turns = Turns {
        request,
        style,
        start: out.len(),
        out,
        documents,
        notes,
    };
    for (index, message) in request.messages.iter().enumerate() {
        if message.name.is_some() {
            turns.notes.add("messages.name");
        }
        match message.role {
            Role::System | Role::Developer => turns.said(index, "system", message)?,
            Role::User => turns.user(index, message)?,
            Role::Assistant => turns.assistant(index, message)?,
        }
    }
    turns.out.push(b']');
    Ok(())
}

struct Turns<'t> {
    request: &'t Request<'t>,
    style: Style,
    start: usize,
    out: &'t mut Vec<u8>,
    documents: &'t mut Vec<u8>,
    notes: &'t mut Notes,
}

impl Turns<'_> {
    /// Appends a message whose content is all that it has.
    fn said(&mut self, index: usize, role: &str, message: &Message<'_>) -> Result<()> {
        let mut content = Vec::new();
        for part in &message.parts {
            self.part(index, part, &mut content)?;
        }
        if content.is_empty() {
            if message.role != Role::User {
                return Ok(());
            }
            // Documents alone still are a question.
            write_text(&"".into(), &mut content);
        }
        self.message(role, &content, |_| {});
        Ok(())
    }

    fn user(&mut self, index: usize, message: &Message<'_>) -> Result<()> {
        let is_result = |part: &&Part<'_>| matches!(part, Part::ToolResult { .. });
        if !message.parts.iter().any(|part| is_result(&part)) {
            return self.said(index, "user", message);
        }
        let mut rest = Vec::new();
        for part in message.parts.iter().filter(is_result) {
            if let Part::ToolResult {
                id,
                parts,
                is_error,
                cache,
            } = part
            {
                if *is_error {
                    self.notes.add("is_error");
                }
                self.note_cache(cache.is_some());
                self.result(index, id, parts, &mut rest)?;
            }
        }
        for part in message.parts.iter().filter(|part| !is_result(part)) {
            self.part(index, part, &mut rest)?;
        }
        if !rest.is_empty() {
            self.message("user", &rest, |_| {});
        }
        Ok(())
    }

    /// Appends a result; tool messages take text and documents alone, so images go to the user's message after it.
    fn result(
        &mut self,
        index: usize,
        id: &str,
        parts: &[Part<'_>],
        rest: &mut Vec<u8>,
    ) -> Result<()> {
        let mut content = Vec::new();
        let mut shown = false;
        for part in parts {
            match part {
                Part::Image { .. } => {
                    if !std::mem::replace(&mut shown, true) {
                        comma(0, rest);
                        let line = format!("Shown in the result of the tool call {id}:");
                        write_text(&line.into(), rest);
                    }
                    self.part(index, part, rest)?;
                }
                Part::File {
                    source: Source::Text(text),
                    name,
                    ..
                } => {
                    comma(0, &mut content);
                    let mut object = Object::open(&mut content);
                    object.string("type", "document");
                    self.write_document(name.as_deref(), text, object.key("document"));
                    object.close();
                }
                Part::Text { .. }
                | Part::Refusal { .. }
                | Part::Audio { .. }
                | Part::File { .. }
                | Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Reasoning { .. }
                | Part::RedactedReasoning { .. }
                | Part::Opaque { .. } => self.part(index, part, &mut content)?,
            }
        }
        if content.is_empty() {
            let text = if shown {
                "The result is shown in the next user message."
            } else {
                ""
            };
            write_text(&text.into(), &mut content);
        }
        self.message("tool", &content, |message| {
            message.string("tool_call_id", id);
        });
        Ok(())
    }

    fn assistant(&mut self, index: usize, message: &Message<'_>) -> Result<()> {
        let (mut content, mut calls, mut plan) = (Vec::new(), Vec::new(), String::new());
        let called = message
            .parts
            .iter()
            .any(|part| matches!(part, Part::ToolCall { .. }));
        let mut citations = None;
        for part in &message.parts {
            match part {
                Part::ToolCall {
                    id,
                    name,
                    arguments,
                    cache,
                } => {
                    self.note_cache(cache.is_some());
                    comma(0, &mut calls);
                    write_call(id, name, arguments, &mut calls);
                }
                Part::Reasoning { text, signature } => {
                    let signed = signature.as_deref().is_some_and(|sign| !sign.is_empty());
                    if signed || text.is_empty() || !(self.style.thinks || called) {
                        self.notes.add("messages.reasoning (of another provider)");
                    } else if self.style.thinks {
                        comma(0, &mut content);
                        let mut object = Object::open(&mut content);
                        object.string("type", "thinking");
                        object.string("thinking", text);
                        object.close();
                    } else {
                        plan.push_str(text);
                    }
                }
                Part::Opaque {
                    family: Protocol::Cohere,
                    ..
                } => self.part(index, part, &mut content)?,
                Part::Opaque { .. } => self
                    .notes
                    .add("messages.content (a part that only its own provider understands)"),
                Part::Text {
                    citations: cited, ..
                } => {
                    citations = cited.or(citations);
                    self.part(index, part, &mut content)?;
                }
                Part::Refusal { .. }
                | Part::Image { .. }
                | Part::Audio { .. }
                | Part::File { .. }
                | Part::ToolResult { .. }
                | Part::RedactedReasoning { .. } => self.part(index, part, &mut content)?,
            }
        }
        if content.is_empty() && calls.is_empty() {
            return Ok(());
        }
        let citations = citations.filter(|_| self.request.family == Protocol::Cohere);
        self.message("assistant", &content, |message| {
            if !plan.is_empty() {
                message.string("tool_plan", &plan);
            }
            if !calls.is_empty() {
                let list = message.key("tool_calls");
                list.push(b'[');
                list.extend_from_slice(&calls);
                list.push(b']');
            }
            message.maybe_raw("citations", citations);
        });
        Ok(())
    }

    fn message(&mut self, role: &str, content: &[u8], more: impl FnOnce(&mut Object<'_>)) {
        comma(self.start, self.out);
        let mut message = Object::open(self.out);
        message.string("role", role);
        if !content.is_empty() {
            let list = message.key("content");
            list.push(b'[');
            list.extend_from_slice(content);
            list.push(b']');
        }
        more(&mut message);
        message.close();
    }

    /// Appends a part of a content, with a comma before it where one belongs.
    fn part(&mut self, index: usize, part: &Part<'_>, out: &mut Vec<u8>) -> Result<()> {
        match part {
            Part::Text { text, cache, .. } => {
                self.note_cache(cache.is_some());
                if !text.is_empty() {
                    comma(0, out);
                    write_text(text, out);
                }
            }
            Part::Refusal { text } => {
                comma(0, out);
                write_text(text, out);
            }
            Part::Image {
                source,
                detail,
                cache,
            } => {
                self.note_cache(cache.is_some());
                let at = out.len();
                comma(0, out);
                let mut object = Object::open(out);
                object.string("type", "image_url");
                let mut inner = Object::open(object.key("image_url"));
                match source {
                    Source::Url(url) => inner.string("url", url),
                    Source::Base64 { media_type, data } => {
                        let url = inner.key("url");
                        url.extend_from_slice(b"\"data:");
                        escaped(media_type, url);
                        url.extend_from_slice(b";base64,");
                        escaped(data, url);
                        url.push(b'"');
                    }
                    Source::Text(_) | Source::FileId { .. } => {
                        out.truncate(at);
                        return Err(self.refuse(index, "knows no files by their ids"));
                    }
                }
                inner.maybe_string("detail", detail.as_deref());
                inner.close();
                object.close();
            }
            Part::File {
                source: Source::Text(text),
                name,
                context,
                citations,
                cache,
            } => {
                self.note_cache(cache.is_some());
                if citations.is_some() {
                    self.notes.add("messages.content.citations");
                }
                if let Some(context) = context {
                    comma(0, out);
                    write_text(&(&**context).into(), out);
                }
                if self.style.documents {
                    let mut document = Vec::new();
                    self.write_document(name.as_deref(), text, &mut document);
                    comma(0, self.documents);
                    self.documents.append(&mut document);
                } else {
                    comma(0, out);
                    match name {
                        Some(name) => write_text(&format!("{name}:\n\n{text}").into(), out),
                        None => write_text(&(&**text).into(), out),
                    }
                }
            }
            Part::File { .. } => {
                return Err(self.refuse(index, "takes documents as text alone"));
            }
            Part::Audio { .. } => return Err(self.refuse(index, "takes no audio")),
            Part::Opaque {
                family: Protocol::Cohere,
                raw,
            } => {
                comma(0, out);
                out.extend_from_slice(raw.get().as_bytes());
            }
            Part::Opaque { .. } => {
                return Err(self.refuse(index, "knows no content part of this type"));
            }
            Part::Reasoning { .. } | Part::RedactedReasoning { .. } => {
                self.notes.add("messages.reasoning (of another provider)");
            }
            // No decoder makes these here.
            Part::ToolCall { .. } | Part::ToolResult { .. } => {}
        }
        Ok(())
    }

    /// Appends a document: a client of this family gave it as it stands.
    fn write_document(&self, name: Option<&str>, text: &str, out: &mut Vec<u8>) {
        let is_object = text.starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok();
        if self.request.family == Protocol::Cohere && is_object {
            return out.extend_from_slice(text.as_bytes());
        }
        let mut document = Object::open(out);
        let mut data = Object::open(document.key("data"));
        data.maybe_string("title", name);
        data.string("text", text);
        data.close();
        document.close();
    }

    fn note_cache(&mut self, given: bool) {
        if given {
            self.notes.add("cache_control");
        }
    }

    fn refuse(&self, index: usize, why: &str) -> Error {
        let path = place(self.request, index);
        Error::unsupported(path, format!("Cohere {why}"))
    }
}

fn write_text(text: &Prose<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
    text.write(out);
    out.push(b'}');
}
