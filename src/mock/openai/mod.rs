//! OpenAI's APIs.

pub(in crate::mock) mod ask;
pub(in crate::mock) mod chat;
pub(in crate::mock) mod completions;
pub(in crate::mock) mod responses;
pub(in crate::mock) mod strict_chat;
pub(in crate::mock) mod strict_responses;
