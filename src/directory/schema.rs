//! What each kind of object has: one table, by which bodies are checked and from which the API's document is made.

mod check;

use serde_json::{Map, Value, json};

use super::role::Role;
use crate::access::Keep;
use crate::routing::rules::ENDPOINTS;
pub use check::{Wrong, change, check_new, every, price, time, zone};

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
const RETENTION: Field = field(
    "retention",
    Type::Table(&KEPT),
    "What the ledger keeps of its requests: the nearest that says so holds, a project before its team before its organisation",
);
const ON: Field = fixed("on", Type::Id(&LEVELS), "What it is attached to");

static ORGANISATION: [Field; 2] = [NAME, RETENTION];
static TEAM: [Field; 3] = [
    fixed(
        "organisation",
        Type::Id(&[Kind::Organisation]),
        "What it belongs to",
    ),
    NAME,
    RETENTION,
];
static PROJECT: [Field; 3] = [
    fixed("team", Type::Id(&[Kind::Team]), "What it belongs to"),
    NAME,
    RETENTION,
];
static KEPT: [Field; 2] = [
    needed(
        "keep",
        Type::OneOf(&Keep::NAMES),
        "none: amounts, and nothing of what the client said; metadata: all but what was said; bodies: that too",
    ),
    field(
        "days",
        Type::Whole(MOST_DAYS),
        "How long bodies are kept; as the configuration says when left out",
    ),
];
const MOST_DAYS: u64 = 3660;
static USER: [Field; 6] = [
    fixed(
        "organisation",
        Type::Id(&[Kind::Organisation]),
        "What they belong to",
    ),
    NAME,
    field("email", Type::Text, "For people to know them by"),
    field(
        "subject",
        Type::Text,
        "How the identity provider names them (`sub`): whoever signs in as that is this user; for operators to say",
    ),
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
static LIMIT: [Field; 12] = [
    ON,
    LABEL,
    field(
        "models",
        Type::List(&Type::Pattern),
        "Only requests for these are counted, together: by the name that clients write, or by that of whoever is asked",
    ),
    field("rpm", Type::Whole(u32::MAX as u64), "Requests a minute"),
    field("tpm", Type::Whole(MOST_WHOLE), "Tokens a minute"),
    field("rpd", Type::Whole(MOST_WHOLE), "Requests a day"),
    field("tpd", Type::Whole(MOST_WHOLE), "Tokens a day"),
    field(
        "images_per_minute",
        Type::Whole(u32::MAX as u64),
        "Images made in a minute",
    ),
    field(
        "images_per_day",
        Type::Whole(u32::MAX as u64),
        "Images made in a day",
    ),
    field(
        "audio_seconds_per_minute",
        Type::Whole(u32::MAX as u64),
        "Seconds of audio heard and spoken in a minute",
    ),
    field(
        "audio_seconds_per_day",
        Type::Whole(u32::MAX as u64),
        "Seconds of audio heard and spoken in a day",
    ),
    field(
        "concurrent",
        Type::Whole(u32::MAX as u64),
        "Requests at a time",
    ),
];
/// What a double holds exactly, so that every JSON reader does.
const MOST_WHOLE: u64 = (1 << 53) - 1;
static BUDGET: [Field; 8] = [
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
    field(
        "end_user",
        Type::Text,
        "For one end user of these requests, by name, or * for each that has none of their own",
    ),
    field(
        "tag",
        Type::Text,
        "For one tag of these requests, by name, or * for each that has none of its own",
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
#[path = "schema_tests.rs"]
mod tests;
