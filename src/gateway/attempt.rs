//! One loop over targets, credentials and addresses, until one answers or nothing is left to ask.
//!
//! It owns the total deadline, the cap on attempts and the retry budget. Each attempt is built anew from the
//! client's original request. Nothing reaches the client from here: an answer is returned once it may be
//! committed, with what was held back until then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ask::Ask;
use super::outcome::{Busy, Flow, Lost, Tried, Try, Won};
use super::verdict::{Judgement, Verdict};
use super::{Core, Exchange, demo, send};
use crate::error::{Error, Kind};
use crate::observe::record::AttemptRecord;
use crate::protocol::api::Api;
use crate::routing::affinity::Pin;
use crate::routing::choose::{Choice, Pick};
use crate::routing::{Blame, Candidate, EndpointScopes, Route, Standing};
use crate::upstream;
use crate::upstream::pool::Place;

/// A provider's "not before" is waited for when it is this near, and nothing else can answer.
const MOST_WAIT: Duration = Duration::from_secs(10);
/// Rounds over all targets; the cap on attempts ends most requests sooner.
const MOST_ROUNDS: u32 = 8;

/// The state of one request's attempts.
struct Hunt<'a> {
    ask: &'a Ask<'a>,
    core: &'a Core,
    deadline: Instant,
    most: u32,
    attempts: u32,
    last: Option<Lost>,
    /// The trail: one phrase for each failed attempt.
    trail: Vec<String>,
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
}

/// Asks those who were chosen for a request to `first`, in turn.
pub async fn run(
    ask: &Ask<'_>,
    first: &Arc<Route>,
    choice: &Choice,
    core: &Core,
    x: &mut Exchange,
) -> Result<Box<Won>, Lost> {
    let total = ask.timeouts_of(first, None).total;
    let deadline = x.started + total;
    let most = first.retries.max_attempts.max(1);
    let mut hunt = Hunt {
        ask,
        core,
        deadline,
        most,
        attempts: 0,
        last: None,
        trail: Vec::new(),
        soonest: None,
        skipped: false,
        retryable: false,
        pin: ask.pin(core),
        strip: false,
    };
    core.routing.budget.earn();
    let mut desperate = false;
    for round in 0..MOST_ROUNDS {
        let before = hunt.attempts;
        hunt.soonest = None;
        hunt.skipped = false;
        hunt.retryable = false;
        for pick in &choice.picks {
            match hunt.target(pick, desperate, x).await {
                Step::Won(won) => return Ok(won),
                Step::Lost(lost) => return Err(lost),
                Step::Spent => return Err(hunt.give_up()),
                Step::Go => {}
            }
        }
        let asked = hunt.attempts > before;
        if !asked && hunt.skipped && !desperate {
            // Only our own guesses stand against these targets: the least bad is better than none.
            desperate = true;
            continue;
        }
        let now = Instant::now();
        let wait = match (hunt.soonest, asked && hunt.retryable) {
            (_, true) => hunt.backoff(first, round),
            (Some(soonest), false) => soonest.saturating_duration_since(now),
            (None, false) => break,
        };
        if wait > MOST_WAIT || now + wait >= deadline || hunt.attempts >= most {
            break;
        }
        x.waited += wait;
        tokio::time::sleep(wait).await;
        desperate = true;
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
}

impl<'a> Hunt<'a> {
    /// Tries one target: every credential and address that its failures leave open.
    async fn target(&mut self, pick: &'a Pick, desperate: bool, x: &mut Exchange) -> Step {
        let Pick { route, target, .. } = pick;
        let target = *target;
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
            return Step::Won(demo::answer(
                self.ask,
                route,
                target,
                timers,
                self.deadline,
                Busy::new(&candidate.inflight),
            ));
        }
        let Some(pool) = &candidate.pool else {
            return Step::Go;
        };
        if !self.open(candidate.model_scope, desperate, Instant::now()) {
            return Step::Go;
        }
        let mut bad_credentials: Vec<usize> = Vec::new();
        let mut bad_addresses: Vec<SocketAddr> = Vec::new();
        loop {
            let now = Instant::now();
            let Ok(credential) = self.credential(candidate, &bad_credentials, desperate, now)
            else {
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
                let found = tokio::time::timeout(timers.connect, pool.resolve()).await;
                x.waited += resolving.elapsed();
                found.unwrap_or(false)
            };
            let place = resolved
                .then(|| self.place(candidate, &bad_addresses, desperate, now))
                .flatten();
            let Some(place) = place else {
                if !resolved {
                    self.unresolved(candidate, x);
                }
                return Step::Go;
            };
            if self.attempts > 0 && !self.core.routing.budget.spend(now) {
                self.core.metrics.retry_budget_exhausted();
                return Step::Spent;
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
            let (judgement, lost) = match self.attempt(&plan, x).await {
                Ok(won) => return Step::Won(won),
                Err(failed) => failed,
            };
            self.last = Some(lost);
            match judgement.verdict {
                Verdict::Fail => return Step::Lost(self.last.take().expect("set above")),
                Verdict::Next => return Step::Go,
                Verdict::Strip if self.strip => {
                    return Step::Lost(self.last.take().expect("set above"));
                }
                Verdict::Strip => self.strip = true,
                Verdict::Retry => {
                    self.retryable = true;
                    match (judgement.blame, credential) {
                        (Some(Blame::Credential | Blame::Quota), Some(credential)) => {
                            bad_credentials.push(credential)
                        }
                        _ => bad_addresses.push(place.address),
                    }
                }
            }
        }
    }

    /// Makes one attempt, records it, and blames what failed.
    async fn attempt(
        &mut self,
        plan: &Try<'_>,
        x: &mut Exchange,
    ) -> Result<Box<Won>, (Judgement, Lost)> {
        let candidate = plan.candidate();
        let EndpointScopes {
            authority,
            serving,
            endpoint,
            ..
        } = &candidate.endpoints[plan.place.endpoint];
        let (serving, endpoint) = (*serving, *endpoint);
        let started = Instant::now();
        let cooldowns = &self.core.routing.cooldowns;
        for scope in [serving, endpoint, candidate.model_scope] {
            cooldowns.asked(scope, started);
        }
        let credential = plan
            .credential
            .map(|index| &candidate.provider.credentials[index]);
        // Made now, completed later: an attempt whose client leaves is recorded as cancelled.
        x.record.attempts.push(AttemptRecord {
            provider: candidate.provider.name.clone(),
            model: candidate.model.to_string(),
            credential: credential
                .map(|credential| credential.name.clone())
                .unwrap_or_default(),
            endpoint: authority.to_string(),
            outcome: "cancelled",
            ..AttemptRecord::default()
        });
        let busy = Busy::new(&candidate.inflight);
        let tried = send::attempt(self.ask, plan, busy, x).await;
        let took = started.elapsed();
        let record = x.record.attempts.last_mut().expect("pushed above");
        record.ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        match tried {
            Tried::Won(won) => {
                record.outcome = "ok";
                self.learn(candidate, &won.flow, took);
                if let Some(conversation) = self.ask.conversation {
                    let affinity = &self.core.routing.affinity;
                    affinity.put(conversation, candidate, plan.credential);
                }
                record.status = Some(won.meta.status);
                let mut cooled = cooldowns.succeeded(serving) | cooldowns.succeeded(endpoint);
                cooled |= cooldowns.succeeded(candidate.model_scope);
                if let Some(index) = plan.credential {
                    let (all, quota) = candidate.credential_scopes[index];
                    cooled |= cooldowns.succeeded(all) | cooldowns.succeeded(quota);
                }
                if cooled {
                    tracing::info!(
                        provider = candidate.provider.name,
                        endpoint = &**authority,
                        "recovered"
                    );
                }
                Ok(won)
            }
            Tried::Unsaid(error) => {
                // Nothing was sent: no attempt.
                x.record.attempts.pop();
                self.attempts -= 1;
                self.trail.push(format!(
                    "{}/{}: {}",
                    candidate.provider.name, candidate.model, error.message
                ));
                Err((
                    Judgement {
                        verdict: Verdict::Next,
                        blame: None,
                        account: false,
                    },
                    error.into(),
                ))
            }
            Tried::Lost {
                lost,
                judgement,
                outcome,
                told,
            } => {
                record.outcome = outcome;
                record.retry_after_ms =
                    told.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                self.trail.push(format!(
                    "{}/{}: {}",
                    candidate.provider.name, candidate.model, lost.error.message
                ));
                if let Some(blame) = judgement.blame {
                    candidate.stats.failed(took, Instant::now());
                    let credential_name =
                        credential.map_or("", |credential| credential.name.as_str());
                    let (scope, label) = match (blame, plan.credential) {
                        (Blame::Credential, Some(index)) => {
                            (candidate.credential_scopes[index].0, credential_name)
                        }
                        (Blame::Quota, Some(index)) => {
                            (candidate.credential_scopes[index].1, credential_name)
                        }
                        (Blame::Endpoint, _) => (endpoint, &**authority),
                        (Blame::Model, _) => (candidate.model_scope, ""),
                        (Blame::Serving | Blame::Credential | Blame::Quota, _) => {
                            (serving, &**authority)
                        }
                    };
                    let name = || format!("{} {label}", candidate.model).trim_end().to_owned();
                    let provider = &candidate.provider.name;
                    if cooldowns.failed(scope, blame, provider, name, outcome, told, Instant::now())
                    {
                        self.core.metrics.cooled(provider, blame.name());
                    }
                }
                Err((judgement, lost))
            }
        }
    }

    /// Notes an answer, and how long it let us wait.
    fn learn(&self, candidate: &Candidate, flow: &Flow, took: Duration) {
        let now = Instant::now();
        candidate.stats.succeeded(now);
        let stream = match flow {
            Flow::Stream { .. } => true,
            Flow::Whole { .. } => false,
            // Its end isn't known yet.
            Flow::Long { .. } => return,
        };
        let input = self.ask.input_estimate();
        candidate.stats.first_token(stream, input, took, now);
    }

    /// Returns whether `scope` may be asked, and remembers why not.
    fn open(&mut self, scope: crate::routing::Scope, desperate: bool, now: Instant) -> bool {
        match self.core.routing.cooldowns.standing(scope, now) {
            Standing::Good => true,
            Standing::Cooling(_) => {
                self.skipped = true;
                desperate
            }
            Standing::Told(until) => {
                self.soonest = Some(self.soonest.map_or(until, |soonest| soonest.min(until)));
                false
            }
        }
    }

    /// Picks a credential by weight. `Err` when none is left; `Ok(None)` when the provider wants none.
    fn credential(
        &mut self,
        candidate: &Candidate,
        bad: &[usize],
        desperate: bool,
        now: Instant,
    ) -> Result<Option<usize>, ()> {
        let credentials = &candidate.provider.credentials;
        if credentials.is_empty() {
            // Without a credential there is no other one to turn to.
            return if bad.is_empty() { Ok(None) } else { Err(()) };
        }
        let mut open = Vec::with_capacity(credentials.len());
        for index in 0..credentials.len() {
            let (all, quota) = candidate.credential_scopes[index];
            if !bad.contains(&index)
                && self.open(all, desperate, now)
                && self.open(quota, desperate, now)
            {
                open.push(index);
            }
        }
        let weight = |index: &usize| u64::from(credentials[*index].weight.max(1));
        let total: u64 = open.iter().map(weight).sum();
        if total == 0 {
            return Err(());
        }
        let mut draw = if open.len() == 1 {
            0
        } else {
            fastrand::u64(..total)
        };
        let pinned = self.pin.and_then(|pin| {
            let mut open = open.iter();
            open.find(|index| pin.is_credential(candidate, **index))
                .copied()
        });
        for index in open {
            let weight = weight(&index);
            let chosen = match pinned {
                Some(pinned) => pinned == index,
                None => draw < weight,
            };
            if chosen {
                let (all, quota) = candidate.credential_scopes[index];
                self.core.routing.cooldowns.asked(all, now);
                self.core.routing.cooldowns.asked(quota, now);
                return Ok(Some(index));
            }
            draw = draw.saturating_sub(weight);
        }
        Err(())
    }

    /// Picks an address that has not failed this request and is not cooling.
    fn place(
        &mut self,
        candidate: &Candidate,
        bad: &[SocketAddr],
        desperate: bool,
        now: Instant,
    ) -> Option<Place> {
        let pool = candidate.pool.as_ref()?;
        let cooldowns = &self.core.routing.cooldowns;
        let soonest = std::cell::Cell::new(self.soonest);
        let skipped = std::cell::Cell::new(self.skipped);
        let avoid = |endpoint: usize, address: &SocketAddr| {
            if bad.contains(address) {
                return true;
            }
            let scopes = &candidate.endpoints[endpoint];
            for scope in [scopes.serving, scopes.endpoint] {
                match cooldowns.standing(scope, now) {
                    Standing::Good => {}
                    Standing::Cooling(_) => {
                        skipped.set(true);
                        if !desperate {
                            return true;
                        }
                    }
                    Standing::Told(until) => {
                        soonest.set(Some(
                            soonest.get().map_or(until, |before| before.min(until)),
                        ));
                        return true;
                    }
                }
            }
            false
        };
        let mut place = pool.pick(avoid, false);
        if place.is_none() && bad.is_empty() && desperate {
            // Unhealthy by its own checks, and there is nothing else.
            place = pool.pick(avoid, true);
        } else if place.is_none() && bad.is_empty() {
            skipped.set(true);
        }
        self.soonest = soonest.get();
        self.skipped = skipped.get();
        place
    }

    fn unresolved(&mut self, candidate: &Candidate, x: &mut Exchange) {
        candidate.stats.failed(Duration::ZERO, Instant::now());
        let host = candidate
            .provider
            .endpoints
            .first()
            .map_or("", |endpoint| endpoint.host.as_str());
        let failure = upstream::Failure::unresolved(host);
        x.record.attempts.push(AttemptRecord {
            provider: candidate.provider.name.clone(),
            model: candidate.model.to_string(),
            endpoint: host.to_owned(),
            outcome: failure.outcome(),
            ..AttemptRecord::default()
        });
        self.trail.push(format!(
            "{}/{}: {}",
            candidate.provider.name, candidate.model, failure.cause
        ));
        self.last = Some(Error::new(Kind::UpstreamUnavailable, failure.cause).into());
    }

    fn late(&mut self) -> Step {
        if self.last.is_none() {
            self.last =
                Some(Error::new(Kind::Timeout, "The total time for this request is over.").into());
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

    /// Returns what the client gets when nothing answered: the last provider's own words where they may be
    /// shown, else the trail of what was tried.
    fn give_up(&mut self) -> Lost {
        let soonest = self
            .soonest
            .map(|at| at.saturating_duration_since(Instant::now()));
        let Some(mut lost) = self.last.take() else {
            let message = "Every target of this model asked not to be called yet; see retry-after.";
            let kind = if soonest.is_some() {
                Kind::RateLimited
            } else {
                Kind::UpstreamUnavailable
            };
            let mut error = Error::new(kind, message);
            error.retry_after = soonest.or(Some(Duration::from_secs(1)));
            return error.into();
        };
        if lost.verbatim.is_none() && self.trail.len() > 1 {
            let tried = self.trail.join("; ");
            lost.error.message = format!("{} Tried: {tried}", lost.error.message).into();
        }
        if lost.error.retry_after.is_none() && matches!(lost.error.kind.status(), 429 | 503) {
            lost.error.retry_after = soonest.or(Some(Duration::from_secs(1)));
        }
        lost
    }
}
