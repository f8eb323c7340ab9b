//! The tap on a passed answer: client and provider speak the same protocol, so its bytes go by as they are, and what
//! the gateway must know (usage, finish, failure, the first word) is read on the way, without a tree.

use std::ops::Range;

use bytes::Bytes;

use super::Protocol;
use super::chat::Finish;
use super::event::FailureClass;
use super::usage::Usage;
use crate::codec::json;
use crate::codec::sse::{Cutter, Frame, mark};
use chunk::Found;

pub(super) use failure::read as failure;
pub use whole::{Whole, whole};

mod chunk;
mod completions;
mod failure;
mod gemini;
mod responses;
mod whole;

/// Watches one streamed answer.
///
/// Bytes are passed on as soon as they come, frames whole or not; with `hide_usage` only whole frames are. A frame
/// that tells a failure is not passed on (its caller says it to the client), unless its beginning already was; after
/// it nothing is read or passed on.
#[derive(Debug)]
pub struct Tap {
    /// The answer has begun to say something: content, reasoning, a tool call, a finish.
    pub semantic: bool,
    /// Events with data.
    pub events: u32,
    /// The answer came to its proper end.
    pub finished: bool,
    /// The protocol's end marker was passed on: `[DONE]`, `message_stop`.
    pub done_marker: bool,
    pub failure: Option<(FailureClass, String)>,
    pub usage: Option<Usage>,
    pub model: Option<String>,
    pub finish: Option<Finish>,
    pub service_tier: Option<String>,
    /// Bytes of text, reasoning and arguments that the answer said.
    pub output_chars: u64,
    /// What Google looked up for the answer.
    grounding: gemini::Grounding,
    protocol: Protocol,
    hide_usage: bool,
    /// Frames are passed on whole, or not at all.
    whole: bool,
    max_frame: usize,
    cutter: Cutter,
    /// The beginning of a frame that isn't whole yet.
    pending: Vec<u8>,
    /// No frame was read yet.
    first: bool,
    /// The last frame was hidden, and so is an LF that belongs to it.
    dropped: bool,
    /// What the client has ends inside a frame.
    inside: bool,
}

/// What becomes of a frame.
enum Fate {
    Pass,
    /// Passed without these bytes.
    Cut(Range<usize>),
    Drop,
    /// It told a failure.
    Fail,
}

impl Tap {
    /// `hide_usage`: we asked for OpenAI's usage chunk, and the client did not. Frames longer than `max_frame` are a
    /// failure.
    pub fn new(protocol: Protocol, hide_usage: bool, max_frame: usize) -> Self {
        Self {
            semantic: false,
            events: 0,
            finished: false,
            done_marker: false,
            failure: None,
            usage: None,
            model: None,
            finish: None,
            service_tier: None,
            output_chars: 0,
            grounding: gemini::Grounding::default(),
            protocol,
            hide_usage: hide_usage && protocol.asks_for_usage(),
            whole: false,
            max_frame,
            cutter: Cutter::default(),
            pending: Vec::new(),
            first: true,
            dropped: false,
            inside: false,
        }
    }

    /// Passes on no frame before it is whole: what breaks off in one can be gone on with.
    pub fn whole_frames(mut self) -> Self {
        self.whole = true;
        self
    }

    /// Takes a piece of the provider's answer; appends what the client is to get.
    pub fn feed(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        if self.failure.is_some() || chunk.is_empty() {
            return;
        }
        if self.hide_usage || self.whole {
            self.feed_hiding(&chunk, out);
        } else {
            self.feed_passing(chunk, out);
        }
    }

    /// The provider's answer is at its end; appends what was still held back, and ends a last frame that lacks its
    /// blank line.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() || self.failure.is_some() {
            return;
        }
        // Half an event is a cut, which the caller sees by `finished`, and not garbage.
        let frame = Frame::of(&pending, self.first);
        if !frame.is_comment
            && !is_end_marker(&frame.data)
            && json::members(&frame.data, usize::MAX, &mut Vec::new()).is_err()
        {
            return;
        }
        let fate = self.judge(&pending);
        let blank: &[u8] = if pending.ends_with(b"\n") || pending.ends_with(b"\r") {
            b"\n"
        } else {
            b"\n\n"
        };
        let mut rest = Vec::new();
        if self.hide_usage || self.whole {
            match fate {
                Fate::Pass => rest.extend_from_slice(&pending),
                Fate::Cut(hole) => {
                    rest.extend_from_slice(&pending[..hole.start]);
                    rest.extend_from_slice(&pending[hole.end..]);
                }
                Fate::Drop | Fate::Fail => return,
            }
        }
        rest.extend_from_slice(blank);
        self.inside = false;
        out.push(Bytes::from(rest));
    }

    /// Returns whether what the client has ends between two frames, so that another may be put in.
    pub fn at_boundary(&self) -> bool {
        !self.inside
    }

    fn feed_passing(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        let mut from = 0;
        while let Some(end) = self.cutter.next(&chunk, from) {
            let begun = !self.pending.is_empty();
            if let Fate::Fail = self.take(&chunk[from..end.at]) {
                let most = if begun { end.at } else { from };
                self.inside = false;
                if most > 0 {
                    out.push(chunk.slice(..most));
                }
                return;
            }
            from = end.at;
        }
        self.hold(&chunk[from..]);
        self.inside = !self.pending.is_empty() || (self.failure.is_some() && from < chunk.len());
        out.push(chunk);
    }

    fn feed_hiding(&mut self, chunk: &Bytes, out: &mut Vec<Bytes>) {
        // Kept and not yet passed on: what was copied, then the chunk from here to the last frame's end.
        let mut copied: Vec<u8> = Vec::new();
        let mut kept = 0;
        let mut from = 0;
        while let Some(end) = self.cutter.next(chunk, from) {
            let begun = std::mem::take(&mut self.pending);
            let fate = if end.late {
                if self.dropped { Fate::Drop } else { Fate::Pass }
            } else if begun.is_empty() {
                self.take(&chunk[from..end.at])
            } else {
                let mut whole = begun;
                whole.extend_from_slice(&chunk[from..end.at]);
                let fate = if whole.len() > self.max_frame {
                    self.too_large()
                } else {
                    self.judge(&whole)
                };
                match &fate {
                    Fate::Pass => copied.extend_from_slice(&whole),
                    Fate::Cut(hole) => {
                        copied.extend_from_slice(&whole[..hole.start]);
                        copied.extend_from_slice(&whole[hole.end..]);
                    }
                    Fate::Drop | Fate::Fail => {}
                }
                self.dropped = matches!(fate, Fate::Drop);
                (kept, from) = (end.at, end.at);
                if let Fate::Fail = fate {
                    break;
                }
                continue;
            };
            self.dropped = matches!(fate, Fate::Drop);
            match fate {
                Fate::Pass => {}
                Fate::Cut(hole) => {
                    copied.reserve(chunk.len() - kept);
                    copied.extend_from_slice(&chunk[kept..from + hole.start]);
                    kept = from + hole.end;
                }
                Fate::Drop => {
                    copied.extend_from_slice(&chunk[kept..from]);
                    kept = end.at;
                }
                Fate::Fail => break,
            }
            from = end.at;
        }
        if self.failure.is_none() {
            self.hold(&chunk[from..]);
        }
        if copied.is_empty() {
            if kept < from {
                out.push(chunk.slice(kept..from));
            }
        } else {
            copied.extend_from_slice(&chunk[kept..from]);
            out.push(Bytes::from(copied));
        }
    }

    /// Reads the frame that `part` completes.
    fn take(&mut self, part: &[u8]) -> Fate {
        if self.pending.len() + part.len() > self.max_frame {
            return self.too_large();
        }
        if self.pending.is_empty() {
            return self.judge(part);
        }
        let mut whole = std::mem::take(&mut self.pending);
        whole.extend_from_slice(part);
        let fate = self.judge(&whole);
        // Its memory serves again.
        whole.clear();
        self.pending = whole;
        fate
    }

    fn hold(&mut self, part: &[u8]) {
        if self.pending.len() + part.len() > self.max_frame {
            self.too_large();
        } else {
            self.pending.extend_from_slice(part);
        }
    }

    fn too_large(&mut self) -> Fate {
        self.pending = Vec::new();
        self.failure = Some((
            FailureClass::Garbage,
            "An event of the stream is too large.".to_owned(),
        ));
        Fate::Fail
    }

    /// Reads one whole frame.
    fn judge(&mut self, raw: &[u8]) -> Fate {
        let first = std::mem::take(&mut self.first);
        let frame = Frame::of(raw, first);
        if frame.is_comment || frame.data.iter().all(u8::is_ascii_whitespace) {
            return Fate::Pass;
        }
        self.events = self.events.saturating_add(1);
        if self.done_marker {
            // Whatever it is, clients stopped reading.
            return Fate::Pass;
        }
        match self.protocol {
            Protocol::OpenaiChat => self.openai(&frame, first),
            Protocol::Anthropic => self.anthropic(&frame),
            Protocol::Gemini => {
                self.grounding.join(gemini::grounding(&frame.data));
                let grounding = self.grounding;
                self.plain(&frame, gemini::chunk, |read, json| {
                    grounding.usage(read, json)
                })
            }
            Protocol::OpenaiResponses => self.plain(&frame, responses::chunk, responses::usage),
            Protocol::OpenaiCompletions => {
                self.plain(&frame, completions::chunk, completions::usage)
            }
            // No client speaks these to a provider that does: they are always translated.
            Protocol::Bedrock | Protocol::Cohere | Protocol::Ollama => {
                self.fail(FailureClass::Garbage, "This protocol is not passed on.")
            }
        }
    }

    fn openai(&mut self, frame: &Frame<'_>, first: bool) -> Fate {
        let data = &*frame.data;
        if is_end_marker(data) {
            if !self.semantic {
                return self.fail(
                    FailureClass::Cut,
                    "The provider ended its stream before it said anything.",
                );
            }
            self.finished = true;
            self.done_marker = true;
            return Fate::Pass;
        }
        let Ok(found) = chunk::openai(data) else {
            return self.fail(FailureClass::Garbage, "An event of the stream is not JSON.");
        };
        if let Some(told) = failure::openai(data, &found, frame.event) {
            self.failure = Some(told);
            return Fate::Fail;
        }
        self.note(data, &found);
        if let Some(usage) = found.usage.clone() {
            let mut read = self.usage.take().unwrap_or_default();
            let was_told = read != Usage::default();
            if read.read_openai_chat(&data[usage]) {
                read.tier = self.service_tier.as_deref().map(Into::into);
                self.usage = Some(read);
            } else if was_told {
                self.usage = Some(read);
            }
        }
        if !self.hide_usage {
            return Fate::Pass;
        }
        if found.choices == 0 && found.has_usage {
            return Fate::Drop;
        }
        match (found.null_usage, &frame.data) {
            (Some(hole), std::borrow::Cow::Borrowed(_)) => match offset(frame.raw, first) {
                Some(start) => Fate::Cut(start + hole.start..start + hole.end),
                None => Fate::Pass,
            },
            // Over several lines the places differ; it says nothing, so it may stay.
            (Some(_), std::borrow::Cow::Owned(_)) | (None, _) => Fate::Pass,
        }
    }

    fn anthropic(&mut self, frame: &Frame<'_>) -> Fate {
        let data = &*frame.data;
        let Ok(found) = chunk::anthropic(data) else {
            return self.fail(FailureClass::Garbage, "An event of the stream is not JSON.");
        };
        let kind = found.kind.clone().map_or(frame.event, |kind| &data[kind]);
        if let Some(told) = failure::anthropic(data, &found, kind) {
            self.failure = Some(told);
            return Fate::Fail;
        }
        self.note(data, &found);
        if let Some(usage) = found.usage.clone() {
            let mut read = self.usage.take().unwrap_or_default();
            let was_told = read != Usage::default();
            if read.read_anthropic(&data[usage]) || was_told {
                self.usage = Some(read);
            }
        }
        match kind {
            b"content_block_delta" | b"message_delta" => self.semantic = true,
            b"message_stop" => {
                self.semantic = true;
                self.finished = true;
                self.done_marker = true;
            }
            _ => {}
        }
        Fate::Pass
    }

    /// Reads an event of a protocol whose events tell all that there is to know by themselves.
    fn plain(
        &mut self,
        frame: &Frame<'_>,
        read: fn(&[u8]) -> Result<Found, json::JsonError>,
        usage: impl FnOnce(&mut Usage, &[u8]) -> bool,
    ) -> Fate {
        let data = &*frame.data;
        if is_end_marker(data) {
            self.done_marker = true;
            return Fate::Pass;
        }
        let Ok(found) = read(data) else {
            return self.fail(FailureClass::Garbage, "An event of the stream is not JSON.");
        };
        if let Some(told) = failure::openai(data, &found, frame.event) {
            self.failure = Some(told);
            return Fate::Fail;
        }
        self.note(data, &found);
        self.finished |= found.ends;
        if let Some(place) = found.usage.clone() {
            let mut read = self.usage.take().unwrap_or_default();
            let was_told = read != Usage::default();
            if usage(&mut read, &data[place]) || was_told {
                read.tier = self.service_tier.as_deref().map(Into::into).or(read.tier);
                self.usage = Some(read);
            }
        }
        if self.hide_usage && found.choices == 0 && found.has_usage {
            return Fate::Drop;
        }
        Fate::Pass
    }

    /// Takes over what every protocol tells.
    fn note(&mut self, data: &[u8], found: &Found) {
        self.semantic |= found.semantic;
        self.output_chars = self.output_chars.saturating_add(found.chars);
        if let Some(finish) = found.finish {
            // Of several answers the first that was cut short counts, else the first.
            if self.finish.is_none() || finish == Finish::Length {
                self.finish = Some(finish);
            }
            self.finished |= self.protocol == Protocol::OpenaiChat;
        }
        let text = |range: &Option<Range<usize>>| {
            let text = json::string(data, range.clone()?)?;
            (!text.is_empty()).then(|| text.into_owned())
        };
        if self.model.is_none() {
            self.model = text(&found.model);
        }
        if found.tier.is_some() {
            self.service_tier = text(&found.tier).or(self.service_tier.take());
        }
    }

    fn fail(&mut self, class: FailureClass, message: &str) -> Fate {
        self.failure = Some((class, message.to_owned()));
        Fate::Fail
    }
}

fn is_end_marker(data: &[u8]) -> bool {
    data.trim_ascii() == b"[DONE]"
}

/// Returns where the value of the only `data:` line begins.
fn offset(raw: &[u8], first: bool) -> Option<usize> {
    let mut start = if first { mark(raw) } else { 0 };
    loop {
        let line = raw.get(start..)?;
        if let Some(value) = line.strip_prefix(b"data:") {
            return Some(start + 5 + usize::from(value.first() == Some(&b' ')));
        }
        start += memchr::memchr2(b'\n', b'\r', line)? + 1;
    }
}
