//! Requests of this protocol.

mod decode;
mod encode;
mod messages;
mod turns;

pub use decode::decode;
pub use encode::encode;
