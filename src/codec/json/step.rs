//! Steps over the plain bytes of a string, many at a time.

use super::escape;

/// What was seen of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// The place of its closing quote.
    pub end: usize,
    /// It has an escape.
    pub escapes: bool,
}

/// Whether an escape that spells half a character is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halves {
    Allow,
    Deny,
}

/// Reads a string whose inside begins at `from`. An error is the place of what JSON doesn't know, or the end.
#[inline]
pub(super) fn string(body: &[u8], from: usize, halves: Halves) -> Result<Seen, usize> {
    let mut at = from;
    let mut escapes = false;
    while let Some(step) = body.get(at..).and_then(|rest| rest.first_chunk()) {
        if !is_stop(step) {
            at += STEP;
            continue;
        }
        at += before(step);
        if body[at] == b'"' {
            return Ok(Seen { end: at, escapes });
        }
        at += escape_len(&body[at..], halves).ok_or(at)?;
        escapes = true;
    }
    last(body, at, halves, escapes)
}

/// Returns the end of a string whose inside begins at `from`, where it ends within a step and has no escape, as keys and
/// words do, and whether that step has a byte above ASCII.
#[inline]
pub(super) fn short(body: &[u8], from: usize) -> Option<(usize, bool)> {
    let step: &Step = body.get(from..)?.first_chunk()?;
    let end = from + before(step);
    let foreign = u128::from_le_bytes(*step) & u128::from_le_bytes([0x80; STEP]) != 0;
    (body.get(end) == Some(&b'"')).then_some((end, foreign))
}

/// The last bytes of a body, one by one.
fn last(body: &[u8], mut at: usize, halves: Halves, mut escapes: bool) -> Result<Seen, usize> {
    loop {
        match body.get(at) {
            Some(b'"') => {
                return Ok(Seen { end: at, escapes });
            }
            Some(b'\\') => {
                at += escape_len(&body[at..], halves).ok_or(at)?;
                escapes = true;
            }
            Some(0..0x20) => return Err(at),
            Some(_) => at += 1,
            None => return Err(body.len()),
        }
    }
}

/// Returns how many bytes the escape takes that `text` begins with; `None` where it begins with none.
#[inline]
fn escape_len(text: &[u8], halves: Halves) -> Option<usize> {
    let (b'\\', kind) = (*text.first()?, *text.get(1)?) else {
        return None;
    };
    if SHORT[usize::from(kind)] {
        return Some(2);
    }
    if kind != b'u' {
        return None;
    }
    match halves {
        Halves::Deny => escape(text).map(|(_, length)| length),
        Halves::Allow => {
            let digits = text.get(2..6)?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(6)
        }
    }
}

/// Which bytes make an escape of two.
const SHORT: [bool; 256] = {
    let mut short = [false; 256];
    let mut rest: &[u8] = b"\"\\/bfnrt";
    while let [byte, more @ ..] = rest {
        short[*byte as usize] = true;
        rest = more;
    }
    short
};

/// Returns the first place from `at` on that holds a quote, a backslash or a control byte, or the end.
#[inline]
pub(super) fn plain(body: &[u8], at: usize) -> usize {
    // Keys and words end in the first step.
    match body.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(step) => match before(step) {
            STEP => further(body, at + STEP),
            before => at + before,
        },
        None => further(body, at),
    }
}

fn further(body: &[u8], mut at: usize) -> usize {
    while let Some(step) = body.get(at..).and_then(|rest| rest.first_chunk()) {
        if is_stop(step) {
            return at + before(step);
        }
        at += STEP;
    }
    let tail = body.get(at..).unwrap_or_default();
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    at + tail.iter().position(special).unwrap_or(tail.len())
}

const STEP: usize = 16;
type Step = [u8; STEP];

/// Whether a step holds a quote, a backslash or a control byte. Written so that the compiler makes vector
/// instructions of it.
#[inline]
fn is_stop(step: &Step) -> bool {
    let mut stop = 0;
    for &byte in step {
        // The quote is next to the control bytes but for one bit.
        stop |= u8::from(byte ^ 2 < 0x21) | u8::from(byte == b'\\');
    }
    stop != 0
}

const EACH: u64 = 0x0101_0101_0101_0101;
const EACH_HIGH: u64 = EACH << 7;

/// Returns how many bytes of a step stand before the first quote, backslash or control byte.
#[inline]
fn before(step: &Step) -> usize {
    let of = |word: u64| {
        // A byte below 0x80 gets its high bit where it is what is looked for, or where the byte below it was and
        // borrowed: never below, so the lowest hit is always a true one. Bytes above ASCII are none.
        let low = (word ^ (EACH * 2)).wrapping_sub(EACH * 0x21);
        let escape = (word ^ (EACH * b'\\' as u64)).wrapping_sub(EACH);
        (low | escape) & !word & EACH_HIGH
    };
    let (words, _) = step.as_chunks();
    let word = |at: usize| words.get(at).map_or(0, |word| u64::from_le_bytes(*word));
    let bits = match of(word(0)) {
        0 => 64 + of(word(1)).trailing_zeros(),
        hits => hits.trailing_zeros(),
    };
    bits as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said above, byte by byte.
    fn slow(body: &[u8], from: usize) -> usize {
        let special = |byte: &u8| *byte == b'"' || *byte == b'\\' || *byte < 0x20;
        let place = body[from..].iter().position(special);
        place.map_or(body.len(), |place| from + place)
    }

    #[test]
    fn every_byte_is_seen_at_every_place() {
        for byte in 0..=u8::MAX {
            for at in 0..24 {
                for others in [b'a', 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xa2, 0xff] {
                    let mut body = [others; 32];
                    body[at] = byte;
                    let name = format!("{byte:#x} at {at} in {others:#x}");
                    assert_eq!(plain(&body, 0), slow(&body, 0), "{name}");
                    let step: &Step = body.first_chunk().unwrap();
                    assert_eq!(is_stop(step), slow(step, 0) < STEP, "{name}");
                    assert_eq!(before(step), slow(step, 0), "{name}");
                    let end = Some(slow(step, 0)).filter(|end| body[*end] == b'"');
                    let foreign = step.iter().any(|byte| *byte >= 0x80);
                    assert_eq!(short(&body, 0), end.map(|end| (end, foreign)), "{name}");
                }
            }
        }
    }

    #[test]
    fn a_body_of_any_length_is_stepped_over() {
        for length in 0..300 {
            for at in (0..=length).filter(|at| at % 7 < 2 || at + 3 > length) {
                let mut body = vec![b'x'; length];
                if let Some(byte) = body.get_mut(at) {
                    *byte = b'"';
                }
                for from in [0, at / 2, at] {
                    assert_eq!(plain(&body, from), at, "{at} of {length}");
                    let seen = Seen {
                        end: at,
                        escapes: false,
                    };
                    let told = if at < length { Ok(seen) } else { Err(length) };
                    assert_eq!(string(&body, from, Halves::Deny), told, "{at} of {length}");
                }
            }
        }
        assert_eq!(plain(b"abc", 9), 9, "past the end");
        assert_eq!(string(b"abc", 9, Halves::Deny), Err(3), "past the end");
    }

    #[test]
    fn a_string_ends_where_serde_json_ends_it() {
        // Escapes of each kind, whole and broken, at every place of a step and across two.
        let pieces = [
            r"\n",
            r"\\",
            r#"\""#,
            r"\u00e9",
            r"\ud83d\ude00",
            r"\\\\\\\\",
            r#"\\\"\\\""#,
            "é",
            "plain text of a length",
            "\u{7f}",
            r"\x",
            r"\u12g4",
            r"\ud800",
            r"\ud800\n",
            r"\udc00",
            r"\ud83d\ud83d",
            "\u{1}",
            "\n",
            r"\",
            r"\u",
            r"\u1",
            r"\ud83d\u",
        ];
        for first in pieces {
            for second in pieces {
                for pad in 0..40 {
                    let text = format!(
                        "\"{}{first}{second}{}\"",
                        "a".repeat(pad),
                        "b".repeat(pad % 3 * 9)
                    );
                    let mut whole = serde_json::Deserializer::from_str(&text).into_iter::<String>();
                    let read = whole.next().is_some_and(|read| read.is_ok());
                    let end = whole.byte_offset();
                    let seen = string(text.as_bytes(), 1, Halves::Deny);
                    assert_eq!(seen.is_ok(), read, "{text}");
                    if let Ok(seen) = seen {
                        assert_eq!(seen.end + 1, end, "{text}");
                        let inside = &text[1..seen.end];
                        assert_eq!(seen.escapes, inside.contains('\\'), "{text}");
                    }
                    let mut whole = serde_json::Deserializer::from_str(&text)
                        .into_iter::<&serde_json::value::RawValue>();
                    let read = whole.next().is_some_and(|read| read.is_ok());
                    let seen = string(text.as_bytes(), 1, Halves::Allow);
                    assert_eq!(seen.is_ok(), read, "{text}");
                    if let Ok(seen) = seen {
                        assert_eq!(seen.end + 1, whole.byte_offset(), "{text}");
                    }
                }
            }
        }
    }
}
