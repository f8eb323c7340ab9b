//! Budgets of those that requests name themselves: end users and tags. Nobody makes an object for each of them, so a
//! budget is said for one by name, or for every one that comes.

use std::borrow::Cow;
use std::sync::Arc;

use super::budget::{Budget, Scope};

/// Longer names are counted under their hash: what a client sends must not fill the memory.
const LONGEST: usize = 256;

/// What a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// `user`, `metadata.user_id`, `x-strait-user`.
    EndUser,
    /// One of `x-strait-tags`.
    Tag,
}

impl Dimension {
    pub const ALL: [Dimension; 2] = [Dimension::EndUser, Dimension::Tag];

    /// Returns the field that says it in a budget, and what the names of its accounts begin with.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::EndUser => "end_user",
            Dimension::Tag => "tag",
        }
    }
}

/// Budgets of one end user or tag, or of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// Whose keys ask: end users of another are others. Empty: every key.
    pub on: Box<str>,
    pub of: Dimension,
    /// `None`: each that is not named beside it.
    pub who: Option<Box<str>>,
    pub budgets: Arc<[Budget]>,
}

/// The pattern that stands for each.
pub const EACH: &str = "*";

impl Named {
    /// Returns the account of one.
    pub fn scope(&self, who: &str) -> Scope {
        let dimension = self.of.name();
        let who = short(who);
        let name = match &*self.on {
            "" => format!("{dimension}:{who}"),
            on => format!("{on}/{dimension}:{who}"),
        };
        Scope {
            name: name.into(),
            budgets: self.budgets.clone(),
        }
    }
}

/// Returns whether an account is one of those: there may be any number.
pub fn is_named(scope: &str) -> bool {
    of_all(scope).is_some()
}

/// Returns what all accounts of those begin with that stand beside one: of all end users, or of all tags, of the same keys.
pub fn of_all(scope: &str) -> Option<&str> {
    let (_, _, who) = parted(scope)?;
    Some(&scope[..scope.len() - who.len()])
}

/// Returns of whose keys an account is (`None`: of all), which kind of name it has, and the name.
pub fn parted(scope: &str) -> Option<(Option<&str>, Dimension, &str)> {
    let named = |text: &'_ str| {
        let of = |of: Dimension| Some((of, text.strip_prefix(of.name())?.strip_prefix(':')?.len()));
        Dimension::ALL.into_iter().find_map(of)
    };
    let who = |length: usize| &scope[scope.len() - length..];
    if let Some((of, length)) = named(scope) {
        return Some((None, of, who(length)));
    }
    let (on, rest) = scope.split_once('/')?;
    named(rest).map(|(of, length)| (Some(on), of, who(length)))
}

/// Adds the accounts of a request's end user and tags to `scopes`.
pub fn scopes<'n>(
    all: impl Iterator<Item = &'n Named> + Clone,
    user: Option<&str>,
    tags: &[String],
    scopes: &mut Vec<Scope>,
) {
    for named in all.clone() {
        let mut add = |who: &str| {
            let other = |other: &Named| {
                other.of == named.of && other.on == named.on && other.who.as_deref() == Some(who)
            };
            let holds = match &named.who {
                Some(known) => **known == *who,
                None => !all.clone().any(other),
            };
            if holds {
                scopes.push(named.scope(who));
            }
        };
        match named.of {
            Dimension::EndUser => user.into_iter().for_each(&mut add),
            Dimension::Tag => {
                for (at, tag) in tags.iter().enumerate() {
                    // Said twice it is still one.
                    if !tags[..at].contains(tag) {
                        add(tag);
                    }
                }
            }
        }
    }
}

fn short(who: &str) -> Cow<'_, str> {
    if who.len() <= LONGEST {
        return Cow::Borrowed(who);
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, who.as_bytes());
    let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    Cow::Owned(format!("sha256-{}", hex.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(on: &str, of: Dimension, who: Option<&str>) -> Named {
        Named {
            on: on.into(),
            of,
            who: who.map(Box::from),
            budgets: Arc::new([]),
        }
    }

    fn found(all: &[Named], user: Option<&str>, tags: &[&str]) -> Vec<String> {
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let mut found = Vec::new();
        scopes(all.iter(), user, &tags, &mut found);
        found.iter().map(|scope| scope.name.to_string()).collect()
    }

    #[test]
    fn one_who_is_named_has_his_own_budget_and_everybody_else_the_usual() {
        let all = [
            named("", Dimension::EndUser, None),
            named("", Dimension::EndUser, Some("vip")),
            named("org_1", Dimension::EndUser, None),
            named("", Dimension::Tag, Some("batch")),
        ];
        assert_eq!(
            found(&all, Some("vip"), &["batch", "other", "batch"]),
            ["end_user:vip", "org_1/end_user:vip", "tag:batch"]
        );
        assert_eq!(
            found(&all, Some("42"), &[]),
            ["end_user:42", "org_1/end_user:42"]
        );
        assert!(found(&all, None, &["other"]).is_empty());
    }

    #[test]
    fn a_long_name_is_counted_under_its_hash() {
        let all = [named("", Dimension::EndUser, None)];
        let long = "u".repeat(100_000);
        let name = found(&all, Some(&long), &[]).remove(0);
        assert_eq!(name.len(), "end_user:sha256-".len() + 64);
        assert_ne!(name, found(&all, Some(&format!("{long}u")), &[])[0]);
    }

    #[test]
    fn accounts_of_those_that_requests_name_are_told_from_others() {
        for name in ["end_user:42", "org_1/end_user:42", "key:team-a/tag:x"] {
            assert!(is_named(name), "{name}");
        }
        for name in ["key:team-a", "organisation:org_1", "end_users:1", "tag"] {
            assert!(!is_named(name), "{name}");
        }
        assert_eq!(of_all("end_user:a/tag:b"), Some("end_user:"));
        assert_eq!(of_all("org_1/end_user:42"), Some("org_1/end_user:"));
    }
}
