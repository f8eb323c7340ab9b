//! Turns of the hub as Ollama's messages.
//!
//! A message is one text, with images beside it. Each result is a message of its own, right after the calls, and
//! tells the function's name, which is looked up by the call's id.

use std::collections::HashMap;

use super::super::words::write_call;
use crate::error::{Error, Result};
use crate::protocol::Facts;
use crate::protocol::chat::{Message, Part, Request, Role, Source};
use crate::protocol::notes::{Notes, place};
use crate::protocol::text::{self, Object, comma};

pub(super) fn write(
    request: &Request<'_>,
    same: bool,
    facts: &Facts,
    out: &mut Vec<u8>,
    notes: &mut Notes,
) -> Result<()> {
    out.push(b'[');
    let mut turns = Turns {
        request,
        // Thinking without a signature was made by a model that reads it back as it is.
        thinks: same || facts.reasoning,
        names: HashMap::new(),
        start: out.len(),
        out,
        notes,
    };
    for (index, message) in request.messages.iter().enumerate() {
        turns.message(index, message)?;
    }
    turns.out.push(b']');
    Ok(())
}

struct Turns<'t> {
    request: &'t Request<'t>,
    thinks: bool,
    /// The function that each call's id called.
    names: HashMap<&'t str, &'t str>,
    start: usize,
    out: &'t mut Vec<u8>,
    notes: &'t mut Notes,
}

/// What one message of Ollama's says.
#[derive(Default)]
struct Said<'t> {
    content: String,
    images: Vec<&'t str>,
    thinking: String,
    calls: Vec<(&'t str, &'t str, &'t str)>,
}

impl<'t> Turns<'t> {
    fn message(&mut self, index: usize, message: &'t Message<'t>) -> Result<()> {
        if message.name.is_some() {
            self.notes.add("messages.name");
        }
        let (role, between) = match message.role {
            Role::System | Role::Developer => ("system", "\n\n"),
            Role::User => ("user", "\n"),
            // Blocks of one answer are pieces of one text.
            Role::Assistant => ("assistant", ""),
        };
        let mut said = Said::default();
        let mut results = false;
        for part in &message.parts {
            if let Part::ToolResult {
                id,
                parts,
                is_error,
                cache,
            } = part
            {
                results = true;
                if *is_error {
                    self.notes.add("is_error");
                }
                if cache.is_some() {
                    self.notes.add("cache_control");
                }
                self.result(index, id, parts)?;
                continue;
            }
            self.part(index, part, between, &mut said)?;
        }
        if results && said.is_empty() {
            return Ok(());
        }
        self.open(role, |turn| said.write(turn, None));
        Ok(())
    }

    fn result(&mut self, index: usize, id: &'t str, parts: &'t [Part<'t>]) -> Result<()> {
        let mut said = Said::default();
        for part in parts {
            self.part(index, part, "\n", &mut said)?;
        }
        let name = self.names.get(id).copied();
        if name.is_none() {
            self.notes.add("messages.tool_call_id (no call has it)");
        }
        self.open("tool", |turn| said.write(turn, Some((id, name))));
        Ok(())
    }

    fn open(&mut self, role: &str, fill: impl FnOnce(&mut Object<'_>) -> bool) {
        comma(self.start, self.out);
        let mut turn = Object::open(self.out);
        turn.string("role", role);
        let sound = fill(&mut turn);
        turn.close();
        if !sound {
            self.notes
                .add("messages.tool_calls.function.arguments (not a JSON object: sent as text)");
        }
    }

    fn part(
        &mut self,
        index: usize,
        part: &'t Part<'t>,
        between: &str,
        said: &mut Said<'t>,
    ) -> Result<()> {
        match part {
            Part::Text { text, cache, .. } => {
                if cache.is_some() {
                    self.notes.add("cache_control");
                }
                said.add(text, between);
            }
            Part::Refusal { text } => said.add(text, between),
            Part::Image {
                source: Source::Base64 { data, .. },
                detail,
                cache,
            } => {
                if cache.is_some() {
                    self.notes.add("cache_control");
                }
                if detail.as_ref().is_some_and(|detail| detail != "auto") {
                    self.notes.add("messages.content.image_url.detail");
                }
                said.images.push(data);
            }
            Part::File {
                source: Source::Text(text),
                name,
                context,
                citations,
                cache,
            } => {
                for (given, field) in [(citations, "citations"), (cache, "cache_control")] {
                    if given.is_some() {
                        self.notes.add(field);
                    }
                }
                if let Some(context) = context {
                    said.add(context, "\n\n");
                }
                match name {
                    Some(name) => said.add(&format!("{name}:\n\n{text}"), "\n\n"),
                    None => said.add(text, "\n\n"),
                }
            }
            Part::Image { .. } => {
                return Err(self.refuse(index, "takes images as data alone, not by address"));
            }
            Part::Audio { .. } => return Err(self.refuse(index, "takes no audio")),
            Part::File { .. } => return Err(self.refuse(index, "takes no documents")),
            Part::ToolCall {
                id,
                name,
                arguments,
                cache,
            } => {
                if cache.is_some() {
                    self.notes.add("cache_control");
                }
                self.names.insert(id, name);
                said.calls.push((id, name, arguments));
            }
            Part::Reasoning { text, signature } => {
                let signed = signature.as_deref().is_some_and(|sign| !sign.is_empty());
                if self.thinks && !signed {
                    said.thinking.push_str(text);
                } else {
                    self.notes.add("messages.reasoning (of another provider)");
                }
            }
            Part::RedactedReasoning { .. } => {
                self.notes.add("messages.reasoning (of another provider)");
            }
            // Results within results: no decoder makes these.
            Part::ToolResult { .. } => {}
            Part::Opaque { .. } if self.request.messages[index].role == Role::Assistant => {
                self.notes
                    .add("messages.content (a part that only its own provider understands)");
            }
            Part::Opaque { .. } => {
                return Err(self.refuse(index, "knows no content part of this type"));
            }
        }
        Ok(())
    }

    fn refuse(&self, index: usize, why: &str) -> Error {
        let path = place(self.request, index);
        Error::unsupported(path, format!("An Ollama server {why}"))
    }
}

impl Said<'_> {
    fn is_empty(&self) -> bool {
        self.content.is_empty() && self.images.is_empty() && self.calls.is_empty()
    }

    fn add(&mut self, text: &str, between: &str) {
        if text.is_empty() {
            return;
        }
        if !self.content.is_empty() {
            self.content.push_str(between);
        }
        self.content.push_str(text);
    }

    /// Appends the fields; `result` is the id of the call and the name of its function. Returns whether all arguments
    /// were objects.
    fn write(&self, turn: &mut Object<'_>, result: Option<(&str, Option<&str>)>) -> bool {
        turn.string("content", &self.content);
        if !self.thinking.is_empty() {
            turn.string("thinking", &self.thinking);
        }
        if !self.images.is_empty() {
            let out = turn.key("images");
            out.push(b'[');
            let start = out.len();
            for image in &self.images {
                comma(start, out);
                text::string(image, out);
            }
            out.push(b']');
        }
        let mut sound = true;
        if !self.calls.is_empty() {
            let out = turn.key("tool_calls");
            out.push(b'[');
            let start = out.len();
            for (index, (id, name, arguments)) in (0..).zip(&self.calls) {
                comma(start, out);
                sound &= write_call(id, name, arguments, index, out);
            }
            out.push(b']');
        }
        if let Some((id, name)) = result {
            turn.maybe_string("tool_name", name);
            turn.string("tool_call_id", id);
        }
        sound
    }
}
