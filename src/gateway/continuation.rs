//! A stream that broke off after its beginning had gone to the client: another target is asked for the rest.
//!
//! The client sees one answer: one beginning, one end, the usage of all attempts together. Nothing is asked that could
//! not be joined on (see [`crate::protocol::continuation`]), nor beyond the model's bound, the retry budget or the
//! request's time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::proxy::Session;

use super::ask::Ask;
use super::outcome::{Flow, Lost, Meta, Won};
use super::pump::Pump;
use super::through::{Seen, Through};
use super::watched::Continued;
use super::{Exchange, account, attempt};
use crate::error::{Error, Kind};
use crate::limit::Amount;
use crate::protocol::Protocol;
use crate::protocol::continuation::{Prefill, Prefix, Seam, Settings, Told};
use crate::protocol::usage::Usage;
use crate::routing::choose::Choice;
use crate::routing::{Candidate, Route};
use crate::upstream;

/// A client that waits for the rest gets a ping this often.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Who may go on with an answer.
#[derive(Clone, Copy)]
pub struct Rest<'a> {
    pub settings: &'a Settings,
    pub route: &'a Arc<Route>,
    pub choice: &'a Choice<'a>,
}

/// What the attempts that broke off took.
#[derive(Debug, Default)]
pub struct Spent {
    pub usage: Usage,
    pub pico: u64,
    pub unpriced: bool,
    pub amount: Amount,
}

impl Spent {
    /// Takes what was accounted last.
    fn take(&mut self, amount: Amount, x: &Exchange) {
        if let Some(usage) = &x.record.usage {
            self.usage = self.usage.plus(usage);
        }
        self.pico = self.pico.saturating_add(x.record.cost_pico.unwrap_or(0));
        self.unpriced |= x.record.unpriced;
        self.amount = self.amount.plus(amount);
    }

    /// Adds what was spent before to what was accounted last; returns what all of it counts against limits.
    pub fn add_to(&self, amount: Amount, x: &mut Exchange) -> Amount {
        x.record.usage = x.record.usage.as_ref().map(|usage| self.usage.plus(usage));
        x.record.cost_pico = x
            .record
            .cost_pico
            .map(|pico| pico.saturating_add(self.pico));
        x.record.unpriced |= self.unpriced;
        amount.plus(self.amount)
    }
}

impl Rest<'_> {
    /// Goes on with a stream that ended with `outcome`; returns how it ended at last, and what was spent before that.
    pub async fn go_on(
        self,
        ask: &Ask<'_>,
        pump: &mut Pump,
        mut outcome: Result<(), Error>,
        (answer, meta, began): (&mut Option<upstream::Answer>, &mut Meta, &mut Instant),
        session: &mut Session,
        x: &mut Exchange,
    ) -> (Result<(), Error>, Option<Spent>) {
        let core = x.core.clone();
        let mut spent: Option<Spent> = None;
        let mut dead: Vec<Arc<Candidate>> = Vec::new();
        for count in 0..=self.settings.max {
            let result = match &outcome {
                Ok(()) if count > 0 => "ok",
                Ok(()) => break,
                Err(error) if pump.is_gone() || !is_curable(error, meta) => break,
                Err(_) if count == self.settings.max => "cut",
                Err(_) => match Self::barred(pump) {
                    Some(why) => {
                        tracing::debug!(id = x.record.id, why, "stream not gone on with");
                        "barred"
                    }
                    None if !core.routing.budget.spend(Instant::now()) => {
                        core.metrics.retry_budget_exhausted();
                        "budget"
                    }
                    None => "",
                },
            };
            if !result.is_empty() {
                core.metrics.continuation(result);
                break;
            }
            if count > 0 {
                core.metrics.continuation("cut");
            }
            let Some(told) = pump.through.told().cloned() else {
                break;
            };
            broke_off(pump, &outcome, x);
            if let Some(answer) = answer.take() {
                answer.abandon().await;
            }
            meta.busy = None;
            dead.push(meta.route.targets[meta.target].clone());
            let Seen {
                usage,
                model,
                output_chars,
                ..
            } = pump.through.seen();
            let taken = account::Taken {
                usage,
                model,
                output_chars,
                complete: false,
                generation: None,
            };
            let amount = account::provider(x, ask, meta, taken);
            if let Some(mut permit) = meta.permit.take() {
                permit.settle(amount);
            }
            // Boxed: it is rare and large.
            let asked = Box::pin(self.ask(ask, &told, &dead, pump, session, x)).await;
            match asked {
                Some(Ok(won)) => {
                    x.record.continued = true;
                    let spent = spent.get_or_insert_default();
                    spent.take(amount, x);
                    let now = Instant::now();
                    meta.candidate().stats.failed(began.elapsed(), now);
                    *began = now;
                    let Won { meta: next, flow } = *won;
                    *meta = next;
                    let Some(mut rest) = take_over(ask, pump, told, meta, flow, spent) else {
                        break;
                    };
                    *answer = rest.answer.take();
                    let held = rest.begin(pump, spent.pico);
                    outcome = pump.run(answer, held, meta, session, x).await;
                }
                Some(Err(lost)) => {
                    tracing::debug!(id = x.record.id, error = %lost.error.message, "nobody went on with the stream");
                    core.metrics.continuation("failed");
                    break;
                }
                None => {
                    let message = "The client left during the answer.";
                    outcome = Err(Error::new(Kind::ClientGone, message));
                    break;
                }
            }
        }
        (outcome, spent)
    }

    /// Returns why what was said can't be gone on with, if so.
    fn barred(pump: &Pump) -> Option<&'static str> {
        let Some(told) = pump.through.told() else {
            return Some("it is not watched");
        };
        let ended = pump.through.seen().finish.is_some();
        told.barred().or(ended.then_some("it had ended"))
    }

    /// Asks for the rest while the client waits; `None` when it leaves.
    async fn ask(
        &self,
        ask: &Ask<'_>,
        told: &Told,
        dead: &[Arc<Candidate>],
        pump: &mut Pump,
        session: &mut Session,
        x: &mut Exchange,
    ) -> Option<Result<Box<Won>, Lost>> {
        let prefix = Prefix {
            text: &told.text,
            settings: self.settings,
        };
        let resumed = Ask {
            prefix: Some(prefix),
            keep: false,
            pinned: false,
            ..ask.clone()
        };
        let choice = self.others(dead);
        let core = x.core.clone();
        let attempts = attempt::run(&resumed, self.route, &choice, &core, x);
        tokio::pin!(attempts);
        loop {
            tokio::select! {
                biased;
                done = &mut attempts => return Some(done),
                _ = session.as_downstream_mut().read_body_or_idle(true) => {
                    pump.leave();
                    return None;
                }
                () = tokio::time::sleep(PING_EVERY) => {
                    if !pump.ping(ask.protocol, session).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Returns those who may be asked for the rest: who has failed already comes last.
    fn others(&self, dead: &[Arc<Candidate>]) -> Choice<'_> {
        let picks = self.choice.picks.iter();
        let mut picks: Vec<_> = picks
            .filter(|pick| !pick.candidate().provider.demo)
            .copied()
            .collect();
        picks.sort_by_key(|pick| {
            let failed = |dead: &Arc<Candidate>| std::ptr::eq(&**dead, pick.candidate());
            dead.iter().rposition(failed)
        });
        Choice {
            picks,
            ..Choice::default()
        }
    }
}

/// Returns whether another target may do better.
fn is_curable(error: &Error, meta: &Meta) -> bool {
    let late = Instant::now() >= meta.deadline;
    match error.kind {
        Kind::UpstreamBroken | Kind::UpstreamUnavailable | Kind::RateLimited | Kind::Timeout => {
            !late
        }
        Kind::InvalidRequest
        | Kind::Unsupported
        | Kind::ContextExceeded
        | Kind::BudgetExceeded
        | Kind::NotPermitted
        | Kind::Denied
        | Kind::BodyTooLarge
        | Kind::BodyTimeout
        | Kind::InvalidKey
        | Kind::ModelNotAllowed
        | Kind::ModelNotFound
        | Kind::PathNotFound
        | Kind::ResponseNotFound
        | Kind::PreviousResponseNotFound
        | Kind::MethodNotAllowed
        | Kind::NotCached
        | Kind::UpstreamAccount
        | Kind::StateUnavailable
        | Kind::Overloaded
        | Kind::ClientGone
        | Kind::Internal => false,
    }
}

/// Notes in the record how the attempt ended after all.
fn broke_off(pump: &Pump, outcome: &Result<(), Error>, x: &mut Exchange) {
    let silent = matches!(outcome, Err(error) if error.kind == Kind::Timeout);
    let name = match (silent, pump.through.failure()) {
        (true, _) => "timeout_idle",
        (false, Some((crate::protocol::event::FailureClass::Cut, _)) | None) => "cut",
        (false, Some((crate::protocol::event::FailureClass::Garbage, _))) => "garbage",
        (false, Some(_)) => "error_event",
    };
    let mut attempts = x.record.attempts.iter_mut().rev();
    if let Some(attempt) = attempts.find(|attempt| attempt.outcome == "ok") {
        attempt.outcome = name;
    }
}

/// The rest of a stream, about to begin.
struct Joined {
    answer: Option<upstream::Answer>,
    through: Continued,
    pieces: Vec<bytes::Bytes>,
    /// Nothing comes after the pieces.
    whole: bool,
}

impl Joined {
    /// Puts the rest in the place of what broke off; returns what of it the client gets at once.
    fn begin(mut self, pump: &mut Pump, spent_pico: u64) -> Vec<bytes::Bytes> {
        let mut out = Vec::new();
        for piece in &self.pieces {
            self.through.feed(piece, &mut out);
        }
        if self.whole {
            self.through.end(&mut out);
        }
        pump.go_on(Through::Continued(Box::new(self.through)), spent_pico);
        out
    }
}

fn take_over(
    ask: &Ask<'_>,
    pump: &mut Pump,
    told: Told,
    meta: &Meta,
    flow: Flow,
    spent: &Spent,
) -> Option<Joined> {
    let Flow::Stream {
        answer,
        through,
        held,
        raw,
    } = flow
    else {
        return None;
    };
    let whole = answer.is_none();
    let (from, pieces) = match *through {
        // Written for the client already, as a stream of its own.
        Through::Made(_) => (ask.protocol, held),
        Through::Pass(_)
        | Through::Relay(_)
        | Through::Unpack(_)
        | Through::Translate(_)
        | Through::Watched(_)
        | Through::Continued(_) => (meta.protocol, raw),
    };
    let shape = ask.shape(ask.wants_usage() || ask.keep);
    let seam = Seam::new(&told, meta.prefill);
    let seen = Box::new(pump.through.seen());
    let broken = std::mem::replace(&mut pump.through, Through::Made(seen));
    let encoder = broken.encoder(ask.shape(ask.wants_usage()))?;
    let through = Continued::new((from, &shape), encoder, (told, seam), spent.usage.clone());
    Some(Joined {
        answer,
        through,
        pieces,
        whole,
    })
}

/// Returns how a target is told that its answer has begun.
pub fn prefill(candidate: &Candidate, to: Protocol) -> Prefill {
    if let Some(prefill) = candidate.provider.quirks.prefill {
        return prefill;
    }
    let known = candidate.provider.known_as(&candidate.model);
    let claude = matches!(to, Protocol::Anthropic | Protocol::Bedrock)
        && (candidate.entry.is_some_and(|entry| {
            entry.can(crate::provider::catalogue::Cap::Prefill) && known.contains("claude")
        }) || takes_prefill(known));
    if claude { Prefill::Last } else { Prefill::Ask }
}

/// Returns whether a Claude goes on with an answer that has begun: from 4.6 on they refuse it
/// (<https://platform.claude.com/docs/en/build-with-claude/prompt-engineering/prefill-claudes-response>).
fn takes_prefill(model: &str) -> bool {
    let Some((_, version)) = model.split_once("claude-") else {
        return false;
    };
    if version.starts_with(['2', '3', 'v']) || version.starts_with("instant") {
        return true;
    }
    let rest = ["opus-4", "sonnet-4", "haiku-4"]
        .iter()
        .find_map(|name| version.strip_prefix(name));
    match rest.map(str::as_bytes) {
        // Of a dated name the date follows the version.
        Some([] | [b'@', ..] | [b'-', b'0'..=b'5'] | [b'-', b'0'..=b'5', b'-' | b'@', ..]) => true,
        Some([b'-', b'2', b'0', ..]) => true,
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claude_takes_a_prefix_up_to_4_5() {
        for old in [
            "claude-3-5-haiku-latest",
            "claude-sonnet-4-20250514",
            "claude-opus-4@20250514",
            "claude-opus-4-1-20250805",
            "claude-haiku-4-5",
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ] {
            assert!(takes_prefill(old), "{old}");
        }
        for new in [
            "claude-opus-4-6",
            "claude-sonnet-4-6",
            "claude-opus-4-7-20260416",
            "claude-sonnet-5",
            "claude-mythos-preview",
            "gpt-5",
        ] {
            assert!(!takes_prefill(new), "{new}");
        }
    }
}
