//! Answers in the words of Cohere's second version, <https://docs.cohere.com/reference/chat>.

pub(in crate::mock) mod ask;
pub(in crate::mock) mod strict;

use super::answers::{ErrorSaid, Finish, Piece, Said, Usage, pieces};
use super::json::{Object, Raw, event};

const ID: &str = "00000000-0000-4000-8000-00000000mock";

/// Returns a whole answer.
pub(in crate::mock) fn whole(said: &Said<'_>) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend(said.thinking.map(|text| block("thinking", text)));
    if said.tools.is_empty() {
        content.extend(texts(said).map(|text| block("text", text)));
    }
    let calls: Vec<Object> = calls(said, true).collect();
    let message = Object::new()
        .set("role", "assistant")
        .some("content", (!content.is_empty()).then_some(content))
        .some("tool_plan", plan(said))
        .some("tool_calls", (!calls.is_empty()).then_some(calls));
    Object::new()
        .set("id", ID)
        .set("message", message)
        .set("finish_reason", finish(said))
        .some("usage", said.usage.as_ref().map(|it| it.told(usage)))
        .end()
}

/// Returns the events of a stream.
pub(in crate::mock) fn stream(said: &Said<'_>) -> Vec<Piece> {
    let mut frames = Vec::with_capacity(said.chunks + 6);
    let message = Object::new()
        .set("role", "assistant")
        .set("content", Raw("[]"))
        .set("tool_plan", "")
        .set("tool_calls", Raw("[]"))
        .set("citations", Raw("[]"));
    frames.push(Piece::frame(event(
        "message-start",
        Object::new()
            .set("id", ID)
            .set("type", "message-start")
            .set("delta", Object::new().set("message", message)),
    )));
    let blocks = said.thinking.map(|text| ("thinking", text)).into_iter();
    let says = texts(said).filter(|_| said.tools.is_empty());
    for (index, (kind, text)) in blocks.chain(says.map(|text| ("text", text))).enumerate() {
        let start = Object::new().set("type", kind).set(kind, "");
        frames.push(Piece::frame(change(
            "content-start",
            Some(index),
            "content",
            start,
        )));
        for piece in pieces(text, said.chunks) {
            let delta = Object::new().set(kind, piece);
            frames.push(Piece::content(change(
                "content-delta",
                Some(index),
                "content",
                delta,
            )));
        }
        frames.push(Piece::frame(closed("content-end", index)));
    }
    for piece in plan(said)
        .into_iter()
        .flat_map(|text| pieces(text, said.chunks))
    {
        frames.push(Piece::content(change(
            "tool-plan-delta",
            None,
            "tool_plan",
            piece,
        )));
    }
    for (at, (call, tool)) in calls(said, false).zip(said.tools).enumerate() {
        frames.push(Piece::content(change(
            "tool-call-start",
            Some(at),
            "tool_calls",
            call,
        )));
        for piece in pieces(&tool.arguments.0, said.chunks) {
            let function = Object::new().set("arguments", piece);
            let delta = Object::new().set("function", function);
            frames.push(Piece::content(change(
                "tool-call-delta",
                Some(at),
                "tool_calls",
                delta,
            )));
        }
        frames.push(Piece::frame(closed("tool-call-end", at)));
    }
    if !said.omit_done {
        let delta = Object::new()
            .set("finish_reason", finish(said))
            .some("usage", said.usage.as_ref().map(|it| it.told(usage)));
        let end = Object::new().set("type", "message-end").set("delta", delta);
        frames.push(Piece::frame(event("message-end", end)));
        frames.push(Piece::frame(b"data: [DONE]\n\n".to_vec()));
    }
    frames
}

fn texts<'a>(said: &'a Said<'_>) -> impl Iterator<Item = &'a str> {
    said.text.as_deref().into_iter().chain(said.refusal)
}

/// Returns what is said ahead of calls.
fn plan<'a>(said: &'a Said<'_>) -> Option<&'a str> {
    texts(said).next().filter(|_| !said.tools.is_empty())
}

fn block(kind: &str, text: &str) -> Object {
    Object::new().set("type", kind).set(kind, text)
}

fn calls<'a>(said: &'a Said<'_>, is_whole: bool) -> impl Iterator<Item = Object> + 'a {
    said.tools.iter().enumerate().map(move |(at, tool)| {
        let arguments = if is_whole {
            tool.arguments.0.as_str()
        } else {
            ""
        };
        let function = Object::new()
            .set("name", &tool.name)
            .set("arguments", arguments);
        Object::new()
            .set("id", said.tool_id("call", at, tool))
            .set("type", "function")
            .set("function", function)
    })
}

/// Returns an event that adds something to a field of the message.
fn change(name: &str, index: Option<usize>, field: &str, value: impl super::json::Json) -> Vec<u8> {
    let message = Object::new().set(field, value);
    event(
        name,
        Object::new()
            .set("type", name)
            .some("index", index)
            .set("delta", Object::new().set("message", message)),
    )
}

fn closed(name: &str, index: usize) -> Vec<u8> {
    event(name, Object::new().set("type", name).set("index", index))
}

fn finish<'a>(said: &Said<'a>) -> &'a str {
    match said.finish {
        Finish::Stop => "COMPLETE",
        Finish::StopSequence => "STOP_SEQUENCE",
        Finish::Length => "MAX_TOKENS",
        Finish::ToolCalls => "TOOL_CALL",
        Finish::ContentFilter => "ERROR",
        Finish::Verbatim(name) => name,
    }
}

fn usage(usage: &Usage) -> Object {
    let tokens = || {
        Object::new()
            .set("input_tokens", usage.prompt)
            .set("output_tokens", usage.completion)
    };
    Object::new()
        .set("billed_units", tokens())
        .set("tokens", tokens())
        .set("cached_tokens", usage.cached)
}

fn message<'a>(error: &ErrorSaid<'a>) -> &'a str {
    let message = match error.status {
        401 => "invalid api token",
        403 => "this API key is not allowed to do that",
        404 => "the model is not found",
        429 => "You are past the per minute request limit, please wait and try again later.",
        498 => "the text was found to be unsafe",
        503 | 200 => "the service is overloaded, please try again later",
        500.. => "internal server error",
        _ => "invalid request",
    };
    error.message.unwrap_or(message)
}

/// Returns an error object.
pub(in crate::mock) fn error_body(error: &ErrorSaid<'_>) -> Vec<u8> {
    Object::new()
        .set("id", ID)
        .set("message", message(error))
        .end()
}

/// Returns an error as the end of a stream.
pub(in crate::mock) fn error_event(error: &ErrorSaid<'_>) -> Vec<u8> {
    let delta = Object::new()
        .set("finish_reason", error.kind.unwrap_or("ERROR"))
        .set("error", message(error));
    let end = Object::new().set("type", "message-end").set("delta", delta);
    event("message-end", end)
}
