//! Limits in the raw lane: those of the models that path, query and body name.

use std::sync::Arc;

use super::{Raw, limits};
use crate::limit::{Amount, Limited, Permit};
use crate::protocol::usage::Usage;

impl Raw {
    /// Returns the models that are named before the body comes.
    pub fn named(&self) -> &[String] {
        &self.named
    }

    /// Adds the limits of a model that the body names, within which the request is not counted yet.
    pub(super) fn uncounted(&self, model: &str, all: &mut Vec<Limited>) {
        let Some(key) = &self.key else {
            return;
        };
        let full = format!("{}/{model}", self.candidate().provider.name);
        let before: Vec<&str> = self.named.iter().map(String::as_str).collect();
        for limited in key.limited() {
            let known = |(name, _): &(Arc<str>, Permit)| *name == limited.name;
            if limited.models.is_none()
                || !limited.counts(&[model, &full])
                || limited.counts(&before)
                || self.further.iter().any(known)
                || all.contains(limited)
            {
                continue;
            }
            all.push(limited.clone());
        }
    }

    /// The request is counted within these limits, too.
    pub fn counted(&mut self, limited: &Limited, permit: Permit) {
        self.further.push((limited.name.clone(), permit));
    }
}

/// Returns what an answer counts against limits; one that tells nothing is one request.
pub fn amount(usage: Option<&Usage>) -> Amount {
    usage.map_or(Amount::default(), |usage| Amount {
        tokens: usage.input.saturating_add(usage.output),
        images: usage.images,
        audio_seconds: limits::audio_seconds(usage),
    })
}
