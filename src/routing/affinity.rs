//! Who answered a conversation before: prompt caches and opaque blobs (signatures, encrypted reasoning) are worth
//! most, or understood only, where they were made.
//!
//! A pin keeps the target, the credential and the address. It reorders, and never overrides health or policy: who is
//! cooling down is passed over as ever, and who answers instead has the conversation from then on.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use super::{Candidate, Route};
use crate::codec::json;
use crate::protocol::Protocol;
use crate::protocol::envelope::Envelope;

/// Conversations remembered; the least used go first.
const MOST: usize = 100_000;
/// Providers keep prompt caches for minutes to an hour.
const TTL: Duration = Duration::from_secs(3600);

/// Where a conversation was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    target: u64,
    credential: Option<u64>,
    /// Caches of servers of one's own are each server's own.
    pub address: SocketAddr,
    since: Instant,
}

/// The table of pins.
pub struct Affinity {
    table: Cache<u64, Pin>,
}

impl Default for Affinity {
    fn default() -> Self {
        Self {
            table: Cache::new(MOST),
        }
    }
}

impl Affinity {
    pub fn get(&self, conversation: u64) -> Option<Pin> {
        let pin = self.table.get(&conversation)?;
        (pin.since.elapsed() < TTL).then_some(pin)
    }

    /// Remembers who answered.
    pub fn put(
        &self,
        conversation: u64,
        candidate: &Candidate,
        credential: Option<usize>,
        address: SocketAddr,
    ) {
        let pin = Pin {
            address,
            target: target(candidate),
            credential: credential.map(|index| hash(&candidate.provider.credentials[index].name)),
            since: Instant::now(),
        };
        self.table.insert(conversation, pin);
    }
}

impl Pin {
    pub fn is_target(&self, candidate: &Candidate) -> bool {
        self.target == target(candidate)
    }

    pub fn is_credential(&self, candidate: &Candidate, index: usize) -> bool {
        self.is_target(candidate)
            && self.credential == Some(hash(&candidate.provider.credentials[index].name))
    }
}

fn target(candidate: &Candidate) -> u64 {
    candidate.id
}

/// Returns a hash of a target's name.
pub(super) fn target_of(provider: &str, model: &str) -> u64 {
    hash(&(provider, model))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Returns what names a conversation: of a tenant and a route, by the client's session or by how it begins.
pub fn conversation(tenant: &str, route: &Route, named: &[u8]) -> u64 {
    hash(&(tenant, &route.name, named))
}

impl Route {
    /// Returns whether there is anything to choose between.
    pub fn has_choice(&self) -> bool {
        self.targets.len() > 1
            || self.targets.first().is_some_and(|target| {
                target.provider.credentials.len() > 1 || target.provider.endpoints.len() > 1
            })
    }
}

/// Returns the session that a body names: `prompt_cache_key` of OpenAI's APIs, the conversation of Responses, and what Claude Code
/// puts into `metadata.user_id`.
pub fn session<'b>(
    envelope: &'b Envelope<'_>,
    body: &'b [u8],
    protocol: Protocol,
) -> Option<Cow<'b, str>> {
    let field = |name: &str| {
        let mut members = envelope.members.iter();
        let found = members.find(|member| json::key(body, member) == name)?;
        Some(found.value.clone())
    };
    let named = match protocol {
        Protocol::OpenaiChat | Protocol::OpenaiCompletions => {
            json::string(body, field("prompt_cache_key")?)
        }
        Protocol::OpenaiResponses => field("conversation")
            .and_then(|place| json::string(body, place.clone()).or_else(|| id(body, place)))
            .or_else(|| json::string(body, field("prompt_cache_key")?)),
        Protocol::Anthropic => {
            let user = envelope.user.as_deref()?;
            claude_code(user).map(Cow::Borrowed)
        }
        Protocol::Gemini | Protocol::Bedrock | Protocol::Cohere | Protocol::Ollama => None,
    };
    named.filter(|named| !named.is_empty())
}

/// Returns the `id` of an object.
fn id(body: &[u8], place: std::ops::Range<usize>) -> Option<Cow<'_, str>> {
    let object = body.get(place)?;
    let mut members = Vec::new();
    json::members(object, usize::MAX, &mut members).ok()?;
    let mut members = members.into_iter();
    let found = members.find(|member| json::key(object, member) == "id")?;
    json::string(object, found.value)
}

/// Returns the session within Claude Code's user: `user_…_account_…_session_UUID`, or a JSON object with `session_id`.
fn claude_code(user: &str) -> Option<&str> {
    if let Some((_, session)) = user.rsplit_once("_session_") {
        return Some(session);
    }
    let (_, rest) = user.split_once("\"session_id\"")?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    rest.strip_prefix('"')?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(protocol: Protocol, body: &str) -> Option<String> {
        let envelope = Envelope::read(body.as_bytes(), protocol, 64).unwrap();
        session(&envelope, body.as_bytes(), protocol).map(Cow::into_owned)
    }

    #[test]
    fn bodies_name_their_session_in_several_ways() {
        let chat = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"prompt_cache_key":"a\u0062"}"#;
        assert_eq!(said(Protocol::OpenaiChat, chat).as_deref(), Some("ab"));
        let responses = r#"{"model":"m","input":"x","conversation":{"id":"conv_1"}}"#;
        assert_eq!(
            said(Protocol::OpenaiResponses, responses).as_deref(),
            Some("conv_1")
        );
        let responses =
            r#"{"model":"m","input":"x","conversation":"conv_2","prompt_cache_key":"k"}"#;
        assert_eq!(
            said(Protocol::OpenaiResponses, responses).as_deref(),
            Some("conv_2")
        );
        let claude = |user: &str| {
            let user = serde_json::Value::from(user);
            let body = format!(
                r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":"x"}}],"metadata":{{"user_id":{user}}}}}"#
            );
            said(Protocol::Anthropic, &body)
        };
        assert_eq!(
            claude("user_ab_account_c_session_d-e").as_deref(),
            Some("d-e")
        );
        assert_eq!(
            claude(r#"{"device_id":"x","session_id":"s"}"#).as_deref(),
            Some("s")
        );
        assert_eq!(claude("somebody"), None, "a user is no session");
        assert_eq!(
            said(
                Protocol::OpenaiChat,
                r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#
            ),
            None
        );
    }
}
