//! Streams of this protocol: server-sent events, each named in its data too.

mod decode;
mod encode;

pub use decode::Decoder;
pub use encode::{Encoder, error_frame};
