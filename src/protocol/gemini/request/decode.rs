//! A client's body into the hub.
//!
//! The model and whether the answer streams stand in the path: who knows it fills them in. `systemInstruction`
//! becomes one leading system message. Fields that the hub has no word for go to `extra`, under their path
//! (`generationConfig.speechConfig`).
//!
//! Google pairs calls and results that have no ids by name and order; other protocols need ids, so those without
//! get them here, the same for a call and its result, and the same each time the conversation is sent. Google's own
//! clients answer a call that has an id with a result that has none when they call a function by themselves.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};

use super::super::content::{self, What};
use super::super::signature::Signature;
use super::super::words::camel;
use super::config::{self, Config};
use super::tools;
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Message, Part, Request, Role, Str};
use crate::protocol::text::Reader;

/// Decodes a body. Errors are 400 and name the field as the client spelt it.
pub fn decode(body: &[u8]) -> Result<Request<'_>> {
    let mut r = Reader::new(body)?;
    let mut request = blank();
    let mut ids = Ids::default();
    let mut contents: Option<Vec<Message<'_>>> = None;
    let mut system = None;
    let mut config = Config::default();
    r.object(|r, key| {
        match &*camel(&key) {
            "contents" => contents = Some(turns(r, &mut ids)?),
            "systemInstruction" => system = r.maybe(|r| instruction(r, &mut ids))?,
            "tools" => request.tools = r.maybe(tools::list)?.unwrap_or_default(),
            "toolConfig" => {
                if let Some(choice) = r.maybe(tools::choice)? {
                    request.tool_choice = choice;
                }
            }
            "generationConfig" => config = r.maybe(config::read)?.unwrap_or_default(),
            "serviceTier" => request.service_tier = r.maybe(Reader::string)?.map(tier),
            // It stands in the path, too, and there it counts.
            "model" => drop(r.raw()?),
            name => {
                let raw = r.raw()?;
                if raw.get() != "null" {
                    request.extra.push((name.to_owned().into(), raw));
                }
            }
        }
        Ok(())
    })?;
    r.finish()?;
    request.messages = contents.ok_or_else(|| r.missing("contents"))?;
    if let Some(parts) = system.filter(|parts| !parts.is_empty()) {
        request.messages.insert(0, message(Role::System, parts));
    }
    config.fill(&mut request);
    let strangers = r.strangers();
    request.extra.extend(
        strangers
            .into_iter()
            .map(|(path, raw)| (spelt(&path).into(), raw)),
    );
    Ok(request)
}

/// Returns a path in camelCase, so that one field has one name.
fn spelt(path: &str) -> String {
    path.split('.').map(camel).collect::<Vec<_>>().join(".")
}

fn tier(word: Str<'_>) -> Str<'_> {
    let lower = word.to_ascii_lowercase();
    let bare = lower.strip_prefix("service_tier_").unwrap_or(&lower);
    Cow::Owned(bare.to_owned())
}

fn message(role: Role, parts: Vec<Part<'_>>) -> Message<'_> {
    Message {
        role,
        parts,
        name: None,
    }
}

fn turns<'b>(r: &mut Reader<'b>, ids: &mut Ids<'b>) -> Result<Vec<Message<'b>>> {
    let mut turns = Vec::new();
    let mut one = |r: &mut Reader<'b>| {
        turns_push(&mut turns, turn(r, ids)?);
        Ok(())
    };
    if r.peek() == b'[' {
        r.array(one)?;
    } else {
        one(r)?;
    }
    Ok(turns)
}

/// Puts a turn behind the others; one of the same role goes on with the last, as Google's own clients send the
/// chunks of a stream.
fn turns_push<'b>(turns: &mut Vec<Message<'b>>, turn: Message<'b>) {
    match turns.last_mut() {
        Some(last) if last.role == turn.role => {
            for part in turn.parts {
                push(&mut last.parts, part);
            }
        }
        Some(_) | None => turns.push(turn),
    }
}

/// Puts a part behind the others; the signature that completes a thought joins it.
fn push<'b>(parts: &mut Vec<Part<'b>>, part: Part<'b>) {
    match (parts.last_mut(), part) {
        (
            Some(Part::Reasoning {
                text: before,
                signature: signed @ None,
            }),
            Part::Reasoning {
                text,
                signature: later,
            },
        ) if !text.is_empty() => {
            before.push_str(&text);
            *signed = later;
        }
        (_, part) => parts.push(part),
    }
}

fn instruction<'b>(r: &mut Reader<'b>, ids: &mut Ids<'b>) -> Result<Vec<Part<'b>>> {
    if r.peek() == b'"' {
        return Ok(vec![content::plain(r.prose()?)]);
    }
    Ok(turn(r, ids)?.parts)
}

fn turn<'b>(r: &mut Reader<'b>, ids: &mut Ids<'b>) -> Result<Message<'b>> {
    let (mut role, mut parts) = (Role::User, Vec::new());
    r.object(|r, key| {
        match &*camel(&key) {
            "role" => {
                let mark = r.mark();
                role = match r.maybe(Reader::string)?.as_deref() {
                    // `function` and `tool` hold results, which are a user's parts here.
                    None | Some("user" | "function" | "tool" | "") => Role::User,
                    Some("model" | "assistant") => Role::Assistant,
                    Some("system") => Role::System,
                    Some(_) => {
                        r.back(mark);
                        return Err(r.wrong("'user' or 'model'"));
                    }
                };
            }
            "parts" => {
                let mut one = |r: &mut Reader<'b>| part(r, ids, &mut parts);
                match r.peek() {
                    b'[' => r.array(one)?,
                    b'n' => drop(r.raw()?),
                    _ => one(r)?,
                }
            }
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(message(role, parts))
}

/// Reads one part; a signature of what is no thought becomes a part before it.
fn part<'b>(r: &mut Reader<'b>, ids: &mut Ids<'b>, parts: &mut Vec<Part<'b>>) -> Result<()> {
    let piece = content::piece(r)?;
    let signature = piece.signature.map(|wire| Signature::read(&wire));
    let part = match piece.what {
        What::Thought(text) => {
            // A lone signature ends the thought before it.
            if text.is_empty()
                && let Some(Part::Reasoning {
                    text: before,
                    signature: signed @ None,
                }) = parts.last_mut()
                && !before.is_empty()
                && let Some(Signature::Signed(_)) = &signature
            {
                if let Some(Signature::Signed(blob)) = signature {
                    *signed = Some(blob);
                }
                return Ok(());
            }
            match signature {
                Some(signature) => push(parts, signature.with(text)),
                None if text.is_empty() => {}
                None => push(
                    parts,
                    Part::Reasoning {
                        text,
                        signature: None,
                    },
                ),
            }
            return Ok(());
        }
        What::Text(text) => {
            if let Some(signature) = signature {
                let is_redacted = matches!(signature, Signature::Redacted(_));
                parts.push(signature.with("".into()));
                if text.is_empty() || is_redacted {
                    return Ok(());
                }
            }
            parts.push(content::plain(text));
            return Ok(());
        }
        What::Call {
            id,
            name,
            arguments,
        } => Part::ToolCall {
            id: ids.call(id, &name),
            name,
            arguments,
            cache: None,
        },
        What::Result {
            id,
            name,
            parts,
            is_error,
        } => Part::ToolResult {
            id: ids.result(id, &name),
            parts,
            is_error,
            cache: None,
        },
        What::Media(part) => part,
        // It carries its signature within.
        What::Opaque(raw) => {
            parts.push(content::opaque(raw));
            return Ok(());
        }
    };
    if let Some(signature) = signature {
        parts.push(signature.with("".into()));
    }
    parts.push(part);
    Ok(())
}

/// The ids of calls, and of results that came without.
#[derive(Debug, Default)]
struct Ids<'b> {
    made: usize,
    /// By function, the calls that wait for their results, and some that have them.
    waiting: HashMap<String, VecDeque<Str<'b>>>,
    /// Calls whose results named them.
    answered: HashSet<Str<'b>>,
}

impl<'b> Ids<'b> {
    fn make(&mut self) -> Str<'b> {
        self.made += 1;
        Cow::Owned(format!("call_{}", self.made))
    }

    fn call(&mut self, id: Option<Str<'b>>, name: &str) -> Str<'b> {
        let id = id.unwrap_or_else(|| self.make());
        self.waiting
            .entry(name.to_owned())
            .or_default()
            .push_back(id.clone());
        id
    }

    fn result(&mut self, id: Option<Str<'b>>, name: &str) -> Str<'b> {
        if let Some(id) = id {
            self.answered.insert(id.clone());
            return id;
        }
        let waiting = self.waiting.get_mut(name);
        let first = waiting.and_then(|waiting| {
            std::iter::from_fn(|| waiting.pop_front()).find(|id| !self.answered.contains(id))
        });
        first.unwrap_or_else(|| self.make())
    }
}

fn blank<'b>() -> Request<'b> {
    Request {
        family: Protocol::Gemini,
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
        // Google's streams always tell.
        include_usage: true,
        user: None,
        metadata: None,
        service_tier: None,
        extra: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(body: &str) -> Vec<Part<'_>> {
        let request = decode(body.as_bytes()).expect("a request");
        request
            .messages
            .into_iter()
            .flat_map(|turn| turn.parts)
            .collect()
    }

    #[test]
    fn a_result_without_an_id_answers_the_first_call_of_its_name_that_has_none() {
        let parts = parts(
            r#"{"contents": [
                {"role": "model", "parts": [
                    {"functionCall": {"id": "a", "name": "f", "args": {}}},
                    {"functionCall": {"id": "b", "name": "g", "args": {}}},
                    {"functionCall": {"id": "c", "name": "f", "args": {}}},
                    {"functionCall": {"name": "f", "args": {}}}]},
                {"role": "user", "parts": [
                    {"functionResponse": {"name": "g", "response": {}}},
                    {"functionResponse": {"id": "a", "name": "f", "response": {}}},
                    {"functionResponse": {"name": "f", "response": {}}},
                    {"functionResponse": {"name": "f", "response": {}}},
                    {"functionResponse": {"name": "f", "response": {}}}]}]}"#,
        );
        let answered: Vec<&str> = parts
            .iter()
            .filter_map(|part| {
                let Part::ToolResult { id, .. } = part else {
                    return None;
                };
                Some(&**id)
            })
            .collect();
        assert_eq!(answered, ["b", "a", "c", "call_1", "call_2"]);
    }

    #[test]
    fn inline_data_in_the_alphabet_for_urls_becomes_the_standard_one() {
        let parts = parts(
            r#"{"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "-_-_9Q"}}]}]}"#,
        );
        let Some(Part::Image {
            source: crate::protocol::chat::Source::Base64 { data, .. },
            ..
        }) = parts.first()
        else {
            panic!("{parts:?}");
        };
        assert_eq!(data, "+/+/9Q==");
    }
}
