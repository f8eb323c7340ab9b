//! The exact cache and single flight, through the whole program over real sockets.

#[path = "../common/mod.rs"]
mod common;
mod flight;

use std::time::{Duration, Instant};

use common::dialect::{self, Dialect, Said, is_stream};
use common::{Answer, Strait, mock};
use serde_json::{Value, json};
use strait::mock::Mock;

/// A gateway that keeps answers, over one provider that speaks `upstream` and does what `script` says. `m` is its
/// model `x`; the other models of the provider are `lab/NAME`.
fn lab_of(upstream: Dialect, script: &str, more: &str) -> (Strait, Mock) {
    let provider = mock(script);
    let strait = Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["{}"]
        base_url = "{}/v1"
        key = "the-provider-key"
        [models.m]
        targets = ["lab/x"]
        retries = {{ max_attempts = 1 }}
        [cache]
        enabled = true
        memory = "64MiB"
        {more}
        "#,
        upstream.protocol(),
        provider.url(),
    ));
    (strait, provider)
}

fn lab(dialect: Dialect, script: &str) -> (Strait, Mock) {
    lab_of(dialect, script, "")
}

fn cache(answer: &Answer) -> &str {
    answer.header("x-strait-cache").unwrap_or("absent")
}

fn post(strait: &Strait, dialect: Dialect, headers: &[(&str, &str)], body: &Value) -> Answer {
    strait
        .client()
        .post(dialect.path(), headers, body.to_string().as_bytes())
}

/// An answer with something of everything.
const RICH: &str = r#"
    [default]
    thinking = "Let me think about it."
    text = "Here it comes."
    tools = [{ name = "weather", id = "call_1", arguments = { city = "Rome" } }, { name = "time", id = "call_2", arguments = { zone = "CET" } }]
    usage = { prompt_tokens = 100, completion_tokens = 20, cached_tokens = 60 }
"#;

#[test]
fn the_second_identical_request_is_a_hit_and_costs_nothing() {
    for dialect in Dialect::ALL {
        for stream in [false, true] {
            let (strait, provider) = lab(dialect, "");
            let body = dialect.body("m", "keep this", stream);
            let first = post(&strait, dialect, &[], &body);
            let second = post(&strait, dialect, &[], &body);
            let case = format!("{dialect:?}, stream {stream}: {}", second.text());
            assert_eq!((first.status, second.status), (200, 200), "{case}");
            assert_eq!((cache(&first), cache(&second)), ("miss", "hit"), "{case}");
            assert_eq!(dialect.said(&first), dialect.said(&second), "{case}");
            assert_eq!(dialect.said(&second).text, "keep this", "{case}");
            assert_eq!(provider.counts().count, 1, "{case}");
            assert_eq!(second.header("x-strait-provider"), Some("lab"), "{case}");
            assert_eq!(second.header("x-strait-model"), Some("x"), "{case}");
            if !stream {
                assert_eq!(first.body, second.body, "{case}");
                assert_eq!(second.header("x-strait-cost-usd"), Some("0"), "{case}");
            }
            assert!(
                second.header("x-request-id") != first.header("x-request-id"),
                "{case}"
            );
            let records = strait.records(2);
            assert_eq!(
                (&records[0]["cache"], &records[1]["cache"]),
                (&json!("miss"), &json!("hit"))
            );
            assert_eq!(
                (&records[1]["mode"], &records[1]["cost_pico"]),
                (&json!("cache"), &json!(0))
            );
            assert_eq!(records[1]["attempts"], json!([]));
        }
    }
}

/// What an answer tells, without what only one provider tells and no other knows.
fn told(said: &Said) -> Said {
    let counts = [
        "prompt_tokens",
        "completion_tokens",
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
    ];
    let mut usage: Value = counts
        .iter()
        .map(|name| ((*name).to_owned(), said.usage[*name].clone()))
        .collect();
    usage["cached"] = said.usage["prompt_tokens_details"]["cached_tokens"].clone();
    Said {
        usage,
        model: String::new(),
        ..said.clone()
    }
}

#[test]
fn streamed_and_whole_requests_share_one_entry_whatever_the_provider_speaks() {
    for dialect in Dialect::ALL {
        for upstream in Dialect::ALL {
            for stream_first in [false, true] {
                let (strait, provider) = lab_of(upstream, RICH, "");
                let mut bodies = [
                    dialect.body("m", "hi", false),
                    dialect.body("m", "hi", true),
                ];
                if dialect == Dialect::OpenAi {
                    bodies[1]["stream_options"] = json!({"include_usage": true});
                }
                if stream_first {
                    bodies.reverse();
                }
                // What the same answer looks like when it isn't kept.
                let no_store = [("x-strait-cache", "no-store")];
                let expected = bodies
                    .each_ref()
                    .map(|body| dialect.said(&post(&strait, dialect, &no_store, body)));
                provider.clear_calls();
                let [first, second] = bodies
                    .each_ref()
                    .map(|body| post(&strait, dialect, &[], body));
                let case = format!(
                    "{dialect:?} over {upstream:?}, stream first {stream_first}: {}",
                    second.text()
                );
                assert_eq!((cache(&first), cache(&second)), ("miss", "hit"), "{case}");
                assert_eq!(provider.counts().count, 1, "{case}");
                assert_eq!(is_stream(&second), !stream_first, "{case}");
                let (one, other) = (dialect.said(&first), dialect.said(&second));
                assert_eq!(told(&one), told(&expected[0]), "{case}");
                assert_eq!(told(&other), told(&expected[1]), "{case}");
                assert_eq!(one.text, "Here it comes.", "{case}");
                assert_eq!(one.tools.len(), 2, "{case}");
                assert_eq!(
                    (&one.text, &one.tools, &one.finish),
                    (&other.text, &other.tools, &other.finish),
                    "{case}"
                );
                assert_eq!(one.thinking, other.thinking, "{case}");
                let output = if dialect == Dialect::OpenAi {
                    "completion_tokens"
                } else {
                    "output_tokens"
                };
                assert_eq!(
                    (&one.usage[output], &other.usage[output]),
                    (&json!(20), &json!(20)),
                    "{case}"
                );
            }
        }
    }
}

#[test]
fn the_usage_chunk_comes_from_the_cache_only_to_those_who_asked() {
    for upstream in Dialect::ALL {
        let (strait, provider) = lab_of(
            upstream,
            "[default]\nusage = { prompt_tokens = 11, completion_tokens = 7 }",
            "",
        );
        let plain = Dialect::OpenAi.body("m", "hi", true);
        let mut asks = plain.clone();
        asks["stream_options"] = json!({"include_usage": true});
        let seen: Vec<(String, bool)> = [&plain, &asks, &plain]
            .iter()
            .map(|body| {
                let answer = post(&strait, Dialect::OpenAi, &[], body);
                let chunks = dialect::events(&answer);
                let extra = chunks
                    .iter()
                    .filter(|chunk| chunk["choices"] == json!([]))
                    .count();
                let said = Dialect::OpenAi.said(&answer);
                assert_eq!(
                    extra,
                    usize::from(said.usage.is_object()),
                    "{}",
                    answer.text()
                );
                assert_eq!(said.text, "hi");
                (
                    cache(&answer).to_owned(),
                    said.usage["prompt_tokens"] == json!(11),
                )
            })
            .collect();
        let expected = [("miss", false), ("hit", true), ("hit", false)]
            .map(|(cache, usage)| (cache.to_owned(), usage));
        assert_eq!(seen, expected, "over {upstream:?}");
        assert_eq!(provider.counts().count, 1);
    }
}

#[test]
fn every_field_that_can_change_the_answer_makes_another_request() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let openai = [
        ("model", json!("lab/x")),
        ("messages", json!([{"role": "user", "content": "another"}])),
        (
            "messages",
            json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]),
        ),
        ("temperature", json!(0.1)),
        ("top_p", json!(0.5)),
        ("seed", json!(7)),
        ("n", json!(2)),
        ("max_tokens", json!(55)),
        ("max_completion_tokens", json!(56)),
        ("stop", json!(["x"])),
        ("frequency_penalty", json!(0.5)),
        ("presence_penalty", json!(0.5)),
        ("logit_bias", json!({"50256": -100})),
        ("logprobs", json!(true)),
        (
            "tools",
            json!([{"type": "function", "function": {"name": "f", "parameters": schema}}]),
        ),
        ("response_format", json!({"type": "json_object"})),
        (
            "response_format",
            json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}),
        ),
        ("reasoning_effort", json!("low")),
        ("service_tier", json!("flex")),
        ("something_new", json!(1)),
    ];
    let anthropic = [
        ("model", json!("lab/x")),
        ("messages", json!([{"role": "user", "content": "another"}])),
        ("system", json!("Be brief.")),
        ("max_tokens", json!(55)),
        ("temperature", json!(0.1)),
        ("top_p", json!(0.5)),
        ("top_k", json!(5)),
        ("stop_sequences", json!(["x"])),
        ("tools", json!([{"name": "f", "input_schema": schema}])),
        (
            "thinking",
            json!({"type": "enabled", "budget_tokens": 1024}),
        ),
        ("something_new", json!(1)),
    ];
    let tables: [(Dialect, &[(&str, Value)]); 2] =
        [(Dialect::OpenAi, &openai), (Dialect::Anthropic, &anthropic)];
    for (dialect, changes) in tables {
        let (strait, provider) = lab(dialect, "");
        let base = dialect.body("m", "hi", false);
        assert_eq!(cache(&post(&strait, dialect, &[], &base)), "miss");
        for (at, (field, value)) in changes.iter().enumerate() {
            let mut body = base.clone();
            body[*field] = value.clone();
            let answer = post(&strait, dialect, &[], &body);
            let case = format!("{dialect:?}, {field} = {value}: {}", answer.text());
            assert_eq!((answer.status, cache(&answer)), (200, "miss"), "{case}");
            assert_eq!(provider.counts().count, at as u64 + 2, "{case}");
            assert_eq!(cache(&post(&strait, dialect, &[], &body)), "hit", "{case}");
        }
        assert_eq!(
            cache(&post(&strait, dialect, &[], &base)),
            "hit",
            "what was kept first is still there"
        );
    }
}

#[test]
fn what_cannot_change_the_answer_shares_its_entry() {
    let openai = [
        ("user", json!("u1")),
        ("metadata", json!({"run": "7"})),
        ("stream", json!(false)),
        ("stream", json!(true)),
        ("stream_options", json!({"include_usage": true})),
        ("fallbacks", json!(["lab/y"])),
        ("usage", json!({"include": true})),
    ];
    let anthropic = [
        ("metadata", json!({"user_id": "u1"})),
        ("stream", json!(true)),
        ("fallbacks", json!(["lab/y"])),
    ];
    let tables: [(Dialect, &[(&str, Value)]); 2] =
        [(Dialect::OpenAi, &openai), (Dialect::Anthropic, &anthropic)];
    for (dialect, changes) in tables {
        let (strait, provider) = lab(dialect, "");
        let base = dialect.body("m", "hi", false);
        post(&strait, dialect, &[], &base);
        for (field, value) in changes {
            let mut body = base.clone();
            body[*field] = value.clone();
            if *field == "stream_options" {
                body["stream"] = json!(true);
            }
            let answer = post(&strait, dialect, &[], &body);
            assert_eq!(
                cache(&answer),
                "hit",
                "{dialect:?}, {field} = {value}: {}",
                answer.text()
            );
            assert_eq!(dialect.said(&answer).text, "hi");
        }
        // Neither do the order of the keys nor the spelling of a name.
        let text = base.to_string().replacen("\"model\"", "\"mod\\u0065l\"", 1);
        assert_eq!(
            cache(&strait.client().post(dialect.path(), &[], text.as_bytes())),
            "hit"
        );
        assert_eq!(provider.counts().count, 1);
    }
}

#[test]
fn several_answers_at_once_are_kept_for_their_own_form() {
    let (strait, provider) = lab(Dialect::OpenAi, "");
    let mut body = Dialect::OpenAi.body("m", "hi", false);
    body["n"] = json!(2);
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    for (body, expected) in [
        (&body, "miss"),
        (&streamed, "miss"),
        (&body, "hit"),
        (&streamed, "hit"),
    ] {
        let answer = post(&strait, Dialect::OpenAi, &[], body);
        assert_eq!(cache(&answer), expected, "{}", answer.text());
        let texts: Vec<Value> = if is_stream(&answer) {
            let chunks = dialect::events(&answer);
            let of = |index| {
                let texts = chunks
                    .iter()
                    .flat_map(|chunk| chunk["choices"].as_array().unwrap());
                let texts = texts.filter(|choice| choice["index"] == json!(index));
                json!(
                    texts
                        .filter_map(|choice| choice["delta"]["content"].as_str())
                        .collect::<String>()
                )
            };
            vec![of(0), of(1)]
        } else {
            answer.json()["choices"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["message"]["content"].clone())
                .collect()
        };
        assert_eq!(texts, ["hi", "hi"]);
    }
    assert_eq!(provider.counts().count, 2);
}

#[test]
fn an_answer_never_crosses_to_another_key_dialect_or_beta() {
    let provider = mock("");
    let strait = Strait::start(&format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat", "anthropic"]
        base_url = "{}/v1"
        key = "the-provider-key"
        [[keys]]
        name = "a"
        key = "key-of-a-0123456789"
        [[keys]]
        name = "b"
        key = "key-of-b-0123456789"
        [cache]
        enabled = true
        "#,
        provider.url()
    ));
    let ask = |dialect: Dialect, headers: &[(&str, &str)]| {
        let answer = post(
            &strait,
            dialect,
            headers,
            &dialect.body("lab/x", "hi", false),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        cache(&answer).to_owned()
    };
    let (a, b) = (
        ("authorization", "Bearer key-of-a-0123456789"),
        ("x-api-key", "key-of-b-0123456789"),
    );
    for dialect in Dialect::ALL {
        assert_eq!(ask(dialect, &[a]), "miss");
        assert_eq!(ask(dialect, &[a]), "hit");
        assert_eq!(ask(dialect, &[b]), "miss", "another tenant");
        assert_eq!(ask(dialect, &[b]), "hit");
    }
    assert_eq!(
        ask(
            Dialect::Anthropic,
            &[a, ("anthropic-beta", "context-1m-2025-08-07")]
        ),
        "miss"
    );
    assert_eq!(ask(Dialect::Anthropic, &[a]), "hit");
    assert_eq!(provider.counts().count, 5);
}

#[test]
fn the_client_says_how_the_cache_is_used() {
    let (strait, provider) = lab(Dialect::OpenAi, "");
    let body = Dialect::OpenAi.body("m", "hi", false);
    let ask = |control: &str| {
        post(
            &strait,
            Dialect::OpenAi,
            &[("x-strait-cache", control)],
            &body,
        )
    };
    let absent = ask("only-if-cached");
    assert_eq!(
        (absent.status, provider.counts().count),
        (504, 0),
        "{}",
        absent.text()
    );
    assert_eq!(absent.json()["error"]["code"], "not_cached");
    assert_eq!(cache(&ask("no-store")), "bypass");
    assert_eq!(
        cache(&post(&strait, Dialect::OpenAi, &[], &body)),
        "miss",
        "no-store stored it"
    );
    assert_eq!(cache(&ask("only-if-cached")), "hit");
    assert_eq!(cache(&ask("no-store")), "bypass", "no-store read it");
    assert_eq!(provider.counts().count, 3);
    // A refresh asks anew, and what it gets replaces what was kept.
    provider.set_script(strait::mock::Script::from_toml("[default]\ntext = \"newer\"").unwrap());
    assert_eq!(cache(&ask("refresh")), "miss");
    assert_eq!(provider.counts().count, 4);
    let now = post(&strait, Dialect::OpenAi, &[], &body);
    assert_eq!(
        (cache(&now), Dialect::OpenAi.said(&now).text.as_str()),
        ("hit", "newer")
    );
    for (name, value) in [
        ("x-strait-cache", "sometimes"),
        ("x-strait-cache", ""),
        ("x-strait-cache-ttl", "soon"),
        ("x-strait-cache-ttl", "0"),
    ] {
        for dialect in Dialect::ALL {
            let answer = post(
                &strait,
                dialect,
                &[(name, value)],
                &dialect.body("m", "hi", false),
            );
            assert_eq!(answer.status, 400, "{name}: {value}: {}", answer.text());
            assert!(
                dialect
                    .error(&answer.json())
                    .is_some_and(|message| message.contains(name)),
                "{}",
                answer.text()
            );
        }
    }
    assert_eq!(provider.counts().count, 4);
}

#[test]
fn an_entry_lives_as_long_as_its_ttl() {
    let (strait, provider) = lab_of(Dialect::OpenAi, "", "ttl = \"1h\"");
    let body = Dialect::OpenAi.body("m", "hi", false);
    let kept = Instant::now();
    let headers = [("x-strait-cache-ttl", "3s")];
    assert_eq!(
        cache(&post(&strait, Dialect::OpenAi, &headers, &body)),
        "miss"
    );
    let second = post(&strait, Dialect::OpenAi, &[], &body);
    if kept.elapsed() < Duration::from_secs(3) {
        assert_eq!(cache(&second), "hit");
    }
    std::thread::sleep(Duration::from_millis(3200));
    let calls = provider.counts().count;
    assert_eq!(cache(&post(&strait, Dialect::OpenAi, &[], &body)), "miss");
    assert_eq!(provider.counts().count, calls + 1);
}

#[test]
fn errors_cut_and_truncated_answers_are_not_kept() {
    let whole = [
        ("status 500", "{ status = 500 }"),
        ("status 400", "{ status = 400 }"),
        ("error in a 200", "{ error_event = { at = 0 } }"),
        ("cut", "{ cut_body = 40 }"),
        (
            "truncated",
            "{ text = \"Once upon a\", finish = \"length\" }",
        ),
        ("garbage", "{ garbage = true }"),
    ];
    let streamed = [
        ("status 500", "{ status = 500 }"),
        ("cut", "{ chunks = 6, cut_after = 2 }"),
        ("ended too early", "{ chunks = 6, end_after = 2 }"),
        ("error event", "{ chunks = 6, error_event = { at = 2 } }"),
        ("garbage", "{ chunks = 6, garbage_at = 2 }"),
        (
            "truncated",
            "{ text = \"Once upon a\", finish = \"length\" }",
        ),
    ];
    for dialect in Dialect::ALL {
        for stream in [false, true] {
            let (strait, provider) = lab(dialect, "");
            for (name, step) in if stream { streamed } else { whole } {
                let script = format!("[[rule]]\nsteps = [{step}, {{ text = \"all of it\" }}]");
                provider.set_script(strait::mock::Script::from_toml(&script).unwrap());
                let body = dialect.body("m", name, stream);
                let case = format!("{dialect:?}, stream {stream}, {name}");
                post(&strait, dialect, &[], &body);
                let second = post(&strait, dialect, &[], &body);
                assert_eq!(
                    (second.status, cache(&second)),
                    (200, "miss"),
                    "{case}: {}",
                    second.text()
                );
                assert_eq!(dialect.said(&second).text, "all of it", "{case}");
                assert_eq!(cache(&post(&strait, dialect, &[], &body)), "hit", "{case}");
                assert_eq!(
                    strait.admin("DELETE", "/admin/v1/cooldowns", "").status,
                    200
                );
            }
        }
    }
}
