//! The ledger's tables: what is written to them and deleted from them, in statements that both databases understand.

use std::collections::HashSet;
use std::sync::LazyLock;

use sqlx::Row as _;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

use super::entry::Id;
use super::row::{self, COLUMNS, Cell, Row};
use crate::state::database::{Connection, Row as Found};

/// Rows of one statement: its arguments stay far below what either database takes.
const TOGETHER: usize = 20;
/// Rows that are deleted at a time, so that nobody waits long.
const CHUNK: i64 = 2000;
/// Ids of one statement.
const IDS: usize = 500;

/// Statements for one row, and for [`TOGETHER`].
struct Inserts {
    one: String,
    many: String,
}

static NUMBERED: LazyLock<Inserts> = LazyLock::new(|| Inserts::new(|number| format!("${number}")));
/// SQLite looks every numbered argument up among all others.
static PLAIN: LazyLock<Inserts> = LazyLock::new(|| Inserts::new(|_| "?".to_owned()));

impl Inserts {
    fn new(argument: impl Fn(usize) -> String) -> Self {
        Self {
            one: insert(1, &argument),
            many: insert(TOGETHER, &argument),
        }
    }
}

/// A statement that is put together: its text, and its arguments in order.
#[derive(Default)]
pub struct Sql {
    text: String,
    arguments: Vec<Argument>,
}

enum Argument {
    Text(String),
    Number(i64),
}

impl Sql {
    pub fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            arguments: Vec::new(),
        }
    }

    /// Appends a text of our own.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub fn text(&mut self, value: impl Into<String>) {
        self.argument(Argument::Text(value.into()));
    }

    pub fn number(&mut self, value: i64) {
        self.argument(Argument::Number(value));
    }

    fn argument(&mut self, argument: Argument) {
        self.arguments.push(argument);
        self.text.push_str(&format!("${}", self.arguments.len()));
    }

    /// Appends a list of texts, in its brackets.
    pub fn texts<'t>(&mut self, values: impl IntoIterator<Item = &'t str>) {
        self.push("(");
        for (at, value) in values.into_iter().enumerate() {
            if at > 0 {
                self.push(", ");
            }
            self.text(value);
        }
        self.push(")");
    }

    pub async fn fetch<'e>(
        self,
        at: impl sqlx::Executor<'e, Database = sqlx::Any>,
    ) -> Result<Vec<Found>, sqlx::Error> {
        let (text, arguments) = (self.text, self.arguments);
        let query = sqlx::query(sqlx::AssertSqlSafe(text));
        bound(query, arguments).fetch_all(at).await
    }

    /// Runs a statement that changes rows; returns how many.
    pub async fn run(self, connection: &mut Connection) -> Result<u64, sqlx::Error> {
        let (text, arguments) = (self.text, self.arguments);
        let query = sqlx::query(sqlx::AssertSqlSafe(text));
        let done = bound(query, arguments).execute(connection).await?;
        Ok(done.rows_affected())
    }
}

fn bound(
    mut query: Query<'_, sqlx::Any, AnyArguments>,
    arguments: Vec<Argument>,
) -> Query<'_, sqlx::Any, AnyArguments> {
    for argument in arguments {
        query = match argument {
            Argument::Text(text) => query.bind(text),
            Argument::Number(number) => query.bind(number),
        };
    }
    query
}

fn insert(rows: usize, argument: &impl Fn(usize) -> String) -> String {
    let mut text = format!("INSERT INTO records ({}) VALUES ", COLUMNS.join(", "));
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..COLUMNS.len() {
            if column > 0 {
                text.push(',');
            }
            text.push_str(&argument(row * COLUMNS.len() + column + 1));
        }
        text.push(')');
    }
    text.push_str(" ON CONFLICT (id) DO NOTHING");
    text
}

/// Writes rows; those that are there already stay as they are. Returns how many are new.
pub async fn put(connection: &mut Connection, rows: &[&Row]) -> Result<u64, sqlx::Error> {
    let inserts: &'static Inserts = if connection.backend_name() == "SQLite" {
        &PLAIN
    } else {
        &NUMBERED
    };
    let mut new = 0;
    for some in rows.chunks(TOGETHER) {
        if some.len() == TOGETHER {
            new += put_by(connection, &inserts.many, some).await?;
            continue;
        }
        for row in some {
            new += put_by(connection, &inserts.one, std::slice::from_ref(row)).await?;
        }
    }
    Ok(new)
}

async fn put_by(
    connection: &mut Connection,
    text: &'static str,
    rows: &[&Row],
) -> Result<u64, sqlx::Error> {
    let mut query = sqlx::query(text);
    for row in rows {
        for cell in row.cells() {
            query = bind(query, cell);
        }
    }
    Ok(query.execute(connection).await?.rows_affected())
}

fn bind<'q>(
    query: Query<'q, sqlx::Any, AnyArguments>,
    cell: Cell<'q>,
) -> Query<'q, sqlx::Any, AnyArguments> {
    match cell {
        Cell::Text(text) => query.bind(text),
        Cell::Number(number) => query.bind(number),
        Cell::Maybe(number) => query.bind(number),
    }
}

/// Reads a row whose columns are [`COLUMNS`].
pub fn read(found: &Found) -> Result<Row, sqlx::Error> {
    let text = |name: &str| found.try_get::<String, _>(name);
    let number = |name: &str| found.try_get::<i64, _>(name);
    let truth = |name: &str| found.try_get::<i64, _>(name).map(|is| is != 0);
    Ok(Row {
        id: text("id")?,
        request_id: text("request_id")?,
        time_us: number("time_us")?,
        state: text("state")?,
        endpoint: text("endpoint")?,
        protocol: text("protocol")?,
        org: text("org")?,
        team: text("team")?,
        project: text("project")?,
        key: text("api_key")?,
        user: text("end_user")?,
        session: text("session")?,
        tags: text("tags")?,
        model_requested: text("model_requested")?,
        model: text("model")?,
        provider: text("provider")?,
        upstream_protocol: text("upstream_protocol")?,
        mode: text("mode")?,
        stream: truth("stream")?,
        status: number("status")?,
        error: text("error")?,
        cache: text("cache")?,
        finish: text("finish")?,
        rule: text("rule")?,
        input: number("input")?,
        output: number("output")?,
        cache_read: number("cache_read")?,
        cache_write: number("cache_write")?,
        reasoning: number("reasoning")?,
        usage: text("token_usage")?,
        estimated: truth("estimated")?,
        cost_pico: number("cost_pico")?,
        unpriced: truth("unpriced")?,
        saved_pico: number("saved_pico")?,
        duration_us: number("duration_us")?,
        overhead_us: number("overhead_us")?,
        ttft_us: found.try_get("ttft_us")?,
        tries: number("tries")?,
        attempts: text("attempts")?,
        request_bytes: number("request_bytes")?,
        response_bytes: number("response_bytes")?,
        shadow_of: text("shadow_of")?,
        metadata: text("metadata")?,
    })
}

/// Deletes some of the rows from before a time. Returns how many; nothing is left at 0.
pub async fn expire(connection: &mut Connection, before_us: i64) -> Result<u64, sqlx::Error> {
    let text = "DELETE FROM records WHERE id IN (SELECT id FROM records WHERE id < $1 ORDER BY id LIMIT $2)";
    let query = sqlx::query(text).bind(Id::first_at(before_us).text());
    Ok(query.bind(CHUNK).execute(connection).await?.rows_affected())
}

/// Deletes some of an end user's rows. Returns how many; nothing is left at 0.
pub async fn erase(connection: &mut Connection, user: &str) -> Result<u64, sqlx::Error> {
    // The second condition names the index.
    let text = "DELETE FROM records WHERE id IN (SELECT id FROM records WHERE end_user = $1 AND end_user <> '' LIMIT $2)";
    let query = sqlx::query(text).bind(user.to_owned());
    Ok(query.bind(CHUNK).execute(connection).await?.rows_affected())
}

/// Returns those of some ids that rows have.
pub async fn known(
    connection: &mut Connection,
    ids: &[&str],
) -> Result<HashSet<String>, sqlx::Error> {
    let mut known = HashSet::new();
    for some in ids.chunks(IDS) {
        let mut sql = Sql::new("SELECT id FROM records WHERE id IN ");
        sql.texts(some.iter().copied());
        for found in sql.fetch(&mut *connection).await? {
            known.insert(found.try_get("id")?);
        }
    }
    Ok(known)
}

/// Deletes rows by their ids.
pub async fn delete(
    connection: &mut Connection,
    table: &'static str,
    ids: &[&str],
) -> Result<u64, sqlx::Error> {
    let mut gone = 0;
    for some in ids.chunks(IDS) {
        let mut sql = Sql::new(&format!("DELETE FROM {table} WHERE id IN "));
        sql.texts(some.iter().copied());
        gone += sql.run(connection).await?;
    }
    Ok(gone)
}

/// Returns whether a statement was refused for what is in it: it would be refused for ever.
pub fn is_poison(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(refused) = error else {
        return matches!(error, sqlx::Error::Encode(_));
    };
    let code = refused.code().unwrap_or_default();
    match code.parse::<u32>() {
        // PostgreSQL's have five characters: data, integrity. SQLite's: too big, constraint, mismatch.
        Ok(code) if refused.code().is_some_and(|code| code.len() != 5) => {
            matches!(code & 0xff, 18..=20)
        }
        Ok(_) | Err(_) => code.starts_with("22") || code.starts_with("23"),
    }
}

/// Returns the columns of a row, for a `SELECT`.
pub fn columns() -> String {
    row::COLUMNS.join(", ")
}
