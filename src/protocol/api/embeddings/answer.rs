//! Answers with embeddings: read from every provider, written for every client.

use serde_json::value::RawValue;

use super::vector::{Vector, broken};
use super::{Encoding, Request, estimate, text_of};
use crate::error::{Error, Kind, Result};
use crate::protocol::api::count;
use crate::protocol::chat::Str;
use crate::protocol::text::{self, Object, Reader};
use crate::protocol::{Protocol, Shape};

/// Vectors in the order of the inputs.
#[derive(Debug, Default)]
struct Vectors<'b> {
    id: Option<Str<'b>>,
    items: Vec<Vector<'b>>,
    /// Cohere's other kinds: name and the whole list.
    kinds: Vec<(Str<'b>, &'b RawValue)>,
    tokens: Option<u64>,
}

impl<'b> Vectors<'b> {
    /// Adds those of the inputs that come after. Other kinds can't be told by input, and are those of the first.
    fn join(&mut self, later: Self) {
        self.items.extend(later.items);
        self.tokens = self
            .tokens
            .zip(later.tokens)
            .map(|(one, other)| one.saturating_add(other));
    }
}

/// Writes a provider's answer for the client.
///
/// Errors: `UpstreamBroken` where it is none, or has another number of vectors than there were inputs.
pub fn answer(
    from: Protocol,
    request: &Request<'_>,
    answer: &[u8],
    shape: &Shape,
) -> Result<Vec<u8>> {
    answer_all(from, request, &[answer], shape)
}

/// Writes a provider's answers to the pieces of a request, in their order, as one for the client.
pub fn answer_all(
    from: Protocol,
    request: &Request<'_>,
    answers: &[&[u8]],
    shape: &Shape,
) -> Result<Vec<u8>> {
    let mut vectors = Vectors::default();
    for (index, body) in answers.iter().enumerate() {
        let one = read(from, body).map_err(|error| {
            if error.kind == Kind::UpstreamBroken {
                return error;
            }
            let message = format!("the provider's answer can't be read: {}", error.message);
            Error::new(Kind::UpstreamBroken, message)
        })?;
        match index {
            0 => vectors = one,
            _ => vectors.join(one),
        }
    }
    // Bytes and bits have no vectors of numbers beside them.
    let other_kinds = vectors.items.is_empty() && !vectors.kinds.is_empty();
    if !other_kinds && vectors.items.len() != request.inputs.len() {
        let message = format!(
            "the provider answered {} embeddings for {} inputs",
            vectors.items.len(),
            request.inputs.len()
        );
        return Err(Error::new(Kind::UpstreamBroken, message));
    }
    let length = answers.iter().map(|body| body.len()).sum::<usize>();
    let mut out = Vec::with_capacity(length + 256);
    match request.family {
        Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::OpenaiCompletions => {
            openai(request, &vectors, shape, &mut out)?;
        }
        Protocol::Gemini => gemini(request, &vectors, &mut out)?,
        Protocol::Cohere => cohere(request, &vectors, shape, &mut out)?,
        Protocol::Ollama => ollama(&vectors, shape, &mut out)?,
        Protocol::Anthropic | Protocol::Bedrock => {
            let message = format!("{} has no embeddings", request.family.name());
            return Err(Error::new(Kind::Unsupported, message));
        }
    }
    Ok(out)
}

/// Returns the input tokens that a provider's answer tells.
pub fn told(from: Protocol, answer: &[u8]) -> Option<u64> {
    read(from, answer).ok()?.tokens
}

fn read(from: Protocol, body: &[u8]) -> Result<Vectors<'_>> {
    let mut reader = Reader::new(body)?;
    let mut vectors = Vectors::default();
    match from {
        Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::OpenaiCompletions => {
            read_openai(&mut reader, &mut vectors)?;
        }
        Protocol::Gemini => read_gemini(&mut reader, &mut vectors)?,
        Protocol::Cohere | Protocol::Bedrock | Protocol::Ollama => {
            read_lists(&mut reader, &mut vectors)?;
        }
        Protocol::Anthropic => return Err(broken("anthropic has no embeddings")),
    }
    reader.finish()?;
    Ok(vectors)
}

fn read_openai<'b>(reader: &mut Reader<'b>, vectors: &mut Vectors<'b>) -> Result<()> {
    let mut indexed = Vec::new();
    let mut found = false;
    reader.object(|r, key| {
        match &*key {
            "data" => {
                found = true;
                r.array(|r| {
                    let (mut vector, mut index) = (None, None);
                    r.object(|r, key| {
                        match &*key {
                            "embedding" => vector = Some(read_vector(r)?),
                            "index" => index = r.maybe(Reader::integer)?,
                            _ => drop(r.raw()?),
                        }
                        Ok(())
                    })?;
                    let vector = vector.ok_or_else(|| r.missing("embedding"))?;
                    let place = indexed.len();
                    let index = index.map_or(place, |index| index as usize);
                    indexed.push((index, vector));
                    Ok(())
                })?;
            }
            "id" => vectors.id = r.maybe(Reader::string)?,
            "usage" => {
                let raw = r.raw()?;
                vectors.tokens = count(raw.get().as_bytes(), &["prompt_tokens"])
                    .or_else(|| count(raw.get().as_bytes(), &["total_tokens"]))
                    .or_else(|| count(raw.get().as_bytes(), &["input_tokens"]));
            }
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    if !found {
        return Err(broken("the provider's answer has no data"));
    }
    // An index says which input it belongs to, wherever it stands.
    indexed.sort_by_key(|(index, _)| *index);
    if indexed
        .iter()
        .enumerate()
        .any(|(place, (index, _))| place != *index)
    {
        return Err(broken(
            "the provider's embeddings have other indices than the inputs",
        ));
    }
    vectors.items = indexed.into_iter().map(|(_, vector)| vector).collect();
    Ok(())
}

fn read_gemini<'b>(reader: &mut Reader<'b>, vectors: &mut Vectors<'b>) -> Result<()> {
    let one = |r: &mut Reader<'b>| {
        let mut vector = None;
        r.object(|r, key| {
            match &*key {
                "values" => vector = Some(read_vector(r)?),
                _ => drop(r.raw()?),
            }
            Ok(())
        })?;
        vector.ok_or_else(|| r.missing("values"))
    };
    let mut found = false;
    reader.object(|r, key| {
        match &*key {
            "embeddings" => {
                found = true;
                vectors.items = r.list(one)?;
            }
            "embedding" => {
                found = true;
                vectors.items = vec![one(r)?];
            }
            "predictions" => {
                found = true;
                let mut sum = Some(0u64);
                vectors.items = r.list(|r| {
                    let mut vector = None;
                    r.object(|r, key| {
                        match &*key {
                            "embeddings" => {
                                let raw = r.raw()?;
                                let path = ["statistics", "token_count"];
                                let tokens = count(raw.get().as_bytes(), &path);
                                sum = sum
                                    .zip(tokens)
                                    .map(|(sum, tokens)| sum.saturating_add(tokens));
                                vector = Some(one(&mut Reader::of(raw.get()))?);
                            }
                            _ => drop(r.raw()?),
                        }
                        Ok(())
                    })?;
                    vector.ok_or_else(|| r.missing("embeddings"))
                })?;
                vectors.tokens = sum;
            }
            "usageMetadata" => {
                vectors.tokens = count(r.raw()?.get().as_bytes(), &["promptTokenCount"])
            }
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    if found {
        Ok(())
    } else {
        Err(broken("the provider's answer has no embeddings"))
    }
}

/// Reads the answers of Cohere, of Bedrock's models (Cohere, Titan, Nova), and of Ollama.
fn read_lists<'b>(reader: &mut Reader<'b>, vectors: &mut Vectors<'b>) -> Result<()> {
    let mut found = false;
    reader.object(|r, key| {
        match &*key {
            "embeddings" if r.peek() == b'[' => {
                found = true;
                vectors.items = r.list(|r| {
                    if r.peek() != b'{' {
                        return read_vector(r);
                    }
                    let mut vector = None;
                    r.object(|r, key| {
                        match &*key {
                            "embedding" => vector = Some(read_vector(r)?),
                            _ => drop(r.raw()?),
                        }
                        Ok(())
                    })?;
                    vector.ok_or_else(|| r.missing("embedding"))
                })?;
            }
            "embeddings" => {
                found = true;
                r.object(|r, key| {
                    let mark = r.mark();
                    let Some(raw) = r.maybe_raw()? else {
                        return Ok(());
                    };
                    let base64 = key == "base64" && vectors.items.is_empty();
                    if key == "float" || base64 {
                        r.back(mark);
                        vectors.items = r.list(read_vector)?;
                    }
                    vectors.kinds.push((key, raw));
                    Ok(())
                })?;
            }
            "embedding" => {
                found = true;
                vectors.items = vec![read_vector(r)?];
            }
            "id" => vectors.id = r.maybe(Reader::string)?,
            "inputTextTokenCount" | "prompt_eval_count" => {
                vectors.tokens = r.maybe(Reader::integer)?.map(u64::from);
            }
            "meta" => {
                let raw = r.raw()?;
                let texts = count(raw.get().as_bytes(), &["billed_units", "input_tokens"]);
                let images = count(raw.get().as_bytes(), &["billed_units", "image_tokens"]);
                vectors.tokens = match (texts, images) {
                    (None, None) => None,
                    (texts, images) => Some(texts.unwrap_or(0).saturating_add(images.unwrap_or(0))),
                };
            }
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    if found {
        Ok(())
    } else {
        Err(broken("the provider's answer has no embeddings"))
    }
}

fn read_vector<'b>(r: &mut Reader<'b>) -> Result<Vector<'b>> {
    match r.peek() {
        b'"' => Ok(Vector::Base64(r.string()?)),
        b'[' => Ok(Vector::Numbers(r.raw()?)),
        _ => Err(r.wrong("an array of numbers or base64")),
    }
}

fn openai(
    request: &Request<'_>,
    vectors: &Vectors<'_>,
    shape: &Shape,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut object = Object::open(out);
    // Mistral's SDK demands one.
    object.string("id", &format!("embd-{}", shape.id));
    object.string("object", "list");
    let list = object.key("data");
    list.push(b'[');
    let start = list.len();
    for (index, vector) in vectors.items.iter().enumerate() {
        text::comma(start, list);
        let mut one = Object::open(list);
        one.string("object", "embedding");
        one.integer("index", index as u64);
        vector.write(request.encoding, one.key("embedding"))?;
        one.close();
    }
    list.push(b']');
    object.string("model", &shape.model);
    let tokens = vectors.tokens.unwrap_or_else(|| estimate(request));
    let usage = object.key("usage");
    usage.extend_from_slice(b"{\"prompt_tokens\":");
    text::integer(tokens, usage);
    usage.extend_from_slice(b",\"total_tokens\":");
    text::integer(tokens, usage);
    usage.push(b'}');
    object.close();
    Ok(())
}

fn gemini(request: &Request<'_>, vectors: &Vectors<'_>, out: &mut Vec<u8>) -> Result<()> {
    let mut object = Object::open(out);
    let single = vectors.items.first().filter(|_| request.single);
    match single {
        Some(vector) => {
            let embedding = object.key("embedding");
            embedding.extend_from_slice(b"{\"values\":");
            vector.write(Encoding::Float, embedding)?;
            embedding.push(b'}');
        }
        None => {
            let list = object.key("embeddings");
            list.push(b'[');
            let start = list.len();
            for vector in &vectors.items {
                text::comma(start, list);
                list.extend_from_slice(b"{\"values\":");
                vector.write(Encoding::Float, list)?;
                list.push(b'}');
            }
            list.push(b']');
        }
    }
    if let Some(tokens) = vectors.tokens {
        let usage = object.key("usageMetadata");
        usage.extend_from_slice(b"{\"promptTokenCount\":");
        text::integer(tokens, usage);
        usage.push(b'}');
    }
    object.close();
    Ok(())
}

fn cohere(
    request: &Request<'_>,
    vectors: &Vectors<'_>,
    shape: &Shape,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut object = Object::open(out);
    object.string("id", vectors.id.as_deref().unwrap_or(&shape.id));
    let mut embeddings = Object::open(object.key("embeddings"));
    let wanted: Vec<&str> = if request.types.is_empty() {
        vec!["float"]
    } else {
        request.types.iter().map(|kind| &**kind).collect()
    };
    for kind in wanted {
        if let Some((_, raw)) = vectors.kinds.iter().find(|(name, _)| name == kind) {
            embeddings
                .foreign_key(kind)
                .extend_from_slice(raw.get().as_bytes());
            continue;
        }
        let encoding = match kind {
            "float" => Encoding::Float,
            "base64" => Encoding::Base64,
            _ => return Err(broken("the provider left out a kind of embeddings")),
        };
        let list = embeddings.foreign_key(kind);
        list.push(b'[');
        let start = list.len();
        for vector in &vectors.items {
            text::comma(start, list);
            vector.write(encoding, list)?;
        }
        list.push(b']');
    }
    embeddings.close();
    let list = object.key("texts");
    list.push(b'[');
    let start = list.len();
    for input in &request.inputs {
        if let Some(content) = text_of(input) {
            text::comma(start, list);
            text::string(&content, list);
        }
    }
    list.push(b']');
    let meta = object.key("meta");
    meta.extend_from_slice(
        b"{\"api_version\":{\"version\":\"2\"},\"billed_units\":{\"input_tokens\":",
    );
    text::integer(vectors.tokens.unwrap_or_else(|| estimate(request)), meta);
    meta.extend_from_slice(b"}}");
    object.string("response_type", "embeddings_by_type");
    object.close();
    Ok(())
}

fn ollama(vectors: &Vectors<'_>, shape: &Shape, out: &mut Vec<u8>) -> Result<()> {
    let mut object = Object::open(out);
    object.string("model", &shape.model);
    let list = object.key("embeddings");
    list.push(b'[');
    let start = list.len();
    for vector in &vectors.items {
        text::comma(start, list);
        vector.write(Encoding::Float, list)?;
    }
    list.push(b']');
    // Ollama measures its own work; nobody else tells.
    object.integer("total_duration", 0);
    object.integer("load_duration", 0);
    object.integer("prompt_eval_count", vectors.tokens.unwrap_or(0));
    object.close();
    Ok(())
}
