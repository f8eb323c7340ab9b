//! Erasing what is kept of an end user, on every node: what another one has of them in its journal, from before, goes
//! when it is written.
//!
//! It is [noted](crate::state::erasure) while nobody writes to the ledger, and whoever writes looks at the end of the same
//! transaction, so nothing slips through between the two.

use std::collections::{BTreeSet, HashMap};

use sqlx::Row as _;

use super::row::Row;
use super::tables::{Sql, delete};
use crate::state::database::Connection;
pub use crate::state::erasure::{Mask, newest, note};

/// Texts of one statement.
const TOGETHER: usize = 500;

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
