//! Steps over the plain bytes of a string, many at a time.

/// Returns the first place from `at` on that holds a quote, a backslash or a control byte, or the end.
///
/// Sets `foreign` when it passed a byte above ASCII (or saw one in the same step: a second look costs little).
/// It goes in steps of 16 bytes, and in wider ones while a string has nothing to stop at, as base64 has not.
#[inline]
pub(super) fn plain(body: &[u8], mut at: usize, foreign: &mut bool) -> usize {
    let mut rest = body.get(at..).unwrap_or_default();
    let mut seen = 0;
    loop {
        let (chunks, tail) = rest.as_chunks::<16>();
        let narrow = chunks.get(..NARROW).unwrap_or(chunks);
        for chunk in narrow {
            let both = u128::from_le_bytes(*chunk);
            let (low, high) = (both as u64, (both >> 64) as u64);
            seen |= low | high;
            let (first, second) = (special(low), special(high));
            if first | second != 0 {
                *foreign |= seen & EACH_HIGH != 0;
                return at + before(first, second);
            }
            at += 16;
        }
        if narrow.len() == chunks.len() {
            *foreign |= seen & EACH_HIGH != 0;
            return last(tail, at, foreign);
        }
        rest = &rest[NARROW * 16..];
        let (chunks, _) = rest.as_chunks::<32>();
        let mut wide = 0;
        for chunk in chunks {
            let (special, high) = look(chunk);
            *foreign |= high;
            if special {
                break;
            }
            wide += 32;
        }
        at += wide;
        rest = &rest[wide..];
    }
}

/// After so many steps without a stop, wider ones are tried.
const NARROW: usize = 6;

/// The last bytes of a body, one by one.
#[inline]
fn last(tail: &[u8], mut at: usize, foreign: &mut bool) -> usize {
    for &byte in tail {
        if byte == b'"' || byte == b'\\' || byte < 0x20 {
            break;
        }
        *foreign |= byte >= 0x80;
        at += 1;
    }
    at
}

/// Whether a chunk holds a quote, a backslash or a control byte, and whether a byte above ASCII. Written so that
/// the compiler makes vector instructions of it.
#[inline]
fn look(chunk: &[u8; 32]) -> (bool, bool) {
    let mut special = 0u8;
    let mut high = 0u8;
    for &byte in chunk {
        special |= u8::from(byte == b'"') | u8::from(byte == b'\\') | u8::from(byte < 0x20);
        high |= byte;
    }
    (special != 0, high >= 0x80)
}

const EACH: u64 = 0x0101_0101_0101_0101;
const EACH_HIGH: u64 = EACH << 7;

/// Returns a word whose lowest set bit is in the first byte that is a quote, a backslash or a control byte.
#[inline]
fn special(word: u64) -> u64 {
    // A byte below 0x80 gets its high bit where it is what is looked for, or where the byte below it was and borrowed:
    // never below, so the lowest hit is always a true one. Bytes above ASCII are none, and never borrow.
    let quote = (word ^ (EACH * b'"' as u64)).wrapping_sub(EACH);
    let escape = (word ^ (EACH * b'\\' as u64)).wrapping_sub(EACH);
    let control = word.wrapping_sub(EACH * 0x20);
    (quote | escape | control) & !word & EACH_HIGH
}

/// Returns how many bytes stand before the lowest hit in two words, one of which has one.
#[inline]
fn before(first: u64, second: u64) -> usize {
    let bits = if first != 0 {
        first.trailing_zeros()
    } else {
        64 + second.trailing_zeros()
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
                for others in [b'a', 0x20, 0x21, 0x23, 0x5d, 0x7f, 0x80, 0xff] {
                    let mut body = [others; 32];
                    body[at] = byte;
                    let mut foreign = false;
                    let found = plain(&body, 0, &mut foreign);
                    let name = format!("{byte:#x} at {at} in {others:#x}");
                    assert_eq!(found, slow(&body, 0), "{name}");
                    let passed = body[..found].iter().any(|byte| *byte >= 0x80);
                    assert!(foreign || !passed, "{name}");
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
                    let mut foreign = false;
                    assert_eq!(plain(&body, from, &mut foreign), at, "{at} of {length}");
                    assert!(!foreign);
                }
            }
        }
        assert_eq!(plain(b"abc", 9, &mut false), 9, "past the end");
    }
}
