//! Streams that break off after their beginning, gone on with by another target: what the client saw, what the other
//! was asked, and what the record says. Client × protocol of the providers × how it breaks off.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashSet;

use common::{Answer, Strait, chat, message, mock};
use serde_json::{Value, json};
use strait::mock::Mock;

const FIRST: &str = "alpha beta gamma delta epsilon zeta eta theta";
const SECOND: &str = " and all of the rest of it";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Client {
    Chat,
    Messages,
    Responses,
    Gemini,
    Completions,
}

impl Client {
    fn path(self) -> &'static str {
        match self {
            Client::Chat => "/v1/chat/completions",
            Client::Messages => "/v1/messages",
            Client::Responses => "/v1/responses",
            Client::Gemini => "/v1beta/models/both:streamGenerateContent?alt=sse",
            Client::Completions => "/v1/completions",
        }
    }

    fn protocol(self) -> &'static str {
        match self {
            Client::Chat => "openai-chat",
            Client::Messages => "anthropic",
            Client::Responses => "openai-responses",
            Client::Gemini => "gemini",
            Client::Completions => "openai-completions",
        }
    }

    fn body(self) -> Value {
        let mut body = match self {
            Client::Chat => {
                let mut body = chat("both", "hello there");
                body["stream_options"] = json!({"include_usage": true});
                body
            }
            Client::Messages => message("both", "hello there"),
            Client::Responses => json!({"model": "both", "input": "hello there"}),
            Client::Gemini => {
                return json!({"contents": [{"role": "user", "parts": [{"text": "hello there"}]}]});
            }
            Client::Completions => json!({"model": "both", "prompt": "hello there"}),
        };
        body["stream"] = json!(true);
        body
    }

    /// The text that the stream says.
    fn text(self, events: &[Value]) -> String {
        let of = |event: &Value| match self {
            Client::Chat => event["choices"][0]["delta"]["content"].clone(),
            Client::Completions => event["choices"][0]["text"].clone(),
            Client::Messages => event["delta"]["text"].clone(),
            Client::Responses if event["type"] == "response.output_text.delta" => {
                event["delta"].clone()
            }
            Client::Responses => Value::Null,
            Client::Gemini => {
                let part = &event["candidates"][0]["content"]["parts"][0];
                if part["thought"] == true {
                    return Value::Null;
                }
                part["text"].clone()
            }
        };
        events
            .iter()
            .map(|event| of(event).as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Whether an event begins the answer, and whether it ends it.
    fn begins_and_ends(self, event: &Value) -> (bool, bool) {
        match self {
            Client::Chat => (
                event["choices"][0]["delta"]["role"].is_string(),
                event["choices"][0]["finish_reason"].is_string(),
            ),
            Client::Completions => (false, event["choices"][0]["finish_reason"].is_string()),
            Client::Messages => (
                event["type"] == "message_start",
                event["type"] == "message_stop",
            ),
            Client::Responses => (
                event["type"] == "response.created",
                event["type"] == "response.completed",
            ),
            Client::Gemini => (false, event["candidates"][0]["finishReason"].is_string()),
        }
    }

    fn is_error(self, event: &Value) -> bool {
        event["error"].is_object() || event["type"] == "error"
    }

    /// What must be the same in every event that has it.
    fn identity(self, event: &Value) -> Vec<(&'static str, String)> {
        let pairs: &[(&'static str, &str)] = match self {
            Client::Chat | Client::Completions => {
                &[("id", "/id"), ("model", "/model"), ("created", "/created")]
            }
            Client::Messages => &[("index", "/index")],
            Client::Responses => &[
                ("id", "/response/id"),
                ("model", "/response/model"),
                ("item", "/item_id"),
                ("output", "/output_index"),
                ("content", "/content_index"),
                ("created", "/response/created_at"),
            ],
            Client::Gemini => &[("id", "/responseId"), ("model", "/modelVersion")],
        };
        pairs
            .iter()
            .filter_map(|(name, at)| Some((*name, event.pointer(at)?.to_string())))
            .collect()
    }
}

fn events(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {data}")))
        .collect()
}

fn step(step: &str) -> Mock {
    mock(&format!("[[rule]]\nmodel = \"x\"\nsteps = [{step}]\n"))
}

/// Two providers that speak `protocol`; the first breaks off. `more` goes into the model's table.
fn lab(protocol: &str, (first, second): (&str, &str), more: &str) -> (Strait, Mock, Mock) {
    let (bad, good) = (step(first), step(second));
    let base = |mock: &Mock| match protocol {
        "gemini" => format!("{}/v1beta", mock.url()),
        _ => format!("{}/v1", mock.url()),
    };
    let strait = Strait::start(&format!(
        r#"
        [providers.bad]
        protocols = ["{protocol}"]
        base_url = "{}"
        key = "bad-provider-key"
        timeouts = {{ idle = "1500ms", total = "30s" }}
        price = {{ in = 1.0, out = 1.0 }}
        [providers.good]
        protocols = ["{protocol}"]
        base_url = "{}"
        key = "good-provider-key"
        price = {{ in = 1.0, out = 1.0 }}
        [cache]
        enabled = true
        [models.both]
        targets = ["bad/x", "good/x"]
        {more}
        "#,
        base(&bad),
        base(&good),
    ));
    (strait, bad, good)
}

const ON: &str = "continuation = { enabled = true }";

fn said(text: &str, more: &str) -> String {
    format!(
        "{{ text = \"{text}\", chunks = 6, usage = {{ input_tokens = 10, output_tokens = 20 }} {more} }}"
    )
}

const CLIENTS: [Client; 5] = [
    Client::Chat,
    Client::Messages,
    Client::Responses,
    Client::Gemini,
    Client::Completions,
];

const BREAKS: [(&str, &str); 3] = [
    ("cut", ", cut_after = 3"),
    ("timeout_idle", ", stall_after = 3"),
    ("error_event", ", error_event = { at = 3 }"),
];

/// The providers' protocols that a client's is tried with: its own, and another.
fn protocols(client: Client) -> [&'static str; 2] {
    match client {
        Client::Chat => ["openai-chat", "anthropic"],
        Client::Completions => ["openai-completions", "openai-chat"],
        Client::Messages => ["anthropic", "openai-chat"],
        Client::Responses => ["openai-responses", "anthropic"],
        Client::Gemini => ["gemini", "openai-chat"],
    }
}

/// Checks that an answer is whole: the one text, one beginning, one end, one voice.
fn check(client: Client, answer: &Answer, name: &str) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{name}");
    let all = events(answer);
    let text = client.text(&all);
    let cut = text.strip_suffix(SECOND);
    let cut =
        cut.unwrap_or_else(|| panic!("{name}: the rest is missing in {text:?}\n{}", answer.text()));
    assert!(
        FIRST.starts_with(cut) && !cut.is_empty() && cut.len() < FIRST.len(),
        "{name}: {text:?}"
    );
    assert!(answer.complete, "{name}: the body was cut");
    let begun = all.iter().filter(|event| client.begins_and_ends(event).0);
    let begun = begun.count();
    assert!(begun <= 1, "{name}: {begun} beginnings\n{}", answer.text());
    let ends = all.iter().filter(|event| client.begins_and_ends(event).1);
    assert_eq!(ends.count(), 1, "{name}: ends\n{}", answer.text());
    assert!(
        !all.iter().any(|event| client.is_error(event)),
        "{name}: an error\n{}",
        answer.text()
    );
    let mut voice: HashSet<(&'static str, String)> = HashSet::new();
    voice.extend(all.iter().flat_map(|event| client.identity(event)));
    for (one, value) in &voice {
        let same = voice.iter().filter(|(other, _)| other == one).count();
        assert_eq!(
            same,
            1,
            "{name}: {one} {value} is not the only one\n{}",
            answer.text()
        );
    }
    match client {
        Client::Chat | Client::Completions => {
            assert!(answer.text().trim_end().ends_with("data: [DONE]"), "{name}");
        }
        Client::Responses => {
            let numbers: Vec<u64> = all
                .iter()
                .map(|event| event["sequence_number"].as_u64().unwrap())
                .collect();
            let expected: Vec<u64> = (numbers[0]..).take(numbers.len()).collect();
            assert_eq!(
                numbers,
                expected,
                "{name}: sequence numbers\n{}",
                answer.text()
            );
            let last = &all.last().unwrap()["response"];
            assert_eq!(
                last["output"][0]["content"][0]["text"],
                json!(text),
                "{name}"
            );
            assert_eq!(last["output"].as_array().unwrap().len(), 1, "{name}");
        }
        Client::Messages => {
            let starts = all
                .iter()
                .filter(|event| event["type"] == "content_block_start");
            assert_eq!(starts.count(), 1, "{name}: blocks\n{}", answer.text());
        }
        Client::Gemini => {}
    }
    all
}

fn usage(client: Client, all: &[Value]) -> (u64, u64) {
    let number = |at: &str| {
        all.iter()
            .rev()
            .find_map(|event| event.pointer(at)?.as_u64())
            .unwrap_or_default()
    };
    match client {
        Client::Chat => (
            number("/usage/prompt_tokens"),
            number("/usage/completion_tokens"),
        ),
        Client::Messages => (
            number("/usage/input_tokens"),
            number("/usage/output_tokens"),
        ),
        Client::Responses => (
            number("/response/usage/input_tokens"),
            number("/response/usage/output_tokens"),
        ),
        Client::Gemini => (
            number("/usageMetadata/promptTokenCount"),
            number("/usageMetadata/candidatesTokenCount"),
        ),
        Client::Completions => (0, 0),
    }
}

#[test]
fn a_text_that_breaks_off_is_gone_on_with_in_one_voice() {
    for client in CLIENTS {
        for protocol in protocols(client) {
            let (how, breaks) = BREAKS[usize::from(protocol != client.protocol())];
            let name = format!("{client:?} over {protocol}, {how}");
            let (strait, bad, good) = lab(protocol, (&said(FIRST, breaks), &said(SECOND, "")), ON);
            let answer = strait.post(client.path(), &client.body());
            let all = check(client, &answer, &name);
            assert_eq!((bad.calls().len(), good.calls().len()), (1, 1), "{name}");
            let record = &strait.records(1)[0];
            assert_eq!(record["continued"], true, "{name}: {record}");
            assert_eq!(record["attempts"][0]["outcome"], how, "{name}: {record}");
            assert_eq!(record["attempts"][1]["outcome"], "ok", "{name}: {record}");
            assert!(record["error"].is_null(), "{name}: {record}");
            let (input, output) = (
                record["usage"]["input"].as_u64().unwrap(),
                record["usage"]["output"].as_u64().unwrap(),
            );
            assert!(
                input > 10 && output > 20,
                "{name}: of both attempts: {record}"
            );
            assert_eq!(record["cost_pico"], (input + output) * 1_000_000, "{name}");
            if client != Client::Completions {
                assert_eq!(usage(client, &all), (input, output), "{name}");
            }
            assert_eq!(
                strait.metric("strait_continuations_total", &["result=\"ok\""]),
                1.0,
                "{name}"
            );
            // What was put together is not kept.
            strait.post(client.path(), &client.body());
            assert_eq!(strait.records(2)[1]["cache"], "miss", "{name}");
        }
    }
}

#[test]
fn every_way_of_breaking_off_is_gone_on_with() {
    for (how, breaks) in BREAKS {
        for client in [Client::Chat, Client::Messages] {
            for protocol in protocols(client) {
                let name = format!("{client:?} over {protocol}, {how}");
                let scripts = (said(FIRST, breaks), said(SECOND, ""));
                let (strait, _bad, _good) = lab(protocol, (&scripts.0, &scripts.1), ON);
                check(client, &strait.post(client.path(), &client.body()), &name);
                assert_eq!(
                    strait.records(1)[0]["attempts"][0]["outcome"],
                    how,
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn a_stream_cut_in_the_middle_of_an_event_shows_no_half_event() {
    for bytes in [700, 731, 760] {
        let broken = format!(
            "{{ text = \"{}\", chunks = 40, cut_body = {bytes} }}",
            FIRST.repeat(9)
        );
        let (strait, _bad, _good) = lab("openai-chat", (&broken, &said(SECOND, "")), ON);
        let answer = strait.post(Client::Chat.path(), &Client::Chat.body());
        let text = Client::Chat.text(&events(&answer));
        assert!(text.ends_with(SECOND), "{bytes}: {}", answer.text());
    }
}

#[test]
fn what_was_said_is_asked_with_and_repetitions_are_cut() {
    let again = "beta gamma delta and more";
    let (strait, _bad, good) = lab(
        "openai-chat",
        (
            "{ text = \"alpha beta gamma delta\", chunks = 1, stall_after = 1 }",
            &said(again, ""),
        ),
        ON,
    );
    let answer = strait.post(Client::Chat.path(), &Client::Chat.body());
    let text = Client::Chat.text(&events(&answer));
    assert_eq!(text, "alpha beta gamma delta and more", "{}", answer.text());
    let asked = good.calls()[0].json();
    let messages = asked["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3, "{asked}");
    assert_eq!(messages[1]["role"], "assistant");
    assert_eq!(messages[1]["content"], "alpha beta gamma delta");
    assert_eq!(messages[2]["role"], "user");
    let prompt = messages[2]["content"].as_str().unwrap();
    assert!(prompt.ends_with("beta gamma delta"), "{prompt}");
}

#[test]
fn providers_are_told_in_their_own_way_that_they_have_begun() {
    for (prefill, word) in [("prefix", "prefix"), ("partial", "partial")] {
        let (bad, good) = (
            step(&said(FIRST, ", cut_after = 3")),
            step(&said(SECOND, "")),
        );
        let strait = Strait::start(&format!(
            r#"
            [providers.bad]
            protocols = ["openai-chat"]
            base_url = "{}/v1"
            key = "bad-provider-key"
            [providers.good]
            protocols = ["openai-chat"]
            base_url = "{}/v1"
            key = "good-provider-key"
            quirks = {{ prefill = "{prefill}" }}
            [models.both]
            targets = ["bad/x", "good/x"]
            {ON}
            "#,
            bad.url(),
            good.url(),
        ));
        // JSON can be gone on with only so.
        let mut body = Client::Chat.body();
        body["response_format"] = json!({"type": "json_object"});
        check(
            Client::Chat,
            &strait.post(Client::Chat.path(), &body),
            prefill,
        );
        let asked = good.calls()[0].json();
        let last = asked["messages"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .clone();
        assert_eq!(last["role"], "assistant", "{asked}");
        assert_eq!(last[word], true, "{asked}");
        assert!(asked["response_format"].is_null(), "{asked}");
    }
}

#[test]
fn claude_gets_the_beginning_of_its_answer_without_white_space_at_its_end() {
    let (bad, good) = (
        mock("[default]\ntext = \"alpha beta \"\nchunks = 1\nstall_after = 1\n"),
        mock("[default]\ntext = \" gamma\"\n"),
    );
    let strait = Strait::start(&format!(
        r#"
        [providers.bad]
        protocols = ["anthropic"]
        base_url = "{}/v1"
        key = "bad-provider-key"
        timeouts = {{ idle = "500ms" }}
        [providers.good]
        protocols = ["anthropic"]
        base_url = "{}/v1"
        key = "good-provider-key"
        [models.both]
        targets = ["bad/x", "good/claude-sonnet-4-5"]
        {ON}
        "#,
        bad.url(),
        good.url(),
    ));
    let answer = strait.post(Client::Messages.path(), &Client::Messages.body());
    assert_eq!(Client::Messages.text(&events(&answer)), "alpha beta gamma");
    let asked = good.calls()[0].json();
    let messages = asked["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 2, "{asked}");
    let last = messages[1].to_string();
    assert!(last.contains("alpha beta\""), "{last}");
    assert_eq!(messages[1]["role"], "assistant");
}

#[test]
fn calls_reasoning_and_json_end_with_the_error_in_the_dialect() {
    let call = "{ tools = [{ name = \"f\", arguments = '{\"city\":\"Paris and more\"}' }], chunks = 6, cut_after = 3 }";
    let thought =
        "{ thinking = \"one two three four five six\", text = \"x\", chunks = 6, cut_after = 3 }";
    for client in [
        Client::Chat,
        Client::Messages,
        Client::Responses,
        Client::Gemini,
    ] {
        for protocol in protocols(client) {
            for (what, first) in [("a call", call), ("a thought", thought)] {
                if what == "a call" && (client == Client::Gemini || protocol == "gemini") {
                    // Its calls come whole.
                    continue;
                }
                let name = format!("{client:?} over {protocol}: {what}");
                let mut body = client.body();
                if what == "a call" {
                    let schema =
                        json!({"type": "object", "properties": {"city": {"type": "string"}}});
                    body["tools"] = match client {
                        Client::Chat => {
                            json!([{"type": "function", "function": {"name": "f", "parameters": schema}}])
                        }
                        Client::Messages => json!([{"name": "f", "input_schema": schema}]),
                        Client::Responses | Client::Gemini | Client::Completions => {
                            json!([{"type": "function", "name": "f", "parameters": schema}])
                        }
                    };
                }
                let (strait, _bad, good) = lab(protocol, (first, &said(SECOND, "")), ON);
                let answer = strait.post(client.path(), &body);
                let all = events(&answer);
                assert!(
                    all.iter().any(|event| client.is_error(event)),
                    "{name}: no error\n{}",
                    answer.text()
                );
                assert!(good.calls().is_empty(), "{name}: asked blindly");
                let record = &strait.records(1)[0];
                assert!(record["continued"].is_null(), "{name}: {record}");
                assert_eq!(
                    strait.metric("strait_continuations_total", &["result=\"barred\""]),
                    1.0,
                    "{name}"
                );
            }
        }
    }
    let (strait, _bad, good) = lab(
        "openai-chat",
        (&said(FIRST, ", cut_after = 3"), &said(SECOND, "")),
        ON,
    );
    let mut body = Client::Chat.body();
    body["response_format"] = json!({"type": "json_object"});
    let answer = strait.post(Client::Chat.path(), &body);
    assert!(
        events(&answer)
            .iter()
            .any(|event| event["error"].is_object())
    );
    assert!(good.calls().is_empty(), "words around JSON would break it");
}

#[test]
fn the_rest_may_break_off_too_and_only_so_often() {
    for (client, protocol) in [
        (Client::Chat, "openai-chat"),
        (Client::Messages, "openai-chat"),
    ] {
        let parts = [
            "one two three four five six",
            " uno due tre quattro cinque",
            " un deux trois",
        ];
        let mocks = parts.map(|text| step(&said(text, ", cut_after = 3")));
        let last = step(&said(SECOND, ""));
        let config = |max: u32| {
            let mut text = String::new();
            let mut targets = Vec::new();
            for (at, mock) in mocks.iter().chain([&last]).enumerate() {
                text += &format!(
                    "[providers.p{at}]\nprotocols = [\"{protocol}\"]\nbase_url = \"{}/v1\"\nkey = \"provider-key-{at}\"\n",
                    mock.url()
                );
                targets.push(format!("\"p{at}/x\""));
            }
            format!(
                "{text}[models.both]\ntargets = [{}]\ncontinuation = {{ enabled = true, max = {max} }}\n",
                targets.join(", ")
            )
        };
        let strait = Strait::start(&config(3));
        let answer = strait.post(client.path(), &client.body());
        let all = events(&answer);
        let text = client.text(&all);
        assert!(
            text.starts_with("one")
                && text.contains(" uno")
                && text.contains(" un ")
                && text.ends_with(SECOND),
            "{text}"
        );
        assert_eq!(
            all.iter()
                .filter(|event| client.begins_and_ends(event).1)
                .count(),
            1
        );
        let outcomes: Vec<String> = strait.records(1)[0]["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attempt| attempt["outcome"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(outcomes, ["cut", "cut", "cut", "ok"]);
        assert_eq!(
            strait.metric("strait_continuations_total", &["result=\"cut\""]),
            2.0
        );

        let strait = Strait::start(&config(2));
        let answer = strait.post(client.path(), &client.body());
        let all = events(&answer);
        assert!(client.text(&all).contains(" un "), "{}", answer.text());
        assert!(
            all.iter().any(|event| client.is_error(event)),
            "after two the error is told: {}",
            answer.text()
        );
        assert!(answer.complete);
    }
}

#[test]
fn without_the_key_nothing_is_gone_on_with() {
    let (strait, _bad, good) = lab(
        "openai-chat",
        (&said(FIRST, ", cut_after = 3"), &said(SECOND, "")),
        "",
    );
    let answer = strait.post(Client::Chat.path(), &Client::Chat.body());
    assert!(
        events(&answer)
            .iter()
            .any(|event| event["error"].is_object())
    );
    assert!(good.calls().is_empty());
}

#[test]
fn the_same_target_goes_on_where_there_is_no_other() {
    let both = format!("{}, {}", said(FIRST, ", cut_after = 3"), said(SECOND, ""));
    let one = step(&both);
    let strait = Strait::start(&format!(
        "[providers.one]\nprotocols = [\"anthropic\"]\nbase_url = \"{}/v1\"\nkey = \"one-provider-key\"\n\
         [models.both]\ntargets = [\"one/x\"]\n{ON}\n",
        one.url()
    ));
    let answer = strait.post(Client::Messages.path(), &Client::Messages.body());
    check(Client::Messages, &answer, "one target");
    assert_eq!(one.calls().len(), 2);
}

#[test]
fn the_sdks_see_one_answer() {
    let clients = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let venv = clients.join(".venv/bin/python");
    let python = std::env::var_os("STRAIT_PYTHON").map_or(venv, std::path::PathBuf::from);
    assert!(
        python.exists(),
        "{} is absent: run `bash .ci/setup tests` first",
        python.display()
    );
    for protocol in ["openai-chat", "anthropic", "openai-responses"] {
        let (strait, _bad, _good) = lab(
            protocol,
            (&said(FIRST, ", cut_after = 3"), &said(SECOND, "")),
            ON,
        );
        let run = std::process::Command::new(&python)
            .arg(clients.join("continued.py"))
            .args([&format!("http://{}", strait.addr), FIRST, SECOND])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{protocol}: {told}");
    }
}
