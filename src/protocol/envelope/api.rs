//! The envelope of what is not a chat: embeddings, reranking, images, speech, in JSON or as a form.

use std::borrow::Cow;
use std::ops::Range;

use super::{
    Envelope, MODEL_MOST, Said, fallbacks, field, is_anthropics, is_openai, keys, model, not_json,
};
use crate::codec::json::{self, Blobs, Scanner};
use crate::codec::multipart::{Form, MultipartError};
use crate::error::{Error, Kind, Result};
use crate::protocol::Protocol;
use crate::protocol::api::Api;

/// An edit nests next to nothing.
const DEPTH_MOST: usize = 32;
/// What OpenAI moderates with where nobody says.
const MODERATION: &str = "omni-moderation-latest";

impl<'b> Envelope<'b> {
    /// Reads and checks a JSON body of an API that is no chat; the body itself is depth 1 of `max_depth`.
    pub fn read_api(
        body: &'b [u8],
        api: Api,
        protocol: Protocol,
        max_depth: usize,
        said: Said<'_>,
    ) -> Result<Self> {
        if matches!(api, Api::Chat) {
            return Self::read_said(body, protocol, max_depth, said);
        }
        let mut members = Vec::with_capacity(16);
        let mut scanner = Scanner::new(body, max_depth);
        scanner
            .members(&mut members)
            .and_then(|()| scanner.end())
            .map_err(not_json)?;
        let mut envelope = Self::bare(body.len(), scanner.blobs());
        let keys = keys(body, &members)?;
        for (index, (key, member)) in keys.iter().zip(&members).enumerate() {
            let value = member.value.clone();
            match &**key {
                "model" => {
                    if said.model.is_none() {
                        envelope.model = model(body, value.clone())?;
                    }
                    envelope.model_value = Some(value);
                }
                "stream" => {
                    envelope.stream = match json::boolean(body, value.clone()) {
                        Some(stream) => stream,
                        None if json::is_null(body, value) => false,
                        None => {
                            return Err(Error::field("stream", "`stream` must be true or false."));
                        }
                    };
                }
                "stream_format" if api == Api::Speech => {
                    envelope.stream |= json::string(body, value).as_deref() == Some("sse");
                }
                key if api == Api::CountTokens && key == super::conversation(protocol) => {
                    envelope.conversation = value;
                }
                "n" => envelope.n = json::unsigned(body, value),
                "user" if is_openai(protocol) => envelope.user = json::string(body, value),
                "metadata" => envelope.metadata = Some(value),
                "fallbacks" if protocol == Protocol::Anthropic && is_anthropics(body, &value) => {}
                "fallbacks" => {
                    envelope.fallbacks = fallbacks(body, value)?;
                    envelope.ours.push(index);
                }
                "usage" => {
                    if let Some(include) = field(body, value, "include") {
                        envelope.include_cost = json::boolean(body, include) == Some(true);
                        envelope.ours.push(index);
                    }
                }
                _ => {}
            }
        }
        for choices in demanded(api, protocol) {
            let found = keys.iter().zip(&members).any(|(key, member)| {
                choices.contains(&&**key) && !json::is_null(body, member.value.clone())
            });
            let name = choices.first().copied().unwrap_or_default();
            if !found {
                return Err(Error::field(name, format!("`{name}` is missing.")));
            }
        }
        if let Some(model) = said.model {
            if model.len() > MODEL_MOST {
                return Err(Error::field("model", "`model` is longer than 512 bytes."));
            }
            envelope.model = Cow::Owned(model.to_owned());
        }
        envelope.stream = said.stream.unwrap_or(envelope.stream);
        drop(keys);
        envelope.members = members;
        envelope.named(api)
    }

    /// Reads and checks a form: a transcription, a translation, an edit of images. Its members are empty, and its
    /// `model_value` is where the part of that name lies.
    ///
    /// OpenAI takes edits as JSON too, with the addresses of images.
    pub fn read_form(body: &'b [u8], content_type: &str, api: Api, said: Said<'_>) -> Result<Self> {
        let json = content_type.trim_start().as_bytes().get(..16);
        if api == Api::ImageEdits
            && json.is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/json"))
        {
            return Self::read_api(body, api, Protocol::OpenaiChat, DEPTH_MOST, said);
        }
        let form = Form::read(content_type, body).map_err(not_form)?;
        let text = |name: &'static str| -> Result<Option<(Cow<'b, str>, Range<usize>)>> {
            let Some(part) = form.only(name).map_err(not_form)? else {
                return Ok(None);
            };
            let text = std::str::from_utf8(&body[part.value.clone()])
                .map_err(|_| Error::field(name, format!("`{name}` is not valid UTF-8.")))?;
            Ok(Some((Cow::Borrowed(text), part.value.clone())))
        };
        let mut envelope = Self::bare(body.len(), form.blobs());
        if let Some((model, value)) = text("model")? {
            if model.len() > MODEL_MOST {
                return Err(Error::field("model", "`model` is longer than 512 bytes."));
            }
            envelope.model = model;
            envelope.model_value = Some(value);
        }
        if let Some((stream, _)) = text("stream")? {
            envelope.stream = match &*stream {
                "true" | "True" | "1" => true,
                "false" | "False" | "0" | "" => false,
                _ => return Err(Error::field("stream", "`stream` must be true or false.")),
            };
        }
        envelope.user = text("user")?.map(|(user, _)| user);
        envelope.n = text("n")?.and_then(|(n, _)| n.parse().ok());
        let (field, other) = match api {
            Api::ImageEdits => ("image", Some("image[]")),
            Api::Chat
            | Api::CountTokens
            | Api::Embeddings
            | Api::Rerank
            | Api::Moderations
            | Api::Images
            | Api::Speech
            | Api::Transcriptions
            | Api::Translations => ("file", None),
        };
        if !form.parts().iter().any(|part| {
            let name = part.name(body);
            name == field || Some(&*name) == other
        }) {
            return Err(Error::field(field, format!("`{field}` is missing.")));
        }
        if let Some(model) = said.model {
            envelope.model = Cow::Owned(model.to_owned());
        }
        envelope.named(api)
    }

    fn bare(size: usize, blobs: Blobs) -> Self {
        Self {
            members: Vec::new(),
            model: Cow::Borrowed(""),
            model_value: None,
            conversation: 0..0,
            stream: false,
            include_usage: false,
            stream_options: None,
            max_output: None,
            n: None,
            user: None,
            metadata: None,
            fallbacks: Vec::new(),
            include_cost: false,
            ours: Vec::new(),
            size,
            blobs,
        }
    }

    /// Checks that there is a model.
    fn named(mut self, api: Api) -> Result<Self> {
        if self.model.is_empty() && api == Api::Moderations {
            self.model = Cow::Borrowed(MODERATION);
        }
        if self.model.is_empty() {
            return Err(Error::field("model", "`model` is missing."));
        }
        Ok(self)
    }
}

/// Returns the fields that a request can't do without: one of each list.
fn demanded(api: Api, protocol: Protocol) -> &'static [&'static [&'static str]] {
    match (api, protocol) {
        (Api::Embeddings, Protocol::Gemini) => &[&["content", "requests"]],
        (Api::Embeddings, Protocol::Cohere) => &[&["texts", "inputs", "images"]],
        (Api::Embeddings | Api::Moderations | Api::Speech, _) => &[&["input"]],
        (Api::Rerank, _) => &[&["query"], &["documents"]],
        (Api::Images | Api::ImageEdits, _) => &[&["prompt"]],
        (Api::CountTokens, Protocol::Gemini) => &[&["contents", "generateContentRequest"]],
        (Api::CountTokens, Protocol::Bedrock | Protocol::OpenaiResponses) => &[&["input"]],
        (Api::CountTokens, _) => &[&["messages"]],
        (Api::Chat | Api::Transcriptions | Api::Translations, _) => &[],
    }
}

fn not_form(error: MultipartError) -> Error {
    let message = format!("The form is broken: {error}.");
    match error {
        MultipartError::Twice(name) => Error::field(name, format!("`{name}` is given twice.")),
        MultipartError::NotMultipart
        | MultipartError::NoBoundary
        | MultipartError::Cut
        | MultipartError::Doubt
        | MultipartError::Header
        | MultipartError::NoName
        | MultipartError::Many => Error::new(Kind::InvalidRequest, message),
    }
}
