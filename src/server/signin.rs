//! The routes by which people sign in and out.

use http::{Response, StatusCode};
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};

use super::admin::Admin;
use super::caller::{cookie, cookie_of, nobody};
use super::objects;
use super::reply::{Fault, Reply};
use super::routes::Does;
use crate::directory::session::Session;
use crate::directory::token;
use crate::jwt::Issuer;
use crate::signin::{self, Refused, Return, Settings, Standing, Ticket, Who};

/// People whose code is being exchanged; further ones are told to try again.
pub const MOST_EXCHANGES: usize = 32;
/// Where they go on to.
const HOME: &str = "/admin/v1/me";
/// Longer queries of the provider aren't read.
const LONGEST_QUERY: usize = 16 << 10;

impl Admin {
    /// Does what nobody needs a token for.
    pub(super) async fn anyone(&self, does: Does, session: &ServerSession) -> Response<Vec<u8>> {
        let now = self.link.core.now.load_full();
        let oidc = now.snapshot.admin.oidc.as_deref().zip(now.oidc.as_deref());
        let Some((settings, issuer)) = oidc else {
            let fault = Fault::new(
                StatusCode::NOT_FOUND,
                "not_configured",
                "Nobody signs in here: there is no [admin.oidc] in the configuration.",
            );
            return fault.into_answer();
        };
        let done = match does {
            Does::SignIn => self.sign_in(settings, issuer, session).await,
            Does::Callback => Box::pin(self.come_back(settings, issuer, session)).await,
            Does::SignOut => self.sign_out(settings, session).await,
            Does::Status
            | Does::Models
            | Does::Reload
            | Does::Explain
            | Does::Cooldowns
            | Does::ClearCooldowns
            | Does::ClearCache
            | Does::Document
            | Does::Me
            | Does::List(_)
            | Does::Create(_)
            | Does::Read(_)
            | Does::Change(_)
            | Does::Delete(_)
            | Does::RotateKey
            | Does::MakeToken
            | Does::DropToken
            | Does::EndSessions
            | Does::Ledger => Err(Fault::missing()),
        };
        done.map_or_else(Fault::into_answer, Reply::into_answer)
    }

    async fn sign_in(
        &self,
        settings: &Settings,
        issuer: &Issuer,
        session: &ServerSession,
    ) -> Result<Reply, Fault> {
        let mut to = Some(HOME.to_owned());
        for (name, value) in pairs(session.req_header().uri.query()) {
            match name {
                "to" => {
                    let path = value.as_deref().and_then(signin::local);
                    let wrong = || Fault::field("to", "must be a path of this server");
                    to = Some(path.ok_or_else(wrong)?);
                }
                "show" if value.as_deref() == Some("token") => to = None,
                "show" => return Err(Fault::field("show", "must be token, or left out")),
                _ => {
                    let shown: String = name.chars().take(40).collect();
                    return Err(Fault::field(shown, "is unknown; known are to, show"));
                }
            }
        }
        let held = Box::pin(issuer.known()).await;
        let endpoints = held.as_ref().and_then(|held| held.endpoints.as_ref());
        let endpoints = endpoints.ok_or_else(|| refused(&Refused::Away))?;
        let ticket = Ticket::new(to, jiff::Timestamp::now().as_second());
        let sealed = ticket.seal(self.link.core.directory.tickets());
        let away = signin::leave(settings, endpoints, &ticket);
        let life = signin::LIFE.as_secs();
        Ok(redirect(&away).with_header(
            "set-cookie",
            &kept(settings, ticket_name(settings), &sealed, life),
        ))
    }

    async fn come_back(
        &self,
        settings: &Settings,
        issuer: &Issuer,
        session: &ServerSession,
    ) -> Result<Reply, Fault> {
        let core = &self.link.core;
        let query = session.req_header().uri.query();
        let query = query.filter(|query| query.len() <= LONGEST_QUERY);
        let mut back = Return::default();
        for (name, value) in pairs(query) {
            match name {
                "code" => back.code = value,
                "state" => back.state = value,
                "iss" => back.issuer = value,
                "error" => back.error = Some(value.unwrap_or_default()),
                // Providers send more, and may.
                _ => {}
            }
        }
        let now = jiff::Timestamp::now().as_second();
        let sealed = cookie_of(session, ticket_name(settings));
        let ticket = sealed.and_then(|sealed| Ticket::open(&sealed, core.directory.tickets(), now));
        let ticket = ticket.ok_or_else(|| refused(&Refused::State))?;
        let Ok(_running) = self.exchanges.try_acquire() else {
            return Err(refused(&Refused::Away));
        };
        let exchanged = signin::exchange(settings, issuer, &ticket, back, now).await;
        let (claims, subject) = exchanged.map_err(|why| {
            tracing::info!(reason = %why, "nobody is signed in");
            refused(&why)
        })?;
        let view = core.directory.view();
        let who = Who::read(settings, &claims, &subject, view);
        let actor = match who.standing(settings, view) {
            Standing::Nobody => return Err(nobody()),
            Standing::Operator(name) => name.to_string(),
            Standing::Person(person) => person.id.to_string(),
        };
        let public = token::new_id("");
        let secret = token::new_secret(token::SESSION, &public);
        let life = settings.session.as_secs();
        let expires = now + i64::try_from(life).unwrap_or_default();
        let opened = core.directory.open_session(Session {
            id: public.clone(),
            digest: view.digest(secret.expose()),
            subject,
            body: serde_json::to_string(&who).unwrap_or_default(),
            expires,
        });
        opened.await.map_err(objects::failed)?;
        let detail = json!({"name": who.name, "email": who.email});
        core.ledger
            .audit(&actor, "session.create", &public, &detail);
        let over = kept(settings, ticket_name(settings), "", 0);
        Ok(match &ticket.to {
            Some(to) => redirect(to).with_header(
                "set-cookie",
                &kept(settings, cookie(settings), secret.expose(), life),
            ),
            None => Reply::json(json!({
                "object": "session",
                "token": secret.expose(),
                "expires": when(expires),
            })),
        }
        .with_header("set-cookie", &over)
        .with_header("referrer-policy", "no-referrer"))
    }

    async fn sign_out(&self, settings: &Settings, session: &ServerSession) -> Result<Reply, Fault> {
        let core = &self.link.core;
        if let Some((found, who)) = self.session(session).await? {
            let ended = core.directory.end_session(&found.id).await;
            ended.map_err(objects::failed)?;
            let actor = who.user.unwrap_or(format!("oidc:{}", who.subject));
            core.ledger
                .audit(&actor, "session.end", &found.id, &json!({}));
        }
        let over = kept(settings, cookie(settings), "", 0);
        Ok(Reply::json(json!({"object": "session", "ended": true}))
            .with_header("set-cookie", &over))
    }
}

/// Returns the name of the cookie that is kept while somebody is at the provider.
fn ticket_name(settings: &Settings) -> &'static str {
    match settings.is_secure() {
        true => "__Host-strait-signin",
        false => "strait-signin",
    }
}

fn redirect(to: &str) -> Reply {
    Reply::json(json!({"location": to}))
        .with_status(StatusCode::SEE_OTHER)
        .with_header("location", to)
}

fn when(seconds: i64) -> Value {
    let at = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    at.to_string().into()
}

/// Returns what has a browser keep a cookie: for our pages alone, and for nobody's script. `Lax`, because whoever comes
/// back from the provider comes from another site.
fn kept(settings: &Settings, name: &str, value: &str, seconds: u64) -> String {
    let secure = if settings.is_secure() { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// Returns the fields of a query, decoded; `None` for what is no text.
fn pairs(query: Option<&str>) -> impl Iterator<Item = (&str, Option<String>)> {
    let pairs = query.unwrap_or_default().split('&');
    let pairs = pairs.filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name, objects::unescaped(&value.replace('+', " ")))
    })
}

fn refused(why: &Refused) -> Fault {
    let (status, code) = match why {
        Refused::State => (StatusCode::BAD_REQUEST, "invalid_state"),
        Refused::Provider(_) => (StatusCode::FORBIDDEN, "provider_refused"),
        Refused::Code => (StatusCode::UNAUTHORIZED, "invalid_code"),
        Refused::Token(_) | Refused::Nonce => (StatusCode::UNAUTHORIZED, "invalid_token"),
        Refused::Away => (StatusCode::SERVICE_UNAVAILABLE, "provider_unavailable"),
    };
    Fault::new(status, code, &why.to_string())
}
