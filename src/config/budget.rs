//! `budget`: how much may be spent, over what time.

use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::mistake::{Wrong, nearest, quoted};
use super::provider::required;
use super::read::{Reader, Table, number, text, truth};
use crate::limit::budget::{Budget, Every};
use crate::provider::cost::PICO;

/// Above this a budget holds nothing up, and sums might overflow.
const MOST_USD: f64 = 1_000_000.0;
/// Budgets of one key.
const MOST_BUDGETS: usize = 8;

/// Reads one budget of a key, or several that all hold.
pub(super) fn budgets(reader: &mut Reader<'_>, table: &Table<'_>) -> Vec<Budget> {
    budgets_of(reader, table, "keys[].budget")
}

/// Reads the budgets at `budget`, whose keys are those of `section`.
pub(super) fn budgets_of(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    section: &'static str,
) -> Vec<Budget> {
    if !table.has("budget") {
        return Vec::new();
    }
    if !table.is_array("budget") {
        let table = reader.table(table, "budget", section);
        let budget = table.and_then(|table| budget(reader, &table));
        return budget.into_iter().collect();
    }
    let want = "a table { usd, every } or an array of them";
    let Some(elements) = reader.elements(table, "budget", want) else {
        return Vec::new();
    };
    if elements.value.is_empty() || elements.value.len() > MOST_BUDGETS {
        let wrong = format!("must hold 1 to {MOST_BUDGETS} budgets");
        reader.mistakes.push(elements.place.wrong(wrong));
        return Vec::new();
    }
    let mut budgets: Vec<Budget> = Vec::new();
    for (value, place) in elements.value {
        let Some(table) = reader.open(value, place, section) else {
            continue;
        };
        let Some(budget) = budget(reader, &table) else {
            continue;
        };
        let same = |other: &Budget| other.every == budget.every && other.rolling == budget.rolling;
        if budgets.iter().any(same) {
            let wrong = "is a second budget over the same time; the smaller alone would hold";
            reader.mistakes.push(table.place.wrong(wrong));
            continue;
        }
        budgets.push(budget);
    }
    budgets
}

fn budget(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Budget> {
    let most = required(reader, table, "usd", usd);
    let every = required(reader, table, "every", every);
    let rolling = reader.get(table, "rolling", truth);
    let (most, every) = (most?, every?);
    if let Some(rolling) = rolling.as_ref().filter(|rolling| rolling.value)
        && every.value == Every::Ever
    {
        let wrong = "has no meaning for a budget that is given once";
        reader.mistakes.push(rolling.place.wrong(wrong));
    }
    Some(Budget {
        most_pico: most.value,
        every: every.value,
        rolling: rolling.is_some_and(|rolling| rolling.value),
        zone: TimeZone::UTC,
    })
}

/// Reads USD, to a millionth, as pico-dollars.
pub(super) fn usd(value: &DeValue<'_>) -> Result<u64, Wrong> {
    let usd = number(value)?;
    if usd > MOST_USD {
        return Err(format!("must be at most {MOST_USD}").into());
    }
    // Below a million dollars a double is exact to far less than a millionth.
    let micros = (usd * 1e6).round();
    if micros < 1.0 {
        return Err("must be 0.000001 or more".into());
    }
    Ok(micros as u64 * (PICO / 1_000_000))
}

fn every(value: &DeValue<'_>) -> Result<Every, Wrong> {
    let written = text(value)?;
    let known = Every::ALL.map(|(name, _)| name);
    let found = Every::ALL.into_iter().find(|(name, _)| *name == written);
    found.map(|(_, every)| every).ok_or_else(|| {
        let meant = match written.as_str() {
            "total" | "lifetime" | "once" => Some("ever"),
            "daily" => Some("day"),
            "hourly" => Some("hour"),
            "weekly" => Some("week"),
            "monthly" => Some("month"),
            _ => nearest(&written, known),
        };
        Wrong::suggest(
            format!("must be one of {}", known.join(", ")),
            meant.map(quoted),
        )
    })
}
