//! A trained model: what it predicts, and the bytes of its file.
//!
//! The file, little-endian: `STRAITR1`; the FNV-1a hash of the names of the numbers; a count of trees; the
//! base; for each number its mean, its deviation, its weight, and its weight for open questions; the scale of the words'
//! weights; the trees; the knots of the two scales; one signed byte for each bucket; the FNV-1a hash of all that.

use super::features::{self, BUCKETS, NUMBERS};
use super::prompt::Prompt;
use super::trees::{LEAVES, QUESTIONS, Tree};
use crate::error::{Error, Kind, Result};

/// Predicts how much a prompt gains from the strong tier.
#[derive(Clone, PartialEq)]
pub struct Classifier {
    /// The gain of a prompt of which nothing is known.
    pub(super) base: f32,
    pub(super) numbers: Vec<Number>,
    /// What one step of a word's weight is worth.
    pub(super) word_scale: f32,
    /// [`BUCKETS`] weights of words and pairs, in steps.
    pub(super) words: Vec<i8>,
    pub(super) trees: Vec<Tree>,
    /// The predicted gain below which this share of the prompts fell that it was trained on: never falling.
    pub(super) shares: Vec<f32>,
    /// The probability that the weak tier sufficed, at the same shares: never rising.
    pub(super) suffices: Vec<f32>,
}

/// How the linear part takes a number.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Number {
    pub mean: f32,
    pub deviation: f32,
    pub weight: f32,
    /// Added to the weight for questions without options.
    pub open: f32,
}

const MAGIC: &[u8; 8] = b"STRAITR1";
/// Knots of the scales: steps of 1/64.
pub(super) const KNOTS: usize = 65;
const MOST_TREES: usize = 1024;
const HEADER: usize = 8 + 8 + 4;
const TREE: usize = QUESTIONS * 5 + LEAVES * 4;
/// A number beyond this many deviations counts as this many: what was never seen is not extrapolated.
pub(super) const FARTHEST: f32 = 4.0;

impl Classifier {
    /// Reads a model's file; anything that is not exactly one is refused.
    pub fn load(bytes: &[u8]) -> Result<Self> {
        let bad = |what: &'static str| Error::new(Kind::InvalidRequest, what);
        let Some((body, sum)) = bytes.split_last_chunk::<8>() else {
            return Err(bad("not a router model: too short"));
        };
        let mut bytes = Bytes(body);
        if bytes.take::<8>() != Some(*MAGIC) {
            return Err(bad("not a router model of this version"));
        }
        if bytes.take().map(u64::from_le_bytes) != Some(names()) {
            return Err(bad(
                "the router model was made with other features: train it again",
            ));
        }
        let trees = bytes
            .take()
            .map_or(usize::MAX, |count| u32::from_le_bytes(count) as usize);
        if trees > MOST_TREES || body.len() != size(trees) {
            return Err(bad("the router model has a wrong length"));
        }
        if u64::from_le_bytes(*sum) != fnv(body) {
            return Err(bad("the router model is damaged"));
        }
        let read = |bytes: &mut Bytes<'_>| Self::read(bytes, trees);
        read(&mut bytes).ok_or_else(|| bad("the router model has impossible values"))
    }

    fn read(bytes: &mut Bytes<'_>, trees: usize) -> Option<Self> {
        let base = bytes.weight()?;
        let numbers = (0..NUMBERS)
            .map(|_| {
                Some(Number {
                    mean: bytes.float()?,
                    deviation: bytes.float().filter(|deviation| *deviation >= 0.0)?,
                    weight: bytes.weight()?,
                    open: bytes.weight()?,
                })
            })
            .collect::<Option<_>>()?;
        let word_scale = bytes.weight()?;
        let trees = (0..trees)
            .map(|_| {
                let number: [u8; QUESTIONS] = bytes.take()?;
                let tree = Tree {
                    number,
                    above: bytes.floats(Bytes::float)?,
                    leaf: bytes.floats(Bytes::weight)?,
                };
                let known = number.iter().all(|number| usize::from(*number) < NUMBERS);
                known.then_some(tree)
            })
            .collect::<Option<_>>()?;
        let shares: [f32; KNOTS] = bytes.floats(Bytes::weight)?;
        let suffices: [f32; KNOTS] = bytes.floats(Bytes::weight)?;
        let known = shares.is_sorted()
            && suffices.is_sorted_by(|a, b| a >= b)
            && suffices.iter().all(|share| (0.0..=1.0).contains(share));
        known.then(|| Self {
            base,
            numbers,
            word_scale,
            words: bytes.0.iter().map(|byte| byte.cast_signed()).collect(),
            trees,
            shares: shares.to_vec(),
            suffices: suffices.to_vec(),
        })
    }

    /// Returns the bytes of the model's file.
    pub fn save(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size(self.trees.len()) + 8);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&names().to_le_bytes());
        bytes.extend_from_slice(&(self.trees.len() as u32).to_le_bytes());
        let float = |bytes: &mut Vec<u8>, value: f32| bytes.extend_from_slice(&value.to_le_bytes());
        float(&mut bytes, self.base);
        for number in &self.numbers {
            for value in [number.mean, number.deviation, number.weight, number.open] {
                float(&mut bytes, value);
            }
        }
        float(&mut bytes, self.word_scale);
        for tree in &self.trees {
            bytes.extend_from_slice(&tree.number);
            for value in tree.above.iter().chain(&tree.leaf) {
                float(&mut bytes, *value);
            }
        }
        for value in self.shares.iter().chain(&self.suffices) {
            float(&mut bytes, *value);
        }
        bytes.extend(self.words.iter().map(|weight| weight.cast_unsigned()));
        let sum = fnv(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Returns how much `prompt` wants the strong tier, from 0 to 1.
    ///
    /// The score is a share: of the prompts that the model learned from, so many want it less. A threshold of 0.7
    /// thus sends about 30 % of such prompts to the strong tier.
    pub fn score(&self, prompt: &Prompt<'_>) -> f32 {
        self.share(self.gain(prompt))
    }

    /// Returns the predicted gain in quality of the strong tier over the weak: what scores are made of.
    pub fn gain(&self, prompt: &Prompt<'_>) -> f32 {
        let mut steps = 0i32;
        let mut count = 0u32;
        let numbers = features::measure(prompt, |bucket| {
            steps += i32::from(self.words.get(bucket as usize).copied().unwrap_or(0));
            count += 1;
        });
        let words = steps as f32 * self.word_scale / (count.max(1) as f32).sqrt();
        self.base
            + words
            + self.linear(&numbers)
            + self
                .trees
                .iter()
                .map(|tree| tree.value(&numbers))
                .sum::<f32>()
    }

    /// Returns the numbers by how much a deviation of each moves the gain: of all prompts, and of open questions besides.
    pub fn strongest(&self) -> Vec<(&'static str, f32, f32)> {
        let mut named: Vec<_> = self
            .numbers
            .iter()
            .enumerate()
            .map(|(index, number)| (features::name(index), number.weight, number.open))
            .collect();
        let most = |weights: &(&str, f32, f32)| weights.1.abs().max(weights.2.abs());
        named.sort_by(|a, b| most(b).total_cmp(&most(a)));
        named
    }

    /// Returns how many trees there are.
    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    fn linear(&self, numbers: &[f32; NUMBERS]) -> f32 {
        let open = features::is_open(numbers);
        self.numbers
            .iter()
            .zip(numbers)
            .map(|(number, value)| {
                let weight = number.weight + if open { number.open } else { 0.0 };
                number.standard(*value) * weight
            })
            .sum()
    }

    /// Returns the probability that the weak tier answers a prompt of this score as well as the strong.
    pub fn weak_suffices(&self, score: f32) -> f32 {
        let last = KNOTS - 1;
        let place = score.clamp(0.0, 1.0) * last as f32;
        let below = (place as usize).min(last - 1);
        let (low, high) = (self.suffices[below], self.suffices[below + 1]);
        low + (high - low) * (place - below as f32)
    }

    fn share(&self, gain: f32) -> f32 {
        let last = KNOTS - 1;
        let above = self.shares.partition_point(|knot| *knot < gain);
        // The outermost steps fade out, so that no two gains beyond the knots have one score.
        let width = (self.shares[last] - self.shares[0]).max(1e-3);
        let step = 1.0 / last as f32;
        if above <= 1 {
            let beyond = (self.shares[1] - gain) / width;
            return step / (1.0 + 8.0 * beyond);
        }
        if above >= last {
            let beyond = (gain - self.shares[last - 1]) / width;
            return 1.0 - step / (1.0 + 8.0 * beyond);
        }
        let (low, high) = (self.shares[above - 1], self.shares[above]);
        ((above - 1) as f32 + (gain - low) / (high - low)) * step
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier")
            .field("trees", &self.trees.len())
            .finish_non_exhaustive()
    }
}

impl Number {
    /// Returns the value in deviations from the mean.
    pub fn standard(self, value: f32) -> f32 {
        if self.deviation == 0.0 {
            return 0.0;
        }
        ((value - self.mean) / self.deviation).clamp(-FARTHEST, FARTHEST)
    }
}

/// Returns which tier a score falls into: how many of the thresholds, which rise, it reaches.
pub fn tier(score: f32, thresholds: &[f32]) -> usize {
    thresholds
        .iter()
        .filter(|threshold| **threshold <= score)
        .count()
}

fn size(trees: usize) -> usize {
    HEADER + 4 + NUMBERS * 16 + 4 + trees * TREE + 2 * KNOTS * 4 + BUCKETS
}

/// Returns the hash of the names of the numbers, so that a model of other features is known.
fn names() -> u64 {
    let mut all = Vec::with_capacity(1024);
    for index in 0..NUMBERS {
        all.extend_from_slice(features::name(index).as_bytes());
        all.push(0);
    }
    fnv(&all)
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn float(&mut self) -> Option<f32> {
        self.take()
            .map(f32::from_le_bytes)
            .filter(|value| value.is_finite())
    }

    /// Reads a value that is added to others: small, so that no sum is infinite.
    fn weight(&mut self) -> Option<f32> {
        self.float().filter(|value| value.abs() < 1e6)
    }

    fn floats<const N: usize>(&mut self, one: fn(&mut Self) -> Option<f32>) -> Option<[f32; N]> {
        let mut floats = [0.0; N];
        for place in &mut floats {
            *place = one(self)?;
        }
        Some(floats)
    }
}
