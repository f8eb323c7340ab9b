//! SQLite: how the file is opened, and all that PostgreSQL would say otherwise.
//!
//! The statements elsewhere keep to what both understand: `$1` for arguments, `BIGINT` and `TEXT`, `ON CONFLICT … DO
//! UPDATE`.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection as _, SqlSafeStr};

pub type Pool = sqlx::SqlitePool;
pub type Connection = sqlx::SqliteConnection;
pub type Row = sqlx::sqlite::SqliteRow;

/// Another process may hold the file this long: the old one, at a hand-over.
const BUSY: Duration = Duration::from_secs(5);
/// Readers at a time.
const READERS: u32 = 4;

/// Forward only: a number, once released, means the same text for ever.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "responses",
        include_str!("../../migrations/0001_responses.sql"),
    ),
    (
        2,
        "response_items",
        include_str!("../../migrations/0002_response_items.sql"),
    ),
];

/// An open database: one connection that writes, and some that read.
pub struct Database {
    pub writer: Connection,
    pub readers: Pool,
}

impl Database {
    /// Opens the file, makes it where it isn't there, and brings its tables up to date.
    pub async fn open(file: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // With WAL the file survives every end of the process; a power cut may take the last moments.
            .synchronous(SqliteSynchronous::Normal)
            // Room that was freed is given back: see `tidy`.
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let mut writer = Connection::connect_with(&options).await?;
        migrator().run(&mut writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(0)
            .connect_with(options.pragma("query_only", "true"))
            .await?;
        Ok(Self { writer, readers })
    }

    /// Closes it; what is in the write-ahead log goes into the file.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        self.readers.close().await;
        self.writer.close().await
    }
}

/// Gives freed room back to the file system, a little at a time.
pub async fn tidy(connection: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA incremental_vacuum(1000)")
        .execute(connection)
        .await
        .map(drop)
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        Migration::new(
            *version,
            (*name).into(),
            MigrationType::Simple,
            (*sql).into_sql_str(),
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}
