//! Budgets: how much may be spent in a time, held to the last digit.
//!
//! What a request may cost at most is reserved in all of its budgets before anything is sent, in one step: either
//! every budget has room or none is touched. What it did cost is settled afterwards, and the rest goes back; dropped
//! unsettled, all of it goes back. So however many requests run at once, what is spent and what is reserved never
//! exceed a budget together; only a request that costs more than was reserved for it can.
//!
//! Amounts are 10⁻¹² USD.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use parking_lot::Mutex;

use super::balance::{self, Balance, STEPS};
use super::named;
use super::shared::Lot;

/// What has been spent by this many scopes is held; beyond it those that are over or untouched go first, and when none
/// is, a scope that is not held yet is refused: money that can't be counted is not spent.
pub const MOST_ACCOUNTS: usize = 200_000;
/// Of those so many may be of end users and tags, which whoever asks can make up: keys and teams find room all the same.
pub const MOST_NAMED: usize = 150_000;

/// So many requests whose cost nobody knows fit into any budget at once, at least.
const PART: u64 = 20;

/// How much may be spent, over what time.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    pub most_pico: u64,
    pub every: Every,
    /// The last such time, instead of the calendar's current one. Without meaning for [`Every::Ever`].
    pub rolling: bool,
    /// Where days begin.
    pub zone: TimeZone,
    /// When it was made, where that is known by itself; see [`since`](super::since).
    pub since: Option<Timestamp>,
}

impl Budget {
    /// Returns whether what was spent `at` a time counts now.
    pub fn counts(&self, at: Timestamp, now: Timestamp) -> bool {
        match (self.every, self.rolling) {
            (Every::Ever, _) => true,
            (every, true) => {
                let first = Balance::first_step(every, now.as_second());
                balance::step(every, at.as_second()) >= first
            }
            (_, false) => at.as_second() >= balance::period(self, now).0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Every {
    /// Once, for good.
    Ever,
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
}

impl Every {
    pub const ALL: [(&'static str, Every); 5] = [
        ("ever", Every::Ever),
        ("hour", Every::Hour),
        ("day", Every::Day),
        ("week", Every::Week),
        ("month", Every::Month),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Every::Ever => "ever",
            Every::Hour => "hour",
            Every::Day => "day",
            Every::Week => "week",
            Every::Month => "month",
        }
    }

    /// Returns the length of a rolling window; a month is 30 days.
    pub(super) fn seconds(self) -> i64 {
        match self {
            Every::Ever => i64::MAX,
            Every::Hour => 3600,
            Every::Day => 86_400,
            Every::Week => 7 * 86_400,
            Every::Month => 30 * 86_400,
        }
    }

    pub(super) fn span(self) -> Span {
        match self {
            Every::Ever => Span::new(),
            Every::Hour => 1.hour(),
            Every::Day => 1.day(),
            Every::Week => 1.week(),
            Every::Month => 1.month(),
        }
    }
}

/// Who spends: a key, an end user, a tag.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    /// `key:team-a`, `user:42`: unique, and the same after a restart.
    pub name: Arc<str>,
    pub budgets: Arc<[Budget]>,
}

/// A budget that has no room.
#[derive(Debug, Clone, PartialEq)]
pub struct Over {
    pub scope: Arc<str>,
    pub every: Every,
    pub rolling: bool,
    pub most_pico: u64,
    pub spent_pico: u64,
    pub reserved_pico: u64,
    /// What was asked for.
    pub asked_pico: u64,
    /// When there will be room again, as far as what is spent decides; `None`: never by itself.
    pub resets: Option<Timestamp>,
    /// Too many scopes are counted already.
    pub crowded: bool,
}

/// How a budget stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    pub every: Every,
    pub rolling: bool,
    pub most_pico: u64,
    pub spent_pico: u64,
    pub reserved_pico: u64,
    pub resets: Option<Timestamp>,
}

/// What one scope has spent in one window: what outlives a restart.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Spent {
    pub scope: Box<str>,
    pub every: Every,
    pub rolling: bool,
    /// Seconds since 1970 and what was spent from there: the calendar's one period, or the steps of a rolling window.
    pub steps: Vec<(i64, u64)>,
}

/// All that is spent and reserved.
#[derive(Default)]
pub struct Budgets {
    // One lock over all accounts: a request is held to all of its budgets or to none. It is held for well under a
    // microsecond.
    held: Mutex<Held>,
    /// How often something was spent.
    changes: AtomicU64,
    /// Told of each settlement, when the lock is free again.
    listener: OnceLock<Listener>,
}

#[derive(Default)]
struct Held {
    accounts: HashMap<Account, Balance>,
    /// Of end users and tags.
    named: usize,
    /// When there was no room last, in seconds since 1970: what makes room takes long where there are many.
    swept: i64,
}

type Listener = Box<dyn Fn(&Spending) + Send + Sync>;

/// What one settlement spent of one budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Spending {
    pub scope: Arc<str>,
    pub every: Every,
    pub rolling: bool,
    pub most_pico: u64,
    pub before_pico: u64,
    pub after_pico: u64,
}

/// What one budget is counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    pub scope: Arc<str>,
    pub every: Every,
    pub rolling: bool,
}

impl Account {
    pub fn new(scope: &Arc<str>, budget: &Budget) -> Self {
        Self {
            scope: scope.clone(),
            every: budget.every,
            rolling: budget.rolling && budget.every != Every::Ever,
        }
    }
}

/// Money held for one request. Dropped unsettled it goes back.
#[must_use = "dropped at once it holds nothing"]
pub struct Reservation {
    budgets: Arc<Budgets>,
    accounts: Vec<Account>,
    /// How much each may spend.
    most: Vec<u64>,
    pico: u64,
    /// What it holds of what all nodes count together.
    lot: Option<Lot>,
}

impl Reservation {
    /// Returns what is held.
    pub fn pico(&self) -> u64 {
        self.pico
    }

    /// Has it hold what all nodes count together.
    pub fn share(&mut self, lot: Option<Lot>) {
        self.lot = lot;
    }

    /// Spends what the request did cost, and gives the rest back.
    pub fn settle(mut self, pico: u64, now: Timestamp) {
        let lot = self.lot.take();
        let untold = lot.as_ref().is_some_and(|lot| !lot.is_granted());
        // Of what all nodes spend together one of them tells, when it is counted there.
        let alone = lot.is_none();
        let listener = self.budgets.listener.get();
        let listener = listener.filter(|_| pico > 0 && alone);
        let mut spendings = Vec::new();
        let mut held = self.budgets.held.lock();
        for (account, most) in self.accounts.iter().zip(&self.most) {
            let balance = held.entry(account);
            balance.reserved = balance.reserved.saturating_sub(self.pico);
            let before = balance.spent;
            match untold {
                true => balance.spend_apart(pico, now),
                false => balance.spend((account.every, account.rolling), pico, now),
            }
            if listener.is_some() {
                spendings.push(Spending::of(account, *most, (before, balance.spent)));
            }
        }
        drop(held);
        if let Some(listener) = listener {
            spendings.iter().for_each(listener);
        }
        if pico > 0 && !self.accounts.is_empty() {
            self.budgets.changes.fetch_add(1, Ordering::Relaxed);
        }
        self.accounts.clear();
        if let Some(lot) = lot {
            lot.spend(pico);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut held = self.budgets.held.lock();
        for account in &self.accounts {
            if let Some(balance) = held.accounts.get_mut(account) {
                balance.reserved = balance.reserved.saturating_sub(self.pico);
            }
        }
    }
}

impl Budgets {
    /// Holds `pico` in every budget of `scopes`, or says which has no room and holds nothing.
    ///
    /// A budget that is spent has no room for a request that costs nothing either.
    pub fn reserve(
        self: &Arc<Self>,
        scopes: &[Scope],
        pico: u64,
        now: Timestamp,
    ) -> Result<Reservation, Box<Over>> {
        self.hold(scopes, pico, false, now)
    }

    /// Holds some of `pico` in every budget of `scopes`, for a request whose cost nobody knows: of each a [`PART`] at most,
    /// and no more than there is. Only where there is nothing left it says so.
    pub fn reserve_some(
        self: &Arc<Self>,
        scopes: &[Scope],
        pico: u64,
        now: Timestamp,
    ) -> Result<Reservation, Box<Over>> {
        self.hold(scopes, pico, true, now)
    }

    fn hold(
        self: &Arc<Self>,
        scopes: &[Scope],
        mut pico: u64,
        some: bool,
        now: Timestamp,
    ) -> Result<Reservation, Box<Over>> {
        let mut held = self.held.lock();
        let mut accounts = Vec::new();
        let mut most = Vec::new();
        for scope in scopes {
            for budget in scope.budgets.iter() {
                let account = Account::new(&scope.name, budget);
                if !held.accounts.contains_key(&account) && !held.has_room(&account, now) {
                    let none = Balance::default();
                    return Err(Box::new(over(scope, budget, &none, pico, true)));
                }
                let balance = held.entry(&account);
                balance.advance(budget, now);
                let taken = balance.spent.saturating_add(balance.reserved);
                if some {
                    let part = (budget.most_pico / PART).max(1);
                    pico = pico
                        .min(part)
                        .min(budget.most_pico.saturating_sub(taken).max(1));
                }
                if taken >= budget.most_pico || taken.saturating_add(pico) > budget.most_pico {
                    let asked = if some { 0 } else { pico };
                    return Err(Box::new(over(scope, budget, balance, asked, false)));
                }
                accounts.push(account);
                most.push(budget.most_pico);
            }
        }
        for account in &accounts {
            if let Some(balance) = held.accounts.get_mut(account) {
                balance.reserved = balance.reserved.saturating_add(pico);
            }
        }
        drop(held);
        Ok(Reservation {
            budgets: self.clone(),
            accounts,
            most,
            pico,
            lot: None,
        })
    }

    /// Counts what was spent without having been reserved, by a request whose process was killed, `at` a time that
    /// [counts](Budget::counts) for all of these.
    ///
    /// The listener is told where this node counts `alone`.
    pub fn charge(
        &self,
        scopes: &[Scope],
        pico: u64,
        (at, now): (Timestamp, Timestamp),
        alone: bool,
    ) {
        let listener = self.listener.get().filter(|_| alone);
        let mut spendings = Vec::new();
        let mut held = self.held.lock();
        for scope in scopes {
            for budget in scope.budgets.iter() {
                let account = Account::new(&scope.name, budget);
                let balance = held.entry(&account);
                balance.advance(budget, now);
                let before = balance.spent;
                balance.spend((account.every, account.rolling), pico, at.min(now));
                if listener.is_some() {
                    let after = balance.spent;
                    spendings.push(Spending::of(&account, budget.most_pico, (before, after)));
                }
            }
        }
        drop(held);
        if let Some(listener) = listener {
            spendings.iter().for_each(listener);
        }
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns what is spent of an account, as in [`Spent::steps`].
    pub fn steps(&self, account: &Account) -> Vec<(i64, u64)> {
        let held = self.held.lock();
        let balance = held.accounts.get(account);
        balance.map_or_else(Vec::new, |balance| balance.steps.clone())
    }

    /// Returns when a budget has room again, as far as what is spent decides.
    pub fn resets(&self, scope: &Scope, budget: &Budget) -> Option<Timestamp> {
        let held = self.held.lock();
        let balance = held.accounts.get(&Account::new(&scope.name, budget))?;
        balance.resets(budget).filter(|_| balance.spent > 0)
    }

    /// Takes over what all nodes have spent together: `steps`, and what this one has spent and not said yet. Of it `own`
    /// was said by this node and is counted there now, of a budget of `most`.
    pub fn know(
        &self,
        account: &Account,
        steps: Vec<(i64, u64)>,
        unsaid: u64,
        (own, most): (u64, u64),
    ) {
        let spent = steps.iter().map(|(_, pico)| *pico).sum::<u64>();
        let mut held = self.held.lock();
        let balance = held.entry(account);
        balance.steps = steps;
        balance.spent = spent;
        balance.apart = None;
        balance.spend((account.every, account.rolling), unsaid, Timestamp::now());
        drop(held);
        self.changes.fetch_add(1, Ordering::Relaxed);
        if let Some(listener) = self.listener.get().filter(|_| own > 0) {
            let spending = Spending::of(account, most, (spent.saturating_sub(own), spent));
            listener(&spending);
        }
    }

    /// Has `listener` told of each settlement; the first one alone.
    pub fn listen(&self, listener: Box<dyn Fn(&Spending) + Send + Sync>) {
        let _ = self.listener.set(listener);
    }

    /// Returns how each budget of a scope stands.
    pub fn standing(&self, scope: &Scope, now: Timestamp) -> Vec<Standing> {
        let mut held = self.held.lock();
        let standing = |budget: &Budget| {
            let account = Account::new(&scope.name, budget);
            let mut none = Balance::default();
            let balance = held.accounts.get_mut(&account).unwrap_or(&mut none);
            balance.advance(budget, now);
            Standing {
                every: budget.every,
                rolling: account.rolling,
                most_pico: budget.most_pico,
                spent_pico: balance.spent,
                reserved_pico: balance.reserved,
                resets: balance.resets(budget),
            }
        };
        scope.budgets.iter().map(standing).collect()
    }

    /// Returns a number that grows with all that is spent.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Returns all that is spent, to be kept over a restart.
    pub fn spent(&self) -> Vec<Spent> {
        let held = self.held.lock();
        let spent = held
            .accounts
            .iter()
            .filter(|(_, balance)| balance.spent > 0);
        spent
            .map(|(account, balance)| Spent {
                scope: (*account.scope).into(),
                every: account.every,
                rolling: account.rolling,
                steps: balance.steps.clone(),
            })
            .collect()
    }

    /// Takes up what was spent before a restart; it adds to what has been spent since.
    pub fn restore(&self, spent: impl IntoIterator<Item = Spent>) {
        let mut held = self.held.lock();
        for spent in spent.into_iter().take(MOST_ACCOUNTS) {
            let account = Account {
                scope: spent.scope.into(),
                every: spent.every,
                rolling: spent.rolling,
            };
            let balance = held.entry(&account);
            for (at, pico) in spent.steps {
                balance.spent = balance.spent.saturating_add(pico);
                balance.steps.push((at, pico));
            }
            balance.steps.sort_unstable_by_key(|(at, _)| *at);
        }
    }
}

impl Spending {
    fn of(account: &Account, most_pico: u64, (before_pico, after_pico): (u64, u64)) -> Self {
        Self {
            scope: account.scope.clone(),
            every: account.every,
            rolling: account.rolling,
            most_pico,
            before_pico,
            after_pico,
        }
    }
}

impl Held {
    fn entry(&mut self, account: &Account) -> &mut Balance {
        let Self {
            accounts, named, ..
        } = self;
        accounts.entry(account.clone()).or_insert_with(|| {
            *named += usize::from(named::is_named(&account.scope));
            Balance::default()
        })
    }

    /// Returns whether one more account may be held, and makes room where there is none.
    fn has_room(&mut self, account: &Account, now: Timestamp) -> bool {
        let is_named = named::is_named(&account.scope);
        let has = |held: &Self| {
            held.accounts.len() < MOST_ACCOUNTS && !(is_named && held.named >= MOST_NAMED)
        };
        if !has(self) && self.swept != now.as_second() {
            self.swept = now.as_second();
            self.sweep(now);
        }
        has(self)
    }

    /// Drops accounts that hold nothing, and those whose window is over.
    fn sweep(&mut self, now: Timestamp) {
        let seconds = now.as_second();
        self.accounts.retain(|account, balance| {
            let over = match (account.every, account.rolling) {
                (Every::Ever, _) => false,
                (_, false) => balance.ends.is_some_and(|ends| ends <= seconds),
                (every, true) => balance.steps.last().is_none_or(|(at, _)| {
                    at + every.seconds() + every.seconds() / STEPS <= seconds
                }),
            };
            balance.reserved > 0 || !(over || balance.is_idle())
        });
        let scopes = self.accounts.keys().map(|account| &account.scope);
        self.named = scopes.filter(|scope| named::is_named(scope)).count();
    }
}

fn over(scope: &Scope, budget: &Budget, balance: &Balance, asked: u64, crowded: bool) -> Over {
    Over {
        scope: scope.name.clone(),
        every: budget.every,
        rolling: budget.rolling,
        most_pico: budget.most_pico,
        spent_pico: balance.spent,
        reserved_pico: balance.reserved,
        asked_pico: asked,
        // Less is asked for, or less is under way: that may be at any moment.
        resets: balance.resets(budget).filter(|_| balance.spent > 0),
        crowded,
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
