//! What clients get when nobody answers: a kept answer that is over its time, another model's, or the error.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Answer, Client, Strait, chat, mock};
use strait::mock::{Mock, Script};

const UP: &str = "[default]\ntext = \"from the model itself\"\n";
const DOWN: &str = "[default]\nstatus = 503\n";

fn lab(more: &str) -> (Strait, Mock, Mock) {
    let (main, small) = (mock(UP), mock("[default]\ntext = \"from the small one\"\n"));
    let provider = |name: &str, mock: &Mock| {
        format!(
            "[providers.{name}]\nprotocols = [\"openai-chat\"]\nbase_url = \"{}/v1\"\nkey = \"{name}-provider-key\"\n",
            mock.url()
        )
    };
    let strait = Strait::start(&format!(
        "{}{}[cache]\nenabled = true\nttl = \"1s\"\n{more}",
        provider("main", &main),
        provider("small", &small),
    ));
    (strait, main, small)
}

fn ask(strait: &Strait, model: &str, headers: &[(&str, &str)]) -> Answer {
    let body = chat(model, "hello there").to_string();
    strait
        .client()
        .post("/v1/chat/completions", headers, body.as_bytes())
}

fn text(answer: &Answer) -> String {
    let json = answer.json();
    json["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Waits until what was kept is over its time.
fn grow_old() {
    std::thread::sleep(std::time::Duration::from_millis(1200));
}

fn set(mock: &Mock, script: &str) {
    mock.set_script(Script::from_toml(script).unwrap());
}

const STALE: &str =
    "[models.m]\ntargets = [\"main/x\"]\nretries = { max_attempts = 1 }\nstale_if_error = \"1h\"\n";

#[test]
fn a_kept_answer_over_its_time_stands_in_for_one_that_cannot_be_had() {
    let (strait, main, _small) = lab(STALE);
    assert_eq!(
        ask(&strait, "m", &[]).header("x-strait-cache"),
        Some("miss")
    );
    grow_old();
    // While the model answers, it is asked.
    assert_eq!(
        ask(&strait, "m", &[]).header("x-strait-cache"),
        Some("miss")
    );
    assert_eq!(main.calls().len(), 2);
    grow_old();
    set(&main, DOWN);
    let answer = ask(&strait, "m", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(text(&answer), "from the model itself");
    assert_eq!(answer.header("x-strait-cache"), Some("stale"));
    assert!(
        answer
            .header("warning")
            .is_some_and(|value| value.starts_with("110"))
    );
    let age: u64 = answer.header("age").unwrap().parse().unwrap();
    assert!(age >= 1, "{age}");
    let records = strait.records(3);
    assert_eq!(records[2]["cache"], "stale");
    assert_eq!(records[2]["attempts"][0]["outcome"], "status");
    assert_eq!(
        strait.metric("strait_cache_requests_total", &["stale"]),
        1.0,
        "{}",
        strait.metrics()
    );
    // As a stream too.
    let mut body = chat("m", "hello there");
    body["stream"] = true.into();
    let answer = strait.post("/v1/chat/completions", &body);
    assert_eq!(answer.header("x-strait-cache"), Some("stale"));
    assert!(answer.text().contains("from the model itself"));
}

#[test]
fn the_clients_fault_and_its_own_word_bring_no_old_answer() {
    let (strait, main, _small) = lab(STALE);
    ask(&strait, "m", &[]);
    grow_old();
    set(&main, "[default]\nstatus = 400\n");
    assert_eq!(ask(&strait, "m", &[]).status, 400);
    set(&main, DOWN);
    for (header, value) in [
        ("x-strait-stale-if-error", "0"),
        ("x-strait-stale-if-error", "1ms"),
        ("x-strait-cache", "no-store"),
    ] {
        let answer = ask(&strait, "m", &[(header, value)]);
        assert_eq!(answer.status, 503, "{header}: {value}");
    }
    assert_eq!(
        ask(&strait, "m", &[("x-strait-stale-if-error", "soon")]).status,
        400
    );
    assert_eq!(
        ask(&strait, "m", &[("x-strait-stale-if-error", "1h")]).status,
        200
    );
}

#[test]
fn a_key_may_have_it_otherwise_than_the_model() {
    let (strait, main, _small) = lab(&format!(
        "{STALE}[models.n]\ntargets = [\"main/x\"]\nretries = {{ max_attempts = 1 }}\n\
         [[keys]]\nname = \"a\"\nkey = \"sk-key-that-is-long-enough-a\"\nstale_if_error = \"0s\"\n\
         [[keys]]\nname = \"b\"\nkey = \"sk-key-that-is-long-enough-b\"\nstale_if_error = \"1h\"\n"
    ));
    let with = |key: &str, model: &str| {
        let key = format!("Bearer sk-key-that-is-long-enough-{key}");
        ask(&strait, model, &[("authorization", &key)])
    };
    for (key, model) in [("a", "m"), ("b", "n")] {
        assert_eq!(with(key, model).status, 200);
    }
    grow_old();
    set(&main, DOWN);
    assert_eq!(
        with("a", "m").status,
        503,
        "the key's word goes before the model's"
    );
    assert_eq!(with("b", "n").header("x-strait-cache"), Some("stale"));
}

#[test]
fn what_nobody_allows_is_not_given() {
    let (strait, main, _small) =
        lab("[models.m]\ntargets = [\"main/x\"]\nretries = { max_attempts = 1 }\n");
    ask(&strait, "m", &[]);
    grow_old();
    set(&main, DOWN);
    assert_eq!(ask(&strait, "m", &[]).status, 503);
}

#[test]
fn a_cheaper_model_answers_last_of_all_and_says_so() {
    let (strait, main, small) = lab(
        "[models.m]\ntargets = [\"main/x\"]\nretries = { max_attempts = 1 }\nstale_if_error = \"1h\"\ndegraded = \"small/y\"\n",
    );
    set(&main, DOWN);
    for _ in 0..2 {
        let answer = ask(&strait, "m", &[]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(text(&answer), "from the small one");
        assert_eq!(answer.header("x-strait-degraded"), Some("true"));
        assert_eq!(answer.header("x-strait-provider"), Some("small"));
    }
    assert_eq!(small.calls().len(), 2, "what it says is not kept");
    let record = &strait.records(2)[0];
    assert_eq!(record["degraded"], true, "{record}");
    assert_eq!(record["attempts"][0]["outcome"], "status", "{record}");
    assert_eq!(record["attempts"][1]["outcome"], "ok", "{record}");

    assert_eq!(
        ask(&strait, "m", &[("x-strait-no-fallback", "true")]).status,
        503
    );
    set(&main, "[default]\nstatus = 400\n");
    assert_eq!(
        ask(&strait, "m", &[]).status,
        400,
        "the client's fault is told"
    );

    // An old answer of the model itself goes before it.
    set(&main, UP);
    common::eventually("the model is back", || {
        ask(&strait, "m", &[]).header("x-strait-degraded").is_none()
    });
    grow_old();
    set(&main, DOWN);
    let answer = ask(&strait, "m", &[]);
    assert_eq!(answer.header("x-strait-cache"), Some("stale"));
    assert_eq!(answer.header("x-strait-degraded"), None);
}

#[test]
fn when_the_cheaper_model_is_down_too_the_first_error_is_told() {
    let (strait, main, small) = lab(
        "[models.m]\ntargets = [\"main/x\"]\nretries = { max_attempts = 1 }\ndegraded = \"small/y\"\n",
    );
    set(&main, DOWN);
    set(&small, "[default]\nstatus = 500\n");
    let answer = ask(&strait, "m", &[]);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("x-strait-degraded"), None);
}

#[test]
fn mistakes_are_found_when_the_file_is_loaded() {
    let env = |_: &str| None;
    let read = |text: &str| {
        let text = format!(
            "[providers.p]\nprotocols = [\"openai-chat\"]\nbase_url = \"http://127.0.0.1:1/v1\"\nauth = \"none\"\n[models.m]\ntargets = [\"p/x\"]\n{text}"
        );
        let (mistakes, warnings) =
            match strait::config::read(std::path::Path::new("strait.toml"), &text, &env) {
                Ok(loaded) => (Vec::new(), loaded.warnings),
                Err(mistakes) => (mistakes, Vec::new()),
            };
        let shown = mistakes.iter().chain(&warnings).map(ToString::to_string);
        shown.collect::<Vec<_>>().join("\n")
    };
    for (text, expected) in [
        (
            "degraded = \"nobody\"",
            "models.m.degraded: is neither a [models] name nor provider/model",
        ),
        ("degraded = \"m\"", "models.m.degraded: is the model itself"),
        ("stale_if_error = 5", "models.m.stale_if_error"),
        (
            "continuation = { enabled = true, max = 9 }",
            "models.m.continuation.max",
        ),
        (
            "continuation = { enabled = true, promt = \"\" }",
            "did you mean prompt?",
        ),
        (
            "continuation = { enabled = true, prompt = \" \" }",
            "models.m.continuation.prompt",
        ),
        (
            "continuation = { max = 2 }",
            "models.m.continuation.enabled: is not given",
        ),
        (
            "[providers.q]\nlike = \"openai\"\nquirks = { prefill = \"prefx\" }",
            "did you mean \"prefix\"?",
        ),
    ] {
        let shown = read(text);
        assert!(shown.contains(expected), "{text}\n{shown}");
    }
}

#[test]
fn who_waits_for_another_gets_the_old_answer_too() {
    let (strait, main, _small) = lab(STALE);
    ask(&strait, "m", &[]);
    grow_old();
    set(&main, "[default]\nstatus = 503\ndelay_head = \"500ms\"\n");
    let addr = strait.addr;
    let answers = common::at_once(4, |_| {
        let body = chat("m", "hello there").to_string();
        Client::new(addr).post("/v1/chat/completions", &[], body.as_bytes())
    });
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-strait-cache"), Some("stale"));
    }
}
