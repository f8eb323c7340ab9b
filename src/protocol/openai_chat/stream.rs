//! Streams: a provider's chunks into hub events, and hub events into chunks for a client.

pub use super::decoder::Decoder;
pub use super::encoder::{Encoder, error_frame};
