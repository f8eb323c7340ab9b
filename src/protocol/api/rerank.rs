//! Reranking: a query and documents in, their order out.
//!
//! Cohere (v1 and v2), Jina, Voyage, Together and Bedrock's models say nearly the same. Clients' dialects are told
//! apart by their fields: `top_k` and `truncation` are Voyage's, whose answers have `data`; the others' answers have
//! `results`, and one answer has what all of them look for.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::embeddings::Maker;
use super::{Named, OURS, count};
use crate::error::{Error, Kind, Result};
use crate::protocol::chat::Str;
use crate::protocol::text::{self, Object, Reader};
use crate::protocol::{Protocol, Shape, Translated};

/// More than any provider takes in one call (Cohere: 10,000).
const DOCUMENTS_MOST: usize = 10_000;
/// A search unit is one query with up to so many documents.
const UNIT: u64 = 100;

#[derive(Debug)]
pub struct Request<'b> {
    query: Str<'b>,
    documents: Vec<Document<'b>>,
    top: Option<Named<u32>>,
    /// The client wants the documents back.
    documents_back: bool,
    max_tokens: Option<Named<u32>>,
    truncate: Option<Named<bool>>,
    dialect: Dialect,
    dropped: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Cohere,
    Voyage,
}

#[derive(Debug)]
enum Document<'b> {
    Text(Str<'b>),
    /// An object, and the `text` in it.
    Object(&'b RawValue, Option<Str<'b>>),
}

impl Document<'_> {
    fn text(&self) -> Option<&str> {
        match self {
            Document::Text(text) => Some(text),
            Document::Object(_, text) => text.as_deref(),
        }
    }
}

/// Reads a client's request, of any dialect.
pub fn read(body: &[u8]) -> Result<Request<'_>> {
    let mut reader = Reader::new(body)?;
    let (mut query, mut documents) = (None, None);
    let mut request = Request {
        query: Cow::Borrowed(""),
        documents: Vec::new(),
        top: None,
        documents_back: false,
        max_tokens: None,
        truncate: None,
        dialect: Dialect::Cohere,
        dropped: Vec::new(),
    };
    reader.object(|r, key| {
        match &*key {
            "query" => query = Some(r.string()?),
            "documents" => documents = Some(r.list(document)?),
            "top_n" => request.top = Named::maybe(r, &key, Reader::integer)?,
            "top_k" => {
                request.dialect = Dialect::Voyage;
                request.top = Named::maybe(r, &key, Reader::integer)?;
            }
            "return_documents" => {
                request.documents_back = r.maybe(Reader::boolean)?.unwrap_or(false);
            }
            "max_tokens_per_doc" => request.max_tokens = Named::maybe(r, &key, Reader::integer)?,
            "truncation" => {
                request.dialect = Dialect::Voyage;
                request.truncate = Named::maybe(r, &key, Reader::boolean)?;
            }
            "rank_fields" => {
                if r.maybe_raw()?.is_some() {
                    return Err(Error::unsupported(
                        "rank_fields",
                        "rank_fields can't be said to this provider",
                    ));
                }
            }
            key if OURS.contains(&key) => drop(r.raw()?),
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    request.query = query.ok_or_else(|| reader.missing("query"))?;
    request.documents = documents.ok_or_else(|| reader.missing("documents"))?;
    reader.finish()?;
    for (name, _) in reader.strangers() {
        request.dropped.push(name.into_owned());
    }
    if request.documents.is_empty() {
        return Err(Error::field("documents", "documents is empty"));
    }
    if request.documents.len() > DOCUMENTS_MOST {
        let message = format!("documents has more than {DOCUMENTS_MOST} elements");
        return Err(Error::field("documents", message));
    }
    Ok(request)
}

fn document<'b>(r: &mut Reader<'b>) -> Result<Document<'b>> {
    if r.peek() == b'"' {
        return Ok(Document::Text(r.string()?));
    }
    let mark = r.mark();
    let raw = r.raw_object()?;
    let end = r.mark();
    r.back(mark);
    let mut text = None;
    r.object(|r, key| {
        if key == "text" && r.peek() == b'"' {
            text = Some(r.string()?);
            return Ok(());
        }
        r.raw().map(drop)
    })?;
    r.back(end);
    Ok(Document::Object(raw, text))
}

impl Request<'_> {
    /// Returns whether Cohere's `/v2/rerank` takes it as it is.
    pub fn is_cohere_v2(&self) -> bool {
        self.dialect == Dialect::Cohere
            && !self.documents_back
            && self
                .documents
                .iter()
                .all(|document| matches!(document, Document::Text(_)))
    }
}

/// Writes a request for a provider. `model` is its own id.
pub fn write(to: Protocol, request: &Request<'_>, model: &str) -> Result<Translated> {
    let mut dropped = request.dropped.clone();
    let mut out = Vec::with_capacity(256);
    let maker = Maker::of(model);
    let mut object = Object::open(&mut out);
    // InvokeModel has the model in its path.
    if to != Protocol::Bedrock {
        object.string("model", model);
    }
    object.string("query", &request.query);
    let openai = match to {
        Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::OpenaiCompletions => true,
        Protocol::Cohere | Protocol::Bedrock => false,
        Protocol::Anthropic | Protocol::Gemini | Protocol::Ollama => {
            let message = format!("{} does not rerank", to.name());
            return Err(Error::new(Kind::Unsupported, message));
        }
    };
    let list = object.key("documents");
    list.push(b'[');
    let start = list.len();
    for (index, document) in request.documents.iter().enumerate() {
        text::comma(start, list);
        match document {
            // Jina and Together take objects too, Jina with images in them.
            Document::Object(raw, _) if openai && maker != Maker::Voyage => {
                list.extend_from_slice(raw.get().as_bytes());
            }
            document @ (Document::Text(_) | Document::Object(..)) => match document.text() {
                Some(content) => text::string(content, list),
                None => {
                    let field = format!("documents[{index}]");
                    let message =
                        format!("{field} has no text, and this provider takes text alone");
                    return Err(Error::unsupported(field, message));
                }
            },
        }
    }
    list.push(b']');
    if let Some(top) = &request.top {
        let name = if openai && maker == Maker::Voyage {
            "top_k"
        } else {
            "top_n"
        };
        object.integer(name, top.value.into());
    }
    if let Some(most) = &request.max_tokens {
        match to {
            Protocol::Cohere => object.integer("max_tokens_per_doc", most.value.into()),
            Protocol::Bedrock if model.contains("cohere.") => {
                object.integer("max_tokens_per_doc", most.value.into());
            }
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
            | Protocol::Gemini
            | Protocol::Bedrock
            | Protocol::Ollama => dropped.push(most.field.clone()),
        }
    }
    match &request.truncate {
        Some(truncate) if openai && maker == Maker::Voyage => {
            object.boolean("truncation", truncate.value);
        }
        // The others cut; who wants an error instead won't get it.
        Some(truncate) if !truncate.value => dropped.push(truncate.field.clone()),
        Some(_) | None => {}
    }
    if openai && maker == Maker::Jina {
        // It sends them back unless it is told not to; the client gets its own.
        object.boolean("return_documents", false);
    }
    if to == Protocol::Bedrock && model.contains("cohere.") {
        object.integer("api_version", 2);
    }
    object.close();
    Ok(Translated {
        body: out,
        dropped,
        schema_tool: false,
    })
}

/// What a provider answered.
#[derive(Debug, Default)]
struct Ranking<'b> {
    id: Option<Str<'b>>,
    /// Index and score, the best first.
    results: Vec<(usize, &'b RawValue)>,
    units: Option<u64>,
    tokens: Option<u64>,
}

/// Writes a provider's answer for the client.
pub fn answer(request: &Request<'_>, answer: &[u8], shape: &Shape) -> Result<Vec<u8>> {
    let ranking = ranking(answer).map_err(|error| {
        let message = format!("the provider's answer can't be read: {}", error.message);
        Error::new(Kind::UpstreamBroken, message)
    })?;
    if ranking
        .results
        .iter()
        .any(|(index, _)| *index >= request.documents.len())
    {
        return Err(Error::new(
            Kind::UpstreamBroken,
            "the provider ranked a document that was not there",
        ));
    }
    let voyage = request.dialect == Dialect::Voyage;
    let mut out = Vec::with_capacity(answer.len() + 256);
    let mut object = Object::open(&mut out);
    if !voyage {
        object.string("id", ranking.id.as_deref().unwrap_or(&shape.id));
    }
    object.string("object", "list");
    object.string("model", &shape.model);
    let list = object.key(if voyage { "data" } else { "results" });
    list.push(b'[');
    let start = list.len();
    for (index, score) in &ranking.results {
        text::comma(start, list);
        let mut one = Object::open(list);
        one.integer("index", *index as u64);
        one.raw("relevance_score", score);
        if let Some(document) = request
            .documents
            .get(*index)
            .filter(|_| request.documents_back)
        {
            let back = one.key("document");
            match document {
                Document::Text(content) if voyage => text::string(content, back),
                Document::Text(content) => {
                    back.extend_from_slice(b"{\"text\":");
                    text::string(content, back);
                    back.push(b'}');
                }
                Document::Object(raw, _) => back.extend_from_slice(raw.get().as_bytes()),
            }
        }
        one.close();
    }
    list.push(b']');
    if !voyage {
        let meta = object.key("meta");
        meta.extend_from_slice(b"{\"api_version\":{\"version\":\"2\"}");
        if let Some(units) = ranking.units {
            meta.extend_from_slice(b",\"billed_units\":{\"search_units\":");
            text::integer(units, meta);
            meta.push(b'}');
        }
        meta.push(b'}');
    }
    if voyage || ranking.tokens.is_some() {
        let usage = object.key("usage");
        usage.extend_from_slice(b"{\"total_tokens\":");
        text::integer(ranking.tokens.unwrap_or(0), usage);
        usage.push(b'}');
    }
    object.close();
    Ok(out)
}

fn ranking(body: &[u8]) -> Result<Ranking<'_>> {
    let mut reader = Reader::new(body)?;
    let mut ranking = Ranking::default();
    let mut found = false;
    reader.object(|r, key| {
        match &*key {
            "results" | "data" if r.peek() == b'[' => {
                found = true;
                ranking.results = r.list(|r| {
                    let (mut index, mut score) = (None, None);
                    r.object(|r, key| {
                        match &*key {
                            "index" => index = Some(r.integer()?),
                            "relevance_score" | "score" => {
                                if !matches!(r.peek(), b'-' | b'0'..=b'9') {
                                    return Err(r.wrong("a number"));
                                }
                                score = Some(r.raw()?);
                            }
                            _ => drop(r.raw()?),
                        }
                        Ok(())
                    })?;
                    let index = index.ok_or_else(|| r.missing("index"))?;
                    let score = score.ok_or_else(|| r.missing("relevance_score"))?;
                    Ok((index as usize, score))
                })?;
            }
            "id" => ranking.id = r.maybe(Reader::string)?,
            "meta" => {
                let meta = r.raw()?.get().as_bytes();
                ranking.units = count(meta, &["billed_units", "search_units"]);
                // The fifth generation is billed by token.
                ranking.tokens = count(meta, &["billed_units", "input_tokens"]).or(ranking.tokens);
            }
            "usage" => {
                let usage = r.raw()?.get().as_bytes();
                ranking.tokens = ranking.tokens.or(count(usage, &["total_tokens"]));
            }
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    reader.finish()?;
    if found {
        Ok(ranking)
    } else {
        Err(reader.missing("results"))
    }
}

/// What a ranking took: search units, tokens, and whether the provider said so.
pub(super) fn told(from: Protocol, request_body: &[u8], answer: &[u8]) -> Option<(u64, u64, bool)> {
    let ranking = ranking(answer).ok()?;
    let units = ranking.units;
    let tokens = ranking.tokens.unwrap_or(0);
    if units.is_none() && ranking.tokens.is_none() {
        let by_unit = matches!(from, Protocol::Cohere | Protocol::Bedrock);
        let documents = read(request_body).ok()?.documents.len() as u64;
        let units = documents.div_ceil(UNIT).max(1);
        return by_unit.then_some((units, 0, false));
    }
    Some((units.unwrap_or(0), tokens, true))
}
