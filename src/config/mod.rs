//! What was wished: one TOML file, read and checked as a whole into a [`Snapshot`], and swapped when it changes.
//!
//! Reading never stops at the first mistake: [`load`] returns all of them, each with its line, its key and,
//! where it can be guessed, what was meant. The steps, one file each: `known` (the table of keys), `read` (typed
//! values from the parsed document), `file`, `provider` and `platform` (the tables), `row` (a provider over its row of the catalogue), `link` (names across tables), `store`
//! (the snapshot in force), `watch` (the file on disk).

mod budget;
mod catalogue;
mod constraints;
mod continuation;
mod experiments;
mod file;
mod hedge;
mod jwt;
pub mod known;
mod ledger;
mod link;
mod mistake;
mod model;
mod model_strategy;
mod overload;
mod platform;
mod provider;
mod read;
mod redis;
mod responses;
mod row;
mod rules;
mod secrets;
mod shared;
mod smart;
mod snapshot;
mod store;
mod units;
pub mod watch;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

pub use mistake::Mistake;
pub use snapshot::Snapshot;
pub use store::Store;

use file::File;
use read::Reader;
use row::Row;

/// Looks up an environment variable: [`environment`], or a table of a test's own.
pub type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Which file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// This one (`--config`).
    File(PathBuf),
    /// `$STRAIT_CONFIG`, else `./strait.toml`, else `/etc/strait/strait.toml`, else none: the defaults.
    Search,
}

/// A configuration without mistakes.
#[derive(Debug)]
pub struct Loaded {
    pub snapshot: Snapshot,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<Mistake>,
}

/// Where a file is looked for when none is named.
const PLACES: [&str; 2] = ["./strait.toml", "/etc/strait/strait.toml"];

/// Larger than a hundred thousand client keys.
const LONGEST: u64 = 64 << 20;

/// The catalogue of providers, and what is wrong with it (which a test proves to be nothing).
///
/// Its rows are as users write them, and may have `env`, `aliases` and `local`.
static CATALOGUE: LazyLock<(Vec<Row>, Vec<Mistake>)> = LazyLock::new(|| {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/providers.toml"));
    let mut reader = Reader::new(Path::new("conf/providers.toml (built in)"), text, true);
    let rows = file::catalogue(&mut reader);
    (rows, reader.finish().0)
});

/// Returns a variable of the process's environment.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads and checks the configuration. On failure returns every mistake, in the order of the file.
pub fn load(source: &Source, env: Env<'_>) -> Result<Loaded, Vec<Mistake>> {
    let Some(path) = source.path(env) else {
        return read(Path::new("(defaults)"), "", env);
    };
    let text = read_text(&path).map_err(|mistake| vec![mistake])?;
    let mut loaded = read(&path, &text, env)?;
    loaded.snapshot.file = Some(path);
    Ok(loaded)
}

/// Checks a configuration that isn't in a file; `name` stands for one in mistakes.
pub fn read(name: &Path, text: &str, env: Env<'_>) -> Result<Loaded, Vec<Mistake>> {
    let mut reader = Reader::new(name, text, false);
    let file = File::read(&mut reader);
    let is_whole = reader.syntax.is_empty();
    let (mut mistakes, mut warnings) = reader.finish();
    let (catalogue, faults) = &*CATALOGUE;
    mistakes.extend(faults.iter().cloned());
    // What the parser couldn't read would be reported as missing.
    let snapshot = is_whole
        .then(|| link::snapshot(file, catalogue.clone(), env, &mut mistakes, &mut warnings));
    let order = |mistake: &Mistake| (mistake.line, mistake.column);
    warnings.sort_by_key(order);
    match snapshot {
        Some(snapshot) if mistakes.is_empty() => Ok(Loaded { snapshot, warnings }),
        _ => {
            mistakes.sort_by_key(order);
            Err(mistakes)
        }
    }
}

impl Source {
    /// Returns the file to read, if any.
    pub fn path(&self, env: Env<'_>) -> Option<PathBuf> {
        match self {
            Source::File(path) => Some(path.clone()),
            Source::Search => {
                let named = env("STRAIT_CONFIG")
                    .filter(|path| !path.is_empty())
                    .map(PathBuf::from);
                // One that can't be looked at is there, and reading it says what is wrong.
                let found = || {
                    PLACES
                        .into_iter()
                        .map(PathBuf::from)
                        .find(|path| path.try_exists().unwrap_or(true))
                };
                named.or_else(found)
            }
        }
    }
}

fn read_text(path: &Path) -> Result<String, Mistake> {
    let wrong = |line, column, message: String| Mistake {
        file: path.display().to_string(),
        line,
        column,
        key: String::new(),
        message,
        suggestion: None,
    };
    let mut bytes = Vec::new();
    let file =
        std::fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
    if let Err(error) = file {
        return Err(wrong(0, 0, format!("can't be read: {error}")));
    }
    if bytes.len() as u64 > LONGEST {
        return Err(wrong(0, 0, format!("is longer than {LONGEST} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = valid
            .iter()
            .rev()
            .take_while(|byte| **byte != b'\n')
            .count()
            + 1;
        wrong(line, column, "is not UTF-8 here".into())
    })
}
