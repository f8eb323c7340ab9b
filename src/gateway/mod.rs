//! One request, start to finish.
//!
//! `Gateway` is the `ProxyHttp`. The model lane runs whole inside `request_filter`, over Pingora's connectors:
//! routing needs the body, failover needs the original body again for each target, and nothing may reach the
//! client before the commit point; Pingora's own upstream flow allows none of the three.

mod account;
mod ask;
mod attempt;
mod costed;
mod demo;
mod dress;
mod endpoint;
mod exchange;
pub mod explain;
mod form;
mod intake;
mod kept;
mod models;
mod outcome;
mod pump;
mod raw;
mod relay;
mod reply;
mod responses;
mod send;
mod storing;
mod through;
mod tokens;
mod verdict;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;

use crate::access::{self, Key, Keys};
use crate::cache::{self, Cache, Follower, Outcome, Ticket};
use crate::config::Snapshot;
use crate::error::{Error, Kind, Result};
use crate::limit::{Limiter, Permit};
use crate::observe::metrics::Metrics;
use crate::observe::record::{CacheOutcome, Phase};
use crate::observe::writer::Writer;
use crate::protocol::Protocol;
use crate::protocol::api::Api;
use crate::protocol::bedrock::invoke;
use crate::protocol::envelope::{Envelope, Said};
use crate::routing::{self, Route, Table, affinity};
use crate::state::State;

use ask::Ask;
use endpoint::{Asked, Endpoint};
pub use exchange::Exchange;
use intake::{CacheControl, Controls};
use kept::{Keep, Replay};
use outcome::Lost;
use relay::Delivery;
use reply::Headers;
use storing::Continued;

/// What all requests share, and what outlives a reload.
pub struct Core {
    pub now: ArcSwap<Now>,
    pub routing: Arc<routing::State>,
    pub limiter: Limiter,
    pub cache: ArcSwap<Option<Arc<Cache>>>,
    pub metrics: Arc<Metrics>,
    pub writer: Writer,
    /// When a stopping process ends what is left.
    pub drain: ArcSwap<Option<Instant>>,
    /// What is kept on disk.
    pub state: State,
}

/// One configuration in force. A request keeps the one that it began with.
pub struct Now {
    pub snapshot: Arc<Snapshot>,
    pub keys: Keys,
    pub table: Table,
}

/// The proxy.
pub struct Gateway {
    pub core: Arc<Core>,
}

/// Downstream connections without a request are closed after this (seconds).
const IDLE_CLIENT: u64 = 75;
/// Followers of another identical request start again this often when its leader falls away.
const MOST_JOINS: usize = 3;

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: Pingora moves it from future to future.
    type CTX = Box<Exchange>;

    fn new_ctx(&self) -> Box<Exchange> {
        Box::new(Exchange::begin(self.core.clone()))
    }

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
        let outcome = Box::pin(self.handle(session, x)).await;
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
        error.set_retry(x.raw.as_ref().is_some_and(|raw| raw.may_try_again()));
        error
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        head: &mut RequestHeader,
        x: &mut Box<Exchange>,
    ) -> pingora::Result<()> {
        match &mut x.raw {
            Some(raw) => raw.request(head).await,
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
        with_raw(x, |raw, x| raw.body(body.as_ref(), x)).unwrap_or(Ok(()))
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

/// What is known of a request before its body.
struct Head {
    controls: Controls,
    key: Option<Arc<Key>>,
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
            Err(lost) => reply::lost(session, x, lost, limits).await,
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
        x.record.id = intake::request_id(headers);
        x.record.at = jiff::Timestamp::now();
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
        let head = self.admit_caller(now, session, x)?;
        x.phase(Phase::Access, x.started);
        match endpoint {
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
                .await?;
                Ok(Ok(()))
            }
            Endpoint::Native { provider, rest } => {
                self.raw_lane(
                    now,
                    provider,
                    rest,
                    query.as_deref(),
                    head,
                    session,
                    x,
                    limits,
                )
                .await?;
                Ok(Ok(()))
            }
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
    fn admit_caller(&self, now: &Now, session: &Session, x: &mut Exchange) -> Result<Head> {
        let headers = &session.req_header().headers;
        let key = if now.keys.is_open() {
            None
        } else {
            let query = session.req_header().uri.query();
            let by_query = x.protocol == Protocol::Gemini;
            let presented = access::presented(headers, query, by_query)?.ok_or_else(|| {
                Error::new(Kind::InvalidKey, "No API key was sent. Send it as `Authorization: Bearer KEY` or `x-api-key: KEY`.")
            })?;
            let key = now.keys.find(&presented);
            Some(
                key.ok_or_else(|| Error::new(Kind::InvalidKey, "The API key is not known here."))?
                    .clone(),
            )
        };
        x.record.key = key.as_ref().map(|key| key.name.clone());
        let controls = Controls::read(headers)?;
        x.record.session.clone_from(&controls.session);
        x.record.tags.clone_from(&controls.tags);
        Ok(Head { controls, key })
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
    ) -> Result<()> {
        let headers = &session.req_header().headers;
        let mut raw = raw::plan(now, provider, rest, query, head.key.clone(), headers).await?;
        let permit = match &head.key {
            Some(key) => Some(self.admit(key, 0, x, limits)?),
            None => None,
        };
        raw.admitted(permit, std::mem::take(limits));
        x.record.client_protocol = "raw";
        x.raw = Some(Box::new(raw));
        Ok(())
    }

    /// Chat and its kin: body, limits, cache, routing, attempts, answer.
    async fn model_lane(
        &self,
        asked: &Asked<'_>,
        now: &Arc<Now>,
        head: Head,
        session: &mut Session,
        x: &mut Exchange,
        limits: &mut Headers,
    ) -> Result<pingora::Result<()>, Lost> {
        let protocol = asked.protocol;
        x.record.client_protocol = protocol.name();
        let Head { controls, key } = head;
        let reading = Instant::now();
        let body = intake::body(
            session,
            now.snapshot.server.max_body,
            now.snapshot.server.body_timeout,
        )
        .await?;
        let parsing = Instant::now();
        x.waited += parsing - reading;
        x.record.request_bytes = body.len() as u64;
        let tenant = key.as_ref().map_or("", |key| &key.name);
        let stored = asked.api == Api::Chat && protocol == Protocol::OpenaiResponses;
        let sent = body.clone();
        let Continued {
            body,
            storing,
            unknown,
        } = if stored {
            let most = usize::try_from(now.snapshot.server.max_body).unwrap_or(usize::MAX);
            storing::continued(&self.core, tenant, body, most).await?
        } else {
            Continued {
                body,
                storing: None,
                unknown: None,
            }
        };
        let said = Said {
            model: asked.model.as_deref(),
            stream: asked.stream,
        };
        let content_type = session.req_header().headers.get(http::header::CONTENT_TYPE);
        let content_type = content_type.cloned().unwrap_or(reply::JSON);
        let kind = content_type.to_str().unwrap_or_default();
        let envelope = match asked.api {
            Api::Chat => Envelope::read_said(&body, protocol, intake::MOST_DEPTH, said)?,
            Api::ImageEdits | Api::Transcriptions | Api::Translations => {
                Envelope::read_form(&body, kind, asked.api, said)?
            }
            api @ (Api::CountTokens
            | Api::Embeddings
            | Api::Rerank
            | Api::Moderations
            | Api::Images
            | Api::Speech) => Envelope::read_api(&body, api, protocol, intake::MOST_DEPTH, said)?,
        };
        x.record.stream = envelope.stream;
        x.record.model_requested = envelope.model.to_string();
        x.record.user = controls
            .user
            .clone()
            .or_else(|| envelope.user.as_deref().map(str::to_owned));
        let routing = x.phase(Phase::Read, parsing);
        let (route, named) = self.routes(now, key.as_deref(), &envelope)?;
        if let Some(unknown) = unknown {
            let native = route.targets.iter().all(|target| {
                !target.provider.demo
                    && target.speaks(protocol).protocol == Protocol::OpenaiResponses
            });
            if !native {
                return Err(unknown.into());
            }
        }
        let limiting = x.phase(Phase::Route, routing);
        let mut permit = match &key {
            Some(key) => Some(self.admit(key, envelope.estimate_tokens(), x, limits)?),
            None => None,
        };
        x.phase(Phase::Access, limiting);
        let header = session.req_header();
        let query = intake::query(header.uri.query(), protocol);
        let mut forwarded = intake::forwarded(&header.headers, protocol);
        let placed = asked.model.is_some() || asked.api == Api::CountTokens;
        if protocol == Protocol::Anthropic && placed {
            let betas = invoke::betas(&body, &envelope.members);
            betas
                .iter()
                .for_each(|betas| intake::add_betas(&mut forwarded, betas));
        }
        let beta = forwarded.iter().find(|(name, _)| *name == "anthropic-beta");
        let beta = beta
            .map_or(&b""[..], |(_, value)| value.as_bytes())
            .to_vec();
        let id = x.record.id.clone();
        let mut ask = Ask {
            api: asked.api,
            protocol,
            content_type: if asked.api == Api::Chat {
                reply::JSON
            } else {
                content_type
            },
            body: &body,
            envelope: &envelope,
            controls: &controls,
            forwarded: &forwarded,
            query: query.as_deref(),
            coat: asked.coat,
            sent: &sent,
            conversation: None,
            pinned: false,
            request_id: &id,
            created: u64::try_from(x.record.at.as_second()).unwrap_or_default(),
            keep: false,
        };
        if route.has_choice() {
            let session = controls.session.as_deref().map(str::as_bytes);
            ask.pinned = session.is_some() || envelope.goes_on(&body);
            let named = session.or_else(|| envelope.beginning(&body));
            ask.conversation = named.map(|named| affinity::conversation(tenant, &route, named));
        }
        if asked.api == Api::CountTokens {
            return tokens::count(&ask, &route, &self.core, permit, limits, session, x).await;
        }
        let keep = match self
            .cached(
                now,
                &ask,
                tenant,
                &beta,
                &route,
                &mut permit,
                limits,
                session,
                x,
            )
            .await?
        {
            Cached::Answered(done) => return Ok(done),
            Cached::Ask(keep) => keep,
        };
        ask.keep = keep.is_some();
        let chain = now.table.chain(route, &named, !controls.no_fallback);
        let won = {
            let attempts = attempt::run(&ask, &chain, &self.core, x);
            tokio::pin!(attempts);
            self.unless_gone(attempts, session, keep.as_ref()).await
        };
        match won {
            Some((Ok(won), gone)) => {
                let limits = std::mem::take(limits);
                let delivery = Delivery {
                    ask: &ask,
                    permit: permit.take(),
                    limits,
                    keep,
                    storing,
                    gone,
                };
                Ok(Box::pin(delivery.forward(*won, session, x)).await)
            }
            Some((Err(lost), _)) => {
                give_back(&mut permit);
                if let Some(keep) = keep {
                    let error = &lost.error;
                    let (status, body) = match &lost.verbatim {
                        Some(verbatim) => (verbatim.status, verbatim.body.clone()),
                        None => (
                            error.kind.status(),
                            crate::protocol::error_body(protocol, error, &id).into(),
                        ),
                    };
                    keep.refuse(
                        status,
                        error.kind.code(),
                        body,
                        error.retry_after.map(reply::whole_seconds),
                    );
                }
                Err(lost)
            }
            None => Err(Error::new(Kind::ClientGone, "The client left before the answer.").into()),
        }
    }

    /// Runs the attempts while the client is there, or while others wait for the same answer. Tells also whether the
    /// client has left meanwhile.
    async fn unless_gone<T>(
        &self,
        mut attempts: std::pin::Pin<&mut impl Future<Output = T>>,
        session: &mut Session,
        keep: Option<&Keep>,
    ) -> Option<(T, bool)> {
        tokio::select! {
            biased;
            done = &mut attempts => return Some((done, false)),
            _ = session.as_downstream_mut().read_body_or_idle(true) => {}
        }
        loop {
            if !keep.is_some_and(Keep::has_followers) {
                return None;
            }
            // Whoever still waits may leave too: look again from time to time.
            if let Ok(done) = tokio::time::timeout(Duration::from_millis(250), &mut attempts).await
            {
                return Some((done, true));
            }
        }
    }

    /// Resolves the model and the fallbacks that the request names; the key must allow each.
    fn routes(
        &self,
        now: &Now,
        key: Option<&Key>,
        envelope: &Envelope<'_>,
    ) -> Result<(Arc<Route>, Vec<Arc<Route>>)> {
        let allowed = |model: &str, param: &'static str| {
            if key.is_none_or(|key| key.allows(model)) {
                return Ok(());
            }
            let shown: String = model.chars().take(100).collect();
            let message = format!("This API key may not use the model `{shown}`.");
            Err(Error {
                param: Some(param.into()),
                ..Error::new(Kind::ModelNotAllowed, message)
            })
        };
        allowed(&envelope.model, "model")?;
        let policy = &now.snapshot.catalogue.policy;
        let name = policy.redirected(&envelope.model);
        let route = now.table.resolve(name.unwrap_or(&envelope.model))?;
        let mut asked = Vec::with_capacity(envelope.fallbacks.len());
        for name in &envelope.fallbacks {
            allowed(name, "fallbacks")?;
            let route = now.table.resolve(name).map_err(|error| Error {
                param: Some("fallbacks".into()),
                ..error
            })?;
            asked.push(route);
        }
        Ok((route, asked))
    }

    /// Admits the request within the key's limits. The limits' headers go with every answer.
    fn admit(
        &self,
        key: &Key,
        tokens: u64,
        x: &mut Exchange,
        limits: &mut Headers,
    ) -> Result<Permit> {
        let outcome = self
            .core
            .limiter
            .admit(&key.name, &key.limits, tokens, x.started);
        match outcome {
            Ok(permit) => {
                for (name, value) in permit.headers().iter() {
                    limits.push(reply::header(name, reply::header_value(value.as_str())));
                }
                Ok(permit)
            }
            Err(denied) => {
                self.core.metrics.rate_limited(denied.which.name());
                for (name, value) in denied.headers.iter() {
                    limits.push(reply::header(name, reply::header_value(value.as_str())));
                }
                Err(denied.into())
            }
        }
    }

    /// Consults the cache: an answer, or what is to be done with the one that comes.
    #[expect(
        clippy::too_many_arguments,
        reason = "everything that a kept answer depends on"
    )]
    async fn cached(
        &self,
        now: &Now,
        ask: &Ask<'_>,
        tenant: &str,
        beta: &[u8],
        route: &Route,
        permit: &mut Option<Permit>,
        limits: &mut Headers,
        session: &mut Session,
        x: &mut Exchange,
    ) -> Result<Cached> {
        let control = ask.controls.cache;
        let cache = self.core.cache.load_full();
        let fit = control != CacheControl::NoStore && ask.api == Api::Chat;
        let Some(cache) = cache.as_ref().as_ref().filter(|_| fit) else {
            x.record.cache = CacheOutcome::Bypass;
            return if control == CacheControl::OnlyIfCached {
                Err(kept::not_cached())
            } else {
                Ok(Cached::Ask(None))
            };
        };
        let scope = cache::Scope {
            tenant,
            protocol: ask.protocol,
            route: route.fingerprint,
            beta,
        };
        let looking = Instant::now();
        let key = cache::Key::of(&scope, ask.envelope, ask.body);
        let ttl = ask.controls.cache_ttl.unwrap_or(now.snapshot.cache.ttl);
        x.record.cache = CacheOutcome::Miss;
        if control == CacheControl::Refresh {
            return Ok(Cached::Ask(Some(Keep::new(key, ttl, None, cache.clone()))));
        }
        let shape = ask.shape(ask.wants_usage());
        let mut outcome = CacheOutcome::Hit;
        for _ in 0..MOST_JOINS {
            let kept = cache.get(&key);
            if outcome == CacheOutcome::Hit {
                x.phase(Phase::Cache, looking);
            }
            let entry = match kept {
                Some(entry) => entry,
                None if control == CacheControl::OnlyIfCached => return Err(kept::not_cached()),
                None => {
                    let follower = match cache.flights.join(key) {
                        Ticket::Follow(follower) => follower,
                        Ticket::Lead(lead) => {
                            let keep = Keep::new(key, ttl, Some(lead), cache.clone());
                            return Ok(Cached::Ask(Some(keep)));
                        }
                    };
                    outcome = CacheOutcome::Coalesced;
                    match self.follow(follower, ask, route, session, x).await? {
                        Outcome::Answered(entry) => entry,
                        Outcome::Refused(shared) => {
                            give_back(permit);
                            let limits = std::mem::take(limits);
                            let refused = kept::refused(shared, limits, session, x).await;
                            return Ok(Cached::Answered(refused));
                        }
                        Outcome::Abandoned => continue,
                    }
                }
            };
            give_back(permit);
            let replay = Replay {
                protocol: ask.protocol,
                coat: ask.coat,
                shape: &shape,
                stream: ask.envelope.stream,
                outcome,
                include_cost: ask.envelope.include_cost,
                limits: std::mem::take(limits),
            };
            let replayed = kept::replay(replay, &entry, session, x).await?;
            return Ok(Cached::Answered(replayed));
        }
        // Leaders fell away one after the other: ask on our own.
        Ok(Cached::Ask(Some(Keep::new(key, ttl, None, cache.clone()))))
    }

    /// Waits for the answer to another identical request, while this client is there.
    async fn follow(
        &self,
        follower: Follower,
        ask: &Ask<'_>,
        route: &Route,
        session: &mut Session,
        x: &mut Exchange,
    ) -> Result<Outcome> {
        let waiting = Instant::now();
        let total = ask.timeouts_of(route, None).total;
        let told = tokio::select! {
            told = tokio::time::timeout(total, follower.wait()) => told,
            _ = session.as_downstream_mut().read_body_or_idle(true) => {
                return Err(Error::new(Kind::ClientGone, "The client left before the answer."));
            }
        };
        x.waited += waiting.elapsed();
        told.map_err(|_| {
            let message = "The total time for this request is over (timer: total).";
            Error::new(Kind::Timeout, message)
        })
    }
}

/// Gives back what was admitted and took nothing, before the answer is written: who has it may ask again at once.
fn give_back(permit: &mut Option<Permit>) {
    if let Some(mut permit) = permit.take() {
        permit.settle(0);
    }
}

enum Cached {
    Answered(pingora::Result<()>),
    Ask(Option<Keep>),
}
