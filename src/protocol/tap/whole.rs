//! A whole answer, read without a tree.

use std::ops::Range;

use super::chunk::{finish_reason, is_broken, name, stop_reason, told};
use crate::codec::json::{self, JsonError, Scanner};
use crate::protocol::chat::{Finish, Response};
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape};

/// What a whole answer tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whole {
    pub usage: Option<Usage>,
    pub model: Option<String>,
    pub finish: Option<Finish>,
    pub service_tier: Option<String>,
    /// An error, whatever the status said.
    pub is_error: bool,
    /// The answer ran into a limit.
    pub truncated: bool,
    /// It looks like an answer of this protocol.
    pub is_answer: bool,
}

impl Whole {
    /// Returns what an answer tells that went through the hub.
    pub fn of(response: &Response<'_>) -> Self {
        let tier = response.service_tier.as_deref();
        let usage = response.usage.clone().map(|usage| Usage {
            tier: usage.tier.clone().or_else(|| tier.map(Into::into)),
            ..usage
        });
        Self {
            usage,
            model: Some(response.model.clone().into_owned()),
            finish: Some(response.finish),
            service_tier: tier.map(str::to_owned),
            is_error: false,
            truncated: matches!(response.finish, Finish::Length | Finish::ContextWindow),
            is_answer: true,
        }
    }
}

#[derive(Default)]
struct Places {
    usage: Option<Range<usize>>,
    elsewhere: Option<Range<usize>>,
    model: Option<Range<usize>>,
    tier: Option<Range<usize>>,
}

/// Reads a whole answer of `protocol`. What isn't JSON is no answer.
pub fn whole(protocol: Protocol, body: &[u8]) -> Whole {
    let mut whole = Whole::default();
    let mut places = Places::default();
    let read = match protocol {
        Protocol::OpenaiChat => openai(body, &mut whole, &mut places),
        Protocol::Anthropic => anthropic(body, &mut whole, &mut places),
        Protocol::Gemini => {
            super::gemini::whole(body, &mut whole).map(|model| places.model = model)
        }
        Protocol::OpenaiResponses => {
            super::responses::whole(body, &mut whole).map(|model| places.model = model)
        }
        Protocol::OpenaiCompletions => {
            super::completions::whole(body, &mut whole).map(|model| places.model = model)
        }
        Protocol::Bedrock | Protocol::Cohere | Protocol::Ollama => {
            let response = crate::protocol::decode_response(protocol, body, &Shape::default());
            return response.map_or_else(|_| Whole::default(), |response| Whole::of(&response));
        }
    };
    if read.is_err() {
        return Whole::default();
    }
    let text = |range: Option<Range<usize>>| {
        let text = json::string(body, range?)?;
        (!text.is_empty()).then(|| text.into_owned())
    };
    whole.model = text(places.model);
    whole.service_tier = text(places.tier).or(whole.service_tier);
    let mut usage = Usage::default();
    let json = places
        .usage
        .or(places.elsewhere)
        .map(|range| &body[range])
        .unwrap_or_default();
    match protocol {
        Protocol::OpenaiChat if usage.read_openai_chat(json) => {
            usage.tier = whole.service_tier.as_deref().map(Into::into);
            whole.usage = Some(usage);
        }
        Protocol::Anthropic if usage.read_anthropic(json) => {
            whole.service_tier = usage.tier.as_deref().map(str::to_owned);
            whole.usage = Some(usage);
        }
        Protocol::OpenaiChat
        | Protocol::Anthropic
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Gemini
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => {}
    }
    whole.is_answer &= !whole.is_error;
    whole
}

fn openai(body: &[u8], whole: &mut Whole, places: &mut Places) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(body, usize::MAX);
    scanner.object(|scanner, key| {
        match &*name(body, key) {
            b"choices" if scanner.peek() == Some(b'[') => {
                scanner.array(|scanner| choice(body, scanner, whole, places))?;
            }
            b"usage" => places.usage = object(body, scanner)?,
            b"x_groq" if scanner.peek() == Some(b'{') => scanner.object(|scanner, key| {
                if &*name(body, key) == b"usage" {
                    places.elsewhere = object(body, scanner)?;
                    return Ok(());
                }
                scanner.pass()
            })?,
            b"model" => places.model = Some(scanner.skip()?),
            b"service_tier" => places.tier = Some(scanner.skip()?),
            b"error" => whole.is_error |= told(&body[scanner.skip()?]),
            _ => scanner.pass()?,
        }
        Ok(())
    })?;
    scanner.end()
}

fn choice(
    body: &[u8],
    scanner: &mut Scanner<'_>,
    whole: &mut Whole,
    places: &mut Places,
) -> Result<(), JsonError> {
    if scanner.peek() != Some(b'{') {
        return scanner.pass();
    }
    whole.is_answer = true;
    scanner.object(|scanner, key| {
        match &*name(body, key) {
            b"finish_reason" => {
                let value = scanner.skip()?;
                let reason = json::string(body, value).unwrap_or_default();
                whole.is_error |= is_broken(&reason);
                if let Some(finish) = finish_reason(&reason) {
                    whole.truncated |= finish == Finish::Length;
                    whole.finish.get_or_insert(finish);
                }
            }
            b"usage" => places.elsewhere = object(body, scanner)?,
            b"error" => whole.is_error |= told(&body[scanner.skip()?]),
            _ => scanner.pass()?,
        }
        Ok(())
    })
}

fn anthropic(body: &[u8], whole: &mut Whole, places: &mut Places) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(body, usize::MAX);
    scanner.object(|scanner, key| {
        match &*name(body, key) {
            b"type" => {
                let value = scanner.skip()?;
                whole.is_error |= json::string(body, value).is_some_and(|kind| kind == "error");
            }
            b"content" => {
                let value = scanner.skip()?;
                whole.is_answer = body[value.start] == b'[';
            }
            b"stop_reason" => {
                let value = scanner.skip()?;
                whole.finish = json::string(body, value).and_then(|reason| stop_reason(&reason));
                whole.truncated =
                    matches!(whole.finish, Some(Finish::Length | Finish::ContextWindow));
            }
            b"usage" => places.usage = object(body, scanner)?,
            b"model" => places.model = Some(scanner.skip()?),
            b"error" => whole.is_error |= told(&body[scanner.skip()?]),
            _ => scanner.pass()?,
        }
        Ok(())
    })?;
    scanner.end()
}

/// Reads a value, and returns where it is when it is an object.
fn object(body: &[u8], scanner: &mut Scanner<'_>) -> Result<Option<Range<usize>>, JsonError> {
    let value = scanner.skip()?;
    Ok((body[value.start] == b'{').then_some(value))
}
