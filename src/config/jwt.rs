//! `[[jwt]]`: whose tokens are taken in place of keys, and what they stand for; and `[admin.oidc]`, who signs in people.

use std::collections::HashSet;
use std::time::Duration;

use toml::de::DeValue;

use super::Env;
use super::file::{glob, plain_limits};
use super::mistake::{At, Mistake, Wrong, nearest, quoted};
use super::provider::{label, required};
use super::read::{Reader, Table, text, unlike};
use super::secrets::{Reference, secret};
use super::units;
use crate::access::{Grant, KeySettings, To, TokenSettings};
use crate::directory::role::Role;
use crate::directory::schema::Kind;
use crate::jwt::{Address, Algorithm, Wanted, is_safe};
use crate::limit::Limits;
use crate::provider::account::Url;
use crate::signin;

/// Keys are fetched again after this, unless it is said.
const REFRESH: Duration = Duration::from_secs(3600);
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);
const LEEWAY: Duration = Duration::from_secs(30);
const LONGEST_LEEWAY: Duration = Duration::from_secs(300);
const SESSION: Duration = Duration::from_secs(8 * 3600);
const SHORTEST_SESSION: Duration = Duration::from_secs(60);
const LONGEST_SESSION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Issuers, what one of them is mapped to, and groups of people.
const MOST: usize = 1000;

/// A `[[jwt]]` table; the keys that it names aren't looked up yet.
pub(super) struct Written {
    settings: TokenSettings,
    keys: Vec<At<String>>,
}

/// Reads every `[[jwt]]` table.
pub(super) fn tokens(reader: &mut Reader<'_>, root: &Table<'_>) -> Vec<Written> {
    let Some(elements) = reader.elements(root, "jwt", "an array of tables ([[jwt]])") else {
        return Vec::new();
    };
    let mut all = Vec::new();
    let (mut names, mut issuers) = (HashSet::new(), HashSet::new());
    for (value, place) in elements.value.into_iter().take(MOST) {
        let Some(table) = reader.open(value, place, "jwt[]") else {
            continue;
        };
        let name = required(reader, &table, "name", label);
        let address = address(reader, &table);
        let audiences = listed(reader, &table, "audience", text);
        if audiences.is_empty() && !table.has("audience") {
            let place = table.place.missing("audience");
            let wrong = "must be given: what a token for this gateway has as `aud`";
            reader.mistakes.push(place.wrong(wrong));
        }
        let algorithms = algorithms(reader, &table);
        let required_claims = wanted(reader, &table, "required");
        let leeway = reader.get(&table, "leeway", between(Duration::ZERO, LONGEST_LEEWAY));
        let user = reader.get(&table, "user", text);
        let (grants, keys) = grants(reader, &table);
        let (Some(name), Some(address)) = (name, address) else {
            continue;
        };
        if !names.insert(name.value.clone()) {
            reader.mistakes.push(name.wrong("the name is given twice"));
        }
        if !issuers.insert(address.value.issuer.clone()) {
            let wrong = "the issuer is given twice: map its tokens in one table";
            reader.mistakes.push(address.wrong(wrong));
        }
        let user = user.map_or_else(|| "sub".to_owned(), |at| at.value);
        all.push(Written {
            settings: TokenSettings {
                name: name.value,
                address: address.value,
                audiences,
                algorithms,
                required: required_claims,
                leeway: leeway.map_or(LEEWAY, |at| at.value),
                user: (!user.is_empty()).then_some(user),
                grants,
            },
            keys,
        });
    }
    all
}

/// Looks up the keys that tokens stand for.
pub(super) fn link(
    written: Vec<Written>,
    keys: &[KeySettings],
    mistakes: &mut Vec<Mistake>,
) -> Vec<TokenSettings> {
    let names = || keys.iter().map(|key| key.name.as_str());
    let mut all = Vec::with_capacity(written.len());
    for one in written {
        for key in &one.keys {
            if !names().any(|name| name == key.value) {
                let meant = nearest(&key.value, names()).map(quoted);
                let wrong = Wrong::suggest("is not the name of one of [[keys]]", meant);
                mistakes.push(key.wrong(wrong));
            }
        }
        all.push(one.settings);
    }
    all
}

/// What tokens are mapped to, with the names of keys where they are written.
fn grants(reader: &mut Reader<'_>, table: &Table<'_>) -> (Vec<Grant>, Vec<At<String>>) {
    let (mut grants, mut keys) = (Vec::new(), Vec::new());
    let want = "an array of tables ([[jwt.map]])";
    let Some(elements) = reader.elements(table, "map", want) else {
        if !table.has("map") {
            let wrong = "must be given: without [[jwt.map]] no token gives anything";
            reader
                .mistakes
                .push(table.place.missing("map").wrong(wrong));
        }
        return (grants, keys);
    };
    for (value, place) in elements.value.into_iter().take(MOST) {
        let Some(table) = reader.open(value, place, "jwt[].map[]") else {
            continue;
        };
        let when = wanted(reader, &table, "when");
        let key = reader.get(&table, "key", label);
        let place = reader.get(&table, "place", place_id);
        let claim = reader.get(&table, "place_claim", text);
        let limits = reader.table(&table, "limits", "jwt[].map[].limits");
        let limits = limits.map_or_else(Limits::default, |table| plain_limits(reader, &table));
        let budgets = super::budget::budgets_of(reader, &table, "jwt[].map[].budget");
        // Whoever shows the token is the end user.
        let (budgets, _) = super::budget::split(budgets, "");
        let given = ["key", "place", "place_claim"];
        let count = given.iter().filter(|name| table.has(name)).count();
        if count != 1 {
            let wrong = "one of key, place and place_claim must be given, and only one";
            reader.mistakes.push(table.place.wrong(wrong));
            continue;
        }
        let to = match (key, place, claim) {
            (Some(key), _, _) => {
                let to = To::Key(key.value.clone());
                keys.push(key);
                to
            }
            (_, Some(place), _) => To::Place(place.value),
            (_, _, Some(claim)) => To::PlaceIn(claim.value),
            (None, None, None) => continue,
        };
        grants.push(Grant {
            when,
            to,
            limits,
            budgets,
        });
    }
    (grants, keys)
}

/// The `[admin.oidc]` table: its secret isn't fetched yet.
pub(super) struct Oidc {
    settings: signin::Settings,
    client_secret: Option<At<Reference>>,
}

pub(super) fn oidc(reader: &mut Reader<'_>, admin: &Table<'_>) -> Option<Oidc> {
    let table = reader.table(admin, "oidc", "admin.oidc")?;
    let before = reader.mistakes.len();
    let issuer = required(reader, &table, "issuer", issuer);
    let client_id = required(reader, &table, "client_id", label);
    let client_secret = reader.get(&table, "client_secret", secret);
    let redirect = required(reader, &table, "redirect", redirect);
    let mut scopes = listed(reader, &table, "scopes", scope);
    if scopes.is_empty() {
        scopes = ["openid", "profile", "email"].map(str::to_owned).to_vec();
    } else if !scopes.iter().any(|scope| scope == "openid") {
        // Without it there is no token that says who signed in.
        scopes.insert(0, "openid".to_owned());
    }
    let algorithms = algorithms(reader, &table);
    let groups = reader.get(&table, "groups", text);
    let session = reader.get(
        &table,
        "session",
        between(SHORTEST_SESSION, LONGEST_SESSION),
    );
    let roles = roles(reader, &table);
    if reader.mistakes.len() > before {
        return None;
    }
    Some(Oidc {
        settings: signin::Settings {
            address: Address {
                issuer: issuer?.value,
                jwks: None,
                refresh: REFRESH,
            },
            client_id: client_id?.value,
            client_secret: None,
            scopes,
            redirect: redirect?.value,
            algorithms,
            groups: groups.map_or_else(|| "groups".to_owned(), |at| at.value),
            roles,
            session: session.map_or(SESSION, |at| at.value),
        },
        client_secret,
    })
}

impl Oidc {
    pub fn resolve(self, env: Env<'_>, mistakes: &mut Vec<Mistake>) -> signin::Settings {
        let secret = self.client_secret.and_then(|written| {
            let resolved = written.value.resolve_text(env);
            resolved
                .map_err(|wrong| mistakes.push(written.wrong(wrong)))
                .ok()
        });
        signin::Settings {
            client_secret: secret,
            ..self.settings
        }
    }
}

fn roles(reader: &mut Reader<'_>, table: &Table<'_>) -> Vec<signin::Grant> {
    let want = "an array of tables { group, role, of }";
    let Some(elements) = reader.elements(table, "roles", want) else {
        return Vec::new();
    };
    let mut grants = Vec::new();
    for (value, place) in elements.value.into_iter().take(MOST) {
        let Some(table) = reader.open(value, place, "admin.oidc.roles[]") else {
            continue;
        };
        let group = required(reader, &table, "group", text);
        let role = required(reader, &table, "role", role);
        let of = reader.get(&table, "of", place_id);
        let (Some(group), Some(role)) = (group, role) else {
            continue;
        };
        let is = match (role.value, of) {
            (None, None) => signin::Is::Operator,
            (None, Some(of)) => {
                let wrong = "an operator is one of the whole gateway, and of no part of it";
                reader.mistakes.push(of.wrong(wrong));
                continue;
            }
            (Some(role), Some(of)) => signin::Is::Member(role, of.value),
            (Some(_), None) => {
                if !table.has("of") {
                    let wrong = "must be given: the id of an organisation, a team or a project";
                    reader.mistakes.push(table.place.missing("of").wrong(wrong));
                }
                continue;
            }
        };
        grants.push(signin::Grant {
            group: group.value,
            is,
        });
    }
    grants
}

fn address(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<At<Address>> {
    let found = required(reader, table, "issuer", text)?;
    let jwks = reader.get(table, "jwks", issuer);
    let refresh = reader.get(table, "refresh", units::duration);
    if let Some(refresh) = refresh.as_ref().filter(|at| at.value < SHORTEST_REFRESH) {
        reader.mistakes.push(refresh.wrong("must be 1s or more"));
    }
    // Where its keys are is said, or found below its name.
    if !table.has("jwks")
        && let Err(wrong) = checked_url(&found.value)
    {
        reader.mistakes.push(found.wrong(wrong));
        return None;
    }
    Some(At {
        value: Address {
            issuer: found.value,
            jwks: jwks.map(|at| at.value),
            refresh: refresh.map_or(REFRESH, |at| at.value),
        },
        place: found.place,
    })
}

/// Reads claims and what they have to be: `{ groups = ["a", "b"], email_verified = true }`.
fn wanted(reader: &mut Reader<'_>, table: &Table<'_>, key: &'static str) -> Vec<Wanted> {
    let one = |value: &DeValue<'_>| match value {
        DeValue::String(_) => Ok(vec![glob(value)?]),
        DeValue::Boolean(truth) => Ok(vec![truth.to_string()]),
        DeValue::Integer(number) => Ok(vec![number.to_string()]),
        DeValue::Array(list) if !list.is_empty() => {
            list.iter().map(|one| glob(one.get_ref())).collect()
        }
        DeValue::Array(_) => Err("must not be empty".into()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => Err(unlike(
            "a string, a list of them, true, false or an integer",
            value,
        )),
    };
    let claims = reader.map(table, key, one).unwrap_or_default();
    let claims = claims.into_iter().map(|(name, any)| Wanted {
        claim: name.value,
        any: any.value,
    });
    claims.collect()
}

fn listed(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    key: &'static str,
    parse: impl Fn(&DeValue<'_>) -> Result<String, Wrong>,
) -> Vec<String> {
    let parse = |value: &DeValue<'_>| match parse(value)? {
        empty if empty.is_empty() => Err("must not be empty".into()),
        text => Ok(text),
    };
    let before = reader.mistakes.len();
    let Some(list) = reader.one_or_list(table, key, parse) else {
        return Vec::new();
    };
    if list.value.is_empty() && reader.mistakes.len() == before {
        reader.mistakes.push(list.place.wrong("must not be empty"));
    }
    list.value.into_iter().map(|at| at.value).collect()
}

fn algorithms(reader: &mut Reader<'_>, table: &Table<'_>) -> Vec<Algorithm> {
    let parse = |value: &DeValue<'_>| {
        let written = text(value)?;
        Algorithm::named(&written).ok_or_else(|| {
            let known = Algorithm::ALL.map(|(name, _)| name);
            Wrong::suggest(
                format!("must be one of {}", known.join(", ")),
                nearest(&written, known).map(quoted),
            )
        })
    };
    let before = reader.mistakes.len();
    let Some(list) = reader.one_or_list(table, "algorithms", parse) else {
        return Algorithm::every();
    };
    if list.value.is_empty() && reader.mistakes.len() == before {
        reader.mistakes.push(list.place.wrong("must not be empty"));
    }
    list.value.into_iter().map(|at| at.value).collect()
}

fn between(least: Duration, most: Duration) -> impl Fn(&DeValue<'_>) -> Result<Duration, Wrong> {
    move |value| {
        let duration = units::duration_or_zero(value)?;
        match (least..=most).contains(&duration) {
            true => Ok(duration),
            false => {
                Err(format!("must be from {}s to {}s", least.as_secs(), most.as_secs()).into())
            }
        }
    }
}

/// Reads where an issuer, or its keys, are.
fn issuer(value: &DeValue<'_>) -> Result<String, Wrong> {
    let written = text(value)?;
    checked_url(&written)?;
    Ok(written)
}

fn checked_url(written: &str) -> Result<(), Wrong> {
    match Url::parse(written) {
        Some(_) if is_safe(written) => Ok(()),
        Some(_) => Err(
            "must be HTTPS, unless it is on this machine: whoever is between could sign anything"
                .into(),
        ),
        None => Err("must be a URL that begins with https://".into()),
    }
}

fn redirect(value: &DeValue<'_>) -> Result<String, Wrong> {
    let written = issuer(value)?;
    let target = Url::parse(&written).map(|url| url.target);
    match target.is_some_and(|target| target.ends_with(signin::CALLBACK)) {
        true => Ok(written),
        false => {
            let message = format!("must end with {}", signin::CALLBACK);
            let meant = Url::parse(&written).filter(|url| url.target == "/");
            let meant = meant.map(|_| {
                quoted(&format!(
                    "{}{}",
                    written.trim_end_matches('/'),
                    signin::CALLBACK
                ))
            });
            Err(Wrong::suggest(message, meant))
        }
    }
}

fn scope(value: &DeValue<'_>) -> Result<String, Wrong> {
    let scope = text(value)?;
    match scope.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(scope),
        false => Err("is one scope, without spaces: write several as a list".into()),
    }
}

/// Reads a role; `None` is the operator's.
fn role(value: &DeValue<'_>) -> Result<Option<Role>, Wrong> {
    let written = text(value)?;
    if written == "operator" {
        return Ok(None);
    }
    Role::named(&written).map(Some).ok_or_else(|| {
        let known = || ["operator"].into_iter().chain(Role::NAMES);
        let message = format!("must be one of {}", known().collect::<Vec<_>>().join(", "));
        Wrong::suggest(message, nearest(&written, known()).map(quoted))
    })
}

/// Reads the id of an organisation, a team or a project.
fn place_id(value: &DeValue<'_>) -> Result<String, Wrong> {
    let id = text(value)?;
    let is_place = matches!(
        Kind::of_id(&id),
        Some(Kind::Organisation | Kind::Team | Kind::Project)
    );
    match is_place
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        true => Ok(id),
        false => Err(
            "must be the id of an organisation (org_…), a team (team_…) or a project (proj_…)"
                .into(),
        ),
    }
}
