//! The raw lane to providers whose requests are signed over their whole body (AWS by SigV4): the body is held until it is
//! whole, signed, and sent from here; Pingora's own flow sends a head before it has read a body.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use super::super::{Exchange, intake};
use super::Raw;
use crate::error::{Error, Kind, Result};
use crate::provider::Auth;
use crate::upstream::{self, Answer, Failure, Head, Stage};

/// What belongs to one connection, and not to the request or the answer.
const HOPS: [HeaderName; 8] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
/// A client that takes no bytes for this long is gone.
const WRITE_STALL: Duration = Duration::from_secs(60);

impl Raw {
    /// Returns whether the body is signed with the request.
    pub fn signs_body(&self) -> bool {
        matches!(self.candidate().provider.auth, Auth::SigV4 { .. })
    }

    /// Reads the body that is to be signed, and checks what it names.
    pub async fn hold(&mut self, session: &mut Session, x: &mut Exchange) -> Result<Bytes> {
        let server = &self.now.snapshot.server;
        let (most, time) = (server.max_body, server.body_timeout);
        let read = Box::pin(intake::body(session, most, time)).await;
        let body = read.map_err(|error| {
            if error.kind != Kind::BodyTooLarge {
                return error;
            }
            let message = format!(
                "Requests to this provider are signed over their whole body, which may have {most} bytes at most (server.max_body)."
            );
            Error::new(Kind::BodyTooLarge, message)
        })?;
        if self.body(Some(&body), x).is_err() {
            let refused = self.refused.take();
            return Err(
                refused.unwrap_or_else(|| Error::new(Kind::Internal, "The body is refused."))
            );
        }
        Ok(body)
    }

    /// Sends the request with its body, and the answer to the client. The inner result tells whether the client took it.
    pub async fn exchange(
        mut self,
        body: Bytes,
        session: &mut Session,
        x: &mut Exchange,
    ) -> Result<pingora::Result<()>> {
        match self.send(&body, session, x).await {
            Ok(answer) => {
                let passed = self.pass(answer, session, x).await;
                self.done(None, x);
                Ok(passed)
            }
            Err(error) => {
                if let Some(attempt) = x.record.attempts.last_mut()
                    && attempt.outcome == "cancelled"
                {
                    attempt.outcome = "cut";
                }
                self.done(None, x);
                Err(error)
            }
        }
    }

    /// Sends the request; what could not be connected to is tried elsewhere.
    async fn send(&mut self, body: &Bytes, session: &Session, x: &mut Exchange) -> Result<Answer> {
        let client = session.req_header().clone();
        loop {
            let peer = self.peer(x).map_err(|error| super::of_pingora(&error))?;
            let mut head = client.clone();
            self.sign(&mut head, body).await?;
            let candidate = self.candidate();
            let Some(pool) = &candidate.pool else {
                return Err(Error::new(
                    Kind::UpstreamUnavailable,
                    "The provider could not be connected to.",
                ));
            };
            let timers = candidate.provider.timeouts;
            let (head, body) = (Head::of(&head), body.clone().into());
            let sent = upstream::send(pool.wire(), &Arc::new(*peer), &head, &body, &timers).await;
            match sent {
                Ok(answer) => return Ok(answer),
                Err(failure) if connecting(&failure) => {
                    if !self.unconnected(x) {
                        return Err(of_failure(&failure));
                    }
                }
                Err(failure) => {
                    if let Some(attempt) = x.record.attempts.last_mut() {
                        attempt.outcome = failure.outcome();
                    }
                    return Err(of_failure(&failure));
                }
            }
        }
    }

    /// Makes the client's head the provider's, with a signature over the body.
    async fn sign(&self, head: &mut RequestHeader, body: &[u8]) -> Result<()> {
        for name in &HOPS {
            head.remove_header(name);
        }
        head.set_version(http::Version::HTTP_11);
        let made = self.request(head, body).await;
        let length = made.and_then(|()| head.insert_header(CONTENT_LENGTH, body.len()));
        length.map_err(|error| {
            let message = "The gateway could not sign in to the provider.";
            Error::new(Kind::UpstreamAccount, message).with_cause(error.to_string())
        })
    }

    /// Passes the answer on as it comes.
    async fn pass(
        &mut self,
        mut answer: Answer,
        session: &mut Session,
        x: &mut Exchange,
    ) -> pingora::Result<()> {
        let mut head = ResponseHeader::from(answer.head().clone());
        if matches!(head.status.as_u16(), 401 | 403) {
            self.candidate().distrust();
        }
        for name in &HOPS {
            head.remove_header(name);
        }
        self.answer(&mut head, x)?;
        let version = session.req_header().version;
        let unknown = !head.headers.contains_key(CONTENT_LENGTH);
        if unknown && version == http::Version::HTTP_11 {
            head.insert_header(TRANSFER_ENCODING, "chunked")?;
        } else if unknown && version == http::Version::HTTP_10 {
            session.set_keepalive(None);
        }
        session.set_write_timeout(Some(WRITE_STALL));
        let bare = session.req_header().method == http::Method::HEAD;
        session.write_response_header(Box::new(head), bare).await?;
        if bare {
            answer.abandon().await;
            return Ok(());
        }
        let idle = self.candidate().provider.timeouts.idle;
        let outcome = loop {
            let read = tokio::select! {
                biased;
                read = tokio::time::timeout(idle, answer.read()) => read,
                _ = session.as_downstream_mut().read_body_or_idle(true) => {
                    break Err(Error::new(Kind::ClientGone, "The client left."));
                }
            };
            match read {
                Ok(Ok(Some(piece))) => {
                    let mut piece = Some(piece);
                    self.piece(&mut piece, x);
                    let piece = piece.filter(|piece| !piece.is_empty());
                    if piece.is_some() && session.write_response_body(piece, false).await.is_err() {
                        break Err(Error::new(Kind::ClientGone, "The client left."));
                    }
                }
                Ok(Ok(None)) => break Ok(()),
                Ok(Err(failure)) => break Err(of_failure(&failure)),
                Err(_) => {
                    let silent = "The provider went silent in its answer (timer: idle).";
                    break Err(Error::new(Kind::Timeout, silent));
                }
            }
        };
        if let Err(error) = outcome {
            answer.abandon().await;
            x.fail(&error);
            // The head is out: only a broken connection can tell the client that the rest is missing.
            session.shutdown().await;
            return Ok(());
        }
        answer.release().await;
        let mut last = None;
        self.piece(&mut last, x);
        session
            .write_response_body(last.filter(|last| !last.is_empty()), true)
            .await
    }
}

fn connecting(failure: &Failure) -> bool {
    matches!(failure.stage, Stage::Resolve | Stage::Connect | Stage::Tls)
}

fn of_failure(failure: &Failure) -> Error {
    let (kind, message) = match (connecting(failure), failure.timed_out) {
        (true, _) => (
            Kind::UpstreamUnavailable,
            "The provider could not be connected to.",
        ),
        (false, true) => (Kind::Timeout, "The provider did not answer in time."),
        (false, false) => (Kind::UpstreamBroken, "The provider cut its answer."),
    };
    Error::new(kind, message).with_cause(failure.cause.clone())
}
