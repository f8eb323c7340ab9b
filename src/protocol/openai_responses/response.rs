//! Whole answers of this protocol.

use crate::error::{Error, Kind, Result};
use crate::protocol::Shape;
use crate::protocol::chat::Response;

/// Decodes a whole answer.
pub fn decode<'b>(_body: &'b [u8], _shape: &Shape) -> Result<Response<'b>> {
    Err(Error::new(
        Kind::Unsupported,
        "This protocol is not spoken yet.",
    ))
}

/// Encodes a whole answer.
pub fn encode(_response: &Response<'_>, _shape: &Shape) -> Vec<u8> {
    Vec::new()
}

/// Returns the body of an error answer.
pub fn error_body(error: &Error, _request_id: &str) -> Vec<u8> {
    crate::protocol::openai_chat::response::error_body(error)
}
