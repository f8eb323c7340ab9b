//! `[[rules]]`: expressions are compiled and checked here, with the file, so that none is wrong when a request comes.

use std::collections::{HashMap, HashSet};

use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::link::{MOST_SUGGESTIONS, Providers};
use super::mistake::{At, Mistake, Place, Wrong, nearest, quoted};
use super::provider::{self, required};
use super::read::{Reader, Table, text};
use crate::provider::TimeoutOverrides;
use crate::routing::rules::{self, Expression, MOST_RULES, Meant, Rule, Rules, Verdict};

/// The longest name, and the longest message, in bytes.
const MOST_NAME: usize = 100;
const MOST_MESSAGE: usize = 500;

/// A `[[rules]]` table: what it uses isn't looked up yet.
pub(super) struct Written {
    name: String,
    place: Place,
    source: String,
    when: At<Expression>,
    zone: Option<At<(String, TimeZone)>>,
    used: Option<At<String>>,
    deny: Option<String>,
    timeouts: TimeoutOverrides,
}

pub(super) fn rules(reader: &mut Reader<'_>, root: &Table<'_>) -> Vec<Written> {
    let Some(elements) = reader.elements(root, "rules", "an array of tables ([[rules]])") else {
        return Vec::new();
    };
    if elements.value.len() > MOST_RULES {
        let wrong = format!("must be at most {MOST_RULES} rules");
        reader.mistakes.push(elements.place.wrong(wrong));
        return Vec::new();
    }
    let mut all = Vec::new();
    let mut names = HashSet::new();
    for (index, (value, place)) in elements.value.into_iter().enumerate() {
        let Some(table) = reader.open(value, place, "rules[]") else {
            continue;
        };
        let name = reader.get(&table, "name", label);
        let given = name.as_ref().map(|name| name.value.clone());
        let rule = rule(
            reader,
            &table,
            given.unwrap_or_else(|| format!("rule {}", index + 1)),
        );
        if let Some(name) = name
            && !names.insert(name.value.clone())
        {
            reader.mistakes.push(name.wrong("the name is given twice"));
        }
        all.extend(rule);
    }
    all
}

fn rule(reader: &mut Reader<'_>, table: &Table<'_>, name: String) -> Option<Written> {
    let when = required(reader, table, "when", |value| {
        let source = text(value)?;
        let when = rules::compile(&source).map_err(wrong)?;
        Ok((source, when))
    });
    let used = reader.get(table, "use", text);
    let deny = reader.get(table, "deny", message);
    let timeouts = provider::timeouts(reader, table, "rules[].timeouts");
    let zone = reader.get(table, "timezone", zone);
    let is_timed = table.has("timeouts");
    if let Some(deny) = deny.as_ref().filter(|_| used.is_some() || is_timed) {
        let wrong = "can't stand beside use or timeouts: what is refused goes nowhere";
        reader.mistakes.push(deny.wrong(wrong));
    }
    if !["use", "deny", "timeouts"].iter().any(|key| table.has(key)) {
        let wrong = "must say what is done: use, deny or timeouts";
        reader.mistakes.push(table.place.wrong(wrong));
    }
    let At { value, place } = when?;
    let (source, when) = value;
    Some(Written {
        name,
        place: table.place.clone(),
        source,
        when: At { value: when, place },
        zone,
        used,
        deny: deny.map(|deny| deny.value),
        timeouts,
    })
}

fn wrong(fault: rules::Fault) -> Wrong {
    let suggestion = match fault.meant {
        Meant::Unknown => None,
        Meant::This(meant) => Some(meant),
        Meant::Nearest {
            name,
            of,
            quoted: in_quotes,
        } => nearest(&name, of).map(|meant| {
            if in_quotes {
                quoted(meant)
            } else {
                meant.to_owned()
            }
        }),
    };
    Wrong::suggest(fault.message, suggestion)
}

fn label(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = text(value)?;
    if name.trim().is_empty() || name.len() > MOST_NAME || name.contains(char::is_control) {
        return Err(
            format!("must have 1 to {MOST_NAME} bytes, none of them a control character").into(),
        );
    }
    Ok(name)
}

fn message(value: &DeValue<'_>) -> Result<String, Wrong> {
    let message = text(value)?;
    if message.trim().is_empty() || message.len() > MOST_MESSAGE {
        return Err(format!("must be a message of 1 to {MOST_MESSAGE} bytes").into());
    }
    Ok(message)
}

pub(super) fn zone(value: &DeValue<'_>) -> Result<(String, TimeZone), Wrong> {
    let name = text(value)?;
    if name.eq_ignore_ascii_case("utc") {
        return Ok((name, TimeZone::UTC));
    }
    match TimeZone::get(&name) {
        Ok(zone) => Ok((name, zone)),
        Err(_) => {
            let message =
                "is no time zone that this machine knows, such as \"Europe/Berlin\" or \"UTC\"";
            let near = jiff::tz::db().available();
            let near: Vec<String> = near.map(|known| known.to_string()).collect();
            let meant = nearest(&name, near.iter().map(String::as_str));
            Err(Wrong::suggest(message, meant.map(quoted)))
        }
    }
}

/// Looks up what the rules use, and warns of those that never come to be asked.
pub(super) fn link(
    written: Vec<Written>,
    models: &HashSet<String>,
    keys: &[String],
    providers: &Providers,
    mistakes: &mut Vec<Mistake>,
    warnings: &mut Vec<Mistake>,
) -> Rules {
    let mut always: Option<String> = None;
    let mut seen: HashMap<(String, String), String> = HashMap::new();
    let mut all = Vec::with_capacity(written.len());
    for rule in written {
        if let Some(used) = &rule.used {
            let suggest = mistakes.len() < MOST_SUGGESTIONS;
            if let Err(wrong) = check_used(&used.value, models, providers, suggest) {
                mistakes.push(used.wrong(wrong));
            }
        }
        if let Some(first) = &always {
            let wrong = format!("is never asked: {first:?} before it is about every request");
            warnings.push(rule.place.wrong(wrong));
        }
        let (zone_name, zone) = match rule.zone {
            Some(zone) => zone.value,
            None => (String::new(), TimeZone::UTC),
        };
        let condition = (rule.source.trim().to_owned(), zone_name);
        if let Some(first) = seen.get(&condition) {
            let wrong = format!("is never met: {first:?} before it has the same condition");
            warnings.push(rule.when.wrong(wrong));
        }
        seen.entry(condition).or_insert_with(|| rule.name.clone());
        match rule.when.value.constant() {
            Some(true) => always = always.or_else(|| Some(rule.name.clone())),
            Some(false) => {
                warnings.push(rule.when.wrong("is about no request: it is always false"))
            }
            None => {}
        }
        for key in &rule.when.value.keys {
            if !key.is_empty() && !keys.contains(key) {
                let meant = nearest(key, keys.iter().map(String::as_str));
                let wrong = Wrong::suggest(format!("there is no key {key:?}"), meant.map(quoted));
                warnings.push(rule.when.wrong(wrong));
            }
        }
        let verdict = match (rule.deny, rule.used) {
            (Some(message), _) => Verdict::Deny(message.into()),
            (None, Some(used)) => Verdict::Use(used.value.into()),
            (None, None) => Verdict::Keep,
        };
        all.push(Rule::new(
            rule.name,
            rule.when.value,
            zone,
            verdict,
            rule.timeouts,
        ));
    }
    Rules::new(all)
}

fn check_used(
    name: &str,
    models: &HashSet<String>,
    providers: &Providers,
    suggest: bool,
) -> Result<(), Wrong> {
    if models.contains(name) {
        return Ok(());
    }
    if name.contains('/') {
        return providers.target(name, suggest).map(|_| ());
    }
    let meant = nearest(name, models.iter().map(String::as_str)).filter(|_| suggest);
    Err(Wrong::suggest(
        "is neither a [models] name nor provider/model",
        meant.map(quoted),
    ))
}
