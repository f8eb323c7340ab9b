//! A provider's stream cut into events, whatever its framing.

use bytes::Bytes;

use super::Framing;
use crate::codec::{event_stream, lines, sse};

/// Cuts one stream.
#[derive(Debug)]
pub enum Frames {
    Events(sse::Splitter),
    Lines(lines::Splitter),
    EventStream(event_stream::Splitter),
}

/// An event is longer than allowed, or the framing is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

impl Frames {
    /// Events longer than `most` are an error.
    pub fn new(framing: Framing, most: usize) -> Self {
        match framing {
            Framing::EventStream => Self::EventStream(event_stream::Splitter::new(most)),
            Framing::Events => Self::Events(sse::Splitter::new(most)),
            Framing::Lines => Self::Lines(lines::Splitter::new(most)),
        }
    }

    /// Takes a piece; calls `each` with the name (may be empty) and the data of every event that it completes.
    pub fn push(
        &mut self,
        piece: &Bytes,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Broken> {
        self.push_whole(piece, |_, told| {
            if let Some((name, data)) = told {
                each(name, data);
            }
        })
    }

    /// Like [`Frames::push`], with the bytes of each frame, as they came; those of one that tells nothing too.
    pub fn push_whole(
        &mut self,
        piece: &Bytes,
        mut each: impl FnMut(&[u8], Option<(&[u8], &[u8])>),
    ) -> Result<(), Broken> {
        match self {
            Self::Events(splitter) => splitter
                .push(piece, |frame| {
                    let told = (!frame.is_comment).then_some((frame.event, &*frame.data));
                    each(frame.raw, told);
                })
                .map_err(|_| Broken),
            Self::Lines(splitter) => splitter
                .push_whole(piece, |raw, line| each(raw, Some((b"", line))))
                .map_err(|_| Broken),
            Self::EventStream(splitter) => splitter
                .push(piece, |message| {
                    each(
                        message.raw,
                        Some((message.name().as_bytes(), &message.data())),
                    );
                })
                .map_err(|_| Broken),
        }
    }

    /// Ends the stream: calls `each` with a last event that lacks its end.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8], &[u8])) {
        match self {
            Self::Events(splitter) => splitter.finish(|frame| {
                if !frame.is_comment {
                    each(frame.event, &frame.data);
                }
            }),
            Self::Lines(splitter) => splitter.finish(|line| each(b"", line)),
            // Half a message is none.
            Self::EventStream(_) => {}
        }
    }
}
