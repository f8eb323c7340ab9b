//! `[models.*]`: as written, and with its names looked up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::constraints;
use super::experiments;
use super::file::set;
use super::hedge;
use super::link::{MOST_SUGGESTIONS, Providers};
use super::mistake::{At, Mistake, Wrong, nearest, quoted};
use super::model_strategy;
use super::provider::{self, check_name, required};
use super::read::{Reader, Table, Value, text, whole};
use super::smart::{Judges, smart};
use super::units;
use crate::provider::TimeoutOverrides;
use crate::routing::constraints::Origin;
use crate::routing::hedge::Hedge;
use crate::routing::smart::Tiers;
use crate::routing::{self, MOST_NESTED, Retries, Strategy, To, Tuning};

/// A `[models.NAME]` table: its names aren't looked up yet.
pub(super) struct Model {
    pub name: At<String>,
    pub targets: Vec<Target>,
    pub strategy: Strategy,
    pub tuning: Tuning,
    pub fallbacks: Vec<At<String>>,
    pub timeouts: TimeoutOverrides,
    pub retries: Retries,
    pub constraints: Option<constraints::Written>,
    pub hedge: Option<Hedge>,
    pub continuation: Option<crate::protocol::continuation::Settings>,
    pub stale_if_error: Option<std::time::Duration>,
    pub degraded: Option<At<String>>,
    pub smart: Option<Arc<Tiers>>,
    pub shadow: Option<experiments::Written>,
}

/// One of a model's targets.
pub(super) struct Target {
    /// `provider/model`, or another `[models]` name.
    pub name: At<String>,
    pub weight: u32,
    pub arm: Option<String>,
}

/// The most of one kind: above this the file was generated wrongly.
const MOST_TARGETS: usize = 1000;

pub(super) fn models(reader: &mut Reader<'_>, root: &Table<'_>) -> Vec<Model> {
    let mut models = Vec::new();
    let mut judges = Judges::default();
    for (name, value) in reader.names(root, "models").unwrap_or_default() {
        if let Err(wrong) = check_name(&name.value) {
            reader.mistakes.push(name.wrong(wrong));
            continue;
        }
        if let Some(model) = model(reader, name, value, &mut judges) {
            models.push(model);
        }
    }
    models
}

fn model(
    reader: &mut Reader<'_>,
    name: At<String>,
    value: &Value<'_>,
    judges: &mut Judges,
) -> Option<Model> {
    let place = reader.place(value.span().start, name.place.key.clone());
    let table = reader.open(value, place, "models.*")?;
    let strategy = reader
        .get(&table, "strategy", model_strategy::strategy)
        .map(|at| at.value)
        .unwrap_or_default();
    let fallbacks = reader
        .one_or_list(&table, "fallbacks", text)
        .map(|list| list.value)
        .unwrap_or_default();
    let timeouts = provider::timeouts(reader, &table, "models.*.timeouts");
    let mut retries = Retries::default();
    if let Some(table) = reader.table(&table, "retries", "models.*.retries") {
        let attempts = reader.get(&table, "max_attempts", whole(1..=100));
        retries.max_attempts = attempts.map_or(retries.max_attempts, |at| at.value as u32);
        set(
            &mut retries.backoff,
            reader.get(&table, "backoff", units::duration),
        );
    }
    let tuning = model_strategy::tuning(reader, &table);
    let constraints = constraints::constraints(
        reader,
        &table,
        ["models.*.constraints", "models.*.constraints.max_price"],
        Origin::Model(name.value.clone()),
    );
    let hedge = hedge::hedge(reader, &table);
    let before = reader.mistakes.len();
    let targets = targets(reader, &table);
    let continuation = super::continuation::continuation(reader, &table);
    let stale = super::continuation::stale_if_error(reader, &table);
    let degraded = reader.get(&table, "degraded", text);
    let count = (reader.mistakes.len() == before).then_some(targets.len());
    let shadow = experiments::shadow(reader, &table);
    let smart = smart(reader, &table, strategy, count, judges);
    Some(Model {
        constraints,
        name: At {
            place: table.place,
            ..name
        },
        targets,
        strategy,
        tuning,
        fallbacks,
        timeouts,
        retries,
        hedge,
        continuation,
        stale_if_error: stale.map(|at| at.value),
        degraded,
        smart,
        shadow,
    })
}

fn targets(reader: &mut Reader<'_>, table: &Table<'_>) -> Vec<Target> {
    if !table.has("targets") {
        reader
            .mistakes
            .push(table.place.missing("targets").wrong("must be given"));
    }
    let want = "an array of \"provider/model\" or { model, weight }";
    let Some(elements) = reader.elements(table, "targets", want) else {
        return Vec::new();
    };
    if elements.value.is_empty() || elements.value.len() > MOST_TARGETS {
        reader.mistakes.push(
            elements
                .place
                .wrong(format!("must hold 1 to {MOST_TARGETS} targets")),
        );
        return Vec::new();
    }
    let mut targets = Vec::new();
    for (value, place) in elements.value {
        if value.get_ref().is_str() {
            let name = reader.value(value, place, text);
            targets.extend(name.map(|name| Target {
                name,
                weight: 1,
                arm: None,
            }));
            continue;
        }
        let Some(table) = reader.open(value, place, "models.*.targets[]") else {
            continue;
        };
        let name = required(reader, &table, "model", text);
        let weight = reader
            .get(&table, "weight", whole(0..=provider::HEAVIEST))
            .map_or(1, |at| at.value as u32);
        let arm = reader.get(&table, "arm", provider::label);
        let arm = arm.map(|at| at.value);
        targets.extend(name.map(|name| Target { name, weight, arm }));
    }
    targets
}

/// Looks up what `[models.*]` name.
pub(super) fn link(
    written: Vec<Model>,
    providers: &Providers,
    mistakes: &mut Vec<Mistake>,
) -> HashMap<String, Arc<routing::Model>> {
    let names: HashSet<String> = written
        .iter()
        .map(|model| model.name.value.clone())
        .collect();
    for model in &written {
        if let Some(degraded) = &model.degraded
            && degraded.value == model.name.value
        {
            mistakes.push(degraded.wrong("is the model itself"));
        }
        for fallback in model.fallbacks.iter().chain(&model.degraded) {
            let suggest = mistakes.len() < MOST_SUGGESTIONS;
            if let Err(wrong) = check_fallback(fallback, &names, providers, suggest) {
                mistakes.push(fallback.wrong(wrong));
            }
        }
    }
    for model in &written {
        let Some(experiments::Written { model: name, .. }) = &model.shadow else {
            continue;
        };
        let suggest = mistakes.len() < MOST_SUGGESTIONS;
        if name.value == model.name.value {
            mistakes.push(name.wrong("is this model itself"));
        } else if let Err(wrong) = check_fallback(name, &names, providers, suggest) {
            mistakes.push(name.wrong(wrong));
        }
    }
    let before = mistakes.len();
    check_cycles(&written, providers, mistakes);
    let sound = before == mistakes.len();
    let mut places = Vec::new();
    let mut models = HashMap::new();
    for model in written {
        let mut targets = Vec::new();
        for Target { name, weight, arm } in model.targets {
            let arm = arm.map(Arc::from);
            let suggest = mistakes.len() < MOST_SUGGESTIONS;
            match providers.target(&name.value, suggest) {
                Ok(Some((provider, model))) => {
                    let to = To::Provider { provider, model };
                    targets.push(routing::Target { to, weight, arm });
                }
                Ok(None) => {}
                Err(_) if names.contains(&name.value) => {
                    let to = To::Model(name.value);
                    targets.push(routing::Target { to, weight, arm });
                }
                Err(_) if !name.value.contains('/') => {
                    let names = names.iter().map(String::as_str);
                    let meant = if suggest {
                        nearest(&name.value, names)
                    } else {
                        None
                    };
                    mistakes.push(name.wrong(Wrong::suggest(
                        "must be provider/model, or a [models] name",
                        meant.map(quoted),
                    )));
                }
                Err(wrong) => mistakes.push(name.wrong(wrong)),
            }
        }
        let place = model.name.clone();
        let model = routing::Model {
            name: model.name.value,
            targets,
            strategy: model.strategy,
            tuning: model.tuning,
            fallbacks: model
                .fallbacks
                .into_iter()
                .map(|fallback| fallback.value)
                .collect(),
            timeouts: model.timeouts,
            retries: model.retries,
            constraints: model
                .constraints
                .and_then(|written| written.link(providers, mistakes)),
            hedge: model.hedge,
            continuation: model.continuation.map(Arc::new),
            stale_if_error: model.stale_if_error,
            degraded: model.degraded.map(|name| name.value),
            smart: model.smart,
            shadow: model.shadow.map(|written| written.shadow),
        };
        models.insert(model.name.clone(), Arc::new(model));
        places.push(place);
    }
    if sound {
        check_sizes(&places, &models, mistakes);
    }
    models
}

/// Reports each model whose nested models hold more targets than one route may.
fn check_sizes(
    places: &[At<String>],
    models: &HashMap<String, Arc<routing::Model>>,
    mistakes: &mut Vec<Mistake>,
) {
    let mut sizes = HashMap::new();
    for place in places {
        if size(&place.value, models, &mut sizes, 0) > MOST_TARGETS {
            mistakes.push(place.wrong(format!(
                "holds more than {MOST_TARGETS} targets with those of the models in it, or nests deeper than {MOST_NESTED}"
            )));
        }
    }
}

/// Returns how many targets a model holds with those of the models in it. There are no circles.
fn size(
    name: &str,
    models: &HashMap<String, Arc<routing::Model>>,
    sizes: &mut HashMap<String, usize>,
    depth: usize,
) -> usize {
    if let Some(known) = sizes.get(name) {
        return *known;
    }
    let Some(model) = models.get(name).filter(|_| depth < MOST_NESTED) else {
        return MOST_TARGETS + 1;
    };
    let each = model.targets.iter().map(|target| match &target.to {
        To::Provider { .. } => 1,
        To::Model(name) => size(name, models, sizes, depth + 1),
    });
    let sum = each.fold(0, usize::saturating_add);
    sizes.insert(name.to_owned(), sum);
    sum
}

fn check_fallback(
    fallback: &At<String>,
    names: &HashSet<String>,
    providers: &Providers,
    suggest: bool,
) -> Result<(), Wrong> {
    let name = fallback.value.as_str();
    if names.contains(name) {
        return Ok(());
    }
    if name.contains('/') {
        return providers.target(name, suggest).map(|_| ());
    }
    let meant = if suggest {
        nearest(name, names.iter().map(String::as_str))
    } else {
        None
    };
    Err(Wrong::suggest(
        "is neither a [models] name nor provider/model",
        meant.map(quoted),
    ))
}

/// Reports each target and fallback that leads back to where it came from.
fn check_cycles(models: &[Model], providers: &Providers, mistakes: &mut Vec<Mistake>) {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Not,
        Under,
        Done,
    }
    let index: HashMap<&str, usize> = models
        .iter()
        .enumerate()
        .map(|(at, model)| (model.name.value.as_str(), at))
        .collect();
    let mut visits = vec![Visit::Not; models.len()];
    for start in 0..models.len() {
        if visits[start] != Visit::Not {
            continue;
        }
        // By hand, because a chain of ten thousand fallbacks would overflow the stack.
        let mut path = vec![(start, 0)];
        visits[start] = Visit::Under;
        while let Some((at, next)) = path.last_mut() {
            // One that a provider has is that provider's: it may stand in a model of its own name.
            let own = models[*at].targets.iter().map(|target| &target.name);
            let own = own.filter(|name| !providers.has(&name.value));
            let Some(named) = own.chain(&models[*at].fallbacks).nth(*next) else {
                visits[*at] = Visit::Done;
                path.pop();
                continue;
            };
            *next += 1;
            let Some(to) = index.get(named.value.as_str()).copied() else {
                continue;
            };
            match visits[to] {
                Visit::Not => {
                    visits[to] = Visit::Under;
                    path.push((to, 0));
                }
                Visit::Under => mistakes.push(named.wrong(circle(models, &path, to))),
                Visit::Done => {}
            }
        }
    }
}

fn circle(models: &[Model], path: &[(usize, usize)], to: usize) -> String {
    const MOST_SHOWN: usize = 10;
    let from = path.iter().position(|(at, _)| *at == to).unwrap_or(0);
    let mut names: Vec<&str> = path[from..]
        .iter()
        .take(MOST_SHOWN)
        .map(|(at, _)| models[*at].name.value.as_str())
        .collect();
    if path.len() - from > MOST_SHOWN {
        names.push("…");
    }
    names.push(&models[to].name.value);
    format!(
        "the targets and fallbacks go in a circle: {}",
        names.join(" → ")
    )
}
