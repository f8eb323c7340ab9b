//! System prompt and turns.

use std::borrow::Cow;

use super::super::content;
use super::media::{self, Label};
use super::plan::{Notes, Plan, Structure};
use crate::error::{Error, Result};
use crate::protocol::chat::{Message, Part, Prose, Request, Role};
use crate::protocol::text::{self, Object, comma};
use crate::protocol::{Protocol, provenance};

const JSON_INSTRUCTION: &str =
    "Answer with one valid JSON object and nothing else: no prose and no code fence around it.";

/// What stands for a user who has not spoken yet: a conversation may not begin with the assistant.
const SILENCE: &[u8] = b"{\"role\":\"user\",\"content\":\".\"}";

/// Returns whether message `index` goes to `system`.
fn is_hoisted(message: &Message<'_>, index: usize, same: bool) -> bool {
    match message.role {
        Role::System | Role::Developer => index == 0 || !same,
        Role::User | Role::Assistant => false,
    }
}

/// What is said, parted as Anthropic parts it.
pub(super) struct Conversation<'r, 'b> {
    system: Vec<&'r Part<'b>>,
    turns: Vec<Turn<'r, 'b>>,
}

/// Parts the messages of a request.
///
/// Anthropic demands a turn to answer, so a system prompt that another family's client sends alone becomes the
/// user's.
pub(super) fn conversation<'r, 'b>(
    request: &'r Request<'b>,
    same: bool,
    notes: &mut Notes,
) -> Result<Conversation<'r, 'b>> {
    let mut system = Vec::new();
    for (index, message) in request.messages.iter().enumerate() {
        if is_hoisted(message, index, same) {
            system.extend(message.parts.iter().filter(|part| !is_blank(part, same)));
        }
    }
    let mut turns = turns(request, same, notes)?;
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

pub(super) fn write_system(
    conversation: &Conversation<'_, '_>,
    plan: &Plan<'_>,
    body: &mut Object<'_>,
) -> Result<()> {
    let parts = &conversation.system[..];
    let instruction = match plan.structure {
        Structure::Instruction => Some(JSON_INSTRUCTION),
        Structure::Free | Structure::Native(_) | Structure::Tool { .. } => None,
    };
    if parts.is_empty() && instruction.is_none() {
        return Ok(());
    }
    let out = body.key("system");
    if instruction.is_none()
        && let [
            Part::Text {
                text,
                cache: None,
                citations: None,
            },
        ] = parts
    {
        text.write(out);
        return Ok(());
    }
    out.push(b'[');
    let start = out.len();
    for part in parts {
        comma(start, out);
        match part {
            Part::Text {
                text,
                cache,
                citations,
            } => {
                content::write_text(text, *cache, citations.filter(|_| plan.same), out);
            }
            Part::Opaque {
                family: Protocol::Anthropic,
                raw,
            } if plan.same => {
                out.extend_from_slice(raw.get().as_bytes());
            }
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
        content::write_text(&instruction.into(), None, None, out);
    }
    out.push(b']');
    Ok(())
}

/// Returns whether a part is text that Anthropic would refuse: it takes a space in an assistant's turn, so what an
/// Anthropic client sends is only looked at for being empty.
fn is_blank(part: &Part<'_>, same: bool) -> bool {
    match part {
        Part::Text { text, .. } | Part::Refusal { text } => {
            text.is_empty() || !same && text.is_blank()
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

/// One turn as it will be written: parts of one or more messages.
struct Turn<'r, 'b> {
    role: Role,
    parts: Vec<&'r Part<'b>>,
}

pub(super) fn write_messages(
    conversation: &Conversation<'_, '_>,
    plan: &Plan<'_>,
    out: &mut Vec<u8>,
    notes: &mut Notes,
) -> Result<()> {
    let turns = &conversation.turns;
    let last = turns.len().saturating_sub(1);
    out.push(b'[');
    let start = out.len();
    let begins = turns.first().map(|turn| turn.role);
    if begins == Some(Role::Assistant) && !plan.same {
        out.extend_from_slice(SILENCE);
        notes.add("messages (begins with the assistant: a turn of the user was put before)");
    }
    for (index, turn) in turns.iter().enumerate() {
        comma(start, out);
        out.extend_from_slice(match turn.role {
            Role::User => b"{\"role\":\"user\",\"content\":",
            Role::Assistant => b"{\"role\":\"assistant\",\"content\":".as_slice(),
            Role::System | Role::Developer => b"{\"role\":\"system\",\"content\":",
        });
        // Anthropic refuses a last turn to go on from that ends in white space.
        let trims = index == last && turn.role == Role::Assistant;
        write_parts(&turn.parts, trims, plan, out, notes)?;
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

fn turns<'r, 'b>(
    request: &'r Request<'b>,
    same: bool,
    notes: &mut Notes,
) -> Result<Vec<Turn<'r, 'b>>> {
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
            if is_blank(part, same) || is_foreign(part, message.role, same, notes)? {
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

/// Returns whether a part can't be said here and the conversation can do without; names it.
///
/// An assistant's turn can do without what only its own provider understands; what a user asks with can't be left
/// out.
fn is_foreign(part: &Part<'_>, role: Role, same: bool, notes: &mut Notes) -> Result<bool> {
    Ok(match part {
        // Anthropic checks the signature; thinking without one was another model's.
        Part::Reasoning { signature, .. }
            if !same && signature.as_ref().is_none_or(|s| s.is_empty()) =>
        {
            notes.add("messages.reasoning (unsigned)");
            true
        }
        Part::Reasoning {
            signature: Some(blob),
            ..
        }
        | Part::RedactedReasoning { data: blob }
            if provenance::maker(blob).0 != Protocol::Anthropic =>
        {
            notes.add("messages.reasoning (of another provider)");
            true
        }
        Part::Opaque {
            family: Protocol::Anthropic,
            ..
        } => false,
        Part::Opaque { .. } => {
            if role != Role::Assistant {
                return Err(Error::unsupported(
                    "messages.content",
                    "A content part of this type can't be said to an Anthropic model",
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

fn write_parts(
    parts: &[&Part<'_>],
    trims: bool,
    plan: &Plan<'_>,
    out: &mut Vec<u8>,
    notes: &mut Notes,
) -> Result<()> {
    if let [
        Part::Text {
            text,
            cache: None,
            citations,
        },
    ] = parts
        && (citations.is_none() || !plan.same)
    {
        trimmed(text, trims).write(out);
        return Ok(());
    }
    out.push(b'[');
    let start = out.len();
    for (index, part) in parts.iter().enumerate() {
        comma(start, out);
        write_part(part, trims && index + 1 == parts.len(), plan, out, notes)?;
    }
    out.push(b']');
    Ok(())
}

fn trimmed<'p>(text: &'p Prose<'_>, trims: bool) -> Prose<'p> {
    if trims {
        text.trim_end().into()
    } else {
        text.lend()
    }
}

fn write_part(
    part: &Part<'_>,
    trims: bool,
    plan: &Plan<'_>,
    out: &mut Vec<u8>,
    notes: &mut Notes,
) -> Result<()> {
    match part {
        Part::Text {
            text,
            cache,
            citations,
        } => {
            let text = trimmed(text, trims);
            content::write_text(&text, *cache, citations.filter(|_| plan.same), out);
        }
        Part::Refusal { text } => content::write_text(text, None, None, out),
        Part::Image {
            source,
            detail,
            cache,
        } => {
            if detail.as_ref().is_some_and(|detail| detail != "auto") {
                notes.add("messages.content.image_url.detail");
            }
            media::write_image(source, *cache, out)?;
        }
        Part::Audio { .. } => {
            return Err(Error::unsupported(
                "messages.content.input_audio",
                "Anthropic models take no audio",
            ));
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
                cache: *cache,
            };
            media::write_document(source, label, out)?;
        }
        Part::ToolCall {
            id,
            name,
            arguments,
            cache,
        } => {
            out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":");
            text::string(&tool_id(id), out);
            out.extend_from_slice(b",\"name\":");
            text::string(name, out);
            out.extend_from_slice(b",\"input\":");
            if !content::input(arguments, out) {
                notes.add(
                    "messages.tool_calls.function.arguments (not a JSON object: sent as text)",
                );
            }
            content::write_cache(*cache, out);
            out.push(b'}');
        }
        Part::ToolResult {
            id,
            parts,
            is_error,
            cache,
        } => {
            out.extend_from_slice(b"{\"type\":\"tool_result\",\"tool_use_id\":");
            text::string(&tool_id(id), out);
            let mut kept = Vec::with_capacity(parts.len());
            for part in parts {
                if !is_blank(part, plan.same) && !is_foreign(part, Role::User, plan.same, notes)? {
                    kept.push(part);
                }
            }
            if !kept.is_empty() {
                out.extend_from_slice(b",\"content\":");
                // No decoder makes results within results.
                write_parts(&kept, false, plan, out, notes)?;
            }
            if *is_error {
                out.extend_from_slice(b",\"is_error\":true");
            }
            content::write_cache(*cache, out);
            out.push(b'}');
        }
        Part::Reasoning { text, signature } => {
            content::write_thinking(text, signature.as_deref(), out)
        }
        Part::RedactedReasoning { data } => content::write_redacted(data, out),
        // Those of other families were left out already.
        Part::Opaque { raw, .. } => out.extend_from_slice(raw.get().as_bytes()),
    }
    Ok(())
}

/// Returns a tool call's id as Anthropic takes it: `^[a-zA-Z0-9_-]+$`.
///
/// The same for the call and for its result, with no memory of either: an id that has to change carries a hash of
/// what it was, so that two that differ stay different.
fn tool_id(id: &str) -> Cow<'_, str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !id.is_empty() && id.bytes().all(fits) {
        return Cow::Borrowed(id);
    }
    // FNV-1a: <http://www.isthe.com/chongo/tech/comp/fnv/>.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let kept: String = id
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        .collect();
    Cow::Owned(format!("{kept}_{hash:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_ids_stay_apart_and_the_same_for_call_and_result() {
        assert_eq!(tool_id("call_1-x"), "call_1-x");
        let ids = ["", "a.b", "a:b", "ab", "ü", "call|1", "call/1"].map(tool_id);
        for (index, id) in ids.iter().enumerate() {
            assert!(
                !id.is_empty()
                    && id
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            );
            assert!(!ids[..index].contains(id), "{id} is given twice");
        }
    }
}
