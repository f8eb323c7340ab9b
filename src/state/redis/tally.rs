//! What calls came to, and how long they took.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Topic;
use crate::observe::histogram::{Histogram, Total};

/// The kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Script,
    Get,
    Set,
    Tell,
}

impl Call {
    pub const ALL: [Call; 4] = [Call::Script, Call::Get, Call::Set, Call::Tell];

    pub fn name(self) -> &'static str {
        match self {
            Call::Script => "script",
            Call::Get => "get",
            Call::Set => "set",
            Call::Tell => "tell",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Away,
    Lost,
    Refused,
}

impl Outcome {
    pub const ALL: [Outcome; 4] = [Outcome::Ok, Outcome::Away, Outcome::Lost, Outcome::Refused];

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Away => "away",
            Outcome::Lost => "lost",
            Outcome::Refused => "refused",
        }
    }
}

/// Bounds of the times that calls took.
pub const BOUNDS_NS: [u64; BUCKETS - 1] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
];
const BUCKETS: usize = 12;

/// What has happened since the start, for metrics.
#[derive(Debug, Default)]
pub struct Counts {
    pub available: bool,
    /// What is to be done in the background, and its bytes.
    pub queued: u64,
    pub queued_bytes: u64,
    /// Times that it was connected to.
    pub connected: u64,
    /// Calls by what they came to.
    pub calls: [[u64; 4]; 4],
    /// Other nodes' words, by topic.
    pub heard: [u64; Topic::ALL.len()],
    /// What was to be done in the background and was not.
    pub dropped_full: u64,
    pub dropped_away: u64,
    /// Of calls that were sent.
    pub times: [Total<BUCKETS>; 4],
}

#[derive(Default)]
pub struct Tallies {
    calls: [[AtomicU64; 4]; 4],
    times: [Histogram<BUCKETS>; 4],
    pub connected: AtomicU64,
    heard: [AtomicU64; Topic::ALL.len()],
    pub dropped_full: AtomicU64,
    pub dropped_away: AtomicU64,
}

impl Tallies {
    pub fn count(&self, call: Call, outcome: Outcome, time: Duration) {
        self.calls[call as usize][outcome as usize].fetch_add(1, Relaxed);
        if outcome != Outcome::Away {
            self.times[call as usize].observe(&BOUNDS_NS, time);
        }
    }

    pub fn hear(&self, topic: Topic) {
        self.heard[topic as usize].fetch_add(1, Relaxed);
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            connected: self.connected.load(Relaxed),
            dropped_full: self.dropped_full.load(Relaxed),
            dropped_away: self.dropped_away.load(Relaxed),
            ..Counts::default()
        };
        for (count, heard) in counts.heard.iter_mut().zip(&self.heard) {
            *count = heard.load(Relaxed);
        }
        for call in 0..self.calls.len() {
            for outcome in 0..self.calls[call].len() {
                counts.calls[call][outcome] = self.calls[call][outcome].load(Relaxed);
            }
            self.times[call].read_into(&mut counts.times[call]);
        }
        counts
    }
}
