//! The catalogue: what is known of the models that providers serve, compiled in, with what was fetched and what the
//! configuration says laid over it.
//!
//! One is in force for the whole process: [`configure`] swaps it, and who looks something up takes no lock. A
//! model, once found, stays as it is: a request ends on the prices that it began with. That makes models immortal,
//! so equal ones are one (`intern`), and their number is bounded.
//!
//! `conf/models.tsv` stays text: lines in order, found by binary search, parsed when first asked for and then
//! kept. What is built at the first look-up is an offset for each line and one order by bare id.
//! Measured by `cargo test --release --test cost catalogue_is_cheap -- --nocapture`: 1.9 ms and
//! 1.2 MiB (0.65 MiB of it the text, which is the file's own pages), 1.2 µs a look-up, 1.2 ms for the nearest names.

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;

use super::Endpoint;
use super::cost::{Ask, Cost, Place, Price};
use crate::protocol::Facts;
use crate::protocol::chat::Effort;
use crate::protocol::usage::Usage;

use near::Pattern;
use row::Row;

pub use layer::{Layer, Override};
pub use policy::{Policy, Standing, Unpriced};

mod intern;
mod layer;
mod near;
mod policy;
mod row;

const MODELS: &str = include_str!("../../conf/models.tsv");

/// Returns the model that `provider` (its catalogue name) serves as `id`.
///
/// Exact, else without regard to case, else a Bedrock profile (`us.…`) that costs what the bare id costs.
pub fn model(provider: &str, id: &str) -> Option<&'static Model> {
    IN_FORCE.load().model(provider, id)
}

/// Returns the models of a provider, in the order of their ids.
pub fn of(provider: &str) -> impl Iterator<Item = &'static Model> {
    IN_FORCE.load().of(provider).into_iter()
}

/// Returns who serves a bare id, and how they spell it: its makers first, retired rows last.
pub fn bare(id: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    IN_FORCE.load().bare(id).into_iter()
}

/// Returns what clients may have meant by `name`, as `provider/id`, the nearest first.
///
/// Several dozen at most, because the caller drops those of providers without a key.
pub fn closest(name: &str) -> Vec<String> {
    IN_FORCE.load().closest(name)
}

/// Puts into force what the configuration says over what is built in, from the next look-up on.
///
/// Errors: there have been too many different models in this process; the catalogue before stays in force.
pub fn configure(settings: &Settings) -> Result<(), String> {
    let fetched = FETCHED.load_full();
    let wanted = settings.url.as_ref().map(|url| &url.written);
    let fetched = fetched.filter(|fetched| Some(&fetched.url) == wanted);
    let fetched = fetched.map(|fetched| fetched.layer.clone());
    let read = settings.file.clone().into_iter().chain(fetched);
    IN_FORCE.store(Arc::new(Catalogue::new(read, &settings.models)?));
    Ok(())
}

/// Says what was fetched from `url`. It counts from the next [`configure`] on, where that names the same address.
pub fn fetched(url: &str, layer: Layer) {
    let url = url.to_owned();
    let layer = Arc::new(layer);
    FETCHED.store(Some(Arc::new(Fetched { url, layer })));
}

/// Returns whether what was fetched last came from `url`.
pub fn is_fetched(url: &str) -> bool {
    FETCHED
        .load()
        .as_ref()
        .is_some_and(|fetched| fetched.url == url)
}

/// What was fetched last, and from where.
struct Fetched {
    url: String,
    layer: Arc<Layer>,
}

static FETCHED: ArcSwapOption<Fetched> = ArcSwapOption::const_empty();
static IN_FORCE: LazyLock<ArcSwap<Catalogue>> = LazyLock::new(ArcSwap::default);

/// The `[catalogue]` table.
#[derive(Debug, Clone)]
pub struct Settings {
    pub policy: Policy,
    /// The configuration's own rows.
    pub models: Vec<Override>,
    /// The models of the file that is named, read and checked.
    pub file: Option<Arc<Layer>>,
    /// Where more are fetched, to lie below those.
    pub url: Option<Address>,
    pub refresh: Duration,
}

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub endpoint: Endpoint,
    /// With the query.
    pub path: String,
    pub written: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            models: Vec::new(),
            file: None,
            url: None,
            refresh: Duration::from_secs(24 * 3600),
        }
    }
}

/// Layers of models; what an upper one has hides what a lower one has of the same name. Below all is the built-in.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// The configuration's own, the file that it names, what was fetched.
    layers: Vec<Arc<Layer>>,
}

impl Catalogue {
    /// Returns the built-in catalogue with `read` over it, the first on top, and over all what the rows say.
    ///
    /// Errors: there have been too many different models in this process.
    pub fn new(
        read: impl IntoIterator<Item = Arc<Layer>>,
        rows: &[Override],
    ) -> Result<Self, String> {
        let mut catalogue = Self {
            layers: read.into_iter().collect(),
        };
        if !rows.is_empty() {
            let own = rows
                .iter()
                .map(|row| row.over(catalogue.exact(&row.provider, &row.id)));
            let own = Layer::new(own.collect::<Result<_, _>>()?);
            catalogue.layers.insert(0, Arc::new(own));
        }
        Ok(catalogue)
    }

    /// See [`model`].
    pub fn model(&self, provider: &str, id: &str) -> Option<&'static Model> {
        self.exact(provider, id).or_else(|| {
            let (profile, bare) = id.split_once('.')?;
            let model = self.exact(provider, bare)?;
            model.profiles.contains(&profile).then_some(model)
        })
    }

    fn exact(&self, provider: &str, id: &str) -> Option<&'static Model> {
        let above = self.layers.iter();
        let above = above.filter_map(|layer| layer.find(provider, id)).next();
        above.or_else(|| Some(TABLE.model(TABLE.find(provider, id)?)))
    }

    /// See [`of`].
    pub fn of(&self, provider: &str) -> Vec<&'static Model> {
        let mut found: Vec<(usize, &'static Model)> = Vec::new();
        for (depth, layer) in self.layers.iter().enumerate() {
            let served = layer.served_by(provider).iter();
            found.extend(served.map(|model| (depth, *model)));
        }
        let built_in = TABLE.served_by(provider).map(|at| TABLE.model(at));
        found.extend(built_in.map(|model| (usize::MAX, model)));
        found.sort_by(|(high, a), (low, b)| lower(a.id, b.id).then(high.cmp(low)));
        found.dedup_by(|(_, below), (_, above)| lower(below.id, above.id).is_eq());
        found.into_iter().map(|(_, model)| model).collect()
    }

    /// See [`bare`].
    pub fn bare(&self, id: &str) -> Vec<(&'static str, &'static str)> {
        let mut found: Vec<Line<'static>> = Vec::new();
        let above = self.layers.iter().flat_map(|layer| layer.same_id(id));
        let built_in = TABLE.same_id(id).iter().map(|at| TABLE.line(*at));
        for line in above.map(|model| model.line()).chain(built_in) {
            let is_hidden = |known: &Line<'_>| {
                known.provider == line.provider && lower(known.id, line.id).is_eq()
            };
            if !found.iter().any(is_hidden) {
                found.push(line);
            }
        }
        if found.iter().any(|line| line.id == id) {
            found.retain(|line| line.id == id);
        }
        found.sort_by_key(|line| (line.is_retired(), !MAKERS.contains(&line.provider)));
        found
            .into_iter()
            .map(|line| (line.provider, line.id))
            .collect()
    }

    /// See [`closest`].
    pub fn closest(&self, name: &str) -> Vec<String> {
        const MOST: usize = 40;
        let lower = name.to_ascii_lowercase();
        let serves = |provider: &str| {
            let mut above = self.layers.iter();
            !TABLE.served_by(provider).is_empty()
                || above.any(|layer| !layer.served_by(provider).is_empty())
        };
        let prefix = lower
            .split_once('/')
            .filter(|(provider, _)| serves(provider));
        let wanted = Pattern::new(prefix.map_or(&*lower, |(_, id)| id));
        let above = self.layers.iter().flat_map(|layer| layer.by_id());
        let built_in = TABLE.by_id.iter().map(|at| TABLE.line(*at));
        let mut near: Vec<(usize, Line<'static>)> = Vec::new();
        let mut last: Option<(&str, Option<usize>)> = None;
        for line in above.map(|model| model.line()).chain(built_in) {
            if prefix.is_some_and(|(provider, _)| provider != line.provider) {
                continue;
            }
            // The same id at another provider is as far away.
            let far = match last {
                Some((id, far)) if id == line.id => far,
                Some(_) | None => wanted.distance_to_id(line.id),
            };
            last = Some((line.id, far));
            near.extend(far.map(|far| (far, line)));
        }
        near.sort_by_key(|(far, line)| {
            let is_strange = !MAKERS.contains(&line.provider);
            (*far, line.is_retired(), is_strange, line.provider, line.id)
        });
        // What an upper layer has, a lower one may have again.
        near.dedup_by(|(_, a), (_, b)| (a.provider, a.id) == (b.provider, b.id));
        near.truncate(MOST);
        near.into_iter()
            .map(|(_, line)| format!("{}/{}", line.provider, line.id))
            .collect()
    }
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
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// What its maker says to use instead.
    pub successor: Option<&'static str>,
    /// The efforts it takes, by name; empty is not known.
    pub efforts: Vec<&'static str>,
    caps: u32,
    lacks: u32,
    profiles: Vec<&'static str>,
    price: Price,
}

impl Model {
    pub fn can(&self, cap: Cap) -> bool {
        self.caps & cap.bit() != 0
    }

    /// Returns whether it is known not to have `cap`, one of [`Cap::NEEDED`]. Mostly neither is known.
    pub fn lacks(&self, cap: Cap) -> bool {
        self.lacks & cap.bit() != 0
    }

    pub fn price(&self) -> &Price {
        &self.price
    }

    fn line(&self) -> Line<'static> {
        Line {
            provider: self.provider,
            id: self.id,
            facts: "",
            retired: self.status == Status::Retired,
        }
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

impl Mode {
    /// Returns the word that lists of models use.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Chat => "chat",
            Mode::Completion => "completion",
            Mode::Embedding => "embedding",
            Mode::Image => "image",
            Mode::Video => "video",
            Mode::Speech => "speech",
            Mode::Transcription => "transcription",
            Mode::Realtime => "realtime",
            Mode::Rerank => "rerank",
            Mode::Moderation => "moderation",
            Mode::Ocr => "ocr",
            Mode::Search => "search",
            Mode::Decisions => "decisions",
        }
    }
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
    /// What a request can need, and a model be known to lack.
    pub const NEEDED: [Cap; 8] = [
        Cap::Vision,
        Cap::AudioIn,
        Cap::AudioOut,
        Cap::Pdf,
        Cap::VideoIn,
        Cap::Tools,
        Cap::JsonSchema,
        Cap::Reasoning,
    ];

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

    /// Returns what it is called in the catalogue, and in lists of models.
    pub fn names_of(model: &Model) -> impl Iterator<Item = &'static str> {
        let held = Self::NAMES.iter().filter(|(_, cap)| model.can(*cap));
        held.map(|(name, _)| *name)
    }

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

/// A line of `conf/models.tsv`, or as much of a model of another layer.
#[derive(Clone, Copy)]
struct Line<'t> {
    provider: &'t str,
    id: &'t str,
    /// JSON text.
    facts: &'t str,
    retired: bool,
}

impl Line<'_> {
    fn is_retired(&self) -> bool {
        self.retired || self.facts.contains("\"status\":\"retired\"")
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

    fn line(&self, at: u16) -> Line<'static> {
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
            retired: false,
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

    fn model(&'static self, at: u16) -> &'static Model {
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
