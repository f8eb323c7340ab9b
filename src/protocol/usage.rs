//! Usage: what an answer took, in disjoint buckets, from every wire format.

/// Tokens and units of one answer.
///
/// `input` and `output` are totals; the other token fields are parts of them, disjoint but for `audio_cached` and
/// `image_cached`, which overlap `cache_read`. The same for streams and whole answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens: fresh + cache reads + cache writes + audio + images + tool-use prompts.
    pub input: u64,
    pub cache_read: u64,
    /// Writes with the provider's default lifetime (Anthropic 5 minutes, OpenAI 30 minutes).
    pub cache_write: u64,
    pub cache_write_1h: u64,
    pub cache_write_12h: u64,
    /// Audio, image and video tokens of the input, cached ones included.
    pub audio_in: u64,
    pub image_in: u64,
    pub video_in: u64,
    pub audio_cached: u64,
    pub image_cached: u64,
    /// All output tokens: text + reasoning + audio + images.
    pub output: u64,
    pub reasoning: u64,
    pub citation: u64,
    pub audio_out: u64,
    pub image_out: u64,
    /// Web searches that the provider bills apart.
    pub searches: u64,
    /// The provider's own bill, in pico-dollars.
    pub reported: Option<u64>,
    /// The service tier that served it (OpenAI `service_tier`, Anthropic `usage.service_tier` or `speed`).
    pub tier: Option<Box<str>>,
    /// Anthropic's `inference_geo`.
    pub geo: Option<Box<str>>,
    /// The provider sent no usage, or not all of it: counted here by estimate.
    pub estimated: bool,
}

impl Usage {
    /// Overlays an OpenAI chat `usage` object (its JSON text). Returns whether it was one.
    pub fn read_openai_chat(&mut self, _json: &[u8]) -> bool {
        false
    }

    /// Overlays an Anthropic `usage` object: cumulative; absent and null fields leave what was there.
    pub fn read_anthropic(&mut self, _json: &[u8]) -> bool {
        false
    }

    /// Appends an OpenAI chat `usage` object.
    pub fn write_openai_chat(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{}");
    }

    /// Appends an Anthropic `usage` object.
    pub fn write_anthropic(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{}");
    }
}
