//! Messages and their parts, as clients write them.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::detail::{self, Thoughts};
use super::{extra, place};
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Message, Part, Prose, Role, Source, Str};
use crate::protocol::text::Reader;

/// Reads `messages`. Adjacent tool messages become one user turn of several results.
pub(super) fn list<'b>(reader: &mut Reader<'b>) -> Result<Vec<Message<'b>>> {
    let mut messages: Vec<Message<'b>> = Vec::new();
    let mut legacy = Legacy::default();
    let mut after_result = false;
    reader.array(|r| {
        let draft = Draft::read(r)?;
        let (message, is_result) = draft.finish(r, &mut legacy)?;
        match messages.last_mut() {
            Some(last) if after_result && is_result => last.parts.extend(message.parts),
            Some(_) | None => messages.push(message),
        }
        after_result = is_result;
        Ok(())
    })?;
    if messages.is_empty() {
        return Err(reader.misfit("an array of at least one message"));
    }
    Ok(messages)
}

/// Ids for calls of the time before calls had ids: a result answers the last call.
#[derive(Debug, Default)]
struct Legacy {
    calls: u32,
}

impl Legacy {
    fn call<'b>(&mut self) -> Str<'b> {
        self.calls += 1;
        self.last()
    }

    fn last<'b>(&self) -> Str<'b> {
        Cow::Owned(format!("call_function_{}", self.calls))
    }
}

/// One message as it stands, before its role is looked at.
#[derive(Default)]
struct Draft<'b> {
    role: Option<Str<'b>>,
    content: Vec<Part<'b>>,
    name: Option<Str<'b>>,
    thoughts: Thoughts<'b>,
    refusal: Option<Str<'b>>,
    /// Each with the signature that came with it.
    calls: Vec<(Option<Str<'b>>, Part<'b>)>,
    function_call: Option<(Str<'b>, Str<'b>)>,
    tool_call_id: Option<Str<'b>>,
    audio: Option<&'b RawValue>,
    annotations: Option<&'b RawValue>,
    cache: Option<&'b RawValue>,
}

impl<'b> Draft<'b> {
    fn read(reader: &mut Reader<'b>) -> Result<Self> {
        let mut draft = Self::default();
        reader.object(|r, key| {
            if r.peek() == b'n' {
                return r.raw().map(drop);
            }
            match &*key {
                "role" => {
                    let mark = r.mark();
                    let role = r.string()?;
                    if !ROLES.contains(&&*role) {
                        r.back(mark);
                        return Err(
                            r.wrong("one of system, developer, user, assistant, tool, function")
                        );
                    }
                    draft.role = Some(role);
                }
                "content" => draft.content = content(r)?,
                "name" => draft.name = Some(r.string()?),
                "reasoning_content" | "reasoning" => {
                    let text = r.string()?;
                    // Both may be there, saying the same.
                    if !text.is_empty() {
                        draft.thoughts.plain = Some(text);
                    }
                }
                "reasoning_details" => r.array(|r| {
                    draft.thoughts.add(detail::read(r)?);
                    Ok(())
                })?,
                "refusal" => draft.refusal = Some(r.string()?),
                "tool_calls" => draft.calls = r.list(tool_call)?,
                "function_call" => draft.function_call = Some(called(r)?),
                "tool_call_id" => draft.tool_call_id = Some(r.string()?),
                "audio" => draft.audio = Some(r.raw_object()?),
                "annotations" => {
                    if r.peek() != b'[' {
                        return Err(r.wrong("an array"));
                    }
                    draft.annotations = Some(r.raw()?).filter(|raw| !is_empty(raw));
                }
                "cache_control" => draft.cache = Some(r.raw_object()?),
                _ => r.stranger()?,
            }
            Ok(())
        })?;
        Ok(draft)
    }

    /// Returns the message, and whether it is nothing but a tool's result.
    fn finish(mut self, r: &Reader<'b>, legacy: &mut Legacy) -> Result<(Message<'b>, bool)> {
        let role = self.role.take().ok_or_else(|| r.missing("role"))?;
        let is_result = matches!(&*role, "tool" | "function");
        let (role, parts) = match &*role {
            "system" => (Role::System, self.said()),
            "developer" => (Role::Developer, self.said()),
            "assistant" => (Role::Assistant, self.answered(legacy)),
            "tool" => {
                let id = self
                    .tool_call_id
                    .take()
                    .ok_or_else(|| r.missing("tool_call_id"))?;
                (Role::User, self.result(id))
            }
            "function" => (Role::User, self.result(legacy.last())),
            _ => (Role::User, self.said()),
        };
        // The name of a tool is no name of a participant.
        let name = self.name.filter(|_| !is_result);
        Ok((Message { role, parts, name }, is_result))
    }

    fn said(&mut self) -> Vec<Part<'b>> {
        let mut parts = std::mem::take(&mut self.content);
        self.cache_last(&mut parts);
        parts
    }

    fn result(&mut self, id: Str<'b>) -> Vec<Part<'b>> {
        let parts = std::mem::take(&mut self.content);
        let cache = self.cache.take();
        let is_error = false;
        vec![Part::ToolResult {
            id,
            parts,
            is_error,
            cache,
        }]
    }

    fn answered(&mut self, legacy: &mut Legacy) -> Vec<Part<'b>> {
        let mut parts = std::mem::take(&mut self.thoughts).into_parts();
        if let Some((name, arguments)) = self.function_call.take() {
            let (id, cache) = (legacy.call(), None);
            let call = Part::ToolCall {
                id,
                name,
                arguments,
                cache,
            };
            self.calls.push((None, call));
        }
        let mut content = std::mem::take(&mut self.content);
        // Beside calls an empty text says nothing, and some models refuse it.
        if !self.calls.is_empty() {
            content.retain(|part| !matches!(part, Part::Text { text, .. } if text.is_empty()));
        }
        if let Some(annotations) = self.annotations
            && let Some(Part::Text { citations, .. }) = content.first_mut()
        {
            *citations = Some(annotations);
        }
        parts.append(&mut content);
        if let Some(text) = self.refusal.take() {
            parts.push(Part::Refusal { text: text.into() });
        }
        parts.extend(self.audio.map(place::opaque));
        // Whatever came of Google's models by way of a client of this protocol is Google's.
        let calls = std::mem::take(&mut self.calls);
        extra::place(&mut parts, calls, Protocol::Gemini);
        self.cache_last(&mut parts);
        parts
    }

    /// Gives the message's `cache_control` to its last part, where it marks the same prefix.
    fn cache_last(&mut self, parts: &mut [Part<'b>]) {
        let Some(mark) = self.cache.take() else {
            return;
        };
        match parts.last_mut() {
            Some(
                Part::Text { cache, .. }
                | Part::Image { cache, .. }
                | Part::File { cache, .. }
                | Part::ToolCall { cache, .. }
                | Part::ToolResult { cache, .. },
            ) => {
                cache.get_or_insert(mark);
            }
            Some(
                Part::Refusal { .. }
                | Part::Audio { .. }
                | Part::Reasoning { .. }
                | Part::RedactedReasoning { .. }
                | Part::Opaque { .. },
            )
            | None => {}
        }
    }
}

const ROLES: [&str; 6] = [
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
];

/// Returns whether `list`, an array, has no elements.
pub(super) fn is_empty(list: &RawValue) -> bool {
    list.get()
        .trim_matches(|c| matches!(c, '[' | ']' | ' ' | '\n' | '\r' | '\t'))
        .is_empty()
}

/// Reads `content`: a string, or an array of parts.
fn content<'b>(reader: &mut Reader<'b>) -> Result<Vec<Part<'b>>> {
    match reader.peek() {
        b'"' => Ok(vec![plain(reader.prose()?)]),
        b'[' => reader.list(part),
        _ => Err(reader.wrong("a string or an array of parts")),
    }
}

/// Returns a text part without trimmings.
pub(super) fn plain<'b>(text: impl Into<Prose<'b>>) -> Part<'b> {
    Part::Text {
        text: text.into(),
        cache: None,
        citations: None,
    }
}

/// Reads one part; of a type that the hub has no word for, whole.
fn part<'b>(reader: &mut Reader<'b>) -> Result<Part<'b>> {
    match reader.peek() {
        // Mistral takes strings here.
        b'"' => return Ok(plain(reader.prose()?)),
        b'{' => {}
        _ => return Err(reader.wrong("an object")),
    }
    let Some(kind) = reader.tag("type") else {
        reader.raw()?;
        return Err(reader.missing("type"));
    };
    if !matches!(
        &*kind,
        "text" | "refusal" | "image_url" | "input_audio" | "file"
    ) {
        return Ok(place::opaque(reader.raw_object()?));
    }
    let (mut found, mut cached) = (None, None);
    reader.object(|r, key| {
        if r.peek() == b'n' {
            return r.raw().map(drop);
        }
        match &*key {
            "type" => drop(r.raw()?),
            "cache_control" => cached = Some(r.raw_object()?),
            key if key == &*kind => {
                found = Some(match key {
                    "text" => plain(r.prose()?),
                    "refusal" => Part::Refusal { text: r.prose()? },
                    "image_url" => image(r)?,
                    "input_audio" => audio(r)?,
                    _ => file(r)?,
                });
            }
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let mut part = found.ok_or_else(|| reader.missing(&kind))?;
    if let Part::Text { cache, .. } | Part::Image { cache, .. } | Part::File { cache, .. } =
        &mut part
    {
        *cache = cached;
    }
    Ok(part)
}

fn image<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut url, mut detail) = (None, None);
    match r.peek() {
        // Mistral takes the bare address.
        b'"' => url = Some(r.string()?),
        _ => r.object(|r, key| {
            match &*key {
                "url" => url = Some(r.string()?),
                "detail" => detail = r.maybe(Reader::string)?,
                _ => r.stranger()?,
            }
            Ok(())
        })?,
    }
    let source = source(url.ok_or_else(|| r.missing("url"))?);
    let cache = None;
    Ok(Part::Image {
        source,
        detail,
        cache,
    })
}

fn audio<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut data, mut format) = (None, None);
    r.object(|r, key| {
        match &*key {
            "data" => data = Some(r.string()?),
            "format" => format = Some(r.string()?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Part::Audio {
        data: data.ok_or_else(|| r.missing("data"))?,
        format: format.ok_or_else(|| r.missing("format"))?,
    })
}

fn file<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let (mut data, mut id, mut name) = (None, None, None);
    r.object(|r, key| {
        match &*key {
            "file_data" => data = r.maybe(Reader::string)?,
            "file_id" => id = r.maybe(Reader::string)?,
            "filename" => name = r.maybe(Reader::string)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let source = match (data, id) {
        // Bare base64, as some clients send it.
        (Some(data), _) if !data.contains(':') => Source::Base64 {
            media_type: Cow::Borrowed("application/pdf"),
            data,
        },
        (Some(data), _) => source(data),
        (None, Some(id)) => Source::FileId {
            family: Protocol::OpenaiChat,
            id,
        },
        (None, None) => return Err(r.missing("file_data")),
    };
    Ok(Part::File {
        source,
        name,
        context: None,
        citations: None,
        cache: None,
    })
}

/// Takes a `data:` URL apart; any other is kept.
pub(super) fn source(url: Str<'_>) -> Source<'_> {
    const MARK: &str = ";base64,";
    let Some(rest) = url.strip_prefix("data:") else {
        return Source::Url(url);
    };
    // The head is short; the rest may be megabytes.
    let head = rest.as_bytes();
    let head = &head[..head.len().min(256)];
    let Some(at) = memchr::memmem::find(head, MARK.as_bytes()) else {
        return Source::Url(url);
    };
    let from = "data:".len();
    let (end, start) = (from + at, from + at + MARK.len());
    let (media_type, data) = match &url {
        Cow::Borrowed(url) => (Cow::Borrowed(&url[from..end]), Cow::Borrowed(&url[start..])),
        Cow::Owned(url) => (
            Cow::Owned(url[from..end].to_owned()),
            Cow::Owned(url[start..].to_owned()),
        ),
    };
    // Parameters (`;charset=…`) are no part of the type.
    let media_type = match media_type.find(';') {
        Some(end) => Cow::Owned(media_type[..end].to_owned()),
        None => media_type,
    };
    Source::Base64 { media_type, data }
}

fn tool_call<'b>(r: &mut Reader<'b>) -> Result<(Option<Str<'b>>, Part<'b>)> {
    if r.peek() != b'{' {
        return Err(r.wrong("an object"));
    }
    if r.tag("type").is_some_and(|kind| kind == "custom") {
        return Ok((None, place::opaque(r.raw_object()?)));
    }
    let (mut id, mut function, mut cache) = (None, None, None);
    let mut signature = None;
    r.object(|r, key| {
        match &*key {
            "id" => id = r.maybe(Reader::string)?,
            "function" => function = Some(called(r)?),
            "cache_control" => cache = r.maybe(Reader::raw_object)?,
            "extra_content" => signature = extra::read(r)?,
            // Their place is told by the array.
            "type" | "index" => drop(r.raw()?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let id = id.ok_or_else(|| r.missing("id"))?;
    let (name, arguments) = function.ok_or_else(|| r.missing("function"))?;
    let call = Part::ToolCall {
        id,
        name,
        arguments,
        cache,
    };
    Ok((signature, call))
}

/// Reads a function's name and arguments.
fn called<'b>(r: &mut Reader<'b>) -> Result<(Str<'b>, Str<'b>)> {
    let (mut name, mut arguments) = (None, None);
    r.object(|r, key| {
        match &*key {
            "name" => name = Some(r.string()?),
            "arguments" => arguments = r.maybe(self::arguments)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| r.missing("name"))?;
    Ok((name, arguments.unwrap_or_default()))
}

/// Reads arguments: JSON inside a string, or, from those who misread the documentation, an object.
pub(super) fn arguments<'b>(r: &mut Reader<'b>) -> Result<Str<'b>> {
    match r.peek() {
        b'{' => Ok(Cow::Borrowed(r.raw()?.get())),
        _ => r.string(),
    }
}
