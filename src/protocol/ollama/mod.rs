//! Ollama: `POST /api/chat`, <https://github.com/ollama/ollama/blob/main/docs/api.md>.
//!
//! Its streams are lines of JSON, calls come whole, their arguments are objects and not text, and images are bare
//! base64.

pub mod request;
pub mod response;
pub mod stream;
mod words;
