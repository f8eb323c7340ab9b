//! What an answer took and what it cost, into the record.

use std::time::{Duration, Instant};

use super::ask::Ask;
use super::outcome::Meta;
use super::{Exchange, limits};
use crate::codec::json;
use crate::limit::Amount;
use crate::protocol::api::Api;
use crate::protocol::usage::Usage;
use crate::provider::{catalogue, cost};
use crate::routing::Candidate;

/// What is known of an answer when it has been sent.
pub struct Taken {
    pub usage: Option<Usage>,
    /// Who answered, as the provider says.
    pub model: Option<String>,
    pub output_chars: u64,
    /// The answer came to its proper end.
    pub complete: bool,
    /// Of a stream: from its first token to its end.
    pub generation: Option<Duration>,
}

/// Accounts an answer of the provider; returns what counts against limits.
///
/// Where the provider sent no usage, or was cut off before it sent all of it, what is missing is estimated from
/// what went over the wire, and marked so: providers bill what they made, not what arrived.
pub fn provider(x: &mut Exchange, ask: &Ask<'_>, meta: &Meta, taken: Taken) -> Amount {
    let guess = taken.output_chars.div_ceil(4);
    let mut usage = match taken.usage {
        Some(usage) if taken.complete => {
            let stats = &meta.candidate().stats;
            stats.finished(usage.output, taken.generation, Instant::now());
            usage
        }
        // Anthropic tells the input first and a first count of the output; the last count never came.
        Some(usage) => Usage {
            output: usage.output.max(guess),
            estimated: true,
            ..usage
        },
        // What was heard is billed by time, which bare text doesn't tell.
        None if matches!(ask.api, Api::Transcriptions | Api::Translations) => Usage {
            duration: Duration::from_secs(ask.estimate.audio_seconds),
            estimated: true,
            ..Usage::default()
        },
        None => Usage {
            input: ask.input_estimate(),
            output: guess,
            estimated: true,
            ..Usage::default()
        },
    };
    if usage.tier.is_none() && meta.protocol.is_openai() {
        usage.tier = asked_tier(ask);
    }
    let amount = limits::counted(ask, &usage);
    let (pico, unpriced) = price(meta, &usage, taken.model.as_deref());
    x.record.cost_pico = Some(pico);
    x.record.unpriced = unpriced;
    x.record.usage = Some(usage);
    amount
}

/// Accounts an answer that cost nothing because it was kept.
pub fn saved(x: &mut Exchange, usage: Option<Usage>, cost_pico: Option<u64>) {
    x.record.usage = usage;
    x.record.cost_pico = Some(0);
    x.record.saved_pico = cost_pico;
}

/// Returns the bill of `usage` in pico-dollars, and whether some of it has no known price.
fn price(meta: &Meta, usage: &Usage, model: Option<&str>) -> (u64, bool) {
    let reported = usage.reported.map(|pico| (pico, false));
    reported
        .or_else(|| priced(meta.candidate(), usage, model))
        .unwrap_or((0, true))
}

/// Returns the service tier that a client of OpenAI's protocols asks for. Many who copied them serve it and don't say
/// so in their answers.
pub fn asked_tier(ask: &Ask<'_>) -> Option<Box<str>> {
    const NAME: &str = "service_tier";
    if !ask.protocol.is_openai() {
        return None;
    }
    let mut members = ask.envelope.members.iter();
    let member = members.find(|member| json::key(ask.body, member) == NAME)?;
    let tier = json::string(ask.body, member.value.clone())?;
    (tier != "auto").then(|| tier.as_ref().into())
}

/// Returns the price of `usage` at `candidate` in pico-dollars where one is known, and whether it is incomplete.
///
/// The catalogue's price comes first; the configuration's is for what the catalogue doesn't price. Where neither
/// knows the name that was asked for, as with a deployment of Azure's, the `model` that answered tells the price.
pub fn priced(candidate: &Candidate, usage: &Usage, model: Option<&str>) -> Option<(u64, bool)> {
    if candidate.provider.demo {
        return Some((0, false));
    }
    let at = jiff::Timestamp::now();
    let known = candidate.entry.filter(|entry| !entry.price().unknown);
    let cost = match (known, &candidate.provider.price) {
        (Some(entry), _) => entry.cost(usage, at, candidate.region),
        (None, Some(rates)) => cost::cost(&rates.clone().into(), usage, at),
        (None, None) => {
            let answered = catalogue::model(&candidate.provider.catalogue, model?)?;
            answered.cost(usage, at, candidate.region)
        }
    };
    Some((cost.pico, cost.unpriced))
}
