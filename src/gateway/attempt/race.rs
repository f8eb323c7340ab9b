//! Hedging: an attempt that is late gets a second one beside it. Whoever has an answer first wins, and the other is
//! dropped at once, with its connection.

use std::time::{Duration, Instant};

use super::leg::{Leg, Outcome};
use super::{Admission, Exchange, Failed, Hunt, Pick};
use crate::gateway::outcome::{Busy, Tried, Try, Won};
use crate::gateway::verdict::Verdict;
use crate::gateway::{limits, send};
use crate::limit::overload::Slot;
use crate::observe::record::Phase;
use crate::protocol::api::Api;
use crate::upstream::pool::Place;

/// Who may be asked beside the one who is late.
struct Second {
    index: usize,
    credential: Option<usize>,
    place: Place,
    /// At its provider, where that is bounded.
    slot: Option<Slot>,
    /// Where limits hold for it.
    permit: Admission,
}

/// Which of two came first.
enum First {
    One(Tried),
    Other(Tried),
}

impl<'a> Hunt<'a> {
    /// Returns when an attempt at `pick` is late; `None` where nothing is hedged.
    pub(super) fn due(&self, pick: &Pick<'_>, desperate: bool) -> Option<Duration> {
        let (hedge, share) = pick.route.hedge.as_ref()?;
        let ask = self.ask;
        let stream = ask.envelope.stream;
        let fit = ask.api == Api::Chat
            && (stream || hedge.whole)
            && !ask.controls.no_fallback
            && !ask.shadow;
        if !fit || self.hedged || desperate || self.attempts >= self.most {
            return None;
        }
        share.earn(hedge.max_share);
        let history = |share: f64| {
            let stats = &pick.candidate().stats;
            stats.quantile(share, stream, ask.input_estimate(), Instant::now())
        };
        hedge.due(history)
    }

    /// Makes an attempt, and a second one elsewhere when nothing was said `due` after its beginning.
    pub(super) async fn race(
        &mut self,
        index: usize,
        plan: &Try<'_>,
        due: Duration,
        permit: &mut Admission,
        x: &mut Exchange,
    ) -> Outcome {
        let began = Instant::now();
        let ask = self.ask;
        let leg = self.begin(plan, x);
        let mut side = Exchange::side(x.core.clone());
        side.record.attempts.push(x.record.attempts[leg.at].clone());
        let busy = Busy::new(&plan.candidate().inflight, self.slot.take());
        let mut first = Box::pin(send::attempt(ask, plan, busy, &mut side));
        let early = tokio::select! {
            biased;
            tried = &mut first => Some(tried),
            () = tokio::time::sleep(due) => None,
        };
        let second = match early {
            Some(_) => None,
            None => self.second(index, plan),
        };
        let Some(mut second) = second else {
            let tried = match early {
                Some(tried) => tried,
                None => first.as_mut().await,
            };
            drop(first);
            merge(&side, &leg, began, x);
            return self.settle(plan, leg, tried, x);
        };
        self.attempts += 1;
        let pick: &'a Pick<'a> = &self.picks[second.index];
        let other_plan = Try {
            route: pick.route,
            target: pick.target,
            credential: second.credential,
            place: &second.place,
            timers: ask.timeouts_of(pick.route, Some(pick.target)),
            deadline: self.deadline,
            strip: self.strip,
        };
        let other_leg = self.begin(&other_plan, x);
        let mut other_side = Exchange::side(x.core.clone());
        let record = x.record.attempts[other_leg.at].clone();
        other_side.record.attempts.push(record);
        let busy = Busy::new(&other_plan.candidate().inflight, second.slot.take());
        let mut other = Box::pin(send::attempt(ask, &other_plan, busy, &mut other_side));
        let came = tokio::select! {
            biased;
            tried = &mut first => First::One(tried),
            tried = &mut other => First::Other(tried),
        };
        match came {
            First::One(tried) if is_last_word(&tried) => {
                // Dropped before anything else is done: its provider is to stop.
                drop(other);
                drop(first);
                merge(&side, &leg, began, x);
                self.dropped(&other_plan, &other_leg, &other_side, x);
                self.core.metrics.hedged("lost");
                self.settle(plan, leg, tried, x)
            }
            First::One(tried) => {
                // The first failed: the second goes on in its place.
                drop(first);
                merge(&side, &leg, began, x);
                let failed = self.settle(plan, leg, tried, x);
                let began = Instant::now();
                let tried = other.as_mut().await;
                drop(other);
                merge(&other_side, &other_leg, began, x);
                match self.settle_other(&second, &other_plan, other_leg, tried, x) {
                    Some(won) => {
                        permit.pass_to(&mut second.permit);
                        Ok(won)
                    }
                    None => failed,
                }
            }
            First::Other(tried @ Tried::Won(_)) => {
                drop(first);
                drop(other);
                self.dropped(plan, &leg, &side, x);
                merge(&other_side, &other_leg, began, x);
                self.core.metrics.hedged("won");
                permit.pass_to(&mut second.permit);
                self.settle(&other_plan, other_leg, tried, x)
            }
            First::Other(tried @ (Tried::Lost { .. } | Tried::Unsaid(_))) => {
                // The second failed: what the first says is waited for as if there had been none.
                drop(other);
                merge(&other_side, &other_leg, Instant::now(), x);
                self.settle_other(&second, &other_plan, other_leg, tried, x);
                let tried = first.as_mut().await;
                drop(first);
                merge(&side, &leg, began, x);
                self.settle(plan, leg, tried, x)
            }
        }
    }

    /// Settles a second attempt whose first has nothing to say; a failure counts against whom it asked, and is not
    /// the request's.
    fn settle_other(
        &mut self,
        second: &Second,
        plan: &Try<'_>,
        leg: Leg<'_>,
        tried: Tried,
        x: &mut Exchange,
    ) -> Option<Box<Won>> {
        match self.settle(plan, leg, tried, x) {
            Ok(won) => {
                self.core.metrics.hedged("won");
                Some(won)
            }
            Err(failed) => {
                self.core.metrics.hedged("failed");
                self.fault(second.index, plan, &failed.0);
                None
            }
        }
    }

    /// Records an attempt that was dropped because the other won. Its provider may bill what it read.
    fn dropped(&self, plan: &Try<'_>, leg: &Leg<'_>, side: &Exchange, x: &mut Exchange) {
        let record = &mut x.record.attempts[leg.at];
        if let Some(known) = side.record.attempts.first() {
            record.clone_from(known);
        }
        let took = leg.started.elapsed();
        record.ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        record.outcome = "hedge_lost";
        let input = self.ask.input_estimate();
        record.estimated_input = Some(input);
        // It would have taken longer: leaving the late ones out would make all that follow seem later than usual.
        let stream = self.ask.envelope.stream;
        let stats = &plan.candidate().stats;
        stats.first_token(stream, input, took, Instant::now());
    }

    /// Finds who is asked beside `plan`, and pays for it.
    fn second(&mut self, index: usize, plan: &Try<'_>) -> Option<Second> {
        let known = (self.soonest, self.skipped);
        let found = self.other(index, plan);
        // Who was passed over here is still to be asked.
        (self.soonest, self.skipped) = known;
        let metrics = &self.core.metrics;
        let Some(found) = found else {
            metrics.hedged("no_target");
            return None;
        };
        let (_, share) = plan.route.hedge.as_ref()?;
        if !share.spend() {
            metrics.hedged("no_share");
            return None;
        }
        if !self.core.routing.budget.spend(Instant::now()) {
            share.give_back();
            metrics.hedged("no_budget");
            return None;
        }
        self.hedged = true;
        Some(found)
    }

    /// Looks for another target of the same model, else another address or credential of the same target.
    fn other(&mut self, index: usize, plan: &Try<'_>) -> Option<Second> {
        let now = Instant::now();
        for other in index + 1..self.picks.len() {
            let pick: &'a Pick<'a> = &self.picks[other];
            let candidate = pick.candidate();
            let fit = std::sync::Arc::ptr_eq(pick.route, plan.route)
                && !std::ptr::eq(candidate, plan.candidate())
                && candidate.refused.is_none()
                && !candidate.provider.demo;
            if fit && let Some(found) = self.askable(other, index, now) {
                return Some(found);
            }
        }
        let here = self.failed.len();
        self.failed
            .push((index, Failed::Address(plan.place.address)));
        let mut found = self.askable(index, index, now);
        self.failed.truncate(here);
        if found.is_none()
            && let Some(credential) = plan.credential
        {
            let here = self.failed.len();
            self.failed.push((index, Failed::Credential(credential)));
            found = self.askable(index, index, now);
            self.failed.truncate(here);
        }
        found
    }

    fn askable(&mut self, index: usize, beside: usize, now: Instant) -> Option<Second> {
        let candidate = self.picks[index].candidate();
        let (model, resolved) = (
            candidate.model_scope,
            candidate.pool.as_ref()?.is_resolved(),
        );
        if !resolved || self.has_failed(index, Failed::Target) || !self.open(model, false, now) {
            return None;
        }
        let credential = self.credential(index, false, now).ok()?;
        let place = self.place(index, credential, false, now)?;
        let slot = match &candidate.gate {
            None => None,
            // Nobody waits to be asked beside another.
            Some(gate) => Some(gate.enter()?),
        };
        // The same target is counted already.
        let permit = if index == beside {
            Admission::default()
        } else {
            let pick: &'a Pick<'a> = &self.picks[index];
            Admission::of(limits::admit_at_once(self.ask, pick, self.core).ok()?)
        };
        Some(Second {
            index,
            credential,
            place,
            slot,
            permit,
        })
    }
}

/// Whether what an attempt came to ends the race: an answer, or one that nobody else could better.
fn is_last_word(tried: &Tried) -> bool {
    match tried {
        Tried::Won(_) => true,
        Tried::Lost { judgement, .. } => {
            matches!(judgement.verdict, Verdict::Fail | Verdict::Strip)
        }
        Tried::Unsaid(_) => false,
    }
}

/// Adds what an attempt beside others has told to the exchange. The time since `began` was spent waiting, but for the
/// attempt's own part.
fn merge(side: &Exchange, leg: &Leg<'_>, began: Instant, x: &mut Exchange) {
    if let Some(known) = side.record.attempts.first() {
        x.record.attempts[leg.at].clone_from(known);
    }
    for phase in Phase::ALL {
        x.record.spent(phase, side.record.phases[phase as usize]);
    }
    let own = leg.started.elapsed().saturating_sub(side.waited);
    x.waited += began.elapsed().saturating_sub(own);
}
