//! Who asks: client keys, hashed in memory.

mod presented;
mod table;

pub use presented::presented;
pub use table::{Key, Keys};

use crate::limit::Limits;
use crate::secret::Secret;

/// A `[[keys]]` table as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySettings {
    /// For records and metrics; unique.
    pub name: String,
    pub key: Secret,
    /// Globs over model names as the client writes them; empty allows every model.
    pub models: Vec<String>,
    pub limits: Limits,
}
