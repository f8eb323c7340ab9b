//! What a client gets when nobody answers: a kept answer that is over its time, or that of another model.

use std::sync::Arc;
use std::time::Duration;

use super::intake::Controls;
use super::kept::Keep;
use super::outcome::Lost;
use crate::access::Key;
use crate::cache::Entry;
use crate::error::Kind;
use crate::routing::Route;

/// Returns whether nobody could answer, so that something less is better than the error.
pub fn is_down(lost: &Lost) -> bool {
    let kind = lost.error.kind;
    let status = match &lost.verbatim {
        Some(verbatim) => verbatim.status,
        None => kind.status(),
    };
    (status >= 500 || status == 429) && !matches!(kind, Kind::Internal | Kind::StateUnavailable)
}

/// Returns how long a kept answer may be over its time for this request: the key's word goes before the model's, and
/// the client's can only shorten it.
pub fn allowed(key: Option<&Key>, route: &Route, controls: &Controls) -> Duration {
    let key = key.and_then(|key| key.stale_if_error);
    let allowed = key.or(route.stale_if_error).unwrap_or_default();
    controls
        .stale_if_error
        .map_or(allowed, |asked| asked.min(allowed))
}

/// Returns a kept answer that is over its time by no more than `most`.
pub fn stale(keep: &Keep, most: Duration) -> Option<Arc<Entry>> {
    if most.is_zero() {
        return None;
    }
    keep.cache.stale(&keep.key, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::gateway::outcome::Verbatim;

    #[test]
    fn only_what_nobody_could_answer_is_an_outage() {
        let lost = |kind| Lost::from(Error::new(kind, "x"));
        for kind in [
            Kind::UpstreamUnavailable,
            Kind::UpstreamBroken,
            Kind::UpstreamAccount,
            Kind::Timeout,
            Kind::RateLimited,
        ] {
            assert!(is_down(&lost(kind)), "{kind:?}");
        }
        for kind in [
            Kind::InvalidRequest,
            Kind::Unsupported,
            Kind::ModelNotFound,
            Kind::ClientGone,
            Kind::Internal,
        ] {
            assert!(!is_down(&lost(kind)), "{kind:?}");
        }
        let verbatim = |status| Lost {
            error: Error::new(Kind::UpstreamBroken, "x"),
            verbatim: Some(Verbatim {
                status,
                headers: Vec::new(),
                body: bytes::Bytes::new(),
            }),
        };
        assert!(is_down(&verbatim(503)));
        assert!(!is_down(&verbatim(400)), "the client is at fault");
    }
}
