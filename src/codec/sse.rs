//! Server-sent events: finds whole frames in chunks that are cut anywhere.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>. A frame is what ends in a blank line; lines end
//! in LF, CR LF or CR. A frame is handed out as soon as its blank line is certain: a CR at the end of a chunk ends it,
//! and should the next chunk begin with the LF that belongs to that CR, the LF comes as a frame of its own.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// One frame, with its blank line.
#[derive(Debug)]
pub struct Frame<'f> {
    /// As it came. The frames of a stream, put together, are the stream.
    pub raw: &'f [u8],
    /// The `event:` name, or empty.
    pub event: &'f [u8],
    /// The `data:` lines, joined by LF.
    pub data: Cow<'f, [u8]>,
    /// It has no `data:` line, so that clients are told nothing of it: comments, blank lines, `retry:`.
    pub is_comment: bool,
}

/// A frame is larger than was allowed; nothing is read after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a server-sent event is too large")
    }
}

impl std::error::Error for TooLarge {}

/// Cuts a stream into frames. Frames that lie whole in a chunk are not copied.
#[derive(Debug)]
pub struct Splitter {
    cutter: Cutter,
    max_frame: usize,
    pending: Vec<u8>,
    first: bool,
    failed: bool,
}

impl Splitter {
    pub fn new(max_frame: usize) -> Self {
        Self {
            cutter: Cutter::default(),
            max_frame,
            pending: Vec::new(),
            first: true,
            failed: false,
        }
    }

    /// Takes a piece of the stream, and calls `each` for every frame that it completes.
    pub fn push(&mut self, chunk: &Bytes, mut each: impl FnMut(Frame<'_>)) -> Result<(), TooLarge> {
        if self.failed {
            return Err(TooLarge);
        }
        let mut from = 0;
        while let Some(end) = self.cutter.next(chunk, from) {
            let part = &chunk[from..end.at];
            from = end.at;
            self.check(part.len())?;
            let first = std::mem::take(&mut self.first);
            if self.pending.is_empty() {
                each(Frame::of(part, first));
            } else {
                self.pending.extend_from_slice(part);
                each(Frame::of(&self.pending, first));
                self.pending.clear();
            }
        }
        self.check(chunk.len() - from)?;
        self.pending.extend_from_slice(&chunk[from..]);
        Ok(())
    }

    /// Returns how many bytes of an unfinished frame are held.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The stream is at its end: what is held is a last frame, though its blank line is missing.
    pub fn finish(&mut self, mut each: impl FnMut(Frame<'_>)) {
        if !self.pending.is_empty() {
            each(Frame::of(&self.pending, std::mem::take(&mut self.first)));
            self.pending.clear();
        }
    }

    fn check(&mut self, more: usize) -> Result<(), TooLarge> {
        if self.pending.len() + more > self.max_frame {
            self.failed = true;
            self.pending = Vec::new();
            return Err(TooLarge);
        }
        Ok(())
    }
}

/// Where a frame ends in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// After the blank line.
    pub at: usize,
    /// The LF of a CR LF whose CR ended the frame before, in the chunk before.
    pub late: bool,
}

/// Finds the ends of frames; every byte of the stream must come by once, in order.
#[derive(Debug)]
pub struct Cutter {
    /// The line at hand is still empty.
    blank: bool,
    /// The last byte was a CR: an LF now belongs to it.
    after_cr: bool,
    /// That CR ended a frame.
    ended: bool,
}

impl Default for Cutter {
    fn default() -> Self {
        Self {
            blank: true,
            after_cr: false,
            ended: false,
        }
    }
}

impl Cutter {
    /// Returns the next end of a frame in `chunk` from `from` on; `None` takes note of all that is left there.
    pub fn next(&mut self, chunk: &[u8], from: usize) -> Option<End> {
        let mut at = from;
        if self.after_cr && at < chunk.len() {
            self.after_cr = false;
            if chunk[at] == b'\n' {
                at += 1;
                if std::mem::take(&mut self.ended) {
                    return Some(End { at, late: true });
                }
            }
            self.ended = false;
        }
        while at < chunk.len() {
            let Some(length) = memchr::memchr2(b'\n', b'\r', &chunk[at..]) else {
                self.blank = false;
                return None;
            };
            let was_blank = self.blank && length == 0;
            let is_cr = chunk[at + length] == b'\r';
            at += length + 1;
            self.blank = true;
            if is_cr {
                match chunk.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => {
                        self.after_cr = true;
                        self.ended = was_blank;
                    }
                }
            }
            if was_blank {
                return Some(End { at, late: false });
            }
        }
        None
    }
}

impl<'f> Frame<'f> {
    /// Reads the fields of one frame. The stream's `first` one may begin with a byte order mark.
    pub fn of(raw: &'f [u8], first: bool) -> Self {
        let mut rest = &raw[if first { mark(raw) } else { 0 }..];
        let mut event: &[u8] = b"";
        let mut data: Option<Cow<'f, [u8]>> = None;
        while !rest.is_empty() {
            let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let line = &rest[..length];
            // An LF after a CR makes an empty line, which says nothing here.
            rest = rest.get(length + 1..).unwrap_or_default();
            if let Some(value) = field(line, b"data") {
                match &mut data {
                    None => data = Some(Cow::Borrowed(value)),
                    Some(lines) => {
                        let lines = lines.to_mut();
                        lines.push(b'\n');
                        lines.extend_from_slice(value);
                    }
                }
            } else if let Some(value) = field(line, b"event") {
                event = value;
            }
        }
        Self {
            raw,
            event,
            is_comment: data.is_none(),
            data: data.unwrap_or_default(),
        }
    }
}

/// Returns the length of the byte order mark that `raw` begins with.
pub fn mark(raw: &[u8]) -> usize {
    if raw.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    }
}

/// Returns the value of `line` where its field is `name`.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let rest = line.strip_prefix(name)?;
    match rest.split_first() {
        None => Some(rest),
        Some((b':', value)) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        Some(_) => None,
    }
}
