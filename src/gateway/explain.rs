//! A dry run of routing: who would be asked, in which order, and why. Nothing is sent.

use std::time::Instant;

use serde_json::{Value, json};

use super::Now;
use super::intake::MOST_DEPTH;
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::envelope::Envelope;
use crate::protocol::usage::Usage;
use crate::provider::cost;
use crate::routing::{Candidate, Route, Standing, Strategy, strategy};

/// Output tokens that an estimate assumes when the request sets no bound.
const LIKELY_OUTPUT: u64 = 500;

/// Explains the routing of a request body. A body with Anthropic's shape (`max_tokens` and `system`, say) is read
/// as OpenAI chat all the same: routing needs the model alone.
pub fn explain(now: &Now, body: &[u8]) -> Result<Value> {
    let protocol = Protocol::OpenaiChat;
    let envelope = Envelope::read(body, protocol, MOST_DEPTH)?;
    let first = now.table.resolve(&envelope.model)?;
    let asked = envelope
        .fallbacks
        .iter()
        .map(|name| now.table.resolve(name))
        .collect::<Result<Vec<_>>>()?;
    let chain = now.table.chain(first.clone(), &asked, true);
    let input = envelope.estimate_input();
    let output = envelope.max_output.unwrap_or(LIKELY_OUTPUT);
    let mut candidates = Vec::new();
    for (position, route) in chain.iter().enumerate() {
        for (turn, index) in strategy::order(route).into_iter().enumerate() {
            let candidate = &route.targets[index];
            candidates.push(explained(
                now,
                candidate,
                route,
                &Place {
                    position,
                    turn,
                    input,
                    output,
                    protocol,
                },
            ));
        }
    }
    Ok(json!({
        "model": envelope.model,
        "strategy": name(first.strategy),
        "max_attempts": first.retries.max_attempts,
        "estimated_input_tokens": input,
        "candidates": candidates,
    }))
}

struct Place {
    position: usize,
    turn: usize,
    input: u64,
    output: u64,
    protocol: Protocol,
}

fn explained(now: &Now, candidate: &Candidate, route: &Route, place: &Place) -> Value {
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
        "reason": reason(route, place),
        "available": waiting.is_none(),
        "waiting": waiting.map(|(why, until)| json!({
            "why": why,
            "ms": u64::try_from(until.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX),
        })),
        "weight": candidate.weight,
        "estimated_cost_usd": price,
    })
}

fn reason(route: &Route, place: &Place) -> String {
    let order = match (route.strategy, route.targets.len()) {
        (_, 1) => "the only target".to_owned(),
        (Strategy::Fallback, _) => format!("number {} in the order of the file", place.turn + 1),
        (Strategy::Weighted, _) => format!("drawn as number {} by weight", place.turn + 1),
        (Strategy::RoundRobin, _) => format!("number {} in this turn", place.turn + 1),
        (Strategy::LeastBusy, _) => format!(
            "number {} by requests in flight for its weight",
            place.turn + 1
        ),
    };
    match place.position {
        0 => format!("{order} of `{}`", route.name),
        position => format!("fallback {position}: {order} of `{}`", route.name),
    }
}

fn name(strategy: Strategy) -> &'static str {
    Strategy::ALL
        .iter()
        .find(|(_, known)| *known == strategy)
        .map_or("fallback", |(name, _)| name)
}
