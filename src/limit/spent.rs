//! What is spent of budgets, over restarts: one small file, replaced as a whole.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::budget::Spent;

/// The file's name in `state.dir`.
pub const FILE: &str = "budgets.json";

/// Reads what was spent before; nothing where there is no file. Errors: it can't be read, or is not what was written.
pub fn load(dir: &Path) -> io::Result<Vec<Spent>> {
    let text = match fs::read(dir.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&text).map_err(io::Error::other)
}

/// Writes beside the file and renames: whoever is killed leaves the old one or the new one, never half of one.
pub fn save(dir: &Path, spent: &[Spent]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let beside = dir.join("budgets.json.new");
    // For nobody else to read: end users are named in it.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&serde_json::to_vec(spent).map_err(io::Error::other)?)?;
    file.sync_data()?;
    fs::rename(&beside, dir.join(FILE))
}
