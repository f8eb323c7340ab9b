//! Which API a path belongs to, in which dialect, and what else the path says.

use std::borrow::Cow;

use hyper::Method;

use super::dialect::Dialect;

/// What is asked for at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Chat,
    /// `…/responses/…`: one that is kept.
    Responses,
    CountTokens,
    Embeddings,
    /// Gemini: several at once.
    BatchEmbeddings,
    Rerank,
    Moderations,
    Images,
    ImageEdits,
    Speech,
    Transcriptions,
    Translations,
    Files,
    Batches,
    Videos,
    Realtime,
    Models,
}

impl Api {
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::CountTokens => "count_tokens",
            Self::Embeddings => "embeddings",
            Self::BatchEmbeddings => "batch_embeddings",
            Self::Rerank => "rerank",
            Self::Moderations => "moderations",
            Self::Images => "images",
            Self::ImageEdits => "image_edits",
            Self::Speech => "speech",
            Self::Transcriptions => "transcriptions",
            Self::Translations => "translations",
            Self::Files => "files",
            Self::Batches => "batches",
            Self::Videos => "videos",
            Self::Realtime => "realtime",
            Self::Models => "models",
        }
    }
}

/// A path, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route<'p> {
    pub dialect: Dialect,
    pub api: Api,
    /// The model, where the path names it.
    pub model: Option<Cow<'p, str>>,
    /// Whether a stream is wanted, where the path says it.
    pub stream: Option<bool>,
    /// Gemini: events and not a list.
    pub sse: bool,
    /// What comes after a collection's name: `{id}`, `{id}/content`.
    pub rest: &'p str,
}

/// The ends of paths, whatever comes before; longer ones first where one ends another.
const ENDS: &[(&str, Dialect, Api)] = &[
    ("/chat/completions", Dialect::OpenaiChat, Api::Chat),
    ("/completions", Dialect::OpenaiCompletions, Api::Chat),
    ("/responses", Dialect::OpenaiResponses, Api::Chat),
    (
        "/responses/input_tokens",
        Dialect::OpenaiResponses,
        Api::CountTokens,
    ),
    ("/messages", Dialect::Anthropic, Api::Chat),
    (
        "/messages/count_tokens",
        Dialect::Anthropic,
        Api::CountTokens,
    ),
    ("/v2/chat", Dialect::Cohere, Api::Chat),
    ("/v2/embed", Dialect::Cohere, Api::Embeddings),
    ("/v2/rerank", Dialect::Cohere, Api::Rerank),
    ("/api/chat", Dialect::Ollama, Api::Chat),
    ("/api/embed", Dialect::Ollama, Api::Embeddings),
    ("/api/tags", Dialect::Ollama, Api::Models),
    ("/embeddings", Dialect::Openai, Api::Embeddings),
    ("/rerank", Dialect::Openai, Api::Rerank),
    ("/moderations", Dialect::Openai, Api::Moderations),
    ("/images/generations", Dialect::Openai, Api::Images),
    ("/images/edits", Dialect::Openai, Api::ImageEdits),
    ("/audio/speech", Dialect::Openai, Api::Speech),
    (
        "/audio/transcriptions",
        Dialect::Openai,
        Api::Transcriptions,
    ),
    ("/audio/translations", Dialect::Openai, Api::Translations),
    ("/realtime", Dialect::Openai, Api::Realtime),
];

/// Collections, whose members have paths of their own.
const COLLECTIONS: &[(&str, Dialect, Api)] = &[
    ("responses", Dialect::OpenaiResponses, Api::Responses),
    ("files", Dialect::Openai, Api::Files),
    ("batches", Dialect::Openai, Api::Batches),
    ("videos", Dialect::Openai, Api::Videos),
];

impl<'p> Route<'p> {
    /// Understands a path; `None` where nothing is spoken there.
    pub fn of(path: &'p str, query: Option<&str>) -> Option<Self> {
        // The first ones are the busiest, and none of them ends another family's path.
        if let Some((_, dialect, api)) = ENDS.iter().find(|(end, _, _)| path.ends_with(end)) {
            let deployment = path
                .split_once("/openai/deployments/")
                .and_then(|(_, rest)| rest.split_once('/'));
            return Some(Self {
                model: deployment.map(|(name, _)| decoded(name)),
                ..Self::new(*dialect, *api)
            });
        }
        if let Some(route) = Self::google(path, query).or_else(|| Self::bedrock(path)) {
            return Some(route);
        }
        COLLECTIONS.iter().find_map(|(name, dialect, api)| {
            // The last of that name: a prefix may have it too.
            let at = path
                .rmatch_indices(name)
                .map(|(at, _)| at)
                .find(|at| path[..*at].ends_with('/'))?;
            let rest = &path[at + name.len()..];
            (rest.is_empty() || rest.starts_with('/')).then(|| Self {
                rest: rest.trim_matches('/'),
                ..Self::new(*dialect, *api)
            })
        })
    }

    fn new(dialect: Dialect, api: Api) -> Self {
        Self {
            dialect,
            api,
            model: None,
            stream: None,
            sse: true,
            rest: "",
        }
    }

    /// `…/models/{model}:{action}`: Gemini, and what Vertex serves.
    fn google(path: &'p str, query: Option<&str>) -> Option<Self> {
        let (before, last) = path.rsplit_once("/models/")?;
        let (model, action) = last.rsplit_once(':')?;
        let (dialect, api, stream) = match action {
            "generateContent" => (Dialect::Gemini, Api::Chat, false),
            "streamGenerateContent" => (Dialect::Gemini, Api::Chat, true),
            "countTokens" => (Dialect::Gemini, Api::CountTokens, false),
            "embedContent" => (Dialect::Gemini, Api::Embeddings, false),
            "batchEmbedContents" => (Dialect::Gemini, Api::BatchEmbeddings, false),
            "predict" if model.starts_with("imagen") => {
                (Dialect::VertexPredict, Api::Images, false)
            }
            // Vertex's own form for embedding models.
            "predict" => (Dialect::VertexPredict, Api::Embeddings, false),
            // Anthropic's models say with a field whether they stream; both paths take it.
            "rawPredict" | "streamRawPredict" if before.ends_with("/publishers/anthropic") => {
                let api = if model == "count-tokens" {
                    Api::CountTokens
                } else {
                    Api::Chat
                };
                return Some(Self {
                    model: Some(decoded(model)),
                    ..Self::new(Dialect::VertexAnthropic, api)
                });
            }
            _ => return None,
        };
        let sse = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
        Some(Self {
            model: Some(decoded(model)),
            stream: Some(stream),
            sse,
            ..Self::new(dialect, api)
        })
    }

    /// `/model/{model}/{action}`.
    fn bedrock(path: &'p str) -> Option<Self> {
        let (before, action) = path.rsplit_once('/')?;
        let (before, model) = before.rsplit_once('/')?;
        if !before.ends_with("/model") {
            return None;
        }
        let (dialect, stream) = match action {
            "converse" => (Dialect::Bedrock, false),
            "converse-stream" => (Dialect::Bedrock, true),
            "invoke" => (Dialect::BedrockInvoke, false),
            "invoke-with-response-stream" => (Dialect::BedrockInvoke, true),
            "count-tokens" => {
                return Some(Self {
                    model: Some(decoded(model)),
                    ..Self::new(Dialect::Bedrock, Api::CountTokens)
                });
            }
            _ => return None,
        };
        let model = decoded(model);
        let is_embedding = action == "invoke" && model.contains("embed");
        let api = if is_embedding {
            Api::Embeddings
        } else {
            Api::Chat
        };
        Some(Self {
            model: Some(model),
            stream: Some(stream),
            ..Self::new(dialect, api)
        })
    }

    /// Returns whether a method belongs to what the path names.
    pub fn takes(&self, method: &Method) -> bool {
        if self.has_members() {
            return [Method::GET, Method::POST, Method::DELETE].contains(method);
        }
        // HTTP/2 asks for a WebSocket by CONNECT, which is not spoken here.
        if matches!(self.api, Api::Models | Api::Realtime) {
            return method == Method::GET;
        }
        method == Method::POST
    }

    /// Returns whether it is a collection, or one of its members.
    pub fn has_members(&self) -> bool {
        matches!(
            self.api,
            Api::Responses | Api::Files | Api::Batches | Api::Videos
        )
    }

    /// Returns whether the body may be of any size, and is looked at while it passes.
    pub fn is_upload(&self) -> bool {
        matches!(
            self.api,
            Api::Files
                | Api::Batches
                | Api::Videos
                | Api::ImageEdits
                | Api::Transcriptions
                | Api::Translations
        )
    }
}

/// Returns a part of a path without its percent signs.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16));
        match (first, hex(after.first()), hex(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_to_its_api() {
        for (path, dialect, api, model) in [
            ("/v1/chat/completions", Dialect::OpenaiChat, Api::Chat, None),
            (
                "/openai/deployments/d%201/chat/completions",
                Dialect::OpenaiChat,
                Api::Chat,
                Some("d 1"),
            ),
            (
                "/openai/v1/responses",
                Dialect::OpenaiResponses,
                Api::Chat,
                None,
            ),
            (
                "/v1/completions",
                Dialect::OpenaiCompletions,
                Api::Chat,
                None,
            ),
            (
                "/v1/responses/resp_1/input_items",
                Dialect::OpenaiResponses,
                Api::Responses,
                None,
            ),
            (
                "/v1beta/models/gemini-x:generateContent",
                Dialect::Gemini,
                Api::Chat,
                Some("gemini-x"),
            ),
            (
                "/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent",
                Dialect::Gemini,
                Api::Chat,
                Some("g"),
            ),
            (
                "/v1/projects/p/locations/l/publishers/anthropic/models/claude@1:rawPredict",
                Dialect::VertexAnthropic,
                Api::Chat,
                Some("claude@1"),
            ),
            (
                "/model/anthropic.claude-v1%3A0/converse",
                Dialect::Bedrock,
                Api::Chat,
                Some("anthropic.claude-v1:0"),
            ),
            (
                "/model/a.b:0/invoke-with-response-stream",
                Dialect::BedrockInvoke,
                Api::Chat,
                Some("a.b:0"),
            ),
            (
                "/model/amazon.titan-embed-text-v2:0/invoke",
                Dialect::BedrockInvoke,
                Api::Embeddings,
                Some("amazon.titan-embed-text-v2:0"),
            ),
            ("/v2/rerank", Dialect::Cohere, Api::Rerank, None),
            ("/v1/rerank", Dialect::Openai, Api::Rerank, None),
            ("/api/chat", Dialect::Ollama, Api::Chat, None),
            (
                "/v1/files/file-1/content",
                Dialect::Openai,
                Api::Files,
                None,
            ),
            ("/v1/files", Dialect::Openai, Api::Files, None),
        ] {
            let route = Route::of(path, None).expect(path);
            assert_eq!(
                (route.dialect, route.api, route.model.as_deref()),
                (dialect, api, model),
                "{path}"
            );
        }
        assert_eq!(
            Route::of("/v1/files/a/content", None).map(|it| it.rest),
            Some("a/content")
        );
        for path in [
            "/",
            "/v1/models/x:unknown",
            "/v1/profiles",
            "/model/x/y/z",
            "/v1/filesystem",
        ] {
            assert_eq!(Route::of(path, None), None, "{path}");
        }
    }

    #[test]
    fn a_percent_sign_alone_stays() {
        assert_eq!(decoded("a%zz%4"), "a%zz%4");
        assert_eq!(decoded("%41%2f"), "A/");
    }
}
