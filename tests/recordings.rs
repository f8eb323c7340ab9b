//! Every recorded exchange of a chat-like API through the hub: its answer to each of the four client dialects, held
//! against the official SDKs' own types; its request to every protocol.
//!
//! Recordings are read from `../shared` where that folder is. What is written goes to `clients/validate_types.py`,
//! run by the Python at `clients/.venv` or at `STRAIT_PYTHON` where there is one.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "recordings/raw.rs"]
mod raw;
#[path = "recordings/read.rs"]
mod read;
#[path = "recordings/requests.rs"]
mod requests;
#[path = "recordings/said.rs"]
mod said;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use strait::error::Kind;
use strait::protocol::chat::Response;
use strait::protocol::{Protocol, Shape, StreamEncoder, collect, decode_response, encode_response};

use read::{Recording, all, spoken};
use said::{Numbers, Said, differences};

/// Whose SDKs the gateway's clients use.
const CLIENTS: [Protocol; 4] = [
    Protocol::OpenaiChat,
    Protocol::OpenaiResponses,
    Protocol::Anthropic,
    Protocol::Gemini,
];

fn shape() -> Shape {
    Shape {
        model: "asked/for".into(),
        created: 1_700_000_000,
        include_usage: true,
        id: "0123".into(),
        ..Shape::default()
    }
}

/// Gathers faults, so that one run tells all of them.
#[derive(Default)]
struct Faults(String);

impl Faults {
    fn add(&mut self, name: &str, what: impl std::fmt::Display) {
        writeln!(self.0, "{name}: {what}").unwrap();
    }

    /// Adds what the two say differently.
    fn compare(&mut self, name: &str, found: &Said, wanted: &Said) {
        let told = differences(found, wanted);
        if !told.is_empty() {
            self.add(name, told);
        }
    }

    fn none(self) {
        assert!(self.0.is_empty(), "{}", self.0);
    }
}

fn kind(from: Protocol, to: Protocol, stream: bool) -> String {
    let sdk = match to {
        Protocol::OpenaiResponses => "openai.response",
        // What Anthropic's own models say in a beta is said to its own clients alone.
        Protocol::Anthropic if from == Protocol::Anthropic => "anthropic.beta",
        Protocol::Anthropic => "anthropic",
        Protocol::Gemini => "gemini",
        Protocol::OpenaiChat
        | Protocol::OpenaiCompletions
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => "openai",
    };
    let what = match (to, stream) {
        (_, true) => ".stream",
        (Protocol::OpenaiResponses, false) => "",
        (Protocol::Gemini, false) => ".response",
        (_, false) => ".message",
    };
    format!("{sdk}{what}")
}

/// A line for the SDKs, and what their clients are to see.
fn line(name: &str, kind: &str, body: Vec<u8>, said: &Said) -> Value {
    let text = String::from_utf8(body).unwrap();
    let body = if kind.ends_with(".stream") {
        Value::String(text)
    } else {
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"))
    };
    json!({"name": name, "kind": kind, "body": body, "said": said.seen()})
}

/// Whether the answer is one: some say their errors with a status of success.
fn is_answer(recording: &Recording) -> bool {
    recording.status == 200 && recording.answer.is_object() && recording.answer["error"].is_null()
}

/// Tells an answer whole to a client; returns what the client reads.
fn tell(name: &str, hub: &Response<'_>, to: Protocol, lines: &mut Vec<Value>) -> Said {
    let written = encode_response(to, hub, &shape());
    let back = decode_response(to, &written, &shape())
        .unwrap_or_else(|error| panic!("{name}: {error}: {}", String::from_utf8_lossy(&written)));
    let after = Said::of(&back);
    let kind = kind(hub.family, to, false);
    lines.push(line(name, &kind, written, &Said::of(hub)));
    after
}

#[test]
fn recorded_answers_say_the_same_to_every_client() {
    let (mut faults, mut lines) = (Faults::default(), Vec::new());
    let (mut count, mut errors) = (0, 0);
    for recording in all() {
        let (name, from) = (&recording.name, recording.protocol);
        if recording.stream.is_some() || recording.answer.is_null() {
            continue;
        }
        let text = recording.answer.to_string();
        let hub = match decode_response(from, text.as_bytes(), &shape()) {
            Ok(hub) => hub,
            Err(error) => {
                errors += 1;
                if is_answer(&recording) || error.kind == Kind::Internal {
                    faults.add(name, error);
                }
                continue;
            }
        };
        if !is_answer(&recording) {
            continue;
        }
        count += 1;
        let before = Said::of(&hub);
        let mut told = raw::whole(from, &recording.answer);
        told.finish = before.finish;
        faults.compare(name, &before, &told);
        for to in CLIENTS.into_iter().filter(|to| spoken(*to)) {
            let name = format!("{name} to {}", to.name());
            faults.compare(&name, &tell(&name, &hub, to, &mut lines), &before);
            // And as a stream, for clients that asked for one.
            let mut encoder = StreamEncoder::new(to, &shape());
            let mut written = Vec::new();
            collect::replay(&hub, &mut |event| encoder.write(&event, &mut written));
            let name = format!("{name}, replayed");
            let heard = said::hear(to, &written);
            faults.compare(&name, &heard.said, &before);
            if let Some(failure) = heard.failure {
                faults.add(&name, failure);
            }
            lines.push(line(&name, &kind(from, to, true), written, &before));
        }
    }
    eprintln!("{count} answers, {errors} errors, {} for SDKs", lines.len());
    faults.none();
    hold_against_sdks("answers", &lines);
}

#[test]
fn recorded_streams_say_the_same_to_every_client() {
    let (mut faults, mut lines) = (Faults::default(), Vec::new());
    let (mut count, mut failed) = (0, 0);
    for recording in all() {
        let (name, from) = (&recording.name, recording.protocol);
        let Some(stream) = recording.stream.as_deref() else {
            continue;
        };
        count += 1;
        let heard = said::hear(from, stream);
        let before = heard.said;
        if let Some(mut told) = raw::sum(from, &said::chunks(from, stream)) {
            told.finish = before.finish;
            faults.compare(name, &before, &told);
        }
        let mut collector = said::collect(from, stream);
        let sum = collector.finish();
        assert_eq!(sum.is_some(), heard.failure.is_none(), "{name}");
        if let Some(sum) = &sum {
            faults.compare(&format!("{name}, summed"), &Said::of(sum), &before);
        } else {
            failed += 1;
            eprintln!("{name} fails: {:?}", heard.failure);
        }
        for to in CLIENTS.into_iter().filter(|to| spoken(*to)) {
            let name = format!("{name} to {}", to.name());
            let written = said::recode(from, to, stream, stream.len());
            if said::recode(from, to, stream, 7) != written {
                faults.add(&name, "another stream when it comes in pieces");
            }
            let after = said::hear(to, &written);
            let Some(sum) = &sum else {
                // What failed has no false end.
                if after.failure.is_none() {
                    faults.add(&name, String::from_utf8_lossy(&written));
                }
                continue;
            };
            if let Some(failure) = after.failure {
                faults.add(&name, failure);
                continue;
            }
            faults.compare(&name, &after.said, &before);
            lines.push(line(&name, &kind(from, to, true), written, &before));
            let name = format!("{name}, summed");
            faults.compare(&name, &tell(&name, sum, to, &mut lines), &before);
        }
    }
    eprintln!(
        "{count} streams, {failed} of them cut or failed, {} for SDKs",
        lines.len()
    );
    faults.none();
    hold_against_sdks("streams", &lines);
}

/// Holds the lines against the official SDKs.
fn hold_against_sdks(name: &str, lines: &[Value]) {
    let tests = std::env::var("STRAIT_TESTS").map_or(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests").into(),
        PathBuf::from,
    );
    let venv = tests.join("clients/.venv/bin/python");
    let python = std::env::var_os("STRAIT_PYTHON").map_or(venv, PathBuf::from);
    assert!(
        python.exists(),
        "{} is absent: run `bash .ci/setup tests` first",
        python.display()
    );
    let file = format!("strait-recordings-{name}-{}.jsonl", std::process::id());
    let file = std::env::temp_dir().join(file);
    let mut text = String::new();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    std::fs::write(&file, text).unwrap();
    let run = Command::new(&python)
        .arg(tests.join("clients/validate_types.py"))
        .arg(&file)
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    eprint!("{told}");
}

/// Usage is compared everywhere above; this holds the comparison itself to numbers known beforehand.
#[test]
fn the_numbers_are_the_providers_own() {
    let body = json!({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": {
        "prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 40,
        "completion_tokens_details": {"reasoning_tokens": 25}, "prompt_tokens_details": {"cached_tokens": 4},
    }});
    let wanted = Numbers {
        input: 12,
        output: 28,
        cached: 4,
    };
    assert_eq!(raw::whole(Protocol::OpenaiChat, &body).usage, wanted);
    let text = body.to_string();
    let hub = decode_response(Protocol::OpenaiChat, text.as_bytes(), &shape()).unwrap();
    assert_eq!(Said::of(&hub).usage, wanted);
}
