//! AWS Bedrock: `POST /model/{model}/converse`, <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>.
//!
//! The model and whether the answer is streamed stand in the path, so a body says neither. Models of
//! Anthropic can also be asked in their own words, see [`invoke`].

mod blob;
mod content;
pub mod invoke;
mod media;
pub mod request;
pub mod response;
pub mod stream;
