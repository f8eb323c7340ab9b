//! Bounds on what is in flight: `server.max_inflight`, `server.queue`, and the priorities of keys.

use toml::de::DeValue;

use super::file::set;
use super::mistake::{Wrong, nearest, quoted};
use super::read::{Parsed, Reader, Table, text, whole};
use super::units;
use crate::limit::overload::Priority;
use crate::server::Settings;

/// More waiting than this would be answered by nobody in time.
const LONGEST_QUEUE: u64 = 1_000_000;

/// Reads the bounds of `[server]`.
pub(super) fn server(reader: &mut Reader<'_>, table: &Table<'_>, settings: &mut Settings) {
    settings.max_inflight = max_inflight(reader, table);
    if let Some(queue) = reader.table(table, "queue", "server.queue") {
        let size = reader.get(&queue, "size", whole(0..=LONGEST_QUEUE));
        settings.queue.size = size.map_or(settings.queue.size, |at| at.value as u32);
        let wait = reader.get(&queue, "wait", units::duration);
        set(&mut settings.queue.wait, wait);
    }
}

/// Reads the bound of a provider, or of all.
pub(super) fn max_inflight(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<u32> {
    let most = reader.get(table, "max_inflight", whole(1..=u64::from(u32::MAX)));
    most.map(|at| at.value as u32)
}

/// Reads the priority of a key.
pub(super) fn priority(value: &DeValue<'_>) -> Parsed<Priority> {
    let name = text(value)?;
    let known = Priority::ALL.map(|(known, _)| known);
    Priority::of(&name).ok_or_else(|| {
        Wrong::suggest(
            format!("must be one of {}", known.join(", ")),
            nearest(&name, known).map(quoted),
        )
    })
}
