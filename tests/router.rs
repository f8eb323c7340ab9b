//! The `smart` strategy's engine: what it measures of a prompt, what it learns, and how a router is judged.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use proptest::prelude::*;
use strait::protocol::{self, Protocol};
use strait::routing::smart::measure::{self, Curve};
use strait::routing::smart::rows::{self, Costs, Row};
use strait::routing::smart::{Classifier, DEFAULT, Prompt, features, tier, train};

const COSTS: Costs = Costs {
    weak: 0.1,
    strong: 1.0,
};

/// Rows of which the strong tier gains where they ask for a proof, mostly.
fn synthetic(count: usize) -> String {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut text = String::new();
    for index in 0..count {
        let hard = rng.bool();
        let ask = if hard {
            "Prove the theorem about"
        } else {
            "Name the capital of"
        };
        let strong = rng.f32() < 0.9;
        let weak = strong && (!hard || rng.f32() < 0.2);
        let _ = writeln!(
            text,
            r#"{{"set": "made/{}", "prompt": "{ask} the place {index}, please.", "weak": {weak}, "strong": {strong}}}"#,
            index % 2
        );
    }
    text
}

fn row(weak: f32, strong: f32) -> Row {
    Row {
        set: String::new(),
        prompt: Prompt::default(),
        weak,
        strong,
        costs: None,
    }
}

fn curve(rows: &[Row], scores: &[f32]) -> Curve {
    let rows: Vec<&Row> = rows.iter().collect();
    Curve::new(&rows, scores, COSTS)
}

fn close(value: Option<f64>, wanted: f64) {
    let value = value.expect("there is a gap between the tiers");
    assert!((value - wanted).abs() < 1e-6, "{value} is not {wanted}");
}

fn default() -> Classifier {
    Classifier::load(DEFAULT).expect("the built-in model loads")
}

#[test]
fn a_perfect_router_recovers_the_gap_first() {
    let rows = [row(0.0, 1.0), row(1.0, 1.0), row(0.0, 1.0), row(1.0, 1.0)];
    let curve = curve(&rows, &[4.0, 1.0, 3.0, 2.0]);
    // PGR at the quarters: 0, 1/2, 1, 1, 1.
    close(curve.apgr(), 0.75);
    close(curve.cpt(0.5), 0.25);
    close(curve.cpt(0.8), 0.4);
}

#[test]
fn a_router_that_is_always_wrong_recovers_the_gap_last() {
    let rows = [row(0.0, 1.0), row(1.0, 1.0), row(0.0, 1.0), row(1.0, 1.0)];
    let curve = curve(&rows, &[1.0, 4.0, 2.0, 3.0]);
    close(curve.apgr(), 0.25);
    close(curve.cpt(0.5), 0.75);
    close(curve.cpt(0.8), 0.9);
}

#[test]
fn equal_scores_are_random_routing_whatever_the_order_of_the_file() {
    let rows = [row(0.0, 1.0), row(0.0, 1.0), row(1.0, 1.0), row(1.0, 1.0)];
    let curve = curve(&rows, &[0.3; 4]);
    close(curve.apgr(), 0.5);
    close(curve.cpt(0.5), 0.5);
    close(curve.cpt(0.8), 0.8);
    let half = curve.at(0.5);
    assert!((half.quality - 0.75).abs() < 1e-9);
    assert!(
        (half.saved - 0.45).abs() < 1e-9,
        "half at 1.0 and half at 0.1"
    );
}

#[test]
fn a_weak_tier_that_is_sometimes_better_lifts_the_curve_above_one() {
    let rows = [row(0.0, 1.0), row(0.0, 1.0), row(1.0, 0.0), row(1.0, 1.0)];
    let curve = curve(&rows, &[4.0, 3.0, 1.0, 2.0]);
    // The gap is 1: PGR is 0, 1, 2, 2, 1.
    close(curve.apgr(), (0.5 + 1.5 + 2.0 + 1.5) / 4.0);
    close(curve.cpt(0.5), 0.125);
    let kept = curve.keeping(1.0);
    assert!(
        (kept.share - 0.25).abs() < 1e-9,
        "one of four is enough: {kept:?}"
    );
}

#[test]
fn there_is_no_apgr_without_a_gap() {
    let rows = [row(1.0, 1.0), row(1.0, 0.5)];
    let curve = curve(&rows, &[1.0, 2.0]);
    assert_eq!(curve.apgr(), None);
    assert_eq!(curve.cpt(0.5), None);
    assert!(curve.keeping(0.9).kept >= 0.9);
}

#[test]
fn the_ends_of_the_curve_are_the_tiers_alone() {
    let rows = [row(0.0, 1.0), row(0.25, 1.0), row(1.0, 0.5)];
    let curve = curve(&rows, &[0.1, 0.7, 0.4]);
    let (weak, strong) = (curve.at(0.0), curve.at(1.0));
    assert!((weak.quality - curve.weak()).abs() < 1e-9 && (weak.saved - 0.9).abs() < 1e-9);
    assert!((strong.quality - curve.strong()).abs() < 1e-9 && strong.saved.abs() < 1e-9);
    assert!((strong.pgr - 1.0).abs() < 1e-9 && (strong.kept - 1.0).abs() < 1e-9);
}

#[test]
fn a_confidence_interval_holds_its_value_and_narrows_with_more_rows() {
    let width = |count: usize| {
        let rows: Vec<Row> = (0..count)
            .map(|index| row((index % 3 == 0).into(), 1.0))
            .collect();
        let rows: Vec<&Row> = rows.iter().collect();
        let scores: Vec<f32> = (0..count).map(|index| (index * 7 % 11) as f32).collect();
        let whole = Curve::new(&rows, &scores, COSTS);
        let drawn = measure::bootstrap(&rows, &scores, COSTS, 200, 1);
        let interval = measure::interval(&whole, &drawn, Curve::apgr).expect("there is a gap");
        assert!(interval.low <= interval.value && interval.value <= interval.high);
        interval.high - interval.low
    };
    assert!(width(2000) < width(60) / 2.0);
}

#[test]
fn every_form_of_row_says_the_same() {
    let pairs = rows::read(
        r#"{"set": "s", "prompt": "a", "weak": false, "strong": true, "weak_cost": 1, "strong_cost": 8}
           {"set": "s", "prompt": "b", "weak": 0.5, "strong": 1, "weak_cost": 1, "strong_cost": 8}"#,
    )
    .expect("pairs");
    let answers = rows::read(
        r#"{"set": "s", "prompt": "a", "model": "large", "quality": true, "cost": 8}
           {"set": "s", "prompt": "a", "model": "small", "quality": false, "cost": 1}
           {"set": "s", "prompt": "b", "model": "small", "quality": 0.25, "cost": 1}
           {"set": "s", "prompt": "b", "model": "small", "quality": 0.75, "cost": 1}
           {"set": "s", "prompt": "b", "model": "large", "quality": 1.0, "cost": 8}
           {"set": "s", "prompt": "c", "model": "large", "quality": 1.0, "cost": 8}"#,
    )
    .expect("answers; the one without a counterpart is left out");
    assert_eq!(pairs, answers);
    let tiers = rows::read(
        r#"{"prompt": "a", "tier": "weak", "quality": 1}
           {"prompt": "a", "tier": "strong", "quality": 1}"#,
    )
    .expect("tiers");
    let label =
        rows::read(r#"{"messages": [{"role": "user", "content": "a"}], "label": "simple"}"#)
            .expect("labels");
    assert_eq!(tiers, label);
    let hard = rows::read(r#"{"prompt": "a", "label": "strong"}"#).expect("labels");
    assert_eq!(hard[0].gain(), 1.0);
}

#[test]
fn a_bad_row_is_named_by_its_line() {
    for (text, wanted) in [
        ("{}", "line 1: either `prompt` or `messages`"),
        (
            "\n{\"prompt\": \"a\"}",
            "line 2: either `weak` and `strong`",
        ),
        (r#"{"prompt": "a", "weak": 2, "strong": 1}"#, "from 0 to 1"),
        (
            r#"{"prompt": "a", "weak": 1, "strong": 1, "weak_cost": 1}"#,
            "one tier alone",
        ),
        (
            r#"{"prompt": "a", "weak": 1, "strong": 1, "weak_cost": -1, "strong_cost": 1}"#,
            "0 or more",
        ),
        (
            r#"{"prompt": "a", "quality": 1}"#,
            "without `tier` or `model`",
        ),
        (
            r#"{"prompt": "a", "quality": 1, "model": "m"}"#,
            "two models are needed",
        ),
        (r#"{"prompt": "a", "label": "blue"}"#, "line 1"),
        ("[", "line 1"),
    ] {
        let error = rows::read(text).expect_err(text);
        assert!(error.message.contains(wanted), "{text}: {}", error.message);
    }
}

#[test]
fn the_same_rows_and_seed_give_the_same_bytes() {
    let rows = rows::read(&synthetic(120)).expect("rows");
    let [first, second, other] =
        [1, 1, 2].map(|seed| train(&rows, seed).expect("there is something to learn"));
    assert_eq!(first.classifier.save(), second.classifier.save());
    assert_eq!(first.held_out, second.held_out);
    assert_ne!(first.held_out, other.held_out, "other folds");
}

#[test]
fn what_is_learned_holds_for_rows_that_were_not_seen() {
    let rows = rows::read(&synthetic(300)).expect("rows");
    let trained = train(&rows, 1).expect("there is something to learn");
    let held_out = curve(&rows, &trained.held_out).apgr().expect("a gap");
    assert!(held_out > 0.7, "{held_out}");
    let ask = |text| trained.classifier.score(&Prompt::text(text));
    let (hard, easy) = (
        ask("Prove the theorem about the place 1000, please."),
        ask("Name the capital of the place 1000, please."),
    );
    assert!(hard > 0.5 && easy < 0.5, "{hard} {easy}");
    let suffices = |score| trained.classifier.weak_suffices(score);
    let (easy, hard) = (suffices(easy), suffices(hard));
    assert!(easy > hard + 0.2, "{easy} {hard}");
}

#[test]
fn a_score_is_a_share_of_the_prompts_learned_from() {
    let rows = rows::read(&synthetic(300)).expect("rows");
    let model = train(&rows, 1)
        .expect("there is something to learn")
        .classifier;
    let above = rows
        .iter()
        .filter(|row| model.score(&row.prompt) > 0.5)
        .count();
    assert!((100..200).contains(&above), "about half of them: {above}");
}

#[test]
fn nothing_is_learned_from_too_little_or_from_no_difference() {
    let few = rows::read(&synthetic(10)).expect("rows");
    assert!(
        train(&few, 1)
            .expect_err("too few")
            .message
            .contains("too few")
    );
    let same: Vec<Row> = (0..100).map(|_| row(1.0, 1.0)).collect();
    let error = train(&same, 1).expect_err("no difference");
    assert!(error.message.contains("nothing to learn"));
}

#[test]
fn a_model_is_read_as_it_was_written() {
    let model = default();
    assert_eq!(model.save(), DEFAULT);
    assert!(DEFAULT.len() <= 256 << 10);
}

#[test]
fn a_damaged_model_is_refused() {
    for length in (0..DEFAULT.len()).step_by(997) {
        Classifier::load(&DEFAULT[..length]).expect_err("too short");
    }
    for at in (0..DEFAULT.len()).step_by(997) {
        let mut bytes = DEFAULT.to_vec();
        bytes[at] ^= 0x20;
        Classifier::load(&bytes).expect_err("one bit is wrong");
    }
    let longer = [DEFAULT, b"\0"].concat();
    Classifier::load(&longer).expect_err("too long");
}

#[test]
fn tiers_are_parted_by_rising_thresholds() {
    assert_eq!(
        [0.1, 0.5, 0.69, 0.7, 1.0].map(|score| tier(score, &[0.5, 0.7])),
        [0, 1, 1, 2, 2]
    );
    assert_eq!(tier(0.9, &[]), 0);
    assert_eq!(tier(f32::NAN, &[0.5]), 0);
}

#[test]
fn scores_rise_with_gains_and_stay_between_0_and_1() {
    let model = default();
    let rows = rows::read(&synthetic(200)).expect("rows");
    let mut told: Vec<(f32, f32)> = rows
        .iter()
        .map(|row| (model.gain(&row.prompt), model.score(&row.prompt)))
        .collect();
    told.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(told.iter().all(|(_, score)| (0.0..=1.0).contains(score)));
    assert!(told.is_sorted_by(|a, b| a.1 <= b.1));
}

#[test]
fn features_see_what_they_are_named_after() {
    let numbers = |text: &str| {
        let numbers = features::measure(&Prompt::text(text), |_| {});
        move |name: &str| {
            let index = (0..features::NUMBERS).find(|index| features::name(*index) == name);
            numbers[index.unwrap_or_else(|| panic!("{name} is measured"))]
        }
    };
    let choice = numbers("Which is not 3.5?\nA. 3\nB. four\nC. five and more\nAnswer:");
    assert_eq!(choice("options"), 3.0);
    assert_eq!(choice("options that are numbers"), 1.0);
    assert_eq!(choice("numbers"), 2.0);
    assert_eq!(choice("decimals"), 1.0);
    assert_eq!(choice("which"), 1.0);
    assert_eq!(choice("negation"), 1.0);
    assert_eq!(choice("question marks"), 1.0);
    let sum = numbers("Ann has $1,200 and 1/2 of it is left. How many weeks? Twice 5%.");
    assert_eq!(sum("dollars"), 1.0);
    assert_eq!(sum("fractions"), 1.0);
    assert_eq!(sum("largest number"), 1200f32.ln_1p());
    assert_eq!(sum("sentences"), 3.0);
    assert_eq!(sum("ratio"), 1.0);
    assert_eq!(sum("percents"), 1.0);
    let code = numbers("Fix this:\n```rust\nfn main() { let x = 1; }\n```\n- fast\n- short");
    assert_eq!(code("code"), 3.0);
    assert_eq!(code("list items"), 2.0);
    assert!(code("code marks") > 1.0);
    let other = numbers("为什么天空是蓝色的？");
    assert!(other("other scripts") > 0.9);
    assert_eq!(other("words"), 10f32.ln_1p());
}

#[test]
fn equal_text_has_equal_buckets_each_once() {
    let buckets = |text: &str| {
        let mut buckets = Vec::new();
        features::measure(&Prompt::text(text), |bucket| buckets.push(bucket));
        buckets
    };
    let some = buckets("the cat and the dog and the cat");
    assert_eq!(
        some,
        buckets("The CAT and the dog and the cat"),
        "case says nothing"
    );
    let mut unique = some.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), some.len());
    assert_eq!(some.len(), 4 + 5, "words and pairs");
}

#[test]
fn of_a_long_text_a_bounded_part_is_read() {
    let count = |size: usize| {
        let mut buckets = 0;
        let text: String = (0..size / 8).map(|word| format!("w{word:06} ")).collect();
        features::measure(&Prompt::text(&text), |_| buckets += 1);
        buckets
    };
    let (one, two) = (count(3000), count(6000));
    assert!(
        one < two && two < one * 5 / 2,
        "in proportion: {one}, {two}"
    );
    // 12 KiB are read, and "w000000 " is two words and two pairs.
    assert!(count(1 << 22) <= 4 * (12 << 10) / 8 + 4, "and no further");
}

#[test]
fn a_prompt_is_the_last_turn_of_the_user_and_the_outlines_of_the_rest() {
    let body = r#"{"model": "m", "reasoning_effort": "high",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "response_format": {"type": "json_object"},
        "messages": [
            {"role": "system", "content": "1234"},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "ok"},
            {"role": "user", "content": [
                {"type": "text", "text": "what is"},
                {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
                {"type": "text", "text": "this?"}]}]}"#;
    let request =
        protocol::decode_request(Protocol::OpenaiChat, body.as_bytes()).expect("a request");
    let wanted = Prompt {
        text: Cow::Borrowed("what is\nthis?"),
        context: 4 + 5 + 2,
        turns: 4,
        tools: 1,
        media: 1,
        structured: true,
        reasoning: true,
    };
    assert_eq!(Prompt::of(&request), wanted);
}

#[test]
fn a_result_of_a_tool_does_not_hide_what_was_asked() {
    let body = r#"{"model": "m", "messages": [
            {"role": "user", "content": "the weather?"},
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "rain"}]}"#;
    let request =
        protocol::decode_request(Protocol::OpenaiChat, body.as_bytes()).expect("a request");
    let prompt = Prompt::of(&request);
    assert_eq!(
        (prompt.text.as_ref(), prompt.context),
        ("the weather?", 2 + 4)
    );
}

#[test]
fn the_commands_learn_and_measure() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("rows.jsonl");
    std::fs::write(&data, synthetic(150)).expect("rows are written");
    let path = |name: &str| folder.path().join(name);
    let run = |args: &[&str]| -> Output {
        Command::new(env!("CARGO_BIN_EXE_strait"))
            .arg("router")
            .args(args)
            .current_dir(folder.path())
            .output()
            .expect("the program runs")
    };
    for out in ["one.bin", "two.bin"] {
        let output = run(&["train", "rows.jsonl", "--out", out, "--seed", "3"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("APGR"),
            "{output:?}"
        );
    }
    let read = |name: &str| std::fs::read(path(name)).expect("it was written");
    assert_eq!(read("one.bin"), read("two.bin"));
    let output = run(&[
        "eval",
        "rows.jsonl",
        "--model",
        "one.bin",
        "--svg",
        "curve.svg",
    ]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for wanted in [
        "APGR",
        "CPT(50 %)",
        "CPT(80 %)",
        "cost saved",
        "quality kept",
        "random",
    ] {
        assert!(text.contains(wanted), "{wanted} is printed:\n{text}");
    }
    let svg = String::from_utf8(read("curve.svg")).expect("text");
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains("polyline"));
    assert!(
        run(&["eval", "rows.jsonl"]).status.success(),
        "with the built-in model"
    );
    assert!(
        run(&["eval", "rows.jsonl", "--cross-validate"])
            .status
            .success()
    );
    let missing = run(&["eval", "nothing.jsonl"]);
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("nothing.jsonl"));
}

/// The outcomes that the built-in model was learned from, where they are.
fn shared() -> Option<Vec<Row>> {
    let folder = std::env::var("STRAIT_SHARED").map_or_else(
        |_| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")),
        PathBuf::from,
    );
    let mut all = Vec::new();
    for set in ["mmlu", "gsm8k"] {
        let path = folder.join(format!("router-eval/{set}.jsonl"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: no {}", path.display());
            return None;
        };
        all.extend(rows::read(&text).expect("the rows are good"));
    }
    Some(all)
}

#[test]
#[ignore = "a minute in a debug build"]
fn the_built_in_model_is_what_its_command_makes_and_beats_random_routing_held_out() {
    let Some(rows) = shared() else { return };
    let trained = train(&rows, 1).expect("there is something to learn");
    for (set, least) in [("mmlu", 0.67), ("gsm8k", 0.60)] {
        let (of_set, scores): (Vec<&Row>, Vec<f32>) = rows
            .iter()
            .zip(&trained.held_out)
            .filter(|(row, _)| row.set.starts_with(set))
            .unzip();
        let apgr = Curve::new(&of_set, &scores, COSTS).apgr().expect("a gap");
        assert!(apgr > least, "{set}: {apgr}");
    }
    assert!(
        trained.classifier.save() == DEFAULT,
        "conf/router-default.bin is out of date"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_disturbs_the_classifier(text in any::<String>(), again in 0usize..4000) {
        let model = default();
        for text in [text.clone(), text.repeat(again / text.len().max(1))] {
            let score = model.score(&Prompt { text: Cow::Owned(text), context: again, ..Prompt::default() });
            prop_assert!((0.0..=1.0).contains(&score), "{}", score);
            prop_assert!((0.0..=1.0).contains(&model.weak_suffices(score)));
        }
    }

    #[test]
    fn no_soup_of_marks_disturbs_the_classifier(text in "[-A-D0-9 .,)_'`$%\n\u{e9}\u{4e2d}]{0,300}") {
        let score = default().score(&Prompt::text(&text));
        prop_assert!((0.0..=1.0).contains(&score), "{}", score);
    }

    #[test]
    fn no_bytes_disturb_the_readers(bytes in any::<Vec<u8>>(), text in "[{}\":,a-z0-9\\[\\]\n ]{0,200}") {
        let _ = Classifier::load(&bytes);
        let _ = rows::read(&text);
    }
}
