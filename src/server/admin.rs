//! The other port: health, metrics, and the admin API. Never reachable from the data plane's listeners.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::control::Link;
use super::objects::{Asked, Caller};
use super::openapi;
use super::reply::{Fault, Reply};
use super::routes::{self, Does, Led};
use crate::directory::role::Least;
use crate::gateway::explain::{self, Given};
use crate::gateway::models;
use crate::ledger::api as ledger;
use crate::observe::metrics::{Cooldown, Health};
use crate::routing::Waiting;
use crate::secret::Secret;

const MOST_BODY: usize = 16 << 20;
/// Objects of the directory are far smaller.
const MOST_OBJECT: usize = 256 << 10;
/// Longer tokens are refused unread.
pub(super) const LONGEST_TOKEN: usize = 512;
const BODY_TIME: Duration = Duration::from_secs(10);

pub struct Admin {
    pub(super) link: Link,
    /// SHA-256 of the token: comparing hashes tells nothing of how much of a guess was right.
    pub(super) token: [u8; 32],
    /// People who are being signed in.
    pub(super) exchanges: Semaphore,
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hash
}

impl Admin {
    pub fn new(link: Link, token: Secret) -> Self {
        Self {
            link,
            token: sha256(token.expose().as_bytes()),
            exchanges: Semaphore::new(super::signin::MOST_EXCHANGES),
        }
    }

    async fn answer(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let path = session.req_header().uri.path().to_owned();
        let method = session.req_header().method.clone();
        let reads = method == Method::GET || method == Method::HEAD;
        match path.as_str() {
            "/health" | "/health/live" if reads => {
                json_answer(StatusCode::OK, &json!({"status": "ok"}))
            }
            "/health/ready" if reads => self.ready(),
            "/metrics" if reads => self.metrics(),
            _ if !path.starts_with("/admin/v1/") => fault(
                StatusCode::NOT_FOUND,
                "not_found",
                "There is nothing at this path.",
            ),
            _ => {
                // Who only looks at the head of a link begins no session by it.
                if let Led::To(route, _) = routes::find(method.as_str(), &path)
                    && route.least == Least::Anyone
                    && method != Method::HEAD
                {
                    return self.anyone(route.does, session).await;
                }
                match self.caller(session).await {
                    Ok(caller) => self.routed(&caller, &method, &path, session).await,
                    Err(fault) => {
                        let unknown = fault.status == StatusCode::UNAUTHORIZED;
                        let mut answer = fault.into_answer();
                        if unknown {
                            let scheme = http::HeaderValue::from_static("Bearer");
                            let name = http::header::WWW_AUTHENTICATE;
                            answer.headers_mut().insert(name, scheme);
                        }
                        answer
                    }
                }
            }
        }
    }

    /// Does what the table of routes says.
    async fn routed(
        &self,
        caller: &Caller,
        method: &Method,
        path: &str,
        session: &mut ServerSession,
    ) -> Response<Vec<u8>> {
        let (route, id) = match routes::find(method.as_str(), path) {
            Led::To(route, id) => (route, id),
            Led::Elsewhere(allowed) => {
                let mut answer = fault(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method_not_allowed",
                    "This path takes another method.",
                );
                if let Ok(allowed) = http::HeaderValue::from_str(&allowed) {
                    answer.headers_mut().insert(http::header::ALLOW, allowed);
                }
                return answer;
            }
            Led::Nowhere => return Fault::missing().into_answer(),
        };
        if !caller.may_somewhere(route.least) {
            return Fault::forbidden(route.least).into_answer();
        }
        match route.does {
            Does::Ledger => self.ledger(path, route.least, caller, session).await,
            Does::Reload => self.reload(caller).await,
            Does::Explain => self.explain(session).await,
            Does::Status => self.status(),
            Does::Models => {
                let now = self.link.core.now.load_full();
                Reply::json(models::described(&now)).into_answer()
            }
            Does::Cooldowns => self.cooldowns(),
            Does::ClearCooldowns => self.clear_cooldowns(caller).await,
            Does::ClearCache => self.clear_cache(caller).await,
            Does::Document => Reply::json(openapi::document()).into_answer(),
            does @ (Does::Me
            | Does::List(_)
            | Does::Create(_)
            | Does::Read(_)
            | Does::Change(_)
            | Does::Delete(_)
            | Does::RotateKey
            | Does::MakeToken
            | Does::DropToken
            | Does::EndSessions) => self.object(does, caller, id, session).await,
            does @ (Does::SignIn | Does::Callback | Does::SignOut) => {
                self.anyone(does, session).await
            }
        }
    }

    async fn object(
        &self,
        does: Does,
        caller: &Caller,
        id: Option<&str>,
        session: &mut ServerSession,
    ) -> Response<Vec<u8>> {
        let Some(body) = read_body(session, MOST_OBJECT).await else {
            return too_large();
        };
        let header = |name: &str| {
            let value = session.get_header(name)?;
            Some(value.to_str().unwrap_or_default().to_owned())
        };
        let (if_match, once) = (header("if-match"), header("idempotency-key"));
        let query = session.req_header().uri.query().map(str::to_owned);
        let now = self.link.core.now.load_full();
        let asked = Asked {
            caller,
            directory: &self.link.core.directory,
            snapshot: &now.snapshot,
            keys: &now.keys,
            budgets: &self.link.core.budgets,
            id,
            query: query.as_deref(),
            body: &body,
            if_match: if_match.as_deref(),
            once: once.as_deref(),
        };
        // Boxed: large, and rare.
        match Box::pin(asked.run(does)).await {
            Ok(reply) => {
                self.note(does, caller, id, &body, &reply);
                reply.into_answer()
            }
            Err(fault) => fault.into_answer(),
        }
    }

    /// Notes a change in the audit log, with the names of the fields that were given and none of their values.
    fn note(&self, does: Does, caller: &Caller, id: Option<&str>, body: &[u8], reply: &Reply) {
        let Some((object, action)) = does.action() else {
            return;
        };
        let fields = serde_json::from_slice::<serde_json::Map<String, Value>>(body);
        let fields: Vec<String> = fields
            .unwrap_or_default()
            .into_iter()
            .map(|at| at.0)
            .collect();
        let which = id.or_else(|| reply.id()).unwrap_or_default();
        let action = format!("{object}.{action}");
        let ledger = &self.link.core.ledger;
        let mut detail = json!({"fields": fields});
        if let Some(path) = reply.path() {
            detail["path"] = path.into();
        }
        ledger.audit(caller.name(), &action, which, &detail);
    }

    /// What the ledger tells.
    async fn ledger(
        &self,
        path: &str,
        least: Least,
        caller: &Caller,
        session: &ServerSession,
    ) -> Response<Vec<u8>> {
        let head = session.req_header();
        let accept = session.get_header(http::header::ACCEPT);
        let accept = accept
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let ledger = &self.link.core.ledger;
        let asked = ledger::Asked {
            method: &head.method,
            path,
            query: head.uri.query(),
            accept,
            actor: caller.name(),
            within: caller.sees(least),
        };
        let told = ledger::answer(ledger, &self.link.core.state, asked).await;
        let mut answer = Response::new(told.body);
        *answer.status_mut() = StatusCode::from_u16(told.status).unwrap_or_default();
        let headers = answer.headers_mut();
        let kind = http::HeaderValue::from_static(told.content_type);
        headers.insert(http::header::CONTENT_TYPE, kind);
        let next = told
            .next
            .and_then(|next| http::HeaderValue::try_from(next).ok());
        if let Some(next) = next {
            headers.insert("x-strait-next", next);
        }
        answer
    }

    fn ready(&self) -> Response<Vec<u8>> {
        let ready = self.link.ready.load(Ordering::Acquire);
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let generation = self.link.core.now.load().snapshot.generation;
        json_answer(
            status,
            &json!({
                "status": if ready { "ready" } else { "not ready" },
                "config_generation": generation,
                "state": super::state::health(&self.link.core.state),
                "directory": super::state::directory(&self.link.core.directory),
                "issuers": super::state::issuers(&self.link.core.issuers),
                "ledger": super::ledger::health(&self.link.core.ledger),
                "redis": super::redis::health(self.link.core.redis.as_ref()),
            }),
        )
    }

    fn metrics(&self) -> Response<Vec<u8>> {
        let core = &self.link.core;
        let cache = core.cache.load();
        if let Some(cache) = cache.as_ref() {
            core.metrics
                .set_cache(cache.bytes(), cache.entries() as u64);
        }
        let listed = core.routing.cooldowns.list(Instant::now());
        let stopped = listed.into_iter();
        let stopped = stopped.filter(|entry| entry.state != Waiting::Steered);
        let cooling = stopped.map(|entry| Cooldown {
            provider: entry.provider,
            scope: entry.blame,
            name: entry.name,
            half_open: entry.state == Waiting::Probing,
        });
        core.metrics.set_cooldowns(cooling.collect());
        let now = core.now.load_full();
        let health = now.table.pools().flat_map(|pool| {
            pool.places().into_iter().map(|(place, healthy)| Health {
                provider: pool.provider.clone(),
                endpoint: pool.endpoint(place.endpoint).authority(),
                healthy,
            })
        });
        core.metrics.set_health(health.collect());
        let mut answer = Response::new(core.metrics.render());
        let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        answer
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, kind);
        answer
    }

    async fn clear_cooldowns(&self, caller: &Caller) -> Response<Vec<u8>> {
        let core = &self.link.core;
        core.routing.cooldowns.clear();
        core.ledger
            .audit(caller.name(), "cooldowns.clear", "cooldowns", &json!({}));
        match &core.redis {
            Some(redis) if super::share::clear_cooldowns(redis).await.is_err() => elsewhere(
                "Redis is away: cooldowns are taken away here, and those of other nodes stay.",
            ),
            Some(_) | None => self.cooldowns(),
        }
    }

    /// Throws all kept answers away, here at once, and elsewhere as soon as the others hear of it.
    async fn clear_cache(&self, caller: &Caller) -> Response<Vec<u8>> {
        let core = &self.link.core;
        let entries = core.cache.load().as_ref().as_ref().map_or(0, |cache| {
            let entries = cache.entries();
            cache.clear();
            entries
        });
        core.ledger
            .audit(caller.name(), "cache.clear", "cache", &json!({}));
        if let (Some(redis), Some(second)) = (&core.redis, &core.second)
            && super::share::clear_cache(redis, second).await.is_err()
        {
            return elsewhere(
                "Redis is away: answers are thrown away here, and stay in Redis and on the other nodes.",
            );
        }
        json_answer(StatusCode::OK, &json!({"deleted": entries}))
    }

    async fn reload(&self, caller: &Caller) -> Response<Vec<u8>> {
        let link = self.link.clone();
        let actor = caller.name().to_owned();
        match tokio::task::spawn_blocking(move || link.reload(&actor)).await {
            Ok(Ok(generation)) => {
                json_answer(StatusCode::OK, &json!({"config_generation": generation}))
            }
            Ok(Err(mistakes)) => {
                let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                let body = json!({"error": {
                    "code": "invalid_config",
                    "message": "The configuration has mistakes; the old one is in force.",
                    "mistakes": mistakes,
                }});
                json_answer(StatusCode::UNPROCESSABLE_ENTITY, &body)
            }
            Err(_) => fault(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                "The reload failed.",
            ),
        }
    }

    async fn explain(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let Some(body) = read_body(session, MOST_BODY).await else {
            return too_large();
        };
        let now = self.link.core.now.load_full();
        let given = Given {
            directory: Some(self.link.core.directory.view()),
            ..Given::default()
        };
        match explain::explain(&now, &body, given) {
            Ok(explained) => json_answer(StatusCode::OK, &explained),
            Err(error) => {
                let status =
                    StatusCode::from_u16(error.kind.status()).unwrap_or(StatusCode::BAD_REQUEST);
                fault(status, error.kind.code(), &error.message)
            }
        }
    }

    fn status(&self) -> Response<Vec<u8>> {
        let core = &self.link.core;
        let now = core.now.load_full();
        let pools: Vec<Value> = now
            .table
            .pools()
            .map(|pool| {
                let places = pool.places().into_iter().map(|(place, healthy)| {
                    json!({
                        "endpoint": pool.endpoint(place.endpoint).authority(),
                        "address": place.address.to_string(),
                        "healthy": healthy,
                    })
                });
                json!({"provider": pool.provider, "addresses": places.collect::<Vec<_>>()})
            })
            .collect();
        let disabled: Vec<Value> = now
            .snapshot
            .disabled
            .iter()
            .map(|(name, why)| json!({"provider": name, "reason": why}))
            .collect();
        let issuers = core.issuers.status().into_iter().map(|one| {
            json!({
                "issuer": one.issuer,
                "keys": one.keys,
                "age_seconds": one.age.map(|age| age.as_secs()),
                "failure": one.failure,
            })
        });
        let issuers: Vec<Value> = issuers.collect();
        json_answer(
            StatusCode::OK,
            &json!({
                "version": env!("CARGO_PKG_VERSION"),
                "config_generation": now.snapshot.generation,
                "config_file": now.snapshot.file.as_ref().map(|file| file.display().to_string()),
                "inflight": core.metrics.inflight(),
                "providers": now.snapshot.providers.iter().map(|provider| &provider.name).collect::<Vec<_>>(),
                "endpoints": pools,
                "models": now.table.configured_names(),
                "not_enabled": disabled,
                "issuers": issuers,
            }),
        )
    }

    fn cooldowns(&self) -> Response<Vec<u8>> {
        let now = jiff::Timestamp::now();
        let listed = self.link.core.routing.cooldowns.list(Instant::now());
        let cooling: Vec<Value> = listed
            .into_iter()
            .map(|entry| {
                json!({
                    "provider": entry.provider,
                    "name": entry.name,
                    "blame": entry.blame,
                    "reason": entry.reason,
                    "failures": entry.failures,
                    "remaining_ms": u64::try_from(entry.remaining.as_millis()).unwrap_or(u64::MAX),
                    "state": entry.state.name(),
                    "until": (now + entry.remaining).to_string(),
                    "told_by_provider": entry.state == Waiting::Told,
                })
            })
            .collect();
        json_answer(StatusCode::OK, &json!({"cooldowns": cooling}))
    }
}

/// Reads a whole body; `None` when it is too large or too slow.
/// What was asked for all nodes was done here alone.
fn elsewhere(message: &str) -> Response<Vec<u8>> {
    fault(
        StatusCode::SERVICE_UNAVAILABLE,
        "state_unavailable",
        message,
    )
}

async fn read_body(session: &mut ServerSession, most: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(piece)) = session.read_request_body().await {
            body.extend_from_slice(&piece);
            if body.len() > most {
                return false;
            }
        }
        true
    };
    let whole = tokio::time::timeout(BODY_TIME, reading).await;
    (whole == Ok(true)).then_some(body)
}

fn too_large() -> Response<Vec<u8>> {
    fault(
        StatusCode::PAYLOAD_TOO_LARGE,
        "request_too_large",
        "The body is too large or too slow.",
    )
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Vec<u8>> {
    let mut text = body.to_string().into_bytes();
    text.push(b'\n');
    let mut answer = Response::new(text);
    *answer.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    answer
}

fn fault(status: StatusCode, code: &str, message: &str) -> Response<Vec<u8>> {
    json_answer(
        status,
        &json!({"error": {"code": code, "message": message}}),
    )
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let mut answer = self.answer(session).await;
        let length = http::HeaderValue::from(answer.body().len());
        answer
            .headers_mut()
            .insert(http::header::CONTENT_LENGTH, length);
        if session.req_header().method == Method::HEAD {
            answer.body_mut().clear();
        }
        answer
    }
}
