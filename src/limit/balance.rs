//! What is spent of one budget, in its window.

use jiff::{Timestamp, ToSpan, Zoned};

use super::budget::{Budget, Every};

/// A rolling window is divided into this many steps: what was spent leaves it a step late at most.
pub const STEPS: i64 = 60;

#[derive(Debug, Default)]
pub struct Balance {
    pub reserved: u64,
    pub spent: u64,
    /// As in [`Spent::steps`](super::budget::Spent::steps), oldest first.
    pub steps: Vec<(i64, u64)>,
    /// When the calendar's period ends; seconds since 1970.
    pub ends: Option<i64>,
    /// The step of what all nodes count together and could not be told of yet.
    pub apart: Option<i64>,
}

impl Balance {
    /// Forgets what lies before the window.
    pub fn advance(&mut self, budget: &Budget, now: Timestamp) {
        let seconds = now.as_second();
        if budget.every == Every::Ever {
            return;
        }
        if budget.rolling {
            let first = Self::first_step(budget.every, seconds);
            let over = self.steps.iter().take_while(|(at, _)| *at < first);
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

    pub fn spend(&mut self, (every, rolling): (Every, bool), pico: u64, now: Timestamp) {
        if pico == 0 {
            return;
        }
        self.spent = self.spent.saturating_add(pico);
        let seconds = now.as_second();
        let last = self.steps.len().checked_sub(1);
        // As a rule it is the last; of a rolling window what a process spent that has ended may lie before.
        let found = match (every, rolling, last) {
            (Every::Ever, _, None) => Err((0, 0)),
            (every, true, _) => {
                let at = step(every, seconds);
                let found = self.steps.binary_search_by_key(&at, |(at, _)| *at);
                found.map_err(|next| (next, at))
            }
            // Any time within the period does; the first is kept.
            (_, false, None) => Err((0, seconds)),
            (Every::Ever, _, Some(last)) | (_, false, Some(last)) => Ok(last),
        };
        match found {
            Ok(at) => self.steps[at].1 = self.steps[at].1.saturating_add(pico),
            Err((next, at)) => self.steps.insert(next, (at, pico)),
        }
    }

    /// Spends in a step of its own. What nodes have spent together is merged step by step, and of each step the most
    /// counts: in one of theirs it would vanish if this process ended before it could say so.
    pub fn spend_apart(&mut self, pico: u64, now: Timestamp) {
        if pico == 0 {
            return;
        }
        self.spent = self.spent.saturating_add(pico);
        let apart = self.apart;
        let mut steps = self.steps.iter_mut();
        match steps.find(|(at, _)| Some(*at) == apart) {
            Some((_, spent)) => *spent = spent.saturating_add(pico),
            None => {
                let last = self.steps.last().map_or(i64::MIN, |(at, _)| *at);
                let at = now.as_second().max(last.saturating_add(1));
                self.steps.push((at, pico));
                self.apart = Some(at);
            }
        }
    }

    pub fn resets(&self, budget: &Budget) -> Option<Timestamp> {
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

    /// Returns where the steps begin that a rolling window still holds.
    pub fn first_step(every: Every, seconds: i64) -> i64 {
        let length = every.seconds() / STEPS;
        // Of a step that is partly within all counts.
        seconds - every.seconds() - length + 1
    }

    pub fn is_idle(&self) -> bool {
        self.reserved == 0 && self.spent == 0
    }
}

/// Returns where the step of a rolling window begins that this second is in.
pub fn step(every: Every, seconds: i64) -> i64 {
    seconds - seconds.rem_euclid(every.seconds() / STEPS)
}

/// Returns when the calendar's current period begins and ends, in seconds since 1970.
pub fn period(budget: &Budget, now: Timestamp) -> (i64, i64) {
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
