//! What the client gets when nothing answered: who was tried and why each failed, and when to ask again.

use std::time::{Duration, Instant};

use super::Hunt;
use crate::error::{Error, Kind};
use crate::gateway::outcome::Lost;
use crate::protocol::api::Api;
use crate::routing::choose::Pick;
use crate::routing::{Candidate, Scope, Standing};

/// Of the failures so many are told.
const MOST_TOLD: usize = 8;
/// Of a target's endpoints, and of its credentials, so many are looked at.
const MOST_LOOKED: usize = 64;
/// The wait that is named where nothing is known to stand against asking again.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// A failed attempt, as the client may know of it: no address, no name of a credential, and no words of the
/// provider's, which may name our account.
pub(super) struct Fault {
    /// `provider/model`
    who: String,
    why: String,
    kind: Kind,
}

impl Fault {
    pub fn new(
        candidate: &Candidate,
        outcome: &'static str,
        status: Option<u16>,
        kind: Kind,
    ) -> Self {
        let why = match status {
            Some(status) => format!("status {status}"),
            None => phrase(outcome).to_owned(),
        };
        Self {
            who: who(candidate),
            why,
            kind,
        }
    }

    /// Of a request that can't be said to it: the reason is in the client's own terms.
    pub fn unsaid(candidate: &Candidate, error: &Error) -> Self {
        Self {
            who: who(candidate),
            why: error.message.trim_end_matches('.').to_owned(),
            kind: error.kind,
        }
    }
}

fn who(candidate: &Candidate) -> String {
    format!("{}/{}", candidate.provider.name, candidate.model)
}

/// Says an outcome of the records in words.
fn phrase(outcome: &'static str) -> &'static str {
    match outcome {
        "resolve" => "its name has no address",
        "connect" => "no connection",
        "tls" => "no TLS connection",
        "send" => "it closed the connection while the request was sent",
        "timeout_connect" => "timed out (timer: connect)",
        "timeout_first_byte" => "timed out (timer: first_byte)",
        "timeout_idle" => "timed out (timer: idle)",
        "timeout_total" => "timed out (timer: total)",
        "error_event" => "an error in place of an answer",
        "empty" => "an empty answer",
        "cut" => "it closed the connection",
        "garbage" => "not an answer",
        "account" => "the gateway could not sign in",
        other => other,
    }
}

impl Hunt<'_> {
    /// Returns what the client gets when nothing answered.
    ///
    /// Of one target it is that one's own words where they may be shown; of several, what became of each.
    pub(super) fn give_up(&mut self) -> Lost {
        let now = Instant::now();
        let wait = self.recovery(now).max(LEAST_WAIT);
        let Some(mut lost) = self.last.take() else {
            if let Some(denied) = self.denied.take() {
                return denied.into();
            }
            return self.unasked(wait, now).into();
        };
        let alone = self
            .trail
            .iter()
            .all(|fault| fault.who == self.trail[0].who);
        if !alone {
            lost.verbatim = None;
            lost.error.kind = together(&self.trail);
            let summary = format!("No target could answer. Tried: {}", told(&self.trail));
            lost.error.message = summary.into();
            lost.error.retry_after = None;
        } else if lost.verbatim.is_none() && self.trail.len() > 1 {
            let tried = told(&self.trail);
            lost.error.message = format!("{} Tried: {tried}", lost.error.message).into();
        }
        if lost.error.retry_after.is_none() && matches!(lost.error.kind.status(), 429 | 503) {
            lost.error.retry_after = Some(wait);
        }
        lost
    }

    /// Nobody was asked, because all are waited for.
    fn unasked(&self, wait: Duration, now: Instant) -> Error {
        let mut told = Vec::new();
        let mut quota = true;
        for pick in self.picks.iter().take(MOST_TOLD) {
            let Some((until, by_quota)) = self.until(pick, now) else {
                continue;
            };
            quota &= by_quota;
            let seconds = until.saturating_duration_since(now).as_secs() + 1;
            told.push(format!("{} for {seconds} s", who(pick.candidate())));
        }
        let kind = if quota && self.soonest.is_some() {
            Kind::RateLimited
        } else {
            Kind::UpstreamUnavailable
        };
        let mut message =
            "Every target of this model asked not to be called yet; see retry-after.".to_owned();
        if !told.is_empty() {
            message.push_str(&format!(" Waiting for: {}", told.join("; ")));
        }
        let mut error = Error::new(kind, message);
        error.retry_after = Some(wait);
        error
    }

    /// Returns how long it takes until the first of the targets may be asked again; nothing where one may be now.
    fn recovery(&self, now: Instant) -> Duration {
        let askable = self.picks.iter().filter(|pick| {
            let candidate = pick.candidate();
            let serves = !candidate.provider.demo || self.ask.api == Api::Chat;
            candidate.refused.is_none() && serves
        });
        let waits = askable.map(|pick| self.until(pick, now).map_or(now, |(until, _)| until));
        let soonest = waits.min().unwrap_or(now);
        soonest.saturating_duration_since(now)
    }

    /// Returns until when a target is not asked, and whether that is for want of allowance.
    fn until(&self, pick: &Pick<'_>, now: Instant) -> Option<(Instant, bool)> {
        let candidate = pick.candidate();
        let until = |scope: Scope| match self.core.routing.cooldowns.standing(scope, now) {
            Standing::Good => now,
            Standing::Cooling(until) | Standing::Told(until) => until,
        };
        // The soonest of them, of as many as are worth looking at.
        let credentials = candidate.provider.credentials.len().min(MOST_LOOKED);
        let endpoints = candidate.endpoints.iter().enumerate().take(MOST_LOOKED);
        let each = endpoints.map(|(at, it)| {
            let endpoint = until(it.serving).max(until(it.endpoint));
            let credential = (0..credentials).map(|credential| {
                let (all, quota) = candidate.credential_at(credential, at);
                until(all).max(until(quota))
            });
            (endpoint, credential.min().unwrap_or(now))
        });
        let soonest = each.min_by_key(|(endpoint, credential)| *endpoint.max(credential));
        let (endpoint, credential) = soonest.unwrap_or((now, now));
        let other = until(candidate.model_scope).max(endpoint);
        let last = other.max(credential);
        (last > now).then_some((last, credential >= other))
    }
}

/// Returns what several failures come to: what they have in common, else that nobody can answer now.
fn together(trail: &[Fault]) -> Kind {
    match trail {
        [first, rest @ ..] if rest.iter().all(|fault| fault.kind == first.kind) => first.kind,
        _ => Kind::UpstreamUnavailable,
    }
}

/// Says who was tried and why each failed; the same again and again is said once.
fn told(trail: &[Fault]) -> String {
    let mut lines: Vec<(String, u32)> = Vec::new();
    for fault in trail {
        let line = format!("{}: {}", fault.who, fault.why);
        match lines.iter_mut().find(|(known, _)| *known == line) {
            Some((_, times)) => *times += 1,
            None => lines.push((line, 1)),
        }
    }
    let more = lines.len().saturating_sub(MOST_TOLD);
    let shown = lines.into_iter().take(MOST_TOLD).map(|(line, times)| {
        if times == 1 {
            line
        } else {
            format!("{line} ({times} times)")
        }
    });
    let mut text = shown.collect::<Vec<_>>().join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}
