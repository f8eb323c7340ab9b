//! A stream on its way from provider to client: passed with a tap on it, or translated event by event.

use bytes::Bytes;

use super::watched::{Continued, Watched};
use crate::protocol::bedrock::invoke::Reframer;
use crate::protocol::chat::{Finish, Part, Response};
use crate::protocol::continuation::Told;
use crate::protocol::event::{Block, Delta, Event, FailureClass};
use crate::protocol::frames::Frames;
use crate::protocol::tap::Tap;
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape, StreamDecoder, StreamEncoder};

/// A single event larger than this is not an event (images and audio in base64 are the largest).
pub const MOST_FRAME: usize = 16 << 20;

/// The ways of a stream.
pub enum Through {
    Pass(Box<Tap>),
    /// Passed frame by frame, and read by the decoder of the hub.
    Relay(Box<Relayed>),
    Translate(Box<Translator>),
    /// A stream of our own making, which is whole already.
    Made(Box<Seen>),
    /// Anthropic's events, which Bedrock packs into an event stream of its own, unpacked and passed.
    Unpack(Box<(Reframer, Tap)>),
    /// Passed, and understood on the way, to be gone on with where it breaks off.
    Watched(Box<Watched>),
    /// The rest of a stream that broke off, joined on to it.
    Continued(Box<Continued>),
}

pub struct Relayed {
    frames: Frames,
    decoder: StreamDecoder,
    seen: Seen,
}

pub struct Translator {
    frames: Frames,
    decoder: StreamDecoder,
    encoder: StreamEncoder,
    seen: Seen,
    watch: Option<Box<Watch>>,
}

/// What a translated stream has told, to be gone on with where it breaks off.
#[derive(Default)]
struct Watch {
    told: Told,
    /// A text that is closed once something follows: a decoder closes also what breaks off.
    closing: Option<u32>,
}

/// What has been seen of a stream so far.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Something that the user would see: the commit point.
    pub semantic: bool,
    pub events: u32,
    /// The answer came to its proper end.
    pub finished: bool,
    pub failure: Option<(FailureClass, String)>,
    pub usage: Option<Usage>,
    /// Who answered, as the provider says.
    pub model: Option<String>,
    pub finish: Option<Finish>,
    pub output_chars: u64,
}

impl Seen {
    fn by(tap: &Tap) -> Self {
        Self {
            semantic: tap.semantic,
            events: tap.events,
            finished: tap.finished,
            failure: tap.failure.clone(),
            usage: tap.usage.clone(),
            model: tap.model.clone(),
            finish: tap.finish,
            output_chars: tap.output_chars,
        }
    }

    /// Returns what a whole answer comes to as a stream.
    pub fn of(response: &Response<'_>) -> Self {
        Self {
            semantic: true,
            events: 1,
            finished: true,
            failure: None,
            usage: response.usage.clone(),
            model: Some(response.model.clone().into_owned()),
            finish: Some(response.finish),
            output_chars: response.parts.iter().map(said).sum(),
        }
    }
}

/// Returns the bytes of text, reasoning or arguments in a part of an answer.
fn said(part: &Part<'_>) -> u64 {
    let length = match part {
        Part::Text { text, .. } | Part::Refusal { text } | Part::Reasoning { text, .. } => {
            text.length()
        }
        Part::ToolCall { arguments, .. } => arguments.len(),
        Part::Image { .. }
        | Part::Audio { .. }
        | Part::File { .. }
        | Part::ToolResult { .. }
        | Part::RedactedReasoning { .. }
        | Part::Opaque { .. } => 0,
    };
    length as u64
}

impl Through {
    pub fn pass(protocol: Protocol, hide_usage: bool) -> Self {
        if !protocol.is_tapped() {
            return Self::Relay(Box::new(Relayed {
                frames: Frames::new(protocol.framing(), MOST_FRAME),
                decoder: StreamDecoder::new(protocol, &Shape::default()),
                seen: Seen::default(),
            }));
        }
        Self::Pass(Box::new(Tap::new(protocol, hide_usage, MOST_FRAME)))
    }

    /// Passes what Bedrock packed.
    pub fn unpack(protocol: Protocol) -> Self {
        let tap = Tap::new(protocol, false, MOST_FRAME);
        Self::Unpack(Box::new((Reframer::new(MOST_FRAME), tap)))
    }

    pub fn translate(from: Protocol, to: Protocol, shape: &Shape) -> Self {
        Self::Translate(Box::new(Translator {
            frames: Frames::new(from.framing(), MOST_FRAME),
            decoder: StreamDecoder::new(from, shape),
            encoder: StreamEncoder::new(to, shape),
            seen: Seen::default(),
            watch: None,
        }))
    }

    /// Like [`Through::translate`], to be gone on with where it breaks off.
    pub fn translate_watched(from: Protocol, to: Protocol, shape: &Shape) -> Self {
        let mut through = Self::translate(from, to, shape);
        if let Self::Translate(translator) = &mut through {
            translator.watch = Some(Box::default());
        }
        through
    }

    /// Passes a stream, to be gone on with where it breaks off. `packed` is what Bedrock packed.
    pub fn watched(protocol: Protocol, hide_usage: bool, packed: bool, shape: &Shape) -> Self {
        let tap = Tap::new(protocol, hide_usage && !packed, MOST_FRAME).whole_frames();
        let inner = if packed {
            Self::Unpack(Box::new((Reframer::new(MOST_FRAME), tap)))
        } else {
            Self::Pass(Box::new(tap))
        };
        Self::Watched(Box::new(Watched::new(inner, protocol, shape)))
    }

    /// Returns what has been said, where that is known.
    pub fn told(&self) -> Option<&Told> {
        match self {
            Self::Watched(watched) => Some(&watched.told),
            Self::Translate(translator) => translator.watch.as_ref().map(|watch| &watch.told),
            Self::Continued(continued) => Some(&continued.told),
            Self::Pass(_) | Self::Relay(_) | Self::Made(_) | Self::Unpack(_) => None,
        }
    }

    /// Returns what writes on where this ended. `shape` is that of the client's request.
    pub fn encoder(self, shape: Shape) -> Option<StreamEncoder> {
        match self {
            Self::Watched(watched) => Some(watched.encoder(shape)),
            Self::Translate(translator) => Some(translator.encoder),
            Self::Continued(continued) => Some(continued.encoder),
            Self::Pass(_) | Self::Relay(_) | Self::Made(_) | Self::Unpack(_) => None,
        }
    }

    /// Takes a piece of the provider's answer; appends what the client is to get.
    pub fn feed(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        match self {
            Self::Pass(tap) => tap.feed(chunk, out),
            Self::Relay(relayed) => relayed.feed(&chunk, out),
            Self::Translate(translator) => translator.feed(&chunk, out),
            Self::Made(_) => out.push(chunk),
            Self::Watched(watched) => watched.feed(chunk, out),
            Self::Continued(continued) => continued.feed(&chunk, out),
            Self::Unpack(both) => {
                let (reframer, tap) = &mut **both;
                let mut events = Vec::new();
                let whole = reframer.push(&chunk, &mut events);
                tap.feed(events.into(), out);
                if whole.is_err() && tap.failure.is_none() && !tap.finished {
                    tap.failure = Some((
                        FailureClass::Garbage,
                        "The provider's stream can't be read.".to_owned(),
                    ));
                }
            }
        }
    }

    /// The provider's answer is at its end; appends what was still held back.
    pub fn end(&mut self, out: &mut Vec<Bytes>) {
        match self {
            Self::Pass(tap) => tap.finish(out),
            Self::Relay(relayed) => relayed.end(out),
            Self::Translate(translator) => translator.end(out),
            Self::Made(_) => {}
            Self::Unpack(both) => both.1.finish(out),
            Self::Watched(watched) => watched.end(out),
            Self::Continued(continued) => continued.end(out),
        }
    }

    pub fn semantic(&self) -> bool {
        match self {
            Self::Pass(tap) => tap.semantic,
            Self::Relay(relayed) => relayed.seen.semantic,
            Self::Translate(translator) => translator.seen.semantic,
            Self::Made(seen) => seen.semantic,
            Self::Unpack(both) => both.1.semantic,
            Self::Watched(watched) => watched.inner.semantic(),
            Self::Continued(continued) => continued.seen.semantic,
        }
    }

    pub fn events(&self) -> u32 {
        match self {
            Self::Pass(tap) => tap.events,
            Self::Relay(relayed) => relayed.seen.events,
            Self::Translate(translator) => translator.seen.events,
            Self::Made(seen) => seen.events,
            Self::Unpack(both) => both.1.events,
            Self::Watched(watched) => watched.inner.events(),
            Self::Continued(continued) => continued.seen.events,
        }
    }

    pub fn finished(&self) -> bool {
        match self {
            Self::Pass(tap) => tap.finished,
            Self::Relay(relayed) => relayed.seen.finished,
            Self::Translate(translator) => translator.seen.finished,
            Self::Made(seen) => seen.finished,
            Self::Unpack(both) => both.1.finished,
            Self::Watched(watched) => watched.inner.finished(),
            Self::Continued(continued) => continued.seen.finished,
        }
    }

    pub fn failure(&self) -> Option<&(FailureClass, String)> {
        match self {
            Self::Pass(tap) => tap.failure.as_ref(),
            Self::Relay(relayed) => relayed.seen.failure.as_ref(),
            Self::Translate(translator) => translator.seen.failure.as_ref(),
            Self::Made(seen) => seen.failure.as_ref(),
            Self::Unpack(both) => both.1.failure.as_ref(),
            Self::Watched(watched) => watched.inner.failure(),
            Self::Continued(continued) => continued.seen.failure.as_ref(),
        }
    }

    /// Whether what the client has so far ends between two events, so that one of ours may be put in.
    pub fn at_boundary(&self) -> bool {
        match self {
            Self::Pass(tap) => tap.at_boundary(),
            Self::Relay(_) | Self::Translate(_) | Self::Made(_) | Self::Continued(_) => true,
            Self::Unpack(both) => both.1.at_boundary(),
            Self::Watched(watched) => watched.inner.at_boundary(),
        }
    }

    /// Whether the client gets the provider's own bytes, piece by piece as they come.
    pub fn passes(&self) -> bool {
        match self {
            Self::Pass(_) => true,
            Self::Watched(watched) => watched.inner.passes(),
            Self::Relay(_)
            | Self::Translate(_)
            | Self::Made(_)
            | Self::Unpack(_)
            | Self::Continued(_) => false,
        }
    }

    /// Whether the client has the protocol's own end marker.
    pub fn marked_done(&self) -> bool {
        match self {
            Self::Pass(tap) => tap.done_marker,
            Self::Relay(relayed) => relayed.seen.finished,
            Self::Translate(translator) => translator.seen.finished,
            Self::Made(seen) => seen.finished,
            Self::Unpack(both) => both.1.done_marker,
            Self::Watched(watched) => watched.inner.marked_done(),
            Self::Continued(continued) => continued.seen.finished,
        }
    }

    /// Returns what was seen, for the record.
    pub fn seen(&self) -> Seen {
        match self {
            Self::Pass(tap) => Seen::by(tap),
            Self::Relay(relayed) => relayed.seen.clone(),
            Self::Unpack(both) => Seen::by(&both.1),
            Self::Translate(translator) => translator.seen.clone(),
            Self::Made(seen) => (**seen).clone(),
            Self::Watched(watched) => watched.inner.seen(),
            Self::Continued(continued) => continued.seen.clone(),
        }
    }
}

impl Relayed {
    fn feed(&mut self, chunk: &Bytes, out: &mut Vec<Bytes>) {
        let mut written = Vec::with_capacity(chunk.len());
        let Self {
            frames,
            decoder,
            seen,
        } = self;
        let whole = frames.push_whole(chunk, |raw, told| {
            if let Some((name, data)) = told {
                decoder.feed(name, data, &mut |event| {
                    note(seen, &event);
                });
            }
            // What tells a failure is said to the client by whoever learns of it here.
            if seen.failure.is_none() {
                written.extend_from_slice(raw);
            }
        });
        if whole.is_err() && seen.failure.is_none() && !seen.finished {
            let message = "The provider's stream can't be read.".to_owned();
            seen.failure = Some((FailureClass::Garbage, message));
        }
        if !written.is_empty() {
            out.push(Bytes::from(written));
        }
    }

    fn end(&mut self, out: &mut Vec<Bytes>) {
        let mut last = Vec::new();
        let Self {
            frames,
            decoder,
            seen,
        } = self;
        let lines = matches!(frames, Frames::Lines(_));
        frames.finish(|name, data| {
            decoder.feed(name, data, &mut |event| {
                note(seen, &event);
            });
            // A last frame that lacks its end is given one; half a frame is none.
            if seen.failure.is_some() || !seen.finished {
                return;
            }
            if lines {
                last.extend_from_slice(data);
                last.push(b'\n');
                return;
            }
            if !name.is_empty() {
                last.extend_from_slice(&[b"event: ", name, b"\n"].concat());
            }
            last.extend_from_slice(&[b"data: ", data, b"\n\n"].concat());
        });
        decoder.end(&mut |event| {
            note(seen, &event);
        });
        if !last.is_empty() {
            out.push(Bytes::from(last));
        }
    }
}

impl Translator {
    fn feed(&mut self, chunk: &Bytes, out: &mut Vec<Bytes>) {
        let mut written = Vec::with_capacity(chunk.len() * 2);
        let Self {
            frames,
            decoder,
            encoder,
            seen,
            watch,
        } = self;
        let whole = frames.push(chunk, |name, data| {
            decoder.feed(name, data, &mut |event| {
                tell(watch, seen, encoder, &event, &mut written)
            });
        });
        if whole.is_err() && seen.failure.is_none() && !seen.finished {
            seen.failure = Some((
                FailureClass::Garbage,
                "An event of the stream is too large.".to_owned(),
            ));
        }
        if !written.is_empty() {
            out.push(Bytes::from(written));
        }
    }

    fn end(&mut self, out: &mut Vec<Bytes>) {
        let mut written = Vec::new();
        let Self {
            frames,
            decoder,
            encoder,
            seen,
            watch,
        } = self;
        frames.finish(|name, data| {
            decoder.feed(name, data, &mut |event| {
                tell(watch, seen, encoder, &event, &mut written)
            });
        });
        decoder.end(&mut |event| tell(watch, seen, encoder, &event, &mut written));
        if !written.is_empty() {
            out.push(Bytes::from(written));
        }
    }
}

/// Notes one event for who may have to go on, and takes the step.
fn tell(
    watch: &mut Option<Box<Watch>>,
    seen: &mut Seen,
    encoder: &mut StreamEncoder,
    event: &Event<'_>,
    written: &mut Vec<u8>,
) {
    let Some(Watch { told, closing }) = watch.as_deref_mut() else {
        return step(seen, encoder, event, written);
    };
    match event {
        Event::Close { index } if told.open_text() == Some(*index) => {
            *closing = Some(*index);
            return;
        }
        Event::Usage(_) | Event::Ping | Event::Error(_) => {}
        Event::Start { .. }
        | Event::Open { .. }
        | Event::Delta { .. }
        | Event::Close { .. }
        | Event::Finish { .. } => {
            if let Some(index) = closing.take() {
                let close = Event::Close { index };
                told.note(&close);
                step(seen, encoder, &close, written);
            }
        }
    }
    told.note(event);
    step(seen, encoder, event, written);
}

/// Notes one event and writes it. Errors are not written here: before the commit point they lead to another
/// target, after it the relay ends the stream in the client's protocol.
pub(super) fn step(
    seen: &mut Seen,
    encoder: &mut StreamEncoder,
    event: &Event<'_>,
    written: &mut Vec<u8>,
) {
    if note(seen, event) {
        encoder.write(event, written);
    }
}

/// Notes one event; returns whether it is one to be told: after a failure or the end nothing is.
fn note(seen: &mut Seen, event: &Event<'_>) -> bool {
    if seen.failure.is_some() || seen.finished {
        return false;
    }
    seen.events = seen.events.saturating_add(1);
    match event {
        Event::Error(failure) => {
            seen.failure = Some((failure.class, failure.message.clone().into_owned()));
            return false;
        }
        Event::Finish { reason, .. } => {
            seen.semantic = true;
            seen.finished = true;
            seen.finish = Some(*reason);
        }
        Event::Usage(usage) => seen.usage = Some(usage.clone()),
        Event::Start { model, usage, .. } => {
            seen.model = Some(model.clone().into_owned());
            if let Some(usage) = usage {
                seen.usage = Some(usage.clone());
            }
        }
        Event::Open { block, .. } => match block {
            // An empty block says nothing yet; its first delta does.
            Block::Text | Block::Refusal | Block::Reasoning => {}
            Block::ToolCall { .. } | Block::RedactedReasoning { .. } | Block::Opaque { .. } => {
                seen.semantic = true
            }
        },
        Event::Delta { delta, .. } => {
            let length = match delta {
                Delta::Text(text)
                | Delta::Refusal(text)
                | Delta::Reasoning(text)
                | Delta::Arguments(text) => text.len(),
                Delta::Signature(_)
                | Delta::Citation { .. }
                | Delta::Logprobs(_)
                | Delta::Opaque { .. } => 0,
            };
            seen.output_chars += length as u64;
            seen.semantic = seen.semantic || length > 0;
        }
        Event::Close { .. } | Event::Ping => {}
    }
    true
}
