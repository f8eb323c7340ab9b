//! Streams that can be gone on with: one that is passed and understood on the way, and one that goes on.

use bytes::Bytes;

use super::through::{MOST_FRAME, Seen, Through, step};
use crate::protocol::continuation::{Seam, Told, Voice};
use crate::protocol::event::{Event, FailureClass};
use crate::protocol::frames::Frames;
use crate::protocol::usage::Usage;
use crate::protocol::{Framing, Protocol, Shape, StreamDecoder, StreamEncoder};

/// A passed stream, of which it is known what it has said.
pub struct Watched {
    pub inner: Through,
    frames: Frames,
    decoder: StreamDecoder,
    pub told: Told,
    voice: Voice,
}

impl Watched {
    /// `inner` passes whole frames of `protocol`.
    pub fn new(inner: Through, protocol: Protocol, shape: &Shape) -> Self {
        Self {
            inner,
            frames: Frames::new(Framing::Events, MOST_FRAME),
            decoder: StreamDecoder::new(protocol, shape),
            told: Told::default(),
            voice: Voice::new(protocol),
        }
    }

    pub fn feed(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        let from = out.len();
        self.inner.feed(chunk, out);
        self.watch(&out[from..]);
    }

    pub fn end(&mut self, out: &mut Vec<Bytes>) {
        let from = out.len();
        self.inner.end(out);
        self.watch(&out[from..]);
    }

    /// Reads what the client gets.
    fn watch(&mut self, pieces: &[Bytes]) {
        let Self {
            frames,
            decoder,
            told,
            voice,
            ..
        } = self;
        for piece in pieces {
            let whole = frames.push(piece, |name, data| {
                voice.note(data, told);
                decoder.feed(name, data, &mut |event| told.note(&event));
            });
            if whole.is_err() {
                told.bar("it can't be read");
            }
        }
    }

    /// Returns what writes on where the provider's frames ended.
    pub fn encoder(&self, shape: Shape) -> StreamEncoder {
        self.voice.encoder(&self.told, shape)
    }
}

/// The rest of a stream, from another attempt.
pub struct Continued {
    frames: Frames,
    decoder: StreamDecoder,
    pub encoder: StreamEncoder,
    seam: Seam,
    pub told: Told,
    /// Of this attempt alone.
    pub seen: Seen,
    /// What the attempts before took.
    before: Usage,
}

impl Continued {
    /// `from` is the protocol that the rest comes in.
    pub fn new(
        (from, shape): (Protocol, &Shape),
        encoder: StreamEncoder,
        (told, seam): (Told, Seam),
        before: Usage,
    ) -> Self {
        Self {
            frames: Frames::new(from.framing(), MOST_FRAME),
            decoder: StreamDecoder::new(from, shape),
            encoder,
            seam,
            told,
            seen: Seen {
                // The head has gone to the client long ago.
                semantic: true,
                ..Seen::default()
            },
            before,
        }
    }

    pub fn feed(&mut self, chunk: &Bytes, out: &mut Vec<Bytes>) {
        let mut written = Vec::with_capacity(chunk.len() * 2);
        let Self {
            frames,
            decoder,
            encoder,
            seam,
            told,
            seen,
            before,
        } = self;
        let whole = frames.push(chunk, |name, data| {
            decoder.feed(name, data, &mut |event| {
                join(seam, told, seen, encoder, before, &event, &mut written);
            });
        });
        if whole.is_err() && seen.failure.is_none() && !seen.finished {
            let message = "An event of the stream is too large.".to_owned();
            seen.failure = Some((FailureClass::Garbage, message));
        }
        if !written.is_empty() {
            out.push(Bytes::from(written));
        }
    }

    pub fn end(&mut self, out: &mut Vec<Bytes>) {
        let mut written = Vec::new();
        let Self {
            frames,
            decoder,
            encoder,
            seam,
            told,
            seen,
            before,
        } = self;
        let mut each = |event: Event<'_>| {
            join(seam, told, seen, encoder, before, &event, &mut written);
        };
        frames.finish(|name, data| decoder.feed(name, data, &mut each));
        decoder.end(&mut each);
        if !written.is_empty() {
            out.push(Bytes::from(written));
        }
    }
}

fn join(
    seam: &mut Seam,
    told: &mut Told,
    seen: &mut Seen,
    encoder: &mut StreamEncoder,
    before: &Usage,
    event: &Event<'_>,
    written: &mut Vec<u8>,
) {
    if let Event::Start {
        usage: Some(usage), ..
    } = event
    {
        seen.usage = Some(usage.clone());
    }
    seam.join(event, &mut |event| {
        if seen.failure.is_some() || seen.finished {
            return;
        }
        match event {
            Event::Usage(own) => {
                seen.usage = Some(own.clone());
                encoder.write(&Event::Usage(before.plus(own)), written);
                return;
            }
            Event::Finish { .. } => {
                let own = seen.usage.clone().unwrap_or_else(|| Usage {
                    output: seen.output_chars.div_ceil(4),
                    estimated: true,
                    ..Usage::default()
                });
                encoder.write(&Event::Usage(before.plus(&own)), written);
            }
            Event::Start { .. }
            | Event::Open { .. }
            | Event::Delta { .. }
            | Event::Close { .. }
            | Event::Ping
            | Event::Error(_) => {}
        }
        told.note(event);
        step(seen, encoder, event, written);
    });
}
