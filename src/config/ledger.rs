//! The `[ledger]` table: what is kept of each exchange, and how surely; and `[alerts]`: who is told of budgets.

use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::Env;
use super::mistake::{At, Mistake, Wrong, nearest, quoted};
use super::provider::required;
use super::read::{Reader, Table, text, truth, whole};
use super::row::pem;
use super::secrets::{Reference, read_bounded, secret};
use super::units;
use crate::access::Keep;
use crate::ledger::bodies::MOST_PART;
use crate::ledger::{Fsync, OnFailure, Settings, alert, mail, metadata};
use crate::secret::Secret;

/// A journal has room for some segments at least.
const LEAST_JOURNAL: u64 = 1 << 20;

pub(super) fn ledger(reader: &mut Reader<'_>, root: &Table<'_>) -> Settings {
    let mut settings = Settings::default();
    let Some(table) = reader.table(root, "ledger", "ledger") else {
        return settings;
    };
    if let Some(enabled) = reader.get(&table, "enabled", truth) {
        settings.enabled = enabled.value;
    }
    if let Some(retention) = reader.get(&table, "retention", retention) {
        settings.retention = retention.value;
    }
    if let Some(retention) = reader.get(&table, "usage_retention", years) {
        settings.usage_retention = retention.value;
    }
    if let Some(fields) = reader.one_or_list(&table, "usage_metadata", field) {
        if fields.value.len() > MOST_FIELDS {
            let wrong = format!(
                "must hold at most {MOST_FIELDS}: sums are kept by all that occurs together"
            );
            reader.mistakes.push(fields.place.wrong(wrong));
        }
        settings.usage_metadata = fields.value.into_iter().map(|at| at.value).collect();
    }
    if let Some(max) = reader.get(&table, "max_journal", units::size) {
        if max.value < LEAST_JOURNAL {
            reader.mistakes.push(max.wrong("must be 1MiB or more"));
        }
        settings.max_journal = max.value;
    }
    let rules = [("allow", OnFailure::Allow), ("deny", OnFailure::Deny)];
    let rule = reader.get(&table, "on_failure", |value| one_of(value, &rules));
    settings.on_failure = rule.map_or(settings.on_failure, |at| at.value);
    let times = [
        ("never", Fsync::Never),
        ("interval", Fsync::Interval),
        ("always", Fsync::Always),
    ];
    let fsync = reader.get(&table, "fsync", |value| one_of(value, &times));
    settings.fsync = fsync.map_or(settings.fsync, |at| at.value);
    let keep = reader.get(&table, "keep", |value| one_of(value, &Keep::ALL));
    settings.keep = keep.map_or(settings.keep, |at| at.value);
    if let Some(time) = reader.get(&table, "body_retention", units::duration) {
        settings.body_retention = time.value;
    }
    if let Some(most) = reader.get(&table, "max_body", units::size) {
        if !(1..=MOST_PART).contains(&most.value) {
            let wrong = "must be from 1B to 16MiB";
            reader.mistakes.push(most.wrong(wrong));
        }
        settings.max_body = most.value;
    }
    if let Some(most) = reader.get(&table, "max_body_memory", units::size) {
        if most.value < LEAST_JOURNAL {
            reader.mistakes.push(most.wrong("must be 1MiB or more"));
        }
        settings.max_body_memory = most.value;
    }
    settings
}

/// Reads how long rows are kept; `None`: for ever.
fn retention(value: &DeValue<'_>) -> Result<Option<Duration>, Wrong> {
    match value.as_str() {
        Some("forever") => Ok(None),
        Some(_) | None => units::duration(value).map(Some),
    }
}

/// Fields of metadata that sums are kept by.
const MOST_FIELDS: usize = 4;

fn field(value: &DeValue<'_>) -> Result<String, Wrong> {
    let field = text(value)?;
    match metadata::is_name(&field) {
        true => Ok(field),
        false => Err("must be 1 to 64 letters, digits and _-.:/".into()),
    }
}

/// As [`retention`], and of more days than other times may have.
fn years(value: &DeValue<'_>) -> Result<Option<Duration>, Wrong> {
    let days = value.as_str().and_then(|text| text.strip_suffix('d'));
    match days.and_then(|days| days.parse::<u64>().ok()) {
        Some(days @ 1..=MOST_DAYS) => Ok(Some(Duration::from_secs(days * 24 * 3600))),
        Some(_) => Err(format!("must be from 1d to {MOST_DAYS}d, or \"forever\"").into()),
        None => retention(value),
    }
}

const MOST_DAYS: u64 = 36_600;

fn one_of<T: Copy>(value: &DeValue<'_>, known: &[(&str, T)]) -> Result<T, Wrong> {
    let written = text(value)?;
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let found = known.iter().find(|(name, _)| *name == written);
    found.map(|(_, meant)| *meant).ok_or_else(|| {
        Wrong::suggest(
            format!("must be one of {}", names.join(", ")),
            nearest(&written, names.iter().copied()).map(quoted),
        )
    })
}

/// The `[alerts]` table: its secrets aren't fetched yet.
#[derive(Default)]
pub(super) struct Alerts {
    webhook: Option<At<Reference>>,
    secret: Option<At<Reference>>,
    slack: Option<At<Reference>>,
    smtp: Option<Smtp>,
    percent: Vec<u64>,
    amounts: Vec<u64>,
}

/// The `[alerts.smtp]` table, with a password that isn't fetched yet.
struct Smtp {
    settings: mail::Settings,
    login: Option<(String, At<Reference>)>,
}

/// Thresholds of each kind.
const MOST_THRESHOLDS: usize = 16;

pub(super) fn alerts(reader: &mut Reader<'_>, root: &Table<'_>) -> Alerts {
    let usual = vec![80, 100];
    let Some(table) = reader.table(root, "alerts", "alerts") else {
        return Alerts {
            percent: usual,
            ..Alerts::default()
        };
    };
    let mut thresholds = |key, read: &dyn Fn(&DeValue<'_>) -> Result<u64, Wrong>| {
        let list = reader.one_or_list(&table, key, read)?;
        if list.value.len() > MOST_THRESHOLDS {
            let wrong = format!("must hold at most {MOST_THRESHOLDS}");
            reader.mistakes.push(list.place.wrong(wrong));
        }
        let mut values: Vec<u64> = list.value.into_iter().map(|at| at.value).collect();
        values.sort_unstable();
        values.dedup();
        Some(values)
    };
    let percent = thresholds("percent", &whole(1..=100));
    let amounts = thresholds("usd", &super::budget::usd).unwrap_or_default();
    Alerts {
        webhook: reader.get(&table, "webhook", secret),
        secret: reader.get(&table, "secret", secret),
        slack: reader.get(&table, "slack", secret),
        smtp: reader
            .table(&table, "smtp", "alerts.smtp")
            .and_then(|table| smtp(reader, &table)),
        percent: percent.unwrap_or(usual),
        amounts,
    }
}

fn smtp(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Smtp> {
    let host = required(reader, table, "host", host);
    let from = required(reader, table, "from", address);
    let before = reader.mistakes.len();
    let to = reader.one_or_list(table, "to", address);
    match &to {
        // What was wrong among them is told.
        _ if reader.mistakes.len() > before => {}
        Some(to) if (1..=MOST_RECEIVERS).contains(&to.value.len()) => {}
        Some(to) => {
            let wrong = format!("must hold 1 to {MOST_RECEIVERS} addresses");
            reader.mistakes.push(to.place.wrong(wrong));
        }
        None if !table.has("to") => {
            let wrong = "must be given: who is to be told";
            reader.mistakes.push(table.place.missing("to").wrong(wrong));
        }
        None => {}
    }
    let port = reader.get(table, "port", whole(1..=65_535));
    let tls = reader.get(table, "tls", |value| one_of(value, &mail::Tls::ALL));
    let tls = tls.map_or(mail::Tls::Starttls, |at| at.value);
    let ca = reader.get(table, "ca", text).and_then(|ca| {
        let path = Path::new(&ca.value);
        let read = pem(path).and_then(|()| read_bounded(path, LONGEST_CA));
        let wrong = |wrong| reader.mistakes.push(ca.wrong(wrong));
        read.map_err(wrong).ok()
    });
    let user = reader.get(table, "user", text);
    let password = reader.get(table, "password", secret);
    let login = match (user, password) {
        (Some(user), Some(password)) => {
            if tls == mail::Tls::Clear {
                let wrong = "can't be sent without TLS: set tls to \"starttls\" or \"tls\"";
                reader.mistakes.push(password.wrong(wrong));
            }
            Some((user.value, password))
        }
        (Some(user), None) if !table.has("password") => {
            reader.mistakes.push(user.wrong("needs a password"));
            None
        }
        (None, Some(password)) if !table.has("user") => {
            reader.mistakes.push(password.wrong("needs a user"));
            None
        }
        _ => None,
    };
    Some(Smtp {
        settings: mail::Settings {
            host: host?.value,
            port: port.and_then(|at| u16::try_from(at.value).ok()),
            tls,
            ca,
            login: None,
            from: from?.value,
            to: to?.value.into_iter().map(|at| at.value).collect(),
        },
        login,
    })
}

/// Receivers of a mail.
const MOST_RECEIVERS: usize = 16;
const LONGEST_CA: u64 = 4 << 20;

fn address(value: &DeValue<'_>) -> Result<lettre::message::Mailbox, Wrong> {
    let wrong = || "must be an address, such as Strait <strait@example.com>".into();
    mail::address(&text(value)?).ok_or_else(wrong)
}

fn host(value: &DeValue<'_>) -> Result<String, Wrong> {
    let host = text(value)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
    match (1..=253).contains(&host.len()) && host.bytes().all(fits) {
        true => Ok(host),
        false => Err("must be the name or the address of a server".into()),
    }
}

impl Alerts {
    /// Fetches the secrets. An address isn't shown: it may hold one.
    pub fn resolve(self, env: Env<'_>, mistakes: &mut Vec<Mistake>) -> alert::Settings {
        let mut fetch = |written: Option<At<Reference>>, address: bool| -> Option<Secret> {
            let written = written?;
            let checked = written.value.resolve_text(env).and_then(|secret| {
                let text = secret.expose();
                let is_url = text.starts_with("https://") || text.starts_with("http://");
                if address && !is_url {
                    return Err("must be the URL of a webhook".into());
                }
                Ok(secret)
            });
            checked
                .map_err(|wrong| mistakes.push(written.wrong(wrong)))
                .ok()
        };
        let (webhook, secret) = (fetch(self.webhook, true), fetch(self.secret, false));
        let slack = fetch(self.slack, true);
        let smtp = self.smtp.map(|Smtp { settings, login }| mail::Settings {
            login: login.and_then(|(user, password)| Some((user, fetch(Some(password), false)?))),
            ..settings
        });
        alert::Settings {
            webhook,
            secret,
            slack,
            smtp,
            percent: self.percent,
            amounts: self.amounts,
        }
    }
}
