//! Bodies held against the table of fields.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Field, Kind, MOST_ITEMS, MOST_SECRET, MOST_TEXT, MOST_USD, Type};
use crate::access::Net;
use crate::limit::Which;
use crate::limit::budget::Every;
use crate::protocol::usage::decimal;

/// What is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The field at fault, as `allow.models[2]`.
    pub field: String,
    pub message: String,
}

/// Checks the body of a new object.
pub fn check_new(kind: Kind, body: &Map<String, Value>) -> Result<(), Wrong> {
    check_table(kind.fields(), body, "", true)?;
    check_whole(kind, body)
}

/// Merges the body of a change into what was there: `null` takes away. Errors say what is wrong with the outcome.
pub fn change(
    kind: Kind,
    mut before: Map<String, Value>,
    change: &Map<String, Value>,
) -> Result<Map<String, Value>, Wrong> {
    check_table(kind.fields(), change, "", false)?;
    for (name, value) in change {
        let known = kind.fields().iter().find(|field| field.name == name);
        let Some(field) = known else { continue };
        if field.fixed && before.get(name) != Some(value) {
            return Err(wrong(name, "can't be changed"));
        }
        match (value, field.required) {
            (Value::Null, true) => return Err(wrong(name, "can't be taken away")),
            (Value::Null, false) => {
                before.remove(name);
            }
            _ => {
                before.insert(name.clone(), value.clone());
            }
        }
    }
    check_whole(kind, &before)?;
    Ok(before)
}

/// What only several fields together show.
fn check_whole(kind: Kind, body: &Map<String, Value>) -> Result<(), Wrong> {
    let has = |names: &[&str]| names.iter().any(|name| body.contains_key(*name));
    match kind {
        Kind::Limit if !Which::ALL.iter().any(|which| has(&[which.name()])) => {
            let others = Which::ALL.map(Which::name);
            let others = others[1..].join(", ");
            Err(wrong("rpm", format!("must be given, or one of {others}")))
        }
        Kind::Budget if has(&["end_user"]) && has(&["tag"]) => Err(wrong(
            "tag",
            "is for another budget: one is an end user's or a tag's",
        )),
        Kind::Policy
            if !has(&[
                "allow",
                "deny",
                "max_price",
                "no_training",
                "zero_retention",
            ]) =>
        {
            Err(wrong(
                "allow",
                "must be given, or one of deny, max_price, no_training and zero_retention",
            ))
        }
        Kind::Budget
            if body.get("every") == Some(&json!("ever"))
                && body.get("rolling") == Some(&json!(true)) =>
        {
            Err(wrong(
                "rolling",
                "has no meaning for a budget that is given once",
            ))
        }
        Kind::Organisation
        | Kind::Team
        | Kind::Project
        | Kind::User
        | Kind::Key
        | Kind::Policy
        | Kind::Limit
        | Kind::Budget
        | Kind::Credential => Ok(()),
    }
}

fn wrong(field: &str, message: impl Into<String>) -> Wrong {
    Wrong {
        field: field.to_owned(),
        message: message.into(),
    }
}

fn check_table(
    fields: &'static [Field],
    body: &Map<String, Value>,
    at: &str,
    new: bool,
) -> Result<(), Wrong> {
    let place = |name: &str| {
        let shown: String = name.chars().take(60).collect();
        match at {
            "" => shown,
            at => format!("{at}.{shown}"),
        }
    };
    for (name, value) in body {
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
            let message = format!("is unknown; known are {}", known.join(", "));
            return Err(wrong(&place(name), message));
        };
        if value.is_null() && !new {
            continue;
        }
        check(&field.of, value, &place(name))?;
    }
    if new {
        let missing = |field: &&Field| field.required && !body.contains_key(field.name);
        if let Some(missing) = fields.iter().find(missing) {
            return Err(wrong(&place(missing.name), "must be given"));
        }
    }
    Ok(())
}

fn check(of: &'static Type, value: &Value, at: &str) -> Result<(), Wrong> {
    let must = |message: &str| Err(wrong(at, format!("must be {message}")));
    let text = |most: usize| {
        let fits = |text: &&str| {
            (1..=most).contains(&text.chars().count()) && !text.contains(char::is_control)
        };
        value.as_str().filter(fits)
    };
    match of {
        Type::Text if text(MOST_TEXT).is_none_or(|text| text.trim() != text) => must(
            "1 to 200 characters, none of which is a control character, without spaces around them",
        ),
        // It travels in a header, or is a file: a line break is for the provider to refuse.
        Type::Secret => match value.as_str() {
            Some(text)
                if (1..=MOST_SECRET).contains(&text.len())
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_graphic() || byte == b' ') =>
            {
                Ok(())
            }
            _ => must("a text of characters that a header can hold"),
        },
        Type::Id(kinds) => {
            let fits = |id: &str| {
                let kind = kinds.iter().find(|kind| id.starts_with(kind.prefix()));
                kind.is_some_and(|kind| {
                    let rest = id.get(kind.prefix().len()..).unwrap_or_default();
                    (1..=40).contains(&rest.len())
                        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
                })
            };
            if value.as_str().is_some_and(fits) {
                return Ok(());
            }
            let names: Vec<String> = kinds
                .iter()
                .map(|kind| format!("{} ({}…)", kind.name(), kind.prefix()))
                .collect();
            must(&format!("the id of one of: {}", names.join(", ")))
        }
        Type::Truth if !value.is_boolean() => must("true or false"),
        Type::Time if value.as_str().and_then(time).is_none() => {
            must("a time such as 2030-01-31T12:00:00Z")
        }
        Type::Usd
            if value
                .as_f64()
                .is_none_or(|usd| !(0.000_001..=MOST_USD).contains(&usd)) =>
        {
            must("USD, from 0.000001 to 1000000")
        }
        Type::Price if price(value).is_none() => {
            must("USD for 1,000,000 tokens, with at most six decimals")
        }
        Type::Whole(most)
            if value
                .as_u64()
                .is_none_or(|whole| !(1..=*most).contains(&whole)) =>
        {
            must(&format!("a whole number from 1 to {most}"))
        }
        Type::OneOf(names) if value.as_str().is_none_or(|name| !names.contains(&name)) => {
            must(&format!("one of {}", names.join(", ")))
        }
        Type::Pattern
            if text(MOST_TEXT).is_none_or(|pattern| {
                pattern.contains(['[', ']', '{', '}', '\\', '!'])
                    || pattern.contains("**")
                    || pattern.contains(char::is_whitespace)
            }) =>
        {
            must("a pattern over names, in which only * and ? are special")
        }
        Type::Region
            if value.as_str().is_none_or(|region| {
                !(1..=63).contains(&region.len())
                    || !region
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            }) =>
        {
            must("a region's name, such as eu, us or eu-central-1")
        }
        Type::Net if value.as_str().and_then(Net::read).is_none() => {
            must("an address, or a range such as 10.0.0.0/8")
        }
        Type::Zone if value.as_str().and_then(zone).is_none() => {
            must("a time zone such as Europe/Berlin")
        }
        Type::List(of) => match value.as_array() {
            // Empty would be read as "nothing" by one and as "everything" by another.
            Some(items) if (1..=MOST_ITEMS).contains(&items.len()) => {
                let mut items = items.iter().enumerate();
                items.try_for_each(|(index, item)| check(of, item, &format!("{at}[{index}]")))
            }
            _ => must(&format!(
                "a list of 1 to {MOST_ITEMS}; leave it out for none"
            )),
        },
        Type::Table(fields) => match value.as_object() {
            Some(table) if !table.is_empty() => check_table(fields, table, at, true),
            _ => must("an object that says something"),
        },
        Type::Text
        | Type::Truth
        | Type::Time
        | Type::Usd
        | Type::Price
        | Type::Whole(_)
        | Type::OneOf(_)
        | Type::Pattern
        | Type::Region
        | Type::Net
        | Type::Zone => Ok(()),
    }
}

/// Reads a time, in seconds since 1970.
pub fn time(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// Reads USD for a million tokens, in pico-dollars for one.
pub fn price(value: &Value) -> Option<u64> {
    // The shortest text that reads back as the same number is what was written.
    let usd = value
        .as_f64()
        .filter(|usd| (0.0..=MOST_USD).contains(usd))?;
    decimal(&usd.to_string(), 6)
}

/// Reads a time zone's name.
pub fn zone(name: &str) -> Option<jiff::tz::TimeZone> {
    match name {
        "UTC" => Some(jiff::tz::TimeZone::UTC),
        _ if name.len() > 64 || name.starts_with('/') || name.contains("..") => None,
        name => jiff::tz::TimeZone::get(name).ok(),
    }
}

/// Reads how often a budget is given.
pub fn every(name: &str) -> Option<Every> {
    let mut all = Every::ALL.into_iter();
    all.find(|(known, _)| *known == name)
        .map(|(_, every)| every)
}
