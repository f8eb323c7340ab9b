//! Streams of this protocol.

mod decode;
mod encode;
mod queue;

pub use decode::Decoder;
pub use encode::{Encoder, error_frame};

pub use super::output::Adopted;
