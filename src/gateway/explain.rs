//! A dry run of routing: who would be asked, in which order, and why. Nothing is sent.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Now;
use super::endpoint::{self, Endpoint};
use super::intake::{Controls, MOST_DEPTH};
use super::lane;
use crate::access::Key;
use crate::codec::json;
use crate::directory::View;
use crate::error::{Error, Kind, Result};
use crate::protocol::Protocol;
use crate::protocol::api::Api;
use crate::protocol::envelope::{self, Envelope};
use crate::protocol::usage::Usage;
use crate::provider::cost;
use crate::routing::affinity;
use crate::routing::choose::{Asked, Pick, choose};
use crate::routing::constraints::Demands;
use crate::routing::needs::{Bounds, Needs};
use crate::routing::rules::{self, Rule, Verdict};
use crate::routing::screen::Screen;
use crate::routing::smart::Difficulty;
use crate::routing::{Route, Standing, Strategy};

/// Output tokens that an estimate assumes when the request sets no bound.
const LIKELY_OUTPUT: u64 = 500;
/// What a body is taken for that shows nothing else.
const CHAT: &str = "/v1/chat/completions";

/// What a dry run is told beside the body; a body in `{"request": …}` may say it, too.
#[derive(Default)]
pub struct Given<'g> {
    /// The path that the request would be posted to.
    pub endpoint: Option<&'g str>,
    pub headers: HeaderMap,
    /// A key by its name, or by its id in the directory.
    pub key: Option<&'g str>,
    /// Where a key is looked for that the configuration doesn't have.
    pub directory: Option<&'g View>,
}

/// Explains the routing of a request: of a body alone, or of
/// `{"request": BODY, "endpoint": "/v1/messages", "headers": {…}, "key": "NAME"}`, of which all but the body may be
/// left out. `given` goes before what stands there. Without an endpoint the body shows what it is, as far as it can.
pub fn explain(now: &Now, body: &[u8], given: Given<'_>) -> Result<Value> {
    let dry = Dry::read(now, body, given)?;
    let protocol = dry.asked.protocol;
    let key = dry.key.as_deref();
    let said = envelope::Said {
        model: dry.asked.model.as_deref(),
        stream: dry.asked.stream,
    };
    let chats = dry.asked.api == Api::Chat;
    let envelope = match dry.asked.api {
        Api::Chat => Envelope::read_said(dry.body, protocol, MOST_DEPTH, said)?,
        api @ (Api::CountTokens
        | Api::Embeddings
        | Api::Rerank
        | Api::Moderations
        | Api::Images
        | Api::ImageEdits
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations) => Envelope::read_api(dry.body, api, protocol, MOST_DEPTH, said)?,
    };
    let controls = Controls::read(&dry.headers)?;
    let decision = now.snapshot.rules.decide(&rules::Request {
        endpoint: dry.asked.name(),
        headers: &dry.headers,
        tags: &controls.tags,
        key: key.map_or("", |key| &key.name),
        team: dry
            .key
            .as_deref()
            .and_then(|key| key.owner.as_deref())
            .map_or("", |owner| &owner.team),
        session: controls.session.as_deref().unwrap_or_default(),
        region: &now.snapshot.server.region,
        at: jiff::Timestamp::now(),
        said: Some(rules::Said {
            protocol,
            body: dry.body,
            envelope: &envelope,
            user: controls
                .user
                .as_deref()
                .or(envelope.user.as_deref())
                .unwrap_or_default(),
        }),
    });
    let failed = decision.failed.iter();
    let failed: Vec<Value> = failed
        .map(|(rule, problem)| json!({"rule": &*rule.name, "why": problem.to_string()}))
        .collect();
    let rule = decision.rule.map(ruled);
    if let Some(Verdict::Deny(_)) = decision.rule.map(|rule| &rule.verdict) {
        return Ok(json!({
            "asked": envelope.model,
            "endpoint": dry.asked.name(),
            "rule": rule,
            "rules_not_asked": failed,
            "candidates": [],
        }));
    }
    let (first, named) = lane::routes(now, key, &envelope, decision.rule)?;
    let chain = now
        .table
        .chain(first.clone(), &named, !controls.no_fallback);
    let input = envelope.estimate_input();
    let output = envelope.max_output.unwrap_or(LIKELY_OUTPUT);
    let session = controls.session.as_deref().map(Cow::Borrowed);
    let session = session.or_else(|| affinity::session(&envelope, dry.body, protocol));
    let tenant = key.map_or("", |key| &key.name);
    let asked = Asked {
        stream: envelope.stream,
        input,
        output: envelope.max_output,
        session: session.map(|named| affinity::conversation(tenant, &first, named.as_bytes())),
        difficulty: if chats {
            Difficulty::of(&chain, protocol, dry.body)
        } else {
            Difficulty::default()
        },
    };
    let bounds = chain.iter().map(|route| route.bounds);
    let bounds = bounds.fold(Bounds::default(), Bounds::and);
    let screen = Screen {
        protocol,
        needs: if chats {
            Needs::of(&envelope, dry.body, protocol, &bounds)
        } else {
            Needs::default()
        },
        input,
        asked: &envelope.model,
        demands: Demands {
            key: key.map_or(&[], |key| &key.constraints),
            request: controls.constraints.as_ref(),
        },
        stream: envelope.stream,
    };
    let choice = choose(&chain, &asked, None, &screen);
    let passed = choice.passed.iter().map(|passed| {
        let candidate = passed.candidate();
        json!({
            "provider": candidate.provider.name,
            "model": &*candidate.model,
            "reason": passed.reason.to_string(),
        })
    });
    let passed: Vec<Value> = passed.collect();
    let mut candidates = Vec::new();
    let (mut position, mut turn) = (0, 0);
    for (index, pick) in choice.picks.iter().enumerate() {
        if index > 0 && pick.route.name != choice.picks[index - 1].route.name {
            (position, turn) = (position + 1, 0);
        }
        let place = Place {
            position,
            turn,
            input,
            output,
            protocol,
        };
        candidates.push(explained(now, pick, &place));
        turn += 1;
    }
    Ok(json!({
        "model": first.name,
        "asked": envelope.model,
        "endpoint": dry.asked.name(),
        "rule": rule,
        "rules_not_asked": failed,
        "strategy": first.tree.strategy.name(),
        "difficulty": asked.difficulty.first(),
        "max_attempts": first.retries.max_attempts,
        "estimated_input_tokens": input,
        "candidates": candidates,
        "passed": passed,
    }))
}

/// A request that nobody sends.
struct Dry<'b> {
    body: &'b [u8],
    asked: endpoint::Asked<'static>,
    headers: HeaderMap,
    key: Option<Arc<Key>>,
}

impl<'b> Dry<'b> {
    fn read(now: &Now, body: &'b [u8], given: Given<'b>) -> Result<Self> {
        #[derive(Default, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole<'b> {
            #[serde(borrow)]
            request: Option<&'b RawValue>,
            #[serde(borrow)]
            endpoint: Option<Cow<'b, str>>,
            #[serde(default)]
            headers: HashMap<String, String>,
            key: Option<String>,
        }
        let mut members = Vec::new();
        let is_whole = json::members(body, MOST_DEPTH, &mut members).is_ok()
            && members
                .iter()
                .any(|member| json::key(body, member) == "request");
        let whole = if is_whole {
            serde_json::from_slice(body)
                .map_err(|error| Error::new(Kind::InvalidRequest, error.to_string()))?
        } else {
            Whole::default()
        };
        let request = whole
            .request
            .map_or(body, |request| request.get().as_bytes());
        let mut headers = HeaderMap::new();
        for (name, value) in &whole.headers {
            let read = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_str(value),
            );
            let (Ok(name), Ok(value)) = read else {
                return Err(Error::field(
                    "headers",
                    "`headers` holds one that no request has.",
                ));
            };
            headers.insert(name, value);
        }
        headers.extend(given.headers);
        let key = match given.key.or(whole.key.as_deref()) {
            Some(name) => {
                let unknown = || {
                    Error::field(
                        "key",
                        "`key` must be the name of a key, or the id of one of the directory.",
                    )
                };
                let stored = || given.directory.and_then(|directory| directory.named(name));
                let found = now.keys.named(name).cloned().or_else(stored);
                Some(found.ok_or_else(unknown)?)
            }
            None => None,
        };
        let endpoint = given.endpoint.map(Cow::Borrowed).or(whole.endpoint);
        let path = endpoint.unwrap_or_else(|| shown(request).into());
        Ok(Self {
            body: request,
            asked: asked(path)?,
            headers,
            key,
        })
    }
}

/// Returns what is asked at a path, which may have a query.
fn asked(path: Cow<'_, str>) -> Result<endpoint::Asked<'static>> {
    let (path, query) = path.split_once('?').unwrap_or((&*path, ""));
    let query = Some(query).filter(|query| !query.is_empty());
    let Some(Endpoint::Ask(asked)) = Endpoint::of(path, query) else {
        let message = "`endpoint` must be a path that asks a model, such as /v1/messages.";
        return Err(Error::field("endpoint", message));
    };
    Ok(endpoint::Asked {
        api: asked.api,
        protocol: asked.protocol,
        model: asked.model.map(|model| Cow::Owned(model.into_owned())),
        stream: asked.stream,
        coat: asked.coat,
    })
}

/// Returns the path that a body was most likely made for, by fields that no other has.
fn shown(body: &[u8]) -> &'static str {
    let mut members = Vec::new();
    if json::members(body, MOST_DEPTH, &mut members).is_err() {
        return CHAT;
    }
    let has = |name: &str| {
        let mut members = members.iter();
        members.any(|member| json::key(body, member) == name)
    };
    let any = |names: &[&str]| names.iter().any(|name| has(name));
    if has("messages") {
        let claude = ["system", "anthropic_version", "thinking", "stop_sequences"];
        return if any(&claude) { "/v1/messages" } else { CHAT };
    }
    if has("input") {
        let vectors = any(&["encoding_format", "dimensions", "input_type"]);
        return if vectors {
            "/v1/embeddings"
        } else {
            "/v1/responses"
        };
    }
    if has("prompt") {
        "/v1/completions"
    } else {
        CHAT
    }
}

fn ruled(rule: &Rule) -> Value {
    match &rule.verdict {
        Verdict::Use(name) => json!({"name": &*rule.name, "use": &**name}),
        Verdict::Deny(message) => json!({"name": &*rule.name, "deny": &**message}),
        Verdict::Keep => json!({"name": &*rule.name}),
    }
}

struct Place {
    position: usize,
    turn: usize,
    input: u64,
    output: u64,
    protocol: Protocol,
}

fn explained(now: &Now, pick: &Pick<'_>, place: &Place) -> Value {
    let candidate = pick.candidate();
    let leaf = &pick.route.leaves[pick.target];
    let spoken = candidate.speaks(place.protocol).protocol;
    let standing = |scope| match now.table.state().cooldowns.standing(scope, Instant::now()) {
        Standing::Good => None,
        Standing::Cooling(until) => Some(("cooling", until)),
        Standing::Told(until) => Some(("asked not to be called", until)),
    };
    let scopes = [candidate.model_scope].into_iter();
    let scopes = scopes.chain(
        candidate
            .endpoints
            .iter()
            .flat_map(|endpoint| [endpoint.serving, endpoint.endpoint]),
    );
    let waiting = scopes.filter_map(standing).next();
    let usage = Usage {
        input: place.input,
        output: place.output,
        ..Usage::default()
    };
    let price = super::account::priced(candidate, &usage, None).map(|(pico, _)| cost::usd(pico));
    json!({
        "provider": candidate.provider.name,
        "model": &*candidate.model,
        "protocol": spoken.name(),
        "mode": if candidate.provider.demo { "demo" } else if spoken == place.protocol { "pass" } else { "translate" },
        "reason": reason(pick.route, place),
        "via": leaf.via.as_deref(),
        "score": pick.score,
        "available": waiting.is_none(),
        "waiting": waiting.map(|(why, until)| json!({
            "why": why,
            "ms": u64::try_from(until.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX),
        })),
        "weight": leaf.weight,
        "estimated_cost_usd": price,
    })
}

fn reason(route: &Route, place: &Place) -> String {
    let number = place.turn + 1;
    let order = match (route.tree.strategy, route.targets.len()) {
        (_, 1) => "the only target".to_owned(),
        (Strategy::Fallback, _) => format!("number {number} in the order of the file"),
        (Strategy::Weighted, _) => format!("drawn as number {number} by weight"),
        (Strategy::RoundRobin, _) => format!("number {number} in this turn"),
        (Strategy::LeastBusy, _) => {
            format!("number {number} by requests in flight for its weight")
        }
        (Strategy::Latency, _) => format!("number {number} by its likely latency, in ms"),
        (Strategy::Cost, _) => {
            format!("number {number} by the likely cost of this request, in USD")
        }
        (Strategy::Score, _) => format!("number {number} by score"),
        (Strategy::Smart, _) => format!("number {number} by the difficulty of the prompt"),
    };
    match place.position {
        0 => format!("{order} of `{}`", route.name),
        position => format!("fallback {position}: {order} of `{}`", route.name),
    }
}
