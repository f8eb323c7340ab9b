//! A body of any size, counted and hashed while it passes, and never held whole.

use bytes::Bytes;
use hyper::header::HeaderMap;
use ring::digest::{Context, SHA256};
use serde_json::{Value, json};

use super::calls::BODY_MAX;

/// The most bytes kept of one part of a form.
const PART_MAX: usize = 64 << 10;
/// The most parts that are told apart.
const PARTS_MAX: usize = 256;
/// The most bytes of a part's own headers.
const HEAD_MAX: usize = 16 << 10;

/// A body so far.
pub(super) struct Upload {
    /// The first of it, as `GET /_calls` shows it.
    pub start: Vec<u8>,
    pub length: u64,
    hash: Context,
    form: Option<Form>,
}

/// A part of a form that has come whole.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub name: String,
    pub filename: Option<String>,
    pub media_type: Option<String>,
    pub length: u64,
    pub sha256: String,
    /// The first of its bytes.
    pub start: Vec<u8>,
}

impl Upload {
    pub fn new(headers: &HeaderMap) -> Self {
        let media_type = headers
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        Self {
            start: Vec::new(),
            length: 0,
            hash: Context::new(&SHA256),
            form: boundary(media_type).map(Form::new),
        }
    }

    pub fn push(&mut self, chunk: &Bytes) {
        let room = BODY_MAX - self.start.len().min(BODY_MAX);
        self.start
            .extend_from_slice(&chunk[..chunk.len().min(room)]);
        self.length += chunk.len() as u64;
        self.hash.update(chunk);
        if let Some(form) = &mut self.form {
            form.push(chunk);
        }
    }

    /// Returns the parts of the form, and what `GET /_calls` tells of it all.
    pub fn end(self) -> (Vec<Part>, Value) {
        let mut told = json!({"bytes": self.length, "sha256": hex(self.hash.finish().as_ref())});
        let Some(form) = self.form else {
            return (Vec::new(), told);
        };
        told["closed"] = json!(form.state == State::After);
        let parts = form.parts.iter().map(|part| {
            json!({"name": part.name, "filename": part.filename, "media_type": part.media_type,
                "bytes": part.length, "sha256": part.sha256,
                "text": part.text().filter(|_| part.filename.is_none())})
        });
        told["parts"] = parts.collect();
        (form.parts, told)
    }
}

impl Part {
    /// Returns the part as text, where it is short and is one.
    pub fn text(&self) -> Option<&str> {
        if self.length != self.start.len() as u64 {
            return None;
        }
        std::str::from_utf8(&self.start).ok()
    }
}

/// A `multipart/form-data` that is read in pieces, <https://www.rfc-editor.org/rfc/rfc7578>.
struct Form {
    /// `\r\n--` and the boundary.
    border: Vec<u8>,
    state: State,
    /// What is not yet decided on: never more than a border or a part's head.
    rest: Vec<u8>,
    /// So many bytes to come are still the head's last line end.
    skip: usize,
    open: Option<(Part, Context)>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first border.
    Before,
    /// After a border: a line's end, or the form's.
    Border,
    Head,
    Data,
    After,
}

impl Form {
    fn new(boundary: &str) -> Self {
        Self {
            border: format!("\r\n--{boundary}").into_bytes(),
            state: State::Before,
            // The first border has no line before it.
            rest: b"\r\n".to_vec(),
            skip: 0,
            open: None,
            parts: Vec::new(),
        }
    }

    fn push(&mut self, chunk: &[u8]) {
        if self.state == State::After {
            return;
        }
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(chunk);
        let mut at = 0;
        while let Some(taken) = self.step(&bytes[at..]) {
            at += taken;
        }
        bytes.drain(..at);
        self.rest = bytes;
    }

    /// Takes what can be decided on; `None` where more has to come.
    fn step(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.state {
            State::Before | State::Data => {
                let Some(at) = memchr::memmem::find(bytes, &self.border) else {
                    // The end may be the start of a border.
                    let sure = bytes.len().saturating_sub(self.border.len() - 1);
                    self.data(&bytes[..sure]);
                    return (sure > 0).then_some(sure);
                };
                self.data(&bytes[..at]);
                self.close();
                self.state = State::Border;
                Some(at + self.border.len())
            }
            State::Border if bytes.len() < 2 => None,
            State::Border if bytes.starts_with(b"--") => {
                self.state = State::After;
                Some(bytes.len())
            }
            State::Border => {
                self.state = State::Head;
                // The line's end stays: a part without headers has its blank line at once.
                Some(0)
            }
            State::Head => {
                let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                    if bytes.len() > HEAD_MAX {
                        self.state = State::After;
                        return Some(bytes.len());
                    }
                    return None;
                };
                let part = part(&String::from_utf8_lossy(&bytes[..end]));
                self.open = Some((part, Context::new(&SHA256)));
                self.state = State::Data;
                // The second line's end stays: it begins the border where a part is empty.
                self.skip = 2;
                Some(end + 2)
            }
            State::After => None,
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let bytes = &bytes[skipped..];
        if let Some((part, hash)) = &mut self.open {
            let room = PART_MAX - part.start.len().min(PART_MAX);
            part.start
                .extend_from_slice(&bytes[..bytes.len().min(room)]);
            part.length += bytes.len() as u64;
            hash.update(bytes);
        }
    }

    fn close(&mut self) {
        self.skip = 0;
        if let Some((mut part, hash)) = self.open.take()
            && self.parts.len() < PARTS_MAX
        {
            part.sha256 = hex(hash.finish().as_ref());
            self.parts.push(part);
        }
    }
}

fn part(head: &str) -> Part {
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known
                .trim()
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    let disposition = field("content-disposition").unwrap_or_default();
    let quoted = |name: &str| {
        let (_, rest) = disposition.split_once(&format!("; {name}="))?;
        let rest = rest.strip_prefix('"')?;
        Some(rest[..rest.find('"')?].to_owned())
    };
    Part {
        name: quoted("name").unwrap_or_default(),
        filename: quoted("filename"),
        media_type: field("content-type"),
        length: 0,
        sha256: String::new(),
        start: Vec::new(),
    }
}

/// Returns the boundary that a media type names.
fn boundary(media_type: &str) -> Option<&str> {
    let (kind, parameters) = media_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parameters
        .split(';')
        .find_map(|pair| pair.trim().strip_prefix("boundary="))?;
    Some(value.trim_matches('"')).filter(|boundary| !boundary.is_empty())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(boundary: &str) -> HeaderMap {
        let value = format!("multipart/form-data; boundary={boundary}");
        let mut headers = HeaderMap::new();
        headers.insert("content-type", value.parse().expect("a header's value"));
        headers
    }

    #[test]
    fn a_form_is_the_same_wherever_it_is_cut() {
        let body = b"--xx\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--xx\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\nContent-Type: text/plain\r\n\r\n\
            one\r\n--x\r\ntwo\r\n--xx\r\ncontent-disposition: form-data; name=\"empty\"\r\n\r\n\r\n--xx--\r\n";
        for size in 1..=body.len() {
            let mut upload = Upload::new(&headers("xx"));
            for chunk in body.chunks(size) {
                upload.push(&Bytes::copy_from_slice(chunk));
            }
            let (parts, told) = upload.end();
            assert_eq!(told["closed"], true, "in pieces of {size}");
            let texts: Vec<_> = parts
                .iter()
                .map(|part| (part.name.as_str(), part.text()))
                .collect();
            let expected = [
                ("purpose", Some("batch")),
                ("file", Some("one\r\n--x\r\ntwo")),
                ("empty", Some("")),
            ];
            assert_eq!(texts, expected, "in pieces of {size}");
            assert_eq!(parts[1].filename.as_deref(), Some("a.jsonl"));
        }
    }

    #[test]
    fn little_is_held_of_much() {
        let mut upload = Upload::new(&headers("b"));
        upload.push(&Bytes::from_static(
            b"--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"big\"\r\n\r\n",
        ));
        let chunk = Bytes::from(vec![b'-'; 1 << 20]);
        for _ in 0..64 {
            upload.push(&chunk);
        }
        upload.push(&Bytes::from_static(b"\r\n--b--\r\n"));
        assert!(upload.start.len() <= BODY_MAX);
        let (parts, told) = upload.end();
        assert_eq!(parts[0].length, 64 << 20);
        assert_eq!(parts[0].start.len(), PART_MAX);
        assert_eq!(told["parts"][0]["bytes"], 64 << 20);
    }
}
