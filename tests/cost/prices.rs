//! Prices at their boundaries.

use strait::protocol::usage::{Usage, decimal};
use strait::provider::catalogue;
use strait::provider::cost::{
    self, Cost, Multiplier, Place, Price, Rates, Service, Tier, Token, Unit,
};

use super::{snapshot, tokens};

fn rates(prices: &[(&str, f64)]) -> Rates {
    Rates::from_usd_per_million(prices.iter().copied()).unwrap()
}

fn price(prices: &[(&str, f64)]) -> Price {
    Price::from(rates(prices))
}

fn usd(price: &Price, usage: &Usage) -> String {
    cost::usd(cost::cost(price, usage, snapshot()).pico)
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
