//! Requests: Converse bodies into the hub and out of it.

mod attach;
mod decode;
mod encode;
mod messages;
mod plan;
mod style;

pub use decode::{decode, unfold};
pub use encode::encode;
pub(super) use messages::input;
