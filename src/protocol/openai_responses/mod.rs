//! OpenAI responses: `POST /v1/responses`, <https://platform.openai.com/docs/api-reference/responses>.

pub mod request;
pub mod response;
pub mod stream;
