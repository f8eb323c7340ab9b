//! The audit log: every administrative action, in a chain. Each row holds the hash of itself and of all before it, so
//! one that was changed, removed or moved is found. What the last row was is kept in a file beside the database: rows
//! that are cut off at the end are found by it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};

use super::entry::Id;
use super::tables::Sql;
use crate::state::database::{Connection, Database, Location, Pool, Row as Found};

/// The file's name in `state.dir`.
pub const HEAD: &str = "audit-head.json";
/// Rows that are verified at a time.
const PIECE: i64 = 1000;

/// An action that is not in the chain yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub id: String,
    pub time_us: i64,
    pub actor: String,
    pub action: String,
    pub object: String,
    /// JSON.
    pub detail: String,
}

/// A row of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub seq: i64,
    pub action: Action,
    pub hash: String,
}

/// The end of the chain, as it was when it was last written here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub count: i64,
    pub hash: String,
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// Rows from the first to the second number are not there.
    Missing(i64, i64),
    /// The row was changed or moved, or one before it was.
    Changed(i64),
    /// It ends before the row that was the last one.
    Cut { last: i64, known: i64 },
    /// Every row fits the one before it, but this one is not the one that was written.
    Rewritten(i64),
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Flaw::Missing(from, to) if from == to => write!(f, "row {from} was removed"),
            Flaw::Missing(from, to) => write!(f, "rows {from} to {to} were removed"),
            Flaw::Changed(seq) => write!(f, "row {seq} was changed or moved"),
            Flaw::Cut { last, known } => {
                write!(f, "the log ends at row {last}; row {known} was written")
            }
            Flaw::Rewritten(seq) => write!(f, "row {seq} is not the one that was written"),
        }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    time_us: i64,
    actor: String,
    action: String,
    object: String,
    #[serde(borrow)]
    detail: &'a RawValue,
}

/// Writes an action as an entry of the journal.
pub(super) fn entry(
    out: &mut Vec<u8>,
    at: Timestamp,
    actor: &str,
    action: &str,
    object: &str,
    detail: &Value,
) {
    let line = json!({
        "time_us": at.as_microsecond(), "actor": actor, "action": action, "object": object, "detail": detail,
    });
    out.extend_from_slice(line.to_string().as_bytes());
}

impl Action {
    pub(super) fn read(id: Id, text: &[u8]) -> Result<Self, serde_json::Error> {
        let line: Line<'_> = serde_json::from_slice(text)?;
        let clean = |text: String| text.replace('\0', "\u{fffd}");
        Ok(Self {
            id: id.text(),
            time_us: line.time_us,
            actor: clean(line.actor),
            action: clean(line.action),
            object: clean(line.object),
            detail: line.detail.get().to_owned(),
        })
    }

    /// Returns the hash of this action as row `seq` behind a row of hash `before`.
    fn hash(&self, seq: i64, before: &str) -> String {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        let (seq, time) = (seq.to_string(), self.time_us.to_string());
        for field in [
            before,
            &seq,
            &self.id,
            &time,
            &self.actor,
            &self.action,
            &self.object,
            &self.detail,
        ] {
            // With its length before it, no field can pass for a part of another.
            hash.update(&(field.len() as u64).to_le_bytes());
            hash.update(field.as_bytes());
        }
        let digest = hash.finish();
        digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl Link {
    pub fn json(&self) -> Value {
        let action = &self.action;
        json!({
            "seq": self.seq,
            "id": action.id,
            "time": super::api::time(action.time_us),
            "actor": action.actor,
            "action": action.action,
            "object": action.object,
            "detail": serde_json::from_str::<Value>(&action.detail).unwrap_or(Value::Null),
            "hash": self.hash,
        })
    }

    fn read(found: &Found) -> Result<Self, sqlx::Error> {
        let text = |name: &str| found.try_get::<String, _>(name);
        Ok(Self {
            seq: found.try_get("seq")?,
            action: Action {
                id: text("id")?,
                time_us: found.try_get("time_us")?,
                actor: text("actor")?,
                action: text("action")?,
                object: text("object")?,
                detail: text("detail")?,
            },
            hash: text("hash")?,
        })
    }
}

/// Appends actions to the chain, those left out that are in it. Returns its end; `None` when none was new.
///
/// Two nodes may want the same place: the database refuses one of them, and it tries again.
pub(super) async fn append(
    connection: &mut Connection,
    actions: &[&Action],
) -> Result<Option<Head>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // Changes nothing, and is there first: SQLite turns away whoever has read and then wants to write.
    sqlx::query("UPDATE audit SET seq = 0 WHERE seq = -1")
        .execute(&mut *transaction)
        .await?;
    let last = sqlx::query("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        .fetch_optional(&mut *transaction)
        .await?;
    let mut head = match last {
        Some(last) => Head {
            count: last.try_get("seq")?,
            hash: last.try_get("hash")?,
        },
        None => Head::default(),
    };
    let before = head.count;
    for action in actions {
        let known = sqlx::query("SELECT seq FROM audit WHERE id = $1")
            .bind(&action.id)
            .fetch_optional(&mut *transaction)
            .await?;
        if known.is_some() {
            continue;
        }
        let seq = head.count + 1;
        let hash = action.hash(seq, &head.hash);
        sqlx::query(
            "INSERT INTO audit (seq, id, time_us, actor, action, object, detail, hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(seq)
        .bind(&action.id)
        .bind(action.time_us)
        .bind(&action.actor)
        .bind(&action.action)
        .bind(&action.object)
        .bind(&action.detail)
        .bind(&hash)
        .execute(&mut *transaction)
        .await?;
        head = Head { count: seq, hash };
    }
    transaction.commit().await?;
    Ok((head.count > before).then_some(head))
}

/// Which rows are wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    /// Rows before this one; `None`: from the last.
    pub before: Option<i64>,
    pub actor: Option<String>,
    pub action: Option<String>,
    /// Only what was done to one of these or to what belongs to them: paths as in [`super::api::Asked`].
    pub within: Option<Vec<String>>,
    pub limit: i64,
}

/// Returns rows, the last first.
pub(super) async fn list(readers: &Pool, query: &Query) -> Result<Vec<Link>, sqlx::Error> {
    let mut sql = Sql::new(
        "SELECT seq, id, time_us, actor, action, object, detail, hash FROM audit WHERE seq < ",
    );
    sql.number(query.before.unwrap_or(i64::MAX));
    for (column, value) in [("actor", &query.actor), ("action", &query.action)] {
        if let Some(value) = value {
            sql.push(&format!(" AND {column} = "));
            sql.text(value.as_str());
        }
    }
    if let Some(within) = &query.within {
        // Nothing is within nothing.
        sql.push(" AND (1 = 0");
        for path in within.iter().filter(|path| !path.is_empty()) {
            // As it stands in the detail: in its quotes it can't be a part of what somebody sent.
            for ends in ["\"", "/"] {
                sql.push(" OR REPLACE(detail, ");
                sql.text(format!("\"path\":\"{path}{ends}"));
                sql.push(", '') <> detail");
            }
        }
        sql.push(")");
    }
    sql.push(" ORDER BY seq DESC LIMIT ");
    sql.number(query.limit);
    sql.fetch(readers).await?.iter().map(Link::read).collect()
}

/// Checks a chain as it is read: [`Check::link`] for each row in the order of the numbers, then [`Check::end`].
#[derive(Debug, Default)]
pub struct Check {
    last: Head,
    known: Option<Head>,
}

impl Check {
    /// `known` is what was the end of the chain, as far as somebody remembers.
    pub fn new(known: Option<Head>) -> Self {
        Self {
            last: Head::default(),
            known,
        }
    }

    pub fn link(&mut self, link: &Link) -> Result<(), Flaw> {
        let due = self.last.count + 1;
        if link.seq > due {
            return Err(Flaw::Missing(due, link.seq - 1));
        }
        if link.seq != due || link.action.hash(due, &self.last.hash) != link.hash {
            return Err(Flaw::Changed(link.seq));
        }
        let known = self.known.as_ref().filter(|known| known.count == due);
        if known.is_some_and(|known| known.hash != link.hash) {
            return Err(Flaw::Rewritten(due));
        }
        self.last = Head {
            count: due,
            hash: link.hash.clone(),
        };
        Ok(())
    }

    /// Returns the end of the chain.
    pub fn end(self) -> Result<Head, Flaw> {
        match self.known {
            Some(known) if known.count > self.last.count => Err(Flaw::Cut {
                last: self.last.count,
                known: known.count,
            }),
            Some(_) | None => Ok(self.last),
        }
    }
}

/// Verifies the whole chain in a database against the file in `state_dir`. The outer error: it can't be read.
pub async fn verify(
    location: &Location,
    state_dir: &Path,
) -> Result<Result<Head, Flaw>, Box<dyn std::error::Error + Send + Sync>> {
    let mut check = Check::new(read_head(state_dir)?);
    let readers = super::place(location).readers(1)?;
    let mut after = i64::MIN;
    loop {
        let mut sql = Sql::new(
            "SELECT seq, id, time_us, actor, action, object, detail, hash FROM audit WHERE seq > ",
        );
        sql.number(after);
        sql.push(" ORDER BY seq LIMIT ");
        sql.number(PIECE);
        let links = sql.fetch(&readers).await?;
        let Some(_) = links.first() else { break };
        for link in &links {
            let link = Link::read(link)?;
            after = link.seq;
            if let Err(flaw) = check.link(&link) {
                return Ok(Err(flaw));
            }
        }
    }
    readers.close().await;
    Ok(check.end())
}

/// Reads what was the end of the chain; `None` where nothing is known.
pub fn read_head(state_dir: &Path) -> std::io::Result<Option<Head>> {
    match std::fs::read(state_dir.join(HEAD)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keeps what is the end of the chain, unless a later one is kept: another process may be ahead.
pub(super) fn keep_head(state_dir: &Path, head: &Head) -> std::io::Result<()> {
    if read_head(state_dir)?.is_some_and(|known| known.count > head.count) {
        return Ok(());
    }
    let beside = state_dir.join(format!("{HEAD}.{}", std::process::id()));
    // What a process of that number left would keep its mode.
    let _ = std::fs::remove_file(&beside);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&serde_json::to_vec(head)?)?;
    file.sync_data()?;
    std::fs::rename(&beside, state_dir.join(HEAD))
}

/// Writes actions, and keeps the end of the chain.
pub(super) async fn put(
    database: &mut Database,
    state_dir: &Path,
    actions: &[&Action],
) -> Result<u64, sqlx::Error> {
    let Some(head) = append(&mut database.writer, actions).await? else {
        return Ok(0);
    };
    if let Err(error) = keep_head(state_dir, &head) {
        tracing::error!(%error, file = HEAD, "what is the end of the audit log is not kept");
    }
    Ok(actions.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn chain(length: i64) -> Vec<Link> {
        let mut before = String::new();
        let link = |seq: i64| {
            let action = Action {
                id: Id(seq as u128).text(),
                time_us: 1000 + seq,
                actor: "admin".into(),
                action: "keys.create".into(),
                object: format!("key {seq}"),
                detail: "{}".into(),
            };
            let hash = action.hash(seq, &before);
            before.clone_from(&hash);
            Link { seq, action, hash }
        };
        (1..=length).map(link).collect()
    }

    fn check(links: &[Link], known: Option<Head>) -> Result<Head, Flaw> {
        let mut check = Check::new(known);
        links.iter().try_for_each(|link| check.link(link))?;
        check.end()
    }

    fn head(links: &[Link]) -> Head {
        let last = links.last().expect("there is one");
        Head {
            count: last.seq,
            hash: last.hash.clone(),
        }
    }

    #[test]
    fn a_chain_that_was_left_alone_is_sound_also_when_it_has_grown() {
        let links = chain(5);
        assert_eq!(check(&links, Some(head(&links))), Ok(head(&links)));
        assert_eq!(check(&links, Some(head(&links[..3]))), Ok(head(&links)));
        assert_eq!(check(&links, None), Ok(head(&links)));
        assert_eq!(check(&[], None), Ok(Head::default()));
    }

    #[test]
    fn a_changed_field_is_found_in_every_row() {
        for at in 0..5 {
            let changes: [fn(&mut Link); 7] = [
                |link| link.action.actor.push('x'),
                |link| link.action.action.push('x'),
                |link| link.action.object.push('x'),
                |link| link.action.detail = "{\"a\":1}".into(),
                |link| link.action.time_us += 1,
                |link| link.action.id.push('0'),
                |link| link.hash = "00".repeat(32),
            ];
            for change in changes {
                let mut links = chain(5);
                change(&mut links[at]);
                assert_eq!(check(&links, None), Err(Flaw::Changed(at as i64 + 1)));
            }
        }
    }

    #[test]
    fn text_that_moves_from_one_field_to_the_next_is_found() {
        let mut links = chain(2);
        links[1].action.actor = "adminkeys".into();
        links[1].action.action = ".create".into();
        assert_eq!(check(&links, None), Err(Flaw::Changed(2)));
    }

    #[test]
    fn removed_and_moved_rows_are_found_wherever_they_were() {
        for at in 0..5usize {
            let mut links = chain(5);
            let known = head(&links);
            links.remove(at);
            let seq = at as i64 + 1;
            let flaw = match at {
                4 => Flaw::Cut { last: 4, known: 5 },
                _ => Flaw::Missing(seq, seq),
            };
            assert_eq!(check(&links, Some(known)), Err(flaw), "without row {seq}");
            // Closing the gap does not hide it.
            for (at, link) in links.iter_mut().enumerate() {
                link.seq = at as i64 + 1;
            }
            assert!(check(&links, Some(head(&chain(5)))).is_err());
        }
        let mut links = chain(5);
        links.swap(1, 3);
        links[1].seq = 2;
        links[3].seq = 4;
        assert_eq!(check(&links, None), Err(Flaw::Changed(2)));
    }

    #[test]
    fn a_chain_that_was_written_anew_is_found_by_its_end() {
        let mut links = chain(3);
        let known = head(&links);
        let mut before = String::new();
        for link in &mut links {
            link.action.actor = "mallory".into();
            link.hash = link.action.hash(link.seq, &before);
            before.clone_from(&link.hash);
        }
        assert!(check(&links, None).is_ok(), "nothing else tells");
        assert_eq!(check(&links, Some(known)), Err(Flaw::Rewritten(3)));
    }

    #[test]
    fn an_older_end_never_replaces_a_newer_one_and_it_is_nobody_elses_to_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let links = chain(5);
        assert_eq!(read_head(dir.path()).expect("readable"), None);
        for (kept, expected) in [(3, 3), (5, 5), (4, 5)] {
            keep_head(dir.path(), &head(&links[..kept])).expect("writable");
            let known = read_head(dir.path()).expect("readable");
            assert_eq!(known, Some(head(&links[..expected])));
            let mode = dir.path().join(HEAD).metadata().expect("it is there");
            assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        }
    }
}
