//! How far a misspelt name is from a known one.

/// A name to measure the distance to many others from, in one pass over each (Myers' bit vectors).
pub struct Pattern {
    length: usize,
    /// For each byte, the places at which the pattern has it.
    places: [u64; 256],
}

impl Pattern {
    /// Looks at the first 64 bytes, which are longer than any id.
    pub fn new(text: &str) -> Self {
        let mut places = [0; 256];
        let bytes = &text.as_bytes()[..text.len().min(64)];
        for (at, byte) in bytes.iter().enumerate() {
            places[usize::from(*byte)] |= 1 << at;
        }
        Self {
            length: bytes.len(),
            places,
        }
    }

    /// Returns the distance to an id or to its last part, whichever is nearer; `None` when it is no likeness.
    pub fn distance_to_id(&self, id: &str) -> Option<usize> {
        let whole = self.distance(id);
        let part = id
            .rsplit_once('/')
            .and_then(|(_, part)| self.distance(part));
        [whole, part].into_iter().flatten().min()
    }

    fn distance(&self, text: &str) -> Option<usize> {
        let most = self.length.max(text.len()) / 3 + 1;
        if self.length == 0 || self.length.abs_diff(text.len()) > most {
            return None;
        }
        let last = 1u64 << (self.length - 1);
        let (mut more, mut less) = (u64::MAX, 0u64);
        let mut distance = self.length;
        for byte in text.bytes() {
            let equal = self.places[usize::from(byte.to_ascii_lowercase())];
            let across = equal | less;
            let down = (((equal & more).wrapping_add(more)) ^ more) | equal;
            let rise = less | !(down | more);
            let fall = more & down;
            if rise & last != 0 {
                distance += 1;
            }
            if fall & last != 0 {
                distance -= 1;
            }
            let rise = (rise << 1) | 1;
            let fall = fall << 1;
            more = fall | !(across | rise);
            less = rise & across;
        }
        (distance <= most).then_some(distance)
    }
}
