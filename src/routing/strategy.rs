//! In which order the targets of a route are asked.

use std::sync::atomic::Ordering;

use super::choose::Asked;
use super::{Branch, Candidate, Child, Node, Route, Strategy};

/// One of a route's targets, in the order of asking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    pub target: usize,
    /// What the strategy made of it, where it scores: less is better.
    pub score: Option<f64>,
}

/// Returns the route's targets in the order of asking. Turns are advanced: once for each request, not for each
/// round.
pub fn order(route: &Route, asked: &Asked) -> Vec<Ranked> {
    let mut order = Vec::with_capacity(route.targets.len());
    node(route, &route.tree, asked, &mut order);
    order
}

fn node(route: &Route, tree: &Node, asked: &Asked, order: &mut Vec<Ranked>) {
    if let [child] = &tree.children[..] {
        return branch(route, child, None, asked, order);
    }
    for (score, index) in children(route, tree, asked) {
        branch(route, &tree.children[index], score, asked, order);
    }
}

fn branch(
    route: &Route,
    child: &Child,
    score: Option<f64>,
    asked: &Asked,
    order: &mut Vec<Ranked>,
) {
    match &child.branch {
        Branch::Target(target) => order.push(Ranked {
            target: *target,
            score,
        }),
        Branch::Model(tree) => node(route, tree, asked, order),
    }
}

/// Returns the children of one model in the order of asking, with their scores.
fn children(route: &Route, tree: &Node, _asked: &Asked) -> Vec<(Option<f64>, usize)> {
    let count = tree.children.len();
    let weight = |index: usize| f64::from(tree.children[index].weight.max(1));
    // Ties go round, so that an idle set is used evenly.
    let turn = || tree.turn.fetch_add(1, Ordering::Relaxed) % count;
    let plain = |shift: usize| (0..count).map(move |index| (None, (index + shift) % count));
    match tree.strategy {
        Strategy::Fallback => plain(0).collect(),
        Strategy::RoundRobin => plain(turn()).collect(),
        Strategy::Weighted => {
            // Efraimidis and Spirakis: sorting by -ln(u)/w draws without replacement in proportion to weight.
            let draw = |index: usize| -(1.0 - fastrand::f64()).ln() / weight(index);
            sorted((0..count).map(|index| (draw(index), index)).collect())
        }
        Strategy::LeastBusy => {
            let busy = |index: usize| f64::from(inflight(route, &tree.children[index]));
            let turn = turn();
            let loads = (0..count).map(|index| {
                let index = (index + turn) % count;
                (busy(index) / weight(index), index)
            });
            sorted(loads.collect())
        }
    }
}

fn sorted(mut scored: Vec<(f64, usize)>) -> Vec<(Option<f64>, usize)> {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let scored = scored.into_iter();
    scored.map(|(score, index)| (Some(score), index)).collect()
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
