//! Prices and usage against the worked examples of the catalogue's makers, and the catalogue itself.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use strait::protocol::usage::{SearchSize, Usage, decimal};
use strait::provider::catalogue;
use strait::provider::cost::{self, Place, Price, Rates, Token};

#[path = "cost/catalogue.rs"]
mod catalogue_rows;
#[path = "cost/prices.rs"]
mod prices;
#[path = "cost/recorded.rs"]
mod recorded;
#[path = "cost/usage.rs"]
mod usage;
#[path = "cost/vectors.rs"]
mod vectors_of_ours;

/// One worked example of `cost_vectors.json`.
#[derive(Deserialize)]
struct Vector {
    id: String,
    provider: String,
    model: String,
    family: String,
    usage: Box<RawValue>,
    #[serde(default)]
    stream: Vec<Frame>,
    svc: Option<String>,
    #[serde(default)]
    searches: u64,
    at: Option<String>,
    residency: Option<String>,
    location: Option<String>,
    search_size: Option<String>,
    counters: Counters,
    #[serde(default)]
    parts: Vec<Part>,
    rates: BTreeMap<String, String>,
    expected_usd: String,
}

#[derive(Deserialize)]
struct Part {
    model: String,
    counters: Counters,
}

#[derive(Deserialize, Default, Debug, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Counters {
    r#in: u64,
    out: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_1h: u64,
    audio_in: u64,
    image_in: u64,
    image_out: u64,
    reasoning: u64,
    searches: u64,
    seconds: u64,
    pages: u64,
    queries: u64,
    reported: Option<String>,
}

impl Counters {
    fn of(usage: &Usage) -> Self {
        Self {
            r#in: usage.input,
            out: usage.output,
            cache_read: usage.cache_read,
            cache_write: usage.cache_write,
            cache_write_1h: usage.cache_write_1h,
            audio_in: usage.audio_in,
            image_in: usage.image_in,
            image_out: usage.image_out,
            reasoning: usage.reasoning,
            searches: usage.searches,
            seconds: usage.duration.as_secs(),
            pages: usage.pages,
            queries: usage.queries,
            reported: usage.reported.map(cost::usd),
        }
    }
}

/// A frame of a stream: the places where providers put usage.
#[derive(Deserialize)]
struct Frame {
    message: Option<Holder>,
    delta: Option<Holder>,
    x_groq: Option<Holder>,
    usage: Option<Box<RawValue>>,
    #[serde(rename = "usageMetadata")]
    usage_metadata: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Holder {
    usage: Option<Box<RawValue>>,
}

impl Frame {
    fn usage(self) -> Option<Box<RawValue>> {
        let held = [self.message, self.delta, self.x_groq]
            .into_iter()
            .flatten()
            .find_map(|held| held.usage);
        self.usage
            .or(self.usage_metadata)
            .or(held)
            .filter(|raw| raw.get() != "null")
    }
}

fn read(family: &str, usage: &mut Usage, json: &[u8]) -> bool {
    match family {
        "openai-chat" | "xai-chat" | "groq" | "deepseek" | "perplexity" | "openrouter"
        | "moonshot" | "databricks" | "embeddings" => usage.read_openai_chat(json),
        "openai-responses" | "openai-transcription" => usage.read_openai_responses(json),
        "openai-images" => usage.read_openai_images(json),
        "anthropic-messages" => usage.read_anthropic(json),
        "google-gemini" => usage.read_gemini(json, false),
        "bedrock-converse" => usage.read_bedrock(json),
        "cohere-v2" => usage.read_cohere(json),
        "mistral-ocr" => usage.read_mistral_ocr(json),
        other => panic!("no reader for {other}"),
    }
}

fn tokens(input: u64, output: u64) -> Usage {
    Usage {
        input,
        output,
        ..Usage::default()
    }
}

/// The snapshot's day, at a peak hour of a Monday.
fn snapshot() -> Timestamp {
    "2026-11-23T02:00:00Z".parse().unwrap()
}

/// The folder of facts and recordings beside the project.
fn shared() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
    std::env::var_os("STRAIT_SHARED").map_or_else(|| beside.into(), PathBuf::from)
}

fn vectors() -> Option<Vec<Vector>> {
    let path = shared().join("catalogue/cost_vectors.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("{} is absent: its vectors are not run", path.display());
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

impl Vector {
    fn read(&self) -> Usage {
        let mut usage = Usage::default();
        assert!(
            read(&self.family, &mut usage, self.usage.get().as_bytes()),
            "{} is not read",
            self.id
        );
        usage.searches = usage.searches.max(self.searches);
        usage.tier = self.svc.as_deref().map(Into::into).or(usage.tier);
        usage
    }

    fn at(&self) -> Timestamp {
        self.at
            .as_ref()
            .map_or_else(snapshot, |at| at.parse().unwrap())
    }

    fn place(&self) -> Place {
        match (self.residency.as_deref(), self.location.as_deref()) {
            (Some("eu"), _) => Place::of("eu.api.openai.com"),
            (_, Some(location)) => Place::of(&format!("{location}-aiplatform.googleapis.com")),
            _ => Place::Anywhere,
        }
    }
}

#[test]
fn every_vector_is_read_into_its_counters() {
    for vector in vectors().into_iter().flatten() {
        let usage = vector.read();
        assert_eq!(Counters::of(&usage), vector.counters, "{}", vector.id);
        let passes: Vec<_> = usage
            .passes
            .iter()
            .map(|pass| {
                (
                    pass.model.as_deref().unwrap_or(&vector.model),
                    Counters::of(&pass.usage),
                )
            })
            .collect();
        for (found, wanted) in passes.iter().zip(&vector.parts) {
            assert_eq!(
                (found.0, &found.1),
                (&*wanted.model, &wanted.counters),
                "{}",
                vector.id
            );
        }
        assert_eq!(passes.len(), vector.parts.len(), "{}", vector.id);
    }
}

#[test]
fn every_stream_ends_with_the_usage_of_the_whole_answer() {
    for mut vector in vectors()
        .into_iter()
        .flatten()
        .filter(|vector| !vector.stream.is_empty())
    {
        let mut usage = Usage::default();
        for frame in std::mem::take(&mut vector.stream) {
            if let Some(raw) = frame.usage() {
                assert!(
                    read(&vector.family, &mut usage, raw.get().as_bytes()),
                    "{}",
                    vector.id
                );
            }
        }
        assert_eq!(usage, vector.read(), "{}", vector.id);
    }
}

#[test]
fn every_vector_costs_what_it_should_by_the_catalogue() {
    for vector in vectors().into_iter().flatten() {
        let model = catalogue::model(&vector.provider, &vector.model).unwrap_or_else(|| {
            panic!(
                "{}: no model {}/{}",
                vector.id, vector.provider, vector.model
            )
        });
        let usage = vector.read();
        let cost = model.cost(&usage, vector.at(), vector.place());
        assert_eq!(cost::usd(cost.pico), vector.expected_usd, "{}", vector.id);
        assert!(!cost.unpriced, "{} is priced", vector.id);
        assert_eq!(
            cost.reported,
            vector.counters.reported.is_some(),
            "{}",
            vector.id
        );
        if let Some(size) = &vector.search_size {
            assert_eq!(
                (&**size, usage.search_size),
                ("low", Some(SearchSize::Low)),
                "{}",
                vector.id
            );
        }
    }
}

#[test]
fn the_catalogue_chooses_the_rates_that_the_vectors_state() {
    for vector in vectors().into_iter().flatten() {
        let price = catalogue::model(&vector.provider, &vector.model)
            .unwrap()
            .price();
        let usage = vector.read();
        let chosen = price.rates(usage.input, usage.tier.as_deref(), vector.at());
        for (name, wanted) in &vector.rates {
            let wanted = decimal(wanted, 6);
            assert_eq!(
                chosen.get(Token::from_name(name).unwrap()),
                wanted,
                "{} {name}",
                vector.id
            );
        }
    }
}

#[test]
fn the_stated_rates_alone_give_the_same_sum() {
    // Without fees, multipliers and other models, the rates of the vector are the whole price.
    for vector in vectors().into_iter().flatten() {
        let usage = vector.read();
        let apart = usage.searches > 0
            || usage.search_size.is_some()
            || vector.rates.is_empty()
            || !usage.passes.is_empty()
            || vector.place() != Place::Anywhere;
        if apart {
            continue;
        }
        let stated = vector
            .rates
            .iter()
            .map(|(name, usd)| (&**name, usd.parse::<f64>().unwrap()));
        let price = Price::from(Rates::from_usd_per_million(stated).unwrap());
        let cost = cost::cost(&price, &usage, snapshot());
        assert_eq!(cost::usd(cost.pico), vector.expected_usd, "{}", vector.id);
    }
}
