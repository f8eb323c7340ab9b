//! The background of the process: signals, reloads, pools, clean-up, systemd, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::{ExecutionPhase, ShutdownWatch};
use pingora::services::background::BackgroundService;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use super::build::{Parts, Pools, Start};
use super::spent::Spent;
use crate::config::{Mistake, Store, watch};
use crate::gateway::Core;
use crate::identity;
use crate::provider::catalogue;

const TICK: Duration = Duration::from_secs(1);
/// Cooldowns, idle limits and gauges are looked after this often.
const SWEEP_EVERY: u32 = 15;
/// Listeners that don't take connections within this are announced all the same.
const LISTEN_TIME: Duration = Duration::from_secs(5);

/// What the admin port needs of the running process.
#[derive(Clone)]
pub struct Link {
    pub core: Arc<Core>,
    pub pools: Arc<Pools>,
    pub store: Arc<Store>,
    pub ready: Arc<AtomicBool>,
}

impl Link {
    /// Reads the configuration again, because `actor` wants it; a mistake leaves the old one in force.
    pub fn reload(&self, actor: &str) -> Result<u64, Vec<Mistake>> {
        let outcome = self.store.reload();
        match &outcome {
            Ok(generation) => {
                Parts::apply(&self.core, &self.pools, &self.store.full());
                self.core.metrics.reloaded(true);
                let detail = serde_json::json!({"config_generation": generation});
                self.core
                    .ledger
                    .audit(actor, "config.reload", "config", &detail);
                tracing::info!(generation, "configuration reloaded");
            }
            Err(mistakes) => {
                self.core.metrics.reloaded(false);
                for mistake in mistakes {
                    tracing::error!(%mistake, "configuration not reloaded");
                }
            }
        }
        outcome
    }
}

pub struct Control {
    link: Link,
    starts: Mutex<Option<mpsc::UnboundedReceiver<Start>>>,
    phases: Mutex<Option<broadcast::Receiver<ExecutionPhase>>>,
}

impl Control {
    pub fn new(
        parts: Parts,
        store: Arc<Store>,
        phases: broadcast::Receiver<ExecutionPhase>,
    ) -> Self {
        let Parts {
            core,
            pools,
            starts,
        } = parts;
        let link = Link {
            core,
            pools,
            store,
            ready: Arc::new(AtomicBool::new(false)),
        };
        Self {
            link,
            starts,
            phases: Mutex::new(Some(phases)),
        }
    }

    pub fn link(&self) -> Link {
        self.link.clone()
    }

    /// Reloads off this thread: reading secrets and files may block. `actor` is for the audit log.
    async fn reload(&self, actor: &'static str) {
        let link = self.link.clone();
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Reloading, monotonic()]);
        if tokio::task::spawn_blocking(move || link.reload(actor))
            .await
            .is_err()
        {
            tracing::error!(
                "the reload failed in an unexpected way; the old configuration is in force"
            );
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    fn sweep(&self) {
        let core = &self.link.core;
        core.routing.cooldowns.sweep(Instant::now());
        core.limiter.sweep(Instant::now());
    }

    /// After the last request, or at the end of the drain time, the process ends.
    async fn drain(&self, spent: &Spent) {
        let core = &self.link.core;
        let until = Instant::now() + core.now.load().snapshot.server.drain;
        core.drain.store(Arc::new(Some(until)));
        self.link.ready.store(false, Ordering::Release);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!(inflight = core.metrics.inflight(), "stopping");
        // Connections that were accepted but not yet served get a moment to say what they want.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut interrupts = signal(SignalKind::interrupt()).ok();
        while core.metrics.inflight() > 0 && Instant::now() < until {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
                // Whoever presses Ctrl-C again will not wait.
                () = interrupted(&mut interrupts) => break,
            }
        }
        core.writer.flush_and_stop(Duration::from_secs(5));
        core.state.close(Duration::from_secs(5));
        // What the journal holds goes with it where the budgets are kept with that.
        spent.keep();
        core.ledger.close(Duration::from_secs(5));
        if let Some(shared) = &core.shared {
            shared.close(Duration::from_secs(2));
        }
        core.alerts.flush(Duration::from_secs(5));
        if let Some(redis) = &core.redis {
            redis.close(Duration::from_secs(2));
        }
        spent.keep();
        tracing::info!("stopped");
        #[expect(
            clippy::disallowed_methods,
            reason = "Pingora would sleep the whole grace period, idle or not"
        )]
        std::process::exit(0);
    }
}

async fn interrupted(interrupts: &mut Option<Signal>) {
    match interrupts {
        Some(interrupts) => {
            interrupts.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Waits until connections are taken: Pingora says that it runs before its listeners do.
async fn listening(addresses: &[String]) {
    let until = Instant::now() + LISTEN_TIME;
    for address in addresses {
        while tokio::net::TcpStream::connect(address).await.is_err() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn monotonic() -> sd_notify::NotifyState<'static> {
    sd_notify::NotifyState::monotonic_usec_now()
        .unwrap_or(sd_notify::NotifyState::Status("reloading"))
}

#[async_trait]
impl BackgroundService for Control {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Some(mut starts) = self.starts.lock().take() else {
            return;
        };
        let Some(mut phases) = self.phases.lock().take() else {
            return;
        };
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => {
                tracing::error!(%error, "SIGHUP can't be listened to");
                return;
            }
        };
        let (changed, mut changes) = mpsc::channel::<()>(1);
        // Held to the end: dropping it ends the watch.
        let file = self.link.store.full().file.clone();
        let _watch = file.and_then(|file| {
            let told = watch::watch(&file, move || {
                // One waiting change stands for all that come meanwhile.
                let _ = changed.try_send(());
            });
            told.map_err(|error| tracing::warn!(%error, "the configuration file is not watched"))
                .ok()
        });
        // The first look-up parses the catalogue's index: not in somebody's request.
        let warm = tokio::task::spawn_blocking(|| catalogue::model("", "").is_some());
        let mut pools = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0u32;
        let spent = Arc::new(Spent::new(self.link.core.clone()));
        let mut credentials = self.link.core.directory.view().credentials_changed();
        let watched = file_watched(&_watch);
        loop {
            tokio::select! {
                _ = shutdown.changed() => break,
                Some(start) = starts.recv() => {
                    pools.spawn(async move { start.pool.run(start.stop).await });
                }
                Some(_) = pools.join_next(), if !pools.is_empty() => {}
                _ = hangups.recv() => {
                    // Log rotation moves the records' file away and says so with the same signal.
                    self.link.core.writer.reopen();
                    self.reload("signal").await;
                }
                Some(()) = changes.recv(), if watched => self.reload("file").await,
                phase = phases.recv() => match phase {
                    Ok(ExecutionPhase::Running) => {
                        let now = self.link.core.now.load_full();
                        listening(&now.snapshot.server.listen).await;
                        self.link.ready.store(true, Ordering::Release);
                        self.announce();
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => break,
                },
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    spent.tick();
                    self.link.pools.sweep();
                    identity::http::sweep();
                    let changed = self.link.core.directory.view().credentials_changed();
                    if std::mem::replace(&mut credentials, changed) != changed {
                        let link = self.link.clone();
                        let _ = tokio::task::spawn_blocking(move || link.rebuild()).await;
                    }
                    if ticks.is_multiple_of(SWEEP_EVERY) {
                        self.sweep();
                    }
                }
            }
        }
        drop(warm);
        self.drain(&spent).await;
    }
}

fn file_watched<T>(watch: &Option<T>) -> bool {
    watch.is_some()
}

impl Control {
    /// Says what is served, by whom, and which providers are not there and why.
    fn announce(&self) {
        let now = self.link.core.now.load();
        let snapshot = &now.snapshot;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let file = snapshot
            .file
            .as_ref()
            .map_or("built-in defaults".to_owned(), |file| {
                file.display().to_string()
            });
        tracing::info!(
            listen = snapshot.server.listen.join(" "),
            tls = snapshot.server.tls.is_some(),
            admin = snapshot.admin.listen,
            config = file,
            "serving"
        );
        let closed = self.link.core.directory.view().is_closed();
        if now.keys.is_open() && now.tokens.is_empty() && !closed {
            tracing::warn!("no client keys are configured: everyone who can connect is served");
        }
        let mut enabled: Vec<&str> = snapshot
            .providers
            .iter()
            .map(|provider| provider.name.as_str())
            .collect();
        enabled.sort_unstable();
        tracing::info!(
            providers = enabled.join(" "),
            models = now.table.configured_names().join(" "),
            "enabled"
        );
        let mut missing: Vec<String> = snapshot
            .disabled
            .iter()
            .map(|(name, why)| format!("{name} ({why})"))
            .collect();
        missing.sort_unstable();
        if !missing.is_empty() {
            tracing::info!(
                count = missing.len(),
                providers = missing.join(", "),
                "not enabled"
            );
        }
    }
}
