//! Streams: server-sent events into the hub and out of it.

mod decode;
mod encode;
mod wire;

pub use decode::Decoder;
pub use encode::{Encoder, error_frame};

#[cfg(test)]
mod tests;
