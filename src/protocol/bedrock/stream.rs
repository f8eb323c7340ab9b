//! Streams: Converse's events into the hub's and out of them.

mod decode;
mod encode;
mod wire;

pub use decode::Decoder;
pub use encode::{Encoder, error_frame};
pub(super) use wire::told;

use crate::protocol::event::FailureClass;

/// The exceptions of a stream, and what they mean; the first of a class is the one it is told by.
const EXCEPTIONS: [(&str, FailureClass); 11] = [
    ("throttlingException", FailureClass::RateLimited),
    ("serviceUnavailableException", FailureClass::Overloaded),
    ("validationException", FailureClass::InvalidRequest),
    ("internalServerException", FailureClass::Server),
    ("modelStreamErrorException", FailureClass::Server),
    ("modelTimeoutException", FailureClass::Server),
    ("modelErrorException", FailureClass::Server),
    ("modelNotReadyException", FailureClass::Overloaded),
    ("serviceQuotaExceededException", FailureClass::RateLimited),
    ("accessDeniedException", FailureClass::Server),
    ("resourceNotFoundException", FailureClass::InvalidRequest),
];

/// Returns what an exception means, whatever case its name begins with; `None` for the name of an event.
pub(super) fn class_of(name: &str) -> Option<FailureClass> {
    let known = EXCEPTIONS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    // Events begin with a small letter, codes of errors with a capital.
    let odd = name.ends_with("Exception") || name.starts_with(|c: char| c.is_ascii_uppercase());
    known
        .map(|(_, class)| *class)
        .or(odd.then_some(FailureClass::Server))
}

/// Returns the exception that says a class.
pub(super) fn exception_of(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Garbage | FailureClass::Cut => "modelStreamErrorException",
        FailureClass::Overloaded
        | FailureClass::RateLimited
        | FailureClass::InvalidRequest
        | FailureClass::Server => EXCEPTIONS
            .iter()
            .find(|(_, known)| *known == class)
            .map_or("internalServerException", |(name, _)| name),
    }
}
