//! Who may do what to which object, and what a body may name.

use serde_json::{Map, Value};

use super::{Asked, Caller, failed, text};
use crate::directory::role::{Least, Role};
use crate::directory::schema::Kind;
use crate::directory::store::Object;
use crate::provider::Auth;
use crate::server::reply::Fault;

impl Asked<'_> {
    /// Refuses what asks for `least` at `path`, of whoever sees that it is there.
    pub(super) fn permit(&self, least: Least, path: &str) -> Result<(), Fault> {
        if self.caller.may(least, path) {
            return Ok(());
        }
        Err(Fault::forbidden(least))
    }

    /// Refuses a change of an object that the caller sees but may not change.
    pub(super) async fn permit_on(&self, object: &Object) -> Result<(), Fault> {
        let body: Map<String, Value> = serde_json::from_str(&object.body).unwrap_or_default();
        match object.kind {
            Kind::Key => {
                // Developers have their own alone.
                if self.caller.may(Least::ProjectAdmin, &object.path) {
                    return Ok(());
                }
                self.permit(Least::Developer, &object.path)?;
                match self.caller.is(text(&body, "user")) {
                    true => Ok(()),
                    false => Err(Fault::forbidden(Least::ProjectAdmin)),
                }
            }
            Kind::User => {
                self.permit(Least::Admin, &object.path)?;
                self.may_make(&roles(&body))
            }
            Kind::Policy | Kind::Limit | Kind::Budget => {
                let parent = object.parent.as_deref().unwrap_or_default();
                self.permit(attached_least(parent), &object.path)
            }
            Kind::Organisation => self.permit(Least::Owner, &object.path),
            Kind::Team | Kind::Project => self.permit(Least::Admin, &object.path),
            Kind::Credential => self.permit(Least::Operator, &object.path),
        }
    }

    /// Refuses whoever is not enough to make somebody what these roles say.
    fn may_make(&self, roles: &[(Role, String)]) -> Result<(), Fault> {
        for (role, path) in roles {
            let least = match role {
                Role::Owner => Least::Owner,
                Role::Admin
                | Role::ProjectAdmin
                | Role::Developer
                | Role::Viewer
                | Role::Auditor => Least::Admin,
            };
            self.permit(least, path)?;
        }
        Ok(())
    }

    /// Who somebody is at the identity provider is for an operator to say: they may be somebody elsewhere too.
    pub(super) fn check_subject(&self, body: &Map<String, Value>) -> Result<(), Fault> {
        match body.contains_key("subject") {
            true => self.permit(Least::Operator, ""),
            false => Ok(()),
        }
    }

    /// Checks that what roles are of is there and in the same organisation, and notes its path.
    pub(super) async fn check_roles(
        &self,
        body: &mut Map<String, Value>,
        organisation: &str,
        before: &[(Role, String)],
    ) -> Result<(), Fault> {
        if let Some(list) = body.get_mut("roles").and_then(Value::as_array_mut) {
            for (index, membership) in list.iter_mut().enumerate() {
                let at = format!("roles[{index}].of");
                let of = membership.get("of").and_then(Value::as_str);
                let of = of.unwrap_or_default().to_owned();
                let found = self.find_any(&of).await?;
                let within =
                    |found: &Object| crate::directory::view::is_within(&found.path, organisation);
                let Some(found) = found.filter(within) else {
                    return Err(Fault::field(
                        at,
                        format!("there is no {of} in the organisation"),
                    ));
                };
                if let Some(membership) = membership.as_object_mut() {
                    membership.insert("path".into(), found.path.into());
                }
            }
        }
        let after = roles(body);
        // Who keeps what they are needs nobody's word.
        let new: Vec<_> = after
            .into_iter()
            .filter(|role| !before.contains(role))
            .collect();
        self.may_make(&new)
    }

    /// Checks whose a key is to be; a developer makes keys of their own.
    pub(super) async fn check_owner(
        &self,
        body: &mut Map<String, Value>,
        path: &str,
    ) -> Result<(), Fault> {
        if !self.caller.may(Least::ProjectAdmin, path)
            && let Caller::Person(person) = self.caller
        {
            let user = body.entry("user").or_insert_with(|| (*person.id).into());
            if user.as_str() != Some(&*person.id) {
                return Err(Fault::forbidden(Least::ProjectAdmin));
            }
        }
        let Some(user) = body.get("user").and_then(Value::as_str) else {
            return Ok(());
        };
        let found = self.directory.get(user).await.map_err(failed)?;
        let organisation = |path: &str| path.split('/').nth(1).map(str::to_owned);
        let same = |found: &Object| organisation(&found.path) == organisation(path);
        if found.as_ref().is_none_or(|found| !same(found)) {
            let message = format!("there is no {user} in the organisation");
            return Err(Fault::field("user", message));
        }
        Ok(())
    }

    /// Takes a credential's secret out of its body and seals it.
    pub(super) fn seal(&self, id: &str, body: &mut Map<String, Value>) -> Result<String, Fault> {
        let provider = text(body, "provider");
        let mut enabled = self.snapshot.providers.iter();
        let Some(found) = enabled.find(|known| known.name == provider) else {
            let message = format!("{provider:?} is no provider that is enabled here");
            return Err(Fault::field("provider", message));
        };
        match found.auth {
            Auth::Bearer | Auth::Header(_) => {}
            Auth::None | Auth::SigV4 { .. } | Auth::Google(_) | Auth::Entra(_) => {
                let message = format!("{provider} takes no plain key");
                return Err(Fault::field("provider", message));
            }
        }
        let key = body.remove("key");
        let key = key.as_ref().and_then(Value::as_str).unwrap_or_default();
        Ok(self.directory.sealer().seal(id, key))
    }

    pub(super) fn sees(&self, object: &Object) -> bool {
        match object.kind {
            Kind::Credential => self.caller.may(Least::Operator, &object.path),
            // Everybody sees themselves.
            Kind::User if self.caller.is(&object.id) => true,
            Kind::Organisation
            | Kind::Team
            | Kind::Project
            | Kind::User
            | Kind::Key
            | Kind::Policy
            | Kind::Limit
            | Kind::Budget => self.caller.may(Least::Viewer, &object.path),
        }
    }
}

/// Returns what making one asks for.
pub(super) fn create_least(kind: Kind, parent: Option<&Object>) -> Least {
    match kind {
        Kind::Organisation | Kind::Credential => Least::Operator,
        Kind::Team | Kind::Project | Kind::User => Least::Admin,
        Kind::Key => Least::Developer,
        Kind::Policy | Kind::Limit | Kind::Budget => {
            attached_least(parent.map_or("", |parent| &parent.id))
        }
    }
}

/// Returns what attaching something asks for: nobody loosens what binds themselves.
fn attached_least(parent: &str) -> Least {
    match Kind::of_id(parent) {
        Some(Kind::Key) => Least::ProjectAdmin,
        _ => Least::Admin,
    }
}

/// Returns what a user's body says that they are, with the path of where.
pub(super) fn roles(body: &Map<String, Value>) -> Vec<(Role, String)> {
    let roles = body.get("roles").and_then(Value::as_array);
    let roles = roles.into_iter().flatten().filter_map(|membership| {
        let role = Role::named(membership.get("role")?.as_str()?)?;
        Some((role, membership.get("path")?.as_str()?.to_owned()))
    });
    roles.collect()
}
