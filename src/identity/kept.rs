//! Something that expires: kept, and fetched again ahead of that, by one fetch at a time.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// Fetched again so long before it expires. The metadata servers of the clouds hand out a new one from five minutes on.
const AHEAD: Duration = Duration::from_secs(220);
/// What lives shorter than this many times [`AHEAD`] is fetched again when a quarter of its life is left.
const SHORT: u32 = 4;
/// Not sent any more so long before its end: clocks differ, and the request travels.
const MARGIN: Duration = Duration::from_secs(5);
/// After a failed fetch the next one waits; twice as long after each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What was just fetched isn't fetched again because the provider refuses it: it lacks a permission.
const TRUSTED: Duration = Duration::from_secs(30);
/// No fetch takes longer.
const PATIENCE: Duration = Duration::from_secs(40);

/// What a fetch brings.
pub struct Fetched<T> {
    pub value: T,
    /// `None` for what lasts.
    pub expires: Option<SystemTime>,
    /// Look again then, although it lasts: a file may have changed.
    pub again: Option<Duration>,
}

/// Where it comes from.
pub trait Source: Send + Sync + 'static {
    type Value: Send + Sync + 'static;

    /// Fetches a new one. Errors go to the log: they hold no secret.
    fn fetch(&self) -> impl Future<Output = Result<Fetched<Self::Value>, String>> + Send;
}

pub struct Kept<S: Source> {
    inner: Arc<Inner<S>>,
    /// The one task that fetches ahead; it ends with this.
    tasks: Mutex<JoinSet<()>>,
}

struct Inner<S: Source> {
    /// For the log.
    name: String,
    source: S,
    held: ArcSwapOption<Held<S::Value>>,
    /// Held while fetching, and what came of the last fetch.
    fetching: tokio::sync::Mutex<Trouble>,
    keeping: AtomicBool,
    used: AtomicBool,
}

struct Held<T> {
    value: Arc<T>,
    since: SystemTime,
    renew: Option<SystemTime>,
    ends: Option<SystemTime>,
}

/// Fetches that failed one after another.
#[derive(Default)]
struct Trouble {
    failures: u32,
    until: Option<SystemTime>,
    why: String,
}

impl<S: Source> Kept<S> {
    pub fn new(name: String, source: S) -> Self {
        let inner = Inner {
            name,
            source,
            held: ArcSwapOption::empty(),
            fetching: tokio::sync::Mutex::default(),
            keeping: AtomicBool::new(false),
            used: AtomicBool::new(false),
        };
        Self {
            inner: Arc::new(inner),
            tasks: Mutex::default(),
        }
    }

    /// Returns what is kept while it is good; waits for a fetch only when nothing is.
    pub async fn get(&self) -> Result<Arc<S::Value>, String> {
        let now = SystemTime::now();
        self.inner.used.store(true, Ordering::Relaxed);
        let value = match self.inner.good(now) {
            Some(value) => value,
            None => self.inner.fetch(false).await?,
        };
        self.keep();
        Ok(value)
    }

    /// Gives up what is kept, unless it is new: the provider refused it before its time.
    pub fn distrust(&self) {
        let held = self.inner.held.load();
        let Some(held) = held.as_ref() else { return };
        let age = SystemTime::now().duration_since(held.since);
        if held.renew.is_some() && age.is_ok_and(|age| age >= TRUSTED) {
            self.inner.held.store(None);
        }
    }

    /// Sees to it that somebody fetches ahead.
    fn keep(&self) {
        let lasts = self
            .inner
            .held
            .load()
            .as_ref()
            .is_some_and(|held| held.renew.is_none());
        if lasts || self.inner.keeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(keeper(Arc::downgrade(&self.inner)));
    }
}

/// Fetches ahead for as long as somebody uses what is fetched.
async fn keeper<S: Source>(inner: Weak<Inner<S>>) {
    loop {
        let wait = {
            let Some(inner) = inner.upgrade() else { return };
            match inner.until_renewal() {
                Some(wait) if !wait.is_zero() => wait,
                Some(_) if inner.used.swap(false, Ordering::Relaxed) => {
                    let failed = inner.fetch(true).await.is_err();
                    if failed { FIRST_PAUSE } else { Duration::ZERO }
                }
                // Nobody asked since the last time, or what is held lasts.
                Some(_) | None => {
                    inner.keeping.store(false, Ordering::Release);
                    return;
                }
            }
        };
        // The clock of the wall may be set meanwhile, and a machine may sleep.
        tokio::time::sleep(wait.min(Duration::from_secs(30))).await;
    }
}

impl<S: Source> Inner<S> {
    fn good(&self, now: SystemTime) -> Option<Arc<S::Value>> {
        let held = self.held.load();
        let held = held.as_ref()?;
        let is_good = held.ends.is_none_or(|ends| now < ends);
        is_good.then(|| held.value.clone())
    }

    /// Returns how long until it is fetched again; `None` when it lasts.
    fn until_renewal(&self) -> Option<Duration> {
        let held = self.held.load();
        let Some(held) = held.as_ref() else {
            return Some(Duration::ZERO);
        };
        let wait = held.renew?.duration_since(SystemTime::now());
        Some(wait.unwrap_or_default())
    }

    /// Fetches, unless another did meanwhile. `ahead`: what is held is still good, and not enough.
    async fn fetch(&self, ahead: bool) -> Result<Arc<S::Value>, String> {
        let mut trouble = self.fetching.lock().await;
        let now = SystemTime::now();
        let value = self.good(now);
        let is_fresh = !ahead || self.until_renewal().is_none_or(|wait| !wait.is_zero());
        if let Some(value) = value.filter(|_| is_fresh) {
            return Ok(value);
        }
        if trouble.until.is_some_and(|until| now < until) {
            return Err(trouble.why.clone());
        }
        let fetched = tokio::time::timeout(PATIENCE, Box::pin(self.source.fetch())).await;
        match fetched.unwrap_or_else(|_| Err("it took too long".into())) {
            Ok(fetched) => {
                if trouble.failures > 0 {
                    tracing::info!(provider = self.name, "a credential could be had again");
                }
                *trouble = Trouble::default();
                let held = Held::of(fetched, SystemTime::now());
                let value = held.value.clone();
                self.held.store(Some(Arc::new(held)));
                Ok(value)
            }
            Err(why) => {
                let pause = FIRST_PAUSE * (1 << trouble.failures.min(10));
                trouble.failures += 1;
                trouble.until = Some(SystemTime::now() + pause.min(LONGEST_PAUSE));
                tracing::warn!(
                    provider = self.name,
                    reason = why,
                    in_use = ahead,
                    "no new credential could be had"
                );
                trouble.why.clone_from(&why);
                Err(why)
            }
        }
    }
}

impl<T> Held<T> {
    fn of(fetched: Fetched<T>, now: SystemTime) -> Self {
        let renew = fetched.expires.map(|expires| {
            let left = expires.duration_since(now).unwrap_or_default();
            let ahead = if left < AHEAD * SHORT {
                left / SHORT
            } else {
                AHEAD
            };
            // One that is handed out again shortly before its end isn't asked for all the time.
            (expires - ahead).max(now + Duration::from_secs(1).min(left / 2))
        });
        Self {
            value: Arc::new(fetched.value),
            since: now,
            renew: renew.or_else(|| fetched.again.map(|again| now + again)),
            ends: fetched.expires.map(|expires| {
                let left = expires.duration_since(now).unwrap_or_default();
                expires - MARGIN.min(left / 10)
            }),
        }
    }
}
