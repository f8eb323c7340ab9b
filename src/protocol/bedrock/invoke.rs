//! Models of Anthropic in their own words: `POST /model/{model}/invoke` and `/invoke-with-response-stream`.
//!
//! The body is that of Anthropic's messages without `model` and `stream`, which stand in the path, and with the version
//! and the betas that are headers elsewhere. A stream's events are the same, each wrapped in a `chunk` of the event
//! stream. So both ways are a pass: bodies are edited where they lie, streams are reframed.
//!
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html>

use bytes::Bytes;

use super::stream::{class_of, exception_of, told};
use crate::codec::json::{self, Member};
use crate::codec::splice::Edits;
use crate::codec::{base64, event_stream, sse};
use crate::protocol::event::FailureClass;
use crate::protocol::text::{self, Object, Reader};

/// The one version that InvokeModel knows.
pub const VERSION: &str = "bedrock-2023-05-31";

/// The betas that Bedrock knows, without their dates; it refuses a request that names another.
const BETAS: [&str; 14] = [
    "compact-",
    "computer-use-",
    "context-1m-",
    "context-management-",
    "dev-full-thinking-",
    "effort-",
    "fine-grained-tool-streaming-",
    "interleaved-thinking-",
    "output-128k-",
    "structured-outputs-",
    "task-budgets-",
    "token-efficient-tools-",
    "tool-examples-",
    "tool-search-tool-",
];

/// Betas that Bedrock knows by another name.
const RENAMED: [(&str, &str); 1] = [(
    "advanced-tool-use-2025-11-20",
    "tool-search-tool-2025-10-19",
)];

/// Members of Anthropic's body that Bedrock says otherwise or not at all, and that the answer can do without.
const UNKNOWN: [&str; 1] = ["service_tier"];

/// How deep a message of a stream may nest.
const DEPTH_MAX: usize = 128;

/// Makes the body of Anthropic's messages, whose top-level `members` these are, one for InvokeModel. `beta` is the
/// value of the client's `anthropic-beta` header.
///
/// Returns the betas and members that Bedrock doesn't know and that were left out.
pub fn edit(
    body: &[u8],
    members: &[Member],
    beta: Option<&str>,
    edits: &mut Edits<'_>,
) -> Vec<String> {
    let mut dropped = Vec::new();
    let mut asked: Vec<String> = Vec::new();
    let (mut version, mut betas) = (None, None);
    for (index, member) in members.iter().enumerate() {
        match &*json::key(body, member) {
            "model" | "stream" => edits.remove_member(body, members, index),
            "anthropic_version" => version = Some(member),
            "anthropic_beta" => {
                betas = Some(index);
                asked.extend(listed(&body[member.value.clone()]));
            }
            name if UNKNOWN.contains(&name) => {
                edits.remove_member(body, members, index);
                dropped.push(name.to_owned());
            }
            _ => {}
        }
    }
    let named = beta.unwrap_or_default().split(',').map(str::trim);
    asked.extend(named.filter(|beta| !beta.is_empty()).map(str::to_owned));
    let mut known: Vec<&str> = Vec::new();
    for beta in &asked {
        let renamed = RENAMED.iter().find(|(from, _)| from == beta);
        let beta = renamed.map_or(beta.as_str(), |(_, to)| to);
        if !BETAS.iter().any(|known| beta.starts_with(known)) {
            dropped.push(format!("anthropic-beta: {beta}"));
        } else if !known.contains(&beta) {
            known.push(beta);
        }
    }
    let list = list_of(&known);
    match (betas, known.is_empty()) {
        (Some(index), true) => edits.remove_member(body, members, index),
        (Some(index), false) => edits.replace(members[index].value.clone(), list),
        (None, true) => {}
        (None, false) => edits.insert_member(body, "anthropic_beta", &list),
    }
    let own = format!("\"{VERSION}\"");
    match version {
        None => edits.insert_member(body, "anthropic_version", own.as_bytes()),
        Some(member) => {
            let told = json::string(body, member.value.clone());
            if !told.is_some_and(|told| told.starts_with("bedrock-")) {
                edits.replace(member.value.clone(), own.into_bytes());
            }
        }
    }
    dropped
}

/// Makes a client's body for InvokeModel one of Anthropic's messages: the other way round.
///
/// Returns the value of the `anthropic-beta` header that the body's betas make, if it has any.
pub fn to_messages(
    body: &[u8],
    members: &[Member],
    model: &str,
    stream: bool,
    edits: &mut Edits<'_>,
) -> Option<String> {
    for (index, member) in members.iter().enumerate() {
        if matches!(
            &*json::key(body, member),
            "model" | "stream" | "anthropic_version" | "anthropic_beta"
        ) {
            edits.remove_member(body, members, index);
        }
    }
    let mut quoted = Vec::with_capacity(model.len() + 2);
    json::write_string(model, &mut quoted);
    edits.insert_member(body, "model", &quoted);
    if stream {
        edits.insert_member(body, "stream", b"true");
    }
    betas(body, members)
}

/// Returns the value of the `anthropic-beta` header that says what a body for InvokeModel does, if it names betas.
pub fn betas(body: &[u8], members: &[Member]) -> Option<String> {
    let mut named = members.iter().rev();
    let named = named.find(|member| json::key(body, member) == "anthropic_beta")?;
    let mut betas = listed(&body[named.value.clone()]);
    // What is not a token can't stand in a header.
    betas.retain(|beta| {
        !beta.is_empty()
            && beta
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b',')
    });
    (!betas.is_empty()).then(|| betas.join(","))
}

/// Reads a list of words; anything else in it is passed over.
fn listed(value: &[u8]) -> Vec<String> {
    let mut words = Vec::new();
    let Ok(mut reader) = Reader::new(value) else {
        return words;
    };
    // What can't be read is the provider's to refuse.
    let _ = reader.array(|r| {
        if r.peek() == b'"' {
            words.push(r.string()?.into_owned());
            return Ok(());
        }
        r.raw().map(drop)
    });
    words
}

fn list_of(words: &[&str]) -> Vec<u8> {
    let mut out = vec![b'['];
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        text::string(word, &mut out);
    }
    out.push(b']');
    out
}

/// Makes Anthropic's server-sent events of a stream of `chunk`s.
#[derive(Debug)]
pub struct Reframer {
    splitter: event_stream::Splitter,
    failed: bool,
}

impl Reframer {
    /// `max_frame` bounds one message of the event stream.
    pub fn new(max_frame: usize) -> Self {
        Self {
            splitter: event_stream::Splitter::new(max_frame),
            failed: false,
        }
    }

    /// Takes a piece of the provider's stream and appends the events that it completes. After an error none follows.
    pub fn push(&mut self, chunk: &Bytes, out: &mut Vec<u8>) -> Result<(), event_stream::Broken> {
        let failed = &mut self.failed;
        self.splitter.push(chunk, |message| {
            if *failed {
                return;
            }
            if let Some(class) = class_of(message.name()) {
                *failed = true;
                let data = message.data();
                let said = told(&data).ok().and_then(|(said, _)| said);
                let said = said.as_deref().unwrap_or("The provider reports an error");
                return write_error(class, said, out);
            }
            if message.name() != "chunk" {
                return;
            }
            match unwrapped(message.payload) {
                Some(event) => write_event(&event, out),
                None => {
                    *failed = true;
                    write_error(
                        FailureClass::Garbage,
                        "The provider's stream can't be read",
                        out,
                    );
                }
            }
        })
    }

    /// Returns how many bytes of an unfinished message are held.
    pub fn pending(&self) -> usize {
        self.splitter.pending()
    }
}

/// Returns the event in a chunk, without what Bedrock adds to the last one.
fn unwrapped(payload: &[u8]) -> Option<Vec<u8>> {
    let mut coded = None;
    let mut reader = Reader::new(payload).ok()?;
    let read = reader.object(|r, key| {
        match &*key {
            "bytes" => coded = Some(r.string()?),
            _ => r.raw().map(drop)?,
        }
        Ok(())
    });
    read.ok()?;
    let event = base64::decode(coded?.as_bytes())?;
    let mut members = Vec::new();
    json::members(&event, DEPTH_MAX, &mut members).ok()?;
    let own = members
        .iter()
        .position(|member| json::key(&event, member) == "amazon-bedrock-invocationMetrics");
    let Some(index) = own else { return Some(event) };
    let mut edits = Edits::new();
    edits.remove_member(&event, &members, index);
    Some(edits.apply(&Bytes::from(event)).to_vec())
}

/// Appends a server-sent event, named by its type.
fn write_event(event: &[u8], out: &mut Vec<u8>) {
    let kind = std::str::from_utf8(event)
        .ok()
        .and_then(|text| Reader::of(text).tag("type"));
    // Whatever else there is must not end the line.
    if let Some(kind) = kind.filter(|kind| !kind.contains(['\r', '\n'])) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    // Between tokens, where a space says the same: in strings they are escaped.
    out.extend(event.iter().map(|byte| match byte {
        b'\r' | b'\n' => b' ',
        byte => *byte,
    }));
    out.extend_from_slice(b"\n\n");
}

fn write_error(class: FailureClass, message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: error\ndata: {\"type\":\"error\",\"error\":");
    let mut error = Object::open(out);
    error.string(
        "type",
        match class {
            FailureClass::Overloaded => "overloaded_error",
            FailureClass::RateLimited => "rate_limit_error",
            FailureClass::InvalidRequest => "invalid_request_error",
            FailureClass::Server | FailureClass::Garbage | FailureClass::Cut => "api_error",
        },
    );
    error.string("message", message);
    error.close();
    out.extend_from_slice(b"}\n\n");
}

/// Makes a stream of `chunk`s of Anthropic's server-sent events.
#[derive(Debug)]
pub struct Chunker {
    splitter: sse::Splitter,
    failed: bool,
}

impl Chunker {
    /// `max_frame` bounds one event.
    pub fn new(max_frame: usize) -> Self {
        Self {
            splitter: sse::Splitter::new(max_frame),
            failed: false,
        }
    }

    /// Takes a piece of the stream and appends the messages that it completes. After an exception none follows.
    pub fn push(&mut self, chunk: &Bytes, out: &mut Vec<u8>) -> Result<(), sse::TooLarge> {
        let failed = &mut self.failed;
        self.splitter
            .push(chunk, |frame| write_frame(&frame, failed, out))
    }

    /// The stream is at its end.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let failed = &mut self.failed;
        self.splitter
            .finish(|frame| write_frame(&frame, failed, out));
    }
}

fn write_frame(frame: &sse::Frame<'_>, failed: &mut bool, out: &mut Vec<u8>) {
    let data = frame.data.trim_ascii();
    if *failed || frame.is_comment || data.is_empty() || data == b"[DONE]" {
        return;
    }
    if let Some((class, message)) = error_in(data) {
        *failed = true;
        let mut payload = Vec::new();
        let mut object = Object::open(&mut payload);
        object.string("message", &message);
        object.close();
        return event_stream::write_exception(exception_of(class), &payload, out);
    }
    write_chunk(data, out);
}

/// Appends one event of Anthropic's as a `chunk`.
pub fn write_chunk(event: &[u8], out: &mut Vec<u8>) {
    let mut payload = b"{\"bytes\":\"".to_vec();
    base64::encode(event, &mut payload);
    payload.extend_from_slice(b"\"}");
    event_stream::write("chunk", &payload, out);
}

/// Returns what an event of the type `error` says.
fn error_in(data: &[u8]) -> Option<(FailureClass, String)> {
    let mut reader = Reader::new(data).ok()?;
    if reader.tag("type")? != "error" {
        return None;
    }
    let (mut kind, mut message) = (None, None);
    let read = reader.object(|r, key| match &*key {
        "error" if r.peek() == b'{' => r.object(|r, key| {
            match &*key {
                "type" if r.peek() == b'"' => kind = Some(r.string()?),
                "message" if r.peek() == b'"' => message = Some(r.string()?),
                _ => r.raw().map(drop)?,
            }
            Ok(())
        }),
        _ => r.raw().map(drop),
    });
    let class = match kind.as_deref() {
        Some("overloaded_error") => FailureClass::Overloaded,
        Some("rate_limit_error") => FailureClass::RateLimited,
        Some("invalid_request_error") => FailureClass::InvalidRequest,
        _ => FailureClass::Server,
    };
    let said = message.filter(|_| read.is_ok());
    let said = said.map_or("The provider reports an error".into(), |said| {
        said.into_owned()
    });
    Some((class, said))
}
