//! A line's facts, as they stand there, made into a model.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::super::cost::{Multiplier, OffPeak, Price, Rates, Service, Tier, Unit, Window};
use super::{Cap, Line, Mode, Model, Status, intern};
use crate::protocol::usage::decimal;

/// The short names are those of `models.tsv`; people write the long ones.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    mode: Option<Mode>,
    #[serde(alias = "context")]
    ctx: Option<u32>,
    #[serde(alias = "max_input")]
    max_in: Option<u32>,
    #[serde(alias = "max_output")]
    max_out: Option<u32>,
    #[serde(alias = "dimensions")]
    dims: Option<u32>,
    price: Option<Rates>,
    #[serde(default)]
    tiers: Vec<TierRow>,
    #[serde(default)]
    inclusive: bool,
    #[serde(default, alias = "services")]
    svc: BTreeMap<String, ServiceRow>,
    off_peak: Option<OffPeakRow>,
    #[serde(default)]
    changes: Vec<ChangeRow>,
    #[serde(default)]
    multipliers: BTreeMap<String, f64>,
    #[serde(default, alias = "fees")]
    unit: BTreeMap<String, f64>,
    #[serde(default)]
    search_per_prompt: bool,
    #[serde(default)]
    search_always: bool,
    #[serde(default)]
    least_seconds: u32,
    /// What is known that it can do.
    caps: Option<Words>,
    /// All that it can do: who writes this knows the model.
    capabilities: Option<Words>,
    /// What is known that it can't do.
    lacks: Option<Words>,
    efforts: Option<Words>,
    status: Option<Status>,
    sunset: Option<String>,
    successor: Option<String>,
    profiles: Option<Vec<String>>,
    #[serde(default)]
    unknown: bool,
}

/// Words in one string, or in a list.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let (one, many): (&str, &[String]) = match self {
            Words::One(words) => (words, &[]),
            Words::Many(words) => ("", words),
        };
        let many = many.iter().map(String::as_str);
        one.split_ascii_whitespace().chain(many)
    }
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TierRow {
    above: u64,
    price: Rates,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceRow {
    price: Rates,
    #[serde(default)]
    tiers: Vec<TierRow>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct OffPeakRow {
    price: Rates,
    /// ISO weekdays, first minute, last minute (excluded).
    windows: Vec<(Vec<u8>, u16, u16)>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeRow {
    /// A UTC day.
    from: String,
    price: Rates,
}

impl Row {
    /// Returns what is wrong with a row that no test of ours has seen.
    pub fn check(&self) -> Result<(), String> {
        let caps = self.caps.iter().chain(&self.capabilities);
        let mut caps = caps.flat_map(Words::iter);
        if let Some(unknown) = caps.find(|cap| Cap::from_name(cap).is_none()) {
            let known: Vec<&str> = Cap::NAMES.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "`capabilities` has {unknown:?}; known are {}",
                known.join(", ")
            ));
        }
        let needed =
            |name: &str| Cap::from_name(name).is_some_and(|cap| Cap::NEEDED.contains(&cap));
        let mut lacks = self.lacks.iter().flat_map(Words::iter);
        if let Some(unknown) = lacks.find(|cap| !needed(cap)) {
            let known = Cap::NAMES.iter().map(|(name, _)| *name);
            let known: Vec<&str> = known.filter(|name| needed(name)).collect();
            return Err(format!(
                "`lacks` has {unknown:?}; known are {}",
                known.join(", ")
            ));
        }
        if let Some(unknown) = self
            .unit
            .keys()
            .find(|name| Unit::from_name(name).is_none())
        {
            return Err(format!("`fees` has {unknown:?}, which is no fee"));
        }
        let mut multipliers = self.multipliers.keys();
        if let Some(unknown) = multipliers.find(|name| Multiplier::from_name(name).is_none()) {
            return Err(format!(
                "`multipliers` has {unknown:?}, which is no multiplier"
            ));
        }
        let numbers = self.unit.values().map(|usd| (usd, 12));
        let numbers = numbers.chain(self.multipliers.values().map(|factor| (factor, 6)));
        for (number, places) in numbers {
            if decimal(&number.to_string(), places).is_none() {
                return Err(format!("{number} must be 0 or more, and not that large"));
            }
        }
        let days = self.changes.iter().map(|change| &change.from);
        if let Some(wrong) = days.chain(&self.sunset).find(|text| day(text).is_none()) {
            return Err(format!("{wrong:?} is no day: write it as 2026-11-30"));
        }
        let windows = self.off_peak.iter().flat_map(|row| &row.windows);
        for (days, from, to) in windows {
            if from >= to || *to > 1440 || days.iter().any(|day| !(1..=7).contains(day)) {
                return Err(
                    "`off_peak.windows` are [weekdays 1 to 7, first minute, last minute to 1440]"
                        .into(),
                );
            }
        }
        Ok(())
    }

    /// Returns whether it says anything of what is charged. Then it says all of it.
    fn says_price(&self) -> bool {
        self.price.is_some()
            || !self.unit.is_empty()
            || !self.svc.is_empty()
            || !self.tiers.is_empty()
            || !self.changes.is_empty()
            || self.off_peak.is_some()
            || self.unknown
    }

    /// Returns the model of `line`, whose facts these are.
    pub fn into_model(self, line: Line<'static>) -> Model {
        self.over(Model {
            provider: line.provider,
            id: line.id,
            price: Price {
                unknown: true,
                ..Price::default()
            },
            ..Model::default()
        })
    }

    /// Returns `model` with everything replaced that this says. What it charges is replaced as a whole: a new price
    /// with the old one's tiers would be nobody's.
    pub fn over(self, mut model: Model) -> Model {
        if self.says_price() {
            model.price = self.price();
        }
        let set = |old: Option<u32>, new: Option<u32>| new.or(old);
        model.mode = self.mode.unwrap_or(model.mode);
        model.context = set(model.context, self.ctx);
        model.max_input = set(model.max_input, self.max_in);
        model.max_output = set(model.max_output, self.max_out);
        model.dimensions = set(model.dimensions, self.dims);
        model.status = self.status.unwrap_or(model.status);
        model.sunset = self.sunset.as_deref().map(intern::word).or(model.sunset);
        let successor = self.successor.as_deref().map(intern::word);
        model.successor = successor.or(model.successor);
        if let Some(efforts) = &self.efforts {
            model.efforts = efforts.iter().map(intern::word).collect();
        }
        let bits = |words: &Words| {
            let caps = words.iter().filter_map(Cap::from_name);
            caps.fold(0, |bits, cap| bits | cap.bit())
        };
        if let Some(caps) = &self.caps {
            model.caps = bits(caps);
            model.lacks = 0;
        }
        if let Some(all) = &self.capabilities {
            model.caps = bits(all);
            let needed = Cap::NEEDED.iter().fold(0, |bits, cap| bits | cap.bit());
            model.lacks = needed & !model.caps;
        }
        if let Some(lacks) = &self.lacks {
            let lacks = bits(lacks);
            model.caps &= !lacks;
            model.lacks |= lacks;
        }
        if let Some(profiles) = &self.profiles {
            model.profiles = profiles.iter().map(|name| intern::word(name)).collect();
        }
        model
    }

    fn price(&self) -> Price {
        let tiers = |rows: &[TierRow]| {
            rows.iter()
                .map(|row| Tier {
                    above: row.above,
                    rates: row.price.clone(),
                })
                .collect()
        };
        let mut fees: Vec<(Unit, u64)> = Vec::new();
        for (name, usd) in &self.unit {
            let Some((unit, many)) = Unit::from_name(name) else {
                continue;
            };
            // The shortest text that reads back as the same number is what stands in the file.
            let pico = decimal(&usd.to_string(), 12).unwrap_or(0) / many;
            if fees.iter().all(|(known, _)| *known != unit) {
                fees.push((unit, pico));
            }
        }
        let multipliers = self.multipliers.iter().filter_map(|(name, factor)| {
            Some((
                Multiplier::from_name(name)?,
                decimal(&factor.to_string(), 6)?,
            ))
        });
        let mut changes: Vec<(Timestamp, Rates)> = self
            .changes
            .iter()
            .filter_map(|row| Some((day(&row.from)?, row.price.clone())))
            .collect();
        // The later one counts.
        changes.sort_by_key(|(from, _)| *from);
        Price {
            unknown: self.unknown || (self.price.is_none() && fees.is_empty()),
            rates: self.price.clone().unwrap_or_default(),
            tiers: tiers(&self.tiers),
            inclusive: self.inclusive,
            services: self
                .svc
                .iter()
                .map(|(name, row)| Service {
                    name: name.as_str().into(),
                    rates: row.price.clone(),
                    tiers: tiers(&row.tiers),
                })
                .collect(),
            off_peak: self.off_peak.as_ref().map(|row| OffPeak {
                rates: row.price.clone(),
                windows: row
                    .windows
                    .iter()
                    .map(|(days, from, to)| Window {
                        weekdays: days.iter().fold(0, |bits, day| bits | 1 << (day & 7)),
                        from: *from,
                        to: *to,
                    })
                    .collect(),
            }),
            changes,
            multipliers: multipliers.collect(),
            fees,
            search_per_prompt: self.search_per_prompt,
            search_always: self.search_always,
            least_seconds: self.least_seconds,
        }
    }
}

/// Returns when a UTC day (`2027-01-01`) begins.
fn day(text: &str) -> Option<Timestamp> {
    let day: Date = text.parse().ok()?;
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
}
