use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

const LONG: Duration = Duration::from_secs(3600);

fn gate(limit: u32, size: u32) -> Arc<Gate> {
    Gate::new(limit, Queue { size, wait: LONG })
}

fn turn(key: &str) -> Turn {
    Turn {
        key: key.into(),
        priority: Priority::Normal,
    }
}

/// What a waiting one has been told so far.
fn told(waiting: &mut Waiting) -> Option<Result<(), Refusal>> {
    let told = waiting.told.try_recv().ok();
    waiting.over |= told.is_some();
    told
}

#[test]
fn places_are_bounded_and_come_back() {
    let gate = gate(2, 0);
    let first = gate.enter().unwrap();
    let second = gate.enter().unwrap();
    assert!(gate.enter().is_none(), "a third of two");
    let refused = gate.join(&turn("a")).err().unwrap();
    assert_eq!(refused.reason, Reason::Full, "nobody waits");
    drop(first);
    let third = gate.enter();
    assert!(third.is_some());
    drop((second, third));
    assert_eq!(gate.inside(), 0);
}

#[test]
fn keys_take_turns_however_many_each_has_waiting() {
    let gate = gate(1, 1000);
    let mut slot = gate.enter();
    let mut many: Vec<Waiting> = (0..500).map(|_| gate.join(&turn("a")).unwrap()).collect();
    let mut one = gate.join(&turn("b")).unwrap();
    drop(slot.take());
    assert_eq!(told(&mut many[0]), Some(Ok(())), "first come");
    assert_eq!(told(&mut one), None);
    drop(Slot(gate.clone()));
    assert_eq!(told(&mut one), Some(Ok(())), "the other key is next");
    drop(Slot(gate.clone()));
    assert_eq!(told(&mut many[1]), Some(Ok(())), "and then the first again");
    assert_eq!(gate.waiting(), 498);
}

#[test]
fn a_higher_priority_goes_first() {
    let gate = gate(1, 10);
    let slot = gate.enter();
    let of = |priority| Turn {
        key: "a".into(),
        priority,
    };
    let mut low = gate.join(&of(Priority::Low)).unwrap();
    let mut normal = gate.join(&of(Priority::Normal)).unwrap();
    let mut high = gate.join(&of(Priority::High)).unwrap();
    drop(slot);
    assert_eq!(told(&mut high), Some(Ok(())));
    drop(Slot(gate.clone()));
    assert_eq!(told(&mut normal), Some(Ok(())));
    drop(Slot(gate.clone()));
    assert_eq!(told(&mut low), Some(Ok(())));
}

#[test]
fn a_full_queue_makes_room_for_who_has_less_of_it() {
    let gate = gate(1, 4);
    let _slot = gate.enter();
    let mut many: Vec<Waiting> = (0..4).map(|_| gate.join(&turn("a")).unwrap()).collect();
    let fifth = gate.join(&turn("a")).err().unwrap();
    assert_eq!(
        (fifth.reason, fifth.greedy),
        (Reason::Full, false),
        "alone it takes nothing from others"
    );
    let _one = gate.join(&turn("b")).unwrap();
    let last = many.last_mut().unwrap();
    let Some(Err(sent_away)) = told(last) else {
        panic!("the newest of the key with most gives way")
    };
    assert_eq!(
        (sent_away.reason, sent_away.greedy),
        (Reason::Displaced, true)
    );
    let again = gate.join(&turn("a")).err().unwrap();
    assert!(again.greedy, "it has three of four places");
    let _two = gate.join(&turn("b")).unwrap();
    let even = gate.join(&turn("b")).err().unwrap();
    assert_eq!(
        (even.reason, even.greedy),
        (Reason::Full, false),
        "even shares"
    );
    assert_eq!(gate.waiting(), 4);
}

#[test]
fn a_full_queue_makes_room_for_a_higher_priority() {
    let gate = gate(1, 1);
    let _slot = gate.enter();
    let mut normal = gate.join(&turn("a")).unwrap();
    let low = Turn {
        key: "b".into(),
        priority: Priority::Low,
    };
    assert!(gate.join(&low).is_err(), "not for a lower one");
    let high = Turn {
        key: "a".into(),
        priority: Priority::High,
    };
    let _high = gate.join(&high).unwrap();
    assert!(matches!(told(&mut normal), Some(Err(_))));
}

#[test]
fn who_leaves_frees_the_place_at_once_waiting_or_told() {
    let gate = gate(1, 10);
    let slot = gate.enter();
    let waiting = gate.join(&turn("a")).unwrap();
    assert_eq!(gate.waiting(), 1);
    drop(waiting);
    assert_eq!(gate.waiting(), 0, "left the line");
    let told_but_gone = gate.join(&turn("a")).unwrap();
    drop(slot);
    assert_eq!(gate.inside(), 1, "its place was given to it");
    let mut next = gate.join(&turn("b")).unwrap();
    assert_eq!(told(&mut next), None);
    drop(told_but_gone);
    assert_eq!(told(&mut next), Some(Ok(())), "and goes on to the next");
    drop(Slot(gate.clone()));
    assert_eq!((gate.inside(), gate.waiting()), (0, 0));
}

#[test]
fn nobody_walks_past_those_who_wait() {
    let gate = gate(1, 10);
    let slot = gate.enter();
    let _waiting = gate.join(&turn("a")).unwrap();
    gate.set(
        1,
        Queue {
            size: 10,
            wait: LONG,
        },
    );
    drop(slot);
    assert!(gate.enter().is_none(), "the place is taken already");
    gate.set(
        2,
        Queue {
            size: 10,
            wait: LONG,
        },
    );
    assert!(gate.enter().is_some(), "a raised limit counts at once");
}

#[test]
fn a_raised_limit_lets_in_those_who_wait() {
    let gate = gate(1, 10);
    let _slot = gate.enter();
    let mut waiting = gate.join(&turn("a")).unwrap();
    gate.set(2, Queue::default());
    assert_eq!(told(&mut waiting), Some(Ok(())));
}

#[tokio::test]
async fn nobody_waits_longer_than_the_queue_allows() {
    let wait = Duration::from_millis(40);
    let gate = Gate::new(1, Queue { size: 10, wait });
    let _slot = gate.enter();
    let begun = std::time::Instant::now();
    let refused = gate.join(&turn("a")).unwrap().wait(LONG).await;
    let refused = refused.err().unwrap();
    assert_eq!((refused.reason, refused.retry_after), (Reason::Late, wait));
    assert!(begun.elapsed() >= wait);
    assert_eq!(gate.waiting(), 0, "it has left the line");
    let shorter = Duration::from_millis(10);
    gate.set(
        1,
        Queue {
            size: 10,
            wait: LONG,
        },
    );
    let begun = std::time::Instant::now();
    assert!(gate.join(&turn("a")).unwrap().wait(shorter).await.is_err());
    assert!(begun.elapsed() < LONG, "nor than its request allows");
}

#[test]
fn a_wait_that_is_dropped_on_the_way_loses_no_place() {
    let gate = gate(1, 10);
    let slot = gate.enter();
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _guard = runtime.enter();
        let mut wait = pin!(gate.join(&turn("a")).unwrap().wait(LONG));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(wait.as_mut().poll(&mut context), Poll::Pending));
        drop(slot);
        assert_eq!(gate.inside(), 1, "given, and not taken up yet");
    }
    assert_eq!((gate.inside(), gate.waiting()), (0, 0));
}

#[test]
fn many_threads_lose_no_place_and_never_exceed_the_limit() {
    let gate = gate(3, 1000);
    let most = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (gate, most) = (&gate, &most);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    for round in 0..300u32 {
                        let turn = turn(&format!("key {}", (thread + round) % 3));
                        let slot = match gate.enter() {
                            Some(slot) => slot,
                            None => gate.join(&turn).unwrap().wait(LONG).await.unwrap(),
                        };
                        most.fetch_max(gate.inside(), SeqCst);
                        if round % 3 == 0 {
                            tokio::task::yield_now().await;
                        }
                        drop(slot);
                        // Some come and leave before it is their turn.
                        drop(gate.join(&turn));
                    }
                });
            });
        }
    });
    assert!(most.load(SeqCst) <= 3, "{most:?} inside");
    assert_eq!((gate.inside(), gate.waiting()), (0, 0));
}
