//! The `[ledger]` table: what is kept of each exchange, and how surely.

use std::time::Duration;

use toml::de::DeValue;

use super::mistake::{Wrong, nearest, quoted};
use super::read::{Reader, Table, text, truth};
use super::units;
use crate::ledger::{Fsync, OnFailure, Settings};

/// A journal has room for some segments at least.
const LEAST_JOURNAL: u64 = 1 << 20;

pub(super) fn ledger(reader: &mut Reader<'_>, root: &Table<'_>) -> Settings {
    let mut settings = Settings::default();
    let Some(table) = reader.table(root, "ledger", "ledger") else {
        return settings;
    };
    if let Some(enabled) = reader.get(&table, "enabled", truth) {
        settings.enabled = enabled.value;
    }
    if let Some(retention) = reader.get(&table, "retention", retention) {
        settings.retention = retention.value;
    }
    if let Some(max) = reader.get(&table, "max_journal", units::size) {
        if max.value < LEAST_JOURNAL {
            reader.mistakes.push(max.wrong("must be 1MiB or more"));
        }
        settings.max_journal = max.value;
    }
    let rules = [("allow", OnFailure::Allow), ("deny", OnFailure::Deny)];
    let rule = reader.get(&table, "on_failure", |value| one_of(value, &rules));
    settings.on_failure = rule.map_or(settings.on_failure, |at| at.value);
    let times = [
        ("never", Fsync::Never),
        ("interval", Fsync::Interval),
        ("always", Fsync::Always),
    ];
    let fsync = reader.get(&table, "fsync", |value| one_of(value, &times));
    settings.fsync = fsync.map_or(settings.fsync, |at| at.value);
    settings
}

/// Reads how long rows are kept; `None`: for ever.
fn retention(value: &DeValue<'_>) -> Result<Option<Duration>, Wrong> {
    match value.as_str() {
        Some("forever") => Ok(None),
        Some(_) | None => units::duration(value).map(Some),
    }
}

fn one_of<T: Copy>(value: &DeValue<'_>, known: &[(&str, T)]) -> Result<T, Wrong> {
    let written = text(value)?;
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let found = known.iter().find(|(name, _)| *name == written);
    found.map(|(_, meant)| *meant).ok_or_else(|| {
        Wrong::suggest(
            format!("must be one of {}", names.join(", ")),
            nearest(&written, names.iter().copied()).map(quoted),
        )
    })
}
