//! Streams of this protocol: one object on each line.

mod decode;
mod encode;

pub use decode::Decoder;
pub use encode::{Encoder, error_frame};
