//! In which order the targets of a route are asked.

use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Timestamp;

use rank::{Common, Draw, Key, Shelf, View, front};
use shortlist::{HOPE, Kind, Shortlist};

use super::affinity::Pin;
use super::choose::Asked;
use super::{Branch, Candidate, Child, Node, Route, Strategy};

pub mod cost;
pub mod latency;
pub mod rank;
pub mod score;
pub mod shortlist;
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
        let count = tree.children.len();
        // Ties go round, so that an idle set is used evenly.
        let turned = || {
            let shift = tree.turn.fetch_add(1, Ordering::Relaxed) % count.max(1);
            (shift..count).chain(0..shift)
        };
        match tree.strategy {
            Strategy::Fallback => self.each(tree, 0..count, order),
            Strategy::RoundRobin => self.each(tree, turned(), order),
            Strategy::LeastBusy => self.least_busy(tree, turned(), order),
            Strategy::Smart => match &tree.smart {
                Some(tiers) => {
                    for (score, index) in tiers.order(&self.asked.difficulty, count) {
                        self.scored(&tree.children[index], score, order);
                    }
                }
                None => self.each(tree, 0..count, order),
            },
            Strategy::Weighted => {
                let shares = tree.children.iter();
                let shares = shares.map(|child| (child.id, child.weight));
                let mut rng = fastrand::Rng::new();
                for ranked in weighted::rank(shares, self.asked.session, &mut rng) {
                    self.branch(&tree.children[ranked.index], order);
                }
            }
            Strategy::Latency | Strategy::Cost | Strategy::Score => self.compare(tree, order),
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

    /// Adds a child; its first target gets the score.
    fn scored(&self, child: &Child, score: Option<f64>, order: &mut Vec<Ranked>) {
        let start = order.len();
        self.branch(child, order);
        if let Some(ranked) = order.get_mut(start) {
            ranked.score = ranked.score.or(score);
        }
    }

    /// Adds children as they come; those of weight 0 when nothing else is left.
    fn each(
        &self,
        tree: &Node,
        children: impl Iterator<Item = usize> + Clone,
        order: &mut Vec<Ranked>,
    ) {
        let mut is_last = false;
        for index in children.clone() {
            let child = &tree.children[index];
            if child.weight == 0 {
                is_last = true;
            } else {
                self.branch(child, order);
            }
        }
        if is_last {
            let last = children.map(|index| &tree.children[index]);
            for child in last.filter(|child| child.weight == 0) {
                self.branch(child, order);
            }
        }
    }

    /// Adds the children with the fewest requests in flight for their weight, then the others as they come.
    fn least_busy(
        &self,
        tree: &Node,
        children: impl Iterator<Item = usize> + Clone,
        order: &mut Vec<Ranked>,
    ) {
        let count = tree.children.len();
        let mut turn = children.clone();
        let keys = (0..count).map(|_| {
            let index = turn.next().unwrap_or_default();
            let child = &tree.children[index];
            Key::new(
                Shelf::of(child.weight),
                inflight(self.route, child) as f32 / child.weight.max(1) as f32,
                index,
            )
        });
        let front = front(keys);
        for key in &front {
            let child = &tree.children[key.index as usize];
            self.scored(child, Some(f64::from(key.value())), order);
        }
        if front.len() < count {
            let mut is_taken = vec![false; count];
            for key in &front {
                is_taken[key.index as usize] = true;
            }
            self.each(tree, children.filter(|index| !is_taken[*index]), order);
        }
    }

    /// Orders the children of one model by what is known of each; a nested model is seen as the target that it
    /// would ask first.
    fn compare(&self, tree: &Node, order: &mut Vec<Ranked>) {
        let now = Instant::now();
        let mut rng = fastrand::Rng::new();
        let Some(lists) = &tree.shortlists else {
            let seen = self.see(tree, 0..tree.children.len(), self.asked);
            let ranked = rank(
                tree,
                &seen.views,
                self.asked,
                None,
                now,
                &mut Draw::Chance(&mut rng),
            );
            return seen.tell(ranked, order);
        };
        let kind = Kind::of(tree.strategy, self.asked);
        let list = lists.of(kind, now, || self.list(tree, kind, now, &mut rng.clone()));
        let seen = self.see(tree, list.front(), self.asked);
        let common = Some(&list.common);
        let mut draw = Draw::Chance(&mut rng);
        let ranked = rank(tree, &seen.views, self.asked, common, now, &mut draw);
        seen.tell(ranked, order);
        for index in list.rest() {
            self.branch(&tree.children[index], order);
        }
    }

    /// Compares all children, for all requests of a kind.
    fn list(&self, tree: &Node, kind: Kind, now: Instant, rng: &mut fastrand::Rng) -> Shortlist {
        let asked = kind.asked();
        let seen = self.see(tree, 0..tree.children.len(), &asked);
        let common = Common::of(&seen.views, &asked, now);
        let mut by = |hope: f32| {
            let mut draw = Draw::Hope(hope, rng);
            rank(tree, &seen.views, &asked, Some(&common), now, &mut draw)
        };
        let (known, hoped) = (by(0.0), by(HOPE));
        Shortlist::new(kind, now, &known, &hoped, common)
    }

    /// Looks at some children of one model.
    fn see(
        &self,
        tree: &Node,
        children: impl Iterator<Item = usize> + Clone,
        asked: &Asked,
    ) -> Seen<'_> {
        let count = children.size_hint().0;
        let mut targets = Vec::with_capacity(count);
        let mut starts = Vec::with_capacity(count + 1);
        for index in children.clone() {
            starts.push(targets.len());
            self.branch(&tree.children[index], &mut targets);
        }
        starts.push(targets.len());
        let priced = matches!(tree.strategy, Strategy::Cost | Strategy::Score);
        let at = if priced {
            Timestamp::now()
        } else {
            Timestamp::UNIX_EPOCH
        };
        let views = children.zip(&starts).map(|(index, start)| {
            let child = &tree.children[index];
            // A model holds a target at the least: the configuration was checked.
            let target = targets.get(*start).map_or(0, |ranked| ranked.target);
            let candidate = &self.route.targets[target];
            let pinned = self.pin.is_some_and(|pin| pin.is_target(candidate));
            let bill = || candidate.bill(asked.input, pinned, at);
            View {
                stats: &candidate.stats,
                weight: child.weight,
                inflight: inflight(self.route, child),
                bill: priced.then(bill).flatten(),
            }
        });
        Seen {
            views: views.collect(),
            targets,
            starts,
        }
    }
}

/// Children of one model as strategies see them.
struct Seen<'a> {
    views: Vec<View<'a>>,
    /// The targets of each child, one after the other.
    targets: Vec<Ranked>,
    /// Where they begin, and where the last end.
    starts: Vec<usize>,
}

impl Seen<'_> {
    /// Adds the targets in the order of their children.
    fn tell(self, ranked: Vec<rank::Ranked>, order: &mut Vec<Ranked>) {
        for rank::Ranked { index, score } in ranked {
            let own = self.targets[self.starts[index]..self.starts[index + 1]].iter();
            order.extend(own.map(|ranked| Ranked {
                score: ranked.score.or(score),
                ..*ranked
            }));
        }
    }
}

fn rank(
    tree: &Node,
    views: &[View<'_>],
    asked: &Asked,
    common: Option<&Common>,
    now: Instant,
    draw: &mut Draw<'_>,
) -> Vec<rank::Ranked> {
    match tree.strategy {
        Strategy::Latency => latency::order(views, asked, common, now, draw),
        Strategy::Cost => cost::order(views, asked, common, now, draw),
        Strategy::Score
        | Strategy::Weighted
        | Strategy::Fallback
        | Strategy::RoundRobin
        | Strategy::LeastBusy
        | Strategy::Smart => score::order(views, asked, &tree.weights, common, now, draw),
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
