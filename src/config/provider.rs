//! `[providers.NAME]`, read into a row.

use toml::de::DeValue;

use super::mistake::{At, Wrong, nearest, quoted};
use super::platform;
use super::read::{Reader, Table, Value, json, number, text, truth, unlike, whole};
use super::row::{Keyed, Row, WrittenQuirks};
use super::secrets::secret;
use super::units;
use crate::protocol::Protocol;
use crate::protocol::api::Api;
use crate::provider::cost::{Rates, Token};
use crate::provider::{Auth, Endpoint, Health, Only, TimeoutOverrides};

/// Weights above this say nothing more, and the balancer's table has as many places as all weights together.
pub(super) const HEAVIEST: u64 = 1000;

/// The most endpoints, or credentials, that one provider may have.
const MOST: usize = 1000;

/// Reads one table.
pub(super) fn read(
    reader: &mut Reader<'_>,
    name: At<String>,
    value: &Value<'_>,
    catalogue: bool,
) -> Option<Row> {
    let place = reader.place(value.span().start, name.place.key.clone());
    let table = reader.open(value, place, "providers.*")?;
    let names = |reader: &mut Reader<'_>, key| -> Vec<String> {
        let list = if catalogue {
            reader.list(&table, key, text)
        } else {
            None
        };
        list.map(|list| list.value.into_iter().map(|at| at.value).collect())
            .unwrap_or_default()
    };
    let (env, aliases) = (names(reader, "env"), names(reader, "aliases"));
    let base_env = names(reader, "base_env");
    let local = catalogue
        && reader
            .get(&table, "local", truth)
            .is_some_and(|local| local.value);
    let headers = reader.map(&table, "headers", secret).unwrap_or_default();
    let headers = headers
        .into_iter()
        .filter_map(|(name, value)| Some((header_name(reader, &name)?, value)))
        .collect();
    let endpoints = endpoints(reader, &table);
    let mut own = endpoints.iter().flatten();
    let checked = own.any(|endpoint| endpoint.health_path.is_some());
    Some(Row {
        max_inflight: super::overload::max_inflight(reader, &table),
        enabled: reader.get(&table, "enabled", truth).map(|at| at.value),
        env,
        aliases,
        base_env,
        local,
        protocols: protocols(reader, &table),
        endpoints,
        credentials: credentials(reader, &table),
        auth: reader.get(&table, "auth", auth),
        headers,
        paths: paths(reader, &table),
        health: health(reader, &table).or_else(|| checked.then(Health::default)),
        timeouts: timeouts(reader, &table, "providers.*.timeouts"),
        models_only: models_only(reader, &table),
        known_as: known_as(reader, &table),
        apis: apis(reader, &table),
        like: if catalogue {
            None
        } else {
            reader.get(&table, "like", label)
        },
        platform: platform::read(reader, &table, catalogue),
        quirks: quirks(reader, &table),
        price: price(reader, &table),
        data: super::constraints::data(reader, &table),
        ca: reader.get(&table, "ca", text).map(|at| At {
            value: at.value.into(),
            place: at.place,
        }),
        name: At {
            place: table.place,
            value: name.value,
        },
    })
}

fn protocols(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Vec<Protocol>> {
    let before = reader.mistakes.len();
    let Some(list) = reader.one_or_list(table, "protocols", protocol) else {
        // One that is wrong was reported, and is not missing.
        return table.has("protocols").then(Vec::new);
    };
    let mut protocols = Vec::new();
    for at in list.value {
        if protocols.contains(&at.value) {
            reader.mistakes.push(at.wrong("is given twice"));
        } else {
            protocols.push(at.value);
        }
    }
    if protocols.is_empty() && reader.mistakes.len() == before {
        reader.mistakes.push(list.place.wrong("must not be empty"));
    }
    Some(protocols)
}

fn protocol(value: &DeValue<'_>) -> Result<Protocol, Wrong> {
    protocol_named(&text(value)?)
}

fn protocol_named(name: &str) -> Result<Protocol, Wrong> {
    Protocol::from_name(name).ok_or_else(|| {
        let known = Protocol::ALL.map(Protocol::name);
        let meant = match name {
            "openai" | "chat" | "openai_chat" => Some("openai-chat"),
            "claude" | "messages" => Some("anthropic"),
            "responses" | "openai_responses" => Some("openai-responses"),
            "completions" | "openai_completions" => Some("openai-completions"),
            "google" | "generateContent" => Some("gemini"),
            "converse" | "aws" => Some("bedrock"),
            _ => nearest(name, known),
        };
        Wrong::suggest(
            format!("must be one of {}", known.join(", ")),
            meant.map(quoted),
        )
    })
}

fn endpoints(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Vec<Endpoint>> {
    let base_url = reader.get(table, "base_url", units::url);
    let Some(elements) = reader.elements(table, "endpoints", "an array of { url, weight }") else {
        // One that is wrong was reported, and is not missing.
        return match base_url {
            Some(at) => Some(vec![at.value]),
            None => (table.has("base_url") || table.has("endpoints")).then(Vec::new),
        };
    };
    if base_url.is_some() {
        reader.mistakes.push(
            elements
                .place
                .wrong("is given, and base_url too: only one of them may be"),
        );
    }
    if elements.value.is_empty() || elements.value.len() > MOST {
        reader.mistakes.push(
            elements
                .place
                .wrong(format!("must hold 1 to {MOST} endpoints")),
        );
        return Some(Vec::new());
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (value, place) in elements.value {
        let (url, weight, health_path) = if value.get_ref().is_str() {
            (reader.value(value, place, units::url), None, None)
        } else {
            let Some(table) = reader.open(value, place, "providers.*.endpoints[]") else {
                continue;
            };
            let url = required(reader, &table, "url", units::url);
            let weight = reader.get(&table, "weight", whole(1..=HEAVIEST));
            (url, weight, reader.get(&table, "health_path", units::path))
        };
        let Some(mut url) = url else { continue };
        url.value.weight = weight.map_or(1, |weight| weight.value as u32);
        url.value.health_path = health_path.map(|path| path.value);
        // Health and cooldowns are kept by address.
        if seen.insert((url.value.host.clone(), url.value.port)) {
            endpoints.push(url.value);
        } else {
            let Endpoint { host, port, .. } = &url.value;
            reader.mistakes.push(url.wrong(format!(
                "{host}:{port} is given twice; give it more weight instead"
            )));
        }
    }
    Some(endpoints)
}

/// Reads the value at `key`, which must be there.
pub(super) fn required<T>(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    key: &'static str,
    parse: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
) -> Option<At<T>> {
    if !table.has(key) {
        reader
            .mistakes
            .push(table.place.missing(key).wrong("must be given"));
    }
    reader.get(table, key, parse)
}

fn credentials(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Vec<Keyed>> {
    let single = reader.get(table, "key", secret);
    let Some(elements) = reader.elements(table, "keys", "an array of { name, key, weight }") else {
        let single = single.map(|key| {
            vec![Keyed {
                name: "key".into(),
                key,
                weight: 1,
            }]
        });
        // A key that is wrong was reported, and is not missing.
        return single
            .or_else(|| table.has("key").then(Vec::new))
            .or_else(|| table.has("keys").then(Vec::new));
    };
    if single.is_some() {
        reader.mistakes.push(
            elements
                .place
                .wrong("is given, and key too: only one of them may be"),
        );
    }
    if elements.value.is_empty() || elements.value.len() > MOST {
        reader
            .mistakes
            .push(elements.place.wrong(format!("must hold 1 to {MOST} keys")));
    }
    let mut credentials: Vec<Keyed> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (index, (value, place)) in elements.value.into_iter().enumerate() {
        let mut name = At {
            value: format!("key-{}", index + 1),
            place: place.clone(),
        };
        let mut weight = 1;
        let key = if value.get_ref().is_str() {
            reader.value(value, place, secret)
        } else {
            let Some(table) = reader.open(value, place, "providers.*.keys[]") else {
                continue;
            };
            name = reader.get(&table, "name", label).unwrap_or(name);
            weight = reader
                .get(&table, "weight", whole(1..=HEAVIEST))
                .map_or(1, |weight| weight.value as u32);
            required(reader, &table, "key", secret)
        };
        if !seen.insert(name.value.clone()) {
            reader.mistakes.push(name.wrong("the name is given twice"));
        }
        let Some(key) = key else { continue };
        if credentials
            .iter()
            .take(100)
            .any(|other| other.key.value == key.value)
        {
            reader
                .warnings
                .push(key.wrong("the same key is given twice: it shares the provider's limits"));
        }
        credentials.push(Keyed {
            name: name.value,
            key,
            weight,
        });
    }
    Some(credentials)
}

/// Reads a name that goes into records and metrics.
pub(super) fn label(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = text(value)?;
    check_name(&name)?;
    Ok(name)
}

/// Checks a name that is used in requests, records or metrics.
pub(super) fn check_name(name: &str) -> Result<(), Wrong> {
    if name.is_empty() || name.len() > 200 {
        return Err("a name must have 1 to 200 bytes".into());
    }
    if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a name must hold no space and no control character".into());
    }
    Ok(())
}

/// Reads `"bearer"`, `"none"` or `"header:NAME"`.
fn auth(value: &DeValue<'_>) -> Result<Auth, Wrong> {
    let written = text(value)?;
    match written.as_str() {
        "bearer" => Ok(Auth::Bearer),
        "none" => Ok(Auth::None),
        other => match other.strip_prefix("header:").map(str::trim) {
            Some(name) if is_header_name(name) => Ok(Auth::Header(name.to_ascii_lowercase())),
            Some(_) => Err("after header: must be the name of a header".into()),
            None => {
                let meant = match other.to_ascii_lowercase().as_str() {
                    name @ ("x-api-key" | "api-key" | "x-goog-api-key") => {
                        Some(quoted(&format!("header:{name}")))
                    }
                    name => nearest(name, ["bearer", "none"]).map(quoted),
                };
                Err(Wrong::suggest(
                    "must be \"bearer\", \"none\" or \"header:NAME\"",
                    meant,
                ))
            }
        },
    }
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Headers that say how the bytes travel, or that the gateway writes itself.
const OUR_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn header_name(reader: &mut Reader<'_>, name: &At<String>) -> Option<String> {
    let lower = name.value.to_ascii_lowercase();
    if !is_header_name(&lower) {
        reader
            .mistakes
            .push(name.wrong("is not the name of a header"));
        return None;
    }
    if OUR_HEADERS.contains(&lower.as_str()) {
        reader
            .mistakes
            .push(name.wrong("is written by the gateway itself"));
        return None;
    }
    Some(lower)
}

fn paths(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Vec<(At<Protocol>, String)>> {
    let mut paths = Vec::new();
    for (name, path) in reader.map(table, "paths", units::path)? {
        match protocol_named(&name.value) {
            Ok(protocol) => paths.push((
                At {
                    value: protocol,
                    place: name.place,
                },
                path.value,
            )),
            Err(wrong) => reader.mistakes.push(name.wrong(wrong)),
        }
    }
    Some(paths)
}

/// Reads `{ anthropic = ["claude*"] }`: for which models a protocol is spoken.
fn models_only(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Vec<(At<Protocol>, Only)>> {
    let mut all = Vec::new();
    for (name, patterns) in reader.map(table, "models_only", patterns)? {
        match protocol_named(&name.value) {
            Ok(protocol) => all.push((
                At {
                    value: protocol,
                    place: name.place,
                },
                patterns.value,
            )),
            Err(wrong) => reader.mistakes.push(name.wrong(wrong)),
        }
    }
    Some(all)
}

fn patterns(value: &DeValue<'_>) -> Result<Only, Wrong> {
    let want = "a list of patterns over model ids, such as [\"claude*\"]";
    let list = value.as_array().ok_or_else(|| unlike(want, value))?;
    if list.is_empty() || list.len() > MOST {
        return Err(format!("must hold 1 to {MOST} patterns").into());
    }
    let mut patterns = Vec::new();
    for pattern in list.iter() {
        let pattern = text(pattern.get_ref())?;
        check_name(pattern.strip_prefix('!').unwrap_or(&pattern))?;
        patterns.push(pattern);
    }
    Ok(Only::new(patterns.iter().map(String::as_str)))
}

/// Reads `{ my-deployment = "gpt-5" }`: what the catalogue calls the provider's models.
fn known_as(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (name, known) in reader.map(table, "known_as", label)? {
        match check_name(&name.value) {
            Ok(()) => all.push((name.value, known.value)),
            Err(wrong) => reader.mistakes.push(name.wrong(wrong)),
        }
    }
    Some(all)
}

/// Reads what the provider can be asked for.
fn apis(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Vec<Api>> {
    let list = reader.one_or_list(table, "apis", |value| {
        let name = text(value)?;
        let found = Api::ALL.into_iter().find(|api| api.name() == name);
        found.ok_or_else(|| {
            let known = Api::ALL.map(Api::name);
            Wrong::suggest(
                format!("must be one of {}", known.join(", ")),
                nearest(&name, known).map(quoted),
            )
        })
    })?;
    Some(list.value.into_iter().map(|at| at.value).collect())
}

fn health(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Health> {
    let table = reader.table(table, "health", "providers.*.health")?;
    let mut health = Health {
        path: reader.get(&table, "path", units::path).map(|at| at.value),
        ..Health::default()
    };
    if let Some(list) = reader.one_or_list(&table, "expect", statuses) {
        if list.value.is_empty() {
            reader.mistakes.push(list.place.wrong("must not be empty"));
        }
        health.expect = list.value.into_iter().map(|at| at.value).collect();
    }
    if let Some(every) = reader.get(&table, "every", units::duration) {
        health.every = every.value;
    }
    if let Some(timeout) = reader.get(&table, "timeout", units::duration) {
        health.timeout = timeout.value;
    }
    let mut count = |key, default| {
        reader
            .get(&table, key, whole(1..=100))
            .map_or(default, |at| at.value as usize)
    };
    health.unhealthy_after = count("unhealthy_after", health.unhealthy_after);
    health.healthy_after = count("healthy_after", health.healthy_after);
    Some(health)
}

/// Reads `200` or `"2xx"`: the first status and the last.
fn statuses(value: &DeValue<'_>) -> Result<(u16, u16), Wrong> {
    let Some(written) = value.as_str() else {
        let status = whole(100..=599)(value)? as u16;
        return Ok((status, status));
    };
    if let Some(class) = written.to_ascii_lowercase().strip_suffix("xx")
        && let Ok(class @ 1..=5) = class.parse::<u16>()
    {
        return Ok((class * 100, class * 100 + 99));
    }
    let meant = written.parse::<u16>().ok();
    let meant = meant.filter(|status| (100..=599).contains(status));
    Err(Wrong::suggest(
        "must be a status such as 200, or a class of them such as \"2xx\"",
        meant.map(|status| status.to_string()),
    ))
}

/// Reads the `timeouts` table of a provider or a model.
pub(super) fn timeouts(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    section: &'static str,
) -> TimeoutOverrides {
    let Some(table) = reader.table(table, "timeouts", section) else {
        return TimeoutOverrides::default();
    };
    let mut timer = |key| reader.get(&table, key, units::duration).map(|at| at.value);
    TimeoutOverrides {
        connect: timer("connect"),
        first_byte: timer("first_byte"),
        idle: timer("idle"),
        total: timer("total"),
    }
}

fn quirks(reader: &mut Reader<'_>, table: &Table<'_>) -> WrittenQuirks {
    let Some(table) = reader.table(table, "quirks", "providers.*.quirks") else {
        return WrittenQuirks::default();
    };
    fn pairs<T>(map: Vec<(At<String>, At<T>)>) -> Vec<(String, T)> {
        map.into_iter()
            .map(|(name, value)| (name.value, value.value))
            .collect()
    }
    WrittenQuirks {
        drop: reader
            .list(&table, "drop", field)
            .map(|list| list.value.into_iter().map(|at| at.value).collect()),
        rename: reader.map(&table, "rename", field).map(pairs),
        set: reader.map(&table, "set", json).map(pairs),
        clamp: reader.map(&table, "clamp", number).map(pairs),
        developer_role: reader
            .get(&table, "developer_role", truth)
            .map(|at| at.value),
        max_completion_tokens: reader
            .get(&table, "max_completion_tokens", truth)
            .map(|at| at.value),
        stream_options: reader
            .get(&table, "stream_options", truth)
            .map(|at| at.value),
        prefill: reader
            .get(&table, "prefill", super::continuation::prefill)
            .map(|at| at.value),
    }
}

/// Reads USD for 1,000,000 tokens, by kind of token.
fn price(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Rates> {
    let table = reader.table(table, "price", "providers.*.price")?;
    let mut prices = Vec::new();
    for name in Token::NAMES {
        // Every other kind falls back to one of these two.
        if matches!(name, "in" | "out") && !table.has(name) {
            reader
                .mistakes
                .push(table.place.missing(name).wrong("must be given"));
        }
        prices.extend(
            reader
                .get(&table, name, number)
                .map(|usd| (name, usd.value)),
        );
    }
    match Rates::from_usd_per_million(prices) {
        Ok(rates) => Some(rates),
        Err(message) => {
            reader.mistakes.push(table.place.wrong(message));
            None
        }
    }
}

/// Reads the name of a request's field.
fn field(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = value
        .as_str()
        .ok_or_else(|| unlike("the name of a field", value))?;
    check_name(name)?;
    if ["model", "messages", "stream"].contains(&name) {
        return Err(format!("{name} is written by the gateway, and can't be edited").into());
    }
    Ok(name.to_string())
}
