//! Many keys: what they weigh and what a look-up costs. Alone in its process, so that its memory is its own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use strait::access::{KeySettings, Keys};
use strait::limit::{Holder, Limited, Limits};
use strait::secret::Secret;

fn settings(at: usize) -> KeySettings {
    KeySettings {
        name: format!("team-{at}"),
        key: Secret::new(format!("sk-{at:040}")),
        models: vec!["fast".to_owned(), "openai/*".to_owned()],
        limits: vec![Arc::new(Limited::new(
            Holder::Key,
            &format!("team-{at}"),
            &[],
            Limits {
                rpm: Some(600),
                tpm: Some(200_000),
                concurrent: Some(50),
                ..Limits::default()
            },
        ))],
        budgets: Vec::new(),
        named: Vec::new(),
        constraints: None,
        explain: false,
        stale_if_error: None,
        priority: Default::default(),
    }
}

/// Returns the best time of several for one look-up among `count` keys.
fn lookup(keys: &Keys, count: usize) -> Duration {
    let texts: Vec<_> = (0..1000)
        .map(|at| format!("sk-{:040}", at * 97 % count))
        .collect();
    let rounds = (0..9).map(|_| {
        let begun = Instant::now();
        assert!(texts.iter().all(|text| keys.find(text).is_some()));
        begun.elapsed()
    });
    rounds.min().unwrap() / 1000
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn a_hundred_thousand_keys_take_under_sixty_mebibytes_and_are_found_as_fast_as_ten() {
    let all: Vec<_> = (0..100_000).map(settings).collect();
    let before = resident_kib();
    let many = Keys::build(&all, &[7; 32]);
    if let (Some(before), Some(after)) = (before, resident_kib()) {
        let kib = after.saturating_sub(before);
        eprintln!("100,000 keys: {:.1} MiB", kib as f64 / 1024.0);
        assert!(kib < 60 << 10, "{kib} KiB");
    }
    let few = Keys::build(&all[..10], &[7; 32]);
    let (small, large) = (lookup(&few, 10), lookup(&many, 100_000));
    eprintln!("a look-up among 10 keys {small:?}, among 100,000 {large:?}");
    // Generous, for busy machines: a scan would be thousands of times slower.
    assert!(
        large < small * 20,
        "{small:?} among 10, {large:?} among 100,000"
    );
}
