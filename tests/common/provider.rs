//! Providers made by hand, where the fake one of the program can't do what a test needs: whole bodies of any size are
//! kept, and answers are written byte for byte by the test.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::wire::Wire;

/// What a request was.
pub struct Got {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Got {
    /// Returns a header's value; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

pub struct Provider {
    pub addr: SocketAddr,
    got: Arc<Mutex<Vec<Arc<Got>>>>,
}

const OPENAI: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"x","choices":[{"index":0,"message":{"role":"assistant","content":"taken"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
const ANTHROPIC: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"x","content":[{"type":"text","text":"taken"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}"#;

impl Provider {
    /// Keeps every request whole, and answers `taken`.
    pub fn keeping() -> Self {
        Self::answering(|got, socket| {
            let path = got.path.split('?').next().unwrap_or_default();
            let body = if path.ends_with("/messages") {
                ANTHROPIC
            } else {
                OPENAI
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            socket.write_all(&[head.as_bytes(), body.as_bytes()].concat())
        })
    }

    /// Answers as `answer` does, which has the socket to itself. The threads end with the test's process.
    pub fn answering(
        answer: impl Fn(&Got, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let got: Arc<Mutex<Vec<Arc<Got>>>> = Arc::default();
        let (kept, answer) = (got.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (kept, answer) = (kept.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut writer = socket.try_clone().unwrap();
                    let mut wire = Wire::over(socket);
                    // The client's end, whenever it comes, ends the thread.
                    while let Ok(got) = read(&mut wire) {
                        let got = Arc::new(got);
                        kept.lock().unwrap().push(got.clone());
                        if answer(&got, &mut writer).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { addr, got }
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    pub fn take(&self) -> Vec<Arc<Got>> {
        std::mem::take(&mut self.got.lock().unwrap())
    }
}

fn read(wire: &mut Wire) -> std::io::Result<Got> {
    let line = wire.line()?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut is_chunked) = (0, false);
    let mut headers = Vec::new();
    loop {
        let line = wire.line()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        match name.as_str() {
            "content-length" => length = value.parse().map_err(std::io::Error::other)?,
            "transfer-encoding" => is_chunked = value.to_ascii_lowercase().contains("chunked"),
            _ => {}
        }
        headers.push((name, value));
    }
    let mut body = Vec::new();
    if is_chunked {
        while let Some(piece) = wire.chunk()? {
            body.extend(piece);
        }
    } else {
        body = wire.bytes(length)?;
    }
    Ok(Got {
        path,
        headers,
        body,
    })
}

/// The head of a stream of events.
pub const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Writes one chunk.
pub fn chunk(socket: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let head = format!("{:x}\r\n", bytes.len());
    socket.write_all(&[head.as_bytes(), bytes, b"\r\n"].concat())
}
