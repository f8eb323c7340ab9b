//! `[models.NAME] hedge`: when a second attempt is made.

use super::read::{Reader, Table, number, truth};
use super::units;
use crate::routing::hedge::Hedge;

/// Reads the table; `None` where there is none: nothing is hedged.
pub(super) fn hedge(reader: &mut Reader<'_>, model: &Table<'_>) -> Option<Hedge> {
    let table = reader.table(model, "hedge", "models.*.hedge")?;
    let usual = Hedge::default();
    let percentile = reader.get(&table, "percentile", number);
    if let Some(at) = &percentile
        && !(50.0..=99.9).contains(&at.value)
    {
        reader.mistakes.push(at.wrong("must be 50 to 99.9"));
    }
    let max_share = reader.get(&table, "max_share", number);
    if let Some(at) = &max_share
        && !(at.value > 0.0 && at.value <= 1.0)
    {
        reader
            .mistakes
            .push(at.wrong("must be more than 0 and at most 1"));
    }
    let after = reader.get(&table, "after", units::duration);
    // A fixed time alone is meant as it stands.
    let fixed = after.is_some() && percentile.is_none();
    Some(Hedge {
        percentile: if fixed {
            None
        } else {
            percentile.map_or(usual.percentile, |at| Some(at.value / 100.0))
        },
        after: after.map(|at| at.value),
        min: reader
            .get(&table, "min", units::duration_or_zero)
            .map_or(usual.min, |at| at.value),
        max_share: max_share.map_or(usual.max_share, |at| at.value),
        whole: reader
            .get(&table, "whole", truth)
            .is_some_and(|at| at.value),
    })
}
