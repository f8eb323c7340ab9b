//! Answers in the words of OpenAI chat, <https://platform.openai.com/docs/api-reference/chat>.

use super::super::answers::{ErrorSaid, Finish, Piece, Said, Usage, pieces};
use super::super::json::{put, quote};

const ID: &str = "chatcmpl-mock";
/// A constant, so that equal requests have equal answers.
pub(in crate::mock) const CREATED: &str = "1700000000";

/// Returns a whole `chat.completion`.
pub(in crate::mock) fn whole(said: &Said<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + said.text.as_ref().map_or(0, |text| text.len()));
    put(
        &mut out,
        &[
            "{\"id\":\"",
            ID,
            "\",\"object\":\"chat.completion\",\"created\":",
            CREATED,
            ",\"model\":",
        ],
    );
    quote(&mut out, said.model);
    put(&mut out, &[",\"choices\":["]);
    for index in 0..said.n {
        let comma = if index > 0 { "," } else { "" };
        put(
            &mut out,
            &[
                comma,
                "{\"index\":",
                &index.to_string(),
                ",\"message\":{\"role\":\"assistant\",\"content\":",
            ],
        );
        nullable(&mut out, said.text.as_deref());
        put(&mut out, &[",\"refusal\":"]);
        nullable(&mut out, said.refusal);
        if let Some(thinking) = said.thinking {
            put(&mut out, &[",\"reasoning_content\":"]);
            quote(&mut out, thinking);
        }
        if !said.tools.is_empty() {
            put(&mut out, &[",\"tool_calls\":["]);
            for (at, tool) in said.tools.iter().enumerate() {
                put(&mut out, &[if at > 0 { "," } else { "" }, "{\"id\":"]);
                quote(&mut out, &said.tool_id("call", at, tool));
                put(
                    &mut out,
                    &[",\"type\":\"function\",\"function\":{\"name\":"],
                );
                quote(&mut out, &tool.name);
                put(&mut out, &[",\"arguments\":"]);
                quote(&mut out, &tool.arguments.0);
                put(&mut out, &["}}"]);
            }
            put(&mut out, &["]"]);
        }
        put(
            &mut out,
            &[",\"annotations\":[]},\"logprobs\":null,\"finish_reason\":"],
        );
        quote(&mut out, finish(said));
        put(&mut out, &["}"]);
    }
    put(&mut out, &["]"]);
    if let Some(usage) = &said.usage {
        put(&mut out, &[",\"usage\":"]);
        write_usage(&mut out, usage);
    }
    put(
        &mut out,
        &[",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_mock\"}"],
    );
    out
}

/// Returns the frames of a stream of `chat.completion.chunk`s.
pub(in crate::mock) fn stream(said: &Said<'_>) -> Vec<Piece> {
    let chunk = Chunk::new(said);
    let mut frames = Vec::with_capacity(said.chunks + 5);
    for index in 0..said.n {
        frames.push(Piece::frame(chunk.delta(index, None, |out| {
            let content = if said.text.is_some() { "\"\"" } else { "null" };
            put(
                out,
                &[
                    "\"role\":\"assistant\",\"content\":",
                    content,
                    ",\"refusal\":null",
                ],
            );
        })));
        for (field, text) in [
            ("reasoning_content", said.thinking),
            ("content", said.text.as_deref()),
            ("refusal", said.refusal),
        ] {
            for piece in text.into_iter().flat_map(|text| pieces(text, said.chunks)) {
                frames.push(Piece::content(chunk.delta(index, None, |out| {
                    put(out, &["\"", field, "\":"]);
                    quote(out, piece);
                })));
            }
        }
        for (at, tool) in said.tools.iter().enumerate() {
            frames.push(Piece::content(chunk.delta(index, None, |out| {
                put(
                    out,
                    &["\"tool_calls\":[{\"index\":", &at.to_string(), ",\"id\":"],
                );
                quote(out, &said.tool_id("call", at, tool));
                put(out, &[",\"type\":\"function\",\"function\":{\"name\":"]);
                quote(out, &tool.name);
                put(out, &[",\"arguments\":\"\"}}]"]);
            })));
            for piece in pieces(&tool.arguments.0, said.chunks) {
                frames.push(Piece::content(chunk.delta(index, None, |out| {
                    put(
                        out,
                        &[
                            "\"tool_calls\":[{\"index\":",
                            &at.to_string(),
                            ",\"function\":{\"arguments\":",
                        ],
                    );
                    quote(out, piece);
                    put(out, &["}}]"]);
                })));
            }
        }
        frames.push(Piece::frame(chunk.delta(index, Some(finish(said)), |_| {})));
    }
    if let Some(usage) = said.usage.as_ref().filter(|_| said.usage_chunk) {
        let mut out = chunk.head.clone();
        put(&mut out, &[",\"choices\":[],\"usage\":"]);
        write_usage(&mut out, usage);
        put(&mut out, &["}\n\n"]);
        frames.push(Piece::frame(out));
    }
    if !said.omit_done {
        frames.push(Piece::frame(b"data: [DONE]\n\n".to_vec()));
    }
    frames
}

/// What all chunks of one stream begin and end with.
struct Chunk {
    head: Vec<u8>,
    tail: &'static str,
}

impl Chunk {
    fn new(said: &Said<'_>) -> Self {
        let mut head = Vec::with_capacity(192);
        put(
            &mut head,
            &[
                "data: {\"id\":\"",
                ID,
                "\",\"object\":\"chat.completion.chunk\",\"created\":",
                CREATED,
            ],
        );
        put(&mut head, &[",\"model\":"]);
        quote(&mut head, said.model);
        put(
            &mut head,
            &[",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_mock\""],
        );
        Self {
            head,
            tail: if said.usage_chunk {
                "}],\"usage\":null}\n\n"
            } else {
                "}]}\n\n"
            },
        }
    }

    fn delta(&self, index: u32, finish: Option<&str>, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.head.len() + 128);
        out.extend_from_slice(&self.head);
        put(
            &mut out,
            &[
                ",\"choices\":[{\"index\":",
                &index.to_string(),
                ",\"delta\":{",
            ],
        );
        write(&mut out);
        put(&mut out, &["},\"logprobs\":null,\"finish_reason\":"]);
        nullable(&mut out, finish);
        put(&mut out, &[self.tail]);
        out
    }
}

pub(in crate::mock) fn finish<'a>(said: &Said<'a>) -> &'a str {
    match said.finish {
        Finish::Stop | Finish::StopSequence => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
        Finish::Verbatim(name) => name,
    }
}

pub(in crate::mock) fn write_usage(out: &mut Vec<u8>, usage: &Usage) {
    if let Some(raw) = &usage.raw {
        return put(out, &[raw]);
    }
    let total = usage.prompt.saturating_add(usage.completion);
    put(
        out,
        &[
            "{\"prompt_tokens\":",
            &usage.prompt.to_string(),
            ",\"completion_tokens\":",
            &usage.completion.to_string(),
            ",\"total_tokens\":",
            &total.to_string(),
            ",\"prompt_tokens_details\":{\"cached_tokens\":",
            &usage.cached.to_string(),
            ",\"audio_tokens\":0",
        ],
    );
    if let Some(written) = usage.cache_write {
        put(out, &[",\"cache_write_tokens\":", &written.to_string()]);
    }
    put(
        out,
        &[
            "},\"completion_tokens_details\":{\"reasoning_tokens\":",
            &usage.reasoning.to_string(),
            ",\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}",
        ],
    );
}

/// Returns type, code and message of an error; what is not given goes by the status.
pub(in crate::mock) fn error_words<'a>(
    error: &ErrorSaid<'a>,
) -> (&'a str, Option<&'a str>, &'a str) {
    let (kind, code, message) = match error.status {
        401 => (
            "invalid_request_error",
            Some("invalid_api_key"),
            "Incorrect API key provided.",
        ),
        403 => (
            "invalid_request_error",
            Some("unsupported_country_region_territory"),
            "This is not allowed.",
        ),
        404 => (
            "invalid_request_error",
            Some("model_not_found"),
            "The model does not exist.",
        ),
        413 => ("invalid_request_error", None, "The request is too large."),
        429 => (
            "requests",
            Some("rate_limit_exceeded"),
            "Rate limit reached.",
        ),
        503 => (
            "server_error",
            None,
            "The engine is currently overloaded, please try again later.",
        ),
        200 | 500.. => (
            "server_error",
            None,
            "The server had an error while processing your request.",
        ),
        _ => ("invalid_request_error", None, "The request is not valid."),
    };
    (
        error.kind.unwrap_or(kind),
        error.code.or(code),
        error.message.unwrap_or(message),
    )
}

/// Returns an error object.
pub(in crate::mock) fn error_body(error: &ErrorSaid<'_>) -> Vec<u8> {
    let (kind, code, message) = error_words(error);
    let mut out = Vec::with_capacity(160);
    put(&mut out, &["{\"error\":{\"message\":"]);
    quote(&mut out, message);
    put(&mut out, &[",\"type\":"]);
    quote(&mut out, kind);
    put(&mut out, &[",\"param\":"]);
    nullable(&mut out, error.param);
    put(&mut out, &[",\"code\":"]);
    nullable(&mut out, code);
    put(&mut out, &["}}"]);
    out
}

fn nullable(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => quote(out, text),
        None => put(out, &["null"]),
    }
}
