//! The recordings of chat-like APIs: which surface speaks which protocol, and the exchanges of each.

use std::path::Path;

use serde_json::Value;
use strait::protocol::{Protocol, decode_response};

use super::shape;

/// Who speaks what.
pub const SURFACES: [(&str, Protocol); 27] = [
    ("openai-chat", Protocol::OpenaiChat),
    ("azure-chat", Protocol::OpenaiChat),
    ("cerebras-chat", Protocol::OpenaiChat),
    ("deepseek-chat", Protocol::OpenaiChat),
    ("groq-chat", Protocol::OpenaiChat),
    ("huggingface-chat", Protocol::OpenaiChat),
    ("mistral-chat", Protocol::OpenaiChat),
    ("ollama-v1-chat-completions", Protocol::OpenaiChat),
    ("openrouter-chat", Protocol::OpenaiChat),
    ("perplexity-chat", Protocol::OpenaiChat),
    ("together-chat", Protocol::OpenaiChat),
    ("xai-chat", Protocol::OpenaiChat),
    ("zai-chat", Protocol::OpenaiChat),
    ("openai-responses", Protocol::OpenaiResponses),
    ("azure-responses", Protocol::OpenaiResponses),
    ("openai-completions", Protocol::OpenaiCompletions),
    ("anthropic-messages", Protocol::Anthropic),
    ("bedrock-invoke", Protocol::Anthropic),
    ("bedrock-invoke-with-response-stream", Protocol::Anthropic),
    ("bedrock-converse", Protocol::Bedrock),
    ("bedrock-converse-stream", Protocol::Bedrock),
    ("cohere-v2-chat", Protocol::Cohere),
    ("gemini-generateContent", Protocol::Gemini),
    ("gemini-streamGenerateContent", Protocol::Gemini),
    ("vertex-generateContent", Protocol::Gemini),
    ("vertex-streamGenerateContent", Protocol::Gemini),
    ("ollama-api-chat", Protocol::Ollama),
];

/// One exchange.
pub struct Recording {
    pub name: String,
    pub protocol: Protocol,
    pub request: Value,
    pub status: u64,
    /// The whole answer, or null.
    pub answer: Value,
    pub stream: Option<Vec<u8>>,
}

/// Returns every exchange of the protocols that are spoken.
pub fn all() -> Vec<Recording> {
    let shared = std::env::var("STRAIT_SHARED")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let folder = Path::new(&shared).join("recordings");
    if !folder.is_dir() {
        eprintln!("not run: {} is absent", folder.display());
    }
    SURFACES
        .into_iter()
        .filter(|(_, protocol)| spoken(*protocol))
        .flat_map(|(surface, protocol)| of(&folder.join(surface), surface, protocol))
        .collect()
}

/// Whether the protocol has its translation yet.
pub fn spoken(protocol: Protocol) -> bool {
    decode_response(protocol, b"{}", &shape())
        .err()
        .is_none_or(|error| !error.message.contains("not spoken"))
}

fn of(folder: &Path, surface: &str, protocol: Protocol) -> Vec<Recording> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths
        .into_iter()
        .filter_map(|path| {
            let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let mut request = record["request"]["body"].take();
            // InvokeModel takes every maker's own words.
            if surface.starts_with("bedrock-invoke") {
                request.as_object_mut()?.remove("anthropic_version")?;
                request["model"] = "claude".into();
            }
            let answer = record["response"]["body"].take();
            Some(Recording {
                name: format!("{surface}/{}", path.file_stem()?.to_string_lossy()),
                protocol,
                request,
                status: record["response"]["status"].as_u64().unwrap(),
                stream: stream_of(folder, &record, &answer),
                answer,
            })
        })
        .collect()
}

/// Returns the raw stream. Google's without `alt=sse` is an array of the same chunks.
fn stream_of(folder: &Path, record: &Value, answer: &Value) -> Option<Vec<u8>> {
    if let Some(file) = record["response"]["body_file"].as_str() {
        return std::fs::read(folder.join(file)).ok();
    }
    let chunks = answer.as_array()?;
    let text: String = chunks
        .iter()
        .map(|chunk| format!("data: {chunk}\r\n\r\n"))
        .collect();
    Some(text.into_bytes())
}
