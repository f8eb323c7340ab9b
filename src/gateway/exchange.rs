//! What is known of one request from its first byte to its record, which is written when it drops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Core;
use super::raw::Raw;
use crate::access::{Keep, Key};
use crate::error::Error;
use crate::ledger::bodies::Body;
use crate::ledger::entry::Id;
use crate::ledger::metadata;
use crate::limit::budget::Reservation;
use crate::observe::record::{Mode, Phase, Record};
use crate::protocol::Protocol;
use crate::protocol::envelope::Envelope;
use crate::routing::rules::metadata_text;

/// The context of one request. Dropping it, on whatever path, makes its one record.
pub struct Exchange {
    pub core: Arc<Core>,
    pub started: Instant,
    pub record: Record,
    /// The protocol to answer in, also for errors.
    pub protocol: Protocol,
    /// Health and start-page requests leave no record.
    pub silent: bool,
    /// The answer's head has gone to the client.
    pub committed: bool,
    /// Time spent waiting for others (the client's body, the provider), which is not ours.
    pub waited: Duration,
    /// The request goes through the raw lane.
    pub raw: Option<Box<Raw>>,
    /// Held for it in the caller's budgets; settled by the record's cost.
    pub held: Option<Reservation>,
    /// Its number in the ledger, once a provider is about to be asked.
    pub admitted: Option<Id>,
    /// What is said in it, where that is to be kept.
    pub body: Option<Box<Body>>,
    /// Since when an answer is being prepared for the client.
    pub writing: Option<Instant>,
}

impl Exchange {
    pub fn begin(core: Arc<Core>) -> Self {
        Self {
            core,
            started: Instant::now(),
            record: Record::default(),
            protocol: Protocol::OpenaiChat,
            silent: false,
            committed: false,
            waited: Duration::ZERO,
            raw: None,
            held: None,
            admitted: None,
            body: None,
            writing: None,
        }
    }

    /// Returns the context of an attempt that is made beside another. It leaves no record of its own.
    pub fn side(core: Arc<Core>) -> Self {
        let mut side = Self::begin(core);
        side.silent = true;
        side
    }

    /// Notes whose key it is, and what is to be kept of the exchange.
    pub fn asked_by(&mut self, key: Option<&Key>) {
        let retention = key.and_then(|key| key.retention);
        let (keep, body) = self.core.ledger.keeps(retention);
        self.record.amounts_only = keep == Keep::Amounts;
        self.body = body;
        self.record.key = key.map(|key| key.name.clone());
        if let Some(owner) = key.and_then(|key| key.owner.as_ref()) {
            // Whom a token puts into an organisation belongs to no team of it.
            let known = |id: &Arc<str>| (!id.is_empty()).then(|| id.clone());
            self.record.org = known(&owner.organisation);
            self.record.team = known(&owner.team);
            self.record.project = known(&owner.project);
        }
    }

    /// Notes what a body says of its request by names of its own.
    pub fn note_metadata(&mut self, body: &[u8], envelope: &Envelope<'_>, protocol: Protocol) {
        if let Some(text) = metadata_text(body, envelope, protocol) {
            metadata::add(&mut self.record.metadata, text);
            // It is the user already.
            let is_user = |name: &str| protocol == Protocol::Anthropic && name == "user_id";
            self.record.metadata.retain(|(name, _)| !is_user(name));
        }
    }

    /// Keeps a piece of what the client sends, where that is to be kept.
    #[inline]
    pub fn hear(&mut self, piece: &[u8]) {
        if let Some(body) = &mut self.body {
            body.asked(piece);
        }
    }

    /// Keeps a piece of what the client gets, where that is to be kept.
    #[inline]
    pub fn tell(&mut self, piece: &[u8]) {
        if let Some(body) = &mut self.body {
            body.answered(piece);
        }
    }

    /// Adds the time since `from` to a phase, and returns the time now.
    pub fn phase(&mut self, phase: Phase, from: Instant) -> Instant {
        let now = Instant::now();
        self.record.spent(phase, now - from);
        now
    }

    /// Notes that the answer's head is about to go to the client.
    pub fn commit(&mut self, status: u16) {
        self.committed = true;
        let now = Instant::now();
        if let Some(writing) = self.writing.take() {
            self.record.spent(Phase::Write, now - writing);
        }
        self.record.status = status;
        self.record.overhead = (now - self.started).saturating_sub(self.waited);
    }

    /// Spends what the exchange cost, and gives back the rest of what was held for it.
    pub fn settle(&mut self) {
        if let Some(held) = self.held.take() {
            let cost = self.record.cost_pico.unwrap_or(0);
            held.settle(cost, jiff::Timestamp::now());
        }
    }

    /// Notes why the request failed.
    pub fn fail(&mut self, error: &Error) {
        self.record.error = Some(error.kind.code());
        self.record.error_message = Some(error.message.to_string());
        if !self.committed {
            self.record.status = error.kind.status();
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.silent {
            return;
        }
        self.settle();
        let mut record = std::mem::take(&mut self.record);
        record.duration = self.started.elapsed();
        self.core.metrics.observe(&record);
        // What was saved stands there too; who asked nobody and saved nothing does not.
        if self.admitted.is_some() || record.mode == Mode::Cache {
            let body = self.body.take();
            self.core.ledger.done(self.admitted, &record, body);
        }
        self.core.writer.send(Box::new(record));
    }
}
