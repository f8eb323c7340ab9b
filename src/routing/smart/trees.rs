//! Small regression trees over the numbers, grown one after the other on what the others leave unexplained.

use super::features::NUMBERS;

/// Every tree has three levels: 7 questions, 8 leaves, no pointers.
const DEPTH: usize = 3;
pub const QUESTIONS: usize = (1 << DEPTH) - 1;
pub const LEAVES: usize = 1 << DEPTH;

/// One tree. Question `q` leads to question `2q+1`, or to `2q+2` where the number is above the threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    pub number: [u8; QUESTIONS],
    pub above: [f32; QUESTIONS],
    pub leaf: [f32; LEAVES],
}

impl Tree {
    pub fn value(&self, numbers: &[f32; NUMBERS]) -> f32 {
        let mut question = 0;
        for _ in 0..DEPTH {
            let number = usize::from(self.number[question]);
            let above = numbers
                .get(number)
                .is_some_and(|value| *value > self.above[question]);
            question = 2 * question + 1 + usize::from(above);
        }
        self.leaf[question - QUESTIONS]
    }
}

/// How trees are grown.
#[derive(Debug, Clone, Copy)]
pub struct Growth {
    pub trees: usize,
    pub rate: f32,
    /// Pulls the values of leaves to zero, as so many rows of zero would.
    pub shrink: f32,
    /// Rows that a side of a question must have.
    pub least: u32,
}

impl Default for Growth {
    fn default() -> Self {
        Self {
            trees: 120,
            rate: 0.05,
            shrink: 10.0,
            least: 30,
        }
    }
}

/// Numbers cut into at most so many ranges, by how often they occur.
const BINS: usize = 32;

/// Grows trees that predict `wanted` from `rows`.
pub fn grow(rows: &[&[f32; NUMBERS]], wanted: &[f32], growth: Growth) -> Vec<Tree> {
    let edges: Vec<Vec<f32>> = (0..NUMBERS).map(|number| edges(rows, number)).collect();
    let binned: Vec<[u8; NUMBERS]> = rows
        .iter()
        .map(|row| {
            std::array::from_fn(|number| {
                edges[number].partition_point(|edge| *edge < row[number]) as u8
            })
        })
        .collect();
    let mut left: Vec<f32> = wanted.to_vec();
    let mut trees = Vec::with_capacity(growth.trees);
    for _ in 0..growth.trees {
        let (tree, reached) = one(&binned, &edges, &left, growth);
        for (rest, leaf) in left.iter_mut().zip(reached) {
            *rest -= tree.leaf[usize::from(leaf)];
        }
        trees.push(tree);
    }
    trees
}

/// Returns the values that part the ranges of one number.
fn edges(rows: &[&[f32; NUMBERS]], number: usize) -> Vec<f32> {
    let mut values: Vec<f32> = rows.iter().map(|row| row[number]).collect();
    values.sort_unstable_by(f32::total_cmp);
    let mut edges: Vec<f32> = (1..BINS)
        .filter_map(|bin| values.get(values.len() * bin / BINS).copied())
        .collect();
    edges.dedup();
    // Nothing is above the largest value, so it parts nothing.
    edges.pop_if(|edge| values.last() == Some(edge));
    edges
}

/// Grows one tree level by level; returns it and the leaf that each row reaches.
fn one(
    binned: &[[u8; NUMBERS]],
    edges: &[Vec<f32>],
    left: &[f32],
    growth: Growth,
) -> (Tree, Vec<u8>) {
    let mut tree = Tree {
        number: [0; QUESTIONS],
        above: [f32::MAX; QUESTIONS],
        leaf: [0.0; LEAVES],
    };
    // Which node of the level each row is in.
    let mut node = vec![0u8; binned.len()];
    for level in 0..DEPTH {
        let width = 1 << level;
        let mut sums = vec![[[(0.0f32, 0u32); BINS]; NUMBERS]; width];
        for ((row, node), rest) in binned.iter().zip(&node).zip(left) {
            let node = &mut sums[usize::from(*node)];
            for (number, bin) in row.iter().enumerate() {
                let cell = &mut node[number][usize::from(*bin)];
                cell.0 += rest;
                cell.1 += 1;
            }
        }
        let splits: Vec<Option<(usize, u8)>> = sums
            .iter()
            .map(|numbers| best(numbers, edges, growth))
            .collect();
        for (index, split) in splits.iter().enumerate() {
            if let Some((number, bin)) = *split {
                tree.number[width - 1 + index] = number as u8;
                tree.above[width - 1 + index] = edges[number][usize::from(bin)];
            }
        }
        for (row, node) in binned.iter().zip(&mut node) {
            let above = splits[usize::from(*node)].is_some_and(|(number, bin)| row[number] > bin);
            *node = 2 * *node + u8::from(above);
        }
    }
    let mut leaves = [(0.0f64, 0u32); LEAVES];
    for (leaf, rest) in node.iter().zip(left) {
        let leaf = &mut leaves[usize::from(*leaf)];
        leaf.0 += f64::from(*rest);
        leaf.1 += 1;
    }
    for (value, (sum, count)) in tree.leaf.iter_mut().zip(leaves) {
        *value = (sum / (f64::from(count) + f64::from(growth.shrink))) as f32 * growth.rate;
    }
    (tree, node)
}

/// Returns the number and the last bin below the split that explains most, if any explains something.
fn best(
    numbers: &[[(f32, u32); BINS]; NUMBERS],
    edges: &[Vec<f32>],
    growth: Growth,
) -> Option<(usize, u8)> {
    let explained = |sum: f32, count: u32| sum * sum / (count as f32 + growth.shrink);
    let mut most = 1e-6;
    let mut best = None;
    for (number, bins) in numbers.iter().enumerate() {
        let (sum, count) = bins
            .iter()
            .fold((0.0, 0), |all, bin| (all.0 + bin.0, all.1 + bin.1));
        let whole = explained(sum, count);
        let mut below = (0.0, 0);
        for (bin, _) in edges[number].iter().enumerate() {
            below.0 += bins[bin].0;
            below.1 += bins[bin].1;
            if below.1 < growth.least || count - below.1 < growth.least {
                continue;
            }
            let gain =
                explained(below.0, below.1) + explained(sum - below.0, count - below.1) - whole;
            if gain > most {
                most = gain;
                best = Some((number, bin as u8));
            }
        }
    }
    best
}
