//! Usage of real answers: read, and in agreement with the totals that the providers state.

use std::path::Path;

use serde_json::Value;
use strait::protocol::usage::Usage;

use super::shared;

/// A folder of recordings, how their usage is read, and where in an answer or an event it may stand.
type Family = (
    &'static str,
    fn(&mut Usage, &[u8]) -> bool,
    &'static [&'static str],
);

const CHAT: &[&str] = &["/usage", "/x_groq/usage"];

const FAMILIES: [Family; 24] = [
    (
        "anthropic-messages",
        Usage::read_anthropic,
        &["/message/usage", "/usage"],
    ),
    ("azure-chat", Usage::read_openai_chat, CHAT),
    (
        "azure-responses",
        Usage::read_openai_responses,
        &["/usage", "/response/usage"],
    ),
    ("bedrock-converse", Usage::read_bedrock, &["/usage"]),
    ("cerebras-chat", Usage::read_openai_chat, CHAT),
    (
        "cohere-v2-chat",
        Usage::read_cohere,
        &["/usage", "/delta/usage"],
    ),
    ("deepseek-chat", Usage::read_openai_chat, CHAT),
    ("gemini-generateContent", gemini, &["/usageMetadata"]),
    ("gemini-streamGenerateContent", gemini, &["/usageMetadata"]),
    ("groq-chat", Usage::read_openai_chat, CHAT),
    ("huggingface-chat", Usage::read_openai_chat, CHAT),
    ("mistral-chat", Usage::read_openai_chat, CHAT),
    ("ollama-v1-chat-completions", Usage::read_openai_chat, CHAT),
    ("openai-chat", Usage::read_openai_chat, CHAT),
    ("openai-embeddings", Usage::read_openai_chat, CHAT),
    ("openai-images", Usage::read_openai_images, &["/usage"]),
    (
        "openai-responses",
        Usage::read_openai_responses,
        &["/usage", "/response/usage"],
    ),
    ("openrouter-chat", Usage::read_openai_chat, CHAT),
    ("perplexity-chat", Usage::read_openai_chat, CHAT),
    ("together-chat", Usage::read_openai_chat, CHAT),
    ("vertex-generateContent", gemini, &["/usageMetadata"]),
    ("vertex-streamGenerateContent", gemini, &["/usageMetadata"]),
    ("xai-chat", Usage::read_openai_chat, CHAT),
    ("zai-chat", Usage::read_openai_chat, CHAT),
];

fn gemini(usage: &mut Usage, json: &[u8]) -> bool {
    usage.read_gemini(json, false)
}

#[test]
fn every_recorded_usage_is_read_and_adds_up() {
    let recordings = shared().join("recordings");
    if !recordings.exists() {
        eprintln!(
            "{} is absent: nothing recorded is read",
            recordings.display()
        );
        return;
    }
    let mut seen = 0;
    for (folder, read, places) in FAMILIES {
        for file in std::fs::read_dir(recordings.join(folder)).unwrap() {
            let path = file.unwrap().path();
            let mut usage = Usage::default();
            let mut stated = None;
            for event in events(&path) {
                for raw in places
                    .iter()
                    .filter_map(|place| event.pointer(place))
                    .filter(|raw| raw.is_object() && !is_bare(raw))
                {
                    assert!(
                        read(&mut usage, raw.to_string().as_bytes()),
                        "{}: {raw}",
                        path.display()
                    );
                    whole(&usage, &path);
                    stated = total(raw).or(stated);
                    seen += 1;
                }
            }
            if let Some(stated) = stated {
                assert_eq!(usage.total(), stated, "{}: {usage:?}", path.display());
            }
        }
    }
    assert!(seen > 500, "{seen}");
}

/// The answers in a recording: one, or the events of a stream.
fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "sse") {
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        return data
            .filter_map(|data| serde_json::from_str(data.trim()).ok())
            .collect();
    }
    let recording: Value = serde_json::from_str(&text).unwrap_or_default();
    recording
        .pointer("/response/body")
        .cloned()
        .into_iter()
        .collect()
}

/// Vertex sends a `usageMetadata` without counts before the last one.
fn is_bare(raw: &Value) -> bool {
    raw.as_object()
        .is_some_and(|fields| fields.keys().all(|name| name == "trafficType"))
}

fn total(raw: &Value) -> Option<u64> {
    ["total_tokens", "totalTokenCount", "totalTokens"]
        .iter()
        .find_map(|name| raw.get(name)?.as_u64())
}

fn whole(usage: &Usage, path: &Path) {
    let path = path.display();
    assert!(
        usage.cache_read + usage.written() <= usage.input,
        "{path}: {usage:?}"
    );
    assert!(
        usage.audio_in + usage.image_in + usage.video_in <= usage.input,
        "{path}: {usage:?}"
    );
    let parts = usage.reasoning + usage.citation + usage.audio_out + usage.image_out;
    assert!(parts <= usage.output, "{path}: {usage:?}");
}
