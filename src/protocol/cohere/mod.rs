//! Cohere: `POST /v2/chat`, <https://docs.cohere.com/reference/chat>.

pub mod request;
pub mod response;
pub mod stream;
