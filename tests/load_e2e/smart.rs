//! `strategy = "smart"`: tiers by the difficulty of the prompt.

use serde_json::{Value, json};
use strait::mock::Mock;

use super::common::{Strait, chat, mock};
use super::{CHAT, post, provider, who};

const EASY: &str = "Is the sky blue? Answer yes or no.";
const HARD: &str = "A train leaves at 3 pm with 120 passengers. At each of the 4 stops, half of the passengers leave and \
    15 more get on. Each ticket costs $12, and a third of those who get on have a 25% discount. How much money was \
    collected in total, and how many passengers are left after the last stop?";

fn tiers(mocks: &[Mock; 3], more: &str) -> Strait {
    Strait::start(&format!(
        "{}{}{}[models.auto]\nstrategy = \"smart\"\ntargets = [\"small/x\", \"middle/x\", \"large/x\"]\n{more}",
        provider("small", &mocks[0], ""),
        provider("middle", &mocks[1], ""),
        provider("large", &mocks[2], ""),
    ))
}

fn mocks() -> [Mock; 3] {
    [mock(""), mock(""), mock("")]
}

/// Returns the scores of prompts, as a dry run tells them.
fn score(strait: &Strait, text: &str) -> f64 {
    let told = strait.admin("POST", "/admin/v1/explain", &chat("auto", text).to_string());
    assert_eq!(told.status, 200, "{}", told.text());
    told.json()["difficulty"].as_f64().unwrap()
}

/// Thresholds between the two prompts: the easy one falls into the first tier, the hard one into the last.
fn between(easy: f64, hard: f64) -> String {
    let step = (hard - easy) / 3.0;
    format!(
        "smart = {{ thresholds = [{:.4}, {:.4}] }}\n",
        easy + step,
        hard - step
    )
}

#[test]
fn a_prompt_goes_to_the_tier_of_its_difficulty_and_says_so() {
    let mocks = mocks();
    let strait = tiers(&mocks, "");
    let (easy, hard) = (score(&strait, EASY), score(&strait, HARD));
    assert!(easy + 0.1 < hard, "easy {easy}, hard {hard}");
    let strait = tiers(&mocks, &between(easy, hard));
    assert_eq!(who(&post(&strait, &[], &chat("auto", EASY))), "small");
    assert_eq!(who(&post(&strait, &[], &chat("auto", HARD))), "large");
    let records = strait.records(2);
    for (record, expected) in records.iter().zip([easy, hard]) {
        let told = record["difficulty"].as_f64().unwrap();
        assert!((told - expected).abs() < 1e-4, "{record}");
        assert_eq!(record["candidates"][0]["score"], record["difficulty"]);
    }
    let targets: Vec<&str> = records[0]["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|candidate| candidate["target"].as_str().unwrap())
        .collect();
    assert_eq!(
        targets,
        ["small/x", "middle/x", "large/x"],
        "then stronger ones"
    );
    // In any protocol.
    let body = json!({"model": "auto", "max_tokens": 10, "messages": [
        {"role": "user", "content": [{"type": "text", "text": HARD}]}]});
    let answer = strait.post("/v1/messages", &body);
    assert_eq!(who(&answer), "large");
}

#[test]
fn a_tier_that_fails_is_followed_by_stronger_ones_then_by_weaker_ones() {
    let broken = "[[rule]]\nsteps = [{ status = 500 }]";
    let mocks = [mock(""), mock(broken), mock(broken)];
    let strait = tiers(
        &mocks,
        "smart = { thresholds = [0, 1] }\nretries = { max_attempts = 6, backoff = \"1ms\" }\n",
    );
    let answer = post(&strait, &[], &chat("auto", EASY));
    assert_eq!(who(&answer), "small");
    let record = &strait.records(1)[0];
    let asked: Vec<&str> = record["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["provider"].as_str().unwrap())
        .collect();
    assert_eq!(asked, ["middle", "large", "small"]);
}

#[test]
fn what_has_no_text_takes_the_strongest_tier() {
    let mocks = mocks();
    let strait = tiers(&mocks, "smart = { thresholds = [0.98, 0.99] }\n");
    let image = json!({"model": "auto", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}]});
    assert_eq!(who(&post(&strait, &[], &image)), "large");
    assert_eq!(strait.records(1)[0]["difficulty"], Value::Null);
    assert_eq!(who(&post(&strait, &[], &chat("auto", EASY))), "small");
}

#[test]
fn a_conversation_goes_up_when_it_gets_harder_and_stays_there() {
    let mocks = mocks();
    let strait = tiers(&mocks, "");
    let (easy, hard) = (score(&strait, EASY), score(&strait, HARD));
    let strait = tiers(&mocks, &between(easy, hard));
    let session = [("x-strait-session-id", "s1")];
    let ask = |text| who(&post(&strait, &session, &chat("auto", text)));
    assert_eq!(ask(EASY), "small");
    assert_eq!(ask(HARD), "large", "harder than its tier is for");
    assert_eq!(ask(EASY), "large", "it stays");
    assert_eq!(
        who(&post(&strait, &[], &chat("auto", EASY))),
        "small",
        "others don't"
    );
}

#[test]
fn tiers_nest_and_a_model_of_ones_own_judges() {
    let mocks = mocks();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("router.bin");
    std::fs::write(&file, strait::routing::smart::DEFAULT).unwrap();
    let strait = Strait::start(&format!(
        "{}{}{}[models.strong]\nstrategy = \"round-robin\"\ntargets = [\"middle/x\", \"large/x\"]\n\
         [models.auto]\nstrategy = \"smart\"\ntargets = [\"small/x\", \"strong\"]\n\
         smart = {{ thresholds = [0.0], model = \"{}\" }}\n",
        provider("small", &mocks[0], ""),
        provider("middle", &mocks[1], ""),
        provider("large", &mocks[2], ""),
        file.display(),
    ));
    let asked: Vec<String> = (0..4)
        .map(|_| who(&post(&strait, &[], &chat("auto", EASY))))
        .collect();
    assert_eq!(asked, ["middle", "large", "middle", "large"]);
    assert_eq!(strait.client().post(CHAT, &[], b"{}").status, 400);
}
