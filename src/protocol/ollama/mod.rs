//! Ollama: `POST /api/chat`, <https://github.com/ollama/ollama/blob/main/docs/api.md>.

pub mod request;
pub mod response;
pub mod stream;
