//! Builds what serves requests from a snapshot, and follows it through reloads.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::{mpsc, watch};

use super::refresh;
use super::spent::of_file;
use crate::access::{Keys, Tokens};
use crate::cache::Cache;
use crate::cache::second::Second;
use crate::config::Snapshot;
use crate::directory::{self, Directory};
use crate::gateway::{Core, Now};
use crate::jwt::Issuers;
use crate::ledger::Ledger;
use crate::ledger::alert::Alerts;
use crate::limit::Limiter;
use crate::limit::budget::Budgets;
use crate::limit::overload::MOST_INFLIGHT;
use crate::limit::shared::Shared;
use crate::limit::since::Since;
use crate::limit::spent::{self, Kept};
use crate::observe::metrics::Metrics;
use crate::observe::writer::Writer;
use crate::provider::{Credential, Provider, catalogue};
use crate::routing::{self, Table};
use crate::secret::Secret;
use crate::state::State;
use crate::state::redis::Redis;
use crate::upstream::Upstream;
use crate::upstream::pool::Pool;

/// A pool to be run in the background until its watch turns true.
pub struct Start {
    pub pool: Arc<Pool>,
    pub stop: watch::Receiver<bool>,
}

/// Everything that a reload has to follow.
pub struct Parts {
    pub core: Arc<Core>,
    pub pools: Arc<Pools>,
    pub starts: Mutex<Option<mpsc::UnboundedReceiver<Start>>>,
}

/// The pools in force, by provider. A pool lives on while its endpoints, health check and authorities are the same.
pub struct Pools {
    upstream: Upstream,
    running: Mutex<HashMap<String, Running>>,
    start: mpsc::UnboundedSender<Start>,
}

struct Running {
    provider: Arc<Provider>,
    pool: Arc<Pool>,
    stop: watch::Sender<bool>,
}

impl Pools {
    fn new(start: mpsc::UnboundedSender<Start>) -> Self {
        Self {
            upstream: Upstream::new(),
            running: Mutex::default(),
            start,
        }
    }

    /// Returns the pools of `providers`, index by index; starts new ones and stops those that are gone.
    pub fn follow(&self, providers: &[Arc<Provider>]) -> Vec<Option<Arc<Pool>>> {
        let mut running = self.running.lock();
        let mut next = HashMap::new();
        let mut pools = Vec::with_capacity(providers.len());
        for provider in providers {
            if provider.demo || provider.endpoints.is_empty() {
                pools.push(None);
                continue;
            }
            let old = running
                .remove(&provider.name)
                .filter(|old| same(&old.provider, provider));
            let kept = old.unwrap_or_else(|| self.begin(provider));
            pools.push(Some(kept.pool.clone()));
            next.insert(provider.name.clone(), kept);
        }
        for (_, gone) in std::mem::replace(&mut *running, next) {
            // In-flight requests hold the pool itself; only its background half ends.
            gone.stop.send_replace(true);
        }
        pools
    }

    /// Closes connections to providers that nobody needs any more.
    pub fn sweep(&self) {
        self.upstream.sweep();
    }

    fn begin(&self, provider: &Arc<Provider>) -> Running {
        let wire = self.upstream.wire(provider.ca.as_ref());
        let pool = Arc::new(Pool::new(provider, wire));
        let (stop, stopped) = watch::channel(false);
        // Nobody listens in commands that only explain.
        let _ = self.start.send(Start {
            pool: pool.clone(),
            stop: stopped,
        });
        Running {
            provider: provider.clone(),
            pool,
            stop,
        }
    }
}

fn same(a: &Provider, b: &Provider) -> bool {
    a.endpoints == b.endpoints && a.health == b.health && a.ca == b.ca
}

/// Builds what a request needs from a snapshot, and from the credentials of the directory.
fn now(
    snapshot: Arc<Snapshot>,
    pools: &Pools,
    state: &Arc<routing::State>,
    pepper: &[u8; 32],
    directory: Option<&Directory>,
    issuers: &Issuers,
) -> Now {
    // Before the table: its routes hold what they find.
    if let Err(error) = catalogue::configure(&snapshot.catalogue) {
        tracing::error!(error, "the catalogue before stays in force");
    }
    let server = &snapshot.server;
    let providers = snapshot.providers.iter().filter(|provider| !provider.demo);
    let bounds = providers.map(|provider| (provider.name.as_str(), provider.max_inflight));
    let bounds: Vec<_> = bounds.collect();
    let most = server.max_inflight;
    state.gates.configure(
        most.unwrap_or(MOST_INFLIGHT),
        most.is_some(),
        server.queue,
        &bounds,
    );
    let stored = directory.map_or_else(Vec::new, Directory::credentials);
    let providers = with_credentials(&snapshot.providers, &stored);
    let table = Table::new(
        providers.clone(),
        pools.follow(&providers),
        snapshot.provider_index.clone(),
        &snapshot.models,
        state.clone(),
        snapshot.catalogue.policy.clone(),
    );
    let keys = Keys::build(&snapshot.keys, pepper);
    let oidc = snapshot.admin.oidc.as_ref();
    let wanted = snapshot.tokens.iter().map(|one| &one.address);
    let wanted = wanted.chain(oidc.map(|oidc| &oidc.address));
    let wanted: Vec<_> = wanted.cloned().collect();
    let mut followed = issuers.follow(&wanted);
    let oidc = oidc.and_then(|_| followed.pop());
    Now {
        tokens: Tokens::build(&snapshot.tokens, followed, &keys),
        oidc,
        keys,
        table,
        snapshot,
    }
}

/// Asks the issuers for their keys, as long as the program runs.
pub struct Vouchers(pub Arc<Issuers>);

#[async_trait]
impl BackgroundService for Vouchers {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.0.run() => {}
            _ = shutdown.changed() => {}
        }
    }
}

/// Returns the providers with what the directory has for them, after their own.
fn with_credentials(
    providers: &[Arc<Provider>],
    stored: &[(Box<str>, Credential)],
) -> Vec<Arc<Provider>> {
    let with = |provider: &Arc<Provider>| {
        let mut theirs = stored
            .iter()
            .filter(|(name, _)| **name == *provider.name)
            .peekable();
        if theirs.peek().is_none() {
            return provider.clone();
        }
        let mut provider = Provider::clone(provider);
        for (_, credential) in theirs {
            // Cooldowns and records tell credentials by name.
            let taken = |own: &Credential| own.name == credential.name;
            let mut credential = credential.clone();
            if provider.credentials.iter().any(taken) {
                credential.name.push_str(" (stored)");
            }
            provider.credentials.push(credential);
        }
        Arc::new(provider)
    };
    providers.iter().map(with).collect()
}

/// Opens the directory, and returns the master key. Where its secrets can't be kept they last as long as the process.
fn directory(snapshot: &Snapshot) -> (Directory, Secret) {
    let secret = |name, configured: &Option<Secret>| {
        directory::secret_of(&snapshot.state_dir, name, configured.as_ref()).unwrap_or_else(
            |error| {
                tracing::error!(%error, name, "a secret can't be kept in state.dir: keys, credentials and bodies that are kept now end with the process");
                let random = pepper();
                Secret::new(directory::token::hex(&random))
            },
        )
    };
    let master = secret(directory::MASTER, &snapshot.secrets.master_key);
    let directory = Directory::start(directory::Settings {
        location: snapshot.database.clone(),
        pepper: secret(directory::PEPPER, &snapshot.secrets.pepper),
        master: master.clone(),
        required: snapshot.admin.keys,
    });
    (directory, master)
}

/// Takes up what was spent before; what else was kept with it is returned.
fn budgets(dir: &Path) -> (Arc<Budgets>, Kept) {
    let budgets = Arc::new(Budgets::default());
    let mut kept = spent::load(dir).unwrap_or_else(|error| {
        tracing::error!(%error, file = spent::FILE, "what was spent of budgets is not known; they begin anew");
        if let Err(error) = spent::put_aside(dir) {
            tracing::error!(%error, "it can't be put aside");
        }
        Kept {
            as_of_us: Timestamp::now().as_microsecond(),
            ..Kept::default()
        }
    });
    budgets.restore(std::mem::take(&mut kept.spent));
    (budgets, kept)
}

/// Builds what routing needs of a snapshot, with nothing running: for a dry run.
pub fn dry(snapshot: Arc<Snapshot>) -> Now {
    let (start, _) = mpsc::unbounded_channel();
    refresh::read_last_good(&snapshot.catalogue, &snapshot.state_dir);
    now(
        snapshot,
        &Pools::new(start),
        &Arc::default(),
        &pepper(),
        None,
        &Issuers::default(),
    )
}

impl Parts {
    /// Errors: the records' file can't be opened.
    pub fn new(snapshot: &Arc<Snapshot>) -> std::io::Result<Self> {
        let (start, starts) = mpsc::unbounded_channel();
        let metrics = Arc::new(Metrics::new());
        let pools = Arc::new(Pools::new(start));
        let state = Arc::new(routing::State::default());
        refresh::read_last_good(&snapshot.catalogue, &snapshot.state_dir);
        let kept = State::start(snapshot.database.clone(), snapshot.responses.clone());
        // After it, so that the tables are there.
        let (directory, master) = directory(snapshot);
        metrics.add(super::state::Known::new(directory.clone()));
        let redis = snapshot.redis.clone().map(Redis::start);
        if let Some(redis) = &redis {
            metrics.add(super::redis::Tallied::new(redis.clone()));
            super::share::share(redis, &directory, &state);
        }
        let seals = directory::seal::derive(&master, "strait cache");
        let second = redis.clone().map(|redis| Second::start(redis, &seals));
        let second = second.transpose()?.map(Arc::new);
        if let Some(second) = &second {
            metrics.add(super::redis::Recalled::new(second.clone()));
        }
        let issuers = Arc::new(Issuers::default());
        metrics.add(super::state::Vouched::new(issuers.clone()));
        let now = now(
            snapshot.clone(),
            &pools,
            &state,
            &pepper(),
            Some(&directory),
            &issuers,
        );
        metrics.set_generation(snapshot.generation);
        metrics.add(super::state::Kept::new(kept.clone()));
        let (budgets, known) = budgets(&snapshot.state_dir);
        let ledger = Ledger::start_after(
            (known.as_of_us, &known.runs),
            &snapshot.state_dir,
            snapshot.database.clone(),
            &snapshot.ledger,
            &master,
        );
        let alerts = Alerts::start(&snapshot.alerts, &budgets)?;
        metrics.add(super::ledger::Tallied::new(ledger.clone(), alerts.clone()));
        let shared = redis.clone();
        let shared = shared.map(|redis| Shared::start(snapshot.shared, redis, budgets.clone()));
        if let Some(shared) = &shared {
            metrics.add(super::shared::Counted::new(shared.clone()));
        }
        let core = Core {
            now: ArcSwap::from_pointee(now),
            routing: state,
            limiter: Limiter::new(),
            budgets,
            since: Since::new(
                known.since,
                of_file(snapshot),
                Timestamp::now().as_microsecond(),
            ),
            cache: ArcSwap::from_pointee(cache_of(snapshot, second.as_ref())),
            second,
            writer: Writer::start(snapshot.records.clone(), metrics.clone())?,
            metrics,
            drain: ArcSwap::from_pointee(None),
            state: kept,
            directory,
            issuers,
            ledger,
            alerts,
            redis,
            shared,
        };
        let core = Arc::new(core);
        if let Some(redis) = &core.redis {
            super::share::share_cache(redis, &core);
        }
        Ok(Self {
            core,
            pools,
            starts: Mutex::new(Some(starts)),
        })
    }

    /// Puts a new snapshot in force. Requests in flight end on the one that they began with.
    pub fn apply(core: &Core, pools: &Pools, snapshot: &Arc<Snapshot>) {
        let before = core.now.load_full();
        core.now.store(Arc::new(now(
            snapshot.clone(),
            pools,
            &core.routing,
            &pepper(),
            Some(&core.directory),
            &core.issuers,
        )));
        if before.snapshot.cache != snapshot.cache {
            match (core.cache.load_full().as_ref(), snapshot.cache.enabled) {
                (Some(cache), true) => cache.configure(&snapshot.cache, core.second.as_ref()),
                _ => {
                    let cache = cache_of(snapshot, core.second.as_ref());
                    core.cache.store(Arc::new(cache));
                }
            }
        }
        core.since
            .follow(of_file(snapshot), Timestamp::now().as_microsecond());
        core.state.configure(snapshot.responses.clone());
        if let Err(error) = crate::observe::log::set_level(&snapshot.log_level) {
            tracing::warn!(error, "log.level is not changed");
        }
        core.metrics.set_generation(snapshot.generation);
    }
}

fn cache_of(snapshot: &Snapshot, second: Option<&Arc<Second>>) -> Option<Arc<Cache>> {
    snapshot
        .cache
        .enabled
        .then(|| Arc::new(Cache::new(&snapshot.cache, second)))
}

/// Returns the secret that keys are hashed with: random, new in every process, never stored.
fn pepper() -> [u8; 32] {
    use ring::rand::SecureRandom;
    let mut pepper = [0; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut pepper)
        .expect("the system gives random numbers");
    pepper
}
