//! The `[responses]` table: what is kept of the Responses API.

use super::read::{Reader, Table, truth};
use super::units;
use crate::state::Settings;

pub(super) fn responses(reader: &mut Reader<'_>, root: &Table<'_>) -> Settings {
    let mut settings = Settings::default();
    let Some(table) = reader.table(root, "responses", "responses") else {
        return settings;
    };
    if let Some(store) = reader.get(&table, "store", truth) {
        settings.store = store.value;
    }
    if let Some(ttl) = reader.get(&table, "ttl", units::duration) {
        settings.ttl = ttl.value;
    }
    let max_item = reader.get(&table, "max_item", units::size);
    let max_size = reader.get(&table, "max_size", units::size);
    settings.max_item = max_item.as_ref().map_or(settings.max_item, |at| at.value);
    settings.max_size = max_size.as_ref().map_or(settings.max_size, |at| at.value);
    if settings.max_item > settings.max_size {
        let mistake = match (&max_item, &max_size) {
            (Some(item), _) => item.wrong("must not be larger than responses.max_size"),
            (None, Some(size)) => size.wrong("must not be smaller than responses.max_item"),
            (None, None) => return settings,
        };
        reader.mistakes.push(mistake);
    }
    settings
}
