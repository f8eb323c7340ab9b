//! Requests of this protocol.

mod decode;
mod encode;
mod turns;

pub use decode::decode;
pub use encode::encode;
