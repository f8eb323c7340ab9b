//! An answer that is held until it may be committed, and converted where the client asked for another.

use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue};

use super::super::Exchange;
use super::super::ask::{Ask, Outgoing};
use super::super::outcome::{Busy, Flow, Meta, Tried, Try, Won};
use super::super::through::{Seen, Through};
use super::super::{form, reply, verdict};
use super::refused::{broken, event_error, said, wire};
use super::{packs, several};
use crate::protocol::api::{self, Api};
use crate::protocol::event::FailureClass;
use crate::protocol::tap::{self, Whole};
use crate::protocol::{self, Framing, Protocol, Shape};
use crate::provider::Timeouts;
use crate::routing::Allowance;
use crate::upstream::{self, Answer, Failure, Stage};

/// Held back of a stream until its first semantic event.
const MOST_HELD: usize = 64 << 10;
const MOST_HELD_EVENTS: u32 = 64;
/// A whole answer is read to its end before it is committed, so that a cut one can be asked for elsewhere; a
/// longer one is passed on from here.
const MOST_WHOLE: usize = 8 << 20;
/// Some begin their answers with one, which JSON doesn't allow.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Images come whole, in base64.
pub(super) const MOST_TASK: usize = 64 << 20;

/// Everything that an answer under inspection needs.
pub(super) struct Hold<'a> {
    pub ask: &'a Ask<'a>,
    pub plan: &'a Try<'a>,
    pub to: Protocol,
    pub timers: Timeouts,
    pub outgoing: Outgoing,
    /// Those that go on to the client.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub left: Option<Allowance>,
    /// As announced by the provider.
    pub length: Option<usize>,
    pub status: u16,
    /// The provider's, where it goes on to the client.
    pub content_type: Option<HeaderValue>,
    pub busy: Busy,
}

impl Hold<'_> {
    pub(super) fn won(self, flow: Flow) -> Tried {
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
            content_type: self.content_type.unwrap_or(reply::JSON),
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
        let reused = answer.reused;
        let mut reading = pin!(answer.read());
        // Most answers have come with their head: then no clock is asked.
        if let Poll::Ready(read) = upstream::at_once(reading.as_mut()).await {
            return read;
        }
        let started = Instant::now();
        let left = self.plan.deadline.saturating_duration_since(started);
        // Known already, so the clock isn't asked once more.
        let until = started + self.timers.idle.min(left);
        let read = tokio::time::timeout_at(until.into(), reading).await;
        x.waited += started.elapsed();
        read.unwrap_or_else(|_| Err(Failure::timer(Stage::Body, reused)))
    }

    /// Holds a stream until its first semantic event.
    ///
    /// `first` is what was read of it already.
    pub(super) async fn stream(
        self,
        mut answer: Answer,
        mut first: Option<Bytes>,
        x: &mut Exchange,
    ) -> Tried {
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
            let piece = match first.take() {
                Some(piece) => Ok(Some(piece)),
                None => self.read(&mut answer, x).await,
            };
            match piece {
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
    pub(super) async fn task(
        mut self,
        mut answer: Answer,
        events: bool,
        x: &mut Exchange,
    ) -> Tried {
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

    /// Returns whether an answer begins as server-sent events do, and no JSON.
    fn begins_a_stream(&self, piece: &[u8]) -> bool {
        let start = piece.strip_prefix(BYTE_ORDER_MARK).unwrap_or(piece);
        let start = start.trim_ascii_start();
        let fields: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];
        self.to.framing() == Framing::Events && fields.iter().any(|field| start.starts_with(field))
    }

    /// Reads a whole answer, and converts it where the client asked for another protocol or for a stream.
    pub(super) async fn whole(self, mut answer: Answer, x: &mut Exchange) -> Tried {
        let length = self.length;
        let mut first: Option<Bytes> = None;
        let mut body = BytesMut::new();
        loop {
            match self.read(&mut answer, x).await {
                Ok(Some(piece)) if first.is_none() && body.is_empty() => {
                    // Some give their streams no content type, or JSON's.
                    if self.ask.envelope.stream && self.begins_a_stream(&piece) {
                        return Box::pin(self.stream(answer, Some(piece), x)).await;
                    }
                    first = Some(piece);
                }
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
                let streams = first
                    .as_deref()
                    .is_some_and(|first| self.begins_a_stream(first))
                    || self.begins_a_stream(&body);
                if streams || self.outgoing.shape.is_some() || self.ask.envelope.stream {
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
        let mut body = first.unwrap_or_else(|| body.freeze());
        if length.is_some_and(|length| length != body.len()) {
            return broken("The provider cut its answer.", "cut");
        }
        if body.starts_with(BYTE_ORDER_MARK) {
            body.advance(BYTE_ORDER_MARK.len());
        }
        // Some stream whatever they are asked for.
        if !self.ask.envelope.stream
            && self.begins_a_stream(&body)
            && let Ok(summed) = form::stream_to_whole(&body, self.to, &Shape::default())
        {
            body = summed;
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
        let frames = Bytes::from(form::stream_of(&response, ask.protocol, shape));
        return Ok(Converted::Stream(frames, Box::new(Seen::of(&response))));
    }
    let written = protocol::encode_response(ask.protocol, &response, shape);
    let whole = Box::new(Whole::of(&response));
    Ok(Converted::Whole(written.into(), whole))
}
