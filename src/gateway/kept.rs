//! The cache's part in a request: what is kept of an answer, and how a kept answer is given.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use pingora::proxy::Session;

use super::dress::{self, Dress};
use super::endpoint::Coat;
use super::outcome::Meta;
use super::reply::{self, Headers, header, header_value};
use super::responses::{Shown, shown};
use super::through::{MOST_FRAME, Through};
use super::{Exchange, account, costed, form, relay};
use crate::cache::{Cache, Entry, Form, Key, Lead, MOST_ENTRY, Outcome, Shared};
use crate::error::{Error, Result};
use crate::observe::record::{CacheOutcome, Mode, Phase};
use crate::protocol::{Protocol, Shape};

/// The duty to keep an answer and to tell those who wait for it.
pub struct Keep {
    pub key: Key,
    pub ttl: Duration,
    /// `None` when the client asked for a refresh: nobody waits for that.
    pub lead: Option<Lead>,
    pub cache: Arc<Cache>,
    pieces: Vec<Bytes>,
    size: usize,
}

impl Keep {
    pub fn new(key: Key, ttl: Duration, lead: Option<Lead>, cache: Arc<Cache>) -> Self {
        Self {
            key,
            ttl,
            lead,
            cache,
            pieces: Vec::new(),
            size: 0,
        }
    }

    /// Adds a piece of a stream; beyond the bound nothing is kept.
    pub fn add(&mut self, piece: &Bytes) {
        self.size = self.size.saturating_add(piece.len());
        if self.size > MOST_ENTRY {
            self.pieces.clear();
        } else {
            self.pieces.push(piece.clone());
        }
    }

    pub fn has_followers(&self) -> bool {
        self.lead.as_ref().is_some_and(Lead::has_followers)
    }

    /// Keeps what was added as a whole stream.
    pub fn stream(self, meta: &Meta, x: &Exchange, complete: bool) {
        if self.size > MOST_ENTRY {
            return;
        }
        let body = match self.pieces.as_slice() {
            [one] => one.clone(),
            pieces => pieces.concat().into(),
        };
        self.store(Form::Stream, body, meta, x, complete);
    }

    /// Keeps `body` as a whole answer. Only a `complete` one is stored; those who wait get it in any case.
    pub fn whole(self, body: Bytes, meta: &Meta, x: &Exchange, complete: bool) {
        if body.len() <= MOST_ENTRY {
            self.store(Form::Whole, body, meta, x, complete);
        }
    }

    fn store(mut self, form: Form, body: Bytes, meta: &Meta, x: &Exchange, complete: bool) {
        let candidate = meta.candidate();
        let entry = Arc::new(Entry {
            form,
            body,
            provider: candidate.provider.name.clone(),
            model: candidate.model.to_string(),
            model_known: &*candidate.label != "other",
            usage: x.record.usage.clone(),
            cost_pico: x.record.cost_pico,
            degraded: x.record.degraded,
            stored: Instant::now(),
            ttl: self.ttl,
        });
        // In the model's own name only its own answers are kept.
        if complete && !x.record.degraded {
            self.cache.put(self.key, entry.clone());
        }
        if let Some(lead) = self.lead.take() {
            lead.tell(Outcome::Answered(entry));
        }
    }

    /// Tells those who wait that there is no answer.
    pub fn refuse(
        mut self,
        status: u16,
        code: &'static str,
        body: Bytes,
        retry_after: Option<u64>,
    ) {
        if let Some(lead) = self.lead.take() {
            lead.tell(Outcome::Refused(Shared {
                status,
                code,
                body,
                retry_after,
            }));
        }
    }
}

/// Asks the cache's second tier, where there is one.
pub async fn recall(cache: &Cache, key: &Key, x: &mut Exchange) -> Option<Arc<Entry>> {
    let looking = Instant::now();
    // Boxed: rare, and what waits for Redis is large.
    let entry = Box::pin(cache.recall(key)).await;
    x.phase(Phase::Cache, looking);
    entry
}

/// How a kept answer is given.
pub struct Replay<'a> {
    pub protocol: Protocol,
    pub coat: Coat,
    pub shape: &'a Shape,
    pub stream: bool,
    pub outcome: CacheOutcome,
    pub include_cost: bool,
    /// What an answer of OpenAI responses goes on from.
    pub previous: Option<&'a str>,
    pub limits: Headers,
}

/// Gives a kept answer in the form that the client asked for.
pub async fn replay(
    replay: Replay<'_>,
    entry: &Entry,
    session: &mut Session,
    x: &mut Exchange,
) -> Result<pingora::Result<()>> {
    let Replay {
        protocol,
        coat,
        shape,
        stream,
        outcome,
        include_cost,
        previous,
        limits,
    } = replay;
    let body = match (entry.form, stream) {
        (Form::Whole, false) => entry.body.clone(),
        (Form::Whole, true) => form::whole_to_stream(&entry.body, protocol, shape)?,
        (Form::Stream, false) => form::stream_to_whole(&entry.body, protocol, shape)?,
        (Form::Stream, true) if shape.include_usage || !protocol.asks_for_usage() => {
            entry.body.clone()
        }
        (Form::Stream, true) => {
            let mut through = Through::pass(protocol, true);
            let mut shown = Vec::new();
            through.feed(entry.body.clone(), &mut shown);
            through.end(&mut shown);
            shown.concat().into()
        }
    };
    let body = match previous {
        None => body,
        Some(previous) if stream => {
            let mut shown = Shown::new(previous, MOST_FRAME);
            [shown.put(body), shown.end()].concat().into()
        }
        Some(previous) => shown::whole(body, previous),
    };
    let body = match (include_cost, stream) {
        (false, _) => body,
        (true, false) => costed::whole(body, 0),
        (true, true) => costed::piece(body, 0),
    };
    x.record.cache = outcome;
    x.record.mode = Mode::Cache;
    x.record.provider = entry.provider.clone();
    x.record.model = entry.model.clone();
    x.record.model_known = entry.model_known;
    account::saved(x, entry.usage.clone(), entry.cost_pico);
    let mut headers = limits;
    let named = (header_value(&entry.provider), header_value(&entry.model));
    relay::name(&mut headers, named, 0, outcome);
    headers.push(relay::overhead(x, Instant::now()));
    if entry.degraded {
        x.record.degraded = true;
        headers.push(relay::degraded());
    }
    if outcome == CacheOutcome::Stale {
        headers.push((
            http::header::AGE,
            HeaderValue::from(entry.stored.elapsed().as_secs()),
        ));
        // RFC 7234, 5.5: it is over its time, and asking for a newer one failed.
        for warning in [
            "110 strait \"Response is Stale\"",
            "111 strait \"Revalidation Failed\"",
        ] {
            headers.push((http::header::WARNING, HeaderValue::from_static(warning)));
        }
    }
    let body = if stream && coat != Coat::None {
        let mut dress = Dress::new(coat);
        [dress.put(body), dress.end()].concat().into()
    } else {
        body
    };
    if stream {
        headers.push((
            http::header::CONTENT_TYPE,
            dress::media_type(protocol, coat),
        ));
        headers.push((
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache"),
        ));
    } else {
        headers.push((http::header::CONTENT_TYPE, reply::JSON));
        headers.push(header("x-strait-cost-usd", "0"));
    }
    Ok(reply::whole(session, x, 200, headers, body).await)
}

/// Gives the error that another identical request came to.
pub async fn refused(
    shared: Shared,
    limits: Headers,
    session: &mut Session,
    x: &mut Exchange,
) -> pingora::Result<()> {
    x.record.cache = CacheOutcome::Coalesced;
    x.record.error = Some(shared.code);
    let mut headers = limits;
    headers.push((http::header::CONTENT_TYPE, reply::JSON));
    if let Some(wait) = shared.retry_after {
        headers.push((http::header::RETRY_AFTER, HeaderValue::from(wait)));
    }
    reply::whole(session, x, shared.status, headers, shared.body).await
}

/// The error of a request that must be answered from the cache and can't be.
pub fn not_cached() -> Error {
    Error::new(
        crate::error::Kind::NotCached,
        "Nothing is kept for this request (x-strait-cache: only-if-cached).",
    )
}
