//! The `[catalogue]` table: what is said over the built-in catalogue, and what is done about its models.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::mistake::{At, Wrong, dotted, nearest, quoted};
use super::provider::check_name;
use super::read::{Parsed, Reader, Table, json, text};
use super::units;
use crate::provider::catalogue::{Address, Layer, Override, Settings, Unpriced};

/// More rows than this belong into a file.
const MOST_ROWS: usize = 10_000;

pub(super) fn catalogue(reader: &mut Reader<'_>, root: &Table<'_>) -> Settings {
    let mut settings = Settings::default();
    let Some(table) = reader.table(root, "catalogue", "catalogue") else {
        return settings;
    };
    if let Some(unpriced) = reader.get(&table, "unpriced", unpriced) {
        settings.policy.unpriced = unpriced.value;
    }
    for (from, to) in reader.map(&table, "retired", text).unwrap_or_default() {
        let wrong = check_name(&from.value)
            .err()
            .map(|wrong| from.wrong(wrong))
            .or_else(|| check_name(&to.value).err().map(|wrong| to.wrong(wrong)));
        match wrong {
            Some(mistake) => reader.mistakes.push(mistake),
            None if from.value == to.value => reader.mistakes.push(to.wrong("is itself")),
            None => {
                settings.policy.retired.insert(from.value, to.value);
            }
        }
    }
    if let Some(refresh) = reader.get(&table, "refresh", units::duration) {
        settings.refresh = refresh.value;
    }
    settings.url = reader.get(&table, "url", url).map(|at| at.value);
    if let Some(file) = reader.get(&table, "file", path) {
        match read_file(&file.value) {
            Ok(layer) => settings.file = Some(Arc::new(layer)),
            Err(wrong) => reader.mistakes.push(file.wrong(wrong)),
        }
    }
    settings.models = models(reader, &table);
    settings
}

fn unpriced(value: &DeValue<'_>) -> Parsed<Unpriced> {
    match text(value)?.as_str() {
        "allow" => Ok(Unpriced::Allow),
        "deny" => Ok(Unpriced::Deny),
        other => Err(Wrong::suggest(
            "must be \"allow\" or \"deny\"",
            nearest(other, ["allow", "deny"]).map(quoted),
        )),
    }
}

fn path(value: &DeValue<'_>) -> Parsed<PathBuf> {
    match text(value)?.as_str() {
        "" => Err("must name a file".into()),
        path => Ok(path.into()),
    }
}

/// Reads where the catalogue is fetched from. Prices decide over money: nobody on the way may change them.
fn url(value: &DeValue<'_>) -> Parsed<Address> {
    let written = text(value)?;
    let (base, query) = match written.split_once('?') {
        Some((base, query)) => (base, Some(query)),
        None => (written.as_str(), None),
    };
    let endpoint = units::read_url(base)?;
    let is_local = endpoint.host == "localhost"
        || endpoint
            .host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if !endpoint.tls && !is_local {
        return Err("must begin with https://, unless it is this machine's own".into());
    }
    let mut path = if endpoint.base_path.is_empty() {
        "/".to_owned()
    } else {
        endpoint.base_path.clone()
    };
    if let Some(query) = query {
        if !query.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err("the query of the URL must be of visible ASCII, without #".into());
        }
        path.push('?');
        path.push_str(query);
    }
    Ok(Address {
        endpoint,
        path,
        written,
    })
}

fn read_file(path: &Path) -> Result<Layer, String> {
    let most = Layer::MOST_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|error| format!("can't be read: {error}"))?;
    Layer::read(&bytes)
}

fn models(reader: &mut Reader<'_>, table: &Table<'_>) -> Vec<Override> {
    let want = "an array of tables ([[catalogue.models]])";
    let Some(elements) = reader.elements(table, "models", want) else {
        return Vec::new();
    };
    if elements.value.len() > MOST_ROWS {
        let message = format!("has more than {MOST_ROWS} models: name a file of them instead");
        reader.mistakes.push(elements.place.wrong(message));
        return Vec::new();
    }
    let mut models = Vec::new();
    let mut seen = HashSet::new();
    for (value, place) in elements.value {
        let Some(row) = reader.open(value, place, "catalogue.models[]") else {
            continue;
        };
        let mut name = |key: &'static str| -> Option<At<String>> {
            let found = reader.get(&row, key, text);
            if found.is_none() && !row.has(key) {
                let missing = row.place.missing(key).wrong("must be given");
                reader.mistakes.push(missing);
            }
            found
        };
        let (provider, id) = (name("provider"), name("id"));
        let (Some(provider), Some(id)) = (provider, id) else {
            continue;
        };
        if !seen.insert((provider.value.clone(), id.value.to_ascii_lowercase())) {
            reader.mistakes.push(id.wrong("the model is given twice"));
            continue;
        }
        let Some(map) = value.get_ref().as_table() else {
            continue;
        };
        let read = |with: &dyn Fn(&str) -> bool| {
            facts(map, with).and_then(|facts| Override::read(&provider.value, &id.value, &facts))
        };
        let wrong = match read(&|_| true) {
            Ok(model) => {
                models.push(model);
                continue;
            }
            Err(wrong) => wrong,
        };
        // Read as a whole, it doesn't say which key it is: the one that is wrong alone, or that the others do without.
        let is_guilty = |name: &str| read(&|one| one == name).is_err();
        let is_missed = |name: &str| read(&|one| one != name).is_ok();
        let key = None
            .or_else(|| map.keys().find(|key| is_guilty(key.get_ref())))
            .or_else(|| map.keys().find(|key| is_missed(key.get_ref())));
        let Some(key) = key else {
            reader.mistakes.push(row.place.wrong(understood(&wrong)));
            continue;
        };
        let name: &str = key.get_ref();
        let place = reader.place(key.span().start, dotted(&row.place.key, name));
        let alone = read(&|one| one == name).err().unwrap_or(wrong);
        reader.mistakes.push(place.wrong(understood(&alone)));
    }
    models
}

/// Returns what the reader of rows says in the words of mistakes, with what was probably meant.
fn understood(wrong: &str) -> Wrong {
    let Some((name, expected)) = wrong
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split_once('`'))
    else {
        return match wrong {
            "expected value" => "must be a word in quotes".into(),
            _ if wrong.starts_with("data did not match any variant") => {
                "must be a list of words in quotes".into()
            }
            other => other.into(),
        };
    };
    // Every other piece stands between backticks.
    let known = expected.split('`').skip(1).step_by(2);
    Wrong::suggest(format!("unknown key {name}"), nearest(name, known))
}

/// Returns the JSON of a row without its name, of the keys that are wanted.
fn facts(map: &DeTable<'_>, wanted: &dyn Fn(&str) -> bool) -> Result<String, String> {
    let mut out = String::from("{");
    for (key, value) in map {
        let name: &str = key.get_ref();
        if matches!(name, "provider" | "id") || !wanted(name) {
            continue;
        }
        let value = match value.get_ref() {
            // TOML has days of its own.
            DeValue::Datetime(day) => quoted(&day.to_string()),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                json(value.get_ref()).map_err(|wrong| format!("{name}: {}", wrong.message))?
            }
        };
        // An unknown key is reported already, and here again only when it is a name.
        let known = |key: &&str| {
            super::known::section("catalogue.models[]")
                .keys
                .contains(key)
        };
        if !known(&name) {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&format!("{}:{value}", quoted(name)));
    }
    out.push('}');
    Ok(out)
}
