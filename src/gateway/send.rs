//! One attempt: build the request, send it, and hold the answer until it may be committed.

mod hold;
mod refused;
mod several;

use std::borrow::Cow;
use std::time::Instant;

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use self::hold::Hold;
use self::refused::{broken, read_error, refused, unsigned, wire};
use super::Exchange;
use super::allowance;
use super::ask::{Ask, is_placed};
use super::outcome::{Busy, Tried, Try};
use super::verdict;
use crate::error::Error;
use crate::observe::record::Phase;
use crate::protocol::api::Api;
use crate::protocol::{Framing, Protocol};
use crate::provider::{Platform, Speaks, platform};
use crate::routing::Candidate;
use crate::upstream::{self, Failure, Head, Stage};

/// Makes one attempt.
pub async fn attempt(ask: &Ask<'_>, plan: &Try<'_>, busy: Busy, x: &mut Exchange) -> Tried {
    let candidate = plan.candidate();
    let is_chat = ask.api == Api::Chat;
    let speaks = if is_chat {
        let speaks = candidate.speaks(ask.protocol);
        // What Bedrock packs can be passed, not translated.
        if ask.prefix.is_some() && packs(candidate, speaks.protocol) {
            candidate.speaks(Protocol::Bedrock)
        } else {
            speaks
        }
    } else {
        match candidate.serves(ask.api, ask.protocol) {
            Some(speaks) => speaks,
            None => return Tried::Unsaid(not_served(ask.api)),
        }
    };
    let to = speaks.protocol;
    let preparing = Instant::now();
    let built = if is_chat {
        ask.build(candidate, to, plan.strip)
    } else {
        ask.build_task(candidate, to)
    };
    let outgoing = match built {
        Ok(outgoing) => outgoing,
        Err(error) => return Tried::Unsaid(error),
    };
    let Some(pool) = candidate.pool.as_ref() else {
        return wire(Failure::unresolved(&candidate.provider.name));
    };
    let mut timers = plan.timers;
    let left = plan.deadline.saturating_duration_since(preparing);
    timers.connect = timers.connect.min(left);
    timers.first_byte = timers.first_byte.min(left);
    let target = target(ask, plan, speaks);
    if !outgoing.further.is_empty() {
        x.phase(Phase::Prepare, preparing);
        let several = several::attempt(ask, plan, to, &target, outgoing, timers, busy, x);
        return several.boxed().await;
    }
    let signed = if candidate.signs() {
        let body = outgoing.body.whole();
        let signing = candidate.authorize(plan.place.endpoint, "POST", &target, &body);
        match tokio::time::timeout(left, signing).await {
            Ok(Ok(signed)) => signed,
            Ok(Err(error)) => return unsigned(error),
            Err(_) => return wire(Failure::timer(Stage::Connect, false)),
        }
    } else {
        Vec::new()
    };
    let sent = x.phase(Phase::Prepare, preparing);
    let length = HeaderValue::from(outgoing.body.len());
    let head = head(ask, plan, to, (&target, &signed), &length);
    let body = &outgoing.body;
    let sending = upstream::send(pool.wire(), &plan.place.peer, &head, body, &timers);
    let answer = sending.await;
    let waited = x.phase(Phase::Upstream, sent) - sent;
    x.waited += waited;
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            if let Some(record) = x.record.attempts.last_mut() {
                record.reused = failure.reused;
            }
            return wire(failure);
        }
    };
    let status = answer.head().status.as_u16();
    if let Some(record) = x.record.attempts.last_mut() {
        record.reused = answer.reused;
        record.status = Some(status);
    }
    if !answer.decode() {
        answer.abandon().await;
        return broken(
            "The provider compressed its answer in a way that was not asked for.",
            "garbage",
        );
    }
    if matches!(status, 401 | 403) {
        candidate.distrust();
    }
    if !(200..300).contains(&status) {
        let headers = answer.head().headers.clone();
        let body = read_error(&mut answer, &timers, x).await;
        answer.release().await;
        return refused(ask, to, status, &headers, body);
    }
    let headers = &answer.head().headers;
    let media = match to.framing() {
        _ if packs(candidate, to) => "application/vnd.amazon.eventstream",
        Framing::Events => "text/event-stream",
        Framing::Lines => "application/x-ndjson",
        Framing::EventStream => "application/vnd.amazon.eventstream",
    };
    let events = content_type(headers).is_some_and(|kind| kind.starts_with(media));
    let length = headers
        .get(http::header::CONTENT_LENGTH)
        .filter(|_| !answer.is_decoded());
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let kind = headers.get(http::header::CONTENT_TYPE).cloned();
    let hold = Hold {
        content_type: kind.filter(|_| !is_chat && to == ask.protocol),
        ask,
        plan,
        to,
        timers,
        outgoing,
        headers: passed(headers),
        left: allowance::left(headers, jiff::Timestamp::now),
        length,
        status,
        busy,
    };
    if !is_chat {
        return hold.task(answer, events, x).await;
    }
    if ask.envelope.stream && events {
        hold.stream(answer, None, x).await
    } else {
        hold.whole(answer, x).await
    }
}

/// Returns whether the provider packs another protocol's events into event streams of its own.
fn packs(candidate: &Candidate, to: Protocol) -> bool {
    is_placed(candidate, to) && matches!(candidate.provider.platform, Platform::Bedrock { .. })
}

/// Returns the path of the request, with the client's query where it says something to the provider.
fn target<'p>(ask: &Ask<'_>, plan: &'p Try<'_>, speaks: &Speaks) -> Cow<'p, [u8]> {
    let candidate = plan.candidate();
    let to = speaks.protocol;
    if ask.api != Api::Chat {
        let path = candidate.path(plan.place.endpoint, speaks, ask.api);
        return match ask.query.filter(|_| to == ask.protocol) {
            Some(query) => platform::target(path.as_bytes(), Some(query)).into(),
            None => path.into_bytes().into(),
        };
    }
    let at = candidate
        .provider
        .protocols
        .iter()
        .position(|speaks| speaks.protocol == to)
        .unwrap_or_default();
    let path = candidate.endpoints[plan.place.endpoint].path(at, ask.envelope.stream);
    match ask.query.filter(|_| to == ask.protocol) {
        Some(query) => platform::target(path, Some(query)).into(),
        None => path.into(),
    }
}

/// Builds the request's head.
fn head<'h>(
    ask: &'h Ask<'_>,
    plan: &'h Try<'_>,
    to: Protocol,
    (target, signed): (&'h [u8], &'h [(HeaderName, HeaderValue)]),
    length: &'h HeaderValue,
) -> Head<'h> {
    static POST: Method = Method::POST;
    static IDENTITY: HeaderValue = HeaderValue::from_static("identity");
    let candidate = plan.candidate();
    let endpoint = &candidate.endpoints[plan.place.endpoint];
    let same = to == ask.protocol;
    let accept = match candidate.provider.platform.framing(to) {
        _ if ask.api != Api::Chat => &accept::ANY,
        _ if !ask.envelope.stream || packs(candidate, to) => &accept::JSON,
        Framing::Events => &accept::EVENTS,
        Framing::Lines => &accept::LINES,
        Framing::EventStream => &accept::EVENT_STREAM,
    };
    let ours = &candidate.headers[plan.credential.unwrap_or_default()];
    let count = 5 + ours.len() + signed.len() + ask.forwarded.len();
    let mut head = Head {
        method: &POST,
        target,
        headers: Vec::with_capacity(count),
    };
    let kind = if same {
        &ask.content_type
    } else {
        &accept::JSON
    };
    head.headers.extend([
        (&http::header::HOST, &endpoint.host),
        (&http::header::CONTENT_TYPE, kind),
        (&http::header::CONTENT_LENGTH, length),
        (&http::header::ACCEPT, accept),
        (&http::header::ACCEPT_ENCODING, &IDENTITY),
    ]);
    // What only the client's own protocol knows stays out of another's request.
    let forwarded = ask.forwarded.iter();
    let forwarded = forwarded.filter(|(name, _)| same || !name.as_str().starts_with("anthropic-"));
    for (name, value) in ours.iter().chain(signed).chain(forwarded) {
        head.set(name, value);
    }
    head
}

/// What a provider is asked to answer with.
mod accept {
    use http::HeaderValue;

    pub static ANY: HeaderValue = HeaderValue::from_static("*/*");
    pub static JSON: HeaderValue = HeaderValue::from_static("application/json");
    pub static EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
    pub static LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
    pub static EVENT_STREAM: HeaderValue =
        HeaderValue::from_static("application/vnd.amazon.eventstream");
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(http::header::CONTENT_TYPE)?.to_str().ok()
}

/// Room for as many is made at once.
const MOST_PASSED: usize = 12;

/// Returns the provider's headers that go on to the client: an allow-list, because the others name our account,
/// our connection or the provider's cookies.
pub fn passed(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let mut passed = Vec::with_capacity(headers.len().min(MOST_PASSED));
    for (name, value) in headers {
        let text = name.as_str();
        let fit = matches!(
            text,
            "retry-after"
                | "retry-after-ms"
                | "x-should-retry"
                | "request-id"
                | "openai-processing-ms"
                | "openai-version"
                | "warning"
                // AWS's clients find the kind of an error here.
                | "x-amzn-errortype"
        ) || text.starts_with("x-ratelimit-")
            || text.starts_with("anthropic-ratelimit-");
        if fit {
            let value = match text {
                "retry-after" => whole_wait(value),
                _ => Some(value.clone()),
            };
            passed.extend(value.map(|value| (name.clone(), value)));
        }
    }
    passed
}

/// Returns a `retry-after` in whole seconds, which is all that clients read; nothing for what is none.
fn whole_wait(value: &HeaderValue) -> Option<HeaderValue> {
    if !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit) {
        return Some(value.clone());
    }
    let text = value.to_str().ok()?.trim();
    let wait = verdict::of_header(text, jiff::Timestamp::now())?;
    Some(HeaderValue::from(super::reply::whole_seconds(wait)))
}

/// The error of a request that no protocol of this provider can carry.
pub fn not_served(api: Api) -> Error {
    Error::field(
        "model",
        format!("The provider of this model does not serve {}", api.name()),
    )
}
