//! The strict checks of the APIs that are no chat.

use serde_json::{Map, Value};

use super::super::dialect::Dialect;
use super::super::route::{Api, Route};
use super::super::strict::{At, Problems, is_count, is_list, is_text};
use super::super::{anthropic, cohere, google, ollama, openai};

/// Checks a body by its route.
pub(in crate::mock) fn check(
    route: &Route<'_>,
    body: &Map<String, Value>,
    problems: &mut Problems<'_>,
) {
    let top = At::top(body, true);
    match (route.api, route.dialect) {
        (Api::CountTokens, Dialect::Gemini) => google::strict::check_count(body, problems),
        (Api::CountTokens, Dialect::OpenaiResponses) => {
            openai::strict_responses::check(body, problems);
        }
        (Api::CountTokens, Dialect::Bedrock) => top.fields(&["input"], &["input"], problems),
        (Api::CountTokens, _) => anthropic::strict::check_count(body, problems),
        (Api::Embeddings, Dialect::Gemini) => google::strict::check_embedding(body, problems),
        (Api::BatchEmbeddings, _) => google::strict::check_embeddings(body, problems),
        (Api::Embeddings, Dialect::VertexPredict) => {
            top.fields(&["instances", "parameters"], &["instances"], problems);
            for instance in top.each("instances", problems) {
                let known = &["content", "task_type", "title"];
                instance.fields(known, &["content"], problems);
            }
            if let Some(parameters) = top.inner("parameters", problems) {
                parameters.fields(&["autoTruncate", "outputDimensionality"], &[], problems);
            }
        }
        (Api::Embeddings, Dialect::Cohere) => cohere::strict::check_embedding(body, problems),
        (Api::Embeddings, Dialect::Ollama) => ollama::strict::check_embedding(body, problems),
        (Api::Embeddings, Dialect::BedrockInvoke) => check_invoked(route, &top, problems),
        (Api::Embeddings, _) => {
            let known = &["dimensions", "encoding_format", "input", "model", "user"];
            top.fields(known, &["input", "model"], problems);
            top.typed(
                &["input"],
                |input| input.is_string() || input.is_array(),
                "a text or a list",
                problems,
            );
            top.typed(&["dimensions"], is_count, "a whole number from 1", problems);
            top.one_of("encoding_format", &["float", "base64"], problems);
        }
        (Api::Rerank, Dialect::Cohere) => cohere::strict::check_rerank(body, problems),
        (Api::Rerank, _) => {
            let known = &[
                "documents",
                "model",
                "query",
                "return_documents",
                "top_k",
                "top_n",
                "truncation",
            ];
            top.fields(known, &["documents", "model", "query"], problems);
            top.typed(&["documents"], is_list, "a list", problems);
        }
        (Api::Moderations, _) => top.fields(&["input", "model"], &["input"], problems),
        (Api::Images, Dialect::VertexPredict) => {
            top.fields(
                &["instances", "labels", "parameters"],
                &["instances"],
                problems,
            );
            top.typed(&["instances"], is_list, "a list", problems);
        }
        (Api::Images | Api::ImageEdits, _) => {
            top.fields(IMAGE_FIELDS, &["prompt"], problems);
            top.typed(&["prompt"], is_text, "a text", problems);
            top.range("n", 1.0, 10.0, problems);
        }
        (Api::Speech, _) => {
            let known = &[
                "input",
                "instructions",
                "model",
                "response_format",
                "speed",
                "stream_format",
                "voice",
            ];
            top.fields(known, &["input", "model", "voice"], problems);
            top.range("speed", 0.25, 4.0, problems);
        }
        (Api::Batches, _) => {
            let known = &[
                "completion_window",
                "endpoint",
                "input_file_id",
                "metadata",
                "output_expires_after",
            ];
            let needed = &["completion_window", "endpoint", "input_file_id"];
            top.fields(known, needed, problems);
        }
        (Api::Videos, _) => {
            let known = &["input_reference", "model", "prompt", "seconds", "size"];
            top.fields(known, &["prompt"], problems);
        }
        (
            Api::Chat
            | Api::Responses
            | Api::Transcriptions
            | Api::Translations
            | Api::Files
            | Api::Realtime
            | Api::Models,
            _,
        ) => {}
    }
}

const IMAGE_FIELDS: &[&str] = &[
    "background",
    "image",
    "input_fidelity",
    "mask",
    "model",
    "moderation",
    "n",
    "output_compression",
    "output_format",
    "partial_images",
    "prompt",
    "quality",
    "response_format",
    "size",
    "stream",
    "style",
    "user",
];

fn check_invoked(route: &Route<'_>, top: &At<'_>, problems: &mut Problems<'_>) {
    if route
        .model
        .as_deref()
        .is_some_and(|model| model.contains("cohere"))
    {
        let known = &[
            "embedding_types",
            "images",
            "input_type",
            "inputs",
            "max_tokens",
            "output_dimension",
            "texts",
            "truncate",
        ];
        top.fields(known, &["input_type"], problems);
    } else {
        let known = &["dimensions", "embeddingTypes", "inputText", "normalize"];
        top.fields(known, &["inputText"], problems);
    }
}
