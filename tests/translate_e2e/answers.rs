//! What comes back: why it ended, what it took and cost, and what could not be said.

use serde_json::{Value, json};
use strait::mock::{Mock, Script};

use super::common::dialect::{self, Dialect};
use super::{ACROSS, Lab, streamed};

#[test]
fn what_ended_it_is_told_in_the_clients_words() {
    let lab = Lab::new("");
    for (step, openai, anthropic) in [
        ("finish = \"length\"", "length", "max_tokens"),
        ("finish = \"stop\"", "stop", "end_turn"),
        ("finish = \"content_filter\"", "content_filter", "refusal"),
    ] {
        lab.script(&format!("[default]\ntext = \"Once upon a\"\n{step}"));
        for (dialect, model) in ACROSS {
            let body = dialect.body(model, "hi", false);
            let expected = if dialect == Dialect::OpenAi {
                openai
            } else {
                anthropic
            };
            for body in [&body, &streamed(&body)] {
                let (said, _) = lab.ask(dialect, body);
                assert_eq!(
                    said.finish.as_deref(),
                    Some(expected),
                    "{dialect:?}, {model}, {step}"
                );
            }
        }
    }
    lab.script("[default]\ntext = \"One, two\"\nstop_sequence = \"three\"");
    let mut body = Dialect::OpenAi.body("claude", "Count.", false);
    body["stop"] = json!("three");
    for body in [&body, &streamed(&body)] {
        let (said, call) = lab.ask(Dialect::OpenAi, body);
        assert_eq!(call.json()["stop_sequences"], json!(["three"]));
        assert_eq!(said.finish.as_deref(), Some("stop"));
    }
}

#[test]
fn usage_is_counted_in_the_clients_way() {
    // OpenAI's prompt holds the cached tokens, Anthropic's input doesn't.
    let lab = Lab::new("");
    lab.anthropic.set_script(
        Script::from_toml("[default]\nusage = { prompt_tokens = 40, completion_tokens = 20, cached_tokens = 60, cache_write_tokens = 8 }").unwrap(),
    );
    lab.openai.set_script(
        Script::from_toml("[default]\nusage = { prompt_tokens = 100, completion_tokens = 20, cached_tokens = 60 }").unwrap(),
    );
    let mut body = Dialect::OpenAi.body("claude", "hi", false);
    body["stream_options"] = Value::Null;
    let mut stream = streamed(&body);
    stream["stream_options"] = json!({"include_usage": true});
    for body in [&body, &stream] {
        let (said, _) = lab.ask(Dialect::OpenAi, body);
        assert_eq!(said.usage["prompt_tokens"], 108, "{said:?}");
        assert_eq!(said.usage["completion_tokens"], 20, "{said:?}");
        assert_eq!(said.usage["total_tokens"], 128, "{said:?}");
        assert_eq!(
            said.usage["prompt_tokens_details"]["cached_tokens"], 60,
            "{said:?}"
        );
    }
    let body = Dialect::Anthropic.body("gpt", "hi", false);
    for body in [&body, &streamed(&body)] {
        let (said, _) = lab.ask(Dialect::Anthropic, body);
        assert_eq!(
            (&said.usage["input_tokens"], &said.usage["output_tokens"]),
            (&json!(40), &json!(20)),
            "{said:?}"
        );
        assert_eq!(said.usage["cache_read_input_tokens"], 60, "{said:?}");
    }
    let records = lab.strait.records(4);
    for record in &records {
        assert_eq!(
            (&record["usage"]["output"], &record["usage"]["cache_read"]),
            (&json!(20), &json!(60)),
            "{record}"
        );
        assert_eq!(record["mode"], "translate");
    }
    assert_eq!(
        (&records[0]["usage"]["input"], &records[2]["usage"]["input"]),
        (&json!(108), &json!(100))
    );
}

#[test]
fn the_cost_is_exact() {
    let lab = Lab::new("");
    lab.openai.set_script(
        Script::from_toml("[default]\nusage = { prompt_tokens = 1000, completion_tokens = 500, cached_tokens = 400 }").unwrap(),
    );
    lab.anthropic.set_script(
        Script::from_toml("[default]\nusage = { prompt_tokens = 600, completion_tokens = 500, cached_tokens = 400, cache_write_tokens = 100 }").unwrap(),
    );
    // gpt-4o: 2.5, 1.25 cached, 10 USD a million. claude-sonnet-4-5: 3, 0.3 read, 3.75 written, 15.
    let table = [
        ("gpt", "0.007", 7_000_000_000_u64),
        ("claude", "0.009795", 9_795_000_000),
    ];
    for (at, (model, usd, pico)) in table.into_iter().enumerate() {
        for dialect in Dialect::ALL {
            let answer = lab.post(dialect, &dialect.body(model, "hi", false));
            let case = format!("{dialect:?}, {model}: {}", answer.text());
            assert_eq!(answer.header("x-strait-cost-usd"), Some(usd), "{case}");
            assert_eq!(
                answer.json()["usage"].get("cost"),
                None,
                "nobody asked: {case}"
            );
            let records = lab.strait.records(1);
            assert_eq!(records.last().unwrap()["status"], 200);
            let answer = lab.post(dialect, &streamed(&dialect.body(model, "hi", false)));
            assert_eq!(
                answer.header("x-strait-cost-usd"),
                None,
                "the head is out before it is known: {case}"
            );
            let mut body = dialect.body(model, "hi", false);
            body["usage"] = json!({"include": true});
            let answer = lab.post(dialect, &body);
            let cost = answer.json()["usage"]["cost"].clone();
            assert_eq!(cost.as_f64(), usd.parse().ok(), "{case}: {}", answer.text());
            assert!(
                answer.json()["usage"]["cost_details"].is_object(),
                "{case}: {}",
                answer.text()
            );
            let calls = [&lab.openai, &lab.anthropic].map(Mock::calls).concat();
            assert!(
                calls.iter().all(|call| call.json().get("usage").is_none()),
                "what is ours is stripped"
            );
        }
        let records = lab.strait.records(6 * (at + 1));
        let of_model: Vec<&Value> = records
            .iter()
            .filter(|record| record["model_requested"] == model)
            .collect();
        assert_eq!(of_model.len(), 6);
        for record in of_model {
            assert_eq!(
                (&record["cost_pico"], &record["cost_usd"]),
                (&json!(pico), &json!(usd)),
                "{record}"
            );
        }
    }
    let total = 6.0 * 0.007 + 6.0 * 0.009_795;
    assert!((lab.strait.metric("strait_cost_usd_total", &[]) - total).abs() < 1e-9);
    // Unknown to every catalogue: no price is made up.
    let answer = lab.post(
        Dialect::OpenAi,
        &Dialect::OpenAi.body("plain-gpt", "hi", false),
    );
    assert_eq!(answer.header("x-strait-cost-usd"), None);
    lab.strait.records(13);
    assert_eq!(
        lab.strait.metric("strait_unpriced_requests_total", &[]),
        1.0
    );
}

#[test]
fn streams_always_ask_for_usage_and_tell_it_to_those_who_asked() {
    let lab = Lab::new("[default]\nusage = { prompt_tokens = 9, completion_tokens = 3 }");
    for model in ["gpt", "claude"] {
        for asked in [None, Some(false), Some(true)] {
            let mut body = Dialect::OpenAi.body(model, "hi", true);
            if let Some(asked) = asked {
                body["stream_options"] = json!({"include_usage": asked});
            }
            let (said, call) = lab.ask(Dialect::OpenAi, &body);
            if model == "gpt" {
                assert_eq!(
                    call.json()["stream_options"]["include_usage"],
                    json!(true),
                    "{asked:?}"
                );
            }
            assert_eq!(
                said.usage.is_object(),
                asked == Some(true),
                "{model}, {asked:?}: {said:?}"
            );
            let answer = lab.post(Dialect::OpenAi, &body);
            let extra = dialect::events(&answer)
                .iter()
                .filter(|event| event["choices"] == json!([]))
                .count();
            assert_eq!(
                extra,
                usize::from(asked == Some(true)),
                "{model}, {asked:?}: {}",
                answer.text()
            );
        }
    }
    for record in lab.strait.records(12) {
        assert_eq!(
            (&record["usage"]["input"], &record["usage"]["output"]),
            (&json!(9), &json!(3)),
            "{record}"
        );
        assert_eq!(record["usage"].get("estimated"), None, "{record}");
    }
}

#[test]
fn what_would_change_the_meaning_is_refused_by_name() {
    let lab = Lab::new("");
    for (field, value, param) in [
        ("n", json!(2), "n"),
        ("logprobs", json!(true), "logprobs"),
        ("top_logprobs", json!(3), "top_logprobs"),
        ("logit_bias", json!({"50256": -100}), "logit_bias"),
    ] {
        for stream in [false, true] {
            let mut body = Dialect::OpenAi.body("claude", "hi", stream);
            body[field] = value.clone();
            let answer = lab.post(Dialect::OpenAi, &body);
            let error = answer.json()["error"].clone();
            assert_eq!(answer.status, 400, "{field}: {}", answer.text());
            assert_eq!(error["param"], param, "{field}: {error}");
            assert!(
                error["message"]
                    .as_str()
                    .is_some_and(|message| !message.is_empty()),
                "{error}"
            );
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{field}");
        }
    }
    let mut body = Dialect::Anthropic.body("gpt", "hi", false);
    body["tools"] = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let answer = lab.post(Dialect::Anthropic, &body);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(
        Dialect::Anthropic
            .error(&answer.json())
            .is_some_and(|message| message.contains("web_search")),
        "{}",
        answer.text()
    );
    assert_eq!(lab.anthropic.counts().count + lab.openai.counts().count, 0);
    // One that can say it is asked in its place.
    let mut body = Dialect::OpenAi.body("claude", "hi", false);
    body["n"] = json!(2);
    body["fallbacks"] = json!(["gpt"]);
    let answer = lab.post(Dialect::OpenAi, &body);
    assert_eq!(
        (
            answer.status,
            answer.json()["choices"].as_array().map(Vec::len)
        ),
        (200, Some(2)),
        "{}",
        answer.text()
    );
}

#[test]
fn what_can_be_done_without_is_dropped_and_named_in_the_record() {
    let lab = Lab::new("");
    let mut body = Dialect::OpenAi.body("claude", "hi", false);
    body["frequency_penalty"] = json!(0.5);
    body["seed"] = json!(7);
    lab.ask(Dialect::OpenAi, &body);
    let mut body = Dialect::Anthropic.body("gpt", "hi", false);
    body["top_k"] = json!(5);
    body["system"] =
        json!([{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]);
    lab.ask(Dialect::Anthropic, &body);
    let records = lab.strait.records(2);
    for (record, names) in records
        .iter()
        .zip([["frequency_penalty", "seed"], ["top_k", "cache_control"]])
    {
        let dropped = record["dropped"].to_string();
        assert!(names.iter().all(|name| dropped.contains(name)), "{dropped}");
    }
}

#[test]
fn a_providers_error_is_told_in_the_clients_dialect() {
    let lab = Lab::new("");
    for (dialect, model) in ACROSS {
        for (status, expected) in [
            (400, 400),
            (413, 413),
            (429, 429),
            (500, 502),
            (503, 503),
            (529, 503),
        ] {
            lab.script(&format!("[default]\nstatus = {status}\nerror = {{ message = \"the reason told\" }}\nheaders = {{ retry-after = \"23\" }}"));
            lab.strait.admin("DELETE", "/admin/v1/cooldowns", "");
            let answer = lab.post(dialect, &dialect.body(model, "hi", false));
            let case = format!("{dialect:?}, {model}, {status}: {}", answer.text());
            assert_eq!(answer.status, expected, "{case}");
            assert!(
                dialect
                    .error(&answer.json())
                    .is_some_and(|message| message.contains("the reason told")),
                "{case}"
            );
            if expected == 429 {
                assert_eq!(answer.header("retry-after"), Some("23"), "{case}");
            }
        }
    }
}
