//! Kept answers of the Responses API: what is kept of one, and how it is put, found and followed back.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row as _;

use super::database::{Connection, Pool, Row};
use super::queue::{By, Key, Waiting};
use super::{Settings, Shared};
use crate::codec::json::{self, Scanner};
use crate::error::{Error, Kind, Result};

/// Rows that one statement deletes.
const CHUNK: i64 = 500;
/// Of one answer so many items are found by their ids.
const MOST_ITEMS: usize = 1000;
/// Nobody waits longer for an answer of the database.
const PATIENCE: Duration = Duration::from_secs(20);
/// Whoever has an end user forgotten doesn't wait longer until that begins.
const ERASE_PATIENCE: Duration = Duration::from_secs(5);
/// What a row takes beside its texts.
const ROW: usize = 200;

/// An answer, and what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// `resp_…`
    pub id: String,
    /// The name of the key that asked; empty where there are no keys. Nobody else finds it.
    pub tenant: String,
    /// Seconds since 1970.
    pub created: i64,
    pub expires: i64,
    pub model: String,
    /// `completed`, `incomplete`, …
    pub status: String,
    /// Who answered and may keep it too, as `provider/credential`; empty when it is the gateway's alone.
    pub maker: String,
    /// The `previous_response_id` that it was asked with.
    pub previous: Option<String>,
    /// The input items of this request alone, a JSON array.
    pub input: String,
    /// The whole answer, a JSON object.
    pub response: String,
    pub asker: Asker,
}

/// Who asked, and when: it is written, and never read again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asker {
    /// The end user; empty for nobody.
    pub user: String,
    /// Microseconds since 1970.
    pub at_us: i64,
}

impl Stored {
    /// Returns what it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let previous = self.previous.as_ref().map_or(0, String::len);
        ROW + self.id.len()
            + self.tenant.len()
            + self.model.len()
            + self.status.len()
            + self.maker.len()
            + previous
            + self.input.len()
            + self.response.len()
    }

    /// Calls `each` with the id and the JSON of every output item of the answer that has one.
    pub fn items<'s>(&'s self, mut each: impl FnMut(&str, &'s str)) {
        let body = self.response.as_bytes();
        let mut scanner = Scanner::new(body, usize::MAX);
        // It was read as JSON before it was kept; of what can't be read there are no items.
        let _ = scanner.object(|scanner, key| {
            let name = json::unescape(body, key);
            if name.as_deref() != Some("output") || scanner.peek() != Some(b'[') {
                return scanner.pass();
            }
            scanner.array(|scanner| {
                if scanner.peek() != Some(b'{') {
                    return scanner.pass();
                }
                let from = scanner.at();
                let mut id = None;
                scanner.object(|scanner, key| {
                    let is_id = body.get(key) == Some(b"id");
                    let value = scanner.skip()?;
                    if is_id {
                        id = json::string(body, value);
                    }
                    Ok(())
                })?;
                if let (Some(id), Some(item)) = (id, self.response.get(from..scanner.at())) {
                    each(&id, item);
                }
                Ok(())
            })
        });
    }

    /// Returns the output item of that id.
    pub fn item(&self, id: &str) -> Option<&str> {
        let mut found = None;
        self.items(|its, item| {
            if its == id {
                found = Some(item);
            }
        });
        found
    }

    fn of(row: &Row) -> std::result::Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get(0)?,
            id: row.try_get(1)?,
            created: row.try_get(2)?,
            expires: row.try_get(3)?,
            model: row.try_get(4)?,
            status: row.try_get(5)?,
            maker: row.try_get(6)?,
            previous: row.try_get(7)?,
            input: row.try_get(8)?,
            response: row.try_get(9)?,
            asker: Asker::default(),
        })
    }
}

/// What became of a [`Responses::put`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is found from now on, and written soon.
    Kept,
    /// `responses.store` is false.
    Off,
    /// Larger than `responses.max_item`.
    TooLarge,
    QueueFull,
    Unavailable,
}

/// A conversation: answers, the first one first.
#[derive(Debug, Default)]
pub struct Chain {
    pub links: Vec<Arc<Stored>>,
}

impl Chain {
    /// The most answers that one conversation goes back.
    pub const MOST_LINKS: usize = 1000;
}

/// The kept answers.
pub struct Responses<'s> {
    shared: &'s Shared,
}

impl<'s> Responses<'s> {
    pub(super) fn of(shared: &'s Shared) -> Self {
        Self { shared }
    }

    /// Returns whether answers are kept at all.
    pub fn are_kept(&self) -> bool {
        self.shared.settings.load().store
    }

    /// Returns when an answer made at `created` (seconds since 1970) is over.
    pub fn expiry(&self, created: i64) -> i64 {
        let ttl = self.shared.settings.load().ttl.as_secs();
        created.saturating_add(i64::try_from(ttl).unwrap_or(i64::MAX))
    }

    /// Keeps an answer; never waits. Once this says [`Put::Kept`], it is found.
    pub fn put(&self, stored: Stored) -> Put {
        let Settings {
            store, max_item, ..
        } = **self.shared.settings.load();
        let tallies = &self.shared.tallies;
        if !store {
            return Put::Off;
        }
        if stored.bytes() as u64 > max_item {
            tallies.too_large.fetch_add(1, Relaxed);
            return Put::TooLarge;
        }
        if !tallies.is_available() {
            tallies.lost(&tallies.no_database, 1);
            return Put::Unavailable;
        }
        if self.shared.queue.put(Arc::new(stored)) {
            Put::Kept
        } else {
            tallies.lost(&tallies.queue_full, 1);
            Put::QueueFull
        }
    }

    /// Finds an answer of the tenant. Errors: the database can't be asked.
    pub async fn get(&self, tenant: &str, id: &str) -> Result<Option<Arc<Stored>>> {
        let now = Timestamp::now().as_second();
        let found = self.find(tenant, id).await?;
        Ok(found.filter(|stored| stored.expires > now))
    }

    async fn find(&self, tenant: &str, id: &str) -> Result<Option<Arc<Stored>>> {
        let key = Key::new(tenant, id);
        match self.shared.queue.look(&key) {
            Some(Waiting::Put(stored)) => return Ok(Some(stored)),
            Some(Waiting::Deleted) => return Ok(None),
            None => {}
        }
        self.check()?;
        self.ask(By::Id, key).await
    }

    /// Finds the answer of the tenant that an output item stands in. Errors: the database can't be asked.
    pub async fn by_item(&self, tenant: &str, item: &str) -> Result<Option<Arc<Stored>>> {
        let now = Timestamp::now().as_second();
        let waiting = self.shared.queue.waiting_of(tenant);
        let found = waiting
            .into_iter()
            .find(|stored| stored.item(item).is_some());
        let found = match found {
            Some(stored) => Some(stored),
            None => {
                self.check()?;
                let written = self.ask(By::Item, Key::new(tenant, item)).await?;
                written.filter(|stored| {
                    let key = Key::new(tenant, &stored.id);
                    // Deleted meanwhile, and the database doesn't know it yet.
                    !matches!(self.shared.queue.look(&key), Some(Waiting::Deleted))
                })
            }
        };
        Ok(found.filter(|stored| stored.expires > now))
    }

    async fn ask(&self, by: By, key: Key) -> Result<Option<Arc<Stored>>> {
        let answered = self.shared.queue.read(by, key).ok_or_else(unavailable)?;
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(found)) => Ok(found.map(Arc::new)),
            Ok(Err(_)) | Err(_) => Err(unavailable()),
        }
    }

    /// Deletes an answer of the tenant, and returns when that is certain, with whether there was one.
    pub async fn delete(&self, tenant: &str, id: &str) -> Result<bool> {
        self.check()?;
        let key = Key::new(tenant, id);
        let waits = matches!(self.shared.queue.look(&key), Some(Waiting::Put(_)));
        let told = self.shared.queue.delete(key).ok_or_else(unavailable)?;
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(existed)) => Ok(existed || waits),
            Ok(Err(_)) | Err(_) => Err(unavailable()),
        }
    }

    /// Deletes the answers of an end user, on whichever node they were made, and returns how many there were. Errors: the
    /// database can't be asked, and some may be left.
    pub async fn erase(&self, user: &str) -> Result<u64> {
        let (heard, gone) = self.shared.queue.erase(user).ok_or_else(unavailable)?;
        match tokio::time::timeout(ERASE_PATIENCE, heard).await {
            Ok(Ok(())) => gone.await.map_err(|_| unavailable()),
            Ok(Err(_)) | Err(_) => Err(unavailable()),
        }
    }

    /// Returns the conversation that ends with `id`.
    ///
    /// Errors: an answer in it is not kept (any more), or it is longer than [`Chain::MOST_LINKS`] or larger than
    /// `most_bytes`.
    pub async fn chain(&self, tenant: &str, id: &str, most_bytes: usize) -> Result<Chain> {
        let mut links: Vec<Arc<Stored>> = Vec::new();
        let mut bytes = 0usize;
        let mut next = Some(id.to_owned());
        while let Some(id) = next.take() {
            let Some(stored) = self.get(tenant, &id).await? else {
                return Err(not_found(&id, links.is_empty()));
            };
            bytes = bytes.saturating_add(stored.bytes());
            if bytes > most_bytes || links.len() >= Chain::MOST_LINKS {
                return Err(Error::field(
                    "previous_response_id",
                    "The conversation that `previous_response_id` goes on from is too long.",
                ));
            }
            next.clone_from(&stored.previous);
            links.push(stored);
        }
        links.reverse();
        Ok(Chain { links })
    }

    fn check(&self) -> Result<()> {
        if self.shared.tallies.is_available() {
            Ok(())
        } else {
            Err(unavailable())
        }
    }
}

fn unavailable() -> Error {
    Error::new(
        Kind::StateUnavailable,
        "The state database can't be asked now.",
    )
}

fn not_found(id: &str, is_first: bool) -> Error {
    let shown: String = id.chars().take(100).collect();
    let message = if is_first {
        format!("Previous response with id '{shown}' not found.")
    } else {
        format!(
            "Response with id '{shown}', which the conversation of the previous response began with, not found."
        )
    };
    Error {
        param: Some("previous_response_id".into()),
        ..Error::new(Kind::PreviousResponseNotFound, message)
    }
}

type Sql<T> = std::result::Result<T, sqlx::Error>;

pub(super) async fn insert(connection: &mut Connection, stored: &Stored, mask: &str) -> Sql<()> {
    sqlx::query(
        "INSERT INTO responses \
         (tenant, id, created, expires, bytes, model, status, maker, previous, input, response, user_mask) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
         ON CONFLICT (tenant, id) DO UPDATE SET created = excluded.created, expires = excluded.expires, \
         bytes = excluded.bytes, model = excluded.model, status = excluded.status, maker = excluded.maker, \
         previous = excluded.previous, input = excluded.input, response = excluded.response, \
         user_mask = excluded.user_mask",
    )
    .bind(&stored.tenant)
    .bind(&stored.id)
    .bind(stored.created)
    .bind(stored.expires)
    .bind(i64::try_from(stored.bytes()).unwrap_or(i64::MAX))
    .bind(&stored.model)
    .bind(&stored.status)
    .bind(&stored.maker)
    .bind(&stored.previous)
    .bind(&stored.input)
    .bind(&stored.response)
    .bind(mask)
    .execute(&mut *connection)
    .await?;
    let mut items = Vec::new();
    stored.items(|id, _| items.push(id.to_owned()));
    for item in items.iter().take(MOST_ITEMS) {
        sqlx::query(
            "INSERT INTO response_items (tenant, item, response) VALUES ($1, $2, $3) \
             ON CONFLICT (tenant, item) DO UPDATE SET response = excluded.response",
        )
        .bind(&stored.tenant)
        .bind(item)
        .bind(&stored.id)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Deletes one that this transaction has written where its user was erased since it was asked for.
pub(super) async fn again(connection: &mut Connection, stored: &Stored, mask: &str) -> Sql<()> {
    sqlx::query(
        "DELETE FROM responses WHERE tenant = $1 AND id = $2 AND EXISTS \
         (SELECT 1 FROM erasures WHERE user_mask = $3 AND before_us > $4)",
    )
    .bind(&stored.tenant)
    .bind(&stored.id)
    .bind(mask)
    .bind(stored.asker.at_us)
    .execute(connection)
    .await
    .map(drop)
}

/// Deletes some of a user's; returns how many.
pub(super) async fn erase(connection: &mut Connection, mask: &str) -> Sql<u64> {
    sqlx::query(
        "DELETE FROM responses WHERE (tenant, id) IN \
         (SELECT tenant, id FROM responses WHERE user_mask = $1 AND user_mask <> '' LIMIT $2)",
    )
    .bind(mask)
    .bind(CHUNK)
    .execute(connection)
    .await
    .map(|done| done.rows_affected())
}

/// Returns whether there was one.
pub(super) async fn remove(connection: &mut Connection, key: &Key) -> Sql<bool> {
    let done = sqlx::query("DELETE FROM responses WHERE tenant = $1 AND id = $2")
        .bind(&*key.tenant)
        .bind(&*key.id)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn select(readers: &Pool, key: &Key) -> Sql<Option<Stored>> {
    let row = sqlx::query(
        "SELECT tenant, id, created, expires, model, status, maker, previous, input, response \
         FROM responses WHERE tenant = $1 AND id = $2",
    )
    .bind(&*key.tenant)
    .bind(&*key.id)
    .fetch_optional(readers)
    .await?;
    row.as_ref().map(Stored::of).transpose()
}

pub(super) async fn select_by_item(readers: &Pool, key: &Key) -> Sql<Option<Stored>> {
    let row = sqlx::query(
        "SELECT tenant, id, created, expires, model, status, maker, previous, input, response \
         FROM responses WHERE tenant = $1 AND id = \
         (SELECT response FROM response_items WHERE tenant = $1 AND item = $2)",
    )
    .bind(&*key.tenant)
    .bind(&*key.id)
    .fetch_optional(readers)
    .await?;
    row.as_ref().map(Stored::of).transpose()
}

/// Deletes some of what is over; returns how many.
pub(super) async fn expire(connection: &mut Connection, now: i64) -> Sql<u64> {
    sqlx::query(
        "DELETE FROM responses WHERE (tenant, id) IN \
         (SELECT tenant, id FROM responses WHERE expires <= $1 ORDER BY expires LIMIT $2)",
    )
    .bind(now)
    .bind(CHUNK)
    .execute(connection)
    .await
    .map(|done| done.rows_affected())
}

/// Deletes some of the oldest, as long as more than `most` bytes are kept; returns how many.
pub(super) async fn evict(connection: &mut Connection, most: u64) -> Sql<u64> {
    let (_, bytes) = measure(connection).await?;
    let Some(over) = bytes.checked_sub(most).filter(|over| *over > 0) else {
        return Ok(0);
    };
    // The oldest whose sizes up to them don't make up what is over: one more than needed, never fewer.
    sqlx::query(
        "DELETE FROM responses WHERE (tenant, id) IN (SELECT tenant, id FROM \
         (SELECT tenant, id, SUM(bytes) OVER (ORDER BY created, tenant, id) - bytes AS before FROM \
         (SELECT tenant, id, created, bytes FROM responses ORDER BY created, tenant, id LIMIT $1) AS oldest) AS summed \
         WHERE before < $2)",
    )
    .bind(CHUNK)
    .bind(i64::try_from(over).unwrap_or(i64::MAX))
    .execute(connection)
    .await
    .map(|done| done.rows_affected())
}

/// Returns how many rows there are, and their bytes.
pub(super) async fn measure(connection: &mut Connection) -> Sql<(u64, u64)> {
    let row =
        sqlx::query("SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM responses")
            .fetch_one(connection)
            .await?;
    let count = |at| {
        row.try_get::<i64, _>(at)
            .map(|count| count.max(0).unsigned_abs())
    };
    Ok((count(0)?, count(1)?))
}
