//! One attempt from its record to its blame.

use std::time::{Duration, Instant};

use super::end::Fault;
use super::{Exchange, Hunt};
use crate::error::{Error, Kind};
use crate::gateway::outcome::{Busy, Flow, Lost, Tried, Try, Won};
use crate::gateway::send;
use crate::gateway::verdict::{Judgement, Verdict};
use crate::observe::record::AttemptRecord;
use crate::routing::{Blame, Candidate, Cooldowns, Failed, Scope};
use crate::upstream;

/// An answer, or what its failure means.
pub(super) type Outcome = Result<Box<Won>, Box<(Judgement, Lost)>>;

/// An attempt that is being made.
pub(super) struct Leg<'a> {
    pub started: Instant,
    /// Its place among the exchange's attempts.
    pub at: usize,
    /// What it finds out about; others may when it is dropped.
    _probes: Probes<'a>,
}

/// What an attempt is the one probe of, by the end of the lease.
struct Probes<'a> {
    cooldowns: &'a Cooldowns,
    leases: Vec<(Scope, Instant)>,
}

impl Drop for Probes<'_> {
    fn drop(&mut self) {
        for (scope, lease) in &self.leases {
            self.cooldowns.release(*scope, *lease);
        }
    }
}

impl<'a> Hunt<'a> {
    /// Makes one attempt, records it, and blames what failed.
    pub(super) async fn attempt(&mut self, plan: &Try<'_>, x: &mut Exchange) -> Outcome {
        let leg = self.begin(plan, x);
        let busy = Busy::new(&plan.candidate().inflight, self.slot.take());
        let tried = send::attempt(self.ask, plan, busy, x).await;
        self.settle(plan, leg, tried, x)
    }

    /// Begins an attempt. Its record is completed later: one whose client leaves is recorded as cancelled.
    pub(super) fn begin(&self, plan: &Try<'_>, x: &mut Exchange) -> Leg<'a> {
        let candidate = plan.candidate();
        let endpoint = &candidate.endpoints[plan.place.endpoint];
        let started = Instant::now();
        let cooldowns = &self.core.routing.cooldowns;
        let mut leases = Vec::new();
        let mut asked = |scope| {
            leases.extend(cooldowns.asked(scope, started).map(|lease| (scope, lease)));
        };
        asked(endpoint.serving);
        asked(endpoint.endpoint);
        asked(candidate.model_scope);
        if let Some(index) = plan.credential {
            let (all, quota) = candidate.credential_at(index, plan.place.endpoint);
            asked(all);
            asked(quota);
            cooldowns.took(quota, self.ask.envelope.estimate_tokens());
        }
        let credential = plan
            .credential
            .map(|index| candidate.provider.credentials[index].name.clone());
        x.record.attempts.push(AttemptRecord {
            provider: candidate.provider.name.clone(),
            model: candidate.model.to_string(),
            credential: credential.unwrap_or_default(),
            endpoint: endpoint.authority.to_string(),
            outcome: "cancelled",
            ..AttemptRecord::default()
        });
        Leg {
            started,
            at: x.record.attempts.len() - 1,
            _probes: Probes { cooldowns, leases },
        }
    }

    /// Completes an attempt's record, and holds what it came to against whom it concerns.
    pub(super) fn settle(
        &mut self,
        plan: &Try<'_>,
        leg: Leg<'_>,
        tried: Tried,
        x: &mut Exchange,
    ) -> Outcome {
        let candidate = plan.candidate();
        let now = Instant::now();
        let took = now.saturating_duration_since(leg.started);
        let record = &mut x.record.attempts[leg.at];
        record.ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        match tried {
            Tried::Won(won) => {
                record.outcome = "ok";
                record.status = Some(won.meta.status);
                if let Some(conversation) = self.ask.conversation {
                    let affinity = &self.core.routing.affinity;
                    affinity.put(conversation, candidate, plan.credential, plan.place.address);
                }
                self.learn(candidate, &won.flow, took, now);
                self.answered(plan, &won, leg.started, now);
                Ok(won)
            }
            Tried::Unsaid(error) => {
                // Nothing was sent: no attempt.
                x.record.attempts.remove(leg.at);
                self.attempts -= 1;
                self.trail.push(Fault::unsaid(candidate, &error));
                let judgement = Judgement {
                    verdict: Verdict::Next,
                    blame: None,
                    account: false,
                };
                Err(Box::new((judgement, error.into())))
            }
            Tried::Lost {
                mut lost,
                judgement,
                outcome,
                told,
            } => {
                lost.mask(&candidate.provider);
                record.outcome = outcome;
                record.retry_after_ms =
                    told.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                let status = record.status.filter(|_| outcome == "status");
                self.trail
                    .push(Fault::new(candidate, outcome, status, lost.error.kind));
                if let Some(blame) = judgement.blame {
                    candidate.stats.failed(took, now);
                    let (scope, label) = blamed(plan, blame);
                    let name = || format!("{} {label}", candidate.model).trim_end().to_owned();
                    let failed = Failed {
                        scope,
                        blame,
                        provider: &candidate.provider.name,
                        name: &name,
                        reason: outcome,
                        told,
                        asked: leg.started,
                    };
                    if self.core.routing.cooldowns.failed(&failed, now) {
                        let metrics = &self.core.metrics;
                        metrics.cooled(&candidate.provider.name, blame.name());
                    }
                }
                Err(Box::new((judgement, lost)))
            }
        }
    }

    /// Notes an answer, and how long it let us wait.
    fn learn(&self, candidate: &Candidate, flow: &Flow, took: Duration, now: Instant) {
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

    /// Notes an answer: cooldowns end, and a nearly spent allowance is minded.
    fn answered(&self, plan: &Try<'_>, won: &Won, asked: Instant, now: Instant) {
        let candidate = plan.candidate();
        let cooldowns = &self.core.routing.cooldowns;
        let endpoint = &candidate.endpoints[plan.place.endpoint];
        let mut cooled = cooldowns.succeeded(endpoint.serving, asked, now);
        cooled |= cooldowns.succeeded(endpoint.endpoint, asked, now);
        cooled |= cooldowns.succeeded(candidate.model_scope, asked, now);
        if let Some(index) = plan.credential {
            let (all, quota) = candidate.credential_at(index, plan.place.endpoint);
            cooled |= cooldowns.succeeded(all, asked, now);
            cooled |= cooldowns.succeeded(quota, asked, now);
            if let Some(left) = &won.meta.left {
                let name = &candidate.provider.credentials[index].name;
                let name = || format!("{} {name}", candidate.model);
                let scope = Failed {
                    scope: quota,
                    blame: Blame::Quota,
                    provider: &candidate.provider.name,
                    name: &name,
                    reason: "allowance",
                    told: None,
                    asked,
                };
                cooldowns.left(&scope, left, self.ask.envelope.estimate_tokens(), now);
            }
        }
        if cooled {
            tracing::info!(
                provider = candidate.provider.name,
                endpoint = &*endpoint.authority,
                "recovered"
            );
        }
    }

    /// Records that a provider's name has no address.
    pub(super) fn unresolved(&mut self, index: usize, candidate: &Candidate, x: &mut Exchange) {
        self.failed.push((index, super::Failed::Target));
        candidate.stats.failed(Duration::ZERO, Instant::now());
        let endpoint = candidate.provider.endpoints.first();
        let host = endpoint.map_or("", |endpoint| endpoint.host.as_str());
        let failure = upstream::Failure::unresolved(host);
        x.record.attempts.push(AttemptRecord {
            provider: candidate.provider.name.clone(),
            model: candidate.model.to_string(),
            endpoint: host.to_owned(),
            outcome: failure.outcome(),
            ..AttemptRecord::default()
        });
        let kind = Kind::UpstreamUnavailable;
        self.trail
            .push(Fault::new(candidate, failure.outcome(), None, kind));
        // Who asks has no use for the names of our network.
        let error = Error::new(kind, "The provider's name could not be resolved.");
        self.last = Some(error.with_cause(failure.cause).into());
    }
}

/// Returns what a failure is held against, and which one of the model's that is.
fn blamed<'p>(plan: &'p Try<'_>, blame: Blame) -> (Scope, &'p str) {
    let candidate = plan.candidate();
    let endpoint = &candidate.endpoints[plan.place.endpoint];
    match (blame, plan.credential) {
        (Blame::Credential, Some(index)) => (
            candidate.credential_at(index, plan.place.endpoint).0,
            &candidate.provider.credentials[index].name,
        ),
        (Blame::Quota, Some(index)) => (
            candidate.credential_at(index, plan.place.endpoint).1,
            &candidate.provider.credentials[index].name,
        ),
        (Blame::Endpoint, _) => (endpoint.endpoint, &endpoint.authority),
        (Blame::Model, _) => (candidate.model_scope, ""),
        (Blame::Serving | Blame::Credential | Blame::Quota, _) => {
            (endpoint.serving, &endpoint.authority)
        }
    }
}
