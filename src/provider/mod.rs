//! Who serves it: providers as rows, with their endpoints, credentials, quirks and prices.

pub mod account;
pub mod catalogue;
pub mod cost;
mod mask;
pub mod platform;
pub mod quirks;
pub mod region;

use std::time::Duration;

use crate::glob::Glob;
use crate::protocol::Protocol;
use crate::protocol::api::Api;
use crate::secret::Secret;
use catalogue::{Cap, Mode, Model};
pub use platform::{Platform, path};
use quirks::Quirks;

/// One provider, ready to be asked: a catalogue row or a user's own, with credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    pub name: String,
    /// The name of its row in the catalogue, by which its models are known; its own where it has none.
    pub catalogue: String,
    /// Models that it calls otherwise than the catalogue (deployments, inference profiles), and the catalogue's name.
    pub known_as: Vec<(String, String)>,
    pub platform: Platform,
    /// What it speaks, in order of preference; a client's own protocol is taken when it is there.
    pub protocols: Vec<Speaks>,
    /// What it can be asked for; `None` where nothing is known.
    pub apis: Option<Vec<Api>>,
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
    /// What becomes of the data that it is sent.
    pub data: Data,
    /// PEM file of certificate authorities to trust instead of the system's.
    pub ca: Option<std::path::PathBuf>,
    /// Requests in flight at it, at most.
    pub max_inflight: Option<u32>,
    /// The built-in provider `demo`: answered by the gateway itself, no network.
    pub demo: bool,
}

/// What a provider does with what it is sent; `None` is not known, and then no promise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Data {
    /// Where it is processed: see [`region`].
    pub region: Option<String>,
    /// Nothing is learnt from it.
    pub no_training: Option<bool>,
    /// Nothing of it is kept once it is answered.
    pub zero_retention: Option<bool>,
}

/// A protocol and where it is found below an endpoint's base path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaks {
    pub protocol: Protocol,
    /// The path to post a chat to, from the root, where the base path doesn't decide it (`/anthropic/v1/messages`);
    /// the base instead of the endpoint's, for a protocol that has the model in its paths.
    pub path: Option<String>,
    /// The models that it is spoken for.
    pub only: Only,
}

impl Speaks {
    /// Returns what says nothing but the protocol.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            path: None,
            only: Only::default(),
        }
    }
}

/// Patterns over model ids. Without any, every model is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Only {
    pub these: Vec<Glob>,
    pub not: Vec<Glob>,
}

impl Only {
    /// Returns the patterns of `written`, in which a `!` before one takes its models out.
    pub fn new<'w>(written: impl IntoIterator<Item = &'w str>) -> Self {
        let mut only = Self::default();
        for pattern in written {
            match pattern.strip_prefix('!') {
                Some(pattern) => only.not.push(Glob::new(pattern)),
                None => only.these.push(Glob::new(pattern)),
            }
        }
        only
    }

    pub fn matches(&self, model: &str) -> bool {
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(model));
        (self.these.is_empty() || any(&self.these)) && !any(&self.not)
    }
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
    /// What its health check asks for, in place of the provider's.
    pub health_path: Option<String>,
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
    /// Each request signed with AWS's Signature Version 4.
    SigV4 {
        service: &'static str,
        region: String,
        source: account::aws::Source,
    },
    /// A bearer token of Google's.
    Google(account::google::Source),
    /// A bearer token of Microsoft's.
    Entra(account::entra::App),
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

impl TimeoutOverrides {
    /// Returns these with what `over` names replaced.
    pub fn with(self, over: TimeoutOverrides) -> Self {
        Self {
            connect: over.connect.or(self.connect),
            first_byte: over.first_byte.or(self.first_byte),
            idle: over.idle.or(self.idle),
            total: over.total.or(self.total),
        }
    }
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
    /// `GET` this; `None` checks that a TCP connection opens.
    pub path: Option<String>,
    /// Statuses of a healthy endpoint, first and last of each range.
    pub expect: Vec<(u16, u16)>,
    pub every: Duration,
    pub timeout: Duration,
    pub unhealthy_after: usize,
    pub healthy_after: usize,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: None,
            expect: vec![(200, 299), (300, 399)],
            every: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            unhealthy_after: 2,
            healthy_after: 1,
        }
    }
}

impl Health {
    /// Returns whether a healthy endpoint answers so.
    pub fn expects(&self, status: u16) -> bool {
        let mut ranges = self.expect.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl Provider {
    /// Returns what is spoken for `model`, as places in `protocols`, in order of preference: never nothing.
    ///
    /// A model that only completes text, or that only knows OpenAI responses, is asked so where it can be.
    pub fn spoken(&self, model: &str, entry: Option<&Model>) -> Vec<usize> {
        let all = || 0..self.protocols.len();
        let fit = all().filter(|at| self.protocols[*at].only.matches(model));
        let fit: Vec<usize> = fit.collect();
        let alone = match entry {
            Some(entry) if entry.mode == Mode::Completion => Some(Protocol::OpenaiCompletions),
            Some(entry) if entry.can(Cap::ResponsesOnly) => Some(Protocol::OpenaiResponses),
            Some(_) | None => None,
        };
        let alone = alone.and_then(|alone| {
            let is_it = |at: &&usize| self.protocols[**at].protocol == alone;
            fit.iter().find(is_it).copied()
        });
        match (alone, fit.is_empty()) {
            (Some(alone), _) => vec![alone],
            // The provider will say best what is wrong with the model.
            (None, true) => all().collect(),
            (None, false) => fit,
        }
    }

    /// Returns how the catalogue calls a model: as the provider does, unless that is told otherwise.
    pub fn known_as<'m>(&'m self, model: &'m str) -> &'m str {
        let told = self.known_as.iter().find(|(own, _)| own == model);
        told.map_or(model, |(_, known)| known)
    }

    /// Returns whether it may be asked for `api`.
    pub fn offers(&self, api: Api) -> bool {
        self.apis.as_ref().is_none_or(|apis| apis.contains(&api))
    }
}

impl Endpoint {
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
