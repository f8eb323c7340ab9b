//! The form of a stream that Google sends to those who don't ask for `alt=sse`: one JSON array.

use bytes::Bytes;

use crate::codec::sse::{Splitter, TooLarge};

/// Turns server-sent events into the elements of an array, as they come.
#[derive(Debug)]
pub struct ArrayWriter {
    splitter: Splitter,
    begun: bool,
}

impl ArrayWriter {
    /// Events longer than `max_frame` are an error.
    pub fn new(max_frame: usize) -> Self {
        Self {
            splitter: Splitter::new(max_frame),
            begun: false,
        }
    }

    /// Takes a piece of the stream, cut anywhere, and appends what it completes of the array.
    pub fn feed(&mut self, piece: &Bytes, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let begun = &mut self.begun;
        self.splitter.push(piece, |frame| {
            if !frame.is_comment {
                element(&frame.data, begun, out);
            }
        })
    }

    /// The stream is at its end: appends what was still held back, and ends the array.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let begun = &mut self.begun;
        self.splitter.finish(|frame| {
            if !frame.is_comment {
                element(&frame.data, begun, out);
            }
        });
        if !self.begun {
            out.push(b'[');
        }
        out.extend_from_slice(b"]\n");
    }
}

fn element(data: &[u8], begun: &mut bool, out: &mut Vec<u8>) {
    let data = data.trim_ascii();
    if data.is_empty() || data == b"[DONE]" {
        return;
    }
    out.extend_from_slice(if *begun { b",\n" } else { b"[" });
    *begun = true;
    out.extend_from_slice(data);
    out.push(b'\n');
}
