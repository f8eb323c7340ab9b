//! OpenAI responses: `POST /v1/responses`, <https://platform.openai.com/docs/api-reference/responses>.
//!
//! A conversation is a flat list of items here, and an answer another: messages, calls, reasoning, and what the
//! provider's own tools did. Items of one side in a row are one turn of the hub.
//!
//! Strict with what clients ask, lenient with what providers answer, as in [`super::openai_chat`].

pub mod request;
pub mod response;
pub mod stream;

mod blob;
mod citation;
mod item;
mod logprobs;
mod media;
mod names;
mod output;
mod told;
