//! How a model chooses: `strategy` and the tables that tune it.

use toml::de::DeValue;

use super::mistake::{Wrong, nearest, quoted};
use super::read::{Reader, Table, number, text};
use super::units;
use crate::routing::strategy::score::Weights;
use crate::routing::{Strategy, Tuning};

/// Reads the name of a strategy.
pub(super) fn strategy(value: &DeValue<'_>) -> Result<Strategy, Wrong> {
    let name = text(value)?;
    let known = Strategy::ALL.map(|(known, _)| known);
    let found = Strategy::ALL
        .into_iter()
        .find(|(known, _)| *known == name)
        .map(|(_, strategy)| strategy);
    found.ok_or_else(|| {
        Wrong::suggest(
            format!("must be one of {}", known.join(", ")),
            nearest(&name, known).map(quoted),
        )
    })
}

/// Reads the tables `latency` and `score` of a model.
pub(super) fn tuning(reader: &mut Reader<'_>, table: &Table<'_>) -> Tuning {
    let mut tuning = Tuning::default();
    if let Some(latency) = reader.table(table, "latency", "models.*.latency") {
        let half_life = reader.get(&latency, "half_life", units::duration);
        tuning.half_life = half_life.map(|at| at.value);
    }
    if let Some(score) = reader.table(table, "score", "models.*.score") {
        let before = reader.mistakes.len();
        let mut weight = |key, default: f32| {
            let weight = reader.get(&score, key, weight);
            weight.map_or(default, |at| at.value)
        };
        let default = Weights::default();
        let weights = Weights {
            price: weight("price", default.price),
            availability: weight("availability", default.availability),
            latency: weight("latency", default.latency),
            throughput: weight("throughput", default.throughput),
        };
        if weights.sum() <= 0.0 && reader.mistakes.len() == before {
            reader
                .mistakes
                .push(score.place.wrong("must hold a weight above 0"));
        }
        tuning.weights = weights;
    }
    tuning
}

fn weight(value: &DeValue<'_>) -> Result<f32, Wrong> {
    const HEAVIEST: f64 = 1000.0;
    match number(value)? {
        weight if weight <= HEAVIEST => Ok(weight as f32),
        _ => Err(format!("must be at most {HEAVIEST}").into()),
    }
}
