//! One loop over targets, credentials and addresses, until one answers or nothing is left to ask.
//!
//! It owns the total deadline, the cap on attempts and the retry budget. Each attempt is built anew from the
//! client's original request. Nothing reaches the client from here: an answer is returned once it may be
//! committed, with what was held back until then.

mod end;
mod leg;
mod race;
mod seek;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ask::Ask;
use super::outcome::{Busy, Lost, Try, Won};
use super::queue::{self, Scope};
use super::verdict::{Judgement, Verdict};
use super::{Core, Exchange, admission, demo, limits, send};
use crate::error::Error;
use crate::limit::overload::Slot;
use crate::protocol::api::Api;
use crate::routing::affinity::Pin;
use crate::routing::choose::{Choice, Pick};
use crate::routing::screen;
use crate::routing::{Blame, Candidate, Route};
use end::Fault;
use limits::Admission;

/// A provider's "not before" is waited for when it is this near, and nothing else can answer.
const MOST_WAIT: Duration = Duration::from_secs(10);
/// Rounds over all targets; the cap on attempts ends most requests sooner.
const MOST_ROUNDS: u32 = 8;

/// The state of one request's attempts.
struct Hunt<'a> {
    ask: &'a Ask<'a>,
    core: &'a Core,
    picks: &'a [Pick<'a>],
    deadline: Instant,
    most: u32,
    attempts: u32,
    last: Option<Lost>,
    /// What failed, attempt by attempt.
    trail: Vec<Fault>,
    /// Who failed in this round, by place among the picks.
    failed: Vec<(usize, Failed)>,
    /// A second attempt was made beside another: one is enough.
    hedged: bool,
    /// The soonest time at which something that said "not before" may be asked.
    soonest: Option<Instant>,
    /// Something was passed over because it is cooling.
    skipped: bool,
    /// Something failed in a way that asking again may cure.
    retryable: bool,
    /// Who answered this conversation before.
    pin: Option<Pin>,
    /// A provider refused opaque blobs: they are left out from now on.
    strip: bool,
    /// A place for the next attempt at its provider, where that is bounded.
    slot: Option<Slot>,
    /// A limit for some models that had no room for who would have been asked.
    denied: Option<Error>,
}

/// What of a target failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    /// It would say the same again.
    Target,
    Credential(usize),
    Address(SocketAddr),
    /// A credential at one of several endpoints.
    Pair(usize, SocketAddr),
    /// A credential has no address left in this round.
    Exhausted(usize),
}

/// Asks those who were chosen for a request to `first`, in turn.
pub async fn run(
    ask: &Ask<'_>,
    first: &Arc<Route>,
    choice: &Choice<'_>,
    core: &Core,
    x: &mut Exchange,
) -> Result<Box<Won>, Lost> {
    let asked = &ask.envelope.model;
    let members = &ask.envelope.members;
    if let Some(error) = screen::refusal(choice, asked, ask.protocol, ask.body, members) {
        return Err(error.into());
    }
    let total = ask.timeouts_of(first, None).total;
    let deadline = x.started + total;
    let most = if ask.shadow {
        1
    } else {
        first.retries.max_attempts.max(1)
    };
    let mut hunt = Hunt {
        ask,
        core,
        picks: &choice.picks,
        deadline,
        most,
        attempts: 0,
        last: None,
        trail: Vec::new(),
        failed: Vec::new(),
        hedged: false,
        soonest: None,
        skipped: false,
        retryable: false,
        pin: ask.pin(core),
        strip: false,
        slot: None,
        denied: None,
    };
    if !ask.shadow {
        core.routing.budget.earn();
    }
    let mut desperate = false;
    // Those who failed are left out of the next round.
    let mut keep = false;
    let mut retryable = false;
    for round in 0..MOST_ROUNDS {
        hunt.soonest = None;
        hunt.skipped = false;
        hunt.retryable = false;
        hunt.failed
            .retain(|(_, failed)| keep && !matches!(failed, Failed::Exhausted(_)));
        let mut full = None;
        for index in 0..choice.picks.len() {
            match hunt.target(index, desperate, x).await {
                Step::Won(won) => return Ok(won),
                Step::Lost(lost) => return Err(lost),
                Step::Spent => return Err(hunt.give_up()),
                Step::Go => {}
                Step::Full => full = full.or(Some(index)),
            }
        }
        if let Some(index) = full {
            match Box::pin(hunt.wait(index, x)).await {
                Ok(slot) => hunt.slot = Some(slot),
                Err(error) => {
                    hunt.last.get_or_insert_with(|| error.into());
                    return Err(hunt.give_up());
                }
            }
            match hunt.target(index, desperate, x).await {
                Step::Won(won) => return Ok(won),
                Step::Lost(lost) => return Err(lost),
                Step::Spent => return Err(hunt.give_up()),
                Step::Go | Step::Full => {}
            }
            hunt.slot = None;
        }
        if hunt.skipped && !desperate {
            // Only our own guesses stand against those who were not asked yet: the least bad is better than none, and
            // better than those who failed a moment ago.
            (desperate, keep, retryable) = (true, true, hunt.retryable);
            continue;
        }
        retryable |= hunt.retryable;
        let now = Instant::now();
        let wait = match (hunt.soonest, retryable) {
            (_, true) => hunt.backoff(first, round),
            (Some(soonest), false) => soonest.saturating_duration_since(now),
            (None, false) => break,
        };
        if wait > MOST_WAIT || now + wait >= deadline || hunt.attempts >= most {
            break;
        }
        x.waited += wait;
        tokio::time::sleep(wait).await;
        (desperate, keep, retryable) = (true, false, false);
    }
    Err(hunt.give_up())
}

enum Step {
    Won(Box<Won>),
    /// The request is at fault, or this answer is final.
    Lost(Lost),
    /// The cap, the deadline or the retry budget is reached.
    Spent,
    /// On to the next target.
    Go,
    /// The provider has as much in flight as it may: on to the next target, and back if nobody else answers.
    Full,
}

impl<'a> Hunt<'a> {
    /// Tries one target: every credential and address that its failures leave open.
    async fn target(&mut self, index: usize, desperate: bool, x: &mut Exchange) -> Step {
        let pick: &'a Pick<'a> = &self.picks[index];
        let Pick { route, target, .. } = *pick;
        let candidate: &'a Candidate = pick.candidate();
        let timers = self.ask.timeouts_of(route, Some(target));
        if let Some((kind, message)) = &candidate.refused {
            let error = Error {
                param: Some("model".into()),
                ..Error::new(*kind, message.clone())
            };
            self.last.get_or_insert_with(|| error.into());
            return Step::Go;
        }
        if candidate.provider.demo && self.ask.api != Api::Chat {
            self.last = Some(send::not_served(self.ask.api).into());
            return Step::Go;
        }
        if candidate.provider.demo {
            let permit = match limits::admit_at(self.ask, pick, self.core).await {
                Ok(permit) => permit,
                Err(denied) => return self.denied(denied),
            };
            let busy = Busy::new(&candidate.inflight, None);
            let mut won = demo::answer(self.ask, route, target, timers, self.deadline, busy);
            won.meta.permit = permit;
            return Step::Won(won);
        }
        let Some(pool) = &candidate.pool else {
            return Step::Go;
        };
        let begun = Instant::now();
        if !self.open(candidate.model_scope, desperate, begun) {
            return Step::Go;
        }
        let mut first = Some(begun);
        // Of all attempts at this target: it is given back when none of them answers.
        let mut permit = Admission::default();
        loop {
            let now = first.take().unwrap_or_else(Instant::now);
            if self.has_failed(index, Failed::Target) {
                return Step::Go;
            }
            let Ok(credential) = self.credential(index, desperate, now) else {
                return Step::Go;
            };
            if now >= self.deadline {
                return self.late();
            }
            if self.attempts >= self.most {
                return Step::Spent;
            }
            let resolved = pool.is_resolved() || {
                let resolving = Instant::now();
                let found = tokio::time::timeout(timers.connect, Box::pin(pool.resolve())).await;
                x.waited += resolving.elapsed();
                found.unwrap_or(false)
            };
            let place = resolved
                .then(|| self.place(index, credential, desperate, now))
                .flatten();
            let Some(place) = place else {
                if !resolved {
                    self.unresolved(index, candidate, x);
                } else if let Some(credential) = credential
                    && candidate.endpoints.len() > 1
                {
                    // Another credential may have an address left.
                    self.failed.push((index, Failed::Exhausted(credential)));
                    continue;
                }
                return Step::Go;
            };
            if !self.has_slot(candidate) {
                return Step::Full;
            }
            if !permit.asked {
                match limits::admit_at(self.ask, pick, self.core).await {
                    Ok(admitted) => permit = Admission::of(admitted),
                    Err(denied) => return self.denied(denied),
                }
            }
            if self.attempts > 0 && !self.core.routing.budget.spend(now) {
                self.core.metrics.retry_budget_exhausted();
                return Step::Spent;
            }
            if let Err(error) = admission::before(self.ask, candidate, x).await {
                return Step::Lost(error.into());
            }
            self.attempts += 1;
            let plan = Try {
                route,
                target,
                credential,
                place: &place,
                timers,
                deadline: self.deadline,
                strip: self.strip,
            };
            let outcome = match self.due(pick, desperate) {
                // Boxed: rare, and large.
                Some(due) => Box::pin(self.race(index, &plan, due, &mut permit, x)).await,
                None => self.attempt(&plan, x).await,
            };
            let (judgement, lost) = match outcome {
                Ok(mut won) => {
                    won.meta.permit = permit.take();
                    return Step::Won(won);
                }
                Err(failed) => *failed,
            };
            self.last = Some(lost);
            match judgement.verdict {
                Verdict::Fail => return Step::Lost(self.last.take().expect("set above")),
                Verdict::Next => {
                    self.fault(index, &plan, &judgement);
                    return Step::Go;
                }
                Verdict::Strip if self.strip => {
                    return Step::Lost(self.last.take().expect("set above"));
                }
                Verdict::Strip => self.strip = true,
                Verdict::Retry => self.fault(index, &plan, &judgement),
            }
        }
    }

    /// Notes that a limit has no room for a target, and passes it over.
    fn denied(&mut self, denied: Error) -> Step {
        let later = |known: &Error| known.retry_after > denied.retry_after;
        if self.denied.as_ref().is_none_or(later) {
            self.denied = Some(denied);
        }
        self.slot = None;
        Step::Go
    }

    /// Notes who of a target failed, in a way that asking again may cure.
    fn fault(&mut self, index: usize, plan: &Try<'_>, judgement: &Judgement) {
        let failed = match (judgement.verdict, judgement.blame, plan.credential) {
            (Verdict::Retry, Some(Blame::Credential | Blame::Quota), Some(credential)) => {
                if plan.candidate().endpoints.len() > 1 {
                    Failed::Pair(credential, plan.place.address)
                } else {
                    Failed::Credential(credential)
                }
            }
            (Verdict::Retry, _, _) => Failed::Address(plan.place.address),
            (Verdict::Next | Verdict::Fail | Verdict::Strip, _, _) => Failed::Target,
        };
        self.retryable |= judgement.verdict == Verdict::Retry;
        self.failed.push((index, failed));
    }

    fn has_failed(&self, index: usize, what: Failed) -> bool {
        self.failed.contains(&(index, what))
    }

    /// Makes sure of a place at the target's provider, if that is bounded.
    fn has_slot(&mut self, candidate: &Candidate) -> bool {
        let Some(gate) = &candidate.gate else {
            return true;
        };
        self.slot = self.slot.take().or_else(|| gate.enter());
        self.slot.is_some()
    }

    /// Waits for a place at a provider that has as much in flight as it may.
    async fn wait(&self, index: usize, x: &mut Exchange) -> Result<Slot, Error> {
        let candidate = self.picks[index].candidate();
        let Some(gate) = candidate.gate.as_ref().filter(|_| !self.ask.shadow) else {
            return Err(Error::new(
                crate::error::Kind::Overloaded,
                "The provider has as much in flight as it may.",
            ));
        };
        let scope = Scope::Provider(&candidate.provider.name);
        queue::slot(self.core, gate, scope, &self.ask.turn, self.deadline, x).await
    }

    fn late(&mut self) -> Step {
        if self.last.is_none() {
            self.last = Some(
                Error::new(
                    crate::error::Kind::Timeout,
                    "The total time for this request is over.",
                )
                .into(),
            );
        }
        Step::Spent
    }

    /// Returns the wait before the next round: exponential, with full jitter above a half.
    fn backoff(&self, route: &Route, round: u32) -> Duration {
        let base = route.retries.backoff;
        let full = base
            .saturating_mul(1 << round.min(5))
            .min(base.saturating_mul(20));
        let wait = full.mul_f64(0.5 + fastrand::f64() / 2.0);
        // A provider that said when is not asked before.
        match self.soonest {
            Some(soonest) => wait.max(soonest.saturating_duration_since(Instant::now())),
            None => wait,
        }
    }
}
