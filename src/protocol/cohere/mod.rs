//! Cohere: `POST /v2/chat`, <https://docs.cohere.com/reference/chat>.
//!
//! What a model thinks before it calls tools is its `tool_plan`, which is reasoning here; documents stand beside the
//! messages, and are files of the last user's turn here.

pub mod request;
pub mod response;
pub mod stream;
mod words;
