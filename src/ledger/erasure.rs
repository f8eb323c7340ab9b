//! Erasing what is kept of an end user, on every node: what another one has of them in its journal, from before, goes
//! when it is written.
//!
//! An erasure is remembered by a hash of who it was, with a salt of the database: it must not keep what it erases, and every
//! node must know it. It is noted while nobody writes to the ledger, and whoever writes looks at the end of the same transaction, so nothing slips
//! through between the two.

use std::collections::{BTreeSet, HashMap};

use ring::hmac;
use ring::rand::SecureRandom as _;
use sqlx::{Connection as _, Row as _};

use super::row::Row;
use super::tables::{Sql, delete};
use crate::codec::hex::hex;
use crate::state::database::{Connection, Turn};

/// Texts of one statement.
const TOGETHER: usize = 500;

/// Makes the hashes that stand for users.
pub struct Mask(hmac::Key);

impl Mask {
    pub fn new(salt: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes()))
    }

    /// Reads the database's salt, and makes it where there is none.
    pub async fn read(connection: &mut Connection) -> Result<Self, sqlx::Error> {
        let mut salt = [0u8; 32];
        ring::rand::SystemRandom::new()
            .fill(&mut salt)
            .expect("the system gives random numbers");
        let text =
            "INSERT INTO salts (name, value) VALUES ('erasures', $1) ON CONFLICT (name) DO NOTHING";
        let query = sqlx::query(text).bind(hex(&salt));
        query.execute(&mut *connection).await?;
        let found = sqlx::query("SELECT value FROM salts WHERE name = 'erasures'")
            .fetch_one(connection)
            .await?;
        let salt: String = found.try_get("value")?;
        Ok(Self::new(&salt))
    }

    /// Returns what stands for a user; empty for nobody.
    pub fn of(&self, user: &str) -> String {
        match user {
            "" => String::new(),
            user => hex(&hmac::sign(&self.0, user.as_bytes()).as_ref()[..16]),
        }
    }
}

/// Notes that nothing may be kept of a user from before `before_us`.
pub async fn note(
    connection: &mut Connection,
    mask: &str,
    before_us: i64,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    Turn::Alone.take(&mut transaction).await?;
    let text = "INSERT INTO erasures (user_mask, before_us) VALUES ($1, $2) ON CONFLICT (user_mask) DO UPDATE SET \
                before_us = CASE WHEN erasures.before_us > excluded.before_us THEN erasures.before_us ELSE excluded.before_us END";
    let query = sqlx::query(text).bind(mask.to_owned()).bind(before_us);
    query.execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Returns the time before which nothing is kept of the user that was erased last; 0 where nobody was.
pub async fn newest(connection: &mut Connection) -> Result<i64, sqlx::Error> {
    let text = "SELECT COALESCE(MAX(before_us), 0) AS newest FROM erasures";
    let found = sqlx::query(text).fetch_one(connection).await?;
    found.try_get("newest")
}

/// Forgets erasures from before a time: rows from before it are gone with their retention.
pub async fn forget(connection: &mut Connection, before_us: i64) -> Result<u64, sqlx::Error> {
    let query = sqlx::query("DELETE FROM erasures WHERE before_us < $1").bind(before_us);
    Ok(query.execute(connection).await?.rows_affected())
}

/// Deletes those of the rows that this transaction has written which were erased before.
pub async fn again(
    connection: &mut Connection,
    mask: &Mask,
    rows: &[&Row],
) -> Result<(), sqlx::Error> {
    let newest = newest(connection).await?;
    let late = rows
        .iter()
        .filter(|row| row.time_us < newest && !row.user.is_empty());
    let mut late: Vec<_> = late.map(|row| (mask.of(&row.user), row)).collect();
    let erased = erased(connection, late.iter().map(|(mask, _)| &**mask)).await?;
    late.retain(|(mask, row)| erased.get(mask).is_some_and(|before| row.time_us < *before));
    let ids: Vec<&str> = late.iter().map(|(_, row)| &*row.id).collect();
    delete(connection, "records", &ids).await.map(drop)
}

/// Returns those of some users who were erased, and before when.
pub async fn erased<'m>(
    connection: &mut Connection,
    masks: impl Iterator<Item = &'m str>,
) -> Result<HashMap<String, i64>, sqlx::Error> {
    let masks: Vec<&str> = masks.collect::<BTreeSet<_>>().into_iter().collect();
    let mut erased = HashMap::new();
    for some in masks.chunks(TOGETHER) {
        let mut sql = Sql::new("SELECT user_mask, before_us FROM erasures WHERE user_mask IN ");
        sql.texts(some.iter().copied());
        for found in sql.fetch(&mut *connection).await? {
            erased.insert(found.try_get("user_mask")?, found.try_get("before_us")?);
        }
    }
    Ok(erased)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_tells_users_apart_and_names_none() {
        let mask = Mask::new("salt");
        assert_eq!(mask.of("anna"), mask.of("anna"));
        assert_ne!(mask.of("anna"), mask.of("berta"));
        assert_eq!(mask.of(""), "");
        let other = Mask::new("another");
        assert_ne!(mask.of("anna"), other.of("anna"));
    }
}
