//! The catalogue: what is known of the models that providers serve, compiled in.
//!
//! `conf/models.tsv` stays text: lines in order, found by binary search, parsed when first asked for and then
//! kept. What is built at the first look-up is an offset for each line and one order by bare id.
//! Measured by `cargo test --release --test cost catalogue_is_cheap -- --nocapture`: 1.9 ms and
//! 1.2 MiB (0.65 MiB of it the text, which is the file's own pages), 1.2 µs a look-up, 1.2 ms for the nearest names.

use std::cmp::Ordering;
use std::sync::{LazyLock, OnceLock};

use jiff::Timestamp;

use super::cost::{Ask, Cost, Place, Price};
use crate::protocol::Facts;
use crate::protocol::chat::Effort;
use crate::protocol::usage::Usage;

use near::Pattern;
use row::Row;

mod near;
mod row;

const MODELS: &str = include_str!("../../conf/models.tsv");

/// Returns the model that `provider` (its catalogue name) serves as `id`.
///
/// Exact, else without regard to case, else a Bedrock profile (`us.…`) that costs what the bare id costs.
pub fn model(provider: &str, id: &str) -> Option<&'static Model> {
    let table = &*TABLE;
    if let Some(at) = table.find(provider, id) {
        return Some(table.model(at));
    }
    let (profile, bare) = id.split_once('.')?;
    let model = table.model(table.find(provider, bare)?);
    model.profiles.contains(&profile).then_some(model)
}

/// Returns the models of a provider, in the order of their ids.
pub fn of(provider: &str) -> impl Iterator<Item = &'static Model> {
    let table = &*TABLE;
    table.served_by(provider).map(|at| table.model(at))
}

/// Returns who serves a bare id, and how they spell it: its makers first, retired rows last.
pub fn bare(id: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let table = &*TABLE;
    let same = table.same_id(id);
    let exact = same.iter().any(|at| table.line(*at).id == id);
    let mut found: Vec<Line> = same
        .iter()
        .map(|at| table.line(*at))
        .filter(|line| !exact || line.id == id)
        .collect();
    found.sort_by_key(|line| (line.is_retired(), !MAKERS.contains(&line.provider)));
    found.into_iter().map(|line| (line.provider, line.id))
}

/// Who makes models of their own: asked first for a bare id that several serve.
const MAKERS: [&str; 12] = [
    "anthropic",
    "cohere",
    "dashscope",
    "deepseek",
    "gemini",
    "meta",
    "minimax",
    "mistral",
    "moonshot",
    "openai",
    "xai",
    "zai",
];

/// Returns what clients may have meant by `name`, as `provider/id`, the nearest first.
///
/// Several dozen at most, because the caller drops those of providers without a key.
pub fn closest(name: &str) -> Vec<String> {
    const MOST: usize = 40;
    let lower = name.to_ascii_lowercase();
    let table = &*TABLE;
    let prefix = lower
        .split_once('/')
        .filter(|(provider, _)| !table.served_by(provider).is_empty());
    let wanted = prefix.map_or(&*lower, |(_, id)| id);
    let wanted = Pattern::new(wanted);
    let mut near: Vec<(usize, u16)> = Vec::new();
    let mut last: Option<(&str, Option<usize>)> = None;
    for at in &table.by_id {
        let line = table.line(*at);
        if prefix.is_some_and(|(provider, _)| provider != line.provider) {
            continue;
        }
        // The same id at another provider is as far away.
        let far = match last {
            Some((id, far)) if id == line.id => far,
            Some(_) | None => wanted.distance_to_id(line.id),
        };
        last = Some((line.id, far));
        near.extend(far.map(|far| (far, *at)));
    }
    near.sort_by_key(|(far, at)| {
        let line = table.line(*at);
        (
            *far,
            line.is_retired(),
            !MAKERS.contains(&line.provider),
            *at,
        )
    });
    near.truncate(MOST);
    near.into_iter()
        .map(|(_, at)| table.line(at))
        .map(|line| format!("{}/{}", line.provider, line.id))
        .collect()
}

/// Returns what a protocol needs to know to write a request for the model.
///
/// `developer_role` and `max_completion_tokens` are the provider's: see its quirks.
pub fn facts(model: &Model) -> Facts {
    Facts {
        max_output: model.max_output,
        // Whoever isn't known to call tools is better asked plainly than by the tool trick, but for Claude, all of
        // whose models call tools.
        json_schema: Some(
            model.can(Cap::JsonSchema) || !(model.can(Cap::Tools) || model.id.contains("claude")),
        ),
        no_sampling: model.can(Cap::NoSampling),
        reasoning: model.can(Cap::Reasoning),
        reasoning_off: reasoning_off(model),
        adaptive_thinking: model.can(Cap::AdaptiveThinking),
        developer_role: false,
        max_completion_tokens: false,
    }
}

/// Returns the effort by which a model thinks the least: `none`, else `minimal`, by its own row or that of its
/// undated id. Where neither tells, GPT-5 takes `minimal`, and its successors `none`.
fn reasoning_off(model: &Model) -> Option<Effort> {
    let mut efforts = &model.efforts;
    if efforts.is_empty()
        && let Some(undated) = undated(model.id).and_then(|id| self::model(model.provider, id))
    {
        efforts = &undated.efforts;
    }
    if efforts.contains(&"none") {
        return Some(Effort::None);
    }
    if efforts.contains(&"minimal") {
        return Some(Effort::Minimal);
    }
    if !efforts.is_empty() || model.id.contains("-chat") {
        return None;
    }
    match model.id.split_once("gpt-5")?.1.as_bytes() {
        [] => Some(Effort::Minimal),
        [b'-', word, ..] if word.is_ascii_alphabetic() => Some(Effort::Minimal),
        [b'.', ..] => Some(Effort::None),
        _ => None,
    }
}

/// Returns the id without the date that it ends in: `gpt-5` of `gpt-5-2025-08-07`.
fn undated(id: &str) -> Option<&str> {
    let (rest, date) = id.split_at_checked(id.len().checked_sub("-2025-08-07".len())?)?;
    let is_date = date.bytes().enumerate().all(|(at, byte)| match at {
        0 | 5 | 8 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    is_date.then_some(rest)
}

/// A model at one provider.
#[derive(Debug, Default, PartialEq)]
pub struct Model {
    pub provider: &'static str,
    pub id: &'static str,
    pub mode: Mode,
    /// Tokens, as the next two.
    pub context: Option<u32>,
    pub max_input: Option<u32>,
    pub max_output: Option<u32>,
    /// Size of an embedding.
    pub dimensions: Option<u32>,
    pub status: Status,
    /// The day on which it is shut down, as `2026-11-30`.
    pub sunset: Option<&'static str>,
    /// The efforts it takes, by name; empty is not known.
    pub efforts: Vec<&'static str>,
    caps: u32,
    profiles: Vec<&'static str>,
    price: Price,
}

impl Model {
    pub fn can(&self, cap: Cap) -> bool {
        self.caps & cap.bit() != 0
    }

    pub fn price(&self) -> &Price {
        &self.price
    }

    /// Returns what `usage` costs here, passes of other models of the same provider included.
    pub fn cost(&self, usage: &Usage, at: Timestamp, place: Place) -> Cost {
        let other = |id: &str| model(self.provider, id).map(Model::price);
        Ask {
            at,
            place,
            other: &other,
        }
        .cost(Some(&self.price), usage)
    }
}

/// What a model is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Chat,
    Completion,
    Embedding,
    Image,
    Video,
    Speech,
    Transcription,
    Realtime,
    Rerank,
    Moderation,
    Ocr,
    Search,
    Decisions,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Current,
    Deprecated,
    Retired,
}

/// What a model can do; the `No…` are what it can't. The absence of a positive one means unknown or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    Vision,
    AudioIn,
    AudioOut,
    Pdf,
    VideoIn,
    Tools,
    ParallelTools,
    JsonSchema,
    Reasoning,
    AdaptiveThinking,
    PromptCache,
    WebSearch,
    ComputerUse,
    Prefill,
    ResponsesOnly,
    NoSampling,
    NoStream,
    NoSystem,
    NoToolChoice,
}

impl Cap {
    const NAMES: [(&'static str, Cap); 19] = [
        ("vision", Cap::Vision),
        ("audio_in", Cap::AudioIn),
        ("audio_out", Cap::AudioOut),
        ("pdf", Cap::Pdf),
        ("video_in", Cap::VideoIn),
        ("tools", Cap::Tools),
        ("parallel_tools", Cap::ParallelTools),
        ("json_schema", Cap::JsonSchema),
        ("reasoning", Cap::Reasoning),
        ("adaptive_thinking", Cap::AdaptiveThinking),
        ("prompt_cache", Cap::PromptCache),
        ("web_search", Cap::WebSearch),
        ("computer_use", Cap::ComputerUse),
        ("prefill", Cap::Prefill),
        ("responses_only", Cap::ResponsesOnly),
        ("no_sampling", Cap::NoSampling),
        ("no_stream", Cap::NoStream),
        ("no_system", Cap::NoSystem),
        ("no_tool_choice", Cap::NoToolChoice),
    ];

    fn bit(self) -> u32 {
        1 << self as u32
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, cap)| cap)
    }
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

struct Table {
    /// Where each line begins, in the order of the file: provider, then lower-case id.
    starts: Vec<u32>,
    /// Lines in the order of their lower-case ids.
    by_id: Vec<u16>,
    /// What was asked for.
    models: Box<[OnceLock<Box<Model>>]>,
}

/// A line of `conf/models.tsv`.
#[derive(Clone, Copy)]
struct Line {
    provider: &'static str,
    id: &'static str,
    /// JSON text.
    facts: &'static str,
}

impl Line {
    fn is_retired(&self) -> bool {
        self.facts.contains("\"status\":\"retired\"")
    }
}

impl Table {
    fn new() -> Self {
        let mut starts = Vec::with_capacity(4096);
        let mut start = 0;
        for line in MODELS.split_inclusive('\n') {
            starts.push(u32::try_from(start).expect("the file is far below 4 GiB"));
            start += line.len();
        }
        let models = starts.iter().map(|_| OnceLock::new()).collect();
        let mut table = Self {
            starts,
            by_id: Vec::new(),
            models,
        };
        let count =
            u16::try_from(table.starts.len()).expect("a test counts fewer lines than 65,536");
        let mut by_id: Vec<(&str, u16)> = (0..count).map(|at| (table.line(at).id, at)).collect();
        by_id.sort_by(|(a, at), (b, bt)| lower(a, b).then(at.cmp(bt)));
        table.by_id = by_id.into_iter().map(|(_, at)| at).collect();
        table
    }

    fn line(&self, at: u16) -> Line {
        let start = self.starts[usize::from(at)] as usize;
        let end = self
            .starts
            .get(usize::from(at) + 1)
            .map_or(MODELS.len(), |next| *next as usize);
        let mut fields = MODELS[start..end].splitn(3, '\t');
        let mut field = || fields.next().unwrap_or_default();
        Line {
            provider: field(),
            id: field(),
            facts: field(),
        }
    }

    fn find(&self, provider: &str, id: &str) -> Option<u16> {
        let found = self.starts.binary_search_by(|start| {
            let line = head(*start);
            line.0.cmp(provider).then_with(|| lower(line.1, id))
        });
        found.ok().and_then(|at| u16::try_from(at).ok())
    }

    /// Returns the lines of a provider.
    fn served_by(&self, provider: &str) -> std::ops::Range<u16> {
        let first = self
            .starts
            .partition_point(|start| head(*start).0 < provider);
        let many = self.starts[first..].partition_point(|start| head(*start).0 == provider);
        let line = |at| u16::try_from(at).unwrap_or(u16::MAX);
        line(first)..line(first + many)
    }

    fn same_id(&self, id: &str) -> &[u16] {
        let of = |at: &u16| head(self.starts[usize::from(*at)]).1;
        let first = self
            .by_id
            .partition_point(|at| lower(of(at), id) == Ordering::Less);
        let same = self.by_id[first..].partition_point(|at| lower(of(at), id) == Ordering::Equal);
        &self.by_id[first..first + same]
    }

    fn model(&self, at: u16) -> &Model {
        self.models[usize::from(at)].get_or_init(|| {
            let line = self.line(at);
            let row: Row = serde_json::from_str(line.facts).expect("a test reads every line");
            Box::new(row.into_model(line))
        })
    }
}

/// Returns provider and id of the line that begins at `start`.
fn head(start: u32) -> (&'static str, &'static str) {
    let mut fields = MODELS[start as usize..].splitn(3, '\t');
    (
        fields.next().unwrap_or_default(),
        fields.next().unwrap_or_default(),
    )
}

/// Compares without regard to ASCII case.
fn lower(a: &str, b: &str) -> Ordering {
    let low = |byte: u8| byte.to_ascii_lowercase();
    a.bytes().map(low).cmp(b.bytes().map(low))
}
