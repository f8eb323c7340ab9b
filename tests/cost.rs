//! Prices and usage against the worked examples of the catalogue's makers, and the catalogue itself.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use strait::protocol::usage::{SearchSize, Usage, decimal};
use strait::provider::catalogue::{self, Cap, Mode, Status};
use strait::provider::cost::{
    self, Cost, Multiplier, Place, Price, Rates, Service, Tier, Token, Unit,
};

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

/// The snapshot's day, at a peak hour of a Monday.
fn snapshot() -> Timestamp {
    "2026-11-23T02:00:00Z".parse().unwrap()
}

fn vectors() -> Option<Vec<Vector>> {
    let shared = std::env::var_os("STRAIT_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")),
        PathBuf::from,
    );
    let Ok(text) = std::fs::read_to_string(shared.join("catalogue/cost_vectors.json")) else {
        eprintln!("{} is absent: its vectors are not run", shared.display());
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

// ---- prices ----

fn rates(prices: &[(&str, f64)]) -> Rates {
    Rates::from_usd_per_million(prices.iter().copied()).unwrap()
}

fn price(prices: &[(&str, f64)]) -> Price {
    Price::from(rates(prices))
}

fn usd(price: &Price, usage: &Usage) -> String {
    cost::usd(cost::cost(price, usage, snapshot()).pico)
}

fn tokens(input: u64, output: u64) -> Usage {
    Usage {
        input,
        output,
        ..Usage::default()
    }
}

#[test]
fn cached_tokens_without_a_price_cost_what_input_costs() {
    let usage = Usage {
        cache_read: 600,
        cache_write: 100,
        cache_write_1h: 100,
        ..tokens(1000, 0)
    };
    assert_eq!(usd(&price(&[("in", 2.0), ("out", 4.0)]), &usage), "0.002");
    let free = price(&[("in", 2.0), ("out", 4.0), ("cache_read", 0.0)]);
    assert_eq!(usd(&free, &usage), "0.0008", "a price of 0 is a price");
    let write = price(&[("in", 2.0), ("cache_read", 0.0), ("cache_write", 10.0)]);
    assert_eq!(
        usd(&write, &usage),
        "0.0024",
        "an hour costs what five minutes cost, when it has no price"
    );
}

#[test]
fn parts_without_a_rate_are_priced_with_their_whole() {
    let usage = Usage {
        audio_in: 400,
        reasoning: 80,
        audio_out: 10,
        ..tokens(1000, 100)
    };
    assert_eq!(usd(&price(&[("in", 1.0), ("out", 10.0)]), &usage), "0.002");
    let split = price(&[
        ("in", 1.0),
        ("out", 10.0),
        ("audio_in", 5.0),
        ("reasoning", 20.0),
    ]);
    assert_eq!(usd(&split, &usage), "0.0044");
}

#[test]
fn cached_audio_is_not_charged_twice() {
    let usage = Usage {
        cache_read: 500,
        audio_in: 400,
        audio_cached: 300,
        ..tokens(1000, 0)
    };
    let price = price(&[
        ("in", 1.0),
        ("cache_read", 0.1),
        ("audio_in", 10.0),
        ("audio_cache_read", 2.0),
    ]);
    // 300 cached audio at 2, 200 cached text at 0.1, 100 fresh audio at 10, 400 fresh text at 1.
    assert_eq!(usd(&price, &usage), "0.00202");
}

#[test]
fn a_part_larger_than_its_whole_never_costs_more_than_the_whole() {
    let usage = Usage {
        audio_in: 5000,
        reasoning: 5000,
        image_cached: 70,
        ..tokens(1000, 100)
    };
    let dear = price(&[
        ("in", 1.0),
        ("out", 1.0),
        ("audio_in", 2.0),
        ("reasoning", 2.0),
        ("image_in", 9.0),
    ]);
    assert_eq!(usd(&dear, &usage), "0.0022");
}

#[test]
fn a_tier_moves_the_whole_request_once_its_threshold_is_passed() {
    let mut price = price(&[("in", 1.0), ("out", 2.0), ("cache_read", 0.5)]);
    price.tiers = vec![
        Tier {
            above: 2000,
            rates: rates(&[("in", 100.0)]),
        },
        Tier {
            above: 1000,
            rates: rates(&[("in", 10.0)]),
        },
    ];
    assert_eq!(
        usd(&price, &tokens(1000, 10)),
        "0.00102",
        "at the threshold"
    );
    assert_eq!(
        usd(&price, &tokens(1001, 10)),
        "0.01003",
        "above it; the key not named keeps its rate"
    );
    assert_eq!(
        usd(&price, &tokens(2001, 10)),
        "0.20012",
        "the highest that is passed counts"
    );
    let cached = Usage {
        cache_read: 1000,
        ..tokens(1001, 0)
    };
    assert_eq!(
        usd(&price, &cached),
        "0.00051",
        "cached tokens count for the threshold"
    );
    price.inclusive = true;
    assert_eq!(usd(&price, &tokens(1000, 10)), "0.01002");
    assert_eq!(usd(&price, &tokens(999, 10)), "0.001019");
}

#[test]
fn a_service_tier_replaces_the_rates_it_names() {
    let mut price = price(&[("in", 10.0), ("out", 20.0)]);
    price.services = vec![Service {
        name: "flex".into(),
        rates: rates(&[("in", 5.0)]),
        tiers: vec![Tier {
            above: 100,
            rates: rates(&[("in", 7.0)]),
        }],
    }];
    let served = |tier: &str, input| Usage {
        tier: Some(tier.into()),
        ..tokens(input, 10)
    };
    assert_eq!(usd(&price, &served("flex", 100)), "0.0007");
    assert_eq!(usd(&price, &served("flex", 101)), "0.000907");
    assert_eq!(usd(&price, &served("default", 100)), "0.0012");
    assert_eq!(usd(&price, &served("unheard of", 100)), "0.0012");
}

#[test]
fn the_hour_and_the_day_choose_deepseeks_rates() {
    let model = catalogue::model("deepseek", "deepseek-v4-flash").unwrap();
    let at = |time: &str| {
        let time = time.parse().unwrap();
        cost::usd(
            model
                .cost(&tokens(1_000_000, 0), time, Place::Anywhere)
                .pico,
        )
    };
    // Monday.
    assert_eq!(at("2026-11-23T00:59:59Z"), "0.15");
    assert_eq!(at("2026-11-23T01:00:00Z"), "0.3");
    assert_eq!(at("2026-11-23T03:59:59Z"), "0.3");
    assert_eq!(at("2026-11-23T04:00:00Z"), "0.15");
    assert_eq!(at("2026-11-23T23:59:59Z"), "0.15");
    // Friday, Saturday, Sunday, and a day before 1970.
    assert_eq!(at("2026-11-27T07:00:00Z"), "0.3");
    assert_eq!(at("2026-11-28T07:00:00Z"), "0.15");
    assert_eq!(at("2026-11-29T07:00:00Z"), "0.15");
    assert_eq!(at("1969-12-31T07:00:00Z"), "0.3");
}

#[test]
fn an_announced_price_counts_from_its_day_on() {
    let model = catalogue::model("gemini", "gemini-3.6-flash").unwrap();
    let at = |time: &str| {
        let time = time.parse().unwrap();
        cost::usd(
            model
                .cost(&tokens(1_000_000, 0), time, Place::Anywhere)
                .pico,
        )
    };
    assert_eq!(at("2026-12-31T23:59:59Z"), "0.75");
    assert_eq!(at("2027-01-01T00:00:00Z"), "1.5");
}

#[test]
fn multipliers_touch_tokens_and_not_fees() {
    let mut price = price(&[("in", 10.0), ("out", 20.0)]);
    price.multipliers = vec![
        (Multiplier::GeoUs, 1_100_000),
        (Multiplier::Fast, 2_000_000),
    ];
    price.fees = vec![(Unit::Search, 10 * cost::PICO / 1000)];
    let us = Usage {
        searches: 1,
        geo: Some("us".into()),
        ..tokens(100, 0)
    };
    assert_eq!(usd(&price, &us), "0.0111");
    let global = Usage {
        geo: Some("global".into()),
        ..us.clone()
    };
    assert_eq!(usd(&price, &global), "0.011");
    let fast = Usage {
        tier: Some("fast".into()),
        ..us
    };
    assert_eq!(usd(&price, &fast), "0.0122");
}

#[test]
fn searches_are_billed_once_a_prompt_where_the_row_says_so() {
    let model = catalogue::model("gemini", "gemini-2.5-flash").unwrap();
    let usage = Usage {
        searches: 4,
        ..Usage::default()
    };
    assert_eq!(
        cost::usd(model.cost(&usage, snapshot(), Place::Anywhere).pico),
        "0.035"
    );
}

#[test]
fn speech_is_billed_by_time_with_a_least_time() {
    let groq = catalogue::model("groq", "whisper-large-v3").unwrap();
    let mut usage = Usage::default();
    assert!(usage.read_openai_responses(br#"{"type":"duration","seconds":2.5}"#));
    let short = groq.cost(&usage, snapshot(), Place::Anywhere).pico;
    assert!(usage.read_openai_responses(br#"{"type":"duration","seconds":"10"}"#));
    let ten = groq.cost(&usage, snapshot(), Place::Anywhere).pico;
    assert!(short > 0 && short == ten, "{short} {ten}");
    let whisper = catalogue::model("openai", "whisper-1").unwrap();
    assert!(usage.read_openai_responses(br#"{"type":"duration","seconds":2.5}"#));
    assert_eq!(
        cost::usd(whisper.cost(&usage, snapshot(), Place::Anywhere).pico),
        "0.00025"
    );
}

#[test]
fn what_has_no_price_is_said_to_have_none() {
    let none = Price::default();
    let usage = tokens(10, 10);
    assert!(cost::cost(&none, &usage, snapshot()).unpriced);
    let half = price(&[("in", 1.0)]);
    let cost = cost::cost(&half, &usage, snapshot());
    assert_eq!(
        cost,
        Cost {
            pico: 10_000_000,
            unpriced: true,
            reported: false
        }
    );
    let unknown = Price {
        unknown: true,
        ..price(&[("in", 0.0), ("out", 0.0)])
    };
    assert!(
        cost::cost(&unknown, &usage, snapshot()).unpriced,
        "a litellm zero is not free"
    );
    let bill = Usage {
        reported: Some(7),
        ..usage
    };
    let cost = cost::cost(&none, &bill, snapshot());
    assert_eq!(
        cost,
        Cost {
            pico: 7,
            unpriced: false,
            reported: true
        }
    );
}

#[test]
fn sums_saturate() {
    let all = u64::MAX;
    let usage = Usage {
        cache_read: all,
        searches: all,
        ..tokens(all, all)
    };
    let mut price = price(&[("in", 600.0), ("out", 600.0)]);
    price.multipliers = vec![(Multiplier::Region, all)];
    price.fees = vec![(Unit::Search, all)];
    assert_eq!(cost::cost(&price, &usage, snapshot()).pico, all);
    assert_eq!(cost::flat(&rates(&[("in", 1e12)]), &usage), all);
}

#[test]
fn dollars_are_written_exactly() {
    for (pico, text) in [
        (0, "0"),
        (1, "0.000000000001"),
        (450_000_000, "0.00045"),
        (1_000_000_000_000, "1"),
        (12_300_000_000_000, "12.3"),
        (u64::MAX, "18446744.073709551615"),
    ] {
        assert_eq!(cost::usd(pico), text);
        assert_eq!(decimal(text, 12), Some(pico));
    }
}

#[test]
fn decimal_text_is_read_exactly() {
    for (text, wanted) in [
        ("0.1", Some(100_000)),
        ("1", Some(1_000_000)),
        ("1e-6", Some(1)),
        ("2.5E+1", Some(25_000_000)),
        ("0.0000005", Some(1)),
        ("0.00000049", Some(0)),
        (".5", Some(500_000)),
        ("0e999999999", Some(0)),
        ("1e999999999", None),
        ("1e-999999999", Some(0)),
        ("1e99999999999", None),
        ("99999999999999999999", None),
        ("", None),
        (".", None),
        ("-1", None),
        ("NaN", None),
        ("inf", None),
        ("1.2.3", None),
        ("e5", None),
    ] {
        assert_eq!(decimal(text, 6), wanted, "{text:?}");
    }
}

#[test]
fn configured_prices_are_read_without_loss_and_mistakes_are_named() {
    let read = rates(&[
        ("in", 0.1),
        ("out", 0.4),
        ("cache_read", 0.000001),
        ("cache_write", 3.0),
    ]);
    assert_eq!(read.get(Token::Input), Some(100_000));
    assert_eq!(read.get(Token::Output), Some(400_000));
    assert_eq!(read.get(Token::CacheRead), Some(1));
    assert_eq!(read.get(Token::CacheWrite), Some(3_000_000));
    assert_eq!(read.get(Token::AudioIn), None);
    for (name, value) in [
        ("inn", 1.0),
        ("in", -1.0),
        ("out", f64::NAN),
        ("out", f64::INFINITY),
    ] {
        let wrong = Rates::from_usd_per_million([(name, value)]).unwrap_err();
        assert!(wrong.contains(&format!("`{name}`")), "{wrong}");
    }
    let table: Rates = toml::from_str("in = 0.1\nout = 2\n").unwrap();
    assert_eq!(
        (table.get(Token::Input), table.get(Token::Output)),
        (Some(100_000), Some(2_000_000))
    );
    assert!(
        toml::from_str::<Rates>("inn = 1.0")
            .unwrap_err()
            .to_string()
            .contains("inn")
    );
}

// ---- usage ----

fn chat(json: &str) -> Usage {
    let mut usage = Usage::default();
    assert!(usage.read_openai_chat(json.as_bytes()), "{json}");
    usage
}

#[test]
fn what_is_no_usage_is_left_alone() {
    let before = Usage {
        cache_read: 3,
        reported: Some(1),
        tier: Some("flex".into()),
        ..tokens(5, 7)
    };
    for json in [
        "",
        "null",
        "{}",
        "[]",
        "3",
        "{\"prompt_tokens\":null}",
        "{\"prompt_tokens\":1",
        "{\"a\":{}}",
    ] {
        let mut usage = before.clone();
        let bytes = json.as_bytes();
        assert!(!usage.read_openai_chat(bytes), "{json}");
        assert!(!usage.read_openai_responses(bytes), "{json}");
        assert!(!usage.read_openai_images(bytes), "{json}");
        assert!(!usage.read_anthropic(bytes), "{json}");
        assert!(!usage.read_gemini(bytes, false), "{json}");
        assert!(!usage.read_bedrock(bytes), "{json}");
        assert!(!usage.read_cohere(bytes), "{json}");
        assert!(!usage.read_ollama(bytes), "{json}");
        assert!(!usage.read_mistral_ocr(bytes), "{json}");
        assert_eq!(usage, before, "{json}");
    }
}

#[test]
fn numbers_come_as_floats_and_strings_and_details_as_anything() {
    let usage = chat(
        r#"{"prompt_tokens":"12","completion_tokens":3.0,"total_tokens":-1,"prompt_tokens_details":null,
            "completion_tokens_details":[],"cost":"0.5","cost_details":7,"is_byok":null,"search_context_size":4}"#,
    );
    assert_eq!(
        usage,
        Usage {
            reported: Some(cost::PICO / 2),
            ..tokens(12, 3)
        }
    );
    let usage = chat(r#"{"prompt_tokens":{"n":[1]},"completion_tokens":true,"total_tokens":9}"#);
    assert_eq!(usage, tokens(9, 0));
    assert_eq!(
        chat(r#"{"prompt_tokens":1e30,"completion_tokens":0}"#).input,
        u64::MAX
    );
}

#[test]
fn parts_are_cut_to_their_wholes() {
    let usage = chat(
        r#"{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110,
            "prompt_tokens_details":{"cached_tokens":80,"cache_write_tokens":70,"audio_tokens":500},
            "completion_tokens_details":{"reasoning_tokens":8,"audio_tokens":8}}"#,
    );
    assert_eq!(
        (usage.cache_read, usage.cache_write, usage.fresh()),
        (80, 20, 0)
    );
    assert_eq!(
        (usage.audio_in, usage.reasoning, usage.audio_out),
        (100, 8, 2)
    );
}

#[test]
fn reasoning_is_added_only_when_it_stands_outside() {
    let of = |completion, total, reasoning| {
        let usage = chat(&format!(
            r#"{{"prompt_tokens":10,"completion_tokens":{completion},"total_tokens":{total},
                "completion_tokens_details":{{"reasoning_tokens":{reasoning}}}}}"#
        ));
        (usage.output, usage.reasoning)
    };
    assert_eq!(of(100, 110, 60), (100, 60), "OpenAI");
    assert_eq!(of(100, 170, 60), (160, 60), "xAI");
    assert_eq!(of(160, 170, 60), (160, 60), "xAI, folded in already");
    assert_eq!(of(20, 0, 60), (80, 60), "it can't be inside");
    let research = chat(
        r#"{"prompt_tokens":33,"completion_tokens":7163,"total_tokens":7196,"citation_tokens":19694,
            "num_search_queries":28,"reasoning_tokens":193586}"#,
    );
    assert_eq!(
        (research.output, research.reasoning, research.citation),
        (220443, 193586, 19694)
    );
    assert_eq!(research.searches, 28);
}

#[test]
fn the_bill_is_read_in_each_form() {
    let tokens = r#""prompt_tokens":1,"completion_tokens":1,"total_tokens":2"#;
    let bill = |more: &str| {
        chat(&format!("{{{tokens},{more}}}"))
            .reported
            .map(cost::usd)
    };
    assert_eq!(bill(r#""cost":0.00014"#).as_deref(), Some("0.00014"));
    assert_eq!(bill(r#""cost":1.4e-05"#).as_deref(), Some("0.000014"));
    assert_eq!(
        bill(r#""cost":{"input_tokens_cost":0.1,"total_cost":0.006}"#).as_deref(),
        Some("0.006")
    );
    assert_eq!(
        bill(r#""cost_in_usd_ticks":37756000"#).as_deref(),
        Some("0.0037756")
    );
    let byok = r#""cost":0.01,"is_byok":true,"cost_details":{"upstream_inference_cost":0.2}"#;
    assert_eq!(bill(byok).as_deref(), Some("0.21"));
    let own = r#""cost":0.01,"is_byok":false,"cost_details":{"upstream_inference_cost":0.01}"#;
    assert_eq!(bill(own).as_deref(), Some("0.01"));
    assert_eq!(bill(r#""cost":null"#), None);
    assert_eq!(bill(r#""cost":{}"#), None);
}

#[test]
fn anthropic_usage_overlays_what_was_there() {
    let mut usage = Usage::default();
    assert!(usage.read_anthropic(
        br#"{"input_tokens":10,"cache_creation_input_tokens":50,"cache_read_input_tokens":100,
            "cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":30},
            "output_tokens":1,"service_tier":"standard","inference_geo":"us"}"#
    ));
    assert_eq!(
        (usage.input, usage.cache_write, usage.cache_write_1h),
        (160, 20, 30)
    );
    assert!(
        usage.read_anthropic(br#"{"output_tokens":90,"input_tokens":null,"cache_creation":null}"#)
    );
    assert_eq!(
        (usage.input, usage.output, usage.cache_write_1h),
        (160, 90, 30)
    );
    assert!(usage.read_anthropic(br#"{"output_tokens":95,"cache_read_input_tokens":200,"speed":"fast",
        "server_tool_use":{"web_search_requests":2},"output_tokens_details":{"thinking_tokens":40}}"#));
    assert_eq!(
        (
            usage.input,
            usage.cache_read,
            usage.reasoning,
            usage.searches
        ),
        (260, 200, 40, 2)
    );
    assert_eq!(
        (usage.tier.as_deref(), usage.geo.as_deref()),
        (Some("fast"), Some("us"))
    );
    let mut unsplit = Usage::default();
    assert!(unsplit.read_anthropic(
        br#"{"input_tokens":1,"cache_creation_input_tokens":9,"output_tokens":0}"#
    ));
    assert_eq!(
        (unsplit.cache_write, unsplit.cache_write_1h),
        (9, 0),
        "a missing split means five minutes"
    );
}

#[test]
fn passes_that_the_totals_leave_out_are_priced_on_top() {
    let mut usage = Usage::default();
    assert!(usage.read_anthropic(
        br#"{"input_tokens":1000,"output_tokens":10,"iterations":[
            {"type":"compaction","input_tokens":50000,"output_tokens":100},
            {"type":"message","input_tokens":1000,"output_tokens":10}]}"#
    ));
    assert_eq!((usage.input, usage.passes.len()), (1000, 2));
    let model = catalogue::model("anthropic", "claude-opus-5").unwrap();
    let cost = model.cost(&usage, snapshot(), Place::Anywhere);
    // 51,000 in at 5 and 110 out at 25.
    assert_eq!(cost::usd(cost.pico), "0.25775");

    let mut strange = Usage::default();
    assert!(strange.read_anthropic(
        br#"{"input_tokens":1000,"output_tokens":10,"iterations":[
            {"type":"message","input_tokens":1,"output_tokens":1},
            {"type":"advisor_message","model":"claude-no-such","input_tokens":5,"output_tokens":5}]}"#
    ));
    let cost = model.cost(&strange, snapshot(), Place::Anywhere);
    assert_eq!(
        cost::usd(cost.pico),
        "0.00525",
        "passes that don't add up leave the totals"
    );
    assert!(cost.unpriced, "an advisor that nobody knows has no price");

    let mut one = Usage::default();
    assert!(one.read_anthropic(
        br#"{"input_tokens":7,"output_tokens":3,"iterations":[{"type":"message","input_tokens":7,"output_tokens":3}]}"#
    ));
    assert_eq!(one, tokens(7, 3), "a single pass says nothing more");
}

#[test]
fn what_is_written_is_read_back() {
    let usage = Usage {
        cache_read: 20,
        cache_write: 5,
        reasoning: 30,
        audio_in: 7,
        audio_out: 3,
        ..tokens(100, 50)
    };
    let mut json = Vec::new();
    usage.write_openai_chat(&mut json);
    assert_eq!(chat(std::str::from_utf8(&json).unwrap()), usage);
    assert_eq!(
        String::from_utf8(json).unwrap(),
        "{\"prompt_tokens\":100,\"completion_tokens\":50,\"total_tokens\":150,\"prompt_tokens_details\":\
         {\"cached_tokens\":20,\"cache_write_tokens\":5,\"audio_tokens\":7},\"completion_tokens_details\":\
         {\"reasoning_tokens\":30,\"audio_tokens\":3}}"
    );

    let usage = Usage {
        cache_read: 20,
        cache_write: 5,
        cache_write_1h: 6,
        reasoning: 30,
        searches: 2,
        tier: Some("default".into()),
        ..tokens(100, 50)
    };
    let mut json = Vec::new();
    usage.write_anthropic(&mut json);
    let mut back = Usage::default();
    assert!(back.read_anthropic(&json));
    assert_eq!(
        back,
        Usage {
            tier: Some("standard".into()),
            ..usage
        }
    );
    assert_eq!(
        String::from_utf8(json).unwrap(),
        "{\"input_tokens\":69,\"cache_creation_input_tokens\":11,\"cache_read_input_tokens\":20,\"cache_creation\":\
         {\"ephemeral_5m_input_tokens\":5,\"ephemeral_1h_input_tokens\":6},\"output_tokens\":50,\
         \"output_tokens_details\":{\"thinking_tokens\":30},\"server_tool_use\":{\"web_search_requests\":2},\
         \"service_tier\":\"standard\"}"
    );
}

#[test]
fn gemini_grounding_covers_the_tokens_of_its_tools() {
    let json = br#"{"promptTokenCount":100,"candidatesTokenCount":20,"toolUsePromptTokenCount":60,"totalTokenCount":180}"#;
    let mut usage = Usage::default();
    assert!(usage.read_gemini(json, false));
    assert_eq!(usage, tokens(160, 20));
    assert!(usage.read_gemini(json, true));
    assert_eq!(usage, tokens(100, 20));
}

#[test]
fn bedrock_splits_writes_by_lifetime() {
    let mut usage = Usage::default();
    assert!(usage.read_bedrock(
        br#"{"inputTokens":1,"outputTokens":2,"cacheReadInputTokens":4,"cacheWriteInputTokens":8,
            "cacheDetails":[{"ttl":"1h","inputTokens":5},{"ttl":"5m","inputTokens":3}]}"#
    ));
    let wanted = Usage {
        cache_read: 4,
        cache_write: 3,
        cache_write_1h: 5,
        ..tokens(13, 2)
    };
    assert_eq!(usage, wanted);
}

// ---- the catalogue ----

#[test]
fn every_line_is_read_and_found_again() {
    let text = include_str!("../conf/models.tsv");
    let mut count = 0;
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (provider, id) = (fields.next().unwrap(), fields.next().unwrap());
        let model = catalogue::model(provider, id)
            .unwrap_or_else(|| panic!("{provider}/{id} is not found"));
        assert_eq!((model.provider, model.id), (provider, id));
        assert!(
            catalogue::bare(id).any(|found| found == (provider, id)),
            "{provider}/{id}"
        );
        count += 1;
    }
    assert_eq!(count, 3595);
}

#[test]
fn models_are_found_by_id_then_without_case_then_by_profile() {
    let exact = catalogue::model("fireworks", "accounts/fireworks/models/kimi-k3").unwrap();
    assert_eq!(exact.mode, Mode::Chat);
    let other_case = catalogue::model("together", "qwen/qwen3.8-flash").unwrap();
    assert_eq!(other_case.id, "Qwen/Qwen3.8-Flash");
    let bare = catalogue::model("bedrock", "anthropic.claude-fable-5").unwrap();
    let us = catalogue::model("bedrock", "us.anthropic.claude-fable-5").unwrap();
    assert!(
        std::ptr::eq(bare, us),
        "the profile costs what the bare id costs"
    );
    for (provider, id) in [
        ("openai", "gpt-4o-xyz"),
        ("openai", ""),
        ("", ""),
        ("nobody", "gpt-4o"),
        ("bedrock", "mars.amazon.nova-pro-v1:0"),
    ] {
        assert!(catalogue::model(provider, id).is_none(), "{provider}/{id}");
    }
}

#[test]
fn facts_say_what_a_request_may_hold() {
    let opus = catalogue::model("anthropic", "claude-opus-5").unwrap();
    let facts = catalogue::facts(opus);
    assert_eq!(facts.max_output, Some(128_000));
    assert!(facts.json_schema && facts.no_sampling && facts.reasoning && facts.adaptive_thinking);
    assert!(opus.can(Cap::Vision) && !opus.can(Cap::AudioIn));
    let old = catalogue::facts(catalogue::model("anthropic", "claude-sonnet-4-5").unwrap());
    assert!(!old.adaptive_thinking && !old.no_sampling && old.reasoning);
    let sonnet = catalogue::model("anthropic", "claude-sonnet-4-5").unwrap();
    assert_eq!(
        (sonnet.status, sonnet.sunset),
        (Status::Deprecated, Some("2026-11-30"))
    );
    assert_eq!(sonnet.context, Some(200_000));
}

#[test]
fn a_bare_id_is_served_by_its_maker_first() {
    assert_eq!(catalogue::bare("gpt-4o").next(), Some(("openai", "gpt-4o")));
    assert_eq!(
        catalogue::bare("claude-sonnet-4-5").next(),
        Some(("anthropic", "claude-sonnet-4-5"))
    );
    assert!(catalogue::bare("gpt-4o").count() > 1);
    assert_eq!(catalogue::bare("GPT-4O").next(), Some(("openai", "gpt-4o")));
    assert_eq!(catalogue::bare("no such model").next(), None);
}

#[test]
fn the_nearest_names_come_first() {
    assert_eq!(catalogue::closest("gpt-4o-minii")[0], "openai/gpt-4o-mini");
    let dotted = catalogue::closest("claude-sonnet-4.5");
    assert!(
        dotted
            .iter()
            .any(|name| name == "anthropic/claude-sonnet-4-5"),
        "{dotted:?}"
    );
    assert_eq!(
        catalogue::closest("anthropic/claude-sonet-5")[0],
        "anthropic/claude-sonnet-5"
    );
    assert!(
        catalogue::closest("GPT-OSS-120")
            .iter()
            .any(|name| name == "groq/openai/gpt-oss-120b")
    );
    assert!(catalogue::closest("").is_empty());
    assert!(catalogue::closest("zzzzzzzzzzzzzzzzzzzzzzzz").is_empty());
    let long = "x".repeat(1 << 20);
    assert!(catalogue::closest(&long).len() <= 40);
    assert!(catalogue::closest("ünïcödé/模型").len() <= 40);
}

#[test]
fn distances_are_edit_distances() {
    // Through `closest` alone: the order of known names around one of them.
    let near = catalogue::closest("openai/gpt-4o");
    assert_eq!(near[0], "openai/gpt-4o", "distance 0");
    assert!(
        near.iter().any(|name| name == "openai/gpt-4"),
        "one deletion: {near:?}"
    );
}

#[test]
fn catalogue_is_cheap() {
    let before = resident();
    let start = std::time::Instant::now();
    let found = catalogue::model("openai", "gpt-4o").is_some();
    let load = start.elapsed();
    let after = resident();
    assert!(found);
    let start = std::time::Instant::now();
    for _ in 0..1000 {
        std::hint::black_box(catalogue::model("openai", "gpt-4o"));
    }
    let look_up = start.elapsed() / 1000;
    let start = std::time::Instant::now();
    std::hint::black_box(catalogue::closest("gpt-4o-minii"));
    let closest = start.elapsed();
    eprintln!(
        "load {load:?}, resident +{} KiB, look-up {look_up:?}, closest {closest:?}",
        (after - before) / 1024
    );
    assert!(load < std::time::Duration::from_millis(200), "{load:?}");
}

/// Bytes of this process in memory.
fn resident() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<i64>().ok())
        .unwrap_or(0)
        * 4096
}

// ---- providers ----

#[test]
fn every_provider_row_is_whole() {
    let file: toml::Table = catalogue::PROVIDERS.parse().unwrap();
    let rows = file["providers"].as_table().unwrap();
    assert!(rows.len() >= 60, "{}", rows.len());
    let mut names: Vec<&str> = rows.keys().map(String::as_str).collect();
    for (name, row) in rows {
        let row = row.as_table().unwrap();
        names.extend(
            row.get("aliases")
                .into_iter()
                .flat_map(|list| list.as_array().unwrap())
                .map(|alias| alias.as_str().unwrap()),
        );
        let protocols = row["protocols"].as_array().unwrap();
        assert!(!protocols.is_empty(), "{name}");
        for protocol in protocols {
            assert!(
                ["openai-chat", "anthropic"].contains(&protocol.as_str().unwrap()),
                "{name}"
            );
        }
        let url = row["base_url"].as_str().unwrap();
        assert!(!url.contains('{') && !url.ends_with('/'), "{name}: {url}");
        let local = row.get("local").is_some();
        assert!(url.starts_with("https://") || local, "{name}: {url}");
        assert_eq!(row.get("env").is_none(), local, "{name}");
        let auth = row["auth"].as_str().unwrap();
        assert!(
            auth == "bearer" || auth.starts_with("header:") || (auth == "none" && local),
            "{name}: {auth}"
        );
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "names and aliases are unique");
    let openai = rows["openai"].as_table().unwrap();
    assert_eq!(
        openai["base_url"].as_str(),
        Some("https://api.openai.com/v1")
    );
    let quirks = openai["quirks"].as_table().unwrap();
    for name in ["developer_role", "max_completion_tokens", "stream_options"] {
        assert_eq!(quirks[name].as_bool(), Some(true), "{name}");
    }
    let anthropic = rows["anthropic"].as_table().unwrap();
    assert_eq!(anthropic["auth"].as_str(), Some("header:x-api-key"));
    assert_eq!(
        anthropic["headers"]["anthropic-version"].as_str(),
        Some("2023-06-01")
    );
}
