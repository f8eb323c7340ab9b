//! New secrets for keys and people, in place of those before.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Asked, Done, SHOWN, failed, unescaped};
use crate::directory::Failed;
use crate::directory::schema::{self, Kind};
use crate::directory::store::{Change, Object, Once, Refused};
use crate::directory::token;
use crate::directory::view::{KeySecret, TokenSecret};
use crate::secret::Secret;
use crate::server::reply::{Fault, Reply};

/// How long the secret before holds, unless it is said.
const GRACE: i64 = 3600;
const MOST_GRACE: u64 = 30 * 24 * 3600;
/// What a repeated request is told in place of a token.
const TOLD: &str = "The token was shown once, in the answer to the first request. Where that was lost, make another: POST /admin/v1/users/{id}/token.";

impl Asked<'_> {
    pub(super) async fn rotate(&self) -> Done {
        self.not_of_file(Kind::Key)?;
        let object = self.find(Kind::Key).await?;
        self.permit_on(&object).await?;
        let once = self.may_repeat("rotate", &object)?;
        let body = match self.body.is_empty() {
            true => Map::new(),
            false => self.object()?,
        };
        let mut grace = GRACE;
        for (name, value) in &body {
            match (name.as_str(), value.as_u64()) {
                ("grace", Some(seconds)) if seconds <= MOST_GRACE => {
                    grace = i64::try_from(seconds).unwrap_or(GRACE);
                }
                ("grace", _) => {
                    let message = format!("must be seconds, from 0 to {MOST_GRACE}");
                    return Err(Fault::field("grace", message));
                }
                _ => {
                    let shown: String = name.chars().take(40).collect();
                    return Err(Fault::field(shown, "is unknown; known is grace"));
                }
            }
        }
        let public = object.id.trim_start_matches(Kind::Key.prefix());
        let key = token::new_secret(token::KEY, public);
        let before = object.secret.as_deref().and_then(KeySecret::read);
        let until = Timestamp::now().as_second() + grace;
        let secret = KeySecret {
            digest: self.directory.view().digest(key.expose()),
            previous: before
                .filter(|_| grace > 0)
                .map(|before| (before.digest, until)),
        };
        self.replace(&object, secret.write(), once, ("key", key))
            .await
    }

    /// Checks what the request was to find. One that may be a repeated one doesn't find it any more, if it is: it is
    /// told so when it is looked up.
    fn may_repeat(&self, what: &str, object: &Object) -> Result<Option<(Once, bool)>, Fault> {
        let fits = self.check_match(object);
        match self.once(&format!("{what} {}", object.id))? {
            Some(once) => Ok(Some((once, fits.is_ok()))),
            None => fits.map(|()| None),
        }
    }

    /// Puts another secret in place of that of an object, and shows it where this is not a repeated request.
    async fn replace(
        &self,
        object: &Object,
        secret: String,
        once: Option<(Once, bool)>,
        (name, shown): (&str, Secret),
    ) -> Done {
        let fits = once.as_ref().is_none_or(|(_, fits)| *fits);
        let changed = self.directory.update(Change {
            id: object.id.clone(),
            // No object is of that one.
            version: if fits { object.version } else { i64::MIN },
            name: object.name.clone(),
            body: object.body.clone(),
            secret: Some(secret),
            once: once.map(|(once, _)| once),
        });
        let (object, again) = match changed.await {
            Ok(object) => (object, false),
            Err(Failed::Refused(Refused::Made(object))) => (*object, true),
            Err(other) => return Err(failed(other)),
        };
        let mut reply = Reply::json(super::shown::shown(&object))
            .with_version(object.version)
            .of(&object);
        if again {
            let note = if name == "key" { SHOWN } else { TOLD };
            reply.insert("note", note.into());
            reply.insert(name, Value::Null);
            return Ok(reply.with_header("idempotency-replayed", "true"));
        }
        reply.insert(name, shown.expose().into());
        Ok(reply)
    }

    /// Ends sessions, before they are over.
    pub(super) async fn end_sessions(&self) -> Done {
        let subject = match self.query.unwrap_or_default() {
            "" => None,
            query => {
                let subject = query.strip_prefix("subject=").and_then(unescaped);
                let subject = subject.filter(|subject| (1..=255).contains(&subject.len()));
                let wrong = || Fault::field("subject", "must name somebody, or be left out");
                Some(subject.ok_or_else(wrong)?)
            }
        };
        let ended = self.directory.end_sessions(subject.clone()).await;
        let ended = ended.map_err(failed)?;
        Ok(Reply::json(
            json!({"object": "session", "id": subject, "ended": ended}),
        ))
    }

    /// Makes a person's token, or takes it away: they may, and whoever may make them what they are.
    pub(super) async fn make_token(&self, make: bool) -> Done {
        self.not_of_file(Kind::User)?;
        let object = self.find(Kind::User).await?;
        if !self.caller.is(&object.id) {
            self.permit_on(&object).await?;
        }
        let once = match make {
            true => self.may_repeat("token", &object)?,
            false => self.check_match(&object).map(|()| None)?,
        };
        let until = match self.body.is_empty() {
            true => None,
            false => token_end(&self.object()?, make)?,
        };
        let public = object.id.trim_start_matches(Kind::User.prefix());
        let token = token::new_secret(token::PERSON, public);
        let secret = make.then(|| TokenSecret {
            digest: self.directory.view().digest(token.expose()),
            until,
        });
        // No digest is empty: nothing is that token.
        let secret = secret.as_ref().map(TokenSecret::write).unwrap_or_default();
        if make {
            return self.replace(&object, secret, once, ("token", token)).await;
        }
        let body = serde_json::from_str(&object.body).unwrap_or_default();
        self.write(&object, body, Some(secret)).await
    }
}

/// Reads until when a token is to hold: `None` is until it is taken away.
fn token_end(body: &Map<String, Value>, make: bool) -> Result<Option<i64>, Fault> {
    let mut until = None;
    for (name, value) in body {
        if name != "expires" || !make {
            let shown: String = name.chars().take(40).collect();
            let known = if make {
                "known is expires"
            } else {
                "the body must be empty"
            };
            return Err(Fault::field(shown, format!("is unknown; {known}")));
        }
        let at = value.as_str().and_then(schema::time);
        let at = at.filter(|at| *at > Timestamp::now().as_second());
        let wrong = || {
            Fault::field(
                "expires",
                "must be a time to come, such as 2030-01-31T12:00:00Z",
            )
        };
        until = Some(at.ok_or_else(wrong)?);
    }
    Ok(until)
}
