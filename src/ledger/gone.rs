//! What goes: what is over, and what is kept of an end user who is to be forgotten. In chunks, so that nobody waits long.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use jiff::Timestamp;

use super::{Shared, bodies, erasure, sums, tables};
use crate::state::database::{Connection, Database, PATIENCE, within};

/// Chunks of each kind that one look deletes at most.
pub const MOST_CHUNKS: usize = 20;

/// What is gone of an end user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    pub rows: u64,
    pub bodies: u64,
}

/// Deletes some of what is over.
pub async fn expire(shared: &Shared, database: &mut Database) -> Result<(), sqlx::Error> {
    let now_us = Timestamp::now().as_microsecond();
    let before = |retention: Option<Duration>| {
        let micros = i64::try_from(retention?.as_micros()).unwrap_or(i64::MAX);
        Some(now_us.saturating_sub(micros))
    };
    let before_us = before(shared.retention);
    let writer = &mut database.writer;
    for _ in 0..MOST_CHUNKS {
        let gone = within(PATIENCE, bodies::expire(writer, now_us, before_us)).await?;
        shared.bodies.expired(gone);
        if gone == 0 {
            break;
        }
    }
    if let Some(before_us) = before(shared.usage_retention) {
        for _ in 0..MOST_CHUNKS {
            if within(PATIENCE, sums::expire(writer, before_us)).await? == 0 {
                break;
            }
        }
    }
    let Some(before_us) = before_us else {
        return Ok(());
    };
    for _ in 0..MOST_CHUNKS {
        let gone = within(PATIENCE, tables::expire(writer, before_us)).await?;
        shared.tallies.expired.fetch_add(gone, Relaxed);
        if gone == 0 {
            break;
        }
    }
    within(PATIENCE, erasure::forget(writer, before_us)).await?;
    if let Err(error) = database.tidy().await {
        tracing::warn!(%error, "freed room of the database is not given back");
    }
    Ok(())
}

/// Deletes all that is kept of a user.
pub async fn erase(
    connection: &mut Connection,
    user: &str,
    mask: &str,
) -> Result<Erased, sqlx::Error> {
    let mut erased = Erased::default();
    // First: from here on no node writes what it has of them from before.
    let now_us = Timestamp::now().as_microsecond();
    within(PATIENCE, erasure::note(connection, mask, now_us)).await?;
    loop {
        match within(PATIENCE, bodies::erase(connection, mask)).await? {
            0 => break,
            gone => erased.bodies += gone,
        }
    }
    loop {
        match within(PATIENCE, tables::erase(connection, user)).await? {
            0 => return Ok(erased),
            gone => erased.rows += gone,
        }
    }
}
