//! A blocking HTTP/1.1 client over one connection, which hides nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Where requests go; each opens a connection of its own.
#[derive(Clone, Copy)]
pub struct Client {
    addr: SocketAddr,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Lower-case names, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body came to its proper end.
    pub complete: bool,
}

/// An answer whose body is still coming.
pub struct Stream {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
    chunked: bool,
    rest: Option<usize>,
    pub complete: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!(
                "not JSON ({error}): {}",
                String::from_utf8_lossy(&self.body)
            )
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

fn find<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

impl Client {
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap()
    }

    pub fn try_get(&self, path: &str) -> std::io::Result<Answer> {
        self.send("GET", path, &[], b"")?.whole()
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.request("POST", path, headers, body)
    }

    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.send(method, path, headers, body)
            .and_then(Stream::whole)
            .unwrap()
    }

    /// Sends a request and reads the answer's head.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Stream> {
        let mut socket = self.connect()?;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            self.addr
        );
        if method != "GET" && !headers.iter().any(|(name, _)| *name == "transfer-encoding") {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            head.push_str("content-type: application/json\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut whole = head.into_bytes();
        whole.extend_from_slice(body);
        // A server may answer and close before it has read all: its answer is what counts.
        let _ = socket.write_all(&whole);
        Stream::read(socket)
    }

    /// Sends a request and reads nothing; dropping the socket is leaving.
    pub fn send_only(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        let mut socket = self.connect().unwrap();
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n",
            self.addr
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        socket.write_all(&[head.as_bytes(), body].concat()).unwrap();
        socket
    }

    pub fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = TcpStream::connect_timeout(&self.addr, Duration::from_secs(5))?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        socket.set_write_timeout(Some(Duration::from_secs(30)))?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

impl Stream {
    /// Reads an answer's head.
    pub fn read(socket: TcpStream) -> std::io::Result<Self> {
        let mut reader = BufReader::new(socket);
        let (status, headers) = loop {
            let (status, headers) = read_head(&mut reader)?;
            if status >= 200 {
                break (status, headers);
            }
        };
        let chunked =
            find(&headers, "transfer-encoding").is_some_and(|value| value.contains("chunked"));
        let rest = find(&headers, "content-length").and_then(|value| value.parse().ok());
        Ok(Self {
            status,
            headers,
            reader,
            chunked,
            rest,
            complete: false,
        })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Reads the next piece of the body; `None` at its end, proper or not.
    pub fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        if self.complete {
            return Ok(None);
        }
        if self.chunked {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            let mut piece = vec![0; size + 2];
            match self.reader.read_exact(&mut piece) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
                outcome => outcome?,
            }
            piece.truncate(size);
            self.complete = size == 0;
            return Ok((size > 0).then_some(piece));
        }
        let most = self.rest.unwrap_or(64 << 10).min(64 << 10);
        if most == 0 {
            self.complete = true;
            return Ok(None);
        }
        let mut piece = vec![0; most];
        let read = self.reader.read(&mut piece)?;
        if read == 0 {
            self.complete = self.rest.is_none();
            return Ok(None);
        }
        piece.truncate(read);
        if let Some(rest) = &mut self.rest {
            *rest -= read;
            self.complete = *rest == 0;
        }
        Ok(Some(piece))
    }

    /// Reads pieces until `needle` has been seen; returns all of them.
    pub fn until(&mut self, needle: &str) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains(needle) {
            assert!(
                Instant::now() < end,
                "{needle} did not come: {}",
                String::from_utf8_lossy(&all)
            );
            match self.next().unwrap() {
                Some(piece) => all.extend(piece),
                None => panic!("{needle} did not come: {}", String::from_utf8_lossy(&all)),
            }
        }
        String::from_utf8(all).unwrap()
    }

    /// Reads the rest of the body.
    pub fn whole(mut self) -> std::io::Result<Answer> {
        let mut body = Vec::new();
        loop {
            match self.next() {
                Ok(Some(piece)) => body.extend(piece),
                Ok(None) => break,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error),
            }
        }
        let complete = self.complete || self.rest == Some(0);
        Ok(Answer {
            status: self.status,
            headers: self.headers,
            body,
            complete,
        })
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> std::io::Result<(u16, Vec<(String, String)>)> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status =
        status.ok_or_else(|| std::io::Error::other(format!("not a status line: {line}")))?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok((status, headers))
}
