//! Google Gemini: `POST /v1beta/models/{model}:generateContent`, <https://ai.google.dev/api/generate-content>.

pub mod request;
pub mod response;
pub mod stream;
