//! Has the database sum up what [`usage`](super::usage) asks, from rows and from the sums that are kept beside them.

use sqlx::Row as _;

use super::metadata;
use super::sums::{self, Part, Source};
use super::tables::Sql;
use super::usage::{Group, MICRO, MOST_POINTS, PART, Query, Slot, Sums};
use crate::state::database::{Connection, Pool, Row as Found};

/// Numbers that are added up: their names, and what they are of a row and of a sum. Money comes in two parts.
const NUMBERS: [(&str, &str, &str); 13] = [
    ("requests", "1", "requests"),
    (
        "errors",
        "CASE WHEN error <> '' THEN 1 ELSE 0 END",
        "CASE WHEN error <> '' THEN requests ELSE 0 END",
    ),
    (
        "interrupted",
        "CASE WHEN state = 'interrupted' THEN 1 ELSE 0 END",
        "CASE WHEN state = 'interrupted' THEN requests ELSE 0 END",
    ),
    ("input", "input", "input"),
    ("output", "output", "output"),
    ("cache_read", "cache_read", "cache_read"),
    ("cache_write", "cache_write", "cache_write"),
    ("reasoning", "reasoning", "reasoning"),
    ("duration", "duration_us", "duration_us"),
    ("cost", "cost_pico / 1000000", "cost"),
    ("cost_rest", "cost_pico % 1000000", "cost_rest"),
    ("saved", "saved_pico / 1000000", "saved"),
    ("saved_rest", "saved_pico % 1000000", "saved_rest"),
];

/// Returns the slots that a query asks for.
pub async fn slots(readers: &Pool, query: &Query) -> Result<Vec<Slot>, sqlx::Error> {
    let mut connection = readers.acquire().await?;
    let step = query.step();
    let since = match query.fields() {
        Some(fields) => sums::since(&mut connection, &fields).await?,
        None => i64::MAX,
    };
    let (from, to) = (query.start.as_microsecond(), query.end.as_microsecond());
    let mut slots = Vec::new();
    for part in sums::parts(from, to, step, since) {
        slots.extend(of_part(&mut connection, query, part, step).await?);
    }
    Ok(slots)
}

async fn of_part(
    connection: &mut Connection,
    query: &Query,
    part: Part,
    step: i64,
) -> Result<Vec<Slot>, sqlx::Error> {
    let sqlite = connection.backend_name() == "SQLite";
    // Written out: one and the same expression, here and where it is grouped by.
    let mut sql = match part.source {
        Source::Rows => Sql::new(&format!("SELECT time_us / {} AS slot", step * MICRO)),
        Source::Sums(length) => Sql::new(&format!("SELECT slot / {} AS slot", step / length)),
    };
    for group in &query.groups {
        let expression = match (group, part.source) {
            (Group::Known { name: "shadow", .. }, Source::Rows) => {
                "CASE WHEN shadow_of = '' THEN '' ELSE 'shadow' END".to_owned()
            }
            (Group::Known { name: "shadow", .. }, Source::Sums(_)) => "shadow".to_owned(),
            (Group::Known { column, .. }, _) => (*column).to_owned(),
            (Group::Metadata(field), _) => metadata::column(field, sqlite),
        };
        sql.push(&format!(", CAST({expression} AS TEXT)"));
    }
    for (name, of_rows, of_sums) in NUMBERS {
        let expression = match part.source {
            Source::Rows => of_rows,
            Source::Sums(_) => of_sums,
        };
        // PostgreSQL sums up to a type of its own.
        sql.push(&format!(
            ", CAST(SUM({expression}) AS BIGINT) AS sum_{name}"
        ));
    }
    match part.source {
        Source::Rows => {
            sql.push(" FROM records");
            let mut filter = query.filter.clone();
            (filter.start_us, filter.end_us) = (Some(part.from), Some(part.to));
            filter.push(&mut sql, sqlite);
        }
        Source::Sums(length) => {
            sql.push(" FROM sums WHERE seconds = ");
            sql.number(length);
            sql.push(" AND sums.slot >= ");
            sql.number(part.from / (length * MICRO));
            sql.push(" AND sums.slot < ");
            sql.number(part.to / (length * MICRO));
            query.filter.push_fields(&mut sql, sqlite);
        }
    }
    let places: Vec<String> = (1..=query.groups.len() + 1)
        .map(|at| at.to_string())
        .collect();
    sql.push(&format!(" GROUP BY {} LIMIT ", places.join(", ")));
    // One more than can be answered: then it is seen that there are too many.
    sql.number(MOST_POINTS as i64 + 1);
    let found = sql.fetch(connection).await?;
    let groups = query.groups.len();
    found.iter().map(|row| slot(row, groups, step)).collect()
}

fn slot(row: &Found, groups: usize, step: i64) -> Result<Slot, sqlx::Error> {
    let sum = |name: &str| row.try_get::<i64, _>(format!("sum_{name}").as_str());
    let pico = |whole: i64, rest: i64| {
        let sum = i128::from(whole) * i128::from(PART) + i128::from(rest);
        u64::try_from(sum.max(0)).unwrap_or(u64::MAX)
    };
    let mut values = Vec::with_capacity(groups);
    for at in 0..groups {
        values.push(row.try_get::<String, _>(at + 1)?);
    }
    Ok(Slot {
        at_us: row.try_get::<i64, _>("slot")?.saturating_mul(step * MICRO),
        values,
        sums: Sums {
            requests: sum("requests")?,
            errors: sum("errors")?,
            interrupted: sum("interrupted")?,
            input: sum("input")?,
            output: sum("output")?,
            cache_read: sum("cache_read")?,
            cache_write: sum("cache_write")?,
            reasoning: sum("reasoning")?,
            cost_pico: pico(sum("cost")?, sum("cost_rest")?),
            saved_pico: pico(sum("saved")?, sum("saved_rest")?),
            duration_us: sum("duration")?,
        },
    })
}
