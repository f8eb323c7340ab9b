//! Tokens that others have signed, in place of keys: whose request it is, by what the token says.
//!
//! A token that was proven is remembered by the hash of its whole text, so that the next request with it costs a look-up;
//! its time is looked at each time, and it is proven anew once the issuer's keys or the directory have changed.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;

use super::{Key, Keys};
use crate::error::{Error, Kind, Result};
use crate::jwt::{
    self, Address, Algorithm, Claims, Fault, Issuer, Times, Token, Wanted, check_audience,
};
use crate::limit::budget::{Budget, Scope};
use crate::limit::{Holder, Limited, Limits};

/// Tokens that are remembered; beyond that the least used are proven anew.
const MOST_REMEMBERED: usize = 10_000;
/// No subject is longer.
const LONGEST_SUBJECT: usize = 255;

/// A `[[jwt]]` table as written.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSettings {
    /// Unique: what is counted for its subjects begins with it.
    pub name: String,
    pub address: Address,
    pub audiences: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    /// What every token has to say.
    pub required: Vec<Wanted>,
    /// How far the issuer's clock may be from ours.
    pub leeway: Duration,
    /// The claim that names who uses the gateway; `None`: nobody is named.
    pub user: Option<String>,
    /// The first that fits counts.
    pub grants: Vec<Grant>,
}

/// What a token stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// What it has to say; empty: nothing.
    pub when: Vec<Wanted>,
    pub to: To,
    /// Of each subject.
    pub limits: Limits,
    pub budgets: Vec<Budget>,
}

/// Whose rules, limits and budgets hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// A key of the configuration, by its name.
    Key(String),
    /// An organisation, a team or a project of the directory, by its id.
    Place(String),
    /// The one whose id this claim has.
    PlaceIn(String),
}

/// The issuers that vouch for callers, as a snapshot names them.
#[derive(Default)]
pub struct Tokens {
    trusted: Vec<Trusted>,
    proven: Option<Cache<[u8; 32], Arc<Proven>>>,
}

struct Trusted {
    settings: TokenSettings,
    issuer: Arc<Issuer>,
    /// The keys that are granted, as the grants are in order.
    keys: Vec<Option<Arc<Key>>>,
}

/// A token whose signature held.
struct Proven {
    trusted: usize,
    /// Of the issuer's keys.
    edition: u64,
    /// Of the directory.
    generation: u64,
    times: Times,
    caller: Bearer,
}

/// Who shows a token.
#[derive(Clone)]
pub struct Bearer {
    pub key: Arc<Key>,
    /// Who that is, as the issuer says.
    pub subject: Option<Arc<str>>,
}

impl Bearer {
    /// Returns whoever shows a key.
    pub fn of(key: Arc<Key>) -> Self {
        Self { key, subject: None }
    }
}

/// What the directory knows of its places.
#[derive(Clone, Copy)]
pub struct Places<'d> {
    /// Counts changes of what is returned; read before anything is.
    pub generation: u64,
    /// Returns what holds for whoever belongs to the place of an id, to be used under a name.
    pub principal: &'d (dyn Fn(&str, &str) -> Result<Key> + Sync),
}

impl Tokens {
    pub fn build(settings: &[TokenSettings], issuers: Vec<Arc<Issuer>>, keys: &Keys) -> Self {
        let trusted: Vec<Trusted> = settings
            .iter()
            .zip(issuers)
            .map(|(settings, issuer)| Trusted {
                keys: settings
                    .grants
                    .iter()
                    .map(|grant| match &grant.to {
                        To::Key(name) => keys.named(name).cloned(),
                        To::Place(_) | To::PlaceIn(_) => None,
                    })
                    .collect(),
                settings: settings.clone(),
                issuer,
            })
            .collect();
        Self {
            proven: (!trusted.is_empty()).then(|| Cache::new(MOST_REMEMBERED)),
            trusted,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.trusted.is_empty()
    }

    /// Returns who shows the token `text`; `None` when it is none, or of an issuer that isn't known here.
    ///
    /// Errors: `InvalidKey` for a token that doesn't hold, `Denied` for one that gives nothing here, `StateUnavailable`
    /// while the issuer's keys were never to be had.
    pub async fn find(&self, text: &str, places: Places<'_>) -> Result<Option<Bearer>> {
        let Some(remembered) = self.proven.as_ref().filter(|_| jwt::is_like(text)) else {
            return Ok(None);
        };
        let mut hash = [0; 32];
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        hash.copy_from_slice(digest.as_ref());
        let now = jiff::Timestamp::now().as_second();
        if let Some(proven) = remembered.get(&hash)
            && let Some(trusted) = self.trusted.get(proven.trusted)
            && let Some(held) = trusted.issuer.held()
            && held.edition == proven.edition
            && places.generation == proven.generation
        {
            let leeway = trusted.settings.leeway;
            proven.times.check(now, leeway).map_err(refused)?;
            return Ok(Some(proven.caller.clone()));
        }
        let token = Token::read(text).map_err(refused)?;
        let Some(at) = token.issuer().and_then(|issuer| self.of(issuer)) else {
            return Ok(None);
        };
        let proven = Arc::new(self.prove(at, &token, now, places).await?);
        remembered.insert(hash, proven.clone());
        Ok(Some(proven.caller.clone()))
    }

    /// Returns the key of somebody whom a token had put into a place, with what each subject is held to on top: `ids` are
    /// those of the place and of what it belongs to, `name` is what such a key is named.
    pub fn held(&self, key: Arc<Key>, ids: &[String], name: &str) -> Arc<Key> {
        let of = |trusted: &&Trusted| {
            let rest = name.strip_prefix("jwt:");
            let rest = rest.and_then(|rest| rest.strip_prefix(&*trusted.settings.name));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        let puts = |grant: &&Grant| match &grant.to {
            To::Place(id) => ids.contains(id),
            To::PlaceIn(_) => true,
            To::Key(_) => false,
        };
        let trusted = self.trusted.iter().find(of);
        let grant = trusted.and_then(|trusted| trusted.settings.grants.iter().find(puts));
        match grant {
            Some(grant) => grant.narrow(key, name),
            None => key,
        }
    }

    fn of(&self, issuer: &str) -> Option<usize> {
        let is = |trusted: &Trusted| trusted.settings.address.issuer == issuer;
        self.trusted.iter().position(is)
    }

    async fn prove(
        &self,
        at: usize,
        token: &Token<'_>,
        now: i64,
        places: Places<'_>,
    ) -> Result<Proven> {
        let Trusted {
            settings,
            issuer,
            keys,
        } = &self.trusted[at];
        let away = || {
            let error = "The token can't be checked now: its issuer's keys could not be had.";
            Error::new(Kind::StateUnavailable, error).with_retry_after(Duration::from_secs(5))
        };
        // Boxed: rare, and no part of a request that is served.
        let mut held = Box::pin(issuer.known()).await.ok_or_else(away)?;
        let mut claims = token.proven(&held.keys, &settings.algorithms);
        if claims == Err(Fault::UnknownKey) {
            Box::pin(issuer.renewed()).await;
            held = issuer.held().ok_or_else(away)?;
            claims = token.proven(&held.keys, &settings.algorithms);
        }
        let claims = claims.map_err(refused)?;
        let times = Times::of(claims).map_err(refused)?;
        times.check(now, settings.leeway).map_err(refused)?;
        check_audience(claims, &settings.audiences).map_err(refused)?;
        if let Some(missing) = settings.required.iter().find(|one| !one.fits(claims)) {
            return Err(refused(Fault::Claim(missing.claim.clone())));
        }
        let subject = settings.subject(claims)?;
        let granted = settings
            .grants
            .iter()
            .position(|grant| grant.when.iter().all(|one| one.fits(claims)));
        let Some(granted) = granted else {
            return Err(Error::new(
                Kind::Denied,
                "The token is good, and gives nothing here: no mapping of its issuer fits it.",
            ));
        };
        let grant = &settings.grants[granted];
        let name = match &subject {
            Some(subject) => format!("jwt:{}:{subject}", settings.name),
            None => format!("jwt:{}", settings.name),
        };
        let key = match &grant.to {
            To::Key(_) => keys[granted].clone().ok_or_else(|| {
                Error::new(Kind::Internal, "The key that the token stands for is gone.")
            })?,
            To::Place(id) => Arc::new((places.principal)(id, &name)?),
            To::PlaceIn(claim) => {
                let id = jwt::find(claims, claim).and_then(|value| value.as_str());
                let id = id.ok_or_else(|| refused(Fault::Claim(claim.clone())))?;
                Arc::new((places.principal)(id, &name)?)
            }
        };
        Ok(Proven {
            trusted: at,
            edition: held.edition,
            generation: places.generation,
            times,
            caller: Bearer {
                key: grant.narrow(key, &name),
                subject,
            },
        })
    }
}

impl TokenSettings {
    fn subject(&self, claims: &Claims) -> Result<Option<Arc<str>>> {
        let Some(claim) = &self.user else {
            return Ok(None);
        };
        let told = jwt::find(claims, claim).filter(|told| told.is_string() || told.is_number());
        let subject = told.and_then(|told| jwt::texts(told).pop());
        let fits = |text: &String| {
            (1..=LONGEST_SUBJECT).contains(&text.len()) && !text.contains(char::is_control)
        };
        match subject.filter(fits) {
            Some(subject) => Ok(Some(subject.into())),
            None => Err(refused(Fault::Claim(claim.clone()))),
        }
    }
}

impl Grant {
    /// Returns the key with what each subject is held to on top.
    fn narrow(&self, key: Arc<Key>, name: &str) -> Arc<Key> {
        if self.limits.is_unlimited() && self.budgets.is_empty() {
            return key;
        }
        let mut key = Key::clone(&key);
        if !self.limits.is_unlimited() {
            let own = Limited::new(Holder::User, name, &[], self.limits);
            key.limits = key.limits.iter().cloned().chain([Arc::new(own)]).collect();
        }
        if !self.budgets.is_empty() {
            let own = Scope {
                name: format!("user:{name}").into(),
                budgets: self.budgets.as_slice().into(),
            };
            key.spends = key.spends.iter().cloned().chain([own]).collect();
        }
        Arc::new(key)
    }
}

fn refused(fault: Fault) -> Error {
    Error::new(Kind::InvalidKey, fault.to_string())
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("issuers", &self.trusted.len())
            .finish_non_exhaustive()
    }
}
