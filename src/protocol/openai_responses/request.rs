//! Requests of this protocol.

mod decode;
mod echo;
mod encode;
mod items;
mod restate;
mod tools;
mod turns;

pub use decode::decode;
pub use echo::echo;
pub(super) use echo::{apart, defaults};
pub use encode::encode;
pub use restate::{Restated, restate};
