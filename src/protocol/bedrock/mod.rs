//! AWS Bedrock: `POST /model/{model}/converse`, <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>.
//!
//! The model and whether the answer is streamed stand in the path, so a body says neither.

mod blob;
mod content;
mod media;
pub mod request;
pub mod response;
pub mod stream;
