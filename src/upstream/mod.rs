//! The wire out: one request to one address, over Pingora's connectors.
//!
//! Connections are pooled by Pingora per address, TLS name and certificate authority. Only what can be seen on
//! the wire is decided here; what a failure means for the route is `routing`'s and `gateway::attempt`'s.

mod inflate;
pub mod pool;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use parking_lot::Mutex;
use pingora::connectors::http::Connector;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v1::client::HttpSession as Http1Session;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{ErrorType, OkOrErr};
use tokio::io::AsyncWriteExt;

use crate::provider::Timeouts;

/// Idle upstream connections kept for reuse, for each certificate authority.
const POOL_SIZE: usize = 1024;
/// An idle upstream connection is closed after this; providers close theirs after one to five minutes.
const IDLE_CONNECTION: Duration = Duration::from_secs(50);
/// A request body is written in pieces of this size, so that an early refusal is noticed between two of them.
const WRITE_PIECE: usize = 256 << 10;
/// A body up to this is copied behind its head and leaves with it: cheaper than a system call of its own.
const ONE_PIECE: usize = 16 << 10;
/// An upstream that takes no bytes of the request for this long has stopped reading.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// Reused connections that may turn out dead, one after the other, before the failure counts.
const STALE_TRIES: u32 = 4;

/// Every connection to providers that the process holds.
pub struct Upstream {
    /// By certificate-authority file; `None` trusts the system's.
    wires: Mutex<HashMap<Option<PathBuf>, Arc<Wire>>>,
}

/// The connections that trust one set of certificate authorities.
pub struct Wire {
    pub http: Connector,
    /// For addresses without TLS, which speak HTTP/1.1: the head of a request leaves together with its body. Pingora's
    /// own session flushes the head first, which costs a second system call and wakes the provider twice.
    plain: TransportConnector,
}

/// Why no answer came. Nothing of the answer was seen when `stage` is before [`Stage::Body`].
#[derive(Debug)]
pub struct Failure {
    pub stage: Stage,
    /// A timer of ours fired.
    pub timed_out: bool,
    pub reused: bool,
    pub cause: String,
}

/// How far an attempt came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The name has no address.
    Resolve,
    Connect,
    Tls,
    /// Sending the request.
    Send,
    /// Waiting for the answer's head.
    Head,
    Body,
}

/// An answer whose head has arrived and whose body has not been read.
///
/// Dropped before its end it closes the connection (HTTP/1.1) or resets the stream (HTTP/2).
pub struct Answer {
    /// Boxed: an answer moves through several futures on its way.
    session: Box<HttpSession>,
    wire: Arc<Wire>,
    peer: Arc<HttpPeer>,
    pub reused: bool,
    inflate: Option<inflate::Inflate>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self::new()
    }
}

impl Upstream {
    pub fn new() -> Self {
        Self {
            wires: Mutex::new(HashMap::new()),
        }
    }

    /// Returns the connections that trust the certificate authorities in `ca`.
    pub fn wire(&self, ca: Option<&PathBuf>) -> Arc<Wire> {
        let mut wires = self.wires.lock();
        let wire = wires.entry(ca.cloned()).or_insert_with(|| {
            let mut options = ConnectorOptions::new(POOL_SIZE);
            options.ca_file = ca.map(|path| path.to_string_lossy().into_owned());
            Arc::new(Wire {
                http: Connector::new(Some(options.clone())),
                plain: TransportConnector::new(Some(options)),
            })
        });
        wire.clone()
    }
}

/// Makes a request's head of headers that are there already: Pingora's own methods spell every name anew.
pub fn head(
    method: Method,
    target: &[u8],
    headers: HeaderMap,
) -> pingora::Result<Box<RequestHeader>> {
    let uri = Uri::try_from(target).ok();
    // A URI that says the same byte for byte can stand for the target.
    let same = |uri: &Uri| {
        uri.path_and_query()
            .map(|target| target.as_str().as_bytes())
            == Some(target)
    };
    if let Some(uri) = uri.filter(|uri| target.starts_with(b"/") && same(uri)) {
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.method = method;
        head.uri = uri;
        head.headers = headers;
        return Ok(Box::new(RequestHeader::from(head)));
    }
    let mut head = RequestHeader::build_no_case(method, target, Some(headers.len()))?;
    for (name, value) in &headers {
        head.append_header(name, value.clone())?;
    }
    Ok(Box::new(head))
}

/// Sends a request to `peer` and waits for the answer's head. `head` makes the request's head, for each connection
/// that is tried.
///
/// A pooled connection that turns out to be dead before anything came back is replaced, not reported.
pub async fn send(
    wire: &Arc<Wire>,
    peer: &Arc<HttpPeer>,
    head: &(dyn Fn() -> pingora::Result<Box<RequestHeader>> + Sync),
    body: &Bytes,
    timers: &Timeouts,
) -> Result<Answer, Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        let made = head().map_err(|error| Failure::new(Stage::Send, false, &error))?;
        match send_once(wire, peer, made, body, timers).await {
            Err(failure) if failure.is_stale() && tries < STALE_TRIES => continue,
            outcome => return outcome,
        }
    }
}

async fn send_once(
    wire: &Arc<Wire>,
    peer: &Arc<HttpPeer>,
    head: Box<RequestHeader>,
    body: &Bytes,
    timers: &Timeouts,
) -> Result<Answer, Failure> {
    let (session, reused, sent) = if peer.is_tls() {
        // Boxed: the future of the two that is larger, for a handshake that costs more than the box.
        Box::pin(over_session(wire, peer, head, body, timers)).await?
    } else {
        over_stream(wire, peer, &head, body, timers).await?
    };
    let mut answer = Answer {
        session: Box::new(session),
        wire: wire.clone(),
        peer: peer.clone(),
        reused,
        inflate: None,
    };
    answer.session.set_read_timeout(None);
    // An upstream may refuse a large request before it has read it all: its answer counts, not the broken pipe.
    let early = sent.is_err();
    let wait = if early {
        Duration::from_secs(1).min(timers.first_byte)
    } else {
        timers.first_byte
    };
    match tokio::time::timeout(wait, answer.read_head()).await {
        Ok(Ok(())) => Ok(answer),
        Ok(Err(_)) | Err(_) if early => Err(sent
            .err()
            .unwrap_or_else(|| Failure::timer(Stage::Send, reused))),
        Ok(Err(error)) => Err(Failure::new(Stage::Head, reused, &error)),
        Err(_) => Err(Failure::timer(Stage::Head, reused)),
    }
}

/// A session, whether its connection was used before, and how sending the request went.
type Sent = (HttpSession, bool, Result<(), Failure>);

/// Sends over a session of Pingora's: TLS, HTTP/2 or HTTP/1.1.
async fn over_session(
    wire: &Wire,
    peer: &Arc<HttpPeer>,
    head: Box<RequestHeader>,
    body: &Bytes,
    timers: &Timeouts,
) -> Result<Sent, Failure> {
    let connecting = wire.http.get_http_session(&**peer);
    let outcome = tokio::time::timeout(timers.connect, connecting).await;
    let (mut session, reused) = connected(outcome)?;
    session.set_write_timeout(Some(WRITE_STALL));
    let sent = write(&mut session, head, body).await;
    let sent = sent.map_err(|error| Failure::new(Stage::Send, reused, &error));
    Ok((session, reused, sent))
}

/// Sends over a bare connection, small requests in one piece.
async fn over_stream(
    wire: &Wire,
    peer: &Arc<HttpPeer>,
    head: &RequestHeader,
    body: &Bytes,
    timers: &Timeouts,
) -> Result<Sent, Failure> {
    let pooled = wire.plain.reused_stream(&**peer);
    let pooled = tokio::time::timeout(timers.connect, pooled).await;
    let (mut stream, reused) = match pooled.ok().flatten() {
        Some(stream) => (stream, true),
        None => {
            // Boxed: rare, and it would make every future around it ten times as large.
            let connecting = Box::pin(wire.plain.new_stream(&**peer));
            let outcome = tokio::time::timeout(timers.connect, connecting).await;
            connected(outcome.map(|stream| stream.map(|stream| (stream, false))))?
        }
    };
    let mut first = head_bytes(head);
    let mut rest = body.clone();
    if body.len() <= ONE_PIECE {
        first.extend_from_slice(&rest.split_off(0));
    }
    let mut sent = write_piece(&mut stream, &first).await;
    while sent.is_ok() && !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(WRITE_PIECE));
        sent = write_piece(&mut stream, &piece).await;
    }
    let sent = sent.map_err(|error| Failure {
        stage: Stage::Send,
        timed_out: error.kind() == std::io::ErrorKind::TimedOut,
        reused,
        cause: error.to_string(),
    });
    let session = Http1Session::new_with_options(stream, &**peer);
    Ok((HttpSession::H1(session), reused, sent))
}

/// Judges how connecting went. Takes the outcome and not the future: a future that is passed on is kept twice.
fn connected<T>(
    outcome: Result<pingora::Result<(T, bool)>, tokio::time::error::Elapsed>,
) -> Result<(T, bool), Failure> {
    match outcome {
        Err(_) => Err(Failure::timer(Stage::Connect, false)),
        Ok(Err(error)) => Err(Failure::new(connect_stage(error.etype()), false, &error)),
        Ok(Ok(connected)) => Ok(connected),
    }
}

async fn write_piece(stream: &mut Stream, piece: &[u8]) -> std::io::Result<()> {
    let writing = async {
        stream.write_all(piece).await?;
        stream.flush().await
    };
    in_time(writing).await
}

async fn in_time(writing: impl Future<Output = std::io::Result<()>>) -> std::io::Result<()> {
    let written = tokio::time::timeout(WRITE_STALL, writing).await;
    written.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// Writes a request's head as HTTP/1.1 has it. Header values can't hold line ends: their type sees to it.
fn head_bytes(head: &RequestHeader) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024 + ONE_PIECE / 4);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.raw_path());
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

/// Writes a request to a session, its body in pieces.
async fn write(
    session: &mut HttpSession,
    head: Box<RequestHeader>,
    body: &Bytes,
) -> pingora::Result<()> {
    session.write_request_header(head).await?;
    let mut rest = body.clone();
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(WRITE_PIECE));
        let last = rest.is_empty();
        session.write_request_body(piece, last).await?;
    }
    if !body.is_empty() && session.as_http2().is_some() {
        return Ok(());
    }
    session.finish_request_body().await
}

fn connect_stage(kind: &ErrorType) -> Stage {
    let tls = matches!(
        kind,
        ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::InvalidCert
            | ErrorType::HandshakeError
            | ErrorType::TLSWantX509Lookup
    );
    if tls { Stage::Tls } else { Stage::Connect }
}

impl Answer {
    /// Reads the head, past any informational ones.
    async fn read_head(&mut self) -> pingora::Result<()> {
        loop {
            self.session.read_response_header().await?;
            let head = self
                .session
                .response_header()
                .or_err(ErrorType::ReadError, "no response header")?;
            if !head.status.is_informational() {
                return Ok(());
            }
        }
    }

    pub fn head(&self) -> &ResponseHeader {
        self.session
            .response_header()
            .expect("an Answer is made after its head was read")
    }

    /// Reads the next piece of the body; `None` at its end. Cancel-safe: a dropped read loses nothing.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Failure> {
        let reused = self.reused;
        loop {
            let read = self.session.read_response_body().await;
            let piece = read.map_err(|error| Failure::new(Stage::Body, reused, &error))?;
            let (Some(inflate), Some(packed)) = (&mut self.inflate, &piece) else {
                return Ok(piece);
            };
            let unpacked = inflate.unpack(packed).map_err(|cause| Failure {
                stage: Stage::Body,
                timed_out: false,
                reused,
                cause: cause.to_string(),
            })?;
            // Nothing whole yet: an empty piece would read as progress.
            if !unpacked.is_empty() {
                return Ok(Some(unpacked));
            }
        }
    }

    /// Undoes the body's compression. Identity is asked for, but some servers compress all the same.
    ///
    /// Returns false for a coding that can't be undone here.
    pub fn decode(&mut self) -> bool {
        let coding = self.head().headers.get(http::header::CONTENT_ENCODING);
        let Some(coding) = coding.map(|coding| coding.as_bytes().to_ascii_lowercase()) else {
            return true;
        };
        self.inflate = match coding.as_slice() {
            b"" | b"identity" => None,
            b"gzip" | b"x-gzip" => Some(inflate::Inflate::gzip()),
            b"deflate" => Some(inflate::Inflate::zlib()),
            _ => return false,
        };
        true
    }

    /// Returns whether the body comes unpacked, so that its announced length means nothing.
    pub fn is_decoded(&self) -> bool {
        self.inflate.is_some()
    }

    /// Gives the connection back for reuse. Only for an answer that was read to its end.
    pub async fn release(mut self) {
        if !self.session.response_done() {
            return;
        }
        let mut session = *self.session;
        if let HttpSession::H1(session) = &mut session {
            // A provider that said `connection: close` is taken at its word.
            session.respect_keepalive();
        }
        let wait = Some(IDLE_CONNECTION);
        if self.peer.is_tls() {
            let http = &self.wire.http;
            Box::pin(http.release_http_session(session, &*self.peer, wait)).await;
        } else if let HttpSession::H1(session) = session
            && let Some(stream) = session.reuse().await
        {
            let key = self.peer.reuse_hash();
            self.wire.plain.release_stream(stream, key, wait);
        }
    }

    /// Abandons the answer: the provider sees a closed connection or a reset stream, and stops.
    pub async fn abandon(mut self) {
        self.session.shutdown().await;
    }
}

impl Failure {
    fn new(stage: Stage, reused: bool, error: &pingora::Error) -> Self {
        let timed_out = matches!(
            error.etype(),
            ErrorType::ConnectTimedout
                | ErrorType::TLSHandshakeTimedout
                | ErrorType::ReadTimedout
                | ErrorType::WriteTimedout
        );
        Self {
            stage,
            timed_out,
            reused,
            cause: describe(error),
        }
    }

    pub fn timer(stage: Stage, reused: bool) -> Self {
        Self {
            stage,
            timed_out: true,
            reused,
            cause: "timed out".to_owned(),
        }
    }

    pub fn unresolved(host: &str) -> Self {
        Self {
            stage: Stage::Resolve,
            timed_out: false,
            reused: false,
            cause: format!("{host} has no address"),
        }
    }

    /// A pooled connection that the other side had closed: says nothing about the provider.
    fn is_stale(&self) -> bool {
        self.reused && !self.timed_out && matches!(self.stage, Stage::Send | Stage::Head)
    }

    /// Returns the word that records and metrics use.
    pub fn outcome(&self) -> &'static str {
        match (self.stage, self.timed_out) {
            (Stage::Resolve, _) => "resolve",
            (Stage::Connect, false) => "connect",
            (Stage::Connect | Stage::Tls, true) => "timeout_connect",
            (Stage::Tls, false) => "tls",
            (Stage::Send, _) => "send",
            (Stage::Head, false) => "cut",
            (Stage::Head, true) => "timeout_first_byte",
            (Stage::Body, false) => "cut",
            (Stage::Body, true) => "timeout_idle",
        }
    }
}

/// Returns a Pingora error's type and innermost cause, without the addresses and chains that its Display prints.
fn describe(error: &pingora::Error) -> String {
    let cause = error.root_etype().as_str();
    match &error.context {
        Some(context) => format!("{cause}: {}", context.as_str()),
        None => cause.to_owned(),
    }
}
