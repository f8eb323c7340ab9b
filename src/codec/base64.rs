//! Base64 (RFC 4648): written padded in the standard alphabet, read in all its spellings.

const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `bytes` as base64.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let held = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            out.push(if at <= three.len() {
                SYMBOLS[(held >> (18 - 6 * at) & 63) as usize]
            } else {
                b'='
            });
        }
    }
}

/// Returns `bytes` as base64 for URLs, without padding.
pub fn url(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    encode(bytes, &mut out);
    let symbols = out.into_iter().filter(|symbol| *symbol != b'=');
    let symbols = symbols.map(|symbol| match symbol {
        b'+' => '-',
        b'/' => '_',
        other => char::from(other),
    });
    symbols.collect()
}

/// Decodes base64, in either alphabet, padded or not, with line breaks or without.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut held, mut bits, mut padding) = (0u32, 0u32, 0usize);
    for symbol in text {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'\n' | b'\r' => continue,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    // Six bits left over are half a byte: something is missing.
    (bits < 6 && padding <= 2).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_examples_are_written_and_read() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            encode(plain.as_bytes(), &mut out);
            assert_eq!(out, coded.as_bytes(), "{plain}");
            assert_eq!(decode(coded.as_bytes()).as_deref(), Some(plain.as_bytes()));
            assert_eq!(url(plain.as_bytes()), coded.trim_end_matches('='));
        }
    }

    #[test]
    fn all_bytes_come_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        encode(&bytes, &mut out);
        assert_eq!(decode(&out), Some(bytes));
    }

    #[test]
    fn all_spellings_are_read_and_halves_are_not() {
        assert_eq!(decode(b"aG\nk"), Some(b"hi".to_vec()));
        assert_eq!(decode(b"-_-_"), decode(b"+/+/"));
        assert_eq!(url(&[0xfb, 0xff, 0xbf]), "-_-_");
        for broken in ["a", "aG!k", "aG=k", "aGk==="] {
            assert_eq!(decode(broken.as_bytes()), None, "{broken}");
        }
    }
}
