//! The two databases: SQLite, a file in `state.dir`, and PostgreSQL, which several nodes share.
//!
//! How each is opened, and all that they say differently, stands here. The statements elsewhere keep to what both
//! understand: `$1` for arguments, `BIGINT`, `TEXT`, `ON CONFLICT … DO UPDATE`, and no argument that is bound as
//! `Arc<str>` (the driver for either panics at it with SQLite). Where the types differ, a migration has a text for each.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{ConnectOptions, Connection as _, SqlSafeStr};

use crate::secret::Secret;

pub type Pool = sqlx::AnyPool;
pub type Connection = sqlx::AnyConnection;
pub type Row = sqlx::any::AnyRow;

/// The file's name in `state.dir`.
pub const FILE: &str = "strait.db";

/// A server that takes no connection within this is away.
const CONNECT: Duration = Duration::from_secs(5);
/// Other nodes may be at the migrations, and a large table may have to be copied: they are waited for.
const MIGRATE: Duration = Duration::from_secs(600);
/// A statement that takes longer than this is given up, and its connection with it.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Readers at a time.
const READERS: u32 = 4;

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// SQLite: [`FILE`] in this directory.
    Dir(PathBuf),
    /// PostgreSQL: its URL, which may hold a password.
    Server(Secret),
}

/// Forward only: a number, once released, means the same text for ever.
const MIGRATIONS: &[(i64, &str, Text)] = &[
    (
        1,
        "responses",
        Text::Both(include_str!("../../migrations/0001_responses.sql")),
    ),
    (
        2,
        "response_items",
        Text::Both(include_str!("../../migrations/0002_response_items.sql")),
    ),
    (
        3,
        "directory",
        Text::Both(include_str!("../../migrations/0003_directory.sql")),
    ),
    (
        4,
        "ledger",
        Text::Both(include_str!("../../migrations/0004_ledger.sql")),
    ),
    (
        5,
        "ledger_shadow",
        Text::Both(include_str!("../../migrations/0005_ledger_shadow.sql")),
    ),
    (
        6,
        "ledger_order",
        Text::Each {
            sqlite: include_str!("../../migrations/0006_ledger_order.sqlite.sql"),
            // Its tables have no order.
            postgres: "SELECT 1",
        },
    ),
    (
        7,
        "erasures",
        Text::Both(include_str!("../../migrations/0007_erasures.sql")),
    ),
    (
        8,
        "bodies",
        Text::Each {
            sqlite: include_str!("../../migrations/0008_bodies.sqlite.sql"),
            postgres: include_str!("../../migrations/0008_bodies.postgres.sql"),
        },
    ),
    (
        9,
        "sums",
        Text::Each {
            sqlite: include_str!("../../migrations/0009_sums.sqlite.sql"),
            postgres: include_str!("../../migrations/0009_sums.postgres.sql"),
        },
    ),
    (
        10,
        "metadata",
        Text::Both(include_str!("../../migrations/0010_metadata.sql")),
    ),
    (
        11,
        "signin",
        Text::Both(include_str!("../../migrations/0011_signin.sql")),
    ),
    (
        12,
        "response_users",
        Text::Both(include_str!("../../migrations/0012_response_users.sql")),
    ),
];

/// Every version that there was; their numbers may have gaps.
pub fn versions() -> impl Iterator<Item = i64> {
    MIGRATIONS.iter().map(|(version, ..)| *version)
}

/// The version that [`Location::migrate`] brings a database to.
pub fn newest() -> i64 {
    versions().max().unwrap_or(0)
}

/// What a migration says.
enum Text {
    Both(&'static str),
    Each {
        sqlite: &'static str,
        postgres: &'static str,
    },
}

/// Makes the file, for nobody else to read: it holds what people said.
pub fn private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file)
        .map(drop)
}

/// An open database: one connection that writes, and some that read.
pub struct Database {
    location: Location,
    pub writer: Connection,
    pub readers: Pool,
}

impl Location {
    pub fn is_server(&self) -> bool {
        matches!(self, Location::Server(_))
    }

    /// Returns how to name it where people read; no secret is in it.
    pub fn shown(&self) -> String {
        match self {
            Location::Dir(dir) => dir.join(FILE).display().to_string(),
            Location::Server(_) => "PostgreSQL (state.database)".to_owned(),
        }
    }

    fn options(&self) -> Result<AnyConnectOptions, sqlx::Error> {
        // Does nothing from the second time on.
        sqlx::any::install_default_drivers();
        let options = match self {
            Location::Dir(dir) => {
                let file = std::path::absolute(dir.join(FILE)).map_err(sqlx::Error::Io)?;
                AnyConnectOptions::from_str(&sqlite_url(&file)?)?
            }
            Location::Server(url) => AnyConnectOptions::from_str(url.expose())?,
        };
        Ok(options.disable_statement_logging())
    }

    /// Opens a connection that writes. Its tables may not be up to date: see [`Database::open`].
    pub async fn connect(&self) -> Result<Connection, sqlx::Error> {
        let options = self.options()?;
        let mut connection = within(CONNECT, Connection::connect_with(&options)).await?;
        if let Location::Dir(_) = self {
            // In this order: the first takes effect only while the file is empty, and the second makes it one that is not. With
            // WAL the file survives every end of the process; a power cut may take the last moments. What is deleted is
            // overwritten: who was erased must not be found in the file's free room.
            let pragmas = "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON; \
                           PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000";
            sqlx::raw_sql(pragmas).execute(&mut connection).await?;
        }
        Ok(connection)
    }

    /// Returns a pool of at most `most` connections that read. It connects when it is first asked.
    pub fn readers(&self, most: u32) -> Result<Pool, sqlx::Error> {
        let only = match self {
            Location::Dir(_) => "PRAGMA query_only = true; PRAGMA busy_timeout = 5000",
            Location::Server(_) => "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        };
        let pool = AnyPoolOptions::new()
            .max_connections(most)
            .min_connections(0)
            .acquire_timeout(CONNECT)
            .after_connect(move |connection, _| {
                Box::pin(async move { sqlx::raw_sql(only).execute(connection).await.map(drop) })
            });
        Ok(pool.connect_lazy_with(self.options()?))
    }

    /// As [`Location::migrate`], but only up to a version: for tests of what comes after it.
    pub async fn migrate_to(
        &self,
        connection: &mut Connection,
        version: i64,
    ) -> Result<(), sqlx::Error> {
        let migrator = migrator(self.is_server());
        within(MIGRATE, async {
            Ok(migrator.run_to(version, connection).await?)
        })
        .await
    }

    /// Brings its tables up to date. Any number of nodes may do so at once: PostgreSQL's advisory lock lets one in at a
    /// time.
    pub async fn migrate(&self, connection: &mut Connection) -> Result<(), sqlx::Error> {
        let migrator = migrator(self.is_server());
        within(MIGRATE, async { Ok(migrator.run(connection).await?) }).await
    }
}

impl From<&Path> for Location {
    fn from(dir: &Path) -> Self {
        Location::Dir(dir.to_path_buf())
    }
}

impl Database {
    pub fn is_server(&self) -> bool {
        self.location.is_server()
    }

    /// Opens the database, makes its file where it is one and isn't there, and brings its tables up to date.
    pub async fn open(location: &Location) -> Result<Self, sqlx::Error> {
        let mut writer = location.connect().await?;
        location.migrate(&mut writer).await?;
        Ok(Self {
            readers: location.readers(READERS)?,
            writer,
            location: location.clone(),
        })
    }

    /// Opens another connection in place of one that was lost.
    pub async fn reconnect(&mut self) -> Result<(), sqlx::Error> {
        self.writer = self.location.connect().await?;
        Ok(())
    }

    /// Gives freed room back to the file system, a little at a time. PostgreSQL does so by itself.
    pub async fn tidy(&mut self) -> Result<(), sqlx::Error> {
        if self.location.is_server() {
            return Ok(());
        }
        sqlx::raw_sql("PRAGMA incremental_vacuum(1000)")
            .execute(&mut self.writer)
            .await
            .map(drop)
    }

    /// Empties SQLite's write-ahead log, which still has what was deleted since as it was. While somebody reads long, it
    /// stays until it is written over.
    pub async fn scrub(&mut self) -> Result<(), sqlx::Error> {
        if self.location.is_server() {
            return Ok(());
        }
        let emptied = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)");
        within(PATIENCE, emptied.execute(&mut self.writer))
            .await
            .map(drop)
    }

    /// Closes it; what is in SQLite's write-ahead log goes into the file.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        self.readers.close().await;
        self.writer.close().await
    }
}

/// Who may be at the ledger in a transaction that has begun: those who write to it are let in together, who erases comes
/// in alone. SQLite lets one write at a time as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Together,
    Alone,
}

impl Turn {
    /// Waits for the turn; it ends with the transaction.
    pub async fn take(self, connection: &mut Connection) -> Result<(), sqlx::Error> {
        if connection.backend_name() == "SQLite" {
            return Ok(());
        }
        // The number is that of the ledger and nothing else. In a block, because `void` is no type for sqlx.
        let text = match self {
            Turn::Together => "DO $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7301); END $$",
            Turn::Alone => "DO $$ BEGIN PERFORM pg_advisory_xact_lock(7301); END $$",
        };
        sqlx::raw_sql(text).execute(connection).await.map(drop)
    }
}

/// Runs a statement, or several, for at most `time`. A connection whose time is over must not be used again.
pub async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(time, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "the database did not answer in time",
        ))),
    }
}

/// Returns whether the database is away, so that another connection may do later what this one could not. Everything
/// else would be refused again.
pub fn is_away(error: &sqlx::Error) -> bool {
    if let sqlx::Error::Database(refused) = error {
        // SQLite's codes are plain numbers.
        let code = refused.code().unwrap_or_default();
        // Out of memory, input and output, disk full: SQLite has ended the transaction by itself, which sqlx doesn't know.
        // What this connection writes from then on may never be committed.
        if let Ok(number) = code.parse::<u32>()
            && code.len() < 5
        {
            return matches!(number & 0xff, 7 | 10 | 13);
        }
        // Connection lost; shutting down or starting; too many connections; a standby that only reads.
        return code.len() == 5
            && (code.starts_with("08")
                || code.starts_with("57P0")
                || matches!(&*code, "53300" | "25006"));
    }
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
    )
}

/// Parameters of the URL that are known; sqlx would log the value of another one, which may be a misspelt password.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Says what is wrong with the URL of a PostgreSQL database, without repeating any of it but a parameter's name.
pub fn check_url(url: &str) -> Result<(), String> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("must be \"sqlite\" or postgres://USER:PASSWORD@HOST/DATABASE".into());
    }
    let unfit = "is not a URL: write postgres://USER:PASSWORD@HOST/DATABASE, with what is special in it percent-encoded";
    let options = AnyConnectOptions::from_str(url).map_err(|_| unfit.to_owned())?;
    for (name, _) in options.database_url.query_pairs() {
        if !PARAMETERS.contains(&&*name) && !name.starts_with("options[") {
            return Err(format!(
                "has the parameter {name:?}; known are {}",
                PARAMETERS.join(", ")
            ));
        }
    }
    sqlx::postgres::PgConnectOptions::from_str(url).map_err(|_| unfit.to_owned())?;
    Ok(())
}

/// Returns the URL of a file: what is special in one is percent-encoded.
fn sqlite_url(file: &Path) -> Result<String, sqlx::Error> {
    let unfit = || sqlx::Error::Configuration("state.dir is not UTF-8".into());
    let mut url = String::from("sqlite://");
    for byte in file.to_str().ok_or_else(unfit)?.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                url.push(char::from(byte));
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url.push_str("?mode=rwc");
    Ok(url)
}

fn migrator(postgres: bool) -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, name, text)| {
        let sql = match text {
            Text::Both(sql) => *sql,
            Text::Each { postgres: sql, .. } if postgres => *sql,
            Text::Each { sqlite: sql, .. } => *sql,
        };
        Migration::new(
            *version,
            (*name).into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_whatever_stands_in_its_path() {
        let url = sqlite_url(Path::new("/a b/ü?#%/strait.db"));
        assert_eq!(
            url.expect("it is UTF-8"),
            "sqlite:///a%20b/%C3%BC%3F%23%25/strait.db?mode=rwc"
        );
    }

    #[tokio::test]
    async fn a_connection_whose_disk_was_full_is_not_gone_on_with() {
        let dir = tempfile::tempdir().expect("a folder");
        let location = Location::Dir(dir.path().to_owned());
        let mut connection = location.connect().await.expect("a connection");
        let small = "CREATE TABLE t (a); PRAGMA max_page_count = 4";
        let made = sqlx::raw_sql(small).execute(&mut connection).await;
        made.expect("it has room");
        let mut transaction = connection.begin().await.expect("it begins");
        let large = "INSERT INTO t VALUES (zeroblob(100000))";
        let full = sqlx::query(large).execute(&mut *transaction).await;
        assert!(is_away(&full.expect_err("it is full")));
        drop(transaction);
        let twice = "CREATE TABLE t (a)";
        let refused = sqlx::raw_sql(twice).execute(&mut connection).await;
        assert!(!is_away(&refused.expect_err("it is there already")));
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_what_is_secret() {
        for url in [
            "postgres://u:p4ss@db.example/strait",
            "postgresql://u@db.example:5433/strait?sslmode=require",
            "postgres:///strait?host=/run/postgresql",
        ] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        for url in [
            "mysql://u:p4ss@db/strait",
            "p4ss",
            "postgres://u:p4ss@[db/strait",
            "postgres://u@db/strait?pasword=p4ss",
            "postgres://u:p4ss@db/strait?sslmode=p4ss",
        ] {
            let wrong = check_url(url).expect_err(url);
            assert!(!wrong.contains("p4ss"), "{url}: {wrong}");
        }
        let wrong = check_url("postgres://u@db/strait?pasword=p4ss").expect_err("misspelt");
        assert!(wrong.contains("pasword"), "{wrong}");
    }
}
