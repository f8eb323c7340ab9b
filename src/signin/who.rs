//! Who signed in, as the provider says, and what that makes of them here.

use std::sync::Arc;

use super::{Is, Settings, ticket};
use crate::directory::role::Role;
use crate::directory::view::{Person, View, is_within};
use crate::jwt::{Claims, find, texts};

/// Groups of one person that are kept; the longest lists that are handed out have 200.
const MOST_GROUPS: usize = 1000;

/// What a session keeps of a person.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Who {
    /// Of which issuer.
    pub issuer: String,
    pub subject: String,
    pub name: Option<String>,
    pub email: Option<String>,
    pub groups: Vec<String>,
    /// The user of the directory who they are, by id.
    pub user: Option<String>,
}

/// What somebody who signed in may do.
#[derive(Debug)]
pub enum Standing {
    Operator(Arc<str>),
    Person(Arc<Person>),
    /// Nothing (any more).
    Nobody,
}

impl Who {
    /// Reads what a token says of somebody. Of all groups those that nothing is granted to are left out.
    pub fn read(settings: &Settings, claims: &Claims, subject: &str, view: &View) -> Self {
        let groups = find(claims, &settings.groups)
            .map(texts)
            .unwrap_or_default();
        let granted = |group: &String| settings.roles.iter().any(|grant| grant.group == *group);
        let name = claims
            .get("name")
            .or_else(|| claims.get("preferred_username"));
        Self {
            issuer: settings.address.issuer.clone(),
            subject: subject.to_owned(),
            name: ticket::text(name),
            email: ticket::text(claims.get("email")),
            groups: groups
                .into_iter()
                .filter(granted)
                .take(MOST_GROUPS)
                .collect(),
            user: view.user_named(subject).map(|user| user.id.to_string()),
        }
    }

    /// Returns what they may do now: by their groups, as the configuration is, and as a user of the directory.
    pub fn standing(&self, settings: &Settings, view: &View) -> Standing {
        if self.issuer != settings.address.issuer {
            return Standing::Nobody;
        }
        let user = match &self.user {
            None => None,
            // Whoever was taken away signs in anew, as whoever they are then.
            Some(id) => match view.user(id) {
                Some(user) => Some(user),
                None => return Standing::Nobody,
            },
        };
        let id = match &user {
            Some(user) => user.id.to_string(),
            None => format!("oidc:{}", self.subject),
        };
        let of_groups = || {
            let grants = settings.roles.iter();
            grants.filter(|grant| self.groups.contains(&grant.group))
        };
        if of_groups().any(|grant| grant.is == Is::Operator) {
            return Standing::Operator(id.into());
        }
        // An organisation that has disabled its user has nothing for them, whatever their groups say; what others have
        // is not its business.
        let disabled = user.as_ref().filter(|user| user.disabled);
        let barred = |path: &str| disabled.is_some_and(|user| is_within(path, &user.organisation));
        let mut roles: Vec<(Role, Box<str>)> = match &user {
            Some(user) if !user.disabled => user.roles.clone(),
            Some(_) | None => Vec::new(),
        };
        for grant in of_groups() {
            let Is::Member(role, of) = &grant.is else {
                continue;
            };
            // What is gone is nobody's.
            if let Some(path) = view.place(of).filter(|path| !barred(path)) {
                roles.push((*role, path));
            }
        }
        match roles.is_empty() {
            true => Standing::Nobody,
            false => {
                let name = self.name.as_deref().or(self.email.as_deref());
                Standing::Person(Arc::new(Person::signed_in(&id, name, roles)))
            }
        }
    }
}
