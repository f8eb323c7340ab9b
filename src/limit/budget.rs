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
use jiff::{Span, Timestamp, ToSpan, Zoned};
use parking_lot::Mutex;

/// What has been spent by this many scopes is held; beyond it those that are over or untouched go first, and when none
/// is, a scope that is not held yet is refused: money that can't be counted is not spent.
pub const MOST_ACCOUNTS: usize = 200_000;
/// A rolling window is divided into this many steps: what was spent leaves it a step late at most.
const STEPS: i64 = 60;

/// How much may be spent, over what time.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    pub most_pico: u64,
    pub every: Every,
    /// The last such time, instead of the calendar's current one. Without meaning for [`Every::Ever`].
    pub rolling: bool,
    /// Where days begin.
    pub zone: TimeZone,
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
    fn seconds(self) -> i64 {
        match self {
            Every::Ever => i64::MAX,
            Every::Hour => 3600,
            Every::Day => 86_400,
            Every::Week => 7 * 86_400,
            Every::Month => 30 * 86_400,
        }
    }

    fn span(self) -> Span {
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
    accounts: Mutex<HashMap<Account, Balance>>,
    /// How often something was spent.
    changes: AtomicU64,
    /// Told of each settlement, when the lock is free again.
    listener: OnceLock<Listener>,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Account {
    scope: Arc<str>,
    every: Every,
    rolling: bool,
}

#[derive(Debug, Default)]
struct Balance {
    reserved: u64,
    spent: u64,
    /// As in [`Spent::steps`], oldest first.
    steps: Vec<(i64, u64)>,
    /// When the calendar's period ends; seconds since 1970.
    ends: Option<i64>,
}

impl Account {
    fn new(scope: &Arc<str>, budget: &Budget) -> Self {
        Self {
            scope: scope.clone(),
            every: budget.every,
            rolling: budget.rolling && budget.every != Every::Ever,
        }
    }
}

impl Balance {
    /// Forgets what lies before the window.
    fn advance(&mut self, budget: &Budget, now: Timestamp) {
        let seconds = now.as_second();
        if budget.every == Every::Ever {
            return;
        }
        if budget.rolling {
            let from = seconds - budget.every.seconds();
            let step = budget.every.seconds() / STEPS;
            let over = self.steps.iter().take_while(|(at, _)| at + step <= from);
            let over = over.count();
            for (_, spent) in self.steps.drain(..over) {
                self.spent = self.spent.saturating_sub(spent);
            }
            return;
        }
        if self.ends.is_some_and(|ends| seconds < ends) {
            return;
        }
        let (begins, ends) = period(budget, now);
        self.ends = Some(ends);
        let earlier = self.steps.iter().take_while(|(at, _)| *at < begins).count();
        for (_, spent) in self.steps.drain(..earlier) {
            self.spent = self.spent.saturating_sub(spent);
        }
    }

    fn spend(&mut self, account: &Account, pico: u64, now: Timestamp) {
        if pico == 0 {
            return;
        }
        self.spent = self.spent.saturating_add(pico);
        let seconds = now.as_second();
        let at = match (account.every, account.rolling) {
            (Every::Ever, _) => 0,
            (every, true) => {
                let step = every.seconds() / STEPS;
                seconds - seconds.rem_euclid(step)
            }
            // Any time within the period does; the first is kept.
            (_, false) => self.steps.last().map_or(seconds, |(at, _)| *at),
        };
        match self.steps.last_mut().filter(|(last, _)| *last >= at) {
            Some((_, spent)) => *spent = spent.saturating_add(pico),
            None => self.steps.push((at, pico)),
        }
    }

    fn resets(&self, budget: &Budget) -> Option<Timestamp> {
        let seconds = match (budget.every, budget.rolling) {
            (Every::Ever, _) => None,
            (_, false) => self.ends,
            (every, true) => self.steps.first().map(|(at, _)| {
                let step = every.seconds() / STEPS;
                at + step + every.seconds()
            }),
        };
        Timestamp::from_second(seconds?).ok()
    }

    fn is_idle(&self) -> bool {
        self.reserved == 0 && self.spent == 0
    }
}

/// Returns when the calendar's current period begins and ends, in seconds since 1970.
fn period(budget: &Budget, now: Timestamp) -> (i64, i64) {
    let local = now.to_zoned(budget.zone.clone());
    let hour = || {
        let begins = now.as_second() - now.as_second().rem_euclid(3600);
        (begins, begins + 3600)
    };
    let day = || local.start_of_day().ok();
    let begins: Option<Zoned> = match budget.every {
        Every::Ever => return (i64::MIN, i64::MAX),
        // In zones that are off by half an hour too: an hour is an hour.
        Every::Hour => return hour(),
        Every::Day => day(),
        Every::Week => {
            let since = i64::from(local.weekday().to_monday_zero_offset());
            day().and_then(|day| day.checked_sub(since.days()).ok())
        }
        Every::Month => local
            .first_of_month()
            .ok()
            .and_then(|day| day.start_of_day().ok()),
    };
    let ends = begins
        .as_ref()
        .and_then(|begins| begins.checked_add(budget.every.span()).ok());
    match (begins, ends) {
        (Some(begins), Some(ends)) => {
            (begins.timestamp().as_second(), ends.timestamp().as_second())
        }
        // Beyond the calendar: at the end of year 9999.
        _ => hour(),
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
}

impl Reservation {
    /// Returns what is held.
    pub fn pico(&self) -> u64 {
        self.pico
    }

    /// Spends what the request did cost, and gives the rest back.
    pub fn settle(mut self, pico: u64, now: Timestamp) {
        let listener = self.budgets.listener.get().filter(|_| pico > 0);
        let mut spendings = Vec::new();
        let mut held = self.budgets.accounts.lock();
        for (account, most) in self.accounts.iter().zip(&self.most) {
            let balance = held.entry(account.clone()).or_default();
            balance.reserved = balance.reserved.saturating_sub(self.pico);
            let before = balance.spent;
            balance.spend(account, pico, now);
            if listener.is_some() {
                spendings.push(Spending {
                    scope: account.scope.clone(),
                    every: account.every,
                    rolling: account.rolling,
                    most_pico: *most,
                    before_pico: before,
                    after_pico: balance.spent,
                });
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
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut held = self.budgets.accounts.lock();
        for account in &self.accounts {
            if let Some(balance) = held.get_mut(account) {
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
        let mut held = self.accounts.lock();
        let mut accounts = Vec::new();
        let mut most = Vec::new();
        for scope in scopes {
            for budget in scope.budgets.iter() {
                let account = Account::new(&scope.name, budget);
                if !held.contains_key(&account) {
                    if held.len() >= MOST_ACCOUNTS {
                        sweep(&mut held, now);
                    }
                    if held.len() >= MOST_ACCOUNTS {
                        return Err(Box::new(over(
                            scope,
                            budget,
                            &Balance::default(),
                            pico,
                            true,
                        )));
                    }
                }
                let balance = held.entry(account.clone()).or_default();
                balance.advance(budget, now);
                let taken = balance.spent.saturating_add(balance.reserved);
                if taken >= budget.most_pico || taken.saturating_add(pico) > budget.most_pico {
                    return Err(Box::new(over(scope, budget, balance, pico, false)));
                }
                accounts.push(account);
                most.push(budget.most_pico);
            }
        }
        for account in &accounts {
            if let Some(balance) = held.get_mut(account) {
                balance.reserved = balance.reserved.saturating_add(pico);
            }
        }
        drop(held);
        Ok(Reservation {
            budgets: self.clone(),
            accounts,
            most,
            pico,
        })
    }

    /// Has `listener` told of each settlement; the first one alone.
    pub fn listen(&self, listener: Box<dyn Fn(&Spending) + Send + Sync>) {
        let _ = self.listener.set(listener);
    }

    /// Returns how each budget of a scope stands.
    pub fn standing(&self, scope: &Scope, now: Timestamp) -> Vec<Standing> {
        let mut held = self.accounts.lock();
        let standing = |budget: &Budget| {
            let account = Account::new(&scope.name, budget);
            let mut none = Balance::default();
            let balance = held.get_mut(&account).unwrap_or(&mut none);
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
        let held = self.accounts.lock();
        let spent = held.iter().filter(|(_, balance)| balance.spent > 0);
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
        let mut held = self.accounts.lock();
        for spent in spent.into_iter().take(MOST_ACCOUNTS) {
            let account = Account {
                scope: spent.scope.into(),
                every: spent.every,
                rolling: spent.rolling,
            };
            let balance = held.entry(account).or_default();
            for (at, pico) in spent.steps {
                balance.spent = balance.spent.saturating_add(pico);
                balance.steps.push((at, pico));
            }
            balance.steps.sort_unstable_by_key(|(at, _)| *at);
        }
    }
}

/// Drops accounts that hold nothing, and those whose window is over.
fn sweep(held: &mut HashMap<Account, Balance>, now: Timestamp) {
    let seconds = now.as_second();
    held.retain(|account, balance| {
        let over = match (account.every, account.rolling) {
            (Every::Ever, _) => false,
            (_, false) => balance.ends.is_some_and(|ends| ends <= seconds),
            (every, true) => balance
                .steps
                .last()
                .is_none_or(|(at, _)| at + every.seconds() + every.seconds() / STEPS <= seconds),
        };
        balance.reserved > 0 || !(over || balance.is_idle())
    });
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
