//! Which path is which: what is asked, in which protocol, and what of it the path itself says.

use std::borrow::Cow;

use http::{HeaderMap, Method};

use crate::protocol::Protocol;
use crate::protocol::api::Api;

/// What the data plane serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint<'p> {
    /// A request that a model answers.
    Ask(Asked<'p>),
    Models,
    Model(Cow<'p, str>),
    /// A stored answer of OpenAI responses.
    Stored {
        id: &'p str,
        part: Part,
    },
    /// What only a provider understands: passed on as it comes, from what stands behind `/v1/`.
    Raw(&'p str),
    /// `/{provider}/…`: the provider's own API.
    Native {
        provider: &'p str,
        rest: &'p str,
    },
    /// `/v1/key`: what the key that asks may do, and what it has spent.
    OwnKey,
    /// `/` and `/health`: alive, without a key.
    Alive,
}

/// What is wanted of a stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Itself,
    InputItems,
    Cancel,
}

/// A request of the model lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'p> {
    pub api: Api,
    pub protocol: Protocol,
    /// Where the path names it.
    pub model: Option<Cow<'p, str>>,
    /// Where the path says whether the answer is to be a stream.
    pub stream: Option<bool>,
    pub coat: Coat,
}

/// What a client's answer is wrapped in, beside its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coat {
    None,
    /// Gemini's stream without `alt=sse`: one JSON array.
    Array,
    /// Anthropic's events in AWS's binary event stream (`invoke-with-response-stream`).
    Chunks,
}

impl<'p> Asked<'p> {
    fn new(api: Api, protocol: Protocol) -> Self {
        Self {
            api,
            protocol,
            model: None,
            stream: None,
            coat: Coat::None,
        }
    }

    /// Returns the name that records and metrics use.
    pub fn name(&self) -> &'static str {
        match (self.api, self.protocol) {
            (Api::Chat, Protocol::OpenaiResponses) => "responses",
            (Api::Chat, Protocol::OpenaiCompletions) => "completions",
            (Api::Chat, Protocol::Anthropic) => "messages",
            (Api::Chat, Protocol::Gemini) => "generate_content",
            (Api::Chat, Protocol::Bedrock) => "converse",
            (Api::Chat, Protocol::OpenaiChat | Protocol::Cohere | Protocol::Ollama)
            | (
                Api::CountTokens
                | Api::Embeddings
                | Api::Rerank
                | Api::Moderations
                | Api::Images
                | Api::ImageEdits
                | Api::Speech
                | Api::Transcriptions
                | Api::Translations,
                _,
            ) => self.api.name(),
        }
    }
}

impl<'p> Endpoint<'p> {
    /// Finds the endpoint of `path`.
    pub fn of(path: &'p str, query: Option<&str>) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        if matches!(
            path,
            "" | "/health" | "/health/live" | "/health/liveness" | "/health/liveliness"
        ) {
            return Some(Self::Alive);
        }
        if let Some(rest) = path.strip_prefix("/model/") {
            return bedrock(rest).map(Self::Ask);
        }
        let deployments = path
            .strip_prefix("/openai/deployments/")
            .or_else(|| path.strip_prefix("/engines/"))
            .or_else(|| path.strip_prefix("/v1/engines/"));
        if let Some(rest) = deployments {
            return deployment(rest).map(Self::Ask);
        }
        if let Some((before, rest)) = path.split_once("/models/")
            && let Some((model, verb)) = rest.rsplit_once(':')
            && let Some(mut asked) = verb_of(model, verb, query)
        {
            asked.model = asked.model.map(|model| published(before, model));
            return Some(Self::Ask(asked));
        }
        // What has a slash in its name is a path of its own to some of Google's clients.
        if let Some(rest) = path
            .strip_prefix("/v1beta/")
            .or_else(|| path.strip_prefix("/v1alpha/"))
            && let Some((model, verb)) = rest.rsplit_once(':')
            && let Some(asked) = verb_of(model, verb, query)
        {
            return Some(Self::Ask(asked));
        }
        match path {
            "/v2/chat" => return ask(Api::Chat, Protocol::Cohere),
            "/v2/embed" => return ask(Api::Embeddings, Protocol::Cohere),
            "/rerank" | "/v1/rerank" | "/v2/rerank" => return ask(Api::Rerank, Protocol::Cohere),
            "/api/chat" => return ask(Api::Chat, Protocol::Ollama),
            "/api/embed" => return ask(Api::Embeddings, Protocol::Ollama),
            "/v1beta/models" | "/v1alpha/models" => return Some(Self::Models),
            _ => {}
        }
        let rest = ["/openai/v1/", "/v1/", "/v1beta/", "/"]
            .iter()
            .find_map(|prefix| path.strip_prefix(prefix))?;
        if let Some(asked) = openai(rest) {
            return Some(Self::Ask(asked));
        }
        match rest {
            "messages" => return ask(Api::Chat, Protocol::Anthropic),
            "messages/count_tokens" => return ask(Api::CountTokens, Protocol::Anthropic),
            "models" => return Some(Self::Models),
            "key" => return Some(Self::OwnKey),
            _ => {}
        }
        if let Some(id) = rest.strip_prefix("models/").filter(|id| !id.is_empty()) {
            return Some(Self::Model(unescape(id)));
        }
        if let Some(rest) = rest.strip_prefix("responses/") {
            let (id, part) = match rest.split_once('/') {
                None => (rest, Part::Itself),
                Some((id, "input_items")) => (id, Part::InputItems),
                Some((id, "cancel")) => (id, Part::Cancel),
                Some(_) => return None,
            };
            return Some(Self::Stored { id, part });
        }
        let family = rest.split('/').next().unwrap_or_default();
        let raw = matches!(
            family,
            "files"
                | "batches"
                | "realtime"
                | "videos"
                | "uploads"
                | "fine_tuning"
                | "vector_stores"
                | "containers"
                | "conversations"
                | "evals"
        ) || rest.starts_with("messages/batches");
        raw.then_some(Self::Raw(rest))
    }

    /// Finds the provider whose own API `path` names: `/{provider}/…`.
    pub fn native(path: &'p str, is_provider: impl Fn(&str) -> bool) -> Option<Self> {
        let (provider, rest) = path.strip_prefix('/')?.split_once('/')?;
        // Azure's way to name a model is a way to ask the gateway.
        let ours = provider == "openai" && rest.starts_with("deployments/");
        (!ours && is_provider(provider)).then_some(Self::Native { provider, rest })
    }

    /// Returns the name that records and metrics use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ask(asked) => asked.name(),
            Self::Models | Self::Model(_) => "models",
            Self::OwnKey => "key",
            Self::Stored { .. } => "responses",
            Self::Raw(_) | Self::Native { .. } => "raw",
            Self::Alive => "alive",
        }
    }

    pub fn allows(&self, method: &Method) -> bool {
        match self {
            Self::Raw(_) | Self::Native { .. } => true,
            Self::Ask(_)
            | Self::Models
            | Self::Model(_)
            | Self::Stored { .. }
            | Self::OwnKey
            | Self::Alive => self.allow().split(", ").any(|name| method.as_str() == name),
        }
    }

    pub fn allow(&self) -> &'static str {
        match self {
            Self::Ask(_)
            | Self::Stored {
                part: Part::Cancel, ..
            } => "POST",
            Self::Models
            | Self::Model(_)
            | Self::Alive
            | Self::OwnKey
            | Self::Stored {
                part: Part::InputItems,
                ..
            } => "GET, HEAD",
            Self::Stored {
                part: Part::Itself, ..
            } => "GET, HEAD, DELETE",
            Self::Raw(_) | Self::Native { .. } => "",
        }
    }
}

fn ask<'p>(api: Api, protocol: Protocol) -> Option<Endpoint<'p>> {
    Some(Endpoint::Ask(Asked::new(api, protocol)))
}

/// Finds what OpenAI serves at `rest`, which stands below `/v1/`.
fn openai<'p>(rest: &str) -> Option<Asked<'p>> {
    let (api, protocol) = match rest {
        "chat/completions" => (Api::Chat, Protocol::OpenaiChat),
        "completions" => (Api::Chat, Protocol::OpenaiCompletions),
        "responses" => (Api::Chat, Protocol::OpenaiResponses),
        "responses/input_tokens" => (Api::CountTokens, Protocol::OpenaiResponses),
        "embeddings" => (Api::Embeddings, Protocol::OpenaiChat),
        "moderations" => (Api::Moderations, Protocol::OpenaiChat),
        "images/generations" => (Api::Images, Protocol::OpenaiChat),
        "images/edits" => (Api::ImageEdits, Protocol::OpenaiChat),
        "audio/speech" => (Api::Speech, Protocol::OpenaiChat),
        "audio/transcriptions" => (Api::Transcriptions, Protocol::OpenaiChat),
        "audio/translations" => (Api::Translations, Protocol::OpenaiChat),
        _ => return None,
    };
    Some(Asked::new(api, protocol))
}

/// Finds what is asked of an Azure deployment. Its name may be `provider/model`: Azure's clients leave the slash as it is.
fn deployment(rest: &str) -> Option<Asked<'_>> {
    rest.match_indices('/').find_map(|(at, _)| {
        let mut asked = openai(&rest[at + 1..])?;
        asked.model = Some(unescape(&rest[..at]));
        Some(asked)
    })
}

/// Finds what AWS Bedrock serves at `rest`, which stands below `/model/`.
fn bedrock(rest: &str) -> Option<Asked<'_>> {
    let (model, verb) = rest.rsplit_once('/')?;
    let (api, protocol, stream, coat) = match verb {
        "converse" => (Api::Chat, Protocol::Bedrock, false, Coat::None),
        "converse-stream" => (Api::Chat, Protocol::Bedrock, true, Coat::None),
        "invoke" => (Api::Chat, Protocol::Anthropic, false, Coat::None),
        "invoke-with-response-stream" => (Api::Chat, Protocol::Anthropic, true, Coat::Chunks),
        "count-tokens" => (Api::CountTokens, Protocol::Bedrock, false, Coat::None),
        _ => return None,
    };
    Some(Asked {
        model: Some(unescape(model)),
        stream: Some(stream),
        coat,
        ..Asked::new(api, protocol)
    })
}

/// Finds what Google serves as `model:verb`, its own and Anthropic's models on Vertex.
fn verb_of<'p>(model: &'p str, verb: &str, query: Option<&str>) -> Option<Asked<'p>> {
    let sse = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
    let (api, protocol, stream, coat) = match verb {
        "generateContent" => (Api::Chat, Protocol::Gemini, Some(false), Coat::None),
        "streamGenerateContent" if sse => (Api::Chat, Protocol::Gemini, Some(true), Coat::None),
        "streamGenerateContent" => (Api::Chat, Protocol::Gemini, Some(true), Coat::Array),
        "countTokens" => (Api::CountTokens, Protocol::Gemini, None, Coat::None),
        "embedContent" | "batchEmbedContents" => {
            (Api::Embeddings, Protocol::Gemini, None, Coat::None)
        }
        "rawPredict" => (Api::Chat, Protocol::Anthropic, Some(false), Coat::None),
        "streamRawPredict" => (Api::Chat, Protocol::Anthropic, Some(true), Coat::None),
        _ => return None,
    };
    // `count-tokens:rawPredict` names its model in the body.
    if model == "count-tokens" {
        return Some(Asked::new(Api::CountTokens, Protocol::Anthropic));
    }
    Some(Asked {
        model: Some(unescape(model)),
        stream,
        coat,
        ..Asked::new(api, protocol)
    })
}

/// Returns a model by its whole name: clients of Vertex make a publisher of what stands before the slash in
/// `provider/model`, and Google of nothing.
fn published<'p>(before: &str, model: Cow<'p, str>) -> Cow<'p, str> {
    match before.rsplit_once("/publishers/") {
        Some((_, publisher)) if !matches!(publisher, "google" | "anthropic") => {
            Cow::Owned(format!("{publisher}/{model}"))
        }
        Some(_) | None => model,
    }
}

/// Decodes `%2F` and its kin; what is no escape stays as it is.
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = (byte == b'%')
            .then(|| {
                let high = digit(*bytes.get(at + 1)?)?;
                let low = digit(*bytes.get(at + 2)?)?;
                u8::try_from(high * 16 + low).ok()
            })
            .flatten();
        match pair {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    match String::from_utf8(out) {
        Ok(decoded) => Cow::Owned(decoded),
        Err(_) => Cow::Borrowed(text),
    }
}

/// Returns the protocol that an answer is owed in where no endpoint was found.
pub fn protocol(path: &str, headers: &HeaderMap) -> Protocol {
    if path.contains("/messages") || headers.contains_key("anthropic-version") {
        Protocol::Anthropic
    } else if path.starts_with("/v1beta") || headers.contains_key("x-goog-api-key") {
        Protocol::Gemini
    } else if path.starts_with("/model/") {
        Protocol::Bedrock
    } else if path.starts_with("/api/") {
        Protocol::Ollama
    } else {
        Protocol::OpenaiChat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str) -> (Api, Protocol, Option<String>, Option<bool>) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        match Endpoint::of(path, Some(query)) {
            Some(Endpoint::Ask(asked)) => (
                asked.api,
                asked.protocol,
                asked.model.map(Cow::into_owned),
                asked.stream,
            ),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn every_way_to_ask_for_a_chat_is_found() {
        let chat = |protocol| (Api::Chat, protocol, None, None);
        for path in [
            "/v1/chat/completions",
            "/chat/completions",
            "/openai/v1/chat/completions/",
        ] {
            assert_eq!(asked(path), chat(Protocol::OpenaiChat), "{path}");
        }
        assert_eq!(asked("/v1/messages"), chat(Protocol::Anthropic));
        assert_eq!(asked("/responses"), chat(Protocol::OpenaiResponses));
        assert_eq!(asked("/v1/completions"), chat(Protocol::OpenaiCompletions));
        assert_eq!(asked("/v2/chat"), chat(Protocol::Cohere));
        assert_eq!(asked("/api/chat"), chat(Protocol::Ollama));
        let named =
            |protocol, model: &str, stream| (Api::Chat, protocol, Some(model.to_owned()), stream);
        assert_eq!(
            asked("/openai/deployments/gpt%2D5/chat/completions?api-version=1"),
            named(Protocol::OpenaiChat, "gpt-5", None)
        );
        assert_eq!(
            asked("/openai/deployments/azure/gpt-5/chat/completions"),
            named(Protocol::OpenaiChat, "azure/gpt-5", None)
        );
        assert_eq!(
            asked("/v1beta/models/lab/llama3:8b:generateContent"),
            named(Protocol::Gemini, "lab/llama3:8b", Some(false))
        );
        assert_eq!(
            asked(
                "/v1/projects/p/locations/l/publishers/anthropic/models/claude@1:streamRawPredict"
            ),
            named(Protocol::Anthropic, "claude@1", Some(true))
        );
        assert_eq!(
            asked("/v1beta/lab/llama3:8b:streamGenerateContent"),
            named(Protocol::Gemini, "lab/llama3:8b", Some(true))
        );
        assert_eq!(
            asked("/v1beta1/projects/p/locations/l/publishers/lab/models/m:generateContent"),
            named(Protocol::Gemini, "lab/m", Some(false))
        );
        assert_eq!(
            asked("/model/eu.anthropic.claude-v1%3A0/converse-stream"),
            named(Protocol::Bedrock, "eu.anthropic.claude-v1:0", Some(true))
        );
    }

    #[test]
    fn geminis_stream_is_an_array_unless_events_are_asked_for() {
        let coat = |query| match Endpoint::of("/v1beta/models/m:streamGenerateContent", query) {
            Some(Endpoint::Ask(asked)) => asked.coat,
            other => panic!("{other:?}"),
        };
        assert_eq!(coat(None), Coat::Array);
        assert_eq!(coat(Some("key=x&alt=sse")), Coat::None);
    }

    #[test]
    fn what_is_not_asked_of_a_model_is_told_apart() {
        let of = |path| Endpoint::of(path, None);
        assert_eq!(of("/"), Some(Endpoint::Alive));
        assert_eq!(of("/v1/models"), Some(Endpoint::Models));
        assert_eq!(of("/v1beta/models"), Some(Endpoint::Models));
        assert_eq!(of("/v1/models/a%2Fb"), Some(Endpoint::Model("a/b".into())));
        assert_eq!(
            of("/v1/files/f-1/content"),
            Some(Endpoint::Raw("files/f-1/content"))
        );
        assert_eq!(
            of("/v1/responses/resp_1/input_items"),
            Some(Endpoint::Stored {
                id: "resp_1",
                part: Part::InputItems
            })
        );
        for path in ["/v1/nothing", "/v1/chat", "/model/x", "/v1/responses/a/b"] {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(unescape("a%2fb%3A%zz%4"), "a/b:%zz%4");
        assert_eq!(unescape("%ff"), "%ff");
    }
}
