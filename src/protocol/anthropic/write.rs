//! JSON written by hand into a `Vec<u8>`.

use serde_json::value::RawValue;

/// Appends `text` as a JSON string.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escaped(text, out);
    out.push(b'"');
}

/// Appends `text` as the inside of a JSON string.
pub(super) fn escaped(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            let digits = [
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ];
            out.extend_from_slice(&digits);
        }
    }
    out.extend_from_slice(&bytes[from..]);
}

pub(super) fn integer(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        // The remainder is below ten.
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}

/// Appends a number; one that JSON has no word for becomes `null`.
pub(super) fn number(number: f64, out: &mut Vec<u8>) {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        if number < 0.0 {
            out.push(b'-');
        }
        return integer(number.abs() as u64, out);
    }
    serde_json::to_writer(out, &number).expect("a number can be written into memory");
}

/// Appends JSON as it came, on one line: a line feed would end a `data:` line.
pub(super) fn raw_line(raw: &RawValue, out: &mut Vec<u8>) {
    let from = out.len();
    out.extend_from_slice(raw.get().as_bytes());
    for byte in &mut out[from..] {
        // Inside a JSON string both are escaped, so these stand between tokens, where a space says the same.
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Appends the fields of an object, with commas where they belong.
#[derive(Debug)]
pub(super) struct Object<'o> {
    pub out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    pub fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Appends a key; the value must follow. `name` needs no escapes.
    pub fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Appends a key that came from outside; the value must follow.
    pub fn foreign_key(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        string(name, self.out);
        self.out.push(b':');
        self.out
    }

    pub fn string(&mut self, name: &str, text: &str) {
        string(text, self.key(name));
    }

    pub fn raw(&mut self, name: &str, raw: &RawValue) {
        self.key(name).extend_from_slice(raw.get().as_bytes());
    }

    pub fn maybe_raw(&mut self, name: &str, raw: Option<&RawValue>) {
        if let Some(raw) = raw {
            self.raw(name, raw);
        }
    }

    pub fn boolean(&mut self, name: &str, value: bool) {
        self.key(name)
            .extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub fn close(self) {
        self.out.push(b'}');
    }
}

/// Appends a comma unless the array that began at `start` (after its bracket) is still empty.
pub(super) fn comma(start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b',');
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_character_comes_back() {
        let text: String = (0..0x3000)
            .filter_map(char::from_u32)
            .chain("\u{1f600}".chars())
            .collect();
        let mut out = Vec::new();
        string(&text, &mut out);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }

    #[test]
    fn numbers_are_written_as_short_as_they_are() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.7, "0.7"),
            (-2.0, "-2"),
            (1e300, "1e+300"),
            (-0.25, "-0.25"),
        ] {
            let mut out = Vec::new();
            number(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
        for value in [0, 9, 10, u64::MAX] {
            let mut out = Vec::new();
            integer(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
