//! Experiments: the arms that targets belong to, and the model that gets a copy of requests.

use super::mistake::At;
use super::provider::required;
use super::read::{Reader, Table, number, text, whole};
use crate::routing::Shadow;

/// `[models.NAME] shadow`: its name isn't looked up yet.
pub(super) struct Written {
    pub model: At<String>,
    pub shadow: Shadow,
}

/// More at once than this is no sample.
const MOST_INFLIGHT: u64 = 10_000;

pub(super) fn shadow(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Written> {
    let table = reader.table(table, "shadow", "models.*.shadow")?;
    let model = required(reader, &table, "model", text);
    let share = reader.get(&table, "share", |value| match number(value)? {
        share if share > 1.0 => Err("must be from 0 to 1".into()),
        share => Ok(share),
    });
    let most = reader.get(&table, "max_inflight", whole(1..=MOST_INFLIGHT));
    let model = model?;
    Some(Written {
        shadow: Shadow {
            model: model.value.clone(),
            share: share.map_or(Shadow::SHARE, |at| at.value),
            most: most.map_or(Shadow::MOST, |at| at.value as u32),
        },
        model,
    })
}
