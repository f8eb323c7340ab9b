//! Where a provider is asked: how its platform builds the path of a request from the model and what is asked of it.
//!
//! Most providers are [`Platform::Plain`]: one path below the base URL. The clouds put the deployment, the project or
//! the model into it, and may be asked at another base (a proxy, a private endpoint) by `base_url`.

use std::fmt::Write;

use super::{Endpoint, Speaks};
use crate::codec::json::{self, Member};
use crate::codec::splice::Edits;
use crate::protocol::api::{Api, images};
use crate::protocol::{Framing, Protocol};

/// Whose paths a provider has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Platform {
    #[default]
    Plain,
    /// Azure OpenAI: with an API version its deployments stand in the path, without one it is the `v1` style, which
    /// names them in the body.
    Azure { api_version: Option<String> },
    /// Google Vertex AI.
    Vertex { project: String, location: String },
    /// Amazon Bedrock.
    Bedrock { region: String },
}

impl Platform {
    /// Returns the host where the platform is found, when its location decides it.
    pub fn host(&self) -> Option<String> {
        match self {
            Platform::Plain | Platform::Azure { .. } => None,
            Platform::Vertex { location, .. } => Some(match location.as_str() {
                "global" => "aiplatform.googleapis.com".to_owned(),
                "us" | "eu" => format!("aiplatform.{location}.rep.googleapis.com"),
                region => format!("{region}-aiplatform.googleapis.com"),
            }),
            Platform::Bedrock { region } => Some(format!("bedrock-runtime.{region}.amazonaws.com")),
        }
    }

    /// Returns how streams of `protocol` are framed here.
    pub fn framing(&self, protocol: Protocol) -> Framing {
        match self {
            // Whatever the model's own protocol says.
            Platform::Bedrock { .. } => Framing::EventStream,
            Platform::Plain | Platform::Azure { .. } | Platform::Vertex { .. } => {
                protocol.framing()
            }
        }
    }

    /// Returns whether `protocol` counts the tokens of a chat request here.
    pub fn counts_tokens(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Gemini | Protocol::Bedrock => true,
            // Bedrock wants the request wrapped in one of its own.
            Protocol::Anthropic => !matches!(self, Platform::Bedrock { .. }),
            Protocol::OpenaiResponses => *self == Platform::Plain,
            Protocol::OpenaiChat
            | Protocol::OpenaiCompletions
            | Protocol::Cohere
            | Protocol::Ollama => false,
        }
    }
}

/// Returns the path, with the query if there is one, to post a request to. `stream` counts for chats alone.
pub fn path(
    platform: &Platform,
    endpoint: &Endpoint,
    speaks: &Speaks,
    api: Api,
    model: &str,
    stream: bool,
) -> String {
    let call = Call {
        protocol: speaks.protocol,
        api,
        model,
        stream: stream && api == Api::Chat,
    };
    match platform {
        Platform::Plain => plain(endpoint, speaks, &call),
        Platform::Azure { api_version } => azure(endpoint, speaks, api_version.as_deref(), &call),
        Platform::Vertex { project, location } => vertex(endpoint, project, location, &call),
        Platform::Bedrock { .. } => format!("{}{}", endpoint.base_path, bedrock(&call)),
    }
}

/// What is asked.
struct Call<'a> {
    protocol: Protocol,
    api: Api,
    model: &'a str,
    stream: bool,
}

fn plain(endpoint: &Endpoint, speaks: &Speaks, call: &Call<'_>) -> String {
    let base = match (&speaks.path, chat_path(speaks.protocol)) {
        (None, _) if matches!(speaks.protocol, Protocol::Anthropic | Protocol::Ollama) => {
            // Their paths begin at the root; OpenAI's base, which may be written for both, ends in `/v1`.
            let base = &endpoint.base_path;
            base.strip_suffix("/v1").unwrap_or(base)
        }
        (None, _) => &endpoint.base_path,
        (Some(path), Some(_)) if call.api == Api::Chat => return path.clone(),
        // The other calls stand beside the chat, as far as can be told.
        (Some(path), Some(chat)) => path.strip_suffix(chat).unwrap_or(&endpoint.base_path),
        // The model, which follows, stands in the path.
        (Some(base), None) => base.trim_end_matches('/'),
    };
    let call_path = match speaks.protocol {
        Protocol::Gemini => gemini(call),
        Protocol::Bedrock => bedrock(call),
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Cohere
        | Protocol::Ollama => called(speaks.protocol, call.api).to_owned(),
    };
    format!("{base}{call_path}")
}

/// Returns the end of a chat's path; `None` where the model stands in it.
fn chat_path(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::OpenaiChat => Some("/chat/completions"),
        Protocol::OpenaiResponses => Some("/responses"),
        Protocol::OpenaiCompletions => Some("/completions"),
        Protocol::Anthropic => Some("/v1/messages"),
        Protocol::Cohere => Some("/chat"),
        Protocol::Ollama => Some("/api/chat"),
        Protocol::Gemini | Protocol::Bedrock => None,
    }
}

/// Returns the end of a call's path where the model doesn't stand in it.
fn called(protocol: Protocol, api: Api) -> &'static str {
    match (protocol, api) {
        (_, Api::Chat) => chat_path(protocol).unwrap_or("/chat/completions"),
        (Protocol::Anthropic, _) => "/v1/messages/count_tokens",
        (_, Api::CountTokens) => "/responses/input_tokens",
        (Protocol::Cohere, Api::Embeddings) => "/embed",
        (Protocol::Ollama, Api::Embeddings) => "/api/embed",
        // Ollama's base is the root, below which it speaks OpenAI's protocol in `/v1`.
        (Protocol::Ollama, Api::Images) => "/v1/images/generations",
        (_, Api::Embeddings) => "/embeddings",
        (_, Api::Rerank) => "/rerank",
        (_, Api::Moderations) => "/moderations",
        (_, Api::Images) => "/images/generations",
        (_, Api::ImageEdits) => "/images/edits",
        (_, Api::Speech) => "/audio/speech",
        (_, Api::Transcriptions) => "/audio/transcriptions",
        (_, Api::Translations) => "/audio/translations",
    }
}

/// Google's method of a call, after the colon.
fn method(call: &Call<'_>) -> &'static str {
    match call.api {
        Api::CountTokens => ":countTokens",
        Api::Embeddings => ":batchEmbedContents",
        Api::Images | Api::ImageEdits if images::is_imagen(call.model) => ":predict",
        Api::Images | Api::ImageEdits => ":generateContent",
        Api::Chat if call.stream => ":streamGenerateContent?alt=sse",
        Api::Chat
        | Api::Rerank
        | Api::Moderations
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations => ":generateContent",
    }
}

fn gemini(call: &Call<'_>) -> String {
    // `models/…` and `tunedModels/…` are names too.
    let collection = if call.model.contains('/') {
        "/"
    } else {
        "/models/"
    };
    let mut path = collection.to_owned();
    escape(call.model, b"/@:", &mut path);
    path.push_str(method(call));
    path
}

fn vertex(endpoint: &Endpoint, project: &str, location: &str, call: &Call<'_>) -> String {
    let version = match endpoint.base_path.as_str() {
        "" => "/v1",
        base => base,
    };
    let mut path = version.to_owned();
    path.push_str("/projects/");
    escape(project, b":", &mut path);
    let _ = write!(path, "/locations/{location}");
    let (publisher, method) = match (call.protocol, call.api) {
        (Protocol::Gemini, Api::Embeddings) => ("google", ":predict"),
        (Protocol::Gemini, _) => ("google", method(call)),
        (Protocol::Anthropic, Api::CountTokens) => {
            // The model stands in the body alone.
            path.push_str("/publishers/anthropic/models/count-tokens:rawPredict");
            return path;
        }
        (Protocol::Anthropic, _) if call.stream => ("anthropic", ":streamRawPredict"),
        (Protocol::Anthropic, _) => ("anthropic", ":rawPredict"),
        (protocol, api) => {
            path.push_str("/endpoints/openapi");
            path.push_str(called(protocol, api));
            return path;
        }
    };
    // A model of one's own, deployed at an endpoint.
    if call.model.starts_with("endpoints/") {
        path.push('/');
        escape(call.model, b"/", &mut path);
    } else {
        let _ = write!(path, "/publishers/{publisher}/models/");
        let model = call.model.strip_prefix(publisher);
        let model = model.and_then(|model| model.strip_prefix('/'));
        escape(model.unwrap_or(call.model), b"@", &mut path);
    }
    path.push_str(method);
    path
}

fn bedrock(call: &Call<'_>) -> String {
    let method = match (call.protocol, call.api, call.stream) {
        (_, Api::CountTokens, _) => "/count-tokens",
        (Protocol::Bedrock, Api::Chat, false) => "/converse",
        (Protocol::Bedrock, Api::Chat, true) => "/converse-stream",
        (_, _, false) => "/invoke",
        (_, _, true) => "/invoke-with-response-stream",
    };
    let mut path = "/model/".to_owned();
    // A model may be an ARN, whose colons and slashes must not be read as the path's.
    escape(call.model, b"", &mut path);
    path.push_str(method);
    path
}

fn azure(
    endpoint: &Endpoint,
    speaks: &Speaks,
    api_version: Option<&str>,
    call: &Call<'_>,
) -> String {
    if let (Some(path), Api::Chat) = (&speaks.path, call.api) {
        return path.clone();
    }
    let base = &endpoint.base_path;
    let base = base.strip_suffix("/v1").unwrap_or(base);
    let base = base.strip_suffix("/openai").unwrap_or(base);
    let called = called(call.protocol, call.api);
    if call.protocol == Protocol::Anthropic {
        return format!("{base}/anthropic{called}");
    }
    let Some(version) = api_version else {
        return format!("{base}/openai/v1{called}");
    };
    let mut path = format!("{base}/openai");
    if call.protocol != Protocol::OpenaiResponses || !called.starts_with("/responses") {
        path.push_str("/deployments/");
        escape(call.model, b"", &mut path);
    }
    path.push_str(called);
    path.push_str("?api-version=");
    escape(version, b"", &mut path);
    path
}

/// Appends `text`, percent-encoded but for letters, digits, `-._~` and what `keep` names.
fn escape(text: &str, keep: &[u8], out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Returns the request target: `path` and what of the client's own query says something to the provider.
///
/// The gateway has asked for the framing of a stream and a version of the API itself, and a client's `key` is the
/// gateway's, not the provider's.
pub fn target(path: &[u8], query: Option<&str>) -> Vec<u8> {
    let mut target = path.to_vec();
    for pair in query.unwrap_or_default().split('&') {
        let name = pair.split('=').next().unwrap_or_default();
        if matches!(name, "" | "key" | "alt" | "api-version" | "$alt") {
            continue;
        }
        let is_first = !target.contains(&b'?');
        target.push(if is_first { b'?' } else { b'&' });
        target.extend_from_slice(pair.as_bytes());
    }
    target
}

/// Adds the edits that make an Anthropic request one of Vertex: the model stands in the path, the version in the body.
pub fn vertex_edit(body: &[u8], members: &[Member], edits: &mut Edits<'_>) {
    let mut versioned = false;
    for (index, member) in members.iter().enumerate() {
        match &*json::key(body, member) {
            "model" => edits.remove_member(body, members, index),
            "anthropic_version" => versioned = true,
            _ => {}
        }
    }
    if !versioned {
        edits.insert_member(body, "anthropic_version", br#""vertex-2023-10-16""#);
    }
}

#[cfg(test)]
mod tests;
