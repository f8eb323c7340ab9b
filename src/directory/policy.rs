//! The rules, limits and budgets attached to one level, read from their bodies and put together.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::schema::{self, Kind};
use crate::access::{Gate, Net};
use crate::glob::Glob;
use crate::limit::budget::{Budget, Scope};
use crate::limit::named::{Dimension, EACH, Named};
use crate::limit::{Holder, Limited, Limits};
use crate::provider::cost::PICO;
use crate::routing::constraints::{Constraints, Origin, Who};

/// One attached object, read.
#[derive(Debug, Clone)]
pub enum Piece {
    Policy(Box<Policy>),
    Limit(Box<Limit>),
    Budget(Box<Allotted>),
}

/// A budget, and whose it is: what it is attached to, or one that requests name (`None` in it: each).
#[derive(Debug, Clone)]
pub struct Allotted {
    pub budget: Budget,
    pub of: Option<(Dimension, Option<Box<str>>)>,
}

#[derive(Debug, Clone)]
pub struct Limit {
    /// Sorted; none: all models.
    models: Vec<String>,
    limits: Limits,
}

#[derive(Debug, Clone)]
pub struct Policy {
    gate: Gate,
    demand: Constraints,
}

/// What holds at one level, ready for requests.
#[derive(Debug, Default)]
pub struct Level {
    pub gate: Option<Arc<Gate>>,
    pub constraints: Option<Arc<Constraints>>,
    pub limits: Vec<Arc<Limited>>,
    pub spends: Option<Scope>,
    /// Budgets of those that requests name.
    pub named: Vec<Arc<Named>>,
}

impl Piece {
    /// Reads an attached object; `None` for one that is of another kind. What isn't understood in a body was never
    /// taken by the API: nothing is said of it, and nothing allowed by it.
    pub fn read(kind: Kind, body: &Map<String, Value>) -> Option<Self> {
        match kind {
            Kind::Policy => Some(Piece::Policy(Box::new(policy(body)))),
            Kind::Limit => Some(Piece::Limit(Box::new(limit(body)))),
            Kind::Budget => allotted(body).map(|allotted| Piece::Budget(Box::new(allotted))),
            Kind::Organisation
            | Kind::Team
            | Kind::Project
            | Kind::User
            | Kind::Key
            | Kind::Credential => None,
        }
    }

    /// Returns it with when it was made, in seconds since 1970.
    pub fn made(mut self, at: i64) -> Self {
        if let Piece::Budget(allotted) = &mut self {
            allotted.budget.since = Timestamp::from_second(at).ok();
        }
        self
    }
}

impl Level {
    /// Puts together what is attached to the object `id`.
    pub fn of(id: &str, pieces: &BTreeMap<Box<str>, Piece>) -> Self {
        let kind = Kind::of_id(id).map_or("", Kind::name);
        let mut gate = Gate::default();
        let mut demand = Constraints::new(Origin::Owner(format!("{kind} {id}")));
        // By the models that they are for: those for the same are one.
        let mut limits: BTreeMap<&[String], Limits> = BTreeMap::new();
        let mut budgets: BTreeMap<_, Vec<Budget>> = BTreeMap::new();
        for piece in pieces.values() {
            match piece {
                Piece::Policy(policy) => unite(policy, &mut gate, &mut demand),
                Piece::Limit(more) => {
                    let known = limits.entry(&more.models).or_default();
                    *known = known.and(more.limits);
                }
                Piece::Budget(allotted) => {
                    let Allotted { budget, of } = &**allotted;
                    let budgets = budgets.entry(of).or_default();
                    // Two over the same time are counted as one; the smaller alone would hold.
                    let same = budgets.iter_mut().find(|known| {
                        known.every == budget.every && known.rolling == budget.rolling
                    });
                    match same {
                        Some(known) => {
                            let since = known.since.min(budget.since);
                            if budget.most_pico < known.most_pico {
                                *known = budget.clone();
                            }
                            known.since = since;
                        }
                        None => budgets.push(budget.clone()),
                    }
                }
            }
        }
        let own = budgets.remove(&None).unwrap_or_default();
        let named = budgets.into_iter().filter_map(|(of, budgets)| {
            let (of, who) = of.clone()?;
            Some(Arc::new(named(id, of, who, budgets)))
        });
        Self {
            named: named.collect(),
            gate: (!gate.is_empty()).then(|| Arc::new(gate)),
            constraints: (!demand.is_empty()).then(|| Arc::new(demand)),
            limits: limits
                .into_iter()
                .map(|(models, limits)| {
                    let models: Vec<&str> = models.iter().map(String::as_str).collect();
                    Arc::new(Limited::new(holder(id), id, &models, limits))
                })
                .collect(),
            spends: (!own.is_empty()).then(|| spender(id, own)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.gate.is_none()
            && self.constraints.is_none()
            && self.limits.is_empty()
            && self.spends.is_none()
            && self.named.is_empty()
    }
}

fn holder(id: &str) -> Holder {
    match Kind::of_id(id) {
        Some(Kind::Organisation) => Holder::Organisation,
        Some(Kind::Team) => Holder::Team,
        Some(Kind::Project) => Holder::Project,
        Some(Kind::User) => Holder::User,
        Some(Kind::Key | Kind::Policy | Kind::Limit | Kind::Budget | Kind::Credential) | None => {
            Holder::Key
        }
    }
}

/// Returns who spends at the object `id`, by the name under which it is counted.
pub fn spender(id: &str, budgets: Vec<Budget>) -> Scope {
    let kind = Kind::of_id(id).map_or("", Kind::name);
    Scope {
        name: format!("{kind}:{id}").into(),
        budgets: budgets.into(),
    }
}

/// Returns whom a budget is for that the requests of keys at the object `id` name.
pub fn named(id: &str, of: Dimension, who: Option<Box<str>>, budgets: Vec<Budget>) -> Named {
    Named {
        on: id.into(),
        of,
        who,
        budgets: budgets.into(),
    }
}

/// Of one level, what is allowed unites, and so does what is denied; the lowest ceiling and every promise hold.
fn unite(policy: &Policy, gate: &mut Gate, demand: &mut Constraints) {
    let Policy {
        gate: more,
        demand: demands,
    } = policy;
    gate.models.allow.extend(more.models.allow.iter().cloned());
    gate.models.deny.extend(more.models.deny.iter().cloned());
    gate.endpoints
        .allow
        .extend(more.endpoints.allow.iter().cloned());
    gate.endpoints
        .deny
        .extend(more.endpoints.deny.iter().cloned());
    gate.addresses
        .allow
        .extend(more.addresses.allow.iter().copied());
    gate.addresses
        .deny
        .extend(more.addresses.deny.iter().copied());
    demand.regions.extend(demands.regions.iter().cloned());
    demand.allow.extend(demands.allow.iter().cloned());
    demand.deny.extend(demands.deny.iter().cloned());
    demand
        .allow_models
        .extend(demands.allow_models.iter().cloned());
    demand
        .deny_models
        .extend(demands.deny_models.iter().cloned());
    demand.no_training |= demands.no_training;
    demand.zero_retention |= demands.zero_retention;
    for (most, other) in [
        (&mut demand.max_price.input, demands.max_price.input),
        (&mut demand.max_price.output, demands.max_price.output),
    ] {
        *most = match (*most, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

fn policy(body: &Map<String, Value>) -> Policy {
    let mut gate = Gate::default();
    let mut demand = Constraints::new(Origin::Owner(String::new()));
    let list = |side: &str, name: &str| -> Vec<&str> {
        let list = body.get(side).and_then(|side| side.get(name)?.as_array());
        let list = list.into_iter().flatten();
        list.filter_map(Value::as_str).collect()
    };
    let globs = |side: &str| list(side, "models").into_iter().map(Glob::new).collect();
    let who = |side: &str, name: &str| list(side, name).into_iter().map(Who::new).collect();
    let names = |side: &str| list(side, "endpoints").into_iter().map(Box::from).collect();
    let nets = |side: &str| {
        let nets = list(side, "addresses").into_iter();
        nets.filter_map(Net::read).collect()
    };
    (gate.models.allow, gate.models.deny) = (globs("allow"), globs("deny"));
    (gate.endpoints.allow, gate.endpoints.deny) = (names("allow"), names("deny"));
    (gate.addresses.allow, gate.addresses.deny) = (nets("allow"), nets("deny"));
    demand.allow_models = who("allow", "models");
    demand.deny_models = who("deny", "models");
    (demand.allow, demand.deny) = (who("allow", "providers"), who("deny", "providers"));
    demand.regions = list("allow", "regions")
        .into_iter()
        .map(str::to_owned)
        .collect();
    let ceiling = |side: &str| schema::price(body.get("max_price")?.get(side)?);
    demand.max_price.input = ceiling("in");
    demand.max_price.output = ceiling("out");
    let on = |name: &str| body.get(name) == Some(&Value::Bool(true));
    demand.no_training = on("no_training");
    demand.zero_retention = on("zero_retention");
    Policy { gate, demand }
}

fn limit(body: &Map<String, Value>) -> Limit {
    let models = body.get("models").and_then(Value::as_array);
    let models = models.into_iter().flatten().filter_map(Value::as_str);
    let mut models: Vec<String> = models.map(str::to_owned).collect();
    models.sort_unstable();
    models.dedup();
    Limit {
        models,
        limits: Limits::read(|which| body.get(which.name()).and_then(Value::as_u64)),
    }
}

fn allotted(body: &Map<String, Value>) -> Option<Allotted> {
    let named = |of: Dimension| Some((of, body.get(of.name())?.as_str()?));
    let of = Dimension::ALL.into_iter().find_map(named);
    Some(Allotted {
        budget: budget(body)?,
        of: of.map(|(of, who)| (of, (who != EACH).then(|| who.into()))),
    })
}

fn budget(body: &Map<String, Value>) -> Option<Budget> {
    // Below a million dollars a double is exact to far less than a millionth.
    let micros = (body.get("usd")?.as_f64()? * 1e6).round().clamp(0.0, 1e12);
    let zone = body
        .get("timezone")
        .and_then(Value::as_str)
        .unwrap_or("UTC");
    Some(Budget {
        most_pico: micros as u64 * (PICO / 1_000_000),
        every: schema::every(body.get("every")?.as_str()?)?,
        rolling: body.get("rolling") == Some(&Value::Bool(true)),
        // The zones of another node may be newer than ours.
        zone: schema::zone(zone).unwrap_or(jiff::tz::TimeZone::UTC),
        since: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::limit::budget::Every;

    fn level(pieces: &[(Kind, Value)]) -> Level {
        let pieces = pieces.iter().enumerate().map(|(at, (kind, body))| {
            let piece = Piece::read(*kind, body.as_object().expect("an object"));
            (format!("{at}").into_boxed_str(), piece.expect("attached"))
        });
        Level::of("team_1", &pieces.collect())
    }

    #[test]
    fn allows_of_one_level_unite_and_the_lowest_ceiling_holds() {
        let level = level(&[
            (
                Kind::Policy,
                json!({"allow": {"models": ["gpt-*"], "regions": ["eu"]}, "max_price": {"in": 5}}),
            ),
            (
                Kind::Policy,
                json!({"allow": {"models": ["fast"], "regions": ["ch"]}, "max_price": {"in": 2.5, "out": 9}, "no_training": true}),
            ),
            (Kind::Policy, json!({"deny": {"models": ["gpt-4"]}})),
        ]);
        let gate = level.gate.expect("models are allowed");
        assert!(gate.allows_model(&["gpt-5"]) && gate.allows_model(&["fast"]));
        assert!(!gate.allows_model(&["gpt-4"]) && !gate.allows_model(&["claude"]));
        let demand = level.constraints.expect("regions are demanded");
        assert_eq!(demand.regions, ["eu", "ch"]);
        assert_eq!(
            (demand.max_price.input, demand.max_price.output),
            (Some(2_500_000), Some(9_000_000))
        );
        assert!(demand.no_training && !demand.zero_retention);
        assert_eq!(demand.origin.to_string(), "team team_1");
    }

    #[test]
    fn the_lowest_limits_and_budgets_of_one_level_hold() {
        let level = level(&[
            (Kind::Limit, json!({"rpm": 10, "tpd": 5})),
            (Kind::Limit, json!({"rpm": 20, "concurrent": 3})),
            (
                Kind::Budget,
                json!({"usd": 2.5, "every": "day", "timezone": "Europe/Berlin"}),
            ),
            (Kind::Budget, json!({"usd": 1, "every": "day"})),
            (Kind::Budget, json!({"usd": 9, "every": "month"})),
        ]);
        let limits = level.limits[0].limits;
        assert_eq!(
            (limits.rpm, limits.tpd, limits.concurrent),
            (Some(10), Some(5), Some(3))
        );
        let spends = level.spends.expect("budgets");
        assert_eq!(&*spends.name, "team:team_1");
        let found: Vec<_> = spends
            .budgets
            .iter()
            .map(|b| (b.every, b.most_pico))
            .collect();
        assert_eq!(found, [(Every::Day, PICO), (Every::Month, 9 * PICO)]);
        assert!(level.gate.is_none() && level.constraints.is_none());
    }
}
