//! A provider's row: as written, laid over the catalogue's row of that name, made into a provider.

use std::path::{Path, PathBuf};

use super::Env;
use super::mistake::{At, Mistake, Wrong, nearest};
use super::platform::{Kind, Written};
use super::secrets::{Reference, read_bounded};
use super::units;
use crate::protocol::Protocol;
use crate::protocol::api::Api;
use crate::protocol::continuation::Prefill;
use crate::provider::quirks::Quirks;
use crate::provider::{
    Auth, Credential, Data, Endpoint, Health, Only, Platform, Provider, Speaks, TimeoutOverrides,
    Timeouts, cost::Rates,
};

/// A `[providers.NAME]` table, checked for itself; `None` is not written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub name: At<String>,
    pub enabled: Option<bool>,
    /// Variables of which the first that is set holds the key (catalogue only).
    pub env: Vec<String>,
    pub aliases: Vec<String>,
    /// Variables of which the first that is set holds the base URL (catalogue only).
    pub base_env: Vec<String>,
    /// A server on this machine: it needs no key, and is used only when it is written in the file.
    pub local: bool,
    pub protocols: Option<Vec<Protocol>>,
    pub endpoints: Option<Vec<Endpoint>>,
    pub credentials: Option<Vec<Keyed>>,
    pub auth: Option<At<Auth>>,
    pub headers: Vec<(String, At<Reference>)>,
    pub paths: Option<Vec<(At<Protocol>, String)>>,
    pub models_only: Option<Vec<(At<Protocol>, Only)>>,
    pub known_as: Option<Vec<(String, String)>>,
    pub apis: Option<Vec<Api>>,
    /// The row of the catalogue that this one is like.
    pub like: Option<At<String>>,
    pub platform: Written,
    pub health: Option<Health>,
    pub timeouts: TimeoutOverrides,
    pub quirks: WrittenQuirks,
    pub price: Option<Rates>,
    pub data: Data,
    pub ca: Option<At<PathBuf>>,
    pub max_inflight: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Keyed {
    pub name: String,
    pub key: At<Reference>,
    pub weight: u32,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct WrittenQuirks {
    pub drop: Option<Vec<String>>,
    pub rename: Option<Vec<(String, String)>>,
    pub set: Option<Vec<(String, String)>>,
    pub clamp: Option<Vec<(String, f64)>>,
    pub developer_role: Option<bool>,
    pub max_completion_tokens: Option<bool>,
    pub stream_options: Option<bool>,
    pub prefill: Option<Prefill>,
}

impl Row {
    /// Returns whether anything but `enabled` is written.
    pub fn says_more_than_enabled(&self) -> bool {
        let nothing = Row {
            protocols: None,
            endpoints: None,
            credentials: None,
            auth: None,
            headers: Vec::new(),
            paths: None,
            models_only: None,
            known_as: None,
            apis: None,
            like: None,
            platform: Written::default(),
            health: None,
            timeouts: TimeoutOverrides::default(),
            quirks: WrittenQuirks::default(),
            price: None,
            data: Data::default(),
            ca: None,
            max_inflight: None,
            ..self.clone()
        };
        *self != nothing
    }

    /// Returns the row of the built-in provider, which needs nothing.
    pub fn demo() -> Provider {
        Provider {
            name: "demo".into(),
            catalogue: "demo".into(),
            known_as: Vec::new(),
            platform: Platform::Plain,
            protocols: Protocol::ALL.into_iter().map(Speaks::new).collect(),
            apis: None,
            endpoints: Vec::new(),
            credentials: Vec::new(),
            auth: Auth::None,
            headers: Vec::new(),
            quirks: Quirks::default(),
            timeouts: Timeouts::default(),
            health: None,
            price: None,
            data: Data::default(),
            ca: None,
            max_inflight: None,
            demo: true,
        }
    }

    /// Returns this row of the catalogue with everything replaced that `written` names.
    pub fn overlaid(self, written: Row) -> Row {
        let quirks = WrittenQuirks {
            drop: written.quirks.drop.or(self.quirks.drop),
            rename: written.quirks.rename.or(self.quirks.rename),
            set: written.quirks.set.or(self.quirks.set),
            clamp: written.quirks.clamp.or(self.quirks.clamp),
            developer_role: written.quirks.developer_role.or(self.quirks.developer_role),
            max_completion_tokens: written
                .quirks
                .max_completion_tokens
                .or(self.quirks.max_completion_tokens),
            stream_options: written.quirks.stream_options.or(self.quirks.stream_options),
            prefill: written.quirks.prefill.or(self.quirks.prefill),
        };
        let timeouts = TimeoutOverrides {
            connect: written.timeouts.connect.or(self.timeouts.connect),
            first_byte: written.timeouts.first_byte.or(self.timeouts.first_byte),
            idle: written.timeouts.idle.or(self.timeouts.idle),
            total: written.timeouts.total.or(self.timeouts.total),
        };
        // What is promised at one address says nothing of another: only a promise that is written anew holds there.
        let moved = written.endpoints.is_some();
        let usual = if moved { Data::default() } else { self.data };
        let data = Data {
            region: written.data.region.or(usual.region),
            no_training: written.data.no_training.or(usual.no_training),
            zero_retention: written.data.zero_retention.or(usual.zero_retention),
        };
        // A key for a server that usually wants none.
        let auth = match (&written.auth, &written.credentials, self.auth) {
            (
                None,
                Some(_),
                Some(At {
                    value: Auth::None, ..
                }),
            ) => None,
            (_, _, usual) => written.auth.or(usual),
        };
        let mut paths = written.paths.or(self.paths);
        let mut models_only = written.models_only.or(self.models_only);
        if let Some(protocols) = &written.protocols {
            // The catalogue's word on a protocol that isn't wanted is no mistake.
            let fits = |protocol: &At<Protocol>| {
                protocol.place.file == written.name.place.file
                    || protocols.contains(&protocol.value)
            };
            if let Some(paths) = &mut paths {
                paths.retain(|(protocol, _)| fits(protocol));
            }
            if let Some(models_only) = &mut models_only {
                models_only.retain(|(protocol, _)| fits(protocol));
            }
        }
        let mut headers = self.headers;
        headers.retain(|(name, _)| written.headers.iter().all(|(other, _)| other != name));
        headers.extend(written.headers);
        Row {
            // The catalogue's spelling, where the file used an alias.
            name: At {
                value: match written.like {
                    Some(_) => written.name.value,
                    None => self.name.value.clone(),
                },
                place: written.name.place,
            },
            like: Some(At {
                value: self.name.value,
                place: self.name.place,
            }),
            enabled: written.enabled,
            env: self.env,
            aliases: if written.like.is_some() {
                Vec::new()
            } else {
                self.aliases
            },
            base_env: if written.endpoints.is_some() {
                Vec::new()
            } else {
                self.base_env
            },
            local: self.local,
            protocols: written.protocols.or(self.protocols),
            endpoints: written.endpoints.or(self.endpoints),
            credentials: written.credentials,
            auth,
            headers,
            paths,
            models_only,
            known_as: written.known_as.or(self.known_as),
            apis: written.apis.or(self.apis),
            platform: self.platform.overlaid(written.platform),
            health: written.health.or(self.health),
            timeouts,
            quirks,
            price: written.price.or(self.price),
            data,
            ca: written.ca,
            max_inflight: written.max_inflight,
        }
    }

    /// Returns the first of the catalogue's variables that is set.
    fn usual_key(&self, env: Env<'_>) -> Option<&String> {
        self.env
            .iter()
            .find(|name| env(name).is_some_and(|value| !value.trim().is_empty()))
    }

    /// Returns the first of the catalogue's variables for a base URL that is set, and its value.
    fn usual_base(&self, env: Env<'_>) -> Option<(&str, String)> {
        self.base_env.iter().find_map(|name| {
            let value = env(name)?.trim().to_owned();
            (!value.is_empty()).then_some((name.as_str(), value))
        })
    }

    /// Returns why this row of the catalogue isn't in use when the file doesn't name it; `None` when it is.
    pub fn unused(&self, env: Env<'_>) -> Option<String> {
        if self.usual_key(env).is_some() || self.platform.is_usual(env) {
            return match self.platform.kind {
                Some(_) => self.platform.lacks(env),
                None => self
                    .endpoints
                    .is_none()
                    .then(|| "it needs a base_url of your own".to_string()),
            };
        }
        if self.local && self.usual_base(env).is_some() {
            return None;
        }
        if self.local || self.env.is_empty() {
            return Some(format!(
                "it is used when [providers.{}] is written",
                self.name.value
            ));
        }
        Some(match self.env.as_slice() {
            [one] => format!("{one} is not set"),
            several => format!("none of {} is set", several.join(", ")),
        })
    }

    /// Makes the provider; `None` after a mistake. `catalogue`: names to suggest for one that says nothing.
    pub fn finish(
        self,
        env: Env<'_>,
        catalogue: &[&str],
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Provider> {
        let before = mistakes.len();
        let place = self.name.place.clone();
        let usual_key = self.usual_key(env).cloned();
        let usual_base = self.usual_base(env).and_then(|(name, value)| {
            let read = units::read_url(&value).map_err(|wrong| {
                let message = format!("is taken from {name}: {}", wrong.message);
                mistakes.push(place.missing("base_url").wrong(message));
            });
            read.ok().map(|endpoint| vec![endpoint])
        });
        let protocols = self.protocols.unwrap_or_else(|| {
            let meant = nearest(&self.name.value, catalogue.iter().copied());
            let message = "must be given: the catalogue has no provider of this name";
            mistakes.push(
                place
                    .missing("protocols")
                    .wrong(Wrong::suggest(message, meant)),
            );
            Vec::new()
        });
        let key = self
            .credentials
            .as_ref()
            .map(|keys| keys.first().map_or(&place, |key| &key.key.place))
            .or(usual_key.as_ref().map(|_| &place));
        // What is written to sign in with goes before a key that only the environment has.
        let key = key.filter(|_| self.credentials.is_some() || !self.platform.signs_in());
        let kind = self.platform.kind;
        let signs_in = self.platform.signs_in();
        let settled = self
            .platform
            .settle(&place, self.endpoints.is_some(), key, env, mistakes);
        let is_settled = settled.is_some();
        let (platform, usual_endpoint, signed) = match settled {
            Some(settled) => (settled.platform, settled.endpoint, settled.auth),
            None => (Platform::Plain, None, None),
        };
        let endpoints = usual_base
            .or(self.endpoints)
            .or_else(|| usual_endpoint.map(|endpoint| vec![endpoint]));
        let endpoints = endpoints.unwrap_or_else(|| {
            // Without protocols the name was probably misspelt, and this would follow from it.
            if !protocols.is_empty() && is_settled {
                mistakes.push(
                    place
                        .missing("base_url")
                        .wrong("must be given (or endpoints)"),
                );
            }
            Vec::new()
        });
        let auth = match &self.auth {
            Some(auth) => auth.value.clone(),
            None => match (kind, protocols.first()) {
                (Some(Kind::Azure), _) => Auth::Header("api-key".into()),
                (Some(Kind::Bedrock), _) => Auth::Bearer,
                (None, Some(Protocol::Anthropic)) => Auth::Header("x-api-key".into()),
                (_, Some(Protocol::Gemini)) => Auth::Header("x-goog-api-key".into()),
                _ => Auth::Bearer,
            },
        };
        let mut credentials = Vec::new();
        match self.credentials {
            Some(keys) => {
                if let (Auth::None, Some(first)) = (&auth, keys.first()) {
                    mistakes.push(first.key.wrong("is given, but auth is \"none\""));
                }
                for keyed in keys {
                    match keyed.key.value.resolve(env) {
                        Ok(key) => credentials.push(Credential {
                            name: keyed.name,
                            key,
                            weight: keyed.weight,
                        }),
                        Err(wrong) => mistakes.push(keyed.key.wrong(wrong)),
                    }
                }
            }
            None if auth == Auth::None || signed.is_some() || signs_in || !is_settled => {}
            None => match usual_key {
                Some(name) => match Reference::Env(name).resolve(env) {
                    Ok(key) => credentials.push(Credential {
                        name: "key".into(),
                        key,
                        weight: 1,
                    }),
                    Err(wrong) => mistakes.push(place.missing("key").wrong(wrong)),
                },
                None if self.local || protocols.is_empty() => {}
                None => mistakes.push(place.missing("key").wrong(missing_key(&self.env))),
            },
        }
        let auth = match signed {
            Some(signed) => signed,
            None if credentials.is_empty() => Auth::None,
            None => auth,
        };
        let mut headers = Vec::new();
        for (name, value) in self.headers {
            match value.value.resolve(env) {
                Ok(text) => headers.push((name, text.expose().to_string())),
                Err(wrong) => mistakes.push(value.wrong(wrong)),
            }
        }
        // The protocol demands it of every request, also of those that came in another protocol; clouds have it in
        // the body.
        let version = "anthropic-version";
        if protocols.contains(&Protocol::Anthropic)
            && !matches!(kind, Some(Kind::Vertex | Kind::Bedrock))
            && headers.iter().all(|(name, _)| name != version)
        {
            headers.push((version.into(), "2023-06-01".into()));
        }
        if let Some(ca) = &self.ca
            && let Err(wrong) = pem(&ca.value)
        {
            mistakes.push(ca.wrong(wrong));
        }
        let mut paths = self.paths.unwrap_or_default();
        for (protocol, _) in &paths {
            if !protocols.contains(&protocol.value) && !protocols.is_empty() {
                mistakes.push(protocol.wrong("is not among the provider's protocols"));
            }
        }
        let mut models_only = self.models_only.unwrap_or_default();
        for (protocol, _) in &models_only {
            if !protocols.contains(&protocol.value) && !protocols.is_empty() {
                mistakes.push(protocol.wrong("is not among the provider's protocols"));
            }
        }
        let mut speaks = |protocol: Protocol| {
            let path = paths
                .iter_mut()
                .find(|(other, _)| other.value == protocol)
                .map(|(_, path)| std::mem::take(path));
            let only = models_only
                .iter_mut()
                .find(|(other, _)| other.value == protocol)
                .map(|(_, only)| std::mem::take(only));
            Speaks {
                protocol,
                path,
                only: only.unwrap_or_default(),
            }
        };
        let protocols: Vec<Speaks> = protocols.into_iter().map(&mut speaks).collect();
        let quirks = Quirks {
            drop: self.quirks.drop.unwrap_or_default(),
            rename: self.quirks.rename.unwrap_or_default(),
            set: self.quirks.set.unwrap_or_default(),
            clamp: self.quirks.clamp.unwrap_or_default(),
            developer_role: self.quirks.developer_role.unwrap_or(false),
            max_completion_tokens: self.quirks.max_completion_tokens.unwrap_or(false),
            stream_options: self.quirks.stream_options.unwrap_or(true),
            prefill: self.quirks.prefill,
        };
        // An empty list was written, or all of it was wrong and reported where it stands.
        if mistakes.len() > before || protocols.is_empty() || endpoints.is_empty() || !is_settled {
            return None;
        }
        Some(Provider {
            catalogue: match self.like {
                Some(like) => like.value,
                None => self.name.value.clone(),
            },
            name: self.name.value,
            known_as: self.known_as.unwrap_or_default(),
            platform,
            protocols,
            apis: self.apis,
            endpoints,
            credentials,
            auth,
            headers,
            quirks,
            timeouts: Timeouts::default().with(self.timeouts),
            health: self.health,
            price: self.price,
            data: self.data,
            ca: self.ca.map(|ca| ca.value),
            max_inflight: self.max_inflight,
            demo: false,
        })
    }
}

fn missing_key(env: &[String]) -> Wrong {
    match env {
        [] => Wrong::suggest(
            "must be given, unless the provider needs none",
            Some("auth = \"none\""),
        ),
        [one] => format!("must be given: {one} is not set either").into(),
        several => format!(
            "must be given: none of {} is set either",
            several.join(", ")
        )
        .into(),
    }
}

/// Checks that a file holds PEM.
pub(super) fn pem(path: &Path) -> Result<(), Wrong> {
    const LONGEST: u64 = 4 << 20;
    let text = read_bounded(path, LONGEST)?;
    if text.contains("-----BEGIN ") {
        Ok(())
    } else {
        Err(format!("the file {} is not PEM", path.display()).into())
    }
}
