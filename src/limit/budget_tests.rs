use super::*;

const USD: u64 = 1_000_000_000_000;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn budget(most_pico: u64, every: Every) -> Budget {
    Budget {
        most_pico,
        every,
        rolling: false,
        zone: TimeZone::UTC,
        since: None,
    }
}

fn scope(name: &str, budgets: &[Budget]) -> Scope {
    Scope {
        name: name.into(),
        budgets: budgets.into(),
    }
}

fn spend(
    budgets: &Arc<Budgets>,
    scope: &Scope,
    pico: u64,
    now: Timestamp,
) -> Result<(), Box<Over>> {
    let scopes = std::slice::from_ref(scope);
    budgets.reserve(scopes, pico, now)?.settle(pico, now);
    Ok(())
}

#[test]
fn a_budget_is_spent_to_its_last_digit_and_no_further() {
    let budgets = Arc::new(Budgets::default());
    let now = at("2026-03-10T12:00:00Z");
    let team = scope("key:a", &[budget(10 * USD, Every::Month)]);
    for _ in 0..9 {
        spend(&budgets, &team, USD, now).expect("room");
    }
    spend(&budgets, &team, USD - 1, now).expect("room");
    let over = spend(&budgets, &team, 2, now).expect_err("one digit too many");
    assert_eq!((over.spent_pico, over.most_pico), (10 * USD - 1, 10 * USD));
    assert_eq!(over.resets, Some(at("2026-04-01T00:00:00Z")));
    spend(&budgets, &team, 1, now).expect("the last digit");
    spend(&budgets, &team, 0, now).expect_err("a spent budget has no room for what is free");
}

#[test]
fn end_users_that_somebody_makes_up_leave_room_for_keys_and_teams() {
    let budgets = Arc::new(Budgets::default());
    let now = at("2026-03-10T12:00:00Z");
    let one = [budget(USD, Every::Day)];
    for user in 0..MOST_NAMED {
        let user = scope(&format!("org_1/end_user:{user}"), &one);
        spend(&budgets, &user, 1, now).expect("room");
    }
    let late = scope("org_1/end_user:late", &one);
    let over = spend(&budgets, &late, 1, now).expect_err("too many");
    assert!(over.crowded);
    spend(&budgets, &scope("key:team-a", &one), 1, now).expect("room for a key");
    let later = at("2026-03-11T00:00:01Z");
    spend(&budgets, &late, 1, later).expect("the others' day is over");
}

#[test]
fn a_thousand_requests_at_once_spend_no_more_than_there_is() {
    let budgets = Arc::new(Budgets::default());
    let now = at("2026-03-10T12:00:00Z");
    let scopes = [
        scope("key:a", &[budget(100 * USD, Every::Month)]),
        scope("user:u", &[budget(1000 * USD, Every::Day)]),
    ];
    let admitted = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for turn in 0..125 {
                    let Ok(held) = budgets.reserve(&scopes, USD, now) else {
                        continue;
                    };
                    admitted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if turn % 2 == 0 {
                        std::thread::yield_now();
                    }
                    held.settle(USD, now);
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 100);
    let spent = |scope: &Scope| budgets.standing(scope, now)[0].spent_pico;
    assert_eq!(spent(&scopes[0]), 100 * USD);
    assert_eq!(spent(&scopes[1]), 100 * USD, "all budgets or none");
}

#[test]
fn what_is_refused_by_one_budget_is_held_in_no_other() {
    let budgets = Arc::new(Budgets::default());
    let now = at("2026-03-10T12:00:00Z");
    let wide = scope("key:a", &[budget(100 * USD, Every::Month)]);
    let narrow = scope("user:u", &[budget(USD, Every::Day)]);
    let scopes = [wide.clone(), narrow];
    let refused = budgets.reserve(&scopes, 2 * USD, now).err();
    assert_eq!(&*refused.expect("too much for the user").scope, "user:u");
    let standing = &budgets.standing(&wide, now)[0];
    assert_eq!((standing.reserved_pico, standing.spent_pico), (0, 0));
}

#[test]
fn what_is_dropped_goes_back_and_what_is_settled_is_spent() {
    let budgets = Arc::new(Budgets::default());
    let now = at("2026-03-10T12:00:00Z");
    let team = scope("key:a", &[budget(10 * USD, Every::Ever)]);
    let scopes = std::slice::from_ref(&team);
    let held = budgets.reserve(scopes, 8 * USD, now).expect("room");
    let refused = budgets.reserve(scopes, 3 * USD, now).err();
    assert_eq!(refused.expect("8 are held").reserved_pico, 8 * USD);
    drop(held);
    let held = budgets
        .reserve(scopes, 8 * USD, now)
        .expect("all of it came back");
    held.settle(3 * USD, now);
    let standing = &budgets.standing(&team, now)[0];
    assert_eq!((standing.spent_pico, standing.reserved_pico), (3 * USD, 0));
    assert_eq!(
        standing.resets, None,
        "what is given once does not come back"
    );
}

#[test]
fn a_calendar_period_ends_with_the_calendar() {
    let cases = [
        (Every::Hour, "2026-03-10T12:59:59Z", "2026-03-10T13:00:00Z"),
        (Every::Day, "2026-03-10T23:59:59Z", "2026-03-11T00:00:00Z"),
        // A Sunday and a Monday.
        (Every::Week, "2026-03-15T23:59:59Z", "2026-03-16T00:00:00Z"),
        (Every::Month, "2026-02-28T23:59:59Z", "2026-03-01T00:00:00Z"),
    ];
    for (every, last, next) in cases {
        let budgets = Arc::new(Budgets::default());
        let team = scope("key:a", &[budget(USD, every)]);
        spend(&budgets, &team, USD, at(last)).expect("room");
        let over = spend(&budgets, &team, 1, at(last)).expect_err("spent");
        assert_eq!(over.resets, Some(at(next)), "{every:?}");
        spend(&budgets, &team, USD, at(next)).expect("a new period");
        assert_eq!(budgets.standing(&team, at(next))[0].spent_pico, USD);
    }
}

#[test]
fn a_rolling_window_frees_what_was_spent_a_window_ago() {
    let budgets = Arc::new(Budgets::default());
    let rolling = Budget {
        rolling: true,
        ..budget(10 * USD, Every::Hour)
    };
    let team = scope("key:a", &[rolling]);
    spend(&budgets, &team, 6 * USD, at("2026-03-10T12:00:00Z")).expect("room");
    spend(&budgets, &team, 4 * USD, at("2026-03-10T12:30:00Z")).expect("room");
    let over = spend(&budgets, &team, USD, at("2026-03-10T12:59:00Z")).expect_err("10 in an hour");
    assert_eq!(
        over.resets,
        Some(at("2026-03-10T13:01:00Z")),
        "a step later"
    );
    spend(&budgets, &team, 6 * USD, at("2026-03-10T13:01:00Z")).expect("the first 6 have left");
    spend(&budgets, &team, 1, at("2026-03-10T13:29:00Z")).expect_err("4 and 6");
    spend(&budgets, &team, 4 * USD, at("2026-03-10T13:31:00Z")).expect("the 4 have left");
}

#[test]
fn what_was_spent_is_taken_up_after_a_restart() {
    let before = Arc::new(Budgets::default());
    let now = at("2026-03-10T12:00:00Z");
    let team = scope(
        "key:a",
        &[
            budget(10 * USD, Every::Month),
            budget(50 * USD, Every::Ever),
        ],
    );
    spend(&before, &team, 7 * USD, now).expect("room");
    let after = Arc::new(Budgets::default());
    after.restore(before.spent());
    let spent = |now| {
        let standing = after.standing(&team, now);
        [standing[0].spent_pico, standing[1].spent_pico]
    };
    assert_eq!(spent(now), [7 * USD, 7 * USD]);
    assert_eq!(spent(at("2026-04-01T00:00:00Z")), [0, 7 * USD]);
}

#[test]
fn a_raised_budget_keeps_what_is_spent() {
    let budgets = Arc::new(Budgets::default());
    let now = at("2026-03-10T12:00:00Z");
    spend(
        &budgets,
        &scope("key:a", &[budget(USD, Every::Day)]),
        USD,
        now,
    )
    .expect("room");
    let raised = scope("key:a", &[budget(3 * USD, Every::Day)]);
    spend(&budgets, &raised, 3 * USD, now).expect_err("1 of 3 is spent");
    spend(&budgets, &raised, 2 * USD, now).expect("2 of 3 are left");
}

#[test]
fn accounts_are_bounded_and_those_that_are_over_make_room() {
    let budgets = Arc::new(Budgets::default());
    let day = at("2026-03-10T12:00:00Z");
    let daily: Arc<[Budget]> = [budget(USD, Every::Day)].into();
    let user = |index: usize| Scope {
        name: format!("user:{index}").into(),
        budgets: daily.clone(),
    };
    for index in 0..MOST_ACCOUNTS {
        spend(&budgets, &user(index), 1, day).expect("room");
    }
    let over = spend(&budgets, &user(MOST_ACCOUNTS), 1, day).expect_err("no more accounts");
    assert!(over.crowded);
    spend(&budgets, &user(0), 1, day).expect("who is counted goes on");
    let next = at("2026-03-11T12:00:00Z");
    spend(&budgets, &user(MOST_ACCOUNTS), 1, next).expect("yesterday's make room");
}

#[test]
fn what_nodes_could_not_be_told_of_stays_apart_until_they_know() {
    for every in [Every::Ever, Every::Day] {
        let mut balance = Balance::default();
        let now = at("2026-03-10T12:00:00Z");
        balance.spend((every, false), 5, now);
        let shared = balance.steps[0].0;
        balance.spend_apart(2, now);
        balance.spend_apart(3, at("2026-03-10T13:00:00Z"));
        assert_eq!(balance.steps.len(), 2, "{every:?}");
        assert_eq!(balance.steps[0], (shared, 5));
        assert_eq!(balance.steps[1].1, 5);
        assert_eq!(balance.spent, 10);
        // The next day.
        let of_day = budget(USD, Every::Day);
        if every == Every::Day {
            let later = at("2026-03-11T12:00:00Z");
            balance.advance(&of_day, later);
            balance.spend_apart(4, later);
            assert_eq!(balance.steps, [(later.as_second(), 4)]);
        }
    }
    let budgets = Arc::new(Budgets::default());
    let account = Account {
        scope: "key:a".into(),
        every: Every::Day,
        rolling: false,
    };
    budgets.know(&account, vec![(100, 7)], 3, (0, USD));
    let known: u64 = budgets.steps(&account).iter().map(|(_, pico)| pico).sum();
    assert_eq!(known, 10, "what all know, and what is still to be said");
}
