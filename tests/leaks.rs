//! What must not grow or get stuck: permits, gauges, upstream calls, memory, and other clients' requests.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::dialect::{Dialect, events};
use common::provider::{Provider, STREAM, chunk};
use common::wire::{Wire, head_of};
use common::{Strait, at_once, eventually, mock};
use strait::mock::{Mock, Outcome};

const KEY: [(&str, &str); 1] = [("authorization", "Bearer client-key-of-the-test")];

fn provider(url: &str) -> String {
    format!(
        "[providers.lab]\nprotocols = [\"openai-chat\"]\nbase_url = \"{url}\"\nkey = \"lab-key\"\n"
    )
}

/// Streams that never end by themselves, and a key that may have 60 of them.
fn endless() -> (Strait, Mock) {
    let mock = mock(
        "[[rule]]\nmodel = \"endless\"\nsteps = [{ chunks = 200, chunk_gap = \"300ms\", text_bytes = 1000 }]\n\
         [[rule]]\nmodel = \"silent\"\nsteps = [{ stall_after = 2 }]\n\
         [[rule]]\nmodel = \"slow\"\nsteps = [{ stall_head = true }]\n",
    );
    let config = provider(&format!("{}/v1", mock.url()))
        + "[[keys]]\nname = \"a\"\nkey = \"client-key-of-the-test\"\nlimits = { concurrent = 60 }\n";
    (Strait::start(&config), mock)
}

/// Begins a request and leaves: after the first event, or without having looked.
fn leave(strait: &Strait, dialect: Dialect, model: &str, stream: bool, look: bool) {
    let body = dialect.body(model, "hello", stream).to_string();
    if !look {
        strait
            .client()
            .send_only(dialect.path(), &KEY, body.as_bytes());
        return;
    }
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let mut answer = strait
            .client()
            .send("POST", dialect.path(), &KEY, body.as_bytes())
            .unwrap();
        // Until the gateway has seen that others left, they hold their permits.
        if answer.status != 429 {
            assert_eq!(answer.status, 200);
            answer.until("data: ");
            return;
        }
        assert!(Instant::now() < until, "permits are not given back");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the gateway holds nothing, and proves that the key has all of its permits.
fn holds_nothing(strait: &Strait, mock: &Mock) {
    eventually("the gauge reads 0", || {
        strait.metric("strait_inflight", &[]) == 0.0
    });
    eventually("no stream is open", || {
        strait.metric("strait_streams_open", &[]) == 0.0
    });
    eventually("no call is in progress", || mock.counts().in_progress == 0);
    let streams: Vec<_> = (0..60)
        .map(|_| {
            let body = Dialect::OpenAi
                .body("lab/endless", "hello", true)
                .to_string();
            strait
                .client()
                .send("POST", "/v1/chat/completions", &KEY, body.as_bytes())
                .unwrap()
        })
        .collect();
    assert!(
        streams.iter().all(|stream| stream.status == 200),
        "a permit was lost"
    );
    let body = Dialect::OpenAi
        .body("lab/endless", "hello", true)
        .to_string();
    let refused = strait
        .client()
        .post("/v1/chat/completions", &KEY, body.as_bytes());
    let why = || {
        strait
            .records(0)
            .into_iter()
            .rev()
            .take(3)
            .map(|record| record.to_string())
            .collect::<String>()
    };
    assert_eq!(
        refused.status,
        429,
        "the limit holds: {} {}",
        refused.text(),
        why()
    );
    drop(streams);
    eventually("the gauge reads 0 again", || {
        strait.metric("strait_inflight", &[]) == 0.0
    });
}

#[test]
fn a_thousand_clients_that_leave_in_mid_stream_leave_nothing_behind() {
    let (strait, mock) = endless();
    at_once(50, |at| {
        for turn in 0..20 {
            let dialect = Dialect::ALL[(at + turn) % 2];
            leave(&strait, dialect, "lab/endless", true, true);
        }
    });
    eventually("no call is in progress", || mock.counts().in_progress == 0);
    let calls = mock.calls();
    assert_eq!(calls.len(), 1000);
    let others: Vec<_> = calls
        .iter()
        .filter(|call| call.outcome != Outcome::ClientGone)
        .collect();
    assert!(
        others.is_empty(),
        "not every upstream call was cancelled: {others:?}"
    );
    eventually("the gauge reads 0", || {
        strait.metric("strait_inflight", &[]) == 0.0
    });
    let refused = strait.metric("strait_rate_limited_total", &[]) as usize;
    let mut records = strait.records(1000 + refused);
    records.retain(|record| record["status"] != 429);
    assert_eq!(records.len(), 1000);
    for record in &records {
        assert_eq!(record["status"], 499, "{record}");
        assert_eq!(record["error"], "client_closed_request", "{record}");
    }
    holds_nothing(&strait, &mock);
}

#[test]
fn clients_that_leave_before_the_answer_or_in_silence_leave_nothing_behind() {
    let (strait, mock) = endless();
    at_once(40, |at| match at % 4 {
        0 => leave(&strait, Dialect::OpenAi, "lab/slow", false, false),
        1 => leave(&strait, Dialect::Anthropic, "lab/slow", true, false),
        2 => leave(&strait, Dialect::OpenAi, "lab/silent", true, true),
        _ => leave(&strait, Dialect::Anthropic, "lab/silent", true, true),
    });
    // Those that left while they sent the body, and before.
    let head = head_of(
        "POST",
        "/v1/chat/completions",
        &[KEY[0], ("content-length", "500")],
    );
    let start = [head.as_bytes(), b"{\"model\":"].concat();
    for sent in [10, head.len() - 5, head.len(), start.len()] {
        Wire::open(strait.addr).send(&start[..sent]).unwrap();
    }
    holds_nothing(&strait, &mock);
}

/// Resident memory of the gateway, in KiB.
fn resident(strait: &Strait) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", strait.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

const OFFERED: u64 = 200 << 20;

/// A provider that offers 200 MiB of stream as fast as they are taken.
fn firehose() -> (Provider, Arc<AtomicU64>, Arc<AtomicBool>) {
    let (written, broken) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (count, is_broken) = (written.clone(), broken.clone());
    let provider = Provider::answering(move |_, socket| {
        socket.write_all(STREAM.as_bytes())?;
        let text = "word ".repeat(800);
        let frame = format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"x\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
        );
        while count.load(Ordering::Relaxed) < OFFERED {
            if let Err(error) = chunk(socket, frame.as_bytes()) {
                is_broken.store(true, Ordering::Relaxed);
                return Err(error);
            }
            count.fetch_add(frame.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    });
    (provider, written, broken)
}

#[test]
fn a_provider_that_always_has_more_is_let_go_when_the_time_is_over() {
    for dialect in Dialect::ALL {
        let (firehose, written, broken) = firehose();
        let strait = Strait::start(&provider(&firehose.url()));
        let body = dialect.body("lab/x", "hello", true).to_string();
        let headers = [("x-strait-timeout", "1s")];
        let answer = strait
            .client()
            .post(dialect.path(), &headers, body.as_bytes());
        assert_eq!(answer.status, 200);
        let text = answer.text();
        let end: String = text.chars().rev().take(400).collect();
        let end: String = end.chars().rev().collect();
        assert!(end.contains("timer: total"), "{dialect:?}: {end}");
        assert!(answer.complete, "the client is told, and not cut off");
        assert!(written.load(Ordering::Relaxed) < OFFERED);
        eventually("the provider is let go", || broken.load(Ordering::Relaxed));
    }
}

#[test]
fn a_provider_that_leaves_its_body_open_is_not_waited_for() {
    let open = Provider::answering(|_, socket| {
        socket.write_all(STREAM.as_bytes())?;
        for (delta, finish) in [("{\"content\":\"all of it\"}", "null"), ("{}", "\"stop\"")] {
            let frame = format!(
                "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"x\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
            );
            chunk(socket, frame.as_bytes())?;
        }
        chunk(socket, b"data: [DONE]\n\n")?;
        // And no last chunk, until the other side has had enough.
        let _ = std::io::Read::read(socket, &mut [0]);
        Err(std::io::ErrorKind::ConnectionAborted.into())
    });
    let idle = "timeouts = { idle = \"1s\" }\n";
    let strait = Strait::start(&format!("{}{idle}", provider(&open.url())));
    for dialect in Dialect::ALL {
        let body = dialect.body("lab/x", "hello", true).to_string();
        let answer = strait.client().post(dialect.path(), &[], body.as_bytes());
        assert_eq!(dialect.said(&answer).text, "all of it");
        assert!(!answer.text().contains("error"), "{}", answer.text());
    }
    for record in strait.records(2) {
        assert_eq!(record["error"], serde_json::Value::Null, "{record}");
    }
}

#[test]
fn a_client_that_does_not_read_holds_the_provider_back_and_costs_no_memory() {
    for dialect in Dialect::ALL {
        let (firehose, written, broken) = firehose();
        let strait = Strait::start(&provider(&firehose.url()));
        let answer = strait.post(
            Dialect::OpenAi.path(),
            &common::chat("demo/echo", "warm up"),
        );
        assert_eq!(answer.status, 200);
        let before = resident(&strait);
        let body = dialect.body("lab/x", "hello", true).to_string();
        let mut stream = strait
            .client()
            .send("POST", dialect.path(), &[], body.as_bytes())
            .unwrap();
        assert_eq!(stream.status, 200);
        stream.until("word");
        // Wait until nothing moves any more.
        let mut last = u64::MAX;
        let until = Instant::now() + Duration::from_secs(60);
        while last != written.load(Ordering::Relaxed) {
            assert!(Instant::now() < until, "it never came to a stop");
            last = written.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(1));
        }
        // What the kernel's buffers take, and no more.
        assert!(
            last < 60 << 20,
            "{dialect:?}: the provider could write {last} bytes"
        );
        let grown = resident(&strait).saturating_sub(before);
        assert!(grown < 12 << 10, "{dialect:?}: grown by {grown} KiB");
        drop(stream);
        eventually("the provider is let go", || broken.load(Ordering::Relaxed));
        eventually("the gauge reads 0", || {
            strait.metric("strait_inflight", &[]) == 0.0
        });
    }
}

#[test]
fn connections_that_send_slowly_or_nothing_keep_nobody_waiting() {
    let strait = Strait::start("");
    let mut slow: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(strait.addr).unwrap())
        .collect();
    for (at, socket) in slow.iter_mut().enumerate() {
        let start: &[u8] = match at % 3 {
            0 => b"",
            1 => b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-le",
            _ => b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n{",
        };
        socket.write_all(start).unwrap();
    }
    let started = Instant::now();
    for _ in 0..20 {
        let answer = strait.post("/v1/chat/completions", &common::chat("demo/echo", "hello"));
        assert_eq!(answer.status, 200);
    }
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "others were kept waiting"
    );
    for socket in &mut slow {
        // One byte more from each, and still nobody waits.
        let _ = socket.write_all(b"n");
    }
    assert_eq!(
        strait
            .post("/v1/messages", &common::message("demo/echo", "hello"))
            .status,
        200
    );
}

/// A stream in pieces: after the first, and in the middle of the second, it may be silent.
const OPENAI: [&str; 3] = [
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"one \"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"two\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"x\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
];
const ANTHROPIC: [&str; 3] = [
    concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"x\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"one \"}}\n\n",
    ),
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"two\"}}\n\n",
    concat!(
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":2}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ),
];
const SILENCE: Duration = Duration::from_millis(17_500);

/// Streams `one `, is silent (after a frame, or in the middle of the next one), then goes on to the end.
fn falling_silent(frames: [&'static str; 3], in_a_frame: bool) -> Provider {
    Provider::answering(move |_, socket| {
        let whole = frames.concat();
        let first = frames[0].len() + if in_a_frame { 90 } else { 0 };
        socket.write_all(STREAM.as_bytes())?;
        chunk(socket, &whole.as_bytes()[..first])?;
        std::thread::sleep(SILENCE);
        chunk(socket, &whole.as_bytes()[first..])?;
        socket.write_all(b"0\r\n\r\n")
    })
}

#[test]
fn a_silent_stream_gets_pings_between_frames_and_never_within() {
    let providers = [("openai-chat", OPENAI), ("anthropic", ANTHROPIC)]
        .map(|(protocol, frames)| {
            [false, true].map(|within| (protocol, within, falling_silent(frames, within)))
        })
        .into_iter()
        .flatten();
    let providers: Vec<_> = providers.collect();
    let mut config = String::new();
    for (protocol, within, provider) in &providers {
        let url = provider.url();
        config += &format!(
            "[providers.{protocol}-{within}]\nprotocols = [\"{protocol}\"]\nbase_url = \"{url}\"\nkey = \"k\"\n"
        );
    }
    let strait = Strait::start(&config);
    at_once(8, |at| {
        let ((protocol, within, _), dialect) = (&providers[at / 2], Dialect::ALL[at % 2]);
        let body = dialect
            .body(&format!("{protocol}-{within}/x"), "hello", true)
            .to_string();
        let answer = strait.client().post(dialect.path(), &[], body.as_bytes());
        let case = format!(
            "{protocol}, silent within a frame {within}, {dialect:?}: {}",
            answer.text()
        );
        assert_eq!(answer.status, 200, "{case}");
        // A frame that was torn would not be understood.
        assert_eq!(dialect.said(&answer).text, "one two", "{case}");
        let pings = match dialect {
            // Comments: lines that every client skips.
            Dialect::OpenAi => answer
                .text()
                .lines()
                .filter(|line| line.starts_with(':'))
                .count(),
            Dialect::Anthropic => events(&answer)
                .iter()
                .filter(|event| event["type"] == "ping")
                .count(),
        };
        // What is passed on as it comes may be in the middle of a frame, where no ping may be.
        let least = usize::from(!within);
        assert!((least..=2).contains(&pings), "{pings} pings: {case}");
    });
}
