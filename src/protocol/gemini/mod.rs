//! Google Gemini: `POST /v1beta/models/{model}:generateContent`, <https://ai.google.dev/api/generate-content>, and
//! the same at Vertex AI.
//!
//! Google's servers take every field in camelCase and in snake_case, and a lone object where a list belongs; so do
//! the decoders here.

pub mod request;
pub mod response;
pub mod stream;

mod content;
mod grounding;
mod logprobs;
mod schema;
mod signature;
mod words;

pub(in crate::protocol) use content::image;
pub(in crate::protocol) use words::finish;
