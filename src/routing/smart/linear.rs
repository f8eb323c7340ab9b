//! Ridge regression over hashed words and numbers, by conjugate gradients.

use super::features::{self, BUCKETS, NUMBERS};
use super::model::Number;

/// The features of one row.
#[derive(Debug)]
pub struct Sample {
    pub numbers: [f32; NUMBERS],
    /// Buckets of words and pairs, each once.
    pub buckets: Vec<u32>,
}

/// A linear prediction.
#[derive(Debug)]
pub struct Linear {
    pub(super) numbers: Vec<Number>,
    /// Weights of buckets.
    pub words: Vec<f32>,
    pub mean: f32,
}

impl Linear {
    pub fn value(&self, sample: &Sample) -> f32 {
        let words: f32 = sample
            .buckets
            .iter()
            .map(|bucket| self.words[*bucket as usize])
            .sum();
        let open = features::is_open(&sample.numbers);
        let numbers: f32 = self
            .numbers
            .iter()
            .zip(&sample.numbers)
            .map(|(number, value)| {
                number.standard(*value) * (number.weight + if open { number.open } else { 0.0 })
            })
            .sum();
        self.mean + words / root(sample) + numbers
    }
}

/// A bucket seen in fewer rows says nothing of others.
const LEAST_SEEN: u32 = 2;
const STEPS: usize = 60;
const PRECISION: f64 = 1e-3;

/// Fits `wanted` with a penalty on the squares of the weights.
///
/// Rare words may weigh more than common ones: a bucket's column is scaled by its inverse document frequency, which
/// the weights then contain. Numbers are scaled to deviations, times `scale`.
pub fn fit(samples: &[&Sample], wanted: &[f32], mean: f32, penalty: f64, scale: f32) -> Linear {
    let numbers = standards(samples);
    let rarity = rarity(samples);
    let rows: Vec<Line> = samples
        .iter()
        .map(|sample| Line::new(sample, &numbers, &rarity, scale))
        .collect();
    let size = BUCKETS + 2 * NUMBERS + 1;
    let target: Vec<f64> = wanted.iter().map(|gain| f64::from(gain - mean)).collect();
    let weights = solve(&rows, &target, penalty, size);
    let words = (0..BUCKETS)
        .map(|bucket| weights[bucket] as f32 * rarity[bucket])
        .collect();
    let numbers = numbers
        .iter()
        .enumerate()
        .map(|(index, number)| Number {
            weight: weights[BUCKETS + index] as f32 * scale,
            open: weights[BUCKETS + NUMBERS + index] as f32 * scale * OPEN,
            ..*number
        })
        .collect();
    Linear {
        numbers,
        words,
        mean: mean + weights[size - 1] as f32,
    }
}

/// Open questions are few where most have options: their own weights are scaled up.
const OPEN: f32 = 4.0;

/// A row of the matrix: the columns that are not zero.
struct Line {
    words: Vec<(u32, f32)>,
    numbers: [f32; NUMBERS],
    open: bool,
}

impl Line {
    fn new(sample: &Sample, numbers: &[Number], rarity: &[f32], scale: f32) -> Self {
        let root = root(sample);
        Self {
            words: sample
                .buckets
                .iter()
                .filter(|bucket| rarity[**bucket as usize] > 0.0)
                .map(|bucket| (*bucket, rarity[*bucket as usize] / root))
                .collect(),
            numbers: std::array::from_fn(|index| {
                numbers[index].standard(sample.numbers[index]) * scale
            }),
            open: features::is_open(&sample.numbers),
        }
    }

    fn dot(&self, weights: &[f64]) -> f64 {
        let mut sum = weights[weights.len() - 1];
        for (bucket, value) in &self.words {
            sum += weights[*bucket as usize] * f64::from(*value);
        }
        let (both, open) = weights[BUCKETS..BUCKETS + 2 * NUMBERS].split_at(NUMBERS);
        for (index, value) in self.numbers.iter().enumerate() {
            let own = if self.open {
                open[index] * f64::from(OPEN)
            } else {
                0.0
            };
            sum += (both[index] + own) * f64::from(*value);
        }
        sum
    }

    fn add_to(&self, out: &mut [f64], times: f64) {
        let last = out.len() - 1;
        out[last] += times;
        for (bucket, value) in &self.words {
            out[*bucket as usize] += times * f64::from(*value);
        }
        let (both, open) = out[BUCKETS..BUCKETS + 2 * NUMBERS].split_at_mut(NUMBERS);
        for (index, value) in self.numbers.iter().enumerate() {
            let value = times * f64::from(*value);
            both[index] += value;
            if self.open {
                open[index] += value * f64::from(OPEN);
            }
        }
    }
}

/// Solves (XᵀX + penalty) w = Xᵀy.
fn solve(rows: &[Line], target: &[f64], penalty: f64, size: usize) -> Vec<f64> {
    let mut weights = vec![0.0; size];
    let mut residual = vec![0.0; size];
    for (row, value) in rows.iter().zip(target) {
        row.add_to(&mut residual, *value);
    }
    let mut direction = residual.clone();
    let mut norm = square(&residual);
    let enough = norm * PRECISION * PRECISION;
    let mut image = vec![0.0; size];
    for _ in 0..STEPS {
        if norm <= enough || norm == 0.0 {
            break;
        }
        for (image, direction) in image.iter_mut().zip(&direction) {
            *image = penalty * direction;
        }
        for row in rows {
            let times = row.dot(&direction);
            row.add_to(&mut image, times);
        }
        let along: f64 = direction.iter().zip(&image).map(|(a, b)| a * b).sum();
        let step = norm / along;
        for index in 0..size {
            weights[index] += step * direction[index];
            residual[index] -= step * image[index];
        }
        let next = square(&residual);
        for (direction, residual) in direction.iter_mut().zip(&residual) {
            *direction = residual + next / norm * *direction;
        }
        norm = next;
    }
    weights
}

fn square(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum()
}

fn root(sample: &Sample) -> f32 {
    (sample.buckets.len().max(1) as f32).sqrt()
}

fn standards(samples: &[&Sample]) -> Vec<Number> {
    let count = samples.len().max(1) as f64;
    (0..NUMBERS)
        .map(|index| {
            let values = || {
                samples
                    .iter()
                    .map(|sample| f64::from(sample.numbers[index]))
            };
            let mean = values().sum::<f64>() / count;
            let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            Number {
                mean: mean as f32,
                // A number that never moves says nothing.
                deviation: if variance > 1e-9 {
                    variance.sqrt() as f32
                } else {
                    0.0
                },
                ..Number::default()
            }
        })
        .collect()
}

/// Returns the inverse document frequency of each bucket, 0 for those that are too rare.
fn rarity(samples: &[&Sample]) -> Vec<f32> {
    let mut seen = vec![0u32; BUCKETS];
    for bucket in samples.iter().flat_map(|sample| &sample.buckets) {
        seen[*bucket as usize] += 1;
    }
    let all = samples.len() as f32;
    seen.iter()
        .map(|count| {
            if *count < LEAST_SEEN {
                return 0.0;
            }
            (all / *count as f32).ln() * RARITY + BASE
        })
        .collect()
}

/// Brings a typical row of words to length one, as its inverse frequencies alone would not.
const RARITY: f32 = 0.18;
const BASE: f32 = 0.18;
