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
use crate::access::Key;
use crate::error::{Error, Kind, Result};
use crate::protocol::Protocol;
use crate::protocol::api::Api;
use crate::protocol::envelope::{self, Envelope};
use crate::protocol::usage::Usage;
use crate::provider::cost;
use crate::routing::choose::{Asked, Pick, choose};
use crate::routing::needs::{Bounds, Needs};
use crate::routing::rules::{self, Rule, Verdict};
use crate::routing::screen::Screen;
use crate::routing::smart::Difficulty;
use crate::routing::{Route, Standing, Strategy};

/// Output tokens that an estimate assumes when the request sets no bound.
const LIKELY_OUTPUT: u64 = 500;

/// Explains the routing of a request: of a body alone, or of
/// `{"request": BODY, "endpoint": "/v1/messages", "headers": {…}, "key": "NAME"}`, of which all but the body may be
/// left out. A body alone, also one with Anthropic's shape (`max_tokens` and `system`, say), is read as OpenAI chat.
pub fn explain(now: &Now, body: &[u8]) -> Result<Value> {
    let dry = Dry::read(now, body)?;
    let protocol = dry.asked.protocol;
    let said = envelope::Said {
        model: dry.asked.model.as_deref(),
        stream: dry.asked.stream,
    };
    let envelope = match dry.asked.api {
        Api::Chat => Envelope::read_said(&dry.body, protocol, MOST_DEPTH, said)?,
        api @ (Api::CountTokens
        | Api::Embeddings
        | Api::Rerank
        | Api::Moderations
        | Api::Images
        | Api::ImageEdits
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations) => Envelope::read_api(&dry.body, api, protocol, MOST_DEPTH, said)?,
    };
    let controls = Controls::read(&dry.headers)?;
    let decision = now.snapshot.rules.decide(&rules::Request {
        endpoint: dry.asked.name(),
        headers: &dry.headers,
        tags: &controls.tags,
        key: dry.key.as_deref().map_or("", |key| &key.name),
        team: "",
        session: controls.session.as_deref().unwrap_or_default(),
        region: &now.snapshot.server.region,
        at: jiff::Timestamp::now(),
        said: Some(rules::Said {
            protocol,
            body: &dry.body,
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
    if let Some(key) = dry
        .key
        .as_deref()
        .filter(|key| !key.allows(&envelope.model))
    {
        let message = format!("The key `{}` may not use the model.", key.name);
        return Err(Error::new(Kind::ModelNotAllowed, message));
    }
    let used = decision.rule.and_then(|rule| match &rule.verdict {
        Verdict::Use(name) => Some(&**name),
        Verdict::Keep | Verdict::Deny(_) => None,
    });
    let redirected = now.snapshot.catalogue.policy.redirected(&envelope.model);
    let first = now
        .table
        .resolve(used.or(redirected).unwrap_or(&envelope.model))?;
    let asked = envelope
        .fallbacks
        .iter()
        .filter(|_| used.is_none())
        .map(|name| now.table.resolve(name))
        .collect::<Result<Vec<_>>>()?;
    let chain = now.table.chain(first.clone(), &asked, true);
    let input = envelope.estimate_input();
    let output = envelope.max_output.unwrap_or(LIKELY_OUTPUT);
    let asked = Asked {
        stream: envelope.stream,
        input,
        output: envelope.max_output,
        session: None,
        difficulty: Difficulty::of(&chain, protocol, body),
    };
    let bounds = chain.iter().map(|route| route.bounds);
    let bounds = bounds.fold(Bounds::default(), Bounds::and);
    let screen = Screen {
        protocol,
        needs: Needs::of(&envelope, body, protocol, &bounds),
        input,
        demands: [None, None],
        latency: &|_| None,
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
    body: Cow<'b, [u8]>,
    asked: endpoint::Asked<'b>,
    headers: HeaderMap,
    key: Option<Arc<Key>>,
}

impl<'b> Dry<'b> {
    fn read(now: &Now, body: &'b [u8]) -> Result<Self> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole<'b> {
            #[serde(borrow)]
            request: &'b RawValue,
            #[serde(borrow)]
            endpoint: Option<&'b str>,
            #[serde(default)]
            headers: HashMap<String, String>,
            key: Option<String>,
        }
        let chat = Endpoint::of("/v1/chat/completions", None);
        let mut members = Vec::new();
        let is_whole = crate::codec::json::members(body, MOST_DEPTH, &mut members).is_ok()
            && members
                .iter()
                .any(|member| crate::codec::json::key(body, member) == "request");
        if !is_whole {
            return Self::of(body.into(), chat, HeaderMap::new(), None);
        }
        let whole: Whole<'b> = serde_json::from_slice(body)
            .map_err(|error| Error::new(Kind::InvalidRequest, error.to_string()))?;
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
        let key = match &whole.key {
            Some(name) => {
                let unknown = || Error::field("key", "`key` must be the name of a key.");
                Some(now.keys.named(name).ok_or_else(unknown)?.clone())
            }
            None => None,
        };
        let endpoint = match whole.endpoint {
            Some(path) => {
                let (path, query) = path.split_once('?').unwrap_or((path, ""));
                Endpoint::of(path, Some(query).filter(|query| !query.is_empty()))
            }
            None => chat,
        };
        Self::of(
            whole.request.get().as_bytes().into(),
            endpoint,
            headers,
            key,
        )
    }

    fn of(
        body: Cow<'b, [u8]>,
        endpoint: Option<Endpoint<'b>>,
        headers: HeaderMap,
        key: Option<Arc<Key>>,
    ) -> Result<Self> {
        let Some(Endpoint::Ask(asked)) = endpoint else {
            let message = "`endpoint` must be a path that asks a model, such as /v1/messages.";
            return Err(Error::field("endpoint", message));
        };
        Ok(Self {
            body,
            asked,
            headers,
            key,
        })
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

fn explained(now: &Now, pick: &Pick, place: &Place) -> Value {
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
    let price = super::account::priced(candidate, &usage).map(|(pico, _)| cost::usd(pico));
    json!({
        "provider": candidate.provider.name,
        "model": &*candidate.model,
        "protocol": spoken.name(),
        "mode": if candidate.provider.demo { "demo" } else if spoken == place.protocol { "pass" } else { "translate" },
        "reason": reason(&pick.route, place),
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
