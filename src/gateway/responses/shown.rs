//! What an answer goes on from, said in it: a provider that got the whole conversation says `null`.

use bytes::Bytes;

use super::conversation::{member, members};
use crate::codec::json;
use crate::codec::splice::Edits;
use crate::codec::sse::Cutter;

const NAME: &[u8] = b"\"previous_response_id\"";

/// Returns a whole answer that says it goes on from `previous`.
pub fn whole(body: Bytes, previous: &str) -> Bytes {
    edited(&body, previous).unwrap_or(body)
}

/// Says it in the events of a stream that hold the whole answer. Frames are held until they are whole.
pub struct Shown {
    previous: String,
    cutter: Cutter,
    pending: Vec<u8>,
    most: usize,
}

impl Shown {
    /// What is longer than `most` bytes passes as it is.
    pub fn new(previous: &str, most: usize) -> Self {
        Self {
            previous: previous.to_owned(),
            cutter: Cutter::default(),
            pending: Vec::new(),
            most,
        }
    }

    /// Takes a piece of the stream; returns what is whole.
    pub fn put(&mut self, piece: Bytes) -> Bytes {
        let mut out = Vec::with_capacity(self.pending.len() + piece.len() + 64);
        let mut from = 0;
        while let Some(end) = self.cutter.next(&piece, from) {
            self.pending.extend_from_slice(&piece[from..end.at]);
            from = end.at;
            let frame = Bytes::from(std::mem::take(&mut self.pending));
            self.frame(frame, &mut out);
        }
        self.pending.extend_from_slice(&piece[from..]);
        if self.pending.len() > self.most {
            out.append(&mut self.pending);
        }
        out.into()
    }

    /// Returns what is left at the end of the stream.
    pub fn end(&mut self) -> Bytes {
        let mut out = Vec::new();
        let frame = Bytes::from(std::mem::take(&mut self.pending));
        self.frame(frame, &mut out);
        out.into()
    }

    fn frame(&self, frame: Bytes, out: &mut Vec<u8>) {
        if memchr::memmem::find(&frame, NAME).is_none() {
            out.extend_from_slice(&frame);
            return;
        }
        for line in frame.split_inclusive(|byte| *byte == b'\n') {
            let data = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii);
            match data.and_then(|data| self.event(&frame.slice_ref(data))) {
                Some(event) => {
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(&event);
                    out.push(b'\n');
                }
                None => out.extend_from_slice(line),
            }
        }
    }

    fn event(&self, data: &Bytes) -> Option<Bytes> {
        let found = members(data).ok()?;
        let (_, response) = member(data, &found, "response")?;
        let place = response.value.clone();
        let said = edited(&data.slice(place.clone()), &self.previous)?;
        let mut edits = Edits::new();
        edits.replace(place, said.to_vec());
        Some(edits.apply(data))
    }
}

/// Returns the response object with what it goes on from; `None` where it says so already, or is none.
fn edited(response: &Bytes, previous: &str) -> Option<Bytes> {
    let found = members(response).ok()?;
    let mut said = Vec::with_capacity(previous.len() + 2);
    json::write_string(previous, &mut said);
    let mut edits = Edits::new();
    match member(response, &found, "previous_response_id") {
        Some((_, own)) if json::is_null(response, own.value.clone()) => {
            edits.replace(own.value.clone(), said);
        }
        Some(_) => return None,
        // Whatever has no id is no response.
        None => {
            member(response, &found, "id")?;
            edits.insert_member(response, "previous_response_id", &said);
        }
    }
    Some(edits.apply(response))
}
