//! Errors in Google's words: <https://cloud.google.com/apis/design/errors>.

use crate::error::Error;
use crate::protocol::text::{Object, comma};

/// Returns the body of an error answer.
pub fn error_body(error: &Error, request_id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + error.message.len());
    let mut body = Object::open(&mut out);
    let mut inner = Object::open(body.key("error"));
    let code = error.kind.status();
    inner.integer("code", code.into());
    inner.string("message", &error.message);
    inner.string("status", status(code));
    write_details(error, request_id, inner.key("details"));
    inner.close();
    body.close();
    out
}

fn write_details(error: &Error, request_id: &str, out: &mut Vec<u8>) {
    out.push(b'[');
    let start = out.len();
    let mut info = detail("ErrorInfo", out);
    info.string("reason", &error.kind.code().to_ascii_uppercase());
    info.string("domain", "strait");
    info.close();
    if let Some(param) = &error.param {
        comma(start, out);
        let mut request = detail("BadRequest", out);
        let violations = request.key("fieldViolations");
        violations.push(b'[');
        let mut violation = Object::open(violations);
        violation.string("field", param);
        violation.string("description", &error.message);
        violation.close();
        violations.push(b']');
        request.close();
    }
    if let Some(wait) = error.retry_after {
        comma(start, out);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let mut retry = detail("RetryInfo", out);
        retry.string("retryDelay", &format!("{seconds}s"));
        retry.close();
    }
    if !request_id.is_empty() {
        comma(start, out);
        let mut request = detail("RequestInfo", out);
        request.string("requestId", request_id);
        request.close();
    }
    out.push(b']');
}

fn detail<'o>(kind: &str, out: &'o mut Vec<u8>) -> Object<'o> {
    let mut object = Object::open(out);
    object.string("@type", &format!("type.googleapis.com/google.rpc.{kind}"));
    object
}

/// Appends an error without details.
pub(in super::super) fn write_error(code: u16, message: &str, out: &mut Vec<u8>) {
    let mut body = Object::open(out);
    let mut inner = Object::open(body.key("error"));
    inner.integer("code", code.into());
    inner.string("message", message);
    inner.string("status", status(code));
    inner.close();
    body.close();
}

/// Returns Google's word for an HTTP status:
/// <https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto>.
fn status(code: u16) -> &'static str {
    match code {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        405 | 501 => "UNIMPLEMENTED",
        408 | 504 => "DEADLINE_EXCEEDED",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        400..=498 => "INVALID_ARGUMENT",
        502 | 503 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}
