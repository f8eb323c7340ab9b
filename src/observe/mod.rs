//! What happened: one record for each exchange, metrics, the log.

mod arms;
pub mod histogram;
pub(crate) mod json;
pub mod log;
pub mod metrics;
mod process;
pub mod record;
mod rows;
pub mod writer;

pub use metrics::Metrics;
pub use record::{AttemptRecord, CacheOutcome, InterToken, Mode, Phase, Record};
pub use writer::Writer;

/// The `[records]` table: where each exchange's JSON line goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sink {
    #[default]
    Stdout,
    File(std::path::PathBuf),
    Off,
}
