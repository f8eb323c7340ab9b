//! Requests of this protocol.

use crate::error::{Error, Kind, Result};
use crate::protocol::chat::Request;
use crate::protocol::{Facts, Translated};

/// Decodes a request.
pub fn decode(_body: &[u8]) -> Result<Request<'_>> {
    Err(Error::new(
        Kind::Unsupported,
        "This protocol is not spoken yet.",
    ))
}

/// Encodes a request.
pub fn encode(_request: &Request<'_>, _model: &str, _facts: &Facts) -> Result<Translated> {
    Err(Error::new(
        Kind::Unsupported,
        "This protocol is not spoken yet.",
    ))
}

/// Returns what an answer repeats of its request.
pub fn echo(_body: &[u8]) -> String {
    String::new()
}
