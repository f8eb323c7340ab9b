//! Edits of a JSON object's bytes: what is not edited stays as it was, byte for byte.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::json::{Member, write_string};

/// A body in pieces, to be sent one after the other.
#[derive(Debug, Clone)]
pub struct Pieces {
    first: Bytes,
    others: Vec<Bytes>,
    length: usize,
}

impl Pieces {
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Returns the body in one piece.
    pub fn whole(&self) -> Bytes {
        if self.others.is_empty() {
            return self.first.clone();
        }
        let mut whole = Vec::with_capacity(self.length);
        self.iter().for_each(|piece| whole.extend_from_slice(piece));
        whole.into()
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len();
            self.others.push(piece);
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(body: Bytes) -> Self {
        Self {
            length: body.len(),
            first: body,
            others: Vec::new(),
        }
    }
}

/// A body from this size on is not copied for an edit: its parts stay where they are. The copy of a large one leaves
/// the processor's caches on its way, and costs as much again when it is sent.
const LONG: usize = 16 << 10;

/// Edits that wait to be applied to one body, in any order.
///
/// Where two meet, the outer one counts: a value replaced in a member that is removed is gone. Of two replacements
/// of the same range the later one counts.
#[derive(Debug, Default)]
pub struct Edits<'e> {
    replaced: Vec<(Range<usize>, Cow<'e, [u8]>)>,
    removed: Vec<Removed>,
    /// `,"key":value` of every new member.
    inserted: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Removed {
    index: usize,
    whole: Range<usize>,
    /// Where the member before ends.
    before: Option<usize>,
    /// Where the member after begins.
    after: Option<usize>,
}

impl<'e> Edits<'e> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.replaced.is_empty() && self.removed.is_empty() && self.inserted.is_empty()
    }

    /// Replaces the bytes at `range`.
    pub fn replace(&mut self, range: Range<usize>, bytes: impl Into<Cow<'e, [u8]>>) {
        self.replaced.push((range, bytes.into()));
    }

    /// Removes member `index` of `members`, which are those of `body`, with the right comma. An index that is not
    /// there removes nothing.
    pub fn remove_member(&mut self, body: &[u8], members: &[Member], index: usize) {
        let Some(member) = members
            .get(index)
            .filter(|member| member.whole.end <= body.len())
        else {
            return;
        };
        self.removed.push(Removed {
            index,
            whole: member.whole.clone(),
            before: index
                .checked_sub(1)
                .and_then(|before| members.get(before))
                .map(|before| before.whole.end),
            after: members.get(index + 1).map(|after| after.whole.start),
        });
    }

    /// Puts a new member at the end of the object `body`. `raw_value` is JSON text.
    pub fn insert_member(&mut self, body: &[u8], key: &str, raw_value: &[u8]) {
        if closing(body).is_none() {
            return;
        }
        self.inserted.push(b',');
        write_string(key, &mut self.inserted);
        self.inserted.push(b':');
        self.inserted.extend_from_slice(raw_value);
    }

    /// Returns `body` with the edits done: the very same bytes where there are none.
    pub fn apply(&self, body: &Bytes) -> Bytes {
        if self.is_empty() {
            return body.clone();
        }
        let edits = self.sorted(body);
        let added: usize = edits.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut out = Vec::with_capacity(body.len() + added);
        let mut from = 0;
        for (range, bytes) in edits {
            out.extend_from_slice(&body[from..range.start]);
            out.extend_from_slice(bytes);
            from = range.end;
        }
        out.extend_from_slice(&body[from..]);
        Bytes::from(out)
    }

    /// Like [`Edits::apply`], without a copy where the body is long.
    pub fn apply_in_pieces(&self, body: &Bytes) -> Pieces {
        if self.is_empty() || body.len() < LONG {
            return self.apply(body).into();
        }
        let edits = self.sorted(body);
        let mut pieces = Pieces::from(Bytes::new());
        pieces.others.reserve(edits.len() * 2 + 1);
        let mut from = 0;
        for (range, bytes) in edits {
            pieces.push(body.slice(from..range.start));
            pieces.push(Bytes::copy_from_slice(bytes));
            from = range.end;
        }
        pieces.push(body.slice(from..));
        pieces
    }

    /// Returns what is put in place of what, front to back, the outer of two that meet.
    fn sorted(&self, body: &[u8]) -> Vec<(Range<usize>, &[u8])> {
        let mut edits: Vec<(Range<usize>, &[u8])> =
            Vec::with_capacity(self.replaced.len() + self.removed.len() + 1);
        for (at, (range, bytes)) in self.replaced.iter().enumerate() {
            // Few edits are ever made, most often one or two.
            if range.start <= range.end
                && range.end <= body.len()
                && !self.replaced[at + 1..]
                    .iter()
                    .any(|(later, _)| later == range)
            {
                edits.push((range.clone(), bytes));
            }
        }
        let none_left = self.removals(&mut edits);
        if !self.inserted.is_empty()
            && let Some((close, empty)) = closing(body)
        {
            let first = if empty || none_left { 1 } else { 0 };
            edits.push((close..close, &self.inserted[first..]));
        }
        edits.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut from = 0;
        edits.retain(|(range, _)| {
            let outer = range.start >= from;
            if outer {
                from = range.end;
            }
            outer
        });
        edits
    }

    /// Appends the ranges to remove, one for each run of neighbours. Returns whether no member is left.
    fn removals<'s>(&'s self, edits: &mut Vec<(Range<usize>, &'s [u8])>) -> bool {
        let mut removed = self.removed.clone();
        removed.sort_by_key(|removed| removed.index);
        removed.dedup_by_key(|removed| removed.index);
        let mut none_left = false;
        for run in removed.chunk_by(|one, next| one.index + 1 == next.index) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let range = match (first.before, last.after) {
                (_, Some(after)) => first.whole.start..after,
                (Some(before), None) => before..last.whole.end,
                (None, None) => {
                    none_left = true;
                    first.whole.start..last.whole.end
                }
            };
            edits.push((range, b""));
        }
        none_left
    }
}

/// Returns where the object's closing brace is, and whether nothing is in it.
fn closing(body: &[u8]) -> Option<(usize, bool)> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\t' | b'\r');
    let close = body
        .iter()
        .rposition(|byte| !is_space(byte))
        .filter(|&at| body[at] == b'}')?;
    let last = body[..close].iter().rposition(|byte| !is_space(byte))?;
    Some((close, body[last] == b'{'))
}
