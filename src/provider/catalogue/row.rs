//! A line's facts, as they stand there, made into a model.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::super::cost::{Multiplier, OffPeak, Price, Rates, Service, Tier, Unit, Window};
use super::{Cap, Line, Mode, Model, Status};
use crate::protocol::usage::decimal;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    #[serde(default)]
    mode: Mode,
    ctx: Option<u32>,
    max_in: Option<u32>,
    max_out: Option<u32>,
    dims: Option<u32>,
    price: Option<Rates>,
    #[serde(default)]
    tiers: Vec<TierRow>,
    #[serde(default)]
    inclusive: bool,
    #[serde(default)]
    svc: BTreeMap<&'static str, ServiceRow>,
    off_peak: Option<OffPeakRow>,
    #[serde(default)]
    changes: Vec<ChangeRow>,
    #[serde(default)]
    multipliers: BTreeMap<&'static str, f64>,
    #[serde(default)]
    unit: BTreeMap<&'static str, f64>,
    #[serde(default)]
    search_per_prompt: bool,
    #[serde(default)]
    least_seconds: u32,
    #[serde(default)]
    caps: &'static str,
    #[serde(default)]
    efforts: &'static str,
    #[serde(default)]
    status: Status,
    sunset: Option<&'static str>,
    #[serde(default)]
    profiles: Vec<&'static str>,
    #[serde(default)]
    unknown: bool,
}

#[derive(serde::Deserialize)]
struct TierRow {
    above: u64,
    price: Rates,
}

#[derive(serde::Deserialize)]
struct ServiceRow {
    price: Rates,
    #[serde(default)]
    tiers: Vec<TierRow>,
}

#[derive(serde::Deserialize)]
struct OffPeakRow {
    price: Rates,
    /// ISO weekdays, first minute, last minute (excluded).
    windows: Vec<(Vec<u8>, u16, u16)>,
}

#[derive(serde::Deserialize)]
struct ChangeRow {
    /// A UTC day.
    from: &'static str,
    price: Rates,
}

impl Row {
    /// Returns the model of `line`, whose facts these are.
    pub fn into_model(self, line: Line) -> Model {
        let tiers = |rows: Vec<TierRow>| {
            rows.into_iter()
                .map(|row| Tier {
                    above: row.above,
                    rates: row.price,
                })
                .collect()
        };
        let mut fees: Vec<(Unit, u64)> = Vec::new();
        for (name, usd) in self.unit {
            let Some((unit, many)) = Unit::from_name(name) else {
                continue;
            };
            // The shortest text that reads back as the same number is what stands in the file.
            let pico = decimal(&usd.to_string(), 12).unwrap_or(0) / many;
            if fees.iter().all(|(known, _)| *known != unit) {
                fees.push((unit, pico));
            }
        }
        let multipliers = self.multipliers.into_iter().filter_map(|(name, factor)| {
            Some((
                Multiplier::from_name(name)?,
                decimal(&factor.to_string(), 6)?,
            ))
        });
        let price = Price {
            unknown: self.unknown || (self.price.is_none() && fees.is_empty()),
            rates: self.price.unwrap_or_default(),
            tiers: tiers(self.tiers),
            inclusive: self.inclusive,
            services: self
                .svc
                .into_iter()
                .map(|(name, row)| Service {
                    name: name.into(),
                    rates: row.price,
                    tiers: tiers(row.tiers),
                })
                .collect(),
            off_peak: self.off_peak.map(|row| OffPeak {
                rates: row.price,
                windows: row
                    .windows
                    .into_iter()
                    .map(|(days, from, to)| Window {
                        weekdays: days.iter().fold(0, |bits, day| bits | 1 << (day & 7)),
                        from,
                        to,
                    })
                    .collect(),
            }),
            changes: self
                .changes
                .into_iter()
                .filter_map(|row| Some((day(row.from)?, row.price)))
                .collect(),
            multipliers: multipliers.collect(),
            fees,
            search_per_prompt: self.search_per_prompt,
            least_seconds: self.least_seconds,
        };
        Model {
            provider: line.provider,
            id: line.id,
            mode: self.mode,
            context: self.ctx,
            max_input: self.max_in,
            max_output: self.max_out,
            dimensions: self.dims,
            status: self.status,
            sunset: self.sunset,
            efforts: self.efforts.split_ascii_whitespace().collect(),
            caps: self
                .caps
                .split_ascii_whitespace()
                .filter_map(Cap::from_name)
                .fold(0, |bits, cap| bits | cap.bit()),
            profiles: self.profiles,
            price,
        }
    }
}

/// Returns when a UTC day (`2027-01-01`) begins.
fn day(text: &str) -> Option<Timestamp> {
    let day: Date = text.parse().ok()?;
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
}
