//! The role `provider`: a fake provider on bare sockets that answers from bytes built beforehand.
//!
//! It is our own, and not `strait mock`, so that what is measured has no part in the measuring. It does look at what
//! it is sent: a request whose model is not `m` gets 400, so a gateway that forgets to name the provider's own model fails.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::figures::{SCENES, Stream};
use crate::wire::{self, Answer, Dialect};
use crate::{Failure, Result};

struct Part {
    scene: &'static [u8],
    dialect: Dialect,
    stream: Option<Stream>,
    answer: Answer,
}

pub fn run(listen: &str) -> Result<()> {
    let mut parts = Vec::new();
    for scene in SCENES {
        for dialect in Dialect::ALL {
            parts.push(Part {
                scene: scene.name.as_bytes(),
                dialect,
                stream: scene.stream,
                answer: wire::answer(scene, dialect),
            });
        }
    }
    let parts = Arc::new(parts);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let parts = parts.clone();
            // A client that hangs up is no event here; the client's own role reports what it misses.
            connections.spawn(async move { serve(stream, &parts).await });
            while connections.try_join_next().is_some() {}
        }
    })
}

async fn serve(mut stream: TcpStream, parts: &[Part]) -> Result<()> {
    let mut buffer = BytesMut::with_capacity(128 * 1024);
    loop {
        let head = loop {
            if let Some(end) = memchr::memmem::find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let Some(length) = content_length(&buffer[..head]) else {
            return refuse(&mut stream, "411 Length Required", "no content-length").await;
        };
        while buffer.len() < head + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let Some(part) = find_part(&buffer[..head], parts) else {
            return refuse(&mut stream, "404 Not Found", "no such scene").await;
        };
        let body = &buffer[head..head + length];
        // Gemini's path names it.
        if part.dialect != Dialect::Gemini && !names_model(body) {
            return refuse(&mut stream, "400 Bad Request", "the model is not \\\"m\\\"").await;
        }
        let usage = part.stream.is_some() && memchr::memmem::find(body, b"include_usage").is_some();
        buffer.advance(head + length);
        if buffer.is_empty() {
            // Keeps the capacity at the front of the allocation, so it never grows.
            buffer.clear();
        }
        buffer.reserve(64 * 1024);
        stream.write_all(&part.answer.first).await?;
        if let Some(plan) = part.stream {
            play(&mut stream, plan, &part.answer, usage).await?;
        }
    }
}

async fn play(stream: &mut TcpStream, plan: Stream, answer: &Answer, usage: bool) -> Result<()> {
    let gap = Duration::from_millis(plan.gap_ms);
    let mut ticks = interval_at(Instant::now() + gap, gap);
    // A provider that was held up doesn't catch up in one burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 1..plan.chunks {
        ticks.tick().await;
        stream.write_all(&answer.chunk).await?;
    }
    ticks.tick().await;
    let end = if usage {
        &answer.end_with_usage
    } else {
        &answer.end
    };
    stream.write_all(end).await?;
    Ok(())
}

async fn refuse(stream: &mut TcpStream, status: &str, why: &str) -> Result<()> {
    let body =
        format!("{{\"error\":{{\"message\":\"{why}\",\"type\":\"invalid_request_error\"}}}}");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    Err(Failure::from(why))
}

fn content_length(head: &[u8]) -> Option<usize> {
    crate::client::header(head, b"content-length")
        .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok())
}

/// Finds what to play from `POST /scene/v1/messages HTTP/1.1`.
fn find_part<'p>(head: &[u8], parts: &'p [Part]) -> Option<&'p Part> {
    let line = &head[..memchr::memchr(b'\r', head)?];
    let path = line.split(|byte| *byte == b' ').nth(1)?;
    let dialect = if path.ends_with(b"/chat/completions") {
        Dialect::Openai
    } else if path.ends_with(b"/messages") {
        Dialect::Anthropic
    } else if path.ends_with(b"/models/m:generateContent")
        || path.ends_with(b"/models/m:streamGenerateContent?alt=sse")
    {
        Dialect::Gemini
    } else {
        return None;
    };
    let scene = path.split(|byte| *byte == b'/').nth(1)?;
    parts
        .iter()
        .find(|part| part.dialect == dialect && part.scene == scene)
}

fn names_model(body: &[u8]) -> bool {
    const KEY: &[u8] = b"\"model\"";
    let Some(at) = memchr::memmem::find(body, KEY) else {
        return false;
    };
    let mut rest = body[at + KEY.len()..]
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace());
    rest.next() == Some(&b':')
        && rest.next() == Some(&b'"')
        && rest.next() == Some(&b'm')
        && rest.next() == Some(&b'"')
}
