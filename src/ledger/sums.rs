//! What rows come to, kept beside them: by slots of time of some lengths, and by all that they can be grouped by but what
//! may have any number of values (users, sessions, tags); of metadata by the fields that the configuration names.
//!
//! Sums are written in the transaction of their rows, so they are exact, and they outlive them.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use sqlx::Row as _;

use super::row::Row;
use super::tables::Sql;
use super::usage::PART;
use crate::codec::hex::hex;
use crate::state::database::Connection;

/// The lengths of slots, in seconds, the longest first. A time zone is some quarters of an hour away from UTC.
pub const LENGTHS: [i64; 3] = [86_400, 3600, 900];
const MICRO: i64 = 1_000_000;
/// What one row can add to a number at most: what a provider reports may be anything, and a sum must fit.
const MOST: i64 = 1 << 42;
/// Slots of one statement.
const TOGETHER: usize = 25;
/// Slots of a length that are deleted at a time, each with all that rows had in common.
const CHUNK: i64 = 20;

const TEXTS: [&str; 13] = [
    "org",
    "team",
    "project",
    "api_key",
    "model_requested",
    "model",
    "provider",
    "endpoint",
    "error",
    "cache",
    "state",
    "shadow",
    "metadata",
];
const NUMBERS: [&str; 11] = [
    "requests",
    "input",
    "output",
    "cache_read",
    "cache_write",
    "reasoning",
    "duration_us",
    "cost",
    "cost_rest",
    "saved",
    "saved_rest",
];
/// Seconds, slot, id, texts, status, numbers.
const COLUMNS: usize = 3 + TEXTS.len() + 1 + NUMBERS.len();

/// Values of a field of metadata that this process tells apart in sums.
pub const MOST_VALUES: usize = 1000;
/// What stands for the others.
const OTHERS: &str = "(other)";

/// The fields of metadata that sums are kept by, and what they held.
pub struct Fields(Vec<(String, HashSet<String>)>);

impl Fields {
    pub fn new(names: &[String]) -> Self {
        let mut names = names.to_vec();
        names.sort();
        names.dedup();
        Self(
            names
                .into_iter()
                .map(|name| (name, HashSet::new()))
                .collect(),
        )
    }

    /// Returns what of a row's metadata sums are kept by, as it stands there.
    fn of(&mut self, row: &Row) -> String {
        if self.0.is_empty() || row.metadata.is_empty() {
            return String::new();
        }
        // Our own writing.
        let said: HashMap<String, String> = serde_json::from_str(&row.metadata).unwrap_or_default();
        let mut kept = serde_json::Map::new();
        for (name, values) in &mut self.0 {
            let Some(value) = said.get(name) else {
                continue;
            };
            let is_known = values.contains(value) || values.len() < MOST_VALUES;
            let value = if is_known { value.as_str() } else { OTHERS };
            values.insert(value.to_owned());
            kept.insert(name.clone(), value.into());
        }
        match kept.is_empty() {
            true => String::new(),
            false => serde_json::Value::Object(kept).to_string(),
        }
    }

    /// Notes from when on sums are kept by these fields, and by no others.
    pub async fn note(&self, connection: &mut Connection, now_us: i64) -> Result<(), sqlx::Error> {
        let names: Vec<String> = self.0.iter().map(|(name, _)| counter(name)).collect();
        let mut sql = Sql::new("DELETE FROM counters WHERE name LIKE 'sums:%' AND name NOT IN ");
        sql.texts(names.iter().map(String::as_str).chain(["sums:"]));
        sql.run(connection).await?;
        for name in names {
            let text =
                "INSERT INTO counters (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
            let query = sqlx::query(text).bind(name).bind(now_us);
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }
}

fn counter(field: &str) -> String {
    format!("sums:{field}")
}

/// Returns whether sums are kept by this column.
pub fn has(column: &str) -> bool {
    column == "status" || TEXTS.contains(&column)
}

/// What rows of a slot have in common.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Common<'r> {
    texts: [&'r str; TEXTS.len()],
    status: i64,
}

impl<'r> Common<'r> {
    fn of(row: &'r Row, metadata: &'r str) -> Self {
        let shadow = if row.shadow_of.is_empty() {
            ""
        } else {
            "shadow"
        };
        Self {
            texts: [
                &row.org,
                &row.team,
                &row.project,
                &row.key,
                &row.model_requested,
                &row.model,
                &row.provider,
                &row.endpoint,
                &row.error,
                &row.cache,
                &row.state,
                shadow,
                metadata,
            ],
            status: row.status,
        }
    }

    fn id(&self) -> String {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        for text in self.texts {
            // With its length before it, no text can pass for a part of another.
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.update(&self.status.to_le_bytes());
        hex(&hash.finish().as_ref()[..16])
    }
}

fn numbers(row: &Row) -> [i64; NUMBERS.len()] {
    let fit = |number: i64| number.clamp(0, MOST);
    let (cost, saved) = (row.cost_pico.max(0), row.saved_pico.max(0));
    [
        1,
        fit(row.input),
        fit(row.output),
        fit(row.cache_read),
        fit(row.cache_write),
        fit(row.reasoning),
        fit(row.duration_us),
        cost / PART,
        cost % PART,
        saved / PART,
        saved % PART,
    ]
}

fn add(to: &mut [i64; NUMBERS.len()], more: &[i64; NUMBERS.len()]) {
    for (to, more) in to.iter_mut().zip(more) {
        *to = to.saturating_add(*more);
    }
}

/// Slots of one length: by their number and what their rows have in common.
type Slots<'r> = HashMap<(i64, Common<'r>), [i64; NUMBERS.len()]>;

/// A statement for one slot, and for [`TOGETHER`].
static UPSERTS: LazyLock<[String; 2]> = LazyLock::new(|| [1, TOGETHER].map(upsert));

fn upsert(slots: usize) -> String {
    let names = ["seconds", "slot", "id"].into_iter().chain(TEXTS);
    let names: Vec<&str> = names.chain(["status"]).chain(NUMBERS).collect();
    let mut text = format!("INSERT INTO sums ({}) VALUES ", names.join(", "));
    for slot in 0..slots {
        let arguments = (1..=COLUMNS).map(|at| format!("${}", slot * COLUMNS + at));
        let arguments: Vec<String> = arguments.collect();
        text.push_str(if slot == 0 { "(" } else { ", (" });
        text.push_str(&arguments.join(","));
        text.push(')');
    }
    text.push_str(" ON CONFLICT (seconds, slot, id) DO UPDATE SET ");
    let adds = NUMBERS.map(|name| format!("{name} = sums.{name} + excluded.{name}"));
    text.push_str(&adds.join(", "));
    text
}

/// Adds rows that were not there before.
pub async fn put(
    connection: &mut Connection,
    rows: &[&Row],
    fields: &mut Fields,
) -> Result<(), sqlx::Error> {
    let metadata: Vec<String> = rows.iter().map(|row| fields.of(row)).collect();
    let mut finest = Slots::new();
    for (row, metadata) in rows.iter().zip(&metadata) {
        let slot = row.time_us.div_euclid(LENGTHS[2] * MICRO);
        let sums = finest.entry((slot, Common::of(row, metadata))).or_default();
        add(sums, &numbers(row));
    }
    for length in LENGTHS {
        let many = length / LENGTHS[2];
        let mut slots = Slots::new();
        for ((slot, common), sums) in &finest {
            let slot = slot.div_euclid(many);
            add(slots.entry((slot, common.clone())).or_default(), sums);
        }
        put_slots(connection, length, slots).await?;
    }
    Ok(())
}

async fn put_slots(
    connection: &mut Connection,
    seconds: i64,
    slots: Slots<'_>,
) -> Result<(), sqlx::Error> {
    let mut slots: Vec<_> = slots.into_iter().collect();
    // In one order on every node, so that none waits for another that waits for it.
    slots.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    for some in slots.chunks(TOGETHER) {
        let together = some.len() == TOGETHER;
        let parts = if together { 1 } else { some.len() };
        for part in some.chunks(some.len() / parts) {
            let upsert: &'static str = &UPSERTS[usize::from(together)];
            let mut query = sqlx::query(upsert);
            for ((slot, common), sums) in part {
                query = query.bind(seconds).bind(*slot).bind(common.id());
                for text in common.texts {
                    query = query.bind(text.to_owned());
                }
                query = query.bind(common.status);
                for number in sums {
                    query = query.bind(*number);
                }
            }
            query.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Returns the time from which on every row is in its sums, by these fields too; `i64::MAX` where none ever is.
pub async fn since(connection: &mut Connection, fields: &[&str]) -> Result<i64, sqlx::Error> {
    let names: Vec<String> = fields.iter().map(|field| counter(field)).collect();
    let mut sql = Sql::new("SELECT value FROM counters WHERE name IN ");
    sql.texts(names.iter().map(String::as_str).chain(["sums"]));
    let found = sql.fetch(connection).await?;
    if found.len() <= fields.len() {
        return Ok(i64::MAX);
    }
    let mut since = 0;
    for found in found {
        since = since.max(found.try_get("value")?);
    }
    Ok(since)
}

/// Deletes some of the slots from before a time. Returns how many; nothing is left at 0.
pub async fn expire(connection: &mut Connection, before_us: i64) -> Result<u64, sqlx::Error> {
    let mut gone = 0;
    for length in LENGTHS {
        let mut sql = Sql::new("DELETE FROM sums WHERE seconds = ");
        sql.number(length);
        sql.push(" AND slot IN (SELECT DISTINCT slot FROM sums WHERE seconds = ");
        sql.number(length);
        sql.push(" AND slot < ");
        sql.number(before_us.div_euclid(length * MICRO));
        sql.push(" ORDER BY slot LIMIT ");
        sql.number(CHUNK);
        sql.push(")");
        gone += sql.run(connection).await?;
    }
    Ok(gone)
}

/// Where a part of a time is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Rows,
    /// Slots of so many seconds.
    Sums(i64),
}

/// A part of a time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub source: Source,
    pub from: i64,
    pub to: i64,
}

/// Parts a time, so that as much as can be is read from slots that are no longer than `longest` seconds. Before `since`
/// there are rows alone.
pub fn parts(from: i64, to: i64, longest: i64, since: i64) -> Vec<Part> {
    let first = LENGTHS.iter().position(|length| *length <= longest);
    let lengths = first.map_or(&[][..], |first| &LENGTHS[first..]);
    let mut parts = Vec::new();
    fill(&mut parts, from, to, lengths, since);
    parts
}

fn fill(parts: &mut Vec<Part>, from: i64, to: i64, lengths: &[i64], since: i64) {
    if from >= to {
        return;
    }
    let Some((length, shorter)) = lengths.split_first() else {
        let source = Source::Rows;
        parts.push(Part { source, from, to });
        return;
    };
    let step = length * MICRO;
    let over = from.max(since).rem_euclid(step);
    let begin = from.max(since).saturating_add((step - over) % step);
    let end = to - to.rem_euclid(step);
    if begin >= end {
        return fill(parts, from, to, shorter, since);
    }
    fill(parts, from, begin, shorter, since);
    parts.push(Part {
        source: Source::Sums(*length),
        from: begin,
        to: end,
    });
    fill(parts, end, to, shorter, since);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * MICRO;
    const DAY: i64 = 24 * HOUR;

    #[test]
    fn a_time_is_parted_into_the_longest_slots_without_gap_or_overlap() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..2000 {
            let from = random.i64(0..40 * DAY);
            let to = from + random.i64(0..20 * DAY);
            let since = random.i64(0..60 * DAY);
            let longest = LENGTHS[random.usize(0..3)];
            let parts = parts(from, to, longest, since);
            let mut at = from;
            for part in &parts {
                assert_eq!(part.from, at, "{parts:?}");
                assert!(part.to > part.from, "{parts:?}");
                at = part.to;
                if let Source::Sums(length) = part.source {
                    assert!(part.from >= since && length <= longest);
                    assert_eq!(part.from % (length * MICRO), 0);
                    assert_eq!(part.to % (length * MICRO), 0);
                }
            }
            assert_eq!(at, to, "{parts:?}");
            assert!(parts.len() <= 7, "{parts:?}");
        }
        let of = |source, from, to| Part { source, from, to };
        assert_eq!(
            parts(DAY - HOUR, 3 * DAY + 5, 86_400, 0),
            [
                of(Source::Sums(3600), DAY - HOUR, DAY),
                of(Source::Sums(86_400), DAY, 3 * DAY),
                of(Source::Rows, 3 * DAY, 3 * DAY + 5),
            ]
        );
        assert_eq!(parts(0, DAY, 60, 0), [of(Source::Rows, 0, DAY)]);
    }

    #[test]
    fn texts_that_run_into_each_other_have_ids_of_their_own() {
        let row = |org: &str, team: &str| Row {
            org: org.into(),
            team: team.into(),
            ..Row::default()
        };
        let (one, other) = (row("ab", "c"), row("a", "bc"));
        let id = |row: &Row| Common::of(row, "").id();
        assert_ne!(id(&one), id(&other));
        assert_eq!(id(&one), id(&one.clone()));
        assert_ne!(id(&one), Common::of(&one, "{}").id());
    }

    #[test]
    fn values_of_a_field_are_told_apart_up_to_a_bound() {
        let mut fields = Fields::new(&["team".into(), "app".into(), "team".into()]);
        let mut of = |metadata: &str| {
            fields.of(&Row {
                metadata: metadata.into(),
                ..Row::default()
            })
        };
        assert_eq!(of(""), "");
        assert_eq!(of(r#"{"n":"1"}"#), "");
        let both = of(r#"{"team":"r\"d","n":"1","app":"a"}"#);
        assert_eq!(both, r#"{"app":"a","team":"r\"d"}"#);
        for number in 1..MOST_VALUES {
            let metadata = format!(r#"{{"team":"{number}"}}"#);
            assert_eq!(of(&metadata), metadata);
        }
        assert_eq!(of(r#"{"team":"one more"}"#), r#"{"team":"(other)"}"#);
        assert_eq!(of(r#"{"team":"5"}"#), r#"{"team":"5"}"#);
    }
}
