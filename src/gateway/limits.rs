//! Limits on a request's path: what it is estimated at, and whether there is room, for the model that it asks for and
//! for each that is asked in its place.

use std::time::{Duration, Instant};

use super::ask::Ask;
use super::reply::Headers;
use super::{Core, Exchange};
use crate::error::{Error, Kind, Result};
use crate::limit::shared::Short;
use crate::limit::{Amount, Denied, Limited, Permit, RateHeaders};
use crate::protocol::api::Api;
use crate::protocol::envelope::Envelope;
use crate::protocol::usage::Usage;
use crate::routing::choose::Pick;

/// Speech is about this many characters a second, and a recording this many bytes (128 kbit/s).
const SPOKEN: u64 = 15;
const RECORDED: u64 = 16_000;
/// OpenAI's audio tokens of a second: heard, and spoken.
const TOKENS_HEARD: u64 = 10;
const TOKENS_SPOKEN: u64 = 20;

/// Redis is looked for about as often.
const AGAIN: Duration = Duration::from_secs(2);

/// Returns what a request is estimated at before it is answered.
pub fn estimate(api: Api, envelope: &Envelope<'_>, body: &[u8]) -> Amount {
    let bytes = body.len() as u64;
    Amount {
        tokens: envelope.estimate_tokens(),
        images: images(api, envelope),
        audio_seconds: match api {
            Api::Speech => bytes.div_ceil(SPOKEN),
            Api::Transcriptions | Api::Translations => bytes.div_ceil(RECORDED),
            Api::Chat
            | Api::CountTokens
            | Api::Embeddings
            | Api::Rerank
            | Api::Moderations
            | Api::Images
            | Api::ImageEdits => 0,
        },
    }
}

/// Returns what an answer counts against limits.
pub fn counted(ask: &Ask<'_>, usage: &Usage) -> Amount {
    Amount {
        tokens: usage.input.saturating_add(usage.output),
        // Most answers with images don't say how many.
        images: usage.images.max(images(ask.api, ask.envelope)),
        audio_seconds: audio_seconds(usage),
    }
}

fn images(api: Api, envelope: &Envelope<'_>) -> u64 {
    match api {
        Api::Images | Api::ImageEdits => envelope.n.unwrap_or(1).max(1),
        Api::Chat
        | Api::CountTokens
        | Api::Embeddings
        | Api::Rerank
        | Api::Moderations
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations => 0,
    }
}

/// Returns the seconds of audio: as they are billed, else by what is.
pub fn audio_seconds(usage: &Usage) -> u64 {
    if !usage.duration.is_zero() {
        return usage.duration.as_millis().div_ceil(1000) as u64;
    }
    if usage.characters > 0 {
        return usage.characters.div_ceil(SPOKEN);
    }
    usage.audio_in.div_ceil(TOKENS_HEARD) + usage.audio_out.div_ceil(TOKENS_SPOKEN)
}

/// Admits a request within `limited`. Their headers go with every answer.
pub async fn admit<'l>(
    limited: impl Iterator<Item = &'l Limited> + Clone,
    amount: Amount,
    headers: &mut Headers,
    x: &Exchange,
) -> Result<Permit> {
    let outcome = within(limited, amount, x.started, &x.core).await;
    let left = match &outcome {
        Ok(permit) => permit.headers(),
        Err(Short::Refused(denied)) => denied.headers,
        Err(Short::Away) => RateHeaders::default(),
    };
    left.put(headers);
    outcome.map_err(|short| refused(short, &x.core))
}

/// Admits a request within limits of a model that its body names, which is read while it passes.
pub async fn admit_further(limited: &Limited, x: &Exchange) -> Result<Permit> {
    let one = std::iter::once(limited);
    let outcome = within(one, Amount::default(), Instant::now(), &x.core).await;
    outcome.map_err(|short| refused(short, &x.core))
}

/// Admits by this node's own count, and by that of all nodes.
async fn within<'l>(
    limited: impl Iterator<Item = &'l Limited> + Clone,
    amount: Amount,
    now: Instant,
    core: &Core,
) -> Result<Permit, Short<Denied>> {
    let admitted = core.limiter.admit_all(limited.clone(), amount, now);
    let mut permit = admitted.map_err(Short::Refused)?;
    if let Some(shared) = &core.shared {
        match Box::pin(shared.limits(limited, amount)).await {
            Ok(lot) => permit.share(lot),
            Err(short) => {
                permit.undo();
                return Err(short);
            }
        }
    }
    Ok(permit)
}

/// [`within`] without waiting for anything.
fn within_at_once<'l>(
    limited: impl Iterator<Item = &'l Limited> + Clone,
    amount: Amount,
    core: &Core,
) -> Result<Permit, Short<Denied>> {
    let admitted = core
        .limiter
        .admit_all(limited.clone(), amount, Instant::now());
    let mut permit = admitted.map_err(Short::Refused)?;
    if let Some(shared) = &core.shared {
        match shared.limits_at_once(limited, amount) {
            Ok(lot) => permit.share(lot),
            Err(short) => {
                permit.undo();
                return Err(short);
            }
        }
    }
    Ok(permit)
}

fn refused(short: Short<Denied>, core: &Core) -> Error {
    match short {
        Short::Refused(denied) => {
            core.metrics.rate_limited(denied.which.name());
            denied.into()
        }
        Short::Away => away("Limits"),
    }
}

/// Returns what is said where requests are refused while Redis is away.
pub fn away(what: &str) -> Error {
    let message = format!("{what} can't be counted now: what nodes share is away (state.shared).");
    Error::new(Kind::StateUnavailable, message).with_retry_after(AGAIN)
}

/// Admits a request at one who is asked for it, where limits hold for that model and not for the one that it named.
/// `None`: there are none.
pub async fn admit_at(ask: &Ask<'_>, pick: &Pick<'_>, core: &Core) -> Result<Option<Permit>> {
    let limited = binding(ask, pick);
    if limited.is_empty() {
        return Ok(None);
    }
    let limited = limited.iter().copied();
    let outcome = within(limited, ask.estimate, Instant::now(), core).await;
    outcome.map(Some).map_err(|short| refused(short, core))
}

/// [`admit_at`] without waiting for anything: where every request asks Redis, nobody is asked beside another at a model
/// that has limits of its own.
pub fn admit_at_once(ask: &Ask<'_>, pick: &Pick<'_>, core: &Core) -> Result<Option<Permit>> {
    let limited = binding(ask, pick);
    if limited.is_empty() {
        return Ok(None);
    }
    let outcome = within_at_once(limited.iter().copied(), ask.estimate, core);
    outcome.map(Some).map_err(|short| refused(short, core))
}

/// What a target was admitted within. Dropped before there is an answer it gives back what was estimated.
#[derive(Default)]
pub struct Admission {
    pub asked: bool,
    permit: Option<Permit>,
}

impl Admission {
    pub fn of(permit: Option<Permit>) -> Self {
        Self {
            asked: true,
            permit,
        }
    }

    pub fn take(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// Another target has answered, which was admitted within `other`; or the same one, by another address.
    pub fn pass_to(&mut self, other: &mut Self) {
        if other.asked {
            std::mem::swap(self, other);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.cancel();
        }
    }
}

/// Returns which limits hold for one who is asked.
fn binding<'l>(ask: &Ask<'l>, pick: &Pick<'_>) -> Vec<&'l Limited> {
    if ask.limited.is_empty() {
        return Vec::new();
    }
    let candidate = pick.candidate();
    let via = pick.route.leaves[pick.target].via.as_deref();
    let names = [
        &*pick.route.name,
        via.unwrap_or_default(),
        &*candidate.name,
        &*candidate.model,
    ];
    let limited = ask.limited.iter().copied();
    limited.filter(|limited| limited.counts(&names)).collect()
}
