//! Steps over the plain bytes of a string, many at a time.

/// Returns the first place from `at` on that holds a quote, a backslash or a control byte, or the end.
///
/// Sets `foreign` when it passed a byte above ASCII (or saw one in the same step: a second look costs little).
/// Short strings go in steps of 8 bytes; `wide` remembers that this one is long.
#[inline]
pub(super) fn plain(body: &[u8], mut at: usize, wide: &mut bool, foreign: &mut bool) -> usize {
    loop {
        if *wide {
            let Some(rest) = body.get(at..) else {
                return at;
            };
            let (chunks, _) = rest.as_chunks::<32>();
            for chunk in chunks {
                let (special, high) = look(chunk);
                *foreign |= high;
                if special {
                    break;
                }
                at += 32;
            }
        }
        for step in 0.. {
            let Some(chunk) = body.get(at..).and_then(<[u8]>::first_chunk::<8>) else {
                return slow(body, at, foreign);
            };
            let word = u64::from_le_bytes(*chunk);
            *foreign |= word & EACH_HIGH != 0;
            let special = special(word);
            if special != 0 {
                return at + special.trailing_zeros() as usize / 8;
            }
            at += 8;
            if step == 3 {
                break;
            }
        }
        *wide = true;
    }
}

/// The last bytes of a body, one by one.
#[cold]
fn slow(body: &[u8], mut at: usize, foreign: &mut bool) -> usize {
    while let Some(&byte) = body.get(at) {
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
    // A byte that is zero borrows into its neighbour above, never below: the lowest hit is always a true one.
    let zero = |word: u64| word.wrapping_sub(EACH) & !word;
    let quote = zero(word ^ (EACH * b'"' as u64));
    let escape = zero(word ^ (EACH * b'\\' as u64));
    let control = word.wrapping_sub(EACH * 0x20) & !word;
    (quote | escape | control) & EACH_HIGH
}
