//! The envelope: what the gateway must know of a request to route, limit, cache and account it, whatever the rest.
//!
//! One scan of the body, no tree. A key given twice is refused, because the gateway and the provider could each
//! read the other one; so what was checked is what is sent.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::Protocol;
use crate::codec::json::{self, Blobs, JsonError, JsonErrorKind, Member, Scanner};
use crate::error::{Error, Kind, Result};

mod api;

/// Models have names, not novels.
const MODEL_MOST: usize = 512;
/// The most models that a request may name to fall back to.
const FALLBACKS_MOST: usize = 16;
/// A conversation is known by its first turns, and by no more of the last of them than this.
const MOST_BEGINNING: usize = 4;
const MOST_BEGINNING_BYTES: usize = 1024;
/// What a blob (an image, a document) counts for at most, in tokens. Providers scale images to about this.
const BLOB_TOKENS: u64 = 1000;

/// A checked request body, borrowed from its bytes.
#[derive(Debug)]
pub struct Envelope<'b> {
    /// The top-level members, in the body's order.
    pub members: Vec<Member>,
    /// Never empty.
    pub model: Cow<'b, str>,
    /// Where the body names it; `None` where the path alone does.
    pub model_value: Option<Range<usize>>,
    /// Where the conversation stands: messages, input, contents or prompt.
    pub conversation: Range<usize>,
    pub stream: bool,
    /// `stream_options.include_usage` is true.
    pub include_usage: bool,
    /// The index of the member.
    pub stream_options: Option<usize>,
    /// `max_completion_tokens`, else `max_tokens`, or what the protocol calls it.
    pub max_output: Option<u64>,
    /// How many answers.
    pub n: Option<u64>,
    /// OpenAI's `user`, Anthropic's `metadata.user_id`.
    pub user: Option<Cow<'b, str>>,
    pub metadata: Option<Range<usize>>,
    /// Ours: models to ask when those of the route fail.
    pub fallbacks: Vec<Cow<'b, str>>,
    /// Ours: `usage: {"include": true}`.
    pub include_cost: bool,
    ours: Vec<usize>,
    size: usize,
    blobs: Blobs,
}

/// What the path of a request says, where a protocol keeps it out of the body.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Said<'p> {
    pub model: Option<&'p str>,
    pub stream: Option<bool>,
}

impl<'b> Envelope<'b> {
    /// Reads and checks a body of `protocol`; the body itself is depth 1 of `max_depth`.
    pub fn read(body: &'b [u8], protocol: Protocol, max_depth: usize) -> Result<Self> {
        Self::read_said(body, protocol, max_depth, Said::default())
    }

    /// Like [`Envelope::read`], for a request whose path says some of it.
    pub fn read_said(
        body: &'b [u8],
        protocol: Protocol,
        max_depth: usize,
        said: Said<'_>,
    ) -> Result<Self> {
        let mut members = Vec::with_capacity(16);
        let mut scanner = Scanner::new(body, max_depth);
        scanner
            .members(&mut members)
            .and_then(|()| scanner.end())
            .map_err(not_json)?;
        let keys = keys(body, &members)?;
        let mut envelope = Self {
            members: Vec::new(),
            model: Cow::Borrowed(""),
            model_value: None,
            conversation: 0..0,
            // Ollama streams unless it is told not to.
            stream: protocol == Protocol::Ollama,
            include_usage: false,
            stream_options: None,
            max_output: None,
            n: None,
            user: None,
            metadata: None,
            fallbacks: Vec::new(),
            include_cost: false,
            ours: Vec::new(),
            size: body.len(),
            blobs: scanner.blobs(),
        };
        let conversation = conversation(protocol);
        let mut has_messages = false;
        let mut max_tokens = None;
        for (index, (key, member)) in keys.iter().zip(&members).enumerate() {
            let value = member.value.clone();
            let first = body.get(value.start);
            match &**key {
                "model" => {
                    if said.model.is_none() {
                        envelope.model = model(body, value.clone())?;
                    }
                    envelope.model_value = Some(value);
                }
                key if key == conversation => {
                    check_conversation(body, value.clone(), protocol, conversation)?;
                    envelope.conversation = value;
                    has_messages = true;
                }
                // A stored prompt holds the conversation itself.
                "prompt" if protocol == Protocol::OpenaiResponses => has_messages = true,
                "stream" => {
                    envelope.stream = match json::boolean(body, value.clone()) {
                        Some(stream) => stream,
                        None if json::is_null(body, value) => envelope.stream,
                        None => {
                            return Err(Error::field("stream", "`stream` must be true or false."));
                        }
                    };
                }
                "stream_options" => {
                    envelope.stream_options = Some(index);
                    if first == Some(&b'{') {
                        let usage = field(body, value, "include_usage");
                        envelope.include_usage =
                            usage.and_then(|usage| json::boolean(body, usage)) == Some(true);
                    } else if !json::is_null(body, value) {
                        return Err(Error::field(
                            "stream_options",
                            "`stream_options` must be an object.",
                        ));
                    }
                }
                "max_completion_tokens" | "max_output_tokens" => {
                    envelope.max_output = json::unsigned(body, value).or(envelope.max_output)
                }
                "max_tokens" => max_tokens = json::unsigned(body, value),
                "generationConfig" | "generation_config" if protocol == Protocol::Gemini => {
                    let most = field(body, value.clone(), "maxOutputTokens")
                        .or_else(|| field(body, value.clone(), "max_output_tokens"));
                    envelope.max_output = most.and_then(|most| json::unsigned(body, most));
                    let count = field(body, value.clone(), "candidateCount")
                        .or_else(|| field(body, value, "candidate_count"));
                    envelope.n = count.and_then(|count| json::unsigned(body, count));
                }
                "inferenceConfig" if protocol == Protocol::Bedrock => {
                    let most = field(body, value, "maxTokens");
                    envelope.max_output = most.and_then(|most| json::unsigned(body, most));
                }
                "options" if protocol == Protocol::Ollama => {
                    let most = field(body, value, "num_predict");
                    envelope.max_output = most.and_then(|most| json::unsigned(body, most));
                }
                "n" => envelope.n = json::unsigned(body, value),
                "user" if is_openai(protocol) => {
                    envelope.user = json::string(body, value).or(envelope.user)
                }
                "safety_identifier" if is_openai(protocol) && envelope.user.is_none() => {
                    envelope.user = json::string(body, value)
                }
                "metadata" => {
                    if protocol == Protocol::Anthropic {
                        envelope.user = field(body, value.clone(), "user_id")
                            .and_then(|user| json::string(body, user));
                    }
                    envelope.metadata = Some(value);
                }
                // Anthropic has a field of that name too, with objects or the word "default".
                "fallbacks" if protocol == Protocol::Anthropic && is_anthropics(body, &value) => {}
                "fallbacks" => {
                    envelope.fallbacks = fallbacks(body, value)?;
                    envelope.ours.push(index);
                }
                "usage" => {
                    if let Some(include) = field(body, value, "include") {
                        envelope.include_cost = json::boolean(body, include) == Some(true);
                        envelope.ours.push(index);
                    }
                }
                _ => {}
            }
        }
        if let Some(model) = said.model {
            if model.len() > MODEL_MOST {
                return Err(Error::field("model", "`model` is longer than 512 bytes."));
            }
            envelope.model = Cow::Owned(model.to_owned());
        }
        envelope.stream = said.stream.unwrap_or(envelope.stream);
        if envelope.model.is_empty() {
            return Err(Error::field("model", "`model` is missing."));
        }
        if !has_messages {
            let message = format!("`{conversation}` is missing.");
            return Err(Error::field(conversation, message));
        }
        envelope.max_output = envelope.max_output.or(max_tokens);
        drop(keys);
        envelope.members = members;
        Ok(envelope)
    }

    /// Returns the indices of the members that are ours, and go to no provider.
    pub fn ours(&self) -> impl Iterator<Item = usize> + '_ {
        self.ours.iter().copied()
    }

    /// Returns an estimate of the input in tokens: a quarter of the body's bytes, where a long base64 string
    /// counts for 1000 tokens at most.
    pub fn estimate_input(&self) -> u64 {
        let text = self.size.saturating_sub(self.blobs.bytes) as u64;
        let blobs = self.blobs.bytes as u64 / 4;
        text / 4 + blobs.min((self.blobs.count as u64).saturating_mul(BLOB_TOKENS))
    }

    /// Returns an estimate of all tokens: that of the input, and all output that the request allows for (none where
    /// it doesn't say).
    pub fn estimate_tokens(&self) -> u64 {
        self.estimate_input()
            .saturating_add(self.max_output.unwrap_or(0))
    }

    /// Returns how the conversation begins, up to its first word of the user: what stays the same from turn to turn.
    /// `None` where it is no list of turns.
    pub fn beginning(&self, body: &'b [u8]) -> Option<&'b [u8]> {
        let turns = body.get(self.conversation.clone())?;
        let mut scanner = Scanner::new(turns, usize::MAX);
        let mut end = 0;
        let mut seen = 0;
        let read = scanner.array(|scanner| {
            let turn = scanner.skip()?;
            if end == 0 {
                seen += 1;
                let is_user = memchr::memmem::find(&turns[turn.clone()], b"\"user\"").is_some();
                if is_user || seen == MOST_BEGINNING {
                    end = turn.end.min(turn.start + MOST_BEGINNING_BYTES);
                }
            }
            Ok(())
        });
        (read.is_ok() && end > 0).then(|| &turns[..end])
    }

    /// Returns whether the conversation has gone on for more than one turn, so that who answered before matters.
    pub fn goes_on(&self, body: &[u8]) -> bool {
        let turns = body.get(self.conversation.clone()).unwrap_or_default();
        [&b"\"assistant\""[..], b"\"model\"", b"\"function_call\""]
            .iter()
            .any(|word| memchr::memmem::find(turns, word).is_some())
    }

    /// Returns `stream_options` as it came, with `include_usage` set to true.
    pub fn stream_options_with_usage(&self, body: &[u8]) -> Vec<u8> {
        let value = self
            .stream_options
            .and_then(|index| self.members.get(index))
            .map(|member| member.value.clone());
        let mut inner = Vec::new();
        let Some(value) = value
            .and_then(|value| body.get(value))
            .filter(|value| value.first() == Some(&b'{'))
        else {
            return br#"{"include_usage":true}"#.to_vec();
        };
        if json::members(value, usize::MAX, &mut inner).is_err() {
            return br#"{"include_usage":true}"#.to_vec();
        }
        let mut out = b"{\"include_usage\":true".to_vec();
        for member in inner
            .iter()
            .filter(|member| json::key(value, member) != "include_usage")
        {
            out.push(b',');
            out.extend_from_slice(&value[member.whole.clone()]);
        }
        out.push(b'}');
        out
    }

    /// Calls `each` with the members that can change the answer, sorted by key: all but who asks (`user`,
    /// `safety_identifier`), what is kept where (`metadata`, `store`), how it is sent (`stream`, `stream_options`),
    /// and what is ours. Keys come decoded, values raw: the same request with other white space is another one.
    pub fn canonical(&self, body: &'b [u8], each: &mut dyn FnMut(&[u8], &[u8])) {
        let mut parts: Vec<(Cow<'_, str>, &[u8])> = self
            .members
            .iter()
            .enumerate()
            .filter(|(index, _)| !self.ours.contains(index))
            .map(|(_, member)| {
                (
                    json::key(body, member),
                    body.get(member.value.clone()).unwrap_or_default(),
                )
            })
            .filter(|(key, _)| !UNCHANGING.contains(&&**key))
            .collect();
        parts.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (key, value) in parts {
            each(key.as_bytes(), value);
        }
    }
}

/// Fields that don't change the answer.
const UNCHANGING: [&str; 6] = [
    "user",
    "metadata",
    "stream",
    "stream_options",
    "safety_identifier",
    "store",
];

fn not_json(error: JsonError) -> Error {
    let message = match error.kind {
        JsonErrorKind::NotObject => format!("The body must be a JSON object ({error})."),
        JsonErrorKind::Depth => format!("The body is {error}."),
        JsonErrorKind::Syntax | JsonErrorKind::Utf8 => format!("The body is {error}."),
    };
    Error::new(Kind::InvalidRequest, message)
}

/// Returns the decoded keys, each of which may be there once.
fn keys<'b>(body: &'b [u8], members: &[Member]) -> Result<Vec<Cow<'b, str>>> {
    let mut keys = Vec::with_capacity(members.len());
    for member in members {
        let Some(key) = json::unescape(body, member.key.clone()) else {
            let at = member.key.start;
            return Err(not_json(JsonError {
                kind: JsonErrorKind::Syntax,
                at,
            }));
        };
        keys.push(key);
    }
    let twice = if keys.len() <= 24 {
        keys.iter()
            .enumerate()
            .find(|(at, key)| keys[..*at].contains(key))
            .map(|(_, key)| key)
    } else {
        let mut seen = HashSet::with_capacity(keys.len());
        keys.iter().find(|key| !seen.insert(&***key))
    };
    match twice {
        Some(key) => {
            let key: String = key.chars().take(64).collect();
            let message = format!("`{key}` is given twice.");
            Err(Error::field(key, message))
        }
        None => Ok(keys),
    }
}

fn model(body: &[u8], value: Range<usize>) -> Result<Cow<'_, str>> {
    let Some(model) = json::string(body, value) else {
        return Err(Error::field("model", "`model` must be a string."));
    };
    if model.is_empty() {
        return Err(Error::field("model", "`model` is empty."));
    }
    if model.len() > MODEL_MOST {
        return Err(Error::field("model", "`model` is longer than 512 bytes."));
    }
    Ok(model)
}

/// Returns the field that holds the conversation.
fn conversation(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::OpenaiChat
        | Protocol::Anthropic
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => "messages",
        Protocol::OpenaiResponses => "input",
        Protocol::OpenaiCompletions => "prompt",
        Protocol::Gemini => "contents",
    }
}

fn is_openai(protocol: Protocol) -> bool {
    matches!(
        protocol,
        Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::OpenaiCompletions
    )
}

fn check_conversation(
    body: &[u8],
    value: Range<usize>,
    protocol: Protocol,
    name: &'static str,
) -> Result<()> {
    let takes_text = matches!(
        protocol,
        Protocol::OpenaiResponses | Protocol::OpenaiCompletions
    );
    let value = &body[value];
    if takes_text && value.first() == Some(&b'"') {
        return Ok(());
    }
    let Some(inside) = value.strip_prefix(b"[") else {
        let kind = if takes_text {
            "a string or an array"
        } else {
            "an array"
        };
        return Err(Error::field(name, format!("`{name}` must be {kind}.")));
    };
    if inside.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b']') {
        return Err(Error::field(name, format!("`{name}` is empty.")));
    }
    Ok(())
}

/// Returns whether a value of `fallbacks` is one of Anthropic's: the word "default", or a list of objects.
fn is_anthropics(body: &[u8], value: &Range<usize>) -> bool {
    let value = &body[value.clone()];
    match value.strip_prefix(b"[") {
        Some(inside) => inside.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{'),
        None => value.first() == Some(&b'"'),
    }
}

fn fallbacks(body: &[u8], value: Range<usize>) -> Result<Vec<Cow<'_, str>>> {
    let wrong = || {
        Error::field(
            "fallbacks",
            "`fallbacks` must be an array of at most 16 model names.",
        )
    };
    if json::is_null(body, value.clone()) {
        return Ok(Vec::new());
    }
    let mut ranges = Vec::new();
    let mut scanner = Scanner::new(&body[value.clone()], usize::MAX);
    let read = scanner.array(|scanner| {
        let item = scanner.skip()?;
        if ranges.len() <= FALLBACKS_MOST {
            ranges.push(value.start + item.start..value.start + item.end);
        }
        Ok(())
    });
    if read.is_err() || ranges.len() > FALLBACKS_MOST {
        return Err(wrong());
    }
    let name = |range| {
        json::string(body, range).filter(|name| !name.is_empty() && name.len() <= MODEL_MOST)
    };
    ranges
        .into_iter()
        .map(|range| name(range).ok_or_else(wrong))
        .collect()
}

/// Returns the place of the value of `name` in the object at `value`, the last one where there are several.
fn field(body: &[u8], value: Range<usize>, name: &str) -> Option<Range<usize>> {
    let start = value.start;
    let object = body.get(value)?;
    let mut found = None;
    let mut scanner = Scanner::new(object, usize::MAX);
    scanner
        .object(|scanner, key| {
            let value = scanner.skip()?;
            if json::unescape(object, key).is_some_and(|key| key == name) {
                found = Some(start + value.start..start + value.end);
            }
            Ok(())
        })
        .ok()?;
    found
}
