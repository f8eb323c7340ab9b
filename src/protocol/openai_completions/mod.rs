//! Legacy OpenAI completions: `POST /v1/completions`, <https://platform.openai.com/docs/api-reference/completions>.
//!
//! A prompt is one user message of the hub, and an answer is its text. What a chat can't say (several prompts,
//! tokens, a suffix, an echo) is refused; what a prompt can't say (roles, tools, forms) is refused the other way.

pub mod request;
pub mod response;
pub mod stream;
