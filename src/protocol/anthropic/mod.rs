//! Anthropic Messages: <https://docs.anthropic.com/en/api/messages> and its streams.
//!
//! Read in one pass with [`text::Reader`](super::text::Reader), everything borrowed, and a path in every error,
//! spelt as Anthropic does (`messages.0.content.1.source.data`).

mod citation;
mod content;
pub mod request;
pub mod response;
pub mod stream;
