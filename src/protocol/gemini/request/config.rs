//! `generationConfig` into the hub.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::content;
use super::super::words::camel;
use crate::error::Result;
use crate::protocol::chat::{Effort, Format, Reasoning, Request, Str};
use crate::protocol::text::Reader;

/// What it says, until the whole is known.
#[derive(Debug, Default)]
pub(super) struct Config<'b> {
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u32>,
    n: Option<u32>,
    max_output: Option<u32>,
    stop: Vec<Str<'b>>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    seed: Option<i64>,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
    media: Option<(Str<'b>, &'b RawValue)>,
    schema: Option<&'b RawValue>,
    reasoning: Option<Reasoning>,
    extra: Vec<(Str<'b>, &'b RawValue)>,
}

pub(super) fn read<'b>(r: &mut Reader<'b>) -> Result<Config<'b>> {
    let mut config = Config::default();
    r.object(|r, key| {
        match &*camel(&key) {
            "temperature" => config.temperature = r.maybe(Reader::number)?,
            "topP" => config.top_p = r.maybe(Reader::number)?,
            "topK" => config.top_k = r.maybe(whole)?,
            "candidateCount" => config.n = r.maybe(whole)?,
            "maxOutputTokens" => config.max_output = r.maybe(whole)?,
            "stopSequences" => {
                config.stop = r
                    .maybe(|r| content::list(r, Reader::string))?
                    .unwrap_or_default();
            }
            "presencePenalty" => config.presence_penalty = r.maybe(Reader::number)?,
            "frequencyPenalty" => config.frequency_penalty = r.maybe(Reader::number)?,
            "seed" => config.seed = r.maybe(Reader::signed)?,
            "responseLogprobs" => config.logprobs = r.maybe(Reader::boolean)?,
            "logprobs" => config.top_logprobs = r.maybe(whole)?,
            "responseMimeType" => {
                let mark = r.mark();
                let media = r.maybe(Reader::string)?;
                r.back(mark);
                let raw = r.raw()?;
                config.media = media.map(|media| (media, raw));
            }
            "responseSchema" | "responseJsonSchema" => {
                config.schema = r.maybe(Reader::raw_object)?.or(config.schema);
            }
            "thinkingConfig" => {
                if let Some(reasoning) = r.maybe(|r| thinking(r, &mut config.extra))? {
                    config.reasoning = reasoning;
                }
            }
            name => config.stranger(name, r)?,
        }
        Ok(())
    })?;
    Ok(config)
}

/// Reads a whole number in any of the ways in which protocol buffers write it: `40`, `40.0`, `"40"`.
pub(super) fn whole(r: &mut Reader<'_>) -> Result<u32> {
    let mark = r.mark();
    let number = match r.peek() {
        b'"' => r.string()?.parse().unwrap_or(f64::NAN),
        _ => r.number()?,
    };
    if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
        return Ok(number as u32);
    }
    r.back(mark);
    Err(r.wrong("an integer from 0 to 4294967295"))
}

/// Reads how much to think; `includeThoughts` alone leaves that to the model.
fn thinking<'b>(
    r: &mut Reader<'b>,
    extra: &mut Vec<(Str<'b>, &'b RawValue)>,
) -> Result<Option<Reasoning>> {
    let (mut budget, mut level, mut shown) = (None, None, false);
    r.object(|r, key| {
        match &*camel(&key) {
            "thinkingBudget" => budget = r.maybe(Reader::signed)?,
            "thinkingLevel" => {
                let mark = r.mark();
                let word = r.maybe(Reader::string)?;
                level = word.as_deref().and_then(level_of);
                r.back(mark);
                let raw = r.raw()?;
                if word.is_some() && level.is_none() {
                    extra.push(("generationConfig.thinkingConfig.thinkingLevel".into(), raw));
                }
            }
            name => {
                let raw = r.raw()?;
                shown |= name == "includeThoughts" && raw.get() == "true";
                if raw.get() != "null" {
                    let path = format!("generationConfig.thinkingConfig.{name}");
                    extra.push((path.into(), raw));
                }
            }
        }
        Ok(())
    })?;
    Ok(match (level, budget) {
        (Some(effort), _) => Some(Reasoning::Effort(effort)),
        (None, Some(0)) => Some(Reasoning::Off),
        (None, Some(budget)) => Some(
            // -1 leaves it to the model.
            u32::try_from(budget).map_or(Reasoning::Adaptive(None), Reasoning::Budget),
        ),
        (None, None) => shown.then_some(Reasoning::Adaptive(None)),
    })
}

fn level_of(word: &str) -> Option<Effort> {
    Some(match word.to_ascii_uppercase().as_str() {
        "MINIMAL" => Effort::Minimal,
        "LOW" => Effort::Low,
        "MEDIUM" => Effort::Medium,
        "HIGH" => Effort::High,
        "XHIGH" => Effort::Xhigh,
        _ => return None,
    })
}

impl<'b> Config<'b> {
    fn stranger(&mut self, name: &str, r: &mut Reader<'b>) -> Result<()> {
        let raw = r.raw()?;
        if raw.get() != "null" {
            self.extra
                .push((format!("generationConfig.{name}").into(), raw));
        }
        Ok(())
    }

    /// Puts all of it into the request.
    pub fn fill(self, request: &mut Request<'b>) {
        request.temperature = self.temperature;
        request.top_p = self.top_p;
        request.top_k = self.top_k;
        request.n = self.n;
        request.max_output = self.max_output;
        request.stop = self.stop;
        request.presence_penalty = self.presence_penalty;
        request.frequency_penalty = self.frequency_penalty;
        request.seed = self.seed;
        request.logprobs = self.logprobs;
        request.top_logprobs = self.top_logprobs;
        request.reasoning = self.reasoning;
        request.extra.extend(self.extra);
        let media = self.media.as_ref().map_or("", |(media, _)| media);
        request.format = match (self.schema, media) {
            (Some(schema), "application/json" | "") => Some(Format::JsonSchema {
                name: None,
                description: None,
                schema,
                strict: None,
            }),
            (None, "application/json") => Some(Format::JsonObject),
            (None, "" | "text/plain") => None,
            // One of a list of words, or a form not known here.
            (schema, _) => {
                let raw = self.media.map(|(_, raw)| raw);
                for (name, raw) in [("responseMimeType", raw), ("responseSchema", schema)] {
                    if let Some(raw) = raw {
                        let name = Cow::Owned(format!("generationConfig.{name}"));
                        request.extra.push((name, raw));
                    }
                }
                None
            }
        };
    }
}
