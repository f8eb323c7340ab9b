//! `weighted`: a share of the requests for each target; a session keeps its target.

use super::rank::{Key, Ranked, Shelf, ranked, sort};

/// Orders the targets, each told by a hash of its name and its weight, by chance in proportion to their weights; a
/// session's chance is always the same.
///
/// Sorting by −ln(u)/w draws without replacement in proportion to weight (Efraimidis and Spirakis). With u made of
/// the session and the target's name it is weighted rendezvous hashing: when a weight grows, a target comes or one
/// goes, only the sessions move that must.
pub fn rank(
    targets: impl Iterator<Item = (u64, u32)> + Clone,
    session: Option<u64>,
    rng: &mut fastrand::Rng,
) -> Vec<Ranked> {
    let mut weights = targets.clone().map(|(_, weight)| weight);
    let one = weights.next();
    // Among equals the chance alone gives the same order, without its logarithm.
    let even = weights.all(|weight| Some(weight) == one);
    let keys = targets.enumerate().map(|(index, (id, weight))| {
        let chance = match session {
            Some(session) => unit(mix(session ^ mix(id))),
            None => rng.f64(),
        };
        Key {
            shelf: Shelf::of(weight),
            value: if even {
                chance as f32
            } else {
                (-(1.0 - chance).ln() / f64::from(weight.max(1))) as f32
            },
            index: index as u32,
        }
    });
    let mut keys: Vec<Key> = keys.collect();
    sort(&mut keys);
    ranked(&keys, |_| None)
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
