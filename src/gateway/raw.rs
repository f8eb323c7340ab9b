//! The raw lane: what only a provider understands, passed on as it comes, of any size, upgrades included.
//!
//! Key, limits, models and records stand around it as around everything else; the body is read while it passes, never
//! held. Files, batches, realtime sessions and videos come here, and `/{provider}/…`: the provider's own API.

mod counting;
mod named;
mod signed;
mod socket;
mod standing;
mod task;
mod whom;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use self::socket::Socket;
use self::task::Task;
use super::reply::{self, Headers};
use super::through::{self, Through};
use super::watch::Watch;
use super::{Exchange, Now, account, limits};
use crate::access::Key;
use crate::error::{Error, Kind, Result};
use crate::limit::overload::{Gate, Slot};
use crate::limit::{Limited, Permit};
use crate::observe::record::Mode;
use crate::protocol::tap::{self, Tap};
use crate::protocol::usage::Usage;
use crate::protocol::{self, Protocol};
use crate::provider::catalogue;
use crate::routing::constraints::{self, Constraints, Subject};
use crate::routing::{Candidate, Route};
use crate::upstream::pool::Place;
pub use whom::provider;

/// A whole answer longer than this passes unread: its usage stays unknown.
const MOST_READ: usize = 8 << 20;

/// A request on its way through the raw lane.
pub struct Raw {
    now: Arc<Now>,
    route: Arc<Route>,
    /// Whose account is asked; chosen with the address.
    credential: usize,
    /// The provider's own path below its root, with the query; before the endpoint's base path is looked at.
    path: String,
    query: Option<String>,
    key: Option<Arc<Key>>,
    /// What the key and the request demand.
    demands: Vec<Arc<Constraints>>,
    permit: Option<Permit>,
    /// Models that path and query name, as limits and records know them too.
    named: Vec<String>,
    /// Of limits for models that the body has named.
    further: Vec<(Arc<str>, Permit)>,
    /// Its places among all, and at the provider.
    slots: Option<(Slot, Option<Slot>)>,
    limits: Headers,
    /// For a request that may not reach every model.
    watch: Option<Watch>,
    place: Option<Place>,
    tries: usize,
    /// Since when the provider has been asked: time that is not the gateway's own.
    asked: Option<Instant>,
    reads: Reads,
    /// The protocol in which the provider's path answers, where it is one that is understood.
    speaks: Option<Protocol>,
    /// What else it is for, where that is known.
    task: Option<Task>,
    /// What the client gets instead of the provider's answer.
    instead: Option<Bytes>,
    refused: Option<Error>,
    /// The answer is text, which may repeat what its provider was sent.
    readable: bool,
}

/// How an answer is read while it passes.
enum Reads {
    Nothing,
    Stream(Box<Tap>),
    /// AWS's event stream.
    Packed(Box<Through>),
    Whole(Vec<u8>),
    /// A realtime session.
    Socket(Box<Socket>),
}

/// Who asks, and what for.
pub struct Asks<'a> {
    pub key: Option<Arc<Key>>,
    pub constraints: Option<Constraints>,
    pub headers: &'a HeaderMap,
}

/// Plans a request: whom to ask, and whether this key may.
pub async fn plan(
    now: &Arc<Now>,
    provider: &str,
    rest: &str,
    query: Option<&str>,
    asks: Asks<'_>,
) -> Result<Raw> {
    let route = now.table.resolve(&format!("{provider}/*"))?;
    let candidate = &route.targets[0];
    let Some(pool) = candidate.pool.as_ref().filter(|_| !candidate.provider.demo) else {
        return Err(Error::new(
            Kind::PathNotFound,
            "This provider has no API of its own.",
        ));
    };
    let path = format!("/{rest}");
    let keys = asks.key.iter().flat_map(|key| key.constraints.iter());
    let demands = keys.cloned().chain(asks.constraints.map(Arc::new));
    let demands: Vec<Arc<Constraints>> = demands.collect();
    let mut raw = Raw {
        now: now.clone(),
        credential: 0,
        route: route.clone(),
        speaks: speaks(&path),
        task: Task::of(&path),
        query: query.and_then(without_key),
        path,
        watch: None,
        key: asks.key,
        demands,
        permit: None,
        named: Vec::new(),
        further: Vec::new(),
        slots: None,
        limits: Headers::new(),
        place: None,
        tries: 0,
        asked: None,
        reads: Reads::Nothing,
        instead: None,
        refused: None,
        readable: false,
    };
    raw.check(query, asks.headers)?;
    if !pool.is_resolved() {
        let _ = tokio::time::timeout(candidate.provider.timeouts.connect, pool.resolve()).await;
    }
    Ok(raw)
}

impl Raw {
    /// Returns the gate of its provider, where that is bounded.
    pub fn gate(&self) -> Option<Arc<Gate>> {
        self.route.targets[0].gate.clone()
    }

    /// Checks the provider and the models that path and query name, and watches the body where not every model may
    /// be reached.
    fn check(&mut self, query: Option<&str>, headers: &HeaderMap) -> Result<()> {
        named::stays(&self.path)?;
        let in_path = named::models(&self.path);
        let is_plain = in_path.is_some();
        let mut named = in_path.unwrap_or_default();
        let pairs = query.unwrap_or_default().split('&');
        let in_query = pairs.clone().filter_map(|pair| pair.strip_prefix("model="));
        named.extend(in_query.map(str::to_owned));
        let provider = self.candidate().provider.clone();
        let full = named
            .iter()
            .map(|model| format!("{}/{model}", provider.name));
        self.named = full.chain(named.iter().cloned()).collect();
        let counted = |key: &Key| key.limited().any(|limited| limited.models.is_some());
        let keyed = self
            .key
            .as_ref()
            .is_some_and(|key| key.is_restricted() || counted(key));
        let mut demands = self.demands.iter();
        if !keyed && !demands.any(|demand| demand.asks_for_model(&provider)) {
            return self.permits(None);
        }
        if !is_plain {
            return Err(Error::field(
                "path",
                "This request is restricted to certain models: names in the path can't be escaped so.",
            ));
        }
        // A name spelt with escapes is read by the provider and not by us.
        let spelt = |pair: &str| pair.split('=').next().unwrap_or_default().contains('%');
        if pairs.clone().any(spelt) {
            return Err(Error::field(
                "query",
                "This request is restricted to certain models: names in the query can't be escaped.",
            ));
        }
        if named.is_empty() {
            self.permits(None)?;
        }
        for model in &named {
            self.permits(Some(model))?;
        }
        if headers.contains_key(http::header::UPGRADE) && named.is_empty() {
            return Err(Error::field(
                "model",
                "This request is restricted to certain models: name one in the query (`?model=`).",
            ));
        }
        if headers.contains_key(http::header::CONTENT_ENCODING) {
            return Err(Error::field(
                "content-encoding",
                "This request is restricted to certain models: the body can't come compressed.",
            ));
        }
        self.watch = Some(Watch::default());
        Ok(())
    }

    /// Returns why the provider, or a model of it, may not be asked.
    fn permits(&self, model: Option<&str>) -> Result<()> {
        let candidate = self.candidate();
        let provider = &candidate.provider;
        if let (Some(key), Some(model)) = (&self.key, model)
            && !allows(key, &provider.name, model)
        {
            return Err(refusal(model));
        }
        let subject = |model| Subject {
            provider,
            model,
            names: &[],
            entry: catalogue::model(&provider.catalogue, provider.known_as(model)),
            place: candidate.region,
            input: 0,
            latency: &|| None,
        };
        let against = |demand: &Arc<Constraints>| match model {
            Some(model) => demand.against(&subject(model)),
            None => demand.against_provider(provider),
        };
        match self.demands.iter().find_map(against) {
            None => Ok(()),
            Some(against) => {
                let shown: String = model.unwrap_or("*").chars().take(100).collect();
                let name = format!("{}/{shown}", provider.name);
                Err(constraints::refusal(&name.clone(), &[(name, against)]))
            }
        }
    }

    pub fn admitted(
        &mut self,
        permit: Option<Permit>,
        limits: Headers,
        slots: (Slot, Option<Slot>),
    ) {
        self.slots = Some(slots);
        self.permit = permit;
        self.limits = limits;
    }

    /// Returns who is about to be asked; the model is in the body, which is not read yet.
    pub fn asked_first(&self) -> (&str, &str) {
        (&self.candidate().provider.name, "")
    }

    fn candidate(&self) -> &Candidate {
        &self.route.targets[0]
    }

    /// Makes the client's head the provider's. `body` is what a signature is over.
    pub async fn request(&self, head: &mut RequestHeader, body: &[u8]) -> pingora::Result<()> {
        let candidate = self.candidate();
        let index = self.place.as_ref().map_or(0, |place| place.endpoint);
        let base = &candidate.provider.endpoints[index].base_path;
        let mut target = if base.is_empty() || self.path.starts_with(&format!("{base}/")) {
            self.path.clone()
        } else {
            // `/v1` may stand before what an endpoint keeps below a base of its own.
            let rest = self.path.strip_prefix("/v1/").map_or(&*self.path, |rest| {
                &self.path[self.path.len() - rest.len() - 1..]
            });
            format!("{base}{rest}")
        };
        if let Some(query) = &self.query {
            target.push('?');
            target.push_str(query);
        }
        let uri = target.parse::<http::Uri>().map_err(|_| {
            pingora::Error::explain(pingora::ErrorType::InvalidHTTPHeader, "not a path")
        })?;
        head.set_uri(uri);
        let ours: Vec<HeaderName> = head
            .headers
            .keys()
            .filter(|name| stays(name))
            .cloned()
            .collect();
        for name in ours {
            head.remove_header(&name);
        }
        if let Some(protocols) = head.headers.get("sec-websocket-protocol").cloned() {
            let kept: Vec<&str> = protocols
                .to_str()
                .unwrap_or_default()
                .split(',')
                .map(str::trim)
                .filter(|name| !name.starts_with("openai-insecure-api-key."))
                .collect();
            head.insert_header("sec-websocket-protocol", kept.join(", "))?;
        }
        head.insert_header(http::header::HOST, candidate.endpoints[index].host.clone())?;
        head.insert_header(http::header::ACCEPT_ENCODING, "identity")?;
        for (name, value) in &candidate.headers[self.credential] {
            head.insert_header(name.clone(), value.clone())?;
        }
        if candidate.signs() {
            let method = head.method.as_str().to_owned();
            let signing = candidate.authorize(index, &method, target.as_bytes(), body);
            let signed = signing.await.map_err(|error| {
                tracing::warn!(provider = candidate.provider.name, %error, "not signed in");
                pingora::Error::explain(pingora::ErrorType::InternalError, "not signed in")
            })?;
            for (name, value) in signed {
                head.insert_header(name, value)?;
            }
        }
        Ok(())
    }

    /// Watches a piece of the client's body. Returns the limits of the models that it names, where the request is not
    /// counted yet.
    pub fn body(
        &mut self,
        piece: Option<&Bytes>,
        x: &mut Exchange,
    ) -> pingora::Result<Vec<Limited>> {
        let mut limited = Vec::new();
        let Some(piece) = piece else {
            return Ok(limited);
        };
        x.record.request_bytes += piece.len() as u64;
        x.hear(piece);
        let Some(mut watch) = self.watch.take() else {
            return Ok(limited);
        };
        let mut refused = None;
        watch.feed(piece, &mut |model| {
            if refused.is_none() {
                refused = self.permits(Some(model)).err();
                self.uncounted(model, &mut limited);
            }
        });
        self.watch = Some(watch);
        match refused {
            Some(error) => Err(self.refuse(error)),
            None => Ok(limited),
        }
    }

    /// The body names a model that the key may not use now: nothing more of it is sent.
    pub fn refuse(&mut self, error: Error) -> Box<pingora::Error> {
        self.refused = Some(error);
        pingora::Error::explain(
            pingora::ErrorType::HTTPStatus(403),
            "the body names a model that the key may not use now",
        )
    }

    /// Makes the provider's head the client's.
    pub fn answer(&mut self, head: &mut ResponseHeader, x: &mut Exchange) -> pingora::Result<()> {
        let status = head.status.as_u16();
        if let Some(attempt) = x.record.attempts.last_mut() {
            attempt.status = Some(status);
            attempt.outcome = if status < 400 { "ok" } else { "status" };
        }
        self.learn(status, x);
        let own = self.candidate().provider.clone();
        let ours = |value: &http::HeaderValue| own.masked(value.as_bytes()).is_some();
        let stay = head.headers.iter();
        let stay = stay.filter(|(name, value)| stays_here(name) || ours(value));
        let stay: Vec<HeaderName> = stay.map(|(name, _)| name.clone()).collect();
        for name in &stay {
            head.remove_header(name);
        }
        if matches!(status, 401..=403) {
            // Not the client's credential, and not its business.
            let error = Error::new(
                Kind::UpstreamAccount,
                "The provider refused the gateway's own account for this request.",
            );
            x.fail(&error);
            let body = Bytes::from(protocol::error_body(x.protocol, &error, &x.record.id));
            head.set_status(http::StatusCode::BAD_GATEWAY)?;
            head.insert_header(http::header::CONTENT_TYPE, reply::JSON)?;
            head.insert_header(http::header::CONTENT_LENGTH, body.len())?;
            head.remove_header(&http::header::TRANSFER_ENCODING);
            self.instead = Some(body);
        }
        for (name, value) in std::mem::take(&mut self.limits) {
            head.insert_header(name, value)?;
        }
        let candidate = self.candidate();
        head.insert_header("x-strait-provider", candidate.named.0.clone())?;
        head.insert_header("x-strait-attempts", x.record.attempts.len())?;
        reply::name_request(head, x)?;
        let kind = head.headers.get(http::header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        self.readable = kind.starts_with("application/json") || kind.starts_with("text/");
        self.reads = match self.speaks {
            None if status == 101 && self.path.ends_with("/realtime") => {
                Reads::Socket(Box::default())
            }
            Some(protocol) if (200..300).contains(&status) => {
                if kind.starts_with("text/event-stream") {
                    x.record.stream = true;
                    Reads::Stream(Box::new(Tap::new(protocol, false, through::MOST_FRAME)))
                } else if kind.starts_with("application/vnd.amazon.eventstream") {
                    x.record.stream = true;
                    Reads::Packed(Box::new(match protocol {
                        Protocol::Bedrock => Through::pass(protocol, false),
                        Protocol::OpenaiChat
                        | Protocol::OpenaiResponses
                        | Protocol::OpenaiCompletions
                        | Protocol::Anthropic
                        | Protocol::Gemini
                        | Protocol::Cohere
                        | Protocol::Ollama => Through::unpack(protocol),
                    }))
                } else if kind.starts_with("application/json") {
                    Reads::Whole(Vec::new())
                } else {
                    Reads::Nothing
                }
            }
            None if self.task.is_some()
                && (200..300).contains(&status)
                && kind.starts_with("application/json") =>
            {
                Reads::Whole(Vec::new())
            }
            Some(_) | None => Reads::Nothing,
        };
        x.waited += self
            .asked
            .take()
            .map_or(Duration::ZERO, |asked| asked.elapsed());
        x.commit(head.status.as_u16());
        Ok(())
    }

    /// Reads a piece of the answer while it passes.
    pub fn piece(&mut self, piece: &mut Option<Bytes>, x: &mut Exchange) {
        if let Some(instead) = &mut self.instead {
            // Sent once, with the first piece that comes or at the end.
            let told = std::mem::take(instead);
            x.tell(&told);
            *piece = Some(told);
            return;
        }
        let Some(piece) = piece else { return };
        let readable = self.readable.then(|| &self.candidate().provider);
        if let Some(masked) = readable.and_then(|provider| provider.masked(piece)) {
            *piece = masked.into();
        }
        x.record.response_bytes += piece.len() as u64;
        x.tell(piece);
        x.record.ttft.get_or_insert_with(|| x.started.elapsed());
        match &mut self.reads {
            Reads::Nothing => {}
            Reads::Stream(tap) => tap.feed(piece.clone(), &mut Vec::new()),
            Reads::Packed(through) => through.feed(piece.clone(), &mut Vec::new()),
            Reads::Whole(body) if body.len() + piece.len() > MOST_READ => {
                self.reads = Reads::Nothing;
            }
            Reads::Whole(body) => body.extend_from_slice(piece),
            Reads::Socket(socket) => socket.feed(piece),
        }
    }

    /// Writes an error of ours where no head has gone out.
    pub async fn fail(
        &mut self,
        error: &pingora::Error,
        session: &mut Session,
        x: &mut Exchange,
    ) -> u16 {
        let told = self.refused.take().unwrap_or_else(|| of_pingora(error));
        if let Some(attempt) = x.record.attempts.last_mut()
            && attempt.status.is_none()
        {
            attempt.outcome = if told.kind == Kind::Timeout {
                "timeout_idle"
            } else if told.kind == Kind::UpstreamUnavailable {
                "connect"
            } else {
                "cut"
            };
        }
        x.fail(&told);
        let status = told.kind.status();
        if x.committed || told.kind == Kind::ClientGone {
            return status;
        }
        let limits = std::mem::take(&mut self.limits);
        session.set_keepalive(None);
        if let Err(error) = reply::error(session, x, &told, limits).await {
            tracing::debug!(id = x.record.id, %error, "answer not delivered");
        }
        status
    }

    /// Accounts what the exchange took.
    pub fn done(mut self, error: Option<&pingora::Error>, x: &mut Exchange) {
        let candidate = &self.route.targets[0];
        x.record.provider.clone_from(&candidate.provider.name);
        x.record.mode = Mode::Pass;
        let (usage, model, finish) = match &mut self.reads {
            Reads::Nothing => (None, None, None),
            Reads::Stream(tap) => {
                tap.finish(&mut Vec::new());
                (tap.usage.take(), tap.model.take(), tap.finish)
            }
            Reads::Socket(socket) => {
                let model = socket.model.take();
                let model = model.or_else(|| self.named.last().cloned());
                (socket.usage.take(), model, None)
            }
            Reads::Packed(through) => {
                through.end(&mut Vec::new());
                let seen = through.seen();
                (seen.usage, None, seen.finish)
            }
            Reads::Whole(body) => match (self.speaks, self.task) {
                (None, Some(task)) => {
                    let (usage, model) = task.read(body);
                    (usage, model.or_else(|| self.named.last().cloned()), None)
                }
                (speaks, _) => {
                    let protocol = speaks.unwrap_or(Protocol::OpenaiChat);
                    let whole = tap::whole(protocol, body);
                    (whole.usage, whole.model, whole.finish)
                }
            },
        };
        let in_path = || {
            let (_, rest) = self.path.split_once("/model/")?;
            let model = rest.split('/').next()?;
            Some(model.replace("%3A", ":").replace("%3a", ":"))
        };
        if let Some(model) = model.filter(|model| !model.is_empty()).or_else(in_path) {
            x.record.model = model;
        }
        x.record.finish = finish.map(super::relay::finish_name);
        let amount = counting::amount(usage.as_ref());
        if let Some(usage) = usage {
            self.price(usage, x);
        }
        if let Some(error) = error
            && x.record.error.is_none()
        {
            x.fail(&of_pingora(error));
        }
        if let Some(attempt) = x.record.attempts.last_mut() {
            attempt.ms = u32::try_from(x.started.elapsed().as_millis()).unwrap_or(u32::MAX);
        }
        let further = self.further.into_iter().map(|(_, permit)| permit);
        for mut permit in self.permit.into_iter().chain(further) {
            permit.settle(amount);
        }
    }

    fn price(&self, usage: Usage, x: &mut Exchange) {
        let name = format!("{}/{}", x.record.provider, x.record.model);
        let priced = self.now.table.resolve(&name).ok().and_then(|route| {
            let candidate = route.targets.first()?;
            x.record.model_known = &*candidate.label != "other";
            account::priced(candidate, &usage, None)
        });
        let (pico, unpriced) = usage
            .reported
            .map(|pico| (pico, false))
            .or(priced)
            .unwrap_or((0, true));
        x.record.cost_pico = Some(pico);
        x.record.unpriced = unpriced;
        x.record.usage = Some(usage);
    }
}

/// Returns whether a request may cost something: what only reads or deletes makes nothing, a session that begins with a
/// reading may.
pub fn may_cost(head: &RequestHeader) -> bool {
    let reads = matches!(
        head.method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE
    );
    !reads || head.headers.contains_key(http::header::UPGRADE)
}

/// Returns whether a key may use a model that is named as its provider names it.
fn allows(key: &Key, provider: &str, model: &str) -> bool {
    key.allows_any(&[model, &format!("{provider}/{model}")])
}

fn refusal(model: &str) -> Error {
    let shown: String = model.chars().take(100).collect();
    Error {
        param: Some("model".into()),
        ..Error::new(
            Kind::ModelNotAllowed,
            format!("This API key may not use the model `{shown}`."),
        )
    }
}

/// Returns the protocol in which a provider's path answers.
fn speaks(path: &str) -> Option<Protocol> {
    if path.ends_with("/chat/completions") {
        Some(Protocol::OpenaiChat)
    } else if path.ends_with("/responses") {
        Some(Protocol::OpenaiResponses)
    } else if path.ends_with("/completions") {
        Some(Protocol::OpenaiCompletions)
    } else if path.ends_with("/messages") {
        Some(Protocol::Anthropic)
    } else if path.ends_with(":generateContent") || path.ends_with(":streamGenerateContent") {
        Some(Protocol::Gemini)
    } else if path.ends_with("/converse") || path.ends_with("/converse-stream") {
        Some(Protocol::Bedrock)
    } else if path.contains("anthropic.")
        && (path.ends_with("/invoke") || path.ends_with("/invoke-with-response-stream"))
    {
        Some(Protocol::Anthropic)
    } else {
        None
    }
}

/// Returns whether a header of the provider stays here: its cookies, and what names our account or our key.
fn stays_here(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "set-cookie"
            | "openai-organization"
            | "openai-project"
            | "anthropic-organization-id"
            | "authorization"
            | "proxy-authorization"
            | "x-api-key"
            | "api-key"
            | "x-goog-api-key"
    )
}

/// Returns whether a header of the client stays here: credentials, addresses, cookies and what is ours.
fn stays(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-strait-")
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-amz-")
        || matches!(
            name,
            "authorization"
                | "x-api-key"
                | "api-key"
                | "x-goog-api-key"
                | "cookie"
                | "forwarded"
                | "x-real-ip"
                | "via"
                // What is compressed can't be accounted.
                | "sec-websocket-extensions"
                | "openai-organization"
                | "openai-project"
        )
}

fn without_key(query: &str) -> Option<String> {
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.starts_with("key=") && !pair.is_empty())
        .collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// Returns our word for what Pingora met.
fn of_pingora(error: &pingora::Error) -> Error {
    use pingora::ErrorType as T;
    let timed_out = matches!(
        error.etype(),
        T::ConnectTimedout | T::TLSHandshakeTimedout | T::ReadTimedout | T::WriteTimedout
    );
    if error.esource == pingora::ErrorSource::Downstream {
        return Error::new(Kind::ClientGone, "The client left.");
    }
    if timed_out {
        return Error::new(Kind::Timeout, "The provider did not answer in time.");
    }
    let connecting = matches!(
        error.etype(),
        T::ConnectRefused
            | T::ConnectNoRoute
            | T::ConnectError
            | T::SocketError
            | T::BindError
            | T::TLSHandshakeFailure
            | T::InvalidCert
    );
    if connecting {
        return Error::new(
            Kind::UpstreamUnavailable,
            "The provider could not be connected to.",
        );
    }
    Error::new(Kind::UpstreamBroken, "The provider cut its answer.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_leave_the_query() {
        assert_eq!(without_key("a=1&key=s&b=2").as_deref(), Some("a=1&b=2"));
        assert_eq!(without_key("key=s"), None);
    }

    #[test]
    fn credentials_and_our_own_headers_stay_here() {
        for name in [
            "authorization",
            "x-api-key",
            "cookie",
            "x-strait-tags",
            "x-forwarded-for",
        ] {
            assert!(stays(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["content-type", "openai-beta", "anthropic-beta", "upgrade"] {
            assert!(!stays(&HeaderName::from_static(name)), "{name}");
        }
    }
}
