//! A request and its answer over a bare HTTP/1.1 connection (RFC 9112).
//!
//! For addresses without TLS: a request's head leaves together with its body, and an answer's head is read once.
//! Pingora's own session flushes the head first, which costs a second system call and wakes the provider twice, and
//! spells every header twice.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use pingora::protocols::l4::stream::Stream as L4;
use pingora::protocols::{Stream, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Head, names};
use crate::codec::splice::Pieces;

/// An answer's head larger than this is none.
const MOST_HEAD: usize = 256 << 10;
const MOST_HEADERS: usize = 256;
/// The line before a chunk, its extensions included, and each line of a trailer.
const MOST_LINE: usize = 8 << 10;
/// All of a trailer.
const MOST_TRAILER: usize = 64 << 10;
/// Most answers, and most pieces of a stream, come in one read of this.
const READ: usize = 4 << 10;
const MOST_READ: usize = 64 << 10;
/// A body up to this is copied behind its head.
const ONE_PIECE: usize = 16 << 10;

/// Opens a connection. It has no buffers but those of its answers: each is read as it comes, and written at once.
pub fn connect(
    address: SocketAddr,
    keepalive: Option<TcpKeepalive>,
) -> BoxFuture<'static, io::Result<Stream>> {
    // Boxed: rare, and it would make every future around it larger.
    Box::pin(async move {
        let mut stream = L4::from(TcpStream::connect(address).await?);
        let set = stream.set_nodelay();
        let set = set.and_then(|()| match &keepalive {
            Some(every) => stream.set_keepalive(every),
            None => Ok(()),
        });
        set.map_err(io::Error::other)?;
        let stream: Stream = Box::new(stream);
        Ok(stream)
    })
}

/// A connection with a request on it.
pub struct Plain {
    stream: Stream,
    pub address: SocketAddr,
    /// What was read and not yet taken.
    buf: BytesMut,
    /// Where the search for the head's end goes on.
    searched: usize,
    pub head: Parts,
    body: Body,
    /// How long the connection may rest after this, if it may be used again.
    keep: Option<Duration>,
}

/// What of the answer's body is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked(Chunk),
    /// It ends with the connection.
    Open,
    Done,
}

/// What comes next in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Size,
    Data(u64),
    /// The line end after a chunk's data.
    End,
    /// After the last chunk, with the bytes seen of it.
    Trailer(usize),
}

/// Why an answer can't be read on.
#[derive(Debug)]
pub enum Broken {
    Io(io::Error),
    /// The other side ended the connection too early.
    Closed,
    /// What came is not HTTP.
    Garbage(&'static str),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Closed => f.write_str("the provider closed the connection"),
            Self::Garbage(what) => write!(f, "the provider's answer is not HTTP: {what}"),
        }
    }
}

impl Plain {
    /// `rest` is how long the connection may be kept after this, where the provider doesn't say less.
    pub fn new(stream: Stream, address: SocketAddr, rest: Duration) -> Self {
        let (head, ()) = http::Response::new(()).into_parts();
        Self {
            stream,
            address,
            buf: BytesMut::new(),
            searched: 0,
            head,
            body: Body::Done,
            keep: Some(rest),
        }
    }

    /// Sends a request, with as few system calls as the connection takes it in. `stall` is how long the other side may
    /// take none of it.
    pub async fn send(
        &mut self,
        head: &Head<'_>,
        body: &Pieces,
        stall: Duration,
    ) -> io::Result<()> {
        let mut first = written(head, body.len().min(ONE_PIECE));
        if body.len() <= ONE_PIECE {
            body.iter().for_each(|piece| first.extend_from_slice(piece));
            in_time(stall, self.stream.write_all(&first)).await?;
        } else {
            let all = std::iter::once(&first[..]).chain(body.iter().map(|piece| &piece[..]));
            let mut slices: Vec<IoSlice<'_>> = all.map(IoSlice::new).collect();
            let mut rest = &mut slices[..];
            while !rest.is_empty() {
                let writing = self.stream.write_vectored(rest);
                match in_time(stall, writing).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    taken => IoSlice::advance_slices(&mut rest, taken),
                }
            }
        }
        in_time(stall, self.stream.flush()).await
    }

    /// Returns whether anything of an answer has come.
    pub fn has_heard(&self) -> bool {
        !self.buf.is_empty()
    }

    /// Reads the answer's head, past any informational ones. `bare` is an answer to HEAD. Cancel-safe.
    pub async fn read_head(&mut self, bare: bool) -> Result<(), Broken> {
        loop {
            while let Some(end) = end_of_head(&self.buf, &mut self.searched) {
                if end > MOST_HEAD {
                    return Err(Broken::Garbage("its head is too large"));
                }
                self.searched = 0;
                let head = self.buf.split_to(end).freeze();
                self.parse(&head)?;
                if self.head.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Err(Broken::Garbage("it switches protocols unasked"));
                }
                if !self.head.status.is_informational() {
                    return self.frame(bare);
                }
            }
            if self.buf.len() > MOST_HEAD {
                return Err(Broken::Garbage("its head is too large"));
            }
            self.fill(READ).await?;
        }
    }

    fn parse(&mut self, head: &Bytes) -> Result<(), Broken> {
        let mut room = [const { MaybeUninit::uninit() }; MOST_HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        let mut config = httparse::ParserConfig::default();
        config.allow_spaces_after_header_name_in_responses(true);
        config.allow_obsolete_multiline_headers_in_responses(true);
        let outcome = config.parse_response_with_uninit_headers(&mut parsed, head, &mut room);
        if !outcome.is_ok_and(|status| status.is_complete()) {
            return Err(Broken::Garbage("its head can't be read"));
        }
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        self.head.status = status.ok_or(Broken::Garbage("its status is none"))?;
        self.head.version = match parsed.version {
            Some(0) => Version::HTTP_10,
            Some(_) | None => Version::HTTP_11,
        };
        let mut headers = HeaderMap::with_capacity(parsed.headers.len());
        for header in &*parsed.headers {
            let name = header.name.as_bytes();
            let name = names::known(name).map_or_else(|| HeaderName::from_bytes(name), Ok);
            let value = HeaderValue::from_maybe_shared(head.slice_ref(header.value));
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(Broken::Garbage("a header can't be read"));
            };
            headers.append(name, value);
        }
        self.head.headers = headers;
        Ok(())
    }

    /// Finds out how long the body is (RFC 9112, 6.3), and whether the connection can be used again.
    fn frame(&mut self, bare: bool) -> Result<(), Broken> {
        let Parts {
            status,
            version,
            headers,
            ..
        } = &mut self.head;
        let old = *version == Version::HTTP_10;
        let (mut close, mut alive) = (false, false);
        for value in headers.get_all(CONNECTION) {
            close |= has_token(value, "close");
            alive |= has_token(value, "keep-alive");
        }
        if close || (old && !alive) {
            self.keep = None;
        } else if let Some(limit) = headers.get("keep-alive").and_then(rest) {
            self.keep = self.keep.map(|keep| keep.min(limit));
        }
        let coded = headers.contains_key(TRANSFER_ENCODING);
        let length = match coded {
            true => None,
            false => length(headers)?,
        };
        if coded && (old || headers.remove(CONTENT_LENGTH).is_some()) {
            // Two lengths, of which one is a lie: nothing that follows can be trusted.
            self.keep = None;
        }
        let none = bare || matches!(*status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.body = if none {
            Body::Done
        } else if coded {
            let last = headers.get_all(TRANSFER_ENCODING).iter().next_back();
            let last = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
            match last.map(str::trim) {
                Some(coding) if coding.eq_ignore_ascii_case("chunked") => {
                    Body::Chunked(Chunk::Size)
                }
                Some(_) | None => Body::Open,
            }
        } else {
            match length {
                Some(0) => Body::Done,
                Some(length) => Body::Length(length),
                None => Body::Open,
            }
        };
        Ok(())
    }

    /// Reads the next piece of the body; `None` at its end. Cancel-safe.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            let want = match self.body {
                Body::Done => return Ok(None),
                Body::Length(left) => {
                    if let Some(piece) = self.piece(left) {
                        let left = left - piece.len() as u64;
                        self.body = if left == 0 {
                            Body::Done
                        } else {
                            Body::Length(left)
                        };
                        return Ok(Some(piece));
                    }
                    usize::try_from(left).unwrap_or(MOST_READ)
                }
                Body::Open => {
                    if let Some(piece) = self.piece(u64::MAX) {
                        return Ok(Some(piece));
                    }
                    READ * 4
                }
                Body::Chunked(chunk) => match self.chunk(chunk)? {
                    Step::Piece(piece) => return Ok(Some(piece)),
                    Step::Again => continue,
                    Step::More(want) => want,
                },
            };
            match self.fill(want.clamp(READ, MOST_READ)).await {
                Ok(()) => {}
                Err(Broken::Closed) if self.body == Body::Open => {
                    (self.body, self.keep) = (Body::Done, None);
                }
                Err(broken) => return Err(broken),
            }
        }
    }

    /// Takes up to `most` bytes of what was read.
    fn piece(&mut self, most: u64) -> Option<Bytes> {
        if self.buf.is_empty() {
            return None;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Some(self.buf.split_to(most.min(self.buf.len())).freeze())
    }

    /// Goes one step on in a chunked body.
    fn chunk(&mut self, chunk: Chunk) -> Result<Step, Broken> {
        let next = match chunk {
            Chunk::Size => match httparse::parse_chunk_size(&self.buf) {
                Ok(httparse::Status::Complete((line, size))) if line <= MOST_LINE => {
                    self.buf.advance(line);
                    match size {
                        0 => Chunk::Trailer(0),
                        size => Chunk::Data(size),
                    }
                }
                Ok(httparse::Status::Partial) if self.buf.len() <= MOST_LINE => {
                    return Ok(Step::More(READ));
                }
                Ok(_) | Err(_) => {
                    return Err(Broken::Garbage("a chunk has no size"));
                }
            },
            Chunk::Data(left) => {
                let Some(piece) = self.piece(left) else {
                    return Ok(Step::More(usize::try_from(left).unwrap_or(MOST_READ)));
                };
                let left = left - piece.len() as u64;
                self.body = Body::Chunked(match left {
                    0 => Chunk::End,
                    left => Chunk::Data(left),
                });
                return Ok(Step::Piece(piece));
            }
            Chunk::End => match &self.buf[..] {
                [b'\r', b'\n', ..] => {
                    self.buf.advance(2);
                    Chunk::Size
                }
                [] | [b'\r'] => return Ok(Step::More(READ)),
                _ => return Err(Broken::Garbage("a chunk is longer than it says")),
            },
            Chunk::Trailer(seen) => {
                let Some(end) = memchr::memchr(b'\n', &self.buf) else {
                    if self.buf.len() > MOST_LINE {
                        return Err(Broken::Garbage("its trailer is too large"));
                    }
                    return Ok(Step::More(READ));
                };
                let last = matches!(&self.buf[..end], [] | [b'\r']);
                self.buf.advance(end + 1);
                if last {
                    self.body = Body::Done;
                    return Ok(Step::Again);
                }
                if seen + end > MOST_TRAILER {
                    return Err(Broken::Garbage("its trailer is too large"));
                }
                Chunk::Trailer(seen + end)
            }
        };
        self.body = Body::Chunked(next);
        Ok(Step::Again)
    }

    /// Reads what has come, at least one byte.
    async fn fill(&mut self, room: usize) -> Result<(), Broken> {
        self.buf.reserve(room);
        match self.stream.read_buf(&mut self.buf).await {
            Ok(0) => Err(Broken::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(Broken::Io(error)),
        }
    }

    /// Returns whether the body was read to its end.
    pub fn is_done(&self) -> bool {
        self.body == Body::Done
    }

    /// Returns the connection, where it can be used again, and for how long it may rest.
    pub fn into_rest(self) -> Option<(SocketAddr, Stream, Duration)> {
        // What comes behind an answer is nobody's.
        let fit = self.is_done() && self.buf.is_empty();
        let keep = self.keep.filter(|_| fit)?;
        Some((self.address, self.stream, keep))
    }
}

enum Step {
    Piece(Bytes),
    Again,
    More(usize),
}

/// Returns where a head ends, past its empty line. `searched` is how far a search in vain had come.
fn end_of_head(buf: &[u8], searched: &mut usize) -> Option<usize> {
    let mut from = *searched;
    while let Some(found) = memchr::memchr(b'\n', &buf[from..]) {
        let line = from + found;
        match buf[line + 1..] {
            [b'\n', ..] => return Some(line + 2),
            [b'\r', b'\n', ..] => return Some(line + 3),
            // The line end may be in two halves.
            [] | [b'\r'] => {
                *searched = line;
                return None;
            }
            _ => from = line + 1,
        }
    }
    *searched = buf.len();
    None
}

/// Returns the length that an answer announces. Several times the same is one; anything else is an error.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Broken> {
    let mut known = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for text in value.as_bytes().split(|byte| *byte == b',') {
            let text = text.trim_ascii();
            let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(text).ok().filter(|_| digits);
            let length: Option<u64> = length.and_then(|text| text.parse().ok());
            match (length, known) {
                (Some(length), None) => known = Some(length),
                (Some(length), Some(other)) if length == other => {}
                (Some(_) | None, _) => return Err(Broken::Garbage("its length is none")),
            }
        }
    }
    Ok(known)
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    let mut tokens = value.as_bytes().split(|byte| *byte == b',');
    tokens.any(|text| text.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Reads `timeout=SECONDS` of a `keep-alive` header; a second less, because the other side counts from earlier.
fn rest(value: &HeaderValue) -> Option<Duration> {
    let mut fields = value.to_str().ok()?.split(',');
    let seconds = fields.find_map(|field| {
        let (name, seconds) = field.split_once('=')?;
        let named = name.trim().eq_ignore_ascii_case("timeout");
        named.then(|| seconds.trim().parse().ok()).flatten()
    });
    seconds.map(|seconds: u64| Duration::from_secs(seconds.saturating_sub(1)))
}

async fn in_time<T>(
    stall: Duration,
    writing: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let written = super::within(stall, writing).await;
    written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Writes a request's head, with room for `more` bytes behind it. Header values can't hold line ends: their type sees
/// to it.
fn written(head: &Head<'_>, more: usize) -> Vec<u8> {
    let lines = head.headers.iter();
    let length: usize = lines
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    let mut out = Vec::with_capacity(length + head.target.len() + 32 + more);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}
