//! Since when the budgets of the configuration file are there: what was spent before that is charged to none of them.
//! Those of the directory say so themselves.

use std::borrow::Cow;
use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::budget::{Account, Budget};
use super::named;

/// By [`name`]: microseconds since 1970.
pub type Times = BTreeMap<Box<str>, i64>;

/// Not known: in all windows that it has.
const EVER: i64 = i64::MIN;

#[derive(Default)]
pub struct Since(Mutex<Times>);

impl Since {
    /// `kept` is what was known before; where nothing was, nobody knows since when `there` are there.
    pub fn new(
        kept: Option<Times>,
        there: impl IntoIterator<Item = Box<str>>,
        now_us: i64,
    ) -> Self {
        let unknown = if kept.is_some() { now_us } else { EVER };
        let since = Self(Mutex::new(kept.unwrap_or_default()));
        since.follow(there, unknown);
        since
    }

    /// From `now_us` on there are these: some may have been there before.
    pub fn follow(&self, there: impl IntoIterator<Item = Box<str>>, now_us: i64) {
        let mut times = self.0.lock();
        let before = std::mem::take(&mut *times);
        let since = |name: Box<str>| {
            let at = before.get(&name).copied().unwrap_or(now_us);
            (name, at)
        };
        *times = there.into_iter().map(since).collect();
    }

    /// Returns since when there is a budget of a scope, in microseconds since 1970.
    pub fn of(&self, scope: &str, budget: &Budget) -> i64 {
        if let Some(since) = budget.since {
            return since.as_microsecond();
        }
        let times = self.0.lock();
        times.get(&*name(scope, budget)).copied().unwrap_or(EVER)
    }

    pub fn times(&self) -> Times {
        self.0.lock().clone()
    }
}

/// Returns what a budget of a scope is known by; those of all end users, or of all tags, are one.
pub fn name(scope: &str, budget: &Budget) -> Box<str> {
    let scope: Cow<'_, str> = match named::of_all(scope) {
        Some(of_all) => format!("{of_all}*").into(),
        None => scope.into(),
    };
    let account = Account::new(&(*scope).into(), budget);
    let rolling = if account.rolling { " rolling" } else { "" };
    format!("{scope} {}{rolling}", account.every.name()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::budget::Every;

    fn budget(every: Every) -> Budget {
        Budget {
            most_pico: 1,
            every,
            rolling: false,
            zone: jiff::tz::TimeZone::UTC,
            since: None,
        }
    }

    #[test]
    fn a_budget_is_there_from_when_it_was_seen_first() {
        let (day, month) = (budget(Every::Day), budget(Every::Month));
        let first = name("key:a", &day);
        let since = Since::new(Some(Times::new()), [first.clone()], 10);
        assert_eq!(since.of("key:a", &day), 10);
        let user = name("key:a/end_user:eve", &day);
        since.follow([first, name("key:a", &month), user.clone()], 20);
        assert_eq!(since.of("key:a", &day), 10, "it has stayed");
        assert_eq!(since.of("key:a", &month), 20);
        assert_eq!(since.of("key:a/end_user:adam", &day), 20);
        // Another process, later.
        let later = Since::new(Some(since.times()), [user, name("key:b", &day)], 30);
        assert_eq!(later.of("key:a/end_user:eve", &day), 20);
        assert_eq!(later.of("key:b", &day), 30);
        let unknown = Since::new(None, [name("key:b", &day)], 30);
        assert_eq!(unknown.of("key:b", &day), EVER);
    }
}
