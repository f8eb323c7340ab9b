//! `constraints` of a model or a key, and the `data` of a provider that they are held against.

use std::sync::Arc;

use toml::de::DeValue;

use super::link::Providers;
use super::mistake::{At, Mistake, Wrong, nearest, quoted};
use super::provider::{check_name, label};
use super::read::{Reader, Table, number, text, truth, unlike};
use super::units;
use crate::protocol::usage::decimal;
use crate::provider::Data;
use crate::routing::constraints::{Ceiling, Constraints, Origin, Who};

/// A `constraints` table: the names in its patterns aren't looked up yet.
pub(super) struct Written {
    constraints: Constraints,
    patterns: Vec<At<String>>,
}

/// A list with more is a mistake of whatever wrote it.
const MOST: usize = 1000;

/// Reads the table at `constraints`, whose keys are those of `section`.
pub(super) fn constraints(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    section: [&'static str; 2],
    origin: Origin,
) -> Option<Written> {
    let [section, price] = section;
    let table = reader.table(table, "constraints", section)?;
    let mut read = Constraints::new(origin);
    read.regions = list(reader, &table, "region", region)
        .into_iter()
        .map(|at| at.value)
        .collect();
    read.max_price = max_price(reader, &table, price);
    let latency = reader.get(&table, "max_latency", units::duration);
    read.max_latency = latency.map(|at| at.value);
    let mut on = |key| reader.get(&table, key, truth).is_some_and(|at| at.value);
    read.no_training = on("no_training");
    read.zero_retention = on("zero_retention");
    let allow = list(reader, &table, "allow", pattern);
    let deny = list(reader, &table, "deny", pattern);
    let who = |list: &[At<String>]| list.iter().map(|at| Who::new(&at.value)).collect();
    (read.allow, read.deny) = (who(&allow), who(&deny));
    Some(Written {
        constraints: read,
        patterns: allow.into_iter().chain(deny).collect(),
    })
}

impl Written {
    /// Looks up the providers that its patterns name: a name misspelt in `deny` would deny nobody.
    pub fn link(
        self,
        providers: &Providers,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Arc<Constraints>> {
        for pattern in &self.patterns {
            let (name, model) = match pattern.value.split_once('/') {
                Some((name, model)) => (name, Some(model)),
                None => (pattern.value.as_str(), None),
            };
            if name.contains(['*', '?']) || providers.knows(name) {
                continue;
            }
            let meant = providers.nearest(name).map(|meant| match model {
                Some(model) => quoted(&format!("{meant}/{model}")),
                None => quoted(meant),
            });
            mistakes.push(pattern.wrong(Wrong::suggest(
                format!("there is no provider {name:?}; a model is written with its provider, as openai/gpt-5"),
                meant,
            )));
        }
        (!self.constraints.is_empty()).then(|| Arc::new(self.constraints))
    }
}

/// Reads what becomes of the data that a provider is sent.
pub(super) fn data(reader: &mut Reader<'_>, table: &Table<'_>) -> Data {
    let Some(table) = reader.table(table, "data", "providers.*.data") else {
        return Data::default();
    };
    Data {
        region: reader.get(&table, "region", region).map(|at| at.value),
        no_training: reader.get(&table, "no_training", truth).map(|at| at.value),
        zero_retention: reader
            .get(&table, "zero_retention", truth)
            .map(|at| at.value),
    }
}

fn list(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    key: &'static str,
    parse: impl Fn(&DeValue<'_>) -> Result<String, Wrong>,
) -> Vec<At<String>> {
    let before = reader.mistakes.len();
    let Some(list) = reader.one_or_list(table, key, parse) else {
        return Vec::new();
    };
    if list.value.is_empty() && reader.mistakes.len() == before {
        // Empty would be read as "nobody" by one and as "everybody" by another.
        let message = "must not be empty; leave it out to demand nothing";
        reader.mistakes.push(list.place.wrong(message));
    }
    if list.value.len() > MOST {
        let message = format!("must hold at most {MOST}");
        reader.mistakes.push(list.place.wrong(message));
    }
    list.value
}

/// Reads USD for 1,000,000 tokens: one number for input and output alike, or one for each.
fn max_price(reader: &mut Reader<'_>, table: &Table<'_>, section: &'static str) -> Ceiling {
    let is_table = |value: &DeValue<'_>| Ok(value.is_table());
    if !reader
        .get(table, "max_price", is_table)
        .is_some_and(|at| at.value)
    {
        let both = reader.get(table, "max_price", price).map(|at| at.value);
        return Ceiling {
            input: both,
            output: both,
        };
    }
    let Some(table) = reader.table(table, "max_price", section) else {
        return Ceiling::default();
    };
    if !table.has("in") && !table.has("out") {
        let message = "must have in, out or both: USD for 1,000,000 tokens";
        reader.mistakes.push(table.place.wrong(message));
    }
    Ceiling {
        input: reader.get(&table, "in", price).map(|at| at.value),
        output: reader.get(&table, "out", price).map(|at| at.value),
    }
}

fn price(value: &DeValue<'_>) -> Result<u64, Wrong> {
    if value.is_str() {
        return Err(unlike("a number, or { in, out }", value));
    }
    let usd = number(value)?;
    // The shortest text that reads back as the same number is what was written in the file.
    decimal(&usd.to_string(), 6)
        .ok_or_else(|| "must be USD for 1,000,000 tokens, with at most six decimals".into())
}

/// Reads the name of a region: that of a cloud (`eu-central-1`), or of what it lies in (`eu`).
fn region(value: &DeValue<'_>) -> Result<String, Wrong> {
    let written = text(value)?;
    let meant = match written.to_ascii_lowercase().as_str() {
        "europe" | "eea" | "european-union" => Some("eu"),
        "usa" | "united-states" | "america" => Some("us"),
        "gb" | "united-kingdom" | "england" => Some("uk"),
        "switzerland" => Some("ch"),
        "asia" | "apac" => Some("ap"),
        _ => None,
    };
    let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=63).contains(&written.len()) && written.bytes().all(is_part);
    if fits && meant.is_none() {
        return Ok(written);
    }
    let lower = written.to_ascii_lowercase();
    let meant = meant.or((!fits && lower.bytes().all(is_part)).then_some(&lower));
    Err(Wrong::suggest(
        "must be a region's name, such as eu, us or eu-central-1",
        meant.filter(|meant| !meant.is_empty()).map(quoted),
    ))
}

/// Reads a pattern over providers' names, or over `provider/model`.
fn pattern(value: &DeValue<'_>) -> Result<String, Wrong> {
    let pattern = label(value)?;
    check_name(&pattern)?;
    match pattern.find(['[', ']', '{', '}', '\\', '!']) {
        Some(_) => {
            Err("only * and ? are special in a pattern; write one pattern for each case".into())
        }
        None if pattern.contains("**") => Err(Wrong::suggest(
            "one * matches anything, / too",
            Some(quoted(&pattern.replace("**", "*"))),
        )),
        None => Ok(pattern),
    }
}

impl Providers {
    /// Returns the provider that `name` was probably meant to be.
    fn nearest(&self, name: &str) -> Option<&str> {
        nearest(name, self.names())
    }
}
