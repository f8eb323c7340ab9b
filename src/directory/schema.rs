//! What each kind of object has: one table, by which bodies are checked and from which the API's document is made.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::role::Role;
use crate::access::Net;
use crate::limit::budget::Every;
use crate::protocol::usage::decimal;
use crate::routing::rules::ENDPOINTS;

/// What the directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Organisation,
    Team,
    Project,
    User,
    Key,
    Policy,
    Limit,
    Budget,
    Credential,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::Organisation,
        Kind::Team,
        Kind::Project,
        Kind::User,
        Kind::Key,
        Kind::Policy,
        Kind::Limit,
        Kind::Budget,
        Kind::Credential,
    ];

    /// Returns the name that the database and the API use for one.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Organisation => "organisation",
            Kind::Team => "team",
            Kind::Project => "project",
            Kind::User => "user",
            Kind::Key => "key",
            Kind::Policy => "policy",
            Kind::Limit => "limit",
            Kind::Budget => "budget",
            Kind::Credential => "credential",
        }
    }

    /// Returns the last part of the path of its collection.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Organisation => "organisations",
            Kind::Team => "teams",
            Kind::Project => "projects",
            Kind::User => "users",
            Kind::Key => "keys",
            Kind::Policy => "policies",
            Kind::Limit => "limits",
            Kind::Budget => "budgets",
            Kind::Credential => "credentials",
        }
    }

    /// Returns what its ids begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Organisation => "org_",
            Kind::Team => "team_",
            Kind::Project => "proj_",
            Kind::User => "user_",
            Kind::Key => "key_",
            Kind::Policy => "pol_",
            Kind::Limit => "lim_",
            Kind::Budget => "bud_",
            Kind::Credential => "cred_",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the kind of the object that has this id.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| id.starts_with(kind.prefix()))
    }

    /// Returns the field that names what it belongs to, and what that may be.
    pub fn parent(self) -> Option<(&'static str, &'static [Kind])> {
        match self {
            Kind::Organisation | Kind::Credential => None,
            Kind::Team | Kind::User => Some(("organisation", &[Kind::Organisation])),
            Kind::Project => Some(("team", &[Kind::Team])),
            Kind::Key => Some(("project", &[Kind::Project])),
            Kind::Policy | Kind::Limit | Kind::Budget => Some(("on", &LEVELS)),
        }
    }

    /// Returns whether it goes with what it is attached to, unasked.
    pub fn is_attached(self) -> bool {
        matches!(self, Kind::Policy | Kind::Limit | Kind::Budget)
    }

    pub fn fields(self) -> &'static [Field] {
        match self {
            Kind::Organisation => &ORGANISATION,
            Kind::Team => &TEAM,
            Kind::Project => &PROJECT,
            Kind::User => &USER,
            Kind::Key => &KEY,
            Kind::Policy => &POLICY,
            Kind::Limit => &LIMIT,
            Kind::Budget => &BUDGET,
            Kind::Credential => &CREDENTIAL,
        }
    }
}

/// What rules, limits and budgets may be attached to.
pub const LEVELS: [Kind; 5] = [
    Kind::Organisation,
    Kind::Team,
    Kind::Project,
    Kind::User,
    Kind::Key,
];

/// One field of a body.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub of: Type,
    pub required: bool,
    /// It can't be changed later.
    pub fixed: bool,
    pub note: &'static str,
}

#[derive(Debug)]
pub enum Type {
    /// 1 to 200 characters that show.
    Text,
    /// Stored sealed, and never shown.
    Secret,
    Id(&'static [Kind]),
    Truth,
    /// RFC 3339.
    Time,
    Usd,
    /// USD for a million tokens.
    Price,
    Whole(u64),
    OneOf(&'static [&'static str]),
    /// Over names; `*` and `?`.
    Pattern,
    Region,
    Net,
    Zone,
    List(&'static Type),
    Table(&'static [Field]),
}

const MOST_TEXT: usize = 200;
const MOST_SECRET: usize = 16 << 10;
const MOST_ITEMS: usize = 1000;
const MOST_USD: f64 = 1_000_000.0;

const fn field(name: &'static str, of: Type, note: &'static str) -> Field {
    Field {
        name,
        of,
        required: false,
        fixed: false,
        note,
    }
}

const fn needed(name: &'static str, of: Type, note: &'static str) -> Field {
    Field {
        required: true,
        ..field(name, of, note)
    }
}

const fn fixed(name: &'static str, of: Type, note: &'static str) -> Field {
    Field {
        fixed: true,
        ..needed(name, of, note)
    }
}

const NAME: Field = needed("name", Type::Text, "Unique in what it belongs to");
const LABEL: Field = field(
    "name",
    Type::Text,
    "Unique on what it is attached to; the id when left out",
);
const ON: Field = fixed("on", Type::Id(&LEVELS), "What it is attached to");

static ORGANISATION: [Field; 1] = [NAME];
static TEAM: [Field; 2] = [
    fixed(
        "organisation",
        Type::Id(&[Kind::Organisation]),
        "What it belongs to",
    ),
    NAME,
];
static PROJECT: [Field; 2] = [
    fixed("team", Type::Id(&[Kind::Team]), "What it belongs to"),
    NAME,
];
static USER: [Field; 5] = [
    fixed(
        "organisation",
        Type::Id(&[Kind::Organisation]),
        "What they belong to",
    ),
    NAME,
    field("email", Type::Text, "For people to know them by"),
    field(
        "disabled",
        Type::Truth,
        "Their token and their keys are refused",
    ),
    field(
        "roles",
        Type::List(&Type::Table(&MEMBERSHIP)),
        "What they may do, and where: there and in all that belongs to it",
    ),
];
static MEMBERSHIP: [Field; 2] = [
    needed("role", Type::OneOf(&Role::NAMES), "What they may do"),
    needed(
        "of",
        Type::Id(&[Kind::Organisation, Kind::Team, Kind::Project]),
        "Where",
    ),
];
static KEY: [Field; 6] = [
    fixed("project", Type::Id(&[Kind::Project]), "What it belongs to"),
    NAME,
    Field {
        required: false,
        ..fixed(
            "user",
            Type::Id(&[Kind::User]),
            "Whose it is: their rules, limits and budgets hold too",
        )
    },
    field("expires", Type::Time, "It is refused from then on"),
    field("disabled", Type::Truth, "It is refused"),
    field(
        "explain",
        Type::Truth,
        "It may ask why a request went where it went",
    ),
];
static POLICY: [Field; 7] = [
    ON,
    LABEL,
    field(
        "allow",
        Type::Table(&ALLOW),
        "Of each kind: nothing else. Lists of one level unite; levels narrow each other",
    ),
    field("deny", Type::Table(&DENY), "Denied, whatever is allowed"),
    field(
        "max_price",
        Type::Table(&CEILING),
        "A provider that costs more is not asked; the lowest of one level holds",
    ),
    field(
        "no_training",
        Type::Truth,
        "Only providers known not to train on what they are sent",
    ),
    field(
        "zero_retention",
        Type::Truth,
        "Only providers known to keep nothing",
    ),
];
static ALLOW: [Field; 5] = [
    field(
        "models",
        Type::List(&Type::Pattern),
        "Names, as clients write them and as fallbacks have them",
    ),
    field(
        "providers",
        Type::List(&Type::Pattern),
        "Providers, or provider/model",
    ),
    field(
        "endpoints",
        Type::List(&Type::OneOf(&ENDPOINTS)),
        "Names, as records have them",
    ),
    field(
        "regions",
        Type::List(&Type::Region),
        "Where it may be processed",
    ),
    field(
        "addresses",
        Type::List(&Type::Net),
        "Where clients may be: addresses, or ranges such as 10.0.0.0/8",
    ),
];
static DENY: [Field; 4] = [
    field(
        "models",
        Type::List(&Type::Pattern),
        "Names, as clients write them and as fallbacks have them",
    ),
    field(
        "providers",
        Type::List(&Type::Pattern),
        "Providers, or provider/model",
    ),
    field(
        "endpoints",
        Type::List(&Type::OneOf(&ENDPOINTS)),
        "Names, as records have them",
    ),
    field(
        "addresses",
        Type::List(&Type::Net),
        "Where clients may not be",
    ),
];
static CEILING: [Field; 2] = [
    field("in", Type::Price, "USD for a million tokens of input"),
    field("out", Type::Price, "USD for a million tokens of output"),
];
static LIMIT: [Field; 7] = [
    ON,
    LABEL,
    field("rpm", Type::Whole(u32::MAX as u64), "Requests a minute"),
    field("tpm", Type::Whole(MOST_WHOLE), "Tokens a minute"),
    field("rpd", Type::Whole(MOST_WHOLE), "Requests a day"),
    field("tpd", Type::Whole(MOST_WHOLE), "Tokens a day"),
    field(
        "concurrent",
        Type::Whole(u32::MAX as u64),
        "Requests at a time",
    ),
];
/// What a double holds exactly, so that every JSON reader does.
const MOST_WHOLE: u64 = (1 << 53) - 1;
static BUDGET: [Field; 6] = [
    ON,
    LABEL,
    needed("usd", Type::Usd, "How much may be spent"),
    needed("every", Type::OneOf(&EVERY), "Over what time"),
    field(
        "rolling",
        Type::Truth,
        "The last such time, instead of the calendar's",
    ),
    field(
        "timezone",
        Type::Zone,
        "Where days begin; UTC when left out",
    ),
];
const EVERY: [&str; 5] = ["ever", "hour", "day", "week", "month"];
static CREDENTIAL: [Field; 4] = [
    fixed(
        "provider",
        Type::Text,
        "A provider that is enabled, by name",
    ),
    NAME,
    needed(
        "key",
        Type::Secret,
        "What the provider is shown; never read back",
    ),
    field(
        "weight",
        Type::Whole(1_000_000),
        "Its share among the provider's; 1 when left out",
    ),
];

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
        Kind::Limit if !has(&["rpm", "tpm", "rpd", "tpd", "concurrent"]) => Err(wrong(
            "rpm",
            "must be given, or one of tpm, rpd, tpd and concurrent",
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

impl Type {
    /// Returns the JSON schema that says the same.
    pub fn schema(&self) -> Value {
        match self {
            Type::Text => json!({"type": "string", "minLength": 1, "maxLength": MOST_TEXT,
                "pattern": r"^[^\s\u0000-\u001f\u007f-\u009f]([^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f])?$"}),
            Type::Secret => {
                json!({"type": "string", "minLength": 1, "maxLength": MOST_SECRET, "pattern": "^[ -~]+$", "writeOnly": true})
            }
            Type::Id(kinds) => {
                let prefixes: Vec<&str> = kinds.iter().map(|kind| kind.prefix()).collect();
                json!({"type": "string", "pattern": format!("^({})[0-9a-zA-Z]{{1,40}}$", prefixes.join("|"))})
            }
            Type::Truth => json!({"type": "boolean"}),
            Type::Time => json!({"type": "string", "format": "date-time"}),
            Type::Usd => json!({"type": "number", "minimum": 0.000_001, "maximum": MOST_USD}),
            Type::Price => json!({"type": "number", "minimum": 0, "maximum": MOST_USD}),
            Type::Whole(most) => json!({"type": "integer", "minimum": 1, "maximum": most}),
            Type::OneOf(names) => json!({"type": "string", "enum": names}),
            Type::Pattern => {
                json!({"type": "string", "minLength": 1, "maxLength": MOST_TEXT, "pattern": r"^[^\s\[\]{}\\!]+$"})
            }
            Type::Region => json!({"type": "string", "pattern": "^[a-z0-9-]{1,63}$"}),
            Type::Net => json!({"type": "string", "examples": ["10.0.0.0/8"]}),
            Type::Zone => json!({"type": "string", "examples": ["Europe/Berlin"]}),
            Type::List(of) => {
                json!({"type": "array", "minItems": 1, "maxItems": MOST_ITEMS, "items": of.schema()})
            }
            Type::Table(fields) => {
                let mut schema = object(fields, true, |_| true);
                if let Some(schema) = schema.as_object_mut() {
                    schema.insert("minProperties".into(), json!(1));
                }
                schema
            }
        }
    }
}

/// Returns the schema of an object with those of `fields` that are wanted.
pub fn object(fields: &[Field], new: bool, wanted: impl Fn(&Field) -> bool) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields.iter().filter(|field| wanted(field)) {
        let mut schema = field.of.schema();
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".into(), field.note.into());
        }
        if new && field.required {
            required.push(field.name);
        }
        properties.insert(field.name.into(), schema);
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_is_named_to_the_last_element() {
        for (kind, given, field) in [
            (Kind::Organisation, json!({}), "name"),
            (Kind::Organisation, json!({"name": ""}), "name"),
            (Kind::Organisation, json!({"name": " a"}), "name"),
            (Kind::Organisation, json!({"name": "a\nb"}), "name"),
            (Kind::Organisation, json!({"name": 5}), "name"),
            (Kind::Organisation, json!({"name": "a", "nam": 1}), "nam"),
            (Kind::Team, json!({"name": "a"}), "organisation"),
            (
                Kind::Team,
                json!({"name": "a", "organisation": "team_1"}),
                "organisation",
            ),
            (
                Kind::Team,
                json!({"name": "a", "organisation": "org_'; DROP"}),
                "organisation",
            ),
            (
                Kind::Key,
                json!({"name": "a", "project": "proj_1", "expires": "soon"}),
                "expires",
            ),
            (
                Kind::User,
                json!({"name": "a", "organisation": "org_1", "roles": [{"role": "king", "of": "org_1"}]}),
                "roles[0].role",
            ),
            (
                Kind::User,
                json!({"name": "a", "organisation": "org_1", "roles": [{"role": "owner"}]}),
                "roles[0].of",
            ),
            (Kind::Policy, json!({"on": "key_1"}), "allow"),
            (Kind::Policy, json!({"on": "key_1", "allow": {}}), "allow"),
            (
                Kind::Policy,
                json!({"on": "key_1", "allow": {"models": []}}),
                "allow.models",
            ),
            (
                Kind::Policy,
                json!({"on": "key_1", "allow": {"models": ["a", "**"]}}),
                "allow.models[1]",
            ),
            (
                Kind::Policy,
                json!({"on": "key_1", "deny": {"addresses": ["10.0.0.0/99"]}}),
                "deny.addresses[0]",
            ),
            (
                Kind::Policy,
                json!({"on": "key_1", "max_price": {"in": -1}}),
                "max_price.in",
            ),
            (Kind::Limit, json!({"on": "org_1"}), "rpm"),
            (Kind::Limit, json!({"on": "org_1", "rpm": 0}), "rpm"),
            (Kind::Limit, json!({"on": "org_1", "rpm": 1.5}), "rpm"),
            (
                Kind::Budget,
                json!({"on": "org_1", "usd": 0, "every": "day"}),
                "usd",
            ),
            (
                Kind::Budget,
                json!({"on": "org_1", "usd": 1, "every": "year"}),
                "every",
            ),
            (
                Kind::Budget,
                json!({"on": "org_1", "usd": 1, "every": "ever", "rolling": true}),
                "rolling",
            ),
            (
                Kind::Budget,
                json!({"on": "org_1", "usd": 1, "every": "day", "timezone": "../../etc/passwd"}),
                "timezone",
            ),
            (
                Kind::Credential,
                json!({"provider": "openai", "name": "a", "key": "a\r\nb"}),
                "key",
            ),
        ] {
            let wrong = check_new(kind, &body(given.clone())).expect_err("it is wrong");
            assert_eq!(wrong.field, field, "{given}: {}", wrong.message);
        }
    }

    #[test]
    fn what_is_right_is_taken() {
        for (kind, given) in [
            (Kind::Organisation, json!({"name": "Acme – Köln"})),
            (
                Kind::User,
                json!({"name": "a", "organisation": "org_1", "roles": [{"role": "owner", "of": "org_1"}]}),
            ),
            (
                Kind::Key,
                json!({"name": "a", "project": "proj_1", "user": "user_1", "expires": "2030-01-01T00:00:00Z"}),
            ),
            (
                Kind::Policy,
                json!({"on": "key_1", "allow": {"models": ["gpt-*"], "regions": ["eu"]}, "max_price": {"in": 0.25}}),
            ),
            (
                Kind::Budget,
                json!({"on": "user_1", "usd": 0.5, "every": "month", "timezone": "UTC"}),
            ),
        ] {
            assert_eq!(check_new(kind, &body(given.clone())), Ok(()), "{given}");
        }
    }

    #[test]
    fn a_change_is_merged_and_nothing_fixed_is_changed() {
        let before =
            body(json!({"project": "proj_1", "name": "a", "expires": "2030-01-01T00:00:00Z"}));
        let after = change(
            Kind::Key,
            before.clone(),
            &body(json!({"name": "b", "expires": null, "disabled": true, "project": "proj_1"})),
        );
        let wanted = body(json!({"project": "proj_1", "name": "b", "disabled": true}));
        assert_eq!(after, Ok(wanted));
        for (given, field) in [
            (json!({"project": "proj_2"}), "project"),
            (json!({"name": null}), "name"),
            (json!({"user": "user_1"}), "user"),
        ] {
            let wrong = change(Kind::Key, before.clone(), &body(given)).expect_err("it is fixed");
            assert_eq!(wrong.field, field);
        }
    }
}
