//! What was said in an exchange, where that is to be kept: the request as its client sent it and the answer as it saw it,
//! each cut at a bound.
//!
//! They are held in memory while the exchange runs and until the ledger's thread writes them, all together within a bound
//! beyond which they are dropped and counted. They are written compressed, and sealed with AES-256-GCM under a key that is made of the master key for each exchange. They are not
//! journaled, so a kill loses those that wait; rows lose nothing by it.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use parking_lot::Mutex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::SecureRandom as _;
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};

use super::entry::Id;
use super::erasure::{self, Mask};
use super::tables::{Sql, delete, is_poison};
use crate::codec::base64;
use crate::secret::{Secret, derive};
use crate::state::database::{Connection, PATIENCE, Pool, Turn, within};

/// Of a part no more is ever kept, whatever is configured.
pub const MOST_PART: u64 = 16 << 20;
/// Bytes of one transaction, so that rows don't wait long for it.
const TOGETHER: usize = 4 << 20;
/// What is deleted at a time.
const CHUNK: i64 = 100;
/// The first byte of what is sealed: how it was.
const SEALED: u8 = 1;

/// One side of an exchange: its beginning, and how long it was.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    bytes: Vec<u8>,
    total: u64,
}

/// Both sides of an exchange, filled while it runs.
pub struct Body {
    request: Part,
    answer: Part,
    /// Bytes of each side.
    most: usize,
    /// How long it is to be kept.
    keep: Duration,
    hold: Hold,
    /// It found no room: nothing of it is kept.
    dropped: bool,
}

/// One of them.
#[derive(Clone, Copy)]
enum Side {
    Request,
    Answer,
}

/// The memory that all bodies share.
struct Room {
    most: u64,
    bytes: AtomicU64,
    dropped: AtomicU64,
}

/// What a body takes of it; given back when this drops.
struct Hold {
    room: Arc<Room>,
    bytes: u64,
}

impl Hold {
    /// Takes more; where there is no room, none.
    fn more(&mut self, bytes: u64) -> bool {
        let before = self.room.bytes.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) > self.room.most {
            self.room.bytes.fetch_sub(bytes, Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.room.bytes.fetch_sub(bytes, Relaxed);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Body {
    /// Takes a piece of what the client sends.
    pub fn asked(&mut self, piece: &[u8]) {
        self.add(Side::Request, piece);
    }

    /// Takes a piece of what the client gets.
    pub fn answered(&mut self, piece: &[u8]) {
        self.add(Side::Answer, piece);
    }

    fn add(&mut self, side: Side, piece: &[u8]) {
        let part = match side {
            Side::Request => &mut self.request,
            Side::Answer => &mut self.answer,
        };
        part.total += piece.len() as u64;
        let kept = piece.len().min(self.most.saturating_sub(part.bytes.len()));
        if self.dropped || kept == 0 {
            return;
        }
        if self.hold.more(kept as u64) {
            part.bytes.extend_from_slice(&piece[..kept]);
            return;
        }
        self.dropped = true;
        self.hold.room.dropped.fetch_add(1, Relaxed);
        for part in [&mut self.request, &mut self.answer] {
            part.bytes = Vec::new();
        }
        self.hold.give_back();
    }

    /// Returns whether there is something to be kept.
    pub fn is_kept(&self) -> bool {
        !self.dropped && self.request.total + self.answer.total > 0
    }

    fn size(&self) -> usize {
        self.request.bytes.len() + self.answer.bytes.len()
    }
}

/// What waits to be written, and what became of the rest.
pub struct Waiting {
    queue: Mutex<VecDeque<Waits>>,
    room: Arc<Room>,
    written: AtomicU64,
    expired: AtomicU64,
}

struct Waits {
    id: Id,
    at_us: i64,
    user: String,
    body: Body,
}

/// For metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of exchanges under way, and of what waits to be written.
    pub bytes: u64,
    pub written: u64,
    /// Those that found no room.
    pub dropped: u64,
    /// Those whose time was over.
    pub expired: u64,
}

impl Waiting {
    /// `most` bytes are held at a time.
    pub fn new(most: u64) -> Self {
        Self {
            queue: Mutex::default(),
            room: Arc::new(Room {
                most,
                bytes: AtomicU64::new(0),
                dropped: AtomicU64::new(0),
            }),
            written: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        }
    }

    /// Returns what takes the body of an exchange: `most` bytes of each side, for `keep`.
    pub fn body(&self, most: usize, keep: Duration) -> Body {
        Body {
            request: Part::default(),
            answer: Part::default(),
            most,
            keep,
            hold: Hold {
                room: self.room.clone(),
                bytes: 0,
            },
            dropped: false,
        }
    }

    /// Has a body written soon.
    pub fn put(&self, id: Id, at_us: i64, user: &str, body: Body) {
        self.queue.lock().push_back(Waits {
            id,
            at_us,
            user: user.to_owned(),
            body,
        });
    }

    pub fn is_empty(&self) -> bool {
        self.queue.lock().is_empty()
    }

    pub fn expired(&self, count: u64) {
        self.expired.fetch_add(count, Relaxed);
    }

    pub fn counts(&self) -> Counts {
        Counts {
            bytes: self.room.bytes.load(Relaxed),
            written: self.written.load(Relaxed),
            dropped: self.room.dropped.load(Relaxed),
            expired: self.expired.load(Relaxed),
        }
    }
}

/// What has been sealed and is not written yet.
#[derive(Default)]
pub struct Writer {
    sealed: Vec<Sealed>,
}

struct Sealed {
    id: String,
    at_us: i64,
    until_us: i64,
    mask: String,
    request: Vec<u8>,
    answer: Vec<u8>,
    totals: [i64; 2],
    _hold: Hold,
}

impl Writer {
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty()
    }

    /// Writes some of what waits; what fails is tried again the next time. No body is kept longer than `longest`, the
    /// retention of its row.
    pub async fn write(
        &mut self,
        waiting: &Waiting,
        (sealer, mask): (&Sealer, &Mask),
        longest: Option<Duration>,
        connection: &mut Connection,
    ) -> Result<(), sqlx::Error> {
        let mut size = 0;
        while self.sealed.is_empty() || size < TOGETHER {
            let Some(waits) = waiting.queue.lock().pop_front() else {
                break;
            };
            size += waits.body.size();
            self.sealed.push(waits.seal(sealer, mask, longest));
        }
        if self.sealed.is_empty() {
            return Ok(());
        }
        let tally = match within(PATIENCE, self.insert(connection)).await {
            Ok(()) => &waiting.written,
            // It would be refused for ever, and hold up all that waits behind it.
            Err(error) if is_poison(&error) => {
                tracing::error!(%error, "bodies can't be in the ledger");
                &waiting.room.dropped
            }
            Err(error) => return Err(error),
        };
        tally.fetch_add(self.sealed.len() as u64, Relaxed);
        self.sealed.clear();
        Ok(())
    }

    async fn insert(&self, connection: &mut Connection) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin().await?;
        Turn::Together.take(&mut transaction).await?;
        for sealed in &self.sealed {
            sqlx::query(
                "INSERT INTO bodies (id, until_us, user_mask, request, answer, request_bytes, answer_bytes) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
            )
            .bind(&sealed.id)
            .bind(sealed.until_us)
            .bind(&sealed.mask)
            .bind(&sealed.request)
            .bind(&sealed.answer)
            .bind(sealed.totals[0])
            .bind(sealed.totals[1])
            .execute(&mut *transaction)
            .await?;
        }
        let newest = erasure::newest(&mut transaction).await?;
        let mut late: Vec<&Sealed> = self.sealed.iter().collect();
        late.retain(|sealed| sealed.at_us < newest && !sealed.mask.is_empty());
        let masks = late.iter().map(|sealed| &*sealed.mask);
        let erased = erasure::erased(&mut transaction, masks).await?;
        late.retain(|sealed| {
            let before = erased.get(&sealed.mask);
            before.is_some_and(|before| sealed.at_us < *before)
        });
        let ids: Vec<&str> = late.iter().map(|sealed| &*sealed.id).collect();
        delete(&mut transaction, "bodies", &ids).await?;
        transaction.commit().await
    }
}

impl Waits {
    fn seal(self, sealer: &Sealer, mask: &Mask, longest: Option<Duration>) -> Sealed {
        let Body {
            request,
            answer,
            keep,
            hold,
            ..
        } = self.body;
        let keep = longest.map_or(keep, |longest| longest.min(keep));
        let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        let id = self.id.text();
        Sealed {
            at_us: self.at_us,
            until_us: self.at_us.saturating_add(keep),
            mask: mask.of(&self.user),
            request: sealer.seal(&id, "request", &request.bytes),
            answer: sealer.seal(&id, "answer", &answer.bytes),
            totals: [request, answer].map(|part| i64::try_from(part.total).unwrap_or(i64::MAX)),
            _hold: hold,
            id,
        }
    }
}

/// Deletes some of what is over: by its own time, or with its row. Returns how many; nothing is left at 0.
pub async fn expire(
    connection: &mut Connection,
    now_us: i64,
    rows_before_us: Option<i64>,
) -> Result<u64, sqlx::Error> {
    let mut sql =
        Sql::new("DELETE FROM bodies WHERE id IN (SELECT id FROM bodies WHERE until_us <= ");
    sql.number(now_us);
    sql.push(" OR id < ");
    sql.text(Id::first_at(rows_before_us.unwrap_or(0)).text());
    sql.push(" LIMIT ");
    sql.number(CHUNK);
    sql.push(")");
    sql.run(connection).await
}

/// Deletes some of what is kept of a user. Returns how many; nothing is left at 0.
pub async fn erase(connection: &mut Connection, mask: &str) -> Result<u64, sqlx::Error> {
    let mut sql =
        Sql::new("DELETE FROM bodies WHERE id IN (SELECT id FROM bodies WHERE user_mask = ");
    sql.text(mask);
    // The second condition names the index.
    sql.push(" AND user_mask <> '' LIMIT ");
    sql.number(CHUNK);
    sql.push(")");
    sql.run(connection).await
}

/// What is kept of an exchange, still sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    id: String,
    until_us: i64,
    request: (Vec<u8>, i64),
    answer: (Vec<u8>, i64),
}

/// Finds what is kept of an exchange.
pub async fn find(readers: &Pool, id: &str) -> Result<Option<Kept>, sqlx::Error> {
    let mut sql = Sql::new(
        "SELECT until_us, request, answer, request_bytes, answer_bytes FROM bodies WHERE id = ",
    );
    sql.text(id);
    let found = sql.fetch(readers).await?;
    let Some(found) = found.first() else {
        return Ok(None);
    };
    Ok(Some(Kept {
        id: id.to_owned(),
        until_us: found.try_get("until_us")?,
        request: (found.try_get("request")?, found.try_get("request_bytes")?),
        answer: (found.try_get("answer")?, found.try_get("answer_bytes")?),
    }))
}

impl Kept {
    /// Returns it as JSON, opened; `None` when it was sealed with another master key.
    pub fn json(&self, sealer: &Sealer) -> Option<Value> {
        let part = |name: &str, (sealed, total): &(Vec<u8>, i64)| {
            let opened = sealer.open(&self.id, name, sealed)?;
            let is_cut = (opened.len() as u64) < total.unsigned_abs();
            let mut part = json!({"bytes": total, "kept": opened.len(), "cut": is_cut});
            match String::from_utf8(opened) {
                Ok(text) => part["text"] = text.into(),
                // A text that was cut within a character is still one.
                Err(error) if is_cut && error.utf8_error().error_len().is_none() => {
                    let whole = error.utf8_error().valid_up_to();
                    let text = String::from_utf8_lossy(&error.as_bytes()[..whole]).into_owned();
                    part["kept"] = whole.into();
                    part["text"] = text.into();
                }
                Err(error) => {
                    let mut text = Vec::new();
                    base64::encode(error.as_bytes(), &mut text);
                    part["base64"] = String::from_utf8_lossy(&text).into();
                }
            }
            Some(part)
        };
        Some(json!({
            "object": "body",
            "id": self.id,
            "until": super::api::time(self.until_us),
            "request": part("request", &self.request)?,
            "answer": part("answer", &self.answer)?,
        }))
    }
}

/// Seals what was said.
pub struct Sealer {
    master: Secret,
}

impl Sealer {
    pub fn new(master: &Secret) -> Self {
        Self {
            master: master.clone(),
        }
    }

    /// Of its own for each exchange: so however many there are, no nonce is used twice with one key.
    fn key(&self, id: &str) -> LessSafeKey {
        let key = derive(&self.master, &format!("strait bodies {id}"));
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes are a key"))
    }

    fn seal(&self, id: &str, part: &str, bytes: &[u8]) -> Vec<u8> {
        let mut nonce = [0u8; NONCE_LEN];
        ring::rand::SystemRandom::new()
            .fill(&mut nonce)
            .expect("the system gives random numbers");
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
        let written = packed.write_all(bytes).and_then(|()| packed.finish());
        let mut sealed = written.expect("memory takes what is written to it");
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        self.key(id)
            .seal_in_place_append_tag(nonce_used, Aad::from(part.as_bytes()), &mut sealed)
            .expect("a part is far shorter than what can be sealed");
        sealed.splice(..0, [SEALED].into_iter().chain(nonce));
        sealed
    }

    fn open(&self, id: &str, part: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (first, rest) = sealed.split_first()?;
        if *first != SEALED {
            return None;
        }
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::assume_unique_for_key(nonce.try_into().ok()?);
        let mut bytes = rest.to_vec();
        let packed = self
            .key(id)
            .open_in_place(nonce, Aad::from(part.as_bytes()), &mut bytes)
            .ok()?;
        let mut opened = Vec::new();
        let read = DeflateDecoder::new(&*packed)
            .take(MOST_PART)
            .read_to_end(&mut opened);
        read.ok().map(|_| opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cut_at_its_bound_and_knows_how_long_it_was() {
        let waiting = Waiting::new(1000);
        let mut body = waiting.body(10, Duration::from_secs(1));
        assert!(!body.is_kept());
        for piece in ["abcd", "efgh", "ijkl", "mnop"] {
            body.asked(piece.as_bytes());
        }
        assert_eq!(body.request.bytes, b"abcdefghij");
        assert_eq!((body.request.total, body.size()), (16, 10));
        assert!(body.is_kept());
    }

    #[test]
    fn what_is_sealed_opens_for_its_exchange_side_and_key_alone() {
        let sealer = Sealer::new(&Secret::new("master"));
        let text = "what was said ".repeat(1000);
        let sealed = sealer.seal("id", "request", text.as_bytes());
        assert!(sealed.len() < text.len() / 10, "it is compressed");
        let opened = sealer.open("id", "request", &sealed);
        assert_eq!(opened.as_deref(), Some(text.as_bytes()));
        assert_eq!(sealer.open("id", "answer", &sealed), None);
        assert_eq!(sealer.open("other", "request", &sealed), None);
        let other = Sealer::new(&Secret::new("another"));
        assert_eq!(other.open("id", "request", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(sealer.open("id", "request", &changed), None, "byte {at}");
        }
        for length in [0, 1, 12, 20] {
            assert_eq!(sealer.open("id", "request", &sealed[..length]), None);
        }
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted_while_it_runs_and_while_it_waits() {
        let waiting = Waiting::new(100);
        let body = |size: usize| {
            let mut body = waiting.body(1000, Duration::from_secs(1));
            body.asked(&vec![b'x'; size]);
            body
        };
        let counts = || (waiting.counts().bytes, waiting.counts().dropped);
        waiting.put(Id(1), 0, "u", body(60));
        let mut runs = body(30);
        assert_eq!(counts(), (90, 0));
        runs.answered(&[b'x'; 20]);
        assert!(!runs.is_kept());
        assert_eq!(counts(), (60, 1), "what it held is given back");
        runs.answered(&[b'x'; 20]);
        assert_eq!(counts(), (60, 1), "it is dropped once");
        let other = body(40);
        assert_eq!(counts(), (100, 1));
        drop((other, runs));
        assert_eq!(counts(), (60, 1));
    }

    #[test]
    fn a_text_that_was_cut_within_a_character_is_told_as_text_and_what_is_none_in_base64() {
        let sealer = Sealer::new(&Secret::new("master"));
        let told = |bytes: &[u8], total: i64| {
            let kept = Kept {
                id: "id".into(),
                until_us: 0,
                request: (sealer.seal("id", "request", bytes), total),
                answer: (sealer.seal("id", "answer", b""), 0),
            };
            kept.json(&sealer).expect("it opens")["request"].clone()
        };
        assert_eq!(
            told(b"ab\xc3", 9),
            json!({"bytes": 9, "kept": 2, "cut": true, "text": "ab"})
        );
        assert_eq!(
            told(b"ab", 2),
            json!({"bytes": 2, "kept": 2, "cut": false, "text": "ab"})
        );
        assert_eq!(
            told(b"\xff\xfe", 2),
            json!({"bytes": 2, "kept": 2, "cut": false, "base64": "//4="})
        );
    }
}
