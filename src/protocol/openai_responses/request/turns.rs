//! Turns of the hub as items.
//!
//! The instructions at the beginning are `instructions`; later ones stand where they are. Results of tools are
//! items of their own, before what else their turn holds. Reasoning must be followed by what it led to, so what
//! nothing follows is left out.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::encode::{Notes, is_ours};
use crate::error::{Error, Result};
use crate::protocol::chat::{Message, Part, Prose, Request, Role, Source};
use crate::protocol::openai_responses::blob::{self, Outward};
use crate::protocol::openai_responses::names::Names;
use crate::protocol::openai_responses::{item, media};
use crate::protocol::text::{self, Object, Reader};
use crate::protocol::{Facts, Protocol};

/// Writes `instructions` and `input`.
pub(super) fn write(
    request: &Request<'_>,
    facts: &Facts,
    notes: &mut Notes,
    object: &mut Object<'_>,
) -> Result<()> {
    if request
        .messages
        .iter()
        .any(|message| message.name.is_some())
    {
        notes.drop("messages.name");
    }
    let mut rest = request.messages.as_slice();
    let mut instructions = 0;
    if let [first, after @ ..] = rest
        && matches!(first.role, Role::System | Role::Developer)
        && let Some(all) = joined(&first.parts)
    {
        if !all.is_empty() {
            object.string("instructions", &all);
        }
        for part in &first.parts {
            trimmings(part, request, notes);
        }
        rest = after;
        instructions = 1;
    }
    if rest.is_empty() && is_ours(request) {
        // The conversation is elsewhere.
        return Ok(());
    }
    let names = Names::of_tools(&request.tools);
    let out = object.key("input");
    out.push(b'[');
    let start = out.len();
    for (index, message) in rest.iter().enumerate() {
        let mut turn = Turn {
            request,
            message,
            index: index + instructions,
            names: &names,
            notes,
            start,
            out,
        };
        match message.role {
            Role::System => turn.said("system")?,
            Role::Developer if facts.developer_role || is_ours(request) => {
                turn.said("developer")?
            }
            Role::Developer => turn.said("system")?,
            Role::User => turn.user()?,
            Role::Assistant => turn.assistant()?,
        }
    }
    out.push(b']');
    Ok(())
}

/// Returns all the text of `parts`; `None` if there is more than text.
fn joined<'p>(parts: &'p [Part<'_>]) -> Option<Cow<'p, str>> {
    let mut all: Option<Cow<'p, str>> = None;
    for part in parts {
        let Part::Text { text, .. } = part else {
            return None;
        };
        match &mut all {
            Some(all) => {
                let all = all.to_mut();
                all.push_str("\n\n");
                all.push_str(text);
            }
            None => all = Some(Cow::Borrowed(text)),
        }
    }
    Some(all.unwrap_or_default())
}

/// Names what is lost when a part is written as nothing but what it says.
fn trimmings(part: &Part<'_>, request: &Request<'_>, notes: &mut Notes) {
    let (cache, citations) = match part {
        Part::Text {
            cache, citations, ..
        }
        | Part::File {
            cache, citations, ..
        } => (cache, citations),
        Part::Image { cache, .. }
        | Part::ToolCall { cache, .. }
        | Part::ToolResult { cache, .. } => (cache, &None),
        Part::Refusal { .. }
        | Part::Audio { .. }
        | Part::Reasoning { .. }
        | Part::RedactedReasoning { .. }
        | Part::Opaque { .. } => return,
    };
    if cache.is_some() {
        notes.drop("cache_control");
    }
    if citations.is_some() && !is_ours(request) {
        notes.drop("citations");
    }
}

struct Turn<'t> {
    request: &'t Request<'t>,
    message: &'t Message<'t>,
    /// Its place among the messages.
    index: usize,
    names: &'t Names,
    notes: &'t mut Notes,
    /// Where the array of items began.
    start: usize,
    out: &'t mut Vec<u8>,
}

impl Turn<'_> {
    fn said(&mut self, role: &str) -> Result<()> {
        let parts: Vec<&Part<'_>> = self.message.parts.iter().collect();
        self.message(role, &parts)
    }

    /// Writes a message; items that stand among its parts are written by themselves.
    fn message(&mut self, role: &str, parts: &[&Part<'_>]) -> Result<()> {
        for part in parts {
            trimmings(part, self.request, self.notes);
        }
        if let [Part::Text { text, .. }] = parts {
            let mut object = self.open(role);
            object.string("content", text);
            object.close();
            return Ok(());
        }
        let mut content = Vec::new();
        for part in parts {
            if let Part::Opaque {
                family: Protocol::OpenaiResponses,
                raw,
            } = part
                && is_item(raw)
            {
                self.flush(role, &mut content);
                text::comma(self.start, self.out);
                self.out.extend_from_slice(raw.get().as_bytes());
                continue;
            }
            let mut one = Vec::new();
            self.part(part, &mut one)?;
            if !one.is_empty() {
                text::comma(0, &mut content);
                content.extend_from_slice(&one);
            }
        }
        self.flush(role, &mut content);
        Ok(())
    }

    fn open(&mut self, role: &str) -> Object<'_> {
        text::comma(self.start, self.out);
        let mut object = Object::open(self.out);
        object.string("type", "message");
        object.string("role", role);
        object
    }

    /// Writes a message of the parts so far, if there are any.
    fn flush(&mut self, role: &str, content: &mut Vec<u8>) {
        if content.is_empty() {
            return;
        }
        let mut object = self.open(role);
        let out = object.key("content");
        out.push(b'[');
        out.append(content);
        out.push(b']');
        object.close();
    }

    fn user(&mut self) -> Result<()> {
        let message = self.message;
        let mut rest = Vec::new();
        for part in &message.parts {
            match part {
                Part::ToolResult {
                    id,
                    parts,
                    is_error,
                    ..
                } => {
                    trimmings(part, self.request, self.notes);
                    if *is_error {
                        self.notes.drop("is_error");
                    }
                    self.result(id, parts)?;
                }
                Part::Text { .. }
                | Part::Refusal { .. }
                | Part::Image { .. }
                | Part::Audio { .. }
                | Part::File { .. }
                | Part::ToolCall { .. }
                | Part::Reasoning { .. }
                | Part::RedactedReasoning { .. }
                | Part::Opaque { .. } => rest.push(part),
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        self.message("user", &rest)
    }

    /// Writes the result of a call: one string where that says it all.
    fn result(&mut self, id: &str, parts: &[Part<'_>]) -> Result<()> {
        let mut all = String::new();
        let mut plain = true;
        for part in parts {
            trimmings(part, self.request, self.notes);
            match part {
                Part::Text { text, .. } | Part::Refusal { text } => {
                    if !all.is_empty() {
                        all.push('\n');
                    }
                    all.push_str(text);
                }
                Part::Image { .. }
                | Part::Audio { .. }
                | Part::File { .. }
                | Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Reasoning { .. }
                | Part::RedactedReasoning { .. }
                | Part::Opaque { .. } => plain = false,
            }
        }
        let mut listed = Vec::new();
        if !plain || (is_ours(self.request) && parts.len() > 1) {
            for part in parts {
                let mut one = Vec::new();
                self.part(part, &mut one)?;
                if !one.is_empty() {
                    text::comma(0, &mut listed);
                    listed.extend_from_slice(&one);
                }
            }
        }
        text::comma(self.start, self.out);
        let mut object = Object::open(self.out);
        object.string("type", "function_call_output");
        object.string("call_id", id);
        if listed.is_empty() {
            object.string("output", &all);
        } else {
            let out = object.key("output");
            out.push(b'[');
            out.append(&mut listed);
            out.push(b']');
        }
        object.close();
        Ok(())
    }

    fn assistant(&mut self) -> Result<()> {
        let message = self.message;
        // Items that wait for what they led to, and words that wait for more of them.
        let mut thoughts: Vec<u8> = Vec::new();
        let mut words: Vec<&Part<'_>> = Vec::new();
        for (index, part) in message.parts.iter().enumerate() {
            trimmings(part, self.request, self.notes);
            match part {
                Part::Text { .. } | Part::Refusal { .. } => {
                    self.release(&mut thoughts);
                    words.push(part);
                    continue;
                }
                Part::ToolCall { .. } | Part::Opaque { .. } => self.words(&mut words),
                Part::Reasoning { .. } | Part::RedactedReasoning { .. } => self.words(&mut words),
                Part::Image { .. }
                | Part::Audio { .. }
                | Part::File { .. }
                | Part::ToolResult { .. } => {
                    return Err(Error::unsupported(
                        self.place(Some(index)),
                        "This can't be part of an assistant turn for the provider of the model",
                    ));
                }
            }
            match part {
                Part::ToolCall {
                    id,
                    name,
                    arguments,
                    ..
                } => {
                    self.release(&mut thoughts);
                    text::comma(self.start, self.out);
                    let (namespace, name) = match self.names.own(name) {
                        Some(own) => (own.namespace.as_deref(), &*own.name),
                        None => (None, &**name),
                    };
                    item::write_call_asked(id, namespace, name, arguments, self.out);
                }
                Part::Opaque {
                    family: Protocol::OpenaiResponses,
                    raw,
                } => {
                    self.release(&mut thoughts);
                    text::comma(self.start, self.out);
                    self.out.extend_from_slice(raw.get().as_bytes());
                }
                // What the model did by its provider's tools: the text that came of it is here too.
                Part::Opaque { family: _, raw } => {
                    let kind = Reader::of(raw.get()).tag("type");
                    self.notes
                        .drop(kind.as_deref().unwrap_or("messages.content"));
                }
                Part::Reasoning { text, signature } => {
                    self.thought(text, signature.as_deref(), &mut thoughts);
                }
                Part::RedactedReasoning { data } => self.thought("", Some(data), &mut thoughts),
                Part::Text { .. }
                | Part::Refusal { .. }
                | Part::Image { .. }
                | Part::Audio { .. }
                | Part::File { .. }
                | Part::ToolResult { .. } => {}
            }
        }
        self.words(&mut words);
        if is_ours(self.request) {
            self.release(&mut thoughts);
        } else if !thoughts.is_empty() {
            self.notes.drop("reasoning that nothing follows");
        }
        Ok(())
    }

    /// Adds a reasoning item to those that wait, if this provider made it.
    fn thought(&mut self, words: &str, signature: Option<&str>, thoughts: &mut Vec<u8>) {
        let outward = signature
            .filter(|blob| !blob.is_empty())
            .map(|blob| blob::outward(blob, false));
        let (id, encrypted) = match outward {
            Some(Outward::Native {
                id,
                encrypted: Some(encrypted),
            }) => (id, Some(encrypted)),
            None if is_ours(self.request) && !words.is_empty() => (None, None),
            Some(_) | None => {
                self.notes.drop("reasoning of another model");
                return;
            }
        };
        text::comma(0, thoughts);
        let id = id.as_deref().unwrap_or_default();
        item::write_reasoning(id, words, encrypted.as_deref(), thoughts);
    }

    fn release(&mut self, thoughts: &mut Vec<u8>) {
        if !thoughts.is_empty() {
            text::comma(self.start, self.out);
            self.out.append(thoughts);
        }
    }

    /// Writes what the model said: pieces of one text, unless it declined.
    fn words(&mut self, words: &mut Vec<&Part<'_>>) {
        let parts = std::mem::take(words);
        if parts.is_empty() {
            return;
        }
        let mut all = String::new();
        let mut refused = false;
        for part in &parts {
            match part {
                Part::Text { text, .. } => all.push_str(text),
                Part::Refusal { .. } => refused = true,
                Part::Image { .. }
                | Part::Audio { .. }
                | Part::File { .. }
                | Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Reasoning { .. }
                | Part::RedactedReasoning { .. }
                | Part::Opaque { .. } => {}
            }
        }
        if !refused {
            if all.is_empty() && !is_ours(self.request) {
                return;
            }
            let mut object = self.open("assistant");
            object.string("content", &all);
            object.close();
            return;
        }
        // A refusal can be said in an answer alone, which has an id.
        let id = format!("msg_{}", self.index);
        let mut content = Vec::new();
        for part in parts {
            match part {
                Part::Text { text, .. } => {
                    text::comma(0, &mut content);
                    item::write_output_text(text, b"", b"", &mut content);
                }
                Part::Refusal { text } => {
                    text::comma(0, &mut content);
                    item::write_refusal(text, &mut content);
                }
                Part::Image { .. }
                | Part::Audio { .. }
                | Part::File { .. }
                | Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Reasoning { .. }
                | Part::RedactedReasoning { .. }
                | Part::Opaque { .. } => {}
            }
        }
        text::comma(self.start, self.out);
        item::write_message(&id, item::COMPLETED, &content, self.out);
    }

    /// Writes one part of a content array; nothing where it has no place there.
    fn part(&mut self, part: &Part<'_>, out: &mut Vec<u8>) -> Result<()> {
        match part {
            Part::Text { text, .. } | Part::Refusal { text } => write_text(text, out),
            Part::Image { source, detail, .. } => {
                let mut object = Object::open(out);
                object.string("type", "input_image");
                object.string("detail", detail.as_deref().unwrap_or("auto"));
                if !write_source(source, "image_url", &mut object) {
                    return Err(self.refuse_source());
                }
                object.close();
            }
            // OpenAI documents text, images and files here.
            Part::Audio { .. } if !is_ours(self.request) => {
                let mut parts = self.message.parts.iter();
                return Err(Error::unsupported(
                    self.place(parts.position(|one| std::ptr::eq(one, part))),
                    "The provider of the model takes no audio by the responses API",
                ));
            }
            Part::Audio { data, format } => {
                let mut object = Object::open(out);
                object.string("type", "input_audio");
                let mut audio = Object::open(object.key("input_audio"));
                audio.string("data", data);
                audio.string("format", format);
                audio.close();
                object.close();
            }
            Part::File {
                source: Source::Text(words),
                name,
                context,
                ..
            } => {
                let mut all = String::new();
                for line in [name, context].into_iter().flatten() {
                    all.push_str(line);
                    all.push_str("\n\n");
                }
                all.push_str(words);
                write_text(&all.into(), out);
            }
            Part::File {
                source,
                name,
                context,
                ..
            } => {
                if let Some(context) = context {
                    write_text(&(&**context).into(), out);
                    out.push(b',');
                }
                self.file(source, name.as_deref(), out)?;
            }
            Part::Opaque {
                family: Protocol::OpenaiResponses,
                raw,
            } => out.extend_from_slice(raw.get().as_bytes()),
            Part::Opaque { family: _, raw } => {
                let kind = Reader::of(raw.get()).tag("type");
                let kind = kind.as_deref().unwrap_or("unknown");
                return Err(Error::unsupported(
                    self.place(None),
                    format!("a part of type `{kind}` can't be said to the provider of the model"),
                ));
            }
            // Only an assistant thinks and calls, and results are written elsewhere.
            Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::Reasoning { .. }
            | Part::RedactedReasoning { .. } => {}
        }
        Ok(())
    }

    fn file(&mut self, source: &Source<'_>, name: Option<&str>, out: &mut Vec<u8>) -> Result<()> {
        let mut object = Object::open(out);
        object.string("type", "input_file");
        let field = match source {
            Source::Url(_) => "file_url",
            Source::Base64 { media_type, .. } => {
                // Data without a name is refused.
                let name = name.unwrap_or(match &**media_type {
                    "application/pdf" => "document.pdf",
                    _ => "document",
                });
                object.string("filename", name);
                "file_data"
            }
            Source::Text(_) | Source::FileId { .. } => "file_data",
        };
        if !write_source(source, field, &mut object) {
            return Err(self.refuse_source());
        }
        object.close();
        Ok(())
    }

    fn refuse_source(&self) -> Error {
        Error::unsupported(
            self.place(None),
            "A file uploaded to another provider can't be read by the provider of the model",
        )
    }

    /// Names a place in the conversation as the client's protocol does.
    fn place(&self, part: Option<usize>) -> String {
        let family = self.request.family;
        let (list, parts) = match family {
            // Several items make one message of the hub.
            Protocol::OpenaiResponses => return "input".to_owned(),
            Protocol::Gemini => ("contents", "parts"),
            Protocol::OpenaiChat
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
            | Protocol::Bedrock
            | Protocol::Cohere
            | Protocol::Ollama => ("messages", "content"),
        };
        // Anthropic's `system` stands outside of its `messages`, and so do Google's and Bedrock's.
        let apart = match family {
            Protocol::Anthropic | Protocol::Gemini | Protocol::Bedrock => self
                .request
                .messages
                .first()
                .is_some_and(|first| first.role == Role::System),
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Cohere
            | Protocol::Ollama => false,
        };
        let message = family.element(list, self.index.saturating_sub(usize::from(apart)));
        match part {
            Some(part) => family.element(&format!("{message}.{parts}"), part),
            None => format!("{message}.{parts}"),
        }
    }
}

/// Returns whether something carried whole stands among the items, not among the parts of one.
fn is_item(raw: &RawValue) -> bool {
    let Some(kind) = Reader::of(raw.get()).tag("type") else {
        // A reference may come without a type.
        return true;
    };
    let is_part = kind.starts_with("input_")
        || kind.starts_with("output_")
        || kind.ends_with("_text")
        || kind.ends_with("_url")
        || matches!(&*kind, "computer_screenshot" | "image" | "file");
    !is_part
}

fn write_text(words: &Prose<'_>, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", "input_text");
    object.prose("text", words);
    object.close();
}

/// Writes where a picture or document is. Returns whether that can be said here.
fn write_source(source: &Source<'_>, field: &str, object: &mut Object<'_>) -> bool {
    match source {
        Source::FileId {
            family: Protocol::OpenaiResponses | Protocol::OpenaiChat,
            id,
        } => object.string("file_id", id),
        Source::FileId { .. } | Source::Text(_) => return false,
        Source::Url(_) | Source::Base64 { .. } => {
            media::write_url(source, object.key(field));
        }
    }
    true
}
