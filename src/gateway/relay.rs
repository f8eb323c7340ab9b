//! The answer's way to the client: head, body or stream, timers, pings, and what is known at its end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::ask::Ask;
use super::continuation::Rest;
use super::kept::Keep;
use super::outcome::{Flow, Meta, Won};
use super::pump::Pump;
use super::reply::{self, Headers, header_value};
use super::responses::shown;
use super::storing::Storing;
use super::through::{Seen, Through};
use super::{Exchange, account, costed, dress};
use crate::error::{Error, Kind};
use crate::limit::overload::Slot;
use crate::limit::{Amount, Permit};
use crate::observe::record::{CacheOutcome, Mode};
use crate::protocol::api::{self, Api};
use crate::protocol::chat::Finish;
use crate::protocol::tap;
use crate::protocol::{self, Shape};
use crate::provider::cost;
use crate::upstream;

/// A client that takes no bytes for this long is gone.
const WRITE_STALL: Duration = Duration::from_secs(60);

/// Of an answer that passes unheld so much is looked at when it is over: its last event tells what it took.
const MOST_TAIL: usize = 16 << 10;

/// What goes with an answer.
pub struct Delivery<'a> {
    pub ask: &'a Ask<'a>,
    /// Who may go on with a stream that breaks off.
    pub rest: Option<Rest<'a>>,
    pub permit: Option<Permit>,
    /// Its place among all in flight.
    pub slot: Option<Slot>,
    pub limits: Headers,
    pub keep: Option<Keep>,
    pub storing: Option<Storing>,
    /// The client has left, and others wait for the answer.
    pub gone: bool,
}

const PROVIDER: HeaderName = HeaderName::from_static("x-strait-provider");
const MODEL: HeaderName = HeaderName::from_static("x-strait-model");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-strait-attempts");
const CACHE: HeaderName = HeaderName::from_static("x-strait-cache");
const OVERHEAD: HeaderName = HeaderName::from_static("x-strait-overhead-us");
const DEGRADED: HeaderName = HeaderName::from_static("x-strait-degraded");
const COST: HeaderName = HeaderName::from_static("x-strait-cost-usd");
const ARM: HeaderName = HeaderName::from_static("x-strait-arm");
const ACCEL: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Adds the headers that name who answered.
pub fn name(
    headers: &mut Headers,
    named: (HeaderValue, HeaderValue),
    attempts: usize,
    cache: CacheOutcome,
) {
    headers.push((PROVIDER, named.0));
    headers.push((MODEL, named.1));
    headers.push((ATTEMPTS, HeaderValue::from(attempts)));
    headers.push((CACHE, HeaderValue::from_static(cache.as_str())));
}

/// Returns the header that tells the time spent in the gateway itself so far.
pub fn overhead(x: &Exchange, now: Instant) -> (HeaderName, HeaderValue) {
    let own = (now - x.started).saturating_sub(x.waited);
    let micros = u64::try_from(own.as_micros()).unwrap_or(u64::MAX);
    (OVERHEAD, HeaderValue::from(micros))
}

/// Returns the header of an answer by the model for outages.
pub fn degraded() -> (http::HeaderName, HeaderValue) {
    (DEGRADED, HeaderValue::from_static("true"))
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
        let Won { mut meta, flow } = won;
        note(x, self.ask, &meta);
        session.set_write_timeout(Some(WRITE_STALL));
        x.writing = Some(began);
        match flow {
            Flow::Whole { body, whole } => self.whole(&mut meta, body, *whole, session, x).await,
            // Boxed: the futures of what is long are larger than the rest of a request.
            Flow::Long { answer, held } => {
                Box::pin(self.long(&mut meta, answer, held, session, x)).await
            }
            Flow::Stream {
                answer,
                through,
                held,
                raw,
            } => {
                let stream = self.stream(&mut meta, answer, *through, held, raw, session, x);
                Box::pin(stream).await
            }
        }
    }

    /// Returns the headers of an answer whose first byte is sent `now`.
    fn headers(&mut self, meta: &Meta, now: Instant, x: &mut Exchange) -> Headers {
        x.record.ttft = Some(now - x.started);
        let mut headers = std::mem::take(&mut self.limits);
        let limited = !headers.is_empty();
        // With limits of our own the provider's would contradict them.
        // With room for the names of who answered and what else follows.
        headers.reserve(meta.headers.len() + 12);
        let ours = |name: &HeaderName| limited && name.as_str().starts_with("x-ratelimit-");
        headers.extend(meta.headers.iter().filter(|(name, _)| !ours(name)).cloned());
        let candidate = meta.candidate();
        let attempts = x.record.attempts.len();
        name(
            &mut headers,
            candidate.named.clone(),
            attempts,
            x.record.cache,
        );
        headers.push(overhead(x, now));
        if x.record.degraded {
            headers.push(degraded());
        }
        if let Some(arm) = &meta.route.leaves[meta.target].arm {
            headers.push((ARM, header_value(arm)));
        }
        if let Some(warning) = &candidate.warning {
            headers.push((http::header::WARNING, warning.clone()));
        }
        headers
    }

    /// Settles the limits and gives the permit back: before the last byte, because who has the whole answer may ask
    /// again at once.
    ///
    /// `last` is what who answered last took, `all` what the request did.
    fn settle(&mut self, last: Amount, all: Amount, meta: &mut Meta) {
        self.slot = None;
        if let Some(mut permit) = meta.permit.take() {
            permit.settle(last);
        }
        if let Some(mut permit) = self.permit.take() {
            permit.settle(all);
        }
    }

    async fn whole(
        mut self,
        meta: &mut Meta,
        mut body: Bytes,
        whole: tap::Whole,
        session: &mut Session,
        x: &mut Exchange,
    ) -> pingora::Result<()> {
        let taken = account::Taken {
            output_chars: match &whole.usage {
                Some(_) => 0,
                None => said(self.ask, &body),
            },
            usage: whole.usage,
            model: whole.model,
            complete: true,
            generation: None,
        };
        let amount = account::provider(x, self.ask, meta, taken);
        self.settle(amount, amount, meta);
        x.record.finish = whole.finish.map(finish_name);
        if let Some(previous) = self.ask.previous {
            body = shown::whole(body, previous);
        }
        if let Some(storing) = &self.storing {
            storing.keep(body.clone(), x);
        }
        if let Some(keep) = self.keep.take() {
            let complete = whole.finish.is_some() && !whole.truncated;
            keep.whole(body.clone(), meta, x, complete);
        }
        let pico = x.record.cost_pico.unwrap_or(0);
        if self.ask.envelope.include_cost {
            body = costed::whole(body, pico);
        }
        meta.busy = None;
        if self.gone {
            return left(session, x).await;
        }
        let mut headers = self.headers(meta, Instant::now(), x);
        headers.push((http::header::CONTENT_TYPE, meta.content_type.clone()));
        if !x.record.unpriced {
            headers.push((COST, header_value(&cost::usd(pico))));
        }
        reply::whole(session, x, meta.status, headers, body).await
    }

    /// Passes on an answer too long to hold, or one that is no text. A chat's usage is not read then; it is estimated
    /// and marked so.
    async fn long(
        mut self,
        meta: &mut Meta,
        mut answer: upstream::Answer,
        held: Bytes,
        session: &mut Session,
        x: &mut Exchange,
    ) -> pingora::Result<()> {
        let mut headers = self.headers(meta, Instant::now(), x);
        headers.push((http::header::CONTENT_TYPE, meta.content_type.clone()));
        begin(session, x, meta.status, headers).await?;
        let task = self.ask.api != Api::Chat;
        let mut tail = Vec::new();
        let mut next = Some(held);
        let mut size = 0;
        let outcome = loop {
            let Some(piece) = next.take() else {
                break Ok(());
            };
            size += piece.len() as u64;
            x.tell(&piece);
            if task {
                let spare = (tail.len() + piece.len()).saturating_sub(MOST_TAIL);
                tail.drain(..spare.min(tail.len()));
                tail.extend_from_slice(&piece[piece.len().saturating_sub(MOST_TAIL)..]);
            }
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
            let reading = tokio::time::timeout(meta.timers.idle.min(left), answer.read());
            // A read that is always ready would never meet the timeout.
            let read = match left {
                Duration::ZERO => None,
                _ => reading.await.ok(),
            };
            match read {
                Some(Ok(piece)) => next = piece,
                Some(Err(_)) => {
                    break Err(Error::new(
                        Kind::UpstreamBroken,
                        "The provider cut its answer.",
                    ));
                }
                None => {
                    let message = if left < meta.timers.idle {
                        "The total time for this request is over (timer: total)."
                    } else {
                        "The provider went silent in its answer (timer: idle)."
                    };
                    break Err(Error::new(Kind::Timeout, message));
                }
            }
        };
        x.record.response_bytes = size;
        let told = || api::usage(self.ask.api, meta.protocol, self.ask.body, &tail);
        let mut usage = task.then(told).flatten().or_else(|| meta.usage.take());
        if let Some(usage) = usage.as_mut().filter(|usage| usage.total() == 0)
            && self.ask.api == Api::Speech
        {
            usage.duration = api::sound::length(self.ask.body, &tail, size).unwrap_or_default();
        }
        let taken = account::Taken {
            complete: usage.is_some(),
            usage,
            model: None,
            output_chars: size,
            generation: None,
        };
        let amount = account::provider(x, self.ask, meta, taken);
        self.settle(amount, amount, meta);
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

    async fn stream(
        mut self,
        meta: &mut Meta,
        mut answer: Option<upstream::Answer>,
        through: Through,
        held: Vec<Bytes>,
        raw: Vec<Bytes>,
        session: &mut Session,
        x: &mut Exchange,
    ) -> pingora::Result<()> {
        let mut headers = self.headers(meta, Instant::now(), x);
        headers.push((
            http::header::CONTENT_TYPE,
            dress::media_type(self.ask.protocol, self.ask.coat),
        ));
        headers.push((
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache"),
        ));
        // nginx and its kin hold streams back without this.
        headers.push((ACCEL, HeaderValue::from_static("no")));
        let _open = x.core.metrics.open_stream();
        let passed = through.passes();
        let hide = self.ask.keep && !passed && hides(self.ask);
        let gone = self.gone || begin(session, x, meta.status, headers).await.is_err();
        let shown =
            hide.then(|| tap::Tap::new(self.ask.protocol, true, super::through::MOST_FRAME));
        let mut pump = Pump::new(
            through,
            shown,
            self.keep.take(),
            self.storing.take(),
            passed,
            self.ask,
            gone,
        );
        for piece in &raw {
            pump.keep_raw(piece);
        }
        let mut began = Instant::now();
        let mut outcome = pump.run(&mut answer, held, meta, session, x).await;
        let mut spent = None;
        if let Some(rest) = self.rest.filter(|_| outcome.is_err()) {
            let streams = (&mut answer, &mut *meta, &mut began);
            let going = rest.go_on(self.ask, &mut pump, outcome, streams, session, x);
            (outcome, spent) = Box::pin(going).await;
        }
        if let Err(error) = &mut outcome {
            meta.candidate().provider.mask(error);
        }
        let seen = pump.through.seen();
        let Seen {
            usage,
            model,
            output_chars,
            ..
        } = seen.clone();
        let taken = account::Taken {
            usage,
            model,
            output_chars,
            complete: outcome.is_ok(),
            generation: Some(began.elapsed()),
        };
        if let Err(error) = &outcome
            && broke(error, meta)
        {
            meta.candidate()
                .stats
                .failed(began.elapsed(), Instant::now());
        }
        let last = account::provider(x, self.ask, meta, taken);
        let all = match spent {
            Some(spent) => spent.add_to(last, x),
            None => last,
        };
        self.settle(last, all, meta);
        meta.busy = None;
        x.record.finish = seen.finish.map(finish_name);
        if let Some(answer) = answer {
            match &outcome {
                Ok(()) => answer.release().await,
                Err(_) => answer.abandon().await,
            }
        }
        pump.finish(outcome, &seen, meta, self.ask, session, x)
            .await
    }
}

/// Returns the bytes of what a whole answer says, for who must estimate what it took: all of it, where that can't be
/// read.
pub fn said(ask: &Ask<'_>, body: &[u8]) -> u64 {
    let all = body.len() as u64;
    if ask.api != Api::Chat {
        return all;
    }
    let answer = protocol::decode_response(ask.protocol, body, &Shape::default());
    answer.map_or(all, |answer| Seen::of(&answer).output_chars)
}

/// Returns whether a stream ended by its provider's fault.
fn broke(error: &Error, meta: &Meta) -> bool {
    let late = error.kind == Kind::Timeout && Instant::now() < meta.deadline;
    late || matches!(
        error.kind,
        Kind::UpstreamBroken | Kind::UpstreamUnavailable | Kind::RateLimited
    )
}

/// Notes who answered.
pub fn note(x: &mut Exchange, ask: &Ask<'_>, meta: &Meta) {
    let candidate = meta.candidate();
    x.record.provider = candidate.provider.name.clone();
    x.record.model = candidate.model.to_string();
    x.record.model_known = &*candidate.label != "other";
    x.record.upstream_protocol = meta.protocol.name();
    x.record.dropped = meta.dropped.clone();
    x.record.mode = match (candidate.provider.demo, meta.protocol == ask.protocol) {
        (true, _) => Mode::Demo,
        (false, true) => Mode::Pass,
        (false, false) => Mode::Translate,
    };
    if let Some(arms) = &mut x.record.arms {
        arms.answered = Some(meta.route.leaves[meta.target].arm.clone());
    }
}

/// Notes that the client had left before its answer came, which others were waiting for.
async fn left(session: &mut Session, x: &mut Exchange) -> pingora::Result<()> {
    x.fail(&Error::new(
        Kind::ClientGone,
        "The client left before the answer.",
    ));
    session.shutdown().await;
    Ok(())
}

/// Whether the client must not see the usage chunk that we asked for.
fn hides(ask: &Ask<'_>) -> bool {
    ask.protocol.asks_for_usage() && !ask.wants_usage()
}

/// Writes the head of an answer whose length is not known.
async fn begin(
    session: &mut Session,
    x: &mut Exchange,
    status: u16,
    headers: Headers,
) -> pingora::Result<()> {
    let mut head = reply::head(status, headers, x)?;
    match session.req_header().version {
        http::Version::HTTP_11 => {
            let chunked = HeaderValue::from_static("chunked");
            head.headers
                .insert(http::header::TRANSFER_ENCODING, chunked);
        }
        http::Version::HTTP_10 => session.set_keepalive(None),
        _ => {}
    }
    x.commit(status);
    let head = ResponseHeader::from(head);
    session.write_response_header(Box::new(head), false).await
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
