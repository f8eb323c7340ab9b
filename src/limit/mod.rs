//! How much: requests, tokens, images and seconds of audio per minute and day, and requests at a time, for each key and
//! for whoever it belongs to; of all models, or of some.
//!
//! Each limit per minute is a bucket that holds the whole limit, starts full and refills evenly: 600 requests a
//! minute are 600 in the first second, then 10 a second; a day's bucket refills over a day. So no window of `t` minutes lets more than
//! `limit × (1 + t)` pass. Requests that are refused cost nothing, whichever limit refused them.
//!
//! Limits of some models bind the model that is asked for and each that is asked in its place: whoever is full there is
//! passed over.
//!
//! Tokens, images and seconds are charged by estimate at admission and settled by usage at the end. The difference is owed, and a debt
//! delays the next request, for at most an hour; or it goes back and may be spent at once, so a window lets
//! pass what came back in it on top. A bucket never holds more than its limit: nothing goes back into one that
//! was full since the charge, because there the charge has refilled by itself.

mod balance;
mod bucket;
pub mod budget;
mod headers;
mod limiter;
mod limits;
pub mod named;
pub mod overload;
pub mod shared;
pub mod since;
pub mod spent;

pub use headers::{RateHeaders, Text};
pub use limiter::{Denied, Limiter, Permit};
pub use limits::{Amount, Holder, Limited, Limits, Which};
