//! What is spent of budgets, over restarts: one small file, replaced as a whole.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::budget::Spent;
use super::since::Times;

/// The file's name in `state.dir`.
pub const FILE: &str = "budgets.json";

/// What is kept.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Microseconds since 1970: whatever ended before it is in the sums. What ended later may be missing, and stands in the
    /// journal.
    pub as_of_us: i64,
    /// The same of processes that had ended, by their journals' folders: what they spent may not be charged yet.
    #[serde(default)]
    pub runs: BTreeMap<Box<str>, i64>,
    /// Since when budgets of the configuration file are there; `None`: nobody has looked.
    #[serde(default)]
    pub since: Option<Times>,
    pub spent: Vec<Spent>,
}

/// Reads what was spent before; nothing where there is no file. Errors: it can't be read, or is not what was written.
pub fn load(dir: &Path) -> io::Result<Kept> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Read {
        Now(Kept),
        /// As it was written before it told of when it is.
        Before(Vec<Spent>),
    }
    let text = match fs::read(dir.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(error) => return Err(error),
    };
    Ok(
        match serde_json::from_slice(&text).map_err(io::Error::other)? {
            Read::Now(kept) => kept,
            // Then with all that was spent, as a rule.
            Read::Before(spent) => Kept {
                as_of_us: Timestamp::now().as_microsecond(),
                spent,
                ..Kept::default()
            },
        },
    )
}

/// Puts a file that can't be read out of the way of the next one: somebody may want to look at it.
pub fn put_aside(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join(FILE), dir.join("budgets.json.unread"))
}

/// Writes beside the file and renames: whoever is killed leaves the old one or the new one, never half of one.
pub fn save(dir: &Path, kept: &Kept) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let beside = dir.join("budgets.json.new");
    // For nobody else to read: end users are named in it.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&serde_json::to_vec(kept).map_err(io::Error::other)?)?;
    file.sync_data()?;
    fs::rename(&beside, dir.join(FILE))
}
