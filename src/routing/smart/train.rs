//! Learns a model from outcomes: a linear part over words and numbers, and trees over the numbers.
//!
//! Everything that is chosen is chosen by rows that were held out: the rows fall into folds, each fold is
//! predicted by models that have not seen it, and these predictions say how strongly to regularise, how many trees
//! to keep, how to mix the two parts, and how a gain becomes a share and a probability. The model itself is then
//! learned from all rows. The same rows and seed give the same bytes.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::features::{self, BUCKETS, NUMBERS};
use super::linear::{self, Linear, Sample};
use super::model::{Classifier, KNOTS, Number};
use super::rows::Row;
use super::trees::{self, Growth, Tree};
use crate::error::{Error, Kind, Result};

/// What was learned, and how well it predicts rows that it has not seen.
#[derive(Debug)]
pub struct Trained {
    pub classifier: Classifier,
    /// Of each row, the gain that was predicted without it.
    pub held_out: Vec<f32>,
    /// The chosen strength of the penalty on weights.
    pub penalty: f64,
    /// The share of the trees in the prediction; the rest is the linear part's.
    pub mix: f32,
}

/// Fewer rows teach nothing.
pub const LEAST_ROWS: usize = 40;
const FOLDS: usize = 5;
const PENALTIES: [f64; 4] = [3.0, 6.0, 12.0, 40.0];
const MIXES: [f32; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];
/// A set of prompts lends its mean to its rows, as so many rows would: outcomes are coins, and a small set's mean is
/// the better witness.
const LENT: f32 = 100.0;
/// And the mean of a set is pulled to the mean of all, as so many rows would.
const PULL: f32 = 20.0;
/// Counts the numbers for less than a row of words.
const NUMBER_SCALE: f32 = 0.03;

/// Learns from `rows`.
///
/// Errors: too few rows, or the two tiers do equally well in all.
pub fn train(rows: &[Row], seed: u64) -> Result<Trained> {
    if rows.len() < LEAST_ROWS {
        return Err(Error::new(
            Kind::InvalidRequest,
            format!(
                "{} rows are too few to learn from: {LEAST_ROWS} at least",
                rows.len()
            ),
        ));
    }
    if rows.iter().all(|row| row.gain() == rows[0].gain()) {
        return Err(Error::new(
            Kind::InvalidRequest,
            "the strong tier gains the same in every row: there is nothing to learn",
        ));
    }
    let samples: Vec<Sample> = rows.iter().map(sample).collect();
    let folds = folds(rows, seed);
    let everyone: Vec<usize> = (0..rows.len()).collect();

    let mut linear = vec![vec![0.0f32; rows.len()]; PENALTIES.len()];
    let mut grown = vec![vec![0.0f32; rows.len()]; Growth::default().trees + 1];
    for fold in 0..FOLDS {
        let (taught, asked): (Vec<usize>, Vec<usize>) =
            everyone.iter().partition(|row| folds[**row] != fold);
        let pupil = Pupil::new(&samples, rows, &taught);
        for (predicted, penalty) in linear.iter_mut().zip(PENALTIES) {
            let part = pupil.linear(penalty);
            for row in &asked {
                predicted[*row] = part.value(&samples[*row]);
            }
        }
        let trees = pupil.trees(Growth::default());
        for row in &asked {
            let mut sum = pupil.mean;
            grown[0][*row] = sum;
            for (tree, predicted) in trees.iter().zip(&mut grown[1..]) {
                sum += tree.value(&samples[*row].numbers);
                predicted[*row] = sum;
            }
        }
    }
    let gains: Vec<f32> = rows.iter().map(Row::gain).collect();
    let (penalty, by_words) = least(&linear, &gains);
    let (count, by_trees) = least(&grown, &gains);
    let mixed: Vec<Vec<f32>> = MIXES
        .iter()
        .map(|mix| blend(by_words, by_trees, *mix))
        .collect();
    let (mix, held_out) = least(&mixed, &gains);

    let pupil = Pupil::new(&samples, rows, &everyone);
    let (penalty, mix) = (PENALTIES[penalty], MIXES[mix]);
    let trees = pupil.trees(Growth {
        trees: count,
        ..Growth::default()
    });
    let classifier = assemble(&pupil, &pupil.linear(penalty), trees, mix, held_out, rows);
    Ok(Trained {
        classifier,
        held_out: held_out.clone(),
        penalty,
        mix,
    })
}

fn sample(row: &Row) -> Sample {
    let mut buckets = Vec::new();
    let numbers = features::measure(&row.prompt, |bucket| buckets.push(bucket));
    Sample { numbers, buckets }
}

/// Deals the rows of each set out to the folds, shuffled.
fn folds(rows: &[Row], seed: u64) -> Vec<usize> {
    let mut sets: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        sets.entry(&row.set).or_default().push(index);
    }
    let mut rng = Rng::with_seed(seed);
    let mut folds = vec![0; rows.len()];
    let mut next = 0;
    for indexes in sets.values_mut() {
        rng.shuffle(indexes);
        for index in indexes {
            folds[*index] = next % FOLDS;
            next += 1;
        }
    }
    folds
}

/// Those rows that may be learned from.
struct Pupil<'s> {
    samples: Vec<&'s Sample>,
    wanted: Vec<f32>,
    mean: f32,
}

impl<'s> Pupil<'s> {
    fn new(samples: &'s [Sample], rows: &[Row], taught: &[usize]) -> Self {
        let mut sets: BTreeMap<&str, (f32, f32)> = BTreeMap::new();
        let mut sum = 0.0;
        for row in taught {
            let row = &rows[*row];
            let set = sets.entry(&row.set).or_default();
            set.0 += row.gain();
            set.1 += 1.0;
            sum += row.gain();
        }
        let mean = sum / taught.len().max(1) as f32;
        let alone = sets.len() < 2;
        let wanted = taught
            .iter()
            .map(|row| {
                let row = &rows[*row];
                let (sum, count) = sets.get(row.set.as_str()).copied().unwrap_or_default();
                if alone {
                    return row.gain();
                }
                let lent = LENT / (count + LENT);
                let of_set = (sum + PULL * mean) / (count + PULL);
                (1.0 - lent) * row.gain() + lent * of_set
            })
            .collect();
        Self {
            samples: taught.iter().map(|row| &samples[*row]).collect(),
            wanted,
            mean,
        }
    }

    fn linear(&self, penalty: f64) -> Linear {
        linear::fit(
            &self.samples,
            &self.wanted,
            self.mean,
            penalty,
            NUMBER_SCALE,
        )
    }

    fn trees(&self, growth: Growth) -> Vec<Tree> {
        let rows: Vec<&[f32; NUMBERS]> =
            self.samples.iter().map(|sample| &sample.numbers).collect();
        let wanted: Vec<f32> = self.wanted.iter().map(|gain| gain - self.mean).collect();
        trees::grow(&rows, &wanted, growth)
    }
}

/// Returns the candidate with the least squared error.
fn least<'c>(candidates: &'c [Vec<f32>], gains: &[f32]) -> (usize, &'c Vec<f32>) {
    let error = |predicted: &[f32]| -> f64 {
        predicted
            .iter()
            .zip(gains)
            .map(|(predicted, gain)| f64::from(predicted - gain).powi(2))
            .sum()
    };
    let mut best = (0, f64::INFINITY);
    for (index, candidate) in candidates.iter().enumerate() {
        let error = error(candidate);
        if error < best.1 {
            best = (index, error);
        }
    }
    (best.0, &candidates[best.0])
}

fn blend(words: &[f32], trees: &[f32], mix: f32) -> Vec<f32> {
    words
        .iter()
        .zip(trees)
        .map(|(words, trees)| words * (1.0 - mix) + trees * mix)
        .collect()
}

fn assemble(
    pupil: &Pupil<'_>,
    linear: &Linear,
    mut trees: Vec<Tree>,
    mix: f32,
    held_out: &[f32],
    rows: &[Row],
) -> Classifier {
    for leaf in trees.iter_mut().flat_map(|tree| &mut tree.leaf) {
        *leaf *= mix;
    }
    let largest = linear
        .words
        .iter()
        .fold(0.0f32, |most, weight| most.max(weight.abs()));
    let word_scale = largest / 127.0;
    let words = linear
        .words
        .iter()
        .map(|weight| {
            if word_scale > 0.0 {
                (weight / word_scale).round() as i8
            } else {
                0
            }
        })
        .collect();
    debug_assert_eq!(linear.words.len(), BUCKETS);
    let numbers = linear
        .numbers
        .iter()
        .map(|number| Number {
            weight: number.weight * (1.0 - mix),
            open: number.open * (1.0 - mix),
            ..*number
        })
        .collect();
    let (shares, suffices) = scales(held_out, rows);
    Classifier {
        base: linear.mean * (1.0 - mix) + pupil.mean * mix,
        numbers,
        word_scale: word_scale * (1.0 - mix),
        words,
        trees,
        shares,
        suffices,
    }
}

/// Returns at each knot the gain below which that share of the rows fell, and how often the weak tier sufficed there.
fn scales(held_out: &[f32], rows: &[Row]) -> (Vec<f32>, Vec<f32>) {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| held_out[*a].total_cmp(&held_out[*b]).then(a.cmp(b)));
    let last = order.len() - 1;
    let place = |knot: usize| last * knot / (KNOTS - 1);
    let shares = (0..KNOTS)
        .map(|knot| held_out[order[place(knot)]])
        .collect();
    // Around each knot, a window of an eighth of the rows.
    let half = (order.len() / 16).max(1);
    let sufficed: Vec<f64> = (0..KNOTS)
        .map(|knot| {
            let (from, to) = (
                place(knot).saturating_sub(half),
                (place(knot) + half).min(last),
            );
            let window = &order[from..=to];
            let good = window
                .iter()
                .filter(|row| rows[**row].weak >= rows[**row].strong);
            good.count() as f64 / window.len() as f64
        })
        .collect();
    let falling = falling(&sufficed).into_iter().map(|share| share as f32);
    (shares, falling.collect())
}

/// Returns the never rising sequence closest to `values` (pool adjacent violators).
fn falling(values: &[f64]) -> Vec<f64> {
    let mut pools: Vec<(f64, usize)> = Vec::with_capacity(values.len());
    for value in values {
        let mut pool = (*value, 1);
        while let Some(before) = pools.pop_if(|before| before.0 < pool.0) {
            let count = before.1 + pool.1;
            let sum = before.0 * before.1 as f64 + pool.0 * pool.1 as f64;
            pool = (sum / count as f64, count);
        }
        pools.push(pool);
    }
    pools
        .into_iter()
        .flat_map(|(value, count)| std::iter::repeat_n(value, count))
        .collect()
}
