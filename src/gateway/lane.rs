//! The model lane: one request to a model, from its body to its answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::proxy::Session;

use super::ask::Ask;
use super::continuation::Rest;
use super::endpoint::Asked;
use super::intake::{self, CacheControl};
use super::kept::{self, Keep, Replay};
use super::outcome::Lost;
use super::relay::Delivery;
use super::reply::{self, Headers};
use super::storing::{self, Continued};
use super::{
    Exchange, Gateway, Head, Now, attempt, degrade, limits, queue, rules, shadow, spending, tokens,
};
use crate::access::Key;
use crate::cache::{self, Cache, Follower, Outcome, Ticket};
use crate::error::{Error, Kind, Result};
use crate::limit::Permit;
use crate::observe::record::{ArmRecord, CacheOutcome, CandidateRecord, Phase};
use crate::protocol::Protocol;
use crate::protocol::api::Api;
use crate::protocol::bedrock::invoke;
use crate::protocol::envelope::{Envelope, Said};
use crate::provider::TimeoutOverrides;
use crate::routing::choose::{Choice, choose};
use crate::routing::rules::{Rule, Said as Facts, Verdict};
use crate::routing::{Route, affinity, constraints};

/// Followers of another identical request start again this often when its leader falls away.
const MOST_JOINS: usize = 3;

/// Of what names a session, so many characters stand in the record.
const MOST_SESSION: usize = 256;

/// Candidates that a record names.
const MOST_CONSIDERED: usize = 32;

impl Gateway {
    /// Chat and its kin: body, limits, cache, routing, attempts, answer.
    pub(super) async fn model_lane(
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
        let turn = head.turn();
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
        x.hear(&body);
        let tenant = key.as_ref().map_or("", |key| &key.name);
        let stored = asked.api == Api::Chat && protocol == Protocol::OpenaiResponses;
        let sent = body.clone();
        let Continued {
            body,
            previous,
            storing,
            unknown,
        } = if stored {
            let most = usize::try_from(now.snapshot.server.max_body).unwrap_or(usize::MAX);
            // Boxed, like all that few requests wait for: a future has the size of its largest part, and is moved.
            Box::pin(storing::continued(&self.core, tenant, body, most)).await?
        } else {
            Continued {
                body,
                previous: None,
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
        x.note_metadata(&body, &envelope, protocol);
        let routing = x.phase(Phase::Read, parsing);
        let user = controls.user.as_deref().or(envelope.user.as_deref());
        let facts = Facts {
            protocol,
            body: &body,
            envelope: &envelope,
            user: user.unwrap_or_default(),
        };
        let headers = &session.req_header().headers;
        let ruled = rules::ask(now, key.as_deref(), &controls, headers, Some(facts), x);
        if ruled.is_err() {
            rules::tell(&controls, x, None, None, limits);
        }
        let rule = ruled?;
        let (route, named) = routes(now, key.as_deref(), &envelope, rule)?;
        rules::tell(&controls, x, Some(&route), None, limits);
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
        spending::check(key.as_deref(), now, x)?;
        let estimate = limits::estimate(asked.api, &envelope, &body);
        let names = [&*envelope.model, &*route.name];
        let limited = key.iter().flat_map(|key| key.limited());
        let own = limited.clone().filter(|limited| limited.counts(&names));
        let mut permit = match &key {
            Some(_) => Some(limits::admit(own, estimate, limits, x).await?),
            None => None,
        };
        let others = limited.filter(|limited| !limited.counts(&names));
        let others = others.collect();
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
            mistral: protocol == Protocol::OpenaiChat && intake::is_mistrals(&header.headers),
            sent: &sent,
            previous: previous.as_deref(),
            conversation: None,
            pinned: false,
            in_session: false,
            request_id: &id,
            created: u64::try_from(x.record.at.as_second()).unwrap_or_default(),
            keep: false,
            ruled: rule.map_or_else(TimeoutOverrides::default, |rule| rule.timeouts),
            watch: false,
            prefix: None,
            turn,
            estimate,
            limited: others,
            shadow: false,
        };
        let stale = degrade::allowed(key.as_deref(), &route, &controls);
        if route.has_choice() {
            let session = controls.session.as_deref().map(Cow::Borrowed);
            let session = session.or_else(|| affinity::session(&envelope, &body, protocol));
            if x.record.session.is_none() {
                let told = |told: &Cow<'_, str>| told.chars().take(MOST_SESSION).collect();
                x.record.session = session.as_ref().map(told);
            }
            ask.in_session = session.is_some();
            let session = session.as_deref().map(str::as_bytes);
            ask.pinned = session.is_some() || envelope.goes_on(&body);
            let named = session.or_else(|| envelope.beginning(&body));
            ask.conversation = named.map(|named| affinity::conversation(tenant, &route, named));
        }
        if asked.api == Api::CountTokens {
            let key = key.as_deref();
            let counting = tokens::count(&ask, &route, key, &self.core, permit, limits, session, x);
            return Box::pin(counting).await;
        }
        let keep = match self.cache_for(&ask, x)? {
            None => None,
            Some(cache) => {
                let asking = self.cached(
                    now,
                    &cache,
                    &ask,
                    tenant,
                    key.as_deref(),
                    &beta,
                    (&route, stale),
                    &mut permit,
                    limits,
                    session,
                    x,
                );
                match Box::pin(asking).await? {
                    Cached::Answered(done) => return Ok(done),
                    Cached::Ask(keep) => keep,
                }
            }
        };
        ask.keep = keep.is_some();
        let until = x.started + ask.timeouts_of(&route, None).total;
        let gate = &self.core.routing.gates.all;
        let slot = match gate.enter() {
            Some(slot) => slot,
            None => {
                let waiting = queue::slot_for(&self.core, gate, &ask.turn, until, session, x);
                match Box::pin(waiting).await {
                    Ok(slot) => slot,
                    Err(error) => {
                        give_back(&mut permit);
                        return Err(error.into());
                    }
                }
            }
        };
        let chain = now
            .table
            .chain(route.clone(), &named, !controls.no_fallback);
        let last: Vec<Arc<Route>>;
        let mut choice = {
            let screen = ask.screen(&chain, key.as_deref());
            let pin = ask.pin(&self.core);
            let wanted = ask.asked(&chain);
            x.record.difficulty = wanted.difficulty.first();
            choose(&chain, &wanted, pin.as_ref(), &screen)
        };
        let one = envelope.stream && asked.api == Api::Chat && envelope.n.is_none_or(|n| n <= 1);
        let continuation = route.continuation.clone().filter(|_| one);
        ask.watch = continuation.is_some();
        rules::tell(&controls, x, Some(&route), Some(&choice), limits);
        x.record.arms = assigned(&route, &choice);
        if choice.is_open() {
            x.record.candidates = considered(&choice);
        }
        let most = || spending::most(&ask, &choice);
        if let Err(error) = spending::hold(key.as_deref(), now, most, x).await {
            give_back(&mut permit);
            return Err(error.into());
        }
        shadow::cast(&self.core, now, &ask, key.as_ref(), &route, said, x);
        let mut won = {
            let attempts = std::pin::pin!(attempt::run(&ask, &route, &choice, &self.core, x));
            self.unless_gone(attempts, session, keep.as_ref()).await
        };
        let down = matches!(&won, Some((Err(lost), _)) if degrade::is_down(lost));
        let kept = keep.as_ref().filter(|_| down);
        let kept = kept.and_then(|keep| degrade::stale(keep, stale));
        if down
            && kept.is_none()
            && !controls.no_fallback
            && let Some(to) = route.degraded.as_deref()
            && let Ok(to) = now.table.resolve(to)
        {
            last = now.table.chain(to.clone(), &[], true);
            // What the model asked for demands binds those who stand in for it.
            let all: Vec<_> = chain.iter().chain(&last).cloned().collect();
            let screen = ask.screen(&all, key.as_deref());
            let instead = choose(&last, &ask.asked(&last), None, &screen);
            let tried = {
                let mut attempts = Box::pin(attempt::run(&ask, &to, &instead, &self.core, x));
                self.unless_gone(attempts.as_mut(), session, keep.as_ref())
                    .await
            };
            match tried {
                Some((Ok(answered), gone)) => {
                    x.record.degraded = true;
                    choice = instead;
                    won = Some((Ok(answered), gone));
                }
                // What the model's own targets said is told.
                Some((Err(_), _)) => {}
                None => won = None,
            }
        }
        match won {
            Some((Ok(won), gone)) => {
                let limits = std::mem::take(limits);
                let delivery = Delivery {
                    ask: &ask,
                    rest: continuation.as_deref().map(|settings| Rest {
                        settings,
                        route: &route,
                        choice: &choice,
                    }),
                    permit: permit.take(),
                    slot: Some(slot),
                    limits,
                    keep,
                    storing,
                    gone,
                };
                Ok(delivery.forward(*won, session, x).await)
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
                let Some(entry) = kept else {
                    return Err(lost);
                };
                let shape = ask.shape(ask.wants_usage());
                let replay = Replay {
                    protocol,
                    coat: ask.coat,
                    shape: &shape,
                    stream: envelope.stream,
                    outcome: CacheOutcome::Stale,
                    include_cost: envelope.include_cost,
                    previous: ask.previous,
                    limits: std::mem::take(limits),
                };
                Ok(Box::pin(kept::replay(replay, &entry, session, x)).await?)
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

    /// Returns the cache, where the request may be answered by it.
    fn cache_for(&self, ask: &Ask<'_>, x: &mut Exchange) -> Result<Option<Arc<Cache>>> {
        let control = ask.controls.cache;
        // What Mistral's SDK is told differs from what others are.
        let fit = control != CacheControl::NoStore && ask.api == Api::Chat && !ask.mistral;
        let cache = fit.then(|| self.core.cache.load_full()).as_deref().cloned();
        if let Some(cache) = cache.flatten() {
            return Ok(Some(cache));
        }
        x.record.cache = CacheOutcome::Bypass;
        if control == CacheControl::OnlyIfCached {
            return Err(kept::not_cached());
        }
        Ok(None)
    }

    /// Consults the cache: an answer, or what is to be done with the one that comes.
    #[expect(
        clippy::too_many_arguments,
        reason = "everything that a kept answer depends on"
    )]
    async fn cached(
        &self,
        now: &Now,
        cache: &Arc<Cache>,
        ask: &Ask<'_>,
        tenant: &str,
        caller: Option<&Key>,
        beta: &[u8],
        (route, stale): (&Route, Duration),
        permit: &mut Option<Permit>,
        limits: &mut Headers,
        session: &mut Session,
        x: &mut Exchange,
    ) -> Result<Cached> {
        let control = ask.controls.cache;
        let scope = cache::Scope {
            tenant,
            protocol: ask.protocol,
            route: route.fingerprint ^ constraints::fingerprint(ask.demands(caller)),
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
                None if control == CacheControl::OnlyIfCached => {
                    let recalled = kept::recall(cache, &key, x).await;
                    recalled.ok_or_else(kept::not_cached)?
                }
                None => match cache.flights.join(key) {
                    Ticket::Lead(lead) => match kept::recall(cache, &key, x).await {
                        Some(entry) => {
                            lead.tell(Outcome::Answered(entry.clone()));
                            entry
                        }
                        None => {
                            let keep = Keep::new(key, ttl, Some(lead), cache.clone());
                            return Ok(Cached::Ask(Some(keep)));
                        }
                    },
                    Ticket::Follow(follower) => {
                        outcome = CacheOutcome::Coalesced;
                        match self.follow(follower, ask, route, session, x).await? {
                            Outcome::Answered(entry) => entry,
                            Outcome::Refused(shared)
                                if shared.is_outage() && cache.stale(&key, stale).is_some() =>
                            {
                                outcome = CacheOutcome::Stale;
                                let Some(entry) = cache.stale(&key, stale) else {
                                    continue;
                                };
                                entry
                            }
                            Outcome::Refused(shared) => {
                                give_back(permit);
                                let limits = std::mem::take(limits);
                                let refused = kept::refused(shared, limits, session, x).await;
                                return Ok(Cached::Answered(refused));
                            }
                            Outcome::Abandoned => continue,
                        }
                    }
                },
            };
            give_back(permit);
            let replay = Replay {
                protocol: ask.protocol,
                coat: ask.coat,
                shape: &shape,
                stream: ask.envelope.stream,
                outcome,
                include_cost: ask.envelope.include_cost,
                previous: ask.previous,
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

/// Resolves the model and the fallbacks that the request names; the key must allow each.
///
/// Where a rule says what to use, the operator has decided: the key need not allow that, and the request's own
/// fallbacks are not asked.
pub fn routes(
    now: &Now,
    key: Option<&Key>,
    envelope: &Envelope<'_>,
    rule: Option<&Rule>,
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
    if let Some(Verdict::Use(name)) = rule.map(|rule| &rule.verdict) {
        return Ok((now.table.resolve(name)?, Vec::new()));
    }
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

/// Returns the arm that a request falls to, where its model has arms.
fn assigned(route: &Route, choice: &Choice<'_>) -> Option<ArmRecord> {
    if route.leaves.iter().all(|leaf| leaf.arm.is_none()) {
        return None;
    }
    let first = choice.picks.first()?;
    Some(ArmRecord {
        model: route.label.clone(),
        assigned: first.route.leaves[first.target].arm.clone(),
        answered: None,
    })
}

/// Returns what a record says of a choice.
fn considered(choice: &Choice<'_>) -> Vec<CandidateRecord> {
    let picks = choice.picks.iter().map(|pick| CandidateRecord {
        target: pick.candidate().name.clone(),
        score: pick.score,
        passed: None,
    });
    let passed = choice.passed.iter().map(|passed| CandidateRecord {
        target: passed.candidate().name.clone(),
        score: None,
        passed: Some(passed.reason.to_string()),
    });
    picks.chain(passed).take(MOST_CONSIDERED).collect()
}

/// Gives back what was admitted and took nothing, before the answer is written: who has it may ask again at once.
pub fn give_back(permit: &mut Option<Permit>) {
    if let Some(mut permit) = permit.take() {
        permit.cancel();
    }
}

enum Cached {
    Answered(pingora::Result<()>),
    Ask(Option<Keep>),
}
