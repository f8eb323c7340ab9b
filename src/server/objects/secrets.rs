//! New secrets for keys and people, in place of those before.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Asked, Done, failed, unescaped};
use crate::directory::schema::{self, Kind};
use crate::directory::token;
use crate::directory::view::{KeySecret, TokenSecret};
use crate::server::reply::{Fault, Reply};

/// How long the secret before holds, unless it is said.
const GRACE: i64 = 3600;
const MOST_GRACE: u64 = 30 * 24 * 3600;
impl Asked<'_> {
    pub(super) async fn rotate(&self) -> Done {
        self.not_of_file(Kind::Key)?;
        let object = self.find(Kind::Key).await?;
        self.permit_on(&object).await?;
        self.check_match(&object)?;
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
        let body = serde_json::from_str(&object.body).unwrap_or_default();
        let mut reply = self.write(&object, body, Some(secret.write())).await?;
        reply.insert("key", key.expose().into());
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
        self.check_match(&object)?;
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
        let body = serde_json::from_str(&object.body).unwrap_or_default();
        let mut reply = self.write(&object, body, Some(secret)).await?;
        if make {
            reply.insert("token", token.expose().into());
        }
        Ok(reply)
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
