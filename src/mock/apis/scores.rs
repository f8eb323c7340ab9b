//! Rerankings and moderations: the answers that are numbers about texts.

use serde_json::Value;

use super::super::dialect::Dialect;
use super::super::json::Object;
use super::super::request::{Asked, list};

/// Scores each document by the share of the query's words that it has, best first, in the order given where equal.
pub(in crate::mock) fn rerank(dialect: Dialect, asked: &Asked, body: &Value) -> Object {
    let query = body["query"].as_str().unwrap_or("").to_lowercase();
    let words: Vec<&str> = query.split_whitespace().collect();
    let documents = list(&body["documents"]);
    let mut scores: Vec<(usize, f64)> = documents
        .iter()
        .map(|document| {
            let text = text(document).to_lowercase();
            let found = words.iter().filter(|word| text.contains(**word)).count();
            found as f64 / words.len().max(1) as f64
        })
        .enumerate()
        .collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    let most = ["top_n", "top_k"]
        .iter()
        .find_map(|name| body[*name].as_u64());
    scores.truncate(most.map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX)
    }));
    let tells = body["return_documents"] == true;
    let results: Vec<Object> = scores
        .into_iter()
        .map(|(index, score)| {
            let document = tells.then(|| Object::new().set("text", text(&documents[index])));
            Object::new()
                .set("index", index)
                .set("relevance_score", score)
                .some("document", document)
        })
        .collect();
    let characters: usize = documents.iter().map(|it| text(it).chars().count()).sum();
    let tokens = (characters + query.chars().count()).div_ceil(4).max(1);
    if dialect == Dialect::Cohere {
        let billed = Object::new().set("search_units", 1u32);
        return Object::new()
            .set("results", results)
            .set("id", "00000000-0000-4000-8000-00000000mock")
            .set("meta", Object::new().set("billed_units", billed));
    }
    Object::new()
        .set("model", &asked.model)
        .set("object", "list")
        .set("results", results)
        .set("usage", Object::new().set("total_tokens", tokens))
}

fn text(document: &Value) -> &str {
    document
        .as_str()
        .or(document["text"].as_str())
        .unwrap_or("")
}

const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// Flags a category where the text names it.
pub(in crate::mock) fn moderate(asked: &Asked, body: &Value) -> Object {
    let input = &body["input"];
    let texts: Vec<String> = match input {
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(|item| text(item).to_lowercase()).collect()
        }
        // The parts of one content.
        Value::Array(parts) if !parts.is_empty() => {
            vec![parts.iter().map(|part| text(part).to_lowercase()).collect()]
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => vec![text(input).to_lowercase()],
    };
    let results: Vec<Object> = texts.iter().map(|text| judged(text)).collect();
    Object::new()
        .set("id", "modr-mock")
        .set("model", &asked.model)
        .set("results", results)
}

fn judged(text: &str) -> Object {
    let (mut flags, mut scores, mut kinds) = (Object::new(), Object::new(), Object::new());
    let mut is_flagged = false;
    for name in CATEGORIES {
        let is_named = text.contains(name);
        is_flagged |= is_named;
        flags = flags.set(name, is_named);
        scores = scores.set(name, if is_named { 0.9 } else { 0.01 });
        kinds = kinds.set(name, ["text"]);
    }
    Object::new()
        .set("flagged", is_flagged)
        .set("categories", flags)
        .set("category_scores", scores)
        .set("category_applied_input_types", kinds)
}
