//! Who made an opaque blob: signatures and encrypted reasoning are understood by their maker alone.
//!
//! Anthropic's stand as they are. Those of other protocols carry their maker's name on the way through a client of
//! another protocol (`gemini#…`), so that they go back to it and to nobody else. `#` is in no base64 alphabet.

use std::borrow::Cow;

use super::Protocol;

/// Returns the blob as the hub and other protocols' clients carry it.
pub fn mark(maker: Protocol, blob: &str) -> Cow<'_, str> {
    match maker {
        Protocol::Anthropic => Cow::Borrowed(blob),
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Gemini
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => Cow::Owned(format!("{}#{blob}", maker.name())),
    }
}

/// Returns the maker of a marked blob, and the blob itself.
pub fn maker(marked: &str) -> (Protocol, &str) {
    marked
        .split_once('#')
        .and_then(|(name, blob)| Some((Protocol::from_name(name)?, blob)))
        .unwrap_or((Protocol::Anthropic, marked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_find_their_makers_again() {
        for protocol in Protocol::ALL {
            assert_eq!(maker(&mark(protocol, "Ab+/=")), (protocol, "Ab+/="));
        }
        assert_eq!(maker("a#b"), (Protocol::Anthropic, "a#b"));
    }
}
