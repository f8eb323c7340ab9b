//! One attempt: build the request, send it, and hold the answer until it may be committed.

mod several;

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;

use super::Exchange;
use super::allowance;
use super::ask::{Ask, Outgoing, is_placed};
use super::outcome::{Busy, Flow, Lost, Meta, Tried, Try, Verbatim, Won};
use super::through::{Seen, Through};
use super::verdict::{self, Judgement, Verdict};
use crate::error::{Error, Kind};
use crate::observe::record::Phase;
use crate::protocol::api::{self, Api};
use crate::protocol::event::FailureClass;
use crate::protocol::tap::{self, Whole};
use crate::protocol::{self, Framing, Protocol, Shape};
use crate::provider::{Platform, Speaks, Timeouts, platform};
use crate::routing::{Allowance, Blame, Candidate};
use crate::upstream::{self, Answer, Failure, Stage};

/// Held back of a stream until its first semantic event.
const MOST_HELD: usize = 64 << 10;
const MOST_HELD_EVENTS: u32 = 64;
/// A whole answer is read to its end before it is committed, so that a cut one can be asked for elsewhere; a
/// longer one is passed on from here.
const MOST_WHOLE: usize = 8 << 20;
/// Images come whole, in base64.
const MOST_TASK: usize = 64 << 20;
/// Of an error's body this much is read and shown.
const MOST_ERROR: usize = 256 << 10;

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
    let left = plan.deadline.saturating_duration_since(Instant::now());
    timers.connect = timers.connect.min(left);
    timers.first_byte = timers.first_byte.min(left);
    let target = target(ask, plan, speaks);
    if !outgoing.further.is_empty() {
        x.phase(Phase::Prepare, preparing);
        let several = several::attempt(ask, plan, to, &target, outgoing, timers, busy, x);
        return several.boxed().await;
    }
    let signed = if candidate.signs() {
        let signing = candidate.authorize(plan.place.endpoint, "POST", &target, &outgoing.body);
        match tokio::time::timeout(left, signing).await {
            Ok(Ok(signed)) => signed,
            Ok(Err(error)) => return unsigned(error),
            Err(_) => return wire(Failure::timer(Stage::Connect, false)),
        }
    } else {
        Vec::new()
    };
    let sent = x.phase(Phase::Prepare, preparing);
    let answer = upstream::send(
        pool.wire(),
        &plan.place.peer,
        &|| head(ask, plan, to, (&target, &signed), outgoing.body.len()),
        &outgoing.body,
        &timers,
    )
    .await;
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
    match (ask.envelope.stream, events) {
        (true, true) => hold.stream(answer, x).await,
        (_, false) => hold.whole(answer, x).await,
        (false, true) => {
            answer.abandon().await;
            broken(
                "The provider sent a stream that was not asked for.",
                "garbage",
            )
        }
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
fn head(
    ask: &Ask<'_>,
    plan: &Try<'_>,
    to: Protocol,
    (target, signed): (&[u8], &[(HeaderName, HeaderValue)]),
    length: usize,
) -> pingora::Result<Box<RequestHeader>> {
    let candidate = plan.candidate();
    let endpoint = &candidate.endpoints[plan.place.endpoint];
    let same = to == ask.protocol;
    let accept = match candidate.provider.platform.framing(to) {
        _ if ask.api != Api::Chat => "*/*",
        _ if !ask.envelope.stream || packs(candidate, to) => "application/json",
        Framing::Events => "text/event-stream",
        Framing::Lines => "application/x-ndjson",
        Framing::EventStream => "application/vnd.amazon.eventstream",
    };
    let ours = &candidate.headers[plan.credential.unwrap_or_default()];
    let count = 5 + ours.len() + signed.len() + ask.forwarded.len();
    let mut headers = HeaderMap::with_capacity(count);
    headers.insert(http::header::HOST, endpoint.host.clone());
    let kind = if same {
        ask.content_type.clone()
    } else {
        super::reply::JSON
    };
    headers.insert(http::header::CONTENT_TYPE, kind);
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(http::header::ACCEPT, HeaderValue::from_static(accept));
    const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
    headers.insert(http::header::ACCEPT_ENCODING, IDENTITY);
    // What only the client's own protocol knows stays out of another's request.
    let forwarded = ask.forwarded.iter();
    let forwarded = forwarded.filter(|(name, _)| same || !name.as_str().starts_with("anthropic-"));
    for (name, value) in ours.iter().chain(signed).chain(forwarded) {
        headers.insert(name.clone(), value.clone());
    }
    upstream::head(http::Method::POST, target, headers)
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(http::header::CONTENT_TYPE)?.to_str().ok()
}

/// Returns the provider's headers that go on to the client: an allow-list, because the others name our account,
/// our connection or the provider's cookies.
pub fn passed(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let mut passed = Vec::new();
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

fn wire(failure: Failure) -> Tried {
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
fn unsigned(error: Error) -> Tried {
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

fn broken(message: &'static str, outcome: &'static str) -> Tried {
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
async fn read_error(answer: &mut Answer, timers: &Timeouts, x: &mut Exchange) -> Bytes {
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
fn refused(ask: &Ask<'_>, from: Protocol, status: u16, headers: &HeaderMap, body: Bytes) -> Tried {
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
fn said(body: &[u8]) -> Option<String> {
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
    let body: Body = serde_json::from_slice(body).ok()?;
    let inner = body.error.and_then(|error| match error {
        Inner::Object { message } => message,
        Inner::Text(text) => Some(text),
    });
    let said = inner
        .or(body.message)
        .or_else(|| body.detail.map(|detail| detail.to_string()))?;
    Some(said.chars().take(2000).collect())
}

/// The error of a request that no protocol of this provider can carry.
pub fn not_served(api: Api) -> Error {
    Error::field(
        "model",
        format!("The provider of this model does not serve {}", api.name()),
    )
}

/// Everything that an answer under inspection needs.
struct Hold<'a> {
    ask: &'a Ask<'a>,
    plan: &'a Try<'a>,
    to: Protocol,
    timers: Timeouts,
    outgoing: Outgoing,
    /// Those that go on to the client.
    headers: Vec<(HeaderName, HeaderValue)>,
    left: Option<Allowance>,
    /// As announced by the provider.
    length: Option<usize>,
    status: u16,
    /// The provider's, where it goes on to the client.
    content_type: Option<HeaderValue>,
    busy: Busy,
}

impl Hold<'_> {
    fn won(self, flow: Flow) -> Tried {
        let Outgoing {
            dropped, prefill, ..
        } = self.outgoing;
        let meta = Meta {
            route: self.plan.route.clone(),
            target: self.plan.target,
            protocol: self.to,
            status: self.status,
            headers: self.headers,
            timers: self.timers,
            deadline: self.plan.deadline,
            content_type: self.content_type.unwrap_or(super::reply::JSON),
            usage: None,
            prefill,
            dropped,
            left: self.left,
            busy: Some(self.busy),
            permit: None,
        };
        Tried::Won(Box::new(Won { meta, flow }))
    }

    /// Reads the next piece within the idle timer and the deadline.
    async fn read(&self, answer: &mut Answer, x: &mut Exchange) -> Result<Option<Bytes>, Failure> {
        let started = Instant::now();
        let left = self.plan.deadline.saturating_duration_since(started);
        // Known already, so the clock isn't asked once more.
        let until = started + self.timers.idle.min(left);
        let read = tokio::time::timeout_at(until.into(), answer.read()).await;
        x.waited += started.elapsed();
        read.unwrap_or_else(|_| Err(Failure::timer(Stage::Body, answer.reused)))
    }

    /// Holds a stream until its first semantic event.
    async fn stream(self, mut answer: Answer, x: &mut Exchange) -> Tried {
        let packed = packs(self.plan.candidate(), self.to);
        let mut through = match &self.outgoing.shape {
            Some(shape) if self.ask.watch => {
                Through::translate_watched(self.to, self.ask.protocol, shape)
            }
            Some(shape) => Through::translate(self.to, self.ask.protocol, shape),
            None if self.ask.watch => {
                let shape = self.ask.shape(false);
                Through::watched(self.to, self.outgoing.hide_usage, packed, &shape)
            }
            None if packed => Through::unpack(self.to),
            None => Through::pass(self.to, self.outgoing.hide_usage),
        };
        let mut held = Vec::new();
        let mut raw = Vec::new();
        let mut size = 0;
        let mut ended = false;
        while !through.semantic() && through.failure().is_none() && !ended {
            match self.read(&mut answer, x).await {
                Ok(Some(piece)) => {
                    size += piece.len();
                    if self.ask.prefix.is_some() || (self.ask.keep && through.passes()) {
                        raw.push(piece.clone());
                    }
                    through.feed(piece, &mut held);
                }
                Ok(None) => {
                    ended = true;
                    through.end(&mut held);
                }
                Err(failure) => return wire(failure),
            }
            if size > MOST_HELD || through.events() > MOST_HELD_EVENTS {
                break;
            }
        }
        if let Some((class, message)) = through.failure().filter(|_| !through.semantic()) {
            let lost = event_error(*class, message);
            let outcome = match class {
                FailureClass::Garbage => "garbage",
                FailureClass::Cut => "cut",
                FailureClass::Overloaded
                | FailureClass::RateLimited
                | FailureClass::InvalidRequest
                | FailureClass::Server => "error_event",
            };
            let outcome = if *class == FailureClass::Cut && size == 0 {
                "empty"
            } else {
                outcome
            };
            let judgement = verdict::of_event(*class);
            answer.abandon().await;
            return Tried::Lost {
                lost,
                judgement,
                outcome,
                told: None,
            };
        }
        if ended && !through.finished() {
            let (message, outcome) = match size {
                0 => ("The provider sent an empty stream.", "empty"),
                _ => (
                    "The provider cut its stream before it said anything.",
                    "cut",
                ),
            };
            return broken(message, outcome);
        }
        let answer = if ended {
            answer.release().await;
            None
        } else {
            Some(answer)
        };
        self.won(Flow::Stream {
            answer,
            through: Box::new(through),
            held,
            raw,
        })
    }

    /// Passes on what is no chat: whole and read where it tells what it took, else as it comes.
    async fn task(mut self, mut answer: Answer, events: bool, x: &mut Exchange) -> Tried {
        let api = self.ask.api;
        let asked = self.ask.body;
        if events || api == Api::Speech {
            let usage = api::usage(api, self.to, asked, &[]);
            return match self.read(&mut answer, x).await {
                Ok(Some(held)) => {
                    let tried = self.won(Flow::Long { answer, held });
                    if let Tried::Won(mut won) = tried {
                        won.meta.usage = usage;
                        return Tried::Won(won);
                    }
                    tried
                }
                Ok(None) => broken("The provider sent an empty answer.", "empty"),
                Err(failure) => wire(failure),
            };
        }
        let mut body = BytesMut::new();
        loop {
            match self.read(&mut answer, x).await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break,
                Err(failure) => return wire(failure),
            }
            if body.len() > MOST_TASK {
                answer.abandon().await;
                return broken("The provider's answer is too large.", "garbage");
            }
        }
        answer.release().await;
        let body = body.freeze();
        if body.is_empty() {
            return broken("The provider sent an empty answer.", "empty");
        }
        let shape = self.outgoing.shape.take();
        match several::joined(self.ask, self.to, shape.as_ref(), &[&body]) {
            Ok((written, whole)) => {
                let body = if shape.is_some() { written } else { body };
                self.won(Flow::Whole { body, whole })
            }
            Err(lost) => *lost,
        }
    }

    /// Reads a whole answer, and converts it where the client asked for another protocol or for a stream.
    async fn whole(self, mut answer: Answer, x: &mut Exchange) -> Tried {
        let length = self.length;
        let mut first: Option<Bytes> = None;
        let mut body = BytesMut::new();
        loop {
            match self.read(&mut answer, x).await {
                Ok(Some(piece)) if first.is_none() && body.is_empty() => first = Some(piece),
                Ok(Some(piece)) => {
                    if let Some(first) = first.take() {
                        body.reserve(length.unwrap_or(first.len() * 4).min(MOST_WHOLE));
                        body.extend_from_slice(&first);
                    }
                    body.extend_from_slice(&piece);
                }
                Ok(None) => break,
                Err(failure) => return wire(failure),
            }
            let size = first.as_ref().map_or(body.len(), Bytes::len);
            if size > MOST_WHOLE {
                if self.outgoing.shape.is_some() || self.ask.envelope.stream {
                    answer.abandon().await;
                    return broken(
                        "The provider's answer is too large to translate.",
                        "garbage",
                    );
                }
                let held = first.unwrap_or_else(|| body.freeze());
                return self.won(Flow::Long { answer, held });
            }
        }
        answer.release().await;
        let body = first.unwrap_or_else(|| body.freeze());
        if length.is_some_and(|length| length != body.len()) {
            return broken("The provider cut its answer.", "cut");
        }
        if self.outgoing.shape.is_some() || self.ask.envelope.stream {
            let own = || self.ask.shape(self.ask.wants_usage() || self.ask.keep);
            let shape = self.outgoing.shape.clone().unwrap_or_else(own);
            match convert(&body, self.to, self.ask, &shape) {
                Ok(Converted::Whole(body, whole)) => {
                    return self.won(Flow::Whole { body, whole });
                }
                Ok(Converted::Stream(frames, seen)) => {
                    let flow = Flow::Stream {
                        answer: None,
                        through: Box::new(Through::Made(seen)),
                        held: vec![frames],
                        raw: Vec::new(),
                    };
                    return self.won(flow);
                }
                // What it is instead is found out below.
                Err(_) => {}
            }
        }
        let whole = Box::new(tap::whole(self.to, &body));
        if whole.is_error {
            let lost = event_error(FailureClass::Server, &said(&body).unwrap_or_default());
            let judgement = verdict::of_event(FailureClass::Server);
            return Tried::Lost {
                lost,
                judgement,
                outcome: "error_event",
                told: None,
            };
        }
        if !whole.is_answer {
            let (message, outcome) = match body.len() {
                0 => ("The provider sent an empty answer.", "empty"),
                _ => (
                    "The provider sent something that is not an answer.",
                    "garbage",
                ),
            };
            return broken(message, outcome);
        }
        if self.to == self.ask.protocol && !self.ask.envelope.stream {
            return self.won(Flow::Whole { body, whole });
        }
        broken("The provider sent an answer that can't be read.", "garbage")
    }
}

enum Converted {
    Whole(Bytes, Box<Whole>),
    Stream(Bytes, Box<Seen>),
}

/// Says a whole answer in the client's protocol, as a stream when it asked for one.
fn convert(
    body: &[u8],
    from: Protocol,
    ask: &Ask<'_>,
    shape: &Shape,
) -> crate::error::Result<Converted> {
    let response = protocol::decode_response(from, body, shape)?;
    if ask.envelope.stream {
        let frames = Bytes::from(super::form::stream_of(&response, ask.protocol, shape));
        return Ok(Converted::Stream(frames, Box::new(Seen::of(&response))));
    }
    let written = protocol::encode_response(ask.protocol, &response, shape);
    let whole = Box::new(Whole::of(&response));
    Ok(Converted::Whole(written.into(), whole))
}

/// Makes the error for a failure that came inside a success.
fn event_error(class: FailureClass, message: &str) -> Lost {
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
