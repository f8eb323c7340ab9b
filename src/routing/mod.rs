//! Where it goes: from a model's name to targets in order, and what is known of their health.

pub mod affinity;
mod bill;
mod budget;
pub mod choose;
pub mod constraints;
mod health;
pub mod hedge;
pub mod needs;
pub mod rules;
pub mod screen;
pub mod smart;
pub mod stats;
pub mod strategy;
mod table;

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::continuation;
use crate::provider::TimeoutOverrides;
use constraints::Constraints;

pub use budget::RetryBudget;
pub use health::{Allowance, Begun, Blame, Cooldowns, Failed, Listed, Scope, Standing, Waiting};
pub use table::{
    Branch, Candidate, Child, EndpointScopes, Leaf, Node, Route, State, Table, climbs,
};

/// A name that clients may use (`[models.NAME]`), checked: every target's provider exists.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub name: String,
    pub targets: Vec<Target>,
    pub strategy: Strategy,
    pub tuning: Tuning,
    /// Names of other `[models.*]` or `provider/model`, tried in order when all targets failed.
    pub fallbacks: Vec<String>,
    pub timeouts: TimeoutOverrides,
    pub retries: Retries,
    /// What is demanded of all its targets, and of its fallbacks where it is the one asked for.
    pub constraints: Option<Arc<Constraints>>,
    pub hedge: Option<hedge::Hedge>,
    /// How streams that break off are gone on with; `None` where they are not.
    pub continuation: Option<Arc<continuation::Settings>>,
    /// How long an answer that is over its time may stand in for one that can't be had.
    pub stale_if_error: Option<Duration>,
    /// Another `[models.*]` or `provider/model`, asked when everything else has failed.
    pub degraded: Option<String>,
    /// Of the strategy `smart`, and of no other.
    pub smart: Option<Arc<smart::Tiers>>,
    pub shadow: Option<Shadow>,
}

/// Another model that gets a copy of some requests, whose answers nobody sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Shadow {
    /// A name of `[models.*]`, or `provider/model`.
    pub model: String,
    /// Of the requests, from 0 to 1.
    pub share: f64,
    /// Copies at a time; above it they are left out.
    pub most: u32,
}

impl Shadow {
    /// The share when none is given.
    pub const SHARE: f64 = 1.0;
    /// The bound when none is given.
    pub const MOST: u32 = 16;
}

/// What may answer in a model's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub to: To,
    pub weight: u32,
    /// The arm of an experiment that it belongs to.
    pub arm: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    Provider {
        /// Index into the snapshot's providers.
        provider: usize,
        /// The provider's own id.
        model: String,
    },
    /// Another `[models.*]`: its targets, in the order of its own strategy. Its fallbacks are not followed from here.
    Model(String),
}

/// Models in models are followed this deep.
pub const MOST_NESTED: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// The targets in the order of the file.
    #[default]
    Fallback,
    /// The first by weight, at random; the others follow by weight.
    Weighted,
    RoundRobin,
    /// The one with the fewest requests in flight, in proportion to its weight.
    LeastBusy,
    /// The one that answers soonest, by what was seen of late.
    Latency,
    /// The cheapest for this very request.
    Cost,
    /// The best by price, availability, latency and throughput together.
    Score,
    /// By the difficulty of the prompt: the targets are tiers, from the cheapest to the most capable.
    Smart,
}

/// What tunes the strategies of a model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tuning {
    /// In which time what was seen of a target loses half its worth. Where several models name a target, the
    /// shortest counts.
    pub half_life: Option<Duration>,
    pub weights: strategy::score::Weights,
}

impl Strategy {
    pub const ALL: [(&'static str, Strategy); 8] = [
        ("fallback", Strategy::Fallback),
        ("weighted", Strategy::Weighted),
        ("round-robin", Strategy::RoundRobin),
        ("least-busy", Strategy::LeastBusy),
        ("latency", Strategy::Latency),
        ("cost", Strategy::Cost),
        ("score", Strategy::Score),
        ("smart", Strategy::Smart),
    ];

    pub fn name(self) -> &'static str {
        let known = Self::ALL.iter().find(|(_, known)| *known == self);
        known.map_or("", |(name, _)| name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// All attempts of one request together, over credentials, endpoints, targets and fallbacks.
    pub max_attempts: u32,
    /// Before the first retry at the same target; doubles each time, with full jitter, up to 20 times this.
    pub backoff: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            backoff: Duration::from_millis(250),
        }
    }
}
