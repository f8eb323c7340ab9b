//! `state.shared`: how limits and budgets are counted by several nodes together.

use toml::de::DeValue;

use super::mistake::{Wrong, nearest, quoted};
use super::read::{Reader, Table, text};
use crate::limit::shared::{Away, Mode, Settings};

const MODES: [(&str, Mode); 2] = [("leased", Mode::Leased), ("exact", Mode::Exact)];
const RULES: [(&str, Away); 2] = [("open", Away::Open), ("closed", Away::Closed)];

/// Reads `shared` of `[state]`.
pub(super) fn shared(reader: &mut Reader<'_>, state: &Table<'_>) -> Settings {
    let mut settings = Settings::default();
    let Some(table) = reader.table(state, "shared", "state.shared") else {
        return settings;
    };
    if let Some(mode) = reader.get(&table, "mode", |value| one_of(value, &MODES)) {
        settings.mode = mode.value;
    }
    for (key, rule) in [
        ("limits", &mut settings.limits),
        ("budgets", &mut settings.budgets),
    ] {
        if let Some(said) = reader.get(&table, key, |value| one_of(value, &RULES)) {
            *rule = said.value;
        }
    }
    settings
}

fn one_of<T: Copy>(value: &DeValue<'_>, known: &[(&'static str, T)]) -> Result<T, Wrong> {
    let written = text(value)?;
    let mut named = known.iter();
    if let Some((_, meant)) = named.find(|(name, _)| *name == written) {
        return Ok(*meant);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let meant = nearest(&written, names.iter().copied());
    Err(Wrong::suggest(
        format!("must be one of {}", names.join(", ")),
        meant.map(quoted),
    ))
}
