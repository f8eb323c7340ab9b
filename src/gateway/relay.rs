//! The answer's way to the client: head, body or stream, timers, pings, and what is known at its end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::ask::Ask;
use super::attempt::{Flow, Meta, Won};
use super::kept::Keep;
use super::reply::{self, Headers, header, header_value};
use super::through::{Seen, Through};
use super::{Exchange, account};
use crate::codec::json;
use crate::codec::splice::Edits;
use crate::error::{Error, Kind};
use crate::limit::Permit;
use crate::observe::record::{CacheOutcome, Mode};
use crate::protocol::chat::Finish;
use crate::protocol::event::FailureClass;
use crate::protocol::{self, Protocol, tap};
use crate::provider::cost;
use crate::upstream::{self, Stage};

/// A stream silent for this long gets a ping, so that proxies in between don't close it.
const PING_EVERY: Duration = Duration::from_secs(15);
/// A client that takes no bytes for this long is gone.
const WRITE_STALL: Duration = Duration::from_secs(60);

/// A silent stream is looked after this often: is the process about to stop?
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Before the process stops, streams that are still running are ended with an error in their protocol.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What goes with an answer.
pub struct Delivery<'a> {
    pub ask: &'a Ask<'a>,
    pub permit: Option<&'a mut Permit>,
    pub limits: Headers,
    pub keep: Option<Keep>,
}

/// Adds the headers that name who answered.
pub fn name(
    headers: &mut Headers,
    named: (HeaderValue, HeaderValue),
    attempts: usize,
    cache: CacheOutcome,
) {
    headers.push(header("x-strait-provider", named.0));
    headers.push(header("x-strait-model", named.1));
    headers.push(header("x-strait-attempts", HeaderValue::from(attempts)));
    headers.push(header(
        "x-strait-cache",
        HeaderValue::from_static(cache.as_str()),
    ));
}

/// Returns the header that tells the time spent in the gateway itself so far.
pub fn overhead(x: &Exchange) -> (http::HeaderName, HeaderValue) {
    let own = x.started.elapsed().saturating_sub(x.waited);
    header(
        "x-strait-overhead-us",
        HeaderValue::from(u64::try_from(own.as_micros()).unwrap_or(u64::MAX)),
    )
}

impl Delivery<'_> {
    /// Sends `won` to the client and settles what it took.
    pub async fn forward(
        self,
        won: Won,
        session: &mut Session,
        x: &mut Exchange,
    ) -> pingora::Result<()> {
        let began = Instant::now();
        let Won { meta, flow } = won;
        let candidate = meta.candidate();
        x.record.provider = candidate.provider.name.clone();
        x.record.model = candidate.model.to_string();
        x.record.model_known = &*candidate.label != "other";
        x.record.upstream_protocol = meta.protocol.name();
        x.record.dropped = meta.dropped.clone();
        x.record.mode = match (candidate.provider.demo, meta.protocol == self.ask.protocol) {
            (true, _) => Mode::Demo,
            (false, true) => Mode::Pass,
            (false, false) => Mode::Translate,
        };
        session.set_write_timeout(Some(WRITE_STALL));
        x.writing = Some(began);
        match flow {
            Flow::Whole { body, whole } => self.whole(&meta, body, whole, session, x).await,
            Flow::Long { answer, held } => self.long(&meta, answer, held, session, x).await,
            Flow::Stream {
                answer,
                through,
                held,
                raw,
            } => {
                self.stream(&meta, answer, *through, held, raw, session, x)
                    .await
            }
        }
    }

    fn headers(&mut self, meta: &Meta, x: &Exchange) -> Headers {
        let mut headers = std::mem::take(&mut self.limits);
        let limited = !headers.is_empty();
        // With limits of our own the provider's would contradict them.
        let ours = |name: &http::HeaderName| limited && name.as_str().starts_with("x-ratelimit-");
        headers.extend(meta.headers.iter().filter(|(name, _)| !ours(name)).cloned());
        let candidate = meta.candidate();
        let attempts = x.record.attempts.len();
        name(
            &mut headers,
            candidate.named.clone(),
            attempts,
            x.record.cache,
        );
        headers.push(overhead(x));
        headers
    }

    fn settle(&mut self, tokens: u64) {
        if let Some(permit) = &mut self.permit {
            permit.settle(tokens);
        }
    }

    async fn whole(
        mut self,
        meta: &Meta,
        mut body: Bytes,
        whole: tap::Whole,
        session: &mut Session,
        x: &mut Exchange,
    ) -> pingora::Result<()> {
        let taken = account::Taken {
            usage: whole.usage,
            output_chars: body.len() as u64,
            complete: true,
        };
        let tokens = account::provider(x, self.ask, meta, taken);
        self.settle(tokens);
        x.record.finish = whole.finish.map(finish_name);
        if let Some(keep) = self.keep.take() {
            let complete = whole.finish.is_some() && !whole.truncated;
            keep.whole(body.clone(), meta, x, complete);
        }
        let pico = x.record.cost_pico.unwrap_or(0);
        if self.ask.envelope.include_cost {
            body = with_cost(body, pico);
        }
        let mut headers = self.headers(meta, x);
        headers.push((http::header::CONTENT_TYPE, reply::JSON));
        if !x.record.unpriced {
            headers.push(header("x-strait-cost-usd", header_value(&cost::usd(pico))));
        }
        x.record.ttft = Some(x.started.elapsed());
        reply::whole(session, x, meta.status, headers, body).await
    }

    /// Passes on an answer too long to hold. Its usage is not read; it is estimated and marked so.
    async fn long(
        mut self,
        meta: &Meta,
        mut answer: upstream::Answer,
        held: Bytes,
        session: &mut Session,
        x: &mut Exchange,
    ) -> pingora::Result<()> {
        let mut headers = self.headers(meta, x);
        headers.push((http::header::CONTENT_TYPE, reply::JSON));
        begin(session, x, meta.status, headers).await?;
        let mut next = Some(held);
        let mut size = 0;
        let outcome = loop {
            let Some(piece) = next.take() else {
                break Ok(());
            };
            size += piece.len() as u64;
            if session
                .write_response_body(Some(piece), false)
                .await
                .is_err()
            {
                break Err(Error::new(
                    Kind::ClientGone,
                    "The client left during the answer.",
                ));
            }
            let left = meta.deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(meta.timers.idle.min(left), answer.read()).await {
                Ok(Ok(piece)) => next = piece,
                Ok(Err(_)) => {
                    break Err(Error::new(
                        Kind::UpstreamBroken,
                        "The provider cut its answer.",
                    ));
                }
                Err(_) => {
                    break Err(Error::new(
                        Kind::Timeout,
                        "The provider went silent in its answer (timer: idle).",
                    ));
                }
            }
        };
        x.record.response_bytes = size;
        let taken = account::Taken {
            usage: None,
            output_chars: size,
            complete: false,
        };
        let tokens = account::provider(x, self.ask, meta, taken);
        self.settle(tokens);
        match outcome {
            Ok(()) => {
                answer.release().await;
                session.write_response_body(None, true).await
            }
            Err(error) => {
                answer.abandon().await;
                x.fail(&error);
                // The head is out: only a broken connection can tell the client that the rest is missing.
                session.shutdown().await;
                Ok(())
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one stream, named once"
    )]
    async fn stream(
        mut self,
        meta: &Meta,
        mut answer: Option<upstream::Answer>,
        through: Through,
        held: Vec<Bytes>,
        raw: Vec<Bytes>,
        session: &mut Session,
        x: &mut Exchange,
    ) -> pingora::Result<()> {
        let mut headers = self.headers(meta, x);
        headers.push((
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        ));
        headers.push((
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache"),
        ));
        // nginx and its kin hold streams back without this.
        headers.push(header("x-accel-buffering", HeaderValue::from_static("no")));
        x.record.ttft = Some(x.started.elapsed());
        let _open = x.core.metrics.open_stream();
        let passed = meta.protocol == self.ask.protocol;
        let hide = self.ask.keep && !passed && hides(self.ask);
        let mut pump = Pump {
            through,
            shown: hide.then(|| tap::Tap::new(self.ask.protocol, true, super::through::MOST_FRAME)),
            keep: self.keep.take(),
            passed,
            last_read: Instant::now(),
            last_write: Instant::now(),
            gone: begin(session, x, meta.status, headers).await.is_err(),
        };
        for piece in &raw {
            pump.keep_raw(piece);
        }
        let outcome = pump.run(&mut answer, held, meta, session, x).await;
        let seen = pump.through.seen();
        let Seen {
            usage,
            output_chars,
            ..
        } = seen.clone();
        let taken = account::Taken {
            usage,
            output_chars,
            complete: outcome.is_ok(),
        };
        let tokens = account::provider(x, self.ask, meta, taken);
        self.settle(tokens);
        x.record.finish = seen.finish.map(finish_name);
        if let Some(answer) = answer {
            match outcome {
                Ok(()) => answer.release().await,
                Err(_) => answer.abandon().await,
            }
        }
        pump.finish(outcome, &seen, meta, self.ask, session, x)
            .await
    }
}

/// Whether the client must not see the usage chunk that we asked for.
fn hides(ask: &Ask<'_>) -> bool {
    ask.protocol == Protocol::OpenaiChat && !ask.envelope.include_usage
}

/// A stream between provider and client.
struct Pump {
    through: Through,
    /// Hides the usage chunk from the client where the kept stream must have it.
    shown: Option<tap::Tap>,
    keep: Option<Keep>,
    passed: bool,
    last_read: Instant,
    last_write: Instant,
    gone: bool,
}

/// What ended the wait for the next piece.
enum Woke {
    Piece(Result<Option<Bytes>, upstream::Failure>),
    ClientLeft,
    Timer,
}

impl Pump {
    /// Moves pieces until the stream ends; the error is for the end of the client's stream.
    async fn run(
        &mut self,
        answer: &mut Option<upstream::Answer>,
        held: Vec<Bytes>,
        meta: &Meta,
        session: &mut Session,
        x: &mut Exchange,
    ) -> Result<(), Error> {
        let mut out = Vec::new();
        self.give(held, session, x).await;
        let Some(answer) = answer else {
            return self.check();
        };
        let wake = tokio::time::sleep(LOOK_EVERY.min(meta.timers.idle));
        tokio::pin!(wake);
        loop {
            if self.gone && !self.keep.as_ref().is_some_and(Keep::has_followers) {
                return Err(Error::new(
                    Kind::ClientGone,
                    "The client left during the answer.",
                ));
            }
            self.check()?;
            let woke = tokio::select! {
                biased;
                read = answer.read() => Woke::Piece(read),
                _ = session.as_downstream_mut().read_body_or_idle(true), if !self.gone => Woke::ClientLeft,
                () = &mut wake => Woke::Timer,
            };
            match woke {
                Woke::Piece(Ok(Some(piece))) => {
                    let now = Instant::now();
                    x.record.inter_token.observe(now - self.last_read);
                    x.record.chunks = x.record.chunks.saturating_add(1);
                    self.last_read = now;
                    if self.passed {
                        self.keep_raw(&piece);
                    }
                    self.through.feed(piece, &mut out);
                    self.give(std::mem::take(&mut out), session, x).await;
                }
                Woke::Piece(Ok(None)) => {
                    self.through.end(&mut out);
                    self.give(std::mem::take(&mut out), session, x).await;
                    self.check()?;
                    if self.through.finished() {
                        return Ok(());
                    }
                    return Err(Error::new(
                        Kind::UpstreamBroken,
                        "The provider cut its stream.",
                    ));
                }
                Woke::Piece(Err(failure)) => {
                    // Some close without ceremony after the end: what was whole stays whole.
                    self.through.end(&mut out);
                    self.give(std::mem::take(&mut out), session, x).await;
                    if self.through.finished() {
                        return Ok(());
                    }
                    let message = if failure.stage == Stage::Body {
                        "The provider cut its stream."
                    } else {
                        "The provider failed."
                    };
                    return Err(Error::new(Kind::UpstreamBroken, message).with_cause(failure.cause));
                }
                Woke::ClientLeft => self.gone = true,
                Woke::Timer => {
                    let now = Instant::now();
                    if now >= meta.deadline {
                        return Err(Error::new(
                            Kind::Timeout,
                            "The total time for this request is over (timer: total).",
                        ));
                    }
                    let drain = **x.core.drain.load();
                    if drain.is_some_and(|until| until.saturating_duration_since(now) < LAST_WORDS)
                    {
                        return Err(Error::new(Kind::Overloaded, "The gateway is restarting."));
                    }
                    if now - self.last_read >= meta.timers.idle {
                        return Err(Error::new(
                            Kind::Timeout,
                            "The provider went silent in its stream (timer: idle).",
                        ));
                    }
                    if now - self.last_write >= PING_EVERY
                        && self.through.at_boundary()
                        && !self.gone
                    {
                        let ping = Bytes::from_static(protocol::ping_frame(x.protocol));
                        self.write(ping, session, x).await;
                    }
                    let next = (self.last_read + meta.timers.idle).min(meta.deadline);
                    let ping = self.last_write.max(now - PING_EVERY / 2) + PING_EVERY;
                    let next = next
                        .min(ping)
                        .min(now + LOOK_EVERY)
                        .max(now + Duration::from_millis(1));
                    wake.as_mut().reset(next.into());
                }
            }
        }
    }

    /// Returns the failure that the provider's stream has told, if any.
    fn check(&self) -> Result<(), Error> {
        let Some((class, message)) = self.through.failure() else {
            return Ok(());
        };
        if self.through.finished() {
            return Ok(());
        }
        let kind = match class {
            FailureClass::Overloaded => Kind::UpstreamUnavailable,
            FailureClass::RateLimited => Kind::RateLimited,
            FailureClass::InvalidRequest => Kind::InvalidRequest,
            FailureClass::Server | FailureClass::Garbage | FailureClass::Cut => {
                Kind::UpstreamBroken
            }
        };
        let message: String = message.chars().take(2000).collect();
        Err(Error::new(kind, message))
    }

    fn keep_raw(&mut self, piece: &Bytes) {
        if let Some(keep) = &mut self.keep {
            keep.add(piece);
        }
    }

    /// Gives pieces to the client, and keeps them where what is kept is what we wrote.
    async fn give(&mut self, pieces: Vec<Bytes>, session: &mut Session, x: &mut Exchange) {
        for piece in pieces {
            if !self.passed {
                self.keep_raw(&piece);
            }
            match &mut self.shown {
                None => self.write(piece, session, x).await,
                Some(tap) => {
                    let mut shown = Vec::new();
                    tap.feed(piece, &mut shown);
                    for piece in shown {
                        self.write(piece, session, x).await;
                    }
                }
            }
        }
    }

    async fn write(&mut self, piece: Bytes, session: &mut Session, x: &mut Exchange) {
        if self.gone || piece.is_empty() {
            return;
        }
        x.record.response_bytes += piece.len() as u64;
        // A client that doesn't read holds us here, and so the provider: nothing grows.
        if session
            .write_response_body(Some(piece), false)
            .await
            .is_err()
        {
            self.gone = true;
        }
        self.last_write = Instant::now();
    }

    /// Ends the client's stream: properly, or with an error in its protocol, never in silence.
    async fn finish(
        mut self,
        outcome: Result<(), Error>,
        seen: &Seen,
        meta: &Meta,
        ask: &Ask<'_>,
        session: &mut Session,
        x: &mut Exchange,
    ) -> pingora::Result<()> {
        if let Err(error) = &outcome {
            if error.kind == Kind::ClientGone {
                x.record.status = error.kind.status();
            }
            x.fail(error);
            if let Some(cause) = &error.cause {
                tracing::debug!(id = x.record.id, cause, "stream broken");
            }
        }
        if let Some(keep) = self.keep.take() {
            match &outcome {
                Ok(()) => {
                    let complete =
                        seen.finished && seen.finish.is_none_or(|finish| finish != Finish::Length);
                    keep.stream(meta, x, complete);
                }
                Err(error) => {
                    let body = protocol::error_body(ask.protocol, error, ask.request_id);
                    keep.refuse(error.kind.status(), error.kind.code(), body.into(), None);
                }
            }
        }
        if self.gone {
            x.record.status = Kind::ClientGone.status();
            x.record.error.get_or_insert(Kind::ClientGone.code());
            session.shutdown().await;
            return Ok(());
        }
        match outcome {
            Ok(()) => {
                if ask.protocol == Protocol::OpenaiChat && !self.through.marked_done() {
                    // The answer is whole, but its provider sends no end marker; clients wait for one.
                    self.write(Bytes::from_static(b"data: [DONE]\n\n"), session, x)
                        .await;
                }
            }
            Err(error) => {
                if !self.through.at_boundary() {
                    self.write(Bytes::from_static(b"\n\n"), session, x).await;
                }
                let frame = protocol::error_frame(ask.protocol, &error, ask.request_id);
                self.write(frame.into(), session, x).await;
            }
        }
        session.write_response_body(None, true).await
    }
}

/// Writes the head of an answer whose length is not known.
async fn begin(
    session: &mut Session,
    x: &mut Exchange,
    status: u16,
    headers: Headers,
) -> pingora::Result<()> {
    let mut head = ResponseHeader::build_no_case(status, Some(headers.len() + 3))?;
    for (name, value) in headers {
        head.append_header(name, value)?;
    }
    reply::name_request(&mut head, x)?;
    match session.req_header().version {
        http::Version::HTTP_11 => {
            head.insert_header(
                http::header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            )?;
        }
        http::Version::HTTP_10 => session.set_keepalive(None),
        _ => {}
    }
    x.commit(status);
    session.write_response_header(Box::new(head), false).await
}

/// Returns `body` with `cost` and `cost_details` in its `usage`, for a client that asked.
fn with_cost(body: Bytes, pico: u64) -> Bytes {
    let mut members = Vec::new();
    if json::members(&body, usize::MAX, &mut members).is_err() {
        return body;
    }
    let usage = members
        .iter()
        .find(|member| json::key(&body, member) == "usage");
    let Some(usage) = usage
        .map(|member| member.value.clone())
        .filter(|range| body[range.clone()].first() == Some(&b'{'))
    else {
        return body;
    };
    let inner = body.slice(usage.clone());
    let usd = cost::usd(pico);
    let mut edits = Edits::new();
    edits.insert_member(&inner, "cost", usd.as_bytes());
    edits.insert_member(
        &inner,
        "cost_details",
        format!("{{\"upstream_inference_cost\":{usd}}}").as_bytes(),
    );
    let mut outer = Edits::new();
    outer.replace(usage, edits.apply(&inner).to_vec());
    outer.apply(&body)
}

/// Returns the word that records use.
pub fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::StopSequence => "stop_sequence",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
        Finish::Refusal => "refusal",
        Finish::Pause => "pause",
        Finish::ContextWindow => "context_window",
        Finish::Other => "other",
    }
}
