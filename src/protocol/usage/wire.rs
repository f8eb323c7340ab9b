//! What providers send as usage: their fields as they spell them.

use std::time::Duration;

use super::read::{Wire, count, kept, list, money, object, text};
use super::{SearchSize, decimal};
use crate::error::Result;
use crate::protocol::text::Reader;

/// xAI bills in ticks of 1e-10 dollars.
const PICO_PER_TICK: u64 = 100;

/// An object of counts alone.
macro_rules! counts {
    ($name:ident { $($field:ident: $key:literal,)+ }) => {
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub struct $name {
            $(pub $field: Option<u64>,)+
        }

        impl Wire for $name {
            fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
                match key {
                    $($key => self.$field = count(r)?,)+
                    _ => r.skip()?,
                }
                Ok(())
            }
        }
    };
}

#[derive(Default)]
pub struct OpenaiChat {
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub total_tokens: Option<u64>,
    pub prompt_tokens_details: InputDetails,
    pub completion_tokens_details: OutputDetails,
    /// DeepSeek.
    pub prompt_cache_hit_tokens: Option<u64>,
    /// Databricks: inside `prompt_tokens`, unlike Anthropic's.
    pub cache_read_input_tokens: Option<u64>,
    pub cache_creation_input_tokens: Option<u64>,
    /// Moonshot, and Anthropic's compatible endpoint.
    pub cached_tokens: Option<u64>,
    /// Perplexity, as the three below.
    pub reasoning_tokens: Option<u64>,
    pub citation_tokens: Option<u64>,
    pub num_search_queries: Option<u64>,
    pub search_size: Option<SearchSize>,
    pub bill: Bill,
}

impl Wire for OpenaiChat {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "prompt_tokens" => self.prompt_tokens = count(r)?,
            "completion_tokens" => self.completion_tokens = count(r)?,
            "total_tokens" => self.total_tokens = count(r)?,
            "prompt_tokens_details" => self.prompt_tokens_details = object(r)?,
            "completion_tokens_details" => self.completion_tokens_details = object(r)?,
            "prompt_cache_hit_tokens" => self.prompt_cache_hit_tokens = count(r)?,
            "cache_read_input_tokens" => self.cache_read_input_tokens = count(r)?,
            "cache_creation_input_tokens" => self.cache_creation_input_tokens = count(r)?,
            "cached_tokens" => self.cached_tokens = count(r)?,
            "reasoning_tokens" => self.reasoning_tokens = count(r)?,
            "citation_tokens" => self.citation_tokens = count(r)?,
            "num_search_queries" => self.num_search_queries = count(r)?,
            "search_context_size" => self.search_size = text(r)?.as_deref().and_then(search_size),
            _ => self.bill.member(key, r)?,
        }
        Ok(())
    }
}

fn search_size(word: &str) -> Option<SearchSize> {
    match word {
        "low" => Some(SearchSize::Low),
        "medium" => Some(SearchSize::Medium),
        "high" => Some(SearchSize::High),
        _ => None,
    }
}

/// The provider's own bill, which stands in the usage of whichever protocol it was asked by.
#[derive(Default)]
pub struct Bill {
    /// OpenRouter and other routers: a number. Perplexity: an object.
    cost: Option<u64>,
    cost_details: CostDetails,
    is_byok: bool,
    /// xAI.
    cost_in_usd_ticks: Option<u64>,
}

impl Wire for Bill {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "cost" if r.peek() == b'{' => self.cost = object::<PerplexityCost>(r)?.total_cost,
            "cost" => self.cost = money(r)?,
            "cost_details" => self.cost_details = object(r)?,
            "is_byok" => self.is_byok = r.raw()?.get() == "true",
            "cost_in_usd_ticks" => self.cost_in_usd_ticks = count(r)?,
            _ => r.skip()?,
        }
        Ok(())
    }
}

impl Bill {
    /// Returns what it comes to, in pico-dollars.
    pub fn pico(&self) -> Option<u64> {
        if let Some(ticks) = self.cost_in_usd_ticks {
            return Some(ticks.saturating_mul(PICO_PER_TICK));
        }
        // With the customer's own key OpenRouter's cost is its fee alone.
        let upstream = self
            .cost_details
            .upstream_inference_cost
            .filter(|_| self.is_byok);
        Some(self.cost?.saturating_add(upstream.unwrap_or(0)))
    }
}

#[derive(Default)]
struct CostDetails {
    upstream_inference_cost: Option<u64>,
}

impl Wire for CostDetails {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "upstream_inference_cost" => self.upstream_inference_cost = money(r)?,
            _ => r.skip()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct PerplexityCost {
    total_cost: Option<u64>,
}

impl Wire for PerplexityCost {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "total_cost" => self.total_cost = money(r)?,
            _ => r.skip()?,
        }
        Ok(())
    }
}

#[derive(Default)]
pub struct OpenaiResponses {
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub input_tokens_details: InputDetails,
    pub input_token_details: InputDetails,
    pub output_tokens_details: OutputDetails,
    pub output_token_details: OutputDetails,
    /// To the millisecond.
    pub seconds: Duration,
    /// Perplexity.
    pub tool_calls_details: ToolCalls,
    pub bill: Bill,
}

impl Wire for OpenaiResponses {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "input_tokens" => self.input_tokens = count(r)?,
            "output_tokens" => self.output_tokens = count(r)?,
            "input_tokens_details" => self.input_tokens_details = object(r)?,
            "input_token_details" => self.input_token_details = object(r)?,
            "output_tokens_details" => self.output_tokens_details = object(r)?,
            "output_token_details" => self.output_token_details = object(r)?,
            "seconds" => {
                let thousandths = decimal(r.raw()?.get().trim_matches('"'), 3);
                self.seconds = Duration::from_millis(thousandths.unwrap_or(0));
            }
            "tool_calls_details" => self.tool_calls_details = object(r)?,
            _ => self.bill.member(key, r)?,
        }
        Ok(())
    }
}

#[derive(Default)]
pub struct ToolCalls {
    pub search_web: Invocations,
}

impl Wire for ToolCalls {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "search_web" => self.search_web = object(r)?,
            _ => r.skip()?,
        }
        Ok(())
    }
}

counts! {
    Invocations {
        invocation: "invocation",
    }
}

/// What stands beside the usage of OpenAI's Responses.
#[derive(Default)]
pub struct ToolUsage {
    pub web_search: WebSearches,
}

impl Wire for ToolUsage {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "web_search" => self.web_search = object(r)?,
            _ => r.skip()?,
        }
        Ok(())
    }
}

counts! {
    WebSearches {
        num_requests: "num_requests",
    }
}

#[derive(Clone, Copy, Default, PartialEq)]
pub struct InputDetails {
    pub cached_tokens: Option<u64>,
    pub cache_write_tokens: Option<u64>,
    pub cache_creation_tokens: Option<u64>,
    /// DashScope.
    pub cache_creation_input_tokens: Option<u64>,
    pub audio_tokens: Option<u64>,
    pub image_tokens: Option<u64>,
    pub video_tokens: Option<u64>,
    pub cached_tokens_details: CachedDetails,
}

impl Wire for InputDetails {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "cached_tokens" => self.cached_tokens = count(r)?,
            "cache_write_tokens" => self.cache_write_tokens = count(r)?,
            "cache_creation_tokens" => self.cache_creation_tokens = count(r)?,
            "cache_creation_input_tokens" => self.cache_creation_input_tokens = count(r)?,
            "audio_tokens" => self.audio_tokens = count(r)?,
            "image_tokens" => self.image_tokens = count(r)?,
            "video_tokens" => self.video_tokens = count(r)?,
            "cached_tokens_details" => self.cached_tokens_details = object(r)?,
            _ => r.skip()?,
        }
        Ok(())
    }
}

impl InputDetails {
    pub fn or(self, other: Self) -> Self {
        if self == Self::default() { other } else { self }
    }
}

counts! {
    CachedDetails {
        audio_tokens: "audio_tokens",
        image_tokens: "image_tokens",
    }
}

counts! {
    OutputDetails {
        reasoning_tokens: "reasoning_tokens",
        audio_tokens: "audio_tokens",
        image_tokens: "image_tokens",
        text_tokens: "text_tokens",
    }
}

impl OutputDetails {
    pub fn is_told(&self) -> bool {
        *self != Self::default()
    }

    pub fn or(self, other: Self) -> Self {
        if self.is_told() { self } else { other }
    }
}

#[derive(Default)]
pub struct Anthropic {
    pub input_tokens: Option<u64>,
    pub cache_creation_input_tokens: Option<u64>,
    pub cache_read_input_tokens: Option<u64>,
    pub cache_creation: CacheCreation,
    pub output_tokens: Option<u64>,
    pub output_tokens_details: ThinkingDetails,
    pub server_tool_use: ServerToolUse,
    pub service_tier: Option<Box<str>>,
    pub speed: Option<Box<str>>,
    pub inference_geo: Option<Box<str>>,
    pub iterations: Option<Vec<Iteration>>,
    pub bill: Bill,
}

impl Wire for Anthropic {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "input_tokens" => self.input_tokens = count(r)?,
            "cache_creation_input_tokens" => self.cache_creation_input_tokens = count(r)?,
            "cache_read_input_tokens" => self.cache_read_input_tokens = count(r)?,
            "cache_creation" => self.cache_creation = object(r)?,
            "output_tokens" => self.output_tokens = count(r)?,
            "output_tokens_details" => self.output_tokens_details = object(r)?,
            "server_tool_use" => self.server_tool_use = object(r)?,
            "service_tier" => self.service_tier = kept(r)?,
            "speed" => self.speed = kept(r)?,
            "inference_geo" => self.inference_geo = kept(r)?,
            "iterations" if r.peek() == b'[' => {
                let mut iterations = Vec::new();
                list(r, |iteration| iterations.push(iteration))?;
                self.iterations = Some(iterations);
            }
            _ => self.bill.member(key, r)?,
        }
        Ok(())
    }
}

impl Anthropic {
    pub fn is_told(&self) -> bool {
        self.input_tokens.is_some()
            || self.output_tokens.is_some()
            || self.cache_read_input_tokens.is_some()
            || self.cache_creation_input_tokens.is_some()
    }
}

counts! {
    CacheCreation {
        ephemeral_5m_input_tokens: "ephemeral_5m_input_tokens",
        ephemeral_1h_input_tokens: "ephemeral_1h_input_tokens",
    }
}

impl CacheCreation {
    pub fn is_told(&self) -> bool {
        self.ephemeral_5m_input_tokens.is_some() || self.ephemeral_1h_input_tokens.is_some()
    }
}

counts! {
    ThinkingDetails {
        thinking_tokens: "thinking_tokens",
    }
}

counts! {
    ServerToolUse {
        web_search_requests: "web_search_requests",
    }
}

/// A usage object with two fields more.
#[derive(Default)]
pub struct Iteration {
    pub kind: Option<Box<str>>,
    pub model: Option<Box<str>>,
    pub usage: Anthropic,
}

impl Wire for Iteration {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "type" => self.kind = kept(r)?,
            "model" => self.model = kept(r)?,
            // Nothing nests without end.
            "iterations" => r.skip()?,
            _ => self.usage.member(key, r)?,
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
pub struct Gemini {
    pub prompt_token_count: Option<u64>,
    pub candidates_token_count: Option<u64>,
    pub response_token_count: Option<u64>,
    pub thoughts_token_count: Option<u64>,
    pub tool_use_prompt_token_count: Option<u64>,
    pub cached_content_token_count: Option<u64>,
    pub total_token_count: Option<u64>,
    pub prompt_tokens_details: Modalities,
    pub tool_use_prompt_tokens_details: Modalities,
    pub cache_tokens_details: Modalities,
    pub candidates_tokens_details: Modalities,
    pub response_tokens_details: Modalities,
    pub traffic_type: Option<Box<str>>,
    /// The Gemini API's own word, where Vertex has `trafficType`.
    pub service_tier: Option<Box<str>>,
}

impl Wire for Gemini {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "promptTokenCount" => self.prompt_token_count = count(r)?,
            "candidatesTokenCount" => self.candidates_token_count = count(r)?,
            "responseTokenCount" => self.response_token_count = count(r)?,
            "thoughtsTokenCount" => self.thoughts_token_count = count(r)?,
            "toolUsePromptTokenCount" => self.tool_use_prompt_token_count = count(r)?,
            "cachedContentTokenCount" => self.cached_content_token_count = count(r)?,
            "totalTokenCount" => self.total_token_count = count(r)?,
            "promptTokensDetails" => self.prompt_tokens_details = modalities(r)?,
            "toolUsePromptTokensDetails" => {
                self.tool_use_prompt_tokens_details = modalities(r)?;
            }
            "cacheTokensDetails" => self.cache_tokens_details = modalities(r)?,
            "candidatesTokensDetails" => self.candidates_tokens_details = modalities(r)?,
            "responseTokensDetails" => self.response_tokens_details = modalities(r)?,
            "trafficType" => self.traffic_type = kept(r)?,
            "serviceTier" => self.service_tier = kept(r)?,
            _ => r.skip()?,
        }
        Ok(())
    }
}

impl Gemini {
    /// Reads one where a reader stands.
    pub fn take(r: &mut Reader<'_>) -> Result<Self> {
        object(r)
    }

    pub fn is_told(&self) -> bool {
        self.prompt_token_count.is_some()
            || self.candidates_token_count.is_some()
            || self.response_token_count.is_some()
            || self.thoughts_token_count.is_some()
            || self.total_token_count.is_some()
    }
}

/// What of some tokens is not text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Modalities {
    pub audio: u64,
    pub image: u64,
    pub video: u64,
}

impl Modalities {
    pub fn plus(self, other: Self) -> Self {
        Self {
            audio: self.audio.saturating_add(other.audio),
            image: self.image.saturating_add(other.image),
            video: self.video.saturating_add(other.video),
        }
    }
}

/// Reads a list of `{"modality":"TEXT","tokenCount":230}`.
fn modalities(r: &mut Reader<'_>) -> Result<Modalities> {
    let mut sums = Modalities::default();
    let whole = list(r, |one: Modality| sums = sums.plus(one.sum()))?;
    Ok(if whole { sums } else { Modalities::default() })
}

#[derive(Default)]
struct Modality {
    kind: Medium,
    tokens: Option<u64>,
}

#[derive(Clone, Copy, Default)]
enum Medium {
    #[default]
    Text,
    Audio,
    Image,
    Video,
}

impl Wire for Modality {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "modality" => {
                self.kind = match text(r)?.as_deref() {
                    Some("AUDIO") => Medium::Audio,
                    Some("IMAGE") => Medium::Image,
                    Some("VIDEO") => Medium::Video,
                    Some(_) | None => Medium::Text,
                };
            }
            "tokenCount" => self.tokens = count(r)?,
            _ => r.skip()?,
        }
        Ok(())
    }
}

impl Modality {
    fn sum(&self) -> Modalities {
        let tokens = self.tokens.unwrap_or(0);
        let mut sum = Modalities::default();
        match self.kind {
            Medium::Text => {}
            Medium::Audio => sum.audio = tokens,
            Medium::Image => sum.image = tokens,
            Medium::Video => sum.video = tokens,
        }
        sum
    }
}

#[derive(Default)]
pub struct Bedrock {
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub cache_read_input_tokens: Option<u64>,
    pub cache_write_input_tokens: Option<u64>,
    /// Older services spell them so.
    pub cache_read_input_token_count: Option<u64>,
    pub cache_write_input_token_count: Option<u64>,
    /// Writes that last an hour.
    pub hour: u64,
}

impl Wire for Bedrock {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "inputTokens" => self.input_tokens = count(r)?,
            "outputTokens" => self.output_tokens = count(r)?,
            "cacheReadInputTokens" => self.cache_read_input_tokens = count(r)?,
            "cacheWriteInputTokens" => self.cache_write_input_tokens = count(r)?,
            "cacheReadInputTokenCount" => self.cache_read_input_token_count = count(r)?,
            "cacheWriteInputTokenCount" => self.cache_write_input_token_count = count(r)?,
            "cacheDetails" => {
                let mut hour = 0u64;
                let whole = list(r, |one: BedrockCache| {
                    let tokens = one.tokens.filter(|_| one.is_hour);
                    hour = hour.saturating_add(tokens.unwrap_or(0));
                })?;
                self.hour = if whole { hour } else { 0 };
            }
            _ => r.skip()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct BedrockCache {
    is_hour: bool,
    tokens: Option<u64>,
}

impl Wire for BedrockCache {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "ttl" => self.is_hour = text(r)?.as_deref() == Some("1h"),
            "inputTokens" => self.tokens = count(r)?,
            _ => r.skip()?,
        }
        Ok(())
    }
}

#[derive(Default)]
pub struct Cohere {
    pub billed_units: Billed,
}

impl Wire for Cohere {
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()> {
        match key {
            "billed_units" => self.billed_units = object(r)?,
            _ => r.skip()?,
        }
        Ok(())
    }
}

counts! {
    Billed {
        input_tokens: "input_tokens",
        output_tokens: "output_tokens",
        search_units: "search_units",
    }
}

counts! {
    Ollama {
        prompt_eval_count: "prompt_eval_count",
        eval_count: "eval_count",
    }
}

counts! {
    MistralOcr {
        pages_processed: "pages_processed",
    }
}
