//! Reads the models that a body names while it passes by: the raw lane buffers nothing, and a restricted key must not
//! reach past its models by a body, a batch file or an upload.
//!
//! Every `"model": "name"` counts, however deep, whatever the body is (JSON, JSON lines, multipart): a file is not
//! parsed, so none can be shaped to hide one from the reader. A name in another place than a provider would read it
//! is refused too; only requests that are restricted to certain models are affected.

/// Longer names are no model's.
const MOST: usize = 512;

/// Watches one body.
#[derive(Debug, Default)]
pub struct Watch {
    state: State,
    text: Vec<u8>,
    escape: Escape,
    /// The text is longer than any that matters.
    long: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first quote.
    #[default]
    Out,
    Text,
    /// Behind `"model"`.
    Key,
    /// Behind its colon.
    Colon,
    Value,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    /// Inside `\uXXXX`: digits seen, and their value.
    Code(u8, u32),
}

impl Watch {
    /// Takes a piece; calls `each` with every model that it names.
    pub fn feed(&mut self, piece: &[u8], each: &mut dyn FnMut(&str)) {
        let mut at = 0;
        while at < piece.len() {
            match self.state {
                State::Out => match memchr::memchr(b'"', &piece[at..]) {
                    Some(quote) => {
                        self.begin(State::Text);
                        at += quote + 1;
                    }
                    None => return,
                },
                State::Text | State::Value => {
                    let byte = piece[at];
                    at += 1;
                    if let Some(ended) = self.take(byte) {
                        self.ended(ended, each);
                    }
                }
                State::Key | State::Colon => {
                    let byte = piece[at];
                    match (self.state, byte) {
                        (_, b' ' | b'\t' | b'\r' | b'\n') => at += 1,
                        (State::Key, b':') => {
                            self.state = State::Colon;
                            at += 1;
                        }
                        (State::Colon, b'"') => {
                            self.begin(State::Value);
                            at += 1;
                        }
                        _ => self.state = State::Out,
                    }
                }
            }
        }
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.text.clear();
        self.escape = Escape::None;
        self.long = false;
    }

    /// Takes a byte of a text; returns what the text was when it ends.
    fn take(&mut self, byte: u8) -> Option<State> {
        match self.escape {
            Escape::None => match byte {
                b'"' => return Some(self.state),
                b'\\' => self.escape = Escape::Begun,
                _ => self.push(byte),
            },
            Escape::Begun => {
                self.escape = Escape::None;
                match byte {
                    b'u' => self.escape = Escape::Code(0, 0),
                    b'n' => self.push(b'\n'),
                    b't' => self.push(b'\t'),
                    _ => self.push(byte),
                }
            }
            Escape::Code(digits, value) => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                let value = value << 4 | digit;
                if digits == 3 {
                    self.escape = Escape::None;
                    let mut bytes = [0; 4];
                    let char = char::from_u32(value).unwrap_or('\u{fffd}');
                    for byte in char.encode_utf8(&mut bytes).bytes() {
                        self.push(byte);
                    }
                } else {
                    self.escape = Escape::Code(digits + 1, value);
                }
            }
        }
        None
    }

    fn push(&mut self, byte: u8) {
        if self.text.len() < MOST {
            self.text.push(byte);
        } else {
            self.long = true;
        }
    }

    fn ended(&mut self, state: State, each: &mut dyn FnMut(&str)) {
        match state {
            State::Value => {
                each(&String::from_utf8_lossy(&self.text));
                self.state = State::Out;
            }
            State::Text if self.text == b"model" && !self.long => self.state = State::Key,
            // A quote that ends one text may begin the next: what stands between two can't be told from what
            // stands inside, and is read as well.
            State::Text | State::Out | State::Key | State::Colon => self.begin(State::Text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Vec<String> {
        let mut whole = Vec::new();
        Watch::default().feed(body.as_bytes(), &mut |model| whole.push(model.to_owned()));
        for size in [1, 3, 7] {
            let mut pieces = Vec::new();
            let mut watch = Watch::default();
            for piece in body.as_bytes().chunks(size) {
                watch.feed(piece, &mut |model| pieces.push(model.to_owned()));
            }
            assert_eq!(pieces, whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn models_are_found_wherever_they_stand() {
        assert_eq!(found(r#"{"model":"a","x":{"model" : "b"}}"#), ["a", "b"]);
        assert_eq!(found(r#"{"mod\u0065l":"gp\u0074-5"}"#), ["gpt-5"]);
        let lines = "{\"body\":{\"model\":\"a\"}}\n{\"body\":{\"model\":\"b\"}}\n";
        assert_eq!(found(lines), ["a", "b"]);
        let multipart = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"odd\r\n\r\n{\"model\":\"a\"}\r\n--x--";
        assert_eq!(found(multipart), ["a"]);
    }

    #[test]
    fn what_only_looks_like_a_model_is_none() {
        for body in [
            r#"{"content":"say \"model\": \"x\" to me"}"#,
            r#"{"required":["model"],"properties":{"model":{"type":"string"}}}"#,
            r#"{"model":3}"#,
            "no quotes at all",
        ] {
            assert!(found(body).is_empty(), "{body}");
        }
    }

    #[test]
    fn a_name_without_end_takes_no_memory() {
        let mut watch = Watch::default();
        watch.feed(b"{\"model\":\"", &mut |_| {});
        for _ in 0..1000 {
            watch.feed(&[b'a'; 1000], &mut |_| {});
        }
        assert!(watch.text.len() <= MOST);
        let mut found = 0;
        watch.feed(b"\"", &mut |_| found += 1);
        assert_eq!(found, 1);
    }
}
