//! What may happen to providers, in half an hour each.

use crate::world::{Provider, Scenario, USUAL};

const HALF_HOUR: f64 = 1800.0;
const RATE: f64 = 5.0;

const fn scenario(
    name: &'static str,
    providers: usize,
    rate: f64,
    at: fn(usize, f64) -> Provider,
) -> Scenario {
    Scenario {
        name,
        seconds: HALF_HOUR,
        rate,
        providers,
        at,
    }
}

/// Nothing happens; one is fast, one cheap, one neither.
pub static STEADY: Scenario = scenario("steady", 3, RATE, |index, _| match index {
    0 => Provider {
        ttft: 0.8,
        price: (2.0, 8.0),
        ..USUAL
    },
    1 => Provider {
        ttft: 0.3,
        speed: 90.0,
        price: (3.0, 12.0),
        ..USUAL
    },
    _ => Provider {
        ttft: 1.0,
        speed: 50.0,
        price: (1.0, 4.0),
        ..USUAL
    },
});

/// The best slows down over ten minutes, to ten times what it was.
pub static DEGRADATION: Scenario = scenario("slow degradation", 3, RATE, |index, now| {
    let slower = 1.0 + 9.0 * ((now - 600.0) / 600.0).clamp(0.0, 1.0);
    match index {
        0 => Provider {
            ttft: 0.4 * slower,
            speed: 80.0 / slower,
            ..USUAL
        },
        1 => Provider { ttft: 0.7, ..USUAL },
        _ => Provider { ttft: 0.9, ..USUAL },
    }
});

/// The best is gone for five minutes: every request to it fails after two seconds.
pub static OUTAGE: Scenario = scenario("outage and recovery", 3, RATE, |index, now| match index {
    0 => {
        let failing = if (600.0..900.0).contains(&now) {
            1.0
        } else {
            0.005
        };
        Provider {
            ttft: 0.4,
            speed: 80.0,
            failing,
            fails_after: 2.0,
            ..USUAL
        }
    }
    1 => Provider { ttft: 0.7, ..USUAL },
    _ => Provider { ttft: 0.9, ..USUAL },
});

/// The best fails four of five requests in every second half minute.
pub static FLAPPING: Scenario = scenario("flapping", 3, RATE, |index, now| match index {
    0 => {
        let failing = if now % 60.0 < 30.0 { 0.8 } else { 0.005 };
        Provider {
            ttft: 0.4,
            failing,
            ..USUAL
        }
    }
    1 => Provider { ttft: 0.7, ..USUAL },
    _ => Provider { ttft: 0.9, ..USUAL },
});

/// The cheapest triples its price of input after ten minutes; the means of both prices say another thing.
pub static PRICES: Scenario = scenario("price change", 3, RATE, |index, now| match index {
    0 if now < 600.0 => Provider {
        price: (0.5, 8.0),
        ..USUAL
    },
    0 => Provider {
        price: (1.5, 8.0),
        ..USUAL
    },
    1 => Provider {
        price: (2.0, 6.0),
        ..USUAL
    },
    _ => Provider {
        price: (1.0, 8.5),
        ..USUAL
    },
});

/// The cheapest, and the fastest too, fails one request in five, and takes three seconds to say so.
pub static UNRELIABLE: Scenario =
    scenario("cheap but unreliable", 3, RATE, |index, _| match index {
        0 => Provider {
            ttft: 0.4,
            speed: 180.0,
            failing: 0.2,
            fails_after: 3.0,
            price: (1.0, 4.0),
            ..USUAL
        },
        1 => Provider {
            ttft: 0.8,
            price: (1.2, 4.8),
            ..USUAL
        },
        _ => Provider {
            ttft: 2.4,
            speed: 30.0,
            price: (1.0, 4.0),
            ..USUAL
        },
    });

/// One refuses half of its requests at once: what is divided by all requests looks fast.
pub static FAST_FAIL: Scenario = scenario("fast fail", 3, RATE, |index, _| match index {
    0 => Provider {
        ttft: 1.2,
        failing: 0.5,
        fails_after: 0.02,
        ..USUAL
    },
    1 => Provider { ttft: 0.8, ..USUAL },
    _ => Provider { ttft: 0.7, ..USUAL },
});

/// The fastest gets slow under load, and refuses what is too much; the others have room.
pub static LOAD: Scenario = scenario("load-sensitive", 3, 10.0, |index, _| match index {
    0 => Provider {
        ttft: 0.4,
        speed: 80.0,
        capacity: 60.0,
        ..USUAL
    },
    1 => Provider {
        ttft: 0.6,
        capacity: 90.0,
        ..USUAL
    },
    _ => Provider {
        ttft: 0.8,
        capacity: 120.0,
        ..USUAL
    },
});

/// Eight providers of whom nothing is known; two of them are hopeless.
pub static COLD: Scenario = Scenario {
    seconds: 300.0,
    ..scenario("cold start", 8, RATE, |index, _| match index {
        0 => Provider { ttft: 2.5, ..USUAL },
        1 => Provider {
            ttft: 9.0,
            speed: 10.0,
            ..USUAL
        },
        2 => Provider { ttft: 1.5, ..USUAL },
        3 => Provider {
            failing: 0.9,
            fails_after: 3.0,
            ..USUAL
        },
        4 => Provider {
            ttft: 0.35,
            speed: 90.0,
            ..USUAL
        },
        5 => Provider { ttft: 0.9, ..USUAL },
        6 => Provider { ttft: 1.8, ..USUAL },
        _ => Provider { ttft: 3.0, ..USUAL },
    })
};

pub static ALL: [&Scenario; 9] = [
    &STEADY,
    &DEGRADATION,
    &OUTAGE,
    &FLAPPING,
    &PRICES,
    &UNRELIABLE,
    &FAST_FAIL,
    &LOAD,
    &COLD,
];
