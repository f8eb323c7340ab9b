//! What is asked of a model: a chat, an embedding, an image, …

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
