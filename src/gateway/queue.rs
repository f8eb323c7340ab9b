//! Waiting for a place where too much is in flight, and the refusal of those for whom there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::proxy::Session;

use super::{Core, Exchange};
use crate::error::{Error, Kind, Result};
use crate::limit::overload::{Gate, Refusal, Slot, Turn};

/// What a gate is in front of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope<'p> {
    Server,
    Provider(&'p str),
}

/// Returns a place, at once or after a wait that ends by `until`.
pub async fn slot(
    core: &Core,
    gate: &Arc<Gate>,
    scope: Scope<'_>,
    turn: &Turn,
    until: Instant,
    x: &mut Exchange,
) -> Result<Slot> {
    if let Some(slot) = gate.enter() {
        return Ok(slot);
    }
    let begun = Instant::now();
    let until = core.drain.load().map_or(until, |drain| drain.min(until));
    let told = match gate.join(turn) {
        Ok(waiting) => {
            let _counted = core.metrics.queued();
            let left = until.saturating_duration_since(begun);
            waiting.wait(left).await
        }
        Err(refusal) => Err(refusal),
    };
    let waited = begun.elapsed();
    x.waited += waited;
    core.metrics.queue_waited(waited);
    told.map_err(|refusal| {
        let at = match scope {
            Scope::Server => "server",
            Scope::Provider(_) => "provider",
        };
        core.metrics.rejected(at, refusal.reason.name());
        refused(refusal, scope)
    })
}

/// Like [`slot`], while the client is there. Its body must have been read.
pub async fn slot_for(
    core: &Core,
    gate: &Arc<Gate>,
    turn: &Turn,
    until: Instant,
    session: &mut Session,
    x: &mut Exchange,
) -> Result<Slot> {
    let waiting = slot(core, gate, Scope::Server, turn, until, x);
    tokio::select! {
        biased;
        told = waiting => told,
        _ = session.as_downstream_mut().read_body_or_idle(true) => {
            Err(Error::new(Kind::ClientGone, "The client left before the answer."))
        }
    }
}

fn refused(refusal: Refusal, scope: Scope<'_>) -> Error {
    let wait = refusal.retry_after.max(Duration::from_secs(1));
    let (kind, message) = if refusal.greedy {
        let message = "This key has more requests waiting than its share. Please try again later.";
        (Kind::RateLimited, message.to_owned())
    } else {
        let message = match scope {
            Scope::Server => {
                "The gateway has as many requests in flight as it may have. Please try again later."
                    .to_owned()
            }
            Scope::Provider(name) => format!(
                "The provider `{name}` has as many requests in flight as it may have. Please try again later."
            ),
        };
        (Kind::Overloaded, message)
    };
    Error::new(kind, message).with_retry_after(wait)
}
