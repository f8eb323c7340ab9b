//! How an entry of the journal lies in its file: a frame of length, checksum and body.
//!
//! ```text
//! segment = "STRAITJ1" frame*
//! frame   = length: u32, crc32 of the body: u32, body        (little-endian)
//! body    = kind: u8, id: u128, text
//! ```
//! The text is JSON with the names of a record's line, so that an entry that was never completed can be read as the
//! record that it would have become.

/// What a segment begins with; the digit is the version of all this.
pub const MAGIC: &[u8; 8] = b"STRAITJ1";
/// Length and checksum.
const HEAD: usize = 8;
/// Kind and id.
const FIXED: usize = 17;
/// No body is longer.
pub const LONGEST: usize = 1 << 20;

/// The number of an exchange, or of an action in the audit log: milliseconds since 1970 in the first 48 bits, so that
/// they sort by time, then the number of the process, then a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u128);

impl Id {
    /// As in the database: 32 hexadecimal digits.
    pub fn text(self) -> String {
        format!("{:032x}", self.0)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let fit = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        fit.then(|| u128::from_str_radix(text, 16).ok().map(Self))?
    }

    /// Returns its time, in microseconds since 1970.
    pub fn time_us(self) -> i64 {
        i64::try_from(self.0 >> 80).unwrap_or(0) * 1000
    }

    /// Returns the least id of a time, in microseconds since 1970.
    pub fn first_at(time_us: i64) -> Self {
        let ms = u128::from((time_us.max(0) / 1000).unsigned_abs()) & ((1 << 48) - 1);
        Self(ms << 80)
    }
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A provider is about to be asked; with what may be billed.
    Admitted,
    /// Still under way: written again, because its first entry's segment is given up.
    Carried,
    /// The exchange's record.
    Done,
    /// An administrative action.
    Audit,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Admitted => 1,
            Kind::Carried => 2,
            Kind::Done => 3,
            Kind::Audit => 4,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Kind::Admitted),
            2 => Some(Kind::Carried),
            3 => Some(Kind::Done),
            4 => Some(Kind::Audit),
            _ => None,
        }
    }
}

/// An entry as read.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub kind: Kind,
    pub id: Id,
    pub text: &'a [u8],
}

/// Puts one frame into `out`, which is emptied first; `fill` writes the text. Returns whether it is short enough.
pub fn write(out: &mut Vec<u8>, kind: Kind, id: Id, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
    out.clear();
    out.extend_from_slice(&[0; HEAD]);
    out.push(kind.byte());
    out.extend_from_slice(&id.0.to_le_bytes());
    fill(out);
    let length = out.len() - HEAD;
    if length > LONGEST {
        return false;
    }
    let sum = checksum(&out[HEAD..]);
    out[..4].copy_from_slice(&(length as u32).to_le_bytes());
    out[4..HEAD].copy_from_slice(&sum.to_le_bytes());
    true
}

/// What stands at the beginning of some bytes of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// An entry, and the bytes that it takes.
    Entry(Entry<'a>, usize),
    /// The bytes end within a frame, or at its beginning.
    More,
    /// Not a frame, or one that was not written to its end. Nothing behind it can be read.
    Torn,
}

/// Reads the frame at the beginning of `bytes`.
pub fn read(bytes: &[u8]) -> Next<'_> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else {
        return Next::More;
    };
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = number(0) as usize;
    if !(FIXED..=LONGEST).contains(&length) {
        return Next::Torn;
    }
    let Some(body) = rest.get(..length) else {
        return Next::More;
    };
    if checksum(body) != number(4) {
        return Next::Torn;
    }
    let mut id = [0; 16];
    id.copy_from_slice(&body[1..FIXED]);
    let Some(kind) = Kind::of(body[0]) else {
        return Next::Torn;
    };
    let entry = Entry {
        kind,
        id: Id(u128::from_le_bytes(id)),
        text: &body[FIXED..],
    };
    Next::Entry(entry, HEAD + length)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind, id: u128, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(write(&mut out, kind, Id(id), |out| out
            .extend_from_slice(text.as_bytes())));
        out
    }

    #[test]
    fn what_is_written_is_read_again() {
        let kinds = [Kind::Admitted, Kind::Carried, Kind::Done, Kind::Audit];
        for (at, kind) in kinds.into_iter().enumerate() {
            for text in ["", "{}", "{\"a\":\"é\"}"] {
                let id = u128::MAX - at as u128;
                let bytes = frame(kind, id, text);
                let entry = Entry {
                    kind,
                    id: Id(id),
                    text: text.as_bytes(),
                };
                assert_eq!(read(&bytes), Next::Entry(entry, bytes.len()));
            }
        }
    }

    #[test]
    fn a_frame_that_was_cut_anywhere_is_never_taken_for_a_whole_one() {
        let bytes = frame(Kind::Done, 7, "{\"id\":\"req_1\"}");
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Next::More, "cut at {cut}");
        }
    }

    #[test]
    fn a_changed_bit_anywhere_is_noticed() {
        let bytes = frame(Kind::Done, 7, "{\"id\":\"req_1\"}");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(
                    !matches!(read(&changed), Next::Entry(..)),
                    "byte {at}, bit {bit}"
                );
            }
        }
    }

    #[test]
    fn zeros_and_noise_are_torn_and_harm_nobody() {
        assert_eq!(read(&[0; 64]), Next::Torn);
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
            assert!(!matches!(read(&bytes), Next::Entry(..)));
        }
    }

    #[test]
    fn what_is_too_long_is_not_written() {
        let mut out = Vec::new();
        let text = vec![b'x'; LONGEST];
        assert!(!write(&mut out, Kind::Done, Id(1), |out| out
            .extend_from_slice(&text)));
    }

    #[test]
    fn ids_sort_by_time_also_as_text() {
        let early = Id::first_at(1_700_000_000_000_000);
        let late = Id::first_at(1_700_000_000_001_000);
        assert!(early < late && early.text() < late.text());
        assert_eq!(Id::parse(&late.text()), Some(late));
        for wrong in [
            "",
            "12",
            "+0000000000000000000000000000000",
            "é".repeat(16).as_str(),
        ] {
            assert_eq!(Id::parse(wrong), None, "{wrong:?}");
        }
    }
}
