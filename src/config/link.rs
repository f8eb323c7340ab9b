//! Across tables: names become indices, secrets are fetched, and what must fit together is compared.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::file::{File, Key};
use super::mistake::{At, Mistake, Wrong, nearest, quoted};
use super::row::Row;
use super::secrets::Reference;
use super::{Env, Snapshot};
use crate::access::KeySettings;
use crate::limit::{Holder, Limited, Limits};
use crate::provider::Provider;
use crate::routing;
use crate::secret::Secret;
use crate::server;
use crate::state::{self, Location};

/// The provider that answers without a network.
const DEMO: &str = "demo";

/// Keys shorter than this can be guessed.
const SHORTEST_KEY: usize = 8;

/// After so many mistakes no more suggestions are looked for: each costs a walk over all names.
pub(super) const MOST_SUGGESTIONS: usize = 100;

/// Makes the snapshot; what is wrong is added to `mistakes`, and then the snapshot must not be used.
pub(super) fn snapshot(
    file: File,
    catalogue: Vec<Row>,
    env: Env<'_>,
    mistakes: &mut Vec<Mistake>,
    warnings: &mut Vec<Mistake>,
) -> Snapshot {
    check_listeners(&file, mistakes);
    let providers = Providers::gather(file.providers, catalogue, env, mistakes);
    let names: HashSet<String> = file
        .models
        .iter()
        .map(|model| model.name.value.clone())
        .collect();
    let key_names: Vec<String> = file.keys.iter().map(|key| key.name.value.clone()).collect();
    let rules = super::rules::link(
        file.rules, &names, &key_names, &providers, mistakes, warnings,
    );
    let models = super::model::link(file.models, &providers, mistakes);
    let keys = keys(file.keys, &models, &providers, env, mistakes, warnings);
    let tokens = super::jwt::link(file.tokens, &keys, mistakes);
    let oidc = file.oidc.map(|oidc| oidc.resolve(env, mistakes));
    let stale = models.values().filter_map(|model| model.stale_if_error);
    let stale = stale.chain(keys.iter().filter_map(|key| key.stale_if_error));
    let stale = stale.max().unwrap_or_default();
    let token = file
        .admin_token
        .and_then(|token| match token.value.resolve(env) {
            Ok(secret) => {
                if secret.expose().len() < SHORTEST_KEY {
                    warnings
                        .push(token.wrong(format!("is shorter than {SHORTEST_KEY} characters")));
                }
                Some(secret)
            }
            Err(wrong) => {
                mistakes.push(token.wrong(wrong));
                None
            }
        });
    let state_dir = file.state.dir.unwrap_or_else(|| default_state_dir(env));
    let database = match file.state.database {
        None => Location::Dir(state_dir.clone()),
        Some(written) => database(&written, env).unwrap_or_else(|wrong| {
            mistakes.push(written.wrong(wrong));
            Location::Dir(state_dir.clone())
        }),
    };
    let secrets = state::Secrets {
        pepper: own_secret(file.state.pepper, env, mistakes),
        master_key: own_secret(file.state.master_key, env, mistakes),
    };
    let shared = file.state.shared;
    let redis = file.state.redis;
    let has_redis = redis.is_some();
    let redis = redis.and_then(|redis| redis.resolve(env, mistakes));
    if let Some(place) = file.cache_redis.filter(|_| file.cache.redis) {
        if !has_redis {
            mistakes.push(place.wrong("needs a Redis: say where it is in state.redis"));
        } else if secrets.master_key.is_none() {
            let message = "nodes read each other's answers only with the same state.master_key: without it each reads its own alone";
            warnings.push(place.wrong(message));
        }
    }
    Snapshot {
        generation: 1,
        file: None,
        server: file.server,
        admin: server::AdminSettings {
            keys: file.admin_keys,
            listen: file
                .admin_listen
                .map_or(server::AdminSettings::default().listen, |at| {
                    at.value.address
                }),
            token,
            oidc: oidc.map(Arc::new),
        },
        database,
        secrets,
        redis,
        shared,
        state_dir,
        providers: providers.enabled,
        provider_index: providers.index,
        disabled: providers.disabled,
        models,
        rules,
        keys,
        budgets: super::budget::split(file.budgets, "").1,
        tokens,
        catalogue: file.catalogue,
        cache: crate::cache::Settings {
            stale,
            ..file.cache
        },
        responses: file.responses,
        ledger: file.ledger,
        alerts: file.alerts.resolve(env, mistakes),
        records: file.records,
        log_level: file.log_level,
    }
}

fn default_state_dir(env: Env<'_>) -> PathBuf {
    let systemd = env("STATE_DIRECTORY").filter(|directory| !directory.is_empty());
    // A unit with several state directories gets them with colons between.
    let first = systemd
        .as_deref()
        .and_then(|directories| directories.split(':').next());
    PathBuf::from(first.unwrap_or("./strait-data"))
}

/// Fetches where the database is. The value isn't shown: the URL may hold a password.
fn database(written: &At<Reference>, env: Env<'_>) -> Result<Location, Wrong> {
    let url = written.value.resolve_text(env)?;
    match url.expose() {
        "sqlite" => Err("a reference must lead to the URL of a PostgreSQL database".into()),
        text => {
            let meant = (!text.contains(':')).then_some("\"sqlite\"");
            let checked = state::database::check_url(text);
            checked.map_err(|wrong| Wrong::suggest(wrong, meant))?;
            Ok(Location::Server(url))
        }
    }
}

/// Shorter ones can be guessed, and what is hashed or sealed with one would be open.
const SHORTEST_SECRET: usize = 16;

/// Fetches a secret of the gateway's own.
fn own_secret(
    written: Option<At<Reference>>,
    env: Env<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Secret> {
    let written = written?;
    match written.value.resolve_text(env) {
        Ok(secret) if secret.expose().trim().len() >= SHORTEST_SECRET => {
            Some(Secret::new(secret.expose().trim()))
        }
        Ok(_) => {
            let message = format!("is shorter than {SHORTEST_SECRET} characters");
            mistakes.push(written.wrong(message));
            None
        }
        Err(wrong) => {
            mistakes.push(written.wrong(wrong));
            None
        }
    }
}

fn check_listeners(file: &File, mistakes: &mut Vec<Mistake>) {
    let default = server::AdminSettings::default().listen;
    let admin = file
        .admin_listen
        .as_ref()
        .map_or(&default, |admin| &admin.value.address);
    if let Some(one) = file
        .listen
        .value
        .iter()
        .find(|one| collide(&one.value.address, admin))
    {
        // Said where something is written: one of the two is the default.
        let mistake = match &file.admin_listen {
            Some(admin) => admin.wrong("must be another address than those of server.listen"),
            None => one.wrong(format!(
                "must be another address than that of admin.listen, {default}"
            )),
        };
        mistakes.push(mistake);
    }
    // With a wrong [[keys]] table it isn't known whether there are keys.
    let keys_wrong = || {
        mistakes
            .iter()
            .any(|mistake| mistake.key.starts_with("keys") || mistake.key.starts_with("jwt"))
    };
    let is_exposed = file.listen.value.iter().any(|one| !one.value.loopback);
    let is_guarded = !file.keys.is_empty() || !file.tokens.is_empty() || file.admin_keys;
    if is_exposed && !is_guarded && !file.server.open && !keys_wrong() {
        let message = "anyone who reaches this address could spend your credentials: add [[keys]], write admin.keys = true, listen on 127.0.0.1, or write server.open = true";
        mistakes.push(file.listen.wrong(message));
    }
}

/// Returns whether the second of two listeners would find its port taken.
fn collide(one: &str, other: &str) -> bool {
    match (one.parse::<SocketAddr>(), other.parse::<SocketAddr>()) {
        (Ok(one), Ok(other)) => {
            let same_ip =
                one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() != 0 && one.port() == other.port() && same_ip
        }
        _ => one == other,
    }
}

/// All providers, by whether a model may go to them.
pub(super) struct Providers {
    enabled: Vec<Arc<Provider>>,
    /// Names and aliases of those enabled.
    index: HashMap<String, usize>,
    disabled: Vec<(String, String)>,
    /// Names and aliases of those that aren't, and why.
    unusable: HashMap<String, Why>,
}

enum Why {
    Disabled(usize),
    /// Its table has a mistake, which is reported already.
    Broken,
}

impl Providers {
    fn gather(
        written: Vec<Row>,
        catalogue: Vec<Row>,
        env: Env<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        let names: Vec<String> = catalogue.iter().map(|row| row.name.value.clone()).collect();
        let suggested: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        for (index, row) in catalogue.iter().enumerate() {
            by_name.insert(row.name.value.clone(), index);
        }
        for (index, row) in catalogue.iter().enumerate() {
            for alias in &row.aliases {
                by_name.entry(alias.clone()).or_insert(index);
            }
        }
        let mut rest: Vec<Option<Row>> = catalogue.iter().cloned().map(Some).collect();
        let mut all = Self {
            enabled: Vec::new(),
            index: HashMap::new(),
            disabled: Vec::new(),
            unusable: HashMap::new(),
        };
        let mut demo = true;
        for row in written {
            if row.name.value == DEMO {
                demo = row.enabled != Some(false);
                if row.says_more_than_enabled() {
                    mistakes.push(
                        row.name
                            .wrong("demo is built in: only `enabled` may be written here"),
                    );
                }
                continue;
            }
            let row = match by_name.get(&row.name.value) {
                None => match like(&row, &by_name) {
                    Ok(None) => row,
                    Ok(Some(index)) => catalogue[index].clone().overlaid(row),
                    Err(mistake) => {
                        mistakes.push(mistake);
                        all.name(row.name.value, Vec::new(), || Why::Broken);
                        continue;
                    }
                },
                Some(_) if row.like.is_some() => {
                    let message = "is a provider of the catalogue: what is like it or another needs a name of its own";
                    mistakes.push(row.name.wrong(message));
                    continue;
                }
                Some(index) => match rest[*index].take() {
                    Some(builtin) => builtin.overlaid(row),
                    None => {
                        let message = format!(
                            "is an alias of {}, which has a table already",
                            names[*index]
                        );
                        mistakes.push(row.name.wrong(message));
                        continue;
                    }
                },
            };
            let (name, aliases) = (row.name.value.clone(), row.aliases.clone());
            if row.enabled == Some(false) {
                all.disable(name, aliases, "enabled = false in the file".into());
                continue;
            }
            match row.finish(env, &suggested, mistakes) {
                Some(provider) => all.enable(provider, aliases),
                None => all.name(name, aliases, || Why::Broken),
            }
        }
        for row in rest.into_iter().flatten() {
            let (name, aliases) = (row.name.value.clone(), row.aliases.clone());
            if let Some(reason) = row.unused(env) {
                all.disable(name, aliases, reason);
                continue;
            }
            // Nobody asked for it in the file: what is wrong with it is no reason not to start.
            let mut reasons = Vec::new();
            match row.finish(env, &suggested, &mut reasons) {
                Some(provider) => all.enable(provider, aliases),
                None => {
                    let reason = reasons.into_iter().next().map(|mistake| mistake.message);
                    all.disable(
                        name,
                        aliases,
                        reason.unwrap_or_else(|| "its row is incomplete".into()),
                    );
                }
            }
        }
        if demo {
            all.enable(Row::demo(), Vec::new());
        } else {
            all.disable(
                DEMO.into(),
                Vec::new(),
                "enabled = false in the file".into(),
            );
        }
        all
    }

    fn enable(&mut self, provider: Provider, aliases: Vec<String>) {
        let place = self.enabled.len();
        for alias in aliases {
            self.index.entry(alias).or_insert(place);
        }
        // A name goes before another's alias.
        self.index.insert(provider.name.clone(), place);
        self.enabled.push(Arc::new(provider));
    }

    fn disable(&mut self, name: String, aliases: Vec<String>, reason: String) {
        let place = self.disabled.len();
        self.disabled.push((name.clone(), reason));
        self.name(name, aliases, || Why::Disabled(place));
    }

    fn name(&mut self, name: String, aliases: Vec<String>, why: impl Fn() -> Why) {
        for alias in aliases {
            self.unusable.entry(alias).or_insert_with(&why);
        }
        self.unusable.insert(name, why());
    }

    pub fn knows(&self, name: &str) -> bool {
        self.index.contains_key(name) || self.unusable.contains_key(name)
    }

    /// Returns the names and aliases of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let all = self.index.keys().chain(self.unusable.keys());
        all.map(String::as_str)
    }

    /// Returns whether `written` names a provider that is enabled, and a model of it.
    pub fn has(&self, written: &str) -> bool {
        written
            .split_once('/')
            .is_some_and(|(name, _)| self.index.contains_key(name))
    }

    /// Looks up `provider/model`; `Ok(None)` when the provider's own table is at fault.
    pub fn target(&self, written: &str, suggest: bool) -> Result<Option<(usize, String)>, Wrong> {
        let Some((name, model)) = written.split_once('/') else {
            return Err("must be provider/model".into());
        };
        if model.is_empty() || model.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("must name a model after the /, without spaces".into());
        }
        if let Some(place) = self.index.get(name) {
            return Ok(Some((*place, model.to_string())));
        }
        match self.unusable.get(name) {
            Some(Why::Broken) => Ok(None),
            Some(Why::Disabled(place)) => {
                let reason = self.disabled.get(*place).map_or("", |(_, reason)| reason);
                Err(format!("the provider {name} is not enabled: {reason}").into())
            }
            None => {
                let known = self
                    .index
                    .keys()
                    .chain(self.unusable.keys())
                    .map(String::as_str);
                let meant = if suggest { nearest(name, known) } else { None };
                let suggestion = meant.map(|meant| quoted(&format!("{meant}/{model}")));
                Err(Wrong::suggest(
                    format!("there is no provider {name:?}"),
                    suggestion,
                ))
            }
        }
    }
}

/// Looks up the row of the catalogue that `row` is like.
fn like(row: &Row, by_name: &HashMap<String, usize>) -> Result<Option<usize>, Mistake> {
    let Some(like) = &row.like else {
        return Ok(None);
    };
    let found = by_name.get(&like.value).copied().map(Some);
    found.ok_or_else(|| {
        let meant = nearest(&like.value, by_name.keys().map(String::as_str));
        like.wrong(Wrong::suggest(
            format!("the catalogue has no provider {:?}", like.value),
            meant.map(quoted),
        ))
    })
}

fn keys(
    written: Vec<Key>,
    models: &HashMap<String, Arc<routing::Model>>,
    providers: &Providers,
    env: Env<'_>,
    mistakes: &mut Vec<Mistake>,
    warnings: &mut Vec<Mistake>,
) -> Vec<KeySettings> {
    let mut keys: Vec<KeySettings> = Vec::with_capacity(written.len());
    let mut seen: HashMap<Box<str>, String> = HashMap::new();
    for key in written {
        for pattern in &key.models {
            if warnings.len() < MOST_SUGGESTIONS {
                warnings.extend(check_pattern(pattern, models, providers));
            }
        }
        let secret = match key.key.value.resolve(env) {
            Ok(secret) => secret,
            Err(wrong) => {
                mistakes.push(key.key.wrong(wrong));
                continue;
            }
        };
        if secret.expose().len() < SHORTEST_KEY {
            warnings.push(
                key.key
                    .wrong(format!("is shorter than {SHORTEST_KEY} characters")),
            );
        }
        if let Some(other) = seen.insert(secret.expose().into(), key.name.value.clone()) {
            mistakes.push(key.key.wrong(format!("is the same key as that of {other}")));
        }
        for pattern in key.limits.iter().flat_map(|(models, _)| models) {
            if warnings.len() < MOST_SUGGESTIONS {
                warnings.extend(check_pattern(pattern, models, providers));
            }
        }
        let limits = limits(&key.name.value, &key.limits);
        let (budgets, named) =
            super::budget::split(key.budgets, &format!("key:{}", key.name.value));
        let models = key
            .models
            .into_iter()
            .map(|pattern| pattern.value)
            .collect();
        keys.push(KeySettings {
            name: key.name.value,
            key: secret,
            models,
            limits,
            budgets,
            named,
            constraints: key
                .constraints
                .and_then(|written| written.link(providers, mistakes)),
            explain: key.explain,
            stale_if_error: key.stale_if_error,
            priority: key.priority,
        });
    }
    keys
}

/// Returns a key's limits: those for the same models are one.
fn limits(key: &str, written: &[(Vec<At<String>>, Limits)]) -> Vec<Arc<Limited>> {
    let mut all: Vec<Limited> = Vec::with_capacity(written.len());
    for (models, limits) in written {
        let models: Vec<&str> = models.iter().map(|model| model.value.as_str()).collect();
        let limited = Limited::new(Holder::Key, key, &models, *limits);
        match all.iter_mut().find(|known| known.name == limited.name) {
            Some(known) => known.limits = known.limits.and(limited.limits),
            None => all.push(limited),
        }
    }
    all.retain(|limited| !limited.limits.is_unlimited());
    all.into_iter().map(Arc::new).collect()
}

/// Warns of a pattern that nothing matches. A bare name may be one of the catalogue's, unless it is nearly ours.
fn check_pattern(
    pattern: &At<String>,
    models: &HashMap<String, Arc<routing::Model>>,
    providers: &Providers,
) -> Option<Mistake> {
    let written = pattern.value.as_str();
    if models.contains_key(written) {
        return None;
    }
    match written.split_once('/') {
        Some((name, _)) if name.contains(['*', '?']) || providers.knows(name) => None,
        Some((name, _)) => Some(pattern.wrong(format!(
            "there is no provider {name:?}, so this matches nothing"
        ))),
        None if written.contains(['*', '?']) => None,
        None => {
            let meant = nearest(written, models.keys().map(String::as_str))?;
            Some(pattern.wrong(Wrong::suggest(
                "is not a [models] name",
                Some(quoted(meant)),
            )))
        }
    }
}
