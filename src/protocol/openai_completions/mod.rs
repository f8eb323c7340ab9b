//! Legacy OpenAI completions: `POST /v1/completions`, <https://platform.openai.com/docs/api-reference/completions>.

pub mod request;
pub mod response;
pub mod stream;
