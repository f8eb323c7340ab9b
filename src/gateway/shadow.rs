//! Shadow traffic: a copy of a request goes to another model, and its answer to nobody.
//!
//! The copy has a task, a record and an account of its own, and shares nothing with the original that could slow it or fail it: no
//! limits of the key, no cache, no session, no retries, and no place that somebody waits for. Where too many copies run
//! already, the next is left out. A process that stops waits for none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::ask::Ask;
use super::intake::{self, CacheControl, Controls};
use super::outcome::{Busy, Flow, Won};
use super::through::Seen;
use super::{Core, Exchange, Now, account, attempt, relay};
use crate::access::Key;
use crate::error::{Error, Kind, Result};
use crate::ledger::metadata::Metadata;
use crate::limit::Amount;
use crate::limit::overload::{Priority, Turn};
use crate::observe::record::CacheOutcome;
use crate::protocol::Protocol;
use crate::protocol::api::Api;
use crate::protocol::envelope::{Envelope, Said};
use crate::provider::TimeoutOverrides;
use crate::routing::choose::choose;
use crate::routing::{Route, Shadow};

/// Of an answer so much is read.
const MOST_READ: usize = 8 << 20;

/// What a copy keeps of the request.
struct Copy {
    of: String,
    model: String,
    label: Arc<str>,
    protocol: Protocol,
    content_type: HeaderValue,
    body: Bytes,
    sent: Bytes,
    said: (Option<String>, Option<bool>),
    controls: Controls,
    forwarded: Vec<(HeaderName, HeaderValue)>,
    query: Option<String>,
    previous: Option<String>,
    coat: super::endpoint::Coat,
    endpoint: &'static str,
    ruled: TimeoutOverrides,
    /// What it demands binds the copy, too.
    key: Option<Arc<Key>>,
    session: Option<String>,
    user: Option<String>,
    metadata: Metadata,
}

/// Sends a copy on its way, if one is due.
pub fn cast(
    core: &Arc<Core>,
    now: &Arc<Now>,
    ask: &Ask<'_>,
    key: Option<&Arc<Key>>,
    route: &Route,
    said: Said<'_>,
    x: &Exchange,
) {
    let Some((shadow, running)) = &route.shadow else {
        return;
    };
    let asked = ask.api == Api::Chat && ask.controls.cache != CacheControl::OnlyIfCached;
    if !asked || fastrand::f64() >= shadow.share {
        return;
    }
    let Some(place) = place(shadow, running) else {
        core.metrics.shadowed(&route.label, "skipped");
        return;
    };
    let Ok(target) = now.table.resolve(&shadow.model) else {
        // The configuration was checked: it has lost its key since.
        core.metrics.shadowed(&route.label, "failed");
        return;
    };
    let copy = Copy {
        of: ask.request_id.to_owned(),
        model: shadow.model.clone(),
        label: route.label.clone(),
        protocol: ask.protocol,
        content_type: ask.content_type.clone(),
        body: ask.body.clone(),
        sent: ask.sent.clone(),
        said: (said.model.map(str::to_owned), said.stream),
        controls: ask.controls.clone(),
        forwarded: ask.forwarded.to_vec(),
        query: ask.query.map(str::to_owned),
        previous: ask.previous.map(str::to_owned),
        coat: ask.coat,
        endpoint: x.record.endpoint,
        ruled: ask.ruled,
        key: key.cloned(),
        session: x.record.session.clone(),
        user: x.record.user.clone(),
        metadata: x.record.metadata.clone(),
    };
    let core = core.clone();
    #[expect(
        clippy::disallowed_methods,
        reason = "nobody waits for a copy: a process that stops may lose it"
    )]
    tokio::spawn(Box::pin(async move {
        let _place = place;
        let mut x = Exchange::begin(core.clone());
        let outcome = copy.run(&core, &target, &mut x).await;
        let result = match &outcome {
            Ok(true) => "ok",
            Ok(false) => "cut",
            Err(error) => {
                x.fail(error);
                "failed"
            }
        };
        core.metrics.shadowed(&copy.label, result);
    }));
}

/// Takes a place among the copies that may run.
fn place(shadow: &Shadow, running: &Arc<AtomicU32>) -> Option<Busy> {
    let place = Busy::new(running, None);
    (running.load(Ordering::Relaxed) <= shadow.most).then_some(place)
}

impl Copy {
    /// Asks, and reads the answer; returns whether it came to its end.
    async fn run(&self, core: &Core, route: &Arc<Route>, x: &mut Exchange) -> Result<bool> {
        let said = Said {
            model: self.said.0.as_deref(),
            stream: self.said.1,
        };
        let envelope = Envelope::read_said(&self.body, self.protocol, intake::MOST_DEPTH, said)?;
        let now = jiff::Timestamp::now();
        let id = intake::new_id("req_", now);
        x.asked_by(self.key.as_deref());
        // Nobody sees its answer, and the request is kept with the original.
        x.body = None;
        let record = &mut x.record;
        record.id.clone_from(&id);
        record.shadow_of = Some(self.of.clone());
        record.at = now;
        record.endpoint = self.endpoint;
        record.client_protocol = self.protocol.name();
        record.cache = CacheOutcome::Bypass;
        record.session.clone_from(&self.session);
        record.user.clone_from(&self.user);
        record.tags.clone_from(&self.controls.tags);
        record.metadata.clone_from(&self.metadata);
        record.model_requested.clone_from(&self.model);
        record.stream = envelope.stream;
        record.request_bytes = self.body.len() as u64;
        let created = u64::try_from(record.at.as_second()).unwrap_or_default();
        let ask = Ask {
            api: Api::Chat,
            protocol: self.protocol,
            content_type: self.content_type.clone(),
            body: &self.body,
            sent: &self.sent,
            envelope: &envelope,
            controls: &self.controls,
            forwarded: &self.forwarded,
            query: self.query.as_deref(),
            previous: self.previous.as_deref(),
            coat: self.coat,
            mistral: false,
            request_id: &id,
            created,
            conversation: None,
            pinned: false,
            in_session: false,
            keep: false,
            ruled: self.ruled,
            watch: false,
            prefix: None,
            turn: Turn {
                key: self
                    .key
                    .as_ref()
                    .map(|key| key.name.clone())
                    .unwrap_or_default(),
                priority: Priority::Low,
            },
            estimate: Amount::default(),
            limited: Vec::new(),
            shadow: true,
        };
        let chain = std::slice::from_ref(route);
        let screen = ask.screen(chain, self.key.as_deref());
        let choice = choose(chain, &ask.asked(chain), None, &screen);
        let won = Box::pin(attempt::run(&ask, route, &choice, core, x)).await;
        let Won { mut meta, flow } = *won.map_err(|lost| lost.error)?;
        relay::note(x, &ask, &meta);
        x.commit(meta.status);
        x.record.ttft = Some(x.started.elapsed());
        let (taken, broken) = read(flow, &ask, &meta, x).await;
        let complete = taken.complete;
        account::provider(x, &ask, &meta, taken);
        meta.busy = None;
        broken.map_or(Ok(complete), Err)
    }
}

/// Reads an answer to its end, or as far as is worth it. Tells what it took, and what broke it off.
async fn read(
    flow: Flow,
    ask: &Ask<'_>,
    meta: &super::outcome::Meta,
    x: &mut Exchange,
) -> (account::Taken, Option<Error>) {
    let (answer, mut through, held) = match flow {
        Flow::Whole { body, whole } => {
            x.record.response_bytes = body.len() as u64;
            x.record.finish = whole.finish.map(relay::finish_name);
            let taken = account::Taken {
                output_chars: match &whole.usage {
                    Some(_) => 0,
                    None => relay::said(ask, &body),
                },
                usage: whole.usage,
                model: whole.model,
                complete: true,
                generation: None,
            };
            return (taken, None);
        }
        Flow::Long { answer, held } => {
            answer.abandon().await;
            x.record.response_bytes = held.len() as u64;
            let taken = account::Taken {
                usage: None,
                model: None,
                output_chars: held.len() as u64,
                complete: false,
                generation: None,
            };
            return (taken, None);
        }
        Flow::Stream {
            answer,
            through,
            held,
            ..
        } => (answer, through, held),
    };
    let began = Instant::now();
    let mut size: usize = held.iter().map(Bytes::len).sum();
    let mut broken = None;
    if let Some(mut answer) = answer {
        let mut out = Vec::new();
        loop {
            let left = meta.deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(meta.timers.idle.min(left), answer.read()).await {
                Ok(Ok(Some(piece))) => {
                    size += piece.len();
                    through.feed(piece, &mut out);
                    out.clear();
                    if size > MOST_READ {
                        answer.abandon().await;
                        break;
                    }
                }
                Ok(Ok(None)) => {
                    through.end(&mut out);
                    answer.release().await;
                    break;
                }
                Ok(Err(failure)) => {
                    through.end(&mut out);
                    answer.abandon().await;
                    let message = "The provider cut its stream.";
                    broken =
                        Some(Error::new(Kind::UpstreamBroken, message).with_cause(failure.cause));
                    break;
                }
                Err(_) => {
                    answer.abandon().await;
                    let message = "The provider went silent in its stream.";
                    broken = Some(Error::new(Kind::Timeout, message));
                    break;
                }
            }
        }
    }
    x.record.response_bytes = size as u64;
    let Seen {
        usage,
        model,
        output_chars,
        finished,
        finish,
        ..
    } = through.seen();
    x.record.finish = finish.map(relay::finish_name);
    let taken = account::Taken {
        usage,
        model,
        output_chars,
        complete: finished,
        generation: Some(began.elapsed()),
    };
    (taken, broken.filter(|_| !finished))
}
