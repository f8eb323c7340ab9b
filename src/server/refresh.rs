//! Fetches the catalogue of models on a schedule, checks it as a whole, and keeps the last good one for the next start.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use http::header::{
    ACCEPT, ETAG, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, USER_AGENT,
};
use pingora::http::RequestHeader;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use pingora::upstreams::peer::HttpPeer;
use prometheus::{IntCounterVec, IntGauge, Opts};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::build::Parts;
use super::control::Link;
use crate::observe::metrics::Metrics;
use crate::provider::Timeouts;
use crate::provider::catalogue::{self, Address, Layer};
use crate::upstream::{self, Upstream, Wire};

/// The last good one, in `state.dir`.
const FILE: &str = "catalogue.last";
/// A fetch that failed is tried again after this, then after twice as long, up to the ordinary time.
const FIRST_RETRY: Duration = Duration::from_secs(60);
/// The whole of a fetch.
const PATIENCE: Duration = Duration::from_secs(60);
/// Its first line: what is sent along the next time.
const LONGEST_NOTE: usize = 4096;

/// What came of a fetch.
#[derive(Debug)]
pub enum Outcome {
    /// The server says that it has not changed.
    Same,
    New(Copy),
}

/// A copy of what an address has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Copy {
    pub url: String,
    pub etag: Option<String>,
    pub modified: Option<String>,
    pub body: Vec<u8>,
}

/// Keeps the catalogue fresh as long as the program runs.
pub struct Refresh {
    link: Link,
    wire: Arc<Wire>,
    counts: IntCounterVec,
    models: IntGauge,
    /// When it was last known to be what the address has, in seconds since 1970.
    fresh: IntGauge,
    /// The configuration was swapped.
    changed: Arc<Notify>,
}

impl Refresh {
    pub fn new(link: Link) -> Self {
        let changed = Arc::new(Notify::new());
        let tell = changed.clone();
        link.store.on_swap(Box::new(move |_| tell.notify_one()));
        let named = |name: &str, help: &str| {
            IntGauge::new(name, help).expect("names are constants that every start makes")
        };
        let counts = Opts::new(
            "strait_catalogue_refreshes_total",
            "Fetches of the catalogue, by result: new, same, failed.",
        );
        let counts = IntCounterVec::new(counts, &["result"])
            .expect("names are constants that every start makes");
        let refresh = Self {
            wire: Upstream::new().wire(None),
            counts,
            models: named(
                "strait_catalogue_fetched_models",
                "Models in the catalogue that was fetched.",
            ),
            fresh: named(
                "strait_catalogue_fresh_timestamp_seconds",
                "When the fetched catalogue was last known to be the newest.",
            ),
            changed,
            link,
        };
        refresh.register(&refresh.link.core.metrics);
        refresh
    }

    fn register(&self, metrics: &Metrics) {
        metrics.add(self.counts.clone());
        metrics.add(self.models.clone());
        metrics.add(self.fresh.clone());
    }

    /// Fetches once and puts what is new into force; remembers in `known` what is to be sent along the next time.
    async fn refresh(&self, address: &Address, known: &mut Copy) -> Result<(), String> {
        if known.url != address.written {
            // The start has read the models; here only the first line matters.
            *known = load(&self.place())
                .filter(|copy| copy.url == address.written && catalogue::is_fetched(&copy.url))
                .unwrap_or_default();
            known.body = Vec::new();
            known.url.clone_from(&address.written);
        }
        let fetching = tokio::time::timeout(PATIENCE, fetch(&self.wire, address, known));
        let copy = match fetching.await.map_err(|_| "it took too long")?? {
            Outcome::Same => {
                self.counts.with_label_values(&["same"]).inc();
                self.fresh.set(jiff::Timestamp::now().as_second());
                return Ok(());
            }
            Outcome::New(copy) => copy,
        };
        let body = copy.body.clone();
        // Off this thread: it parses thousands of rows.
        let layer = tokio::task::spawn_blocking(move || Layer::read(&body))
            .await
            .map_err(|_| "reading it failed")??;
        let models = layer.len();
        catalogue::fetched(&address.written, layer);
        let place = self.place();
        let link = self.link.clone();
        let stored = tokio::task::spawn_blocking(move || {
            link.rebuild();
            keep(&place, &copy).map(|()| copy)
        });
        match stored.await {
            Ok(Ok(copy)) => {
                *known = Copy {
                    body: Vec::new(),
                    ..copy
                };
            }
            // It is in force all the same; the next fetch asks for all of it again.
            Ok(Err(error)) => tracing::warn!(%error, "the catalogue can't be kept in state.dir"),
            Err(_) => return Err("putting it into force failed".into()),
        }
        self.counts.with_label_values(&["new"]).inc();
        self.models.set(i64::try_from(models).unwrap_or(i64::MAX));
        self.fresh.set(jiff::Timestamp::now().as_second());
        tracing::info!(models, "the catalogue was fetched");
        Ok(())
    }

    fn place(&self) -> PathBuf {
        self.link.store.load().state_dir.join(FILE)
    }
}

#[async_trait]
impl BackgroundService for Refresh {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut known = Copy::default();
        let mut retry = FIRST_RETRY;
        loop {
            let settings = self.link.store.full();
            let wait = match &settings.catalogue.url {
                None => None,
                Some(address) => {
                    let fetched = tokio::select! {
                        fetched = self.refresh(address, &mut known) => fetched,
                        _ = shutdown.changed() => return,
                    };
                    match fetched {
                        Ok(()) => {
                            retry = FIRST_RETRY;
                            Some(settings.catalogue.refresh)
                        }
                        Err(error) => {
                            self.counts.with_label_values(&["failed"]).inc();
                            tracing::warn!(
                                host = address.endpoint.host,
                                error,
                                "the catalogue was not fetched: the last good one stays"
                            );
                            let wait = retry.min(settings.catalogue.refresh);
                            retry = retry.saturating_mul(2);
                            Some(wait)
                        }
                    }
                }
            };
            drop(settings);
            let pause = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::pin!(pause);
            // A reload that leaves the address alone is no reason to fetch.
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    () = self.changed.notified() => {
                        let now = self.link.store.load();
                        let url = now.catalogue.url.as_ref().map(|url| &url.written);
                        if url.is_some_and(|url| *url != known.url) {
                            break;
                        }
                    }
                    _ = shutdown.changed() => return,
                }
            }
        }
    }
}

impl Link {
    /// Builds everything anew from the configuration in force.
    pub(super) fn rebuild(&self) {
        loop {
            let snapshot = self.store.full();
            Parts::apply(&self.core, &self.pools, &snapshot);
            // A reload may have come between; then its own must be the last.
            if self.store.load().generation == snapshot.generation {
                return;
            }
        }
    }
}

/// Reads the last good copy of what the configuration names, so that a start needs no network.
pub fn read_last_good(settings: &catalogue::Settings, state_dir: &Path) {
    let Some(url) = &settings.url else { return };
    let Some(copy) = load(&state_dir.join(FILE)) else {
        return;
    };
    if copy.url != url.written {
        return;
    }
    match Layer::read(&copy.body) {
        Ok(layer) => {
            tracing::info!(models = layer.len(), "the last good catalogue is in use");
            catalogue::fetched(&copy.url, layer);
        }
        Err(error) => tracing::warn!(
            error,
            "the last good catalogue can't be read: it is fetched anew"
        ),
    }
}

/// Asks for the file, unless it is what `known` is a copy of.
pub async fn fetch(wire: &Arc<Wire>, address: &Address, known: &Copy) -> Result<Outcome, String> {
    let endpoint = &address.endpoint;
    let mut addresses = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(|error| format!("it can't be looked up: {error}"))?;
    let first = addresses.next().ok_or("it has no address")?;
    let peer = Arc::new(HttpPeer::new(first, endpoint.tls, endpoint.host.clone()));
    let nothing = bytes::Bytes::new().into();
    let timers = Timeouts {
        connect: Duration::from_secs(10),
        first_byte: Duration::from_secs(30),
        ..Timeouts::default()
    };
    let head = head(address, known).map_err(|error| error.to_string())?;
    let head = upstream::Head::of(&head);
    let sending = upstream::send(wire, &peer, &head, &nothing, &timers);
    let mut answer = Box::pin(sending).await.map_err(|failure| failure.cause)?;
    let status = answer.head().status.as_u16();
    let header = |name: http::HeaderName| {
        let value = answer.head().headers.get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    match status {
        200 => {}
        304 if known.etag.is_some() || known.modified.is_some() => {
            answer.abandon().await;
            return Ok(Outcome::Same);
        }
        300..=399 => return Err(format!("it answered {status}: name the final address")),
        _ => return Err(format!("it answered {status}")),
    }
    let (etag, modified) = (header(ETAG), header(LAST_MODIFIED));
    let mut body = BytesMut::new();
    while let Some(piece) = answer.read().await.map_err(|failure| failure.cause)? {
        if body.len() + piece.len() > Layer::MOST_BYTES {
            answer.abandon().await;
            return Err(format!("it is larger than {} bytes", Layer::MOST_BYTES));
        }
        body.extend_from_slice(&piece);
    }
    // The next time is hours away.
    answer.abandon().await;
    Ok(Outcome::New(Copy {
        url: address.written.clone(),
        etag,
        modified,
        body: body.to_vec(),
    }))
}

fn head(address: &Address, known: &Copy) -> pingora::Result<Box<RequestHeader>> {
    let mut head = RequestHeader::build("GET", address.path.as_bytes(), Some(6))?;
    head.insert_header(HOST, address.endpoint.authority())?;
    head.insert_header(USER_AGENT, concat!("strait/", env!("CARGO_PKG_VERSION")))?;
    head.insert_header(
        ACCEPT,
        "application/json, text/tab-separated-values, text/plain",
    )?;
    if let Some(etag) = &known.etag {
        head.insert_header(IF_NONE_MATCH, etag)?;
    }
    if let Some(modified) = &known.modified {
        head.insert_header(IF_MODIFIED_SINCE, modified)?;
    }
    Ok(Box::new(head))
}

/// Writes a copy: one line of notes, then the file as it came. It is there whole or not at all.
pub fn keep(place: &Path, copy: &Copy) -> std::io::Result<()> {
    use std::io::Write;
    let note = json!({"url": copy.url, "etag": copy.etag, "modified": copy.modified}).to_string();
    let fresh = place.with_extension("new");
    let mut file = std::fs::File::create(&fresh)?;
    if note.len() < LONGEST_NOTE {
        file.write_all(note.as_bytes())?;
    } else {
        file.write_all(json!({"url": copy.url}).to_string().as_bytes())?;
    }
    file.write_all(b"\n")?;
    file.write_all(&copy.body)?;
    file.sync_all()?;
    std::fs::rename(fresh, place)
}

/// Returns the copy that is kept, if any.
pub fn load(place: &Path) -> Option<Copy> {
    let most = (Layer::MOST_BYTES + 2 * LONGEST_NOTE) as u64;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(place).ok()?;
    file.take(most).read_to_end(&mut bytes).ok()?;
    let end = memchr::memchr(b'\n', &bytes)?;
    let note: Value = serde_json::from_slice(bytes.get(..end)?).ok()?;
    let text = |key: &str| note.get(key)?.as_str().map(str::to_owned);
    Some(Copy {
        url: text("url")?,
        etag: text("etag"),
        modified: text("modified"),
        body: bytes.split_off(end + 1),
    })
}
