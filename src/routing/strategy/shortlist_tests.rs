//! A list must cost nothing but time: who is best is asked, and who may be is tried.

use std::time::Duration;

use super::*;
use crate::routing::stats::{HALF_LIFE, Stats, normal};
use crate::routing::strategy::rank::{Bill, Draw, View};
use crate::routing::strategy::{cost, latency};

const ASKED: Asked = Asked {
    stream: true,
    input: 1000,
    output: Some(500),
    session: None,
    difficulty: crate::routing::smart::Difficulty::NONE,
};

fn view(stats: &Stats) -> View<'_> {
    View {
        stats,
        weight: 1,
        inflight: 0,
        bill: None,
    }
}

/// Ranks by latency as a model with many targets does.
fn by_latency(
    lists: &Shortlists,
    stats: &[Stats],
    now: Instant,
    rng: &mut fastrand::Rng,
) -> Vec<usize> {
    let kind = Kind::of(Strategy::Latency, &ASKED);
    let list = lists.of(kind, now, || {
        let views: Vec<View<'_>> = stats.iter().map(view).collect();
        let asked = kind.asked();
        let common = Common::of(&views, &asked, now);
        let mut by = |hope| {
            let mut draw = Draw::Hope(hope, rng);
            latency::order(&views, &asked, Some(&common), now, &mut draw)
        };
        Shortlist::new(kind, now, &by(0.0), &by(HOPE), common)
    });
    let front: Vec<usize> = list.front().collect();
    let views: Vec<View<'_>> = front.iter().map(|index| view(&stats[*index])).collect();
    let mut draw = Draw::Chance(rng);
    let ranked = latency::order(&views, &ASKED, Some(&list.common), now, &mut draw);
    let front = ranked.iter().map(|ranked| front[ranked.index]);
    front.chain(list.rest()).collect()
}

/// Returns the mean latency of the requests of an hour, of which the first half is for learning.
fn an_hour(
    mut rank: impl FnMut(&[Stats], Instant, &mut fastrand::Rng) -> Vec<usize>,
) -> (f64, usize) {
    const TARGETS: usize = 300;
    let start = Instant::now();
    let stats: Vec<Stats> = (0..TARGETS).map(|_| Stats::new(HALF_LIFE, start)).collect();
    let mut rng = fastrand::Rng::with_seed(5);
    // Half a second to eight seconds; one in a hundred is fast, and after half an hour others are.
    let slow: Vec<f64> = (0..TARGETS).map(|_| 0.5 + 7.5 * rng.f64()).collect();
    let (mut sum, mut count) = (0.0, 0);
    let mut asked = vec![false; TARGETS];
    for turn in 0..18_000usize {
        let now = start + Duration::from_millis(200) * turn as u32;
        let late = turn >= 9000;
        let order = rank(&stats, now, &mut rng);
        if turn.is_multiple_of(1000) {
            let mut all = order.clone();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..TARGETS), "each target once");
        }
        let first = order[0];
        asked[first] = true;
        let fast = first % 100 == if late { 50 } else { 7 };
        let level = if fast { 0.25 } else { slow[first] };
        let took = level * (0.3 * normal(rng.f64())).exp();
        stats[first].first_token(true, ASKED.input, Duration::from_secs_f64(took), now);
        stats[first].succeeded(now);
        if (4500..9000).contains(&turn) || turn >= 13_500 {
            sum += took;
            count += 1;
        }
    }
    let tried = asked.iter().filter(|asked| **asked).count();
    (sum / f64::from(count), tried)
}

#[test]
fn a_list_finds_the_fastest_as_soon_as_comparing_all_does() {
    let (all, _) = an_hour(|stats, now, rng| {
        let views: Vec<View<'_>> = stats.iter().map(view).collect();
        let ranked = latency::rank(&views, &ASKED, now, rng);
        ranked.iter().map(|ranked| ranked.index).collect()
    });
    let lists = Shortlists::new(Strategy::Latency, 300).expect("300 are many");
    let (listed, tried) = an_hour(|stats, now, rng| by_latency(&lists, stats, now, rng));
    assert!(
        listed < all * 1.1,
        "{listed:.3} s on average, and {all:.3} s when all are compared"
    );
    assert!(tried > 280, "nearly all were tried: {tried} of 300");
}

#[test]
fn the_cheapest_for_a_request_is_found_though_its_kind_is_wider() {
    let now = Instant::now();
    let stats = Stats::new(HALF_LIFE, now);
    let mut rng = fastrand::Rng::with_seed(6);
    let prices: Vec<(u64, u64)> = (0..1000)
        .map(|_| (rng.u64(100_000..20_000_000), rng.u64(100_000..80_000_000)))
        .collect();
    let views = |asked: &Asked, places: &[usize]| -> Vec<View<'_>> {
        let views = places.iter().map(|index| View {
            bill: Some(Bill {
                input: prices[*index].0 * asked.input,
                output: prices[*index].1,
            }),
            ..view(&stats)
        });
        views.collect()
    };
    let all: Vec<usize> = (0..1000).collect();
    let lists = Shortlists::new(Strategy::Cost, 1000).expect("1000 are many");
    for _ in 0..300 {
        let asked = Asked {
            input: rng.u64(10..100_000),
            output: Some(rng.u64(10..10_000)),
            ..ASKED
        };
        let kind = Kind::of(Strategy::Cost, &asked);
        let list = lists.of(kind, now, || {
            let asked = kind.asked();
            let views = views(&asked, &all);
            let common = Common::of(&views, &asked, now);
            let mut draw = Draw::Hope(0.0, &mut rng);
            let known = cost::order(&views, &asked, Some(&common), now, &mut draw);
            Shortlist::new(kind, now, &known, &known, common)
        });
        let front: Vec<usize> = list.front().collect();
        let ranked = cost::rank(&views(&asked, &front), &asked, now, &mut rng);
        let best = cost::rank(&views(&asked, &all), &asked, now, &mut rng)[0].score;
        let found = ranked[0].score;
        // Prices that differ by less than a twentieth are the same price.
        assert!(
            found.expect("priced") <= best.expect("priced") * 1.06,
            "{found:?} where {best:?} can be had, of {asked:?}"
        );
    }
}

#[test]
fn a_list_is_renewed_by_one_request_and_holds_for_its_kind() {
    let lists = Shortlists::new(Strategy::Latency, 100).expect("100 are many");
    let start = Instant::now();
    let stats: Vec<Stats> = (0..100).map(|_| Stats::new(HALF_LIFE, start)).collect();
    let views: Vec<View<'_>> = stats.iter().map(view).collect();
    let made = std::cell::Cell::new(0);
    let list = |asked: &Asked, now| {
        let kind = Kind::of(Strategy::Latency, asked);
        lists.of(kind, now, || {
            made.set(made.get() + 1);
            let known = latency::rank(&views, asked, now, &mut fastrand::Rng::with_seed(1));
            Shortlist::new(kind, now, &known, &known, Common::of(&views, asked, now))
        })
    };
    list(&ASKED, start);
    list(&ASKED, start + FRESH / 2);
    assert_eq!(made.get(), 1);
    let whole = Asked {
        stream: false,
        ..ASKED
    };
    list(&whole, start);
    list(&ASKED, start);
    assert_eq!(made.get(), 2, "another kind has a list of its own");
    list(&ASKED, start + FRESH);
    list(&ASKED, start + FRESH);
    assert_eq!(made.get(), 3);
    assert!(Shortlists::new(Strategy::Latency, 64).is_none());
    assert!(Shortlists::new(Strategy::Fallback, 1000).is_none());
}

#[test]
fn every_number_of_tokens_has_a_step_whose_middle_is_near() {
    for tokens in [0, 1, 2, 3, 100, 1000, 65_535, 1 << 40, u64::MAX] {
        let middle = middle(step(tokens));
        let (low, high) = (tokens as f64 / 1.3 - 2.0, tokens as f64 * 1.3 + 2.0);
        assert!(
            (low..=high).contains(&(middle as f64)),
            "{tokens}: {middle}"
        );
    }
}
