//! A stream between provider and client: pieces, timers, pings, and its end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::proxy::Session;

use super::ask::Ask;
use super::dress::Dress;
use super::kept::Keep;
use super::outcome::Meta;
use super::responses::Shown;
use super::storing::{Capture, Storing};
use super::through::{MOST_FRAME, Seen, Through};
use super::{Exchange, account, costed};
use crate::error::{Error, Kind};
use crate::protocol::chat::Finish;
use crate::protocol::event::FailureClass;
use crate::protocol::{self, Protocol, tap};
use crate::upstream::{self, Stage};

/// A stream silent for this long gets a ping, so that proxies in between don't close it.
const PING_EVERY: Duration = Duration::from_secs(15);
/// A silent stream is looked after this often: is the process about to stop?
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Before the process stops, streams that are still running are ended with an error in their protocol.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A stream between provider and client.
pub struct Pump {
    pub through: Through,
    /// Hides the usage chunk from the client where the kept stream must have it.
    shown: Option<tap::Tap>,
    keep: Option<Keep>,
    storing: Option<(Storing, Capture)>,
    /// Says what an answer goes on from, where its provider doesn't know.
    goes_on: Option<Box<Shown>>,
    passed: bool,
    include_cost: bool,
    /// The service tier that was asked for, where the cost is to be told.
    tier: Option<Box<str>>,
    dress: Dress,
    last_read: Instant,
    last_write: Instant,
    gone: bool,
    /// What attempts that broke off before cost.
    spent_pico: u64,
}

/// What ended the wait for the next piece.
enum Woke {
    Piece(Result<Option<Bytes>, upstream::Failure>),
    ClientLeft,
    Timer,
}

impl Pump {
    pub fn new(
        through: Through,
        shown: Option<tap::Tap>,
        keep: Option<Keep>,
        storing: Option<Storing>,
        passed: bool,
        ask: &Ask<'_>,
        gone: bool,
    ) -> Self {
        let now = Instant::now();
        Self {
            through,
            shown,
            keep,
            storing: storing.map(|storing| (storing, Capture::new())),
            goes_on: ask
                .previous
                .filter(|_| passed)
                .map(|previous| Box::new(Shown::new(previous, MOST_FRAME))),
            passed,
            include_cost: ask.envelope.include_cost,
            tier: ask
                .envelope
                .include_cost
                .then(|| account::asked_tier(ask))
                .flatten(),
            dress: Dress::new(ask.coat),
            last_read: now,
            last_write: now,
            gone,
            spent_pico: 0,
        }
    }

    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Notes that the client has left.
    pub fn leave(&mut self) {
        self.gone = true;
    }

    /// Sends a ping; false when the client has left.
    pub async fn ping(&mut self, protocol: Protocol, session: &mut Session) -> bool {
        let ping = self
            .dress
            .put(Bytes::from_static(protocol::ping_frame(protocol)));
        if !ping.is_empty()
            && session
                .write_response_body(Some(ping), false)
                .await
                .is_err()
        {
            self.gone = true;
        }
        self.last_write = Instant::now();
        !self.gone
    }

    /// Goes on with what another attempt gives. An answer of several hands is not kept: who waits for it asks anew.
    pub fn go_on(&mut self, through: Through, spent_pico: u64) {
        self.through = through;
        self.spent_pico = spent_pico;
        self.keep = None;
        self.passed = false;
        self.last_read = Instant::now();
    }

    /// Moves pieces until the stream ends; the error is for the end of the client's stream.
    pub async fn run(
        &mut self,
        answer: &mut Option<upstream::Answer>,
        held: Vec<Bytes>,
        meta: &Meta,
        session: &mut Session,
        x: &mut Exchange,
    ) -> Result<(), Error> {
        let mut out = Vec::new();
        self.give(held, meta, session, x).await;
        let Some(answer) = answer else {
            return self.check();
        };
        let wake = tokio::time::sleep(LOOK_EVERY.min(meta.timers.idle));
        tokio::pin!(wake);
        let mut looked = Instant::now();
        // Since when the provider is waited for: while a slow client took its time, the provider was held back.
        let mut waiting = looked;
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
                    self.give(std::mem::take(&mut out), meta, session, x).await;
                    // Where there is always a next piece, the timer never gets its turn.
                    waiting = self.last_write.max(now);
                    if waiting >= meta.deadline || waiting - looked >= LOOK_EVERY {
                        looked = waiting;
                        if let Some(over) = self.over(waiting, waiting, meta, x) {
                            return over;
                        }
                    }
                }
                Woke::Piece(Ok(None)) => {
                    self.through.end(&mut out);
                    self.give(std::mem::take(&mut out), meta, session, x).await;
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
                    self.give(std::mem::take(&mut out), meta, session, x).await;
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
                    // The client has all there is: a provider that leaves its body open is not waited for.
                    if self.through.marked_done() {
                        return Ok(());
                    }
                    looked = now;
                    if let Some(over) = self.over(now, waiting, meta, x) {
                        return over;
                    }
                    if now - self.last_write >= PING_EVERY
                        && self.through.at_boundary()
                        && !self.gone
                    {
                        let ping = Bytes::from_static(protocol::ping_frame(x.protocol));
                        self.write(ping, session, x).await;
                    }
                    let next = (waiting + meta.timers.idle).min(meta.deadline);
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

    /// Returns how a stream ends whose time is over, or that outlasts the process.
    fn over(
        &self,
        now: Instant,
        waiting: Instant,
        meta: &Meta,
        x: &Exchange,
    ) -> Option<Result<(), Error>> {
        let drain = **x.core.drain.load();
        let is_last = |until: Instant| until.saturating_duration_since(now) < LAST_WORDS;
        let (kind, message) = if now >= meta.deadline {
            let message = "The total time for this request is over (timer: total).";
            (Kind::Timeout, message)
        } else if drain.is_some_and(is_last) {
            (Kind::Overloaded, "The gateway is restarting.")
        } else if now.saturating_duration_since(waiting) >= meta.timers.idle {
            let message = "The provider went silent in its stream (timer: idle).";
            (Kind::Timeout, message)
        } else {
            return None;
        };
        // What was whole stays whole.
        Some(match self.through.finished() {
            true => Ok(()),
            false => Err(Error::new(kind, message)),
        })
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

    /// Puts the cost into the event that tells the usage, once that has been seen.
    fn costed(&self, piece: Bytes, meta: &Meta) -> Bytes {
        let Seen {
            usage: Some(mut usage),
            model,
            ..
        } = self.through.seen()
        else {
            return piece;
        };
        let model = model.as_deref();
        if usage.tier.is_none() && meta.protocol.is_openai() {
            usage.tier.clone_from(&self.tier);
        }
        let priced = || account::priced(meta.candidate(), &usage, model).map(|(pico, _)| pico);
        match usage.reported.or_else(priced) {
            Some(pico) => costed::piece(piece, pico.saturating_add(self.spent_pico)),
            None => piece,
        }
    }

    pub fn keep_raw(&mut self, piece: &Bytes) {
        if let Some(keep) = &mut self.keep {
            keep.add(piece);
        }
    }

    /// Gives pieces to the client, and keeps them where what is kept is what we wrote.
    async fn give(
        &mut self,
        pieces: Vec<Bytes>,
        meta: &Meta,
        session: &mut Session,
        x: &mut Exchange,
    ) {
        for piece in pieces {
            if !self.passed {
                self.keep_raw(&piece);
            }
            let piece = match &mut self.goes_on {
                None => piece,
                Some(shown) => shown.put(piece),
            };
            if let Some((_, capture)) = &mut self.storing {
                capture.feed(&piece);
            }
            let piece = if self.include_cost {
                self.costed(piece, meta)
            } else {
                piece
            };
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
        let piece = self.dress.put(piece);
        self.send(piece, session, x).await;
    }

    async fn send(&mut self, piece: Bytes, session: &mut Session, x: &mut Exchange) {
        if self.gone || piece.is_empty() {
            return;
        }
        x.record.response_bytes += piece.len() as u64;
        x.tell(&piece);
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
    pub async fn finish(
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
        // A frame that its provider didn't end. Where the stream broke, half a frame is none.
        let rest = match self.goes_on.take() {
            Some(mut shown) if outcome.is_ok() => shown.end(),
            Some(_) | None => Bytes::new(),
        };
        if let Some((_, capture)) = &mut self.storing {
            capture.feed(&rest);
        }
        if let Some((storing, mut capture)) = self.storing.take()
            && let Some(response) = capture.take()
        {
            storing.keep(response, x);
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
                self.write(rest, session, x).await;
                let marked = matches!(
                    ask.protocol,
                    Protocol::OpenaiChat | Protocol::OpenaiCompletions
                );
                if marked && !self.through.marked_done() {
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
        let rest = self.dress.end();
        self.send(rest, session, x).await;
        session.write_response_body(None, true).await
    }
}
