//! OpenAI chat completions, <https://platform.openai.com/docs/api-reference/chat>, as OpenAI says it and as
//! the many servers do that are compatible with it.
//!
//! Strict with what clients ask (a wrong type is a 400 that names its field), lenient with what providers
//! answer (what can't be read there counts as absent).

pub mod request;
pub mod response;
pub mod stream;

mod answer;
mod block;
mod citation;
mod decode;
mod decoder;
mod detail;
mod encode;
mod encoder;
mod extra;
mod media;
mod message;
mod place;
mod turn;
