//! What is no chat: each API answers from its request in a simple way, written at its place.

pub(super) mod embeddings;
pub(super) mod files;
pub(super) mod media;
pub(super) mod scores;
pub(super) mod strict;

use serde_json::Value;

use super::answers::Rendered;
use super::dialect::Dialect;
use super::json::Object;
use super::request::Asked;
use super::route::{Api, Route};

/// Answers a call whose body is JSON.
pub(super) fn answer(route: &Route<'_>, asked: &Asked, body: &Value) -> Rendered {
    let object = match route.api {
        Api::CountTokens => count(route, asked, body),
        Api::Embeddings | Api::BatchEmbeddings => embeddings::answer(route, asked, body),
        Api::Rerank => scores::rerank(route.dialect, asked, body),
        Api::Moderations => scores::moderate(asked, body),
        Api::Images if route.dialect == Dialect::VertexPredict => media::predictions(body),
        Api::Images | Api::ImageEdits => media::images(body),
        Api::Speech => return media::speech(body),
        // Uploads are answered where they are read; the others have no JSON to answer.
        Api::Chat
        | Api::Responses
        | Api::Transcriptions
        | Api::Translations
        | Api::Files
        | Api::Batches
        | Api::Videos
        | Api::Realtime
        | Api::Models => Object::new(),
    };
    Rendered::Whole(object.end().into())
}

/// Counts as a chat does: four characters are a token.
fn count(route: &Route<'_>, asked: &Asked, body: &Value) -> Object {
    // Gemini's and Bedrock's counts may hold a whole request.
    let inner = body
        .get("generateContentRequest")
        .or_else(|| body["input"].get("converse"));
    let count = inner.map_or(asked.prompt_tokens, |inner| {
        Asked::read(route, inner).prompt_tokens
    });
    let object = Object::new();
    if route.dialect.is_anthropic() {
        return object.set("input_tokens", count);
    }
    if route.dialect.is_google() {
        let detail = Object::new()
            .set("modality", "TEXT")
            .set("tokenCount", count);
        return object
            .set("totalTokens", count)
            .set("promptTokensDetails", [detail]);
    }
    if route.dialect == Dialect::Bedrock {
        return object.set("inputTokens", count);
    }
    object
        .set("object", "response.input_tokens")
        .set("input_tokens", count)
}
