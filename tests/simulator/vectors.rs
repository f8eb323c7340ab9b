//! The rebuilt reference is the reference: it gives the scores that the original gives.

use crate::references::{Measured, NEWEST, Weights, penalty, scores};

const A: Measured = Measured {
    price: 2.0,
    uptime: 99.9,
    latency: 800.0,
    throughput: 40.0,
    cached_price: true,
};
const B: Measured = Measured {
    price: 1.0,
    uptime: 99.0,
    latency: 2400.0,
    throughput: 20.0,
    cached_price: false,
};
const C: Measured = Measured {
    price: 1.0,
    uptime: 80.0,
    latency: 400.0,
    throughput: 120.0,
    cached_price: false,
};
const MAY: Weights = Weights {
    price: 0.6,
    uptime: 0.5,
    throughput: 0.05,
    latency: 0.025,
    cache: 0.2,
    cap: f64::INFINITY,
};

#[test]
fn the_reference_scores_its_own_vectors() {
    for (weights, stream, prompt, wanted) in [
        (MAY, true, 100, [0.617, 0.323, 0.729]),
        (MAY, false, 100, [0.609, 0.221, 0.731]),
        (MAY, true, 8000, [0.527, 0.421, 0.859]),
        (NEWEST, true, 100, [0.864, 0.867, 0.708]),
        (NEWEST, false, 100, [0.857, 0.646, 0.712]),
    ] {
        let scores = scores(&[A, B, C], weights, stream, prompt);
        for (score, wanted) in scores.iter().zip(wanted) {
            assert!(
                (score - wanted).abs() < 0.0015,
                "{scores:?} {stream} {prompt}"
            );
        }
    }
}

#[test]
fn the_reference_penalty_is_its_own() {
    for (uptime, wanted) in [
        (95.0, 0.0),
        (94.0, 0.003),
        (90.0, 0.069),
        (85.0, 0.277),
        (80.0, 0.623),
        (70.0, 1.731),
        (60.0, 3.393),
        (50.0, 5.609),
        (0.0, 25.0),
    ] {
        assert!((penalty(uptime) - wanted).abs() < 0.001, "{uptime}");
    }
}
