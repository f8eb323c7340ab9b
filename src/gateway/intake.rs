//! What came in: which endpoint, in which protocol, with which controls, and the body within bounds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use pingora::proxy::Session;

use crate::error::{Error, Kind, Result};
use crate::ledger::metadata::{self, Metadata};
use crate::limit::overload::Priority;
use crate::protocol::Protocol;
use crate::routing::constraints::Constraints;
use crate::upstream::within;

/// JSON deeper than this is refused.
pub const MOST_DEPTH: usize = 128;
/// A body that announces no length grows in steps; one that does is given room at once, up to this.
const MOST_RESERVED: usize = 8 << 20;

/// Compressions that a body may be said to have.
const CODINGS: [&[u8]; 6] = [b"gzip", b"x-gzip", b"deflate", b"br", b"zstd", b"compress"];

/// What the client asked of the gateway itself, in headers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Controls {
    pub cache: CacheControl,
    pub cache_ttl: Option<Duration>,
    /// `x-strait-stale-if-error`; can shorten what key and model allow.
    pub stale_if_error: Option<Duration>,
    pub no_fallback: bool,
    /// The answer is to say why it came from where it did.
    pub explain: bool,
    pub timeout: Option<Duration>,
    pub tags: Vec<String>,
    pub metadata: Metadata,
    pub user: Option<String>,
    pub session: Option<String>,
    /// What it demands of whoever answers.
    pub constraints: Option<Constraints>,
    /// May only lower the key's.
    pub priority: Option<Priority>,
}

/// `x-strait-cache`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum CacheControl {
    #[default]
    Use,
    NoStore,
    Refresh,
    OnlyIfCached,
}

/// Headers that name the conversation, ours first, then those that clients send anyway.
const SESSION_HEADERS: [&str; 10] = [
    "x-strait-session-id",
    "x-session-id",
    "x-session-affinity",
    "x-model-affinity",
    "x-claude-code-session-id",
    "x-litellm-session-id",
    "session-id",
    "session_id",
    "thread-id",
    "conversation_id",
];
const MOST_TAGS: usize = 32;
const MOST_VALUE: usize = 256;

impl Controls {
    /// Reads the controls; a value that can't be read is a 400 that names the header.
    pub fn read(headers: &HeaderMap) -> Result<Self> {
        let mut controls = Self::default();
        let mut session = None;
        for (name, value) in headers {
            let text = name.as_str();
            if let Some((rank, named)) = session_in(text, value)
                && session.is_none_or(|(best, _)| rank < best)
            {
                session = Some((rank, named));
            }
            let Some(control) = text.strip_prefix("x-strait-") else {
                continue;
            };
            let value = value
                .to_str()
                .map_err(|_| bad(name, "is not visible ASCII"))?
                .trim();
            match control {
                "cache" => {
                    controls.cache = match value {
                        "no-store" => CacheControl::NoStore,
                        "refresh" => CacheControl::Refresh,
                        "only-if-cached" => CacheControl::OnlyIfCached,
                        _ => return Err(bad(name, "takes no-store, refresh or only-if-cached")),
                    }
                }
                "cache-ttl" => controls.cache_ttl = Some(duration(name, value)?),
                "stale-if-error" => {
                    controls.stale_if_error = Some(match value {
                        "0" | "false" => Duration::ZERO,
                        _ => duration(name, value)?,
                    });
                }
                "timeout" => controls.timeout = Some(duration(name, value)?),
                "no-fallback" => controls.no_fallback = truth(name, value)?,
                "explain" => controls.explain = truth(name, value)?,
                "tags" => {
                    let tags = value
                        .split(',')
                        .map(str::trim)
                        .filter(|tag| !tag.is_empty());
                    controls.tags = tags.map(str::to_owned).collect();
                    if controls.tags.len() > MOST_TAGS || value.len() > MOST_TAGS * MOST_VALUE {
                        return Err(bad(name, "has more than 32 tags, or one too long"));
                    }
                }
                "metadata" => {
                    let read = metadata::read(value);
                    controls.metadata = read.map_err(|wrong| bad(name, &wrong))?;
                }
                "priority" => {
                    let priority = Priority::of(value);
                    let known = priority.ok_or_else(|| bad(name, "takes high, normal or low"))?;
                    controls.priority = Some(known);
                }
                "user" => controls.user = Some(short(name, value)?),
                "constraints" => {
                    if controls.constraints.is_some() {
                        return Err(bad(name, "is sent twice"));
                    }
                    let read = Constraints::read_header(value);
                    controls.constraints = Some(read.map_err(|wrong| bad(name, &wrong))?);
                }
                _ => {}
            }
        }
        controls.session =
            session.map(|(_, value): (usize, &str)| value.chars().take(MOST_VALUE).collect());
        Ok(controls)
    }
}

/// Returns the session that a header names, and how much it counts beside others: less is more.
fn session_in<'v>(name: &str, value: &'v HeaderValue) -> Option<(usize, &'v str)> {
    let known = SESSION_HEADERS.iter().position(|known| *known == name);
    let rank = known.or_else(|| match name {
        "baggage" => Some(SESSION_HEADERS.len() + 1),
        // Of any harness: `x-NAME-session-id`.
        _ if name.starts_with("x-") && name.ends_with("-session-id") => Some(SESSION_HEADERS.len()),
        _ => None,
    })?;
    let mut value = value.to_str().ok()?.trim();
    if name == "baggage" {
        // W3C: `key=value;property, …`.
        let mut members = value.split(',');
        value = members.find_map(|member| {
            let (key, value) = member.split(';').next()?.split_once('=')?;
            (key.trim() == "session.id").then_some(value.trim())
        })?;
    }
    (!value.is_empty()).then_some((rank, value))
}

fn bad(name: &HeaderName, what: &str) -> Error {
    Error::field(
        name.as_str().to_owned(),
        format!("The header `{name}` {what}."),
    )
}

fn truth(name: &HeaderName, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad(name, "takes true or false")),
    }
}

fn short(name: &HeaderName, value: &str) -> Result<String> {
    if value.is_empty() || value.len() > MOST_VALUE {
        return Err(bad(name, "takes 1 to 256 characters"));
    }
    Ok(value.to_owned())
}

/// Reads `250ms`, `5s`, `2m`, `1h` or a plain number of seconds, from 1 ms to a day.
fn duration(name: &HeaderName, value: &str) -> Result<Duration> {
    let split = value
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(split);
    let scale = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let millis = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(scale));
    match millis.filter(|millis| (1..=86_400_000).contains(millis)) {
        Some(millis) => Ok(Duration::from_millis(millis)),
        None => Err(bad(
            name,
            "takes a time from 1ms to 24h, such as 250ms, 30s or 5m",
        )),
    }
}

/// Reads the whole request body, at most `most` bytes and within `time`.
pub async fn body(session: &mut Session, most: u64, time: Duration) -> Result<Bytes> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let headers = &session.req_header().headers;
    if let Some(coding) = headers.get(http::header::CONTENT_ENCODING)
        && CODINGS
            .iter()
            .any(|known| coding.as_bytes().eq_ignore_ascii_case(known))
    {
        let name = http::header::CONTENT_ENCODING;
        return Err(bad(
            &name,
            "names a compression: the body can't come compressed",
        ));
    }
    let announced = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > most) {
        return Err(too_large(most));
    }
    let expects = headers
        .get(http::header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if expects {
        // To Pingora this is an answer before the end of the body, after which it would close the connection.
        let kept = session.as_downstream().get_keepalive();
        if session
            .as_downstream_mut()
            .write_continue_response()
            .await
            .is_err()
        {
            return Err(Error::new(
                Kind::ClientGone,
                "The client left before it sent the body.",
            ));
        }
        session.set_keepalive(kept);
    }
    match within(time, collect(session, most, announced)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::new(
            Kind::BodyTimeout,
            "The request body did not arrive in time.",
        )),
    }
}

async fn collect(session: &mut Session, most: usize, announced: Option<usize>) -> Result<Bytes> {
    let gone = |_| Error::new(Kind::ClientGone, "The client left while it sent the body.");
    let downstream = session.as_downstream_mut();
    let Some(first) = downstream.read_request_body().await.map_err(gone)? else {
        return Ok(Bytes::new());
    };
    if first.len() > most {
        return Err(too_large(most));
    }
    // Most bodies come in one piece and are never copied.
    if announced == Some(first.len()) {
        return Ok(first);
    }
    let Some(second) = downstream.read_request_body().await.map_err(gone)? else {
        return Ok(first);
    };
    let room = announced.unwrap_or(first.len() * 4).min(MOST_RESERVED);
    let mut whole = BytesMut::with_capacity(room.max(first.len() + second.len()));
    whole.extend_from_slice(&first);
    let mut piece = Some(second);
    while let Some(bytes) = piece {
        if whole.len() + bytes.len() > most {
            return Err(too_large(most));
        }
        whole.extend_from_slice(&bytes);
        if announced == Some(whole.len()) {
            break;
        }
        piece = downstream.read_request_body().await.map_err(gone)?;
    }
    Ok(whole.freeze())
}

fn too_large(most: usize) -> Error {
    Error::new(
        Kind::BodyTooLarge,
        format!("The request body is larger than {most} bytes."),
    )
}

/// Returns the client's headers that go on to a provider which speaks `protocol`.
///
/// An allow-list: credentials, cookies, addresses and what is the gateway's own never pass. `anthropic-*` is an
/// open list, whole values (Claude Code's gateway contract). Each stands there once.
pub fn forwarded(headers: &HeaderMap, protocol: Protocol) -> Vec<(HeaderName, HeaderValue)> {
    let mut forwarded = Vec::new();
    for name in headers.keys() {
        let text = name.as_str();
        let own = match protocol {
            Protocol::Anthropic => text.starts_with("anthropic-"),
            Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::OpenaiCompletions => {
                matches!(text, "openai-beta" | "http-referer" | "x-title")
            }
            Protocol::Gemini => text == "x-goog-api-client",
            Protocol::Bedrock | Protocol::Cohere | Protocol::Ollama => false,
        };
        let common = matches!(
            text,
            "user-agent" | "idempotency-key" | "traceparent" | "tracestate"
        ) || text.starts_with("x-stainless-");
        if own || common {
            let mut values = headers.get_all(name).iter();
            let value = match (values.next(), values.next()) {
                (Some(only), None) => Some(only.clone()),
                _ => joined(headers.get_all(name).iter().map(HeaderValue::as_bytes)),
            };
            forwarded.extend(value.map(|value| (name.clone(), value)));
        }
    }
    forwarded
}

/// Returns the values of a header that was sent in several lines as the one that means the same.
fn joined<'v>(values: impl Iterator<Item = &'v [u8]>) -> Option<HeaderValue> {
    let values: Vec<&[u8]> = values.filter(|value| !value.is_empty()).collect();
    HeaderValue::from_bytes(&values.join(&b","[..])).ok()
}

/// Adds the betas that a body names to the header that names them: the platforms' shapes of Anthropic's body hold
/// them, its own doesn't.
pub fn add_betas(forwarded: &mut Vec<(HeaderName, HeaderValue)>, betas: &str) {
    let name = HeaderName::from_static("anthropic-beta");
    let sent = forwarded.iter_mut().find(|(known, _)| *known == name);
    match sent {
        Some((_, value)) => {
            if let Some(both) = joined([value.as_bytes(), betas.as_bytes()].into_iter()) {
                *value = both;
            }
        }
        None => {
            if let Ok(value) = HeaderValue::from_str(betas) {
                forwarded.push((name, value));
            }
        }
    }
}

/// Returns the client's query as it may go on to a provider which speaks `protocol`: without keys, and without what
/// says the protocol's own version or framing, which the provider's own path says.
pub fn query(query: Option<&str>, protocol: Protocol) -> Option<String> {
    let open = matches!(
        protocol,
        Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
    );
    let kept: Vec<&str> = query
        .filter(|_| open)?
        .split('&')
        .filter(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            !name.contains("key")
                && !name.contains('%')
                && name != "api-version"
                && !name.is_empty()
        })
        .collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// Returns the client's own request id when it is fit to be repeated, else a new one.
pub fn request_id(headers: &HeaderMap, now: Timestamp) -> String {
    let sent = headers
        .get("x-request-id")
        .and_then(|value| value.to_str().ok());
    let fit = |id: &&str| (8..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    match sent.filter(fit) {
        Some(id) => id.to_owned(),
        None => new_id("req_", now),
    }
}

/// Digits of an id's time, in their order as bytes.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// Returns `prefix`, the time in milliseconds (nine digits of base 32) and 15 random letters and digits. What is kept by such
/// an id grows at one end of its index: random ids would touch a page of the database each.
pub fn new_id(prefix: &str, now: Timestamp) -> String {
    let time = now.as_millisecond();
    let mut id = String::with_capacity(prefix.len() + 24);
    id.push_str(prefix);
    for at in (0..9).rev() {
        id.push(char::from(DIGITS[(time >> (5 * at)) as usize & 31]));
    }
    for _ in 0..15 {
        id.push(fastrand::alphanumeric());
    }
    id
}

/// Returns whether Mistral's own SDK asks. It speaks OpenAI's chat, and demands more of the answers.
pub fn is_mistrals(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::USER_AGENT)
        .is_some_and(|agent| agent.as_bytes().starts_with(b"mistral-client-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controls(name: &'static str, value: &str) -> Result<Controls> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
        Controls::read(&headers)
    }

    #[test]
    fn a_bad_control_is_refused_with_its_name() {
        for (name, value) in [
            ("x-strait-cache", "sometimes"),
            ("x-strait-cache-ttl", "soon"),
            ("x-strait-timeout", "0"),
            ("x-strait-timeout", "25h"),
            ("x-strait-no-fallback", "1"),
            ("x-strait-explain", "please"),
            ("x-strait-user", ""),
            ("x-strait-metadata", "team=red"),
        ] {
            let error = controls(name, value).expect_err(name);
            assert_eq!(
                (error.kind, error.param.as_deref()),
                (Kind::InvalidRequest, Some(name)),
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn controls_are_read() {
        assert_eq!(
            controls("x-strait-timeout", "250ms").expect("fine").timeout,
            Some(Duration::from_millis(250))
        );
        assert_eq!(
            controls("x-strait-cache", "refresh").expect("fine").cache,
            CacheControl::Refresh
        );
        assert_eq!(
            controls("x-strait-tags", "a, b,,").expect("fine").tags,
            ["a", "b"]
        );
        assert_eq!(
            controls("session-id", "s1")
                .expect("fine")
                .session
                .as_deref(),
            Some("s1")
        );
    }

    #[test]
    fn credentials_never_pass_to_a_provider() {
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "cookie",
            "x-strait-user",
            "proxy-authorization",
            "x-forwarded-for",
        ] {
            headers.insert(name, HeaderValue::from_static("secret"));
        }
        headers.insert("anthropic-beta", HeaderValue::from_static("a,b"));
        let names: Vec<String> = forwarded(&headers, Protocol::Anthropic)
            .into_iter()
            .map(|(n, _)| n.to_string())
            .collect();
        assert_eq!(names, ["anthropic-beta"]);
        assert!(forwarded(&headers, Protocol::OpenaiChat).is_empty());
    }

    #[test]
    fn betas_are_one_list_wherever_they_stand() {
        let mut headers = HeaderMap::new();
        for value in ["a,b", "", "c"] {
            headers.append("anthropic-beta", HeaderValue::from_static(value));
        }
        let mut found = forwarded(&headers, Protocol::Anthropic);
        assert_eq!(found[0].1, "a,b,c");
        add_betas(&mut found, "d");
        assert_eq!((found.len(), found[0].1.as_bytes()), (1, &b"a,b,c,d"[..]));
        let mut found = Vec::new();
        add_betas(&mut found, "d");
        assert_eq!(found[0].1, "d");
    }
}
