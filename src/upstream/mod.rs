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
use parking_lot::Mutex;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{ErrorType, OkOrErr};

use crate::provider::Timeouts;

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
    connectors: Mutex<HashMap<Option<PathBuf>, Arc<Connector>>>,
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
    connector: Arc<Connector>,
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
            connectors: Mutex::new(HashMap::new()),
        }
    }

    /// Returns the connector that trusts the certificate authorities in `ca`.
    pub fn connector(&self, ca: Option<&PathBuf>) -> Arc<Connector> {
        let mut connectors = self.connectors.lock();
        let connector = connectors.entry(ca.cloned()).or_insert_with(|| {
            let mut options = ConnectorOptions::new(POOL_SIZE);
            options.ca_file = ca.map(|path| path.to_string_lossy().into_owned());
            Arc::new(Connector::new(Some(options)))
        });
        connector.clone()
    }
}

/// Sends a request to `peer` and waits for the answer's head. `head` makes the request's head, for each connection
/// that is tried.
///
/// A pooled connection that turns out to be dead before anything came back is replaced, not reported.
pub async fn send(
    connector: &Arc<Connector>,
    peer: &Arc<HttpPeer>,
    head: &(dyn Fn() -> pingora::Result<Box<RequestHeader>> + Sync),
    body: &Bytes,
    timers: &Timeouts,
) -> Result<Answer, Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        let made = head().map_err(|error| Failure::new(Stage::Send, false, &error))?;
        match send_once(connector, peer, made, body, timers).await {
            Err(failure) if failure.is_stale() && tries < STALE_TRIES => continue,
            outcome => return outcome,
        }
    }
}

async fn send_once(
    connector: &Arc<Connector>,
    peer: &Arc<HttpPeer>,
    head: Box<RequestHeader>,
    body: &Bytes,
    timers: &Timeouts,
) -> Result<Answer, Failure> {
    let connected = tokio::time::timeout(timers.connect, connector.get_http_session(&**peer)).await;
    let (session, reused) = match connected {
        Err(_) => return Err(Failure::timer(Stage::Connect, false)),
        Ok(Err(error)) => return Err(Failure::new(connect_stage(error.etype()), false, &error)),
        Ok(Ok(connected)) => connected,
    };
    let mut answer = Answer {
        session: Box::new(session),
        connector: connector.clone(),
        peer: peer.clone(),
        reused,
        inflate: None,
    };
    answer.session.set_write_timeout(Some(WRITE_STALL));
    answer.session.set_read_timeout(None);
    let sent = answer.write(head, body).await;
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
    async fn write(&mut self, head: Box<RequestHeader>, body: &Bytes) -> Result<(), Failure> {
        let reused = self.reused;
        let failed = |error: Box<pingora::Error>| Failure::new(Stage::Send, reused, &error);
        self.session
            .write_request_header(head)
            .await
            .map_err(failed)?;
        let mut rest = body.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(WRITE_PIECE));
            let last = rest.is_empty();
            self.session
                .write_request_body(piece, last)
                .await
                .map_err(failed)?;
        }
        if !body.is_empty() && self.session.as_http2().is_some() {
            return Ok(());
        }
        self.session.finish_request_body().await.map_err(failed)
    }

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
        if self.session.response_done() {
            self.connector
                .release_http_session(*self.session, &*self.peer, Some(IDLE_CONNECTION))
                .await;
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
