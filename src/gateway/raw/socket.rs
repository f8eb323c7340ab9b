//! A realtime session (WebSocket, RFC 6455) on its way to the client: what its answers took is read as they pass.

use crate::codec::json;
use crate::protocol::Protocol;
use crate::protocol::tap;
use crate::protocol::usage::Usage;

/// A message that tells usage is far shorter; sound in base64 may be longer, and is not looked at.
const MOST: usize = 1 << 20;
/// The longest head of a frame.
const MOST_HEAD: usize = 14;

/// Reads frames of a server, which are not masked, in pieces as they come.
#[derive(Debug, Default)]
pub struct Socket {
    /// The beginning of a head that isn't whole yet.
    head: Vec<u8>,
    frame: Frame,
    /// The message so far.
    message: Vec<u8>,
    /// All answers together.
    pub usage: Option<Usage>,
    /// The model, as the provider says.
    pub model: Option<String>,
}

/// The frame whose payload is passing.
#[derive(Debug, Default)]
struct Frame {
    left: u64,
    /// It is a piece of text that may be read.
    told: bool,
    last: bool,
}

/// What a head says.
struct Head {
    length: usize,
    payload: u64,
    last: bool,
    opcode: u8,
    masked: bool,
}

impl Socket {
    /// Takes a piece of what the provider sends.
    pub fn feed(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.frame.left == 0 {
                let missing = MOST_HEAD - self.head.len();
                let before = self.head.len();
                self.head.extend(piece.iter().take(missing));
                let Some(head) = read(&self.head) else {
                    return;
                };
                self.head.clear();
                piece = piece.get(head.length - before..).unwrap_or_default();
                self.begin(&head);
            }
            let size = usize::try_from(self.frame.left).unwrap_or(usize::MAX);
            let (payload, rest) = piece.split_at(size.min(piece.len()));
            piece = rest;
            self.frame.left -= payload.len() as u64;
            if self.frame.told && self.message.len() + payload.len() <= MOST {
                self.message.extend_from_slice(payload);
            } else if self.frame.told {
                self.frame.told = false;
                self.message = Vec::new();
            }
            if self.frame.left == 0 && self.frame.last && self.frame.told {
                let message = std::mem::take(&mut self.message);
                self.take(&message);
            }
        }
    }

    fn begin(&mut self, head: &Head) {
        const CONTINUATION: u8 = 0;
        const TEXT: u8 = 1;
        // Pings and their like may come between the frames of a message.
        let control = head.opcode >= 8;
        if head.opcode == TEXT {
            self.message.clear();
        }
        let goes_on = head.opcode == CONTINUATION && !self.message.is_empty();
        self.frame = Frame {
            left: head.payload,
            told: !control && !head.masked && (head.opcode == TEXT || goes_on),
            last: head.last,
        };
    }

    fn take(&mut self, message: &[u8]) {
        // Most are pieces of sound and text.
        let tells = |name: &[u8]| memchr::memmem::find(message, name).is_some();
        let (done, session) = (tells(b"\"response.done\""), tells(b"\"session."));
        if !done && !session {
            return;
        }
        if let Some(response) = member(message, "response").filter(|_| done)
            && let Some(usage) = tap::whole(Protocol::OpenaiResponses, response).usage
        {
            self.usage = Some(match &self.usage {
                Some(before) => before.plus(&usage),
                None => usage,
            });
        }
        if let Some(session) = member(message, "session").filter(|_| session)
            && let Some(model) = member(session, "model")
        {
            let model = json::string(model, 0..model.len());
            self.model = model
                .map(std::borrow::Cow::into_owned)
                .or(self.model.take());
        }
    }
}

/// Reads a head; `None` until all of it is there.
fn read(bytes: &[u8]) -> Option<Head> {
    let [first, second, ..] = *bytes else {
        return None;
    };
    let masked = second & 0x80 != 0;
    let (wide, payload) = match second & 0x7f {
        126 => {
            let length = bytes.get(2..4)?.try_into().ok()?;
            (2, u64::from(u16::from_be_bytes(length)))
        }
        127 => {
            let length = bytes.get(2..10)?.try_into().ok()?;
            (8, u64::from_be_bytes(length))
        }
        short => (0, u64::from(short)),
    };
    let length = 2 + wide + if masked { 4 } else { 0 };
    (bytes.len() >= length).then_some(Head {
        length,
        payload,
        last: first & 0x80 != 0,
        opcode: first & 0x0f,
        masked,
    })
}

fn member<'b>(object: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let mut members = Vec::new();
    json::members(object, usize::MAX, &mut members).ok()?;
    let mut members = members.iter();
    let found = members.find(|member| json::key(object, member) == name)?;
    object.get(found.value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(short as u8),
            middle @ 126..0x1_0000 => {
                frame.push(126);
                frame.extend((middle as u16).to_be_bytes());
            }
            long => {
                frame.push(127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        [&frame[..], payload].concat()
    }

    fn done(input: u32) -> Vec<u8> {
        format!(
            r#"{{"type":"response.done","response":{{"object":"realtime.response","status":"completed","output":[],
                "usage":{{"total_tokens":{input},"input_tokens":{input},"output_tokens":10,
                "input_token_details":{{"text_tokens":0,"audio_tokens":{input},"cached_tokens":4,"cached_tokens_details":{{"audio_tokens":4}}}},
                "output_token_details":{{"text_tokens":4,"audio_tokens":6}}}}}}}}"#
        )
        .into_bytes()
    }

    #[test]
    fn a_session_took_what_its_answers_took_however_it_is_cut() {
        let sound = format!(
            r#"{{"type":"response.output_audio.delta","delta":"{}"}}"#,
            "A".repeat(70_000)
        );
        let second = done(200);
        let (begins, ends) = second.split_at(50);
        let stream = [
            frame(
                0x81,
                br#"{"type":"session.created","session":{"model":"gpt-realtime-2"}}"#,
            ),
            frame(0x81, sound.as_bytes()),
            frame(0x81, &done(100)),
            // In two frames, with a ping between them, and sound as bytes after them.
            frame(0x01, begins),
            frame(0x89, b"ping"),
            frame(0x80, ends),
            frame(0x82, &done(999)),
            frame(0x88, b"\x03\xe8"),
        ]
        .concat();
        for size in [1, 2, 7, 1000, stream.len()] {
            let mut socket = Socket::default();
            for piece in stream.chunks(size) {
                socket.feed(piece);
            }
            let usage = socket.usage.expect("usage");
            assert_eq!((usage.input, usage.output), (300, 20), "{size}");
            assert_eq!((usage.audio_in, usage.audio_cached), (300, 8), "{size}");
            assert_eq!(usage.audio_out, 12, "{size}");
            assert_eq!(socket.model.as_deref(), Some("gpt-realtime-2"));
        }
    }

    #[test]
    fn what_is_too_long_is_let_by() {
        let mut socket = Socket::default();
        socket.feed(&frame(0x81, &vec![b'x'; MOST + 1]));
        assert!(socket.message.is_empty());
        socket.feed(&frame(0x81, &done(7)));
        assert_eq!(socket.usage.map(|usage| usage.input), Some(7));
    }
}
