//! A client's body into the hub.
//!
//! Sampling stands in `options`; what the hub has no word for there goes to `extra` under its path
//! (`options.num_ctx`). Calls and results mostly come without ids: those get them here, the same for a call and its
//! result, and the same each time the conversation is sent.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use super::super::words::{Call, media_type};
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{
    Effort, Format, Message, Part, Reasoning, Request, Role, Source, Str, Tool,
};
use crate::protocol::text::Reader;

/// Decodes a body. Errors are 400 and name the field as the client spelt it.
pub fn decode(body: &[u8]) -> Result<Request<'_>> {
    let mut r = Reader::new(body)?;
    let mut request = Request::blank(Protocol::Ollama);
    // Ollama streams unless it is told not to, and always tells what it took.
    request.stream = true;
    request.include_usage = true;
    let (mut model, mut messages) = (None, None);
    let mut ids = Ids::default();
    r.object(|r, key| {
        match &*key {
            "model" => model = r.maybe(Reader::string)?,
            "messages" => messages = r.maybe(|r| turns(r, &mut ids))?,
            "tools" => request.tools = r.maybe(|r| r.list(tool))?.unwrap_or_default(),
            "format" => request.format = r.maybe(format)?.flatten(),
            "options" => drop(r.maybe(|r| options(r, &mut request))?),
            "stream" => request.stream = r.maybe(Reader::boolean)?.unwrap_or(true),
            "think" => request.reasoning = r.maybe(think)?.flatten(),
            "logprobs" => request.logprobs = r.maybe(Reader::boolean)?,
            "top_logprobs" => request.top_logprobs = r.maybe(Reader::integer)?,
            _ => {
                let raw = r.raw()?;
                if raw.get() != "null" {
                    request.extra.push((key, raw));
                }
            }
        }
        Ok(())
    })?;
    r.finish()?;
    request.model = model.ok_or_else(|| r.missing("model"))?;
    request.messages = messages.ok_or_else(|| r.missing("messages"))?;
    request.extra.extend(r.strangers());
    Ok(request)
}

fn options<'b>(r: &mut Reader<'b>, request: &mut Request<'b>) -> Result<()> {
    r.object(|r, key| {
        match &*key {
            "temperature" => request.temperature = r.maybe(Reader::number)?,
            "top_p" => request.top_p = r.maybe(Reader::number)?,
            "presence_penalty" => request.presence_penalty = r.maybe(Reader::number)?,
            "frequency_penalty" => request.frequency_penalty = r.maybe(Reader::number)?,
            "stop" => {
                request.stop = r
                    .maybe(|r| match r.peek() {
                        b'"' => Ok(vec![r.string()?]),
                        _ => r.list(Reader::string),
                    })?
                    .unwrap_or_default();
            }
            "seed" | "num_predict" | "top_k" => {
                let mark = r.mark();
                let number = r.maybe(whole)?;
                let count = number.and_then(|number| u32::try_from(number).ok());
                match &*key {
                    "seed" => request.seed = number,
                    "num_predict" => request.max_output = count,
                    _ => request.top_k = count,
                }
                // Below zero they are words of Ollama's own: without an end, till the context is full.
                if count.is_none() && number.is_some() && &*key != "seed" {
                    r.back(mark);
                    let raw = r.raw()?;
                    request.extra.push((format!("options.{key}").into(), raw));
                }
            }
            _ => {
                let raw = r.raw()?;
                if raw.get() != "null" {
                    request.extra.push((format!("options.{key}").into(), raw));
                }
            }
        }
        Ok(())
    })
}

/// Reads a whole number, also one written as `40.0`.
fn whole(r: &mut Reader<'_>) -> Result<i64> {
    let mark = r.mark();
    let number = r.number()?;
    r.back(mark);
    // Exact up to 2^53; beyond that only integers are taken.
    if number.fract() == 0.0 && number.abs() < 9e15 {
        r.number()?;
        return Ok(number as i64);
    }
    r.signed()
}

fn format<'b>(r: &mut Reader<'b>) -> Result<Option<Format<'b>>> {
    if r.peek() == b'{' {
        return Ok(Some(Format::JsonSchema {
            name: None,
            description: None,
            schema: r.raw_object()?,
            strict: None,
        }));
    }
    let mark = r.mark();
    if r.peek() == b'"' {
        match &*r.string()? {
            // Several clients send it empty.
            "" => return Ok(None),
            "json" => return Ok(Some(Format::JsonObject)),
            _ => r.back(mark),
        }
    }
    Err(r.wrong("'json' or a JSON schema"))
}

fn think(r: &mut Reader<'_>) -> Result<Option<Reasoning>> {
    let mark = r.mark();
    if r.peek() != b'"' {
        return Ok(Some(if r.boolean()? {
            Reasoning::Adaptive(None)
        } else {
            Reasoning::Off
        }));
    }
    let effort = match &*r.string()? {
        "" => return Ok(None),
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        "max" => Effort::Max,
        _ => {
            r.back(mark);
            return Err(r.wrong("true, false, 'low', 'medium' or 'high'"));
        }
    };
    Ok(Some(Reasoning::Effort(effort)))
}

fn tool<'b>(r: &mut Reader<'b>) -> Result<Tool<'b>> {
    let mut function = None;
    r.object(|r, key| {
        match &*key {
            "type" => drop(r.raw()?),
            "function" => function = r.maybe(declaration)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    function.ok_or_else(|| r.missing("function"))
}

fn declaration<'b>(r: &mut Reader<'b>) -> Result<Tool<'b>> {
    let (mut name, mut description, mut schema, mut strict) = (None, None, None, None);
    r.object(|r, key| {
        match &*key {
            "name" => name = r.maybe(Reader::string)?,
            "description" => description = r.maybe(Reader::string)?,
            "parameters" => schema = r.maybe(Reader::raw_object)?,
            "strict" => strict = r.maybe(Reader::boolean)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Tool::Function {
        name: name.ok_or_else(|| r.missing("name"))?,
        description,
        schema,
        strict,
        cache: None,
    })
}

fn turns<'b>(r: &mut Reader<'b>, ids: &mut Ids<'b>) -> Result<Vec<Message<'b>>> {
    let mut turns: Vec<Message<'b>> = Vec::new();
    // The last turn holds results, and the next may join it.
    let mut results = false;
    r.array(|r| {
        let (turn, is_result) = turn(r, ids)?;
        match turns.last_mut() {
            Some(last) if results && is_result => last.parts.extend(turn.parts),
            Some(_) | None => turns.push(turn),
        }
        results = is_result;
        Ok(())
    })?;
    Ok(turns)
}

/// Reads one message; tells whether it is a tool's result.
fn turn<'b>(r: &mut Reader<'b>, ids: &mut Ids<'b>) -> Result<(Message<'b>, bool)> {
    let mut role = None;
    let (mut content, mut thinking) = (None, None);
    let (mut images, mut calls) = (Vec::new(), Vec::new());
    let (mut tool_name, mut id) = (None, None);
    r.object(|r, key| {
        match &*key {
            "role" => {
                let mark = r.mark();
                role = Some(match &*r.string()? {
                    "system" => (Role::System, false),
                    "user" => (Role::User, false),
                    "assistant" => (Role::Assistant, false),
                    "tool" => (Role::User, true),
                    _ => {
                        r.back(mark);
                        return Err(r.wrong("'system', 'user', 'assistant' or 'tool'"));
                    }
                });
            }
            "content" => content = r.maybe(Reader::string)?,
            "thinking" => thinking = r.maybe(Reader::string)?,
            "images" => images = r.maybe(|r| r.list(image))?.unwrap_or_default(),
            "tool_calls" => calls = r.maybe(|r| r.list(Call::read))?.unwrap_or_default(),
            "tool_name" | "name" => tool_name = r.maybe(Reader::string)?.or(tool_name.take()),
            "tool_call_id" => id = r.maybe(Reader::string)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let (role, is_result) = role.ok_or_else(|| r.missing("role"))?;
    let mut parts = Vec::new();
    if let Some(text) = thinking.filter(|text| !text.is_empty()) {
        parts.push(Part::Reasoning {
            text: text.into(),
            signature: None,
        });
    }
    if let Some(text) = content.filter(|text| !text.is_empty()) {
        parts.push(Part::Text {
            text: text.into(),
            cache: None,
            citations: None,
        });
    }
    parts.extend(images);
    for call in calls {
        parts.push(Part::ToolCall {
            id: ids.call(call.id, &call.name),
            name: call.name,
            arguments: call.arguments,
            cache: None,
        });
    }
    if is_result {
        parts = vec![Part::ToolResult {
            id: ids.result(id, tool_name.as_deref()),
            parts,
            is_error: false,
            cache: None,
        }];
    }
    let message = Message {
        role,
        parts,
        name: None,
    };
    Ok((message, is_result))
}

fn image<'b>(r: &mut Reader<'b>) -> Result<Part<'b>> {
    let data = r.string()?;
    // Some clients leave the head of an address of data before it.
    let at = data
        .strip_prefix("data:")
        .and_then(|rest| Some("data:".len() + rest.find(',')? + 1));
    let data = match (at, data) {
        (None, data) => data,
        (Some(at), Cow::Borrowed(data)) => Cow::Borrowed(data.get(at..).unwrap_or_default()),
        (Some(at), Cow::Owned(mut data)) => Cow::Owned(data.split_off(at)),
    };
    Ok(Part::Image {
        source: Source::Base64 {
            media_type: media_type(&data).into(),
            data,
        },
        detail: None,
        cache: None,
    })
}

/// The calls of a conversation, and which of them have their results.
#[derive(Debug, Default)]
struct Ids<'b> {
    calls: Vec<Str<'b>>,
    answered: Vec<bool>,
    by_id: HashMap<String, usize>,
    by_name: HashMap<String, VecDeque<usize>>,
    /// Before this one all are answered.
    first: usize,
}

impl<'b> Ids<'b> {
    fn call(&mut self, id: Str<'b>, name: &str) -> Str<'b> {
        let index = self.calls.len();
        let id = if id.is_empty() {
            Cow::Owned(format!("call_{}", index + 1))
        } else {
            id
        };
        self.calls.push(id.clone());
        self.answered.push(false);
        self.by_id.insert(id.clone().into_owned(), index);
        self.by_name
            .entry(name.to_owned())
            .or_default()
            .push_back(index);
        id
    }

    /// Returns the id of a result's call: its own, or that of the first call that waits, by name if it has one.
    fn result(&mut self, id: Option<Str<'b>>, name: Option<&str>) -> Str<'b> {
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            if let Some(index) = self.by_id.get(&*id) {
                self.answered[*index] = true;
            }
            return id;
        }
        let mut found = None;
        if let Some(waiting) = name.and_then(|name| self.by_name.get_mut(name)) {
            while let Some(index) = waiting.pop_front() {
                if !self.answered[index] {
                    found = Some(index);
                    break;
                }
            }
        }
        if name.is_none_or(str::is_empty) {
            while self.answered.get(self.first) == Some(&true) {
                self.first += 1;
            }
            found = (self.first < self.calls.len()).then_some(self.first);
        }
        match found {
            Some(index) => {
                self.answered[index] = true;
                self.calls[index].clone()
            }
            None => "call_unknown".into(),
        }
    }
}
