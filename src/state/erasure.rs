//! Who is to be forgotten, on every node: an erasure is remembered, so that what another one still has of them from before
//! goes when it is written.
//!
//! It is remembered by a hash of who it was, with a salt of the database: it must not keep what it erases, and every node
//! must know it.

use jiff::Timestamp;
use ring::hmac;
use ring::rand::SecureRandom as _;
use sqlx::{Connection as _, Row as _};

use super::database::{Connection, PATIENCE, Turn, within};
use super::responses;
use crate::codec::hex::hex;

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

/// Deletes the kept answers of a user; returns how many there were.
pub(super) async fn erase_responses(
    connection: &mut Connection,
    mask: &str,
) -> Result<u64, sqlx::Error> {
    // First: from here on no node keeps what it has of them from before.
    let now_us = Timestamp::now().as_microsecond();
    within(PATIENCE, note(connection, mask, now_us)).await?;
    let mut erased = 0;
    loop {
        match within(PATIENCE, responses::erase(connection, mask)).await? {
            0 => return Ok(erased),
            gone => erased += gone,
        }
    }
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
