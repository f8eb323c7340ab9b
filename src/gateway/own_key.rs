//! `GET /v1/key`: what the key that asks may use, and what it, those it belongs to and those it names have spent.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Core, Exchange, Now, spending};
use crate::access::Key;
use crate::limit::Which;
use crate::limit::budget::Scope;
use crate::limit::named;
use crate::provider::cost;

/// Returns the answer's body: for the end user and the tags that the request names, too.
pub fn describe(key: Option<&Key>, now: &Now, x: &Exchange) -> Bytes {
    let core = &x.core;
    let scopes = spending::scopes(key, now, x);
    let budgets: Value = scopes
        .iter()
        .flat_map(|scope| standing(scope, core))
        .collect();
    let Some(key) = key else {
        // Nobody needs a key here.
        let mut text =
            json!({"object": "key", "id": null, "limits": [], "budgets": budgets}).to_string();
        text.push('\n');
        return text.into();
    };
    let mut all = Map::new();
    all.insert("object".into(), "key".into());
    all.insert("id".into(), (*key.name).into());
    if let Some(owner) = &key.owner {
        all.insert("organisation".into(), (*owner.organisation).into());
        let known = |id: &str| (!id.is_empty()).then(|| id.to_owned());
        all.insert("team".into(), known(&owner.team).into());
        all.insert("project".into(), known(&owner.project).into());
        all.insert("user".into(), owner.user.as_deref().into());
    }
    all.insert("restricted".into(), key.is_restricted().into());
    let limits = key.limited().map(|limited| {
        let mut one = Map::new();
        one.insert("on".into(), (*limited.name).into());
        for which in Which::ALL {
            one.insert(which.name().into(), limited.limits.of(which).into());
        }
        let running = core.limiter.running(&limited.name);
        one.insert("running".into(), running.into());
        Value::Object(one)
    });
    all.insert("limits".into(), limits.collect());
    all.insert("budgets".into(), budgets);
    let mut text = Value::Object(all).to_string();
    text.push('\n');
    text.into()
}

fn standing(scope: &Scope, core: &Core) -> Vec<Value> {
    let standing = core.budgets.standing(scope, jiff::Timestamp::now());
    let (on, named) = match named::parted(&scope.name) {
        Some((on, of, who)) => {
            let key = |on| str::strip_prefix(on, "key:").unwrap_or(on);
            (on.map(key), Some((of.name(), who)))
        }
        None => {
            let (_, on) = scope.name.split_once(':').unwrap_or(("", &scope.name));
            (Some(on), None)
        }
    };
    let one = |standing: crate::limit::budget::Standing| {
        // As text, to the last digit.
        let mut one = json!({
            "on": on,
            "every": standing.every.name(),
            "rolling": standing.rolling,
            "usd": cost::usd(standing.most_pico),
            "spent_usd": cost::usd(standing.spent_pico),
            "reserved_usd": cost::usd(standing.reserved_pico),
            "resets": standing.resets.map(|at| at.to_string()),
        });
        if let Some((of, who)) = named {
            one[of] = who.into();
        }
        one
    };
    standing.into_iter().map(one).collect()
}
