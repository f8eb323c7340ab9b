//! Requests: a prompt as a conversation of one message, and such a conversation as a prompt.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::protocol::chat::{Format, Message, Part, Reasoning, Request, Role, Str, ToolChoice};
use crate::protocol::notes::{Notes, format_field, refuse_foreign, stop_field};
use crate::protocol::text::{self, Object, Reader};
use crate::protocol::{Facts, Protocol, Translated};

/// OpenAI takes no more stop sequences than this.
const STOP_MAX: usize = 4;

/// Decodes a request. Unknown top-level fields are kept in `extra`.
///
/// Errors: `InvalidRequest` naming the field that is missing or has the wrong type; `Unsupported` naming what can be
/// said in this protocol alone, as whoever passes a request on does not ask for it here.
pub fn decode(body: &[u8]) -> Result<Request<'_>> {
    let mut request = Request::blank(Protocol::OpenaiCompletions);
    let mut prompt = None;
    let mut reader = Reader::new(body)?;
    reader.object(|r, key| {
        if r.peek() == b'n' {
            return r.raw().map(drop);
        }
        match &*key {
            "model" => request.model = r.string()?,
            "prompt" => prompt = Some(self::prompt(r)?),
            "max_tokens" => request.max_output = Some(r.integer()?),
            "temperature" => request.temperature = Some(r.number()?),
            "top_p" => request.top_p = Some(r.number()?),
            "n" => request.n = Some(r.integer()?),
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
            "stop" => request.stop = stop(r)?,
            "presence_penalty" => request.presence_penalty = Some(r.number()?),
            "frequency_penalty" => request.frequency_penalty = Some(r.number()?),
            "logit_bias" => request.logit_bias = Some(r.raw_object()?),
            "seed" => request.seed = Some(r.signed()?),
            "user" => request.user = Some(r.string()?),
            "suffix" => {
                if !r.string()?.is_empty() {
                    return Err(alone("suffix", "the text that follows the answer"));
                }
            }
            "logprobs" => {
                r.integer()?;
                return Err(alone("logprobs", "log probabilities of this shape"));
            }
            "echo" => {
                if r.boolean()? {
                    return Err(alone("echo", "the prompt at the head of the answer"));
                }
            }
            "best_of" => {
                if r.integer()? > 1 {
                    return Err(alone("best_of", "the best of several answers"));
                }
            }
            _ => request.extra.push((key, r.raw()?)),
        }
        Ok(())
    })?;
    reader.finish()?;
    let text = prompt.ok_or_else(|| reader.missing("prompt"))?;
    if request.stream && request.n.is_some_and(|n| n > 1) {
        return Err(alone("n", "several answers in one stream"));
    }
    request.messages.push(Message {
        role: Role::User,
        parts: vec![Part::Text {
            text: text.into(),
            cache: None,
            citations: None,
        }],
        name: None,
    });
    request.extra.extend(reader.strangers());
    Ok(request)
}

fn alone(field: &'static str, what: &str) -> Error {
    Error::unsupported(
        field,
        format!("`{field}` can't be said to the provider of the model: it knows no {what}"),
    )
}

/// Reads the one prompt of a request.
fn prompt<'b>(r: &mut Reader<'b>) -> Result<Str<'b>> {
    const WHAT: &str = "a string or an array of strings";
    match r.peek() {
        b'"' => return r.string(),
        b'[' => {}
        _ => return Err(r.wrong(WHAT)),
    }
    let (mut first, mut count) = (None, 0u64);
    r.array(|r| {
        count += 1;
        match r.peek() {
            b'"' if first.is_none() => first = Some(r.string()?),
            b'"' => drop(r.string()?),
            b'[' | b'0'..=b'9' => {
                return Err(Error::unsupported(
                    "prompt",
                    "A prompt of tokens can't be said to the provider of the model; send its text",
                ));
            }
            _ => return Err(r.wrong("a string")),
        }
        Ok(())
    })?;
    match (first, count) {
        (Some(text), 1) => Ok(text),
        (Some(_), _) => Err(Error::unsupported(
            "prompt",
            "The provider of the model takes one prompt at a time; send one request for each",
        )),
        (None, _) => Err(r.misfit("an array of at least one string")),
    }
}

fn stop<'b>(r: &mut Reader<'b>) -> Result<Vec<Str<'b>>> {
    match r.peek() {
        b'"' => Ok(vec![r.string()?]),
        b'[' => r.list(Reader::string),
        _ => Err(r.wrong("a string or an array of strings")),
    }
}

/// Encodes a request for `model`, the provider's own id. A stream always asks for its usage.
///
/// Errors: `Unsupported`, naming the client's field, for all but one text of one user.
pub fn encode(request: &Request<'_>, model: &str, facts: &Facts) -> Result<Translated> {
    let mut notes = Notes::default();
    let ours = request.family == Protocol::OpenaiCompletions;
    if !ours {
        refuse_foreign(request)?;
    }
    refuse(request)?;
    let prompt = the_text(request, ours, &mut notes)?;
    let mut out = Vec::with_capacity(prompt.len() + 256);
    let mut object = Object::open(&mut out);
    object.string("model", model);
    object.string("prompt", &prompt);
    if let Some(asked) = request.max_output {
        // Anthropic's clients must name a number, and name one that suits Anthropic's models.
        let most = facts.max_output.filter(|most| !ours && *most < asked);
        if most.is_some() {
            notes.add("max_tokens above the model's limit");
        }
        object.integer("max_tokens", most.unwrap_or(asked).into());
    }
    for (name, value) in [
        ("temperature", request.temperature),
        ("top_p", request.top_p),
    ] {
        if let Some(value) = value {
            if facts.no_sampling {
                notes.add(name);
            } else {
                object.number(name, value);
            }
        }
    }
    for (name, value) in [
        ("frequency_penalty", request.frequency_penalty),
        ("presence_penalty", request.presence_penalty),
    ] {
        if let Some(value) = value {
            object.number(name, value);
        }
    }
    if let Some(n) = request.n {
        object.integer("n", n.into());
    }
    if !request.stop.is_empty() {
        let list = object.key("stop");
        list.push(b'[');
        let start = list.len();
        for stop in &request.stop {
            text::comma(start, list);
            text::string(stop, list);
        }
        list.push(b']');
    }
    object.maybe_raw("logit_bias", request.logit_bias);
    if let Some(seed) = request.seed {
        let out = object.key("seed");
        if seed < 0 {
            out.push(b'-');
        }
        text::integer(seed.unsigned_abs(), out);
    }
    object.maybe_string("user", request.user.as_deref());
    if request.stream {
        object.boolean("stream", true);
        object
            .key("stream_options")
            .extend_from_slice(b"{\"include_usage\":true}");
    }
    for (name, raw) in &request.extra {
        // Unknown fields further down are here by their path, and have no place to go back to.
        if ours && !name.contains(['[', '.']) {
            let out = object.foreign_key(name);
            out.extend_from_slice(raw.get().as_bytes());
        } else {
            notes.add(name);
        }
    }
    object.close();
    drop_rest(request, &mut notes);
    Ok(Translated {
        body: out,
        dropped: notes.0,
        schema_tool: false,
    })
}

const WHO: &str = "A model that completes text";

/// Refuses what would change the answer's meaning if it were left out.
fn refuse(request: &Request<'_>) -> Result<()> {
    let may_call = !matches!(request.tool_choice, Some(ToolChoice::None));
    if !request.tools.is_empty() && may_call {
        return Err(Error::unsupported("tools", format!("{WHO} calls no tools")));
    }
    match request.format {
        None | Some(Format::Text) => {}
        Some(Format::JsonObject | Format::JsonSchema { .. }) => {
            return Err(Error::unsupported(
                format_field(request.family),
                format!("{WHO} can't be held to a form"),
            ));
        }
    }
    if let Some(field) = crate::protocol::notes::logprobs(request) {
        return Err(Error::unsupported(
            field,
            format!("{WHO} tells log probabilities in another shape"),
        ));
    }
    if request.stream && request.n.is_some_and(|n| n > 1) {
        return Err(Error::unsupported(
            "n",
            "One stream tells one answer; ask without `stream` for several",
        ));
    }
    if request.stop.len() > STOP_MAX {
        return Err(Error::unsupported(
            stop_field(request.family),
            format!("the provider of the model takes at most {STOP_MAX} stop sequences"),
        ));
    }
    Ok(())
}

/// Returns the only text of a conversation of one user message.
fn the_text<'r>(request: &'r Request<'_>, ours: bool, notes: &mut Notes) -> Result<Cow<'r, str>> {
    let list = conversation(request.family);
    let refuse = || {
        let message = format!(
            "{WHO} takes one text of one user: no other messages, no instructions, no images or files"
        );
        Error::unsupported(list, message)
    };
    let [
        Message {
            role: Role::User,
            parts,
            name,
        },
    ] = request.messages.as_slice()
    else {
        let mut error = refuse();
        // Where instructions stand apart, it is they who are too many.
        if !request.messages.is_empty() && crate::protocol::notes::place(request, 0) == "system" {
            error.param = Some("system".into());
        }
        return Err(error);
    };
    if name.is_some() {
        notes.add("name");
    }
    let mut all: Option<Cow<'r, str>> = None;
    for part in parts {
        let Part::Text { text, cache, .. } = part else {
            return Err(refuse());
        };
        if cache.is_some() && !ours {
            notes.add("cache_control");
        }
        match &mut all {
            Some(all) => {
                all.to_mut().push('\n');
                all.to_mut().push_str(text);
            }
            None => all = Some(Cow::Borrowed(text)),
        }
    }
    all.ok_or_else(refuse)
}

/// Names what changes nothing essential when it is left out.
fn drop_rest(request: &Request<'_>, notes: &mut Notes) {
    let thinks = !matches!(request.reasoning, None | Some(Reasoning::Off));
    let tier = request.service_tier.as_deref();
    for (given, name) in [
        (!request.tools.is_empty(), "tools (tool_choice is none)"),
        (request.tool_choice.is_some(), "tool_choice"),
        (request.parallel_tools.is_some(), "parallel_tool_calls"),
        (request.top_k.is_some(), "top_k"),
        (thinks, thinking_field(request.family)),
        (request.verbosity.is_some(), "verbosity"),
        (request.metadata.is_some(), "metadata"),
        (tier.is_some_and(|tier| tier != "auto"), "service_tier"),
    ] {
        if given {
            notes.add(name);
        }
    }
}

/// Returns what the client calls the conversation.
fn conversation(family: Protocol) -> &'static str {
    match family {
        Protocol::OpenaiChat
        | Protocol::Anthropic
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => "messages",
        Protocol::OpenaiResponses => "input",
        Protocol::OpenaiCompletions => "prompt",
        Protocol::Gemini => "contents",
    }
}

/// Returns what the client calls the effort to think with.
fn thinking_field(family: Protocol) -> &'static str {
    match family {
        Protocol::OpenaiChat | Protocol::OpenaiCompletions => "reasoning_effort",
        Protocol::OpenaiResponses => "reasoning",
        Protocol::Anthropic | Protocol::Cohere => "thinking",
        Protocol::Bedrock => "additionalModelRequestFields",
        Protocol::Gemini => "generationConfig.thinkingConfig",
        Protocol::Ollama => "think",
    }
}
