//! One connection that is kept: bytes go out as given, answers are read one after another.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Answer;

pub struct Wire {
    reader: BufReader<TcpStream>,
}

impl Wire {
    pub fn open(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect_timeout(&addr, Duration::from_secs(10)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        socket
            .set_write_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        socket.set_nodelay(true).unwrap();
        Self::over(socket)
    }

    pub fn over(socket: TcpStream) -> Self {
        Self {
            reader: BufReader::new(socket),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Sends a request with a body of known length; the connection is kept.
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let length = body.len().to_string();
        let mut head = headers.to_vec();
        if method == "POST" {
            head.push(("content-length", &length));
        }
        let head = head_of(method, path, &head);
        self.send(&[head.as_bytes(), body].concat()).unwrap();
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> Answer {
        self.request("POST", path, &[("content-type", "application/json")], body);
        self.answer().unwrap()
    }

    pub fn bytes(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads one line, with its end.
    pub fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    }

    /// Reads an answer's head.
    pub fn head(&mut self) -> std::io::Result<Answer> {
        let line = self.line()?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status =
            status.ok_or_else(|| std::io::Error::other(format!("not a status line: {line}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Answer {
            status,
            headers,
            body: Vec::new(),
            complete: false,
        })
    }

    /// Reads a whole answer whose length is told or which is chunked.
    pub fn answer(&mut self) -> std::io::Result<Answer> {
        let mut answer = self.head()?;
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().map_err(std::io::Error::other)?;
            answer.body = self.bytes(length)?;
        } else if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(piece) = self.chunk()? {
                answer.body.extend(piece);
            }
        }
        answer.complete = true;
        Ok(answer)
    }

    /// Reads a chunk; `None` is the last.
    pub fn chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let mut piece = self.bytes(size + 2)?;
        piece.truncate(size);
        Ok((size > 0).then_some(piece))
    }

    /// Returns whether the other side has closed, and nothing more came.
    pub fn is_closed(&mut self) -> bool {
        match self.reader.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

pub fn head_of(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: strait.test\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head
}

/// Writes a body in chunks of `size` bytes.
pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / size * 10 + 100);
    for piece in body.chunks(size) {
        out.extend(format!("{:x}\r\n", piece.len()).bytes());
        out.extend(piece);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}
