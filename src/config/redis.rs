//! `state.redis`: one address, several, or a table that says more.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::Env;
use super::mistake::{At, Mistake, Place, Wrong, nearest, quoted};
use super::read::{Reader, Table, text};
use super::secrets::{Reference, secret};
use super::{row, units};
use crate::secret::Secret;
use crate::state::redis::{Identity, Mode, Settings, check_url, is_tls};

/// As written: its secrets aren't fetched yet.
pub(super) struct Redis {
    urls: Vec<At<Reference>>,
    place: Place,
    mode: Option<At<Named>>,
    master: Option<At<String>>,
    user: Option<At<String>>,
    password: Option<At<Reference>>,
    ca: Option<At<PathBuf>>,
    cert: Option<At<PathBuf>>,
    key: Option<At<PathBuf>>,
    prefix: String,
    timeout: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Single,
    Cluster,
    Sentinel,
}

const MODES: [(&str, Named); 3] = [
    ("single", Named::Single),
    ("cluster", Named::Cluster),
    ("sentinel", Named::Sentinel),
];

/// Whoever waits longer waits for a Redis that is away.
const LONGEST: Duration = Duration::from_secs(5);
const LONGEST_PREFIX: usize = 64;
const MOST_URLS: usize = 64;

/// Reads `redis` of `[state]`; `None` where there is none.
pub(super) fn redis(reader: &mut Reader<'_>, state: &Table<'_>) -> Option<Redis> {
    let (value, place) = reader.find(state, "redis")?;
    let plain = |urls| Redis {
        urls,
        place: place.clone(),
        mode: None,
        master: None,
        user: None,
        password: None,
        ca: None,
        cert: None,
        key: None,
        prefix: Settings::PREFIX.into(),
        timeout: Settings::TIMEOUT,
    };
    if !value.get_ref().is_table() {
        let urls = urls(reader, state, "redis")?;
        return (!urls.is_empty()).then(|| plain(urls));
    }
    let table = reader.table(state, "redis", "state.redis")?;
    let written = urls(reader, &table, "url");
    let mode = reader.get(&table, "mode", |value| {
        let written = text(value)?;
        let found = MODES.iter().find(|(name, _)| *name == written);
        found.map(|(_, mode)| *mode).ok_or_else(|| {
            let meant = nearest(&written, MODES.map(|(name, _)| name)).map(quoted);
            Wrong::suggest("must be one of single, cluster, sentinel", meant)
        })
    });
    let master = reader.get(&table, "master", filled);
    let user = reader.get(&table, "user", filled);
    let password = reader.get(&table, "password", secret);
    let [ca, cert, key] = ["ca", "cert", "key"].map(|key| {
        reader.get(&table, key, |value| {
            let path = PathBuf::from(text(value)?);
            row::pem(&path).map(|()| path)
        })
    });
    let prefix = reader.get(&table, "prefix", prefix);
    let timeout = reader.get(&table, "timeout", |value| match units::duration(value)? {
        long if long > LONGEST => Err("must be at most 5s".into()),
        timeout => Ok(timeout),
    });
    let urls = written.filter(|urls| !urls.is_empty())?;
    let defaults = plain(urls);
    Some(Redis {
        place: table.place.missing("url"),
        mode,
        master,
        user,
        password,
        ca,
        cert,
        key,
        prefix: prefix.map_or(defaults.prefix, |at| at.value),
        timeout: timeout.map_or(defaults.timeout, |at| at.value),
        urls: defaults.urls,
    })
}

/// Reads one address or several; an empty one is none.
fn urls(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    key: &'static str,
) -> Option<Vec<At<Reference>>> {
    let list = reader.one_or_list(table, key, |value| match text(value)?.as_str() {
        "" => Ok(None),
        _ => secret(value).map(Some),
    })?;
    if list.value.len() > MOST_URLS {
        let wrong = format!("must hold at most {MOST_URLS}");
        reader.mistakes.push(list.place.wrong(wrong));
    }
    let given = list.value.into_iter().filter_map(|at| {
        Some(At {
            value: at.value?,
            place: at.place,
        })
    });
    Some(given.collect())
}

fn filled(value: &DeValue<'_>) -> Result<String, Wrong> {
    match text(value)? {
        empty if empty.is_empty() => Err("must not be empty".into()),
        filled => Ok(filled),
    }
}

/// Reads what goes before every key. Braces would tell a cluster where keys belong.
fn prefix(value: &DeValue<'_>) -> Result<String, Wrong> {
    let prefix = text(value)?;
    let fits = prefix
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}'));
    match fits && prefix.len() <= LONGEST_PREFIX {
        true => Ok(prefix),
        false => Err(format!(
            "must be at most {LONGEST_PREFIX} printable characters, without spaces and braces"
        )
        .into()),
    }
}

impl Redis {
    /// Fetches the secrets. An address isn't shown: it may hold one.
    pub fn resolve(self, env: Env<'_>, mistakes: &mut Vec<Mistake>) -> Option<Settings> {
        let before = mistakes.len();
        let mut urls = Vec::new();
        for written in &self.urls {
            let checked = written.value.resolve_text(env).and_then(|url| {
                check_url(url.expose().trim())?;
                Ok(Secret::new(url.expose().trim()))
            });
            match checked {
                Ok(url) => urls.push(url),
                Err(wrong) => mistakes.push(written.wrong(wrong)),
            }
        }
        let named = self.mode.as_ref().map_or(Named::Single, |mode| mode.value);
        if named == Named::Single && self.urls.len() > 1 {
            let message = "several addresses are those of a cluster or of sentinels: say which in mode of [state.redis]";
            mistakes.push(self.place.wrong(message));
        }
        let tls = urls.iter().filter(|url| is_tls(url)).count();
        if tls > 0 && tls < urls.len() {
            let message = "must be redis:// for all addresses, or rediss:// for all";
            mistakes.push(self.place.wrong(message));
        }
        let files = [&self.ca, &self.cert, &self.key];
        if tls == 0 && !urls.is_empty() {
            let plain = "is looked at only for rediss:// addresses";
            mistakes.extend(files.into_iter().flatten().map(|file| file.wrong(plain)));
        }
        match (&self.cert, &self.key) {
            (Some(cert), None) => mistakes.push(cert.wrong("needs its key, in key")),
            (None, Some(key)) => mistakes.push(key.wrong("needs its certificate, in cert")),
            (Some(_), Some(_)) | (None, None) => {}
        }
        let mode = match named {
            Named::Single => Mode::Single,
            Named::Cluster => Mode::Cluster,
            Named::Sentinel => {
                let password = self.password.as_ref().and_then(|written| {
                    let fetched = written.value.resolve_text(env);
                    fetched
                        .map_err(|wrong| mistakes.push(written.wrong(wrong)))
                        .ok()
                });
                if self.master.is_none() {
                    let place = Place {
                        key: "state.redis.master".into(),
                        ..self.place.clone()
                    };
                    mistakes.push(place.wrong("must be given with mode = \"sentinel\""));
                }
                Mode::Sentinel {
                    master: self.master.as_ref()?.value.clone(),
                    user: self.user.as_ref().map(|user| user.value.clone()),
                    password,
                }
            }
        };
        if named != Named::Sentinel {
            let theirs = [
                self.master.as_ref().map(|at| &at.place),
                self.user.as_ref().map(|at| &at.place),
                self.password.as_ref().map(|at| &at.place),
            ];
            let message =
                "is for mode = \"sentinel\"; otherwise user and password stand in the address";
            for place in theirs.into_iter().flatten() {
                mistakes.push(place.wrong(message));
            }
        }
        (mistakes.len() == before).then_some(Settings {
            urls,
            mode,
            ca: self.ca.map(|at| at.value),
            identity: self.cert.zip(self.key).map(|(cert, key)| Identity {
                cert: cert.value,
                key: key.value,
            }),
            prefix: self.prefix,
            timeout: self.timeout,
        })
    }
}
