//! Who serves it: providers as rows, with their endpoints, credentials, quirks and prices.

pub mod catalogue;
pub mod cost;
pub mod quirks;

use std::time::Duration;

use crate::protocol::Protocol;
use crate::secret::Secret;
use quirks::Quirks;

/// One provider, ready to be asked: a catalogue row or a user's own, with credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    pub name: String,
    /// What it speaks, in order of preference; a client's own protocol is taken when it is there.
    pub protocols: Vec<Speaks>,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Empty when the provider wants none (a local server).
    pub credentials: Vec<Credential>,
    pub auth: Auth,
    /// Sent with every request (`anthropic-version`, …); lower-case names.
    pub headers: Vec<(String, String)>,
    pub quirks: Quirks,
    pub timeouts: Timeouts,
    pub health: Option<Health>,
    /// For models that the catalogue doesn't price.
    pub price: Option<cost::Rates>,
    /// PEM file of certificate authorities to trust instead of the system's.
    pub ca: Option<std::path::PathBuf>,
    /// The built-in provider `demo`: answered by the gateway itself, no network.
    pub demo: bool,
}

/// A protocol and where it is found below an endpoint's base path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaks {
    pub protocol: Protocol,
    /// The path to post to, from the root, where the base path doesn't decide it (`/anthropic/v1/messages`).
    pub path: Option<String>,
}

/// One address of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    pub port: u16,
    /// Without a trailing slash: `/v1` or empty.
    pub base_path: String,
    pub weight: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// For records and metrics; never the secret.
    pub name: String,
    pub key: Secret,
    pub weight: u32,
}

/// Where the credential goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `authorization: Bearer <key>`
    Bearer,
    /// A header of its own (`x-api-key`, `api-key`), lower-case.
    Header(String),
    None,
}

/// Timers of one attempt, and of all attempts together (`total`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the request sent to the first byte of the answer.
    pub first_byte: Duration,
    /// Between two pieces of the answer.
    pub idle: Duration,
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(120),
            idle: Duration::from_secs(120),
            total: Duration::from_secs(600),
        }
    }
}

/// Timers as written: what is absent is inherited (request, then model, then provider, then default).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeoutOverrides {
    pub connect: Option<Duration>,
    pub first_byte: Option<Duration>,
    pub idle: Option<Duration>,
    pub total: Option<Duration>,
}

impl Timeouts {
    /// Returns these timers with what `over` names replaced.
    pub fn with(self, over: TimeoutOverrides) -> Self {
        Self {
            connect: over.connect.unwrap_or(self.connect),
            first_byte: over.first_byte.unwrap_or(self.first_byte),
            idle: over.idle.unwrap_or(self.idle),
            total: over.total.unwrap_or(self.total),
        }
    }
}

/// Active health checks of every endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `GET` this and expect a status below 400; `None` checks that a TCP connection opens.
    pub path: Option<String>,
    pub every: Duration,
    pub timeout: Duration,
    pub unhealthy_after: usize,
    pub healthy_after: usize,
}

impl Provider {
    /// Returns the protocol to ask in for a client that spoke `client`: its own where spoken, else the first.
    pub fn speak(&self, client: Protocol) -> &Speaks {
        self.protocols
            .iter()
            .find(|speaks| speaks.protocol == client)
            .unwrap_or_else(|| {
                self.protocols
                    .first()
                    .expect("a provider is checked to speak something")
            })
    }
}

impl Endpoint {
    /// Returns the path to post a request of `speaks` to.
    pub fn path(&self, speaks: &Speaks) -> String {
        if let Some(path) = &speaks.path {
            return path.clone();
        }
        match speaks.protocol {
            Protocol::OpenaiChat => format!("{}/chat/completions", self.base_path),
            Protocol::OpenaiResponses => format!("{}/responses", self.base_path),
            Protocol::OpenaiCompletions => format!("{}/completions", self.base_path),
            Protocol::Cohere => format!("{}/chat", self.base_path),
            Protocol::Ollama => format!("{}/api/chat", self.base_path),
            // The model, which follows, stands in the path.
            Protocol::Gemini => format!("{}/models/", self.base_path),
            Protocol::Bedrock => format!("{}/model/", self.base_path),
            // Anthropic's SDKs append `/v1/messages` to a base without `/v1`; OpenAI's base ends in it.
            Protocol::Anthropic => {
                let base = self
                    .base_path
                    .strip_suffix("/v1")
                    .unwrap_or(&self.base_path);
                format!("{base}/v1/messages")
            }
        }
    }

    /// Returns `host:port`, with brackets around an IPv6 address, for `Host` and for look-ups.
    pub fn authority(&self) -> String {
        let default_port = if self.tls { 443 } else { 80 };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default_port {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}
