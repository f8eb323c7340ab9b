//! What attempts come to: an answer that may be committed, or what the client gets instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::through::Through;
use super::verdict::Judgement;
use crate::error::Error;
use crate::limit::Permit;
use crate::limit::overload::Slot;
use crate::protocol::Protocol;
use crate::protocol::continuation::Prefill;
use crate::protocol::tap::Whole;
use crate::protocol::usage::Usage;
use crate::provider::{Provider, Timeouts};
use crate::routing::{Allowance, Candidate, Route};
use crate::upstream;
use crate::upstream::pool::Place;

/// An answer that may be committed.
pub struct Won {
    pub meta: Meta,
    pub flow: Flow,
}

/// Who answered, and how the answer is to be treated.
pub struct Meta {
    pub route: Arc<Route>,
    pub target: usize,
    pub protocol: Protocol,
    pub status: u16,
    /// The provider's headers that go on to the client.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub timers: Timeouts,
    pub deadline: Instant,
    /// Of a whole answer.
    pub content_type: HeaderValue,
    /// What an answer took that is not read, where the request tells it.
    pub usage: Option<Usage>,
    /// How a prefix was said, where the rest of an answer was asked for.
    pub prefill: Prefill,
    /// Fields that could not be said to this provider.
    pub dropped: Vec<String>,
    /// What the provider says is left of what it allows us.
    pub left: Option<Allowance>,
    /// Held until the answer has been sent.
    pub busy: Option<Busy>,
    /// Of limits that hold for this model and not for the one that was asked for.
    pub permit: Option<Permit>,
}

impl Meta {
    pub fn candidate(&self) -> &Candidate {
        &self.route.targets[self.target]
    }
}

pub enum Flow {
    /// The whole answer, in the client's protocol.
    Whole { body: Bytes, whole: Box<Whole> },
    /// An answer too long to hold: passed on as it comes.
    Long {
        answer: upstream::Answer,
        held: Bytes,
    },
    /// A stream past its first semantic event; `held` is ready for the client.
    Stream {
        answer: Option<upstream::Answer>,
        through: Box<Through>,
        held: Vec<Bytes>,
        raw: Vec<Bytes>,
    },
}

/// No answer: what the client gets instead.
pub struct Lost {
    pub error: Error,
    /// The provider's own error, when it goes on as it is.
    pub verbatim: Option<Verbatim>,
}

/// A provider's error answer in the client's own protocol, byte for byte.
pub struct Verbatim {
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

impl Lost {
    /// Overwrites our own credentials where the provider repeats them.
    pub fn mask(&mut self, provider: &Provider) {
        provider.mask(&mut self.error);
        let Some(verbatim) = &mut self.verbatim else {
            return;
        };
        if let Some(masked) = provider.masked(&verbatim.body) {
            verbatim.body = masked.into();
        }
        let headers = &mut verbatim.headers;
        headers.retain(|(_, value)| provider.masked(value.as_bytes()).is_none());
    }
}

impl From<Error> for Lost {
    fn from(error: Error) -> Self {
        Self {
            error,
            verbatim: None,
        }
    }
}

/// Counts a request in flight at a target, until it drops.
pub struct Busy {
    count: Arc<AtomicU32>,
    /// Its place at a provider that is bounded.
    _slot: Option<Slot>,
}

impl Busy {
    pub fn new(count: &Arc<AtomicU32>, slot: Option<Slot>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self {
            count: count.clone(),
            _slot: slot,
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one attempt came to.
pub enum Tried {
    Won(Box<Won>),
    Lost {
        lost: Lost,
        judgement: Judgement,
        outcome: &'static str,
        told: Option<Duration>,
    },
    /// The request can't be said to this provider; another may understand it.
    Unsaid(Error),
}

/// How and to whom one attempt is made.
pub struct Try<'a> {
    pub route: &'a Arc<Route>,
    pub target: usize,
    pub credential: Option<usize>,
    pub place: &'a Place,
    pub timers: Timeouts,
    pub deadline: Instant,
    /// Without what other providers or accounts thought and signed.
    pub strip: bool,
}

impl Try<'_> {
    pub fn candidate(&self) -> &Candidate {
        &self.route.targets[self.target]
    }
}
