//! From a model's name to the targets that may answer, built once for each snapshot.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use http::{HeaderName, HeaderValue};

use super::affinity;
use super::bill::Flat;
use super::constraints::Constraints;
use super::hedge::{Hedge, Share};
use super::needs::Bounds;
use super::screen::narrowest;
use super::smart::Tiers;
use super::stats::{self, Stats};
use super::strategy::score::Weights;
use super::strategy::shortlist::Shortlists;
use super::{
    Blame, Cooldowns, MOST_NESTED, Model, Retries, RetryBudget, Scope, Shadow, Strategy, To,
};
use crate::error::{Error, Kind, Result};
use crate::identity::{Identity, Signable};
use crate::limit::overload::{Gate, Gates};
use crate::protocol::api::{self, Api};
use crate::protocol::{Facts, Protocol};
use crate::provider::catalogue::{self, Model as Entry, Policy, Standing};
use crate::provider::cost::{Place as Region, Price};
use crate::provider::{self, Auth, Platform, Provider, Speaks, TimeoutOverrides};
use crate::upstream::pool::Pool;

/// Names resolved outside `[models.*]` and remembered; beyond it they are resolved anew each time.
const MOST_DIRECT: usize = 10_000;
/// Fallbacks of fallbacks are followed this deep.
const MOST_DEPTH: usize = 8;

/// What outlives a reload: health, in-flight counts, turns, the retry budget. Kept by name.
#[derive(Default)]
pub struct State {
    pub cooldowns: Cooldowns,
    pub budget: RetryBudget,
    pub affinity: super::affinity::Affinity,
    pub gates: Gates,
    inflight: DashMap<(String, String), Arc<AtomicU32>>,
    stats: DashMap<(String, String), Arc<Stats>>,
    turns: DashMap<String, Arc<AtomicUsize>>,
    hedges: DashMap<String, Arc<Share>>,
    /// Copies that are running, by the model whose requests they copy.
    shadows: DashMap<String, Arc<AtomicU32>>,
    identities: DashMap<String, Arc<Identity>>,
}

impl State {
    /// Returns how `provider` is signed in to; what was fetched lives on while that is the same.
    fn identity(&self, provider: &Provider) -> Option<Arc<Identity>> {
        let known = self.identities.get(&provider.name);
        if let Some(known) = known.filter(|known| known.fits(provider)) {
            return Some(known.clone());
        }
        let Some(new) = Identity::new(provider).map(Arc::new) else {
            self.identities.remove(&provider.name);
            return None;
        };
        self.identities.insert(provider.name.clone(), new.clone());
        Some(new)
    }
}

/// The routing table of one snapshot.
pub struct Table {
    providers: Vec<Arc<Provider>>,
    pools: Vec<Option<Arc<Pool>>>,
    /// Of providers that take no plain key.
    identities: Vec<Option<Arc<Identity>>>,
    provider_index: HashMap<String, usize>,
    models: HashMap<String, Arc<Route>>,
    direct: DashMap<String, Arc<Route>>,
    state: Arc<State>,
    policy: Policy,
}

/// One name's targets.
pub struct Route {
    pub name: String,
    /// Its requests count under this name in metrics: a configured or catalogue name, else `other`.
    pub label: Arc<str>,
    /// All that may answer, those of nested models too.
    pub targets: Vec<Arc<Candidate>>,
    /// What the route says of each target, beside `targets`.
    pub leaves: Vec<Leaf>,
    /// How the targets are chosen between.
    pub tree: Node,
    /// Of all `smart` models in the tree; empty where there is none.
    pub tiers: Vec<Arc<Tiers>>,
    pub fallbacks: Vec<String>,
    /// Who gets a copy, and how many copies are running.
    pub shadow: Option<(Shadow, Arc<AtomicU32>)>,
    pub timeouts: TimeoutOverrides,
    pub retries: Retries,
    /// What the model demands of whoever answers for it.
    pub constraints: Option<Arc<Constraints>>,
    /// Something is demanded, here or by a nested model.
    pub is_constrained: bool,
    /// What some of the targets are known to lack: most requests need none of it.
    pub bounds: Bounds,
    /// When a second attempt is made, and how many may be.
    pub hedge: Option<(Hedge, Arc<Share>)>,
    /// See [`Model`].
    pub continuation: Option<Arc<crate::protocol::continuation::Settings>>,
    pub stale_if_error: Option<std::time::Duration>,
    pub degraded: Option<String>,
    /// Over the targets: a cached answer of other targets is another answer.
    pub fingerprint: u64,
}

/// What a route says of one of its targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// Within its own model.
    pub weight: u32,
    /// Of the nested models that it came by.
    pub timeouts: TimeoutOverrides,
    /// The nested model that it came by; `None` for one of the route's own.
    pub via: Option<Arc<str>>,
    /// What the nested models that it came by demand.
    pub constraints: Vec<Arc<Constraints>>,
    /// The arm of an experiment that it belongs to.
    pub arm: Option<Arc<str>>,
}

/// One model's choice between its targets.
pub struct Node {
    pub strategy: Strategy,
    pub weights: Weights,
    /// Of the strategy `smart`.
    pub smart: Option<Arc<Tiers>>,
    pub children: Vec<Child>,
    /// Where there are too many to compare them all for each request.
    pub shortlists: Option<Shortlists>,
    /// Whose turn it is.
    pub turn: Arc<AtomicUsize>,
}

pub struct Child {
    /// A hash of its name.
    pub id: u64,
    pub weight: u32,
    pub branch: Branch,
}

pub enum Branch {
    /// A place in the route's targets.
    Target(usize),
    Model(Node),
}

/// Candidates made for one table, by provider and model: routes share them.
type Made = HashMap<(usize, String), Arc<Candidate>>;

/// A route under construction.
struct Growing<'a> {
    models: &'a HashMap<String, Arc<Model>>,
    made: &'a mut Made,
    targets: Vec<Arc<Candidate>>,
    leaves: Vec<Leaf>,
    tiers: Vec<Arc<Tiers>>,
}

/// A provider's model that may answer, with what is known of it.
pub struct Candidate {
    pub provider: Arc<Provider>,
    /// `None` for the built-in `demo`.
    pub pool: Option<Arc<Pool>>,
    /// `None` where the provider takes a plain key, or none.
    identity: Option<Arc<Identity>>,
    pub model: Arc<str>,
    /// `provider/model`, as clients and records name it.
    pub name: Arc<str>,
    /// What is spoken for the model, as places in the provider's protocols, in order of preference.
    spoken: Vec<usize>,
    /// For metrics: the model, or `other` when neither the configuration nor the catalogue names it.
    pub label: Arc<str>,
    /// `x-strait-provider` and `x-strait-model` of its answers.
    pub named: (HeaderValue, HeaderValue),
    pub entry: Option<&'static Entry>,
    /// Why it may not be asked: it has no price and must have one.
    pub refused: Option<(Kind, String)>,
    /// The `warning` header of its answers: it is deprecated or retired.
    pub warning: Option<HeaderValue>,
    pub facts: Facts,
    /// What it is known to lack.
    pub bounds: Bounds,
    /// Where it is served: some prices depend on it.
    pub region: Region,
    pub inflight: Arc<AtomicU32>,
    pub stats: Arc<Stats>,
    /// A hash of its name.
    pub id: u64,
    /// What the configuration says of its price.
    pub(super) own_price: Option<Price>,
    pub(super) flat: Option<Flat>,
    /// Of its provider, where that is bounded.
    pub gate: Option<Arc<Gate>>,
    pub model_scope: Scope,
    /// For each credential: all its models, and this one's quota. See [`Self::credential_at`].
    credential_scopes: Vec<(Scope, Scope)>,
    /// For each endpoint of the provider.
    pub endpoints: Vec<EndpointScopes>,
    /// For each credential (or the one without): headers to send, the credential's first.
    pub headers: Vec<Vec<(HeaderName, HeaderValue)>>,
}

/// An endpoint as cooldowns, records and requests name it.
pub struct EndpointScopes {
    /// `host:port`
    pub authority: Arc<str>,
    pub host: HeaderValue,
    /// The model served at this endpoint.
    pub serving: Scope,
    pub endpoint: Scope,
    /// For each protocol of the provider, where to post a chat: for a whole answer, and for a stream.
    paths: Vec<[Box<[u8]>; 2]>,
}

impl EndpointScopes {
    /// Returns the path to post a chat to, in a protocol by its place among the provider's.
    pub fn path(&self, protocol: usize, stream: bool) -> &[u8] {
        &self.paths[protocol][usize::from(stream)]
    }
}

impl Candidate {
    /// Returns what to ask in for a client that spoke `client`: its own where spoken, else the first.
    pub fn speaks(&self, client: Protocol) -> &Speaks {
        let protocols = &self.provider.protocols;
        let mut spoken = self.spoken.iter().map(|at| &protocols[*at]);
        let first = spoken.clone().next();
        spoken
            .find(|speaks| speaks.protocol == client)
            .or(first)
            .expect("a provider is checked to speak something")
    }

    /// Returns what failures of a credential at an endpoint are held against: for all models, and for this one's quota.
    ///
    /// Endpoints of one provider keep accounts of their own as often as not: what one of them refuses, another may
    /// take.
    pub fn credential_at(&self, credential: usize, endpoint: usize) -> (Scope, Scope) {
        let (all, quota) = self.credential_scopes[credential];
        if self.endpoints.len() < 2 {
            return (all, quota);
        }
        let endpoint = self.endpoints[endpoint].endpoint;
        (all.at(endpoint), quota.at(endpoint))
    }

    /// Returns whether requests are signed in by more than a plain key.
    pub fn signs(&self) -> bool {
        self.identity.is_some()
    }

    /// Returns the headers that sign a request in, beside those of its credential: none where a plain key does.
    ///
    /// `target` is the path as it is sent, with its query; no header that is changed after this may be signed.
    ///
    /// Errors: `UpstreamAccount` when there is no token to be had.
    pub async fn authorize(
        &self,
        endpoint: usize,
        method: &str,
        target: &[u8],
        body: &[u8],
    ) -> Result<Vec<(HeaderName, HeaderValue)>> {
        let Some(identity) = &self.identity else {
            return Ok(Vec::new());
        };
        let request = Signable {
            method,
            host: &self.endpoints[endpoint].authority,
            // Paths are checked, or percent-encoded.
            target: std::str::from_utf8(target).unwrap_or_default(),
            headers: &[],
            body,
        };
        // Boxed: a fetch is rare and large.
        Box::pin(identity.headers(request)).await
    }

    /// Returns what to ask in for an API that is no chat: of what is spoken for the model, else of what its provider
    /// speaks, the client's own protocol where it serves that, else the first that does.
    pub fn serves(&self, api: Api, client: Protocol) -> Option<&Speaks> {
        let protocols = &self.provider.protocols;
        let serves = |speaks: &&Speaks| api::speaks(api, speaks.protocol);
        let of_model = || self.spoken.iter().map(|at| &protocols[*at]).filter(serves);
        let of_provider = || protocols.iter().filter(serves);
        let is_clients = |speaks: &&Speaks| speaks.protocol == client;
        let found = of_model()
            .find(is_clients)
            .or_else(|| of_model().next())
            .or_else(|| of_provider().find(is_clients))
            .or_else(|| of_provider().next());
        found.filter(|_| self.provider.offers(api))
    }

    /// Notes that the provider refused who we are: what was fetched to sign in is fetched anew.
    pub fn distrust(&self) {
        if let Some(identity) = &self.identity {
            identity.distrust();
        }
    }

    /// Returns the path of a request for `api` at an endpoint, by its place among the provider's.
    pub fn path(&self, endpoint: usize, speaks: &Speaks, api: Api) -> String {
        let provider = &self.provider;
        provider::path(
            &provider.platform,
            &provider.endpoints[endpoint],
            speaks,
            api,
            &self.model,
            false,
        )
    }
}

impl Table {
    /// `pools` stands beside `providers`, index by index.
    pub fn new(
        providers: Vec<Arc<Provider>>,
        pools: Vec<Option<Arc<Pool>>>,
        provider_index: HashMap<String, usize>,
        models: &HashMap<String, Arc<Model>>,
        state: Arc<State>,
        policy: Policy,
    ) -> Self {
        let identities = providers.iter().map(|provider| state.identity(provider));
        let mut table = Self {
            identities: identities.collect(),
            providers,
            pools,
            provider_index,
            models: HashMap::new(),
            direct: DashMap::new(),
            state,
            policy,
        };
        let mut made = HashMap::new();
        let half_lives = half_lives(models);
        table.models = models
            .iter()
            .map(|(name, model)| {
                let route = table.configured(model, models, &mut made);
                (name.clone(), Arc::new(route))
            })
            .collect();
        for (target, candidate) in &made {
            let half_life = half_lives.get(target).copied();
            candidate
                .stats
                .set_half_life(half_life.unwrap_or(stats::HALF_LIFE));
        }
        table
    }

    fn configured(
        &self,
        model: &Model,
        models: &HashMap<String, Arc<Model>>,
        made: &mut Made,
    ) -> Route {
        let mut growing = Growing {
            models,
            made,
            targets: Vec::new(),
            leaves: Vec::new(),
            tiers: Vec::new(),
        };
        let root = Leaf {
            weight: 1,
            timeouts: TimeoutOverrides::default(),
            via: None,
            constraints: Vec::new(),
            arm: None,
        };
        let tree = self.node(model, &mut growing, &root, 0);
        let Growing {
            targets,
            leaves,
            tiers,
            ..
        } = growing;
        Route {
            name: model.name.clone(),
            label: model.name.as_str().into(),
            fingerprint: fingerprint(&targets, model.constraints.as_deref(), &leaves),
            is_constrained: model.constraints.is_some()
                || leaves.iter().any(|leaf| !leaf.constraints.is_empty()),
            constraints: model.constraints.clone(),
            bounds: narrowest(&targets),
            targets,
            leaves,
            tree,
            tiers,
            fallbacks: model.fallbacks.clone(),
            shadow: model.shadow.clone().map(|shadow| {
                let running = self.state.shadows.entry(model.name.clone());
                (shadow, running.or_default().clone())
            }),
            timeouts: model.timeouts,
            retries: model.retries,
            hedge: model.hedge.clone().map(|hedge| {
                let share = self.state.hedges.entry(model.name.clone()).or_default();
                (hedge, share.clone())
            }),
            continuation: model.continuation.clone(),
            stale_if_error: model.stale_if_error,
            degraded: model.degraded.clone(),
        }
    }

    /// Builds one model's choice; `above` is what the models around it say of all its targets.
    ///
    /// The configuration was checked: models nest without a circle, and not too deep.
    fn node(&self, model: &Model, growing: &mut Growing<'_>, above: &Leaf, depth: usize) -> Node {
        growing.tiers.extend(model.smart.clone());
        let mut children = Vec::with_capacity(model.targets.len());
        for target in &model.targets {
            let weight = target.weight;
            let (id, branch) = match &target.to {
                To::Provider { provider, model } => {
                    let key = (*provider, model.clone());
                    let make = || Arc::new(self.candidate(*provider, model, true));
                    let candidate = growing.made.entry(key).or_insert_with(make).clone();
                    let id = candidate.id;
                    growing.targets.push(candidate);
                    growing.leaves.push(Leaf {
                        weight,
                        arm: target.arm.clone().or_else(|| above.arm.clone()),
                        ..above.clone()
                    });
                    (id, Branch::Target(growing.targets.len() - 1))
                }
                To::Model(name) => {
                    let Some(nested) = growing.models.get(name) else {
                        continue;
                    };
                    if depth >= MOST_NESTED {
                        continue;
                    }
                    let within = Leaf {
                        weight,
                        timeouts: above.timeouts.with(nested.timeouts),
                        via: Some(name.as_str().into()),
                        constraints: above
                            .constraints
                            .iter()
                            .chain(&nested.constraints)
                            .cloned()
                            .collect(),
                        arm: target.arm.clone().or_else(|| above.arm.clone()),
                    };
                    let branch = self.node(nested, growing, &within, depth + 1);
                    (affinity::target_of("", name), Branch::Model(branch))
                }
            };
            children.push(Child { id, weight, branch });
        }
        Node {
            strategy: model.strategy,
            weights: model.tuning.weights,
            smart: model.smart.clone(),
            shortlists: Shortlists::new(model.strategy, children.len()),
            children,
            turn: self
                .state
                .turns
                .entry(model.name.clone())
                .or_default()
                .clone(),
        }
    }

    fn candidate(&self, provider: usize, model: &str, named: bool) -> Candidate {
        let pool = self.pools[provider].clone();
        let identity = self.identities[provider].clone();
        let provider = self.providers[provider].clone();
        let known = provider.known_as(model);
        let entry = catalogue::model(&provider.catalogue, known);
        let (refused, warning) = match self.policy.check(&provider, model, entry) {
            Ok(Standing::Current) => (None, None),
            Ok(Standing::Deprecated(text)) => (None, Some(value(&text))),
            Err(error) => (Some((error.kind, error.message.into_owned())), None),
        };
        let mut facts = entry.map(catalogue::facts).unwrap_or_default();
        facts.developer_role = provider.quirks.developer_role;
        facts.max_completion_tokens = provider.quirks.max_completion_tokens;
        let label = if named || entry.is_some() {
            model.into()
        } else {
            "other".into()
        };
        let scopes = provider.credentials.iter().map(|credential| {
            (
                Scope::of(Blame::Credential, &provider.name, &[&credential.name]),
                Scope::of(Blame::Quota, &provider.name, &[&credential.name, model]),
            )
        });
        let credential_scopes = scopes.collect();
        let endpoints = provider.endpoints.iter().map(|endpoint| {
            let authority = endpoint.authority();
            EndpointScopes {
                host: HeaderValue::from_str(&authority)
                    .unwrap_or(HeaderValue::from_static("invalid")),
                serving: Scope::of(Blame::Serving, &provider.name, &[model, &authority]),
                endpoint: Scope::of(Blame::Endpoint, &provider.name, &[&authority]),
                paths: provider
                    .protocols
                    .iter()
                    .map(|speaks| {
                        [false, true].map(|stream| {
                            let platform = &provider.platform;
                            provider::path(platform, endpoint, speaks, Api::Chat, model, stream)
                                .into_bytes()
                                .into()
                        })
                    })
                    .collect(),
                authority: authority.into(),
            }
        });
        let endpoints = endpoints.collect();
        let headers = headers(&provider);
        // Names that nobody configured come from clients: their counts are not kept for ever.
        let new = || Arc::new(Stats::new(stats::HALF_LIFE, Instant::now()));
        let (inflight, stats) = if named || entry.is_some() {
            let key = (provider.name.clone(), model.to_owned());
            (
                self.state.inflight.entry(key.clone()).or_default().clone(),
                self.state.stats.entry(key).or_insert_with(new).clone(),
            )
        } else {
            (Arc::default(), new())
        };
        let own_price = provider.price.clone().map(Price::from);
        let region = region(&provider);
        Candidate {
            model_scope: Scope::of(Blame::Model, &provider.name, &[model]),
            credential_scopes,
            endpoints,
            headers,
            pool,
            identity,
            name: format!("{}/{model}", provider.name).into(),
            named: (value(&provider.name), value(model)),
            model: model.into(),
            label,
            entry,
            refused,
            warning,
            facts,
            region,
            flat: Flat::of(entry, own_price.as_ref(), region),
            own_price,
            id: affinity::target_of(&provider.name, model),
            stats,
            bounds: Bounds::of(entry),
            spoken: provider.spoken(known, entry),
            inflight,
            gate: self.state.gates.of(&provider.name),
            provider,
        }
    }

    /// Resolves a model's name: a `[models.*]` name, `provider/model`, or a bare catalogue id.
    pub fn resolve(&self, name: &str) -> Result<Arc<Route>> {
        if let Some(route) = self.models.get(name) {
            return Ok(route.clone());
        }
        if let Some(route) = self.direct.get(name) {
            return Ok(route.clone());
        }
        let targets = self.direct_targets(name);
        if targets.is_empty() {
            return Err(self.unknown(name));
        }
        let known = targets
            .iter()
            .any(|target| target.entry.is_some() || target.provider.demo);
        let leaf = Leaf {
            weight: 1,
            timeouts: TimeoutOverrides::default(),
            via: None,
            constraints: Vec::new(),
            arm: None,
        };
        let children = (0..targets.len()).map(|index| Child {
            id: targets[index].id,
            weight: 1,
            branch: Branch::Target(index),
        });
        let route = Arc::new(Route {
            name: name.to_owned(),
            label: if known { name.into() } else { "other".into() },
            fingerprint: fingerprint(&targets, None, &[]),
            is_constrained: false,
            constraints: None,
            bounds: narrowest(&targets),
            leaves: vec![leaf; targets.len()],
            tree: Node {
                weights: Weights::default(),
                strategy: Strategy::Fallback,
                smart: None,
                shortlists: None,
                children: children.collect(),
                turn: Arc::default(),
            },
            tiers: Vec::new(),
            targets,
            fallbacks: Vec::new(),
            shadow: None,
            timeouts: TimeoutOverrides::default(),
            retries: Retries::default(),
            hedge: None,
            continuation: None,
            stale_if_error: None,
            degraded: None,
        });
        if self.direct.len() < MOST_DIRECT {
            self.direct.insert(name.to_owned(), route.clone());
        }
        Ok(route)
    }

    fn direct_targets(&self, name: &str) -> Vec<Arc<Candidate>> {
        if let Some((prefix, model)) = name.split_once('/')
            && let Some(&provider) = self.provider_index.get(prefix)
            && !model.is_empty()
            && !climbs(model)
        {
            return vec![Arc::new(self.candidate(provider, model, false))];
        }
        let mut seen = Vec::new();
        for (provider, id) in catalogue::bare(name) {
            for (index, known) in self.providers.iter().enumerate() {
                if known.catalogue == provider && !seen.iter().any(|(other, _)| *other == index) {
                    seen.push((index, id));
                }
            }
        }
        seen.into_iter()
            .map(|(index, id)| Arc::new(self.candidate(index, id, false)))
            .collect()
    }

    fn unknown(&self, name: &str) -> Error {
        let shown: String = name.chars().take(100).collect();
        let mut message = format!("The model `{shown}` does not exist here.");
        let near = self.closest(name);
        if !near.is_empty() {
            message.push_str(" Closest: ");
            message.push_str(&near.join(", "));
            message.push('.');
        } else if let Some(provider) = catalogue::bare(name).map(|(provider, _)| provider).next() {
            message.push_str(&format!(
                " Provider `{provider}` serves it, but has no key here."
            ));
        }
        Error {
            param: Some("model".into()),
            ..Error::new(Kind::ModelNotFound, message)
        }
    }

    /// Returns up to five names that clients may use and that look like `name`.
    fn closest(&self, name: &str) -> Vec<String> {
        let enabled = |candidate: &String| {
            candidate
                .split_once('/')
                .is_none_or(|(provider, _)| self.provider_index.contains_key(provider))
        };
        let own = self
            .models
            .keys()
            .map(|known| (distance(name, known), known.clone()));
        let mut near: Vec<_> = own
            .filter(|(far, known)| *far <= known.len().max(name.len()) / 3 + 1)
            .collect();
        near.sort();
        let mut near: Vec<String> = near.into_iter().map(|(_, known)| known).take(3).collect();
        near.extend(
            catalogue::closest(name)
                .into_iter()
                .filter(enabled)
                .take(5 - near.len()),
        );
        near
    }

    /// Returns the routes to ask in turn: the model's own, its fallbacks, then those that the request names.
    pub fn chain(
        &self,
        first: Arc<Route>,
        asked: &[Arc<Route>],
        fallbacks: bool,
    ) -> Vec<Arc<Route>> {
        let mut chain = vec![first];
        if !fallbacks {
            return chain;
        }
        self.follow(&mut chain, 0, 0);
        for route in asked {
            if chain.iter().all(|known| known.name != route.name) {
                chain.push(route.clone());
            }
        }
        chain
    }

    fn follow(&self, chain: &mut Vec<Arc<Route>>, at: usize, depth: usize) {
        if depth >= MOST_DEPTH {
            return;
        }
        for name in chain[at].fallbacks.clone() {
            // The configuration was checked: a fallback that doesn't resolve has lost its key since.
            let Ok(route) = self.resolve(&name) else {
                continue;
            };
            if chain.iter().all(|known| known.name != route.name) {
                chain.push(route);
                self.follow(chain, chain.len() - 1, depth + 1);
            }
        }
    }

    /// Returns the configured names, sorted.
    pub fn configured_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.models.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    pub fn configured_route(&self, name: &str) -> Option<&Arc<Route>> {
        self.models.get(name)
    }

    pub fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    pub fn has_provider(&self, name: &str) -> bool {
        self.provider_index.contains_key(name)
    }

    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.iter().flatten()
    }

    pub fn state(&self) -> &Arc<State> {
        &self.state
    }
}

/// Returns the half-lives that models set, the shortest for each target.
fn half_lives(models: &HashMap<String, Arc<Model>>) -> HashMap<(usize, String), Duration> {
    let mut shortest = HashMap::new();
    for model in models.values() {
        let Some(half_life) = model.tuning.half_life else {
            continue;
        };
        for target in &model.targets {
            if let To::Provider { provider, model } = &target.to {
                let known = shortest.entry((*provider, model.clone()));
                let known = known.or_insert(half_life);
                *known = half_life.min(*known);
            }
        }
    }
    shortest
}

/// Returns whether a name has `.` or `..` where a provider's path would be led elsewhere by it.
pub fn climbs(name: &str) -> bool {
    name.split(['/', '\\'])
        .any(|part| matches!(part, "." | ".."))
}

/// Returns where a provider's models are served, as far as prices depend on it.
fn region(provider: &Provider) -> Region {
    match &provider.platform {
        // Also behind an address of one's own.
        Platform::Vertex { location, .. } if location != "global" => Region::Region,
        Platform::Plain
        | Platform::Azure { .. }
        | Platform::Vertex { .. }
        | Platform::Bedrock { .. } => Region::of(
            provider
                .endpoints
                .first()
                .map_or("", |endpoint| &endpoint.host),
        ),
    }
}

/// Returns a header value; what can't be sent in a header is left empty.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

fn fingerprint(
    targets: &[Arc<Candidate>],
    constraints: Option<&Constraints>,
    leaves: &[Leaf],
) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::hash::DefaultHasher::new();
    constraints.hash(&mut hasher);
    for leaf in leaves {
        leaf.constraints.hash(&mut hasher);
    }
    for target in targets {
        (&target.provider.name, &target.model).hash(&mut hasher);
    }
    hasher.finish()
}

/// Returns the headers of each credential's requests. The configuration was checked: all of them can be sent.
fn headers(provider: &Provider) -> Vec<Vec<(HeaderName, HeaderValue)>> {
    let fixed = provider.headers.iter().filter_map(|(name, value)| {
        Some((
            HeaderName::from_bytes(name.as_bytes()).ok()?,
            HeaderValue::from_str(value).ok()?,
        ))
    });
    let fixed: Vec<_> = fixed.collect();
    if provider.credentials.is_empty() {
        return vec![fixed];
    }
    let each = provider.credentials.iter().map(|credential| {
        let own = match &provider.auth {
            // Made for each request: see `identity`.
            Auth::None | Auth::SigV4 { .. } | Auth::Google(_) | Auth::Entra(_) => None,
            Auth::Bearer => Some((
                http::header::AUTHORIZATION,
                format!("Bearer {}", credential.key.expose()),
            )),
            Auth::Header(name) => HeaderName::from_bytes(name.as_bytes())
                .ok()
                .map(|name| (name, credential.key.expose().to_owned())),
        };
        let own = own.and_then(|(name, value)| {
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        own.into_iter().chain(fixed.iter().cloned()).collect()
    });
    each.collect()
}

/// Returns the edit distance of two short names, over their first 64 bytes.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (
        &a.as_bytes()[..a.len().min(64)],
        &b.as_bytes()[..b.len().min(64)],
    );
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let up = row[j + 1];
            row[j + 1] = (corner + usize::from(x != y)).min(up + 1).min(row[j] + 1);
            corner = up;
        }
    }
    row[b.len()]
}
