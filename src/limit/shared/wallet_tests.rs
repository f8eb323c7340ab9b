use super::*;
use crate::limit::budget::Every;
use crate::limit::shared::account::{MONEY_TTL, SLOTS_TTL};

const CENT: u64 = 10_000_000_000;
/// 10 USD have slices of twenty cents.
const TEN: u64 = 1000 * CENT;

fn budget() -> Budget {
    Budget {
        most_pico: TEN,
        every: Every::Ever,
        rolling: false,
        zone: jiff::tz::TimeZone::UTC,
        since: None,
    }
}

fn wallet(of: Of) -> (Wallet, Instant) {
    let now = Instant::now();
    let key = Key {
        name: "key:a".into(),
        of,
    };
    (Wallet::new(key, 100, now), now)
}

fn money() -> (Wallet, Instant) {
    wallet(Of::Budget(Every::Ever, false))
}

fn granted(grant: u64) -> Told {
    Told {
        grant,
        room: 1,
        ..Told::default()
    }
}

/// Asks for `lack` and is granted all that is asked for.
fn fetch(wallet: &Wallet, lack: u64, now: Instant) -> Line {
    let (line, said) = wallet.say(Some(lack), true, Mode::Leased, (now, 1));
    let want = match &line {
        Line::Rate { want, .. } | Line::Lease { want, .. } => *want,
    };
    wallet.hear(&granted(want.most), lack, said, 1);
    line
}

fn take(wallet: &Wallet, amount: u64, now: Instant) -> Taken {
    let budget = budget();
    let bound = match wallet.key.of {
        Of::Limit(_) => Bound::Limit(1000),
        Of::Budget(..) => Bound::Budget(&budget),
    };
    wallet.take(bound, amount, Mode::Leased, now)
}

#[test]
fn a_slice_is_handed_out_and_more_is_wanted_before_it_is_gone() {
    let (wallet, now) = money();
    assert_eq!(take(&wallet, CENT, now), Taken::Lack);
    let Line::Lease { want, hold, .. } = fetch(&wallet, CENT, now) else {
        panic!("money is a lease");
    };
    // A cent that is needed, and twenty beyond.
    assert_eq!((want.least, want.most), (10_000_000, 210_000_000));
    assert_eq!(hold, Some(0));
    let mut lows = 0;
    for _ in 0..20 {
        match take(&wallet, CENT, now) {
            Taken::Done { low, .. } => lows += usize::from(low),
            other @ (Taken::Lack | Taken::Refused(_)) => panic!("{other:?}"),
        }
    }
    assert_eq!(lows, 1, "it is said once");
    assert_eq!(take(&wallet, CENT, now), Taken::Lack);
    let (line, _) = wallet.say(None, true, Mode::Leased, (now, 1));
    let Line::Lease { hold, want, .. } = line else {
        panic!("money is a lease");
    };
    assert_eq!(hold, Some(210_000_000), "all of it is out");
    assert_eq!((want.least, want.most), (0, 200_000_000), "the next slice");
}

#[test]
fn what_is_held_is_handed_out_only_while_it_is_certainly_held() {
    for (of, ttl) in [
        (Of::Budget(Every::Ever, false), MONEY_TTL),
        (Of::Limit(Which::Concurrent), SLOTS_TTL),
    ] {
        let (wallet, now) = wallet(of);
        take(&wallet, 1, now);
        fetch(&wallet, 1, now);
        assert!(matches!(take(&wallet, 1, now), Taken::Done { .. }));
        let late = now + ttl - MARGIN;
        assert_eq!(take(&wallet, 1, late), Taken::Lack, "others may have it");
        assert!(wallet.tick(now + ttl / 4).says, "it is said again in time");
    }
}

#[test]
fn what_was_spent_is_said_under_one_number_until_somebody_has_heard() {
    let (wallet, now) = money();
    take(&wallet, CENT, now);
    fetch(&wallet, CENT, now);
    wallet.spend(CENT, true, CENT / 2 + 7);
    let reported = |line: &Line| match line {
        Line::Lease {
            spend, seq, hold, ..
        } => (*spend, *seq, *hold),
        Line::Rate { .. } => panic!("money is a lease"),
    };
    let (first, said) = wallet.say(None, true, Mode::Leased, (now, 1));
    // Of what came back a slice stays, and what is less than a nano-dollar is still to be said.
    assert_eq!(reported(&first), (5_000_000, 101, Some(200_000_001)));
    wallet.unheard(said);
    wallet.spend(0, true, 3 * NANO);
    let (again, said) = wallet.say(None, true, Mode::Leased, (now, 1));
    assert_eq!(reported(&again).0, 5_000_000, "it may have been counted");
    assert_eq!(reported(&again).1, 101);
    wallet.hear(&granted(0), 0, said, 1);
    let (next, _) = wallet.say(None, true, Mode::Leased, (now, 1));
    assert_eq!((reported(&next).0, reported(&next).1), (3, 102));
}

#[test]
fn what_nobody_used_for_a_tick_goes_back() {
    let (wallet, now) = money();
    take(&wallet, CENT, now);
    fetch(&wallet, CENT, now);
    wallet.tick(now);
    // Of twenty cents at most five were out at once.
    for _ in 0..5 {
        take(&wallet, CENT, now);
    }
    for _ in 0..5 {
        wallet.put_back(CENT, true, Mode::Leased);
    }
    assert!(wallet.tick(now).says);
    let (line, _) = wallet.say(None, true, Mode::Leased, (now, 1));
    let Line::Lease { hold, .. } = line else {
        panic!("money is a lease");
    };
    assert_eq!(
        hold,
        Some(60_000_000),
        "five that were used, and one that is out"
    );
}

#[test]
fn who_was_refused_a_moment_ago_is_refused_without_a_question() {
    let (wallet, now) = money();
    take(&wallet, CENT, now);
    let (_, said) = wallet.say(Some(CENT), true, Mode::Leased, (now, 1));
    let refused = Told {
        refused: true,
        spent: 9,
        ..Told::default()
    };
    assert!(wallet.hear(&refused, CENT, said, 1).refusal.is_some());
    assert!(matches!(take(&wallet, CENT, now), Taken::Refused(_)));
    assert_eq!(
        take(&wallet, CENT / 2, now),
        Taken::Lack,
        "less may be there"
    );
    let later = now + Duration::from_secs(1);
    assert_eq!(take(&wallet, CENT, later), Taken::Lack);
}
