//! A WebSocket that greets, and sends back every frame as it came, <https://www.rfc-editor.org/rfc/rfc6455>.
//!
//! Enough of the protocol for one that passes frames on: fragments come back as fragments, a ping is answered, a
//! close is answered and ends it.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::calls::{Guard, Outcome};
use super::json::{Object, base64};
use super::route::{Api, Route};
use super::script::Behaviour;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
/// The most bytes of one frame.
const FRAME_MAX: u64 = 16 << 20;

/// Returns whether a request asks for a WebSocket where one is spoken.
pub(super) fn is_asked_for(request: &Request<Incoming>) -> bool {
    let asks = request
        .headers()
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    asks && Route::of(request.uri().path(), None).is_some_and(|route| route.api == Api::Realtime)
}

/// Returns the model that a query names.
pub(super) fn model(query: Option<&str>) -> &str {
    let mut pairs = query.unwrap_or("").split('&');
    pairs
        .find_map(|pair| pair.strip_prefix("model="))
        .unwrap_or("mock")
}

/// Answers a handshake; `None` where it is not right.
pub(super) fn accepted<B>(headers: &HeaderMap, body: B) -> Option<Response<B>> {
    const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let key = headers.get("sec-websocket-key")?.to_str().ok()?;
    if headers.get("sec-websocket-version")? != "13" {
        return None;
    }
    let hash = digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{MAGIC}").as_bytes(),
    );
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::try_from(base64(hash.as_ref())).ok()?;
    answer.insert("sec-websocket-accept", accept);
    // A browser puts its key among the protocols that it offers; the first is the one to speak.
    let offered = headers.get("sec-websocket-protocol");
    if offered.is_some_and(|value| value.as_bytes().starts_with(b"realtime")) {
        let protocol = HeaderValue::from_static("realtime");
        answer.insert("sec-websocket-protocol", protocol);
    }
    Some(response)
}

/// A connection that HTTP is done with.
#[derive(Debug)]
pub(super) struct Upgraded {
    upgrade: OnUpgrade,
    guard: Guard,
    greeting: Vec<u8>,
    gap: Option<Duration>,
    cut_after: Option<u64>,
}

impl Upgraded {
    pub fn new(upgrade: OnUpgrade, guard: Guard, behaviour: &Behaviour, model: &str) -> Self {
        let session = Object::new()
            .set("object", "realtime.session")
            .set("type", "realtime")
            .set("id", "sess_mock")
            .set("model", model);
        let greeting = Object::new()
            .set("type", "session.created")
            .set("event_id", "event_mock")
            .set("session", session);
        Self {
            upgrade,
            guard,
            greeting: greeting.end(),
            gap: behaviour.chunk_gap.map(|wait| wait.0),
            cut_after: behaviour.cut_after,
        }
    }

    /// Speaks until either side ends it.
    pub async fn echo(self) {
        let Self {
            upgrade,
            mut guard,
            greeting,
            gap,
            cut_after,
        } = self;
        let Ok(upgraded) = upgrade.await else {
            return;
        };
        let mut socket = Socket {
            io: TokioIo::new(upgraded),
            read: BytesMut::new(),
        };
        if socket.send(FIN | TEXT, &greeting).await.is_err() {
            return;
        }
        guard.sent(greeting.len(), false);
        let mut echoed = 0;
        loop {
            if cut_after == Some(echoed) {
                return guard.end(Outcome::Cut);
            }
            let Ok((first, payload)) = socket.receive().await else {
                return;
            };
            let sent = match first & 0x0f {
                PING => socket.send(FIN | PONG, &payload).await,
                PONG => Ok(()),
                CLOSE => {
                    // The client may be gone already, which ends it as well.
                    let _answered = socket.send(FIN | CLOSE, &payload).await;
                    return guard.end(Outcome::Complete);
                }
                _ => {
                    if let Some(gap) = gap {
                        tokio::time::sleep(gap).await;
                    }
                    echoed += 1;
                    guard.sent(payload.len(), true);
                    socket.send(first, &payload).await
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

struct Socket<I> {
    io: I,
    read: BytesMut,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Socket<I> {
    /// Returns the first byte of a frame (its end mark and kind) and its payload, unmasked.
    async fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let head = self.take(2).await?;
        let (first, second) = (head[0], head[1]);
        let length = match second & 0x7f {
            126 => self.take(2).await?.get_u16().into(),
            127 => self.take(8).await?.get_u64(),
            short => u64::from(short),
        };
        // A client masks every frame, and nobody agreed on an extension.
        if second & 0x80 == 0 || first & 0x70 != 0 || length > FRAME_MAX {
            let _answered = self.send(FIN | CLOSE, &1002u16.to_be_bytes()).await;
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mask = self.take(4).await?;
        let mut payload = self.take(length as usize).await?.to_vec();
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        Ok((first, payload))
    }

    async fn take(&mut self, length: usize) -> io::Result<BytesMut> {
        while self.read.len() < length {
            if self.io.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.read.split_to(length))
    }

    async fn send(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 10);
        frame.push(first);
        match payload.len() {
            length @ ..126 => frame.push(length as u8),
            length @ ..65536 => {
                frame.push(126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        self.io.write_all(&frame).await?;
        self.io.flush().await
    }
}
