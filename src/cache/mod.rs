//! Asked before? The exact cache, shared by all worker threads, and single flight.

use std::time::Duration;

/// The `[cache]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub enabled: bool,
    /// Bytes.
    pub memory: u64,
    pub ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: false, memory: 256 << 20, ttl: Duration::from_secs(3600) }
    }
}
