//! What is no chat: embeddings, reranking, forms, usage; every pair of dialects, and real answers.

#[path = "apis/common.rs"]
mod common;
#[path = "apis/embeddings.rs"]
mod embeddings;
#[path = "apis/envelope.rs"]
mod envelope;
#[path = "apis/hostile.rs"]
mod hostile;
#[path = "apis/images.rs"]
mod images;
#[path = "apis/recorded.rs"]
mod recorded;
#[path = "apis/rerank.rs"]
mod rerank;
#[path = "apis/tokens.rs"]
mod tokens;
#[path = "apis/usage.rs"]
mod usage;
