//! Items as both requests and answers write them.

use crate::protocol::text::{self, Object};

pub(super) const COMPLETED: &str = "completed";
pub(super) const INCOMPLETE: &str = "incomplete";
pub(super) const IN_PROGRESS: &str = "in_progress";

/// Appends a message of the model; `content` is its parts with commas between them.
pub(super) fn write_message(id: &str, status: &str, content: &[u8], out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("id", id);
    object.string("type", "message");
    object.string("status", status);
    let inner = object.key("content");
    inner.push(b'[');
    inner.extend_from_slice(content);
    inner.push(b']');
    object.string("role", "assistant");
    object.close();
}

/// Appends a text; `annotations` and `logprobs` are elements with commas between them.
pub(super) fn write_output_text(
    words: &str,
    annotations: &[u8],
    logprobs: &[u8],
    out: &mut Vec<u8>,
) {
    let mut object = Object::open(out);
    object.string("type", "output_text");
    for (name, list) in [("annotations", annotations), ("logprobs", logprobs)] {
        let inner = object.key(name);
        inner.push(b'[');
        inner.extend_from_slice(list);
        inner.push(b']');
    }
    object.string("text", words);
    object.close();
}

pub(super) fn write_refusal(words: &str, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", "refusal");
    object.string("refusal", words);
    object.close();
}

/// Appends a reasoning item, without an id where it has none.
pub(super) fn write_reasoning(id: &str, words: &str, encrypted: Option<&str>, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    if !id.is_empty() {
        object.string("id", id);
    }
    object.string("type", "reasoning");
    let summary = object.key("summary");
    summary.push(b'[');
    if !words.is_empty() {
        write_summary(words, summary);
    }
    summary.push(b']');
    object.maybe_string("encrypted_content", encrypted);
    object.close();
}

pub(super) fn write_summary(words: &str, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("type", "summary_text");
    object.string("text", words);
    object.close();
}

/// Appends a call as a request brings it back.
pub(super) fn write_call_asked(
    id: &str,
    namespace: Option<&str>,
    name: &str,
    arguments: &str,
    out: &mut Vec<u8>,
) {
    let mut object = Object::open(out);
    object.string("type", "function_call");
    object.string("call_id", id);
    object.maybe_string("namespace", namespace);
    object.string("name", name);
    object.string("arguments", or_empty(arguments));
    object.close();
}

/// Returns arguments that clients can parse.
pub(super) fn or_empty(arguments: &str) -> &str {
    if arguments.is_empty() {
        "{}"
    } else {
        arguments
    }
}

/// A call that an answer makes.
#[derive(Debug)]
pub(super) struct Call<'c> {
    pub id: &'c str,
    pub call_id: &'c str,
    pub name: &'c str,
    pub namespace: Option<&'c str>,
    /// Arguments, or the plain text of a custom tool.
    pub said: &'c str,
    pub custom: bool,
    pub status: &'c str,
}

impl Call<'_> {
    pub fn write(&self, out: &mut Vec<u8>) {
        let (kind, field) = match self.custom {
            true => ("custom_tool_call", "input"),
            false => ("function_call", "arguments"),
        };
        let mut object = Object::open(out);
        object.string("id", self.id);
        object.string("type", kind);
        object.string("status", self.status);
        text::string(self.said, object.key(field));
        object.string("call_id", self.call_id);
        object.string("name", self.name);
        object.maybe_string("namespace", self.namespace);
        object.close();
    }
}
