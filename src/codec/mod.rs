//! Bytes in, bytes out: JSON looked at and edited where it lies, streams cut into their events.

pub mod base64;
pub mod event_stream;
pub mod hex;
pub mod json;
pub mod lines;
pub mod multipart;
pub mod splice;
pub mod sse;
