//! What is no chat and passes unread: what its answer took, where the answer itself tells it.

use crate::codec::json;
use crate::protocol::Protocol;
use crate::protocol::api::{self, Api};
use crate::protocol::usage::Usage;

/// What is asked for, known by the path alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// In the words of a protocol.
    Api(Api, Protocol),
    /// Documents read by the page, as Mistral does.
    Pages,
}

impl Task {
    /// Returns what a provider's path is for; `None` for a path that is not understood.
    pub fn of(path: &str) -> Option<Self> {
        use Protocol::{Cohere, Gemini, Ollama, OpenaiChat};
        const PATHS: [(&str, Task); 11] = [
            ("/embeddings", Task::Api(Api::Embeddings, OpenaiChat)),
            ("/embed", Task::Api(Api::Embeddings, Cohere)),
            ("/api/embed", Task::Api(Api::Embeddings, Ollama)),
            (":embedContent", Task::Api(Api::Embeddings, Gemini)),
            (":batchEmbedContents", Task::Api(Api::Embeddings, Gemini)),
            ("/rerank", Task::Api(Api::Rerank, Cohere)),
            ("/images/generations", Task::Api(Api::Images, OpenaiChat)),
            ("/images/edits", Task::Api(Api::ImageEdits, OpenaiChat)),
            (
                "/audio/transcriptions",
                Task::Api(Api::Transcriptions, OpenaiChat),
            ),
            (
                "/audio/translations",
                Task::Api(Api::Translations, OpenaiChat),
            ),
            ("/ocr", Task::Pages),
        ];
        let known = PATHS.iter().filter(|(end, _)| path.ends_with(end));
        // The longest says the most.
        known
            .max_by_key(|(end, _)| end.len())
            .map(|(_, task)| *task)
    }

    /// Returns what a whole answer took, and the model that it names.
    pub fn read(self, answer: &[u8]) -> (Option<Usage>, Option<String>) {
        let mut members = Vec::new();
        if json::members(answer, usize::MAX, &mut members).is_err() {
            return (None, None);
        }
        let member = |name: &str| {
            let mut members = members.iter();
            let found = members.find(|member| json::key(answer, member) == name)?;
            Some(found.value.clone())
        };
        let model = member("model").and_then(|value| json::string(answer, value));
        let usage = match self {
            // The request went by unread: what only it can tell is not told.
            Task::Api(api, protocol) => api::usage(api, protocol, b"", answer),
            Task::Pages => member("usage_info").and_then(|value| {
                let mut usage = Usage::default();
                let told = usage.read_mistral_ocr(answer.get(value)?);
                told.then_some(usage)
            }),
        };
        (usage, model.map(std::borrow::Cow::into_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_tells_what_is_asked_for() {
        let of = |path: &str| match Task::of(path) {
            Some(Task::Api(api, protocol)) => Some((api, protocol)),
            Some(Task::Pages) | None => None,
        };
        let embeddings = |protocol| Some((Api::Embeddings, protocol));
        assert_eq!(of("/v1/embeddings"), embeddings(Protocol::OpenaiChat));
        assert_eq!(of("/v2/embed"), embeddings(Protocol::Cohere));
        assert_eq!(of("/api/embed"), embeddings(Protocol::Ollama));
        assert_eq!(of("/models/m:embedContent"), embeddings(Protocol::Gemini));
        assert_eq!(of("/v2/rerank"), Some((Api::Rerank, Protocol::Cohere)));
        assert_eq!(Task::of("/v1/ocr"), Some(Task::Pages));
        assert_eq!(Task::of("/v1/files"), None);
    }

    #[test]
    fn the_answer_tells_what_it_took_and_of_whom() {
        let read = br#"{"model":"mistral-ocr-latest","pages":[],"usage_info":{"pages_processed":12,"doc_size_bytes":1}}"#;
        let (usage, model) = Task::Pages.read(read);
        assert_eq!(usage.expect("usage").pages, 12);
        assert_eq!(model.as_deref(), Some("mistral-ocr-latest"));
        let embedded = br#"{"object":"list","model":"m","data":[{"index":0,"embedding":[1]}],"usage":{"prompt_tokens":5,"total_tokens":5}}"#;
        let task = Task::of("/v1/embeddings").expect("a task");
        assert_eq!(task.read(embedded).0.expect("usage").input, 5);
        let silent = br#"{"object":"list","data":[{"index":0,"embedding":[1]}]}"#;
        assert_eq!(task.read(silent), (None, None));
        assert_eq!(task.read(b"no answer"), (None, None));
    }
}
