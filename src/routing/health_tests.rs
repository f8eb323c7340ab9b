use super::*;

fn scope() -> Scope {
    Scope::of(Blame::Serving, "lab", &["m", "127.0.0.1:1"])
}

fn failed(blame: Blame, told: Option<u64>, asked: Instant) -> Failed<'static> {
    Failed {
        scope: scope(),
        blame,
        provider: "lab",
        name: &|| "m".into(),
        reason: "status",
        told: told.map(Duration::from_secs),
        asked,
    }
}

fn fail(cooldowns: &Cooldowns, blame: Blame, told: Option<u64>, now: Instant) -> bool {
    cooldowns.failed(&failed(blame, told, now), now)
}

#[test]
fn serving_failures_cool_after_three_in_a_row() {
    let cooldowns = Cooldowns::default();
    let now = Instant::now();
    assert!(!fail(&cooldowns, Blame::Serving, None, now));
    assert!(!fail(&cooldowns, Blame::Serving, None, now));
    assert_eq!(cooldowns.standing(scope(), now), Standing::Good);
    assert!(fail(&cooldowns, Blame::Serving, None, now));
    assert_eq!(
        cooldowns.standing(scope(), now),
        Standing::Cooling(now + SOFT_FIRST)
    );
}

#[test]
fn a_success_between_failures_starts_the_count_again() {
    let cooldowns = Cooldowns::default();
    let now = Instant::now();
    fail(&cooldowns, Blame::Serving, None, now);
    fail(&cooldowns, Blame::Serving, None, now);
    cooldowns.succeeded(scope(), now, now);
    assert!(
        !fail(&cooldowns, Blame::Serving, None, now),
        "the count should have started again"
    );
}

#[test]
fn after_a_cooldown_one_probe_is_let_through() {
    let cooldowns = Cooldowns::default();
    let now = Instant::now();
    fail(&cooldowns, Blame::Endpoint, None, now);
    let later = now + SOFT_FIRST + Duration::from_millis(1);
    assert_eq!(cooldowns.standing(scope(), later), Standing::Good);
    let lease = cooldowns.asked(scope(), later).expect("it is the probe");
    assert_eq!(
        cooldowns.standing(scope(), later),
        Standing::Cooling(later + PROBE_LEASE)
    );
    cooldowns.release(scope(), now);
    assert_ne!(
        cooldowns.standing(scope(), later),
        Standing::Good,
        "released by another than its holder"
    );
    cooldowns.release(scope(), lease);
    assert_eq!(
        cooldowns.standing(scope(), later),
        Standing::Good,
        "a probe that never found out leaves it to the next"
    );
    assert!(
        cooldowns.succeeded(scope(), later, later),
        "it had been cooling"
    );
    assert_eq!(cooldowns.standing(scope(), later), Standing::Good);
}

#[test]
fn the_longest_not_before_wins_and_a_success_does_not_shorten_it() {
    let cooldowns = Cooldowns::default();
    let now = Instant::now();
    fail(&cooldowns, Blame::Quota, Some(30), now);
    fail(&cooldowns, Blame::Quota, Some(5), now);
    assert_eq!(
        cooldowns.standing(scope(), now),
        Standing::Told(now + Duration::from_secs(30))
    );
    cooldowns.succeeded(scope(), now, now);
    assert_eq!(
        cooldowns.standing(scope(), now),
        Standing::Told(now + Duration::from_secs(30))
    );
}

#[test]
fn soft_cooldowns_double_up_to_half_a_minute() {
    let cooldowns = Cooldowns::default();
    let now = Instant::now();
    for expected in [1, 2, 4, 8, 16, 30, 30] {
        fail(&cooldowns, Blame::Endpoint, None, now);
        assert_eq!(
            cooldowns.standing(scope(), now),
            Standing::Cooling(now + Duration::from_secs(expected))
        );
    }
}

#[test]
fn what_ended_long_ago_is_swept_and_the_count_returns_to_nothing() {
    let cooldowns = Cooldowns::default();
    let now = Instant::now();
    fail(&cooldowns, Blame::Endpoint, None, now);
    cooldowns.sweep(now + Duration::from_secs(3600));
    assert_eq!(cooldowns.count.load(Ordering::Relaxed), 0);
}

#[test]
fn half_of_a_window_failing_cools_although_never_three_in_a_row() {
    let cooldowns = Cooldowns::default();
    let now = Instant::now();
    let mut cooled = 0;
    for turn in 0..WINDOW_LEAST {
        if turn % 2 == 0 {
            cooled += u32::from(fail(&cooldowns, Blame::Serving, None, now));
        } else {
            cooldowns.succeeded(scope(), now, now);
        }
    }
    assert_eq!(cooled, 0, "too few to judge");
    assert!(fail(&cooldowns, Blame::Serving, None, now));
    assert_eq!(
        cooldowns.standing(scope(), now),
        Standing::Cooling(now + SOFT_FIRST)
    );
    // The same again is worse than the first time.
    let later = now + Duration::from_secs(2);
    cooldowns.succeeded(scope(), later, later);
    let mut until = None;
    for turn in 0..=WINDOW_LEAST {
        if turn % 2 == 0 && fail(&cooldowns, Blame::Serving, None, later) {
            until = Some(cooldowns.standing(scope(), later));
        } else if turn % 2 == 1 {
            cooldowns.succeeded(scope(), later, later);
        }
    }
    assert_eq!(until, Some(Standing::Cooling(later + SOFT_FIRST * 2)));
}

#[test]
fn a_quarter_of_a_window_failing_does_not_cool() {
    let cooldowns = Cooldowns::default();
    let now = Instant::now();
    for turn in 0..200 {
        if turn % 4 == 0 {
            assert!(!fail(&cooldowns, Blame::Serving, None, now), "{turn}");
        } else {
            cooldowns.succeeded(scope(), now, now);
        }
    }
}

#[test]
fn what_was_under_way_when_it_cooled_neither_ends_nor_prolongs_it() {
    let cooldowns = Cooldowns::default();
    let asked = Instant::now();
    let now = asked + Duration::from_millis(10);
    for _ in 0..16 {
        cooldowns.failed(&failed(Blame::Endpoint, None, asked), now);
    }
    let cooling = Standing::Cooling(now + SOFT_FIRST);
    assert_eq!(cooldowns.standing(scope(), now), cooling, "one failure");
    assert!(!cooldowns.succeeded(scope(), asked, now));
    assert_eq!(cooldowns.standing(scope(), now), cooling);
    assert!(cooldowns.succeeded(scope(), now, now));
}

#[test]
fn an_allowance_that_is_nearly_spent_is_minded_and_counted_down() {
    let cooldowns = Cooldowns::default();
    let now = Instant::now();
    let quota = failed(Blame::Quota, None, now);
    let left = |requests, tokens| Allowance {
        requests,
        tokens,
        requests_reset: Some(Duration::from_secs(600)),
        tokens_reset: Some(Duration::from_secs(7)),
    };
    let plenty = left(Some(5000), Some(100_000));
    assert!(!cooldowns.left(&quota, &plenty, 1000, now));
    assert_eq!(
        cooldowns.count.load(Ordering::Relaxed),
        0,
        "nothing to mind"
    );
    assert!(cooldowns.left(&quota, &left(Some(2), None), 1000, now));
    assert_eq!(cooldowns.spent(scope(), 1000, now), None);
    cooldowns.took(scope(), 1000);
    cooldowns.took(scope(), 1000);
    assert_eq!(
        cooldowns.spent(scope(), 1000, now),
        Some(now + STEER_MOST),
        "a long reset is believed for a while only"
    );
    assert_eq!(
        cooldowns.standing(scope(), now),
        Standing::Good,
        "steering is no cooldown"
    );
    assert_eq!(cooldowns.list(now)[0].state, Waiting::Steered);
    assert!(cooldowns.left(&quota, &left(Some(5000), Some(900)), 1000, now));
    assert!(cooldowns.spent(scope(), 1000, now).is_some(), "too large");
    assert_eq!(cooldowns.spent(scope(), 800, now), None, "small enough");
    let reset = now + Duration::from_secs(8);
    assert_eq!(cooldowns.spent(scope(), 1000, reset), None);
    assert!(!cooldowns.left(&quota, &plenty, 1000, now));
    assert_eq!(cooldowns.spent(scope(), 1000, now), None);
}

/// Returns what would be told to other nodes, as (blame, seconds).
fn told_of(failures: &[Failed<'_>], now: Instant) -> Vec<(Blame, u64)> {
    let told = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let cooldowns = Cooldowns::default();
    let theirs = told.clone();
    cooldowns.on_begin(move |begun| {
        assert_eq!((begun.provider, begun.name), ("lab", "m"));
        theirs.lock().push((begun.blame, begun.wait.as_secs()));
    });
    for failed in failures {
        cooldowns.failed(failed, now);
    }
    told.lock().clone()
}

#[test]
fn other_nodes_are_told_what_a_provider_said_and_not_what_is_suspected() {
    let now = Instant::now();
    let told = told_of(
        &[
            failed(Blame::Quota, Some(40), now),
            failed(Blame::Serving, Some(20), now),
            failed(Blame::Quota, Some(90_000), now),
            failed(Blame::Credential, None, now),
        ],
        now,
    );
    assert_eq!(told[..2], [(Blame::Quota, 40), (Blame::Serving, 20)]);
    assert_eq!(told[2], (Blame::Quota, 600), "it is believed up to a bound");
    assert_eq!(told[3].0, Blame::Credential);
    let suspected: Vec<Failed<'_>> = [
        Blame::Serving,
        Blame::Serving,
        Blame::Serving,
        Blame::Endpoint,
        Blame::Model,
    ]
    .map(|blame| failed(blame, None, now))
    .into();
    assert_eq!(told_of(&suspected, now), []);
}

#[test]
fn what_another_node_was_told_is_a_guess_here() {
    let cooldowns = Cooldowns::default();
    let now = Instant::now();
    let begun = |seconds| Begun {
        scope: scope(),
        blame: Blame::Quota,
        provider: "lab",
        name: "m",
        wait: Duration::from_secs(seconds),
    };
    cooldowns.heard(&begun(40), now);
    cooldowns.heard(&begun(10), now);
    let until = now + Duration::from_secs(40);
    assert_eq!(cooldowns.standing(scope(), now), Standing::Cooling(until));
    // Who asks all the same, and gets an answer, knows better.
    assert!(!cooldowns.succeeded(scope(), now - Duration::from_secs(1), now));
    let later = now + Duration::from_secs(1);
    assert!(cooldowns.succeeded(scope(), later, later));
    assert_eq!(cooldowns.standing(scope(), later), Standing::Good);
    cooldowns.heard(&begun(90_000), now);
    let most = now + HEARD_MOST;
    assert_eq!(cooldowns.standing(scope(), now), Standing::Cooling(most));
}
