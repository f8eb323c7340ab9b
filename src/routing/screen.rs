//! Who of those chosen may not answer this request: who lacks what it needs, and who doesn't meet what is demanded.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::choose::{Choice, Passed, Pick};
use super::constraints::{self, Against, Demands, Subject};
use super::needs::{self, Bounds, Missing, Needs};
use super::{Candidate, Route};
use crate::codec::json::Member;
use crate::error::Error;
use crate::protocol::Protocol;

/// Why a target is passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    Missing(Missing),
    Against(Against),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Missing(missing) => missing.fmt(f),
            Reason::Against(against) => against.fmt(f),
        }
    }
}

/// What every target of a request is measured by.
pub struct Screen<'a> {
    pub protocol: Protocol,
    pub needs: Needs,
    /// Tokens of input, estimated: prices have tiers.
    pub input: u64,
    /// The model as the request names it.
    pub asked: &'a str,
    /// Of the key and of the request. Those of the models stand in their routes.
    pub demands: Demands<'a>,
    /// The request is for a stream: what counts is then its first token.
    pub stream: bool,
}

impl Screen<'_> {
    /// Moves who may not answer out of `choice`. `chain` is what was chosen from: what its first model demands binds
    /// its fallbacks too.
    ///
    /// Who lacks only what our own translation makes do without is asked when there is nobody else.
    pub fn sift<'r>(&self, chain: &'r [Arc<Route>], choice: &mut Choice<'r>) {
        let Some(first) = chain.first() else {
            return;
        };
        if self.is_open(chain) {
            return;
        }
        let mut bent = Vec::new();
        for pick in std::mem::take(&mut choice.picks) {
            match self.reason(first, &pick) {
                None => choice.picks.push(pick),
                Some(Reason::Missing(missing)) if missing.bends() => bent.push((pick, missing)),
                Some(reason) => choice.passed.push(passed(pick, reason)),
            }
        }
        if choice.picks.is_empty() {
            choice.picks.extend(bent.into_iter().map(|(pick, _)| pick));
        } else {
            let bent = bent.into_iter();
            let bent = bent.map(|(pick, missing)| passed(pick, Reason::Missing(missing)));
            choice.passed.extend(bent);
        }
    }

    /// Returns whether nothing stands against anyone: the case of most requests.
    fn is_open(&self, chain: &[Arc<Route>]) -> bool {
        let narrowest = chain.iter().map(|route| route.bounds);
        let narrowest = narrowest.fold(Bounds::default(), Bounds::and);
        self.demands.is_empty()
            && chain.iter().all(|route| !route.is_constrained)
            && narrowest.hold(&self.needs)
    }

    fn reason(&self, first: &Arc<Route>, pick: &Pick<'_>) -> Option<Reason> {
        let candidate = pick.candidate();
        let leaf = &pick.route.leaves[pick.target];
        let other = (!Arc::ptr_eq(first, pick.route)).then_some(&pick.route.constraints);
        let demands = self.demands.iter();
        let models = first.constraints.iter().chain(other.into_iter().flatten());
        let models = models.chain(&leaf.constraints).map(|shared| &**shared);
        let latency = || candidate.takes(self.stream, self.input);
        // What was asked for stands for the targets of its own route, and for nobody's who steps in for them.
        let asked = if other.is_none() { self.asked } else { "" };
        let via = leaf.via.as_deref().unwrap_or_default();
        let subject = Subject {
            names: &[asked, &pick.route.name, via],
            provider: &candidate.provider,
            model: &candidate.model,
            entry: candidate.entry,
            place: candidate.region,
            input: self.input,
            latency: &latency,
        };
        let mut demands = demands.chain(models);
        if let Some(against) = demands.find_map(|demand| demand.against(&subject)) {
            return Some(Reason::Against(against));
        }
        // What the gateway answers itself takes anything.
        if candidate.provider.demo {
            return None;
        }
        let translates = candidate.speaks(self.protocol).protocol != self.protocol;
        let missing = candidate.bounds.miss(&self.needs, translates);
        missing.map(Reason::Missing)
    }
}

impl Candidate {
    /// Returns how long such requests take. It is not known after one alone, and no more after a time without any: who was
    /// too slow once is asked again.
    fn takes(&self, stream: bool, input: u64) -> Option<Duration> {
        let known = self.stats.latency(stream, input, Instant::now())?;
        let seconds = (known.variance < known.noise).then(|| known.mean.exp())?;
        Duration::try_from_secs_f32(seconds).ok()
    }
}

fn passed(pick: Pick<'_>, reason: Reason) -> Passed<'_> {
    Passed {
        route: pick.route,
        target: pick.target,
        reason,
    }
}

/// Returns why a request for `model` can't be answered when nobody is left to ask: what every target lacks, or which
/// demand none of them meets. `None` where somebody is.
pub fn refusal(
    choice: &Choice<'_>,
    model: &str,
    protocol: Protocol,
    body: &[u8],
    members: &[Member],
) -> Option<Error> {
    if !choice.picks.is_empty() || choice.passed.is_empty() {
        return None;
    }
    let (mut missing, mut against) = (Vec::new(), Vec::new());
    for passed in &choice.passed {
        let name = passed.candidate().name.to_string();
        match &passed.reason {
            Reason::Missing(one) => missing.push((name, *one)),
            Reason::Against(one) => against.push((name, one.clone())),
        }
    }
    // Whoever is not allowed to answer lacks nothing that the client could do without.
    Some(if missing.is_empty() {
        constraints::refusal(model, &against)
    } else {
        needs::refusal(model, protocol, body, members, &missing)
    })
}

/// Returns what all of these together lack.
pub fn narrowest<'c>(targets: impl IntoIterator<Item = &'c Arc<Candidate>>) -> Bounds {
    let targets = targets.into_iter();
    targets.fold(Bounds::default(), |all, target| all.and(target.bounds))
}
