//! Answers in the words of Ollama, <https://github.com/ollama/ollama/blob/main/docs/api.md>.

pub(in crate::mock) mod ask;
pub(in crate::mock) mod strict;

use super::answers::{ErrorSaid, Finish, Piece, Said, pieces};
use super::json::{Object, Raw};

/// A constant, so that equal requests have equal answers.
pub(in crate::mock) const CREATED: &str = "2023-11-14T22:13:20Z";

/// Returns a whole answer.
pub(in crate::mock) fn whole(said: &Said<'_>) -> Vec<u8> {
    let text: String = texts(said).collect();
    let calls: Vec<Object> = calls(said).collect();
    let message = Object::new()
        .set("role", "assistant")
        .set("content", text)
        .some("thinking", said.thinking)
        .some("tool_calls", (!calls.is_empty()).then_some(calls));
    ended(said, message).end()
}

/// Returns the lines of a stream.
pub(in crate::mock) fn stream(said: &Said<'_>) -> Vec<Piece> {
    let mut lines = Vec::with_capacity(said.chunks + 2);
    let message = |text: &str| Object::new().set("role", "assistant").set("content", text);
    let content = |message: Object| {
        Piece::content(line(head(said).set("message", message).set("done", false)))
    };
    for piece in said
        .thinking
        .iter()
        .flat_map(|text| pieces(text, said.chunks))
    {
        lines.push(content(message("").set("thinking", piece)));
    }
    for piece in texts(said).flat_map(|text| pieces(text, said.chunks)) {
        lines.push(content(message(piece)));
    }
    for call in calls(said) {
        lines.push(content(message("").set("tool_calls", [call])));
    }
    if !said.omit_done {
        lines.push(Piece::frame(line(ended(said, message("")))));
    }
    lines
}

fn line(object: Object) -> Vec<u8> {
    let mut line = object.end();
    line.push(b'\n');
    line
}

fn texts<'a>(said: &'a Said<'_>) -> impl Iterator<Item = &'a str> {
    said.text.as_deref().into_iter().chain(said.refusal)
}

fn calls<'a>(said: &'a Said<'_>) -> impl Iterator<Item = Object> + 'a {
    said.tools.iter().enumerate().map(|(at, tool)| {
        let arguments = tool.arguments.0.as_str();
        let arguments = if arguments.is_empty() {
            "{}"
        } else {
            arguments
        };
        let function = Object::new()
            .set("index", at)
            .set("name", &tool.name)
            .set("arguments", Raw(arguments));
        Object::new()
            .set("id", said.tool_id("call", at, tool))
            .set("function", function)
    })
}

fn head(said: &Said<'_>) -> Object {
    Object::new()
        .set("model", said.model)
        .set("created_at", CREATED)
}

/// Returns the answer's end; the usage stands among its fields.
fn ended(said: &Said<'_>, message: Object) -> Object {
    let object = head(said)
        .set("message", message)
        .set("done_reason", finish(said))
        .set("done", true);
    let Some(usage) = &said.usage else {
        return object;
    };
    if let Some(raw) = &usage.raw {
        return object.set("usage", Raw(raw));
    }
    object
        .set("total_duration", 2_000_000u64)
        .set("load_duration", 500_000u64)
        .set("prompt_eval_count", usage.prompt)
        .set("prompt_eval_duration", 500_000u64)
        .set("eval_count", usage.completion)
        .set("eval_duration", 1_000_000u64)
}

fn finish<'a>(said: &Said<'a>) -> &'a str {
    match said.finish {
        Finish::Stop | Finish::StopSequence | Finish::ToolCalls | Finish::ContentFilter => "stop",
        Finish::Length => "length",
        Finish::Verbatim(name) => name,
    }
}

/// Returns an error object.
pub(in crate::mock) fn error_body(error: &ErrorSaid<'_>) -> Vec<u8> {
    let message = match error.status {
        401 | 403 => "unauthorized",
        404 => "model not found, try pulling it first",
        429 => "too many requests",
        503 => "server busy, please try again.  maximum pending requests exceeded",
        200 | 500.. => "an error was encountered while running the model",
        _ => "invalid request",
    };
    Object::new()
        .set("error", error.message.unwrap_or(message))
        .end()
}
