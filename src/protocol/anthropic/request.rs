//! Requests: `POST /v1/messages` into the hub and out of it.

mod decode;
mod encode;
mod media;
mod messages;
mod plan;
pub(in crate::protocol) mod schema;

pub use decode::decode;
pub use encode::encode;

#[cfg(test)]
mod tests;
