//! What a failed attempt means: for the other targets, and for the client if nobody else answers.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};

use super::super::Exchange;
use super::super::ask::Ask;
use super::super::outcome::{Lost, Tried, Verbatim};
use super::super::verdict::{self, Judgement, Verdict};
use super::passed;
use crate::error::{Error, Kind};
use crate::protocol::Protocol;
use crate::protocol::event::FailureClass;
use crate::provider::Timeouts;
use crate::routing::Blame;
use crate::upstream::{Answer, Failure, Stage};

/// Of an error's body this much is read and shown.
pub(super) const MOST_ERROR: usize = 256 << 10;

pub(super) fn wire(failure: Failure) -> Tried {
    let kind = match (failure.stage, failure.timed_out) {
        (_, true) => Kind::Timeout,
        (Stage::Resolve | Stage::Connect | Stage::Tls, false) => Kind::UpstreamUnavailable,
        (Stage::Send | Stage::Head | Stage::Body, false) => Kind::UpstreamBroken,
    };
    let message = match (failure.stage, failure.timed_out) {
        (Stage::Resolve, _) => "The provider's name could not be resolved.",
        (Stage::Connect, false) => "The provider could not be connected to.",
        (Stage::Connect | Stage::Tls, true) => {
            "The provider did not take the connection in time (timer: connect)."
        }
        (Stage::Tls, false) => "The provider's TLS handshake failed.",
        (Stage::Send, false) => "The provider closed the connection while the request was sent.",
        (Stage::Send, true) => "The provider stopped reading the request.",
        (Stage::Head, false) => "The provider closed the connection without an answer.",
        (Stage::Head, true) => "The provider did not answer in time (timer: first_byte).",
        (Stage::Body, false) => "The provider cut its answer.",
        (Stage::Body, true) => "The provider went silent in its answer (timer: idle).",
    };
    let outcome = failure.outcome();
    let judgement = verdict::of_failure(&failure);
    let lost = Error::new(kind, message).with_cause(failure.cause).into();
    Tried::Lost {
        lost,
        judgement,
        outcome,
        told: None,
    }
}

/// There is no token, or no signature, to send: another target may have one.
pub(super) fn unsigned(error: Error) -> Tried {
    let judgement = Judgement {
        verdict: Verdict::Next,
        blame: None,
        account: true,
    };
    Tried::Lost {
        lost: error.into(),
        judgement,
        outcome: "account",
        told: None,
    }
}

pub(super) fn broken(message: &'static str, outcome: &'static str) -> Tried {
    let judgement = Judgement {
        verdict: Verdict::Retry,
        blame: Some(Blame::Serving),
        account: false,
    };
    Tried::Lost {
        lost: Error::new(Kind::UpstreamBroken, message).into(),
        judgement,
        outcome,
        told: None,
    }
}

/// Reads an error's body, as much as is shown; what goes wrong meanwhile leaves it shorter.
pub(super) async fn read_error(answer: &mut Answer, timers: &Timeouts, x: &mut Exchange) -> Bytes {
    let started = Instant::now();
    let mut body = BytesMut::new();
    let wait = timers.idle.min(Duration::from_secs(10));
    while body.len() < MOST_ERROR {
        match tokio::time::timeout(wait, answer.read()).await {
            Ok(Ok(Some(piece))) => body.extend_from_slice(&piece),
            Ok(Ok(None) | Err(_)) | Err(_) => break,
        }
    }
    body.truncate(MOST_ERROR);
    x.waited += started.elapsed();
    body.freeze()
}

/// Judges an error answer and makes what the client would get.
pub(super) fn refused(
    ask: &Ask<'_>,
    from: Protocol,
    status: u16,
    headers: &HeaderMap,
    body: Bytes,
) -> Tried {
    let judgement = verdict::of_status(status, &body);
    let told = match judgement.verdict {
        Verdict::Fail | Verdict::Strip => None,
        Verdict::Retry | Verdict::Next => {
            verdict::retry_after(headers, &body, jiff::Timestamp::now())
        }
    };
    let lost = if judgement.account {
        // Not the client's credential, and not its business.
        Error::new(
            Kind::UpstreamAccount,
            "The provider refused the gateway's own account for this model.",
        )
        .into()
    } else {
        let kind = match status {
            404 => Kind::ModelNotFound,
            413 => Kind::BodyTooLarge,
            429 => Kind::RateLimited,
            408 | 504 => Kind::Timeout,
            503 | 529 => Kind::UpstreamUnavailable,
            400..=499 => Kind::InvalidRequest,
            _ => Kind::UpstreamBroken,
        };
        let said =
            said(&body).unwrap_or_else(|| format!("The provider answered with status {status}."));
        let mut error = Error::new(kind, said);
        error.retry_after = told;
        let json = memchr::memchr(b'{', &body).is_some();
        let verbatim = (from == ask.protocol && json && status >= 400).then(|| {
            let mut headers: Vec<_> = passed(headers);
            headers.push((
                http::header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            ));
            Verbatim {
                status,
                headers,
                body: body.clone(),
            }
        });
        Lost { error, verbatim }
    };
    Tried::Lost {
        lost,
        judgement,
        outcome: "status",
        told,
    }
}

/// Finds the message in an error body of any of the usual shapes.
pub(super) fn said(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Body {
        error: Option<Inner>,
        message: Option<String>,
        detail: Option<serde_json::Value>,
    }
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Inner {
        Object { message: Option<String> },
        Text(String),
    }
    let Ok(body) = serde_json::from_slice::<Body>(first_of(body)) else {
        return plain(body);
    };
    let inner = body.error.and_then(|error| match error {
        Inner::Object { message } => message,
        Inner::Text(text) => Some(text),
    });
    let said = inner
        .or(body.message)
        .or_else(|| body.detail.map(|detail| detail.to_string()))?;
    Some(said.chars().take(2000).collect())
}

/// Returns the first of a list, which is how Google tells an error of a stream.
fn first_of(body: &[u8]) -> &[u8] {
    let list = body.trim_ascii().strip_prefix(b"[");
    let mut values = serde_json::Deserializer::from_slice(list.unwrap_or_default())
        .into_iter::<serde::de::IgnoredAny>();
    match (list, values.next()) {
        (Some(list), Some(Ok(_))) => &list[..values.byte_offset()],
        (_, _) => body,
    }
}

/// Returns an error that is told in plain words; pages for people say nothing to programs.
fn plain(body: &[u8]) -> Option<String> {
    const MOST: usize = 500;
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_words = !text.is_empty()
        && text.len() <= MOST
        && !text.starts_with(['<', '{', '['])
        && !text.contains(|c: char| c.is_control() && !c.is_whitespace());
    is_words.then(|| text.to_owned())
}

/// Makes the error for a failure that came inside a success.
pub(super) fn event_error(class: FailureClass, message: &str) -> Lost {
    let status = verdict::event_status(class);
    let kind = match status {
        400 => Kind::InvalidRequest,
        429 => Kind::RateLimited,
        503 => Kind::UpstreamUnavailable,
        _ => Kind::UpstreamBroken,
    };
    let message: String = message.chars().take(2000).collect();
    let message = if message.is_empty() {
        "The provider failed without a word.".to_owned()
    } else {
        message
    };
    Error::new(kind, message).into()
}
