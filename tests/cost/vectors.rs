//! Our own worked examples, one or more for each rule: a row of the catalogue, a provider's usage, the sum by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use strait::protocol::usage::Usage;
use strait::provider::catalogue::{Catalogue, Override};
use strait::provider::cost::{self, Ask, Place, Price};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    id: String,
    /// The rule.
    #[expect(dead_code, reason = "for who reads the file")]
    why: String,
    /// The model's row, in the words of the catalogue.
    row: Box<RawValue>,
    family: String,
    usage: Box<RawValue>,
    svc: Option<String>,
    at: Option<String>,
    host: Option<String>,
    /// Counted by the gateway, because usage doesn't tell them.
    #[serde(default)]
    searches: u64,
    #[serde(default)]
    maps_searches: u64,
    #[serde(default)]
    file_searches: u64,
    #[serde(default)]
    images: u64,
    #[serde(default)]
    characters: u64,
    /// Rows of other models that took part.
    #[serde(default)]
    others: BTreeMap<String, Box<RawValue>>,
    /// It is the provider's own bill.
    #[serde(default)]
    reported: bool,
    expected_usd: String,
}

fn price(row: &RawValue) -> &'static Price {
    let row = Override::read("lab", "m", row.get()).unwrap();
    let catalogue = Catalogue::new(None, &[row]).unwrap();
    catalogue.model("lab", "m").unwrap().price()
}

impl Vector {
    fn read(&self) -> Usage {
        let mut usage = Usage::default();
        let json = self.usage.get().as_bytes();
        let is_read = match self.family.as_str() {
            "none" => true,
            "google-gemini-grounded" => usage.read_gemini(json, true),
            family => super::read(family, &mut usage, json),
        };
        assert!(is_read, "{} is not read", self.id);
        usage.searches = usage.searches.max(self.searches);
        usage.maps_searches = self.maps_searches;
        usage.file_searches = self.file_searches;
        usage.images = self.images;
        usage.characters = self.characters;
        usage.tier = self.svc.as_deref().map(Into::into).or(usage.tier);
        usage
    }
}

#[test]
fn every_rule_comes_out_as_by_hand() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("vectors.json")).unwrap();
    let mut wrong = Vec::new();
    for vector in &vectors {
        let others: BTreeMap<&str, &'static Price> = vector
            .others
            .iter()
            .map(|(name, row)| (name.as_str(), price(row)))
            .collect();
        let other = |name: &str| others.get(name).copied();
        let ask = Ask {
            at: vector
                .at
                .as_ref()
                .map_or_else(super::snapshot, |at| at.parse().unwrap()),
            place: vector.host.as_deref().map_or(Place::Anywhere, Place::of),
            other: &other,
        };
        let cost = ask.cost(Some(price(&vector.row)), &vector.read());
        let found = (cost::usd(cost.pico), cost.unpriced, cost.reported);
        let wanted = (vector.expected_usd.clone(), false, vector.reported);
        if found != wanted {
            wrong.push(format!("{}: {found:?} instead of {wanted:?}", vector.id));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(vectors.len() >= 80, "{} vectors", vectors.len());
}

#[test]
fn what_has_no_price_is_never_silently_free() {
    let usage = Usage {
        input: 1000,
        output: 10,
        ..Usage::default()
    };
    let ask = |row: &str| {
        let row: Box<RawValue> = serde_json::from_str(row).unwrap();
        cost::cost(price(&row), &usage, super::snapshot())
    };
    for row in [
        "{}",
        r#"{"unknown":true}"#,
        r#"{"price":{"in":1}}"#,
        r#"{"price":{"out":1}}"#,
        r#"{"unknown":true,"price":{"in":0,"out":0}}"#,
        r#"{"fees":{"krequest":5}}"#,
    ] {
        assert!(ask(row).unpriced, "{row}");
    }
    assert!(!ask(r#"{"price":{"in":0,"out":0}}"#).unpriced);
}

#[test]
fn what_is_counted_in_units_without_a_price_is_not_free_either() {
    type Count = fn(&mut Usage);
    let units: [(&str, Count); 5] = [
        ("mchar_in", |usage| usage.characters = 500),
        ("image_out", |usage| usage.images = 2),
        ("kquery", |usage| usage.queries = 1),
        ("kpage", |usage| usage.pages = 3),
        ("second_in", |usage| usage.duration = Duration::from_secs(9)),
    ];
    for (unit, count) in units {
        let mut usage = Usage::default();
        count(&mut usage);
        let ask = |row: String| {
            let row: Box<RawValue> = serde_json::from_str(&row).unwrap();
            cost::cost(price(&row), &usage, super::snapshot())
        };
        let by_token = ask(r#"{"price":{"in":1,"out":1}}"#.into());
        assert!(by_token.unpriced && by_token.pico == 0, "{unit} by token");
        let by_unit = ask(format!(r#"{{"fees":{{"{unit}":5}}}}"#));
        assert!(!by_unit.unpriced && by_unit.pico > 0, "{unit} by unit");
        let free = ask(r#"{"price":{"in":0,"out":0}}"#.into());
        assert!(!free.unpriced, "{unit} for nothing");
    }
}

#[test]
fn speech_is_billed_by_the_character_or_by_the_second() {
    let usage = Usage {
        characters: 1000,
        duration: Duration::from_secs(60),
        ..Usage::default()
    };
    let ask = |row: &str| {
        let row: Box<RawValue> = serde_json::from_str(row).unwrap();
        cost::usd(cost::cost(price(&row), &usage, super::snapshot()).pico)
    };
    let both = r#"{"fees":{"mchar_in":15,"second_out":0.00025}}"#;
    assert_eq!(ask(both), "0.015");
    let seconds = r#"{"price":{"in":0.6,"out":12},"fees":{"second_out":0.00025}}"#;
    assert_eq!(ask(seconds), "0.015");
    assert_eq!(ask(r#"{"fees":{"mchar_in":30}}"#), "0.03");
}
