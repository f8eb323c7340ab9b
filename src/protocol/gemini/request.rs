//! Requests: `generateContent` bodies into the hub and out of it.

mod config;
mod decode;
mod encode;
mod restate;
mod thinking;
mod tools;
mod turns;

pub use decode::decode;
pub use encode::encode;
pub use restate::{Restated, restate};
