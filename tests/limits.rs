//! Limits and keys from outside: what is admitted, what comes back, what never leaks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use strait::error::{Error, Kind};
use strait::limit::{Denied, Limiter, Limits, Permit, Which};

fn key(name: &str) -> Arc<str> {
    name.into()
}

fn limits(rpm: Option<u32>, tpm: Option<u64>, concurrent: Option<u32>) -> Limits {
    Limits {
        rpm,
        tpm,
        concurrent,
        ..Limits::default()
    }
}

fn headers(permit: &Permit) -> Vec<(String, String)> {
    permit
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A limiter, one key and a clock that is moved by hand.
struct Bench {
    limiter: Limiter,
    key: Arc<str>,
    limits: Limits,
    now: Instant,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        // After the limiter's own beginning, so that no time is cut off.
        let limiter = Limiter::new();
        Self {
            limiter,
            key: key("team-a"),
            limits,
            now: Instant::now(),
        }
    }

    fn ask(&self, tokens: u64) -> Result<Permit, Denied> {
        self.limiter
            .admit(&self.key, &self.limits, tokens, self.now)
    }
}

#[test]
fn the_whole_minute_may_be_spent_at_once_and_then_refills_evenly() {
    let mut bench = Bench::new(limits(Some(600), None, None));
    for at in 0..600 {
        assert!(
            bench.ask(1).is_ok(),
            "request {at} of the first second is within the limit"
        );
    }
    let denied = bench.ask(1).unwrap_err();
    assert_eq!(denied.which, Which::Rpm);
    assert_eq!(denied.limit, 600);
    assert_eq!(denied.retry_after, Some(ms(100)), "ten a second come back");
    bench.now += ms(99);
    assert!(bench.ask(1).is_err(), "a millisecond too early");
    bench.now += ms(1);
    assert!(bench.ask(1).is_ok(), "just in time");
    assert!(bench.ask(1).is_err(), "only one had come back");
    bench.now += Duration::from_secs(3600);
    let admitted = (0..1000).filter(|_| bench.ask(1).is_ok()).count();
    assert_eq!(admitted, 600, "a long rest saves up no more than the limit");
}

#[test]
fn a_refusal_says_who_what_and_when_and_becomes_a_429() {
    let bench = Bench::new(limits(Some(2), None, None));
    let _first = bench.ask(1).unwrap();
    let _second = bench.ask(1).unwrap();
    let denied = bench.ask(1).unwrap_err();
    assert_eq!(denied.retry_after, Some(Duration::from_secs(30)));
    let named: Vec<_> = denied
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    assert_eq!(
        named,
        [
            "x-ratelimit-limit-requests: 2",
            "x-ratelimit-remaining-requests: 0",
            "x-ratelimit-reset-requests: 1m0s",
        ]
    );
    let error = Error::from(denied);
    assert_eq!(error.kind, Kind::RateLimited);
    assert_eq!(error.kind.status(), 429);
    assert_eq!(error.retry_after, Some(Duration::from_secs(30)));
    for word in ["team-a", "requests per minute (rpm)", "limit 2", "30.000s"] {
        assert!(
            error.message.contains(word),
            "`{word}` is missing in: {}",
            error.message
        );
    }
}

#[test]
fn headers_tell_both_limits_as_openai_does() {
    let bench = Bench::new(limits(Some(60), Some(120_000), Some(5)));
    let permit = bench.ask(30_000).unwrap();
    let expected = [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-limit-tokens", "120000"),
        ("x-ratelimit-remaining-tokens", "90000"),
        ("x-ratelimit-reset-tokens", "15s"),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    assert_eq!(headers(&permit), expected);
    let free = Bench::new(Limits::default());
    assert!(
        headers(&free.ask(1).unwrap()).is_empty(),
        "no limits, no headers"
    );
}

#[test]
fn what_was_not_used_goes_back() {
    let bench = Bench::new(limits(None, Some(1000), None));
    let mut permit = bench.ask(900).unwrap();
    assert!(bench.ask(200).is_err(), "only 100 are left");
    permit.settle_at(100, bench.now);
    assert!(bench.ask(900).is_ok(), "800 came back");
    assert!(bench.ask(1).is_err(), "and not one more");
}

#[test]
fn what_was_used_beyond_the_estimate_is_owed() {
    let mut bench = Bench::new(limits(None, Some(1000), None));
    let mut permit = bench.ask(100).unwrap();
    permit.settle_at(3000, bench.now);
    let denied = bench.ask(1).unwrap_err();
    assert_eq!(denied.which, Which::Tpm);
    assert_eq!(
        denied.retry_after,
        Some(ms(120_060)),
        "2000 owed, and one more token"
    );
    assert_eq!(
        denied.headers.iter().nth(1).unwrap().1.as_str(),
        "0",
        "a debt is not shown as a negative number"
    );
    bench.now += ms(120_060);
    assert!(bench.ask(1).is_ok());
}

#[test]
fn a_debt_locks_out_for_no_more_than_an_hour() {
    let mut bench = Bench::new(limits(None, Some(10), None));
    let mut permit = bench.ask(1).unwrap();
    permit.settle_at(u64::MAX, bench.now);
    assert!(bench.ask(1).is_err());
    bench.now += Duration::from_secs(3660);
    assert!(bench.ask(1).is_ok(), "forgiven");
}

#[test]
fn settling_twice_counts_the_last_figure_once() {
    let bench = Bench::new(limits(None, Some(1000), None));
    let mut permit = bench.ask(500).unwrap();
    permit.settle_at(200, bench.now);
    permit.settle_at(300, bench.now);
    permit.settle_at(300, bench.now);
    drop(permit);
    assert!(bench.ask(701).is_err());
    assert!(bench.ask(700).is_ok());
}

#[test]
fn a_permit_that_is_dropped_unsettled_keeps_its_estimate_and_a_cancelled_one_gives_it_back() {
    let bench = Bench::new(limits(Some(10), Some(1000), None));
    drop(bench.ask(600).unwrap());
    assert!(bench.ask(600).is_err(), "nobody said what was used");
    let bench = Bench::new(limits(Some(10), Some(1000), None));
    let mut permit = bench.ask(600).unwrap();
    permit.cancel();
    drop(permit);
    let again = bench.ask(1000).unwrap();
    assert_eq!(
        headers(&again)[1].1,
        "8",
        "the cancelled request itself stays counted"
    );
}

#[test]
fn nothing_goes_back_into_a_bucket_that_has_refilled_by_itself() {
    let mut bench = Bench::new(limits(None, Some(1000), None));
    let mut slow = bench.ask(1000).unwrap();
    bench.now += Duration::from_secs(61);
    let _next = bench.ask(1000).unwrap();
    slow.settle_at(0, bench.now);
    assert!(
        bench.ask(1).is_err(),
        "the charge had refilled; returning it would let 2000 pass at once"
    );
}

#[test]
fn a_request_that_can_never_fit_is_told_so_and_is_not_retried() {
    let bench = Bench::new(limits(Some(10), Some(1000), None));
    let denied = bench.ask(1001).unwrap_err();
    assert_eq!((denied.which, denied.retry_after), (Which::Tpm, None));
    let error = Error::from(denied);
    assert_eq!(error.kind.status(), 413);
    assert!(error.kind.is_final(), "clients must not send it again");
    assert!(
        error.message.contains("limit 1000, requested 1001"),
        "{}",
        error.message
    );
    assert_eq!(
        headers(&bench.ask(1).unwrap())[1].1,
        "9",
        "the refusal cost nothing"
    );
}

#[test]
fn a_refusal_by_one_limit_charges_none() {
    let bench = Bench::new(limits(Some(10), Some(1000), Some(1)));
    let held = bench.ask(100).unwrap();
    for _ in 0..50 {
        assert_eq!(bench.ask(100).unwrap_err().which, Which::Concurrent);
    }
    drop(held);
    let permit = bench.ask(100).unwrap();
    let left: Vec<_> = headers(&permit)
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    assert_eq!(
        (left[1].as_str(), left[4].as_str()),
        ("8", "800"),
        "two admitted, fifty refused"
    );
}

#[test]
fn the_limit_that_takes_longest_is_named() {
    let bench = Bench::new(limits(Some(60), Some(60), Some(1)));
    let _held = bench.ask(60).unwrap();
    let denied = bench.ask(30).unwrap_err();
    assert_eq!(
        (denied.which, denied.retry_after),
        (Which::Tpm, Some(Duration::from_secs(30)))
    );
}

#[test]
fn a_limit_of_zero_blocks() {
    for (zero, which) in [
        (limits(Some(0), None, None), Which::Rpm),
        (limits(None, Some(0), None), Which::Tpm),
        (limits(None, None, Some(0)), Which::Concurrent),
    ] {
        let denied = Bench::new(zero).ask(0).unwrap_err();
        assert_eq!((denied.which, denied.retry_after), (which, None));
        assert_eq!(Error::from(denied).kind, Kind::RateLimited);
    }
}

#[test]
fn a_changed_limit_keeps_what_was_used() {
    let mut bench = Bench::new(limits(None, Some(1000), None));
    let _used = bench.ask(500).unwrap();
    bench.limits.tpm = Some(2000);
    let permit = bench.ask(0).unwrap();
    assert_eq!(headers(&permit)[1].1, "1500");
    bench.limits.tpm = Some(100);
    let denied = bench.ask(1).unwrap_err();
    assert!(
        denied.retry_after.unwrap() <= Duration::from_secs(1),
        "not five minutes for the old limit's use"
    );
}

#[test]
fn a_thousand_threads_never_run_more_than_the_limit() {
    let limiter = Arc::new(Limiter::new());
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let barrier = Arc::new(Barrier::new(1000));
    let threads: Vec<_> = (0..1000)
        .map(|_| {
            let (limiter, running, most, barrier) = (
                limiter.clone(),
                running.clone(),
                most.clone(),
                barrier.clone(),
            );
            let body = move || {
                barrier.wait();
                let mut admitted = 0;
                for _ in 0..20 {
                    let Ok(permit) =
                        limiter.admit(&key("k"), &limits(None, None, Some(50)), 0, Instant::now())
                    else {
                        std::thread::yield_now();
                        continue;
                    };
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                    admitted += 1;
                }
                admitted
            };
            std::thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(body)
                .unwrap()
        })
        .collect();
    let admitted: usize = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    assert!(admitted > 0);
    assert!(
        most.load(Ordering::SeqCst) <= 50,
        "{} at a time",
        most.load(Ordering::SeqCst)
    );
    assert_eq!(limiter.running("k"), 0, "every permit came back");
}

#[test]
fn threads_together_get_no_more_requests_than_one_would() {
    let limiter = Arc::new(Limiter::new());
    let now = Instant::now();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let limiter = limiter.clone();
            std::thread::spawn(move || {
                let rpm = limits(Some(500), None, None);
                (0..500)
                    .filter(|_| limiter.admit(&key("k"), &rpm, 0, now).is_ok())
                    .count()
            })
        })
        .collect();
    let admitted: usize = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    assert_eq!(admitted, 500);
}

#[test]
fn a_panic_gives_the_permit_back() {
    let limiter = Arc::new(Limiter::new());
    let one = limits(None, None, Some(1));
    let own = limiter.clone();
    let died = std::thread::spawn(move || {
        let _permit = own.admit(&key("k"), &one, 0, Instant::now()).unwrap();
        std::panic::resume_unwind(Box::new("on purpose"));
    })
    .join();
    assert!(died.is_err());
    assert!(limiter.admit(&key("k"), &one, 0, Instant::now()).is_ok());
}

#[test]
fn idle_keys_are_forgotten_and_busy_ones_are_not() {
    let limiter = Limiter::new();
    let mut now = Instant::now();
    let rpm = limits(Some(60), None, None);
    let busy = limiter.admit(&key("busy"), &rpm, 0, now).unwrap();
    let mut largest = 0;
    for at in 0..100_000 {
        // A thousand keys a second, each idle again a second later.
        now += ms(1);
        drop(
            limiter
                .admit(&key(&format!("key-{at}")), &rpm, 0, now)
                .unwrap(),
        );
        largest = largest.max(limiter.len());
    }
    assert!(largest < 5000, "{largest} keys were remembered at once");
    assert_eq!(
        limiter.running("busy"),
        1,
        "a running request is never forgotten"
    );
    drop(busy);
    limiter.sweep(now + Duration::from_secs(60));
    assert!(limiter.is_empty(), "{} left", limiter.len());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Over every window, what was admitted is within the limit and its refill.
    #[test]
    fn no_window_admits_more_than_the_limit_and_its_refill(
        tpm in 1_u64..5000,
        steps in prop::collection::vec((0_u64..20_000, 0_u64..3000), 1..200),
    ) {
        let mut bench = Bench::new(limits(None, Some(tpm), None));
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        let mut clock = 0;
        for (wait, tokens) in steps {
            clock += wait;
            bench.now += ms(wait);
            if bench.ask(tokens).is_ok() {
                admitted.push((clock, tokens));
            }
        }
        for from in 0..admitted.len() {
            let mut sum = 0;
            for (at, tokens) in &admitted[from..] {
                sum += tokens;
                let span = at - admitted[from].0;
                prop_assert!(sum * 60_000 <= tpm * (60_000 + span), "{sum} tokens in {span} ms of {tpm} a minute");
            }
        }
    }

    /// A refusal's `retry_after` is right: then it fits, and a little before it does not.
    #[test]
    fn waiting_as_told_is_enough_and_not_more_than_needed(
        tpm in 1_u64..100_000,
        first in 0_u64..100_000,
        second in 1_u64..100_000,
    ) {
        let mut bench = Bench::new(limits(None, Some(tpm), None));
        let _first = bench.ask(first.min(tpm)).unwrap();
        if let Err(denied) = bench.ask(second.min(tpm)) {
            let wait = denied.retry_after.unwrap();
            let begun = bench.now;
            bench.now = begun + wait - Duration::from_nanos(1);
            prop_assert!(bench.ask(second.min(tpm)).is_err(), "too early");
            bench.now = begun + wait;
            prop_assert!(bench.ask(second.min(tpm)).is_ok(), "as told");
        }
    }

    /// However estimates and figures differ: what is settled is what counts.
    #[test]
    fn after_settling_only_usage_counts(
        requests in prop::collection::vec((0_u64..100, 0_u64..100), 1..50),
    ) {
        let bench = Bench::new(limits(None, Some(10_000), None));
        let mut used = 0;
        for (estimate, actual) in requests {
            let mut permit = bench.ask(estimate).unwrap();
            permit.settle_at(actual, bench.now);
            used += actual;
        }
        let left: u64 = headers(&bench.ask(0).unwrap())[1].1.parse().unwrap();
        // Each rounding costs less than a token.
        prop_assert!(left <= 10_000 - used && left + 2 >= 10_000 - used, "{left} left, {used} used");
    }
}
