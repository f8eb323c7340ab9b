//! What happened: one record for each exchange, metrics, the log.

pub mod metrics;
pub mod record;
pub mod writer;

/// The `[records]` table: where each exchange's JSON line goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sink {
    #[default]
    Stdout,
    File(std::path::PathBuf),
    Off,
}
