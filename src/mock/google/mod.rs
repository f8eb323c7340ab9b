//! Answers in the words of Gemini, <https://ai.google.dev/api/generate-content>, here and under Vertex AI's paths.
//!
//! A function call carries a signature (`thoughtSignature`), the first one of a turn alone, as the models do;
//! without a call, the text does where the answer has thoughts or the script gives a signature.

pub(in crate::mock) mod ask;
pub(in crate::mock) mod strict;

use super::answers::{ErrorSaid, Finish, Piece, Said, Usage, pieces};
use super::apis::media;
use super::dialect::Framing;
use super::json::{Object, Raw};

/// Returns a whole `GenerateContentResponse`.
pub(in crate::mock) fn whole(said: &Said<'_>) -> Vec<u8> {
    let signature = text_signature(said);
    let mut parts = Vec::new();
    if let Some(text) = said.thinking {
        parts.push(thought(text));
    }
    let texts: Vec<&str> = texts(said).collect();
    let last = texts.len().saturating_sub(1);
    for (at, text) in texts.into_iter().enumerate() {
        let signature = signature.filter(|_| at == last);
        parts.push(
            Object::new()
                .set("text", text)
                .some("thoughtSignature", signature),
        );
    }
    parts.extend(calls(said));
    if said.asked.image {
        let data = Object::new()
            .set("mimeType", "image/png")
            .set("data", media::PNG);
        parts.push(Object::new().set("inlineData", data));
    }
    let candidates: Vec<Object> = (0..said.n)
        .map(|index| candidate(index, &parts, Some(finish(said))))
        .collect();
    answer(said, candidates, true).end()
}

/// Returns the parts of a stream.
pub(in crate::mock) fn stream(said: &Said<'_>) -> Vec<Piece> {
    let mut parts = Vec::with_capacity(said.chunks + 2);
    let mut add = |object: Object, is_content| parts.push((object.end(), is_content));
    for index in 0..said.n {
        let one = |part| answer(said, vec![candidate(index, &[part], None)], false);
        for piece in said
            .thinking
            .iter()
            .flat_map(|text| pieces(text, said.chunks))
        {
            add(one(thought(piece)), true);
        }
        for piece in texts(said).flat_map(|text| pieces(text, said.chunks)) {
            add(one(Object::new().set("text", piece)), true);
        }
        for call in calls(said) {
            add(one(call), true);
        }
        if !said.omit_done {
            let end = Object::new()
                .set("text", "")
                .some("thoughtSignature", text_signature(said));
            let end = vec![candidate(index, &[end], Some(finish(said)))];
            add(answer(said, end, index + 1 == said.n), false);
        }
    }
    framed(parts, said.asked.dialect.framing(said.asked.sse))
}

/// Writes the parts as events, or as one list.
fn framed(parts: Vec<(Vec<u8>, bool)>, framing: Framing) -> Vec<Piece> {
    let mut frames: Vec<Piece> = Vec::with_capacity(parts.len() + 1);
    let is_list = framing == Framing::List;
    for (at, (part, is_content)) in parts.into_iter().enumerate() {
        let (head, tail): (&[u8], &[u8]) = match (is_list, at) {
            (true, 0) => (b"[", b""),
            (true, _) => (b",\r\n", b""),
            (false, _) => (b"data: ", b"\r\n\r\n"),
        };
        let bytes = [head, &part, tail].concat().into();
        frames.push(Piece { bytes, is_content });
    }
    if is_list {
        frames.push(Piece::frame(b"]".to_vec()));
    }
    frames
}

fn texts<'a>(said: &'a Said<'_>) -> impl Iterator<Item = &'a str> {
    said.text.as_deref().into_iter().chain(said.refusal)
}

fn thought(text: &str) -> Object {
    Object::new().set("text", text).set("thought", true)
}

fn calls<'a>(said: &'a Said<'_>) -> impl Iterator<Item = Object> + 'a {
    said.tools.iter().enumerate().map(|(at, tool)| {
        let arguments = tool.arguments.0.as_str();
        let arguments = if arguments.is_empty() {
            "{}"
        } else {
            arguments
        };
        let call = Object::new()
            .some("id", tool.id.as_deref())
            .set("name", &tool.name)
            .set("args", Raw(arguments));
        Object::new()
            .set("functionCall", call)
            .some("thoughtSignature", (at == 0).then_some(said.signature))
    })
}

fn text_signature<'a>(said: &Said<'a>) -> Option<&'a str> {
    let is_signed = said.tools.is_empty() && (said.thinking.is_some() || said.is_signed);
    is_signed.then_some(said.signature)
}

fn candidate(index: u32, parts: &[Object], finish: Option<&str>) -> Object {
    let content = Object::new().set("parts", parts).set("role", "model");
    Object::new()
        .set("content", content)
        .some("finishReason", finish)
        .set("index", index)
}

fn answer(said: &Said<'_>, candidates: Vec<Object>, is_last: bool) -> Object {
    Object::new()
        .set("candidates", candidates)
        .some(
            "usageMetadata",
            said.usage
                .as_ref()
                .map(|it| it.told(|it| usage(it, is_last))),
        )
        .set("modelVersion", said.model)
        .set("responseId", "mock")
}

/// Tells the tokens; those of the answer with its last part alone.
fn usage(usage: &Usage, is_last: bool) -> Object {
    let object = Object::new().set("promptTokenCount", usage.prompt);
    let object = if is_last {
        object
            .set(
                "candidatesTokenCount",
                usage.completion.saturating_sub(usage.reasoning),
            )
            .set("totalTokenCount", usage.total())
    } else {
        object.set("totalTokenCount", usage.prompt)
    };
    let modality = |count: u64| {
        [Object::new()
            .set("modality", "TEXT")
            .set("tokenCount", count)]
    };
    object
        .some(
            "cachedContentTokenCount",
            (usage.cached > 0).then_some(usage.cached),
        )
        .set("promptTokensDetails", modality(usage.prompt))
        .some(
            "thoughtsTokenCount",
            (is_last && usage.reasoning > 0).then_some(usage.reasoning),
        )
}

fn finish<'a>(said: &Said<'a>) -> &'a str {
    match said.finish {
        Finish::Stop | Finish::StopSequence | Finish::ToolCalls => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::ContentFilter => "SAFETY",
        Finish::Verbatim(name) => name,
    }
}

/// Returns an error of Google's; what is not given goes by the status.
pub(in crate::mock) fn error_body(error: &ErrorSaid<'_>) -> Vec<u8> {
    let status = if error.status == 200 {
        503
    } else {
        error.status
    };
    let (name, message) = match status {
        401 => (
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials.",
        ),
        403 => ("PERMISSION_DENIED", "The caller does not have permission"),
        404 => ("NOT_FOUND", "Requested entity was not found."),
        409 => ("ABORTED", "The operation was aborted."),
        429 => (
            "RESOURCE_EXHAUSTED",
            "Resource has been exhausted (e.g. check quota).",
        ),
        499 => ("CANCELLED", "The operation was cancelled."),
        503 => (
            "UNAVAILABLE",
            "The model is overloaded. Please try again later.",
        ),
        504 => (
            "DEADLINE_EXCEEDED",
            "Deadline expired before operation could complete.",
        ),
        500.. => ("INTERNAL", "An internal error has occurred."),
        _ => ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    };
    let details = error.param.map(|field| {
        let violation = Object::new()
            .set("field", field)
            .set("description", error.message.unwrap_or(message));
        [Object::new()
            .set("@type", "type.googleapis.com/google.rpc.BadRequest")
            .set("fieldViolations", [violation])]
    });
    Object::new()
        .set(
            "error",
            Object::new()
                .set("code", status)
                .set("message", error.message.unwrap_or(message))
                .set("status", error.code.or(error.kind).unwrap_or(name))
                .some("details", details),
        )
        .end()
}
