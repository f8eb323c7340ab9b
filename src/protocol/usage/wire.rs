//! What providers send as usage: their fields as they spell them, read leniently.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{SearchSize, decimal};

/// Pico-dollars in a dollar, as a power of ten.
const PICO: u32 = 12;
/// xAI bills in ticks of 1e-10 dollars.
const PICO_PER_TICK: u64 = 100;

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct OpenaiChat {
    #[serde(deserialize_with = "count")]
    pub prompt_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub completion_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub total_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub prompt_tokens_details: InputDetails,
    #[serde(deserialize_with = "lenient")]
    pub completion_tokens_details: OutputDetails,
    /// DeepSeek.
    #[serde(deserialize_with = "count")]
    pub prompt_cache_hit_tokens: Option<u64>,
    /// Databricks: inside `prompt_tokens`, unlike Anthropic's.
    #[serde(deserialize_with = "count")]
    pub cache_read_input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub cache_creation_input_tokens: Option<u64>,
    /// Moonshot, and Anthropic's compatible endpoint.
    #[serde(deserialize_with = "count")]
    pub cached_tokens: Option<u64>,
    /// Perplexity, as the three below.
    #[serde(deserialize_with = "count")]
    pub reasoning_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub citation_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub num_search_queries: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub search_context_size: Option<Box<str>>,
}

impl OpenaiChat {
    pub fn search_size(&self) -> Option<SearchSize> {
        match self.search_context_size.as_deref()? {
            "low" => Some(SearchSize::Low),
            "medium" => Some(SearchSize::Medium),
            "high" => Some(SearchSize::High),
            _ => None,
        }
    }
}

/// The provider's own bill, which stands in the usage of whichever protocol it was asked by.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct Bill<'b> {
    /// OpenRouter and other routers: a number. Perplexity: an object.
    #[serde(borrow)]
    cost: Option<&'b RawValue>,
    #[serde(borrow, deserialize_with = "lenient")]
    cost_details: CostDetails<'b>,
    #[serde(deserialize_with = "lenient")]
    is_byok: bool,
    /// xAI.
    #[serde(deserialize_with = "count")]
    cost_in_usd_ticks: Option<u64>,
}

impl Bill<'_> {
    /// Returns what a usage object says that it cost, in pico-dollars.
    pub fn read(usage: &[u8]) -> Option<u64> {
        // Few tell one: the others are not read twice.
        memchr::memmem::find(usage, b"\"cost")?;
        serde_json::from_slice::<Bill<'_>>(usage).ok()?.pico()
    }

    fn pico(&self) -> Option<u64> {
        if let Some(ticks) = self.cost_in_usd_ticks {
            return Some(ticks.saturating_mul(PICO_PER_TICK));
        }
        let raw = self.cost?;
        let cost = money(raw).or_else(|| {
            let inner: PerplexityCost<'_> = serde_json::from_str(raw.get()).ok()?;
            money(inner.total_cost?)
        })?;
        // With the customer's own key OpenRouter's cost is its fee alone.
        let upstream = match self.cost_details.upstream_inference_cost {
            Some(raw) if self.is_byok => money(raw).unwrap_or(0),
            Some(_) | None => 0,
        };
        Some(cost.saturating_add(upstream))
    }
}

/// Reads dollars, as a JSON number or a string, as pico-dollars.
fn money(raw: &RawValue) -> Option<u64> {
    decimal(raw.get().trim_matches('"'), PICO)
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct CostDetails<'b> {
    #[serde(borrow)]
    upstream_inference_cost: Option<&'b RawValue>,
}

#[derive(serde::Deserialize)]
struct PerplexityCost<'b> {
    #[serde(borrow, default)]
    total_cost: Option<&'b RawValue>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct OpenaiResponses {
    #[serde(deserialize_with = "count")]
    pub input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub output_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub input_tokens_details: InputDetails,
    #[serde(deserialize_with = "lenient")]
    pub input_token_details: InputDetails,
    #[serde(deserialize_with = "lenient")]
    pub output_tokens_details: OutputDetails,
    #[serde(deserialize_with = "lenient")]
    pub output_token_details: OutputDetails,
    #[serde(deserialize_with = "seconds")]
    pub seconds: Duration,
    /// Perplexity.
    #[serde(deserialize_with = "lenient")]
    pub tool_calls_details: ToolCalls,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct ToolCalls {
    #[serde(deserialize_with = "lenient")]
    pub search_web: Invocations,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct Invocations {
    #[serde(deserialize_with = "count")]
    pub invocation: Option<u64>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct ToolUsage {
    #[serde(deserialize_with = "lenient")]
    pub web_search: WebSearches,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct WebSearches {
    #[serde(deserialize_with = "count")]
    pub num_requests: Option<u64>,
}

#[derive(Clone, Copy, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub struct InputDetails {
    #[serde(deserialize_with = "count")]
    pub cached_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub cache_write_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub cache_creation_tokens: Option<u64>,
    /// DashScope.
    #[serde(deserialize_with = "count")]
    pub cache_creation_input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub audio_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub image_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub video_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub cached_tokens_details: CachedDetails,
}

impl InputDetails {
    pub fn or(self, other: Self) -> Self {
        if self == Self::default() { other } else { self }
    }
}

#[derive(Clone, Copy, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub struct CachedDetails {
    #[serde(deserialize_with = "count")]
    pub audio_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub image_tokens: Option<u64>,
}

#[derive(Clone, Copy, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub struct OutputDetails {
    #[serde(deserialize_with = "count")]
    pub reasoning_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub audio_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub image_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub text_tokens: Option<u64>,
}

impl OutputDetails {
    pub fn is_told(&self) -> bool {
        *self != Self::default()
    }

    pub fn or(self, other: Self) -> Self {
        if self.is_told() { self } else { other }
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct Anthropic {
    #[serde(deserialize_with = "count")]
    pub input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub cache_creation_input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub cache_read_input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub cache_creation: CacheCreation,
    #[serde(deserialize_with = "count")]
    pub output_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub output_tokens_details: ThinkingDetails,
    #[serde(deserialize_with = "lenient")]
    pub server_tool_use: ServerToolUse,
    #[serde(deserialize_with = "lenient")]
    pub service_tier: Option<Box<str>>,
    #[serde(deserialize_with = "lenient")]
    pub speed: Option<Box<str>>,
    #[serde(deserialize_with = "lenient")]
    pub inference_geo: Option<Box<str>>,
    #[serde(deserialize_with = "lenient")]
    pub iterations: Option<Vec<Iteration>>,
}

impl Anthropic {
    pub fn is_told(&self) -> bool {
        self.input_tokens.is_some()
            || self.output_tokens.is_some()
            || self.cache_read_input_tokens.is_some()
            || self.cache_creation_input_tokens.is_some()
    }
}

#[derive(Clone, Copy, Default, serde::Deserialize)]
#[serde(default)]
pub struct CacheCreation {
    #[serde(deserialize_with = "count")]
    pub ephemeral_5m_input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub ephemeral_1h_input_tokens: Option<u64>,
}

impl CacheCreation {
    pub fn is_told(&self) -> bool {
        self.ephemeral_5m_input_tokens.is_some() || self.ephemeral_1h_input_tokens.is_some()
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct ThinkingDetails {
    #[serde(deserialize_with = "count")]
    pub thinking_tokens: Option<u64>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct ServerToolUse {
    #[serde(deserialize_with = "count")]
    pub web_search_requests: Option<u64>,
}

pub struct Iteration {
    pub kind: Option<Box<str>>,
    pub model: Option<Box<str>>,
    pub usage: Anthropic,
}

impl<'de> Deserialize<'de> for Iteration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Head {
            #[serde(rename = "type", deserialize_with = "lenient")]
            kind: Option<Box<str>>,
            #[serde(deserialize_with = "lenient")]
            model: Option<Box<str>>,
        }
        // Read twice rather than flattened: an iteration has a usage object's fields beside its own two.
        let raw = <&'de RawValue>::deserialize(from)?;
        let head: Head = serde_json::from_str(raw.get()).unwrap_or_default();
        let mut usage: Anthropic = serde_json::from_str(raw.get()).unwrap_or_default();
        usage.iterations = None;
        Ok(Self {
            kind: head.kind,
            model: head.model,
            usage,
        })
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Gemini {
    #[serde(deserialize_with = "count")]
    pub prompt_token_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub candidates_token_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub response_token_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub thoughts_token_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub tool_use_prompt_token_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub cached_content_token_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub total_token_count: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub prompt_tokens_details: Vec<Modality>,
    #[serde(deserialize_with = "lenient")]
    pub tool_use_prompt_tokens_details: Vec<Modality>,
    #[serde(deserialize_with = "lenient")]
    pub cache_tokens_details: Vec<Modality>,
    #[serde(deserialize_with = "lenient")]
    pub candidates_tokens_details: Vec<Modality>,
    #[serde(deserialize_with = "lenient")]
    pub response_tokens_details: Vec<Modality>,
    #[serde(deserialize_with = "lenient")]
    pub traffic_type: Option<Box<str>>,
    /// The Gemini API's own word, where Vertex has `trafficType`.
    #[serde(deserialize_with = "lenient")]
    pub service_tier: Option<Box<str>>,
}

impl Gemini {
    pub fn is_told(&self) -> bool {
        self.prompt_token_count.is_some()
            || self.candidates_token_count.is_some()
            || self.response_token_count.is_some()
            || self.thoughts_token_count.is_some()
            || self.total_token_count.is_some()
    }
}

#[derive(Clone, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Modality {
    #[serde(deserialize_with = "lenient")]
    pub modality: Box<str>,
    #[serde(deserialize_with = "count")]
    pub token_count: Option<u64>,
}

impl Modality {
    pub fn count(&self) -> u64 {
        self.token_count.unwrap_or(0)
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Bedrock {
    #[serde(deserialize_with = "count")]
    pub input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub output_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub cache_read_input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub cache_write_input_tokens: Option<u64>,
    /// Older services spell them so.
    #[serde(deserialize_with = "count")]
    pub cache_read_input_token_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub cache_write_input_token_count: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub cache_details: Vec<BedrockCache>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BedrockCache {
    #[serde(deserialize_with = "lenient")]
    pub ttl: Box<str>,
    #[serde(deserialize_with = "count")]
    pub input_tokens: Option<u64>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct Cohere {
    #[serde(deserialize_with = "lenient")]
    pub billed_units: Billed,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct Billed {
    #[serde(deserialize_with = "count")]
    pub input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub output_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub search_units: Option<u64>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct Ollama {
    #[serde(deserialize_with = "count")]
    pub prompt_eval_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    pub eval_count: Option<u64>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct MistralOcr {
    #[serde(deserialize_with = "count")]
    pub pages_processed: Option<u64>,
}

/// Reads a value, or its default where it is null or of another shape.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    let raw = <&'de RawValue>::deserialize(from)?;
    Ok(serde_json::from_str(raw.get()).unwrap_or_default())
}

/// Reads a number of seconds to the millisecond.
fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let raw = <&'de RawValue>::deserialize(from)?;
    Ok(Duration::from_millis(
        decimal(raw.get().trim_matches('"'), 3).unwrap_or(0),
    ))
}

/// Reads a count: an integer, a float or a string of one. Negative is nothing; anything else is absent.
fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    from.deserialize_any(Count)
}

struct Count;

impl<'de> Visitor<'de> for Count {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a count")
    }

    fn visit_u64<E>(self, count: u64) -> Result<Self::Value, E> {
        Ok(Some(count))
    }

    fn visit_i64<E>(self, count: i64) -> Result<Self::Value, E> {
        Ok(Some(u64::try_from(count).unwrap_or(0)))
    }

    fn visit_f64<E>(self, count: f64) -> Result<Self::Value, E> {
        // `as` saturates, and takes what is not a number for zero.
        Ok(Some(count as u64))
    }

    fn visit_str<E>(self, count: &str) -> Result<Self::Value, E> {
        Ok(decimal(count.trim(), 0))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}
