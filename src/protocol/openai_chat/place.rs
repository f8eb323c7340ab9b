//! Where a piece belongs that the hub carries whole.

use serde_json::value::RawValue;

use crate::protocol::Protocol;
use crate::protocol::chat::Part;
use crate::protocol::text::Reader;

/// The place of an opaque part in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// An element of `content`.
    Content,
    /// An element of `reasoning_details`.
    Detail,
    /// An element of `tool_calls` (a custom tool's).
    Call,
    /// The message's `audio`, which alone has no `type`.
    Audio,
}

/// Returns where `raw`, carried whole, was found and goes back to.
pub(super) fn of(raw: &RawValue) -> Place {
    match Reader::of(raw.get()).tag("type").as_deref() {
        None => Place::Audio,
        Some("custom") => Place::Call,
        Some(kind) if kind.starts_with("reasoning.") => Place::Detail,
        Some(_) => Place::Content,
    }
}

/// Returns a part that this protocol alone understands.
pub(super) fn opaque(raw: &RawValue) -> Part<'_> {
    Part::Opaque {
        family: Protocol::OpenaiChat,
        raw,
    }
}
