//! AWS Bedrock: `POST /model/{model}/converse`, <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>.

pub mod request;
pub mod response;
pub mod stream;
