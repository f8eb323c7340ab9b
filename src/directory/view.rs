//! What requests need of the directory, in memory: keys and people by their public ids, and what holds at each level.
//!
//! A key takes some two hundred bytes until it is first used; what it amounts to is put together then, and again after
//! a change of anything that it belongs to. No request waits for the database.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use parking_lot::Mutex;
use ring::hmac;
use serde_json::{Map, Value};

use super::policy::{Level, Piece};
use super::role::Role;
use super::schema::{self, Kind};
use super::store::Object;
use super::token::{self, Digest, Public};
use crate::access::{Keep, Key, Owner, Retention};

/// All that requests ask of the directory.
pub struct View {
    pepper: hmac::Key,
    keys: DashMap<Public, Arc<Record>>,
    people: DashMap<Public, Arc<Person>>,
    levels: DashMap<Box<str>, Arc<Level>>,
    /// What organisations, teams and projects say of it.
    retentions: DashMap<Box<str>, Retention>,
    credentials: DashMap<Box<str>, Arc<Credential>>,
    pieces: Mutex<Pieces>,
    /// What each attached object is attached to.
    attached: Mutex<HashMap<Box<str>, Box<str>>>,
    /// One for all keys of a project and a user.
    owners: Mutex<HashMap<[Box<str>; 2], Arc<Owner>>>,
    organisations: Mutex<std::collections::HashSet<Box<str>>>,
    /// The paths of organisations, teams and projects.
    places: DashMap<Box<str>, Box<str>>,
    /// Counts every change of what keys are put together from.
    generation: AtomicU64,
    /// Counts every change of credentials.
    credentials_changed: AtomicU64,
    /// Everything was read at least once.
    loaded: AtomicBool,
    /// Nobody may ask without a key.
    closed: AtomicBool,
    /// That is so whatever there is.
    required: bool,
}

/// What is attached, by what it is attached to.
type Pieces = HashMap<Box<str>, BTreeMap<Box<str>, Piece>>;

/// A key, as its object has it.
struct Record {
    id: Arc<str>,
    owner: Arc<Owner>,
    digest: Digest,
    /// The secret before, and until when it holds.
    previous: Option<Box<(Digest, i64)>>,
    /// Seconds since 1970; `i64::MAX`: never.
    expires: i64,
    disabled: bool,
    explain: bool,
    /// What it amounts to, once it was used.
    ready: ArcSwapOption<Key>,
}

/// Whoever may use the administration API with a token of their own, or by signing in.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: Box<str>,
    /// For people, where the identity provider tells it.
    pub name: Option<Box<str>>,
    /// The path of the organisation that they are a user of; empty for nobody of the directory.
    pub organisation: Box<str>,
    /// What they are, with the path of where.
    pub roles: Vec<(Role, Box<str>)>,
    pub disabled: bool,
    /// How the identity provider names them.
    subject: Option<Box<str>>,
    token: Option<TokenSecret>,
}

/// A provider's credential, still sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    pub id: Box<str>,
    pub provider: Box<str>,
    pub name: Box<str>,
    pub weight: u32,
    pub sealed: Box<str>,
}

/// What becomes of a text that is shown as a key.
#[derive(Debug)]
pub enum Found {
    Key(Arc<Key>),
    /// It has not the form of the directory's keys.
    Foreign,
    Unknown,
    Expired,
    Disabled,
    /// Keys were not read yet, so that nobody can tell.
    Unready,
}

impl View {
    /// With `required` nobody may ask without a key, whether there is one or not.
    pub fn new(pepper: &[u8; 32], required: bool) -> Self {
        Self {
            pepper: hmac::Key::new(hmac::HMAC_SHA256, pepper),
            keys: DashMap::new(),
            people: DashMap::new(),
            levels: DashMap::new(),
            retentions: DashMap::new(),
            credentials: DashMap::new(),
            pieces: Mutex::default(),
            attached: Mutex::default(),
            owners: Mutex::default(),
            organisations: Mutex::default(),
            places: DashMap::new(),
            generation: AtomicU64::new(1),
            credentials_changed: AtomicU64::new(0),
            loaded: AtomicBool::new(false),
            closed: AtomicBool::new(required),
            required,
        }
    }

    pub fn digest(&self, text: &str) -> Digest {
        Digest::of(&self.pepper, text)
    }

    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Returns whether nobody may ask without a key: there is an organisation, or there may be one.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Everything is here. With `closed` there was an organisation once: whoever deletes the last one doesn't open the
    /// gateway to everybody.
    pub fn load(&self, closed: bool) {
        let any = closed || self.required || !self.organisations.lock().is_empty();
        self.closed.store(any, Ordering::Release);
        self.loaded.store(true, Ordering::Release);
    }

    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Counts with every change of credentials.
    pub fn credentials_changed(&self) -> u64 {
        self.credentials_changed.load(Ordering::Acquire)
    }

    pub fn credentials(&self) -> Vec<Arc<Credential>> {
        let all = self.credentials.iter();
        let mut all: Vec<_> = all.map(|one| one.value().clone()).collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }

    /// Looks up what was shown as a key.
    pub fn find(&self, presented: &str, now: impl Fn() -> i64) -> Found {
        if !presented.starts_with(token::KEY) {
            return Found::Foreign;
        }
        let Some(public) = token::public_of(token::KEY, presented) else {
            return Found::Foreign;
        };
        // A key that is known before its rules are might do too much.
        if !self.is_loaded() {
            return Found::Unready;
        }
        // Taken of every text, known or not: the time tells nothing.
        let digest = self.digest(presented);
        let found = self.keys.get(&public).map(|found| found.value().clone());
        let Some(record) = found else {
            return Found::Unknown;
        };
        let previous = || {
            let previous = record.previous.as_ref();
            previous.is_some_and(|previous| previous.0.is(&digest) && now() < previous.1)
        };
        if !record.digest.is(&digest) && !previous() {
            return Found::Unknown;
        }
        if record.expires != i64::MAX && now() >= record.expires {
            return Found::Expired;
        }
        if record.disabled || self.is_gone(record.owner.user.as_deref()) {
            return Found::Disabled;
        }
        Found::Key(self.ready(&record))
    }

    /// Returns the key of that id, whatever it may do now: for a dry run.
    pub fn named(&self, id: &str) -> Option<Arc<Key>> {
        let record = self.keys.get(&token::public_in(id)?)?.value().clone();
        (*record.id == *id).then(|| self.ready(&record))
    }

    /// Returns whether the user of a key may no longer ask.
    fn is_gone(&self, user: Option<&str>) -> bool {
        let Some(user) = user else { return false };
        let public = token::public_in(user);
        let person = public.and_then(|public| self.people.get(&public));
        person.is_none_or(|person| person.disabled)
    }

    fn ready(&self, record: &Record) -> Arc<Key> {
        let generation = self.generation.load(Ordering::Acquire);
        if let Some(ready) = &*record.ready.load()
            && ready.generation == generation
        {
            return ready.clone();
        }
        let mut key = self.put_together(record.id.clone(), record.owner.clone(), generation);
        key.explain = record.explain;
        let key = Arc::new(key);
        record.ready.store(Some(key.clone()));
        key
    }

    /// Returns what holds for whoever belongs to a place, to be used under `name`; `None` when there is no such place.
    pub fn principal(&self, id: &str, name: &str) -> Option<Key> {
        let generation = self.generation();
        let path = self.place(id)?;
        let mut ids = path.split('/').skip(1);
        let mut next = || Arc::from(ids.next().unwrap_or_default());
        let owner = Owner {
            organisation: next(),
            team: next(),
            project: next(),
            user: None,
        };
        Some(self.put_together(name.into(), Arc::new(owner), generation))
    }

    /// Returns the path of an organisation, a team or a project.
    pub fn place(&self, id: &str) -> Option<Box<str>> {
        self.places.get(id).map(|path| path.value().clone())
    }

    /// Counts every change of what keys amount to.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn put_together(&self, name: Arc<str>, owner: Arc<Owner>, generation: u64) -> Key {
        let mut key = Key::owned(name.clone(), owner.clone(), generation);
        let above = [&*owner.organisation, &*owner.team, &*owner.project];
        let ids = above.into_iter().chain(owner.user.as_deref());
        let ids = ids.chain([&*name]);
        let levels = ids.filter_map(|id| Some(self.levels.get(id)?.value().clone()));
        let levels: Vec<Arc<Level>> = levels.collect();
        let of = levels.iter();
        key.gates = of.clone().filter_map(|level| level.gate.clone()).collect();
        key.constraints = of
            .clone()
            .filter_map(|level| level.constraints.clone())
            .collect();
        key.limits = of
            .clone()
            .flat_map(|level| level.limits.iter().cloned())
            .collect();
        key.spends = of
            .clone()
            .filter_map(|level| level.spends.clone())
            .collect();
        key.named = of.flat_map(|level| level.named.iter().cloned()).collect();
        let nearest = above.into_iter().rev();
        key.retention = nearest
            .filter_map(|id| Some(*self.retentions.get(id)?))
            .next();
        key
    }

    /// Returns whose token was shown.
    pub fn person(&self, presented: &str, now: i64) -> Option<Arc<Person>> {
        let public = token::public_of(token::PERSON, presented)?;
        let digest = self.digest(presented);
        let person = self.people.get(&public)?.value().clone();
        let holds = person
            .token
            .as_ref()
            .is_some_and(|known| known.digest.is(&digest) && known.until.is_none_or(|at| now < at));
        (holds && !person.disabled).then_some(person)
    }

    /// Returns the user of that id.
    pub fn user(&self, id: &str) -> Option<Arc<Person>> {
        let found = self.people.get(&token::public_in(id)?)?.value().clone();
        (*found.id == *id).then_some(found)
    }

    /// Returns the user whom the identity provider names so; of several the first that was made.
    pub fn user_named(&self, subject: &str) -> Option<Arc<Person>> {
        let named = self
            .people
            .iter()
            .filter(|one| one.subject.as_deref() == Some(subject));
        let first = named.min_by(|one, other| one.id.cmp(&other.id));
        first.map(|one| one.value().clone())
    }

    /// Takes in an object as it is now.
    pub fn put(&self, object: &Object) {
        let body: Map<String, Value> = serde_json::from_str(&object.body).unwrap_or_default();
        match object.kind {
            Kind::Organisation => {
                self.organisations.lock().insert(object.id.as_str().into());
                self.put_retention(&object.id, retention(&body));
                self.close();
                self.put_place(object);
            }
            Kind::Team | Kind::Project => {
                self.put_retention(&object.id, retention(&body));
                self.put_place(object);
            }
            Kind::User => self.put_person(object, &body),
            Kind::Key => self.put_key(object, &body),
            Kind::Policy | Kind::Limit | Kind::Budget => {
                if let (Some(piece), Some(on)) = (Piece::read(object.kind, &body), &object.parent) {
                    let id: Box<str> = object.id.as_str().into();
                    let on: Box<str> = on.as_str().into();
                    self.attached.lock().insert(id.clone(), on.clone());
                    let piece = piece.made(object.created);
                    let mut pieces = self.pieces.lock();
                    pieces.entry(on.clone()).or_default().insert(id, piece);
                    self.level(&on, &mut pieces);
                }
            }
            Kind::Credential => self.put_credential(object, &body),
        }
    }

    /// Forgets an object that is gone.
    pub(super) fn remove(&self, id: &str) {
        match Kind::of_id(id) {
            Some(Kind::Organisation) => {
                self.organisations.lock().remove(id);
                self.put_retention(id, None);
                self.remove_place(id);
            }
            Some(Kind::User) => {
                if let Some(public) = token::public_in(id) {
                    self.people.remove(&public);
                    self.changed();
                }
            }
            Some(Kind::Key) => {
                if let Some(public) = token::public_in(id) {
                    self.keys.remove(&public);
                }
            }
            Some(Kind::Policy | Kind::Limit | Kind::Budget) => {
                let on = self.attached.lock().remove(id);
                let mut pieces = self.pieces.lock();
                if let Some(on) = on
                    && let Some(there) = pieces.get_mut(&on)
                {
                    there.remove(id);
                    self.level(&on, &mut pieces);
                }
            }
            Some(Kind::Credential) => {
                let gone = u64::from(self.credentials.remove(id).is_some());
                self.credentials_changed.fetch_add(gone, Ordering::AcqRel);
            }
            Some(Kind::Team | Kind::Project) => {
                self.put_retention(id, None);
                self.remove_place(id);
            }
            None => {}
        }
    }

    fn put_place(&self, object: &Object) {
        let path = object.path.as_str();
        if self
            .places
            .insert(object.id.as_str().into(), path.into())
            .as_deref()
            != Some(path)
        {
            self.changed();
        }
    }

    fn remove_place(&self, id: &str) {
        if self.places.remove(id).is_some() {
            self.changed();
        }
    }

    fn put_retention(&self, id: &str, retention: Option<Retention>) {
        let before = match retention {
            Some(retention) => self.retentions.insert(id.into(), retention),
            None => self.retentions.remove(id).map(|(_, before)| before),
        };
        if before != retention {
            self.changed();
        }
    }

    /// Returns the ids of everything that is held, so that what is gone can be told after everything was read anew.
    pub(super) fn ids(&self) -> Vec<Box<str>> {
        let keys = self.keys.iter().map(|one| Box::from(&*one.id));
        let people = self.people.iter().map(|one| one.id.clone());
        let credentials = self.credentials.iter().map(|one| one.id.clone());
        let mut ids: Vec<Box<str>> = keys.chain(people).chain(credentials).collect();
        ids.extend(self.attached.lock().keys().cloned());
        ids.extend(self.places.iter().map(|one| one.key().clone()));
        ids.extend(self.organisations.lock().iter().cloned());
        ids.extend(self.retentions.iter().map(|one| one.key().clone()));
        ids
    }

    fn level(&self, on: &str, pieces: &mut Pieces) {
        let level = pieces.get(on).map(|pieces| Level::of(on, pieces));
        match level.filter(|level| !level.is_empty()) {
            Some(level) => {
                self.levels.insert(on.into(), Arc::new(level));
            }
            None => {
                pieces.remove(on);
                self.levels.remove(on);
            }
        }
        self.changed();
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn put_key(&self, object: &Object, body: &Map<String, Value>) {
        let Some(public) = token::public_in(&object.id) else {
            return;
        };
        let secret = object.secret.as_deref().and_then(KeySecret::read);
        let ids: Vec<&str> = object.ids().collect();
        let (Some(secret), [organisation, team, project, _]) = (secret, &ids[..]) else {
            // It can't be held against anything: nobody gets in with it.
            self.keys.remove(&public);
            return;
        };
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let is = |name: &str| body.get(name) == Some(&Value::Bool(true));
        let user = text("user");
        let place = [(*project).into(), user.unwrap_or_default().into()];
        let owner = self
            .owners
            .lock()
            .entry(place)
            .or_insert_with(|| {
                Arc::new(Owner {
                    organisation: (*organisation).into(),
                    team: (*team).into(),
                    project: (*project).into(),
                    user: user.map(Into::into),
                })
            })
            .clone();
        // A time that can't be read is one that is over.
        let expires = text("expires").map_or(i64::MAX, |text| schema::time(text).unwrap_or(0));
        let record = Record {
            id: object.id.as_str().into(),
            owner,
            digest: secret.digest,
            previous: secret.previous.map(Box::new),
            expires,
            disabled: is("disabled"),
            explain: is("explain"),
            ready: ArcSwapOption::empty(),
        };
        self.keys.insert(public, Arc::new(record));
    }

    fn put_person(&self, object: &Object, body: &Map<String, Value>) {
        let Some(public) = token::public_in(&object.id) else {
            return;
        };
        let roles = body.get("roles").and_then(Value::as_array);
        let roles = roles.into_iter().flatten().filter_map(|membership| {
            let role = Role::named(membership.get("role")?.as_str()?)?;
            // Put there by the API when it checked that it exists.
            let path = membership.get("path")?.as_str()?;
            Some((role, path.into()))
        });
        let person = Person {
            id: object.id.as_str().into(),
            name: Some(object.name.as_str().into()),
            organisation: object
                .path
                .rsplit_once('/')
                .map_or("", |(above, _)| above)
                .into(),
            roles: roles.collect(),
            disabled: body.get("disabled") == Some(&Value::Bool(true)),
            subject: body.get("subject").and_then(Value::as_str).map(Into::into),
            token: object.secret.as_deref().and_then(TokenSecret::read),
        };
        self.people.insert(public, Arc::new(person));
    }

    fn put_credential(&self, object: &Object, body: &Map<String, Value>) {
        let provider = body.get("provider").and_then(Value::as_str);
        let (Some(provider), Some(sealed)) = (provider, &object.secret) else {
            return;
        };
        let weight = body.get("weight").and_then(Value::as_u64).unwrap_or(1);
        let credential = Credential {
            id: object.id.as_str().into(),
            provider: provider.into(),
            name: object.name.as_str().into(),
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            sealed: sealed.as_str().into(),
        };
        let before = self.credentials.get(&*credential.id).map(|one| one.clone());
        if before.is_none_or(|before| *before != credential) {
            self.credentials
                .insert(credential.id.clone(), Arc::new(credential));
            self.credentials_changed.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Reads what an object says of what the ledger keeps.
fn retention(body: &Map<String, Value>) -> Option<Retention> {
    let said = body.get("retention")?;
    let days = said.get("days").and_then(Value::as_u64);
    Some(Retention {
        keep: Keep::named(said.get("keep")?.as_str()?)?,
        bodies: days.map(|days| std::time::Duration::from_secs(days * 24 * 3600)),
    })
}

impl Person {
    /// Returns whoever signed in, with what they may do.
    pub fn signed_in(id: &str, name: Option<&str>, roles: Vec<(Role, Box<str>)>) -> Self {
        Self {
            id: id.into(),
            name: name.map(Into::into),
            organisation: Box::default(),
            roles,
            disabled: false,
            subject: None,
            token: None,
        }
    }

    /// Returns whether they may do what asks for `least`, to something at `path`.
    pub fn may(&self, least: super::role::Least, path: &str) -> bool {
        self.roles
            .iter()
            .any(|(role, of)| role.may(least) && is_within(path, of))
    }

    /// Returns whether they may do it somewhere.
    pub fn may_somewhere(&self, least: super::role::Least) -> bool {
        self.roles.iter().any(|(role, _)| role.may(least))
    }
}

/// Returns whether a path is that of `of`, or of something that belongs to it.
pub fn is_within(path: &str, of: &str) -> bool {
    path.strip_prefix(of)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a key's object keeps of its secrets: digests.
pub struct KeySecret {
    pub digest: Digest,
    /// The one before, and until when it holds.
    pub previous: Option<(Digest, i64)>,
}

impl KeySecret {
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let digest = Digest::from_hex(parts.next()?)?;
        let previous = match (parts.next(), parts.next()) {
            (Some(before), Some(until)) => Some((Digest::from_hex(before)?, until.parse().ok()?)),
            _ => None,
        };
        Some(Self { digest, previous })
    }

    pub fn write(&self) -> String {
        match &self.previous {
            None => self.digest.hex(),
            Some((before, until)) => format!("{} {} {until}", self.digest.hex(), before.hex()),
        }
    }
}

/// What a user's object keeps of their token.
#[derive(Debug, Clone)]
pub struct TokenSecret {
    pub digest: Digest,
    /// Seconds since 1970; `None`: it holds until it is taken away.
    pub until: Option<i64>,
}

impl TokenSecret {
    pub fn read(text: &str) -> Option<Self> {
        let (digest, until) = match text.split_once(' ') {
            // An end that can't be read is one that is over.
            Some((digest, until)) => (digest, Some(until.parse().unwrap_or(0))),
            None => (text, None),
        };
        Some(Self {
            digest: Digest::from_hex(digest)?,
            until,
        })
    }

    pub fn write(&self) -> String {
        match self.until {
            Some(until) => format!("{} {until}", self.digest.hex()),
            None => self.digest.hex(),
        }
    }
}
