//! The file as written: each table read and checked for itself, before names are looked up across tables.

use std::path::PathBuf;

use toml::de::DeValue;

use super::mistake::{At, Place, Wrong, nearest, quoted};
use super::provider::{self, check_name, label, required};
use super::read::{Reader, Table, text, truth, whole};
use super::row::{self, Row};
use super::secrets::{Reference, secret};
use super::units::{self, Listen};
use crate::limit::overload::Priority;
use crate::limit::{Limits, Which};
use crate::observe::Sink;
use crate::routing::constraints::Origin;
use crate::{cache, ledger, server, state};

/// The tables of one file.
pub(super) struct File {
    pub server: server::Settings,
    /// Where to listen, and where that is said (or would be).
    pub listen: At<Vec<At<Listen>>>,
    pub admin_listen: Option<At<Listen>>,
    pub admin_token: Option<At<Reference>>,
    pub admin_keys: bool,
    pub oidc: Option<super::jwt::Oidc>,
    pub state: State,
    pub providers: Vec<Row>,
    pub models: Vec<super::model::Model>,
    pub rules: Vec<super::rules::Written>,
    pub keys: Vec<Key>,
    pub budgets: Vec<super::budget::Written>,
    pub tokens: Vec<super::jwt::Written>,
    pub catalogue: crate::provider::catalogue::Settings,
    pub cache: cache::Settings,
    /// Where `cache.redis` is said.
    pub cache_redis: Option<Place>,
    pub responses: state::Settings,
    pub ledger: ledger::Settings,
    pub alerts: super::ledger::Alerts,
    pub records: Sink,
    pub log_level: String,
}

/// A `[[keys]]` table: its secret isn't fetched yet.
pub(super) struct Key {
    pub name: At<String>,
    pub key: At<Reference>,
    pub models: Vec<At<String>>,
    /// Each for the models that match, or for all where it names none.
    pub limits: Vec<(Vec<At<String>>, Limits)>,
    pub budgets: Vec<super::budget::Written>,
    pub constraints: Option<super::constraints::Written>,
    pub explain: bool,
    pub stale_if_error: Option<std::time::Duration>,
    pub priority: Priority,
}

/// Tables of limits of one key.
const MOST_LIMITS: usize = 64;
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl File {
    /// Reads the whole document.
    pub fn read(reader: &mut Reader<'_>) -> File {
        let document = reader.parse();
        let root = reader.root(&document);
        let (server, listen) = server(reader, &root);
        let admin = reader.table(&root, "admin", "admin");
        let (cache, cache_redis) = cache(reader, &root);
        let admin_listen = admin
            .as_ref()
            .and_then(|admin| reader.get(admin, "listen", units::listen));
        File {
            server,
            listen,
            admin_listen,
            admin_keys: admin
                .as_ref()
                .and_then(|admin| reader.get(admin, "keys", truth))
                .is_some_and(|at| at.value),
            oidc: admin
                .as_ref()
                .and_then(|admin| super::jwt::oidc(reader, admin)),
            admin_token: admin.and_then(|admin| reader.get(&admin, "token", secret)),
            state: state(reader, &root),
            providers: providers(reader, &root),
            models: super::model::models(reader, &root),
            rules: super::rules::rules(reader, &root),
            keys: keys(reader, &root),
            budgets: super::budget::of_all(reader, &root),
            tokens: super::jwt::tokens(reader, &root),
            catalogue: super::catalogue::catalogue(reader, &root),
            cache,
            cache_redis,
            responses: super::responses::responses(reader, &root),
            ledger: super::ledger::ledger(reader, &root),
            alerts: super::ledger::alerts(reader, &root),
            records: records(reader, &root),
            log_level: log_level(reader, &root),
        }
    }
}

/// Reads the rows of the built-in catalogue.
pub(super) fn catalogue(reader: &mut Reader<'_>) -> Vec<Row> {
    let document = reader.parse();
    let root = reader.root(&document);
    let rows = reader.names(&root, "providers").unwrap_or_default();
    rows.into_iter()
        .filter_map(|(name, value)| provider::read(reader, name, value, true))
        .collect()
}

fn server(reader: &mut Reader<'_>, root: &Table<'_>) -> (server::Settings, At<Vec<At<Listen>>>) {
    let mut settings = server::Settings::default();
    let default_listen = |place: Place| {
        let one = |address: &String| At {
            value: Listen {
                address: address.clone(),
                loopback: true,
            },
            place: place.clone(),
        };
        At {
            value: server::Settings::default().listen.iter().map(one).collect(),
            place: place.clone(),
        }
    };
    let Some(table) = reader.table(root, "server", "server") else {
        return (
            settings,
            default_listen(root.place.missing("server").missing("listen")),
        );
    };
    let before = reader.mistakes.len();
    let listen = reader.one_or_list(&table, "listen", units::listen);
    if let Some(listen) = &listen {
        if listen.value.is_empty() && reader.mistakes.len() == before {
            reader
                .mistakes
                .push(listen.place.wrong("must not be empty"));
        }
        for (index, one) in listen.value.iter().enumerate().take(100) {
            if listen.value[..index]
                .iter()
                .any(|other| other.value.address == one.value.address)
            {
                reader.mistakes.push(one.wrong("is given twice"));
            }
        }
        settings.listen = listen
            .value
            .iter()
            .map(|at| at.value.address.clone())
            .collect();
    }
    let tls = reader.table(&table, "tls", "server.tls");
    settings.tls = tls.and_then(|tls| {
        let mut file = |key| {
            let path = required(reader, &tls, key, text)?;
            let checked = row::pem(std::path::Path::new(&path.value));
            checked
                .map_err(|wrong| reader.mistakes.push(path.wrong(wrong)))
                .ok()?;
            Some(PathBuf::from(path.value))
        };
        let (cert, key) = (file("cert"), file("key"));
        let pair = server::Tls {
            cert: cert?,
            key: key?,
        };
        // Found by Pingora when it listens, it would be a panic.
        if let Err(wrong) = tls_pair(&pair) {
            reader.mistakes.push(tls.place.wrong(wrong));
        }
        Some(pair)
    });
    set(
        &mut settings.max_body,
        reader.get(&table, "max_body", units::size),
    );
    set(
        &mut settings.body_timeout,
        reader.get(&table, "body_timeout", units::duration),
    );
    set(
        &mut settings.drain,
        reader.get(&table, "drain", units::duration_or_zero),
    );
    set(&mut settings.open, reader.get(&table, "open", truth));
    set(&mut settings.region, reader.get(&table, "region", region));
    super::overload::server(reader, &table, &mut settings);
    const MOST_THREADS: u64 = 1024;
    let threads = reader.get(&table, "threads", whole(0..=MOST_THREADS));
    settings.threads = threads.map_or(settings.threads, |at| at.value as usize);
    (
        settings,
        listen.unwrap_or_else(|| default_listen(table.place.missing("listen"))),
    )
}

/// Checks that connections can be served with a certificate and its key.
fn tls_pair(pair: &server::Tls) -> Result<(), String> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let show = |name: &str, error: &dyn std::fmt::Display| format!("{name} can't be used: {error}");
    let chain = CertificateDer::pem_file_iter(&pair.cert).and_then(Iterator::collect);
    let chain: Vec<_> = chain.map_err(|error| show("cert", &error))?;
    if chain.is_empty() {
        return Err("cert holds no certificate".into());
    }
    let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(|error| show("key", &error))?;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
        .map(|_| ())
        .map_err(|error| {
            if matches!(error, rustls::Error::InconsistentKeys(_)) {
                "key is not the key of cert".into()
            } else {
                show("cert and key", &error)
            }
        })
}

pub(super) fn set<T>(setting: &mut T, read: Option<At<T>>) {
    if let Some(read) = read {
        *setting = read.value;
    }
}

/// Reads where this gateway is, as rules are to name it.
fn region(value: &DeValue<'_>) -> Result<String, Wrong> {
    let region = text(value)?;
    if !region.is_empty() {
        check_name(&region)?;
    }
    Ok(region)
}

/// The `[state]` table: its secrets aren't fetched yet.
#[derive(Default)]
pub(super) struct State {
    pub dir: Option<PathBuf>,
    /// `None`: SQLite.
    pub database: Option<At<Reference>>,
    pub pepper: Option<At<Reference>>,
    pub master_key: Option<At<Reference>>,
    pub redis: Option<super::redis::Redis>,
    pub shared: crate::limit::shared::Settings,
}

fn state(reader: &mut Reader<'_>, root: &Table<'_>) -> State {
    let Some(table) = reader.table(root, "state", "state") else {
        return State::default();
    };
    let dir = reader.get(&table, "dir", |value| match text(value)?.as_str() {
        "" => Err("must name a directory".into()),
        dir => Ok(PathBuf::from(dir)),
    });
    let database = reader.get(&table, "database", |value| match text(value)?.as_str() {
        "sqlite" => Ok(None),
        _ => secret(value).map(Some),
    });
    State {
        pepper: reader.get(&table, "pepper", secret),
        master_key: reader.get(&table, "master_key", secret),
        redis: super::redis::redis(reader, &table),
        shared: super::shared::shared(reader, &table),
        dir: dir.map(|at| at.value),
        database: database.and_then(|at| {
            Some(At {
                value: at.value?,
                place: at.place,
            })
        }),
    }
}

fn providers(reader: &mut Reader<'_>, root: &Table<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, value) in reader.names(root, "providers").unwrap_or_default() {
        if let Err(wrong) = check_name(&name.value) {
            reader.mistakes.push(name.wrong(wrong));
        } else if name.value.contains('/') {
            // `provider/model` is split at the first slash.
            reader
                .mistakes
                .push(name.wrong("the name of a provider must hold no /"));
        } else if let Some(row) = provider::read(reader, name, value, false) {
            rows.push(row);
        }
    }
    rows
}

fn keys(reader: &mut Reader<'_>, root: &Table<'_>) -> Vec<Key> {
    let Some(elements) = reader.elements(root, "keys", "an array of tables ([[keys]])") else {
        return Vec::new();
    };
    let mut keys = Vec::new();
    let mut names = std::collections::HashSet::new();
    for (value, place) in elements.value {
        let Some(table) = reader.open(value, place, "keys[]") else {
            continue;
        };
        let name = required(reader, &table, "name", label);
        let key = required(reader, &table, "key", secret);
        let models = reader.one_or_list(&table, "models", glob);
        let limits = limits(reader, &table);
        let budgets = super::budget::budgets(reader, &table);
        let origin = name.as_ref().map(|name| name.value.clone());
        let constraints = super::constraints::constraints(
            reader,
            &table,
            ["keys[].constraints", "keys[].constraints.max_price"],
            Origin::Key(origin.unwrap_or_default()),
        );
        let explain = reader.get(&table, "explain", truth);
        let stale = super::continuation::stale_if_error(reader, &table);
        let priority = reader.get(&table, "priority", super::overload::priority);
        if let Some(models) = models.as_ref().filter(|models| models.value.is_empty()) {
            // Empty would be read as "nothing" by one and as "everything" by another.
            reader.warnings.push(
                models
                    .place
                    .wrong("is empty, which allows every model; leave it out to say so"),
            );
        }
        let (Some(name), Some(key)) = (name, key) else {
            continue;
        };
        if !names.insert(name.value.clone()) {
            reader.mistakes.push(name.wrong("the name is given twice"));
        }
        keys.push(Key {
            name,
            key,
            models: models.map(|list| list.value).unwrap_or_default(),
            limits,
            budgets,
            constraints,
            explain: explain.is_some_and(|explain| explain.value),
            stale_if_error: stale.map(|at| at.value),
            priority: priority.map(|at| at.value).unwrap_or_default(),
        });
    }
    keys
}

/// Reads a pattern over model names, in which `*` stands for anything and `?` for one character.
pub(super) fn glob(value: &DeValue<'_>) -> Result<String, Wrong> {
    let pattern = text(value)?;
    check_name(&pattern)?;
    match pattern.find(['[', ']', '{', '}', '\\', '!']) {
        Some(_) => {
            Err("only * and ? are special in a pattern; write one pattern for each case".into())
        }
        None if pattern.contains("**") => Err(Wrong::suggest(
            "one * matches anything, / too",
            Some(quoted(&pattern.replace("**", "*"))),
        )),
        None => Ok(pattern),
    }
}

/// Reads the limits of a key, or several: for all models, and for some.
fn limits(reader: &mut Reader<'_>, table: &Table<'_>) -> Vec<(Vec<At<String>>, Limits)> {
    if !table.has("limits") {
        return Vec::new();
    }
    if !table.is_array("limits") {
        let table = reader.table(table, "limits", "keys[].limits");
        return table
            .map(|table| limit(reader, &table))
            .into_iter()
            .collect();
    }
    let want = "a table of limits or an array of them";
    let Some(elements) = reader.elements(table, "limits", want) else {
        return Vec::new();
    };
    if elements.value.is_empty() || elements.value.len() > MOST_LIMITS {
        let wrong = format!("must hold 1 to {MOST_LIMITS} tables");
        reader.mistakes.push(elements.place.wrong(wrong));
        return Vec::new();
    }
    let mut all = Vec::new();
    for (value, place) in elements.value {
        if let Some(table) = reader.open(value, place, "keys[].limits") {
            all.push(limit(reader, &table));
        }
    }
    all
}

fn limit(reader: &mut Reader<'_>, table: &Table<'_>) -> (Vec<At<String>>, Limits) {
    let models = reader.one_or_list(table, "models", glob);
    if let Some(models) = models.as_ref().filter(|models| models.value.is_empty()) {
        let wrong = "must not be empty; leave it out for limits of all models";
        reader.mistakes.push(models.place.wrong(wrong));
    }
    let limits = plain_limits(reader, table);
    (models.map(|list| list.value).unwrap_or_default(), limits)
}

/// Reads limits for all models.
pub(super) fn plain_limits(reader: &mut Reader<'_>, table: &Table<'_>) -> Limits {
    Limits::read(|which| {
        let most = match which {
            Which::Tpm | Which::Rpd | Which::Tpd => i64::MAX.unsigned_abs(),
            Which::Rpm
            | Which::ImagesPerMinute
            | Which::ImagesPerDay
            | Which::AudioPerMinute
            | Which::AudioPerDay
            | Which::Concurrent => u32::MAX.into(),
        };
        let limit = reader.get(table, which.name(), |value| match whole(0..=most)(value)? {
            0 => Err("must be 1 or more; leave it out for no limit".into()),
            limit => Ok(limit),
        });
        limit.map(|at| at.value)
    })
}

fn cache(reader: &mut Reader<'_>, root: &Table<'_>) -> (cache::Settings, Option<Place>) {
    let mut settings = cache::Settings::default();
    let mut redis = None;
    if let Some(table) = reader.table(root, "cache", "cache") {
        set(&mut settings.enabled, reader.get(&table, "enabled", truth));
        set(
            &mut settings.memory,
            reader.get(&table, "memory", units::size),
        );
        set(
            &mut settings.ttl,
            reader.get(&table, "ttl", units::duration),
        );
        redis = reader.get(&table, "redis", truth);
        settings.redis = redis.as_ref().is_some_and(|at| at.value);
    }
    (settings, redis.map(|at| at.place))
}

fn records(reader: &mut Reader<'_>, root: &Table<'_>) -> Sink {
    let Some(table) = reader.table(root, "records", "records") else {
        return Sink::default();
    };
    let to = reader.get(&table, "to", |value| match text(value)?.as_str() {
        "stdout" => Ok(Sink::Stdout),
        "off" => Ok(Sink::Off),
        other => match other
            .strip_prefix("file:")
            .map(|path| path.strip_prefix("//").unwrap_or(path))
        {
            Some("") => Err("file: must name a file".into()),
            Some(path) => Ok(Sink::File(path.into())),
            None => {
                let path = other.contains('/').then(|| format!("\"file:{other}\""));
                let meant = path
                    .or_else(|| nearest(other, ["stdout", "off"]).map(|name| format!("{name:?}")));
                Err(Wrong::suggest(
                    "must be \"stdout\", \"off\" or \"file:/path\"",
                    meant,
                ))
            }
        },
    });
    to.map(|at| at.value).unwrap_or_default()
}

fn log_level(reader: &mut Reader<'_>, root: &Table<'_>) -> String {
    let default = || "info".to_string();
    let Some(table) = reader.table(root, "log", "log") else {
        return default();
    };
    reader
        .get(&table, "level", level)
        .map_or_else(default, |at| at.value)
}

/// Reads a level, or levels by module: `info,strait::routing=debug`.
fn level(value: &DeValue<'_>) -> Result<String, Wrong> {
    let written = text(value)?;
    for directive in written.split(',') {
        let (module, level) = directive.split_once('=').unwrap_or(("", directive));
        let is_module = module
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':');
        if !is_module || !LEVELS.contains(&level) {
            let meant = match level {
                "warning" => Some("warn"),
                "verbose" => Some("debug"),
                "none" => Some("off"),
                _ => nearest(level, LEVELS),
            };
            return Err(Wrong::suggest(
                format!(
                    "must be one of {} (or MODULE=LEVEL, with commas)",
                    LEVELS.join(", ")
                ),
                meant.map(quoted),
            ));
        }
    }
    Ok(written)
}
