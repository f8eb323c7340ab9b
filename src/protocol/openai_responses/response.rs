//! Whole answers of this protocol.

mod decode;
mod encode;

pub(super) use decode::Output;
pub use decode::{Restated, decode, restate};
pub use encode::{encode, error_body};
