//! What lies over the built-in catalogue: rows of the configuration, files, and what is done about old models.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use jiff::Timestamp;
use strait::protocol::usage::Usage;
use strait::provider::catalogue::{
    Cap, Catalogue, Layer, Mode, Model, Override, Policy, Standing, Status, Unpriced,
};
use strait::provider::cost::{self, Place};

fn row(provider: &str, id: &str, facts: &str) -> Override {
    Override::read(provider, id, facts).unwrap()
}

fn usd(model: &Model, input: u64, output: u64) -> String {
    let usage = Usage {
        input,
        output,
        ..Usage::default()
    };
    let at: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    cost::usd(cost::cost(model.price(), &usage, at).pico)
}

#[test]
fn a_row_replaces_the_price_as_a_whole_and_the_rest_key_by_key() {
    let built_in = Catalogue::default().model("openai", "gpt-5.5").unwrap();
    let own = Catalogue::new(
        None,
        &[row("openai", "GPT-5.5", r#"{"price":{"in":1,"out":2}}"#)],
    )
    .unwrap();
    let model = own.model("openai", "gpt-5.5").unwrap();
    assert_eq!(usd(model, 1_000_000, 1_000_000), "3");
    // The built-in tier above 272,000 went with the built-in price.
    assert_eq!(model.price().tiers, vec![]);
    assert_eq!((model.context, model.id), (built_in.context, built_in.id));
    assert!(model.can(Cap::Tools));

    let smaller = Catalogue::new(None, &[row("openai", "gpt-5.5", r#"{"context":1000}"#)]).unwrap();
    let model = smaller.model("openai", "gpt-5.5").unwrap();
    assert_eq!(model.context, Some(1000));
    assert_eq!(model.price(), built_in.price());
    assert_eq!(
        Catalogue::default().model("openai", "gpt-5.5").unwrap(),
        built_in,
        "the built-in one stays"
    );
}

#[test]
fn a_new_model_is_found_by_every_way() {
    let facts = r#"{"mode":"embedding","context":512,"price":{"in":0.5},"capabilities":["vision","pdf"],
        "efforts":["low"],"status":"deprecated","sunset":"2027-01-31","successor":"lab/newer"}"#;
    let own = Catalogue::new(None, &[row("lab", "Tiny-Embed", facts)]).unwrap();
    let model = own.model("lab", "tiny-embed").unwrap();
    assert_eq!((model.provider, model.id), ("lab", "Tiny-Embed"));
    assert_eq!((model.mode, model.context), (Mode::Embedding, Some(512)));
    assert!(model.can(Cap::Vision) && model.can(Cap::Pdf) && !model.can(Cap::Tools));
    assert_eq!(
        (model.status, model.sunset, model.successor),
        (Status::Deprecated, Some("2027-01-31"), Some("lab/newer"))
    );
    assert_eq!(own.of("lab"), [model]);
    assert_eq!(own.bare("tiny-embed"), [("lab", "Tiny-Embed")]);
    assert_eq!(own.closest("lab/tiny-embd"), ["lab/Tiny-Embed"]);
    // Another provider of a known id comes beside those that are built in.
    let gpt = Catalogue::new(None, &[row("lab", "gpt-4o", r#"{"price":{"in":1}}"#)]).unwrap();
    assert_eq!(gpt.bare("gpt-4o").first(), Some(&("openai", "gpt-4o")));
    assert!(gpt.bare("gpt-4o").contains(&("lab", "gpt-4o")));
    assert_eq!(
        gpt.bare("gpt-4o").len(),
        Catalogue::default().bare("gpt-4o").len() + 1
    );
}

#[test]
fn every_mistake_of_a_row_is_named() {
    for (facts, wanted) in [
        ("{", "EOF"),
        ("[]", "invalid"),
        (r#"{"prise":{}}"#, "prise"),
        (r#"{"price":{"inn":1}}"#, "inn"),
        (r#"{"price":{"in":-1}}"#, "in"),
        (r#"{"price":{"in":"1"}}"#, "invalid type"),
        (r#"{"capabilities":["tools","fly"]}"#, "fly"),
        (r#"{"fees":{"kfly":1}}"#, "kfly"),
        (r#"{"fees":{"ksearch":-1}}"#, "-1"),
        (r#"{"multipliers":{"moon":2}}"#, "moon"),
        (r#"{"sunset":"soon"}"#, "soon"),
        (
            r#"{"changes":[{"from":"2027-02-30","price":{"in":1}}]}"#,
            "2027-02-30",
        ),
        (
            r#"{"off_peak":{"price":{"in":1},"windows":[[[8],0,60]]}}"#,
            "off_peak",
        ),
        (
            r#"{"off_peak":{"price":{"in":1},"windows":[[[1],60,60]]}}"#,
            "off_peak",
        ),
        (r#"{"status":"asleep"}"#, "asleep"),
        (r#"{"context":-1}"#, "invalid value"),
        (r#"{"services":{"flex":{"prise":{"in":1}}}}"#, "prise"),
    ] {
        let error = Override::read("lab", "m", facts).unwrap_err();
        assert!(error.contains(wanted), "{facts}: {error}");
    }
    for (provider, id) in [
        ("", "m"),
        ("a/b", "m"),
        ("lab", ""),
        ("lab", "a b"),
        ("l\tb", "m"),
    ] {
        assert!(
            Override::read(provider, id, "{}").is_err(),
            "{provider}/{id}"
        );
    }
}

#[test]
fn a_file_lies_over_the_built_in_models_and_under_the_configuration() {
    let tsv = "# ours\nopenai\tgpt-5.5\t{\"ctx\":5,\"price\":{\"in\":7,\"out\":7}}\n\nlab\tx\t{\"price\":{\"in\":1,\"out\":1}}\n";
    let json = r#"{"models":[
        {"provider":"openai","id":"gpt-5.5","context":5,"price":{"in":7,"out":7}},
        {"provider":"lab","id":"x","price":{"in":1,"out":1}}]}"#;
    for file in [tsv, json] {
        let layer = Arc::new(Layer::read(file.as_bytes()).unwrap());
        assert_eq!(layer.len(), 2);
        let read = Catalogue::new(Some(layer.clone()), &[]).unwrap();
        let model = read.model("openai", "gpt-5.5").unwrap();
        assert_eq!(
            (model.context, usd(model, 1, 0).as_str()),
            (Some(5), "0.000007")
        );
        assert!(!model.can(Cap::Tools), "a file's row says all of it");
        assert!(read.model("lab", "x").is_some());
        assert!(read.model("openai", "gpt-4o").is_some(), "the others stay");
        let own = Catalogue::new(
            Some(layer),
            &[row("openai", "gpt-5.5", r#"{"price":{"in":9}}"#)],
        )
        .unwrap();
        let model = own.model("openai", "gpt-5.5").unwrap();
        assert_eq!(
            (model.context, usd(model, 1, 0).as_str()),
            (Some(5), "0.000009")
        );
        assert_eq!(
            own.of("openai").len(),
            Catalogue::default().of("openai").len()
        );
    }
}

#[test]
fn the_built_in_file_read_as_a_file_changes_nothing_and_keeps_nothing_twice() {
    let layer = Layer::read(include_bytes!("../conf/models.tsv")).unwrap();
    let read = Catalogue::new(Some(Arc::new(layer)), &[]).unwrap();
    let built_in = Catalogue::default();
    for provider in ["openai", "anthropic", "bedrock", "zhipu"] {
        let (read, built_in) = (read.of(provider), built_in.of(provider));
        assert_eq!(read.len(), built_in.len(), "{provider}");
        for (a, b) in read.iter().zip(&built_in) {
            assert!(std::ptr::eq(*a, *b), "{provider}/{} is there twice", a.id);
        }
    }
    assert_eq!(read.bare("gpt-4o"), built_in.bare("gpt-4o"));
    assert_eq!(
        read.closest("gpt-4o-minii"),
        built_in.closest("gpt-4o-minii")
    );
}

#[test]
fn a_file_with_one_bad_row_is_not_taken_at_all() {
    for (file, wanted) in [
        ("", "no models"),
        ("{}", "models"),
        (r#"{"models":[]}"#, "no models"),
        ("a\tb\n", "line 1"),
        ("a\tb\t{}\na\tB\t{}\n", "twice"),
        ("a\tb\t{}\na\tc\t{\"price\":{\"in\":\"x\"}}\n", "line 2"),
        (
            r#"{"models":[{"provider":"a","id":"b"},{"provider":"a"}]}"#,
            "models[1]",
        ),
        (
            r#"{"models":[{"provider":"a","id":"b","capabilities":"fly"}]}"#,
            "fly",
        ),
        (r#"{"models":[7]}"#, "models[0]"),
        ("<!doctype html>", "line 1"),
    ] {
        let error = Layer::read(file.as_bytes()).unwrap_err();
        assert!(error.contains(wanted), "{file}: {error}");
    }
    assert!(Layer::read(b"\xff\xfe").is_err());
    let deep = format!(r#"{{"models":{}}}"#, "[".repeat(100_000));
    assert!(Layer::read(deep.as_bytes()).is_err());
}

#[test]
fn a_model_once_found_keeps_its_price() {
    let first = Catalogue::new(None, &[row("lab", "kept", r#"{"price":{"in":1}}"#)]).unwrap();
    let before = first.model("lab", "kept").unwrap();
    let second = Catalogue::new(None, &[row("lab", "kept", r#"{"price":{"in":2}}"#)]).unwrap();
    drop(first);
    assert_eq!(usd(before, 1, 0), "0.000001");
    assert_eq!(usd(second.model("lab", "kept").unwrap(), 1, 0), "0.000002");
    let third = Catalogue::new(None, &[row("lab", "kept", r#"{"price":{"in":1}}"#)]).unwrap();
    assert!(
        std::ptr::eq(third.model("lab", "kept").unwrap(), before),
        "equal models are one"
    );
}

fn model(facts: &str) -> &'static Model {
    let own = Catalogue::new(None, &[row("lab", "m", facts)]).unwrap();
    own.model("lab", "m").unwrap()
}

#[test]
fn a_model_without_a_price_is_refused_only_where_that_is_wished() {
    let deny = Policy {
        unpriced: Unpriced::Deny,
        ..Policy::default()
    };
    let (free, unpriced) = (model(r#"{"price":{"in":0,"out":0}}"#), model("{}"));
    for entry in [None, Some(unpriced), Some(free)] {
        let allowed = Policy::default().decide("lab", "m", entry, false);
        assert_eq!(allowed.unwrap(), Standing::Current);
        assert!(deny.decide("lab", "m", entry, true).is_ok());
    }
    assert!(
        deny.decide("lab", "m", Some(free), false).is_ok(),
        "0 is a price"
    );
    for entry in [None, Some(unpriced)] {
        let error = deny.decide("lab", "m", entry, false).unwrap_err();
        assert_eq!(error.kind.status(), 403);
        assert_eq!(error.param.as_deref(), Some("model"));
        assert!(error.message.contains("lab/m"), "{}", error.message);
    }
}

#[test]
fn old_and_retired_models_answer_with_a_warning_that_names_their_successor() {
    let check = |facts: &str| Policy::default().decide("lab", "m", Some(model(facts)), false);
    let warning = |facts| match check(facts).unwrap() {
        Standing::Deprecated(warning) => warning,
        Standing::Current => panic!("{facts}"),
    };
    assert_eq!(
        warning(r#"{"status":"deprecated","sunset":"2027-03-01","successor":"lab/n"}"#),
        r#"299 - "model lab/m is deprecated, retires on 2027-03-01; use lab/n""#
    );
    assert_eq!(
        warning(r#"{"status":"deprecated"}"#),
        r#"299 - "model lab/m is deprecated""#
    );
    let odd = warning(r#"{"status":"deprecated","successor":"a\"b\né"}"#);
    assert!(odd.bytes().all(|b| (0x20..0x7f).contains(&b)), "{odd}");
    assert_eq!(odd.matches('"').count(), 2, "{odd}");

    let retired = r#"{"status":"retired","sunset":"2026-01-01","successor":"lab/n"}"#;
    assert_eq!(
        warning(retired),
        r#"299 - "model lab/m is retired since 2026-01-01; use lab/n""#
    );
    assert_eq!(
        warning(r#"{"status":"retired"}"#),
        r#"299 - "model lab/m is retired""#
    );

    let redirecting = Policy {
        retired: [("old".to_owned(), "lab/new".to_owned())].into(),
        ..Policy::default()
    };
    assert_eq!(redirecting.redirected("old"), Some("lab/new"));
    assert_eq!(redirecting.redirected("lab/new"), None);
}

#[test]
fn a_price_of_another_model_in_an_answer_is_the_one_in_force() {
    let at: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let model = Catalogue::default()
        .model("anthropic", "claude-opus-5")
        .unwrap();
    let usage = Usage {
        input: 10,
        output: 10,
        ..Usage::default()
    };
    let cost = model.cost(&usage, at, Place::Anywhere);
    assert!(!cost.unpriced && cost.pico > 0);
}
