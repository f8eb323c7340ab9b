//! Images, documents and sounds in tokens, by what their first bytes say of them.

use crate::codec::base64;

/// How a family counts an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Anthropic: pixels by 750, scaled down to 1568 at the long edge
    /// (<https://docs.anthropic.com/en/docs/build-with-claude/vision>).
    Area,
    /// OpenAI: 85 and 170 for each tile of 512 pixels, scaled down to 768 at the short edge
    /// (<https://platform.openai.com/docs/guides/images-vision>).
    Tiles,
    /// Gemini: 258 for each tile of 768 pixels (<https://ai.google.dev/gemini-api/docs/tokens>).
    Fixed,
}

/// Bytes of base64 that are looked at: sizes stand near the beginning.
const HEAD: usize = 64 << 10;
/// What a page of a document takes in its file, roughly.
const PAGE_BYTES: u64 = 60 << 10;
/// A second of sound at 128 kbit.
const SECOND_BYTES: u64 = 16 << 10;
/// Larger images are scaled down to this long edge first.
const EDGE_MOST: u64 = 2048;

impl Rule {
    /// Returns the tokens of what a field of data or an address holds, the inside of a JSON string.
    pub fn tokens(self, field: &[u8]) -> u64 {
        let data = match memchr::memmem::find(&field[..field.len().min(128)], b";base64,") {
            Some(at) => &field[at + 8..],
            None if field.contains(&b':') => return self.address(field),
            None => field,
        };
        let bytes = (data.len() / 4 * 3) as u64;
        // Whole groups of four digits.
        let head = &data[..data.len().min(HEAD) / 4 * 4];
        let head = base64::decode(head).unwrap_or_default();
        if head.starts_with(b"%PDF") {
            return bytes.div_ceil(PAGE_BYTES) * self.page();
        }
        let wave = head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WAVE");
        if wave || head.starts_with(b"ID3") || head.starts_with(b"OggS") || is_mp3(&head) {
            let second = if self == Rule::Fixed { 32 } else { 10 };
            return bytes.div_ceil(SECOND_BYTES) * second;
        }
        // A text is itself.
        if head.len() > 8 && std::str::from_utf8(&head).is_ok_and(|text| !text.contains('\0')) {
            return bytes.div_ceil(4);
        }
        match size(&head) {
            Some((width, height)) => self.image(width, height),
            None => self.unseen(),
        }
    }

    fn address(self, url: &[u8]) -> u64 {
        if url.ends_with(b".pdf") {
            return self.page();
        }
        self.unseen()
    }

    fn image(self, width: u64, height: u64) -> u64 {
        let (width, height) = (width.clamp(1, 1 << 20), height.clamp(1, 1 << 20));
        match self {
            Rule::Area => {
                let (width, height) = fit(width, height, 1568, u64::MAX);
                (width * height).div_ceil(750).min(1600)
            }
            Rule::Tiles => {
                let (width, height) = fit(width, height, EDGE_MOST, 768);
                85 + 170 * width.div_ceil(512) * height.div_ceil(512)
            }
            Rule::Fixed if width <= 384 && height <= 384 => 258,
            Rule::Fixed => {
                let (width, height) = fit(width, height, EDGE_MOST, u64::MAX);
                258 * width.div_ceil(768) * height.div_ceil(768)
            }
        }
    }

    /// An image whose size nobody told.
    fn unseen(self) -> u64 {
        match self {
            Rule::Area => 1400,
            Rule::Tiles => 425,
            Rule::Fixed => 258,
        }
    }

    /// A page of a document: its text, and where the family shows it, its picture.
    fn page(self) -> u64 {
        match self {
            Rule::Area => 2300,
            Rule::Tiles => 1200,
            Rule::Fixed => 258,
        }
    }
}

/// Scales down until the long edge is at most `long` and the short one at most `short`.
fn fit(width: u64, height: u64, long: u64, short: u64) -> (u64, u64) {
    let mut size = (width, height);
    let longest = width.max(height);
    if longest > long {
        size = (size.0 * long / longest, size.1 * long / longest);
    }
    let shortest = size.0.min(size.1);
    if shortest > short {
        size = (size.0 * short / shortest, size.1 * short / shortest);
    }
    (size.0.max(1), size.1.max(1))
}

fn is_mp3(head: &[u8]) -> bool {
    matches!(head, [0xff, 0xfb | 0xf3 | 0xf2 | 0xfa, ..])
}

/// Returns width and height of a PNG, GIF, WebP or JPEG.
fn size(head: &[u8]) -> Option<(u64, u64)> {
    let big = |at: usize, length: usize| -> Option<u64> {
        let bytes = head.get(at..at + length)?;
        Some(
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    };
    let little = |at: usize, length: usize| -> Option<u64> {
        let bytes = head.get(at..at + length)?;
        let reversed = bytes.iter().rev();
        Some(reversed.fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    if head.starts_with(b"\x89PNG") {
        return Some((big(16, 4)?, big(20, 4)?));
    }
    if head.starts_with(b"GIF8") {
        return Some((little(6, 2)?, little(8, 2)?));
    }
    if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        return match head.get(12..16)? {
            b"VP8X" => Some((little(24, 3)? + 1, little(27, 3)? + 1)),
            b"VP8 " => Some((little(26, 2)? & 0x3fff, little(28, 2)? & 0x3fff)),
            b"VP8L" => {
                let bits = little(21, 4)?;
                Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
            }
            _ => None,
        };
    }
    if !head.starts_with(b"\xff\xd8") {
        return None;
    }
    // JPEG: a chain of segments, one of which frames the picture.
    let mut at = 2;
    loop {
        if *head.get(at)? != 0xff {
            return None;
        }
        match *head.get(at + 1)? {
            0xff => at += 1,
            0xc4 | 0xc8 | 0xcc => at += 2 + usize::try_from(big(at + 2, 2)?).ok()?,
            0xc0..=0xcf => return Some((big(at + 7, 2)?, big(at + 5, 2)?)),
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => at += 2 + usize::try_from(big(at + 2, 2)?).ok()?,
        }
    }
}
