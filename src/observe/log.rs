//! The log: what the program has to say about itself, as text on standard error.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts the log at `level`: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as
/// `info,strait::routing=debug`. Called again it only changes the level.
///
/// Never fails: a level that can't be read is reported, and `info` taken. Standard output stays free for records.
pub fn init(level: &str) {
    let parsed = parse(level);
    let mistake = parsed.as_ref().err().cloned();
    if LEVEL.get().is_none() {
        let (filter, handle) =
            reload::Layer::new(parsed.unwrap_or_else(|_| EnvFilter::new("info")));
        let text = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false);
        // Fails only where a test harness has its own log, which then stays.
        if tracing_subscriber::registry()
            .with(filter)
            .with(text)
            .try_init()
            .is_ok()
        {
            let _ = LEVEL.set(handle);
        }
    } else if mistake.is_none()
        && let Err(error) = set_level(level)
    {
        tracing::warn!("{error}");
    }
    if let Some(mistake) = mistake {
        tracing::warn!("{mistake}; `info` is used");
    }
}

/// Changes the level of the running log; a bad one changes nothing.
pub fn set_level(level: &str) -> Result<(), String> {
    let filter = parse(level)?;
    let handle = LEVEL.get().ok_or("the log has not been started")?;
    handle
        .reload(filter)
        .map_err(|error| format!("the log level could not be changed: {error}"))
}

fn parse(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|error| format!("`{level}` is not a log level: {error}"))
}
