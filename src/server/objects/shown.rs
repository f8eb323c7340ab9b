//! Objects as the API shows them, those of the configuration file too.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Asked, Caller, Done, FILE, failed, unescaped};
use crate::access::Key;
use crate::directory::policy::{self, Allotted, Piece};
use crate::directory::schema::Kind;
use crate::directory::store::Object;
use crate::directory::token;
use crate::directory::view::{KeySecret, TokenSecret};
use crate::provider::cost;
use crate::server::reply::{self, Fault, Reply};

impl Asked<'_> {
    /// Returns an object, and of a budget how it stands on this node.
    pub(super) fn described(&self, object: &Object) -> Value {
        let mut all = shown(object);
        let body: Map<String, Value> = match object.kind {
            Kind::Budget => serde_json::from_str(&object.body).unwrap_or_default(),
            Kind::Organisation
            | Kind::Team
            | Kind::Project
            | Kind::User
            | Kind::Key
            | Kind::Policy
            | Kind::Limit
            | Kind::Credential => return all,
        };
        let parent = object.parent.as_deref().unwrap_or_default();
        if let (Some(Piece::Budget(allotted)), Some(all)) =
            (Piece::read(object.kind, &body), all.as_object_mut())
        {
            let Allotted { budget, of } = *allotted;
            let scope = match of {
                None => policy::spender(parent, vec![budget]),
                Some((of, Some(who))) => {
                    policy::named(parent, of, Some(who.clone()), vec![budget]).scope(&who)
                }
                // How each of them stands is told of each alone.
                Some((_, None)) => return Value::Object(std::mem::take(all)),
            };
            for standing in self.budgets.standing(&scope, Timestamp::now()) {
                all.insert("spent_usd".into(), cost::usd(standing.spent_pico).into());
                let held = cost::usd(standing.reserved_pico);
                all.insert("reserved_usd".into(), held.into());
                let resets = standing.resets.map(|at| at.to_string());
                all.insert("resets".into(), resets.into());
            }
        }
        all
    }

    /// Adds when the tokens of users were last used.
    pub(super) async fn add_uses(&self, kind: Kind, shown: &mut [Value]) -> Result<(), Fault> {
        if kind != Kind::User || shown.is_empty() {
            return Ok(());
        }
        let ids = shown.iter().map(|one| id_of(one).to_owned()).collect();
        let uses = self.directory.uses(ids).await.map_err(failed)?;
        for (one, at) in shown.iter_mut().zip(uses) {
            if let Some(one) = one.as_object_mut() {
                one.insert("token_used".into(), at.map_or(Value::Null, when));
            }
        }
        Ok(())
    }

    /// Returns what stands in the configuration file, in the order of its ids.
    pub(super) fn of_file(&self, kind: Kind) -> Vec<Value> {
        let mut all: Vec<Value> = match kind {
            Kind::Key => self.keys.all().map(|key| file_key(key)).collect(),
            Kind::Credential => {
                let providers = self.snapshot.providers.iter();
                let all = providers.flat_map(|provider| {
                    provider.credentials.iter().map(|one| {
                        json!({
                            "id": format!("{FILE}{}/{}", provider.name, one.name),
                            "object": "credential",
                            "source": "file",
                            "provider": provider.name,
                            "name": one.name,
                            "weight": one.weight,
                        })
                    })
                });
                all.collect()
            }
            Kind::Organisation
            | Kind::Team
            | Kind::Project
            | Kind::User
            | Kind::Policy
            | Kind::Limit
            | Kind::Budget => Vec::new(),
        };
        all.sort_by(|one, other| id_of(one).cmp(id_of(other)));
        all
    }

    pub(super) fn read_file(&self, kind: Kind, name: &str) -> Done {
        if let Caller::Person(_) = self.caller {
            return Err(Fault::missing());
        }
        let name = unescaped(name).ok_or_else(Fault::missing)?;
        let id = format!("{FILE}{name}");
        let mut all = self.of_file(kind).into_iter();
        let found = all.find(|one| id_of(one) == id);
        found.map(Reply::json).ok_or_else(Fault::missing)
    }

    pub(super) fn not_of_file(&self, kind: Kind) -> Result<(), Fault> {
        let Some(name) = self.id.and_then(|id| id.strip_prefix(FILE)) else {
            return Ok(());
        };
        self.read_file(kind, name)?;
        Err(Fault::new(
            StatusCode::CONFLICT,
            "read_only",
            "This stands in the configuration file, and is changed there.",
        ))
    }
}

/// Returns an object as the API shows it: no digest, no sealed secret.
pub(super) fn shown(object: &Object) -> Value {
    let body: Map<String, Value> = serde_json::from_str(&object.body).unwrap_or_default();
    let mut all = Map::new();
    all.insert("id".into(), object.id.as_str().into());
    all.insert("object".into(), object.kind.name().into());
    all.insert("source".into(), "database".into());
    for (name, value) in body {
        all.insert(name, value);
    }
    all.insert("name".into(), object.name.as_str().into());
    if let Some(roles) = all.get_mut("roles").and_then(Value::as_array_mut) {
        for membership in roles.iter_mut().filter_map(Value::as_object_mut) {
            membership.remove("path");
        }
    }
    match object.kind {
        Kind::Key => {
            let public = object.id.trim_start_matches(Kind::Key.prefix());
            all.insert("hint".into(), format!("{}{public}-…", token::KEY).into());
            let secret = object.secret.as_deref().and_then(KeySecret::read);
            if let Some((_, until)) = secret.and_then(|secret| secret.previous)
                && until > Timestamp::now().as_second()
            {
                all.insert("previous_until".into(), when(until));
            }
        }
        Kind::User => {
            let token = object.secret.as_deref().and_then(TokenSecret::read);
            all.insert("has_token".into(), token.is_some().into());
            if let Some(until) = token.and_then(|token| token.until) {
                all.insert("token_expires".into(), when(until));
            }
        }
        Kind::Organisation
        | Kind::Team
        | Kind::Project
        | Kind::Policy
        | Kind::Limit
        | Kind::Budget
        | Kind::Credential => {}
    }
    all.insert("created".into(), when(object.created));
    all.insert("changed".into(), when(object.changed));
    all.insert("etag".into(), reply::tag(object.version).into());
    Value::Object(all)
}

fn when(seconds: i64) -> Value {
    let at = Timestamp::from_second(seconds).unwrap_or_default();
    Value::from(at.to_string())
}

fn file_key(key: &Key) -> Value {
    json!({
        "id": format!("{FILE}{}", key.name),
        "object": "key",
        "source": "file",
        "name": &*key.name,
        "explain": key.explain,
    })
}

pub(super) fn id_of(shown: &Value) -> &str {
    shown.get("id").and_then(Value::as_str).unwrap_or_default()
}
