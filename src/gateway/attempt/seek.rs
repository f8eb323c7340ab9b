//! Who is asked next: a credential and an address that have not failed and are not cooling.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Failed, Hunt};
use crate::routing::{Candidate, Scope, Standing};
use crate::upstream::pool::Place;

impl<'a> Hunt<'a> {
    /// Returns whether `scope` may be asked, and remembers why not.
    pub(super) fn open(&mut self, scope: Scope, desperate: bool, now: Instant) -> bool {
        match self.core.routing.cooldowns.standing(scope, now) {
            Standing::Good => true,
            Standing::Cooling(_) => {
                self.skipped = true;
                desperate
            }
            Standing::Told(until) => {
                self.soonest = Some(self.soonest.map_or(until, |soonest| soonest.min(until)));
                false
            }
        }
    }

    /// Picks a credential by weight. `Err` when none is left; `Ok(None)` when the provider wants none.
    pub(super) fn credential(
        &mut self,
        index: usize,
        desperate: bool,
        now: Instant,
    ) -> Result<Option<usize>, ()> {
        let candidate: &'a Candidate = self.picks[index].candidate();
        let credentials = &candidate.provider.credentials;
        if credentials.is_empty() {
            return Ok(None);
        }
        let mut open = Vec::with_capacity(credentials.len());
        for credential in 0..credentials.len() {
            if self.has_failed(index, Failed::Credential(credential))
                || self.has_failed(index, Failed::Exhausted(credential))
            {
                continue;
            }
            let anywhere = (0..candidate.endpoints.len()).any(|endpoint| {
                let (all, quota) = candidate.credential_at(credential, endpoint);
                self.open(all, desperate, now)
                    && self.open(quota, desperate, now)
                    && self.has_allowance(quota, desperate, now)
            });
            if anywhere {
                open.push(credential);
            }
        }
        // One that was not refused anywhere yet is likelier to be taken.
        if open.len() > 1 && open.iter().any(|at| !self.was_refused(index, *at)) {
            open.retain(|at| !self.was_refused(index, *at));
        }
        let weight = |at: &usize| u64::from(credentials[*at].weight.max(1));
        let total: u64 = open.iter().map(weight).sum();
        if total == 0 {
            return Err(());
        }
        let mut draw = if open.len() == 1 {
            0
        } else {
            fastrand::u64(..total)
        };
        let pinned = self.pin.and_then(|pin| {
            let mut open = open.iter();
            open.find(|at| pin.is_credential(candidate, **at)).copied()
        });
        for at in open {
            let weight = weight(&at);
            let chosen = match pinned {
                Some(pinned) => pinned == at,
                None => draw < weight,
            };
            if chosen {
                return Ok(Some(at));
            }
            draw = draw.saturating_sub(weight);
        }
        Err(())
    }

    /// Returns whether a credential was refused at one of several endpoints in this round.
    fn was_refused(&self, index: usize, credential: usize) -> bool {
        let pair = |failed: &Failed| matches!(failed, Failed::Pair(at, _) if *at == credential);
        let mut failed = self.failed.iter();
        failed.any(|(at, failed)| *at == index && pair(failed))
    }

    /// Returns whether the allowance of `quota` has room for this request, as far as its provider told. Others go
    /// first where it has not.
    fn has_allowance(&mut self, quota: Scope, desperate: bool, now: Instant) -> bool {
        let tokens = self.ask.envelope.estimate_tokens();
        let spent = self.core.routing.cooldowns.spent(quota, tokens, now);
        self.skipped |= spent.is_some();
        desperate || spent.is_none()
    }

    /// Picks an address that has not failed this request and is not cooling.
    pub(super) fn place(
        &mut self,
        index: usize,
        credential: Option<usize>,
        desperate: bool,
        now: Instant,
    ) -> Option<Place> {
        let candidate: &'a Candidate = self.picks[index].candidate();
        let pool = candidate.pool.as_ref()?;
        let cooldowns = &self.core.routing.cooldowns;
        let tokens = || self.ask.envelope.estimate_tokens();
        let soonest = std::cell::Cell::new(self.soonest);
        let skipped = std::cell::Cell::new(self.skipped);
        let avoid = |endpoint: usize, address: &SocketAddr| {
            let pair = |credential| self.has_failed(index, Failed::Pair(credential, *address));
            if self.has_failed(index, Failed::Address(*address)) || credential.is_some_and(pair) {
                return true;
            }
            let scopes = &candidate.endpoints[endpoint];
            let own = credential.map(|credential| candidate.credential_at(credential, endpoint));
            let own = own.filter(|_| candidate.endpoints.len() > 1);
            if let Some((_, quota)) = own
                && !desperate
                && cooldowns.spent(quota, tokens(), now).is_some()
            {
                skipped.set(true);
                return true;
            }
            let own = own.into_iter().flat_map(|(all, quota)| [all, quota]);
            for scope in [scopes.serving, scopes.endpoint].into_iter().chain(own) {
                match cooldowns.standing(scope, now) {
                    Standing::Good => {}
                    Standing::Cooling(_) => {
                        skipped.set(true);
                        if !desperate {
                            return true;
                        }
                    }
                    Standing::Told(until) => {
                        soonest.set(Some(
                            soonest.get().map_or(until, |before| before.min(until)),
                        ));
                        return true;
                    }
                }
            }
            false
        };
        // An address that took no other credential is likely to refuse this one too.
        let refused = |address: &SocketAddr| {
            let pair = |failed: &Failed| matches!(failed, Failed::Pair(_, at) if at == address);
            let mut failed = self.failed.iter();
            failed.any(|(at, failed)| *at == index && pair(failed))
        };
        let fresh =
            |endpoint: usize, address: &SocketAddr| refused(address) || avoid(endpoint, address);
        let pinned = self.pin.filter(|pin| pin.is_target(candidate));
        let pinned = pinned.and_then(|pin| pool.find(pin.address, fresh));
        let mut place = pinned.or_else(|| pool.pick(fresh, false));
        if place.is_none() {
            place = pool.pick(avoid, false);
        }
        if place.is_none() && desperate {
            // Unhealthy by its own checks, and there is nothing else.
            place = pool.pick(avoid, true);
        } else if place.is_none() && pool.pick(avoid, true).is_some() {
            skipped.set(true);
        }
        self.soonest = soonest.get();
        self.skipped = skipped.get();
        place
    }
}
