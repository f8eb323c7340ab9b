//! System prompt and turns.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::{blob, media};
use super::attach::{Label, write_medium};
use super::plan::{Notes, Plan, Structure};
use crate::error::{Error, Result};
use crate::protocol::chat::{Message, Part, Prose, Request, Role};
use crate::protocol::text::{self, Object, comma};
use crate::protocol::{Protocol, provenance};

const JSON_INSTRUCTION: &str =
    "Answer with one valid JSON object and nothing else: no prose and no code fence around it.";

/// Stands in for the input of a call whose arguments are not a JSON object: the text as it was.
const BROKEN_INPUT: &str = "_raw";
/// What stands for a user who has not spoken yet: a conversation may not begin with the assistant.
const SILENCE: &[u8] = b"{\"role\":\"user\",\"content\":[{\"text\":\".\"}]}";
/// The longest id of a tool call.
const ID_MAX: usize = 64;

/// Returns whether message `index` goes to `system`.
fn is_hoisted(message: &Message<'_>, index: usize, same: bool) -> bool {
    match message.role {
        Role::System | Role::Developer => index == 0 || !same,
        Role::User | Role::Assistant => false,
    }
}

/// What is said, parted as Bedrock parts it.
pub(super) struct Conversation<'r, 'b> {
    system: Vec<&'r Part<'b>>,
    turns: Vec<Turn<'r, 'b>>,
}

/// One turn as it will be written: parts of one or more messages.
struct Turn<'r, 'b> {
    role: Role,
    parts: Vec<&'r Part<'b>>,
}

/// Parts the messages of a request. A system prompt that another family's client sends alone becomes the user's.
pub(super) fn conversation<'r, 'b>(
    request: &'r Request<'b>,
    plan: &Plan<'_>,
    notes: &mut Notes,
) -> Result<Conversation<'r, 'b>> {
    let same = plan.same;
    let mut system = Vec::new();
    for (index, message) in request.messages.iter().enumerate() {
        if is_hoisted(message, index, same) {
            system.extend(message.parts.iter().filter(|part| !is_blank(part, same)));
        }
    }
    let mut turns = turns(request, plan, notes)?;
    if turns.is_empty() && !same {
        if system.is_empty() {
            return Err(Error::field(
                "messages",
                "`messages` says nothing: every content is empty.",
            ));
        }
        turns.push(Turn {
            role: Role::User,
            parts: std::mem::take(&mut system),
        });
    }
    Ok(Conversation { system, turns })
}

fn turns<'r, 'b>(
    request: &'r Request<'b>,
    plan: &Plan<'_>,
    notes: &mut Notes,
) -> Result<Vec<Turn<'r, 'b>>> {
    let same = plan.same;
    let mut turns: Vec<Turn<'r, 'b>> = Vec::with_capacity(request.messages.len());
    for (index, message) in request.messages.iter().enumerate() {
        if message.name.is_some() {
            notes.add("messages.name");
        }
        if is_hoisted(message, index, same) {
            continue;
        }
        let mut begun = false;
        for part in &message.parts {
            if is_blank(part, same) || is_foreign(part, message.role, plan, notes)? {
                continue;
            }
            match turns.last_mut() {
                Some(turn) if turn.role == message.role && (begun || !same) => {
                    turn.parts.push(part)
                }
                Some(_) | None => turns.push(Turn {
                    role: message.role,
                    parts: vec![part],
                }),
            }
            begun = true;
        }
    }
    if !same {
        for turn in &mut turns {
            // Stable: within each kind the order stays.
            turn.parts.sort_by_key(|part| {
                !matches!(
                    part,
                    Part::ToolResult { .. }
                        | Part::Reasoning { .. }
                        | Part::RedactedReasoning { .. }
                )
            });
        }
    }
    Ok(turns)
}

/// Returns whether a part is text that Bedrock refuses for being blank.
fn is_blank(part: &Part<'_>, same: bool) -> bool {
    match part {
        Part::Text { text, .. } | Part::Refusal { text } => {
            text.is_empty() || !same && text.trim().is_empty()
        }
        Part::Image { .. }
        | Part::Audio { .. }
        | Part::File { .. }
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::Reasoning { .. }
        | Part::RedactedReasoning { .. }
        | Part::Opaque { .. } => false,
    }
}

/// Returns whether a part can't be said here and the conversation can do without; names it.
///
/// An assistant's turn can do without what only its own provider understands; what a user asks with can't be left out.
fn is_foreign(part: &Part<'_>, role: Role, plan: &Plan<'_>, notes: &mut Notes) -> Result<bool> {
    Ok(match part {
        Part::Reasoning { .. } | Part::RedactedReasoning { .. }
            if !plan.same && !plan.style.recalls() =>
        {
            notes.add("messages.reasoning (the model takes none back)");
            true
        }
        // Claude checks the signature; thinking without one was another model's.
        Part::Reasoning { signature, .. }
            if !plan.same && signature.as_ref().is_none_or(|s| s.is_empty()) =>
        {
            notes.add("messages.reasoning (unsigned)");
            true
        }
        Part::Reasoning {
            signature: Some(blob),
            ..
        }
        | Part::RedactedReasoning { data: blob }
            if provenance::maker(blob).0 != Protocol::Bedrock =>
        {
            notes.add("messages.reasoning (of another provider)");
            true
        }
        Part::Opaque {
            family: Protocol::Bedrock,
            ..
        } => false,
        Part::Opaque { .. } => {
            if role != Role::Assistant {
                return Err(Error::unsupported(
                    "messages.content",
                    "A content part of this type can't be said to a model of Bedrock",
                ));
            }
            notes.add("messages.content (a part that only its own provider understands)");
            true
        }
        Part::Text { .. }
        | Part::Refusal { .. }
        | Part::Image { .. }
        | Part::Audio { .. }
        | Part::File { .. }
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::Reasoning { .. }
        | Part::RedactedReasoning { .. } => false,
    })
}

/// Writes blocks; remembers the names that documents were given.
pub(super) struct Writer<'w, 'r> {
    pub family: Protocol,
    pub plan: &'w Plan<'r>,
    pub notes: &'w mut Notes,
    pub names: Vec<String>,
}

impl<'w, 'r> Writer<'w, 'r> {
    pub fn new(family: Protocol, plan: &'w Plan<'r>, notes: &'w mut Notes) -> Self {
        Self {
            family,
            plan,
            notes,
            names: Vec::new(),
        }
    }

    pub fn system(
        &mut self,
        conversation: &Conversation<'_, '_>,
        body: &mut Object<'_>,
    ) -> Result<()> {
        let instruction = match self.plan.structure {
            Structure::Instruction => Some(JSON_INSTRUCTION),
            Structure::Free | Structure::Native { .. } | Structure::Tool { .. } => None,
        };
        if conversation.system.is_empty() && instruction.is_none() {
            return Ok(());
        }
        let out = body.key("system");
        out.push(b'[');
        let start = out.len();
        for part in &conversation.system {
            comma(start, out);
            match part {
                Part::Text { text, cache, .. } => {
                    write_text(text, out);
                    self.cache_point(*cache, self.plan.style.caches(), out);
                }
                Part::Opaque {
                    family: Protocol::Bedrock,
                    raw,
                } => out.extend_from_slice(raw.get().as_bytes()),
                Part::Refusal { .. }
                | Part::Image { .. }
                | Part::Audio { .. }
                | Part::File { .. }
                | Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Reasoning { .. }
                | Part::RedactedReasoning { .. }
                | Part::Opaque { .. } => {
                    return Err(Error::unsupported(
                        "messages",
                        "A system message can only be text",
                    ));
                }
            }
        }
        if let Some(instruction) = instruction {
            comma(start, out);
            write_text(&instruction.into(), out);
        }
        out.push(b']');
        Ok(())
    }

    pub fn messages(
        &mut self,
        conversation: &Conversation<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let turns = &conversation.turns;
        let last = turns.len().saturating_sub(1);
        out.push(b'[');
        let start = out.len();
        let begins = turns.first().map(|turn| turn.role);
        if begins == Some(Role::Assistant) && !self.plan.same {
            out.extend_from_slice(SILENCE);
            self.notes
                .add("messages (begins with the assistant: a turn of the user was put before)");
        }
        for (index, turn) in turns.iter().enumerate() {
            comma(start, out);
            out.extend_from_slice(match turn.role {
                Role::User => b"{\"role\":\"user\",\"content\":[",
                Role::Assistant => b"{\"role\":\"assistant\",\"content\":[".as_slice(),
                Role::System | Role::Developer => b"{\"role\":\"system\",\"content\":[",
            });
            // Claude refuses a last turn to go on from that ends in white space.
            let trims = index == last && turn.role == Role::Assistant && !self.plan.same;
            let content = out.len();
            for (at, part) in turn.parts.iter().enumerate() {
                comma(content, out);
                self.part(part, trims && at + 1 == turn.parts.len(), out)?;
            }
            out.extend_from_slice(b"]}");
        }
        out.push(b']');
        Ok(())
    }

    /// Appends a cache point after a block, if one was asked for and may stand there.
    pub fn cache_point(&mut self, cache: Option<&RawValue>, may: bool, out: &mut Vec<u8>) {
        let Some(control) = cache else { return };
        if !may && !self.plan.same {
            return self.notes.add("cache_control");
        }
        out.push(b',');
        write_cache_point(control, out);
    }

    fn part(&mut self, part: &Part<'_>, trims: bool, out: &mut Vec<u8>) -> Result<()> {
        let cache = match part {
            Part::Text {
                text,
                cache,
                citations,
            } => {
                match citations {
                    Some(raw) if self.plan.same => write_cited(text, raw, out),
                    Some(_) | None if trims => write_text(&text.trim_end().into(), out),
                    Some(_) | None => write_text(text, out),
                }
                *cache
            }
            Part::Refusal { text } => {
                write_text(text, out);
                None
            }
            Part::Image {
                source,
                detail,
                cache,
            } => {
                if detail.as_ref().is_some_and(|detail| detail != "auto") {
                    self.notes.add("messages.content.image_url.detail");
                }
                self.image(source, out)?;
                *cache
            }
            Part::Audio { data, format } => {
                let Some(known) = media::sound_format(format) else {
                    return Err(Error::unsupported(
                        "messages.content.input_audio.format",
                        format!("Bedrock takes no audio of the format `{format}`"),
                    ));
                };
                write_medium("audio", known, "bytes", data, out);
                None
            }
            Part::File {
                source,
                name,
                context,
                citations,
                cache,
            } => {
                let label = Label {
                    name: name.as_deref(),
                    context: context.as_deref(),
                    citations: *citations,
                };
                self.file(source, label, out)?;
                *cache
            }
            Part::ToolCall {
                id,
                name,
                arguments,
                cache,
            } => {
                out.extend_from_slice(b"{\"toolUse\":");
                let mut object = Object::open(out);
                object.string("toolUseId", &tool_id(id));
                object.string("name", name);
                if !input(arguments, object.key("input")) {
                    self.notes.add(
                        "messages.tool_calls.function.arguments (not a JSON object: sent as text)",
                    );
                }
                object.close();
                out.push(b'}');
                *cache
            }
            Part::ToolResult {
                id,
                parts,
                is_error,
                cache,
            } => {
                self.tool_result(id, parts, *is_error, out)?;
                *cache
            }
            Part::Reasoning { text, signature } => {
                out.extend_from_slice(b"{\"reasoningContent\":{\"reasoningText\":");
                let mut object = Object::open(out);
                object.string("text", text);
                let signature = signature.as_deref().map(blob::outward);
                object.maybe_string("signature", signature.as_deref());
                object.close();
                out.extend_from_slice(b"}}");
                None
            }
            Part::RedactedReasoning { data } => {
                out.extend_from_slice(b"{\"reasoningContent\":");
                let mut object = Object::open(out);
                object.string("redactedContent", &blob::outward_bytes(data));
                object.close();
                out.push(b'}');
                None
            }
            // Those of other families were left out already.
            Part::Opaque { raw, .. } => {
                out.extend_from_slice(raw.get().as_bytes());
                None
            }
        };
        self.cache_point(cache, self.plan.style.caches(), out);
        Ok(())
    }

    fn tool_result(
        &mut self,
        id: &str,
        parts: &[Part<'_>],
        is_error: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        out.extend_from_slice(b"{\"toolResult\":{\"toolUseId\":");
        text::string(&tool_id(id), out);
        out.extend_from_slice(b",\"content\":[");
        let start = out.len();
        for part in parts {
            if is_blank(part, self.plan.same)
                || is_foreign(part, Role::User, self.plan, self.notes)?
            {
                continue;
            }
            comma(start, out);
            match part {
                Part::Text { text, .. } | Part::Refusal { text } => write_text(text, out),
                Part::Image { source, .. } => self.image(source, out)?,
                Part::File {
                    source,
                    name,
                    context,
                    citations,
                    ..
                } => {
                    let label = Label {
                        name: name.as_deref(),
                        context: context.as_deref(),
                        citations: *citations,
                    };
                    self.file(source, label, out)?;
                }
                Part::Opaque { raw, .. } => out.extend_from_slice(raw.get().as_bytes()),
                Part::Audio { .. }
                | Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Reasoning { .. }
                | Part::RedactedReasoning { .. } => {
                    return Err(Error::unsupported(
                        "messages.content",
                        "A tool's result can only be text, images and documents",
                    ));
                }
            }
        }
        out.push(b']');
        if is_error {
            if self.plan.style.takes_status() {
                out.extend_from_slice(b",\"status\":\"error\"");
            } else {
                self.notes.add("messages.content.is_error");
            }
        }
        out.extend_from_slice(b"}}");
        Ok(())
    }
}

fn write_text(text: &Prose<'_>, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.prose("text", text);
    object.close();
}

fn write_cited(text: &Prose<'_>, citations: &RawValue, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"citationsContent\":{\"content\":[");
    write_text(text, out);
    out.extend_from_slice(b"],\"citations\":");
    out.extend_from_slice(citations.get().as_bytes());
    out.extend_from_slice(b"}}");
}

/// Appends a cache point that lives as long as Anthropic's `cache_control` says.
fn write_cache_point(control: &RawValue, out: &mut Vec<u8>) {
    let hour = text::Reader::of(control.get())
        .tag("ttl")
        .is_some_and(|ttl| ttl == "1h");
    out.extend_from_slice(if hour {
        b"{\"cachePoint\":{\"type\":\"default\",\"ttl\":\"1h\"}}".as_slice()
    } else {
        b"{\"cachePoint\":{\"type\":\"default\"}}"
    });
}

/// Appends the arguments of a call as its input, an object. Returns whether they were one.
pub(in crate::protocol::bedrock) fn input(arguments: &str, out: &mut Vec<u8>) -> bool {
    let text = arguments.trim_ascii();
    if text.is_empty() {
        out.extend_from_slice(b"{}");
        return true;
    }
    if text.starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok() {
        out.extend_from_slice(text.as_bytes());
        return true;
    }
    let mut object = Object::open(out);
    object.string(BROKEN_INPUT, arguments);
    object.close();
    false
}

/// Returns a tool call's id as Bedrock takes it: `^[a-zA-Z0-9_.:-]{1,64}$`.
///
/// The same for the call and for its result, with no memory of either: an id that has to change carries a hash of what
/// it was, so that two that differ stay different.
fn tool_id(id: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-');
    if !id.is_empty() && id.len() <= ID_MAX && id.chars().all(fits) {
        return Cow::Borrowed(id);
    }
    // FNV-1a: <http://www.isthe.com/chongo/tech/comp/fnv/>.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let kept: String = id.chars().filter(|c| fits(*c)).take(ID_MAX - 17).collect();
    Cow::Owned(format!("{kept}_{hash:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_ids_stay_apart_and_short() {
        assert_eq!(tool_id("functions.get:0"), "functions.get:0");
        let long = "x".repeat(65);
        let longer = "x".repeat(66);
        let ids = ["", "a b", "a|b", "ab", "ü", &long, &longer].map(tool_id);
        for (index, id) in ids.iter().enumerate() {
            assert!(!id.is_empty() && id.len() <= ID_MAX, "{id}");
            assert_eq!(tool_id(id), *id, "it fits now");
            assert!(!ids[..index].contains(id), "{id} is given twice");
        }
    }
}
