//! How much: requests and tokens per minute, and requests at a time, for each key.
//!
//! Each per-minute limit is a bucket that holds the whole limit, starts full and refills evenly: 600 requests a
//! minute are 600 in the first second, then 10 a second. So no window of `t` minutes lets more than
//! `limit × (1 + t)` pass. Requests that are refused cost nothing, whichever limit refused them.
//!
//! Tokens are charged by estimate at admission and settled by usage at the end. The difference is owed, and a debt
//! delays the next request, for at most an hour; or it goes back and may be spent at once, so a window lets
//! pass what came back in it on top. A bucket never holds more than its limit: nothing goes back into one that
//! was full since the charge, because there the charge has refilled by itself.

mod bucket;
pub mod budget;
mod headers;
mod limiter;
pub mod overload;

pub use headers::{RateHeaders, Text};
pub use limiter::{Denied, Limiter, Permit, Which};

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

impl Limits {
    pub fn is_unlimited(&self) -> bool {
        self.rpm.is_none() && self.tpm.is_none() && self.concurrent.is_none()
    }
}
