//! Embeddings: a vector of length 1 that depends on the text alone, so that equal texts are near each other and
//! others are not.

use std::borrow::Cow;

use serde_json::Value;

use super::super::dialect::Dialect;
use super::super::json::{Object, Raw, base64};
use super::super::request::{Asked, list, text_of};
use super::super::route::{Api, Route};

/// Numbers of a vector where none are asked for: enough to tell texts apart, few enough to read.
const DIMENSIONS: usize = 8;
const DIMENSIONS_MAX: u64 = 8192;

/// Answers in the words of the route's dialect.
pub(in crate::mock) fn answer(route: &Route<'_>, asked: &Asked, body: &Value) -> Object {
    match (route.dialect, route.api) {
        (Dialect::Gemini, Api::BatchEmbeddings) => {
            let requests = list(&body["requests"]).iter();
            let values: Vec<Object> = requests.map(gemini).collect();
            Object::new().set("embeddings", values)
        }
        (Dialect::Gemini, _) => Object::new().set("embedding", gemini(body)),
        (Dialect::VertexPredict, _) => vertex(body),
        (Dialect::BedrockInvoke, _) if asked.model.contains("cohere") => cohere(body, false),
        (Dialect::BedrockInvoke, _) => titan(body),
        (Dialect::Cohere, _) => cohere(body, true),
        (Dialect::Ollama, _) => ollama(asked, body),
        (_, _) => openai(asked, body),
    }
}

fn openai(asked: &Asked, body: &Value) -> Object {
    let dimensions = wanted(&body["dimensions"]);
    let is_base64 = body["encoding_format"] == "base64";
    let inputs = inputs(&body["input"]);
    let data: Vec<Object> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let values = vector(text, dimensions);
            let object = Object::new().set("object", "embedding").set("index", index);
            if is_base64 {
                let bytes: Vec<u8> = values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                object.set("embedding", base64(&bytes))
            } else {
                object.set("embedding", values)
            }
        })
        .collect();
    let tokens: u64 = inputs.iter().map(|text| tokens(text)).sum();
    let usage = Object::new()
        .set("prompt_tokens", tokens)
        .set("total_tokens", tokens);
    Object::new()
        .set("object", "list")
        .set("data", data)
        .set("model", &asked.model)
        .set("usage", usage)
}

fn gemini(request: &Value) -> Object {
    let text = text_of(&request["content"]["parts"]);
    let config = &request["embedContentConfig"]["outputDimensionality"];
    let asked = request.get("outputDimensionality").unwrap_or(config);
    Object::new().set("values", vector(&text, wanted(asked)))
}

fn vertex(body: &Value) -> Object {
    let dimensions = wanted(&body["parameters"]["outputDimensionality"]);
    let predictions: Vec<Object> = list(&body["instances"])
        .iter()
        .map(|instance| {
            let text = instance["content"].as_str().unwrap_or("");
            let statistics = Object::new()
                .set("truncated", false)
                .set("token_count", tokens(text));
            let embeddings = Object::new()
                .set("statistics", statistics)
                .set("values", vector(text, dimensions));
            Object::new().set("embeddings", embeddings)
        })
        .collect();
    Object::new().set("predictions", predictions)
}

fn titan(body: &Value) -> Object {
    let text = body["inputText"].as_str().unwrap_or("");
    let values = vector(text, wanted(&body["dimensions"]));
    Object::new()
        .set("embedding", values.as_slice())
        .set(
            "embeddingsByType",
            Object::new().set("float", values.as_slice()),
        )
        .set("inputTextTokenCount", tokens(text))
}

/// `embeddings` is a list where no types are asked for on Bedrock, by type otherwise.
fn cohere(body: &Value, by_type: bool) -> Object {
    let dimensions = wanted(&body["output_dimension"]);
    let mut texts = inputs(&body["texts"]);
    for input in list(&body["inputs"]) {
        texts.push(text_of(&input["content"]));
    }
    // An image is as good as a text that is its address.
    texts.extend(inputs(&body["images"]));
    let values: Vec<Vec<f32>> = texts.iter().map(|text| vector(text, dimensions)).collect();
    let types = list(&body["embedding_types"]);
    let object = Object::new()
        .set("id", "00000000-0000-4000-8000-00000000mock")
        .set("texts", texts.as_slice());
    let object = if types.is_empty() && !by_type {
        object
            .set("response_type", "embeddings_floats")
            .set("embeddings", values)
    } else {
        let mut told = Object::new();
        if types.is_empty() {
            told = told.set("float", values.as_slice());
        }
        for kind in types.iter().filter_map(Value::as_str) {
            told = written(told, kind, &values);
        }
        object
            .set("response_type", "embeddings_by_type")
            .set("embeddings", told)
    };
    if !by_type {
        return object;
    }
    let tokens: u64 = texts.iter().map(|text| tokens(text)).sum();
    let billed = Object::new().set("input_tokens", tokens);
    object.set(
        "meta",
        Object::new()
            .set("api_version", Object::new().set("version", "2"))
            .set("billed_units", billed),
    )
}

fn written(told: Object, kind: &str, values: &[Vec<f32>]) -> Object {
    let each = |write: fn(f32) -> i64| -> Vec<Vec<i64>> {
        let row = |row: &Vec<f32>| row.iter().map(|value| write(*value)).collect();
        values.iter().map(row).collect()
    };
    match kind {
        "int8" => told.set(kind, each(|value| (value * 127.0) as i64)),
        "uint8" => told.set(kind, each(|value| (value * 127.0) as i64 + 128)),
        "binary" => told.set(kind, each(|value| i64::from(value > 0.0))),
        "ubinary" => told.set(kind, each(|value| i64::from(value > 0.0))),
        "base64" => {
            let row = |row: &Vec<f32>| {
                let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
                base64(&bytes)
            };
            told.set(kind, values.iter().map(row).collect::<Vec<String>>())
        }
        "float" => told.set(kind, values),
        _ => told.set(kind, Raw("[]")),
    }
}

fn ollama(asked: &Asked, body: &Value) -> Object {
    let inputs = inputs(&body["input"]);
    let dimensions = wanted(&body["dimensions"]);
    let values: Vec<Vec<f32>> = inputs.iter().map(|text| vector(text, dimensions)).collect();
    let tokens: u64 = inputs.iter().map(|text| tokens(text)).sum();
    Object::new()
        .set("model", &asked.model)
        .set("embeddings", values)
        .set("total_duration", 1_000_000u64)
        .set("load_duration", 500_000u64)
        .set("prompt_eval_count", tokens)
}

/// Returns the texts of an input: one, several, or tokens, which are as good as a text of their numbers.
fn inputs(input: &Value) -> Vec<Cow<'_, str>> {
    if let Some(text) = input.as_str() {
        return vec![Cow::Borrowed(text)];
    }
    let items = list(input);
    if items.first().is_some_and(Value::is_number) {
        return vec![Cow::Owned(input.to_string())];
    }
    items
        .iter()
        .map(|item| match item.as_str() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(item.to_string()),
        })
        .collect()
}

fn wanted(dimensions: &Value) -> usize {
    dimensions.as_u64().map_or(DIMENSIONS, |number| {
        number.clamp(1, DIMENSIONS_MAX) as usize
    })
}

fn tokens(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(4).max(1)
}

/// Returns a vector of length 1, drawn from the text's FNV-1a hash.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut state = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut values: Vec<f32> = (0..dimensions)
        .map(|_| {
            // xorshift64; the hash is never 0 in practice, and `| 1` makes sure.
            state |= 1;
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect();
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        values.iter_mut().for_each(|value| *value /= length);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_and_follow_their_text() {
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let (one, same, other) = (vector("one", 256), vector("one", 256), vector("two", 256));
        assert!((near(&one, &same) - 1.0).abs() < 1e-4);
        assert!(near(&one, &other).abs() < 0.5, "other texts lie elsewhere");
        assert_eq!(vector("", 3).len(), 3);
    }
}
