//! How many tokens a request would take: the provider's own count where it has one, else an estimate.

use std::sync::Arc;

use bytes::Bytes;
use pingora::proxy::Session;
use tokio::sync::Semaphore;

use super::ask::Ask;
use super::lane::give_back;
use super::outcome::{Flow, Lost, Won};
use super::reply::{self, Headers, header};
use super::{Core, Exchange, attempt};
use crate::access::Key;
use crate::error::Kind;
use crate::limit::Permit;
use crate::protocol::Protocol;
use crate::protocol::api::{self, Api};
use crate::routing::Route;
use crate::routing::choose::choose;

/// Answers a count. Nothing is generated and nothing is billed.
pub async fn count(
    ask: &Ask<'_>,
    route: &Arc<Route>,
    key: Option<&Key>,
    core: &Core,
    mut permit: Option<Permit>,
    limits: &mut Headers,
    session: &mut Session,
    x: &mut Exchange,
) -> Result<pingora::Result<()>, Lost> {
    let counts = route.targets.first().is_some_and(|target| {
        let provider = &target.provider;
        !provider.demo
            && target.speaks(ask.protocol).protocol == ask.protocol
            && provider.platform.counts_tokens(ask.protocol)
            && provider.offers(Api::CountTokens)
    });
    let mut counted = None;
    if counts {
        let pin = ask.pin(core);
        let chain = std::slice::from_ref(route);
        let screen = ask.screen(chain, key);
        let choice = choose(chain, &ask.asked(chain), pin.as_ref(), &screen);
        match Box::pin(attempt::run(ask, route, &choice, core, x)).await {
            Ok(won) => {
                let Won { mut meta, flow } = *won;
                give_back(&mut meta.permit);
                let target = meta.candidate();
                x.record.provider.clone_from(&target.provider.name);
                x.record.model = target.model.to_string();
                if let Flow::Whole { body, .. } = flow {
                    counted = Some(body);
                }
            }
            // What is wrong with the request is told; what is wrong with the provider is worked around.
            Err(lost) if lost.error.kind == Kind::InvalidRequest => return Err(lost),
            Err(lost) => {
                tracing::debug!(id = x.record.id, error = %lost.error.message, "tokens estimated");
            }
        }
    }
    let estimated = counted.is_none();
    let body = match counted {
        Some(body) => body,
        None => estimate(ask).await,
    };
    give_back(&mut permit);
    x.record.cost_pico = Some(0);
    let mut headers = std::mem::take(limits);
    headers.push((http::header::CONTENT_TYPE, reply::JSON));
    if estimated {
        headers.push(header("x-strait-estimated", "true"));
    }
    Ok(reply::whole(session, x, 200, headers, body).await)
}

/// Counts that are made at a time beside those who answer requests; more wait.
static COUNTING: Semaphore = Semaphore::const_new(4);
/// A body from this size on is counted there.
const LONG: usize = 4 << 10;

async fn estimate(ask: &Ask<'_>) -> Bytes {
    let (protocol, body) = (ask.protocol, ask.body.clone());
    let tokens = if body.len() < LONG {
        api::count_tokens_of(protocol, &ask.envelope.model, &body)
    } else {
        // Never closed.
        let _turn = COUNTING.acquire().await;
        let (model, length) = (ask.envelope.model.to_string(), body.len() as u64);
        let counting = move || api::count_tokens_of(protocol, &model, &body);
        let counted = tokio::task::spawn_blocking(counting).await;
        counted.unwrap_or(length.div_ceil(4))
    };
    let text = match ask.protocol {
        Protocol::Anthropic => format!("{{\"input_tokens\":{tokens}}}"),
        Protocol::Gemini => format!("{{\"totalTokens\":{tokens}}}"),
        Protocol::Bedrock => format!("{{\"inputTokens\":{tokens}}}"),
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Cohere
        | Protocol::Ollama => {
            format!("{{\"object\":\"response.input_tokens\",\"input_tokens\":{tokens}}}")
        }
    };
    text.into()
}
