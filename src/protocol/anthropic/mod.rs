//! Anthropic Messages: <https://docs.anthropic.com/en/api/messages> and its streams.
//!
//! [`read`] and [`write`] are JSON by hand: one pass over the body, everything borrowed, and a path in every
//! error, in the words that Anthropic itself uses (`messages.0.content.1.source.data: Field required`).

mod citation;
mod content;
pub mod request;
pub mod response;
pub mod stream;

mod read;
mod write;
