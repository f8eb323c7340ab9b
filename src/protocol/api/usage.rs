//! What an answer took, in the units that it is billed by.

use std::time::Duration;

use super::{Api, count, embeddings, member, rerank};
use crate::codec::json;
use crate::protocol::Protocol;
use crate::protocol::usage::{Usage, bill, decimal};

/// Returns what an answer of `from` took; `None` where neither it nor its request tells.
///
/// `request_body` may be the client's or the one that was sent. Of a stream the last events are enough, cut anywhere
/// before them. What had to be estimated says so.
pub fn usage(api: Api, from: Protocol, request_body: &[u8], answer: &[u8]) -> Option<Usage> {
    let mut usage = taken(api, from, request_body, answer)?;
    if usage.reported.is_none() && answer.first() == Some(&b'{') {
        usage.reported = member(answer, "usage").and_then(bill);
    }
    Some(usage)
}

fn taken(api: Api, from: Protocol, request_body: &[u8], answer: &[u8]) -> Option<Usage> {
    match api {
        Api::Chat => None,
        // Free, at everyone's.
        Api::CountTokens | Api::Moderations => Some(Usage::default()),
        Api::Embeddings => embedded(from, request_body, answer),
        Api::Rerank => {
            let (queries, input, told) = rerank::told(from, request_body, answer)?;
            Some(Usage {
                queries,
                input,
                estimated: !told,
                ..Usage::default()
            })
        }
        Api::Images | Api::ImageEdits if from == Protocol::Gemini => super::images::usage(answer),
        Api::Images | Api::ImageEdits => images(answer),
        Api::Speech => spoken(request_body, answer),
        Api::Transcriptions | Api::Translations => heard(answer),
    }
}

fn embedded(from: Protocol, request_body: &[u8], answer: &[u8]) -> Option<Usage> {
    if let Some(input) = embeddings::told(from, answer) {
        let mut usage = Usage {
            input,
            ..Usage::default()
        };
        usage.image_in = image_tokens(answer).min(input);
        return Some(usage);
    }
    // The request may be in the client's dialect or the provider's, and Bedrock's is no client's.
    let input = Protocol::ALL
        .into_iter()
        .filter(|family| !matches!(family, Protocol::Anthropic | Protocol::Bedrock))
        .find_map(|family| embeddings::read(family, request_body).ok())
        .map(|request| embeddings::estimate(&request));
    Some(Usage {
        input: input?,
        estimated: true,
        ..Usage::default()
    })
}

/// Returns the tokens of images: Cohere's billed ones, or those of Gemini's details.
fn image_tokens(answer: &[u8]) -> u64 {
    if let Some(meta) = member(answer, "meta") {
        return count(meta, &["billed_units", "image_tokens"]).unwrap_or(0);
    }
    let details = member(answer, "usageMetadata").and_then(|usage| {
        member(usage, "promptTokenDetails").or_else(|| member(usage, "promptTokensDetails"))
    });
    let Some(details) = details else { return 0 };
    let mut sum = 0u64;
    let mut scanner = json::Scanner::new(details, usize::MAX);
    let _ = scanner.array(|scanner| {
        let one = &details[scanner.skip()?];
        if member(one, "modality") == Some(br#""IMAGE""#) {
            sum = sum.saturating_add(count(one, &["tokenCount"]).unwrap_or(0));
        }
        Ok(())
    });
    sum
}

fn images(answer: &[u8]) -> Option<Usage> {
    let mut usage = Usage::default();
    // A stream tells it with the last image.
    let whole = if answer.first() == Some(&b'{') {
        Some(answer)
    } else {
        events(answer)
            .filter(|data| member(data, "usage").is_some())
            .last()
    };
    let whole = whole?;
    let told = member(whole, "usage").is_some_and(|json| usage.read_openai_images(json));
    let mut images = 0u64;
    if let Some(data) = member(whole, "data") {
        let mut scanner = json::Scanner::new(data, usize::MAX);
        let _ = scanner.array(|scanner| {
            scanner.pass()?;
            images += 1;
            Ok(())
        });
    } else if told {
        images = 1;
    }
    usage.images = images;
    (told || images > 0).then_some(usage)
}

fn spoken(request_body: &[u8], answer: &[u8]) -> Option<Usage> {
    let mut usage = Usage::default();
    // Only events tell; in sound there are none.
    for data in events(answer) {
        if let Some(json) = member(data, "usage")
            && usage.read_openai_responses(json)
        {
            usage.audio_out = usage.output;
        }
    }
    let input = member(request_body, "input")?;
    let characters = json::string(input, 0..input.len())?.chars().count();
    usage.characters = characters as u64;
    Some(usage)
}

fn heard(answer: &[u8]) -> Option<Usage> {
    let mut usage = Usage::default();
    let start = answer.iter().find(|byte| !byte.is_ascii_whitespace());
    if start == Some(&b'{') {
        return heard_of(answer, &mut usage).then_some(usage);
    }
    let mut told = false;
    for data in events(answer) {
        told |= heard_of(data, &mut usage);
    }
    if told {
        return Some(usage);
    }
    usage.duration = subtitles(answer)?;
    usage.estimated = true;
    Some(usage)
}

fn heard_of(json: &[u8], usage: &mut Usage) -> bool {
    if let Some(told) = member(json, "usage")
        && usage.read_openai_responses(told)
    {
        return true;
    }
    // `verbose_json` has a number, older ones a string of one.
    let Some(duration) = member(json, "duration")
        .or_else(|| member(json, "x_groq").and_then(|groq| member(groq, "duration")))
    else {
        return false;
    };
    let text = std::str::from_utf8(duration).unwrap_or_default();
    match decimal(text.trim_matches('"'), 3) {
        Some(millis) if millis > 0 => {
            usage.duration = Duration::from_millis(millis);
            true
        }
        Some(_) | None => false,
    }
}

/// Returns the end of the last subtitle (SRT or VTT): speech is at least that long.
fn subtitles(answer: &[u8]) -> Option<Duration> {
    let at = memchr::memmem::rfind(answer, b"-->")?;
    let line = answer[at + 3..].split(|byte| *byte == b'\n').next()?;
    let end = std::str::from_utf8(line).ok()?.split_whitespace().next()?;
    let mut millis = 0u64;
    for (place, part) in end.rsplit(':').enumerate() {
        let unit = match place {
            0 => decimal(&part.replace(',', "."), 3)?,
            1 => part.parse::<u64>().ok()?.checked_mul(60_000)?,
            2 => part.parse::<u64>().ok()?.checked_mul(3_600_000)?,
            _ => return None,
        };
        millis = millis.checked_add(unit)?;
    }
    Some(Duration::from_millis(millis))
}

/// Returns the data of server-sent events, each on its one line.
fn events(answer: &[u8]) -> impl Iterator<Item = &[u8]> {
    answer
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"data:"))
        .map(<[u8]>::trim_ascii)
}
