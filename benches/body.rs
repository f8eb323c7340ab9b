//! What the bytes of one request and one chunk cost: `cargo bench --bench body`.
//!
//! Prints nanoseconds per operation, the least of several rounds, so that a busy machine disturbs little.

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use strait::codec::json;
use strait::codec::splice::Edits;
use strait::protocol::Protocol;
use strait::protocol::envelope::Envelope;
use strait::protocol::tap::{self, Tap};

fn main() {
    // `cargo test --benches` only wants to know that it works.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let round = if quick {
        Duration::from_millis(1)
    } else {
        Duration::from_millis(60)
    };
    for (name, size) in [("1 KiB", 1 << 10), ("60 KiB", 60 << 10), ("1 MiB", 1 << 20)] {
        for (kind, body) in [
            ("plain", request(size, false)),
            ("prose", request(size, true)),
        ] {
            let mut members = Vec::new();
            show(&format!("scan, {name}, {kind}"), round, || {
                json::members(black_box(&body), 64, &mut members).expect("it is JSON");
            });
            show(
                &format!("envelope and splice, {name}, {kind}"),
                round,
                || {
                    let envelope = Envelope::read(black_box(&body), Protocol::OpenaiChat, 64)
                        .expect("it is a request");
                    let mut edits = Edits::new();
                    edits.replace(
                        envelope
                            .model_value
                            .clone()
                            .expect("the body names its model"),
                        &b"\"another-model\""[..],
                    );
                    edits.insert_member(&body, "stream_options", br#"{"include_usage":true}"#);
                    black_box(edits.apply(&body));
                },
            );
        }
    }
    let openai = r#"data: {"id":"chatcmpl-BxyzBxyzBxyzBxyzBxyz","object":"chat.completion.chunk","created":1750000000,"model":"gpt-4.1-2025-04-14","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":" the"},"logprobs":null,"finish_reason":null}],"usage":null}"#;
    let anthropic = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" over the lazy dog and on\"}}";
    for (name, protocol, hide, frame) in [
        ("OpenAI", Protocol::OpenaiChat, false, openai),
        ("OpenAI, usage hidden", Protocol::OpenaiChat, true, openai),
        ("Anthropic", Protocol::Anthropic, false, anthropic),
    ] {
        let chunk = Bytes::from(format!("{frame}\n\n"));
        let mut tap = Tap::new(protocol, hide, 1 << 20);
        let mut out = Vec::with_capacity(4);
        show(
            &format!("tap, {name}, {} bytes", chunk.len()),
            round,
            || {
                tap.feed(black_box(&chunk).clone(), &mut out);
                out.clear();
            },
        );
    }
    let answer = format!(
        r#"{{"id":"c","model":"m","choices":[{{"message":{{"content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}}}}"#,
        prose(1 << 10)
    );
    show("whole answer, 1 KiB", round, || {
        black_box(tap::whole(
            Protocol::OpenaiChat,
            black_box(answer.as_bytes()),
        ));
    });
}

fn show(name: &str, round: Duration, mut operation: impl FnMut()) {
    let mut least = f64::INFINITY;
    for _ in 0..7 {
        let begin = Instant::now();
        let mut count = 0u32;
        while begin.elapsed() < round {
            for _ in 0..16 {
                operation();
            }
            count += 16;
        }
        least = least.min(begin.elapsed().as_secs_f64() * 1e9 / f64::from(count));
    }
    writeln!(std::io::stdout(), "{name:44} {least:10.0} ns")
        .expect("the numbers go to standard output");
}

/// A chat of many turns; `prose` has an escape every line, as written text has.
fn request(size: usize, escapes: bool) -> Bytes {
    let mut body = r#"{"model":"openai/gpt-4.1","stream":true,"temperature":0.2,"messages":[{"role":"system","content":"You are terse."}"#.to_owned();
    while body.len() < size {
        let turn = (size - body.len()).min(4096);
        let text = if escapes {
            prose(turn)
        } else {
            "lorem ipsum dolor sit amet, ".repeat(turn / 28 + 1)
        };
        body.push_str(&format!(r#",{{"role":"user","content":"{text}"}}"#));
    }
    body.push_str("]}");
    Bytes::from(body)
}

fn prose(size: usize) -> String {
    "The quick brown fox jumps over the lazy dog, said \\\"nobody\\\" in the whole long story.\\n"
        .repeat(size / 90 + 1)
}
