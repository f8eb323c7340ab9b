//! Single flight: of identical requests in flight, one asks the provider and the others wait for its answer.
//!
//! The leader goes on while anyone waits, even when its own client has left. Its error reaches all followers.
//! A leader that is dropped without a word makes its followers start again, one of them as the new leader.

use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use tokio::sync::watch;

use super::{Entry, Key};

#[derive(Default)]
pub struct Flights {
    running: Arc<DashMap<Key, watch::Receiver<Option<Outcome>>>>,
}

/// What a flight came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    Answered(Arc<Entry>),
    Refused(Shared),
    /// The leader has nothing to share (too large, or it was dropped): ask again.
    Abandoned,
}

/// An error answer that reaches everyone who waited for it.
#[derive(Debug, Clone)]
pub struct Shared {
    pub status: u16,
    pub code: &'static str,
    pub body: Bytes,
    /// Seconds.
    pub retry_after: Option<u64>,
}

impl Shared {
    /// Returns whether it tells that nobody could answer.
    pub fn is_outage(&self) -> bool {
        self.status >= 500 || self.status == 429
    }
}

pub enum Ticket {
    Lead(Lead),
    Follow(Follower),
}

/// The right, and the duty, to answer for all. Dropped unused it abandons the flight.
pub struct Lead {
    key: Key,
    running: Arc<DashMap<Key, watch::Receiver<Option<Outcome>>>>,
    /// `None` once the outcome was told.
    tell: Option<watch::Sender<Option<Outcome>>>,
}

pub struct Follower {
    told: watch::Receiver<Option<Outcome>>,
}

impl Flights {
    pub fn join(&self, key: Key) -> Ticket {
        match self.running.entry(key) {
            Slot::Occupied(slot) => Ticket::Follow(Follower {
                told: slot.get().clone(),
            }),
            Slot::Vacant(slot) => {
                let (tell, told) = watch::channel(None);
                slot.insert(told);
                Ticket::Lead(Lead {
                    key,
                    running: self.running.clone(),
                    tell: Some(tell),
                })
            }
        }
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }
}

impl Lead {
    /// Returns whether anyone else waits for this answer.
    pub fn has_followers(&self) -> bool {
        // The table itself holds one receiver.
        self.tell
            .as_ref()
            .is_some_and(|tell| tell.receiver_count() > 1)
    }

    pub fn tell(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(tell) = self.tell.take() else { return };
        // Out of the table first: who comes from now on finds the cache, or flies anew.
        self.running.remove(&self.key);
        tell.send_replace(Some(outcome));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.end(Outcome::Abandoned);
    }
}

impl Follower {
    /// Waits for the leader's outcome.
    pub async fn wait(mut self) -> Outcome {
        match self.told.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Outcome::Abandoned),
            Err(_) => Outcome::Abandoned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Key([byte; 32])
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a test runtime starts")
    }

    #[test]
    fn the_leaders_error_reaches_all_followers() {
        let flights = Flights::default();
        let Ticket::Lead(lead) = flights.join(key(1)) else {
            panic!("the first leads")
        };
        assert!(!lead.has_followers());
        let followers: Vec<_> = (0..3)
            .map(|_| match flights.join(key(1)) {
                Ticket::Follow(follower) => follower,
                Ticket::Lead(_) => panic!("the others follow"),
            })
            .collect();
        assert!(lead.has_followers());
        let shared = Shared {
            status: 503,
            code: "upstream_unavailable",
            body: Bytes::new(),
            retry_after: None,
        };
        lead.tell(Outcome::Refused(shared));
        for follower in followers {
            let outcome = runtime().block_on(follower.wait());
            assert!(
                matches!(outcome, Outcome::Refused(Shared { status: 503, .. })),
                "{outcome:?}"
            );
        }
        assert_eq!(flights.running(), 0);
    }

    #[test]
    fn a_dropped_leader_makes_followers_start_again() {
        let flights = Flights::default();
        let Ticket::Lead(lead) = flights.join(key(1)) else {
            panic!("the first leads")
        };
        let Ticket::Follow(follower) = flights.join(key(1)) else {
            panic!("the second follows")
        };
        drop(lead);
        assert!(matches!(
            runtime().block_on(follower.wait()),
            Outcome::Abandoned
        ));
        assert!(
            matches!(flights.join(key(1)), Ticket::Lead(_)),
            "the next one leads"
        );
    }

    #[test]
    fn a_follower_that_leaves_is_no_longer_counted() {
        let flights = Flights::default();
        let Ticket::Lead(lead) = flights.join(key(1)) else {
            panic!("the first leads")
        };
        let Ticket::Follow(follower) = flights.join(key(1)) else {
            panic!("the second follows")
        };
        drop(follower);
        assert!(!lead.has_followers());
    }

    #[test]
    fn other_keys_fly_apart() {
        let flights = Flights::default();
        let _one = flights.join(key(1));
        assert!(matches!(flights.join(key(2)), Ticket::Lead(_)));
    }
}
