//! What a model does when nobody answers, or no longer: `[models.NAME.continuation]`, `stale_if_error`, `degraded`.

use toml::de::DeValue;

use super::mistake::{At, Wrong, nearest, quoted};
use super::read::{Reader, Table, text, truth, whole};
use super::units;
use crate::protocol::continuation::{Prefill, Settings};

/// More would hide a provider that is dying.
const MOST: u64 = 5;
const LONGEST_PROMPT: usize = 4096;

/// Reads how broken streams are gone on with; `None` where they are not.
pub(super) fn continuation(reader: &mut Reader<'_>, model: &Table<'_>) -> Option<Settings> {
    let table = reader.table(model, "continuation", "models.*.continuation")?;
    let enabled = reader.get(&table, "enabled", truth);
    let max = reader.get(&table, "max", whole(1..=MOST));
    let prompt = reader.get(&table, "prompt", prompt);
    if enabled.is_none() {
        let place = table.place.missing("enabled");
        reader.warnings.push(place.wrong(
            "is not given, so that nothing is gone on with; write enabled = true to say so",
        ));
    }
    let defaults = Settings::default();
    enabled.filter(|at| at.value).map(|_| Settings {
        max: max.map_or(defaults.max, |at| at.value as u32),
        prompt: prompt.map_or(defaults.prompt, |at| at.value),
    })
}

fn prompt(value: &DeValue<'_>) -> Result<String, Wrong> {
    let prompt = text(value)?;
    if prompt.trim().is_empty() || prompt.len() > LONGEST_PROMPT {
        return Err(format!("must be a text of 1 to {LONGEST_PROMPT} bytes").into());
    }
    Ok(prompt)
}

/// Reads how long an answer that is over its time may stand in for one that can't be had.
pub(super) fn stale_if_error(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
) -> Option<At<std::time::Duration>> {
    reader.get(table, "stale_if_error", units::duration_or_zero)
}

/// Reads how a provider is told that it has begun its answer.
pub(super) fn prefill(value: &DeValue<'_>) -> Result<Prefill, Wrong> {
    let word = text(value)?;
    let known = Prefill::ALL.map(|(known, _)| known);
    let found = Prefill::ALL.into_iter().find(|(known, _)| *known == word);
    found.map(|(_, prefill)| prefill).ok_or_else(|| {
        Wrong::suggest(
            format!("must be one of {}", known.join(", ")),
            nearest(&word, known).map(quoted),
        )
    })
}
