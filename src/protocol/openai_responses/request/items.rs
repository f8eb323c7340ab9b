//! The items of a conversation, as clients write them.

use super::decode::plain;
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Message, Part, Role, Str};
use crate::protocol::openai_responses::{blob, media, names};
use crate::protocol::text::Reader;

/// Reads `input`: what the user says, or a list of items.
pub(super) fn input<'b>(r: &mut Reader<'b>) -> Result<Vec<Message<'b>>> {
    match r.peek() {
        b'"' => Ok(vec![Message {
            role: Role::User,
            parts: vec![plain(r.prose()?)],
            name: None,
        }]),
        b'[' => {
            let mut turns = Turns::default();
            r.array(|r| item(r, &mut turns))?;
            Ok(turns.messages)
        }
        _ => Err(r.wrong("a string or an array of items")),
    }
}

/// What an item is to the turns of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A message: a turn of its own.
    Said(Role),
    /// Part of what the model answered.
    Answered,
    /// What a tool gave back: those in a row are one turn.
    Result,
}

/// The turns that items become.
#[derive(Debug, Default)]
struct Turns<'b> {
    messages: Vec<Message<'b>>,
    last: Option<Kind>,
}

impl<'b> Turns<'b> {
    fn push(&mut self, kind: Kind, mut parts: Vec<Part<'b>>) {
        let joins = match (kind, self.last) {
            (Kind::Answered, Some(Kind::Answered)) | (Kind::Result, Some(Kind::Result)) => true,
            // Two messages of the model in a row stay two.
            (Kind::Said(Role::Assistant), Some(Kind::Answered)) => !self.has_spoken(),
            (Kind::Said(_) | Kind::Answered | Kind::Result, _) => false,
        };
        let role = match kind {
            Kind::Said(role) => role,
            Kind::Answered => Role::Assistant,
            Kind::Result => Role::User,
        };
        self.last = Some(match kind {
            Kind::Said(Role::Assistant) => Kind::Answered,
            Kind::Said(_) | Kind::Answered | Kind::Result => kind,
        });
        match self.messages.last_mut() {
            Some(last) if joins => last.parts.append(&mut parts),
            Some(_) | None => self.messages.push(Message {
                role,
                parts,
                name: None,
            }),
        }
    }

    /// Returns whether the turn that is open ends with words.
    fn has_spoken(&self) -> bool {
        let last = self.messages.last().and_then(|last| last.parts.last());
        matches!(last, Some(Part::Text { .. } | Part::Refusal { .. }))
    }
}

fn item<'b>(r: &mut Reader<'b>, turns: &mut Turns<'b>) -> Result<()> {
    if r.peek() != b'{' {
        return Err(r.wrong("an object"));
    }
    let kind = r.tag("type");
    match kind.as_deref() {
        Some("message") => message(r, turns),
        None if r.tag("role").is_some() => message(r, turns),
        Some("function_call") => {
            let call = function_call(r)?;
            turns.push(Kind::Answered, vec![call]);
            Ok(())
        }
        Some("function_call_output") => {
            let result = output(r)?;
            turns.push(Kind::Result, vec![result]);
            Ok(())
        }
        Some("reasoning") => {
            let thought = reasoning(r)?;
            turns.push(Kind::Answered, thought.into_iter().collect());
            Ok(())
        }
        Some(kind) => {
            let kind = whose(kind);
            let raw = r.raw_object()?;
            turns.push(kind, vec![opaque(raw)]);
            Ok(())
        }
        // `{"id": …}`: an item that the provider keeps.
        None if r.tag("id").is_some() => {
            let raw = r.raw_object()?;
            turns.push(Kind::Said(Role::User), vec![opaque(raw)]);
            Ok(())
        }
        None => {
            r.raw()?;
            Err(r.missing("type"))
        }
    }
}

fn opaque(raw: &serde_json::value::RawValue) -> Part<'_> {
    Part::Opaque {
        family: Protocol::OpenaiResponses,
        raw,
    }
}

/// Returns who an item comes from that only this family understands.
fn whose(kind: &str) -> Kind {
    match kind {
        "mcp_approval_response" => Kind::Result,
        "tool_search_output" | "mcp_list_tools" | "mcp_approval_request" => Kind::Answered,
        "additional_tools" => Kind::Said(Role::Developer),
        _ if kind.ends_with("_output") => Kind::Result,
        _ if kind.ends_with("_call") => Kind::Answered,
        // Without it the conversation would be another: items kept elsewhere, what stands for a longer past.
        _ => Kind::Said(Role::User),
    }
}

fn message<'b>(r: &mut Reader<'b>, turns: &mut Turns<'b>) -> Result<()> {
    let (mut role, mut parts) = (None, None);
    r.object(|r, key| {
        match &*key {
            "role" => {
                let mark = r.mark();
                role = Some(match &*r.string()? {
                    "user" => Role::User,
                    "assistant" => Role::Assistant,
                    "system" => Role::System,
                    "developer" => Role::Developer,
                    _ => {
                        r.back(mark);
                        return Err(r.wrong("one of user, assistant, system, developer"));
                    }
                });
            }
            "content" => parts = r.maybe(content)?,
            // What the provider keeps it under, and how it went.
            "type" | "id" | "status" => drop(r.raw()?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let role = role.ok_or_else(|| r.missing("role"))?;
    let parts = parts.ok_or_else(|| r.missing("content"))?;
    turns.push(Kind::Said(role), parts);
    Ok(())
}

/// Reads `content` or `output`: a string, or an array of parts.
fn content<'b>(r: &mut Reader<'b>) -> Result<Vec<Part<'b>>> {
    match r.peek() {
        b'"' => Ok(vec![plain(r.prose()?)]),
        b'[' => r.list(part),
        _ => Err(r.wrong("a string or an array of parts")),
    }
}

/// Reads one part; of a type that the hub has no word for, whole.
fn part<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    if r.peek() != b'{' {
        return Err(r.wrong("an object"));
    }
    let Some(kind) = r.tag("type") else {
        r.raw()?;
        return Err(r.missing("type"));
    };
    match &*kind {
        "input_text" | "output_text" | "text" => said(r),
        "refusal" => {
            let mut text = None;
            r.object(|r, key| {
                match &*key {
                    "refusal" => text = Some(r.prose()?),
                    "type" => drop(r.raw()?),
                    _ => r.stranger()?,
                }
                Ok(())
            })?;
            let text = text.ok_or_else(|| r.missing("refusal"))?;
            Ok(Part::Refusal { text })
        }
        "input_image" => media::image(r),
        "input_file" => media::file(r),
        "input_audio" => media::audio(r),
        _ => Ok(opaque(r.raw_object()?)),
    }
}

fn said<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut text, mut citations) = (None, None);
    r.object(|r, key| {
        match &*key {
            "text" => text = Some(r.prose()?),
            "annotations" => {
                let raw = r.maybe_raw()?;
                // Sent back with every answer, and nearly always empty.
                citations = raw.filter(|raw| raw.get().starts_with('[') && has_any(raw.get()));
            }
            "type" | "logprobs" => drop(r.raw()?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Part::Text {
        text: text.ok_or_else(|| r.missing("text"))?,
        cache: None,
        citations,
    })
}

/// Returns whether an array has elements.
fn has_any(array: &str) -> bool {
    !array
        .trim_matches(|c| matches!(c, '[' | ']' | ' ' | '\n' | '\r' | '\t'))
        .is_empty()
}

fn function_call<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut id, mut name, mut namespace) = (None, None, None::<Str<'b>>);
    let mut arguments = None;
    r.object(|r, key| {
        match &*key {
            "call_id" => id = Some(r.string()?),
            "name" => name = Some(r.string()?),
            "namespace" => namespace = r.maybe(Reader::string)?,
            "arguments" => {
                arguments = r.maybe(|r| match r.peek() {
                    // From those who misread the documentation.
                    b'{' => Ok(Str::Borrowed(r.raw()?.get())),
                    _ => r.string(),
                })?
            }
            "type" | "id" | "status" => drop(r.raw()?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| r.missing("name"))?;
    Ok(Part::ToolCall {
        id: id.ok_or_else(|| r.missing("call_id"))?,
        name: names::flat(namespace.as_deref(), name),
        arguments: arguments.unwrap_or_default(),
        cache: None,
    })
}

/// Reads what a tool gave back.
pub(super) fn output<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut id, mut parts) = (None, None);
    r.object(|r, key| {
        match &*key {
            "call_id" => id = Some(r.string()?),
            "output" => parts = Some(r.maybe(content)?.unwrap_or_default()),
            "type" | "id" | "status" => drop(r.raw()?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Part::ToolResult {
        id: id.ok_or_else(|| r.missing("call_id"))?,
        parts: parts.ok_or_else(|| r.missing("output"))?,
        is_error: false,
        cache: None,
    })
}

fn reasoning<'b>(r: &mut Reader<'b>) -> Result<Option<Part<'b>>> {
    let (mut id, mut encrypted) = (None, None);
    let (mut summary, mut content) = (None, None);
    r.object(|r, key| {
        match &*key {
            "id" => id = r.maybe(Reader::string)?,
            "encrypted_content" => encrypted = r.maybe(Reader::string)?,
            "summary" => summary = r.maybe(thoughts)?,
            "content" => content = r.maybe(thoughts)?,
            "type" | "status" => drop(r.raw()?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let told = |text: &Str<'_>| !text.is_empty();
    let text = summary.filter(told).or(content).unwrap_or_default();
    Ok(blob::part(id, encrypted, text))
}

/// Reads the pieces of a summary or of the reasoning itself, as one text.
fn thoughts<'b>(r: &mut Reader<'b>) -> Result<Str<'b>> {
    let mut all: Option<Str<'b>> = None;
    r.array(|r| {
        let mut text = None;
        r.object(|r, key| {
            match &*key {
                "text" => text = r.maybe(Reader::string)?,
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        match (&mut all, text) {
            (Some(all), Some(text)) => {
                let all = all.to_mut();
                all.push_str("\n\n");
                all.push_str(&text);
            }
            (none @ None, text) => *none = text,
            (Some(_), None) => {}
        }
        Ok(())
    })?;
    Ok(all.unwrap_or_default())
}
