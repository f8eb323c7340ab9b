//! One request, start to finish.
//!
//! `Gateway` is the `ProxyHttp`. The model lane runs whole inside `request_filter`, over Pingora's connectors:
//! routing needs the body, failover needs the original body again for each target, and nothing may reach the
//! client before the commit point; Pingora's own upstream flow allows none of the three.

mod account;
mod admission;
mod allowance;
mod ask;
mod attempt;
mod continuation;
mod costed;
mod degrade;
mod demo;
mod dress;
mod endpoint;
mod exchange;
pub mod explain;
mod form;
mod intake;
mod kept;
mod lane;
mod limits;
pub mod models;
mod outcome;
mod own_key;
mod pump;
mod queue;
mod raw;
mod relay;
mod reply;
mod responses;
mod rules;
mod send;
mod shadow;
mod spending;
mod storing;
mod through;
mod tokens;
mod verdict;
mod watch;
mod watched;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;

use crate::access::{self, Bearer, Key, Keys, Places, Tokens};
use crate::cache::Cache;
use crate::cache::second::Second;
use crate::config::Snapshot;
use crate::directory::{Directory, Found};
use crate::error::{Error, Kind, Result};
use crate::jwt::{self, Issuer, Issuers};
use crate::ledger::alert::Alerts;
use crate::ledger::{Ledger, Reserved};
use crate::limit::budget::{Budgets, Reservation};
use crate::limit::overload::Turn;
use crate::limit::shared::Shared;
use crate::limit::since::Since;
use crate::limit::{Amount, Limiter};
use crate::observe::metrics::Metrics;
use crate::observe::record::Phase;
use crate::observe::writer::Writer;
use crate::protocol::Protocol;
use crate::routing::{self, Table};
use crate::state::State;
use crate::state::redis::Redis;

use endpoint::Endpoint;
pub use exchange::Exchange;
use intake::Controls;
use outcome::Lost;
use queue::Scope;
use reply::Headers;
pub use spending::charge_interrupted;

/// What all requests share, and what outlives a reload.
pub struct Core {
    pub now: ArcSwap<Now>,
    pub routing: Arc<routing::State>,
    pub limiter: Limiter,
    pub budgets: Arc<Budgets>,
    /// Since when those of the configuration file are there.
    pub since: Since,
    pub cache: ArcSwap<Option<Arc<Cache>>>,
    /// What other nodes have, where there is a Redis.
    pub second: Option<Arc<Second>>,
    pub metrics: Arc<Metrics>,
    pub writer: Writer,
    /// When a stopping process ends what is left.
    pub drain: ArcSwap<Option<Instant>>,
    /// What is kept on disk.
    pub state: State,
    /// Keys that are not written in the configuration.
    pub directory: Directory,
    /// Who signs tokens that are taken here.
    pub issuers: Arc<Issuers>,
    pub ledger: Ledger,
    pub alerts: Alerts,
    /// What is shared with other nodes at once, where there is one.
    pub redis: Option<Redis>,
    /// What nodes count together, where there is a Redis.
    pub shared: Option<Shared>,
}

/// One configuration in force. A request keeps the one that it began with.
pub struct Now {
    pub snapshot: Arc<Snapshot>,
    pub keys: Keys,
    pub tokens: Tokens,
    /// Where people sign in to the administration API.
    pub oidc: Option<Arc<Issuer>>,
    pub table: Table,
}

impl Now {
    /// Returns whether nobody is known to the configuration: everybody may ask, if the directory knows nobody either.
    fn is_open(&self) -> bool {
        self.keys.is_open() && self.tokens.is_empty()
    }
}

/// The proxy.
pub struct Gateway {
    pub core: Arc<Core>,
}

/// Downstream connections without a request are closed after this (seconds).
const IDLE_CLIENT: u64 = 75;

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: Pingora moves it from future to future.
    type CTX = Box<Exchange>;

    fn new_ctx(&self) -> Box<Exchange> {
        Box::new(Exchange::begin(self.core.clone()))
    }

    /// None: what Pingora adds otherwise, which compresses answers where that is wanted, is asked for each head and piece.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(
        &self,
        session: &mut Session,
        x: &mut Box<Exchange>,
    ) -> pingora::Result<bool> {
        let _counted = self.core.metrics.enter();
        // Pingora has read what the client wants of its connection; that it is to be closed must stand.
        if session.as_downstream().get_keepalive().is_some() {
            session.set_keepalive(Some(IDLE_CLIENT));
        }
        // Who sends the next request before this one is answered is no client that has left.
        session.as_downstream_mut().set_pipelining_enabled(true);
        let outcome = self.handle(session, x).await;
        match outcome {
            Err(error) if x.committed => {
                // The client left while it was being answered.
                tracing::debug!(id = x.record.id, %error, "answer not delivered");
                x.record.error.get_or_insert(Kind::ClientGone.code());
                session.set_keepalive(None);
            }
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        Ok(x.raw.is_none())
    }

    /// From here on: the raw lane, which `request_filter` leaves to Pingora.
    async fn upstream_peer(
        &self,
        _: &mut Session,
        x: &mut Box<Exchange>,
    ) -> pingora::Result<Box<HttpPeer>> {
        with_raw(x, |raw, x| raw.peer(x)).unwrap_or_else(|| {
            pingora::Error::e_explain(pingora::ErrorType::HTTPStatus(404), "no such path")
        })
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        x: &mut Box<Exchange>,
        mut error: Box<pingora::Error>,
    ) -> Box<pingora::Error> {
        // Nothing was sent: another address may do.
        let again = with_raw(x, |raw, x| raw.unconnected(x));
        error.set_retry(again.unwrap_or(false));
        error
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        head: &mut RequestHeader,
        x: &mut Box<Exchange>,
    ) -> pingora::Result<()> {
        match &mut x.raw {
            Some(raw) => raw.request(head, b"").await,
            None => Ok(()),
        }
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        x: &mut Box<Exchange>,
    ) -> pingora::Result<()> {
        let limited = with_raw(x, |raw, x| raw.body(body.as_ref(), x)).transpose()?;
        for limited in limited.unwrap_or_default() {
            let admitted = limits::admit_further(&limited, x).await;
            with_raw(x, |raw, _| match admitted {
                Ok(permit) => {
                    raw.counted(&limited, permit);
                    Ok(())
                }
                Err(error) => Err(raw.refuse(error)),
            })
            .transpose()?;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        head: &mut ResponseHeader,
        x: &mut Box<Exchange>,
    ) -> pingora::Result<()> {
        with_raw(x, |raw, x| raw.answer(head, x)).unwrap_or(Ok(()))
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        x: &mut Box<Exchange>,
    ) -> pingora::Result<Option<Duration>> {
        with_raw(x, |raw, x| raw.piece(body, x));
        Ok(None)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &pingora::Error,
        x: &mut Box<Exchange>,
    ) -> FailToProxy {
        let Some(mut raw) = x.raw.take() else {
            // The model lane answers for itself; what comes here is a client that left.
            return FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            };
        };
        let error_code = raw.fail(error, session, x).await;
        x.raw = Some(raw);
        FailToProxy {
            error_code,
            can_reuse_downstream: false,
        }
    }

    async fn logging(
        &self,
        _: &mut Session,
        error: Option<&pingora::Error>,
        x: &mut Box<Exchange>,
    ) {
        if let Some(raw) = x.raw.take() {
            raw.done(error, x);
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &Box<Exchange>, _: &pingora::Error) -> bool {
        true
    }
}

/// Runs a hook of the raw lane, if the request is in it.
fn with_raw<T>(
    x: &mut Exchange,
    hook: impl FnOnce(&mut raw::Raw, &mut Exchange) -> T,
) -> Option<T> {
    let mut raw = x.raw.take()?;
    let done = hook(&mut raw, x);
    x.raw = Some(raw);
    Some(done)
}

/// Returns the error of what only the state database knows, while it is away.
fn unknowable(what: &str) -> Error {
    let message = format!("{what}: the state database is away.");
    Error::new(Kind::StateUnavailable, message).with_retry_after(Duration::from_secs(2))
}

/// What is known of a request before its body.
struct Head {
    controls: Controls,
    key: Option<Arc<Key>>,
}

impl Head {
    /// Returns in whose name the request waits: a header may only lower the key's priority.
    fn turn(&self) -> Turn {
        let key = self.key.as_ref();
        let priority = key.map(|key| key.priority).unwrap_or_default();
        Turn {
            key: key.map(|key| key.name.clone()).unwrap_or_default(),
            priority: priority.max(self.controls.priority.unwrap_or(priority)),
        }
    }
}

impl Gateway {
    /// The whole of one request.
    async fn handle(&self, session: &mut Session, x: &mut Exchange) -> pingora::Result<()> {
        let now = self.core.now.load_full();
        let mut limits = Headers::new();
        match Box::pin(self.serve(&now, session, x, &mut limits)).await {
            Ok(done) => done,
            Err(Lost { error, .. }) if error.kind == Kind::ClientGone => {
                x.fail(&error);
                session.shutdown().await;
                Ok(())
            }
            Err(lost) => {
                // Whoever reads that it failed may ask again at once.
                x.settle();
                reply::lost(session, x, lost, limits).await
            }
        }
    }

    /// Answers, or says why not. The inner result tells whether the client took the answer.
    async fn serve(
        &self,
        now: &Arc<Now>,
        session: &mut Session,
        x: &mut Exchange,
        limits: &mut Headers,
    ) -> Result<pingora::Result<()>, Lost> {
        let path = session.req_header().uri.path().to_owned();
        let headers = &session.req_header().headers;
        x.record.at = jiff::Timestamp::now();
        x.record.id = intake::request_id(headers, x.record.at);
        x.protocol = endpoint::protocol(&path, headers);
        let query = session.req_header().uri.query().map(str::to_owned);
        let found = Endpoint::native(&path, |name| now.table.has_provider(name))
            .or_else(|| Endpoint::of(&path, query.as_deref()));
        let Some(endpoint) = found else {
            x.record.endpoint = "other";
            let shown: String = path.chars().take(200).collect();
            return Err(
                Error::new(Kind::PathNotFound, format!("There is nothing at {shown}.")).into(),
            );
        };
        x.record.endpoint = endpoint.name();
        if let Endpoint::Ask(asked) = &endpoint {
            x.protocol = asked.protocol;
        }
        if !endpoint.allows(&session.req_header().method) {
            let message = format!("This path takes {}.", endpoint.allow());
            limits.push((http::header::ALLOW, reply::header_value(endpoint.allow())));
            return Err(Error::new(Kind::MethodNotAllowed, message).into());
        }
        if endpoint == Endpoint::Alive {
            x.silent = true;
            let body = Bytes::from_static(b"{\"status\":\"ok\",\"service\":\"strait\"}\n");
            return Ok(reply::whole(
                session,
                x,
                200,
                vec![(http::header::CONTENT_TYPE, reply::JSON)],
                body,
            )
            .await);
        }
        let client = session.client_addr();
        let client = client.and_then(|client| Some(client.as_inet()?.ip()));
        let asks = session.req_header();
        let head = self.admit_caller(now, asks, client, x).await?;
        x.phase(Phase::Access, x.started);
        match endpoint {
            Endpoint::OwnKey => {
                let body = own_key::describe(head.key.as_deref(), now, x);
                let headers = vec![(http::header::CONTENT_TYPE, reply::JSON)];
                Ok(reply::whole(session, x, 200, headers, body).await)
            }
            Endpoint::Models => Ok(models::list(now, head.key.as_deref(), session, x).await),
            Endpoint::Model(id) => {
                Ok(models::one(now, head.key.as_deref(), &id, session, x).await?)
            }
            Endpoint::Ask(asked) => self.model_lane(&asked, now, head, session, x, limits).await,
            Endpoint::Raw(rest) => {
                let headers = &session.req_header().headers;
                let provider = raw::provider(now, rest, query.as_deref(), headers)?;
                let rest = format!("v1/{rest}");
                self.raw_lane(
                    now,
                    &provider,
                    &rest,
                    query.as_deref(),
                    head,
                    session,
                    x,
                    limits,
                )
                .await
                .map_err(Lost::from)
            }
            Endpoint::Native { provider, rest } => self
                .raw_lane(
                    now,
                    provider,
                    rest,
                    query.as_deref(),
                    head,
                    session,
                    x,
                    limits,
                )
                .await
                .map_err(Lost::from),
            Endpoint::Stored { id, part } => {
                let tenant = head.key.as_ref().map_or("", |key| &key.name);
                let delete = session.req_header().method == http::Method::DELETE;
                let action = match part {
                    endpoint::Part::Itself if delete => responses::Action::Delete,
                    endpoint::Part::Itself => responses::Action::Read,
                    endpoint::Part::InputItems => responses::Action::InputItems,
                    endpoint::Part::Cancel => responses::Action::Cancel,
                };
                let (status, body) = action
                    .run(&self.core.state, tenant, id, query.as_deref())
                    .await?;
                let headers = vec![(http::header::CONTENT_TYPE, reply::JSON)];
                Ok(reply::whole(session, x, status.as_u16(), headers, body).await)
            }
            Endpoint::Alive => Ok(Ok(())),
        }
    }

    /// Who asks, and what they ask of the gateway itself.
    async fn admit_caller(
        &self,
        now: &Now,
        asks: &RequestHeader,
        client: Option<IpAddr>,
        x: &mut Exchange,
    ) -> Result<Head> {
        let headers = &asks.headers;
        let bearer = if now.is_open() && !self.core.directory.view().is_closed() {
            None
        } else {
            let query = asks.uri.query();
            let by_query = x.protocol == Protocol::Gemini;
            let presented = access::presented(headers, query, by_query)?;
            let presented = presented.ok_or_else(|| self.keyless(now))?;
            Some(self.bearer_of(now, &presented).await?)
        };
        let (key, subject) = match bearer {
            Some(Bearer { key, subject }) => (Some(key), subject),
            None => (None, None),
        };
        x.asked_by(key.as_deref());
        if let Some(key) = key.as_ref().filter(|key| !key.gates.is_empty()) {
            rules::may_enter(key, x.record.endpoint, client)?;
        }
        let mut controls = Controls::read(headers)?;
        if let Some(subject) = subject {
            // What the issuer says goes before what the client says of itself.
            x.record.user = Some(subject.to_string());
            controls.user = x.record.user.clone();
        }
        x.record.session.clone_from(&controls.session);
        x.record.user.clone_from(&controls.user);
        x.record.tags.clone_from(&controls.tags);
        x.record.metadata.clone_from(&controls.metadata);
        rules::may_explain(&controls, key.as_deref())?;
        Ok(Head { controls, key })
    }

    /// Returns why nobody may ask without a key.
    fn keyless(&self, now: &Now) -> Error {
        if self.may_be_open(now) {
            return unknowable("Whether a key is needed can't be known now");
        }
        let error =
            "No API key was sent. Send it as `Authorization: Bearer KEY` or `x-api-key: KEY`.";
        Error::new(Kind::InvalidKey, error)
    }

    /// Returns whether it isn't known yet if everybody may ask: the state database may hold keys, and can't be read.
    fn may_be_open(&self, now: &Now) -> bool {
        let required = now.snapshot.admin.keys;
        now.is_open() && !required && !self.core.directory.view().is_loaded()
    }

    /// Finds who asks: by a token of an issuer that is trusted, or by a key.
    async fn bearer_of(&self, now: &Now, presented: &str) -> Result<Bearer> {
        if !now.tokens.is_empty() && jwt::is_like(presented) {
            let view = self.core.directory.view();
            let principal = |id: &str, name: &str| self.principal(id, name);
            let places = Places {
                generation: view.generation(),
                principal: &principal,
            };
            match now.tokens.find(presented, places).await {
                Ok(Some(bearer)) => return Ok(bearer),
                Ok(None) => {}
                // A key of the configuration may look like one.
                Err(error) => {
                    return match now.keys.find(presented) {
                        Some(key) => Ok(Bearer::of(key.clone())),
                        None => Err(error),
                    };
                }
            }
        }
        self.key_of(now, presented).map(Bearer::of)
    }

    /// Returns what holds for whoever a token puts into a place of the directory.
    fn principal(&self, id: &str, name: &str) -> Result<Key> {
        let view = self.core.directory.view();
        match view.principal(id, name) {
            Some(key) => Ok(key),
            None if view.is_loaded() => Err(Error::new(
                Kind::Denied,
                "The token is good, and stands for a place of the directory that is not there.",
            )),
            None => Err(unknowable("The token can't be checked now")),
        }
    }

    /// Finds whose key was shown: in the configuration or in the directory.
    fn key_of(&self, now: &Now, presented: &str) -> Result<Arc<Key>> {
        let refused = |what: &'static str| Err(Error::new(Kind::InvalidKey, what));
        let seconds = || jiff::Timestamp::now().as_second();
        let of_file = || now.keys.find(presented).cloned();
        match self.core.directory.view().find(presented, seconds) {
            Found::Key(key) => Ok(key),
            Found::Expired => refused("The API key has expired."),
            Found::Disabled => refused("The API key is disabled."),
            // The configuration may hold any text as a key.
            found @ (Found::Foreign | Found::Unknown | Found::Unready) => {
                match (of_file(), found) {
                    (Some(key), _) => Ok(key),
                    (None, Found::Unready) => Err(unknowable("The API key can't be checked now")),
                    (None, _) if self.may_be_open(now) => {
                        Err(unknowable("Whether a key is needed can't be known now"))
                    }
                    (None, _) => refused("The API key is not known here."),
                }
            }
        }
    }

    /// What only a provider understands: access, limits and models here, the rest by Pingora's own flow.
    #[expect(clippy::too_many_arguments, reason = "all that a head tells")]
    async fn raw_lane(
        &self,
        now: &Arc<Now>,
        provider: &str,
        rest: &str,
        query: Option<&str>,
        head: Head,
        session: &mut Session,
        x: &mut Exchange,
        limits: &mut Headers,
    ) -> Result<pingora::Result<()>> {
        let headers = &session.req_header().headers;
        rules::ask(now, head.key.as_deref(), &head.controls, headers, None, x)?;
        rules::tell(&head.controls, x, None, None, limits);
        let turn = head.turn();
        let asks = raw::Asks {
            key: head.key.clone(),
            constraints: head.controls.constraints,
            headers,
        };
        let mut raw = raw::plan(now, provider, rest, query, asks).await?;
        let body = match raw.signs_body() {
            true => Some(raw.hold(session, x).await?),
            false => None,
        };
        let permit = match &head.key {
            Some(key) => {
                let named = raw.named();
                let named: Vec<&str> = named.iter().map(String::as_str).collect();
                let limited = key.limited().filter(|limited| limited.counts(&named));
                Some(limits::admit(limited, Amount::default(), limits, x).await?)
            }
            None => None,
        };
        x.record.user.clone_from(&head.controls.user);
        let key = head.key.as_deref();
        match raw::may_cost(session.req_header()) {
            true => spending::hold_some(key, now, x).await?,
            false => spending::hold(key, now, || 0, x).await?,
        }
        let until = x.started + crate::provider::Timeouts::default().total;
        let gate = self.core.routing.gates.all.clone();
        let all = queue::slot(&self.core, &gate, Scope::Server, &turn, until, x).await?;
        let own = match raw.gate() {
            Some(gate) => {
                let scope = Scope::Provider(provider);
                Some(queue::slot(&self.core, &gate, scope, &turn, until, x).await?)
            }
            None => None,
        };
        let reserved = Reserved {
            pico: x.held.as_ref().map_or(0, Reservation::pico),
            ..Reserved::default()
        };
        admission::admit(raw.asked_first(), reserved, x).await?;
        raw.admitted(permit, std::mem::take(limits), (all, own));
        x.record.client_protocol = "raw";
        if let Some(body) = body {
            return Box::pin(raw.exchange(body, session, x)).await;
        }
        x.raw = Some(Box::new(raw));
        Ok(Ok(()))
    }
}
