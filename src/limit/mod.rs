//! How much: requests and tokens per minute, and requests at a time, for each key.

/// Limits of one key; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests a minute.
    pub rpm: Option<u32>,
    /// Tokens a minute, input and output together.
    pub tpm: Option<u64>,
    /// Requests at a time.
    pub concurrent: Option<u32>,
}
