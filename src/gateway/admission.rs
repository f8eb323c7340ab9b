//! What is journaled before a provider is asked: after it, the exchange is in the ledger however it ends.

use super::Exchange;
use super::ask::Ask;
use super::spending;
use crate::error::{Error, Kind, Result};
use crate::ledger::Reserved;
use crate::protocol::api::Api;
use crate::routing::Candidate;

/// Journals that `candidate` is about to be asked, where nobody was before. Errors: it can't be, and must.
pub async fn before(ask: &Ask<'_>, candidate: &Candidate, x: &mut Exchange) -> Result<()> {
    if x.admitted.is_some() || !x.core.ledger.is_on() {
        return Ok(());
    }
    let usage = spending::most_usage(ask, candidate);
    let reserved = if ask.api == Api::CountTokens {
        // Nothing is generated and nothing is billed.
        Reserved::default()
    } else {
        Reserved {
            pico: match &x.held {
                Some(held) => held.pico(),
                None => spending::priced(candidate, &usage),
            },
            input: usage.input,
            output: usage.output,
        }
    };
    admit((&candidate.provider.name, &candidate.model), reserved, x).await
}

/// Journals that a provider is about to be asked for a model.
pub async fn admit(asked: (&str, &str), reserved: Reserved, x: &mut Exchange) -> Result<()> {
    let ledger = &x.core.ledger;
    match ledger.admit(&x.record, asked, reserved).await {
        Ok(id) => x.admitted = id,
        Err(why) => {
            tracing::debug!(id = x.record.id, why, "refused: it can't be journaled");
            let message = "The request can't be written to the ledger, and must be (ledger.on_failure). Nothing was sent \
                           to a provider.";
            return Err(Error::new(Kind::StateUnavailable, message));
        }
    }
    Ok(())
}
