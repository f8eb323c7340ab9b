//! What the script has in place of an answer: errors, garbage, bodies of its own.

use std::sync::Arc;

use bytes::Bytes;

use super::answers::{ErrorSaid, Piece, Rendered, error_body};
use super::dialect::Dialect;
use super::script::Behaviour;

/// Returns the success that the script has in place of an answer.
pub(super) fn scripted(
    behaviour: &Behaviour,
    dialect: Dialect,
    stream: bool,
    sse: bool,
) -> Option<Rendered> {
    let framing = dialect.framing(sse);
    let of_bytes = |bytes: Bytes| {
        let is_content = true;
        Rendered::Stream(framing, Arc::new([Piece { bytes, is_content }]))
    };
    if let Some(error) = behaviour.error_event.as_ref().filter(|_| !stream) {
        // Not streamed, an error in a 200 is the whole body.
        let said = ErrorSaid::of_event(error);
        return Some(Rendered::Whole(error_body(dialect, &said).into()));
    }
    if behaviour.garbage {
        let bytes = Bytes::from_static(GARBAGE);
        let is_content = false;
        return Some(if stream {
            Rendered::Stream(framing, Arc::new([Piece { bytes, is_content }]))
        } else {
            Rendered::Whole(bytes)
        });
    }
    if behaviour.empty_stream {
        return Some(if stream {
            Rendered::Stream(framing, Arc::new([]))
        } else {
            Rendered::Whole(Bytes::new())
        });
    }
    let raw = behaviour.body.as_ref()?.0.clone();
    Some(if stream {
        of_bytes(raw)
    } else {
        Rendered::Whole(raw)
    })
}

/// Returns the body of an error.
pub(super) fn failure(behaviour: &Behaviour, status: u16, dialect: Dialect) -> Bytes {
    if behaviour.garbage {
        return Bytes::from_static(GARBAGE);
    }
    if let Some(raw) = &behaviour.body {
        return raw.0.clone();
    }
    error_body(dialect, &error_said(behaviour, status)).into()
}

/// Returns the parts of an error, those of the script where it has some.
pub(super) fn error_said(behaviour: &Behaviour, status: u16) -> ErrorSaid<'_> {
    let error = behaviour.error.as_ref();
    ErrorSaid {
        status,
        kind: error.and_then(|error| error.kind.as_deref()),
        message: error.and_then(|error| error.message.as_deref()),
        code: error.and_then(|error| error.code.as_deref()),
        param: error.and_then(|error| error.param.as_deref()),
    }
}

const GARBAGE: &[u8] = b"<html>\xff\xfe{\"id\": \n\ndata not an event\x00\n<h1>Bad gateway</h1>";
