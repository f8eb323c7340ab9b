//! AWS's binary event stream (`application/vnd.amazon.eventstream`): finds whole messages in chunks that are cut
//! anywhere, and writes them.
//!
//! <https://smithy.io/2.0/aws/amazon-eventstream.html>. A message is its length, the length of its headers and a
//! checksum of these two; the headers; the payload; a checksum of everything before it. Both checksums are looked at,
//! so that a message that is handed out is one that was sent.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// Two lengths and their checksum.
const PRELUDE: usize = 12;
/// The checksum of the message.
const TRAILER: usize = 4;

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'m> {
    /// As it came. The messages of a stream, put together, are the stream.
    pub raw: &'m [u8],
    /// The `:event-type`, or empty.
    pub event_type: &'m str,
    /// The `:exception-type`: an error that the service's model knows, told in the payload.
    pub exception_type: Option<&'m str>,
    /// The `:error-code` and `:error-message` of an error that it does not know.
    pub error: Option<(&'m str, &'m str)>,
    pub payload: &'m [u8],
}

impl<'m> Message<'m> {
    /// Returns what names this message: its event type, its exception type or its error code.
    pub fn name(&self) -> &'m str {
        match (self.exception_type, self.error) {
            (Some(exception), _) => exception,
            (None, Some((code, _))) => code,
            (None, None) => self.event_type,
        }
    }

    /// Returns the payload; that of an error without one is made of its message.
    pub fn data(&self) -> Cow<'m, [u8]> {
        match self.error {
            Some((_, message)) if self.payload.is_empty() => {
                let quoted = serde_json::to_string(message).unwrap_or_default();
                Cow::Owned(format!("{{\"message\":{quoted}}}").into_bytes())
            }
            Some(_) | None => Cow::Borrowed(self.payload),
        }
    }
}

/// This is no event stream, or not one that may be read here; nothing is read after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A message is larger than was allowed.
    TooLarge,
    /// A checksum does not fit what it covers.
    Checksum,
    /// Lengths or headers that make no message.
    Malformed,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Broken::TooLarge => "a message of the event stream is too large",
            Broken::Checksum => "a checksum of the event stream is wrong",
            Broken::Malformed => "a message of the event stream is malformed",
        })
    }
}

impl std::error::Error for Broken {}

/// Cuts a stream into messages. Messages that lie whole in a chunk are not copied.
#[derive(Debug)]
pub struct Splitter {
    max_frame: usize,
    pending: Vec<u8>,
    broken: Option<Broken>,
}

impl Splitter {
    pub fn new(max_frame: usize) -> Self {
        Self {
            max_frame,
            pending: Vec::new(),
            broken: None,
        }
    }

    /// Takes a piece of the stream, and calls `each` for every message that it completes.
    pub fn push(&mut self, chunk: &Bytes, mut each: impl FnMut(Message<'_>)) -> Result<(), Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        self.read(chunk, &mut each).inspect_err(|broken| {
            self.broken = Some(*broken);
            self.pending = Vec::new();
        })
    }

    fn read(&mut self, mut rest: &[u8], each: &mut impl FnMut(Message<'_>)) -> Result<(), Broken> {
        while !self.pending.is_empty() {
            let wanted = match self.measure(&self.pending)? {
                None => PRELUDE,
                Some(length) if length <= self.pending.len() => {
                    each(parse(&self.pending)?);
                    self.pending.clear();
                    break;
                }
                Some(length) => length,
            };
            let more = (wanted - self.pending.len()).min(rest.len());
            if more == 0 {
                return Ok(());
            }
            self.pending.extend_from_slice(&rest[..more]);
            rest = &rest[more..];
        }
        while let Some(length) = self.measure(rest)?
            && length <= rest.len()
        {
            each(parse(&rest[..length])?);
            rest = &rest[length..];
        }
        self.pending.extend_from_slice(rest);
        Ok(())
    }

    /// Returns how many bytes of an unfinished message are held: at the end of a stream, more than none is a cut.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Returns the length of the message that begins here, once that can be known.
    fn measure(&self, bytes: &[u8]) -> Result<Option<usize>, Broken> {
        let Some(prelude) = bytes.get(..PRELUDE) else {
            return Ok(None);
        };
        // Before the lengths are believed, or garbage would make us wait for gigabytes of it.
        if crc(0, &prelude[..8]) != word(prelude, 8) {
            return Err(Broken::Checksum);
        }
        let length = word(prelude, 0) as usize;
        if length.saturating_sub(PRELUDE + TRAILER) < word(prelude, 4) as usize
            || length < PRELUDE + TRAILER
        {
            return Err(Broken::Malformed);
        }
        if length > self.max_frame {
            return Err(Broken::TooLarge);
        }
        Ok(Some(length))
    }
}

/// Reads one whole message whose prelude is checked.
fn parse(raw: &[u8]) -> Result<Message<'_>, Broken> {
    let end = raw.len() - TRAILER;
    if crc(0, &raw[..end]) != word(raw, end) {
        return Err(Broken::Checksum);
    }
    let payload_at = PRELUDE + word(raw, 4) as usize;
    let mut message = Message {
        raw,
        event_type: "",
        exception_type: None,
        error: None,
        payload: &raw[payload_at..end],
    };
    let (mut code, mut text) = (None, "");
    let mut headers = &raw[PRELUDE..payload_at];
    while !headers.is_empty() {
        let (name, value) = header(&mut headers).ok_or(Broken::Malformed)?;
        let Some(value) = value else { continue };
        let value = std::str::from_utf8(value).map_err(|_| Broken::Malformed)?;
        match name {
            b":event-type" => message.event_type = value,
            b":exception-type" => message.exception_type = Some(value),
            b":error-code" => code = Some(value),
            b":error-message" => text = value,
            _ => {}
        }
    }
    message.error = code.map(|code| (code, text));
    Ok(message)
}

/// Takes one header off the front: its name, and its value where that is a string.
fn header<'m>(rest: &mut &'m [u8]) -> Option<(&'m [u8], Option<&'m [u8]>)> {
    let mut take = |length: usize| {
        let (head, tail) = rest.split_at_checked(length)?;
        *rest = tail;
        Some(head)
    };
    let length = take(1)?[0];
    let name = take(usize::from(length))?;
    let mut is_string = false;
    let length = match take(1)?[0] {
        // True and false have no bytes of their own; then integers of 1, 2, 4 and 8.
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        5 | 8 => 8,
        kind @ (6 | 7) => {
            is_string = kind == 7;
            let length = take(2)?;
            usize::from(u16::from_be_bytes([length[0], length[1]]))
        }
        9 => 16,
        _ => return None,
    };
    let value = take(length)?;
    Some((name, is_string.then_some(value)))
}

/// Appends an event with a payload of JSON.
pub fn write(event_type: &str, payload: &[u8], out: &mut Vec<u8>) {
    write_message(
        &[
            (":event-type", event_type),
            (":content-type", "application/json"),
            (":message-type", "event"),
        ],
        payload,
        out,
    );
}

/// Appends an exception with a payload of JSON, usually `{"message": …}`: the end of a stream that failed.
pub fn write_exception(exception_type: &str, payload: &[u8], out: &mut Vec<u8>) {
    write_message(
        &[
            (":exception-type", exception_type),
            (":content-type", "application/json"),
            (":message-type", "exception"),
        ],
        payload,
        out,
    );
}

/// Appends a message whose headers are strings.
pub fn write_message(headers: &[(&str, &str)], payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; PRELUDE]);
    for (name, value) in headers {
        out.push(u8::try_from(name.len()).expect("names of headers are short"));
        out.extend_from_slice(name.as_bytes());
        out.push(7);
        let length = u16::try_from(value.len()).expect("values of headers are short");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    let headers_length = length(out.len() - start - PRELUDE);
    out.extend_from_slice(payload);
    let total = length(out.len() - start + TRAILER);
    out[start..start + 4].copy_from_slice(&total);
    out[start + 4..start + 8].copy_from_slice(&headers_length);
    let sum = crc(0, &out[start..start + 8]).to_be_bytes();
    out[start + 8..start + 12].copy_from_slice(&sum);
    let sum = crc(0, &out[start..]).to_be_bytes();
    out.extend_from_slice(&sum);
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes)
        .expect("a message is far below 4 GB")
        .to_be_bytes()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The CRC-32 of `bytes` after those whose CRC-32 is `before` (the one of zip and PNG), eight bytes at a time.
fn crc(before: u32, bytes: &[u8]) -> u32 {
    let mut sum = !before;
    let mut eights = bytes.chunks_exact(8);
    for eight in &mut eights {
        let low = sum ^ u32::from_le_bytes([eight[0], eight[1], eight[2], eight[3]]);
        sum = TABLES[7][(low & 0xff) as usize]
            ^ TABLES[6][(low >> 8 & 0xff) as usize]
            ^ TABLES[5][(low >> 16 & 0xff) as usize]
            ^ TABLES[4][(low >> 24) as usize]
            ^ TABLES[3][usize::from(eight[4])]
            ^ TABLES[2][usize::from(eight[5])]
            ^ TABLES[1][usize::from(eight[6])]
            ^ TABLES[0][usize::from(eight[7])];
    }
    for byte in eights.remainder() {
        sum = TABLES[0][(sum as u8 ^ byte) as usize] ^ sum >> 8;
    }
    !sum
}

/// `TABLES[n][byte]` is what `byte` does to the sum when `n` more bytes follow it.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut follow = 1;
    while follow < 8 {
        let mut byte = 0;
        while byte < 256 {
            let sum = tables[follow - 1][byte];
            tables[follow][byte] = tables[0][(sum & 0xff) as usize] ^ sum >> 8;
            byte += 1;
        }
        follow += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One message per name, exception, error and payload.
    fn read(stream: &[u8], cut: usize) -> Result<Vec<String>, Broken> {
        let mut splitter = Splitter::new(1 << 16);
        let mut told = Vec::new();
        for piece in [&stream[..cut], &stream[cut..]] {
            splitter.push(&Bytes::copy_from_slice(piece), |message| {
                told.push(format!(
                    "{} {}",
                    message.name(),
                    String::from_utf8_lossy(&message.data())
                ));
            })?;
        }
        if splitter.pending() > 0 {
            told.push(format!("{} left", splitter.pending()));
        }
        Ok(told)
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn sums_are_those_of_the_standard() {
        assert_eq!(crc(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc(0, b""), 0);
        let long: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for cut in 0..long.len() {
            let sum = crc(crc(0, &long[..cut]), &long[cut..]);
            assert_eq!(sum, crc(0, &long), "cut at {cut}");
        }
    }

    // The vectors that AWS's SDKs share: empty_message, payload_no_headers, payload_one_str_header, int32_header.
    #[test]
    fn published_messages_are_read() {
        let empty = hex("000000100000000005c248eb7d98c8ff");
        assert_eq!(read(&empty, 0), Ok(vec![" ".to_owned()]));
        let plain = hex("0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936");
        assert_eq!(read(&plain, 0), Ok(vec![" {'foo':'bar'}".to_owned()]));
        let string = hex(
            "0000003d0000002007fd83960c636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e\
             7b27666f6f273a27626172277d8d9c08b1",
        );
        assert_eq!(read(&string, 0), Ok(vec![" {'foo':'bar'}".to_owned()]));
        let mut written = Vec::new();
        let headers = [("content-type", "application/json")];
        write_message(&headers, b"{'foo':'bar'}", &mut written);
        assert_eq!(written, string);
        let integer = hex(
            "0000002d0000001041c424b80a6576656e742d74797065040000a00c7b27666f6f273a27626172277d36f480a0",
        );
        assert_eq!(read(&integer, 0), Ok(vec![" {'foo':'bar'}".to_owned()]));
    }

    #[test]
    fn every_kind_of_header_is_passed_over() {
        let mut headers: Vec<u8> = Vec::new();
        for (kind, value) in [
            (0u8, &b""[..]),
            (1, b""),
            (2, b"\x01"),
            (3, b"\x01\x02"),
            (4, b"\x01\x02\x03\x04"),
            (5, b"\x01\x02\x03\x04\x05\x06\x07\x08"),
            (6, b"\x00\x02\xff\xfe"),
            (7, b"\x00\x02ab"),
            (8, b"\x01\x02\x03\x04\x05\x06\x07\x08"),
            (9, b"0123456789abcdef"),
        ] {
            headers.extend_from_slice(b"\x01h");
            headers.push(kind);
            headers.extend_from_slice(value);
        }
        let mut rest = &headers[..];
        let mut count = 0;
        while !rest.is_empty() {
            assert!(header(&mut rest).is_some(), "header {count}");
            count += 1;
        }
        assert_eq!(count, 10);
        assert_eq!(header(&mut &b"\x01h\x0a"[..]), None, "no such kind");
        assert_eq!(header(&mut &b"\x01h\x07\x00\x09ab"[..]), None, "too short");
    }

    #[test]
    fn messages_come_whole_wherever_the_stream_is_cut() {
        let mut stream = Vec::new();
        write("messageStart", b"{\"role\":\"assistant\"}", &mut stream);
        write_exception(
            "throttlingException",
            b"{\"message\":\"slow\"}",
            &mut stream,
        );
        let error = [
            (":message-type", "error"),
            (":error-code", "InternalFailure"),
            (":error-message", "a \"fault\""),
        ];
        write_message(&error, b"", &mut stream);
        for cut in 0..=stream.len() {
            assert_eq!(
                read(&stream, cut),
                Ok(vec![
                    "messageStart {\"role\":\"assistant\"}".to_owned(),
                    "throttlingException {\"message\":\"slow\"}".to_owned(),
                    "InternalFailure {\"message\":\"a \\\"fault\\\"\"}".to_owned(),
                ]),
                "cut at {cut}"
            );
        }
        let mut splitter = Splitter::new(1 << 16);
        let mut count = 0;
        for byte in &stream {
            let piece = Bytes::copy_from_slice(&[*byte]);
            assert_eq!(splitter.push(&piece, |_| count += 1), Ok(()));
        }
        assert_eq!((count, splitter.pending()), (3, 0));
        assert_eq!(
            read(&stream[..stream.len() - 1], 3).map(|told| told.len()),
            Ok(3),
            "the last one is not whole"
        );
    }

    #[test]
    fn a_flipped_bit_never_passes() {
        let mut stream = Vec::new();
        write("metadata", b"{}", &mut stream);
        for bit in 0..stream.len() * 8 {
            let mut flipped = stream.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped, 0).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_message_that_is_too_large_ends_the_stream_before_it_is_held() {
        let mut stream = Vec::new();
        write("metadata", &[b' '; 1000], &mut stream);
        let mut splitter = Splitter::new(999);
        let prelude = Bytes::copy_from_slice(&stream[..PRELUDE]);
        assert_eq!(splitter.push(&prelude, |_| {}), Err(Broken::TooLarge));
        assert_eq!(splitter.push(&prelude, |_| {}), Err(Broken::TooLarge));
        assert_eq!(splitter.pending(), 0);
    }

    #[test]
    fn lengths_that_contradict_each_other_are_malformed() {
        for (total, headers) in [(15u32, 0u32), (16, 1), (0, 0), (40, u32::MAX)] {
            let mut prelude = [total.to_be_bytes(), headers.to_be_bytes()].concat();
            let sum = crc(0, &prelude);
            prelude.extend_from_slice(&sum.to_be_bytes());
            prelude.extend_from_slice(&[0; 64]);
            assert_eq!(
                read(&prelude, 0),
                Err(Broken::Malformed),
                "{total} {headers}"
            );
        }
    }
}
