//! `weighted`: a share of the requests for each target; a session keeps its target.

use super::rank::{Key, Ranked, Shelf, front};

/// Orders the targets, each told by a hash of its name and its weight, by chance in proportion to their weights; a
/// session's chance is always the same.
///
/// Sorting by −ln(u)/w draws without replacement in proportion to weight (Efraimidis and Spirakis). With u made of
/// the session and the target's name it is weighted rendezvous hashing: when a weight grows, a target comes or one
/// goes, only the sessions move that must.
pub fn rank(
    targets: impl ExactSizeIterator<Item = (u64, u32)> + Clone,
    session: Option<u64>,
    rng: &mut fastrand::Rng,
) -> Vec<Ranked> {
    let count = targets.len();
    // Among equals the chance alone gives the same order, without its logarithm.
    let weights = targets.clone().map(|(_, weight)| weight);
    let (least, most) = weights.fold((u32::MAX, 0), |(least, most), weight| {
        (least.min(weight), most.max(weight))
    });
    let even = least == most;
    let keys = targets.clone().enumerate().map(|(index, (id, weight))| {
        let chance = match session {
            Some(session) => unit(mix(session ^ mix(id))),
            None => rng.f64(),
        };
        Key::new(
            Shelf::of(weight),
            if even {
                chance as f32
            } else {
                (-(1.0 - chance).ln() / f64::from(weight.max(1))) as f32
            },
            index,
        )
    });
    let front = front(keys);
    let mut order = Vec::with_capacity(count);
    order.extend(front.iter().map(|key| drawn(key.index as usize)));
    if front.len() < count {
        let mut is_taken = vec![false; count];
        front
            .iter()
            .for_each(|key| is_taken[key.index as usize] = true);
        // Who is asked after so many others is no matter of weight, but for weight 0.
        let rest = targets.enumerate().filter(|(index, _)| !is_taken[*index]);
        let ahead = rest.clone().filter(|(_, (_, weight))| *weight > 0);
        order.extend(ahead.map(|(index, _)| drawn(index)));
        if least == 0 {
            let last = rest.filter(|(_, (_, weight))| *weight == 0);
            order.extend(last.map(|(index, _)| drawn(index)));
        }
    }
    order
}

fn drawn(index: usize) -> Ranked {
    Ranked { index, score: None }
}

/// Spreads every bit over all others (the finalizer of MurmurHash3, in the constants of splitmix64).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Returns a number from 0 to below 1.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
