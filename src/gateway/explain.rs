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
use crate::routing::choose::{Asked, Pick, choose};
use crate::routing::{Route, Standing, Strategy};

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
    let asked = Asked {
        stream: envelope.stream,
        input,
        output: envelope.max_output,
        session: None,
    };
    let choice = choose(&chain, &asked, None);
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
        "model": envelope.model,
        "strategy": first.tree.strategy.name(),
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
    };
    match place.position {
        0 => format!("{order} of `{}`", route.name),
        position => format!("fallback {position}: {order} of `{}`", route.name),
    }
}
