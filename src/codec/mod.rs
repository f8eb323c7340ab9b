//! Bytes in, bytes out: JSON looked at and edited where it lies, server-sent events cut into frames.

pub mod json;
pub mod splice;
pub mod sse;
