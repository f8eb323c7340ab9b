//! The objects of the directory over the administration API: made, listed, shown, changed, deleted.
//!
//! Whoever may not see an object is told that there is none. Secrets are shown once, where they are made.

mod permit;
mod secrets;
mod shown;

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::reply::{Fault, Reply};
use super::routes::Does;
use crate::config::Snapshot;
use crate::directory::role::Least;
use crate::directory::schema::{self, Kind};
use crate::directory::store::{Change, New, Object, Once, Query, Refused};
use crate::directory::token;
use crate::directory::view::{KeySecret, Person};
use crate::directory::{Directory, Failed};
use crate::limit::budget::Budgets;
use permit::{create_least, roles};
use shown::{id_of, shown};

/// Objects on one page: as many as are asked for, or these.
const PAGE: usize = 20;
const MOST_PAGE: usize = 100;
/// Rows looked at in one step for whoever may see only some.
const STEP: usize = 500;
/// What a repeated request is told in place of the key.
pub const SHOWN: &str = "The key was shown once, in the answer to the first request. Where that was lost, rotate the key: POST /admin/v1/keys/{id}/rotate.";
/// Ids of what stands in the configuration file begin so.
const FILE: &str = "file:";

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Whoever has the admin token, or is in a group that is as good; as the audit log names them.
    Operator(Arc<str>),
    Person(Arc<Person>),
}

impl Caller {
    pub fn may(&self, least: Least, path: &str) -> bool {
        match self {
            Caller::Operator(_) => true,
            Caller::Person(person) => person.may(least, path),
        }
    }

    pub fn may_somewhere(&self, least: Least) -> bool {
        match self {
            Caller::Operator(_) => true,
            Caller::Person(person) => person.may_somewhere(least),
        }
    }

    fn is(&self, id: &str) -> bool {
        match self {
            Caller::Operator(_) => false,
            Caller::Person(person) => *person.id == *id,
        }
    }

    /// Returns where they are what `least` asks for, as paths; `None`: everywhere.
    pub fn sees(&self, least: Least) -> Option<Vec<String>> {
        match self {
            Caller::Operator(_) => None,
            Caller::Person(person) => {
                let may = person.roles.iter().filter(|(role, _)| role.may(least));
                Some(may.map(|(_, path)| path.to_string()).collect())
            }
        }
    }

    /// Returns how the audit log names them.
    pub fn name(&self) -> &str {
        match self {
            Caller::Operator(who) => who,
            Caller::Person(person) => &person.id,
        }
    }
}

/// A request, as far as it matters here.
pub struct Asked<'a> {
    pub caller: &'a Caller,
    pub directory: &'a Directory,
    pub snapshot: &'a Snapshot,
    /// Keys of the configuration.
    pub keys: &'a crate::access::Keys,
    pub budgets: &'a Budgets,
    pub id: Option<&'a str>,
    pub query: Option<&'a str>,
    pub body: &'a [u8],
    pub if_match: Option<&'a str>,
    pub once: Option<&'a str>,
}

type Done = Result<Reply, Fault>;

impl Asked<'_> {
    pub async fn run(&self, does: Does) -> Done {
        match does {
            Does::List(kind) => self.list(kind).await,
            Does::Create(kind) => self.create(kind).await,
            Does::Read(kind) => self.read(kind).await,
            Does::Change(kind) => self.change(kind).await,
            Does::Delete(kind) => self.delete(kind).await,
            Does::RotateKey => self.rotate().await,
            Does::MakeToken => self.make_token(true).await,
            Does::DropToken => self.make_token(false).await,
            Does::Me => Ok(self.me()),
            Does::EndSessions => self.end_sessions().await,
            Does::Status
            | Does::Models
            | Does::Reload
            | Does::Explain
            | Does::Cooldowns
            | Does::ClearCooldowns
            | Does::ClearCache
            | Does::Document
            | Does::SignIn
            | Does::Callback
            | Does::SignOut
            | Does::Ledger => Err(Fault::missing()),
        }
    }

    fn me(&self) -> Reply {
        Reply::json(match self.caller {
            Caller::Operator(who) => json!({"object": "operator", "id": &**who}),
            Caller::Person(person) => {
                let roles = person.roles.iter().map(|(role, path)| {
                    let of = path.rsplit('/').next().unwrap_or_default();
                    json!({"role": role.name(), "of": of})
                });
                json!({
                    "object": "user",
                    "id": &*person.id,
                    "name": person.name.as_deref(),
                    "roles": roles.collect::<Vec<_>>(),
                })
            }
        })
    }

    async fn list(&self, kind: Kind) -> Done {
        let Page { most, after, under } = self.page()?;
        let mut under_path = String::new();
        if let Some(under) = &under {
            let found = self.find_any(under).await?;
            let found = found.ok_or_else(|| Fault::field("under", "there is no such object"))?;
            under_path = format!("{}/", found.path);
        }
        let mut data = Vec::new();
        let in_files = under.is_none() && matches!(self.caller, Caller::Operator(_));
        if in_files && (after.is_empty() || after.starts_with(FILE)) {
            let mut of_file = self.of_file(kind);
            of_file.retain(|one| id_of(one) > after.as_str());
            data.extend(of_file.into_iter().take(most + 1));
        }
        let mut from = match after.starts_with(FILE) {
            true => String::new(),
            false => after,
        };
        // One more than is shown tells whether there are more.
        while data.len() <= most {
            let query = Query {
                kind,
                under: under_path.clone(),
                after: from.clone(),
                most: STEP.min(most + 1).max(match self.caller {
                    Caller::Operator(_) => 1,
                    Caller::Person(_) => STEP,
                }),
            };
            let asked = query.most;
            let rows = self.directory.list(query).await.map_err(failed)?;
            let seen = rows.iter().filter(|row| self.sees(row));
            let room = most + 1 - data.len();
            data.extend(seen.take(room).map(|row| self.described(row)));
            match rows.last() {
                Some(last) if rows.len() == asked => from.clone_from(&last.id),
                Some(_) | None => break,
            }
        }
        let has_more = data.len() > most;
        data.truncate(most);
        self.add_uses(kind, &mut data).await?;
        let next = has_more.then(|| data.last().map(|last| id_of(last).to_owned()));
        Ok(Reply::json(json!({
            "object": "list",
            "data": data,
            "has_more": has_more,
            "next": next.flatten(),
        })))
    }

    fn page(&self) -> Result<Page, Fault> {
        let mut page = Page {
            most: PAGE,
            after: String::new(),
            under: None,
        };
        let pairs = self.query.unwrap_or_default().split('&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = unescaped(value).ok_or_else(|| Fault::field(name, "is no text"))?;
            match name {
                "limit" => {
                    let fits = |most: &usize| (1..=MOST_PAGE).contains(most);
                    let most = value.parse().ok().filter(fits);
                    let message = format!("must be a whole number from 1 to {MOST_PAGE}");
                    page.most = most.ok_or_else(|| Fault::field("limit", message))?;
                }
                "cursor" => page.after = is_id(&value, "cursor")?,
                "under" => page.under = Some(is_id(&value, "under")?),
                _ => {
                    let shown: String = name.chars().take(40).collect();
                    return Err(Fault::field(
                        shown,
                        "is unknown; known are limit, cursor, under",
                    ));
                }
            }
        }
        Ok(page)
    }

    async fn create(&self, kind: Kind) -> Done {
        let mut body = self.object()?;
        schema::check_new(kind, &body).map_err(Fault::wrong)?;
        let parent = match kind.parent() {
            Some((field, _)) => {
                let id = text(&body, field);
                let Some(parent) = self.find_any(id).await? else {
                    return Err(Fault::field(field, format!("there is no {id}")));
                };
                Some(parent)
            }
            None => None,
        };
        let path = parent.as_ref().map_or("", |parent| &parent.path);
        self.permit(create_least(kind, parent.as_ref()), path)?;
        let mut new = New::of(
            kind,
            parent.as_ref().map(|parent| parent.id.clone()),
            "",
            String::new(),
        );
        let mut secret = None;
        match kind {
            Kind::Key => {
                self.check_owner(&mut body, path).await?;
                let public = new.id.trim_start_matches(kind.prefix());
                let key = token::new_secret(token::KEY, public);
                let digest = self.directory.view().digest(key.expose());
                new.secret = Some(
                    KeySecret {
                        digest,
                        previous: None,
                    }
                    .write(),
                );
                secret = Some(("key", key));
            }
            Kind::User => {
                self.check_subject(&body)?;
                self.check_roles(&mut body, path, &[]).await?;
            }
            Kind::Credential => new.secret = Some(self.seal(&new.id, &mut body)?),
            Kind::Organisation
            | Kind::Team
            | Kind::Project
            | Kind::Policy
            | Kind::Limit
            | Kind::Budget => {}
        }
        new.name = named(&body, &new.id);
        new.body = Value::Object(body).to_string();
        new.once = self.once(kind.name())?;
        let made = self.directory.create(new).await;
        let (object, again) = match made {
            Ok(object) => (object, false),
            Err(Failed::Refused(Refused::Made(object))) => (*object, true),
            Err(other) => return Err(failed(other)),
        };
        let mut answer = shown(&object);
        if let (Some((name, secret)), Some(answer)) = (secret, answer.as_object_mut()) {
            match again {
                false => answer.insert(name.into(), secret.expose().into()),
                // Only its digest is kept: it can't be shown again, and whoever lost it has to know.
                true => {
                    answer.insert("note".into(), SHOWN.into());
                    answer.insert(name.into(), Value::Null)
                }
            };
        }
        let location = format!("/admin/v1/{}/{}", kind.plural(), object.id);
        let mut reply = Reply::json(answer)
            .with_status(StatusCode::CREATED)
            .with_version(object.version)
            .with_header("location", &location)
            .of(&object);
        if again {
            reply = reply.with_header("idempotency-replayed", "true");
        }
        Ok(reply)
    }

    async fn read(&self, kind: Kind) -> Done {
        if let Some(name) = self.id.and_then(|id| id.strip_prefix(FILE)) {
            return self.read_file(kind, name);
        }
        let object = self.find(kind).await?;
        let mut shown = [self.described(&object)];
        self.add_uses(kind, &mut shown).await?;
        let [shown] = shown;
        Ok(Reply::json(shown).with_version(object.version))
    }

    async fn change(&self, kind: Kind) -> Done {
        self.not_of_file(kind)?;
        let before = self.find(kind).await?;
        self.permit_on(&before).await?;
        self.check_match(&before)?;
        let change = self.object()?;
        let old: Map<String, Value> = serde_json::from_str(&before.body).unwrap_or_default();
        let roles = roles(&old);
        let mut secret = None;
        let mut body = schema::change(kind, old, &change).map_err(Fault::wrong)?;
        if kind == Kind::User {
            self.check_subject(&change)?;
        }
        match kind {
            Kind::Credential if change.contains_key("key") => {
                secret = Some(self.seal(&before.id, &mut body)?);
            }
            Kind::User if change.contains_key("roles") => {
                let organisation = before.path.rsplit_once('/').map_or("", |(above, _)| above);
                self.check_roles(&mut body, organisation, &roles).await?;
            }
            Kind::Organisation
            | Kind::Team
            | Kind::Project
            | Kind::User
            | Kind::Key
            | Kind::Policy
            | Kind::Limit
            | Kind::Budget
            | Kind::Credential => {}
        }
        self.write(&before, body, secret).await
    }

    async fn write(
        &self,
        before: &Object,
        body: Map<String, Value>,
        secret: Option<String>,
    ) -> Done {
        let object = self.directory.update(Change {
            id: before.id.clone(),
            version: before.version,
            name: named(&body, &before.id),
            body: Value::Object(body).to_string(),
            secret,
            once: None,
        });
        let object = object.await.map_err(failed)?;
        Ok(Reply::json(shown(&object))
            .with_version(object.version)
            .of(&object))
    }

    async fn delete(&self, kind: Kind) -> Done {
        self.not_of_file(kind)?;
        let object = self.find(kind).await?;
        self.permit_on(&object).await?;
        self.check_match(&object)?;
        let all = match self.query {
            None | Some("") => false,
            Some("all=true") => true,
            Some(_) => return Err(Fault::field("all", "must be true, or left out")),
        };
        let version = self.if_match.map(|_| object.version);
        let gone = self.directory.delete(&object.id, version, all);
        let gone = gone.await.map_err(failed)?;
        let told = json!({"id": object.id, "object": kind.name(), "deleted": gone});
        Ok(Reply::json(told).of(&object))
    }

    /// Finds the object of the path.
    async fn find(&self, kind: Kind) -> Result<Object, Fault> {
        let id = self.id.unwrap_or_default();
        let found = match id.starts_with(kind.prefix()) && is_id(id, "id").is_ok() {
            true => self.find_any(id).await?,
            false => None,
        };
        found.ok_or_else(Fault::missing)
    }

    /// Finds an object that the caller may see.
    async fn find_any(&self, id: &str) -> Result<Option<Object>, Fault> {
        let found = self.directory.get(id).await.map_err(failed)?;
        Ok(found.filter(|found| self.sees(found)))
    }

    fn object(&self) -> Result<Map<String, Value>, Fault> {
        let read = serde_json::from_slice(self.body);
        read.map_err(|error| {
            // It never repeats what was sent.
            let message = format!(
                "must be a JSON object (line {}, column {})",
                error.line(),
                error.column()
            );
            Fault::field("body", message)
        })
    }

    fn check_match(&self, object: &Object) -> Result<(), Fault> {
        let Some(wanted) = self.if_match else {
            return Ok(());
        };
        let tag = super::reply::tag(object.version);
        let mut wanted = wanted.split(',').map(str::trim);
        match wanted.any(|wanted| wanted == "*" || wanted == tag) {
            true => Ok(()),
            false => Err(failed(Failed::Refused(Refused::Changed))),
        }
    }

    /// Returns what tells whether the same was asked before. `what` is what the body says it of.
    fn once(&self, what: &str) -> Result<Option<Once>, Fault> {
        let Some(key) = self.once else {
            return Ok(None);
        };
        if !(1..=255).contains(&key.len()) {
            return Err(Fault::field(
                "idempotency-key",
                "must be 1 to 255 characters",
            ));
        }
        let mut said = ring::digest::Context::new(&ring::digest::SHA256);
        // One key for two kinds of object, or for two objects, is two requests, whatever their bodies.
        said.update(what.as_bytes());
        said.update(b"\n");
        said.update(self.body);
        let digest = said.finish();
        Ok(Some(Once {
            caller: self.caller.name().to_owned(),
            key: key.to_owned(),
            request: token::hex(digest.as_ref()),
        }))
    }
}

struct Page {
    most: usize,
    after: String,
    under: Option<String>,
}

fn text<'b>(body: &'b Map<String, Value>, name: &str) -> &'b str {
    body.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn named(body: &Map<String, Value>, id: &str) -> String {
    match text(body, "name") {
        "" => id.to_owned(),
        name => name.to_owned(),
    }
}

/// Refuses what is no id before the database is asked for it.
fn is_id(text: &str, field: &str) -> Result<String, Fault> {
    let fits = (1..=300).contains(&text.len()) && !text.contains(char::is_control);
    match fits {
        true => Ok(text.to_owned()),
        false => Err(Fault::field(field, "is no id")),
    }
}

/// Decodes percent escapes; `None` for what is no text then.
pub(super) fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                out.push((digit(high)? << 4 | digit(low)?) as u8);
                rest = after;
            }
            (b'%', _) => return None,
            (byte, after) => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// Returns what is said when something isn't done.
pub(super) fn failed(failed: Failed) -> Fault {
    let (status, code, message) = match failed {
        Failed::Away => (
            StatusCode::SERVICE_UNAVAILABLE,
            "state_unavailable",
            "The state database can't be asked now. What is in force stays in force.".to_owned(),
        ),
        Failed::Refused(Refused::NotFound) => return Fault::missing(),
        Failed::Refused(Refused::NoParent) => (
            StatusCode::CONFLICT,
            "no_parent",
            "What it would belong to is gone.".to_owned(),
        ),
        Failed::Refused(Refused::NameTaken) => {
            let mut fault = Fault::new(
                StatusCode::CONFLICT,
                "name_taken",
                "There is another of that name here.",
            );
            fault.param = Some("name".into());
            return fault;
        }
        Failed::Refused(Refused::Changed) => (
            StatusCode::PRECONDITION_FAILED,
            "changed",
            "It has changed meanwhile: read it again.".to_owned(),
        ),
        Failed::Refused(Refused::InUse(count)) => (
            StatusCode::CONFLICT,
            "in_use",
            format!(
                "{count} other objects belong to it: delete those first, or all of it with ?all=true."
            ),
        ),
        Failed::Refused(Refused::OtherRequest) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "This Idempotency-Key was sent with another request.".to_owned(),
        ),
        Failed::Refused(Refused::Made(_)) => (
            StatusCode::CONFLICT,
            "made_already",
            "It was made already.".to_owned(),
        ),
    };
    Fault::new(status, code, &message)
}
