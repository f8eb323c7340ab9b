//! Streams: the chunks of `streamGenerateContent` into hub events and out of them.

mod array;
mod decode;
mod encode;

pub use array::ArrayWriter;
pub use decode::Decoder;
pub use encode::{Encoder, error_frame};
