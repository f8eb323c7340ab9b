//! The bytes of both sides: requests as an SDK sends them, answers as a provider gives them, all built beforehand.

use crate::figures::{Load, Scene};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Openai,
    Anthropic,
    Gemini,
}

impl Dialect {
    pub const ALL: [Self; 3] = [Self::Openai, Self::Anthropic, Self::Gemini];

    /// Returns the protocol's name in strait's configuration.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Openai => "openai-chat",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    OneKib,
    SixtyKib,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Floor,
    Strait,
}

/// Stands once in every text chunk, in no other place: counting it counts chunks in either dialect.
pub const TOKEN: &[u8] = b"lorem";
pub const CLIENT_KEY: &str = "sk-load-5f0c1b7a9d3e4c28";
pub const PROVIDER_KEY: &str = "sk-provider-71e5c4d0";

/// Returns the provider's name in strait's configuration for a scene in a dialect.
pub fn provider_name(scene: &Scene, dialect: Dialect) -> String {
    match dialect {
        Dialect::Openai => format!("lab-{}", scene.name),
        Dialect::Anthropic => format!("labanthropic-{}", scene.name),
        Dialect::Gemini => format!("labgemini-{}", scene.name),
    }
}

/// Returns the whole request, head and body, that a client sends to one side.
pub fn request(load: &Load, side: Side, authority: &str) -> Vec<u8> {
    let (dialect, prefix, model) = match side {
        // The floor changes nothing, so its client says what the provider wants to hear.
        Side::Floor => (
            load.provider,
            format!("/{}", load.scene.name),
            "m".to_owned(),
        ),
        Side::Strait => (
            load.client,
            String::new(),
            format!("{}/m", provider_name(load.scene, load.provider)),
        ),
    };
    let streams = load.scene.stream.is_some();
    let body = body(dialect, &model, load.size, streams);
    let (path, auth) = match dialect {
        Dialect::Openai => (
            "/v1/chat/completions".to_owned(),
            format!("authorization: Bearer {CLIENT_KEY}"),
        ),
        Dialect::Anthropic => (
            "/v1/messages".to_owned(),
            format!("x-api-key: {CLIENT_KEY}\r\nanthropic-version: 2023-06-01"),
        ),
        Dialect::Gemini => {
            let method = if streams {
                "streamGenerateContent?alt=sse"
            } else {
                "generateContent"
            };
            (
                format!("/v1/models/{model}:{method}"),
                format!("x-goog-api-key: {CLIENT_KEY}"),
            )
        }
    };
    let mut bytes = format!(
        "POST {prefix}{path} HTTP/1.1\r\nhost: {authority}\r\naccept: application/json\r\ncontent-type: application/json\r\n\
         user-agent: OpenAI/Python 2.8.1\r\nx-stainless-lang: python\r\nx-stainless-retry-count: 0\r\n{auth}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

fn body(dialect: Dialect, model: &str, size: Size, stream: bool) -> Vec<u8> {
    let (total, turns) = match size {
        Size::OneKib => (1024, 1),
        Size::SixtyKib => (60 * 1024, 21),
    };
    const SYSTEM: &str = "You are a careful assistant. Answer in one paragraph.";
    let asks_stream = if stream { ",\"stream\":true" } else { "" };
    let sampling = format!("],\"temperature\":0.7,\"max_tokens\":256{asks_stream}}}");
    let (mut out, end) = match dialect {
        Dialect::Openai => (
            format!(
                "{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"system\",\"content\":\"{SYSTEM}\"}},"
            ),
            sampling,
        ),
        Dialect::Anthropic => (
            format!("{{\"model\":\"{model}\",\"system\":\"{SYSTEM}\",\"messages\":["),
            sampling,
        ),
        // Its path names the model and asks for the stream.
        Dialect::Gemini => (
            format!(
                "{{\"systemInstruction\":{{\"parts\":[{{\"text\":\"{SYSTEM}\"}}]}},\"contents\":["
            ),
            "],\"generationConfig\":{\"temperature\":0.7,\"maxOutputTokens\":256}}".to_owned(),
        ),
    };
    // What braces, roles and commas of a turn take, more or less: the total need not be met to the byte.
    const TURN: usize = 36;
    let text = (total - out.len() - end.len()) / turns - TURN;
    for turn in 0..turns {
        let comma = if turn + 1 < turns { "," } else { "" };
        let (before, after) = match (dialect, turn % 2) {
            (Dialect::Gemini, 0) => ("{\"role\":\"user\",\"parts\":[{\"text\":\"", "\"}]}"),
            (Dialect::Gemini, _) => ("{\"role\":\"model\",\"parts\":[{\"text\":\"", "\"}]}"),
            (Dialect::Openai | Dialect::Anthropic, 0) => {
                ("{\"role\":\"user\",\"content\":\"", "\"}")
            }
            (Dialect::Openai | Dialect::Anthropic, _) => {
                ("{\"role\":\"assistant\",\"content\":\"", "\"}")
            }
        };
        out.push_str(before);
        prose(&mut out, text);
        out.push_str(after);
        out.push_str(comma);
    }
    out.push_str(&end);
    out.into_bytes()
}

/// Appends about `length` bytes of text with the escapes that text has: a line break and a quoted word per sentence.
fn prose(out: &mut String, length: usize) {
    const SENTENCE: &str =
        "The harbour master said that the \\\"narrow\\\" channel is passed at slack water only.\\n";
    let end = out.len() + length;
    while out.len() + SENTENCE.len() <= end {
        out.push_str(SENTENCE);
    }
    while out.len() < end {
        out.push('x');
    }
}

/// The answers to one scene in one dialect, ready to be written.
pub struct Answer {
    /// The whole answer, or the head with the first chunk of a stream.
    pub first: Vec<u8>,
    /// Every further chunk of a stream.
    pub chunk: Vec<u8>,
    /// The end of a stream, without and with the usage that OpenAI's clients must ask for.
    pub end: Vec<u8>,
    pub end_with_usage: Vec<u8>,
}

/// Headers as the real providers send them: parsing rate-limit headers is part of a gateway's work.
const OPENAI_HEADERS: &str = "date: Wed, 25 Nov 2026 12:00:00 GMT\r\nopenai-processing-ms: 312\r\nopenai-version: 2020-10-01\r\n\
     x-ratelimit-limit-requests: 10000\r\nx-ratelimit-limit-tokens: 2000000\r\nx-ratelimit-remaining-requests: 9999\r\n\
     x-ratelimit-remaining-tokens: 1999728\r\nx-ratelimit-reset-requests: 6ms\r\nx-ratelimit-reset-tokens: 8ms\r\n\
     x-request-id: req_3c1f0a5d7f7f4a6e9b1d\r\n";
const ANTHROPIC_HEADERS: &str = "date: Wed, 25 Nov 2026 12:00:00 GMT\r\nanthropic-ratelimit-requests-limit: 4000\r\n\
     anthropic-ratelimit-requests-remaining: 3999\r\nanthropic-ratelimit-requests-reset: 2026-11-25T12:00:00Z\r\n\
     anthropic-ratelimit-tokens-limit: 400000\r\nanthropic-ratelimit-tokens-remaining: 399000\r\n\
     anthropic-ratelimit-tokens-reset: 2026-11-25T12:00:00Z\r\nrequest-id: req_011CVB5nPZ4dKcYw1\r\n";
const GEMINI_HEADERS: &str = "vary: Origin, X-Origin, Referer\r\ndate: Wed, 25 Nov 2026 12:00:00 GMT\r\nserver: scaffolding on HTTPServer2\r\n\
     x-xss-protection: 0\r\nx-frame-options: SAMEORIGIN\r\nx-content-type-options: nosniff\r\n\
     server-timing: gfet4t7; dur=612\r\nalt-svc: h3=\":443\"; ma=2592000,h3-29=\":443\"; ma=2592000\r\n";

pub fn answer(scene: &Scene, dialect: Dialect) -> Answer {
    let headers = match dialect {
        Dialect::Openai => OPENAI_HEADERS,
        Dialect::Anthropic => ANTHROPIC_HEADERS,
        Dialect::Gemini => GEMINI_HEADERS,
    };
    if scene.stream.is_none() {
        let body = whole(dialect);
        let first = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        return Answer {
            first: first.into_bytes(),
            chunk: Vec::new(),
            end: Vec::new(),
            end_with_usage: Vec::new(),
        };
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{headers}transfer-encoding: chunked\r\n\r\n"
    );
    let (open, chunk, end, usage) = match dialect {
        Dialect::Openai => {
            let event = |choices: &str, usage: &str| {
                format!(
                    "data: {{\"id\":\"chatcmpl-CcdLs0iTAbVvB9\",\"object\":\"chat.completion.chunk\",\"created\":1764072000,\
                     \"model\":\"m\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_560af6e559\",\
                     \"choices\":[{choices}],\"usage\":{usage}}}\n\n"
                )
            };
            let choice = |delta: &str, finish: &str| {
                format!(
                    "{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}"
                )
            };
            let done = "data: [DONE]\n\n";
            let finish = event(&choice("{}", "\"stop\""), "null");
            let usage = event(
                "",
                "{\"prompt_tokens\":230,\"completion_tokens\":100,\"total_tokens\":330,\
                 \"prompt_tokens_details\":{\"cached_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0}}",
            );
            (
                event(
                    &choice(
                        "{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}",
                        "null",
                    ),
                    "null",
                ),
                event(&choice("{\"content\":\" lorem\"}", "null"), "null"),
                format!("{finish}{done}"),
                format!("{finish}{usage}{done}"),
            )
        }
        Dialect::Anthropic => {
            let end = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
                 event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\
                 \"stop_sequence\":null},\"usage\":{\"output_tokens\":100}}\n\n\
                 event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
                .to_owned();
            (
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_01VB5nPZ4dKcYw1\",\
                 \"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"stop_reason\":null,\
                 \"stop_sequence\":null,\"usage\":{\"input_tokens\":230,\"cache_creation_input_tokens\":0,\
                 \"cache_read_input_tokens\":0,\"output_tokens\":1}}}\n\n\
                 event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\
                 \"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
                    .to_owned(),
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
                 \"delta\":{\"type\":\"text_delta\",\"text\":\" lorem\"}}\n\n"
                    .to_owned(),
                end.clone(),
                end,
            )
        }
        Dialect::Gemini => {
            let event = |text: &str, finish: &str, tokens: u32| {
                format!(
                    "data: {{\"candidates\": [{{\"content\": {{\"parts\": [{{\"text\": \"{text}\"}}],\"role\": \"model\"}},{finish}\
                     \"index\": 0}}],\"usageMetadata\": {{\"promptTokenCount\": 230,\"candidatesTokenCount\": {tokens},\
                     \"totalTokenCount\": {},\"promptTokensDetails\": [{{\"modality\": \"TEXT\",\"tokenCount\": 230}}]}},\
                     \"modelVersion\": \"m\",\"responseId\": \"kQ0laZb2HqKcvdIP\"}}\r\n\r\n",
                    230 + tokens
                )
            };
            let end = event("", "\"finishReason\": \"STOP\",", 100);
            (String::new(), event(" lorem", "", 1), end.clone(), end)
        }
    };
    let chunked = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
    Answer {
        first: format!("{head}{}", chunked(&format!("{open}{chunk}"))).into_bytes(),
        chunk: chunked(&chunk).into_bytes(),
        end: format!("{}0\r\n\r\n", chunked(&end)).into_bytes(),
        end_with_usage: format!("{}0\r\n\r\n", chunked(&usage)).into_bytes(),
    }
}

fn whole(dialect: Dialect) -> String {
    let mut text = String::new();
    match dialect {
        Dialect::Openai => {
            prose(&mut text, 480);
            format!(
                "{{\"id\":\"chatcmpl-CcdLs0iTAbVvB9\",\"object\":\"chat.completion\",\"created\":1764072000,\"model\":\"m\",\
                 \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\",\"refusal\":null,\
                 \"annotations\":[]}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":230,\
                 \"completion_tokens\":100,\"total_tokens\":330,\"prompt_tokens_details\":{{\"cached_tokens\":0,\
                 \"audio_tokens\":0}},\"completion_tokens_details\":{{\"reasoning_tokens\":0,\"audio_tokens\":0,\
                 \"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}},\"service_tier\":\"default\",\
                 \"system_fingerprint\":\"fp_560af6e559\"}}"
            )
        }
        Dialect::Anthropic => {
            prose(&mut text, 640);
            format!(
                "{{\"id\":\"msg_01VB5nPZ4dKcYw1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\
                 \"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\
                 \"usage\":{{\"input_tokens\":230,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\
                 \"output_tokens\":100,\"service_tier\":\"standard\"}}}}"
            )
        }
        // Google's answers come with line breaks and indented.
        Dialect::Gemini => {
            prose(&mut text, 480);
            format!(
                r#"{{
  "candidates": [
    {{
      "content": {{
        "parts": [
          {{
            "text": "{text}"
          }}
        ],
        "role": "model"
      }},
      "finishReason": "STOP",
      "index": 0
    }}
  ],
  "usageMetadata": {{
    "promptTokenCount": 230,
    "candidatesTokenCount": 100,
    "totalTokenCount": 330,
    "promptTokensDetails": [
      {{
        "modality": "TEXT",
        "tokenCount": 230
      }}
    ]
  }},
  "modelVersion": "m",
  "responseId": "kQ0laZb2HqKcvdIP"
}}
"#
            )
        }
    }
}

/// Returns whether a body that is not a stream is a whole answer in the dialect.
pub fn is_whole_answer(dialect: Dialect, body: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
        return false;
    };
    let (text, tokens) = match dialect {
        Dialect::Openai => ("/choices/0/message/content", "/usage/completion_tokens"),
        Dialect::Anthropic => ("/content/0/text", "/usage/output_tokens"),
        Dialect::Gemini => (
            "/candidates/0/content/parts/0/text",
            "/usageMetadata/candidatesTokenCount",
        ),
    };
    let said = value.pointer(text).and_then(serde_json::Value::as_str);
    let used = value.pointer(tokens).and_then(serde_json::Value::as_u64);
    said.is_some_and(|text| text.starts_with("The harbour master")) && used == Some(100)
}

/// Returns whether a stream whose last bytes are `tail` was ended as the dialect ends it.
pub fn is_ended(dialect: Dialect, tail: &[u8]) -> bool {
    let end: &[u8] = match dialect {
        Dialect::Openai => b"data: [DONE]",
        Dialect::Anthropic => b"\"message_stop\"",
        Dialect::Gemini => b"\"STOP\"",
    };
    memchr::memmem::find(tail, end).is_some()
}
