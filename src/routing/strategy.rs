//! In which order the targets of a route are asked.

use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Timestamp;

use rank::View;

use super::affinity::Pin;
use super::choose::Asked;
use super::{Branch, Candidate, Child, Node, Route, Strategy};

pub mod cost;
pub mod latency;
pub mod rank;
pub mod score;
#[cfg(test)]
mod tests;
pub mod weighted;

/// One of a route's targets, in the order of asking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    pub target: usize,
    /// What the strategy made of it, where it scores: less is better.
    pub score: Option<f64>,
}

/// Returns the route's targets in the order of asking. Turns are advanced: once for each request, not for each
/// round. `pin` names who answered the conversation before, and so has its prompt in a cache.
pub fn order(route: &Route, asked: &Asked, pin: Option<&Pin>) -> Vec<Ranked> {
    let mut order = Vec::with_capacity(route.targets.len());
    let choosing = Choosing { route, asked, pin };
    choosing.node(&route.tree, &mut order);
    order
}

struct Choosing<'a> {
    route: &'a Route,
    asked: &'a Asked,
    pin: Option<&'a Pin>,
}

impl Choosing<'_> {
    fn node(&self, tree: &Node, order: &mut Vec<Ranked>) {
        if let [child] = &tree.children[..] {
            return self.branch(child, order);
        }
        match tree.strategy {
            Strategy::Fallback | Strategy::RoundRobin | Strategy::LeastBusy | Strategy::Smart => {
                for (score, index) in self.plain(tree) {
                    let start = order.len();
                    self.branch(&tree.children[index], order);
                    if let Some(ranked) = order.get_mut(start) {
                        ranked.score = ranked.score.or(score);
                    }
                }
            }
            Strategy::Weighted | Strategy::Latency | Strategy::Cost | Strategy::Score => {
                self.compare(tree, order);
            }
        }
    }

    fn branch(&self, child: &Child, order: &mut Vec<Ranked>) {
        match &child.branch {
            Branch::Target(target) => order.push(Ranked {
                target: *target,
                score: None,
            }),
            Branch::Model(tree) => self.node(tree, order),
        }
    }

    /// Returns the children of one model in an order that depends on no past.
    fn plain(&self, tree: &Node) -> Vec<(Option<f64>, usize)> {
        let count = tree.children.len();
        // Ties go round, so that an idle set is used evenly.
        let turn = || tree.turn.fetch_add(1, Ordering::Relaxed) % count;
        let from = |shift: usize| (0..count).map(move |index| (None, (index + shift) % count));
        let mut order: Vec<(Option<f64>, usize)> = match tree.strategy {
            Strategy::LeastBusy => {
                let load = |index: usize| {
                    let child = &tree.children[index];
                    f64::from(inflight(self.route, child)) / f64::from(child.weight.max(1))
                };
                let mut loads: Vec<_> = from(turn())
                    .map(|(_, index)| (load(index), index))
                    .collect();
                loads.sort_by(|a, b| a.0.total_cmp(&b.0));
                loads
                    .into_iter()
                    .map(|(load, index)| (Some(load), index))
                    .collect()
            }
            Strategy::RoundRobin => from(turn()).collect(),
            Strategy::Smart => match &tree.smart {
                Some(tiers) => return tiers.order(&self.asked.difficulty, count),
                None => from(0).collect(),
            },
            Strategy::Fallback
            | Strategy::Weighted
            | Strategy::Latency
            | Strategy::Cost
            | Strategy::Score => from(0).collect(),
        };
        // Weight 0: when nothing else is left.
        if tree.children.iter().any(|child| child.weight == 0) {
            order.sort_by_key(|(_, index)| tree.children[*index].weight == 0);
        }
        order
    }

    /// Orders the children of one model by what is known of each; a nested model is seen as the target that it
    /// would ask first.
    fn compare(&self, tree: &Node, order: &mut Vec<Ranked>) {
        let mut own = Vec::with_capacity(tree.children.len());
        let mut starts = Vec::with_capacity(tree.children.len() + 1);
        for child in &tree.children {
            starts.push(own.len());
            self.branch(child, &mut own);
        }
        starts.push(own.len());
        let priced = matches!(tree.strategy, Strategy::Cost | Strategy::Score);
        let at = if priced {
            Timestamp::now()
        } else {
            Timestamp::UNIX_EPOCH
        };
        let views = tree.children.iter().zip(&starts).map(|(child, start)| {
            // A model holds a target at the least: the configuration was checked.
            let target = own.get(*start).map_or(0, |ranked| ranked.target);
            let candidate = &self.route.targets[target];
            let pinned = self.pin.is_some_and(|pin| pin.is_target(candidate));
            let bill = || candidate.bill(self.asked.input, pinned, at);
            View {
                id: candidate.id,
                stats: &candidate.stats,
                weight: child.weight,
                inflight: inflight(self.route, child),
                bill: priced.then(bill).flatten(),
            }
        });
        let views: Vec<View<'_>> = views.collect();
        for rank::Ranked { index, score } in rank(tree, &views, self.asked) {
            let ranked = own[starts[index]..starts[index + 1]].iter();
            order.extend(ranked.map(|ranked| Ranked {
                score: ranked.score.or(score),
                ..*ranked
            }));
        }
    }
}

fn rank(tree: &Node, views: &[View<'_>], asked: &Asked) -> Vec<rank::Ranked> {
    let mut rng = fastrand::Rng::new();
    let rng = &mut rng;
    match tree.strategy {
        Strategy::Latency => latency::rank(views, asked, Instant::now(), rng),
        Strategy::Cost => cost::rank(views, asked, Instant::now(), rng),
        Strategy::Score => score::rank(views, asked, &tree.weights, Instant::now(), rng),
        Strategy::Weighted
        | Strategy::Fallback
        | Strategy::RoundRobin
        | Strategy::LeastBusy
        | Strategy::Smart => weighted::rank(views, asked.session, rng),
    }
}

/// Returns the requests in flight at a child: at a nested model, those of all its targets.
fn inflight(route: &Route, child: &Child) -> u32 {
    let of = |candidate: &Candidate| candidate.inflight.load(Ordering::Relaxed);
    match &child.branch {
        Branch::Target(target) => of(&route.targets[*target]),
        Branch::Model(tree) => tree
            .children
            .iter()
            .map(|child| inflight(route, child))
            .sum(),
    }
}
