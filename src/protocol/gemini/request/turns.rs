//! System instruction and turns.
//!
//! Google wants the results of a turn's calls together in the turn after it, and names functions in results, not
//! calls. So turns of one role that follow each other are merged, results come first in a user's turn, and a
//! result's name is looked up by its call's id.

use std::collections::{HashMap, VecDeque};

use super::super::content;
use super::super::signature;
use super::super::words::{Kind, Notes};
use crate::error::{Error, Result};
use crate::protocol::Protocol;
use crate::protocol::chat::{Message, Part, Request, Role, Source};
use crate::protocol::text::{self, Object, comma};

/// What models of the third generation take for the signature that another model's call doesn't have:
/// <https://ai.google.dev/gemini-api/docs/thought-signatures#faqs>.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

const INSTRUCTION: &str = "Answer with one JSON object and nothing else.";

#[derive(Debug)]
pub(super) struct Conversation<'r> {
    system: Vec<Placed<'r>>,
    turns: Vec<Turn<'r>>,
    /// The function that each call's id called.
    names: HashMap<&'r str, &'r str>,
    request: &'r Request<'r>,
    same: bool,
    kind: Kind,
}

#[derive(Debug)]
struct Turn<'r> {
    is_model: bool,
    parts: Vec<Placed<'r>>,
}

/// A part, and the message that it stood in.
#[derive(Debug, Clone, Copy)]
struct Placed<'r> {
    part: &'r Part<'r>,
    message: usize,
}

impl<'r> Conversation<'r> {
    pub fn new(
        request: &'r Request<'r>,
        same: bool,
        kind: Kind,
        notes: &mut Notes,
    ) -> Result<Self> {
        let mut conversation = Self {
            system: Vec::new(),
            turns: Vec::new(),
            names: HashMap::new(),
            request,
            same,
            kind,
        };
        for (index, message) in request.messages.iter().enumerate() {
            conversation.take(index, message, notes)?;
        }
        // Google refuses a conversation without turns.
        if conversation.turns.is_empty() && !conversation.system.is_empty() {
            conversation.turns.push(Turn {
                is_model: false,
                parts: std::mem::take(&mut conversation.system),
            });
        }
        if conversation.turns.is_empty() && !same {
            return Err(Error::field(
                "messages",
                "`messages` says nothing: every content is empty.",
            ));
        }
        if !same {
            for turn in conversation.turns.iter_mut().filter(|turn| !turn.is_model) {
                // Stable: within each kind the order stays.
                turn.parts
                    .sort_by_key(|placed| !matches!(placed.part, Part::ToolResult { .. }));
            }
        }
        Ok(conversation)
    }

    fn take(&mut self, index: usize, message: &'r Message<'r>, notes: &mut Notes) -> Result<()> {
        if message.name.is_some() {
            notes.add("messages.name");
        }
        for part in &message.parts {
            if let Part::ToolCall { id, name, .. } = part {
                self.names.insert(id, name);
            }
            let placed = Placed {
                part,
                message: index,
            };
            if !self.same && self.leaves_out(placed, message.role, notes)? {
                continue;
            }
            let is_model = match message.role {
                Role::System | Role::Developer => {
                    self.system.push(placed);
                    continue;
                }
                Role::User => false,
                Role::Assistant => true,
            };
            match self.turns.last_mut() {
                Some(turn) if turn.is_model == is_model => turn.parts.push(placed),
                Some(_) | None => self.turns.push(Turn {
                    is_model,
                    parts: vec![placed],
                }),
            }
        }
        Ok(())
    }

    /// Returns whether a part of another family says nothing here; names what is lost.
    fn leaves_out(&self, placed: Placed<'_>, role: Role, notes: &mut Notes) -> Result<bool> {
        Ok(match placed.part {
            Part::Text { text, .. } | Part::Refusal { text } => text.is_empty(),
            Part::Reasoning {
                signature: None, ..
            } => {
                notes.add("messages.reasoning (unsigned)");
                true
            }
            Part::Reasoning {
                signature: Some(marked),
                ..
            } => {
                let foreign = signature::own(marked).is_none();
                if foreign {
                    notes.add("messages.reasoning (of another provider)");
                }
                foreign
            }
            Part::RedactedReasoning { .. } => {
                notes.add("messages.reasoning (of another provider)");
                true
            }
            Part::Opaque {
                family: Protocol::Gemini,
                ..
            } => false,
            Part::Opaque { .. } if role == Role::Assistant => {
                notes.add("messages.content (a part that only its own provider understands)");
                true
            }
            Part::Opaque { .. } => {
                return Err(Error::unsupported(
                    self.place(placed.message),
                    "A content part of this type can't be said to a Gemini model",
                ));
            }
            Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolCall { .. }
            | Part::ToolResult { .. } => false,
        })
    }

    /// Names where a message stands, as its client does.
    fn place(&self, index: usize) -> String {
        let family = self.request.family;
        let system_apart = matches!(family, Protocol::Anthropic | Protocol::Gemini)
            && self
                .request
                .messages
                .first()
                .is_some_and(|first| first.role == Role::System);
        if system_apart && index == 0 {
            return "system".to_owned();
        }
        let list = match family {
            Protocol::OpenaiResponses => "input",
            Protocol::Gemini => "contents",
            Protocol::OpenaiCompletions => return "prompt".to_owned(),
            Protocol::OpenaiChat
            | Protocol::Anthropic
            | Protocol::Bedrock
            | Protocol::Cohere
            | Protocol::Ollama => "messages",
        };
        family.element(list, index - usize::from(system_apart))
    }

    /// Returns about how many bytes it will take.
    pub fn size(&self) -> usize {
        self.system
            .iter()
            .chain(self.turns.iter().flat_map(|turn| &turn.parts))
            .map(|placed| 96 + size(placed.part))
            .sum()
    }
}

fn size(part: &Part<'_>) -> usize {
    match part {
        Part::Text { text, .. } | Part::Refusal { text } | Part::Reasoning { text, .. } => {
            text.size() + text.size() / 16
        }
        Part::Audio { data, .. } | Part::RedactedReasoning { data } => data.len(),
        Part::Image { source, .. } | Part::File { source, .. } => match source {
            Source::Url(text) | Source::Text(text) => text.len(),
            Source::Base64 { data, .. } => data.len(),
            Source::FileId { id, .. } => id.len(),
        },
        Part::ToolCall { arguments, .. } => arguments.len(),
        Part::ToolResult { parts, .. } => parts.iter().map(size).sum(),
        Part::Opaque { raw, .. } => raw.get().len(),
    }
}

/// Appends `systemInstruction`, where there is one.
pub(super) fn write_system(
    conversation: &Conversation<'_>,
    asks_in_words: bool,
    body: &mut Object<'_>,
    notes: &mut Notes,
) -> Result<()> {
    if conversation.system.is_empty() && !asks_in_words {
        return Ok(());
    }
    let out = body.key("systemInstruction");
    out.extend_from_slice(b"{\"parts\":[");
    let start = out.len();
    for placed in &conversation.system {
        comma(start, out);
        conversation.write_part(*placed, None, out, notes)?;
    }
    if asks_in_words {
        comma(start, out);
        content::write_text(&INSTRUCTION.into(), None, out);
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

/// Appends `contents`.
pub(super) fn write_contents(
    conversation: &Conversation<'_>,
    out: &mut Vec<u8>,
    notes: &mut Notes,
) -> Result<()> {
    out.push(b'[');
    let start = out.len();
    for turn in &conversation.turns {
        comma(start, out);
        let head: &[u8] = if turn.is_model {
            b"{\"role\":\"model\",\"parts\":["
        } else {
            b"{\"role\":\"user\",\"parts\":["
        };
        out.extend_from_slice(head);
        if turn.is_model {
            conversation.write_model(turn, out, notes)?;
        } else {
            let start = out.len();
            for placed in &turn.parts {
                comma(start, out);
                conversation.write_part(*placed, None, out, notes)?;
            }
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b']');
    Ok(())
}

impl Conversation<'_> {
    /// Appends the parts of a model's turn, each with the signature that was told before it.
    fn write_model(&self, turn: &Turn<'_>, out: &mut Vec<u8>, notes: &mut Notes) -> Result<()> {
        let start = out.len();
        let is_call = |placed: &Placed<'_>| matches!(placed.part, Part::ToolCall { .. });
        let mut calls_left = turn.parts.iter().filter(|placed| is_call(placed)).count();
        let mut first_call = true;
        let mut pending: VecDeque<&str> = VecDeque::new();
        // OpenAI chat tells all thinking before the text and the calls, so what a signature signed is not known by
        // its place. Calls need theirs, text can do without. A signature behind something else came with its call,
        // and so did all the others.
        let told = turn
            .parts
            .iter()
            .position(|placed| matches!(placed.part, Part::Text { .. } | Part::ToolCall { .. }));
        let after = turn.parts.get(told.unwrap_or(turn.parts.len())..);
        let ordered = self.request.family != Protocol::OpenaiChat
            || after
                .unwrap_or_default()
                .iter()
                .any(|placed| matches!(placed.part, Part::Reasoning { .. }));
        for placed in &turn.parts {
            if let Part::Reasoning { text, signature } = placed.part {
                let own = signature.as_deref().and_then(signature::own);
                if self.same && !text.is_empty() {
                    comma(start, out);
                    content::write_thought(text, own, out);
                } else if let Some(own) = own {
                    if ordered && let Some(lone) = pending.pop_front() {
                        comma(start, out);
                        content::write_text(&"".into(), Some(lone), out);
                    }
                    pending.push_back(own);
                }
                continue;
            }
            if let Part::RedactedReasoning { .. } = placed.part {
                notes.add("messages.reasoning (of another provider)");
                continue;
            }
            let mut signature = None;
            if is_call(placed) {
                signature = pending.pop_front();
                if std::mem::take(&mut first_call) && signature.is_none() && self.kind.is_third() {
                    signature = Some(NO_SIGNATURE);
                }
                calls_left -= 1;
            } else if ordered || pending.len() > calls_left {
                signature = pending.pop_front();
            }
            comma(start, out);
            self.write_part(*placed, signature, out, notes)?;
        }
        for lone in pending {
            comma(start, out);
            content::write_text(&"".into(), Some(lone), out);
        }
        Ok(())
    }

    fn write_part(
        &self,
        placed: Placed<'_>,
        signature: Option<&str>,
        out: &mut Vec<u8>,
        notes: &mut Notes,
    ) -> Result<()> {
        match placed.part {
            Part::Text { text, cache, .. } => {
                note_cache(cache.is_some(), notes);
                content::write_text(text, signature, out);
            }
            Part::Refusal { text } => content::write_text(text, signature, out),
            Part::Reasoning { text, .. } => content::write_thought(text, signature, out),
            Part::RedactedReasoning { .. } => content::write_text(&"".into(), signature, out),
            Part::Image {
                source,
                detail,
                cache,
            } => {
                note_cache(cache.is_some(), notes);
                if detail.as_ref().is_some_and(|detail| detail != "auto") {
                    notes.add("messages.content.image_url.detail");
                }
                self.write_source(source, "image/jpeg", None, placed, signature, out)?;
            }
            Part::Audio { data, format } => {
                content::write_blob(&content::audio_type(format), data, None, signature, out);
            }
            Part::File {
                source,
                name,
                context,
                citations,
                cache,
            } => {
                note_cache(cache.is_some(), notes);
                if citations.is_some() {
                    notes.add("messages.content.citations");
                }
                if let Some(context) = context {
                    content::write_text(&(&**context).into(), None, out);
                    out.push(b',');
                }
                self.write_source(
                    source,
                    "application/pdf",
                    name.as_deref(),
                    placed,
                    signature,
                    out,
                )?;
            }
            Part::ToolCall {
                id,
                name,
                arguments,
                cache,
            } => {
                note_cache(cache.is_some(), notes);
                if !content::write_call(id, name, arguments, signature, out) {
                    notes.add(
                        "messages.tool_calls.function.arguments (not a JSON object: sent as text)",
                    );
                }
            }
            Part::ToolResult {
                id,
                parts,
                is_error,
                cache,
            } => {
                note_cache(cache.is_some(), notes);
                self.write_result(id, parts, *is_error, placed, out, notes)?;
            }
            // Those of other families were left out already.
            Part::Opaque { raw, .. } => out.extend_from_slice(raw.get().as_bytes()),
        }
        Ok(())
    }

    fn write_source(
        &self,
        source: &Source<'_>,
        otherwise: &str,
        name: Option<&str>,
        placed: Placed<'_>,
        signature: Option<&str>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match source {
            Source::Base64 { media_type, data } => {
                // A name of another family's client is no display name: the Gemini API refuses it outside of Vertex.
                let name = name.filter(|_| self.same);
                content::write_blob(media_type, data, name, signature, out);
            }
            Source::Url(url) => content::write_file(url, otherwise, signature, out),
            Source::Text(text) => {
                if let Some(name) = name {
                    content::write_text(&format!("{name}:\n\n{text}").into(), signature, out);
                } else {
                    content::write_text(&(&**text).into(), signature, out);
                }
            }
            Source::FileId {
                family: Protocol::Gemini,
                id,
            } => content::write_file(id, otherwise, signature, out),
            Source::FileId { .. } => {
                return Err(Error::unsupported(
                    self.place(placed.message),
                    "A file that was uploaded to another provider can't be read by a Gemini model",
                ));
            }
        }
        Ok(())
    }

    /// Appends what a function answered. What it shows goes into the answer for models that look there, else behind
    /// it.
    fn write_result(
        &self,
        id: &str,
        parts: &[Part<'_>],
        is_error: bool,
        placed: Placed<'_>,
        out: &mut Vec<u8>,
        notes: &mut Notes,
    ) -> Result<()> {
        let mut said = String::new();
        let mut shown = Vec::new();
        for part in parts {
            match part {
                Part::Text { text, .. } | Part::Refusal { text } => line(&mut said, text),
                Part::File {
                    source: Source::Text(text),
                    ..
                } => line(&mut said, text),
                Part::Image { .. } | Part::Audio { .. } | Part::File { .. } => {
                    comma(0, &mut shown);
                    let inner = Placed {
                        part,
                        message: placed.message,
                    };
                    self.write_part(inner, None, &mut shown, notes)?;
                }
                Part::Opaque {
                    family: Protocol::Gemini,
                    raw,
                } => {
                    comma(0, &mut shown);
                    shown.extend_from_slice(raw.get().as_bytes());
                }
                Part::Opaque { .. } => {
                    return Err(Error::unsupported(
                        self.place(placed.message),
                        "A tool result of this type can't be said to a Gemini model",
                    ));
                }
                // No decoder makes these within results.
                Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Reasoning { .. }
                | Part::RedactedReasoning { .. } => {}
            }
        }
        let within = self.same || self.kind.is_third();
        let mut part = Object::open(out);
        let mut result = Object::open(part.key("functionResponse"));
        if !id.is_empty() {
            result.string("id", id);
        }
        match self.names.get(id) {
            Some(name) => result.string("name", name),
            None => {
                notes.add("messages.tool_call_id (no call has it)");
                result.string("name", "unknown");
            }
        }
        write_said(&said, is_error, result.key("response"));
        if within && !shown.is_empty() {
            let list = result.key("parts");
            list.push(b'[');
            list.extend_from_slice(&shown);
            list.push(b']');
        }
        result.close();
        part.close();
        if !within && !shown.is_empty() {
            out.push(b',');
            let line = format!("Shown in the result of the function call {id}:");
            content::write_text(&line.into(), None, out);
            out.push(b',');
            out.extend_from_slice(&shown);
        }
        Ok(())
    }
}

/// Appends a text to others, on a line of its own.
fn line(all: &mut String, text: &str) {
    if !all.is_empty() {
        all.push('\n');
    }
    all.push_str(text);
}

fn note_cache(given: bool, notes: &mut Notes) {
    if given {
        notes.add("cache_control");
    }
}

/// Appends a function's answer, which has to be an object: as it is if it is one, else under the key that Google
/// looks at.
fn write_said(said: &str, is_error: bool, out: &mut Vec<u8>) {
    let text = said.trim_ascii();
    if !is_error
        && text.starts_with('{')
        && let Ok(raw) = serde_json::from_str::<&serde_json::value::RawValue>(text)
    {
        return text::raw_line(raw, out);
    }
    let mut object = Object::open(out);
    object.string(if is_error { "error" } else { "output" }, said);
    object.close();
}
