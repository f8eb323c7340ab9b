//! Embeddings: texts in, vectors out. A request has one shape here, [`Request`], and so has an answer,
//! [`Vectors`]; each family is read into it and written from it.

use std::borrow::Cow;

use super::{Named, tokens};
use crate::protocol::Protocol;
use crate::protocol::chat::Str;

pub(super) use answer::told;
pub use answer::{answer, answer_all};
pub use read::read;
pub use write::{write, write_all};

mod answer;
mod read;
mod vector;
mod write;

/// What is to be embedded, and how.
#[derive(Debug)]
pub struct Request<'b> {
    pub family: Protocol,
    pub inputs: Vec<Input<'b>>,
    /// Gemini's `embedContent`: one input, and an answer that isn't a list.
    pub single: bool,
    pub dimensions: Option<Named<u32>>,
    pub task: Option<Named<Task>>,
    pub title: Option<Str<'b>>,
    pub cut: Option<Named<Cut>>,
    pub encoding: Encoding,
    /// Cohere's `embedding_types`, as asked.
    pub types: Vec<Str<'b>>,
    /// Fields that no other family has a word for, and that change no vector.
    pub dropped: Vec<String>,
}

/// One thing to embed.
#[derive(Debug)]
pub enum Input<'b> {
    Text(Str<'b>),
    /// Token ids of OpenAI's tokenizer: a JSON array.
    Tokens(&'b str),
    /// Text and images that make one vector.
    Mixed(Vec<Piece<'b>>),
}

#[derive(Debug)]
pub enum Piece<'b> {
    Text(Str<'b>),
    Image { media_type: Str<'b>, data: Str<'b> },
    Url(Str<'b>),
}

/// What the vectors are for: some models turn texts differently for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Query,
    Document,
    Similarity,
    Classification,
    Clustering,
    Answering,
    Verification,
    CodeQuery,
    Image,
}

/// What happens to a text that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Refuse,
    Start,
    End,
}

/// How the client wants a vector written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Float,
    /// Little-endian `f32`.
    Base64,
}

impl Task {
    /// Reads a name of any family.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match &*name.to_ascii_lowercase() {
            "query" | "search_query" | "retrieval_query" | "retrieval.query" => Task::Query,
            "document" | "search_document" | "passage" | "retrieval_document"
            | "retrieval.passage" => Task::Document,
            "semantic_similarity" | "text-matching" => Task::Similarity,
            "classification" => Task::Classification,
            "clustering" | "separation" => Task::Clustering,
            "question_answering" => Task::Answering,
            "fact_verification" => Task::Verification,
            "code_retrieval_query" | "code.query" => Task::CodeQuery,
            "image" => Task::Image,
            _ => return None,
        })
    }
}

/// Returns whether a model's maker calls a field of this OpenAI request by another name.
pub(super) fn renames(body: &[u8], model: &str) -> bool {
    match Maker::of(model) {
        Maker::Voyage | Maker::Mistral => super::member(body, "dimensions").is_some(),
        Maker::Openai | Maker::Jina => super::member(body, "output_dimension").is_some(),
        Maker::Other => false,
    }
}

/// Who is behind a server of OpenAI's dialect: they call the same things by other names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    Openai,
    Voyage,
    Jina,
    Mistral,
    /// Nobody that we know; takes OpenAI's words.
    Other,
}

impl Maker {
    pub fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        let starts = |prefix: &str| name.starts_with(prefix);
        if starts("voyage") || starts("rerank-2") || starts("rerank-1") || starts("rerank-lite") {
            Maker::Voyage
        } else if starts("jina") {
            Maker::Jina
        } else if starts("mistral-embed") || starts("codestral-embed") {
            Maker::Mistral
        } else if starts("text-embedding-") {
            Maker::Openai
        } else {
            Maker::Other
        }
    }
}

/// What Gemini counts for an image, and about what the others do.
const IMAGE: u64 = 258;

/// Returns the text of an input, where it is all text.
fn text_of<'i>(input: &'i Input<'_>) -> Option<Cow<'i, str>> {
    match input {
        Input::Text(text) => Some(Cow::Borrowed(text)),
        Input::Tokens(_) => None,
        Input::Mixed(pieces) => {
            let texts: Option<Vec<&str>> = pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => Some(&**text),
                    Piece::Image { .. } | Piece::Url(_) => None,
                })
                .collect();
            match texts?.as_slice() {
                [only] => Some(Cow::Borrowed(only)),
                several => Some(Cow::Owned(several.join("\n"))),
            }
        }
    }
}

/// Returns about how many tokens the inputs of a request are.
pub(super) fn estimate(request: &Request<'_>) -> u64 {
    request
        .inputs
        .iter()
        .map(weigh)
        .fold(0, u64::saturating_add)
}

fn weigh(input: &Input<'_>) -> u64 {
    match input {
        Input::Text(text) => tokens::of_text(text),
        Input::Tokens(tokens) => tokens.bytes().filter(|byte| *byte == b',').count() as u64 + 1,
        Input::Mixed(pieces) => pieces.iter().fold(0, |sum, piece| {
            sum + match piece {
                Piece::Text(text) => tokens::of_text(text),
                Piece::Image { .. } | Piece::Url(_) => IMAGE,
            }
        }),
    }
}
