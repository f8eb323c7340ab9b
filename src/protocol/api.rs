//! What is asked of a model: a chat, an embedding, an image, …
//!
//! All but chat is translated here: bytes in, bytes out. Embeddings and rerankings have a shape that every family
//! is read into and written from; images, speech and moderations are said by OpenAI's dialect alone, and pass.

use crate::codec::json;
use crate::error::{Error, Kind, Result};

use super::text::Reader;
use super::usage::{Usage, decimal};
use super::{Protocol, Shape, Translated};

pub use splice::splice_model;
pub use tokens::{count_tokens_of, counted, estimate_tokens, estimate_tokens_of};
pub use usage::usage;

pub mod embeddings;
pub mod images;
pub mod rerank;
pub mod sound;
mod splice;
pub mod tokens;
mod usage;

/// The kinds of requests that the model lane carries. Chat has the hub; the others are small enough to be translated
/// from one shape to another directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    Chat,
    /// How many tokens a chat request would take; nothing is generated.
    CountTokens,
    Embeddings,
    Rerank,
    Moderations,
    Images,
    /// Multipart, with the images to edit.
    ImageEdits,
    /// Answers with audio.
    Speech,
    /// Multipart, with the audio to write down.
    Transcriptions,
    /// Multipart, with the audio to write down in English.
    Translations,
}

impl Api {
    pub const ALL: [Api; 10] = [
        Api::Chat,
        Api::CountTokens,
        Api::Embeddings,
        Api::Rerank,
        Api::Moderations,
        Api::Images,
        Api::ImageEdits,
        Api::Speech,
        Api::Transcriptions,
        Api::Translations,
    ];

    /// Returns the name that records and metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Api::Chat => "chat",
            Api::CountTokens => "count_tokens",
            Api::Embeddings => "embeddings",
            Api::Rerank => "rerank",
            Api::Moderations => "moderations",
            Api::Images => "images",
            Api::ImageEdits => "image_edits",
            Api::Speech => "speech",
            Api::Transcriptions => "transcriptions",
            Api::Translations => "translations",
        }
    }
}

/// Returns whether a provider of `protocol` serves `api` in some shape.
pub fn speaks(api: Api, protocol: Protocol) -> bool {
    match protocol {
        Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::OpenaiCompletions => {
            api != Api::CountTokens || protocol == Protocol::OpenaiResponses
        }
        Protocol::Anthropic => matches!(api, Api::Chat | Api::CountTokens),
        Protocol::Gemini => matches!(
            api,
            Api::Chat | Api::CountTokens | Api::Embeddings | Api::Images | Api::ImageEdits
        ),
        Protocol::Bedrock => matches!(
            api,
            Api::Chat | Api::CountTokens | Api::Embeddings | Api::Rerank
        ),
        Protocol::Cohere => matches!(api, Api::Chat | Api::Embeddings | Api::Rerank),
        Protocol::Ollama => matches!(api, Api::Chat | Api::Embeddings),
    }
}

/// Returns whether a client's request can go to a provider of `to` as it is, but for its model, and the answer come
/// back so: both speak the same dialect, not only the same protocol. Else [`build`] and [`answer`] say it.
///
/// Those who share a protocol don't share all words: Voyage and Mistral call OpenAI's `dimensions` otherwise, and
/// Cohere's `/v2/rerank` knows neither Voyage's `top_k` nor the documents that its first version gave back.
pub fn passes(api: Api, client: Protocol, to: Protocol, body: &[u8], model: &str) -> bool {
    if client != to {
        return false;
    }
    match api {
        Api::Rerank => rerank::read(body).is_ok_and(|request| request.is_cohere_v2()),
        Api::Embeddings if client == Protocol::OpenaiChat => !embeddings::renames(body, model),
        Api::Chat
        | Api::CountTokens
        | Api::Embeddings
        | Api::Moderations
        | Api::Images
        | Api::ImageEdits
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations => true,
    }
}

/// Writes a client's request for a provider of another protocol, or of another dialect of the same. `model` is the
/// provider's own id.
///
/// Errors: `InvalidRequest`, and `Unsupported` where leaving something out would change the answer; both name the
/// client's field.
pub fn build(
    api: Api,
    client: Protocol,
    to: Protocol,
    body: &[u8],
    model: &str,
) -> Result<Translated> {
    match api {
        Api::Embeddings => embeddings::write(to, &embeddings::read(client, body)?, model),
        Api::Rerank => rerank::write(to, &rerank::read(body)?, model),
        Api::Chat
        | Api::CountTokens
        | Api::Moderations
        | Api::Images
        | Api::ImageEdits
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations => Err(untranslated(api, to)),
    }
}

/// Writes a provider's answer for a client of another protocol, or of the same: then vectors become what the client
/// asked for. `request_body` is the client's.
///
/// Errors: `UpstreamBroken` where it is no answer.
pub fn answer(
    api: Api,
    from: Protocol,
    client: Protocol,
    request_body: &[u8],
    answer: &[u8],
    shape: &Shape,
) -> Result<Vec<u8>> {
    match api {
        Api::Embeddings => {
            let request = embeddings::read(client, request_body)?;
            embeddings::answer(from, &request, answer, shape)
        }
        Api::Rerank => rerank::answer(&rerank::read(request_body)?, answer, shape),
        Api::Chat
        | Api::CountTokens
        | Api::Moderations
        | Api::Images
        | Api::ImageEdits
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations => Err(untranslated(api, from)),
    }
}

/// What a request is written for, beside the protocol.
#[derive(Debug, Clone, Copy)]
pub struct Wants<'a> {
    /// The provider's own id.
    pub model: &'a str,
    /// Of the client's body.
    pub content_type: &'a str,
    /// Google's embeddings are asked for by `:predict`, as Vertex AI does.
    pub predict: bool,
}

/// A client's request for a provider: one body, or several where it takes less at a time than is asked for.
#[derive(Debug)]
pub struct Built {
    pub bodies: Vec<Vec<u8>>,
    pub dropped: Vec<String>,
}

/// As many requests are made of one; more are the client's to make.
pub const MOST_BODIES: usize = 256;

/// Like [`build`], for whatever the provider takes at a time.
pub fn build_all(
    api: Api,
    client: Protocol,
    to: Protocol,
    body: &[u8],
    wants: Wants<'_>,
) -> Result<Built> {
    let built = match (api, to) {
        (Api::Images | Api::ImageEdits, Protocol::Gemini) => {
            let (bodies, dropped) = images::write(wants.content_type, body, wants.model)?;
            Built { bodies, dropped }
        }
        (Api::Embeddings, _) => embeddings::write_all(to, embeddings::read(client, body)?, wants)?,
        (_, _) => {
            let translated = build(api, client, to, body, wants.model)?;
            Built {
                bodies: vec![translated.body],
                dropped: translated.dropped,
            }
        }
    };
    Ok(built)
}

/// Like [`answer`], of the answers to what [`build_all`] has made, in its order.
///
/// Errors: `InvalidRequest` too, where the provider refused what it was asked for.
pub fn answer_all(
    api: Api,
    from: Protocol,
    client: Protocol,
    request_body: &[u8],
    answers: &[&[u8]],
    shape: &Shape,
) -> Result<Vec<u8>> {
    match (api, from, answers) {
        (Api::Images | Api::ImageEdits, Protocol::Gemini, _) => images::answer(answers, shape),
        (_, _, [only]) => answer(api, from, client, request_body, only, shape),
        (Api::Embeddings, _, _) => {
            let request = embeddings::read(client, request_body)?;
            embeddings::answer_all(from, &request, answers, shape)
        }
        (_, _, _) => Err(untranslated(api, from)),
    }
}

/// Returns what several answers took together.
pub fn usage_all(
    api: Api,
    from: Protocol,
    request_body: &[u8],
    answers: &[&[u8]],
) -> Option<Usage> {
    let [first, rest @ ..] = answers else {
        return None;
    };
    let mut sum = usage(api, from, request_body, first)?;
    // An estimate is of the whole request.
    if sum.estimated {
        return Some(sum);
    }
    for one in rest {
        sum = sum.plus(&usage(api, from, request_body, one)?);
    }
    Some(sum)
}

fn untranslated(api: Api, protocol: Protocol) -> Error {
    let message = format!(
        "{} can't be said to a provider that speaks {}",
        api.name(),
        protocol.name()
    );
    Error::new(Kind::Unsupported, message)
}

/// Fields that are for us, for the route or in the path: never a provider's business in another dialect.
const OURS: [&str; 5] = ["model", "fallbacks", "usage", "metadata", "stream"];

/// A value, and what the client called it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<T> {
    pub value: T,
    pub field: String,
}

impl<T> Named<T> {
    /// Reads the value of `key`, `null` as nothing.
    fn maybe<'b>(
        reader: &mut Reader<'b>,
        key: &str,
        one: impl FnOnce(&mut Reader<'b>) -> Result<T>,
    ) -> Result<Option<Self>> {
        let value = reader.maybe(one)?;
        Ok(value.map(|value| Self {
            value,
            field: key.to_owned(),
        }))
    }
}

/// Returns the value of `name` in a JSON object.
fn member<'b>(object: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let mut members = Vec::new();
    json::members(object, usize::MAX, &mut members).ok()?;
    let found = members
        .iter()
        .find(|member| json::key(object, member) == name)?;
    object
        .get(found.value.clone())
        .filter(|value| *value != b"null")
}

/// Returns the count at `path` in a JSON object, an integer, a float or a string of one.
fn count(object: &[u8], path: &[&str]) -> Option<u64> {
    let mut value = object;
    for name in path {
        value = member(value, name)?;
    }
    let text = std::str::from_utf8(value).ok()?;
    decimal(text.trim_matches('"'), 0)
}
