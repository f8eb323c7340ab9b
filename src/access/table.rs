//! The table of keys: by HMAC-SHA-256, so that neither memory nor a comparison's time tells a key.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use http::HeaderMap;
use ring::hmac;

use super::presented::presented;
use super::{Gate, KeySettings, Owner, Retention};
use crate::error::{Error, Kind, Result};
use crate::glob::Glob;
use crate::limit::Limited;
use crate::limit::budget::Scope;
use crate::limit::named::Named;
use crate::limit::overload::Priority;
use crate::routing::constraints::Constraints;

/// A client key, without its text.
#[derive(Debug, Clone)]
pub struct Key {
    /// Unique: a key of the directory goes by its id.
    pub name: Arc<str>,
    /// The same for the same name, in every process.
    pub id: u64,
    /// Empty allows every model.
    models: Box<[Glob]>,
    /// The rules of a key of the directory, and of all that it belongs to.
    pub gates: Box<[Arc<Gate>]>,
    /// Its limits and those of all that it belongs to, the widest first.
    pub limits: Box<[Arc<Limited>]>,
    /// Who spends with it, and what each may spend; empty without a budget.
    pub spends: Box<[Scope]>,
    /// Budgets of the end users and tags that its requests name.
    pub named: Box<[Arc<Named>]>,
    /// What is demanded of whoever answers its requests.
    pub constraints: Box<[Arc<Constraints>]>,
    /// It may ask why a request went where it went.
    pub explain: bool,
    /// See [`KeySettings::stale_if_error`].
    pub stale_if_error: Option<std::time::Duration>,
    pub priority: Priority,
    /// What the ledger keeps of its requests; `None`: as the configuration says.
    pub retention: Option<Retention>,
    /// `None`: it stands in the configuration.
    pub owner: Option<Arc<Owner>>,
    /// Of the directory that it was put together from.
    pub generation: u64,
}

impl Key {
    /// Returns a key of the directory that may do everything.
    pub fn owned(name: Arc<str>, owner: Arc<Owner>, generation: u64) -> Self {
        Self {
            id: id_of(&name),
            name,
            models: Box::default(),
            gates: Box::default(),
            limits: Box::default(),
            spends: Box::default(),
            named: Box::default(),
            constraints: Box::default(),
            explain: false,
            stale_if_error: None,
            priority: Priority::default(),
            retention: None,
            owner: Some(owner),
            generation,
        }
    }

    /// Returns its limits and those of all that it belongs to.
    pub fn limited(&self) -> impl Iterator<Item = &Limited> + Clone {
        self.limits.iter().map(|shared| &**shared)
    }

    /// Returns whether there are models that the key may not use.
    pub fn is_restricted(&self) -> bool {
        !self.models.is_empty() || self.gates.iter().any(|gate| !gate.models.is_empty())
    }

    /// Returns whether the key may use `model`, named as the client names it.
    pub fn allows(&self, model: &str) -> bool {
        self.allows_any(&[model])
    }

    /// Returns whether the key may use a model that has these names.
    pub fn allows_any(&self, names: &[&str]) -> bool {
        let named = |glob: &Glob| names.iter().any(|name| glob.matches(name));
        (self.models.is_empty() || self.models.iter().any(named))
            && self.gates.iter().all(|gate| gate.allows_model(names))
    }
}

/// All client keys of a snapshot.
pub struct Keys {
    pepper: hmac::Key,
    table: HashMap<Digest, Arc<Key>, BuildHasherDefault<FirstBytes>>,
}

impl Keys {
    /// Hashes every key with `pepper`, which never leaves the process. Of two equal keys the first counts.
    pub fn build(settings: &[KeySettings], pepper: &[u8; 32]) -> Self {
        let pepper = hmac::Key::new(hmac::HMAC_SHA256, pepper);
        let mut table =
            HashMap::with_capacity_and_hasher(settings.len(), BuildHasherDefault::default());
        for key in settings {
            let digest = Digest::of(&pepper, key.key.expose());
            table
                .entry(digest)
                .or_insert_with(|| Arc::new(Key::new(key)));
        }
        Self { pepper, table }
    }

    /// Returns the key whose text was presented.
    pub fn find(&self, presented: &str) -> Option<&Arc<Key>> {
        if presented.is_empty() {
            return None;
        }
        self.table.get(&Digest::of(&self.pepper, presented))
    }

    /// Returns the key of that name.
    pub fn named(&self, name: &str) -> Option<&Arc<Key>> {
        self.table.values().find(|key| &*key.name == name)
    }

    /// Returns all keys.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.table.values()
    }

    /// Returns whether no key is configured: everybody may ask.
    pub fn is_open(&self) -> bool {
        self.table.is_empty()
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns who asks; `None` where no key is configured.
    ///
    /// Errors: `InvalidKey`, without repeating what was shown.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        allow_query: bool,
    ) -> Result<Option<&Arc<Key>>> {
        if self.is_open() {
            return Ok(None);
        }
        let Some(text) = presented(headers, query, allow_query)? else {
            return Err(Error::new(
                Kind::InvalidKey,
                "No API key was given. Send it as `Authorization: Bearer KEY` or `x-api-key: KEY`.",
            ));
        };
        match self.find(&text) {
            Some(key) => Ok(Some(key)),
            None => Err(Error::new(
                Kind::InvalidKey,
                "The API key is not known here.",
            )),
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl Key {
    fn new(settings: &KeySettings) -> Self {
        let name: Arc<str> = settings.name.as_str().into();
        Self {
            name: name.clone(),
            id: id_of(&settings.name),
            models: settings
                .models
                .iter()
                .map(|pattern| Glob::new(pattern))
                .collect(),
            gates: Box::default(),
            limits: settings.limits.iter().cloned().collect(),
            spends: match settings.budgets.is_empty() {
                true => Box::default(),
                false => Box::new([Scope {
                    name: format!("key:{name}").into(),
                    budgets: settings.budgets.as_slice().into(),
                }]),
            },
            named: settings.named.iter().cloned().map(Arc::new).collect(),
            constraints: settings.constraints.iter().cloned().collect(),
            explain: settings.explain,
            stale_if_error: settings.stale_if_error,
            priority: settings.priority,
            retention: None,
            owner: None,
            generation: 0,
        }
    }
}

/// FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>: stable where the standard hasher is not.
fn id_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// An HMAC-SHA-256, compared in constant time.
#[derive(Clone, Copy)]
struct Digest([u8; 32]);

impl Digest {
    fn of(pepper: &hmac::Key, text: &str) -> Self {
        let tag = hmac::sign(pepper, text.as_bytes());
        let mut digest = [0; 32];
        digest.copy_from_slice(tag.as_ref());
        Self(digest)
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        // The barrier keeps the loop from being cut short at the first difference.
        let differ = self
            .0
            .iter()
            .zip(&other.0)
            .fold(0, |all, (mine, theirs)| all | (mine ^ theirs));
        std::hint::black_box(differ) == 0
    }
}

impl Eq for Digest {}

impl std::hash::Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// A digest is its own hash: nobody without the pepper can choose one.
#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.0 = u64::from_le_bytes(first);
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::secret::Secret;

    const PEPPER: [u8; 32] = [7; 32];

    fn settings(name: &str, key: &str, models: &[&str]) -> KeySettings {
        KeySettings {
            name: name.to_owned(),
            key: Secret::new(key),
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            limits: Vec::new(),
            budgets: Vec::new(),
            named: Vec::new(),
            constraints: None,
            explain: false,
            stale_if_error: None,
            priority: Default::default(),
        }
    }

    #[test]
    fn a_key_is_found_by_its_whole_text_only() {
        let keys = Keys::build(
            &[
                settings("a", "sk-alpha", &[]),
                settings("b", "sk-beta", &[]),
            ],
            &PEPPER,
        );
        assert_eq!(&*keys.find("sk-alpha").unwrap().name, "a");
        assert_eq!(&*keys.find("sk-beta").unwrap().name, "b");
        for wrong in ["", "sk-alph", "sk-alpha ", "SK-ALPHA", "a", "sk-gamma"] {
            assert!(keys.find(wrong).is_none(), "{wrong:?} is no key");
        }
    }

    #[test]
    fn the_hash_of_a_key_is_not_a_key() {
        let keys = Keys::build(&[settings("a", "sk-alpha", &[])], &PEPPER);
        let digest = Digest::of(&keys.pepper, "sk-alpha").0;
        let lower: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(keys.find(&lower).is_none());
        assert!(keys.find(&lower.to_uppercase()).is_none());
        assert!(keys.find(&String::from_utf8_lossy(&digest)).is_none());
    }

    #[test]
    fn another_pepper_makes_other_hashes() {
        let one = Digest::of(&hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]), "sk-alpha");
        let two = Digest::of(&hmac::Key::new(hmac::HMAC_SHA256, &[2; 32]), "sk-alpha");
        assert!(one != two);
    }

    #[test]
    fn an_empty_key_is_never_accepted_even_when_it_is_configured() {
        let keys = Keys::build(&[settings("a", "", &[])], &PEPPER);
        assert!(keys.find("").is_none());
        assert!(!keys.is_open(), "a mistake in a key opens nothing");
    }

    #[test]
    fn models_are_allowed_by_globs_and_none_means_all() {
        let keys = Keys::build(
            &[
                settings("a", "1", &["fast", "openai/*"]),
                settings("b", "2", &[]),
            ],
            &PEPPER,
        );
        let key = keys.find("1").unwrap();
        assert!(key.allows("fast") && key.allows("openai/gpt-5"));
        assert!(!key.allows("faster") && !key.allows("anthropic/claude") && !key.allows(""));
        assert!(keys.find("2").unwrap().allows("anything"));
    }

    #[test]
    fn ids_follow_names_and_not_keys_or_order() {
        let one = Keys::build(&[settings("a", "1", &[]), settings("b", "2", &[])], &PEPPER);
        let two = Keys::build(
            &[settings("b", "3", &[]), settings("a", "4", &[])],
            &[9; 32],
        );
        assert_eq!(one.find("1").unwrap().id, two.find("4").unwrap().id);
        assert_ne!(one.find("1").unwrap().id, one.find("2").unwrap().id);
    }

    #[test]
    fn who_asks_is_told_or_refused_without_repeating_the_key() {
        let keys = Keys::build(&[settings("a", "sk-alpha", &[])], &PEPPER);
        let mut headers = HeaderMap::new();
        let missing = keys.authenticate(&headers, None, false).unwrap_err();
        assert_eq!(missing.kind, Kind::InvalidKey);
        headers.insert("x-api-key", "sk-wrong".parse().unwrap());
        let wrong = keys.authenticate(&headers, None, false).unwrap_err();
        assert_eq!(wrong.kind, Kind::InvalidKey);
        assert!(!format!("{wrong:?}").contains("sk-wrong"));
        headers.insert("x-api-key", "sk-alpha".parse().unwrap());
        assert_eq!(
            &*keys
                .authenticate(&headers, None, false)
                .unwrap()
                .unwrap()
                .name,
            "a"
        );
        let open = Keys::build(&[], &PEPPER);
        assert!(
            open.authenticate(&HeaderMap::new(), None, false)
                .unwrap()
                .is_none()
        );
    }
}
