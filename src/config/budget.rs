//! `budget`: how much may be spent, over what time.

use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::mistake::{Wrong, nearest, quoted};
use super::provider::{label, required};
use super::read::{Reader, Table, number, text, truth};
use super::rules::zone;
use crate::limit::budget::{Budget, Every};
use crate::limit::named::{Dimension, EACH, Named};
use crate::provider::cost::PICO;

/// Above this a budget holds nothing up, and sums might overflow.
const MOST_USD: f64 = 1_000_000.0;
/// Budgets of one key.
const MOST_BUDGETS: usize = 64;
/// Of end users and tags.
const MOST_NAMED: usize = 1000;

/// A budget, and whom of those that requests name it is for.
pub(super) struct Written {
    budget: Budget,
    /// `None` in it: each.
    of: Option<(Dimension, Option<Box<str>>)>,
}

/// Reads one budget of a key, or several that all hold.
pub(super) fn budgets(reader: &mut Reader<'_>, table: &Table<'_>) -> Vec<Written> {
    budgets_of(reader, table, "keys[].budget")
}

/// Reads the budgets at `budget`, whose keys are those of `section`.
pub(super) fn budgets_of(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    section: &'static str,
) -> Vec<Written> {
    if !table.has("budget") {
        return Vec::new();
    }
    if !table.is_array("budget") {
        let table = reader.table(table, "budget", section);
        let budget = table.and_then(|table| budget(reader, &table));
        return budget.into_iter().collect();
    }
    let want = "a table { usd, every } or an array of them";
    list(reader, table, "budget", want, section, MOST_BUDGETS)
}

/// Reads the `[[budgets]]`: of end users and tags, whichever key asks.
pub(super) fn of_all(reader: &mut Reader<'_>, root: &Table<'_>) -> Vec<Written> {
    if !root.has("budgets") {
        return Vec::new();
    }
    let want = "an array of tables ([[budgets]])";
    list(reader, root, "budgets", want, "budgets[]", MOST_NAMED)
}

fn list(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    key: &'static str,
    want: &'static str,
    section: &'static str,
    most: usize,
) -> Vec<Written> {
    let Some(elements) = reader.elements(table, key, want) else {
        return Vec::new();
    };
    if elements.value.is_empty() || elements.value.len() > most {
        let wrong = format!("must hold 1 to {most} budgets");
        reader.mistakes.push(elements.place.wrong(wrong));
        return Vec::new();
    }
    let mut all: Vec<Written> = Vec::new();
    for (value, place) in elements.value {
        let Some(table) = reader.open(value, place, section) else {
            continue;
        };
        let Some(written) = budget(reader, &table) else {
            continue;
        };
        if written.of.is_none() && key == "budgets" {
            let wrong = "must say whose it is: end_user or tag, by name or \"*\" for each";
            reader.mistakes.push(table.place.wrong(wrong));
            continue;
        }
        let same = |other: &Written| {
            other.budget.every == written.budget.every
                && other.budget.rolling == written.budget.rolling
                && other.of == written.of
        };
        if all.iter().any(same) {
            let wrong = "is a second budget over the same time; the smaller alone would hold";
            reader.mistakes.push(table.place.wrong(wrong));
            continue;
        }
        all.push(written);
    }
    all
}

fn budget(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Written> {
    let most = required(reader, table, "usd", usd);
    let every = required(reader, table, "every", every);
    let rolling = reader.get(table, "rolling", truth);
    let zone = reader.get(table, "timezone", zone);
    // What tokens stand for has budgets of its own, and none of those whom requests name.
    let mut named = |of: Dimension| match table.takes(of.name()) {
        true => reader.get(table, of.name(), label),
        false => None,
    };
    let (end_user, tag) = (named(Dimension::EndUser), named(Dimension::Tag));
    let (most, every) = (most?, every?);
    if let Some(rolling) = rolling.as_ref().filter(|rolling| rolling.value)
        && every.value == Every::Ever
    {
        let wrong = "has no meaning for a budget that is given once";
        reader.mistakes.push(rolling.place.wrong(wrong));
    }
    let of = match (end_user, tag) {
        (Some(_), Some(tag)) => {
            let wrong = "is for another budget: one is an end user's or a tag's";
            reader.mistakes.push(tag.place.wrong(wrong));
            return None;
        }
        (Some(user), None) => Some((Dimension::EndUser, user.value)),
        (None, Some(tag)) => Some((Dimension::Tag, tag.value)),
        (None, None) => None,
    };
    let who = |name: String| (name != EACH).then(|| name.into_boxed_str());
    Some(Written {
        budget: Budget {
            most_pico: most.value,
            every: every.value,
            rolling: rolling.is_some_and(|rolling| rolling.value),
            zone: zone.map_or(TimeZone::UTC, |zone| zone.value.1),
            since: None,
        },
        of: of.map(|(of, name)| (of, who(name))),
    })
}

/// Parts what is spent by `on` itself from what those spend that its requests name.
pub(super) fn split(written: Vec<Written>, on: &str) -> (Vec<Budget>, Vec<Named>) {
    let (mut own, mut named) = (Vec::new(), Vec::<(_, Vec<Budget>)>::new());
    for Written { budget, of } in written {
        match of {
            None => own.push(budget),
            Some(of) => match named.iter_mut().find(|(known, _)| *known == of) {
                Some((_, budgets)) => budgets.push(budget),
                None => named.push((of, vec![budget])),
            },
        }
    }
    let named = named.into_iter().map(|((of, who), budgets)| Named {
        on: on.into(),
        of,
        who,
        budgets: budgets.into(),
    });
    (own, named.collect())
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
