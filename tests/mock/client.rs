//! A client that sees how an answer ends, and when each part of it came.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strait::mock::{Call, Mock, Outcome, Script};

pub const OPENAI: &str = "/v1/chat/completions";
pub const ANTHROPIC: &str = "/v1/messages";

/// How the body of a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Whole,
    /// Closed before its end.
    Closed,
    Reset,
    /// Still open when the reader's patience ended.
    Open,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub end: End,
    /// When each read came, and what it brought of the body (chunk framing included).
    pub reads: Vec<(Duration, usize)>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            line.split_once(": ")
                .filter(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        })
    }

    /// Returns the `data:` of every event.
    pub fn events(&self) -> Vec<Value> {
        let text = self.text().replace("\r\n", "\n");
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    /// Returns the text of a stream, in either protocol.
    pub fn streamed_text(&self) -> String {
        let events = self.events();
        let texts = events.iter().filter_map(|event| {
            event["choices"][0]["delta"]["content"]
                .as_str()
                .or(event["delta"]["text"].as_str())
        });
        texts.collect()
    }
}

pub fn mock(script: &str) -> Mock {
    Mock::start(Script::from_toml(script).unwrap()).unwrap()
}

pub fn one(step: &str) -> Mock {
    mock(&format!("[[rule]]\nsteps = [{{{step}}}]"))
}

pub fn openai(stream: bool) -> Value {
    json!({"model": "gpt-test", "messages": [{"role": "user", "content": "one two three four"}], "stream": stream})
}

pub fn anthropic(stream: bool) -> Value {
    json!({"model": "claude-test", "max_tokens": 100, "stream": stream,
        "messages": [{"role": "user", "content": "one two three four"}]})
}

pub fn body_of(path: &str, stream: bool) -> Value {
    if path == OPENAI {
        openai(stream)
    } else {
        anthropic(stream)
    }
}

pub fn connect(mock: &Mock) -> TcpStream {
    let stream = TcpStream::connect(mock.addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub fn send(stream: &mut impl Write, method: &str, path: &str, body: &[u8]) {
    let credential = if path.contains("messages") {
        "x-api-key: k\r\nanthropic-version: 2023-06-01\r\n"
    } else if path.starts_with("/v1beta/") {
        "x-goog-api-key: k\r\n"
    } else {
        "authorization: Bearer k\r\n"
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: mock\r\ncontent-type: application/json\r\n{credential}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
}

/// Reads one reply; gives up after `patience` without a byte, which begins to count with the first byte.
pub fn receive(stream: &mut impl Read, patience: Duration) -> Reply {
    let began = Instant::now();
    let mut last = began + Duration::from_secs(10);
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    let mut reads = Vec::new();
    loop {
        let parsed = parse(&bytes);
        if let Some((status, head, body, true)) = parsed {
            return Reply {
                status,
                head,
                body,
                end: End::Whole,
                reads,
            };
        }
        let ended = match stream.read(&mut buffer) {
            Ok(0) => Some(End::Closed),
            Ok(length) => {
                last = Instant::now();
                reads.push((began.elapsed(), length));
                bytes.extend_from_slice(&buffer[..length]);
                None
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                (last.elapsed() >= patience).then_some(End::Open)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Some(End::Closed),
            Err(_) => Some(End::Reset),
        };
        if let Some(end) = ended {
            let (status, head, body, _) = parse(&bytes).unwrap_or_default();
            return Reply {
                status,
                head,
                body,
                end,
                reads,
            };
        }
    }
}

/// Returns status, head, body so far, and whether it is whole.
pub fn parse(bytes: &[u8]) -> Option<(u16, String, Vec<u8>, bool)> {
    let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let status = head.split(' ').nth(1)?.parse().unwrap();
    let lower = head.to_ascii_lowercase();
    let mut rest = &bytes[head_end + 4..];
    if let Some((_, length)) = lower.split_once("content-length: ") {
        let length: usize = length.lines().next()?.trim().parse().unwrap();
        return Some((status, head, rest.to_vec(), rest.len() >= length));
    }
    let mut body = Vec::new();
    loop {
        let Some(line) = rest.windows(2).position(|window| window == b"\r\n") else {
            return Some((status, head, body, false));
        };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        rest = &rest[line + 2..];
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..rest.len().min(size)]);
            return Some((status, head, body, false));
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
        if size == 0 {
            return Some((status, head, body, true));
        }
    }
}

pub fn ask(mock: &Mock, method: &str, path: &str, body: &[u8]) -> Reply {
    let mut stream = connect(mock);
    stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    send(&mut stream, method, path, body);
    receive(&mut stream, Duration::from_millis(400))
}

pub fn post(mock: &Mock, path: &str, body: &Value) -> Reply {
    ask(mock, "POST", path, body.to_string().as_bytes())
}

pub fn get(mock: &Mock, path: &str) -> Reply {
    ask(mock, "GET", path, b"")
}

/// Waits until the last call's outcome is `outcome`.
pub fn until(mock: &Mock, outcome: Outcome) -> Call {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let last = mock.calls().pop();
        if let Some(call) = last.filter(|call| call.outcome == outcome) {
            return call;
        }
        assert!(
            Instant::now() < deadline,
            "no call became {outcome:?}: {:?}",
            mock.calls().pop()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
