//! The body of an answer, sent as slowly, as cut up and as far as the script says.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::answers::{ErrorSaid, Piece, Rendered, error_frame};
use super::calls::{Guard, Outcome};
use super::dialect::{Dialect, Framing};
use super::script::{Behaviour, Cut};

/// Time for what was written before a cut to leave: hyper forgets what it holds when a body fails.
const FLUSH_TIME: Duration = Duration::from_millis(10);

/// What comes after the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    Cut(Cut),
    Stall,
}

/// What is sent, and when.
#[derive(Debug)]
pub(super) struct Plan {
    pieces: Pieces,
    ending: Ending,
    /// The length to announce, which a cut body never reaches.
    length: Option<u64>,
    delay_first: Option<Duration>,
    gap: Option<Duration>,
    ping: Option<(Duration, Bytes)>,
}

#[derive(Debug)]
enum Pieces {
    One(Bytes),
    /// The first so many of a list.
    Many(Arc<[Piece]>, usize),
}

impl Plan {
    pub fn whole(body: Bytes) -> Self {
        let length = Some(body.len() as u64);
        Self {
            pieces: Pieces::One(body),
            ending: Ending::Done,
            length,
            delay_first: None,
            gap: None,
            ping: None,
        }
    }

    /// Applies `behaviour` to what was rendered.
    pub fn new(behaviour: &Behaviour, dialect: Dialect, rendered: Rendered) -> Self {
        let is_events = matches!(rendered, Rendered::Stream(Framing::Events, _));
        let mut plan = match rendered {
            Rendered::Whole(body) | Rendered::Other(_, body) => Self::of_whole(behaviour, body),
            Rendered::Stream(framing, pieces) => {
                Self::of_stream(behaviour, dialect, framing, pieces)
            }
        };
        if let Some(most) = behaviour.cut_body {
            plan.rewrite(|pieces| truncated(pieces, most));
            plan.ending = Ending::Cut(behaviour.cut);
        }
        if let Some(split) = behaviour.split {
            plan.rewrite(|pieces| {
                let all = Bytes::from(
                    pieces
                        .into_iter()
                        .flat_map(|piece| piece.bytes)
                        .collect::<Vec<u8>>(),
                );
                let starts = (0..all.len()).step_by(split.0);
                let cut =
                    |from: usize| all.slice(from..all.len().min(from.saturating_add(split.0)));
                starts
                    .map(|from| Piece {
                        bytes: cut(from),
                        is_content: true,
                    })
                    .collect()
            });
        }
        plan.delay_first = behaviour.delay_first_chunk.map(|wait| wait.0);
        // Pieces that are not written one by one would arrive as one.
        plan.gap = behaviour
            .chunk_gap
            .map(|wait| wait.0)
            .or(behaviour.split.map(|_| Duration::ZERO));
        // A ping between two halves of a frame would be garbage, and only events have one.
        let pings = behaviour
            .ping_every
            .filter(|every| is_events && behaviour.split.is_none() && !every.0.is_zero());
        plan.ping = pings.map(|every| (every.0, dialect.ping()));
        plan
    }

    fn of_whole(behaviour: &Behaviour, body: Bytes) -> Self {
        let half = body.slice(..body.len() / 2);
        let length = Some(body.len() as u64).filter(|_| !behaviour.chunked);
        let (body, ending, length) = if behaviour.cut_after.is_some() {
            (half, Ending::Cut(behaviour.cut), length)
        } else if behaviour.stall_after.is_some() {
            (half, Ending::Stall, length)
        } else if behaviour.end_after.is_some() {
            (half, Ending::Done, None)
        } else {
            (body, Ending::Done, length)
        };
        Self {
            ending,
            length,
            ..Self::whole(body)
        }
    }

    fn of_stream(
        behaviour: &Behaviour,
        dialect: Dialect,
        framing: Framing,
        pieces: Arc<[Piece]>,
    ) -> Self {
        let mut limit = pieces.len();
        let mut ending = Ending::Done;
        if let Some(after) = behaviour.cut_after {
            limit = place(&pieces, after);
            ending = Ending::Cut(behaviour.cut);
        } else if let Some(after) = behaviour.stall_after {
            limit = place(&pieces, after);
            ending = Ending::Stall;
        } else if let Some(after) = behaviour.end_after {
            limit = place(&pieces, after);
        }
        let mut plan = Self {
            ending,
            length: None,
            pieces: Pieces::Many(pieces, limit),
            ..Self::whole(Bytes::new())
        };
        if let Some(error) = &behaviour.error_event {
            let said = ErrorSaid::of_event(error);
            let frame = error_frame(dialect, framing, &said);
            plan.rewrite(|mut pieces| {
                let at = if error.at == 0 && !error.after_start {
                    0
                } else {
                    place(&pieces, error.at)
                };
                pieces.truncate(at);
                pieces.push(Piece::frame(frame));
                pieces
            });
        }
        if let Some(at) = behaviour.garbage_at {
            plan.rewrite(|mut pieces| {
                let at = place(&pieces, at);
                pieces.insert(at, Piece::frame(framing.broken()));
                pieces
            });
        }
        if behaviour.comments && framing == Framing::Events {
            plan.rewrite(|pieces| {
                pieces
                    .into_iter()
                    .map(|piece| prefixed(b": comment\n", piece))
                    .collect()
            });
        }
        if behaviour.crlf && framing != Framing::Binary {
            plan.rewrite(|pieces| pieces.into_iter().map(with_crlf).collect());
        }
        plan
    }

    fn rewrite(&mut self, change: impl FnOnce(Vec<Piece>) -> Vec<Piece>) {
        let pieces = match &self.pieces {
            Pieces::One(bytes) => vec![Piece {
                bytes: bytes.clone(),
                is_content: true,
            }],
            Pieces::Many(pieces, limit) => pieces[..*limit].to_vec(),
        };
        let pieces = change(pieces);
        let limit = pieces.len();
        self.pieces = Pieces::Many(pieces.into(), limit);
    }
}

/// Returns the place after `after` content pieces: where the next one is, or else where the content ends.
fn place(pieces: &[Piece], after: u64) -> usize {
    let content = || {
        (0..)
            .zip(pieces)
            .filter(|(_, piece)| piece.is_content)
            .map(|(at, _)| at)
    };
    let wanted = usize::try_from(after)
        .ok()
        .and_then(|after| content().nth(after));
    wanted
        .or_else(|| content().last().map(|last| last + 1))
        .unwrap_or(0)
}

fn truncated(pieces: Vec<Piece>, most: u64) -> Vec<Piece> {
    let mut left = most;
    let mut kept = Vec::new();
    for mut piece in pieces {
        let length = piece.bytes.len() as u64;
        if left == 0 {
            break;
        }
        if length > left {
            piece
                .bytes
                .truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        left = left.saturating_sub(length);
        kept.push(piece);
    }
    kept
}

fn prefixed(prefix: &[u8], piece: Piece) -> Piece {
    Piece {
        bytes: [prefix, &piece.bytes].concat().into(),
        ..piece
    }
}

fn with_crlf(piece: Piece) -> Piece {
    let mut bytes = Vec::with_capacity(piece.bytes.len() + 8);
    for byte in piece.bytes {
        // Google's lines end so already.
        if byte == b'\n' && bytes.last() != Some(&b'\r') {
            bytes.push(b'\r');
        }
        bytes.push(byte);
    }
    Piece {
        bytes: bytes.into(),
        is_content: piece.is_content,
    }
}

/// A plan being carried out. Dropped before its end, the client has gone.
#[derive(Debug)]
pub(super) struct Answer {
    plan: Plan,
    next: usize,
    content_seen: bool,
    wait: Waiting,
    timer: Option<Pin<Box<Sleep>>>,
    ping: Option<Pin<Box<Sleep>>>,
    guard: Option<Guard>,
    /// Tells the connection that it is to be reset.
    reset: Arc<AtomicBool>,
}

/// Whether the wait before the next piece is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Due,
    Timed,
    Yielded,
}

/// The script says that the connection ends here.
#[derive(Debug)]
pub(super) struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dropped by the script")
    }
}

impl std::error::Error for Dropped {}

impl Answer {
    pub fn new(plan: Plan, guard: Option<Guard>, reset: Arc<AtomicBool>) -> Self {
        let ping = plan
            .ping
            .as_ref()
            .map(|(every, _)| Box::pin(tokio::time::sleep(*every)));
        let mut answer = Self {
            plan,
            next: 0,
            content_seen: false,
            wait: Waiting::Due,
            timer: None,
            ping,
            guard,
            reset,
        };
        // hyper doesn't ask a body that has nothing for its end.
        if answer.is_end_stream() {
            answer.end(Outcome::Complete);
        }
        answer
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(guard) = &mut self.guard {
            guard.end(outcome);
        }
    }

    fn piece(&self) -> Option<(&Bytes, bool)> {
        match &self.plan.pieces {
            Pieces::One(bytes) => (self.next == 0 && !bytes.is_empty()).then_some((bytes, true)),
            Pieces::Many(pieces, limit) => pieces[..*limit]
                .get(self.next)
                .map(|piece| (&piece.bytes, piece.is_content)),
        }
    }

    /// Returns the wait before a piece.
    fn wait_before(&self, is_content: bool) -> Option<Duration> {
        if is_content && !self.content_seen {
            // The first piece of all, too, goes out with the head unless it is told to wait.
            return self
                .plan
                .delay_first
                .or(self.plan.gap.filter(|_| self.next > 0));
        }
        self.plan.gap.filter(|_| self.next > 0)
    }

    /// Waits, and meanwhile says whether a ping is due.
    fn poll_wait(&mut self, wait: Duration, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match self.wait {
            Waiting::Yielded => return Poll::Ready(None),
            Waiting::Due if wait.is_zero() => {
                // Pending once makes hyper write what it holds.
                self.wait = Waiting::Yielded;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Waiting::Due => {
                self.wait = Waiting::Timed;
                self.timer = Some(Box::pin(tokio::time::sleep(wait)));
            }
            Waiting::Timed => {}
        }
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_pending()
        {
            return self.poll_ping(cx);
        }
        self.timer = None;
        Poll::Ready(None)
    }

    fn poll_ping(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let (Some(ping), Some((every, frame))) = (&mut self.ping, &self.plan.ping)
            && ping.as_mut().poll(cx).is_ready()
        {
            ping.as_mut().reset(tokio::time::Instant::now() + *every);
            return Poll::Ready(Some(frame.clone()));
        }
        Poll::Pending
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        let this = self.get_mut();
        if let Some((_, is_content)) = this.piece() {
            if let Some(wait) = this.wait_before(is_content) {
                match this.poll_wait(wait, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(ping)) => return Poll::Ready(Some(Ok(Frame::data(ping)))),
                    Poll::Ready(None) => {}
                }
            }
            let Some(bytes) = this.piece().map(|(bytes, _)| bytes.clone()) else {
                return Poll::Ready(None);
            };
            this.next += 1;
            this.content_seen |= is_content;
            this.wait = Waiting::Due;
            if let (Some(ping), Some((every, _))) = (&mut this.ping, &this.plan.ping) {
                ping.as_mut().reset(tokio::time::Instant::now() + *every);
            }
            if let Some(guard) = &this.guard {
                guard.sent(bytes.len(), is_content);
            }
            if this.piece().is_none() && this.plan.ending == Ending::Done {
                this.end(Outcome::Complete);
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match this.plan.ending {
            Ending::Done => {
                this.end(Outcome::Complete);
                Poll::Ready(None)
            }
            Ending::Stall => this
                .poll_ping(cx)
                .map(|ping| ping.map(|frame| Ok(Frame::data(frame)))),
            Ending::Cut(cut) => match this.poll_wait(FLUSH_TIME, cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(ping)) => Poll::Ready(Some(Ok(Frame::data(ping)))),
                Poll::Ready(None) => {
                    if cut == Cut::Reset {
                        this.reset.store(true, Ordering::Release);
                    }
                    this.end(Outcome::Cut);
                    Poll::Ready(Some(Err(Dropped)))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.plan.ending == Ending::Done && self.piece().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.plan
            .length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
