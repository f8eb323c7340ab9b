//! The wire out: one request to one address, over Pingora's connectors.
//!
//! Connections with TLS are pooled by Pingora per address, TLS name and certificate authority, bare ones by `idle` per
//! address. Only what can be seen on the wire is decided here; what a failure means for the route is `routing`'s and
//! `gateway::attempt`'s.

mod idle;
mod inflate;
mod names;
mod plain;
#[cfg(test)]
mod plain_tests;
pub mod pool;

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use parking_lot::Mutex;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{ErrorType, OkOrErr};
use tokio::time::error::Elapsed;

use crate::codec::splice::Pieces;
use crate::provider::Timeouts;
use idle::Idle;
use plain::{Broken, Plain};

/// Idle upstream connections kept for reuse, for each certificate authority.
const POOL_SIZE: usize = 1024;
/// An idle upstream connection is closed after this; providers close theirs after one to five minutes.
const IDLE_CONNECTION: Duration = Duration::from_secs(50);
/// A request body is written in pieces of this size, so that an early refusal is noticed between two of them.
const WRITE_PIECE: usize = 256 << 10;
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
    /// To addresses without TLS, which speak HTTP/1.1.
    idle: Idle,
}

/// A request's head as it is to be sent.
pub struct Head<'h> {
    pub method: &'h Method,
    /// Path and query.
    pub target: &'h [u8],
    pub headers: Vec<(&'h HeaderName, &'h HeaderValue)>,
}

/// Why no answer came. Nothing of the answer was seen when `stage` is before [`Stage::Body`].
#[derive(Debug)]
pub struct Failure {
    pub stage: Stage,
    /// A timer of ours fired.
    pub timed_out: bool,
    pub reused: bool,
    /// Something of an answer had come.
    pub heard: bool,
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
    line: Line,
    wire: Arc<Wire>,
    peer: Arc<HttpPeer>,
    pub reused: bool,
    inflate: Option<inflate::Inflate>,
}

/// What an answer is read from. Boxed: an answer moves through several futures on its way.
enum Line {
    Plain(Box<Plain>),
    /// TLS, HTTP/1.1 or HTTP/2.
    Session(Box<HttpSession>),
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
                http: Connector::new(Some(options)),
                idle: Idle::new(POOL_SIZE),
            })
        });
        wire.clone()
    }

    /// Closes bare connections that rested long enough or were closed by the other side. To be called from time to
    /// time.
    pub fn sweep(&self) {
        let wires: Vec<Arc<Wire>> = self.wires.lock().values().cloned().collect();
        let now = Instant::now();
        wires.iter().for_each(|wire| wire.idle.sweep(now));
    }
}

impl Wire {
    /// As [`Upstream::sweep`], for a wire of its own.
    pub fn sweep(&self) {
        self.idle.sweep(Instant::now());
    }
}

impl<'h> Head<'h> {
    pub fn of(head: &'h RequestHeader) -> Self {
        Self {
            method: &head.method,
            target: head.raw_path(),
            headers: head.headers.iter().collect(),
        }
    }

    /// Adds a header, in place of one of the same name.
    pub fn set(&mut self, name: &'h HeaderName, value: &'h HeaderValue) {
        match self.headers.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => self.headers.push((name, value)),
        }
    }

    /// Makes it Pingora's, whose own methods spell every name anew.
    fn made(&self) -> pingora::Result<Box<RequestHeader>> {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(*name, (*value).clone());
        }
        made(self.method.clone(), self.target, headers)
    }
}

/// Returns what `work` comes to if it does so at once.
pub async fn at_once<T>(mut work: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await
}

/// Waits until `work` is done or `time` is over. What is done at once needs no clock.
pub async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut work = pin!(work);
    match at_once(work.as_mut()).await {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => tokio::time::timeout(time, work).await,
    }
}

fn made(method: Method, target: &[u8], headers: HeaderMap) -> pingora::Result<Box<RequestHeader>> {
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

/// Sends a request to `peer` and waits for the answer's head.
///
/// A pooled connection that turns out to be dead before anything came back is replaced, not reported.
pub async fn send(
    wire: &Arc<Wire>,
    peer: &Arc<HttpPeer>,
    head: &Head<'_>,
    body: &Pieces,
    timers: &Timeouts,
) -> Result<Answer, Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        match send_once(wire, peer, head, body, timers).await {
            Err(failure) if failure.is_stale() && tries < STALE_TRIES => continue,
            outcome => return outcome,
        }
    }
}

async fn send_once(
    wire: &Arc<Wire>,
    peer: &Arc<HttpPeer>,
    head: &Head<'_>,
    body: &Pieces,
    timers: &Timeouts,
) -> Result<Answer, Failure> {
    let (line, reused, sent) = match peer.address().as_inet().filter(|_| !peer.is_tls()) {
        Some(address) => over_plain(wire, peer, *address, head, body, timers).await?,
        // Boxed: the future of the two that is larger, for a handshake that costs more than the box.
        None => over_session(wire, peer, head, body, timers).boxed().await?,
    };
    let mut answer = Answer {
        line,
        wire: wire.clone(),
        peer: peer.clone(),
        reused,
        inflate: None,
    };
    // An upstream may refuse a large request before it has read it all: its answer counts, not the broken pipe.
    let early = sent.is_err();
    let wait = if early {
        Duration::from_secs(1).min(timers.first_byte)
    } else {
        timers.first_byte
    };
    let bare = head.method == Method::HEAD;
    match tokio::time::timeout(wait, answer.read_head(bare)).await {
        Ok(Ok(())) => Ok(answer),
        Ok(Err(_)) | Err(_) if early => Err(sent
            .err()
            .unwrap_or_else(|| Failure::timer(Stage::Send, reused))),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::timer(Stage::Head, reused)),
    }
}

/// What the answer is read from, whether its connection was used before, and how sending the request went.
type Sent = (Line, bool, Result<(), Failure>);

/// Sends over a session of Pingora's: TLS, HTTP/2 or HTTP/1.1.
async fn over_session(
    wire: &Wire,
    peer: &Arc<HttpPeer>,
    head: &Head<'_>,
    body: &Pieces,
    timers: &Timeouts,
) -> Result<Sent, Failure> {
    let made = head.made();
    let made = made.map_err(|error| Failure::new(Stage::Send, false, &error))?;
    let connecting = wire.http.get_http_session(&**peer);
    let outcome = tokio::time::timeout(timers.connect, connecting).await;
    let (mut session, reused) = connected(outcome)?;
    session.set_write_timeout(Some(WRITE_STALL));
    session.set_read_timeout(None);
    let sent = write(&mut session, made, body).await;
    let sent = sent.map_err(|error| Failure::new(Stage::Send, reused, &error));
    Ok((Line::Session(Box::new(session)), reused, sent))
}

/// Sends over a bare connection.
async fn over_plain(
    wire: &Wire,
    peer: &Arc<HttpPeer>,
    address: std::net::SocketAddr,
    head: &Head<'_>,
    body: &Pieces,
    timers: &Timeouts,
) -> Result<Sent, Failure> {
    let (stream, reused) = match wire.idle.take(&address) {
        Some(stream) => (stream, true),
        None => {
            let connecting = plain::connect(address, peer.tcp_keepalive().cloned());
            let outcome = tokio::time::timeout(timers.connect, connecting).await;
            let stream = outcome.map_err(|_| Failure::timer(Stage::Connect, false))?;
            let stream = stream.map_err(|error| Failure::io(Stage::Connect, false, &error))?;
            (stream, false)
        }
    };
    let mut plain = Box::new(Plain::new(stream, address, IDLE_CONNECTION));
    let sent = plain.send(head, body, WRITE_STALL).await;
    let sent = sent.map_err(|error| Failure::io(Stage::Send, reused, &error));
    Ok((Line::Plain(plain), reused, sent))
}

/// Judges how connecting went. Takes the outcome and not the future: a future that is passed on is kept twice.
fn connected<T>(
    outcome: Result<pingora::Result<(T, bool)>, Elapsed>,
) -> Result<(T, bool), Failure> {
    match outcome {
        Err(_) => Err(Failure::timer(Stage::Connect, false)),
        Ok(Err(error)) => Err(Failure::new(connect_stage(error.etype()), false, &error)),
        Ok(Ok(connected)) => Ok(connected),
    }
}

/// Writes a request to a session, its body in pieces.
async fn write(
    session: &mut HttpSession,
    head: Box<RequestHeader>,
    body: &Pieces,
) -> pingora::Result<()> {
    session.write_request_header(head).await?;
    let mut left = body.len();
    for piece in body.iter() {
        let mut rest = piece.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(WRITE_PIECE));
            left -= piece.len();
            session.write_request_body(piece, left == 0).await?;
        }
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
    /// Reads the head, past any informational ones. `bare` is an answer to HEAD.
    async fn read_head(&mut self, bare: bool) -> Result<(), Failure> {
        let reused = self.reused;
        match &mut self.line {
            Line::Plain(plain) => {
                let read = plain.read_head(bare).await;
                read.map_err(|broken| Failure {
                    heard: plain.has_heard(),
                    ..Failure::broken(Stage::Head, reused, &broken)
                })
            }
            Line::Session(session) => {
                let read = read_head(session).await;
                read.map_err(|error| Failure::new(Stage::Head, reused, &error))
            }
        }
    }

    pub fn head(&self) -> &Parts {
        match &self.line {
            Line::Plain(plain) => &plain.head,
            Line::Session(session) => session
                .response_header()
                .expect("an Answer is made after its head was read"),
        }
    }

    /// Reads the next piece of the body; `None` at its end. Cancel-safe: a dropped read loses nothing.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Failure> {
        let reused = self.reused;
        loop {
            let piece = match &mut self.line {
                Line::Plain(plain) => {
                    let read = plain.read().await;
                    read.map_err(|broken| Failure::broken(Stage::Body, reused, &broken))?
                }
                Line::Session(session) => {
                    let read = session.read_response_body().await;
                    read.map_err(|error| Failure::new(Stage::Body, reused, &error))?
                }
            };
            let (Some(inflate), Some(packed)) = (&mut self.inflate, &piece) else {
                return Ok(piece);
            };
            let unpacked = inflate.unpack(packed).map_err(|cause| Failure {
                stage: Stage::Body,
                timed_out: false,
                reused,
                heard: true,
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
    pub async fn release(self) {
        match self.line {
            Line::Plain(plain) => {
                if let Some((address, stream, rest)) = plain.into_rest() {
                    self.wire.idle.put(address, stream, Instant::now() + rest);
                }
            }
            Line::Session(mut session) => {
                if !session.response_done() {
                    return;
                }
                if let HttpSession::H1(session) = &mut *session {
                    // A provider that said `connection: close` is taken at its word.
                    session.respect_keepalive();
                }
                let http = &self.wire.http;
                let wait = Some(IDLE_CONNECTION);
                Box::pin(http.release_http_session(*session, &*self.peer, wait)).await;
            }
        }
    }

    /// Abandons the answer: the provider sees a closed connection or a reset stream, and stops.
    pub async fn abandon(self) {
        match self.line {
            // Dropping it closes it.
            Line::Plain(_) => {}
            Line::Session(mut session) => session.shutdown().await,
        }
    }
}

/// Reads the head of an answer, past any informational ones.
async fn read_head(session: &mut HttpSession) -> pingora::Result<()> {
    loop {
        session.read_response_header().await?;
        let head = session.response_header();
        let head = head.or_err(ErrorType::ReadError, "no response header")?;
        if !head.status.is_informational() {
            return Ok(());
        }
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
            heard: false,
            cause: describe(error),
        }
    }

    fn io(stage: Stage, reused: bool, error: &std::io::Error) -> Self {
        Self {
            stage,
            timed_out: error.kind() == std::io::ErrorKind::TimedOut,
            reused,
            heard: false,
            cause: error.to_string(),
        }
    }

    fn broken(stage: Stage, reused: bool, broken: &Broken) -> Self {
        Self {
            stage,
            timed_out: false,
            reused,
            heard: stage == Stage::Body,
            cause: broken.to_string(),
        }
    }

    pub fn timer(stage: Stage, reused: bool) -> Self {
        Self {
            stage,
            timed_out: true,
            reused,
            heard: false,
            cause: "timed out".to_owned(),
        }
    }

    /// The request could not be written down.
    pub fn unsaid(error: &pingora::Error) -> Self {
        Self::new(Stage::Send, false, error)
    }

    pub fn unresolved(host: &str) -> Self {
        Self {
            stage: Stage::Resolve,
            timed_out: false,
            reused: false,
            heard: false,
            cause: format!("{host} has no address"),
        }
    }

    /// A pooled connection that the other side had closed: says nothing about the provider.
    fn is_stale(&self) -> bool {
        self.reused
            && !self.timed_out
            && !self.heard
            && matches!(self.stage, Stage::Send | Stage::Head)
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
