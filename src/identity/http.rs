//! Small requests to who makes tokens, over the connections that the program has anyway.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method};
use pingora::http::RequestHeader;
use pingora::listeners::ALPN;
use pingora::upstreams::peer::HttpPeer;

use crate::provider::Timeouts;
use crate::provider::account::Url;
use crate::upstream::{self, Upstream, Wire};

/// A token is a few KiB.
const LONGEST: usize = 256 << 10;
/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 3;

/// Its own connections, which trust the system's authorities: a provider's own don't vouch for who makes tokens.
/// Made when it is first needed: most gateways ask nobody for tokens.
static WIRE: OnceLock<Arc<Wire>> = OnceLock::new();

/// Closes connections that nobody needs any more. To be called from time to time.
pub fn sweep() {
    if let Some(wire) = WIRE.get() {
        wire.sweep();
    }
}

pub struct Request<'a> {
    pub method: Method,
    pub url: &'a str,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// For connecting, and again for the answer.
    pub patience: Duration,
}

pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

impl<'a> Request<'a> {
    pub fn get(url: &'a str) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: Vec::new(),
            body: Bytes::new(),
            patience: Duration::from_secs(10),
        }
    }

    /// Returns the request that posts a form.
    pub fn form(url: &'a str, fields: &[(&str, &str)]) -> Self {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        Self {
            method: Method::POST,
            headers: vec![(http::header::CONTENT_TYPE, kind)],
            body: form(fields).into(),
            ..Self::get(url)
        }
    }

    /// Adds a header; a value that can't be sent is left out, and the other side says what is missing.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }

    /// Sends the request and reads the whole answer. What went wrong is said without the URL's query.
    pub async fn send(self) -> Result<Reply, String> {
        let url = Url::parse(self.url).ok_or("the address is no URL")?;
        let named = format!("{}:{}", url.host, url.port);
        let looked = tokio::net::lookup_host((url.host.as_str(), url.port));
        let addresses = tokio::time::timeout(self.patience, looked)
            .await
            .map_err(|_| format!("{named} could not be looked up in time"))?
            .map_err(|error| format!("{named} could not be looked up: {error}"))?;
        let mut last = format!("{named} has no address");
        for address in addresses.take(MOST_ADDRESSES) {
            let mut peer = HttpPeer::new(address, url.tls, url.host.clone());
            peer.options.alpn = if url.tls { ALPN::H2H1 } else { ALPN::H1 };
            match self.ask(&url, &Arc::new(peer)).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => {
                    last = format!("{named}: {}: {}", failure.outcome(), failure.cause);
                    // Whoever was reached may have seen the request.
                    if !matches!(
                        failure.stage,
                        upstream::Stage::Connect | upstream::Stage::Tls
                    ) {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    async fn ask(&self, url: &Url, peer: &Arc<HttpPeer>) -> Result<Reply, upstream::Failure> {
        let timers = Timeouts {
            connect: self.patience,
            first_byte: self.patience,
            idle: self.patience,
            total: self.patience * 3,
        };
        let head = self
            .head(url)
            .map_err(|error| upstream::Failure::unsaid(&error))?;
        let wire = WIRE.get_or_init(|| Upstream::new().wire(None));
        let (head, body) = (upstream::Head::of(&head), self.body.clone().into());
        let sending = upstream::send(wire, peer, &head, &body, &timers);
        let mut answer = Box::pin(sending).await?;
        let status = answer.head().status.as_u16();
        let mut body = BytesMut::new();
        loop {
            let read = tokio::time::timeout(self.patience, answer.read()).await;
            let read = read.unwrap_or_else(|_| {
                Err(upstream::Failure::timer(
                    upstream::Stage::Body,
                    answer.reused,
                ))
            });
            match read? {
                Some(piece) if body.len() + piece.len() <= LONGEST => {
                    body.extend_from_slice(&piece)
                }
                Some(_) => {
                    answer.abandon().await;
                    break;
                }
                None => {
                    answer.release().await;
                    break;
                }
            }
        }
        Ok(Reply {
            status,
            body: body.to_vec(),
        })
    }

    fn head(&self, url: &Url) -> pingora::Result<Box<RequestHeader>> {
        let mut head = RequestHeader::build(self.method.clone(), url.target.as_bytes(), Some(8))?;
        head.insert_header(http::header::HOST, url.authority())?;
        head.insert_header(http::header::CONTENT_LENGTH, self.body.len())?;
        head.insert_header(http::header::ACCEPT, "application/json")?;
        for (name, value) in &self.headers {
            head.insert_header(name.clone(), value.clone())?;
        }
        Ok(Box::new(head))
    }
}

/// Returns `fields` as `application/x-www-form-urlencoded`, which a query may be as well.
pub fn form(fields: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in fields {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    out
}
