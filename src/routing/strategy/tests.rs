//! Each known defect of scores elsewhere is a test here, and each promise of ours.

use std::time::{Duration, Instant};

use super::rank::{Bill, Key, Ranked, Shelf, View, front};
use super::score::Weights;
use super::{cost, latency, score, weighted};
use crate::routing::choose::Asked;
use crate::routing::stats::{HALF_LIFE, Stats};

/// A target of which much is known.
struct Known {
    ttft: Duration,
    /// Failures in a hundred.
    failing: u32,
    speed: u64,
    /// Dollars per million tokens of input and of output.
    price: Option<(u64, u64)>,
}

const USUAL: Known = Known {
    ttft: Duration::from_millis(800),
    failing: 0,
    speed: 40,
    price: Some((1, 1)),
};

const ASKED: Asked = Asked {
    stream: true,
    input: 1000,
    output: Some(500),
    session: None,
    difficulty: crate::routing::smart::Difficulty::NONE,
};

fn learn(known: &Known, now: Instant) -> Stats {
    let stats = Stats::new(HALF_LIFE, now);
    for turn in 0..400u32 {
        if (turn * known.failing) % 100 < known.failing {
            stats.failed(Duration::from_millis(20), now);
            continue;
        }
        stats.succeeded(now);
        stats.first_token(true, ASKED.input, known.ttft, now);
        stats.finished(known.speed * 10, Some(Duration::from_secs(10)), now);
    }
    stats
}

fn view<'a>(stats: &'a Stats, known: &Known) -> View<'a> {
    View {
        stats,
        weight: 1,
        inflight: 0,
        bill: known
            .price
            .map(|(input, output)| bill(ASKED.input, input, output)),
    }
}

/// Pico-dollars of so many tokens of input, at dollars per million tokens.
fn bill(tokens: u64, input: u64, output: u64) -> Bill {
    Bill {
        input: tokens * input * 1_000_000,
        output: output * 1_000_000,
    }
}

/// Ranks many times and returns how often each target came first.
fn firsts(count: usize, turns: usize, mut rank: impl FnMut() -> Vec<Ranked>) -> Vec<usize> {
    let mut firsts = vec![0; count];
    for _ in 0..turns {
        let order = rank();
        let mut indices: Vec<usize> = order.iter().map(|ranked| ranked.index).collect();
        firsts[indices[0]] += 1;
        indices.sort_unstable();
        assert_eq!(indices, (0..count).collect::<Vec<_>>(), "each target once");
    }
    firsts
}

fn score_firsts(known: &[Known], now: Instant) -> Vec<usize> {
    let stats: Vec<Stats> = known.iter().map(|known| learn(known, now)).collect();
    let views: Vec<View<'_>> = stats.iter().zip(known).map(|(s, k)| view(s, k)).collect();
    let mut rng = fastrand::Rng::with_seed(1);
    firsts(known.len(), 1000, || {
        score::rank(&views, &ASKED, &Weights::default(), now, &mut rng)
    })
}

#[test]
fn who_fails_fast_does_not_look_fast() {
    // Defect 1: the sum of times to the first token was divided by failures and whole answers too.
    let now = Instant::now();
    let known = [
        Known {
            ttft: Duration::from_millis(900),
            failing: 60,
            ..USUAL
        },
        USUAL,
    ];
    let stats: Vec<Stats> = known.iter().map(|known| learn(known, now)).collect();
    for _ in 0..1000 {
        // Traffic of another kind says nothing of streams either.
        stats[0].first_token(false, ASKED.input, Duration::from_millis(1), now);
        stats[0].finished(1, None, now);
    }
    let views: Vec<View<'_>> = stats.iter().zip(&known).map(|(s, k)| view(s, k)).collect();
    let mut rng = fastrand::Rng::with_seed(2);
    let by_latency = firsts(2, 1000, || latency::rank(&views, &ASKED, now, &mut rng));
    assert_eq!(by_latency[0], 0);
    assert_eq!(score_firsts(&known, now)[0], 0);
}

#[test]
fn who_takes_long_to_fail_is_slower_for_it() {
    let now = Instant::now();
    let quick = Known {
        ttft: Duration::from_millis(400),
        failing: 15,
        ..USUAL
    };
    let stats = [learn(&quick, now), learn(&USUAL, now)];
    let views = [view(&stats[0], &quick), view(&stats[1], &USUAL)];
    let mut rng = fastrand::Rng::with_seed(20);
    let mut count = || firsts(2, 1000, || latency::rank(&views, &ASKED, now, &mut rng))[0];
    let before = count();
    assert!(before > 900, "its failures come at once: {before}");
    for turn in 0..100 {
        if turn % 7 == 0 {
            stats[0].failed(Duration::from_secs(30), now);
        } else {
            stats[0].succeeded(now);
        }
    }
    let after = count();
    assert!(after < 10, "one in seven waits for half a minute: {after}");
}

#[test]
fn throughput_counts_finished_streams_alone() {
    // Defect 2: durations held cached answers and errors, tokens did not.
    let now = Instant::now();
    let stats = learn(&USUAL, now);
    let before = stats.throughput(now);
    for _ in 0..100 {
        stats.failed(Duration::from_millis(20), now);
        stats.finished(400, None, now);
    }
    assert_eq!(stats.throughput(now), before);
}

#[test]
fn one_failure_alone_does_not_banish_a_target() {
    // Defect 3: without a minimum sample one failed request meant an availability of 0.
    let now = Instant::now();
    let unlucky = Stats::new(HALF_LIFE, now);
    unlucky.failed(Duration::from_secs(1), now);
    let fresh = Stats::new(HALF_LIFE, now);
    let cheap = Known {
        price: Some((1, 2)),
        ..USUAL
    };
    let dear = Known {
        price: Some((3, 6)),
        ..USUAL
    };
    let views = [view(&unlucky, &cheap), view(&fresh, &dear)];
    let mut rng = fastrand::Rng::with_seed(3);
    let firsts = firsts(2, 1000, || {
        score::rank(&views, &ASKED, &Weights::default(), now, &mut rng)
    });
    assert!(
        firsts[0] > 300,
        "cheaper, and merely unlucky once: {firsts:?}"
    );
}

#[test]
fn the_price_is_that_of_this_request() {
    // Defect 4: the mean of both prices makes the second look cheaper, for any request.
    let now = Instant::now();
    let stats = [learn(&USUAL, now), learn(&USUAL, now)];
    let rank = |input: u64, output: u64, seed: u64| {
        let asked = Asked {
            input,
            output: Some(output),
            ..ASKED
        };
        let bills = [bill(input, 1, 20), bill(input, 6, 10)];
        let views: Vec<View<'_>> = stats
            .iter()
            .zip(bills)
            .map(|(stats, bill)| View {
                bill: Some(bill),
                ..view(stats, &USUAL)
            })
            .collect();
        let mut rng = fastrand::Rng::with_seed(seed);
        cost::rank(&views, &asked, now, &mut rng)
    };
    let reading = rank(100_000, 200, 4);
    assert_eq!(
        reading[0].index, 0,
        "much input: 0.104 against 0.602 dollars"
    );
    assert!((reading[0].score.expect("priced") - 0.104).abs() < 1e-9);
    assert_eq!(rank(100, 400, 5)[0].index, 1, "much output");
}

#[test]
fn a_model_that_writes_more_costs_more() {
    let now = Instant::now();
    let terse = learn(&Known { speed: 20, ..USUAL }, now);
    let chatty = learn(
        &Known {
            speed: 200,
            ..USUAL
        },
        now,
    );
    let views = [
        View {
            bill: Some(bill(100, 1, 10)),
            ..view(&chatty, &USUAL)
        },
        View {
            bill: Some(bill(100, 1, 20)),
            ..view(&terse, &USUAL)
        },
    ];
    let asked = Asked {
        input: 100,
        output: None,
        ..ASKED
    };
    let mut rng = fastrand::Rng::with_seed(6);
    assert_eq!(
        cost::rank(&views, &asked, now, &mut rng)[0].index,
        1,
        "200 tokens at 20 are less than 2000 at 10"
    );
}

#[test]
fn an_unseen_model_is_taken_to_write_what_the_others_write() {
    let now = Instant::now();
    let chatty = learn(
        &Known {
            speed: 400,
            ..USUAL
        },
        now,
    );
    let unseen = Stats::new(HALF_LIFE, now);
    let asked = Asked {
        output: None,
        ..ASKED
    };
    let views = [
        View {
            bill: Some(bill(1000, 1, 11)),
            ..view(&unseen, &USUAL)
        },
        View {
            bill: Some(bill(1000, 1, 10)),
            ..view(&chatty, &USUAL)
        },
    ];
    let mut rng = fastrand::Rng::with_seed(7);
    let order = cost::rank(&views, &asked, now, &mut rng);
    assert_eq!(order[0].index, 1, "the price alone differs: {order:?}");
}

#[test]
fn no_price_is_not_a_low_price() {
    let now = Instant::now();
    let stats = learn(&USUAL, now);
    let unpriced = Known {
        price: None,
        ..USUAL
    };
    let free = Known {
        price: Some((0, 0)),
        ..USUAL
    };
    let dear = Known {
        price: Some((50, 100)),
        ..USUAL
    };
    let views = [
        view(&stats, &unpriced),
        view(&stats, &dear),
        view(&stats, &free),
    ];
    let mut rng = fastrand::Rng::with_seed(8);
    let order = cost::rank(&views, &ASKED, now, &mut rng);
    let indices: Vec<usize> = order.iter().map(|ranked| ranked.index).collect();
    assert_eq!(indices, [2, 1, 0]);
    assert_eq!(order[2].score, None);
    let order = score::rank(&views[..2], &ASKED, &Weights::default(), now, &mut rng);
    assert_eq!(
        order[1].index, 0,
        "as dear as the dearest, at best: {order:?}"
    );
}

#[test]
fn exploring_leaves_the_scores_as_they_are() {
    // Defect 5: after an exploration all scores were 0, and the order of the fallbacks arbitrary.
    let start = Instant::now();
    let known: Vec<Known> = (1..=4)
        .map(|step| Known {
            ttft: Duration::from_millis(400 * step),
            ..USUAL
        })
        .collect();
    let stats: Vec<Stats> = known.iter().map(|known| learn(known, start)).collect();
    let views: Vec<View<'_>> = stats.iter().zip(&known).map(|(s, k)| view(s, k)).collect();
    let now = start + HALF_LIFE;
    let mut rng = fastrand::Rng::with_seed(9);
    let mut explored = 0;
    for turn in 0..2000 {
        let order = if turn % 2 == 0 {
            latency::rank(&views, &ASKED, now, &mut rng)
        } else {
            score::rank(&views, &ASKED, &Weights::default(), now, &mut rng)
        };
        explored += usize::from(order[0].index != 0);
        let score = |index: usize| {
            let found = order.iter().find(|ranked| ranked.index == index);
            found.and_then(|ranked| ranked.score).expect("a score")
        };
        assert!(score(0) < score(1) && score(1) < score(2) && score(2) < score(3));
    }
    assert!(
        explored > 20,
        "after a half-life without news some are tried: {explored}"
    );
}

#[test]
fn exploration_is_small_and_never_nothing() {
    let start = Instant::now();
    let fast = learn(&USUAL, start);
    let slow = learn(
        &Known {
            ttft: Duration::from_millis(2400),
            ..USUAL
        },
        start,
    );
    let views = [view(&fast, &USUAL), view(&slow, &USUAL)];
    let mut rng = fastrand::Rng::with_seed(10);
    let mut count = |after: Duration| {
        let now = start + after;
        // The fast one is asked all the time.
        fast.first_token(true, ASKED.input, USUAL.ttft, now);
        firsts(2, 20_000, || latency::rank(&views, &ASKED, now, &mut rng))[1]
    };
    let fresh = count(Duration::ZERO);
    let later = count(HALF_LIFE * 3);
    assert!(fresh < 20, "three times as slow, and that is sure: {fresh}");
    assert!(
        later > 20,
        "and after half an hour it may have changed: {later}"
    );
}

#[test]
fn four_of_five_answers_lose_against_nearly_all_however_fast() {
    // Defect 6, with the prices and speeds of the vector that the newest weights of another gateway get wrong.
    let now = Instant::now();
    let known = [
        Known {
            ttft: Duration::from_millis(800),
            failing: 0,
            speed: 40,
            price: Some((2, 2)),
        },
        Known {
            ttft: Duration::from_millis(2400),
            failing: 1,
            speed: 20,
            price: Some((1, 1)),
        },
        Known {
            ttft: Duration::from_millis(400),
            failing: 20,
            speed: 120,
            price: Some((1, 1)),
        },
    ];
    let firsts = score_firsts(&known, now);
    assert_eq!(firsts[2], 0, "{firsts:?}");
    let absurd = [
        Known {
            ttft: Duration::from_millis(20_000),
            speed: 1,
            price: Some((90, 90)),
            ..USUAL
        },
        Known {
            ttft: Duration::from_millis(1),
            failing: 20,
            speed: 4000,
            price: Some((0, 0)),
        },
    ];
    assert_eq!(
        score_firsts(&absurd, now)[1],
        0,
        "no speed and no price makes up for it"
    );
}

#[test]
fn weight_0_is_asked_when_nothing_else_is_left() {
    // Defect 7: priority 0 was ignored where only prices were known.
    let now = Instant::now();
    let stats = Stats::new(HALF_LIFE, now);
    let free = Known {
        price: Some((0, 0)),
        ..USUAL
    };
    let unpriced = Known {
        price: None,
        ..USUAL
    };
    let views = [
        View {
            weight: 0,
            ..view(&stats, &free)
        },
        view(&stats, &unpriced),
        view(
            &stats,
            &Known {
                price: Some((9, 9)),
                ..USUAL
            },
        ),
    ];
    let mut rng = fastrand::Rng::with_seed(11);
    for turn in 0..400u64 {
        let order = match turn % 4 {
            0 => latency::rank(&views, &ASKED, now, &mut rng),
            1 => cost::rank(&views, &ASKED, now, &mut rng),
            2 => score::rank(&views, &ASKED, &Weights::default(), now, &mut rng),
            _ => weighted::rank(shares(&views), Some(turn), &mut rng),
        };
        assert_eq!(order[2].index, 0, "turn {turn}");
    }
}

#[test]
fn load_is_shared_among_equals_and_kept_by_who_is_clearly_better() {
    // Defect 8: the least score got all requests until it had broken down.
    let now = Instant::now();
    let stats = learn(&USUAL, now);
    let slow = learn(
        &Known {
            ttft: Duration::from_secs(8),
            speed: 4,
            ..USUAL
        },
        now,
    );
    let equal = [
        View {
            inflight: 90,
            ..view(&stats, &USUAL)
        },
        View {
            inflight: 30,
            ..view(&stats, &USUAL)
        },
    ];
    let mut rng = fastrand::Rng::with_seed(12);
    let weights = Weights::default();
    let by_score = firsts(2, 1000, || {
        score::rank(&equal, &ASKED, &weights, now, &mut rng)
    });
    assert!(by_score[1] > 900, "{by_score:?}");
    let by_cost = firsts(2, 1000, || cost::rank(&equal, &ASKED, now, &mut rng));
    assert!(by_cost[1] > 900, "{by_cost:?}");
    let unequal = [
        View {
            inflight: 120,
            ..view(&stats, &USUAL)
        },
        view(&slow, &USUAL),
    ];
    let by_score = firsts(2, 1000, || {
        score::rank(&unequal, &ASKED, &weights, now, &mut rng)
    });
    assert!(by_score[0] > 990, "{by_score:?}");
    let by_latency = firsts(2, 1000, || latency::rank(&unequal, &ASKED, now, &mut rng));
    assert!(by_latency[0] > 990, "{by_latency:?}");
}

#[test]
fn weights_decide_what_counts() {
    let now = Instant::now();
    let known = [
        Known {
            ttft: Duration::from_millis(200),
            price: Some((10, 10)),
            ..USUAL
        },
        Known {
            ttft: Duration::from_millis(2000),
            price: Some((1, 1)),
            ..USUAL
        },
    ];
    let stats: Vec<Stats> = known.iter().map(|known| learn(known, now)).collect();
    let views: Vec<View<'_>> = stats.iter().zip(&known).map(|(s, k)| view(s, k)).collect();
    let mut rng = fastrand::Rng::with_seed(13);
    let mut first = |price: f32, latency: f32| {
        let weights = Weights {
            price,
            latency,
            ..Weights::default()
        };
        score::rank(&views, &ASKED, &weights, now, &mut rng)[0].index
    };
    assert_eq!(first(0.9, 0.1), 1);
    assert_eq!(first(0.1, 0.9), 0);
}

#[test]
fn ten_thousand_requests_split_as_their_weights_say() {
    let shares = [(10, 70), (11, 20), (12, 10)];
    let mut rng = fastrand::Rng::with_seed(14);
    let by_chance = firsts(3, 10_000, || draw(&shares, None, &mut rng));
    let mut session = 0u64;
    let by_session = firsts(3, 10_000, || {
        session = session.wrapping_add(0x9e37_79b9_7f4a_7c15);
        draw(&shares, Some(session), &mut rng)
    });
    for firsts in [by_chance, by_session] {
        // Five standard deviations of a binomial: √(10,000 · p · (1 − p)) is 46, 40 and 30.
        for (seen, (wanted, within)) in firsts.iter().zip([(7000, 230), (2000, 200), (1000, 150)]) {
            assert!(seen.abs_diff(wanted) < within, "{firsts:?}");
        }
    }
}

#[test]
fn a_session_keeps_its_order_whatever_else_happens() {
    let shares = [(10, 70), (11, 20), (12, 10)];
    let mut rng = fastrand::Rng::with_seed(15);
    for session in 0..50 {
        let first = draw(&shares, Some(session), &mut rng);
        for _ in 0..100 {
            assert_eq!(draw(&shares, Some(session), &mut rng), first);
        }
    }
}

#[test]
fn a_change_of_weights_moves_only_the_sessions_that_must() {
    let before = [(10, 50), (11, 50)];
    // A third one comes first in the file, and takes a third or a fifth.
    for (weight, share) in [(50, 3000), (25, 1800)] {
        let after = [(12, weight), (10, 50), (11, 50)];
        let mut rng = fastrand::Rng::with_seed(16);
        let mut moved = 0;
        for session in 0..9000u64 {
            let old = before[draw(&before, Some(session), &mut rng)[0].index].0;
            let new = after[draw(&after, Some(session), &mut rng)[0].index].0;
            assert!(old == new || new == 12, "between the old ones nobody moves");
            moved += u32::from(old != new);
        }
        assert!(moved.abs_diff(share) < 250, "{moved} of 9000, not {share}");
    }
}

fn draw(shares: &[(u64, u32)], session: Option<u64>, rng: &mut fastrand::Rng) -> Vec<Ranked> {
    weighted::rank(shares.iter().copied(), session, rng)
}

fn shares<'v>(
    views: &'v [View<'_>],
) -> impl ExactSizeIterator<Item = (u64, u32)> + Clone + use<'v> {
    let views = views.iter().enumerate();
    views.map(|(index, view)| (index as u64 + 1, view.weight))
}

#[test]
fn of_a_thousand_shares_the_first_are_drawn_and_weight_0_is_last() {
    let weights: Vec<(u64, u32)> = (0..1000).map(|id| (id, (id % 4) as u32)).collect();
    let mut rng = fastrand::Rng::with_seed(19);
    let mut first = [0; 4];
    for turn in 0..4000 {
        let session = (turn % 2 == 0).then_some(turn);
        let order = draw(&weights, session, &mut rng);
        let weight = |ranked: &Ranked| weights[ranked.index].1;
        first[weight(&order[0]) as usize] += 1;
        assert!(order[750..].iter().all(|ranked| weight(ranked) == 0));
        let mut all: Vec<usize> = order.iter().map(|ranked| ranked.index).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000), "each target once");
    }
    // One, two and three sixths; five standard deviations are 118, 149 and 158.
    for (weight, wanted) in [(1, 667), (2, 1333), (3, 2000)] {
        assert!(i32::abs(first[weight] - wanted) < 160, "{first:?}");
    }
}

#[test]
fn the_front_of_many_is_in_the_order_of_shelves_and_numbers() {
    let mut rng = fastrand::Rng::with_seed(21);
    let numbers = [
        f32::NEG_INFINITY,
        -2.5,
        -1e-9,
        -0.0,
        0.0,
        1e-9,
        2.5,
        f32::INFINITY,
    ];
    for count in [0, 1, 7, 64, 65, 1000] {
        let all: Vec<(Shelf, f32)> = (0..count)
            .map(|_| {
                let shelf = [Shelf::First, Shelf::Doubtful, Shelf::Last][rng.usize(..3)];
                (shelf, numbers[rng.usize(..numbers.len())])
            })
            .collect();
        let keys = all.iter().enumerate();
        let keys = keys.map(|(index, (shelf, value))| Key::new(*shelf, *value, index));
        let found = front(keys.collect::<Vec<_>>().into_iter());
        let mut wanted: Vec<usize> = (0..count).collect();
        // Stable: of equals who comes sooner stays ahead.
        wanted.sort_by(|a, b| {
            let ((a, x), (b, y)) = (all[*a], all[*b]);
            a.cmp(&b).then(x.total_cmp(&y))
        });
        let places: Vec<usize> = found.iter().map(|key| key.index as usize).collect();
        assert_eq!(places, wanted[..places.len()], "of {count}");
        assert_eq!(places.len(), if count > 64 { 16 } else { count });
        let values = found.iter().map(Key::value);
        assert!(values.eq(places.iter().map(|index| all[*index].1)));
    }
}

#[test]
fn of_a_thousand_the_best_come_first_and_in_order() {
    let now = Instant::now();
    let stats = Stats::new(HALF_LIFE, now);
    let views: Vec<View<'_>> = (0..1000u64)
        .map(|index| View {
            bill: Some(bill(1000, 1 + (index * 7919) % 1000, 1)),
            ..view(&stats, &USUAL)
        })
        .collect();
    let mut rng = fastrand::Rng::with_seed(17);
    let order = cost::rank(&views, &ASKED, now, &mut rng);
    let scores: Vec<f64> = order.iter().filter_map(|ranked| ranked.score).collect();
    assert_eq!(scores.len(), 1000);
    assert!(
        scores[..128]
            .windows(2)
            .all(|pair| pair[0] <= pair[1] * 1.06),
        "in order, but for prices that are the same"
    );
    let worst = scores[..128].iter().copied().fold(0.0, f64::max);
    assert!(scores[128..].iter().all(|score| *score * 1.06 >= worst));
}

#[test]
fn nothing_to_choose_from_is_no_panic() {
    let now = Instant::now();
    let mut rng = fastrand::Rng::with_seed(18);
    assert!(latency::rank(&[], &ASKED, now, &mut rng).is_empty());
    assert!(cost::rank(&[], &ASKED, now, &mut rng).is_empty());
    assert!(score::rank(&[], &ASKED, &Weights::default(), now, &mut rng).is_empty());
    assert!(weighted::rank(std::iter::empty(), Some(1), &mut rng).is_empty());
}
