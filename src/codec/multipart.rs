//! Forms (`multipart/form-data`, RFC 7578): says where their parts are, copies nothing.
//!
//! One search forward for the boundary; the number of parts and the size of their headers are bounded, what is in
//! them is not looked at. What comes before the first boundary and after the last is ignored, as RFC 2046 wants.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use memchr::memmem::Finder;

use super::json::Blobs;

/// The longest boundary that RFC 2046 allows.
const BOUNDARY_MOST: usize = 70;
const PARTS_MOST: usize = 128;
/// Bytes of all headers of a part.
const HEADERS_MOST: usize = 8 << 10;
/// A part larger than this is a file, whose length says nothing of tokens.
const FILE: usize = 4096;

/// What is wrong with a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MultipartError {
    /// The content type is another one.
    NotMultipart,
    /// The content type names no boundary, or one that can't be.
    NoBoundary,
    /// It ends before its last boundary.
    Cut,
    /// Something follows a boundary on its line: others may or may not take it for one.
    Doubt,
    /// A part's headers are broken or too large.
    Header,
    /// A part has no name.
    NoName,
    /// More parts than a form may have.
    Many,
    /// Two parts have the name that only one may have.
    Twice(&'static str),
}

impl fmt::Display for MultipartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMultipart => f.write_str("the content type is not `multipart/form-data`"),
            Self::NoBoundary => f.write_str("the content type has no usable `boundary`"),
            Self::Cut => f.write_str("it ends before its last boundary"),
            Self::Doubt => f.write_str("something follows a boundary on its line"),
            Self::Header => f.write_str("the headers of a part can't be read"),
            Self::NoName => f.write_str("a part has no `name`"),
            Self::Many => write!(f, "it has more than {PARTS_MOST} parts"),
            Self::Twice(name) => write!(f, "`{name}` is given twice"),
        }
    }
}

impl std::error::Error for MultipartError {}

/// A part, as offsets into the form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub value: Range<usize>,
    /// The file's media type, where it is told.
    pub content_type: Option<Range<usize>>,
    name: Range<usize>,
    filename: Option<Range<usize>>,
}

impl Part {
    /// Returns its name, percent-encoded quotes and line ends decoded, as browsers write them.
    pub fn name<'b>(&self, body: &'b [u8]) -> Cow<'b, str> {
        decoded(body, &self.name)
    }

    pub fn filename<'b>(&self, body: &'b [u8]) -> Option<Cow<'b, str>> {
        self.filename.as_ref().map(|range| decoded(body, range))
    }
}

/// A form whose parts are found.
#[derive(Debug)]
pub struct Form<'b> {
    body: &'b [u8],
    parts: Vec<Part>,
}

impl<'b> Form<'b> {
    /// Finds the parts of a form, whose boundary its content type tells.
    pub fn read(content_type: &str, body: &'b [u8]) -> Result<Self, MultipartError> {
        let boundary = boundary(content_type)?;
        let mut delimiter = b"\r\n--".to_vec();
        delimiter.extend_from_slice(boundary.as_bytes());
        let finder = Finder::new(&delimiter);
        // The first one may stand at the very beginning, without the line end before it.
        let mut at = if body.starts_with(&delimiter[2..]) {
            delimiter.len() - 2
        } else {
            finder.find(body).ok_or(MultipartError::Cut)? + delimiter.len()
        };
        let mut parts = Vec::new();
        loop {
            let rest = &body[at..];
            if rest.starts_with(b"--") {
                return Ok(Self { body, parts });
            }
            // White space may pad a boundary.
            let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
            at += padding.count();
            if !body[at..].starts_with(b"\r\n") {
                return Err(if body.len() < at + 2 {
                    MultipartError::Cut
                } else {
                    MultipartError::Doubt
                });
            }
            if parts.len() == PARTS_MOST {
                return Err(MultipartError::Many);
            }
            let (mut part, from) = headers(body, at + 2)?;
            // An empty part ends with the line end that ends its headers.
            let end = finder.find(&body[from - 2..]).ok_or(MultipartError::Cut)? + from - 2;
            part.value = from..end.max(from);
            parts.push(part);
            at = end + delimiter.len();
        }
    }

    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Returns the part of that name, which may be there once.
    pub fn only(&self, name: &'static str) -> Result<Option<&Part>, MultipartError> {
        let mut found = self
            .parts
            .iter()
            .filter(|part| part.name(self.body) == name);
        let first = found.next();
        match found.next() {
            Some(_) => Err(MultipartError::Twice(name)),
            None => Ok(first),
        }
    }

    /// Returns the text of the first part of that name.
    pub fn text(&self, name: &str) -> Option<&'b str> {
        let part = self
            .parts
            .iter()
            .find(|part| part.name(self.body) == name)?;
        std::str::from_utf8(self.body.get(part.value.clone())?).ok()
    }

    /// Returns the files, which say nothing of tokens by their length.
    pub fn blobs(&self) -> Blobs {
        let mut blobs = Blobs::default();
        for part in self.parts.iter().filter(|part| part.value.len() >= FILE) {
            blobs.count += 1;
            blobs.bytes += part.value.len();
        }
        blobs
    }
}

/// Returns the boundary that a content type names.
pub fn boundary(content_type: &str) -> Result<&str, MultipartError> {
    let (kind, mut rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err(MultipartError::NotMultipart);
    }
    while !rest.is_empty() {
        let (name, value, after) = parameter(rest);
        if name.eq_ignore_ascii_case("boundary") {
            let fits = !value.is_empty() && value.len() <= BOUNDARY_MOST;
            return if fits && value.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
                Ok(value)
            } else {
                Err(MultipartError::NoBoundary)
            };
        }
        rest = after;
    }
    Err(MultipartError::NoBoundary)
}

/// Splits the first `name=value` off a header's parameters. Quotes around the value are taken off, and what is
/// escaped in them stays so.
fn parameter(text: &str) -> (&str, &str, &str) {
    let (name, rest) = match text.find(['=', ';']) {
        Some(at) if text.as_bytes()[at] == b'=' => (&text[..at], text[at + 1..].trim_start()),
        Some(at) => return (text[..at].trim(), "", &text[at + 1..]),
        None => return (text.trim(), "", ""),
    };
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, after) = rest.split_once(';').unwrap_or((rest, ""));
        return (name.trim(), value.trim(), after);
    };
    let mut escaped = false;
    let end = quoted.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    let (value, after) = match end {
        Some(end) => (&quoted[..end], &quoted[end + 1..]),
        None => (quoted, ""),
    };
    let after = after.split_once(';').map_or("", |(_, after)| after);
    (name.trim(), value, after)
}

/// Reads the headers of a part from `at`. Returns the part without its value, and where that begins.
fn headers(body: &[u8], at: usize) -> Result<(Part, usize), MultipartError> {
    let window = &body[at..body.len().min(at + HEADERS_MOST)];
    let end = if window.starts_with(b"\r\n") {
        0
    } else {
        memchr::memmem::find(window, b"\r\n\r\n").ok_or(MultipartError::Header)? + 2
    };
    let text = std::str::from_utf8(&window[..end]).map_err(|_| MultipartError::Header)?;
    let mut name = None;
    let mut filename = None;
    let mut content_type = None;
    for line in text.split("\r\n") {
        let Some((header, value)) = line.split_once(':') else {
            continue;
        };
        if header.trim().eq_ignore_ascii_case("content-type") {
            content_type = Some(place(body, value.trim()));
        }
        if !header.trim().eq_ignore_ascii_case("content-disposition") {
            continue;
        }
        let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
        while !rest.is_empty() {
            let (key, value, after) = parameter(rest);
            if key.eq_ignore_ascii_case("name") && name.is_none() {
                name = Some(place(body, value));
            } else if key.eq_ignore_ascii_case("filename") && filename.is_none() {
                filename = Some(place(body, value));
            }
            rest = after;
        }
    }
    let part = Part {
        value: 0..0,
        content_type,
        name: name.ok_or(MultipartError::NoName)?,
        filename,
    };
    Ok((part, at + end + 2))
}

/// Returns where `inside`, a slice of `body`, lies in it.
fn place(body: &[u8], inside: &str) -> Range<usize> {
    let start = inside.as_ptr() as usize - body.as_ptr() as usize;
    start..start + inside.len()
}

fn decoded<'b>(body: &'b [u8], range: &Range<usize>) -> Cow<'b, str> {
    let text = String::from_utf8_lossy(body.get(range.clone()).unwrap_or_default());
    if !text.contains(['%', '\\']) {
        return text;
    }
    let text = text.replace("\\\"", "\"").replace("\\\\", "\\");
    let text = text.replace("%22", "\"").replace("%0D", "\r");
    Cow::Owned(text.replace("%0A", "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=X";

    #[test]
    fn parts_are_found_where_they_are() {
        let body = b"preamble\r\n--X\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
            --X \r\ncontent-type: audio/mpeg\r\ncontent-disposition: form-data; filename=\"a;b%22.mp3\"; name=file\r\n\r\n\
            x--X is not a boundary here\r\n\r\n--X\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--X--\r\nepilogue";
        let form = Form::read(TYPE, body).unwrap();
        let told: Vec<_> = form
            .parts()
            .iter()
            .map(|part| {
                (
                    part.name(body).into_owned(),
                    part.filename(body).map(Cow::into_owned),
                    String::from_utf8_lossy(&body[part.value.clone()]).into_owned(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("model".into(), None, "whisper-1".into()),
                (
                    "file".into(),
                    Some("a;b\".mp3".into()),
                    "x--X is not a boundary here\r\n".into()
                ),
                ("empty".into(), None, String::new()),
            ]
        );
        assert_eq!(form.text("model"), Some("whisper-1"));
        let media = form.parts()[1].content_type.clone().unwrap();
        assert_eq!(&body[media], b"audio/mpeg");
    }

    #[test]
    fn a_boundary_may_be_quoted_and_stand_anywhere() {
        for (content_type, found) in [
            ("multipart/form-data; boundary=abc", Ok("abc")),
            (
                "Multipart/Form-Data;charset=utf-8; Boundary=\"a b;c\"; x=y",
                Ok("a b;c"),
            ),
            ("multipart/form-data", Err(MultipartError::NoBoundary)),
            (
                "multipart/form-data; boundary=",
                Err(MultipartError::NoBoundary),
            ),
            (
                "multipart/mixed; boundary=a",
                Err(MultipartError::NotMultipart),
            ),
            ("application/json", Err(MultipartError::NotMultipart)),
        ] {
            assert_eq!(boundary(content_type), found, "{content_type}");
        }
    }

    #[test]
    fn a_broken_form_says_what_is_wrong() {
        for (body, error) in [
            ("", MultipartError::Cut),
            ("--X", MultipartError::Cut),
            ("--X\r\n", MultipartError::Header),
            ("--X\r\n\r\nvalue\r\n--X--", MultipartError::NoName),
            (
                "--X\r\nContent-Disposition: form-data; name=a\r\n\r\nvalue",
                MultipartError::Cut,
            ),
            (
                "--X\r\nContent-Disposition: form-data; name=a\r\n\r\nvalue\r\n--X",
                MultipartError::Cut,
            ),
            (
                "--X\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--XY\r\n--X--",
                MultipartError::Doubt,
            ),
        ] {
            let read = Form::read(TYPE, body.as_bytes()).map(|form| form.parts.len());
            assert_eq!(read, Err(error), "{body:?}");
        }
        let one = "--X\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n";
        let body = format!("{}--X--", one.repeat(129));
        let read = Form::read(TYPE, body.as_bytes()).map(|form| form.parts.len());
        assert_eq!(read, Err(MultipartError::Many));
    }

    #[test]
    fn a_name_that_may_stand_once_is_refused_twice() {
        let one = "--X\r\nContent-Disposition: form-data; name=model\r\n\r\na\r\n";
        let body = format!("{}--X--", one.repeat(2));
        let form = Form::read(TYPE, body.as_bytes()).unwrap();
        assert_eq!(form.only("model"), Err(MultipartError::Twice("model")));
        assert_eq!(form.only("other"), Ok(None));
    }
}
