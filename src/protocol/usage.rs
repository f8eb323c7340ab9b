//! Usage: what an answer took, in buckets that can be priced, from every wire format.
//!
//! The readers are lenient on purpose: a number may come as a float or a string, a details object as null, and
//! a part may claim more than its whole. None of that may cost the answer its accounting, so what can't be read
//! counts as absent, and parts are cut to their wholes.

use std::io::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
pub(super) use wire::Gemini;
use wire::{
    Anthropic, Bedrock, Bill, Cohere, Iteration, MistralOcr, Ollama, OpenaiChat, OpenaiResponses,
    ToolUsage,
};

use super::text::Reader;
use crate::error::Result;

mod read;
mod wire;

/// Tokens and units of one answer.
///
/// `input` and `output` are totals; the other token fields are parts of them, disjoint but for `audio_cached` and
/// `image_cached`, which overlap `cache_read`. The same for streams and whole answers.
///
/// It is written with answers that nodes share: a field that an older or newer build doesn't know is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    pub maps_searches: u64,
    pub file_searches: u64,
    /// Perplexity's `search_context_size`, which prices the request itself.
    pub search_size: Option<SearchSize>,
    /// Rerank search units.
    pub queries: u64,
    /// Pages of documents read (OCR).
    pub pages: u64,
    /// Speech heard, where it is billed by time.
    pub duration: Duration,
    /// Characters spoken, where speech is billed by them.
    pub characters: u64,
    /// Images made, where they are billed by the piece.
    pub images: u64,
    /// The provider's own bill, in pico-dollars.
    pub reported: Option<u64>,
    /// The service tier that served it (OpenAI `service_tier`, Anthropic `usage.service_tier` or `speed`).
    pub tier: Option<Box<str>>,
    /// Anthropic's `inference_geo`.
    pub geo: Option<Box<str>>,
    /// Anthropic's `iterations`, where they say more than the totals above.
    pub passes: Vec<Pass>,
    /// The provider sent no usage, or not all of it: counted here by estimate.
    pub estimated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SearchSize {
    Low,
    Medium,
    High,
}

/// One run of a model inside an answer, priced by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The model, where it isn't the one that was asked (an advisor).
    pub model: Option<Box<str>>,
    /// Its tokens are in the totals too (type `message`); the others come on top (`compaction`, `advisor_message`).
    pub inside: bool,
    pub usage: Usage,
}

/// Reading.
impl Usage {
    /// Overlays an OpenAI chat `usage` object (its JSON text). Returns whether it was one.
    ///
    /// Also that of everyone who says the same with variations, all told by the fields themselves: xAI (reasoning
    /// outside the completion, `cost_in_usd_ticks`), DeepSeek, Databricks, Moonshot, Perplexity, OpenRouter,
    /// embeddings (`total_tokens` alone). Such an object is whole, so the last one of a stream replaces the former.
    pub fn read_openai_chat(&mut self, json: &[u8]) -> bool {
        read::whole(json).is_some_and(|wire| self.overlay_openai_chat(&wire))
    }

    /// Like [`Usage::read_openai_chat`], where a reader stands.
    pub(super) fn take_openai_chat(&mut self, r: &mut Reader<'_>) -> Result<bool> {
        Ok(self.overlay_openai_chat(&read::object(r)?))
    }

    fn overlay_openai_chat(&mut self, wire: &OpenaiChat) -> bool {
        if wire.prompt_tokens.is_none()
            && wire.completion_tokens.is_none()
            && wire.total_tokens.is_none()
        {
            return false;
        }
        let total = wire.total_tokens;
        let (given, details) = (&wire.prompt_tokens_details, &wire.completion_tokens_details);
        let input = wire.prompt_tokens.unwrap_or_else(|| {
            total
                .unwrap_or(0)
                .saturating_sub(wire.completion_tokens.unwrap_or(0))
        });
        let mut output = wire
            .completion_tokens
            .unwrap_or_else(|| total.unwrap_or(0).saturating_sub(input));
        let reasoning = details
            .reasoning_tokens
            .or(wire.reasoning_tokens)
            .unwrap_or(0);
        let citation = wire.citation_tokens.unwrap_or(0);
        // xAI's chat leaves reasoning out of the completion, though some layers in between fold it in; Perplexity's
        // deep research leaves citations out too. The total tells, or the parts that can't be parts.
        let sum = input.saturating_add(output);
        let thought = reasoning.saturating_add(citation);
        if thought > output || (reasoning > 0 && total == Some(sum.saturating_add(reasoning))) {
            output = output.saturating_add(thought);
        }
        *self = Self {
            input,
            cache_read: given
                .cached_tokens
                .or(wire.prompt_cache_hit_tokens)
                .or(wire.cache_read_input_tokens)
                .or(wire.cached_tokens)
                .unwrap_or(0),
            cache_write: given
                .cache_write_tokens
                .or(given.cache_creation_tokens)
                .or(given.cache_creation_input_tokens)
                .or(wire.cache_creation_input_tokens)
                .unwrap_or(0),
            audio_in: given.audio_tokens.unwrap_or(0),
            image_in: given.image_tokens.unwrap_or(0),
            video_in: given.video_tokens.unwrap_or(0),
            output,
            reasoning,
            citation,
            audio_out: details.audio_tokens.unwrap_or(0),
            image_out: details.image_tokens.unwrap_or(0),
            searches: wire.num_search_queries.unwrap_or(self.searches),
            search_size: wire.search_size,
            reported: wire.bill.pico(),
            ..self.kept()
        };
        self.clamp();
        true
    }

    /// Overlays the `usage` of OpenAI's Responses, Realtime, transcription and (see there) image answers.
    pub fn read_openai_responses(&mut self, json: &[u8]) -> bool {
        let Some(wire) = read::whole::<OpenaiResponses>(json) else {
            return false;
        };
        if wire.input_tokens.is_none() && wire.output_tokens.is_none() && wire.seconds.is_zero() {
            return false;
        }
        // Realtime and transcription spell `token`, the others `tokens`.
        let given = wire.input_tokens_details.or(wire.input_token_details);
        let details = wire.output_tokens_details.or(wire.output_token_details);
        *self = Self {
            input: wire.input_tokens.unwrap_or(0),
            cache_read: given.cached_tokens.unwrap_or(0),
            cache_write: given.cache_write_tokens.unwrap_or(0),
            audio_in: given.audio_tokens.unwrap_or(0),
            image_in: given.image_tokens.unwrap_or(0),
            audio_cached: given.cached_tokens_details.audio_tokens.unwrap_or(0),
            image_cached: given.cached_tokens_details.image_tokens.unwrap_or(0),
            output: wire.output_tokens.unwrap_or(0),
            reasoning: details.reasoning_tokens.unwrap_or(0),
            audio_out: details.audio_tokens.unwrap_or(0),
            image_out: details.image_tokens.unwrap_or(0),
            duration: wire.seconds,
            reported: wire.bill.pico(),
            searches: wire
                .tool_calls_details
                .search_web
                .invocation
                .unwrap_or(self.searches),
            ..self.kept()
        };
        self.clamp();
        true
    }

    /// Overlays the `usage` of OpenAI's image answers: without details, all output is image tokens.
    pub fn read_openai_images(&mut self, json: &[u8]) -> bool {
        let told = read::whole::<OpenaiResponses>(json).is_some_and(|wire| {
            wire.output_tokens_details
                .or(wire.output_token_details)
                .is_told()
        });
        let read = self.read_openai_responses(json);
        if read && !told {
            self.image_out = self.output;
        }
        read
    }

    /// Overlays an Anthropic `usage` object: cumulative; absent and null fields leave what was there.
    pub fn read_anthropic(&mut self, json: &[u8]) -> bool {
        read::whole(json).is_some_and(|wire| self.overlay_whole_anthropic(wire))
    }

    /// Like [`Usage::read_anthropic`], where a reader stands.
    pub(super) fn take_anthropic(&mut self, r: &mut Reader<'_>) -> Result<bool> {
        Ok(self.overlay_whole_anthropic(read::object(r)?))
    }

    fn overlay_whole_anthropic(&mut self, mut wire: Anthropic) -> bool {
        if !wire.is_told() {
            return false;
        }
        let iterations = wire.iterations.take();
        self.reported = wire.bill.pico().or(self.reported);
        self.overlay_anthropic(wire);
        if let Some(iterations) = iterations {
            self.passes = self.passes_of(iterations);
        }
        true
    }

    /// Replaces with a Gemini `usageMetadata`, cumulative over a stream's chunks; a chunk without the prompt's count
    /// leaves the input as it was.
    ///
    /// `grounded`: the answer has Search or Maps grounding, whose tool-use tokens its fee already covers.
    pub fn read_gemini(&mut self, json: &[u8], grounded: bool) -> bool {
        read::whole(json).is_some_and(|wire| self.overlay_gemini(&wire, grounded))
    }

    /// Like [`Usage::read_gemini`], of one that was read already.
    pub(super) fn overlay_gemini(&mut self, wire: &Gemini, grounded: bool) -> bool {
        match wire.traffic_type.as_deref() {
            Some("ON_DEMAND_PRIORITY") => self.tier = Some("priority".into()),
            Some("FLEX" | "ON_DEMAND_FLEX" | "BATCH") => self.tier = Some("flex".into()),
            Some(_) => self.tier = None,
            None => match wire.service_tier.as_deref() {
                Some(tier @ ("priority" | "flex")) => self.tier = Some(tier.into()),
                Some(_) => self.tier = None,
                None => {}
            },
        }
        if !wire.is_told() {
            return false;
        }
        let prompt = wire.prompt_token_count.unwrap_or(0);
        let tools = wire.tool_use_prompt_token_count.unwrap_or(0);
        let answer = wire
            .candidates_token_count
            .or(wire.response_token_count)
            .unwrap_or(0);
        let thoughts = wire.thoughts_token_count.unwrap_or(0);
        let sum = prompt.saturating_add(tools).saturating_add(answer);
        // Thoughts stand outside the candidates, unless the total proves otherwise.
        let inside = wire.total_token_count == Some(sum);
        let billed_tools = if grounded { 0 } else { tools };
        let mut given = wire.prompt_tokens_details;
        if !grounded {
            given = given.plus(wire.tool_use_prompt_tokens_details);
        }
        let cached = wire.cache_tokens_details;
        let made = wire
            .candidates_tokens_details
            .plus(wire.response_tokens_details);
        let before = std::mem::take(self);
        *self = Self {
            input: prompt.saturating_add(billed_tools),
            cache_read: wire.cached_content_token_count.unwrap_or(0),
            audio_in: given.audio,
            image_in: given.image,
            video_in: given.video,
            audio_cached: cached.audio,
            image_cached: cached.image,
            output: if inside {
                answer
            } else {
                answer.saturating_add(thoughts)
            },
            reasoning: thoughts,
            audio_out: made.audio,
            image_out: made.image,
            searches: before.searches,
            maps_searches: before.maps_searches,
            tier: before.tier,
            ..Self::default()
        };
        if wire.prompt_token_count.is_none() {
            self.input = before.input;
            self.cache_read = before.cache_read;
            (self.audio_in, self.image_in, self.video_in) =
                (before.audio_in, before.image_in, before.video_in);
            (self.audio_cached, self.image_cached) = (before.audio_cached, before.image_cached);
        }
        self.clamp();
        true
    }

    /// Replaces with Bedrock Converse's `usage`: `inputTokens` excludes the cache.
    pub fn read_bedrock(&mut self, json: &[u8]) -> bool {
        let Some(wire) = read::whole::<Bedrock>(json) else {
            return false;
        };
        if wire.input_tokens.is_none() && wire.output_tokens.is_none() {
            return false;
        }
        let read = wire
            .cache_read_input_tokens
            .or(wire.cache_read_input_token_count)
            .unwrap_or(0);
        let written = wire
            .cache_write_input_tokens
            .or(wire.cache_write_input_token_count)
            .unwrap_or(0);
        let hour = wire.hour.min(written);
        *self = Self {
            input: wire
                .input_tokens
                .unwrap_or(0)
                .saturating_add(read)
                .saturating_add(written),
            cache_read: read,
            cache_write: written - hour,
            cache_write_1h: hour,
            output: wire.output_tokens.unwrap_or(0),
            ..self.kept()
        };
        true
    }

    /// Replaces with Cohere v2's `usage` or `meta`: what is billed, not the larger `tokens`.
    pub fn read_cohere(&mut self, json: &[u8]) -> bool {
        let Some(wire) = read::whole::<Cohere>(json) else {
            return false;
        };
        let billed = wire.billed_units;
        if billed.input_tokens.is_none()
            && billed.output_tokens.is_none()
            && billed.search_units.is_none()
        {
            return false;
        }
        *self = Self {
            input: billed.input_tokens.unwrap_or(0),
            output: billed.output_tokens.unwrap_or(0),
            queries: billed.search_units.unwrap_or(0),
            ..self.kept()
        };
        true
    }

    /// Replaces with Ollama's counts, which stand in the answer itself or its last line.
    pub fn read_ollama(&mut self, json: &[u8]) -> bool {
        let Some(wire) = read::whole::<Ollama>(json) else {
            return false;
        };
        if wire.prompt_eval_count.is_none() && wire.eval_count.is_none() {
            return false;
        }
        *self = Self {
            input: wire.prompt_eval_count.unwrap_or(0),
            output: wire.eval_count.unwrap_or(0),
            ..self.kept()
        };
        true
    }

    /// Replaces with Mistral OCR's `usage_info`.
    pub fn read_mistral_ocr(&mut self, json: &[u8]) -> bool {
        let Some(MistralOcr {
            pages_processed: Some(pages),
        }) = read::whole(json)
        else {
            return false;
        };
        *self = Self {
            pages,
            ..self.kept()
        };
        true
    }

    /// What a usage object never tells, and so survives its reading.
    fn kept(&mut self) -> Self {
        Self {
            tier: self.tier.take(),
            geo: self.geo.take(),
            ..Self::default()
        }
    }

    fn overlay_anthropic(&mut self, wire: Anthropic) {
        let fresh = wire.input_tokens.unwrap_or_else(|| self.fresh());
        self.cache_read = wire.cache_read_input_tokens.unwrap_or(self.cache_read);
        let split = wire.cache_creation;
        if wire.cache_creation_input_tokens.is_some() || split.is_told() {
            let told = split
                .ephemeral_5m_input_tokens
                .unwrap_or(0)
                .saturating_add(split.ephemeral_1h_input_tokens.unwrap_or(0));
            let written = wire.cache_creation_input_tokens.unwrap_or(told);
            // A missing split means five minutes.
            self.cache_write_1h = split.ephemeral_1h_input_tokens.unwrap_or(0).min(written);
            self.cache_write = written - self.cache_write_1h;
        }
        self.input = fresh
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
            .saturating_add(self.cache_write_1h);
        self.output = wire.output_tokens.unwrap_or(self.output);
        self.reasoning = wire
            .output_tokens_details
            .thinking_tokens
            .unwrap_or(self.reasoning)
            .min(self.output);
        self.searches = wire
            .server_tool_use
            .web_search_requests
            .unwrap_or(self.searches);
        // The fast mode has prices of its own, whatever the tier says.
        let fast = wire.speed.filter(|speed| &**speed == "fast");
        if let Some(tier) = fast.or(wire.service_tier) {
            self.tier = Some(tier);
        }
        if let Some(geo) = wire.inference_geo {
            self.geo = Some(geo);
        }
    }

    fn passes_of(&self, iterations: Vec<Iteration>) -> Vec<Pass> {
        let mut passes: Vec<Pass> = iterations
            .into_iter()
            .map(|iteration| {
                let mut usage = Usage {
                    tier: self.tier.clone(),
                    geo: self.geo.clone(),
                    ..Usage::default()
                };
                usage.overlay_anthropic(iteration.usage);
                // Fees are counted once, at the top.
                usage.searches = 0;
                let inside = matches!(iteration.kind.as_deref(), None | Some("message"));
                Pass {
                    model: iteration.model,
                    inside,
                    usage,
                }
            })
            .collect();
        let sum = |of: fn(&Usage) -> u64| {
            passes
                .iter()
                .filter(|pass| pass.inside)
                .fold(0u64, |sum, pass| sum.saturating_add(of(&pass.usage)))
        };
        // Passes that don't add up to the totals aren't all of them: then the totals count.
        if sum(|usage| usage.input) != self.input || sum(|usage| usage.output) != self.output {
            passes.retain(|pass| !pass.inside);
        }
        if passes.len() == 1
            && passes
                .first()
                .is_some_and(|pass| pass.inside && pass.model.is_none())
        {
            passes.clear();
        }
        passes
    }

    /// Returns the input tokens that were neither read from a cache nor written to one.
    pub fn fresh(&self) -> u64 {
        self.input
            .saturating_sub(self.cache_read)
            .saturating_sub(self.written())
    }

    /// Returns all tokens written to a cache.
    pub fn written(&self) -> u64 {
        self.cache_write
            .saturating_add(self.cache_write_1h)
            .saturating_add(self.cache_write_12h)
    }

    /// Returns what this and `other` took together.
    pub fn plus(&self, other: &Usage) -> Usage {
        let sum = |one: u64, another: u64| one.saturating_add(another);
        Usage {
            input: sum(self.input, other.input),
            cache_read: sum(self.cache_read, other.cache_read),
            cache_write: sum(self.cache_write, other.cache_write),
            cache_write_1h: sum(self.cache_write_1h, other.cache_write_1h),
            cache_write_12h: sum(self.cache_write_12h, other.cache_write_12h),
            audio_in: sum(self.audio_in, other.audio_in),
            image_in: sum(self.image_in, other.image_in),
            video_in: sum(self.video_in, other.video_in),
            audio_cached: sum(self.audio_cached, other.audio_cached),
            image_cached: sum(self.image_cached, other.image_cached),
            output: sum(self.output, other.output),
            reasoning: sum(self.reasoning, other.reasoning),
            citation: sum(self.citation, other.citation),
            audio_out: sum(self.audio_out, other.audio_out),
            image_out: sum(self.image_out, other.image_out),
            searches: sum(self.searches, other.searches),
            maps_searches: sum(self.maps_searches, other.maps_searches),
            file_searches: sum(self.file_searches, other.file_searches),
            search_size: self.search_size.or(other.search_size),
            queries: sum(self.queries, other.queries),
            pages: sum(self.pages, other.pages),
            duration: self.duration.saturating_add(other.duration),
            characters: sum(self.characters, other.characters),
            images: sum(self.images, other.images),
            // One that told no bill makes the sum unknown.
            reported: self
                .reported
                .zip(other.reported)
                .map(|(one, another)| sum(one, another)),
            tier: other.tier.clone().or_else(|| self.tier.clone()),
            geo: other.geo.clone().or_else(|| self.geo.clone()),
            passes: [&self.passes[..], &other.passes].concat(),
            estimated: self.estimated || other.estimated,
        }
    }

    /// Returns input and output together.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Cuts parts to what their whole leaves for them, in the order in which they are trusted.
    pub fn clamp(&mut self) {
        let mut left = self.input;
        for part in [
            &mut self.cache_read,
            &mut self.cache_write,
            &mut self.cache_write_1h,
            &mut self.cache_write_12h,
        ] {
            *part = (*part).min(left);
            left -= *part;
        }
        let mut left = self.input;
        for part in [&mut self.audio_in, &mut self.image_in, &mut self.video_in] {
            *part = (*part).min(left);
            left -= *part;
        }
        self.audio_cached = self.audio_cached.min(self.audio_in).min(self.cache_read);
        self.image_cached = self
            .image_cached
            .min(self.image_in)
            .min(self.cache_read - self.audio_cached);
        let mut left = self.output;
        for part in [
            &mut self.reasoning,
            &mut self.audio_out,
            &mut self.image_out,
            &mut self.citation,
        ] {
            *part = (*part).min(left);
            left -= *part;
        }
    }
}

/// Writing.
impl Usage {
    /// Appends an OpenAI chat `usage` object.
    pub fn write_openai_chat(&self, out: &mut Vec<u8>) {
        push(out, "{\"prompt_tokens\":", self.input);
        push(out, ",\"completion_tokens\":", self.output);
        push(out, ",\"total_tokens\":", self.total());
        push(
            out,
            ",\"prompt_tokens_details\":{\"cached_tokens\":",
            self.cache_read,
        );
        if self.written() > 0 {
            push(out, ",\"cache_write_tokens\":", self.written());
        }
        push(out, ",\"audio_tokens\":", self.audio_in);
        push(
            out,
            "},\"completion_tokens_details\":{\"reasoning_tokens\":",
            self.reasoning,
        );
        push(out, ",\"audio_tokens\":", self.audio_out);
        out.extend_from_slice(b"}}");
    }

    /// Appends a Gemini `usageMetadata`.
    pub fn write_gemini(&self, out: &mut Vec<u8>) {
        let answer = self.output.saturating_sub(self.reasoning);
        push(out, "{\"promptTokenCount\":", self.input);
        push(out, ",\"candidatesTokenCount\":", answer);
        push(out, ",\"totalTokenCount\":", self.total());
        for (before, count) in [
            (",\"cachedContentTokenCount\":", self.cache_read),
            (",\"thoughtsTokenCount\":", self.reasoning),
        ] {
            if count > 0 {
                push(out, before, count);
            }
        }
        let media = [
            ("AUDIO", self.audio_in),
            ("IMAGE", self.image_in),
            ("VIDEO", self.video_in),
        ];
        modalities(out, "promptTokensDetails", self.input, &media);
        let media = [("AUDIO", self.audio_cached), ("IMAGE", self.image_cached)];
        modalities(out, "cacheTokensDetails", self.cache_read, &media);
        let media = [("AUDIO", self.audio_out), ("IMAGE", self.image_out)];
        modalities(out, "candidatesTokensDetails", answer, &media);
        match self.tier.as_deref() {
            Some("priority") => out.extend_from_slice(b",\"trafficType\":\"ON_DEMAND_PRIORITY\""),
            Some("flex") => out.extend_from_slice(b",\"trafficType\":\"ON_DEMAND_FLEX\""),
            Some(_) | None => {}
        }
        out.push(b'}');
    }

    /// Appends an Anthropic `usage` object, good for `message`, `message_start` and `message_delta`.
    pub fn write_anthropic(&self, out: &mut Vec<u8>) {
        push(out, "{\"input_tokens\":", self.fresh());
        push(out, ",\"cache_creation_input_tokens\":", self.written());
        push(out, ",\"cache_read_input_tokens\":", self.cache_read);
        push(
            out,
            ",\"cache_creation\":{\"ephemeral_5m_input_tokens\":",
            self.cache_write,
        );
        let longer = self.cache_write_1h.saturating_add(self.cache_write_12h);
        push(out, ",\"ephemeral_1h_input_tokens\":", longer);
        push(out, "},\"output_tokens\":", self.output);
        if self.reasoning > 0 {
            push(
                out,
                ",\"output_tokens_details\":{\"thinking_tokens\":",
                self.reasoning,
            );
            out.push(b'}');
        }
        if self.searches > 0 {
            push(
                out,
                ",\"server_tool_use\":{\"web_search_requests\":",
                self.searches,
            );
            // Fetches have no price of their own and aren't counted here, but the SDK's type demands the field.
            out.extend_from_slice(b",\"web_fetch_requests\":0}");
        }
        // The SDK's type knows these three alone.
        match self.tier.as_deref() {
            Some("default" | "standard") => {
                out.extend_from_slice(b",\"service_tier\":\"standard\"")
            }
            Some("priority") => out.extend_from_slice(b",\"service_tier\":\"priority\""),
            Some("batch") => out.extend_from_slice(b",\"service_tier\":\"batch\""),
            Some(_) | None => {}
        }
        out.push(b'}');
    }
}

/// Writing for OpenAI responses.
impl Usage {
    /// Appends the `usage` object of OpenAI responses.
    pub fn write_openai_responses(&self, out: &mut Vec<u8>) {
        push(out, "{\"input_tokens\":", self.input);
        push(
            out,
            ",\"input_tokens_details\":{\"cached_tokens\":",
            self.cache_read,
        );
        push(out, ",\"cache_write_tokens\":", self.written());
        push(out, "},\"output_tokens\":", self.output);
        push(
            out,
            ",\"output_tokens_details\":{\"reasoning_tokens\":",
            self.reasoning,
        );
        push(out, "},\"total_tokens\":", self.total());
        out.push(b'}');
    }
}

/// Writing for Bedrock.
impl Usage {
    /// Appends a Bedrock Converse `usage` object: its input is what was neither read from a cache nor written to one.
    pub fn write_bedrock(&self, out: &mut Vec<u8>) {
        push(out, "{\"inputTokens\":", self.fresh());
        push(out, ",\"outputTokens\":", self.output);
        push(out, ",\"totalTokens\":", self.total());
        push(out, ",\"cacheReadInputTokens\":", self.cache_read);
        push(out, ",\"cacheWriteInputTokens\":", self.written());
        let hour = self.cache_write_1h.saturating_add(self.cache_write_12h);
        if hour > 0 {
            push(
                out,
                ",\"cacheDetails\":[{\"ttl\":\"1h\",\"inputTokens\":",
                hour,
            );
            if self.cache_write > 0 {
                push(out, "},{\"ttl\":\"5m\",\"inputTokens\":", self.cache_write);
            }
            out.extend_from_slice(b"}]");
        }
        out.push(b'}');
    }
}

/// Writing for Ollama and Cohere.
impl Usage {
    /// Appends the counts that stand in an Ollama answer's last line itself.
    pub fn write_ollama(&self, body: &mut super::text::Object<'_>) {
        body.integer("prompt_eval_count", self.input);
        body.integer("prompt_eval_duration", 0);
        body.integer("eval_count", self.output);
        body.integer("eval_duration", 0);
    }

    /// Appends a Cohere v2 `usage` object.
    pub fn write_cohere(&self, out: &mut Vec<u8>) {
        push(out, "{\"billed_units\":{\"input_tokens\":", self.input);
        push(out, ",\"output_tokens\":", self.output);
        if self.queries > 0 {
            push(out, ",\"search_units\":", self.queries);
        }
        push(out, "},\"tokens\":{\"input_tokens\":", self.input);
        push(out, ",\"output_tokens\":", self.output);
        if self.reasoning > 0 {
            push(out, ",\"reasoning_tokens\":", self.reasoning);
        }
        push(out, "},\"cached_tokens\":", self.cache_read);
        out.push(b'}');
    }
}

/// Returns what a usage object of any protocol says that it cost, in pico-dollars.
pub fn bill(usage: &[u8]) -> Option<u64> {
    // Few tell one: the others are not read twice.
    memchr::memmem::find(usage, b"\"cost")?;
    read::whole::<Bill>(usage)?.pico()
}

/// Returns how many searches the `tool_usage` of OpenAI's Responses counts.
pub fn searches_counted(tool_usage: &[u8]) -> Option<u64> {
    read::whole::<ToolUsage>(tool_usage)?
        .web_search
        .num_requests
}

/// Appends what of `all` is text and what is of another kind, where there is any.
fn modalities(out: &mut Vec<u8>, name: &str, all: u64, media: &[(&str, u64)]) {
    if all == 0 {
        return;
    }
    let text = media
        .iter()
        .fold(all, |left, (_, count)| left.saturating_sub(*count));
    write!(out, ",\"{name}\":[").expect("a vector takes every write");
    let start = out.len();
    for (kind, count) in std::iter::once(&("TEXT", text)).chain(media) {
        if *count > 0 {
            super::text::comma(start, out);
            write!(out, "{{\"modality\":\"{kind}\",\"tokenCount\":{count}}}")
                .expect("a vector takes every write");
        }
    }
    out.push(b']');
}

fn push(out: &mut Vec<u8>, before: &str, count: u64) {
    out.extend_from_slice(before.as_bytes());
    super::text::integer(count, out);
}

/// Reads decimal text (`0.00095`, `9.5e-4`) as an integer count of 10^-`places`, rounded half up.
///
/// Exact where the text has no more digits than that; `None` if it is no number, negative or too large.
pub fn decimal(text: &str, places: u32) -> Option<u64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // How far the next digit stands left of the last place that counts.
    let mut place = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(places);
    let mut value: u64 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = u64::from(digit - b'0');
        place -= 1;
        if place >= 0 {
            value = value.checked_mul(10)?.checked_add(digit)?;
        } else if place == -1 && digit >= 5 {
            value = value.checked_add(1)?;
        }
    }
    if value == 0 {
        return Some(0);
    }
    value.checked_mul(10u64.checked_pow(u32::try_from(place.max(0)).ok()?)?)
}
