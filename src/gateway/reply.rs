//! What the gateway says itself: errors in the client's protocol, and small answers of its own.

use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::OrErr;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::Exchange;
use super::outcome::{Lost, Verbatim};
use crate::error::{Error, Kind};
use crate::protocol::{self, Protocol};

/// After an answer that came before the request body was read, this much of the body is read and thrown away, so
/// that the client sees the answer and not a reset.
const MOST_DISCARDED: usize = 64 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(5);

pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Headers of an answer, beside its status.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

pub fn header(name: &'static str, value: impl TryInto<HeaderValue>) -> (HeaderName, HeaderValue) {
    // Only text of ours comes here; what could not be sent is left empty rather than refused.
    let value = value.try_into().unwrap_or(HeaderValue::from_static(""));
    (HeaderName::from_static(name), value)
}

/// Writes a whole answer.
pub async fn whole(
    session: &mut Session,
    x: &mut Exchange,
    status: u16,
    headers: Headers,
    body: Bytes,
) -> pingora::Result<()> {
    let head_only = session.req_header().method == http::Method::HEAD;
    let mut head = head(status, headers, x)?;
    head.headers
        .insert(http::header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    x.commit(status);
    x.record.response_bytes = body.len() as u64;
    let read = session.as_downstream_mut().is_body_done();
    if !read {
        if may_be_discarded(session) {
            let downstream = session.as_downstream_mut();
            downstream.set_close_on_response_before_downstream_finish(false);
        } else {
            session.set_keepalive(None);
        }
    }
    let empty = head_only || body.is_empty();
    let head = ResponseHeader::from(head);
    session.write_response_header(Box::new(head), empty).await?;
    if !empty {
        x.tell(&body);
        session.write_response_body(Some(body), true).await?;
    }
    if !read && !discard(session).await {
        session.set_keepalive(None);
    }
    Ok(())
}

/// Returns whether a body that wasn't read is sure to come, and small enough to be thrown away for its connection.
fn may_be_discarded(session: &Session) -> bool {
    let headers = &session.req_header().headers;
    // Who waits for leave to send it may take the answer for a no: what comes next is a body or another request.
    if headers.contains_key(http::header::EXPECT) {
        return false;
    }
    let length = headers.get(http::header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    length.is_none_or(|length: usize| length <= MOST_DISCARDED)
}

/// Makes the head of an answer, with the request's id.
///
/// It is filled before it becomes Pingora's, whose methods spell every name anew.
pub fn head(status: u16, headers: Headers, x: &Exchange) -> pingora::Result<Parts> {
    let (mut head, ()) = http::Response::new(()).into_parts();
    let invalid = pingora::ErrorType::InvalidHTTPHeader;
    head.status = StatusCode::from_u16(status).or_err(invalid, "invalid status")?;
    // Room for what is added here and by those who call.
    head.headers = HeaderMap::with_capacity(headers.len() + 4);
    for (name, value) in headers {
        let appended = head.headers.try_append(name, value);
        appended.or_err(pingora::ErrorType::InvalidHTTPHeader, "too many headers")?;
    }
    let id = header_value(&x.record.id);
    if is_named_twice(&head.headers, x) {
        head.headers.insert(REQUEST_ID, id.clone());
    }
    head.headers.insert(X_REQUEST_ID, id);
    Ok(head)
}

/// Adds the request's id to a head that is Pingora's already.
pub fn name_request(head: &mut ResponseHeader, x: &Exchange) -> pingora::Result<()> {
    let id = header_value(&x.record.id);
    if is_named_twice(&head.headers, x) {
        head.insert_header(REQUEST_ID, id.clone())?;
    }
    head.insert_header(X_REQUEST_ID, id)
}

/// Anthropic's SDKs read another name, which the provider's own id may have.
fn is_named_twice(headers: &HeaderMap, x: &Exchange) -> bool {
    x.protocol == Protocol::Anthropic && !headers.contains_key(REQUEST_ID)
}

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// Reads what the client still sends, and forgets it. Returns whether that was all.
async fn discard(session: &mut Session) -> bool {
    let reading = async {
        let mut size = 0;
        loop {
            match session.as_downstream_mut().read_request_body().await {
                Ok(Some(piece)) => size += piece.len(),
                Ok(None) => return true,
                Err(_) => return false,
            }
            if size > MOST_DISCARDED {
                return false;
            }
        }
    };
    // Whoever is still sending after this gets the connection closed.
    let read = tokio::time::timeout(DISCARD_TIME, reading).await;
    read.unwrap_or(false)
}

/// Writes an error in the client's protocol. `extra` are headers such as the limits'.
pub async fn error(
    session: &mut Session,
    x: &mut Exchange,
    error: &Error,
    extra: Headers,
) -> pingora::Result<()> {
    x.fail(error);
    if let Some(cause) = &error.cause {
        tracing::debug!(id = x.record.id, code = error.kind.code(), cause, "refused");
    }
    let body = protocol::error_body(x.protocol, error, &x.record.id);
    let mut headers = extra;
    headers.push((http::header::CONTENT_TYPE, JSON));
    headers.push(header("x-strait-error", error.kind.code()));
    if x.protocol == Protocol::Bedrock {
        let kind = protocol::bedrock::response::error_type(error.kind);
        headers.push(header("x-amzn-errortype", kind));
    }
    if error.kind.is_final() && error.kind != Kind::RateLimited {
        headers.push(header("x-should-retry", "false"));
    }
    if let Some(wait) = error.retry_after {
        headers.push((
            http::header::RETRY_AFTER,
            HeaderValue::from(whole_seconds(wait)),
        ));
    }
    whole(session, x, error.kind.status(), headers, body.into()).await
}

/// Returns seconds, rounded up: clients read an integer.
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Writes what is left when no target answered.
pub async fn lost(
    session: &mut Session,
    x: &mut Exchange,
    lost: Lost,
    extra: Headers,
) -> pingora::Result<()> {
    x.fail(&lost.error);
    let Some(Verbatim {
        status,
        mut headers,
        body,
    }) = lost.verbatim
    else {
        return error(session, x, &lost.error, extra).await;
    };
    // With limits of our own the provider's would contradict them.
    let limited = extra
        .iter()
        .any(|(name, _)| name.as_str().starts_with("x-ratelimit-"));
    headers.retain(|(name, _)| !limited || !name.as_str().starts_with("x-ratelimit-"));
    let waits = headers
        .iter()
        .any(|(name, _)| *name == http::header::RETRY_AFTER);
    if let (false, Some(wait)) = (waits, lost.error.retry_after) {
        headers.push((
            http::header::RETRY_AFTER,
            HeaderValue::from(whole_seconds(wait)),
        ));
    }
    headers.extend(extra);
    whole(session, x, status, headers, body).await
}
