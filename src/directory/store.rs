//! The directory's tables: every statement over them.
//!
//! A write begins by counting on, which locks out every other writer until it ends: so versions are in the order in
//! which they can be seen, and what is read before a write still holds when it is made.

use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use sqlx::{Connection as _, Transaction};

use super::schema::Kind;
use super::token::new_id;
use crate::state::database::Connection;

/// An object, as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub id: String,
    pub kind: Kind,
    pub parent: Option<String>,
    /// `/org_…/team_…/…`: itself comes last.
    pub path: String,
    pub name: String,
    /// Its `ETag`; grows with every change of any object.
    pub version: i64,
    /// Seconds since 1970.
    pub created: i64,
    pub changed: i64,
    /// JSON.
    pub body: String,
    pub secret: Option<String>,
}

/// An object that isn't there yet.
#[derive(Debug, Clone)]
pub struct New {
    pub id: String,
    pub kind: Kind,
    pub parent: Option<String>,
    pub name: String,
    pub body: String,
    pub secret: Option<String>,
    /// The request that makes it, where it may be sent again.
    pub once: Option<Once>,
}

/// A request that may be sent again.
#[derive(Debug, Clone)]
pub struct Once {
    pub caller: String,
    pub key: String,
    /// What it says, as a digest.
    pub request: String,
}

/// A change of an object.
#[derive(Debug, Clone)]
pub struct Change {
    pub id: String,
    /// The version that it is a change of.
    pub version: i64,
    pub name: String,
    pub body: String,
    /// In place of what was there; `None` leaves it.
    pub secret: Option<String>,
    /// The request that changes it, where it may be sent again.
    pub once: Option<Once>,
}

/// Which objects are listed.
#[derive(Debug, Clone)]
pub struct Query {
    pub kind: Kind,
    /// Only those below this path, which ends with a slash; empty: all.
    pub under: String,
    /// Only those after this id.
    pub after: String,
    pub most: usize,
}

/// Why something isn't done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    NotFound,
    /// What it would belong to isn't there.
    NoParent,
    NameTaken,
    /// It has changed since the version that was named.
    Changed,
    /// This many objects belong to it.
    InUse(u64),
    /// The key of the request was used for another one.
    OtherRequest,
    /// It was made already, as this object.
    Made(Box<Object>),
}

/// What a statement may come to: a refusal is an answer, an error is the database's.
pub type Outcome<T> = Result<Result<T, Refused>, sqlx::Error>;
type Sql<T> = Result<T, sqlx::Error>;

/// An answer to a repeated request can be had this long.
const ONCE_FOR: i64 = 24 * 3600;
/// Nodes that were away for longer read everything anew.
pub const REMOVED_FOR: i64 = 24 * 3600;

impl Object {
    fn of(row: &AnyRow) -> Sql<Self> {
        let kind: String = row.try_get(1)?;
        let kind = Kind::named(&kind).ok_or_else(|| {
            sqlx::Error::Decode(format!("objects of the kind {kind:?} are not known here").into())
        })?;
        Ok(Self {
            id: row.try_get(0)?,
            kind,
            parent: row.try_get(2)?,
            path: row.try_get(3)?,
            name: row.try_get(4)?,
            version: row.try_get(5)?,
            created: row.try_get(6)?,
            changed: row.try_get(7)?,
            body: row.try_get(8)?,
            secret: row.try_get(9)?,
        })
    }

    /// Returns the ids of all that it belongs to, and its own.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').filter(|id| !id.is_empty())
    }
}

pub async fn get(connection: &mut Connection, id: &str) -> Sql<Option<Object>> {
    let row = sqlx::query(
        "SELECT id, kind, parent, path, name, version, created, changed, body, secret \
         FROM objects WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(Object::of).transpose()
}

pub async fn list(connection: &mut Connection, query: &Query) -> Sql<Vec<Object>> {
    let rows = sqlx::query(
        "SELECT id, kind, parent, path, name, version, created, changed, body, secret FROM objects \
         WHERE kind = $1 AND id > $2 AND (CAST($3 AS TEXT) = '' OR SUBSTR(path, 1, CAST($4 AS INTEGER)) = $3) \
         ORDER BY id LIMIT $5",
    )
    .bind(query.kind.name())
    .bind(query.after.as_str())
    .bind(query.under.as_str())
    .bind(length(&query.under))
    .bind(i64::try_from(query.most).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(Object::of).collect()
}

/// In characters, as `SUBSTR` counts; ids are ASCII.
fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

pub async fn create(connection: &mut Connection, new: &New) -> Outcome<Object> {
    let mut transaction = connection.begin().await?;
    let version = count_on(&mut transaction).await?;
    let now = Timestamp::now().as_second();
    if let Some(once) = &new.once
        && let Some(refused) = again(&mut transaction, once, &new.id, now).await?
    {
        return Ok(Err(refused));
    }
    let above = match &new.parent {
        None => String::new(),
        Some(parent) => match get(&mut transaction, parent).await? {
            Some(parent) => parent.path,
            None => return Ok(Err(Refused::NoParent)),
        },
    };
    let object = Object {
        path: format!("{above}/{}", new.id),
        id: new.id.clone(),
        kind: new.kind,
        parent: new.parent.clone(),
        name: new.name.clone(),
        version,
        created: now,
        changed: now,
        body: new.body.clone(),
        secret: new.secret.clone(),
    };
    let inserted = sqlx::query(
        "INSERT INTO objects (id, kind, parent, path, name, version, created, changed, body, secret) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(object.id.as_str())
    .bind(object.kind.name())
    .bind(object.parent.clone())
    .bind(object.path.as_str())
    .bind(object.name.as_str())
    .bind(object.version)
    .bind(object.created)
    .bind(object.changed)
    .bind(object.body.as_str())
    .bind(object.secret.clone())
    .execute(&mut *transaction)
    .await;
    if let Some(refused) = taken(inserted)? {
        return Ok(Err(refused));
    }
    if object.kind == Kind::Organisation {
        sqlx::query(
            "INSERT INTO counters (name, value) VALUES ('closed', 1) ON CONFLICT (name) DO NOTHING",
        )
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(Ok(object))
}

/// Returns what a request that was sent before has made; one that is new is noted with its object.
async fn again(
    transaction: &mut Transaction<'_, sqlx::Any>,
    once: &Once,
    object: &str,
    now: i64,
) -> Sql<Option<Refused>> {
    if let Some(made) = made(transaction, once, now).await? {
        return Ok(Some(made));
    }
    sqlx::query(
        "INSERT INTO idempotency (caller, key, request, object, at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(once.caller.as_str())
    .bind(once.key.as_str())
    .bind(once.request.as_str())
    .bind(object)
    .bind(now)
    .execute(&mut **transaction)
    .await?;
    Ok(None)
}

/// Returns what a request that was sent before has made.
async fn made(
    transaction: &mut Transaction<'_, sqlx::Any>,
    once: &Once,
    now: i64,
) -> Sql<Option<Refused>> {
    sqlx::query("DELETE FROM idempotency WHERE at < $1")
        .bind(now - ONCE_FOR)
        .execute(&mut **transaction)
        .await?;
    let row = sqlx::query("SELECT request, object FROM idempotency WHERE caller = $1 AND key = $2")
        .bind(once.caller.as_str())
        .bind(once.key.as_str())
        .fetch_optional(&mut **transaction)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (request, object): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    if request != once.request {
        return Ok(Some(Refused::OtherRequest));
    }
    Ok(Some(match get(transaction, &object).await? {
        Some(object) => Refused::Made(Box::new(object)),
        None => Refused::NotFound,
    }))
}

pub async fn update(connection: &mut Connection, change: &Change) -> Outcome<Object> {
    let mut transaction = connection.begin().await?;
    let version = count_on(&mut transaction).await?;
    let now = Timestamp::now().as_second();
    if let Some(once) = &change.once
        && let Some(refused) = again(&mut transaction, once, &change.id, now).await?
    {
        return Ok(Err(refused));
    }
    let Some(before) = get(&mut transaction, &change.id).await? else {
        return Ok(Err(Refused::NotFound));
    };
    if before.version != change.version {
        return Ok(Err(Refused::Changed));
    }
    let object = Object {
        name: change.name.clone(),
        version,
        changed: now,
        body: change.body.clone(),
        secret: change.secret.clone().or(before.secret),
        ..before
    };
    let updated = sqlx::query(
        "UPDATE objects SET name = $1, version = $2, changed = $3, body = $4, secret = $5 WHERE id = $6",
    )
    .bind(object.name.as_str())
    .bind(object.version)
    .bind(object.changed)
    .bind(object.body.as_str())
    .bind(object.secret.clone())
    .bind(object.id.as_str())
    .execute(&mut *transaction)
    .await;
    if let Some(refused) = taken(updated)? {
        return Ok(Err(refused));
    }
    transaction.commit().await?;
    Ok(Ok(object))
}

/// Deletes an object with what is attached to it; with `all` also what belongs to it. Returns how many went.
pub async fn delete(
    connection: &mut Connection,
    id: &str,
    version: Option<i64>,
    all: bool,
) -> Outcome<u64> {
    let mut transaction = connection.begin().await?;
    let counted = count_on(&mut transaction).await?;
    let Some(object) = get(&mut transaction, id).await? else {
        return Ok(Err(Refused::NotFound));
    };
    if version.is_some_and(|version| version != object.version) {
        return Ok(Err(Refused::Changed));
    }
    let under = format!("{}/", object.path);
    let rows = sqlx::query(
        "SELECT kind, COUNT(*) FROM objects WHERE SUBSTR(path, 1, CAST($1 AS INTEGER)) = $2 GROUP BY kind",
    )
    .bind(length(&under))
    .bind(under.as_str())
    .fetch_all(&mut *transaction)
    .await?;
    let (mut gone, mut users) = (1, 0);
    for row in &rows {
        let (kind, count): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        let count = count.unsigned_abs();
        gone += count;
        if !Kind::named(&kind).is_some_and(Kind::is_attached) {
            users += count;
        }
    }
    if users > 0 && !all {
        return Ok(Err(Refused::InUse(users)));
    }
    let now = Timestamp::now().as_second();
    // Each in one statement: what an organisation had may be many thousands.
    sqlx::query(
        "INSERT INTO removed_objects (id, version, at) SELECT id, CAST($1 AS BIGINT), CAST($2 AS BIGINT) FROM objects \
         WHERE id = $3 OR SUBSTR(path, 1, CAST($4 AS INTEGER)) = $5",
    )
    .bind(counted)
    .bind(now)
    .bind(object.id.as_str())
    .bind(length(&under))
    .bind(under.as_str())
    .execute(&mut *transaction)
    .await?;
    for text in [
        "DELETE FROM token_uses WHERE id IN (SELECT id FROM objects \
         WHERE id = $1 OR SUBSTR(path, 1, CAST($2 AS INTEGER)) = $3)",
        "DELETE FROM objects WHERE id = $1 OR SUBSTR(path, 1, CAST($2 AS INTEGER)) = $3",
    ] {
        sqlx::query(text)
            .bind(object.id.as_str())
            .bind(length(&under))
            .bind(under.as_str())
            .execute(&mut *transaction)
            .await?;
    }
    sqlx::query("DELETE FROM removed_objects WHERE at < $1")
        .bind(now - 2 * REMOVED_FOR)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Ok(gone))
}

/// Locks out other writers and returns the version of this write.
async fn count_on(transaction: &mut Transaction<'_, sqlx::Any>) -> Sql<i64> {
    let row = sqlx::query(
        "UPDATE counters SET value = value + 1 WHERE name = 'directory' RETURNING value",
    )
    .fetch_one(&mut **transaction)
    .await?;
    row.try_get(0)
}

/// Returns the version of the last write.
pub async fn version(connection: &mut Connection) -> Sql<i64> {
    let row = sqlx::query("SELECT value FROM counters WHERE name = 'directory'")
        .fetch_one(connection)
        .await?;
    row.try_get(0)
}

/// Returns whether there was an organisation once.
pub async fn closed(connection: &mut Connection) -> Sql<bool> {
    let row = sqlx::query("SELECT value FROM counters WHERE name = 'closed'")
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

/// Returns some of what was changed after a version, by id: those after `after`.
pub async fn changed(
    connection: &mut Connection,
    since: i64,
    after: &str,
    most: i64,
) -> Sql<Vec<Object>> {
    let rows = sqlx::query(
        "SELECT id, kind, parent, path, name, version, created, changed, body, secret FROM objects \
         WHERE version > $1 AND id > $2 ORDER BY id LIMIT $3",
    )
    .bind(since)
    .bind(after)
    .bind(most)
    .fetch_all(connection)
    .await?;
    // What a later version of this program has made is not ours to read.
    Ok(rows.iter().filter_map(|row| Object::of(row).ok()).collect())
}

/// Returns what was removed after a version.
pub async fn removed(connection: &mut Connection, since: i64) -> Sql<Vec<String>> {
    let rows = sqlx::query("SELECT id FROM removed_objects WHERE version > $1")
        .bind(since)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Keeps a fingerprint where there is none, and returns the one that is kept.
pub async fn fingerprint(connection: &mut Connection, name: &str, value: &str) -> Sql<String> {
    sqlx::query(
        "INSERT INTO fingerprints (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
    )
    .bind(name)
    .bind(value)
    .execute(&mut *connection)
    .await?;
    let row = sqlx::query("SELECT value FROM fingerprints WHERE name = $1")
        .bind(name)
        .fetch_one(connection)
        .await?;
    row.try_get(0)
}

/// Tells a name that is taken from what is wrong with the database.
fn taken<T>(done: Sql<T>) -> Sql<Option<Refused>> {
    match done {
        Ok(_) => Ok(None),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            Ok(Some(Refused::NameTaken))
        }
        Err(error) => Err(error),
    }
}

impl New {
    /// Returns a new object of a new id.
    pub fn of(kind: Kind, parent: Option<String>, name: &str, body: String) -> Self {
        Self {
            id: new_id(kind.prefix()),
            kind,
            parent,
            name: name.to_owned(),
            body,
            secret: None,
            once: None,
        }
    }
}
