//! Who is asked in the raw lane, and what an answer says of them: the cooldowns that the model lane keeps hold here too.
//!
//! The body passes unread and can't be sent again, so only what failed before anything was sent is tried elsewhere. Of
//! an answer, what its status says of the account is held against the account; a limit may be one model's, which is
//! not known here, so it is the client's to wait for.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pingora::upstreams::peer::HttpPeer;

use super::{Exchange, Raw};
use crate::observe::record::AttemptRecord;
use crate::routing::{Blame, Candidate, Failed, Scope, Standing};

/// Addresses tried when one can't be connected to.
const MOST_TRIES: usize = 3;

impl Raw {
    /// Picks an address and a credential, those first that are not cooling.
    pub fn peer(&mut self, x: &mut Exchange) -> pingora::Result<Box<HttpPeer>> {
        let now = Instant::now();
        let core = x.core.clone();
        let cooldowns = &core.routing.cooldowns;
        let is_good = |scope| cooldowns.standing(scope, now) == Standing::Good;
        let candidate = &self.route.targets[0];
        let tried = self.place.as_ref().map(|place| place.address);
        let again = |_: usize, address: &SocketAddr| Some(*address) == tried;
        let cooling = |endpoint: usize, address: &SocketAddr| {
            again(endpoint, address) || !is_good(candidate.endpoints[endpoint].endpoint)
        };
        let pool = candidate.pool.as_ref();
        let place = pool.and_then(|pool| {
            pool.pick(cooling, false)
                .or_else(|| pool.pick(again, false))
                .or_else(|| pool.pick(|_, _| false, true))
        });
        let Some(place) = place else {
            return pingora::Error::e_explain(
                pingora::ErrorType::ConnectNoRoute,
                "the provider's name could not be resolved",
            );
        };
        let mut peer = (*place.peer).clone();
        let timers = candidate.provider.timeouts;
        peer.options.connection_timeout = Some(timers.connect);
        peer.options.total_connection_timeout = Some(timers.connect * 2);
        // Between two pieces, while an answer is waited for too; sessions that are upgraded stay silent for long.
        peer.options.read_timeout = Some(timers.first_byte.max(timers.idle));
        peer.options.write_timeout = Some(timers.idle);
        peer.options.idle_timeout = Some(Duration::from_secs(60));
        self.credential = credential(candidate, |index| {
            is_good(candidate.credential_at(index, place.endpoint).0)
        });
        self.tries += 1;
        self.asked = Some(now);
        let credential = candidate.provider.credentials.get(self.credential);
        let endpoint = &candidate.endpoints[place.endpoint];
        cooldowns.asked(endpoint.endpoint, now);
        if credential.is_some() {
            let (account, _) = candidate.credential_at(self.credential, place.endpoint);
            cooldowns.asked(account, now);
        }
        x.record.attempts.push(AttemptRecord {
            provider: candidate.provider.name.clone(),
            credential: credential.map_or_else(String::new, |credential| credential.name.clone()),
            endpoint: endpoint.authority.to_string(),
            outcome: "cancelled",
            ..AttemptRecord::default()
        });
        self.place = Some(place);
        Ok(Box::new(peer))
    }

    /// Notes that the address could not be connected to. Returns whether another may be tried.
    pub fn unconnected(&mut self, x: &mut Exchange) -> bool {
        if let Some(attempt) = x.record.attempts.last_mut() {
            attempt.outcome = "connect";
        }
        let candidate = &self.route.targets[0];
        if let Some(place) = &self.place {
            let endpoint = &candidate.endpoints[place.endpoint];
            let scope = endpoint.endpoint;
            self.blame(scope, Blame::Endpoint, &endpoint.authority, "connect", x);
        }
        self.tries < MOST_TRIES
    }

    /// Notes what the status of an answer says of the address and of the account.
    pub(super) fn learn(&self, status: u16, x: &Exchange) {
        let (Some(place), Some(asked)) = (&self.place, self.asked) else {
            return;
        };
        let candidate = &self.route.targets[0];
        let cooldowns = &x.core.routing.cooldowns;
        let now = Instant::now();
        cooldowns.succeeded(candidate.endpoints[place.endpoint].endpoint, asked, now);
        let Some(credential) = candidate.provider.credentials.get(self.credential) else {
            return;
        };
        let (account, _) = candidate.credential_at(self.credential, place.endpoint);
        match status {
            401 | 402 => self.blame(account, Blame::Credential, &credential.name, "status", x),
            // What is not this account's to do may be another's path or model: it says nothing of the rest.
            403 => {}
            _ => {
                cooldowns.succeeded(account, asked, now);
            }
        }
    }

    fn blame(&self, scope: Scope, blame: Blame, label: &str, reason: &'static str, x: &Exchange) {
        let provider = &self.route.targets[0].provider.name;
        let now = Instant::now();
        let failed = Failed {
            scope,
            blame,
            provider,
            name: &|| label.to_owned(),
            reason,
            told: None,
            asked: self.asked.unwrap_or(now),
        };
        if x.core.routing.cooldowns.failed(&failed, now) {
            x.core.metrics.cooled(provider, blame.name());
        }
    }
}

/// Picks a credential by weight among the `good` ones, else among all.
fn credential(candidate: &Candidate, good: impl Fn(usize) -> bool) -> usize {
    let credentials = &candidate.provider.credentials;
    if credentials.len() < 2 {
        return 0;
    }
    let any = (0..credentials.len()).any(&good);
    let weight = |index: usize| {
        let weight = u64::from(credentials[index].weight.max(1));
        if any && !good(index) { 0 } else { weight }
    };
    let total: u64 = (0..credentials.len()).map(weight).sum();
    let mut draw = fastrand::u64(..total.max(1));
    for index in 0..credentials.len() {
        let weight = weight(index);
        if draw < weight {
            return index;
        }
        draw -= weight;
    }
    0
}
