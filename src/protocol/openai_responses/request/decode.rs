//! A client's body into the hub.

use serde_json::value::RawValue;

use super::items;
use super::tools::{tool, tool_choice};
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Effort, Format, Message, Part, Prose, Reasoning, Request, Role, Str};
use crate::protocol::text::Reader;

/// By these a conversation comes from elsewhere, and `input` may be absent.
const CONVERSATIONS: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

/// Decodes a request. Unknown top-level fields are kept in `extra`; unknown fields further down are listed there
/// by their path (`input[0].phase`), so that an encoder can name what it leaves out.
///
/// Errors: `InvalidRequest` naming the field that is missing or has the wrong type. Null is absent.
pub fn decode(body: &[u8]) -> Result<Request<'_>> {
    let mut reader = Reader::new(body)?;
    let mut draft = Draft::new();
    reader.object(|r, key| draft.field(r, key))?;
    reader.finish()?;
    draft.finish(&reader)
}

/// A request in the making.
struct Draft<'b> {
    request: Request<'b>,
    instructions: Option<Str<'b>>,
    input: Option<Vec<Message<'b>>>,
    safety_identifier: Option<&'b RawValue>,
}

impl<'b> Draft<'b> {
    fn new() -> Self {
        let request = Request {
            family: Protocol::OpenaiResponses,
            model: Str::default(),
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
            include_usage: true,
            user: None,
            metadata: None,
            service_tier: None,
            extra: Vec::new(),
        };
        Self {
            request,
            instructions: None,
            input: None,
            safety_identifier: None,
        }
    }

    fn field(&mut self, r: &mut Reader<'b>, key: Str<'b>) -> Result<()> {
        let request = &mut self.request;
        // Absent and null are the same everywhere but where a value is required.
        if r.peek() == b'n' {
            return r.raw().map(drop);
        }
        match &*key {
            "model" => request.model = r.string()?,
            "instructions" => self.instructions = Some(r.string()?),
            "input" => self.input = Some(items::input(r)?),
            "tools" => request.tools = r.list(tool)?,
            "tool_choice" => request.tool_choice = Some(tool_choice(r)?),
            "parallel_tool_calls" => request.parallel_tools = Some(r.boolean()?),
            "max_output_tokens" => request.max_output = Some(r.integer()?),
            "temperature" => request.temperature = Some(r.number()?),
            "top_p" => request.top_p = Some(r.number()?),
            "top_logprobs" => request.top_logprobs = Some(r.integer()?),
            "include" => {
                let mark = r.mark();
                let asked = r.list(Reader::string)?;
                if asked
                    .iter()
                    .any(|one| one == "message.output_text.logprobs")
                {
                    request.logprobs = Some(true);
                }
                // What remains is for this family alone.
                r.back(mark);
                request.extra.push((key, r.raw()?));
            }
            "text" => text(r, request)?,
            "reasoning" => reasoning(r, request)?,
            "stream" => request.stream = r.boolean()?,
            "stream_options" => r.object(|r, _| r.stranger())?,
            "user" => request.user = Some(r.string()?),
            "safety_identifier" => self.safety_identifier = Some(checked(r, Reader::string)?),
            "metadata" => request.metadata = Some(r.raw_object()?),
            "service_tier" => request.service_tier = Some(r.string()?),
            "background" | "store" => request.extra.push((key, checked(r, Reader::boolean)?)),
            "previous_response_id" | "truncation" | "prompt_cache_key" => {
                request.extra.push((key, checked(r, Reader::string)?));
            }
            "max_tool_calls" => request.extra.push((key, checked(r, Reader::integer)?)),
            _ => request.extra.push((key, r.raw()?)),
        }
        Ok(())
    }

    fn finish(self, reader: &Reader<'b>) -> Result<Request<'b>> {
        let mut request = self.request;
        let elsewhere = |(name, _): &(Str<'b>, _)| CONVERSATIONS.contains(&&**name);
        let input = match self.input {
            Some(input) => input,
            None if request.extra.iter().any(elsewhere) => Vec::new(),
            None => return Err(reader.missing("input")),
        };
        if let Some(text) = self.instructions.filter(|text| !text.is_empty()) {
            request.messages.push(Message {
                role: Role::System,
                parts: vec![plain(text)],
                name: None,
            });
        }
        request.messages.extend(input);
        // Asked for how many, it is asked for some.
        if request.logprobs.is_none() && request.top_logprobs.is_some_and(|top| top > 0) {
            request.logprobs = Some(true);
        }
        if let Some(raw) = self.safety_identifier {
            match request.user {
                None => request.user = serde_json::from_str(raw.get()).ok(),
                Some(_) => request.extra.push(("safety_identifier".into(), raw)),
            }
        }
        request.extra.extend(reader.strangers());
        Ok(request)
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

/// Reads a value whole that must be one that `one` can read.
fn checked<'b, T>(
    r: &mut Reader<'b>,
    one: impl FnOnce(&mut Reader<'b>) -> Result<T>,
) -> Result<&'b RawValue> {
    let mark = r.mark();
    one(r)?;
    r.back(mark);
    r.raw()
}

fn text<'b>(r: &mut Reader<'b>, request: &mut Request<'b>) -> Result<()> {
    r.object(|r, key| {
        if r.peek() == b'n' {
            return r.raw().map(drop);
        }
        match &*key {
            "verbosity" => request.verbosity = Some(r.string()?),
            "format" => match format(r)? {
                Some(format) => request.format = Some(format),
                // Of a type not known here.
                None => r.stranger()?,
            },
            _ => r.stranger()?,
        }
        Ok(())
    })
}

fn format<'b>(r: &mut Reader<'b>) -> Result<Option<Format<'b>>> {
    if r.peek() != b'{' {
        return Err(r.wrong("an object"));
    }
    let Some(kind) = r.tag("type") else {
        r.raw()?;
        return Err(r.missing("type"));
    };
    if !matches!(&*kind, "text" | "json_object" | "json_schema") {
        return Ok(None);
    }
    let (mut name, mut description, mut schema, mut strict) = (None, None, None, None);
    let of_schema = kind == "json_schema";
    r.object(|r, key| {
        match &*key {
            "type" => drop(r.raw()?),
            "name" if of_schema => name = r.maybe(Reader::string)?,
            "description" if of_schema => description = r.maybe(Reader::string)?,
            "schema" if of_schema => schema = r.maybe(Reader::raw_object)?,
            "strict" if of_schema => strict = r.maybe(Reader::boolean)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Some(match &*kind {
        "text" => Format::Text,
        "json_object" => Format::JsonObject,
        _ => Format::JsonSchema {
            name,
            description,
            schema: schema.ok_or_else(|| r.missing("schema"))?,
            strict,
        },
    }))
}

/// Reads `reasoning`: the effort; the rest is for this family alone.
fn reasoning(r: &mut Reader<'_>, request: &mut Request<'_>) -> Result<()> {
    r.object(|r, key| {
        match &*key {
            "effort" if r.peek() != b'n' => match effort(r)? {
                Some(Effort::None) => request.reasoning = Some(Reasoning::Off),
                Some(effort) => request.reasoning = Some(Reasoning::Effort(effort)),
                None => r.stranger()?,
            },
            _ => r.stranger()?,
        }
        Ok(())
    })
}

/// Reads an effort; stays before one that leaves it to the model.
fn effort(r: &mut Reader<'_>) -> Result<Option<Effort>> {
    let mark = r.mark();
    let word = r.string()?;
    Ok(Some(match &*word {
        "none" => Effort::None,
        "minimal" => Effort::Minimal,
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        "xhigh" => Effort::Xhigh,
        "max" => Effort::Max,
        other => {
            let leaves = matches!(other, "default" | "auto");
            r.back(mark);
            if leaves {
                return Ok(None);
            }
            return Err(r.wrong("one of none, minimal, low, medium, high, xhigh, max"));
        }
    }))
}
