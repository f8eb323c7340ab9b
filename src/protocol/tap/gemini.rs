//! What the tap reads of a Gemini stream and of a whole Gemini answer.

use std::ops::Range;

use super::chunk::Found;
use crate::codec::json::JsonError;
use crate::protocol::usage::Usage;

/// Reads one `GenerateContentResponse` of a stream.
pub(super) fn chunk(_data: &[u8]) -> Result<Found, JsonError> {
    Ok(Found::default())
}

/// Reads a whole answer: sets what it tells, and returns where its model's name is.
pub(super) fn whole(
    _body: &[u8],
    _whole: &mut super::Whole,
) -> Result<Option<Range<usize>>, JsonError> {
    Ok(None)
}

/// Reads `usageMetadata`.
pub(super) fn usage(read: &mut Usage, json: &[u8]) -> bool {
    read.read_gemini(json, false)
}
