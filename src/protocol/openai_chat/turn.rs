//! Turns of the hub as OpenAI's messages.
//!
//! A user turn may hold results of tools: each becomes a message of its own, right after the calls as OpenAI
//! wants it, and what else the turn holds follows in a user message. Tool messages take text alone, so images
//! and files of results go into that user message too, each behind a line that says whose they are.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::detail;
use super::encode::{Notes, field, is_ours, note};
use super::extra;
use super::media::{file, titled, url_of, write_call, write_text};
use super::place::{self, Place};
use crate::error::{Error, Result};
use crate::protocol::chat::{Message, Part, Request, Role, Source};
use crate::protocol::text::{self, Object};
use crate::protocol::{Facts, Protocol};

pub(super) fn write_messages(
    request: &Request<'_>,
    facts: &Facts,
    notes: &mut Notes,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.push(b'[');
    let start = out.len();
    // Anthropic's `system` stands outside of its `messages`.
    let leading = match (request.family, request.messages.first()) {
        (Protocol::Anthropic, Some(first)) if first.role == Role::System => 1,
        _ => 0,
    };
    for (index, message) in request.messages.iter().enumerate() {
        let path = match index.checked_sub(leading) {
            Some(index) => field(request, "messages", index),
            None => "system".to_owned(),
        };
        let mut turn = Turn {
            request,
            message,
            path,
            notes,
            start,
            out,
        };
        match message.role {
            Role::System => turn.instructions("system")?,
            Role::Developer if facts.developer_role => turn.instructions("developer")?,
            Role::Developer => turn.instructions("system")?,
            Role::User => turn.user()?,
            Role::Assistant => turn.assistant(facts)?,
        }
    }
    out.push(b']');
    Ok(())
}

struct Turn<'t> {
    request: &'t Request<'t>,
    message: &'t Message<'t>,
    path: String,
    notes: &'t mut Notes,
    /// Where the array of messages began.
    start: usize,
    out: &'t mut Vec<u8>,
}

impl Turn<'_> {
    fn ours(&self) -> bool {
        is_ours(self.request)
    }

    fn instructions(&mut self, role: &str) -> Result<()> {
        let parts = &self.message.parts;
        text::comma(self.start, self.out);
        let at = self.out.len();
        self.out.extend_from_slice(b"{\"role\":\"");
        self.out.extend_from_slice(role.as_bytes());
        self.out.extend_from_slice(b"\",");
        self.name();
        self.out.extend_from_slice(b"\"content\":");
        if self.ours() {
            self.content(parts)?;
        } else {
            // Several servers take nothing but a string here.
            let Some(joined) = self.joined(parts, "\n\n") else {
                return Err(self.refuse("only text can be said to the provider of the model here"));
            };
            if joined.is_empty() {
                self.out
                    .truncate(at.saturating_sub(usize::from(at > self.start)));
                return Ok(());
            }
            text::string(&joined, self.out);
        }
        self.out.push(b'}');
        Ok(())
    }

    fn name(&mut self) {
        if let Some(name) = &self.message.name {
            self.out.extend_from_slice(b"\"name\":");
            text::string(name, self.out);
            self.out.push(b',');
        }
    }

    fn user(&mut self) -> Result<()> {
        let parts = &self.message.parts;
        let mut shown = Vec::new();
        let mut results = false;
        for (index, part) in parts.iter().enumerate() {
            if let Part::ToolResult {
                id,
                parts,
                is_error,
                cache,
            } = part
            {
                results = true;
                if *is_error {
                    self.notes.drop("is_error");
                }
                self.result(id, parts, *cache, index, &mut shown)?;
            }
        }
        let rest = || {
            parts
                .iter()
                .filter(|part| !matches!(part, Part::ToolResult { .. }))
        };
        if results && shown.is_empty() && rest().next().is_none() {
            return Ok(());
        }
        text::comma(self.start, self.out);
        self.out.extend_from_slice(b"{\"role\":\"user\",");
        self.name();
        self.out.extend_from_slice(b"\"content\":");
        if !results {
            self.content(parts)?;
        } else {
            self.out.push(b'[');
            let start = self.out.len();
            self.out.extend_from_slice(&shown);
            self.list(rest(), start)?;
            self.out.push(b']');
        }
        self.out.push(b'}');
        Ok(())
    }

    /// Writes a result as a tool message; what it shows is added to `shown`, for the user message that follows.
    fn result(
        &mut self,
        id: &str,
        parts: &[Part<'_>],
        cache: Option<&RawValue>,
        index: usize,
        shown: &mut Vec<u8>,
    ) -> Result<()> {
        let cache = cache.filter(|_| self.ours() || note(self.notes, "cache_control"));
        let (mut texts, mut first) = (Vec::new(), true);
        for (inner, part) in parts.iter().enumerate() {
            match part {
                Part::Text { .. } | Part::Refusal { .. } => texts.push(part),
                Part::File {
                    source: Source::Text(_),
                    ..
                } => texts.push(part),
                Part::Image { .. } | Part::Audio { .. } | Part::File { .. } => {
                    text::comma(0, shown);
                    if first {
                        let line = format!("Shown in the result of the tool call {id}:");
                        write_text(&line.into(), None, shown);
                        shown.push(b',');
                        first = false;
                    }
                    self.part(part, inner, shown)?;
                }
                Part::Opaque {
                    family: Protocol::OpenaiChat,
                    ..
                } => texts.push(part),
                Part::Opaque { family: _, raw } => {
                    let path = if self.request.family == Protocol::Anthropic {
                        format!("{}.content.{index}.content.{inner}", self.path)
                    } else {
                        format!("{}[{index}]", self.path)
                    };
                    return Err(refuse_opaque(path, raw));
                }
                Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Reasoning { .. }
                | Part::RedactedReasoning { .. } => {}
            }
        }
        text::comma(self.start, self.out);
        self.out
            .extend_from_slice(b"{\"role\":\"tool\",\"tool_call_id\":");
        text::string(id, self.out);
        self.out.extend_from_slice(b",\"content\":");
        let plain = texts
            .iter()
            .all(|part| matches!(part, Part::Text { cache: None, .. } | Part::Refusal { .. }));
        if self.ours() && (texts.len() > 1 || !plain) {
            self.out.push(b'[');
            let start = self.out.len();
            self.list(texts.into_iter(), start)?;
            self.out.push(b']');
        } else if texts.is_empty() && !first {
            text::string("The result is shown in the next user message.", self.out);
        } else {
            let mut joined = String::new();
            for part in texts {
                if !joined.is_empty() {
                    joined.push('\n');
                }
                joined.push_str(&said(part));
                self.trimmings(part);
            }
            text::string(&joined, self.out);
        }
        if let Some(cache) = cache {
            self.out.extend_from_slice(b",\"cache_control\":");
            self.out.extend_from_slice(cache.get().as_bytes());
        }
        self.out.push(b'}');
        Ok(())
    }

    fn assistant(&mut self, facts: &Facts) -> Result<()> {
        let parts = &self.message.parts;
        let ours = self.ours();
        // What the turn says, and what else it holds.
        let mut content = Vec::new();
        let (mut refusals, mut calls, mut audio) = (Vec::new(), Vec::new(), None);
        let mut thinks = false;
        let mut cited = None;
        let mut before = None;
        for (index, part) in parts.iter().enumerate() {
            let lone = extra::lone(part).and_then(|marked| extra::returned(marked, ours));
            let signed = std::mem::replace(&mut before, lone);
            match part {
                Part::Text { citations, .. } => {
                    cited = cited.or(*citations);
                    content.push(part);
                }
                Part::Refusal { text } => refusals.push(&**text),
                Part::ToolCall { .. } => calls.push((part, signed)),
                Part::Reasoning { .. } if lone.is_some() && !ours => {}
                Part::Reasoning { signature, .. } => {
                    // Thinking without a signature was made by a model that reads it back as it is.
                    let signed = signature.as_deref().is_some_and(|s| !s.is_empty());
                    thinks |= ours || (facts.reasoning && !signed);
                    if !ours && (signed || !facts.reasoning) {
                        self.notes.drop("thinking of earlier turns");
                    }
                }
                Part::RedactedReasoning { .. } if ours => thinks = true,
                Part::RedactedReasoning { .. } => self.notes.drop("redacted_thinking"),
                Part::Opaque {
                    family: Protocol::OpenaiChat,
                    raw,
                } => match place::of(raw) {
                    Place::Content => content.push(part),
                    Place::Detail => thinks = true,
                    Place::Call => calls.push((part, None)),
                    Place::Audio => audio = Some(*raw),
                },
                // What the model did by its provider's tools: the text that came of it is here too.
                Part::Opaque { family: _, raw } => self.notes.drop(&kind(raw)),
                Part::Image { .. } | Part::Audio { .. } | Part::File { .. } if ours => {
                    content.push(part);
                }
                Part::Image { .. }
                | Part::Audio { .. }
                | Part::File { .. }
                | Part::ToolResult { .. } => {
                    let path = self.inner(index);
                    return Err(Error::unsupported(
                        path,
                        "this can't be part of an assistant turn for the provider of the model",
                    ));
                }
            }
        }
        let nothing = content.is_empty() && refusals.is_empty() && calls.is_empty();
        if nothing && audio.is_none() && !(ours && thinks) {
            return Ok(());
        }
        text::comma(self.start, self.out);
        self.out.extend_from_slice(b"{\"role\":\"assistant\",");
        self.name();
        self.out.extend_from_slice(b"\"content\":");
        self.answer(&content)?;
        if !refusals.is_empty() {
            self.out.extend_from_slice(b",\"refusal\":");
            text::string(&refusals.concat(), self.out);
        }
        if let Some(annotations) = cited.filter(|_| ours) {
            self.out.extend_from_slice(b",\"annotations\":");
            self.out.extend_from_slice(annotations.get().as_bytes());
        }
        if thinks {
            self.thoughts(ours);
        }
        if let Some(audio) = audio {
            self.out.extend_from_slice(b",\"audio\":");
            self.out.extend_from_slice(audio.get().as_bytes());
        }
        if !calls.is_empty() {
            self.out.extend_from_slice(b",\"tool_calls\":[");
            let start = self.out.len();
            for (call, signature) in calls {
                text::comma(start, self.out);
                self.call(call, signature);
            }
            self.out.push(b']');
        }
        self.out.push(b'}');
        Ok(())
    }

    /// Writes an assistant's content: null where there is none, one string where that says it all.
    fn answer(&mut self, content: &[&Part<'_>]) -> Result<()> {
        match content {
            [] => self.out.extend_from_slice(b"null"),
            [
                Part::Text {
                    text, cache: None, ..
                },
            ] => text.write(self.out),
            parts if self.ours() => {
                self.out.push(b'[');
                let start = self.out.len();
                self.list(parts.iter().copied(), start)?;
                self.out.push(b']');
            }
            parts => {
                // Blocks of one answer are pieces of one text, cut where a citation begins or ends.
                let mut joined = String::new();
                for part in parts {
                    joined.push_str(&said(part));
                    self.trimmings(part);
                }
                text::string(&joined, self.out);
            }
        }
        Ok(())
    }

    fn thoughts(&mut self, ours: bool) {
        // The object is open already: what is written opens with a brace that becomes the comma.
        let mut fields = Vec::new();
        let mut object = Object::open(&mut fields);
        let thinking = self.message.parts.iter().filter(|part| match part {
            Part::Reasoning { signature, .. } => {
                ours || signature.as_deref().is_none_or(str::is_empty)
            }
            Part::Text { .. }
            | Part::Refusal { .. }
            | Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::RedactedReasoning { .. }
            | Part::Opaque { .. } => ours,
        });
        detail::write_fields(thinking, &mut object);
        if let Some(fields) = fields.get(1..).filter(|fields| !fields.is_empty()) {
            self.out.push(b',');
            self.out.extend_from_slice(fields);
        }
    }

    fn call(&mut self, part: &Part<'_>, signature: Option<&str>) {
        match part {
            Part::ToolCall {
                id,
                name,
                arguments,
                cache,
            } => {
                let cache = cache.filter(|_| self.ours() || note(self.notes, "cache_control"));
                write_call(id, name, arguments, cache, signature, self.out);
            }
            Part::Opaque { raw, .. } => self.out.extend_from_slice(raw.get().as_bytes()),
            Part::Text { .. }
            | Part::Refusal { .. }
            | Part::Image { .. }
            | Part::Audio { .. }
            | Part::File { .. }
            | Part::ToolResult { .. }
            | Part::Reasoning { .. }
            | Part::RedactedReasoning { .. } => {}
        }
    }

    /// Writes `content`: a string where that says it all, else an array of parts.
    fn content(&mut self, parts: &[Part<'_>]) -> Result<()> {
        if let [Part::Text { text, cache, .. }] = parts
            && (cache.is_none() || !self.ours())
        {
            if let Some(part) = parts.first() {
                self.trimmings(part);
            }
            text.write(self.out);
            return Ok(());
        }
        self.out.push(b'[');
        let start = self.out.len();
        self.list(parts.iter(), start)?;
        self.out.push(b']');
        Ok(())
    }

    fn list<'p>(&mut self, parts: impl Iterator<Item = &'p Part<'p>>, start: usize) -> Result<()> {
        for (index, part) in parts.enumerate() {
            let mut one = Vec::new();
            self.part(part, index, &mut one)?;
            if !one.is_empty() {
                text::comma(start, self.out);
                self.out.extend_from_slice(&one);
            }
        }
        Ok(())
    }

    /// Returns all the text of `parts`; `None` if there is more than text.
    fn joined<'p>(&mut self, parts: &'p [Part<'_>], between: &str) -> Option<Cow<'p, str>> {
        let mut joined: Option<Cow<'p, str>> = None;
        for part in parts {
            let Part::Text { text, .. } = part else {
                return None;
            };
            self.trimmings(part);
            match &mut joined {
                Some(joined) => {
                    joined.to_mut().push_str(between);
                    joined.to_mut().push_str(text);
                }
                None => joined = Some(Cow::Borrowed(text)),
            }
        }
        Some(joined.unwrap_or_default())
    }

    /// Names what is lost when a text is written as nothing but text.
    fn trimmings(&mut self, part: &Part<'_>) {
        if let Part::Text {
            cache, citations, ..
        } = part
            && !self.ours()
        {
            if cache.is_some() {
                self.notes.drop("cache_control");
            }
            if citations.is_some() {
                self.notes.drop("citations");
            }
        }
    }

    fn inner(&self, index: usize) -> String {
        let path = &self.path;
        let family = self.request.family;
        if family == Protocol::Anthropic && path == "system" {
            return family.element(path, index);
        }
        family.element(&format!("{path}.content"), index)
    }

    fn refuse(&self, why: &'static str) -> Error {
        Error::unsupported(self.path.clone(), why)
    }

    /// Writes one part of a content array; nothing where it has no place there.
    fn part(&mut self, part: &Part<'_>, index: usize, out: &mut Vec<u8>) -> Result<()> {
        let ours = self.ours();
        self.trimmings(part);
        match part {
            Part::Text { text, cache, .. } => write_text(text, cache.filter(|_| ours), out),
            Part::Refusal { text } => {
                let mut object = Object::open(out);
                object.string("type", "refusal");
                object.string("refusal", text);
                object.close();
            }
            Part::Image {
                source,
                detail,
                cache,
            } => {
                let cache = cache.filter(|_| ours || note(self.notes, "cache_control"));
                let Some(url) = url_of(source) else {
                    return Err(Error::unsupported(
                        self.inner(index),
                        "an image by file id can't be said to the provider of the model",
                    ));
                };
                let mut object = Object::open(out);
                object.string("type", "image_url");
                let mut image = Object::open(object.key("image_url"));
                url.write(image.key("url"));
                image.maybe_string("detail", detail.as_deref());
                image.close();
                object.maybe_raw("cache_control", cache);
                object.close();
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
                source,
                name,
                context,
                citations,
                cache,
            } => {
                if citations.is_some() {
                    self.notes.drop("citations");
                }
                let cache = cache.filter(|_| ours || note(self.notes, "cache_control"));
                let path = || self.inner(index);
                file(
                    source,
                    name.as_deref(),
                    context.as_deref(),
                    cache,
                    ours,
                    path,
                    out,
                )?;
            }
            Part::Opaque {
                family: Protocol::OpenaiChat,
                raw,
            } => out.extend_from_slice(raw.get().as_bytes()),
            Part::Opaque { family: _, raw } => return Err(refuse_opaque(self.inner(index), raw)),
            // Only an assistant thinks and calls, and results are written elsewhere.
            Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::Reasoning { .. }
            | Part::RedactedReasoning { .. } => {}
        }
        Ok(())
    }
}

fn refuse_opaque(path: String, raw: &RawValue) -> Error {
    let kind = kind(raw);
    Error::unsupported(
        path,
        format!("a part of type `{kind}` can't be said to the provider of the model"),
    )
}

/// Returns the type of a part carried whole.
fn kind(raw: &RawValue) -> String {
    let kind = text::Reader::of(raw.get()).tag("type");
    kind.map(Cow::into_owned)
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Returns what a part says in words.
fn said<'p>(part: &'p Part<'_>) -> Cow<'p, str> {
    match part {
        Part::Text { text, .. } | Part::Refusal { text } => Cow::Borrowed(text),
        Part::File {
            source: Source::Text(text),
            name,
            context,
            ..
        } => Cow::Owned(titled(name.as_deref(), context.as_deref(), text)),
        Part::Image { .. }
        | Part::Audio { .. }
        | Part::File { .. }
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::Reasoning { .. }
        | Part::RedactedReasoning { .. }
        | Part::Opaque { .. } => Cow::Borrowed(""),
    }
}
