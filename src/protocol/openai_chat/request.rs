//! Requests: a client's body into the hub, and the hub into a body for a compatible provider.

pub use super::decode::decode;
pub use super::encode::encode;
