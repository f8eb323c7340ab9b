//! Sessions of people who signed in, and when tokens were last used: what is asked of the database itself, so that what is
//! ended on one node is ended on all.

use jiff::Timestamp;
use sqlx::{Connection as _, Row as _};

use super::token::Digest;
use crate::state::database::Connection;

/// Sessions of one person; beyond that the oldest end.
const MOST_OF_ONE: i64 = 20;
/// Sessions of all; beyond that the oldest end.
const MOST: i64 = 10_000;

/// Somebody who signed in.
#[derive(Debug, Clone)]
pub struct Session {
    /// The public part of its token.
    pub id: String,
    /// Of the whole token.
    pub digest: Digest,
    /// As the identity provider names them.
    pub subject: String,
    /// JSON.
    pub body: String,
    /// Seconds since 1970.
    pub expires: i64,
}

type Sql<T> = Result<T, sqlx::Error>;

/// Keeps a session, and ends those that there is no room for.
pub async fn open(connection: &mut Connection, session: &Session) -> Sql<()> {
    let mut transaction = connection.begin().await?;
    let now = Timestamp::now().as_second();
    sqlx::query("DELETE FROM sessions WHERE expires <= $1")
        .bind(now)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "DELETE FROM sessions WHERE id IN \
         (SELECT id FROM sessions WHERE subject = $1 AND id NOT IN \
         (SELECT id FROM sessions WHERE subject = $1 ORDER BY created DESC, id DESC LIMIT $2))",
    )
    .bind(session.subject.as_str())
    .bind(MOST_OF_ONE - 1)
    .execute(&mut *transaction)
    .await?;
    let row = sqlx::query("SELECT COUNT(*) FROM sessions")
        .fetch_one(&mut *transaction)
        .await?;
    let over = row.try_get::<i64, _>(0)? + 1 - MOST;
    if over > 0 {
        sqlx::query(
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions ORDER BY created, id LIMIT $1)",
        )
        .bind(over)
        .execute(&mut *transaction)
        .await?;
    }
    sqlx::query(
        "INSERT INTO sessions (id, digest, subject, body, created, expires) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(session.id.as_str())
    .bind(session.digest.hex())
    .bind(session.subject.as_str())
    .bind(session.body.as_str())
    .bind(now)
    .bind(session.expires)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// Returns the session of an id, unless it is over.
pub async fn find(connection: &mut Connection, id: &str) -> Sql<Option<Session>> {
    let row = sqlx::query(
        "SELECT id, digest, subject, body, expires FROM sessions WHERE id = $1 AND expires > $2",
    )
    .bind(id)
    .bind(Timestamp::now().as_second())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let digest: String = row.try_get(1)?;
    // One that can't be read is nobody's.
    let Some(digest) = Digest::from_hex(&digest) else {
        return Ok(None);
    };
    Ok(Some(Session {
        id: row.try_get(0)?,
        digest,
        subject: row.try_get(2)?,
        body: row.try_get(3)?,
        expires: row.try_get(4)?,
    }))
}

pub async fn end(connection: &mut Connection, id: &str) -> Sql<()> {
    sqlx::query("DELETE FROM sessions WHERE id = $1")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends the sessions of somebody, or all; returns how many.
pub async fn end_all(connection: &mut Connection, subject: Option<&str>) -> Sql<u64> {
    let query = match subject {
        Some(subject) => sqlx::query("DELETE FROM sessions WHERE subject = $1").bind(subject),
        None => sqlx::query("DELETE FROM sessions"),
    };
    Ok(query.execute(connection).await?.rows_affected())
}

/// Notes that a user's token was used; of several nodes the latest counts.
pub async fn note_use(connection: &mut Connection, id: &str, at: i64) -> Sql<()> {
    sqlx::query(
        "INSERT INTO token_uses (id, at) VALUES ($1, $2) \
         ON CONFLICT (id) DO UPDATE SET at = excluded.at WHERE token_uses.at < excluded.at",
    )
    .bind(id)
    .bind(at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns when the tokens of these users were last used.
pub async fn uses(connection: &mut Connection, ids: &[String]) -> Sql<Vec<Option<i64>>> {
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        let row = sqlx::query("SELECT at FROM token_uses WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *connection)
            .await?;
        all.push(row.map(|row| row.try_get(0)).transpose()?);
    }
    Ok(all)
}
