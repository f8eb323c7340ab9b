//! Limits and budgets of several nodes together, counted in Redis.
//!
//! A node takes slices of an account and admits from them, so that most requests ask nobody; the next slice is fetched
//! before the first is used up, and only who finds too little waits for an answer. The nearer an account is to its end,
//! the smaller its slices; in [`Mode::Exact`] there are none, and every request asks. Adding nodes adds nothing to
//! what there is: what one holds no other is granted.
//!
//! What is held too long goes back: of a slice what is free for a second, and all of it when a node has not
//! been heard of for a minute (money) or twenty seconds (places). Such a node hands out nothing more by itself.
//!
//! All is counted on this node, too, as if there were no Redis: when it is away, and the rule is to go on,
//! each node holds to that.

mod account;
mod lot;
mod script;
mod wallet;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, mpsc, oneshot};

use super::budget::{Account, Budgets, Over, Scope};
use super::{Amount, Denied, Limited, Which};
use crate::state::redis::Redis;
use account::{Bound, Key, Of};
use lot::Item;
pub use lot::Lot;
use wallet::{Refusal, Taken, Wallet};

/// Who waits for an answer at once; one more finds Redis away.
const MOST_ASKS: usize = 8192;
/// Accounts that are looked after; beyond it those of new ones are counted on each node alone.
const MOST_WALLETS: usize = 400_000;
/// A place comes back at any moment.
const SLOT_WAIT: Duration = Duration::from_secs(1);

/// The `[state.shared]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    /// What becomes of requests when Redis is away: that are held to limits, and that are held to budgets.
    pub limits: Away,
    pub budgets: Away,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nodes take slices.
    Leased,
    /// Every request asks.
    Exact,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// Each node counts for itself.
    Open,
    /// They are refused.
    Closed,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Leased,
            limits: Away::Open,
            budgets: Away::Open,
        }
    }
}

/// What nodes count together. Clones share it.
#[derive(Clone)]
pub struct Shared {
    inner: Arc<Inner>,
}

/// What the thread and the requests share.
struct Inner {
    settings: Settings,
    redis: Redis,
    budgets: Arc<Budgets>,
    /// Names this process.
    node: String,
    /// Where the numbers of this process's reports begin.
    number: u64,
    wallets: DashMap<Key, Arc<Wallet>>,
    asks: mpsc::Sender<Ask>,
    /// What is to be reported.
    dirty: Mutex<Vec<Arc<Wallet>>>,
    soon: Notify,
    /// How much the server's clock is ahead, in microseconds.
    ahead_us: AtomicI64,
    tallies: Tallies,
    stops: AtomicBool,
    ended: Mutex<bool>,
    end: Condvar,
}

/// A request that found too little.
struct Ask {
    wants: Vec<Wanted>,
    reply: oneshot::Sender<Answer>,
}

struct Wanted {
    wallet: Arc<Wallet>,
    amount: u64,
}

enum Answer {
    Granted(Vec<Item>),
    /// By which of them.
    Refused(usize, Refusal),
    Away,
}

/// Why nothing is handed out.
#[derive(Debug)]
pub enum Short<R> {
    Refused(R),
    /// Redis is away, and the rule is to refuse.
    Away,
}

#[derive(Default)]
struct Tallies {
    held: AtomicU64,
    asked: AtomicU64,
    refused: AtomicU64,
    away: AtomicU64,
    calls: AtomicU64,
}

/// What has happened since the start, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were admitted from what the node held, that waited for an answer, that were refused, and that
    /// found Redis away.
    pub held: u64,
    pub asked: u64,
    pub refused: u64,
    pub away: u64,
    /// Calls to Redis.
    pub calls: u64,
    pub accounts: u64,
}

impl Shared {
    /// Starts the thread that speaks with Redis.
    pub fn start(settings: Settings, redis: Redis, budgets: Arc<Budgets>) -> Self {
        let (asks, waiting) = mpsc::channel(MOST_ASKS);
        let micros = Timestamp::now().as_microsecond();
        let inner = Arc::new(Inner {
            settings,
            redis,
            budgets,
            node: format!("{:016x}", fastrand::u64(..)),
            number: u64::try_from(micros / 1000).unwrap_or(0),
            wallets: DashMap::new(),
            asks,
            dirty: Mutex::default(),
            soon: Notify::new(),
            ahead_us: AtomicI64::new(0),
            tallies: Tallies::default(),
            stops: AtomicBool::new(false),
            ended: Mutex::new(false),
            end: Condvar::new(),
        });
        let theirs = inner.clone();
        let started = std::thread::Builder::new()
            .name("shared".into())
            .spawn(move || worker::run(&theirs, waiting));
        if let Err(error) = started {
            tracing::error!(%error, "the thread that shares limits can't be started: each node counts alone");
            *inner.ended.lock() = true;
        }
        Self { inner }
    }

    /// Takes what a request needs of limits, of all or of none. `None`: there is nothing to take.
    pub async fn limits<'l>(
        &self,
        limited: impl Iterator<Item = &'l Limited> + Clone,
        amount: Amount,
    ) -> Result<Option<Lot>, Short<Denied>> {
        let wants = self.wants_of(limited.clone(), &amount);
        let taken = match self.inner.take(&wants) {
            Err(Missing::Lack) => self.inner.ask(&wants).await,
            taken => taken,
        };
        self.limited(taken, wants, limited, amount)
    }

    /// [`Self::limits`] without waiting: who finds too little is refused, and finds more a little later.
    pub fn limits_at_once<'l>(
        &self,
        limited: impl Iterator<Item = &'l Limited> + Clone,
        amount: Amount,
    ) -> Result<Option<Lot>, Short<Denied>> {
        let wants = self.wants_of(limited.clone(), &amount);
        let taken = match self.inner.take(&wants) {
            Err(Missing::Lack) if self.inner.redis.is_available() => {
                self.inner.ask_later(&wants);
                let wait = Some(self.inner.redis.timeout());
                let refusal = Refusal {
                    wait,
                    ..Refusal::default()
                };
                Err(Missing::Refused(0, refusal))
            }
            Err(Missing::Lack) => Err(Missing::Away),
            taken => taken,
        };
        self.limited(taken, wants, limited, amount)
    }

    fn limited<'l>(
        &self,
        taken: Result<Vec<Item>, Missing>,
        wants: Vec<Want<'_>>,
        limited: impl Iterator<Item = &'l Limited>,
        amount: Amount,
    ) -> Result<Option<Lot>, Short<Denied>> {
        let rule = self.inner.settings.limits;
        match self.inner.lot(taken, &wants, rule) {
            Ok(lot) => Ok(lot),
            Err(Short::Away) => Err(Short::Away),
            Err(Short::Refused((at, refusal))) => {
                let Of::Limit(which) = wants[at].key.of else {
                    return Err(Short::Away);
                };
                let levels = wants.iter().filter_map(|want| self.inner.wallet(&want.key));
                let headers = lot::headers(levels.map(|wallet| (wallet.key.of, wallet)));
                let name = wants[at].key.name.clone();
                let mut limited = limited;
                let what = limited.find(|limited| limited.name == name);
                let what = what.map(|limited| (limited.what, limited.limits.of(which)));
                let Some((what, Some(limit))) = what else {
                    return Err(Short::Away);
                };
                Err(Short::Refused(Denied {
                    what,
                    key: name,
                    which,
                    limit,
                    requested: amount.of(which),
                    retry_after: Some(refusal.wait.unwrap_or(SLOT_WAIT)),
                    headers,
                }))
            }
        }
    }

    /// Takes `pico` of every budget of `scopes`, or of none. `None`: there is nothing to take.
    pub async fn budgets(
        &self,
        scopes: &[Scope],
        pico: u64,
    ) -> Result<Option<Lot>, Short<Box<Over>>> {
        let wants = self.money(scopes, pico);
        let taken = match self.inner.take(&wants) {
            Err(Missing::Lack) => self.inner.ask(&wants).await,
            taken => taken,
        };
        let rule = self.inner.settings.budgets;
        self.inner
            .lot(taken, &wants, rule)
            .map_err(|short| match short {
                Short::Away => Short::Away,
                Short::Refused((at, refusal)) => {
                    let mut budgets = scopes
                        .iter()
                        .flat_map(|scope| scope.budgets.iter().map(move |budget| (scope, budget)));
                    match budgets.nth(at) {
                        None => Short::Away,
                        Some((scope, budget)) => Short::Refused(Box::new(Over {
                            scope: scope.name.clone(),
                            every: budget.every,
                            rolling: budget.rolling,
                            most_pico: budget.most_pico,
                            spent_pico: refusal.spent,
                            reserved_pico: refusal.held,
                            asked_pico: pico,
                            resets: self.inner.budgets.resets(scope, budget),
                            crowded: false,
                        })),
                    }
                }
            })
    }

    /// Counts what was spent without having been taken: by a request whose process was killed.
    pub fn charge(&self, scopes: &[Scope], pico: u64) {
        for want in self.money(scopes, 0) {
            let Some(wallet) = self.inner.wallet(&want.key) else {
                continue;
            };
            wallet.force(want.bound, 0, Instant::now());
            if wallet.spend(0, false, pico) {
                self.inner.report(&wallet);
            }
        }
    }

    /// Says and gives back all that is held, and ends the thread. Returns whether it was in time. It blocks.
    pub fn close(&self, timeout: Duration) -> bool {
        self.inner.stops.store(true, Ordering::Release);
        self.inner.soon.notify_one();
        let until = Instant::now() + timeout;
        let mut ended = self.inner.ended.lock();
        while !*ended {
            if self.inner.end.wait_until(&mut ended, until).timed_out() {
                break;
            }
        }
        *ended
    }

    pub fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let tallies = &self.inner.tallies;
        Counts {
            held: of(&tallies.held),
            asked: of(&tallies.asked),
            refused: of(&tallies.refused),
            away: of(&tallies.away),
            calls: of(&tallies.calls),
            accounts: self.inner.wallets.len() as u64,
        }
    }

    fn wants_of<'l>(
        &self,
        limited: impl Iterator<Item = &'l Limited>,
        amount: &Amount,
    ) -> Vec<Want<'l>> {
        let mut wants = Vec::new();
        for limited in limited {
            for which in Which::ALL {
                let Some(limit) = limited.limits.of(which) else {
                    continue;
                };
                wants.push(Want {
                    key: Key {
                        name: limited.name.clone(),
                        of: Of::Limit(which),
                    },
                    bound: Bound::Limit(limit),
                    amount: amount.of(which),
                });
            }
        }
        wants
    }

    fn money<'s>(&self, scopes: &'s [Scope], pico: u64) -> Vec<Want<'s>> {
        let mut wants = Vec::new();
        for scope in scopes {
            for budget in scope.budgets.iter() {
                let account = Account::new(&scope.name, budget);
                wants.push(Want {
                    key: Key {
                        name: account.scope,
                        of: Of::Budget(account.every, account.rolling),
                    },
                    bound: Bound::Budget(budget),
                    amount: pico,
                });
            }
        }
        wants
    }
}

/// What is needed of one account.
struct Want<'b> {
    key: Key,
    bound: Bound<'b>,
    amount: u64,
}

enum Missing {
    /// Redis is to be asked.
    Lack,
    /// By which of them.
    Refused(usize, Refusal),
    Away,
}

impl Inner {
    fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// Returns the server's time, in microseconds since 1970.
    fn now_us(&self) -> i64 {
        Timestamp::now()
            .as_microsecond()
            .saturating_add(self.ahead_us.load(Ordering::Relaxed))
    }

    /// Returns the wallet of an account; `None` where there are too many.
    fn wallet(&self, key: &Key) -> Option<Arc<Wallet>> {
        if let Some(wallet) = self.wallets.get(key) {
            return Some(wallet.clone());
        }
        if self.wallets.len() >= MOST_WALLETS {
            return None;
        }
        let made = || {
            let wallet = Wallet::new(key.clone(), self.number, Instant::now());
            if let Of::Budget(every, rolling) = key.of {
                let account = Account {
                    scope: key.name.clone(),
                    every,
                    rolling,
                };
                wallet.seed(&self.budgets.steps(&account));
            }
            Arc::new(wallet)
        };
        Some(self.wallets.entry(key.clone()).or_insert_with(made).clone())
    }

    /// Takes all from what this node holds, or nothing.
    fn take(&self, wants: &[Want<'_>]) -> Result<Vec<Item>, Missing> {
        let now = Instant::now();
        let mut items: Vec<Item> = Vec::with_capacity(wants.len());
        for (at, want) in wants.iter().enumerate() {
            let Some(wallet) = self.wallet(&want.key) else {
                self.put_back(items);
                return Err(Missing::Away);
            };
            match wallet.take(want.bound, want.amount, self.mode(), now) {
                Taken::Done { since_us, low } => {
                    if low && wallet.queue() {
                        self.report(&wallet);
                    }
                    items.push(Item::granted(wallet, want.amount, since_us));
                }
                Taken::Lack => {
                    self.put_back(items);
                    return Err(Missing::Lack);
                }
                Taken::Refused(refusal) => {
                    self.put_back(items);
                    return Err(Missing::Refused(at, refusal));
                }
            }
        }
        self.tallies.held.fetch_add(1, Ordering::Relaxed);
        Ok(items)
    }

    fn put_back(&self, items: Vec<Item>) {
        for item in items {
            item.put_back(self);
        }
    }

    /// Asks Redis for what this node lacks.
    async fn ask(&self, wants: &[Want<'_>]) -> Result<Vec<Item>, Missing> {
        if !self.redis.is_available() {
            return Err(Missing::Away);
        }
        let Some(wanted) = self.wanted(wants) else {
            return Err(Missing::Away);
        };
        let (reply, answer) = oneshot::channel();
        let ask = Ask {
            wants: wanted,
            reply,
        };
        if self.asks.try_send(ask).is_err() {
            return Err(Missing::Away);
        }
        self.tallies.asked.fetch_add(1, Ordering::Relaxed);
        // The call under way, and the one with this request.
        let patience = 2 * self.redis.timeout() + Duration::from_millis(50);
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(Answer::Granted(items))) => Ok(items),
            Ok(Ok(Answer::Refused(at, refusal))) => Err(Missing::Refused(at, refusal)),
            Ok(Ok(Answer::Away) | Err(_)) | Err(_) => Err(Missing::Away),
        }
    }

    /// Has what is lacking fetched for whoever comes next.
    fn ask_later(&self, wants: &[Want<'_>]) {
        let Some(wants) = self.wanted(wants) else {
            return;
        };
        let (reply, _) = oneshot::channel();
        // Where there is no room for it, others are fetching.
        let _ = self.asks.try_send(Ask { wants, reply });
    }

    fn wanted(&self, wants: &[Want<'_>]) -> Option<Vec<Wanted>> {
        let wanted = wants.iter().map(|want| {
            let wallet = self.wallet(&want.key)?;
            wallet.bind(want.bound);
            Some(Wanted {
                wallet,
                amount: want.amount,
            })
        });
        wanted.collect()
    }

    /// Makes what was taken a lot; where Redis is away, by `rule`.
    fn lot(
        self: &Arc<Self>,
        taken: Result<Vec<Item>, Missing>,
        wants: &[Want<'_>],
        rule: Away,
    ) -> Result<Option<Lot>, Short<(usize, Refusal)>> {
        let items = match (taken, rule) {
            (Ok(items), _) => items,
            (Err(Missing::Refused(at, refusal)), _) => {
                self.tallies.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Short::Refused((at, refusal)));
            }
            (Err(Missing::Lack | Missing::Away), Away::Closed) => {
                self.tallies.away.fetch_add(1, Ordering::Relaxed);
                return Err(Short::Away);
            }
            (Err(Missing::Lack | Missing::Away), Away::Open) => {
                self.tallies.away.fetch_add(1, Ordering::Relaxed);
                let now = Instant::now();
                let forced = wants.iter().filter_map(|want| {
                    let wallet = self.wallet(&want.key)?;
                    wallet.force(want.bound, want.amount, now);
                    self.look_after(&wallet);
                    Some(Item::forced(wallet, want.amount))
                });
                forced.collect()
            }
        };
        Ok((!items.is_empty()).then(|| Lot::new(self.clone(), items)))
    }

    /// Has a wallet reported soon, which was noted as queued.
    fn report(&self, wallet: &Arc<Wallet>) {
        self.dirty.lock().push(wallet.clone());
        self.soon.notify_one();
    }

    /// Has a wallet reported, so that it is looked after.
    fn look_after(&self, wallet: &Arc<Wallet>) {
        if wallet.queue() {
            self.report(wallet);
        }
    }

    fn finished(&self) {
        *self.ended.lock() = true;
        self.end.notify_all();
    }
}
