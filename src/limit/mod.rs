//! How much: requests and tokens per minute and day, and requests at a time, for each key and for whoever it belongs to.
//!
//! Each limit per minute is a bucket that holds the whole limit, starts full and refills evenly: 600 requests a
//! minute are 600 in the first second, then 10 a second; a day's bucket refills over a day. So no window of `t` minutes lets more than
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

/// Whose limits a request is held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// For whoever is refused.
    pub what: Holder,
    /// Unique among all: what is used is counted by it.
    pub name: std::sync::Arc<str>,
    pub limits: Limits,
}

/// What has limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Organisation,
    Team,
    Project,
    User,
    Key,
}

impl Holder {
    pub fn name(self) -> &'static str {
        match self {
            Holder::Organisation => "organisation",
            Holder::Team => "team",
            Holder::Project => "project",
            Holder::User => "user",
            Holder::Key => "key",
        }
    }
}

/// Limits of one key, or of what it belongs to; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests a minute.
    pub rpm: Option<u32>,
    /// Tokens a minute, input and output together.
    pub tpm: Option<u64>,
    /// Requests a day.
    pub rpd: Option<u64>,
    /// Tokens a day.
    pub tpd: Option<u64>,
    /// Requests at a time.
    pub concurrent: Option<u32>,
}

impl Limits {
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// Returns those that hold where both do.
    pub fn and(self, other: Self) -> Self {
        Self {
            rpm: least(self.rpm, other.rpm),
            tpm: least(self.tpm, other.tpm),
            rpd: least(self.rpd, other.rpd),
            tpd: least(self.tpd, other.tpd),
            concurrent: least(self.concurrent, other.concurrent),
        }
    }
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
