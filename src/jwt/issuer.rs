//! Who signs tokens: where their keys are, fetched in the background and kept while they can't be had.
//!
//! A request waits for an issuer only where it is being asked anyway, and never longer than [`WAIT`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::keys::Keys;
use crate::identity::http::{Reply, Request};
use crate::provider::account::Url;

/// Keys that a token names and nobody knows are asked for no more often than this, whatever is sent.
const BETWEEN: Duration = Duration::from_secs(5);
/// A request waits so long for keys.
pub const WAIT: Duration = Duration::from_secs(3);
/// After a failed fetch the next one waits; twice as long after each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Nothing is due for longer.
const IDLE: Duration = Duration::from_secs(60);
/// No fetch takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where an issuer is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// As tokens name it.
    pub issuer: String,
    /// Where its keys are; `None`: where its OpenID configuration says.
    pub jwks: Option<String>,
    /// Its keys are fetched again after this.
    pub refresh: Duration,
}

/// An issuer, and what is known of it.
pub struct Issuer {
    pub address: Address,
    held: ArcSwapOption<Held>,
    schedule: Mutex<Schedule>,
    /// Counts fetches that are over, whatever came of them.
    over: watch::Sender<u64>,
    told: Arc<Notify>,
}

/// What an issuer has said of itself.
#[derive(Debug)]
pub struct Held {
    pub keys: Keys,
    /// `None` where only its keys were asked for.
    pub endpoints: Option<Endpoints>,
    /// Counts changes of its keys: what was proven by those before is proven anew.
    pub edition: u64,
    since: Instant,
}

/// Where people sign in, <https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    pub authorize: String,
    pub token: String,
    pub userinfo: Option<String>,
    /// The client shows its secret in `authorization`, else in the form.
    pub basic: bool,
}

/// When it is asked next.
struct Schedule {
    next: Instant,
    busy: bool,
    last: Option<Instant>,
    failures: u32,
    why: Option<String>,
}

/// How an issuer stands.
pub struct Status {
    pub issuer: String,
    pub keys: usize,
    pub age: Option<Duration>,
    pub failure: Option<String>,
}

#[derive(serde::Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// Returns whether what comes from an address can be believed: it is encrypted, or doesn't leave the machine.
pub fn is_safe(url: &str) -> bool {
    Url::parse(url).is_some_and(|url| {
        let address = url.host.parse::<std::net::IpAddr>();
        let near = address.map_or(url.host == "localhost", |address| address.is_loopback());
        url.tls || near
    })
}

impl Issuer {
    fn new(address: Address, told: Arc<Notify>) -> Self {
        Self {
            address,
            held: ArcSwapOption::empty(),
            schedule: Mutex::new(Schedule {
                next: Instant::now(),
                busy: false,
                last: None,
                failures: 0,
                why: None,
            }),
            over: watch::Sender::new(0),
            told,
        }
    }

    /// Returns what is known of it.
    pub fn held(&self) -> Option<Arc<Held>> {
        self.held.load_full()
    }

    /// Returns what is known of it, and waits for it where nothing is.
    pub async fn known(&self) -> Option<Arc<Held>> {
        if let Some(held) = self.held() {
            return Some(held);
        }
        self.renewed().await;
        self.held()
    }

    /// Has it asked anew, where it wasn't just asked, and waits for what comes of it.
    pub async fn renewed(&self) {
        let mut over = self.over.subscribe();
        {
            let mut schedule = self.schedule.lock();
            let now = Instant::now();
            let pause = match schedule.failures {
                0 => BETWEEN,
                failures => pause(failures),
            };
            let is_early = schedule.last.is_some_and(|last| now < last + pause);
            if !schedule.busy {
                if is_early {
                    return;
                }
                schedule.next = now;
            }
        }
        self.told.notify_one();
        let _ = tokio::time::timeout(WAIT, over.changed()).await;
    }

    pub fn status(&self) -> Status {
        let held = self.held();
        Status {
            issuer: self.address.issuer.clone(),
            keys: held.as_ref().map_or(0, |held| held.keys.len()),
            age: held.map(|held| held.since.elapsed()),
            failure: self.schedule.lock().why.clone(),
        }
    }

    async fn fetch(self: Arc<Self>) {
        let fetching = tokio::time::timeout(PATIENCE, Box::pin(self.ask())).await;
        let fetched = fetching.unwrap_or_else(|_| Err("it took too long".into()));
        let now = Instant::now();
        let mut schedule = self.schedule.lock();
        schedule.busy = false;
        schedule.last = Some(now);
        match fetched {
            Ok((keys, endpoints)) => {
                if schedule.why.take().is_some() {
                    tracing::info!(issuer = self.address.issuer, "the issuer answers again");
                }
                schedule.failures = 0;
                schedule.next = now + self.address.refresh;
                let before = self.held();
                let edition =
                    before.map_or(1, |before| before.edition + u64::from(before.keys != keys));
                self.held.store(Some(Arc::new(Held {
                    keys,
                    endpoints,
                    edition,
                    since: now,
                })));
            }
            Err(why) => {
                schedule.failures = schedule.failures.saturating_add(1);
                schedule.next = now + pause(schedule.failures);
                if schedule.why.as_ref() != Some(&why) {
                    tracing::warn!(
                        issuer = self.address.issuer,
                        reason = why,
                        "the issuer's keys could not be had: the last ones stay"
                    );
                }
                schedule.why = Some(why);
            }
        }
        drop(schedule);
        self.over.send_modify(|count| *count += 1);
    }

    async fn ask(&self) -> Result<(Keys, Option<Endpoints>), String> {
        let (jwks, endpoints) = match &self.address.jwks {
            Some(url) => (url.clone(), None),
            None => {
                let issuer = self.address.issuer.trim_end_matches('/');
                let url = format!("{issuer}/.well-known/openid-configuration");
                let body = get(&url).await.map_err(of("its OpenID configuration"))?;
                self.read(&body).map_err(of("its OpenID configuration"))?
            }
        };
        let body = get(&jwks).await.map_err(of("its keys"))?;
        let keys = Keys::read(&body).map_err(of("its keys"))?;
        Ok((keys, endpoints))
    }

    fn read(&self, body: &[u8]) -> Result<(String, Option<Endpoints>), String> {
        let told: Configuration = serde_json::from_slice(body).map_err(|_| "the answer is none")?;
        if told.issuer != self.address.issuer {
            let shown: String = told.issuer.chars().take(200).collect();
            return Err(format!(
                "it is that of {shown:?}, which must be the same text"
            ));
        }
        let urls = [
            Some(&told.jwks_uri),
            told.authorization_endpoint.as_ref(),
            told.token_endpoint.as_ref(),
            told.userinfo_endpoint.as_ref(),
        ];
        if urls.into_iter().flatten().any(|url| !is_safe(url)) {
            return Err("an address in it is not HTTPS".into());
        }
        let methods = told.token_endpoint_auth_methods_supported;
        let basic = methods.is_none_or(|all| all.iter().any(|one| one == "client_secret_basic"));
        let endpoints =
            told.authorization_endpoint
                .zip(told.token_endpoint)
                .map(|(authorize, token)| Endpoints {
                    authorize,
                    token,
                    userinfo: told.userinfo_endpoint,
                    basic,
                });
        Ok((told.jwks_uri, endpoints))
    }
}

fn pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE * (1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST_PAUSE)
}

fn of(what: &'static str) -> impl Fn(String) -> String {
    move |why| format!("{what}: {why}")
}

fn of_status(reply: Reply) -> Result<Vec<u8>, String> {
    match reply.status {
        200 => Ok(reply.body),
        status => Err(format!("the answer was status {status}")),
    }
}

async fn get(url: &str) -> Result<Vec<u8>, String> {
    Request::get(url).send().await.and_then(of_status)
}

/// The issuers that are asked.
#[derive(Default)]
pub struct Issuers {
    all: Mutex<HashMap<Address, Arc<Issuer>>>,
    told: Arc<Notify>,
}

impl Issuers {
    /// Returns the issuers of these addresses, in order; what is known of one lives on while it is wanted.
    pub fn follow(&self, wanted: &[Address]) -> Vec<Arc<Issuer>> {
        let mut all = self.all.lock();
        all.retain(|address, _| wanted.contains(address));
        let one = |address: &Address| {
            let found = all.entry(address.clone());
            let new = || Arc::new(Issuer::new(address.clone(), self.told.clone()));
            found.or_insert_with(new).clone()
        };
        let followed = wanted.iter().map(one).collect();
        drop(all);
        self.told.notify_one();
        followed
    }

    pub fn status(&self) -> Vec<Status> {
        let mut all: Vec<Status> = self.all.lock().values().map(|one| one.status()).collect();
        all.sort_by(|one, other| one.issuer.cmp(&other.issuer));
        all
    }

    /// Asks whoever is due, for as long as it is polled.
    pub async fn run(&self) {
        let mut fetches = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            let mut next = now + IDLE;
            let all: Vec<Arc<Issuer>> = self.all.lock().values().cloned().collect();
            for issuer in all {
                let mut schedule = issuer.schedule.lock();
                if schedule.busy {
                    continue;
                }
                if schedule.next > now {
                    next = next.min(schedule.next);
                    continue;
                }
                schedule.busy = true;
                drop(schedule);
                fetches.push(Box::pin(issuer.fetch()));
            }
            tokio::select! {
                () = self.told.notified() => {}
                Some(()) = fetches.next(), if !fetches.is_empty() => {}
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }
}
