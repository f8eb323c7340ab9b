//! A client's body into the hub.

use serde_json::value::RawValue;

use super::message;
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Effort, Format, Reasoning, Request, Str, Tool, ToolChoice};
use crate::protocol::text::Reader;

/// Decodes a request. Unknown top-level fields are kept in `extra`; unknown fields further down are listed
/// there by their path (`messages[0].prefix`), so that an encoder can name what it leaves out.
///
/// Errors: `InvalidRequest` naming the field that is missing or has the wrong type. Null is absent.
pub fn decode(body: &[u8]) -> Result<Request<'_>> {
    let mut reader = Reader::new(body)?;
    let mut draft = Draft::new();
    reader.object(|r, key| draft.field(r, key))?;
    reader.finish()?;
    draft.finish(&reader)
}

/// A request in the making: with the fields that say the same thing twice still apart.
struct Draft<'b> {
    request: Request<'b>,
    model: Option<Str<'b>>,
    told_messages: bool,
    max_tokens: Option<u32>,
    function_call: Option<ToolChoice<'b>>,
    effort: Option<Effort>,
    reasoning: Option<Reasoning>,
    thinking: Option<Reasoning>,
    safety_identifier: Option<&'b RawValue>,
}

impl<'b> Draft<'b> {
    fn new() -> Self {
        let request = Request {
            family: Protocol::OpenaiChat,
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
            include_usage: false,
            user: None,
            metadata: None,
            service_tier: None,
            extra: Vec::new(),
        };
        Self {
            request,
            model: None,
            told_messages: false,
            max_tokens: None,
            function_call: None,
            effort: None,
            reasoning: None,
            thinking: None,
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
            "model" => self.model = Some(r.string()?),
            "messages" => {
                request.messages = message::list(r)?;
                self.told_messages = true;
            }
            "tools" => request.tools.extend(r.list(tool)?),
            "functions" => request.tools.extend(r.list(|r| function(r, None))?),
            "tool_choice" => request.tool_choice = Some(tool_choice(r)?),
            "function_call" => self.function_call = Some(function_call(r)?),
            "parallel_tool_calls" => request.parallel_tools = Some(r.boolean()?),
            "max_completion_tokens" => request.max_output = Some(r.integer()?),
            "max_tokens" => self.max_tokens = Some(r.integer()?),
            "temperature" => request.temperature = Some(r.number()?),
            "top_p" => request.top_p = Some(r.number()?),
            "top_k" => request.top_k = Some(r.integer()?),
            "frequency_penalty" => request.frequency_penalty = Some(r.number()?),
            "presence_penalty" => request.presence_penalty = Some(r.number()?),
            "seed" => request.seed = Some(r.signed()?),
            "stop" => request.stop = stop(r)?,
            "n" => request.n = Some(r.integer()?),
            "logprobs" => request.logprobs = Some(r.boolean()?),
            "top_logprobs" => request.top_logprobs = Some(r.integer()?),
            "logit_bias" => request.logit_bias = Some(r.raw_object()?),
            "response_format" => match format(r)? {
                Ok(format) => request.format = Some(format),
                Err(raw) => request.extra.push((key, raw)),
            },
            "reasoning_effort" => match effort(r)? {
                Ok(effort) => self.effort = Some(effort),
                Err(raw) => request.extra.push((key, raw)),
            },
            "reasoning" => self.reasoning = reasoning(r)?,
            "thinking" => self.thinking = thinking(r)?,
            "verbosity" => request.verbosity = Some(r.string()?),
            "stream" => request.stream = r.boolean()?,
            "stream_options" => r.object(|r, key| {
                match &*key {
                    "include_usage" => {
                        request.include_usage = r.maybe(Reader::boolean)?.unwrap_or(false);
                    }
                    _ => r.stranger()?,
                }
                Ok(())
            })?,
            "user" => request.user = Some(r.string()?),
            "safety_identifier" => {
                let mark = r.mark();
                r.string()?;
                r.back(mark);
                self.safety_identifier = Some(r.raw()?);
            }
            "metadata" => request.metadata = Some(r.raw_object()?),
            "service_tier" => request.service_tier = Some(r.string()?),
            _ => request.extra.push((key, r.raw()?)),
        }
        Ok(())
    }

    fn finish(self, reader: &Reader<'b>) -> Result<Request<'b>> {
        let mut request = self.request;
        // The path may name it instead; the envelope has seen to it that one of them does.
        request.model = self.model.unwrap_or_default();
        if !self.told_messages {
            return Err(reader.missing("messages"));
        }
        request.max_output = request.max_output.or(self.max_tokens);
        request.tool_choice = request.tool_choice.or(self.function_call);
        request.reasoning = match (self.thinking, self.reasoning, self.effort) {
            (Some(Reasoning::Adaptive(None)), None, effort) => Some(Reasoning::Adaptive(effort)),
            (thinking, reasoning, effort) => thinking.or(reasoning).or(effort.map(Reasoning::from)),
        };
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

impl From<Effort> for Reasoning {
    fn from(effort: Effort) -> Self {
        match effort {
            Effort::None => Reasoning::Off,
            Effort::Minimal
            | Effort::Low
            | Effort::Medium
            | Effort::High
            | Effort::Xhigh
            | Effort::Max => Reasoning::Effort(effort),
        }
    }
}

fn stop<'b>(r: &mut Reader<'b>) -> Result<Vec<Str<'b>>> {
    match r.peek() {
        b'"' => Ok(vec![r.string()?]),
        b'[' => r.list(Reader::string),
        _ => Err(r.wrong("a string or an array of strings")),
    }
}

fn tool<'b>(r: &mut Reader<'b>) -> Result<Tool<'b>> {
    if r.peek() != b'{' {
        return Err(r.wrong("an object"));
    }
    // Some clients leave the type out.
    let kind = r.tag("type").unwrap_or("function".into());
    if kind != "function" {
        let name = r.tag("name");
        let raw = r.raw_object()?;
        let name = name.or_else(|| inner_name(raw, &kind)).unwrap_or(kind);
        let family = Protocol::OpenaiChat;
        return Ok(Tool::Opaque { family, name, raw });
    }
    let (mut found, mut cached) = (None, None);
    r.object(|r, key| {
        match &*key {
            "type" => drop(r.maybe(Reader::string)?),
            "function" => found = Some(function(r, None)?),
            "cache_control" => cached = r.maybe(Reader::raw_object)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    let mut tool = found.ok_or_else(|| r.missing("function"))?;
    if let Tool::Function { cache, .. } = &mut tool
        && cached.is_some()
    {
        *cache = cached;
    }
    Ok(tool)
}

/// Returns the name within a tool's own object: `{"type":"custom","custom":{"name":…}}`.
fn inner_name<'b>(raw: &'b RawValue, kind: &str) -> Option<Str<'b>> {
    let mut name = None;
    // What can't be read has none.
    let _ = Reader::of(raw.get()).object(|r, key| {
        if key == kind && r.peek() == b'{' {
            name = r.tag("name");
        }
        r.raw().map(drop)
    });
    name
}

fn function<'b>(r: &mut Reader<'b>, cached: Option<&'b RawValue>) -> Result<Tool<'b>> {
    let (mut name, mut description, mut schema, mut strict) = (None, None, None, None);
    let mut cache = cached;
    r.object(|r, key| {
        match &*key {
            "name" => name = Some(r.string()?),
            "description" => description = r.maybe(Reader::string)?,
            "parameters" => schema = r.maybe(Reader::raw_object)?,
            "strict" => strict = r.maybe(Reader::boolean)?,
            "cache_control" => cache = r.maybe(Reader::raw_object)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Tool::Function {
        name: name.ok_or_else(|| r.missing("name"))?,
        description,
        schema,
        strict,
        cache,
    })
}

fn tool_choice<'b>(r: &mut Reader<'b>) -> Result<ToolChoice<'b>> {
    const WHAT: &str = "\"none\", \"auto\", \"required\" or an object that names a tool";
    let word = match r.peek() {
        b'"' => {
            let mark = r.mark();
            let word = r.string()?;
            r.back(mark);
            Some(word)
        }
        b'{' => r.tag("type"),
        _ => return Err(r.wrong(WHAT)),
    };
    let choice = match word.as_deref() {
        Some("auto") => ToolChoice::Auto,
        Some("none") => ToolChoice::None,
        // Mistral's word for it.
        Some("required" | "any") => ToolChoice::Required,
        Some("function") | None if r.peek() == b'{' => {
            let mut name = None;
            let mut function = false;
            r.object(|r, key| {
                match &*key {
                    "function" => {
                        function = true;
                        name = Some(named(r)?);
                    }
                    "type" => drop(r.raw()?),
                    _ => r.stranger()?,
                }
                Ok(())
            })?;
            return name
                .map(ToolChoice::Named)
                .ok_or_else(|| r.missing("function"));
        }
        Some(_) if r.peek() == b'{' => {
            let family = Protocol::OpenaiChat;
            let raw = r.raw_object()?;
            return Ok(ToolChoice::Opaque { family, raw });
        }
        Some(_) | None => return Err(r.wrong(WHAT)),
    };
    r.raw()?;
    Ok(choice)
}

/// Reads the legacy `function_call`.
fn function_call<'b>(r: &mut Reader<'b>) -> Result<ToolChoice<'b>> {
    const WHAT: &str = "\"none\", \"auto\" or an object with a name";
    match r.peek() {
        b'{' => named(r).map(ToolChoice::Named),
        b'"' => {
            let mark = r.mark();
            let word = r.string()?;
            match &*word {
                "auto" => Ok(ToolChoice::Auto),
                "none" => Ok(ToolChoice::None),
                _ => {
                    r.back(mark);
                    Err(r.wrong(WHAT))
                }
            }
        }
        _ => Err(r.wrong(WHAT)),
    }
}

fn named<'b>(r: &mut Reader<'b>) -> Result<Str<'b>> {
    let mut name = None;
    r.object(|r, key| {
        match &*key {
            "name" => name = Some(r.string()?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    name.ok_or_else(|| r.missing("name"))
}

/// Reads `response_format`; one of a type not known here is returned whole.
fn format<'b>(r: &mut Reader<'b>) -> Result<Result<Format<'b>, &'b RawValue>> {
    if r.peek() != b'{' {
        return Err(r.wrong("an object"));
    }
    let Some(kind) = r.tag("type") else {
        r.raw()?;
        return Err(r.missing("type"));
    };
    if !matches!(&*kind, "text" | "json_object" | "json_schema") {
        return Ok(Err(r.raw()?));
    }
    let mut schema = None;
    r.object(|r, key| {
        match &*key {
            "type" => drop(r.raw()?),
            "json_schema" => schema = r.maybe(json_schema)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Ok(match &*kind {
        "text" => Format::Text,
        "json_object" => Format::JsonObject,
        _ => schema.ok_or_else(|| r.missing("json_schema"))?,
    }))
}

fn json_schema<'b>(r: &mut Reader<'b>) -> Result<Format<'b>> {
    let (mut name, mut description, mut schema, mut strict) = (None, None, None, None);
    r.object(|r, key| {
        match &*key {
            "name" => name = r.maybe(Reader::string)?,
            "description" => description = r.maybe(Reader::string)?,
            "schema" => schema = r.maybe(Reader::raw_object)?,
            "strict" => strict = r.maybe(Reader::boolean)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Format::JsonSchema {
        name,
        description,
        schema: match schema {
            Some(schema) => schema,
            // Without one every object is good.
            None => serde_json::from_str("{}").expect("an empty object is JSON"),
        },
        strict,
    })
}

/// Reads an effort; one that leaves it to the model is returned whole.
fn effort<'b>(r: &mut Reader<'b>) -> Result<Result<Effort, &'b RawValue>> {
    let mark = r.mark();
    let word = r.string()?;
    let effort = match &*word {
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
                return Ok(Err(r.raw()?));
            }
            return Err(r.wrong("one of none, minimal, low, medium, high, xhigh, max"));
        }
    };
    Ok(Ok(effort))
}

/// Reads OpenRouter's `reasoning`.
fn reasoning(r: &mut Reader<'_>) -> Result<Option<Reasoning>> {
    let (mut asked, mut budget, mut enabled) = (None, None, None);
    r.object(|r, key| {
        match &*key {
            "effort" => asked = r.maybe(effort)?.and_then(Result::ok),
            "max_tokens" => budget = r.maybe(Reader::integer)?,
            "enabled" => enabled = r.maybe(Reader::boolean)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(match (enabled, budget, asked) {
        (Some(false), _, _) => Some(Reasoning::Off),
        (_, Some(budget), _) => Some(Reasoning::Budget(budget)),
        (_, None, Some(effort)) => Some(effort.into()),
        (Some(true), None, None) => Some(Reasoning::Adaptive(None)),
        (None, None, None) => None,
    })
}

/// Reads Anthropic's `thinking`, which several compatible servers take too.
fn thinking(r: &mut Reader<'_>) -> Result<Option<Reasoning>> {
    const WHAT: &str = "one of enabled, disabled, adaptive, auto";
    let (mut budget, mut thinking) = (None, None);
    r.object(|r, key| {
        match &*key {
            "type" => {
                let mark = r.mark();
                thinking = match r.maybe(Reader::string)?.as_deref() {
                    None => None,
                    Some("disabled") => Some(Reasoning::Off),
                    Some("enabled" | "adaptive" | "auto") => Some(Reasoning::Adaptive(None)),
                    Some(_) => {
                        r.back(mark);
                        return Err(r.wrong(WHAT));
                    }
                };
            }
            "budget_tokens" => budget = r.maybe(Reader::integer)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(match (thinking, budget) {
        (Some(Reasoning::Adaptive(_)), Some(budget)) => Some(Reasoning::Budget(budget)),
        (thinking, _) => thinking,
    })
}
