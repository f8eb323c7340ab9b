//! How good a router is: the curve of cost against quality, and the measures of RouteLLM
//! (<https://arxiv.org/abs/2406.18665>, section 3).
//!
//! A router sends a share of the prompts to the strong tier, those first that it scores highest. *PGR* is the part of
//! the gap in quality between the tiers that is recovered at a share; *APGR* the area under PGR over all shares;
//! *CPT(x)* the smallest share at which PGR reaches x. Prompts of one score go together, on average: their order says
//! nothing.

use fastrand::Rng;

use super::rows::{Costs, Row};

/// A router's choices over a set: the rows by falling score.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Rows of one score share one step.
    steps: Vec<Step>,
    weak: f64,
    strong: f64,
    weak_cost: f64,
    strong_cost: f64,
    count: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Step {
    count: f64,
    gain: f64,
    cost: f64,
}

/// What happens at one share of prompts sent to the strong tier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Of the prompts, to the strong tier.
    pub share: f64,
    /// Mean over all prompts.
    pub quality: f64,
    /// Against asking the strong tier always: 1 is the same.
    pub kept: f64,
    /// Of the cost of asking the strong tier always.
    pub saved: f64,
    /// Performance gap recovered.
    pub pgr: f64,
}

impl Curve {
    /// Returns the curve of a router that gave each row its score. `costs` stand in where a row tells none.
    pub fn new(rows: &[&Row], scores: &[f32], costs: Costs) -> Self {
        Self::weighted(rows, &order(scores), scores, costs, &vec![1.0; rows.len()])
    }

    fn weighted(
        rows: &[&Row],
        order: &[usize],
        scores: &[f32],
        costs: Costs,
        weights: &[f64],
    ) -> Self {
        let mut curve = Self {
            steps: Vec::with_capacity(rows.len()),
            weak: 0.0,
            strong: 0.0,
            weak_cost: 0.0,
            strong_cost: 0.0,
            count: 0.0,
        };
        let mut last = None;
        for index in order {
            let (row, weight) = (rows[*index], weights[*index]);
            let costs = row.costs.unwrap_or(costs);
            curve.count += weight;
            curve.weak += weight * f64::from(row.weak);
            curve.strong += weight * f64::from(row.strong);
            curve.weak_cost += weight * costs.weak;
            curve.strong_cost += weight * costs.strong;
            if last != Some(scores[*index]) {
                curve.steps.push(Step::default());
                last = Some(scores[*index]);
            }
            if let Some(step) = curve.steps.last_mut() {
                step.count += weight;
                step.gain += weight * f64::from(row.gain());
                step.cost += weight * (costs.strong - costs.weak);
            }
        }
        curve
    }

    /// Mean quality of the weak tier alone.
    pub fn weak(&self) -> f64 {
        self.weak / self.count
    }

    /// Mean quality of the strong tier alone.
    pub fn strong(&self) -> f64 {
        self.strong / self.count
    }

    /// Average performance gap recovered; nothing where there is no gap.
    pub fn apgr(&self) -> Option<f64> {
        let gap = self.gap()?;
        let mut area = 0.0;
        let mut gain = 0.0;
        for step in &self.steps {
            area += step.count * (gain + step.gain / 2.0);
            gain += step.gain;
        }
        Some(area / (self.count * gap))
    }

    /// Call-performance threshold: the smallest share at which `part` of the gap is recovered.
    pub fn cpt(&self, part: f64) -> Option<f64> {
        let wanted = part * self.gap()?;
        let (mut gain, mut count) = (0.0, 0.0);
        if wanted <= 0.0 {
            return Some(0.0);
        }
        for step in &self.steps {
            if gain + step.gain >= wanted - 1e-9 && step.gain > 0.0 {
                return Some((count + step.count * (wanted - gain) / step.gain) / self.count);
            }
            gain += step.gain;
            count += step.count;
        }
        Some(1.0)
    }

    /// Returns what happens at a share.
    pub fn at(&self, share: f64) -> Point {
        let wanted = share.clamp(0.0, 1.0) * self.count;
        let mut sent = Step::default();
        for step in &self.steps {
            let part = ((wanted - sent.count) / step.count).clamp(0.0, 1.0);
            if part == 0.0 || step.count == 0.0 {
                continue;
            }
            sent.count += part * step.count;
            sent.gain += part * step.gain;
            sent.cost += part * step.cost;
        }
        self.point(sent)
    }

    /// Returns the point of least cost that keeps `part` of the strong tier's quality.
    pub fn keeping(&self, part: f64) -> Point {
        let wanted = part * self.strong - self.weak;
        let mut sent = Step::default();
        for step in &self.steps {
            if sent.gain >= wanted {
                break;
            }
            let missing = (wanted - sent.gain) / step.gain;
            let taken = if missing > 0.0 { missing.min(1.0) } else { 1.0 };
            sent.count += taken * step.count;
            sent.gain += taken * step.gain;
            sent.cost += taken * step.cost;
        }
        self.point(sent)
    }

    fn point(&self, sent: Step) -> Point {
        let part = |value: f64, of: f64| if of > 0.0 { value / of } else { 0.0 };
        let quality = self.weak + sent.gain;
        Point {
            share: part(sent.count, self.count),
            quality: part(quality, self.count),
            kept: part(quality, self.strong),
            saved: 1.0 - part(self.weak_cost + sent.cost, self.strong_cost),
            pgr: self.gap().map_or(0.0, |gap| sent.gain / gap),
        }
    }

    /// The sum of what the strong tier adds, where it adds something.
    fn gap(&self) -> Option<f64> {
        let gap = self.strong - self.weak;
        (gap > 1e-9).then_some(gap)
    }
}

/// The middle and the ends of a confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// Draws the rows again with replacement, `draws` times, and returns the curves.
pub fn bootstrap(
    rows: &[&Row],
    scores: &[f32],
    costs: Costs,
    draws: usize,
    seed: u64,
) -> Vec<Curve> {
    let order = order(scores);
    let mut rng = Rng::with_seed(seed);
    let mut weights = vec![0.0; rows.len()];
    (0..draws)
        .map(|_| {
            weights.fill(0.0);
            for _ in 0..rows.len() {
                weights[rng.usize(0..rows.len())] += 1.0;
            }
            Curve::weighted(rows, &order, scores, costs, &weights)
        })
        .collect()
}

/// Returns a measure of the whole and the 95 % interval of the same measure over `drawn` curves.
///
/// Curves for which there is no such measure are left out.
pub fn interval(
    whole: &Curve,
    drawn: &[Curve],
    measure: impl Fn(&Curve) -> Option<f64>,
) -> Option<Interval> {
    let value = measure(whole)?;
    let mut values: Vec<f64> = drawn.iter().filter_map(measure).collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| {
        let last = values.len().checked_sub(1)?;
        values.get((part * last as f64).round() as usize).copied()
    };
    Some(Interval {
        value,
        low: at(0.025).unwrap_or(value),
        high: at(0.975).unwrap_or(value),
    })
}

/// Returns the rows' indexes by falling score.
fn order(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order
}
