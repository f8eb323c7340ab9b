//! Who asks the administration API: by the admin token, by a token of their own, or by a session they signed in to.

use std::sync::Arc;

use http::{Method, StatusCode};
use pingora::protocols::http::ServerSession;

use super::admin::{Admin, LONGEST_TOKEN, sha256};
use super::objects::{self, Caller};
use super::reply::Fault;
use crate::directory::session::Session;
use crate::directory::token;
use crate::signin::{Settings, Standing, Who};

/// What a script of our own pages sends along: another's can't, without being asked first.
const TOLD: &str = "x-strait-csrf";

/// What is shown to prove who asks.
enum Shown {
    Bearer(String),
    /// Sent by a browser, whoever's page makes it.
    Cookie(String),
}

/// Returns the name of the cookie that holds a session. With the prefix no other host can set it.
pub fn cookie(settings: &Settings) -> &'static str {
    match settings.is_secure() {
        true => "__Host-strait-session",
        false => "strait-session",
    }
}

/// Returns the value of a cookie.
pub fn cookie_of(session: &ServerSession, name: &str) -> Option<String> {
    let headers = session.req_header().headers.get_all(http::header::COOKIE);
    let mut pairs = headers
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.find(|(known, _)| *known == name);
    found.map(|(_, value)| value.to_owned())
}

impl Admin {
    pub(super) async fn caller(&self, session: &ServerSession) -> Result<Caller, Fault> {
        let token = match self.shown(session)? {
            Some(Shown::Bearer(token) | Shown::Cookie(token)) => token,
            None => return Err(unknown()),
        };
        if sha256(token.as_bytes()) == self.token {
            return Ok(Caller::operator());
        }
        let directory = &self.link.core.directory;
        if token.starts_with(token::PERSON) {
            let now = jiff::Timestamp::now().as_second();
            let person = directory.view().person(&token, now).ok_or_else(unknown)?;
            directory.note_use(&person.id);
            return Ok(Caller::Person(person));
        }
        match self.find(&token).await? {
            Some((_, who)) => self.standing(&who),
            None => Err(unknown()),
        }
    }

    /// Returns the session that is shown, and who it is of.
    pub(super) async fn session(
        &self,
        session: &ServerSession,
    ) -> Result<Option<(Session, Who)>, Fault> {
        match self.shown(session)? {
            Some(Shown::Bearer(token) | Shown::Cookie(token)) => self.find(&token).await,
            None => Ok(None),
        }
    }

    async fn find(&self, token: &str) -> Result<Option<(Session, Who)>, Fault> {
        let found = self.link.core.directory.session(token).await;
        let found = found.map_err(objects::failed)?;
        Ok(found.and_then(|found| {
            let who = serde_json::from_str(&found.body).ok()?;
            Some((found, who))
        }))
    }

    /// Returns what somebody who signed in may do now.
    fn standing(&self, who: &Who) -> Result<Caller, Fault> {
        let now = self.link.core.now.load();
        let settings = now.snapshot.admin.oidc.as_ref().ok_or_else(unknown)?;
        match who.standing(settings, self.link.core.directory.view()) {
            Standing::Operator(who) => Ok(Caller::Operator(who)),
            Standing::Person(person) => Ok(Caller::Person(person)),
            Standing::Nobody => Err(nobody()),
        }
    }

    /// Returns what is shown. What stands in `authorization` counts alone, right or wrong.
    fn shown(&self, session: &ServerSession) -> Result<Option<Shown>, Fault> {
        if let Some(header) = session.get_header(http::header::AUTHORIZATION) {
            let token = header.to_str().ok().and_then(|value| {
                let (scheme, token) = value.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
            });
            let token = token.filter(|token| token.len() <= LONGEST_TOKEN);
            return Ok(token.map(|token| Shown::Bearer(token.to_owned())));
        }
        let now = self.link.core.now.load();
        let Some(settings) = now.snapshot.admin.oidc.as_ref() else {
            return Ok(None);
        };
        let token = cookie_of(session, cookie(settings));
        let token = token.filter(|token| {
            // Only what signing in has made is taken from a browser.
            token.len() <= LONGEST_TOKEN && token.starts_with(token::SESSION)
        });
        let method = &session.req_header().method;
        let reads = *method == Method::GET || *method == Method::HEAD;
        if token.is_some() && !reads && !is_own_page(session, settings) {
            return Err(Fault::new(
                StatusCode::FORBIDDEN,
                "cross_site_request",
                "A change asked for with a cookie has to come from a page of this server, or to send `x-strait-csrf: 1`.",
            ));
        }
        Ok(token.map(Shown::Cookie))
    }
}

/// Returns whether a request that a browser adds our cookie to was made by a page of ours.
fn is_own_page(session: &ServerSession, settings: &Settings) -> bool {
    let header = |name: &str| session.get_header(name).map(http::HeaderValue::as_bytes);
    let site = header("sec-fetch-site").map(|site| site == b"same-origin");
    let origin = header("origin").map(|told| {
        let told = told.to_ascii_lowercase();
        settings.origin().is_some_and(|own| own.as_bytes() == told)
    });
    match (site, origin) {
        (Some(false), _) | (_, Some(false)) => false,
        (Some(true), _) | (_, Some(true)) => true,
        // An old browser, or no browser: what another's page can't send will do.
        (None, None) => header(TOLD).is_some_and(|value| !value.is_empty()),
    }
}

fn unknown() -> Fault {
    Fault::new(
        StatusCode::UNAUTHORIZED,
        "invalid_admin_token",
        "Send the admin token, or one of your own, as `Authorization: Bearer TOKEN`, or sign in at /admin/v1/signin.",
    )
}

pub(super) fn nobody() -> Fault {
    Fault::new(
        StatusCode::FORBIDDEN,
        "no_role",
        "Whoever you are signed in as has no role here: ask whoever runs this gateway.",
    )
}

impl Caller {
    /// Whoever has the admin token.
    pub fn operator() -> Self {
        Caller::Operator(Arc::from("operator"))
    }
}
